"""What users give as a vector field and its parameters, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pynode.data.arrays import kept, own_array, real_array, real_dtype
from pynode.data.labels import by_name, labels_of
from pynode.fields.callback import callback_field
from pynode.fields.event import Event
from pynode.fields.field import Field
from pynode.fields.parameters import Parameter, axes, checked_theta, flatten_each, ordered, rows_in, total
from pynode.fields.system import PARTS, System, with_events

Theta = ArrayLike | Mapping[str, Any] | None
"""Parameters: a flat vector, or a nested dict; None where there are none. A row for each sample where a batch is solved.

A pandas Series, or a DataFrame of rows, whose labels are the names goes by them, as a dict does.
"""

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
    return f if events is None else with_events(f, events)


def has_events(f: object, events: object = None) -> bool:
    """Whether a solve of f with these `events=` has any."""
    return events is not None or (isinstance(f, System) and bool(f.events))


def as_theta(f: Field | System, theta: Any, dtype: Any, samples: int | None = None) -> NDArray[Any]:
    """The flat parameter vector (n_params,), `kept`; a nested dict is flattened; None only where there are no parameters.

    Where a System adds no parameters to those of its field, a dict may be the field's. With `samples` theta may also be
    (samples, n_params), a row for each, or a dict some of whose entries have that leading axis.
    """
    if theta is None and f.n_params == 0:
        return np.zeros(0, dtype)
    if theta is None:
        raise ValueError(f"{f.name} has {f.n_params} parameters: give theta, for example f.init(0)")
    ready = type(theta) is np.ndarray and theta.dtype == dtype and theta.shape == (f.n_params,)  # in a training loop
    if not ready:
        rows = theta_rows(f, theta)
        spec = _spec(f, theta)
        theta = checked_theta(spec, theta) if rows is None else _each(f, spec, theta, rows, samples)
    if not np.isfinite(theta).all():
        at = np.argwhere(~np.isfinite(theta))[0]
        raise ValueError(f"theta[{', '.join(map(str, at))}] is {theta[tuple(at)]}: parameters must be finite")
    return kept(theta if ready else real_array("theta", theta, dtype))


def theta_rows(f: Field | System, theta: Any) -> int | None:
    """How many thetas there are, one a row: the B of (B, n_params), or of entries of a dict with a leading B; None: one."""
    if isinstance(theta, dict):
        return rows_in(_spec(f, theta), theta)
    return len(theta) if theta is not None and axes(theta) == 2 else None


def _each(f: Field | System, spec: Sequence[Parameter], theta: Any, rows: int, samples: int | None) -> NDArray[np.float64]:
    """(samples, n_params)"""
    given = "" if isinstance(theta, dict) else f" (shape {np.shape(theta)})"
    if samples is None:
        raise ValueError(f"theta holds {rows} rows{given}, but only one theta can be used here: give ({total(spec)},)")
    if f.callbacks:
        raise ValueError(
            f"theta holds {rows} rows{given}, but {f.name} is a callback field, which has one theta for all samples: "
            "have it traced (pynode.field), or call once for each row"
        )
    if rows != samples:
        raise ValueError(
            f"theta holds {rows} rows{given}, but there are {samples} samples: give a row for each, or one theta "
            f"({total(spec)},) for all"
        )
    if isinstance(theta, dict):
        return flatten_each(spec, theta, rows)
    matrix = real_array("theta", ordered(spec, theta), np.float64)
    if matrix.shape[1] != total(spec):
        raise ValueError(f"theta must have shape ({total(spec)},), or ({samples}, {total(spec)}), not {matrix.shape}")
    return matrix


def as_y0(f: Any, y0: Any, dtype: DTypeLike | None = None) -> NDArray[Any]:
    """Initial states (d,) or (B, d) of a Field or a System, `kept`; see `states_by_name`."""
    return own_array("y0", states_by_name("y0", f, y0), real_dtype(dtype))


def states_by_name(name: str, f: Any, x: Any) -> Any:
    """What has an entry for each state of a Field or a System, in their order: see `by_name`."""
    field = f.field if isinstance(f, System) else f
    return by_name(name, x, field.state_names) if isinstance(field, Field) else x


def shared_start(f: Field | System, y0: NDArray[Any], theta: Any) -> NDArray[Any]:
    """The initial states: where theta has a row for each sample, one state (d,) is that of all of them."""
    rows = theta_rows(f, theta) if y0.ndim == 1 else None
    return y0 if rows is None else np.tile(y0, (rows, 1))


def refuse_rows(f: Field | System, theta: Any, why: str) -> None:
    """An error where theta has a row for each sample, which `why` does not go with."""
    rows = theta_rows(f, theta)
    if rows is not None:
        raise ValueError(
            f"theta holds {rows} rows, one a sample, but {why}: call once for each row, or make what differs a "
            "constant input (inputs=) of each sample"
        )


def _spec(f: Field | System, theta: object) -> tuple[Parameter, ...]:
    names = theta if isinstance(theta, dict) else labels_of(theta)
    if names is None or not isinstance(f, System) or f.n_params != f.field.n_params:
        return f.spec
    return f.spec if {str(name).split(".")[0] for name in names} <= set(PARTS) else f.field.spec
