"""What users hand to a fitted LatentODE, checked: series, times, control inputs."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.arrays import is_ragged, real_array
from pynode.data.signal import Signal
from pynode.data.trajectories import Trajectories

Array = NDArray[np.float64]


def check_known(signal: Signal | None, spans: Array) -> None:
    """Inputs must be known on spans (B, 2), in the units of the user."""
    if signal is not None:
        signal.check_spans(spans)


def check_series(data: Trajectories, t0: float) -> None:
    """Each series must have an observation, none of them before t0, and known inputs from t0 on."""
    check_known(data.signal, np.array([(t0, max(t[-1], t0)) for t in data.t]))
    for name, t, y in zip(data.ids, data.t, data.y, strict=True):
        seen = ~np.isnan(y).all(axis=1)
        if not seen.any():
            raise ValueError(f"series {name} has no observed entry (all are NaN): leave it out, its posterior is the prior")
        if t[seen][0] < t0:
            raise ValueError(
                f"series {name} has an observation at {data.time_name} = {t[seen][0]:g}, before the time t0 = {t0:g} of the "
                "latent initial state: give t0= a time before all observations when fitting, or cut the series"
            )


def checked_times(name: str, x: ArrayLike, start: float) -> Array:
    """Times that do not fall, from `start` on."""
    times: Array = real_array(name, x, np.float64)
    if times.ndim != 1 or times.size == 0 or not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ValueError(f"{name} must be a non-empty vector of finite times that do not fall")
    if times[0] < start:
        raise ValueError(f"{name} begins at {times[0]:g}, before the time t0 = {start:g} of the latent initial state")
    return times


def times_asked_for(at: Any, n: int, t0: float, signal: Signal | None = None, shared: bool = False) -> Array | list[Array]:
    """Times of n series: one array, or a list of n arrays; `shared`: a list of equal arrays becomes one."""
    times = _times(at, n, t0, shared)
    ends = [x[-1] for x in times] if isinstance(times, list) else [times[-1]] * n
    check_known(signal, np.stack([np.full(n, t0), ends], axis=1))
    return times


def _times(at: Any, n: int, t0: float, shared: bool) -> Array | list[Array]:
    if not is_ragged(at):
        return checked_times("at", at, t0)
    if len(at) != n:
        raise ValueError(f"at holds {len(at)} arrays of times for {n} series")
    if shared and all(len(x) == len(at[0]) and (x == at[0]).all() for x in at):
        return checked_times("at", at[0], t0)
    return [checked_times(f"at[{i}]", x, t0) for i, x in enumerate(at)]


def repeated(signal: Signal | None, count: int, n: int) -> Signal | None:
    """The signals of `count` series for n draws of each."""
    return None if signal is None else signal.take(list(range(count)) * n)
