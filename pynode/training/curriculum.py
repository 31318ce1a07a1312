"""Training by steps: slopes first, then short windows of the data, then longer ones, then whole trajectories.

Long rollouts of an untrained field make a loss full of bad minima; slopes of smoothed data make one that is
nearly linear, and each step starts from the one before. The initial state of every window is free.

`Run` is what both ways of training share: stages, their history, checkpoints, early stopping. `FirstOrder`
(pynode/fit/first_order.py) and `SecondOrder` (second_order.py) say how a stage is optimised.
"""

import time
import warnings
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from dataclasses import field as _field

import numpy as np

from pynode.calls.solve import solve
from pynode.errors import OK
from pynode.optim.result import HISTORY, FitInterrupted, FitResult, Iteration
from pynode.training.coordinates import Coordinates
from pynode.training.early_stopping import EarlyStopping

LOST, WORSE = 0.1, 2.0
"""A stage is undone if it leaves more than this fraction of the variance unexplained, this factor more than
the one before: over windows that long the data cannot be followed, as in chaos."""


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
    """One step of training, and how it went.

    Attributes
    ----------
    name : str
    windows : int
        How many pieces of trajectories; 0 while matching slopes.
    status, loss, iterations, evaluations, seconds, nfe : the outcome
        nfe: evaluations of the field in forward solves.
    failed : int
        Windows left out because they could not be solved (of minibatches: failures in all iterations).
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
    states : list of (T_i, d) arrays
        Estimates of the states at the times of the data.
    stages : list of Stage
    history : dict of lists
        The columns of STAGED_HISTORY: an entry an iteration.
    warnings : list of str
        What training warned of.
    """

    theta: np.ndarray
    states: list
    stages: list = _field(default_factory=list)
    history: dict = _field(default_factory=lambda: {name: [] for name in STAGED_HISTORY})
    warnings: list = _field(default_factory=list)

    @classmethod
    def start(cls, theta, data, smoothed):
        """Before the first stage: states are smoothed; the mean, where a trajectory never observes one; else 0."""
        known, mean = np.concatenate(smoothed.y), np.zeros(data.d)
        seen = ~np.isnan(known).all(axis=0)
        mean[seen] = np.nanmean(known[:, seen], axis=0)
        return cls(theta, [np.where(np.isnan(x), mean, x) for x in smoothed.y])

    @property
    def report(self):
        """The stages as plain data."""
        return [asdict(stage) for stage in self.stages]


def default_windows(lengths, growth=3):
    """Lengths of windows, growing from at most ten intervals to whole trajectories."""
    longest = max(lengths) - 1
    sizes = [max(1, min(10, round(longest / 3)))]
    while 1.5 * growth * sizes[-1] < longest:  # at least two windows
        sizes.append(growth * sizes[-1])
    return (*sizes, None)


def checked_windows(windows):
    """Lengths of windows that a user gave, as a tuple."""
    lengths = tuple(windows) if np.iterable(windows) and not isinstance(windows, str) else ()
    if not lengths or not all(n is None or (isinstance(n, (int, np.integer)) and n >= 1) for n in lengths):
        raise ValueError(f"windows={windows!r} must hold numbers of intervals >= 1, or None for whole trajectories")
    return lengths


class Run:
    """The stages of one training.

    Parameters
    ----------
    field : Field
    data : Data
    training : Training
        Where to start (see `Training.start`); it is changed in place, so that an interrupt loses nothing.
    smoothed : Smoothed
    recipe : FirstOrder or SecondOrder
        With `windows` (lengths in intervals between times, one a stage; None: whole trajectories) and `options` (of
        `pynode.solve`).
    callback : callable, optional
        callback(Iteration) after each iteration; return True to stop training.
    checkpoint : Checkpoint, optional
        Opened.
    holdout : Holdout, optional

    Attributes
    ----------
    batches : int
        Minibatches of an epoch of the first windows, for the display of progress.
    trial : bool
        Stages are only tried: what they leave out is not worth a warning.
    """

    batches = 1

    def __init__(self, field, data, training, smoothed, recipe, callback=None, checkpoint=None, holdout=None):
        self.field, self.data, self.training, self.smoothed, self.recipe = field, data, training, smoothed, recipe
        self.callback, self.checkpoint, self.holdout = callback, checkpoint, holdout
        self.coordinates = Coordinates(field.spec, training.theta)
        self.start, self.stopped, self.position = time.perf_counter(), False, 0
        self.stopping = self.found_stopping = None
        self.trial = False

    # What the two ways of training fill in

    def match(self):
        """Fit the slopes of smoothed data."""
        raise NotImplementedError

    def shoot(self, intervals, everything):
        """Fit windows of this many intervals (None: whole trajectories), of all trajectories or of a part of them."""
        raise NotImplementedError

    def surroundings(self):
        """A context in which to train."""
        return nullcontext()

    def finish(self):
        """After the last stage."""

    def saved(self):
        """More of the state, for checkpoints."""
        return {}

    def restore(self, saved):
        """Go on from `saved()`."""

    def steps(self):
        """(intervals, everything) of the stages on windows."""
        return [(n, True) for n in dict.fromkeys(self.recipe.windows)]

    # ----

    def go(self):
        """Train.

        Raises
        ------
        FitError
            No stage could be solved.
        FitInterrupted
            Ctrl-C.
        """
        if self.checkpoint is not None and self.checkpoint.found is not None:
            self._resume(self.checkpoint.found["outer"])
        with self.surroundings():
            for k, step in enumerate([None, *self.steps()]):
                if self.stopped or k < self.position:
                    continue
                self.position, self.stopping = k, None
                self._snapshot()
                if step is None:
                    self.match()
                else:
                    self.shoot(*step)
            self.finish()
        worked = any(stage.windows and stage.status != "left out" for stage in self.training.stages)
        if not self.stopped and not worked:
            raise FitError(NOTHING_SOLVED)

    def known_slopes(self, most=None):
        """(t, states, slopes, control inputs) where all slopes are known, or None where they are too few.

        Of more than `most` rows so many are drawn, by the recipe's seed.
        """
        t, y, slope = (np.concatenate(x) for x in (self.data.t, self.smoothed.y, self.smoothed.slope))
        known = ~np.isnan(slope).any(axis=1) & ~np.isnan(y).any(axis=1)
        if known.sum() < 2 or len(self.coordinates) == 0:
            return None
        rows, u = np.flatnonzero(known), self.data.inputs_at_rows()
        if most is not None and len(rows) > most:
            rows = rows[np.sort(np.random.default_rng(self.recipe.seed).choice(len(rows), most, replace=False))]
        return t[rows], y[rows], slope[rows], None if u is None else u[rows]

    def keep_states(self, windows, chosen, y, status):
        """Keep the states along windows (of the trajectories `chosen`) that were solved."""
        ends = np.cumsum([len(t) for t in windows.t])
        for (i, a, b), states, how in zip(windows.source, np.split(y, ends[:-1]), status, strict=True):
            if how == OK:
                self.training.states[chosen[i]][a:b] = states[:, : self.field.d]

    def left_out(self, stage, why):
        """A stage that did not work."""
        stage.status = why
        if self.trial:
            return
        known = [s.name for s in self.training.stages if s.windows and s.status not in ("undone", "left out")]
        what = (
            f"the field could not be solved over {stage.name}; this stage was left out"
            if why == "left out"
            else f"the data cannot be followed over {stage.name} (chaos, or too few iterations): "
            f"the parameters fitted to {(known or ['slopes'])[-1]} are kept"
        )
        self.warn(what)

    def windows_left_out(self, stage, failed):
        """Some windows could not be solved at the start of a stage."""
        stage.failed = int(failed.sum())
        if self.trial:
            return
        self.warn(
            f"{stage.failed} of {len(failed)} windows could not be solved at the start of {stage.name}: "
            "they take no part in this stage"
        )

    def warn(self, words):
        """Warn, and remember it for the report."""
        self.training.warnings.append(words)
        warnings.warn(words, FitWarning, stacklevel=6)

    def begin(self, stage, intervals=None):
        """Open a stage."""
        self.training.stages.append(stage)
        self.stopping = None
        if self.holdout is not None and stage.windows:
            self.stopping = _WindowsStopping(self.field, self.holdout, intervals, self.recipe.options)
            if self.found_stopping is not None:
                self.stopping.restore(self.found_stopping)
        self.found_stopping = None

    def record(self, stage, loss, gradient_norm, nfe, theta, kept):
        """An iteration: history, callback, early stopping. Whether to stop.

        Parameters
        ----------
        stage : Stage
        loss, gradient_norm : float
        nfe : int
            Evaluations of the field since the iteration before.
        theta : (p,) array
        kept : tuple of arrays
            What must be remembered if this is the best so far for the held-out trajectories.
        """
        validation = np.nan if self.stopping is None else self.stopping(theta, kept)
        history, seconds = self.training.history, time.perf_counter() - self.start
        history["stage"].append(len(self.training.stages) - 1)
        for name, value in zip(HISTORY, (loss, gradient_norm, nfe, seconds, validation), strict=True):
            history[name].append(value)
        if self.callback is not None:
            number = len(history["loss"])
            step = Iteration(number, loss, theta.copy(), gradient_norm, seconds, nfe, validation, stage.name)
            if self.callback(step) is True:
                self.stopped = True
        return self.stopped or (self.stopping is not None and self.stopping.tired)

    def interrupted(self, loss):
        """What Ctrl-C raises."""
        n, history = len(self.training.history["loss"]), {k: np.array(v) for k, v in self.training.history.items()}
        return FitInterrupted(FitResult(self.training.theta, loss, "interrupted", "interrupted by the user", n, n, history))

    # Checkpoints

    def _snapshot(self):
        """The state between two stages is what a checkpoint starts from."""
        if self.checkpoint is None:
            return
        training, lengths = self.training, [len(x) for x in self.training.states]
        self.snapshot = {
            "position": self.position,
            "theta": training.theta.copy(),
            "states": np.concatenate(training.states),
            "lengths": np.array(lengths, dtype=np.int64),
            "stages": training.report,
            "warnings": list(training.warnings),
            "more": self.saved(),
        }

        def outer():
            history = {name: np.array(x, dtype=np.float64) for name, x in training.history.items()}
            return self.snapshot | {"history": history, "stopping": None if self.stopping is None else self.stopping.saved()}

        self.checkpoint.outer = outer
        if self.position:
            self.checkpoint.offer(None, dict)

    def _resume(self, saved):
        training = self.training
        self.position, training.theta = saved["position"], saved["theta"]
        training.states = np.split(saved["states"], np.cumsum(saved["lengths"])[:-1])
        training.stages = [Stage(**stage) for stage in saved["stages"]]
        training.warnings = list(saved["warnings"])
        training.history = {name: x.tolist() for name, x in saved["history"].items()}
        training.history["stage"] = [int(k) for k in training.history["stage"]]
        self.found_stopping = saved["stopping"]
        self.start -= training.history["seconds"][-1] if training.history["seconds"] else 0.0
        self.restore(saved["more"])


class _WindowsStopping(EarlyStopping):
    """Stops by the error of held-out trajectories over windows."""

    def __init__(self, field, holdout, intervals, options):
        super().__init__(self._miss, holdout.patience)
        self.windows = holdout.data.windows(intervals)
        self.field, self.options = field, options | {"inputs": self.windows.signal}
        self.y0 = self.windows.initial(holdout.states)
        self.target, self.spread = np.concatenate(self.windows.y), holdout.data.spread

    def _miss(self, theta):
        sol = solve(self.field, self.y0, self.windows.t, theta, errors="ignore", **self.options)
        miss = (np.concatenate(sol.y) - self.target) ** 2 / self.spread
        miss = np.where(np.isnan(self.target), 0.0, miss).sum() / np.count_nonzero(~np.isnan(self.target))
        return float(miss) if np.isfinite(miss) else np.inf
