"""Where equations are looked for: before a network is trained, and once more along its trajectories."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.trajectories import Trajectories
from pynode.models.trajectories.equations.decision import become, prefer, warn_of
from pynode.models.trajectories.equations.structure import EquationFit
from pynode.models.trajectories.scaling import Scaling
from pynode.models.trajectories.series import beyond, n_inputs
from pynode.models.trajectories.stages import fit_stages
from pynode.optim.checkpoint import Checkpoint
from pynode.optim.result import Iteration
from pynode.training.curriculum import FitWarning
from pynode.training.equations.bend_columns import MOST_FACTORS
from pynode.training.equations.integral_form import has_windows
from pynode.training.equations.search import FIRST
from pynode.training.steps import SECOND_ORDER

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]

SIZES = (1e-50, 1e30)
"""Products of three states, their inverses, and squares of both are within floating point for states of these sizes."""

SHAPING = ("hidden", "activation", "skip", "weight_decay", "windows", "optimizer", "n_restarts", "n_estimators", "scale")
"""Options about the network and its training: who sets one wants the network."""


def looked_for(
    model: "NeuralODE",
    data: Trajectories,
    weight: list[Array] | None,
    seed: int,
    delay: Array | None = None,
    callback: Any = None,
) -> "EquationFit | None":
    """The equation that was looked for and fitted; None where none is wanted.

    Raises
    ------
    ValueError
        structure="equation" with options or data that exclude it.
    """
    if model.structure == "network":
        return None
    why = _excluded(model, data, delay)
    if model.structure == "equation":
        if why:
            raise ValueError(f"structure='equation' cannot be had: {why}")
    else:
        defaults = type(model)()
        if why or any(getattr(model, name) != getattr(defaults, name) for name in SHAPING):
            return None
    equation = EquationFit(model, data, weight, seed)
    equation.train(callback)
    many = data.d + n_inputs(data) > MOST_FACTORS and model.structure != "equation"
    if many or (equation.accepted and not equation.rich):
        return equation  # of many states terms that bend are looked for along the trajectories of the network alone
    bent = equation.with_candidates(equation.bent(), callback)
    return equation if bent is equation else bent.with_candidates(bent.polynomials_along(), callback)


def _excluded(model: "NeuralODE", data: Trajectories, delay: Array | None) -> str:
    """Why there can be no equation, or an empty text."""
    if model.field is not None:
        return "the field is given (field=)"
    if model.augment:
        return f"augment={model.augment} adds states that nobody measured, whose equation has no names"
    if model.log:
        return "log=True learns logarithms; leave it out, products of states are among the terms"
    if delay is not None and np.any(delay):
        return "the control inputs are delayed"
    if model.process_noise:
        return "process_noise=True: terms are chosen for trajectories that follow the equation"
    if model.max_growth is not None:
        return f"max_growth={model.max_growth} bounds the field of a network; leave it out, terms are chosen freely"
    if model.limits is not None:
        return "limits= holds states by a pull that is no term of an equation"
    if model.early_stopping:
        return "early_stopping=True keeps trajectories aside; terms are chosen by evidence, from all of them"
    if model.noise != "gaussian":
        return f"noise={model.noise!r}: terms are chosen for Gaussian noise"
    if model.optimizer not in ("auto", SECOND_ORDER):
        return f"optimizer={model.optimizer!r}: equations are fitted by {SECOND_ORDER}"
    if max(map(len, data.t)) < 5:
        return "no trajectory has five times"
    if all((np.isfinite(y).sum(axis=0) < 2).any() for y in data.y):
        return "no trajectory observes all states, each of them twice"
    if rare := [name for name, seen in zip(data.names, has_windows(data.y, FIRST), strict=True) if not seen]:
        return f"{', '.join(rare)} is read so rarely that no {FIRST} intervals between times hold two of its readings"
    if far := beyond(data, SIZES):
        return f"{far}, whose products floating point holds; other units would do"
    return ""


def looked_again(equation: EquationFit | None, network: Any, scaling: Scaling) -> EquationFit | None:
    """The equation that is found along the trajectories of a network.

    Smoothing loses fast jumps and short peaks, and with them the terms; a network that follows whole trajectories has them.

    Parameters
    ----------
    equation : EquationFit or None
        What was found along smoothed data.
    network : Run
        Fitted.
    scaling : Scaling
        Its units.

    Returns
    -------
    EquationFit or None
        Trained; the first one where no better one is found.
    """
    if equation is None or not network.whole or network.stopped or network.gave_up:
        return equation
    d = equation.data.d
    again = equation.along([scaling.states_back(z)[:, :d] for z in network.training.states])
    if not again.candidates:
        return equation
    known = equation.candidates[:1] if equation.run is not None and not equation.crowded else []
    if known and known[0].whole and known[0].fitted.evidence >= again.candidates[0].fitted.evidence:
        return equation
    again.train()
    return again


def fit_form(
    model: "NeuralODE",
    data: Trajectories,
    precision: list[Array] | None,
    seed: int,
    delay: Array | None,
    shown: bool | str,
    callback: Callable[[Iteration], Any] | None,
    checkpoint: Checkpoint | None,
    units: Scaling | None = None,
) -> Any:
    """Fit an equation, a network, or that which explains the data better, as the option `structure` says.

    Parameters
    ----------
    model : NeuralODE
        It keeps the fit.
    data : Trajectories
    precision : list of arrays or None
        Weights.
    seed : int
    delay : (m,) array or None
        Of the control inputs.
    shown, callback, checkpoint
        See `NeuralODE.fit`.
    units : Scaling, optional
        Of the states and inputs of a network. Default: by the data.

    Returns
    -------
    Run
        What was kept.
    """
    equation = looked_for(model, data, precision, seed, delay, callback)
    if equation is not None and equation.final:
        become(model, equation)
        return equation.run
    plain = None if equation is None or not model.scale or units is not None else equation.plain
    with _kept_back(equation is not None) as held:
        run = fit_stages(model, data, precision, seed, delay, shown, callback, checkpoint, plain, units)
    again = looked_again(equation, run, model.scaling_)
    prefer(model, again, run)
    kept = None if again is None else again.run
    instead = kept is not None and model.field_ is kept.field
    _tell(one for one in held if not (instead and issubclass(one.category, FitWarning)))
    if kept is None or not instead:
        return run
    warn_of(kept)
    return kept


@contextmanager
def _kept_back(hold: bool) -> Iterator[list[warnings.WarningMessage]]:
    """Keep warnings back, if so told, until it is known whose fit is kept: those of a network are nobody's else."""
    if not hold:
        yield []
        return
    held: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as held:
            warnings.simplefilter("always")
            yield held
    except BaseException:
        _tell(held)
        raise


def _tell(held: Iterable[warnings.WarningMessage]) -> None:
    """Warn of what was kept back."""
    for one in held:
        warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
