"""Where a model was while it was trained, what lies outside of that, and which rollouts go there."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import evenly
from pynode.errors import ExtrapolationWarning, users_level
from pynode.models.options import widths
from pynode.training.sizes import prior_groups

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]

KEPT = 500
"""The most states that are kept."""

NEAR = 0.25
"""A rollout is inside the data as long as no state is beyond its range by more than this part of the range ..."""

FAR = 1.0
"""... and far from them where it is beyond by more than this part: what a network says there is worth nothing."""


@dataclass(frozen=True)
class Visited:
    """Where a model was while it was trained, as the field sees it.

    Attributes
    ----------
    states : (m, d) array
        Some of the states along its trajectories, measured or not.
    inputs : (m, n) array
        The control inputs there.
    low, high : (d,) arrays
        The range of all states.
    """

    states: Array
    inputs: Array
    low: Array
    high: Array

    @property
    def width(self) -> Array:
        """(d,) the range; infinite where a state never changes."""
        return np.where(self.high > self.low, self.high - self.low, np.inf)

    @cached_property
    def _edges(self) -> tuple[Array, Array]:
        return self.low - FAR * self.width, self.high + FAR * self.width

    def holds(self, z: Array) -> bool:
        """Whether no state (..., d) is far from those of training."""
        low, high = self._edges
        return bool(((z >= low) & (z <= high)).all())


def as_dict(visited: Visited | None) -> dict[str, Array] | None:
    """The same as plain data."""
    return None if visited is None else {each.name: getattr(visited, each.name) for each in fields(visited)}


def visited_of(run: Any) -> Visited | None:
    """Where a run that has ended was; None where no states are finite."""
    states = np.concatenate(run.training.states)
    u = run.data.inputs_at_rows()
    u = np.zeros((len(states), 0)) if u is None else u
    known = np.isfinite(states).all(axis=1)
    if not known.any():
        return None
    states, u = states[known], u[known]
    kept = evenly(len(states), KEPT)
    return Visited(states[kept], u[kept], states.min(axis=0), states.max(axis=0))


def is_network(model: "NeuralODE") -> bool:
    """Whether the field is a network with bends, which knows nothing of what it was not shown."""
    learned = model.field is None and model.protocol_ is None and len(widths(model.hidden)) > 0
    return learned and bool(prior_groups(model.field_))


def beyond(model: "NeuralODE", states: Array) -> Array:
    """(..., d) by how much states, in the units of the data, are beyond the range of those of training, in parts of it."""
    visited = model.visited_
    if visited is None:
        return np.zeros(np.shape(states))
    n = np.shape(states)[-1]
    scaling = model.scaling_
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        z = scaling.states(states) if n == len(scaling.shift) else scaling.observed(n).states(states)
        over = np.maximum(visited.low[:n] - z, z - visited.high[:n]) / visited.width[:n]
    return np.where(np.isfinite(z), np.maximum(over, 0.0), np.inf)


def first_outside(model: "NeuralODE", t: Array, states: Array, margin: float = NEAR) -> float:
    """The first of the times (T,) at which states (T, d) are outside the data; infinity: none."""
    outside = np.flatnonzero((beyond(model, states) > margin).any(axis=1))
    return float(t[outside[0]]) if len(outside) else np.inf


def strays(model: "NeuralODE") -> tuple[int, ...]:
    """Positions of the trajectories on which a fitted model leaves the data: its rollouts fail, or go far."""
    data: Any = model.data_
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = model.predict(list(data.t), model.initial_states_, u=data.signal, unobserved=True)
    return tuple(
        i
        for i, (t, path) in enumerate(zip(data.t, paths, strict=True))
        if np.isfinite(first_outside(model, t, np.asarray(path), FAR))
    )


def warn_of_far(model: "NeuralODE", t: Any, states: Any) -> None:
    """Warn where rollouts go far from the data, or explode; those that start outside, where they go as much further out.

    A start outside is the user's own doing, what the network makes of it is not.
    """
    whole = np.concatenate(states) if isinstance(states, list) else states
    visited = model.visited_
    if visited is None or (not model.log and not model.n_unobserved_ and visited.holds(model.scaling_.states(whole))):
        return
    for times, path in _each(t, states):
        if not len(path):
            continue
        over = beyond(model, path)
        start = float(over[0].max())
        far = (over > (FAR if start <= NEAR else start + FAR)).any(axis=1)
        if not far.any():
            continue
        row = int(np.argmax(far))
        column = int(over[row].argmax())
        names = model.names_
        name = names[column] if column < len(names) else f"unobserved state {column - len(names) + 1}"
        value, at = path[row, column], float(times[row])
        when = f"{at:.5g}" if model.clock_ is None else model.clock_.to_text(at)[0]
        found = f"{name} is {value:.3g} at {when}, beyond its range in training by more than that range"
        if not np.isfinite(value):
            found = f"it cannot be solved as far as {when}"
        warnings.warn(
            f"a rollout leaves the data: {found}, and of what lies there the network was shown nothing; leaves(...) tells "
            "from which time on a rollout is outside; shorter rollouts, data from there, n_estimators, or "
            "far_field='inward' may help",
            ExtrapolationWarning,
            stacklevel=users_level(),
        )
        return


def _each(t: Any, states: Any) -> Sequence[tuple[Array, Array]]:
    """(times, states (T, d)) of each rollout."""
    if isinstance(states, list):
        return list(zip(t, states, strict=True))
    return [(np.asarray(t), path) for path in (states[None] if np.ndim(states) == 2 else states)]
