"""Training a small field with second order: slopes, then windows, then whole trajectories, each by Levenberg-Marquardt on
exact sensitivities, with the strength of the priors and of the noise estimated from the data along the way.

The stages are those of `pynode.fit.curriculum`; what differs is the optimiser, and that in the end the covariance of the
parameters is known (Laplace approximation), from which error bands follow.
"""

import time
from dataclasses import dataclass, replace

import numpy as np

from pynode.optim.levenberg_marquardt import LaplacePosterior, conclude, descend, log_evidence
from pynode.optim.normal_equations import small_matrices
from pynode.training.curriculum import LOST, WORSE, Run, Stage
from pynode.training.matching import MatchingProblem
from pynode.training.noise import Noise
from pynode.training.shooting import ShootingProblem

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


MATCHED = 20_000
"""Rows at most whose slopes are matched; more tell hardly more."""


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
    starts : list of (p,) arrays
        Random starts; the best after matching slopes goes on.
    options : dict
        Of `pynode.solve`.
    plain : int or None
        Where in `starts` those are that are not random but plain (linear); None: nowhere.
    part : int or None
        Start with this many of the trajectories, drawn by `seed`; all of them come in a last stage.
    seed : int
    """

    windows: tuple
    max_iter: int
    tol: float
    groups: list
    alpha: float
    noise: str
    starts: list
    options: dict
    plain: int | None = None
    part: int | None = None
    seed: int = 0

    @property
    def total_iterations(self):
        return self.max_iter * (len(self.windows) + (self.part is not None)) + self.matching * len(self.starts)

    @property
    def matching(self):
        """Steps on slopes, at most."""
        return min(self.max_iter, MATCHING_STEPS)


STEPS = 100
"""Steps of a stage, by default; most stages converge in 5 to 40."""


MATCHING_STEPS = 40
"""The most steps on slopes."""


NEAR = 0.5
"""Log evidence a number by which the slopes must favour a random start so that the plain one is not tried on the data ..."""


FAR = 0.1
"""... and by which one of the two must be ahead to be taken before all stages were tried."""


ENOUGH = 60
"""Observed numbers a parameter with which training starts where there are many more."""


def is_small(field):
    """Whether second order is the better choice for a field."""
    return field.n_params <= MAX_PARAMETERS and field.d <= MAX_STATES and not field.callbacks


def part_of(data, n_params):
    """How many trajectories are enough to start with, or None: all."""
    n = int(np.ceil(ENOUGH * n_params / max(data.n_observed / len(data), 1)))
    n = max(n, 32)
    return n if 4 * n <= len(data) else None


def prior_groups(field):
    """Parameters drawn at random or named by `pynode.mlp` share a prior, array by array; given initial values have none."""
    return [np.arange(p.offset, p.stop) for p in field.spec if _of_network(field, p)]


def _of_network(field, p):
    leaf = p.name.rsplit(".", 1)[-1]
    return p.init[0] == "normal" or (leaf[:1] == "b" and leaf[1:].isdigit())


class SecondOrderRun(Run):
    """The stages, by Levenberg-Marquardt.

    Attributes
    ----------
    posterior : Posterior
        Of the last stage that worked; of x, see `pynode.fit.coordinates`.
    fitted : (int or None, bool, int) or None
        Of that stage: intervals, whether of all trajectories, how many observed numbers.
    """

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.spread, self.seen = self.data.spread, self.data.seen
        self.least = ROUNDING * self.spread
        self.unexplained = np.inf
        part = np.arange(len(self.data))
        if self.recipe.part is not None:
            part = np.sort(np.random.default_rng(self.recipe.seed).choice(part, self.recipe.part, replace=False))
        self.part = part
        variance = self.smoothed.variance
        typical = np.mean(np.append(variance[~np.isnan(variance)], 0.01))
        variance = np.where(np.isnan(variance), typical, variance)
        self.variance = np.clip(variance, self.least, FIRST_NOISE * self.spread)
        self.groups = self.coordinates.groups(self.recipe.groups)
        self.posterior = LaplacePosterior(
            self.coordinates.x(self.training.theta), None, self._first_alpha(), 1.0 / self.variance[self.seen].mean()
        )
        self.fitted = None

    def surroundings(self):
        return small_matrices(len(self.coordinates))

    def finish(self):
        self.posterior.noise = self.deviation()

    def steps(self):
        part = self.recipe.part is not None
        return [(n, not part) for n in dict.fromkeys(self.recipe.windows)] + ([(None, True)] if part else [])

    def saved(self):
        state = self.posterior
        return {
            "theta": state.theta,
            "alpha": state.alpha,
            "beta": state.beta,
            "gamma": state.gamma,
            "loss": state.loss,
            "covariance": state.covariance,
            "free": state.free,
            "free_gain": state.free_gain,
            "free_covariance": state.free_covariance,
            "counts": [state.n_iter, state.n_evaluations],
            "fitted": self.fitted,
            "variance": self.variance,
            "unexplained": self.unexplained,
        }

    def restore(self, saved):
        self.variance, self.unexplained = saved["variance"], saved["unexplained"]
        self.fitted = None if saved["fitted"] is None else tuple(saved["fitted"])
        n_iter, n_evaluations = saved["counts"]
        same = ("theta", "alpha", "beta", "gamma", "loss", "covariance", "free", "free_gain", "free_covariance")
        self.posterior = replace(
            self.posterior, **{name: saved[name] for name in same}, n_iter=n_iter, n_evaluations=n_evaluations
        )

    def _first_alpha(self):
        alpha = np.full(len(self.coordinates), self.recipe.alpha)
        for g in self.groups:
            alpha[g] = 1.0
        return alpha

    def match(self):
        """Fit the slopes of smoothed data from every start; keep the best."""
        known = self.known_slopes(MATCHED)
        if known is None or self.field.callbacks:
            return
        t, states, slope, u = known
        scale = np.maximum(np.var(slope, axis=0), ROUNDING * self.spread)
        problem, beta = MatchingProblem(self.field, t, states, slope, 1.0 / scale, u, self.coordinates), self.posterior.beta
        found = []
        for theta in self.recipe.starts:
            stage = Stage("slopes")
            self.begin(stage)
            x = self.coordinates.x(theta).copy()
            state = LaplacePosterior(x, None, self._first_alpha(), 10.0, least=ROUNDING * slope.size)
            self._descend(stage, problem, state, tol=1e-2, damping=1e-2)
            found.append((log_evidence(problem.n_observed, state), state))
            if self.stopped:
                break
        random = len(self.recipe.starts) if self.recipe.plain is None else self.recipe.plain
        rivals = [max(found[:random], key=lambda pair: pair[0]), *found[random:]]
        for _, state in rivals:
            state.beta = beta
        near = len(rivals) == 2 and rivals[0][0] - rivals[1][0] < NEAR * problem.n_observed
        if near and not self.stopped:
            self._trial([state for _, state in rivals])
        else:
            self.posterior = max(rivals, key=lambda pair: pair[0])[1]
        self.training.theta = self.coordinates.theta(self.posterior.theta)

    def _trial(self, rivals):
        """Go through the stages from each of these, until the evidence of one is far ahead; keep it.

        Errors of smoothed slopes are alike from one time to the next, so their evidence favours fields that bend to
        them, or that do not bend at all; that of the data themselves decides. The stages proper start from the winner.
        """
        checkpoint, self.checkpoint, self.trial = self.checkpoint, None, True
        first, states = (self.variance, self.unexplained), self.training.states
        tried = [(0.0, rival, *first, [x.copy() for x in states]) for rival in rivals]
        for intervals, everything in self.steps():
            for k, (_, *rival) in enumerate(tried):
                self.posterior, self.variance, self.unexplained, self.training.states = rival
                self.fitted = None
                self.shoot(intervals, everything)
                score = -np.inf if self.fitted is None else log_evidence(self.fitted[2], self.posterior)
                tried[k] = (score, self.posterior, self.variance, self.unexplained, self.training.states)
                if self.stopped:
                    break
            scores = [score for score, *_ in tried]
            if self.stopped or self.fitted is None or abs(scores[0] - scores[1]) > FAR * self.fitted[2]:
                break
        _, self.posterior, *_ = max(tried, key=lambda rival: rival[0])
        self.posterior = replace(self.posterior, free=None)
        (self.variance, self.unexplained), self.training.states = first, states
        self.checkpoint, self.trial, self.fitted = checkpoint, False, None

    def shoot(self, intervals, everything=True):
        chosen = np.arange(len(self.data)) if everything else self.part
        data = self.data if everything else self.data.take(chosen)
        cut = data.windows(intervals)
        y0 = cut.initial([self.training.states[i] for i in chosen])
        seen = ~np.isnan(np.concatenate(cut.y))
        given = seen * (1.0 if cut.weight is None else np.concatenate(cut.weight))
        noise = Noise(self.variance, self.recipe.noise, given, self.least)
        options = self.recipe.options | {"coordinates": self.coordinates}
        problem = ShootingProblem(self.field, cut, y0, weight=given * noise.mean / self.variance, **options)
        name = "whole trajectories" if intervals is None else f"windows of {intervals}"
        name = f"trial on {name}" if self.trial else name
        stage = Stage(name if everything else f"{name} of a part", len(cut))
        self.begin(stage, intervals)
        failed = problem.failed(self.posterior.theta, y0)
        if failed.sum() > len(cut) / 2:
            self.left_out(stage, "left out")
            return
        if failed.any():
            self.windows_left_out(stage, failed)
            problem.leave_out(failed)
            noise.given[np.repeat(failed, problem.length)] = 0.0
        state = replace(
            self.posterior,
            free=y0.copy(),
            beta=1.0 / noise.mean,
            alpha=self.posterior.alpha.copy(),
            least=ROUNDING * problem.n_observed * np.exp(np.log(self.spread[self.seen]).mean()),
        )

        def reweigh(state):
            residual = problem.residual(state.theta, state.free)
            if np.isfinite(residual).all():
                problem.set_weight(noise.weights(residual))

        last = (intervals, everything) == self.steps()[-1]
        tol = self.recipe.tol if last and self.recipe.part is None else 10 * self.recipe.tol
        self._descend(stage, problem, state, tol, on_iteration=reweigh, more=_Weights(problem, noise))
        stage.nfe = problem.nfe
        if state.status == "failed" or self._lost(problem, state):
            self.left_out(stage, "left out" if state.status == "failed" else "undone")
            self.training.theta = self.coordinates.theta(self.posterior.theta)
            return
        self.posterior, self.variance, self.fitted = state, noise.variance, (intervals, everything, problem.n_observed)
        self.keep_states(cut, chosen, *problem.solve(state.theta, state.free))

    def fitted_windows(self):
        """(windows, the trajectories that their source counts) of the last stage that worked, or None."""
        if self.fitted is None:
            return None
        intervals, everything, _ = self.fitted
        chosen = np.arange(len(self.data)) if everything else self.part
        return self.data.take(chosen).windows(intervals), chosen

    def deviation(self):
        """Standard deviation of the noise of each state, the parameters that were fitted taken into account."""
        posterior = self.posterior
        n = self.data.n_observed if self.fitted is None else self.fitted[2]
        fitted = min(posterior.gamma + np.size(posterior.free if posterior.free is not None else 0), 0.95 * n)
        variance = self.variance * (n / (n - fitted) if self.recipe.noise == "gaussian" else 1.0)
        return np.where(self.seen, np.sqrt(variance), np.nan)

    def _lost(self, problem, state):
        """Whether the data are not explained over windows this long, much worse than before: chaos."""
        residual = problem.residual(state.theta, state.free)
        seen = problem.root > 0
        unexplained = float(np.mean(residual[seen] ** 2) / np.mean((np.broadcast_to(self.spread, seen.shape))[seen]))
        worse = unexplained > (0.5 if state.status == "max_iter" else LOST) and unexplained > WORSE * self.unexplained
        self.unexplained = self.unexplained if worse else unexplained
        return worse

    def _descend(self, stage, problem, state, tol, damping=1e-3, **more):
        started, evaluations, iterations = time.perf_counter(), state.n_evaluations, state.n_iter

        def after_step(state, gradient_norm, nfe):
            theta = self.coordinates.theta(state.theta)
            self.training.theta = theta
            kept = (state.theta,) if state.free is None else (state.theta, state.free)
            return self.record(stage, state.loss / problem.n_observed, gradient_norm, nfe, theta, kept)

        try:
            descend(
                problem,
                state,
                groups=self.groups,
                max_iter=self.recipe.max_iter if problem.n_free else self.recipe.matching,
                tol=tol,
                damping=damping,
                callback=after_step,
                settled=SETTLED if problem.n_free else 1.0,
                checkpoint=self.checkpoint if problem.n_free else None,
                **more,
            )
        except KeyboardInterrupt:
            raise self.interrupted(state.loss / problem.n_observed) from None
        finally:
            if self.early_stopping is not None and self.early_stopping.kept is not None:
                state.theta, state.free = self.early_stopping.kept
                conclude(problem, state)
            self.training.theta = self.coordinates.theta(state.theta)
            if state.status == "stopped" and not self.stopped:
                state.status = "early"
            stage.status, stage.loss = state.status, state.loss / problem.n_observed
            stage.iterations, stage.evaluations = state.n_iter - iterations, state.n_evaluations - evaluations
            stage.seconds = time.perf_counter() - started


class _Weights:
    """Weights and noise of a problem, for checkpoints."""

    def __init__(self, problem, noise):
        self.problem = problem
        self.noise = noise

    def saved(self):
        """The state as plain data."""
        return {"root": self.problem.root, "variance": self.noise.variance}

    def restore(self, saved):
        """Go on from `saved()`."""
        self.problem.root = saved["root"]
        self.noise.variance = saved["variance"]
