"""States over time: trajectories with bands over the data, predictions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from pynode.data.clock import Clock
from pynode.data.trajectories import Trajectories
from pynode.plots.bands import forecast_interval, rollout_with_band
from pynode.plots.parts import (
    data_of,
    draw_heading,
    how_many_of,
    limit_y,
    marker_style,
    n_states,
    state_names,
    stride,
    times_of_jumps,
)
from pynode.plots.protocols import Array, TrajectoryModel
from pynode.plots.style import DATA, LEARNED, QUIET, TRUTH, new_figure, styled
from pynode.plots.time_axis import set_time_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pynode.plots.parts import Parent


@styled
def trajectories(
    model: TrajectoryModel,
    data: Trajectories | None = None,
    *,
    forecast: Trajectories | None = None,
    start: Literal["fitted", "first"] = "fitted",
    max_columns: int = 3,
    max_states: int = 8,
    label: str = "data",
) -> "Figure":
    """Trajectories of the model over the data: a row a state, a column a trajectory; shaded, the 90 % band of the state.

    A forecast has the calibrated interval of new readings in its place, see `pynode.NeuralODE.predict`.

    Parameters
    ----------
    model : NeuralODE
        A fitted model.
    data : Trajectories, optional
        Default: what the model was fitted to.
    forecast : Trajectories, optional
        Later times of the same trajectories, which took no part in fitting: open markers, and the model
        continued.
    start : {"fitted", "first"}, default "fitted"
        Where the model starts: at the fitted initial states, or at the first row of `data`.
    max_columns : int, default 3
        The first so many trajectories.
    max_states : int, default 8
        The first so many states.
    label : str, default "data"
        What the points are.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        `start` is neither of the two; a first row has gaps and `start` is "first"; there are no data; or their states are
        not those of the model.

    See Also
    --------
    pynode.plots.phase, pynode.plots.residuals, pynode.plots.prediction

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> t = np.linspace(0, 3, 20)
    >>> model = pn.NeuralODE(hidden=(3,), max_iter=2, random_state=0).fit(t, np.exp(-t), names=["x"])
    >>> pn.plots.trajectories(model).axes[0].get_ylabel()
    'x'
    """
    if start not in ("fitted", "first"):
        raise ValueError(f"start={start!r} must be 'fitted' or 'first'")
    data = data_of(model, data)
    if start == "first" and any(np.isnan(y[0]).any() for y in data.y[:max_columns]):
        raise ValueError("start='first' needs the first row of each trajectory observed in full")
    columns = min(len(data), max_columns)
    rows = min(n_states(model), max_states)
    figure = new_figure(6.4 if columns == 1 else 3.1 * columns + 0.7, min(1.7 * rows + 1.1, 12))
    draw_trajectories(figure, model, data, forecast, start, max_columns, max_states, label)
    return figure


@styled
def prediction(
    t: ArrayLike,
    y: ArrayLike,
    names: Sequence[str],
    time_name: str = "t",
    *,
    data: Trajectories | None = None,
    trajectory: int = 0,
    band: tuple[ArrayLike, ArrayLike] | None = None,
    clock: Clock | None = None,
) -> "Figure":
    """A predicted trajectory, a panel a state; over the data that it continues, if they are given.

    Parameters
    ----------
    t : (T,) array
        Times.
    y : (T, d) array
        States at these times.
    names : sequence of str
        The names of the d states.
    time_name : str, default "t"
        The label of the horizontal axis.
    data : Trajectories, optional
        What was measured: points, and a shaded ground where they end and the forecast begins.
    trajectory : int, default 0
        Which of them.
    band : pair of (T, d) arrays, optional
        Lower and upper end of what is drawn as a 90 % band.
    clock : Clock, optional
        How dates became numbers: the axis has dates then. Default: that of the data.

    Returns
    -------
    matplotlib.figure.Figure

    See Also
    --------
    pynode.plots.trajectories

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> t = np.linspace(0, 6, 50)
    >>> len(pn.plots.prediction(t, np.stack([np.cos(t), np.sin(t)], axis=1), ["x", "v"]).axes)
    2
    """
    t = np.asarray(t, dtype=np.float64)
    y = np.asarray(y, dtype=np.float64)
    figure = new_figure(6.4, min(1.7 * len(names) + 1.1, 12))
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)
    low, high = (None, None) if band is None else (np.asarray(end, dtype=np.float64) for end in band)
    for j, (ax, name, values) in enumerate(zip(axes[:, 0], names, y.T, strict=True)):
        ax.plot(t, values, color=LEARNED, lw=1.8, label="model", zorder=3)
        if low is not None and high is not None:
            ax.fill_between(t, low[:, j], high[:, j], color=LEARNED, alpha=0.22, lw=0, label="90 % band", zorder=1)
        if data is not None and j < data.d:
            _draw_measured(ax, data, trajectory, j, t)
            limit_y(ax, np.append(values, data.y[trajectory][:, j]))
        ax.set_ylabel(name)
    set_time_axis(axes[-1, 0], t, time_name, clock if data is None or clock is not None else data.clock)
    draw_heading(figure, axes[0, 0], "" if data is None or len(data) == 1 else f"trajectory {data.ids[trajectory]}")
    figure.align_ylabels()
    return figure


def _draw_measured(ax: "Axes", data: Trajectories, i: int, j: int, t: Array) -> None:
    """The points of state j of trajectory i, and where they end if the times t go on."""
    times = data.t[i]
    every = stride(len(times))
    ax.plot(times[::every], data.y[i][::every, j], "o", **marker_style(len(times)), label="data", zorder=2)
    if t.size and t.max() > times[-1]:
        ax.axvspan(times[-1], t.max(), color="#f3efe6", lw=0, zorder=0)
        ax.axvline(times[-1], color=QUIET, lw=0.8, ls=":", label="end of data", zorder=1)


def draw_trajectories(
    parent: "Parent",
    model: TrajectoryModel,
    data: Trajectories,
    forecast: Trajectories | None = None,
    start: Literal["fitted", "first"] = "fitted",
    max_columns: int = 3,
    max_states: int = 8,
    label: str = "data",
    title: str = "",
) -> None:
    """A row a state, a column a trajectory, in (a part of) a figure."""
    n = n_states(model)
    columns = min(len(data), max_columns)
    rows = min(n, max_states)
    names = state_names(model, n)
    axes = parent.subplots(rows, columns, squeeze=False, sharex="col", sharey="row")
    shown: list[list[Array]] = [[] for _ in range(rows)]
    for i in range(columns):
        t = data.t[i]
        stop = forecast.t[i][-1] if forecast is not None else t[-1]
        fine = np.linspace(t[0], stop, int(np.clip(3 * len(t), 600, 3000)))
        jumps = times_of_jumps(model, i)
        jumps = jumps[(jumps > t[0]) & (jumps < stop)]
        fine = np.union1d(fine, np.concatenate([jumps, np.nextafter(jumps, np.inf)]))
        path, low, high = rollout_with_band(model, data, fine, i, start == "fitted")
        past = fine <= t[-1]
        later = None if forecast is None or start != "fitted" else forecast_interval(model, data, i, float(stop))
        if later is not None and low is not None and high is not None:  # that of the state alone is narrower
            low[~past] = np.nan
            high[~past] = np.nan
        for j in range(rows):
            ax = axes[j, i]
            ax.plot(fine[past], path[past, j], color=LEARNED, lw=1.4, label="model", zorder=3)
            if low is not None and high is not None:
                ax.fill_between(fine, low[:, j], high[:, j], color=LEARNED, alpha=0.22, lw=0, label="90 % band", zorder=1)
            shown[j].append(path[past, j])
            if j < data.d:
                shown[j].append(data.y[i][:, j])
                every = stride(len(t))
                ax.plot(t[::every], data.y[i][::every, j], "o", **marker_style(len(t)), label=label, zorder=2)
            if later is not None and j < data.d:
                _draw_interval(ax, *later, j)
            if forecast is not None:
                shown[j] += _draw_forecast(ax, forecast, i, j, t, fine[~past], path[~past, j])
            if len(jumps):
                floor = ax.get_xaxis_transform()
                ax.plot(jumps, np.zeros(len(jumps)), "^", color=QUIET, ms=5, transform=floor, clip_on=False, label="dose")
            if i == 0:
                ax.set_ylabel(names[j])
        set_time_axis(axes[-1, i], t, data.time_name, data.clock)
        if len(data) > 1:
            axes[0, i].set_title(f"trajectory {data.ids[i]}", color=QUIET, fontsize=10)
    for j in range(rows):  # a band that grows without bounds must not squeeze the data
        limit_y(axes[j, 0], np.concatenate(shown[j]))
    if isinstance(axes[0, 0].figure, type(parent)):
        parent.align_ylabels()
    left_out = (how_many_of(columns, len(data), "trajectories"), how_many_of(rows, n, "states"))
    draw_heading(parent, axes[0, 0], title, *left_out)


def _draw_interval(ax: "Axes", t: Array, lower: Array, upper: Array, j: int) -> None:
    """The interval of new readings of state j."""
    ax.fill_between(t, lower[:, j], upper[:, j], color=TRUTH, alpha=0.16, lw=0, label="90 % of new readings", zorder=1)


def _draw_forecast(ax: "Axes", forecast: Trajectories, i: int, j: int, t: Array, fine: Array, path: Array) -> list[Array]:
    """State j of trajectory i beyond the data, on a shaded ground; returns what must stay within the limits."""
    ax.plot(fine, path, "--", color=TRUTH, lw=1.8, label="forecast", zorder=3)
    shown = [path]
    times = forecast.t[i]
    if j < forecast.d:
        later = forecast.y[i][:, j]
        ax.plot(times, later, "o", mfc="white", mec=DATA, ms=4.5, label="held out", zorder=4)
        shown.append(later)
    side = 0.02 * (times[-1] - t[0])
    ax.axvspan(0.5 * (t[-1] + times[0]), times[-1] + side, color="#f3efe6", lw=0, zorder=0)
    ax.set_xlim(t[0] - side, times[-1] + side)
    return shown
