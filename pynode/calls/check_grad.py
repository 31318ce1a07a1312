"""`check_grad`: gradients against finite differences of the same steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.calls.objective import Objective, ObjectiveOptions
from pynode.data.arrays import as_integer, as_positive
from pynode.data.signal import Signal
from pynode.engine.options import one_method
from pynode.engine.problem import PreparedSolve
from pynode.engine.solution import Solution
from pynode.events.forward import solve_with_events
from pynode.events.rounds import Solver
from pynode.fields.arguments import as_dynamics, as_y0, shared_start
from pynode.fields.system import System

if TYPE_CHECKING:
    from pynode.data.batch import Batch
    from pynode.engine.gradients import Wrt
    from pynode.fields.arguments import Theta, Times
    from pynode.fields.field import Field


STENCIL = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}
"""Central difference of order 6: f' = sum_k c_k (f(x + k h) - f(x - k h)) / h."""


@dataclass(frozen=True)
class GradCheck:
    """A table of gradients.

    Attributes
    ----------
    names : list of str
        Which entry, e.g. "theta[3]".
    adjoint, difference : (n,) arrays
        The gradient method's value and the finite difference on the frozen steps.
    scale : (n,) array
        Largest gradient of the same group; errors are relative to it.
    """

    names: list[str]
    adjoint: NDArray[np.float64]
    difference: NDArray[np.float64]
    scale: NDArray[np.float64]

    @property
    def error(self) -> NDArray[np.float64]:
        """(n,) |adjoint - difference| / scale."""
        error: NDArray[np.float64] = np.abs(self.adjoint - self.difference) / np.where(self.scale > 0, self.scale, 1.0)
        return error

    @property
    def max_error(self) -> float:
        """The largest of `error`."""
        return float(self.error.max(initial=0.0))

    def __str__(self) -> str:
        width = max([len(n) for n in self.names] + [9])
        rows = [f"{'parameter':<{width}}  {'adjoint':>16}  {'difference':>16}  {'error':>8}"]
        rows += [
            f"{n:<{width}}  {a:16.9e}  {b:16.9e}  {e:8.1e}"
            for n, a, b, e in zip(self.names, self.adjoint, self.difference, self.error, strict=True)
        ]
        return "\n".join([*rows, f"largest error {self.max_error:.1e}"])


def check_grad(
    f: Field | System | Callable[..., Any],
    y0: ArrayLike,
    t: Times,
    theta: Theta,
    target: ArrayLike | Sequence[ArrayLike] | None = None,
    *,
    wrt: Wrt | Sequence[Wrt] = ("theta",),
    n_entries: int = 20,
    delta: float = 1e-4,
    random_state: int | None = 0,
    **options: Unpack[ObjectiveOptions],
) -> GradCheck:
    """Compare gradients with finite differences on the frozen steps.

    The accepted steps of one solve are prescribed to all the others (``grid=``), so that the loss is a smooth function;
    central differences of order 6. Where there are events their times move, so that no steps can be prescribed: the
    differences are then those of whole solves, and agree with the gradient to about the tolerance divided by `delta`. Ask
    for tight tolerances there (``method="dop853", rtol=1e-11, atol=1e-12``). With method="auto" no step may be stiff.

    Parameters
    ----------
    f, y0, t, theta, target, wrt : as in `loss_and_grad`
        What is solved, and what is differentiated.
    n_entries : int
        How many entries of each group are compared, drawn at random.
    delta : float
        Step of the differences, relative to max(1, |x|). Times move by a tenth of the shortest
        distance between steps, saved times and knots of the inputs; those on a knot are left out.
    random_state : int, optional
        Seed of the draw.
    **options : as in `loss_and_grad`
        How it is solved, compared with data and differentiated.

    Returns
    -------
    GradCheck
        `print` shows a table; `max_error` is the largest error relative to the largest gradient of its group.

    Raises
    ------
    ValueError
        method="auto", and a sample was stiff: steps of two methods cannot be prescribed.

    See Also
    --------
    loss_and_grad : the gradients that are checked.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> f = pn.mlp(2, (8,))
    >>> check = pn.check_grad(f, [1.0, 0.0], [0.0, 0.5, 1.0], f.init(0), np.zeros((3, 2)), n_entries=3)
    >>> check.max_error < 1e-8
    True
    """
    n_entries, delta = as_integer("n_entries", n_entries, 1), as_positive("delta", delta)
    f = as_dynamics(f, events=options.pop("events", None))
    y0 = shared_start(f, as_y0(f, y0, options.get("dtype")), theta)
    objective = Objective(f, y0, t, target, wrt=wrt, **options)
    value = objective.evaluate(theta, errors="raise")
    theta = value.solution.theta
    frozen = _Frozen(objective, theta) if objective.solver is None else _WithEvents(objective, theta)
    rng = np.random.default_rng(random_state)
    names, ours, theirs, scales = [], [], [], []
    for group in objective.wrt:
        x, gradient = frozen.values(group), np.concatenate([np.ravel(g) for g in _parts(getattr(value, group))])
        chosen = np.sort(rng.permutation(frozen.movable(group, x))[:n_entries])
        for i in chosen:
            names.append(f"{group}[{i}]")
            ours.append(gradient[i])
            theirs.append(frozen.difference(group, x, i, delta))
        scales += [np.abs(gradient).max(initial=0.0)] * len(chosen)
    return GradCheck(names, np.array(ours), np.array(theirs), np.array(scales))


def _parts(x: Any) -> Any:
    return x if isinstance(x, list) else [x]


class _Frozen:
    """The loss as a function of everything, on the steps of one solve."""

    def __init__(self, objective: Objective, theta: NDArray[Any]) -> None:
        self.objective, self.theta = objective, theta
        self.base = self._base()
        data = self.base.data
        if data is not None:
            data = self.base.batch.flatten("data", data, self.base.dtype, self._width_of_data())
        self.rows: dict[str, Any] = {"data": data, "target": objective.loss.target}

    @property
    def _own_inputs(self) -> bool:
        """Steps are those of the objective only where its inputs are its own too: they end at other knots."""
        return "inputs" in self.objective.wrt

    def _knots(self, i: int) -> NDArray[np.float64]:
        """Times that steps of sample i must not move over: the knots that they end at, else the ends of its signal."""
        signal, pieces = self.base.signal, self.base.pieces
        if signal is None or signal.kind == "constant":
            return np.zeros(0)
        knots: NDArray[np.float64] = pieces.knots(i)
        return knots[[0, -1]] if pieces.crosses[i] else knots

    def _on_knots(self, i: int, t: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the times t of sample i lie on a knot, where what moves them has no derivative."""
        signal = self.base.signal
        if signal is None or signal.kind == "constant":
            return np.zeros(len(t), bool)
        knots = self.base.pieces.knots(i)
        found: NDArray[np.bool_] = np.isclose(t[:, None], knots, rtol=0, atol=1e-12 * np.abs(knots).max()).any(axis=1)
        return found

    def _width_of_data(self) -> int:
        field = self.objective.field
        return field.n_data if isinstance(field, System) else 0

    def _base(self) -> Any:
        setup = self.objective.setup
        base = PreparedSolve(
            setup.field, setup.batch, setup.options, data=setup.data, own_inputs=self._own_inputs, steps=True
        )
        raw = base.run(self.theta)
        self.grids = Solution(base, self.theta, raw).grids
        self.frozen = one_method(setup.options, raw["stiff_steps"], "check_grad goes")
        return base

    def values(self, group: str) -> NDArray[np.float64]:
        batch, signal = self.base.batch, self.base.signal
        x: NDArray[np.float64]
        if group == "theta":
            x = self.theta.ravel().astype(np.float64)
        elif group == "y0":
            x = batch.y0.ravel().astype(np.float64)
        elif group == "t":
            x = batch.t.copy()
        elif group in ("data", "target"):
            x = self.rows[group].ravel().astype(np.float64)
        else:
            x = np.concatenate([v.ravel() for v in signal.u])
        return x

    def movable(self, group: str, x: Any) -> NDArray[Any]:
        """Entries that can change by themselves: not a time that is repeated or a knot of the inputs, nor one where a frozen
        step happens to end (the dense output has a kink there)."""
        entries = np.arange(x.size)
        if group in ("data", "target"):
            left_out = np.isnan(self.rows[group][:, :1])
            return np.flatnonzero(~np.broadcast_to(left_out, self.rows[group].shape))
        if group != "t":
            return entries
        batch, stuck = self.base.batch, np.zeros(x.size, bool)
        for i, (grid, a, n, row) in enumerate(zip(self.grids, batch.start, batch.length, batch.row, strict=True)):
            stuck[a : a + n] |= self._on_knots(i, x[a : a + n])
            same = np.diff(x[a : a + n]) == 0
            stuck[a : a + n] |= np.append(same, False) | np.append(False, same)
            inside = (x[a : a + n] != grid[0]) & (x[a : a + n] != grid[-1])
            inside &= ~self.base.lands[row : row + n]
            stuck[a : a + n] |= inside & np.isclose(x[a : a + n, None], grid, rtol=1e-14, atol=0).any(axis=1)
        return np.flatnonzero(~stuck)

    def difference(self, group: str, x: Any, i: int, delta: float) -> float:
        h = delta * max(1.0, abs(x[i]))
        if group == "t":
            gap = self._shortest_gap()
            h = 0.1 * gap if np.isfinite(gap) else h
        total = 0.0
        for k, c in STENCIL.items():
            up, down = x.copy(), x.copy()
            up[i] += k * h
            down[i] -= k * h
            total += c * (self.loss(group, up) - self.loss(group, down))
        return float(total / h)

    def _shortest_gap(self) -> float:
        """Between any two different points of steps, saved times and knots: closer ones would trade places."""
        batch, gaps = self.base.batch, []
        for i, (grid, a, n) in enumerate(zip(self.grids, batch.start, batch.length, strict=True)):
            gap = np.diff(np.sort(np.concatenate([grid, batch.t[a : a + n], self._knots(i)])))
            gaps.append(gap[gap > 1e-12 * np.abs(grid).max()].min(initial=np.inf))
        return float(min(gaps))

    def loss(self, group: str, x: Any) -> float:
        theta, batch, options, rows, grids = self._varied(group, x)
        options = replace(options, method=self.frozen.method, grid=grids, step=None, first_step=None, max_step=None)
        loss = self.objective.loss
        setup = PreparedSolve(
            self.objective.field,
            batch,
            options,
            data=None if rows["data"] is None else batch.unflatten(rows["data"]),
            own_inputs=self._own_inputs,
            **(loss.core_arguments() | {"target": rows["target"]}),
        )
        return self.objective.reduced(setup.run(theta))[0]

    def _varied(self, group: str, x: Any) -> Any:
        """(theta, batch, options, rows, grids) with the numbers of one group replaced by x."""
        batch, options, theta, rows, grids = self.base.batch, self.base.options, self.theta, self.rows, self.grids
        if group == "theta":
            theta = x.reshape(theta.shape).astype(theta.dtype)
        elif group == "y0":
            batch = replace(batch, y0=x.reshape(batch.y0.shape).astype(batch.y0.dtype))
        elif group == "t":
            grids = [self._moved(g, j, batch, x) for j, g in enumerate(grids)]
            batch = replace(batch, t=x)
        elif group in ("data", "target"):
            rows = rows | {group: x.reshape(rows[group].shape).astype(theta.dtype)}
        else:
            options = replace(options, inputs=self._signal(x))
        return theta, batch, options, rows, grids

    def _moved(self, grid: Any, j: int, batch: Batch, x: Any) -> Any:
        """The grid with the points that were at saved times moved to where those are now."""
        a, n, row = batch.start[j], batch.length[j], batch.row[j]
        old, new = batch.t[a : a + n], x[a : a + n]
        grid, moves = grid.copy(), self.base.lands[row : row + n].copy()
        moves[[0, -1]] = True
        for k in np.flatnonzero(moves):
            grid[np.isclose(grid, old[k], rtol=1e-14, atol=0)] = new[k]
        return grid

    def _signal(self, x: Any) -> Signal:
        old, parts, at = self.base.signal, [], 0
        for v in old.u:
            parts.append(x[at : at + v.size].reshape(v.shape))
            at += v.size
        if old.kind == "constant":
            parts = [p[0] for p in parts]
            return Signal(None, parts[0] if old.shared else np.stack(parts), "constant")
        return Signal(old.t[0] if old.shared else old.t, parts[0] if old.shared else parts, old.kind, old.knots)


class _WithEvents(_Frozen):
    """The loss as a function of everything, by whole solves: the steps follow the events."""

    def _base(self) -> Any:
        solver, most = self.objective.solver, self.objective.max_events
        assert solver is not None
        self.grids, self.events = [], solve_with_events(solver, self.theta, max_events=most).events
        return solver

    def movable(self, group: str, x: Any) -> NDArray[Any]:
        if group != "t":
            return super().movable(group, x)
        batch, stuck = self.base.batch, np.zeros(x.size, bool)
        for i, (a, n) in enumerate(zip(batch.start, batch.length, strict=True)):
            stuck[a : a + n] |= self._on_knots(i, x[a : a + n])
            same = np.diff(x[a : a + n]) == 0
            stuck[a : a + n] |= np.append(same, False) | np.append(False, same)
        return np.flatnonzero(~stuck)

    def _shortest_gap(self) -> float:
        batch = self.base.batch
        gap = np.inf
        for i, (a, n) in enumerate(zip(batch.start, batch.length, strict=True)):
            between = np.diff(np.sort(np.concatenate([batch.t[a : a + n], self.events.of(sample=i).t, self._knots(i)])))
            gap = min(gap, between[between > 1e-12].min(initial=np.inf))
        return gap

    def loss(self, group: str, x: Any) -> float:
        theta, batch, options, rows, _ = self._varied(group, x)
        o = self.objective
        data = None if rows["data"] is None else batch.unflatten(rows["data"])
        assert isinstance(o.field, System)
        solver = Solver(o.field, batch, options, own_inputs=self._own_inputs, data=data)
        solution = solve_with_events(solver, theta, max_events=o.max_events)
        loss = o.loss.with_target(rows["target"])
        return loss.reduced(*loss.of_results(solution.results, theta).totals)[0]
