"""Solving: `solve`, `Solution`."""

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from pynode import _core
from pynode.arguments import (
    MAX_STEPS,
    Batch,
    as_batch,
    as_dynamics,
    as_memory,
    as_theta,
    integer,
    positive,
    real_array,
    real_dtype,
    tolerances,
)
from pynode.errors import MESSAGES, OK, STATUS, SolveError, SolveWarning
from pynode.inputs import as_signal
from pynode.plans import keep, recall, serves
from pynode.systems import System, core_parts, jumping_rows

METHODS = {row["name"]: row for row in _core.tableaus()}
"""name -> the method's tableau: order, stages, coefficients (the rows of csrc/tableau.c)."""

MAX_FIXED = 1e10
"""So many fixed steps are taken for a mistake."""

FAILURES = ("warn", "raise", "ignore")


@dataclass(frozen=True)
class Stats:
    """What a solve cost, per sample.

    Attributes
    ----------
    nfe, accepted, rejected : (B,) int64 arrays (integers for one sample)
        Evaluations of the field, accepted steps, rejected attempts.
    backend : str
        The instruction set of the C core, or "callback" where Python evaluates the field (slow).
    """

    nfe: np.ndarray | int
    accepted: np.ndarray | int
    rejected: np.ndarray | int
    backend: str


@dataclass(frozen=True)
class Options:
    """The keywords that say how to solve; see `solve`."""

    method: str = "dopri5"
    rtol: float = 1e-6
    atol: float = 1e-8
    step: float | None = None
    save: str = "interpolate"
    inputs: object = None
    max_steps: int | None = None
    first_step: float | None = None
    max_step: float | None = None
    grid: object = None
    coupling: float = 0.0
    threads: int = 0

    def __post_init__(self):
        if not isinstance(self.method, str) or self.method not in METHODS:
            raise ValueError(f"method={self.method!r} is not one of {', '.join(METHODS)}")
        coupling = positive("coupling", self.coupling, zero=True)
        if coupling > 1:
            raise ValueError(f"coupling={coupling:g} must be between 0 and 1 (0: the plain method)")
        if self.save not in ("interpolate", "land"):
            raise ValueError(f"save={self.save!r} must be 'interpolate' or 'land'")

    @classmethod
    def of(cls, caller, options):
        """From the keywords of a function."""
        unknown = [name for name in options if name not in cls.__dataclass_fields__]
        if unknown:
            raise TypeError(
                f"{caller}() got an unexpected keyword argument {unknown[0]!r}; the options of the solve are "
                f"{', '.join(cls.__dataclass_fields__)}"
            )
        return cls(**options)

    @property
    def partitioned(self):
        """Whether the method treats the halves (q, v) of the state differently."""
        return METHODS[self.method]["second"] is not None

    def _check_partitioned(self, d):
        if d % 2:
            raise ValueError(f"method={self.method!r} splits the state into halves (q, v): its size must be even, not {d}")
        if self.coupling > 0:
            raise ValueError(
                f"method={self.method!r} has no reversible scheme, coupling must be 0; for a reversible one take 'rk4' or "
                "another method with one table"
            )

    def arguments(self, d):
        """Keywords of `_core.Problem` but for data."""
        if self.partitioned:
            self._check_partitioned(d)
        fixed = self.step is not None or self.grid is not None
        if not fixed and METHODS[self.method]["error_order"] == 0:
            adaptive = [name for name, row in METHODS.items() if row["error_order"]]
            raise ValueError(
                f"method={self.method!r} has no error estimate: give step=, or take one of {', '.join(adaptive)}"
            )
        if self.step is not None and self.grid is not None:
            raise ValueError("step and grid both prescribe the steps: give one of them")
        keys = {
            "method": self.method,
            "land": self.save == "land" or self.coupling > 0,
            "adaptive": not fixed,
            "threads": integer("threads", self.threads or 0, 0, 4096),
            "max_steps": self._max_steps(fixed),
        }
        keys |= tolerances(self.rtol, self.atol, d)
        if fixed:
            clash = [n for n in ("first_step", "max_step") if getattr(self, n) is not None]
            if clash:
                raise ValueError(f"{clash[0]} belongs to adaptive steps; it has no meaning with step= or grid=")
        for name in ("step", "first_step", "max_step"):
            if getattr(self, name) is not None:
                keys[name] = positive(name, getattr(self, name))
        order = METHODS[self.method]["error_order"]
        return keys | {"coupling": float(self.coupling), "beta": 0.2 if order else 0.0}

    def _max_steps(self, fixed):
        if self.max_steps is None:
            return 2**62 if fixed else MAX_STEPS
        return integer("max_steps", self.max_steps, 1)

    def check_span(self, batch):
        """A fixed step that would never get there is refused, unless max_steps says that it is meant."""
        if self.step is None or self.max_steps is not None or not batch.t.size:
            return
        longest = float(batch.t.max() - batch.t.min())
        if longest > MAX_FIXED * float(self.step):
            spans = batch.spans()
            longest = float((spans[:, 1] - spans[:, 0]).max(initial=0.0))
        if longest > MAX_FIXED * float(self.step):
            raise ValueError(
                f"step={self.step!r} makes {longest / float(self.step):.1g} steps on an interval of length "
                f"{longest:g}: take a larger one (or give max_steps= if it is meant)"
            )


def _grid_arguments(grid, batch, lands):
    """Prescribed steps: one array of step ends (first = initial time) for all samples, or a list of one for each. Times
    where `lands` (rows,) must be among them."""
    if not len(batch.y0):
        grid = np.zeros(1)
    each = isinstance(grid, (list, tuple)) and len(grid) > 0 and np.ndim(grid[0]) == 1
    grids = [real_array(f"grid[{i}]" if each else "grid", g, np.float64) for i, g in enumerate(grid if each else [grid])]
    n = len(batch.y0)
    if each and len(grids) != n:
        raise ValueError(f"grid holds {len(grids)} arrays for {n} samples: give one for each, or one for all")
    for i, g in enumerate(grids):
        if g.ndim != 1 or g.size == 0:
            raise ValueError(f"grid[{i}] has shape {g.shape}; it must be a 1-d array of step ends")
    length = np.array([g.size for g in grids], dtype=np.int64)
    start = np.concatenate([[0], np.cumsum(length)[:-1]]).astype(np.int64)
    for i in range(n) if lands.any() else ():
        t = batch.t[batch.start[i] : batch.start[i] + batch.length[i]]
        _check_lands(i, grids[i if each else 0], t[lands[batch.row[i] : batch.row[i] + batch.length[i]]])
    if not each:
        start, length = np.repeat(start, n), np.repeat(length, n)
    return {"grid": np.concatenate(grids), "grid_start": start, "grid_len": length}


def _check_grid_knots(keys, batch):
    """An input's polynomial changes at its knots: a prescribed step must not reach across one."""
    if "knot" not in keys:
        return
    for i, (low, high) in enumerate(batch.spans()):
        knot = keys["knot"][keys["knot_start"][i] : keys["knot_start"][i] + keys["knot_len"][i]][1:-1]
        knot = knot[(knot > low) & (knot < high)]
        grid = keys["grid"][keys["grid_start"][i] : keys["grid_start"][i] + keys["grid_len"][i]]
        missing = knot[~np.isin(knot, grid)]
        if len(missing):
            raise ValueError(
                f"grid[{i}] steps over t = {missing[0]:g}, a knot of the inputs: the grid must contain the "
                "knots inside the interval"
            )


def _check_lands(i, grid, t):
    """The core's notion of the same time is four units in the last place."""
    if not len(t):
        return
    grid, t = (grid, t) if grid[0] <= grid[-1] else (-grid, -t)
    after = np.clip(np.searchsorted(grid, t), 1, max(len(grid) - 1, 1))
    gap = np.minimum(np.abs(grid[after - 1] - t), np.abs(grid[np.minimum(after, len(grid) - 1)] - t))
    if (gap > 8.8e-16 * np.abs(t)).any():
        at = abs(t[np.argmax(gap)])
        raise ValueError(
            f"save='land', jumps and the reversible scheme need every time among the grid's: sample {i}, |t| = {at:g} is not"
        )


class Setup:
    """A batch, a field or a system, and options, checked and handed to the core once.

    Attributes
    ----------
    field, batch, options, data : what came in
    problem : _core.Problem
    signal, pieces : the inputs, or None
    jumps : (rows,) bool array, which times have a jump, or None
    shape : that of the batch
    """

    def __init__(self, f, batch, options, *, gradient=False, own_inputs=False, data=None, **extra):
        self.field, self.batch, self.options, self.dtype, self.data = f, batch, options, batch.y0.dtype, data
        self.signal, self.pieces = as_signal(options.inputs, f.inputs), None
        keys = options.arguments(f.d)
        if isinstance(f, System):
            keys |= core_parts(f, batch, data, gradient)
        elif data is not None:
            raise ValueError(f"data= is for the jumps of a System; {f.name} is a field")
        self.jumps = jumping_rows(f, batch, keys)
        if self.jumps is not None and options.coupling > 0:
            raise ValueError(f"coupling={options.coupling:g}: the reversible scheme cannot go back through jumps")
        options.check_span(batch)
        if self.signal is not None:
            self.pieces = self.signal.pieces(len(batch.y0), self.dtype, batch.spans(), own=own_inputs)
            keys |= self.pieces.arguments()
        if options.grid is not None:
            keys |= _grid_arguments(options.grid, batch, self.lands)
            _check_grid_knots(keys, batch)
        reverse = f.vjp_program.core if gradient else None
        self.problem = _core.Problem(
            f.program.core,
            reverse,
            y0=batch.y0,
            t=batch.t,
            t_start=batch.start,
            t_len=batch.length,
            row=batch.row,
            **(keys | extra),
        )
        self.backend, self.single = "callback" if f.callbacks else None, batch.kind == "single"
        self.shape = batch.shape

    @property
    def lands(self):
        """(rows,) which times steps must end at, besides the first and the last of each sample."""
        if self.options.save == "land" or self.options.coupling > 0:
            return np.ones(self.batch.rows, bool)
        return np.zeros(self.batch.rows, bool) if self.jumps is None else self.jumps

    def run(self, theta, **keys):
        """One solve: the results of `_core.Problem.run`; theta is an array of the batch's dtype."""
        callback = self.field.bind_callbacks(theta.astype(np.float64)) if self.field.callbacks else None
        return self.problem.run(theta, callback=callback, **keys)


class Result:
    """What does not change after it was made; attributes may be made when they are first asked for."""

    def __setattr__(self, name, value):
        raise AttributeError(f"a {type(self).__name__} cannot be changed")


class Solution(Result):
    """The result of `solve`.

    Attributes
    ----------
    t : the times, as given
    y : (T, d), (B, T, d), or a list of (T_i, d)
        States at the times (after the jumps of a System there); NaN after a failure.
    status : int or (B,) int32 array
        0 is ok; names in `pynode.STATUS`.
    stats : Stats
    field : Field or System
    theta : (n_params,) array
    """

    theta: np.ndarray
    y: Any
    _setup: Setup
    _raw: _core.Results
    _y0: np.ndarray | None
    _t: np.ndarray | None

    def __init__(self, setup, theta, raw, y0=None, t=None):
        """y0 and t: where they are not those of the setup's batch, but of the same shapes."""
        values, rows, shape = self.__dict__, raw["y"], setup.shape
        values["y"] = rows.reshape(shape) if shape else setup.batch.unflatten(rows)
        values["theta"], values["_setup"], values["_raw"] = theta, setup, raw
        values["_y0"], values["_t"] = y0, t

    @cached_property
    def _batch(self):
        batch = self._setup.batch
        return batch if self._y0 is None else replace(batch, y0=self._y0.reshape(batch.y0.shape), t=self._t)

    @cached_property
    def t(self):
        return self._batch.times()

    @cached_property
    def status(self):
        status = self._raw["status"]
        return int(status[0]) if self._setup.single else status

    @cached_property
    def stats(self):
        values: list = [self._raw[name] for name in ("nfe", "accepted", "rejected")]
        nfe, accepted, rejected = [int(v[0]) for v in values] if self._setup.single else values
        return Stats(nfe, accepted, rejected, self._setup.backend or self._raw["isa"])

    @property
    def field(self):
        return self._setup.field

    def __repr__(self):
        shape = self.y.shape if isinstance(self.y, np.ndarray) else [y.shape for y in self.y]
        return f"<Solution of {self.field.name}: y {shape}, {self.message()}>"

    @property
    def ok(self):
        """Whether every sample reached its last time."""
        return self._raw["failed"] == 0

    @property
    def y_before(self):
        """States before the jumps of a System, in the shape of y."""
        if "y_before" not in self._raw:
            raise ValueError("y_before is the state before a jump, but there was none: solve a System with jump=")
        return self._setup.batch.unflatten(self._raw["y_before"])

    @property
    def steps(self):
        """Ends of the accepted steps, first = initial time: an array for one sample, else a list (needs steps=True)."""
        if "steps" not in self._raw:
            raise ValueError("the steps were not kept: solve(..., steps=True) or dense=True keeps them")
        grids = self._grids
        return grids[0] if self._setup.single else grids

    @cached_property
    def _grids(self):
        record, offset = self._raw["steps"]
        batch = self._batch
        grids = []
        for i, (a, b) in enumerate(pairwise(offset)):
            first = batch.t[batch.start[i]]
            if b == a:
                grids.append(np.array([first]))
                continue
            last, end = batch.t[batch.start[i] + batch.length[i] - 1], record[b - 1, 0] + record[b - 1, 1]
            end = (
                last if abs(end - last) <= 4.5e-16 * max(abs(end), abs(last), abs(record[b - 1, 0])) else end
            )  # t + (last - t)
            grids.append(np.concatenate([[first], record[a + 1 : b, 0], [end]]))
        return grids

    def __call__(self, t, sample=None):
        """The solution between the steps (needs dense=True).

        Parameters
        ----------
        t : float or array of times inside the interval that was solved
        sample : int, optional
            Which sample of a batch; all of them (a stacked result) if not given.

        Returns
        -------
        (..., d) array; for a batch (B, ..., d)
        """
        if not self._setup_dense:
            raise ValueError("the dense output was not kept: solve(..., dense=True) keeps it")
        if self._setup.single:
            return self._dense(t, 0)
        if sample is not None:
            n = len(self._batch.y0)
            if not -n <= sample < n:
                raise IndexError(f"sample={sample} is none of the {n} samples")
            return self._dense(t, sample % n)
        if not len(self._batch.y0):
            return np.zeros((0, *np.shape(t), self.field.d))
        return np.stack([self._dense(t, i) for i in range(len(self._batch.y0))])

    @property
    def _setup_dense(self):
        return "steps" in self._raw and self._raw["steps"][0].shape[1] > 2

    def _dense(self, t, i):
        record, offset = self._raw["steps"]
        record, d, t = record[offset[i] : offset[i + 1]], self.field.d, real_array("t", t, np.float64)
        if not len(record):
            first = self._batch.t[self._batch.start[i]]
            if (t != first).any():
                raise ValueError(f"sample {i} was solved at t = {first:g} only")
            return np.broadcast_to(self._batch.y0[i], (*t.shape, d)).astype(np.float64)
        low, high = sorted((record[0, 0], record[-1, 0] + record[-1, 1]))
        slack = 1e-12 * max(abs(low), abs(high))
        if t.size and (not (t >= low - slack).all() or not (t <= high + slack).all()):
            raise ValueError(f"t must lie in the interval that was solved, [{low:g}, {high:g}]")
        way = 1 if record[0, 1] > 0 else -1
        at = np.clip(np.searchsorted(way * record[:, 0], way * t, side="right") - 1, 0, len(record) - 1)
        theta = (t - record[at, 0]) / record[at, 1]
        coef = record[at, 2:].reshape(*t.shape, -1, d)
        y = np.zeros((*t.shape, d))
        for q in range(coef.shape[-2] - 1, -1, -1):
            y = y * theta[..., None] + coef[..., q, :]
        return y

    def message(self, sample=None):
        """What happened, with a hint, in a line."""
        raw, batch = self._raw, self._batch
        bad = np.flatnonzero(raw["status"] != OK) if sample is None else [sample]
        if len(bad) == 0 or raw["status"][bad[0]] == OK:
            return "ok"
        i = int(bad[0])
        status = raw["status"][i]
        where = f" component {raw['stop_component'][i]}" if raw["stop_component"][i] >= 0 else ""
        bad_y0 = np.flatnonzero(~np.isfinite(batch.y0[i]))
        if STATUS[status] == "bad_input" and len(bad_y0):
            where += f", y0[{'' if self._setup.single else f'{i}, '}{bad_y0[0]}] is {batch.y0[i, bad_y0[0]]}"
        many = f"{len(bad)} of {len(batch.y0)} samples failed; sample {i}: " if len(batch.y0) > 1 else ""
        return f"{many}{STATUS[status]} at t = {raw['stop_t'][i]:.6g}{where}: {MESSAGES[status]}"

    def vjp(self, dy, wrt=("theta", "y0"), adjoint=None, memory=None):
        """Gradients of any loss of yours: vector-Jacobian product with the cotangent dy of y.

        Parameters
        ----------
        dy : like y
            dL/dy at every saved entry.
        wrt : tuple out of "theta", "y0", "t", "inputs", "data"
        adjoint : {"discrete", "backsolve", "interpolating", "reversible"}, optional
            Default "discrete" ("reversible" where the solve was). The solve is run again.
        memory : int or str, optional
            Budget of the tape, e.g. "64MB".

        Returns
        -------
        Gradients
        """
        from pynode.gradients import solution_vjp

        return solution_vjp(self, dy, wrt, adjoint, memory)


def check_errors(errors):
    """Before the work is done."""
    if errors not in FAILURES:
        raise ValueError(f"errors={errors!r} must be one of {', '.join(FAILURES)}")


def report(solution, errors, stacklevel=3):
    """Warn or raise about failed samples."""
    if errors != "ignore" and not solution.ok:
        if errors == "raise":
            raise SolveError(solution.message())
        warnings.warn(solution.message(), SolveWarning, stacklevel=stacklevel)


def solve(
    f,
    y0,
    t,
    theta=None,
    *,
    method="dopri5",
    rtol=1e-6,
    atol=1e-8,
    step=None,
    save="interpolate",
    inputs=None,
    max_steps=None,
    first_step=None,
    max_step=None,
    grid=None,
    coupling=0.0,
    data=None,
    dense=False,
    steps=False,
    dtype=None,
    threads=0,
    errors="warn",
    events=None,
    max_events=1000,
):
    """Solve dy/dt = f(t, y; theta) for one sample or a batch.

    Every sample has steps of its own; a stiff one does not slow the others, and its result does not depend on who shares
    the batch.

    Parameters
    ----------
    f : Field, System, or a function f(t, y) -> (d,)
        A plain Python function is called at every stage (slow; ``stats.backend == "callback"``).
    y0 : (d,) or (B, d) array
        Initial states. float32 solves in float32, all else in float64.
    t : (T,) array, (B, T) array, or list of B arrays
        Times of the results, the first being the initial time. Monotone, either direction; repeats are allowed.
    theta : (n_params,) array or nested dict
        Parameters of the field.
    method : str
        "euler", "midpoint", "heun", "rk4", "rk38", "bosh3", "dopri5", "tsit5", "dop853"; "leapfrog" (order 2), "yoshida4":
        symplectic for y = (q, v) in halves where dq/dt does not depend on q and dv/dt not on v (`second_order`,
        `hamiltonian` with H = T(p) + V(q)), with step= or grid=. Elsewhere (friction) they are of order 2 and 3, and
        not symplectic.
    rtol, atol : float
        Relative and absolute tolerance of the local error (root mean square over components); atol may be (d,).
    step : float, optional
        Fixed step size; the last step of the interval is shortened to land on its end.
    save : {"interpolate", "land"}
        Results by the method's dense output, or with a step ending at every time.
    inputs : Signal, (t, u), (t, u, kind), or array (m,) / (B, m)
        The input signal of a field with inputs; see `Signal`.
    max_steps : int, optional
        Attempts allowed for each sample; default 100000 (no limit for a fixed step).
    first_step, max_step : float, optional
        Bounds for adaptive steps; the default first step is Hairer's.
    grid : (N,) array or list of B arrays, optional
        Prescribed ends of all steps, from the initial to the last time.
    coupling : float
        0 < coupling <= 1: the reversible scheme of McCallum & Foster (2024) over the method, landing on every time.
        Its gradient goes the steps back, where rounding grows like coupling^-steps: stay close to 1.
    data : (T, k), (B, T, k), or list of (T_i, k), optional
        What the jump of a System takes at each time: a step ends there, and the state becomes J(t, y, x). Where the first
        entry is NaN, nothing jumps. The result is the state after the jump; `Solution.y_before` that before it.
    dense, steps : bool
        Keep the dense output (``sol(t)``), the ends of the steps (``sol.steps``).
    dtype : {float64, float32}, optional
    threads : int
        0: `pynode.set_num_threads` or the environment variable PYNODE_NUM_THREADS decides. The result is the same.
    errors : {"warn", "raise", "ignore"}
        What to do if samples fail; their results are NaN from the failure on, the others are not touched.
    events : Event or list of Event, optional
        What happens where a function of t and y changes its sign; see `pynode.event`.
    max_events : int
        More events of one sample are a failure.

    Returns
    -------
    Solution, or EventSolution where there are events

    Raises
    ------
    ValueError, TypeError
        Arguments that cannot work.
    SolveError
        A sample failed and errors="raise".

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> @pn.field(state=2)
    ... def pendulum(t, y):
    ...     return [y[1], -np.sin(y[0])]
    >>> sol = pn.solve(pendulum, [1.0, 0.0], np.linspace(0, 10, 101))
    >>> sol.y.shape
    (101, 2)
    """
    check_errors(errors)
    key = (method, rtol, atol, step, save, max_steps, first_step, max_step, coupling, threads, dense, steps, dtype)
    setup = recall(f, key) if events is None and inputs is None and grid is None and data is None else None
    if setup is not None and (arrays := serves(setup, theta, y0, t)):
        theta, t = arrays
        solution = Solution(setup, theta, setup.problem.run(theta, y0=y0), y0, t)
        report(solution, errors)
        return solution
    if events is not None or hasattr(f, "events"):
        from pynode.events import solve_events

        y0 = real_array("y0", y0, real_dtype(dtype))
        options = Options(method, rtol, atol, step, save, inputs, max_steps, first_step, max_step, grid, coupling, threads)
        return solve_events(f, y0, t, theta, options, dense, steps, dtype, errors, events, max_events)
    y0 = real_array("y0", y0, real_dtype(dtype))
    f = as_dynamics(f, max(1, y0.shape[-1]) if y0.ndim else 1)
    batch = as_batch(y0, t, f.d, dtype)
    options = Options(method, rtol, atol, step, save, inputs, max_steps, first_step, max_step, grid, coupling, threads)
    setup = Setup(f, batch, options, data=data, dense=bool(dense), steps=bool(dense or steps))
    theta = as_theta(f, theta, setup.dtype)
    solution = Solution(setup, theta, setup.run(theta))
    keep(f, key, setup, setup)
    report(solution, errors)
    return solution


__all__ = ["METHODS", "Batch", "Options", "Solution", "Stats", "as_memory", "solve"]
