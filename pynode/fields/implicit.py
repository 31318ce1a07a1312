"""The Jacobian of a field as a program, for methods that solve linear systems."""

import numpy as np

from pynode.fields.field import Field
from pynode.programs.builder import Builder
from pynode.programs.derivatives import pushforward


def jacobian_field(f: Field, moving: bool) -> Field:
    """The field whose value is [df/dy, df/dt], row after row.

    Parameters
    ----------
    f : Field
        A vector field with d states.
    moving : bool
        Its inputs change with time: the slot u holds [u, du/dt], and df/dt contains what they change.

    Returns
    -------
    Field
        With d^2 + d values, or d^2 where f does not depend on time.

    Raises
    ------
    ValueError
        The field calls Python.
    """
    derived = f.__dict__.setdefault("_derived", {})
    key = ("implicit", moving)
    if key not in derived:
        derived[key] = _made(f, moving)
    made: Field = derived[key]
    return made


def _made(f: Field, moving: bool) -> Field:
    program = f.program
    d = f.d
    m = f.inputs if moving else 0
    b = Builder((1, d, f.inputs + m), program.n_theta)
    u = b.slice(2, 0, f.inputs) if m else 2
    env = b.replay(program, [0, 1, u])
    columns = []
    for e in np.eye(d):
        (column,) = pushforward(b, program, env, [None, b.const(e), None])
        columns.append(b.full(d, 0.0) if column is None else column)
    value = b.gather(b.concat(*columns), np.arange(d * d).reshape(d, d).T)
    if f.time_dependent or m:
        rate = b.slice(2, f.inputs, f.inputs) if m else None
        (slope,) = pushforward(b, program, env, [b.const(np.ones(1)), None, rate])
        if slope is not None:
            value = b.concat(value, slope)
    return Field(b.finish([value]), f.spec, f"jacobian({f.name})", (b.sizes[value],))
