"""The data of the code lab: noisy solutions of y' = -2 y."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Lab(NamedTuple):
    """Five trajectories.

    Attributes
    ----------
    t : (21,) array
        Times in seconds (more with a later end).
    y0 : (5, 1) array
        Starts.
    noisy : (5, 21, 1) array
        States as measured.
    clean : (5, 21, 1) array
        States without noise.
    """

    t: NDArray[np.float64]
    y0: NDArray[np.float64]
    noisy: NDArray[np.float64]
    clean: NDArray[np.float64]


def code_lab(noise: float = 0.02, end: float = 1.0, random_state: int | None = 0) -> Lab:
    """Solutions of y' = -2 y from five starts, every 0.05 s.

    Parameters
    ----------
    noise : float, default 0.02
        Standard deviation of the measurements.
    end : float, default 1.0
        The last time, in seconds.
    random_state : int or None, default 0
        The same number, the same noise; None: another each time.

    Returns
    -------
    Lab

    See Also
    --------
    pynode.datasets.van_der_pol

    Examples
    --------
    >>> from pynode.course import code_lab
    >>> code_lab(end=2.0).noisy.shape
    (5, 41, 1)
    """
    t = np.linspace(0.0, end, round(end / 0.05) + 1)
    y0 = np.array([[-1.5], [-0.75], [0.5], [1.0], [1.5]])
    clean = y0[:, None] * np.exp(-2.0 * t)[None, :, None]
    noisy = clean + noise * np.random.default_rng(random_state).standard_normal(clean.shape)
    return Lab(t, y0, noisy, clean)
