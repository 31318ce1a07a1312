"""`odeint`: a solve as a function of JAX."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from pynode.data.batch import as_batch
from pynode.data.signal import Signal, as_signal
from pynode.engine.options import METHODS, Options
from pynode.engine.solution import check_errors
from pynode.fields.arguments import states_by_name
from pynode.fields.field import Field
from pynode.fields.parameters import ordered
from pynode.jax.host import Call
from pynode.jax.networks import ravel
from pynode.jax.primitives import solve_p

FORBIDDEN = {
    "events": "solve with pynode.solve, and use what it returns as data",
    "dense": "ask for the times that are needed",
    "steps": "ask for the times that are needed",
    "dtype": "it is that of y0",
    "data": "put them into theta",
    "grid": "give step=",
    "coupling": "reversible solves keep nothing that JAX could save",
}
"""Options of `pynode.solve` that this call does not take -> what helps."""


def odeint(
    f: Field,
    y0: Any,
    t: Any,
    theta: Any = None,
    *,
    method: str = "dopri5",
    rtol: float = 1e-6,
    atol: ArrayLike = 1e-8,
    inputs: Signal | None = None,
    **options: Any,
) -> jax.Array:
    """Solve dy/dt = f(t, y; theta) inside a program of JAX.

    It can be transformed by jit, vmap (one call of the core for all), grad, vjp, jvp, jacfwd, jacrev, linearize and
    hessian, with respect to y0 and theta. Gradients are the adjoint of the steps that were taken, exact to rounding;
    tangents are solved beside the states, on their steps.

    Parameters
    ----------
    f : Field
        A traced field or a network; callbacks are not differentiated.
    y0 : (..., d) array
        Initial states, float32 or float64: solves are in its precision (64 bits need ``jax_enable_x64``).
    t : (T,) array
        Times, rising or falling; y0 is the state at the first one. They may be traced, not differentiated.
    theta : (p,) array or dict of arrays, optional
        Parameters: a vector, or by name as `pynode.jax.unravel` or `Field.unflatten` gives them.
    method, rtol, atol, inputs : as in `pynode.solve`
        How to solve; a tolerance of float32 below 1e-5 is smaller than its rounding.
    **options
        step, save, max_steps, first_step, max_step, threads, mass, errors of `pynode.solve`.

    Returns
    -------
    (..., T, d) array
        States; NaN, with a SolveWarning, from where a sample fails.

    Raises
    ------
    TypeError, ValueError
        Arguments that do not fit.
    NotImplementedError
        A derivative with respect to t, or a third one.

    Examples
    --------
    >>> import jax, pynode as pn
    >>> f = pn.field(state=1, theta={"k": 2.0})(lambda t, y, th: [-th.k * y[0]])
    >>> def end(k):
    ...     return pn.jax.odeint(f, jax.numpy.ones(1), jax.numpy.array([0.0, 1.0]), k[None], rtol=1e-4)[-1, 0]
    >>> bool(abs(jax.grad(end)(jax.numpy.array(2.0)) + 0.1353) < 1e-3)
    True
    """
    errors = options.pop("errors", "warn")
    check_errors(errors)
    given = {"method": method, "rtol": rtol, "atol": atol, "inputs": inputs} | options
    call = Call(_checked(f), _hashable(f, given), errors)
    how = _readable(f, call.options)
    y0 = _numbers("y0", states_by_name("y0", f, y0))
    if y0.ndim < 1 or y0.shape[-1] != f.d:
        raise ValueError(f"y0 has shape {y0.shape}, and {f.name} has {f.d} states: give (..., {f.d})")
    t = _numbers("t", t).astype(y0.dtype)
    if t.ndim != 1 or len(t) < 1:
        raise ValueError(f"t has shape {t.shape}: give (T,), times for all samples (vmap has times for each)")
    vector = _vector(f, theta, y0.dtype)
    if not isinstance(t, jax.core.Tracer):
        _check_times(f, t, how)
    start = y0.reshape(-1, f.d)
    y = solve_p.bind(start, jnp.broadcast_to(t, (len(start), len(t))), vector, call=call, keep=False)
    return y.reshape(*y0.shape[:-1], len(t), f.d)


def _checked(f: Any) -> Field:
    if not isinstance(f, Field):
        raise TypeError(
            f"f must be a pynode Field, not {type(f).__name__}: have it traced by pynode.field, or see from_equinox"
        )
    if f.callbacks:
        raise TypeError(f"{f.name} calls Python, which cannot be differentiated here: have it traced by pynode.field")
    return f


def _hashable(f: Field, options: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Options of `pynode.solve`, checked as far as names go."""
    for name, remedy in FORBIDDEN.items():
        if options.get(name) is not None:
            raise ValueError(f"{name}= is not an option of pynode.jax.odeint: {remedy}")
    if not isinstance(options["method"], str) or options["method"] not in (*METHODS, "auto"):
        raise ValueError(f"method={options['method']!r} is not one of {', '.join(METHODS)}")
    given = options["inputs"]
    if f.inputs and given is None:
        raise ValueError(f"{f.name} has {f.inputs} control input{'s' * (f.inputs > 1)}: give inputs=, a pynode.Signal")
    if given is not None and not isinstance(given, Signal):
        raise TypeError(
            f"inputs must be a pynode.Signal, not {type(given).__name__}: make one beforehand, pynode.Signal(t, u) or "
            'pynode.Signal(None, u, "constant")'
        )
    kept = {}
    for name, value in options.items():
        if isinstance(value, jax.core.Tracer):
            raise TypeError(f"{name}= is traced by JAX, and must be known when the program is: mark it as static")
        if value is not None:
            array = isinstance(value, (list, np.ndarray, jax.Array))
            kept[name] = _tuples(np.asarray(value).tolist()) if array else value
    return tuple(sorted(kept.items()))


def _tuples(x: Any) -> Any:
    return tuple(_tuples(v) for v in x) if isinstance(x, list) else x


def _readable(f: Field, options: tuple[tuple[str, Any], ...]) -> Options:
    """The options, checked before a program is made of them: what is wrong then is an error of this call."""
    how = Options.of("pynode.jax.odeint", dict(options))
    how.arguments(f.d)
    as_signal(how.inputs, f.inputs)
    return how


def _numbers(name: str, x: Any) -> jax.Array:
    """x in float32 or float64; whole numbers in the default precision."""
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.integer):
        return x.astype(float)
    if x.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(f"{name} holds {x.dtype}: give float32 or float64, for example {name}.astype(jnp.float32)")
    return x


def _check_times(f: Field, t: jax.Array, how: Options) -> None:
    """Times that are known before the solve."""
    batch = as_batch(np.zeros(f.d), np.asarray(t), f.d)
    how.check_span(batch)
    if isinstance(how.inputs, Signal):
        how.inputs.check_spans(batch.spans())


def _vector(f: Field, theta: Any, dtype: Any) -> Any:
    if theta is None:
        if f.n_params:
            raise ValueError(f"{f.name} has {f.n_params} parameters: give theta, for example f.init(0)")
        return jnp.zeros(0, dtype)
    vector = ravel(f, theta) if isinstance(theta, Mapping) else jnp.asarray(ordered(f.spec, theta))
    if vector.shape != (f.n_params,):
        raise ValueError(f"theta has shape {vector.shape}, and {f.name} has {f.n_params} parameters: give ({f.n_params},)")
    return vector.astype(dtype)
