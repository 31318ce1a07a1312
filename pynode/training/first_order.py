"""Training with gradients alone, by Adam and L-BFGS: for fields and data too large for second order."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.calls.solve import solve
from pynode.errors import OK
from pynode.optim.adam import adam
from pynode.optim.lbfgs import lbfgs
from pynode.optim.normal_equations import small_matrices
from pynode.optim.result import FitInterrupted, FitResult, Iteration
from pynode.training.curriculum import LOST, WORSE, Run
from pynode.training.matching import MatchingObjective
from pynode.training.noise import HUBER
from pynode.training.objective import Minibatches, TrainingObjective
from pynode.training.recipe import Kind
from pynode.training.rivals import contest
from pynode.training.state import Stage
from pynode.training.windows import Windows

Array = NDArray[np.float64]

OPTIMIZERS = ("adam+lbfgs", "lbfgs", "adam")

MATCHING_FACTOR = 2
"""Iterations on slopes, which are cheap, relative to those on windows ..."""

MATCHING_LEAST = 200
"""... but not fewer than this where the iterations on windows are epochs."""

LATER = 0.25
"""Adam's learning rate on the windows of a stage, relative to the stage before: later stages start from a good fit."""

LOSSES = {"gaussian": "mse", "huber": "huber", "student": "student"}
"""The loss for each kind of noise."""


@dataclass(frozen=True)
class FirstOrder:
    """How to train by gradients alone: the options of a `FirstOrderRun`.

    Attributes
    ----------
    windows : tuple of int or None
        Lengths of the windows in intervals between times, one for each stage; None: whole trajectories.
    optimizer : {"adam+lbfgs", "lbfgs", "adam"}
        "adam+lbfgs": L-BFGS, and before it Adam in the first stage, which starts from random parameters.
    max_iter : int
        The most iterations of a stage on windows.
    learning_rate : float
        Adam's learning rate.
    decay : float
        The strength of the prior, see `TrainingObjective`.
    weight : (d,) array or None
        Weights of the states in the loss.
    options : dict
        Options of `pynode.solve`.
    schedule : str or callable
        How the learning rate changes, see `pynode.fit.schedules`.
    max_gradient : float or None
        Longer gradients are shortened, see `pynode.fit.adam`.
    batch_size : int or None
        How many of the shortest windows a minibatch has (Adam only); None: all.
    noise : {"gaussian", "huber", "student"}
        The distribution of the noise, which gives the loss.
    deviation : float
        The standard deviation of the noise, roughly: the scale of a robust loss.
    penalty : (float, float)
        Weights of kinetic energy and Jacobian norm, see `pynode.fit.with_penalty`.
    steer : float
        By how much end times are moved at random, see `Minibatches`.
    random_state : int
        Seed of the minibatches.
    own : bool
        The field is a user's own, see `pynode.training.rivals`.
    kind : {"own", "found", "network"}
        What the field is, see `pynode.training.recipe`.
    """

    windows: tuple[int | None, ...]
    optimizer: str
    max_iter: int
    learning_rate: float
    decay: float
    weight: Array | None
    options: dict[str, Any]
    schedule: str | Callable[[float], float] = "cosine"
    max_gradient: float | None = None
    batch_size: int | None = None
    noise: str = "gaussian"
    deviation: float = 1.0
    penalty: tuple[float, float] = (0.0, 0.0)
    steer: float = 0.0
    random_state: int = 0
    own: bool = False
    kind: Kind = "network"

    @property
    def total_iterations(self) -> int:
        """The most iterations that there can be."""
        return self.matching * (1 + (self.optimizer == "adam+lbfgs")) + self.max_iter * len(self.windows)

    @property
    def matching(self) -> int:
        """The most iterations on slopes."""
        return max(MATCHING_FACTOR * self.max_iter, 0 if self.batch_size is None else MATCHING_LEAST)


class FirstOrderRun(Run):
    """Training by Adam and L-BFGS; see `Run` for the order in which it goes.

    Each stage minimises a `MatchingObjective` (slopes), a `TrainingObjective` (windows) or `Minibatches`, by the optimisers
    that `recipe.optimizer` names, one after the other. A stochastic objective is left to Adam alone.

    Attributes
    ----------
    recipe : FirstOrder
        How to train.
    variance : float
        The mean weighted variance of the states that are observed: the loss of a model that explains nothing.
    """

    recipe: FirstOrder
    objective: TrainingObjective | Minibatches | None

    def prepare(self) -> None:
        weight = np.ones(self.field.d) if self.recipe.weight is None else self.recipe.weight
        self.variance = float(np.mean((weight * self.data.spread)[self.data.seen]))
        self.objective = None

    def surroundings(self) -> AbstractContextManager[object]:
        return small_matrices(1)

    def counts(self) -> dict[str, int]:
        if self.objective is None:
            matching = self.position == 0 and self.training.stages
            return {"evaluations": self.training.stages[-1].evaluations} if matching else {}
        failed = self.objective.failed if isinstance(self.objective, Minibatches) else 0
        return {"nfe": self.objective.nfe, "failed": failed, "evaluations": self.training.stages[-1].evaluations}

    def match(self) -> None:
        recipe = self.recipe
        if self.guess_states():
            return
        found = self.known_slopes(None if recipe.batch_size is None else 100 * recipe.batch_size)
        if found is None:
            return
        t, y, slope, u = found
        objective = MatchingObjective(self.field, t, y, slope, recipe.decay, recipe.weight, u, self.coordinates)

        def keep(x: Array) -> None:
            self.training.theta = self.coordinates.theta(x)

        stage = Stage("slopes", evaluations=self.found_counts.get("evaluations", 0))
        self.found_counts = {}
        self.begin(stage)
        self._optimise(stage, objective, self._x, keep, lambda x: x, recipe.matching)

    def shoot(self, intervals: int | None, everything: bool = True) -> None:
        cut = self.data.windows(intervals)
        stage = self.stage_on(cut, intervals)
        self.begin(stage)
        y0 = self.within(cut.initial(self.training.states))
        failed = np.asarray(self._solved(cut, y0).status) != OK
        if failed.sum() > len(cut) / 2:
            self.left_out(stage, "left out")
            return
        if failed.any():
            self.windows_left_out(stage, failed)
            cut = cut.take(np.flatnonzero(~failed))
            y0 = y0[~failed]
        objective = self._objective(cut, y0, stage)
        theta = self.training.theta
        states = [x.copy() for x in self.training.states]
        last = self.training.stages[-2:-1]

        def keep(z: Array) -> None:
            x, y0 = objective.split(z)
            self.training.theta = self.coordinates.theta(x)
            sol = self._solved(cut, y0)
            self.keep_states(cut, np.arange(len(self.data)), np.concatenate(sol.y), sol.status)

        n_batches = objective.n_batches if isinstance(objective, Minibatches) else 1
        try:
            self._optimise(
                stage,
                objective,
                lambda: objective.join(self._x()),
                keep,
                lambda z: objective.split(z)[0],
                self.recipe.max_iter * n_batches,
            )
        finally:
            stage.nfe = objective.nfe
            stage.failed += objective.failed if isinstance(objective, Minibatches) else 0
            self.objective = None
        gaussian = self.recipe.noise == "gaussian" and last and last[0].windows
        if gaussian and stage.loss > max(LOST * self.variance, WORSE * last[0].loss) and not self.stopped:
            self.training.theta = theta
            self.training.states = states
            self.left_out(stage, "undone")
            self.whole = False
            self.gave_up = True

    def compete(self) -> None:
        recipe = self.recipe
        if recipe.own and recipe.batch_size is None and not recipe.steer:
            contest(self, recipe.noise, np.zeros(self.field.d))

    def _objective(self, cut: Windows, y0: Array, stage: Stage) -> TrainingObjective | Minibatches:
        """The objective of a stage on windows; its counters go on from those of a checkpoint."""
        recipe = self.recipe
        common: dict[str, Any] = {
            "decay": recipe.decay,
            "weight": recipe.weight,
            "penalty": recipe.penalty,
            "coordinates": self.coordinates,
            "loss": LOSSES[recipe.noise],
            "loss_scale": recipe.deviation * (HUBER if recipe.noise == "huber" else 1.0),
        } | recipe.options
        objective: TrainingObjective | Minibatches
        if recipe.batch_size is not None or recipe.steer > 0:
            objective = Minibatches(self.field, cut, y0, self._batch_size(cut), recipe.random_state, recipe.steer, **common)
            objective.failed = self.found_counts.get("failed", 0)
        else:
            objective = TrainingObjective(self.field, cut, y0, **common)
        objective.nfe = self.found_counts.get("nfe", 0)
        stage.evaluations = self.found_counts.get("evaluations", 0)
        self.found_counts = {}
        self.objective = objective
        return objective

    def _batch_size(self, cut: Windows) -> int:
        """How many windows a minibatch has: fewer of longer ones, so that epochs of all stages have as many iterations."""
        if self.recipe.batch_size is None:
            return len(cut)
        short = len(self.data.windows(self.recipe.windows[0]))
        return max(1, round(self.recipe.batch_size * len(cut) / short))

    def _solved(self, cut: Windows, y0: Array) -> Any:
        """The solution over windows with the parameters as they are."""
        theta = self.training.theta
        return solve(self.field, y0, cut.t, theta, inputs=cut.signal, errors="ignore", **self.recipe.options)

    def _x(self) -> Array:
        return self.coordinates.x(self.training.theta)

    def _optimise(
        self,
        stage: Stage,
        objective: Callable[[Array], tuple[float, Array]],
        start: Callable[[], Array],
        keep: Callable[[Array], None],
        x_of: Callable[[Array], Array],
        max_iter: int,
    ) -> None:
        """Minimise the objective of a stage by the optimisers of the recipe, one after the other.

        Parameters
        ----------
        stage : Stage
            The stage, open.
        objective : callable
            z -> (loss, gradient).
        start : callable
            () -> z, where to start.
        keep : callable
            keep(z) updates `training` with the best z.
        x_of : callable
            z -> x, its coordinates of theta.
        max_iter : int
            The most iterations of each optimiser.
        """
        first = len(self.training.stages) == 1
        stochastic = hasattr(objective, "draw")
        for name in self.recipe.optimizer.split("+"):
            if stochastic:
                name = "adam"
            elif name == "adam" and self.recipe.optimizer != "adam" and not first:
                continue
            if self.checkpoint is not None and self.checkpoint.at_work not in (None, name):
                continue  # done before the checkpoint was written
            started = time.perf_counter()

            def after_iteration(iteration: Iteration) -> bool:
                assert iteration.theta is not None
                theta = self.coordinates.theta(x_of(iteration.theta))
                return self.record(stage, iteration.loss, iteration.gradient_norm, iteration.nfe, theta, (iteration.theta,))

            minimise: Callable[..., FitResult] = adam if name == "adam" else lbfgs
            options = self._options_of(name)
            try:
                result = minimise(objective, start(), max_iter=max_iter, callback=after_iteration, **options)
            except FitInterrupted as interrupt:
                self._finish(stage, interrupt.result, keep, started)
                raise
            self._finish(stage, result, keep, started)
            if self.stopped or stochastic:
                return

    def _options_of(self, name: str) -> dict[str, Any]:
        """The options of an optimiser in a stage."""
        recipe = self.recipe
        options: dict[str, Any] = {}
        if name == "adam":
            rate = recipe.learning_rate * LATER ** max(sum(s.windows > 0 for s in self.training.stages) - 1, 0)
            options = {"learning_rate": rate, "schedule": recipe.schedule, "max_gradient": recipe.max_gradient}
        return options | {"checkpoint": self.checkpoint}

    def _finish(self, stage: Stage, result: FitResult, keep: Callable[[Array], None], started: float) -> None:
        """Keep the result of an optimiser, or that of early stopping."""
        best = result.theta
        if self.early_stopping is not None and self.early_stopping.kept is not None:
            (best,) = self.early_stopping.kept
        keep(best)
        stage.status = result.status
        stage.loss = result.loss
        if result.status == "stopped" and not self.stopped:
            stage.status = "early"
        stage.iterations = self.training.history["stage"].count(len(self.training.stages) - 1)
        stage.evaluations += result.n_evaluations
        stage.seconds += time.perf_counter() - started
