"""Constraints of parameters: what `theta={"k": pynode.positive(1.0)}` declares.

A field computes with theta as it is; constraints bind only those who change theta, the trainers of `pynode.fit`,
which work in coordinates without limits (`pynode.training.coordinates`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.arrays import real_array

if TYPE_CHECKING:
    from pynode.fields.parameters import Parameter


class Constrained(NamedTuple):
    """A declared parameter (or field, or dict of them) with its constraint.

    Attributes
    ----------
    value : object
        The initial value.
    constraint : tuple
        ("positive",), ("bounded", low, high) or ("frozen",).
    open : bool
        The user gave bounds and no value, which is then in their middle.
    """

    value: Any
    constraint: tuple[Any, ...]
    open: bool = False


def positive(value: ArrayLike) -> Constrained:
    """A parameter that stays positive while it is fitted (its logarithm is what is varied).

    Parameters
    ----------
    value : float or array
        Initial value, positive.

    Returns
    -------
    Constrained
        For ``theta={...}`` of `pynode.field`; for ``state={...}``, also without a value.

    See Also
    --------
    bounded, frozen

    Examples
    --------
    >>> import pynode as pn
    >>> @pn.field(state=1, theta={"rate": pn.positive(0.5)})
    ... def decay(t, y, th):
    ...     return -th.rate * y
    """
    return Constrained(_numbers("positive", value), ("positive",))


@overload
def bounded(low: float, high: float, /) -> Constrained: ...
@overload
def bounded(value: ArrayLike, low: float, high: float) -> Constrained: ...
def bounded(value: Any, low: float, high: float | None = None) -> Constrained:
    """A parameter that stays between bounds while it is fitted (the logit of its place between them is varied).

    ``bounded(low, high)`` leaves the initial value open: it is in the middle, by size where the bounds are positive and more
    than a decade apart.

    Parameters
    ----------
    value : float or array
        Initial value, low < value < high.
    low, high : float
        The bounds, finite.

    Returns
    -------
    Constrained
        For ``theta={...}`` and ``state={...}`` of `pynode.field`.

    Raises
    ------
    ValueError
        The bounds are not in order.

    See Also
    --------
    positive, frozen

    Examples
    --------
    >>> import pynode as pn
    >>> @pn.field(state=1, theta={"share": pn.bounded(0.5, 0.0, 1.0)})
    ... def decay(t, y, th):
    ...     return -th.share * y
    """
    open_value = high is None
    least, most = (float(value), float(low)) if high is None else (float(low), float(high))
    if not (np.isfinite([least, most]).all() and least < most):
        raise ValueError(
            f"bounded: low={least:g} and high={most:g} must be finite numbers, low < high; see also pynode.positive"
        )
    if open_value:
        value = np.sqrt(least * most) if by_size(least, most) else 0.5 * (least + most)
    return Constrained(_numbers("bounded", value), ("bounded", least, most), open_value)


def by_size(low: float, high: float) -> bool:
    """Whether a range spans orders of magnitude, so that numbers in it are compared by their ratio."""
    return low > 0 and high > 10 * low


def frozen(value: Any) -> Constrained:
    """A parameter that keeps its value while others are fitted.

    Parameters
    ----------
    value : float, array, Field, or dict of these
        A Field keeps its initial parameters; give them with `pynode.field(..., init={"net": {...}})`.

    Returns
    -------
    Constrained
        For ``theta={...}`` of `pynode.field`.

    See Also
    --------
    positive, bounded

    Examples
    --------
    >>> import pynode as pn
    >>> @pn.field(state=1, theta={"known": pn.frozen(9.81), "drag": 0.1})
    ... def fall(t, v, th):
    ...     return th.known - th.drag * v
    """
    if isinstance(value, (tuple, Constrained)):
        raise TypeError(f"frozen: a number, an array, a Field or a dict of them, not {value!r}")
    return Constrained(value, ("frozen",))


def check(parameter: Parameter, value: ArrayLike) -> None:
    """Raise ValueError unless this value of a parameter meets its constraint."""
    kind = parameter.constraint[0]
    low, high = (0.0, np.inf) if kind == "positive" else parameter.constraint[1:] if kind == "bounded" else (-np.inf, np.inf)
    bad = np.ravel(value)[~((np.ravel(value) > low) & (np.ravel(value) < high))]
    if len(bad):
        limits = "positive" if kind == "positive" else f"between {low:g} and {high:g}"
        raise ValueError(f"parameter {parameter.name} must be {limits} to be fitted, but starts at {bad[0]:g}")


def _numbers(name: str, value: Any) -> NDArray[np.float64]:
    """An initial value, checked."""
    try:
        array = None if isinstance(value, tuple) else real_array(name, value, np.float64)
    except (TypeError, ValueError):
        array = None
    if array is None or not np.isfinite(array).all():
        raise TypeError(f"{name}: the initial value must be a finite number or an array of them, not {value!r}")
    return array


def valid(constraint: Iterable[Any]) -> tuple[Any, ...]:
    """A constraint read from a file, checked."""
    constraint = tuple(constraint)
    numbers = constraint[1:]
    good = constraint in (("free",), ("positive",), ("frozen",)) or (
        len(constraint) == 3
        and constraint[0] == "bounded"
        and all(type(x) in (int, float) and np.isfinite(x) for x in numbers)
        and numbers[0] < numbers[1]
    )
    if not good:
        raise ValueError(f"{constraint!r} is no constraint of a parameter")
    return constraint
