"""The field of states beside their tangents: what J v along trajectories is a solution of."""

from typing import Any

import numpy as np

from pynode.fields.field import Field
from pynode.fields.make import field as make_field
from pynode.fields.transforms import jvp


def tangent_field(f: Field, of_theta: bool = True) -> Field:
    """The field of [y, dy], y' = f(y; theta), dy' = (df/dy) dy + (df/dtheta) v, with the parameters [theta, v].

    Parameters
    ----------
    f : Field
        With d states; traced, not a callback.
    of_theta : bool, default True
        False: without v, and with the parameters theta alone.

    Returns
    -------
    Field
        Of 2 d states. It is made once for each field.
    """
    derived = f.__dict__.setdefault("_derived", {})
    key = ("flow of tangents", of_theta)
    if key not in derived:
        d = f.d
        names = ("theta", "v")[: 1 + of_theta] if f.n_params else ()

        def value(t: Any, s: Any, *more: Any) -> Any:
            th = more[0] if names else None
            given = {"u": more[-1]} if f.inputs else {}
            moved = {"dtheta": th.v} if len(names) == 2 and th is not None else {}
            at = (t, s[:d]) if th is None else (t, s[:d], th.theta)
            return np.concatenate([f(*at, **given), jvp(f)(*at, s[d:], **moved, **given)])

        decorate = make_field(
            state=2 * d,
            theta={name: np.zeros(f.n_params) for name in names} or None,
            inputs=f.inputs,
            name=f"tangent({f.name})",
        )
        if names and f.inputs:
            derived[key] = decorate(lambda t, s, th, u: value(t, s, th, u))
        elif names or f.inputs:
            derived[key] = decorate(lambda t, s, x: value(t, s, x))
        else:
            derived[key] = decorate(lambda t, s: value(t, s))
    found: Field = derived[key]
    return found
