"""What models read back from their files: vectors, histories and reports, checked."""

import numpy as np


def stored_vector(array, shape, what):
    """An array from a file, if it is finite and of this shape."""
    good = isinstance(array, np.ndarray) and array.dtype == np.float64 and array.shape == shape
    if not good or not np.isfinite(array).all():
        raise ValueError(f"{what} must be finite and of shape {shape}")
    return array


def stored_history(stored, names):
    """A history from a file: vectors of one length."""
    history = {name: stored[name] for name in names}
    first = history[names[0]]
    if any(not isinstance(x, np.ndarray) or x.ndim != 1 or x.shape != first.shape for x in history.values()):
        raise ValueError("the history must be vectors of one length")
    return history


def stored_report(stored, kinds):
    """A report from a file: a number or text for each name."""
    report = {name: stored[name] for name in kinds}
    for name, kind in kinds.items():
        if kind is float and type(report[name]) is int:
            report[name] = float(report[name])
        if type(report[name]) is not kind:
            raise ValueError(f"{name} of the report is not of type {kind.__name__}")
    return report
