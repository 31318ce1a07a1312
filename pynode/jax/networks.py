"""Parameters by name, and the weights of networks of Equinox and Flax."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from pynode.fields.field import Field
from pynode.fields.make import mlp
from pynode.fields.parameters import leaves

NAMES = {
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "logistic": "sigmoid",
    "softplus": "softplus",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "sin": "sin",
    "identity": "identity",
    "_identity": "identity",
}
"""What activation functions are called in JAX -> here."""


def unravel(f: Field, theta: Any) -> dict[str, jax.Array]:
    """The parts of a parameter vector by name; differentiable, and traced like anything else.

    Parameters
    ----------
    f : Field
        Whose parameters they are.
    theta : (p,) array
        The vector.

    Returns
    -------
    dict of arrays

    Raises
    ------
    ValueError
        theta has another shape.

    Examples
    --------
    >>> import pynode as pn
    >>> f = pn.mlp(2, (8,))
    >>> {name: x.shape for name, x in pn.jax.unravel(f, f.init(0)).items()}
    {'W0': (8, 2), 'b0': (8,), 'W1': (2, 8), 'b1': (2,)}
    """
    theta = jnp.asarray(theta)
    if theta.shape != (f.n_params,):
        raise ValueError(f"theta has shape {theta.shape}, and {f.name} has {f.n_params} parameters: give ({f.n_params},)")
    return {part.name: theta[part.offset : part.stop].reshape(part.shape) for part in f.spec}


def ravel(f: Field, named: Mapping[str, Any]) -> jax.Array:
    """The parameter vector of named arrays, the inverse of `unravel`.

    Parameters
    ----------
    f : Field
    named : dict of arrays
        One for each parameter; dicts may be nested where names have dots, as `Field.unflatten` gives them.

    Returns
    -------
    (p,) array

    Raises
    ------
    ValueError
        Names or shapes are not those of the field.
    """
    wanted = {part.name: part.shape for part in f.spec}
    named = dict(leaves(named))
    if set(named) != set(wanted):
        raise ValueError(f"theta has the names {', '.join(map(str, named))}; {f.name} has {', '.join(wanted)}")
    parts = []
    for part in sorted(f.spec, key=lambda part: part.offset):
        x = jnp.asarray(named[part.name])
        if x.shape != tuple(part.shape):
            raise ValueError(f"theta[{part.name!r}] has shape {x.shape}, and {f.name} wants {tuple(part.shape)}")
        parts.append(x.ravel())
    return jnp.concatenate(parts) if parts else jnp.zeros(0)


def from_equinox(network: Any, *, time: bool = False) -> tuple[Field, NDArray[np.float64]]:
    """A multilayer perceptron of Equinox (``equinox.nn.MLP``) as a field, with its weights.

    Parameters
    ----------
    network : equinox.nn.MLP
        From d numbers to d numbers (with `time` from d + 1, the last one being the time), with biases.
    time : bool, default False
        The network takes the time, after the state.

    Returns
    -------
    f : Field
    theta : (p,) array

    Raises
    ------
    TypeError, ValueError
        It is another network, or has parts that are not there.
    """
    if not all(hasattr(network, name) for name in ("layers", "activation", "final_activation")):
        raise TypeError(f"from_equinox takes an equinox.nn.MLP, not {type(network).__name__}")
    for layer in network.layers:
        if getattr(layer, "bias", None) is None:
            raise ValueError("from_equinox: all layers must have a bias (use_bias=True, use_final_bias=True)")
    if _name(network.final_activation) != "identity":
        raise ValueError("from_equinox: the last layer must be linear; put final_activation outside")
    weights = [(np.asarray(layer.weight), np.asarray(layer.bias)) for layer in network.layers]
    return _field(weights, _name(network.activation), time)


def to_equinox(theta: Any, network: Any) -> Any:
    """The network of Equinox with the weights of a parameter vector; differentiable.

    Parameters
    ----------
    theta : (p,) array
        Of the field that `from_equinox(network)` gave.
    network : equinox.nn.MLP
        Of the same shape.

    Returns
    -------
    equinox.nn.MLP
    """
    likes = [like for layer in network.layers for like in (layer.weight, layer.bias)]
    parts = _pieces(theta, [like.shape for like in likes])
    leaves = [part.astype(like.dtype) for part, like in zip(parts, likes, strict=True)]
    import equinox

    return equinox.tree_at(lambda m: [x for layer in m.layers for x in (layer.weight, layer.bias)], network, leaves)


def from_flax(
    params: Mapping[str, Any], activation: str = "tanh", *, time: bool = False
) -> tuple[Field, NDArray[np.float64]]:
    """A stack of dense layers of Flax as a field, with its weights.

    Parameters
    ----------
    params : dict
        ``variables["params"]``: name of a layer -> {"kernel": (n, m), "bias": (m,)}, the layers in order.
    activation : str, default "tanh"
        Between the layers, see `pynode.mlp`.
    time : bool, default False
        The first layer takes the time, after the state.

    Returns
    -------
    f : Field
    theta : (p,) array

    Raises
    ------
    ValueError
        A layer is not a dense one with a bias, or sizes do not fit.
    """
    weights = []
    for name, layer in params.items():
        if set(layer) != {"kernel", "bias"}:
            raise ValueError(f"from_flax: {name} has {', '.join(layer)}, and must be a Dense layer: kernel, bias")
        weights.append((np.asarray(layer["kernel"]).T, np.asarray(layer["bias"])))
    return _field(weights, activation, time)


def to_flax(theta: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Flax's parameters from a vector, the inverse of `from_flax`; differentiable.

    Parameters
    ----------
    theta : (p,) array
    params : dict
        Of the same shape.

    Returns
    -------
    dict
    """
    shapes = [shape for layer in params.values() for shape in (layer["kernel"].shape[::-1], layer["bias"].shape)]
    parts = iter(_pieces(theta, shapes))
    return {name: {"kernel": next(parts).T, "bias": next(parts)} for name in params}


def _pieces(theta: Any, shapes: Sequence[tuple[int, ...]]) -> list[jax.Array]:
    """A vector cut into arrays of these shapes."""
    theta = jnp.asarray(theta)
    ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
    if theta.size != ends[-1]:
        raise ValueError(f"theta has {theta.size} numbers, the network {ends[-1]}")
    return [part.reshape(shape) for part, shape in zip(jnp.split(theta, ends[:-1]), shapes, strict=True)]


def _name(activation: Any) -> str:
    """What an activation function is called here."""
    for candidate in (activation, getattr(activation, "fn", None), getattr(activation, "__wrapped__", None)):
        name = getattr(candidate, "__name__", "")
        if name in NAMES:
            return NAMES[name]
    test = np.array([-1.5, -0.3, 0.4, 2.0], dtype=np.float32)
    values = np.asarray(activation(jnp.asarray(test)))
    if np.array_equal(values, test):
        return "identity"
    raise ValueError(f"the activation {activation!r} is not one of {', '.join(sorted(set(NAMES.values())))}")


def _field(weights: Any, activation: Any, time: bool) -> tuple[Field, NDArray[np.float64]]:
    """(a perceptron with these layers (W (m, n), b (m,)), its parameter vector)."""
    if len(weights) == 0:
        raise ValueError("the network has no layers")
    for (_, b), (W, _) in itertools.pairwise(weights):
        if W.shape[1] != len(b):
            raise ValueError(f"a layer gives {len(b)} numbers, and the next one takes {W.shape[1]}")
    d = len(weights[-1][1])
    if weights[0][0].shape[1] != d + time:
        raise ValueError(f"the network takes {weights[0][0].shape[1]} numbers and gives {d}: a field takes {d + time}")
    f = mlp(d, tuple(len(b) for _, b in weights[:-1]), activation=activation, time=time)
    theta = np.concatenate([np.asarray(x, dtype=np.float64).ravel() for pair in weights for x in pair])
    return f, theta
