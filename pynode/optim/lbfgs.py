"""L-BFGS: the two-loop recursion (Nocedal & Wright, Numerical Optimization, algorithms 7.4 and 7.5).

Why not SciPy's: on vectors of this size its threaded BLAS calls cost more than the gradients, and its line
search cannot step back from a loss that is infinite.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.optim.checkpoint import Checkpoint
from pynode.optim.result import FitResult, Iteration, Recorder
from pynode.optim.session import session

Array = NDArray[np.float64]

Pairs = deque[tuple[Array, Array, float]]
"""Steps s, changes y of the gradient along them, and 1 / (s y); the oldest first."""

Found = tuple[Array, float, Array]
"""Parameters, their loss and its gradient."""

ARMIJO = 1e-4
"""A step must lower the loss by at least this part of what the slope promises."""

CURVATURE = 0.9
"""A step must leave at most this part of the slope."""

MAX_TRIALS = 15
"""The most evaluations of a line search."""


def lbfgs(
    objective: Callable[[NDArray[np.float64]], Any],
    theta0: ArrayLike,
    *,
    max_iter: int = 500,
    history_size: int = 20,
    gradient_tol: float = 1e-8,
    loss_tol: float = 1e-9,
    callback: Callable[[Iteration], Any] | None = None,
    checkpoint: str | PathLike[str] | Checkpoint | None = None,
) -> FitResult:
    """Minimise by L-BFGS.

    There is no early stopping, and there are no weights: both belong to the objective and its data. Stop from a callback.

    Parameters
    ----------
    objective : callable
        objective(theta) -> (loss, gradient), for example a `pynode.Objective`. Where the loss is not finite,
        the line search goes back.
    theta0 : (p,) array_like
        Where to start.
    max_iter : int, default 500
        The most iterations.
    history_size : int, default 20
        How many pairs of steps and gradient changes are remembered.
    gradient_tol : float, default 1e-8
        Converged when no component of the gradient is larger than this.
    loss_tol : float, default 1e-9
        Converged when ten iterations together lower the loss by less than ten times this fraction.
    callback : callable, optional
        callback(Iteration) after each iteration; return True to stop.
    checkpoint : path or Checkpoint, optional
        A file that is written now and then. If it is there at the start, minimising goes on from it, to the same bits. It
        is removed at the end.

    Returns
    -------
    FitResult

    Raises
    ------
    ValueError
        The loss is not finite at theta0, or the checkpoint is that of another fit.
    FitInterrupted
        Ctrl-C; its `result` keeps the best so far.

    See Also
    --------
    adam : for stochastic objectives.
    levenberg_marquardt : for sums of squares with a Jacobian.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> result = pn.fit.lbfgs(lambda x: ((x - 3) @ (x - 3), 2 * (x - 3)), np.zeros(2))
    >>> result.theta.round(6).tolist(), result.status
    ([3.0, 3.0], 'converged')
    """
    f = Recorder(objective, theta0, callback)
    settings = (f.theta, history_size, gradient_tol, loss_tol)
    with session(checkpoint, "lbfgs", settings, f.result) as saved:
        return _minimise(f, f.theta.copy(), max_iter, deque(maxlen=history_size), gradient_tol, loss_tol, saved)


def _minimise(
    f: Recorder,
    theta: Array,
    max_iter: int,
    pairs: Pairs,
    gradient_tol: float,
    loss_tol: float,
    checkpoint: Checkpoint | None,
) -> FitResult:
    before = None if checkpoint is None else checkpoint.take("lbfgs")
    if before is None:
        loss, g = f(theta)
        losses = [loss]
        done = 0
    else:
        f.restore(before["recorder"])
        theta = before["theta"]
        g = before["g"]
        losses = before["losses"].tolist()
        done = before["done"]
        loss = losses[-1]
        pairs.extend((s, y, 1.0 / (s @ y)) for s, y in zip(before["s"], before["y"], strict=True))
    for k in range(done, max_iter):
        if np.abs(g).max(initial=0.0) <= gradient_tol:
            return f.result("converged", f"no component of the gradient is above {gradient_tol:g}")
        p = -_times_inverse_hessian(pairs, g)
        step = 1.0 if pairs else min(1.0, float(1.0 / np.linalg.norm(g)))
        found = _line_search(f, theta, loss, g, p, step)
        if found is None and pairs:  # once more along the gradient
            pairs.clear()
            found = _line_search(f, theta, loss, g, -g, min(1.0, float(1.0 / np.linalg.norm(g))))
        if found is None:
            return f.result("stalled", "no step along the gradient makes the loss smaller: it is as exact as it gets")
        new, loss, g_new = found
        s = new - theta
        y = g_new - g
        if s @ y > 1e-12 * (y @ y):
            pairs.append((s, y, float(1.0 / (s @ y))))
        theta = new
        g = g_new
        losses.append(loss)
        if f.iteration(theta, loss, g):
            return f.result("stopped", "the callback asked to stop")
        if len(losses) > 10 and losses[-11] - loss <= 10 * loss_tol * abs(loss):
            return f.result("converged", f"the loss falls by less than {loss_tol:g} of itself in an iteration")
        if checkpoint is not None:
            now = {"theta": theta, "g": g, "losses": np.array(losses), "done": k + 1}
            checkpoint.offer("lbfgs", partial(_snapshot, f, now, pairs))
    return f.result("max_iter", f"{max_iter} iterations")


def _snapshot(f: Recorder, now: dict[str, Any], pairs: Pairs) -> dict[str, Any]:
    """What a checkpoint holds of the minimisation."""
    return now | {
        "recorder": f.saved(),
        "s": np.array([s for s, _, _ in pairs]).reshape(-1, len(f.theta)),
        "y": np.array([y for _, y, _ in pairs]).reshape(-1, len(f.theta)),
    }


def _times_inverse_hessian(pairs: Pairs, g: Array) -> Array:
    """H g, H the approximate inverse Hessian."""
    q = g.copy()
    alphas = []
    for s, y, rho in reversed(pairs):
        alphas.append(rho * (s @ q))
        q -= alphas[-1] * y
    if pairs:
        s, y, rho = pairs[-1]
        q /= rho * (y @ y)
    for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
        q += (alpha - rho * (y @ q)) * s
    return q


def _line_search(f: Recorder, theta: Array, loss: float, g: Array, p: Array, step: float) -> Found | None:
    """(theta, loss, gradient) at a point along p that meets the weak Wolfe conditions, or None.

    Bisection (Lewis & Overton 2013, algorithm 2.6); an infinite loss counts as too long a step.
    """
    slope = g @ p
    if not slope < 0:
        return None
    low = 0.0
    high = np.inf
    best: Found | None = None
    for _ in range(MAX_TRIALS):
        new = theta + step * p
        value, gradient = f(new)
        if not (np.isfinite(value) and value <= loss + ARMIJO * step * slope and np.isfinite(gradient).all()):
            high = step
        elif gradient @ p < CURVATURE * slope:
            low = step
            best = (new, value, gradient)
        else:
            return new, value, gradient
        step = 0.5 * (low + high) if high < np.inf else 2 * low
    return best
