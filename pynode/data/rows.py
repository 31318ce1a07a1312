"""Many trajectories as plain columns, one after the other: what a partition of large data is worked on as.

A million `Trajectories` are a million arrays; here they are three, and nothing loops over trajectories in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pynode.data.batch import starts
from pynode.data.tables import TableError
from pynode.data.trajectories import Trajectories

Float = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Trajectories, one after the other.

    Attributes
    ----------
    t : (rows,) array
        Times, strictly increasing within each trajectory.
    y : (rows, d) array
        States; NaN: not observed.
    u : (rows, m) array
        Control inputs; m may be 0.
    length : (B,) int array
        How many times each trajectory has.
    ids : (B,) array
        What each is called.
    """

    t: Float
    y: Float
    u: Float
    length: Integers
    ids: NDArray[Any]

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self.length)

    def __add__(self, other: Rows) -> Rows:
        """These trajectories, then those of the other."""
        return Rows(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in self.__dataclass_fields__))

    def take(self, which: NDArray[np.intp]) -> Rows:
        """Some of the trajectories.

        Parameters
        ----------
        which : (n,) int array
            Their positions.

        Returns
        -------
        Rows
        """
        begin = starts(self.length)[which]
        return self.cut(which, begin, begin + self.length[which])

    def cut(self, which: NDArray[np.intp], begin: Integers, end: Integers) -> Rows:
        """Pieces of the trajectories.

        Parameters
        ----------
        which : (n,) int array
            The trajectory of each piece.
        begin, end : (n,) int arrays
            Its first row among all rows, and the row after its last.

        Returns
        -------
        Rows
        """
        length = end - begin
        rows = np.repeat(begin - starts(length), length) + np.arange(int(length.sum()))
        return Rows(self.t[rows], self.y[rows], self.u[rows], length, self.ids[which])

    def windows(self, intervals: int | None) -> tuple[Rows, NDArray[np.intp]]:
        """Windows of about so many intervals between times, as `pynode.training.windows.Data.windows` cuts them.

        Parameters
        ----------
        intervals : int or None
            None: whole trajectories.

        Returns
        -------
        windows : Rows
            Those in which two times or more are observed; neighbours share a time.
        source : (W,) int array
            The trajectory of each.
        """
        first = starts(self.length)
        which: list[Integers] = []
        begin: list[Integers] = []
        end: list[Integers] = []
        for n in np.unique(self.length):
            last = max(int(n) - 1, 1)
            pieces = 1 if intervals is None else max(1, round(last / intervals))
            edge = np.linspace(0, last, pieces + 1).round().astype(np.int64)
            members = np.flatnonzero(self.length == n)
            which.append(np.repeat(members, pieces))
            begin.append((first[members][:, None] + edge[:-1]).ravel())
            end.append((first[members][:, None] + np.minimum(edge[1:] + 1, n)).ravel())
        source, a, b = (np.concatenate([np.zeros(0, np.int64), *x]) for x in (which, begin, end))
        seen = np.concatenate([[0], np.cumsum((~np.isnan(self.y)).any(axis=1))])
        kept = np.flatnonzero(seen[b] - seen[a] >= 2)
        kept = kept[np.lexsort((a[kept], source[kept]))]
        return self.cut(source[kept], a[kept], b[kept]), source[kept]

    def series(self) -> tuple[list[Float], list[Float], list[Float]]:
        """The times, states and control inputs of each trajectory, in lists."""
        ends = np.cumsum(self.length).tolist()
        parts = [slice(b - n, b) for n, b in zip(self.length.tolist(), ends, strict=True)]
        return [self.t[x] for x in parts], [self.y[x] for x in parts], [self.u[x] for x in parts]

    @classmethod
    def of_trajectories(cls, data: Trajectories) -> Self:
        """The rows of trajectories that have nothing but times and states."""
        more = {
            "control inputs": data.signal,
            "limits of quantification": data.censored,
            "doses": data.doses,
            "covariates": data.covariates,
            "dates for times": data.clock,
            "several readings at one time": data.repeated or None,
        }
        for words, value in more.items():
            if value is not None:
                raise ValueError(
                    f"partitions of trajectories with {words} cannot be fitted"
                    + (": give data frames or Parquet files, and input= the columns" if value is data.signal else "")
                )
        length = np.array(data.lengths, dtype=np.int64)
        t, y = np.concatenate(data.t), np.concatenate(data.y)
        ids = np.empty(len(length), dtype=object)
        ids[:] = data.ids
        return cls(t, y, np.zeros((len(t), 0)), length, ids)

    @classmethod
    def of_columns(cls, columns: Any, time: str, state: Sequence[str], id: str | None, input: Sequence[str]) -> Self:
        """The rows of a table in long form.

        Parameters
        ----------
        columns : mapping of str -> (rows,) array
            Such as a data frame.
        time, id : str
            The columns of times and of what tells trajectories apart; id may be None: all is one trajectory.
        state, input : sequence of str
            Columns.

        Returns
        -------
        Rows
            The trajectories in the order of the table; sorted where it does not hold them one after the other.

        Raises
        ------
        TableError
            A column is missing, or does not hold what it must.
        """
        t = _numbers(columns, time)
        y, u = (
            np.stack([np.zeros(len(t)), *(_numbers(columns, name) for name in names)], axis=1)[:, 1:]
            for names in (state, input)
        )
        ids = np.zeros(len(t), np.int64) if id is None else np.asarray(_column(columns, id))
        for name, x in ((time, t[:, None]), *zip(input, u.T[:, :, None], strict=True)):
            if not np.isfinite(x).all():
                row = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
                raise TableError(
                    f"row {row}, column {name!r}: {x[row, 0]} is no finite number, and it is needed in every row"
                )
        found = cls._grouped(t, y, u, ids)
        found._check(time, state)
        return found

    @classmethod
    def _grouped(cls, t: Float, y: Float, u: Float, ids: NDArray[Any]) -> Self:
        """Rows cut where the id changes; sorted by id and time where trajectories are torn apart, or times fall."""

        def runs(ids: NDArray[Any]) -> NDArray[np.intp]:
            return np.flatnonzero(np.concatenate([[len(ids) > 0], ids[1:] != ids[:-1]]))

        begin = runs(ids)
        inside = np.ones(len(t), bool)
        inside[begin] = False
        fall = inside[1:] & (np.diff(t) < 0)
        if len(np.unique(ids[begin])) != len(begin) or fall.any():
            order = np.lexsort((t, np.unique(ids, return_inverse=True)[1]))
            t, y = t[order], y[order]
            u, ids = u[order], ids[order]
            begin = runs(ids)
        return cls(t, y, u, np.diff(np.append(begin, len(t))), ids[begin])

    def _check(self, time: str, state: Sequence[str]) -> None:
        """Refuse times that do not rise, and infinite states."""
        owner = np.repeat(np.arange(len(self)), self.length)
        same = np.flatnonzero((np.diff(self.t) <= 0) & (owner[1:] == owner[:-1]))
        if len(same):
            raise TableError(
                f"trajectory {self.ids[owner[same[0]]]} has {time} = {self.t[same[0]]:g} twice: average such readings"
            )
        if np.isinf(self.y).any():
            row, column = np.argwhere(np.isinf(self.y))[0]
            where = f"trajectory {self.ids[owner[row]]}, {time} = {self.t[row]:g}"
            raise TableError(f"{where}: {state[column]} is infinite; write NaN where it was not observed")


def _column(columns: Any, name: str) -> Any:
    try:
        return columns[name]
    except (KeyError, ValueError):
        raise TableError(f"there is no column {name!r}") from None


def _numbers(columns: Any, name: str) -> Float:
    values = np.asarray(_column(columns, name))
    if values.dtype.kind in "mM":
        raise TableError(f"column {name!r} holds dates or durations: write them as numbers, in one unit from one origin")
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise TableError(f"column {name!r} holds {values.dtype}, not numbers") from None
