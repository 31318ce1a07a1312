"""Training with gradients alone: Adam and L-BFGS, for fields and data too large for second order."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from pynode.calls.solve import solve
from pynode.errors import OK
from pynode.optim.adam import adam
from pynode.optim.lbfgs import lbfgs
from pynode.optim.normal_equations import small_matrices
from pynode.optim.result import FitInterrupted
from pynode.training.curriculum import LOST, WORSE, Run, Stage
from pynode.training.matching import MatchingObjective
from pynode.training.noise import HUBER
from pynode.training.objective import Minibatches, TrainingObjective

OPTIMIZERS = ("adam+lbfgs", "lbfgs", "adam")


MATCHING_FACTOR = 2
"""Iterations on slopes, which are cheap, relative to those on windows ..."""


MATCHING_LEAST = 200
"""... but not fewer, where those on windows are epochs."""


LATER = 0.25
"""Adam's learning rate on the windows of a stage, relative to that of the stage before: those start from a good fit."""


LOSSES = {"gaussian": "mse", "huber": "huber", "student": "student"}


@dataclass(frozen=True)
class FirstOrder:
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
    schedule : str or callable
        Of the learning rate, see `pynode.fit.schedules`.
    max_gradient : float or None
        See `adam`.
    batch_size : int or None
        Windows of a minibatch (Adam only), for the shortest windows; None: all.
    noise : {"gaussian", "huber", "student"}
    deviation : float
        That of the noise, roughly: the scale of a robust loss.
    penalty : (float, float)
        Kinetic energy and Jacobian norm.
    steer : float
    seed : int
        Of minibatches.
    """

    windows: tuple
    optimizer: str
    max_iter: int
    learning_rate: float
    decay: float
    weight: np.ndarray | None
    options: dict
    schedule: object = "cosine"
    max_gradient: float | None = None
    batch_size: int | None = None
    noise: str = "gaussian"
    deviation: float = 1.0
    penalty: tuple = (0.0, 0.0)
    steer: float = 0.0
    seed: int = 0

    @property
    def total_iterations(self):
        """The most iterations there can be."""
        return self.matching * (1 + (self.optimizer == "adam+lbfgs")) + self.max_iter * len(self.windows)

    @property
    def matching(self):
        """Iterations on slopes."""
        return max(MATCHING_FACTOR * self.max_iter, 0 if self.batch_size is None else MATCHING_LEAST)


class FirstOrderRun(Run):
    """The stages, by Adam and L-BFGS."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        weight = np.ones(self.field.d) if self.recipe.weight is None else self.recipe.weight
        seen = self.data.seen
        self.variance = np.mean((weight * self.data.spread)[seen])

    def surroundings(self):
        return small_matrices(1)

    def match(self):
        recipe = self.recipe
        found = self.known_slopes(None if recipe.batch_size is None else 100 * recipe.batch_size)
        if found is None:
            return
        t, y, slope, u = found
        objective = MatchingObjective(self.field, t, y, slope, recipe.decay, recipe.weight, u, self.coordinates)

        def keep(x):
            self.training.theta = self.coordinates.theta(x)

        stage = Stage("slopes")
        self.begin(stage)
        self._optimise(stage, objective, self._x, keep, lambda x: x, recipe.matching)

    def shoot(self, intervals, everything=True):
        recipe, cut = self.recipe, self.data.windows(intervals)
        stage = Stage("whole trajectories" if intervals is None else f"windows of {intervals}", len(cut))
        self.begin(stage, intervals)
        y0 = cut.initial(self.training.states)
        failed = np.asarray(self._solved(cut, y0).status) != OK
        if failed.sum() > len(cut) / 2:
            self.left_out(stage, "left out")
            return
        if failed.any():
            self.windows_left_out(stage, failed)
            cut, y0 = cut.take(np.flatnonzero(~failed)), y0[~failed]
        robust = {"loss": LOSSES[recipe.noise], "loss_scale": recipe.deviation * (HUBER if recipe.noise == "huber" else 1.0)}
        common = {"decay": recipe.decay, "weight": recipe.weight, "penalty": recipe.penalty, "coordinates": self.coordinates}
        common |= robust | recipe.options
        small = recipe.batch_size is not None or recipe.steer > 0
        objective: Any = (
            Minibatches(self.field, cut, y0, self._batch_size(cut), recipe.seed, recipe.steer, **common)
            if small
            else TrainingObjective(self.field, cut, y0, **common)
        )
        before = (self.training.theta, [x.copy() for x in self.training.states]), self.training.stages[-2:-1]

        def keep(z):
            x, y0 = objective.split(z)
            self.training.theta = self.coordinates.theta(x)
            sol = self._solved(cut, y0)
            self.keep_states(cut, np.arange(len(self.data)), np.concatenate(sol.y), sol.status)

        iterations = recipe.max_iter * (objective.n_batches if small else 1)
        try:
            self._optimise(
                stage, objective, lambda: objective.join(self._x()), keep, lambda z: objective.split(z)[0], iterations
            )
        finally:
            stage.nfe = objective.nfe
            stage.failed += getattr(objective, "failed", 0)
        (theta, states), last = before
        gaussian = recipe.noise == "gaussian" and last and last[0].windows
        if gaussian and stage.loss > max(LOST * self.variance, WORSE * last[0].loss) and not self.stopped:
            self.training.theta, self.training.states = theta, states
            self.left_out(stage, "undone")
            self.stopped = True

    def _batch_size(self, cut):
        """Windows of a minibatch: of longer ones fewer, so that an epoch has as many iterations in each stage."""
        if self.recipe.batch_size is None:
            return len(cut)
        short = len(self.data.windows(self.recipe.windows[0]))
        return max(1, round(self.recipe.batch_size * len(cut) / short))

    def _solved(self, cut, y0):
        """Windows solved with the parameters as they are."""
        theta, options = self.training.theta, self.recipe.options
        return solve(self.field, y0, cut.t, theta, inputs=cut.signal, errors="ignore", **options)

    def _x(self):
        return self.coordinates.x(self.training.theta)

    def _optimise(self, stage, objective, start, keep, x_of, max_iter):
        first = len(self.training.stages) == 1
        recipe = self.recipe
        for name in recipe.optimizer.split("+"):
            if hasattr(objective, "draw"):
                name = "adam"
            elif name == "adam" and recipe.optimizer != "adam" and not first:
                continue
            if stage.windows and self.checkpoint is not None and self.checkpoint.at_work not in (None, name):
                continue  # done before the checkpoint was written
            started = time.perf_counter()
            options = {}
            if name == "adam":
                rate = recipe.learning_rate * LATER ** max(sum(s.windows > 0 for s in self.training.stages) - 1, 0)
                options = {"learning_rate": rate, "schedule": recipe.schedule, "max_gradient": recipe.max_gradient}
            if stage.windows:
                options["checkpoint"] = self.checkpoint

            def after_iteration(iteration):
                theta = self.coordinates.theta(x_of(iteration.theta))
                return self.record(stage, iteration.loss, iteration.gradient_norm, iteration.nfe, theta, (iteration.theta,))

            minimise = adam if name == "adam" else lbfgs
            try:
                result = minimise(objective, start(), max_iter=max_iter, callback=after_iteration, **options)
            except FitInterrupted as interrupt:
                self._finish(stage, interrupt.result, keep, started)
                raise
            self._finish(stage, result, keep, started)
            if self.stopped or hasattr(objective, "draw"):
                return

    def _finish(self, stage, result, keep, started):
        best = result.theta
        if self.stopping is not None and self.stopping.kept is not None:
            (best,) = self.stopping.kept
        keep(best)
        stage.status, stage.loss = result.status, result.loss
        if result.status == "stopped" and not self.stopped:
            stage.status = "early"
        stage.iterations = self.training.history["stage"].count(len(self.training.stages) - 1)
        stage.evaluations += result.n_evaluations
        stage.seconds += time.perf_counter() - started
