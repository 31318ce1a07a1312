"""What is measured: a function of t, y, the parameters of a field and its inputs, as a Field of the whole theta."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from pynode.fields.field import Field
from pynode.fields.parameters import Parameter
from pynode.fields.system import System
from pynode.programs.tracing import new_trace, trace


def as_observation(observe: Callable[..., Any] | Field, f: Field | System) -> Field:
    """An observation function of a field, or of that of a system.

    Parameters
    ----------
    observe : function or Field
        A function of (t, y), then th where the field has parameters, then u where it has inputs; those at the end may be
        left out. A Field: its parameters are those of f's field that have the same names.
    f : Field or System

    Returns
    -------
    Field
        Of t, y, the whole theta of f, and the inputs.

    Raises
    ------
    TypeError, ValueError
        It is no function or has other arguments; it has a parameter that the field has not, another state or other inputs.
    """
    field = f.field if isinstance(f, System) else f
    where = new_trace((1, field.d, field.inputs), (f.n_params,))
    theta: Any = where.theta() if f.n_params else None
    own: Any = theta[: field.n_params] if field.n_params else None
    args: list[Any] = [where.slot(0, ()), where.slot(1)]
    if isinstance(observe, Field):
        _check(observe, field)
        place = {p.name: p for p in field.spec}
        parts: Any = [own[place[p.name].offset : place[p.name].stop] for p in observe.spec]
        value = observe.bind(np.concatenate(parts) if parts else None)(*args, *([where.slot(2)] if observe.inputs else []))
    elif callable(observe):
        args += [field.bind(own).parameters] if field.n_params else []
        args += [where.slot(2)] if field.inputs else []
        value = trace(observe, args[: _count(observe, len(args), field)], where)
    else:
        raise TypeError(f"observe={observe!r} must be a function of (t, y), (t, y, th) or (t, y, th, u), or a Field")
    spec = (Parameter("theta", (f.n_params,), 0, ("value", [0.0] * f.n_params)),) if f.n_params else ()
    return Field(where.builder.finish([value.reshape(-1).register]), spec, "observe")


def _check(observe: Field, field: Field) -> None:
    if observe.callbacks is not None:
        raise ValueError(f"observe: {observe.name} is a Python callback, which has no derivatives: use pynode.field")
    if observe.d != field.d or observe.inputs not in (0, field.inputs):
        raise ValueError(
            f"observe: {observe.name} takes {observe.d} states and {observe.inputs} inputs, {field.name} has {field.d} and "
            f"{field.inputs}: they must be the same (or no inputs)"
        )
    shapes = {p.name: p.shape for p in field.spec}
    for p in observe.spec:
        if shapes.get(p.name) != p.shape:
            raise ValueError(
                f"observe: parameter {p.name} {p.shape} of {observe.name} is none of {field.name}'s "
                f"({', '.join(shapes) or 'which has none'}): declare it there, too; a field may declare what it does not use"
            )


def _count(observe: Callable[..., Any], most: int, field: Field) -> int:
    """How many of the arguments a function takes."""
    signature = inspect.signature(observe)
    for n in range(most, 1, -1):
        try:
            signature.bind(*[None] * n)
            return n
        except TypeError:
            continue
    names = ["t", "y", *(["th"] if field.n_params else []), *(["u"] if field.inputs else [])]
    raise TypeError(
        f"observe={getattr(observe, '__name__', repr(observe))}{signature}: it is called as observe({', '.join(names)}), or "
        "with fewer of these from the left"
    )
