"""States, derivatives and noise from measurements alone, by local cubic regression.

Cleveland 1979, doi:10.2307/2286407.
"""

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
        States and their time derivatives. NaN for a state that is not observed in that trajectory; the slope
        is also NaN outside the times between which the state is observed.
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
        groups = _same_times(t, y, j)
        k, variance[j] = _best_neighbours(groups)
        for times, columns, members in groups:
            at = np.unique(np.concatenate([t[i] for i in members]))
            inside = (at >= times[0]) & (at <= times[-1]) & (len(times) > 1)
            near, to_value, to_slope = local_cubic(times, np.clip(at, times[0], times[-1]), k)
            value, slope = _apply(near, to_value, columns), _apply(near, to_slope, columns)
            slope[~inside] = np.nan
            for column, i in enumerate(members):
                rows = np.searchsorted(at, t[i])
                values[i][:, j], slopes[i][:, j] = value[rows, column], slope[rows, column]
    return Smoothed(values, slopes, variance)


def _same_times(t, y, j):
    """[(times (n,), values (n, c), trajectories (c,))]: those that observe state j at the same times."""
    groups: dict = {}
    for i, (times, x) in enumerate(zip(t, y, strict=True)):
        seen = ~np.isnan(x[:, j])
        if seen.any():
            times = times[seen]
            _, columns, members = groups.setdefault(times.tobytes(), (times, [], []))
            columns.append(x[seen, j])
            members.append(i)
    return [(times, np.stack(columns, axis=1), members) for times, columns, members in groups.values()]


def _best_neighbours(groups):
    """(number of neighbours, variance of the noise) with the least score of generalised cross-validation."""
    best = (np.inf, NEIGHBOURS[0], np.nan)
    longest = max((len(times) for times, _, _ in groups), default=0)
    for k in NEIGHBOURS:
        squares = freedom = n = 0.0
        for times, columns, _ in groups:
            if len(times) > DEGREE + 1:
                near, to_value, _ = local_cubic(times, times, k)
                leverage = to_value[near == np.arange(len(times))[:, None]]
                squares += ((columns - _apply(near, to_value, columns)) ** 2).sum()
                freedom += (1 - leverage).sum() * columns.shape[1]
                n += columns.size
        if freedom > 0.05 * n:
            best = min(best, (n * squares / freedom**2, k, squares / freedom))
        if k >= longest:
            break
    return best[1:]


def _apply(near, weights, columns):
    """(m, c): weighted sums of the near rows of columns (n, c)."""
    total = np.zeros((len(near), columns.shape[1]))
    for position in range(near.shape[1]):
        total += weights[:, position, None] * columns[near[:, position]]
    return total


def local_cubic(t, at, k):
    """Cubic polynomials through the k nearest points, with tricube weights, as linear maps of the values.

    Parameters
    ----------
    t : (n,) array, increasing
    at : (m,) array
        Where to evaluate, inside [t[0], t[-1]].
    k : int

    Returns
    -------
    near : (m, k) int array
        Indices of the points.
    to_value, to_slope : (m, k) arrays
        Weights of their values.
    """
    k = min(k, len(t))
    degree = min(DEGREE, max(k - 2, 1)) if k > 1 else 0
    start = np.clip(np.searchsorted(t, at) - k // 2, 0, len(t) - k)
    near = start[:, None] + np.arange(k)
    u = t[near] - at[:, None]
    width = 1.1 * np.abs(u).max(axis=1, keepdims=True)
    width[width == 0] = 1.0
    u /= width
    X = u[:, :, None] ** np.arange(degree + 1)  # (m, k, degree + 1)
    XW = X * ((1 - np.abs(u) ** 3) ** 3)[:, :, None]
    A = np.einsum("mkp,mkq->mpq", XW, X) + RIDGE * np.eye(degree + 1)
    maps = np.linalg.solve(A, XW.transpose(0, 2, 1))  # (m, degree + 1, k)
    return near, maps[:, 0], maps[:, 1] / width if degree else np.zeros_like(maps[:, 0])
