"""Functions that NumPy lacks, for NumPy arrays and inside fields alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.programs.traced import Traced, trace_of


def _erf_of_numbers(x: NDArray[np.float64]) -> Any:
    from scipy.special import erf

    return erf(x)


def _operation(op: str, on_numbers: Callable[[NDArray[np.float64]], Any], x: Any) -> Any:
    """One operation of programs for a traced value, and its counterpart for numbers."""
    t = trace_of(x)
    if t is None:
        return on_numbers(np.asarray(x, dtype=np.float64))[()]
    value = t.lift(x)
    return t.array(t.builder.same(op, value.register), value.shape)


def _array(x: Any) -> Any:
    """x as an array of numbers or as a traced array."""
    t = trace_of(x)
    return np.asarray(x, dtype=np.float64) if t is None else t.lift(x)


@overload
def sigmoid(x: Traced) -> Traced: ...
@overload
def sigmoid(x: float) -> np.float64: ...
@overload
def sigmoid(x: ArrayLike) -> NDArray[np.float64]: ...
def sigmoid(x: Any) -> Any:
    """The logistic function 1 / (1 + exp(-x)).

    Parameters
    ----------
    x : array_like, or a value inside a field
        Where to evaluate, elementwise.

    Returns
    -------
    array of float64 (a number for a number), or a value inside a field
        Of the shape of x.

    Examples
    --------
    >>> import pynode as pn
    >>> float(pn.sigmoid(0.0))
    0.5
    """
    return _operation("SIGMOID", lambda x: np.exp(-np.logaddexp(0.0, -x)), x)


@overload
def softplus(x: Traced) -> Traced: ...
@overload
def softplus(x: float) -> np.float64: ...
@overload
def softplus(x: ArrayLike) -> NDArray[np.float64]: ...
def softplus(x: Any) -> Any:
    """log(1 + exp(x)), without overflow.

    Parameters
    ----------
    x : array_like, or a value inside a field
        Where to evaluate, elementwise.

    Returns
    -------
    array of float64 (a number for a number), or a value inside a field
        Of the shape of x.

    Examples
    --------
    >>> import pynode as pn
    >>> float(pn.softplus(1000.0))
    1000.0
    """
    return _operation("SOFTPLUS", lambda x: np.logaddexp(0.0, x), x)


@overload
def relu(x: Traced) -> Traced: ...
@overload
def relu(x: float) -> np.float64: ...
@overload
def relu(x: ArrayLike) -> NDArray[np.float64]: ...
def relu(x: Any) -> Any:
    """max(x, 0); its derivative at 0 is 0.

    Parameters
    ----------
    x : array_like, or a value inside a field
        Where to evaluate, elementwise.

    Returns
    -------
    array of float64 (a number for a number), or a value inside a field
        Of the shape of x.

    Examples
    --------
    >>> import pynode as pn
    >>> pn.relu([-1.0, 2.0]).tolist()
    [0.0, 2.0]
    """
    return _operation("RELU", lambda x: np.maximum(x, 0.0), x)


@overload
def erf(x: Traced) -> Traced: ...
@overload
def erf(x: float) -> np.float64: ...
@overload
def erf(x: ArrayLike) -> NDArray[np.float64]: ...
def erf(x: Any) -> Any:
    """The error function 2 / sqrt(pi) int_0^x exp(-s^2) ds.

    Parameters
    ----------
    x : array_like, or a value inside a field
        Where to evaluate, elementwise.

    Returns
    -------
    array of float64 (a number for a number), or a value inside a field
        Of the shape of x.

    Examples
    --------
    >>> import pynode as pn
    >>> float(pn.erf(0.0))
    0.0
    """
    return _operation("ERF", _erf_of_numbers, x)


@overload
def silu(x: Traced) -> Traced: ...
@overload
def silu(x: float) -> np.float64: ...
@overload
def silu(x: ArrayLike) -> NDArray[np.float64]: ...
def silu(x: Any) -> Any:
    """x sigmoid(x), also called swish (Ramachandran et al. 2017, arXiv:1710.05941).

    Parameters
    ----------
    x : array_like, or a value inside a field
        Where to evaluate, elementwise.

    Returns
    -------
    array of float64 (a number for a number), or a value inside a field
        Of the shape of x.

    Examples
    --------
    >>> import pynode as pn
    >>> float(pn.silu(0.0))
    0.0
    """
    x = _array(x)
    return x * sigmoid(x)


@overload
def gelu(x: Traced) -> Traced: ...
@overload
def gelu(x: float) -> np.float64: ...
@overload
def gelu(x: ArrayLike) -> NDArray[np.float64]: ...
def gelu(x: Any) -> Any:
    """x Phi(x), with Phi the distribution function of N(0, 1) (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    The exact form, not the tanh approximation.

    Parameters
    ----------
    x : array_like, or a value inside a field
        Where to evaluate, elementwise.

    Returns
    -------
    array of float64 (a number for a number), or a value inside a field
        Of the shape of x.

    Examples
    --------
    >>> import pynode as pn
    >>> float(pn.gelu(0.0))
    0.0
    """
    x = _array(x)
    return 0.5 * x * (1.0 + erf(x * math.sqrt(0.5)))


@overload
def elu(x: Traced, alpha: float = ...) -> Traced: ...
@overload
def elu(x: float, alpha: float = ...) -> np.float64: ...
@overload
def elu(x: ArrayLike, alpha: float = ...) -> NDArray[np.float64]: ...
def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha (exp(x) - 1) (Clevert et al. 2015, arXiv:1511.07289).

    Parameters
    ----------
    x : array_like, or a value inside a field
        Where to evaluate, elementwise.
    alpha : float
        Minus the limit for x to minus infinity.

    Returns
    -------
    array of float64 (a number for a number), or a value inside a field
        Of the shape of x.

    Examples
    --------
    >>> import pynode as pn
    >>> float(pn.elu(2.0))
    2.0
    """
    x = _array(x)
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))[()]


@overload
def leaky_relu(x: Traced, slope: float = ...) -> Traced: ...
@overload
def leaky_relu(x: float, slope: float = ...) -> np.float64: ...
@overload
def leaky_relu(x: ArrayLike, slope: float = ...) -> NDArray[np.float64]: ...
def leaky_relu(x: Any, slope: float = 0.01) -> Any:
    """x where x > 0, else slope x.

    Parameters
    ----------
    x : array_like, or a value inside a field
        Where to evaluate, elementwise.
    slope : float
        The derivative for x < 0.

    Returns
    -------
    array of float64 (a number for a number), or a value inside a field
        Of the shape of x.

    Examples
    --------
    >>> import pynode as pn
    >>> float(pn.leaky_relu(-1.0, slope=0.5))
    -0.5
    """
    x = _array(x)
    return np.where(x > 0, x, slope * x)[()]


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "relu": relu,
    "silu": silu,
    "gelu": gelu,
    "elu": elu,
    "leaky_relu": leaky_relu,
    "sin": np.sin,
    "identity": lambda x: x,
}
"""Name -> activation function of a network."""
