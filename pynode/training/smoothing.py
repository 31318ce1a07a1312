"""States, derivatives and noise from measurements alone, by local cubic regression.

Cleveland 1979, doi:10.2307/2286407.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pynode.fields.field import Field, run
from pynode.fields.transforms import jacobian
from pynode.optim.batched import minimise_each

Array = NDArray[np.float64]

Indices = NDArray[np.intp]

NEIGHBOURS = (6, 8, 11, 15, 21, 29, 41, 57)
"""Numbers of neighbours that are tried."""

DEGREE = 3
"""The degree of the local polynomials."""

RIDGE = 1e-10
"""Added to the diagonal of their normal equations."""

ROWS = 100_000
"""How many times are worked on together, and on how many the number of neighbours is chosen: a limit on memory."""


@dataclass(frozen=True)
class Smoothed:
    """Smoothed trajectories; lists hold one array for each trajectory.

    Attributes
    ----------
    y, slope : lists of (T_i, d) arrays
        States and their time derivatives. NaN for a state that is not observed in that trajectory; the slope
        is also NaN outside the times between which the state is observed.
    variance : (d,) array
        Variance of the measurement noise; NaN where the data are too few to estimate it.
    """

    y: list[Array]
    slope: list[Array]
    variance: Array


def smooth(t: Sequence[Array], y: Sequence[Array]) -> Smoothed:
    """Smooth trajectories; for each state the number of neighbours is chosen by generalised cross-validation.

    Parameters
    ----------
    t : list of (T_i,) arrays, increasing
        Times.
    y : list of (T_i, d) arrays
        Measured states; NaN: not observed.

    Returns
    -------
    Smoothed
    """
    d = y[0].shape[1]
    values = [np.full(x.shape, np.nan) for x in y]
    slopes = [np.full(x.shape, np.nan) for x in y]
    variance = np.full(d, np.nan)
    for j in range(d):
        batches = _batches(t, y, j)
        k, variance[j] = _best_neighbours(batches)
        for batch in batches:
            at = [np.unique(np.concatenate([t[i] for i in members])) for members in batch.members]
            near, to_value, to_slope = batch.maps(k, at)
            value = _apply(near, to_value, batch.values)
            slope = _apply(near, to_slope, batch.values)
            row = 0
            for times, points, members in zip(batch.times, at, batch.members, strict=True):
                here = slice(row, row + len(points))
                slope[here][(points < times[0]) | (points > times[-1]) | (len(times) < 2)] = np.nan
                for column, i in enumerate(members):
                    rows = row + np.searchsorted(points, t[i])
                    values[i][:, j] = value[rows, column]
                    slopes[i][:, j] = slope[rows, column]
                row += len(points)
    return Smoothed(values, slopes, variance)


@dataclass(frozen=True)
class _Batch:
    """Series of one state that are smoothed together.

    Either one series with several columns (trajectories with the same times), or many series with one column.

    Attributes
    ----------
    times : list of (n_g,) arrays
        The times of each series.
    values : (sum n_g, c) array
        The measurements, one series after the other.
    members : list of lists of int
        The trajectories that the columns of each series belong to.
    """

    times: list[Array]
    values: Array
    members: list[list[int]]

    def maps(self, k: int, at: Sequence[Array] | None = None) -> tuple[Indices, Array, Array]:
        """`_local_cubic` of all series one after the other, at these times of each series (default: their own)."""
        k = min(k, min(len(times) for times in self.times))
        offset = 0
        starts = []
        for times, points in zip(self.times, self.times if at is None else at, strict=True):
            starts.append(offset + _first_neighbour(times, points, k))
            offset += len(times)
        clipped = [
            np.clip(points, times[0], times[-1])
            for times, points in zip(self.times, self.times if at is None else at, strict=True)
        ]
        return _local_cubic(np.concatenate(self.times), np.concatenate(clipped), np.concatenate(starts), k)


def _batches(t: Sequence[Array], y: Sequence[Array], j: int) -> list[_Batch]:
    """The series of state j."""
    groups: dict[bytes, tuple[Array, list[Array], list[int]]] = {}
    for i, (times, x) in enumerate(zip(t, y, strict=True)):
        seen = ~np.isnan(x[:, j])
        if seen.any():
            times = times[seen]
            _, columns, members = groups.setdefault(times.tobytes(), (times, [], []))
            columns.append(x[seen, j])
            members.append(i)
    batches: list[_Batch] = []
    singles: dict[int, list[tuple[Array, Array, list[int]]]] = {}
    for times, columns, members in groups.values():
        if len(columns) > 1:
            batches.append(_Batch([times], np.stack(columns, axis=1), [members]))
        else:
            singles.setdefault(min(len(times), NEIGHBOURS[-1]), []).append((times, columns[0], members))
    for series in singles.values():
        rows = np.cumsum([len(times) for times, _, _ in series]) // ROWS
        for batch in np.split(np.arange(len(series)), np.flatnonzero(np.diff(rows)) + 1):
            chosen = [series[i] for i in batch]
            values = np.concatenate([column for _, column, _ in chosen])[:, None]
            batches.append(_Batch([times for times, _, _ in chosen], values, [members for _, _, members in chosen]))
    return batches


def _best_neighbours(batches: list[_Batch]) -> tuple[int, float]:
    """(number of neighbours, variance of the noise) with the lowest score of generalised cross-validation."""
    best: tuple[float, int, float] = (np.inf, NEIGHBOURS[0], np.nan)
    rows = np.cumsum([len(batch.values) for batch in batches])
    batches = [batch for batch, before in zip(batches, [0, *rows], strict=False) if before < ROWS]
    batches = [batch for batch in batches if min(len(times) for times in batch.times) > DEGREE + 1]
    longest = max((len(times) for batch in batches for times in batch.times), default=0)
    for k in NEIGHBOURS:
        squares = freedom = n = 0.0
        for batch in batches:
            near, to_value, _ = batch.maps(k)
            leverage = to_value[near == np.arange(len(near))[:, None]]
            squares += ((batch.values - _apply(near, to_value, batch.values)) ** 2).sum()
            freedom += (1 - leverage).sum() * batch.values.shape[1]
            n += batch.values.size
        if freedom > 0.05 * n:
            best = min(best, (n * squares / freedom**2, k, squares / freedom))
        if k >= longest:
            break
    return best[1:]


def _apply(near: Indices, weights: Array, columns: Array) -> Array:
    """Weighted sums (m, c) of the rows `near` (m, k) of columns (n, c)."""
    total = np.zeros((len(near), columns.shape[1]))
    for position in range(near.shape[1]):
        total += weights[:, position, None] * columns[near[:, position]]
    return total


def _first_neighbour(t: Array, at: Array, k: int) -> Indices:
    """The index of the first of the k points of t that surround each time."""
    return np.clip(np.searchsorted(t, at) - k // 2, 0, len(t) - k)


def local_cubic(t: Array, at: Array, k: int) -> tuple[Indices, Array, Array]:
    """Cubic polynomials fitted to the k nearest points with tricube weights, as linear maps of the values.

    Parameters
    ----------
    t : (n,) array, increasing
        Times of the points.
    at : (m,) array
        Where to evaluate, inside [t[0], t[-1]].
    k : int
        How many points.

    Returns
    -------
    near : (m, k) int array
        Indices of the points.
    to_value, to_slope : (m, k) arrays
        Weights of their values in the value and the slope of the polynomial.
    """
    k = min(k, len(t))
    return _local_cubic(t, at, _first_neighbour(t, at, k), k)


def _local_cubic(t: Array, at: Array, start: Indices, k: int) -> tuple[Indices, Array, Array]:
    degree = min(DEGREE, max(k - 2, 1)) if k > 1 else 0
    near = start[:, None] + np.arange(k)
    u = t[near] - at[:, None]
    width = 1.1 * np.abs(u).max(axis=1, keepdims=True)
    width[width == 0] = 1.0
    u /= width
    X = np.ones((*u.shape, degree + 1))
    for power in range(1, degree + 1):
        np.multiply(X[:, :, power - 1], u, out=X[:, :, power])
    tricube = 1 - np.abs(u * u * u)
    XW = X * (tricube * tricube * tricube)[:, :, None]
    A = np.einsum("mkp,mkq->mpq", XW, X) + RIDGE * np.eye(degree + 1)
    maps = np.linalg.solve(A, XW.transpose(0, 2, 1))  # (m, degree + 1, k)
    return near, maps[:, 0], maps[:, 1] / width if degree else np.zeros_like(maps[:, 0])


# ---- States that are never observed


def with_derivatives(t: Sequence[Array], smoothed: Smoothed, n: int) -> Smoothed:
    """Append guesses for n states that are never observed: time derivatives of the observed ones, with unit variance.

    First come the first derivatives, then the second, ...; of the last order that is needed, the principal components
    are taken. Any smooth coordinates of the delay embedding would do (Takens 1981); these have the fewest kinks.

    Parameters
    ----------
    t : list of (T_i,) arrays
        Times.
    smoothed : Smoothed
        The observed states.
    n : int
        How many states are never observed.

    Returns
    -------
    Smoothed
        All the states, the guesses last; their variance is NaN.
    """
    columns = np.zeros((sum(map(len, t)), 0))
    latest = smoothed
    while columns.shape[1] < n:
        slope = np.concatenate(latest.slope)
        scale = np.sqrt(np.nanmean(slope**2, axis=0))
        slope = slope / np.where(scale > 0, scale, 1.0)
        if columns.shape[1] + slope.shape[1] > n:
            known = ~np.isnan(slope).any(axis=1)
            _, axes = np.linalg.eigh(np.cov(slope[known].T))
            slope = slope @ axes[:, ::-1][:, : n - columns.shape[1]]
        columns = np.concatenate([columns, slope], axis=1)
        latest = smooth(t, np.split(slope, np.cumsum([len(x) for x in t])[:-1]))
    scale = np.nanstd(columns, axis=0)
    columns = columns / np.where(scale > 0, scale, 1.0)
    guess = smooth(t, np.split(columns, np.cumsum([len(x) for x in t])[:-1]))
    return Smoothed(
        [np.concatenate(pair, axis=1) for pair in zip(smoothed.y, guess.y, strict=True)],
        [np.concatenate(pair, axis=1) for pair in zip(smoothed.slope, guess.slope, strict=True)],
        np.concatenate([smoothed.variance, np.full(n, np.nan)]),
    )


def with_implied(
    field: Field, theta: Array, t: Sequence[Array], smoothed: Smoothed, u: Array | None, max_iter: int = 30
) -> Smoothed:
    """Guess states that are never observed: with them the field gives the slopes of the observed states.

    States on which those slopes do not depend are guessed next, from the slopes of the states just guessed.

    Parameters
    ----------
    field : Field
        The vector field.
    theta : (p,) array
        Its parameters.
    t : list of (T_i,) arrays
        Times.
    smoothed : Smoothed
        The smoothed states. NaN in all rows of a state: never observed.
    u : (rows, m) array or None
        Control inputs.
    max_iter : int, default 30
        The most steps of damped Gauss-Newton, for each time by itself.

    Returns
    -------
    Smoothed
    """
    y, slope, time = (np.concatenate(x) for x in (smoothed.y, smoothed.slope, t))
    hidden = np.asarray(np.isnan(y).all(axis=0))
    seen = ~hidden
    rows = np.asarray(~np.isnan(y[:, seen]).any(axis=1) & ~np.isnan(slope[:, seen]).any(axis=1))
    states = np.where(hidden, 0.0, y[rows])
    inputs = None if u is None else u[rows]
    wanted = slope[rows][:, ~hidden]
    scale = wanted.std(axis=0) if len(wanted) else np.zeros(wanted.shape[1])
    scale = np.where(scale > 0, scale, 1.0)
    program = jacobian(field).program

    def evaluate(guess: Array) -> tuple[Array, Array, Array]:
        guessed = states.copy()
        guessed[:, hidden] = guess
        here = {"t": time[rows], "y": guessed, "u": inputs}
        (value,), _ = run(field.program, here, [theta])
        (J,), _ = run(program, here, [theta])
        J = J.reshape(len(wanted), field.d, field.d)[:, ~hidden][:, :, hidden] / scale[:, None]
        r = (value[:, ~hidden] - wanted) / scale
        return 0.5 * (r * r).sum(axis=1), np.einsum("nci,nc->ni", J, r), np.einsum("nci,ncj->nij", J, J)

    found = minimise_each(evaluate, states[:, hidden], max_iter=max_iter, least_curvature=1e-6)
    states[:, hidden] = found.x
    size = np.einsum("nii->i", found.matrix)
    known = size > 1e-12 * size.max()
    if known.any() and not known.all():  # the others may follow from the slopes of these
        hidden[np.flatnonzero(hidden)[~known]] = False
        return with_implied(field, theta, t, _filled(t, smoothed, rows, states, hidden), u, max_iter)
    return _filled(t, smoothed, rows, states, hidden)


def _filled(
    t: Sequence[Array], smoothed: Smoothed, rows: NDArray[np.bool_], y: Array, hidden: NDArray[np.bool_]
) -> Smoothed:
    """`smoothed`, its hidden states replaced by those of y at these rows, smoothed over time."""
    filled = np.full((len(rows), len(hidden)), np.nan)
    filled[rows] = y
    guess = smooth(t, np.split(filled[:, hidden], np.cumsum([len(x) for x in t])[:-1]))
    for whole, part in ((smoothed.y, guess.y), (smoothed.slope, guess.slope)):
        for a, b in zip(whole, part, strict=True):
            a[:, hidden] = b
    return smoothed
