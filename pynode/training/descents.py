"""What surrounds a descent of Levenberg-Marquardt in a stage of training."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pynode.optim.levenberg_marquardt import conclude
from pynode.optim.normal_equations import Problem
from pynode.optim.posterior import LaplacePosterior
from pynode.training.curriculum import Run
from pynode.training.state import Stage


@contextmanager
def descending(run: Run, stage: Stage, problem: Problem, state: LaplacePosterior) -> Iterator[None]:
    """A descent from `state` is part of this stage: Ctrl-C, early stopping, what the stage tells of itself."""
    started = time.perf_counter()
    evaluations = state.n_evaluations
    iterations = state.n_iter
    try:
        yield
    except KeyboardInterrupt:
        raise run.interrupted(state.loss / problem.n_observed) from None
    finally:
        if run.early_stopping is not None and run.early_stopping.kept is not None:
            state.theta = run.early_stopping.kept[0]
            state.free = run.early_stopping.kept[1]
            conclude(problem, state)
        run.training.theta = run.coordinates.theta(state.theta)
        if state.status == "stopped" and not run.stopped:
            state.status = "early"
        stage.status = state.status
        stage.loss = state.loss / problem.n_observed
        stage.iterations += state.n_iter - iterations
        stage.evaluations += state.n_evaluations - evaluations
        stage.seconds += time.perf_counter() - started
