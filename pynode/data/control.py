"""Control inputs of measured trajectories, as a `Signal`: `as_control`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from pynode.data.arrays import real_array
from pynode.data.clock import Clock, times_of
from pynode.data.labels import by_name, column_names
from pynode.data.piecewise import Float
from pynode.data.signal import Signal, as_signal


@overload
def as_control(u: None, m: int | None, t: Sequence[Any]) -> None: ...
@overload
def as_control(u: object, m: int | None, t: Sequence[Any]) -> Signal: ...
def as_control(u: Any, m: int | None, t: Sequence[Any]) -> Signal | None:
    """Control inputs measured along trajectories, as a Signal with a sample for each trajectory.

    Parameters
    ----------
    u : Signal, tuple (times, values[, kind]), array, list of arrays, or None
        An array or list holds values at the times of the trajectories, (T, m), (B, T, m) or a list of (T_i, m), with
        straight lines between them; (B, m): constants, (m,) where m is known: those of a single trajectory.
    m : int or None
        How many inputs the field has; None: any.
    t : sequence of (T_i,) arrays
        The times of the trajectories.

    Returns
    -------
    Signal or None
    """
    if u is None and m:
        raise ValueError(f"the field has {m} control input{'s' * (m > 1)}: give u=, values along the trajectories")
    u = rows_of_constants(u, m)
    t = [np.asarray(times) for times in t]
    if u is None or isinstance(u, (Signal, tuple)):
        signal: Signal | None = as_signal(u, m)
    elif isinstance(u, list) and (
        len({np.shape(v)[:1] for v in u}) > 1
        or (len(u) == len(t) and all(np.ndim(v) >= 1 for v in u) and len(np.shape(u[0])) <= 2)
    ):
        signal = _sampled([real_array(f"u[{i}]", v, np.float64) for i, v in enumerate(u)], t)
    else:
        u = real_array("u", u, np.float64)
        if u.ndim == 3:
            signal = _sampled(list(u), t)
        elif u.ndim == 2 and len(u) == len(t):
            if len(t) > 1 and all(len(times) == len(u) for times in t):
                raise ValueError(
                    f"u has shape {u.shape}, with {len(t)} trajectories of {len(u)} times: give (times, u) if rows belong "
                    "to times, or pynode.Signal(None, u, 'constant') if they belong to trajectories"
                )
            if u.shape[1] not in (1, m) and all(len(times) == u.shape[1] for times in t):
                raise ValueError(
                    f"u has shape {u.shape}, with {len(t)} trajectories of {u.shape[1]} times: give u[:, :, None] if "
                    "columns belong to times, or pynode.Signal(None, u, 'constant') if they are constant inputs"
                )
            signal = Signal(None, u, "constant")
        elif u.ndim in (1, 2) and all(len(times) == len(u) for times in t):
            signal = _sampled([u] * len(t), t)
        else:
            raise ValueError(
                f"u has shape {u.shape}; give (T, m) or (B, T, m) values at the times of the data, (B, m) constants, a list "
                "of (T_i, m), or a pynode.Signal"
            )
    if signal is None:
        return None
    if m is not None and signal.m != m:
        raise ValueError(f"the field has {m} inputs, u {signal.m}")
    if not signal.shared and len(signal.u) != len(t):
        raise ValueError(f"u is for {len(signal.u)} trajectories, there are {len(t)}")
    return signal


def is_plain(u: Any) -> bool:
    """Whether control inputs are values at the times of the data."""
    return not (u is None or isinstance(u, (Signal, tuple)))


def as_read(u: Any, clock: Clock | None) -> tuple[tuple[str, ...], Any]:
    """(names of control inputs, what a user gave in their order): columns of data frames have names.

    Dates of (times, values, ...) become numbers by the clock of the data.
    """
    known = isinstance(u, tuple) and len(u) > 1
    values = u[1] if known else u
    names = tuple(column_names(values) or ())
    names = names if len(set(names)) == len(names) else ()
    values = by_name("u", values, names)
    return names, (times_of(u[0], clock), values, *u[2:]) if known else values


def rows_of_constants(u: Any, m: int | None) -> Any:
    """Lists of m constants, one for each trajectory, or the m constants of a single one, as a (B, m) array.

    Anything else, or where m is not known, is returned as it is; but lists of signals are refused.
    """
    first = u[0] if isinstance(u, list) and u else None
    if isinstance(first, Signal) or (isinstance(first, tuple) and len(first) > 1 and np.ndim(first[0])):
        raise TypeError(
            f"u is a list of {type(first).__name__}s: give (list of times, list of values[, kind]), or one pynode.Signal of "
            "such lists"
        )
    if not m or not isinstance(u, (list, np.ndarray)) or not len(u):
        return u
    rows = u if np.ndim(u[0]) else [u]
    return np.array(rows, dtype=np.float64) if all(np.shape(row) == (m,) for row in rows) else u


def _sampled(values: list[Float], t: Sequence[Float]) -> Signal:
    """A Signal of values at the times of the trajectories."""
    values = [v[:, None] if v.ndim == 1 else v for v in values]
    if len(values) != len(t):
        raise ValueError(f"u is for {len(values)} trajectories, there are {len(t)}")
    for i, (v, times) in enumerate(zip(values, t, strict=True)):
        if v.ndim != 2 or len(v) != len(times):
            raise ValueError(
                f"u of trajectory {i} has shape {v.shape}, the trajectory {len(times)} times: give a row a time"
            )
        if (np.diff(times) < 0).any():
            raise ValueError(f"the times of u of trajectory {i} fall: give (times, values), with times that rise")
        if not np.isfinite(v).all():
            raise ValueError(f"u of trajectory {i} is not finite everywhere: give a pynode.Signal of the times where it is")
    first = [np.append(True, np.diff(times) != 0) for times in t]  # of the readings at each time
    for i, (v, new) in enumerate(zip(values, first, strict=True)):
        if (v != v[new][np.cumsum(new) - 1]).any():
            raise ValueError(f"u of trajectory {i} differs between readings at one time: give u=(times, values) of its own")
    t, values = [x[new] for x, new in zip(t, first, strict=True)], [v[k] for v, k in zip(values, first, strict=True)]
    step = min((float(np.diff(x).min()) for x in t if len(x) > 1), default=1.0)
    for i, x in enumerate(t):
        if len(x) == 1:  # held for a while: a line needs two knots
            t[i], values[i] = np.append(x, x + step), values[i].repeat(2, axis=0)
    return Signal(t, values)
