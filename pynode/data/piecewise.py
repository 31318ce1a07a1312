"""Piecewise polynomials in the form of the core; `PiecewisePolynomial`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class PiecewisePolynomial:
    """Piecewise polynomials in the form of the core: segment s on [knot_j, knot_j+1] is sum_q coef[s, q] (t - knot_j)^q.

    Attributes
    ----------
    knot : (K,) array
        Knots of all samples, one sample after another (or shared).
    knot_start, knot_len : (B,) arrays of int
        Where the knots of each sample are.
    seg_start : (B,) array of int
        The first segment of each sample.
    coef : (S, degree + 1, m) array
        Coefficients of every segment, by powers.
    jumps : bool
        Not continuous at the knots.
    crosses : (B,) array of bool
        Whether steps go over the knots of a sample.
    """

    knot: Float
    knot_start: NDArray[np.int64]
    knot_len: NDArray[np.int64]
    seg_start: NDArray[np.int64]
    coef: NDArray[Any]
    jumps: bool
    crosses: NDArray[np.bool_]

    def knots(self, sample: int) -> Float:
        """The knots of one sample."""
        start = self.knot_start[sample]
        return self.knot[start : start + self.knot_len[sample]]

    def values(self, sample: int, t: Float) -> Float:
        """Values (n, m) of one sample at times t (n,)."""
        knots = self.knots(sample)
        first = self.seg_start[sample]
        return evaluated(knots, self.coef[first : first + len(knots) - 1], t)

    def arguments(self) -> dict[str, Any]:
        """Keywords of `_core.Problem`."""
        return {
            "knot": self.knot,
            "knot_start": self.knot_start,
            "knot_len": self.knot_len,
            "seg_start": self.seg_start,
            "coef": self.coef,
            "cross_knots": self.crosses.astype(np.int64),
        }


def segments(knots: Float, t: Float) -> NDArray[np.intp]:
    """In which segment each time is; the first and the last reach beyond the knots."""
    return np.clip(np.searchsorted(knots, t, side="right") - 1, 0, len(knots) - 2)


def evaluated(knots: Float, coef: NDArray[Any], t: Float) -> Float:
    """Piecewise polynomials (segments, degree + 1, m) at times t (n,), by Horner's rule.

    Not by `scipy.interpolate.PPoly`: its import takes longer than a small solve.
    """
    at = segments(knots, t)
    c = coef[at]
    dt = (t - knots[at])[:, None]
    value = np.zeros((len(t), coef.shape[2]))
    for q in range(coef.shape[1] - 1, -1, -1):
        value = value * dt + c[:, q]
    return value
