"""Fits of a NeuralODE with a protocol: initial states, doses, observation functions, error models, replicates.

The likelihood of the readings along whole trajectories is maximised (`pynode.training.likelihood.run`). Where states are
read off and no doses are given, the stages of ordinary training find one of the starts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.scaling import FAR, spread_within
from pynode.data.trajectories import Trajectories
from pynode.fields.field import Field
from pynode.models.trajectories.known import protocol as protocols
from pynode.models.trajectories.options import first_order_options
from pynode.models.trajectories.recipe import network, prepare
from pynode.models.trajectories.scaling import Scaling
from pynode.models.trajectories.series import n_inputs
from pynode.optim.checkpoint import Checkpoint
from pynode.optim.result import FitInterrupted, Iteration
from pynode.programs.tracing import new_trace, trace
from pynode.training.coordinates import Coordinates
from pynode.training.curriculum import FitError
from pynode.training.error_models import ERROR_MODELS
from pynode.training.first_order import OPTIMIZERS
from pynode.training.likelihood.problem import LikelihoodProblem, times_and_readings
from pynode.training.likelihood.run import Likelihood, LikelihoodRun, Start
from pynode.training.likelihood.verdict import Verdict
from pynode.training.second_order import STEPS
from pynode.training.sizes import prior_groups
from pynode.training.starts import drawn

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]

FINE = 1e-2
"""Whole trajectories are solved to this part of the tolerances of training: likelihoods are compared closely."""

GUESSES = (1.0, 0.1, 0.01, 1e-3, 10.0, 0.0)
"""Sizes that are tried for initial states which nothing tells, in units of the readings."""

DRAWS = 64
"""Where no start explains the readings, so many parameters are drawn around those given ..."""

CLIMBED = 4
"""... and the most likely of them are climbed from."""

AROUND = 30.0
"""By this factor positive parameters (the odds of bounded ones) are drawn larger or smaller; others by normal numbers.
Where most of them have no likelihood, as many again are drawn by its square."""

SMALL = 0.1
"""A network that no slopes start begins with its random weights times this."""


@dataclass
class KnownFit:
    """A fit with a protocol, in the units of the data.

    Attributes
    ----------
    model : NeuralODE
        Whose options are used.
    data : Trajectories
        What was measured.
    precision : list of arrays or None
        The user's weights.
    seed : int
        Of what is drawn.
    doses : list of Dose, list of lists, or dict
        See `pynode.NeuralODE.fit`.
    field : Field, optional
        In the units of the data. Default: the model's own, or its network.
    read_off : bool
        States themselves are measured, and nothing is done to them.
    protocol : Protocol
        How trajectories are made and measured.
    """

    model: "NeuralODE"
    data: Trajectories
    precision: Sequence[Array] | None
    seed: int
    doses: Any = None
    field: Field | None = None

    def __post_init__(self) -> None:
        model, data = self.model, self.data
        if model.log:
            raise ValueError(
                "log=True does not go with observe, initial, doses, replicates or error models: noise='lognormal' compares "
                "logarithms"
            )
        _check_options(model)
        self.plain: Start | None = None
        self.read_off = model.observe is None and self.doses is None and data.doses is None
        field = self.field or model.field or self._network()
        if field.callbacks:
            raise ValueError(f"field={field!r} calls Python: observe, initial, doses and error models need a traced field")
        self.protocol = protocols.made(model, field, data, self.doses)
        self.times, self.readings = times_and_readings(data.t, data.y, self.precision, data.censored)
        if not len(self.readings):
            raise ValueError("nothing is observed: all readings are NaN or have the weight 0")
        self._check_logarithms()
        self.theta0 = self.protocol.field.init(self.seed)
        self.options: dict[str, Any] = {"method": model.method, "rtol": max(model.rtol * FINE, 1e-12), "max_steps": 20_000}
        self.units = self._units()
        self.options |= self.units.tolerances(self.options["rtol"], model.atol * FINE)
        self.options["atol"] = np.maximum(self.options["atol"], 1e-300)

    def _check_logarithms(self) -> None:
        """Log-normal readings are positive."""
        for c, name in enumerate(self.data.names):
            if not ERROR_MODELS[self.protocol.models[c]].logarithmic:
                continue
            for i, (t, y) in enumerate(zip(self.data.t, self.data.y, strict=True)):
                bad = np.flatnonzero(y[:, c] <= 0)
                if len(bad):
                    raise ValueError(
                        f"noise='lognormal' compares logarithms, but {name} is {y[bad[0], c]:g} at {self.data.time_name} = "
                        f"{t[bad[0]]:g} of trajectory {self.data.ids[i]}: mark it as censored, leave it out (NaN), or take "
                        "noise='combined'"
                    )

    # ---- Starts

    def _network(self) -> Field:
        """The network, in the units of the data; where states are read off it is trained by slopes and windows first."""
        model, data = self.model, self.data
        if not self.read_off:
            d = model.observe.d if isinstance(model.observe, Field) else data.d + int(model.augment)
            return network(model, d, n_inputs(data), 1)
        run, scaling, field = self._ordinary(None)
        natural = in_units(field, scaling)
        self.plain = Start("slopes and windows", run.training.theta, self._states_of(run, scaling))
        return natural

    def _ordinary(self, field: Field | None) -> tuple[Any, Scaling, Field]:
        """(run, scaling, field) of ordinary training on the means of replicates."""
        plain = type(self.model)(**self.model.get_params())
        robust = self.model.noise if self.model.noise in ("huber", "student") else "gaussian"
        plain.set_params(field=field, observe=None, initial=None, lag=None, bioavailability=None, noise=robust)
        data, weight = means(self.data, self.precision)
        run, scaling, _, _ = prepare(plain, data, weight, self.seed)
        run.warn = lambda words: None
        run.train()
        return run, scaling, run.field

    def _states_of(self, run: Any, scaling: Scaling) -> Array:
        return np.asarray(scaling.states_back(np.stack([states[0] for states in run.training.states])))

    def starts(self) -> list[Start]:
        """The user's values or, of a network, those of slopes and windows."""
        if self.plain is not None:
            theta = self.theta0.copy()
            theta[: len(self.plain.theta)] = self.plain.theta
            return [replace(self.plain, theta=theta)]
        theta = self.theta0
        if self.model.field is None:
            theta = theta * SMALL
        first = Start("the start given", theta, self.guess(theta))
        others = drawn(self.protocol.field, int(self.model.n_restarts), self.seed)[1:]
        return [first] + [Start(f"start {k + 2}", th, self.guess(th)) for k, th in enumerate(others)]

    def more(self) -> Iterator[Start]:
        """For a field of one's own: the start of slopes and windows, where states are read off, then drawn ones."""
        if self.model.field is None:
            return
        if self.read_off and self.model.field.n_params:
            yield from self._by_slopes(self.model.field)
        yield from self._drawn()

    def _by_slopes(self, own: Field) -> list[Start]:
        try:
            run, scaling, field = self._ordinary(own)
        except (FitError, ValueError):
            return []
        theta = self.theta0.copy()
        theta[: field.n_params] = run.training.theta
        return [Start("slopes and windows", theta, self._states_of(run, scaling))]

    def _drawn(self) -> list[Start]:
        """The most likely of parameters drawn around those given, by the readings of whole trajectories."""
        coordinates = Coordinates(self.protocol.field.spec, self.theta0)
        if not len(coordinates):
            return []
        given = coordinates.x(self.theta0)
        limited = coordinates.log | coordinates.box
        rng = np.random.default_rng(self.seed)
        states = self.guess(self.theta0)
        problem = self.problem(coordinates, states, 1.0)
        drawn = np.zeros((0, len(given)))
        loss = np.zeros(0)
        for reach in (1.0, 2.0):
            shape = (DRAWS, len(given))
            step = np.where(limited, np.log(AROUND) * rng.uniform(-1, 1, shape), rng.standard_normal(shape))
            some = given + reach * step * np.where(limited | (given == 0), 1.0, np.abs(given))
            at = [problem.first_noise(np.append(x, np.zeros(problem.n_noise)), problem.start) for x in some]
            drawn = np.concatenate([drawn, some])
            loss = np.append(loss, [problem.loss(x, problem.start) for x in at])
            if np.isfinite(loss).mean() > 0.5:  # else most of them, as the values given, have no likelihood: further away
                break
        best = [k for k in np.argsort(loss)[:CLIMBED] if np.isfinite(loss[k])]
        return [Start(f"drawn {k + 1}", np.array(coordinates.theta(drawn[k])), states) for k in best]

    def _units(self) -> Scaling:
        """The sizes of the states, and what they vary by within trajectories.

        Of readings where states are read off, else of the course from the start given.
        """
        d = self.protocol.field.d
        plain = Scaling.identity(d, False, 0 if self.data.signal is None else self.data.signal.m)
        if self.model.observe is None:
            y = [np.pad(x, ((0, 0), (0, d - x.shape[1])), constant_values=np.nan) for x in self.data.y]
            whole = np.concatenate(y)
            count = np.maximum((~np.isnan(whole)).sum(axis=0), 1)
            size = np.sqrt(np.nansum(whole**2, axis=0) / count)
            size = np.where(size > 0, size, size[size > 0].mean() if (size > 0).any() else 1.0)
        else:
            guess = self._known_or(np.ones((len(self.data), d)))
            try:
                options = self.options | {"atol": 1e-8}
                course = self.protocol.experiment(self.times, self.data.signal, **options).run(self.theta0, guess, False)
            except ValueError:
                return plain
            whole = np.where(np.isfinite(course.states), course.states, np.nan)
            y = np.split(whole, np.cumsum([len(t) for t in self.times])[:-1])
            size = np.nanmax(np.abs(whole), axis=0, initial=0.0)
            size = np.where(size > 0, size, 1.0)
        within = np.minimum(spread_within(y), size)
        far = (FAR * within < size) & (~np.isnan(whole)).any(axis=0)
        return replace(plain, spread=size, centre=np.where(far, size, 0.0), within=np.where(far, within, size))

    def _known_or(self, guess: Array) -> Array:
        initial = self.protocol.initial
        states = np.where(np.isnan(initial.start), guess, initial.start)
        return np.where(np.isnan(initial.known), states, initial.known)

    def guess(self, theta: Array) -> Array:
        """(B, d) initial states to start from: first readings, and for states that nobody reads the size that fits best."""
        b, d = len(self.data), self.protocol.field.d
        first = np.full((b, d), np.nan)
        if self.model.observe is None:
            for i, y in enumerate(self.data.y):
                for j in range(self.data.d):
                    seen = y[~np.isnan(y[:, j]), j]
                    first[i, j] = seen[0] if len(seen) else np.nan
        low, high = self.protocol.initial.low, self.protocol.initial.high
        first = np.where((first > low) & (first < high), first, np.nan)
        unknown = np.isnan(self._known_or(first)) & self.protocol.initial.free
        if not unknown.any():
            return np.nan_to_num(self._known_or(first))
        typical = float(np.sqrt(np.mean(self.readings.value**2))) or 1.0
        best, value = np.nan_to_num(first, nan=typical), np.inf
        for size in GUESSES:
            inside = np.array([_between(a, b, size * typical, typical) for a, b in zip(low, high, strict=True)])
            states = np.nan_to_num(self._known_or(np.where(np.isnan(first), inside, first)))
            problem = self.problem(Coordinates(self.protocol.field.spec, theta), states, 1.0)
            x = np.concatenate([problem.coordinates.x(theta), np.zeros(problem.n_noise)])
            loss = problem.loss(problem.first_noise(x, problem.start), problem.start)
            if loss < value:
                best, value = states, loss
        return self._known_or(best)

    # ---- The fit

    def problem(self, coordinates: Coordinates, states: Array, part: float) -> LikelihoodProblem:
        """The likelihood of what was read during a part of the time."""
        data = self.data
        times = self.times
        readings = self.readings
        if part < 1:
            ends = [t[0] + part * (t[-1] - t[0]) for t in data.t]
            keep = [max(int(np.searchsorted(t, e, side="right")), 2) for t, e in zip(data.t, ends, strict=True)]
            cut = [[x[:n] for x, n in zip(xs, keep, strict=True)] for xs in (data.t, data.y)]
            weight = None if self.precision is None else [w[:n] for w, n in zip(self.precision, keep, strict=True)]
            censored = None if data.censored is None else [c[:n] for c, n in zip(data.censored, keep, strict=True)]
            times, readings = times_and_readings(cut[0], cut[1], weight, censored)
        experiment = self.protocol.experiment(times, data.signal, **self.options)
        return LikelihoodProblem(
            experiment, readings, self.protocol.models, self.protocol.noise, coordinates, self._known_or(states)
        )

    def likelihood(self, held: tuple[int, ...] = ()) -> Likelihood:
        """What is fitted; held: positions of parameters that keep their values."""
        model, spec = self.model, self.protocol.field.spec
        groups = prior_groups(self.protocol.field) if model.field is None and model.weight_decay is None else []
        return Likelihood(self.problem, spec, groups, int(model.max_iter or STEPS), held=held)

    def run(
        self, callback: Callable[[Iteration], object] | None = None, checkpoint: Checkpoint | None = None
    ) -> tuple[LikelihoodRun, FitInterrupted | None]:
        """Climb from all starts; an interrupt is handed back where there is a result to keep."""
        run = LikelihoodRun(self.likelihood(), self.starts(), self.more, self.verdict.explains, callback, checkpoint)
        try:
            run.train()
        except FitInterrupted as interrupt:
            if run.best is None:
                raise
            return run, interrupt
        except FitError as error:
            if "lognormal" not in self.protocol.models:
                raise
            raise FitError(f"{error}; noise='lognormal' needs predictions above 0 at every reading") from None
        return run, None

    def states_of(self, theta: Array) -> tuple[LikelihoodProblem, Array]:
        """(problem, the coordinates of the free initial states that fit best) with these parameters held.

        Raises
        ------
        FitError
            The experiment cannot be solved with them.
        """
        start = Start("the fitted parameters", theta, self.guess(theta))
        run = LikelihoodRun(self.likelihood(tuple(range(len(theta)))), [start], explains=lambda maximum: True)
        run.train()
        assert run.best is not None
        return run.best.problem, np.asarray(run.best.posterior.free)

    @cached_property
    def verdict(self) -> Verdict:
        """The judge of maxima."""
        data, _ = means(self.data, self.precision)
        return Verdict(list(data.t), list(data.y), data.names, bool(any(self.protocol.doses)))


def _check_options(model: "NeuralODE") -> None:
    """Refuse options that a fit by likelihood does not have."""
    wrong = {name: getattr(model, name) for name in first_order_options(model)}
    if model.optimizer in OPTIMIZERS:
        wrong["optimizer"] = model.optimizer
    if model.early_stopping:
        wrong["early_stopping"] = True
    if model.weight_decay:
        wrong["weight_decay"] = model.weight_decay
    if wrong:
        given = ", ".join(f"{name}={value!r}" for name, value in wrong.items())
        raise ValueError(
            f"{given} does not go with observe, initial, doses, replicates or error models: such fits climb the likelihood "
            "of whole trajectories by Levenberg-Marquardt; leave it out"
        )


def _between(low: float, high: float, size: float, typical: float) -> float:
    """A guess of this size that keeps to the bounds."""
    if np.isfinite(high):
        return 0.5 * (low + high)
    return max(low + size, low + 1e-6 * typical) if np.isfinite(low) else size


def means(data: Trajectories, weight: Sequence[Array] | None) -> tuple[Trajectories, list[Array] | None]:
    """Trajectories whose replicates are replaced by their means, weighted by how many there are; censored ones left out."""
    if data.censored is None and not any((np.diff(t) == 0).any() for t in data.t):
        return data, None if weight is None else list(weight)
    ts = []
    ys = []
    ws = []
    for i, (t, y) in enumerate(zip(data.t, data.y, strict=True)):
        w = np.ones(y.shape) if weight is None else np.array(weight[i])
        if data.censored is not None:
            w = np.where(np.asarray(data.censored[i]) != 0, 0.0, w)
        w = np.where(np.isnan(y), 0.0, w)
        different, where = np.unique(t, return_inverse=True)
        total = np.zeros((len(different), y.shape[1]))
        mean = np.zeros(total.shape)
        np.add.at(total, where, w)
        np.add.at(mean, where, w * np.nan_to_num(y))
        ts.append(different)
        ys.append(np.where(total > 0, mean / np.where(total > 0, total, 1.0), np.nan))
        ws.append(np.where(total > 0, total, 1.0))
    means_only = replace(data, t=tuple(ts), y=tuple(ys), repeated=False, censored=None, doses=None)
    return means_only, ws


def in_units(field: Field, scaling: Scaling) -> Field:
    """A field in scaled units as one in the units of the data, with the same parameters."""
    the_trace = new_trace(field.program.slot_sizes, (field.n_params,))
    bound = field.bind(the_trace.theta())

    def slope(t: Any, y: Any, u: Any = None) -> Any:
        v = None if u is None else (u - scaling.u_shift) / scaling.u_scale
        value = bound((t - scaling.t_shift) / scaling.t_scale, (y - scaling.shift) / scaling.scale, v)
        return value * (scaling.scale / scaling.t_scale)

    args = [the_trace.slot(0, ()), the_trace.slot(1)] + ([the_trace.slot(2)] if field.inputs else [])
    traced = trace(slope, args, the_trace, field.d)
    return Field(the_trace.builder.finish([traced.register]), field.spec, field.name)
