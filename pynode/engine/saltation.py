"""The rule by which derivatives go through a jump, whether its time is known or found.

A is the derivative of a state with respect to unknowns, a column for each, the parameters first. Where the state y* at a
time t* goes to y+ = R(t*, y*; theta), and t* depends on the unknowns by dt*,

    A* = A + Y' dt*                          along with the time; Y' = dY/dt* is the slope there
    A*+ = R_y A* + R_theta + R_t dt*
    A+ = A*+ - f(y+) dt*                     at fixed time again

At data times and doses of known times dt* = 0. Where the time is that of an event, g(t*, y*; theta) = 0,

    dt* = -(g_y A + g_theta) / (g_t + g_y Y')

(Rozenvasser 1967, Autom. Remote Control 28; Barton & Lee 2002, ACM TOMACS 12). `pynode.events.sensitivities` applies it to
the numbers computed, where Y' is the derivative of a step with respect to its length; `pynode.experiments` to doses.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pynode.fields.field import Field
from pynode.fields.transforms import jacobian

Array = NDArray[np.float64]


class Linear(NamedTuple):
    """Derivatives of a field with k values at n points.

    Attributes
    ----------
    y : (n, k, d) array
    theta : (n, k, n_params) array
    t : (n, k) array
    """

    y: Array
    theta: Array
    t: Array


def linearised(field: Field, t: Array, y: Array, theta: Array, u: Array | None = None) -> Linear:
    """The Jacobians of a field at n points.

    Parameters
    ----------
    field : Field
    t : (n,) array
    y : (n, d) array
    theta : (n_params,) or (n, n_params) array
        For all points, or for each.
    u : (n, inputs) array, optional
    """
    n = len(t)
    k = field.n_out
    p = field.n_params
    if theta.ndim == 2:
        each = [
            linearised(field, t[i : i + 1], y[i : i + 1], theta[i], None if u is None else u[i : i + 1]) for i in range(n)
        ]
        empty = Linear(np.zeros((0, k, field.d)), np.zeros((0, k, p)), np.zeros((0, k)))
        return Linear(*(np.concatenate(parts) for parts in zip(empty, *each, strict=True)))
    by_theta = jacobian(field, "theta")(t, y, theta, u).reshape(n, k, p) if p else np.zeros((n, k, 0))
    by_y = jacobian(field, "y")(t, y, theta, u).reshape(n, k, field.d)
    return Linear(by_y, by_theta, jacobian(field, "t")(t, y, theta, u).reshape(n, k))


def rate_of_change(
    field: Field, mass: Array, t: Array, y: Array, theta: Array, f: Array, u: Array | None, du: Array | None
) -> Array:
    """(n, d) dy/dt of M dy/dt = f(t, y, u), from f at n points; du is du/dt.

    Rows of f that M leaves out are 0 at all times, so that f_y dy/dt + f_t + f_u du/dt is 0 in these.
    """
    d = len(mass)
    left, size, _ = np.linalg.svd(mass)
    without = left[:, size <= d * np.finfo(float).eps * size.max(initial=0.0)].T
    if not len(without):
        return np.asarray(np.linalg.solve(mass, f.T).T, np.float64)
    n = len(t)
    by_y = jacobian(field, "y")(t, y, theta, u).reshape(n, d, d)
    by_t = jacobian(field, "t")(t, y, theta, u).reshape(n, d)
    if u is not None and du is not None:
        by_t = by_t + (jacobian(field, "u")(t, y, theta, u).reshape(n, d, -1) @ du[:, :, None])[..., 0]
    rows = [
        (np.concatenate([mass, without @ J]), np.concatenate([b, -without @ c]))
        for J, b, c in zip(by_y, f, by_t, strict=True)
    ]
    return np.stack([np.linalg.lstsq(A, b, rcond=None)[0] for A, b in rows])


def moved(A: Array, slope: Array, dt: Array) -> Array:
    """Derivatives along with a time that moves: A (..., d, c) + slope (..., d) dt (..., c)."""
    return np.asarray(A + slope[..., :, None] * dt[..., None, :])


def through(A: Array, by_y: Array, by_theta: Array, by_t: Array | None = None, dt: Array | None = None) -> Array:
    """Derivatives behind a jump, R_y A + R_theta + R_t dt, of those before it; both along with the time of the jump.

    Parameters
    ----------
    A : (..., d, c) array
    by_y, by_theta : (..., k, d), (..., k, p) array
        The Jacobians of the jump; its parameters are the first p of the c unknowns.
    by_t, dt : (..., k), (..., c) array, optional
        The time derivative of the jump, and that of its time. Default: it does not move.
    """
    after = np.asarray(by_y @ A)
    after[..., : by_theta.shape[-1]] += by_theta
    return after if by_t is None or dt is None else moved(after, by_t, dt)


def event_times(A: Array, by_y: Array, by_theta: Array, rate: Array) -> Array:
    """(n, c) derivatives of the times at which event functions are 0.

    Parameters
    ----------
    A : (n, d, c) array
        Derivatives of the state at fixed time.
    by_y, by_theta : (n, d), (n, p) array
        Derivatives of the event function.
    rate : (n,) array
        Its total derivative with respect to time, g_t + g_y Y'.

    Returns
    -------
    (n, c) array
        Not finite where the rate is 0 and the event depends on something: there is no derivative.
    """
    value = through(A, by_y[:, None, :], by_theta[:, None, :])[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(value == 0, 0.0, -value / rate[:, None])
