"""Training a NeuralODE in stages, with a display of progress and checkpoints."""

import time as clock
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.trajectories import Trajectories
from pynode.models.trajectories.equations.unvisited import unvisited
from pynode.models.trajectories.kept_aside import take_back
from pynode.models.trajectories.recipe import polish, prepare
from pynode.models.trajectories.results import keep_run
from pynode.models.trajectories.scaling import Scaling
from pynode.optim.checkpoint import Checkpoint
from pynode.optim.progress import Progress
from pynode.optim.result import Iteration
from pynode.optim.session import results_kept_whole
from pynode.training.curriculum import Run
from pynode.training.growth import outgrown
from pynode.training.smoothing import Smoothed
from pynode.training.verdict.trajectories import all_doubts

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]


def fit_stages(
    model: "NeuralODE",
    data: Trajectories,
    precision: list[Array] | None,
    seed: int,
    delay: Array | None,
    shown: bool | str,
    callback: Callable[[Iteration], Any] | None,
    checkpoint: Checkpoint | None,
    plain: Smoothed | None,
    units: Scaling | None = None,
) -> Run:
    """Train in stages; returns what was run. plain, units: see `prepare`."""
    started = clock.perf_counter()
    run, scaling, smoothed, trained = prepare(model, data, precision, seed, delay, plain, units)
    run.checkpoint = checkpoint
    interrupt = None
    total = run.recipe.total_iterations * run.batches
    with Progress(total, shown if isinstance(shown, str) else "training", bool(shown)) as bar:
        run.callback = reporting(bar, callback)
        try:
            run.train()
            polish(run, scaling, model.rtol)
            _warn(run, trained, model.field is None and not model.augment)
            for words in () if run.stopped else outgrown(run, scaling.t_scale):
                run.warn(words)
        except KeyboardInterrupt as error:
            interrupt = error
    status = "interrupted" if interrupt else None
    with results_kept_whole():
        keep_run(model, run, scaling, smoothed, trained, seed, status, clock.perf_counter() - started)
        if run.holdout is not None:
            take_back(model, data, precision, run.holdout.places)
    if interrupt is not None:
        raise interrupt
    made: Run = run
    return made


def _warn(run: Any, data: Trajectories, learned: bool) -> None:
    """Warn of what is doubtful about a fit; learned: and of what a network was not shown."""
    if run.stopped:
        return
    for words in [*all_doubts(run, data), *(unvisited(data) if learned else ())]:
        run.warn(words)


def reporting(bar: Progress, callback: Callable[[Iteration], Any] | None) -> Callable[[Iteration], bool]:
    def after_iteration(iteration: Iteration) -> bool:
        bar.update(iteration.number, f"{iteration.stage}: loss {iteration.loss:.4g}")
        return callback is not None and callback(iteration) is True

    return after_iteration
