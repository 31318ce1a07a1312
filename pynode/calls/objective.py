"""`Objective`: a loss on data as a function of theta."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Unpack

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pynode import _core
from pynode.calls.cache import alike
from pynode.calls.consistent import check_consistent
from pynode.calls.discontinuous import check_discontinuities
from pynode.data.arrays import as_integer, kept
from pynode.data.batch import as_batch
from pynode.engine.gradients import ADJOINTS, Wrt, check_adjoint, check_wrt, shaped_gradients, warn_of_lost
from pynode.engine.losses import DataLoss, Loss
from pynode.engine.options import Options, SolveOptions, as_memory
from pynode.engine.problem import PreparedSolve
from pynode.engine.solution import Errors, LossAndGrad, check_errors, check_stiffness, warn_or_raise
from pynode.errors import STATUS
from pynode.events.forward import MAX_EVENTS, ONE_THETA, solve_with_events
from pynode.events.rounds import Solver
from pynode.fields.arguments import Theta, Times, as_dynamics, as_theta, as_y0, has_events, refuse_rows
from pynode.fields.event import Event
from pynode.fields.field import Field
from pynode.fields.system import System

Adjoint = Literal["discrete", "backsolve", "interpolating", "reversible"]


ONCE = "once"
"""As `errors`: as an optimiser wants it, see `Objective.__call__`."""


class ObjectiveOptions(SolveOptions, total=False):
    """The keywords of `Objective` but for wrt, for type checkers: what functions take as ``**options``."""

    loss: Loss
    reduction: Literal["sum", "mean"] | None
    data: Any
    weight: Any
    loss_scale: float
    loss_dof: float
    adjoint: Adjoint
    memory: int | str | None
    dtype: DTypeLike | None
    events: Event | Sequence[Event] | None
    max_events: int


class Objective:
    """A loss on data as a pure function of theta, everything else checked once: for training loops.

    ``objective(theta)`` returns (loss, gradient with respect to theta), which is what optimisers take.

    Parameters
    ----------
    f, y0, t, target, loss, reduction, data, weight, loss_scale, loss_dof : as in `loss_and_grad`
        What is solved, and what it is compared with.
    adjoint, wrt, memory, dtype, events, max_events, **options : as in `loss_and_grad`
        How it is solved and differentiated.

    Attributes
    ----------
    field : Field or System
        A System where there are events.
    n_observed : int
        Entries of the target that are not NaN (and have a weight); rows of a loss program.

    See Also
    --------
    loss_and_grad : one evaluation.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> f = pn.mlp(1, (8,))
    >>> t = np.linspace(0, 1, 21)
    >>> objective = pn.Objective(f, [1.0], t, np.exp(-2 * t)[:, None])
    >>> loss, gradient = objective(f.init(0))
    >>> gradient.shape
    (25,)
    """

    def __init__(
        self,
        f: Field | System | Callable[..., Any],
        y0: ArrayLike,
        t: Times,
        target: ArrayLike | Sequence[ArrayLike] | None = None,
        *,
        loss: Loss = "mse",
        reduction: Literal["sum", "mean"] | None = None,
        data: Any = None,
        weight: Any = None,
        loss_scale: float = 1.0,
        loss_dof: float = 4.0,
        adjoint: Adjoint = "discrete",
        wrt: Wrt | Sequence[Wrt] = ("theta",),
        memory: int | str | None = None,
        dtype: DTypeLike | None = None,
        events: Event | Sequence[Event] | None = None,
        max_events: int = MAX_EVENTS,
        **options: Unpack[SolveOptions],
    ) -> None:
        self.field = as_dynamics(f, events=events)
        batch = as_batch(as_y0(self.field, y0, dtype), t, self.field.d)
        self.loss = DataLoss(
            self.field,
            batch,
            target,
            loss=loss,
            reduction=reduction,
            weight=weight,
            loss_scale=loss_scale,
            loss_dof=loss_dof,
        )
        self.wrt = check_wrt(wrt, self.field, self.loss.program)
        self.adjoint, self.memory = adjoint, as_memory(memory)
        self.dtype = batch.y0.dtype
        self.max_events = as_integer("max_events", max_events, 1)
        self.n_observed = self.loss.n_observed
        chosen = Options.of("loss_and_grad", options)
        self._batch, self._chosen = batch, chosen
        own_inputs = "inputs" in self.wrt
        self._warned = False
        self._looked = False  # at whether the tolerances control all components: once
        self.solver: Solver | None = None
        self.setup: Any  # PreparedSolve, or the solver
        self.exact = adjoint in ("discrete", "reversible")
        if has_events(self.field) and isinstance(self.field, System):
            if adjoint != "discrete":
                raise ValueError(f"adjoint={adjoint!r}: a solve with events has adjoint='discrete' only")
            if memory is not None:
                raise ValueError(f"memory={memory!r}: a solve with events takes none, its stretches are short tapes already")
            self.setup = self.solver = Solver(self.field, batch, chosen, own_inputs=own_inputs, data=data)
            return
        chosen = check_adjoint(adjoint, chosen, memory, self.field)
        self.setup = PreparedSolve(
            self.field, batch, chosen, gradient=True, own_inputs=own_inputs, data=data, **self.loss.core_arguments()
        )
        self._kind: Literal["discrete", "reversible"] = "reversible" if adjoint == "reversible" else "discrete"
        self._fast = self.wrt == ("theta",) and self.exact and not self.field.callbacks

    def __call__(self, theta: ArrayLike) -> tuple[float, NDArray[np.float64]]:
        """(loss, gradient with respect to theta, of its shape); (NaN, zeros) if every sample failed."""
        if self.solver is None and self._fast:
            raw = self.setup.problem.run(self._ready(theta), gradient=self._kind, memory=self.memory)
            loss, scale = self.reduced(raw)
            if raw["failed"]:
                self._warn_once(raw)
            if not self._looked:
                self._look(raw)
            return loss, _scaled(raw, scale)
        ready = self._checked(theta)
        value = self.run(ready, ONCE)
        return value.loss, value.theta

    def _warn_once(self, raw: _core.Results) -> None:
        """Of samples that have no gradient, for whoever sees no solution: a loop, an optimiser.

        Trial steps of an optimiser may make any solve fail, so other failures are not spoken of here.
        """
        if self._warned:
            return
        lost = raw["status"] == STATUS.index("gradient")
        self._warned = bool(lost.any())
        warn_of_lost(lost)

    def value(self, theta: ArrayLike) -> float:
        """The loss alone.

        Parameters
        ----------
        theta : (n_params,) or (B, n_params) array
            The parameters.

        Returns
        -------
        float
            NaN if every sample failed.
        """
        if self.solver is not None:
            return self._with_events(self._checked(theta), ONCE, ()).loss
        ready = self._ready(theta)
        raw = self.setup.run(ready) if self.field.callbacks else self.setup.problem.run(ready)
        if not self._looked:
            self._look(raw)
        return self.reduced(raw)[0]

    def evaluate(self, theta: Theta, errors: Errors = "warn") -> LossAndGrad:
        """Loss, gradients, solution.

        Parameters
        ----------
        theta : (n_params,) array or nested dict; or (B, n_params)
            The parameters, of all samples or a row for each.
        errors : {"warn", "raise", "ignore"}
            What to do if samples fail; "ignore": nor warn of stiffness.

        Returns
        -------
        LossAndGrad
        """
        check_errors(errors)
        ready = self._checked(theta)
        return self.run(ready, errors)

    def run(self, theta: NDArray[Any], errors: str, y0: Any = None, target: Any = None) -> LossAndGrad:
        """`evaluate` for checked parameters.

        Parameters
        ----------
        theta : (n_params,) or (B, n_params) array
            The parameters, of the solve's dtype.
        errors : {"warn", "raise", "ignore"}
            What to do if samples fail.
        y0, target : array, optional
            Other data, for which ``setup.fits``.

        Returns
        -------
        LossAndGrad
        """
        setup = self.setup
        if self.solver is not None:
            return self._with_events(theta, errors, self.wrt, y0, target)
        if self._fast and self.adjoint == "discrete":
            raw = setup.problem.run(theta, y0=y0, target=target, gradient="discrete", memory=self.memory)
            loss, scale = self.reduced(raw)
            gradients = {"theta": _scaled(raw, scale)}
            theta, y0 = raw["theta"], None if y0 is None else raw["y0"]  # its own copies
        else:
            theta, y0 = theta.copy(), None if y0 is None else y0.copy()
            seed, data = (None, {"y0": y0, "target": target}) if self.exact else (self.loss, {})
            raw, *grads = ADJOINTS[self.adjoint](setup, theta, seed, self.wrt, self.memory, **data)
            loss, scale = self.reduced(raw)
            gradients = shaped_gradients(setup, self.wrt, raw, grads, scale)
        value = LossAndGrad(loss, gradients, setup, theta, raw, y0)
        if raw["failed"] and errors == ONCE:
            self._warn_once(raw)
        elif raw["failed"]:
            warn_or_raise(value.solution, errors, accuracy=False)
        if y0 is not None or not self._looked:
            self._look(raw, errors)
        return value

    @property
    def rows_of_program(self) -> NDArray[Any] | None:
        """The target of a loss program as it was given; None where there is none."""
        rows = self.loss.target if self.loss.program else None
        return None if rows is None else self._batch.unflatten(rows)

    def reduced(self, raw: _core.Results) -> tuple[float, float]:
        """The loss from the results of a run.

        Parameters
        ----------
        raw : mapping
            Results of the core.

        Returns
        -------
        loss, scale : float
            Gradients of the sum are multiplied with scale.
        """
        return self.loss.reduced(raw["total_loss"], raw["total_weight"])

    def _look(self, raw: _core.Results, errors: str = ONCE) -> None:
        """Warn of components that the tolerances do not control, and of stiffness."""
        self._looked = True
        check_discontinuities(self.field, self._batch, self._chosen, raw["theta"], raw, self.setup.jumps, None, errors)
        self.setup.accuracy.check(raw["y"])
        if errors != "ignore" and raw.get("many", False):
            check_stiffness(self.setup, raw["theta"], raw)

    def _ready(self, theta: ArrayLike) -> Any:
        """theta for the core; what it takes as it is costs no check here."""
        ready = alike(theta, self.dtype)
        return ready if self._chosen.mass is None and self.setup.problem.takes(ready) else self._checked(theta)

    def _checked(self, theta: Theta) -> NDArray[Any]:
        """theta (n_params,), or (B, n_params)."""
        if self.solver is None:
            ready: NDArray[Any] = self.setup.parameters(theta)
        else:
            refuse_rows(self.field, theta, ONE_THETA)
            ready = as_theta(self.field, theta, self.dtype)
        check_consistent(self.field, self._batch, self._chosen, ready)
        return ready

    def _with_events(
        self, theta: NDArray[Any], errors: str, wanted: tuple[str, ...], y0: Any = None, target: Any = None
    ) -> LossAndGrad:
        solver, loss = self.solver, self.loss
        new = y0 is not None or not self._looked
        assert solver is not None
        if y0 is not None:
            solver, theta = solver.starting_from(y0), kept(theta)
        if target is not None:
            loss = loss.with_target(target.reshape(-1, target.shape[-1]))
        solution = solve_with_events(solver, theta, max_events=self.max_events)
        warn_or_raise(solution, "ignore" if errors == ONCE else errors, accuracy=new)
        if errors == ONCE:
            self._warn_once(solution.results)
        if new:
            happened = solution.results, solver.jumps, solution.events
            check_discontinuities(self.field, self._batch, self._chosen, theta, *happened, errors)
        self._looked = True
        rows = loss.of_results(solution.results, theta)
        value, scale = loss.reduced(*rows.totals)
        solution.results["sample_loss"] = rows.sample
        if not wanted:
            return LossAndGrad(value, {}, solution=solution)
        by_solve = tuple(name for name in wanted if name != "target")
        found = solution.vjp(solver.batch.unflatten(rows.dy * scale), by_solve)
        gradients = {name: getattr(found, name) for name in by_solve}
        if "theta" in wanted and rows.theta.size:
            at = solver.system.offsets["loss"]
            gradients["theta"][at : at + rows.theta.size] += rows.theta * scale
        if "t" in wanted and rows.t is not None:
            gradients["t"] = _sum(gradients["t"], solver.batch.by_time(rows.t * scale))
        if "target" in wanted and rows.target is not None:
            gradients["target"] = solver.batch.unflatten(rows.target * scale)
        return LossAndGrad(value, gradients, solution=solution)


def _sum(x: Any, y: Any) -> Any:
    """That of two arrays, or of two lists of them."""
    return [a + b for a, b in zip(x, y, strict=True)] if isinstance(x, list) else x + y


def _scaled(raw: _core.Results, scale: float) -> NDArray[np.float64]:
    """The gradient of theta times `scale`, in the run's own array: memory for another takes time."""
    gradient: NDArray[np.float64] = raw["g_theta"]
    gradient *= scale
    return gradient
