"""The best few of many columns, by evidence: Bayesian linear regression with a Gaussian prior and a cost for each column.

For a set S of columns the log evidence, given the noise, is
    b_S^T (H_S + L_S)^-1 b_S / 2 - log det(1 + H_S / L_S) / 2 - sum_S cost,
H = X^T X / s^2, b = X^T y / s^2 and L the precisions of the prior.
"""

import bisect
import heapq
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Subset = tuple[int, ...]

ALL = 3000
"""All subsets are tried of the sizes of which there are no more than this, together; then single changes of the best."""

TRIED = 4
"""From how many of the best subsets single changes go on."""

LONG = 40
"""Subsets are climbed to one column at a time, but not from a few columns to more than this."""

BACKWARD = 100
"""Where the best subset has more than half of the columns that it may have, and there are no more than this, one more start
is what is left of all when those that matter least go one by one: it may take many to see which few it has to be."""

KEPT = 12
"""How many of the best are told."""

CLOSE = 8.0
"""Subsets whose log evidence is further below the best are forgotten."""

SMALL = 1e-13
"""Added to the diagonal of correlations: rounding."""


ROUNDED = 1e-13
"""Columns may explain more of y than there is by this part of it: rounding."""

ALIKE = 1e6
"""Columns that make an inverse of correlations larger than this are too much alike for one factor to serve all changes."""


@dataclass(frozen=True)
class Choice:
    """A set of columns.

    Attributes
    ----------
    columns : tuple of int
        The columns, in order.
    score : float
        Their log evidence, beside that of none.
    """

    columns: Subset
    score: float


class Regression:
    """Which columns explain a vector.

    Parameters
    ----------
    H, b : (P, P), (P,) arrays
        X^T X and X^T y over the variance of the noise.
    prior : (P,) array
        Precisions of the coefficients' priors.
    cost : (P,) array
        -log of the prior odds that a column takes part.
    power : float, default infinity
        y^T y over the variance of the noise: sets of columns so much alike that rounding explains more than there is are
        left out.
    """

    def __init__(self, H: Array, b: Array, prior: Array, cost: Array, power: float = np.inf) -> None:
        own = np.diag(H)
        there = own > 0  # not so a column that others have taken all from, but for rounding
        root = np.sqrt(np.where(there, own, 1.0))
        self.H = np.where(np.outer(there, there), np.clip(H / np.outer(root, root), -1.0, 1.0), 0.0)
        self.H.flat[:: len(own) + 1] = 1.0
        self.b = np.where(there, b, 0.0) / root
        self.prior = prior / root**2
        self.cost = cost
        self.root = root
        self.most_explained = 0.5 * power * (1 + ROUNDED)
        self.known: dict[Subset, float] = {(): 0.0}
        self.top = 0.0  # the highest of these
        self.complete: set[int] = set()  # sizes of which all subsets are known

    def scores(self, subsets: list[Subset]) -> None:
        """Find the log evidence of subsets, all of one size."""
        new = [s for s in dict.fromkeys(subsets) if s not in self.known]
        if new:
            self._score(new, np.array(new))

    def _score(self, new: list[Subset], S: NDArray[np.intp]) -> None:
        """Find the log evidence of subsets of one size that are not known; S: the same as rows."""
        k = S.shape[1]
        factor = _factors(self._within(S))
        half = np.linalg.solve(factor, self.b[S][:, :, None])[:, :, 0]
        logdet = np.log(factor[:, range(k), range(k)]).sum(axis=1) - 0.5 * np.log(self.prior[S]).sum(axis=1)
        explained = 0.5 * (half**2).sum(axis=1)
        value = np.where(explained > self.most_explained, -np.inf, explained - logdet - self.cost[S].sum(axis=1))
        self.known.update(zip(new, value.tolist(), strict=True))
        self.top = max(self.top, float(value.max()))

    def search(self, starts: Iterable[Subset] = (), most: int = 12, every: int = ALL, tried: int = TRIED) -> list[Choice]:
        """The best subsets of at most `most` columns, the best first; `every`, `tried`: see ALL, TRIED."""
        P = len(self.b)
        count = 0
        for k in range(1, min(P, most) + 1):
            count += comb(P, k)
            if count > every:
                break
            if k not in self.complete:
                self.complete.add(k)
                self._score(*_all_of(P, k))
        given = [tuple(sorted(start)) for start in starts]
        for start in given:
            self.scores([start])
        done: set[Subset] = set()
        long = max(map(len, given), default=0) > LONG
        for start in given if long else self._best(tried):
            self._climbed_from(start, most, done)
        if most < P <= BACKWARD and 2 * len(self._best(1)[0]) > most:
            self._climbed_from(self._left_over(most), most, done)
        return [Choice(s, self.known[s]) for s in self._best(KEPT)]

    def _climbed_from(self, here: Subset, most: int, done: set[Subset]) -> None:
        """Single changes from a subset on, as long as they are better; done: where that was tried."""
        while here not in done:
            done.add(here)
            here = self._climbed(here, most)

    def _left_over(self, most: int) -> Subset:
        """The best of at most `most` columns that are left where all are there and one by one is taken out."""
        P = len(self.b)
        root = np.linalg.inv(_factors(self._within(np.arange(P)[None]))[0])
        M = root.T @ root
        c = M @ self.b
        matters = 0.5 * np.log(self.prior) - self.cost  # inf where one is out
        own = M.diagonal()
        smaller = []
        for count in range(P - 1, 0, -1):
            size = np.maximum(own, 1e-300)
            k = int(np.argmin(0.5 * (c * c / size + np.log(size)) + matters))
            matters[k] = np.inf
            row = M[k] / size[k]
            c = c - row * c[k]
            M -= row[:, None] * M[k]
            if count <= most:
                smaller.append(tuple(np.flatnonzero(matters < np.inf).tolist()))
        for s in smaller:
            self.scores([s])
        return max(smaller, key=self.known.__getitem__)

    def pruned(self, s: Subset) -> Choice:
        """The best of a subset and what is left of it when columns are taken out one by one."""
        self.scores([s])
        while s:
            _, own = self._around(s)
            k = int(np.argmax(own[1:]))
            less = (*s[:k], *s[k + 1 :])
            self.scores([less])
            if self.known[less] <= self.known[s]:
                break
            s = less
        return Choice(s, self.known[s])

    def _best(self, n: int) -> list[Subset]:
        """The best n subsets so far."""
        return heapq.nlargest(n, self.known, key=self.known.__getitem__)

    def _climbed(self, s: Subset, most: int) -> Subset:
        """The best of a subset and those with one column more, one less, or another one; good ones are remembered."""
        known = self.known
        least = self.top - CLOSE
        best = s
        highest = known[s]
        scores, own = self._around(s)
        order = np.argsort(scores, axis=1)[:, -KEPT:]
        values = np.take_along_axis(scores, order, axis=1)
        good = ~((values < least) & (values < values[:, -1:]))
        for k, out in enumerate((None, *s)):
            kept = s if out is None else (*s[: k - 1], *s[k:])
            if out is not None:
                known[kept] = value = float(own[k])
                if value > highest:
                    best, highest = kept, value
            if len(kept) < most:
                for i, value in zip(order[k, good[k]].tolist(), values[k, good[k]].tolist(), strict=True):
                    at = bisect.bisect(kept, i)
                    more = (*kept[:at], i, *kept[at:])
                    known[more] = value
                    if value > highest:
                        best, highest = more, value
        self.top = max(self.top, highest)
        return best

    def _around(self, s: Subset) -> tuple[Array, Array]:
        """`_with_one_more` (k + 1, P), (k + 1,) of a subset of k columns, then of it without each of its columns.

        With M = (H_S + L_S)^-1, c = M b_S and a_i = M H_Si, what is left of column i without column j is larger by
        a_ij^2 / M_jj, its product with what is left of b by a_ij c_j / M_jj (one factor serves all j).
        """
        kept = list(s)
        sets = np.array([kept], dtype=np.intp)
        K = self._within(sets)[0]
        try:
            M = np.linalg.inv(K)
        except np.linalg.LinAlgError:
            M = np.full_like(K, np.inf)
        if not kept or not (np.diag(M) > 0).all() or not np.abs(M).max() < ALIKE:
            scores, own = self._with_one_more(sets)
            if not kept:
                return scores, own
            less = np.array([[j for j in kept if j != out] for out in kept], dtype=np.intp).reshape(len(kept), -1)
            others, without = self._with_one_more(less)
            return np.concatenate([scores, others]), np.concatenate([own, without])
        a = M @ self.H[kept]
        c = M @ self.b[kept]
        left = np.maximum(1.0 + self.prior + SMALL - np.einsum("ji,ji->i", self.H[kept], a), SMALL + self.prior)
        r = self.b - c @ self.H[kept]
        _, logdet = np.linalg.slogdet(K)
        each = 0.5 * np.log(self.prior[kept]) - self.cost[kept]
        by_all = 0.5 * float(c @ self.b[kept])
        whole = by_all - 0.5 * float(logdet) + float(each.sum())
        bend = np.diag(M)
        by_each = 0.5 * c**2 / bend
        own = np.append(whole, whole - (by_each + 0.5 * np.log(bend) + each))
        explained = np.append(by_all, by_all - by_each)
        left = np.concatenate([left[None], left + a**2 / bend[:, None]])
        r = np.concatenate([r[None], r + a * (c / bend)[:, None]])
        found = self._scored(own, explained, left, r)
        found[:, kept] = -np.inf
        found[range(1, len(kept) + 1), kept] = whole
        return found, own

    def _within(self, sets: NDArray[np.intp]) -> Array:
        """(n, k, k) H + L of n sets of columns (n, k)."""
        k = sets.shape[1]
        K = self.H[sets[:, :, None], sets[:, None, :]]
        K[:, range(k), range(k)] += self.prior[sets] + SMALL
        return np.asarray(K, dtype=np.float64)

    def _with_one_more(self, sets: NDArray[np.intp]) -> tuple[Array, Array]:
        """((n, P) scores of n sets of columns (n, k) with one column more, -inf for their own; (n,) their own scores)."""
        n, k = sets.shape
        diagonal = 1.0 + self.prior + SMALL
        if not k:
            own = np.zeros(n)
            explained = own
            left = np.tile(diagonal, (n, 1))
            r = np.tile(self.b, (n, 1))
        else:
            factors = _factors(self._within(sets))
            both = np.linalg.solve(factors, np.concatenate([self.H[sets], self.b[sets][:, :, None]], axis=2))
            half = both[:, :, -1]
            W = both[:, :, :-1]
            left = np.maximum(diagonal - (W * W).sum(axis=1), SMALL + self.prior)
            r = self.b - np.einsum("nk,nkp->np", half, W)
            explained = 0.5 * (half * half).sum(axis=1)
            own = explained - np.log(factors[:, range(k), range(k)]).sum(axis=1)
            own += 0.5 * np.log(self.prior[sets]).sum(axis=1) - self.cost[sets].sum(axis=1)
        scores = self._scored(own, explained, left, r)
        np.put_along_axis(scores, sets, -np.inf, axis=1)
        return scores, np.where(explained > self.most_explained, -np.inf, own)

    def _scored(self, own: Array, explained: Array, left: Array, r: Array) -> Array:
        """(n, P) scores with one column more of n sets of own scores (n,), which explain so much of y (n,).

        left, r: (n, P) what is left of the other columns, and its products with what is left of y.
        """
        more = 0.5 * r * r / left
        found = own[:, None] + more - 0.5 * np.log(left / self.prior) - self.cost
        return np.where(explained[:, None] + more > self.most_explained, -np.inf, found)

    def scored_again(self, choices: list[Choice], X: Array, y: Array) -> list[Choice]:
        """Choices, and what is left of the best without columns of it, scored from the columns themselves; the best first.

        From sums of squares, what exact data leave unexplained is rounding. X, y: over the deviation of the noise.
        """
        power = float(y @ y)
        found: dict[Subset, float] = {}
        fresh = [choice.columns for choice in choices]
        while fresh:
            found |= {s: self._score_of_columns(s, X, y, power) for s in fresh}
            best = max(found, key=found.__getitem__)
            fresh = [s for k in range(len(best)) if (s := (*best[:k], *best[k + 1 :])) not in found]
        return [Choice(s, found[s]) for s in sorted(found, key=found.__getitem__, reverse=True)[:KEPT]]

    def _score_of_columns(self, s: Subset, X: Array, y: Array, power: float) -> float:
        """The log evidence of columns by their orthogonal factors; power: y^T y."""
        if not s:
            return 0.0
        kept = list(s)
        root = np.sqrt(self.prior[kept]) * self.root[kept]
        Q, R = np.linalg.qr(np.concatenate([X[:, kept], np.diag(root)]))
        z = np.append(y, np.zeros(len(kept)))
        left = z - Q @ (Q.T @ z)
        logdet = float(np.log(np.abs(R.diagonal()) / root).sum())
        return 0.5 * (power - float(left @ left)) - logdet - float(self.cost[kept].sum())

    def coefficients(self, s: Subset) -> Array:
        """(P,) the most likely coefficients, 0 for other columns."""
        found = np.zeros(len(self.b))
        if s:
            S = list(s)
            K = self.H[np.ix_(S, S)] + np.diag(self.prior[S] + SMALL)
            found[S] = np.linalg.solve(K, self.b[S]) / self.root[S]
        return found


@lru_cache(64)
def _all_of(n: int, k: int) -> tuple[list[Subset], NDArray[np.intp]]:
    """All subsets of k of n columns, and the same as rows."""
    subsets = list(itertools.combinations(range(n), k))
    return subsets, np.array(subsets, dtype=np.intp)


def _factors(K: Array) -> Array:
    """Cholesky factors of correlation matrices (n, k, k), with as much added to the diagonal as rounding needs."""
    k = K.shape[1]
    for more in (0.0, 1e-11, 1e-8, 1e-5):
        if more:
            K[:, range(k), range(k)] += more
        try:
            return np.asarray(np.linalg.cholesky(K), dtype=np.float64)
        except np.linalg.LinAlgError:
            continue
    K[:, range(k), range(k)] += k  # diagonally dominant: what is left of correlations that are none
    return np.asarray(np.linalg.cholesky(K), dtype=np.float64)
