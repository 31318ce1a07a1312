"""Training in stages: slopes first, then short windows of the data, then longer ones, then whole trajectories.

Long rollouts of an untrained field make a loss full of bad minima; slopes of smoothed data make one that is
nearly linear, and each stage starts from the result of the one before. The initial state of every window is free.

`Run` is the part that both ways of training share: the order of the stages, history, checkpoints, early stopping.
`FirstOrderRun` (first_order.py) and `SecondOrderRun` (second_order.py) optimise a stage.
"""

import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from dataclasses import field as _field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pynode.calls.solve import solve
from pynode.errors import OK
from pynode.fields.field import Field
from pynode.optim.checkpoint import Checkpoint
from pynode.optim.result import HISTORY, FitInterrupted, FitResult, Iteration
from pynode.training.coordinates import Coordinates
from pynode.training.early_stopping import EarlyStopping, Holdout
from pynode.training.smoothing import Smoothed
from pynode.training.windows import Data, Windows

Array = NDArray[np.float64]

Step = tuple[int | None, bool]
"""A stage on windows: their length in intervals (None: whole trajectories), and whether all trajectories take part."""

LOST = 0.1
"""A stage is undone if it leaves more than this fraction of the variance unexplained ..."""

WORSE = 2.0
"""... and this factor more than the stage before: over windows that long the data cannot be followed, as in chaos."""

NOTHING_SOLVED = (
    "the field could not be solved along the data with any parameters tried: "
    "shorter windows, smaller `hidden`, or another `method` may help"
)

STAGED_HISTORY = ("stage", *HISTORY)
"""The columns of the history of staged training; "stage" is an index into its stages."""


class FitError(RuntimeError):
    """The field cannot be trained on these data."""


class FitWarning(UserWarning):
    """A stage of training, or some of the data in it, was left out."""


@dataclass
class Stage:
    """A stage of training, and how it went.

    Attributes
    ----------
    name : str
        "slopes", "windows of 10", "whole trajectories", ...
    windows : int
        How many windows it is trained on; 0 while matching slopes.
    status : str
        "running", the status of the optimiser, "early" (early stopping), "left out" or "undone".
    loss : float
        The loss at the end.
    iterations, evaluations : int
        Iterations of the optimiser, and calls of its objective.
    seconds : float
        How long it took.
    nfe : int
        Evaluations of the field in forward solves.
    failed : int
        Windows left out because they could not be solved (with minibatches: failures in all iterations).
    """

    name: str
    windows: int = 0
    status: str = "running"
    loss: float = np.inf
    iterations: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    nfe: int = 0
    failed: int = 0


@dataclass
class Training:
    """The state of training, usable at any time.

    Attributes
    ----------
    theta : (p,) array
        The parameters reached.
    states : list of (T_i, d) arrays
        Estimates of the states at the times of the data.
    stages : list of Stage
        The stages so far.
    history : dict of lists
        The columns of STAGED_HISTORY, with one entry for each iteration.
    warnings : list of str
        The warnings so far.
    """

    theta: Array
    states: list[Array]
    stages: list[Stage] = _field(default_factory=list)
    history: dict[str, list[float]] = _field(default_factory=lambda: {name: [] for name in STAGED_HISTORY})
    warnings: list[str] = _field(default_factory=list)

    @classmethod
    def start(cls, theta: Array, data: Data, smoothed: Smoothed) -> Self:
        """Before the first stage: the smoothed states; where a trajectory never observes a state its mean, or 0."""
        known = np.concatenate(smoothed.y)
        mean = np.zeros(data.d)
        seen = ~np.isnan(known).all(axis=0)
        mean[seen] = np.nanmean(known[:, seen], axis=0)
        return cls(theta, [np.where(np.isnan(x), mean, x) for x in smoothed.y])

    @property
    def stage_dicts(self) -> list[dict[str, Any]]:
        """The stages as plain data."""
        return [asdict(stage) for stage in self.stages]


def default_windows(lengths: Iterable[int], growth: int = 3) -> tuple[int | None, ...]:
    """Lengths of windows that grow from at most ten intervals to whole trajectories; `lengths` are those of the data."""
    longest = max(lengths) - 1
    sizes = [max(1, min(10, round(longest / 3)))]
    while 1.5 * growth * sizes[-1] < longest:  # at least two windows
        sizes.append(growth * sizes[-1])
    return (*sizes, None)


def checked_windows(windows: Any) -> tuple[int | None, ...]:
    """The lengths of windows that a user gave, checked, as a tuple."""
    lengths: tuple[int | None, ...] = tuple(windows) if np.iterable(windows) and not isinstance(windows, str) else ()
    if not lengths or not all(n is None or (isinstance(n, (int, np.integer)) and n >= 1) for n in lengths):
        raise ValueError(f"windows={windows!r} must hold numbers of intervals >= 1, or None for whole trajectories")
    return lengths


class Recipe(Protocol):
    """The part of `FirstOrder` and `SecondOrder` that `Run` reads."""

    @property
    def windows(self) -> tuple[int | None, ...]:
        """Lengths of windows in intervals between times, one for each stage; None: whole trajectories."""
        ...

    @property
    def options(self) -> dict[str, Any]:
        """The options of `pynode.solve`."""
        ...

    @property
    def random_state(self) -> int:
        """The seed of everything that is drawn."""
        ...

    @property
    def total_iterations(self) -> int:
        """The most iterations that there can be."""
        ...


class Run:
    """One training of a field on trajectories, from the first stage to the last: `train()` does it all.

    1. `match` fits the slopes of the smoothed data.
    2. `shoot` fits windows of the data, once for each entry of `steps()`: the windows grow from stage to stage.
    3. `finish` computes what follows from the last stage.

    Within a stage, a subclass calls `begin` with a new `Stage`, then minimises its objective by an optimiser of
    `pynode.optim`, whose callback calls `record` after each iteration: it keeps the history, calls the user's callback and
    says whether to stop. At the end it updates `training.theta`, and the states along the windows by `keep_states`. A stage
    that made things worse is undone (`left_out`). The state is offered to the checkpoint between two stages here, and
    after each iteration by the optimiser; a resumed run starts with the stage that was at work.

    Subclasses define `match` and `shoot` and, where they need it, `prepare`, `steps`, `surroundings`, `finish`, `saved` and
    `restore`.

    Parameters
    ----------
    field : Field
        The vector field to be trained.
    data : Data
        The trajectories, in the units of the field.
    training : Training
        Where to start (see `Training.start`); it is changed in place, so that an interrupt loses nothing.
    smoothed : Smoothed
        The smoothed trajectories.
    recipe : FirstOrder or SecondOrder
        How to train.
    callback : callable, optional
        callback(Iteration) after each iteration; return True to stop training.
    checkpoint : Checkpoint, optional
        Open already.
    holdout : Holdout, optional
        Trajectories for early stopping. Default: none.

    Attributes
    ----------
    coordinates : Coordinates
        The coordinates that optimisers vary in place of theta.
    stopped : bool
        The callback asked to stop, or a stage was undone: no further stage begins.
    position : int
        The stage at work: 0 while matching slopes, k for the k-th of `steps()`.
    batches : int
        Minibatches in an epoch of the first windows, for the display of progress.
    trial : bool
        Stages are only tried: windows that they leave out are not worth a warning.
    """

    batches = 1

    def __init__(
        self,
        field: Field,
        data: Data,
        training: Training,
        smoothed: Smoothed,
        recipe: Recipe,
        callback: Callable[[Iteration], object] | None = None,
        checkpoint: Checkpoint | None = None,
        holdout: Holdout | None = None,
    ) -> None:
        self.field = field
        self.data = data
        self.training = training
        self.smoothed = smoothed
        self.recipe = recipe
        self.callback = callback
        self.checkpoint = checkpoint
        self.holdout = holdout
        self.coordinates = Coordinates(field.spec, training.theta)
        self.start = time.perf_counter()
        self.stopped = False
        self.position = 0
        self.early_stopping: EarlyStopping | None = None
        self.found_stopping: dict[str, Any] | None = None
        self.found_counts: dict[str, int] = {}
        self.trial = False
        self.prepare()

    # ---- For the two ways of training to fill in

    def prepare(self) -> None:
        """Set up what a subclass needs; called once, when the run is made."""

    def match(self) -> None:
        """Fit the slopes of smoothed data."""
        raise NotImplementedError

    def shoot(self, intervals: int | None, everything: bool = True) -> None:
        """Fit windows of this many intervals (None: whole trajectories), of all trajectories or of a part of them."""
        raise NotImplementedError

    def steps(self) -> list[Step]:
        """The stages on windows."""
        return [(n, True) for n in dict.fromkeys(self.recipe.windows)]

    def surroundings(self) -> AbstractContextManager[object]:
        """A context in which to train."""
        return nullcontext()

    def finish(self) -> None:
        """Compute what follows from the last stage."""

    def saved(self) -> dict[str, Any]:
        """More of the state between two stages, for checkpoints."""
        return {}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from `saved()`."""

    def counts(self) -> dict[str, int]:
        """Counters of the stage at work that the state of its optimiser does not hold, for checkpoints."""
        return {}

    # ---- The order of the stages

    def train(self) -> None:
        """Go through all stages, or go on from the checkpoint.

        Raises
        ------
        FitError
            No stage could be solved.
        FitInterrupted
            Ctrl-C.
        """
        if self.checkpoint is not None and self.checkpoint.found is not None:
            self._resume(self.checkpoint.found["outer"])
        stages: list[Step | None] = [None, *self.steps()]
        with self.surroundings():
            for k, step in enumerate(stages):
                if self.stopped or k < self.position:
                    continue
                self.position = k
                self.early_stopping = None
                self._snapshot()
                if step is None:
                    self.match()
                else:
                    self.shoot(*step)
            self.finish()
        worked = any(stage.windows and stage.status != "left out" for stage in self.training.stages)
        if not self.stopped and not worked:
            raise FitError(NOTHING_SOLVED)

    # ---- For the stages

    def known_slopes(self, most: int | None = None) -> tuple[Array, Array, Array, Array | None] | None:
        """(t, states, slopes, control inputs) where all slopes are known, or None where there are fewer than two.

        Where there are more than `most` rows, `most` of them are drawn by the random state of the recipe.
        """
        t, y, slope = (np.concatenate(x) for x in (self.data.t, self.smoothed.y, self.smoothed.slope))
        known = ~np.isnan(slope).any(axis=1) & ~np.isnan(y).any(axis=1)
        if known.sum() < 2 or len(self.coordinates) == 0:
            return None
        rows = np.flatnonzero(known)
        u = self.data.inputs_at_rows()
        if most is not None and len(rows) > most:
            rng = np.random.default_rng(self.recipe.random_state)
            rows = rows[np.sort(rng.choice(len(rows), most, replace=False))]
        return t[rows], y[rows], slope[rows], None if u is None else u[rows]

    def keep_states(self, windows: Windows, chosen: NDArray[np.intp], y: Array, status: Iterable[int]) -> None:
        """Keep the states y (rows, d or more) along those windows that were solved; `chosen` are their trajectories."""
        ends = np.cumsum([len(t) for t in windows.t])
        for (i, a, b), states, how in zip(windows.source, np.split(y, ends[:-1]), status, strict=True):
            if how == OK:
                self.training.states[chosen[i]][a:b] = states[:, : self.field.d]

    def left_out(self, stage: Stage, why: str) -> None:
        """Mark a stage that did not work, and warn; why: "left out" or "undone"."""
        stage.status = why
        if self.trial:
            return
        known = [s.name for s in self.training.stages if s.windows and s.status not in ("undone", "left out")]
        words = (
            f"the field could not be solved over {stage.name}; this stage was left out"
            if why == "left out"
            else f"the data cannot be followed over {stage.name} (chaos, or too few iterations): "
            f"the parameters fitted to {(known or ['slopes'])[-1]} are kept"
        )
        self.warn(words)

    def windows_left_out(self, stage: Stage, failed: NDArray[np.bool_]) -> None:
        """Count the windows that could not be solved at the start of a stage, and warn; failed: (W,)."""
        stage.failed = int(failed.sum())
        if self.trial:
            return
        self.warn(
            f"{stage.failed} of {len(failed)} windows could not be solved at the start of {stage.name}: "
            "they take no part in this stage"
        )

    def warn(self, words: str) -> None:
        """Warn, and remember it for the report."""
        self.training.warnings.append(words)
        warnings.warn(words, FitWarning, stacklevel=6)

    def begin(self, stage: Stage, intervals: int | None = None) -> None:
        """Open a stage, with early stopping if there are held-out trajectories; intervals: as in `shoot`."""
        self.training.stages.append(stage)
        self.early_stopping = None
        if self.holdout is not None and stage.windows:
            self.early_stopping = _WindowsStopping(self.field, self.holdout, intervals, self.recipe.options)
            if self.found_stopping is not None:
                self.early_stopping.restore(self.found_stopping)
        self.found_stopping = None

    def record(
        self, stage: Stage, loss: float, gradient_norm: float, nfe: float, theta: Array, kept: tuple[Array, ...]
    ) -> bool:
        """Record an iteration: history, callback, early stopping.

        Parameters
        ----------
        stage : Stage
            The stage that it belongs to.
        loss, gradient_norm : float
            The loss and the Euclidean norm of its gradient.
        nfe : int
            Evaluations of the field since the iteration before.
        theta : (p,) array
            The parameters reached.
        kept : tuple of arrays
            To be remembered by early stopping if this is the best so far for the held-out trajectories.

        Returns
        -------
        bool
            Whether to stop the stage.
        """
        validation = np.nan if self.early_stopping is None else self.early_stopping(theta, kept)
        history = self.training.history
        seconds = time.perf_counter() - self.start
        history["stage"].append(len(self.training.stages) - 1)
        for name, value in zip(HISTORY, (loss, gradient_norm, nfe, seconds, validation), strict=True):
            history[name].append(value)
        if self.callback is not None:
            number = len(history["loss"])
            step = Iteration(number, loss, theta.copy(), gradient_norm, seconds, nfe, validation, stage.name)
            if self.callback(step) is True:
                self.stopped = True
        return self.stopped or (self.early_stopping is not None and self.early_stopping.tired)

    def interrupted(self, loss: float) -> FitInterrupted:
        """The exception to raise at Ctrl-C."""
        n = len(self.training.history["loss"])
        history = {name: np.array(values) for name, values in self.training.history.items()}
        return FitInterrupted(FitResult(self.training.theta, loss, "interrupted", "interrupted by the user", n, n, history))

    # ---- Checkpoints

    def _snapshot(self) -> None:
        """Take the state between two stages: a checkpoint holds it, and the state of the optimiser at work."""
        if self.checkpoint is None:
            return
        training = self.training
        lengths = [len(x) for x in training.states]
        snapshot = {
            "position": self.position,
            "theta": training.theta.copy(),
            "states": np.concatenate(training.states),
            "lengths": np.array(lengths, dtype=np.int64),
            "stages": training.stage_dicts,
            "warnings": list(training.warnings),
            "more": self.saved(),
        }

        def outer() -> dict[str, Any]:
            history = {name: np.array(x, dtype=np.float64) for name, x in training.history.items()}
            stopping = None if self.early_stopping is None else self.early_stopping.saved()
            return snapshot | {"history": history, "early_stopping": stopping, "counts": self.counts()}

        self.checkpoint.outer = outer
        if self.position:
            self.checkpoint.offer(None, dict)

    def _resume(self, saved: dict[str, Any]) -> None:
        training = self.training
        self.position = saved["position"]
        training.theta = saved["theta"]
        training.states = np.split(saved["states"], np.cumsum(saved["lengths"])[:-1])
        training.stages = [Stage(**stage) for stage in saved["stages"]]
        training.warnings = list(saved["warnings"])
        training.history = {name: x.tolist() for name, x in saved["history"].items()}
        training.history["stage"] = [int(k) for k in training.history["stage"]]
        self.found_stopping = saved["early_stopping"]
        self.found_counts = saved["counts"]
        self.start -= training.history["seconds"][-1] if training.history["seconds"] else 0.0
        self.restore(saved["more"])


class _WindowsStopping(EarlyStopping):
    """Early stopping by the mean squared error of held-out trajectories over windows, in units of their variance."""

    def __init__(self, field: Field, holdout: Holdout, intervals: int | None, options: dict[str, Any]) -> None:
        super().__init__(self._error, holdout.patience)
        self.windows = holdout.data.windows(intervals)
        self.field = field
        self.options = options | {"inputs": self.windows.signal}
        self.y0 = self.windows.initial(holdout.states)
        self.target = np.concatenate(self.windows.y)
        self.spread = holdout.data.spread

    def _error(self, theta: Array) -> float:
        sol = solve(self.field, self.y0, self.windows.t, theta, errors="ignore", **self.options)
        squares = (np.concatenate(sol.y) - self.target) ** 2 / self.spread
        mean = np.where(np.isnan(self.target), 0.0, squares).sum() / np.count_nonzero(~np.isnan(self.target))
        return float(mean) if np.isfinite(mean) else np.inf
