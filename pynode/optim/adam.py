"""Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1)."""

import math
from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.optim.checkpoint import Checkpoint
from pynode.optim.result import FitResult, Iteration, Recorder
from pynode.optim.schedules import as_schedule
from pynode.optim.session import session


def adam(
    objective: Callable[[NDArray[np.float64]], Any],
    theta0: ArrayLike,
    *,
    max_iter: int = 1000,
    learning_rate: float = 1e-2,
    schedule: str | Callable[[float], float] = "cosine",
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    max_gradient: float | None = None,
    callback: Callable[[Iteration], Any] | None = None,
    checkpoint: str | PathLike[str] | Checkpoint | None = None,
) -> FitResult:
    """Minimise by Adam; the best parameters seen are kept.

    There is no early stopping, and there are no weights: both belong to the objective and its data. Stop from a callback.

    Parameters
    ----------
    objective : callable
        objective(theta) -> (loss, gradient), for example a `pynode.Objective`. An objective with a method draw(k), called
        before iteration k = 1, 2, ..., is stochastic. Its losses cannot be compared, so the last parameters are kept in
        place of the best. Its attribute `touched`, if there is one, are the entries of theta that the draw depends on; the
        others do not move.
    theta0 : (p,) array_like
        Where to start.
    max_iter : int, default 1000
        The number of iterations.
    learning_rate : float, default 0.01
        The size of the steps, in units of theta: alpha in the paper.
    schedule : {"cosine", "constant", "exponential", "one_cycle"} or callable, default "cosine"
        How the learning rate changes: see `pynode.fit.schedules`. A callable is a function of the part of training done
        (0 to 1) that gives the factor of the learning rate.
    beta1, beta2, eps : float
        As in the paper.
    max_gradient : float, optional
        Longer gradients are shortened to this Euclidean norm.
    callback : callable, optional
        callback(Iteration) after each iteration; return True to stop.
    checkpoint : path or Checkpoint, optional
        A file that is written now and then. If it is there at the start, minimising goes on from it, to the same bits. It
        is removed at the end.

    Returns
    -------
    FitResult
        For a stochastic objective its loss is the mean over the last tenth of the iterations.

    Raises
    ------
    ValueError
        The loss is not finite at theta0, an option makes no sense, or the checkpoint is that of another fit.
    FitInterrupted
        Ctrl-C; its `result` keeps the best so far.

    See Also
    --------
    lbfgs : takes fewer iterations where the objective is not stochastic.
    levenberg_marquardt : for sums of squares with a Jacobian.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> result = pn.fit.adam(lambda x: ((x - 3) @ (x - 3), 2 * (x - 3)), np.zeros(2), max_iter=200, learning_rate=0.1)
    >>> result.theta.round(3).tolist(), result.status
    ([3.0, 3.0], 'max_iter')
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate!r}")
    factor = as_schedule(schedule)
    f = Recorder(objective, theta0, callback)
    walk = _Walk(f.theta, learning_rate, beta1, beta2, eps)
    draw = getattr(objective, "draw", None)
    stochastic = draw is not None

    def result(status: str, message: str) -> FitResult:
        if stochastic and len(f.history):
            losses = f.history.columns()["loss"]
            f.theta = walk.theta
            f.loss = float(np.mean(losses[-max(1, len(losses) // 10) :]))
        return f.result(status, message)

    settings = (f.theta, learning_rate, schedule, beta1, beta2, eps, max_gradient, max_iter)
    with session(checkpoint, "adam", settings, result) as saved:
        if saved is not None and (before := saved.take("adam")) is not None:
            f.restore(before["recorder"])
            walk.restore(before)
        for k in range(walk.done + 1, max_iter + 1):
            if draw is not None:
                draw(k)
            loss, g = f(walk.theta)
            if not (math.isfinite(loss) and np.isfinite(g).all()):
                if not stochastic:  # a step too far: back to the best, without momentum
                    walk.begin_again(f.theta)
                walk.rate *= 0.5
                continue
            if f.iteration(walk.theta, loss, g):
                return result("stopped", "the callback asked to stop")
            g = g if max_gradient is None else g * min(1.0, max_gradient / max(float(np.linalg.norm(g)), 1e-300))
            walk.step(g, getattr(objective, "touched", None), factor(k / max_iter))
            walk.done = k
            if saved is not None:
                saved.offer("adam", lambda: {"recorder": f.saved()} | walk.saved())
    return result("max_iter", f"{max_iter} iterations")


class _Walk:
    """The state of Adam: parameters, moments, how often each entry has moved, learning rate, iterations done."""

    SAVED = ("theta", "m", "v", "count", "rate", "done")

    def __init__(self, theta: NDArray[np.float64], rate: float, beta1: float, beta2: float, eps: float) -> None:
        self.rate = rate
        self.done = 0
        self.settings = (beta1, beta2, eps)
        self.begin_again(theta)

    def begin_again(self, theta: NDArray[np.float64]) -> None:
        """Start at theta, without momentum."""
        self.theta = theta.copy()
        self.m = np.zeros_like(theta)
        self.v = np.zeros_like(theta)
        self.count = np.zeros(len(theta))

    def saved(self) -> dict[str, Any]:
        """The state as plain data."""
        return {name: getattr(self, name) for name in self.SAVED}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from `saved()`."""
        for name in self.SAVED:
            setattr(self, name, saved[name])

    def step(self, g: NDArray[np.float64], at: NDArray[np.intp] | None, factor: float) -> None:
        """Move against the gradient g; `at` are the entries that the draw touched, None for all."""
        self.theta = self.theta.copy()
        if at is None:  # all entries have the same count
            self.count += 1
            self.theta -= self.rate * factor * adaptive(self.m, self.v, self.count[:1], g, *self.settings)
            return
        m = self.m[at]
        v = self.v[at]
        n = self.count[at] + 1
        self.theta[at] -= self.rate * factor * adaptive(m, v, n, g[at], *self.settings)
        self.m[at] = m
        self.v[at] = v
        self.count[at] = n


def adaptive(
    m: NDArray[np.float64],
    v: NDArray[np.float64],
    n: NDArray[np.float64],
    g: NDArray[np.float64],
    beta1: float,
    beta2: float,
    eps: float,
) -> NDArray[np.float64]:
    """The step for a gradient g, the n-th of each entry; the moments m and v are updated in place."""
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * g**2
    scale: NDArray[np.float64] = np.sqrt(v / (1 - beta2**n))
    scale += eps
    step: NDArray[np.float64] = m / (1 - beta1**n)
    step /= scale
    return step
