"""`solve`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from numpy.typing import ArrayLike, DTypeLike

from pynode.calls.cache import by_value, keep, recall, same_rows, serves
from pynode.calls.consistent import check_consistent
from pynode.calls.discontinuous import check_discontinuities
from pynode.data.arrays import as_integer, kept
from pynode.data.batch import as_batch
from pynode.engine.options import Options
from pynode.engine.problem import PreparedSolve
from pynode.engine.solution import Errors, Solution, check_errors, warn_or_raise
from pynode.engine.tableau import Tableau
from pynode.events.forward import ONE_THETA, solve_with_events
from pynode.events.rounds import Solver
from pynode.fields.arguments import Theta, Times, as_dynamics, as_theta, as_y0, refuse_rows, shared_start
from pynode.fields.event import Event
from pynode.fields.field import Field
from pynode.fields.system import System


def solve(
    f: Field | System | Callable[..., Any],
    y0: ArrayLike,
    t: Times,
    theta: Theta = None,
    *,
    method: str | Tableau = "dopri5",
    rtol: float = 1e-6,
    atol: ArrayLike = 1e-8,
    step: float | None = None,
    save: Literal["interpolate", "land"] = "interpolate",
    inputs: Any = None,
    max_steps: int | None = None,
    first_step: float | None = None,
    max_step: float | None = None,
    grid: ArrayLike | Sequence[ArrayLike] | None = None,
    coupling: float = 0.0,
    data: ArrayLike | Sequence[ArrayLike] | None = None,
    dense: bool = False,
    steps: bool = False,
    dtype: DTypeLike | None = None,
    threads: int = 0,
    mass: ArrayLike | None = None,
    errors: Errors = "warn",
    events: Event | Sequence[Event] | None = None,
    max_events: int = 1000,
) -> Solution:
    """Solve dy/dt = f(t, y; theta) for one sample or a batch.

    Every sample has steps of its own; a stiff one does not slow the others, and its result does not depend on who shares
    the batch.

    Parameters
    ----------
    f : Field, System, or a function f(t, y) -> (d,)
        A plain Python function is called at every stage (slow; ``stats.backend == "callback"``); see `callback_field`.
    y0 : (d,) or (B, d) array
        Initial states. float32 solves in float32, all else in float64. A pandas Series whose labels are the names of the
        states goes by name, as a DataFrame with such columns does; without names, or with numbers for labels, by position.
    t : (T,) array, (B, T) array, or list of B arrays
        Times of the results, the first being the initial time. Monotone, either direction; repeats are allowed.
    theta : (n_params,) array or nested dict; or (B, n_params)
        Parameters of the field. With a row for each sample, or a dict some of whose entries have a leading axis B, every
        sample has parameters of its own; a y0 (d,) is then that of all of them. A pandas Series goes by name, as y0 does.
    method : str or Tableau
        "euler", "midpoint", "heun", "rk4", "rk38", "bosh3", "dopri5", "tsit5", "dop853"; for stiff equations the Rosenbrock
        methods "rosenbrock23", "ros34pw2", "rodas4", "rodas5p"; "auto": "dopri5", and "rodas5p" for each sample while it is
        stiff (Hairer, Wanner, Solving ODEs II, IV.2; ``stats.stiff`` counts those steps); "leapfrog" (order 2), "yoshida4":
        symplectic for y = (q, v) in halves where dq/dt does not depend on q and dv/dt not on v (`second_order`,
        `hamiltonian` with H = T(p) + V(q)), with step= or grid=. Elsewhere (friction) they are of order 2 and 3, and
        not symplectic.
    rtol, atol : float
        Relative and absolute tolerance of the local error (root mean square over components); atol may be (d,).
    step : float, optional
        Fixed step size; the last step of the interval is shortened to land on its end.
    save : {"interpolate", "land"}
        Results by the method's dense output, or with a step ending at every time.
    inputs : Signal, (t, u), (t, u, kind), or array (m,) / (B, m)
        The input signal of a field with inputs; see `Signal`.
    max_steps : int, optional
        Attempts allowed for each sample; default 100000 and one for each knot of its input and each time (no limit for a
        fixed step).
    first_step, max_step : float, optional
        Bounds for adaptive steps; the default first step is Hairer's.
    grid : (N,) array or list of B arrays, optional
        Prescribed ends of all steps, from the initial to the last time.
    coupling : float
        0 < coupling <= 1: the reversible scheme of McCallum & Foster (2024) over the method, landing on every time.
        Its gradient goes the steps back, where rounding grows like coupling^-steps: stay close to 1.
    data : (T, k), (B, T, k), or list of (T_i, k), optional
        What the jump of a System takes at each time: a step ends there, and the state becomes J(t, y, x). Where the first
        entry is NaN, nothing jumps. The result is the state after the jump; `Solution.y_before` that before it.
    dense, steps : bool
        Keep the dense output (``sol(t)``), the ends of the steps (``sol.steps``).
    dtype : {float64, float32}, optional
    threads : int
        0: `pynode.set_num_threads` or the environment variable PYNODE_NUM_THREADS decides. The result is the same.
    mass : (d, d) or (d,) array, optional
        M of M dy/dt = f(t, y), or its diagonal; constant, and perhaps singular: rows of 0 are equations that hold at all
        times (semi-explicit differential-algebraic equations of index 1). For Rosenbrock methods. y0 must satisfy such
        equations, each component to 1e-6 of itself (where steps are chosen also to its atol), see `consistent_state`.
    errors : {"warn", "raise", "ignore"}
        What to do if samples fail; their results are NaN from the failure on, the others are not touched. With "ignore"
        there is no `StiffnessWarning` either.
    events : Event or list of Event, optional
        What happens where a function of t and y changes its sign; see `pynode.event`.
    max_events : int
        More events of one sample are a failure.

    Returns
    -------
    Solution, or EventSolution where there are events

    Raises
    ------
    ValueError, TypeError
        Arguments that cannot work.
    SolveError
        A sample failed and errors="raise".

    Warns
    -----
    SolveWarning
        A sample failed; or the algebraic equations of mass= are left where inputs or states jump, and the steps do not
        find back.
    StiffnessWarning
        An explicit method took its steps at the limit of its stability. Not with errors="ignore".
    ToleranceWarning
        A component that is not 0 stays below its atol, so that its accuracy is not controlled.

    See Also
    --------
    loss_and_grad : a loss on data and its gradient.
    odeint : torchdiffeq's signature.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> @pn.field(state=2)
    ... def pendulum(t, y):
    ...     return [y[1], -np.sin(y[0])]
    >>> sol = pn.solve(pendulum, [1.0, 0.0], np.linspace(0, 10, 101))
    >>> sol.y.shape
    (101, 2)
    """
    check_errors(errors)
    fine = by_value(atol)
    key = (method, rtol, fine, step, save, max_steps, first_step, max_step, coupling, threads, dense, steps, dtype)
    setup = recall(f, key, events) if inputs is None and grid is None and mass is None else None
    if setup is not None and same_rows(data, setup.data) and (arrays := serves(setup, theta, y0, t)):
        if isinstance(setup, Solver):
            most = as_integer("max_events", max_events, 1)
            return _with_events(setup.starting_from(arrays[1]), kept(arrays[0]), bool(steps or dense), most, errors)
        raw = setup.problem.run(arrays[0], y0=arrays[1])
        solution = Solution(setup, raw["theta"], raw, raw["y0"])  # its own copies
        warn_or_raise(solution, errors)
        return solution
    y0 = as_y0(f, y0, dtype)
    f = as_dynamics(f, max(1, y0.shape[-1]) if y0.ndim else 1, events)
    batch = as_batch(shared_start(f, y0, theta), t, f.d, dtype)
    options = Options(method, rtol, atol, step, save, inputs, max_steps, first_step, max_step, grid, coupling, threads, mass)
    if isinstance(f, System) and f.events:
        refuse_rows(f, theta, ONE_THETA)
        solver = Solver(f, batch, options, data=data, dense=bool(dense))
        most = as_integer("max_events", max_events, 1)
        theta = as_theta(f, theta, solver.dtype)
        check_consistent(f, batch, options, theta)
        keep(f, key, solver, solver)
        return _with_events(solver, theta, bool(steps or dense), most, errors)
    setup = PreparedSolve(f, batch, options, data=data, dense=bool(dense), steps=bool(dense or steps))
    theta = setup.parameters(theta)
    check_consistent(f, batch, options, theta)
    solution = Solution(setup, theta, setup.run(theta))
    check_discontinuities(f, batch, options, theta, solution.results, setup.jumps, None, errors)
    if mass is None:
        keep(f, key, setup, setup)
    warn_or_raise(solution, errors)
    return solution


def _with_events(solver: Solver, theta: Any, steps: bool, most: int, errors: Errors) -> Solution:
    solution = solve_with_events(solver, theta, steps, most)
    happened = solution.results, solver.jumps, solution.events
    check_discontinuities(solver.system, solver.batch, solver.options, theta, *happened, errors)
    warn_or_raise(solution, errors)
    return solution
