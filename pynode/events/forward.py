"""Solving: rounds of stretches, each to the next event of its sample."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from pynode import _core
from pynode.adjoints import _signal_values
from pynode.arguments import as_batch, as_field, as_theta, integer
from pynode.errors import OK, STATUS
from pynode.events.declare import Hybrid, _pull
from pynode.events.solution import Events, EventSolution
from pynode.inputs import as_signal
from pynode.solving import report

MAX_EVENTS = 1000
SAME_TIME = 8.9e-16
"""Relative; the core's notion of the same time."""


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
        self.single, self.shape = batch.kind == "single", batch.shape
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
