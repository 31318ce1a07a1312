"""Least squares condensed to normal equations, and BLAS on as many threads as pay for small matrices."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.linalg.blas import dsyrk

LARGE = 600
"""From this size of matrix on, BLAS may use the threads it wants."""


@cache
def _controller():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def small_matrices(size):
    """A context in which BLAS works on matrices of this size with as many threads as pay."""
    return _controller().limit(limits=1 if size < LARGE else None, user_api="blas")


@dataclass(frozen=True)
class Linearised:
    """Normal equations at a point, for the weighted sum of squares E = sum (w r)^2.

    Attributes
    ----------
    loss : float
        E.
    H, g : (n, n), (n,)
        J^T J and J^T r of the shared coordinates, with the free states eliminated.
    step_free : callable
        step of x (n,) -> the best step of the free states (B, d) with it; None where there are none.
    gain_free : float
        What the free states alone gain: z^T A^-1 z, part of the decrease that a step predicts.
    free_gain, free_precision, free_gradient : (B, d, n), (B, d, d), (B, d) or None
        How the best free states follow x, d free = -free_gain d x, and J^T J and J^T r of the free states.
    """

    loss: float
    H: np.ndarray
    g: np.ndarray
    step_free: object = None
    gain_free: float = 0.0
    free_gain: np.ndarray | None = None
    free_precision: np.ndarray | None = None
    free_gradient: np.ndarray | None = None


def gram(J):
    """J^T J, at half the work of a product."""
    lower = dsyrk(1.0, np.ascontiguousarray(J).T, lower=1)
    return lower + np.tril(lower, -1).T


class Residuals:
    """Residuals of your own: function(theta) -> (r (n,), J (n, p))."""

    n_free = 0

    def __init__(self, function, theta):
        self.function = function
        r, J = self._at(np.asarray(theta, dtype=np.float64))
        if r.ndim != 1 or J.shape != (len(r), len(theta)):
            raise ValueError(f"residuals(theta) must give r (n,) and J (n, {len(theta)}), got {r.shape} and {J.shape}")
        if not (np.isfinite(r).all() and np.isfinite(J).all()):
            raise ValueError("the residuals or their Jacobian are not finite at theta0: start elsewhere")
        self.n_observed = len(r)

    def _at(self, theta):
        r, J = self.function(theta)
        return np.asarray(r, dtype=np.float64), np.asarray(J, dtype=np.float64)

    def loss(self, theta, free=None):
        r, _ = self._at(theta)
        loss = float(r @ r)
        return loss if np.isfinite(loss) else np.inf

    def linearise(self, theta, free=None):
        r, J = self._at(theta)
        if not (np.isfinite(r).all() and np.isfinite(J).all()):
            return None
        return Linearised(float(r @ r), gram(J), J.T @ r)
