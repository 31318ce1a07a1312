"""Rounds: every sample solved to its next event or its end, all of them at once; `Solver`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.arrays import read_only
from pynode.data.batch import Ranges, SaveTimes, starts
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
    saves: Ranges  # (n) rows of the result strictly between, or at the end if there is no event
    which: np.ndarray  # (n,) event or -1
    y: np.ndarray  # (n, d) initial states
    last: np.ndarray  # (n, d) states at the beginning of the step that ends on the event
    t_event: np.ndarray  # (n,) where it ended
    before: np.ndarray  # (n, d)
    after: np.ndarray
    at_event: Ranges  # (n) rows of the result that show the state after the event
    jump: np.ndarray  # (n,) row of the result whose jump ends the stretch, or -1; then `before` and `after` are its states
    at_jump: np.ndarray  # (n,) whether the event fell on the time of a jump, where the core's solve ended

    @cached_property
    def ends(self) -> SaveTimes:
        """The ends of steps, from the initial time to the event, the jump or the last time; no step without length."""
        record, offset = self.steps
        sample = np.arange(len(self.t_event)).repeat(offset[1:] - offset[:-1])
        begins = record[:, 0]
        longer = begins != self.t_event[sample]
        length = np.bincount(sample[longer], minlength=len(self.t_event)) + 1
        times = SaveTimes.laid(np.empty(int(length.sum())), length)
        last = times.start + length - 1
        inside = np.ones(len(times.t), bool)
        inside[last] = False
        times.t[inside], times.t[last] = begins[longer], self.t_event
        return times

    @cached_property
    def grids(self) -> list[NDArray[np.float64]]:
        """(n) the same for each sample."""
        return self.ends.each()

    @cached_property
    def has_last_step(self) -> NDArray[np.bool_]:
        """(n,) whether a step of known beginning and length ends on the event: it may fall on the end of the one before."""
        record, offset = self.steps
        some = offset[1:] > offset[:-1]
        found: NDArray[np.bool_] = some & ~self.at_jump
        found[some] &= record[offset[1:][some] - 1, 0] != self.t_event[some]
        return found


def without_grid(options: Options) -> Options:
    """Options for parts of a solve whose steps are given one by one."""
    return options if options.grid is None else replace(options, grid=None, step=1.0, max_steps=2**62)


class Solver:
    """The batch, the system and the options, and problems for parts of it; dense: rounds keep the dense output."""

    def __init__(
        self, system: System, batch: Batch, options: Any, own_inputs: bool = False, data: Any = None, dense: bool = False
    ) -> None:
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
        self.single, self.shape, self.dense = batch.kind == "single", batch.shape, dense
        self.accuracy = Accuracy(options.arguments(system.d), batch)
        self.signal = as_signal(options.inputs, self.field.inputs)
        self.pieces = None
        if self.signal is not None:
            rtol = 0.0 if options.step is not None else options.rtol
            self.pieces = self.signal.pieces(len(batch.y0), self.dtype, batch.spans(), own=own_inputs, rtol=rtol)
        self.row_t = batch.row_times()
        self.t0 = batch.t[batch.start]
        self.way = np.where(batch.t[batch.start + batch.length - 1] >= self.t0, 1, -1)
        self.direction = np.array([e.direction for e in system.events], np.int32)
        self.terminal = np.array([e.terminal for e in system.events], bool)
        self.hold = np.array([e.hold for e in system.events], bool)
        self.resets = np.array([e.reset is not None for e in system.events], bool)
        self._keywords: dict[tuple[bool, bool], dict[str, Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing of the core, which can be made again."""
        return {name: x for name, x in self.__dict__.items() if name != "whole"} | {"_keywords": {}}

    def _changed(self, **values: Any) -> Solver:
        other = object.__new__(Solver)
        other.__dict__.update(self.__dict__ | values)
        return other

    def starting_from(self, y0: ArrayLike) -> Solver:
        """The same for other initial states (B, d), or (d,) for one sample."""
        y0 = read_only(np.array(y0).reshape(self.batch.y0.shape))
        return self._changed(batch=replace(self.batch, y0=y0))

    def replaying(self, results: Any) -> Solver:
        """The same, for the steps of these results."""
        options = one_method(self.options, results["stiff_steps"], "derivatives through events and jumps go")
        return self if options is self.options else self._changed(options=options, _keywords={})

    def _arguments(self, prescribed: bool, reverse: bool) -> dict[str, Any]:
        """Keywords of `core_problem` but for samples and times."""
        keys = self._keywords.get((prescribed, reverse))
        if keys is None:
            keys = self.options.arguments(self.field.d) | ({} if self.pieces is None else self.pieces.arguments())
            if prescribed:
                for name in ("step", "first_step", "max_step"):
                    keys.pop(name, None)
                keys |= {"adaptive": False, "max_steps": 2**62, "land": False}
            keys |= implicit_programs(self.field, self.options, self.signal, reverse) | hoisted_programs(self.field, reverse)
            self._keywords[prescribed, reverse] = keys
        return keys

    def part(
        self,
        active: NDArray[Any],
        y0: Any,
        times: SaveTimes,
        ends: SaveTimes | None = None,
        reverse: bool = False,
        **extra: Any,
    ) -> _core.Problem:
        """A problem of the samples `active`, which may repeat, with their times and, if given, the ends of their steps."""
        keys = self._arguments(ends is not None, reverse)
        if self.pieces is not None:
            keys = keys | {name: keys[name][active] for name in ("knot_start", "knot_len", "seg_start", "cross_knots")}
        if ends is not None:
            keys = keys | {"grid": ends.t, "grid_start": ends.start, "grid_len": ends.length}
        program = self.field.vjp_program if reverse else None
        return core_problem(self.field.program, program, y0.astype(self.dtype, copy=False), times, keys, **extra)

    @cached_property
    def whole(self) -> _core.Problem:
        """The problem of all samples and times, as if there were no jump."""
        return self.part(np.arange(len(self.batch.y0)), self.batch.y0, self.batch, steps=True, dense=self.dense)

    def fits(self, single: bool, theta: Any, y0: Any, t: Any, target: Any = None) -> bool:
        """As `_core.Problem.fits`: whether this serves other arrays, which takes theta of the whole system here."""
        n = self.field.n_params
        return (
            type(theta) is np.ndarray
            and theta.shape == (self.system.n_params,)
            and self.whole.fits(single, theta[:n], y0, t, target)
            and (theta.size == n or (theta.dtype == self.dtype and bool(np.isfinite(theta[n:]).all())))
        )

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
        y, theta = y.astype(np.float64, copy=False), theta.astype(np.float64, copy=False)
        eps = 64 * np.finfo(self.dtype).eps
        for e in range(n):
            seed = np.zeros((len(active), n))
            seed[:, e] = 1.0
            value, gy, gt, *_ = pull_back(self.system.watch, t, y, theta, seed)
            rate = value[:, e]
            noise = eps * (np.abs(gy * y).sum(axis=1) + np.abs(gt * t)) + 4 * np.abs(residual)
            zero[:, e] = found = np.abs(rate) <= noise
            if np.count_nonzero(found):
                near = found.nonzero()[0]
                f = self.slope(active[near], t[near], y[near], theta)
                rate[near] = gt[near] + (gy[near] * f).sum(axis=1)
                rate[near] *= self.way[active[near]]
            np.subtract(rate > 0, rate < 0, dtype=np.int32, out=side[:, e])  # NaN: not known, the core finds out
        return side, zero

    # One round -------------------------------------------------------------------------------------------------------

    def run(
        self,
        active: NDArray[Any],
        t0: NDArray[Any],
        y0: Any,
        side: NDArray[Any],
        saves: Ranges,
        theta: NDArray[Any],
        first: bool,
    ) -> Any:
        """(raw results, Stretch, where the rows of `saves` are in these results)."""
        rows = saves.flat()
        places = Ranges(starts(saves.size + (not first)) + (not first), saves.size)
        if first and not self.jumping:
            problem = self.whole
        else:
            length = saves.size + (not first)
            t = t0.repeat(length)
            t[places.flat()] = self.row_t[rows]
            problem = self.part(active, y0, SaveTimes.laid(t, length), steps=True, dense=self.dense)
        raw = problem.run(
            self.theta_field(theta),
            y0=y0,
            callback=self.callback(theta),
            event=self.system.watch.program.core,
            event_theta=theta,
            event_direction=self.direction,
            event_side=side,
        )
        which, stop = raw["event_which"], raw["stop_t"]
        last_y, at = raw["event_y"][:, 0], raw["event_y"][:, 1]
        before, at_event = self._cut(active, saves, rows, which, stop)
        jump, at_jump = np.full(len(active), -1, np.int64), np.zeros(len(active), bool)
        if self.jumping:
            last = saves.stop - 1
            k = ((saves.size > 0) & (which < 0) & (raw["status"] == OK)).nonzero()[0]
            k = k[self.jumps[last[k]]]
            jump[k], at[k] = last[k], raw["y"][places.stop[k] - 1]
            at_jump = self._events_at_jumps(raw, active, jump, at, theta)
            before = Ranges(before.start, before.size - at_jump)
            at_event = Ranges(np.where(at_jump, last, at_event.start), np.where(at_jump, 1, at_event.size))
            jump[at_jump] = -1
        stretch = Stretch(active, raw["steps"], before, which, y0, last_y, stop, at, at.copy(), at_event, jump, at_jump)
        return raw, stretch, places

    def _cut(
        self, active: NDArray[Any], saves: Ranges, rows: NDArray[Any], which: NDArray[Any], stop: NDArray[Any]
    ) -> tuple[Ranges, Ranges]:
        """Rows before the events, or all where there is none; rows at the times of events."""
        hit = which >= 0
        if not np.count_nonzero(hit):
            return saves, Ranges(saves.start, np.zeros_like(saves.size))
        k = np.arange(len(active)).repeat(saves.size)
        t, end = self.row_t[rows], stop[k]
        sample = active[k]
        same = hit[k] & self.same_time(t, end) & (t != self.t0[sample])
        earlier = hit[k] & ((t - end) * self.way[sample] < 0) & ~same
        n, n_earlier = (np.bincount(k[found], minlength=len(active)) for found in (same, earlier))
        start = saves.start + n_earlier
        start[n > 0] = rows[same][starts(n)[n > 0]]
        return Ranges(saves.start, np.where(hit, n_earlier, saves.size)), Ranges(start, n)

    def _events_at_jumps(
        self, raw: Any, active: NDArray[Any], jump: NDArray[Any], y: NDArray[Any], theta: NDArray[Any]
    ) -> NDArray[np.bool_]:
        """(n,) which of the stretches that end at a jump end on an event, too: that comes first. Sets which it is.

        There the event function is 0 up to rounding, and on its way to the other side.
        """
        found = np.zeros(len(active), bool)
        k = (jump >= 0).nonzero()[0]
        if not len(k):
            return found
        coming = self.sides(active[k], self.row_t[jump[k]], y[k], theta)
        for e, event in reversed(list(enumerate(self.system.events))):
            was, now = raw["event_side"][k, e], coming[:, e]
            crosses = (was * now < 0) & ((event.direction == 0) | (now == event.direction))
            raw["event_which"][k[crosses]] = e
            found[k[crosses]] = True
        k = found.nonzero()[0]
        raw["event_side"][k, raw["event_which"][k]] *= -1
        return found

    def same_time(self, t: Any, other: Any) -> Any:
        """Whether times are the same up to the rounding of the core."""
        return np.abs(t - other) <= SAME_TIME * np.maximum(np.abs(t), np.abs(other))

    def until_jump(self, rows: Ranges) -> Ranges:
        """Of the rows of each sample those up to the first that jumps, with it."""
        if not self.jumping:
            return rows
        jumping = np.append(self.jumps.nonzero()[0], len(self.jumps))
        first = jumping[np.searchsorted(jumping, rows.start)]
        return Ranges(rows.start, np.minimum(first + 1 - rows.start, rows.size))

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
        k = (stretch.jump >= 0).nonzero()[0]
        if len(k):
            rows, y = stretch.jump[k], stretch.before[k].astype(np.float64)
            y = self.jump(self.row_t[rows], y, self.theta_jump(theta), self.data_of(rows))
            stretch.after[k] = y.astype(self.dtype)
        for e, field in enumerate(self.system.resets):
            if field is None or not (here := stretch.which == e).any():
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
        coming = (was * now < 0) & zero & ((self.direction == 0) | (now == self.direction)) & ~happened
        coming[own] = False
        return coming, now, *self._look(active, t, stretch.after[k], theta, residual)

    def _others_first(self, raw: Any, stretch: Stretch, theta: NDArray[Any], happened: NDArray[np.bool_]) -> None:
        """An event without a reset comes before a reset at the same time after which it would not cross any more."""
        resets = self.resets
        k = ((stretch.which >= 0) & resets[stretch.which]).nonzero()[0]
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
        jumped = ~by_jump & self.resets[stretch.which[on]]
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
