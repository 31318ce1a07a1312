"""What a solve returns: `Solution`, `Stats`, and what is said of samples that failed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pynode import _core
from pynode.data.arrays import as_sample, read_only, real_array
from pynode.data.knots import not_finite
from pynode.engine.gradients import solution_vjp
from pynode.engine.problem import PreparedSolve
from pynode.engine.stiffness import stiff_words
from pynode.errors import MESSAGES, OK, STATUS, SolveError, SolveWarning, StiffnessWarning, users_level

if TYPE_CHECKING:
    from pynode.data.batch import Batch
    from pynode.engine.gradients import Gradients


Errors = Literal["warn", "raise", "ignore"]
"""What to do if samples fail."""

FAILURES = get_args(Errors)


COUNTS = ("nfe", "accepted", "rejected", "stiff_steps", "jacobians", "factorisations")
"""What a solve counts, for each sample."""


@dataclass(frozen=True)
class Stats:
    """What a solve cost, per sample.

    Attributes
    ----------
    nfe, accepted, rejected : (B,) int64 arrays (integers for one sample)
        Evaluations of the field (those for differences among them), accepted steps, rejected attempts.
    stiff : (B,) int64 array (an integer for one sample)
        With method="auto" the accepted steps by "rodas5p", else 0.
    backend : str
        The instruction set of the C core, or "callback" where Python evaluates the field (slow).
    jacobians, factorisations : (B,) int64 arrays (integers for one sample)
        Jacobians that were evaluated and matrices that were factored, where the method solves linear systems.
    jacobian : {"none", "program", "given", "differences"}
        Where the Jacobians come from: the program of the field; for a `callback_field` the function given with it, or
        forward differences; "none" where the method is explicit.

    Examples
    --------
    >>> import pynode as pn
    >>> f = pn.mlp(2, (8,))
    >>> pn.solve(f, [1.0, 0.0], [0.0, 1.0], f.init(0), method="rk4", step=0.25).stats.accepted
    4
    """

    nfe: np.ndarray | int
    accepted: np.ndarray | int
    rejected: np.ndarray | int
    backend: str
    stiff: np.ndarray | int = 0
    jacobians: np.ndarray | int = 0
    factorisations: np.ndarray | int = 0
    jacobian: str = "none"


class Result:
    """What does not change after it was made; attributes may be made when they are first asked for."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a {type(self).__name__} cannot be changed")

    def __getstate__(self) -> dict[str, Any]:
        """The core's results as a plain dict, and nothing that can be made again: for pickles and copies."""
        made = {name for kind in type(self).__mro__ for name, x in vars(kind).items() if isinstance(x, cached_property)}
        state = {name: value for name, value in self.__dict__.items() if name not in made}
        if "results" in state:
            state["results"] = {name: state["results"][name] for name in state["results"]}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class Solution(Result):
    """The result of `solve`.

    Attributes
    ----------
    t : the times, as given
        A copy, read-only.
    y : (T, d), (B, T, d), or a list of (T_i, d)
        States at the times (after the jumps of a System there); NaN after a failure.
    status : int or (B,) int32 array
        0 is ok; names in `pynode.STATUS`.
    stats : Stats
    field : Field or System
    theta : (n_params,) array, or (B, n_params) with a row for each sample
        A copy, read-only.
    prepared : PreparedSolve
        What was solved, checked.
    results : mapping
        The numbers of the core, one row for each sample and time.

    See Also
    --------
    EventSolution : the solution where there are events.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> f = pn.field(state=1, theta={"k": 2.0})(lambda t, y, th: -th.k * y)
    >>> sol = pn.solve(f, [1.0], [0.0, 0.5, 1.0], f.init(), dense=True)
    >>> bool(abs(sol(0.3)[0] - np.exp(-0.6)) < 1e-5)
    True
    >>> sol.vjp([[0.0], [0.0], [1.0]]).theta.shape
    (1,)
    """

    y: Any
    prepared: PreparedSolve
    results: _core.Results
    _theta: NDArray[Any]
    _y0: Any

    def __init__(self, setup: PreparedSolve, theta: NDArray[Any], raw: Any, y0: Any = None) -> None:
        """y0: where it is not that of the setup's batch, but of the same shape; theta and y0 are the solution's own."""
        values, rows, shape = self.__dict__, raw["y"], setup.shape
        values["y"] = rows.reshape(shape) if shape else setup.batch.unflatten(rows)
        values["_theta"], values["prepared"], values["results"], values["_y0"] = theta, setup, raw, y0

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        del state["y"]  # a view of the results
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__["y"] = self._shaped(state["results"]["y"])

    def _shaped(self, rows: Any) -> Any:
        shape = self.prepared.shape
        return rows.reshape(shape) if shape else self.prepared.batch.unflatten(rows)

    @cached_property
    def batch(self) -> Batch:
        """Initial states and times."""
        batch = self.prepared.batch
        return batch if self._y0 is None else replace(batch, y0=read_only(self._y0).reshape(batch.y0.shape))

    @cached_property
    def theta(self) -> NDArray[Any]:
        """The parameters, read-only."""
        return read_only(self._theta)

    @cached_property
    def t(self) -> Any:
        """The times, as given, read-only."""
        times = self.batch.times()
        return [read_only(x) for x in times] if isinstance(times, list) else read_only(times)

    @cached_property
    def status(self) -> Any:
        """How each sample ended: 0 is ok, names in `pynode.STATUS`."""
        status = self.results["status"]
        return int(status[0]) if self.prepared.single else status

    @cached_property
    def stats(self) -> Stats:
        """What the solve cost."""
        values: list[Any] = [self.results[name] for name in COUNTS]
        nfe, accepted, rejected, stiff, jacobians, factors = [int(v[0]) for v in values] if self.prepared.single else values
        backend = self.prepared.backend or self.results["isa"]
        return Stats(nfe, accepted, rejected, backend, stiff, jacobians, factors, self.prepared.jacobian)

    @property
    def field(self) -> Any:
        """The Field or System that was solved."""
        return self.prepared.field

    def __repr__(self) -> str:
        shape = self.y.shape if isinstance(self.y, np.ndarray) else [y.shape for y in self.y]
        return f"<Solution of {self.field.name}: y {shape}, {self.message()}>"

    @property
    def ok(self) -> bool:
        """Whether every sample reached its last time."""
        return bool(self.results["failed"] == 0)

    @property
    def y_before(self) -> Any:
        """States before the jumps of a System, in the shape of y."""
        if "y_before" not in self.results:
            raise ValueError("y_before is the state before a jump, but there was none: solve a System with jump=")
        return self.prepared.batch.unflatten(self.results["y_before"])

    @property
    def steps(self) -> Any:
        """Ends of the accepted steps, first = initial time: an array for one sample, else a list (needs steps=True)."""
        if "steps" not in self.results:
            raise ValueError("the steps were not kept: solve(..., steps=True) or dense=True keeps them")
        grids = self.grids
        return grids[0] if self.prepared.single else grids

    @cached_property
    def grids(self) -> list[NDArray[np.float64]]:
        """(B,) the ends of the accepted steps of each sample, the first being its initial time."""
        record, offset = self.results["steps"]
        batch = self.batch
        grids = []
        for i, (a, b) in enumerate(pairwise(offset)):
            first = batch.t[batch.start[i]]
            if b == a:
                grids.append(np.array([first]))
                continue
            last, end = batch.t[batch.start[i] + batch.length[i] - 1], record[b - 1, 0] + record[b - 1, 1]
            end = (
                last if abs(end - last) <= 4.5e-16 * max(abs(end), abs(last), abs(record[b - 1, 0])) else end
            )  # t + (last - t)
            grids.append(np.concatenate([[first], record[a + 1 : b, 0], [end]]))
        return grids

    def __call__(self, t: Any, sample: int | None = None) -> NDArray[Any]:
        """The solution between the steps (needs dense=True).

        Parameters
        ----------
        t : float or array of times inside the interval that was solved
        sample : int, optional
            Which sample of a batch; all of them (a stacked result) if not given.

        Returns
        -------
        (..., d) array; for a batch (B, ..., d)
        """
        if not self._setup_dense:
            raise ValueError("the dense output was not kept: solve(..., dense=True) keeps it")
        if self.prepared.single:
            return self._dense(t, 0)
        if sample is not None:
            return self._dense(t, as_sample(sample, len(self.batch.y0)))
        if not len(self.batch.y0):
            return np.zeros((0, *np.shape(t), self.field.d))
        return np.stack([self._dense(t, i) for i in range(len(self.batch.y0))])

    @property
    def _setup_dense(self) -> Any:
        return "steps" in self.results and self.results["steps"][0].shape[1] > 2

    def _dense(self, t: Any, i: int) -> NDArray[Any]:
        record, offset = self.results["steps"]
        record, d, t = record[offset[i] : offset[i + 1]], self.field.d, real_array("t", t, np.float64)
        if not len(record):
            first = self.batch.t[self.batch.start[i]]
            if (t != first).any():
                raise ValueError(f"sample {i} was solved at t = {first:g} only")
            return np.broadcast_to(self.batch.y0[i], (*t.shape, d)).astype(np.float64)
        low, high = sorted((record[0, 0], record[-1, 0] + record[-1, 1]))
        slack = 1e-12 * max(abs(low), abs(high))
        if t.size and (not (t >= low - slack).all() or not (t <= high + slack).all()):
            raise ValueError(f"t must lie in the interval that was solved, [{low:g}, {high:g}]")
        way = 1 if record[0, 1] > 0 else -1
        at = np.clip(np.searchsorted(way * record[:, 0], way * t, side="right") - 1, 0, len(record) - 1)
        theta = (t - record[at, 0]) / record[at, 1]
        coef = record[at, 2:].reshape(*t.shape, (record.shape[1] - 2) // d, d)
        y = np.zeros((*t.shape, d))
        for q in range(coef.shape[-2] - 1, -1, -1):
            y = y * theta[..., None] + coef[..., q, :]
        return y

    def message(self, sample: int | None = None) -> str:
        """What happened, with a hint, in a line.

        Parameters
        ----------
        sample : int, optional
            Which sample; default: the first that failed.

        Returns
        -------
        str
            "ok" where nothing failed.
        """
        raw, batch = self.results, self.batch
        bad = np.flatnonzero(raw["status"] != OK) if sample is None else [sample]
        if len(bad) == 0 or raw["status"][bad[0]] == OK:
            return "ok"
        i = int(bad[0])
        status = raw["status"][i]
        where = f" component {raw['stop_component'][i]}" if raw["stop_component"][i] >= 0 else ""
        bad_y0 = np.flatnonzero(~np.isfinite(batch.y0[i]))
        if STATUS[status] == "bad_input" and len(bad_y0):
            where += f", y0[{'' if self.prepared.single else f'{i}, '}{bad_y0[0]}] is {batch.y0[i, bad_y0[0]]}"
        elif STATUS[status] == "bad_input" and self.prepared.signal is not None:
            signal = self.prepared.signal
            own = 0 if signal.shared else i
            where += not_finite(signal.t[own], signal.u[own], signal.kind, batch.y0.dtype)
        many = f"{len(bad)} of {len(batch.y0)} samples failed; sample {i}: " if len(batch.y0) > 1 else ""
        return f"{many}{STATUS[status]} at t = {raw['stop_t'][i]:.6g}{where}: {MESSAGES[status]}"

    def vjp(self, dy: Any, wrt: Any = ("theta", "y0"), adjoint: str | None = None, memory: Any = None) -> Gradients:
        """Gradients of any loss of yours: vector-Jacobian product with the cotangent dy of y.

        Parameters
        ----------
        dy : like y
            dL/dy at every saved entry.
        wrt : name or tuple out of "theta", "y0", "t", "inputs", "data"
            What to differentiate with respect to.
        adjoint : {"discrete", "backsolve", "interpolating", "reversible"}, optional
            Default "discrete" ("reversible" where the solve was). The solve is run again.
        memory : int or str, optional
            Budget of the tape, e.g. "64MB".

        Returns
        -------
        Gradients
        """
        return solution_vjp(self, dy, wrt, adjoint, memory)


def check_errors(errors: str) -> None:
    """Before the work is done."""
    if errors not in FAILURES:
        raise ValueError(f"errors={errors!r} must be one of {', '.join(FAILURES)}")


def warn_or_raise(solution: Solution, errors: str, accuracy: bool = True) -> None:
    """Warn or raise about failed samples; accuracy: warn of components that the tolerances do not control, too."""
    if errors != "ignore" and not solution.ok:
        if errors == "raise":
            raise SolveError(solution.message())
        warnings.warn(solution.message(), SolveWarning, stacklevel=users_level())
    if accuracy:
        results = solution.results
        if results.get("below", True):
            solution.prepared.accuracy.check(results["y"])
        if errors != "ignore" and results.get("many", False):
            check_stiffness(solution.prepared, solution.theta, results)


def check_stiffness(prepared: PreparedSolve, theta: NDArray[Any], results: Any) -> None:
    """Warn where an explicit method took its steps at the limit of its stability."""
    words = stiff_words(prepared, theta, results)
    if words is not None:
        warnings.warn(words, StiffnessWarning, stacklevel=users_level())


class LossAndGrad(Result):
    """The result of `loss_and_grad`.

    Attributes
    ----------
    loss : float
    theta, y0, t, inputs, data, target : gradients, see `Gradients`
    sample_loss : (B,)
        Sum over each sample's observed entries of weight * rho(y - target), or over its rows of a loss program.
    solution : Solution
        An `EventSolution` where there are events.

    See Also
    --------
    loss_and_grad : makes one.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> f = pn.mlp(2, (8,))
    >>> t = np.linspace(0, 1, 5)
    >>> val = pn.loss_and_grad(f, np.ones((3, 2)), t, f.init(0), np.zeros((3, 5, 2)), wrt=("theta", "y0"))
    >>> val.y0.shape, val.sample_loss.shape, val.solution.ok
    ((3, 2), (3,), True)
    """

    loss: float
    theta: Any = None
    y0: Any = None
    t: Any = None
    inputs: Any = None
    data: Any = None
    target: Any = None
    _parts: tuple[Any, ...]

    def __init__(self, loss: float, gradients: dict[str, Any], *parts: Any, solution: Solution | None = None) -> None:
        """parts: of the `Solution`, which is made of them when it is asked for; or the solution itself."""
        self.__dict__.update(gradients, loss=loss, _parts=parts)
        if solution is not None:
            self.__dict__["solution"] = solution

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return state | {"solution": self.solution, "_parts": ()}

    @cached_property
    def solution(self) -> Solution:
        """The forward solve."""
        return Solution(*self._parts)

    @property
    def sample_loss(self) -> NDArray[np.float64]:
        """(B,) the loss of each sample, summed."""
        loss: NDArray[np.float64] = self.solution.results["sample_loss"]
        return loss

    @property
    def y(self) -> Any:
        """The states, see `Solution`."""
        return self.solution.y

    @property
    def status(self) -> Any:
        """How each sample ended, see `Solution`."""
        return self.solution.status

    @property
    def stats(self) -> Stats:
        """What the forward solve cost."""
        return self.solution.stats

    def __repr__(self) -> str:
        return f"<LossAndGrad: loss {self.loss:g}, {self.solution!r}>"
