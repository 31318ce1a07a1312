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

from pynode.training.terms import Term, evaluate

Array = NDArray[np.float64]


def integral_form(
    terms: Sequence[Term],
    t: Sequence[Array],
    y: Sequence[Array],
    states: Sequence[Array],
    inputs: Sequence[Array] | None,
    intervals: int,
    state: int,
    weight: Array,
) -> tuple[Array, Array, int]:
    """(X (n, terms), z (n,), how many starts of windows were taken out of both), rows scaled to one variance.

    Parameters
    ----------
    terms : sequence of Term
        The candidates.
    t : list of (T_i,) arrays
        Times.
    y : list of (T_i, d) arrays
        Measurements; NaN: not observed.
    states : list of (T_i, d) arrays
        Smoothed.
    inputs : list of (T_i, m) arrays, or None
        Control inputs.
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
    for i, (times, measured, smooth) in enumerate(zip(t, y, states, strict=True)):
        w = weight[row : row + len(times)]
        row += len(times)
        if len(times) < 3:
            continue
        x = smooth if inputs is None else np.concatenate([smooth, inputs[i]], axis=1)
        whole = CubicSpline(times, evaluate(terms, x)).antiderivative()(times)
        pieces = max(1, round((len(times) - 1) / intervals))
        ends = np.linspace(0, len(times), pieces + 1).round().astype(int)
        for a, b in itertools.pairwise(ends.tolist()):
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
