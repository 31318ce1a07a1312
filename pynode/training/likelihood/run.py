"""Training by the likelihood of whole trajectories: for known equations, doses, observation functions, error models.

From every start Levenberg-Marquardt (Fisher scoring) climbs to a maximum; the highest is kept. A start is climbed from
at once and, where that does not explain the data, over a growing part of the time: what happens late is then met with
parameters that explain what happened before.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.optim.checkpoint import Checkpoint
from pynode.optim.levenberg_marquardt import conclude, descend
from pynode.optim.normal_equations import small_matrices
from pynode.optim.posterior import LaplacePosterior
from pynode.optim.result import HISTORY, FitInterrupted, FitResult, Iteration
from pynode.training.coordinates import FACTOR, Coordinates
from pynode.training.curriculum import FitError
from pynode.training.determined import Determined, determined
from pynode.training.likelihood.problem import LikelihoodProblem
from pynode.training.state import STAGED_HISTORY, Stage

Array = NDArray[np.float64]

PARTS = (0.25, 0.5)
"""Parts of the time over which a start is tried first."""

SETTLED = 0.1
"""The strength of priors is estimated once steps lower the loss by less than this part."""

SAME = 1e-3
"""Maxima whose log-likelihoods differ by less than this are one maximum."""


@dataclass(frozen=True)
class Start:
    """Where to start.

    Attributes
    ----------
    name : str
        What it is called in the report.
    theta : (p,) array
        Parameters.
    states : (B, d) array
        Initial states.
    """

    name: str
    theta: Array
    states: Array


@dataclass(frozen=True)
class Maximum:
    """A maximum of the likelihood.

    Attributes
    ----------
    problem : LikelihoodProblem
        Of which.
    posterior : LaplacePosterior
        Its coordinates, their covariance, and those of the free initial states.
    name : str
        The start that led to it.
    start : (B, d) array
        The initial states of that start.
    """

    problem: LikelihoodProblem
    posterior: LaplacePosterior
    name: str
    start: Array

    @property
    def loss(self) -> float:
        """-2 log p(readings) and the priors."""
        state = self.posterior
        return float(state.loss + (state.alpha * state.theta**2).sum())

    @property
    def degrees(self) -> float:
        """How many numbers the readings determine, besides the parameters of the error models."""
        state, problem = self.posterior, self.problem
        known = self.determined
        if known is None:
            return float(state.gamma + problem.n_free)
        return float(state.gamma - known.n_lost + (problem.mask * (1.0 - self.prior_share)).sum())

    @property
    def prior_share(self) -> Array:
        """(B, d) which part of what is known of an initial state its weak prior says; 1: no reading tells it."""
        spread: Any = self.posterior.free_covariance
        return np.asarray(np.clip(np.einsum("bii->bi", spread) * self.problem.prior, 0.0, 1.0))

    @cached_property
    def determined(self) -> Determined | None:
        """What the readings determine of the coordinates of the parameters; None before the climb is concluded."""
        state, problem = self.posterior, self.problem
        if state.covariance is None or state.free_covariance is None:
            return None
        free: Any = state.free
        here = problem.linearise(state.theta, free)
        assert here is not None
        n = len(problem.coordinates)
        return determined(problem.coordinates, state.theta[:n], here.H + np.diag(state.alpha))


@dataclass(frozen=True)
class Likelihood:
    """What is fitted.

    Attributes
    ----------
    problem : callable
        problem(coordinates, states, part) -> LikelihoodProblem over this part of the time (1: all of it).
    spec : tuple of Parameter
        The parameters.
    groups : list of int arrays
        Parameters that share the precision of their prior, which is estimated; the others have none.
    max_iter : int
        The most steps from a start.
    tol : float
        A climb ends when two steps in a row gain less than this for each reading.
    held : tuple of int
        Positions of parameters that keep the values they start with.
    """

    problem: Callable[[Coordinates, Array, float], LikelihoodProblem]
    spec: tuple[Any, ...]
    groups: Sequence[NDArray[np.intp]] = ()
    max_iter: int = 100
    tol: float = 1e-7
    held: tuple[int, ...] = ()


class LikelihoodRun:
    """Climbs from every start, and keeps the best maximum.

    Parameters
    ----------
    what : Likelihood
        What is fitted.
    starts : sequence of Start
        Tried one after the other.
    more : callable, optional
        () -> more starts, asked for one by one as long as none explains the data.
    explains : callable, optional
        explains(maximum) -> whether it explains the data, so that no other start is needed. Default: never.
    callback : callable, optional
        callback(Iteration) after each step; return True to stop.
    checkpoint : Checkpoint, optional
        Open.

    Attributes
    ----------
    best : Maximum or None
        The best so far.
    stages : list of Stage
        A stage for each climb.
    history : dict of lists
        An entry for each step, see STAGED_HISTORY.
    stopped : bool
        The callback asked to stop.
    lost : list of str
        Starts from which the experiment cannot be solved.
    others : int
        Starts that led to a worse maximum.
    """

    def __init__(
        self,
        what: Likelihood,
        starts: Sequence[Start],
        more: Callable[[], Iterable[Start]] | None = None,
        explains: Callable[[Maximum], bool] | None = None,
        callback: Callable[[Iteration], object] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.what = what
        self.starts = list(starts)
        self.more = more
        self.explains = explains
        self.callback = callback
        self.checkpoint = checkpoint
        self.best: Maximum | None = None
        self.stages: list[Stage] = []
        self.history: dict[str, list[float]] = {name: [] for name in STAGED_HISTORY}
        self.stopped = False
        self.lost: list[str] = []
        self.others = 0
        self._begun = time.perf_counter()
        self._resumed: dict[str, Any] | None = None
        self._at_work: Maximum | None = None
        self._whole: LikelihoodProblem | None = None

    def train(self) -> None:
        """Climb from every start.

        Raises
        ------
        FitError
            From none of them the experiment can be solved.
        FitInterrupted
            Ctrl-C; `best` is the best so far.
        """
        found = None if self.checkpoint is None or self.checkpoint.found is None else self.checkpoint.found["outer"]
        if found is not None:
            self._resume(found)
        try:
            with small_matrices(sum(p.size for p in self.what.spec)):
                for k, (start, parts) in enumerate(self._ways()):
                    if self.stopped:
                        break
                    if found is None or k >= found["way"]:
                        self._try(k, start, parts)
        except KeyboardInterrupt:
            self._keep_what_there_is()
            theta = np.empty(0) if self.best is None else self.best.problem.theta(self.best.posterior.theta)
            n = len(self.history["loss"])
            history = {name: np.array(values) for name, values in self.history.items()}
            raise FitInterrupted(FitResult(theta, np.inf, "interrupted", "interrupted by the user", n, n, history)) from None
        if self.best is None:
            raise FitError(
                "the experiment cannot be solved along the data from any start "
                f"({', '.join(dict.fromkeys(self.lost))}): other initial values of the parameters, bounds (pynode.positive, "
                "pynode.bounded), or another `method` may help"
            )

    def _ways(self) -> Iterator[tuple[Start, tuple[float, ...]]]:
        """(start, parts of the time to climb over): as long as nothing explains the data."""
        first = list(self.starts)
        for start in first:
            yield start, (1.0,)
        if self._enough():
            return
        for start in [] if self.more is None else self.more():
            yield start, (1.0,)
            if self._enough():
                return
        for start in first:
            yield start, (*PARTS, 1.0)
            if self._enough():
                return

    def _enough(self) -> bool:
        if self.best is None or self.explains is None or self.best.posterior.status == "max_iter":
            return False
        return self.explains(self.best)

    def _try(self, way: int, start: Start, parts: Sequence[float]) -> None:
        """Climb from a start over growing parts of the time; way: its number."""
        theta = start.theta
        states = start.states
        found: Maximum | None = None
        for k, part in enumerate(parts):
            if self._resumed is not None and self._resumed["way"] == way:
                if k < self._resumed["part"]:
                    continue
                theta = self._resumed["theta"]
                states = self._resumed["states"]
            self._resumed = None
            self._snapshot(way, k, theta, states)
            name = start.name if part == 1 else f"{start.name}, {part:.0%} of the time"
            found = self._climb(name, theta, states, part)
            if found is None:
                self.lost.append(start.name)
                return
            theta = found.problem.theta(found.posterior.theta)
            states = found.problem.states_out(np.asarray(found.posterior.free))[0]
            if self.stopped and part < 1:
                return
        if found is None:
            return
        if self.best is None or found.loss < self.best.loss - SAME:
            self.others += self.best is not None
            self.best = found
        else:
            self.others += found.loss > self.best.loss + 1.0

    def _keep_what_there_is(self) -> None:
        """After Ctrl-C the point that the climb at work had reached counts too."""
        if self._at_work is None or self._at_work.problem is not self._whole:
            return
        state = self._at_work.posterior
        if np.isfinite(state.loss) and (self.best is None or self._at_work.loss < self.best.loss):
            conclude(self._at_work.problem, state)
            self.best = self._at_work

    def _climb(self, name: str, theta: Array, states: Array, part: float) -> Maximum | None:
        """The maximum that a start leads to; None where it cannot be solved there."""
        coordinates = Coordinates(self.what.spec, theta, self.what.held)
        problem = self.what.problem(coordinates, states, part)
        stage = Stage(name, windows=len(states))
        x = np.concatenate([coordinates.x(theta), np.zeros(problem.n_noise)])
        x = problem.first_noise(x, problem.start)
        groups = coordinates.groups(list(self.what.groups))
        alpha = np.zeros(len(x))
        for g in groups:
            alpha[g] = 1.0
        state = LaplacePosterior(x, problem.start.copy(), alpha, 1.0, gamma=float(len(x) - problem.n_noise))
        free = np.full(len(coordinates), np.inf) if coordinates.longest is None else coordinates.longest
        longest = np.concatenate([free, np.full(problem.n_noise, np.log(FACTOR))])
        self.stages.append(stage)
        self._at_work = Maximum(problem, state, name, states)
        self._whole = problem if part == 1 else None
        descend(
            problem,
            state,
            groups=groups,
            evidence=bool(groups),
            noise=False,
            settled=SETTLED,
            unit=float(problem.n_observed),
            max_iter=self.what.max_iter,
            tol=self.what.tol,
            longest=longest,
            checkpoint=self.checkpoint,
            callback=partial(self._record, stage, problem),
        )
        if state.status == "stalled" and state.left < self.what.tol:
            state.status = "converged"  # what is promised is below rounding
        stage.status = state.status
        stage.loss = state.loss
        stage.iterations = state.n_iter
        stage.evaluations = state.n_evaluations
        stage.nfe = problem.nfe
        stage.seconds = time.perf_counter() - self._begun - sum(s.seconds for s in self.stages)
        if state.status == "failed":
            stage.status = "left out"
            return None
        return self._at_work

    def _record(
        self, stage: Stage, problem: LikelihoodProblem, state: LaplacePosterior, gradient_norm: float, nfe: int
    ) -> bool:
        history = self.history
        seconds = time.perf_counter() - self._begun
        history["stage"].append(len(self.stages) - 1)
        for name, value in zip(HISTORY, (state.loss, gradient_norm, nfe, seconds, np.nan), strict=True):
            history[name].append(value)
        if self.callback is not None:
            theta = problem.theta(state.theta)
            step = Iteration(len(history["loss"]), state.loss, theta, gradient_norm, seconds, nfe, np.nan, stage.name)
            self.stopped = self.callback(step) is True
        return self.stopped

    # ---- Checkpoints

    def _snapshot(self, way: int, part: int, theta: Array, states: Array) -> None:
        """Take the state before a climb: a checkpoint holds it, and the state of the climb."""
        if self.checkpoint is None:
            return
        best = None
        if self.best is not None:
            posterior = {name: value for name, value in vars(self.best.posterior).items() if name != "noise"}
            base = self.best.problem.coordinates.base
            best = {"name": self.best.name, "base": base, "start": self.best.start, "posterior": posterior}
        before = {"way": way, "part": part, "theta": theta, "states": states, "best": best}
        before |= {"stages": [dict(vars(stage)) for stage in self.stages], "lost": list(self.lost), "others": self.others}

        def outer() -> dict[str, Any]:
            history = {name: np.array(x, dtype=np.float64) for name, x in self.history.items()}
            return before | {"history": history}

        self.checkpoint.outer = outer

    def _resume(self, saved: dict[str, Any]) -> None:
        """Go on from the state before a climb."""
        self._resumed = saved
        self.lost = list(saved["lost"])
        self.others = int(saved["others"])
        self.stages = [Stage(**stage) for stage in saved["stages"]]
        self.history = {name: x.tolist() for name, x in saved["history"].items()}
        self.history["stage"] = [int(k) for k in self.history["stage"]]
        if saved["best"] is not None:
            best = saved["best"]
            problem = self.what.problem(Coordinates(self.what.spec, best["base"], self.what.held), best["start"], 1.0)
            self.best = Maximum(problem, LaplacePosterior(**best["posterior"]), best["name"], best["start"])
