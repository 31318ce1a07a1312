"""What is known of all partitions before anything is fitted: how many trajectories, their ranges, means and spread."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pynode.data.rows import Rows

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Survey:
    """Counts and moments of partitions; they add up.

    Attributes
    ----------
    sizes : tuple of int
        How many trajectories each partition has.
    n_rows : int
        How many times all trajectories have together.
    longest : int
        How many the longest has.
    count : (d + m,) array
        How many numbers of each state and control input there are.
    mean, squares : (d + m,) arrays
        Their means (of logarithms of states, where these are learned), and the sums of squares about them.
    low, high : (d + m,) arrays
        Their ranges.
    time : (float, float)
        The first and the last time.
    edges : tuple of (int, hashable)
        The first and the last trajectory of each partition: the partition, and the id.
    """

    sizes: tuple[int, ...]
    n_rows: int
    longest: int
    count: Array
    mean: Array
    squares: Array
    low: Array
    high: Array
    time: tuple[float, float]
    edges: tuple[tuple[int, Hashable], ...]

    def __add__(self, other: Survey) -> Survey:
        """Of these partitions and the other's (Chan, Golub and LeVeque 1983, doi:10.1080/00031305.1983.10483115)."""
        if len(self.count) != len(other.count):
            raise ValueError(f"partitions have {len(self.count)} and {len(other.count)} columns: they must have the same")
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        apart = other.mean - self.mean
        return Survey(
            self.sizes + other.sizes,
            self.n_rows + other.n_rows,
            max(self.longest, other.longest),
            count,
            self.mean + share * apart,
            self.squares + other.squares + apart**2 * self.count * share,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            (min(self.time[0], other.time[0]), max(self.time[1], other.time[1])),
            self.edges + other.edges,
        )

    def __len__(self) -> int:
        """Number of trajectories."""
        return sum(self.sizes)

    @property
    def scale(self) -> Array:
        """(d + m,) standard deviations; 1 where nothing varies."""
        deviation = np.sqrt(self.squares / np.maximum(self.count, 1))
        return np.where(deviation > 0, deviation, 1.0)

    def torn(self) -> Hashable | None:
        """The id of a trajectory that one partition ends with and another begins with; None where there is none."""
        owner: dict[Hashable, int] = {}
        for k, name in self.edges:
            if owner.setdefault(name, k) != k:
                return name
        return None


def survey(k: int, rows: Rows, log: bool, by_id: bool) -> Survey:
    """The survey of a partition.

    Parameters
    ----------
    k : int
        Which.
    rows : Rows
        Its trajectories.
    log : bool
        Logarithms of the states are learned, which must be positive.
    by_id : bool
        Trajectories have ids that tell them apart across partitions.

    Returns
    -------
    Survey
    """
    y = rows.y
    if log:
        if (y <= 0).any():
            row, column = np.argwhere(y <= 0)[0]
            raise ValueError(f"partition {k}: log=True needs positive states, but state {column + 1} is {y[row, column]:g}")
        y = np.log(y)
    x = np.concatenate([y, rows.u], axis=1)
    count = (~np.isnan(x)).sum(axis=0).astype(np.float64)
    mean = np.nansum(x, axis=0) / np.maximum(count, 1)
    ends = [rows.ids[i] for i in (0, -1)] if by_id and len(rows) else []
    return Survey(
        (len(rows),),
        len(rows.t),
        int(rows.length.max(initial=0)),
        count,
        mean,
        np.nansum((x - mean) ** 2, axis=0),
        np.fmin.reduce(x, axis=0, initial=np.inf),
        np.fmax.reduce(x, axis=0, initial=-np.inf),
        (float(rows.t.min(initial=np.inf)), float(rows.t.max(initial=-np.inf))),
        tuple((k, x.item() if hasattr(x, "item") else x) for x in ends),
    )


def drawn(k: int, rows: Rows, chosen: dict[int, NDArray[np.intp]]) -> Rows:
    """Those of the trajectories that were drawn, by partition."""
    return rows.take(chosen.get(k, np.zeros(0, np.intp)))


def draw(sizes: tuple[int, ...], n: int, seed: int) -> dict[int, NDArray[np.intp]]:
    """n trajectories at random, all alike: partition -> positions there.

    Parameters
    ----------
    sizes : tuple of int
        How many trajectories each partition has.
    n : int
        How many are wanted; all where there are no more.
    seed : int
        The same number, the same trajectories.

    Returns
    -------
    dict
    """
    total = sum(sizes)
    which = np.sort(np.random.default_rng(seed).choice(total, min(n, total), replace=False))
    first = np.cumsum([0, *sizes])
    part = np.searchsorted(first, which, side="right") - 1
    return {int(k): which[part == k] - first[k] for k in np.unique(part)}
