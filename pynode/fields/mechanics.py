"""Fields with structure: `hamiltonian`, `second_order`. The state is y = (q, v) or (q, p), in halves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from pynode.fields.field import BoundField, Field
from pynode.fields.transforms import grad
from pynode.programs.tracing import new_trace

F = TypeVar("F", bound=Field | BoundField)


def _made(name: str, f: F, make: Callable[[Field], Field]) -> F:
    """A function Field -> Field applied to a field, or to a field of theta inside a trace."""
    result: Any
    if isinstance(f, BoundField):
        result = _made(name, f.field, make).bind(f.theta)
    elif not isinstance(f, Field):
        raise TypeError(f"{name} takes a Field (pynode.field, pynode.mlp), not {type(f).__name__}")
    elif f.callback is not None:
        raise ValueError(f"{name} needs a field that was traced (pynode.field, pynode.mlp): {f.name} is a callback")
    else:
        result = make(f)
    return cast(F, result)


def _written(name: str, f: Field, d: int, write: Callable[[Any, Callable[[Any], Any]], Any]) -> Field:
    """The field of size d whose value is write(y, g), g(y) being f with the time, parameters and inputs of the field."""
    trace = new_trace((1, d, f.inputs), (f.n_params,))
    t = trace.slot(0, ())
    y = trace.slot(1)
    u = trace.slot(2) if f.inputs else None
    inner = f.bind(trace.theta() if f.n_params else None)
    value = trace.lift(write(y, lambda y: inner(t, y, u)))
    return Field(trace.builder.finish([value.register]), f.spec, name)


def hamiltonian(H: F) -> F:
    """Hamilton's equations dq/dt = dH/dp, dp/dt = -dH/dq of a scalar field H(t, (q, p); theta).

    H may be a network (Greydanus, Dzamba, Yosinski 2019, arXiv:1906.01563, eq. 2-4; here trained through the solution, not
    on slopes). The flow keeps H where it does not depend on t, and phase-space volume in any case. With H = T(p) + V(q)
    solve with ``method="leapfrog", step=h``, which is then symplectic: the error of the energy stays bounded.

    Parameters
    ----------
    H : Field with n_out == 1 and a state of even size 2n
        The state is (q_1 .. q_n, p_1 .. p_n). Control inputs and t are passed on. Works as a decorator, and on a field of
        theta inside a field that is being traced.

    Returns
    -------
    Field of size 2n, with the parameters of H: the energy along a solution is ``H(t, y, theta)``

    Raises
    ------
    ValueError
        H is not a scalar, or the state is of odd size.

    See Also
    --------
    second_order : q'' = a, with friction or without.

    Examples
    --------
    >>> import pynode as pn
    >>> H = pn.mlp(2, (16,), 1)
    >>> f = pn.hamiltonian(H)
    >>> @pn.hamiltonian
    ... @pn.field(state=2, out=1, theta={"V": pn.mlp(1, (16,), 1)})
    ... def pendulum(t, y, th):
    ...     q, p = y
    ...     return p**2 / 2 + th.V(y[:1])[0]
    """
    return _made("hamiltonian", H, _hamiltonian)


def _hamiltonian(H: Field) -> Field:
    if H.out_shape not in ((), (1,)):
        raise ValueError(f"hamiltonian needs a scalar (n_out == 1); {H.name} has values of shape {H.out_shape}")
    if H.d % 2:
        raise ValueError(f"hamiltonian needs a state (q, p) of even size; that of {H.name} is {H.d}")
    n = H.d // 2

    def write(y: Any, gradient: Callable[[Any], Any]) -> Any:
        g = gradient(y)
        return np.concatenate([g[n:], -g[:n]])

    return _written(f"hamiltonian({H.name})", grad(H), H.d, write)


def second_order(acceleration: F) -> F:
    """The equation q'' = a as a field of the state y = (q, v): dq/dt = v, dv/dt = a(t, (q, v); theta).

    Parameters
    ----------
    acceleration : Field with n_out == n
        Its state is either (q_1 .. q_n, v_1 .. v_n), d == 2n, or q alone, d == n. Control inputs and t are passed on. Works
        as a decorator, and on a field of theta inside a field that is being traced.

    Returns
    -------
    Field of size 2n, with the parameters of the acceleration
        With ``method="leapfrog", step=h`` symplectic where a does not depend on v.

    Raises
    ------
    ValueError
        The sizes fit neither.

    See Also
    --------
    hamiltonian : the equations of an energy.

    Examples
    --------
    >>> import pynode as pn
    >>> f = pn.second_order(pn.mlp(2, (16,), 1))  # one position, any force
    >>> @pn.second_order
    ... @pn.field(state=4, out=2, theta={"k": 1.0, "friction": pn.mlp(2, (8,), 2)})
    ... def particle(t, y, th):
    ...     q, v = y[:2], y[2:]
    ...     return -th.k * q - th.friction(v)
    """
    return _made("second_order", acceleration, _second_order)


def _second_order(a: Field) -> Field:
    n = a.n_out
    if a.d not in (n, 2 * n):
        raise ValueError(
            f"second_order needs an acceleration of n numbers from a state (q, v) of 2n, or q of n: {a.name} maps {a.d} "
            f"numbers to {n}"
        )

    def write(y: Any, value: Callable[[Any], Any]) -> Any:
        return np.concatenate([y[n:], value(y if a.d == 2 * n else y[:n])])

    return _written(f"second_order({a.name})", a, 2 * n, write)
