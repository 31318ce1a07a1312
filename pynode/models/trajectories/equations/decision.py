"""Which is kept: the equation that was found, or the network."""

import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from pynode.errors import users_level
from pynode.models.trajectories.equations.growing_noise import growing_noise
from pynode.models.trajectories.equations.outdone import outdone
from pynode.models.trajectories.equations.structure import BEYOND, STARTS, EquationFit
from pynode.models.trajectories.equations.unvisited import unvisited
from pynode.models.trajectories.results import keep_run
from pynode.optim.session import results_kept_whole
from pynode.training.curriculum import FitError, FitWarning, Run
from pynode.training.equations.terms import inner_of
from pynode.training.verdict.trajectories import all_doubts, doubts

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

CLEARLY = 3.0
"""Variances differ clearly where they do by so many standard errors."""


def become(model: "NeuralODE", equation: EquationFit) -> None:
    """Make a model that of the equation.

    Raises
    ------
    FitError
        There is none.
    """
    run = equation.run
    if run is None:
        raise FitError(
            "structure='equation': no equation of few terms can be solved along the data; structure='network' learns any "
            "field"
        )
    if not run.stopped:
        run.training.warnings += _doubts(equation)
    with results_kept_whole():
        _keep(model, equation)
    warn_of(run)


def warn_of(run: Run) -> None:
    """Warn of what is doubtful about a run that is kept."""
    for words in run.training.warnings:
        warnings.warn(words, FitWarning, stacklevel=users_level())


def prefer(model: "NeuralODE", equation: EquationFit | None, network: Run) -> None:
    """Put the equation in the network's place where its evidence is higher.

    Not where many terms leave what is no noise and the network leaves noise: evidence takes residuals for noise.

    Parameters
    ----------
    model : NeuralODE
        Fitted, as a network.
    equation : EquationFit or None
        Trained.
    network : Run
        That of the model.
    """
    whole = network.whole
    run = None if equation is None else equation.run
    if equation is None or run is None or not run.whole or run.gave_up or run.stopped or not equation.steady:
        return
    if equation.crowded and whole:
        n = len(equation.terms)
        model.report_["message"] = (
            f"no equation of few terms explains the data: one of {n} terms was found, and a network taken"
        )
        return
    if whole and inner_of(equation.candidates[0].terms) and run.undetermined.any():
        model.report_["message"] = "an equation was found whose scales the data do not determine, and a network taken"
        return
    rival = copy.copy(model)
    _keep(rival, equation)
    ours = rival.report_["log_evidence"] - equation.candidates[0].cost
    theirs = model.report_["log_evidence"]
    if whole and not ours > theirs:
        model.report_["message"] = f"the log evidence of the network is {theirs:.1f}, that of an equation {ours:.1f}"
        return
    names = equation.data.names
    if whole and equation.misses_jumps and _leaves_less(model, rival, equation):
        model.report_["message"] = (
            "an equation was found that misses where states are fast, and a network taken, which does not"
        )
        return
    if whole and equation.long and doubts(run, names) and not doubts(network, names):
        model.report_["message"] = "an equation of many terms leaves what is no noise, and a network taken, which does not"
        return
    run.training.warnings += [*_doubts(equation), *(outdone(rival, model) if whole else [])]
    equation.words += f"; its log evidence is {ours:.1f}, that of the network {theirs:.1f}"
    with results_kept_whole():
        _keep(model, equation)


def _leaves_less(network: "NeuralODE", rival: "NeuralODE", equation: EquationFit) -> bool:
    """Whether a network leaves clearly less of a state than an equation, by as much as chance would not."""
    n = (~np.isnan(np.concatenate(equation.inside.y))).sum(axis=0)
    most = 1.0 + CLEARLY * np.sqrt(2.0 / np.maximum(n, 1))
    ours, theirs = (np.array([made.report_["noise"][name] for name in equation.data.names]) for made in (rival, network))
    return bool((ours**2 > most * theirs**2).any())


def _doubts(equation: EquationFit) -> list[str]:
    """What is doubtful about an equation that is kept."""
    run: Any = equation.run
    data = equation.data
    return [*all_doubts(run, data), *unvisited(data), *runaway(equation)]


def runaway(equation: EquationFit) -> list[str]:
    """What is to be said where the equation grows beyond bounds from states not far from the data.

    Products of states do so where a term was mistaken, or was never seen at work; the data alone cannot tell.
    """
    rng = np.random.default_rng(equation.seed)
    starts = rng.uniform(*equation.box(BEYOND), (STARTS, equation.inside.d))
    lost = int((~equation.solved(starts)).sum())
    if not lost:
        return []
    return [
        f"from {lost} of {STARTS} initial states at most {BEYOND:.0%} of the data's range beyond it, the equation cannot be "
        "followed as long as the data are: its terms grow beyond bounds there; do not predict from states that differ from "
        "the data (structure='network' goes on linearly)"
    ]


def _keep(model: "NeuralODE", equation: EquationFit) -> None:
    run: Any = equation.run
    keep_run(model, run, equation.scaling, equation.smoothed, equation.data, equation.seed, None, 0.0)
    model.weight_ = None if equation.weight is None else [w.copy() for w in equation.weight]
    model.report_["message"] = equation.words
    if models := growing_noise(equation):
        model.report_["error_models"] = models
