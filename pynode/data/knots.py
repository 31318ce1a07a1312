"""What the knots of an input are for the steps of a solve: their ends, or nothing."""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import own_array

Knots = Literal["auto", "step", "smooth"]

CORNER = 0.1
"""knots="auto": a slope that changes at a knot by more than this part of its root mean square has a corner there."""

KINK, BEND = 1 / 8, 1 / 128
"""How far lines and cubics lie off a smooth curve through knots with gaps h, at most, to leading order: the first times h
times the change of the slope at a knot, the second times h^2 times the change of the second derivative."""


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


def goes_over(knots: Knots, kind: str, t: NDArray[np.float64], coef: NDArray[np.float64], rtol: float) -> bool:
    """Whether steps go over the knots of one sample.

    Parameters
    ----------
    knots, kind : str
        Options of its signal.
    t : (K,) array
        Its knots.
    coef : (K - 1, degree + 1, m) array
        Its polynomials between them, by powers.
    rtol : float
        "auto": the relative tolerance of steps whose error is controlled; 0: steps end at knots, whatever the values.

    Returns
    -------
    bool

    Notes
    -----
    Error estimates miss kinks by chance: those of high orders are sums with signs that cancel. So they are not relied on:
    "auto" goes over knots whose kinks move the input by less than the tolerance, relative to its standard deviation.
    """
    if kind in ("constant", "previous"):
        return False
    if knots != "auto" or rtol == 0:
        return knots == "smooth"
    gap = np.diff(t)[:, None]
    reach = np.maximum(gap[1:], gap[:-1])
    _, c1, c2, c3 = np.pad(coef, ((0, 0), (0, 4 - coef.shape[1]), (0, 0))).swapaxes(0, 1)
    corner = np.abs(np.diff(c1, axis=0)).max(axis=0, initial=0.0) > CORNER * np.sqrt(np.mean(c1**2, axis=0))
    kink = np.abs(c1[1:] - (c1 + 2 * c2 * gap + 3 * c3 * gap**2)[:-1])
    bend = np.abs(2 * c2[1:] - (2 * c2 + 6 * c3 * gap)[:-1])
    moved = (KINK * reach * kink + BEND * reach**2 * bend).max(axis=0, initial=0.0)
    return not (corner | (moved > rtol * coef[:, 0].std(axis=0))).any()


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
