"""What the knots of an input are for the steps of a solve: their ends, or nothing."""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import own_array

Knots = Literal["auto", "step", "smooth"]

SMOOTH = 0.25
"""knots="auto": the slope of smooth data changes at no knot by more than this part of its root mean square."""


def check_knots(knots: str, kind: str) -> None:
    """Check the option `knots` of a signal of this kind.

    Raises
    ------
    ValueError
        There is no such choice, or the signal jumps at its knots.
    """
    if knots not in get_args(Knots):
        raise ValueError(f"knots={knots!r} is not one of {', '.join(get_args(Knots))}")
    if knots == "smooth" and kind == "previous":
        raise ValueError("knots='smooth' is for inputs without jumps, kind='previous' has one at each knot: leave knots out")


def goes_over(knots: Knots, kind: str, t: NDArray[np.float64], u: NDArray[np.float64], exact: bool) -> bool:
    """Whether steps go over the knots of one sample.

    Parameters
    ----------
    knots, kind : str
        Options of its signal.
    t, u : (K,) and (K, m) arrays
        Its knots and values.
    exact : bool
        "auto": that they shall end there, whatever the values.

    Returns
    -------
    bool
    """
    if kind in ("constant", "previous"):
        return False
    if knots != "auto" or exact:
        return knots == "smooth"
    slope = np.diff(u, axis=0) / np.diff(t)[:, None]
    kinks = np.abs(np.diff(slope, axis=0)).max(axis=0, initial=0.0)
    return bool((kinks <= SMOOTH * np.sqrt(np.mean(slope**2, axis=0))).all())


def checked(t: Any, u: NDArray[np.float64], i: int, kind: str) -> NDArray[np.float64]:
    """Knots of sample i, checked."""
    times = own_array(f"inputs of sample {i}: t", t, np.float64)
    least = 1 if kind == "previous" else 2
    if u.ndim != 2 or times.shape != (len(u),):
        raise ValueError(
            f"inputs of sample {i}: knots of shape {times.shape} for values of shape {u.shape}: u must be (K, m) for K knots"
        )
    if len(times) < least:
        raise ValueError(f"inputs of sample {i}: kind={kind!r} needs at least {least} knots, got {len(times)}")
    if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise ValueError(f"inputs of sample {i}: the knots must be finite and strictly increasing")
    return times
