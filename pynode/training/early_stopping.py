"""Early stopping: data that take no part in training, and the best parameters for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.calls.solve import solve
from pynode.fields.field import Field
from pynode.training.windows import Data

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Holdout:
    """Trajectories that take no part in training: each stage keeps the best parameters for them.

    Attributes
    ----------
    data : Data
        The trajectories.
    states : list of (T_i, d) arrays
        Their smoothed states, from which the solves over the windows of a stage start.
    patience : int
        A stage ends after this many iterations without improvement.
    places : (B,) int array
        Their positions among all trajectories.
    """

    data: Data
    states: list[Array]
    patience: int
    places: NDArray[np.intp]


class EarlyStopping:
    """The lowest loss on held-out data so far, what belongs to it, and how long ago that was.

    Parameters
    ----------
    loss : callable
        theta -> float, the loss on the held-out data; infinite where it cannot be computed.
    patience : int
        Training should stop after this many calls without improvement.

    Attributes
    ----------
    best : float
        The lowest loss.
    kept : tuple of arrays or None
        The arrays that were given with the lowest loss; None while there has been no finite loss.
    waited : int
        Calls since the lowest loss.
    """

    def __init__(self, loss: Callable[[Array], float], patience: int) -> None:
        self.loss = loss
        self.patience = patience
        self.best = np.inf
        self.kept: tuple[Array, ...] | None = None
        self.waited = 0

    @property
    def tired(self) -> bool:
        """Whether training should stop."""
        return self.waited >= self.patience

    def __call__(self, theta: Array, kept: Sequence[Array]) -> float:
        """The loss of theta on the held-out data; `kept` is remembered if it is the lowest so far."""
        value = self.loss(theta)
        if value < self.best:
            self.best = value
            self.kept = tuple(np.copy(x) for x in kept)
            self.waited = 0
        else:
            self.waited += 1
        return value

    def saved(self) -> dict[str, Any]:
        """The state as plain data."""
        return {"best": self.best, "kept": None if self.kept is None else list(self.kept), "waited": self.waited}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from `saved()`."""
        self.best = saved["best"]
        self.waited = saved["waited"]
        self.kept = None if saved["kept"] is None else tuple(saved["kept"])


def split(
    n: int, fraction: float, random_state: int, what: str = "trajectories"
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(kept, aside): which of n to train on, and which to hold out; at least one each."""
    if n < 2:
        raise ValueError(f"early_stopping keeps {what} aside, so there must be two or more")
    # the random states of the members of an ensemble differ by multiples of 1000: all hold the same ones out
    order = np.random.default_rng([random_state % 1000, 2]).permutation(n)
    aside = min(max(1, round(fraction * n)), n - 1)
    return np.sort(order[aside:]), np.sort(order[:aside])


def split_classes(index: NDArray[Any], fraction: float, random_state: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """`split` for each class by itself, so that every class is trained on; index (n,) is the class of each sample."""
    members = [np.flatnonzero(index == c) for c in np.unique(index)]
    alone = (np.zeros(1, np.intp), np.zeros(0, np.intp))
    parts = [split(len(m), fraction, random_state) if len(m) > 1 else alone for m in members]
    kept, aside = (np.sort(np.concatenate([m[p[i]] for m, p in zip(members, parts, strict=True)])) for i in (0, 1))
    if not len(aside):
        raise ValueError("early_stopping keeps samples of each class aside, so one class must have two or more")
    return kept, aside


class WindowsStopping(EarlyStopping):
    """Early stopping by the mean squared error of held-out trajectories over windows, in units of their variance."""

    def __init__(self, field: Field, holdout: Holdout, intervals: int | None, options: dict[str, Any]) -> None:
        super().__init__(self._error, holdout.patience)
        self.windows = holdout.data.windows(intervals)
        self.field = field
        self.options = options | {"inputs": self.windows.signal}
        self.y0 = self.windows.initial(holdout.states)
        self.target = np.concatenate(self.windows.y)
        self.spread = holdout.data.spread

    def _error(self, theta: Array) -> float:
        sol = solve(self.field, self.y0, self.windows.t, theta, errors="ignore", **self.options)
        squares = (np.concatenate(sol.y) - self.target) ** 2 / self.spread
        mean = np.where(np.isnan(self.target), 0.0, squares).sum() / np.count_nonzero(~np.isnan(self.target))
        return float(mean) if np.isfinite(mean) else np.inf
