"""Gradients through a solve: `loss_and_grad`, `Objective`, and what `Solution.vjp` needs.

A gradient method is one row of `ADJOINTS`: a function
(setup, theta, seed, wanted, memory) -> (raw results of the core, g_theta, g_y0, g_t, g_coef),
the gradients of the sum of the loss. seed is dL/dy (rows, d); where a loss is built in it is None for the core's own
methods, and for the others the `Objective`, whose `seed` gives it.
"""

import math
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pynode.adjoints import backsolve, interpolating
from pynode.arguments import as_batch, as_dynamics, as_memory, as_theta, positive, real_array
from pynode.errors import OK, SolveWarning
from pynode.losses import LOSSES
from pynode.plans import alike, keep, recall, serves
from pynode.solving import (
    Options,
    Result,
    Setup,
    Solution,
    Stats,
    check_errors,
    report,
)
from pynode.systems import System, rows_of

WRT = ("theta", "y0", "t", "inputs", "data", "target")
REDUCTIONS = ("sum", "mean")
REVERSIBLE_COUPLING = 0.99


@dataclass(frozen=True)
class Gradients:
    """Gradients of a scalar; None where not asked for.

    Attributes
    ----------
    theta : (n_params,)
    y0 : (d,) or (B, d)
    t : like t, one value a saved time (for t shared by a batch: summed over the samples)
        The grid of steps counts as frozen but for its first and last time and the times that steps land on.
    inputs : like the values u of the inputs
    data, target : like the data of the jumps and the target of a loss program
    """

    theta: np.ndarray | None = None
    y0: np.ndarray | None = None
    t: object = None
    inputs: object = None
    data: object = None
    target: object = None


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
# Gradient methods
# ---------------------------------------------------------------------------------------------------------------------


def _exact(kind):
    """The core's own reverse pass; seed is None (the problem has a loss) or the cotangent rows."""

    def run(setup, theta, seed, wanted, memory, **data):
        raw = setup.run(
            theta,
            **data,
            g_y=seed,
            gradient=kind,
            wrt_y0="y0" in wanted,
            wrt_t="t" in wanted,
            wrt_inputs="inputs" in wanted,
            wrt_data="data" in wanted,
            wrt_target="target" in wanted,
            memory=memory,
        )
        if kind == "reversible":
            _check_reconstruction(raw, setup.options.coupling, setup.dtype)
        return raw, raw["g_theta"], raw.get("g_y0"), raw.get("g_t"), raw.get("g_coef")

    return run


ADJOINTS = {
    "discrete": _exact("discrete"),
    "reversible": _exact("reversible"),
    "backsolve": backsolve,
    "interpolating": interpolating,
}


def _check_reconstruction(raw, coupling, dtype):
    """Going back multiplies rounding by 1 / coupling at every step."""
    steps = int(raw["accepted"].max(initial=0))
    lost = np.log10(np.finfo(dtype).eps) - steps * np.log10(coupling)
    if lost > -6:
        better = 10 ** (-(-7 - np.log10(np.finfo(dtype).eps)) / max(steps, 1))
        warnings.warn(
            f"adjoint='reversible' with coupling={coupling:g} over {steps} steps enlarges rounding to about 1e{lost:+.0f} "
            f"of the state: the gradient is not to be trusted; take coupling={better:.6f} or closer to 1, fewer steps, "
            "or adjoint='discrete'",
            SolveWarning,
            stacklevel=5,
        )


def _check_adjoint(adjoint, options, memory, f, program=False):
    """The options with which this gradient method solves; `program`: the loss is one."""
    jumps = isinstance(f, System) and f.jump is not None
    if not isinstance(adjoint, str) or adjoint not in ADJOINTS:
        raise ValueError(f"adjoint={adjoint!r} is not one of {', '.join(ADJOINTS)}")
    if memory and adjoint != "discrete":
        raise ValueError(f"memory= limits the tape of adjoint='discrete'; adjoint={adjoint!r} has none")
    if adjoint in ("backsolve", "interpolating") and isinstance(f, System):
        raise ValueError(f"adjoint={adjoint!r} is for fields; a System has 'discrete' (and 'reversible' if nothing jumps)")
    if adjoint == "reversible" and jumps:
        raise ValueError("adjoint='reversible': the scheme cannot go back through jumps; use adjoint='discrete'")
    if f.callbacks and adjoint in ("backsolve", "interpolating"):
        raise ValueError(
            f"adjoint={adjoint!r} needs a field that was traced (pynode.field, pynode.mlp): a callback field has "
            "'discrete' and 'reversible'"
        )
    if options.partitioned and adjoint != "discrete":
        raise ValueError(
            f"method={options.method!r} has the exact gradient of its steps only: take adjoint='discrete', not {adjoint!r}"
        )
    if adjoint == "reversible":
        return options if options.coupling > 0 else replace(options, coupling=REVERSIBLE_COUPLING)
    if options.coupling > 0:
        raise ValueError(f"a solve with coupling={options.coupling:g} (the reversible scheme) needs adjoint='reversible'")
    return options


def _check_wrt(wrt, f, program=False):
    if not isinstance(wrt, (str, tuple, list, set, frozenset)):
        raise TypeError(f"wrt={wrt!r} must be a tuple out of {', '.join(WRT)}")
    wrt = (wrt,) if isinstance(wrt, str) else tuple(wrt)
    unknown = [name for name in wrt if name not in WRT]
    if unknown:
        raise ValueError(f"wrt={unknown[0]!r} is not one of {', '.join(WRT)}")
    if "inputs" in wrt and not f.inputs:
        raise ValueError("wrt='inputs': the field has no inputs")
    if "data" in wrt and not (isinstance(f, System) and f.n_data):
        raise ValueError("wrt='data': there is no jump that takes data (pynode.System(field, jump=...))")
    if "target" in wrt and not program:
        raise ValueError("wrt='target': only a loss program (loss='program') has a gradient with respect to its target")
    return wrt


def _shaped(setup, wanted, raw, grads, scale=1.0):
    """Raw gradients (rows, coefficients) in the user's shapes, times scale."""
    (theta, y0, t, coef), batch, out = grads, setup.batch, {}
    for name in {"data", "target"} & set(wanted):
        out[name] = batch.unflatten(raw[f"g_{name}"] * scale)
    if "theta" in wanted:
        out["theta"] = theta * scale
    if "y0" in wanted:
        out["y0"] = y0[0] * scale if batch.kind == "single" else y0 * scale
    if "t" in wanted:
        t = batch.unflatten(t * scale)
        out["t"] = t.sum(axis=0) if batch.kind == "shared" else t
    if "inputs" in wanted:
        out["inputs"] = _scaled(setup.signal.pull(coef), scale)
    return out


def _scaled(x, scale):
    return [v * scale for v in x] if isinstance(x, list) else x * scale


def solution_vjp(solution, dy, wrt, adjoint, memory):
    """See `Solution.vjp`."""
    old, f = solution._setup, solution.field
    wanted = _check_wrt(wrt, f)
    adjoint = adjoint or ("reversible" if old.options.coupling > 0 else "discrete")
    options = _check_adjoint(adjoint, old.options, memory, f)
    if options.coupling != old.options.coupling:
        raise ValueError("adjoint='reversible' needs a solution of the reversible scheme: solve(..., coupling=0.99)")
    seed = solution._batch.flatten("dy", dy, old.dtype)
    if not np.isfinite(seed).all():
        raise ValueError("dy must be finite; give 0 where the loss does not depend on an entry")
    setup = Setup(f, solution._batch, options, gradient=True, own_inputs="inputs" in wanted, data=old.data)
    raw, *grads = ADJOINTS[adjoint](setup, solution.theta, seed, wanted, as_memory(memory))
    lost = int(((raw["status"] != OK) & (solution._raw["status"] == OK)).sum())
    if lost:
        warnings.warn(
            f"{lost} samples could not be solved backwards and add nothing to this gradient; adjoint='discrete' "
            "has no such limit",
            SolveWarning,
            stacklevel=3,
        )
    return Gradients(**_shaped(setup, wanted, raw, grads))


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
        self.wrt = _check_wrt(wrt, f, self.program)
        batch = as_batch(y0, t, f.d, dtype)
        self.adjoint, self.loss, self.memory = adjoint, loss, as_memory(memory)
        self.scale, self.dof = positive("loss_scale", loss_scale), positive("loss_dof", loss_dof)
        options = _check_adjoint(adjoint, Options.of("loss_and_grad", options), memory, f)
        self._set_target(f, batch, target, weight)
        self.loss_keys = {
            "target": self.target,
            "weight": self.weight,
            "loss": "program" if self.program else LOSSES[loss][0],
            "loss_scale": self.scale,
            "loss_dof": self.dof,
        }
        self.setup = Setup(f, batch, options, gradient=True, own_inputs="inputs" in self.wrt, data=data, **self.loss_keys)
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
            gradients = _shaped(setup, self.wrt, raw, grads, scale)
        value = LossAndGrad(loss, gradients, setup, theta, raw, y0, t)
        if raw["failed"]:
            report(value.solution, errors, stacklevel=4)
        return value

    def seed(self, raw):
        """dL/dy rows before scaling (what the core does by itself for the exact gradients)."""
        from pynode.losses import slope

        g = slope(self.loss, raw["y"].astype(np.float64) - self.target, self.scale, self.dof)
        g = g if self.weight is None else g * self.weight
        batch = self.setup.batch
        failed = np.repeat(raw["status"] != OK, batch.length)
        return np.where(np.isnan(self.target) | failed[:, None], 0.0, g).astype(self.dtype)


def loss_and_grad(
    f,
    y0,
    t,
    theta,
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
    errors="warn",
    events=None,
    max_events=1000,
    **options,
):
    """The loss of a solve against data, and its gradient.

    Parameters
    ----------
    f, y0, t, theta, data, **options : see `solve`
    target : like the result of `solve`: (T, d), (B, T, d), or a list of (T_i, d)
        NaN where nothing was observed. For loss="program" (T, k), ...: the rows that it takes; one that begins with NaN is
        left out, all other entries must be finite.
    loss : {"mse", "sse", "mae", "huber", "student", "program"}
        Mean (or sum, "sse") over the observed entries of rho(y - target): r^2; |r|; Huber's; Student's -log density.
        "program": the sum over samples and their rows of the loss l(t, y, x; theta) of a System.
    reduction : {"sum", "mean"}, optional
        Whether the sum is divided by the sum of the weights ("program": the number of rows that count). Default: as said
        under `loss`. The mean over samples is the sum divided by their number.
    weight : broadcastable to target, optional
        Weights >= 0 of the entries; means are weighted means.
    loss_scale, loss_dof : float
        Huber's delta or Student's scale; Student's degrees of freedom.
    adjoint : {"discrete", "backsolve", "interpolating", "reversible"}
        "discrete": exact derivative of the steps taken (default). "backsolve": continuous adjoint, states solved
        backwards (Chen et al. 2018), O(1) memory, inexact. "interpolating": continuous adjoint along the dense output.
        "reversible": the scheme of McCallum & Foster (2024), exact, states not stored.
    wrt : tuple out of "theta", "y0", "t", "inputs", "data", "target"
        "data" of the jumps and "target" of a loss program: where a row is left out, 0.
    memory : int or str, optional
        Budget for the tape of "discrete", e.g. "64MB": checkpoints, recomputed in between; the same bits.
    events, max_events : see `solve`
        The gradient goes through the event times. Rows after a terminal event that is not held count as not observed.

    Returns
    -------
    LossAndGrad
        Failed samples add nothing to the loss or the gradient.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> f = pn.mlp(1, (8,))
    >>> t = np.linspace(0, 1, 21)
    >>> val = pn.loss_and_grad(f, [1.0], t, f.init(0), np.exp(-2 * t)[:, None])
    >>> val.theta.shape
    (25,)
    """
    if events is not None or hasattr(f, "events"):
        from pynode.events import EventObjective

        if adjoint != "discrete" or memory is not None:
            raise ValueError("a solve with events has adjoint='discrete', without memory=")
        more = {"loss": loss, "weight": weight, "loss_scale": loss_scale, "loss_dof": loss_dof, "wrt": wrt, "dtype": dtype}
        with_events = EventObjective(f, y0, t, target, events=events, max_events=max_events, **more, **options)
        return with_events.evaluate(theta, errors)
    key = (loss, reduction, loss_scale, loss_dof, adjoint, wrt, memory, dtype, *options.items())
    check_errors(errors)
    objective = recall(f, key) if weight is None and data is None else None
    if objective is not None and (arrays := serves(objective.setup, theta, y0, t, target)):
        return objective._evaluate(arrays[0], errors, y0, arrays[1], target)
    objective = Objective(
        f,
        y0,
        t,
        target,
        loss=loss,
        reduction=reduction,
        data=data,
        weight=weight,
        loss_scale=loss_scale,
        loss_dof=loss_dof,
        adjoint=adjoint,
        wrt=wrt,
        memory=memory,
        dtype=dtype,
        **options,
    )
    result = objective.evaluate(theta, errors)
    if objective.exact and weight is None:
        keep(f, key, objective, objective.setup)
    return result


__all__ = ["ADJOINTS", "Gradients", "LossAndGrad", "Objective", "loss_and_grad"]
