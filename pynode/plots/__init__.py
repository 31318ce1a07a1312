"""Pictures of fitted models: functions that return a matplotlib Figure, without pyplot or a display."""

from collections.abc import Callable

import numpy as np

from pynode.plots.misfit import draw_residuals
from pynode.plots.over_time import draw_trajectories
from pynode.plots.parts import data_of, draw_head, n_states, set_whole_ticks
from pynode.plots.phases import draw_phase, has_plain_field
from pynode.plots.style import BAND, DATA, LEARNED, PALE, QUIET, STAGES, STYLE, TRUTH, MissingExtraError, new_figure, styled


@styled
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
    data = data_of(model, None)
    rows = min(n_states(model), 3)
    figure = new_figure(12.6, 8.4 + 0.9 * (rows - 2))
    first = 2.0 if data.d == 3 else 0.9  # three projections want more room than one portrait
    top, low = figure.subfigures(2, 1, hspace=0.03)
    top_left, top_right = top.subfigures(1, 2, width_ratios=(first, 1), wspace=0.03)
    low_left, low_right = low.subfigures(1, 2, wspace=0.03)
    over, under = (top_right, low_right) if data.d != 3 else (low_left, top_right)
    draw_phase(top_left, model, data, None, title="Phase portrait")
    draw_trajectories(over, model, data, None, "fitted", 2, 3, "data", title="Trajectories")
    draw_residuals(low_left if data.d != 3 else low_right, model, 3, title="Residuals")
    _draw_loss(under, model, title="Loss while training")
    return figure


@styled
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
    data = data_of(model, data)
    if start == "first" and any(np.isnan(y[0]).any() for y in data.y[:max_columns]):
        raise ValueError("start='first' needs the first row of each trajectory observed in full")
    columns, rows = min(len(data), max_columns), min(n_states(model), max_states)
    figure = new_figure(6.4 if columns == 1 else 3.1 * columns + 0.7, min(1.7 * rows + 1.1, 12))
    draw_trajectories(figure, model, data, forecast, start, max_columns, max_states, label)
    return figure


@styled
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
    data = data_of(model, data)
    sizes = {1: (6.4, 4.2), 2: (6.2, 5.6), 3: (9.6, 3.7)}
    figure = new_figure(*sizes.get(data.d, (6.2, 5.6)))
    draw_phase(figure, model, data, truth)
    return figure


@styled
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
    data = data_of(model, None)
    figure = new_figure(6.6, min(1.7 * min(data.d, max_states) + 1.1, 12))
    draw_residuals(figure, model, max_states)
    return figure


@styled
def loss(model):
    """The loss over the iterations of training, a colour a stage.

    Losses of different stages measure different things.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(6.4, 3.6)
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


@styled
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
    figure = new_figure(6.4, min(1.7 * len(names) + 0.6, 12))
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)
    for ax, name, values in zip(axes[:, 0], names, y.T, strict=True):
        ax.plot(t, values, color=LEARNED, lw=1.8)
        ax.set_ylabel(name)
    axes[-1, 0].set_xlabel(time_name)
    set_whole_ticks(axes[-1, 0], t)
    figure.align_ylabels()
    return figure


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
    draw_head(parent, ax, title)


__all__ = [
    "BAND",
    "DATA",
    "LEARNED",
    "PALE",
    "PICTURES",
    "QUIET",
    "STAGES",
    "STYLE",
    "TRUTH",
    "MissingExtraError",
    "has_plain_field",
    "loss",
    "overview",
    "phase",
    "prediction",
    "residuals",
    "trajectories",
]
