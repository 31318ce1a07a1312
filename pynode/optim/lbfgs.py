"""L-BFGS: the two-loop recursion (Nocedal & Wright, Numerical Optimization, algorithms 7.4 and 7.5).

Why not SciPy's: on vectors of this size its threaded BLAS calls cost more than the gradients, and its line
search cannot step back from a loss that is infinite.
"""

from collections import deque
from collections.abc import Callable
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.optim.checkpoint import Checkpoint, as_checkpoint
from pynode.optim.result import FitInterrupted, FitResult, Iteration, Recorder

ARMIJO, CURVATURE = 1e-4, 0.9


MAX_TRIALS = 15


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

    Parameters
    ----------
    objective : callable
        objective(theta) -> (loss, gradient), for example a `pynode.Objective`. Where the loss is not finite,
        the line search goes back.
    theta0 : (p,) array
    max_iter : int
    history_size : int
        Pairs of steps and gradient changes that are remembered.
    gradient_tol : float
        Converged when the largest component of the gradient is not above.
    loss_tol : float
        Converged when ten iterations together lower the loss by less than ten times this fraction.
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
    f, own = Recorder(objective, theta0, callback), as_checkpoint(checkpoint)
    mine = own is not None and not own.mark  # else its owner opened it
    if mine:
        own.open("lbfgs", f.theta, history_size, gradient_tol, loss_tol)
    try:
        result = _minimise(f, f.theta.copy(), max_iter, deque(maxlen=history_size), gradient_tol, loss_tol, own)
    except KeyboardInterrupt:
        raise FitInterrupted(f.result("interrupted", "interrupted by the user")) from None
    finally:
        if mine:
            own.close()
    if mine:
        own.done()
    return result


def _minimise(f, theta, max_iter, pairs, gradient_tol, loss_tol, checkpoint):
    before = None if checkpoint is None else checkpoint.take("lbfgs")
    if before is None:
        loss, g = f(theta)
        losses, done = [loss], 0
    else:
        f.restore(before["recorder"])
        theta, g, losses, done = before["theta"], before["g"], before["losses"].tolist(), before["done"]
        loss = losses[-1]
        pairs.extend((s, y, 1.0 / (s @ y)) for s, y in zip(before["s"], before["y"], strict=True))
    for k in range(done, max_iter):
        if np.abs(g).max(initial=0.0) <= gradient_tol:
            return f.result("converged", f"no component of the gradient is above {gradient_tol:g}")
        p = -_times_inverse_hessian(pairs, g)
        step = 1.0 if pairs else min(1.0, 1.0 / np.linalg.norm(g))
        found = _line_search(f, theta, loss, g, p, step)
        if found is None and pairs:  # once more along the gradient
            pairs.clear()
            found = _line_search(f, theta, loss, g, -g, min(1.0, 1.0 / np.linalg.norm(g)))
        if found is None:
            return f.result("stalled", "no step along the gradient makes the loss smaller: it is as exact as it gets")
        new, loss, g_new = found
        s, y = new - theta, g_new - g
        if s @ y > 1e-12 * (y @ y):
            pairs.append((s, y, 1.0 / (s @ y)))
        theta, g = new, g_new
        losses.append(loss)
        if f.iteration(theta, loss, g):
            return f.result("stopped", "the callback asked to stop")
        if len(losses) > 10 and losses[-11] - loss <= 10 * loss_tol * abs(loss):
            return f.result("converged", f"the loss falls by less than {loss_tol:g} of itself in an iteration")
        if checkpoint is not None:
            now = {"theta": theta, "g": g, "losses": np.array(losses), "done": k + 1}
            checkpoint.offer(
                "lbfgs",
                lambda now=now: (
                    now
                    | {
                        "recorder": f.saved(),
                        "s": np.array([s for s, _, _ in pairs]).reshape(-1, len(f.theta)),
                        "y": np.array([y for _, y, _ in pairs]).reshape(-1, len(f.theta)),
                    }
                ),
            )
    return f.result("max_iter", f"{max_iter} iterations")


def _times_inverse_hessian(pairs, g):
    """H g, H the approximate inverse Hessian."""
    q, alphas = g.copy(), []
    for s, y, rho in reversed(pairs):
        alphas.append(rho * (s @ q))
        q -= alphas[-1] * y
    if pairs:
        s, y, rho = pairs[-1]
        q /= rho * (y @ y)
    for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
        q += (alpha - rho * (y @ q)) * s
    return q


def _line_search(f, theta, loss, g, p, step):
    """(theta, loss, gradient) at a point along p that meets the weak Wolfe conditions, or None.

    Bisection (Lewis & Overton 2013, algorithm 2.6); an infinite loss counts as too long a step.
    """
    slope = g @ p
    if not slope < 0:
        return None
    low, high, best = 0.0, np.inf, None
    for _ in range(MAX_TRIALS):
        new = theta + step * p
        value, gradient = f(new)
        if not (np.isfinite(value) and value <= loss + ARMIJO * step * slope and np.isfinite(gradient).all()):
            high = step
        elif gradient @ p < CURVATURE * slope:
            low, best = step, (new, value, gradient)
        else:
            return new, value, gradient
        step = 0.5 * (low + high) if high < np.inf else 2 * low
    return best
