"""How well a fit explains its data for what it costs: likelihood, information criteria, evidence.

Counted is what the data determine: parameters (those with a prior by their effective number), initial states that were
estimated, and the parameters of the error models.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pynode.optim.posterior import LaplacePosterior
from pynode.training.error_models import density

Array = NDArray[np.float64]


def log_likelihood(
    residual: Array, weight: Array | None = None, noise: str = "gaussian", deviation: Array | None = None
) -> float:
    """The logarithm of the likelihood of independent readings.

    Parameters
    ----------
    residual : (n, d) array
        Readings minus predictions; NaN: not read.
    weight : (n, d) array, optional
        Relative precisions.
    noise : {"gaussian", "huber", "student"}
        The distribution.
    deviation : (d,) array, optional
        The scale of the errors of each column. Gaussian errors have the most likely one, which is their root mean square.

    Returns
    -------
    float
        Infinite where residuals are exactly 0.
    """
    total = 0.0
    for c in range(residual.shape[1]):
        seen = ~np.isnan(residual[:, c])
        w = np.ones(int(seen.sum())) if weight is None else weight[seen, c]
        r = residual[seen, c][w > 0]
        w = w[w > 0]
        if not len(r):
            continue
        own = deviation is not None and noise != "gaussian"
        scale = float(deviation[c]) if own and deviation is not None else float(np.sqrt(np.mean(w * r * r)))
        if scale == 0:
            return np.inf
        s = scale / np.sqrt(w)
        total -= 0.5 * float((density(noise).deviance(r / s) + 2 * np.log(s)).sum())
    return total


def akaike(log_likelihood: float, k: float) -> float:
    """Akaike's information criterion, -2 log L + 2 k, of a fit with k estimated numbers (Akaike 1974)."""
    return -2.0 * log_likelihood + 2.0 * k


def akaike_corrected(log_likelihood: float, k: float, n: float) -> float:
    """AICc = AIC + 2 k (k + 1) / (n - k - 1) for n readings (Hurvich and Tsai 1989); infinite where n <= k + 1."""
    left = n - k - 1.0
    return akaike(log_likelihood, k) + (2.0 * k * (k + 1.0) / left if left > 0 else np.inf) if np.isfinite(k) else np.nan


def bayes(log_likelihood: float, k: float, n: float) -> float:
    """The Bayesian information criterion, -2 log L + k log n (Schwarz 1978)."""
    return -2.0 * log_likelihood + k * float(np.log(n))


def log_evidence(
    log_likelihood: float, state: LaplacePosterior, groups: Sequence[NDArray[np.intp]], others: float, n: float
) -> float:
    """log p(data) by Laplace's approximation.

    Parameters that have a prior are integrated over it. All other numbers have none; for them it is the unit-information
    prior (Kass and Wasserman 1995, J. Am. Stat. Assoc. 90, 928), which is worth as much as one of the n readings: each
    costs log(n) / 2. Without any prior the result is -BIC / 2.

    Parameters
    ----------
    log_likelihood : float
        That of the readings.
    state : LaplacePosterior
        The fit.
    groups : list of int arrays
        Coordinates that have a prior, of the precision state.alpha.
    others : float
        How many numbers are estimated besides those.
    n : float
        Readings.

    Returns
    -------
    float
    """
    value = log_likelihood - 0.5 * others * float(np.log(n))
    which = np.concatenate(list(groups)) if len(groups) else np.empty(0, dtype=np.intp)
    if not len(which):
        return value
    if state.covariance is None:
        return np.nan
    alpha = state.alpha[which]
    _, logdet = np.linalg.slogdet(state.covariance[np.ix_(which, which)])
    pull = float((alpha * state.theta[which] ** 2).sum())
    return value + 0.5 * (float(np.log(alpha).sum()) - pull + float(logdet))
