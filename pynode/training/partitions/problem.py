"""Nonlinear least squares over partitions, as optimisers see it: the parameters alone, each point one pass over the data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from pynode.data.partitions import Partitions
from pynode.optim.normal_equations import Linearised
from pynode.optim.posterior import LaplacePosterior
from pynode.training.curriculum import NOTHING_SOLVED, FitError
from pynode.training.partitions.sums import Sums, Task, sums

Array = NDArray[np.float64]

REWEIGH = 0.02
"""Weights are computed anew, which takes another pass, where a variance of the noise is off by more than this part."""


class PartitionProblem:
    """A `pynode.optim.normal_equations.Problem` whose residuals are those of partitions, initial states following x.

    Loss and normal equations of a point are one pass over all partitions: what `loss` finds, `linearise` has.

    Parameters
    ----------
    partitions : Partitions
    task : Task
        What is computed of each.
    variance : (d,) array
        The variance of the noise of each state, to begin with; 1 / variance weighs squares.
    least : (d,) array
        The variance below which residuals are rounding.

    Attributes
    ----------
    failed : dict of int -> int array
        Partition -> trajectories (or windows) that could not be solved at the start; they take no part.
    n_failed, n_windows, n_free : int
        How many these are, how many take part, and the numbers in their initial states.
    passes : int
        Passes over the data so far.
    """

    def __init__(self, partitions: Partitions, task: Task, variance: Array, least: Array) -> None:
        self.partitions = partitions
        self.task = task
        self.variance = variance
        self.least = least
        self.failed: dict[int, NDArray[np.intp]] = {}
        self.passes = 0
        self.nfe = 0
        self.n_observed = 0
        self.n_free = 0
        self.n_windows = 0
        self.here: tuple[bytes, Sums] | None = None

    @property
    def n_failed(self) -> int:
        """Trajectories, or windows, that take no part."""
        return sum(map(len, self.failed.values()))

    def begin(self, x: Array) -> None:
        """Find what can be solved at x, where a fit starts.

        Raises
        ------
        FitError
            Not even half of it can.
        """
        found = self.at(x)
        if found.failed:
            if len([i for which in found.failed.values() for i in which]) > found.n_windows:
                raise FitError(NOTHING_SOLVED)
            self.failed = found.failed
            self.here = None
            found = self.at(x)
        self.n_observed = int(found.count.sum())
        self.n_windows = found.n_windows
        self.n_free = found.n_windows * len(self.variance)

    def at(self, x: Array) -> Sums:
        """The sums at x, with the weights as they are."""
        key = x.tobytes() + self.variance.tobytes()
        if self.here is None or self.here[0] != key:
            found = self.partitions.total(sums, self.task, x, self.variance, self.failed)
            self.here = key, found
            self.passes += 1
            self.nfe += found.nfe
        return self.here[1]

    def loss(self, x: Array, free: None = None) -> float:
        """The weighted sum of squares; infinite where a trajectory cannot be solved."""
        return self.at(x).loss

    def linearise(self, x: Array, free: None = None) -> Linearised | None:
        """The normal equations; None where a trajectory cannot be solved."""
        found = self.at(x)
        usable = np.isfinite(found.loss) and np.isfinite(found.H).all() and np.isfinite(found.g).all()
        return Linearised(found.loss, found.H, found.g) if usable else None

    def gradient(self, x: Array) -> tuple[float, Array]:
        """(loss, its gradient); the loss is infinite where a trajectory cannot be solved."""
        found = self.at(x)
        return found.loss, 2 * found.g

    def estimated(self, x: Array) -> Array:
        """(d,) the variances of the residuals at x."""
        found = self.at(x)
        return np.maximum(found.squares / np.maximum(found.count, 1), self.least)

    def reweigh(self, x: Array) -> None:
        """Weigh squares by the variances at x, where those that are used are off."""
        now = self.estimated(x)
        if (np.abs(now - self.variance) > REWEIGH * self.variance).any():
            self.variance = now

    def saved(self) -> dict[str, Any]:
        """The state as plain data, for checkpoints."""
        failed = [[k, which] for k, which in self.failed.items()]
        counts = [self.n_observed, self.n_windows, self.passes]
        return {"variance": self.variance, "failed": failed, "counts": counts}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from `saved()`."""
        self.variance = saved["variance"]
        self.failed = {int(k): which for k, which in saved["failed"]}
        self.n_observed, self.n_windows = saved["counts"][:2]
        self.passes = saved["counts"][2]
        self.n_free = self.n_windows * len(self.variance)


def promised(problem: PartitionProblem, state: LaplacePosterior) -> float:
    """By how much the next step lowers beta E + the prior: the squared length of the step in standard errors."""
    here = problem.linearise(state.theta)
    if here is None:
        return np.inf
    K = state.beta * here.H
    K[np.diag_indices_from(K)] += state.alpha
    gradient = state.beta * here.g + state.alpha * state.theta
    try:
        return float(gradient @ cho_solve(cho_factor(K), gradient))
    except np.linalg.LinAlgError:
        return np.inf
