"""The keywords that say how to solve: method, tolerances, steps, memory; `Options`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode import _core
from pynode.data.arrays import as_integer, as_positive, is_ragged, own_array, real_array
from pynode.data.labels import by_position
from pynode.data.signal import as_signal
from pynode.engine.tableau import Tableau

if TYPE_CHECKING:
    from pynode.data.batch import Batch


MAX_STEPS = 100_000
"""Attempts of adaptive steps by default, besides those that end at knots and times."""


def tolerances(rtol: Any, atol: Any, d: int) -> dict[str, Any]:
    """Keywords rtol and atol (d,) of the core."""
    rtol = as_positive("rtol", rtol, zero=True)
    if rtol >= 1:
        raise ValueError(f"rtol={rtol:g} asks for no correct digit: it must be below 1")
    if type(atol) is float and 0 < atol < math.inf:  # as a rule
        return {"rtol": rtol, "atol": np.full(d, atol)}
    a = real_array("atol", by_position("atol", atol), np.float64)
    if a.shape not in ((), (d,)):
        raise ValueError(f"atol has shape {a.shape}: give one number or one for each of the {d} state components")
    if not np.isfinite(a).all() or (a < 0).any():
        raise ValueError(f"atol={a.tolist()} must be finite and not negative")
    if rtol == 0 and (a == 0).any():
        raise ValueError("rtol and atol must not both be 0")
    return {"rtol": rtol, "atol": np.broadcast_to(a, (d,)).copy()}


def as_memory(memory: Any) -> int:
    """Bytes: None, an int, or a string such as "64MB"."""
    if memory is None:
        return 0
    if isinstance(memory, str):
        text, units = (
            memory.strip().upper(),
            {"KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1},
        )
        for unit, factor in units.items():
            if text.endswith(unit):
                try:
                    value = float(text[: -len(unit)]) * factor
                except ValueError:
                    break
                if value > 0:
                    return int(min(max(value, 1), 2**62))
                break
        raise ValueError(f"memory={memory!r}: give a positive number of bytes, or a string such as '64MB'")
    try:
        return as_integer("memory", memory, 1)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"memory={memory!r} must be a positive number of bytes, a string such as '64MB', or None"
        ) from None


METHODS: dict[str, Mapping[str, Any]] = {row["name"]: row for row in _core.tableaus()}
"""name -> the method's tableau: order, stages, coefficients (the rows of csrc/method/tableau.c)."""


AUTO = "auto"
"""Each sample is solved by `AUTO_EXPLICIT`, and by `AUTO_STIFF` while it is stiff (csrc/forward/switch.inl)."""

AUTO_EXPLICIT, AUTO_STIFF = "dopri5", "rodas5p"


def method_row(method: str | Tableau) -> Mapping[str, Any]:
    """The tableau of a method: a name out of `METHODS`, or a `Tableau` of the user's; of "auto" that of its explicit method.

    Raises
    ------
    ValueError
        There is no such method.
    """
    if isinstance(method, Tableau):
        return method.row
    if not isinstance(method, str) or method not in (AUTO, *METHODS):
        raise ValueError(f"method={method!r} is not one of {', '.join(METHODS)}, {AUTO}, nor a pynode.Tableau")
    return METHODS[AUTO_EXPLICIT if method == AUTO else method]


def is_implicit(method: str | Tableau) -> bool:
    """Whether a method solves linear systems, "auto" in some steps, and so needs the Jacobian."""
    return method == AUTO or float(method_row(method)["gamma"]) > 0


MAX_FIXED = 1e10
"""So many fixed steps are taken for a mistake."""


class SolveOptions(TypedDict, total=False):
    """The keywords of `Options`, for type checkers: what functions take as ``**options``."""

    method: str | Tableau
    rtol: float
    atol: ArrayLike
    step: float | None
    save: Literal["interpolate", "land"]
    inputs: Any
    max_steps: int | None
    first_step: float | None
    max_step: float | None
    grid: Any
    coupling: float
    threads: int
    mass: Any


def _own_grid(grid: Any) -> Any:
    """The step ends of all samples, or a list of those of each, which nobody changes."""
    if is_ragged(grid):
        return [own_array(f"grid[{i}]", g, np.float64) for i, g in enumerate(grid)]
    return own_array("grid", grid, np.float64)


def _own_mass(mass: Any, method: str | Tableau) -> Any:
    """The mass matrix, or its diagonal, which nobody changes."""
    if method == AUTO or not is_implicit(method):
        methods = ", ".join(name for name, row in METHODS.items() if row["gamma"] > 0)
        raise ValueError(
            f"mass= needs a method that solves linear systems, {methods}, in every step; method={method!r} does not"
        )
    own = own_array("mass", by_position("mass", mass), np.float64)
    if own.ndim not in (1, 2) or not np.isfinite(own).all():
        raise ValueError(f"mass must be a finite matrix (d, d) or its diagonal (d,), not of shape {own.shape}")
    return own


@dataclass(frozen=True)
class Options:
    """The keywords that say how to solve; see `solve`. Arrays are its own: a call is replayed with what it was given."""

    method: str | Tableau = "dopri5"
    rtol: float = 1e-6
    atol: ArrayLike = 1e-8
    step: float | None = None
    save: str = "interpolate"
    inputs: object = None
    max_steps: int | None = None
    first_step: float | None = None
    max_step: float | None = None
    grid: object = None
    coupling: float = 0.0
    threads: int = 0
    mass: object = None

    def __post_init__(self) -> None:
        method_row(self.method)
        coupling = as_positive("coupling", self.coupling, zero=True)
        if coupling > 1:
            raise ValueError(f"coupling={coupling:g} must be between 0 and 1 (0: the plain method)")
        if self.save not in ("interpolate", "land"):
            raise ValueError(f"save={self.save!r} must be 'interpolate' or 'land'")
        if not isinstance(self.atol, (int, float)):
            object.__setattr__(self, "atol", own_array("atol", by_position("atol", self.atol), np.float64))
        if self.grid is not None:
            object.__setattr__(self, "grid", _own_grid(self.grid))
        if self.inputs is not None:
            object.__setattr__(self, "inputs", as_signal(self.inputs, None))
        if self.mass is not None:
            object.__setattr__(self, "mass", _own_mass(self.mass, self.method))

    @classmethod
    def of(cls, caller: str, options: Any) -> Options:
        """From the keywords of a function."""
        unknown = [name for name in options if name not in cls.__dataclass_fields__]
        if unknown:
            raise TypeError(
                f"{caller}() got an unexpected keyword argument {unknown[0]!r}; the options of the solve are "
                f"{', '.join(cls.__dataclass_fields__)}"
            )
        return cls(**options)

    @property
    def partitioned(self) -> bool:
        """Whether the method treats the halves (q, v) of the state differently."""
        return method_row(self.method)["second"] is not None

    def _check_partitioned(self, d: int) -> None:
        if d % 2:
            raise ValueError(f"method={self.method!r} splits the state into halves (q, v): its size must be even, not {d}")
        if self.coupling > 0:
            raise ValueError(
                f"method={self.method!r} has no reversible scheme, coupling must be 0; for a reversible one take 'rk4' or "
                "another method with one table"
            )

    def _check_auto(self, fixed: bool) -> None:
        if fixed:
            raise ValueError("method='auto' changes methods where steps are chosen: with step= or grid= name one method")
        if self.coupling > 0:
            raise ValueError("method='auto' has no reversible scheme: coupling must be 0, or name an explicit method")

    def arguments(self, d: int) -> dict[str, Any]:
        """Keywords of `_core.Problem` but for data, and for what a method needs that solves linear systems."""
        if self.partitioned:
            self._check_partitioned(d)
        fixed = self.step is not None or self.grid is not None
        row = method_row(self.method)
        if not fixed and row["error_order"] == 0:
            adaptive = ", ".join(name for name, one in METHODS.items() if one["error_order"])
            raise ValueError(f"method={self.method!r} has no error estimate: give step=, or take one of {adaptive}")
        if self.step is not None and self.grid is not None:
            raise ValueError("step and grid both prescribe the steps: give one of them")
        if self.method == AUTO:
            self._check_auto(fixed)
        elif self.coupling > 0 and is_implicit(self.method):
            raise ValueError(
                f"method={self.method!r} has no reversible scheme: coupling must be 0; for adjoint='reversible' take an "
                "explicit method, or adjoint='discrete' with this one"
            )
        keys: dict[str, Any] = {
            "method": self.method.core if isinstance(self.method, Tableau) else row["name"],
            "land": self.save == "land" or self.coupling > 0,
            "adaptive": not fixed,
            "threads": as_integer("threads", self.threads or 0, 0, 4096),
        }
        if fixed or self.max_steps is not None:  # else as many as `core_problem` allows
            keys["max_steps"] = 2**62 if self.max_steps is None else as_integer("max_steps", self.max_steps, 1)
        keys |= tolerances(self.rtol, self.atol, d)
        if fixed:
            clash = [n for n in ("first_step", "max_step") if getattr(self, n) is not None]
            if clash:
                raise ValueError(f"{clash[0]} belongs to adaptive steps; it has no meaning with step= or grid=")
        for name in ("step", "first_step", "max_step"):
            if getattr(self, name) is not None:
                keys[name] = as_positive(name, getattr(self, name))
        if self.mass is not None:
            keys["mass"] = mass = self.mass_matrix(d)
            if np.linalg.matrix_rank(mass) == d:
                keys["mass_inverse"] = np.linalg.inv(mass)
        return keys | {"coupling": float(self.coupling), "beta": 0.2 if row["error_order"] else 0.0}

    def mass_matrix(self, d: int) -> NDArray[np.float64]:
        """The mass matrix (d, d), checked."""
        mass: Any = self.mass
        if mass.shape not in ((d,), (d, d)):
            raise ValueError(f"mass has shape {mass.shape}: give ({d}, {d}), or ({d},) for a diagonal one")
        return np.diag(mass) if mass.ndim == 1 else mass

    def check_span(self, batch: Batch) -> None:
        """A fixed step that would never get there is refused, unless max_steps says that it is meant."""
        if self.step is None or self.max_steps is not None or not batch.t.size:
            return
        longest = float(batch.t.max() - batch.t.min())
        if longest > MAX_FIXED * float(self.step):
            spans = batch.spans()
            longest = float((spans[:, 1] - spans[:, 0]).max(initial=0.0))
        if longest > MAX_FIXED * float(self.step):
            raise ValueError(
                f"step={self.step!r} makes {longest / float(self.step):.1g} steps on an interval of length "
                f"{longest:g}: take a larger one (or give max_steps= if it is meant)"
            )


def one_method(options: Options, stiff_steps: NDArray[np.int64], what: str) -> Options:
    """Options by which the steps of a solve can be prescribed: "auto" is its explicit method where it took no stiff step.

    Parameters
    ----------
    options : Options
        Those of the solve.
    stiff_steps : (B,) array
        How many steps its samples took by the stiff method.
    what : str
        Who goes through steps of one method, for the error.

    Raises
    ------
    ValueError
        Samples took steps of both methods.
    """
    if options.method != AUTO:
        return options
    if stiff_steps.any():
        i = int(np.argmax(stiff_steps > 0))
        raise ValueError(
            f"method='auto': sample {i} was stiff, with {stiff_steps[i]} steps by {AUTO_STIFF!r}; {what} through steps of "
            f"one method: take method={AUTO_STIFF!r}"
        )
    return replace(options, method=AUTO_EXPLICIT)
