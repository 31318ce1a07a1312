"""A plain NumPy interpreter of programs: the oracle that the C core and the derivative rules are compared
with.

It shares no code with the core. Numbers may be complex (for the complex step): an operation that is not
analytic acts on real parts where that is its extension (comparisons, max, min, abs, relu choose by the real
part).
"""

import math

import numpy as np
import pytest

from pynode.programs.program import NAMES, Program

_erf = np.vectorize(math.erf, otypes=[float])


def erf(x):
    """erf; for complex numbers to first order in the imaginary part, which is all the complex step needs."""
    if not np.iscomplexobj(x):
        return _erf(x)
    return _erf(x.real) + 2j / math.sqrt(math.pi) * np.exp(-(x.real**2)) * x.imag


def softplus(x):
    return (
        np.where(
            x.real > 0,
            x + np.log1p(np.exp(-abs(x.real) - 1j * np.sign(x.real) * x.imag)),
            np.log1p(np.exp(np.minimum(x.real, 0) + 1j * x.imag)),
        )
        if np.iscomplexobj(x)
        else np.logaddexp(0, x)
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ELEMENTWISE = {
    "NEG": lambda a: -a,
    "ABS": lambda a: np.where(a.real < 0, -a, a) if np.iscomplexobj(a) else np.abs(a),
    "SIGN": lambda a: np.sign(a.real),
    "SQUARE": lambda a: a * a,
    "RECIP": lambda a: 1 / a,
    "SQRT": np.sqrt,
    "EXP": np.exp,
    "EXPM1": np.expm1,
    "LOG": np.log,
    "LOG1P": np.log1p,
    "SIN": np.sin,
    "COS": np.cos,
    "TANH": np.tanh,
    "SIGMOID": sigmoid,
    "SOFTPLUS": softplus,
    "RELU": lambda a: np.where(a.real > 0, a, np.where(np.isnan(a), a, 0)),
    "STEP": lambda a: np.where(a.real > 0, 1.0, 0.0),
    "ERF": erf,
    "ATAN": np.arctan,
    "ADD": lambda a, b: a + b,
    "SUB": lambda a, b: a - b,
    "MUL": lambda a, b: a * b,
    "DIV": lambda a, b: a / b,
    "POW": lambda a, b: a**b,
    "MAX": lambda a, b: np.where(np.isnan(a) | np.isnan(b), np.nan, np.where(b.real <= a.real, a, b)),
    "MIN": lambda a, b: np.where(np.isnan(a) | np.isnan(b), np.nan, np.where(a.real <= b.real, a, b)),
    "LT": lambda a, b: np.where(a.real < b.real, 1.0, 0.0),
    "LE": lambda a, b: np.where(a.real <= b.real, 1.0, 0.0),
    "EQ": lambda a, b: np.where(a.real == b.real, 1.0, 0.0),
    "DTANH": lambda a, b: np.where(a == 0, 0.0, a * (1 - b * b)),
    "DSIGMOID": lambda a, b: np.where(a == 0, 0.0, a * b * (1 - b)),
    "DMUL": lambda a, b: np.where((a == 0) | (b == 0), 0.0, a * b),
    "DDIV": lambda a, b: np.where(a == 0, 0.0, a / b),
    "WHERE": lambda m, a, b: np.where(m != 0, a, b),
}


class Run:
    """One evaluation: registers (B, size), parameter vectors, gradients."""

    def __init__(self, program, slots, thetas, callbacks):
        self.program, self.callbacks = program, callbacks
        self.B = len(slots[0])
        self.dtype = np.result_type(np.float64, *slots, *thetas)
        self.registers = [np.asarray(s) for s in slots] + [None] * (len(program.sizes) - program.n_slots)
        self.thetas = [np.asarray(t) for t in thetas]
        self.grads = [np.zeros(n, self.dtype) for n in program.n_grad]

    def check(self):
        program = self.program
        assert [s.shape for s in self.registers[: program.n_slots]] == [(self.B, n) for n in program.slot_sizes], [
            s.shape for s in self.registers[: program.n_slots]
        ]
        assert [len(t) for t in self.thetas] == list(program.n_theta)

    def matrix(self, k, p, m, n):
        return self.thetas[k][p : p + m * n].reshape(m, n)

    def step(self, name, out, a, b, c, p, q, k):
        R, program, B = self.registers, self.program, self.B
        x = [R[r] for r in (a, b, c) if r >= 0]
        if name == "ACC":
            self.grads[k][p : p + x[0].shape[1]] += x[0].sum(0)
            return
        if name == "ACC_OUTER":
            self.grads[k][p : p + x[0].shape[1] * x[1].shape[1]] += (x[0].T @ x[1]).ravel()
            return
        n = program.sizes[out]
        if name in ELEMENTWISE:
            assert all(v.shape == (B, n) for v in x)
            y = ELEMENTWISE[name](*x)
        else:
            y = getattr(self, name)(n, *x, p=p, q=q, k=k)
        assert R[out] is None and y.shape == (B, n), (name, y.shape, n)
        R[out] = y

    def CONST(self, n, p, q, k):
        return np.tile(self.program.consts[p : p + n], (self.B, 1))

    def PARAM(self, n, p, q, k):
        return np.tile(self.thetas[k][p : p + n], (self.B, 1))

    def AFFINE(self, n, x, p, q, k):
        y = x @ self.matrix(k, p, n, x.shape[1]).T
        return y + self.thetas[k][q : q + n] if q >= 0 else y

    def AFFINE_T(self, n, x, p, q, k):
        return x @ self.matrix(k, p, x.shape[1], n)

    def MATVEC(self, n, A, x, p, q, k):
        return np.einsum("bij,bj->bi", A.reshape(self.B, n, -1), x)

    def MATVEC_T(self, n, A, x, p, q, k):
        return np.einsum("bij,bi->bj", A.reshape(self.B, -1, n), x)

    def OUTER(self, n, x, y, p, q, k):
        return np.einsum("bi,bj->bij", x, y).reshape(self.B, -1)

    def BCAST(self, n, x, p, q, k):
        assert x.shape[1] == 1
        return np.repeat(x, n, axis=1)

    def SUM(self, n, x, p, q, k):
        return x.sum(1, keepdims=True)

    def SLICE(self, n, x, p, q, k):
        index = [p + i * q for i in range(n)]
        assert q != 0 and min(index) >= 0
        return x[:, index]

    def CONCAT(self, n, x, y, p, q, k):
        return np.concatenate([x, y], axis=1)

    def GATHER(self, n, x, p, q, k):
        return x[:, self.program.index[p : p + n]]

    def SCATTER(self, n, x, p, q, k):
        y = np.zeros((self.B, n), self.dtype)
        for i, j in enumerate(self.program.index[p : p + x.shape[1]]):
            y[:, j] += x[:, i]
        return y

    def CALL(self, n, p, q, k):
        R = self.registers
        return np.asarray(self.callbacks(p, R[0][:, 0], R[1], R[2], R[3] if self.program.n_slots > 3 else None))


def evaluate(program, slots, thetas, callbacks=None):
    """Outputs and gradients of a `pynode.programs.program.Program`: the arguments and results of
    `Program.evaluate`."""
    run = Run(program, slots, thetas, callbacks)
    run.check()
    with np.errstate(all="ignore"):
        for code, *fields in program.code.tolist():
            run.step(NAMES[code], *fields)
    outputs = [None if r < 0 else np.array(run.registers[r]) for r in program.outputs]
    return outputs, run.grads


@pytest.fixture(params=["reference", "core"])
def backend(request, monkeypatch):
    """Run a test with this interpreter, and with the C core."""
    if request.param == "reference":
        monkeypatch.setattr(Program, "evaluate", evaluate)
        monkeypatch.setattr(Program, "row", lambda *args: None)
    return request.param
