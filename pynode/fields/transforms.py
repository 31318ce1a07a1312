"""Derivatives of fields: `vjp`, `jvp`, `jacobian`, `divergence`, `grad`, `hvp`.

Each takes a Field; or, inside a function that is being traced, a field of its parameters
(``pn.grad(th.H)``); or a plain function of one array (``pn.grad(lambda y: ...)``), which may use values
from around it.

What comes back is called with the arguments of the field in their order, (t, y, theta), then the cotangent `dy` or the
`direction` where there is one, and ``u=`` by name. A field without parameters has no theta, a field of the parameters
inside a trace neither (nor t, where it does not depend on it), and a plain function only its array.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np

from pynode.data.arrays import real_array
from pynode.fields.field import BoundField, Field, inlined, run
from pynode.fields.parameters import checked_theta
from pynode.programs.builder import Builder
from pynode.programs.derivatives import Cotangent, pullback, pushforward
from pynode.programs.program import Program
from pynode.programs.traced import Trace, Traced, trace_of
from pynode.programs.tracing import new_trace, trace

F = TypeVar("F", bound=Field | BoundField | Callable[..., Any])
Writer = Callable[[Builder, Program, list[Any]], int | None]


class Cotangents(NamedTuple):
    """What a vector-Jacobian product gives: the cotangent times each of the Jacobians.

    Attributes
    ----------
    y : (d,) or (B, d) array
        dy^T df/dy.
    theta : (n_params,) array
        dy^T df/dtheta, the sum over a batch.
    t : number or (B,) array
        dy^T df/dt.
    u : (inputs,) or (B, inputs) array
        dy^T df/du.
    """

    y: Any
    theta: Any
    t: Any
    u: Any


# ---- Field -> Field


def _cached(field: Field, key: Hashable, make: Callable[[], Any]) -> Any:
    """Derived objects are kept with the field they come from."""
    derived = field.__dict__.setdefault("_derived", {})
    if key not in derived:
        derived[key] = make()
    return derived[key]


def _transformed(name: str, f: F, transform: Callable[[Field], Field], *key: Hashable) -> F:
    """A function Field -> Field applied to a field, to a bound field or to a plain function."""
    result: Any
    if isinstance(f, Field):
        result = _cached(f, (name, *key), lambda: transform(f))
    elif isinstance(f, BoundField):
        result = _transformed(name, f.field, transform, *key).bind(f.theta)
    elif callable(f):
        result = functools.wraps(f)(lambda y: _of_function(f, y, transform))
    else:
        raise TypeError(f"{name} takes a field or a function, not {f!r}")
    return cast(F, result)


def _derived_field(f: Field, name: str, out_shape: tuple[int, ...], write: Writer) -> Field:
    """The field whose value is the register that write(b, program, env) returns (None: zero)."""
    program = f.program
    b = Builder(program.slot_sizes, program.n_theta)
    env = b.replay(program, b.slots)
    value = write(b, program, env)
    value = b.full(int(np.prod(out_shape)), 0.0) if value is None else value
    return Field(b.finish([value]), f.spec, f"{name}({f.name})", out_shape)


def grad(H: F) -> F:
    """The gradient dH/dy of a scalar field (n_out == 1): a field with the same parameters.

    Parameters
    ----------
    H : Field, bound field, or function of one array
        Called as (t, y, theta), (y) or (y).

    Returns
    -------
    of the same kind
        Its value has the shape of y.

    Raises
    ------
    ValueError
        H has several components.

    See Also
    --------
    jacobian : of a field with several components.
    hvp : the second derivative times a direction.

    Examples
    --------
    >>> import pynode as pn
    >>> @pn.field(state=2, theta={"H": pn.mlp(2, (16,), 1)})
    ... def f(t, y, th):
    ...     dq, dp = pn.grad(th.H)(y)
    ...     return [dp, -dq]
    >>> pn.grad(lambda y: y[0] ** 2 * y[1])([3.0, 2.0]).tolist()
    [12.0, 9.0]
    """

    def transform(f: Field) -> Field:
        if f.n_out != 1:
            raise ValueError(f"grad needs a scalar (n_out == 1); {f.name} has {f.n_out} components: see jacobian")
        return _derived_field(f, "grad", (f.d,), lambda b, program, env: pullback(b, program, env, [b.const(1.0)], (1,))[0])

    return _transformed("grad", H, transform)


def divergence(f: F) -> F:
    """The divergence sum_i df_i/dy_i of a vector field, exact: a scalar field with the same parameters.

    Parameters
    ----------
    f : Field, bound field, or function of one array
        Called as (t, y, theta), (y) or (y).

    Returns
    -------
    of the same kind
        Its value has shape ().

    Raises
    ------
    ValueError
        The field has not as many components as its state.

    Examples
    --------
    >>> import pynode as pn
    >>> float(pn.divergence(lambda y: y * y)([1.0, 3.0]))
    8.0
    """

    def transform(f: Field) -> Field:
        if f.n_out != f.d:
            raise ValueError(f"divergence needs a vector field: {f.name} maps {f.d} numbers to {f.n_out}")

        def write(b: Builder, program: Program, env: list[Any]) -> int | None:
            columns = [pushforward(b, program, env, [None, b.const(e), None])[0] for e in np.eye(f.d)]
            return b.total([b.slice(v, i, 1) for i, v in enumerate(columns) if v is not None])

        return _derived_field(f, "divergence", (), write)

    return _transformed("divergence", f, transform)


def jacobian(f: F, wrt: Literal["y", "t", "u", "theta"] = "y") -> F:
    """The Jacobian: a field with the same parameters.

    Parameters
    ----------
    f : Field, bound field, or function of one array
        Called as (t, y, theta), (y) or (y).
    wrt : {"y", "t", "u", "theta"}, default "y"
        What is differentiated with respect to.

    Returns
    -------
    of the same kind
        Its value has shape (n_out, n); (n_out,) for wrt="t". For a function of an array of shape s with
        values of shape r, the shape is r + s.

    Raises
    ------
    ValueError
        The field has no such argument.

    See Also
    --------
    vjp, jvp : products with the Jacobian, which need one sweep.

    Examples
    --------
    >>> import pynode as pn
    >>> f = pn.mlp(2, (8,))
    >>> pn.jacobian(f)(0.0, [1.0, 0.0], f.init(0)).shape
    (2, 2)
    >>> pn.jacobian(lambda y: y * y)([1.0, 3.0]).tolist()
    [[2.0, 0.0], [0.0, 6.0]]
    """
    if wrt not in ("t", "y", "u", "theta"):
        raise ValueError(f"wrt must be 'y', 't', 'u' or 'theta', not {wrt!r}")
    slot = {"t": 0, "y": 1, "u": 2}.get(wrt)

    def transform(f: Field) -> Field:
        n = f.n_params if slot is None else f.program.slot_sizes[slot]
        if not n:
            raise ValueError(f"{f.name} has no {wrt}")

        def write(b: Builder, program: Program, env: list[Any]) -> int:
            if slot is None or f.n_out <= n:
                return _rows(b, program, env, slot, n)
            return _columns(b, program, env, slot, n)

        return _derived_field(f, f"jacobian_{wrt}", f.out_shape if wrt == "t" else (*f.out_shape, n), write)

    return _transformed("jacobian", f, transform, wrt)


def _rows(b: Builder, program: Program, env: list[Any], slot: int | None, n: int) -> int:
    """One reverse sweep for each component of the value."""
    rows: list[int | None] = []
    for e in np.eye(program.sizes[program.outputs[0]]):
        if slot is None:
            row = Cotangent(b, n)
            pullback(b, program, env, [b.const(e)], (), theta_bar=[row])
            rows.append(row.total())
        else:
            rows += pullback(b, program, env, [b.const(e)], (slot,))
    return b.concat(*(b.full(n, 0.0) if row is None else row for row in rows))


def _columns(b: Builder, program: Program, env: list[Any], slot: int, n: int) -> int:
    """One forward sweep for each number it is taken with respect to."""
    n_out = program.sizes[program.outputs[0]]
    columns = []
    for e in np.eye(n):
        (v,) = pushforward(b, program, env, [b.const(e) if i == slot else None for i in range(3)])
        columns.append(b.full(n_out, 0.0) if v is None else v)
    return b.gather(b.concat(*columns), np.arange(n * n_out).reshape(n, n_out).T)


# ---- Plain functions of one array


def _function_field(fn: Callable[..., Any], shape: tuple[int, ...], outer: Trace | None) -> tuple[Field, Traced | None]:
    """fn as a field with state y (flat) and, as inputs, the values of the trace around it that it uses."""
    inner = new_trace((1, int(np.prod(shape)), 0), parent=outer, capture_slot=2)
    value = trace(fn, [inner.slot(1, shape)], inner)
    inner.close()
    field = Field(inner.builder.finish([value.register]), (), getattr(fn, "__name__", "function"), value.shape)
    captured: Any = [x.ravel() for x in inner.captured]
    return field, cast(Traced, np.concatenate(captured)) if captured else None


def _of_function(fn: Callable[..., Any], y: Any, transform: Callable[[Field], Field]) -> Any:
    """transform(fn) at y, for a transform Field -> Field."""
    outer = trace_of(y)
    if outer is not None:
        y = outer.lift(y)
        field, captured = _function_field(fn, y.shape, outer)
        derived = transform(field)
        value = derived.bind(None)(0.0, y.ravel(), captured)
        return value.reshape(_value_shape(field, derived, y.shape))
    y = real_array("y", y, np.float64)
    field, _ = _function_field(fn, y.shape[-1:], None)
    derived = transform(field)
    value = derived(0.0, y)
    return value.reshape((*y.shape[:-1], *_value_shape(field, derived, y.shape[-1:])))


def _value_shape(field: Field, derived: Field, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The last axis of a gradient or Jacobian stands for y; give it the shape of y."""
    per_y = derived.name.startswith(("grad", "jacobian"))
    leading = field.out_shape if derived.name.startswith("jacobian") else ()
    return (*leading, *shape) if per_y else derived.out_shape


# ---- Derivatives with a further argument: apply(field, t, y, theta, u, extra, **more)


def _with(f: Any, apply: Callable[..., Any], name: str, extra: str) -> Callable[..., Any]:
    """The function of (t, y, theta, extra) of a field; ([t,] y, extra) of a bound field; (y, extra) of a function of
    one array. The extra argument may be given by its name."""
    if not callable(f):
        raise TypeError(f"{name} takes a field or a function, not {f!r}")

    def at(*args: Any, u: Any = None, **more: Any) -> Any:
        if extra not in more and (isinstance(f, BoundField) or len(args) > len(_place(f))):
            more[extra] = args[-1]
            args = args[:-1]
        where, t, y, theta, u = _point(f, args, u)
        return apply(where, t, y, theta, u, **more)

    at.__name__ = f"{name}({getattr(f, 'name', getattr(f, '__name__', 'field'))})"
    return at


def _place(f: Any) -> tuple[str, ...]:
    """Names of the arguments that say where the derivative of a field or a plain function is taken."""
    if not isinstance(f, Field):
        return ("y",)
    return ("t", "y", "theta") if f.n_params else ("t", "y")


def _point(f: Any, args: tuple[Any, ...], u: Any) -> tuple[Field, Any, Any, Any, Any]:
    """The field meant by f, and where: (field, t, y, theta, u)."""
    if isinstance(f, BoundField):
        t, y, u = f.point(args, u)
        return f.field, t, y, f.theta, u
    if len(args) != len(_place(f)):
        raise TypeError(f"the derivative is taken at ({', '.join(_place(f))}), not at {len(args)} arguments")
    if isinstance(f, Field):
        return f, args[0], args[1], (args[2] if f.n_params else None), u
    outer = trace_of(*args)
    if outer is None:
        numbers = real_array("y", args[0], np.float64)
        field, captured = _function_field(f, numbers.shape[-1:], None)
        return field, 0.0, numbers, None, captured
    y = outer.lift(args[0])
    field, captured = _function_field(f, y.shape, outer)
    return field, 0.0, y.ravel(), None, captured


def vjp(f: Field | BoundField | Callable[..., Any]) -> Callable[..., Cotangents]:
    """Vector-Jacobian products: ``pn.vjp(f)(t, y, theta, dy, u=None)`` gives `Cotangents`.

    Parameters
    ----------
    f : Field; bound field, called as (t, y, dy) or (y, dy); or function of one array, called as (y, dy)
        `dy` is the cotangent of the value of the field, (n_out,).

    Returns
    -------
    function
        Its value has the fields y, theta, t, u. For a batch, `y`, `t` and `u` have a row for each sample and `theta` is the
        sum over the batch.

    See Also
    --------
    jvp : the Jacobian times a direction.

    Examples
    --------
    >>> import pynode as pn
    >>> f = pn.mlp(2, (8,))
    >>> g = pn.vjp(f)(0.0, [1.0, 0.0], f.init(0), [1.0, 0.0])
    >>> g.y.shape, g.theta.shape
    ((2,), (42,))
    """
    return _with(f, _vjp, "vjp", "dy")


def _vjp(f: Field, t: Any, y: Any, theta: Any, u: Any, dy: Any = None) -> Cotangents:
    values = {"t": t, "y": y, "u": u, "dy": dy}
    ready = f.vjp_program.row((t, y, u, dy), (theta,)) if f.callback is None else None
    if ready is None and trace_of(*values.values(), theta) is None:
        theta = checked_theta(f.spec, theta)
        callbacks = None if f.callback is None else f.bind_callbacks(theta)
        ready = run(f.vjp_program, values, [theta], callbacks)
    if ready is not None:
        (value, *found), (gtheta,) = ready
        batch = value.shape[:-1]
        sizes = (f.d, 1, f.inputs)
        gy, gt, gu = (np.zeros((*batch, n)) if x is None else x for x, n in zip(found, sizes, strict=True))
        return Cotangents(gy, gtheta, gt[..., 0], gu)
    program = _cached(f, "vjp", lambda: _vjp_in_registers(f.program))
    where, registers = inlined(program, values, [theta], f.name)
    of_t = _array_or_zeros(where, registers[0], 1)
    of_y, of_u, of_theta = (
        _array_or_zeros(where, r, n) for r, n in zip(registers[1:], (f.d, f.inputs, f.n_params), strict=True)
    )
    return Cotangents(of_y, of_theta, None if of_t is None else of_t.reshape(()), of_u)


def _array_or_zeros(where: Trace, register: int | None, n: int) -> Traced | None:
    """None where there is nothing to differentiate with respect to."""
    if register is None:
        return where.const(np.zeros(n)) if n else None
    return where.array(register, (n,))


def _vjp_in_registers(program: Program) -> Program:
    """Slots t, y, u, dy; outputs the cotangents of t, y, u and theta."""
    b = Builder((*program.slot_sizes, program.sizes[program.outputs[0]]), program.n_theta)
    env = b.replay(program, b.slots[:3])
    gtheta = Cotangent(b, program.n_theta[0])
    gt, gy, gu = pullback(b, program, env, [3], (0, 1, 2), theta_bar=[gtheta])
    return b.finish([gt, gy, gu, gtheta.total()])


def jvp(f: Field | BoundField | Callable[..., Any]) -> Callable[..., Any]:
    """Jacobian-vector products: ``pn.jvp(f)(t, y, theta, direction, u=None, dt=None, dtheta=None, du=None)``.

    Parameters
    ----------
    f : Field; bound field, called as (t, y, direction) or (y, direction); or function of one array, called as
        (y, direction)
        `direction` is that of y, (d,); dt, dtheta and du are those of t, theta and u. None is zero.

    Returns
    -------
    function
        Its value is the rate at which that of f changes, in the same shape.

    See Also
    --------
    vjp : a cotangent times the Jacobian.

    Examples
    --------
    >>> import pynode as pn
    >>> pn.jvp(lambda y: y * y)([1.0, 3.0], [1.0, 0.5]).tolist()
    [2.0, 3.0]
    """
    return _with(f, _jvp, "jvp", "direction")


def _jvp(
    f: Field, t: Any, y: Any, theta: Any, u: Any, direction: Any = None, dt: Any = None, dtheta: Any = None, du: Any = None
) -> Any:
    values = {"t": t, "y": y, "u": u, "dt": dt, "direction": direction, "du": du}
    given = (dt is not None, direction is not None, du is not None, dtheta is not None)
    program = _cached(f, ("jvp", given), lambda: _jvp_program(f.program, given))
    thetas = (theta, dtheta)[: len(program.n_theta)]
    ready = program.row(tuple(values.values()), thetas)
    if ready is None and trace_of(*values.values(), theta, dtheta) is None:
        ready = run(program, values, [checked_theta(f.spec, v) for v in thetas])
    if ready is not None:
        (value,) = ready[0]
        return value.reshape((*value.shape[:-1], *f.out_shape))
    where, (register,) = inlined(program, values, [v if f.n_params else None for v in thetas], f.name)
    return where.array(cast(int, register), f.out_shape)


def _jvp_program(program: Program, given: tuple[bool, ...]) -> Program:
    """Slots t, y, u and their tangents (of size 0 where not given); theta_1 the tangent of theta."""
    *slots, with_theta = given
    sizes = program.slot_sizes
    tangent_sizes = [n * here for n, here in zip(sizes, slots, strict=True)]
    b = Builder((*sizes, *tangent_sizes), program.n_theta * (1 + with_theta))
    env = b.replay(program, b.slots[:3])
    tangents = [3 + i if here else None for i, here in enumerate(slots)]
    dtheta = [b.theta(1)] if with_theta else None
    (value,) = pushforward(b, program, env, tangents, dtheta=dtheta)
    return b.finish([b.full(program.sizes[program.outputs[0]], 0.0) if value is None else value])


def hvp(H: Field | BoundField | Callable[..., Any]) -> Callable[..., Any]:
    """Hessian-vector products of a scalar field: ``pn.hvp(H)(t, y, theta, direction, u=None)`` is (d^2 H / dy^2) direction.

    Parameters
    ----------
    H : Field with n_out == 1; bound field, called as (t, y, direction) or (y, direction); or function of one array, called
        as (y, direction)
        `direction` is that of y, (d,).

    Returns
    -------
    function
        Its value has the shape of y.

    See Also
    --------
    grad : the first derivative.

    Examples
    --------
    >>> import pynode as pn
    >>> pn.hvp(lambda y: (y**3).sum())([1.0, 2.0], [1.0, 1.0]).tolist()
    [6.0, 12.0]
    """
    return _with(H, _hvp, "hvp", "direction")


def _hvp(H: Field, t: Any, y: Any, theta: Any, u: Any, direction: Any = None) -> Any:
    if trace_of(t, y, u, theta, direction) is None:
        return jvp(grad(H))(t, y, *([theta] if H.n_params else []), direction, u=u)
    return jvp(grad(H).bind(theta))(t, y, direction, u=u)
