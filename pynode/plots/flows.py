"""Where flows carry samples: from features to what is predicted, from a Gaussian to the data."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.calls.solve import solve
from pynode.plots.protocols import Array, DensityModel, SampleModel
from pynode.plots.samples import bounds_of, class_colour, class_labels, coloured_samples, samples_of
from pynode.plots.style import GRID, LEARNED, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pynode.plots.parts import Parent

MAX_SAMPLE_PATHS = 60
"""Most samples whose way is drawn."""

FRAMES = (1.0, 0.6, 0.3, 0.0)
"""Times at which the flow of a density is drawn, from the Gaussian to the data."""


@styled
def sample_flow(model: SampleModel, data: ArrayLike | None = None, target: ArrayLike | None = None) -> "Figure":
    """Where the flow carries samples and a grid of points; for one feature, the paths against time.

    Of more than two states, the first against the last; where there are two features and `augment`, both views of the end.

    Parameters
    ----------
    model : NeuralODEClassifier or NeuralODERegressor
        A fitted model.
    data : (n, n_features) array
        Samples to draw.
    target : (n,) array, optional
        The labels or values of the samples, their colours; default: what is predicted.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        No samples are given, or `target` is not as long as they are.

    See Also
    --------
    pynode.plots.sample_overview, pynode.plots.predicted

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> X = np.random.default_rng(0).normal(size=(40, 2))
    >>> model = pn.NeuralODEClassifier(max_iter=2, random_state=0).fit(X, X[:, 0] > 0)
    >>> [ax.get_title() for ax in pn.plots.sample_flow(model, X).axes]
    ['t = 0', 't = 1']
    """
    X, y, colours = coloured_samples(model, data, target)
    figure = new_figure({1: 5.2, 2: 9.6}.get(model.field_.d, 13.2 if _has_side_view(model) else 9.6), 4.4)
    draw_flow(figure, model, X, colours, side_view=_has_side_view(model))
    _draw_key(figure, model, y)
    return figure


@styled
def density_flow(model: DensityModel, data: ArrayLike | None = None) -> "Figure":
    """Gaussian points and a grid on their way to the data, at four times (the first two features).

    Parameters
    ----------
    model : CNF
        A fitted model.
    data : (n, n_features) array
        Samples to draw.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        No samples are given, or the model has one feature only.

    See Also
    --------
    pynode.plots.density_overview, pynode.plots.density

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> X = np.random.default_rng(0).normal(size=(40, 2))
    >>> model = pn.CNF(max_iter=2, random_state=0).fit(X)
    >>> [ax.get_title() for ax in pn.plots.density_flow(model, X).axes]
    ['t = 1, Gaussian', 't = 0.6', 't = 0.3', 't = 0, data']
    """
    X = samples_of(model, data)
    if model.n_features_in_ < 2:
        raise ValueError("the flow is drawn of 2 features or more, this model has 1: take 'density' or 'training'")
    figure = new_figure(13.0, 3.6)
    t = np.array(sorted(FRAMES))
    states = model.trajectories(X, t)
    lines = _grid_on_its_way(model, t) if model.n_features_in_ == 2 else []
    for ax, time in zip(figure.subplots(1, len(FRAMES)), FRAMES, strict=True):
        at = int(np.flatnonzero(t == time)[0])
        for line in lines:
            ax.plot(line[:, at, 0], line[:, at, 1], color=GRID, lw=0.5, zorder=1)
        ax.scatter(states[:, at, 0], states[:, at, 1], s=4, color=LEARNED, linewidths=0, alpha=0.7, zorder=2)
        ax.set(title=f"t = {time:g}" + (", Gaussian" if time == 1 else ", data" if time == 0 else ""))
        low, high = bounds_of(states[:, at, :2])
        ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        ax.grid(False)
    return figure


def draw_flow(parent: "Parent", model: SampleModel, X: Array, colours: NDArray[Any], side_view: bool = False) -> None:
    """Samples before and after the flow, with the paths between; for one state, the paths against time.

    With `side_view`, the end is drawn a second time: the first state against the last.
    """
    d = model.field_.d
    if d == 1:
        _draw_paths(parent, model, X, colours)
        return
    before, after, *beside = parent.subplots(1, 3 if side_view else 2)
    states = model.trajectories(X, np.linspace(0, 1, 41))
    side = (0, d - 1)  # in an augmented state the first feature and the last zero say most
    front = (0, 1) if model.lift_ is None and model.n_features_in_ <= 2 else side
    if model.lift_ is None and model.n_features_in_ == 2:
        _draw_grid(before, after, model, X)
    _draw_states(before, states[:, 0], front, colours)
    _draw_ways(after, states, front, colours)
    before.set_title("t = 0")
    after.set_title("t = 1" + (f" ({d - 2} more not drawn)" if d > 2 and not side_view else ""))
    for ax in beside:
        _draw_ways(ax, states, side, colours)
        ax.set_title("t = 1, from the side")


def _draw_states(ax: "Axes", states: Array, axis: tuple[int, int], colours: NDArray[Any]) -> None:
    """Two columns of states (n, d), as points."""
    ax.scatter(states[:, axis[0]], states[:, axis[1]], s=8, c=colours, linewidths=0, zorder=3)
    ax.set(xlabel=f"state {axis[0] + 1}", ylabel=f"state {axis[1] + 1}")
    ax.set_aspect("equal", adjustable="datalim")
    ax.grid(False)


def _draw_ways(ax: "Axes", states: Array, axis: tuple[int, int], colours: NDArray[Any]) -> None:
    """Where samples arrive, and the ways of some of them: two columns of (n, T, d)."""
    _draw_states(ax, states[:, -1], axis, colours)
    for path in states[:: max(1, len(states) // MAX_SAMPLE_PATHS)]:
        ax.plot(path[:, axis[0]], path[:, axis[1]], color="#777777", lw=0.5, alpha=0.6, zorder=2)


def _has_side_view(model: SampleModel) -> bool:
    """Whether there are states besides the plane of two features."""
    return model.lift_ is None and model.n_features_in_ == 2 and model.field_.d > 2


def _draw_key(figure: "Figure", model: SampleModel, y: NDArray[Any]) -> None:
    """What the colours of samples mean: classes in a legend above, values in a bar beside."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D

    classes = class_labels(model)
    if classes is None:
        values = ScalarMappable(Normalize(float(np.min(y)), float(np.max(y))), "viridis")
        figure.colorbar(values, ax=figure.axes, label="value")
        return
    look: dict[str, Any] = {"ls": "", "marker": "o", "ms": 4}
    entries = [Line2D([], [], color=class_colour(i), label=str(label), **look) for i, label in enumerate(classes[:10])]
    figure.legend(handles=entries, loc="outside upper center", ncols=len(entries), handletextpad=0.2)


def _draw_grid(before: "Axes", after: "Axes", model: SampleModel, X: Array) -> None:
    """A grid of lines over the samples, and what the flow makes of it (the first two states)."""
    for line in _grid(*bounds_of(X, 0.05)):
        ends = model.trajectories(line)
        for ax, s in ((before, ends[:, 0]), (after, ends[:, 1])):
            ax.plot(s[:, 0], s[:, 1], color=GRID, lw=0.6, zorder=1)


def _draw_paths(parent: "Parent", model: SampleModel, X: Array, colours: NDArray[Any]) -> None:
    ax = parent.subplots()
    t = np.linspace(0, 1, 61)
    every = max(1, len(X) // MAX_SAMPLE_PATHS)
    for path, colour in zip(model.trajectories(X[::every], t), colours[::every], strict=True):
        ax.plot(t, path[:, 0], color=colour, lw=0.9)
    ax.set(xlabel="t", ylabel="state", title="Paths: they cannot cross", xlim=(0, 1))


def _grid(low: Array, high: Array, n: int = 13, points: int = 60) -> list[Array]:
    """n lines (points, 2) each way over the rectangle from `low` to `high`."""
    fine = np.linspace(0, 1, points)
    lines = []
    for k in np.linspace(0, 1, n):
        for first, second in ((np.full(points, k), fine), (fine, np.full(points, k))):
            unit = np.stack([first, second], axis=1)
            lines.append(low + unit * (high - low))
    return lines


def _grid_on_its_way(model: DensityModel, t: Array, reach: float = 2.5) -> list[Array]:
    """Lines of a grid in the space of the Gaussian, carried back: list of (points, T, 2)."""
    lines = []
    for z in _grid(np.full(2, -reach), np.full(2, reach)):
        y = solve(model.field_, z, t[::-1], model.theta_, rtol=1e-6, atol=1e-6).y
        lines.append(y[:, ::-1])
    return lines
