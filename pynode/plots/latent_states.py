"""The space of latent initial states."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from pynode.data.trajectories import Trajectories
from pynode.plots.latent_series import series_of
from pynode.plots.protocols import LatentModel
from pynode.plots.style import LEARNED, QUIET, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def latent_space(model: LatentModel, data: Trajectories | None = None, *, colour: ArrayLike | None = None) -> "Figure":
    """Posterior means of z_0 in the plane of their largest variance, with one standard deviation; the prior's circle.

    Parameters
    ----------
    model : LatentODE
        A fitted model.
    data : Trajectories, optional
        Default: what the model was fitted to.
    colour : (B,) array, optional
        A number of each series, shown as its colour.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        There are no data.

    See Also
    --------
    pynode.plots.series, pynode.plots.latent_loss

    Examples
    --------
    >>> import pynode as pn
    >>> model = pn.LatentODE(max_iter=2, random_state=0).fit(pn.datasets.periodic(n_train=4, n_held_out=0).train)
    >>> pn.plots.latent_space(model).axes[0].get_ylabel()
    'second'
    """
    mean, std = model.encode(series_of(model, data))
    if mean.shape[1] == 1:
        mean, std = (np.concatenate([x, np.zeros_like(x)], axis=1) for x in (mean, std))
    centre = mean.mean(axis=0)
    axis = np.linalg.svd(mean - centre, full_matrices=False)[2][:2] if len(mean) > 1 else np.eye(mean.shape[1])[:2]
    at = mean @ axis.T
    spread = np.sqrt(std**2 @ (axis.T**2))
    figure = new_figure(5.6, 4.8)
    ax = figure.subplots()
    ax.errorbar(
        at[:, 0], at[:, 1], xerr=spread[:, 0], yerr=spread[:, 1], fmt="none", ecolor=QUIET, elinewidth=0.5, alpha=0.5
    )
    look: dict[str, Any] = {"color": LEARNED} if colour is None else {"c": np.asarray(colour), "cmap": "viridis"}
    dots = ax.scatter(at[:, 0], at[:, 1], s=12, zorder=3, **look)
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
