"""Times that are dates or durations, as numbers and back; `Clock`."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import is_ragged, own_array
from pynode.data.dates import dates_in, refuse_dates
from pynode.data.instants import Instants, NotADate, as_instants, named_zone

Float = NDArray[np.float64]

UNITS: dict[str, int] = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
    "week": 7 * 86400 * 10**9,
    "year": 31557600 * 10**9,
}
"""Units of time and how many nanoseconds they last; a year is one of 365.25 days."""

ALIASES = {
    **{"nanosecond": "ns", "microsecond": "us", "millisecond": "ms", "second": "s", "sec": "s", "minute": "min", "m": "min"},
    **{"hour": "h", "hr": "h", "day": "d", "w": "week", "y": "year", "a": "year", "yr": "year"},
}
"""Other names of units; each may have an s at its end."""

CHOSEN = ("d", "h", "min", "s")
"""Units that are chosen by the step from one time to the next."""


@dataclass(frozen=True)
class Clock:
    """How dates or durations became numbers: time since an origin, in a unit.

    Attributes
    ----------
    origin : numpy.datetime64 or None
        The date that is 0, in UTC where there is a timezone; None where times are durations.
    unit : str
        The unit of the numbers: ns, us, ms, s, min, h, d, week or year (of 365.25 days).
    timezone : str or None
        Of the dates; None where they have none. Texts with different offsets from UTC (as over the change to summer
        time) have the timezone UTC.

    Raises
    ------
    ValueError
        There is no such unit, or no such timezone.

    See Also
    --------
    Trajectories : `Trajectories.clock`.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> t = np.array(["2024-03-01T00:00", "2024-03-01T01:00", "2024-03-01T02:00"], dtype="datetime64[m]")
    >>> clock = pn.Trajectories.from_arrays(t, [1.0, 0.5, 0.2]).clock
    >>> clock.to_numbers(["2024-03-02"]).tolist(), clock.label("time")
    ([24.0], 'time (h since 2024-03-01)')
    >>> clock.to_text([1.5])
    ['2024-03-01 01:30']
    """

    origin: np.datetime64 | None
    unit: str
    timezone: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", unit_of(self.unit))
        if self.timezone is not None:
            named_zone(self.timezone)

    @property
    def kind(self) -> str:
        """What the times were: "dates" or "durations"."""
        return "durations" if self.origin is None else "dates"

    @classmethod
    def of(cls, series: Iterable[Instants], unit: str | None = None) -> Self:
        """The clock of some series of dates: it starts at the first of all.

        Parameters
        ----------
        series : sequence of Instants
            Those of each trajectory.
        unit : str, optional
            Default: days, hours, minutes or seconds, the longest that is not longer than the median step.

        Returns
        -------
        Clock
        """
        series = list(series)
        if unit is None:
            steps = [np.diff(np.sort(x.values)).astype("timedelta64[ns]").astype(np.float64) for x in series]
            moved = np.concatenate(steps) if steps else np.zeros(0)
            moved = moved[moved > 0]
            step = float(np.median(moved)) if moved.size else UNITS["s"]
            unit = next((name for name in CHOSEN if step >= UNITS[name] * (1 - 1e-9)), "s")
        origin = None if series[0].values.dtype.kind == "m" else min(x.values.min() for x in series)
        return cls(origin, unit, series[0].timezone)

    def to_numbers(self, values: Any, name: str = "t") -> Float:
        """Dates or durations as numbers; numbers remain what they are.

        Parameters
        ----------
        values : array_like
            Dates (or durations, if those of the clock are): NumPy's, pandas', Python's, or text in ISO 8601. Dates
            without a timezone are read as local times of that of the clock.
        name : str, default "t"
            What errors call them.

        Returns
        -------
        array
            In units since the origin.

        Raises
        ------
        TypeError, ValueError
            They are of another kind than the clock's, or one is missing.
        """
        if dates_in(values) is None:
            return own_array(name, values, np.float64)
        shape = np.shape(values)
        try:
            found = as_instants(np.asarray(values) if isinstance(values, str) else values)
        except NotADate as error:
            raise ValueError(f"{name}[{error.index}] {error}") from None
        assert found is not None
        return self.numbers_of(found, name).reshape(shape)

    def numbers_of(self, instants: Instants, name: str = "t") -> Float:
        """The same for dates that were read already.

        Parameters
        ----------
        instants : Instants
            Dates or durations.
        name : str, default "t"
            What errors call them.

        Returns
        -------
        array
        """
        values = instants.values
        kind = self.kind
        if (values.dtype.kind == "m") != (self.origin is None):
            found = "durations" if values.dtype.kind == "m" else "dates"
            raise TypeError(
                f"{name} holds {found}, but the times of the data were {kind}: give {kind}, or numbers in {self.unit}"
            )
        if instants.timezone is not None and self.timezone is None:
            raise TypeError(
                f"{name} has the timezone {instants.timezone}, the times of the data had none: leave it out, or give "
                f"numbers in {self.unit}"
            )
        if instants.timezone is None and self.timezone is not None:
            values = _in_utc(values, self.timezone)
        since = values if self.origin is None else values - self.origin
        resolution = UNITS[np.datetime_data(since.dtype)[0]]
        ticks = since.astype(np.int64).astype(np.float64)
        unit = UNITS[self.unit]
        return ticks / (unit // resolution) if unit % resolution == 0 else ticks * (resolution / unit)

    def to_dates(self, numbers: Any) -> NDArray[Any]:
        """Numbers as dates or durations again.

        Parameters
        ----------
        numbers : array_like
            In units since the origin; NaN becomes NaT.

        Returns
        -------
        array
            Of datetime64, to the microsecond (nanosecond, in units below a second); of timedelta64 where times are
            durations; with a timezone: of `datetime.datetime` objects, of which `pandas.to_datetime` makes a column.
        """
        x = np.asarray(numbers, dtype=np.float64)
        fine = UNITS[self.unit] < UNITS["s"]
        resolution = "ns" if fine else "us"
        ticks = x * (UNITS[self.unit] / UNITS[resolution])
        reach = 2.0**63 if self.origin is None else 2.0**62
        if (np.abs(ticks) > reach).any():
            worst = x.flat[int(np.nanargmax(np.abs(ticks)))]
            raise ValueError(f"{worst:g} {self.unit} is too long a time for a date")
        since = np.full(x.shape, np.timedelta64("NaT"), dtype=f"timedelta64[{resolution}]")
        known = np.isfinite(ticks)
        since[known] = np.rint(ticks[known]).astype(np.int64).astype(f"timedelta64[{resolution}]")
        if self.origin is None:
            return since
        dates = self.origin + since
        return dates if self.timezone is None else _local(dates, self.timezone)

    def to_text(self, numbers: Any) -> list[str]:
        """The dates of numbers as texts, no finer than all of them need.

        Parameters
        ----------
        numbers : array_like
            In units since the origin.

        Returns
        -------
        list of str
            Dates in ISO 8601, with the offset from UTC where there is a timezone; durations as in 1 days 02:30:00.
        """
        dates = self.to_dates(np.atleast_1d(np.asarray(numbers, dtype=np.float64)))
        if self.origin is None:
            return [_duration(x) for x in dates.tolist()] if UNITS[self.unit] >= UNITS["s"] else [str(x) for x in dates]
        if self.timezone is None:
            kept = next((unit for unit in ("D", "m", "s", "ms", "us") if (dates == dates.astype(f"M8[{unit}]")).all()), None)
            dates = dates if kept is None else dates.astype(f"M8[{kept}]")
            return [str(x).replace("T", " ") for x in dates]
        fine = "microseconds" if any(x.microsecond for x in dates if x is not None) else "seconds"
        fine = "minutes" if fine == "seconds" and not any(x.second for x in dates if x is not None) else fine
        return ["NaT" if x is None else x.isoformat(" ", fine) for x in dates]

    def label(self, name: str) -> str:
        """What stands at an axis of the numbers.

        Parameters
        ----------
        name : str
            What the time is called.

        Returns
        -------
        str
        """
        return f"{name} ({self.unit})" if self.origin is None else f"{name} ({self.unit} since {self.to_text(0.0)[0]})"

    def to_dict(self) -> dict[str, Any]:
        """The clock as plain data, for a file.

        Returns
        -------
        dict
        """
        origin = None if self.origin is None else str(self.origin)
        return {"origin": origin, "unit": self.unit, "timezone": self.timezone}

    @classmethod
    def from_dict(cls, stored: Any) -> Self:
        """The clock of a file.

        Parameters
        ----------
        stored : object
            What `to_dict` gave; nothing in it is trusted.

        Returns
        -------
        Clock

        Raises
        ------
        Exception
            Of any kind, where it is none.
        """
        origin, unit, timezone = (stored[name] for name in ("origin", "unit", "timezone"))
        if not all(value is None or type(value) is str for value in (origin, timezone)) or type(unit) is not str:
            raise ValueError("origin, unit and timezone of a clock must be texts")
        at = None if origin is None else np.datetime64(origin)
        if at is not None and (np.isnat(at) or np.datetime_data(at.dtype)[0] not in UNITS):
            raise ValueError(f"the origin of a clock must be a date, not {origin!r}")
        return cls(at, unit, timezone)


def unit_of(name: str) -> str:
    """The unit of a name: a key of UNITS.

    Raises
    ------
    ValueError
        There is none.
    """
    plain = str(name).strip().lower()
    for candidate in (plain, plain.removesuffix("s")):
        found = ALIASES.get(candidate, candidate)
        if found in UNITS:
            return found
    raise ValueError(f"time_unit={name!r} is not one of {', '.join(UNITS)}")


def times_of(t: Any, clock: Clock | None) -> Any:
    """Times that a user gave to a model, as numbers: dates by the clock of its data, everything else as it is.

    Parameters
    ----------
    t : array_like, or list of array_like
        Times.
    clock : Clock or None
        Of the data of the model.

    Returns
    -------
    array or list
    """
    if clock is None:
        return t
    if is_ragged(t):
        return [times_of(x, clock) for x in t]
    return t if dates_in(t) is None else clock.to_numbers(t)


def refuse_clock(what: str, t: Any) -> None:
    """Raise TypeError where times are dates, of what has no use for them.

    Parameters
    ----------
    what : str
        What to call the times.
    t : array_like, or list of array_like
        What a user gave.
    """
    for x in t if is_ragged(t) else [t]:
        refuse_dates(what, x)


def _in_utc(values: NDArray[Any], timezone: str) -> NDArray[Any]:
    """Local times of a timezone in UTC."""
    zone = named_zone(timezone)
    moved = [x.replace(tzinfo=zone).astimezone(datetime.UTC) for x in values.astype("M8[us]").tolist()]
    return np.array([x.replace(tzinfo=None) for x in moved], dtype="datetime64[us]")


def _local(dates: NDArray[Any], timezone: str) -> NDArray[Any]:
    """Times in UTC as datetime objects of a timezone."""
    zone = named_zone(timezone)
    local = np.empty(dates.shape, dtype=object)
    for i, x in np.ndenumerate(dates.astype("M8[us]").astype(object)):
        local[i] = None if x is None else x.replace(tzinfo=datetime.UTC).astimezone(zone)
    return local


def _duration(x: datetime.timedelta) -> str:
    seconds = f"{x.seconds // 3600:02d}:{x.seconds // 60 % 60:02d}:{x.seconds % 60:02d}"
    return f"{x.days} days {seconds}" + (f".{x.microseconds:06d}" if x.microseconds else "")
