"""Regression on the integral form of an equation: states are what they were plus the integral of the right-hand side.

y(t_i) = y_0 + sum_k c_k int term_k(y) dt + noise, within windows that each have a y_0 of their own. Nothing is
differentiated: the noise of the measurements stays white, and the terms are integrated along smoothed states (Dattner and
Klaassen 2015, doi:10.1214/15-EJS1053).
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from pynode.data.signal import Signal
from pynode.training.equations.terms import Term, evaluate

Array = NDArray[np.float64]

LEAST = 3
"""Trajectories of fewer times have no integrals."""

NODES, WEIGHTS = (0.5 * (x + shift) for x, shift in zip(np.polynomial.legendre.leggauss(3), (1.0, 0.0), strict=True))
"""Gauss's quadrature on [0, 1]."""


def integrals(terms: Sequence[Term], t: Sequence[Array], states: Sequence[Array], signal: Signal | None) -> list[Array]:
    """(T_i, terms) integrals of the terms along each trajectory, from its start.

    Parameters
    ----------
    terms : sequence of Term
        The candidates.
    t : list of (T_i,) arrays
        Times.
    states : list of (T_i, d) arrays
        Smoothed.
    signal : Signal or None
        Control inputs, which may jump or bend at any of the times: each interval has Gauss's nodes of its own.
    """
    found = []
    for i, (times, x) in enumerate(zip(t, states, strict=True)):
        if len(times) < LEAST:
            found.append(np.zeros((len(times), len(terms))))
            continue
        if signal is None:
            found.append(np.asarray(CubicSpline(times, evaluate(terms, x)).antiderivative()(times), dtype=np.float64))
            continue
        step = np.diff(times)
        at = (times[:-1, None] + step[:, None] * NODES).ravel()
        rows = np.concatenate([CubicSpline(times, x)(at), signal(at, i)], axis=1)
        parts = np.einsum(
            "kqj,q,k->kj", evaluate(terms, rows).reshape(len(step), len(NODES), -1), WEIGHTS, step, optimize=True
        )
        found.append(np.concatenate([np.zeros((1, len(terms))), np.cumsum(parts, axis=0)]))
    return found


def windows(n: int, intervals: int) -> list[tuple[int, int]]:
    """The windows (first row, row after the last one) of n rows, about so many intervals each."""
    pieces = max(1, round((n - 1) / intervals))
    return list(itertools.pairwise(np.linspace(0, n, pieces + 1).round().astype(int).tolist()))


def has_windows(y: Sequence[Array], intervals: int) -> NDArray[np.bool_]:
    """(d,) whether some window of measurements (T_i, d) has two readings of a state: else nothing is known of its slope."""
    found = np.zeros(y[0].shape[1], dtype=bool)
    for measured in y:
        seen = np.isfinite(measured)
        for a, b in windows(len(measured), intervals) if len(measured) > LEAST else ():
            found |= seen[a:b].sum(axis=0) > 1
    return found


def integral_form(
    along: Sequence[Array], y: Sequence[Array], intervals: int, state: int, weight: Array
) -> tuple[Array, Array, int]:
    """(X (n, terms), z (n,), how many starts of windows were taken out of both), rows scaled to one variance.

    Parameters
    ----------
    along : list of (T_i, terms) arrays
        `integrals` of the candidates.
    y : list of (T_i, d) arrays
        Measurements; NaN: not observed.
    intervals : int
        About how many intervals a window has.
    state : int
        Which of the states.
    weight : (rows,) array
        Relative precisions of its measurements.
    """
    X: list[Array] = []
    z: list[Array] = []
    row = count = 0
    for whole, measured in zip(along, y, strict=True):
        n = len(measured)
        w = weight[row : row + n]
        row += n
        if n < LEAST:
            continue
        for a, b in windows(n, intervals):
            values = measured[a:b, state]
            seen = ~np.isnan(values)
            if seen.sum() < 2:
                continue
            v = w[a:b][seen]
            part = whole[a:b][seen]
            values = values[seen]
            share = v / v.sum()
            root = np.sqrt(v)
            X.append(root[:, None] * (part - share @ part))
            z.append(root * (values - share @ values))
            count += 1
    return np.concatenate(X), np.concatenate(z), count
