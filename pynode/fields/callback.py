"""Fields that are Python functions, called for all samples of a step at once: the slow path."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pynode.data.arrays import real_array
from pynode.fields.field import Field
from pynode.fields.make import as_count
from pynode.fields.parameters import Parameter
from pynode.programs.builder import Builder


@dataclass(frozen=True)
class Callback:
    """The Python side of a callback field, and the adaptor between it and the CALL instruction."""

    f: Callable
    vjp: Callable
    d: int
    n_params: int
    inputs: int
    vectorized: bool

    def program(self):
        b = Builder((1, self.d, self.inputs), (self.n_params,))
        return b.finish([b.emit("CALL", self.d, p=0)])

    def vjp_program(self):
        if self.vjp is None:
            raise ValueError("this callback field has no vjp, so it has no gradient: give callback_field(..., vjp=...)")
        d, n = self.d, self.n_params
        b = Builder((1, d, self.inputs, d), (n,), (n,))
        value, cotangents = b.emit("CALL", d, p=0), b.emit("CALL", d + n, p=1)
        if n:
            b.acc(0, 0, b.slice(cotangents, d, n))
        return b.finish([value, b.slice(cotangents, 0, d), None, None], forward=1)

    def bind(self, theta):
        """call(which, t, y, u, seed) with these parameters."""
        theta = (theta,) if self.n_params else ()

        def call(which, t, y, u, seed):
            return self._value(theta, t, y, u) if which == 0 else self._vjp(theta, t, y, u, seed)

        return call

    def _value(self, theta, t, y, u):
        n, us = len(t), [u] if self.inputs else []
        if self.vectorized:
            return checked_value("f", self.f(t, y, *theta, *us), (n, self.d))
        value = np.empty((n, self.d))
        for i in range(n):
            value[i] = checked_value("f", self.f(float(t[i]), y[i], *theta, *(u[i] for u in us)), (self.d,))
        return value

    def _vjp(self, theta, t, y, u, seed):
        n, us = len(t), [u] if self.inputs else []
        if self.vectorized:
            return self._joined(self.vjp(t, y, *theta, *us, seed), (n,))
        value = np.empty((n, self.d + self.n_params))
        for i in range(n):
            value[i] = self._joined(self.vjp(float(t[i]), y[i], *theta, *(u[i] for u in us), seed[i]), ())
        return value

    def _joined(self, result, batch):
        """(gy, gtheta), or gy alone where there are no parameters, as one array."""
        if not self.n_params:
            gy = result[0] if isinstance(result, tuple) else result
            return checked_value("vjp: gy", gy, (*batch, self.d))
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError("vjp must return a pair (gy, gtheta)")
        gy = checked_value("vjp: gy", result[0], (*batch, self.d))
        return np.concatenate([gy, checked_value("vjp: gtheta", result[1], (*batch, self.n_params))], axis=-1)


def checked_value(what, value, shape):
    value = real_array(f"what {what} returns", value, np.float64)
    if value.shape != shape:
        raise ValueError(f"{what} must return an array of shape {shape}, not {value.shape}")
    return value


def callback_field(f, d, n_params=0, vjp=None, inputs=0, *, vectorized=False, init=None, name=None):
    """A field that is a Python function, for code that cannot be traced. Slow: Python runs at every stage
    of every step.

    Parameters
    ----------
    f : callable
        f(t, y, theta) -> (d,) with t a float and y (d,); where vectorized, for n samples at once, t (n,), y
        (n, d) -> (n, d). Without theta where n_params == 0; with u last where there are inputs.
    d : int
        Size of the state.
    n_params : int
        Length of theta.
    vjp : callable, optional
        vjp(t, y, theta, g) (u before g) -> (g^T df/dy, g^T df/dtheta), the second (n_params,), or (n,
        n_params) where vectorized: one row a sample. g^T df/dy alone where n_params == 0. Without it there
        are no gradients. Derivatives with respect to t and u are taken to be zero.
    inputs : int
        Size of the input signal u.
    vectorized : bool
    init : (n_params,) array, optional
        Initial parameters, default zero.

    Returns
    -------
    Field
    """
    for what, function in (("f", f), ("vjp", vjp)):
        if not callable(function) and not (what == "vjp" and function is None):
            raise TypeError(f"{what} must be a function, not {function!r}")
    n = as_count("n_params", n_params, 0)
    callback = Callback(f, vjp, as_count("d", d), n, as_count("inputs", inputs, 0), bool(vectorized))
    values = checked_value("init", np.zeros(n) if init is None else init, (n,)).tolist()
    spec = (Parameter("theta", (n,), 0, ("value", values)),) if n else ()
    return Field(callback.program(), spec, name or getattr(f, "__name__", "callback"), callback=callback)
