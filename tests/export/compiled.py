"""Exported files, compiled and called."""

import ctypes
import itertools
import shutil
import subprocess

import numpy as np
import pytest

import pynode as pn

STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-O1", "-fPIC"]
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]

NUMBERS = itertools.count()

needs_compiler = pytest.mark.skipif(not COMPILERS, reason="there is no C compiler (gcc or clang)")


class Compiled:
    """A field or model as a library of C functions; `precision` is that of its numbers."""

    def __init__(self, folder, what, theta=None, compiler=None, **options):
        self.files = pn.export.c(what, theta, folder / "it.c", **options)
        self.real = np.float32 if options.get("precision") == "float" else np.float64
        self.field = what if isinstance(what, pn.Field) else what.field_
        library = folder / f"it{next(NUMBERS)}.so"  # a library of the same name would not be loaded again
        build(self.files.source, library, compiler or COMPILERS[0])
        self.it = ctypes.CDLL(str(library))

    def pointer(self, values):
        return None if values is None else np.ascontiguousarray(values, dtype=self.real).ctypes.data_as(ctypes.c_void_p)

    def time(self, t):
        return (ctypes.c_float if self.real is np.float32 else ctypes.c_double)(t)

    def field_at(self, t, y, u=None, theta=None):
        out = np.empty(self.field.d, dtype=self.real)
        self.it.it_field(self.time(t), *map(self.pointer, (y, u, theta, out)))
        return out

    def vjp(self, t, y, seed, u=None, theta=None):
        f = self.field
        g = [np.zeros(n, dtype=self.real) for n in (f.d, f.inputs, f.n_params)]
        self.it.it_vjp(self.time(t), *map(self.pointer, (y, u, theta, seed, *g)))
        return g

    def solve(self, y0, t, theta=None, signal=None, **options):
        """(status, y)"""
        t = np.ascontiguousarray(t, dtype=self.real)
        y = np.zeros((len(t), self.field.d), dtype=self.real)
        chosen = self.options(**options)
        given = None if signal is None else ctypes.byref(self.signal(*signal))
        status = self.it.it_solve(
            self.pointer(y0),
            ctypes.c_size_t(len(t)),
            self.pointer(t),
            self.pointer(theta),
            given,
            ctypes.byref(chosen),
            self.pointer(y),
        )
        return status, y

    def step(self, t, h, y, theta=None):
        y = np.array(y, dtype=self.real)
        assert self.it.it_step(self.time(t), self.time(h), self.pointer(theta), None, self.pointer(y)) == 0
        return y

    def options(self, **given):
        real = ctypes.c_float if self.real is np.float32 else ctypes.c_double
        d = self.field.d

        class Options(ctypes.Structure):
            _fields_ = [
                ("step", real),
                ("rtol", real),
                ("atol", real * d),
                ("first_step", real),
                ("max_step", real),
                ("max_steps", ctypes.c_long),
            ]

        made = Options.in_dll(self.it, "it_defaults")
        made = Options.from_buffer_copy(made)
        for name, value in given.items():
            setattr(made, name, (real * d)(*np.broadcast_to(value, d)) if name == "atol" else value)
        return made

    def signal(self, knot, coef):
        real = np.float32 if self.real is np.float32 else np.float64
        self.kept = np.ascontiguousarray(knot, dtype=real), np.ascontiguousarray(coef, dtype=real)

        class Signal(ctypes.Structure):
            _fields_ = [
                ("n_knots", ctypes.c_size_t),
                ("degree", ctypes.c_int),
                ("knot", ctypes.c_void_p),
                ("coef", ctypes.c_void_p),
            ]

        return Signal(len(knot), coef.shape[1] - 1, self.kept[0].ctypes.data, self.kept[1].ctypes.data)


def build(source, library, compiler):
    done = subprocess.run(
        [compiler, *STRICT, "-shared", str(source), "-o", str(library), "-lm"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
