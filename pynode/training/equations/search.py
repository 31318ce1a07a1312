"""Finding an equation with few terms: on the integral form of smoothed data first, then on trajectories.

The linearised residuals of trajectories, for the coefficients of all candidate terms and with initial states free, are a
linear regression too: the same search for the best subset is made on it (`pynode.training.equations.subsets`), the terms
found are fitted by Levenberg-Marquardt, and so on until they no longer change.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.errors import OK
from pynode.optim.levenberg_marquardt import descend
from pynode.optim.posterior import LaplacePosterior
from pynode.training.coordinates import Coordinates
from pynode.training.equations.integral_form import has_windows, integral_form, integrals
from pynode.training.equations.library import MOST_TERMS, Library, libraries
from pynode.training.equations.noise_shape import ROUNDING, noise_shape, shape_along
from pynode.training.equations.sparse_field import sparse_field
from pynode.training.equations.subsets import Regression, Subset
from pynode.training.equations.terms import Term, crowded, inner_of, with_inner
from pynode.training.shooting import ShootingProblem
from pynode.training.smoothing import Smoothed
from pynode.training.windows import Data, Windows

Array = NDArray[np.float64]

MOST = 8
"""The most terms of a state: with more it is no equation that anyone would read, unless all of them are linear."""

SCALE = 0.3
"""Precision of the prior of a level, or the logarithm of a scale: uniform over two orders of magnitude counts the same."""

WEAK = 1e-6
"""Precision of that prior where a scale is fitted: it does not depend on units."""

FIRST = 40
"""Intervals of the windows of the integral form, and of the first fits ..."""

SHORTER = (10, 20)
"""... but where these do not settle: terms that are nearly right meet fast jumps too early or too late in long windows."""

GROWTH = 4
"""By how much windows grow."""

FEW = 500
"""All subsets are tried of sizes of which there are no more than this, on linearised trajectories."""

ROUNDS = 4
"""How often the terms of whole trajectories may be chosen again."""

GAIN = 3.0
"""More candidates are pursued where they raise the log evidence of the integral form by this."""

THIRD = 3
"""Many products of more than this are a series, which resembles anything."""

PRECISE = 1e10
"""Data that are larger than their noise by the root of this: what sums of squares leave of them is rounding."""

HOPELESS = 4.0
"""Without promise are terms that leave this many times the noise on the integral form, which has errors of its own ..."""

MISFIT = 1.5
"""Equations that leave this many times the noise on windows are not followed further: a network may do better ..."""

MANY = 100
"""... if so many numbers of each state tell what the noise is."""

CLEAN = 1e-4
"""In all of these, less than this part of the variance of the data is little."""


@dataclass(frozen=True)
class Guess:
    """Terms of each state with coefficients, and what is known of states and noise.

    Attributes
    ----------
    chosen : list of tuples of int
        The terms of each state.
    C : (d, terms) array
        Coefficients.
    states : list of (T_i, d) arrays
    variance : (d,) array
        Of the noise, on average.
    shape : (rows, d) array
        How it varies: 1 on average.
    short : list of tuples of int
        The terms of each state that may be chosen.
    score : float
        Log evidence on the integral form, beside that of no terms.
    """

    chosen: list[Subset]
    C: Array
    states: list[Array]
    variance: Array
    shape: Array
    short: list[Subset]
    score: float


@dataclass(frozen=True)
class Fitted:
    """A guess fitted to windows.

    Attributes
    ----------
    guess : Guess
        With the coefficients and states reached.
    windows : Windows
    free : (W, d) array
        Their initial states.
    failed : (W,) bool array
        Those that could not be solved.
    evidence : float
        log p(data, terms).
    intervals : int or None
        Their length; None: whole trajectories.
    status : str
        How Levenberg-Marquardt ended.
    library : Library
        The candidate terms, with the scales reached.
    """

    guess: Guess
    windows: Windows
    free: Array
    failed: NDArray[np.bool_]
    evidence: float
    intervals: int | None
    status: str
    library: Library


def first_guess(library: Library, data: Data, smoothed: Smoothed) -> Guess:
    """The best terms of each state on the integral form."""
    measured = np.concatenate(data.y)
    states = np.concatenate(smoothed.y)
    shape = noise_shape(measured - states, states, data.weight)
    P = len(library.terms)
    C = np.zeros((data.d, P))
    chosen: list[Subset] = []
    short: list[Subset] = []
    variance = np.zeros(data.d)
    score = 0.0
    along = integrals(library.terms, data.t, smoothed.y, data.signal)
    linear = tuple(k for k, term in enumerate(library.terms) if term.linear)
    for i in range(data.d):
        X, z, lost = integral_form(along, data.y, FIRST, i, 1.0 / shape[:, i])
        size = np.sqrt(np.maximum((X * X).sum(axis=0), 1e-300))
        X = X / size
        full, *_ = np.linalg.lstsq(X, z, rcond=1e-10)
        rest = z - X @ full
        freedom = max(len(z) - lost - P, 0.1 * len(z))
        variance[i] = max(float(rest @ rest) / freedom, ROUNDING * data.spread[i])
        power = float(z @ z) / variance[i]
        prior = library.prior[i] / size**2
        regression = Regression(X.T @ X / variance[i], X.T @ z / variance[i], prior, library.cost, power)
        best = regression.search(most=MOST)
        if power > PRECISE:
            deviation = np.sqrt(variance[i])
            best = regression.scored_again(best, X / deviation, z / deviation)
        if len(linear) > MOST and (all_of_them := regression.pruned(linear)).score > best[0].score:
            best.insert(0, all_of_them)
        chosen.append(best[0].columns)
        short.append(tuple(sorted({k for choice in best for k in choice.columns})))
        C[i] = regression.coefficients(best[0].columns) / size
        score += best[0].score - 0.5 * (float(z @ z) / variance[i] + len(z) * float(np.log(variance[i])))
    return Guess(chosen, C, [x.copy() for x in smoothed.y], variance, shape, short, score)


def fitted(
    guess: Guess, library: Library, data: Data, intervals: int | None, options: dict[str, Any], steps: int = 25
) -> Fitted | None:
    """The coefficients of a guess fitted to windows; None where these cannot be solved."""
    m = 0 if data.signal is None else data.signal.m
    terms = [[library.terms[k] for k in s] for s in guess.chosen]
    f = sparse_field(terms, [guess.C[i, list(s)] for i, s in enumerate(guess.chosen)], m)
    cut = data.windows(intervals)
    y0 = cut.initial(guess.states)
    theta = f.init(0)
    coordinates = Coordinates(f.spec, theta)
    problem, mean = weighted_problem(f, cut, y0, guess, data, options, coordinates)
    x = coordinates.x(theta)
    failed = problem.failed(x, y0)
    if failed.mean() > 0.5 or not len(x):
        return None
    if failed.any():
        problem.leave_out(failed)
    alpha = np.concatenate([library.prior[i, list(s)] for i, s in enumerate(guess.chosen)])
    p = len(alpha)
    inside = len(x) - p
    state = LaplacePosterior(x, y0.copy(), np.concatenate([alpha, np.full(inside, WEAK)]), 1.0 / mean)
    limits = coordinates.longest
    descend(problem, state, evidence=False, max_iter=steps, tol=1e-3, damping=1e-4, longest=limits)
    if state.status == "failed" or state.covariance is None or state.free is None:
        return None
    c = state.theta[:p]
    C = np.zeros_like(guess.C)
    C[[i for i, s in enumerate(guess.chosen) for _ in s], [k for s in guess.chosen for k in s]] = c
    if inside:
        found = coordinates.theta(state.theta)[p:]
        library = replace(library, terms=with_inner(library.terms, inner_of(terms), found))
    y, status = problem.solve(state.theta, state.free)
    states = [x.copy() for x in guess.states]
    ends = np.cumsum([len(t) for t in cut.t])
    for (i, a, b), part, how in zip(cut.source, np.split(y, ends[:-1]), status, strict=True):
        if how == OK:
            states[i][a:b] = part
    measured = np.concatenate(data.y)
    model = np.concatenate(states)
    residual = measured - model
    seen = ~np.isnan(residual)
    n = seen.sum(axis=0)
    least = ROUNDING * data.spread
    shape = shape_along(model, data)
    variance = np.maximum(np.nansum(residual**2 / shape, axis=0) / np.maximum(n, 1), least)
    _, logdet = np.linalg.slogdet(state.covariance)
    occam = 0.5 * (float(logdet) + float(np.log(alpha).sum()) - float((alpha * c**2).sum()))
    if inside:  # their prior, too wide to move them, counts all the same
        spread = SCALE * state.covariance[p:, p:]
        occam += 0.5 * (inside * float(np.log(SCALE)) - float(np.linalg.slogdet(np.eye(inside) + spread)[1]))
    cost = sum(library.cost[list(s)].sum() for s in guess.chosen)
    evidence = -0.5 * float(np.log(np.maximum(variance * shape, least)[seen]).sum()) + occam - float(cost)
    new = replace(guess, C=C, states=states, variance=variance, shape=shape)
    return Fitted(new, cut, state.free, failed, evidence, intervals, state.status, library)


def reselected(found: Fitted, library: Library, data: Data, options: dict[str, Any]) -> Guess | None:
    """The terms chosen again, on the linearised residuals of the windows that were fitted."""
    guess = found.guess
    d, P = guess.C.shape
    m = 0 if data.signal is None else data.signal.m
    short = guess.short
    rows = [[library.terms[k] for k in s] for s in short]
    f = sparse_field(rows, [guess.C[i, list(s)] for i, s in enumerate(short)], m)
    theta = f.init(0)
    coordinates = Coordinates(f.spec, theta)
    problem, mean = weighted_problem(f, found.windows, found.free, guess, data, options, coordinates)
    if found.failed.any():
        problem.leave_out(found.failed)
    x = coordinates.x(theta)
    here = problem.linearise(x, found.free)
    if here is None or not np.isfinite(here.g).all() or not is_gram(here.H):
        return None
    H = here.H / mean
    b = H @ x - here.g / mean
    column = [(i, k) for i, s in enumerate(short) for k in s]
    prior = np.array([library.prior[i, k] for i, k in column])
    cost = np.array([library.cost[k] for _, k in column])
    start = tuple(j for j, (i, k) in enumerate(column) if k in guess.chosen[i])
    bent = [j for j in start if library.terms[column[j][1]].bend is not None]
    known = np.array([*bent, *range(len(column), len(x))], dtype=np.intp)
    c = chosen_again(H, b, prior, cost, start, known, max(MOST * d, len(start)))
    C = np.zeros((d, P))
    for j in np.flatnonzero(c).tolist():
        C[column[j]] = c[j]
    chosen = [tuple(column[j][1] for j in np.flatnonzero(c).tolist() if column[j][0] == i) for i in range(d)]
    return replace(guess, chosen=chosen, C=C)


def chosen_again(H: Array, b: Array, prior: Array, cost: Array, start: Subset, known: NDArray[np.intp], most: int) -> Array:
    """(n,) coefficients of the best subset of columns, 0 for the others.

    The columns `known` take part in any case: terms that bend, and, after the n columns, their scales. They are eliminated.
    """
    n = len(prior)
    if not len(known):
        regression = Regression(H, b, prior, cost)
        return regression.coefficients(regression.search([start], most=most, every=FEW)[0].columns)
    whole = np.concatenate([prior, np.full(len(b) - n, SCALE)])
    rest = np.array([j for j in range(n) if j not in known], dtype=np.intp)
    inside = H[np.ix_(known, known)] + np.diag(whole[known])
    across = np.linalg.solve(inside, np.column_stack([H[np.ix_(known, rest)], b[known]]))
    left = H[np.ix_(rest, rest)] - H[np.ix_(rest, known)] @ across[:, :-1]
    regression = Regression(left, b[rest] - H[np.ix_(rest, known)] @ across[:, -1], prior[rest], cost[rest])
    others = tuple(k for k, j in enumerate(rest.tolist()) if j in start)
    best = regression.search([others], most=max(most - len(known), len(others)), every=FEW)[0].columns
    found = np.zeros(len(b))
    found[rest] = regression.coefficients(best)
    found[known] = across[:, -1] - across[:, :-1] @ found[rest]
    return found[:n]


def is_gram(H: Array) -> bool:
    """Whether a matrix is some J^T J but for rounding; that of chaos, with initial states eliminated, is rounding alone."""
    size = np.diag(H)
    if not np.isfinite(H).all() or not (size >= 0).all():
        return False
    root = np.sqrt(np.maximum(size, 1e-300))
    correlation = H / root[:, None] / root
    return bool((np.abs(correlation) < 1.0 + 1e-6).all() and np.linalg.eigvalsh(correlation)[0] > -1e-6)


def pursued(guess: Guess, library: Library, data: Data, options: dict[str, Any], most: Array) -> list[Fitted]:
    """Fits to windows, then to whole trajectories, with terms chosen again after each; the best of the longest that worked.

    Where whole trajectories cannot be followed at once, windows grow towards them. Nothing more is tried where the first
    windows leave more than the variances `most` (d,).
    """
    longest = max(len(t) for t in data.t) - 1
    sizes: list[int | None] = [FIRST]
    while 1.5 * GROWTH * (sizes[-1] or 0) < longest:
        sizes.append(GROWTH * (sizes[-1] or 0))
    sizes = sizes if longest > FIRST else []
    kept: list[Fitted] = []
    for intervals in sizes:
        here = _alternated(guess, library, data, intervals, options, 2)
        if not kept and not _settled(here, most) and (near := _nearer(guess, library, data, options, most)):
            here = _alternated(near.guess, near.library, data, intervals, options, 2)
        if not here or (kept and worse(here[0].guess.variance, kept[0].guess.variance)):
            return kept
        if not kept and (here[0].guess.variance > most).any():
            return []
        kept = here
        guess = kept[0].guess
        library = kept[0].library
        whole = _alternated(guess, library, data, None, options, ROUNDS)
        if whole and not worse(whole[0].guess.variance, kept[0].guess.variance):
            return whole
    return kept or _alternated(guess, library, data, None, options, ROUNDS)


def _nearer(guess: Guess, library: Library, data: Data, options: dict[str, Any], most: Array) -> Fitted | None:
    """A guess fitted to windows that grow up to the first; None where these leave more than the variances `most` (d,)."""
    found: Fitted | None = None
    for intervals in SHORTER:
        found = fitted(guess, library, data, intervals, options)
        if found is None or (found.guess.variance > most).any():
            return None
        guess, library = found.guess, found.library
    return found


def _settled(found: list[Fitted], most: Array) -> bool:
    """Whether a fit ended, or leaves no more than the variances `most` (d,)."""
    return bool(found) and (found[0].status == "converged" or bool((found[0].guess.variance <= most).all()))


def _alternated(
    guess: Guess,
    library: Library,
    data: Data,
    intervals: int | None,
    options: dict[str, Any],
    rounds: int,
) -> list[Fitted]:
    """Terms fitted and chosen again, in turns, until they no longer change or get less likely; the likeliest first."""
    found: list[Fitted] = []
    tried = set()
    for k in range(rounds):
        tried.add(tuple(guess.chosen))
        fit = fitted(guess, library, data, intervals, options)
        if fit is None:
            break
        found = sorted([*found, fit], key=lambda f: f.evidence, reverse=True)
        library = fit.library
        if k == rounds - 1 or fit.evidence < found[0].evidence:
            break
        again = reselected(fit, library, data, options)
        if again is None or tuple(again.chosen) in tried:
            break
        guess = again
    return found


def worse(new: Array, old: Array) -> bool:
    """Whether variances of residuals over longer windows are those of data that can no longer be followed."""
    return bool((new > 3.0 * old).any())


def weighted_problem(
    f: Any,
    cut: Windows,
    y0: Array,
    guess: Guess,
    data: Data,
    options: dict[str, Any],
    coordinates: Coordinates | None = None,
) -> tuple[ShootingProblem, float]:
    """(the residuals of windows, each weighted by its precision; the geometric mean of the variances of the noise)."""
    mean = float(np.exp(np.log(guess.variance).mean()))
    split = np.split(guess.shape, np.cumsum([len(t) for t in data.t])[:-1])
    shape = np.concatenate([split[i][a:b] for i, a, b in cut.source])
    weight = mean / (guess.variance * shape)
    return ShootingProblem(f, cut, y0, weight=weight, coordinates=coordinates, **options), mean


@dataclass(frozen=True)
class Candidate:
    """An equation that was found: the terms of each state, fitted.

    Attributes
    ----------
    terms : list of lists of Term
    coefficients : list of (n,) arrays
    fitted : Fitted
    whole : bool
        Whole trajectories are followed.
    cost : float
        -log of the prior odds of its terms.
    """

    terms: list[list[Term]]
    coefficients: list[Array]
    fitted: Fitted
    whole: bool
    cost: float


def equations(data: Data, smoothed: Smoothed, options: dict[str, Any], most: float = np.inf) -> list[Candidate]:
    """Equations with few terms for data, the likeliest first; none where a look at the integral form promises nothing.

    Parameters
    ----------
    data : Data
        In the user's units; all states are observed.
    smoothed : Smoothed
        The same, smoothed.
    options : dict
        Of `pynode.solve`.
    most : float, default infinity
        Guesses with more than so many times the terms that people write are not pursued, for some may go; with products of
        four, those with more terms than people write.
    """
    if not has_windows(data.y, FIRST).all():
        return []
    guesses: list[tuple[Guess, Library]] = []
    before: list[tuple[set[Term], float]] = []
    for terms in libraries(data, smoothed):
        library = Library.of(terms, data, smoothed)
        guess = first_guess(library, data, smoothed)
        if all(guess.score > score + GAIN for part, score in before if part < set(terms)):
            guesses.append((guess, library))
            before.append((set(terms), guess.score))
    found: list[Candidate] = []
    m = 0 if data.signal is None else data.signal.m
    for guess, library in guesses:
        large = len(library.terms) > MOST_TERMS or any(term.degree > THIRD for term in library.terms)
        chosen = [[library.terms[k] for k in s] for s in guess.chosen]
        if not crowded(chosen, m, min(most, 1.0) if large else most) and promising(guess, data, smoothed):
            found += candidates(guess, library, data, smoothed, options)
    return likeliest_first(found)


def candidates(
    guess: Guess, library: Library, data: Data, smoothed: Smoothed, options: dict[str, Any], misfit: float = MISFIT
) -> list[Candidate]:
    """What a guess leads to on trajectories; misfit: see MISFIT."""
    found = []
    for fit in pursued(guess, library, data, options, _limit(misfit, data, smoothed)):
        g = fit.guess
        chosen = [[fit.library.terms[k] for k in s] for s in g.chosen]
        cost = float(sum(library.cost[list(s)].sum() for s in g.chosen))
        whole = fit.intervals is None
        found.append(Candidate(chosen, [g.C[i, list(s)] for i, s in enumerate(g.chosen)], fit, whole, cost))
    return found


def likeliest_first(found: Iterable[Candidate]) -> list[Candidate]:
    """Candidates that follow whole trajectories first, all of them rather than some, then those of the highest evidence.

    The evidence of some says little of the others, whose states are those that were there before.
    """
    return sorted(found, key=lambda c: (c.whole, not c.fitted.failed.any(), c.fitted.evidence), reverse=True)


def promising(guess: Guess, data: Data, smoothed: Smoothed) -> bool:
    """Whether all terms together explain the integral form about as well as smoothing does."""
    return bool((guess.variance < _limit(HOPELESS, data, smoothed)).all())


def _limit(factor: float, data: Data, smoothed: Smoothed) -> Array:
    """(d,) variances of so many times the noise, or of what clean data may leave; no limit where data are few."""
    n = (~np.isnan(np.concatenate(data.y))).sum(axis=0)
    noise = np.where(n < MANY, np.inf, np.nan_to_num(smoothed.variance, nan=np.inf))
    return np.asarray(np.maximum(factor * noise, CLEAN * data.spread), dtype=np.float64)
