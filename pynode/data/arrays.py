"""Arrays that users give, as real NumPy arrays: all coercion of numbers happens here."""

import math
import operator
import sys

import numpy as np

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


def real_array(name, x, dtype=None, missing=False):
    """x as a C-contiguous array of real numbers.

    Parameters
    ----------
    name : str
        What to call it in an error.
    dtype : {float64, float32}, optional
        Default: float32 where x is, else float64.
    missing : bool
        Masked entries become NaN (else they are refused).

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
        raise TypeError(f"{name} must hold real numbers, not {a.dtype}{_hint(a)}")
    if dtype is None:
        dtype = np.float32 if a.dtype.kind == "f" and a.dtype.itemsize == 4 else np.float64
    if type(x) is not np.ndarray and "numpy.ma" in sys.modules and np.ma.is_masked(x):
        if not missing:
            raise ValueError(f"{name} has masked entries: fill them, or leave those samples out")
        a = np.ma.filled(np.ma.asarray(x, dtype=np.float64), np.nan)
    if a.dtype == dtype or a.dtype.kind != "f" or a.dtype.itemsize < np.dtype(dtype).itemsize:
        return np.asarray(a, dtype=dtype, order="C")
    return _narrowed(name, a, dtype)


def _hint(a):
    return ": convert it, for example with numpy.asarray(x, dtype=float)" if a.dtype.kind in "OUS" else ""


def _narrowed(name, a, dtype):
    with np.errstate(over="ignore", invalid="ignore"):
        out = np.asarray(a, dtype=dtype, order="C")
    lost = np.isinf(out) & np.isfinite(a)
    if lost.any():
        raise ValueError(
            f"{name} holds {a[lost].flat[0]!s}, too large for {np.dtype(dtype).name}: scale the problem"
            f"{', or use dtype=numpy.float64' if np.dtype(dtype) == np.float32 else ''}"
        )
    return out


def real_dtype(dtype):
    """float64, float32 or None (as the data are)."""
    if dtype is None:
        return None
    try:
        dtype = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        raise TypeError(f"dtype={dtype!r} is no NumPy dtype: give float64 or float32") from None
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype.name} must be float64 or float32")
    return dtype.type


def as_integer(name, x, least, most=2**62):
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


def as_positive(name, x, zero=False):
    """x as a finite float > 0 (>= 0 where zero)."""
    try:
        value = float(x)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, not {x!r}") from None
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name}={x!r} must be finite and {'not negative' if zero else 'positive'}")
    return value
