"""Where an event function of torch crosses 0 along a solution."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from pynode.calls.solve import solve
from pynode.fields.field import Field
from pynode.torch.tensors import to_array

FIRST, DOUBLINGS = 1.0, 24
"""Length of the first stretch that is searched; how often it is doubled."""

WITHIN = 4
"""So many places in each step are looked at."""

POLISH = 3
"""Steps of Newton's method at the end."""


def find_event(
    field: Field,
    theta: Any,
    y0: Any,
    t0: Any,
    event_fn: Callable[..., Any],
    backwards: bool,
    options: dict[str, Any],
    solve_to: Callable[..., Any],
) -> tuple[Any, Any]:
    """The event and the states, differentiable.

    Parameters
    ----------
    field, theta : Field, tensor
        What is solved.
    y0, t0 : tensors
        From where.
    event_fn : callable
        event_fn(t, y).
    backwards : bool
        Time runs backwards.
    options : dict
        How it is solved.
    solve_to : callable
        solve_to(field, theta, y0, t, options) -> states (T, ..., d).

    Returns
    -------
    event time (), states (2, ..., d)

    Notes
    -----
    With g the event function, T its time and y(T) the state there, g(T, y(T)) = 0 gives dT = -dg / (g_t + g_y f), with dg
    the change of g at the fixed time T.
    """
    with torch.no_grad():
        low, high, which = _bracket(field, theta, y0, t0, event_fn, backwards, options)
        at = _bisect(field, theta, y0, t0, event_fn, (low, high), which, options)

    def state(time: Any) -> Any:
        return solve_to(field, theta, y0, torch.stack([t0, time]), options)

    def value(time: Any, y: Any) -> Any:
        return event_fn(time.to(y0.dtype), y).reshape(-1)[which].to(torch.float64)

    time = torch.tensor(at, dtype=torch.float64)
    for last in (*[False] * POLISH, True):
        y = state(time) if last else state(time).detach()
        rate, slope = _slopes(field, theta, time, y[-1].detach(), value)
        g = value(time, y[-1])
        if not last:
            step = g.detach() / slope
            time = time - step if torch.isfinite(step) and abs(step) <= abs(high - low) else time
    event = time - (g - g.detach()) / slope
    return event.to(y0.dtype), torch.stack([y[0], y[-1] + rate * (event - time).to(y0.dtype)])


def _slopes(field: Field, theta: Any, time: Any, y: Any, value: Callable[..., Any]) -> tuple[Any, Any]:
    """(f, dg/dt along the solution) at the event, without a gradient."""
    flat = to_array(y).reshape(-1, field.d).astype(np.float64)
    rate = torch.from_numpy(field(float(time), flat, to_array(theta).astype(np.float64))).to(y.dtype).reshape(y.shape)
    with torch.enable_grad():
        a, b = time.detach().requires_grad_(), y.detach().requires_grad_()
        found = torch.autograd.grad(value(a, b), (a, b), allow_unused=True)
    slope = 0.0 if found[0] is None else found[0]
    slope = slope + (0.0 if found[1] is None else (found[1] * rate).sum().to(torch.float64))
    if float(slope) == 0.0:
        raise RuntimeError(
            f"event_fn does not change along the solution at its event, t = {float(time):g}: it has no gradient"
        )
    return rate, torch.as_tensor(slope, dtype=torch.float64).detach()


def _bracket(
    field: Field, theta: Any, y0: Any, t0: Any, event_fn: Callable[..., Any], backwards: bool, options: dict[str, Any]
) -> tuple[float, float, int]:
    """Two times between which a number of event_fn changes its sign, and which one."""
    begin = here = float(t0)
    way = -1.0 if backwards else 1.0
    length = FIRST
    states = to_array(y0).reshape(-1, field.d)
    old = _event(event_fn, here, y0)
    for _ in range(DOUBLINGS):
        sol = solve(field, states, [here, here + way * length], to_array(theta), dense=True, errors="raise", **options)
        ends = np.unique(np.concatenate(sol.grids))[:: int(way)]
        places = np.concatenate([np.linspace(a, b, WITHIN + 1)[1:] for a, b in pairwise(ends)])
        values = sol(places)
        for i, time in enumerate(places):
            new = _event(event_fn, time, torch.from_numpy(values[:, i]).to(y0.dtype).reshape(y0.shape))
            crossed = np.flatnonzero((np.sign(old) != np.sign(new)) & (np.sign(old) != 0))
            if len(crossed):
                return begin, float(time), int(crossed[0])
            old, begin = new, float(time)
        states = sol.y[:, -1].astype(states.dtype)
        here += way * length
        length *= 2
    raise RuntimeError(f"no event between t = {float(t0):g} and {here:g}: event_fn keeps its sign")


def _event(event_fn: Callable[..., Any], time: float, y: Any) -> Any:
    value = event_fn(torch.tensor(time, dtype=y.dtype), y).detach().reshape(-1)
    return value.double().cpu().numpy()


def _bisect(
    field: Field,
    theta: Any,
    y0: Any,
    t0: Any,
    event_fn: Callable[..., Any],
    between: tuple[float, float],
    which: int,
    options: dict[str, Any],
) -> float:
    """The crossing on the dense output."""
    states, theta = to_array(y0).reshape(-1, field.d), to_array(theta)
    sol = solve(field, states, [float(t0), between[1]], theta, dense=True, errors="raise", **options)

    def at(time: float) -> float:
        y = torch.from_numpy(sol(time)).to(y0.dtype).reshape(y0.shape)
        return float(_event(event_fn, time, y)[which])

    low, high = between
    sign = np.sign(at(low))
    for _ in range(60):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (middle, high) if np.sign(at(middle)) == sign else (low, middle)
    return high
