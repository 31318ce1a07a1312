"""What a partition contributes to a fit: sums of squares, gradients and normal equations of its trajectories.

The initial state of each trajectory is not a parameter of the fit, but a function of the parameters: the best one for them
(variable projection: Golub and Pereyra 2003, doi:10.1088/0266-5611/19/2/201). It is found here each time, from the first
readings, so that a partition needs to be told the parameters and nothing else, and remembers nothing: a sum can be computed
again anywhere, and has the same bits.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.batch import Batch, starts
from pynode.data.rows import Rows
from pynode.data.signal import Kind, Signal
from pynode.engine.options import Options
from pynode.engine.problem import PreparedSolve
from pynode.errors import OK
from pynode.fields.field import Field
from pynode.fields.states import inside, limits
from pynode.fields.tangents import tangent_field
from pynode.optim.normal_equations import OneThread, gram
from pynode.training.coordinates import Coordinates
from pynode.training.initial_states import MARGIN
from pynode.training.shooting import HUGE, PART, REACH, WEAK
from pynode.training.sweeps import beside_tangents

Array = NDArray[np.float64]

ROUNDS = 6
"""How often the derivatives with respect to the initial states are computed anew while these are found ..."""

STEPS = 4
"""... and how many steps are taken with them at most, ..."""

FEW = 0.2
"""... fewer once no more than this part of the trajectories has not been found."""

LEAST_DAMPING = 1e-6
"""The damping of the first step."""

FOUND = 1e-4
"""An initial state is found where the next step promises to lower the sum of squares by less than this part of a
reading's."""


ROUNDING = 1e-10
"""... or by less than this part of what it is."""


@dataclass(frozen=True)
class Sums:
    """What partitions contribute; they add up.

    Attributes
    ----------
    loss : float
        The weighted sum of squares, each trajectory from its best initial state; infinite where one cannot be solved.
    H : (n, n) array
        J^T J of the coordinates, the initial states following them; empty where only the gradient was asked for.
    g : (n,) array
        J^T r, half the gradient of the loss.
    count, squares : (d,) arrays
        Readings of each state, and the sum of their squared residuals, in the units of the field.
    low, high : (d,) arrays
        The range of the fitted states.
    n_windows : int
        How many trajectories, or windows of them, took part.
    failed : dict of int -> int array
        Partition -> those that could not be solved.
    nfe : int
        Evaluations of the field.
    """

    loss: float
    H: Array
    g: Array
    count: Array
    squares: Array
    low: Array
    high: Array
    n_windows: int
    failed: dict[int, NDArray[np.intp]]
    nfe: int

    def __add__(self, other: Sums) -> Sums:
        """The sums of both."""
        return Sums(
            self.loss + other.loss,
            self.H + other.H,
            self.g + other.g,
            self.count + other.count,
            self.squares + other.squares,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.n_windows + other.n_windows,
            self.failed | other.failed,
            self.nfe + other.nfe,
        )


@dataclass(frozen=True)
class Task:
    """What is computed of each partition, but for the parameters; it is sent to workers.

    Attributes
    ----------
    field : bytes
        The pickled field, which a worker unpacks once.
    scaling : Scaling
        Units of the field (`pynode.models.trajectories.scaling`): states, times, inputs.
    coordinates : Coordinates
    options : dict
        Of `pynode.solve`.
    intervals : int or None
        Length of the windows; None: whole trajectories.
    kind : str
        How control inputs go between their times.
    spread : (d,) array
        Variances of the states.
    second : bool
        Normal equations; else the gradient alone.
    """

    field: bytes
    scaling: Any
    coordinates: Coordinates
    options: dict[str, Any]
    intervals: int | None
    kind: Kind
    spread: Array
    second: bool = True

    def windows(self, rows: Rows) -> tuple[Rows, Signal | None]:
        """The windows of a partition and their control inputs, in the units of the field."""
        cut, source = rows.windows(self.intervals)
        signal = None
        if rows.u.shape[1]:
            t, _, u = rows.series()
            signal = self.scaling.inputs(Signal(t, u, self.kind))
        units = Rows(self.scaling.times(cut.t), self.scaling.states(cut.y), cut.u, cut.length, cut.ids)
        if signal is None or not len(units):
            return units, None
        first = starts(units.length)
        return units, signal.windows(source, units.t[first], units.t[first + units.length - 1])


@lru_cache(maxsize=4)
def _unpacked(field: bytes) -> Field:
    made: Field = pickle.loads(field)
    return made


def sums(k: int, rows: Rows, task: Task, x: Array, variance: Array, dead: dict[int, NDArray[np.intp]]) -> Sums:
    """The sums of partition k.

    Parameters
    ----------
    k : int
        Which partition.
    rows : Rows
        Its trajectories.
    task : Task
        What is computed.
    x : (n,) array
        The coordinates of the parameters.
    variance : (d,) array
        The variance of the noise: residuals are weighted by its inverse.
    dead : dict of int -> int array
        Partition -> windows that take no part.

    Returns
    -------
    Sums
    """
    with OneThread():
        cut, signal = task.windows(rows)
        alive = np.setdiff1d(np.arange(len(cut)), dead.get(k, np.zeros(0, np.intp)))
        field = _unpacked(task.field)
        d, n = field.d, len(x)
        size = (n, n) if task.second else (0, 0)
        zero = np.zeros(d)
        total = Sums(0.0, np.zeros(size), np.zeros(n), zero, zero, zero + np.inf, zero - np.inf, 0, {}, 0)
        for which in _pieces(cut.length, alive, d * (field.n_params * task.second + 2 * d)):
            piece = Piece(task, cut.take(which), None if signal is None else signal.take(which), 1.0 / variance)
            total = total + piece.sums(x, k, which)
        return total


def _pieces(length: NDArray[np.int64], alive: NDArray[np.intp], per_row: int) -> Iterator[NDArray[np.intp]]:
    """The windows that are worked on together, of limited memory."""
    group = np.cumsum(length[alive]) * per_row // PART
    if len(alive):
        yield from np.split(alive, np.flatnonzero(np.diff(group)) + 1)


class Piece:
    """Windows that are worked on together.

    Parameters
    ----------
    task : Task
    rows : Rows
        In the units of the field.
    signal : Signal or None
    weight : (d,) array
        Of the squares.
    start : (W, d) array, optional
        Where the search for initial states starts. Default: the first readings.
    """

    def __init__(self, task: Task, rows: Rows, signal: Signal | None, weight: Array, start: Array | None = None) -> None:
        self.task = task
        self.field = field = _unpacked(task.field)
        self.rows = rows
        self.first = starts(rows.length)
        self.owner = np.repeat(np.arange(len(rows)), rows.length)
        seen = ~np.isnan(rows.y)
        self.root = seen * np.sqrt(weight)
        self.data = np.where(seen, rows.y, 0.0)
        self.weight = weight
        self.start = self._first_readings(seen) if start is None else start
        self.prior = np.broadcast_to(WEAK * weight, self.start.shape)
        self.limits = limits(field)
        self.signal = signal
        self.plain = self._prepared(field, self.start, task.options, gradient=True)
        self.nfe = 0

    @cached_property
    def tangent(self) -> PreparedSolve:
        """The field beside its derivatives along the initial state."""
        both = np.concatenate([self.start, 0 * self.start], axis=1)
        beside = beside_tangents(self.task.options, self.field.d)
        return self._prepared(tangent_field(self.field, of_theta=False), both, beside)

    def _prepared(self, field: Field, y0: Array, options: dict[str, Any], gradient: bool = False) -> PreparedSolve:
        batch = Batch(self.rows.t, self.first, self.rows.length, self.first, np.ascontiguousarray(y0), "ragged", 0)
        return PreparedSolve(field, batch, Options.of("solve", options | {"inputs": self.signal}), gradient=gradient)

    def _first_readings(self, seen: NDArray[np.bool_]) -> Array:
        """(W, d) the first reading of each state; the mean of all where there is none."""
        place = np.where(seen, np.arange(len(seen))[:, None], len(seen))
        first = np.minimum.reduceat(place, self.first, axis=0)
        own = first < len(seen)
        found = self.data[np.minimum(first, len(seen) - 1), np.arange(self.data.shape[1])]
        mean = self.data.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        y0 = np.where(own, found, mean)
        return inside(y0, limits(self.field), MARGIN * np.sqrt(self.task.spread))

    def by_window(self, x: Array) -> Array:
        """Sums over the rows of each window."""
        return np.asarray(np.add.reduceat(x, self.first, axis=0))

    def residuals(self, theta: Array, free: Array) -> tuple[Array, Array]:
        """(weighted residuals (rows, d), sums of squares (W,): infinite where a window cannot be solved)."""
        raw = self.plain.run(theta, y0=free)
        self.nfe += int(raw["nfe"].sum())
        ok = raw["status"] == OK
        with np.errstate(invalid="ignore", over="ignore"):
            r = np.where(ok[self.owner, None], self.root * (raw["y"] - self.data), 0.0)
            value = self.by_window((r * r).sum(axis=1)) + self._pull(free)
        return r, np.where(ok & np.isfinite(value), value, np.inf)

    def _pull(self, free: Array) -> Array:
        return np.asarray((self.prior * (free - self.start) ** 2).sum(axis=1))

    def of_states(self, theta: Array, free: Array) -> Array:
        """(rows, d, d) weighted derivatives of the states with respect to the initial ones; 0 beyond all bounds."""
        d = self.field.d
        psi = np.empty((len(self.data), d, d))
        for i in range(d):
            along = np.zeros_like(free)
            along[:, i] = 1.0
            raw = self.tangent.run(theta, y0=np.concatenate([free, along], axis=1))
            self.nfe += int(raw["nfe"].sum())
            psi[:, :, i] = raw["y"][:, d:]
        usable = np.abs(psi).max(axis=(1, 2), initial=0.0) < HUGE
        return np.where(usable[:, None, None], self.root[:, :, None] * psi, 0.0)

    def precision(self, J: Array) -> Array:
        """(W, d, d) J^T J of the initial states, from (rows, d, d) derivatives."""
        return self.by_window(np.einsum("nci,ncj->nij", J, J)) + self.prior[:, :, None] * np.eye(self.field.d)

    def slope(self, J: Array, r: Array, free: Array) -> Array:
        """(W, d) J^T r of the initial states."""
        return self.by_window(np.einsum("nci,nc->ni", J, r)) + self.prior * (free - self.start)

    def best_states(self, theta: Array) -> tuple[Array, Array]:
        """(initial states (W, d) that fit best, their sums of squares (W,)); the first readings where these fail.

        Levenberg-Marquardt, its derivatives kept for several steps: each then costs no more than a solve. Those that need
        more go on by themselves.
        """
        free = self.start.copy()
        value = np.full(len(free), np.inf)
        damping = np.full(len(free), LEAST_DAMPING)
        left = np.arange(len(free))
        piece = self
        for _ in range(ROUNDS):
            free[left], value[left], damping[left], going = piece._steps(theta, free[left], damping[left])
            if not going.any():
                break
            left = left[going]
            signal = None if self.signal is None else self.signal.take(left)
            piece = Piece(self.task, self.rows.take(left), signal, self.weight, self.start[left])
        return free, value

    def _steps(self, theta: Array, free: Array, damping: Array) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
        """(initial states, sums of squares, damping, (W,) who wants to go on) after steps with the derivatives at `free`."""
        r, value = self.residuals(theta, free)
        J = self.of_states(theta, free)
        A = self.precision(J)
        d = range(self.field.d)
        damping = damping.copy()
        for step in range(STEPS + 1):
            z = self.slope(J, r, free)
            damped = A.copy()
            damped[:, d, d] *= 1 + damping[:, None]
            move = -np.linalg.solve(damped, z[:, :, None])[:, :, 0]
            going = np.isfinite(value) & ((-move * z).sum(axis=1) > np.maximum(FOUND, ROUNDING * value))
            if step == STEPS or going.sum() <= FEW * len(going):
                break
            if self.limits is not None:
                move = np.clip(move, REACH * (self.limits[0] - free), REACH * (self.limits[1] - free))
            trial = np.where(going[:, None], free + move, free)
            r_new, new = self.residuals(theta, trial)
            better = going & (new < value)
            free = np.where(better[:, None], trial, free)
            r = np.where(better[self.owner, None], r_new, r)
            value = np.where(better, new, value)
            damping = np.where(going & ~better, np.maximum(10 * damping, 1e-3), damping)
        return free, value, damping, going

    def sums(self, x: Array, k: int, which: NDArray[np.intp]) -> Sums:
        """The sums of these windows, `which` of partition k."""
        theta = np.ascontiguousarray(self.task.coordinates.theta(x))
        free, value = self.best_states(theta)
        lost = ~np.isfinite(value)
        raw = self.plain.run(theta, y0=free, sensitivity=True) if self.task.second else self.plain.run(theta, y0=free)
        self.nfe += int(raw["nfe"].sum())
        gone = lost[self.owner]
        y = np.where(gone[:, None], 0.0, raw["y"])
        r = self.root * (y - self.data)
        r[gone] = 0.0
        loss = float(self._pull(free)[~lost].sum() + (r * r).sum())
        if self.task.second:
            H, g, drop, chaos = self._normal_equations(raw["sensitivity"], r, free, gone, x)
        else:
            H, (g, drop, chaos) = np.zeros((0, 0)), self._gradient(theta, r, free, lost, x)
        lost |= chaos
        seen = (self.root > 0) & ~gone[:, None]
        return Sums(
            np.inf if lost.any() else loss - drop,
            H,
            g,
            seen.sum(axis=0).astype(np.float64),
            (np.where(seen, y - self.data, 0.0) ** 2).sum(axis=0),
            np.where(gone[:, None], np.inf, y).min(axis=0, initial=np.inf),
            np.where(gone[:, None], -np.inf, y).max(axis=0, initial=-np.inf),
            int((~lost).sum()),
            {k: which[lost]} if lost.any() else {},
            self.nfe,
        )

    def _normal_equations(
        self, S: Array, r: Array, free: Array, gone: NDArray[np.bool_], x: Array
    ) -> tuple[Array, Array, float, NDArray[np.bool_]]:
        """(H, g, by how much a last step of the initial states lowers the sum of squares, (W,) chaos): states eliminated."""
        n, d = len(x), self.field.d
        p = self.field.n_params
        J = np.where(gone[:, None, None], 0.0, S)
        size = np.abs(J).max(axis=(1, 2), initial=0.0)
        chaos = np.maximum.reduceat(np.where(np.isfinite(size), size, np.inf), self.first) >= HUGE
        J[chaos[self.owner]] = 0.0
        if not self.task.coordinates.trivial:
            J = np.concatenate([self.task.coordinates.jacobian(x, J[:, :, :p]), J[:, :, p:]], axis=2)
        J *= self.root[:, :, None]
        own = np.ascontiguousarray(J[:, :, n:])
        A, z = self.precision(own), self.slope(own, r, free)
        C = self._between(J, n)
        gain = np.linalg.solve(A, np.concatenate([C, z[:, :, None]], axis=2))
        both = np.concatenate([C, z[:, :, None]], axis=2).reshape(-1, n + 1).T @ gain.reshape(-1, n + 1)
        whole = gram(J.reshape(-1, n + d))[:n, :n]
        g = J[:, :, :n].reshape(-1, n).T @ r.ravel()
        return whole - both[:n, :n], g - both[:n, n], float(both[n, n]), chaos

    def _between(self, J: Array, n: int) -> Array:
        """(W, d, n) J^T J between the initial states and the coordinates."""
        W, d = len(self.rows), self.field.d
        length = self.rows.length
        if (length == length[0]).all():
            whole = J.reshape(W, -1, n + d)
            found: Array = np.matmul(whole[:, :, n:].transpose(0, 2, 1), whole[:, :, :n])
            return found
        C = np.zeros((W, d, n))
        for i in range(d):
            C[:, i] = self.by_window(np.einsum("nc,ncj->nj", J[:, :, n + i], J[:, :, :n]))
        return C

    def _gradient(
        self, theta: Array, r: Array, free: Array, lost: NDArray[np.bool_], x: Array
    ) -> tuple[Array, float, NDArray[np.bool_]]:
        """(g, 0, (W,) chaos): at the best initial states the gradient with respect to them is 0."""
        raw = self.plain.run(theta, y0=free, g_y=np.ascontiguousarray(self.root * r), gradient="discrete")
        self.nfe += int(raw["nfe"].sum())
        g = self.task.coordinates.pull(x, np.asarray(raw["g_theta"]))
        bad = not np.isfinite(g).all()
        return np.where(np.isfinite(g), g, 0.0), 0.0, np.full(len(lost), bad)
