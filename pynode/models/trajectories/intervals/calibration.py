"""How wide intervals must be: the variance of what a model gets wrong, found from its residuals and from refits.

Three things make an error: noise of a reading, misfit, and parameters that are not what they should be. The variance of the
mean, h after the end of the data, is

    misfit + growth * V(h) + process * P(h) + strange * S(h),

with V what the covariance of the parameters causes, P what a random force on the states does, carried along by the
linearised equation, and S the same of a force that acts where no data are. A reading has the noise on top. The misfit is
the part of the variance of the residuals that is alike from one time to the next. `growth`, `process` and `strange` make
errors likely that refits made, to which a part of the data was not shown (its future, or whole trajectories); a last
factor for each level makes so many of these errors covered (split conformal: Papadopoulos et al. 2002,
doi:10.1007/3-540-36755-1_29; leave future out: Buerkner, Gabry and Vehtari 2020, doi:10.1080/00949655.2020.1783262).
Nothing here knows models: residuals by trajectory and time, and variances along them, are all that is needed.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

GROWTHS = 10.0 ** np.linspace(0.0, 4.0, 41)
"""Factors of the variance by parameters that are tried ..."""

PROCESSES = np.append(0.0, 10.0 ** np.linspace(-5.0, 0.5, 23))
"""... and of that by a random force."""

STRANGES = 10.0 ** np.linspace(-5.0, 1.5, 27)
"""... and by a force far from the data."""

STRANGE = 0.3
"""The strength of that force before the errors of refits are seen ..."""

DOUBT = 1.0
"""... and the standard deviation of half its logarithm."""

ROUNDS = 2
"""Rounds of the search: growth and process together, then strange."""

ENOUGH = 1000
"""The most errors that the search looks at."""

PRIOR = 1.5
"""Standard deviation of ln(growth) / 2 about 0 before the errors of refits are seen ..."""

COST = 0.5
"""... and how much likelier no random force is than any one of the others (in units of the log likelihood)."""

TAILS = 5.0
"""Degrees of freedom of the Student distribution of errors in units of their deviation: some refits fail altogether."""

SQUARE = 0.7338
"""Its squared scale s, fitted to normal errors of variance 1: E[(n + 1) x^2 / (n s + x^2)] = 1 with n = TAILS."""

SHY = 4.0
"""So many independent errors of refits are worth as much as the belief that errors are normal."""

MOST = 400
"""The most standardised errors that are kept."""

SURE = 3.0
"""Standard errors by which residuals must be alike to be misfit."""


@dataclass(frozen=True)
class Errors:
    """Errors of refits where they were shown no data, (n,) each.

    Attributes
    ----------
    error : (n,) array
        Reading minus prediction.
    noise : (n,) array
        Variance of the reading itself, and of misfit.
    parameters : (n,) array
        Variance that the refit's covariance of parameters causes.
    process : (n,) array
        Variance that a random force of unit strength causes ...
    strange : (n,) array
        ... and one that acts far from the data.
    limit : (n,) array
        The largest variance that is sensible.
    block : (n,) int array
        Errors of one state along one trajectory of one refit are alike.
    """

    error: Array
    noise: Array
    parameters: Array
    process: Array
    strange: Array
    limit: Array
    block: NDArray[np.intp]

    @classmethod
    def none(cls) -> Self:
        """No errors."""
        empty = np.zeros(0)
        return cls(empty, empty, empty, empty, empty, empty, np.zeros(0, dtype=np.intp))

    def thinned(self, most: int) -> Self:
        """At most about so many of them, evenly spread."""
        step = max(1, -(-len(self.error) // most))
        return replace(self, **{name: x[::step] for name, x in vars(self).items()})

    @classmethod
    def together(cls, parts: "Sequence[Errors]") -> "Errors":
        """Errors of several refits, each with blocks of its own."""
        if not parts:
            return cls.none()
        first = np.cumsum([0, *(int(part.block.max(initial=-1)) + 1 for part in parts)])
        names = ("error", "noise", "parameters", "process", "strange", "limit")
        columns: dict[str, Array] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(**columns, block=np.concatenate([part.block + k for part, k in zip(parts, first, strict=False)]))


@dataclass(frozen=True)
class Calibration:
    """What intervals need besides the covariance of a model; variances are of the states, or of their logarithms.

    Attributes
    ----------
    noise : (d,) array
        Variance of a new reading; NaN where it is not known.
    misfit : (d,) array
        Variance of the misfit along fitted trajectories.
    inflation : float
        Factor of the variance by parameters along fitted trajectories: residuals that are alike tell less.
    growth : float
        The same where there are no data.
    process, strange : float
        Strengths of the random forces where there are no data.
    scores : (n,) array
        Standardised errors of refits, sorted.
    plain : (n,) array
        The same errors in standard deviations of the noise alone, sorted.
    independent : float
        How many of them are independent, about.
    degrees : float
        Degrees of freedom behind the variance of the noise of a state.
    """

    noise: Array
    misfit: Array
    inflation: float = 1.0
    growth: float = 1.0
    process: float = 0.0
    strange: float = STRANGE
    scores: Array = field(default_factory=lambda: np.zeros(0))
    plain: Array = field(default_factory=lambda: np.zeros(0))
    independent: float = 0.0
    degrees: float = np.inf

    def __post_init__(self) -> None:
        vectors = self.scores.ndim == self.plain.ndim == 1
        if self.noise.ndim != 1 or self.misfit.shape != self.noise.shape or not vectors:
            raise ValueError("noise and misfit must be vectors of one length, scores vectors")
        numbers = (self.inflation, self.growth, self.process, self.strange, self.independent)
        good = all(np.isfinite(x) and x >= 0 for x in numbers) and (self.misfit >= 0).all() and self.degrees > 0
        bad = any((x < 0).any() or (np.diff(x) < 0).any() for x in (self.scores, self.plain))
        if not good or bad or (self.noise < 0).any():
            raise ValueError("variances, factors and scores must not be negative, and scores be sorted")

    def within(self, parameters: Array) -> Array:
        """Variance of the mean along fitted trajectories, from that by parameters (T, d)."""
        return self.misfit + self.inflation * parameters

    def beyond(self, parameters: Array, process: Array, strange: Array, limit: Array) -> Array:
        """Variance of the mean where there are no data; all (T, d), `limit` the largest that is sensible."""
        grown = np.minimum(self.growth * parameters + self.process * process + self.strange * strange, limit)
        return np.asarray(grown + self.misfit)

    def half(self, level: float, variance: Array, ahead: NDArray[np.bool_], reading: bool) -> Array:
        """Half of an interval that holds this part of all.

        Refits that know less than they say widen intervals. Those that know more do not narrow what the covariance of the
        parameters says of the whole fit, which is another one; noise may be less than it seemed, where they show it.

        Parameters
        ----------
        level : float
        variance : (T, d) array
            That of the mean: `within`, and `beyond` where there are no data.
        ahead : (T, 1) bool array
            Where there are no data.
        reading : bool
            Of new readings, not of the mean.
        """
        normal = float(stdtrit(self.degrees, 0.5 + 0.5 * level))
        found = self._refits(self.scores, level, normal)
        mean = np.where(ahead, max(found, normal), normal)
        if not reading:
            return np.asarray(mean * np.sqrt(variance))
        least = self._refits(self.plain, level, normal) if len(self.plain) else found
        noise = np.where(ahead, found if found >= normal else min(normal, max(found, least)), normal)
        return np.asarray(np.sqrt(mean**2 * variance + noise**2 * self.noise))

    def _refits(self, errors: Array, level: float, normal: float) -> float:
        """How many standard deviations hold this part of the errors of refits, sorted, and of a normal distribution.

        The former count as far as there are independent ones.
        """
        n = len(errors)
        if not n:
            return normal
        rank = min((n + 1) / n * level, 1.0)  # of n errors and the new one
        found = float(np.quantile(errors, rank))
        trust = self.independent / (self.independent + SHY)
        student = normal + (normal**3 + normal) / (4 * max(self.independent, 5.0))  # Student's quantile, to first order
        return float(np.exp(trust * np.log(max(found, 1e-3)) + (1 - trust) * np.log(student)))


def split_noise(residuals: Sequence[Array], variance: Array, smooth: Array, degrees: float) -> tuple[Array, Array, float]:
    """(noise (d,), misfit (d,), inflation) from the residuals (T_i, d) of trajectories.

    Parameters
    ----------
    residuals : list of (T_i, d) arrays
        Data minus model; NaN: not observed.
    variance : (d,) array
        Their variance, corrected for what was fitted; NaN where nothing is known.
    smooth : (d,) array
        Variance of the noise that smoothing finds; NaN where it finds none.
    degrees : float
        How many numbers were fitted: residuals of a good fit are negatively correlated.
    """
    first = _correlation(residuals, 1)
    count = np.array([sum(int((~np.isnan(r[:, c])).sum()) for r in residuals) for c in range(len(variance))])
    n = np.maximum(count, 1)
    expected = -np.minimum(degrees / max(count.sum(), 1), 0.5)
    alike = np.clip(first - expected, 0.0, 1.0)
    sure = alike > SURE / np.sqrt(n)
    part = np.where(sure, alike, 0.0)
    scatter = 1 + SURE * np.sqrt(2 / n)
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.where(smooth * scatter < variance, 1 - smooth / variance, 0.0)
    part = np.clip(np.where(sure, np.maximum(part, excess), 0.0), 0.0, 0.99)
    known = np.nan_to_num(variance)
    tau = 1.0
    for lag in range(1, 11):
        more = float(np.mean(np.where(sure, _correlation(residuals, lag), 0.0)))
        if not more > 0.05:
            break
        tau += 2 * more
    return variance * (1 - part), known * part, float(tau)


def _correlation(residuals: Sequence[Array], lag: int) -> Array:
    """(d,) correlation of residuals with those `lag` times later; 0 where there are none."""
    d = residuals[0].shape[1]
    products = np.zeros((2, d))
    squares = np.zeros((2, d))
    for r in residuals:
        pairs = r[lag:] * r[: len(r) - lag] if len(r) > lag else np.zeros((0, d))
        products += [np.nansum(pairs, axis=0), (~np.isnan(pairs)).sum(axis=0)]
        squares += [np.nansum(r**2, axis=0), (~np.isnan(r)).sum(axis=0)]
    mean = products[0] / np.maximum(products[1], 1)
    power = squares[0] / np.maximum(squares[1], 1)
    return np.asarray(np.where(power > 0, mean / np.where(power > 0, power, 1.0), 0.0))


def fit_growth(errors: Errors, distinct: int) -> tuple[dict[str, float], Array, Array, float]:
    """(growth, process and strange that make errors likely; standardised errors; in noise alone; how many are independent).

    distinct: of how many readings the errors are; several refits may have forecast the same one.
    """
    repeated = float(np.sqrt(max(len(errors.error) / max(distinct, 1), 1.0)))
    errors = errors.thinned(ENOUGH)
    columns = (errors.error, errors.parameters, errors.process, errors.strange)
    good = np.all([np.isfinite(x) for x in columns], axis=0) if len(errors.error) else np.zeros(0, bool)
    factors = {"growth": 1.0, "process": 0.0, "strange": STRANGE}
    if not good.any():
        return factors, np.zeros(0), np.zeros(0), 0.0
    e2, v, p, s = (np.asarray(x)[good] for x in (errors.error**2, *columns[1:]))
    noise = np.maximum(errors.noise[good], 1e-300)
    most = errors.limit[good]
    weight, independent = _weights(errors.error[good] / np.sqrt(noise + np.minimum(v, most)), errors.block[good])
    weight, independent = weight / repeated, independent / repeated

    def variance(growth: float, process: float, strange: float) -> Array:
        return np.asarray(noise + np.minimum(growth * v + process * p + strange * s, most))

    def score(growth: float, process: float, strange: float) -> float:
        total = variance(growth, process, strange)
        likely = -0.5 * np.log(total) - 0.5 * (TAILS + 1) * np.log1p(e2 / (SQUARE * total * TAILS))
        believed = (0.5 * np.log(growth) / PRIOR) ** 2 + (0.5 * np.log(strange / STRANGE) / DOUBT) ** 2
        return float(weight @ likely - 0.5 * believed - COST * (process > 0))

    for _ in range(ROUNDS):
        pairs = list(itertools.product(GROWTHS.tolist(), PROCESSES.tolist()))
        found = [score(g, q, factors["strange"]) for g, q in pairs]
        factors["growth"], factors["process"] = pairs[int(np.argmax(found))]
        found = [score(factors["growth"], factors["process"], x) for x in STRANGES.tolist()]
        factors["strange"] = float(STRANGES[int(np.argmax(found))])
    return factors, _sorted(e2 / variance(**factors)), _sorted(e2 / noise), independent


def _sorted(squares: Array) -> Array:
    """The roots of squares, sorted, or as many quantiles of them as are kept."""
    roots = np.sort(np.sqrt(squares))
    return np.asarray(np.quantile(roots, np.linspace(0, 1, MOST))) if len(roots) > MOST else roots


def _weights(z: Array, block: NDArray[np.intp]) -> tuple[Array, float]:
    """(weights of errors, their sum): those of a block that are alike count less."""
    weight = np.zeros(len(z))
    for b in np.unique(block):
        which = np.flatnonzero(block == b)
        x = z[which]
        n = len(x)
        rho = float(np.clip((x[1:] * x[:-1]).sum() / max((x**2).sum(), 1e-300), 0.0, 0.98)) if n > 1 else 0.0
        weight[which] = max((1 - rho) / (1 + rho), 1 / n)
    return weight, float(weight.sum())
