"""Initial states of trajectories under a known field: least squares, each trajectory by itself."""

import numpy as np

from pynode.errors import OK
from pynode.training.shooting import ShootingProblem


def estimate_states(field, theta, data, y0, weight, prior, iterations=50, **options):
    """Initial states that fit the data best.

    Parameters
    ----------
    field : Field
    theta : (p,) array
    data : Data
    y0 : (B, d) array
        Where to start.
    weight : (d,) array
        Precision of the entries.
    prior : (B, d) array
        Precision of y0 itself: what the data do not tell stays there.
    iterations : int
        Of Levenberg-Marquardt.
    **options : see `pynode.solve`

    Returns
    -------
    y0 : (B, d) array
    covariance : (B, d, d) array
    """
    problem = ShootingProblem(field, data, y0, weight, prior, **options)
    free, damping = np.array(y0), np.full(len(y0), 1e-3)
    cost = _costs(problem, theta, free)
    problem.leave_out(~np.isfinite(cost))
    for _ in range(iterations):
        here = problem.linearise(theta, free)
        if here is None:
            break
        A, z = here.free_precision, here.free_gradient
        damped = A.copy()
        damped[:, range(field.d), range(field.d)] *= 1 + damping[:, None]
        step = np.linalg.solve(damped, -z[:, :, None])[:, :, 0]
        new = free + step
        after = _costs(problem, theta, new)
        better = after < cost
        small = better & (cost - after < 1e-10 * cost)
        free[better], cost = new[better], np.where(better, after, cost)
        damping = np.where(better, damping / 5, damping * 5)
        if (small | ~problem.alive | (damping > 1e8)).all():
            break
    here = problem.linearise(theta, free)
    if here is None:
        return free, np.full((*free.shape, field.d), np.nan)
    return free, np.linalg.inv(here.free_precision)


def _costs(problem, theta, free):
    """(B,) weighted squares of each trajectory; inf where it cannot be solved."""
    y, status = problem.solve(theta, free)
    with np.errstate(invalid="ignore", over="ignore"):
        squares = ((problem.root * (y - problem.data)) ** 2).sum(axis=1)
    cost = np.add.reduceat(squares, problem.start) + (problem.prior * (free - problem.y0) ** 2).sum(axis=1)
    return np.where((status == OK) & np.isfinite(cost), cost, np.inf)
