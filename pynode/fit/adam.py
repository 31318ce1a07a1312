"""Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1)."""

import math

import numpy as np

from pynode.fit.result import FitInterrupted, Recorder


def adam(
    objective,
    theta0,
    *,
    max_iter=1000,
    learning_rate=1e-2,
    final_rate=0.1,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    max_gradient=None,
    callback=None,
):
    """Minimise by Adam, the learning rate falling along half a cosine; the best parameters seen are kept.

    Parameters
    ----------
    objective : callable
        objective(theta) -> (loss, gradient), for example a `pynode.Objective`.
    theta0 : (p,) array
    max_iter : int
    learning_rate : float
        Of the first iteration.
    final_rate : float
        The learning rate of the last iteration, as a fraction of the first.
    beta1, beta2, eps : float
        As in the paper.
    max_gradient : float, optional
        Longer gradients are shortened to this Euclidean norm.
    callback : callable, optional
        callback(Iteration) after each iteration; return True to stop.

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
    if not learning_rate > 0 or not 0 <= final_rate <= 1:
        raise ValueError(
            f"learning_rate must be positive and final_rate between 0 and 1, got {learning_rate!r} and {final_rate!r}"
        )
    f = Recorder(objective, theta0, callback)
    theta = f.theta.copy()
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    try:
        for k in range(1, max_iter + 1):
            loss, g = f(theta)
            if not (math.isfinite(loss) and np.isfinite(g).all()):
                # a step too far: back to the best, without momentum
                theta, m, v = f.theta.copy(), np.zeros_like(theta), np.zeros_like(theta)
                learning_rate *= 0.5
                continue
            if f.iteration(theta, loss, g):
                return f.result("stopped", "the callback asked to stop")
            if max_gradient is not None:
                g = g * min(1.0, max_gradient / max(np.linalg.norm(g), 1e-300))
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g**2
            rate = learning_rate * (final_rate + (1 - final_rate) * 0.5 * (1 + math.cos(math.pi * k / max_iter)))
            theta = theta - rate * (m / (1 - beta1**k)) / (np.sqrt(v / (1 - beta2**k)) + eps)
    except KeyboardInterrupt:
        raise FitInterrupted(f.result("interrupted", "interrupted by the user")) from None
    return f.result("max_iter", f"{max_iter} iterations")
