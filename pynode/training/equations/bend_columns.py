"""Columns of terms that bend, for any scale: integrals along smoothed states, and what each would add to others."""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.sparse import csr_array

from pynode.training.equations.bends import DECAY, DOWN, LONGEST, OFF, ON, UP, Bend
from pynode.training.equations.integral_form import LEAST, windows
from pynode.training.equations.library import Library, far
from pynode.training.equations.search import FIRST
from pynode.training.equations.terms import Term, evaluate, unit
from pynode.training.windows import Data

Array = NDArray[np.float64]

POSITIVE = 0.05
"""A variable that bends is not negative, but for noise: by at most this part of its range."""

GRID = 7
"""Scales that are tried for each function ..."""

NEAR, FAR = 0.05, 2.0
"""... between these, in units of a large value of the variable (its 95 % quantile)."""

EXPONENTS = (1, 2, 4, 8)
"""Exponents that are tried at first; their neighbours follow."""

WIDTHS = (0.06, 0.18, 0.5)
"""Scales of switches that are tried, in ranges of the variable ..."""

THRESHOLDS = (-0.1, 0.1, 0.3, 0.5, 0.7, 0.9, 1.1)
"""... and where they switch, from its lowest value on."""

MOST_VARIABLES = 6
"""With more states and inputs than this there are no terms that bend."""

MOST_FACTORS = 4
"""With more than this, terms that bend are not multiplied by another variable."""

NOTHING = 1e-100
"""Smaller columns are those of functions that are 0 along the data."""

TINY = 1e-9
"""Added to squares of columns: rounding."""


def grid(x: Array, exponents: Sequence[int] = EXPONENTS) -> list[Term]:
    """Candidates with scales on a grid, for those of states and inputs x (rows, n) that are never negative.

    With the exponent 1 alone there are no exponentials either; without exponents there are switches, of any sign.
    """
    n = x.shape[1]
    if n > MOST_VARIABLES:
        return []
    if not exponents:
        return switches(x)
    none = (0,) * n
    found = []
    for j in np.flatnonzero(never_negative(x)).tolist():
        large = float(np.quantile(x[:, j], 0.95))
        factors = [none] if n > MOST_FACTORS else [none, *(unit(n, i) for i in range(n) if i != j)]
        own = unit(n, j)
        inhibited = [tuple(map(max, own, f)) for f in factors]  # x / (1 + (x / K)^2): the substrate stands in its own way
        for scale in (large * np.geomspace(NEAR, FAR, GRID)).tolist():
            for e in exponents:
                found += [Term(f, "bend", none, Bend(UP, j, e, scale)) for f in factors]
                found += [Term(f, "bend", none, Bend(DOWN, j, e, scale)) for f in [*factors, *(inhibited if e > 1 else [])]]
            if max(exponents) > 1:
                found += [Term(f, "bend", none, Bend(DECAY, j, 1, scale)) for f in [*factors, own]]
    return found


def switches(x: Array) -> list[Term]:
    """Candidates with a threshold, on a grid of scales and thresholds, of each variable that does not stay far from 0."""
    n = x.shape[1]
    none = (0,) * n
    factors = [none] if n > MOST_FACTORS else [none, *(unit(n, i) for i in range(n))]
    found = []
    for j in np.flatnonzero((np.ptp(x, axis=0) > 0) & ~far(x)).tolist():
        low = float(x[:, j].min())
        span = float(np.ptp(x[:, j]))
        for width, place in itertools.product(WIDTHS, THRESHOLDS):
            level = (low + place * span) / (width * span)
            found += [Term(f, "bend", none, Bend(kind, j, 1, width * span, level)) for f in factors for kind in (ON, OFF)]
    return found


class Along:
    """Columns of the integral form of a state, for any terms, along smoothed states.

    What can bend is taken as 0 where it is negative. Integrals follow from cubics through four neighbours.

    Parameters
    ----------
    data : Data
    rows : list of (T_i, n) arrays
        Smoothed states and inputs.
    state : int
        Which one.
    weight : (rows,) array
        Relative precisions of its measurements.

    Attributes
    ----------
    z : (n,) array
        What the columns are to explain.
    lost : int
        How many starts of windows were taken out.
    """

    def __init__(self, data: Data, rows: Sequence[Array], state: int, weight: Array) -> None:
        whole = np.concatenate(rows)
        self.state = state
        self.x = np.where(never_negative(whole), np.maximum(whole, 0.0), whole)
        self.variables = [np.ascontiguousarray(column) for column in self.x.T]
        self.factors: dict[tuple[int, ...], Array] = {}
        parts = [_steps(t) for t in data.t]
        starts = np.cumsum([0, *(len(t) for t in data.t)])
        near = np.concatenate([near + a for (near, _), a in zip(parts, starts, strict=False)])
        part = np.concatenate([part for _, part in parts])
        ends = np.arange(0, near.size + 1, near.shape[1])
        self.steps = csr_array((part.ravel(), near.ravel(), ends), shape=(len(near), len(near)))
        measured = np.concatenate(data.y)[:, state]
        self.windows: list[Array] = []
        for i, t in enumerate(data.t):
            for a, b in windows(len(t), FIRST) if len(t) > LEAST else ():
                seen = np.flatnonzero(~np.isnan(measured[starts[i] + a : starts[i] + b])) + starts[i] + a
                if len(seen) > 1:
                    self.windows.append(seen)
        self.lost = len(self.windows)
        self.index = np.concatenate(self.windows)
        self.begin = np.cumsum([0, *map(len, self.windows)])[:-1]
        self.window = np.repeat(np.arange(self.lost), [len(seen) for seen in self.windows])
        self.weight = weight[self.index][:, None]
        self.root = np.sqrt(self.weight)
        self.total = np.add.reduceat(self.weight, self.begin)
        self.z = self._centred(measured[self.index][:, None])[:, 0]

    def _centred(self, values: Array) -> Array:
        """Rows less the mean of their window, scaled to one variance."""
        mean = np.add.reduceat(self.weight * values, self.begin) / self.total
        return np.asarray(self.root * (values - mean[self.window]), dtype=np.float64)

    def columns(self, terms: Sequence[Term]) -> Array:
        """(n, terms) of the integrals."""
        return self._columns(evaluate(terms, self.x))

    def with_slopes(self, terms: Sequence[Term]) -> Array:
        """(n, 1 + numbers, terms) columns, and those of their derivatives with respect to the numbers inside."""
        most = max(len(term.inner) for term in terms)
        values = np.zeros((len(self.x), 1 + most, len(terms)))
        for k, term in enumerate(terms):
            own = self._with_slopes(term)
            values[:, : own.shape[1], k] = own
        return self._columns(values.reshape(len(self.x), -1)).reshape(-1, 1 + most, len(terms))

    def both(self, term: Term) -> tuple[Array, float]:
        """((n, 1 + numbers): the column of one term, and those of its slopes; the mean square of the term)."""
        values = self._with_slopes(term)
        return self._columns(values), float(np.mean(values[:, 0] ** 2))

    def _with_slopes(self, term: Term) -> Array:
        """(rows, 1 + numbers) a term that bends and its derivatives with respect to the numbers inside."""
        bend = term.bend
        assert bend is not None
        x = self.variables[bend.of]
        h = bend.value(x)
        if term.powers not in self.factors:
            self.factors[term.powers] = np.reshape(term.factor.value(self.variables), (-1, 1))
        return np.column_stack([h, bend.slopes(x, h)]) * self.factors[term.powers]

    def _columns(self, values: Array) -> Array:
        return self._centred(np.cumsum(self.steps @ values, axis=0)[self.index])


def _steps(t: Array) -> tuple[NDArray[np.intp], Array]:
    """(neighbours (T, 4), their weights (T, 4)) in the integral from the time before; 0 at the first."""
    n = len(t)
    near = np.zeros((n, 4), dtype=np.intp)
    part = np.zeros((n, 4))
    if n < 4:
        return near, part
    first = np.clip(np.arange(-2, n - 2), 0, n - 4)[1:]
    near[1:] = first[:, None] + np.arange(4)
    h = np.diff(t)
    s = (t[near[1:]] - t[:-1, None]) / h[:, None]
    powers = s[:, None, :] ** np.arange(4)[:, None]
    part[1:] = h[:, None] * np.linalg.solve(powers, np.broadcast_to(1.0 / np.arange(1, 5)[:, None], (n - 1, 4, 1)))[:, :, 0]
    return near, part


def never_negative(x: Array) -> NDArray[np.bool_]:
    """(n,) which variables of rows (rows, n) are not negative but for noise."""
    return np.asarray((x.min(axis=0) >= -POSITIVE * np.ptp(x, axis=0)) & (np.ptp(x, axis=0) > 0))


class Grid:
    """Terms that bend with their scales on a grid, and their columns for one state.

    Attributes
    ----------
    members : list of int arrays
        The terms of each form, their scales apart.
    G : (n, 1 + numbers, terms) array
        Columns, and those of the derivatives with respect to the numbers inside (`Bend.moved`); 0 where there are fewer.
    """

    def __init__(self, bends: Library, along: Along) -> None:
        self.bends = bends
        forms: dict[tuple[object, ...], list[int]] = {}
        for k, term in enumerate(bends.terms):
            forms.setdefault(form(term), []).append(k)
        self.members = [np.array(ks) for ks in forms.values()]
        self.G = along.with_slopes(bends.terms)
        self.size = np.sqrt(np.maximum((self.G**2).sum(axis=0), 1e-300))
        self.ratio = np.where(self.size[0] > NOTHING, self.size[1:] / self.size[0], 0.0)
        self.G /= self.size
        self.gram = np.einsum("nit,njt->tij", self.G, self.G)
        self.with_z = np.tensordot(along.z, self.G, axes=(0, 0))

    def gains(self, base: Array, z: Array, products: Array) -> tuple[Array, Array]:
        """By how much each (terms,), the numbers inside free, lowers the squares that a base leaves; their steps (m, terms).

        Parameters
        ----------
        base : (n, k) array
            Columns.
        z : (n,) array
        products : (k, 1 + m, terms) array
            Of the base with the columns of the grid.
        """
        rest = self.with_z
        gram = self.gram
        if base.shape[1]:
            factor = np.linalg.cholesky(base.T @ base + 1e-10 * np.diag((base**2).sum(axis=0)))
            half = solve_triangular(factor, np.column_stack([base.T @ z, products.reshape(base.shape[1], -1)]), lower=True)
            V = half[:, 1:].reshape(-1, *rest.shape)
            rest = rest - np.tensordot(half[:, 0], V, axes=(0, 0))
            gram = gram - np.einsum("kit,kjt->tij", V, V, optimize=True)
        gram = gram + TINY * np.eye(len(rest))
        c, *moved = np.linalg.solve(gram, rest.T[:, :, None])[:, :, 0].T
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.clip(np.nan_to_num(np.stack(moved) / (c * self.ratio)), -LONGEST, LONGEST)
        way = np.concatenate([np.ones((1, len(c))), step * self.ratio])
        gain = (rest * way).sum(axis=0) ** 2 / np.einsum("it,tij,jt->t", way, gram, way, optimize=True)
        return np.asarray(gain), step


def form(term: Term) -> tuple[object, ...]:
    """A term but for its scale."""
    bend = term.bend
    return (term.powers, term.function) if bend is None else (term.powers, bend.kind, bend.of, bend.n)
