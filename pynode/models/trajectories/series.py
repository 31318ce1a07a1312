"""Trajectories as users give them to a model."""

import numpy as np

from pynode.data.trajectories import Trajectories


def as_trajectories(t, Y, u, names, time, state, id, input):
    if isinstance(t, Trajectories):
        if Y is not None or u is not None:
            raise TypeError("Trajectories hold times, states and control inputs: give no Y and no u")
        return t
    if hasattr(t, "columns") and hasattr(t, "iloc"):
        if Y is not None or u is not None or time is None or state is None:
            raise TypeError("a data frame holds everything: give time= and state= (and id=, input=) its columns, no Y, no u")
        return Trajectories.from_frame(t, time, state, id, input)
    if Y is None:
        raise TypeError("Y is missing: fit(t, Y), or fit(frame, time=..., state=[...])")
    if any(name is not None for name in (time, state, id, input)):
        raise TypeError("time, state, id and input name columns of a data frame; with arrays give names= of the states")
    return Trajectories.from_arrays(t, Y, names, u=u)


def check_positive(data):
    for name, t, y in zip(data.ids, data.t, data.y, strict=True):
        bad = np.argwhere(y <= 0)
        if len(bad):
            i, j = bad[0]
            raise ValueError(
                f"log=True needs positive states, but {data.names[j]} of trajectory {name} is {y[i, j]:g} at "
                f"{data.time_name} = {t[i]:g}; drop the entry (NaN), or use log=False"
            )
