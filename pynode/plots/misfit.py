"""Residuals over time and their distribution."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pynode.data.trajectories import Trajectories
from pynode.plots.parts import (
    data_of,
    draw_heading,
    evenly_spread,
    every_point,
    how_many_of,
    is_logarithmic,
    marker_style,
    reading_scale,
    stride,
)
from pynode.plots.protocols import Array, TrajectoryModel
from pynode.plots.style import BAND, LEARNED, MAX_FOLLOWED, QUIET, TRUTH, new_figure, styled
from pynode.plots.time_axis import set_time_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pynode.plots.parts import Parent


@styled
def residuals(model: TrajectoryModel, data: Trajectories | None = None, *, max_states: int = 8) -> "Figure":
    """Residuals of the fitted trajectories over time, in units of the estimated noise, and how they are distributed.

    A row a state. Points are data minus model (of logarithms for models of logarithms), bars the means over stretches of
    time: if the model describes all but noise, 90 % of the bars cross zero, 95 % of the points lie in the grey band, and the
    histogram follows the standard normal density. Points outside the panel are drawn at its edge, as triangles.

    Parameters
    ----------
    model : NeuralODE
        A fitted model.
    data : Trajectories, optional
        The trajectories that the model was fitted to (or some rows of them); default: all of them.
    max_states : int, default 8
        The first so many states.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        There are no data, or their states are not those of the model.

    See Also
    --------
    pynode.plots.trajectories

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> t = np.linspace(0, 3, 20)
    >>> model = pn.NeuralODE(hidden=(3,), max_iter=2, random_state=0).fit(t, np.exp(-t))
    >>> [ax.get_xlabel() for ax in pn.plots.residuals(model).axes]
    ['t', 'density']
    """
    data = data_of(model, data)
    figure = new_figure(6.6, min(1.7 * min(data.d, max_states) + 1.1, 12))
    draw_residuals(figure, model, data, max_states)
    return figure


def draw_residuals(
    parent: "Parent", model: TrajectoryModel, data: Trajectories, max_states: int = 8, title: str = ""
) -> None:
    """A row a state: residuals over time, and their histogram on its side."""
    rows = min(data.d, max_states)
    t, r, known, notes = _standard_residuals(model, data)
    axes = parent.subplots(rows, 2, squeeze=False, sharex="col", sharey="row", width_ratios=(4, 1))
    for j in range(rows):
        ax, side = axes[j]
        seen = np.isfinite(r[:, j])
        reach = _draw_points(ax, t[seen], r[seen, j])
        ax.set(ylim=(-reach, reach), ylabel=data.names[j])
        _draw_histogram(side, r[seen, j], reach)
    axes[-1, 1].set_xlabel("density")
    set_time_axis(axes[-1, 0], np.concatenate(data.t), data.time_name, data.clock)
    if known.all():
        unit = "the noise"
    elif known.any():
        unit = "the noise or their rms"
    else:
        unit = "their rms, for the noise is unknown"
    what = "log data - log model" if model.log else "data - model"
    draw_heading(
        parent,
        axes[0, 0],
        title,
        f"{what}, in units of {unit}",
        *notes,
        how_many_of(rows, data.d, "states"),
        every_point(stride(len(t))),
        extra=axes[0, 1],
    )


def _draw_points(ax: "Axes", t: Array, r: Array) -> float:
    """Residuals r at times t and their means over stretches of time; returns how far the axis reaches from zero."""
    size = np.abs(r)
    reach = max(3.6, 1.25 * float(np.quantile(size, 0.98))) if len(r) else 3.6
    inside = size <= reach
    every = stride(len(r))
    ax.axhspan(-1.96, 1.96, color="#efefef", lw=0, label="95 % of noise", zorder=0)
    ax.axhline(0, color=QUIET, lw=0.8, zorder=1)
    ax.plot(t[inside][::every], r[inside][::every], "o", **marker_style(len(r)), label="residual", zorder=2)
    if not inside.all():
        edge = np.sign(r[~inside]) * 0.97 * reach
        for sign, mark in ((1, "^"), (-1, "v")):
            there = np.sign(edge) == sign
            ax.plot(t[~inside][there][::every], edge[there][::every], mark, color=TRUTH, ms=5, mew=0, zorder=3)
    at, mean, half = binned_means(t, r)
    if len(at):
        ax.errorbar(at, mean, half, fmt="o", color=LEARNED, ms=3, lw=1.3, label="mean, 90 %", zorder=4)
    return reach


def _draw_histogram(ax: "Axes", r: Array, reach: float) -> None:
    """The distribution of the residuals r within the reach of the axis, beside the standard normal density."""
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
    beyond = int((np.abs(r) > reach).sum())
    words = f"rms {np.sqrt(np.mean(r**2)):.2f}" if len(r) else "none"
    words += f"\n{beyond} beyond" if beyond else ""
    ax.text(0.98, 0.98, words, transform=ax.transAxes, ha="right", va="top", fontsize=8.5, color="#555555")


def _standard_residuals(model: TrajectoryModel, data: Trajectories) -> tuple[Array, Array, NDArray[np.bool_], list[str]]:
    """(times (n,), residuals (n, d) in units of the noise, whether the noise of a state is known (d,), notes)."""
    chosen = evenly_spread(len(data), MAX_FOLLOWED)
    rest = []
    failed = 0
    for i in chosen:
        path = model.predict(data.t[i], trajectory=i)[:, : data.d]
        failed += bool(~np.isfinite(path).all())
        rest.append(_residuals(model, data, i, path))
    r = np.concatenate(rest)
    r[~np.isfinite(r)] = np.nan
    noise = np.array([model.report_["noise"].get(name, np.nan) for name in data.names], dtype=np.float64)
    known = np.isfinite(noise) & (noise > 0)
    rms = np.sqrt([np.mean(c[~np.isnan(c)] ** 2) if not np.isnan(c).all() else 1.0 for c in r.T])
    r = r / np.where(known, noise, np.where(rms > 0, rms, 1.0))
    notes = [how_many_of(len(chosen), len(data), "trajectories"), f"{failed} of them could not be solved" if failed else ""]
    return np.concatenate([data.t[i] for i in chosen]), r, known, notes


def _residuals(model: TrajectoryModel, data: Trajectories, i: int, path: Array) -> Array:
    """(T, d) residuals of trajectory i, in units of one noise for each column."""
    r = np.array(data.y[i] - path)
    for j, name in enumerate(data.names):
        scale = reading_scale(model, name, path[:, j])
        if is_logarithmic(model, name):
            with np.errstate(all="ignore"):
                r[:, j] = np.log(data.y[i][:, j] / path[:, j])
        elif scale is not None:
            r[:, j] *= model.report_["noise"][name] / np.where(scale > 0, scale, np.inf)
    return r


def binned_means(t: Array, r: Array, least: int = 8, most: int = 24) -> tuple[Array, Array, Array]:
    """(centres, means, half widths of the 90 % band if r is white noise) over stretches of time.

    There are at most `most` stretches, of `least` points each on average; none at all where there would be less than four.
    """
    n = min(most, len(t) // least)
    if n < 4:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    edges = np.linspace(t.min(), t.max(), n + 1)
    which = np.clip(np.searchsorted(edges, t, side="right") - 1, 0, n - 1)
    count = np.bincount(which, minlength=n)
    enough = count >= min(least, 4)
    mean = np.bincount(which, r, minlength=n)[enough] / count[enough]
    return (0.5 * (edges[1:] + edges[:-1]))[enough], mean, BAND / np.sqrt(count[enough])
