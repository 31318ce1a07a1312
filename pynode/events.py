"""Events: where g(t, y; theta) = 0. Find them, stop or jump there, and differentiate through their times.

The core ends a sample at its first event (csrc/events.inl); this module goes on from there, all samples of a round at once,
as long as one has an event that is not terminal. A stretch between two events is a plain solve that lands on its last time,
so its discrete adjoint is exact. With Y(t*, p) the state at the end of a stretch whose last step ends at t*, p its initial
state, initial time and theta, and y+ = R(t*, y*; theta) the reset,

    g(t*, Y(t*, p); theta) = 0   =>   dt* = -(g_y dY + g_theta dtheta) / D,   D = g_t + g_y dY/dt*

so cotangents a of y+, b of y*, tau of t* go back as (saltation; Barton & Lee 2002, ACM TOMACS 12; Corner et al. 2019)

    b += a R_y,   tau += a R_t,   mu = tau + b dY/dt*,   b <- b - (mu / D) g_y,   gtheta += a R_theta - (mu / D) g_theta

dY/dt* being the derivative of the last step with respect to its length: that of the numbers computed, steps frozen.
"""

import inspect
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from pynode import _core, parameters
from pynode.adjoints import _signal_values
from pynode.arguments import as_batch, as_field, as_theta, integer
from pynode.errors import OK, STATUS
from pynode.fields import Field, Parameters, run
from pynode.gradients import Gradients, LossAndGrad, Objective, _check_wrt, _scaled
from pynode.inputs import as_signal
from pynode.losses import rho, slope
from pynode.parameters import Parameter
from pynode.solving import Solution, check_errors, report
from pynode.tracing import new_trace, trace

MAX_EVENTS = 1000
SAME_TIME = 8.9e-16
"""Relative; the core's notion of the same time."""


# ---------------------------------------------------------------------------------------------------------------------
# Declaring events
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Event:
    """See `event`, which makes it."""

    g: Any
    terminal: bool
    direction: int
    reset: Any
    hold: bool
    name: str

    def parts(self):
        """(name, function or Field, numbers returned or None for d)."""
        return [("g", self.g, 1)] + ([] if self.reset is None else [("reset", self.reset, None)])


def event(g, *, terminal=None, direction=0, reset=None, hold=False, name=None):
    """Something that happens where g(t, y; theta) changes its sign.

    Parameters
    ----------
    g : function g(t, y) or g(t, y, th) -> number, or Field with out=1
        A function is traced like a field; `th` are the parameters of the vector field. A Field has parameters of its own,
        which stand behind those of the vector field in theta (`Hybrid`).
    terminal : bool, optional
        Whether the sample ends there. Default: unless there is a reset.
    direction : {0, 1, -1}
        Which changes count: both, rising (from - to +), falling.
    reset : function or Field with out=d, optional
        y+ = R(t, y-; theta), the state from which the sample goes on.
    hold : bool
        Results at times after a terminal event are the state there (after its reset) instead of NaN.
    name : str, optional

    Returns
    -------
    Event

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> @pn.field(state=2, theta={"gravity": 9.81, "restitution": 0.8})
    ... def ball(t, y, th):
    ...     return [y[1], -th.gravity]
    >>> bounce = pn.event(lambda t, y: y[0], direction=-1, reset=lambda t, y, th: [0.0, -th.restitution * y[1]])
    >>> sol = pn.solve(ball, [1.0, 0.0], [0.0, 1.0], ball.init(), events=bounce)
    >>> bool(abs(sol.events.t[0] - np.sqrt(2 / 9.81)) < 1e-12)
    True
    """
    for part, what in ((g, "g"), (reset, "reset")):
        if part is None and what == "reset":
            continue
        if isinstance(part, Field):
            if part.callbacks is not None:
                raise ValueError(
                    f"{what} is a Python callback; events run in the core: use a function of NumPy or pynode.field"
                )
            if part.inputs:
                raise ValueError(f"{what}: {part.name} takes {part.inputs} inputs; events depend on t, y and theta only")
        elif not callable(part):
            raise TypeError(f"{what} must be a function of (t, y) or (t, y, th), or a Field, not {part!r}")
    if isinstance(direction, bool) or direction not in (-1, 0, 1):
        raise ValueError(f"direction={direction!r} must be 0 (both), 1 (rising) or -1 (falling)")
    terminal = reset is None if terminal is None else bool(terminal)
    if hold and not terminal:
        raise ValueError("hold=True is for terminal events: a sample that goes on has states of its own later")
    name = name or getattr(g, "name", None) or getattr(g, "__name__", "event")
    return Event(g, terminal, int(direction), reset, bool(hold), name)


class Hybrid:
    """A vector field with events; its theta is [field | parameters of the Fields among g and reset, event by event].

    `solve` and `loss_and_grad` make one of their `events`; make it yourself to get at ``n_params``, ``init`` and ``split``.

    Parameters
    ----------
    field : Field
    events : Event or list of Event
    """

    def __init__(self, field, events):
        events = [events] if isinstance(events, Event) or not isinstance(events, (list, tuple)) else list(events)
        if not events or not all(isinstance(e, Event) for e in events):
            raise TypeError("events must be a pynode.event or a non-empty list of them")
        if not isinstance(field, Field):
            raise TypeError(f"events belong to a Field, not to {type(field).__name__}")
        if field.n_out != field.d:
            raise ValueError(
                f"{field.name} maps {field.d} state components to {field.n_out}: a vector field has as many of each"
            )
        self.field, self.events = field, tuple(events)
        spec, self.offsets = list(field.spec), {}
        for i, e in enumerate(events):
            for part, f, n_out in e.parts():
                if not isinstance(f, Field):
                    continue
                n_out = field.d if n_out is None else n_out
                if f.d != field.d or f.n_out != n_out:
                    raise ValueError(
                        f"{part} of event {i} ({e.name}) maps {f.d} state components to {f.n_out}; with this field it must "
                        f"map {field.d} to {n_out}" + (" (pynode.field(state=d, out=1))" if part == "g" else "")
                    )
                self.offsets[i, part] = parameters.total(spec)
                spec += parameters.shifted(f.spec, f"event{i}.{part}", parameters.total(spec))
        self.spec = tuple(spec)
        self.name = f"{field.name} with events"
        self.d, self.n_params = field.d, parameters.total(spec)

    def init(self, seed=None):
        """Initial parameters (n_params,)."""
        return parameters.initial(self.spec, seed)

    def split(self, theta):
        """theta as a dict of views: "field", and "event0.g", "event0.reset", ... where these have parameters."""
        theta = parameters.checked_theta(self.spec, theta)
        parts = {"field": theta[: self.field.n_params]}
        for (i, part), at in self.offsets.items():
            n = getattr(self.events[i], part).n_params
            if n:
                parts[f"event{i}.{part}"] = theta[at : at + n]
        return parts

    @cached_property
    def watch(self):
        """All event functions as one Field (out = number of events) of t, y and the whole theta."""
        return self._traced([(i, "g", e.g, 1) for i, e in enumerate(self.events)], "events")

    @cached_property
    def resets(self):
        """For each event the Field of its reset, of the whole theta, or None."""
        return [
            None if e.reset is None else self._traced([(i, "reset", e.reset, self.d)], f"reset of {e.name}")
            for i, e in enumerate(self.events)
        ]

    def _traced(self, parts, name):
        where = new_trace((1, self.d, 0), (self.n_params,))
        theta: Any = where.theta()
        t, y = where.slot(0, ()), where.slot(1)
        values = []
        for i, part, f, size in parts:
            if isinstance(f, Field):
                at = self.offsets[i, part]
                own = theta[at : at + f.n_params] if f.n_params else None
                values.append(f.bind(own)(t, y))
            else:
                values.append(trace(f, [t, y, *self._th(f, theta)], where, size))
        value: Any = np.concatenate([v.reshape(-1) for v in values])
        spec = (Parameter("theta", (self.n_params,), 0, ("value", [0.0] * self.n_params)),) if self.n_params else ()
        return Field(where.builder.finish([value.register]), spec, name)

    def _th(self, fn, theta):
        """The third argument of a traced function, if it takes one: the field's parameters."""
        try:
            inspect.signature(fn).bind(None, None)
            return []
        except TypeError:
            pass
        try:
            inspect.signature(fn).bind(None, None, None)
        except TypeError:
            raise TypeError(
                f"{fn.__name__}{inspect.signature(fn)}: an event and its reset are functions of (t, y) or (t, y, th)"
            ) from None
        spec, n = self.field.spec, self.field.n_params
        if not n:
            raise TypeError(f"{fn.__name__} takes th, but {self.field.name} has no parameters")
        if len(spec) == 1 and spec[0].name == "theta":
            return [theta[:n].reshape(spec[0].shape)]
        return [Parameters(parameters.nested(spec, lambda p: theta[p.offset : p.stop].reshape(p.shape)), theta[:n])]


def _pull(field, t, y, theta, seed):
    """(value, s f_y (n, d), s f_t (n,), s f_theta (n_params,) summed) of an event function or a reset."""
    values = {"t": t, "y": y, "u": None, "seed": seed}
    (value, gy, gt, _), grads = run(field.vjp_program, values, [theta])
    gy = np.zeros_like(y) if gy is None else gy
    gt = np.zeros(len(y)) if gt is None else gt[:, 0]
    return value, gy, gt, grads[0] if grads else np.zeros(field.n_params)


# ---------------------------------------------------------------------------------------------------------------------
# Results
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Events:
    """All events of a solve, ordered by sample, then in the order in which they happened.

    Attributes
    ----------
    sample, which : (n,) int arrays
        The sample, and the index of the event in the list that was given.
    t : (n,) array
    before, after : (n, d) arrays
        States on both sides of the reset.
    """

    sample: np.ndarray
    which: np.ndarray
    t: np.ndarray
    before: np.ndarray
    after: np.ndarray

    def __len__(self):
        return len(self.t)

    def of(self, sample=None, which=None):
        """Those of one sample, or one event, or both: an `Events`."""
        keep = np.ones(len(self), bool)
        keep &= True if sample is None else self.sample == sample
        keep &= True if which is None else self.which == which
        return Events(self.sample[keep], self.which[keep], self.t[keep], self.before[keep], self.after[keep])


class EventSolution(Solution):
    """A `Solution` with events.

    Attributes
    ----------
    y : as in `Solution`
        At a time at which an event happens: the state after it. After a terminal event: NaN, or held.
    events : Events
    terminated : bool or (B,) bool array
        Whether a terminal event ended the sample.
    """

    events: Events
    terminated: Any
    _rounds: list

    def __init__(self, solver, theta, raw, events, terminated, rounds):
        super().__init__(solver, theta, raw)
        self.__dict__.update(events=events, terminated=terminated, _rounds=rounds)

    def vjp(
        self, dy=None, wrt=("theta", "y0"), adjoint=None, memory=None, *, event_t=None, event_before=None, event_after=None
    ):
        """Gradients of a loss of y and of the events, through the event times.

        Parameters
        ----------
        dy : like y, optional
            dL/dy; entries after a terminal event that is not held must be 0 or NaN.
        wrt : tuple out of "theta", "y0", "t", "inputs"
        event_t : (n,) array, optional
            dL/d(times of the events), in the order of `events`.
        event_before, event_after : (n, d) arrays, optional

        Returns
        -------
        Gradients
        """
        if adjoint not in (None, "discrete"):
            raise ValueError(f"adjoint={adjoint!r}: a solve with events has the discrete adjoint only")
        if memory is not None:
            raise ValueError("memory= is not available for a solve with events: its stretches are short tapes already")
        return Backward(self, dy, _check_wrt(wrt, self.field), event_t, event_before, event_after).gradients()


# ---------------------------------------------------------------------------------------------------------------------
# Forward: rounds of stretches
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Stretch:
    """One round: what the samples `active` did from an initial time to an event or to their ends."""

    active: np.ndarray  # (n,) samples
    steps: tuple  # records (t, h, ...) of all accepted steps, offsets (n + 1)
    saves: list  # (n) rows of the result strictly between, or at the end if there is no event
    which: np.ndarray  # (n,) event or -1
    y: np.ndarray  # (n, d) initial states
    last: np.ndarray  # (n, d) states at the beginning of the step that ends on the event
    t_event: np.ndarray  # (n,) where it ended
    before: np.ndarray  # (n, d)
    after: np.ndarray
    at_event: list  # (n) rows of the result that show the state after the event

    @cached_property
    def grids(self):
        """(n) step ends, from the initial time to the event or the last time."""
        record, offset = self.steps
        return [
            np.append(record[a:b, 0], end) if b > a else np.array([end])
            for (a, b), end in zip(pairwise(offset), self.t_event, strict=True)
        ]


class Solver:
    """The batch, the hybrid system and the options, and problems for parts of it."""

    def __init__(self, system, batch, options, own_inputs=False):
        self.system, self.batch, self.options, self.field = system, batch, options, system.field
        self.dtype, self.backend = batch.y0.dtype, "callback" if system.field.callbacks else None
        self.single = batch.kind == "single"
        self.signal = as_signal(options.inputs, self.field.inputs)
        self.pieces = None
        if self.signal is not None:
            self.pieces = self.signal.pieces(len(batch.y0), self.dtype, batch.spans(), own=own_inputs)
        self.row_t = batch.row_times()
        first, last = batch.t[batch.start], batch.t[batch.start + batch.length - 1]
        self.way = np.where(last >= first, 1, -1)

    def problem(self, active, y0, times, grids=None, reverse=False, **extra):
        """A `_core.Problem` for samples `active` (they may repeat), with lists of times and perhaps of step ends."""
        keys = self.options.arguments(self.field.d)
        length = np.array([len(x) for x in times], dtype=np.int64)
        start = np.cumsum(length) - length
        keys |= {"t": np.concatenate(times), "t_start": start, "t_len": length, "row": start}
        if self.pieces is not None:
            keys |= self.pieces.arguments()
            for name in ("knot_start", "knot_len", "seg_start"):
                keys[name] = keys[name][active]
        if grids is not None:
            for name in ("step", "first_step", "max_step"):
                keys.pop(name, None)
            size = np.array([len(x) for x in grids], dtype=np.int64)
            keys |= {"adaptive": False, "max_steps": 2**62, "land": False}
            keys |= {"grid": np.concatenate(grids), "grid_start": np.cumsum(size) - size, "grid_len": size}
        program = self.field.vjp_program.core if reverse else None
        return _core.Problem(self.field.program.core, program, y0=y0.astype(self.dtype), **(keys | extra))

    def callback(self, theta):
        return self.field.bind_callbacks(self.theta_field(theta).astype(np.float64)) if self.field.callbacks else None

    def theta_field(self, theta):
        return np.ascontiguousarray(theta[: self.field.n_params])

    def slope(self, active, t, y, theta):
        """f(t, y) of some samples."""
        u = None
        if self.pieces is not None:
            u = np.concatenate([_signal_values(self.pieces, i, np.array([x])) for i, x in zip(active, t, strict=True)])
        return self.field(t, y, self.theta_field(theta), u)

    def sides(self, active, t, y, theta, residual=0.0):
        """On which side of every event function samples start: its sign; where it is 0 up to rounding, that of its rate."""
        n = len(self.system.events)
        side = np.zeros((len(active), n), np.int32)
        y, theta = y.astype(np.float64), theta.astype(np.float64)
        eps = 64 * np.finfo(self.dtype).eps
        for e in range(n):
            seed = np.zeros((len(active), n))
            seed[:, e] = 1.0
            value, gy, gt, _ = _pull(self.system.watch, t, y, theta, seed)
            g = value[:, e]
            noise = eps * ((np.abs(gy * y)).sum(axis=1) + np.abs(gt * t)) + 4 * np.abs(residual)
            near = np.flatnonzero(np.abs(g) <= noise)
            rate = np.array(g)
            if len(near):
                f = self.slope(active[near], t[near], y[near], theta)
                rate[near] = gt[near] + (gy[near] * f).sum(axis=1)
                rate[near] *= self.way[active[near]]
            side[:, e] = np.sign(np.nan_to_num(rate))  # NaN: not known, the core finds out
        return side

    # One round -------------------------------------------------------------------------------------------------------

    def run(self, active, t0, y0, side, saves, theta, dense, first):
        """(raw results, Stretch)."""
        batch, watch = self.batch, self.system.watch
        times = [
            self.row_t[rows] if first else np.concatenate([[start], self.row_t[rows]])
            for rows, start in zip(saves, t0, strict=True)
        ]
        problem = self.problem(active, y0, times, steps=True, dense=dense)
        raw = problem.run(
            self.theta_field(theta),
            callback=self.callback(theta),
            event=watch.program.core,
            event_theta=theta,
            event_direction=np.array([e.direction for e in self.system.events], np.int32),
            event_side=side,
        )
        which, stop = raw["event_which"], raw["stop_t"]
        before_event, at_event = list(saves), [np.zeros(0, np.int64)] * len(saves)
        for k in np.flatnonzero(which >= 0):
            t = self.row_t[saves[k]]
            gap = (t - stop[k]) * self.way[active[k]]
            same = np.abs(gap) <= SAME_TIME * np.maximum(np.abs(t), abs(stop[k]))
            same &= t != batch.t[batch.start[active[k]]]
            before_event[k], at_event[k] = saves[k][(gap < 0) & ~same], saves[k][same]
        at, last = raw["event_y"][:, 1], raw["event_y"][:, 0]
        return raw, Stretch(active, raw["steps"], before_event, which, y0, last, stop, at, at.copy(), at_event)

    def reset(self, stretch, theta):
        """States after the events of a round."""
        for e, field in enumerate(self.system.resets):
            here = stretch.which == e
            if field is None or not here.any():
                continue
            y = field(stretch.t_event[here], stretch.before[here].astype(np.float64), theta.astype(np.float64))
            stretch.after[here] = y.astype(self.dtype)

    def next_sides(self, raw, stretch, on, theta):
        """Sides after the events, for the samples (positions `on`) that go on."""
        side = raw["event_side"][on].copy()
        jumped = np.array([self.system.resets[e] is not None for e in stretch.which[on]])
        for k in (on[jumped],) if jumped.any() else ():
            t, y, theta64 = stretch.t_event[k], stretch.before[k].astype(np.float64), theta.astype(np.float64)
            value = self.system.watch(t, y, theta64)
            residual = value[np.arange(len(k)), stretch.which[k]]
            side[jumped] = self.sides(stretch.active[k], t, stretch.after[k], theta, residual)
        return side


def solve_events(f, y0, t, theta, options, dense, steps, dtype, errors, events, max_events):
    """What `pynode.solve` does where there are events."""
    system = f if isinstance(f, Hybrid) else Hybrid(as_field(f), events)
    batch = as_batch(y0, t, system.d, dtype)
    solver = Solver(system, batch, _checked(options, batch))
    theta = as_theta(system, theta, solver.dtype)
    solution = forward(solver, theta, bool(dense), bool(steps or dense), integer("max_events", max_events, 1))
    report(solution, errors)
    return solution


def _checked(options, batch):
    if options.coupling > 0:
        raise ValueError("events do not go with coupling= (the reversible scheme)")
    if options.grid is not None:
        raise ValueError("events do not go with grid=: the steps after an event are others")
    options.check_span(batch)
    return options


def forward(solver, theta, dense, steps, max_events):
    """An `EventSolution`."""
    batch, dtype = solver.batch, solver.dtype
    B, d = batch.y0.shape
    out: dict = {"y": np.full((batch.rows, d), np.nan, dtype), "stop_t": np.zeros(B)}
    out |= {"status": np.zeros(B, np.int32), "stop_component": np.full(B, -1, np.int32)}
    out |= {name: np.zeros(B, np.int64) for name in ("nfe", "accepted", "rejected")}
    terminated = np.zeros(B, bool)
    rounds: list = []
    records: list = [[] for _ in range(B)]
    active = np.arange(B)
    saves = [np.arange(a, a + n) for a, n in zip(batch.row, batch.length, strict=True)]
    t0, y = batch.t[batch.start].astype(np.float64) if B else np.zeros(0), batch.y0
    side = solver.sides(active, t0, y, theta)
    while len(active):
        raw, stretch = solver.run(active, t0, y, side, saves, theta, dense, first=not rounds)
        solver.reset(stretch, theta)
        over = (stretch.which >= 0) & (len(rounds) >= max_events)
        raw["status"][over] = STATUS.index("max_events")
        stretch.which[over] = -1
        for name in ("nfe", "accepted", "rejected"):
            out[name][active] += raw[name]
        for name in ("status", "stop_t", "stop_component"):
            out[name][active] = raw[name]
        _write_rows(solver, out["y"], raw, stretch, saves, over, first=not rounds)
        record, offset = raw["steps"]
        for k, (a, b) in enumerate(pairwise(offset)):
            records[active[k]].append(record[a:b])
        rounds.append(stretch)
        on, saves = _who_goes_on(solver, out["y"], stretch, saves, terminated)
        t0, y = stretch.t_event[on], stretch.after[on]
        side = solver.next_sides(raw, stretch, on, theta) if len(on) else side
        active = active[on]
    if steps:
        each = [np.concatenate(r) for r in records]
        count = np.cumsum([0, *(len(r) for r in each)]).astype(np.int64)
        out["steps"] = (np.concatenate(each) if each else np.zeros((0, 2)), count)
    out |= {"failed": int((out["status"] != OK).sum()), "isa": _core.isa()}
    return EventSolution(
        solver,
        theta,
        out,
        _collect(rounds, d, dtype),
        bool(terminated[0]) if solver.single else terminated,
        rounds,
    )


def _write_rows(solver, y, raw, stretch, saves, over, first):
    """The rows of the result that this round has computed."""
    at = 0
    for k, rows in enumerate(saves):
        n = len(rows) + (not first)
        if len(rows):
            y[rows] = raw["y"][at + n - len(rows) : at + n]
        if over[k]:
            y[stretch.at_event[k]] = np.nan
        at += n
    for at_event, after, e in zip(stretch.at_event, stretch.after, stretch.which, strict=True):
        if e >= 0:
            y[at_event] = after


def _who_goes_on(solver, y, stretch, saves, terminated):
    """Positions in the round of the samples that go on, and their later rows; holds rows after terminal events."""
    on, later = [], []
    for k in np.flatnonzero(stretch.which >= 0):
        e, rows = solver.system.events[stretch.which[k]], saves[k]
        rest = rows[len(stretch.saves[k]) + len(stretch.at_event[k]) :]
        if e.terminal:
            terminated[stretch.active[k]] = True
            if e.hold:
                y[rest] = stretch.after[k]
                stretch.at_event[k] = np.concatenate([stretch.at_event[k], rest])
        elif len(rest):
            on.append(k)
            later.append(rest)
    return np.array(on, np.int64), later


def _collect(rounds, d, dtype):
    parts = [(r.active[k], r.which[k], r.t_event[k], r.before[k], r.after[k]) for r in rounds for k in [r.which >= 0]]
    if not parts:
        parts = [
            (np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0), np.zeros((0, d), dtype), np.zeros((0, d), dtype))
        ]
    columns = [np.concatenate(c) for c in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return Events(*(c[order] for c in columns))


# ---------------------------------------------------------------------------------------------------------------------
# Backward
# ---------------------------------------------------------------------------------------------------------------------


class Backward:
    """The rounds of a solution, differentiated from the last to the first; see the head of this file."""

    def __init__(self, solution, dy, wanted, event_t, event_before, event_after):
        self.solution, self.wanted, self.rounds = solution, wanted, solution._rounds
        old = solution._setup
        self.solver = Solver(old.system, old.batch, old.options, own_inputs=True) if "inputs" in wanted else old
        self.system, self.batch = old.system, old.batch
        self.theta = solution.theta
        self.ok = solution._raw["status"] == OK
        self.dy = self._rows(dy)
        self.seeds = self._event_seeds(event_t, event_before, event_after)
        self.g_theta = np.zeros(self.system.n_params)
        self.g_rows_t = np.zeros(self.batch.rows)
        self.g_coef = None

    def _rows(self, dy):
        """dL/dy (rows, d), 0 where there is no state."""
        y = self.solution._raw["y"]
        if dy is None:
            return np.zeros(y.shape)
        dy = self.batch.flatten("dy", dy, np.float64)
        lost = np.isnan(y)
        if not np.isfinite(dy[~lost]).all():
            raise ValueError("dy must be finite; give 0 where the loss does not depend on an entry")
        if (np.nan_to_num(dy[lost]) != 0).any() and self.ok.all():
            raise ValueError("dy is not 0 after a terminal event, where y is NaN: hold=True makes results there")
        return np.where(lost, 0.0, dy)

    def _event_seeds(self, *given):
        """For each round the cotangents of its events' times, states before and states after, by position."""
        events, d = self.solution.events, self.system.d
        shapes, values = [(len(events),), (len(events), d), (len(events), d)], []
        for name, x, shape in zip(("event_t", "event_before", "event_after"), given, shapes, strict=True):
            x = np.zeros(shape) if x is None else np.asarray(x, dtype=np.float64)
            if x.shape != shape:
                raise ValueError(f"{name} has shape {x.shape}; this solution has {len(events)} events: give {shape}")
            if not np.isfinite(x).all():
                raise ValueError(f"{name} must be finite")
            values.append(x)
        sample = np.concatenate([np.zeros(0, np.int64), *(r.active[r.which >= 0] for r in self.rounds)])
        back = np.argsort(np.argsort(sample, kind="stable"), kind="stable")
        out, at = [], 0
        for r in self.rounds:
            n = int((r.which >= 0).sum())
            out.append([x[back[at : at + n]] for x in values])
            at += n
        return out

    def gradients(self):
        """`Gradients` of the whole."""
        B, d = self.batch.y0.shape
        lam, lam_t = np.zeros((B, d)), np.zeros(B)
        for number in range(len(self.rounds) - 1, -1, -1):
            self._round(number, lam, lam_t)
        self._times(lam_t)
        single, out = self.batch.kind == "single", {}
        if "theta" in self.wanted:
            out["theta"] = self.g_theta
        if "y0" in self.wanted:
            out["y0"] = lam[0] if single else lam
        if "t" in self.wanted:
            t = self.batch.unflatten(self.g_rows_t)
            out["t"] = t.sum(axis=0) if self.batch.kind == "shared" else t
        if "inputs" in self.wanted:
            out["inputs"] = _scaled(self.solver.signal.pull(self.g_coef), 1.0)
        return Gradients(**out)

    def _times(self, lam_t):
        if len(self.batch.row):
            self.g_rows_t[self.batch.row] += lam_t

    def _round(self, number, lam, lam_t):
        """Cotangents (lam, lam_t) of the later initial states and times -> those of this round."""
        r = self.rounds[number]
        ok = self.ok[r.active]
        seed = np.zeros((len(r.active), self.system.d))
        has = r.which >= 0
        if (has & ok).any():
            k = np.flatnonzero(has & ok)
            seed[k] = self._events(r, k, [x[ok[has]] for x in self.seeds[number]], lam, lam_t)
        k = np.flatnonzero(ok & np.array([len(g) > 1 for g in r.grids]))
        lam[r.active], lam_t[r.active] = 0.0, 0.0
        for i in np.flatnonzero(ok & np.array([len(g) == 1 for g in r.grids])):  # one time only
            lam[r.active[i]] += self.dy[r.saves[i]].sum(axis=0)
        if not len(k):
            return
        times, rows = self._stretch_rows(r, k, seed, first=number == 0)
        problem = self.solver.problem(r.active[k], r.y[k], times, [r.grids[i] for i in k], reverse=True)
        raw = problem.run(
            self.solver.theta_field(self.theta),
            callback=self.solver.callback(self.theta),
            g_y=rows.astype(self.solver.dtype),
            gradient="discrete",
            wrt_y0=True,
            wrt_t=True,
            wrt_inputs="inputs" in self.wanted,
        )
        self.g_theta[: self.system.field.n_params] += raw["g_theta"]
        lam[r.active[k]] = raw["g_y0"]
        at = 0
        for i, t in zip(k, times, strict=True):
            lam_t[r.active[i]] = raw["g_t"][at]
            inside = len(r.saves[i]) - (number == 0)
            self.g_rows_t[r.saves[i][len(r.saves[i]) - inside :]] += raw["g_t"][at + 1 : at + 1 + inside]
            at += len(t)
        if "inputs" in self.wanted:
            self.g_coef = raw["g_coef"] + (0.0 if self.g_coef is None else self.g_coef)

    def _stretch_rows(self, r, k, seed, first, last_step=False):
        """Times of the stretches (or of their last steps), and cotangents of their states."""
        times, rows, row_t = [], [], self.solver.row_t
        for i in k:
            saves, grid = r.saves[i], r.grids[i]
            start = grid[-2] if last_step else grid[0]
            if last_step:
                saves = saves[(row_t[saves] - start) * self.solver.way[r.active[i]] > 0]
            open_start = last_step or not first
            t, g = row_t[saves], self.dy[saves]
            if open_start:
                t, g = np.concatenate([[start], t]), np.concatenate([np.zeros((1, g.shape[1])), g])
            if r.which[i] >= 0:
                t, g = np.append(t, grid[-1]), np.concatenate([g, seed[i : i + 1]])
            times.append(t)
            rows.append(g)
        return times, np.concatenate(rows)

    def _events(self, r, k, seeds, lam, lam_t):
        """Through the events at positions k of a round: cotangents of the states before them, their times eliminated."""
        t, y, sample = r.t_event[k], r.before[k].astype(np.float64), r.active[k]
        theta = self.theta.astype(np.float64)
        g_t, g_before, g_after = seeds
        a = lam[sample] + g_after + np.array([self.dy[r.at_event[i]].sum(axis=0) for i in k])
        b, tau = np.array(g_before), lam_t[sample] + g_t
        for e, reset in enumerate(self.system.resets):
            here = r.which[k] == e
            if not here.any():
                continue
            if reset is None:
                b[here] += a[here]
                continue
            _, gy, gt, gtheta = _pull(reset, t[here], y[here], theta, a[here])
            b[here] += gy
            tau[here] += gt
            self.g_theta += gtheta
        one = np.zeros((len(k), len(self.system.events)))
        one[np.arange(len(k)), r.which[k]] = 1.0
        _, gy, gt, _ = _pull(self.system.watch, t, y, theta, one)
        mu, rate = self._last_steps(r, k, b, gy)
        mu, rate = mu + tau, rate + gt
        if (bad := (rate == 0) & (mu != 0)).any():
            i = k[np.flatnonzero(bad)[0]]
            raise ValueError(
                f"event {r.which[i]} of sample {r.active[i]} at t = {r.t_event[i]:g} is met at rate 0 "
                "(it grazes, or jumps): its time has no derivative"
            )
        s = np.where(mu == 0, 0.0, -mu / np.where(rate == 0, 1.0, rate))
        self.g_theta += _pull(self.system.watch, t, y, theta, one * s[:, None])[3]
        return b + s[:, None] * gy

    def _last_steps(self, r, k, b, gy):
        """Of the steps that end on events: derivative of the loss (cotangent b at the end, and saved rows inside) and of g
        with respect to their lengths."""
        seed = np.zeros((len(r.active), self.system.d))
        seed[k] = b
        times, loss_rows = self._stretch_rows(r, k, seed, first=False, last_step=True)
        ends = np.cumsum([len(t) for t in times]) - 1
        g_rows = np.zeros_like(loss_rows)
        g_rows[ends] = gy
        grids = [r.grids[i][-2:] for i in k]
        active, y0 = np.tile(r.active[k], 2), np.concatenate([r.last[k], r.last[k]])
        problem = self.solver.problem(active, y0, times + times, grids + grids, reverse=True)
        raw = problem.run(
            self.solver.theta_field(self.theta),
            callback=self.solver.callback(self.theta),
            g_y=np.concatenate([loss_rows, g_rows]).astype(self.solver.dtype),
            gradient="discrete",
            wrt_t=True,
        )
        g_t = raw["g_t"]
        return g_t[ends], g_t[len(loss_rows) + ends]


# ---------------------------------------------------------------------------------------------------------------------
# A loss on data
# ---------------------------------------------------------------------------------------------------------------------


class EventObjective:
    """`Objective` for a field with events: a loss on data as a function of theta, for training loops.

    Parameters
    ----------
    f, y0, t, target, loss, weight, loss_scale, loss_dof, wrt, dtype, **options : see `loss_and_grad`
        Rows after a terminal event that is not held count as not observed.
    events : Event or list of Event
    max_events : int
    """

    def __init__(
        self,
        f,
        y0,
        t,
        target,
        *,
        events=None,
        max_events=MAX_EVENTS,
        loss="mse",
        weight=None,
        loss_scale=1.0,
        loss_dof=4.0,
        wrt=("theta",),
        dtype=None,
        **options,
    ):
        self.system = f if isinstance(f, Hybrid) else Hybrid(as_field(f), events)
        self.wrt, self.max_events = _check_wrt(wrt, self.system.field), integer("max_events", max_events, 1)
        plain = Objective(  # checks, and has the loss
            self.system.field,
            y0,
            t,
            target,
            loss=loss,
            weight=weight,
            loss_scale=loss_scale,
            loss_dof=loss_dof,
            wrt=wrt,
            dtype=dtype,
            **options,
        )
        self.plain, self.batch = plain, plain.setup.batch
        self.solver = Solver(self.system, self.batch, _checked(plain.setup.options, self.batch))

    field = property(lambda self: self.system.field)
    n_observed = property(lambda self: self.plain.n_observed)

    def __call__(self, theta):
        """(loss, gradient with respect to theta)."""
        value = self.evaluate(theta)
        return value.loss, value.theta

    def evaluate(self, theta, errors="warn"):
        """A `LossAndGrad`."""
        check_errors(errors)
        plain, batch = self.plain, self.batch
        theta = as_theta(self.system, theta, self.solver.dtype)
        solution = forward(self.solver, theta, False, False, self.max_events)
        report(solution, errors)
        y = solution._raw["y"].astype(np.float64)
        failed = np.repeat(solution._raw["status"] != OK, batch.length)
        seen = ~np.isnan(plain.target) & ~np.isnan(y) & ~failed[:, None]
        weight = np.where(seen, 1.0 if plain.weight is None else plain.weight, 0.0)
        residual = np.where(seen, y - plain.target, 0.0)
        each = (weight * rho(plain.loss, residual, plain.scale, plain.dof)).sum(axis=1)
        sample_loss = np.add.reduceat(each, batch.row) if len(batch.row) else np.zeros(0)
        total = float(weight.sum())
        scale = (1.0 / total if plain.mean else 1.0) if total else 0.0
        seed = batch.unflatten(weight * slope(plain.loss, residual, plain.scale, plain.dof) * scale)
        g = Backward(solution, seed, self.wrt, None, None, None).gradients()
        value = float(sample_loss.sum()) * scale if total else float("nan")
        solution._raw["sample_loss"] = sample_loss
        result = LossAndGrad(value, {name: getattr(g, name) for name in ("theta", "y0", "t", "inputs")})
        result.__dict__["solution"] = solution
        return result


__all__ = ["Event", "EventObjective", "EventSolution", "Events", "Hybrid", "event"]
