"""Equations averaged over their terms, and right-hand sides over what they lack: what is known where a form is not sure.

The linearised residuals of whole trajectories are a linear regression on the coefficients of all candidate terms, so each
set of terms has a Gaussian posterior and an evidence in closed form. Sets within a window of the best share the posterior in
proportion to their evidence (Occam's window: Madigan and Raftery 1994, doi:10.1080/01621459.1994.10476894). Where the true
right-hand side is no sum of candidates, no set is right: therefore the best one takes part twice more, with all other terms
weakly there, their coefficients normal about 0, and with bumps along the data (`discrepancy.py`). The evidence weighs how
large both are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from pynode.fields.field import Field
from pynode.training.equations.discrepancy import Bumps
from pynode.training.equations.library import SLOWEST, Library
from pynode.training.equations.noise_shape import noise_shape
from pynode.training.equations.numbers import Numbers, velocities
from pynode.training.equations.search import FEW, MOST, Guess, is_gram, weighted_problem
from pynode.training.equations.sparse_field import sparse_field
from pynode.training.equations.subsets import CLOSE, Regression, Subset
from pynode.training.equations.terms import EVERYWHERE, Term
from pynode.training.windows import Data

Array = NDArray[np.float64]

WEAK = 10.0 ** np.arange(-4.0, -0.4, 0.5)
"""Deviations of weak terms that are tried, over those of the priors of terms that are there."""

HEIGHTS = 10.0 ** np.arange(-3.0, 0.1, 0.5)
"""The same of bumps, over the root mean squares of the derivatives."""

DOUBT = 0.5
"""The prior probability that there are weak terms or bumps."""

LARGEST = 300
"""With more coefficients than this equations are not averaged over: the search would take longer than the fit."""

SIMPLER: tuple[Callable[[Term], bool], ...] = (
    lambda term: True,
    lambda term: not (term.function and term.degree),
    lambda term: not term.function,
)
"""Candidates that are averaged over: all; where these are too many, without functions times variables; products alone."""


@dataclass(frozen=True)
class Averaged:
    """An equation with all candidate terms, or a network, and bumps; what it has not is 0.

    Attributes
    ----------
    field : Field
        A parameter for each term of each state, or those of a field whose form is taken as known, then the heights of bumps.
    theta : (n,) array
        The coefficients of the equation that was chosen, or of the field, 0 for what it has not.
    covariance : (n, n) array
        Mean squares about theta, over all that is averaged.
    share : float
        The posterior probability of the terms that were chosen; of a network, that it lacks nothing.
    """

    field: Field
    theta: Array
    covariance: Array
    share: float


def averaged(
    library: Library,
    which: NDArray[np.intp],
    C: Array,
    data: Data,
    states: Sequence[Array],
    variance: Array,
    options: dict[str, Any],
) -> Averaged | None:
    """The average over sets of terms about a fitted equation; None where it cannot be had.

    Parameters
    ----------
    library : Library
        The candidate terms.
    which, C : (d, terms) arrays
        The numbers and coefficients of the equation, as `numbers_in` gives them. Numbers that are the same, or known, stay
        so; a state whose derivative is another state has no candidates.
    data : Data
        What it was fitted to.
    states : list of (T_i, d) arrays
        Along its whole trajectories.
    variance : (d,) array
        Of the noise.
    options : dict
        Of `pynode.solve`.
    """
    made = _with_candidates(library, which, C, 0 if data.signal is None else data.signal.m)
    if made is None:
        return None
    field, rows, prior, cost = made
    theta = field.init(0)
    n = len(theta)
    model = np.concatenate(list(states))
    shape = noise_shape(np.concatenate(data.y) - model, model, data.weight)
    here = Linearised.of(field, theta, data, states, variance, shape, options, rows)
    if here is None:
        return None
    regression = Regression(here.H[:n, :n], here.b[:n], prior, cost)
    chosen = tuple(np.flatnonzero(theta).tolist())
    regression.search([chosen], most=max(MOST * data.d, len(chosen)), every=FEW)
    known = regression.known
    best = max(known, key=known.__getitem__)
    sets = [s for s in known if known[s] > known[best] - CLOSE]
    every = np.arange(n)
    parts = [Part(known[s] + np.log(1 - DOUBT), every, *_given(here.H[:n, :n], regression, prior, s)) for s in sets]
    own = np.array(best, dtype=np.intp)
    charge = float(cost[own].sum())
    for tau in WEAK.tolist():
        precision = prior / tau**2
        precision[own] = prior[own]
        parts.append(here.weakly(every, precision, known[best], charge, np.log(0.5 * DOUBT / len(WEAK))))
    parts += here.lacking(own, prior[own], known[best], charge, np.log(0.5 * DOUBT))
    return here.mixed(parts, [s == chosen for s in sets])


def _with_candidates(
    library: Library, which: NDArray[np.intp], C: Array, m: int
) -> tuple[Field, list[int], Array, Array] | None:
    """An equation with all candidate terms beside its own, or simpler ones where these are too many; None where those are.

    Returns
    -------
    field : Field
        Its parameters start where the equation has them.
    rows : list of int
        The states that have candidates.
    prior, cost : (n,) arrays
        Of the parameters; see `Library`.
    """
    d = len(C)
    sure = velocities(which, C, library.terms)
    rows = [i for i in range(d) if i not in sure]
    function = {term.function for k, term in enumerate(library.terms) if C[:, k].any()} | EVERYWHERE
    for wanted in SIMPLER:
        place = [
            (i, k)
            for i in range(d)
            for k, term in enumerate(library.terms)
            if C[i, k] or (i in rows and term.function in function and wanted(term))
        ]
        numbers = Numbers.shared([int(which[at]) for at in place], [float(C[at]) for at in place])
        if numbers.n <= LARGEST:
            break
    if not 0 < numbers.n <= LARGEST:
        return None
    columns = [[k for row, k in place if row == i] for i in range(d)]
    terms = [[library.terms[k] for k in row] for row in columns]
    field = sparse_field(terms, [C[i, row] for i, row in enumerate(columns)], m, numbers=numbers)
    prior, cost = np.zeros(numbers.n), np.zeros(numbers.n)
    for number, at in reversed(list(zip(numbers.which, place, strict=True))):
        if number >= 0:
            prior[number] = library.prior[at]
            cost[number] += library.cost[at[1]]
    return field, rows, prior, cost


def about(
    field: Field,
    theta: Array,
    prior: Array,
    data: Data,
    states: Sequence[Array],
    variance: Array,
    options: dict[str, Any],
) -> Averaged | None:
    """The average over what a fitted right-hand side may lack, its form being taken as known otherwise; None as above.

    Parameters
    ----------
    field, theta : Field, (p,) array
        The right-hand side, a network or an equation, and its parameters.
    prior : (p,) array
        Precisions of their priors.
    data, states, variance, options
        As for `averaged`.
    """
    even = np.ones((sum(map(len, data.t)), field.d))
    here = Linearised.of(field, theta, data, states, variance, even, options, range(field.d))
    if here is None:
        return None
    own = np.arange(len(theta))
    sure = here.weakly(own, prior, 0.0, 0.0, np.log(1 - DOUBT))
    return here.mixed([sure, *here.lacking(own, prior, sure.score, 0.0, np.log(DOUBT))], [True])


class Part(NamedTuple):
    """One of the models that are averaged over.

    Attributes
    ----------
    score : float
        Log evidence and prior odds.
    which : (k,) int array
        The coefficients that it has.
    mode, covariance : (k,), (k, k) arrays
        What they are.
    """

    score: float
    which: NDArray[np.intp]
    mode: Array
    covariance: Array


@dataclass(frozen=True)
class Linearised:
    """The residuals of whole trajectories as a regression on coefficients, those of what an equation lacks after its own.

    Attributes
    ----------
    field : Field
        With bumps beside the equation.
    theta : (n,) array
        Its parameters, 0 for the bumps.
    H, b : (n, n), (n,) arrays
        X^T X and X^T y over the variance of the noise.
    flat : (m,) array
        Precisions of the bumps' coefficients with which their sum is as large as the derivative is.
    """

    field: Field
    theta: Array
    H: Array
    b: Array
    flat: Array

    @classmethod
    def of(
        cls,
        base: Field,
        theta: Array,
        data: Data,
        states: Sequence[Array],
        variance: Array,
        shape: Array,
        options: dict[str, Any],
        rows: Sequence[int],
    ) -> "Linearised | None":
        """About a field with parameters theta, bumps being in the derivatives of some states; None where it is rounding.

        shape (rows of the data, d): how the variance of the noise varies.
        """
        bumps = Bumps.along(data, states, len(rows))
        field = bumps.beside(base, rows)
        whole = np.append(theta, np.zeros(len(rows) * len(bumps.centres)))
        guess = Guess([], np.zeros((0, 0)), list(states), variance, shape, [], 0.0)
        cut = data.windows(None)
        free = cut.initial(guess.states)
        problem, mean = weighted_problem(field, cut, free, guess, data, options)
        here = problem.linearise(whole, free)
        if here is None or not np.isfinite(here.g).all() or not is_gram(here.H):
            return None
        H = here.H / mean
        slopes = base(np.concatenate(data.t), np.concatenate(list(states)), theta, data.inputs_at_rows())
        rates = np.sqrt(np.mean(np.asarray(slopes) ** 2, axis=0))
        span = max(times[-1] - times[0] for times in data.t)
        rates = np.maximum(rates, SLOWEST * np.sqrt(data.spread) / span)[list(rows)]
        flat = np.repeat((bumps.size / rates) ** 2, len(bumps.centres))
        return cls(field, whole, H, H @ whole - here.g / mean, flat)

    def weakly(self, which: NDArray[np.intp], precision: Array, best: float, cost: float, odds: float) -> Part:
        """The part of some of the coefficients, the others being 0; its score is lower than `best` where it is rounding."""
        score, mode, spread = _weakly(self.H[np.ix_(which, which)], self.b[which], precision, best, cost)
        return Part(score + odds, which, mode, spread)

    def lacking(self, own: NDArray[np.intp], prior: Array, best: float, cost: float, odds: float) -> list[Part]:
        """The same with bumps of each height beside some coefficients of the equation."""
        which = np.concatenate([own, np.arange(len(self.theta) - len(self.flat), len(self.theta))])
        each = odds - np.log(len(HEIGHTS))
        return [self.weakly(which, np.concatenate([prior, self.flat / h**2]), best, cost, each) for h in HEIGHTS.tolist()]

    def mixed(self, parts: Sequence[Part], chosen: Sequence[bool]) -> Averaged:
        """The average of the parts; chosen: which of the first ones are the equation as it was found."""
        scores = np.array([part.score for part in parts])
        weight = np.exp(scores - scores.max())
        weight /= weight.sum()
        covariance = np.zeros(self.H.shape)
        for w, part in zip(weight.tolist(), parts, strict=True):
            off = -self.theta
            off[part.which] += part.mode
            covariance += w * np.outer(off, off)
            covariance[np.ix_(part.which, part.which)] += w * part.covariance
        share = sum(w for w, is_it in zip(weight.tolist(), chosen, strict=False) if is_it)
        return Averaged(self.field, self.theta, covariance, float(share))


def _given(H: Array, regression: Regression, prior: Array, s: Subset) -> tuple[Array, Array]:
    """(mode, covariance) of the coefficients, given the terms that are there."""
    spread = np.zeros(H.shape)
    which = list(s)
    if which:
        root = np.sqrt(np.diag(H)[which] + prior[which])
        inside = (H[np.ix_(which, which)] + np.diag(prior[which])) / np.outer(root, root)
        spread[np.ix_(which, which)] = np.linalg.pinv(inside, hermitian=True) / np.outer(root, root)
    return regression.coefficients(s), spread


def _weakly(H: Array, b: Array, precision: Array, best: float, cost: float) -> tuple[float, Array, Array]:
    """(log evidence, mode, covariance) with all terms, given the precisions of their priors; -inf where it is rounding."""
    n = len(b)
    scale = 1.0 / np.sqrt(precision)
    K = np.eye(n) + scale[:, None] * H * scale
    try:
        factor = np.linalg.cholesky(K)
    except np.linalg.LinAlgError:
        return best - 1e3, np.zeros(n), np.zeros((n, n))
    half = solve_triangular(factor, scale * b, lower=True)
    root = solve_triangular(factor, np.diag(scale), lower=True)
    evidence = 0.5 * float(half @ half) - float(np.log(np.diag(factor)).sum()) - cost
    return evidence, root.T @ half, root.T @ root
