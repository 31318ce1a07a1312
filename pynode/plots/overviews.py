"""Models at a glance: several pictures side by side in one figure."""

from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from pynode.data.trajectories import Trajectories
from pynode.plots.agreement import draw_agreement
from pynode.plots.densities import draw_density, draw_samples
from pynode.plots.flows import draw_flow
from pynode.plots.losses import draw_loss, draw_training
from pynode.plots.misfit import draw_residuals
from pynode.plots.over_time import draw_trajectories
from pynode.plots.parts import data_of, measures_states, n_states
from pynode.plots.phase_portrait import draw_phase
from pynode.plots.protocols import DensityModel, SampleModel, TrajectoryModel
from pynode.plots.regions import draw_predicted
from pynode.plots.samples import coloured_samples, samples_of
from pynode.plots.style import new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled
def overview(model: TrajectoryModel, data: Trajectories | None = None) -> "Figure":
    """The model at a glance: phase portrait, trajectories with 90 % bands, residuals, loss while training.

    Parameters
    ----------
    model : NeuralODE
        A fitted model.
    data : Trajectories, optional
        The trajectories that the model was fitted to (or some rows of them); default: all of them.

    Returns
    -------
    matplotlib.figure.Figure
        Two rows (`subfigs`) of two parts. Where there are many states or trajectories only the first are drawn; titles say
        so.

    Raises
    ------
    ValueError
        There are no data, or their states are not those of the model.

    See Also
    --------
    pynode.plots.phase, pynode.plots.trajectories, pynode.plots.residuals, pynode.plots.loss

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> t = np.linspace(0, 3, 20)
    >>> model = pn.NeuralODE(hidden=(3,), max_iter=2, random_state=0).fit(t, np.exp(-t))
    >>> pn.plots.overview(model).savefig("model.png")  # doctest: +SKIP
    """
    data = data_of(model, data)
    rows = min(n_states(model), 3)
    figure = new_figure(12.6, 8.4 + 0.9 * (rows - 2))
    top, low = figure.subfigures(2, 1, hspace=0.03, squeeze=False)[:, 0]
    first = 2.0 if data.d == 3 else 0.9  # three projections want more room than one portrait
    top_left, top_right = top.subfigures(1, 2, width_ratios=(first, 1), wspace=0.03, squeeze=False)[0]
    low_left, low_right = low.subfigures(1, 2, wspace=0.03, squeeze=False)[0]
    if measures_states(model):
        draw_phase(top_left, model, data, None, title="Phase portrait")
    else:
        draw_agreement(top_left, model, data, title="Readings and predictions")
    if data.d == 3:
        places = (low_left, low_right, top_right)
    else:
        places = (top_right, low_left, low_right)
    draw_trajectories(places[0], model, data, max_columns=2, max_states=3, title="Trajectories")
    draw_residuals(places[1], model, data, 3, title="Residuals")
    draw_loss(places[2], model, title="Loss while training")
    return figure


@styled
def sample_overview(model: SampleModel, data: ArrayLike | None = None, target: ArrayLike | None = None) -> "Figure":
    """What is predicted (for one or two features), the flow, and training, side by side.

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
    pynode.plots.predicted, pynode.plots.sample_flow, pynode.plots.training

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> X = np.random.default_rng(0).normal(size=(40, 2))
    >>> model = pn.NeuralODEClassifier(max_iter=2, random_state=0).fit(X, X[:, 0] > 0)
    >>> len(pn.plots.sample_overview(model, X).subfigs)
    3
    """
    X, y, colours = coloured_samples(model, data, target)
    if model.n_features_in_ <= 2:
        wide = model.field_.d > 1
        figure = new_figure(15.0 if wide else 12.0, 4.2)
        left, middle, right = figure.subfigures(1, 3, width_ratios=(1, 1.6 if wide else 1, 0.85), squeeze=False)[0]
        draw_predicted(left, model, X, y, colours)
    else:
        figure = new_figure(12.0, 4.2)
        middle, right = figure.subfigures(1, 2, width_ratios=(1.8, 1), squeeze=False)[0]
    draw_flow(middle, model, X, colours)
    draw_training(right, model)
    return figure


@styled
def density_overview(model: DensityModel, data: ArrayLike | None = None) -> "Figure":
    """The density, samples of it, and training, side by side.

    Parameters
    ----------
    model : CNF
        A fitted model.
    data : (n, n_features) array
        Samples to draw; where they have more than two features, the first two.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        No samples are given.

    See Also
    --------
    pynode.plots.density, pynode.plots.density_flow, pynode.plots.training

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> X = np.random.default_rng(0).normal(size=(40, 2))
    >>> model = pn.CNF(max_iter=2, random_state=0).fit(X)
    >>> len(pn.plots.density_overview(model, X).subfigs)
    3
    """
    X = samples_of(model, data)
    figure = new_figure(13.0, 4.2)
    left, middle, right = figure.subfigures(1, 3, width_ratios=(1.1, 1, 0.85), squeeze=False)[0]
    draw_density(left, model, X)
    draw_samples(middle, model, X)
    draw_training(right, model)
    return figure
