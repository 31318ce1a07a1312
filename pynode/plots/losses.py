"""How training went: the loss, and what it cost."""

from typing import TYPE_CHECKING, Any

import numpy as np

from pynode.plots.parts import draw_heading
from pynode.plots.protocols import Trained
from pynode.plots.style import LEARNED, QUIET, STAGES, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pynode.plots.parts import Parent


@styled
def loss(model: Trained, data: Any = None) -> "Figure":
    """The loss over the iterations of training, a colour a stage.

    Losses of different stages measure different things.

    Parameters
    ----------
    model : NeuralODE
        A fitted model.
    data : None
        Not needed; here because every picture takes it.

    Returns
    -------
    matplotlib.figure.Figure

    See Also
    --------
    pynode.plots.training, pynode.plots.latent_loss

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> t = np.linspace(0, 3, 20)
    >>> model = pn.NeuralODE(hidden=(3,), max_iter=2, random_state=0).fit(t, np.exp(-t))
    >>> pn.plots.loss(model).axes[0].get_xlabel()
    'iteration'
    """
    figure = new_figure(6.4, 3.6)
    draw_loss(figure, model)
    return figure


@styled
def training(model: Trained, data: Any = None, target: Any = None) -> "Figure":
    """The loss and the number of evaluations of the field against epochs.

    Parameters
    ----------
    model : NeuralODEClassifier, NeuralODERegressor or CNF
        A fitted model.
    data, target : None
        Not needed; here because every picture takes them.

    Returns
    -------
    matplotlib.figure.Figure

    See Also
    --------
    pynode.plots.loss, pynode.plots.latent_loss

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> X = np.random.default_rng(0).normal(size=(40, 2))
    >>> model = pn.CNF(max_iter=2, random_state=0).fit(X)
    >>> [ax.get_ylabel() for ax in pn.plots.training(model).axes]
    ['loss', 'evaluations a sample']
    """
    figure = new_figure(5.2, 4.4)
    draw_training(figure, model)
    return figure


@styled
def latent_loss(model: Trained, data: Any = None) -> "Figure":
    """The loss of a LatentODE: -ELBO of the minibatches, per observed number in scaled units, and its running median.

    Parameters
    ----------
    model : LatentODE
        A fitted model.
    data : None
        Not needed; here because every picture takes it.

    Returns
    -------
    matplotlib.figure.Figure

    See Also
    --------
    pynode.plots.loss, pynode.plots.training

    Examples
    --------
    >>> import pynode as pn
    >>> model = pn.LatentODE(max_iter=2, random_state=0).fit(pn.datasets.periodic(n_train=4, n_held_out=0).train)
    >>> pn.plots.latent_loss(model).axes[0].get_ylabel()
    '-ELBO per observed number (scaled units)'
    """
    value = model.history_["loss"]
    width = max(1, len(value) // 50)
    cut = len(value) // width * width
    figure = new_figure(5.6, 3.6)
    ax = figure.subplots()
    ax.plot(np.arange(1, len(value) + 1), value, color=QUIET, lw=0.4, label="minibatch")
    median = np.median(value[:cut].reshape(-1, width), axis=1)
    ax.plot(np.arange(width / 2, cut, width), median, color=LEARNED, lw=1.6, label=f"median of {width}")
    low = np.min(value)
    high = np.quantile(value, 0.9)
    if high > low:
        ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    ax.set_xlabel("iteration")
    ax.set_ylabel("-ELBO per observed number (scaled units)")
    draw_heading(figure, ax, "Loss while training")
    return figure


def draw_loss(parent: "Parent", model: Trained, title: str = "") -> None:
    """The loss over iterations, a colour for each name of a stage; stages that were given up are dashed, trials dotted."""
    ax = parent.subplots()
    history = model.history_
    number = np.arange(1, len(history["loss"]) + 1)
    stages = model.report_["stages"]
    loss = history["loss"]
    finite = loss[np.isfinite(loss)]
    lowest = float(finite.min()) if (finite < 0).any() else 0.0  # a deviance may be negative
    if lowest:
        loss = np.where(loss > lowest, loss - lowest, np.nan)
    proper = {(stage["windows"], stage["intervals"]): stage["name"] for stage in stages if not stage["trial"]}
    kinds = [proper.get((x["windows"], x["intervals"]), x["name"]) if x["trial"] else x["name"] for x in stages]
    names = list(dict.fromkeys(kinds))
    for k, stage in enumerate(stages):
        mine = history["stage"] == k
        if mine.any():
            dropped = stage["status"] in ("undone", "left out")
            ax.plot(
                number[mine],
                loss[mine],
                "--" if dropped else ":" if stage["trial"] else "-",
                marker="o",
                ms=3 if len(number) < 200 else 0,
                color=STAGES[names.index(kinds[k]) % len(STAGES)],
                lw=1.8,
                label=stage["name"] + (f" ({stage['status']})" if dropped else ""),
            )
    if (finite > 0).any():
        ax.set_yscale("log")
    ax.set(xlabel="iteration", ylabel="loss above the lowest" if lowest else "loss (scaled units)")
    draw_heading(parent, ax, title)


def draw_training(parent: "Parent", model: Trained) -> None:
    """Loss and evaluations against epochs, one above the other."""
    over, under = parent.subplots(2, 1, sharex=True)
    loss = model.history_["loss"]
    validation = model.history_["validation"]
    number = np.arange(1, len(loss) + 1)
    over.plot(number, loss, color=STAGES[2], lw=1.6, label="training")
    if np.isfinite(validation).any():
        over.plot(number, np.where(np.isfinite(validation), validation, np.nan), color=STAGES[5], lw=1.6, label="kept aside")
        over.legend(frameon=True, framealpha=0.8)
    if loss.min() > 0 and np.ptp(np.log10(loss)) > 1:
        over.set_yscale("log")
    over.set(ylabel="loss", title="Training")
    under.plot(number, model.history_["nfe"], color=STAGES[4], lw=1.6)
    under.set(ylabel="evaluations a sample", xlabel="epoch", ylim=(0, None))
    parent.align_ylabels()
