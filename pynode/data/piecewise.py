"""Piecewise polynomials in the form of the core; `PiecewisePolynomial`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

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

    def rates(self, sample: int, t: Float) -> Float:
        """Slopes (n, m) of one sample at times t (n,)."""
        knots = self.knots(sample)
        first = self.seg_start[sample]
        coef = self.coef[first : first + len(knots) - 1]
        return evaluated(knots, coef[:, 1:] * np.arange(1, coef.shape[1])[:, None], t)

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


def slope_matrix(t: Float) -> csr_array:
    """Slopes at the knots of the parabolas through three neighbours (straight line for two knots), as a sparse matrix."""
    from scipy import sparse

    n = len(t)
    h = np.diff(t)
    if n == 2:
        return sparse.csr_array(np.array([[-1.0, 1.0], [-1.0, 1.0]]) / h[0])
    a = h[:-1]
    b = h[1:]
    middle = np.arange(1, n - 1)
    rows: list[ArrayLike] = [middle, middle, middle, [0] * 3, [n - 1] * 3]
    cols: list[ArrayLike] = [middle - 1, middle, middle + 1, [0, 1, 2], [n - 3, n - 2, n - 1]]
    p, q = h[:2]
    r, s = h[-2:]
    values: list[ArrayLike] = [
        -b / (a * (a + b)),
        (b - a) / (a * b),
        a / (b * (a + b)),
        [-(2 * p + q) / (p * (p + q)), (p + q) / (p * q), -p / (q * (p + q))],
        [s / (r * (r + s)), -(r + s) / (r * s), (2 * s + r) / (s * (r + s))],
    ]
    return sparse.csr_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(cols))), shape=(n, n))
