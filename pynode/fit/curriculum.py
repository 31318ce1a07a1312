"""Training by steps: slopes first, then short windows of the data, then longer ones, then whole trajectories.

Long rollouts of an untrained field make a loss full of bad minima; slopes of smoothed data make one that is
nearly linear, and each step starts from the one before. The initial state of every window is free.
"""

import time
import warnings
from dataclasses import asdict, dataclass
from dataclasses import field as _field

import numpy as np

from pynode.fit.adam import adam
from pynode.fit.lbfgs import lbfgs
from pynode.fit.matching import MatchingObjective
from pynode.fit.objective import TrainingObjective, Windows
from pynode.fit.result import FitInterrupted
from pynode.solving import solve

OPTIMIZERS = ("adam+lbfgs", "lbfgs", "adam")
MATCHING_FACTOR = 2
"""Iterations on slopes, which are cheap, relative to those on windows."""

LOST, WORSE = 0.1, 2.0
"""A stage is undone if it leaves more than this fraction of the variance unexplained, this factor more than
the one before: over windows that long the data cannot be followed, as in chaos."""


NOTHING_SOLVED = (
    "the field could not be solved along the data with any parameters tried: "
    "shorter windows, smaller `hidden`, or another `method` may help"
)


class FitError(RuntimeError):
    """The field cannot be trained on these data."""


class FitWarning(UserWarning):
    """A stage of training was left out."""


@dataclass
class Stage:
    """One step of training, and how it went.

    Attributes
    ----------
    name : str
    windows : int
        How many pieces of trajectories; 0 while matching slopes.
    status, loss, iterations, evaluations, seconds, nfe : the outcome
        nfe: evaluations of the field in forward solves.
    """

    name: str
    windows: int = 0
    status: str = "running"
    loss: float = np.inf
    iterations: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    nfe: int = 0


@dataclass
class Training:
    """The state of training, usable at any time.

    Attributes
    ----------
    theta : (p,) array
    states : list of (T_i, d) arrays
        Estimates of the states at the times of the data.
    stages : list of Stage
    history : dict of lists
        stage (index), loss, gradient_norm, seconds: an entry an iteration.
    """

    theta: np.ndarray
    states: list
    stages: list = _field(default_factory=list)
    history: dict = _field(default_factory=lambda: {"stage": [], "loss": [], "gradient_norm": [], "seconds": []})

    @classmethod
    def start(cls, theta, y, smoothed):
        """Before the first stage: states are smoothed; the mean, where a trajectory never observes one."""
        mean = np.nanmean(np.concatenate(y), axis=0)
        return cls(theta, [np.where(np.isnan(x), mean, x) for x in smoothed.y])

    @property
    def report(self):
        """The stages as plain data."""
        return [asdict(stage) for stage in self.stages]


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes
    ----------
    windows : tuple of int or None
        Lengths of the windows in intervals between times, one a stage; None: whole trajectories.
    optimizer : {"adam+lbfgs", "lbfgs", "adam"}
        "adam+lbfgs": Adam first where training starts from random parameters, L-BFGS for the rest.
    max_iter : int
        Iterations of a stage on windows.
    learning_rate : float
        Of Adam.
    decay : float
        See `TrainingObjective`.
    weight : (d,) array or None
        Of the states in the loss.
    options : dict
        Of `pynode.solve`.
    """

    windows: tuple
    optimizer: str
    max_iter: int
    learning_rate: float
    decay: float
    weight: np.ndarray | None
    options: dict

    @property
    def total_iterations(self):
        """The most iterations there can be."""
        return self.max_iter * (MATCHING_FACTOR * (1 + (self.optimizer == "adam+lbfgs")) + len(self.windows))


def default_windows(lengths, growth=3):
    """Lengths of windows, growing from at most ten intervals to whole trajectories."""
    longest = max(lengths) - 1
    sizes = [max(1, min(10, round(longest / 3)))]
    while 1.5 * growth * sizes[-1] < longest:  # at least two windows
        sizes.append(growth * sizes[-1])
    return (*sizes, None)


def train(field, t, y, training, smoothed, plan, callback=None):
    """Train a field on trajectories.

    Parameters
    ----------
    field : Field
    t : list of (T_i,) arrays
    y : list of (T_i, d) arrays
        NaN: not observed.
    training : Training
        Where to start (see `Training.start`); it is changed in place, so that an interrupt loses nothing.
    smoothed : Smoothed
    plan : Plan
    callback : callable, optional
        callback(Stage, Iteration) after each iteration; return True to stop training.

    Raises
    ------
    FitError
        No stage could be solved.
    FitInterrupted
        Ctrl-C.
    """
    run = _Run(field, t, y, plan, callback, training)
    run.match(smoothed)
    for intervals in dict.fromkeys(plan.windows):
        if run.stopped:
            break
        run.windows(intervals)
    if not run.stopped and not any(stage.windows and stage.status != "left out" for stage in training.stages):
        raise FitError(NOTHING_SOLVED)


class _Run:
    """The stages of one training."""

    def __init__(self, field, t, y, plan, callback, training):
        self.field, self.t, self.y, self.plan, self.callback, self.training = (
            field,
            t,
            y,
            plan,
            callback,
            training,
        )
        self.start, self.stopped = time.perf_counter(), False
        variance = np.nanvar(np.concatenate(y), axis=0)
        self.variance = np.mean(variance if plan.weight is None else plan.weight * variance)

    def match(self, smoothed):
        """Fit the slopes of smoothed data, where there are any."""
        t, states, slope = (np.concatenate(parts) for parts in (self.t, smoothed.y, smoothed.slope))
        known = ~np.isnan(slope).any(axis=1)
        if known.sum() < 2 or self.field.n_params == 0:
            return
        objective = MatchingObjective(self.field, t[known], states[known], slope[known], self.plan.decay, self.plan.weight)
        stage = Stage("slopes")
        self._optimise(
            stage,
            objective,
            lambda: self.training.theta,
            self._keep_theta,
            MATCHING_FACTOR * self.plan.max_iter,
        )

    def windows(self, intervals):
        """Fit windows of this many intervals."""
        cut = Windows.cut(self.t, self.y, intervals)
        y0 = np.stack([self.training.states[i][j] for i, j in cut.source])
        objective = TrainingObjective(self.field, cut, y0, self.plan.decay, self.plan.weight, **self.plan.options)
        stage = Stage("whole trajectories" if intervals is None else f"windows of {intervals}", len(cut))

        def keep(x):
            theta, y0 = objective.split(x)
            self.training.theta = theta
            sol = solve(self.field, y0, cut.t, theta, errors="ignore", **self.plan.options)
            for (i, j), states in zip(cut.source, sol.y, strict=True):
                good = np.isfinite(states).all(axis=1)
                self.training.states[i][j : j + len(states)][good] = states[good]

        if not np.isfinite(objective(objective.join(self.training.theta))[0]):
            stage.status = "left out"
            self.training.stages.append(stage)
            warnings.warn(
                f"the field could not be solved over {stage.name}; this stage was left out",
                FitWarning,
                stacklevel=4,
            )
            return
        before, last = (
            (self.training.theta, [x.copy() for x in self.training.states]),
            self.training.stages[-1:],
        )
        try:
            self._optimise(stage, objective, lambda: objective.join(self.training.theta), keep, self.plan.max_iter)
        finally:
            stage.nfe = objective.nfe
        if last and last[0].windows and stage.loss > max(LOST * self.variance, WORSE * last[0].loss) and not self.stopped:
            self.training.theta, self.training.states = before
            stage.status, self.stopped = "undone", True
            warnings.warn(
                f"the data cannot be followed over {stage.name} (chaos, or too few iterations): "
                f"the parameters fitted to {last[0].name} are kept",
                FitWarning,
                stacklevel=4,
            )

    def _keep_theta(self, theta):
        self.training.theta = theta

    def _optimise(self, stage, objective, start, keep, max_iter):
        first = not self.training.stages
        self.training.stages.append(stage)
        for name in self.plan.optimizer.split("+"):
            if name == "adam" and self.plan.optimizer != "adam" and not first:
                continue
            started = time.perf_counter()
            options = {"learning_rate": self.plan.learning_rate} if name == "adam" else {}
            minimise = adam if name == "adam" else lbfgs
            try:
                result = minimise(objective, start(), max_iter=max_iter, callback=self._callback(stage), **options)
            except FitInterrupted as interrupt:
                self._finish(stage, interrupt.result, keep, started)
                raise
            self._finish(stage, result, keep, started)
            if result.status == "stopped":
                self.stopped = True
                return

    def _callback(self, stage):
        index, history = len(self.training.stages) - 1, self.training.history

        def after_iteration(iteration):
            for name, value in (
                ("stage", index),
                ("loss", iteration.loss),
                ("gradient_norm", iteration.gradient_norm),
                ("seconds", time.perf_counter() - self.start),
            ):
                history[name].append(value)
            return self.callback is not None and self.callback(stage, iteration) is True

        return after_iteration

    def _finish(self, stage, result, keep, started):
        keep(result.theta)
        stage.status, stage.loss = result.status, result.loss
        stage.iterations += result.n_iter
        stage.evaluations += result.n_evaluations
        stage.seconds += time.perf_counter() - started
