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
from pynode.arguments import as_batch, as_field, as_memory, as_theta, positive, real_array
from pynode.errors import OK, SolveWarning
from pynode.losses import LOSSES
from pynode.plans import keep, recall
from pynode.solving import (
    Options,
    Result,
    Setup,
    Solution,
    Stats,
    _check_vector_field,
    check_errors,
    report,
)

WRT = ("theta", "y0", "t", "inputs")
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
    """

    theta: np.ndarray | None = None
    y0: np.ndarray | None = None
    t: object = None
    inputs: object = None


class LossAndGrad(Result):
    """The result of `loss_and_grad`.

    Attributes
    ----------
    loss : float
    theta, y0, t, inputs : gradients, see `Gradients`
    sample_loss : (B,)
        Sum over each sample's observed entries of weight * rho(y - target).
    solution : Solution
    """

    loss: float
    theta: Any = None
    y0: Any = None
    t: Any = None
    inputs: Any = None
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


def _check_adjoint(adjoint, options, memory, callback=False):
    """The options with which this gradient method solves."""
    if not isinstance(adjoint, str) or adjoint not in ADJOINTS:
        raise ValueError(f"adjoint={adjoint!r} is not one of {', '.join(ADJOINTS)}")
    if memory and adjoint != "discrete":
        raise ValueError(f"memory= limits the tape of adjoint='discrete'; adjoint={adjoint!r} has none")
    if callback and adjoint in ("backsolve", "interpolating"):
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


def _check_wrt(wrt, f):
    if not isinstance(wrt, (str, tuple, list, set, frozenset)):
        raise TypeError(f"wrt={wrt!r} must be a tuple out of {', '.join(WRT)}")
    wrt = (wrt,) if isinstance(wrt, str) else tuple(wrt)
    unknown = [name for name in wrt if name not in WRT]
    if unknown:
        raise ValueError(f"wrt={unknown[0]!r} is not one of {', '.join(WRT)}")
    if "inputs" in wrt and not f.inputs:
        raise ValueError("wrt='inputs': the field has no inputs")
    return wrt


def _shaped(setup, wanted, theta, y0, t, coef, scale=1.0):
    """Raw gradients (rows, coefficients) in the user's shapes, times scale."""
    batch, out = setup.batch, {}
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
    options = _check_adjoint(adjoint, old.options, memory, bool(f.callbacks))
    if options.coupling != old.options.coupling:
        raise ValueError("adjoint='reversible' needs a solution of the reversible scheme: solve(..., coupling=0.99)")
    seed = solution._batch.flatten("dy", dy, old.dtype)
    if not np.isfinite(seed).all():
        raise ValueError("dy must be finite; give 0 where the loss does not depend on an entry")
    setup = Setup(f, solution._batch, options, gradient=True, own_inputs="inputs" in wanted)
    raw, *grads = ADJOINTS[adjoint](setup, solution.theta, seed, wanted, as_memory(memory))
    lost = int(((raw["status"] != OK) & (solution._raw["status"] == OK)).sum())
    if lost:
        warnings.warn(
            f"{lost} samples could not be solved backwards and add nothing to this gradient; adjoint='discrete' "
            "has no such limit",
            SolveWarning,
            stacklevel=3,
        )
    return Gradients(**_shaped(setup, wanted, *grads))


# ---------------------------------------------------------------------------------------------------------------------
# Loss and gradient
# ---------------------------------------------------------------------------------------------------------------------


class Objective:
    """A loss on data as a pure function of theta, everything else checked once: for training loops.

    Parameters are those of `loss_and_grad`. ``objective(theta)`` returns (loss, gradient with respect to theta).

    Attributes
    ----------
    n_observed : int
        Entries of the target that are not NaN (and have a weight).
    """

    def __init__(
        self,
        f,
        y0,
        t,
        target,
        *,
        loss="mse",
        weight=None,
        loss_scale=1.0,
        loss_dof=4.0,
        adjoint="discrete",
        wrt=("theta",),
        memory=None,
        dtype=None,
        **options,
    ):
        f = as_field(f)
        _check_vector_field(f)
        if not isinstance(loss, str) or loss not in LOSSES:
            raise ValueError(f"loss={loss!r} is not one of {', '.join(LOSSES)}")
        self.wrt = _check_wrt(wrt, f)
        batch = as_batch(y0, t, f.d, dtype)
        self.adjoint, self.loss, self.memory = adjoint, loss, as_memory(memory)
        self.scale, self.dof = positive("loss_scale", loss_scale), positive("loss_dof", loss_dof)
        options = _check_adjoint(adjoint, Options.of("loss_and_grad", options), memory, bool(f.callbacks))
        self.target = batch.flatten("target", target, batch.y0.dtype)
        if np.isinf(self.target).any():
            raise ValueError("target has infinite entries; mark what was not observed with NaN")
        self.weight = self._weights(weight, batch)
        observed = ~np.isnan(self.target)
        self.n_observed = int((observed if self.weight is None else observed & (self.weight > 0)).sum())
        if self.n_observed == 0:
            raise ValueError("target has no observed entry (all are NaN, of weight 0, or there are no samples)")
        self.setup = Setup(
            f,
            batch,
            options,
            gradient=True,
            own_inputs="inputs" in self.wrt,
            target=self.target,
            weight=self.weight,
            loss=LOSSES[loss][0],
            loss_scale=self.scale,
            loss_dof=self.dof,
        )
        self.dtype, self.mean = batch.y0.dtype, LOSSES[loss][1]
        self.exact = adjoint in ("discrete", "reversible")
        self._fast = self.wrt == ("theta",) and self.exact and not f.callbacks

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
            problem = self.setup.problem
            if not problem.takes(theta):
                theta = as_theta(self.field, theta, self.dtype)
            raw = problem.run(theta, gradient=self.adjoint, memory=self.memory)
            loss, scale = self._loss(raw)
            return loss, raw["g_theta"] * scale
        value = self.evaluate(theta)
        return value.loss, value.theta

    def value(self, theta):
        """The loss alone."""
        return self._loss(self.setup.run(as_theta(self.field, theta, self.dtype)))[0]

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
            gradients = _shaped(setup, self.wrt, *(*grads, scale))
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
    target,
    *,
    loss="mse",
    weight=None,
    loss_scale=1.0,
    loss_dof=4.0,
    adjoint="discrete",
    wrt=("theta",),
    memory=None,
    dtype=None,
    errors="warn",
    **options,
):
    """The loss of a solve against data, and its gradient.

    Parameters
    ----------
    f, y0, t, theta, **options : see `solve`
    target : like the result of `solve`: (T, d), (B, T, d), or a list of (T_i, d)
        NaN where nothing was observed.
    loss : {"mse", "sse", "mae", "huber", "student"}
        Mean (or sum, "sse") over the observed entries of rho(y - target): r^2; |r|; Huber's; Student's -log density.
    weight : broadcastable to target, optional
        Weights >= 0 of the entries; means are weighted means.
    loss_scale, loss_dof : float
        Huber's delta or Student's scale; Student's degrees of freedom.
    adjoint : {"discrete", "backsolve", "interpolating", "reversible"}
        "discrete": exact derivative of the steps taken (default). "backsolve": continuous adjoint, states solved
        backwards (Chen et al. 2018), O(1) memory, inexact. "interpolating": continuous adjoint along the dense output.
        "reversible": the scheme of McCallum & Foster (2024), exact, states not stored.
    wrt : tuple out of "theta", "y0", "t", "inputs"
    memory : int or str, optional
        Budget for the tape of "discrete", e.g. "64MB": checkpoints, recomputed in between; the same bits.

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
    key = (loss, loss_scale, loss_dof, adjoint, wrt, memory, dtype, *options.items())
    check_errors(errors)
    objective = recall(f, key) if weight is None else None
    if objective is not None and objective.setup.problem.fits(objective.setup.single, theta, y0, t, target):
        return objective._evaluate(theta, errors, y0, t, target)
    objective = Objective(
        f,
        y0,
        t,
        target,
        loss=loss,
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
