"""Fits from several starts: each in full, side by side; what whole trajectories say decides."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pynode.data.trajectories import Trajectories
from pynode.fields.parameters import with_initial
from pynode.models.options import LARGEST_SEED
from pynode.models.trajectories.ensemble import Tried, side_by_side
from pynode.models.trajectories.recipe import optimizer_of
from pynode.optim.checkpoint import Checkpoint
from pynode.optim.result import Iteration
from pynode.training.curriculum import FitError, FitWarning
from pynode.training.starts import drawn
from pynode.training.steps import SECOND_ORDER

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

SAME = 1e-2
"""Log-likelihoods that differ by less than this are those of one optimum."""


def fit_starts(
    model: "NeuralODE",
    data: Trajectories,
    weight: Any,
    seed: int,
    progress: bool | str,
    callback: Callable[[Iteration], Any] | None,
    checkpoint: Checkpoint | None = None,
) -> tuple["NeuralODE", str, KeyboardInterrupt | None]:
    """Fits from `n_restarts` starts.

    Parameters
    ----------
    model : NeuralODE
    data : Trajectories
    weight : see `NeuralODE.fit`
    seed : int
    progress, callback : see `NeuralODE.fit`; callback only where fits are made one after the other
    checkpoint : Checkpoint, optional
        Its parts are those of the fits, and are removed when all are there, unless it stays.

    Returns
    -------
    best : NeuralODE
        The best of the fits.
    message : str
        Which it is, and how the others compare.
    interrupt : KeyboardInterrupt or None
        What ended the fits before their time.

    Raises
    ------
    FitError
        The equation cannot be solved from any start.
    KeyboardInterrupt
        No start has results yet.
    """
    members = _members(model, seed)
    tried = side_by_side(
        attempted, members, (type(model), data, weight), model.n_jobs, progress, callback, "start", checkpoint
    )
    interrupt = next((x.interrupt for x in tried if x.interrupt is not None), None)
    if checkpoint is not None and interrupt is None:
        checkpoint.remove_parts(len(members))
    score = [(-1.0, -np.inf) if each.model is None else each.model.score_of_start_ for each in tried]
    order = sorted(range(len(tried)), key=lambda k: score[k], reverse=True)
    best = tried[order[0]]
    if best.model is None:
        failure = interrupt or best.error
        assert failure is not None
        raise failure
    whole, evidence = score[order[0]]
    same = sum(each[0] == whole and evidence - each[1] < SAME for each in score) - 1
    failed = sum(x.error is not None for x in tried)
    made = failed + sum(x.model is not None for x in tried)
    message = f"the best of {made} starts is number {order[0] + 1}; {same} others led to a fit as good"
    message += f", {failed} could not be solved" if failed else ""
    return best.model, message, interrupt


def _members(model: "NeuralODE", seed: int) -> list[dict[str, Any]]:
    """The options of the fits: random states of a network, values of a field of one's own."""
    n = int(model.n_restarts)
    params = model.get_params() | {"n_restarts": 1, "n_jobs": None, "random_state": seed}
    if model.field is None:
        return [params | {"random_state": (seed + k) % (LARGEST_SEED + 1)} for k in range(n)]
    if optimizer_of(model, model.field) != SECOND_ORDER:
        raise ValueError(f"n_restarts belongs to {SECOND_ORDER}, which this field is too large for: take n_estimators")
    spec = model.field.spec
    starts = drawn(model.field, n, seed)
    return [params | {"field": replace(model.field, spec=with_initial(spec, theta))} for theta in starts]


def attempted(
    params: dict[str, Any],
    checkpoint: Checkpoint | None,
    make: "type[NeuralODE]",
    data: Trajectories,
    weight: Any,
    progress: bool | str = False,
    callback: Callable[[Iteration], Any] | None = None,
) -> tuple[Tried, bool]:
    """(one of several fits, whether to go on with the next)."""
    model = make(**params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)  # those of the best are repeated
        try:
            model.fit(data, weight=weight, progress=progress, callback=callback, checkpoint=checkpoint)
        except FitError as error:
            return Tried(None, error), True
        except KeyboardInterrupt as interrupt:
            return Tried.of(model, interrupt), False
    return Tried(model), model.report_["status"] != "stopped"
