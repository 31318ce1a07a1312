"""Whether residuals depend on the state or on its speed: those of a wrong field do, noise does not.

With residuals r_i at states x_i and a kernel K that is 1 at distance 0 and small far off,

    T = sum_{i != j} K(x_i, x_j) r_i r_j

has mean 0 where residuals are independent and have mean 0, however large each may be, and the variance
2 sum K^2 r_i^2 r_j^2; its mean is positive where E[r | x] is not 0 (the conditional moment test of Zheng 1996,
doi:10.1016/0304-4076(95)01760-7). Trajectories that pass at the same place thus tell of a misfit there that is too short
for its lag-1 autocorrelation.

What is missed at fast parts may change its sign from one reading to the next. There the squares of the residuals tell: they
are larger than elsewhere by more than chance, and by more than noise that grows with the state.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LENGTH = 0.1
"""Lengths of the kernel for two states, in standard deviations of the states: this one and ..."""

LONGER = 2.0
"""... this many times as much."""

MOST = 2000
"""The most rows that are compared with each other."""

ROWS = 500
"""How many of them at once."""

DEPENDS = 5.0
"""T over its deviation from which on residuals depend on the state, ..."""

PART = 0.02
"""... if what does is this part of their variance too."""

FAST = 0.1
"""This part of the states, the fastest, is compared with the others, ..."""

FEW = 200
"""... from so many rows on."""

LARGER = 4.0
"""Residuals are larger there where their squares are so many standard deviations larger, ..."""

TIMES = 1.5
"""... and this many times as large."""

FITS = 3
"""How often the noise that grows with the state is fitted, with weights from the time before, ..."""

LEAST = 0.1
"""... its variance being at least this part of the mean."""


@dataclass(frozen=True)
class Dependence:
    """How residuals depend on the state.

    Attributes
    ----------
    z : (d,) array
        T over its deviation, the larger of both lengths; 0 where it is not known.
    part : (d,) array
        The part of the variance of the residuals that depends on the state, by the same length.
    """

    z: Array
    part: Array

    @property
    def clear(self) -> NDArray[np.bool_]:
        """(d,) whether there is no doubt about it."""
        return np.asarray((self.z > DEPENDS) & (self.part > PART))


def dependence(states: Array, residual: Array) -> Dependence:
    """How residuals depend on the state.

    Parameters
    ----------
    states : (n, m) array
        Where they were found: states, and control inputs.
    residual : (n, d) array
        Residuals, each times the root of its precision; 0 where nothing was observed.

    Returns
    -------
    Dependence
    """
    d = residual.shape[1]
    known = np.isfinite(states).all(axis=1) & (residual != 0).any(axis=1)
    rows = np.flatnonzero(known)
    if len(rows) < 2:
        return Dependence(np.zeros(d), np.zeros(d))
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST)).round().astype(int)]
    x, r = states[rows], residual[rows]
    spread = x.std(axis=0)
    moving = spread > 0
    if not moving.any():
        return Dependence(np.zeros(d), np.zeros(d))
    x = (x / np.where(moving, spread, 1.0))[:, moving] / (LENGTH * np.sqrt(moving.sum() / 2))
    sums = np.zeros((2, 3, d))
    size = (x**2).sum(axis=1)
    for part in np.array_split(np.arange(len(x)), -(-len(x) // ROWS)):
        squares = np.maximum(size[part, None] + size - 2 * x[part] @ x.T, 0.0)
        for k, scale in enumerate((1.0, LONGER)):
            kernel = np.exp(-0.5 / scale**2 * squares)
            kernel[np.arange(len(part)), part] = 0.0
            sums[k, 0] += (r[part] * (kernel @ r)).sum(axis=0)
            sums[k, 1] += kernel.sum() * np.mean(r**2, axis=0)
            sums[k, 2] += 2 * (r[part] ** 2 * (kernel**2 @ r**2)).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.nan_to_num(sums[:, 0] / np.sqrt(sums[:, 2]), posinf=0.0, neginf=0.0)
        share = np.nan_to_num(sums[:, 0] / sums[:, 1], posinf=0.0, neginf=0.0)
    best = np.argmax(z, axis=0)
    return Dependence(z[best, np.arange(d)], share[best, np.arange(d)])


def at_speed(speed: Array, states: Array, residual: Array) -> Array:
    """How many times as large as elsewhere squares of residuals are where states are fast.

    Parameters
    ----------
    speed : (n, d) array
        The time derivatives of the states ...
    states : (n, d) array
        ... and the states, their 0 being that of what was read: noise may be additive, proportional, or both.
    residual : (n, d) array
        As in `dependence`.

    Returns
    -------
    (d,) array
        1 where there is no doubt that it is noise, or where data are few.
    """
    found = np.ones(residual.shape[1])
    known = np.isfinite(states).all(axis=1) & np.isfinite(speed).all(axis=1)
    spread = states[known].std(axis=0) if known.any() else np.zeros(states.shape[1])
    moving = spread > 0
    pace = ((speed[:, moving] / spread[moving]) ** 2).sum(axis=1)
    for c in np.flatnonzero(moving[: len(found)]).tolist():
        rows = np.flatnonzero(known & (residual[:, c] != 0))
        if len(rows) >= FEW:
            rows = rows[np.argsort(pace[rows], kind="stable")]
            found[c] = _larger_at_end(states[rows, c] / spread[c], residual[rows, c] ** 2)
    return found


def _larger_at_end(x: Array, square: Array) -> float:
    """How many times as large the last squares (n,) of residuals are as those before make expect, by their states x (n,)."""
    n = len(square)
    slow = n - round(FAST * n)
    mean = float(square[:slow].mean())
    usual = np.full(n, mean)
    terms = np.stack([np.ones(n), x**2], axis=1)
    doubt = 1 / slow
    for _ in range(FITS):
        weighted = terms[:slow] / usual[:slow, None] ** 2
        inverse = np.linalg.pinv(terms[:slow].T @ weighted, hermitian=True)
        variance = inverse @ (weighted.T @ square[:slow])
        if not variance[1] > 0:  # it does not grow with the state
            usual = np.full(n, mean)
            doubt = 1 / slow
            break
        usual = np.maximum(terms @ variance, LEAST * mean)
        at = (terms[slow:] / usual[slow:, None]).mean(axis=0)
        doubt = float(at @ inverse @ at)
    ratio = square / usual
    times = float(ratio[slow:].mean())
    deviation = float(np.sqrt(ratio[:slow].var() * (1 / (n - slow) + doubt)))
    return times if times > TIMES and times - 1 > LARGER * deviation else 1.0
