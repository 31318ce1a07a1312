"""From short windows to whole trajectories without losing the data: windows in between, and other random starts.

A longer window may lead into a bad minimum, from which no longer one leads out. Then windows between those fitted and those
lost are fitted first; where residuals are not those of noise in the end, training starts again.
"""

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pynode.optim.posterior import LaplacePosterior
from pynode.training.curriculum import LOST, WORSE
from pynode.training.shooting import ShootingProblem
from pynode.training.verdict.residuals import misfit

if TYPE_CHECKING:
    from pynode.training.second_order import SecondOrderRun

Array = NDArray[np.float64]

POOR = "poor"
"""Why a stage is not kept at once: its residuals are much larger than those of the stage before."""

RISE = 3.0
"""A stage is poor where the variance of its residuals is more than this many times that of the stage before ..."""

SMALL = 1e-4
"""... and more than this part of that of the data."""

BAD = 10.0
"""Beyond this it is a bad minimum of a network whose states are all seen; an equation of one's own may be wrong."""

SMALLER = (0.1, 0.01, 0.0)
"""With random parameters times these training starts again where no field could be solved."""

AGAIN = 2
"""How often training starts again from other random parameters where the residuals are not those of noise."""

CLOSER = 3
"""How often windows between those fitted and those that could not be followed are tried, ..."""

NEARER = 1.25
"""... at least this much longer than those fitted."""


def follow(run: "SecondOrderRun", intervals: int | None, everything: bool) -> None:
    """Fit windows of this length, after shorter ones where the data cannot be followed at once.

    Parameters
    ----------
    run : SecondOrderRun
    intervals : int or None
        The length; None: whole trajectories.
    everything : bool
        Whether all trajectories take part.
    """
    stage, why = run.attempt(intervals, everything)
    for _ in range(CLOSER):
        if why is None or run.trial or run.stopped or not _closer(run, intervals, everything):
            break
        stage, why = run.attempt(intervals, everything)
    if why == POOR and run.poor is not None:
        stage.status = run.poor()
    elif why is not None:
        run.left_out(stage, why)


def _closer(run: "SecondOrderRun", intervals: int | None, everything: bool) -> bool:
    """Fit windows halfway (by size) between those fitted last and those that were lost; returns whether that worked."""
    if run.fitted is None or run.fitted[0] is None or run.fitted[1] != everything:
        return False
    short = run.fitted[0]
    long = max(map(len, run.data.t)) - 1 if intervals is None else intervals
    between = round(np.sqrt(short * long))
    if between < NEARER * short:
        return False
    checkpoint = run.checkpoint
    run.checkpoint = None  # a run that is resumed comes here again
    _, why = run.attempt(between, everything)
    run.checkpoint = checkpoint
    return why is None


def lost(run: "SecondOrderRun", problem: ShootingProblem, state: LaplacePosterior, variance: Array) -> bool:
    """Whether windows this long are explained much worse than those before, as in chaos; notes how well they are.

    Parameters
    ----------
    run : SecondOrderRun
    problem : ShootingProblem
        Of the windows.
    state : LaplacePosterior
        Its solution.
    variance : (d,) array
        Variances of its residuals.

    Returns
    -------
    bool
    """
    assert state.free is not None
    residual = problem.residual(state.theta, state.free)
    seen = problem.root > 0
    unexplained = float(np.mean(residual[seen] ** 2) / np.mean((np.broadcast_to(run.spread, seen.shape))[seen]))
    worse = unexplained > (0.5 if state.status == "max_iter" else LOST) and unexplained > WORSE * run.unexplained
    worse = worse or (not run.recipe.own and bool(run.seen.all()) and rises(run, variance, BAD))
    run.unexplained = run.unexplained if worse else unexplained
    return worse


def rises(run: "SecondOrderRun", variance: Array, factor: float = RISE) -> bool:
    """Whether residuals with these variances (d,) are much larger than those of the stage before.

    Parameters
    ----------
    run : SecondOrderRun
    variance : (d,) array
    factor : float, default RISE

    Returns
    -------
    bool
    """
    if run.fitted is None or run.trial:
        return False
    before = np.fmax(run.variance, run.smoothed.variance)  # short windows may be fitted below the noise
    rise = variance > np.maximum(factor * before, SMALL * run.spread)
    return bool(rise[run.seen].any())


def start_again(run: "SecondOrderRun") -> None:
    """Train from other random parameters too where the residuals are not those of noise, over more windows at first.

    Where no stage could be solved: from small parameters that were not matched to slopes; those of readings far apart, or
    noisy, may be of a field that explodes.

    What follows the data longest is kept; of several one whose residuals are those of noise, then that of the highest
    evidence.

    Parameters
    ----------
    run : SecondOrderRun
        All its stages are done.
    """
    checkpoint = run.checkpoint
    run.checkpoint = None  # a run that is resumed comes here again
    for factor in SMALLER:
        if run.fitted is None and not run.stopped:
            _from(run, factor * run.recipe.starts[0])
            _all_windows(run)
    if not (run.stopped or run.fitted is None) and misfit(run).any():
        _compete(run)
    run.checkpoint = checkpoint


def _from(run: "SecondOrderRun", start: Array) -> None:
    """Nothing was fitted yet, and these are the parameters."""
    run.begin_again(start, [x.copy() for x in run.first_states])
    run.held = []


def _all_windows(run: "SecondOrderRun") -> None:
    """The stages on windows, and on whole trajectories."""
    for step in run.steps():
        if not run.stopped:
            run.shoot(*step)


def _compete(run: "SecondOrderRun") -> None:
    """What was fitted against fits from other random parameters; the best is kept."""
    recipe = run.recipe
    rank = _rank(run)
    best = run.reached()
    held = run.held
    for k in range(1, 1 + AGAIN):
        start = run.field.init(recipe.random_state + len(recipe.starts) + k)
        run.recipe = replace(recipe, starts=[start], plain=None, windows=_halved(run) if k == 1 else recipe.windows)
        _from(run, start)
        begun = len(run.training.stages)
        run.match()
        _all_windows(run)
        if _rank(run) <= rank:
            _forget(run, slice(begun, None))
        else:
            _forget(run, slice(begun))
            rank = _rank(run)
            best = run.reached()
            held = run.held
        if run.stopped or run.fitted is None or not misfit(run).any():
            break
    run.recipe = recipe
    run.held = held
    run.back_to(best)


def _halved(run: "SecondOrderRun") -> tuple[int | None, ...]:
    """Windows half as long to begin with, and twice as many: what is fast is followed before it is lost."""
    longest = max(map(len, run.data.t)) - 1
    found: list[int | None] = []
    for short, long in itertools.pairwise((*run.recipe.windows, None)):
        if short is None:
            break
        found += [short, round(np.sqrt(short * (longest if long is None else long)))]
    if run.recipe.windows[0] is not None:
        found.insert(0, max(2, run.recipe.windows[0] // 2))
    return (*found, None) if run.recipe.windows[-1] is None else tuple(found[:-1])


def _rank(run: "SecondOrderRun") -> tuple[bool, float, bool, float]:
    """What is better: whole trajectories, longer windows, residuals as those of noise, more evidence."""
    if run.fitted is None:
        return run.whole, -1.0, False, run.score()
    length = np.inf if run.fitted[0] is None else float(run.fitted[0])
    return run.whole, length, not misfit(run).any(), run.score()


def _forget(run: "SecondOrderRun", which: slice) -> None:
    """Mark stages as undone, that what is said of a fit is not about them."""
    for stage in run.training.stages[which]:
        stage.status = "left out" if stage.status == "left out" else "undone"
