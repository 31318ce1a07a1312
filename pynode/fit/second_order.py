"""Training a small field with second order: slopes, then windows, then whole trajectories, each by Levenberg-Marquardt on
exact sensitivities, with the strength of the priors and of the noise estimated from the data along the way.

The stages are those of `pynode.fit.curriculum`; what differs is the optimiser, and that in the end the covariance of the
parameters is known (Laplace approximation), from which error bands follow.
"""

import time
import warnings
from dataclasses import dataclass, replace
from dataclasses import field as _field
from typing import Any

import numpy as np

from pynode.errors import OK
from pynode.fit.blas import small_matrices
from pynode.fit.curriculum import LOST, NOTHING_SOLVED, WORSE, FitError, FitWarning, Stage
from pynode.fit.least_squares import MatchingProblem, ShootingProblem
from pynode.fit.levenberg_marquardt import Posterior, levenberg_marquardt, log_evidence
from pynode.fit.objective import Windows
from pynode.fit.result import FitInterrupted, FitResult

MAX_PARAMETERS = 1500
MAX_STATES = 20
"""Above these L-BFGS is the better choice: a step costs O(n p^2)."""

ROUNDING = 1e-14
"""Part of the variance of the data below which residuals are rounding, not noise."""

FIRST_NOISE = 0.01
"""Most of the variance of the data that is taken for noise at first: smoothing of sparse data sees signal as noise, and
what starts as noise may never be explained."""

SETTLED = 0.1
"""See `levenberg_marquardt`: along trajectories the noise is re-estimated only once steps gain less than this part."""

ROBUST = ("gaussian", "huber", "student")
HUBER = 1.345
"""Huber's threshold in standard deviations: 95 % efficiency for Gaussian noise (Huber 1981)."""
STUDENT = 4.0
"""Degrees of freedom of the Student noise."""


def robust_weight(kind, r2):
    """Weights of iteratively reweighted least squares for squared standardised residuals r2."""
    if kind == "huber":
        return np.minimum(1.0, HUBER / np.sqrt(np.maximum(r2, 1e-300)))
    return (STUDENT + 1) / (STUDENT + r2)


@dataclass
class Noise:
    """The measurement noise: a variance for each state, and weights of the single entries.

    Attributes
    ----------
    variance : (d,) array
    kind : {"gaussian", "huber", "student"}
    given : (rows, d) array
        The user's weights, 0 where nothing was observed.
    """

    variance: np.ndarray
    kind: str
    given: np.ndarray
    least: np.ndarray = _field(default_factory=lambda: np.zeros(0))

    def weights(self, residual):
        """Weights (rows, d) of the squares, up to the factor beta, after estimating the variances from residuals."""
        seen = self.given > 0
        count = np.maximum(seen.sum(axis=0), 1)
        w = self.given.copy()
        if self.kind != "gaussian":
            # scale from the median: outliers do not move it
            scale = np.array(
                [
                    1.4826 * np.median(np.abs(residual[s, c]) * np.sqrt(self.given[s, c])) if s.any() else 1.0
                    for c, s in enumerate(seen.T)
                ]
            )
            self.variance = np.maximum(scale**2, self.least)
            w = self.given * robust_weight(self.kind, residual**2 * self.given / self.variance)
        else:
            self.variance = np.maximum((self.given * residual**2).sum(axis=0) / count, self.least)
        mean = np.exp(np.log(self.variance).mean())
        return w * mean / self.variance


@dataclass(frozen=True)
class SecondOrder:
    """How to train.

    Attributes
    ----------
    windows : tuple of int or None
    max_iter : int
        Steps of a stage.
    tol : float
        Relative decrease at which a stage ends.
    groups : list of int arrays
        Parameters that share the precision of their prior, which is estimated.
    alpha : float
        Precision of the prior of the others.
    noise : {"gaussian", "huber", "student"}
    n_restarts : int
        Random starts; the best after matching slopes goes on.
    options : dict
        Of `pynode.solve`.
    """

    windows: tuple
    max_iter: int
    tol: float
    groups: list
    alpha: float
    noise: str
    n_restarts: int
    options: dict

    @property
    def total_iterations(self):
        return self.max_iter * (len(self.windows) + self.n_restarts)


def prior_groups(field):
    """Parameters drawn at random or named by `pynode.mlp` share a prior, array by array; given initial values have none."""
    return [np.arange(p.offset, p.stop) for p in field.spec if _of_network(field, p)]


def _of_network(field, p):
    leaf = p.name.rsplit(".", 1)[-1]
    return p.init[0] == "normal" or (leaf[:1] == "b" and leaf[1:].isdigit())


def train_second_order(field, t, y, training, smoothed, plan, starts, callback=None):
    """Train a field on trajectories; see `pynode.fit.curriculum.train`.

    Parameters
    ----------
    field, t, y, training, smoothed : see `pynode.fit.curriculum.train`
    plan : SecondOrder
    starts : list of (p,) arrays
        Initial parameters to try.
    callback : callable, optional

    Returns
    -------
    Posterior
        Of the last stage. `training` is changed in place.
    """
    run = _Run(field, t, y, plan, callback, training, smoothed)
    with small_matrices(field.n_params):
        run.match(starts)
        for intervals in dict.fromkeys(plan.windows):
            if run.stopped:
                break
            run.shoot(intervals)
    if not run.stopped and not any(stage.windows and stage.status != "left out" for stage in training.stages):
        raise FitError(NOTHING_SOLVED)
    run.posterior.noise = run.deviation()
    return run.posterior


class _Run:
    def __init__(self, field, t, y, plan, callback, training, smoothed):
        self.field, self.t, self.y, self.plan, self.callback, self.training = field, t, y, plan, callback, training
        self.smoothed, self.start, self.stopped = smoothed, time.perf_counter(), False
        spread = np.nanvar(np.concatenate(y), axis=0)
        self.spread = np.where(spread > 0, spread, 1.0)
        self.least = ROUNDING * self.spread
        self.unexplained = np.inf
        self.n_observed = int(sum((~np.isnan(v)).sum() for v in y))
        variance = np.where(np.isnan(smoothed.variance), np.nanmean(np.append(smoothed.variance, 0.01)), smoothed.variance)
        self.variance = np.clip(variance, self.least, FIRST_NOISE * self.spread)
        self.posterior = Posterior(training.theta, None, self._first_alpha(), 1.0 / self.variance.mean())

    def _first_alpha(self):
        alpha = np.full(self.field.n_params, self.plan.alpha)
        for g in self.plan.groups:
            alpha[g] = 1.0
        return alpha

    def match(self, starts):
        """Fit the slopes of smoothed data from every start; keep the best."""
        t, states, slope = (np.concatenate(x) for x in (self.t, self.smoothed.y, self.smoothed.slope))
        known = ~np.isnan(slope).any(axis=1) & ~np.isnan(states).any(axis=1)
        if known.sum() < 2 or self.field.n_params == 0 or self.field.callbacks:
            return
        best: Any = None
        scale = np.maximum(np.var(slope[known], axis=0), ROUNDING * self.spread)
        problem = MatchingProblem(self.field, t[known], states[known], slope[known], 1.0 / scale)
        for theta in starts:
            stage = Stage("slopes")
            self.training.stages.append(stage)
            state = Posterior(theta.copy(), None, self._first_alpha(), 10.0, least=ROUNDING * slope[known].size)
            self._optimise(stage, problem, state, tol=1e-2, damping=1e-2)
            score = log_evidence(problem, state)
            if best is None or score > best[0]:
                best = (score, state)
            if self.stopped:
                break
        beta = self.posterior.beta
        self.posterior = best[1]
        self.posterior.beta = beta
        self.training.theta = self.posterior.theta

    def shoot(self, intervals):
        """Fit windows of this many intervals (None: whole trajectories)."""
        cut = Windows.cut(self.t, self.y, intervals)
        y0 = np.stack([self.training.states[i][j] for i, j in cut.source])
        last = intervals == list(dict.fromkeys(self.plan.windows))[-1]
        given = np.where(np.isnan(np.concatenate(cut.y)), 0.0, 1.0)
        noise = Noise(self.variance, self.plan.noise, given, self.least)
        mean = np.exp(np.log(self.variance).mean())
        problem = ShootingProblem(self.field, cut.t, cut.y, y0, weight=mean / self.variance, **self.plan.options)
        state = replace(
            self.posterior,
            free=y0.copy(),
            beta=1.0 / mean,
            alpha=self.posterior.alpha.copy(),
            least=ROUNDING * problem.n_observed * np.exp(np.log(self.spread).mean()),
        )
        stage = Stage("whole trajectories" if intervals is None else f"windows of {intervals}", len(cut))
        self.training.stages.append(stage)

        def reweigh(problem, state):
            residual = problem.residual(state.theta, state.free)
            if np.isfinite(residual).all():
                problem.set_weight(noise.weights(residual))

        self._optimise(stage, problem, state, tol=self.plan.tol if last else 10 * self.plan.tol, on_iteration=reweigh)
        stage.nfe = problem.nfe
        if state.status == "failed" or self._lost(problem, state):
            stage.status = "left out" if state.status == "failed" else "undone"
            self.training.theta = self.posterior.theta
            known = [s.name for s in self.training.stages if s.windows and s.status not in ("undone", "left out")]
            what = (
                f"the field could not be solved over {stage.name}; this stage was left out"
                if stage.status == "left out"
                else f"the data cannot be followed over {stage.name}: "
                f"the parameters fitted to {(known or ['slopes'])[-1]} stay"
            )
            warnings.warn(what, FitWarning, stacklevel=5)
            return
        self.posterior, self.variance = state, noise.variance
        self._keep_states(cut, problem, state)

    def deviation(self):
        """Standard deviation of the noise of each state, the parameters that were fitted taken into account."""
        posterior, n = self.posterior, self.n_observed
        fitted = min(posterior.gamma + np.size(posterior.free if posterior.free is not None else 0), 0.95 * n)
        return np.sqrt(self.variance * (n / (n - fitted) if self.plan.noise == "gaussian" else 1.0))

    def _lost(self, problem, state):
        """Whether the data are not explained over windows this long, much worse than before: chaos."""
        residual = problem.residual(state.theta, state.free)
        seen = problem.root > 0
        unexplained = float(np.mean(residual[seen] ** 2) / np.mean((np.broadcast_to(self.spread, seen.shape))[seen]))
        worse = unexplained > (0.5 if state.status == "max_iter" else LOST) and unexplained > WORSE * self.unexplained
        self.unexplained = self.unexplained if worse else unexplained
        return worse

    def _keep_states(self, cut, problem, state):
        raw = problem.problem.setup.run(np.ascontiguousarray(state.theta), y0=np.ascontiguousarray(state.free))
        y = np.split(raw["y"], problem.start[1:])
        for (i, j), states, status in zip(cut.source, y, raw["status"], strict=True):
            if status == OK:
                self.training.states[i][j : j + len(states)] = states

    def _optimise(self, stage, problem, state, tol, damping=1e-3, on_iteration=None):
        index, history, started = len(self.training.stages) - 1, self.training.history, time.perf_counter()
        evaluations, iterations = state.n_evaluations, state.n_iter

        def after_step(state, objective, gradient_norm, seconds):
            self.training.theta = state.theta
            loss = state.loss / problem.n_observed
            for name, value in (
                ("stage", index),
                ("loss", loss),
                ("gradient_norm", gradient_norm),
                ("seconds", time.perf_counter() - self.start),
            ):
                history[name].append(value)
            step = Step(len(history["loss"]), state.theta.copy(), loss, gradient_norm, seconds)
            if self.callback is not None and self.callback(stage, step) is True:
                self.stopped = True
            return self.stopped

        try:
            levenberg_marquardt(
                problem,
                state,
                groups=self.plan.groups,
                max_iter=self.plan.max_iter,
                tol=tol,
                damping=damping,
                callback=after_step,
                settled=SETTLED if problem.n_free else 1.0,
                on_iteration=on_iteration,
            )
        except KeyboardInterrupt:
            result = FitResult(
                state.theta,
                state.loss / problem.n_observed,
                "interrupted",
                "interrupted",
                state.n_iter,
                state.n_evaluations,
                {name: np.array(x) for name, x in history.items()},
            )
            raise FitInterrupted(result) from None
        finally:
            stage.status, stage.loss = state.status, state.loss / problem.n_observed
            stage.iterations, stage.evaluations = state.n_iter - iterations, state.n_evaluations - evaluations
            stage.seconds = time.perf_counter() - started


@dataclass(frozen=True)
class Step:
    """What a callback sees after each step; to stop training it returns True."""

    number: int
    theta: np.ndarray
    loss: float
    gradient_norm: float
    seconds: float
