"""L-BFGS, by SciPy."""

import numpy as np
from scipy.optimize import minimize

from pynode.fit.result import FitInterrupted, Recorder

WORSE = 1e10
"""What the line search sees in place of a loss that is not finite, relative to the first loss."""


def lbfgs(objective, theta0, *, max_iter=500, memory=20, gradient_tol=1e-8, loss_tol=1e-10, callback=None):
    """Minimise by L-BFGS (Liu & Nocedal 1989) with the line search of Moré and Thuente.

    Parameters
    ----------
    objective : callable
        objective(theta) -> (loss, gradient), for example a `pynode.Objective`. Where the loss is not finite, the line
        search goes back.
    theta0 : (p,) array
    max_iter : int
    memory : int
        Pairs of steps and gradient changes that are remembered.
    gradient_tol : float
        Stop when the largest component of the gradient is below.
    loss_tol : float
        Stop when the loss falls by less than this fraction in an iteration.
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
    f = Recorder(objective, theta0, callback)
    accepted = {}

    def fun(theta):
        loss, gradient = f(theta)
        if not (np.isfinite(loss) and np.isfinite(gradient).all()):
            return WORSE * (1 + abs(f.loss)), np.zeros_like(theta)
        accepted.update(loss=loss, gradient=gradient, theta=theta.copy())
        return loss, gradient

    def after_iteration(theta):
        # the point accepted is nearly always the last one evaluated; otherwise it is the best
        last = np.array_equal(theta, accepted["theta"])
        if f.iteration(theta, accepted["loss"] if last else f.loss, accepted["gradient"]):
            raise StopIteration

    options = {"maxiter": max_iter, "maxfun": 10 * max_iter + 100, "maxcor": memory, "gtol": gradient_tol, "ftol": loss_tol}
    try:
        out = minimize(fun, f.theta, jac=True, method="L-BFGS-B", callback=after_iteration, options=options)
    except KeyboardInterrupt:
        raise FitInterrupted(f.result("interrupted", "interrupted by the user")) from None
    if out.status == 99:
        return f.result("stopped", "the callback asked to stop")
    status = {0: "converged", 1: "max_iter"}.get(out.status, "stalled")
    return f.result(status, out.message.lower())
