"""The forward map of an experiment: parameters and free initial states in, what is measured and its exact derivatives out.

Between doses the trajectories are solved by the core with their sensitivities. At a dose, at a time e, the state goes
from y- to y+ = M y- + b, and its derivative A at fixed time (with respect to parameters and free initial states alike) to

    M (A + f(y-) de) + db - f(y+) de,

de and db being the derivatives of the time and of the amount: the rule of `pynode.engine.saltation`. So derivatives are
exact for the steps taken, also with respect to the times of doses.
Where a dose whose time is a parameter comes before everything else, the initial state is the one at its time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.calls.sensitivities import SensitivityProblem
from pynode.data.signal import Signal
from pynode.engine.saltation import moved, through
from pynode.errors import OK
from pynode.experiments.doses import RATE, RESET, SET, Actions, Schedule
from pynode.experiments.initial import Initial
from pynode.fields.field import Field
from pynode.fields.transforms import jacobian
from pynode.programs.tracing import new_trace, trace

Array = NDArray[np.float64]
Index = NDArray[np.intp]


ROUNDING = 8 * np.finfo(np.float64).eps
"""Times whose relative difference is at most this are the same time."""


@dataclass(frozen=True)
class Course:
    """How the experiment goes for some parameters.

    Attributes
    ----------
    value : (rows, k) array
        What is measured, at all times of all trajectories, one trajectory after the other.
    states : (rows, d) array
        The states there.
    jacobian : (rows, k, p + d) array or None
        Derivatives of `value` with respect to the parameters and to the trajectory's own initial state.
    states_jacobian : (rows, d, p + d) array or None
        Those of `states`.
    failed : (B,) bool array
        Trajectories that cannot be solved to their ends.
    nfe : int
        Evaluations of the field.
    """

    value: Array
    states: Array
    jacobian: Array | None
    states_jacobian: Array | None
    failed: NDArray[np.bool_]
    nfe: int


@dataclass(frozen=True)
class _Segment:
    """The stretch of one trajectory from one dose to the next: times [start, reading, ..., stop]."""

    sample: int
    times: Array
    first_row: int  # of the readings, among all rows
    n_rows: int
    action: int  # what happens at its end, or -1


class _Round:
    """The k-th stretches of all trajectories, what solves them, and where its rows belong."""

    def __init__(self, segments: list[_Segment], problem: SensitivityProblem | None) -> None:
        self.problem = problem
        self.actions = [(s.sample, s.action) for s in segments if s.action >= 0]
        long = [s for s in segments if len(s.times) > 1]
        length = np.array([len(s.times) for s in long], dtype=np.intp)
        self.which = np.array([s.sample for s in long], dtype=np.intp)
        self.last = np.cumsum(length) - 1
        begin = self.last + 1 - length
        empty = np.empty(0, dtype=np.intp)
        self.rows = np.concatenate([empty, *(a + 1 + np.arange(s.n_rows) for s, a in zip(long, begin, strict=True))])
        self.target = np.concatenate([empty, *(s.first_row + np.arange(s.n_rows) for s in long)])
        self.sample = np.repeat(self.which, [s.n_rows for s in long])


class Experiment:
    """How B trajectories come about.

    Parameters
    ----------
    field : Field
        The vector field, with d states.
    times : sequence of (T_i,) arrays
        When something is measured in each trajectory, strictly increasing.
    initial : Initial
        What is known of the initial states. They are those at the first reading or dose, whichever is earlier, before
        any dose.
    schedule : Schedule, optional
        Doses. Default: none.
    observe : Field, optional
        What is measured, a function of t, y, the parameters and the inputs. Default: the states.
    signal : Signal, optional
        Inputs.
    start : (B,) array, optional
        Times of the initial states. Default: see `initial`.
    **options
        See `pynode.solve`.

    Attributes
    ----------
    first : (B,) array
        Times of the initial states.
    rows : (B + 1,) int array
        Where the rows of each trajectory begin and end.
    inputs_first : (B, m) array or None
        Inputs at the times of the initial states.
    """

    def __init__(
        self,
        field: Field,
        times: Sequence[Array],
        initial: Initial,
        schedule: Schedule | None = None,
        observe: Field | None = None,
        signal: Signal | None = None,
        start: Array | None = None,
        **options: Any,
    ) -> None:
        self.field = field
        self.times = [np.asarray(t, dtype=np.float64) for t in times]
        self.initial = initial
        self.schedule = schedule if schedule is not None and schedule.n else None
        self.observe = observe
        self.signal = signal
        self.options = options
        self.d = field.d
        self.p = field.n_params
        self.rows = np.concatenate([[0], np.cumsum([len(t) for t in self.times])])
        self.first = self._first() if start is None else np.asarray(start, dtype=np.float64)
        self.solved = with_rates(field, () if self.schedule is None else self.schedule.infused)
        self._rounds: list[_Round] | None = None
        self._inputs = self._inputs_at_rows()
        self.inputs_first = self._inputs_at(range(len(self.times)), self.first)
        atol = options.get("atol", 1e-8)
        if np.ndim(atol):
            rates = [1e-6 * np.max(atol)] * (self.solved.d - self.d)
            self.options = options | {"atol": np.append(atol, rates)}

    @property
    def k(self) -> int:
        """How many quantities are measured."""
        return self.d if self.observe is None else self.observe.n_out

    def take(self, times: Sequence[Array], **options: Any) -> "Experiment":
        """The same experiment measured at other times."""
        atol = self.options.get("atol", 1e-8)
        own = self.options | {"atol": atol[: self.d] if np.ndim(atol) else atol}
        parts = (self.field, times, self.initial, self.schedule, self.observe, self.signal, self.first)
        return Experiment(*parts, **(own | options))

    def _first(self) -> Array:
        first = np.array([t[0] for t in self.times])
        if self.schedule is None:
            return first
        return np.asarray(np.minimum(first, self.schedule.first_times(len(first))))

    def _inputs_at(self, samples: Any, t: Array) -> Array | None:
        if self.signal is None:
            return None
        signal = self.signal
        return np.stack([signal(np.array([x]), 0 if signal.shared else i)[0] for i, x in zip(samples, t, strict=True)])

    def _inputs_at_rows(self) -> Array | None:
        if self.signal is None:
            return None
        signal = self.signal
        return np.concatenate([signal(t, 0 if signal.shared else i) for i, t in enumerate(self.times)])

    # ---- Solving

    def run(self, theta: Array, free: Array, derivatives: bool = True) -> Course:
        """The course of the experiment.

        Parameters
        ----------
        theta : (p,) array
            The parameters.
        free : (B, d) array
            Initial states, of which those that are free count.
        derivatives : bool, default True
            With Jacobians.
        """
        n = len(self.times)
        d = self.d
        wide = self.solved.d
        columns = self.p + d
        y = np.zeros((n, wide))
        y[:, :d] = self.initial.states(theta, free, self.first, self.inputs_first)
        A = np.zeros((n, wide, columns))
        if derivatives:
            A[:, :d, : self.p] = self.initial.slopes(theta, self.first, self.inputs_first)
            A[:, range(d), range(self.p, columns)] = self.initial.free
        states = np.full((self.rows[-1], d), np.nan)
        J = np.zeros((self.rows[-1], d, columns)) if derivatives else None
        failed: NDArray[np.bool_] = np.asarray(~np.isfinite(y).all(axis=1))
        actions = None if self.schedule is None else self.schedule.actions(theta)
        begin = self.first if actions is None else self._begin(actions)
        if derivatives and actions is not None:
            self._at_begin(actions, theta, y, A)
        nfe = 0
        for stretch in self._segments(actions, begin):
            if stretch.problem is not None:
                nfe += self._solve(stretch, stretch.problem, theta, y, A, states, J, failed)
            for sample, action in stretch.actions:
                if actions is not None and not failed[sample]:
                    self._act(actions, action, theta, y, A, derivatives)
        return self._measured(theta, states, J, failed, nfe)

    def begin(self, theta: Array) -> Array:
        """(B,) times at which the trajectories begin: `first`, or that of an earlier dose whose time is a parameter."""
        return self.first if self.schedule is None else self._begin(self.schedule.actions(theta))

    def _begin(self, actions: Actions) -> Array:
        if self.schedule is None or not self.schedule.moving:
            return self.first
        begin: Array = self.first.copy()
        np.minimum.at(begin, actions.sample, actions.time)
        return begin

    def _at_begin(self, actions: Actions, theta: Array, y: Array, A: Array) -> None:
        """Add to A that initial states y are those of a time that moves."""
        begin = self._begin(actions)
        for i in np.flatnonzero(begin < self.first).tolist():
            k = np.flatnonzero(actions.sample == i)[0]  # they are sorted
            A[i][:, : self.p] -= np.outer(self._slope(i, begin[i], y[i], theta), actions.d_time[k])

    def _solve(
        self,
        stretch: _Round,
        problem: SensitivityProblem,
        theta: Array,
        y: Array,
        A: Array,
        states: Array,
        J: Array | None,
        failed: NDArray[np.bool_],
    ) -> int:
        """Solve one stretch of some trajectories; y and A go to its end. Returns evaluations of the field."""
        which = stretch.which
        y0 = np.where(failed[which, None], 0.0, y[which])
        raw = problem.setup.run(theta, y0=y0) if J is None else problem.run(theta, y0)
        failed[which] |= raw["status"] != OK
        kept = ~failed[stretch.sample]
        rows = stretch.rows[kept]
        target = stretch.target[kept]
        states[target] = raw["y"][rows, : self.d]
        good = ~failed[which]
        here = which[good]
        last = stretch.last[good]
        if J is not None:
            S = raw["sensitivity"]
            J[target] = self._along(S[rows, : self.d], A[stretch.sample[kept]])
            A[here] = self._along(S[last], A[here])
        y[here] = raw["y"][last]
        return int(raw["nfe"].sum())

    def _along(self, S: Array, A: Array) -> Array:
        """Derivatives (n, d, p + d) of states from their sensitivities S, and the derivatives A where the stretch begins."""
        whole = S[..., self.p :] @ A
        whole[..., : self.p] += S[..., : self.p]
        return np.asarray(whole)

    def _act(self, actions: Actions, k: int, theta: Array, y: Array, A: Array, derivatives: bool) -> None:
        """Let action k happen, at the end of a stretch."""
        i = actions.sample[k]
        j = actions.state[k]
        kind = actions.kind[k]
        kept = np.ones(len(y[i]))  # the diagonal of M
        added = np.zeros(len(kept))
        by_theta = np.zeros((len(kept), self.p))
        if kind == RESET:
            kept[: self.d] = 0.0
        else:
            place = j if kind != RATE else self.d + self.schedule.infused.index(int(j))  # type: ignore[union-attr]
            kept[place] = kind != SET
            added[place] = actions.value[k]
            by_theta[place] = actions.d_value[k]
        before = y[i].copy()
        y[i] = kept * before + added
        if not derivatives:
            return
        dt = np.append(actions.d_time[k], np.zeros(self.d))
        if not dt.any():
            A[i] = through(A[i], np.diag(kept), by_theta)
            return
        along = moved(A[i], self._slope(i, actions.time[k], before, theta), dt)
        A[i] = moved(through(along, np.diag(kept), by_theta), -self._slope(i, actions.time[k], y[i], theta), dt)

    def _slope(self, i: int, t: float, y: Array, theta: Array) -> Array:
        u = self._inputs_at([i], np.array([t]))
        return np.asarray(self.solved(t, y, theta, None if u is None else u[0]))

    def _segments(self, actions: Actions | None, begin: Array) -> list[_Round]:
        """The stretches of all trajectories: the first ones, the second ones, ..."""
        if self._rounds is not None:
            return self._rounds
        rounds: list[list[_Segment]] = []
        for i, t in enumerate(self.times):
            for k, segment in enumerate(self._cut(i, t, actions, begin[i])):
                if k == len(rounds):
                    rounds.append([])
                rounds[k].append(segment)
        made = [_Round(segments, self._problem(segments)) for segments in rounds]
        if self.schedule is None or not self.schedule.moving:
            self._rounds = made
        return made

    def _cut(self, i: int, t: Array, actions: Actions | None, begin: float) -> list[_Segment]:
        """The stretches of one trajectory."""
        first = int(self.rows[i])
        row = 0
        segments = []
        own: Any = [] if actions is None else np.flatnonzero(actions.sample == i)
        for k in own:
            e = max(actions.time[k], begin) if actions is not None else begin
            near = ROUNDING * abs(e)
            if e + near >= t[-1]:
                break
            stop = int(np.searchsorted(t, e + near, side="right"))
            e = max(e, t[stop - 1]) if stop > row else e  # a reading at the very time, but for rounding
            times = np.concatenate([[begin], t[row:stop], [e]]) if e > begin or stop > row else np.array([begin])
            segments.append(_Segment(i, times, first + row, stop - row, int(k)))
            begin = e
            row = stop
        times = np.concatenate([[begin], t[row:]])
        segments.append(_Segment(i, times, first + row, len(t) - row, -1))
        return segments

    def _problem(self, segments: list[_Segment]) -> SensitivityProblem | None:
        """What solves these stretches; None where none has any length."""
        long = [s for s in segments if len(s.times) > 1]
        if not long:
            return None
        signal = None
        if self.signal is not None:
            signal = self.signal if self.signal.shared else self.signal.take([s.sample for s in long])
        y0 = np.zeros((len(long), self.solved.d))
        return SensitivityProblem(self.solved, y0, [s.times for s in long], inputs=signal, **self.options)

    # ---- Measuring

    def _measured(self, theta: Array, states: Array, J: Array | None, failed: NDArray[np.bool_], nfe: int) -> Course:
        if self.observe is None:
            return Course(states, states, J, J, failed, nfe)
        t = np.concatenate(self.times)
        u = self._inputs if self.observe.inputs else None
        with np.errstate(all="ignore"):
            value = self.observe(t, states, theta, u).reshape(len(t), -1)
            if J is None:
                return Course(value, states, None, None, failed, nfe)
            by_state = jacobian(self.observe, "y")(t, states, theta, u).reshape(len(t), self.k, self.d)
            whole = by_state @ J
            if self.p:
                whole[..., : self.p] += jacobian(self.observe, "theta")(t, states, theta, u).reshape(len(t), self.k, self.p)
        return Course(value, states, whole, J, failed, nfe)


def with_rates(field: Field, infused: Sequence[int]) -> Field:
    """The field with a constant state for each state into which something is infused: the rate, which is added.

    Parameters
    ----------
    field : Field
        With d states.
    infused : sequence of int
        Some of them.

    Returns
    -------
    Field
        With d + len(infused) states; the field itself where nothing is infused.
    """
    if not len(infused):
        return field
    d, r = field.d, len(infused)
    the_trace = new_trace((1, d + r, field.inputs), (field.n_params,))

    def value(t: Any, y: Any, theta: Any, u: Any) -> Any:
        slope = field.bind(theta)(t, y[:d], u)
        where = {state: k for k, state in enumerate(infused)}
        return [slope[j] + y[d + where[j]] if j in where else slope[j] for j in range(d)] + [0.0 * y[d]] * r

    args = [the_trace.slot(0, ()), the_trace.slot(1), the_trace.theta() if field.n_params else None]
    args.append(the_trace.slot(2) if field.inputs else None)
    traced = trace(value, args, the_trace, d + r)
    return Field(the_trace.builder.finish([traced.register]), field.spec, field.name)
