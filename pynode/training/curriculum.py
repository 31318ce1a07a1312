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
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.errors import OK, users_level
from pynode.fields.field import Field
from pynode.fields.states import inside, limits
from pynode.optim.checkpoint import Checkpoint
from pynode.optim.result import HISTORY, FitInterrupted, FitResult, Iteration
from pynode.training.coordinates import Coordinates
from pynode.training.early_stopping import EarlyStopping, Holdout, WindowsStopping
from pynode.training.initial_states import MARGIN, choose_states
from pynode.training.recipe import Recipe
from pynode.training.smoothing import Smoothed
from pynode.training.state import Stage, Training
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


class FitError(RuntimeError):
    """The field cannot be trained on these data."""


class FitWarning(UserWarning):
    """A stage of training, or some of the data in it, was left out."""


@dataclass(frozen=True)
class Reached:
    """Where a run has come to: everything needed to go on from there."""

    theta: Array
    states: list[Array]
    more: dict[str, Any]
    whole: bool


class Run:
    """One training of a field on trajectories, from the first stage to the last: `train()` does it all.

    1. `match` fits the slopes of the smoothed data.
    2. `shoot` fits windows of the data, once for each entry of `steps()`: the windows grow from stage to stage.
    3. `compete` lets other ways to train try, for a field of one's own (`pynode.training.rivals`).
    4. `finish` computes what follows from the last stage.

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
        The callback asked to stop.
    gave_up : bool
        A stage was undone, and no longer windows are tried.
    whole : bool
        `training.states` are solutions over whole trajectories, all of them.
    held : list of str
        Warnings that wait for the end of training: they are void where another way to train does better.
    first_theta, first_states : (p,) array, list of (T_i, d) arrays
        Where training starts.
    position : int
        The stage at work: 0 while matching slopes, k for the k-th of `steps()`.
    batches : int
        Minibatches in an epoch of the first windows, for the display of progress.
    trial : bool
        Stages are only tried: windows that they leave out are not worth a warning.
    quiet : bool
        Warnings are only remembered.
    pieces : dict
        What the stage at work has given so far, see `went_on`.
    origin : (d,) array
        Where the states in the user's units are 0, in those of the run: there proportional noise vanishes.
    """

    batches = 1
    quiet = False

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
        self.gave_up = False
        self.whole = False
        self.held: list[str] = []
        self.first_theta = training.theta.copy()
        self.first_states = [x.copy() for x in training.states]
        self.position = 0
        self.early_stopping: EarlyStopping | None = None
        self.found_stopping: dict[str, Any] | None = None
        self.found_counts: dict[str, int] = {}
        self.pieces: dict[str, Any] = {}
        self.trial = False
        self.origin = np.zeros(data.d)
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

    def compete(self) -> None:
        """Try other ways to train, and keep the best; called once all stages are done."""

    def begin_again(self, theta: Array, states: list[Array]) -> None:
        """Start the stages on windows from these parameters and states."""
        self.training.theta = theta
        self.training.states = states
        self.gave_up = False
        self.whole = False
        self.pieces = {}

    def reached(self) -> Reached:
        """Where training has come to."""
        return Reached(self.training.theta, [x.copy() for x in self.training.states], self.saved(), self.whole)

    def back_to(self, reached: Reached) -> None:
        """Go on from there."""
        self.training.theta = reached.theta
        self.training.states = reached.states
        self.restore(reached.more)
        self.whole = reached.whole

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
                if self.stopped or self.gave_up or k < self.position:
                    continue
                self._enter(k)
                if step is None:
                    self.match()
                    self.pieces = {}
                else:
                    self.shoot(*step)
            if not self.stopped:
                self._enter(len(stages))
                self.compete()
            for words in self.held:
                self.warn(words)
            self.finish()
        worked = any(stage.windows and stage.status != "left out" for stage in self.training.stages)
        if not self.stopped and not worked:
            raise FitError(NOTHING_SOLVED)

    def _enter(self, position: int) -> None:
        """A stage begins: the state before it is what a checkpoint holds."""
        self.position = position
        self.early_stopping = None
        self._snapshot()

    # ---- For the stages

    def guess_states(self) -> bool:
        """Guess states that nobody measured, for a field of one's own; False where there are none.

        What the slopes imply is one guess. Slopes of noisy data may imply states of the wrong sign, or ones that explode,
        and then no parameters fit; the data of whole trajectories decide.
        """
        if not self.recipe.own or self.data.seen.all() or self.field.callbacks:
            return False
        theta = self.training.theta
        variance = np.where(self.smoothed.variance > 0, self.smoothed.variance, 0.01 * self.data.spread)
        self.training.states = choose_states(
            self.field, theta, self.data, self.training.states, 1.0 / variance, **self.recipe.options
        )
        return True

    def within(self, y0: Array) -> Array:
        """Initial states (W, d) within the limits of the field's states."""
        return inside(y0, limits(self.field), MARGIN * np.sqrt(self.data.spread))

    def stage_on(self, windows: Windows, intervals: int | None, part: str = "") -> Stage:
        """A stage on windows of so many intervals; part: what is said of some of the trajectories."""
        name = ("whole trajectories" if intervals is None else f"windows of {intervals}") + part
        return Stage(f"trial on {name}" if self.trial else name, len(windows), intervals=intervals, trial=self.trial)

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
        uncut = all(a == 0 and b == len(self.data.t[chosen[i]]) for i, a, b in windows.source)
        self.whole = uncut and len(windows) == self.data.n_followed and all(how == OK for how in status)
        for (i, a, b), states, how in zip(windows.source, np.split(y, ends[:-1]), status, strict=True):
            if how == OK:
                self.training.states[chosen[i]][a:b] = states[:, : self.field.d]

    def left_out(self, stage: Stage, why: str) -> None:
        """Mark a stage that did not work, and warn; why: "left out" or "undone"."""
        stage.status = why
        if self.trial:
            return
        known = [s.name for s in self.training.stages if s.windows and s.kept]
        words = (
            f"the field could not be solved over {stage.name}; this stage was left out"
            if why == "left out"
            else f"the data cannot be followed over {stage.name} (chaos, or too few iterations): "
            f"the parameters fitted to {(known or ['slopes'])[-1]} are kept"
        )
        self.held.append(words)  # another way to train may follow the data

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
        if self.quiet:
            return
        warnings.warn(words, FitWarning, stacklevel=users_level())

    def begin(self, stage: Stage) -> None:
        """Open a stage, with early stopping if there are held-out trajectories."""
        self.training.stages.append(stage)
        self.early_stopping = None
        if self.holdout is not None and stage.windows:
            self.early_stopping = WindowsStopping(self.field, self.holdout, stage.intervals, self.recipe.options)
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
        self._before = {
            "position": self.position,
            "gave_up": self.gave_up,
            "whole": self.whole,
            "held": list(self.held),
            "theta": training.theta.copy(),
            "states": np.concatenate(training.states),
            "lengths": np.array(lengths, dtype=np.int64),
            "stages": training.stage_dicts,
            "warnings": list(training.warnings),
            "more": self.saved(),
            "pieces": self.pieces,
        }

        def outer() -> dict[str, Any]:
            history = {name: np.array(x, dtype=np.float64) for name, x in training.history.items()}
            stopping = None if self.early_stopping is None else self.early_stopping.saved()
            return self._before | {"history": history, "early_stopping": stopping, "counts": self.counts()}

        self.checkpoint.outer = outer
        if self.position:
            self.checkpoint.offer(None, dict)

    def went_on(self, pieces: dict[str, Any]) -> None:
        """A part of the stage at work is done: a checkpoint holds what it gave, beside the state before the stage.

        Parameters
        ----------
        pieces : dict
            What the stage has given so far, as plain data and arrays. A resumed run finds it in `pieces`.
        """
        self.pieces = pieces
        if self.checkpoint is None:
            return
        training = self.training
        self.early_stopping = None
        self._before |= {"stages": training.stage_dicts, "warnings": list(training.warnings), "pieces": pieces}
        self.checkpoint.offer(None, dict)

    def _resume(self, saved: dict[str, Any]) -> None:
        training = self.training
        self.position = saved["position"]
        self.gave_up = saved["gave_up"]
        self.whole = saved["whole"]
        self.held = list(saved["held"])
        training.theta = saved["theta"]
        training.states = np.split(saved["states"], np.cumsum(saved["lengths"])[:-1])
        training.stages = [Stage(**stage) for stage in saved["stages"]]
        training.warnings = list(saved["warnings"])
        training.history = {name: x.tolist() for name, x in saved["history"].items()}
        training.history["stage"] = [int(k) for k in training.history["stage"]]
        self.pieces = saved["pieces"]
        self.found_stopping = saved["early_stopping"]
        self.found_counts = saved["counts"]
        self.start -= training.history["seconds"][-1] if training.history["seconds"] else 0.0
        self.restore(saved["more"])
