"""CSV files of measurements become ragged trajectories."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pynode.data.dates import reads_as_date
from pynode.data.trajectories import TableError, Trajectories, column_names, grouped_rows

MISSING = {"", "na", "n/a", "nan", "null", "none", "."}
"""Entries of a CSV file, in lower case, that mean: not observed."""


def read_csv(
    path: str | os.PathLike[str],
    time: str,
    state: str | Iterable[str],
    id: str | None = None,
    separator: str | None = None,
    input: str | Iterable[str] | None = None,
) -> Trajectories:
    """Read trajectories in long form from a CSV file: a row for each time, a column for each state.

    Lines that start with ``#`` are comments; empty entries, NA and NaN mean: not observed. Rows may come in
    any order.

    Parameters
    ----------
    path : str or path
        The file, in UTF-8, with a header.
    time : str
        The column of times.
    state : str or sequence of str
        The columns of states.
    id : str, optional
        The column that tells which trajectory a row belongs to, filled in every row; without it all rows are one
        trajectory.
    separator : str, optional
        Default: the one of ``, ; tab`` that the first line has.
    input : str or sequence of str, optional
        Columns of control inputs, known in every row.

    Returns
    -------
    Trajectories

    Raises
    ------
    TableError
        The file is not such a table; the message names the line and the column.

    See Also
    --------
    Trajectories.from_frame : the same from a data frame.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import pynode as pn
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "doses.csv"
    >>> _ = file.write_text("subject,hours,level\\na,0,1.0\\na,1,0.5\\nb,0,2.0\\n")
    >>> data = pn.read_csv(file, time="hours", state="level", id="subject")
    >>> data.ids, data.lengths
    (('a', 'b'), (2, 1))
    """
    path = Path(path)
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            lines = [(number, line) for number, line in enumerate(file, 1) if line.strip() and line[0] != "#"]
        except UnicodeDecodeError:
            raise TableError(f"{path} is not a text file in UTF-8") from None
    if not lines:
        raise TableError(f"{path} is empty")
    if separator is None:
        separator = max(",;\t", key=lines[0][1].count)
    try:
        rows = list(csv.reader((line for _, line in lines), delimiter=separator, strict=True, skipinitialspace=True))
    except csv.Error as error:
        raise TableError(f"{path}: {error}") from None
    if len(rows) != len(lines):
        raise TableError(f"{path}: entries that go over several lines are not supported")
    header = [name.strip() for name in rows[0]]
    states, inputs = column_names(time, state, id, input, header, str(path))
    at = [header.index(name) for name in (time, *states, *inputs)]
    values = np.empty((len(rows) - 1, len(at)))
    for i, row in enumerate(rows[1:]):
        if len(row) != len(header):
            raise TableError(f"{path}, line {lines[i + 1][0]}: {len(row)} entries, but the header has {len(header)}")
        for j, column in enumerate(at):
            values[i, j] = _number(row[column], path, lines[i + 1][0], header[column])
    ids = None if id is None else [_id(row[header.index(id)]) for row in rows[1:]]
    numbers = [number for number, _ in lines[1:]]
    return grouped_rows(values[:, 0], values[:, 1:], ids, states, inputs, time, id, str(path), "line", numbers)


def _id(text: str) -> str:
    """An id, "" where it is missing."""
    text = text.strip()
    return "" if text.lower() in MISSING else text


def _number(text: str, path: Path, line: int, column: str) -> float:
    """An entry of the file, NaN where nothing was observed."""
    text = text.strip()
    if text.lower() in MISSING:
        return np.nan
    try:
        return float(text)
    except ValueError:
        if reads_as_date(text):
            raise TableError(
                f"{path}, line {line}, column {column!r}: {text!r} is a date or a time of the day, which has no unit here; "
                "write numbers, for example hours since the start"
            ) from None
        hint = "; decimal points, please" if "," in text else ""
        raise TableError(
            f"{path}, line {line}, column {column!r}: {text!r} is not a number{hint} "
            "(leave it empty where it was not observed)"
        ) from None
