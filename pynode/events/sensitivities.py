"""Sensitivities through jumps and events: the rounds of a solution from the first to the last.

Between jumps they are those of the core, for the steps that were taken. Where a stretch ends on an event, its end moves, and
with it the beginning of the next one: so its last step and the first step of the next change, and what is interpolated in
them. How a single step depends on its ends is found by reverse passes, one for each component. So these are derivatives of
the numbers computed, the same as those of `pynode.events.backward`. The rule at jumps: `pynode.engine.saltation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.batch import SaveTimes
from pynode.engine.gradients import warn_of_lost
from pynode.engine.saltation import event_times, linearised, moved, through
from pynode.errors import OK
from pynode.events.backward import graze

if TYPE_CHECKING:
    from pynode.events.rounds import Solver, Stretch

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass
class _Steps:
    """Steps that are solved again, with their sensitivities: where each belongs in its round, and what it shows."""

    position: Index  # (n,) in the round
    y: NDArray[Any]  # (n, d) states at the beginning
    grids: list[Array]  # (n) ends of the steps
    rows: list[Index]  # (n) rows of the result among them


class Sensitivity:
    """How rows and events depend on the parameters and on the sample's initial state: p + d columns.

    Attributes
    ----------
    rows : (rows, d, p + d) array
        Derivatives of the states; NaN where there is no state.
    event_t, event_before, event_after : (n, p + d), (n, d, p + d) array
        Of the times of events, and of the states on both sides, in the order of `Events`.
    """

    def __init__(self, solver: Solver, theta: NDArray[Any], results: Any, rounds: list[Stretch]) -> None:
        self.solver = solver.replaying(results)
        self.system = solver.system
        if self.solver.field.callback is not None and self.system.events:
            self.solver.field.callback.check_wrt(("t",))  # that of an event
        self.theta = theta
        B, d = solver.batch.y0.shape
        self.p, self.d = self.system.n_params, d
        columns = self.p + d
        self._seen = ~np.isnan(results["y"]).any(axis=1)
        self._A = np.zeros((B, d, columns))  # at the beginning of the next stretch, and of its time:
        self._A[:, :, self.p :] = np.eye(d)
        self._dt = np.zeros((B, columns))
        self._lost = np.zeros(B, bool)
        self._ok = results["status"] == OK
        self.rows = np.full((len(results["y"]), d, columns), np.nan)
        found = [self._round(r) for r in rounds]
        self.rows[~self._seen] = np.nan
        warn_of_lost(self._lost & self._ok)
        sample = np.concatenate([np.zeros(0, np.int64), *(r.active[r.which >= 0] for r in rounds)])
        order = np.argsort(sample, kind="stable")
        shapes = (columns,), (d, columns), (d, columns)
        self.event_t, self.event_before, self.event_after = (
            np.concatenate([np.zeros((0, *shape)), *parts])[order] for shape, *parts in zip(shapes, *found, strict=True)
        )

    def _round(self, r: Stretch) -> tuple[Array, Array, Array]:
        """Through a round: derivatives of its events."""
        rows = [x[:-1] if jump >= 0 else x for x, jump in zip(r.saves, r.jump, strict=True)]
        rows = [x[self._seen[x]] for x in rows]
        wanted = (r.which >= 0) | (r.jump >= 0) | np.array([len(x) > 0 for x in rows], bool)
        lengthy = r.ends.length > 1
        end = np.full((len(r.active), *self._A.shape[1:]), np.nan)  # derivatives at the ends, these fixed
        slope = np.zeros((len(r.active), self.d))  # those with respect to the ends
        self._instants(r, np.flatnonzero(wanted & ~lengthy), rows, end)
        self._stretches(r, np.flatnonzero(wanted & lengthy), rows, end)
        inside = self._slopes(r, np.flatnonzero(r.which >= 0), rows, slope)
        self._jumps(r, np.flatnonzero(r.jump >= 0), end)
        return self._events(r, np.flatnonzero(r.which >= 0), end, slope, inside)

    # ---- Between jumps

    def _instants(self, r: Stretch, k: Index, rows: list[Index], end: Array) -> None:
        """Through stretches of one time t0 only: their ends are y + (t* - t0) f at t* = t0."""
        for i in k:
            self.rows[rows[i]] = self._A[r.active[i]]
        end[k] = self._A[r.active[k]]
        moving = k[self._dt[r.active[k]].any(axis=1)]
        if len(moving):
            end[moving] = moved(end[moving], -self._f(r, moving), self._dt[r.active[moving]])

    def _f(self, r: Stretch, k: Index) -> Array:
        """The field at the ends of stretches."""
        y = r.before[k].astype(np.float64)
        return self.solver.slope(r.active[k], r.t_event[k], y, self.theta.astype(np.float64))

    def _stretches(self, r: Stretch, k: Index, rows: list[Index], end: Array) -> None:
        """Through stretches of some length: their rows and ends, the latter at fixed times."""
        moving = self._dt[r.active[k]].any(axis=1)
        whole, first = k[~moving], k[moving]
        if len(whole):
            steps = _Steps(whole, r.y[whole], [r.grids[i] for i in whole], [rows[i] for i in whole])
            _, end[whole] = self._solve(r, steps, self._A[r.active[whole]])
        if not len(first):
            return
        row_t, way = self.solver.row_t, self.solver.way
        early = [(row_t[rows[i]] - r.grids[i][1]) * way[r.active[i]] <= 0 for i in first]
        steps = _Steps(
            first, r.y[first], [r.grids[i][:2] for i in first], [rows[i][e] for i, e in zip(first, early, strict=True)]
        )
        y, end[first] = self._solve(r, steps, self._A[r.active[first]])
        by_row, by_end = self._by_time(r, steps, start=True)
        for i, s, show in zip(first, by_row, steps.rows, strict=True):
            self.rows[show] = moved(self.rows[show], s, self._dt[r.active[i]][None])
        end[first] = moved(end[first], by_end, self._dt[r.active[first]])
        on = np.flatnonzero([len(r.grids[i]) > 2 for i in first])
        if len(on):
            later = first[on]
            rest = [rows[i][~e] for i, e in zip(later, [early[n] for n in on], strict=True)]
            steps = _Steps(later, y[on], [r.grids[i][1:] for i in later], rest)
            _, end[later] = self._solve(r, steps, end[later])

    def _solve(self, r: Stretch, steps: _Steps, A: Array) -> tuple[NDArray[Any], Array]:
        """Fill the rows of some steps, whose first states have the derivatives A; (states, derivatives) at their ends."""
        sample = r.active[steps.position]
        times = [self._times(grid, show) for grid, show in zip(steps.grids, steps.rows, strict=True)]
        problem = self.solver.part(sample, steps.y, SaveTimes.of(times), SaveTimes.of(steps.grids), reverse=True)
        raw = problem.run(self._theta_field(sample), callback=self.solver.callback(self.theta), sensitivity=True)
        self._lost[sample[raw["status"] != OK]] = True
        S, n = raw["sensitivity"].astype(np.float64), self.solver.field.n_params
        length = np.array([len(t) for t in times])
        J = S[..., n:] @ np.repeat(A, length, axis=0)
        J[..., :n] += S[..., :n]
        last = np.cumsum(length) - 1
        show = np.ones(len(J), bool)
        show[last] = show[last + 1 - length] = False
        self.rows[np.concatenate(steps.rows)] = J[show]
        return raw["y"][last], J[last]

    def _times(self, grid: Array, rows: Index) -> Array:
        """The beginning, the rows between, the end; a row's time may differ from an end by rounding."""
        inside = np.clip(self.solver.row_t[rows], min(grid[0], grid[-1]), max(grid[0], grid[-1]))
        return np.concatenate([grid[:1], inside, grid[-1:]])

    def _theta_field(self, sample: Index) -> NDArray[Any]:
        theta = self.theta if self.theta.ndim == 1 else self.theta[sample]
        return np.ascontiguousarray(theta[..., : self.solver.field.n_params])

    def _by_time(self, r: Stretch, steps: _Steps, start: bool) -> tuple[list[Array], Array]:
        """How single steps depend on where they begin (or end): for each its rows (m, d), and the ends of all (n, d).

        By one reverse pass for each row and component.
        """
        d = self.d
        eye = np.eye(d)
        zero = np.zeros((d, d))
        alone = np.stack([zero, eye], axis=1).reshape(-1, d)  # cotangents at (beginning, end), for each component
        within = np.stack([zero, eye, zero], axis=1).reshape(-1, d)  # at (beginning, row, end)
        which: list[int] = []
        times: list[Array] = []
        seeds: list[Array] = []
        for n, (grid, rows) in enumerate(zip(steps.grids, steps.rows, strict=True)):
            shown = self._times(grid, rows)[1:]
            for t, at_end in zip(shown, self.solver.same_time(shown, grid[1]).tolist(), strict=True):
                which += [n] * d
                times += [grid if at_end else np.array([grid[0], t, grid[1]])] * d
                seeds.append(alone if at_end else within)
        grids = [steps.grids[n] for n in which]
        sample = r.active[steps.position[which]]
        problem = self.solver.part(sample, steps.y[which], SaveTimes.of(times), SaveTimes.of(grids), reverse=True)
        raw = problem.run(
            self._theta_field(sample),
            callback=self.solver.callback(self.theta),
            g_y=np.concatenate(seeds).astype(self.solver.dtype),
            gradient="discrete",
            wrt_t=True,
        )
        self._lost[sample[raw["status"] != OK]] = True
        length = np.array([len(t) for t in times])
        end = np.cumsum(length) - 1
        by_time = raw["g_t"][end + 1 - length if start else end].astype(np.float64).reshape(-1, d)
        cut = np.cumsum([len(rows) + 1 for rows in steps.rows])
        parts = np.split(by_time, cut[:-1])
        return [part[:-1] for part in parts], by_time[cut - 1]

    def _slopes(self, r: Stretch, k: Index, rows: list[Index], slope: Array) -> list[tuple[int, Index, Array]]:
        """How states depend on where the last steps end: those at events, and (position, rows, theirs) inside the steps."""
        short = k[~r.has_last_step[k]]
        if len(short):  # no step of known beginning ends there: the slope
            slope[short] = self._f(r, short)
        long = k[r.has_last_step[k]]
        if not len(long):
            return []
        row_t, way = self.solver.row_t, self.solver.way
        grids = [r.grids[i][-2:] for i in long]
        inside = [rows[i][(row_t[rows[i]] - g[0]) * way[r.active[i]] > 0] for i, g in zip(long, grids, strict=True)]
        by_row, slope[long] = self._by_time(r, _Steps(long, r.last[long], grids, inside), start=False)
        return list(zip(long, inside, by_row, strict=True))

    # ---- Through jumps

    def _jumps(self, r: Stretch, k: Index, end: Array) -> None:
        """Through the jumps at data times: these do not move."""
        if not len(k):
            return
        solver = self.solver
        sample = r.active[k]
        rows = r.jump[k]
        theta = (self.theta if self.theta.ndim == 1 else self.theta[sample]).astype(np.float64)
        at, n = self.system.offsets["jump"], solver.jump.n_params
        y, data = r.before[k].astype(np.float64), solver.data_of(rows)
        by = linearised(solver.jump, solver.row_t[rows], y, theta[..., at : at + n], data)
        by_theta = np.zeros((len(k), self.d, self.p))
        by_theta[..., at : at + n] = by.theta
        self._A[sample] = self.rows[rows] = through(end[k], by.y, by_theta)
        self._dt[sample] = 0.0

    def _events(
        self, r: Stretch, k: Index, end: Array, slope: Array, inside: list[tuple[int, Index, Array]]
    ) -> tuple[Array, Array, Array]:
        """Through events: derivatives of their times, and of the states on both sides."""
        sample = r.active[k]
        t = r.t_event[k]
        y = r.before[k].astype(np.float64)
        theta = self.theta.astype(np.float64)
        columns = self.p + self.d
        if not len(k):
            return np.zeros((0, columns)), np.zeros((0, self.d, columns)), np.zeros((0, self.d, columns))
        which = np.arange(len(k)), r.which[k]
        g = linearised(self.system.watch, t, y, theta)
        rate = g.t[which] + (g.y[which] * slope[k]).sum(axis=1)
        dt = event_times(end[k], g.y[which], g.theta[which], rate)
        if (bad := (rate == 0) & (dt != 0).any(axis=1)).any():
            raise graze(r, int(k[np.flatnonzero(bad)[0]]))
        before = moved(end[k], slope[k], dt)
        after = before.copy()
        for e, reset in enumerate(self.system.resets):
            here = r.which[k] == e
            if reset is not None and here.any():
                by = linearised(reset, t[here], y[here], theta)
                after[here] = through(before[here], by.y, by.theta, by.t, dt[here])
        self._A[sample], self._dt[sample] = after, dt
        moves = dict(zip(k.tolist(), dt, strict=True))
        for i, rows, by_end in inside:
            self.rows[rows] = moved(self.rows[rows], by_end, moves[int(i)][None])
        for i, value in zip(k, after, strict=True):
            self.rows[r.at_event[i]] = value
        return dt, before, after
