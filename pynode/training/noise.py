"""The noise of measurements: its variance, and weights of the entries that keep outliers from leading the fit astray."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROBUST = ("gaussian", "huber", "student")
"""The kinds of noise."""


HUBER = 1.345
"""Huber's threshold in standard deviations: 95 % efficiency for Gaussian noise (Huber 1981)."""


STUDENT = 4.0
"""Degrees of freedom of the Student noise."""


GAUSSIAN = {"gaussian": 1.0, "huber": 1.1481504568465237**2, "student": 1.2033643751050191**2}
"""The variance of Gaussian noise over the square of the likeliest scale that each distribution has for it."""


NORMAL = 1.4826
"""The standard deviation of a normal distribution over the median of the absolute deviations from its median."""


def robust_weight(kind: str, r2: Array) -> Array:
    """Weights of iteratively reweighted least squares for squared standardised residuals r2; kind: "huber" or "student"."""
    if kind == "huber":
        return np.minimum(1.0, HUBER / np.sqrt(np.maximum(r2, 1e-300)))
    return (STUDENT + 1) / (STUDENT + r2)


FEW = 3
"""With fewer observed numbers for each parameter, one state could be interpolated and the other be taken for noise."""

PRIOR = 1.0
"""How many numbers of each state the smoother's estimate of the noise counts as, where data are few."""


@dataclass
class Noise:
    """The measurement noise: a variance for each state, and weights of the single entries.

    Attributes
    ----------
    variance : (d,) array
        The variance of each state.
    kind : {"gaussian", "huber", "student"}
        Its distribution.
    given : (rows, d) array
        The user's weights, 0 where nothing was observed.
    least : (d,) array
        The variance below which residuals are rounding.
    prior : (d,) array or None
        Another estimate of the variances, which counts as much as PRIOR numbers. Default: none.
    """

    variance: Array
    kind: str
    given: Array
    least: Array = field(default_factory=lambda: np.zeros(0))
    prior: Array | None = None

    def weights(self, residual: Array) -> Array:
        """Estimate the variances from residuals (rows, d); returns the weights (rows, d) of the squares, up to beta."""
        seen = self.given > 0
        count = np.maximum(seen.sum(axis=0), 1)
        w = self.given.copy()
        if self.kind != "gaussian":
            # scale from the median: outliers do not move it
            scale = np.array(
                [
                    NORMAL * np.median(np.abs(residual[s, c]) * np.sqrt(self.given[s, c])) if s.any() else 1.0
                    for c, s in enumerate(seen.T)
                ]
            )
            self.variance = np.maximum(scale**2, self.least)
            w = self.given * robust_weight(self.kind, residual**2 * self.given / self.variance)
        else:
            squares = (self.given * residual**2).sum(axis=0)
            if self.prior is not None:
                squares = squares + PRIOR * self.prior
                count = count + PRIOR
            self.variance = np.maximum(squares / count, self.least)
        self.variance = np.where(seen.any(axis=0), self.variance, 1.0)
        return np.asarray(w * self.mean / self.variance, dtype=np.float64)

    def misfit(self, residual: Array) -> float:
        """-ln p(data), up to what depends on the data alone, with the variances estimated from residuals (rows, d)."""
        self.weights(residual)
        seen = self.given > 0
        count = seen.sum(axis=0)
        r2 = (self.given * residual**2 / self.variance)[seen]
        if self.kind == "huber":
            rho = np.where(r2 < HUBER**2, 0.5 * r2, HUBER * np.sqrt(r2) - 0.5 * HUBER**2)
        elif self.kind == "student":
            rho = 0.5 * (STUDENT + 1) * np.log1p(r2 / STUDENT)
        else:
            rho = 0.5 * r2
        return float(rho.sum() + 0.5 * (count * np.log(self.variance)).sum())

    @property
    def mean(self) -> np.float64:
        """Geometric mean of the variances of the states that are observed."""
        return np.float64(np.exp(np.log(self.variance[(self.given > 0).any(axis=0)]).mean()))
