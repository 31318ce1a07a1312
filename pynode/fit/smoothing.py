"""States, derivatives and noise from measurements alone: local cubic regression (Cleveland 1979, doi:10.2307/2286407)."""

from dataclasses import dataclass

import numpy as np

NEIGHBOURS = (6, 8, 11, 15, 21, 29, 41, 57)
"""Numbers of neighbours that are tried."""

DEGREE = 3
RIDGE = 1e-10


@dataclass(frozen=True)
class Smoothed:
    """What `smooth` returns; lists hold one array for each trajectory.

    Attributes
    ----------
    y, slope : lists of (T_i, d) arrays
        States and their time derivatives. NaN for a state that is not observed in that trajectory; the slope is
        also NaN outside the times between which the state is observed.
    variance : (d,) array
        Of the measurement noise; NaN where the data are too few to tell.
    """

    y: list
    slope: list
    variance: np.ndarray


def smooth(t, y):
    """Smooth trajectories; for each state the number of neighbours is chosen by generalised cross-validation.

    Parameters
    ----------
    t : list of (T_i,) arrays, increasing
    y : list of (T_i, d) arrays
        NaN: not observed.

    Returns
    -------
    Smoothed
    """
    d = y[0].shape[1]
    values, slopes = [np.full(x.shape, np.nan) for x in y], [np.full(x.shape, np.nan) for x in y]
    variance = np.full(d, np.nan)
    for j in range(d):
        seen = [~np.isnan(x[:, j]) for x in y]
        series = [(t[i][s], y[i][s, j]) for i, s in enumerate(seen)]
        k, variance[j] = _best_neighbours(series)
        for i, (times, x) in enumerate(series):
            if len(times):
                values[i][:, j], slopes[i][:, j], _ = local_cubic(times, x, np.clip(t[i], times[0], times[-1]), k)
                slopes[i][(t[i] < times[0]) | (t[i] > times[-1]), j] = np.nan
            if len(times) < 2:
                slopes[i][:, j] = np.nan
    return Smoothed(values, slopes, variance)


def _best_neighbours(series):
    """(number of neighbours, variance of the noise) with the least generalised cross-validation score of all series."""
    best = (np.inf, NEIGHBOURS[0], np.nan)
    longest = max(len(times) for times, _ in series)
    for k in NEIGHBOURS:
        squares = freedom = n = 0.0
        for times, x in series:
            if len(times) > DEGREE + 1:
                fitted, _, leverage = local_cubic(times, x, times, k)
                squares += ((x - fitted) ** 2).sum()
                freedom += (1 - leverage).sum()
                n += len(times)
        if freedom > 0.05 * n:
            best = min(best, (n * squares / freedom**2, k, squares / freedom))
        if k >= longest:
            break
    return best[1:]


def local_cubic(t, y, at, k):
    """Cubic polynomials through the k nearest points, with tricube weights.

    Parameters
    ----------
    t : (n,) array, increasing
    y : (n,) array
    at : (m,) array
        Where to evaluate, inside [t[0], t[-1]].
    k : int

    Returns
    -------
    value, slope : (m,) arrays
    leverage : (m,) array
        d value / d y of a point at the same place.
    """
    k = min(k, len(t))
    degree = min(DEGREE, max(k - 2, 1)) if k > 1 else 0
    start = np.clip(np.searchsorted(t, at) - k // 2, 0, len(t) - k)
    near = start[:, None] + np.arange(k)                                    # (m, k)
    u = t[near] - at[:, None]
    width = 1.1 * np.abs(u).max(axis=1, keepdims=True)
    width[width == 0] = 1.0
    u /= width
    X = u[:, :, None] ** np.arange(degree + 1)                              # (m, k, degree + 1)
    XW = X * ((1 - np.abs(u) ** 3) ** 3)[:, :, None]
    A = np.einsum("mkp,mkq->mpq", XW, X) + RIDGE * np.eye(degree + 1)
    right = np.stack([np.einsum("mkp,mk->mp", XW, y[near]), np.eye(degree + 1)[[0]].repeat(len(at), 0)], axis=2)
    c = np.linalg.solve(A, right)                                           # (m, degree + 1, 2)
    slope = c[:, 1, 0] / width[:, 0] if degree else np.zeros(len(at))
    return c[:, 0, 0], slope, c[:, 0, 1]
