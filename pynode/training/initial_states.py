"""Initial states of trajectories under a known field, by least squares for each trajectory by itself."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.fields.field import Field
from pynode.optim.batched import minimise_each
from pynode.training.shooting import ShootingProblem
from pynode.training.windows import Data

Array = NDArray[np.float64]


def estimate_states(
    field: Field,
    theta: Array,
    data: Data,
    y0: Array,
    weight: Array,
    prior: Array,
    max_iter: int = 50,
    **options: Any,
) -> tuple[Array, Array]:
    """Initial states that fit the data best.

    Parameters
    ----------
    field : Field
        The vector field, with d states and p parameters.
    theta : (p,) array
        Its parameters.
    data : Data
        B trajectories.
    y0 : (B, d) array
        Where to start.
    weight : (d,) array
        Precision of the entries of the data.
    prior : (B, d) array
        Precision of y0 itself: what the data do not determine stays there.
    max_iter : int, default 50
        The most steps of Levenberg-Marquardt.
    **options
        See `pynode.solve`.

    Returns
    -------
    y0 : (B, d) array
        The estimates; the start where a trajectory cannot be solved.
    covariance : (B, d, d) array
        Their covariances; that of the prior where a trajectory cannot be solved.
    """
    problem = ShootingProblem(field, data, y0, weight, prior, **options)
    found = minimise_each(lambda free: problem.each(theta, free), y0, max_iter=max_iter)
    matrix = np.where(found.failed[:, None, None], prior[:, :, None] * np.eye(field.d), found.matrix)
    return found.x, np.linalg.inv(matrix)
