"""`check_grad`: gradients against finite differences of the same steps."""

from dataclasses import dataclass, replace

import numpy as np

from pynode.data.arrays import as_integer, as_positive
from pynode.data.signal import Signal
from pynode.engine.objective import Objective
from pynode.engine.problem import PreparedSolve
from pynode.engine.solution import Solution
from pynode.fields.arguments import as_theta

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

    names: list
    adjoint: np.ndarray
    difference: np.ndarray
    scale: np.ndarray

    @property
    def error(self):
        """(n,) |adjoint - difference| / scale."""
        return np.abs(self.adjoint - self.difference) / np.where(self.scale > 0, self.scale, 1.0)

    @property
    def max_error(self):
        return float(self.error.max(initial=0.0))

    def __str__(self):
        width = max([len(n) for n in self.names] + [9])
        rows = [f"{'parameter':<{width}}  {'adjoint':>16}  {'difference':>16}  {'error':>8}"]
        rows += [
            f"{n:<{width}}  {a:16.9e}  {b:16.9e}  {e:8.1e}"
            for n, a, b, e in zip(self.names, self.adjoint, self.difference, self.error, strict=True)
        ]
        return "\n".join([*rows, f"largest error {self.max_error:.1e}"])


def check_grad(f, y0, t, theta, target=None, *, wrt=("theta",), n_entries=20, delta=1e-4, random_state=0, **options):
    """Compare gradients with finite differences on the frozen steps.

    The accepted steps of one solve are prescribed to all the others (``grid=``), so that the loss is a smooth function;
    central differences of order 6.

    Parameters
    ----------
    f, y0, t, theta, target, wrt, **options : see `loss_and_grad`
    n_entries : int
        How many entries of each group are compared, drawn at random.
    delta : float
        Step of the differences, relative to max(1, |x|). Times move by a tenth of the shortest
        distance between steps and saved times.

    Returns
    -------
    GradCheck
        `print` shows a table; `max_error` is the largest error relative to the largest gradient of its group.
    """
    n_entries, delta = as_integer("n_entries", n_entries, 1), as_positive("delta", delta)
    objective = Objective(f, y0, t, target, wrt=wrt, **options)
    value = objective.evaluate(theta, errors="raise")
    setup = objective.setup
    theta = as_theta(setup.field, theta, setup.dtype)
    frozen = _Frozen(objective, theta, options)
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


def _parts(x):
    return x if isinstance(x, list) else [x]


class _Frozen:
    """The loss as a function of everything, on the steps of one solve."""

    def __init__(self, objective, theta, options):
        self.objective, self.theta, self.options = objective, theta, options
        setup = objective.setup
        data = setup.data
        if data is not None:
            data = setup.batch.flatten("data", data, setup.dtype, setup.field.n_data)
        self.rows = {"data": data, "target": objective.target}
        self.base = PreparedSolve(setup.field, setup.batch, setup.options, data=setup.data, steps=True)
        self.grids = Solution(self.base, theta, self.base.run(theta))._grids

    def values(self, group):
        batch, signal = self.base.batch, self.base.signal
        if group == "theta":
            return self.theta.astype(np.float64)
        if group == "y0":
            return batch.y0.ravel().astype(np.float64)
        if group == "t":
            return batch.t.copy()
        if group in ("data", "target"):
            return self.rows[group].ravel().astype(np.float64)
        return np.concatenate([v.ravel() for v in signal.u])

    def movable(self, group, x):
        """Entries that can change by themselves: not a time that is repeated, nor one where a frozen step happens to end
        (the dense output has a kink there)."""
        entries = np.arange(x.size)
        if group in ("data", "target"):
            left_out = np.isnan(self.rows[group][:, :1])
            return entries[~np.broadcast_to(left_out, self.rows[group].shape).ravel()]
        if group != "t":
            return entries
        batch, stuck = self.base.batch, np.zeros(x.size, bool)
        for grid, a, n, row in zip(self.grids, batch.start, batch.length, batch.row, strict=True):
            same = np.diff(x[a : a + n]) == 0
            stuck[a : a + n] |= np.append(same, False) | np.append(False, same)
            inside = (x[a : a + n] != grid[0]) & (x[a : a + n] != grid[-1])
            inside &= ~self.base.lands[row : row + n]
            stuck[a : a + n] |= inside & np.isclose(x[a : a + n, None], grid, rtol=1e-14, atol=0).any(axis=1)
        return entries[~stuck]

    def difference(self, group, x, i, delta):
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
        return total / h

    def _shortest_gap(self):
        """Between any two different points of steps and saved times: closer ones would trade places."""
        batch, gaps = self.base.batch, []
        for grid, a, n in zip(self.grids, batch.start, batch.length, strict=True):
            gap = np.diff(np.sort(np.concatenate([grid, batch.t[a : a + n]])))
            gaps.append(gap[gap > 1e-12 * np.abs(grid).max()].min(initial=np.inf))
        return min(gaps)

    def loss(self, group, x):
        o, batch, options, theta, grids = self.objective, self.base.batch, self.base.options, self.theta, self.grids
        rows = self.rows
        if group == "theta":
            theta = x.astype(theta.dtype)
        elif group == "y0":
            batch = replace(batch, y0=x.reshape(batch.y0.shape).astype(batch.y0.dtype))
        elif group == "t":
            grids = [self._moved(g, j, batch, x) for j, g in enumerate(grids)]
            batch = replace(batch, t=x)
        elif group in ("data", "target"):
            rows = rows | {group: x.reshape(rows[group].shape).astype(theta.dtype)}
        else:
            options = replace(options, inputs=self._signal(x))
        options = replace(options, grid=grids, step=None, first_step=None, max_step=None)
        setup = PreparedSolve(
            o.field,
            batch,
            options,
            data=None if rows["data"] is None else batch.unflatten(rows["data"]),
            **(o.loss_keys | {"target": rows["target"]}),
        )
        return o._loss(setup.run(theta))[0]

    def _moved(self, grid, j, batch, x):
        """The grid with the points that were at saved times moved to where those are now."""
        a, n, row = batch.start[j], batch.length[j], batch.row[j]
        old, new = batch.t[a : a + n], x[a : a + n]
        grid, moves = grid.copy(), self.base.lands[row : row + n].copy()
        moves[[0, -1]] = True
        for k in np.flatnonzero(moves):
            grid[np.isclose(grid, old[k], rtol=1e-14, atol=0)] = new[k]
        return grid

    def _signal(self, x):
        old, parts, at = self.base.signal, [], 0
        for v in old.u:
            parts.append(x[at : at + v.size].reshape(v.shape))
            at += v.size
        if old.kind == "constant":
            parts = [p[0] for p in parts]
            return Signal(None, parts[0] if old.shared else np.stack(parts), "constant")
        return Signal(old.t[0] if old.shared else old.t, parts[0] if old.shared else parts, old.kind)
