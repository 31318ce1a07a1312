"""Fits to data in partitions, which need not fit into memory.

A sample of the trajectories is fitted as any data are: it chooses the form of the equation, and where to start. Then all
partitions decide the parameters: a last stage by normal equations (or gradients, of large fields) summed over them.
"""

import os
import pickle
import time as clock
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.control import as_control
from pynode.data.partitions import Partitions
from pynode.data.rows import Rows
from pynode.data.trajectories import Trajectories
from pynode.errors import users_level
from pynode.models.trajectories.equations.looking import fit_form
from pynode.models.trajectories.far_field import settle_far_field
from pynode.models.trajectories.inputs import choose_inputs, keep_choice
from pynode.models.trajectories.named import by_state
from pynode.models.trajectories.options import NeuralODEOptions, first_order_options
from pynode.models.trajectories.partitions.results import keep_sums
from pynode.models.trajectories.scaling import Scaling
from pynode.models.trajectories.stages import reporting
from pynode.models.trajectories.storage import from_content, to_content
from pynode.optim.checkpoint import Checkpoint, opened
from pynode.optim.lbfgs import lbfgs
from pynode.optim.levenberg_marquardt import descend
from pynode.optim.normal_equations import small_matrices
from pynode.optim.posterior import LaplacePosterior
from pynode.optim.progress import Progress
from pynode.optim.result import FitInterrupted, FitResult, Iteration
from pynode.training.coordinates import Coordinates
from pynode.training.curriculum import FitWarning
from pynode.training.partitions.problem import PartitionProblem, promised
from pynode.training.partitions.sums import Sums, Task
from pynode.training.partitions.survey import Survey, draw, drawn, survey
from pynode.training.second_order import ROUNDING, STEPS, SecondOrderRun
from pynode.training.steps import SECOND_ORDER
from pynode.training.verdict.residuals import EXCESS, scatter

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]

SAMPLE = 1000
"""How many trajectories the form of the equation is chosen by, ..."""

SAMPLE_ROWS = 100_000
"""... of at most about so many times together, ..."""

FEWEST = 32
"""... but no fewer than these."""

CLOSE = 0.1
"""The fit ends where the next step would be shorter than this, in standard errors ..."""

SMALL = 1e-4
"""... or where two steps in a row lower the sum of squares by less than this part."""


@dataclass
class Start:
    """Where the stage over all partitions starts, and how it goes.

    Attributes
    ----------
    options : dict
        Of `pynode.solve`: rtol and atol.
    intervals : int or None
        Length of the windows that the sample could be followed over; None: whole trajectories.
    variance, least, spread : (d,) arrays
        Of the noise, of rounding, of the states.
    alpha : (n,) array
        Precisions of the priors.
    groups : list of int arrays
        Coordinates that share one.
    second : bool
        By normal equations.
    """

    options: dict[str, Any]
    intervals: int | None
    variance: Array
    least: Array
    spread: Array
    alpha: Array
    groups: list[NDArray[np.intp]]
    second: bool

    @classmethod
    def of(cls, run: Any) -> "Start":
        """Where the fit of the sample has come to."""
        second = isinstance(run, SecondOrderRun)
        spread = run.data.spread
        least = run.least if second else ROUNDING * spread
        intervals = None if run.whole else run.fitted[0] if second and run.fitted is not None else run.recipe.windows[0]
        options = {name: run.recipe.options[name] for name in ("rtol", "atol", "max_steps") if name in run.recipe.options}
        alpha = run.posterior.alpha.copy() if second else np.full(len(run.coordinates), float(run.recipe.decay))
        groups = [np.asarray(g) for g in run.groups] if second else []
        return cls(options, intervals, np.maximum(scatter(run)[1], least), least, spread, alpha, groups, second)


def fit_partitions(
    model: "NeuralODE",
    partitions: Partitions,
    seed: int,
    progress: bool | str,
    callback: Callable[[Iteration], Any] | None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None,
) -> None:
    """Fit a model to data in partitions; see `NeuralODE.fit`."""
    started = clock.perf_counter()
    refuse(model)
    partitions, names = _in_order(partitions, model)
    known = partitions.total(survey, bool(model.log), partitions.read.id is not None)
    _check(known, partitions, model)
    with opened(checkpoint, model.random_state, partial(_what, model, partitions, known)) as saved:
        outer = {} if saved is None or saved.found is None else saved.found["outer"]
        found = outer.get("sample")
        before_stage = outer.get("stage")
        if found is None:
            start = _of_sample(model, partitions, known, names, seed, progress, callback, saved)
        else:
            content: Any = found["model"]
            before = from_content(content, type(model))
            vars(model).update({name: value for name, value in vars(before).items() if name.endswith("_")})
            model.in_frames_ = False
            start = Start(**found["start"])
        if model.report_["status"] == "stopped":
            return
        stage = PartitionStage(model, partitions, known, start, callback)
        if saved is not None:
            content = {"model": to_content(model), "start": vars(start)}
            saved.outer = lambda: {"sample": content, "stage": stage.saved()}
            if found is None:
                saved.offer(None, dict)
            elif saved.at_work is not None and before_stage is not None:
                stage.restore(before_stage)
        interrupt = stage.train(progress, saved)
        settle_far_field(model)
        model.report_["seconds"] = clock.perf_counter() - started
        if interrupt is not None:
            raise interrupt


def refuse(model: NeuralODEOptions) -> None:
    """Refuse options that a fit to partitions does not have."""
    off = {
        "augment": (0, "states that nobody measured are found on all of the data at once"),
        "observe": (None, "the states themselves must be measured"),
        "initial": (None, "the initial state of each trajectory is estimated"),
        "limits": (None, "a field of your own may hold its states itself"),
        "process_noise": (False, "a random force is estimated from all of the data at once"),
        "max_growth": (None, "its states are those of data in memory"),
        "noise": ("gaussian", "outliers are told from medians over all of the data; leave them out"),
        "early_stopping": (False, "evidence decides, or weight_decay"),
        "n_estimators": (1, "fit the members by themselves, with different random_state"),
        "n_restarts": (1, "fit a sample with n_restarts, and give its field_ as field="),
    }
    for name, (plain, why) in off.items():
        if getattr(model, name) is not plain and getattr(model, name) != plain:
            raise ValueError(f"{name}={getattr(model, name)!r} does not go with data in partitions: {why}")
    if model.field is not None and model.field.callbacks:
        raise ValueError(
            f"field={model.field.name!r} calls Python, which does not go with data in partitions: take a traced field "
            "(pynode.field)"
        )
    for name in first_order_options(model):
        raise ValueError(f"{name}={getattr(model, name)!r} does not go with data in partitions: there are no minibatches")
    if model.optimizer in ("adam", "adam+lbfgs"):
        raise ValueError(
            f"optimizer={model.optimizer!r} does not go with data in partitions: take {SECOND_ORDER!r}, 'lbfgs' or 'auto'"
        )


def _in_order(partitions: Partitions, model: "NeuralODE") -> tuple[Partitions, tuple[str, ...] | None]:
    """(the partitions, their columns in the order of the field's states; the names of the states, None: not given)."""
    names = partitions.read.state or partitions.read.names
    if names is None:
        return partitions, None if model.field is None else model.field.state_names or None
    if len(set(names)) != len(names):
        raise ValueError(f"the states must have different names: {', '.join(names)}")
    plain = Trajectories.from_arrays([0.0], np.zeros((1, len(names))), names)
    ordered = by_state(plain, model.field)
    if ordered.never_observed:
        raise ValueError(
            f"state {ordered.never_observed[0]} is never observed, which does not go with data in partitions: fit a sample "
            "in memory"
        )
    if ordered.names == tuple(names):
        return partitions, ordered.names
    return partitions.in_order([names.index(name) for name in ordered.names]), ordered.names


def _check(known: Survey, partitions: Partitions, model: "NeuralODE") -> None:
    m = len(partitions.read.input)
    d = len(known.count) - m
    if len(known) == 0:
        raise ValueError("there are no trajectories in the partitions")
    if (name := known.torn()) is not None:
        raise ValueError(f"trajectory {name} is in two partitions: write each whole into one (sort by id, then cut)")
    if not known.count[:d].all():
        j = int(np.flatnonzero(known.count[:d] == 0)[0])
        raise ValueError(f"state {(partitions.read.state or range(1, d + 1))[j]} is never observed: leave the column out")
    if model.field is not None and (model.field.d, model.field.inputs) != (d, m):
        raise ValueError(
            f"the data have {d} states and {m} control inputs, the field has {model.field.d} and {model.field.inputs}"
        )


def _what(model: "NeuralODE", partitions: Partitions, known: Survey) -> tuple[Any, ...]:
    """What a fit follows from, for the fingerprint of a checkpoint: of the data what the survey tells."""
    facts = [value for name, value in vars(known).items() if name != "edges"]
    return *model.told(), "partitions", list(partitions.read.columns), facts


def _of_sample(
    model: "NeuralODE",
    partitions: Partitions,
    known: Survey,
    names: tuple[str, ...] | None,
    seed: int,
    progress: bool | str,
    callback: Callable[[Iteration], Any] | None,
    checkpoint: Checkpoint | None,
) -> Start:
    """Fit a sample of the trajectories, as any data are fitted."""
    n = max(FEWEST, min(SAMPLE, int(SAMPLE_ROWS * len(known) / known.n_rows)))
    rows = partitions.total(drawn, draw(known.sizes, n, seed))
    data = _trajectories(rows, partitions, names)
    model.in_frames_ = False
    model.random_state_ = seed
    data, choice = choose_inputs(model, data, data.signal is not None, False, seed)
    units = _units(model, known, data.d)
    if choice.delay.any():
        units = replace(units, u_delay=choice.delay)
    run = fit_form(model, data, None, seed, choice.delay, progress, callback, checkpoint, units)
    keep_choice(model, choice)
    return Start.of(run)


def _trajectories(rows: Rows, partitions: Partitions, names: tuple[str, ...] | None) -> Trajectories:
    """The sample as `Trajectories`."""
    read = partitions.read
    t, y, u = rows.series()
    signal = as_control(u, None, t) if read.input else None
    states = names or tuple(f"y{j + 1}" for j in range(rows.y.shape[1]))
    ids = tuple(x.item() if hasattr(x, "item") else x for x in rows.ids)
    if read.id is None:
        ids = ()
    return Trajectories(
        tuple(t), tuple(y), states, read.time or "t", ids, signal=signal, input_names=read.input, id_name=read.id
    )


def _units(model: "NeuralODE", known: Survey, d: int) -> Scaling:
    """Units of states and inputs by the moments of all partitions."""
    if not model.scale:
        found = Scaling.identity(d, bool(model.log), len(known.mean) - d)
    else:
        scale = known.scale
        of_inputs: dict[str, Any] = {"u_shift": known.mean[d:], "u_scale": scale[d:]}
        found = Scaling(known.mean[:d], scale[:d], np.ones(d), log=bool(model.log), **of_inputs)
    return found if model.field is None else found.unscaled()


class PartitionStage:
    """The stage over all partitions."""

    def __init__(
        self,
        model: "NeuralODE",
        partitions: Partitions,
        known: Survey,
        start: Start,
        callback: Callable[[Iteration], Any] | None,
    ) -> None:
        self.model = model
        self.known = known
        self.start = start
        field = model.field_
        self.coordinates = Coordinates(field.spec, model.theta_)
        options = {"method": model.method} | start.options
        kind = model.input_kind_
        bare = replace(field)  # without what was derived of it
        self.task = Task(
            pickle.dumps(bare), model.scaling_, self.coordinates, options, start.intervals, kind, start.spread, start.second
        )
        self.problem = PartitionProblem(partitions, self.task, start.variance, start.least)
        self.state = LaplacePosterior(
            self.coordinates.x(model.theta_), None, start.alpha, 1.0, gamma=float(len(self.coordinates))
        )
        pieces = "whole trajectories" if start.intervals is None else f"windows of {start.intervals}"
        self.name = f"all partitions, {pieces}"
        self.callback = callback
        self.history: list[tuple[float, ...]] = []
        self.began = clock.perf_counter()
        self.reached: tuple[Array, Sums] | None = None
        self.left = 0.0
        self.resumed = False
        self.stopped = False
        self.converged = False

    def train(self, progress: bool | str, checkpoint: Checkpoint | None) -> FitInterrupted | None:
        """Go through it; what is reached is kept by the model. Returns what Ctrl-C raises in the end."""
        interrupt = None
        total = int(self.model.max_iter or STEPS)
        with Progress(total, progress if isinstance(progress, str) else "all partitions", bool(progress)) as bar:
            self.report = reporting(bar, self.callback)
            try:
                if not self.resumed:
                    self.problem.begin(self.state.theta)
                    self._reach(self.state.theta)
                with small_matrices(len(self.coordinates)):
                    train = self._by_normal_equations if self.start.second else self._by_gradient
                    train(total, checkpoint)
            except KeyboardInterrupt:
                if self.reached is None:
                    raise
                interrupt = self._interrupted()
        for words in self._words(interrupt is not None):
            self.model.report_["warnings"].append(words)
            warnings.warn(words, FitWarning, stacklevel=users_level())
        self._keep("interrupted" if interrupt else "stopped" if self.stopped else "finished")
        return interrupt

    def _by_normal_equations(self, total: int, checkpoint: Checkpoint | None) -> None:
        def reweigh(state: LaplacePosterior) -> None:
            self.problem.reweigh(state.theta)

        def after_step(state: LaplacePosterior, norm: float, nfe: int) -> bool:
            self._record(state.theta, state.loss / self.problem.n_observed, norm, nfe)
            self.converged = promised(self.problem, state) < CLOSE**2
            return self.stopped or self.converged

        if not self.resumed and promised(self.problem, self.state) < CLOSE**2:
            self.converged = True
            total = 0
        descend(
            self.problem,
            self.state,
            groups=self.start.groups,
            max_iter=total,
            tol=SMALL,
            longest=self.coordinates.longest,
            callback=after_step,
            on_iteration=reweigh,
            checkpoint=checkpoint,
        )
        self._reach(self.state.theta)
        self.left = float(np.sqrt(promised(self.problem, self.state)))
        if self.converged:
            self.state.status = "converged"

    def _by_gradient(self, total: int, checkpoint: Checkpoint | None) -> None:
        decay = self.start.alpha

        def objective(x: Array) -> tuple[float, Array]:
            loss, gradient = self.problem.gradient(x)
            scale = 1.0 / self.problem.n_observed
            return scale * (loss + float((decay * x * x).sum())), scale * (gradient + 2 * decay * x)

        def after_step(step: Iteration) -> bool:
            assert step.theta is not None
            self._record(step.theta, step.loss, step.gradient_norm, step.nfe)
            return self.stopped

        found = lbfgs(objective, self.state.theta, max_iter=total, callback=after_step, checkpoint=checkpoint)
        self.state.theta = found.theta
        self.state.status = found.status
        self.state.n_evaluations = found.n_evaluations
        self._reach(found.theta)
        self.state.loss = self.reached[1].loss if self.reached else np.inf

    def saved(self) -> dict[str, Any]:
        """The state beside that of the optimiser, for checkpoints."""
        return {"problem": self.problem.saved(), "history": np.array(self.history).reshape(-1, 5)}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from `saved()`."""
        self.resumed = True
        self.problem.restore(saved["problem"])
        self.history = [tuple(row) for row in saved["history"].tolist()]

    def _reach(self, x: Array) -> None:
        self.reached = x.copy(), self.problem.at(x)

    def _record(self, x: Array, loss: float, norm: float, nfe: float) -> None:
        """After an iteration: history and callback."""
        self._reach(x)
        seconds = float(self.model.report_["seconds"]) + clock.perf_counter() - self.began
        self.history.append((loss, norm, nfe, seconds, np.nan))
        number = len(self.model.history_["loss"]) + len(self.history)
        theta = self.coordinates.theta(x).copy()
        if self.report(Iteration(number, loss, theta, norm, seconds, int(nfe), np.nan, self.name)):
            self.stopped = True

    def _interrupted(self) -> FitInterrupted:
        theta = self.coordinates.theta(self.state.theta)
        n = len(self.history)
        loss = self.state.loss / max(self.problem.n_observed, 1)
        return FitInterrupted(FitResult(theta, loss, "interrupted", "interrupted by the user", n, n, {}))

    def _words(self, interrupted: bool) -> list[str]:
        """What is doubtful about the stage."""
        words = []
        if self.problem.n_failed:
            words.append(
                f"{self.problem.n_failed} of {self.problem.n_failed + self.problem.n_windows} trajectories (or windows) "
                "could not be solved at the start: they take no part"
            )
        assert self.reached is not None
        now = self.reached[1].squares / np.maximum(self.reached[1].count, 1)
        if (now > EXCESS * self.start.variance).any() and (now > 1e-6 * self.start.spread).any():
            words.append(
                f"residuals over all partitions are {np.sqrt((now / self.start.variance).max()):.2g} times those of the "
                "sample that the form of the equation was chosen by: the partitions are not alike, or hold outliers"
            )
        if self.state.status == "converged" and self.left > 1 and not self.start.groups:
            words.append(
                f"{self.name} ended where steps hardly lower the sum of squares, though the next one would move the "
                f"parameters by {self.left:.2g} standard errors: these mean little, as of an equation that misses the data"
            )
        if self.state.status == "max_iter" and not self.converged and not interrupted:
            words.append(f"{self.name} ended after {len(self.history)} steps, not at a minimum: take a larger max_iter")
        return words

    def _keep(self, status: str) -> None:
        assert self.reached is not None
        keep_sums(self, status)
