"""Plans: what earlier calls with a field found out about everything but numbers, for the next call of the same kind;
`Recent`, the same for those who hold a field and its options.

Checking the arguments of a call takes longer than a small solve. A plan is the outcome (a `PreparedSolve`, an `Objective`),
kept with the field under the options of the call; where there are events (a `Solver`), with the System of field and events.
`_core.Problem.fits` then decides by value whether it serves this call's arrays: types, shapes, and all times are compared
each time, so that a plan cannot go stale.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pynode.fields.event import as_events
from pynode.fields.field import Field
from pynode.fields.system import System, kept_system

if TYPE_CHECKING:
    from pynode.engine.problem import PreparedSolve
    from pynode.events.rounds import Solver


T = TypeVar("T")

DOUBLE = np.dtype(np.float64)


LARGEST = 1 << 16
"""Saved numbers (rows x states) of the largest problem that is kept: checking is nothing beside a larger one."""


def by_value(atol: Any) -> Any:
    """An atol of each component as a tuple, for a key; one number as it is."""
    if type(atol) is np.ndarray and atol.ndim == 1:
        return tuple(atol.tolist())
    return tuple(atol) if type(atol) is list else atol


def recall(f: Any, key: tuple[Any, ...], events: Any = None) -> Any:
    """The plan of calls with these options, or None; key: a tuple, of no use if something in it cannot be hashed."""
    if type(f) is not Field and type(f) is not System:
        return None
    try:
        system = f if events is None else kept_system(f, as_events(events))
        return None if system is None else system.plans.get(key)
    except TypeError:
        return None


def alike(x: Any, dtype: Any) -> Any:
    """x as dtype if it is an array of floats or doubles, so that a plan of the other type may serve; else x itself."""
    if type(x) is not np.ndarray or x.dtype is dtype or x.dtype.char not in "fd":
        return x
    if dtype is DOUBLE:
        return x.astype(DOUBLE)
    with np.errstate(over="ignore"):  # infinite then, and refused
        return x.astype(dtype)


def of_list(x: Any) -> Any:
    """A list of numbers as the array that it stands for; else x itself."""
    if type(x) is not list or not x or type(x[0]) not in (float, int):
        return x
    try:
        array = np.array(x)
    except (TypeError, ValueError):
        return x
    return array.astype(DOUBLE, copy=False) if array.dtype.char in "dlq" else x


def serves(setup: PreparedSolve | Solver, theta: Any, y0: Any, t: Any, *target: Any) -> Any:
    """(theta, y0) as the plan's setup takes them, if that serves these arrays; else None. theta: None where there are no
    parameters."""
    theta = np.zeros(0, setup.dtype) if theta is None else theta
    if setup.fits(setup.single, theta, y0, t, *target):
        return theta, y0
    theta = alike(of_list(theta), setup.dtype)
    y0 = of_list(y0)
    t = alike(of_list(t), DOUBLE)
    return (theta, y0) if setup.fits(setup.single, theta, y0, t, *target) else None


def same_rows(x: Any, rows: Any) -> bool:
    """Whether x is the array that a problem holds as `rows`, by value: every bit, so that one changed in place is seen.

    Parameters
    ----------
    x : array or None
        What a call was given, (T, k) or (B, T, k).
    rows : array or None
        What the problem holds, in that shape.

    Returns
    -------
    bool
    """
    if rows is None or type(x) is not np.ndarray:
        return x is None and rows is None
    if x.dtype != rows.dtype or x.shape != rows.shape or not (x.flags.c_contiguous and rows.flags.c_contiguous):
        return False
    bits = f"u{rows.itemsize}"
    return bool((x.view(bits) == rows.view(bits)).all())


def keep(f: Any, key: tuple[Any, ...], plan: Any, setup: PreparedSolve | Solver) -> None:
    """Keep a plan for `recall`, where it may serve again."""
    batch = setup.batch
    chosen = setup.options
    if (type(f) is not Field and type(f) is not System) or f.callbacks is not None or setup.signal is not None:
        return
    if chosen.grid is not None or chosen.mass is not None:
        return
    if batch.kind not in ("single", "shared") or batch.rows * f.d > LARGEST:
        return
    try:
        f.plans[key] = plan
    except TypeError:
        return


class Recent(OrderedDict[Any, T]):
    """What was used last, by what it was made for: a few, of which the one that nobody asked for longest goes first."""

    def of(self, key: Any, make: Callable[[], T], most: int = 8) -> T:
        """The one of this key, made if it is not there; at most so many are kept."""
        found = self.pop(key, None)
        if found is None:
            found = make()
        self[key] = found
        while len(self) > most:
            self.popitem(last=False)
        return found


def kind(y0: NDArray[Any], t: NDArray[Any]) -> tuple[Any, ...]:
    """A key of `Recent` for prepared solves: shapes, precision and all times."""
    return y0.shape, y0.dtype.char, t.shape, t.tobytes()
