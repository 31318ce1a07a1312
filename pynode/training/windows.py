"""Training data: trajectories in the units of the field, and windows of them."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import real_array
from pynode.data.scaling import STILL
from pynode.data.signal import Signal

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Data:
    """Trajectories in the units of the field.

    Attributes
    ----------
    t : list of (T_i,) arrays
        Times.
    y : list of (T_i, d) arrays
        States; NaN: not observed.
    weight : list of (T_i, d) arrays, or None
        The user's weights: relative precision of the entries.
    signal : Signal or None
        Control inputs.
    """

    t: list[Array]
    y: list[Array]
    weight: list[Array] | None = None
    signal: Signal | None = None

    def __len__(self) -> int:
        return len(self.t)

    @property
    def d(self) -> int:
        """How many states there are."""
        d: int = self.y[0].shape[1]
        return d

    @cached_property
    def n_observed(self) -> int:
        """How many numbers were observed."""
        return int(sum(np.count_nonzero(~np.isnan(y)) for y in self.y))

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """(d,) whether a state is observed anywhere."""
        return np.asarray(np.any([(~np.isnan(y)).any(axis=0) for y in self.y], axis=0))

    @cached_property
    def n_followed(self) -> int:
        """How many trajectories are observed at two times or more: `windows` leaves out the others."""
        return sum(int(np.count_nonzero((~np.isnan(y)).any(axis=1)) >= 2) for y in self.y)

    @cached_property
    def spread(self) -> Array:
        """(d,) variance of the states; 1 where nothing varies, but by rounding, or nothing is observed."""
        y = np.concatenate(self.y)
        spread = np.ones(self.d)
        spread[self.seen] = np.nanvar(y[:, self.seen], axis=0)
        size = np.zeros(self.d)
        size[self.seen] = np.nanmean(y[:, self.seen], axis=0)
        return np.where(spread > (STILL * size) ** 2, spread, 1.0)

    @cached_property
    def still(self) -> NDArray[np.bool_]:
        """(d,) whether a state is observed, and never changes within a trajectory."""
        moves = np.any([[len(v := x[~np.isnan(x)]) > 1 and np.ptp(v) > 0 for x in y.T] for y in self.y], axis=0)
        return np.asarray(self.seen & ~moves)

    def take(self, which: Iterable[int] | NDArray[np.intp]) -> "Data":
        """Some of the trajectories, given by their positions."""
        which = np.asarray(which, dtype=np.intp)
        return Data(
            [self.t[i] for i in which],
            [self.y[i] for i in which],
            None if self.weight is None else [self.weight[i] for i in which],
            None if self.signal is None else self.signal.take(which),
        )

    def inputs_at_rows(self) -> Array | None:
        """(rows, m) values of the control inputs at all times, or None."""
        if self.signal is None:
            return None
        return np.concatenate([self.signal(t, i) for i, t in enumerate(self.t)])

    def windows(self, intervals: int | None = None) -> "Windows":
        """Cut the trajectories into windows of about `intervals` intervals between times; None: whole trajectories.

        Neighbouring windows share a time. Windows in which fewer than two times are observed are left out.
        """
        source: list[tuple[int, int, int]] = []
        for i, states in enumerate(self.y):
            last = max(len(states) - 1, 1)
            pieces = 1 if intervals is None else max(1, round(last / intervals))
            ends = np.linspace(0, last, pieces + 1).round().astype(int)
            observed = np.concatenate([[0], np.cumsum((~np.isnan(states)).any(axis=1))])
            for a, b in itertools.pairwise(ends):
                if observed[min(b + 1, len(states))] - observed[a] >= 2:
                    source.append((i, a, min(b + 1, len(states))))
        if not source:
            raise ValueError("no trajectory is observed at two times or more: there is nothing to learn from")
        return Windows.of(self, np.array(source))


@dataclass(frozen=True)
class Windows(Data):
    """Pieces of trajectories, each with an initial state of its own.

    Attributes
    ----------
    source : (W, 3) int array
        The trajectory of each window, its first row there, and the row after its last.
    """

    source: NDArray[np.intp] = field(default_factory=lambda: np.zeros((0, 3), np.intp))

    @classmethod
    def of(cls, data: Data, source: NDArray[np.intp]) -> Self:
        """The windows of `data` that the rows of `source` name."""
        t = [data.t[i][a:b] for i, a, b in source]
        return cls(
            t,
            [data.y[i][a:b] for i, a, b in source],
            None if data.weight is None else [data.weight[i][a:b] for i, a, b in source],
            None
            if data.signal is None
            else data.signal.windows(source[:, 0], np.array([x[0] for x in t]), np.array([x[-1] for x in t])),
            source,
        )

    def initial(self, states: Sequence[Array]) -> Array:
        """The states (W, d) at the first time of each window, from the states (T_i, d) along all trajectories."""
        return np.stack([states[i][a] for i, a, _ in self.source])

    def take(self, which: Iterable[int] | NDArray[np.intp]) -> "Windows":
        """Some of the windows, given by their positions."""
        which = np.asarray(which, dtype=np.intp)
        part = Data.take(self, which)
        return Windows(part.t, part.y, part.weight, part.signal, self.source[which])


def as_weights(weight: Any, y: Sequence[Array]) -> list[Array] | None:
    """The user's weights of the entries of Y, checked.

    Parameters
    ----------
    weight : list of B arrays, or an array that fits (T, d) or (B, T, d); or None
        As the user gave it.
    y : list of (T_i, d) arrays
        The states of B trajectories.

    Returns
    -------
    list of (T_i, d) arrays, or None
    """
    if weight is None:
        return None
    if isinstance(weight, (list, tuple)) and len(weight) == len(y) and all(np.ndim(w) > 0 for w in weight):
        parts = [real_array(f"weight[{i}]", w, np.float64) for i, w in enumerate(weight)]
    else:
        w = real_array("weight", weight, np.float64)
        parts = list(w) if w.ndim == 3 else [w] * len(y)
    if len(parts) != len(y):
        raise ValueError(f"weight is for {len(parts)} trajectories, Y has {len(y)}")
    weights = []
    for i, (w, v) in enumerate(zip(parts, y, strict=True)):
        w = w[:, None] if w.ndim == 1 and len(w) == len(v) and len(v) != v.shape[1] else w
        if not (np.isfinite(w).all() and (w >= 0).all()):
            raise ValueError("weights must be finite and not negative (0: leave the entry out)")
        try:
            weights.append(np.array(np.broadcast_to(w, v.shape)))
        except ValueError:
            raise ValueError(f"weight of trajectory {i} has shape {w.shape}, which does not fit {v.shape}") from None
    if not any((w[~np.isnan(v)] > 0).any() for w, v in zip(weights, y, strict=True)):
        raise ValueError("weight is 0 wherever something was observed: there is nothing to learn from")
    return weights


def default_windows(lengths: Iterable[int], growth: int = 3) -> tuple[int | None, ...]:
    """Lengths of windows that grow from at most ten intervals to whole trajectories; `lengths` are those of the data."""
    longest = max(lengths) - 1
    sizes = [max(1, min(10, round(longest / 3)))]
    while 1.5 * growth * sizes[-1] < longest:  # at least two windows
        sizes.append(growth * sizes[-1])
    return (*sizes, None)


def checked_windows(windows: Any) -> tuple[int | None, ...]:
    """The lengths of windows that a user gave, checked, as a tuple."""
    lengths: tuple[int | None, ...] = tuple(windows) if np.iterable(windows) and not isinstance(windows, str) else ()
    if not lengths or not all(n is None or (isinstance(n, (int, np.integer)) and n >= 1) for n in lengths):
        raise ValueError(f"windows={windows!r} must hold numbers of intervals >= 1, or None for whole trajectories")
    return lengths
