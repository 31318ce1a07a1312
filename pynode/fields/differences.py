"""Jacobians of Python functions by forward differences, all columns of all samples in one call, and their derivatives.

    J e_j = (f(t, y + s_j e_j, u) - f(t, y, u)) / s_j,    f_t = (f(t + r, y, u + r du/dt) - f(t, y, u)) / r

The steps count as constants where these are differentiated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Function = Callable[[Float, Float, Any], Float]
"""value(t (N,), y (N, d), u (N, m) or None) -> (N, k)"""

RELATIVE = float(np.sqrt(np.finfo(np.float64).eps))
"""The step of a difference, relative to the size of what is changed: rounding and truncation are about alike."""


class Scales(NamedTuple):
    """What is not small: the least size of the states and of time that steps are relative to.

    Attributes
    ----------
    y : (d,) array
        Where |y| is below, steps are relative to this.
    t : float
        The length of the interval, negative where it is solved backwards.
    """

    y: Float
    t: float = 1.0

    def of_states(self, y: Float) -> Float:
        """(n, d) steps of the states: away from 0, so that what is positive stays so; y + step is a number."""
        size = np.maximum(np.abs(y), self.y)
        size[size == 0] = 1.0
        return np.asarray((y + np.copysign(RELATIVE * size, y)) - y, dtype=np.float64)

    def of_times(self, t: Float) -> Float:
        """(n,) steps of the times, into the interval; t + step is a number."""
        span = abs(self.t) or 1.0
        size = np.maximum(np.abs(t), 1e-6 * span)
        size = np.sqrt(size * np.minimum(size, span))  # far from t = 0, rounding of t counts, and the interval is what it is
        return np.asarray((t + np.copysign(RELATIVE * size, self.t)) - t, dtype=np.float64)


class Points:
    """Where a function is evaluated for differences: for each sample itself, a step of each state, a step of time.

    Parameters
    ----------
    t : (n,) array
    y : (n, d) array
    u, rate : (n, m) arrays or None
        The inputs, and how they change; rate None: they do not.
    scales : Scales
    states, time : bool
        Which derivatives are wanted.
    """

    def __init__(
        self, t: Float, y: Float, u: Any, rate: Any, scales: Scales, states: bool = True, time: bool = True
    ) -> None:
        n, d = y.shape
        columns = d if states else 0
        rows = 1 + columns + time
        self.shape = (n, rows)
        self.t = np.repeat(t[:, None], rows, axis=1)
        self.y = np.repeat(y[:, None], rows, axis=1)
        self.u = None if u is None else np.repeat(u[:, None], rows, axis=1)
        self.steps = np.empty((n, rows - 1))
        if states:
            self.steps[:, :d] = scales.of_states(y)
            at = np.arange(d)
            self.y[:, 1 + at, at] += self.steps[:, :d]
        if time:
            step = self.steps[:, -1] = scales.of_times(t)
            self.t[:, -1] += step
            if rate is not None:
                self.u[:, -1] += step[:, None] * rate  # type: ignore[index]

    def _flat(self) -> tuple[Float, Float, Any]:
        n = self.t.size
        return self.t.reshape(n), self.y.reshape(n, -1), None if self.u is None else self.u.reshape(n, -1)

    def quotients(self, value: Function) -> Float:
        """(n, rows, k) a row for each step: columns of df/dy, then df/dt."""
        f = value(*self._flat()).reshape(*self.shape, -1)
        return np.asarray((f[:, 1:] - f[:, :1]) / self.steps[:, :, None], dtype=np.float64)

    def pulled_back(self, vjp: Callable[[Float, Float, Any, Float], Float], seeds: Float) -> Float:
        """(n, size) what cotangents (n, rows, k) of the quotients mean for y and theta; vjp(t, y, u, dy) -> (N, size)."""
        parts = seeds / self.steps[:, :, None]
        dy = np.concatenate([-parts.sum(axis=1, keepdims=True), parts], axis=1)
        back = vjp(*self._flat(), dy.reshape(self.t.size, -1))
        return np.asarray(back.reshape(*self.shape, -1).sum(axis=1), dtype=np.float64)
