"""Tables of samples and what is to be predicted of them, checked; and what their model files hold."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.dates import refuse_dates

Array = NDArray[np.float64]


def as_table(X: Any, name: str, n_features: int | None = None) -> Array:
    """Features as an (n, k) float64 array.

    Parameters
    ----------
    X : (n, k) array_like
        A data frame will do.
    name : str
        Of the model, for messages.
    n_features : int, optional
        What k must be.

    Raises
    ------
    TypeError, ValueError
        Not a table of finite real numbers, or of another width.
    """
    if hasattr(X, "toarray") and hasattr(X, "tocsr"):
        raise TypeError("X is a sparse matrix, which this model does not take: give X.toarray()")
    a = np.asarray(X)
    if a.dtype.kind == "c":
        raise ValueError("Complex data not supported: X must hold real numbers (give real and imaginary part as columns)")
    refuse_dates("X", a)
    if a.dtype.kind == "O":
        a = a.astype(np.float64)
    if a.dtype.kind not in "fiub":
        raise ValueError(f"X must hold numbers, not {a.dtype}: encode text and dates as numbers first")
    if a.ndim != 2:
        raise ValueError(
            f"X has shape {a.shape}; it must be (samples, features). Reshape your data: X.reshape(-1, 1) for one feature, "
            "X.reshape(1, -1) for one sample"
        )
    if a.shape[1] == 0:
        raise ValueError(f"0 feature(s) (shape={a.shape}) while a minimum of 1 is required.")
    if n_features is not None and a.shape[1] != n_features:
        raise ValueError(f"X has {a.shape[1]} features, but {name} is expecting {n_features} features as input")
    a = np.ascontiguousarray(a, dtype=np.float64)
    bad = np.argwhere(~np.isfinite(a))
    if len(bad):
        i, j = bad[0]
        raise ValueError(f"X[{i}, {j}] is {a[i, j]}: NaN and inf are refused; leave those samples out, or fill them in")
    return a


def as_training_table(X: Any, name: str) -> Array:
    """The same, with at least two samples."""
    a = as_table(X, name)
    if len(a) < 2:
        raise ValueError(f"there is nothing to learn from n_samples={len(a)}: give 2 or more")
    return a


def as_labels(y: Any, n: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """(classes, index): the sorted labels of any dtype, and which of them each of the n samples has."""
    y = _column(y, n)
    if y.dtype.kind == "f":
        if np.isnan(y).any():
            raise ValueError(f"y[{np.flatnonzero(np.isnan(y))[0]}] is NaN: a label is missing; leave that sample out")
        if (y != np.floor(y)).any() or not np.isfinite(y).all():
            raise ValueError(
                "Unknown label type: continuous. y holds numbers with fractions, not labels of classes: "
                "take NeuralODERegressor, or cut y into classes"
            )
    missing = [i for i, v in enumerate(y) if v is None or v != v] if y.dtype.kind == "O" else []
    if missing:
        raise ValueError(f"y[{missing[0]}] is {y[missing[0]]}: a label is missing; leave that sample out")
    try:
        classes, index = np.unique(y, return_inverse=True)
    except TypeError:
        kinds = sorted({type(v).__name__ for v in y})
        raise ValueError(f"Unknown label type: y mixes {', '.join(kinds)}, which have no order: make all of one") from None
    if len(classes) < 2:
        raise ValueError(f"y has one class only, {classes.tolist()[0]!r}: give samples of 2 classes or more")
    return classes, index


def as_targets(y: Any, n: int) -> tuple[Array, bool]:
    """(n, m) float64 targets, and whether y was a vector."""
    if y is None:
        raise ValueError("fit requires y to be passed, but the target y is None")
    a = np.asarray(y)
    refuse_dates("y", a)
    if a.dtype.kind == "O":
        a = a.astype(np.float64)
    if a.dtype.kind not in "fiub":
        raise ValueError(f"y must hold real numbers, not {a.dtype}")
    if a.ndim not in (1, 2) or a.size == 0 or len(a) != n:
        raise ValueError(f"y has shape {a.shape} for {n} samples; it must be ({n},) or ({n}, outputs)")
    bad = np.argwhere(~np.isfinite(a))
    if len(bad):
        at = ", ".join(map(str, bad[0]))
        raise ValueError(f"y[{at}] is {a[tuple(bad[0])]}: NaN and inf are refused; leave those samples out")
    return np.ascontiguousarray(a.reshape(n, -1), dtype=np.float64), a.ndim == 1


def as_sample_weight(weight: ArrayLike | None, n: int) -> tuple[Array | None, Any]:
    """(weights of the samples that count, or None where all count the same; which of the n samples those are).

    Equal weights are none, so that they change no bit.
    """
    everything = slice(None)
    if weight is None:
        return None, everything
    w = np.asarray(weight)
    if w.dtype.kind not in "fiub" or w.shape != (n,):
        raise ValueError(f"sample_weight must be {n} numbers, one a row of X, not {w.dtype} of shape {w.shape}")
    w = w.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(w) & (w >= 0)))
    if len(bad):
        raise ValueError(f"sample_weight[{bad[0]}] is {w[bad[0]]}: weights must be finite and not negative")
    some = w > 0
    if not some.any():
        raise ValueError("every sample_weight is zero: nothing is left to learn from")
    w = w[some]
    return (None if (w == w[0]).all() else w), (everything if some.all() else some)


def _column(y: Any, n: int) -> NDArray[Any]:
    """y as a vector of n labels."""
    if y is None:
        raise ValueError("fit requires y to be passed, but the target y is None")
    labels: NDArray[Any] = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected: give y.ravel()", _conversion_warning(), stacklevel=4
        )
        labels = labels[:, 0]
    if labels.shape != (n,):
        raise ValueError(f"y should be a 1d array of {n} labels, one a row of X; it has shape {labels.shape}")
    return labels


def _conversion_warning() -> type[Warning]:
    """scikit-learn's category, where that is installed."""
    try:
        from sklearn.exceptions import DataConversionWarning
    except ImportError:
        return UserWarning
    warning: type[Warning] = DataConversionWarning
    return warning
