"""Training on trajectories that a random force drives: slopes, short windows, then all states at once (`driven.py`)."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.optim.chains import ChainedStates
from pynode.optim.levenberg_marquardt import covariance, descend
from pynode.training.curriculum import FitError, Step
from pynode.training.descents import descending
from pynode.training.driven import DrivenProblem, Strengths
from pynode.training.growth import bounded
from pynode.training.noise import GAUSSIAN
from pynode.training.second_order import SecondOrderRun
from pynode.training.state import Stage

Array = NDArray[np.float64]

NAME = "random force"
"""The last stage."""

FIRST = 10
"""Intervals of the windows before it, where none are given."""

ROUNDS = 30
"""How often minimising begins again with variances that still change ..."""

SETTLED = 0.003
"""... by more than this part."""

ESTIMATED = 0.9
"""Priors are estimated once a step lowers the deviance by less than this part."""

FEW = 20
"""With at most so many parameters they are the likeliest without the states."""

MOST = 20_000_000
"""The most numbers that the derivatives of all states with respect to the parameters may be."""


class DrivenRun(SecondOrderRun):
    """Training by Levenberg-Marquardt where a random force drives the states; see `SecondOrderRun` for what comes before.

    Attributes
    ----------
    strengths : Strengths or None
        The variances of the noise of readings and of the force; None before the last stage.
    spread : (N, d, d) array
        Covariances of the states at all readings, the parameters being what they are.
    log_likelihood : float
        Of the data, in the units of the field: all states but the initial ones are integrated out.
    """

    strengths: Strengths | None = None
    spread: Array
    log_likelihood: float = np.nan

    def prepare(self) -> None:
        super().prepare()
        size = self.field.d * len(self.coordinates) * sum(len(t) for t in self.data.t)
        if size > MOST:
            raise ValueError(
                f"process_noise=True holds derivatives of all states by all parameters: {size:.2g} numbers here, "
                f"of at most {MOST:.2g}; take fewer hidden units or fewer readings"
            )

    def steps(self) -> list[Step]:
        first = [step for step in super().steps() if step[0] is not None][:1]
        return first or [(FIRST, True)]

    def compete(self) -> None:
        """The stage with the force, in place of rivals of whole trajectories."""
        states = np.concatenate(self.training.states)
        problem = self._driven(states)
        stage = Stage(NAME, len(self.data))
        self.begin(stage)
        state = replace(
            self.posterior,
            free=states.copy(),
            free_gain=None,
            free_covariance=None,
            beta=1.0,
            alpha=self._first_alpha(),
            least=1e-300,
        )
        more = _Settling(problem)
        for _ in range(ROUNDS):
            self._minimise(stage, problem, state, more)
            if state.status == "failed":
                raise FitError("the field could not be solved from one reading to the next: another `method` may help")
            if self.stopped or more.change < SETTLED:
                break
            more.change = problem.settle(state)
        stage.nfe = problem.nfe
        self.held.clear()  # what could not be followed without the force
        self._keep(problem, state)

    def _driven(self, states: Array) -> DrivenProblem:
        """The problem at its start: as much force as noise."""
        t = np.concatenate([np.diff(t) for t in self.data.t])
        step = float(np.median(t[t > 0])) if (t > 0).any() else 1.0
        reading = np.where(self.seen, self.variance, np.exp(np.log(self.variance[self.seen]).mean()))
        strengths = Strengths(reading.copy(), reading / step)
        given: dict[str, Any] = {"noise": self.recipe.noise, **self.recipe.options}
        return DrivenProblem(self.field, self.data, states, strengths, self.least, self.coordinates, **given)

    def _minimise(self, stage: Stage, problem: DrivenProblem, state: Any, more: "_Settling") -> None:
        def after_step(state: Any, gradient_norm: float, nfe: int) -> bool:
            theta = self.coordinates.theta(state.theta)
            self.training.theta = theta
            return self.record(stage, state.loss / problem.n_observed, gradient_norm, nfe, theta, (state.theta, state.free))

        def settle(state: Any) -> None:
            more.change = problem.settle(state)

        whole = bounded(self, problem, state.beta)
        with descending(self, stage, whole, state):
            descend(
                whole,
                state,
                groups=self.groups,
                evidence=True,
                noise=False,
                unit=float(problem.n_observed),
                settled=ESTIMATED,
                max_iter=self.recipe.max_iter,
                tol=self.recipe.tol,
                longest=self.coordinates.longest,
                callback=after_step,
                on_iteration=settle,
                checkpoint=self.checkpoint,
                more=more,
            )

    def _keep(self, problem: DrivenProblem, state: Any) -> None:
        if len(self.coordinates) <= FEW and not self.stopped:
            problem.likeliest(state)
        here = problem.linearise(state.theta, state.free)
        assert here is not None
        assert isinstance(here.free, ChainedStates)
        state.loss = here.loss
        state.covariance = covariance(here.H, state.alpha, 1.0)
        state.free_gain = here.free_gain
        self.spread = here.free.covariances()[0]
        state.free_covariance = self.spread
        self.posterior = state
        self.strengths = problem.strengths
        self.variance = np.where(self.seen, problem.strengths.reading * GAUSSIAN[self.recipe.noise], 1.0)
        self.log_likelihood = problem.log_likelihood(state)
        self.training.theta = self.coordinates.theta(state.theta)
        self.training.states = np.split(state.free, np.cumsum([len(t) for t in self.data.t])[:-1])
        self.whole = True

    # ---- What others ask

    @property
    def n_initial(self) -> int:
        return self.field.d * len(self.data)

    def deviation(self) -> Array:
        return np.where(self.seen, np.sqrt(self.variance), np.nan)

    def initial_places(self) -> list[tuple[int, int]]:
        starts = np.cumsum([0, *(len(t) for t in self.data.t)])[:-1]
        return [(i, int(k)) for i, k in enumerate(starts)] if self.strengths is not None else []


class _Settling:
    """What changes beside the state of Levenberg-Marquardt, for checkpoints."""

    def __init__(self, problem: DrivenProblem) -> None:
        self.problem = problem
        self.change = np.inf

    def saved(self) -> dict[str, Any]:
        problem = self.problem
        return {
            "reading": problem.strengths.reading,
            "force": problem.strengths.force,
            "before": np.array(problem.before),
            "given": problem.given,
            "change": float(min(self.change, 1e300)),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        self.problem.restore(Strengths(saved["reading"], saved["force"]), saved["before"], saved["given"])
        self.change = saved["change"]
