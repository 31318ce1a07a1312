"""Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1)."""

import math
from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.optim.checkpoint import Checkpoint, as_checkpoint
from pynode.optim.result import FitInterrupted, FitResult, Iteration, Recorder
from pynode.optim.schedules import as_schedule


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

    Parameters
    ----------
    objective : callable
        objective(theta) -> (loss, gradient), for example a `pynode.Objective`. A stochastic one (with a method
        draw(k), called before iteration k = 1, 2, ...) gives losses that cannot be compared: the last parameters are
        kept then. Its `touched`, if any, are the entries of theta that the draw depends on; others rest.
    theta0 : (p,) array
    max_iter : int
    learning_rate : float
    schedule : {"cosine", "constant", "exponential", "one_cycle"} or callable
        How the learning rate goes: see `pynode.fit.schedules`, or a function of the part of training done.
    beta1, beta2, eps : float
        As in the paper.
    max_gradient : float, optional
        Longer gradients are shortened to this Euclidean norm.
    callback : callable, optional
        callback(Iteration) after each iteration; return True to stop.
    checkpoint : path or Checkpoint, optional
        Written now and then; if the file is there, minimising goes on from it, to the same bits. Removed at the end.

    Returns
    -------
    FitResult

    Raises
    ------
    ValueError
        The loss is not finite at theta0.
    FitInterrupted
        Ctrl-C; its `result` keeps the best so far.
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate!r}")
    factor, own = as_schedule(schedule), as_checkpoint(checkpoint)
    mine = own is not None and not own.mark  # else its owner opened it
    f = Recorder(objective, theta0, callback)
    walk = _Walk(f.theta, learning_rate, beta1, beta2, eps)
    draw = getattr(objective, "draw", None)
    stochastic = draw is not None
    if own is not None:
        if mine:
            own.open("adam", f.theta, learning_rate, schedule, beta1, beta2, eps, max_gradient, max_iter)
        if (before := own.take("adam")) is not None:
            f.restore(before["recorder"])
            walk.restore(before)

    def result(status: str, message: str) -> FitResult:
        if stochastic and len(f.history):
            losses = f.history.columns()["loss"]
            f.theta, f.loss = walk.theta, float(np.mean(losses[-max(1, len(losses) // 10) :]))
        return f.result(status, message)

    try:
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
            if own is not None:
                own.offer("adam", lambda: {"recorder": f.saved()} | walk.saved())
    except KeyboardInterrupt:
        raise FitInterrupted(result("interrupted", "interrupted by the user")) from None
    finally:
        if mine:
            own.close()
    if mine:
        own.done()
    return result("max_iter", f"{max_iter} iterations")


class _Walk:
    """Where Adam stands: parameters, moments, how often each entry moved, learning rate, iterations done."""

    SAVED = ("theta", "m", "v", "count", "rate", "done")

    def __init__(self, theta: NDArray[np.float64], rate: float, beta1: float, beta2: float, eps: float) -> None:
        self.rate, self.done = rate, 0
        self.settings = (beta1, beta2, eps)
        self.begin_again(theta)

    def begin_again(self, theta: NDArray[np.float64]) -> None:
        """From theta, without momentum."""
        self.theta = theta.copy()
        self.m, self.v = np.zeros_like(theta), np.zeros_like(theta)
        self.count = np.zeros(len(theta))

    def saved(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.SAVED}

    def restore(self, saved: dict[str, Any]) -> None:
        for name in self.SAVED:
            setattr(self, name, saved[name])

    def step(self, g: NDArray[np.float64], at: NDArray[np.intp] | None, factor: float) -> None:
        """Move against the gradient g; at: the entries that the draw touched, None for all."""
        self.theta = self.theta.copy()
        if at is None:  # all entries have the same count
            self.count += 1
            self.theta -= self.rate * factor * adaptive(self.m, self.v, self.count[:1], g, *self.settings)
            return
        m, v, n = self.m[at], self.v[at], self.count[at] + 1
        self.theta[at] -= self.rate * factor * adaptive(m, v, n, g[at], *self.settings)
        self.m[at], self.v[at], self.count[at] = m, v, n


def adaptive(
    m: NDArray[np.float64],
    v: NDArray[np.float64],
    n: NDArray[np.float64],
    g: NDArray[np.float64],
    beta1: float,
    beta2: float,
    eps: float,
) -> NDArray[np.float64]:
    """The step for a gradient g, its n-th; the moments m and v are brought up to date."""
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * g**2
    scale = np.sqrt(v / (1 - beta2**n))
    scale += eps
    step = m / (1 - beta1**n)
    step /= scale
    return step
