"""Equations averaged over their terms: what is known of coefficients where the terms are not known for sure.

The linearised residuals of whole trajectories are a linear regression on the coefficients of all candidate terms, so each
set of terms has a Gaussian posterior and an evidence in closed form. Sets within a window of the best share the posterior in
proportion to their evidence (Occam's window: Madigan and Raftery 1994, doi:10.1080/01621459.1994.10476894). Where the true
right-hand side is no sum of candidates, no set is right: therefore the best one takes part once more with all other terms
weakly there, their coefficients normal about 0 with a small deviation that the evidence weighs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from pynode.fields.field import Field
from pynode.training.equations import FEW, MOST, Guess, is_gram, noise_shape, weighted_problem
from pynode.training.library import Library
from pynode.training.subsets import CLOSE, Regression, Subset
from pynode.training.terms import Term, sparse_field
from pynode.training.windows import Data

Array = NDArray[np.float64]

WEAK = 10.0 ** np.arange(-4.0, -0.4, 0.5)
"""Deviations of weak terms that are tried, over those of the priors of terms that are there ..."""

DOUBT = 0.5
"""... and the prior probability that there are any."""

LARGEST = 300
"""With more coefficients than this the equations are not averaged: the search would take longer than the fit."""


@dataclass(frozen=True)
class Averaged:
    """An equation with all candidate terms, those that it has not being 0.

    Attributes
    ----------
    field : Field
        A parameter for each term of each state.
    theta : (n,) array
        The coefficients of the equation that was chosen, 0 for terms that it has not.
    covariance : (n, n) array
        Mean squares about theta, over the sets of terms.
    share : float
        The posterior probability of the terms that were chosen.
    """

    field: Field
    theta: Array
    covariance: Array
    share: float


def averaged(
    library: Library,
    C: Array,
    data: Data,
    states: Sequence[Array],
    variance: Array,
    options: dict[str, Any],
    exact: Mapping[int, Term] | None = None,
) -> Averaged | None:
    """The average over sets of terms about a fitted equation; None where it cannot be had.

    Parameters
    ----------
    library : Library
        The candidate terms.
    C : (d, terms) array
        Coefficients of the equation, 0 for terms that it has not.
    data : Data
        What it was fitted to.
    states : list of (T_i, d) arrays
        Along its whole trajectories.
    variance : (d,) array
        Of the noise.
    options : dict
        Of `pynode.solve`.
    exact : mapping of int to Term, optional
        States whose derivative is this term: nothing is estimated, and no other terms are candidates.
    """
    fixed = exact or {}
    d, P = C.shape
    rows = [i for i in range(d) if i not in fixed]
    n = len(rows) * P
    if not 0 < n <= LARGEST:
        return None
    m = 0 if data.signal is None else data.signal.m
    field = sparse_field([[fixed[i]] if i in fixed else library.terms for i in range(d)], list(C), m, exact=fixed)
    everything: list[Subset] = [tuple(range(P))] * d
    model = np.concatenate(list(states))
    shape = noise_shape(np.concatenate(data.y) - model, model)
    guess = Guess(everything, C, list(states), variance, shape, everything, 0.0)
    cut = data.windows(None)
    free = cut.initial(guess.states)
    problem, mean = weighted_problem(field, cut, free, guess, data, options)
    theta = C[rows].ravel()
    here = problem.linearise(theta, free)
    if here is None or not np.isfinite(here.g).all() or not is_gram(here.H):
        return None
    H = here.H / mean
    b = H @ theta - here.g / mean
    prior = library.prior[rows].ravel()
    cost = np.tile(library.cost, len(rows))
    regression = Regression(H, b, prior, cost)
    chosen = tuple(np.flatnonzero(theta).tolist())
    regression.search([chosen], most=max(MOST * d, len(chosen)), every=FEW)
    known = regression.known
    best = max(known, key=known.__getitem__)
    sets = [s for s in known if known[s] > known[best] - CLOSE]
    weak = [_weakly(H, b, _precisions(prior, best, tau), known[best], cost[list(best)].sum()) for tau in WEAK.tolist()]
    scores = [known[s] + np.log(1 - DOUBT) for s in sets] + [part[0] + np.log(DOUBT / len(WEAK)) for part in weak]
    weight = np.exp(np.array(scores) - max(scores))
    weight /= weight.sum()
    parts = [_given(H, regression, prior, s) for s in sets] + [part[1:] for part in weak]
    covariance = np.zeros((n, n))
    for w, (mode, spread) in zip(weight.tolist(), parts, strict=True):
        covariance += w * (spread + np.outer(mode - theta, mode - theta))
    share = sum(w for w, s in zip(weight.tolist(), sets, strict=False) if s == chosen)
    return Averaged(field, theta, covariance, float(share))


def _precisions(prior: Array, best: Subset, tau: float) -> Array:
    """Those of priors with terms beyond the best set weakly there."""
    found = prior / tau**2
    found[list(best)] = prior[list(best)]
    return found


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
