"""Readings that measurements do not repeat: of a sensor that stands still, or that a table has twice."""

import numpy as np
from numpy.typing import NDArray

from pynode.data.trajectories import Trajectories

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

STILL = 10
"""So many readings of one value, on end, are those of a sensor that stands still, ..."""

ELSEWHERE = 0.01
"""... where at most this part of the other readings is that of the one before."""

ROWS = 5
"""So many rows on end that are there twice are no chance, ..."""

APART = 0.5
"""... where at least this part of a trajectory's numbers differ from each other: counts repeat themselves."""


def repeats(data: Trajectories, noisy: Flags, doubtful: bool) -> list[str]:
    """`copies`, and `still` beside other doubts: series may rest exactly."""
    return [*(still(data, noisy) if doubtful else ()), *copies(data, noisy)]


def still(data: Trajectories, noisy: Flags) -> list[str]:
    """Sentences about columns whose readings stand still for a time, though they have noise elsewhere.

    Readings marked as censored may.

    Parameters
    ----------
    data : Trajectories
        What was fitted.
    noisy : (d,) bool array
        Whether the readings of a column have noise.
    """
    sample = np.repeat(np.arange(len(data)), data.lengths)
    t, y = np.concatenate(data.t), np.concatenate(data.y)
    censored = np.zeros(y.shape, bool) if data.censored is None else np.concatenate(data.censored) != 0
    words = []
    for j in np.flatnonzero(noisy):
        known = np.flatnonzero(~np.isnan(y[:, j]) & ~censored[:, j])
        values, own = y[known, j], sample[known]
        same = (values[1:] == values[:-1]) & (own[1:] == own[:-1])
        ends = np.flatnonzero(np.diff(same, prepend=False, append=False)).reshape(-1, 2)
        first, last = ends[np.diff(ends)[:, 0] + 1 >= STILL].T
        others = same & ~np.isin(values[1:], values[first])
        if not len(first) or others.sum() > ELSEWHERE * (~np.isin(values, values[first])).sum():
            continue
        longest = int(np.argmax(last - first))
        k = first[longest]
        n = int(last[longest] - k) + 1
        value = values[k]
        where = f"from {data.when(float(t[known[k]]))} of trajectory {data.ids[own[k]]} on"
        times = "" if len(first) == 1 else f", the longest of {len(first)} such times"
        limit = "lowest" if value == values.min() else "highest" if value == values.max() else ""
        seems = f"the {limit} value there is, a limit of what is measured" if limit else "as of a stuck sensor"
        words.append(
            f"{data.names[j]} is {value:g} in {n} readings on end ({where}{times}), {seems}: write NaN instead of them"
        )
    return words


def copies(data: Trajectories, noisy: Flags) -> list[str]:
    """A sentence about rows that two trajectories share, to the last digit, though their readings have noise.

    Parameters
    ----------
    data : Trajectories
        What was fitted.
    noisy : (d,) bool array
        Whether the readings of a column have noise.
    """
    if len(data) < 2 or not noisy.any():
        return []
    sample = np.repeat(np.arange(len(data)), data.lengths)
    y = np.concatenate(data.y)[:, noisy]
    marks = _marks(y)
    runs = marks[: 1 - ROWS] if len(marks) >= ROWS else marks[:0]
    for i in range(1, ROWS):
        runs = runs * np.uint64(0x9E3779B97F4A7C15) + marks[i : len(runs) + i]
    known = np.concatenate([[0], np.cumsum((~np.isnan(y)).sum(axis=1))])
    whole = (sample[: len(runs)] == sample[ROWS - 1 :][: len(runs)]) & (known[ROWS:] - known[: len(runs)] >= ROWS)
    place = np.flatnonzero(whole & np.isin(sample[: len(runs)], _varied(data, noisy)))
    _, group, count = np.unique(runs[place], return_inverse=True, return_counts=True)
    twice = np.flatnonzero(count[group] > 1)
    if not len(twice):
        return []
    pair = place[group == group[twice[0]]][:2]
    first, second = sample[pair]
    if first == second:
        return []
    rows = np.zeros(len(sample), bool)
    for step in range(ROWS):
        rows[place[twice] + step] = True
    return [
        f"{rows.sum()} of {len(rows)} rows are there more than once, to the last digit (first in trajectories "
        f"{data.ids[first]} and {data.ids[second]}): "
        "each counts as a measurement of its own, so standard errors and bands are too narrow and residuals seem to follow "
        "from the states; leave copies out, and cut series into parts that do not overlap"
    ]


def _varied(data: Trajectories, noisy: Flags) -> NDArray[np.intp]:
    """The trajectories in which a column with noise hardly repeats itself."""
    found = []
    for i, y in enumerate(data.y):
        for column in y[:, noisy].T:
            known = column[~np.isnan(column)]
            if len(known) >= ROWS and len(np.unique(known)) > APART * len(known):
                found.append(i)
                break
    return np.array(found, np.intp)


def _marks(y: Array) -> NDArray[np.uint64]:
    """A number for each row, the same for rows that are."""
    bits = np.ascontiguousarray(np.where(np.isnan(y), np.nan, y + 0.0)).view(np.uint64)
    found = np.zeros(len(y), np.uint64)
    for column in bits.T:
        found = (found ^ (found >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9) + column
    return found ^ (found >> np.uint64(29))
