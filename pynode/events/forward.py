"""Solving: rounds of stretches, each to the next event or jump of its sample."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.batch import Ranges
from pynode.engine.solution import COUNTS
from pynode.errors import OK, STATUS
from pynode.events.rounds import Solver, Stretch
from pynode.events.solution import Events, EventSolution

MAX_EVENTS = 1000

ONE_THETA = "a solve with events takes one theta for all samples"
"""For errors."""


def solve_with_events(
    solver: Solver, theta: NDArray[Any], steps: bool = False, max_events: int = MAX_EVENTS
) -> EventSolution:
    """Solve in rounds: each takes every sample to its next event, its next jump, or its end."""
    batch = solver.batch
    B = len(batch.y0)
    out: dict[str, Any] = {}
    terminated = np.zeros(B, bool)
    n_events = np.zeros(B, np.int64)
    happened = np.zeros((B, len(solver.system.events)), bool)  # at the present time of the sample
    rounds: list[Stretch] = []
    records: list[list[NDArray[np.float64]]] = [[] for _ in range(B if steps else 0)]
    active = np.arange(B)
    saves = solver.until_jump(Ranges(batch.row, batch.length))
    t0, y = solver.t0, batch.y0
    side = solver.sides(active, t0, y, theta)
    while True:
        raw, stretch, places = solver.run(active, t0, y, side, saves, theta, first=not rounds)
        if rounds:
            happened[active[~solver.same_time(stretch.t_event, t0)]] = False
        solver.move(raw, stretch, theta, happened[active])
        hit = stretch.which >= 0
        happened[active[hit], stretch.which[hit]] = True
        over = hit & (n_events[active] >= max_events)
        raw["status"][over] = STATUS.index("max_events")
        stretch.which[over] = -1
        n_events[active] += stretch.which >= 0
        _report(solver, out, raw, active)
        _write_rows(out, raw, stretch, saves, places, over)
        record, offset = raw["steps"]
        for k, (a, b) in enumerate(pairwise(offset) if steps else ()):
            records[active[k]].append(record[a:b])
        rounds.append(stretch)
        on, rest = _who_goes_on(solver, out["y"], stretch, saves, terminated)
        if len(rounds) > 1:
            _share_rows(solver, out["y"], rounds[-2], stretch)
        if not len(on):
            break
        saves = solver.until_jump(rest)
        t0, y = stretch.t_event[on], stretch.after[on]
        k = (saves.size == 1).nonzero()[0]  # a jump at the time of an event, up to rounding
        row_t = solver.row_t[saves.start[k]]
        t0[k] = np.where(solver.same_time(row_t, t0[k]), row_t, t0[k])
        side = solver.next_sides(raw, stretch, on, theta, happened[active[on]])
        active = active[on]
    if steps:
        each = [np.concatenate(r) for r in records]
        count = np.cumsum([0, *(len(r) for r in each)]).astype(np.int64)
        out["steps"] = (np.concatenate(each) if each else np.zeros((0, 2)), count)
    if "y_before" in out:
        out["y_before"] = np.where(np.isnan(out["y_before"]), out["y"], out["y_before"])
    out |= {"failed": int(np.count_nonzero(out["status"] != OK)), "isa": raw["isa"]}
    return EventSolution(solver, theta, out, _collect(rounds), bool(terminated[0]) if solver.single else terminated, rounds)


def _report(solver: Solver, out: dict[str, Any], raw: Any, active: NDArray[Any]) -> None:
    """What is said of each sample: the first round is one of all."""
    if not out:
        out |= {name: raw[name] for name in ("status", "stop_component", *COUNTS)} | {"stop_t": raw["stop_t"].copy()}
        out["y"] = np.full((solver.batch.rows, solver.system.d), np.nan, solver.dtype) if solver.jumping else raw["y"]
        if solver.system.jump is not None:
            out["y_before"] = np.full_like(out["y"], np.nan)
        return
    for name in COUNTS:
        out[name][active] += raw[name]
    for name in ("status", "stop_t", "stop_component"):
        out[name][active] = raw[name]


def _write_rows(
    out: dict[str, Any], raw: Any, stretch: Stretch, saves: Ranges, places: Ranges, over: NDArray[np.bool_]
) -> None:
    """The rows of the result that this round has computed."""
    y = out["y"]
    if y is not raw["y"]:
        y[saves.flat()] = raw["y"][places.flat()]
    if np.count_nonzero(over):
        y[stretch.at_event.of(over).flat()] = np.nan
    k = ((stretch.which >= 0) & (stretch.at_event.size > 0)).nonzero()[0]
    if len(k):
        shown = stretch.at_event.of(k)
        y[shown.flat()] = stretch.after[k].repeat(shown.size, axis=0)
    k = (stretch.jump >= 0).nonzero()[0]
    if len(k):
        rows = stretch.jump[k]
        out["y_before"][rows], y[rows] = stretch.before[k], stretch.after[k]


def _who_goes_on(
    solver: Solver, y: NDArray[Any], stretch: Stretch, saves: Ranges, terminated: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], Ranges]:
    """Positions in the round of the samples that go on, and their later rows; holds rows after terminal events."""
    which, shown = stretch.which, stretch.at_event
    hit = which >= 0
    ends = hit & solver.terminal[which]
    if solver.jumping:
        twice = hit & ~ends & (shown.size > 0)
        twice[twice] = solver.jumps[shown.stop[twice] - 1]  # these rows jump, too, from the state after the event
        stretch.at_event = shown = Ranges(shown.start, shown.size - twice)
    first = saves.start + np.where(hit, stretch.saves.size + shown.size, saves.size)
    last = solver.batch.row + solver.batch.length
    rest = Ranges(first, last[stretch.active] - first)
    on = ((hit | (stretch.jump >= 0)) & ~ends & (rest.size > 0)).nonzero()[0]
    if np.count_nonzero(ends):
        terminated[stretch.active[ends]] = True
        _hold(solver, y, stretch, (ends & (rest.size > 0)).nonzero()[0], rest)
    return on, rest.of(on)


def _hold(solver: Solver, y: NDArray[Any], stretch: Stretch, k: NDArray[np.intp], rest: Ranges) -> None:
    """Rows after the terminal events at positions k: those that are held, and those at the same time."""
    size = np.where(solver.hold[stretch.which[k]], rest.size[k], 0)
    # later times go away from the event: where the first of them is another one, so are all
    tied = (size == 0) & solver.same_time(solver.row_t[rest.start[k]], stretch.t_event[k])
    for i in tied.nonzero()[0]:
        size[i] = solver.same_time(solver.row_t[rest[k[i]]], stretch.t_event[k[i]]).sum()
    k, size = k[size > 0], size[size > 0]
    if not len(k):
        return
    more = Ranges(rest.start[k], size)
    y[more.flat()] = stretch.after[k].repeat(size, axis=0)
    shown = stretch.at_event
    shown.start[k] = np.where(shown.size[k] > 0, shown.start[k], more.start)
    shown.size[k] += size


def _share_rows(solver: Solver, y: NDArray[Any], last: Stretch, stretch: Stretch) -> None:
    """Rows at the time of several events show the state after the last of them."""
    ends = np.searchsorted(last.active, stretch.active)
    tied = (stretch.which >= 0) & (last.which[ends] >= 0) & solver.same_time(last.t_event[ends], stretch.t_event)
    tied &= last.at_event.size[ends] > 0
    k = tied.nonzero()[0]
    if not len(k):
        return
    rows = last.at_event.of(ends[k])
    y[rows.flat()] = stretch.after[k].repeat(rows.size, axis=0)
    stretch.at_event.start[k] = rows.start
    stretch.at_event.size[k] += rows.size
    last.at_event.size[ends[k]] = 0


def _collect(rounds: list[Stretch]) -> Events:
    hits = [(r, (r.which >= 0).nonzero()[0]) for r in rounds]
    parts = [(r.active[k], r.which[k], r.t_event[k], r.before[k], r.after[k]) for r, k in hits]
    if len(parts) == 1:
        return Events(*parts[0])
    columns = [np.concatenate(c) for c in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return Events(*(c[order] for c in columns))
