"""Training with second order, for small fields: slopes, then windows, then whole trajectories, by Levenberg-Marquardt.

Jacobians are exact sensitivities; the strength of the priors and of the noise is estimated from the data along the way. The
stages are those of `pynode.training.curriculum`. In the end the covariance of the parameters is known (Laplace
approximation), from which error bands follow.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.optim.checkpoint import Resumable
from pynode.optim.levenberg_marquardt import descend, log_evidence
from pynode.optim.matrix_free import descend_by_sweeps
from pynode.optim.normal_equations import Problem, small_matrices
from pynode.optim.posterior import LaplacePosterior
from pynode.training.curriculum import Reached, Run, Step
from pynode.training.descents import descending
from pynode.training.growth import bounded
from pynode.training.homotopy import POOR, follow, lost, rises, start_again
from pynode.training.matching import MatchingProblem
from pynode.training.noise import FEW, Noise
from pynode.training.rivals import contest
from pynode.training.second_order_recipe import SecondOrder
from pynode.training.shooting import ShootingProblem, Weights
from pynode.training.sizes import prior_groups
from pynode.training.state import Stage
from pynode.training.sweeps import covariances, pays, sweeps_of
from pynode.training.trials import Rival, as_plain, tried_before
from pynode.training.windows import Windows

Array = NDArray[np.float64]

ROUNDING = 1e-14
"""Part of the variance of the data below which residuals are rounding, not noise."""

STILL_NOISE = 1e-4
"""The same for a state that never changes. It is fitted at once, and would then outweigh all the others without limit."""

FIRST_NOISE = 0.01
"""The largest part of the variance of the data that is taken for noise at first: smoothing of sparse data mistakes signal
for noise, and what is noise at the start may never be explained."""

FURTHER = 3.0
"""Steps that follow how residuals bend go so much further: a stage ends earlier by this, as good as without (measured)."""

SETTLED = 0.1
"""Along trajectories the noise is re-estimated only once steps lower the objective by less than this part: see `descend`."""

STEADY = 1e-12
"""Slopes that vary by less than this part of the largest are all the same."""

MATCHED = 20_000
"""The most rows whose slopes are matched; more add hardly any information."""

STEPS = 100
"""The most steps of a stage, by default; most stages converge in 5 to 40."""

NEAR = 0.5
"""The plain start is not tried on the data where slopes favour a random one by more than this log evidence a number ..."""

FAR = 0.1
"""... and of two that are tried, one is taken before the last stage where it is ahead by more than this."""

OF_POSTERIOR = ("theta", "alpha", "logdet", "beta", "gamma", "loss", "covariance", "free", "free_gain", "free_covariance")
"""What checkpoints hold of a posterior, beside its counts."""


class SecondOrderRun(Run):
    """Training by Levenberg-Marquardt; see `Run` for the order in which it goes.

    `match` fits the slopes from every start of the recipe and keeps the one with the highest evidence; where a random and a
    plain start are close, both go through the stages on trial. Each stage on windows begins with the posterior of the last
    one that worked. The last stage is that of whole trajectories, of all of them.

    Attributes
    ----------
    recipe : SecondOrder
        How to train.
    posterior : LaplacePosterior
        The posterior of the last stage that worked; its theta are coordinates x, see `pynode.training.coordinates`.
    fitted : (int or None, bool, int) or None
        About that stage: intervals, whether all trajectories took part, how many numbers were observed.
    variance : (d,) array
        The variance of the noise.
    unexplained : float
        The part of the variance of the data that the last stage which worked leaves unexplained.
    part : int array
        The trajectories that take part in the first stages.
    soft : (d,) array or None
        The smoother's variances where data are so few that they count too, see `Noise`.
    open : ShootingProblem or None
        That of the last stage that worked, where covariances of its result are not known yet.
    tried : (int or None, bool) or None
        A stage that was done on trial, and is not done again.
    undetermined : (p,) bool array
        Parameters that no data tell, see `Coordinates.undetermined`.
    """

    recipe: SecondOrder
    posterior: LaplacePosterior
    fitted: tuple[int | None, bool, int] | None

    def prepare(self) -> None:
        self.spread = self.data.spread
        self.seen = self.data.seen
        self.least = np.where(self.data.still, STILL_NOISE, ROUNDING) * self.spread
        part = np.arange(len(self.data))
        if self.recipe.part is not None:
            rng = np.random.default_rng(self.recipe.random_state)
            part = np.sort(rng.choice(part, self.recipe.part, replace=False))
        self.part = part
        self.undetermined = np.zeros(self.field.n_params, bool)
        self.poor: Callable[[], str] | None = None
        self.open: ShootingProblem | None = None
        self.tried: Step | None = None
        self.groups = self.coordinates.groups(self.recipe.groups)
        self._begin()

    def _begin(self) -> None:
        """The posterior and the noise before anything is fitted."""
        variance = self.smoothed.variance
        typical = np.mean(np.append(variance[~np.isnan(variance)], 0.01))
        variance = np.where(np.isnan(variance), typical, variance)
        self.variance = np.clip(variance, self.least, FIRST_NOISE * self.spread)
        few = self.data.n_observed < FEW * len(self.coordinates)
        self.soft = self.variance if few else None
        self.posterior = LaplacePosterior(
            self.coordinates.x(self.training.theta), None, self._first_alpha(), 1.0 / self.variance[self.seen].mean()
        )
        self.unexplained = np.inf
        self.fitted = None

    def surroundings(self) -> AbstractContextManager[object]:
        return small_matrices(len(self.coordinates))

    def compete(self) -> None:
        if self.recipe.own and len(self.coordinates):
            contest(self, self.recipe.noise, self.least)
        elif self.recipe.plain is not None:
            start_again(self)

    def begin_again(self, theta: Array, states: list[Array]) -> None:
        super().begin_again(theta, states)
        self._begin()

    def reached(self) -> Reached:
        found = super().reached()
        return replace(found, more=found.more | {"posterior": self.posterior})

    def back_to(self, reached: Reached) -> None:
        super().back_to(reached)
        self.posterior = reached.more["posterior"]

    def finish(self) -> None:
        posterior = self.posterior
        if self.open is not None and self.fitted is not None and posterior.covariance is not None:
            covariances(self.open, posterior, self.groups)
            self.open = None
        posterior.noise = self.deviation()
        if posterior.covariance is not None:
            self.undetermined = self.coordinates.undetermined(posterior.theta, posterior.covariance)
            for weights in prior_groups(self.field):  # many a weight of a network has hardly any influence
                self.undetermined[weights] = False

    @property
    def covariance(self) -> Array | None:
        """(p, p) covariance of theta, NaN for parameters that are not determined; None where there is none."""
        if self.posterior.covariance is None:
            return None
        covariance = self.coordinates.spread(self.posterior.theta, self.posterior.covariance).copy()
        lost = np.flatnonzero(self.undetermined)
        free = self.coordinates.index  # frozen parameters have covariances of 0
        covariance[np.ix_(lost, free)] = covariance[np.ix_(free, lost)] = np.nan
        return covariance

    def steps(self) -> list[Step]:
        everything = self.recipe.part is None
        steps: list[Step] = [(n, everything) for n in dict.fromkeys(self.recipe.windows)]
        return steps if everything else [*steps, (None, True)]

    def saved(self) -> dict[str, Any]:
        state = self.posterior
        return {name: getattr(state, name) for name in OF_POSTERIOR} | {
            "counts": [state.n_iter, state.n_evaluations],
            "fitted": self.fitted,
            "variance": self.variance,
            "unexplained": self.unexplained,
            "tried": self.tried,
            "open": None if self.open is None else self.open.saved(),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        self.variance = saved["variance"]
        self.unexplained = saved["unexplained"]
        self.fitted = None if saved["fitted"] is None else tuple(saved["fitted"])
        self.tried = None if saved["tried"] is None else tuple(saved["tried"])
        n_iter, n_evaluations = saved["counts"]
        same = {name: saved[name] for name in OF_POSTERIOR}
        self.posterior = replace(self.posterior, **same, n_iter=n_iter, n_evaluations=n_evaluations)
        windows = self.fitted_windows()
        self.open = None
        if saved["open"] is not None and windows is not None:
            self.open = self._shooting(windows[0], saved["open"]["y0"])
            self.open.restore(saved["open"])

    def _first_alpha(self) -> Array:
        """Precisions of the priors before they are estimated."""
        alpha = np.full(len(self.coordinates), self.recipe.alpha)
        for g in self.groups:
            alpha[g] = 1.0
        return alpha

    def match(self) -> None:
        """Fit the slopes of smoothed data from every start; keep the best."""
        if self.guess_states():
            return
        known = self.known_slopes(MATCHED)
        if known is None or self.field.callbacks:
            return
        t, states, slope, u = known
        weight = self._weight_of_slopes(slope)
        problem = MatchingProblem(self.field, t, states, slope, weight, u, self.coordinates)
        beta = self.posterior.beta
        matched = [LaplacePosterior(**values) for values in self.pieces.get("matched", [])]
        found = [(log_evidence(problem.n_observed, state), state) for state in matched]
        for theta in self.recipe.starts[len(found) :]:
            stage = Stage("slopes")
            self.begin(stage)
            x = self.coordinates.x(theta).copy()
            state = LaplacePosterior(x, None, self._first_alpha(), 10.0, least=ROUNDING * slope.size)
            self._descend(stage, problem, state, tol=1e-2, damping=1e-2)
            found.append((log_evidence(problem.n_observed, state), state))
            if self.stopped:
                break
            self.went_on({"matched": [dict(vars(state)) for _, state in found]})
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

    def _weight_of_slopes(self, slope: Array) -> Array:
        """(d,) weights of slopes (n, d): 1 / variance. Still states weigh as others do, those never observed nothing."""
        variance = np.var(slope, axis=0)
        moving = np.ptp(slope, axis=0) > STEADY * np.abs(slope).max()
        rate = np.exp(np.log(variance[moving] / self.spread[moving]).mean()) if moving.any() else 1.0
        weight = 1.0 / np.where(moving, np.maximum(variance, ROUNDING * self.spread), rate * self.spread)
        return np.where(moving | self.seen, weight, 0.0)

    def _trial(self, rivals: list[LaplacePosterior]) -> None:
        """Go through the stages from each of two starts, until the evidence of one is far ahead; keep that one.

        Errors of smoothed slopes are alike from one time to the next, so their evidence favours fields that bend to
        them, or that do not bend at all; the evidence of the data themselves decides. The stages proper start from the
        winner. Where stages are dear the first one decides, and is not done again.
        """
        variance = self.variance
        unexplained = self.unexplained
        states = self.training.states
        self.trial = True
        tried: list[Rival] = [(0.0, rival, variance, unexplained, [x.copy() for x in states]) for rival in rivals]
        dear = pays(self.field, self.coordinates, self.data.n_observed)
        steps = self.steps()[:1] if dear else self.steps()
        left: list[Any] = [None, None]
        done = self.pieces.get("tried", [])
        before = list(done)
        for intervals, everything in steps:
            for k, rival in enumerate(tried):
                if before:
                    tried[k], self.fitted = tried_before(before.pop(0))
                    continue
                _, self.posterior, self.variance, self.unexplained, self.training.states = rival
                self.fitted = None
                self.shoot(intervals, everything)
                tried[k] = (self.score(), self.posterior, self.variance, self.unexplained, self.training.states)
                left[k] = (self.fitted, self.open, self.training.stages[-1])
                if self.stopped:
                    break
                if not dear:  # of which a problem is kept that is not plain data
                    done = [*done, as_plain(tried[k], self.fitted)]
                    self.went_on(self.pieces | {"tried": done})
            ahead = abs(tried[0][0] - tried[1][0])
            if self.stopped or self.fitted is None or ahead > FAR * self.fitted[2]:
                break
        winner = max(tried, key=lambda rival: rival[0])
        self.trial = False
        if dear and winner[0] > -np.inf:
            _, self.posterior, self.variance, self.unexplained, self.training.states = winner
            self.fitted, self.open, stage = left[tried.index(winner)]
            stage.trial = False
            self.tried = steps[0]
            return
        self.posterior = replace(winner[1], free=None)
        self.variance = variance
        self.unexplained = unexplained
        self.training.states = states
        self.fitted = None

    def score(self) -> float:
        """The log evidence of the stage just done; -inf where it did not work."""
        return -np.inf if self.fitted is None else log_evidence(self.fitted[2], self.posterior)

    def shoot(self, intervals: int | None, everything: bool = True) -> None:
        if self.tried == (intervals, everything) and not self.trial:
            self.tried = None
        else:
            follow(self, intervals, everything)

    def attempt(self, intervals: int | None, everything: bool) -> tuple[Stage, str | None]:
        """Fit windows once.

        Parameters
        ----------
        intervals, everything
            See `shoot`.

        Returns
        -------
        stage : Stage
        why : str or None
            Why it did not work: "left out", "undone", or POOR; then all is as before. `poor()` keeps a poor fit after all.
        """
        chosen = np.arange(len(self.data)) if everything else self.part
        data = self.data if everything else self.data.take(chosen)
        cut = data.windows(intervals)
        problem, noise, y0 = self._problem(cut, chosen)
        stage = self.stage_on(cut, intervals, " of a part" * (not everything))
        self.begin(stage)
        failed = problem.failed(self.posterior.theta, y0)
        if failed.sum() > len(cut) / 2:
            stage.status = "left out"
            return stage, stage.status
        if failed.any():
            self.windows_left_out(stage, failed)
            noise.given[problem.leave_out(failed)] = 0.0
        state = replace(
            self.posterior,
            free=y0.copy(),
            free_gain=None,
            free_covariance=None,
            beta=float(1.0 / noise.mean),
            alpha=self.posterior.alpha.copy(),
            least=float(ROUNDING * problem.n_observed * np.exp(np.log(self.spread[self.seen]).mean())),
        )

        def reweigh(state: LaplacePosterior) -> None:
            assert state.free is not None
            residual = problem.residual(state.theta, state.free)
            if np.isfinite(residual).all():
                problem.set_weight(noise.weights(residual))

        last = (intervals, everything) == self.steps()[-1]
        tol = self.recipe.tol if last and self.recipe.part is None else 10 * self.recipe.tol
        self._descend(stage, problem, state, tol, on_iteration=reweigh, more=Weights(problem, noise))
        stage.nfe = problem.nfe
        assert state.free is not None
        before = self.unexplained
        gone = state.status == "failed" or lost(self, problem, state, noise.variance)
        reached = self.unexplained

        def keep() -> str:
            assert state.free is not None
            self.posterior = state
            self.unexplained = reached
            self.training.theta = self.coordinates.theta(state.theta)
            self.open = problem if state.free_gain is None else None
            self.variance = noise.variance
            self.fitted = (intervals, everything, problem.n_observed)
            self.keep_states(cut, chosen, *problem.solve(state.theta, state.free))
            return state.status

        if not gone and not rises(self, noise.variance):
            keep()
            return stage, None
        stage.status = "left out" if state.status == "failed" else "undone"
        self.training.theta = self.coordinates.theta(self.posterior.theta)
        if gone:
            return stage, stage.status
        self.unexplained = before
        self.poor = keep
        return stage, POOR

    def _problem(self, cut: Windows, chosen: NDArray[np.intp]) -> tuple[ShootingProblem, Noise, Array]:
        """(windows of the chosen trajectories to be fitted, the noise, initial states) to start with."""
        y0 = self.within(cut.initial([self.training.states[i] for i in chosen]))
        seen = ~np.isnan(np.concatenate(cut.y))
        given = seen * (1.0 if cut.weight is None else np.concatenate(cut.weight))
        noise = Noise(self.variance, self.recipe.noise, given, self.least, self.soft)
        return self._shooting(cut, y0, given * noise.mean / self.variance), noise, y0

    def _shooting(self, cut: Windows, y0: Array, weight: ArrayLike = 1.0) -> ShootingProblem:
        """The problem of these windows."""
        return ShootingProblem(self.field, cut, y0, weight, coordinates=self.coordinates, **self.recipe.options)

    @property
    def n_initial(self) -> int:
        """How many numbers of initial states were estimated."""
        return np.size(self.posterior.free) if self.posterior.free is not None else 0

    def initial_places(self) -> list[tuple[int, int]]:
        """(trajectory, place of its initial state in `posterior.free`) of those that the last stage fitted."""
        windows = self.fitted_windows()
        if windows is None or self.posterior.free_gain is None:
            return []
        cut, chosen = windows
        return [(int(chosen[cut.source[w, 0]]), int(w)) for w in np.flatnonzero(cut.source[:, 1] == 0)]

    def fitted_windows(self) -> tuple[Windows, NDArray[np.intp]] | None:
        """(windows, the trajectories that they were cut from) of the last stage that worked, or None."""
        if self.fitted is None:
            return None
        intervals, everything, _ = self.fitted
        chosen = np.arange(len(self.data)) if everything else self.part
        return self.data.take(chosen).windows(intervals), chosen

    def deviation(self) -> Array:
        """The standard deviation (d,) of the noise of each state, corrected for the number of fitted parameters."""
        posterior = self.posterior
        n = self.data.n_observed if self.fitted is None else self.fitted[2]
        fitted = min(posterior.gamma + np.size(posterior.free if posterior.free is not None else 0), 0.95 * n)
        variance = self.variance * (n / (n - fitted) if self.recipe.noise == "gaussian" else 1.0)
        return np.where(self.seen, np.sqrt(variance), np.nan)

    def _descend(
        self,
        stage: Stage,
        problem: Problem,
        state: LaplacePosterior,
        tol: float,
        damping: float = 1e-3,
        on_iteration: Callable[[LaplacePosterior], None] | None = None,
        more: Resumable | None = None,
    ) -> None:
        """Minimise the problem of a stage from `state`, in place; see `descend`."""

        def after_step(state: LaplacePosterior, gradient_norm: float, nfe: int) -> bool:
            theta = self.coordinates.theta(state.theta)
            self.training.theta = theta
            kept = (state.theta,) if state.free is None else (state.theta, state.free)
            return self.record(stage, state.loss / problem.n_observed, gradient_norm, nfe, theta, kept)

        common: dict[str, Any] = {
            "groups": self.groups,
            "max_iter": self.recipe.max_iter if problem.n_free else self.recipe.matching,
            "tol": tol,
            "damping": damping,
            "callback": after_step,
            "settled": SETTLED if problem.n_free else 1.0,
            "checkpoint": None if self.trial else self.checkpoint,
            "on_iteration": on_iteration,
            "more": more,
        }
        problem = bounded(self, problem, state.beta)
        with descending(self, stage, problem, state):
            if (products := sweeps_of(problem)) is not None:
                common["tol"] *= FURTHER if problem.n_free else 1.0
                descend_by_sweeps(products, state, **common)
            else:
                descend(problem, state, longest=self.coordinates.longest, **common)
