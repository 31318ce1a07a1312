"""Compiling exported files and calling them."""

import ctypes
import shutil
import subprocess

import numpy as np

COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]

FLAGS = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror"]


def compiled(source, compiler, *more):
    """The file compiled with every warning an error."""
    out = source.with_suffix(".so")
    command = [compiler, *FLAGS, "-O1", "-fPIC", "-shared", "-o", str(out), str(source), "-lm", *more]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]
    return out


class Exported:
    """The functions of an exported file, on arrays."""

    def __init__(self, field, files, real=np.float64, name="model", theta=None):
        self.field = field
        self.real = real
        self.name = name
        self.number = ctypes.c_double if real is np.float64 else ctypes.c_float
        self.theta = [] if theta is None else [self.array(theta)]
        self.library = ctypes.CDLL(str(compiled(files.source, COMPILERS[0])))

        class Options(ctypes.Structure):
            _fields_ = [
                ("step", self.number),
                ("rtol", self.number),
                ("atol", self.number * field.d),
                ("first_step", self.number),
                ("max_step", self.number),
                ("max_steps", ctypes.c_long),
            ]

        class Stats(ctypes.Structure):
            _fields_ = [*((n, ctypes.c_long) for n in ("steps", "rejected", "evaluations")), ("t", self.number)]

        class Signal(ctypes.Structure):
            _fields_ = [("n", ctypes.c_long), ("t", ctypes.c_void_p), ("u", ctypes.c_void_p)]

        self.Options = Options
        self.Stats = Stats
        self.Signal = Signal

    def array(self, x):
        return np.ascontiguousarray(x, dtype=self.real)

    def call(self, function, *args, restype=ctypes.c_int):
        found = getattr(self.library, f"{self.name}_{function}")
        found.restype = restype
        return found(*(ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray) else a for a in args))

    def solve(self, y0, t, signal=None, u=None, **options):
        o, stats = self.Options(), self.Stats()
        self.call("defaults", ctypes.byref(o), restype=None)
        for key, value in options.items():
            setattr(o, key, (self.number * self.field.d)(*np.broadcast_to(value, self.field.d)) if key == "atol" else value)
        t = self.array(t)
        y0 = self.array(y0)
        y = self.array(np.zeros((len(t), self.field.d)))
        more = []
        if signal is not None:
            knots, values = self.array(signal[0]), self.array(signal[1])
            more = [ctypes.byref(self.Signal(len(knots), knots.ctypes.data, values.ctypes.data))]
        if u is not None:
            more = [self.array(u)]
        n = ctypes.c_long(len(t))
        status = self.call("solve", y0, t, n, *more, *self.theta, ctypes.byref(o), y, ctypes.byref(stats))
        return status, y, stats

    def value(self, t, y, u=()):
        dy, held = self.array(np.zeros(self.field.d)), [self.array(u)] if len(u) else []
        self.call("field", self.number(t), self.array(y), *held, *self.theta, dy, restype=None)
        return dy

    def step(self, t, h, y, u=()):
        y, held = self.array(y).copy(), [self.array(u)] if len(u) else []
        status = self.call("step", self.number(t), self.number(h), y, *held, *self.theta)
        return status, y

    def pull(self, t, y, s, u=(), h=None):
        """(g_y, g_t, g_u, g_theta) of the field, or of a step of length h."""
        f = self.field
        g_y, g_t, g_u, g_theta = (self.array(np.zeros(n)) for n in (f.d, 1, f.inputs, f.n_params))
        held, g_held = ([self.array(u)], [g_u]) if len(u) else ([], [])
        times = [self.number(t)] if h is None else [self.number(t), self.number(h)]
        slope = [g_t] if h is None else []
        what = "vjp" if h is None else "step_vjp"
        args = (*times, self.array(y), *held, *self.theta, self.array(s), g_y, *slope, *g_held, g_theta)
        self.call(what, *args, restype=None)
        return g_y, g_t, g_u, g_theta
