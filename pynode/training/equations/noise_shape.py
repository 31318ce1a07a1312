"""Noise that grows with the state: how its variance differs between readings, by what a fit leaves of them."""

import numpy as np
from numpy.typing import NDArray

from pynode.training.windows import Data

Array = NDArray[np.float64]

SHARES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)
"""Parts of the variance of the noise that may grow with the square of the state."""

SHAPE_GAIN = 4.0
"""Noise that grows with the state must be this much likelier, as a logarithm."""

SLOW_GAIN = 1.0
"""... and by this much where states are slow, ..."""

SLOW = 0.75
"""... in this part of the readings."""

TINY = 1e-300
"""The least mean square."""

ROUNDING = 1e-10
"""The smallest variance of residuals, in units of that of the data: solvers are not more exact."""


def noise_shares(residual: Array, y: Array, given: Array) -> tuple[Array, Array]:
    """((d,) shares of the noise's variance that grow with the square of states y, 0 where none does; (d,) means of y^2).

    given: weights (rows, d), all positive.
    """
    shares = np.zeros(y.shape[1])
    sizes = np.ones(y.shape[1])
    for j in range(y.shape[1]):
        seen = ~np.isnan(residual[:, j])
        r2 = given[seen, j] * residual[seen, j] ** 2
        size = y[seen, j] ** 2
        if len(r2) < 20 or not r2.any() or not size.any():
            continue
        sizes[j] = size.mean()
        size = size / size.mean()
        scores = [_likely(r2, size, share) for share in SHARES]
        best = int(np.argmax(scores))
        if scores[best] > scores[0] + SHAPE_GAIN:
            shares[j] = SHARES[best]
    return shares, sizes


def grows_where_slow(residual: Array, y: Array, speed: Array) -> NDArray[np.bool_]:
    """(d,) which states' noise grows by the slower readings alone; True where it does not grow.

    A model that misses fast jumps, which end far from 0, leaves what looks like growing noise, but not where it is slow.

    Parameters
    ----------
    residual, y, speed : (rows, d) arrays
        What is left of the data, and the states there with their derivatives.
    """
    shares, sizes = noise_shares(residual, y, np.ones(y.shape))
    grows = np.ones(y.shape[1], dtype=bool)
    for j in np.flatnonzero(shares).tolist():
        seen = ~np.isnan(residual[:, j])
        slow = seen & (np.abs(speed[:, j]) <= np.quantile(np.abs(speed[seen, j]), SLOW))
        r2, size = residual[slow, j] ** 2, y[slow, j] ** 2 / sizes[j]
        grows[j] = _likely(r2, size, shares[j]) > _likely(r2, size, 0.0) + SLOW_GAIN
    return grows


def _likely(r2: Array, size: Array, share: float) -> float:
    """Log likelihood of squares of residuals, this share of their variance growing with size."""
    v = 1.0 - share + share * size
    return float(-0.5 * (np.log(v).sum() + len(v) * np.log(max(float(np.mean(r2 / v)), TINY))))


def weights_of(y: Array, weight: list[Array] | None) -> Array:
    """(rows, d) the user's weights of the entries of states y, all positive: 1 where there are none, or 0."""
    given = np.ones(y.shape) if weight is None else np.concatenate(weight)
    return np.where(given > 0, given, 1.0)


def noise_shape(residual: Array, y: Array, weight: list[Array] | None = None) -> Array:
    """(rows, d) the variance of entries beside that of one of weight 1: how it grows with the square of states y.

    On average 1 over the user's weights; just that where it does not grow. Residuals are those of the data.
    """
    given = weights_of(y, weight)
    return grown(y, *noise_shares(residual, y, given)) / given


def shape_along(states: Array, data: Data) -> Array:
    """`noise_shape` of what states (rows, d) leave of the data; rounding has none."""
    residual = np.concatenate(data.y) - states
    exact = np.nansum(residual**2, axis=0) < ROUNDING * data.spread * (~np.isnan(residual)).sum(axis=0)
    return noise_shape(np.where(exact, 0.0, residual), states, data.weight)


def grown(y: Array, shares: Array, sizes: Array) -> Array:
    """(rows, d) the variance at states y of noise as `noise_shares` finds it, 1 on average."""
    return np.where(shares > 0, 1.0 - shares + shares * (y**2 / sizes), 1.0)
