"""Solves whose gradient is asked for later, once or several times, without solving again: what frameworks build on."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from pynode import _core
from pynode.calls.cache import Recent, kind
from pynode.calls.solve import solve
from pynode.data.batch import as_batch
from pynode.engine.gradients import shaped_gradients, solution_vjp
from pynode.engine.options import AUTO, Options
from pynode.engine.problem import PreparedSolve
from pynode.engine.solution import Errors, Solution, check_errors, warn_or_raise
from pynode.fields.field import Field
from pynode.fields.tangents import tangent_field

MOST_SAMPLES = 4096
"""Solves of more samples keep no tape: their gradient solves again, by which it takes less memory."""

MOST_SPARE = 4
"""So many tapes that nobody uses are kept, with their own memory, without the arrays of the solve."""

SPARE: list[_core.Tape] = []
"""Tapes that nobody uses."""


class Taped:
    """One solve of a batch, and what its gradient needs.

    Attributes
    ----------
    y : (B, T, d) array
        The states.
    """

    def __init__(self, setup: PreparedSolve, theta: NDArray[Any], y0: NDArray[Any], tape: _core.Tape | None) -> None:
        """Solve; tape: where to keep what the gradient needs, or None."""
        self.setup, self.tape = setup, tape
        if tape is not None:
            self.raw = setup.problem.run(theta, y0=y0, gradient="discrete", tape=tape)
        else:
            self.raw = setup.run(theta, y0=y0)
        self.y = self.raw["y"].reshape(setup.shape)

    @property
    def solution(self) -> Solution:
        """The same as `solve` gives it."""
        return Solution(self.setup, self.raw["theta"], self.raw, self.raw["y0"])

    def say(self, errors: Errors) -> None:
        """Warn or raise about samples that failed, tolerances, stiffness: as `solve` does."""
        raw = self.raw
        if raw["failed"] or raw["below"] or raw["many"]:
            warn_or_raise(self.solution, errors)

    def back(self, dy: NDArray[Any], wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        """The gradients of sum(dy * y).

        Parameters
        ----------
        dy : (B, T, d) array
            Numbers that are not finite make gradients that are not.
        wanted : names out of "theta", "y0", "t", "inputs"

        Returns
        -------
        dict
            name -> gradient, in the shape of what it belongs to.
        """
        wanted = tuple(wanted)
        if self.tape is not None:
            raw = self.setup.problem.back(self.tape, dy, "y0" in wanted, "t" in wanted, "inputs" in wanted)
            grads = (raw["g_theta"], raw.get("g_y0"), raw.get("g_t"), raw.get("g_coef"))
            found = shaped_gradients(self.setup, wanted, raw, grads)
            if all(np.isfinite(g).all() for g in found.values()) or not np.isfinite(dy).all():
                return found
        if not np.isfinite(dy).all():
            batch, pieces = self.setup.batch, self.setup.pieces
            like = (self.raw["theta"], batch.y0, batch.row_times(), None if pieces is None else pieces.coef)
            nan = [None if x is None else np.full_like(x, np.nan) for x in like]
            return shaped_gradients(self.setup, wanted, self.raw, nan)
        gradients = solution_vjp(self.solution, dy, wanted, None, None)  # which looks for the samples without a gradient
        return {name: getattr(gradients, name) for name in wanted}

    def __del__(self, spare: list[_core.Tape] = SPARE, most: int = MOST_SPARE) -> None:
        tape = getattr(self, "tape", None)
        if tape is not None and len(spare) < most:
            tape.clear()
            spare.append(tape)


def unused_tape() -> _core.Tape:
    """One of `SPARE`, or a new one where there is none."""
    try:
        return SPARE.pop()
    except IndexError:  # asking first would leave time for another thread to take the last one
        return _core.Tape()


NUMBERS = itertools.count(1)
"""What counts solvers and tapes, for who can hold nothing but numbers."""

SOLVERS: WeakValueDictionary[int, TapedSolver] = WeakValueDictionary()
"""number -> solver."""


class TapedSolver:
    """Solves of one field by the same options.

    Parameters
    ----------
    f : Field
        What is solved.
    errors : {"warn", "raise", "ignore"}
        What to do if samples fail.
    primal : TapedSolver, optional
        The field is that of the tangents of this one: its steps are taken.
    **options : as in `solve`
        The method, tolerances, steps.

    Attributes
    ----------
    number : int
        By which `SOLVERS` knows it as long as it lives.
    """

    def __init__(self, f: Field, errors: Errors = "warn", primal: TapedSolver | None = None, **options: Any) -> None:
        check_errors(errors)
        Options(**options)
        self.field = f
        self.errors = errors
        self.primal = primal
        self.options = options
        self._setups: Recent[PreparedSolve] = Recent()
        self.number = next(NUMBERS)
        SOLVERS[self.number] = self

    def __reduce__(self) -> Any:
        """Copies and pickles: made anew, with a number of their own."""
        return _made_again, (self.field, self.errors, self.primal, self.options)

    def run(
        self, y0: NDArray[Any], t: NDArray[np.float64], theta: NDArray[Any], inputs: Any = None, keep: bool = False
    ) -> Taped:
        """Solve.

        Parameters
        ----------
        y0 : (B, d) array
            Of float64 or float32, as theta is.
        t : (T,) or (B, T) array
        theta : (n_params,) or (B, n_params) array
        inputs : as in `solve`
        keep : bool
            The gradient will be wanted.

        Returns
        -------
        Taped
        """
        setup = self._setup(y0, t, theta, inputs)
        kept = keep and self.field.callback is None and len(y0) <= MOST_SAMPLES
        taped = Taped(setup, setup.parameters(theta), y0, unused_tape() if kept else None)
        taped.say(self.errors)
        return taped

    def _setup(self, y0: NDArray[Any], t: NDArray[np.float64], theta: NDArray[Any], inputs: Any) -> PreparedSolve:
        f = self.field

        def make() -> PreparedSolve:
            options = dict(self.options)
            if self.primal is not None:
                options = {"method": options.get("method", "dopri5"), "grid": self.grids(y0, t, theta, inputs)}
            batch = as_batch(y0, t, f.d, y0.dtype)
            return PreparedSolve(f, batch, Options(inputs=inputs, **options), gradient=True, own_inputs=inputs is not None)

        if inputs is None and self.primal is None and f.callback is None:
            return self._setups.of(kind(y0, t), make)
        return make()

    def grids(self, y0: NDArray[Any], t: NDArray[np.float64], theta: NDArray[Any], inputs: Any = None) -> list[Any]:
        """(B,) arrays: the ends of the steps of each sample.

        Parameters
        ----------
        y0, t, theta, inputs : as in `run`
            What is solved.
        """
        if self.primal is not None:
            d, n = self.primal.field.d, self.primal.field.n_params
            return self.primal.grids(np.ascontiguousarray(y0[:, :d]), t, np.ascontiguousarray(theta[..., :n]), inputs)
        return solve(self.field, y0, t, theta, inputs=inputs, steps=True, errors="ignore", **self.options).grids

    @cached_property
    def tangent(self) -> TapedSolver:
        """Solves [y, v] from [y0, v0] with [theta, w]: v = (dy/dy0) v0 + (dy/dtheta) w, the derivative of the steps."""
        f, options = self.field, self.options
        method = options.get("method", "dopri5")
        if f.callback is not None:
            raise NotImplementedError(
                f"{f.name} is a Python callback, which has no forward-mode or second derivatives: write it in NumPy "
                "operations (pynode.field)"
            )
        if method == AUTO or Options(**options).partitioned:
            raise NotImplementedError(
                f"method={method!r} has first derivatives only, by backpropagation: take one that treats all states alike "
                "and stays the same, for example 'dopri5', 'rk4' or 'rodas5p'"
            )
        return TapedSolver(tangent_field(f), self.errors, self, method=method)


def _made_again(f: Field, errors: Errors, primal: TapedSolver | None, options: dict[str, Any]) -> TapedSolver:
    return TapedSolver(f, errors, primal, **options)
