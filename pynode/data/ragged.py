"""Times and states of trajectories as users give them: arrays, lists of arrays, dates, data frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import is_ragged, own_array
from pynode.data.clock import Clock
from pynode.data.dates import dates_in
from pynode.data.instants import NotADate, as_instants
from pynode.data.labels import by_given_name, column_names

Float = NDArray[np.float64]


def is_frame(t: object) -> bool:
    """Whether this is a data frame."""
    return hasattr(t, "columns") and hasattr(t, "iloc")


def times_and_clock(t: Any, clock: Clock | None, unit: str | None) -> tuple[list[Float], Clock | None]:
    """Times of trajectories as numbers, and the clock that made them of dates."""
    series = list(t) if is_ragged(t) else [t]
    if all(dates_in(x) is None for x in series):
        if unit is not None:
            raise ValueError(f"time_unit={unit!r} is for dates and durations; t holds numbers")
        if is_ragged(t):
            return [own_array("t", x, np.float64) for x in series], clock
        t = own_array("t", t, np.float64)
        return list(t) if t.ndim == 2 else [t], clock
    if np.ndim(series[0]) == 2 and len(series) == 1:
        series = list(series[0])
    try:
        dates = [as_instants(x, texts=True) for x in series]
    except NotADate as error:
        raise ValueError(f"t[{error.index}] {error}") from None
    known = [x for x in dates if x is not None]
    clock = Clock.of(known, unit) if clock is None else clock
    return [clock.numbers_of(x) for x in known], clock


def check_times(t: Float, where: str, name: str, repeated: bool = False) -> None:
    """Raise ValueError unless times rise, or, where they may be repeated, do not fall."""
    if not np.isfinite(t).all():
        raise ValueError(f"{where}: {name} must be finite")
    steps = np.diff(t)
    back = np.flatnonzero(steps < 0 if repeated else steps <= 0)
    if back.size:
        i = back[0]
        how = "must not fall" if repeated else "must increase strictly"
        hint = (
            ""
            if repeated or steps[i]
            else " (several readings at one time: replicates='average' of Trajectories.from_arrays)"
        )
        raise ValueError(f"{where}: {name} {how}, but index {i} has {t[i]:g} and {i + 1} has {t[i + 1]:g}{hint}")


def states_and_names(Y: Any, names: Iterable[str] | None) -> tuple[list[Float], tuple[str, ...]]:
    """Y as a list of (T_i, d) arrays, the columns of data frames in the order of the names, and the names."""
    called = column_names(Y) if names is None else list(map(str, names))
    ys = states_of(by_given_name("Y", Y, called or ()))
    return ys, tuple(f"y{j + 1}" for j in range(ys[0].shape[1])) if called is None else tuple(called)


def states_of(Y: Any) -> list[Float]:
    """Y as a list of (T_i, d) arrays."""
    if (
        isinstance(Y, (list, tuple))
        and len(Y)
        and np.ndim(Y[0]) >= 1
        and not (isinstance(Y[0], (list, tuple)) and np.ndim(Y[0]) == 1)
    ):
        ys = [own_array("Y", y, np.float64) for y in Y]
        ys = [y[:, None] if y.ndim == 1 else y for y in ys]
    else:
        Y = own_array("Y", Y, np.float64)
        if Y.ndim not in (1, 2, 3):
            raise ValueError(f"Y must have shape (T,), (T, d) or (B, T, d), or be a list of arrays; got {Y.shape}")
        ys = list(Y) if Y.ndim == 3 else [Y if Y.ndim == 2 else Y[:, None]]
    if not ys:
        raise ValueError("Y holds no trajectories")
    for i, y in enumerate(ys):
        if y.ndim != 2 or y.shape[1] != ys[0].shape[1] or y.shape[1] == 0:
            raise ValueError(f"trajectory {i} of Y has shape {y.shape}; all must be (T_i, d) with one d >= 1")
    return ys
