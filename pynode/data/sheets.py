"""Files of tables as rows of cells: encodings, separators, title lines, rows of units; workbooks through pandas."""

from __future__ import annotations

import codecs
import csv
import gzip
import importlib
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynode.data.cells import is_missing, is_number
from pynode.data.dates import reads_as_date
from pynode.data.instants import formats_of
from pynode.data.tables import Table, TableError, TableWarning
from pynode.errors import users_level

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, with which some files begin, and the encodings that they tell."""

SEPARATORS = (",", ";", "\t", "|", " ")
"""What may stand between entries of a text file; " " is any number of blanks."""

TITLES = 60
"""The header is looked for in so many first lines."""

WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".xlsb", ".ods")
BINARIES = {".parquet": "read_parquet", ".pq": "read_parquet", ".feather": "read_feather", ".dta": "read_stata"}


@dataclass(frozen=True)
class Line:
    """A line of a file."""

    number: int
    text: str


def text_table(
    path: Path, wanted: Sequence[str], separator: str | None, encoding: str | None, units_row: bool | None
) -> Table:
    """The table of a text file.

    Parameters
    ----------
    path : Path
    wanted : sequence of str
        Columns that must be there, by which the header is found.
    separator, encoding, units_row
        See `pynode.read_csv`.

    Returns
    -------
    Table
        Its cells are texts.
    """
    texts = re.split("\r\n|\n|\r", _decoded(path, encoding))
    lines = [Line(i, text) for i, text in enumerate(texts, 1) if text.strip()]
    plain = [line for line in lines if line.text[0] != "#"]
    if not plain:
        raise TableError(f"{path} is empty")
    candidates = SEPARATORS if separator is None else (separator,)
    comments = [Line(line.number, line.text.lstrip("# \t")) for line in lines if line.text[0] == "#"]
    for part in (plain, comments[::-1]):  # the header may be a comment: # t, x
        found = next((at for mark in candidates if (at := _header(path, part, wanted, mark)) is not None), None)
        if found is not None:
            break
    if found is None:
        likely = max(candidates, key=lambda mark: plain[0].text.count(mark) - (mark == " ") * len(plain[0].text))
        found = (likely, plain[0], _split(path, plain[0], likely))
    separator, header, names = found
    return _table(path, names, [line for line in plain if line.number > header.number], separator, units_row)


def _decoded(path: Path, encoding: str | None) -> str:
    """The text of a file."""
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    if encoding is None:
        mark = next((name for start, name in MARKS if content.startswith(start)), None)
        halves = content[:200:2], content[1:200:2]
        if mark is None and len(content) > 3 and any(half.count(0) > 0.8 * len(half) for half in halves):
            mark = "utf-16-le" if halves[1].count(0) > halves[0].count(0) else "utf-16-be"
        encoding = mark or "utf-8"
        if mark is None and b"\0" in content[:1000]:
            raise TableError(f"{path} is not a text file; workbooks end in .xlsx, .xls or .ods")
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            pass
        encoding = "cp1252" if mark is None else encoding
        words = f"{path} is not in UTF-8: it was read as Windows-1252 (Latin-1); encoding= (--encoding) says what it is in"
        warnings.warn(words, TableWarning, stacklevel=users_level())
    return _strict(path, content, encoding)


def _strict(path: Path, content: bytes, encoding: str) -> str:
    try:
        text = content.decode(encoding)
    except LookupError:
        raise ValueError(f"encoding={encoding!r} is not known; some are utf-8, utf-16, latin-1, cp1252") from None
    except UnicodeError as error:
        raise TableError(f"{path} is not in {encoding}: {error}") from None
    return text.removeprefix("\ufeff")


def _split(path: Path, line: Line, separator: str) -> list[str]:
    """The entries of a line."""
    try:
        rows = list(csv.reader([line.text.strip(" ")], delimiter=separator, strict=True, skipinitialspace=True))
    except csv.Error as error:
        if "newline" in str(error) or "unexpected end" in str(error):
            raise TableError(f"{path}, line {line.number}: entries that go over several lines are not supported") from None
        raise TableError(f"{path}, line {line.number}: {error}") from None
    return [entry.strip() for entry in rows[0]]


def _split_all(path: Path, lines: Sequence[Line], separator: str) -> list[list[str]]:
    """The entries of many lines; one by one where that shows which of them is wrong."""
    texts = [line.text.strip(" ") for line in lines]
    try:
        rows = list(csv.reader(texts, delimiter=separator, strict=True, skipinitialspace=True))
    except csv.Error:
        rows = []
    return rows if len(rows) == len(lines) else [_split(path, line, separator) for line in lines]


def _header(path: Path, lines: Sequence[Line], wanted: Sequence[str], separator: str) -> tuple[str, Line, list[str]] | None:
    """(separator, line, names) of the first line that names all wanted columns; None where there is none."""
    for line in lines[:TITLES]:
        try:
            names = _split(path, line, separator)
        except TableError:
            continue
        if all(name in names for name in wanted):
            return separator, line, names
    return None


def _table(path: Path, names: list[str], lines: Sequence[Line], separator: str, units_row: bool | None) -> Table:
    """The table below a header."""
    while names and not names[-1]:  # a separator at the end of each line
        names = names[:-1]
    rows = []
    numbers = []
    for line, row in zip(lines, _split_all(path, lines, separator), strict=True):
        if not "".join(row).strip():
            continue
        if len(row) > len(names) and not "".join(row[len(names) :]).strip():
            row = row[: len(names)]
        if len(row) != len(names):
            raise TableError(f"{path}, line {line.number}: {len(row)} entries, but the header has {len(names)}")
        rows.append(row)
        numbers.append(line.number)
    return sheet(str(path), "line", names, rows, numbers, units_row)


def sheet(
    where: str, unit: str, names: list[Any], rows: list[list[Any]], numbers: list[int], units_row: bool | None
) -> Table:
    """A table of rows of cells, without the row of units below its header where there is one."""
    if rows and (units_row or (units_row is None and _is_units_row(rows))):
        rows, numbers = rows[1:], numbers[1:]
    at = {name: i for i, name in reversed(list(enumerate(names)))}
    return Table(names, lambda name: [row[at[name]] for row in rows], where, unit, numbers)


def _is_units_row(rows: list[list[Any]]) -> bool:
    """Whether no cell of the first row is a value, where the second has numbers in the same columns."""
    if len(rows) < 2 or not any(isinstance(cell, str) and not is_missing(cell) for cell in rows[0]):
        return False
    if any(_is_value(cell) for cell in rows[0]):
        return False
    return any(is_number(below) for cell, below in zip(rows[0], rows[1], strict=True) if not is_missing(cell)) and all(
        is_missing(below) or _is_value(below) or cell == "" for cell, below in zip(rows[0], rows[1], strict=True)
    )


def _is_value(cell: Any) -> bool:
    """A number or a date."""
    if not isinstance(cell, str):
        return not is_missing(cell)
    return is_number(cell) or reads_as_date(cell) or bool(cell[:1].isdigit() and formats_of(cell))


def workbook_table(path: Path, wanted: Sequence[str], name: str | int | None, units_row: bool | None) -> Table:
    """The table of a sheet of a workbook, through pandas."""
    pandas = _pandas(path)
    try:
        with pandas.ExcelFile(path) as book:
            there = [*map(str, book.sheet_names)]
            if name is not None and not (name in there if isinstance(name, str) else 0 <= name < len(there)):
                raise ValueError(f"no sheet {name!r}, only {', '.join(map(repr, there))}")
            sheets = pandas.read_excel(book, sheet_name=None if name is None else [name], header=None, dtype=object)
    except ImportError as error:
        raise ImportError(f"{path}: {error}") from None
    except (ValueError, KeyError) as error:
        raise TableError(f"{path}: {error}") from None
    known = {str(key): [list(row) for row in frame.to_numpy(dtype=object)] for key, frame in sheets.items()}
    for key, cells in known.items():
        for i, row in enumerate(cells[:TITLES]):
            names = ["" if is_missing(cell) else str(cell).strip() for cell in row]
            if all(column in names for column in wanted):
                body = [(k, cells[k]) for k in range(i + 1, len(cells)) if not all(is_missing(cell) for cell in cells[k])]
                where = f"{path}, sheet {key}" if len(known) > 1 else str(path)
                return sheet(where, "row", names, [row for _, row in body], [k + 1 for k, _ in body], units_row)
    first = next(iter(known.values()), [])
    names = ["" if is_missing(cell) else str(cell).strip() for cell in (first[0] if first else [])]
    where = str(path) if len(known) == 1 else f"{path} (sheets {', '.join(known)})"
    return sheet(where, "row", names, [], [], units_row)


def binary_table(path: Path, wanted: Sequence[str]) -> Table:
    """The table of a file that holds a data frame, through pandas."""
    pandas = _pandas(path)
    try:
        frame = getattr(pandas, BINARIES[path.suffix.lower()])(path)
    except ImportError as error:
        raise ImportError(f"{path}: {error}") from None
    except OSError:
        raise
    except Exception as error:  # each of its readers has errors of its own
        raise TableError(f"{path} cannot be read: {error}") from None
    table = Table.of_frame(frame, wanted)
    return Table(table.columns, table.column, str(path), "row", table.numbers)


def _pandas(path: str | os.PathLike[str]) -> Any:
    try:
        return importlib.import_module("pandas")
    except ImportError:
        raise ImportError(
            f"{path}: such files are read by pandas: pip install 'pynode-ode[table]', or save it as CSV"
        ) from None
