"""Simulations of a NeuralODE under control inputs, from states that a warm-up window of measurements tells."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import real_array
from pynode.data.clock import times_of
from pynode.data.labels import by_given_name
from pynode.data.signal import Signal, depth
from pynode.errors import SolveWarning, users_level
from pynode.models.trajectories.derivatives import named_inputs, named_states
from pynode.models.trajectories.ensemble import combined
from pynode.models.trajectories.forecasts import Forecasts
from pynode.models.trajectories.intervals.predicted import Band, Kind, Measure, check_interval, visiting
from pynode.models.trajectories.process_noise import interval as driven_interval
from pynode.models.trajectories.visits import first_outside

Array = NDArray[np.float64]

GAP = 3.0
"""Control inputs miss where two of their times are so many times farther apart than all others."""

WARMUP = "warmup=(t, y, u): times, measured states and control inputs of a stretch before (or at the start of) those of u"


@dataclass(frozen=True)
class Experiment:
    """What is simulated: from where, under which inputs, at which times."""

    times: Array
    signal: Signal | None
    warm_t: Array | None = None
    warm_y: Array | None = None
    y0: Array | None = None

    @property
    def path(self) -> Array:
        """The times of the rollout: its start, then those that are asked for."""
        return self.times if self.warm_t is None else np.concatenate([self.warm_t[:1], self.times])


class Simulations(Forecasts):
    """The part of `NeuralODE` that simulates experiments."""

    def simulate(
        self,
        u: Any = None,
        warmup: Any = None,
        *,
        t: Any = None,
        y0: Any = None,
        return_std: bool = False,
        unobserved: bool = False,
        interval: float | None = None,
        kind: Kind = "mean",
    ) -> Any:
        """Trajectories under control inputs, from a state that a stretch of measurements before them tells.

        The state at the start of the warm-up is the one from which the learned equation fits its readings best; states that
        nobody measured are estimated along with the others. Every member of an ensemble finds its own.

        Parameters
        ----------
        u : (times, values[, kind]), Signal, or (T, m) array; a list of such for several experiments
            Control inputs. An array holds values at the times `t`. None for a model without inputs.
        warmup : (t, y), (t, y, u), or a list of such
            Times (n,), measured states (n, d) and control inputs (n, m) of a stretch of measurements; its inputs may be left
            out where those of the experiment reach so far back.
        t : (T,) array, or a list of such, optional
            Times at which the trajectory is wanted, from the start of the warm-up on. Default: those of u.
        y0 : (d,) or (B, d) array, optional
            In place of a warm-up: all states at the first of the times, of a model without unobserved states.
        return_std : bool, default False
            Return (trajectory, std): the standard deviation that the uncertainty of the parameters and of the state that
            the warm-up tells cause (linearised); of an ensemble with how the members differ on top.
        unobserved : bool, default False
            Return the unobserved states too (of a single model: members of an ensemble have states of their own).
        interval : float, optional
            Return an interval that holds this part of all, such as 0.9, as (mean, lower, upper), calibrated on the data as
            that of `predict`.
        kind : {"mean", "prediction"}, default "mean"
            The interval of the trajectory, or of a new reading, which has noise.

        Returns
        -------
        (T, d) array, or list of such where u, warmup or t is a list
            Of an ensemble the mean or the median of the members, see the option `average`. With return_std a pair of
            arrays, with interval a `Band` of three, for each experiment.

        Raises
        ------
        ValueError
            The start is unknown, times or inputs do not fit, or no initial state can be solved over the warm-up.

        See Also
        --------
        predict : from initial states that are known.
        initial_states : the states that a stretch of measurements tells.

        Examples
        --------
        >>> import numpy as np, pynode as pn
        >>> t = np.linspace(0, 20, 101)
        >>> u = np.sin(t) + np.sin(0.7 * t)
        >>> flow = pn.field(state=1, inputs=1)(lambda t, y, u: u - y)
        >>> tank = pn.solve(flow, [0.0], t, inputs=(t, u[:, None])).y
        >>> model = pn.NeuralODE(hidden=(), input_kind="linear", random_state=0).fit(t[:60], tank[:60], u=u[:60])
        >>> found = model.simulate((t[50:], u[50:]), warmup=(t[50:60], tank[50:60]))
        >>> bool(np.abs(found - tank[50:]).max() < 1e-2)
        True
        """
        self.check_is_fitted()
        if self.protocol_ is not None:
            raise ValueError("models with doses, observe or initial are simulated by predict(t, y0, u=, doses=)")
        several, parts = _listed(u, warmup, t, named_states(self, "y0", y0))
        experiments = [self._experiment(*part, f" of experiment {i}" * several) for i, part in enumerate(parts)]
        if interval is not None:
            if return_std or unobserved:
                raise ValueError("return_std and unobserved do not go with interval: ask for one of them")
            check_interval(interval, kind)
        if unobserved and self.estimators_:
            raise ValueError("unobserved=True: the members of an ensemble have unobserved states of their own; ask them")
        if return_std:
            found = [self._with_bands(each, {"return_std": True, "unobserved": unobserved}) for each in experiments]
        elif interval is not None:
            found = [self._with_bands(each, {"interval": float(interval), "kind": kind}) for each in experiments]
        elif self.estimators_:
            members = [member._simulated(experiments, False) for member in self.estimators_]
            found = [combined([y[i] for y in members], False, self.average) for i in range(len(experiments))]
        else:
            found = self._simulated(experiments, unobserved)
        return found if several else found[0]

    def leaves(self, t: Any, y0: Any = None, *, u: Any = None, trajectory: int = 0) -> Any:
        """The time from which on a rollout is outside what the model was shown while it was trained.

        Outside is a state, measured or not, beyond its range in training by more than a quarter of the range.

        Parameters
        ----------
        t : (T,) array_like, or list of (T_i,) arrays where y0 is a batch
            Times, as in `predict`.
        y0 : (d,) or (B, d) array_like, optional
            Initial states. Default: the fitted trajectory.
        u : see `fit`, optional
            Control inputs.
        trajectory : int, default 0
            Which one, without y0.

        Returns
        -------
        float, or (B,) array for a batch
            Infinity where it stays inside. Of an ensemble the earliest of its members.
        """
        self.check_is_fitted()
        if self.protocol_ is not None:
            raise ValueError("leaves is about learned fields; this model has the equation of a protocol")
        if self.estimators_:
            self._check_start(y0)
            each = [member.leaves(t, y0, u=u, trajectory=trajectory) for member in self.estimators_]
            return np.min(each, axis=0) if np.ndim(each[0]) else float(min(each))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            states: Any = self.predict(t, y0, u=u, trajectory=trajectory, unobserved=True)
        model: Any = self
        t = times_of(t, self.clock_)
        if isinstance(states, list):
            return np.array([first_outside(model, np.asarray(x), y) for x, y in zip(t, states, strict=True)])
        if states.ndim == 2:
            return first_outside(model, np.atleast_1d(np.asarray(t, np.float64)), states)
        return np.array([first_outside(model, np.asarray(t), y) for y in states])

    def _simulated(self, experiments: Sequence[Experiment], unobserved: bool) -> list[Array]:
        """The trajectory of each experiment."""
        found = []
        for each in experiments:
            if each.warm_t is None:
                found.append(np.asarray(self.predict(each.times, each.y0, u=each.signal, unobserved=unobserved)))
                continue
            assert each.warm_y is not None
            start = self.initial_states([each.warm_t], [each.warm_y], u=each.signal)[0]
            path = self.predict(each.path, start, u=each.signal, unobserved=unobserved)
            found.append(np.asarray(path)[1:])
        return found

    def _with_bands(self, experiment: Experiment, wanted: dict[str, Any]) -> Any:
        """(trajectory, std) or a `Band` of an experiment; wanted: keywords of `predict` that say which."""
        if experiment.warm_t is None or experiment.warm_y is None:
            return self.predict(experiment.times, experiment.y0, u=experiment.signal, **wanted)
        if self.driven_ is not None:
            return self._driven(experiment, experiment.warm_t, experiment.warm_y, **wanted)
        known: Any = self
        data = self._new_data([experiment.warm_t], [experiment.warm_y], experiment.signal)
        return visiting(known, data, "interval" in wanted).predict(experiment.times, **wanted)

    def _driven(
        self,
        experiment: Experiment,
        warm_t: Array,
        warm_y: Array,
        interval: float | None = None,
        kind: Kind = "mean",
        unobserved: bool = False,
        **_: Any,
    ) -> Any:
        """The same where a random force drives the states, which adds most: the start counts as known."""
        known: Any = self
        found = []
        for model in known.estimators_ or [known]:
            start = model.initial_states([warm_t], [warm_y], u=experiment.signal)[0]
            path = model.predict(experiment.path, start, u=experiment.signal, return_std=True, unobserved=unobserved)
            found.append(tuple(np.asarray(x)[1:] for x in path))
        mean, std = combined(found, True, self.average)
        if interval is None:
            return mean, std
        measure = Measure.of(known)
        noise = measure.noise * (kind == "prediction")
        return Band(mean, *driven_interval(mean, std, noise, interval, measure.logs))

    def _experiment(self, u: Any, warmup: Any, t: Any, y0: Any, where: str) -> Experiment:
        """An experiment, checked."""
        if (warmup is None) == (y0 is None):
            raise ValueError(
                f"the start{where} is unknown: give {WARMUP}; or y0, all states at the first time"
                if y0 is None
                else "give warmup or y0, not both: each tells where the simulation starts"
            )
        times, signal = self._times_and_inputs(u, t, where)
        if warmup is None:
            return Experiment(times, signal, y0=y0)
        warm_t, warm_y, warm_u = self._warmup(warmup, where)
        if times[0] < warm_t[0]:
            raise ValueError(
                f"times{where} begin at {self._when(times[0])}, before the warm-up at {self._when(warm_t[0])}: nothing is "
                "known there"
            )
        if signal is not None:
            if signal.kind != "constant" and warm_u is None and signal.t[0][0] > warm_t[0]:
                raise ValueError(
                    f"the control inputs{where} begin at {self._when(signal.t[0][0])}, the warm-up at "
                    f"{self._when(warm_t[0])}: give warmup=(t, y, u), or inputs that reach so far back"
                )
            signal = _joined(signal, warm_t, warm_u, where)
        return Experiment(times, signal, warm_t, warm_y)

    def _when(self, t: float) -> str:
        """A time as the user wrote it."""
        return f"{t:g}" if self.clock_ is None else self.clock_.to_text(t)[0]

    def _times_and_inputs(self, u: Any, t: Any, where: str) -> tuple[Array, Signal | None]:
        """The times that are asked for, and the inputs of one experiment."""
        m = self.field_.inputs
        times = None if t is None else np.atleast_1d(real_array("t", times_of(t, self.clock_), np.float64))
        if m and u is None:
            raise ValueError(f"the model has {m} control input{'s' * (m > 1)}: give u{where}, as (times, values)")
        if not m and u is not None:
            raise ValueError("the model has no control inputs: leave u out, and give t, the times of the simulation")
        signal = None
        u = named_inputs(self, u)
        if isinstance(u, tuple) and len(u) in (3, 4):
            signal = Signal(u[0], u[1] if u[0] is None else _columns(u[1], m, where), *u[2:])
        elif isinstance(u, Signal):
            signal = u
        elif u is not None:
            if times is None:
                raise ValueError(f"u{where} is an array: give t, its times, or u=(times, values)")
            signal = Signal(times, _columns(u, m, where), self.input_kind_)
        if signal is not None and (signal.m != m or len(signal.u) != 1):
            raise ValueError(f"u{where} has {signal.m} inputs of {len(signal.u)} experiments; the model has {m}")
        if times is None:
            if signal is None or signal.kind == "constant":
                raise ValueError(f"give t, the times of the simulation{where}: no times of u tell them")
            times = np.asarray(signal.t[0])
        if not len(times) or not np.isfinite(times).all() or (np.diff(times) < 0).any():
            raise ValueError(f"the times t{where} must rise")
        return times, signal

    def _warmup(self, warmup: Any, where: str) -> tuple[Array, Array, Any]:
        """(times, states, control inputs or None) of a warm-up window, checked."""
        if not isinstance(warmup, (tuple, list)) or len(warmup) not in (2, 3):
            raise ValueError(f"warmup{where} must be (t, y) or (t, y, u), not {type(warmup).__name__} of other size")
        t = np.atleast_1d(real_array("warmup: t", times_of(warmup[0], self.clock_), np.float64))
        size = np.shape(warmup[1])
        names = self._columns_of(size[-1] if len(size) == 2 or (size and len(t) == 1) else 1)
        y = np.atleast_1d(real_array("warmup: y", by_given_name("warmup: y", warmup[1], names), np.float64))
        if y.ndim == 1:
            y = y[None] if len(t) == 1 else y[:, None]
        if y.shape != (len(t), len(names)):
            raise ValueError(f"warmup{where}: y has shape {y.shape}; {len(t)} times and {len(names)} states need a row each")
        y = self._with_unread(y, names)
        if np.isnan(y).all():
            raise ValueError(f"warmup{where}: nothing is observed in it")
        return t, y, named_inputs(self, warmup[2]) if len(warmup) == 3 else None


def _columns(u: Any, m: int, where: str) -> Array:
    """Values (T, m) of control inputs."""
    values = np.atleast_1d(real_array(f"u{where}", u, np.float64))
    values = values[:, None] if values.ndim == 1 and m == 1 else values
    if values.ndim != 2 or values.shape[1] != m:
        raise ValueError(f"u{where} has shape {values.shape}; give a row a time and {m} column{'s' * (m > 1)}")
    return values


def _joined(signal: Signal, warm_t: Array, warm_u: Any, where: str) -> Signal:
    """Inputs over the warm-up, too: those of the experiment, before and after its times those of the warm-up."""
    if signal.kind == "constant":
        own = warm_u.u if isinstance(warm_u, Signal) else warm_u[1] if isinstance(warm_u, tuple) else warm_u
        if own is not None and (np.reshape(own, (-1, signal.m)) != signal.u[0]).any():
            raise ValueError(
                f"the inputs of the warm-up{where} are not the constants of u: give u as (times, values), from its first "
                "time on"
            )
        return signal
    first, last = signal.t[0][0], signal.t[0][-1]
    if warm_u is None or (first <= warm_t[0] and warm_t[-1] <= last):
        return signal
    if isinstance(warm_u, tuple):
        warm_u = Signal(warm_u[0], _columns(warm_u[1], signal.m, where), *warm_u[2:])
    if isinstance(warm_u, Signal):
        if warm_u.kind != signal.kind:
            raise ValueError(f"the inputs of the warm-up{where} are of kind {warm_u.kind!r}, those of u {signal.kind!r}")
        knots, values = np.asarray(warm_u.t[0]), np.asarray(warm_u.u[0])
    else:
        knots, values = warm_t, _columns(warm_u, signal.m, where)
        if len(values) != len(knots):
            raise ValueError(f"warmup{where}: u has {len(values)} rows for {len(knots)} times")
    before, after = knots < first, knots > last
    _warn_of_gap(knots[before], np.asarray(signal.t[0]), signal.kind, where)
    knots = np.concatenate([knots[before], signal.t[0], knots[after]])
    values = np.concatenate([values[before], signal.u[0], values[after]])
    return Signal([knots], [values], signal.kind, signal.knots)


def _warn_of_gap(before: Array, after: Array, kind: str, where: str) -> None:
    """Say that nobody told the inputs between the warm-up and the experiment, where that is longer than they are apart."""
    if not len(before):
        return
    gap = after[0] - before[-1]
    apart = max((float(np.diff(t).max()) for t in (before, after) if len(t) > 1), default=np.inf)
    if gap > GAP * apart:
        filled = "the last value before it is held" if kind == "previous" else "they go on a line between its ends"
        warnings.warn(
            f"no control inputs{where} are given for a stretch of {gap:g}, between the warm-up and u, where others are at "
            f"most {apart:g} apart: {filled}; give the inputs of that stretch with those of the warm-up",
            SolveWarning,
            stacklevel=users_level(),
        )


def _listed(u: Any, warmup: Any, t: Any, y0: Any) -> tuple[bool, list[tuple[Any, Any, Any, Any]]]:
    """Whether several experiments were given, and (u, warmup, t, y0) of each."""
    lists = {"u": u, "warmup": warmup, "t": t}
    ragged = depth(t) > 1 and isinstance(t, list)
    sizes = {name: len(x) for name, x in lists.items() if isinstance(x, list) and len(x) and _is_experiment(x[0], ragged)}
    if not sizes:
        return False, [(u, warmup, t, y0)]
    if len(set(sizes.values())) != 1:
        told = ", ".join(f"{n} of {name}" for name, n in sizes.items())
        raise ValueError(f"lists of several experiments must be of one length, not {told}")
    n = next(iter(sizes.values()))
    starts = [None] * n if y0 is None else list(np.atleast_2d(np.asarray(y0, np.float64)))
    if len(starts) != n:
        raise ValueError(f"y0 has {len(starts)} rows for {n} experiments")

    def of(name: str, i: int) -> Any:
        return lists[name][i] if name in sizes else lists[name]

    return True, [(of("u", i), of("warmup", i), of("t", i), starts[i]) for i in range(n)]


def _is_experiment(first: Any, ragged: bool) -> bool:
    """Whether the first element of a list is what one experiment needs, not a row of it; ragged: times are a list."""
    return isinstance(first, (tuple, Signal)) or depth(first) > (0 if ragged else 1)
