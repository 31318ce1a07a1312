"""What the integral form says of how control inputs go between their times: all data in a few regressions, no network."""

from collections.abc import Sequence
from math import comb
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pynode.data.scaling import shift_and_scale
from pynode.data.signal import Signal
from pynode.training.equations.integral_form import has_windows, integral_form, integrals
from pynode.training.equations.library import MOST_TERMS
from pynode.training.equations.search import FIRST
from pynode.training.equations.terms import Term, polynomials
from pynode.training.smoothing import Smoothed

Array = NDArray[np.float64]

EACH = 10
"""Products of three are among the terms where there are so many times for each; else those of two, where there are half as
many."""

TINY = 1e-300
"""The least sum of squares."""

EXPLAINED = 1.4
"""Polynomials explain the data where they leave no more than so many times the noise that smoothing finds."""


class InputEvidence(NamedTuple):
    """How likely each of several signals is.

    Attributes
    ----------
    logs : list of float
        Log evidence, less that of the first.
    explained : bool
        With the best of them polynomials explain the data.
    """

    logs: list[float]
    explained: bool


def input_evidence(
    t: Sequence[Array], y: Sequence[Array], smoothed: Smoothed, signals: Sequence[Signal]
) -> InputEvidence | None:
    """How likely each signal is; None where data are too few.

    Polynomials are fitted to each state. Where these are not the truth, residuals are no noise: neighbours are alike and
    count for less, by (1 - r) / (1 + r), r being the correlation of neighbours.

    Parameters
    ----------
    t : list of (T_i,) arrays
    y : list of (T_i, d) arrays
        Measurements.
    smoothed : Smoothed
        The same.
    signals : list of Signal
        Control inputs as they might be.
    """
    terms = _terms(y[0].shape[1] + signals[0].m, sum(map(len, t)))
    if not terms or not has_windows(y, FIRST).all() or not all(np.isfinite(x).all() for x in smoothed.y):
        return None
    shift, scale = shift_and_scale(np.concatenate(smoothed.y))
    states = [(x - shift) / scale for x in smoothed.y]
    own = shift_and_scale(np.concatenate([signals[0](times, i) for i, times in enumerate(t)]))
    left = [_Left.by(integrals(terms, t, states, signal.scaled(*own)), y) for signal in signals]
    logs = []
    for part in left:
        alike = np.maximum(part.alike, left[0].alike)
        logs.append(float((0.5 * part.n * (1 - alike) / (1 + alike) * np.log(left[0].squares / part.squares)).sum()))
    best = left[int(np.argmax(logs))]
    explained = best.squares <= EXPLAINED * smoothed.variance * np.maximum(best.n - len(terms), 1)
    return InputEvidence(logs, bool(explained.all()))


class _Left(NamedTuple):
    """What a regression of each state leaves: (d,) counts, squares, and correlations of neighbours."""

    n: Array
    squares: Array
    alike: Array

    @classmethod
    def by(cls, along: Sequence[Array], y: Sequence[Array]) -> Self:
        """With these integrals."""
        weight = np.ones(sum(map(len, y)))
        found = []
        for state in range(y[0].shape[1]):
            X, z, lost = integral_form(along, y, FIRST, state, weight)
            size = np.sqrt(np.maximum((X * X).sum(axis=0), TINY))
            rest = z - X / size @ np.linalg.lstsq(X / size, z, rcond=1e-10)[0]
            squares = max(float(rest @ rest), TINY)
            found.append((len(z) - lost, squares, np.clip(rest[1:] @ rest[:-1] / squares, 0.0, 0.99)))
        return cls(*np.array(found).T)


def _terms(n: int, rows: int) -> list[Term]:
    """Products of n variables, as many as so many times bear."""
    if comb(n + 3, 3) <= min(MOST_TERMS, rows // EACH):
        return polynomials(n, 3)
    if comb(n + 2, 2) <= 2 * rows // EACH:
        return polynomials(n, 2)
    return polynomials(n, 1) if 1 + n <= 2 * rows // EACH else []
