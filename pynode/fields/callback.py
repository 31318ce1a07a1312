"""Fields that are Python functions, called for all samples of a step at once: the slow path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.arrays import real_array
from pynode.fields.differences import Points, Scales
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
    f, vjp, jacobian, time_derivative, vectorized
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
    jacobian: Callable[..., Any] | None = None
    time_derivative: Callable[..., Any] | None = None

    def program(self) -> Program:
        """The program of the field: one CALL."""
        b = Builder((1, self.d, self.inputs), (self.n_params,))
        return b.finish([b.emit("CALL", self.d, p=0)])

    def vjp_program(self) -> Program:
        """The program of the vjp, see `Field.vjp_program`."""
        if self.vjp is None:
            raise ValueError("this callback field has no vjp, so it has no gradient: give callback_field(..., vjp=...)")
        b = Builder((1, self.d, self.inputs, self.d), (self.n_params,), (self.n_params,))
        value = b.emit("CALL", self.d, p=0)
        return b.finish([value, *self._cotangents(b, 1)], forward=1)

    def _cotangents(self, b: Builder, which: int) -> list[int | None]:
        """Those of y, t and u that a CALL returns; that of theta is accumulated."""
        d = self.d
        n = self.n_params
        timed = self.time_derivative is not None
        back = b.emit("CALL", d + n + timed, p=which)
        if n:
            b.acc(0, 0, b.slice(back, d, n))
        return [b.slice(back, 0, d), b.slice(back, d + n, 1) if timed else None, None]

    def check_wrt(self, names: Sequence[str]) -> None:
        """Refuse gradients that neither `vjp` nor `time_derivative` gives.

        Parameters
        ----------
        names : sequence of str
            What to differentiate with respect to.

        Raises
        ------
        ValueError
            "inputs" is among them, or "t" where the field has inputs or no time derivative.
        """
        if "inputs" in names:
            raise ValueError(
                "wrt='inputs': the vjp of a callback field says nothing of u: have the field traced (pynode.field), or make "
                "what is wanted a part of theta"
            )
        if "t" not in names:
            return
        if self.inputs:
            raise ValueError(
                "wrt='t' or gradients through events: the vjp of a callback field says nothing of u, which moves with t: "
                "have the field traced (pynode.field)"
            )
        if self.time_derivative is None:
            raise ValueError(
                "wrt='t' or gradients through events: the vjp of a callback field says nothing of t: give "
                "callback_field(..., time_derivative=...), which returns zeros where f does not depend on t"
            )

    def _slots(self, moving: bool) -> tuple[int, ...]:
        return 1, self.d, self.inputs * (2 if moving else 1)

    def jacobian_program(self, moving: bool) -> Program:
        """The program of [df/dy, df/dt], see `pynode.fields.implicit.jacobian_field`: one CALL."""
        b = Builder(self._slots(moving), (self.n_params,))
        return b.finish([b.emit("CALL", self.d * (self.d + 1), p=2)])

    def jacobian_vjp_program(self, moving: bool) -> Program:
        """The program of its vjp, from that of f."""
        self.vjp_program()  # there is one
        b = Builder((*self._slots(moving), self.d * (self.d + 1)), (self.n_params,), (self.n_params,))
        return b.finish([None, *self._cotangents(b, 3)], forward=0)

    def _differences(self, moving: bool) -> tuple[bool, bool]:
        """Whether columns of df/dy, and whether df/dt, are found by differences."""
        return self.jacobian is None, self.time_derivative is None or moving

    def jacobian_cost(self, moving: bool) -> int:
        """Evaluations of f that differences take for a Jacobian."""
        states, time = self._differences(moving)
        return 1 + self.d * states + time if states or time else 0

    def bind(self, theta: Float, scales: Scales | None = None) -> CallbackFunction:
        """call(which, t, y, u, dy) with these parameters; scales: for differences, default 0.01 and 1."""
        given = (theta,) if self.n_params else ()
        sizes = Scales(np.full(self.d, 0.01)) if scales is None else scales

        def call(which: int, t: Float, y: Float, u: Any, dy: Any) -> Float:
            if which < 2:
                return self._value(given, t, y, u) if which == 0 else self._pulled_back(given, t, y, u, dy)
            rate = None
            if self.inputs and u.shape[1] > self.inputs:
                u, rate = np.split(u, 2, axis=1)
            if which == 2:
                return self._linearised(given, t, y, u, rate, sizes)
            seeds = dy.reshape(len(t), self.d + 1, self.d)
            seeds[:, : self.d] = seeds[:, : self.d].swapaxes(1, 2).copy()
            points = Points(t, y, u, rate, sizes)
            return points.pulled_back(lambda *at: self._pulled_back(given, *at), seeds)

        return call

    def _linearised(self, theta: tuple[Float, ...], t: Float, y: Float, u: Any, rate: Any, scales: Scales) -> Float:
        """(n, d d + d) J row after row, and df/dt, to which inputs that move belong."""
        n, d = y.shape
        states, time = self._differences(rate is not None)
        result = np.zeros((n, d + 1, d))
        if states or time:
            points = Points(t, y, u, rate, scales, states, time)
            if self.time_derivative is not None:
                points.t[:, -1] = t  # if anything, the inputs move
            rows = points.quotients(lambda *at: self._value(theta, *at))
            if states:
                result[:, :d] = rows[:, :d].swapaxes(1, 2)
            if time:
                result[:, d] = rows[:, -1]
        if self.jacobian is not None:
            result[:, :d] = self._called("jacobian", self.jacobian, (d, d), theta, t, y, u)
        if self.time_derivative is not None:
            result[:, d] += self._called("time_derivative", self.time_derivative, (d,), theta, t, y, u)
        return result.reshape(n, d * (d + 1))

    def _value(self, theta: tuple[Float, ...], t: Float, y: Float, u: Any) -> Float:
        return self._called("f", self.f, (self.d,), theta, t, y, u)

    def _called(
        self, what: str, function: Any, shape: tuple[int, ...], theta: tuple[Float, ...], t: Float, y: Float, u: Any
    ) -> Float:
        """(n, *shape) the values of a function of the user's."""
        n = len(t)
        us = [u] if self.inputs else []
        if self.vectorized:
            return checked_value(what, function(t, y, *theta, *us), (n, *shape))
        value = np.empty((n, *shape))
        for i in range(n):
            value[i] = checked_value(what, function(float(t[i]), y[i], *theta, *(u[i] for u in us)), shape)
        return value

    def _pulled_back(self, theta: tuple[Float, ...], t: Float, y: Float, u: Any, dy: Any) -> Float:
        n = len(t)
        us = [u] if self.inputs else []
        vjp: Any = self.vjp
        if self.vectorized:
            value = self._joined(vjp(t, y, *theta, *us, dy), (n,))
        else:
            value = np.empty((n, self.d + self.n_params))
            for i in range(n):
                value[i] = self._joined(vjp(float(t[i]), y[i], *theta, *(u[i] for u in us), dy[i]), ())
        if self.time_derivative is None:
            return value
        rate = self._called("time_derivative", self.time_derivative, (self.d,), theta, t, y, u)
        return np.concatenate([value, (dy * rate).sum(axis=1, keepdims=True)], axis=1)

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
    jacobian: Callable[..., Any] | None = None,
    time_derivative: Callable[..., Any] | None = None,
    init: ArrayLike | None = None,
    name: str | None = None,
) -> Field:
    """A field that is a Python function, for code that cannot be traced.

    It is slow: Python runs at every stage of every step, in one thread. Methods for stiff equations need df/dy and
    df/dt: functions that are given, or else forward differences of f, all of them in one call where it is vectorized
    (`Stats.jacobian` says which).

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
        Of t it says nothing: ``wrt="t"`` and gradients through events need `time_derivative`; of u neither, so that
        there is no ``wrt="inputs"``. Gradients through Rosenbrock methods take differences
        of it for second derivatives: with a Jacobian by differences the derivative of the numbers computed, with one that
        is given right to about 1e-8 as far as that is df/dy.
    inputs : int, default 0
        Size of the input signal u.
    vectorized : bool, default False
        The functions take n samples at once.
    jacobian : callable, optional
        jacobian(t, y, theta, u) -> (d, d), df_i/dy_j in row i and column j; (n, d, d) where vectorized. Its arguments
        are those of f. Default: differences, d + 1 evaluations of f.
    time_derivative : callable, optional
        time_derivative(t, y, theta, u) -> (d,), df/dt with y and u held fast; (n, d) where vectorized. Default:
        differences in methods for stiff equations, where what inputs change that move is found by differences in any
        case; gradients take it where it is given.
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
        f, vjp, jacobian or time_derivative is no function.

    See Also
    --------
    field : traces the function instead.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> f = pn.callback_field(lambda t, y: -y, 1, vjp=lambda t, y, dy: -dy)
    >>> pn.solve(f, [1.0], [0.0, 1.0]).stats.backend
    'callback'
    >>> stiff = pn.callback_field(lambda t, y: -1e6 * (y - np.cos(t)), 1, jacobian=lambda t, y: [[-1e6]])
    >>> pn.solve(stiff, [1.0], [0.0, 1.0], method="rodas5p").stats.jacobian
    'given'
    """
    functions = {"f": f, "vjp": vjp, "jacobian": jacobian, "time_derivative": time_derivative}
    for what, function in functions.items():
        if not callable(function) and not (what != "f" and function is None):
            raise TypeError(f"{what} must be a function, not {function!r}")
    n = as_count("n_params", n_params, 0)
    sizes = (as_count("d", d), n, as_count("inputs", inputs, 0))
    callback = Callback(f, vjp, *sizes, bool(vectorized), jacobian, time_derivative)
    values = checked_value("init", np.zeros(n) if init is None else init, (n,)).tolist()
    spec = (Parameter("theta", (n,), 0, ("value", values)),) if n else ()
    called = name or str(getattr(f, "__name__", "callback"))
    return Field(callback.program(), spec, called, callback=callback)
