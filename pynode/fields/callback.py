"""Fields that are Python functions, called for all samples of a step at once: the slow path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.arrays import real_array
from pynode.fields.field import Field
from pynode.fields.make import as_count
from pynode.fields.parameters import Parameter
from pynode.programs.builder import Builder
from pynode.programs.program import Callback as CallbackFunction
from pynode.programs.program import Program

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Callback:
    """The Python side of a callback field, and the adaptor between it and the CALL instruction.

    Attributes
    ----------
    f, vjp, vectorized
        See `callback_field`.
    d, n_params, inputs : int
        Sizes of the state, of theta and of the input signal.
    """

    f: Callable[..., Any]
    vjp: Callable[..., Any] | None
    d: int
    n_params: int
    inputs: int
    vectorized: bool

    def program(self) -> Program:
        """The program of the field: one CALL."""
        b = Builder((1, self.d, self.inputs), (self.n_params,))
        return b.finish([b.emit("CALL", self.d, p=0)])

    def vjp_program(self) -> Program:
        """The program of the vjp, see `Field.vjp_program`."""
        if self.vjp is None:
            raise ValueError("this callback field has no vjp, so it has no gradient: give callback_field(..., vjp=...)")
        d = self.d
        n = self.n_params
        b = Builder((1, d, self.inputs, d), (n,), (n,))
        value = b.emit("CALL", d, p=0)
        cotangents = b.emit("CALL", d + n, p=1)
        if n:
            b.acc(0, 0, b.slice(cotangents, d, n))
        return b.finish([value, b.slice(cotangents, 0, d), None, None], forward=1)

    def bind(self, theta: Float) -> CallbackFunction:
        """call(which, t, y, u, dy) with these parameters."""
        given = (theta,) if self.n_params else ()

        def call(which: int, t: Float, y: Float, u: Float | None, dy: Float | None) -> Float:
            return self._value(given, t, y, u) if which == 0 else self._pulled_back(given, t, y, u, dy)

        return call

    def _value(self, theta: tuple[Float, ...], t: Float, y: Float, u: Any) -> Float:
        n = len(t)
        us = [u] if self.inputs else []
        if self.vectorized:
            return checked_value("f", self.f(t, y, *theta, *us), (n, self.d))
        value = np.empty((n, self.d))
        for i in range(n):
            value[i] = checked_value("f", self.f(float(t[i]), y[i], *theta, *(u[i] for u in us)), (self.d,))
        return value

    def _pulled_back(self, theta: tuple[Float, ...], t: Float, y: Float, u: Any, dy: Any) -> Float:
        n = len(t)
        us = [u] if self.inputs else []
        vjp: Any = self.vjp
        if self.vectorized:
            return self._joined(vjp(t, y, *theta, *us, dy), (n,))
        value = np.empty((n, self.d + self.n_params))
        for i in range(n):
            value[i] = self._joined(vjp(float(t[i]), y[i], *theta, *(u[i] for u in us), dy[i]), ())
        return value

    def _joined(self, result: Any, batch: tuple[int, ...]) -> Float:
        """(gy, gtheta), or gy alone where there are no parameters, as one array."""
        if not self.n_params:
            gy = result[0] if isinstance(result, tuple) else result
            return checked_value("vjp: gy", gy, (*batch, self.d))
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError("vjp must return a pair (gy, gtheta)")
        gy = checked_value("vjp: gy", result[0], (*batch, self.d))
        return np.concatenate([gy, checked_value("vjp: gtheta", result[1], (*batch, self.n_params))], axis=-1)


def checked_value(what: str, value: Any, shape: tuple[int, ...]) -> Float:
    """What a function of the user's returned, as an array of this shape."""
    array = real_array(f"what {what} returns", value, np.float64)
    if array.shape != shape:
        raise ValueError(f"{what} must return an array of shape {shape}, not {array.shape}")
    return array


def callback_field(
    f: Callable[..., Any],
    d: int,
    n_params: int = 0,
    vjp: Callable[..., Any] | None = None,
    inputs: int = 0,
    *,
    vectorized: bool = False,
    init: ArrayLike | None = None,
    name: str | None = None,
) -> Field:
    """A field that is a Python function, for code that cannot be traced.

    It is slow: Python runs at every stage of every step, in one thread.

    Parameters
    ----------
    f : callable
        f(t, y, theta) -> (d,) with t a float and y (d,); where vectorized, for n samples at once, t (n,), y
        (n, d) -> (n, d). Without theta where n_params == 0; with u last where there are inputs.
    d : int
        Size of the state.
    n_params : int, default 0
        Length of theta.
    vjp : callable, optional
        vjp(t, y, theta, dy) (u before dy) -> (dy^T df/dy, dy^T df/dtheta), the second (n_params,), or (n, n_params)
        where vectorized: a row for each sample. dy^T df/dy alone where n_params == 0. Without it there are no gradients.
        Derivatives with respect to t and u are taken to be zero.
    inputs : int, default 0
        Size of the input signal u.
    vectorized : bool, default False
        The functions take n samples at once.
    init : (n_params,) array, optional
        Initial parameters, default zero.
    name : str, optional
        What messages call the field; default: the name of f.

    Returns
    -------
    Field

    Raises
    ------
    TypeError
        f or vjp is no function.

    See Also
    --------
    field : traces the function instead.

    Examples
    --------
    >>> import pynode as pn
    >>> f = pn.callback_field(lambda t, y: -y, 1, vjp=lambda t, y, dy: -dy)
    >>> pn.solve(f, [1.0], [0.0, 1.0]).stats.backend
    'callback'
    """
    for what, function in (("f", f), ("vjp", vjp)):
        if not callable(function) and not (what == "vjp" and function is None):
            raise TypeError(f"{what} must be a function, not {function!r}")
    n = as_count("n_params", n_params, 0)
    callback = Callback(f, vjp, as_count("d", d), n, as_count("inputs", inputs, 0), bool(vectorized))
    values = checked_value("init", np.zeros(n) if init is None else init, (n,)).tolist()
    spec = (Parameter("theta", (n,), 0, ("value", values)),) if n else ()
    called = name or str(getattr(f, "__name__", "callback"))
    return Field(callback.program(), spec, called, callback=callback)
