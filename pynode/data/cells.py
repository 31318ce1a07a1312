"""Cells of tables as numbers: decimal commas, thousands separators, codes of missing values, readings beyond a limit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Integers = NDArray[np.int64]

MISSING = frozenset({"", "na", "n/a", "#n/a", "#na", "n.a.", "<na>", "nan", "nat", "null", "none", ".", "-", "--"})
"""Cells, in lower case, that mean: not observed."""

CODES = (-9.0, -99.0, -99.9, -999.0, -999.9, -9999.0, -9999.9, -99999.0, -32768.0, 999.0, 9999.0, 99999.0, 1e20, 1e30)
"""Numbers that often stand for: not observed."""

EXPONENT = r"([eEdD][+-]?\d+)?"
POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)" + EXPONENT)
COMMA = re.compile(r"[+-]?(\d+,\d*|,\d+)" + EXPONENT)
COMMA_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?" + EXPONENT)
POINT_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d*)?" + EXPONENT)
SPACED = re.compile(r"[+-]?[1-9]\d{0,2}([ \u00a0\u2009\u202f'\u2019])\d{3}(\1\d{3})*([.,]\d*)?")
"""1 234 567 or 1'234'567."""

LIMIT = re.compile(r"(<=|>=|<|>|\u2264|\u2265)\s*(.+)")
"""A reading beyond a limit, such as <0.1."""


class NotANumber(ValueError):
    """A cell is no number; `index` is its position."""

    def __init__(self, index: int, words: str) -> None:
        super().__init__(words)
        self.index = index


@dataclass(frozen=True)
class Writing:
    """How numbers are written.

    Parameters
    ----------
    decimal : {".", ","}, optional
        None: found in the cells (`found_in`).
    thousands : str, optional
        What separates thousands; None: found in the cells.
    missing : tuple
        Numbers and texts that mean: not observed, beside MISSING.
    censored : bool
        Readings beyond a limit are allowed.
    """

    decimal: str | None = None
    thousands: str | None = None
    missing: tuple[Any, ...] = ()
    censored: bool = False

    def __post_init__(self) -> None:
        if self.decimal not in (None, ".", ","):
            raise ValueError(f"decimal={self.decimal!r} must be '.' or ','")
        if self.thousands is not None and (len(self.thousands) != 1 or self.thousands.isalnum() or self.thousands in "+-"):
            raise ValueError(f"thousands={self.thousands!r} must be one sign, such as ',' or ' '")
        if self.thousands is not None and self.thousands == (self.decimal or "."):
            if self.decimal is not None or self.thousands != ".":
                raise ValueError(f"decimal and thousands are both {self.thousands!r}")
            object.__setattr__(self, "decimal", ",")

    def found_in(self, cells: Iterable[Any]) -> Writing:
        """The same with decimal and thousands as all the cells of a table show them, where they were not given.

        Raises
        ------
        NotANumber
            They can be read in two ways; its index is -1.
        """
        if self.decimal is not None or self.thousands is not None:
            return Writing(self.decimal or ".", self.thousands, self.missing, self.censored)
        seen: dict[str, str] = {}
        for cell in cells:
            if isinstance(cell, str) and ("," in cell or "." in cell):
                _look(_closed_up(cell.strip().lstrip("<>=\u2264\u2265 ")), seen)
        comma, point, either = (seen.get(name) for name in ("decimal comma", "decimal point", "either"))
        by_comma, by_point = seen.get("thousands comma"), seen.get("thousands point")
        for a, b in ((comma, point), (comma, by_comma), (by_comma, by_point)):
            if a is not None and b is not None:
                raise NotANumber(-1, f"{a!r} and {b!r} are written in two ways: say which holds (decimal=, thousands=)")
        if comma is not None or by_point is not None:
            return Writing(",", None if by_point is None else ".", self.missing, self.censored)
        if by_comma is None and point is None and either is not None:
            ways = f"{either.replace(',', '.')} or {either.replace(',', '')}"
            raise NotANumber(-1, f"{either!r} is {ways}: say which (decimal=',' or thousands=','; --decimal, --thousands)")
        return Writing(".", None if by_comma is None and either is None else ",", self.missing, self.censored)


def _closed_up(text: str) -> str:
    """The same without blanks or apostrophes between thousands."""
    return re.sub("[ \u00a0\u2009\u202f'\u2019]", "", text) if SPACED.fullmatch(text) else text


def _look(text: str, seen: dict[str, str]) -> None:
    """What a cell tells about how numbers are written."""
    comma, point = COMMA_GROUPS.fullmatch(text), POINT_GROUPS.fullmatch(text)
    if "," in text and "." in text:
        name = "thousands comma" if comma else "thousands point" if point else None
    elif "," in text:
        as_decimal = COMMA.fullmatch(text)
        name = "either" if as_decimal and comma else "decimal comma" if as_decimal else "thousands comma" if comma else None
    else:
        plain = POINT.fullmatch(text)
        name = "decimal point" if plain and not point else "thousands point" if point and not plain else None
    if name is not None:
        seen.setdefault(name, text)


def numbers_of(cells: Sequence[Any], writing: Writing) -> tuple[Float, Integers | None]:
    """A column of cells as numbers.

    Parameters
    ----------
    cells : sequence
        Texts and numbers.
    writing : Writing
        With its decimal known.

    Returns
    -------
    values : (n,) array
        NaN: not observed.
    censored : (n,) array of int, or None
        1 where the reading is below the value, -1 where it is above; None where there are no such cells.

    Raises
    ------
    NotANumber
        A cell is no number.
    """
    texts, codes = _codes(writing.missing)
    values = np.empty(len(cells))
    censored: Integers | None = None
    quick = plain_numbers(cells, writing)
    for i, cell in enumerate(cells if quick is None else ()):
        if isinstance(cell, str):
            text = cell.strip()
            if text.lower() in texts:
                values[i] = math.nan
                continue
            limit = LIMIT.fullmatch(text)
            if limit is not None:
                if censored is None:
                    censored = np.zeros(len(cells), dtype=np.int64)
                values[i], censored[i] = _beyond(i, text, limit, writing)
                continue
            values[i] = _number(i, text, writing)
        else:
            values[i] = _plain(i, cell)
    values = values if quick is None else quick
    for code in codes:
        values[values == code] = math.nan
    return values, censored


def plain_numbers(cells: Sequence[Any], writing: Writing) -> Float | None:
    """The numbers of cells that hold nothing else, written without thousands separators; None where one does not.

    Parameters
    ----------
    cells : sequence
        Texts and numbers.
    writing : Writing
        Decimal commas are read where it says so.
    """
    if not all(type(cell) is str for cell in cells):
        return None
    joined = "\n".join(cells)
    comma = writing.decimal == ","
    if "_" in joined or ("." if comma else ",") in joined:
        return None
    if comma:
        cells = joined.replace(",", ".").split("\n")
    try:
        return np.array([float(cell) if cell else math.nan for cell in cells], dtype=np.float64)
    except ValueError:
        return None


def _codes(missing: tuple[Any, ...]) -> tuple[set[str], list[float]]:
    """(texts, numbers) that mean: not observed."""
    texts, codes = set(MISSING), []
    for value in missing:
        texts.add(str(value).strip().lower())
        try:
            codes.append(float(value))
        except ValueError:
            continue
    return texts, codes


def missing_codes(missing: Any) -> tuple[Any, ...]:
    """What a user gave as codes of missing values, as a tuple."""
    if missing is None:
        return ()
    return (missing,) if isinstance(missing, (str, int, float, np.number)) else tuple(missing)


def is_missing(cell: Any, missing: tuple[Any, ...] = ()) -> bool:
    """Whether a cell says that nothing was observed: blank, NA, NaN, NaT, None, or one of the codes."""
    if cell is None or type(cell).__name__ == "NAType":
        return True
    if not isinstance(cell, str):
        return bool(cell != cell)
    return cell.strip().lower() in (_codes(missing)[0] if missing else MISSING)


def is_number(cell: Any) -> bool:
    """Whether a cell may be a number, however it is written."""
    if not isinstance(cell, str):
        return isinstance(cell, (int, float, np.number)) and cell == cell
    text = cell.strip()
    limit = LIMIT.fullmatch(text)
    text = text if limit is None else limit[2]
    return any(way.fullmatch(text) for way in (POINT, COMMA, COMMA_GROUPS, POINT_GROUPS, SPACED))


def _number(i: int, text: str, writing: Writing) -> float:
    """The number of a text."""
    bare = _closed_up(text.replace("\u2212", "-"))
    if writing.thousands == "," and writing.decimal == "." and COMMA_GROUPS.fullmatch(bare):
        bare = bare.replace(",", "")
    elif writing.thousands == "." and writing.decimal == "," and POINT_GROUPS.fullmatch(bare):
        bare = bare.replace(".", "")
    elif writing.thousands not in (None, ",", "."):
        bare = bare.replace(writing.thousands, "")
    if (POINT if writing.decimal == "." else COMMA).fullmatch(bare) or bare.lstrip("+-").isdecimal():
        return float(bare.replace(",", ".").replace("d", "e").replace("D", "e"))
    if bare.lower().lstrip("+-") in ("inf", "infinity"):
        return -math.inf if bare[0] == "-" else math.inf
    other = "point" if writing.decimal == "," else "comma"
    hint = ""
    if (POINT if writing.decimal == "," else COMMA).fullmatch(bare):
        hint = f": its decimal {other} is not that of the table (decimal={writing.decimal!r}; --decimal)"
    elif re.match(r"[+-]?\d", bare):
        hint = "; write the number alone"
    raise NotANumber(i, f"{text!r} is not a number{hint} (leave it empty where it was not observed, or name it: missing=)")


def _beyond(i: int, text: str, limit: re.Match[str], writing: Writing) -> tuple[float, int]:
    """(limit, 1 below or -1 above it) of a reading beyond a limit."""
    try:
        value = _number(i, limit[2].strip(), writing)
    except NotANumber:
        raise NotANumber(
            i,
            f"{text!r} says that a limit was passed, but not which: write it, as in <0.1, or name it as missing: "
            f"missing={text!r} (--missing)",
        ) from None
    if not writing.censored:
        raise NotANumber(
            i,
            f"{text!r} is a reading beyond a limit: censored=True (--censored) keeps it as such, missing={text!r} "
            "(--missing) leaves it out; a number in its place would be wrong",
        )
    return value, 1 if limit[1][0] in "<\u2264" else -1


def _plain(i: int, cell: Any) -> float:
    """The number of what is no text."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return math.nan
    if isinstance(cell, (complex, np.complexfloating)):
        raise NotANumber(i, f"{cell!r} is complex: give real and imaginary parts as columns")
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise NotANumber(i, f"{cell!r} is not a number") from None


def doubts_about(name: str, values: Float, states: bool = True) -> list[str]:
    """What looks wrong in a column of measurements, in words.

    Parameters
    ----------
    name : str
        The column.
    values : (n,) array
        Its numbers.
    states : bool
        It is a state, which should not be constant.

    Returns
    -------
    list of str
    """
    known = values[np.isfinite(values)]
    found = []
    for code in CODES:
        rest = known[known != code]
        n = len(known) - len(rest)
        if not n or len(rest) < 2:
            continue
        low, high = float(rest.min()), float(rest.max())
        reach = 5 * (high - low) or max(abs(high), 1.0)
        if code < low - reach or code > high + reach:
            times = f"{n} times" if n > 1 else "once"
            found.append(
                f"column {name!r} holds {code:g} {times}, far from all others ({low:g} to {high:g}): if it means that "
                f"nothing was measured, say so: missing={code:g} (--missing {code:g})"
            )
    if states and len(known) > 2 and (known == known[0]).all():
        found.append(f"column {name!r} is {known[0]:g} in every row: a constant tells nothing about how it changes")
    return found
