"""Early stopping: data kept aside, and the best parameters for them."""

from dataclasses import dataclass

import numpy as np

from pynode.data.arrays import as_positive


@dataclass(frozen=True)
class Holdout:
    """Trajectories that take no part in training; the stage's best parameters for them are kept.

    Attributes
    ----------
    data : Data
    states : list of (T_i, d) arrays
        Smoothed states, from which rollouts over the stage's windows start.
    patience : int
        Iterations without improvement after which a stage ends.
    """

    data: object
    states: list
    patience: int


class EarlyStopping:
    """The lowest loss on data kept aside, what was to be remembered then, and how long ago that was.

    Parameters
    ----------
    loss : callable
        theta -> float, of the data kept aside; inf where it cannot be told.
    patience : int
        Calls without improvement after which it is tired.

    Attributes
    ----------
    best : float
    kept : tuple of arrays or None
        What was given with the best; None before there is a finite loss.
    waited : int
        Calls since then.
    """

    def __init__(self, loss, patience):
        self.loss, self.patience = loss, patience
        self.best, self.kept, self.waited = np.inf, None, 0

    tired = property(lambda self: self.waited >= self.patience)

    def __call__(self, theta, kept):
        value = self.loss(theta)
        if value < self.best:
            self.best, self.kept, self.waited = value, tuple(np.copy(x) for x in kept), 0
        else:
            self.waited += 1
        return value

    def saved(self):
        """The state as plain data."""
        return {"best": self.best, "kept": None if self.kept is None else list(self.kept), "waited": self.waited}

    def restore(self, saved):
        """Go on from `saved()`."""
        self.best, self.waited = saved["best"], saved["waited"]
        self.kept = None if saved["kept"] is None else tuple(saved["kept"])


def check_fraction(fraction):
    """The part of the data to be kept aside."""
    if not 0 < as_positive("validation_fraction", fraction) < 1:
        raise ValueError(f"validation_fraction={fraction!r} must be between 0 and 1")


def split(n, fraction, seed, what="trajectories"):
    """(kept, aside): which of n to train on, and which to keep aside; at least one each."""
    if n < 2:
        raise ValueError(f"early_stopping keeps {what} aside, so there must be two or more")
    # members of an ensemble, whose seeds differ by multiples of 1000, keep the same ones aside
    order, aside = np.random.default_rng([seed % 1000, 2]).permutation(n), min(max(1, round(fraction * n)), n - 1)
    return np.sort(order[aside:]), np.sort(order[:aside])


def split_classes(index, fraction, seed):
    """The same of each class by itself (index: (n,) the class of each sample): none is lost to training."""
    members = [np.flatnonzero(index == c) for c in np.unique(index)]
    parts = [split(len(m), fraction, seed) if len(m) > 1 else ([0], []) for m in members]
    kept, aside = (np.sort(np.concatenate([m[p[i]] for m, p in zip(members, parts, strict=True)])) for i in (0, 1))
    if not len(aside):
        raise ValueError("early_stopping keeps samples of each class aside, so one class must have two or more")
    return kept, aside
