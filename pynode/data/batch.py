"""A batch of samples: initial states and times, checked and brought into the form of the core.

A batch of B samples is stored flat: sample i has its times at ``t[start[i]:start[i] + length[i]]`` and its results in
rows ``row[i]:row[i] + length[i]`` of an (rows, d) array.
"""

import math
from dataclasses import dataclass

import numpy as np

from pynode.data.arrays import real_array, real_dtype


@dataclass(frozen=True)
class Batch:
    """Initial states and times of a batch, and the shape in which the user wants results back."""

    y0: np.ndarray  # (B, d)
    t: np.ndarray  # (K,) float64
    start: np.ndarray  # (B,) int64
    length: np.ndarray  # (B,)
    row: np.ndarray  # (B,)
    kind: str  # "single": (T, d); "shared": (B, T, d), one t; "own": (B, T, d), t (B, T); "ragged": lists
    width: int  # T, but for "ragged"

    @property
    def rows(self):
        return int(self.length.sum())

    @property
    def shape(self):
        """(B, T, d) of the states where that differs from their rows; else None, also for lists."""
        return (len(self.y0), self.width, self.y0.shape[1]) if self.kind in ("shared", "own") else None

    def spans(self):
        """(B, 2) earliest and latest time of each sample."""
        ends = (
            np.stack([self.t[self.start], self.t[self.start + self.length - 1]], axis=1)
            if len(self.start)
            else np.zeros((0, 2))
        )
        return np.sort(ends, axis=1)

    def row_times(self):
        """(rows,) the time of each row."""
        if self.kind in ("single", "shared"):
            return np.tile(self.t, len(self.y0))
        return self.t

    def unflatten(self, rows):
        """Rows (rows, ...) as the user's arrays."""
        if self.kind == "single":
            return rows
        if self.kind == "ragged":
            return [rows[a : a + n] for a, n in zip(self.row, self.length, strict=True)]
        return rows.reshape(len(self.y0), self.width, *rows.shape[1:])

    def times(self):
        """The times as the user gave them."""
        if self.kind == "own":
            return self.t.reshape(len(self.y0), self.width)
        return self.t if self.kind != "ragged" else [self.t[a : a + n] for a, n in zip(self.start, self.length, strict=True)]

    def flatten(self, name, x, dtype, width=None):
        """The user's array of one row for each saved time as (rows, d), or of `width` numbers in a row."""
        d, what = (self.y0.shape[1], "state") if width is None else (width, "entry")
        if self.kind == "ragged":
            if not isinstance(x, (list, tuple)) or len(x) != len(self.y0):
                raise ValueError(f"{name} must be a list of {len(self.y0)} arrays, one a sample, as t is")
            for i, (v, n) in enumerate(zip(x, self.length, strict=True)):
                if np.shape(v) != (n, d):
                    raise ValueError(
                        f"{name}[{i}] has shape {np.shape(v)}, but t[{i}] has {n} times and "
                        f"{'the state' if width is None else 'a row'} {d} components: give ({n}, {d})"
                    )
            parts = [real_array(f"{name}[{i}]", v, dtype, True) for i, v in enumerate(x)]
            return np.concatenate([np.zeros((0, d), dtype), *parts])
        want = (self.width, d) if self.kind == "single" else (len(self.y0), self.width, d)
        a = real_array(name, x, dtype, True)
        if a.shape != want:
            raise ValueError(
                f"{name} has shape {a.shape}; with these y0 and t it must be {want} "
                f"({'' if self.kind == 'single' else 'sample, '}time, {what})"
            )
        return a.reshape(-1, d)


def _check_times(name, t):
    if t.ndim != 1 or t.size == 0:
        raise ValueError(f"{name} must be a non-empty 1-d array of times, not of shape {t.shape}")
    if not np.isfinite(t).all():
        i = int(np.flatnonzero(~np.isfinite(t))[0])
        raise ValueError(f"{name}[{i}] is {t[i]}: times must be finite (leave out what was not measured)")
    if not math.isfinite(float(t[-1]) - float(t[0])):
        raise ValueError(f"{name} reaches from {t[0]:g} to {t[-1]:g}, an interval too long for a number: scale the times")
    step = np.diff(t)
    if (step < 0).any() and (step > 0).any():
        way = 1 if t[-1] >= t[0] else -1
        i = int(np.flatnonzero(way * step < 0)[0]) + 1
        raise ValueError(
            f"{name} must be non-decreasing or non-increasing, but {name}[{i - 1}] = {t[i - 1]:g}, "
            f"{name}[{i}] = {t[i]:g}: sort the times (and the data with them)"
        )
    return t


def as_batch(y0, t, d=None, dtype=None):
    """Check y0 and t.

    Parameters
    ----------
    y0 : (d,) or (B, d) array
    t : (T,) array, (B, T) array, or list of B arrays
    d : int, optional
        The size of the field's state.
    """
    y0 = real_array("y0", y0, real_dtype(dtype))
    single = y0.ndim == 1
    if y0.ndim not in (1, 2) or y0.shape[-1] == 0:
        raise ValueError(f"y0 has shape {y0.shape}; it must be (d,) for one sample or (B, d) for a batch, d at least 1")
    if d is not None and y0.shape[-1] != d:
        hint = f"; for {y0.size} samples of a scalar state give shape ({y0.size}, 1)" if single and d == 1 else ""
        raise ValueError(f"y0 has {y0.shape[-1]} components (shape {y0.shape}), the field has {d}{hint}")
    y0 = y0.reshape(-1, y0.shape[-1])
    n = len(y0)
    ragged = isinstance(t, (list, tuple)) and (any(np.ndim(x) > 0 for x in t) if len(t) else n == 0 and not single)
    own = not ragged and np.ndim(t) == 2
    if ragged or own:
        if single:
            raise ValueError("times of their own for each sample need a batch: y0 of shape (B, d), not (d,)")
        t = real_array("t", t, np.float64) if own else t
        if len(t) != n:
            raise ValueError(f"t holds {len(t)} arrays of times for the {n} samples of y0: give one for each")
        parts = [_check_times(f"t[{i}]", real_array(f"t[{i}]", x, np.float64)) for i, x in enumerate(t)]
        length = np.array([x.size for x in parts], dtype=np.int64)
        start = np.cumsum(length) - length
        return Batch(
            y0,
            np.concatenate([np.zeros(0), *parts]),
            start,
            length,
            start,
            "own" if own else "ragged",
            np.shape(t)[1] if own else 0,
        )
    t = _check_times("t", real_array("t", t, np.float64))
    length = np.full(n, t.size, dtype=np.int64)
    return Batch(
        y0, t, np.zeros(n, np.int64), length, np.arange(n, dtype=np.int64) * t.size, "single" if single else "shared", t.size
    )
