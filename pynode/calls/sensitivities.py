"""`sensitivities`: how every saved state, event and measurement depends on the parameters and the initial state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pynode.calls.consistent import check_consistent
from pynode.calls.discontinuous import check_discontinuities
from pynode.data.arrays import as_integer, real_array
from pynode.data.batch import as_batch
from pynode.engine.options import Options
from pynode.engine.problem import PreparedSolve
from pynode.engine.saltation import linearised, through
from pynode.engine.solution import Solution, check_errors, warn_or_raise
from pynode.errors import OK
from pynode.events.forward import MAX_EVENTS, ONE_THETA, solve_with_events
from pynode.events.jumping import between_jumps
from pynode.events.rounds import Solver, without_grid
from pynode.events.sensitivities import Sensitivity
from pynode.fields.arguments import as_dynamics, as_theta, as_y0, has_events, refuse_rows, shared_start, states_by_name
from pynode.fields.observation import as_observation
from pynode.fields.system import System

if TYPE_CHECKING:
    from pynode.engine.options import SolveOptions
    from pynode.engine.solution import Errors
    from pynode.fields.arguments import Theta, Times
    from pynode.fields.event import Event
    from pynode.fields.field import Field


class Jacobians(NamedTuple):
    """Derivatives of n numbers or states.

    Attributes
    ----------
    theta : (n, n_params) or (n, d, n_params) array
        With respect to the parameters.
    y0 : (n, d) or (n, d, d) array
        With respect to the initial state of the sample.
    """

    theta: NDArray[Any]
    y0: NDArray[Any]


@dataclass(frozen=True)
class EventSensitivities:
    """How events depend on the parameters and on the initial states, in the order of ``solution.events``.

    Attributes
    ----------
    t : Jacobians
        Of their times: theta (n, n_params), y0 (n, d).
    before, after : Jacobians
        Of the states on both sides of the reset: theta (n, d, n_params), y0 (n, d, d). The time is that of the event, which
        moves.

    See Also
    --------
    Sensitivities : has them as ``events``.

    Examples
    --------
    How long a stone falls depends on the height h as sqrt(2 h / g) does:

    >>> import pynode as pn
    >>> fall = pn.field(state=2)(lambda t, y: [y[1], -9.81])
    >>> s = pn.sensitivities(fall, [1.0, 0.0], [0.0, 2.0], events=pn.event(lambda t, y: y[0]))
    >>> bool(abs(s.events.t.y0[0, 0] - 0.5 * (2 / 9.81) ** 0.5) < 1e-8)
    True
    """

    t: Jacobians
    before: Jacobians
    after: Jacobians


@dataclass(frozen=True)
class Sensitivities:
    """The result of `sensitivities`; unpacks as (solution, theta, y0).

    Attributes
    ----------
    solution : Solution
        An `EventSolution` where there are events.
    theta : (T, k, n_params), (B, T, k, n_params), or a list
        d value/dtheta at every saved time; NaN from a sample's failure or terminal event on. Where theta has a row for each
        sample, the derivatives with respect to that row.
    y0 : (T, k, d), (B, T, k, d), or a list
        d value/dy0.
    value : (T, k), (B, T, k), or a list
        What is differentiated: the states, k = d; with ``observe=`` what is measured.
    events : EventSensitivities or None
        Those of the events, where there are any.

    See Also
    --------
    sensitivities : makes it.

    Examples
    --------
    >>> import pynode as pn
    >>> f = pn.mlp(2, (8,))
    >>> solution, by_theta, by_y0 = pn.sensitivities(f, [1.0, 0.0], [0.0, 0.5, 1.0], f.init(0))
    >>> by_theta.shape, by_y0.shape
    ((3, 2, 42), (3, 2, 2))
    """

    solution: Solution
    theta: Any
    y0: Any
    value: Any
    events: EventSensitivities | None = None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.solution, self.theta, self.y0))


class SensitivityProblem:
    """A batch, checked once, whose Jacobian is wanted for many theta (and y0): for Gauss-Newton loops.

    Parameters
    ----------
    f, y0, t, dtype, data, events, max_events : as in `solve`
        What is solved.
    observe : function or Field, optional
        What is measured, see `sensitivities`.
    **options : as in `solve`
        How it is solved.

    Raises
    ------
    ValueError, TypeError
        coupling is not 0; there are events and a grid; the arguments do not fit each other.

    See Also
    --------
    sensitivities : for a single solve.

    Examples
    --------
    >>> import pynode as pn
    >>> f = pn.mlp(2, (8,))
    >>> problem = pn.SensitivityProblem(f, [1.0, 0.0], [0.0, 0.5, 1.0])
    >>> problem.run(f.init(0))["sensitivity"].shape
    (3, 2, 44)
    """

    setup: PreparedSolve
    """What is solved in one go, checked; not there where there are events."""

    def __init__(
        self,
        f: Field | System | Callable[..., Any],
        y0: ArrayLike,
        t: Times,
        *,
        dtype: DTypeLike | None = None,
        data: ArrayLike | Sequence[ArrayLike] | None = None,
        events: Event | Sequence[Event] | None = None,
        max_events: int = MAX_EVENTS,
        observe: Callable[..., Any] | Field | None = None,
        **options: Unpack[SolveOptions],
    ) -> None:
        self.dynamics = f = as_dynamics(f, events=events)
        self.batch = batch = as_batch(as_y0(f, y0, dtype), t, f.d)
        chosen = Options.of("sensitivities", options)
        if chosen.coupling > 0:
            raise ValueError("sensitivities are those of the plain method: coupling must be 0")
        self._chosen = chosen
        self._observe = None if observe is None else as_observation(observe, f)
        self._max_events = as_integer("max_events", max_events, 1)
        self._solver: Solver | None = None
        self._has_events = has_events(f)
        if isinstance(f, System) and self._has_events:
            self._solver = Solver(f, batch, chosen, data=data)
            return
        jumps = isinstance(f, System) and f.jump is not None
        self.setup = PreparedSolve(f, batch, chosen, gradient=not jumps, data=data, steps=jumps)
        if isinstance(f, System) and jumps:
            self._solver = Solver(f, batch, without_grid(chosen), data=data)
        # States do not depend on the parameters of a loss: the field is solved by itself.
        self._alone = (
            PreparedSolve(f.field, batch, chosen, gradient=True) if isinstance(f, System) and not jumps else self.setup
        )

    def run(self, theta: Theta, y0: Any = None) -> Any:
        """Solve for some parameters.

        Parameters
        ----------
        theta : (n_params,) array or nested dict; or (B, n_params)
            The parameters, of all samples or, without events, a row for each.
        y0 : (B, d) array, optional
            Other initial states.

        Returns
        -------
        mapping
            The core's results: among others y (rows, d), status (B,), and sensitivity (rows, d, n_params + d), the
            derivatives with respect to the parameters and the initial state; 0 for the parameters of a loss. With events
            also events and, in their order, event_t (n, n_params + d), event_before and event_after (n, d, n_params + d).
            With ``observe=`` also value (rows, k) and value_sensitivity (rows, k, n_params + d).
        """
        return self._run(theta, y0)[0]

    def evaluate(self, theta: Theta, errors: Errors = "warn") -> Sensitivities:
        """What `sensitivities` gives.

        Parameters
        ----------
        theta : (n_params,) array or nested dict; or (B, n_params)
            The parameters, of all samples or, without events, a row for each.
        errors : {"warn", "raise", "ignore"}
            What to do if samples fail.

        Returns
        -------
        Sensitivities
        """
        check_errors(errors)
        raw, solution = self._run(theta, None)
        S = raw["sensitivity"]
        n = self.dynamics.n_params
        unflatten = self.batch.unflatten
        if self._solver is None:
            failed = np.repeat(raw["status"] != OK, self.batch.length)
            S[failed & np.isnan(raw["y"]).any(axis=1)] = np.nan
        if solution is None:
            solution = Solution(self.setup, self.setup.parameters(theta), raw)
        where = self.setup if self._solver is None or not self._has_events else self._solver
        happened = solution.results, where.jumps, raw["events"] if self._has_events else None
        check_discontinuities(self.dynamics, self.batch, self._chosen, solution.theta, *happened, errors)
        warn_or_raise(solution, errors)
        events = None
        if self._has_events:
            parts = [raw[name] for name in ("event_t", "event_before", "event_after")]
            events = EventSensitivities(*(Jacobians(x[..., :n], x[..., n:]) for x in parts))
        value = solution.y
        if self._observe is not None:
            value, S = unflatten(raw["value"]), raw["value_sensitivity"]
        return Sensitivities(solution, unflatten(S[:, :, :n]), unflatten(S[:, :, n:]), value, events)

    def _run(self, theta: Theta, y0: Any) -> tuple[Any, Solution | None]:
        if self._has_events:
            refuse_rows(self.dynamics, theta, ONE_THETA)
            ready = as_theta(self.dynamics, theta, self.batch.y0.dtype)
        else:
            ready = self.setup.parameters(theta)
        if self._chosen.mass is not None:
            batch = self.batch if y0 is None else replace(self.batch, y0=self._start(y0))
            check_consistent(self.dynamics, batch, self._chosen, ready)
        solution = None
        if self._has_events:
            raw, solution = self._through_events(ready, y0)
        else:
            raw = self._plain(ready, y0)
        if self._observe is not None:
            raw = self._measured(self._observe, raw, ready)
        return raw, solution

    def _start(self, y0: Any) -> NDArray[Any]:
        """Other initial states, checked."""
        start = real_array("y0", states_by_name("y0", self.dynamics, y0), self.batch.y0.dtype)
        if start.shape != self.batch.y0.shape:
            raise ValueError(f"y0 has shape {start.shape}; this problem has initial states {self.batch.y0.shape}")
        return start

    def _plain(self, ready: NDArray[Any], y0: Any) -> Any:
        """Without events."""
        if self._solver is not None:
            raw = self.setup.run(ready, y0=y0)
            begin = self.batch.y0 if y0 is None else np.asarray(y0, self.batch.y0.dtype)
            found = Sensitivity(self._solver, ready, raw, between_jumps(self._solver, raw, begin))
            raw["sensitivity"] = found.rows.astype(self.batch.y0.dtype)
            return raw
        n = self._alone.field.n_params
        raw = self._alone.run(np.ascontiguousarray(ready[..., :n]), y0=y0, sensitivity=True)
        if n < ready.shape[-1]:
            raw["sensitivity"] = np.insert(raw["sensitivity"], [n] * (ready.shape[-1] - n), 0.0, axis=2)
        return raw

    def _through_events(self, ready: NDArray[Any], y0: Any) -> tuple[Any, Solution]:
        solver, dtype = self._solver, self.batch.y0.dtype
        assert solver is not None
        if y0 is not None:
            solver = solver.starting_from(self._start(y0))
        solution = solve_with_events(solver, ready, max_events=self._max_events)
        found = Sensitivity(solver, ready, solution.results, solution.rounds)
        by = {"event_t": found.event_t, "event_before": found.event_before, "event_after": found.event_after}
        raw = dict(solution.results) | {"events": solution.events, "sensitivity": found.rows} | by
        return raw | {name: raw[name].astype(dtype) for name in ("sensitivity", "event_before", "event_after")}, solution

    def _measured(self, observe: Field, raw: Any, ready: NDArray[Any]) -> dict[str, Any]:
        """The results with what is measured, and its derivatives."""
        dtype = self.batch.y0.dtype
        t = self.batch.row_times()
        y = raw["y"].astype(np.float64)
        theta = ready.astype(np.float64)
        u = self._inputs() if observe.inputs else None
        S = raw["sensitivity"].astype(np.float64)
        thetas = [theta] if theta.ndim == 1 else list(theta)
        parts = [slice(None)] if theta.ndim == 1 else self.batch.slices()
        value = np.full((len(t), observe.n_out), np.nan)
        whole = np.full((len(t), observe.n_out, S.shape[-1]), np.nan)
        with np.errstate(all="ignore"):
            for rows, own in zip(parts, thetas, strict=True):
                point = t[rows], y[rows], own, None if u is None else u[rows]
                value[rows] = observe(*point)
                by = linearised(observe, *point)
                whole[rows] = through(S[rows], by.y, by.theta)
        unknown = np.isnan(y).any(axis=1)
        value[unknown] = whole[unknown] = np.nan
        measured = {"value": value.astype(dtype), "value_sensitivity": whole.astype(dtype)}
        return {name: raw[name] for name in raw} | measured

    def _inputs(self) -> NDArray[np.float64]:
        """(rows, m) the inputs at the saved times."""
        signal = self.setup.signal if self._solver is None else self._solver.signal
        assert signal is not None
        t = self.batch.row_times()
        parts = [signal(t[rows], 0 if signal.shared else i) for i, rows in enumerate(self.batch.slices())]
        return np.concatenate(parts)


def sensitivities(
    f: Field | System | Callable[..., Any],
    y0: ArrayLike,
    t: Times,
    theta: Theta = None,
    *,
    errors: Errors = "warn",
    dtype: DTypeLike | None = None,
    data: ArrayLike | Sequence[ArrayLike] | None = None,
    events: Event | Sequence[Event] | None = None,
    max_events: int = MAX_EVENTS,
    observe: Callable[..., Any] | Field | None = None,
    **options: Unpack[SolveOptions],
) -> Sensitivities:
    """Solve, with the exact sensitivities dy/dtheta and dy/dy0 of the steps taken (step sizes frozen).

    With J_i = df/dy and F_i = df/dtheta at stage i: K_i = J_i (S + h sum_j a_ij K_j) + F_i, S_new = S + h sum b_i K_i
    (staggered direct method; Hairer, Norsett, Wanner, Solving ODEs I, II.6). At jumps and events they go on by the rule at
    the head of `pynode.engine.saltation`.

    Parameters
    ----------
    f, y0, t, theta, errors, dtype, data, events, max_events : as in `solve`
        What is solved; the solution is that of `solve`.
    observe : function or Field, optional
        What is measured, k numbers: a function of (t, y), (t, y, th), or (t, y, th, u) where the field has inputs; th are
        the field's parameters, and a field without any has none here either. Or a Field, whose parameters are those of the
        field by their names. The derivatives are those of the k numbers then.
    **options : as in `solve`
        How it is solved.

    Returns
    -------
    Sensitivities

    Raises
    ------
    ValueError, TypeError
        coupling is not 0; there are events and a grid; an event is met at rate 0; the arguments do not fit each other.
    SolveError
        A sample failed and errors="raise".

    See Also
    --------
    SensitivityProblem : for many parameters.
    loss_and_grad : the gradient of a loss, which costs less.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> f = pn.field(state=1, theta={"k": 2.0})(lambda t, y, th: -th.k * y)
    >>> s = pn.sensitivities(f, [1.0], [0.0, 1.0], f.init(), rtol=1e-10, atol=1e-12)
    >>> bool(abs(s.theta[1, 0, 0] + np.exp(-2)) < 1e-8)
    True
    """
    check_errors(errors)
    y0 = as_y0(f, y0, dtype)
    f = as_dynamics(f, events=events)
    if not has_events(f):
        y0 = shared_start(f, y0, theta)
    problem = SensitivityProblem(f, y0, t, dtype=dtype, data=data, max_events=max_events, observe=observe, **options)
    return problem.evaluate(theta, errors)
