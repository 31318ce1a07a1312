"""Whether residuals follow the control inputs: those of an equation that takes them rightly do not.

An input that takes effect later, or between the readings in another way, leaves residuals that its values now and at the
readings before explain. Smoothing does not see that where inputs change from one reading to the next: it takes what they do
for noise.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

Array = NDArray[np.float64]

LAGS = 5
"""Readings before that are looked at, ..."""

EACH = 4
"""... less where there are not so many residuals for each value."""

CHANCE = 1e-4
"""Residuals follow inputs where chance makes that as likely as this, ..."""

PART = 0.1
"""... and inputs explain this part of their variance."""


def words_for(names: str) -> str:
    """The warning of states, or columns, of these names."""
    return (
        f"the residuals of {names} follow the control inputs, as those of noise do not: these take effect later "
        "(input_delay='auto'), or are another way between the readings (input_kind), or the equation takes them wrongly"
    )


def driven(inputs: Sequence[Array], residual: Sequence[Array]) -> NDArray[np.bool_]:
    """Whether residuals follow the inputs.

    Parameters
    ----------
    inputs : list of (T_i, m) arrays
        Values at the readings of each trajectory.
    residual : list of (T_i, d) arrays
        Residuals, each times the root of its precision; 0 where nothing was observed.

    Returns
    -------
    (d,) bool array
    """
    d, m = residual[0].shape[1], inputs[0].shape[1]
    found = np.zeros(d, dtype=bool)
    for j in range(d):
        for lags in range(LAGS, -1, -1):
            long = [k for k, r in enumerate(residual) if len(r) > lags]
            if not long:
                continue
            r = np.concatenate([residual[k][lags:, j] for k in long])
            x = np.concatenate([_with_lags(inputs[k], lags) for k in long])
            seen = r != 0
            if seen.sum() >= EACH * ((lags + 1) * m + 1):
                follow = [_memory([u[:, i] for u in inputs]) for i in range(m)]
                alike = max(follow, default=0.0) * _memory([each[:, j] for each in residual])
                found[j] = _explained(x[seen], r[seen], alike)
                break
    return found


def _with_lags(u: Array, lags: int) -> Array:
    """(T - lags, (lags + 1) m) values of inputs (T, m), now and before."""
    return np.hstack([u[lags - k : len(u) - k] for k in range(lags + 1)])


def _memory(series: Sequence[Array]) -> float:
    """The lag-1 autocorrelation of series, from 0 on."""
    centred = [x - x.mean() for x in series]
    size = sum(float(x @ x) for x in centred)
    return min(max(sum(float(x[1:] @ x[:-1]) for x in centred) / size, 0.0), 0.99) if size > 0 else 0.0


def _explained(x: Array, r: Array, alike: float) -> bool:
    """Whether columns (n, k) explain residuals (n,) better than chance; alike: the product of their autocorrelations."""
    x = x - x.mean(axis=0)
    spread = x.std(axis=0)
    moving = spread > 1e-9 * np.abs(x).max(initial=0.0)
    r = r - r.mean()
    if not moving.any() or not r.any():
        return False
    left, size, _ = np.linalg.svd(x[:, moving] / spread[moving], full_matrices=False)
    q = int((size > 1e-6 * size[0]).sum())
    share = float(((left[:, :q].T @ r) ** 2).sum() / (r @ r))
    freedom = len(r) * (1 - alike) / (1 + alike) - q - 1  # as many as independent ones tell (Bartlett)
    if freedom < 1:
        return False
    ratio = share / q / max((1 - share) / freedom, 1e-300)
    return share > PART and float(fdtrc(q, freedom, ratio)) < CHANCE
