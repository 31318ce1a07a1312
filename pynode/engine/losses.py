"""Losses on data: rho(r) of a residual r = y - target and its derivative, as in csrc/loss; `DataLoss`."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode import _core
from pynode.data.arrays import as_positive, kept, real_array
from pynode.data.batch import Batch
from pynode.engine.problem import rows_of
from pynode.errors import OK
from pynode.fields.arguments import states_by_name
from pynode.fields.event import pull_back
from pynode.fields.field import Field
from pynode.fields.system import System

LOSSES = {
    "mse": ("squared", True),
    "sse": ("squared", False),
    "mae": ("absolute", True),
    "huber": ("huber", True),
    "student": ("student", True),
}
"""name -> (the core's name for rho, whether the sum is divided by the sum of the weights)"""

Loss = Literal["mse", "sse", "mae", "huber", "student", "program"]

REDUCTIONS = ("sum", "mean")


def slope(name: str, r: NDArray[Any], scale: float, dof: float) -> NDArray[Any]:
    """d rho / d r."""
    kind = LOSSES[name][0]
    out: NDArray[Any]
    if kind == "squared":
        out = 2 * r
    elif kind == "absolute":
        out = np.sign(r)
    elif kind == "huber":
        out = np.clip(r, -scale, scale)
    else:
        out = (dof + 1) * r / (dof * scale**2 + r**2)
    return out


def rho(name: str, r: NDArray[Any], scale: float, dof: float) -> NDArray[Any]:
    """The loss of a residual r."""
    kind, a = LOSSES[name][0], np.abs(r)
    out: NDArray[Any]
    if kind == "squared":
        out = r**2
    elif kind == "absolute":
        out = a
    elif kind == "huber":
        out = np.where(a <= scale, 0.5 * r**2, scale * (a - 0.5 * scale))
    else:
        out = 0.5 * (dof + 1) * np.log1p(r**2 / (dof * scale**2))
    return out


def check_weights(weight: NDArray[Any]) -> None:
    """Raise ValueError unless these can be weights."""
    bad = weight[~(np.isfinite(weight) & (weight >= 0))]
    if len(bad):
        raise ValueError(f"weight has an entry {bad[0]:g}; weights must be finite and not negative (0: leave it out)")


class RowLosses(NamedTuple):
    """A loss on states that are at hand, unscaled; see `DataLoss.of_results`.

    Attributes
    ----------
    sample : (B,) array
        The loss of each sample.
    weight : (B,) array
        The sum of the weights behind it.
    dy : (rows, d) array
        Derivative of the sum with respect to the states.
    theta : (n,) array
        With respect to the parameters of a loss program; empty for the built-in losses.
    target : (rows, k) array or None
        With respect to the target of a loss program.
    t : (rows,) array or None
        With respect to the times that a loss program takes, the states held fast.
    """

    sample: NDArray[np.float64]
    weight: NDArray[np.float64]
    dy: NDArray[np.float64]
    theta: NDArray[np.float64]
    target: NDArray[np.float64] | None
    t: NDArray[np.float64] | None = None

    @property
    def totals(self) -> tuple[float, float]:
        """(loss, weight) of all samples together: what `DataLoss.reduced` takes."""
        return float(self.sample.sum()), float(self.weight.sum())


class DataLoss:
    """What a solve is compared with, and how: target, weights, rho or a loss program, sum or mean.

    Parameters are those of `pynode.loss_and_grad`.

    Attributes
    ----------
    name : str
    program : bool
        Whether it is the loss program of a System.
    mean : bool
        Whether the sum is divided by the sum of the weights.
    target : (rows, d) array, or (rows, k) or None for a program
    weight : (rows, d) array or None
    n_observed : int
        Entries of the target that count; rows of a loss program.
    """

    def __init__(
        self,
        f: Field | System,
        batch: Batch,
        target: Any = None,
        *,
        loss: str = "mse",
        reduction: str | None = None,
        weight: ArrayLike | None = None,
        loss_scale: float = 1.0,
        loss_dof: float = 4.0,
    ) -> None:
        self.system, self.batch, self.name = f, batch, loss
        self.program = isinstance(loss, str) and loss == "program"
        self.mean = _is_mean(f, loss, reduction)
        self.scale = as_positive("loss_scale", loss_scale)
        self.dof = as_positive("loss_dof", loss_dof)
        self.weight: NDArray[Any] | None = None
        if isinstance(f, System) and self.program:
            if weight is not None:
                raise ValueError("weight= belongs to the built-in losses: make it an entry of the loss program's target")
            self.target = rows_of("target", target, f.n_target, batch, "the loss program")
            self.n_observed = batch.rows if self.target is None else int((~np.isnan(self.target[:, 0])).sum())
            if self.n_observed == 0:
                raise ValueError("target has no row that counts (all begin with NaN, or there are no samples)")
            return
        rows = kept(batch.flatten("target", states_by_name("target", f, target), batch.y0.dtype))
        self.target = rows
        if np.isinf(rows).any():
            raise ValueError("target has infinite entries; mark what was not observed with NaN")
        self.weight = self._weights(states_by_name("weight", f, weight), rows)
        observed = ~np.isnan(rows)
        self.n_observed = int((observed if self.weight is None else observed & (self.weight > 0)).sum())
        if self.n_observed == 0:
            raise ValueError("target has no observed entry (all are NaN, of weight 0, or there are no samples)")

    def _weights(self, weight: Any, target: NDArray[Any]) -> NDArray[Any] | None:
        if weight is None:
            return None
        batch, dtype = self.batch, self.batch.y0.dtype
        if batch.kind == "ragged" and isinstance(weight, (list, tuple)):
            w = batch.flatten("weight", weight, dtype)
        else:
            shape = target.shape if batch.kind == "ragged" else np.shape(batch.unflatten(target))
            w = real_array("weight", weight, dtype)
            try:
                w = np.ascontiguousarray(np.broadcast_to(w, shape).reshape(-1, shape[-1]))
            except ValueError:
                raise ValueError(f"weight has shape {w.shape}, which does not fit the target's {shape}") from None
        check_weights(w)
        return kept(w)

    def _observations(self) -> NDArray[Any]:
        """The target of a built-in loss, which always has one."""
        assert self.target is not None
        return self.target

    def with_target(self, target: NDArray[Any] | None) -> DataLoss:
        """The same with other numbers in the rows of the target."""
        other = copy.copy(self)
        other.target = target
        return other

    def core_arguments(self) -> dict[str, Any]:
        """Keywords of `_core.Problem`."""
        return {
            "target": self.target,
            "weight": self.weight,
            "loss": "program" if self.program else LOSSES[self.name][0],
            "loss_scale": self.scale,
            "loss_dof": self.dof,
        }

    def reduced(self, total_loss: float, total_weight: float) -> tuple[float, float]:
        """(loss, what gradients of the sum are multiplied with); (NaN, 0) where nothing was added up."""
        if total_weight == 0:
            return math.nan, 0.0
        scale = 1.0 / total_weight if self.mean else 1.0
        return total_loss * scale, scale

    def slopes(self, results: Mapping[str, Any]) -> NDArray[Any]:
        """dL/dy (rows, d) of the sum, for results of a run; 0 for failed samples and entries that were not observed."""
        target = self._observations()
        g = slope(self.name, results["y"].astype(np.float64) - target, self.scale, self.dof)
        g = g if self.weight is None else g * self.weight
        failed = np.repeat(results["status"] != OK, self.batch.length)
        return np.where(np.isnan(target) | failed[:, None], 0.0, g).astype(self.batch.y0.dtype)

    def of_results(self, results: Mapping[str, Any] | _core.Results, theta: NDArray[Any]) -> RowLosses:
        """The loss of the states of a run, NaN where there is none; samples that failed do not count."""
        y = results["y"].astype(np.float64)
        counts = np.repeat(results["status"] == OK, self.batch.length)
        if self.program:
            return self._of_rows(y, counts, theta.astype(np.float64))
        target = self._observations()
        seen = ~np.isnan(target) & ~np.isnan(y) & counts[:, None]
        weight = np.where(seen, 1.0 if self.weight is None else self.weight, 0.0)
        residual = np.where(seen, y - target, 0.0)
        each = weight * rho(self.name, residual, self.scale, self.dof)
        dy = weight * slope(self.name, residual, self.scale, self.dof)
        return RowLosses(self._per_sample(each.sum(axis=1)), self._per_sample(weight.sum(axis=1)), dy, np.zeros(0), None)

    def _of_rows(self, y: NDArray[np.float64], counts: NDArray[np.bool_], theta: NDArray[np.float64]) -> RowLosses:
        assert isinstance(self.system, System) and self.system.loss is not None
        loss, at = self.system.loss, self.system.offsets["loss"]
        seen = counts & ~np.isnan(y).any(axis=1)
        target = None if self.target is None else self.target.astype(np.float64)
        if target is not None:
            seen &= ~np.isnan(target[:, 0])
        pulled = pull_back(
            loss,
            self.batch.row_times()[seen],
            y[seen],
            theta[at : at + loss.n_params],
            np.ones((int(seen.sum()), 1)),
            None if target is None else target[seen],
        )
        each = np.zeros(len(y))
        dy, g_t = np.zeros(y.shape), np.zeros(len(y))
        each[seen] = pulled.value[:, 0]
        dy[seen] = pulled.y
        g_t[seen] = pulled.t
        g_target = None if target is None else np.zeros(target.shape)
        if g_target is not None:
            g_target[seen] = pulled.u
        weight = self._per_sample(seen.astype(np.float64))
        return RowLosses(self._per_sample(each), weight, dy, pulled.theta, g_target, g_t)

    def _per_sample(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.add.reduceat(rows, self.batch.row) if len(self.batch.row) else np.zeros(0)


def _is_mean(f: Field | System, loss: Any, reduction: Any) -> bool:
    """Whether the sum is divided by the sum of the weights."""
    if isinstance(loss, str) and loss == "program":
        if not isinstance(f, System) or f.loss is None:
            raise ValueError("loss='program' needs a System with a loss: pynode.System(field, loss=...)")
        reduction = "sum" if reduction is None else reduction
    elif not isinstance(loss, str) or loss not in LOSSES:
        raise ValueError(f"loss={loss!r} is not one of {', '.join(LOSSES)}, or 'program' (the loss of a System)")
    elif reduction is None:
        return LOSSES[loss][1]
    if not isinstance(reduction, str) or reduction not in REDUCTIONS:
        raise ValueError(f"reduction={reduction!r} must be 'sum' or 'mean'")
    return reduction == "mean"
