"""Tables of measurements in long or wide form, cut into trajectories: columns, dates, ids, replicates."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pynode.data.cells import NotANumber, Writing, doubts_about, is_missing, is_number, numbers_of, plain_numbers
from pynode.data.clock import Clock
from pynode.data.dates import COLUMN_REMEDY, dates_in
from pynode.data.instants import Instants, NotADate, as_instants
from pynode.errors import users_level

Float = NDArray[np.float64]
Integers = NDArray[np.int64]

Replicates = Literal["refuse", "keep", "average"]
"""What becomes of several readings at one time: an error, kept as they are, or their mean."""


class TableError(ValueError):
    """A table that cannot be read as trajectories. The message names the file, the line and the column."""


class TableWarning(UserWarning):
    """Something in a table that is probably not what it seems: a code of missing values, a constant column."""


@dataclass(frozen=True)
class Table:
    """Columns by name, and what errors call the table and its rows.

    Attributes
    ----------
    columns : list
        Their names.
    column : callable
        column(name): its cells, as a sequence, or as a column of pandas.
    where, unit : str
        What errors call the table and one of its rows.
    numbers : sequence of int
        What errors call each row.
    """

    columns: list[Any]
    column: Callable[[Any], Any]
    where: str
    unit: str
    numbers: Sequence[int]

    @classmethod
    def of_frame(cls, frame: Any, wanted: Iterable[str]) -> Table:
        """Of a data frame; its index counts as columns where one is wanted."""
        index = [name for name in getattr(getattr(frame, "index", None), "names", ()) if name is not None]
        if any(name in index and name not in list(frame.columns) for name in wanted):
            frame = frame.reset_index()
        return cls(list(frame.columns), lambda name: frame[name], "the table", "row", range(len(frame)))

    def error(self, row: int, column: str | None, words: str) -> TableError:
        """What is wrong in a row (-1: in no row alone), as an error."""
        place = "" if row < 0 else f", {self.unit} {self.numbers[row]}"
        return TableError(f"{self.where}{place}{'' if column is None else f', column {column!r}'}: {words}")


@dataclass(frozen=True)
class Reading:
    """How a table is read; see `pynode.read_csv`."""

    writing: Writing = field(default_factory=Writing)
    date_format: str | None = None
    time_unit: str | None = None
    replicates: Replicates = "refuse"
    wide: bool | tuple[str, ...] = False
    clock: Clock | None = None

    def __post_init__(self) -> None:
        if self.replicates not in get_args(Replicates):
            raise ValueError(f"replicates={self.replicates!r} is not one of {', '.join(get_args(Replicates))}")


@dataclass(frozen=True)
class Columns:
    """The columns that are wanted."""

    time: str
    state: tuple[str, ...]
    id: str | None = None
    input: tuple[str, ...] = ()

    @classmethod
    def of(cls, time: str, state: str | Iterable[str], id: str | None, input: str | Iterable[str] | None) -> Columns:
        """From what a user names."""
        states = (state,) if isinstance(state, str) else tuple(state)
        inputs = () if input is None else (input,) if isinstance(input, str) else tuple(input)
        if not states:
            raise TableError("name at least one column of states")
        return cls(time, states, id, inputs)

    @property
    def all(self) -> list[str]:
        """Every name."""
        return [self.time, *self.state, *self.input, *([] if self.id is None else [self.id])]

    def check(self, table: Table) -> None:
        """Raise TableError unless each is there, once."""
        for name in self.all:
            check_column(table, name)
            if self.all.count(name) > 1:
                raise TableError(f"column {name!r} is named twice: time, id and each state need columns of their own")


def check_column(table: Table, name: str) -> None:
    """Raise TableError unless the table has one column of this name."""
    if table.columns.count(name) == 1:
        return
    if name in table.columns:
        raise TableError(f"{table.where} has more than one column {name!r}; its columns are {listed(table.columns)}")
    near = nearest(name, table.columns)
    hint = "" if near is None else f"; did you mean {near!r}?"
    raise TableError(f"{table.where} has no column {name!r}; its columns are {listed(table.columns)}{hint}")


def listed(columns: Sequence[Any], most: int = 30) -> str:
    """Names of columns for a message, the first of many."""
    names = ", ".join(str(name) or "(unnamed)" for name in columns[:most])
    return names + (f", ... ({len(columns)} in all)" if len(columns) > most else "")


def nearest(name: str, columns: Sequence[Any]) -> str | None:
    """The column whose name is most like this one, or None."""
    plain = {str(column).casefold().strip(): str(column) for column in reversed(columns) if str(column)}
    wanted = str(name).casefold().strip()
    for known, column in plain.items():  # T is meant by T [degC]
        if known.startswith(wanted) and not known[len(wanted) :][:1].isalnum():
            return column
    close = difflib.get_close_matches(wanted, plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else None


@dataclass
class Rows:
    """The rows of a table in long form, as numbers.

    Attributes
    ----------
    time : (n,) array or Instants
    state : (n, d) array
    input : (n, m) array
    ids : list or None
    censored : (n, d) array of int or None
    at : (n,) array of int
        Which row of the table each was.
    """

    time: Float | Instants
    state: Float
    input: Float
    ids: list[Hashable] | None
    censored: Integers | None
    at: Integers


def parts_of(table: Table, columns: Columns, reading: Reading) -> dict[str, Any]:
    """What `Trajectories` are made of, from a table.

    Parameters
    ----------
    table : Table
    columns : Columns
    reading : Reading

    Returns
    -------
    dict
        t, y, u (lists of arrays), names, input_names, time_name, id_name, ids, clock, censored, repeated.

    Raises
    ------
    TableError
        The table holds something else; the message names row and column.
    """
    if reading.wide is not False:
        columns, rows = _wide_rows(table, columns, reading)
    else:
        columns.check(table)
        rows = _long_rows(table, columns, reading)
    if not len(rows.at):
        raise TableError(f"{table.where} has a header but no rows")
    _check_rows(table, columns, rows)
    return _grouped(table, columns, rows, reading)


def _long_rows(table: Table, columns: Columns, reading: Reading) -> Rows:
    """The rows of a table in long form."""
    writing = writing_of(table, columns.all[: 1 + len(columns.state) + len(columns.input)], reading)
    time = times_of_table(table, columns.time, replace(reading, writing=writing))
    read = {name: numbers(table, name, writing, name in columns.state) for name in (*columns.state, *columns.input)}
    n = len(time.values) if isinstance(time, Instants) else len(time)
    return Rows(
        time,
        np.stack([read[name][0] for name in columns.state], axis=1),
        np.stack([read[name][0] for name in columns.input], axis=1) if columns.input else np.empty((n, 0)),
        None if columns.id is None else ids_of(table, columns.id),
        _masks([read[name][1] for name in columns.state], n),
        np.arange(n),
    )


def _masks(masks: Sequence[Integers | None], n: int) -> Integers | None:
    """The columns of marks of censored readings, side by side; None without any."""
    if all(mask is None for mask in masks):
        return None
    return np.stack([np.zeros(n, dtype=np.int64) if mask is None else mask for mask in masks], axis=1)


def _wide_rows(table: Table, columns: Columns, reading: Reading) -> tuple[Columns, Rows]:
    """The rows in long form of a table with a column for each trajectory."""
    if columns.id is not None or columns.input:
        raise TableError("wide=True: each column is a trajectory, so there is no column of ids, and none of inputs")
    check_column(table, columns.time)
    parts = _wide_columns(table, columns, reading.wide)
    used = [name for names in parts.values() for name in names if name is not None]
    writing = writing_of(table, [columns.time, *used], reading)
    time = times_of_table(table, columns.time, replace(reading, writing=writing))
    values = time.values if isinstance(time, Instants) else time
    read = {name: numbers(table, name, writing, True) for name in used}
    states = []
    masks = []
    at = []
    ids: list[Hashable] = []
    for id_, names in parts.items():
        nothing = np.full(len(values), np.nan)
        y = np.stack([nothing if name is None else read[name][0] for name in names], axis=1)
        seen = np.flatnonzero(~np.isnan(y).all(axis=1))
        if not seen.size:
            raise TableError(f"{table.where}: nothing was observed in column {used[0] if len(names) > 1 else names[0]!r}")
        mask = _masks([None if name is None else read[name][1] for name in names], len(values))
        states.append(y[seen])
        masks.append(np.zeros(y.shape, dtype=np.int64)[seen] if mask is None else mask[seen])
        ids += [id_] * len(seen)
        at.append(seen)
    rows = np.concatenate(at)
    moved = Instants(values[rows], time.timezone) if isinstance(time, Instants) else values[rows]
    mask = np.concatenate(masks)
    made = Rows(moved, np.concatenate(states), np.empty((len(rows), 0)), ids, mask if mask.any() else None, rows)
    return replace(columns, id="trajectory"), made


def _wide_columns(table: Table, columns: Columns, wide: bool | tuple[str, ...]) -> dict[str, list[str | None]]:
    """The columns of each trajectory, one a state (None: not there)."""
    if wide is True:
        there = [str(name) for name in table.columns if name != columns.time and str(name).strip()]
    else:
        there = list(wide) if isinstance(wide, tuple) else []
        for name in there:
            check_column(table, name)
    if len(columns.state) == 1:
        return {name: [name] for name in there}
    parts: dict[str, list[str | None]] = {}
    for name in there:
        for j, state in enumerate(columns.state):
            rest = name.removeprefix(state)
            if rest != name and rest[:1] in "_.- :" and rest[1:]:
                parts.setdefault(rest[1:], [None] * len(columns.state))[j] = name
    if not parts:
        raise TableError(
            f"{table.where}: wide=True with states {', '.join(columns.state)} needs columns such as {columns.state[0]}_1 "
            f"and {columns.state[1]}_1; its columns are {listed(table.columns)}"
        )
    return parts


def writing_of(table: Table, names: Iterable[str], reading: Reading) -> Writing:
    """How numbers are written in these columns."""
    names = list(names)
    given = reading.writing
    if given.decimal is None and given.thousands is None:  # the usual case, quickly
        texts = [list(_texts(table, [name])) for name in names]
        if all(plain_numbers(cells, given) is not None for cells in texts):
            return replace(given, decimal=".")
    try:
        return reading.writing.found_in(_texts(table, names))
    except NotANumber as error:
        try:  # other columns may tell
            return reading.writing.found_in(_texts(table, [x for x in table.columns if table.columns.count(x) == 1]))
        except NotANumber:
            raise table.error(error.index, None, str(error)) from None


def _texts(table: Table, names: Iterable[str]) -> Iterator[str]:
    """All cells of these columns that are texts."""
    for name in names:
        column = table.column(name)
        if getattr(getattr(column, "dtype", None), "kind", "O") not in "biufMm":
            yield from (cell for cell in column if isinstance(cell, str))


def numbers(table: Table, name: str, writing: Writing, state: bool) -> tuple[Float, Integers | None]:
    """A column as numbers, with marks of censored readings; doubts about it are warnings."""
    column = table.column(name)
    found = dates_in(column) if hasattr(column, "dtype") else None
    if found is not None:
        remedy = COLUMN_REMEDY[found].format(name)
        raise TableError(f"column {name!r} of {table.where} holds {found} ({column.dtype}), not numbers: {remedy}")
    kind = getattr(getattr(column, "dtype", None), "kind", "O")
    if kind == "c":
        raise TableError(f"column {name!r} of {table.where} holds complex numbers: give real and imaginary parts as columns")
    mask = None
    try:
        if kind in "biuf" and not writing.missing:
            values = np.array(column.to_numpy(dtype=np.float64, na_value=np.nan))
        else:
            values, mask = numbers_of(list(column), writing)
    except NotANumber as error:
        raise table.error(error.index, name, str(error)) from None
    for words in doubts_about(name, values, state):
        warnings.warn(f"{table.where}: {words}", TableWarning, stacklevel=users_level())
    return values, mask


def times_of_table(table: Table, name: str, reading: Reading) -> Float | Instants:
    """The column of times, as numbers or dates."""
    column = table.column(name)
    native = getattr(getattr(column, "dtype", None), "kind", "O") in "Mm" or hasattr(column, "cat")
    if reading.date_format is None and not native:
        cells = list(column)
        first = next((cell for cell in cells if not is_missing(cell)), None)
        if first is None or is_number(first) or (isinstance(first, str) and not any(map(str.isdigit, first))):
            try:
                return numbers_of(cells, replace(reading.writing, censored=False))[0]
            except NotANumber as error:
                raise table.error(error.index, name, str(error)) from None
    return _instants(table, name, column if hasattr(column, "dtype") else list(column), reading)


def _instants(table: Table, name: str, cells: Any, reading: Reading) -> Instants:
    try:
        found = as_instants(cells, reading.date_format, texts=True)
    except NotADate as error:
        if error.missing:
            raise table.error(error.index, None, f"the time {name!r} {error}") from None
        raise table.error(error.index, name, f"the time {error}") from None
    assert found is not None
    return found


def ids_of(table: Table, name: str) -> list[Hashable]:
    """Ids; in files, which hold texts only, without blanks around them, and "" where one is missing."""
    ids: list[Hashable] = list(table.column(name))
    if table.unit != "line":
        return ids
    return ["" if is_missing(x) else str(x).strip() for x in ids]


def _check_rows(table: Table, columns: Columns, rows: Rows) -> None:
    """Times and inputs are known in every row, and each says to which trajectory it belongs."""
    if not isinstance(rows.time, Instants):
        bad = np.flatnonzero(~np.isfinite(rows.time))
        if bad.size:
            raise table.error(int(rows.at[bad[0]]), None, f"the time {columns.time!r} is missing or infinite")
    unknown = np.argwhere(~np.isfinite(rows.input))
    if unknown.size:
        row, column = unknown[0]
        raise table.error(int(rows.at[row]), None, f"the control input {columns.input[column]!r} is missing or infinite")
    if rows.ids is not None:
        check_ids(table, columns.id, rows.ids, rows.at)


def _grouped(table: Table, columns: Columns, rows: Rows, reading: Reading) -> dict[str, Any]:
    """Rows split by id (in order of appearance) and sorted by time."""
    times = rows.time.values if isinstance(rows.time, Instants) else rows.time
    groups: dict[Hashable, list[int]] = {}
    for i in range(len(times)):
        groups.setdefault(None if rows.ids is None else rows.ids[i], []).append(i)
    chosen = []
    for name, group in groups.items():
        part = np.asarray(group)
        part = part[np.argsort(times[part], kind="stable")]
        if reading.replicates == "refuse":
            _refuse_repeats(table, columns, times, part, rows.at, name)
        chosen.append(part)
    clock = reading.clock
    ts: list[Any] = [times[part] for part in chosen]
    if isinstance(rows.time, Instants):
        dates = [Instants(t, rows.time.timezone) for t in ts]
        clock = Clock.of(dates, reading.time_unit) if reading.clock is None else reading.clock
        ts = [clock.numbers_of(x) for x in dates]
    elif reading.time_unit is not None:
        raise TableError(f"time_unit={reading.time_unit!r} is for dates and durations; {columns.time!r} holds numbers")
    parts: dict[str, Any] = {
        "t": ts,
        "y": [rows.state[part] for part in chosen],
        "u": [rows.input[part] for part in chosen] if columns.input else None,
        "names": columns.state,
        "input_names": columns.input,
        "time_name": columns.time,
        "id_name": columns.id,
        "ids": () if rows.ids is None else tuple(groups),
        "clock": clock,
        "censored": None if rows.censored is None else [rows.censored[part] for part in chosen],
        "repeated": False,
    }
    return averaged(parts, table.where) if reading.replicates == "average" else repeats_marked(parts)


def repeats_marked(parts: dict[str, Any]) -> dict[str, Any]:
    """The same, saying whether there are several readings at one time."""
    return parts | {"repeated": any((np.diff(t) == 0).any() for t in parts["t"])}


def averaged(parts: dict[str, Any], where: str = "the data") -> dict[str, Any]:
    """The same with the mean of the readings at each time, of those that were observed.

    Raises
    ------
    TableError
        Some readings are censored, or control inputs differ at one time.
    """
    if parts["censored"] is not None:
        raise TableError(f"{where}: readings beyond a limit have no mean: replicates='keep' keeps them")
    ts = []
    ys = []
    us = []
    for i, t in enumerate(parts["t"]):
        found, first, group = np.unique(t, return_index=True, return_inverse=True)
        y = parts["y"][i]
        seen = ~np.isnan(y)
        total = np.zeros((len(found), y.shape[1]))
        count = np.zeros((len(found), y.shape[1]))
        np.add.at(total, group, np.where(seen, y, 0.0))
        np.add.at(count, group, seen)
        ts.append(found)
        ys.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
        if parts["u"] is not None:
            u = parts["u"][i]
            if (u != u[first][group]).any():
                raise TableError(f"{where}: control inputs differ between readings at one time, so these have no mean")
            us.append(u[first])
    return parts | {"t": ts, "y": ys, "u": None if parts["u"] is None else us, "repeated": False}


def _refuse_repeats(table: Table, columns: Columns, times: Any, part: Any, at: Integers, name: Hashable) -> None:
    same = np.flatnonzero(times[part][1:] == times[part][:-1])
    if not same.size:
        return
    pair = part[[same[0], same[0] + 1]]
    a, b = sorted(table.numbers[i] for i in at[pair])
    shown = times[pair[0]]
    value = f"{shown:g}" if isinstance(shown, np.floating) else str(shown).removesuffix(".000000").replace("T", " ")
    help_ = (
        "name the column that tells trajectories apart (id)"
        if columns.id is None
        else f"both belong to {columns.id} {name!r}"
    )
    help_ += "; or keep both readings: replicates='keep' (--replicates), or their mean: replicates='average' (--average)"
    raise TableError(f"{table.where}, {table.unit}s {a} and {b} have the same time {columns.time} = {value}: {help_}")


def check_ids(table: Table, id_name: str | None, ids: Sequence[Hashable], at: Integers) -> None:
    """Every row must say to which trajectory it belongs, and each trajectory must be called the same in all its rows."""
    different = list(dict.fromkeys(ids))
    blank = {name for name in different if _is_missing(name)}
    if blank:
        missing = [table.numbers[row] for row, name in zip(at, ids, strict=True) if name in blank or _is_missing(name)]
        first = ", ".join(map(str, missing[:3])) + (", ..." if len(missing) > 3 else "")
        raise TableError(
            f"{table.where}, {table.unit}{'s' * (len(missing) > 1)} {first}: the id {id_name!r} is missing, so that nobody "
            "knows to which trajectory the row belongs; fill it in, or leave those rows out"
        )
    spelled: dict[str, Hashable] = {}
    for name in different:
        other = spelled.setdefault(_spelling(name), name)
        if other is not name:
            raise table.error(
                int(at[ids.index(name)]),
                None,
                f"the ids {other!r} and {name!r} of column {id_name!r} differ in how they are written only; write them the "
                "same, or give them names that differ",
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
