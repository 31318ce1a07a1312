"""The layout of theta: named parameters, one after the other in a flat vector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.arrays import real_array
from pynode.data.labels import by_name, labels_of


class Parameter(NamedTuple):
    """One named array in theta.

    Attributes
    ----------
    name : str
        With dots where dicts or fields are nested.
    shape : tuple of int
    offset : int
        Where it begins in theta.
    init : tuple
        ("normal", standard deviation) or ("value", flat list of numbers).
    constraint : tuple
        ("free",), ("positive",), ("bounded", low, high) or ("frozen",), see `pynode.fields.constraints`.
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    init: tuple[Any, ...]
    constraint: tuple[Any, ...] = ("free",)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def stop(self) -> int:
        """Where the next parameter begins."""
        return self.offset + self.size

    def draw(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Initial values, flat."""
        kind, value = self.init
        return np.array(value, dtype=np.float64) if kind == "value" else float(value) * rng.standard_normal(self.size)


class Parametric:
    """What has parameters: `spec`, their layout in theta."""

    spec: tuple[Parameter, ...]

    def init(self, random_state: int | np.random.Generator | None = None) -> NDArray[np.float64]:
        """Initial parameters, all drawn from one generator, in the order of theta.

        Parameters
        ----------
        random_state : int or numpy.random.Generator, optional
            Default: different at each call.

        Returns
        -------
        (n_params,) float64 array

        Examples
        --------
        >>> import pynode as pn
        >>> pn.mlp(2, (8,)).init(0).shape
        (42,)
        """
        return initial(self.spec, random_state)

    def unflatten(self, theta: ArrayLike | Mapping[str, Any]) -> dict[str, Any]:
        """theta (n_params,) as a nested dict of views, by name.

        Parameters
        ----------
        theta : (n_params,) array, or nested dict
            The parameters in either form.

        Returns
        -------
        dict
            An array for each parameter, a dict for each part.

        Examples
        --------
        >>> import pynode as pn
        >>> f = pn.mlp(2, (8,))
        >>> list(f.unflatten(f.init(0)))
        ['W0', 'b0', 'W1', 'b1']
        """
        return unflatten(self.spec, theta)

    def flatten(self, tree: Mapping[str, Any]) -> NDArray[np.float64]:
        """theta (n_params,) from a nested dict as `unflatten` gives it.

        Parameters
        ----------
        tree : dict
            Every parameter by name, in its shape.

        Returns
        -------
        (n_params,) array

        Raises
        ------
        ValueError
            A name is missing or unknown, or a shape is wrong.
        """
        return flatten(self.spec, tree)


def total(spec: Sequence[Parameter]) -> int:
    """How many numbers theta has."""
    return spec[-1].stop if spec else 0


def default_init(shape: tuple[int, ...]) -> tuple[str, float]:
    """Matrices: N(0, 1 / fan_in); vectors and scalars: N(0, 0.01)."""
    return ("normal", 1.0 / np.sqrt(shape[-1]) if len(shape) > 1 else 0.1)


def values_of(array: ArrayLike) -> tuple[str, list[float]]:
    """The `init` that is these numbers."""
    return ("value", np.asarray(array, dtype=np.float64).ravel().tolist())


def shifted(spec: Iterable[Parameter], prefix: str, offset: int) -> list[Parameter]:
    """The parameters of a field inside another one."""
    return [p._replace(name=f"{prefix}.{p.name}", offset=p.offset + offset) for p in spec]


def initial(spec: Iterable[Parameter], random_state: int | np.random.Generator | None) -> NDArray[np.float64]:
    """theta: drawn in the order of `spec`."""
    rng = np.random.default_rng(random_state)
    return np.concatenate([np.empty(0), *(p.draw(rng) for p in spec)])


def nested(spec: Iterable[Parameter], leaf: Callable[[Parameter], Any]) -> dict[str, Any]:
    """A nested dict by the dots in the names; leaf(parameter) gives the values."""
    tree: dict[str, Any] = {}
    for p in spec:
        *folders, last = p.name.split(".")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = leaf(p)
    return tree


def unflatten(spec: Sequence[Parameter], theta: Any) -> dict[str, Any]:
    """A nested dict of views of theta."""
    vector = checked_theta(spec, theta)
    return nested(spec, lambda p: vector[p.offset : p.stop].reshape(p.shape))


def flatten(spec: Sequence[Parameter], tree: Mapping[str, Any]) -> NDArray[np.float64]:
    """theta from a nested dict.

    Raises
    ------
    ValueError
        A name is missing or unknown, or a shape is wrong.
    """
    given = dict(leaves(tree))
    names = [p.name for p in spec]
    if set(given) != set(names):
        raise ValueError(
            f"parameters missing: {sorted(set(names) - set(given))}, unknown: {sorted(set(given) - set(names))}"
        )
    theta = np.empty(total(spec))
    for p in spec:
        value = real_array(f"parameter {p.name}", given[p.name], np.float64)
        if value.shape != p.shape:
            raise ValueError(f"parameter {p.name} has shape {p.shape}, not {value.shape}")
        theta[p.offset : p.stop] = value.ravel()
    return theta


def axes(x: Any) -> int:
    """How many axes an array_like has; 0 where it is none, of which `real_array` says what is wrong."""
    try:
        return int(np.ndim(x))
    except ValueError:
        return 0


def rows_in(spec: Sequence[Parameter], tree: Mapping[str, Any]) -> int | None:
    """The leading B of the entries of a nested dict that have one more axis than their parameter; None if none has."""
    ndim = {p.name: len(p.shape) for p in spec}
    lengths = {name: len(value) for name, value in leaves(tree) if axes(value) == ndim.get(name, np.inf) + 1}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name}: {n}" for name, n in lengths.items())
        raise ValueError(f"theta holds different numbers of values for the samples ({text}): give one for each sample")
    return next(iter(lengths.values()), None)


def flatten_each(spec: Sequence[Parameter], tree: Mapping[str, Any], rows: int) -> NDArray[np.float64]:
    """(rows, n_params) from a nested dict; an entry without a leading axis is the same in all rows."""
    given = dict(leaves(tree))
    many = {p.name: given[p.name] for p in spec if p.name in given and axes(given[p.name]) > len(p.shape)}
    if rows == 0:
        return np.empty((0, total(spec)))
    theta = np.tile(flatten(spec, given | {name: value[0] for name, value in many.items()}), (rows, 1))
    for p in spec:
        if p.name not in many:
            continue
        value = real_array(f"parameter {p.name}", many[p.name], np.float64)
        if value.shape != (rows, *p.shape):
            raise ValueError(
                f"parameter {p.name} has shape {p.shape}; {rows} of them have {(rows, *p.shape)}, not {value.shape}"
            )
        theta[:, p.offset : p.stop] = value.reshape(rows, -1)
    return theta


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The (name, array) of nested dicts: names have dots where dicts are nested."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def checked_theta(spec: Sequence[Parameter], theta: Any) -> NDArray[np.float64]:
    """theta as a float64 vector of the right length."""
    n = total(spec)
    theta = np.empty(0) if theta is None and n == 0 else theta
    if theta is None:
        raise ValueError(f"theta is missing: this field has {n} parameters (f.init(0) makes some)")
    if isinstance(theta, dict):
        return flatten(spec, theta)
    vector = real_array("theta", ordered(spec, theta), np.float64)
    if vector.shape != (n,):
        raise ValueError(f"theta must have shape ({n},), not {vector.shape}")
    return vector


def ordered(spec: Sequence[Parameter], theta: Any) -> Any:
    """theta, where it is labelled by names (see `parameter_names`) in their order."""
    return theta if labels_of(theta) is None else by_name("theta", theta, parameter_names(spec))


def parameter_names(spec: Sequence[Parameter]) -> list[str]:
    """A name for each number in theta: k, or a[0], a[1], ..."""
    names = []
    for p in spec:
        names += [p.name] if p.shape == () or p.size == 1 else [f"{p.name}[{k}]" for k in range(p.size)]
    return names


def with_initial(spec: Sequence[Parameter], init: Any) -> tuple[Parameter, ...]:
    """The spec with initial values: a flat vector, or a nested dict of some of the parameters."""
    if init is None:
        return tuple(spec)
    if not isinstance(init, dict):
        theta = checked_theta(spec, init)
        return tuple(p._replace(init=values_of(theta[p.offset : p.stop])) for p in spec)
    given = dict(leaves(init))
    unknown = sorted(set(given) - {p.name for p in spec})
    if unknown:
        raise ValueError(f"init names unknown parameters: {unknown}; there are {[p.name for p in spec]}")
    for name, value in given.items():
        shape = next(p.shape for p in spec if p.name == name)
        if np.shape(value) != shape:
            raise ValueError(f"init of {name} has shape {np.shape(value)}, the parameter {shape}")
    return tuple(p._replace(init=values_of(given[p.name])) if p.name in given else p for p in spec)
