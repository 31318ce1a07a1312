"""What a fit by likelihood leaves open, in words; the thresholds are those of `pynode.training.verdict.trajectories`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, ndtri

from pynode.training.error_models import ERROR_MODELS, tail
from pynode.training.likelihood.problem import LikelihoodProblem
from pynode.training.likelihood.run import LikelihoodRun, Maximum
from pynode.training.smoothing import smooth
from pynode.training.verdict.driven_residuals import driven, words_for
from pynode.training.verdict.outliers import outlying
from pynode.training.verdict.residuals import ALIKE, EXACT, EXCESS, NOTHING, PURE, READINGS, nothing_but_noise
from pynode.training.verdict.trajectories import LEFT, SLIGHT

Array = NDArray[np.float64]

ALONE = 3.1
"""As ALIKE, where smoothing and replicates do not tell the noise, or only roughly: one good fit of 1000 exceeds it."""

SCARCE = 33
"""Of fewer readings smoothing tells the noise only roughly, and the limit above which residuals are misfit is larger: of
1000 good fits of 8 to 60 readings one exceeds it."""

LITTLE = 0.1
"""Where nothing tells the noise, residuals explain the readings that have at most this part of their variance ..."""

APART = 2.0
"""... follow each other no more than this ..."""

OUTLIER = 3.0
"""... and none of which is larger than so many standard deviations."""

FEW = 6
"""From fewer numbers than this nothing is concluded."""

LEAST = 1.0
"""With fewer readings beyond the numbers that are estimated than this there are no standard errors."""


@dataclass(frozen=True)
class Columns:
    """The residuals of each measured column.

    Attributes
    ----------
    count : (k,) int array
        Readings that are not censored.
    variance : (k,) array
        Mean squares of their residuals.
    spread : (k,) array
        Variances of the readings.
    noise : (k,) array
        Variances of what is noise in the readings: as replicates tell, or smoothing; NaN: unknown.
    told : (k,) array
        How many numbers tell that.
    alike : (k,) array
        How much standardised residuals follow each other, in standard deviations, see `following`.
    largest : (k,) array
        The largest standardised residual.
    """

    count: NDArray[np.intp]
    variance: Array
    spread: Array
    noise: Array
    told: Array
    alike: Array
    largest: Array

    @property
    def rough(self) -> NDArray[np.bool_]:
        """(k,) whether residuals are larger than those of a good fit in any case."""
        return np.asarray(self.variance > EXACT * self.spread)


def following(z: Array, sample: NDArray[np.intp]) -> float:
    """How much residuals follow each other, as those of misfit do: a normal deviate, 0 where there are too few.

    From von Neumann's ratio of the mean square of differences to the mean square (1941, Ann. Math. Stat. 12, 367), whose
    distribution is a beta distribution but for its fourth moment: a normal one has too little room with few readings.

    Parameters
    ----------
    z : (n,) array
        Standardised residuals in order of time, one trajectory after the other.
    sample : (n,) int array
        The trajectory of each.
    """
    pairs = sample[1:] == sample[:-1]
    m = int(pairs.sum()) + 1
    square = float(np.mean(z * z)) if len(z) else 0.0
    if m < FEW or square == 0:
        return 0.0
    ratio = float((np.diff(z)[pairs] ** 2).mean()) / square
    a = 0.5 * ((m * m - 1) / (m - 2) - 1)
    return float(-ndtri(np.clip(betainc(a, a, min(0.25 * ratio, 1.0)), 1e-300, 1 - 1e-16)))


def pure(z: Array, row: NDArray[np.intp]) -> tuple[float, int]:
    """(variance of replicates about their means, how many numbers tell it) of standardised residuals in rows."""
    _, where, count = np.unique(row, return_inverse=True, return_counts=True)
    mean = np.bincount(where, z) / count
    left = int((count - 1).sum())
    return float(((z - mean[where]) ** 2).sum()) / max(left, 1), left


def _follow(problem: LikelihoodProblem, c: int, z: Array) -> float:
    """`following` of the readings of a column, means of replicates; z: their standardised residuals.

    Of a reading beyond a limit what its residual is on average counts (Gourieroux et al. 1987, J. Econometrics 34, 5).
    """
    rows = problem.columns[c]
    how = problem.readings.censored[rows]
    beyond = how != 0
    z = np.array(z)
    z[beyond] = how[beyond] * tail(problem.noise, (how * z)[beyond])[1]
    order = np.argsort(problem.readings.row[rows], kind="stable")
    row = problem.readings.row[rows][order]
    first = np.flatnonzero(np.diff(row, prepend=-1))
    means = np.add.reduceat(z[order], first) / np.sqrt(np.diff(first, append=len(row)))
    return following(means, problem.readings.sample[rows][order][first])


def _follow_inputs(maximum: Maximum, rough: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(k,) whether the standardised residuals of a column follow the control inputs, see `driven`."""
    problem = maximum.problem
    signal, times = problem.experiment.signal, problem.experiment.times
    if signal is None or not rough.any():
        return np.zeros(len(rough), dtype=bool)
    x = maximum.posterior.theta
    course: Any = problem.course(x, np.asarray(maximum.posterior.free))
    z = np.zeros((sum(map(len, times)), len(rough)))
    for c, rows in enumerate(problem.columns):
        if len(rows):
            own = np.where(problem.readings.censored[rows] == 0, problem.standardised(course, x, c), 0.0)
            np.add.at(z[:, c], problem.readings.row[rows], problem.density.score(own))
    inputs = [signal(t, 0 if signal.shared else i) for i, t in enumerate(times)]
    return np.asarray(rough & driven(inputs, np.split(z, np.cumsum([len(t) for t in times])[:-1])))


def _even(problem: LikelihoodProblem, c: int) -> bool:
    """Whether all readings of a column have the same error, without outliers."""
    if problem.noise != "gaussian":
        return False
    weight = problem.readings.weight[problem.columns[c]]
    return problem.models[c] is ERROR_MODELS["additive"] and bool((weight == weight[0]).all())


class Verdict:
    """Judges maxima of a likelihood by what smoothing finds of noise in the readings.

    Parameters
    ----------
    t, y : lists of (T_i,), (T_i, k) arrays
        Times and readings, means of replicates.
    names : sequence of str
        Of the columns.
    jumps : bool
        There are doses: nothing is smoothed across them.
    """

    def __init__(self, t: list[Array], y: list[Array], names: Sequence[str], jumps: bool) -> None:
        self.names = names
        self.jumps = jumps
        self.noise = np.full(len(names), np.nan) if jumps else np.asarray(smooth(t, y).variance, dtype=np.float64)

    def columns(self, maximum: Maximum) -> Columns:
        """The residuals of each column."""
        problem, x = maximum.problem, maximum.posterior.theta
        readings = problem.readings
        k = len(self.names)
        count = np.zeros(k, np.intp)
        variance = np.zeros(k)
        spread = np.ones(k)
        alike = np.zeros(k)
        noise, told = np.full(k, np.nan), np.zeros(k)
        largest = np.zeros(k)
        course: Any = problem.course(x, np.asarray(maximum.posterior.free))
        for c, rows in enumerate(problem.columns):
            rows = rows[readings.censored[rows] == 0]
            count[c] = len(rows)
            if not len(rows):
                continue
            r = readings.value[rows] - course.value[readings.row[rows], c]
            variance[c] = float(np.mean(r * r))
            spread[c] = float(np.var(readings.value[rows])) or 1.0
            standard = problem.standardised(course, x, c)
            alike[c] = _follow(problem, c, standard)
            z = standard[readings.censored[problem.columns[c]] == 0]
            largest[c] = np.abs(z).max()
            z = problem.density.score(z)  # outliers count as they do in the fit
            order = np.argsort(readings.row[rows], kind="stable")
            z = z[order]
            sample = readings.sample[rows][order]
            row = readings.row[rows][order]
            first = np.flatnonzero(np.diff(row, prepend=-1))
            replicates = np.diff(first, append=len(row))
            within, left = pure(z, row)
            if left >= FEW:
                noise[c], told[c] = variance[c] * within / max(float(np.mean(z * z)), 1e-300), left
            elif self.jumps or _even(problem, c):  # smoothing was told means of replicates
                noise[c], told[c] = self.noise[c] * len(row) / len(first), len(row)
            else:  # the noise of readings is not the same everywhere, that of standardised residuals is
                t = np.concatenate(problem.experiment.times)[row[first]]
                means = np.add.reduceat(z, first) / np.sqrt(replicates)
                cut = np.flatnonzero(np.diff(sample[first])) + 1
                within = float(smooth(np.split(t, cut), np.split(means[:, None], cut)).variance[0])
                noise[c], told[c] = variance[c] * within / max(float(np.mean(z * z)), 1e-300), len(row)
        return Columns(count, variance, spread, noise, told, alike, largest)

    def _alike(self, found: Columns, ratio: Array) -> NDArray[np.bool_]:
        """(k,) whether residuals follow each other."""
        told = np.isfinite(ratio) & (found.told >= SCARCE)
        return np.asarray(found.alike > np.where(told, ALIKE, ALONE))

    def _missed(self, found: Columns) -> tuple[NDArray[np.bool_], Array]:
        """(k,) whether residuals exceed what smoothing finds of noise, and by which factor of the variance (NaN:
        unknown)."""
        known = (found.count > 0) & (found.noise > 0)
        ratio = np.where(known, found.variance / np.where(known, found.noise, 1.0), np.nan)
        limit = EXCESS * (1 + (SCARCE / np.maximum(found.told, 1)) ** 2)
        return found.rough & (ratio > limit), ratio

    def explains(self, maximum: Maximum) -> bool:
        """Whether the residuals are noise, as far as smoothing tells."""
        found = self.columns(maximum)
        missed, ratio = self._missed(found)
        exact = found.variance <= EXACT * found.spread
        alone = (found.count >= FEW) & (found.variance < LITTLE * found.spread)
        alone &= (found.alike < APART) & (found.largest < OUTLIER)
        told = np.isfinite(ratio) | exact | alone | (found.count == 0)
        return bool(told.all() and not missed.any() and not self._alike(found, ratio).any())

    def outliers(self, maximum: Maximum, when: Callable[[float], str]) -> list[str]:
        """Sentences about readings far from a fit, unless outliers are borne; when: a time in words."""
        problem, x = maximum.problem, maximum.posterior.theta
        if problem.noise != "gaussian":
            return []
        readings = problem.readings
        t = np.concatenate(problem.experiment.times)
        course: Any = problem.course(x, np.asarray(maximum.posterior.free))
        words = []
        for c, (name, rows) in enumerate(zip(self.names, problem.columns, strict=True)):
            known = np.flatnonzero(readings.censored[rows] == 0)
            known = known[np.argsort(readings.row[rows][known], kind="stable")]
            if not len(known):
                continue
            z = problem.standardised(course, x, c)[known]
            rows = rows[known]
            left = readings.value[rows] - course.value[readings.row[rows], c]
            if not np.mean(left**2) > EXACT * np.var(readings.value[rows]):
                continue
            words += outlying(name, z, readings.sample[rows], readings.value[rows], t[readings.row[rows]], when)
        return words

    def _of_residuals(self, maximum: Maximum) -> list[str]:
        """What the residuals of the columns tell."""
        found = self.columns(maximum)
        missed, ratio = self._missed(found)
        nothing = found.rough & (found.variance > NOTHING * found.spread)
        pure = found.noise >= PURE * found.variance
        empty = nothing & ~pure & (found.count > 2)
        unseen = nothing & pure & (found.count >= READINGS)
        missed &= ~empty
        alike = found.rough & self._alike(found, ratio) & ~(ratio <= SLIGHT) & ~missed & ~empty
        words = []
        remedy = (
            "the equation may lack something, a dose or a reading may be entered wrongly, or the maximum is a poor one: "
            "try other initial values (n_restarts); noise='student' bears outliers"
        )

        def named(which: NDArray[np.bool_]) -> str:
            return ", ".join(name for name, yes in zip(self.names, which, strict=True) if yes)

        if empty.any():
            words.append(
                f"the model explains hardly anything of {named(empty)}: the residuals are as large as the readings vary; "
                f"{remedy}"
            )
        if unseen.any():
            words.append(nothing_but_noise(named(unseen)))
        if missed.any():
            times = ", ".join(f"{np.sqrt(x):.2g}" for x, yes in zip(ratio, missed, strict=True) if yes)
            words.append(
                f"the residuals of {named(missed)} are {times} times what smoothing or replicates tell of noise: this is "
                f"misfit; {remedy}"
            )
        if alike.any():
            words.append(
                f"the residuals of {named(alike)} follow each other, as those of noise do not: this is misfit; {remedy}"
            )
        follow = _follow_inputs(maximum, found.rough)
        if follow.any():
            words.append(words_for(named(follow)))
        return words

    def doubts(self, run: LikelihoodRun, undetermined: Sequence[str]) -> list[str]:
        """What is doubtful about the best maximum; undetermined: names and values of parameters that no data tell."""
        assert run.best is not None
        state, problem = run.best.posterior, run.best.problem
        words = self._of_residuals(run.best)
        if state.status == "max_iter":
            words.append("training ended after max_iter steps, not at a maximum of the likelihood: take a larger max_iter")
        if state.status == "stalled" and state.left > LEFT:
            words.append(
                "training ended where no step raises the likelihood although its slopes promise one: tighter tolerances "
                "(rtol, atol) or other values of the parameters may help"
            )
        left = problem.n_observed - run.best.degrees
        if left < LEAST:
            words.append(
                f"{run.best.degrees:.0f} numbers are estimated from {problem.n_observed} readings: nothing is "
                "left to tell the noise from, so there are no standard errors (NaN); fix parameters (pynode.frozen) or "
                "initial states (initial=)"
            )
        if undetermined:
            words.append(
                f"the data do not determine {', '.join(undetermined)}: at 0 or at a bound, without influence on what was "
                "measured, or only together with others (model.summary() names them). The covariance is NaN "
                "there; freeze the parameter (pynode.frozen), bound it (pynode.bounded), or "
                "start it elsewhere"
            )
        return words
