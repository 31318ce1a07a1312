"""Initial states of trajectories: free, known, partly known, or functions of the parameters."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import real_array
from pynode.experiments.parts import function
from pynode.fields.constraints import Constrained, positive
from pynode.fields.field import Field
from pynode.fields.states import limits, starts
from pynode.fields.transforms import jacobian

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Initial:
    """What is known of the initial states of B trajectories.

    Attributes
    ----------
    known : (B, d) array
        Values; NaN: not known as a number.
    formula : Field or None
        The values as a function of the parameters and of the inputs at the first time; NaN where it says nothing.
    told : (d,) bool array
        Which states the formula tells.
    start : (B, d) array
        Where free initial states start, if their user said so; else NaN.
    low, high : (d,) arrays
        Between which free initial states stay.
    """

    known: Array
    formula: Field | None
    told: NDArray[np.bool_]
    start: Array
    low: Array
    high: Array

    @property
    def free(self) -> NDArray[np.bool_]:
        """(B, d) which initial states are estimated, each trajectory having its own."""
        return np.isnan(self.known) & ~self.told

    def states(self, theta: Array, free: Array, t: Array, u: Array | None) -> Array:
        """(B, d) initial states.

        Parameters
        ----------
        theta : (p,) array
            The parameters.
        free : (B, d) array
            The free ones; other entries do not count.
        t : (B,) array
            First times.
        u : (B, m) array or None
            Inputs at these times.
        """
        y0 = np.where(self.free, free, self.known)
        if self.formula is not None:
            value = self.formula(t, np.zeros((len(t), self.formula.d)), theta, u)
            y0[:, self.told] = value[:, self.told]
        return y0

    def slopes(self, theta: Array, t: Array, u: Array | None) -> Array:
        """(B, d, p) derivatives of the initial states with respect to the parameters."""
        b, d = self.known.shape
        slope = np.zeros((b, d, len(theta)))
        if self.formula is not None and len(theta):
            value = jacobian(self.formula, "theta")(t, np.zeros((b, self.formula.d)), theta, u)
            slope[:, self.told] = value[:, self.told]
        return slope


def as_initial(initial: Any, field: Field, n: int, names: Sequence[str], read: NDArray[np.bool_] | None = None) -> Initial:
    """What a user said about the initial states.

    Parameters
    ----------
    initial : None, array, dict, Field or callable
        See `pynode.NeuralODE`.
    field : Field
        With d states.
    n : int
        How many trajectories there are.
    names : sequence of str
        Names of the states; () where they have none.
    read : (d,) bool array
        States that are measured themselves: they start from their readings, not from what the field says.

    Returns
    -------
    Initial
    """
    d = field.d
    known = np.full((n, d), np.nan)
    low, high = limits(field) or (np.full(d, -np.inf), np.full(d, np.inf))
    none = (np.zeros(d, bool), np.tile(np.where(False if read is None else read, np.nan, starts(field)), (n, 1)), low, high)
    if initial is None:
        return Initial(known, None, *none)
    if isinstance(initial, Mapping):
        return _of_dict(initial, n, names, *none[1:])
    if isinstance(initial, Field) or callable(initial):
        formula = _formula(initial, field)
        value = formula(0.0, np.zeros(formula.d), formula.init(0), np.zeros(formula.inputs) if formula.inputs else None)
        told = ~np.isnan(value)
        return Initial(known, formula, told, *none[1:])
    values = _numbers("initial", initial)
    if values.shape not in ((d,), (n, d)):
        raise ValueError(
            f"initial has shape {values.shape}: give ({d},) or ({n}, {d}), a row a trajectory, NaN for free ones"
        )
    return Initial(np.array(np.broadcast_to(values, (n, d))), None, *none)


def _formula(initial: Field | Callable[..., Any], field: Field) -> Field:
    """A function of the parameters, and of inputs, as a field."""
    if not isinstance(initial, Field):
        return function("initial", initial, field, field.d, ("th", "u"))
    if initial.n_out != field.d or initial.inputs not in (0, field.inputs):
        raise ValueError(
            f"initial={initial!r} gives {initial.n_out} numbers of {initial.inputs} inputs: it must give the {field.d} "
            f"initial states, of {field.inputs} inputs or none"
        )
    return initial


def _numbers(name: str, value: Any) -> Array:
    """Finite numbers, or NaN."""
    numbers = real_array(name, value, np.float64)
    if np.asarray(value).dtype == bool:
        raise TypeError(f"{name}={value!r} must be numbers, or NaN for initial states that are estimated")
    if np.isinf(numbers).any():
        raise ValueError(f"{name}={value!r} must be finite, or NaN for initial states that are estimated")
    return numbers


def _of_dict(initial: Mapping[Any, Any], n: int, names: Sequence[str], start: Array, low: Array, high: Array) -> Initial:
    """State -> number, (n,) array, None (free), or pn.positive / pn.bounded of a start.

    start (n, d), low and high (d,) are what the field says of its states.
    """
    d = len(low)
    known, start = np.full((n, d), np.nan), start.copy()
    low, high = low.copy(), high.copy()
    seen: set[int] = set()
    for state, value in initial.items():
        j = list(names).index(state) if state in names else state
        if isinstance(j, bool) or not isinstance(j, (int, np.integer)) or not 0 <= j < d:
            there = ", ".join(names) if names else f"0 to {d - 1}"
            raise ValueError(f"initial: {state!r} is not a state; they are {there}")
        if value is None:
            continue
        column = known
        open_start = False
        if value is positive:
            value, open_start = positive(1.0), True
        if isinstance(value, Constrained):
            value, constraint, no_start = value
            open_start |= no_start
            column = start
            if constraint[0] == "positive":
                low[j] = 0.0
            elif constraint[0] == "bounded":
                low[j], high[j] = constraint[1:]
            else:
                column = known  # frozen: known
        if j in seen:
            raise ValueError(f"initial: state {state!r} is there twice, by its name and by its position")
        seen.add(int(j))
        numbers = _numbers(f"initial of {state}", value)
        if numbers.shape not in ((), (n,)):
            raise ValueError(
                f"initial of {state} has shape {numbers.shape}: give one number, or one for each of {n} trajectories"
            )
        if column is start and open_start:
            numbers = np.full((), np.nan)
        elif column is start and not ((numbers > low[j]) & (numbers < high[j])).all():
            raise ValueError(f"initial of {state} must start between {low[j]:g} and {high[j]:g}, not at {value}")
        column[:, j] = numbers
    return Initial(known, None, np.zeros(d, bool), start, low, high)
