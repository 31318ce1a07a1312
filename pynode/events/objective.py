"""`EventObjective`: a loss on data of a field with events."""

import numpy as np

from pynode.data.arrays import as_integer
from pynode.engine.gradients import check_wrt
from pynode.engine.losses import rho, slope
from pynode.engine.objective import LossAndGrad, Objective
from pynode.engine.solution import check_errors, warn_or_raise
from pynode.errors import OK
from pynode.events.backward import Backward
from pynode.events.forward import MAX_EVENTS, checked_options, forward
from pynode.events.rounds import Solver
from pynode.fields.arguments import as_field, as_theta
from pynode.fields.event import Hybrid


class EventObjective:
    """`Objective` for a field with events: a loss on data as a function of theta, for training loops.

    Parameters
    ----------
    f, y0, t, target, loss, weight, loss_scale, loss_dof, wrt, dtype, **options : see `loss_and_grad`
        Rows after a terminal event that is not held count as not observed.
    events : Event or list of Event
    max_events : int
    """

    def __init__(
        self,
        f,
        y0,
        t,
        target,
        *,
        events=None,
        max_events=MAX_EVENTS,
        loss="mse",
        weight=None,
        loss_scale=1.0,
        loss_dof=4.0,
        wrt=("theta",),
        dtype=None,
        **options,
    ):
        self.system = f if isinstance(f, Hybrid) else Hybrid(as_field(f), events)
        self.wrt, self.max_events = check_wrt(wrt, self.system.field), as_integer("max_events", max_events, 1)
        plain = Objective(  # checks, and has the loss
            self.system.field,
            y0,
            t,
            target,
            loss=loss,
            weight=weight,
            loss_scale=loss_scale,
            loss_dof=loss_dof,
            wrt=wrt,
            dtype=dtype,
            **options,
        )
        self.plain, self.batch = plain, plain.setup.batch
        self.solver = Solver(self.system, self.batch, checked_options(plain.setup.options, self.batch))

    field = property(lambda self: self.system.field)
    n_observed = property(lambda self: self.plain.n_observed)

    def __call__(self, theta):
        """(loss, gradient with respect to theta)."""
        value = self.evaluate(theta)
        return value.loss, value.theta

    def evaluate(self, theta, errors="warn"):
        """A `LossAndGrad`."""
        check_errors(errors)
        plain, batch = self.plain, self.batch
        theta = as_theta(self.system, theta, self.solver.dtype)
        solution = forward(self.solver, theta, False, False, self.max_events)
        warn_or_raise(solution, errors)
        y = solution._raw["y"].astype(np.float64)
        failed = np.repeat(solution._raw["status"] != OK, batch.length)
        seen = ~np.isnan(plain.target) & ~np.isnan(y) & ~failed[:, None]
        weight = np.where(seen, 1.0 if plain.weight is None else plain.weight, 0.0)
        residual = np.where(seen, y - plain.target, 0.0)
        each = (weight * rho(plain.loss, residual, plain.scale, plain.dof)).sum(axis=1)
        sample_loss = np.add.reduceat(each, batch.row) if len(batch.row) else np.zeros(0)
        total = float(weight.sum())
        scale = (1.0 / total if plain.mean else 1.0) if total else 0.0
        seed = batch.unflatten(weight * slope(plain.loss, residual, plain.scale, plain.dof) * scale)
        g = Backward(solution, seed, self.wrt, None, None, None).gradients()
        value = float(sample_loss.sum()) * scale if total else float("nan")
        solution._raw["sample_loss"] = sample_loss
        result = LossAndGrad(value, {name: getattr(g, name) for name in ("theta", "y0", "t", "inputs")})
        result.__dict__["solution"] = solution
        return result
