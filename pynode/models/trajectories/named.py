"""Data whose columns are named like the states of a field of one's own: columns go to their states by name."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pynode.data.trajectories import Trajectories
from pynode.fields.field import Field


def by_state(data: Trajectories, field: Field | None, own_names: bool = True) -> Trajectories:
    """Trajectories with a column for each state of the field, in its order.

    Parameters
    ----------
    data : Trajectories
        What was measured.
    field : Field or None
        Whose states may have names.
    own_names : bool
        The columns have names of their own; else they are those of the states, in this order.

    Returns
    -------
    Trajectories
        A state that no column is named after is never observed. As they are where no column is named like a state.

    Raises
    ------
    ValueError
        Some columns are named like states, others are not.
    """
    states = () if field is None else field.state_names
    if not own_names and len(states) == data.d:
        return replace(data, names=states)
    known = [name for name in data.names if name in states]
    if not known or data.names == states:
        return data
    strange = [name for name in data.names if name not in states]
    if strange:
        raise ValueError(
            f"columns {', '.join(known)} are named like states of the field, {', '.join(strange)} are not: its states are "
            f"{', '.join(states)}; leave other columns out, or rename them"
        )
    place = [data.names.index(name) if name in data.names else -1 for name in states]

    def spread(x: np.ndarray, fill: float) -> np.ndarray:
        whole = np.full((len(x), len(states)), fill, dtype=x.dtype)
        for j, k in enumerate(place):
            if k >= 0:
                whole[:, j] = x[:, k]
        return whole

    censored = None if data.censored is None else tuple(spread(np.asarray(x), 0) for x in data.censored)
    return replace(data, y=tuple(spread(y, np.nan) for y in data.y), names=states, censored=censored)


def weights_by_state(
    weight: list[NDArray[np.float64]] | None, columns: tuple[str, ...], states: tuple[str, ...]
) -> list[NDArray[np.float64]] | None:
    """Weights (T_i, columns) in the order of the states, as `by_state` takes their data; 1 where there is no column."""
    if weight is None or not set(columns) & set(states):
        return weight
    place = [columns.index(name) if name in columns else None for name in states]
    return [np.stack([np.ones(len(w)) if k is None else w[:, k] for k in place], axis=1) for w in weight]
