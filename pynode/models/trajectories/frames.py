"""Predictions as tables of pandas, with the columns of the data."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pynode.data.arrays import is_ragged
from pynode.models.trajectories.intervals.predicted import Band

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

ID = "id"
"""The column that tells trajectories apart, where the data do not say what theirs is called."""


def frame_of(model: "NeuralODE", t: Any, band: Band, ids: Sequence[Hashable]) -> Any:
    """A table with a row for each time of each trajectory.

    Parameters
    ----------
    model : NeuralODE
        Whose data name the columns.
    t : (T,) array, or list of (T_i,) arrays
        Times.
    band : Band
        Predictions; lower and upper are None where there is no interval.
    ids : sequence
        What the trajectories are called; empty: 0, 1, ...

    Returns
    -------
    pandas.DataFrame
    """
    try:
        import pandas as pd
    except ImportError:
        raise ImportError("tables need pandas: pip install pandas, or leave out as_frame") from None
    means = _each(band.mean)
    ragged = is_ragged(t)
    times = [np.atleast_1d(x) for x in t] if ragged else [np.atleast_1d(t)] * len(means)
    data: Any = model.data_
    several = len(means) > 1 or (data is not None and len(data) > 1 and bool(ids))
    names = list(ids) or list(range(len(means)))
    columns: dict[str, Any] = {}
    if several:
        called = getattr(data, "id_name", None) or ID
        if called in (*model.names_, model.time_name_):
            called = "trajectory"
        columns[called] = [name for name, x in zip(names, times, strict=True) for _ in x]
    clock = getattr(data, "clock", None)
    flat = np.concatenate(times)
    columns[model.time_name_] = flat if clock is None else clock.to_dates(flat)
    for c, name in enumerate(model.names_):
        columns[name] = np.concatenate(means)[:, c]
        if band.lower is not None:
            columns[f"{name}_lower"] = np.concatenate(_each(band.lower))[:, c]
            columns[f"{name}_upper"] = np.concatenate(_each(band.upper))[:, c]
    return pd.DataFrame(columns)


def _each(y: Any) -> list[Any]:
    """The arrays (T_i, d) of each trajectory."""
    if isinstance(y, list):
        return y
    return [y] if np.ndim(y) == 2 else list(y)
