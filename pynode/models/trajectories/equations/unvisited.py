"""What a network cannot know, in words: states and inputs that never change, directions in which the data never go."""

from collections.abc import Sequence

import numpy as np

from pynode.data.scaling import STILL
from pynode.data.support import Support
from pynode.data.trajectories import Trajectories
from pynode.models.trajectories.series import names_of
from pynode.training.equations.terms import weighted_sum


def unvisited(data: Trajectories) -> list[str]:
    """What the data do not show of a field that is learned from them alone.

    Parameters
    ----------
    data : Trajectories
        What the field is learned from.

    Returns
    -------
    list of str
        Sentences; empty where the data go in all directions.
    """
    return [*_of_states(data), *_of_inputs(data)]


def _of_states(data: Trajectories) -> list[str]:
    rows = np.concatenate(data.y)
    support = Support.of(data.y)
    if not len(support.points):
        return []
    size = np.nanmax(np.abs(rows), axis=0)
    moves = np.nanstd(rows, axis=0) > STILL * size  # also in rows of which some states were not read
    names = [name for name, still in zip(data.names, support.still & ~moves, strict=True) if still]
    if len(names) == data.d:
        return ["nothing changes in the data: they tell no more of the equation than that its states rest there"]
    words = []
    if names:
        words.append(
            f"{', '.join(names)} never changes in the data: what the equation makes of other values is unknown, and "
            "intervals from there are infinite; leave the column out if it is no state"
        )
    terms = _flat(support, data.names) if len(rows) > 2 * data.d else []
    if terms:
        words.append(
            f"{' and '.join(terms)} never changes in the data: what the equation makes of other values is unknown, and "
            "intervals from there are infinite"
        )
    return words


def _of_inputs(data: Trajectories) -> list[str]:
    """The same of control inputs."""
    if data.signal is None:
        return []
    names = names_of(data)[data.d :]
    support = Support.of(data.signal.u)
    words = [name for name, still in zip(names, support.still, strict=True) if still]
    if sum(map(len, data.signal.u)) > 2 * len(names):
        words += _flat(support, names)
    if not words:
        return []
    return [f"{' and '.join(words)} never changes in the data: what other values of these control inputs do is unknown"]


def _flat(support: Support, names: Sequence[str]) -> list[str]:
    """The sums of columns that never change, of those that do."""
    terms = []
    for axis in support.flat:
        if np.abs(axis[~support.still]).max(initial=0.0) > 1e-6:
            weights = axis / support.scale
            weights = weights / weights[np.argmax(np.abs(weights))]
            terms.append(weighted_sum(np.where(np.abs(weights) > 1e-3, weights, 0.0).tolist(), names, " "))
    return terms
