"""Every so many rows of trajectories, for sums over them that need not be exact."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def every(step: int, length: NDArray[np.intp]) -> tuple[NDArray[np.bool_], Array]:
    """(rows that are kept, what each of them counts); every trajectory keeps its first and last row.

    Parameters
    ----------
    step : int
        One row of so many is kept.
    length : (B,) int array
        Rows of the trajectories.

    Returns
    -------
    kept : (rows,) bool array
    weight : (rows,) array
        How many rows each stands for; they sum to the number of rows.
    """
    stop = np.cumsum(length)
    start = stop - length
    place = np.arange(stop[-1]) - np.repeat(start, length)
    left = np.repeat(length, length) - 1 - place
    kept = (left % step == 0) | (place == 0)
    group = np.cumsum(kept) - 1
    group += ~kept  # rows between two that are kept count with the later one
    weight = np.zeros(len(kept))
    weight[kept] = np.bincount(group, minlength=int(kept.sum()))
    return kept, weight
