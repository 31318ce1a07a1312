"""What the knots of an input are for the steps of a solve: their ends, or nothing."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import own_array

Knots = Literal["auto", "step", "smooth"]

CORNER = 0.1
"""knots="auto": a slope that changes at a knot by more than this part of its root mean square has a corner there."""

SLACK = 1e-12
"""By how much of its size a time may lie beyond the knots, by rounding: the polynomials at the ends go on there."""

KINK = 1 / 8
BEND = 1 / 128
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


def all_digits(x: float) -> str:
    """A number with as many digits as tell it from others."""
    return repr(float(x)).removesuffix(".0")


def check_span(
    t: NDArray[np.float64], kind: str, low: float, high: float, sample: int, text: Callable[[float], str] = all_digits
) -> None:
    """Check that the signal of a sample with knots t, of any kind but "constant", is known on [low, high]."""
    first = float(t[0])
    last = np.inf if kind == "previous" else float(t[-1])
    slack = SLACK * max(abs(first), abs(float(t[-1])))
    if low < first - slack or high > last + slack:
        raise ValueError(
            f"inputs of sample {sample} are known on [{text(first)}, {text(last)}], but its times reach from "
            f"{text(float(low))} to {text(float(high))}: give knots that cover them"
        )


def refuse_function(u: Any) -> None:
    """Values at knots are numbers."""
    if callable(u):
        raise TypeError(
            f"inputs: {u!r} is a function; inputs are numbers: give values at knots, (t, u(t)), or call the function in the "
            "field, which knows t"
        )


def not_finite(t: NDArray[np.float64], u: NDArray[np.float64], kind: str, dtype: Any) -> str:
    """Which of the values (K, m) at knots (K,) is NaN or infinite in a precision, for messages; empty where none is."""
    with np.errstate(over="ignore"):
        bad = np.argwhere(~np.isfinite(u.astype(dtype)))
    if not len(bad):
        return ""
    knot, entry = (int(k) for k in bad[0])
    where = "" if kind == "constant" else f" at its knot {knot} (t = {t[knot]:g})"
    return f", input {entry}{where} is {u[knot, entry]}"
