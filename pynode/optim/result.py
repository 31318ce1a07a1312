"""What optimisers take and give: an objective theta -> (loss, gradient), a callback, a result."""

import math
import time
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class FitResult:
    """The outcome of an optimiser.

    Attributes
    ----------
    theta : (p,) array
        The best parameters found.
    loss : float
        Their loss.
    status : {"converged", "max_iter", "stopped", "stalled", "failed", "interrupted"}
        stopped: a callback asked for it; stalled: no step makes the loss smaller.
    message : str
    n_iter, n_evaluations : int
    history : dict of (n_iter,) arrays
        loss, gradient_norm, seconds.
    covariance : (p, p) array or None
        Of theta, where the optimiser finds it.
    states : list of (T_i, d) arrays or None
        Of the trajectories that were fitted, where there are any.
    """

    theta: np.ndarray
    loss: float
    status: str
    message: str
    n_iter: int
    n_evaluations: int
    history: dict
    covariance: np.ndarray | None = None
    states: list | None = None


@dataclass(frozen=True)
class Iteration:
    """What a callback sees after each iteration; to stop the optimiser it returns True."""

    number: int
    theta: np.ndarray
    loss: float
    gradient_norm: float
    seconds: float


class FitInterrupted(KeyboardInterrupt):
    """Ctrl-C during a fit. `result` is the FitResult with the best parameters so far."""

    def __init__(self, result):
        super().__init__("interrupted; the exception's `result` keeps the best parameters so far")
        self.result = result


class Recorder:
    """Wraps an objective: counts, checks, remembers the best, keeps the history.

    Attributes
    ----------
    theta, loss : the best so far
    rows : list of (loss, gradient norm, seconds)
    """

    def __init__(self, objective, theta0, callback):
        theta0 = np.array(theta0, dtype=np.float64)
        if theta0.ndim != 1 or not np.isfinite(theta0).all():
            raise ValueError(f"theta0 must be a vector of finite numbers, got shape {theta0.shape}")
        if not callable(objective):
            raise TypeError("objective must be a function theta -> (loss, gradient)")
        self.objective, self.callback, self.start = objective, callback, time.perf_counter()
        self.theta, self.loss, self.n_evaluations = theta0, np.inf, 0
        self.rows = []

    def __call__(self, theta):
        """(loss, gradient) as a float and a float64 array."""
        loss, gradient = self.objective(theta)
        loss, gradient = float(loss), np.asarray(gradient, dtype=np.float64)
        if gradient.shape != theta.shape:
            raise ValueError(f"the objective returned a gradient of shape {gradient.shape}, theta has {theta.shape}")
        self.n_evaluations += 1
        if loss < self.loss and np.isfinite(gradient).all():
            self.theta, self.loss = theta.copy(), loss
        elif self.n_evaluations == 1:
            raise ValueError(
                f"the loss or its gradient is not finite at theta0 (loss {loss}): "
                "start elsewhere, or check the data and the field"
            )
        return loss, gradient

    def iteration(self, theta, loss, gradient):
        """Record an iteration; whether the callback asks to stop."""
        norm, seconds = math.sqrt(gradient @ gradient), time.perf_counter() - self.start
        self.rows.append((loss, norm, seconds))
        if self.callback is None:
            return False
        return self.callback(Iteration(len(self.rows), theta.copy(), loss, norm, seconds)) is True

    def result(self, status, message):
        history = dict(zip(("loss", "gradient_norm", "seconds"), self._columns().T, strict=True))
        return FitResult(self.theta, self.loss, status, message, len(self.rows), self.n_evaluations, history)

    def saved(self):
        """The state as plain data."""
        return {"theta": self.theta, "loss": self.loss, "n_evaluations": self.n_evaluations, "rows": self._columns()}

    def restore(self, saved):
        """Go on from `saved()`."""
        self.theta, self.loss, self.n_evaluations = saved["theta"], saved["loss"], saved["n_evaluations"]
        self.rows = [tuple(row) for row in saved["rows"].tolist()]
        self.start -= self.rows[-1][2] if self.rows else 0.0

    def _columns(self):
        return np.array(self.rows, dtype=np.float64).reshape(-1, 3)
