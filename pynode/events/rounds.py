"""Rounds: every sample solved to its next event or its end, all of them at once; `Solver`."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from pynode import _core
from pynode.data.signal import as_signal, signal_values
from pynode.fields.event import pull_back

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
            u = np.concatenate([signal_values(self.pieces, i, np.array([x])) for i, x in zip(active, t, strict=True)])
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
            value, gy, gt, _ = pull_back(self.system.watch, t, y, theta, seed)
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
