"""A batch of samples: initial states and times, checked and brought into the form of the core.

A batch of B samples is stored flat: sample i has its times at ``t[start[i]:start[i] + length[i]]`` and its results in
rows ``row[i]:row[i] + length[i]`` of an (rows, d) array.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pynode.data.arrays import kept, own_array, read_only, real_array, real_dtype


@dataclass(frozen=True)
class SaveTimes:
    """The times of B samples, one after the other: sample i has ``t[start[i]:start[i] + length[i]]``.

    Its results are the rows from ``row[i]`` on.
    """

    t: NDArray[np.float64]  # (K,)
    start: NDArray[np.int64]  # (B,)
    length: NDArray[np.int64]  # (B,)
    row: NDArray[np.int64]  # (B,)

    @classmethod
    def of(cls, times: Sequence[NDArray[np.float64]]) -> SaveTimes:
        """From a list with an array of times for each sample."""
        return cls.laid(np.concatenate([np.zeros(0), *times]), np.array([len(x) for x in times], dtype=np.int64))

    @classmethod
    def laid(cls, t: NDArray[np.float64], length: NDArray[np.int64]) -> SaveTimes:
        """Those of all samples one after the other, and how many each has; rows are their places."""
        start = starts(length)
        return SaveTimes(t, start, length, start)

    @property
    def rows(self) -> int:
        """How many times all samples have together."""
        return int(self.length.sum())

    @property
    def last_row(self) -> NDArray[np.int64]:
        """(B,) the row of the last time of each sample."""
        return self.row + self.length - 1

    def each(self) -> list[NDArray[np.float64]]:
        """The times of each sample."""
        return [self.t[a : a + n] for a, n in zip(self.start.tolist(), self.length.tolist(), strict=True)]

    def slices(self) -> list[slice]:
        """The rows of each sample."""
        return [slice(a, a + n) for a, n in zip(self.row.tolist(), self.length.tolist(), strict=True)]

    def row_times(self) -> NDArray[np.float64]:
        """(rows,) the time of each row."""
        times: NDArray[np.float64] = self.t[np.repeat(self.start, self.length) + self._within()]
        return times

    def reversed_rows(self) -> NDArray[np.int64]:
        """(rows,) for every sample its rows from the last to the first."""
        return np.repeat(self.last_row, self.length) - self._within()

    def reversed(self) -> SaveTimes:
        """The same times, each sample's from the last to the first; rows in that order."""
        start = starts(self.length)
        return SaveTimes(self.row_times()[self.reversed_rows()], start, self.length, start)

    def arguments(self) -> dict[str, NDArray[Any]]:
        """Keywords of `_core.Problem`."""
        return {"t": self.t, "t_start": self.start, "t_len": self.length, "row": self.row}

    def _within(self) -> NDArray[np.int64]:
        """(rows,) the place of each row among those of its sample."""
        return np.arange(self.rows) - np.repeat(starts(self.length), self.length)


def starts(length: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where parts of these lengths begin when they stand one after the other."""
    begin: NDArray[np.int64] = length.cumsum() - length
    return begin


@dataclass(frozen=True)
class Ranges:
    """For each of n parts so many (`size`) whole numbers from `start` on: rows, or places in an array."""

    start: NDArray[np.int64]  # (n,)
    size: NDArray[np.int64]  # (n,)

    def flat(self) -> NDArray[np.int64]:
        """All of them, part by part."""
        if len(self.size) == 1:
            return np.arange(self.start[0], self.start[0] + self.size[0])
        first = (self.start - starts(self.size)).repeat(self.size)
        return first + np.arange(len(first))

    def of(self, k: NDArray[Any]) -> Ranges:
        """Those of some parts."""
        return Ranges(self.start[k], self.size[k])

    @property
    def stop(self) -> NDArray[np.int64]:
        """(n,) behind the last of each part."""
        return self.start + self.size

    def __getitem__(self, k: Any) -> NDArray[np.int64]:
        return np.arange(self.start[k], self.start[k] + self.size[k])

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return (self[k] for k in range(len(self.size)))


@dataclass(frozen=True)
class Batch(SaveTimes):
    """Initial states and times of a batch, and the shape in which the user wants results back."""

    y0: NDArray[Any]  # (B, d)
    kind: str  # "single": (T, d); "shared": (B, T, d), one t; "own": (B, T, d), t (B, T); "ragged": lists
    width: int  # T, but for "ragged"

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(B, T, d) of the states where that differs from their rows; else None, also for lists."""
        return (len(self.y0), self.width, self.y0.shape[1]) if self.kind in ("shared", "own") else None

    def spans(self) -> NDArray[np.float64]:
        """(B, 2) earliest and latest time of each sample."""
        ends = (
            np.stack([self.t[self.start], self.t[self.start + self.length - 1]], axis=1)
            if len(self.start)
            else np.zeros((0, 2))
        )
        return np.sort(ends, axis=1)

    def row_times(self) -> NDArray[np.float64]:
        """(rows,) the time of each row."""
        return np.tile(self.t, len(self.y0)) if self.kind in ("single", "shared") else self.t

    def unflatten(self, rows: Any) -> Any:
        """Rows (rows, ...) as the user's arrays."""
        if self.kind == "single":
            return rows
        if self.kind == "ragged":
            return [rows[part] for part in self.slices()]
        return rows.reshape(len(self.y0), self.width, *rows.shape[1:])

    def by_time(self, rows: NDArray[np.float64]) -> Any:
        """Derivatives by the time of each row, shaped like the user's times: added up where samples share them."""
        t = self.unflatten(rows)
        return t.sum(axis=0) if self.kind == "shared" else t

    def times(self) -> Any:
        """The times as the user gave them."""
        if self.kind == "own":
            return self.t.reshape(len(self.y0), self.width)
        return self.t if self.kind != "ragged" else self.each()

    def flatten(self, name: str, x: Any, dtype: Any, width: int | None = None) -> NDArray[Any]:
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


def _check_times(name: str, t: NDArray[np.float64]) -> NDArray[np.float64]:
    if t.ndim != 1 or t.size == 0:
        raise ValueError(f"{name} must be a non-empty 1-d array of times, not of shape {t.shape}")
    if not np.isfinite(t).all():
        i = int(np.flatnonzero(~np.isfinite(t))[0])
        raise ValueError(f"{name}[{i}] is {t[i]}: times must be finite (leave out what was not measured)")
    if not math.isfinite(float(t[-1]) - float(t[0])):
        raise ValueError(f"{name} reaches from {t[0]:g} to {t[-1]:g}, an interval too long for a number: scale the times")
    falls, rises = t[1:] < t[:-1], t[1:] > t[:-1]  # a difference of two times may be too large for a number
    if falls.any() and rises.any():
        i = int(np.flatnonzero(falls if t[-1] >= t[0] else rises)[0]) + 1
        raise ValueError(
            f"{name} must be non-decreasing or non-increasing, but {name}[{i - 1}] = {t[i - 1]:g}, "
            f"{name}[{i}] = {t[i]:g}: sort the times (and the data with them)"
        )
    return t


def as_batch(y0: ArrayLike, t: Any, d: int | None = None, dtype: DTypeLike | None = None) -> Batch:
    """A `Batch` of initial states and times, checked.

    Parameters
    ----------
    y0 : (d,) or (B, d) array
    t : (T,) array, (B, T) array, or list of B arrays
    d : int, optional
        The size of the field's state.
    """
    y0 = own_array("y0", y0, real_dtype(dtype))
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
        times = SaveTimes.of(parts)
        kind, width = ("own", np.shape(t)[1]) if own else ("ragged", 0)
        return Batch(read_only(times.t), times.start, times.length, times.row, y0, kind, width)
    t = kept(_check_times("t", real_array("t", t, np.float64)))
    length = np.full(n, t.size, dtype=np.int64)
    row = np.arange(n, dtype=np.int64) * t.size
    return Batch(t, np.zeros(n, np.int64), length, row, y0, "single" if single else "shared", t.size)
