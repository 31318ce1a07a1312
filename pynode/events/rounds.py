"""Rounds: every sample solved to its next event or its end, all of them at once; `Solver`."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.batch import SaveTimes, starts
from pynode.data.signal import as_signal
from pynode.engine.accuracy import Accuracy
from pynode.engine.options import one_method
from pynode.engine.problem import (
    before_switches,
    core_parts,
    core_problem,
    difference_scales,
    hoisted_programs,
    implicit_programs,
    jacobian_origin,
    jumping_rows,
    own_data,
)
from pynode.engine.saltation import rate_of_change
from pynode.errors import OK
from pynode.fields.event import pull_back

if TYPE_CHECKING:
    from pynode import _core
    from pynode.data.batch import Batch
    from pynode.engine.options import Options
    from pynode.fields.field import Field
    from pynode.fields.system import System


SAME_TIME = 8.9e-16
"""Relative; the core's notion of the same time."""


@dataclass
class Stretch:
    """One round: what the samples `active` did from an initial time to an event or to their ends."""

    active: np.ndarray  # (n,) samples
    steps: tuple[NDArray[np.float64], NDArray[np.int64]]  # records (t, h, ...) of all accepted steps, offsets (n + 1)
    saves: list[NDArray[np.int64]]  # (n) rows of the result strictly between, or at the end if there is no event
    which: np.ndarray  # (n,) event or -1
    y: np.ndarray  # (n, d) initial states
    last: np.ndarray  # (n, d) states at the beginning of the step that ends on the event
    t_event: np.ndarray  # (n,) where it ended
    before: np.ndarray  # (n, d)
    after: np.ndarray
    at_event: list[NDArray[np.int64]]  # (n) rows of the result that show the state after the event
    jump: np.ndarray  # (n,) row of the result whose jump ends the stretch, or -1; then `before` and `after` are its states
    at_jump: np.ndarray  # (n,) whether the event fell on the time of a jump, where the core's solve ended

    @cached_property
    def grids(self) -> list[NDArray[np.float64]]:
        """(n) step ends, from the initial time to the event, the jump or the last time; no step without length."""
        record, offset = self.steps
        grids = []
        for (a, b), end in zip(pairwise(offset), self.t_event, strict=True):
            starts_of_steps = record[a:b, 0]
            longer = starts_of_steps[starts_of_steps != end]
            grids.append(np.append(longer, end))
        return grids

    @cached_property
    def has_last_step(self) -> NDArray[np.bool_]:
        """(n,) whether a step of known beginning and length ends on the event: it may fall on the end of the one before."""
        record, offset = self.steps
        last = [record[b - 1, 0] if b > a else end for (a, b), end in zip(pairwise(offset), self.t_event, strict=True)]
        found: NDArray[np.bool_] = (np.array(last) != self.t_event) & ~self.at_jump
        return found


def without_grid(options: Options) -> Options:
    """Options for parts of a solve whose steps are given one by one."""
    return options if options.grid is None else replace(options, grid=None, step=1.0, max_steps=2**62)


class Solver:
    """The batch, the system and the options, and problems for parts of it."""

    def __init__(self, system: System, batch: Batch, options: Any, own_inputs: bool = False, data: Any = None) -> None:
        if options.coupling > 0:
            raise ValueError(f"coupling={options.coupling:g}: events do not go with the reversible scheme, take coupling=0")
        if options.grid is not None:
            raise ValueError("grid=: events do not go with prescribed steps, those after an event are others; take step=")
        options.check_span(batch)
        self.system, self.batch, self.options, self.field = system, batch, options, system.field
        keys = core_parts(system, batch, data, False)
        self.data, self.jump_data, jumps = own_data(batch, keys), keys.get("jump_data"), jumping_rows(batch, keys)
        self.jumps = np.zeros(batch.rows, bool) if jumps is None else jumps
        self.jumping = bool(self.jumps.any())
        self.dtype, self.backend = batch.y0.dtype, "callback" if system.field.callbacks else None
        self.single, self.shape = batch.kind == "single", batch.shape
        self.accuracy = Accuracy(options.arguments(system.d), batch)
        self.signal = as_signal(options.inputs, self.field.inputs)
        self.pieces = None
        if self.signal is not None:
            rtol = 0.0 if options.step is not None else options.rtol
            self.pieces = self.signal.pieces(len(batch.y0), self.dtype, batch.spans(), own=own_inputs, rtol=rtol)
        self.row_t = batch.row_times()
        first, last = batch.t[batch.start], batch.t[batch.start + batch.length - 1]
        self.way = np.where(last >= first, 1, -1)

    def starting_from(self, y0: NDArray[Any]) -> Solver:
        """The same for other initial states (B, d)."""
        other = copy.copy(self)
        other.batch = replace(self.batch, y0=y0)
        return other

    def replaying(self, results: Any) -> Solver:
        """The same, for the steps of these results."""
        other = copy.copy(self)
        other.options = one_method(self.options, results["stiff_steps"], "derivatives through events and jumps go")
        return other

    def problem(
        self, active: NDArray[Any], y0: Any, times: list[Any], grids: Any = None, reverse: bool = False, **extra: Any
    ) -> _core.Problem:
        """A `_core.Problem` for the samples `active`, which may repeat, with their times and, if given, their step ends."""
        keys = self.options.arguments(self.field.d)
        if self.pieces is not None:
            keys |= self.pieces.arguments()
            for name in ("knot_start", "knot_len", "seg_start", "cross_knots"):
                keys[name] = keys[name][active]
        if grids is not None:
            for name in ("step", "first_step", "max_step"):
                keys.pop(name, None)
            size = np.array([len(x) for x in grids], dtype=np.int64)
            keys |= {"adaptive": False, "max_steps": 2**62, "land": False}
            keys |= {"grid": np.concatenate(grids), "grid_start": starts(size), "grid_len": size}
        keys |= implicit_programs(self.field, self.options, self.signal, reverse) | hoisted_programs(self.field, reverse)
        program = self.field.vjp_program if reverse else None
        return core_problem(self.field.program, program, y0.astype(self.dtype), SaveTimes.of(times), keys, **extra)

    def callback(self, theta: NDArray[Any]) -> Any:
        """What CALL instructions run with these parameters; None for a program."""
        if not self.field.callbacks:
            return None
        scales = difference_scales(self.options, self.batch, self.field.d)
        return self.field.bind_callbacks(self.theta_field(theta).astype(np.float64), scales)

    @property
    def jacobian(self) -> str:
        """Where the Jacobian comes from, see `Stats`."""
        return jacobian_origin(self.field, self.options)

    def theta_field(self, theta: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(theta[: self.field.n_params])

    def slope(self, active: NDArray[Any], t: Any, y: NDArray[Any], theta: NDArray[Any]) -> NDArray[np.float64]:
        """dy/dt of some samples: f(t, y), or what M dy/dt = f makes it."""
        u = None
        if self.pieces is not None:
            u = np.concatenate([self.pieces.values(i, np.array([x])) for i, x in zip(active, t, strict=True)])
        value: NDArray[np.float64] = self.field(t, y, self.theta_field(theta), u)
        if self.options.mass is None:
            return value
        du = None
        if self.pieces is not None:
            du = np.concatenate([self.pieces.rates(i, np.array([x])) for i, x in zip(active, t, strict=True)])
        return rate_of_change(
            self.field, self.options.mass_matrix(self.field.d), t, y, self.theta_field(theta), value, u, du
        )

    def side_before(self, active: NDArray[Any], t: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """For times of some samples what `before_switches` gives."""
        return before_switches(self.field, self.pieces, active, t, self.way[active], self.dtype)

    def sides(
        self, active: NDArray[Any], t: Any, y: NDArray[Any], theta: NDArray[Any], residual: Any = 0.0
    ) -> NDArray[np.int32]:
        """On which side of every event function samples start: its sign; where it is 0 up to rounding, that of its rate."""
        return self._look(active, t, y, theta, residual)[0]

    def _look(
        self, active: NDArray[Any], t: Any, y: NDArray[Any], theta: NDArray[Any], residual: Any = 0.0
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """(n, events): the sides, and whether the event functions are 0 up to rounding."""
        n = len(self.system.events)
        side, zero = np.zeros((len(active), n), np.int32), np.zeros((len(active), n), bool)
        y, theta = y.astype(np.float64), theta.astype(np.float64)
        eps = 64 * np.finfo(self.dtype).eps
        for e in range(n):
            seed = np.zeros((len(active), n))
            seed[:, e] = 1.0
            value, gy, gt, *_ = pull_back(self.system.watch, t, y, theta, seed)
            g = value[:, e]
            noise = eps * ((np.abs(gy * y)).sum(axis=1) + np.abs(gt * t)) + 4 * np.abs(residual)
            zero[:, e] = np.abs(g) <= noise
            near = np.flatnonzero(zero[:, e])
            rate = np.array(g)
            if len(near):
                f = self.slope(active[near], t[near], y[near], theta)
                rate[near] = gt[near] + (gy[near] * f).sum(axis=1)
                rate[near] *= self.way[active[near]]
            side[:, e] = np.sign(np.nan_to_num(rate))  # NaN: not known, the core finds out
        return side, zero

    # One round -------------------------------------------------------------------------------------------------------

    def run(
        self,
        active: NDArray[Any],
        t0: NDArray[Any],
        y0: Any,
        side: NDArray[Any],
        saves: list[Any],
        theta: NDArray[Any],
        dense: bool,
        first: bool,
    ) -> Any:
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
        found = np.flatnonzero(which >= 0)
        if len(found):
            rows = np.concatenate([saves[k] for k in found])
            size = np.array([len(saves[k]) for k in found])
            ends = np.cumsum(size)
            k_of = np.repeat(found, size)
            t = self.row_t[rows]
            same = self.same_time(t, stop[k_of]) & (t != batch.t[batch.start[active[k_of]]])
            earlier = ((t - stop[k_of]) * self.way[active[k_of]] < 0) & ~same
            for i, end, n in zip(found.tolist(), ends.tolist(), size.tolist(), strict=True):
                own = slice(end - n, end)
                before_event[i], at_event[i] = rows[own][earlier[own]], rows[own][same[own]]
        at, last = raw["event_y"][:, 1], raw["event_y"][:, 0]
        jump = np.full(len(active), -1, np.int64)
        end = 0
        for i, rows in enumerate(saves):
            end += len(times[i])
            if len(rows) and which[i] < 0 and raw["status"][i] == OK and self.jumps[rows[-1]]:
                jump[i], at[i] = rows[-1], raw["y"][end - 1]
        at_jump = self._events_at_jumps(raw, active, jump, at, theta)
        for k in np.flatnonzero(at_jump):
            before_event[k], at_event[k], jump[k] = saves[k][:-1], saves[k][-1:], -1
        return raw, Stretch(
            active, raw["steps"], before_event, which, y0, last, stop, at, at.copy(), at_event, jump, at_jump
        )

    def _events_at_jumps(
        self, raw: Any, active: NDArray[Any], jump: NDArray[Any], y: NDArray[Any], theta: NDArray[Any]
    ) -> NDArray[np.bool_]:
        """(n,) which of the stretches that end at a jump end on an event, too: that comes first. Sets which it is.

        There the event function is 0 up to rounding, and on its way to the other side.
        """
        found = np.zeros(len(active), bool)
        k = np.flatnonzero(jump >= 0)
        if not len(k):
            return found
        coming = self.sides(active[k], self.row_t[jump[k]], y[k], theta)
        for e, event in reversed(list(enumerate(self.system.events))):
            was, now = raw["event_side"][k, e], coming[:, e]
            crosses = (was * now < 0) & ((event.direction == 0) | (now == event.direction))
            raw["event_which"][k[crosses]] = e
            found[k[crosses]] = True
        k = np.flatnonzero(found)
        raw["event_side"][k, raw["event_which"][k]] *= -1
        return found

    def same_time(self, t: Any, other: Any) -> Any:
        """Whether times are the same up to the rounding of the core."""
        return np.abs(t - other) <= SAME_TIME * np.maximum(np.abs(t), np.abs(other))

    def until_jump(self, rows: Any) -> Any:
        """(rows up to the first that jumps, with it; those behind it)."""
        if not self.jumping:
            return rows, rows[:0]
        jumping = np.flatnonzero(self.jumps[rows])
        cut = jumping[0] + 1 if len(jumping) else len(rows)
        return rows[:cut], rows[cut:]

    @property
    def jump(self) -> Field:
        """The jump, where there is one."""
        assert self.system.jump is not None
        return self.system.jump

    def theta_jump(self, theta: NDArray[Any]) -> NDArray[np.float64]:
        """The parameters of the jump, as double."""
        at = self.system.offsets["jump"]
        return theta[at : at + self.jump.n_params].astype(np.float64)

    def data_of(self, rows: Any) -> NDArray[np.float64] | None:
        """The data of the jumps of these rows, as double, or None."""
        return None if self.jump_data is None else self.jump_data[rows].astype(np.float64)

    def move(self, raw: Any, stretch: Stretch, theta: NDArray[Any], happened: NDArray[np.bool_]) -> None:
        """States after the events and the jumps of a round; which events these are, where several happen at the same time.

        `happened` (n, events): those that did so before, at the same time.
        """
        k = np.flatnonzero(stretch.jump >= 0)
        if len(k):
            rows, y = stretch.jump[k], stretch.before[k].astype(np.float64)
            y = self.jump(self.row_t[rows], y, self.theta_jump(theta), self.data_of(rows))
            stretch.after[k] = y.astype(self.dtype)
        for e, field in enumerate(self.system.resets):
            here = stretch.which == e
            if field is None or not here.any():
                continue
            y = field(stretch.t_event[here], stretch.before[here].astype(np.float64), theta.astype(np.float64))
            stretch.after[here] = y.astype(self.dtype)

        if len(self.system.events) > 1:
            self._others_first(raw, stretch, theta, happened)

    def _coming(
        self, stretch: Stretch, k: NDArray[np.intp], was: NDArray[Any], theta: NDArray[Any], happened: NDArray[np.bool_]
    ) -> Any:
        """(n, events) at positions k, on events: which others come at the same time, sides then, sides and zeros behind."""
        active = stretch.active[k]
        t = stretch.t_event[k]
        own = np.arange(len(k)), stretch.which[k]
        residual = self.system.watch(t, stretch.before[k].astype(np.float64), theta.astype(np.float64))[own]
        now, zero = self._look(active, t, stretch.before[k], theta, residual)
        direction = np.array([e.direction for e in self.system.events])
        coming = (was * now < 0) & zero & ((direction == 0) | (now == direction)) & ~happened
        coming[own] = False
        return coming, now, *self._look(active, t, stretch.after[k], theta, residual)

    def _others_first(self, raw: Any, stretch: Stretch, theta: NDArray[Any], happened: NDArray[np.bool_]) -> None:
        """An event without a reset comes before a reset at the same time after which it would not cross any more."""
        resets = np.array([r is not None for r in self.system.resets])
        k = np.flatnonzero((stretch.which >= 0) & resets[stretch.which])
        if not len(k):
            return
        coming, now, side, zero = self._coming(stretch, k, raw["event_side"][k], theta, happened[k])
        undone = coming & ~resets & ~(zero & (side == now))
        some, first = undone.any(axis=1), undone.argmax(axis=1)
        k, first, now = k[some], first[some], now[some]
        raw["event_side"][k, stretch.which[k]] *= -1  # it is still to come
        raw["event_side"][k, first] = now[np.arange(len(k)), first]
        stretch.which[k] = first
        stretch.after[k] = stretch.before[k]

    def next_sides(
        self, raw: Any, stretch: Stretch, on: NDArray[Any], theta: NDArray[Any], happened: NDArray[np.bool_]
    ) -> NDArray[np.int32]:
        """Sides after the events, for the samples (positions `on`) that go on; `happened`: those at the same time."""
        side: NDArray[np.int32] = raw["event_side"][on].copy()
        by_jump = stretch.jump[on] >= 0
        if by_jump.any():
            k = on[by_jump]
            side[by_jump] = self.sides(stretch.active[k], stretch.t_event[k], stretch.after[k], theta)
        jumped = ~by_jump & np.array([self.system.resets[e] is not None for e in stretch.which[on]])
        if jumped.any():
            side[jumped] = self._sides_after_resets(stretch, on[jumped], side[jumped], theta, happened[jumped])
        return side

    def _sides_after_resets(
        self, stretch: Stretch, k: NDArray[np.intp], was: NDArray[np.int32], theta: NDArray[Any], happened: NDArray[np.bool_]
    ) -> NDArray[np.int32]:
        """Sides at positions k, from those before: functions of others that a reset left as they were have the same ones.

        So what happens at the same time, or soon, does so. A function that the reset changed keeps its side if it was about
        to cross, and still is; else its sign counts, or its rate.
        """
        coming, now, side, zero = self._coming(stretch, k, was, theta, happened)
        t = stretch.t_event[k]
        theta = theta.astype(np.float64)
        before, after = (self.system.watch(t, y[k].astype(np.float64), theta) for y in (stretch.before, stretch.after))
        keeps = (after == before) & ~happened | coming & zero & (side == now)
        return np.where(keeps, was, side)
