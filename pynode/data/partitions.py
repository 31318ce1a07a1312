"""Data in partitions, which need not fit into memory: sums over them, in one process or by Dask."""

from __future__ import annotations

import copy
import glob
import importlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar, get_args

from pynode.data.ragged import is_frame
from pynode.data.rows import Rows
from pynode.data.tables import TableError
from pynode.data.trajectories import Trajectories

T = TypeVar("T")

Engine = Literal["local", "dask"]
"""Where partitions are worked on."""

RETRIES = 3
"""How often Dask tries a partition again whose file cannot be read, or whose worker was lost."""


class Partitions:
    """Trajectories in partitions, each of which fits into memory; what `NeuralODE.fit` takes for data that do not.

    A trajectory is whole in one partition.

    Parameters
    ----------
    source : list of paths, str, or Dask collection
        Parquet files: a list of paths, or a pattern such as ``"runs/*.parquet"`` (in the order of their names), each a
        partition in long form. A `dask.dataframe`, in long form. A `dask.bag` of (t, Y) pairs, a pair a trajectory. A list
        of `dask.delayed`, each a data frame, `Trajectories`, or a pair (t, Y) as `Trajectories.from_arrays` takes it.
    time, state, id, input : str or sequence of str
        Columns of files and data frames: the time, the states, what tells trajectories apart (default: a partition is one
        trajectory), the control inputs (default: none).
    names : sequence of str, optional
        Of the states, where they are no columns; default y1, y2, ...
    engine : {"local", "dask"}, optional
        "local": one partition after the other in this process, all its threads at work on each. "dask": by the current
        Dask client or scheduler. Default: "local" for files, "dask" for collections of Dask.

    Attributes
    ----------
    n_partitions : int

    Raises
    ------
    TypeError, ValueError
        There are no partitions, or it cannot be told what they are.
    ImportError
        pyarrow or Dask is not there.

    See Also
    --------
    NeuralODE.fit : fits an equation to them.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np, pandas as pd, pynode as pn
    >>> t = np.linspace(0, 3, 20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for k in range(2):
    ...         table = pd.DataFrame({"run": np.repeat([2 * k, 2 * k + 1], 20), "t": np.tile(t, 2)})
    ...         table["x"] = (1 + table["run"]) * np.exp(-table["t"])
    ...         table.to_parquet(pathlib.Path(folder, f"{k}.parquet"))
    ...     runs = pn.Partitions(f"{folder}/*.parquet", time="t", state="x", id="run")
    ...     model = pn.NeuralODE(random_state=0).fit(runs)
    >>> model.report_["n_samples"], len(model.theta_)
    (4, 1)
    """

    def __init__(
        self,
        source: Any,
        *,
        time: str | None = None,
        state: str | Sequence[str] | None = None,
        id: str | None = None,
        input: str | Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        engine: Engine | None = None,
    ) -> None:
        if engine not in (None, *get_args(Engine)):
            raise ValueError(f"engine={engine!r} is not one of {', '.join(get_args(Engine))}")
        self.parts, files = _parts(source)
        if not self.parts:
            raise ValueError(f"there are no partitions: {source!r} is empty")
        if files and (time is None or state is None):
            raise TypeError("files are tables: give time= and state= (and id=, input=) the names of their columns")
        if not files and engine == "local":
            raise ValueError("engine='local' is for Parquet files: collections of Dask are worked on by Dask")
        self.engine: Engine = engine or ("local" if files else "dask")
        if files:
            _needed("pyarrow")
        if self.engine == "dask":
            _needed("dask")
        self.read = Reader(time, _listed(state), id, _listed(input), None if names is None else tuple(names))

    @property
    def n_partitions(self) -> int:
        """How many there are."""
        return len(self.parts)

    def in_order(self, order: Sequence[int]) -> Partitions:
        """The same with the states in another order.

        Parameters
        ----------
        order : sequence of int
            The position of each state among those of these partitions.

        Returns
        -------
        Partitions
        """
        made = copy.copy(self)
        made.read = copy.copy(self.read)
        made.read.order = [int(j) for j in order]
        return made

    def total(self, work: Callable[..., T], *common: Any) -> T:
        """The sum over all partitions of what `work` makes of each, called as ``work(k, rows, *common)`` for k = 0, 1, ...

        Partitions are added in pairs, pairs in pairs, and so on, in an order that depends on their number alone: the sum has
        the same bits with any number of workers.

        Parameters
        ----------
        work : callable
            A function of a module, so that it can be sent to workers. What it gives has a sum (+).
        *common
            What all partitions are given.

        Returns
        -------
        object
        """
        if self.engine == "local":
            return in_pairs(self.read.apply(work, k, part, common) for k, part in enumerate(self.parts))
        dask: Any = importlib.import_module("dask")
        compute: Callable[..., tuple[T]] = dask.compute
        given = dask.delayed(common, pure=False, traverse=False)
        apply = dask.delayed(self.read.apply, pure=False, traverse=False)
        root = in_pairs(apply(work, k, part, given) for k, part in enumerate(self.parts))
        options = {"retries": RETRIES} if _distributed() else {}
        (found,) = compute(root, **options)
        return found


class Reader:
    """How a partition becomes `Rows`."""

    def __init__(
        self, time: str | None, state: tuple[str, ...], id: str | None, input: tuple[str, ...], names: tuple[str, ...] | None
    ) -> None:
        self.time = time
        self.state = state
        self.id = id
        self.input = input
        self.names = names
        self.order: list[int] | None = None

    def apply(self, work: Callable[..., T], k: int, part: Any, common: tuple[Any, ...]) -> T:
        """What `work` makes of a partition."""
        rows = self.rows(k, part)
        return work(k, rows if self.order is None else replace(rows, y=rows.y[:, self.order]), *common)

    def rows(self, k: int, part: Any) -> Rows:
        """The trajectories of partition k."""
        where = f"partition {k}"
        try:
            if isinstance(part, str):
                where += f" ({part})"
                return Rows.of_columns(_parquet(part, self.columns), *self._named)
            if is_frame(part):
                if self.time is None or not self.state:
                    raise TypeError("data frames need time= and state= (and id=, input=), the names of their columns")
                return Rows.of_columns(part, *self._named)
            return Rows.of_trajectories(self._trajectories(part))
        except (TableError, ValueError, TypeError) as error:
            raise type(error)(f"{where}: {error}") from None

    @property
    def columns(self) -> list[str]:
        """All columns that are read."""
        return [name for name in (self.time, self.id, *self.state, *self.input) if name is not None]

    @property
    def _named(self) -> tuple[str, tuple[str, ...], str | None, tuple[str, ...]]:
        assert self.time is not None
        return self.time, self.state, self.id, self.input

    def _trajectories(self, part: Any) -> Trajectories:
        if isinstance(part, Trajectories):
            return part
        if isinstance(part, tuple) and len(part) == 2:
            return Trajectories.from_arrays(part[0], part[1], self.names)
        if isinstance(part, Iterable):
            pairs = list(part)  # of a bag
            if pairs and all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
                return Trajectories.from_arrays([t for t, _ in pairs], [y for _, y in pairs], self.names)
        raise TypeError(
            f"{type(part).__name__} is none of: a data frame, Trajectories, a pair (t, Y), pairs of one trajectory each"
        )


def as_partitions(t: Any, arrays: bool, **columns: Any) -> Partitions | None:
    """Data in partitions as they are given to `fit`; None where they are in memory.

    arrays: states are given beside t, so that texts are dates and not the paths of files.
    """
    if isinstance(t, Partitions):
        given = [name for name, value in columns.items() if value is not None]
        if given:
            raise TypeError(f"Partitions have their columns: give {given[0]}= to pynode.Partitions, not to fit")
        return t
    paths = not arrays and (_is_path(t) or (isinstance(t, (list, tuple)) and len(t) > 0 and _is_path(t[0])))
    return (
        Partitions(t, **columns)
        if paths or _is_lazy(t) or (isinstance(t, (list, tuple)) and any(map(_is_lazy, t)))
        else None
    )


def in_pairs(parts: Iterable[T]) -> T:
    """The sum of parts: neighbours first, then neighbouring sums; at most log2(n) sums are held at once."""
    held: list[tuple[int, Any]] = []
    for part in parts:
        size, total = 1, part
        while held and held[-1][0] == size:
            total = held.pop()[1] + total
            size *= 2
        held.append((size, total))
    _, total = held.pop()
    while held:
        total = held.pop()[1] + total
    return total


def _parts(source: Any) -> tuple[list[Any], bool]:
    """(partitions, whether they are files)."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        found = sorted(glob.glob(os.path.join(path, "*.parquet") if os.path.isdir(path) else path))
        if not found:
            raise ValueError(f"there is no file {path!r}")
        return found, True
    if _is_lazy(source):
        if not hasattr(source, "to_delayed"):
            return [source], False  # one delayed partition
        if hasattr(source, "chunks"):
            raise TypeError("a dask.array has no times: give its blocks as a list of delayed pairs (t, block)")
        return list(source.to_delayed()), False
    if isinstance(source, (list, tuple)):
        if source and all(map(_is_path, source)):
            return [os.fspath(path) for path in source], True
        if all(map(_is_lazy, source)):
            return list(source), False
    raise TypeError(
        f"{type(source).__name__} is none of: Parquet files, a dask.dataframe or dask.bag, a list of dask.delayed partitions"
    )


def _is_path(x: Any) -> bool:
    return isinstance(x, (str, os.PathLike))


def _is_lazy(x: Any) -> bool:
    return hasattr(type(x), "__dask_graph__")


def _listed(names: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def _parquet(path: str, columns: list[str]) -> dict[str, Any]:
    """The columns of a Parquet file."""
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            table = file.read(columns=[name for name in columns if name in there])
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise ValueError(f"it cannot be read as a Parquet file: {error}") from None
    return {name: table.column(name).to_numpy() for name in table.column_names}


def _needed(package: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError:
        raise ImportError(f"data in partitions need {package}: pip install 'pynode-ode[dask]'") from None


def _distributed() -> bool:
    """Whether a client of a cluster is at work."""
    try:
        from distributed import get_client
    except ImportError:
        return False
    try:
        get_client()
    except ValueError:
        return False
    return True
