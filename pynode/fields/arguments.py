"""What users give as a vector field and its parameters, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.arrays import kept, real_array
from pynode.fields.callback import callback_field
from pynode.fields.event import Event
from pynode.fields.field import Field
from pynode.fields.parameters import Parameter, checked_theta
from pynode.fields.system import PARTS, System

Theta = ArrayLike | Mapping[str, Any] | None
"""Parameters: a flat vector, or a nested dict; None where there are none."""

Times = ArrayLike | Sequence[ArrayLike]
"""Times (T,) for all samples, (B, T), or a list of an array for each sample."""


def as_field(f: Field | Callable[..., Any], d: int | None = None) -> Field:
    """A Field, or a Python callable f(t, y) as a callback field (slow: Python runs at every stage of every step)."""
    if isinstance(f, Field):
        return f
    if isinstance(f, System):
        raise TypeError("a System cannot be used here: give its field (system.field)")
    if callable(f):
        if d is None:
            raise TypeError("a plain function is no field here: make one with pynode.field or pynode.callback_field")
        return callback_field(f, d)
    raise TypeError(f"f must be a Field (pynode.mlp, pynode.field, ...) or a function f(t, y), not {type(f).__name__}")


def as_dynamics(
    f: Field | System | Callable[..., Any], d: int | None = None, events: Event | Sequence[Event] | None = None
) -> Field | System:
    """A Field or a System; with events a System. A Python callable as in `as_field`.

    Its derivative must have the size of its state.
    """
    f = f if isinstance(f, System) else as_field(f, d)
    if f.n_out != f.d:
        raise ValueError(f"{f.name} maps {f.d} state components to {f.n_out}: a vector field has as many of each")
    if events is None:
        return f
    return (f if isinstance(f, System) else System(f)).with_events(events)


def has_events(f: object, events: object = None) -> bool:
    """Whether a solve of f with these `events=` has any."""
    return events is not None or (isinstance(f, System) and bool(f.events))


def as_theta(f: Field | System, theta: Any, dtype: Any) -> NDArray[Any]:
    """The flat parameter vector (n_params,), `kept`; a nested dict is flattened; None only where there are no parameters.

    Where a System adds no parameters to those of its field, a dict may be the field's.
    """
    if theta is None and f.n_params == 0:
        return np.zeros(0, dtype)
    if theta is None:
        raise ValueError(f"{f.name} has {f.n_params} parameters: give theta, for example {f.name}.init(seed)")
    ready = type(theta) is np.ndarray and theta.dtype == dtype and theta.shape == (f.n_params,)  # in a training loop
    if not ready:
        theta = checked_theta(_spec(f, theta), theta)
    if not np.isfinite(theta).all():
        i = int(np.flatnonzero(~np.isfinite(theta))[0])
        raise ValueError(f"theta[{i}] is {theta[i]}: parameters must be finite")
    return kept(theta if ready else real_array("theta", theta, dtype))


def _spec(f: Field | System, theta: object) -> tuple[Parameter, ...]:
    if isinstance(f, System) and isinstance(theta, dict) and f.n_params == f.field.n_params and not set(theta) <= set(PARTS):
        return f.field.spec
    return f.spec
