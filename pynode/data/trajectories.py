"""Measured trajectories, each with its own times; `Trajectories`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import own_array
from pynode.data.control import as_control
from pynode.data.dates import COLUMN_REMEDY, dates_in
from pynode.data.signal import Signal

Float = NDArray[np.float64]


class TableError(ValueError):
    """A table that cannot be read as trajectories. The message names the file, the line and the column."""


@dataclass(frozen=True)
class Trajectories:
    """Measured trajectories, each with its own times.

    Attributes
    ----------
    t : tuple of (T_i,) arrays
        Times, strictly increasing; read-only copies, as y.
    y : tuple of (T_i, d) arrays
        States; NaN where one was not observed.
    names : tuple of str
        Names of the d states.
    time_name : str
        What the time is called.
    ids : tuple
        What each trajectory is called; default 0, 1, ...
    signal : Signal or None
        Control inputs, a sample for each trajectory.

    Raises
    ------
    ValueError
        Shapes do not fit, times do not increase, or a state is infinite; the message names the trajectory.

    See Also
    --------
    read_csv : trajectories from a CSV file.

    Examples
    --------
    >>> import pynode as pn
    >>> data = pn.Trajectories.from_arrays([0.0, 1.0, 2.0], [[1.0], [0.5], [float("nan")]], names=["dose"])
    >>> len(data), data.d, data.n_observed
    (1, 1, 2)
    """

    t: tuple[Float, ...]
    y: tuple[Float, ...]
    names: tuple[str, ...]
    time_name: str = "t"
    ids: tuple[Hashable, ...] = ()
    signal: Signal | None = None
    censored: Any = None
    doses: Any = None

    def __post_init__(self) -> None:
        t = tuple(own_array("t", x, np.float64) for x in self.t)
        y = tuple(own_array("y", x, np.float64) for x in self.y)
        object.__setattr__(self, "t", t)
        object.__setattr__(self, "y", y)
        if not t or len(t) != len(y):
            raise ValueError(
                f"there must be as many arrays of times as of states, and at least one; got {len(t)} and {len(y)}"
            )
        if not self.ids:
            object.__setattr__(self, "ids", tuple(range(len(t))))
        if len(self.ids) != len(t):
            raise ValueError(f"there are {len(t)} trajectories, but {len(self.ids)} ids")
        for name, times, states in zip(self.ids, t, y, strict=True):
            where = f"trajectory {name}" if len(t) > 1 else "the trajectory"
            if times.ndim != 1 or states.shape != (len(times), self.d):
                raise ValueError(
                    f"{where}: t must have shape (T,) and y (T, {self.d}), got {times.shape} and {states.shape}"
                )
            if len(times) == 0:
                raise ValueError(f"{where} is empty")
            _check_times(times, where, self.time_name)
            if np.isinf(states).any():
                row, column = np.argwhere(np.isinf(states))[0]
                raise ValueError(
                    f"{where}: {self.names[column]} is infinite at {self.time_name} = {times[row]:g}; "
                    "write NaN where it was not observed"
                )
        if self.signal is not None and not self.signal.shared and len(self.signal.u) != len(t):
            raise ValueError(f"there are {len(t)} trajectories, but control inputs for {len(self.signal.u)}")

    @property
    def d(self) -> int:
        """Number of states."""
        return len(self.names)

    @property
    def n_observed(self) -> int:
        """How many numbers were observed."""
        return sum(int((~np.isnan(y)).sum()) for y in self.y)

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self.t)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """How many times each trajectory has."""
        return tuple(len(times) for times in self.t)

    @property
    def never_observed(self) -> list[str]:
        """Names of states without any observation."""
        return [name for j, name in enumerate(self.names) if all(np.isnan(y[:, j]).all() for y in self.y)]

    def take(self, which: Iterable[int]) -> Trajectories:
        """Some of the trajectories.

        Parameters
        ----------
        which : sequence of int
            Their positions.

        Returns
        -------
        Trajectories
            In the order of `which`.
        """
        positions = [int(i) for i in which]
        t = tuple(self.t[i] for i in positions)
        y = tuple(self.y[i] for i in positions)
        ids = tuple(self.ids[i] for i in positions)
        signal = None if self.signal is None else self.signal.take(positions)
        return Trajectories(t, y, self.names, self.time_name, ids, signal)

    def rows(self, start: int | None = None, stop: int | None = None) -> Trajectories:
        """The same trajectories with the times at positions start:stop only.

        Parameters
        ----------
        start, stop : int, optional
            As in a slice; default: from the first time, to the last.

        Returns
        -------
        Trajectories
        """
        cut = slice(start, stop)
        return Trajectories(
            tuple(t[cut] for t in self.t),
            tuple(y[cut] for y in self.y),
            self.names,
            self.time_name,
            self.ids,
            self.signal,
        )

    @classmethod
    def from_arrays(cls, t: Any, Y: Any, names: Iterable[str] | None = None, time_name: str = "t", u: Any = None) -> Self:
        """Trajectories from arrays.

        Parameters
        ----------
        t : (T,) array, or a list of (T_i,) arrays
            Times; one array is shared by all trajectories.
        Y : (T,), (T, d) or (B, T, d) array, or a list of (T_i,) or (T_i, d) arrays
            States; NaN: not observed.
        names : sequence of str, optional
            Names of the states; default y1, y2, ...
        time_name : str, default "t"
            What the time is called.
        u : array, list, tuple or Signal, optional
            Control inputs, see `pynode.NeuralODE.fit`.

        Returns
        -------
        Trajectories
        """
        ys = _states(Y)
        d = ys[0].shape[1]
        if isinstance(t, (list, tuple)) and len(t) and np.ndim(t[0]) == 1:
            ts = [own_array("t", times, np.float64) for times in t]
        else:
            t = own_array("t", t, np.float64)
            ts = list(t) if t.ndim == 2 else [t] * len(ys)
        if len(ts) != len(ys):
            raise ValueError(f"t has the times of {len(ts)} trajectories, Y has {len(ys)}")
        called = tuple(f"y{j + 1}" for j in range(d)) if names is None else tuple(map(str, names))
        if len(called) != d or len(set(called)) != d:
            raise ValueError(f"names must be {d} different names, one for each state; got {called}")
        for i, (times, states) in enumerate(zip(ts, ys, strict=True)):
            if times.ndim != 1 or len(times) != len(states):
                raise ValueError(
                    f"trajectory {i}: t has shape {times.shape}, so Y must have {times.size} rows; it has {len(states)}"
                )
        return cls(tuple(ts), tuple(ys), called, time_name, signal=as_control(u, None, ts))

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        time: str,
        state: str | Iterable[str],
        id: str | None = None,
        input: str | Iterable[str] | None = None,
    ) -> Trajectories:
        """Trajectories from a data frame in long form: a row for each time, a column for each state.

        Parameters
        ----------
        frame : pandas.DataFrame, or alike
            Anything with columns by name.
        time : str
            The column of times.
        state : str or sequence of str
            The columns of states; NaN: not observed.
        id : str, optional
            The column that tells which trajectory a row belongs to.
        input : str or sequence of str, optional
            Columns of control inputs, known in every row.

        Returns
        -------
        Trajectories

        Raises
        ------
        TableError
            A column is missing, or holds something else than numbers.
        """
        columns_there = list(frame.columns)
        index = [name for name in getattr(getattr(frame, "index", None), "names", ()) if name is not None]
        names, inputs = column_names(time, state, id, input, columns_there, "the table", index)
        times, *columns = (_numbers_of_column(frame, name) for name in (time, *names, *inputs))
        ids = None if id is None else list(frame[id])
        rows = range(len(times))
        return grouped_rows(times, np.stack(columns, axis=1), ids, names, inputs, time, id, "the table", "row", rows)


def _numbers_of_column(frame: Any, name: str) -> Float:
    """A column as float64."""
    column = frame[name]
    found = dates_in(column)
    if found is not None:
        remedy = COLUMN_REMEDY[found].format(name)
        raise TableError(f"column {name!r} of the table holds {found} ({column.dtype}), not numbers: {remedy}")
    if getattr(column.dtype, "kind", "") == "c":
        raise TableError(f"column {name!r} of the table holds complex numbers: give real and imaginary parts as columns")
    try:
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError):
        raise TableError(f"column {name!r} of the table holds {column.dtype}, not numbers") from None


def column_names(
    time: str,
    state: str | Iterable[str],
    id: str | None,
    input: str | Iterable[str] | None,
    columns: Sequence[Any],
    where: str,
    index: Sequence[Any] = (),
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`state` and `input` as tuples, after checking that all columns are there, once each; index: names of no columns."""
    states = (state,) if isinstance(state, str) else tuple(state)
    inputs = () if input is None else (input,) if isinstance(input, str) else tuple(input)
    if not states:
        raise TableError("name at least one column of states")
    wanted = [time, *states, *inputs, *([] if id is None else [id])]
    for name in wanted:
        if columns.count(name) != 1:
            how = "no column" if name not in columns else "more than one column"
            hint = f"; {name!r} is its index: frame.reset_index() makes a column of it" if name in index else ""
            raise TableError(f"{where} has {how} {name!r}; its columns are {', '.join(map(str, columns))}{hint}")
        if wanted.count(name) > 1:
            raise TableError(f"column {name!r} is named twice: time, id and each state need columns of their own")
    return states, inputs


def grouped_rows(
    times: Float,
    columns: Float,
    ids: Sequence[Hashable] | None,
    names: tuple[str, ...],
    input_names: tuple[str, ...],
    time_name: str,
    id_name: str | None,
    where: str,
    unit: str,
    numbers: Sequence[int],
) -> Trajectories:
    """Rows in long form as Trajectories: split by id (in order of appearance), sorted by time.

    Parameters
    ----------
    times : (n,) array
    columns : (n, d + m) array
        States, then control inputs.
    ids : list, optional
        To which trajectory each row belongs; None: all to one.
    names, input_names : tuple of str
    time_name, id_name : str
    where, unit : str
        What errors call the table and one of its rows.
    numbers : sequence of int
        What errors call each row.
    """
    if len(times) == 0:
        raise TableError(f"{where} has a header but no rows")
    states = columns[:, : len(names)]
    inputs = columns[:, len(names) :]
    bad = np.flatnonzero(~np.isfinite(times))
    if bad.size:
        raise TableError(f"{where}, {unit} {numbers[bad[0]]}: the time {time_name!r} is missing or infinite")
    unknown = np.argwhere(~np.isfinite(inputs))
    if unknown.size:
        row, column = unknown[0]
        raise TableError(f"{where}, {unit} {numbers[row]}: the control input {input_names[column]!r} is missing or infinite")
    if ids is not None:
        _check_ids(ids, where, unit, numbers, id_name)
    groups: dict[Hashable, list[int]] = {}
    for i in range(len(times)):
        groups.setdefault(None if ids is None else ids[i], []).append(i)
    ts = []
    ys = []
    us = []
    for name, group in groups.items():
        rows = np.asarray(group)
        rows = rows[np.argsort(times[rows], kind="stable")]
        same = np.flatnonzero(np.diff(times[rows]) == 0)
        if same.size:
            a, b = sorted(rows[[same[0], same[0] + 1]])
            help_ = (
                "name the column that tells trajectories apart (id)"
                if id_name is None
                else f"both belong to {id_name} {name!r}"
            )
            raise TableError(
                f"{where}, {unit}s {numbers[a]} and {numbers[b]} have the same time {time_name} = {times[a]:g}: {help_}"
            )
        ts.append(times[rows])
        ys.append(states[rows])
        us.append(inputs[rows])
    try:
        signal = as_control(us, None, ts) if input_names else None
        return Trajectories(tuple(ts), tuple(ys), names, time_name, () if ids is None else tuple(groups), signal)
    except ValueError as error:
        raise TableError(f"{where}: {error}") from None


def _check_ids(ids: Sequence[Hashable], where: str, unit: str, numbers: Sequence[int], id_name: str | None) -> None:
    """Every row must say to which trajectory it belongs, and each trajectory must be called the same in all its rows."""
    missing = [number for number, name in zip(numbers, ids, strict=True) if _is_missing(name)]
    if missing:
        first = ", ".join(map(str, missing[:3])) + (", ..." if len(missing) > 3 else "")
        raise TableError(
            f"{where}, {unit}{'s' * (len(missing) > 1)} {first}: the id {id_name!r} is missing, so that nobody knows to "
            "which trajectory the row belongs; fill it in, or leave those rows out"
        )
    spelled: dict[str, Hashable] = {}
    for number, name in zip(numbers, ids, strict=True):
        other = spelled.setdefault(_spelling(name), name)
        if other != name:
            raise TableError(
                f"{where}, {unit} {number}: the ids {other!r} and {name!r} of column {id_name!r} differ in how they are "
                "written only; write them the same, or give them names that differ"
            )


def _is_missing(name: Any) -> bool:
    """None, NaN, NaT, pandas.NA, or blank."""
    if name is None or (isinstance(name, str) and not name.strip()):
        return True
    return type(name).__name__ == "NAType" or bool(name != name)


def _spelling(name: Hashable) -> str:
    """An id without what does not tell ids apart: spaces around it, the zeros of a whole number."""
    text = str(name).strip()
    whole, point, fraction = text.partition(".")
    return whole if point and whole.lstrip("+-").isdigit() and not fraction.strip("0") else text


def _check_times(t: Float, where: str, name: str) -> None:
    if not np.isfinite(t).all():
        raise ValueError(f"{where}: {name} must be finite")
    back = np.flatnonzero(np.diff(t) <= 0)
    if back.size:
        i = back[0]
        raise ValueError(f"{where}: {name} must increase strictly, but index {i} has {t[i]:g} and {i + 1} has {t[i + 1]:g}")


def _states(Y: Any) -> list[Float]:
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
