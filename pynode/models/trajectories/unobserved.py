"""How many states there are that nobody measured: fits with 0, 1, 2, ... of them, compared by their evidence."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pynode.data.trajectories import Trajectories
from pynode.models.trajectories.intervals.averaged import is_found
from pynode.models.trajectories.recipe import network, optimizer_of
from pynode.models.trajectories.restarts import attempted
from pynode.models.trajectories.series import n_inputs
from pynode.optim.checkpoint import Checkpoint
from pynode.optim.result import Iteration
from pynode.training.curriculum import FitError
from pynode.training.steps import SECOND_ORDER

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

MOST = 6
"""The most unobserved states that are tried."""

WORSE = 2
"""No more are tried where so many in a row are less likely than the best (an odd number may suit no oscillator) ..."""

MUCH = 50.0
"""... or one has less log evidence by this: of 18 driven systems of which one output was read, none rose again then."""


def fit_numbers(
    model: "NeuralODE",
    data: Trajectories,
    weight: Any,
    seed: int,
    progress: bool | str,
    callback: Callable[[Iteration], Any] | None,
    checkpoint: Checkpoint | None = None,
) -> tuple["NeuralODE", str, KeyboardInterrupt | None]:
    """Fits with growing numbers of unobserved states, until evidence falls.

    Fits that follow whole trajectories come before those that do not. An equation of the measured states alone that was
    found and leaves no doubt needs no others.

    Parameters
    ----------
    model : NeuralODE
    data : Trajectories
    weight : see `NeuralODE.fit`
    seed : int
    progress, callback : see `NeuralODE.fit`
    checkpoint : Checkpoint, optional
        Its parts are those of the fits, and are removed when all are there, unless it stays.

    Returns
    -------
    best : NeuralODE
        The best of the fits.
    message : str
        How many states it has, and the log evidence of all.
    interrupt : KeyboardInterrupt or None
        What ended the fits before their time.

    Raises
    ------
    FitError
        No fit can be solved.
    ValueError
        The network is too large for second order.
    KeyboardInterrupt
        There are no results yet.
    """
    params = model.get_params() | {"random_state": seed}
    label = f"{progress}, " if isinstance(progress, str) else ""
    scores: list[tuple[float, float]] = []
    best: Any = None
    failure: FitError | None = None
    interrupt: KeyboardInterrupt | None = None
    for k in range(MOST + 1):
        field = network(model, data.d + k, n_inputs(data), 1)
        if optimizer_of(model, field) != SECOND_ORDER:
            if k == 0:
                raise ValueError(
                    f"augment='auto' compares evidence, for which the network is too large ({field.n_params} parameters, "
                    f"{field.d} states): give a number, or take fewer hidden units"
                )
            break
        part = None if checkpoint is None else checkpoint.part(k)
        shown = progress and f"{label}{k} unobserved states"
        tried, more = attempted(params | {"augment": k}, part, type(model), data, weight, shown, callback)
        interrupt = tried.interrupt
        failure = tried.error or failure
        one = tried.model
        scores.append((-1.0, -np.inf) if one is None else _score(one))
        if one is not None and scores[-1] == max(scores) and (best is None or interrupt is None):
            best = one
        if not more or _enough(scores) or (k == 0 and best is not None and _explained(best)):
            break
    if best is None:
        failed = interrupt or failure
        assert failed is not None
        raise failed
    if checkpoint is not None and interrupt is None:
        checkpoint.remove_parts(MOST + 1)
    return best, _message(best, scores), interrupt


def _score(model: "NeuralODE") -> tuple[float, float]:
    """(whether whole trajectories are followed, log evidence); the larger, the better."""
    evidence = float(model.report_["log_evidence"])
    return float(model.score_of_start_[0]), evidence if np.isfinite(evidence) else -np.inf


def _enough(scores: list[tuple[float, float]]) -> bool:
    """Whether more states promise nothing."""
    best = max(scores)
    since = len(scores) - 1 - scores.index(best)
    return since >= WORSE or (since > 0 and best[0] > 0 and best[1] - scores[-1][1] > MUCH)


def _explained(model: "NeuralODE") -> bool:
    """Whether an equation of the measured states was found that leaves no doubt."""
    return is_found(model) and not model.report_["warnings"]


def _message(best: "NeuralODE", scores: list[tuple[float, float]]) -> str:
    """What was chosen, and from what."""
    told = ", ".join(
        f"{k}: {evidence:.1f}" + " (windows alone)" * (not whole) if np.isfinite(evidence) else f"{k}: none"
        for k, (whole, evidence) in enumerate(scores)
    )
    n = best.n_unobserved_
    found = best.report_["message"]
    return f"{n} unobserved state{'s' * (n != 1)}, by log evidence ({told})" + f"; {found}" * bool(found)
