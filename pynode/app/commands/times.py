"""Times on the command line: numbers or dates, a list or a range."""

import argparse
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pynode.app.commands import UserError
from pynode.data.clock import UNITS, Clock, unit_of
from pynode.data.dates import reads_as_date

MOST = 1e7
"""Most times of a range."""

WAYS = (
    "START:STOP:STEP, such as 0:20:0.1, nor a list of numbers such as 0,1,2.5, nor dates: 2024-03-01/2024-03-02/6h or a list"
)


@dataclass(frozen=True)
class Times:
    """Times that somebody asked for.

    Attributes
    ----------
    listed : array or tuple of str
        Numbers, or dates; the two ends of a range of dates.
    step : float or None
        Of a range of dates, in nanoseconds.
    """

    listed: NDArray[np.float64] | tuple[str, ...]
    step: float | None = None

    @property
    def dates(self) -> bool:
        """Whether they are dates."""
        return isinstance(self.listed, tuple)

    def numbers(self, clock: Clock | None) -> NDArray[np.float64]:
        """The times as numbers, of a model with this clock.

        Raises
        ------
        UserError
            They are dates, and the model knows none, or the step does not lead from the first to the last.
        """
        if isinstance(self.listed, np.ndarray):
            return self.listed
        if clock is None:
            raise UserError(f"--t holds dates ({self.listed[0]}), but the model was fitted to times that are numbers")
        try:
            t = clock.to_numbers(list(self.listed), "--t")
        except TypeError as error:
            raise UserError(str(error)) from None
        if self.step is None:
            return t
        try:
            return spaced(float(t[0]), float(t[1]), self.step / UNITS[clock.unit], "/".join(self.listed))
        except argparse.ArgumentTypeError as error:
            raise UserError(f"--t: {error}") from None


def times(text: str) -> Times:
    """What stands after --t."""
    parts = [part.strip() for part in text.split("/")]
    listed = [part.strip() for part in text.split(",")]
    if len(parts) == 3 and all(reads_as_date(part) for part in parts[:2]):
        return Times(tuple(parts[:2]), _duration(parts[2]))
    if all(reads_as_date(part) and "-" in part for part in listed):
        return Times(tuple(listed))
    try:
        if ":" not in text:
            t = np.array([float(x) for x in listed])
        else:
            start, stop, step = (float(x) for x in text.split(":"))
            t = spaced(start, stop, step, text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is neither {WAYS}") from None
    if not np.isfinite(t).all():
        raise argparse.ArgumentTypeError(f"{text!r}: times must be finite")
    return Times(t)


def spaced(start: float, stop: float, step: float, text: str) -> NDArray[np.float64]:
    """From start to stop, both included."""
    steps = (stop - start) / step
    if not 0 <= steps <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r}: STEP must lead from START to STOP in at most 10 million steps")
    return np.asarray(start + step * np.arange(int(np.floor(steps + 1e-9)) + 1), dtype=np.float64)


def _duration(text: str) -> float:
    """A step such as 6h or 15min, in nanoseconds."""
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)?\s*([A-Za-z]+)", text)
    try:
        if found is None or float(found[1] or 1) == 0:
            raise ValueError
        return float(found[1] or 1) * UNITS[unit_of(found[2])]
    except ValueError:
        words = f"the step {text!r} must be a number above 0 and a unit ({', '.join(UNITS)}), such as 6h"
        raise argparse.ArgumentTypeError(words) from None
