"""The state of training on trajectories: its stages, its parameters and its states along the data."""

from dataclasses import asdict, dataclass
from dataclasses import field as _field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pynode.optim.result import HISTORY
from pynode.training.smoothing import Smoothed
from pynode.training.windows import Data

Array = NDArray[np.float64]

STAGED_HISTORY = ("stage", *HISTORY)
"""The columns of the history of staged training; "stage" is an index into its stages."""


@dataclass
class Stage:
    """A stage of training, and how it went.

    Attributes
    ----------
    name : str
        "slopes", "windows of 10", "whole trajectories", ...
    windows : int
        How many windows it is trained on; 0 while matching slopes.
    status : str
        "running", the status of the optimiser, "early" (early stopping), "left out" or "undone".
    loss : float
        The loss at the end.
    iterations, evaluations : int
        Iterations of the optimiser, and calls of its objective.
    seconds : float
        How long it took.
    nfe : int
        Evaluations of the field in forward solves.
    failed : int
        Windows left out because they could not be solved (with minibatches: failures in all iterations).
    intervals : int or None
        Length of the windows in intervals between times; None: whole trajectories, or slopes.
    trial : bool
        It was done on trial, and the fit does not rest on it.
    """

    name: str
    windows: int = 0
    status: str = "running"
    loss: float = np.inf
    iterations: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    nfe: int = 0
    failed: int = 0
    intervals: int | None = None
    trial: bool = False

    @property
    def kept(self) -> bool:
        """Whether the fit rests on it: it worked, and was no trial unless training was stopped there."""
        return self.status == "stopped" or not (self.trial or self.status in ("undone", "left out"))


def first_states(data: Data, smoothed: Smoothed) -> list[Array]:
    """The smoothed states; where a trajectory never observes a state its mean, or 0."""
    known = np.concatenate(smoothed.y)
    mean = np.zeros(data.d)
    seen = ~np.isnan(known).all(axis=0)
    mean[seen] = np.nanmean(known[:, seen], axis=0)
    return [np.where(np.isnan(x), mean, x) for x in smoothed.y]


@dataclass
class Training:
    """The state of training, usable at any time.

    Attributes
    ----------
    theta : (p,) array
        The parameters reached.
    states : list of (T_i, d) arrays
        Estimates of the states at the times of the data.
    stages : list of Stage
        The stages so far.
    history : dict of lists
        The columns of STAGED_HISTORY, with one entry for each iteration.
    warnings : list of str
        The warnings so far.
    """

    theta: Array
    states: list[Array]
    stages: list[Stage] = _field(default_factory=list)
    history: dict[str, list[float]] = _field(default_factory=lambda: {name: [] for name in STAGED_HISTORY})
    warnings: list[str] = _field(default_factory=list)

    @classmethod
    def start(cls, theta: Array, data: Data, smoothed: Smoothed) -> Self:
        """Before the first stage."""
        return cls(theta, first_states(data, smoothed))

    @property
    def stage_dicts(self) -> list[dict[str, Any]]:
        """The stages as plain data."""
        return [asdict(stage) for stage in self.stages]
