"""A loss on data as a function of theta: `Objective`, `LossAndGrad`."""

import math
from functools import cached_property
from typing import Any

import numpy as np

from pynode.calls.cache import alike
from pynode.data.arrays import as_positive, real_array
from pynode.data.batch import as_batch
from pynode.engine.gradients import ADJOINTS, check_adjoint, check_wrt, shaped_gradients
from pynode.engine.losses import LOSSES, slope
from pynode.engine.options import Options, as_memory
from pynode.engine.problem import PreparedSolve, rows_of
from pynode.engine.solution import Result, Solution, Stats, check_errors, warn_or_raise
from pynode.errors import OK
from pynode.fields.arguments import as_dynamics, as_theta
from pynode.fields.system import System

REDUCTIONS = ("sum", "mean")


class LossAndGrad(Result):
    """The result of `loss_and_grad`.

    Attributes
    ----------
    loss : float
    theta, y0, t, inputs, data, target : gradients, see `Gradients`
    sample_loss : (B,)
        Sum over each sample's observed entries of weight * rho(y - target), or over its rows of a loss program.
    solution : Solution
    """

    loss: float
    theta: Any = None
    y0: Any = None
    t: Any = None
    inputs: Any = None
    data: Any = None
    target: Any = None
    _parts: tuple

    def __init__(self, loss, gradients, *parts):
        """parts: of the `Solution`"""
        self.__dict__.update(gradients, loss=loss, _parts=parts)

    @cached_property
    def solution(self):
        return Solution(*self._parts)

    @property
    def sample_loss(self):
        return self.solution._raw["sample_loss"]

    @property
    def y(self):
        """The states, see `Solution`."""
        return self.solution.y

    @property
    def status(self):
        return self.solution.status

    @property
    def stats(self) -> Stats:
        return self.solution.stats

    def __repr__(self):
        return f"<LossAndGrad: loss {self.loss:g}, {self.solution!r}>"


# ---------------------------------------------------------------------------------------------------------------------
# Loss and gradient
# ---------------------------------------------------------------------------------------------------------------------


def _reduction(f, loss, reduction):
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


class Objective:
    """A loss on data as a pure function of theta, everything else checked once: for training loops.

    Parameters are those of `loss_and_grad`. ``objective(theta)`` returns (loss, gradient with respect to theta).

    Attributes
    ----------
    n_observed : int
        Entries of the target that are not NaN (and have a weight); rows of a loss program.
    """

    def __init__(
        self,
        f,
        y0,
        t,
        target=None,
        *,
        loss="mse",
        reduction=None,
        data=None,
        weight=None,
        loss_scale=1.0,
        loss_dof=4.0,
        adjoint="discrete",
        wrt=("theta",),
        memory=None,
        dtype=None,
        **options,
    ):
        f = as_dynamics(f)
        self.program = isinstance(loss, str) and loss == "program"
        self.mean = _reduction(f, loss, reduction)
        self.wrt = check_wrt(wrt, f, self.program)
        batch = as_batch(y0, t, f.d, dtype)
        self.adjoint, self.loss, self.memory = adjoint, loss, as_memory(memory)
        self.scale, self.dof = as_positive("loss_scale", loss_scale), as_positive("loss_dof", loss_dof)
        options = check_adjoint(adjoint, Options.of("loss_and_grad", options), memory, f)
        self._set_target(f, batch, target, weight)
        self.loss_keys = {
            "target": self.target,
            "weight": self.weight,
            "loss": "program" if self.program else LOSSES[loss][0],
            "loss_scale": self.scale,
            "loss_dof": self.dof,
        }
        self.setup = PreparedSolve(
            f, batch, options, gradient=True, own_inputs="inputs" in self.wrt, data=data, **self.loss_keys
        )
        self.dtype = batch.y0.dtype
        self.exact = adjoint in ("discrete", "reversible")
        self._fast = self.wrt == ("theta",) and self.exact and not f.callbacks

    def _set_target(self, f, batch, target, weight):
        """target (rows, d or k), weight, and how many of them count."""
        if self.program:
            if weight is not None:
                raise ValueError("weight= belongs to the built-in losses: make it an entry of the loss program's target")
            self.target, self.weight = rows_of("target", target, f.n_target, batch, "the loss program"), None
            self.n_observed = batch.rows if self.target is None else int((~np.isnan(self.target[:, 0])).sum())
            if self.n_observed == 0:
                raise ValueError("target has no row that counts (all begin with NaN, or there are no samples)")
            return
        self.target = batch.flatten("target", target, batch.y0.dtype)
        if np.isinf(self.target).any():
            raise ValueError("target has infinite entries; mark what was not observed with NaN")
        self.weight = self._weights(weight, batch)
        observed = ~np.isnan(self.target)
        self.n_observed = int((observed if self.weight is None else observed & (self.weight > 0)).sum())
        if self.n_observed == 0:
            raise ValueError("target has no observed entry (all are NaN, of weight 0, or there are no samples)")

    @property
    def field(self):
        return self.setup.field

    def _weights(self, weight, batch):
        if weight is None:
            return None
        dtype = batch.y0.dtype
        if batch.kind == "ragged" and isinstance(weight, (list, tuple)):
            w = batch.flatten("weight", weight, dtype)
        else:
            shape = self.target.shape if batch.kind == "ragged" else np.shape(batch.unflatten(self.target))
            w = real_array("weight", weight, dtype)
            try:
                w = np.ascontiguousarray(np.broadcast_to(w, shape).reshape(-1, shape[-1]))
            except ValueError:
                raise ValueError(f"weight has shape {w.shape}, which does not fit the target's {shape}") from None
        bad = w[~(np.isfinite(w) & (w >= 0))]
        if len(bad):
            raise ValueError(f"weight has an entry {bad[0]:g}; weights must be finite and not negative (0: leave it out)")
        return w

    def __call__(self, theta):
        """(loss, gradient with respect to theta); (NaN, zeros) if every sample failed."""
        if self._fast:
            raw = self.setup.problem.run(self._ready(theta), gradient=self.adjoint, memory=self.memory)
            loss, scale = self._loss(raw)
            return loss, raw["g_theta"] * scale
        value = self.evaluate(theta)
        return value.loss, value.theta

    def value(self, theta):
        """The loss alone."""
        ready = self._ready(theta)
        raw = self.setup.run(ready) if self.field.callbacks else self.setup.problem.run(ready)
        return self._loss(raw)[0]

    def _ready(self, theta):
        """theta for the core; what it takes as it is costs no check here."""
        ready = alike(theta, self.dtype)
        return ready if self.setup.problem.takes(ready) else as_theta(self.field, theta, self.dtype)

    def _loss(self, raw):
        total = raw["total_weight"]
        if total == 0:
            return math.nan, 0.0
        scale = 1.0 / total if self.mean else 1.0
        return raw["total_loss"] * scale, scale

    def evaluate(self, theta, errors="warn"):
        """Loss, gradients, solution: a `LossAndGrad`."""
        check_errors(errors)
        return self._evaluate(as_theta(self.field, theta, self.dtype), errors)

    def _evaluate(self, theta, errors, y0=None, t=None, target=None):
        """y0, t, target: other data, for which ``setup.problem.fits``."""
        setup = self.setup
        if self._fast and self.adjoint == "discrete":
            raw = setup.problem.run(theta, y0=y0, target=target, gradient="discrete", memory=self.memory)
            loss, scale = self._loss(raw)
            gradients = {"theta": raw["g_theta"] * scale}
        else:
            seed, data = (None, {"y0": y0, "target": target}) if self.exact else (self, {})
            raw, *grads = ADJOINTS[self.adjoint](setup, theta, seed, self.wrt, self.memory, **data)
            loss, scale = self._loss(raw)
            gradients = shaped_gradients(setup, self.wrt, raw, grads, scale)
        value = LossAndGrad(loss, gradients, setup, theta, raw, y0, t)
        if raw["failed"]:
            warn_or_raise(value.solution, errors, stacklevel=4)
        return value

    def seed(self, raw):
        """dL/dy rows before scaling (what the core does by itself for the exact gradients)."""
        g = slope(self.loss, raw["y"].astype(np.float64) - self.target, self.scale, self.dof)
        g = g if self.weight is None else g * self.weight
        batch = self.setup.batch
        failed = np.repeat(raw["status"] != OK, batch.length)
        return np.where(np.isnan(self.target) | failed[:, None], 0.0, g).astype(self.dtype)
