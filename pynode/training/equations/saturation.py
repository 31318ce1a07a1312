"""Terms that bend, found on the integral form: a grid of scales first, then the scales of what was chosen are refined.

With the numbers inside known (`Bend.inner`) such a term is a column like any other. The columns of a grid are screened by
what each adds to the best few polynomials, the numbers inside free. These follow by Gauss-Newton, with one more column for
each derivative, and polynomials are chosen again beside them (`bend_search.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.training.equations.bend_columns import EXPONENTS, MOST_FACTORS, Along, form, grid, never_negative
from pynode.training.equations.bend_search import SHORT, STEEPEST, Row, RowSearch
from pynode.training.equations.bends import DECAY, Bend
from pynode.training.equations.integral_form import has_windows
from pynode.training.equations.library import Library, libraries
from pynode.training.equations.search import (
    FIRST,
    HOPELESS,
    MISFIT,
    Candidate,
    Guess,
    candidates,
    first_guess,
    likeliest_first,
)
from pynode.training.equations.terms import Term
from pynode.training.smoothing import Smoothed
from pynode.training.windows import Data

Array = NDArray[np.float64]

TEMPER = 2.0
"""Smoothed states have errors of their own: the variance of what is left is so many times that of the noise or more, ..."""

BETTER = 1.1
"""... and this many along trajectories of an equation ..."""

LOOKS = 3
"""How often terms are looked for, each time along better states."""

WRITTEN = 3.5
"""Equations with terms that bend have at most so many terms for each state: with more they stand for something else, and a
network is as good."""

BULKY = 1.5
"""Guesses of so many times that are not tried; the first one, along smoothed states, may have terms for their errors."""

NOISE = 1.15
"""An equation of few terms that leaves no more than so many times the noise is not doubted."""

LEAST, LARGEST = 0.005, 20.0
"""Scales are between these, in units of a large value of the variable."""

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
    if not plain or not has_windows(data.y, FIRST).all():
        return []
    library = Library.of(plain[0], data, smoothed)
    guess = first_guess(library, data, smoothed)
    found: list[Candidate] = []
    many = data.d + (0 if data.signal is None else data.signal.m) > MOST_FACTORS
    for exponents in (EXPONENTS, ()) if many else ((1,), EXPONENTS, ()):
        found = likeliest_first([*found, *_looked(library, guess, data, smoothed, options, known, exponents)])
        if found and _plain(found[0], data, smoothed):
            break
    large = np.quantile(np.abs(_variables(data, smoothed.y)), 0.95, axis=0)
    return [candidate for candidate in found if _size(candidate) <= WRITTEN * data.d and _within(candidate, large)]


def _variables(data: Data, states: Sequence[Array]) -> Array:
    """(rows, n) states and inputs."""
    u = data.inputs_at_rows()
    y = np.concatenate(list(states))
    return y if u is None else np.concatenate([y, u], axis=1)


def _within(candidate: Candidate, large: Array) -> bool:
    """Whether all scales are of the size of their variables: others make a constant or a power of what they bend."""
    bends = [term.bend for row in candidate.terms for term in row if term.bend is not None]
    return all(LEAST < bend.scale / large[bend.of] < LARGEST for bend in bends)


def _size(candidate: Candidate) -> int:
    return sum(map(len, candidate.terms))


def _looked(
    library: Library,
    guess: Guess,
    data: Data,
    smoothed: Smoothed,
    options: dict[str, Any],
    known: bool,
    exponents: Sequence[int],
) -> list[Candidate]:
    """Equations with these exponents, or with switches, found along better and better states."""
    found: list[Candidate] = []
    states = smoothed.y if known else None
    forms: list[set[object]] = []
    for k in range(LOOKS):
        bent = bent_guess(library, guess, data, smoothed, states, exponents)
        last = forms
        forms = [] if bent is None else [{form(bent[1].terms[j]) for j in s} for s in bent[0].chosen]
        if forms and forms == last:  # they would lead where they led before
            break
        new = [] if bent is None else candidates(*bent, data, smoothed, options, MISFIT if k else HOPELESS)
        before = found[:1]
        found = likeliest_first([*found, *new])
        if not found or not found[0].whole or (before and found[0] is before[0]):
            break
        if max(exponents, default=1) == 1 and not _hopeful(found[0], data, smoothed):
            break
        states = found[0].fitted.guess.states
    return found


def _hopeful(candidate: Candidate, data: Data, smoothed: Smoothed) -> bool:
    """Whether it is not far from few terms that leave the noise."""
    noise = MISFIT * np.nan_to_num(smoothed.variance, nan=0.0)
    return _size(candidate) <= WRITTEN * data.d and bool((candidate.fitted.guess.variance <= noise).all())


def _plain(candidate: Candidate, data: Data, smoothed: Smoothed) -> bool:
    """Whether it has few terms and leaves the noise, so that nothing else need be looked for."""
    few = _size(candidate) <= SHORT * data.d
    noise = np.nan_to_num(smoothed.variance, nan=0.0)
    return candidate.whole and few and bool((candidate.fitted.guess.variance <= NOISE * noise).all())


def bent_guess(
    plain: Library,
    guess: Guess,
    data: Data,
    smoothed: Smoothed,
    states: list[Array] | None = None,
    exponents: Sequence[int] = EXPONENTS,
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
    exponents : sequence of int, optional
        That are tried at first; without any, switches are.
    """
    x = _variables(data, smoothed.y if states is None else states)
    y = x[:, : data.d]
    parts = np.split(x, np.cumsum([len(t) for t in data.t])[:-1])
    terms = grid(x, exponents)
    if not terms:
        return None

    positive = never_negative(y)
    clipped = replace(smoothed, y=[np.where(positive, np.maximum(part, 0.0), part) for part in smoothed.y])

    def library(terms: Sequence[Term]) -> Library:
        return Library.of(terms, data, clipped)

    bends = library(terms)
    least = np.maximum(np.nan_to_num(smoothed.variance, nan=0.0), CLEAN * data.spread)
    noise = BETTER * least
    if states is None:
        noise = np.maximum(TEMPER * least, guess.variance)
        least = noise
    steepest = STEEPEST if max(exponents, default=1) > 1 else 1
    most = WRITTEN * data.d
    along = [Along(data, parts, i, 1.0 / guess.shape[:, i]) for i in range(data.d)]
    searches = [RowSearch(plain, bends, along[i], float(noise[i]), float(least[i]), steepest, most) for i in range(data.d)]
    rows = [search.best() for search in searches]
    sure: dict[tuple[object, ...], tuple[float, Term]] = {}
    for row in rows:
        for term, weight in zip(row.terms, row.sure.tolist(), strict=True) if row is not None else ():
            if term.bend is not None and weight > sure.get(form(term), (0.0, term))[0]:
                sure[form(term)] = (weight, term)
    others = [term for _, term in sure.values()]
    rows = [search.together(row, others) for search, row in zip(searches, rows, strict=True)]
    if not any(rows) or sum(len(row.terms) for row in rows if row) > BULKY * most:
        return None
    variance = np.where([row is not None for row in rows], noise, guess.variance)
    return _assembled(rows, plain, guess, variance, library)


def _assembled(
    rows: Sequence[Row | None], plain: Library, guess: Guess, variance: Array, library: Callable[[Sequence[Term]], Library]
) -> tuple[Guess, Library]:
    """The guess of rows, scales of the same form in several of them shared."""
    same: dict[tuple[object, ...], list[tuple[Array, float]]] = {}
    apart = set()
    for row in rows:
        own: dict[tuple[object, ...], Array] = {}
        for term, sure in zip(row.terms, row.sure.tolist(), strict=True) if row is not None else ():
            if term.bend is None:
                continue
            key = _share(term.bend)
            here = term.bend.place
            if (own.setdefault(key, here) != here).any():
                apart.add(key)
            same.setdefault(key, []).append((here, sure))

    def shared(term: Term) -> Term:
        bend = term.bend
        if bend is None or _share(bend) in apart:
            return term
        places, weights = zip(*same[_share(bend)], strict=True)
        return term.with_bend(bend.at(np.average(places, axis=0, weights=weights)))

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


def _share(bend: Bend) -> tuple[object, ...]:
    """Bends of different states that have this in common have the same scale."""
    return bend.of, bend.n, bend.kind == DECAY, bend.switches
