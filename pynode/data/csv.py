"""Files of measurements become ragged trajectories."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pynode.data.cells import Writing, missing_codes
from pynode.data.clock import Clock
from pynode.data.sheets import BINARIES, WORKBOOKS, binary_table, text_table, workbook_table
from pynode.data.tables import Columns, Reading, Replicates, Table
from pynode.data.trajectories import Trajectories


def read_csv(
    path: str | os.PathLike[str],
    time: str,
    state: str | Iterable[str],
    id: str | None = None,
    separator: str | None = None,
    input: str | Iterable[str] | None = None,
    *,
    decimal: str | None = None,
    thousands: str | None = None,
    encoding: str | None = None,
    missing: Any = None,
    units_row: bool | None = None,
    date_format: str | None = None,
    time_unit: str | None = None,
    censored: bool = False,
    replicates: Replicates = "refuse",
    wide: bool | Iterable[str] = False,
    sheet: str | int | None = None,
    clock: Clock | None = None,
) -> Trajectories:
    """Read trajectories in long form from a file: a row for each time, a column for each state.

    A text file (CSV), or with pandas a workbook (.xlsx, .xls, .ods), Parquet, Feather or Stata's .dta. Lines of text that
    start with ``#`` are comments, lines above the header are titles; empty entries, NA and NaN mean: not observed. Rows
    may come in any order. What can be read in two ways is refused.

    Parameters
    ----------
    path : str or path
        The file.
    time : str
        The column of times: numbers, or dates that begin with the year, which become time since the first of all
        (`Trajectories.clock`).
    state : str or sequence of str
        The columns of states.
    id : str, optional
        The column that tells which trajectory a row belongs to, filled in every row; without it all rows are one
        trajectory.
    separator : str, optional
        Default: the one of ``, ; tab | blank`` that splits a line into the named columns.
    input : str or sequence of str, optional
        Columns of control inputs, known in every row.
    decimal : {".", ","}, optional
        Default: as the numbers show.
    thousands : str, optional
        What separates thousands. Default: as the numbers show.
    encoding : str, optional
        Default: UTF-8, or what the first bytes tell (UTF-16); with a warning Windows-1252 (Latin-1) where it is neither.
    missing : number, str or sequence, optional
        Codes that mean not observed, such as -999, beside empty entries, NA and NaN.
    units_row : bool, optional
        The row below the header holds units. Default: it does if it has no numbers and the next has.
    date_format : str, optional
        How dates are written, as in `datetime.datetime.strptime`; needed unless they begin with the year.
    time_unit : str, optional
        Of times that are dates: "s", "min", "h", "d" and the like. Default: by the median step.
    censored : bool, default False
        Keep readings beyond a limit, such as <0.1, as `Trajectories.censored`; else they are refused.
    replicates : {"refuse", "keep", "average"}, default "refuse"
        Several readings at one time of a trajectory: an error, kept, or their mean (which then counts as one reading).
    wide : bool or sequence of str, default False
        Each column but the times (or each of these columns) is a trajectory of the one state; with several states their
        columns are called STATE_ID.
    sheet : str or int, optional
        Of a workbook; default: the first that has the columns.
    clock : Clock, optional
        How dates become numbers, that of other data. Default: time since the first, in `time_unit`.

    Returns
    -------
    Trajectories

    Raises
    ------
    TableError
        The file is not such a table; the message names the line and the column.

    Warns
    -----
    TableWarning
        A column is constant, or holds what looks like a code of missing values.

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
    columns = Columns.of(time, state, id, input)
    reading = Reading(
        Writing(decimal, thousands, missing_codes(missing), censored),
        date_format,
        time_unit,
        replicates,
        wide if isinstance(wide, bool) else tuple(wide),
        clock,
    )
    wanted = columns.all
    if reading.wide is not False:
        wanted = [time, *(reading.wide if isinstance(reading.wide, tuple) else ())]
    table = table_of(path, wanted, separator, encoding, units_row, sheet)
    return Trajectories.from_table(table, columns, reading)


def table_of(
    path: str | os.PathLike[str],
    wanted: list[str],
    separator: str | None = None,
    encoding: str | None = None,
    units_row: bool | None = None,
    sheet: str | int | None = None,
) -> Table:
    """The table of a file, of the kind that its name tells.

    Parameters
    ----------
    path : str or path
        The file.
    wanted : list of str
        Columns that must be there, by which its header is found.
    separator, encoding, units_row, sheet
        See `read_csv`.

    Returns
    -------
    Table
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind in WORKBOOKS:
        return workbook_table(path, wanted, sheet, units_row)
    if kind in BINARIES:
        return binary_table(path, wanted)
    return text_table(path, wanted, separator, encoding, units_row)
