"""Phase portraits of three and more states: projections, principal components."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pynode.data.trajectories import Trajectories
from pynode.plots.parts import draw_heading, set_log_axes
from pynode.plots.paths import draw_paths, plane_of
from pynode.plots.protocols import Array, TrajectoryModel

if TYPE_CHECKING:
    from pynode.plots.parts import Parent


def draw_projections(parent: "Parent", model: TrajectoryModel, data: Trajectories, title: str) -> None:
    """Three states: the planes of each two of them."""
    axes = parent.subplots(1, 3)
    pairs = [(0, 1), (0, 2), (1, 2)]
    notes = draw_paths(axes, model, data, [plane_of(a, b) for a, b in pairs])
    for ax, (a, b) in zip(axes, pairs, strict=True):
        if model.log:
            set_log_axes(ax)
        ax.set(xlabel=data.names[a], ylabel=data.names[b])
    draw_heading(parent, axes[0], title, *notes, markerscale=1.6)


def draw_components(parent: "Parent", model: TrajectoryModel, data: Trajectories, title: str) -> None:
    """More states: the two principal components of those rows that were observed in full, if these are most."""
    x = np.concatenate(data.y)
    x = np.log(x) if model.log else x
    complete = ~np.isnan(x).any(axis=1)
    std = np.nanstd(x, axis=0)
    if complete.mean() < 0.5 or complete.sum() < 3:
        _draw_largest(parent, model, data, std, title)
        return
    mean = x[complete].mean(axis=0)
    std = np.where(std > 0, std, 1.0)
    _, size, axes = np.linalg.svd((x[complete] - mean) / std, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2][np.arange(2), np.abs(axes[:2]).argmax(axis=1)])[:, None]

    def project(y: Array) -> Array:
        y = y[:, : data.d]
        return np.asarray(((np.log(y) if model.log else y) - mean) / std @ axes.T)

    ax = parent.subplots()
    notes = draw_paths([ax], model, data, [project], band=False)
    share = size**2 / (size**2).sum()
    names = [f"component {k + 1}: {100 * share[k]:.0f} % of variance\n({_loadings(axes[k], data.names)})" for k in range(2)]
    ax.set(xlabel=names[0], ylabel=names[1])
    what = f"principal components of {data.d} standardised {'logarithms' if model.log else 'states'}"
    draw_heading(parent, ax, title, what, *notes, markerscale=1.6)


def _draw_largest(parent: "Parent", model: TrajectoryModel, data: Trajectories, std: Array, title: str) -> None:
    """The plane of the two states of largest variance."""
    ax = parent.subplots()
    a, b = np.sort(np.argsort(-std, kind="stable")[:2])
    notes = draw_paths([ax], model, data, [plane_of(a, b)])
    if model.log:
        set_log_axes(ax)
    ax.set(xlabel=data.names[a], ylabel=data.names[b])
    draw_heading(parent, ax, title, f"the two of {data.d} states of largest variance", *notes, markerscale=1.6)


def _loadings(weights: Array, names: Sequence[str], most: int = 4) -> str:
    """The largest terms of a component, in words: 0.71 a - 0.70 b + ..."""
    order = np.argsort(-np.abs(weights), kind="stable")[:most]
    terms = " ".join(f"{'-' if weights[i] < 0 else '+'} {abs(weights[i]):.2f} {names[i]}" for i in order)
    return terms.removeprefix("+ ") + (" ..." if len(weights) > most else "")
