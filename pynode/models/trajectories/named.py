"""Data whose columns are named like the states of a field of one's own: columns go to their states by name."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.trajectories import Trajectories
from pynode.fields.field import Field
from pynode.training.windows import weighed


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
    censored = None if data.censored is None else tuple(_ordered(data.censored, data.names, states, 0))
    return replace(data, y=tuple(_ordered(data.y, data.names, states, np.nan)), names=states, censored=censored)


def _ordered(
    parts: Sequence[NDArray[Any]], columns: Sequence[str], states: Sequence[str], fill: float
) -> list[NDArray[Any]]:
    """Arrays (T_i, columns) as (T_i, states), `fill` where no column has the name of a state."""
    made = []
    for x in parts:
        whole = np.full((len(x), len(states)), fill, dtype=x.dtype)
        for j, name in enumerate(states):
            if name in columns:
                whole[:, j] = x[:, columns.index(name)]
        made.append(whole)
    return made


def weighed_by_state(
    data: Trajectories, weight: Any, field: Field | None, own_names: bool
) -> tuple[Trajectories, list[NDArray[np.float64]] | None]:
    """(data as `by_state` gives them, NaN where the weight is 0; the relative weights of the rest, see `weighed`).

    The weight is that of the columns of `data`, as the user gave it.
    """
    y, precision = weighed(weight, data.y)
    if weight is not None:
        data = replace(data, y=tuple(y))
    ordered = by_state(data, field, own_names)
    if precision is None or not set(data.names) & set(ordered.names):
        return ordered, precision
    return ordered, _ordered(precision, data.names, ordered.names, 1.0)
