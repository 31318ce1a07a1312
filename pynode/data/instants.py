"""Dates and durations of any kind, as NumPy's datetime64 and timedelta64: all reading of them happens here."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.dates import DATE, dates_in

FORMATS = tuple(
    date + time
    for date in ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%d.%m.%y")
    for time in ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
)
"""Other ways to write dates, which are not read unasked, for some mean two things: 01/02/2024."""


class NotADate(ValueError):
    """An entry is no date; `index` is its position, `missing` whether there is none at all."""

    def __init__(self, index: int, words: str, missing: bool = False) -> None:
        super().__init__(words)
        self.index = index
        self.missing = missing


@dataclass(frozen=True)
class Instants:
    """Dates (in UTC where they have a timezone) or durations.

    Attributes
    ----------
    values : (n,) array of datetime64 or timedelta64
        In nanoseconds or microseconds.
    timezone : str or None
        That of the dates, a name such as "Europe/Madrid" or "UTC+02:00"; None where they have none.
    """

    values: NDArray[Any]
    timezone: str | None = None


def as_instants(values: Any, date_format: str | None = None, texts: bool = False) -> Instants | None:
    """What holds dates or durations as `Instants`, None where it holds neither.

    Parameters
    ----------
    values : array_like
        A vector of datetime64 or timedelta64 of any unit, a column of pandas of dates with or without a timezone, of
        durations or periods, a list of Python's datetimes, or of texts in ISO 8601.
    date_format : str, optional
        How texts are written, as in `datetime.datetime.strptime`.
    texts : bool
        Texts must be dates, whatever they look like.

    Returns
    -------
    Instants or None

    Raises
    ------
    NotADate
        An entry is missing (NaT) or is no date.
    """
    if not texts and dates_in(values) is None:
        return None
    dtype = getattr(values, "dtype", None)
    native = getattr(dtype, "kind", "O")
    zone = getattr(dtype, "tz", None)
    if hasattr(dtype, "freq"):  # periods of pandas: when they begin
        values = values.dt.to_timestamp() if hasattr(values, "dt") else values.to_timestamp()
        native = "M"
    if native in "Mm" and str(getattr(values, "dtype", "")) != "category":
        return _of_native(np.asarray(values) if zone is None else np.asarray(values, dtype=_unit_of(dtype)), zone)
    entries = np.asarray(values, dtype=object).ravel().tolist()
    return _of_iso(entries, date_format) or _of_objects(entries, date_format)


def _unit_of(dtype: Any) -> str:
    return f"datetime64[{getattr(dtype, 'unit', 'ns')}]"


def _of_native(values: NDArray[Any], zone: Any = None) -> Instants:
    """Of an array of datetime64 or timedelta64."""
    missing = np.flatnonzero(np.isnat(values))
    if missing.size:
        raise NotADate(int(missing[0]), "is missing (NaT)", missing=True)
    unit = np.datetime_data(values.dtype)[0]
    if values.dtype.kind == "m" and unit in ("generic", "Y", "M"):
        raise NotADate(0, f"is a duration in {unit}, which has no fixed length: give days, hours or seconds")
    name = "datetime64" if values.dtype.kind == "M" else "timedelta64"
    fine = unit == "ns" and bool((values.astype(np.int64) % 1000).any())
    exact = values if fine else values.astype(f"{name}[us]")
    return Instants(exact, None if zone is None else zone_name(zone))


def _of_iso(entries: list[Any], date_format: str | None) -> Instants | None:
    """Of texts that all are dates in ISO 8601 without a timezone, or None: what `_of_objects` finds, sooner."""
    if date_format is not None or not all(type(entry) is str for entry in entries):
        return None
    try:
        dates = [datetime.datetime.fromisoformat(entry) for entry in entries]
    except ValueError:
        return None
    if any(date.tzinfo is not None for date in dates):
        return None
    return Instants(np.array(dates, dtype="datetime64[us]"))


def _of_objects(entries: list[Any], date_format: str | None) -> Instants:
    """Of single objects, all of one kind."""
    found: list[Any] = []
    zones: set[str | None] = set()
    for i, entry in enumerate(entries):
        value = _single(i, entry, date_format)
        if isinstance(value, np.timedelta64):
            found.append(value)
            zones.add("duration")
            continue
        if isinstance(value, datetime.datetime) and value.tzinfo is not None:
            zones.add(zone_name(value.tzinfo, value))
            value = value.astimezone(datetime.UTC).replace(tzinfo=None)
        else:
            zones.add(None)
        found.append(np.datetime64(value))
    if len(zones) > 1 and (None in zones or "duration" in zones):
        raise NotADate(
            0, "and others are of different kinds: dates with a timezone, dates without one, and durations do not mix"
        )
    if zones == {"duration"}:
        return _of_native(np.array(found))
    return Instants(np.array(found, dtype="datetime64[us]"), zones.pop() if len(zones) == 1 else "UTC")


def _single(i: int, entry: Any, date_format: str | None) -> datetime.datetime | np.datetime64 | np.timedelta64:
    """A single object."""
    if isinstance(entry, (np.datetime64, np.timedelta64)):
        if np.isnat(entry):
            raise NotADate(i, "is missing (NaT)", missing=True)
        return entry
    if isinstance(entry, (str, bytes)):
        return date_of(i, entry.decode("ascii", "replace") if isinstance(entry, bytes) else entry, date_format)
    if entry is None or type(entry).__name__ == "NAType" or bool(entry != entry):
        raise NotADate(i, "is missing (NaT)", missing=True)
    if hasattr(entry, "to_timestamp"):  # pandas.Period
        entry = entry.to_timestamp()
    if isinstance(entry, datetime.timedelta):
        return np.timedelta64(entry.to_timedelta64() if hasattr(entry, "to_timedelta64") else entry, "us")
    if isinstance(entry, datetime.datetime):
        return entry.to_pydatetime(warn=False) if hasattr(entry, "to_pydatetime") else entry
    if isinstance(entry, datetime.date):
        return np.datetime64(entry, "us")
    if isinstance(entry, datetime.time):
        raise NotADate(
            i, f"is a time of the day ({entry}) without a date: write dates, or numbers such as hours since the start"
        )
    raise NotADate(i, f"is {entry!r}, no date, where others are")


def date_of(i: int, text: str, date_format: str | None = None) -> datetime.datetime:
    """A date from text, to the microsecond.

    Parameters
    ----------
    i : int
        The position of the entry, for errors.
    text : str
        What is written.
    date_format : str, optional
        How; default: the year first, as in ISO 8601.

    Returns
    -------
    datetime.datetime

    Raises
    ------
    NotADate
        It is no such date.
    """
    text = text.strip()
    if text.lower() in ("", "nat", "nan", "na", "none", "null"):
        raise NotADate(i, f"is missing ({text or 'blank'})", missing=True)
    if date_format is not None:
        try:
            return datetime.datetime.strptime(text, date_format)
        except ValueError:
            raise NotADate(i, f"is {text!r}, which is not written as date_format={date_format!r} says") from None
    found = DATE.fullmatch(text)
    try:
        return datetime.datetime.fromisoformat(text) if found is None else _of_match(found)
    except ValueError:
        pass
    if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp][Mm])?", text):
        raise NotADate(
            i, f"is a time of the day ({text}) without a date: write dates, or numbers such as hours since the start"
        )
    ways = formats_of(text)
    hint = f": date_format={' or '.join(map(repr, ways))} would read it" if ways else ""
    raise NotADate(i, f"is {text!r}, neither a number nor a date that begins with its year, as 2024-03-31 14:00{hint}")


def _of_match(found: re.Match[str]) -> datetime.datetime:
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    zone: datetime.tzinfo | None = None
    if offset is not None:
        zone = datetime.UTC
        if offset[0] in "+-":
            shift = datetime.timedelta(hours=int(offset[1:3]), minutes=int(offset[-2:]))
            zone = datetime.timezone(-shift if offset[0] == "-" else shift)
    microsecond = int((fraction or "0").ljust(6, "0")[:6])
    return datetime.datetime(
        int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), microsecond, zone
    )


def formats_of(text: str) -> list[str]:
    """The ways in which a text may be a date that does not begin with its year: entries of FORMATS."""
    ways = []
    for way in FORMATS:
        try:
            datetime.datetime.strptime(text.strip(), way)
        except ValueError:
            continue
        ways.append(way)
    return ways


def zone_name(zone: Any, at: datetime.datetime | None = None) -> str:
    """The name of a timezone, by which `named_zone` finds it again."""
    for attribute in ("key", "zone"):  # those of zoneinfo and of pytz
        name = getattr(zone, attribute, None)
        if isinstance(name, str):
            return name
    offset = zone.utcoffset(at)
    if offset is None:
        return str(zone)
    if not offset:
        return "UTC"
    minutes = round(offset.total_seconds() / 60)
    return f"UTC{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def named_zone(name: str) -> datetime.tzinfo:
    """The timezone of a name that `zone_name` gave.

    Raises
    ------
    ValueError
        There is no such timezone here.
    """
    if name == "UTC":
        return datetime.UTC
    found = re.fullmatch(r"UTC([+-])(\d{2}):(\d{2})", name)
    if found:
        shift = datetime.timedelta(hours=int(found[2]), minutes=int(found[3]))
        return datetime.timezone(-shift if found[1] == "-" else shift)
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"timezone {name!r} is not known here; `pip install tzdata` brings a list of them") from None
