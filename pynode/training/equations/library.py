"""Which terms are candidates for an equation, and how likely each is before the data are seen."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

from pynode.data.scaling import shift_and_scale
from pynode.training.equations.terms import (
    Term,
    attractions,
    components,
    drags,
    evaluate,
    polynomials,
    powers,
    roots_and_logarithms,
    waves,
)
from pynode.training.smoothing import Smoothed
from pynode.training.windows import Data

Array = NDArray[np.float64]

BROAD = 10.0
"""Standard deviation of the prior of coefficients, in units in which states and slopes are of order one."""

SLOWEST = 1e-6
"""Slopes are taken to be at least this part of what would take a state through its data in their time."""

MOST_TERMS = 70
"""The most polynomials of the third degree for each state; where there are more terms, each is less likely."""

MANY_TERMS = 260
"""The most polynomials of the second degree, beside powers of single states ..."""

EACH = 5
"""... and there are at least this many times for each of them."""

MOST_ANGLES = 8
"""With more states and inputs than this, there are polynomials alone."""

BOTH_SIDES = 0.05
"""A state changes its sign where it has at least this part of its range on either side of 0."""

APART = 0.01
"""It has a root and a logarithm where it stays above 0 by this part of its range ..."""

TIMES = 1.5
"""... and its largest value is so many times the least."""

NEAREST = 0.03
"""Two states that change their signs are coordinates of what is attracted, if they are never nearer to 0 than this part of
their largest distance."""

WIDE = 0.5
"""A state that varies by less, in radians, has sines like polynomials ..."""

FULL = 100.0
"""... and by more, it is no angle."""

FAR = 20.0
"""A state whose mean is more than so many of its standard deviations is no angle either; its powers are straight lines."""

FARTHEST = 1e3
"""Where it is more than so many, its terms count from near its mean: beside a constant they would be rounding."""

CONSTANT = 1e-9
"""A state or an input that varies by less than this part of its size is a constant: products with it are those without."""


@dataclass(frozen=True)
class Library:
    """Candidate terms for the slopes of all states.

    Attributes
    ----------
    terms : list of Term
    prior : (d, terms) array
        Precisions of the priors of coefficients.
    cost : (terms,) array
        -log of the prior odds that a term is there.
    """

    terms: list[Term]
    prior: Array
    cost: Array

    @classmethod
    def of(cls, terms: Sequence[Term], data: Data, smoothed: Smoothed) -> "Library":
        """With priors in the units of the data."""
        y = np.concatenate(smoothed.y)
        u = data.inputs_at_rows()
        x = y if u is None else np.concatenate([y, u], axis=1)
        origins = _origins(np.concatenate(data.y), u)
        terms = [term.counted_from(origins.tolist()) for term in terms]
        values = evaluate(terms, x)
        size = np.sqrt(np.mean(values**2, axis=0))
        still = np.ptp(x, axis=0) <= CONSTANT * np.abs(x).max(axis=0)
        line = far(x)
        known = (size > 0) & [not term.has(still) and term.degree_in(line) < 2 for term in terms]
        terms = [term for term, there in zip(terms, known, strict=True) if there]
        size = _felt(terms, size[known], values.std(axis=0)[known])
        rate = np.sqrt(np.nanmean(np.concatenate(smoothed.slope) ** 2, axis=0))
        span = max(t[-1] - t[0] for t in data.t)
        rate = np.maximum(rate, SLOWEST * np.sqrt(data.spread) / span)
        prior = (size[None, :] / (BROAD * rate[:, None])) ** 2
        rarer = np.log(max(len(terms) / MOST_TERMS, 1.0))
        return cls(terms, prior, rarer + np.array([term.cost for term in terms]))


def far(x: Array) -> NDArray[np.bool_]:
    """(n,) which variables of rows (rows, n) stay far from 0, beside how they vary."""
    return np.asarray(np.abs(x.mean(axis=0)) > FAR * x.std(axis=0))


def _origins(y: Array, u: Array | None) -> Array:
    """(n,) from where states (rows, d) and inputs (rows, m) count: 0, or the roundest numbers near their means."""
    shift, scale = shift_and_scale(y if u is None else np.concatenate([y, u], axis=1))
    found = np.zeros(len(shift))
    for j in np.flatnonzero(np.abs(shift) > FARTHEST * scale).tolist():
        step = 10.0 ** np.ceil(np.log10(abs(shift[j])))
        while abs(round(shift[j] / step) * step - shift[j]) > scale[j]:
            step /= 10.0
        found[j] = float(f"{round(shift[j] / step) * step:.15g}")
    return found


def _felt(terms: Sequence[Term], size: Array, spread: Array) -> Array:
    """(terms,) sizes by which coefficients are judged; those of products far from 0 are what of them varies.

    Of such a product the constant makes up for the rest, so that its own coefficient may be as much larger.
    """
    product = np.array([term.degree > 0 and not term.function for term in terms], dtype=bool)
    varies = np.where(product & (spread > 0), np.minimum(size, FAR * spread), size)
    constant = np.array([not term.degree and not term.function for term in terms], dtype=bool)
    return np.asarray(np.where(constant, size / (size / varies).max(initial=1.0), varies))


def libraries(data: Data, smoothed: Smoothed) -> list[list[Term]]:
    """Candidate terms: polynomials; these and functions of what may be angles, changes sign, is positive; these and such
    functions times variables; polynomials and products of four.

    Where states are many, of products the second degree; where they are too many for that, powers of single states alone.
    """
    n = data.d + (0 if data.signal is None else data.signal.m)
    rows = sum(map(len, data.t))
    if comb(n + 3, 3) <= MOST_TERMS:
        plain = polynomials(n, 3)
    elif comb(n + 2, 2) + n <= min(MANY_TERMS, max(rows // EACH, MOST_TERMS)):
        plain = polynomials(n, 2) + powers(n, 3)
    elif 1 + 3 * n <= min(MANY_TERMS, rows // EACH):
        plain = polynomials(n, 1) + powers(n, 2) + powers(n, 3)
    else:
        return []
    states = np.concatenate(smoothed.y)
    low = states.min(axis=0)
    high = states.max(axis=0)
    varied = high - low
    line = far(states)
    angles = [j for j in range(data.d) if WIDE < varied[j] < FULL and not line[j]]
    signed = [j for j in range(data.d) if min(-low[j], high[j]) > BOTH_SIDES * varied[j]]
    positive = [j for j in range(data.d) if low[j] > APART * varied[j] and high[j] > TIMES * low[j]]
    r2 = {(i, j): states[:, i] ** 2 + states[:, j] ** 2 for i, j in itertools.combinations(signed, 2)}
    around = [pair for pair, s in r2.items() if s.min() > NEAREST**2 * s.max()]
    fourth = [polynomials(n, 4)] if comb(n + 4, 4) <= MOST_TERMS else []
    if n > MOST_ANGLES or not (angles or signed or positive):
        return [plain, *fourth]
    more = plain + waves(n, angles) + drags(n, signed) + roots_and_logarithms(n, positive) + attractions(n, around)
    moving = [more + components(n, angles)] if n > 2 and angles else []
    return [plain, more, *moving, *fourth]
