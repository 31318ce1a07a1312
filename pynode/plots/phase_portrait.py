"""Phase portraits: the learned field on the line and in the plane, under the data and the fitted trajectories."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.support import Support
from pynode.data.trajectories import Trajectories
from pynode.fields.field import Field
from pynode.plots.bands import rollout, slope_covariance
from pynode.plots.parts import (
    data_of,
    draw_heading,
    evenly_spread,
    has_plain_field,
    how_many_of,
    limit_y,
    set_log_axes,
    stride,
    times_of_jumps,
    true_slopes,
)
from pynode.plots.paths import draw_paths, plane_of
from pynode.plots.projections import draw_components, draw_projections
from pynode.plots.protocols import Array, TrajectoryModel
from pynode.plots.style import (
    ARROW,
    BAND,
    DATA,
    DOUBT,
    DOUBTFUL,
    FAINT,
    LEARNED,
    MAX_PATHS,
    PATH,
    QUIET,
    TRUTH,
    UNKNOWN,
    new_figure,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pynode.plots.parts import Parent

Truth = Field | Callable[[float, Array], ArrayLike]


@styled
def phase(model: TrajectoryModel, data: Trajectories | None = None, *, truth: Truth | None = None) -> "Figure":
    """The phase portrait: data, fitted trajectories and the learned field, with 90 % bands where the model has a covariance.

    One state: dy/dt over y, with its band. Two: arrows of the field, grey where its direction is uncertain by more than
    about 30 degrees, faint where a network saw no data near, and fitted trajectories with their bands. Three: the three
    projections. More: the plane of the two principal components of the standardised states (without bands), or, where
    most rows of the data have gaps, that of the two states of largest variance. A field with inputs or unobserved states
    is no function of the states drawn: no arrows then, and for one state the slopes along the fitted trajectories.

    Parameters
    ----------
    model : NeuralODE
        A fitted model.
    data : Trajectories, optional
        Default: what the model was fitted to.
    truth : Field or callable, optional
        The true field f(t, y), in the units of the data; drawn for one and two states.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        There are no data, or their states are not those of the model.

    See Also
    --------
    pynode.plots.trajectories, pynode.plots.overview

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> t = np.linspace(0, 3, 20)
    >>> model = pn.NeuralODE(hidden=(3,), max_iter=2, random_state=0).fit(t, np.exp(-t), names=["x"])
    >>> pn.plots.phase(model, truth=lambda t, y: -y).axes[0].get_ylabel()
    'dx/dt'
    """
    data = data_of(model, data)
    sizes = {1: (6.4, 4.2), 2: (6.2, 5.6), 3: (9.6, 3.7)}
    figure = new_figure(*sizes.get(data.d, (6.2, 5.6)))
    draw_phase(figure, model, data, truth)
    return figure


def draw_phase(parent: "Parent", model: TrajectoryModel, data: Trajectories, truth: Truth | None, title: str = "") -> None:
    """The portrait that suits the number of states, in (a part of) a figure."""
    if data.d == 1:
        _draw_line(parent, model, data, truth, title)
    elif data.d == 2:
        _draw_plane(parent, model, data, truth, title)
    elif data.d == 3:
        draw_projections(parent, model, data, title)
    else:
        draw_components(parent, model, data, title)


def _at_time(model: TrajectoryModel, data: Trajectories) -> tuple[float, str]:
    """(a time for the field, what a legend says about it)."""
    if not model.field_.time_dependent:
        return 0.0, ""
    first = float(min(t[0] for t in data.t))
    return first, f" at {data.time_name} = {first:.4g}" if data.clock is None else f" at {data.when(first)}"


# ---- One state -------------------------------------------------------------------------------------------------


def _draw_line(parent: "Parent", model: TrajectoryModel, data: Trajectories, truth: Truth | None, title: str) -> None:
    """dy/dt over y."""
    ax = parent.subplots()
    y = np.concatenate(data.y)[:, 0]
    name = data.names[0]
    if has_plain_field(model):
        _draw_slopes(ax, model, data, truth, np.nanmin(y), np.nanmax(y))
        note = ""
    else:
        note = _draw_slopes_along_paths(ax, model, data)
    ax.axhline(0, color=QUIET, lw=0.8)
    bottom = ax.get_ylim()[0]
    ticks = y[:: stride(len(y))]
    ax.plot(ticks, np.full(len(ticks), bottom), "|", color=DATA, ms=9, alpha=0.5, label="data", clip_on=False)
    ax.set_ylim(bottom=bottom)
    unit = "" if data.clock is None else f" (per {data.clock.unit})"
    ax.set(xlabel=name, ylabel=f"d{name}/d{data.time_name}{unit}")
    draw_heading(parent, ax, title, note)


def _draw_slopes(
    ax: "Axes", model: TrajectoryModel, data: Trajectories, truth: Truth | None, low: float, high: float
) -> None:
    """The field over the range of the data, with its band."""
    margin = 0.08 * (high - low) or max(abs(high), 1.0) * 0.1
    grid = np.linspace(low - margin, high + margin, 400)
    grid = grid[grid > 0] if model.log else grid
    at, when = _at_time(model, data)
    slope = model.derivative(at, grid[:, None])[:, 0]
    if truth is not None:
        true = true_slopes(truth, grid[:, None], at)[:, 0]
        ax.plot(grid, true, color=TRUTH, lw=5, alpha=0.45, label="true field")
    covariance = slope_covariance(model, grid[:, None], at)
    ax.plot(grid, slope, color=LEARNED, lw=1.8, label="learned field" + when, zorder=3)
    if covariance is not None:
        half = BAND * np.sqrt(covariance[:, 0, 0])
        ax.fill_between(grid, slope - half, slope + half, color=LEARNED, alpha=0.22, lw=0, label="90 % band", zorder=1)
        inside = (grid >= low) & (grid <= high)
        limit_y(ax, np.concatenate([slope, (slope - half)[inside], (slope + half)[inside]]), 0.3)


def _draw_slopes_along_paths(ax: "Axes", model: TrajectoryModel, data: Trajectories) -> str:
    """What can be seen of a field of more than the state drawn; returns a note of what was left out."""
    chosen = evenly_spread(len(data), MAX_PATHS)
    for i in chosen:
        jumps = times_of_jumps(model, i)
        fine = np.setdiff1d(np.linspace(data.t[i][0], data.t[i][-1], 800), jumps)
        path = rollout(model, data, fine, i, True)[:, 0]
        between = np.searchsorted(fine, jumps)
        for t, y in zip(np.split(fine, between), np.split(path, between), strict=True):
            if len(t) > 2:
                ax.plot(y, np.gradient(y, t, edge_order=2), color=PATH, lw=1.2, label="fitted trajectory", zorder=3)
    return how_many_of(len(chosen), len(data), "trajectories")


# ---- Two states ------------------------------------------------------------------------------------------------


def _draw_plane(parent: "Parent", model: TrajectoryModel, data: Trajectories, truth: Truth | None, title: str) -> None:
    """Arrows of the field under the paths."""
    ax = parent.subplots()
    to_axis, from_axis = (np.log, np.exp) if model.log else (np.asarray, np.asarray)
    points = to_axis(np.concatenate(data.y))
    low = np.nanmin(points, axis=0)
    high = np.nanmax(points, axis=0)
    flat = high <= low
    low = np.where(flat, low - 0.5, low)
    high = np.where(flat, high + 0.5, high)
    margin = 0.08 * (high - low)
    low = low - margin
    high = high + margin
    if has_plain_field(model):
        _draw_arrows(ax, model, data, truth, low, high)
    notes = draw_paths([ax], model, data, [plane_of(0, 1)], high - low)
    if model.log:
        set_log_axes(ax)
    lower = from_axis(low - 0.02 * (high - low))
    upper = from_axis(high + 0.02 * (high - low))
    ax.set(xlim=(lower[0], upper[0]), ylim=(lower[1], upper[1]), xlabel=data.names[0], ylabel=data.names[1])
    ax.grid(False)
    draw_heading(parent, ax, title, *notes, markerscale=1.6)


def _draw_arrows(
    ax: "Axes", model: TrajectoryModel, data: Trajectories, truth: Truth | None, low: Array, high: Array, n: int = 17
) -> None:
    """n x n arrows between the corners `low` and `high` (their logarithms for models of logarithms)."""
    lines = (np.linspace(a, b, n) for a, b in zip(low, high, strict=True))
    at = np.stack(np.meshgrid(*lines), axis=-1).reshape(-1, 2)
    at = np.exp(at) if model.log else at

    def draw(which: Any, slopes: Array, label: str, **style: Any) -> None:
        # directions on the screen: slopes as fractions of the axes, whose panel is about square
        direction = _on_axis(slopes[which], at[which], model) / (high - low)
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        direction = np.divide(direction, length, out=np.zeros_like(direction), where=length > 0)
        ax.quiver(*at[which].T, *direction.T, angles="uv", pivot="mid", label=label, **style)

    time, when = _at_time(model, data)
    if truth is not None:  # bars, under the arrows of the learned field: where both agree, arrows lie in bars
        bars = {"width": 0.0085, "scale": n * 1.25, "headwidth": 1, "headlength": 0, "headaxislength": 0}
        draw(slice(None), true_slopes(truth, at, time), "true field", color="#f5c6a5", zorder=1, **bars)
    slopes = model.derivative(time, at)
    doubtful = _doubtful(model, at, slopes, high - low, time)
    strange = _strange(model, data, at) & ~doubtful  # would else look confident
    shape = {"width": 0.0026, "scale": n * 1.4, "headwidth": 4.5, "headlength": 5, "headaxislength": 4.5}
    known = ~doubtful & ~strange
    if known.any():
        draw(known, slopes, "learned field" + when, color=ARROW, zorder=2, **shape)
    if doubtful.any():
        draw(doubtful, slopes, "direction uncertain", color=DOUBTFUL, zorder=2, **shape)
    if strange.any():
        draw(strange, slopes, "no data near", color=FAINT, zorder=1.5, **shape)


def _strange(model: TrajectoryModel, data: Trajectories, y: Array) -> NDArray[np.bool_]:
    """Where a field that is learned from data alone was shown none; an equation of the user's own holds everywhere."""
    if getattr(model, "field", None) is not None:
        return np.zeros(len(y), dtype=bool)
    states = [np.log(x) if model.log else x for x in data.y]
    support = Support.of(states)
    at = np.log(y) if model.log else y
    return np.asarray(support.never(at) | (support.strangeness(at) > UNKNOWN))


def _doubtful(model: TrajectoryModel, y: Array, slopes: Array, span: Array, t: float) -> NDArray[np.bool_]:
    """Where the direction of the field (as drawn) is not known to about 30 degrees."""
    covariance = slope_covariance(model, y, t)
    if covariance is None:
        return np.zeros(len(y), dtype=bool)
    scale = _on_axis(np.ones_like(y), y, model) / span
    covariance = covariance * scale[:, :, None] * scale[:, None, :]
    direction = slopes * scale
    length = np.linalg.norm(direction, axis=1)
    across = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    std = np.sqrt(np.maximum(np.einsum("na,nab,nb->n", across, covariance, across), 0.0))
    return np.asarray(BAND * std > DOUBT * length**2)


def _on_axis(slopes: Array, y: Array, model: TrajectoryModel) -> Array:
    """Slopes of what the axes show: the states, or their logarithms."""
    return slopes / y if model.log else slopes
