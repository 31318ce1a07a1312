"""The best terms of one state, some of which bend: on the integral form, their scales fitted by Gauss-Newton."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pynode.training.bend_columns import LONGEST, Along, Grid, form
from pynode.training.bends import DECAY, DOWN, UP
from pynode.training.equations import FEW, MOST, SCALE
from pynode.training.library import Library
from pynode.training.subsets import Regression, Subset
from pynode.training.terms import Term

Array = NDArray[np.float64]

EACH_SIZE = 3
"""The columns of the grid are screened beside so many of the best sets of polynomials ..."""

SIZES = 6
"""... of each size below this."""

REFINED = 8
"""How many of what is found so are refined ..."""

BEAM = 2
"""... and with how many of the best of these a further one is looked for."""

MOST_BENT = 4
"""The most terms of a state that bend."""

FEW_STEPS = 4
"""Steps of Gauss-Newton for scales, to compare forms, ..."""

STEPS = 12
"""... and at most."""

GAIN = 6.0
"""Terms that bend are taken where they raise the log evidence of a row by this."""

STEEPEST = 12
"""The largest exponent."""


@dataclass(frozen=True)
class Row:
    """Terms of a state with their coefficients, and their log evidence beside that of no terms."""

    terms: list[Term]
    c: Array
    score: float

    @property
    def bent(self) -> list[Term]:
        """Those that bend."""
        return [term for term in self.terms if term.bend is not None]


class RowSearch:
    """The best terms of one state: one more that bends at a time, its scale fitted and the polynomials chosen again.

    Parameters
    ----------
    plain : Library
        Polynomials.
    bends : Library
        Terms that bend, their scales on a grid.
    along : Along
    library : callable
        terms -> their Library.
    variance : float
        Of the noise and of what smoothing leaves.
    """

    def __init__(
        self, plain: Library, bends: Library, along: Along, library: Callable[[Sequence[Term]], Library], variance: float
    ) -> None:
        self.along = along
        self.library = library
        self.plain = plain
        self.i = along.state
        self.X = along.columns(plain.terms)
        self.z = along.z
        self.variance = variance
        self.bends = Grid(bends, along)
        self.products = np.tensordot(self.X, self.bends.G, axes=(0, 0))

    def best(self) -> Row | None:
        """The best terms, if some of them bend and are worth it."""
        regression, _ = self._beside([], np.zeros(0))
        plain = regression.search(most=MOST)[0].score
        rows: list[tuple[Row, Regression]] = [(Row([], np.zeros(0), plain), regression)]
        best: Row | None = None
        for _ in range(MOST_BENT):
            rows = self._one_more(rows)
            if not rows or rows[0][0].score < (plain if best is None else best.score) + GAIN:
                break
            best = rows[0][0]
        return None if best is None else readable(best)

    def _beside(self, bent: list[Term], c: Array) -> tuple[Regression, Array]:
        """(the regression on polynomials, terms that bend and their scales eliminated; those columns)."""
        A = np.concatenate([self.along.columns(bent), self.along.slopes(bent) * c], axis=1) if bent else self.X[:, :0]
        X = self.X
        prior = self.plain.prior[self.i]
        v = self.variance
        if not bent:
            return Regression(X.T @ X / v, X.T @ self.z / v, prior, self.plain.cost), A
        own = np.concatenate([self.library(bent).prior[self.i], np.full(len(bent), SCALE)])
        inside = A.T @ A / v + np.diag(own)
        z = self.z
        left = np.linalg.solve(inside, A.T @ np.column_stack([X, z]) / v)
        H = X.T @ X / v - X.T @ A @ left[:, :-1] / v
        b = X.T @ z / v - X.T @ A @ left[:, -1] / v
        return Regression(H, b, prior, self.plain.cost), A

    def _one_more(self, rows: list[tuple[Row, Regression]]) -> list[tuple[Row, Regression]]:
        """The best with one more term that bends."""
        found: list[tuple[float, Row, Subset, int, float]] = []
        cost = self.bends.bends.cost
        for row, regression in rows:
            bent = row.bent
            own = [k for k, term in enumerate(row.terms) if term.bend is not None]
            _, A = self._beside(bent, row.c[own])
            products = np.tensordot(A, self.bends.G, axes=(0, 0))
            ranked = sorted(regression.known, key=regression.known.__getitem__, reverse=True)
            for s in [s for n in range(SIZES) for s in [s for s in ranked if len(s) == n][:EACH_SIZE]]:
                base = np.concatenate([self.X[:, list(s)], A], axis=1)
                gain, steps = self.bends.gains(base, self.z, np.concatenate([self.products[list(s)], products]))
                likely = regression.known[s] + 0.5 * gain / self.variance - cost
                for ks in self.bends.members:
                    k = int(ks[np.argmax(likely[ks])])
                    found.append((float(likely[k]), row, s, k, float(steps[k])))
        found.sort(key=lambda f: f[0], reverse=True)
        tried: dict[tuple[object, ...], Row] = {}
        for _, row, s, k, step in found:
            term = self.bends.bends.terms[k]
            key = (tuple(map(str, map(form, row.bent))), form(term))
            if key in tried:
                continue
            term = term.with_scale((term.scale or 0.0) * float(np.exp(step)))
            tried[key] = self._refined([*(self.plain.terms[j] for j in s), *row.bent, term], FEW_STEPS)
            if len(tried) == REFINED:
                break
        best = sorted(tried.values(), key=lambda r: r.score, reverse=True)[: 2 * BEAM]
        best = sorted((self._settled(row) for row in best), key=lambda r: r.score, reverse=True)[:BEAM]
        best = sorted((self._varied(row) for row in best), key=lambda r: r.score, reverse=True)
        return [(row, self._chosen(row, FEW)[0]) for row in best]

    def _settled(self, row: Row) -> Row:
        """With polynomials that suit the terms that bend."""
        for _ in range(3):
            terms = self._chosen(row)[1]
            if set(terms) == set(row.terms):
                break
            again = self._refined(terms)
            if again.score <= row.score:
                break
            row = again
        return row

    def _chosen(self, row: Row, every: int = 0) -> tuple[Regression, list[Term]]:
        """The polynomials chosen again beside the terms that bend, scales moving with them; every: see `Regression`."""
        bent = row.bent
        own = [k for k, term in enumerate(row.terms) if term.bend is not None]
        regression, _ = self._beside(bent, row.c[own])
        start = tuple(k for k, term in enumerate(self.plain.terms) if term in row.terms)
        best = regression.search([start], max(MOST - len(bent), 1), every, 1)[0].columns
        return regression, [*(self.plain.terms[k] for k in best), *bent]

    def _refined(self, terms: list[Term], steps: int = STEPS) -> Row:
        """The scales of terms by Gauss-Newton, and their evidence."""
        library = self.library(terms)
        prior = library.prior[self.i]
        bent = [k for k, term in enumerate(terms) if term.bend is not None]
        whole = np.concatenate([prior, np.full(len(bent), SCALE)])
        n = len(terms)
        v = self.variance
        last = np.inf
        best: Row | None = None
        moved = np.zeros(len(bent))
        for _ in range(steps):
            X = self.along.columns(terms)
            c = np.linalg.lstsq(
                np.concatenate([X, np.diag(np.sqrt(v * prior))]), np.append(self.z, np.zeros(n)), rcond=None
            )[0]
            rest = self.z - X @ c
            misfit = 0.5 * float(rest @ rest) / v + 0.5 * float(prior @ c**2)
            if misfit > last - 0.01:
                if misfit > last and np.abs(moved).max() > 0.05:
                    moved = -0.5 * moved if misfit > last else moved
                    terms = _moved(terms, bent, moved)
                    moved = -moved
                    continue
                break
            last = misfit
            A = np.concatenate([X, self.along.slopes([terms[k] for k in bent]) * c[bent]], axis=1) if bent else X
            K = A.T @ A / v + np.diag(whole)
            score = 0.5 * float(self.z @ self.z) / v - misfit - float(library.cost.sum())
            score += 0.5 * float(np.log(whole).sum()) - 0.5 * float(np.linalg.slogdet(K)[1])
            best = Row(terms, c, score)
            moved = np.clip(np.linalg.solve(K, A.T @ rest / v)[n:], -LONGEST, LONGEST)
            terms = _moved(terms, bent, moved)
        assert best is not None
        return best

    def _varied(self, row: Row) -> Row:
        """With other exponents, or without a term that bends, as long as these are better."""
        for _ in range(STEEPEST):
            better = max(self._neighbours(row), key=lambda r: r.score, default=row)
            if better is not row:
                better = self._settled(better)
            if not better.score > row.score + 0.5:
                break
            row = better
        return row

    def _neighbours(self, row: Row) -> Iterator[Row]:
        several = len(row.bent) > 1
        for k, term in enumerate(row.terms):
            bend = term.bend
            if bend is None:
                continue
            if several:
                yield self._settled(self._refined([*row.terms[:k], *row.terms[k + 1 :]]))
            if bend.kind == DECAY:
                continue
            for n in (bend.n - 1, bend.n + 1):
                if 0 < n <= STEEPEST:
                    terms = [*row.terms[:k], term.with_bend(bend.with_exponent(n)), *row.terms[k + 1 :]]
                    yield self._refined(terms, FEW_STEPS)


def _moved(terms: Sequence[Term], bent: Sequence[int], step: Array) -> list[Term]:
    """Terms whose scales go by a step of their logarithms."""
    steps = dict(zip(bent, step.tolist(), strict=True))
    return [t.with_scale((t.scale or 0.0) * float(np.exp(steps.get(k, 0.0)))) for k, t in enumerate(terms)]


def readable(row: Row) -> Row:
    """The same sum as people write it: death and saturating growth, or a basal rate and what comes on top of it.

    a f + b f / (1 + (x / K)^n) is (a + b) f - b f x^n / (K^n + x^n): of both that whose coefficients have one sign, and if
    neither has, that which saturates.
    """
    terms = list(row.terms)
    c = row.c.copy()
    for k, term in enumerate(terms):
        bend = term.bend
        beside = next((j for j, other in enumerate(terms) if other == term.factor), None)
        if bend is None or bend.kind == DECAY or beside is None:
            continue
        turns = c[k] * c[beside] < 0 and (bend.kind == DOWN or abs(c[k]) < abs(c[beside]))
        if turns:
            terms[k] = term.with_bend(bend.with_kind(UP if bend.kind == DOWN else DOWN))
            c[beside] += c[k]
            c[k] = -c[k]
    return Row(terms, c, row.score)
