"""What pictures of samples need: checked tables, colours, limits of axes."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.samples import as_table
from pynode.plots.protocols import Array, DensityModel, SampleModel
from pynode.plots.style import CLASSES

MAX_POINTS = 1500
"""Most samples drawn."""


def samples_of(model: DensityModel, data: ArrayLike | None) -> Array:
    """At most MAX_POINTS of the samples.

    Raises
    ------
    ValueError
        There are none, or their features are not those of the model.
    """
    X = _table(model, data)
    return X[_some(len(X))]


def coloured_samples(
    model: SampleModel, data: ArrayLike | None, target: ArrayLike | None
) -> tuple[Array, NDArray[Any], NDArray[Any]]:
    """At most MAX_POINTS of the samples (n, k), what the target says of them (n,), and a colour for each.

    Raises
    ------
    ValueError
        There are none, their features are not those of the model, or the target is not as long as they are.
    """
    X = _table(model, data)
    y = model.predict(X) if target is None else np.asarray(target)
    if len(y) != len(X):
        raise ValueError(f"y has {len(y)} entries for {len(X)} samples")
    some = _some(len(X))
    X = X[some]
    y = y[some]
    classes = class_labels(model)
    if classes is None:
        y = first_output(y)
        return X, y, _value_colours(y)
    return X, y, np.array([class_colour(i) for i in np.searchsorted(classes, y)])


def class_labels(model: SampleModel) -> NDArray[Any] | None:
    """The classes of a classifier; None for a regressor."""
    return getattr(model, "classes_", None)


def class_colour(i: int) -> str:
    """The colour of class number i; after ten classes they repeat."""
    return CLASSES[i % len(CLASSES)]


def first_output(y: NDArray[Any]) -> NDArray[Any]:
    """The first of several values a sample."""
    return y if y.ndim == 1 else y[:, 0]


def bounds_of(X: Array, margin: float = 0.15) -> tuple[Array, Array]:
    """Lower and upper limits of the columns, with a margin as part of their range."""
    low = X.min(axis=0)
    high = X.max(axis=0)
    room = margin * np.where(high > low, high - low, 1.0)
    return low - room, high + room


def _table(model: SampleModel | DensityModel, data: ArrayLike | None) -> Array:
    if data is None:
        raise ValueError("this picture needs samples: plot(kind, X)")
    X: Array = as_table(data, type(model).__name__, model.n_features_in_)
    return X


def _some(n: int) -> slice | NDArray[np.int64]:
    """Which of n samples are drawn: all, or MAX_POINTS at random, the same each time."""
    return slice(None) if n <= MAX_POINTS else np.random.default_rng(0).choice(n, MAX_POINTS, replace=False)


def _value_colours(y: NDArray[Any]) -> NDArray[Any]:
    from matplotlib import colormaps

    low = np.min(y)
    high = np.max(y)
    return np.asarray(colormaps["viridis"]((y - low) / (high - low if high > low else 1.0)))
