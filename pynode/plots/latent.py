"""Pictures of a LatentODE: functions (model, data, ...) that return a matplotlib Figure."""

import numpy as np

from pynode.plots.style import BAND, DATA, LEARNED, PALE, QUIET, TRUTH, new_figure, styled

FINE = 200
"""Points of a drawn curve."""


@styled
def series(model, data, *, n=4, ahead=0.25, truth=None, plane=None):
    """Observations, the posterior mean, and the 90 % band of the curve; beyond the last observation it is a forecast.

    Parameters
    ----------
    model : LatentODE
    data : Trajectories
    n : int
        How many series, the first of `data`.
    ahead : float
        How far beyond the last observation to go, as part of the span from t0.
    truth : sequence of (t (S,), y (S, d)) pairs, optional
        The true curves.
    plane : bool, optional
        Draw y2 over y1 in place of each over time. Default: where there are two values.

    Returns
    -------
    matplotlib.figure.Figure
    """
    data = data.take(range(min(n, len(data))))
    plane = data.d == 2 if plane is None else bool(plane)
    rows = 1 if plane else min(data.d, 4)
    figure = new_figure(3.4 * len(data) + 0.4, (3.6 if plane else 2.4 * rows) + 0.5)
    axes = figure.subplots(rows, len(data), squeeze=False, sharex=not plane)
    for i in range(len(data)):
        last = float(data.t[i][-1])
        end = last + ahead * (last - model.t0_)
        if data.signal is not None:
            end = min(end, data.signal.known_until(i))
        t = np.linspace(model.t0_, max(end, last), FINE)
        one = data.take([i])
        mean, std = (part[0] for part in model.predict(one, at=t, return_std=True))
        known = None if truth is None else truth[i]
        if plane:
            _plane(axes[0, i], model, one, t, last, known)
        else:
            for j in range(rows):
                _over_time(axes[j, i], one, j, t, mean[:, j], std[:, j], last, known)
                axes[j, i].set_ylabel(model.names_[j] if i == 0 else "")
            axes[-1, i].set_xlabel(model.time_name_)
        axes[0, i].set_title(f"series {data.ids[i]}")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _over_time(ax, one, j, t, mean, std, last, known):
    ax.fill_between(t, mean - BAND * std, mean + BAND * std, color=PALE, lw=0, label="90 % band of the curve")
    if known is not None:
        ax.plot(known[0], known[1][:, j], color=TRUTH, lw=1.2, ls="--", label="truth")
    seen = t <= last
    ax.plot(t[seen], mean[seen], color=LEARNED, lw=1.6, label="posterior mean")
    ax.plot(t[~seen], mean[~seen], color=LEARNED, lw=1.6, ls=":", label="forecast")
    ax.plot(one.t[0], one.y[0][:, j], ".", color=DATA, ms=5, label="observed")


def _plane(ax, model, one, t, last, known):
    """Draws in place of a band: in the plane a band would hide which way it varies."""
    draws = model.sample(t, 20, one, random_state=0)[:, 0]
    for k, y in enumerate(draws):
        ax.plot(*y.T, color=PALE, lw=0.8, label="draws from the posterior" if k == 0 else None)
    if known is not None:
        ax.plot(*known[1].T, color=TRUTH, lw=1.2, ls="--", label="truth")
    mean, seen = model.predict(one, at=t)[0], t <= last
    ax.plot(*mean[seen].T, color=LEARNED, lw=1.6, label="posterior mean")
    ax.plot(*mean[~seen].T, color=LEARNED, lw=1.6, ls=":", label="forecast")
    ax.plot(*one.y[0].T, ".", color=DATA, ms=4, label="observed")
    ax.set_xlabel(model.names_[0])
    ax.set_ylabel(model.names_[1])
    ax.set_aspect("equal", "datalim")


@styled
def latent(model, data, *, colour=None):
    """Posterior means of z_0 in the plane of their largest variance, with one standard deviation; the prior's circle.

    Parameters
    ----------
    model : LatentODE
    data : Trajectories
    colour : (B,) array, optional
        A number of each series, shown as its colour.

    Returns
    -------
    matplotlib.figure.Figure
    """
    mean, std = model.encode(data)
    if mean.shape[1] == 1:
        mean, std = (np.concatenate([x, np.zeros_like(x)], axis=1) for x in (mean, std))
    centre = mean.mean(axis=0)
    axis = np.linalg.svd(mean - centre, full_matrices=False)[2][:2] if len(mean) > 1 else np.eye(mean.shape[1])[:2]
    at, spread = mean @ axis.T, np.sqrt(std**2 @ (axis.T**2))
    figure = new_figure(5.6, 4.8)
    ax = figure.subplots()
    ax.errorbar(*at.T, xerr=spread[:, 0], yerr=spread[:, 1], fmt="none", ecolor=QUIET, elinewidth=0.5, alpha=0.5)
    look = {"color": LEARNED} if colour is None else {"c": np.asarray(colour), "cmap": "viridis"}
    dots = ax.scatter(*at.T, s=12, zorder=3, **look)
    if colour is not None:
        figure.colorbar(dots, ax=ax)
    angle = np.linspace(0, 2 * np.pi, 100)
    ax.plot(2 * np.cos(angle), 2 * np.sin(angle), color=QUIET, lw=0.8, ls="--")
    names = ("z", "0") if model.latent == 1 else ("first principal direction of z$_0$", "second")
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    ax.set_title("Posterior means (dashed: two standard deviations of the prior)")
    ax.set_aspect("equal", "datalim")
    return figure


@styled
def loss(model, data=None):
    """-ELBO of the minibatches while training, per observed number in scaled units, and its running median.

    Returns
    -------
    matplotlib.figure.Figure
    """
    value = model.history_["loss"]
    width = max(1, len(value) // 50)
    cut = len(value) // width * width
    figure = new_figure(5.6, 3.6)
    ax = figure.subplots()
    ax.plot(np.arange(1, len(value) + 1), value, color=QUIET, lw=0.4)
    ax.plot(np.arange(width / 2, cut, width), np.median(value[:cut].reshape(-1, width), axis=1), color=LEARNED, lw=1.6)
    low, high = np.min(value), np.quantile(value, 0.9)
    if high > low:
        ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    ax.set_xlabel("iteration")
    ax.set_ylabel("-ELBO per observed number")
    ax.set_title("Loss while training")
    return figure


PICTURES = {"series": series, "latent": latent, "loss": loss}
