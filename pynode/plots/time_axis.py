"""Axes of time: numbers, or dates where times are dates."""

from typing import TYPE_CHECKING, Any

import numpy as np

from pynode.data.clock import UNITS, Clock
from pynode.plots.protocols import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DAY = UNITS["d"]


def set_time_axis(ax: "Axes", t: Array, name: str, clock: Clock | None = None) -> None:
    """The label and the ticks of a horizontal axis of times.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        What is drawn on it has times as numbers.
    t : (T,) array
        The times of the data.
    name : str
        What the time is called.
    clock : Clock, optional
        How dates became numbers: ticks are dates then.
    """
    if clock is None or clock.origin is None:
        ax.set_xlabel(name if clock is None else clock.label(name))
        set_whole_ticks(ax, t)
        return
    ax.set_xlabel(name if clock.timezone is None else f"{name} ({clock.timezone})")
    _set_dates(ax, clock)


def set_whole_ticks(ax: "Axes", t: Array) -> None:
    """No ticks at half years where all times are whole numbers."""
    if (t == np.round(t)).all():
        from matplotlib.ticker import MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def _set_dates(ax: "Axes", clock: Clock) -> None:
    """Ticks at round dates of an axis of numbers."""
    from matplotlib import dates, ticker

    of_dates: Any = dates
    zone = clock.to_dates(np.zeros(1))[0].tzinfo if clock.timezone is not None else None
    origin = float(of_dates.date2num(clock.origin))
    scale = UNITS[clock.unit] / DAY
    locator = of_dates.AutoDateLocator(tz=zone, minticks=3, maxticks=6)
    concise = of_dates.ConciseDateFormatter(locator, tz=zone)

    def date(x: float) -> Any:
        return of_dates.num2date(origin + scale * x, tz=zone)

    class Dates(ticker.Locator):
        """Where the locator of matplotlib's dates puts ticks."""

        def __call__(self) -> Any:
            axis: Any = self.axis
            return self.tick_values(*axis.get_view_interval())

        def tick_values(self, vmin: float, vmax: float) -> Any:
            low, high = sorted((vmin, vmax))
            return (np.asarray(locator.tick_values(date(low), date(high))) - origin) / scale

    class Words(ticker.Formatter):
        """The formatter of matplotlib's dates, of numbers."""

        def __call__(self, x: float, pos: int | None = None) -> str:
            return str(date(x).isoformat(" ", "seconds"))

        def format_ticks(self, values: Any) -> list[str]:
            return [str(text) for text in concise.format_ticks([origin + scale * x for x in values])]

        def get_offset(self) -> str:
            return str(concise.get_offset())

    ax.xaxis.set_major_locator(Dates())
    ax.xaxis.set_major_formatter(Words())
