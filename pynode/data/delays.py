"""Signals that take effect later than they are measured, and signals that go otherwise between the same knots."""

import numpy as np
from numpy.typing import NDArray

from pynode.data.signal import Kind, Signal

Array = NDArray[np.float64]

SAME = 1e-6
"""Knots that are closer to each other than this part of the shortest interval are one."""


def of_kind(signal: Signal, kind: Kind) -> Signal:
    """The signal through the same values at the same knots, of another kind; constants are left as they are.

    Parameters
    ----------
    signal : Signal
    kind : {"previous", "linear", "cubic"}

    Returns
    -------
    Signal
    """
    if signal.kind in ("constant", kind) or any(len(t) < 2 for t in signal.t):
        return signal
    knots = "auto" if kind == "previous" else signal.knots
    if signal.shared:
        return Signal(signal.t[0], signal.u[0], kind, knots)
    return Signal(signal.t, signal.u, kind, knots)


def delayed(signal: Signal, by: Array) -> Signal:
    """The signal u(t - by), an input by itself; before its first knot it is what it is there.

    Parameters
    ----------
    signal : Signal
        Of m inputs.
    by : (m,) array
        The delay of each input, >= 0.

    Returns
    -------
    Signal
        Known where the signal itself is, and up to the shortest delay longer.

    Raises
    ------
    ValueError
        The inputs of a cubic have different delays: cubics between different knots are not one between all of them.
    """
    by = np.broadcast_to(np.asarray(by, dtype=np.float64), (signal.m,))
    if signal.kind == "constant" or not by.any():
        return signal
    if signal.kind == "cubic" and np.ptp(by) > 0:
        raise ValueError(
            f"the inputs have the delays {by.tolist()}: with different ones input_kind must be 'linear' or 'previous'"
        )
    parts = [_delayed(t, u, by, signal.kind) for t, u in zip(signal.t, signal.u, strict=True)]
    if signal.shared:
        return Signal(*parts[0], signal.kind, signal.knots)
    return Signal([t for t, _ in parts], [u for _, u in parts], signal.kind, signal.knots)


def _delayed(t: Array, u: Array, by: Array, kind: str) -> tuple[Array, Array]:
    """Knots and values of one sample."""
    last = t[-1] + by.min()
    knots = np.unique(np.concatenate([t[:1], *[t + b for b in np.unique(by)]]))
    near = SAME * float(np.diff(t).min()) if len(t) > 1 else 0.0  # t + a and t + b may differ by rounding
    knots = knots[(np.diff(knots, prepend=-np.inf) > near) & (knots <= last)]
    own = t[np.minimum(np.searchsorted(t, knots - near), len(t) - 1)]
    knots = np.unique(np.where(np.abs(own - knots) <= near, own, knots))  # jumps at t are at t, not just before or after
    values = np.empty((len(knots), len(by)))
    for j, b in enumerate(by):
        if kind == "previous":
            at = np.searchsorted(t + b, knots + near, side="right") - 1
            values[:, j] = u[np.maximum(at, 0), j]
        else:
            values[:, j] = np.interp(knots, t + b, u[:, j])
    return knots, values
