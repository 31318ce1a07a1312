"""The state of Levenberg-Marquardt, in the end a Gaussian approximation of the posterior (Laplace)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class LaplacePosterior:
    """The state of Levenberg-Marquardt and, in the end, its result: a Gaussian approximation of the posterior.

    Attributes
    ----------
    theta : (p,) array
        The parameters: the mean.
    free : (B, d) array or None
        Free initial states.
    alpha : (p,) array
        Precisions of the Gaussian prior.
    beta : float
        Precision of the noise (in units of the weights).
    gamma : float
        Effective number of parameters.
    loss : float
        Weighted sum of squares E.
    covariance : (p, p) array or None
        The covariance of theta (Laplace approximation).
    free_gain, free_covariance : (B, d, p), (B, d, d) or None
        How the free states vary: d free = -free_gain d theta + noise with the covariance free_covariance.
    noise : (d,) array or None
        Standard deviation of the noise of each state.
    least : float
        Losses below this are rounding: beta is estimated from at least this.
    status : {"converged", "max_iter", "stalled", "stopped", "failed"}
        How the descent ended.
    n_iter, n_evaluations : int
        Steps taken, and points at which the problem was evaluated.
    left : float
        Where it stalled: the part by which the linearised problem promised to lower the objective.
    estimated : bool
        alpha and beta were estimated in the last descent.
    logdet : float
        Of the covariance, where that is too large to be formed.
    """

    theta: Array
    free: Array | None
    alpha: Array
    beta: float
    gamma: float = np.nan
    loss: float = np.inf
    covariance: Array | None = None
    free_gain: Array | None = None
    free_covariance: Array | None = None
    noise: Array | None = None
    least: float = 1e-300
    status: str = "max_iter"
    n_iter: int = 0
    n_evaluations: int = 0
    left: float = 0.0
    estimated: bool = False
    logdet: float = np.nan


def objective(state: LaplacePosterior, loss: float) -> float:
    """What is minimised, where the weighted sum of squares is `loss`."""
    return state.beta * loss + float((state.alpha * state.theta**2).sum())
