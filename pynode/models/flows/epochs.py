"""From iterations of Adam on minibatches to epochs: history, callback, early stopping, what a checkpoint holds of them."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.optim.progress import Progress
from pynode.optim.result import HISTORY, Iteration
from pynode.training.early_stopping import EarlyStopping

Callback = Callable[[Iteration], Any]


class Epochs:
    """A callback for `adam` that tells the user's callback of each epoch.

    Parameters
    ----------
    objective : FlowSamples
    stopping : EarlyStopping or None
    callback : callable or None
        callback(Iteration) after each epoch; True stops the fit.
    bar : Progress

    Attributes
    ----------
    asked : bool
        The callback asked to stop.
    """

    def __init__(self, objective: Any, stopping: EarlyStopping | None, callback: Callback | None, bar: Progress) -> None:
        self.objective = objective
        self.stopping = stopping
        self.callback = callback
        self.bar = bar
        self.rows: list[tuple[float, ...]] = []
        self.batches: list[tuple[float, float]] = []  # loss and norm of the gradient
        self.nfe = 0
        self.solved = 0
        self.asked = False
        self.start = time.perf_counter()

    def __call__(self, iteration: Iteration) -> bool:
        self.batches.append((iteration.loss, iteration.gradient_norm))
        if len(self.batches) < self.objective.n_batches:
            return False
        loss, norm = (float(np.mean(column)) for column in zip(*self.batches, strict=True))
        nfe = (self.objective.nfe - self.nfe) / max(self.objective.solved - self.solved, 1)
        validation = math.nan
        if self.stopping is not None:
            assert iteration.theta is not None
            validation = self.stopping(iteration.theta, (iteration.theta,))
        seconds = time.perf_counter() - self.start
        self.rows.append((loss, norm, nfe, seconds, validation))
        self.batches = []
        self.nfe = self.objective.nfe
        self.solved = self.objective.solved
        told = "" if self.stopping is None else f", {validation:.4g} on samples kept aside"
        self.bar.update(len(self.rows), f"loss {loss:.4g}{told}, {nfe:.1f} evaluations a sample")
        if self.callback is not None:
            epoch = Iteration(len(self.rows), loss, iteration.theta, norm, seconds, nfe, validation)
            self.asked = self.callback(epoch) is True
        return self.asked or (self.stopping is not None and self.stopping.tired)

    def table(self) -> NDArray[np.float64]:
        """(epochs, 5) the columns of HISTORY."""
        return np.array(self.rows, dtype=np.float64).reshape(-1, len(HISTORY))

    def seconds(self) -> float:
        """At the end of the last epoch."""
        return self.rows[-1][HISTORY.index("seconds")] if self.rows else 0.0

    # ---- Checkpoints

    def attach(self, checkpoint: Any) -> None:
        """Give the checkpoint the state, and take what it found."""
        checkpoint.outer = self._saved
        if checkpoint.found is not None:
            self._restore(checkpoint.found["outer"])

    def _saved(self) -> dict[str, Any]:
        o = self.objective
        return {
            "rows": self.table(),
            "batches": np.array(self.batches, dtype=np.float64).reshape(-1, 2),
            "counts": [self.nfe, self.solved, o.nfe, o.solved, o.failed],
            "stopping": None if self.stopping is None else self.stopping.saved(),
            "seconds": time.perf_counter() - self.start,
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        self.rows = [tuple(row) for row in saved["rows"].tolist()]
        self.batches = [tuple(row) for row in saved["batches"].tolist()]
        o = self.objective
        self.nfe, self.solved, o.nfe, o.solved, o.failed = saved["counts"]
        if self.stopping is not None:
            self.stopping.restore(saved["stopping"])
        self.start -= saved["seconds"]
