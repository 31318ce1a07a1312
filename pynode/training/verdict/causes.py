"""Likely causes of misfit that the data and the solution show.

Codes of missing values, one state that rises and falls, stiffness, parameters at their bounds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.calls.solve import solve
from pynode.engine.options import is_implicit
from pynode.training.curriculum import Run

Array = NDArray[np.float64]

CODES = tuple(
    sign * float(digits) for sign in (-1, 1) for digits in ("99", "999", "9999", "99999", "999999", "1e20", "1e30")
)
"""Numbers that tables hold in place of missing values."""

APART = 3.0
"""They are codes where they are further from all other numbers than this many times the range of those."""

TURN = 4.0
"""Data turn where they rise and fall by more than this many standard deviations of the noise, and ..."""

TURN_PART = 0.2
"""... by this part of their range."""

FINE = 20
"""Steps for each interval between times from which on a solution may be stiff."""

LOOSER = 100.0
"""It is where tolerances this many times larger, with which accuracy needs 2.5 times fewer steps of order 5, ..."""

SAME_STEPS = 1.3
"""... save less than this factor of them."""

MOST_STEPS = 200_000
"""The most steps of a trajectory for this question."""

AT_BOUND = 1e-3
"""A bounded parameter is at its bound when it is closer to it than this part of the distance between both, ..."""

LOOSE = 0.5
"""... unless the data tell that distance, the logarithm of its odds having a smaller standard deviation than this: of a rate
between 1 and 1e9 it may be 1e4."""


def codes(y: Sequence[Array], names: Sequence[str]) -> list[str]:
    """Sentences about numbers that look like codes of missing values; y: list of (T_i, d) in the user's units."""
    words = []
    whole = np.concatenate(y)
    for name, column in zip(names, whole.T, strict=False):
        values = column[~np.isnan(column)]
        for code in CODES:
            found = values == code
            others = values[~found]
            if not found.any() or len(others) < 2:
                continue
            if np.abs(others - code).min() > APART * max(np.ptp(others), 1e-12 * np.abs(others).max()):
                words.append(
                    f"{name} is {code:g} at {found.sum()} times, far from all its other values: it looks like a code for "
                    "missing values; write NaN there (--missing on the command line)"
                )
    return words


def turns(run: Run) -> bool:
    """Whether the only state of an autonomous equation rises and falls, which it cannot."""
    field = run.field
    if field.d != 1 or field.time_dependent or field.inputs or run.data.weight is not None:
        return False
    least = TURN_PART * np.sqrt(12 * run.data.spread[0])
    noise = np.nan_to_num(run.smoothed.variance[0], nan=0.0)
    for y in run.smoothed.y:
        y = y[~np.isnan(y[:, 0]), 0]
        rise = np.max(y - np.minimum.accumulate(y), initial=0.0)
        fall = np.max(np.maximum.accumulate(y) - y, initial=0.0)
        if min(rise, fall) > max(least, TURN * np.sqrt(noise)):
            return True
    return False


def stiff(run: Run) -> bool:
    """Whether stability, not accuracy, bounds the steps along the fitted trajectories."""
    options: dict[str, Any] = dict(run.recipe.options)
    method = options.get("method", "dopri5")
    if run.field.callbacks is not None or is_implicit(method):
        return False
    y0 = np.stack([x[0] for x in run.training.states])

    def steps(looser: float) -> tuple[float, bool]:
        more: dict[str, Any] = options | {
            name: looser * np.asarray(options.get(name, 1e-6))[()] for name in ("rtol", "atol")
        }
        more["max_steps"] = MOST_STEPS
        sol = solve(run.field, y0, run.data.t, run.training.theta, inputs=run.data.signal, errors="ignore", **more)
        return float(np.sum(sol.results["accepted"])), bool(sol.ok)

    many, solved = steps(1.0)
    intervals = sum(len(t) - 1 for t in run.data.t)
    if not solved or many < FINE * intervals:
        return False
    few, solved = steps(LOOSER)
    return solved and many < SAME_STEPS * few


def at_bounds(run: Run, deviation: Array) -> list[tuple[str, float]]:
    """(name, bound) of bounded parameters that ended at one.

    Parameters
    ----------
    run : Run
        What was fitted.
    deviation : (p,) array
        Standard deviations of the coordinates of the parameters; infinite where nothing tells.
    """
    found = []
    for parameter in run.field.spec:
        if parameter.constraint[0] != "bounded":
            continue
        _, low, high = parameter.constraint
        for k in range(parameter.offset, parameter.stop):
            place = (run.training.theta[k] - low) / (high - low)
            if min(place, 1 - place) < AT_BOUND and not deviation[k] < LOOSE:
                name = parameter.name if parameter.size == 1 else f"{parameter.name}[{k - parameter.offset}]"
                found.append((name, float(low if place < 0.5 else high)))
    return found
