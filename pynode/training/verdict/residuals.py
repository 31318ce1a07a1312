"""The residuals of a run of training, and how they compare with the noise that the smoother found."""

import numpy as np
from numpy.typing import NDArray

from pynode.training.curriculum import Run
from pynode.training.noise import Noise
from pynode.training.verdict.dependence import at_speed, dependence
from pynode.training.verdict.driven_residuals import driven

Array = NDArray[np.float64]

EXCESS = 1.5
"""A variance of residuals above this many times the smoother's estimate of the noise is misfit."""

MANY = 100
"""With fewer numbers of a state than this, estimates of variances scatter, and the limit is wider."""

EXACT = 1e-4
"""Residuals whose variance is below this part of that of the data are those of a good fit, whatever the smoother says."""

NOTHING = 0.8
"""A state whose residuals have more than this part of the variance of its data is not explained."""

PURE = 0.5
"""Nor does smoothing explain it, if it takes more than this part of the residuals' variance for noise, ..."""

READINGS = 10
"""... of so many readings or more."""

ALIKE = 5.0
"""The standardised lag-1 autocorrelation of residuals that are not noise."""


def residuals(run: Run) -> Array:
    """(rows, d) data minus fitted states; 0 where nothing was observed."""
    difference = np.concatenate(run.data.y) - np.concatenate(run.training.states)
    return np.where(np.isnan(difference), 0.0, difference)


def precision(run: Run) -> Array:
    """(rows, d) the user's weights; 0 where nothing was observed."""
    seen = ~np.isnan(np.concatenate(run.data.y))
    return seen * (1.0 if run.data.weight is None else np.concatenate(run.data.weight))


def excess(run: Run) -> Array:
    """(d,) variances of the residuals over the smoother's estimates of the noise; NaN where there is no estimate."""
    _, variance = scatter(run)
    noise = run.smoothed.variance
    known = run.data.seen & (noise > 0)
    return np.where(known, variance / np.where(known, noise, 1.0), np.nan)


def scatter(run: Run) -> tuple[NDArray[np.intp], Array]:
    """(numbers of each state that count (d,), variances of their residuals (d,), by the median where outliers are borne)."""
    counts = precision(run) > 0
    noise = Noise(np.ones(run.data.d), run.recipe.noise, counts.astype(np.float64), np.full(run.data.d, 1e-300))
    noise.weights(residuals(run))
    return counts.sum(axis=0), np.where(run.data.seen, noise.variance, 0.0)


def autocorrelation(run: Run) -> Array:
    """(d,) lag-1 autocorrelations of residuals, in standard deviations of those of white noise; 0 where there is none."""
    counts = precision(run) > 0
    r = residuals(run) * counts
    first = np.cumsum([0, *(len(t) for t in run.data.t)])[:-1]
    pairs = counts[1:] & counts[:-1]
    pairs[first[1:] - 1] = False
    n = pairs.sum(axis=0)
    variance = (r**2).sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
    return np.asarray((r[1:] * r[:-1] * pairs).sum(axis=0) / np.maximum(variance * np.sqrt(n), 1e-300), dtype=np.float64)


def allowed(count: NDArray[np.intp]) -> Array:
    """How many times the smoother's estimate a variance of residuals may be, for so many numbers of each state."""
    return np.asarray(EXCESS * np.sqrt(np.maximum(1.0, MANY / np.maximum(count, 1))))


def too_large(run: Run) -> NDArray[np.bool_]:
    """(d,) whether the residuals of a state are more than the noise that the smoother found."""
    count, variance = scatter(run)
    limit = allowed(count)
    return np.asarray((variance > EXACT * run.data.spread) & (excess(run) > limit))


def placed(run: Run) -> NDArray[np.bool_]:
    """(d,) whether the residuals of a state depend on where the states (and inputs) are, as those of noise do not."""
    states = np.concatenate(run.training.states)
    u = run.data.inputs_at_rows()
    found = dependence(states if u is None else np.hstack([states, u]), weighted(run))
    return np.asarray(rough(run) & found.clear)


def follow_inputs(run: Run) -> NDArray[np.bool_]:
    """(d,) whether the residuals of a state follow the control inputs, see `driven`."""
    u = run.data.inputs_at_rows()
    if u is None:
        return np.zeros(run.data.d, dtype=bool)
    ends = np.cumsum([len(t) for t in run.data.t])[:-1]
    return np.asarray(rough(run) & driven(np.split(u, ends), np.split(weighted(run), ends)))


def larger_where_fast(run: Run) -> Array:
    """(d,) how many times as large squares of residuals are where the states are fast; 1: as elsewhere."""
    states = np.concatenate(run.training.states)
    if run.field.callbacks:
        return np.ones(run.data.d)
    return np.where(rough(run), at_speed(speeds(run), states - run.origin, weighted(run)), 1.0)


def speeds(run: Run) -> Array:
    """(rows, d) derivatives of the states along the model's trajectories."""
    states = np.concatenate(run.training.states)
    with np.errstate(all="ignore"):
        return np.asarray(run.field(np.concatenate(run.data.t), states, run.training.theta, run.data.inputs_at_rows()))


def misfit(run: Run) -> NDArray[np.bool_]:
    """(d,) whether the residuals of a state are more than noise, follow each other, or depend on the state or its speed."""
    alike = rough(run) & (autocorrelation(run) > ALIKE)
    return np.asarray(run.data.seen & (too_large(run) | alike | placed(run) | (larger_where_fast(run) > 1)))


def rough(run: Run) -> NDArray[np.bool_]:
    """(d,) whether residuals are larger than those of a good fit in any case."""
    return np.asarray(run.data.seen & (scatter(run)[1] > EXACT * run.data.spread))


def nothing_but_noise(names: str) -> str:
    """What is to be said of states that neither the model nor smoothing explains."""
    return (
        f"the model explains hardly anything of {names}, in which smoothing finds nothing but noise either: it rests but "
        "for noise, or changes faster than it was read; where it does, only readings closer together show how"
    )


def noisy_columns(run: Run) -> NDArray[np.bool_]:
    """(d,) whether the smoother finds noise in the readings."""
    return np.asarray(run.data.seen & (np.nan_to_num(run.smoothed.variance, nan=0.0) > EXACT * run.data.spread))


def weighted(run: Run) -> Array:
    """(rows, d) residuals times the roots of the user's weights; 0 where nothing was observed."""
    return np.asarray(residuals(run) * np.sqrt(precision(run)))
