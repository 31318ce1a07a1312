"""Declaring events: `event`, which a `System` or `events=` takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pynode.fields import parameters
from pynode.fields.field import Field, Parameters
from pynode.fields.parameters import Parameter
from pynode.programs.tracing import new_trace, trace


@dataclass(frozen=True, eq=False)
class Event:
    """Something that happens where g(t, y; theta) changes its sign; made by `event`.

    Parameters
    ----------
    g : function or Field
        The event function.
    terminal : bool
        Whether the sample ends there.
    direction : {0, 1, -1}
        Which changes of sign count: both, rising, falling.
    reset : function or Field, or None
        The state from which the sample goes on.
    hold : bool
        Whether results after a terminal event are the state there instead of NaN.
    name : str
        What it is called in messages.

    See Also
    --------
    event : makes one, and checks what it is made of.

    Examples
    --------
    >>> import pynode as pn
    >>> pn.event(lambda t, y: y[0] - 1.0, direction=1, name="arrival").terminal
    True
    """

    g: Any
    terminal: bool
    direction: int
    reset: Any
    hold: bool
    name: str

    def parts(self, d: int) -> dict[str, tuple[Any, int]]:
        """Its functions.

        Parameters
        ----------
        d : int
            Size of the state.

        Returns
        -------
        dict
            "g" and, where there is one, "reset" -> (function or Field, how many numbers it returns).
        """
        return {"g": (self.g, 1)} | ({} if self.reset is None else {"reset": (self.reset, d)})


def event(
    g: Callable[..., Any] | Field,
    *,
    terminal: bool | None = None,
    direction: Literal[0, 1, -1] = 0,
    reset: Callable[..., Any] | Field | None = None,
    hold: bool = False,
    name: str | None = None,
) -> Event:
    """Something that happens where g(t, y; theta) changes its sign.

    Parameters
    ----------
    g : function g(t, y) or g(t, y, th) -> number, or Field with out=1
        A function is traced like a field; `th` are the parameters of the vector field. A Field has parameters of its own,
        which stand behind those of the vector field in theta, see `System`.
    terminal : bool, optional
        Whether the sample ends there. Default: unless there is a reset.
    direction : {0, 1, -1}
        Which changes count: both, rising (from - to +), falling.
    reset : function or Field with out=d, optional
        y+ = R(t, y-; theta), the state from which the sample goes on.
    hold : bool
        Results at times after a terminal event are the state there (after its reset) instead of NaN.
    name : str, optional
        What it is called in messages; default: the name of g.

    Returns
    -------
    Event

    Raises
    ------
    TypeError, ValueError
        g or reset is no function or Field, is a Python callback or takes inputs; direction or hold have no meaning. Where it
        is solved: g returns a condition, whose sign never changes.

    See Also
    --------
    System : a field with its events, jumps and loss.
    EventSolution : what a solve with events returns.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> @pn.field(state=2, theta={"gravity": 9.81, "restitution": 0.8})
    ... def ball(t, y, th):
    ...     return [y[1], -th.gravity]
    >>> bounce = pn.event(lambda t, y: y[0], direction=-1, reset=lambda t, y, th: [0.0, -th.restitution * y[1]])
    >>> sol = pn.solve(ball, [1.0, 0.0], [0.0, 1.0], ball.init(), events=bounce)
    >>> bool(abs(sol.events.t[0] - np.sqrt(2 / 9.81)) < 1e-12)
    True
    """
    for part, what in ((g, "g"), (reset, "reset")):
        if part is None and what == "reset":
            continue
        if isinstance(part, Field):
            if part.callbacks is not None:
                raise ValueError(
                    f"{what} is a Python callback; events run in the core: use a function of NumPy or pynode.field"
                )
            if part.inputs:
                raise ValueError(f"{what}: {part.name} takes {part.inputs} inputs; events depend on t, y and theta only")
        elif not callable(part):
            raise TypeError(f"{what} must be a function of (t, y) or (t, y, th), or a Field, not {part!r}")
    if isinstance(direction, bool) or direction not in (-1, 0, 1):
        raise ValueError(f"direction={direction!r} must be 0 (both), 1 (rising) or -1 (falling)")
    terminal = reset is None if terminal is None else bool(terminal)
    if hold and not terminal:
        raise ValueError("hold=True is for terminal events: a sample that goes on has states of its own later")
    called = name or getattr(g, "name", None) or getattr(g, "__name__", "event")
    return Event(g, terminal, int(direction), reset, bool(hold), str(called))


def as_events(events: Event | Sequence[Event] | None) -> tuple[Event, ...]:
    """Events as a tuple; None is none.

    Raises
    ------
    TypeError
        Something is not a `pynode.event`.
    """
    if events is None:
        return ()
    several = events if isinstance(events, (list, tuple)) else [events]
    if not several or not all(isinstance(e, Event) for e in several):
        raise TypeError(f"events={events!r} must be a pynode.event or a non-empty list of them")
    return tuple(several)


class EventPart(NamedTuple):
    """An event function, whose sign counts, or a reset, and where the parameters of a Field begin in theta."""

    f: Callable[..., Any] | Field
    size: int
    offset: int
    signed: bool


def traced_parts(field: Field, parts: Sequence[EventPart], n_params: int, name: str) -> Field:
    """Event functions, or a reset, as one Field of t, y and a whole theta (n_params,), which begins with `field`'s."""
    where = new_trace((1, field.d, 0), (n_params,))
    theta: Any = where.theta()
    t, y = where.slot(0, ()), where.slot(1)
    values = []
    for f, size, offset, signed in parts:
        if isinstance(f, Field):
            own = theta[offset : offset + f.n_params] if f.n_params else None
            values.append(f.bind(own)(t, y))
        else:
            values.append(trace(f, [t, y, *_parameters_for(f, field, theta)], where, size))
            if signed and values[-1].mask:
                raise ValueError(
                    f"the event function {getattr(f, '__name__', repr(f))} returns a condition, 0 or 1, which never changes "
                    "its sign: return a number that does, y[1] - 0.5 in place of y[1] > 0.5"
                )
    value: Any = np.concatenate([v.reshape(-1) for v in values])
    spec = (Parameter("theta", (n_params,), 0, ("value", [0.0] * n_params)),) if n_params else ()
    return Field(where.builder.finish([value.register]), spec, name)


def _parameters_for(function: Callable[..., Any], field: Field, theta: Any) -> list[Any]:
    """The third argument of a traced function, if it takes one: the field's parameters."""
    name, signature = getattr(function, "__name__", repr(function)), inspect.signature(function)
    try:
        signature.bind(None, None)
        return []
    except TypeError:
        pass
    try:
        signature.bind(None, None, None)
    except TypeError:
        raise TypeError(f"{name}{signature}: an event and its reset are functions of (t, y) or (t, y, th)") from None
    spec, n = field.spec, field.n_params
    if not n:
        raise TypeError(f"{name} takes th, but {field.name} has no parameters")
    if len(spec) == 1 and spec[0].name == "theta":
        return [theta[:n].reshape(spec[0].shape)]
    return [Parameters(parameters.nested(spec, lambda p: theta[p.offset : p.stop].reshape(p.shape)), theta[:n])]


class Pulled(NamedTuple):
    """A value and what a cotangent of it pulls back to: see `pull_back`."""

    value: NDArray[np.float64]
    y: NDArray[np.float64]
    t: NDArray[np.float64]
    theta: NDArray[np.float64]
    u: NDArray[np.float64]


def pull_back(
    field: Field,
    t: NDArray[np.float64],
    y: NDArray[np.float64],
    theta: NDArray[np.float64],
    dy: NDArray[np.float64],
    u: NDArray[np.float64] | None = None,
) -> Pulled:
    """Value (n, n_out) of a field at n points, and dy^T df/d(y, t, theta, u) for a cotangent dy (n, n_out).

    theta's is summed over the points.
    """
    slots = [t[:, None], y, np.zeros((len(y), 0)) if u is None else u, dy]
    outputs: tuple[list[Any], list[NDArray[np.float64]]] = field.vjp_program.evaluate(slots, [theta])
    (value, gy, gt, gu), grads = outputs
    return Pulled(
        value,
        np.zeros_like(y) if gy is None else gy,
        np.zeros(len(y)) if gt is None else gt[:, 0],
        grads[0] if grads else np.zeros(field.n_params),
        np.zeros((len(y), field.inputs)) if gu is None else gu,
    )
