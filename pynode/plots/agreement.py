"""Readings against what the model predicts of them."""

from typing import TYPE_CHECKING

import numpy as np

from pynode.data.trajectories import Trajectories
from pynode.plots.parts import data_of, draw_heading, evenly_spread, how_many_of, limit_y, marker_style
from pynode.plots.protocols import TrajectoryModel
from pynode.plots.style import MAX_FOLLOWED, QUIET, STAGES, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pynode.plots.parts import Parent

DECADES = 1.5
"""Positive readings that span more decades than this are drawn on logarithmic axes."""


@styled
def agreement(model: TrajectoryModel, data: Trajectories | None = None) -> "Figure":
    """Readings against predictions, a panel for each measured column: points of a good fit scatter about the diagonal.

    Parameters
    ----------
    model : NeuralODE
        A fitted model.
    data : Trajectories, optional
        The trajectories that the model was fitted to (or some rows of them); default: all of them.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        There are no data, or their columns are not those of the model.

    See Also
    --------
    pynode.plots.residuals

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> t = np.linspace(0, 3, 20)
    >>> model = pn.NeuralODE(hidden=(3,), max_iter=2, random_state=0).fit(t, np.exp(-t))
    >>> pn.plots.agreement(model).axes[0].get_xlabel()
    'predicted'
    """
    data = data_of(model, data)
    figure = new_figure(min(3.4 * data.d + 0.6, 12), 3.8)
    draw_agreement(figure, model, data)
    return figure


def draw_agreement(
    parent: "Parent", model: TrajectoryModel, data: Trajectories, max_columns: int = 3, title: str = ""
) -> None:
    """A panel for each measured column, a colour for each trajectory."""
    columns = min(data.d, max_columns)
    chosen = evenly_spread(len(data), MAX_FOLLOWED)
    axes = parent.subplots(1, columns, squeeze=False)[0]
    paths = [model.predict(data.t[i], trajectory=i)[:, : data.d] for i in chosen]
    for j, ax in enumerate(axes):
        every = np.concatenate(
            [np.stack([path[:, j], data.y[i][:, j]]) for path, i in zip(paths, chosen, strict=True)], axis=1
        )
        every = every[:, np.isfinite(every).all(axis=0)]
        if every.size and every.min() > 0 and np.log10(every.max() / every.min()) > DECADES:
            ax.set(xscale="log", yscale="log")
        for k, (path, i) in enumerate(zip(paths, chosen, strict=True)):
            style = marker_style(every.shape[1]) | ({"color": STAGES[k % len(STAGES)]} if len(chosen) > 1 else {})
            ax.plot(path[:, j], data.y[i][:, j], "o", **style, label="reading" if k == 0 else None)
        if every.size:
            ends = [every.min(), every.max()]
            ax.plot(ends, ends, color=QUIET, lw=1.0, label="equal", zorder=0)
            limit_y(ax, every[1])
        ax.set(xlabel="predicted", ylabel=f"{data.names[j]} read")
    notes = (how_many_of(columns, data.d, "columns"), how_many_of(len(chosen), len(data), "trajectories"))
    colours = "a colour for each trajectory" if len(chosen) > 1 else ""
    draw_heading(parent, axes[0], title, *notes, colours)
