"""Trajectories as users give them to a model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.clock import Clock, refuse_clock
from pynode.data.control import as_control, is_plain
from pynode.data.delays import delayed, of_kind
from pynode.data.knots import not_finite
from pynode.data.ragged import is_frame
from pynode.data.signal import Kind, Signal
from pynode.data.tables import Replicates
from pynode.data.trajectories import Trajectories

if TYPE_CHECKING:
    from pynode.models.trajectories.options import NeuralODEOptions

Times = NDArray[Any] | Sequence[float]
"""Times that all trajectories share; of a model of dates: dates, too."""

RaggedTimes = Sequence[NDArray[Any]]
"""Times of each trajectory."""

Series = ArrayLike | Sequence[ArrayLike]
"""Values of one trajectory or several, as an array or a list of arrays."""

Inputs = ArrayLike | Sequence[ArrayLike] | tuple[Any, ...] | Signal
"""Control inputs: values at the times of the data, (times, values[, kind]), or a Signal."""

SIZES = (1e-152, 1e152)
"""Squares of states, inputs and times are within floating point for these sizes."""


def as_trajectories(
    t: Series | Trajectories,
    Y: Series | None,
    u: Inputs | None = None,
    names: Sequence[str] | None = None,
    time: str | None = None,
    state: str | Sequence[str] | None = None,
    id: str | None = None,
    input: str | Sequence[str] | None = None,
    replicates: Replicates = "refuse",
    clock: Clock | None = None,
    fitted: bool = False,
) -> Trajectories:
    """Trajectories from arrays, from a data frame whose columns are named, or as they are.

    Parameters
    ----------
    t, Y, u, names, time, state, id, input
        See `pynode.NeuralODE.fit`.
    replicates : {"refuse", "keep", "average"}, default "refuse"
        Several readings at one time of a trajectory.
    clock : Clock, optional
        Of a fitted model, by which dates become numbers. Default: that of the first date.
    fitted : bool
        The data are for a fitted model, or one that knows no dates: dates are refused without a clock.

    Returns
    -------
    Trajectories

    Raises
    ------
    TypeError
        Something is missing, or given twice.
    """
    if isinstance(t, Trajectories):
        if Y is not None or u is not None:
            raise TypeError("Trajectories hold times, states and control inputs: give no Y and no u")
        return t.on(clock) if fitted else t
    if is_frame(t):
        if Y is not None or u is not None or time is None or state is None:
            raise TypeError("a data frame holds everything: give time= and state= (and id=, input=) its columns, no Y, no u")
        frame: Any = t
        data = Trajectories.from_frame(frame, time, state, id, input, replicates=replicates, clock=clock)
        return data.on(clock) if fitted else data
    if Y is None:
        raise TypeError("Y is missing: fit(t, Y), or fit(frame, time=..., state=[...])")
    if any(name is not None for name in (time, state, id, input)):
        raise TypeError("time, state, id and input name columns of a data frame; with arrays give names= of the states")
    if fitted and clock is None:
        refuse_clock("t", t)
    return Trajectories.from_arrays(t, Y, names, u=u, clock=clock, replicates=replicates)


def with_covariates(data: Trajectories) -> Trajectories:
    """The same trajectories, their covariates being control inputs that do not change, after the others."""
    if data.covariates is None or not data.covariates.shape[1]:
        return data
    fixed = data.covariates
    if data.signal is None:
        signal = Signal(None, fixed, "constant")
    else:
        old = data.signal
        which = [0] * len(data) if old.shared else range(len(data))
        values = [np.column_stack([old.u[j], np.tile(row, (len(old.u[j]), 1))]) for j, row in zip(which, fixed, strict=True)]
        if old.kind == "constant":
            signal = Signal(None, np.concatenate(values), "constant")
        else:
            signal = Signal([old.t[j] for j in which], values, old.kind, old.knots)
    names = (*data.input_names, *data.covariate_names) if data.input_names or data.signal is None else ()
    return replace(data, signal=signal, input_names=names, covariates=None, covariate_names=())


def from_first_readings(
    data: Trajectories, weight: list[NDArray[np.float64]] | None
) -> tuple[Trajectories, list[NDArray[np.float64]] | None]:
    """Each trajectory, and its weights, from the first row on in which a state was read: what was before nothing tells.

    Nothing is censored: `means` left such readings out.
    """
    first = [int(np.argmax(~np.isnan(y).all(axis=1))) if len(y) else 0 for y in data.y]
    if not any(first):
        return data, weight
    t, y = (tuple(x[k:] for x, k in zip(rows, first, strict=True)) for rows in (data.t, data.y))
    kept = None if weight is None else [w[k:] for w, k in zip(weight, first, strict=True)]
    return replace(data, t=t, y=y), kept


def input_names(columns: Mapping[str, Any], m: int) -> list[str]:
    """Of m control inputs: those of their columns; u1, u2, ... where these have no names."""
    given = list(columns.get("input", ()))
    return given if len(given) == m else [f"u{k + 1}" for k in range(m)]


def names_of(data: Trajectories) -> list[str]:
    """Of the states and the control inputs; u1, u2, ... for inputs whose columns have no names."""
    return [*data.names, *input_names(data.columns, n_inputs(data))]


def n_inputs(data: Trajectories) -> int:
    """How many control inputs there are."""
    return 0 if data.signal is None else data.signal.m


def check_data(model: "NeuralODEOptions", data: Trajectories, known: bool = False) -> None:
    """Refuse what a model cannot be fitted to; known: the fit has a protocol."""
    if model.log:
        check_positive(data)
    d = data.d if model.field is None or (known and model.observe is not None) else model.field.d
    if d != data.d:
        raise ValueError(
            f"the data have {data.d} states ({', '.join(data.names)}), the field has {d}"
            + (": columns of NaN stand for states never observed" if d > data.d else "")
        )
    if data.n_observed == 0:
        raise ValueError("nothing is observed: all states are NaN")
    if data.never_observed and model.field is None and not known:
        raise ValueError(
            f"state {data.never_observed[0]} is never observed: leave the column out, and let augment=1 add a state "
            "that nobody measured; or give a field= of your own in which it has a meaning"
        )
    if model.field is None:
        check_sizes(data)
    m = n_inputs(data)
    if model.field is not None and m != model.field.inputs:
        raise ValueError(f"the field has {model.field.inputs} control inputs, u {m}")


def check_positive(data: Trajectories) -> None:
    """Refuse states that have no logarithm."""
    for name, t, y in zip(data.ids, data.t, data.y, strict=True):
        bad = np.argwhere(y <= 0)
        if len(bad):
            i, j = bad[0]
            raise ValueError(
                f"log=True needs positive states, but {data.names[j]} of trajectory {name} is {y[i, j]:g} at "
                f"{data.when(t[i])}; drop the entry (NaN), or use log=False"
            )


def check_sizes(data: Trajectories) -> None:
    """Refuse numbers whose squares floating point cannot hold."""
    words = beyond(data, SIZES)
    if words:
        raise ValueError(f"{words}, whose squares floating point holds: give it in other units")


def beyond(data: Trajectories, sizes: tuple[float, float]) -> str:
    """Which state, input or length of time is not of these sizes, in words; empty where all are."""
    columns = list(zip(data.names, np.concatenate(data.y).T, strict=True))
    if data.signal is not None:
        columns += zip(names_of(data)[data.d :], np.concatenate(data.signal.u).T, strict=True)
    columns.append(("t", np.array([t[-1] - t[0] for t in data.t])))
    least, most = sizes
    for name, x in columns:
        size = float(np.nanmax(np.abs(x), initial=0.0))
        if size and not least <= size <= most:
            return f"{name} is up to {size:g} in size, not from {least:g} to {most:g}"
    return ""


def check_inputs(signal: Signal, t: Sequence[Any], delay: NDArray[np.float64], clock: Clock | None) -> None:
    """Refuse control inputs that are not finite, or not known at the times (T_i,) of a trajectory.

    Times are told as the user wrote them: numbers, or dates by the clock.
    """
    for i, (knots, values) in enumerate(zip(signal.t, signal.u, strict=True)):
        found = not_finite(knots, values, signal.kind, np.float64)
        if found:
            raise ValueError(f"inputs of sample {i} are not finite everywhere{found}: leave that knot out, or fill it in")
    if not all(np.size(x) for x in t):
        return
    spans = np.array([[np.min(x), np.max(x)] for x in t], dtype=np.float64)
    late = delayed(signal, delay) if delay.any() else signal
    if clock is None:
        late.check_spans(spans)
    else:
        late.check_spans(spans, lambda x: clock.to_text(x)[0] if np.isfinite(x) else f"{x:g}")


def own_control(u: Any, m: int | None, t: Any, kind: Kind) -> Signal | None:
    """Control inputs given to a fitted model, see `as_control`; plain values go between their times as `kind` says."""
    signal: Signal | None = as_control(u, m, t)
    return of_kind(signal, kind) if signal is not None and is_plain(u) else signal
