"""Arrays that users give, as real NumPy arrays: all coercion of numbers happens here."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Mapping
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pynode.data.dates import refuse_dates

DTYPES: tuple[np.dtype[Any], ...] = (np.dtype(np.float32), np.dtype(np.float64))


@overload
def real_array(name: str, x: Any, dtype: type[np.float64], missing: bool = False) -> NDArray[np.float64]: ...
@overload
def real_array(name: str, x: Any, dtype: DTypeLike | None = None, missing: bool = False) -> NDArray[Any]: ...
def real_array(name: str, x: Any, dtype: DTypeLike | None = None, missing: bool = False) -> NDArray[Any]:
    """x as a C-contiguous array of real numbers.

    Parameters
    ----------
    name : str
        What to call it in an error.
    x : array_like
        What a user gave.
    dtype : {float64, float32}, optional
        Default: float32 where x is, else float64.
    missing : bool
        Masked entries become NaN (else they are refused).

    Returns
    -------
    array
        Of float32 or float64; x itself where it is one already.

    Raises
    ------
    TypeError, ValueError
        Not numbers, complex numbers, lists of unequal lengths, masked entries, numbers too large for the dtype.
    """
    try:
        a = np.asarray(x)
    except ValueError:
        raise ValueError(f"{name} is no array: its parts have different lengths") from None
    if a.dtype.kind not in "fiub":
        refuse_dates(name, a)
        if isinstance(x, Mapping):
            raise TypeError(
                f"{name} must hold real numbers in an array, not a {type(x).__name__}: list(values()) goes by position, "
                "pandas.Series by its labels where the states have names"
            )
        raise TypeError(f"{name} must hold real numbers, not {a.dtype}{_hint(a)}")
    single = a.dtype.kind == "f" and a.dtype.itemsize == 4
    wanted = np.dtype((np.float32 if single else np.float64) if dtype is None else dtype)
    if type(x) is not np.ndarray and "numpy.ma" in sys.modules and np.ma.is_masked(x):
        if not missing:
            raise ValueError(f"{name} has masked entries: fill them, or leave those samples out")
        a = np.ma.filled(np.ma.asarray(x, dtype=np.float64), np.nan)
    if a.dtype == wanted or a.dtype.kind != "f" or a.dtype.itemsize < wanted.itemsize:
        return np.asarray(a, dtype=wanted, order="C")
    return _narrowed(name, a, wanted)


def own_array(name: str, x: Any, dtype: DTypeLike | None = None, missing: bool = False) -> NDArray[Any]:
    """`real_array`, but never x itself: what is kept beyond the call, see `kept`."""
    a = real_array(name, x, dtype, missing)
    return read_only(a) if isinstance(x, (list, tuple)) else kept(a)


def kept(a: NDArray[Any]) -> NDArray[Any]:
    """An array that nobody changes any more: a read-only copy, or a itself where it is one already.

    Results and prepared calls keep their arrays through this, so that what the caller does to an array afterwards changes
    none of them.
    """
    owner: Any = a
    while type(owner) is np.ndarray and not owner.flags.writeable:
        if owner.base is None:
            return a
        owner = owner.base
    return read_only(np.array(a, order="C"))


def read_only(a: NDArray[Any]) -> NDArray[Any]:
    """The array itself, which refuses changes from now on."""
    a.flags.writeable = False
    return a


def _hint(a: NDArray[Any]) -> str:
    return ": convert it, for example with numpy.asarray(x, dtype=float)" if a.dtype.kind in "OUS" else ""


def _narrowed(name: str, a: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """a in a type with fewer digits; numbers that it cannot hold are refused."""
    with np.errstate(over="ignore", invalid="ignore"):
        out = np.asarray(a, dtype=dtype, order="C")
    lost = np.isinf(out) & np.isfinite(a)
    if lost.any():
        raise ValueError(
            f"{name} holds {a[lost].flat[0]!s}, too large for {dtype.name}: scale the problem"
            f"{', or use dtype=numpy.float64' if dtype == np.float32 else ''}"
        )
    return out


def real_dtype(dtype: DTypeLike | None) -> type[np.floating[Any]] | None:
    """The type float64 or float32, or None (as the data are), of what a user gave."""
    if dtype is None:
        return None
    try:
        wanted = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        raise TypeError(f"dtype={dtype!r} is no NumPy dtype: give float64 or float32") from None
    if wanted not in DTYPES:
        raise ValueError(f"dtype={wanted.name} must be float64 or float32")
    return np.float32 if wanted == np.float32 else np.float64


def as_integer(name: str, x: Any, least: int, most: int = 2**62) -> int:
    """x as an int between least and most; a float without a fraction counts."""
    try:
        value = int(x) if isinstance(x, (float, np.floating)) and x == int(x) else operator.index(x)
    except (TypeError, ValueError, OverflowError):
        value = None
    if value is None or isinstance(x, (bool, np.bool_)) or not least <= value <= most:
        kind = TypeError if value is None and not isinstance(x, (float, np.floating)) else ValueError
        wanted = "a positive integer" if (least, most) == (1, 2**62) else f"an integer between {least} and {most}"
        raise kind(f"{name}={x!r} must be {wanted}")
    return value


def as_sample(sample: Any, n: int) -> int:
    """Which of n samples; negative ones count from the last."""
    try:
        i = operator.index(sample)
    except TypeError:
        raise TypeError(f"sample={sample!r} must be an integer") from None
    if not -n <= i < n:
        raise IndexError(f"sample={i} is none of the {n} samples")
    return i % n


def as_positive(name: str, x: Any, zero: bool = False) -> float:
    """x as a finite float > 0 (>= 0 where zero)."""
    try:
        value = float(x) if not isinstance(x, (np.datetime64, np.timedelta64)) else None
    except (TypeError, ValueError):
        value = None
    if value is None:
        raise TypeError(f"{name} must be a number, not {x!r}")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name}={x!r} must be finite and {'not negative' if zero else 'positive'}")
    return value


def is_ragged(t: Any) -> bool:
    """Whether times are a list of the times of each trajectory."""
    return isinstance(t, (list, tuple)) and len(t) > 0 and np.ndim(t[0]) == 1


def evenly(n: int, most: int) -> NDArray[np.intp]:
    """The places of at most so many of n things, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp))
