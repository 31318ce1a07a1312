"""Densities that a model learned, and samples of them."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from pynode.plots.protocols import Array, DensityModel
from pynode.plots.samples import bounds_of, samples_of
from pynode.plots.style import DATA, GRID, LEARNED, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pynode.plots.parts import Parent


@styled
def density(model: DensityModel, data: ArrayLike | None = None) -> "Figure":
    """The density over the data, for a model of one or two features.

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
        No samples are given.

    See Also
    --------
    pynode.plots.density_overview, pynode.plots.density_flow

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> X = np.random.default_rng(0).normal(size=(40, 2))
    >>> model = pn.CNF(max_iter=2, random_state=0).fit(X)
    >>> pn.plots.density(model, X).axes[0].get_xlabel()
    'feature 1'
    """
    X = samples_of(model, data)
    figure = new_figure(5.8, 4.6)
    draw_density(figure, model, X)
    return figure


def draw_density(parent: "Parent", model: DensityModel, X: Array, n: int = 140) -> None:
    """A curve over a histogram for one feature, an image of n x n points under the samples for two."""
    ax = parent.subplots()
    low, high = bounds_of(X)
    if model.n_features_in_ == 1:
        x = np.linspace(low[0], high[0], 400)
        ax.hist(X[:, 0], bins=50, density=True, color=GRID)
        ax.plot(x, np.exp(model.log_prob(x[:, None])), color=LEARNED, lw=1.8)
        ax.set(xlabel="feature 1", ylabel="density", title="Density learned, over the data")
        return
    if model.n_features_in_ != 2:
        _say_instead(ax, f"a density of {model.n_features_in_} features has no picture")
        return
    u = np.linspace(low[0], high[0], n)
    v = np.linspace(low[1], high[1], n)
    points = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
    p = np.exp(model.log_prob(points)).reshape(n, n)
    extent = (low[0], high[0], low[1], high[1])
    image = ax.imshow(p, origin="lower", extent=extent, aspect="auto", cmap="magma", interpolation="bilinear")
    parent.colorbar(image, ax=ax, label="density")
    ax.scatter(X[:, 0], X[:, 1], s=1.5, color="white", linewidths=0, alpha=0.35)
    ax.grid(False)
    ax.set(xlabel="feature 1", ylabel="feature 2", title="Density learned, over the data (white)")


def draw_samples(parent: "Parent", model: DensityModel, X: Array) -> None:
    """The data beside as many samples of the model."""
    ax = parent.subplots()
    new = model.sample(len(X), random_state=0)
    if model.n_features_in_ == 1:
        bins = np.histogram_bin_edges(np.concatenate([X, new]), 50).tolist()
        ax.hist(X[:, 0], bins=bins, density=True, color=GRID, label="data")
        ax.hist(new[:, 0], bins=bins, density=True, histtype="step", color=LEARNED, label="samples")
    else:
        ax.scatter(X[:, 0], X[:, 1], s=4, color=DATA, linewidths=0, alpha=0.5, label="data")
        ax.scatter(new[:, 0], new[:, 1], s=4, color=LEARNED, linewidths=0, alpha=0.7, label="samples")
        ax.set(xlabel="feature 1", ylabel="feature 2")
    ax.legend(loc="best", markerscale=2.5)
    ax.grid(False)
    ax.set_title("Data and samples of the model")


def _say_instead(ax: "Axes", why: str) -> None:
    """A sentence where a picture would be."""
    ax.text(0.5, 0.5, why, ha="center", va="center", transform=ax.transAxes)
    ax.set_axis_off()
