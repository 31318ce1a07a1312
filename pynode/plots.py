"""Pictures of fitted models: functions that return a matplotlib Figure, without pyplot or a display."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from pynode.errors import SolveWarning
from pynode.fields import Field
from pynode.transforms import jacobian

# Okabe and Ito: safe for the colour-blind
LEARNED, TRUTH, DATA, QUIET = "#0072B2", "#D55E00", "#333333", "#8c8c8c"
PATH, PALE, ARROW, DOUBTFUL = "#005f96", "#cde2f0", "#6aa9d3", "#c4c8cc"
STAGES = ("#8c8c8c", "#56B4E9", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
BAND = 1.645
"""Half width of a 90 % band in standard deviations."""

MAX_MARKERS = 4000
"""Most points drawn in one panel."""
MAX_PATHS = 40
"""Most fitted trajectories drawn in one phase portrait."""
MAX_FOLLOWED = 200
"""Most trajectories whose residuals are computed."""
MAX_SENSITIVITIES = 4e6
"""Most numbers of a sensitivity dy(t)/dtheta computed for one band; longer ones are interpolated."""
DOUBT = 0.5
"""Where the 90 % band of the field across its direction is wider than this part of its length, the direction is known
to about 30 degrees at best."""

TOO_WIDE = 0.25
"""Half widths of a band in a phase portrait, as part of the range of the data, that are not drawn."""

STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "figure.titlesize": 11,
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


def _styled(draw):
    """A function that draws with STYLE; where a solve fails, the picture has a gap instead of a warning."""

    @functools.wraps(draw)
    def call(*args, **options):
        try:
            import matplotlib
        except ImportError:
            raise MissingExtraError("pictures need matplotlib: pip install 'pynode-ode[plot]'") from None
        with matplotlib.rc_context(STYLE), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", SolveWarning)
            return draw(*args, **options)

    return call


def _figure(width, height):
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


# ---- The pictures ------------------------------------------------------------------------------------------


@_styled
def overview(model):
    """The model at a glance: phase portrait, trajectories with 90 % bands, residuals, loss while training.

    Parameters
    ----------
    model : NeuralODE
        With the data it was fitted to.

    Returns
    -------
    matplotlib.figure.Figure
        Two rows (`subfigs`) of two parts. Of many states and trajectories only the first are drawn; titles say so.
    """
    data = _data_of(model, None)
    rows = min(_n_states(model), 3)
    figure = _figure(12.6, 8.4 + 0.9 * (rows - 2))
    first = 2.0 if data.d == 3 else 0.9  # three projections want more room than one portrait
    top, low = figure.subfigures(2, 1, hspace=0.03)
    top_left, top_right = top.subfigures(1, 2, width_ratios=(first, 1), wspace=0.03)
    low_left, low_right = low.subfigures(1, 2, wspace=0.03)
    over, under = (top_right, low_right) if data.d != 3 else (low_left, top_right)
    _draw_phase(top_left, model, data, None, title="Phase portrait")
    _draw_trajectories(over, model, data, None, "fitted", 2, 3, "data", title="Trajectories")
    _draw_residuals(low_left if data.d != 3 else low_right, model, 3, title="Residuals")
    _draw_loss(under, model, title="Loss while training")
    return figure


@_styled
def trajectories(model, data=None, *, forecast=None, start="fitted", max_columns=3, max_states=8, label="data"):
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
    max_states : int
        The first so many states.
    label : str
        What the points are.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if start not in ("fitted", "first"):
        raise ValueError(f"start={start!r} must be 'fitted' or 'first'")
    data = _data_of(model, data)
    if start == "first" and any(np.isnan(y[0]).any() for y in data.y[:max_columns]):
        raise ValueError("start='first' needs the first row of each trajectory observed in full")
    columns, rows = min(len(data), max_columns), min(_n_states(model), max_states)
    figure = _figure(6.4 if columns == 1 else 3.1 * columns + 0.7, min(1.7 * rows + 1.1, 12))
    _draw_trajectories(figure, model, data, forecast, start, max_columns, max_states, label)
    return figure


@_styled
def phase(model, data=None, *, truth=None):
    """The phase portrait: data, fitted trajectories and the learned field, with 90 % bands where the model has a covariance.

    One state: dy/dt over y, with its band. Two: arrows of the field, grey where its direction is uncertain by more than
    about 30 degrees, and fitted trajectories with their bands. Three: the three projections. More: the plane of the two
    principal components of the standardised states (without bands), or, where most rows of the data have gaps, of the
    two states of largest variance. A field with inputs or unobserved states is no function of the states drawn: no arrows
    then, and for one state the slopes along the fitted trajectories.

    Parameters
    ----------
    model : NeuralODE
    data : Trajectories, optional
        Default: what the model was fitted to.
    truth : Field or callable, optional
        The true field f(t, y), in the units of the data; drawn for one and two states.

    Returns
    -------
    matplotlib.figure.Figure
    """
    data = _data_of(model, data)
    sizes = {1: (6.4, 4.2), 2: (6.2, 5.6), 3: (9.6, 3.7)}
    figure = _figure(*sizes.get(data.d, (6.2, 5.6)))
    _draw_phase(figure, model, data, truth)
    return figure


@_styled
def residuals(model, *, max_states=8):
    """Residuals of the fitted trajectories over time, in units of the estimated noise, and how they are distributed.

    A row a state. Points are data minus model (of logarithms for models of logarithms), bars the means over stretches of
    time: if the model describes all but noise, 90 % of the bars cross zero, 95 % of the points lie in the grey band, and the
    histogram follows the standard normal density. Points outside the panel are drawn at its edge, as triangles.

    Parameters
    ----------
    model : NeuralODE
        With the data it was fitted to.
    max_states : int
        The first so many states.

    Returns
    -------
    matplotlib.figure.Figure
    """
    data = _data_of(model, None)
    figure = _figure(6.6, min(1.7 * min(data.d, max_states) + 1.1, 12))
    _draw_residuals(figure, model, max_states)
    return figure


@_styled
def loss(model):
    """The loss over the iterations of training, a colour a stage.

    Losses of different stages measure different things.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = _figure(6.4, 3.6)
    _draw_loss(figure, model)
    return figure


PICTURES: dict[str, Callable] = {
    "overview": overview,
    "trajectories": trajectories,
    "phase": phase,
    "residuals": residuals,
    "loss": loss,
}
"""Names of pictures for `NeuralODE.plot`."""


@_styled
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
    figure = _figure(6.4, min(1.7 * len(names) + 0.6, 12))
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)
    for ax, name, values in zip(axes[:, 0], names, y.T, strict=True):
        ax.plot(t, values, color=LEARNED, lw=1.8)
        ax.set_ylabel(name)
    axes[-1, 0].set_xlabel(time_name)
    _whole_ticks(axes[-1, 0], t)
    figure.align_ylabels()
    return figure


# ---- Trajectories ------------------------------------------------------------------------------------------


def _draw_trajectories(parent, model, data, forecast, start, max_columns, max_states, label, title=""):
    n_states = _n_states(model)
    columns, rows = min(len(data), max_columns), min(n_states, max_states)
    names = _names(model, n_states)
    axes = parent.subplots(rows, columns, squeeze=False, sharex="col", sharey="row")
    shown: list[list] = [[] for _ in range(rows)]
    for i in range(columns):
        t, y = data.t[i], data.y[i]
        stop = forecast.t[i][-1] if forecast is not None else t[-1]
        fine = np.linspace(t[0], stop, int(np.clip(3 * len(t), 600, 3000)))
        path, low, high = _rollout(model, data, fine, i, start == "fitted")
        past = fine <= t[-1]
        every = _step(len(t))
        for j in range(rows):
            ax = axes[j, i]
            ax.plot(fine[past], path[past, j], color=LEARNED, lw=1.4, label="model", zorder=3)
            if low is not None:
                ax.fill_between(fine, low[:, j], high[:, j], color=LEARNED, alpha=0.22, lw=0, label="90 % band", zorder=1)
            shown[j].append(path[past, j])
            if j < data.d:
                shown[j].append(y[:, j])
                ax.plot(t[::every], y[::every, j], "o", **_markers(len(t), model), label=label, zorder=2)
            if forecast is not None:
                ax.plot(fine[~past], path[~past, j], "--", color=TRUTH, lw=1.8, label="forecast", zorder=3)
                shown[j].append(path[~past, j])
                if j < data.d:
                    later = forecast.y[i][:, j]
                    ax.plot(forecast.t[i], later, "o", mfc="white", mec=DATA, ms=4.5, label="held out", zorder=4)
                    shown[j].append(later)
                side = 0.02 * (stop - t[0])
                ax.axvspan(0.5 * (t[-1] + forecast.t[i][0]), stop + side, color="#f3efe6", lw=0, zorder=0)
                ax.set_xlim(t[0] - side, stop + side)
            if i == 0:
                ax.set_ylabel(names[j])
            if j == rows - 1:
                ax.set_xlabel(data.time_name)
                _whole_ticks(ax, t)
            if j == 0 and len(data) > 1:
                ax.set_title(f"trajectory {data.ids[i]}", color=QUIET, fontsize=10)
    for j in range(rows):  # a band that grows without bounds must not squeeze the data
        _limit(axes[j, 0], np.concatenate(shown[j]))
    if isinstance(axes[0, 0].figure, type(parent)):
        parent.align_ylabels()
    _head(parent, axes[0, 0], title, _of(columns, len(data), "trajectories"), _of(rows, n_states, "states"))


def _markers(n, model):
    return {"color": DATA, "ms": 4.5 if n < 40 else 3.4 if n < 400 else 1.8, "mew": 0, "alpha": 0.45}


def _limit(ax, values, room=0.5):
    """Keep the limits of y within `room` of the range of the values that matter."""
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = values.min(), values.max()
    reach = room * (high - low) or max(abs(high), 1.0) * 0.1
    bottom, top = ax.get_ylim()
    ax.set_ylim(max(bottom, low - reach), min(top, high + reach))


def _rollout(model, data, t, i, fitted, band=True, share=1):
    """(path, lower, upper end of the 90 % band of the state) of trajectory i, one of `share` to be drawn; no band without a
    covariance."""
    if fitted and data is model.data_:
        start = {"trajectory": i}
    else:
        start = {"y0": model.initial_states_[i] if fitted else data.y[i][0]}
    if model.covariance_ is None or not band:
        return model.predict(t, **start), None, None
    d = model.initial_states_.shape[1]
    few = max(100, int(MAX_SENSITIVITIES / (share * d * (model.covariance_.shape[-1] + d))))
    at = t if len(t) <= few else np.linspace(t[0], t[-1], few)
    path, std = model.predict(at, **start, return_std=True)
    half = BAND * (std / path if model.log else std)
    if len(at) < len(t):
        path, half = model.predict(t, **start), np.stack([np.interp(t, at, column) for column in half.T], axis=1)
    return (path, path * np.exp(-half), path * np.exp(half)) if model.log else (path, path - half, path + half)


# ---- Phase portraits ---------------------------------------------------------------------------------------


def _draw_phase(parent, model, data, truth, title=""):
    if data.d == 1:
        _draw_line(parent, model, data, truth, title)
    elif data.d == 2:
        _draw_plane(parent, model, data, truth, title)
    elif data.d == 3:
        _draw_projections(parent, model, data, title)
    else:
        _draw_components(parent, model, data, title)


def has_plain_field(model):
    """Whether dy/dt is a function of the states that are drawn (and perhaps of time)."""
    return not _n_unobserved(model) and not getattr(model.field_, "inputs", 0)


def _at_time(model, data):
    """(a time for the field, what a legend says about it)."""
    if not getattr(model.field_, "time_dependent", False):
        return 0.0, ""
    first = float(min(t[0] for t in data.t))
    return first, f" at {data.time_name} = {first:.4g}"


def _draw_line(parent, model, data, truth, title):
    ax = parent.subplots()
    y = np.concatenate(data.y)[:, 0]
    low, high = np.nanmin(y), np.nanmax(y)
    name = data.names[0]
    notes = []
    if has_plain_field(model):
        margin = 0.08 * (high - low) or max(abs(high), 1.0) * 0.1
        grid = np.linspace(low - margin, high + margin, 400)
        grid = grid[grid > 0] if model.log else grid
        at, when = _at_time(model, data)
        slope = model.derivative(grid[:, None], at)[:, 0]
        if truth is not None:
            true = _true_slopes(truth, grid[:, None], at)[:, 0]
            ax.plot(grid, true, color=TRUTH, lw=5, alpha=0.45, label="true field")
        covariance = _slope_covariance(model, grid[:, None], at)
        ax.plot(grid, slope, color=LEARNED, lw=1.8, label="learned field" + when, zorder=3)
        if covariance is not None:
            half = BAND * np.sqrt(covariance[:, 0, 0])
            ax.fill_between(grid, slope - half, slope + half, color=LEARNED, alpha=0.22, lw=0, label="90 % band", zorder=1)
            inside = (grid >= low) & (grid <= high)
            _limit(ax, np.concatenate([slope, (slope - half)[inside], (slope + half)[inside]]), 0.3)
    else:  # what can be seen: slopes along the fitted trajectories
        chosen = _spread(len(data), MAX_PATHS)
        for i in chosen:
            fine = np.linspace(data.t[i][0], data.t[i][-1], 800)
            path = _rollout(model, data, fine, i, True, band=False)[0][:, 0]
            ax.plot(path, np.gradient(path, fine), color=PATH, lw=1.2, label="fitted trajectory", zorder=3)
        notes.append(_of(len(chosen), len(data), "trajectories"))
    ax.axhline(0, color=QUIET, lw=0.8)
    every = _step(len(y))
    bottom = ax.get_ylim()[0]
    ticks = y[::every]
    ax.plot(ticks, np.full(len(ticks), bottom), "|", color=DATA, ms=9, alpha=0.5, label="data", clip_on=False)
    ax.set_ylim(bottom=bottom)
    ax.set(xlabel=name, ylabel=f"d{name}/d{data.time_name}")
    _head(parent, ax, title, *notes)


def _draw_plane(parent, model, data, truth, title, arrows=17):
    ax = parent.subplots()
    to_axis, from_axis = (np.log, np.exp) if model.log else (np.asarray, np.asarray)
    points = to_axis(np.concatenate(data.y))
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    flat = high <= low
    low, high = np.where(flat, low - 0.5, low), np.where(flat, high + 0.5, high)
    low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)

    def draw(at, slopes, label, **style):
        # directions on the screen: slopes as fractions of the axes, whose panel is about square
        direction = _on_axis(slopes, at, model) / (high - low)
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        direction = np.divide(direction, length, out=np.zeros_like(direction), where=length > 0)
        ax.quiver(*at.T, *direction.T, angles="uv", pivot="mid", label=label, **style)

    if has_plain_field(model):
        time, when = _at_time(model, data)
        lines = (np.linspace(a, b, arrows) for a, b in zip(low, high, strict=True))
        at = from_axis(np.stack(np.meshgrid(*lines), axis=-1).reshape(-1, 2))
        if truth is not None:  # bars, under the arrows of the learned field: where both agree, arrows lie in bars
            bars = {"width": 0.0085, "scale": arrows * 1.25, "headwidth": 1, "headlength": 0, "headaxislength": 0}
            draw(at, _true_slopes(truth, at, time), "true field", color="#f5c6a5", zorder=1, **bars)
        slopes = model.derivative(at, time)
        doubtful = _doubtful(model, at, slopes, high - low, time)
        shape = {"width": 0.0026, "scale": arrows * 1.4, "headwidth": 4.5, "headlength": 5, "headaxislength": 4.5}
        if not doubtful.all():
            draw(at[~doubtful], slopes[~doubtful], "learned field" + when, color=ARROW, zorder=2, **shape)
        if doubtful.any():
            draw(at[doubtful], slopes[doubtful], "direction uncertain", color=DOUBTFUL, zorder=2, **shape)
    notes = _paths([ax], model, data, [_pick(0, 1)], high - low)
    if model.log:
        _log_axes(ax)
    lower, upper = from_axis(low - 0.02 * (high - low)), from_axis(high + 0.02 * (high - low))
    ax.set(xlim=(lower[0], upper[0]), ylim=(lower[1], upper[1]), xlabel=data.names[0], ylabel=data.names[1])
    ax.grid(False)
    _head(parent, ax, title, *notes, markerscale=1.6)


def _draw_projections(parent, model, data, title):
    axes = parent.subplots(1, 3)
    pairs = [(0, 1), (0, 2), (1, 2)]
    notes = _paths(axes, model, data, [_pick(a, b) for a, b in pairs])
    for ax, (a, b) in zip(axes, pairs, strict=True):
        if model.log:
            _log_axes(ax)
        ax.set(xlabel=data.names[a], ylabel=data.names[b])
    _head(parent, axes[0], title, *notes, markerscale=1.6)


def _draw_components(parent, model, data, title):
    ax = parent.subplots()
    x = np.concatenate(data.y)
    x = np.log(x) if model.log else x
    complete = ~np.isnan(x).any(axis=1)
    std = np.nanstd(x, axis=0)
    if complete.mean() < 0.5 or complete.sum() < 3:
        a, b = np.sort(np.argsort(-std, kind="stable")[:2])
        notes = _paths([ax], model, data, [_pick(a, b)])
        if model.log:
            _log_axes(ax)
        ax.set(xlabel=data.names[a], ylabel=data.names[b])
        _head(parent, ax, title, f"the two of {data.d} states of largest variance", *notes, markerscale=1.6)
        return
    mean, std = x[complete].mean(axis=0), np.where(std > 0, std, 1.0)
    _, size, axes = np.linalg.svd((x[complete] - mean) / std, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2][np.arange(2), np.abs(axes[:2]).argmax(axis=1)])[:, None]

    def project(y):
        y = y[:, : data.d]
        return ((np.log(y) if model.log else y) - mean) / std @ axes.T

    notes = _paths([ax], model, data, [project], band=False)
    share = size**2 / (size**2).sum()
    for k, put in enumerate((ax.set_xlabel, ax.set_ylabel)):
        put(f"component {k + 1}: {100 * share[k]:.0f} % of variance\n({_loadings(axes[k], data.names)})")
    what = f"principal components of {data.d} standardised {'logarithms' if model.log else 'states'}"
    _head(parent, ax, title, what, *notes, markerscale=1.6)


def _loadings(weights, names, most=4):
    """The largest terms of a component, in words: 0.71 a - 0.70 b + ..."""
    order = np.argsort(-np.abs(weights), kind="stable")[:most]
    terms = " ".join(f"{'-' if weights[i] < 0 else '+'} {abs(weights[i]):.2f} {names[i]}" for i in order)
    return terms.removeprefix("+ ") + (" ..." if len(weights) > most else "")


def _paths(axes, model, data, projections, span=None, band=True):
    """Data and fitted trajectories in planes, project(y (T, d)) -> (T, 2) for each of the axes; says what was left out."""
    chosen, drawn = _spread(len(data), MAX_PATHS), list(zip(axes, projections, strict=True))
    total = sum(data.lengths[i] for i in chosen)
    every = _step(total)
    crowded = len(data) > 4 or total > 1000
    style = {"ms": 1.8 if crowded else 3.5, "mew": 0, "alpha": 0.9 if not crowded else 0.55 if total < 2000 else 0.35}
    to_axis = np.log if model.log else np.asarray
    spans = {ax: np.ptp(_finite(to_axis(project(np.concatenate(data.y)))), axis=0) for ax, project in drawn} if band else {}
    for i in chosen:
        t, y = data.t[i], data.y[i]
        fine = np.linspace(t[0], t[-1], int(np.clip(3 * len(t), 800, 3000)))
        path = high = None
        if data is model.data_:
            path, _, high = _rollout(model, data, fine, i, True, band, len(chosen))
        for ax, project in drawn:
            ax.plot(*project(y[::every]).T, "o", color=DATA, label="data", zorder=5, **style)
            if path is None:
                continue
            at = project(path)
            if high is not None:
                lost = _tube(ax, at, project(high), model.log, spans[ax] if span is None else span)
                if lost.any():
                    some = np.where(lost[:, None], at, np.nan)
                    ax.plot(*some.T, color=DOUBTFUL, lw=0.8, label="band too wide to draw", zorder=3)
                    at = np.where(lost[:, None], np.nan, at)
            ax.plot(*at.T, color=PATH, lw=0.8 if crowded else 1.6, label="fitted trajectory", zorder=4)
    return [_of(len(chosen), len(data), "trajectories"), f"every {_th(every)} point" if every > 1 else ""]


def _pick(a, b):
    return lambda y: y[:, [a, b]]


def _finite(rows):
    rows = rows[np.isfinite(rows).all(axis=1)]
    return rows if len(rows) else np.zeros((1, rows.shape[1]))


def _tube(ax, path, high, log, span):
    """The 90 % band across the direction in which a trajectory moves; returns where it is too wide, and left out."""
    from matplotlib.collections import PolyCollection

    to_axis, from_axis = (np.log, np.exp) if log else (np.asarray, np.asarray)
    x, radius = to_axis(path), to_axis(high) - to_axis(path)
    span = np.where(span > 0, span, 1.0)
    x, radius = x / span, radius / span
    along = np.gradient(x, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    length = np.linalg.norm(across, axis=1, keepdims=True)
    across = np.divide(across, length, out=np.zeros_like(across), where=length > 0)
    half = np.linalg.norm(across * radius, axis=1, keepdims=True)
    lost = half[:, 0] > TOO_WIDE
    across = np.where(lost[:, None], np.nan, across * half)
    left, right = from_axis((x + across) * span), from_axis((x - across) * span)
    quads = np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)
    quads = quads[np.isfinite(quads).all(axis=(1, 2))]
    ax.add_collection(
        PolyCollection(list(quads), facecolors=PALE, edgecolors=PALE, linewidths=0.4, label="90 % band", zorder=1.5),
        autolim=False,
    )
    return lost


def _slope_covariance(model, y, t):
    """(n, d, d) covariance of dy/dt at states y (n, d) that the uncertain parameters cause, or None."""
    field, covariance = model.field_, model.covariance_
    if covariance is None or not isinstance(field, Field) or covariance.shape != (field.n_params, field.n_params):
        return None
    scaling = model.scaling_
    J = jacobian(field, wrt="theta")(scaling.times(t), scaling.states(y), model.theta_)
    J = J * scaling.slopes_back(y, np.ones_like(y))[..., None]
    return np.einsum("nap,nbp->nab", J @ covariance, J)


def _doubtful(model, y, slopes, span, t):
    """Where the direction of the field (as drawn) is not known to about 30 degrees."""
    covariance = _slope_covariance(model, y, t)
    if covariance is None:
        return np.zeros(len(y), dtype=bool)
    scale = _on_axis(np.ones_like(y), y, model) / span
    covariance = covariance * scale[:, :, None] * scale[:, None, :]
    direction = slopes * scale
    length = np.linalg.norm(direction, axis=1)
    across = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    std = np.sqrt(np.maximum(np.einsum("na,nab,nb->n", across, covariance, across), 0.0))
    return BAND * std > DOUBT * length**2


def _on_axis(slopes, y, model):
    return slopes / y if model.log else slopes


# ---- Residuals ---------------------------------------------------------------------------------------------


def _draw_residuals(parent, model, max_states, title=""):
    data = model.data_
    rows = min(data.d, max_states)
    t, r, known, notes = _standard_residuals(model)
    axes = parent.subplots(rows, 2, squeeze=False, sharex="col", sharey="row", width_ratios=(4, 1))
    for j in range(rows):
        ax, side = axes[j]
        seen = np.isfinite(r[:, j])
        tj, rj = t[seen], r[seen, j]
        size = np.abs(rj)
        reach = max(3.6, 1.25 * float(np.quantile(size, 0.98))) if len(rj) else 3.6
        inside = size <= reach
        every = _step(len(rj))
        ax.axhspan(-1.96, 1.96, color="#efefef", lw=0, label="95 % of noise", zorder=0)
        ax.axhline(0, color=QUIET, lw=0.8, zorder=1)
        ax.plot(tj[inside][::every], rj[inside][::every], "o", **_markers(len(rj), model), label="residual", zorder=2)
        if not inside.all():
            edge = np.sign(rj[~inside]) * 0.97 * reach
            for sign, mark in ((1, "^"), (-1, "v")):
                up = np.sign(edge) == sign
                ax.plot(tj[~inside][up][::every], edge[up][::every], mark, color=TRUTH, ms=5, mew=0, zorder=3)
        at, mean, half = _binned(tj, rj)
        if len(at):
            ax.errorbar(at, mean, half, fmt="o", color=LEARNED, ms=3, lw=1.3, label="mean, 90 %", zorder=4)
        ax.set(ylim=(-reach, reach), ylabel=data.names[j])
        _histogram(side, rj, reach)
        beyond = int((~inside).sum())
        words = f"rms {np.sqrt(np.mean(rj**2)):.2f}" if len(rj) else "none"
        words += f"\n{beyond} beyond" if beyond else ""
        side.text(0.98, 0.98, words, transform=side.transAxes, ha="right", va="top", fontsize=8.5, color="#555555")
    axes[-1, 0].set_xlabel(data.time_name)
    axes[-1, 1].set_xlabel("density")
    _whole_ticks(axes[-1, 0], np.concatenate(data.t))
    unit = (
        "the noise"
        if known.all()
        else "their rms, for the noise is unknown"
        if not known.any()
        else "the noise or their rms"
    )
    what = "log data - log model" if model.log else "data - model"
    drawn = _step(len(t))
    _head(
        parent,
        axes[0, 0],
        title,
        f"{what}, in units of {unit}",
        *notes,
        _of(rows, data.d, "states"),
        f"every {_th(drawn)} point" if drawn > 1 else "",
        extra=axes[0, 1],
    )


def _standard_residuals(model):
    """(times (n,), residuals (n, d) in units of the noise, whether the noise of a state is known (d,), notes)."""
    data = model.data_
    chosen = _spread(len(data), MAX_FOLLOWED)
    rest, failed = [], 0
    for i in chosen:
        path = model.predict(data.t[i], trajectory=i)[:, : data.d]
        failed += bool(~np.isfinite(path).all())
        rest.append(np.log(data.y[i] / path) if model.log else data.y[i] - path)
    r = np.concatenate(rest)
    r[~np.isfinite(r)] = np.nan
    noise = np.array([model.report_["noise"].get(name, np.nan) for name in data.names], dtype=np.float64)
    known = np.isfinite(noise) & (noise > 0)
    rms = np.sqrt([np.mean(c[~np.isnan(c)] ** 2) if not np.isnan(c).all() else 1.0 for c in r.T])
    r = r / np.where(known, noise, np.where(rms > 0, rms, 1.0))
    notes = [_of(len(chosen), len(data), "trajectories"), f"{failed} of them could not be solved" if failed else ""]
    return np.concatenate([data.t[i] for i in chosen]), r, known, notes


def _binned(t, r, least=8, most=24):
    """(centres, means, half widths of the 90 % band if r is white noise) over stretches of time."""
    n = min(most, len(t) // least)
    if n < 4:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    edges = np.linspace(t.min(), t.max(), n + 1)
    which = np.clip(np.searchsorted(edges, t, side="right") - 1, 0, n - 1)
    count = np.bincount(which, minlength=n)
    enough = count >= min(least, 4)
    mean = np.bincount(which, r, minlength=n)[enough] / count[enough]
    return (0.5 * (edges[1:] + edges[:-1]))[enough], mean, BAND / np.sqrt(count[enough])


def _histogram(ax, r, reach):
    width = 1.0 if len(r) < 60 else 0.5 if len(r) < 1000 else 0.25
    width = max(width, reach / 20)
    edges = width * np.arange(-np.ceil(reach / width), np.ceil(reach / width) + 1)
    count = np.histogram(r, edges)[0]
    density = count / (max(len(r), 1) * width)
    ax.barh(edges[:-1], density, height=width, align="edge", color="#b8b8b8", edgecolor="white", lw=0.4, label=None)
    z = np.linspace(-min(reach, 4.5), min(reach, 4.5), 200)
    ax.plot(np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), z, color=TRUTH, lw=1.3, label="standard normal")
    ax.set_xlim(0, 1.12 * max(density.max(), 0.4 if reach < 12 else 0.0) or 1.0)
    ax.tick_params(labelleft=False, labelbottom=False)


# ---- Loss --------------------------------------------------------------------------------------------------


def _draw_loss(parent, model, title=""):
    ax = parent.subplots()
    history = model.history_
    number = np.arange(1, len(history["loss"]) + 1)
    for k, stage in enumerate(model.report_["stages"]):
        mine = history["stage"] == k
        if mine.any():
            dropped = stage["status"] in ("undone", "left out")
            ax.plot(
                number[mine],
                history["loss"][mine],
                "--" if dropped else "-",
                marker="o",
                ms=3 if len(number) < 200 else 0,
                color=STAGES[k % len(STAGES)],
                lw=1.8,
                label=stage["name"] + (f" ({stage['status']})" if dropped else ""),
            )
    loss = history["loss"]
    if (loss[np.isfinite(loss)] > 0).any():
        ax.set_yscale("log")
    ax.set(xlabel="iteration", ylabel="loss (scaled units)")
    _head(parent, ax, title)


# ---- Helpers -----------------------------------------------------------------------------------------------


def _head(parent, ax, title, *notes, extra=None, markerscale=1.0):
    """Title, what was left out, and legend, above all axes."""
    handles: dict[str, Any] = {}
    for one in (ax, extra):
        if one is not None:
            handles |= dict(zip(*reversed(one.get_legend_handles_labels()), strict=True))
    words = ", ".join(note.removesuffix(f" {title.lower()}") for note in notes if note)
    legend = parent.legend(
        list(handles.values()),
        list(handles),
        loc="outside upper center",
        ncols=_legend_columns(list(handles), parent.bbox.width / parent.figure.dpi),
        title=f"{title}: {words}" if title and words else title or words or None,
        title_fontsize=11 if title else 10,
        markerscale=markerscale,
        columnspacing=1.5,
    )
    legend.set_label("head")


def _legend_columns(labels, width):
    """How many columns of a legend fit into a width in inches."""
    sizes = [0.066 * len(label) + 0.56 for label in labels]
    for columns in range(len(labels), 1, -1):
        if sum(part.max() for part in np.array_split(sizes, columns)) < 0.95 * width:
            return columns
    return 1


def _of(n, total, what):
    """3 of 100 trajectories", or nothing where all are there."""
    return f"{n} of {total} {what}" if n < total else ""


def _step(n):
    """Every how manieth of n points is drawn."""
    return max(1, -(-n // MAX_MARKERS))


def _th(n):
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _spread(n, most):
    """Indices of at most `most` of n, evenly spread, the first and the last among them."""
    return range(n) if n <= most else np.unique(np.linspace(0, n - 1, most).round().astype(int)).tolist()


def _n_unobserved(model):
    return int(getattr(model, "n_unobserved_", 0))


def _n_states(model):
    """How many states `predict` gives."""
    if not _n_unobserved(model):
        return len(model.names_)
    return model.predict(model.data_.t[0][:1], trajectory=0).shape[1]


def _names(model, n):
    return [*model.names_, *(f"z{k + 1}" for k in range(n - len(model.names_)))]


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


def _data_of(model, data):
    data = model.data_ if data is None else data
    if data is None:
        raise ValueError("the model was saved without its data: give data=")
    if data.d != len(model.names_):
        raise ValueError(f"the data have {data.d} states, the model {len(model.names_)}")
    return data


def _true_slopes(truth, y, t=0.0):
    """The true field at rows of y: a Field at once, any function row by row."""
    if isinstance(truth, Field):
        return truth(t, y)
    return np.stack([np.asarray(truth(t, row), dtype=np.float64) for row in y])
