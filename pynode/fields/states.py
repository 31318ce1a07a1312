"""The states of a field: their names, where they start, and between which limits they stay while a field is fitted.

A field computes with any state; limits bind only those who fit initial states (`pynode.training`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pynode.fields import constraints

if TYPE_CHECKING:
    from pynode.fields.field import Field

Array = NDArray[np.float64]

Limits = tuple[Array, Array]
"""(d,) lowest and (d,) highest values of states, infinite where there are none."""

HOW = "pn.positive, pn.positive(start), pn.bounded(low, high), pn.bounded(start, low, high), a start, or None"


class State(NamedTuple):
    """One component of the state.

    Attributes
    ----------
    name : str
    start : float or None
        Where an initial state starts that nobody measured; None: a guess is made.
    constraint : tuple
        ("free",), ("positive",) or ("bounded", low, high), see `pynode.fields.constraints`.
    """

    name: str
    start: float | None = None
    constraint: tuple[Any, ...] = ("free",)


def declared(state: Any) -> tuple[State, ...]:
    """What `pynode.field(state=...)` names: a dict of name -> start and constraint, or a sequence of names."""
    if isinstance(state, Mapping):
        found = [_declared(name, value) for name, value in state.items()]
    else:
        found = [State(name) for name in state]
    names = [s.name for s in found]
    for name in names:
        if not isinstance(name, str) or not name:
            raise ValueError(f"state: the name of a state must be a text, not {name!r}")
    if not found or len(set(names)) != len(names):
        raise ValueError(f"state must name one or more states, each once; got {names}")
    return tuple(found)


def _declared(name: str, value: Any) -> State:
    if value is None:
        return State(name)
    if value is constraints.positive:
        return State(name, None, ("positive",))
    constraint: tuple[Any, ...] = ("free",)
    given = True
    if isinstance(value, constraints.Constrained):
        given = not value.open
        value, constraint = value.value, value.constraint
    if constraint[0] == "frozen":
        raise ValueError(f"state {name}: a known initial state is given to the model, NeuralODE(initial={{{name!r}: ...}})")
    if isinstance(value, bool) or np.ndim(value) != 0 or not np.issubdtype(np.asarray(value).dtype, np.number):
        raise TypeError(f"state {name}: {value!r} is none of {HOW}")
    start = float(value)
    low, high = limits_of(constraint)
    if not (np.isfinite(start) and low < start < high):
        raise ValueError(f"state {name} must start between {low:g} and {high:g}, not at {start:g}")
    return State(name, start if given else None, constraint)


def limits_of(constraint: Sequence[Any]) -> tuple[float, float]:
    """The limits that a constraint sets."""
    if constraint[0] == "positive":
        return 0.0, np.inf
    return (constraint[1], constraint[2]) if constraint[0] == "bounded" else (-np.inf, np.inf)


def limits(field: Field) -> Limits | None:
    """Between which limits the states of a field stay; None where none has any."""
    pairs = [limits_of(s.constraint) for s in field.states]
    if not np.isfinite(pairs).any():
        return None
    low, high = np.array(pairs, dtype=np.float64).T
    return low, high


def starts(field: Field) -> Array:
    """(d,) where initial states start by declaration; NaN: not said."""
    if not field.states:
        return np.full(field.d, np.nan)
    return np.array([np.nan if s.start is None else s.start for s in field.states])


def inside(y: Array, limits: Limits | None, margin: Array | float) -> Array:
    """States (..., d), those at a limit or beyond it moved to where they are `margin` (d,) within it, or in the middle."""
    if limits is None:
        return y
    low, high = limits
    room = np.minimum(margin, np.where(np.isfinite(high - low), 0.5 * (high - low), np.inf))
    return np.asarray(np.clip(y, low + room, high - room), dtype=np.float64)


def valid(stored: Iterable[Any], d: int) -> tuple[State, ...]:
    """States read from a file, checked."""
    found = []
    for name, start, constraint in stored:
        good = type(name) is str and (start is None or (type(start) in (int, float) and np.isfinite(start)))
        if not good:
            raise ValueError(f"{name!r} starting at {start!r} is no state of a field")
        found.append(State(name, None if start is None else float(start), constraints.valid(constraint)))
    if len(found) not in (0, d) or len({s.name for s in found}) != len(found):
        raise ValueError(f"the field has {d} states, {len(found)} are named")
    return tuple(found)
