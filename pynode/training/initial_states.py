"""Initial states of trajectories under a known field, by least squares for each trajectory by itself."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.errors import OK
from pynode.fields.field import Field
from pynode.fields.states import Limits, inside, limits, starts
from pynode.optim.batched import minimise_each
from pynode.training.shooting import ShootingProblem
from pynode.training.windows import Data

Array = NDArray[np.float64]

SIZES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Guesses for initial states that nobody measured, in units of the largest number that was measured."""

PLACES = (0.5, 0.1, 0.9, 0.01, 0.3, 0.7)
"""The same for states with two limits: places between them."""

MARGIN = 1e-3
"""Guesses beyond a limit are moved within it by this part of the standard deviation of the data, or of the largest one."""

BELOW = 4.0
"""Numbers that are below 0 by less than this many standard deviations of the noise may well be positive."""

GUESSED = 10
"""The most steps from each of these guesses."""


def estimate_states(
    field: Field,
    theta: Array,
    data: Data,
    y0: Array,
    weight: Array,
    prior: Array,
    max_iter: int = 50,
    **options: Any,
) -> tuple[Array, Array]:
    """Initial states that fit the data best.

    Parameters
    ----------
    field : Field
        The vector field, with d states and p parameters.
    theta : (p,) array
        Its parameters.
    data : Data
        B trajectories.
    y0 : (B, d) array
        Where to start.
    weight : (d,) array
        Precision of the entries of the data.
    prior : (B, d) array
        Precision of y0 itself: what the data do not determine stays there.
    max_iter : int, default 50
        The most steps of Levenberg-Marquardt.
    **options
        See `pynode.solve`.

    Returns
    -------
    y0 : (B, d) array
        The estimates; the start where a trajectory cannot be solved.
    covariance : (B, d, d) array
        Their covariances; that of the prior where a trajectory cannot be solved.
    """
    y0 = inside(y0, limits(field), MARGIN * np.sqrt(data.spread))
    problem = ShootingProblem(field, data, y0, weight, prior, **options)
    found = minimise_each(lambda free: problem.each(theta, free), y0, max_iter=max_iter, room=problem.room)
    matrix = np.where(found.failed[:, None, None], prior[:, :, None] * np.eye(field.d), found.matrix)
    return found.x, np.linalg.inv(matrix)


def choose_states(
    field: Field, theta: Array, data: Data, states: Sequence[Array], weight: Array, **options: Any
) -> list[Array]:
    """States along whole trajectories from the guess of the initial states that leads to the best fit.

    Tried are the given states and, in place of those that are never observed, numbers of many sizes. Where all data are
    positive or 0 but for the noise (numbers of persons, concentrations), so are the guesses. From each the initial states
    are fitted, with the parameters as they are.

    Parameters
    ----------
    field : Field
        The vector field, with d states and p parameters.
    theta : (p,) array
        Its parameters.
    data : Data
        B trajectories.
    states : list of (T_i, d) arrays
        Guesses along the trajectories.
    weight : (d,) array
        Precision of the entries of the data.
    **options
        See `pynode.solve`.

    Returns
    -------
    list of (T_i, d) arrays
        Those given where no guess can be solved.
    """
    y0 = np.stack([x[0] for x in states])
    best = np.full(len(y0), np.inf)
    chosen = y0.copy()
    for guess in _guesses(field, data, y0, weight):
        problem = ShootingProblem(field, data, guess, weight, **options)
        found = minimise_each(partial(problem.each, theta), guess, max_iter=GUESSED, room=problem.room)
        better = found.value < best
        best = np.where(better, found.value, best)
        chosen[better] = found.x[better]
        if best.sum() < data.n_observed:  # twice the half sum of squares that noise leaves
            break
    y, status = ShootingProblem(field, data, chosen, weight, **options).solve(theta, chosen)
    pieces = np.split(y, np.cumsum([len(x) for x in states])[:-1])
    solved = (status == OK) & np.isfinite(best)
    return [piece if ok else given for piece, given, ok in zip(pieces, states, solved, strict=True)]


def _guesses(field: Field, data: Data, y0: Array, weight: Array) -> list[Array]:
    """Initial states (B, d) to try; y0 (B, d): what the slopes imply, left out where that breaks the limits of a state."""
    hidden = ~data.seen
    values = np.concatenate(data.y)[:, data.seen]
    largest = float(np.nanmax(np.abs(values)))
    if np.nanmin(values * np.sqrt(weight[data.seen])) >= -BELOW:
        y0 = np.where(hidden, y0, np.maximum(y0, 1e-3 * largest))
        sizes = list(SIZES)
        first = [y0, np.where(hidden, np.abs(y0), y0)]
    else:
        sizes = [-s for s in SIZES if s] + list(SIZES)
        first = [y0]
    bounds = limits(field)
    said = starts(field)
    told = hidden & ~np.isnan(said)
    sized = [np.where(hidden, _of_size(size * largest, k, bounds), y0) for k, size in enumerate(sizes)]
    if told.any():
        first = [np.where(told, said, guess) for guess in (*first, *sized)]
    if bounds is None:
        return first + sized
    low, high = bounds
    allowed = [guess for guess in first if ((guess > low) & (guess < high))[:, hidden].all()]
    margin = MARGIN * np.where(hidden, largest or 1.0, np.sqrt(data.spread))
    return [inside(guess, bounds, margin) for guess in allowed + sized]


def _of_size(size: float, k: int, bounds: Limits | None) -> Array | float:
    """(d,) states of a size; between two limits, the k-th of the places there."""
    if bounds is None:
        return size
    low, high = bounds
    boxed = np.isfinite(high)
    place = np.where(boxed, low, 0.0) + PLACES[k % len(PLACES)] * np.where(boxed, high - low, 0.0)
    return np.where(boxed, place, np.where(np.isfinite(low), abs(size), size))
