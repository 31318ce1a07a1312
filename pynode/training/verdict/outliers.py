"""Readings that lie far from a fit by least squares, and draw it to them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pynode.data.trajectories import Trajectories
from pynode.training.curriculum import Run
from pynode.training.noise import NORMAL
from pynode.training.verdict.residuals import precision, rough, weighted

Array = NDArray[np.float64]

FAR = 8.0
"""A reading lies far off where its residual is this many times the usual one of its column, and of those around it."""

AROUND = 5
"""That many before it, and after it, in its trajectory."""

LEAST = 20
"""From fewer readings than this nothing is concluded."""

SOME = 0.05
"""If more than this part lies far off these are no outliers, but noise that differs, or a misfit."""

PART = 0.1
"""They matter where they have more than this part of the sum of squares."""


def outliers(run: Run, data: Trajectories) -> list[str]:
    """Sentences about readings that lie far from a fit by least squares.

    Parameters
    ----------
    run : Run
        All its stages are done.
    data : Trajectories
        What it was fitted to.
    """
    if run.recipe.noise != "gaussian":
        return []
    z = weighted(run)
    seen = (precision(run) > 0) & rough(run)  # what is left of exact data are errors of solvers
    sample = np.repeat(np.arange(len(data)), data.lengths)
    values = np.concatenate(data.y)
    t = np.concatenate(data.t)
    words = []
    for j, name in enumerate(data.names):
        rows = np.flatnonzero(seen[:, j])
        words += outlying(name, z[rows, j], sample[rows], values[rows, j], t[rows], data.when)
    return words


def outlying(
    name: str, z: Array, sample: NDArray[np.intp], values: Array, t: Array, when: Callable[[float], str]
) -> list[str]:
    """A sentence about a column, where some of its readings lie far off.

    Parameters
    ----------
    name : str
        Of the column.
    z, sample, values, t : (n,) arrays
        In order of time: residuals over their standard deviations, but for a factor, trajectories, readings and times.
    when : callable
        A time in words.
    """
    far = lying_far(z, sample)
    if not (z[far] ** 2).sum() > PART * (z**2).sum():
        return []
    k = int(far[np.argmax(np.abs(z[far]))])
    times = abs(z[k]) / (NORMAL * np.median(np.abs(z)))
    lies = "a reading lies" if len(far) == 1 else f"{len(far)} readings lie"
    where = f"{values[k]:.4g} at {when(float(t[k]))} of trajectory {sample[k]}, {times:.2g} times the usual residual away"
    return [
        f"{name}: {lies} far from the fit ({where}); outliers draw least squares to them: correct them, leave them out "
        "(NaN), or take noise='student', which bears them"
    ]


def lying_far(z: Array, sample: NDArray[np.intp]) -> NDArray[np.intp]:
    """The positions of residuals z (n,) that are FAR beyond the others of all trajectories, and of those next to them."""
    size = np.abs(z)
    usual = NORMAL * float(np.median(size)) if len(z) >= LEAST else 0.0
    beyond = np.flatnonzero(size > FAR * usual)
    if not usual > 0 or len(beyond) > SOME * len(z):
        return np.zeros(0, np.intp)
    first, last = np.searchsorted(sample, sample[beyond]), np.searchsorted(sample, sample[beyond], side="right")
    found = []
    for k, low, high in zip(beyond, first, last, strict=True):
        around = np.arange(max(low, k - AROUND), min(high, k + AROUND + 1))
        near = size[around[around != k]]
        if len(near) >= AROUND and size[k] > FAR * NORMAL * np.median(near):
            found.append(k)
    return np.array(found, np.intp)
