"""Solving: rounds of stretches, each to the next event or jump of its sample."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode import _core
from pynode.engine.solution import COUNTS
from pynode.errors import OK, STATUS
from pynode.events.rounds import Solver, Stretch
from pynode.events.solution import Events, EventSolution

MAX_EVENTS = 1000

ONE_THETA = "a solve with events takes one theta for all samples"
"""For errors."""


def solve_with_events(
    solver: Solver, theta: NDArray[Any], dense: bool = False, steps: bool = False, max_events: int = MAX_EVENTS
) -> EventSolution:
    """Solve in rounds: each takes every sample to its next event, its next jump, or its end."""
    batch, dtype = solver.batch, solver.dtype
    B, d = batch.y0.shape
    out: dict[str, Any] = {"y": np.full((batch.rows, d), np.nan, dtype), "stop_t": np.zeros(B)}
    out |= {"status": np.zeros(B, np.int32), "stop_component": np.full(B, -1, np.int32)}
    out |= {name: np.zeros(B, np.int64) for name in COUNTS}
    y_before = np.full_like(out["y"], np.nan) if solver.system.jump is not None else None
    terminated = np.zeros(B, bool)
    n_events = np.zeros(B, np.int64)
    happened = np.zeros((B, len(solver.system.events)), bool)  # at the present time of the sample
    rounds: list[Stretch] = []
    records: list[list[NDArray[np.float64]]] = [[] for _ in range(B)]
    active = np.arange(B)
    cuts = [solver.until_jump(np.arange(part.start, part.stop)) for part in batch.slices()]
    t0, y = batch.t[batch.start].astype(np.float64) if B else np.zeros(0), batch.y0
    side = solver.sides(active, t0, y, theta)
    while len(active):
        saves, later = [cut[0] for cut in cuts], [cut[1] for cut in cuts]
        raw, stretch = solver.run(active, t0, y, side, saves, theta, dense, first=not rounds)
        happened[active[~solver.same_time(stretch.t_event, t0)]] = False
        solver.move(raw, stretch, theta, happened[active])
        happened[active[stretch.which >= 0], stretch.which[stretch.which >= 0]] = True
        over = (stretch.which >= 0) & (n_events[active] >= max_events)
        raw["status"][over] = STATUS.index("max_events")
        stretch.which[over] = -1
        n_events[active] += stretch.which >= 0
        for name in COUNTS:
            out[name][active] += raw[name]
        for name in ("status", "stop_t", "stop_component"):
            out[name][active] = raw[name]
        _write_rows(out["y"], y_before, raw, stretch, saves, over, first=not rounds)
        record, offset = raw["steps"]
        for k, (a, b) in enumerate(pairwise(offset) if steps else ()):
            records[active[k]].append(record[a:b])
        rounds.append(stretch)
        on, rest = _who_goes_on(solver, out["y"], stretch, saves, later, terminated)
        if len(rounds) > 1:
            _share_rows(solver, out["y"], rounds[-2], stretch)
        cuts = [solver.until_jump(rows) for rows in rest]
        t0, y = stretch.t_event[on], stretch.after[on]
        for k, (now, _) in enumerate(cuts):  # a jump at the time of an event, up to rounding
            if len(now) == 1 and solver.same_time(solver.row_t[now[0]], t0[k]):
                t0[k] = solver.row_t[now[0]]
        side = solver.next_sides(raw, stretch, on, theta, happened[active[on]]) if len(on) else side
        active = active[on]
    if steps:
        each = [np.concatenate(r) for r in records]
        count = np.cumsum([0, *(len(r) for r in each)]).astype(np.int64)
        out["steps"] = (np.concatenate(each) if each else np.zeros((0, 2)), count)
    if y_before is not None:
        out["y_before"] = np.where(np.isnan(y_before), out["y"], y_before)
    out |= {"failed": int((out["status"] != OK).sum()), "isa": _core.isa()}
    events = _collect(rounds, d, dtype)
    return EventSolution(solver, theta, out, events, bool(terminated[0]) if solver.single else terminated, rounds)


def _write_rows(
    y: NDArray[Any], y_before: Any, raw: Any, stretch: Stretch, saves: list[Any], over: NDArray[np.bool_], first: bool
) -> None:
    """The rows of the result that this round has computed."""
    rows = np.concatenate(saves)
    if len(rows):
        computed = np.ones(len(raw["y"]), bool)
        if not first:  # a stretch begins with the state of the event before
            size = np.array([len(part) for part in saves]) + 1
            computed[np.cumsum(size) - size] = False
        y[rows] = raw["y"][computed]
    for k in np.flatnonzero(over):
        y[stretch.at_event[k]] = np.nan
    for k in np.flatnonzero(stretch.which >= 0):
        if len(stretch.at_event[k]):
            y[stretch.at_event[k]] = stretch.after[k]
    for k in np.flatnonzero((stretch.which < 0) & (stretch.jump >= 0)):
        y_before[stretch.jump[k]], y[stretch.jump[k]] = stretch.before[k], stretch.after[k]


def _who_goes_on(
    solver: Solver, y: NDArray[Any], stretch: Stretch, saves: list[Any], later: list[Any], terminated: NDArray[np.bool_]
) -> Any:
    """Positions in the round of the samples that go on, and their later rows; holds rows after terminal events."""
    on, rests = [], []
    which = stretch.which.tolist()
    for k in np.flatnonzero((stretch.which >= 0) | (stretch.jump >= 0)).tolist():
        rows, rest = saves[k], later[k]
        if which[k] >= 0:
            e = solver.system.events[which[k]]
            n = len(stretch.saves[k]) + len(stretch.at_event[k])
            if not e.terminal and len(stretch.at_event[k]) and solver.jumps[stretch.at_event[k][-1]]:
                n -= 1  # that row jumps, too, from the state after the event
                stretch.at_event[k] = stretch.at_event[k][:-1]
            rest = np.concatenate([rows[n:], rest]) if len(rest) else rows[n:]
            if e.terminal:
                terminated[stretch.active[k]] = True
                # later times go away from the event: where the first of them is another one, so are all
                if not len(rest) or not (e.hold or solver.same_time(solver.row_t[rest[0]], stretch.t_event[k])):
                    continue
                shown = rest if e.hold else rest[solver.same_time(solver.row_t[rest], stretch.t_event[k])]
                y[shown] = stretch.after[k]
                stretch.at_event[k] = np.concatenate([stretch.at_event[k], shown])
                continue
        if len(rest):
            on.append(k)
            rests.append(rest)
    return np.array(on, np.int64), rests


def _share_rows(solver: Solver, y: NDArray[Any], last: Stretch, stretch: Stretch) -> None:
    """Rows at the time of several events show the state after the last of them."""
    ends = np.searchsorted(last.active, stretch.active)
    tied = (stretch.which >= 0) & (last.which[ends] >= 0) & solver.same_time(last.t_event[ends], stretch.t_event)
    for k in np.flatnonzero(tied):
        rows = last.at_event[ends[k]]
        y[rows] = stretch.after[k]
        stretch.at_event[k], last.at_event[ends[k]] = np.concatenate([rows, stretch.at_event[k]]), rows[:0]


def _collect(rounds: list[Stretch], d: int, dtype: Any) -> Events:
    parts = [(r.active[k], r.which[k], r.t_event[k], r.before[k], r.after[k]) for r in rounds for k in [r.which >= 0]]
    if not parts:
        parts = [
            (np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0), np.zeros((0, d), dtype), np.zeros((0, d), dtype))
        ]
    columns = [np.concatenate(c) for c in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return Events(*(c[order] for c in columns))
