"""Dates and durations: where they are, and that they are refused where numbers are wanted.

Read as numbers they would count nanoseconds, or days. Times of measurements may be dates (`pynode.data.clock`).
"""

from __future__ import annotations

import datetime
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATE = re.compile(
    r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})"
    r"(?:[T\s]\s*(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d+))?)?)?"
    r"\s*(Z|UTC|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)
"""A date that begins with its year, perhaps with the time of the day and an offset from UTC."""

REMEDY = {
    "dates": "give numbers, for example hours since the first: (t - t[0]) / numpy.timedelta64(1, 'h'); "
    "numpy.asarray(t, 'datetime64[s]') makes dates of text and of lists",
    "durations": "give numbers, for example hours: t / numpy.timedelta64(1, 'h'); "
    "numpy.asarray(t, 'timedelta64[s]') makes durations of lists",
}
"""What to do instead, by what was found."""


COLUMN_REMEDY = {
    "dates": "give hours since the start: (df[{0!r}] - df[{0!r}].min()).dt.total_seconds() / 3600; "
    "pandas.to_datetime makes dates of text",
    "durations": "give hours: df[{0!r}].dt.total_seconds() / 3600",
}
"""The same for a column of a data frame, with room for its name."""


def dates_in(x: Any) -> str | None:
    """Which kind of dates an array holds.

    Parameters
    ----------
    x : array_like
        Whatever has a dtype, or makes an array.

    Returns
    -------
    str or None
        "dates" or "durations", a key of `REMEDY`; None where there are none.
    """
    kind = getattr(getattr(x, "dtype", None), "kind", None)  # that of pandas' own types, too
    if kind is None:
        try:
            x = np.asarray(x)
        except ValueError:
            return None
        kind = x.dtype.kind
    if kind in "Mm":
        return "dates" if kind == "M" else "durations"
    if kind not in "OUST":
        return None
    values: NDArray[Any] = np.asarray(x, dtype=object).ravel()
    found = {_kind(value) for value in values.tolist()}
    return "dates" if "dates" in found else "durations" if "durations" in found else None


def _kind(value: Any) -> str | None:
    """What a single object is."""
    if isinstance(value, (np.timedelta64, datetime.timedelta)):
        return "durations"
    if isinstance(value, (np.datetime64, datetime.date, datetime.time)) or hasattr(value, "to_timestamp"):
        return "dates"  # the last: pandas.Period
    if isinstance(value, (str, bytes)):
        return "dates" if reads_as_date(value) else None
    return "dates" if hasattr(value, "timetuple") else None  # cftime's


def reads_as_date(text: str | bytes) -> bool:
    """Whether a text is a date that begins with its year, perhaps with a time, or a time of the day."""
    text = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    if DATE.fullmatch(text.strip()):
        return True
    if not any(sign in text for sign in "-:"):
        return False
    for kind in (datetime.datetime, datetime.time):
        try:
            kind.fromisoformat(text.strip())
        except ValueError:
            continue
        return True
    return False


def refuse_dates(name: str, x: Any) -> None:
    """Raise TypeError where an array holds dates or durations.

    Parameters
    ----------
    name : str
        What to call it in the message.
    x : array_like
        What a user gave.
    """
    found = dates_in(x)
    if found is not None:
        kind = getattr(x, "dtype", type(x).__name__)
        raise TypeError(f"{name} must hold real numbers, not {found} ({kind}), which have no unit here: {REMEDY[found]}")
