"""Short series and the curves that a LatentODE sees behind them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.trajectories import Trajectories
from pynode.plots.protocols import Array, LatentModel
from pynode.plots.style import BAND, DATA, LEARNED, PALE, TRUTH, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Curve = tuple[ArrayLike, Array]

FINE = 200
"""Points of a drawn curve."""


@styled
def series(
    model: LatentModel,
    data: Trajectories | None = None,
    *,
    n: int = 4,
    ahead: float = 0.25,
    truth: "Sequence[Curve] | None" = None,
    plane: bool | None = None,
) -> "Figure":
    """Observations, the posterior mean, and the 90 % band of the curve; beyond the last observation it is a forecast.

    Parameters
    ----------
    model : LatentODE
        A fitted model.
    data : Trajectories, optional
        Default: what the model was fitted to.
    n : int, default 4
        How many series, the first of `data`.
    ahead : float, default 0.25
        How far beyond the last observation to go, as part of the span from t0.
    truth : sequence of (t (S,), y (S, d)) pairs, optional
        The true curves.
    plane : bool, optional
        Draw y2 over y1 in place of each over time. Default: where there are two values.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        There are no data.

    See Also
    --------
    pynode.plots.latent_space, pynode.plots.latent_loss

    Examples
    --------
    >>> import pynode as pn
    >>> model = pn.LatentODE(max_iter=2, random_state=0).fit(pn.datasets.periodic(n_train=4, n_held_out=0).train)
    >>> [ax.get_title() for ax in pn.plots.series(model, n=2).axes]
    ['series 0', 'series 1']
    """
    data = series_of(model, data)
    data = data.take(range(min(n, len(data))))
    plane = data.d == 2 if plane is None else bool(plane)
    rows = 1 if plane else min(data.d, 4)
    figure = new_figure(3.4 * len(data) + 0.4, (3.6 if plane else 2.4 * rows) + 0.5)
    axes = figure.subplots(rows, len(data), squeeze=False, sharex=not plane)
    for i in range(len(data)):
        known = None if truth is None else truth[i]
        if plane:
            _draw_plane(axes[0, i], model, data, i, ahead, known)
        else:
            _draw_over_time(list(axes[:, i]), model, data, i, ahead, known)
        axes[0, i].set_title(f"series {data.ids[i]}")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def series_of(model: LatentModel, data: Trajectories | None) -> Trajectories:
    """The series to draw: what was given, or what the model was fitted to.

    Raises
    ------
    ValueError
        There are none.
    """
    data = model.data_ if data is None else data
    if data is None:
        raise ValueError("the model was stored without its data: give the series, plot(kind, t, Y)")
    return data


def _times(model: LatentModel, data: Trajectories, i: int, ahead: float) -> tuple[Array, NDArray[np.bool_]]:
    """Times of the curve of series i (as far as its inputs are known), and which are not after the last observation."""
    last = float(data.t[i][-1])
    end = last + ahead * (last - model.t0_)
    if data.signal is not None:
        end = min(end, data.signal.known_until(i))
    t = np.linspace(model.t0_, max(end, last), FINE)
    return t, t <= last


def _draw_over_time(
    axes: "Sequence[Axes]", model: LatentModel, data: Trajectories, i: int, ahead: float, known: "Curve | None"
) -> None:
    """Series i, a panel a value, with the band of the curve."""
    one = data.take([i])
    t, seen = _times(model, data, i, ahead)
    mean, std = (part[0] for part in model.predict(one, at=t, return_std=True))
    for j, ax in enumerate(axes):
        low = mean[:, j] - BAND * std[:, j]
        high = mean[:, j] + BAND * std[:, j]
        ax.fill_between(t, low, high, color=PALE, lw=0, label="90 % band of the curve")
        if known is not None:
            ax.plot(known[0], known[1][:, j], color=TRUTH, lw=1.2, ls="--", label="truth")
        ax.plot(t[seen], mean[seen, j], color=LEARNED, lw=1.6, label="posterior mean")
        ax.plot(t[~seen], mean[~seen, j], color=LEARNED, lw=1.6, ls=":", label="forecast")
        ax.plot(one.t[0], one.y[0][:, j], ".", color=DATA, ms=5, label="observed")
        ax.set_ylabel(model.names_[j] if i == 0 else "")
    axes[-1].set_xlabel(model.time_name_)


def _draw_plane(ax: "Axes", model: LatentModel, data: Trajectories, i: int, ahead: float, known: "Curve | None") -> None:
    """Draws from the posterior in place of a band: in the plane a band would hide which way it varies."""
    one = data.take([i])
    t, seen = _times(model, data, i, ahead)
    mean = model.predict(one, at=t)[0]
    draws = model.sample(t, 20, one, random_state=0)[:, 0]
    for k, y in enumerate(draws):
        ax.plot(*y.T, color=PALE, lw=0.8, label="draws from the posterior" if k == 0 else None)
    if known is not None:
        ax.plot(*known[1].T, color=TRUTH, lw=1.2, ls="--", label="truth")
    ax.plot(*mean[seen].T, color=LEARNED, lw=1.6, label="posterior mean")
    ax.plot(*mean[~seen].T, color=LEARNED, lw=1.6, ls=":", label="forecast")
    ax.plot(*one.y[0].T, ".", color=DATA, ms=4, label="observed")
    ax.set_xlabel(model.names_[0])
    ax.set_ylabel(model.names_[1])
    ax.set_aspect("equal", "datalim")
