"""Differentiating: the rounds of a solution from the last to the first, by the formulas at the head of `pynode.events`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import real_array
from pynode.data.batch import Ranges, SaveTimes
from pynode.engine.gradients import Gradients, scaled, warn_of_lost
from pynode.errors import OK
from pynode.events.rounds import Solver
from pynode.fields.event import pull_back

if TYPE_CHECKING:
    from pynode.events.rounds import Stretch
    from pynode.events.solution import EventSolution


def graze(r: Stretch, i: int) -> ValueError:
    """What is said where the event at position i of a round has no derivative."""
    return ValueError(
        f"event {r.which[i]} of sample {r.active[i]} at t = {r.t_event[i]:g} is met at rate 0 "
        "(it grazes, or jumps): its time has no derivative"
    )


class Backward:
    """The rounds of a solution, differentiated from the last to the first; see the head of `pynode.events`."""

    def __init__(
        self, solution: EventSolution, dy: Any, wanted: Sequence[str], event_t: Any, event_before: Any, event_after: Any
    ) -> None:
        self.solution, self.wanted, self.rounds = solution, wanted, solution.rounds
        old = solution.prepared
        if old.field.callback is not None:
            old.field.callback.check_wrt(("t",))  # that of an event
        own = "inputs" in wanted
        solver = Solver(old.system, old.batch, old.options, own_inputs=True, data=old.data) if own else old
        self.solver = solver.replaying(solution.results)
        self.system, self.batch = old.system, old.batch
        self.theta = solution.theta
        self.ok = solution.results["status"] == OK
        self.dy = self._rows(dy)
        self.seeds = self._event_seeds(event_t, event_before, event_after)
        self.lost = np.zeros(len(self.ok), bool)
        self._begin()

    def _begin(self) -> None:
        """No gradient yet."""
        jump_data = self.solution.prepared.jump_data
        self.g_theta = np.zeros(self.system.n_params)
        self.g_rows_t = np.zeros(self.batch.rows)
        self.g_coef = None
        self.g_data = None if jump_data is None else np.zeros(jump_data.shape)

    def _rows(self, given: Any) -> NDArray[np.float64]:
        """dL/dy (rows, d), 0 where there is no state."""
        y = self.solution.results["y"]
        if given is None:
            return np.zeros(y.shape)
        dy: NDArray[np.float64] = self.batch.flatten("dy", given, np.float64)
        lost = np.isnan(y)
        if np.count_nonzero(lost) == 0 and np.isfinite(dy).all():
            return dy
        if not np.isfinite(dy[~lost]).all():
            raise ValueError("dy must be finite; give 0 where the loss does not depend on an entry")
        if (np.nan_to_num(dy[lost]) != 0).any() and self.ok.all():
            raise ValueError("dy is not 0 after a terminal event, where y is NaN: hold=True makes results there")
        return np.where(lost, 0.0, dy)

    def _event_seeds(self, *given: Any) -> Any:
        """For each round the cotangents of its events' times, states before and states after, by position; None: all 0."""
        events, d = self.solution.events, self.system.d
        if all(x is None for x in given):
            return [None] * len(self.rounds)
        shapes, values = [(len(events),), (len(events), d), (len(events), d)], []
        for name, x, shape in zip(("event_t", "event_before", "event_after"), given, shapes, strict=True):
            x = np.zeros(shape) if x is None else real_array(name, x, np.float64)
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

    def gradients(self) -> Gradients:
        """`Gradients` of the whole; samples whose gradient is not finite take no part and are warned of."""
        lam, lam_t = self._go_back()
        while (lost := self.ok & (self.lost | ~np.isfinite(lam).all(axis=1) | ~np.isfinite(lam_t))).any():
            self.lost |= lost
            self.ok &= ~lost
            self._begin()
            lam, lam_t = self._go_back()
        warn_of_lost(self.lost)
        self._times(lam_t)
        single = self.batch.kind == "single"
        out: dict[str, Any] = {}
        if "theta" in self.wanted:
            out["theta"] = self.g_theta
        if "y0" in self.wanted:
            out["y0"] = lam[0] if single else lam
        if "t" in self.wanted:
            out["t"] = self.batch.by_time(self.g_rows_t)
        if "inputs" in self.wanted:
            out["inputs"] = scaled(self.solver.signal.pull(self.g_coef), 1.0)
        if "data" in self.wanted:
            out["data"] = self.batch.unflatten(self.g_data)
        return Gradients(**out)

    def _go_back(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Through all rounds: dL/dy0 and dL/dt0 of each sample."""
        B, d = self.batch.y0.shape
        lam, lam_t = np.zeros((B, d)), np.zeros(B)
        for number in range(len(self.rounds) - 1, -1, -1):
            self._round(number, lam, lam_t)
        return lam, lam_t

    def _times(self, lam_t: NDArray[np.float64]) -> None:
        if len(self.batch.row):
            self.g_rows_t[self.batch.row] += lam_t

    def _round(self, number: int, lam: NDArray[np.float64], lam_t: NDArray[np.float64]) -> None:
        """Cotangents (lam, lam_t) of the later initial states and times -> those of this round."""
        r = self.rounds[number]
        ok = self.ok[r.active]
        seed = np.zeros((len(r.active), self.system.d))
        has = r.which >= 0
        k = (has & ok).nonzero()[0]
        if len(k):
            given = self.seeds[number]
            seeds = None if given is None else [x[ok[has]] for x in given]
            seed[k] = self._events(r, k, seeds, lam, lam_t)
        jumped = ((r.jump >= 0) & ok).nonzero()[0]
        if len(jumped):
            seed[jumped] = self._jumps(r, jumped, lam, lam_t)
        k = (ok & (r.ends.length > 1)).nonzero()[0]
        lam[r.active], lam_t[r.active] = 0.0, 0.0
        if len(k) < len(ok):
            self._instants(r, (ok & (r.ends.length == 1)).nonzero()[0], seed, lam, lam_t)
        if not len(k):
            return
        saves, grids = r.saves, r.ends
        sample = r.active[k]
        if len(k) < len(ok):
            saves, ends = saves.of(k), Ranges(grids.start[k], grids.length[k])
            grids = SaveTimes.laid(grids.t[ends.flat()], ends.size)
        times, places, g_y = self._stretch_rows(r, k, saves, seed, grids.t[grids.start], number > 0)
        raw = self._run(sample, r.y[k], times, grids, g_y, wrt_y0=True, wrt_inputs="inputs" in self.wanted)
        self.g_theta[: self.system.field.n_params] += raw["g_theta"]
        lam[sample] = raw["g_y0"]
        g_t = raw["g_t"]
        lam_t[sample] = g_t[times.start]
        if "t" in self.wanted:
            first = int(number == 0)  # row 0 is the initial time itself
            inside = Ranges(places.start + first, places.size - first).flat()
            self.g_rows_t[Ranges(saves.start + first, saves.size - first).flat()] += g_t[inside]
        if "inputs" in self.wanted:
            self.g_coef = raw["g_coef"] + (0.0 if self.g_coef is None else self.g_coef)

    def _run(
        self, sample: NDArray[Any], y0: Any, times: SaveTimes, ends: SaveTimes, g_y: NDArray[np.float64], **wrt: Any
    ) -> Any:
        """Steps of these samples once more, and the way back."""
        problem = self.solver.part(sample, y0, times, ends, reverse=True)
        raw = problem.run(
            self.solver.theta_field(self.theta),
            callback=self.solver.callback(self.theta),
            g_y=g_y.astype(self.solver.dtype, copy=False),
            gradient="discrete",
            wrt_t=True,
            **wrt,
        )
        self.lost[sample[raw["status"] != OK]] = True
        return raw

    def _instants(
        self,
        r: Stretch,
        k: NDArray[np.intp],
        seed: NDArray[np.float64],
        lam: NDArray[np.float64],
        lam_t: NDArray[np.float64],
    ) -> None:
        """Through the stretches at positions k, which have one time t0 only: their ends are y + (t* - t0) f at t* = t0."""
        t, _ = self.solver.side_before(r.active[k], r.t_event[k])
        f = self.solver.slope(r.active[k], t, r.y[k].astype(np.float64), self.theta.astype(np.float64))
        for i, slope in zip(k, f, strict=True):
            sample = r.active[i]
            saves = r.saves[i][:-1] if r.jump[i] >= 0 else r.saves[i]
            lam[sample] += self.dy[saves].sum(axis=0) + seed[i]
            later = saves[saves != self.batch.row[sample]]
            self.g_rows_t[later] += self.dy[later] @ slope
            lam_t[sample] = -self.dy[later].sum(axis=0) @ slope
            if r.which[i] >= 0 or r.jump[i] >= 0:
                lam_t[sample] -= seed[i] @ slope
            if r.jump[i] >= 0:
                self.g_rows_t[r.jump[i]] += seed[i] @ slope

    def _stretch_rows(
        self, r: Stretch, k: NDArray[np.intp], saves: Ranges, seed: Any, start: NDArray[np.float64], begins: bool
    ) -> tuple[SaveTimes, Ranges, NDArray[np.float64]]:
        """Times of the stretches at positions k, where the rows `saves` are among them, and cotangents of their states.

        begins: they have a time of their own, `start`, before these rows.
        """
        hit = r.which[k] >= 0
        length = saves.size + begins + hit
        times = SaveTimes.laid(start.repeat(length), length)
        places = Ranges(times.start + begins, saves.size)
        rows, inside = saves.flat(), places.flat()
        g = np.zeros((len(times.t), self.system.d))
        times.t[inside], g[inside] = self.solver.row_t[rows], self.dy.take(rows, axis=0)
        if self.solver.jumping:
            jumps = r.jump[k] >= 0
            g[places.stop[jumps] - 1] = seed[k[jumps]]
        last = times.start[hit] + length[hit] - 1
        times.t[last], g[last] = r.t_event[k[hit]], seed[k[hit]]
        return times, places, g

    def _jumps(self, r: Stretch, k: NDArray[np.intp], lam: NDArray[np.float64], lam_t: NDArray[np.float64]) -> Any:
        """Through the jumps at positions k of a round: cotangents of the states before them.

        What follows begins with the jump: on a switch, or a knot at which the input jumps, by the field before.
        """
        rows, sample, theta = r.jump[k], r.active[k], self.solver.theta_jump(self.theta)
        t, on = self.solver.side_before(sample, self.solver.row_t[rows])
        if on.any():
            y = r.after[k[on]].astype(np.float64)
            f = self.solver.slope(sample[on], t[on], y, self.theta.astype(np.float64))
            lam_t[sample[on]] = -(lam[sample[on]] * f).sum(axis=1)
        jump, at = self.solver.jump, self.system.offsets["jump"]
        after = lam[sample] + self.dy[rows]
        y, data = r.before[k].astype(np.float64), self.solver.data_of(rows)
        pulled = pull_back(jump, self.solver.row_t[rows], y, theta, after, data)
        self.g_theta[at : at + jump.n_params] += pulled.theta
        self.g_rows_t[rows] += pulled.t + lam_t[sample]
        if self.g_data is not None:
            self.g_data[rows] = pulled.u
        return pulled.y

    def _events(
        self, r: Stretch, k: NDArray[np.intp], seeds: Any, lam: NDArray[np.float64], lam_t: NDArray[np.float64]
    ) -> Any:
        """Through the events at positions k of a round: cotangents of the states before them, their times eliminated."""
        t, y, sample = r.t_event[k], r.before[k].astype(np.float64), r.active[k]
        theta = self.theta.astype(np.float64)
        a, tau = lam[sample], lam_t[sample]
        b = np.zeros_like(a)
        if seeds is not None:
            tau, b = tau + seeds[0], seeds[1]
            a += seeds[2]
        a += self._shown(r.at_event.of(k))
        which = r.which[k]
        b = np.where(self.solver.resets[which][:, None], b, b + a)
        for e, reset in enumerate(self.system.resets):
            if reset is None or not (here := which == e).any():
                continue
            pulled = pull_back(reset, t[here], y[here], theta, a[here])
            b[here] += pulled.y
            tau[here] += pulled.t
            self.g_theta += pulled.theta
        one = np.zeros((len(k), len(self.system.events)))
        one[np.arange(len(k)), which] = 1.0
        _, gy, gt, *_ = pull_back(self.system.watch, t, y, theta, one)
        mu, rate = self._last_steps(r, k, b, gy)
        mu, rate = mu + tau, rate + gt
        if (bad := (rate == 0) & (mu != 0)).any():
            raise graze(r, int(k[bad.nonzero()[0][0]]))
        s = np.where(mu == 0, 0.0, -mu / np.where(rate == 0, 1.0, rate))
        self.g_theta += pull_back(self.system.watch, t, y, theta, one * s[:, None]).theta
        return b + s[:, None] * gy

    def _last_steps(self, r: Stretch, k: NDArray[np.intp], b: Any, gy: NDArray[np.float64]) -> Any:
        """Derivatives with respect to the lengths of the steps that end on events.

        (that of the loss, by the cotangent b at the end and the saved rows inside; that of g)
        """
        no_length = ~r.has_last_step[k]
        if np.count_nonzero(no_length):  # its derivative is the slope
            mu, rate = np.zeros(len(k)), np.zeros(len(k))
            at = k[no_length]
            y = r.before[at].astype(np.float64)
            f = self.solver.slope(r.active[at], r.t_event[at], y, self.theta.astype(np.float64))
            mu[no_length], rate[no_length] = (b[no_length] * f).sum(axis=1), (gy[no_length] * f).sum(axis=1)
            if not no_length.all():
                mu[~no_length], rate[~no_length] = self._last_steps(r, k[~no_length], b[~no_length], gy[~no_length])
            return mu, rate
        seed = np.zeros((len(r.active), self.system.d))
        seed[k] = b
        n, rows = len(k), r.saves.of(k)
        steps = r.ends.t[(r.ends.start + r.ends.length)[k][:, None] + np.array([-2, -1])]
        which = np.arange(n).repeat(rows.size)
        late = (self.solver.row_t[rows.flat()] - steps[which, 0]) * self.solver.way[r.active[k]][which] > 0
        inside = np.bincount(which[late], minlength=n)
        twice = np.arange(2 * n) % n  # all by the loss, then all by g
        k, steps = k[twice], steps[twice]
        rows = Ranges(rows.stop - inside, inside).of(twice)
        times, _, g_y = self._stretch_rows(r, k, rows, seed, steps[:, 0], begins=True)
        ends = times.start + times.length - 1
        g_y[times.start[n] :] = 0.0
        g_y[ends[n:]] = gy
        raw = self._run(r.active[k], r.last[k], times, SaveTimes.laid(steps.ravel(), np.full(2 * n, 2)), g_y)
        by_end = raw["g_t"][ends]
        return by_end[:n], by_end[n:]

    def _shown(self, rows: Ranges) -> NDArray[np.float64]:
        """The sums of the cotangents of the rows that show the states after events."""
        total = np.zeros((len(rows.size), self.system.d))
        one = rows.size == 1
        total[one] = self.dy[rows.start[one]]
        for i in (rows.size > 1).nonzero()[0]:
            total[i] = np.add.reduce(self.dy[rows.start[i] : rows.start[i] + rows.size[i]], axis=0)
        return total
