"""The traced parts of an experiment, all of them functions of one vector of parameters.

A field, an observation function and a function for the initial states may each declare parameters. Those of the same
name are the same parameter: the volume by which an amount is divided in the field is the one of the observation function.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pynode.fields.field import Field
from pynode.fields.parameters import Parameter, total
from pynode.programs.tracing import new_trace, trace


def union(fields: Sequence[Field]) -> tuple[Parameter, ...]:
    """The parameters of several fields, by name, in order of appearance.

    Parameters
    ----------
    fields : sequence of Field
        The first one's parameters come first, and keep their places.

    Returns
    -------
    tuple of Parameter

    Raises
    ------
    ValueError
        Two parameters of one name differ in shape, constraint or initial value.
    """
    found: dict[str, Parameter] = {}
    for field in fields:
        for parameter in field.spec:
            known = found.get(parameter.name)
            if known is None:
                place = total(tuple(found.values()))
                found[parameter.name] = Parameter(
                    parameter.name, parameter.shape, place, parameter.init, parameter.constraint
                )
                continue
            for what in ("shape", "constraint", "init"):
                a, b = getattr(known, what), getattr(parameter, what)
                if a != b:
                    raise ValueError(
                        f"parameter {parameter.name} of {field.name} has {what} {b}, but {a} in {fields[0].name}: "
                        "parameters of the same name are one parameter, so declare them alike, or give them different names"
                    )
    return tuple(found.values())


def over(spec: tuple[Parameter, ...], field: Field) -> Field:
    """The same field as a function of the parameters `spec`, of which its own are some.

    Parameters
    ----------
    spec : tuple of Parameter
        From `union`.
    field : Field
        Its parameters are in spec, by name.

    Returns
    -------
    Field
    """
    if field.spec == spec:
        return field
    place = {p.name: p for p in spec}
    index = [np.arange(place[p.name].offset, place[p.name].stop) for p in field.spec]
    which = np.concatenate([np.empty(0, np.int64), *index])
    the_trace = new_trace(field.program.slot_sizes, (total(spec),))

    def value(t: Any, y: Any, theta: Any, u: Any) -> Any:
        own = None if not len(which) else theta[which[0] : which[-1] + 1] if _together(which) else theta[which]
        return field.bind(own)(t, y, u)

    args = [the_trace.slot(0, ()), the_trace.slot(1), the_trace.theta() if total(spec) else None]
    args.append(the_trace.slot(2) if field.inputs else None)
    traced = trace(value, args, the_trace, field.n_out)
    return Field(the_trace.builder.finish([traced.register]), spec, field.name, field.out_shape, states=field.states)


def function(name: str, fn: Callable[..., Any], field: Field, out: int | None, wants: Sequence[str]) -> Field:
    """A plain function of a user as a field with the parameters of `field`, by their names.

    Parameters
    ----------
    name : str
        What errors call it.
    fn : callable
        Called with those of t, y, th, u that `wants` names; u is left out where the field has no inputs, th where it has no
        parameters.
    field : Field
        Whose parameters and inputs the function may use.
    out : int or None
        How many numbers it must return; None: however many it does.
    wants : sequence of str
        Out of "t", "y", "th", "u".

    Returns
    -------
    Field
    """
    the_trace = new_trace(field.program.slot_sizes, (field.n_params,))
    there: dict[str, Any] = {"t": the_trace.slot(0, ()), "y": the_trace.slot(1)}
    if field.n_params:
        there["th"] = field.bind(the_trace.theta()).parameters
    if field.inputs:
        there["u"] = the_trace.slot(2)
    args = [there[want] for want in wants if want in there]
    try:
        traced = trace(fn, args, the_trace, out)
    except TypeError as error:
        call = ", ".join(want for want in wants if want in there)
        raise TypeError(f"{name} is called as {name}({call}): {error}") from None
    return Field(the_trace.builder.finish([traced.register]), field.spec, name, (traced.size,))


def _together(which: Any) -> bool:
    """Whether indices follow each other."""
    return bool((np.diff(which) == 1).all())
