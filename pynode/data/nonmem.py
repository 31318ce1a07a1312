"""Tables of readings and doses in NONMEM's form; `read_nonmem`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.cells import NotANumber, Writing, missing_codes, numbers_of
from pynode.data.clock import Clock
from pynode.data.csv import table_of
from pynode.data.instants import Instants
from pynode.data.ragged import is_frame
from pynode.data.tables import (
    Columns,
    Reading,
    Replicates,
    Table,
    TableError,
    TableWarning,
    averaged,
    check_column,
    check_ids,
    ids_of,
    repeats_marked,
    times_of_table,
    writing_of,
)
from pynode.data.trajectories import Trajectories
from pynode.errors import users_level

Float = NDArray[np.float64]

READING, DOSE, OTHER, RESET, RESET_AND_DOSE = range(5)
"""What EVID means."""

DOSING = ("amt", "evid", "cmt", "rate", "ii", "addl", "mdv", "ss", "dur", "tinf")
KNOWN = ("id", "time", "dv", *DOSING, "dvid", "ytype", "cens")
"""Columns that mean something, in any case."""


@dataclass
class Records:
    """The rows of such a table.

    Attributes
    ----------
    table : Table
    time : (n,) array
    value : (n,) array
        DV; NaN where there is none.
    censored : (n,) array of int
    ids : list
    event : (n,) array of int
        EVID.
    output : (n,) array of int
        Which of the measured quantities.
    number : dict
        The columns of DOSING, 0 where a cell is empty or there is none.
    """

    table: Table
    time: Float
    value: Float
    censored: NDArray[np.int64]
    ids: list[Hashable]
    event: NDArray[np.int64]
    output: NDArray[np.int64]
    number: dict[str, Float]


def read_nonmem(
    table: Any,
    state: str | Iterable[str] = "DV",
    *,
    time: str = "TIME",
    id: str = "ID",
    value: str = "DV",
    covariates: str | Iterable[str] = (),
    missing: Any = None,
    censored: bool = False,
    replicates: Replicates = "keep",
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    time_unit: str | None = None,
    clock: Clock | None = None,
) -> Trajectories:
    """Readings and doses of subjects from a table in NONMEM's form: a row for each event.

    Names of columns count without regard to case: ID, TIME, DV, and, where they are there, AMT, EVID, CMT, RATE, II, ADDL,
    MDV, SS, DUR or TINF (duration of an infusion), DVID or YTYPE (what was measured), CENS. Without EVID a row is a dose
    where AMT is not 0. EVID 2 is passed over.

    Parameters
    ----------
    table : path or data frame
        A file, as `read_csv` reads it, or a data frame.
    state : str or sequence of str, default "DV"
        What each of the measured quantities is called, in the order of DVID (without it, where readings are of several
        compartments: of CMT).
    time, id, value : str, default "TIME", "ID", "DV"
        The columns of times, subjects and readings.
    covariates : str or sequence of str, optional
        Columns with one number for each subject, such as its weight.
    missing : number, str or sequence, optional
        Codes that mean: not observed.
    censored : bool, default False
        Keep readings written as <0.1 as `Trajectories.censored`; else they are refused. CENS needs no leave.
    replicates : {"keep", "average", "refuse"}, default "keep"
        Several readings of one quantity at one time.
    separator, decimal, encoding : str, optional
        How a file is written, see `read_csv`.
    time_unit : str, optional
        Of times that are dates.
    clock : Clock, optional
        How dates become numbers, that of other data.

    Returns
    -------
    Trajectories
        With `doses`: for each subject dicts of what `pynode.Dose` takes; `state` is CMT - 1.

    Raises
    ------
    TableError
        The table is none of these, or asks for what is not known here: steady state (SS), modelled rates (RATE < 0).

    Warns
    -----
    TableWarning
        A reading stands after a dose at the same time: it counts as taken just before.

    See Also
    --------
    read_csv : measurements without doses.

    Examples
    --------
    >>> import pandas as pd, pynode as pn
    >>> rows = {"ID": [1, 1, 1], "TIME": [0, 1, 2], "AMT": [100, 0, 0], "DV": [None, 8.2, 6.7], "WT": [70, 70, 70]}
    >>> data = pn.read_nonmem(pd.DataFrame(rows), state="conc", covariates="WT")
    >>> data.doses[0][0]["amount"], data.y[0][:, 0].tolist(), data.covariate_names
    (100.0, [8.2, 6.7], ('WT',))
    """
    names = (state,) if isinstance(state, str) else tuple(state)
    wanted = (time, id, value)
    reading = Reading(Writing(decimal, None, missing_codes(missing), censored), None, time_unit, replicates, clock=clock)
    source = _table(table, wanted, separator, encoding)
    found = _by_case(source)
    for name in wanted:
        check_column(source, found.get(name.lower(), name))
    called = {name: found[name.lower()] for name in wanted}
    columns = Columns(called[time], names, called[id])
    records, found_clock = _records(source, found, columns, called[value], reading)
    subjects = _subjects(records)
    for key, rows in subjects.items():
        _check_subject(records, key, rows, columns)
    outputs = _outputs(records, names)
    parts: dict[str, Any] = {
        "u": None,
        "names": outputs,
        "input_names": (),
        "time_name": columns.time,
        "id_name": columns.id,
        "ids": tuple(subjects),
        "clock": found_clock,
    }
    series = [_series(records, rows, len(outputs)) for rows in subjects.values()]
    parts["t"] = [t for t, _, _ in series]
    parts["y"] = [y for _, y, _ in series]
    parts["censored"] = [mask for _, _, mask in series] if records.censored.any() else None
    parts = averaged(parts, source.where) if replicates == "average" else repeats_marked(parts)
    if replicates == "refuse" and parts["repeated"]:
        raise TableError(f"{source.where} has several readings of one quantity at one time: replicates='keep' or 'average'")
    held = (covariates,) if isinstance(covariates, str) else tuple(covariates)
    values = _covariates(source, held, columns, subjects, reading.writing)
    doses = tuple(tuple(_doses(records, rows)) for rows in subjects.values())
    try:
        made = Trajectories.from_parts(parts)
    except ValueError as error:
        raise TableError(f"{source.where}: {error}") from None
    return replace(made, doses=doses, covariates=values, covariate_names=held)


def _table(table: Any, wanted: Sequence[str], separator: str | None, encoding: str | None) -> Table:
    """The table of a file or a data frame; the header of a file is found whatever the case of its names."""
    if is_frame(table):
        return Table.of_frame(table, wanted)
    path: str | os.PathLike[str] = table
    last = None
    for names in (wanted, [name.lower() for name in wanted], [name.capitalize() for name in wanted], []):
        last = table_of(path, list(names), separator, encoding)
        if set(map(str.lower, wanted)) <= {str(name).lower() for name in last.columns}:
            return last
    assert last is not None
    return last


def _by_case(table: Table) -> dict[str, Any]:
    """Columns by their names in lower case."""
    found: dict[str, Any] = {}
    for name in table.columns:
        lower = str(name).lower()
        if lower in found and lower in KNOWN:
            raise TableError(f"{table.where} has the columns {found[lower]!r} and {name!r}, which differ in their case only")
        found.setdefault(lower, name)
    return found


def _records(
    table: Table, found: dict[str, Any], columns: Columns, value: str, reading: Reading
) -> tuple[Records, Clock | None]:
    """The rows of the table as numbers."""
    there = {name: found[name] for name in DOSING if name in found}
    writing = writing_of(table, [columns.time, value, *there.values()], reading)
    time = times_of_table(table, columns.time, replace(reading, writing=writing))
    ids = ids_of(table, str(columns.id))
    check_ids(table, columns.id, ids, np.arange(len(ids)))
    clock = reading.clock
    if isinstance(time, Instants):
        clock = Clock.of([time], reading.time_unit) if clock is None else clock
        time = clock.numbers_of(time)
    if not np.isfinite(time).all():
        raise table.error(int(np.argmin(np.isfinite(time))), None, f"the time {columns.time!r} is missing or infinite")
    plain = replace(writing, censored=False)
    number = {name: np.zeros(len(ids)) for name in DOSING}
    number |= {name: np.nan_to_num(_column(table, there[name], plain)[0]) for name in there}
    event = number["evid"] if "evid" in there else (number["amt"] != 0).astype(np.float64)
    readings = (event == READING) & (number["mdv"] == 0)
    cells: list[Any] = list(table.column(value))
    values, mask = _column(table, value, writing, [x if seen else None for x, seen in zip(cells, readings, strict=True)])
    marks = np.zeros(len(ids), dtype=np.int64) if mask is None else mask
    if "cens" in found:
        said = np.nan_to_num(_column(table, found["cens"], plain)[0])
        marks = np.where(readings, np.sign(said).astype(np.int64), 0)
    output = _kinds(table, found, number, readings, plain)
    return Records(table, time, values, marks, ids, event.astype(np.int64), output, number), clock


def _column(table: Table, name: str, writing: Writing, cells: Sequence[Any] | None = None) -> tuple[Float, Any]:
    """(values, marks of censored readings) of a column."""
    try:
        return numbers_of(list(table.column(name)) if cells is None else cells, writing)
    except NotANumber as error:
        raise table.error(error.index, name, str(error)) from None


def _kinds(
    table: Table, found: dict[str, Any], number: dict[str, Float], readings: NDArray[np.bool_], writing: Writing
) -> NDArray[np.int64]:
    """Which quantity each row is a reading of, from 0."""
    name = next((found[x] for x in ("dvid", "ytype") if x in found), None)
    kind = number["cmt"] if name is None else _column(table, name, writing)[0]
    different = np.unique(kind[readings])
    return np.searchsorted(different, np.where(readings, kind, different[0] if len(different) else 0.0)).astype(np.int64)


def _outputs(records: Records, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of what was measured."""
    n = int(records.output.max(initial=0)) + 1
    if len(names) == n:
        return names
    if len(names) == 1:
        return tuple(f"{names[0]}{k + 1}" for k in range(n))
    raise TableError(
        f"{records.table.where} has readings of {n} quantit{'y' if n == 1 else 'ies'} (DVID or CMT), state names "
        f"{len(names)}: {', '.join(names)}"
    )


def _subjects(records: Records) -> dict[Hashable, list[int]]:
    """The rows of each subject."""
    subjects: dict[Hashable, list[int]] = {}
    for i, name in enumerate(records.ids):
        subjects.setdefault(name, []).append(i)
    if not subjects:
        raise TableError(f"{records.table.where} has a header but no rows")
    return subjects


def _check_subject(records: Records, key: Hashable, rows: list[int], columns: Columns) -> None:
    """Refuse what is not known here, and what cannot be."""
    table, number = records.table, records.number
    back = np.flatnonzero(np.diff(records.time[rows]) < 0)
    if back.size:
        words = f"the time {columns.time!r} goes back for {columns.id} {key!r}: an occasion by itself needs its own id"
        raise table.error(rows[int(back[0]) + 1], None, words)
    if np.isnan(records.value[rows]).all():
        raise TableError(f"{table.where}: {columns.id} {key!r} has no readings: leave it out")
    for i in rows:
        if records.event[i] not in range(5):
            raise table.error(i, "EVID", f"{records.event[i]} is none of 0 to 4")
        if records.event[i] in (READING, OTHER):
            continue
        if number["ss"][i] != 0:
            words = "a dose in steady state (SS) is not known here: write the doses before it, with II and ADDL"
            raise table.error(i, "SS", words)
        if number["rate"][i] < 0:
            words = "a rate or duration that is estimated (RATE < 0): give doses= with the name of a parameter as rate="
            raise table.error(i, "RATE", words)
        if number["addl"][i] > 0 and number["ii"][i] <= 0:
            raise table.error(i, "ADDL", "additional doses need the time between them, II")
        if number["cmt"][i] < 0:
            raise table.error(i, "CMT", "a compartment that is turned off (CMT < 0) is not known here")
        if records.event[i] == DOSE and number["amt"][i] == 0:
            raise table.error(i, "AMT", "EVID says that this is a dose, but its amount is missing or 0")
    _warn_of_order(records, key, rows, columns)


def _warn_of_order(records: Records, key: Hashable, rows: list[int], columns: Columns) -> None:
    """Warn where a reading stands after a dose at its time."""
    given: set[float] = set()
    for i in rows:
        if records.event[i] not in (READING, OTHER) and not _pace(records, i):
            given.add(float(records.time[i]))
        elif records.time[i] in given and not np.isnan(records.value[i]):
            table = records.table
            words = (
                f"{table.where}, {table.unit} {table.numbers[i]}: a reading of {columns.id} {key!r} stands after a dose at "
                f"the same time, {records.time[i]:g}; it counts as taken just before. Move it a little if it was taken after"
            )
            warnings.warn(words, TableWarning, stacklevel=users_level())
            return


def _series(records: Records, rows: list[int], n: int) -> tuple[Float, Float, NDArray[np.int64]]:
    """(times, readings, marks of censored ones) of a subject; a row for each time, more where a quantity was read again."""
    seen = [i for i in rows if not np.isnan(records.value[i])]
    places: dict[tuple[float, int], int] = {}
    order: list[tuple[float, int]] = []
    times: dict[tuple[float, int], tuple[Float, NDArray[np.int64]]] = {}
    for i in seen:
        t, k = float(records.time[i]), int(records.output[i])
        turn = places.get((t, k), 0)
        places[t, k] = turn + 1
        if (t, turn) not in times:
            times[t, turn] = np.full(n, np.nan), np.zeros(n, dtype=np.int64)
            order.append((t, turn))
        times[t, turn][0][k] = records.value[i]
        times[t, turn][1][k] = records.censored[i]
    order.sort()
    return (
        np.array([t for t, _ in order]),
        np.stack([times[key][0] for key in order]),
        np.stack([times[key][1] for key in order]),
    )


def _doses(records: Records, rows: list[int]) -> list[dict[str, Any]]:
    """The doses of a subject, as `pynode.Dose` takes them."""
    number = records.number
    found: list[dict[str, Any]] = []
    for i in rows:
        time = float(records.time[i])
        if records.event[i] in (RESET, RESET_AND_DOSE):
            found.append({"time": time, "kind": "reset"})
        if records.event[i] not in (DOSE, RESET_AND_DOSE):
            continue
        value = {name: float(column[i]) for name, column in number.items()}
        dose: dict[str, Any] = {"time": time, "amount": value["amt"], "state": max(int(value["cmt"]), 1) - 1}
        dose |= _pace(records, i)
        if value["addl"] > 0:
            dose |= {"interval": value["ii"], "count": int(value["addl"]) + 1}
        found.append(dose)
    return found


def _pace(records: Records, i: int) -> dict[str, float]:
    """The rate or the duration of an infusion; nothing where the dose of row i is given at once."""
    rate, dur, tinf = (float(records.number[name][i]) for name in ("rate", "dur", "tinf"))
    if rate > 0:
        return {"rate": rate}
    duration = dur or tinf
    return {"duration": duration} if duration > 0 else {}


def _covariates(
    table: Table, names: tuple[str, ...], columns: Columns, subjects: dict[Hashable, list[int]], writing: Writing
) -> Float | None:
    """(B, m) values of what is known of each subject."""
    held = []
    for name in names:
        check_column(table, name)
        cells = _column(table, name, writing_of(table, [name], Reading(writing)))[0]
        own = [np.unique(cells[rows][~np.isnan(cells[rows])]) for rows in subjects.values()]
        several = [key for key, x in zip(subjects, own, strict=True) if len(x) != 1]
        if several:
            raise TableError(
                f"{table.where}: the covariate {name!r} of {columns.id} {several[0]!r} is not one number; what changes with "
                "time is a control input"
            )
        held.append([float(x[0]) for x in own])
    return np.array(held).T if held else None
