"""Doses: what is added to states at known times, at once or over a while, and resets.

Any number of a dose may be the name of a parameter of the field; its value, its derivative and its standard error are then
those of any other parameter.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import as_integer
from pynode.fields.parameters import Parameter

Array = NDArray[np.float64]
Index = NDArray[np.intp]

ADD, SET, RESET, RATE = range(4)
"""What an action does: add to a state, set a state, set all states to 0, add to the rate at which a state is filled."""

MOST_DOSES = 1_000_000
"""More repetitions than this are taken for a mistake."""


@dataclass(frozen=True)
class Dose:
    """Something that is done to the states of a trajectory at a known time.

    Any of its numbers but `count` may be the name of a parameter of the field, which is then estimated.

    A reading at the very time of a dose was taken just before it.

    Parameters
    ----------
    time : float or str
        When, in the units of the data.
    amount : float or str, default 0
        How much is added to the state in all (kind "add"), or what it is set to (kind "set"), in the units of the state.
    state : int or str, default 0
        Into which state: its position, or its name where the field or the data name it.
    rate : float or str, optional
        An infusion: amount per unit of time, until the whole amount is given.
    duration : float or str, optional
        An infusion: how long it takes. Without rate and duration the dose is given at once (bolus).
    interval : float or str, optional
        Time from one repetition to the next.
    count : int, default 1
        How often it is given in all.
    kind : {"add", "set", "reset"}, default "add"
        Add to the state, set it, or set all states to 0.
    lag : float or str, default 0
        It takes effect this much later.
    bioavailability : float or str, default 1
        Which part of the amount takes effect.

    Raises
    ------
    TypeError, ValueError
        A number makes no sense; the message names it.

    See Also
    --------
    NeuralODE : `fit(..., doses=[...])`.

    Examples
    --------
    >>> import pynode as pn
    >>> pn.Dose(time=0, amount=320.0, state="gut", interval=24.0, count=3, lag="tlag")
    Dose(time=0, amount=320.0, state='gut', interval=24.0, count=3, lag='tlag')
    """

    time: float | str
    amount: float | str = 0.0
    state: int | str = 0
    rate: float | str | None = None
    duration: float | str | None = None
    interval: float | str | None = None
    count: int = 1
    kind: Literal["add", "set", "reset"] = "add"
    lag: float | str = 0.0
    bioavailability: float | str = 1.0

    def __post_init__(self) -> None:
        for name in ("time", "amount", "rate", "duration", "interval", "lag", "bioavailability"):
            value = getattr(self, name)
            if isinstance(value, str) or (value is None and name in ("rate", "duration", "interval")):
                continue
            if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
                raise TypeError(f"{name}={value!r} of a dose must be a number, or the name of a parameter")
            if not np.isfinite(value):
                raise ValueError(f"{name}={value!r} of a dose must be finite")
            if name in ("rate", "duration", "interval") and value <= 0:
                raise ValueError(
                    f"{name}={value!r} of a dose must be positive; leave it out for a single dose given at once"
                )
            if name in ("lag", "bioavailability") and value < 0:
                raise ValueError(f"{name}={value!r} of a dose must not be negative")
        if self.kind not in ("add", "set", "reset"):
            raise ValueError(f"kind={self.kind!r} of a dose is not one of add, set, reset")
        if isinstance(self.state, (bool, np.bool_)) or not isinstance(self.state, (int, np.integer, str)):
            raise TypeError(f"state={self.state!r} of a dose must be the position of a state or its name")
        as_integer("count of a dose", self.count, 1, MOST_DOSES)
        if self.count > 1 and self.interval is None:
            raise ValueError(f"count={self.count} of a dose needs an interval=, the time from one to the next")
        if self.rate is not None and self.duration is not None:
            raise ValueError(
                f"rate={self.rate!r} and duration={self.duration!r} of a dose say the same twice: the duration is amount "
                "/ rate"
            )
        if self.infused and not isinstance(self.amount, str) and self.amount < 0:
            raise ValueError(f"amount={self.amount!r} of an infusion must not be negative")
        if self.kind != "add" and (self.infused or self.bioavailability != 1):
            raise ValueError(f"kind={self.kind!r} of a dose happens at once: no rate, no duration, no bioavailability")

    @property
    def infused(self) -> bool:
        """Whether it is given over a while."""
        return self.rate is not None or self.duration is not None

    def __repr__(self) -> str:
        given = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default]
        return f"Dose({', '.join(given)})"

    def to_dict(self) -> dict[str, Any]:
        """The dose as plain data.

        Returns
        -------
        dict
            Its arguments by name.
        """
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class Actions:
    """What happens in all trajectories, for some values of the parameters; sorted by trajectory and time.

    Attributes
    ----------
    sample : (n,) int array
        The trajectory.
    kind, state : (n,) int arrays
        What it does (ADD, ...), and to which state.
    time, value : (n,) arrays
        When, and how much.
    d_time, d_value : (n, p) arrays
        Their derivatives with respect to the parameters.
    """

    sample: Index
    kind: Index
    state: Index
    time: Array
    value: Array
    d_time: Array
    d_value: Array


class Schedule:
    """The doses of a batch of trajectories, ready to be evaluated for any parameters.

    Parameters
    ----------
    doses : sequence of sequences of Dose
        Those of each trajectory.
    spec : tuple of Parameter
        What names in doses mean.
    states : sequence of str
        Names of the states; () where they have none.
    d : int
        How many states there are.
    lag, bioavailability : mapping, optional
        State -> number or name of a parameter, for all doses into that state that have none of their own.

    Attributes
    ----------
    moving : bool
        Times depend on the parameters.
    infused : tuple of int
        States into which something is infused.
    """

    def __init__(
        self,
        doses: Sequence[Iterable[Dose]],
        spec: tuple[Parameter, ...],
        states: Sequence[str],
        d: int,
        lag: Mapping[Any, float | str] | None = None,
        bioavailability: Mapping[Any, float | str] | None = None,
    ) -> None:
        self.p = spec[-1].stop if spec else 0
        self._spec = {p.name: p for p in spec}
        self._states = list(states)
        self._d = d
        lags = {self._position(state, "lag"): x for state, x in (lag or {}).items()}
        parts = {self._position(state, "bioavailability"): x for state, x in (bioavailability or {}).items()}
        rows: list[tuple[int, Dose, int, int, Any, Any]] = []
        for i, own in enumerate(doses):
            for dose in own:
                j = self._position(dose.state)
                later = lags.get(j, 0.0) if dose.lag == 0 else dose.lag
                part = parts.get(j, 1.0) if dose.bioavailability == 1 and dose.kind == "add" else dose.bioavailability
                rows += [(i, dose, k, j, later, part) for k in range(dose.count)]
        self.n = len(rows)
        self.sample = np.array([row[0] for row in rows], dtype=np.intp)
        self.state = np.array([row[3] for row in rows], dtype=np.intp)
        self.repeat = np.array([row[2] for row in rows], dtype=np.float64)
        kinds = {"add": ADD, "set": SET, "reset": RESET}
        self.kind = np.array([RATE if row[1].infused else kinds[row[1].kind] for row in rows], dtype=np.intp)
        self.by_rate = np.array([row[1].rate is not None for row in rows], dtype=bool)
        self._time = self._numbers([row[1].time for row in rows])
        self._interval = self._numbers([row[1].interval or 0.0 for row in rows])
        self._amount = self._numbers([row[1].amount for row in rows])
        self._lag = self._numbers([row[4] for row in rows])
        self._part = self._numbers([row[5] for row in rows])
        pace = [row[1].rate if row[1].rate is not None else row[1].duration for row in rows]
        self._pace = self._numbers([1.0 if x is None else x for x in pace])
        self.infused = tuple(sorted(set(self.state[self.kind == RATE].tolist())))
        moved = np.maximum(np.maximum(self._time[1], self._interval[1]), self._lag[1])
        moved = np.where(self.kind == RATE, np.maximum(moved, self._pace[1]), moved)
        given = np.maximum(self._amount[1], self._part[1])
        self.moving = bool((np.where(self.by_rate, np.maximum(moved, given), moved) >= 0).any())

    def _position(self, state: int | str, what: str = "a dose") -> int:
        if isinstance(state, str):
            if state not in self._states:
                known = (
                    f"they are {', '.join(self._states)}" if self._states else "the states have no names: give its position"
                )
                raise ValueError(f"state={state!r} of {what} is not a state; {known}")
            return self._states.index(state)
        if not 0 <= state < self._d:
            raise ValueError(f"state={state!r} of {what}: there are {self._d} states, counted from 0")
        return int(state)

    def _numbers(self, values: Sequence[float | str]) -> tuple[Array, Index]:
        """(values, positions of the parameters that stand for them or -1)."""
        constant = np.zeros(len(values))
        index = np.full(len(values), -1, dtype=np.intp)
        for k, value in enumerate(values):
            if not isinstance(value, str):
                constant[k] = value
                continue
            parameter = self._spec.get(value)
            if parameter is None or parameter.shape != ():
                known = ", ".join(p.name for p in self._spec.values() if p.shape == ()) or "none"
                raise ValueError(
                    f"{value!r} of a dose is not a parameter that is one number; those of the field are: {known} (declare "
                    "it in theta= of the field, which need not use it)"
                )
            index[k] = parameter.offset
        return constant, index

    def _at(self, number: tuple[Array, Index], theta: Array) -> tuple[Array, Array]:
        """(values (n,), derivatives (n, p))."""
        constant, index = number
        named = index >= 0
        value = constant.copy()
        value[named] = theta[index[named]]
        slope = np.zeros((len(value), self.p))
        slope[np.flatnonzero(named), index[named]] = 1.0
        return value, slope

    def first_times(self, n: int) -> Array:
        """(n,) the time of the earliest dose of each of n trajectories without its lag, infinite where there is none.

        Doses whose time is a parameter do not count: it is not known before theta is.
        """
        time, named = self._time
        first = np.full(n, np.inf)
        np.minimum.at(first, self.sample, np.where(named >= 0, np.inf, time))
        return first

    def actions(self, theta: Array) -> Actions:
        """What happens, and when, for these parameters.

        Raises
        ------
        ValueError
            The rate or the duration of an infusion is not positive, or its amount is negative.
        """
        time, d_time = self._at(self._time, theta)
        lag, d_lag = self._at(self._lag, theta)
        interval, d_interval = self._at(self._interval, theta)
        amount, d_amount = self._at(self._amount, theta)
        part, d_part = self._at(self._part, theta)
        time = time + lag + self.repeat * interval
        d_time = d_time + d_lag + self.repeat[:, None] * d_interval
        value = part * amount
        d_value = part[:, None] * d_amount + amount[:, None] * d_part
        on = np.flatnonzero(self.kind == RATE)
        sample = self.sample
        kind = self.kind
        state = self.state
        if len(on):
            pace, d_pace = self._at(self._pace, theta)
            pace, d_pace = pace[on], d_pace[on]
            if not (pace > 0).all() or not (value[on] >= 0).all():
                raise ValueError("the rate and the duration of an infusion must be positive, its amount not negative")
            given = value[on]
            d_given = d_value[on]
            by_rate = self.by_rate[on]
            ratio = given / pace  # the duration where the rate is given, the rate where the duration is
            d_ratio = (d_given - ratio[:, None] * d_pace) / pace[:, None]
            rate = np.where(by_rate, pace, ratio)
            d_rate = np.where(by_rate[:, None], d_pace, d_ratio)
            duration = np.where(by_rate, ratio, pace)
            d_duration = np.where(by_rate[:, None], d_ratio, d_pace)
            value[on] = rate
            d_value[on] = d_rate
            sample = np.concatenate([sample, sample[on]])
            kind = np.concatenate([kind, kind[on]])
            state = np.concatenate([state, state[on]])
            d_time = np.concatenate([d_time, d_time[on] + d_duration])
            time = np.concatenate([time, time[on] + duration])
            value = np.concatenate([value, -rate])
            d_value = np.concatenate([d_value, -d_rate])
        order = np.lexsort((np.arange(len(time)), time, sample))
        return Actions(sample[order], kind[order], state[order], time[order], value[order], d_time[order], d_value[order])
