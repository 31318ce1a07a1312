"""Pictures of continuous normalising flows: the density, the flow from the data to a Gaussian, training."""

from collections.abc import Callable

import numpy as np

from pynode.calls.solve import solve
from pynode.data.samples import as_table
from pynode.plots.flow import GRID, MAX_POINTS, bounds_of, draw_training, training
from pynode.plots.style import DATA, LEARNED, new_figure, styled

FRAMES = (1.0, 0.6, 0.3, 0.0)
"""Times at which the flow of samples is drawn, from the Gaussian to the data."""


@styled
def overview(model, X):
    """The density, samples of it, and training.

    Parameters
    ----------
    model : CNF
    X : (n, d) array
        Data to draw; of more than two features, the first two.

    Returns
    -------
    matplotlib.figure.Figure
    """
    X = _data(model, X)
    figure = new_figure(13.0, 4.2)
    left, middle, right = figure.subfigures(1, 3, width_ratios=(1.1, 1, 0.85))
    _draw_density(left, model, X)
    _draw_samples(middle, model, X)
    draw_training(right, model)
    return figure


@styled
def density(model, X):
    """The density over the data, of a model of one or two features."""
    X = _data(model, X)
    figure = new_figure(5.8, 4.6)
    _draw_density(figure, model, X)
    return figure


@styled
def flow(model, X):
    """Gaussian points and a grid on their way to the data, at four times (the first two features)."""
    X = _data(model, X)
    figure = new_figure(13.0, 3.6)
    if model.n_features_in_ < 2:
        raise ValueError("the flow is drawn of 2 features or more, this model has 1: take 'density' or 'training'")
    t = np.array([0.0, *sorted(FRAMES)[1:]])
    states = model.trajectories(X, t)
    lines = None if model.n_features_in_ != 2 else _grid_on_its_way(model, t)
    for ax, time in zip(figure.subplots(1, len(FRAMES)), FRAMES, strict=True):
        at = int(np.flatnonzero(t == time)[0])
        for line in () if lines is None else lines:
            ax.plot(line[:, at, 0], line[:, at, 1], color=GRID, lw=0.5, zorder=1)
        ax.scatter(states[:, at, 0], states[:, at, 1], s=4, color=LEARNED, linewidths=0, alpha=0.7, zorder=2)
        ax.set(title=f"t = {time:g}" + (", Gaussian" if time == 1 else ", data" if time == 0 else ""))
        low, high = bounds_of(states[:, at, :2])
        ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        ax.grid(False)
    return figure


PICTURES: dict[str, Callable] = {"overview": overview, "density": density, "flow": flow, "training": training}
"""Names of pictures for `plot`."""


def _data(model, X):
    if X is None:
        raise ValueError("this picture needs data: plot(kind, X)")
    X = as_table(X, "CNF", model.n_features_in_)
    return X if len(X) <= MAX_POINTS else X[np.random.default_rng(0).choice(len(X), MAX_POINTS, replace=False)]


def _draw_density(parent, model, X):
    ax = parent.subplots()
    low, high = bounds_of(X)
    if model.n_features_in_ == 1:
        x = np.linspace(low[0], high[0], 400)
        ax.hist(X[:, 0], bins=50, density=True, color=GRID)
        ax.plot(x, np.exp(model.log_prob(x[:, None])), color=LEARNED, lw=1.8)
        ax.set(xlabel="feature 1", ylabel="density", title="Density learned, over the data")
        return
    if model.n_features_in_ != 2:
        _draw_nothing(ax, f"a density of {model.n_features_in_} features has no picture")
        return
    u, v = np.linspace(low[0], high[0], 140), np.linspace(low[1], high[1], 140)
    points = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
    p = np.exp(model.log_prob(points)).reshape(140, 140)
    image = ax.imshow(
        p, origin="lower", extent=(low[0], high[0], low[1], high[1]), aspect="auto", cmap="magma", interpolation="bilinear"
    )
    parent.colorbar(image, ax=ax, label="density")
    ax.scatter(*X.T, s=1.5, color="white", linewidths=0, alpha=0.35)
    ax.grid(False)
    ax.set(xlabel="feature 1", ylabel="feature 2", title="Density learned, over the data (white)")


def _draw_nothing(ax, why):
    ax.text(0.5, 0.5, why, ha="center", va="center", transform=ax.transAxes)
    ax.set_axis_off()


def _draw_samples(parent, model, X):
    ax = parent.subplots()
    new = model.sample(len(X), random_state=0)
    if model.n_features_in_ == 1:
        bins = np.histogram_bin_edges(np.concatenate([X, new]), 50)
        ax.hist(X[:, 0], bins=bins, density=True, color=GRID, label="data")
        ax.hist(new[:, 0], bins=bins, density=True, histtype="step", color=LEARNED, label="samples")
    else:
        ax.scatter(X[:, 0], X[:, 1], s=4, color=DATA, linewidths=0, alpha=0.5, label="data")
        ax.scatter(new[:, 0], new[:, 1], s=4, color=LEARNED, linewidths=0, alpha=0.7, label="samples")
        ax.set(xlabel="feature 1", ylabel="feature 2")
    ax.legend(loc="best", markerscale=2.5)
    ax.grid(False)
    ax.set_title("Data and samples of the model")


def _grid_on_its_way(model, t, n=13, reach=2.5):
    """Lines of a grid in the space of the Gaussian, carried back: list of (60, T, 2)."""
    fine, lines = np.linspace(-reach, reach, 60), []
    for k in np.linspace(-reach, reach, n):
        for z in (np.stack([np.full(60, k), fine], axis=1), np.stack([fine, np.full(60, k)], axis=1)):
            y = solve(model.field_, z, t[::-1], model.theta_, rtol=1e-6, atol=1e-6).y
            lines.append(y[:, ::-1])
    return lines
