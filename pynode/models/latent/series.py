"""Irregularly observed series, as encoder and decoder of a latent ODE take them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pynode.data.batch import SaveTimes, starts
from pynode.data.signal import Signal

Array = NDArray[np.float64]

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Series:
    """Observations in scaled units, flat: series i has rows start[i] : start[i] + length[i].

    Attributes
    ----------
    t : (rows,) array
        Since the time of z_0; rising in a series.
    value, mask : (rows, d) arrays
        0 and 0 where not observed; no row is empty.
    start, length : (B,) int64 arrays
    unit : float
        Of gaps between observations.
    signal : Signal or None
        Control inputs of the series, known from the time of z_0 to the last row.
    action : (rows, m) array
        Their mean over the gap before the observation; m = 0 without.
    """

    t: Array
    value: Array
    mask: Array
    start: Integers
    length: Integers
    unit: float
    signal: Signal | None
    action: Array

    @classmethod
    def of(cls, times: Sequence[Array], values: Sequence[Array], unit: float = 1.0, signal: Signal | None = None) -> Self:
        """From lists of (T_i,) and (T_i, d) arrays, NaN where not observed; rows without observation are left out."""
        seen = [~np.isnan(y).all(axis=1) for y in values]
        y = np.concatenate([y[s] for y, s in zip(values, seen, strict=True)])
        length = np.array([int(s.sum()) for s in seen], dtype=np.int64)
        t = np.concatenate([t[s] for t, s in zip(times, seen, strict=True)])
        mask, action = ~np.isnan(y), np.zeros((len(t), 0))
        if signal is not None:
            ends = [t[s] for t, s in zip(times, seen, strict=True)]
            action = np.concatenate([signal.mean(np.append(0.0, t[:-1]), t, i) for i, t in enumerate(ends)])
        start = starts(length)
        return cls(t, np.where(mask, y, 0.0), mask.astype(np.float64), start, length, unit, signal, action)

    def __len__(self) -> int:
        return len(self.length)

    @cached_property
    def n_observed(self) -> Array:
        """(B,) observed numbers of each series."""
        return np.asarray(np.add.reduceat(self.mask.sum(axis=1), self.start), dtype=np.float64)

    def take(self, which: Integers) -> "Series":
        """The series at these positions."""
        length = self.length[which]
        rows = np.arange(length.sum()) + np.repeat(self.start[which] - (starts(length)), length)
        return self._cut(rows, length, None if self.signal is None else self.signal.take(which))

    def until(self, limit: Array) -> "Series":
        """What was observed until time limit (B,), but at least the first observation of each series."""
        keep = self.t <= np.repeat(limit, self.length)
        keep[self.start] = True
        return self._cut(keep, np.add.reduceat(keep.astype(np.int64), self.start), self.signal)

    def _cut(self, rows: NDArray[Any], length: Integers, signal: Signal | None) -> "Series":
        parts, start = (self.t[rows], self.value[rows], self.mask[rows]), starts(length)
        return Series(*parts, start, length, self.unit, signal, self.action[rows])

    def from_start(self) -> tuple[NDArray[np.bool_], SaveTimes]:
        """The times from that of z_0 on, one more row for each series: (seen, SaveTimes).

        seen (rows + B,): which of its rows are observations.
        """
        length, rows = self.length + 1, len(self.t) + len(self)
        start = starts(length)
        seen, t = np.ones(rows, dtype=bool), np.zeros(rows)
        seen[start] = False
        t[seen] = self.t
        return seen, SaveTimes(t, start, length, start)

    @cached_property
    def backwards(self) -> Integers:
        """(rows,) the rows of each series in falling time."""
        first = np.repeat(self.start, self.length)
        last = np.repeat(self.start + self.length - 1, self.length)
        return np.asarray(first + last - np.arange(len(self.t)), dtype=np.int64)

    @cached_property
    def gap(self) -> Array:
        """(rows,) the time since the observation before, of the first one since z_0, in units."""
        gap: Array = np.diff(self.t, prepend=0.0)
        gap[self.start] = self.t[self.start]
        return gap / self.unit
