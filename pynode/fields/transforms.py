"""Derivatives of fields: `vjp`, `jvp`, `jacobian`, `divergence`, `grad`, `hvp`.

Each takes a Field; or, inside a function that is being traced, a field of its parameters
(``pn.grad(th.H)``); or a plain function of one array (``pn.grad(lambda y: ...)``), which may use values
from around it.
"""

import functools
import inspect
from typing import NamedTuple

import numpy as np

from pynode.fields.field import BoundField, Field, inlined, run
from pynode.fields.parameters import checked_theta
from pynode.programs.builder import Builder
from pynode.programs.derivatives import Cotangent, pullback, pushforward
from pynode.programs.traced import trace_of
from pynode.programs.tracing import new_trace, trace


class Cotangents(NamedTuple):
    """g^T df/dy, g^T df/dtheta, g^T df/dt, g^T df/du."""

    y: object
    theta: object
    t: object
    u: object


# ---- Field -> Field


def _cached(field, key, make):
    """Derived objects are kept with the field they come from."""
    derived = field.__dict__.setdefault("_derived", {})
    if key not in derived:
        derived[key] = make()
    return derived[key]


def _field_transform(transform):
    """From a function Field -> Field to one that also takes bound fields and plain functions."""

    @functools.wraps(transform)
    def call(f, *args, **kwargs):
        if isinstance(f, Field):
            key = (transform.__name__, args, tuple(sorted(kwargs.items())))
            return _cached(f, key, lambda: transform(f, *args, **kwargs))
        if isinstance(f, BoundField):
            return call(f.field, *args, **kwargs).bind(f.theta)
        if callable(f):
            return functools.wraps(f)(lambda y: _of_function(f, y, lambda field: transform(field, *args, **kwargs)))
        raise TypeError(f"{transform.__name__} takes a field or a function, not {f!r}")

    return call


def _derived_field(f, name, out_shape, write):
    """The field whose value is the register that write(b, program, env) returns (None: zero)."""
    program = f.program
    b = Builder(program.slot_sizes, program.n_theta)
    env = b.replay(program, b.slots)
    value = write(b, program, env)
    value = b.full(int(np.prod(out_shape)), 0.0) if value is None else value
    return Field(b.finish([value]), f.spec, f"{name}({f.name})", out_shape)


@_field_transform
def grad(H):
    """The gradient dH/dy of a scalar field (n_out == 1): a field with the same parameters.

    Parameters
    ----------
    H : Field, bound field, or function of one array

    Returns
    -------
    of the same kind

    Examples
    --------
    >>> @pn.field(state=2, theta={"H": pn.mlp(2, (16,), 1)})
    ... def f(t, y, th):
    ...     dq, dp = pn.grad(th.H)(y)
    ...     return [dp, -dq]
    """
    if H.n_out != 1:
        raise ValueError(f"grad needs a scalar (n_out == 1); {H.name} has {H.n_out} components: see jacobian")
    return _derived_field(H, "grad", (H.d,), lambda b, program, env: pullback(b, program, env, [b.const(1.0)], (1,))[0])


@_field_transform
def divergence(f):
    """The divergence sum_i df_i/dy_i of a vector field, exact: a scalar field with the same parameters.

    Parameters
    ----------
    f : Field, bound field, or function of one array

    Returns
    -------
    of the same kind; its value has shape ()
    """
    if f.n_out != f.d:
        raise ValueError(f"divergence needs a vector field: {f.name} maps {f.d} numbers to {f.n_out}")

    def write(b, program, env):
        columns = [pushforward(b, program, env, [None, b.const(e), None])[0] for e in np.eye(f.d)]
        return b.total([b.slice(v, i, 1) for i, v in enumerate(columns) if v is not None])

    return _derived_field(f, "divergence", (), write)


@_field_transform
def jacobian(f, wrt="y"):
    """The Jacobian: a field with the same parameters.

    Parameters
    ----------
    f : Field, bound field, or function of one array
    wrt : {"y", "t", "u", "theta"}

    Returns
    -------
    of the same kind
        Its value has shape (n_out, n); (n_out,) for wrt="t". For a function of an array of shape s with
        values of shape r, the shape is r + s.
    """
    if wrt not in ("t", "y", "u", "theta"):
        raise ValueError(f"wrt must be 'y', 't', 'u' or 'theta', not {wrt!r}")
    slot = {"t": 0, "y": 1, "u": 2}.get(wrt)
    n = f.n_params if slot is None else f.program.slot_sizes[slot]
    if not n:
        raise ValueError(f"{f.name} has no {wrt}")
    by_rows = slot is None or f.n_out <= n
    write = (lambda b, p, env: _rows(b, p, env, slot, n)) if by_rows else (lambda b, p, env: _columns(b, p, env, slot, n))
    return _derived_field(f, f"jacobian_{wrt}", f.out_shape if wrt == "t" else (*f.out_shape, n), write)


def _rows(b, program, env, slot, n):
    """One reverse sweep for each component of the value."""
    rows = []
    for e in np.eye(program.output_sizes[0]):
        if slot is None:
            row = Cotangent(b, n)
            pullback(b, program, env, [b.const(e)], (), theta_bar=[row])
            rows.append(row.total())
        else:
            rows += pullback(b, program, env, [b.const(e)], (slot,))
    return b.concat(*(b.full(n, 0.0) if row is None else row for row in rows))


def _columns(b, program, env, slot, n):
    """One forward sweep for each number it is taken with respect to."""
    n_out, columns = program.output_sizes[0], []
    for e in np.eye(n):
        (v,) = pushforward(b, program, env, [b.const(e) if i == slot else None for i in range(3)])
        columns.append(b.full(n_out, 0.0) if v is None else v)
    return b.gather(b.concat(*columns), np.arange(n * n_out).reshape(n, n_out).T)


# ---- Plain functions of one array


def _function_field(fn, shape, outer):
    """fn as a field with state y (flat) and, as inputs, the values of the trace around it that it uses."""
    inner = new_trace((1, int(np.prod(shape)), 0), parent=outer, capture_slot=2)
    value = trace(fn, [inner.slot(1, shape)], inner)
    inner.close()
    field = Field(inner.builder.finish([value.register]), (), getattr(fn, "__name__", "function"), value.shape)
    return field, np.concatenate([x.ravel() for x in inner.captured]) if inner.captured else None


def _of_function(fn, y, transform):
    """transform(fn) at y, for a transform Field -> Field."""
    outer = trace_of(y)
    if outer is not None:
        y = outer.lift(y)
        field, captured = _function_field(fn, y.shape, outer)
        derived = transform(field)
        value = derived.bind(None)(0.0, y.ravel(), captured)
        return value.reshape(_value_shape(field, derived, y.shape))
    y = np.asarray(y, dtype=np.float64)
    field, _ = _function_field(fn, y.shape[-1:], None)
    derived = transform(field)
    value = derived(0.0, y)
    return value.reshape((*y.shape[:-1], *_value_shape(field, derived, y.shape[-1:])))


def _value_shape(field, derived, shape):
    """The last axis of a gradient or Jacobian stands for y; give it the shape of y."""
    per_y = derived.name.startswith(("grad", "jacobian"))
    leading = field.out_shape if derived.name.startswith("jacobian") else ()
    return (*leading, *shape) if per_y else derived.out_shape


# ---- Derivatives with a further argument


def _with_direction(apply):
    """From apply(field, t, y, theta, u, direction, **more) to a function of a field that gives a function of
    (t, y, theta, direction); ([t,] y, direction) for bound fields; (y, direction) for functions of one
    array. The direction may be given by its name."""
    name = list(inspect.signature(apply).parameters)[5]

    @functools.wraps(apply)
    def call(f):
        if not callable(f):
            raise TypeError(f"{apply.__name__} takes a field or a function, not {f!r}")

        def at(*args, u=None, **more):
            if name not in more and (isinstance(f, BoundField) or len(args) > len(_place(f))):
                more[name], args = args[-1], args[:-1]
            where, t, y, theta, u = _point(f, args, u)
            return apply(where, t, y, theta, u, **more)

        at.__name__ = f"{apply.__name__}({getattr(f, 'name', getattr(f, '__name__', 'field'))})"
        return at

    return call


def _place(f):
    """Names of the arguments that say where the derivative of a field or a plain function is taken."""
    if not isinstance(f, Field):
        return ("y",)
    return ("t", "y", "theta") if f.n_params else ("t", "y")


def _point(f, args, u):
    """The field meant by f, and where: (field, t, y, theta, u)."""
    if isinstance(f, BoundField):
        t, y, u = f.point(args, u)
        return f.field, t, y, f.theta, u
    if len(args) != len(_place(f)):
        raise TypeError(f"the derivative is taken at ({', '.join(_place(f))}), not at {len(args)} arguments")
    if isinstance(f, Field):
        return f, *args[:2], (args[2] if f.n_params else None), u
    outer = trace_of(*args)
    y = np.asarray(args[0], dtype=np.float64) if outer is None else outer.lift(args[0])
    field, captured = _function_field(f, y.shape[-1:] if outer is None else y.shape, outer)
    return field, 0.0, y if outer is None else y.ravel(), None, captured


@_with_direction
def vjp(f, t, y, theta, u, g=None):
    """Vector-Jacobian products: ``pn.vjp(f)(t, y, theta, g, u=None)`` -> Cotangents(y, theta, t, u).

    Parameters
    ----------
    f : Field; bound field, called as (t, y, g) or (y, g); or function of one array, called as (y, g)

    Returns
    -------
    function
        For a batch, `y`, `t` and `u` have a row a sample and `theta` is the sum over the batch.
    """
    values = {"t": t, "y": y, "u": u, "g": g}
    if trace_of(*values.values(), theta) is None:
        theta = checked_theta(f.spec, theta)
        callbacks = None if f.callback is None else f.bind_callbacks(theta)
        (value, gy, gt, gu), (gtheta,) = run(f.vjp_program, values, [theta], callbacks)
        zeros = [np.zeros((*value.shape[:-1], n)) for n in (f.d, 1, f.inputs)]
        gy, gt, gu = (zero if x is None else x for x, zero in zip((gy, gt, gu), zeros, strict=True))
        return Cotangents(gy, gtheta, gt[..., 0], gu)
    program = _cached(f, "vjp", lambda: _vjp_in_registers(f.program))
    where, registers = inlined(program, values, [theta], f.name)
    sizes = (1, f.d, f.inputs, f.n_params)
    gt, gy, gu, gtheta = (_array_or_zeros(where, r, n) for r, n in zip(registers, sizes, strict=True))
    return Cotangents(gy, gtheta, gt.reshape(()), gu)


def _array_or_zeros(where, register, n):
    """None where there is nothing to differentiate with respect to."""
    if register is None:
        return where.const(np.zeros(n)) if n else None
    return where.array(register, (n,))


def _vjp_in_registers(program):
    """Slots t, y, u, g; outputs the cotangents of t, y, u and theta."""
    b = Builder((*program.slot_sizes, program.output_sizes[0]), program.n_theta)
    env = b.replay(program, b.slots[:3])
    gtheta = Cotangent(b, program.n_theta[0])
    gt, gy, gu = pullback(b, program, env, [3], (0, 1, 2), theta_bar=[gtheta])
    return b.finish([gt, gy, gu, gtheta.total()])


@_with_direction
def jvp(f, t, y, theta, u, dy=None, dt=None, dtheta=None, du=None):
    """Jacobian-vector products: ``pn.jvp(f)(t, y, theta, dy, u=None, dt=None, dtheta=None, du=None)`` -> df.

    Parameters
    ----------
    f : Field; bound field, called as (t, y, dy) or (y, dy); or function of one array, called as (y, dy)

    Returns
    -------
    function
        dy, dt, dtheta, du are the directions; None is zero.
    """
    values = {"t": t, "y": y, "u": u, "dt": dt, "dy": dy, "du": du}
    given = tuple(v is not None for v in (dt, dy, du, dtheta))
    program = _cached(f, ("jvp", given), lambda: _jvp_program(f.program, given))
    n = f.n_params
    if trace_of(*values.values(), theta, dtheta) is None:
        thetas = [checked_theta(f.spec, v) for v in (theta, dtheta)[: len(program.n_theta)]]
        (value,) = run(program, values, thetas)[0]
        return value.reshape((*value.shape[:-1], *f.out_shape))
    thetas = [v if n else None for v in (theta, dtheta)[: len(program.n_theta)]]
    where, (value,) = inlined(program, values, thetas, f.name)
    return where.array(value, f.out_shape)


def _jvp_program(program, given):
    """Slots t, y, u and their tangents (of size 0 where not given); theta_1 the tangent of theta."""
    *slots, with_theta = given
    sizes = program.slot_sizes
    tangent_sizes = [n * here for n, here in zip(sizes, slots, strict=True)]
    b = Builder((*sizes, *tangent_sizes), program.n_theta * (1 + with_theta))
    env = b.replay(program, b.slots[:3])
    tangents = [3 + i if here else None for i, here in enumerate(slots)]
    dtheta = [b.theta(1)] if with_theta else None
    (value,) = pushforward(b, program, env, tangents, dtheta=dtheta)
    return b.finish([b.full(program.output_sizes[0], 0.0) if value is None else value])


@_with_direction
def hvp(H, t, y, theta, u, v=None):
    """Hessian-vector products of a scalar field: ``pn.hvp(H)(t, y, theta, v, u=None)`` -> (d^2 H / dy^2) v.

    Parameters
    ----------
    H : Field with n_out == 1; bound field, called as (t, y, v) or (y, v); or function of one array, called
    as (y, v)

    Returns
    -------
    function
    """
    gradient = grad(H)
    values = {"t": t, "y": y, "u": u}
    if trace_of(*values.values(), theta, v) is None:
        return jvp(gradient)(t, y, *([theta] if H.n_params else []), v, u=u)
    return jvp(gradient.bind(theta))(t, y, v, u=u)
