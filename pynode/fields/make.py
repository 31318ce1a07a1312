"""Making fields: `mlp`, and `field`, which traces NumPy code."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import combinations_with_replacement, pairwise
from operator import mul
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from pynode.data.arrays import real_array
from pynode.fields import constraints, parameters, states
from pynode.fields.field import Field, Parameters
from pynode.fields.parameters import Parameter
from pynode.programs.breaks import compares_t_with_parameters
from pynode.programs.functions import ACTIVATIONS
from pynode.programs.tracing import new_trace, trace

Init = Literal["lecun", "xavier", "he"]
ActivationName = Literal["tanh", "sigmoid", "softplus", "relu", "silu", "gelu", "elu", "leaky_relu", "sin", "identity"]


SCALES: dict[str, Callable[[int, int], float]] = {
    "lecun": lambda m, n: 1.0 / n,
    "xavier": lambda m, n: 2.0 / (m + n),
    "he": lambda m, n: 2.0 / n,
}
"""Variance of the initial weights of a layer (m outputs, n inputs)."""


POLYNOMIAL = ("A", "P2", "P3")
"""The names of the coefficients of a polynomial beside a network, by degree."""


def mlp(
    d_in: int,
    hidden: int | tuple[int, ...],
    d_out: int | None = None,
    activation: ActivationName = "tanh",
    *,
    time: bool = False,
    inputs: int = 0,
    init: Init = "lecun",
    gain: float = 1.0,
    skip: bool | int = False,
) -> Field:
    """A multilayer perceptron; the last layer is linear.

    theta is, for each layer, the weights W (out, in) row by row, then the bias b; with `skip`, then A, P2 and P3.

    Parameters
    ----------
    d_in : int
        Size of the state.
    hidden : tuple of int, or int
        Widths of the hidden layers; may be empty.
    d_out : int, optional
        Size of the value; default d_in, which makes it a vector field.
    activation : {"tanh", "sigmoid", "softplus", "relu", "silu", "gelu", "elu", "leaky_relu", "sin", "identity"}
        Activation function of the hidden layers, default "tanh".
    time : bool, default False
        Append t to the first layer's input.
    inputs : int, default 0
        Size of the input signal u, appended too.
    init : {"lecun", "xavier", "he"}, default "lecun"
        Weights are drawn from N(0, gain^2 v) with v = 1/in, 2/(in + out) or 2/in; biases are 0.
    gain : float, default 1
        Factor of the initial weights.
    skip : bool or int, default False
        Add a polynomial of this degree, 0 to 3, of the first layer's input to the value; True: 1, a linear map A (out, in).
        P2 and P3 multiply the products of two and of three inputs, in the order of
        `itertools.combinations_with_replacement`.

    Returns
    -------
    Field

    See Also
    --------
    field : a field written in NumPy, which may contain networks.

    Examples
    --------
    >>> import pynode as pn
    >>> f = pn.mlp(2, (16, 16))
    >>> f(0.0, [1.0, 0.0], f.init(0)).shape
    (2,)
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; not {activation!r}")
    if init not in SCALES:
        raise ValueError(f"init must be one of {', '.join(SCALES)}; not {init!r}")
    d_out = d_in if d_out is None else d_out
    hidden = (hidden,) if isinstance(hidden, int) else tuple(hidden)
    widths = [as_count("d_in", d_in) + bool(time) + as_count("inputs", inputs, 0), *hidden, d_out]
    spec: list[Parameter] = []
    offset = 0
    for i, (n, m) in enumerate(pairwise(widths)):
        scale = gain * float(np.sqrt(SCALES[init](as_count("width", m), n)))
        spec += [
            Parameter(f"W{i}", (m, n), offset, ("normal", scale)),
            Parameter(f"b{i}", (m,), offset + m * n, ("value", [0.0] * m)),
        ]
        offset = spec[-1].stop
    layers = list(zip(spec[::2], spec[1::2], strict=True))
    if skip not in (0, 1, 2, 3):
        raise ValueError(f"skip={skip!r} must be the degree of a polynomial, 0 to {len(POLYNOMIAL)}; True is 1")
    products = [products_of(widths[0], k + 1) for k in range(int(skip))]
    for name, terms in zip(POLYNOMIAL, products, strict=False):
        scale = gain * float(np.sqrt(SCALES[init](d_out, len(terms))))
        spec.append(Parameter(name, (d_out, len(terms)), offset, ("normal", scale)))
        offset = spec[-1].stop

    the_trace = new_trace((1, d_in, inputs), (offset,))
    theta: Any = the_trace.theta()
    x: Any = np.concatenate([the_trace.slot(slot) for slot, used in ((1, True), (0, time), (2, inputs)) if used])
    first = x
    for W, b in layers:
        x = theta[W.offset : W.stop].reshape(W.shape) @ x + theta[b.offset : b.stop]
        x = x if b is layers[-1][1] else ACTIVATIONS[activation](x)
    for A, terms in zip(spec[2 * len(layers) :], products, strict=True):
        x = x + theta[A.offset : A.stop].reshape(A.shape) @ _products(first, terms)
    how = {0: "", 1: ", skip"}.get(int(skip), f", skip={skip}")
    return Field(
        the_trace.builder.finish([x.register]), tuple(spec), f"mlp({'-'.join(map(str, widths))}, {activation}{how})"
    )


def products_of(n: int, degree: int) -> list[tuple[int, ...]]:
    """The products of `degree` of n variables, each as the variables that it multiplies."""
    return list(combinations_with_replacement(range(n), degree))


def _products(x: Any, terms: list[tuple[int, ...]]) -> Any:
    """The products of components of x, as a vector."""
    if len(terms[0]) == 1:
        return x
    return np.stack([reduce(mul, [x[i] for i in term]) for term in terms])


def field(
    state: int | Sequence[str] | Mapping[str, Any],
    theta: Mapping[str, Any] | int | tuple[int, ...] | None = None,
    *,
    inputs: int = 0,
    out: int | None = None,
    init: ArrayLike | Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], Field]:
    """Make a field of a Python function: ``@pn.field(state=2, theta={"k": ()})``.

    The function is called once, as ``f(t, y, th)``, with `u` last where there are inputs, without `th`
    where theta is None. Its NumPy operations become a program; it returns the derivative as an array or a
    list of components.

    Parameters
    ----------
    state : int, sequence of str, or dict
        Size d of the state y, or the names of its components. A dict says more of each: `pynode.positive` or
        `pynode.bounded` (low, high) where it stays within limits while initial states are fitted, a number or
        ``pynode.positive(start)`` for where an initial state starts that nobody measured, or None.
    theta : dict, int, tuple or None
        The parameters. A dict of names: a shape ``()``, ``(3,)``, ``(4, 2)``; a number or an array, which
        is the initial value; a Field, called in the function as ``th.net(y)`` or ``th.net(t, y)``; any of
        these but a shape in `pynode.positive`, `pynode.bounded` or `pynode.frozen`; or a dict of the same.
        An int n or a shape: `th` is one array.
    inputs : int, default 0
        Size of the input signal u.
    out : int, optional
        How many numbers the function returns; default: as many as there are states.
    init : flat vector or nested dict, optional
        Initial values; default: matrices N(0, 1 / fan_in), other shapes N(0, 0.01).
    name : str, optional
        Default: the function's name.

    Returns
    -------
    decorator: function -> Field

    Raises
    ------
    TraceError
        The code cannot be traced; the message names the line and what to write instead.

    See Also
    --------
    mlp : a network.
    callback_field : for code that cannot be traced.

    Examples
    --------
    >>> import pynode as pn
    >>> @pn.field(state=2, theta={"k": 2.0, "friction": pn.mlp(1, (8,))})
    ... def oscillator(t, y, th):
    ...     return [y[1], -th.k * y[0] - th.friction(y[1:])[0]]
    >>> oscillator.n_params
    26

    Names of states, and what is known of them:

    >>> @pn.field(state={"prey": pn.positive, "predators": pn.positive(3.0)}, theta={"a": pn.positive(1.5)})
    ... def populations(t, y, th):
    ...     prey, predators = y
    ...     return [prey * (1.0 - predators), predators * (th.a * prey - 1.0)]
    >>> populations.state_names
    ('prey', 'predators')
    """
    if callable(state):
        raise TypeError("write @pn.field(state=d), not @pn.field: the size of the state is needed")
    named = states.declared(state) if isinstance(state, (list, tuple, Mapping)) else ()
    d = len(named) or as_count("state", state)
    m = as_count("inputs", inputs, 0)
    n_out = d if out is None else as_count("out", out)
    declared, layout = _declared(theta)
    spec = parameters.with_initial(declared, init)

    def decorate(fn: Callable[..., Any]) -> Field:
        the_trace = new_trace((1, d, m), (parameters.total(spec),))
        args: list[Any] = [the_trace.slot(0, ()), the_trace.slot(1)]
        args += [] if theta is None else [_traced_parameters(layout, the_trace.theta())]
        args += [the_trace.slot(2)] if m else []
        _check_signature(fn, len(args), theta is not None, bool(m))
        value = trace(fn, args, the_trace, n_out)
        program = the_trace.builder.finish([value.register])
        if compares_t_with_parameters(program):
            warnings.warn(
                f"{name or fn.__name__} compares t with a parameter: steps do not end at that time, may step over "
                "a pulse, and derivatives leave out that it moves with the parameter. Compare t with a number, or switch "
                "smoothly: pn.sigmoid((t - th.a) / width)",
                UserWarning,
                stacklevel=2,
            )
        return Field(program, spec, name or fn.__name__, states=named)

    return decorate


def as_count(name: str, n: Any, least: int = 1) -> int:
    """A size that a user gave, checked."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < least:
        raise ValueError(f"{name} must be an integer >= {least}, not {n!r}")
    return int(n)


def _check_signature(fn: Callable[..., Any], n: int, has_theta: bool, has_inputs: bool) -> None:
    call = ", ".join(["t", "y", *["th"] * has_theta, *["u"] * has_inputs])
    try:
        inspect.signature(fn).bind(*[None] * n)
    except TypeError:
        raise TypeError(f"{fn.__name__}{inspect.signature(fn)} is called as {fn.__name__}({call})") from None


def _declared(theta: Any) -> tuple[list[Parameter], Any]:
    """The spec, and the same as a tree of Parameters and (Field, offset)."""
    if theta is None:
        return [], {}
    if isinstance(theta, dict):
        spec: list[Parameter] = []
        return spec, _declare_dict(theta, "", spec)
    if isinstance(theta, Field):
        raise TypeError("theta must name the fields it contains: theta={'net': net}")
    shape = (theta,) if isinstance(theta, int) else theta
    spec = [_declared_leaf("theta", shape, 0)]
    return spec, spec[0]


def _declare_dict(theta: Mapping[str, Any], prefix: str, spec: list[Parameter]) -> dict[str, Any]:
    """The tree of `_declared`; parameters are appended to spec."""
    tree: dict[str, Any] = {}
    for name, value in theta.items():
        if not (isinstance(name, str) and name.isidentifier()):
            raise ValueError(f"a parameter name must be an identifier, not {name!r}")
        path = prefix + name
        offset = parameters.total(spec)
        constraint = None
        if isinstance(value, constraints.Constrained):
            value, constraint = value.value, value.constraint
        first = len(spec)
        if isinstance(value, dict):
            tree[name] = _declare_dict(value, path + ".", spec)
        elif isinstance(value, Field):
            spec += parameters.shifted(value.spec, path, offset)
            tree[name] = (value, offset)
        else:
            spec.append(_declared_leaf(path, value, offset))
            tree[name] = spec[-1]
        if constraint is not None:
            spec[first:] = [p._replace(constraint=constraint) for p in spec[first:]]
            for p in spec[first:]:
                if p.init[0] == "value":
                    constraints.check(p, p.init[1])
    return tree


def _declared_leaf(name: str, value: Any, offset: int) -> Parameter:
    """A shape or an initial value as a parameter."""
    if isinstance(value, int):
        raise ValueError(f"parameter {name}: {value} may be a size or a value; write ({value},) or {value}.0")
    if isinstance(value, tuple):
        if not all(isinstance(n, (int, np.integer)) and n > 0 for n in value):
            raise ValueError(f"parameter {name}: {value} is not a shape (write an array for initial values)")
        return Parameter(name, tuple(int(n) for n in value), offset, parameters.default_init(value))
    try:
        array = real_array(f"parameter {name}", value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"parameter {name}: a shape, a number, an array, a Field or a dict, not {value!r}") from None
    return Parameter(name, array.shape, offset, parameters.values_of(array))


def _traced_parameters(layout: Any, theta: Any) -> Any:
    """`th`: the tree of `_declared` with traced arrays and bound fields."""
    if isinstance(layout, dict):
        return Parameters({name: _traced_parameters(value, theta) for name, value in layout.items()})
    if isinstance(layout, Parameter):
        return theta[layout.offset : layout.stop].reshape(layout.shape)
    nested, offset = layout
    return nested.bind(theta[offset : offset + nested.n_params] if nested.n_params else None)
