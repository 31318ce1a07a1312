"""Initial states of trajectories under a known field: least squares, each trajectory by itself."""

import numpy as np

from pynode.optim.batched import minimise_each
from pynode.training.shooting import ShootingProblem


def estimate_states(field, theta, data, y0, weight, prior, max_iter=50, **options):
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
    max_iter : int
        Steps of Levenberg-Marquardt.
    **options : see `pynode.solve`

    Returns
    -------
    y0 : (B, d) array
        Where a trajectory cannot be solved, its start.
    covariance : (B, d, d) array
        There that of the prior.
    """
    problem = ShootingProblem(field, data, y0, weight, prior, **options)
    found = minimise_each(lambda free: problem.each(theta, free), y0, max_iter=max_iter)
    matrix = np.where(found.failed[:, None, None], prior[:, :, None] * np.eye(field.d), found.matrix)
    return found.x, np.linalg.inv(matrix)
