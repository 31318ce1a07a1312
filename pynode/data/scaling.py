"""Mean and spread of columns: what models scale their data by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STILL = 1e-14
"""Columns that vary by less than this part of their mean never change, but by rounding."""

FAR = 10.0
"""Columns whose size is more than this many of their standard deviations are far from zero: how closely they are solved and
compared goes by what they vary by."""

FINEST = 1e-13
"""Relative tolerances of states far from zero are not less."""


def shift_and_scale(
    x: NDArray[np.float64], weight: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The shift and the scale that bring columns to mean 0 and variance 1: (x - shift) / scale.

    Parameters
    ----------
    x : (n, d) array
        NaN: not observed.
    weight : (n,) array, optional
        How often each row counts; x has no NaN then.

    Returns
    -------
    shift : (d,) array
        Means; 0 where nothing is observed.
    scale : (d,) array
        Standard deviations; 1 where they are zero, but for rounding, or nothing is observed.

    Examples
    --------
    >>> import numpy as np
    >>> from pynode.data.scaling import shift_and_scale
    >>> shift, scale = shift_and_scale(np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]]))
    >>> shift.tolist(), scale.tolist()
    ([2.0, 5.0], [1.0, 1.0])
    """
    shift, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
    if weight is None:
        seen = ~np.isnan(x).all(axis=0)
        known = x if seen.all() else x[:, seen]
        shift[seen] = np.nanmean(known, axis=0)
        scale[seen] = np.nanstd(known, axis=0)
    else:
        shift = np.average(x, axis=0, weights=weight)
        scale = np.sqrt(np.average((x - shift) ** 2, axis=0, weights=weight))
    return shift, np.where(scale > STILL * np.abs(shift), scale, 1.0)


def spread_within(x: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Standard deviations of columns within trajectories, each about its own mean; of all where nothing varies within.

    Parameters
    ----------
    x : list of (T_i, d) arrays
        NaN: not observed.

    Returns
    -------
    (d,) array
    """
    apart = np.zeros((len(x), x[0].shape[1]))
    for k, part in enumerate(x):
        seen = ~np.isnan(part).all(axis=0)
        apart[k, seen] = np.nanmean(part[:, seen], axis=0)
    within = shift_and_scale(np.concatenate([part - mean for part, mean in zip(x, apart, strict=True)]))[1]
    moves = within > STILL * np.abs(apart).max(axis=0)
    return np.where(moves, within, shift_and_scale(np.concatenate(x))[1])


def tolerances(
    rtol: float,
    atol: float,
    centre: NDArray[np.float64],
    spread: NDArray[np.float64],
    within: NDArray[np.float64] | None = None,
) -> tuple[float, NDArray[np.float64]]:
    """rtol and atol of a solve of states that vary by `spread` around `centre`.

    Parameters
    ----------
    rtol : float
        Relative to the size of states, or to `FAR` of their standard deviations where these are less.
    atol : float
        Relative to their standard deviations.
    centre, spread : (d,) arrays
    within : (d,) array, optional
        Standard deviations within trajectories, which may be at levels far apart. Default: `spread`.

    Returns
    -------
    rtol : float
        Less than what is given where states are far from zero.
    atol : (d,) array
        Of all states by as much more, so that only the steps of those far from zero are shorter.

    Examples
    --------
    >>> import numpy as np
    >>> from pynode.data.scaling import tolerances
    >>> rtol, atol = tolerances(1e-6, 1e-8, np.array([0.0, 1e6]), np.array([1.0, 2.0]))
    >>> f"{rtol:.1g}", atol.round(7).tolist()
    ('2e-11', [1e-06, 2e-05])
    """
    within = spread if within is None else within
    reach, size = FAR * within, np.abs(centre)
    fine = min(rtol, max(rtol * float(np.min(reach / np.maximum(size, reach))), FINEST))
    least = atol * np.where(size > reach, np.minimum(within, spread), spread)
    return fine, least + (rtol - fine) * np.minimum(np.maximum(size, spread), reach)
