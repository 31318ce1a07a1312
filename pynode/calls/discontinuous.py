"""Where inputs, jumps and resets take the state off the algebraic equations of M dy/dt = f: `check_discontinuities`.

There the algebraic variables must move at once, and the step from there on has to find where. It finds them exactly where f
is affine along the way; else with an error of first order in the step, and a nonlinear equation perhaps not at all. Steps
whose error is controlled become as short as that asks for, or fail.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pynode.calls.consistent import ROUNDING, SATISFIED, newton_steps, slopes_of, spaces
from pynode.data.batch import Batch
from pynode.data.signal import Signal, as_signal
from pynode.engine.options import Options
from pynode.errors import OK, SolveError, SolveWarning, users_level
from pynode.fields.field import Field
from pynode.fields.system import System

Array = NDArray[np.float64]

DAMPED = ("rodas4", "rodas5p")
"""Methods whose error estimates hold where algebraic variables move at once, too (Hairer, Wanner, Solving ODEs II, VI.4)."""


REMEDIES = {
    "inputs=": "give inputs that are linear between knots",
    "events=": "let the reset return a state that satisfies them",
    "jump=": "let the jump return a state that satisfies them",
}
"""What leaves the equations -> what to do."""

NEAR = 1e-6
"""Samples that end within this part of their time from a discontinuity failed there."""


class _Places(NamedTuple):
    """Where a sample may leave the equations, and what does it (`name`): times, states, inputs before and after.

    Without inputs before, states are those after.
    """

    name: str
    t: Array
    y: Array
    before: Array | None
    after: Array | None

    def of(self, k: NDArray[Any]) -> _Places:
        """Some of them."""
        return _Places(self.name, self.t[k], self.y[k], *(None if u is None else u[k] for u in (self.before, self.after)))


def check_discontinuities(
    f: Field | System,
    batch: Batch,
    options: Options,
    theta: NDArray[Any],
    results: Any,
    jumps: Any,
    events: Any,
    errors: str,
) -> None:
    """Warn of results that are wrong behind a discontinuity, or raise; nothing to do where M is regular.

    Parameters
    ----------
    f, batch, options, theta
        What was solved.
    results : mapping
        Of the core: y, status and stop_t.
    jumps : (rows,) bool array or None
        Which rows of the results jump.
    events : Events or None
        What happened.
    errors : {"warn", "raise", "ignore", "once"}
        What to do; "once" as "warn".
    """
    if options.mass is None or errors == "ignore":
        return
    field = f.field if isinstance(f, System) else f
    left, right = spaces(options.mass_matrix(field.d))
    signal = as_signal(options.inputs, field.inputs)
    held = signal is not None and signal.kind == "previous"
    if not right.shape[1] or not (held or jumps is not None or events is not None):
        return
    fixed = options.step is not None or options.grid is not None
    sure = fixed or options.method in DAMPED
    row_times = batch.row_times()
    for i in np.flatnonzero(fixed | (results["status"] != OK)).tolist():
        own = (theta if theta.ndim == 1 else theta[i])[: field.n_params].astype(np.float64)
        rows = slice(int(batch.row[i]), int(batch.row[i] + batch.length[i]))
        t = row_times[rows]
        y = results["y"][rows].astype(np.float64)
        for places in _places(f, signal, t, y, i, None if jumps is None else jumps[rows], events):
            near = np.abs(places.t - results["stop_t"][i]) <= NEAR * abs(t[-1] - t[0])
            found = _first_wrong(field, own, places if fixed else places.of(near), left, right, sure)
            if found is not None:
                _say(i, places.name, *found, fixed, options.method, errors)
                return


def _places(f: Field | System, signal: Signal | None, t: Array, y: Array, i: int, jumps: Any, events: Any) -> list[_Places]:
    """Those of sample i: behind resets, behind jumps, and where inputs jump."""
    found = []
    if isinstance(f, System) and events is not None:
        mine = [k for k in np.flatnonzero(events.sample == i) if _goes_on(f.events[events.which[k]])]
        found.append(_behind("events=", events.t[mine], events.after[mine].astype(np.float64), signal, i))
    if jumps is not None:
        found.append(_behind("jump=", t[jumps], y[jumps], signal, i))
    if signal is not None and signal.kind == "previous":
        source = 0 if signal.shared else i
        found.append(_knots(signal.t[source], signal.u[source], t, y))
    return [p for p in found if len(p.t)]


def _behind(name: str, t: Array, y: Array, signal: Signal | None, i: int) -> _Places:
    """Places whose states are those after what happened."""
    return _Places(name, t, y, None, None if signal is None else signal(t, i))


def _goes_on(event: Any) -> bool:
    return event.reset is not None and not event.terminal


def _knots(knots: Array, u: Array, t: Array, y: Array) -> _Places:
    """Where an input that is held jumps between the first and the last time, with the last state that is known before."""
    way = 1.0 if t[-1] >= t[0] else -1.0
    k = 1 + np.flatnonzero((u[1:] != u[:-1]).any(axis=1))
    k = k[(knots[k] > min(t[0], t[-1])) & (knots[k] < max(t[0], t[-1]))]
    k = k if way > 0 else k[::-1]
    row = np.searchsorted(way * t, way * knots[k], side="right") - 1
    sides = (u[k - 1], u[k]) if way > 0 else (u[k], u[k - 1])
    return _Places("inputs=", knots[k], y[row], *sides)


def _first_wrong(
    field: Field, theta: Array, p: _Places, left: Array, right: Array, sure: bool
) -> tuple[float, int, float] | None:
    """(time, component, how far it must move) of the first place behind which the result is wrong; None: there is none.

    sure: the steps follow where f is affine along the way.
    """
    y = p.y
    with np.errstate(all="ignore"):
        if p.before is not None:
            y = y + newton_steps(field, p.t, y, theta, p.before, left, right, strict=False)[0]
        move, noise = newton_steps(field, p.t, y, theta, p.after, left, right, strict=False)
        moved = np.abs(move) > SATISFIED * np.abs(y) + ROUNDING * noise
        bad = moved.any(axis=1)
        if sure:
            bad &= _bent(field, p.t, y, theta, p.after, move)
    if not bad.any():
        return None
    k = int(np.argmax(bad))
    c = int(np.argmax(np.where(moved[k], np.abs(move[k]), 0.0)))
    return float(p.t[k]), c, float(abs(move[k, c]))


def _bent(field: Field, t: Array, y: Array, theta: Array, u: Any, move: Array) -> NDArray[np.bool_]:
    """(n,) whether f is not affine between y and y + move."""
    here, there = (np.asarray(field(t, x, theta, u), dtype=np.float64).reshape(y.shape) for x in (y, y + move))
    along = (slopes_of(field, t, y, theta, u) @ move[..., None])[..., 0]
    size = np.abs(here) + np.abs(there) + np.abs(along)
    return np.asarray((np.abs(there - here - along) > SATISFIED * size).any(axis=1))


def _say(i: int, name: str, t: float, component: int, move: float, fixed: bool, method: Any, errors: str) -> None:
    remedies = [REMEDIES[name], "solve up to there and go on from pynode.consistent_state"]
    if fixed or method not in DAMPED:
        remedies.insert(1, "take method='rodas5p' or 'rodas4' with steps that are chosen (no step=, no grid=)")
    outcome = "prescribed steps do not follow, the result is wrong" if fixed else "the solve failed"
    words = (
        f"sample {i}: {name} leaves the algebraic equations of mass= at t = {t:g}, where component {component} of the state "
        f"has to move by about {move:.2g} at once; {outcome} from there "
        f"on: {', or '.join(remedies)}"
    )
    if errors == "raise":
        raise SolveError(words)
    warnings.warn(words, SolveWarning, stacklevel=users_level())
