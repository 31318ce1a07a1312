"""What optimisers take and return: an objective theta -> (loss, gradient), a callback, a result."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.labels import labels_of

HISTORY = ("loss", "gradient_norm", "nfe", "seconds", "validation")
"""The columns of every history, with one entry for each iteration: the fields of `Iteration` that are numbers."""


MESSAGES = {
    "converged": "steps no longer lower the objective",
    "max_iter": "max_iter steps were taken",
    "stalled": "no step makes the objective smaller: it is as exact as it gets",
    "stopped": "the callback asked to stop",
    "failed": "the residuals cannot be computed",
}
"""What the ends of Levenberg-Marquardt mean."""


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
        The status in words.
    n_iter : int
        Iterations.
    n_evaluations : int
        Calls of the objective.
    history : dict of (n_iter,) arrays
        loss, gradient_norm, nfe, seconds, validation: see `Iteration`. Staged training also has stage, the index of the
        stage.
    covariance : (p, p) array or None
        The covariance of theta, where the optimiser finds it.
    states : list of (T_i, d) arrays or None
        The fitted states, where trajectories were fitted.
    warnings : tuple of str
        What is doubtful about the fit, where trajectories were fitted.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> result = pn.fit.lbfgs(lambda x: (x @ x, 2 * x), np.ones(3))
    >>> result.status, bool(abs(result.theta).max() < 1e-8), len(result.history["loss"]) == result.n_iter
    ('converged', True, True)
    """

    theta: NDArray[np.float64]
    loss: float
    status: str
    message: str
    n_iter: int
    n_evaluations: int
    history: dict[str, NDArray[Any]]
    covariance: NDArray[np.float64] | None = None
    states: list[NDArray[np.float64]] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Iteration:
    """What a callback is given after each iteration; it returns True to stop the training.

    Every optimiser and every model reports its progress with this record.

    Attributes
    ----------
    number : int
        From 1; staged training counts through all its stages.
    loss : float
        The loss of this iteration; where an iteration is an epoch of minibatches, their mean.
    theta : (p,) array or None
        The parameters reached.
    gradient_norm : float
        Euclidean norm of the gradient of the loss; NaN where there is none.
    seconds : float
        Since the start.
    nfe : int or float
        Evaluations of the field in the forward solves of this iteration; 0 where they are not counted.
    validation : float
        The loss on data kept aside; NaN without early stopping.
    stage : str
        The stage of staged training, else "".

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> def callback(iteration):
    ...     return iteration.loss < 1e-3
    >>> pn.fit.lbfgs(lambda x: (x @ x, 2 * x), np.ones(3), callback=callback).status
    'stopped'
    """

    number: int
    loss: float
    theta: NDArray[np.float64] | None = None
    gradient_norm: float = math.nan
    seconds: float = 0.0
    nfe: float = 0
    validation: float = math.nan
    stage: str = ""


class FitInterrupted(KeyboardInterrupt):
    """Ctrl-C during a fit.

    Attributes
    ----------
    result : FitResult
        The best parameters so far.
    """

    def __init__(self, result: FitResult) -> None:
        super().__init__("interrupted; the exception's `result` keeps the best parameters so far")
        self.result = result


class History:
    """The iterations of an optimiser so far: makes the record of each, and calls the callback with it.

    Parameters
    ----------
    callback : callable or None
        callback(Iteration); True asks to stop.

    Attributes
    ----------
    rows : list of tuples
        One for each iteration, with the columns of HISTORY.
    """

    def __init__(self, callback: Callable[[Iteration], Any] | None) -> None:
        self.callback = callback
        self.start = time.perf_counter()
        self.rows: list[tuple[float, ...]] = []

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, theta: NDArray[np.float64], loss: float, gradient_norm: float, nfe: float = 0) -> bool:
        """Record an iteration; returns whether the callback asks to stop."""
        seconds = time.perf_counter() - self.start
        self.rows.append((loss, gradient_norm, nfe, seconds, math.nan))
        if self.callback is None:
            return False
        return self.callback(Iteration(len(self.rows), loss, theta.copy(), gradient_norm, seconds, nfe)) is True

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """The history of a FitResult."""
        return dict(zip(HISTORY, self._table().T.copy(), strict=True))

    def saved(self) -> dict[str, Any]:
        """The state as plain data."""
        return {"rows": self._table()}

    def _table(self) -> NDArray[np.float64]:
        return np.array(self.rows, dtype=np.float64).reshape(-1, len(HISTORY))

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from `saved()`."""
        self.rows = [tuple(row) for row in saved["rows"].tolist()]
        if self.rows:
            self.start -= self.rows[-1][HISTORY.index("seconds")]


class Recorder:
    """An objective that counts its calls, checks what it returns, remembers the best parameters, and keeps the history.

    Parameters
    ----------
    objective : callable
        theta -> (loss, gradient). Its `nfe`, if any, counts the evaluations of a field so far.
    theta0 : (p,) array
        Where to start.
    callback : callable or None
        See `History`.

    Attributes
    ----------
    theta : (p,) array
        The best parameters so far.
    loss : float
        Their loss.
    n_evaluations : int
        Calls so far.
    history : History
    """

    def __init__(self, objective: Any, theta0: ArrayLike, callback: Callable[[Iteration], Any] | None) -> None:
        if not callable(objective):
            raise TypeError("objective must be a function theta -> (loss, gradient)")
        self.objective: Any = objective
        self.theta = as_start(theta0)
        self.loss = np.inf
        self.n_evaluations = 0
        self.history = History(callback)
        self.nfe = self._count()

    def __call__(self, theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """(loss, gradient) as a float and a float64 array."""
        loss, gradient = self.objective(theta)
        loss, gradient = float(loss), np.array(gradient, dtype=np.float64)  # a copy: the objective may use its array again
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

    def _count(self) -> float:
        """Evaluations of the field so far."""
        return getattr(self.objective, "nfe", 0)

    def iteration(self, theta: NDArray[np.float64], loss: float, gradient: NDArray[np.float64]) -> bool:
        """Record an iteration; returns whether the callback asks to stop."""
        before = self.nfe
        self.nfe = self._count()
        return self.history.add(theta, loss, math.sqrt(gradient @ gradient), self.nfe - before)

    def result(self, status: str, message: str) -> FitResult:
        """The best so far."""
        return FitResult(
            self.theta, self.loss, status, message, len(self.history), self.n_evaluations, self.history.columns()
        )

    def saved(self) -> dict[str, Any]:
        """The state as plain data."""
        return {"theta": self.theta, "loss": self.loss, "n_evaluations": self.n_evaluations} | self.history.saved()

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from `saved()`."""
        self.theta = saved["theta"]
        self.loss = saved["loss"]
        self.n_evaluations = saved["n_evaluations"]
        self.history.restore(saved)


def as_start(theta0: ArrayLike) -> NDArray[np.float64]:
    """A copy of the parameters from which an optimiser starts."""
    if labels_of(theta0) is not None:
        raise ValueError(
            f"theta0 is labelled {', '.join(map(str, labels_of(theta0) or ()))}, and an optimiser knows no names: give "
            "field.flatten(theta0), or theta0.to_numpy(), which goes by position"
        )
    start = np.array(theta0, dtype=np.float64)
    if start.ndim != 1 or not np.isfinite(start).all():
        raise ValueError(f"theta0 must be a vector of finite numbers, got shape {start.shape}")
    return start
