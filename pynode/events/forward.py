"""Solving: rounds of stretches, each to the next event of its sample."""

from itertools import pairwise

import numpy as np

from pynode import _core
from pynode.data.arrays import as_integer
from pynode.data.batch import as_batch
from pynode.engine.solution import warn_or_raise
from pynode.errors import OK, STATUS
from pynode.events.rounds import Solver
from pynode.events.solution import Events, EventSolution
from pynode.fields.arguments import as_field, as_theta
from pynode.fields.event import Hybrid

MAX_EVENTS = 1000


def solve_events(f, y0, t, theta, options, dense, steps, dtype, errors, events, max_events):
    """What `pynode.solve` does where there are events."""
    system = f if isinstance(f, Hybrid) else Hybrid(as_field(f), events)
    batch = as_batch(y0, t, system.d, dtype)
    solver = Solver(system, batch, checked_options(options, batch))
    theta = as_theta(system, theta, solver.dtype)
    solution = forward(solver, theta, bool(dense), bool(steps or dense), as_integer("max_events", max_events, 1))
    warn_or_raise(solution, errors)
    return solution


def checked_options(options, batch):
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
