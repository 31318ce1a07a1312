"""Labels of pandas' (or others') Series and data frames: entries that have names go to their places by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def labels_of(x: Any) -> list[Any] | None:
    """The labels of a Series, or of the columns of a data frame; None where there are none, or none is a text."""
    if not hasattr(x, "to_numpy"):
        return None
    axis = getattr(x, "index" if getattr(x, "ndim", 2) == 1 else "columns", None)
    labels = [] if axis is None else list(axis)
    return labels if any(isinstance(label, str) for label in labels) else None


def by_name(name: str, x: Any, names: Sequence[str]) -> Any:
    """x with its last axis in the order of the names, where it is labelled by them.

    Parameters
    ----------
    name : str
        What to call it in an error.
    x : array_like, or list of such
        What a user gave. Without labels, or with numbers for labels, it is taken by position.
    names : sequence of str
        Of what it holds; where there are none, x is taken by position.

    Raises
    ------
    ValueError
        The labels are texts, and not these names, each once.
    """
    if isinstance(x, (list, tuple)):
        return [by_name(name, part, names) for part in x] if len(x) and hasattr(x[0], "to_numpy") else x
    labels = labels_of(x)
    if labels is None or not names:
        return x
    labels = [str(label) for label in labels]
    if sorted(labels) != sorted(names):
        raise ValueError(
            f"{name} is labelled {', '.join(labels)}, but its entries are {', '.join(names)}: take those labels, "
            f"each once, or give {name}.to_numpy(), which goes by position"
        )
    return np.asarray(x.to_numpy())[..., [labels.index(wanted) for wanted in names]]


def by_position(name: str, x: Any) -> Any:
    """x, which goes by position; labels are refused, since nothing puts them into order.

    Raises
    ------
    ValueError
        It is a Series, or a data frame, with texts for labels.
    """
    labels = labels_of(x)
    if labels is not None:
        raise ValueError(
            f"{name} is labelled {', '.join(map(str, labels))}, but goes by position: put it into the order of the states "
            f"and give {name}.to_numpy()"
        )
    return x


def column_names(Y: Any) -> list[str] | None:
    """The names of the columns of a data frame, or of the first of a list of such; None where they have none."""
    first = Y[0] if isinstance(Y, (list, tuple)) and len(Y) else Y
    labels = labels_of(first) if getattr(first, "ndim", 0) == 2 else None
    return None if labels is None else [str(label) for label in labels]


def by_given_name(name: str, x: Any, names: Sequence[str]) -> Any:
    """`by_name`, but where the names are y1, y2, ..., which nobody gave: then other labels go by position."""
    if isinstance(x, (list, tuple)):
        return [by_given_name(name, part, names) for part in x] if len(x) and hasattr(x[0], "to_numpy") else x
    nobody = list(names) == [f"y{j + 1}" for j in range(len(names))]
    labels = labels_of(x) if nobody else None
    return x if labels is not None and sorted(map(str, labels)) != sorted(names) else by_name(name, x, names)
