"""States that cannot go beyond a limit: a tank that overflows, an end stop, an actuator at its limit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.fields.field import Field
from pynode.fields.make import field
from pynode.models.trajectories.scaling import Scaling

Array = NDArray[np.float64]

STIFF = 10.0
"""How much faster than the states typically change they return to a limit."""

AT = 0.02
"""A reading that is closer to a limit than this part of its standard deviation says nothing of the slope."""

BEYOND = 4.0
"""Readings at a limit are beyond it by up to so many standard deviations of their noise."""

FEW = 0.1
"""So many of the readings may be, for what reason ever."""

NO_LIMIT = 1e300


def checked_limits(limits: Any) -> None:
    """Refuse what is no dict of state -> (low, high)."""
    if not isinstance(limits, Mapping) or not limits:
        raise TypeError(f"limits={limits!r} must be a dict of state -> (low, high), None where there is none")
    for state, pair in limits.items():
        numbers = pair if isinstance(pair, (tuple, list)) and len(pair) == 2 else ()
        real = [x is None or (isinstance(x, (int, float, np.number)) and not isinstance(x, bool)) for x in numbers]
        if not numbers or not all(real) or all(x is None for x in numbers):
            raise ValueError(f"limits of {state!r} are {pair!r}: give (low, high), one of which may be None")
        low, high = (-np.inf if numbers[0] is None else numbers[0]), (np.inf if numbers[1] is None else numbers[1])
        if not low < high:
            raise ValueError(f"limits of {state!r} are {pair!r}: the low one must be below the high one")


def scaled_limits(limits: Mapping[Any, Any], names: Sequence[str], scaling: Scaling) -> tuple[Array, Array]:
    """(low, high), (d,) each, of the states as a field sees them; infinite where there is none."""
    d = len(scaling.shift)
    low, high = np.full(d, -np.inf), np.full(d, np.inf)
    for state, pair in limits.items():
        if state not in names and not (isinstance(state, (int, np.integer)) and 0 <= state < len(names)):
            raise ValueError(f"limits are given for {state!r}, which is not one of the states {', '.join(names)}")
        j = names.index(state) if state in names else int(state)
        for found, value in ((low, pair[0]), (high, pair[1])):
            if value is None:
                continue
            if scaling.log and value <= 0:
                raise ValueError(f"limits of {state!r} are {pair!r}: with log=True they must be positive")
            y = np.ones(d)
            y[j] = value
            found[j] = scaling.states(y)[j]
    return low, high


def check_within(readings: Array, noise: Array, low: Array, high: Array, names: Sequence[str]) -> None:
    """Refuse limits that many readings of a state are beyond, by more than their noise.

    Parameters
    ----------
    readings : (N, d) array
        As the field sees them, NaN where nothing was read.
    noise : (d,) array
        Their variances.
    low, high : (d,) arrays
        The limits.
    names : sequence of str
        Of the states.
    """
    room = BEYOND * np.sqrt(np.nan_to_num(noise))
    beyond = ((readings < low - room) | (readings > high + room)).sum(axis=0)
    read = (~np.isnan(readings)).sum(axis=0)
    for j in np.flatnonzero(beyond > FEW * read).tolist():
        raise ValueError(
            f"limits: {beyond[j]} of {read[j]} readings of {names[j]} lie beyond its limits by more than noise: a state "
            "stops at its limits, so no fit can follow them: give wider limits, or none"
        )


def led_back(network: Field, low: Array, high: Array, rate: Array, how: str) -> Field:
    """The network, and beyond a box f(c) + rate (c - y) with c = clip(y, low, high): within it, f to the last bit.

    Parameters
    ----------
    network : Field
        With d states.
    low, high : (d,) arrays
        The box; infinite where there are no limits.
    rate : (d,) array
        How strong the pull is.
    how : str
        For its name.

    Returns
    -------
    Field
        With the same parameters.
    """
    low = np.maximum(low, -NO_LIMIT)
    high = np.minimum(high, NO_LIMIT)
    make = partial(field, state=network.d, theta={"net": network}, name=f"{network.name}, {how}")

    def value(t: Any, y: Any, th: Any, *u: Any) -> Any:
        inside = np.clip(y, low, high)
        return th.net(t, inside, *u) + rate * (inside - y)

    if network.inputs:
        return make(inputs=network.inputs)(lambda t, y, th, u: value(t, y, th, u))
    return make()(lambda t, y, th: value(t, y, th))


def with_stops(network: Field, low: Array, high: Array, rate: float) -> Field:
    """The network at the states within the limits, and a pull that leads back to them.

    With c = clip(y, low, high) it is f(c) + k (c - y), which within the limits is f. Beyond them the state settles where the
    pull holds what drives it outward, and leaves at once when that turns: not as if it had gone on.

    Parameters
    ----------
    network : Field
        With d states.
    low, high : (d,) arrays
        Limits; infinite where there are none.
    rate : float
        k.
    """
    k = np.where(np.isfinite(low) | np.isfinite(high), rate, 0.0)
    return led_back(network, low, high, k, "within limits")


def without_slopes_at(smoothed: Any, low: Array, high: Array) -> Any:
    """Smoothed data (scaled) without slopes where a state is at its limit: the pull balances whatever they would be."""
    spread = np.nanstd(np.concatenate(smoothed.y), axis=0)
    slopes = []
    for y, slope in zip(smoothed.y, smoothed.slope, strict=True):
        with np.errstate(invalid="ignore"):
            there = ((y <= low + AT * spread) | (y >= high - AT * spread)).any(axis=1)
        slopes.append(np.where(there[:, None], np.nan, slope))
    return replace(smoothed, slope=slopes)


def pull(smoothed: Any, scaled: bool) -> float:
    """The rate of the pull in the units of time of the field; scaled: those in which slopes are of order one."""
    if scaled:
        return STIFF
    spread = np.nanstd(np.concatenate(smoothed.y), axis=0)
    speed = np.concatenate(smoothed.slope) / np.where(spread > 0, spread, np.inf)
    rate = float(np.sqrt(np.nanmean(speed**2)))
    return STIFF * (rate if rate > 0 else 1.0)
