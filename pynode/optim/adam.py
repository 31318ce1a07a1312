"""Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1)."""

import math

import numpy as np

from pynode.optim.checkpoint import as_checkpoint
from pynode.optim.result import FitInterrupted, Recorder
from pynode.optim.schedules import as_schedule


def adam(
    objective,
    theta0,
    *,
    max_iter=1000,
    learning_rate=1e-2,
    schedule="cosine",
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    max_gradient=None,
    callback=None,
    checkpoint=None,
):
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
    theta, rate, done = f.theta.copy(), learning_rate, 0
    stochastic = hasattr(objective, "draw")
    m, v, count = np.zeros_like(theta), np.zeros_like(theta), np.zeros(len(theta))
    if own is not None:
        if mine:
            own.open("adam", f.theta, learning_rate, schedule, beta1, beta2, eps, max_gradient, max_iter)
        before = own.take("adam")
        if before is not None:
            f.restore(before["recorder"])
            theta, m, v, count = (before[name] for name in ("theta", "m", "v", "count"))
            rate, done = before["rate"], before["done"]

    def saved():
        return {"recorder": f.saved(), "theta": theta, "m": m, "v": v, "count": count, "rate": rate, "done": done}

    def result(status, message):
        if stochastic and len(f.history):
            losses = f.history.columns()["loss"]
            f.theta, f.loss = theta, float(np.mean(losses[-max(1, len(losses) // 10) :]))
        return f.result(status, message)

    try:
        for k in range(done + 1, max_iter + 1):
            if stochastic:
                objective.draw(k)
            loss, g = f(theta)
            if not (math.isfinite(loss) and np.isfinite(g).all()):
                if not stochastic:  # a step too far: back to the best, without momentum
                    theta, m, v = f.theta.copy(), np.zeros_like(theta), np.zeros_like(theta)
                    count[:] = 0
                rate *= 0.5
                continue
            if f.iteration(theta, loss, g):
                return result("stopped", "the callback asked to stop")
            if max_gradient is not None:
                g = g * min(1.0, max_gradient / max(np.linalg.norm(g), 1e-300))
            at = getattr(objective, "touched", None)
            theta = theta.copy()
            if at is None:  # all entries have the same count
                count += 1
                theta -= rate * factor(k / max_iter) * adaptive(m, v, count[:1], g, beta1, beta2, eps)
            else:
                mine_m, mine_v, n = m[at], v[at], count[at] + 1
                theta[at] -= rate * factor(k / max_iter) * adaptive(mine_m, mine_v, n, g[at], beta1, beta2, eps)
                m[at], v[at], count[at] = mine_m, mine_v, n
            done = k
            if own is not None:
                own.offer("adam", saved)
    except KeyboardInterrupt:
        raise FitInterrupted(result("interrupted", "interrupted by the user")) from None
    finally:
        if mine:
            own.close()
    if mine:
        own.done()
    return result("max_iter", f"{max_iter} iterations")


def adaptive(m, v, n, g, beta1, beta2, eps):
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
