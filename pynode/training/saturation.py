"""Terms that bend, found on the integral form: a grid of scales first, then the scales of what was chosen are refined.

With its scale known such a term is a column like any other. The columns of a grid are screened by what each adds to the best
few polynomials; the best subset of both is searched, neighbours on the grid that stand for one term are merged, and their
scale follows by Gauss-Newton, the derivative with respect to its logarithm being one more column.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.training.bend_columns import Along, grid, never_negative
from pynode.training.bend_search import Row, RowSearch
from pynode.training.bends import DECAY
from pynode.training.equations import HOPELESS, MISFIT, Candidate, Guess, candidates, first_guess, likeliest_first
from pynode.training.library import Library, libraries
from pynode.training.smoothing import Smoothed
from pynode.training.terms import Term
from pynode.training.windows import Data

Array = NDArray[np.float64]

TEMPER = 2.0
"""Smoothed states have errors of their own: the variance of what is left is so many times that of the noise or more, ..."""

BETTER = 1.1
"""... and this many along trajectories of an equation ..."""

LOOKS = 4
"""How often terms are looked for, each time along better states."""

CLEAN = 1e-8
"""... or this part of that of the data."""


def joined(a: Library, b: Library) -> Library:
    """The candidates of both."""
    return Library([*a.terms, *b.terms], np.concatenate([a.prior, b.prior], axis=1), np.concatenate([a.cost, b.cost]))


def bent_equations(data: Data, smoothed: Smoothed, options: dict[str, Any], known: bool = False) -> list[Candidate]:
    """Equations some terms of which bend, the likeliest first; none where such terms explain nothing more.

    Terms are found along smoothed states, then along the trajectories of the equation that these lead to, as long as that
    one is likelier than the one before.

    Parameters
    ----------
    data, smoothed, options
        As for `equations`.
    known : bool, default False
        The states are better than the smoother's.
    """
    plain = libraries(data, smoothed)[:1]
    if not plain:
        return []
    library = Library.of(plain[0], data, smoothed)
    guess = first_guess(library, data, smoothed)
    found: list[Candidate] = []
    states = smoothed.y if known else None
    for k in range(LOOKS):
        bent = bent_guess(library, guess, data, smoothed, states)
        new = [] if bent is None else candidates(*bent, data, smoothed, options, MISFIT if k else HOPELESS)
        before = found[:1]
        found = likeliest_first([*found, *new])
        if not found or not found[0].whole or (before and found[0] is before[0]):
            break
        states = found[0].fitted.guess.states
    return found


def bent_guess(
    plain: Library, guess: Guess, data: Data, smoothed: Smoothed, states: list[Array] | None = None
) -> tuple[Guess, Library] | None:
    """A guess in which some terms bend, with its candidates; None where these promise nothing.

    Parameters
    ----------
    plain : Library
        Polynomials.
    guess : Guess
        The best of these.
    data, smoothed : Data, Smoothed
        As for `equations`.
    states : list of (T_i, d) arrays, optional
        Better ones than those that are smoothed.
    """
    u = data.inputs_at_rows()
    y = np.concatenate(smoothed.y if states is None else states)
    x = y if u is None else np.concatenate([y, u], axis=1)
    parts = np.split(x, np.cumsum([len(t) for t in data.t])[:-1])
    terms = grid(x)
    if not terms:
        return None

    positive = never_negative(y)
    clipped = replace(smoothed, y=[np.where(positive, np.maximum(part, 0.0), part) for part in smoothed.y])

    def library(terms: Sequence[Term]) -> Library:
        return Library.of(terms, data, clipped)

    bends = library(terms)
    rows: list[Row | None] = []
    variance = guess.variance.copy()
    noise = np.maximum(np.nan_to_num(smoothed.variance, nan=0.0), CLEAN * data.spread)
    noise = np.maximum(TEMPER * noise, guess.variance) if states is None else BETTER * noise
    for i in range(data.d):
        along = Along(data, parts, i, 1.0 / guess.shape[:, i])
        row = RowSearch(plain, bends, along, library, float(noise[i])).best()
        rows.append(row)
        if row is not None:
            variance[i] = noise[i] / TEMPER
    if not any(rows):
        return None
    return _assembled(rows, plain, guess, variance, library)


def _assembled(
    rows: Sequence[Row | None], plain: Library, guess: Guess, variance: Array, library: Callable[[Sequence[Term]], Library]
) -> tuple[Guess, Library]:
    """The guess of rows, scales of the same form in several of them shared."""
    same: dict[tuple[int, int, bool], list[float]] = {}
    apart = set()
    for row in rows:
        own: dict[tuple[int, int, bool], float] = {}
        for term in row.bent if row is not None else ():
            key = _share(term)
            scale = term.scale or 1.0
            if own.setdefault(key, scale) != scale:
                apart.add(key)
            same.setdefault(key, []).append(float(np.log(scale)))

    def shared(term: Term) -> Term:
        if term.bend is None or _share(term) in apart:
            return term
        return term.with_scale(float(np.exp(np.mean(same[_share(term)]))))

    bent = library(list(dict.fromkeys(shared(term) for row in rows if row is not None for term in row.bent)))
    whole = joined(plain, bent)
    place = {term: k for k, term in enumerate(whole.terms)}
    C = np.zeros((len(rows), len(whole.terms)))
    C[:, : len(plain.terms)] = guess.C
    chosen = list(guess.chosen)
    short = list(guess.short)
    for i, row in enumerate(rows):
        if row is not None:
            where = [place[shared(term)] for term in row.terms]
            C[i] = 0.0
            C[i, where] = row.c
            chosen[i] = tuple(sorted(where))
            short[i] = tuple(sorted({*short[i], *where}))
    return replace(guess, chosen=chosen, C=C, short=short, variance=variance), whole


def _share(term: Term) -> tuple[int, int, bool]:
    bend = term.bend
    assert bend is not None
    return bend.of, bend.n, bend.kind == DECAY
