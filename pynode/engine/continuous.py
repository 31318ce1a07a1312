"""Continuous adjoints: the gradient as the solution of another differential equation, solved from t1 back to t0.

    da/dt = -a^T df/dy,   dL/dtheta = -int_{t1}^{t0} a^T df/dtheta dt,   a jumps by dL/dy(t_k) at every saved time

(Pontryagin 1962; Chen et al. 2018, eq. 4-5). The adjoint system is a program made from the field's
(`pynode.programs.derivatives`), solved by the same core, which lands on the saved times, adds the jumps, and integrates the
parameter gradient as a quadrature outside the error control.

`backsolve` solves y back as well, reset to the saved values: O(1) memory, and an error wherever y is hard to solve
backwards. `interpolating` takes y(t) from the dense output of the forward solve. Neither is the derivative of the
numbers that the forward solve printed; both converge to it as the tolerances shrink.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.batch import starts
from pynode.engine.problem import PreparedSolve, before_switches, core_problem
from pynode.errors import OK
from pynode.fields.arguments import refuse_rows

if TYPE_CHECKING:
    from pynode.data.piecewise import PiecewisePolynomial
    from pynode.programs.program import Program


ONE_THETA = "adjoint={!r} takes one theta for all samples (adjoint='discrete' takes both)"


def backsolve(setup: PreparedSolve, theta: NDArray[Any], seed: Any, wanted: Sequence[str], memory: Any) -> Any:
    """Gradients by solving state and adjoint backwards; a row of `pynode.engine.gradients.ADJOINTS`."""
    refuse_rows(setup.field, theta, ONE_THETA.format("backsolve"))
    raw = setup.run(theta)
    seed = seed if isinstance(seed, np.ndarray) else seed.slopes(raw)
    batch, d = setup.batch, setup.field.d
    y, g, order = raw["y"], seed, batch.reversed_rows()
    last = batch.last_row
    zeros = np.zeros_like(y)
    z0 = np.concatenate([y[last], zeros[last]], axis=1)
    jumps = {
        "jump_set": np.concatenate([y, np.full_like(y, np.nan)], axis=1)[order],
        "jump_add": np.concatenate([zeros, g], axis=1)[order],
    }
    keys = _pieces(setup) | jumps
    back = _run_back(setup, setup.field.backsolve_program, raw, z0, theta, keys, wanted, atol_repeat=2)
    z = back["y"].reshape(-1, 2 * d)[last]
    coef = -back["quadrature_coef"] if "inputs" in wanted else None
    return _finish(setup, theta, raw, g, z[:, d:], -back["quadrature"], coef, wanted)


def interpolating(setup: PreparedSolve, theta: NDArray[Any], seed: Any, wanted: Sequence[str], memory: Any) -> Any:
    """Gradients by solving the adjoint along the forward dense output; a row of `pynode.engine.gradients.ADJOINTS`."""
    refuse_rows(setup.field, theta, ONE_THETA.format("interpolating"))
    dense = PreparedSolve(
        setup.field,
        setup.batch,
        setup.options,
        own_inputs="inputs" in wanted,
        dense=True,
        steps=True,
        **({} if isinstance(seed, np.ndarray) else seed.core_arguments()),
    )
    raw = dense.run(theta)
    seed = seed if isinstance(seed, np.ndarray) else seed.slopes(raw)
    batch, d, dtype = setup.batch, setup.field.d, setup.dtype
    path = Path(dense, raw["steps"], raw["status"] == OK)
    order = batch.reversed_rows()
    a0 = np.zeros((len(batch.y0), d), dtype)
    keys = path.arguments(dtype) | {"jump_set": np.full_like(seed, np.nan), "jump_add": seed[order]}
    back = _run_back(setup, setup.field.interpolating_program, raw, a0, theta, keys, wanted, atol_repeat=1)
    a = back["y"].reshape(-1, d)[batch.last_row]
    coef = path.pull(-back["quadrature_coef"]) if "inputs" in wanted else None
    return _finish(setup, theta, raw, seed, a, -back["quadrature"], coef, wanted)


# ---------------------------------------------------------------------------------------------------------------------
# The way back
# ---------------------------------------------------------------------------------------------------------------------


def _pieces(setup: PreparedSolve) -> Any:
    return setup.pieces.arguments() if setup.pieces is not None else {}


def _run_back(
    setup: PreparedSolve,
    program: Program,
    raw: Any,
    z0: NDArray[Any],
    theta: NDArray[Any],
    keys: dict[str, Any],
    wanted: Sequence[str],
    atol_repeat: int,
) -> Any:
    """Solve the adjoint program from the last time of every sample to its first.

    A sample that fails on this way has failed (raw says so from now on) and adds nothing: all is run again without it.
    """
    batch, f = setup.batch, setup.field
    options = setup.options.arguments(f.d)
    options |= {"land": True, "coupling": 0.0, "atol": np.tile(options["atol"], atol_repeat)}
    options.pop("first_step", None)  # it is for the other end
    if setup.options.grid is not None:
        raise ValueError("grid= prescribes the forward steps; a continuous adjoint takes its own: use adjoint='discrete'")
    times = batch.reversed()
    keys = keys | {"quadrature": bool(f.n_params), "quadrature_coef": "inputs" in wanted}
    while True:
        z0 = np.where((raw["status"] == OK)[:, None], z0, np.nan)  # refused at once
        problem = core_problem(program, None, z0, times, options, **keys)
        back = problem.run(theta, callback=None)
        lost = (raw["status"] == OK) & (back["status"] != OK)
        if not lost.any():
            break
        raw["stop_component"][lost] = -1
        for name in ("status", "stop_t"):
            raw[name][lost] = back[name][lost]
        raw["failed"] += int(lost.sum())
        for name in {"loss", "weight"} if "sample_loss" in raw else ():
            raw[f"sample_{name}"][lost] = 0.0
            raw[f"total_{name}"] = float(raw[f"sample_{name}"].sum())
    if not f.n_params:
        back["quadrature"] = np.zeros(0)
    return back


def _finish(
    setup: PreparedSolve,
    theta: NDArray[Any],
    raw: Any,
    g: NDArray[Any],
    a0: NDArray[Any],
    g_theta: NDArray[Any],
    g_coef: Any,
    wanted: Sequence[str],
) -> Any:
    """Cotangents at the saved times; a0 includes the jump at t0."""
    batch = setup.batch
    ok = raw["status"] == OK
    a0 = np.where(ok[:, None], a0, 0.0).astype(np.float64)
    g_t = None
    if "t" in wanted:
        usable = np.repeat(ok, batch.length)[:, None]
        slope, g = np.where(usable, _field_at_rows(setup, theta, raw["y"]), 0.0), np.where(usable, g, 0.0)
        g_t = (slope * g).sum(axis=1)
        first = batch.row
        at_start = batch.row_times() == np.repeat(batch.row_times()[first], batch.length)
        g_t[at_start] = 0.0
        later = np.where(at_start[:, None], g, 0.0)
        before = a0 - np.add.reduceat(later, first, axis=0) if len(first) else a0
        g_t[first] = -(before * slope[first]).sum(axis=1)
    return raw, g_theta, a0, g_t, g_coef


def _field_at_rows(setup: PreparedSolve, theta: NDArray[Any], y: NDArray[Any]) -> Any:
    """f at every saved time and state (rows, d), after the first one as before a switch or a knot there."""
    batch = setup.batch
    times = batch.row_times()
    sample = np.repeat(np.arange(len(batch.y0)), batch.length)
    way = np.where(times[batch.last_row] >= times[batch.row], 1, -1)[sample]
    begins = times == times[batch.row][sample]
    times = np.where(begins, times, before_switches(setup.field, setup.pieces, sample, times, way, setup.dtype)[0])
    u = None
    if setup.pieces is not None:
        u = np.concatenate(
            [setup.pieces.values(i, times[a : a + n]) for i, (a, n) in enumerate(zip(batch.row, batch.length, strict=True))]
        )
    return setup.field(times, y.astype(np.float64), theta.astype(np.float64), u)


# ---------------------------------------------------------------------------------------------------------------------
# The forward path as a piecewise polynomial input
# ---------------------------------------------------------------------------------------------------------------------


def shift_matrices(s: NDArray[Any], terms: int) -> Any:
    """(n, terms, terms) matrices M with q = M p when q(x) = p(x + s): M[q, r] = binom(r, q) s^(r - q)."""
    from math import comb

    M = np.zeros((len(s), terms, terms))
    for q in range(terms):
        for r in range(q, terms):
            M[:, q, r] = comb(r, q) * s ** (r - q)
    return M


def _cut(knots: NDArray[np.float64], p: NDArray[Any], at: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """The same polynomials, cut at the times `at` that lie inside, too."""
    merged = np.union1d(knots, at[(at > knots[0]) & (at < knots[-1])])
    source = np.searchsorted(knots, merged[:-1], side="right") - 1
    return merged, shift_matrices(merged[:-1] - knots[source], p.shape[1]) @ p[source]


class Path:
    """[y(t); u(t)] of every sample on the accepted steps, as polynomials about the earlier end of each step."""

    def __init__(self, setup: PreparedSolve, steps: Any, ok: NDArray[np.bool_]) -> None:
        record, offset = steps
        batch, pieces, d = setup.batch, setup.pieces, setup.field.d
        self.knots: list[NDArray[np.float64]] = []
        self.coefs: list[NDArray[np.float64]] = []
        self.maps: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        for i, (a, b) in enumerate(pairwise(offset)):
            rows = record[a:b]
            if not len(rows) or not ok[i]:  # nothing is evaluated in between
                t0 = batch.t[batch.start[i]]
                rows = np.concatenate([[[t0, 1.0]], np.zeros((1, record.shape[1] - 2))], axis=1)
            t, h = rows[:, 0], rows[:, 1]
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                p = rows[:, 2:].reshape(len(rows), -1, d) / h[:, None, None] ** np.arange((rows.shape[1] - 2) // d)[:, None]
            p = np.where(np.abs(p) < np.finfo(setup.dtype).max, p, 0.0)  # rounding, in high powers of a tiny step
            if h[0] < 0:
                p = shift_matrices(h, p.shape[1]) @ p
                t, p, h = (t + h)[::-1], p[::-1], -h[::-1]
            knots = np.append(t, t[-1] + h[-1])
            if pieces is not None and pieces.crosses[i]:
                knots, p = _cut(knots, p, pieces.knots(i))
            if pieces is not None:
                p = self._with_inputs(p, pieces, i, knots)
            self.knots.append(knots)
            self.coefs.append(p)
        self.d, self.pieces, self.jumps = d, pieces, bool(pieces is not None and pieces.jumps)

    def _with_inputs(self, p: NDArray[Any], pieces: PiecewisePolynomial, i: int, knots: NDArray[np.float64]) -> Any:
        terms = max(p.shape[1], pieces.coef.shape[1])
        knot = pieces.knots(i)
        middle = 0.5 * (knots[:-1] + knots[1:])
        at = np.clip(np.searchsorted(knot, middle, side="right") - 1, 0, len(knot) - 2)
        segment = pieces.seg_start[i] + at
        M = shift_matrices(knots[:-1] - knot[at], pieces.coef.shape[1])
        self.maps.append((segment, M))
        u = M @ pieces.coef[segment].astype(np.float64)
        return np.concatenate([np.pad(x, ((0, 0), (0, terms - x.shape[1]), (0, 0))) for x in (p, u)], axis=2)

    def arguments(self, dtype: Any) -> dict[str, Any]:
        count = np.array([len(c) for c in self.coefs], dtype=np.int64)
        return {
            "knot": np.concatenate(self.knots),
            "knot_start": starts(count + 1),
            "knot_len": count + 1,
            "seg_start": starts(count),
            "coef": np.concatenate(self.coefs).astype(dtype),
        }

    def pull(self, g: NDArray[Any]) -> Any:
        """Gradient of the inputs' own coefficients from that of the path's."""
        assert self.pieces is not None
        out, at = np.zeros(self.pieces.coef.shape), 0
        for segment, M in self.maps:
            part = g[at : at + len(segment), : M.shape[1], self.d :]
            np.add.at(out, segment, np.swapaxes(M, 1, 2) @ part)
            at += len(segment)
        return out
