"""Measured trajectories, each with its own times; `Trajectories`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import is_ragged, own_array, read_only
from pynode.data.cells import Writing, missing_codes
from pynode.data.clock import Clock
from pynode.data.control import as_control, as_read, is_plain
from pynode.data.dates import REMEDY
from pynode.data.ragged import check_times, states_and_names, times_and_clock
from pynode.data.signal import Signal
from pynode.data.tables import Columns, Reading, Replicates, Table, TableError, averaged, parts_of, repeats_marked

Float = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Trajectories:
    """Measured trajectories, each with its own times.

    Attributes
    ----------
    t : tuple of (T_i,) arrays
        Times, strictly increasing (with `repeated`: never falling); read-only copies, as y.
    y : tuple of (T_i, d) arrays
        States; NaN where one was not observed.
    names : tuple of str
        Names of the d states.
    time_name : str
        What the time is called.
    ids : tuple
        What each trajectory is called; default 0, 1, ...
    signal : Signal or None
        Control inputs, a sample for each trajectory.
    input_names : tuple of str
        Names of the control inputs, where they have any.
    id_name : str or None
        What the ids are: the column that told trajectories apart.
    clock : Clock or None
        How times that were dates or durations became numbers.
    repeated : bool
        Several readings may have one time.
    censored : tuple of (T_i, d) int arrays, or None
        1 where the reading is below the value in y (below a limit of quantification), -1 where it is above, 0 elsewhere.
    doses : tuple of tuples of dict, or None
        Doses of each trajectory as a table gives them: time, amount, state, rate, interval, count, kind.
    covariates : (B, m) array or None
        What is known of each trajectory.
    covariate_names : tuple of str
    plain : bool
        The control inputs were given as values at the times; a fit says how they go between these (`input_kind`).

    Raises
    ------
    ValueError
        Shapes do not fit, times do not increase, or a state is infinite; the message names the trajectory.

    See Also
    --------
    read_csv : trajectories from a CSV file.

    Examples
    --------
    >>> import pynode as pn
    >>> data = pn.Trajectories.from_arrays([0.0, 1.0, 2.0], [[1.0], [0.5], [float("nan")]], names=["dose"])
    >>> len(data), data.d, data.n_observed
    (1, 1, 2)
    """

    t: tuple[Float, ...]
    y: tuple[Float, ...]
    names: tuple[str, ...]
    time_name: str = "t"
    ids: tuple[Hashable, ...] = ()
    signal: Signal | None = None
    input_names: tuple[str, ...] = ()
    id_name: str | None = None
    clock: Clock | None = None
    repeated: bool = False
    censored: tuple[Integers, ...] | None = None
    doses: tuple[tuple[Mapping[str, Any], ...], ...] | None = None
    covariates: Float | None = None
    covariate_names: tuple[str, ...] = ()
    plain: bool = False

    def __post_init__(self) -> None:
        t = tuple(own_array("t", x, np.float64) for x in self.t)
        y = tuple(own_array("y", x, np.float64) for x in self.y)
        object.__setattr__(self, "t", t)
        object.__setattr__(self, "y", y)
        if not t or len(t) != len(y):
            raise ValueError(
                f"there must be as many arrays of times as of states, and at least one; got {len(t)} and {len(y)}"
            )
        if not self.ids:
            object.__setattr__(self, "ids", tuple(range(len(t))))
        if len(self.ids) != len(t):
            raise ValueError(f"there are {len(t)} trajectories, but {len(self.ids)} ids")
        for name, times, states in zip(self.ids, t, y, strict=True):
            where = f"trajectory {name}" if len(t) > 1 else "the trajectory"
            _check_one(self, where, times, states)
        if self.signal is not None and not self.signal.shared and len(self.signal.u) != len(t):
            raise ValueError(f"there are {len(t)} trajectories, but control inputs for {len(self.signal.u)}")
        self._check_more()

    def _check_more(self) -> None:
        """Check what tables may hold beside times and states."""
        n = len(self.t)
        if self.censored is not None:
            marks = tuple(read_only(np.array(x, dtype=np.int64)) for x in self.censored)
            object.__setattr__(self, "censored", marks)
            if [x.shape for x in marks] != [y.shape for y in self.y] or any((np.abs(x) > 1).any() for x in marks):
                raise ValueError("censored must hold 1, 0 or -1 for each entry of y")
        if self.doses is not None and len(self.doses) != n:
            raise ValueError(f"there are {n} trajectories, but doses of {len(self.doses)}")
        if self.covariates is not None:
            covariates = own_array("covariates", self.covariates, np.float64)
            object.__setattr__(self, "covariates", covariates)
            if covariates.shape != (n, len(self.covariate_names)):
                wanted = (n, len(self.covariate_names))
                raise ValueError(f"covariates has shape {covariates.shape}; trajectories and names need {wanted}")

    @property
    def d(self) -> int:
        """Number of states."""
        return len(self.names)

    @property
    def n_observed(self) -> int:
        """How many numbers were observed."""
        return sum(int((~np.isnan(y)).sum()) for y in self.y)

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self.t)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """How many times each trajectory has."""
        return tuple(len(times) for times in self.t)

    @property
    def never_observed(self) -> list[str]:
        """Names of states without any observation."""
        return [name for j, name in enumerate(self.names) if all(np.isnan(y[:, j]).all() for y in self.y)]

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of the table: time, state, id and input, as `from_frame` takes them."""
        return {"time": self.time_name, "state": self.names, "id": self.id_name, "input": self.input_names}

    def when(self, t: float) -> str:
        """A time in words: its name and its value, as a date where times are dates.

        Parameters
        ----------
        t : float
            In the units of `t`.

        Returns
        -------
        str
        """
        value = f"{t:g}" if self.clock is None else self.clock.to_text(t)[0]
        return f"{self.time_name} = {value}"

    def take(self, which: Iterable[int]) -> Trajectories:
        """Some of the trajectories.

        Parameters
        ----------
        which : sequence of int
            Their positions.

        Returns
        -------
        Trajectories
            In the order of `which`.
        """
        positions = [int(i) for i in which]
        return replace(
            self,
            t=tuple(self.t[i] for i in positions),
            y=tuple(self.y[i] for i in positions),
            ids=tuple(self.ids[i] for i in positions),
            signal=None if self.signal is None else self.signal.take(positions),
            censored=None if self.censored is None else tuple(self.censored[i] for i in positions),
            doses=None if self.doses is None else tuple(self.doses[i] for i in positions),
            covariates=None if self.covariates is None else self.covariates[positions],
        )

    def rows(self, start: int | None = None, stop: int | None = None) -> Trajectories:
        """The same trajectories with the times at positions start:stop only.

        Parameters
        ----------
        start, stop : int, optional
            As in a slice; default: from the first time, to the last.

        Returns
        -------
        Trajectories
        """
        cut = slice(start, stop)
        return replace(
            self,
            t=tuple(t[cut] for t in self.t),
            y=tuple(y[cut] for y in self.y),
            censored=None if self.censored is None else tuple(x[cut] for x in self.censored),
        )

    def on(self, clock: Clock | None) -> Self:
        """The same with times by another clock.

        Parameters
        ----------
        clock : Clock or None
            None: times must be numbers.

        Returns
        -------
        Trajectories
            Itself where it has no clock.

        Raises
        ------
        TypeError
            Its times are dates, which the other clock does not know.
        """
        if self.clock is None or self.clock == clock:
            return self
        kind = self.clock.kind
        if clock is None:
            raise TypeError(f"{self.time_name} holds {kind}, but times of this model are numbers: {REMEDY[kind]}")
        if self.signal is not None or self.doses is not None:
            own, other = self.clock.label(self.time_name), clock.label(self.time_name)
            words = "with control inputs or doses read the data with clock=, the model's clock_"
            raise ValueError(f"the times of the data are {own}, those of the model {other}: {words}")
        return replace(self, t=tuple(clock.to_numbers(self.clock.to_dates(t)) for t in self.t), clock=clock)

    @classmethod
    def from_arrays(
        cls,
        t: Any,
        Y: Any,
        names: Iterable[str] | None = None,
        time_name: str = "t",
        u: Any = None,
        *,
        clock: Clock | None = None,
        time_unit: str | None = None,
        replicates: Replicates = "refuse",
    ) -> Self:
        """Trajectories from arrays.

        Parameters
        ----------
        t : (T,) array, or a list of (T_i,) arrays
            Times; one array is shared by all trajectories. Numbers, or dates or durations (`clock`).
        Y : (T,), (T, d) or (B, T, d) array, or a list of (T_i,) or (T_i, d) arrays
            States; NaN: not observed.
        names : sequence of str, optional
            Names of the states, by which columns of a data frame Y are found; default: those that it has, or y1, y2, ...
        time_name : str, default "t"
            What the time is called.
        u : array, list, tuple or Signal, optional
            Control inputs, see `pynode.NeuralODE.fit`.
        clock : Clock, optional
            How dates become numbers. Default: time since the first of all, in `time_unit`.
        time_unit : str, optional
            "s", "min", "h", "d" and the like. Default: by the median step.
        replicates : {"refuse", "keep", "average"}, default "refuse"
            Several readings at one time of a trajectory: an error, kept, or their mean.

        Returns
        -------
        Trajectories
        """
        reading = Reading(replicates=replicates)
        ys, called = states_and_names(Y, names)
        d = ys[0].shape[1]
        ts, clock = times_and_clock(t, clock, time_unit)
        if not is_ragged(t) and np.ndim(t) < 2:
            ts = ts * len(ys)
        if len(ts) != len(ys):
            raise ValueError(f"t has the times of {len(ts)} trajectories, Y has {len(ys)}")
        if len(called) != d or len(set(called)) != d:
            raise ValueError(f"names must be {d} different names, one for each state; got {called}")
        for i, (times, states) in enumerate(zip(ts, ys, strict=True)):
            if times.ndim != 1 or len(times) != len(states):
                raise ValueError(
                    f"trajectory {i}: t has shape {times.shape}, so Y must have {times.size} rows; it has {len(states)}"
                )
        inputs, u = as_read(u, clock)
        told: dict[str, Any] = {"names": called, "time_name": time_name, "clock": clock}
        told |= {"input_names": inputs, "plain": is_plain(u)}
        if reading.replicates == "refuse":
            return cls(tuple(ts), tuple(ys), signal=as_control(u, None, ts), **told)
        for i, times in enumerate(ts):
            check_times(times, f"trajectory {i}", time_name, repeated=True)
        parts: dict[str, Any] = {"t": ts, "y": ys, "u": None, "censored": None}
        parts = averaged(parts) if reading.replicates == "average" else repeats_marked(parts)
        signal, repeated = as_control(u, None, ts), bool(parts["repeated"])
        return cls(tuple(parts["t"]), tuple(parts["y"]), signal=signal, repeated=repeated, **told)

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        time: str,
        state: str | Iterable[str],
        id: str | None = None,
        input: str | Iterable[str] | None = None,
        *,
        time_unit: str | None = None,
        date_format: str | None = None,
        missing: Any = None,
        censored: bool = False,
        replicates: Replicates = "refuse",
        wide: bool | Iterable[str] = False,
        clock: Clock | None = None,
    ) -> Self:
        """Trajectories from a data frame in long form: a row for each time, a column for each state.

        Parameters
        ----------
        frame : pandas.DataFrame, or alike
            Anything with columns by name; an index with a name counts as a column.
        time : str
            The column of times: numbers, dates (with or without a timezone, or texts in ISO 8601) or durations.
        state : str or sequence of str
            The columns of states; NaN: not observed.
        id : str, optional
            The column that tells which trajectory a row belongs to.
        input : str or sequence of str, optional
            Columns of control inputs, known in every row.
        time_unit, date_format : str, optional
            See `read_csv`, as all that follow.
        missing : number, str or sequence, optional
            Codes that mean: not observed.
        censored : bool, default False
            Keep readings beyond a limit, such as <0.1.
        replicates : {"refuse", "keep", "average"}, default "refuse"
            Several readings at one time of a trajectory.
        wide : bool or sequence of str, default False
            Columns are trajectories.
        clock : Clock, optional
            How dates become numbers. Default: time since the first, in `time_unit`.

        Returns
        -------
        Trajectories

        Raises
        ------
        TableError
            A column is missing, or holds something else than numbers.
        """
        columns = Columns.of(time, state, id, input)
        reading = Reading(
            Writing(missing=missing_codes(missing), censored=censored),
            date_format,
            time_unit,
            replicates,
            wide if isinstance(wide, bool) else tuple(wide),
            clock,
        )
        return cls.from_table(Table.of_frame(frame, columns.all), columns, reading)

    @classmethod
    def from_table(cls, table: Table, columns: Columns, reading: Reading) -> Self:
        """Trajectories from a table of any origin: what `from_frame` and `read_csv` have in common.

        Parameters
        ----------
        table : pynode.data.tables.Table
            Columns by name.
        columns : pynode.data.tables.Columns
            Those that are wanted.
        reading : pynode.data.tables.Reading
            How they are read.

        Returns
        -------
        Trajectories
        """
        parts = parts_of(table, columns, reading)
        try:
            return cls.from_parts(parts)
        except ValueError as error:
            raise TableError(f"{table.where}: {error}") from None

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any]) -> Self:
        """Trajectories from their parts.

        Parameters
        ----------
        parts : dict
            Lists of arrays by name, as `pynode.data.tables.parts_of` gives them.

        Returns
        -------
        Trajectories
        """
        u = parts["u"]
        signal = None if u is None else as_control(u, None, parts["t"])
        marks = None if parts["censored"] is None else tuple(parts["censored"])
        arrays = {"t": tuple(parts["t"]), "y": tuple(parts["y"]), "signal": signal, "censored": marks, "plain": is_plain(u)}
        return cls(**{name: x for name, x in parts.items() if name != "u"} | arrays)


def _check_one(data: Trajectories, where: str, times: Float, states: Float) -> None:
    """Refuse a trajectory whose shapes or numbers make no sense; where: its name in words."""
    if times.ndim != 1 or states.shape != (len(times), data.d):
        raise ValueError(f"{where}: t must have shape (T,) and y (T, {data.d}), got {times.shape} and {states.shape}")
    if len(times) == 0:
        raise ValueError(f"{where} is empty")
    check_times(times, where, data.time_name, data.repeated)
    if np.isinf(states).any():
        row, column = np.argwhere(np.isinf(states))[0]
        raise ValueError(
            f"{where}: {data.names[column]} is infinite at {data.when(times[row])}; write NaN where it was not observed"
        )
