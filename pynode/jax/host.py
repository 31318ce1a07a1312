"""What the primitives of `primitives.py` compute, by the core: solutions, and products with their derivatives.

All functions take a `Call` and arrays: y0 (B, d), t (B, T), theta (p,) or (B, p). J is the derivative of the solution
(B, T, d) with respect to x = (y0, theta).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as _field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode import _core
from pynode.calls.cache import Recent, kind
from pynode.data.batch import as_batch
from pynode.engine.options import Options
from pynode.engine.problem import PreparedSolve
from pynode.engine.solution import Errors, Solution, warn_or_raise
from pynode.fields.field import Field
from pynode.fields.tangents import tangent_field
from pynode.training.sweeps import beside_tangents

Array = NDArray[Any]

KEPT_HANDLES = 64
"""So many calls can be found by compiled programs though no program that JAX holds has them: one may run still."""


@dataclass(frozen=True)
class Call:
    """A field and how it is solved: what is the same whatever the arrays are.

    Attributes
    ----------
    field : Field
    options : tuple of (name, value)
        Of `pynode.solve`; values can be hashed.
    errors : {"warn", "raise", "ignore"}
        What to do where a sample fails.
    of_tangents : bool
        The states have their tangents beside them.
    """

    field: Field
    options: tuple[tuple[str, Any], ...]
    errors: Errors = "warn"
    of_tangents: bool = False
    setups: Recent[PreparedSolve] = _field(default_factory=Recent, compare=False, repr=False)

    def prepared(self, y0: Array, t: Array) -> PreparedSolve:
        """For initial states of this shape and precision, and these times."""

        def make() -> PreparedSolve:
            times = t[0] if (t == t[0]).all() else list(t)
            batch = as_batch(np.zeros_like(y0), times, self.field.d, y0.dtype)
            return PreparedSolve(self.field, batch, Options(**dict(self.options)), gradient=True)

        return self.setups.of(kind(y0, t), make)

    def run(self, y0: Array, t: Array, theta: Array, g: Array | None = None) -> Any:
        """The core's results; g (B, T, d): with the gradients of sum(g y)."""
        setup = self.prepared(y0, t)
        if g is None:
            raw = setup.run(theta, y0=y0)
        else:
            seed = np.ascontiguousarray(g.reshape(-1, self.field.d))
            raw = setup.run(theta, y0=y0, g_y=seed, gradient="discrete", wrt_y0=True)
        if raw["failed"] or (not self.of_tangents and (raw["below"] or raw["many"])):
            warn_or_raise(Solution(setup, theta, raw), self.errors, accuracy=not self.of_tangents)
        return raw

    @property
    def beside_tangents(self) -> "Call":
        """The call for states and their tangents together, of which the states choose the steps.

        Its field is that of (y, dy), with parameters (theta, v); see `pynode.fields.tangents`.
        """
        options = beside_tangents(dict(self.options), self.field.d)
        options["atol"] = tuple(options["atol"].tolist())
        return Call(tangent_field(self.field), tuple(sorted(options.items())), self.errors, True)


def solution(call: Call, y0: Array, t: Array, theta: Array) -> Array:
    """(B, T, d) the states."""
    return np.asarray(call.run(y0, t, theta)["y"]).reshape(*t.shape, -1)


def backward(call: Call, y0: Array, t: Array, theta: Array, g: Array) -> tuple[Array, Array]:
    """J^T g, by the adjoint of the steps: its parts for y0 (B, d) and theta (p,) or (B, p)."""
    raw = call.run(y0, t, theta, g)
    return raw["g_y0"], raw["g_theta"].reshape(theta.shape)


HOST: dict[str, Callable[..., Any]] = {"solve": solution, "backward": backward}
"""Name of a primitive -> what computes it."""


@dataclass(frozen=True)
class Handle:
    """What a compiled program finds a call by.

    Attributes
    ----------
    number : int
        Of this process alone: a program that another one compiled must not find anything.
    core : _core.XlaCall
    """

    number: int
    core: _core.XlaCall


HANDLES: Recent[Handle] = Recent()
"""Those used last."""


def handle(call: Call) -> Handle:
    """The handle of a call; it can be found as long as somebody holds it, and a while longer."""

    def make() -> Handle:
        number = int.from_bytes(os.urandom(8), "little", signed=True)
        prepare, again = partial(_prepare, call), partial(_again, call)
        return Handle(number, _core.XlaCall(number, prepare, again, call.errors == "ignore", call.of_tangents))

    return HANDLES.of(call, make, KEPT_HANDLES)


def _prepare(call: Call, y0: Array, t: Array, theta: Array, g: Array | None) -> _core.Problem:
    """The problem for such arrays."""
    return call.prepared(y0, t).problem


def _again(call: Call, y0: Array, t: Array, theta: Array, g: Array | None) -> None:
    """Solve in Python what was remarkable, for what is said of it."""
    call.run(y0, t, theta, g)
