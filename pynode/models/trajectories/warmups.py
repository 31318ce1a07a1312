"""Initial states of models with states that nobody measured, from a stretch of measurements: `estimated`.

Least squares with the learned field has several minima there. So each trajectory starts from several of the states that the
model went through while it was trained, those that look most like its first readings, and the best fit is kept. Each start
is also where a weak prior of its own lies: what the readings do not determine stays near a state that is known to occur.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import evenly
from pynode.fields.field import Field
from pynode.fields.states import inside, limits
from pynode.models.trajectories.visits import Visited
from pynode.optim.batched import minimise_each
from pynode.training.initial_states import MARGIN
from pynode.training.shooting import ShootingProblem
from pynode.training.windows import Data

Array = NDArray[np.float64]

STARTS = 8
"""How many of the states of training each trajectory starts from, ..."""

ALIKE = 60
"""... spread evenly among this many that are most like its first readings."""

FIRST = 5
"""How many of the first times count for that."""


def estimated(
    field: Field, theta: Array, data: Data, start: Array, visited: Visited, weight: Array, **options: Any
) -> tuple[Array, NDArray[np.bool_]]:
    """Initial states that fit the data best, from several starts.

    Parameters
    ----------
    field : Field
        The vector field, with d states.
    theta : (p,) array
        Its parameters.
    data : Data
        B trajectories.
    start : (B, d) array
        One start for each.
    visited : Visited
        The states that the model went through while it was trained.
    weight : (d,) array
        Precision of the entries of the data.
    **options
        See `pynode.solve`.

    Returns
    -------
    y0 : (B, d) array
    solved : (B,) bool array
        Whether the trajectory can be solved from any of the starts.
    """
    spread = spread_of(visited)
    candidates = [np.vstack([start[i : i + 1], _alike(data, i, visited, spread)]) for i in range(len(data))]
    count = [len(each) for each in candidates]
    y0 = inside(np.concatenate(candidates), limits(field), MARGIN * np.sqrt(data.spread))
    many = data.take(np.repeat(np.arange(len(data)), count))
    prior = np.broadcast_to(1.0 / spread**2, y0.shape)
    problem = ShootingProblem(field, many, y0, weight, prior, **options)
    found = minimise_each(partial(problem.each, theta), y0, room=problem.room)
    ends = np.cumsum(count)[:-1]
    best = [int(np.argmin(values)) for values in np.split(found.value, ends)]
    chosen = [rows[k] for rows, k in zip(np.split(found.x, ends), best, strict=True)]
    solved = [bool(np.isfinite(values[k])) for values, k in zip(np.split(found.value, ends), best, strict=True)]
    return np.stack(chosen), np.array(solved)


def spread_of(visited: Visited) -> Array:
    """(d,) standard deviations of the states that a model went through."""
    return np.asarray(np.maximum(visited.states.std(axis=0), 1e-6), dtype=np.float64)


def _alike(data: Data, i: int, visited: Visited, spread: Array) -> Array:
    """(k, d) visited states like the first readings of trajectory i, which differ in what is not measured."""
    first = data.y[i][:FIRST]
    known = ~np.isnan(first).all(axis=0)
    apart = np.zeros(len(visited.states))
    if known.any():
        reading = np.nanmean(first[:, known], axis=0)
        apart = (((visited.states[:, known] - reading) / spread[known]) ** 2).sum(axis=1)
    if data.signal is not None and visited.inputs.shape[1]:
        u = data.signal(data.t[i][:1], i)[0]
        size = np.maximum(visited.inputs.std(axis=0), 1e-6)
        apart = apart + (((visited.inputs - u) / size) ** 2).mean(axis=1)
    near = np.argsort(apart, kind="stable")[:ALIKE]
    hidden = np.flatnonzero(~known)
    if len(hidden):
        near = near[np.argsort(visited.states[near, hidden[0]], kind="stable")]
    picked = near[evenly(len(near), STARTS)]
    return np.asarray(visited.states[picked], dtype=np.float64)
