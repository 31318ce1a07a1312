"""Pictures of fitted models: functions that return a matplotlib Figure, without pyplot or a display."""

from collections.abc import Callable
from typing import Any

import numpy as np

# Okabe and Ito: safe for the colour-blind
LEARNED, TRUTH, DATA, QUIET = "#0072B2", "#D55E00", "#333333", "#8c8c8c"
STAGES = ("#8c8c8c", "#56B4E9", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
BAND = 1.645
"""Half width of a 90 % band in standard deviations."""

STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "figure.dpi": 110,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "pynode",
}


class MissingExtraError(ImportError):
    """A package that only pictures, tables or progress need is not installed."""


def _figure(width, height, rows=1, columns=1, **options):
    """(Figure, (rows, columns) array of axes)."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("pictures need matplotlib: pip install 'pynode-ode[plot]'") from None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **options)


# ------------------------------------------------------------------------------------------------------------


def trajectories(model, data=None, *, forecast=None, start="fitted", max_columns=3, label="data"):
    """Trajectories of the model over the data: a row a state, a column a trajectory; shaded, the 90 % band of the state.

    Parameters
    ----------
    model : NeuralODE
    data : Trajectories, optional
        Default: what the model was fitted to.
    forecast : Trajectories, optional
        Later times of the same trajectories, which took no part in fitting: open markers, and the model
        continued.
    start : {"fitted", "first"}
        Where the model starts: at the fitted initial states, or at the first row of `data`.
    max_columns : int
        The first so many trajectories.
    label : str
        What the points are.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if start not in ("fitted", "first"):
        raise ValueError(f"start={start!r} must be 'fitted' or 'first'")
    data = _data_of(model, data)
    columns = min(len(data), max_columns)
    wide = 6.4 if columns == 1 else 3.1 * columns + 0.7
    figure, axes = _figure(wide, min(1.9 * data.d + 0.9, 12), data.d, columns, sharex="col", sharey="row")
    for i in range(columns):
        t, y = data.t[i], data.y[i]
        stop = forecast.t[i][-1] if forecast is not None else t[-1]
        fine = np.linspace(t[0], stop, 600)
        path, low, high = _rollout(model, data, fine, i, start == "fitted")
        past = fine <= t[-1]
        for j, name in enumerate(data.names):
            ax = axes[j, i]
            ax.plot(fine[past], path[past, j], color=LEARNED, lw=1.4, label="model", zorder=3)
            if low is not None:
                ax.fill_between(fine, low[:, j], high[:, j], color=LEARNED, alpha=0.22, lw=0, label="90 % band", zorder=1)
            ax.plot(
                t,
                y[:, j],
                "o",
                color=DATA,
                ms=4.5 if len(t) < 40 else 3.4 if len(t) < 400 else 2,
                mew=0,
                alpha=0.45,
                label=label,
                zorder=2,
            )
            if forecast is not None:
                ax.plot(fine[~past], path[~past, j], "--", color=TRUTH, lw=1.8, label="forecast", zorder=3)
                ax.plot(
                    forecast.t[i],
                    forecast.y[i][:, j],
                    "o",
                    mfc="white",
                    mec=DATA,
                    ms=4.5,
                    label="held out",
                    zorder=4,
                )
                ax.axvspan(
                    0.5 * (t[-1] + forecast.t[i][0]),
                    stop + 0.02 * (stop - t[0]),
                    color="#f3efe6",
                    lw=0,
                    zorder=0,
                )
                ax.set_xlim(t[0] - 0.02 * (stop - t[0]), stop + 0.02 * (stop - t[0]))
            if i == 0:
                ax.set_ylabel(name)
            if j == data.d - 1:
                ax.set_xlabel(data.time_name)
                _whole_ticks(ax, t)
            if j == 0 and len(data) > 1:
                ax.set_title(f"trajectory {data.ids[i]}", color=QUIET, fontsize=10)
    figure.align_ylabels()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=9, frameon=False)
    return figure


def _rollout(model, data, t, i, fitted):
    """(path, lower, upper end of the 90 % band of the state) of trajectory i; no band without a covariance."""
    start = {"trajectory": i} if fitted and data is model.data_ else {"y0": data.y[i][0]}
    if fitted and data is not model.data_:
        start = {"y0": model.initial_states_[i]}
    if model.covariance_ is None:
        return model.predict(t, **start), None, None
    path, std = model.predict(t, **start, return_std=True)
    if model.log:
        factor = np.exp(BAND * std / path)
        return path, path / factor, path * factor
    return path, path - BAND * std, path + BAND * std


def phase(model, data=None, *, truth=None):
    """The phase portrait: data, fitted trajectories and the learned field.

    One state: dy/dt over y. Two: arrows of the field. More: projections to pairs of states, without arrows.

    Parameters
    ----------
    model : NeuralODE
    data : Trajectories, optional
        Default: what the model was fitted to.
    truth : Field or callable, optional
        The true field f(t, y), in the units of the data.

    Returns
    -------
    matplotlib.figure.Figure
    """
    data = _data_of(model, data)
    if data.d == 1:
        return _phase_line(model, data, truth)
    if data.d == 2:
        return _phase_plane(model, data, truth)
    pairs = [(0, 1), (0, 2), (1, 2)]
    figure, axes = _figure(9.6, 3.6, 1, 3)
    for ax, (a, b) in zip(axes[0], pairs, strict=True):
        _paths(ax, model, data, a, b)
        ax.set(xlabel=data.names[a], ylabel=data.names[b])
    figure.legend(*_unique(axes[0, 0]), loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    return figure


def _phase_line(model, data, truth):
    y = np.concatenate(data.y)[:, 0]
    low, high = np.nanmin(y), np.nanmax(y)
    grid = np.linspace(low - 0.08 * (high - low), high + 0.08 * (high - low), 400)
    if model.log:
        grid = grid[grid > 0]
    figure, axes = _figure(6.4, 4.2)
    ax = axes[0, 0]
    if truth is not None:
        ax.plot(grid, _true_slopes(truth, grid[:, None])[:, 0], color=TRUTH, lw=5, alpha=0.45, label="true field")
    ax.plot(grid, model.derivative(grid[:, None])[:, 0], color=LEARNED, lw=1.8, label="learned field")
    ax.axhline(0, color=QUIET, lw=0.8)
    bottom = ax.get_ylim()[0]
    ax.plot(y, np.full(len(y), bottom), "|", color=DATA, ms=9, alpha=0.5, label="data", clip_on=False)
    ax.set_ylim(bottom=bottom)
    name = data.names[0]
    ax.set(xlabel=name, ylabel=f"d{name}/d{data.time_name}")
    figure.legend(*_unique(ax), loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    return figure


def _phase_plane(model, data, truth, arrows=17):
    figure, axes = _figure(6.2, 5.6)
    ax = axes[0, 0]
    points = np.concatenate(data.y)
    points = points[~np.isnan(points).any(axis=1)]
    to_axis, from_axis = (np.log, np.exp) if model.log else (np.asarray, np.asarray)
    low, high = to_axis(points).min(axis=0), to_axis(points).max(axis=0)
    low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)
    grid = np.stack(np.meshgrid(*(np.linspace(a, b, arrows) for a, b in zip(low, high, strict=True))), axis=-1).reshape(
        -1, 2
    )
    at = from_axis(grid)

    def draw(slopes, label, **style):
        # directions on the screen: slopes as fractions of the axes, whose panel is about square
        on_axis = slopes / at if model.log else slopes
        direction = on_axis / (high - low)
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        direction = np.divide(direction, length, out=np.zeros_like(direction), where=length > 0)
        ax.quiver(*at.T, *direction.T, angles="uv", pivot="mid", label=label, **style)

    if truth is not None:  # bars, under the arrows of the learned field: where both agree, arrows lie in bars
        draw(
            _true_slopes(truth, at),
            "true field",
            color="#f5c6a5",
            width=0.0085,
            scale=arrows * 1.25,
            headwidth=1,
            headlength=0,
            headaxislength=0,
            zorder=1,
        )
    draw(
        model.derivative(at),
        "learned field",
        color="#3f8fc4",
        width=0.0026,
        scale=arrows * 1.4,
        headwidth=4.5,
        headlength=5,
        headaxislength=4.5,
        zorder=2,
    )
    _paths(ax, model, data, 0, 1)
    if model.log:
        _log_axes(ax)
    lower, upper = from_axis(low - 0.02 * (high - low)), from_axis(high + 0.02 * (high - low))
    ax.set(xlim=(lower[0], upper[0]), ylim=(lower[1], upper[1]), xlabel=data.names[0], ylabel=data.names[1])
    ax.grid(False)
    figure.legend(*_unique(ax), loc="outside upper center", ncols=4, fontsize=9, frameon=False, markerscale=1.6)
    return figure


def _paths(ax, model, data, a, b):
    """Data and fitted trajectories, state b over state a."""
    crowded = len(data) > 4
    for i, (t, y) in enumerate(zip(data.t, data.y, strict=True)):
        ax.plot(
            y[:, a],
            y[:, b],
            "o",
            color=DATA,
            ms=1.8 if crowded else 3.5,
            mew=0,
            alpha=0.45 if crowded else 0.9,
            label="data",
            zorder=3,
        )
        if data is model.data_:
            path = model.predict(np.linspace(t[0], t[-1], 800), model.initial_states_[i])
            ax.plot(
                path[:, a],
                path[:, b],
                color="#003f66",
                lw=0.9 if crowded else 1.8,
                label="fitted trajectory",
                zorder=4,
            )


def _whole_ticks(ax, t):
    """No ticks at half years where all times are whole numbers."""
    if (t == np.round(t)).all():
        from matplotlib.ticker import MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def _log_axes(ax):
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    ax.set(xscale="log", yscale="log")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(NullFormatter())


def loss(model):
    """The loss over the iterations of training, a colour a stage.

    Losses of different stages measure different things.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = _figure(6.4, 3.6)
    ax = axes[0, 0]
    history = model.history_
    number = np.arange(1, len(history["loss"]) + 1)
    for k, stage in enumerate(model.report_["stages"]):
        mine = history["stage"] == k
        if mine.any():
            ax.plot(
                number[mine],
                history["loss"][mine],
                color=STAGES[k % len(STAGES)],
                lw=1.8,
                label=stage["name"],
            )
    ax.set(yscale="log", xlabel="iteration", ylabel="loss (scaled units)")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=9, frameon=False)
    return figure


PICTURES: dict[str, Callable] = {"trajectories": trajectories, "phase": phase, "loss": loss}
"""Names of pictures for `NeuralODE.plot`."""


# ------------------------------------------------------------------------------------------------------------


def prediction(t, y, names, time_name="t"):
    """Predicted trajectories, a panel a state.

    Parameters
    ----------
    t : (T,) array
    y : (T, d) array
    names : sequence of str
    time_name : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = _figure(6.4, min(1.7 * len(names) + 0.6, 12), len(names), sharex=True)
    for ax, name, values in zip(axes[:, 0], names, y.T, strict=True):
        ax.plot(t, values, color=LEARNED, lw=1.8)
        ax.set_ylabel(name)
    axes[-1, 0].set_xlabel(time_name)
    _whole_ticks(axes[-1, 0], t)
    figure.align_ylabels()
    return figure


def _data_of(model, data):
    data = model.data_ if data is None else data
    if data is None:
        raise ValueError("the model was saved without its data: give data=")
    if data.d != len(model.names_):
        raise ValueError(f"the data have {data.d} states, the model {len(model.names_)}")
    return data


def _true_slopes(truth, y):
    """The true field at rows of y: a Field at once, any function row by row."""
    from pynode.fields import Field

    if isinstance(truth, Field):
        return truth(0.0, y)
    return np.stack([np.asarray(truth(0.0, row), dtype=np.float64) for row in y])


def _unique(ax):
    """Handles and labels of a legend, each label once."""
    seen = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    return list(seen.values()), list(seen)
