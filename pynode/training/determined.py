"""What data determine: the covariance of parameters of which some, or some combinations, have no influence."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from pynode.training.coordinates import VAGUE, Coordinates

Array = NDArray[np.float64]

ROUNDING = 1e-12
"""Curvatures below this part of those of the coordinates that take part are rounding."""

FAINT = 1e-24
"""A coordinate of less than this part of the largest curvature, 1e-12 of the largest influence, moves states by rounding."""

HELD = 0.01
"""A coordinate that takes part in directions that are not determined, by more than this part, is not determined itself."""


@dataclass(frozen=True)
class Determined:
    """What normal equations say of n coordinates.

    Attributes
    ----------
    covariance : (n, n) array
        Their covariance, directions that are not determined being held: whatever depends on what is determined has the
        right variance, also where no single parameter is determined, but their sum.
    lost : (n,) bool array
        Coordinates that are not determined by themselves.
    n_lost : float
        How many directions are not determined, those of other coordinates (the rest of H) not counted.
    """

    covariance: Array
    lost: NDArray[np.bool_]
    n_lost: float


def determined(coordinates: Coordinates, x: Array, H: Array) -> Determined:
    """What the data determine of coordinates x (n,).

    A direction is not determined where its standard deviation is a factor of VAGUE, as in `Coordinates.undetermined`.

    Parameters
    ----------
    coordinates : Coordinates
        Of the parameters.
    x : (n,) array
        Where they are.
    H : (m, m) array
        The inverse of their covariance, and of that of m - n logarithms beside them.
    """
    n = len(x)
    limited = coordinates.log | coordinates.box
    size = np.maximum(np.maximum(np.abs(x), np.abs(coordinates.base[coordinates.index])), 1.0)
    most = np.full(len(H), np.log(VAGUE))
    most[:n] = np.where(limited, np.log(VAGUE), VAGUE * size)
    if not len(H):
        return Determined(np.zeros((0, 0)), np.zeros(0, bool), 0.0)
    steep = np.diag(H) * most**2
    faint = steep < FAINT * steep.max()
    H = np.where(faint | faint[:, None], 0.0, H)
    most = within_rounding(most, H)
    w, V = eigh(most[:, None] * H * most)
    none = w < 1.0
    spread = ((V[:, none] ** 2) / np.maximum(w[none], 1e-14 * max(w[-1], 1e-300))).sum(axis=1)
    known = V[:, ~none] * most[:, None]
    covariance = (known / w[~none]) @ known.T
    n_lost = float((V[:n, none] ** 2).sum())
    held = (V[:, none] ** 2).sum(axis=1) > HELD
    return Determined(covariance[:n, :n], (spread > 1.0)[:n] | held[:n], n_lost)


def within_rounding(unit: Array, H: Array, least: float = 1.0) -> Array:
    """Units (n,) of coordinates in which the curvatures H (n, n) of all of them tell `least` from rounding.

    A coordinate that is known to a part in 1e9 makes the curvature of another, known to a part in 100, look like rounding.
    The unit of the former is therefore smaller than what is asked for.

    Parameters
    ----------
    unit : (n,) array
        What is asked for.
    H : (n, n) array
    least : float, default 1
        The least curvature that matters, in these units.

    Returns
    -------
    (n,) array
    """
    steep = np.sqrt(np.maximum(np.diag(H), 0.0))
    return np.asarray(np.minimum(unit, np.sqrt(least / ROUNDING) / np.maximum(steep, 1e-300)), dtype=np.float64)
