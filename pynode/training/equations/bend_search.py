"""The best terms of one state, some of which bend: on the integral form, their scales fitted by Gauss-Newton."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pynode.training.equations.bend_columns import Along, Grid, form
from pynode.training.equations.bends import DOWN, LONGEST, OFF, OPPOSITE, UP
from pynode.training.equations.library import Library
from pynode.training.equations.search import FEW, MOST, SCALE
from pynode.training.equations.subsets import Regression, Subset
from pynode.training.equations.terms import Term

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
"""Steps of Gauss-Newton for each number inside a term, to compare forms, ..."""

STEPS = 12
"""... and at most."""

LITTLE = 0.01
"""Steps that lower the misfit by less are the last ..."""

SHORTEST = 0.01
"""... and so are shorter ones, of logarithms."""

SHORT = 3
"""Rows of at most so many polynomials that leave no more than all of them are kept as they are."""

SHARED = 3.0
"""How much likelier, as a logarithm, a term that bends is where another row has it."""

GAIN = 2.0
"""Terms that bend are taken where they raise the log evidence of a row by this."""

NOTHING = 1e-200
"""The least precision of a coefficient: that of a function that is nearly 0 all along the data would underflow."""

ALIKE = 1e-12
"""Added to correlations: a switch that is on all along the data is the constant once more."""

STEEPEST = 12
"""The largest exponent."""


@dataclass(frozen=True)
class Row:
    """Terms of a state.

    Attributes
    ----------
    terms : list of Term
    c : (n,) array
        Their coefficients.
    score : float
        Their log evidence, beside that of no terms.
    misfit : float
        Half the sum of squares that they leave, in units of the variance, and that of their priors.
    sure : (n,) array
        Precisions of the logarithms of scales, if all else were known; 0 without one.
    """

    terms: list[Term]
    c: Array
    score: float
    misfit: float
    sure: Array

    @property
    def bent(self) -> list[Term]:
        """Those that bend."""
        return [term for term in self.terms if term.bend is not None]


@dataclass(frozen=True)
class Column:
    """A term that bends on the integral form of one state.

    Attributes
    ----------
    value : (n,) array
        Its column.
    slopes : (n, m) array
        Those of the derivatives with respect to its m numbers (`Bend.moved`).
    prior : float
        The precision of the prior of its coefficient.
    """

    value: Array
    slopes: Array
    prior: float


@dataclass(frozen=True)
class Fit:
    """Coefficients of terms with scales as they are.

    Attributes
    ----------
    terms, c, misfit
        As of a `Row`.
    prior : (n + m,) array
        Precisions of the priors of the coefficients, and of the m numbers inside terms that bend.
    K : (n + m, n + m) array
        The precision of both.
    step : (m,) array
        The step of those numbers that promises the least misfit.
    """

    terms: list[Term]
    c: Array
    misfit: float
    prior: Array
    K: Array
    step: Array


class RowSearch:
    """The best terms of one state: one more that bends at a time, its scale fitted and the polynomials chosen again.

    Parameters
    ----------
    plain : Library
        Polynomials, the constant first.
    bends : Library
        Terms that bend, their scales on a grid.
    along : Along
    variance : float
        Of the noise and of what smoothing leaves.
    least : float
        What all terms together leave of that at least.
    steepest : int, default STEEPEST
        The largest exponent.
    most : float, default inf
        With more terms than this, two of which bend, no further one is looked for.
    """

    def __init__(
        self,
        plain: Library,
        bends: Library,
        along: Along,
        variance: float,
        least: float,
        steepest: int = STEEPEST,
        most: float = np.inf,
    ) -> None:
        self.steepest = steepest
        self.most = most
        self.along = along
        self.plain = plain
        self.prior = plain.prior[along.state]
        self.place = {term: k for k, term in enumerate(plain.terms)}
        self.X = along.columns(plain.terms)
        self.H = self.X.T @ self.X / variance
        self.b = self.X.T @ along.z / variance
        self.z = along.z
        self.variance = variance
        self.least = 0.5 * (len(self.z) - along.lost) * least / variance
        self.rarer = float(plain.cost[0]) - plain.terms[0].cost
        self.grid = bends
        self.known: dict[Term, Column] = {}
        self.short = False

    def best(self) -> Row | None:
        """The best terms, if some of them bend and are worth it."""
        regression = Regression(self.H, self.b, self.prior, self.plain.cost)
        first = self._refined([self.plain.terms[k] for k in regression.search(most=MOST)[0].columns])
        self.short = len(first.terms) <= SHORT and first.misfit - self.least < GAIN
        self.first = first
        if self.short:
            return None
        self.bends = Grid(self.grid, self.along)
        self.products = np.tensordot(self.X, self.bends.G, axes=(0, 0))
        rows: list[tuple[Row, Regression]] = [(replace(first, terms=[], c=np.zeros(0)), regression)]
        best = first
        for _ in range(MOST_BENT):
            rows = self._one_more(rows)
            if not rows or rows[0][0].score < best.score + GAIN:
                break
            best = rows[0][0]
            if best.misfit - self.least < GAIN or (len(best.bent) > 1 and len(best.terms) > self.most):
                break
        return readable(best) if best.bent else None

    def together(self, found: Row | None, others: Sequence[Term]) -> Row | None:
        """The best terms, if those that bend in other rows are there too: what one state loses another one gains.

        Parameters
        ----------
        found : Row or None
            As `best` gave it.
        others : sequence of Term
            Terms that bend.
        """
        new = [term for term in others if found is None or form(term) not in map(form, found.bent)]
        if self.short or not new or len(others) > MOST_BENT:
            return found
        row = self._varied(self._settled(self._refined(list(others))))
        before = self.first if found is None else found
        known = sum(form(term) in map(form, others) for term in row.bent)
        if not row.bent or row.score + SHARED * known < before.score + (GAIN if found is None else 0.0):
            return found
        return readable(row)

    def column(self, term: Term) -> Column:
        """Of a term that bends."""
        if term not in self.known:
            both, size = self.along.both(term)
            self.known[term] = Column(both[:, 0], both[:, 1:], max(size * float(self.prior[0]), NOTHING))
        return self.known[term]

    def _beside(self, row: Row) -> tuple[Regression, Array]:
        """(the regression on polynomials, terms that bend and their scales eliminated; those columns)."""
        bent = [(self.column(term), c) for term, c in zip(row.terms, row.c.tolist(), strict=True) if term.bend is not None]
        if not bent:
            return Regression(self.H, self.b, self.prior, self.plain.cost), self.X[:, :0]
        A = np.column_stack([*(part.value for part, _ in bent), *(c * part.slopes for part, c in bent)])
        own = np.full(A.shape[1], SCALE)
        own[: len(bent)] = [part.prior for part, _ in bent]
        X = self.X
        v = self.variance
        across = A.T @ np.column_stack([X, self.z]) / v
        K = A.T @ A / v
        K.flat[:: len(K) + 1] *= 1.0 + ALIKE
        K.flat[:: len(K) + 1] += own
        left = across[:, :-1].T @ np.linalg.solve(K, across)
        return Regression(self.H - left[:, :-1], self.b - left[:, -1], self.prior, self.plain.cost), A

    def _one_more(self, rows: list[tuple[Row, Regression]]) -> list[tuple[Row, Regression]]:
        """The best with one more term that bends."""
        found: list[tuple[float, Row, Subset, int, Array]] = []
        cost = self.bends.bends.cost
        for row, regression in rows:
            _, A = self._beside(row)
            products = np.tensordot(A, self.bends.G, axes=(0, 0))
            ranked = sorted(regression.known, key=regression.known.__getitem__, reverse=True)
            for s in [s for n in range(SIZES) for s in [s for s in ranked if len(s) == n][:EACH_SIZE]]:
                base = np.concatenate([self.X[:, list(s)], A], axis=1)
                gain, steps = self.bends.gains(base, self.z, np.concatenate([self.products[list(s)], products]))
                likely = regression.known[s] + 0.5 * gain / self.variance - cost
                for ks in self.bends.members:
                    k = int(ks[np.argmax(likely[ks])])
                    found.append((float(likely[k]), row, s, k, steps[:, k]))
        found.sort(key=lambda f: f[0], reverse=True)
        tried: dict[tuple[object, ...], Row] = {}
        for _, row, s, k, step in found:
            term = self.bends.bends.terms[k]
            key = (tuple(map(str, map(form, row.bent))), form(term))
            if key in tried:
                continue
            term = _moved([term], [0], step[: len(term.inner)])[0]
            tried[key] = self._refined([*(self.plain.terms[j] for j in s), *row.bent, term], FEW_STEPS * len(term.inner))
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
        regression, _ = self._beside(row)
        start = tuple(sorted(self.place[term] for term in row.terms if term.bend is None))
        best = regression.search([start], max(MOST - len(row.bent), 1), every, 1)[0].columns
        return regression, [*(self.plain.terms[k] for k in best), *row.bent]

    def _refined(self, terms: list[Term], steps: int = STEPS) -> Row:
        """The scales of terms by Gauss-Newton, and their evidence."""
        bent = [k for k, term in enumerate(terms) if term.bend is not None]
        best: Fit | None = None
        step = np.zeros(0)  # the first fit gives one
        for _ in range(steps):
            fit = self._at(terms if best is None else _moved(best.terms, bent, step), bent)
            if best is None or fit.misfit < best.misfit:
                settled = best is not None and fit.misfit > best.misfit - LITTLE
                best = fit
                if settled or not bent:
                    break
                step = fit.step
            else:
                step = 0.3 * step
                if np.abs(step).max() < SHORTEST:
                    break
        assert best is not None
        return self._row(best, bent)

    def _at(self, terms: list[Term], bent: list[int]) -> "Fit":
        """The fit of these scales."""
        parts = [self.column(terms[k]) for k in bent]
        n = len(terms)
        m = sum(part.slopes.shape[1] for part in parts)
        straight = [k for k in range(n) if k not in bent]
        place = [self.place[terms[k]] for k in straight]
        X = np.empty((len(self.z), n + m))
        prior = np.full(n + m, SCALE)
        X[:, straight] = self.X[:, place]
        prior[straight] = self.prior[place]
        for k, part in zip(bent, parts, strict=True):
            X[:, k] = part.value
            prior[k] = part.prior
        v = self.variance
        stacked = np.concatenate([X[:, :n], np.diag(np.sqrt(v * prior[:n]))])
        c = np.asarray(np.linalg.lstsq(stacked, np.append(self.z, np.zeros(n)), rcond=None)[0], dtype=np.float64)
        rest = self.z - X[:, :n] @ c
        misfit = 0.5 * float(rest @ rest) / v + 0.5 * float(prior[:n] @ c**2)
        if bent:
            X[:, n:] = np.column_stack([part.slopes * c[k] for k, part in zip(bent, parts, strict=True)])
        K = X.T @ X / v
        K.flat[:: len(K) + 1] *= 1.0 + ALIKE
        K.flat[:: len(K) + 1] += prior
        step = np.clip(np.linalg.solve(K, X.T @ rest / v)[n:], -LONGEST, LONGEST) if bent else np.zeros(0)
        return Fit(terms, c, misfit, prior, K, step)

    def _row(self, fit: "Fit", bent: list[int]) -> Row:
        """The row of a fit: its evidence, and how sure its scales are."""
        n = len(fit.terms)
        cost = sum(term.cost + self.rarer for term in fit.terms)
        score = 0.5 * float(self.z @ self.z) / self.variance - fit.misfit - cost
        score += 0.5 * float(np.log(fit.prior).sum()) - 0.5 * float(np.linalg.slogdet(fit.K)[1])
        sure = np.zeros(n)
        first = n + np.cumsum([0, *(len(fit.terms[k].inner) for k in bent)])[:-1]
        sure[bent] = np.diag(fit.K)[first]
        return Row(fit.terms, fit.c, score, fit.misfit, sure)

    def _varied(self, row: Row) -> Row:
        """With other exponents, or without a term that bends, as long as these are better."""
        tried = {_forms(row.terms)}
        for _ in range(STEEPEST):
            better = max(self._neighbours(row, tried), key=lambda r: r.score, default=row)
            if better is not row:
                better = self._settled(better)
            if not better.score > row.score + 0.5:
                break
            row = better
        return row

    def _neighbours(self, row: Row, tried: set[frozenset[object]]) -> Iterator[Row]:
        """Those of a row that were not tried yet; notes them."""
        for without, terms in self._changed(row):
            if _forms(terms) in tried:
                continue
            tried.add(_forms(terms))
            yield self._settled(self._refined(terms)) if without else self._refined(terms, FEW_STEPS)

    def _changed(self, row: Row) -> Iterator[tuple[bool, list[Term]]]:
        """(whether a term that bends is left out, else an exponent is another; the terms)."""
        several = len(row.bent) > 1
        for k, term in enumerate(row.terms):
            bend = term.bend
            if bend is None:
                continue
            before, after = row.terms[:k], row.terms[k + 1 :]
            if several:
                yield True, [*before, *after]
            if bend.kind in (UP, DOWN):
                for n in (bend.n - 1, bend.n + 1):
                    if 0 < n <= self.steepest:
                        yield False, [*before, term.with_bend(bend.with_exponent(n)), *after]


def _forms(terms: Sequence[Term]) -> frozenset[object]:
    """Terms but for their scales."""
    return frozenset(map(form, terms))


def _moved(terms: Sequence[Term], bent: Sequence[int], step: Array) -> list[Term]:
    """Terms that bend moved by a step."""
    found = list(terms)
    ends = np.cumsum([len(terms[k].inner) for k in bent])
    for k, part in zip(bent, np.split(step, ends[:-1]), strict=True):
        bend = terms[k].bend
        assert bend is not None
        found[k] = terms[k].with_bend(bend.moved(part.tolist()))
    return found


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
        if bend is None or bend.kind not in OPPOSITE or beside is None:
            continue
        turns = c[k] * c[beside] < 0 and (bend.kind in (DOWN, OFF) or abs(c[k]) < abs(c[beside]))
        if turns:
            terms[k] = term.with_bend(bend.with_kind(OPPOSITE[bend.kind]))
            c[beside] += c[k]
            c[k] = -c[k]
    return replace(row, terms=terms, c=c)
