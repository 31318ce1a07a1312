"""What a fit by likelihood leaves open, in words; the thresholds are those of `pynode.training.verdict`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.training.likelihood_run import LikelihoodRun, Maximum
from pynode.training.residuals import EXCESS
from pynode.training.smoothing import smooth
from pynode.training.verdict import ALIKE, EXACT, LEFT, MANY, NOTHING, SLIGHT

Array = NDArray[np.float64]


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
    alike : (k,) array
        Lag-1 autocorrelations of standardised residuals, in standard deviations of those of white noise.
    """

    count: NDArray[np.intp]
    variance: Array
    spread: Array
    alike: Array


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
        self.noise = np.full(len(names), np.nan) if jumps else np.asarray(smooth(t, y).variance, dtype=np.float64)

    def columns(self, maximum: Maximum) -> Columns:
        """The residuals of each column."""
        problem, x = maximum.problem, maximum.posterior.theta
        readings = problem.readings
        k = len(self.names)
        count, variance, spread, alike = np.zeros(k, np.intp), np.zeros(k), np.ones(k), np.zeros(k)
        course: Any = problem.course(x, np.asarray(maximum.posterior.free))
        for c, rows in enumerate(problem.columns):
            rows = rows[readings.censored[rows] == 0]
            count[c] = len(rows)
            if not len(rows):
                continue
            r = readings.value[rows] - course.value[readings.row[rows], c]
            variance[c] = float(np.mean(r * r))
            spread[c] = float(np.var(readings.value[rows])) or 1.0
            z = problem.standardised(course, x, c)[readings.censored[problem.columns[c]] == 0]
            order = np.argsort(readings.row[rows], kind="stable")
            z, sample, row = z[order], readings.sample[rows][order], readings.row[rows][order]
            pairs = (sample[1:] == sample[:-1]) & (row[1:] != row[:-1])
            if pairs.any():
                alike[c] = float((z[1:] * z[:-1])[pairs].sum() / np.sqrt(pairs.sum()) / max(np.mean(z * z), 1e-300))
        return Columns(count, variance, spread, alike)

    def _missed(self, found: Columns) -> tuple[NDArray[np.bool_], Array]:
        """(k,) whether residuals exceed what smoothing finds of noise, and by which factor of the variance (NaN: "
        "unknown)."""
        known = (found.count > 0) & (self.noise > 0)
        ratio = np.where(known, found.variance / np.where(known, self.noise, 1.0), np.nan)
        limit = EXCESS * np.sqrt(np.maximum(1.0, MANY / np.maximum(found.count, 1)))
        rough = found.variance > EXACT * found.spread
        return rough & (ratio > limit), ratio

    def explains(self, maximum: Maximum) -> bool:
        """Whether the residuals are noise, as far as smoothing tells."""
        found = self.columns(maximum)
        missed, ratio = self._missed(found)
        exact = found.variance <= EXACT * found.spread
        told = np.isfinite(ratio) | exact | (found.count == 0)
        return bool(told.all() and not missed.any() and (found.alike < ALIKE).all())

    def doubts(self, run: LikelihoodRun, undetermined: Sequence[str]) -> list[str]:
        """What is doubtful about the best maximum; undetermined: names and values of parameters that no data tell."""
        assert run.best is not None
        found = self.columns(run.best)
        state, problem = run.best.posterior, run.best.problem
        missed, ratio = self._missed(found)
        rough = found.variance > EXACT * found.spread
        empty = rough & (found.variance > NOTHING * found.spread) & ~(self.noise >= 0.5 * found.variance) & (found.count > 2)
        missed &= ~empty
        alike = rough & (found.alike > ALIKE) & ~(ratio <= SLIGHT) & ~missed & ~empty
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
        if missed.any():
            times = ", ".join(f"{np.sqrt(x):.2g}" for x, yes in zip(ratio, missed, strict=True) if yes)
            words.append(
                f"the residuals of {named(missed)} are {times} times what smoothing finds of noise: this is misfit; {remedy}"
            )
        if alike.any():
            words.append(
                f"the residuals of {named(alike)} follow each other, as those of noise do not: this is misfit; {remedy}"
            )
        if state.status == "max_iter":
            words.append("training ended after max_iter steps, not at a maximum of the likelihood: take a larger max_iter")
        if state.status == "stalled" and state.left > LEFT:
            words.append(
                "training ended where no step raises the likelihood although its slopes promise one: tighter tolerances "
                "(rtol, atol) or other values of the parameters may help"
            )
        left = problem.n_observed - run.best.degrees
        if left < 1:
            words.append(
                f"{run.best.degrees:.0f} numbers are estimated from {problem.n_observed} readings: nothing is "
                "left to tell the noise from, and standard errors mean little; fix parameters (pynode.frozen) or initial "
                "states (initial=)"
            )
        if undetermined:
            words.append(
                f"the data do not determine {', '.join(undetermined)}: at 0 or at a bound, or without influence on what was "
                "measured. The covariance is NaN there; freeze the parameter (pynode.frozen), bound it (pynode.bounded), or "
                "start it elsewhere"
            )
        return words
