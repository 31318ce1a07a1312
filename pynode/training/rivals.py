"""Other ways to train a field of one's own, from the values that its user gave: what fits whole trajectories best is kept.

Slopes of smoothed data can be wrong where the data are sparse, noisy or jump, and short windows say little about states that
nobody measured. What the user knows, a start near the truth, must not be lost to them.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pynode.training.curriculum import LOST, Reached, Run
from pynode.training.noise import Noise
from pynode.training.state import Stage
from pynode.training.verdict.residuals import EXCESS, excess, precision, residuals

Array = NDArray[np.float64]

ENOUGH = 100
"""Fewer observed numbers than this are fitted so fast that rivals always have their chance."""

CLEAR = 0.05
"""The smoother's estimate is trusted where it is below this part of the variance of the data."""

SAME = 1e-3
"""Two fits whose misfit differs by less than this, for each observed number, are the same."""


def fits(run: Run) -> bool:
    """Whether the residuals are those of the noise, as far as the smoother knows it."""
    if not run.whole or run.data.n_observed < ENOUGH:
        return False
    seen = run.data.seen
    clear = (run.smoothed.variance <= CLEAR * run.data.spread)[seen].all()
    return bool(clear and (excess(run)[seen] <= EXCESS).all())


def contest(run: Run, noise: str, least: Array) -> None:
    """Go other ways too unless the run fits the data as well as can be; keep what fits whole trajectories best.

    Parameters
    ----------
    run : Run
        All its stages are done.
    noise : {"gaussian", "huber", "student"}
        The distribution of the noise.
    least : (d,) array
        Variances of residuals below which they are rounding.
    """
    given = precision(run)

    def outcome() -> tuple[float, Reached]:
        misfit = Noise(np.ones(run.data.d), noise, given, least).misfit(residuals(run)) if run.whole else np.inf
        return misfit, run.reached()

    stages = len(run.training.stages)
    least_misfit, main = outcome()
    best = main
    won: list[Stage] = []
    checkpoint = run.checkpoint
    run.checkpoint = None
    run.trial = True
    for states, windows in _paths(run):
        if run.stopped or fits(run):
            break
        run.begin_again(run.first_theta.copy(), states)
        begun = len(run.training.stages)
        for intervals in windows:
            if not run.stopped and not run.gave_up:
                run.shoot(intervals)
        misfit, found = outcome()
        same = abs(misfit - least_misfit) < SAME * run.data.n_observed
        if misfit < least_misfit and (main.whole or _explained(run)):
            least_misfit = misfit
            best = found
            won = run.training.stages[begun:]
        if same:
            break
    run.checkpoint = checkpoint
    run.trial = False
    if len(run.training.stages) == stages:
        return
    if best is not main:
        run.held.clear()
    for stage in won:
        stage.trial = False
    run.back_to(best)
    if best.whole and not run.stopped:
        run.shoot(None)


def _paths(run: Run) -> Iterator[tuple[list[Array], tuple[int | None, ...]]]:
    """(states, windows) of ways to train from the user's parameters, the most promising first."""
    windows = tuple(n for n, _ in run.steps())
    hidden = not run.data.seen.all()
    if not hidden or len(windows) > 1:
        if hidden:
            run.begin_again(run.first_theta.copy(), [x.copy() for x in run.first_states])
            run.guess_states()
            yield run.training.states, (None,)
        else:
            yield [x.copy() for x in run.first_states], (None,)
    yield [x.copy() for x in run.first_states], windows


def _explained(run: Run) -> bool:
    """Whether whole trajectories are followed, which the stages proper gave up."""
    seen = precision(run) > 0
    spread = np.broadcast_to(run.data.spread, seen.shape)
    return bool(np.mean(residuals(run)[seen] ** 2) < LOST * np.mean(spread[seen]))
