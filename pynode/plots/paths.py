"""Data and fitted trajectories as paths in planes of states, with their bands."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pynode.data.trajectories import Trajectories
from pynode.plots.bands import rollout, rollout_with_band
from pynode.plots.parts import evenly_spread, every_point, how_many_of, stride
from pynode.plots.protocols import Array, TrajectoryModel
from pynode.plots.style import DATA, DOUBTFUL, MAX_PATHS, PALE, PATH, TOO_WIDE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Projection = Callable[[Array], Array]
"""States (T, d) to points of a plane (T, 2)."""


def plane_of(a: int, b: int) -> Projection:
    """The projection that keeps states a and b."""
    return lambda y: y[:, [a, b]]


def draw_paths(
    axes: "Iterable[Axes]",
    model: TrajectoryModel,
    data: Trajectories,
    projections: Sequence[Projection],
    span: Array | None = None,
    band: bool = True,
) -> list[str]:
    """Data and fitted trajectories, a projection for each of the axes; returns notes of what was left out.

    Parameters
    ----------
    axes : iterable of Axes
    model : NeuralODE
    data : Trajectories
        Paths of the model are drawn where these are the data that it was fitted to.
    projections : sequence of callable
    span : (2,) array, optional
        Ranges of the axes, in units of which the widths of bands are measured; default: those of the data.
    band : bool
        Whether 90 % bands are drawn.
    """
    planes = list(zip(axes, projections, strict=True))
    chosen = evenly_spread(len(data), MAX_PATHS)
    total = sum(data.lengths[i] for i in chosen)
    every = stride(total)
    crowded = len(data) > 4 or total > 1000
    alpha = 0.9 if not crowded else 0.55 if total < 2000 else 0.35
    width = 0.8 if crowded else 1.6
    spans = [np.ones(2) if not band else _range(project, model, data) if span is None else span for _, project in planes]
    for i in chosen:
        t = data.t[i]
        fine = np.linspace(t[0], t[-1], int(np.clip(3 * len(t), 800, 3000)))
        path = high = None
        if data is model.data_:
            if band:
                path, _, high = rollout_with_band(model, data, fine, i, True, len(chosen))
            else:
                path = rollout(model, data, fine, i, True)
        for (ax, project), extent in zip(planes, spans, strict=True):
            points = project(data.y[i][::every])
            ax.plot(*points.T, "o", color=DATA, label="data", zorder=5, ms=1.8 if crowded else 3.5, mew=0, alpha=alpha)
            if path is None:
                continue
            at = project(path)
            if high is not None:
                lost = draw_tube(ax, at, project(high), model.log, extent)
                if lost.any():
                    some = np.where(lost[:, None], at, np.nan)
                    ax.plot(*some.T, color=DOUBTFUL, lw=0.8, label="band too wide to draw", zorder=3)
                    at = np.where(lost[:, None], np.nan, at)
            ax.plot(*at.T, color=PATH, lw=width, label="fitted trajectory", zorder=4)
    return [how_many_of(len(chosen), len(data), "trajectories"), every_point(every)]


def draw_tube(ax: "Axes", path: Array, high: Array, log: bool, span: Array) -> NDArray[np.bool_]:
    """The 90 % band across the direction in which a trajectory moves; returns where it is too wide, and left out."""
    from matplotlib.collections import PolyCollection

    to_axis, from_axis = (np.log, np.exp) if log else (np.asarray, np.asarray)
    span = np.where(span > 0, span, 1.0)
    x = to_axis(path)
    radius = (to_axis(high) - x) / span
    x = x / span
    along = np.gradient(x, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    length = np.linalg.norm(across, axis=1, keepdims=True)
    across = np.divide(across, length, out=np.zeros_like(across), where=length > 0)
    half = np.linalg.norm(across * radius, axis=1, keepdims=True)
    lost: NDArray[np.bool_] = half[:, 0] > TOO_WIDE
    across = np.where(lost[:, None], np.nan, across * half)
    left = from_axis((x + across) * span)
    right = from_axis((x - across) * span)
    quads = np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)
    quads = quads[np.isfinite(quads).all(axis=(1, 2))]
    band = PolyCollection(list(quads), facecolors=PALE, edgecolors=PALE, linewidths=0.4, label="90 % band", zorder=1.5)
    ax.add_collection(band, autolim=False)
    return lost


def _range(project: Projection, model: TrajectoryModel, data: Trajectories) -> Array:
    """Range of the data in a plane, along its axes."""
    points = project(np.concatenate(data.y))
    points = np.log(points) if model.log else points
    points = points[np.isfinite(points).all(axis=1)]
    return np.ptp(points, axis=0) if len(points) else np.zeros(2)
