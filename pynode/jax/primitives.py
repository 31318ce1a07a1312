"""The four primitives of JAX by which solves can be transformed: jit, vmap, grad, jvp, jacobians, hessian.

    solve(y0, t, theta)                       y
    forward(y0, t, theta, dy0, dtheta)        J (dy0, dtheta)
    backward(y0, t, theta, g)                 J^T g
    curved(y0, t, theta, dy0, dtheta, g)      the derivative of J^T g in the direction (dy0, dtheta)

Solve and backward go to the core: on a CPU from compiled code, without Python, where the extension has handlers for XLA;
else by a callback to `host.py`. Forward and curved are solve and backward of the states beside their tangents. The
derivative of solve is forward, whose transpose is backward, whose derivatives are backward and curved; curved is its own
transpose.
Arrays always have a batch: y0 (B, d), t (B, T), theta (p,) or (B, p). vmap makes one call of it, however many samples there
are: its axis goes into B.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from pynode.jax.host import HOST, Call, handle
from pynode.jax.xla import handlers

NO_TIMES = (
    "pynode.jax.odeint: times are not differentiated in JAX (pynode.solve(...).vjp(dy, wrt='t') does it): stop_gradient them"
)
THIRD = "pynode.jax.odeint: third derivatives, and grad of grad of a forward derivative, are not there; hessian is"

SEVERAL = {"solve": False, "forward": False, "backward": True, "curved": True}
"""Name -> whether it gives two arrays."""


def results(name: str, y0: Any, t: Any, theta: Any) -> Any:
    """What a primitive gives for arguments of such shapes, as jax.ShapeDtypeStruct."""
    if SEVERAL[name]:
        return jax.ShapeDtypeStruct(y0.shape, y0.dtype), jax.ShapeDtypeStruct(theta.shape, theta.dtype)
    return jax.ShapeDtypeStruct((*t.shape, y0.shape[1]), y0.dtype)


def through_python(name: str) -> Callable[..., Any]:
    """Solve or backward as a function of JAX that calls Python."""

    def called(*arrays: Any, call: Call, **unused: Any) -> Any:
        def on_host(*given: Any) -> Any:
            found = HOST[name](call, *(np.ascontiguousarray(x) for x in given))
            cast = [np.asarray(x, dtype=s.dtype) for x, s in zip(_listed(found), _listed(shapes), strict=True)]
            return tuple(cast) if SEVERAL[name] else cast[0]

        shapes = results(name, *arrays[:3])
        return jax.pure_callback(on_host, shapes, *arrays, vmap_method="sequential")

    return called


def from_compiled_code(name: str) -> Callable[..., Any]:
    """The rule by which solve or backward becomes a call of the core in compiled code, where there are handlers."""
    by_python = mlir.lower_fun(through_python(name), multiple_results=SEVERAL[name])

    def lowered(context: Any, *operands: Any, call: Call, keep: bool = False) -> Any:
        if name not in handlers() or not context.avals_in[0].shape[0]:
            return by_python(context, *operands, call=call)
        known = handle(call)
        context.module_context.add_keepalive(known)
        numbers = {"number": np.int64(known.number), "keep": np.int64(keep)}
        return jax.ffi.ffi_lowering(handlers()[name])(context, *operands, **numbers)

    return lowered


def beside_tangents(name: str) -> Callable[..., Any]:
    """Forward or curved: solve or backward of the states beside their tangents."""

    def forward(y0: Any, t: Any, theta: Any, dy0: Any, dtheta: Any, call: Call) -> Any:
        both = jnp.concatenate([y0, dy0], axis=1), t, _joined(theta, dtheta)
        return solve_p.bind(*both, call=call.beside_tangents, keep=False)[..., call.field.d :]

    def curved(y0: Any, t: Any, theta: Any, dy0: Any, dtheta: Any, g: Any, call: Call) -> Any:
        both = jnp.concatenate([y0, dy0], axis=1), t, _joined(theta, dtheta)
        whole = jnp.concatenate([jnp.zeros_like(g), g], axis=2)
        of_y0, of_theta = backward_p.bind(*both, whole, call=call.beside_tangents)
        return [of_y0[:, : call.field.d], of_theta[..., : call.field.n_params]]

    return forward if name == "forward" else curved


def _joined(theta: Any, dtheta: Any) -> Any:
    if theta.ndim != dtheta.ndim:
        rows = max(len(x) for x in (theta, dtheta) if x.ndim == 2)
        theta, dtheta = (jnp.broadcast_to(x, (rows, x.shape[-1])) for x in (theta, dtheta))
    return jnp.concatenate([theta, dtheta], axis=-1)


def _made(name: str) -> Primitive:
    primitive = Primitive(f"pynode_{name}")
    primitive.multiple_results = SEVERAL[name]

    def abstract(*arrays: Any, **unused: Any) -> Any:
        shapes = results(name, *arrays[:3])
        of = jax.core.ShapedArray
        return [of(s.shape, s.dtype) for s in shapes] if SEVERAL[name] else of(shapes.shape, shapes.dtype)

    primitive.def_impl(jax.jit(primitive.bind, static_argnames=("call", "keep")))
    primitive.def_abstract_eval(abstract)
    rule = through_python(name) if name in HOST else beside_tangents(name)
    mlir.register_lowering(primitive, mlir.lower_fun(rule, multiple_results=SEVERAL[name]))
    if name in HOST:
        mlir.register_lowering(primitive, from_compiled_code(name), platform="cpu")
    batching.primitive_batchers[primitive] = lambda arrays, axes, **keys: batched(name, arrays, axes, **keys)
    return primitive


def _listed(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def batched(name: str, arrays: Any, axes: Any, **keys: Any) -> Any:
    """A primitive under vmap: the new axis of N goes into the batch, theta gets a row for each sample."""
    n = next(x.shape[a] for x, a in zip(arrays, axes, strict=True) if a is not None)
    moved: list[Any] = [None if a is None else jnp.moveaxis(x, a, 0) for x, a in zip(arrays, axes, strict=True)]
    B = arrays[0].shape[0] if axes[0] is None else moved[0].shape[1]
    thetas = {2, 4} if name in ("forward", "curved") else {2}
    own = SEVERAL[name] or any(axes[k] is not None for k in thetas)  # gradients of theta differ, too
    row_wise = [_rank(x, a) == 2 for k, (x, a) in enumerate(zip(arrays, axes, strict=True)) if k in thetas]
    whole = []
    for k, (x, m) in enumerate(zip(arrays, moved, strict=True)):
        y = jnp.broadcast_to(x, (n, *x.shape)) if m is None else m
        if k in thetas and y.ndim == 2:
            if not own:
                whole.append(x)
                continue
            y = jnp.broadcast_to(y[:, None], (n, B, y.shape[1]))
        whole.append(y.reshape(n * B, *y.shape[2:]))
    found = PRIMITIVES[name].bind(*whole, **keys)
    if not SEVERAL[name]:
        return found.reshape(n, B, *found.shape[1:]), 0
    of_y0, of_theta = found
    of_theta = of_theta.reshape(n, B, -1)
    if not row_wise[0]:
        of_theta = of_theta.sum(axis=1)
    return [of_y0.reshape(n, B, -1), of_theta], [0, 0]


def _rank(x: Any, axis: int | None) -> int:
    return int(x.ndim) - (axis is not None)


def _dense(tangent: Any, like: Any) -> Any:
    return jnp.zeros(like.shape, like.dtype) if type(tangent) is ad.Zero else tangent


PRIMITIVES = {name: _made(name) for name in SEVERAL}
solve_p, forward_p, backward_p, curved_p = PRIMITIVES.values()


def _check_times(tangent: Any) -> None:
    if type(tangent) is not ad.Zero:
        raise NotImplementedError(NO_TIMES)


def _is_zero(*tangents: Any) -> bool:
    return all(type(x) is ad.Zero for x in tangents)


def solve_jvp(primals: Any, tangents: Any, call: Call, keep: bool) -> Any:
    """The way back may come: then the solve need not be done again."""
    y0, t, theta = primals
    dy0, dt, dtheta = tangents
    _check_times(dt)
    y = solve_p.bind(y0, t, theta, call=call, keep=True)
    return y, forward_p.bind(y0, t, theta, _dense(dy0, y0), _dense(dtheta, theta), call=call)


def forward_jvp(primals: Any, tangents: Any, call: Call) -> Any:
    """Linear in (dy0, dtheta); in (y0, theta) by the tangents of states and their tangents."""
    y0, t, theta, dy0, dtheta = primals
    ddy0, dt, ddtheta, ddy, ddth = tangents
    _check_times(dt)
    out = forward_p.bind(*primals, call=call)
    parts = []
    if not _is_zero(ddy, ddth):
        parts.append(forward_p.bind(y0, t, theta, _dense(ddy, dy0), _dense(ddth, dtheta), call=call))
    if not _is_zero(ddy0, ddtheta):
        both = call.beside_tangents
        start = jnp.concatenate([y0, dy0], axis=-1), t, jnp.concatenate([theta, dtheta], axis=-1)
        way = [
            jnp.concatenate([_dense(x, like), jnp.zeros_like(like)], axis=-1) for x, like in ((ddy0, y0), (ddtheta, theta))
        ]
        parts.append(forward_p.bind(*start, *way, call=both)[..., call.field.d :])
    return out, sum(parts) if parts else ad.Zero.from_primal_value(out)


def forward_transpose(cotangent: Any, y0: Any, t: Any, theta: Any, dy0: Any, dtheta: Any, call: Call) -> Any:
    if ad.is_undefined_primal(y0) or ad.is_undefined_primal(theta):
        raise NotImplementedError(THIRD)
    if type(cotangent) is ad.Zero:
        return [None] * 5
    of_y0, of_theta = backward_p.bind(y0, t, theta, cotangent, call=call)
    return [
        *(None, None, None),
        of_y0 if ad.is_undefined_primal(dy0) else None,
        of_theta if ad.is_undefined_primal(dtheta) else None,
    ]


def backward_jvp(primals: Any, tangents: Any, call: Call) -> Any:
    y0, t, theta, g = primals
    dy0, dt, dtheta, dg = tangents
    _check_times(dt)
    out = backward_p.bind(*primals, call=call)
    parts = []
    if type(dg) is not ad.Zero:
        parts.append(backward_p.bind(y0, t, theta, dg, call=call))
    if not _is_zero(dy0, dtheta):
        parts.append(curved_p.bind(y0, t, theta, _dense(dy0, y0), _dense(dtheta, theta), g, call=call))
    if not parts:
        return out, [ad.Zero.from_primal_value(x) for x in out]
    return out, [sum(x) for x in zip(*parts, strict=True)]


def backward_transpose(cotangents: Any, y0: Any, t: Any, theta: Any, g: Any, call: Call) -> Any:
    if ad.is_undefined_primal(y0) or ad.is_undefined_primal(theta):
        raise NotImplementedError(THIRD)
    if _is_zero(*cotangents):
        return [None] * 4
    way = (_dense(x, like) for x, like in zip(cotangents, (y0, theta), strict=True))
    return [None, None, None, forward_p.bind(y0, t, theta, *way, call=call)]


def curved_jvp(primals: Any, tangents: Any, call: Call) -> Any:
    y0, t, theta, dy0, dtheta, g = primals
    if not _is_zero(*tangents[:3], tangents[5]):
        raise NotImplementedError(THIRD)
    out = curved_p.bind(*primals, call=call)
    way = (_dense(x, like) for x, like in zip(tangents[3:5], (dy0, dtheta), strict=True))
    return out, curved_p.bind(y0, t, theta, *way, g, call=call)


def curved_transpose(cotangents: Any, y0: Any, t: Any, theta: Any, dy0: Any, dtheta: Any, g: Any, call: Call) -> Any:
    if any(ad.is_undefined_primal(x) for x in (y0, theta, g)):
        raise NotImplementedError(THIRD)
    if _is_zero(*cotangents):
        return [None] * 6
    way = (_dense(x, like) for x, like in zip(cotangents, (y0, theta), strict=True))
    of_y0, of_theta = curved_p.bind(y0, t, theta, *way, g, call=call)
    return [
        *(None, None, None),
        of_y0 if ad.is_undefined_primal(dy0) else None,
        of_theta if ad.is_undefined_primal(dtheta) else None,
        None,
    ]


for primitive, derivative, transpose in (
    (solve_p, solve_jvp, None),
    (forward_p, forward_jvp, forward_transpose),
    (backward_p, backward_jvp, backward_transpose),
    (curved_p, curved_jvp, curved_transpose),
):
    ad.primitive_jvps[primitive] = derivative
    if transpose is not None:
        ad.primitive_transposes[primitive] = transpose
