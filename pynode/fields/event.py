"""Declaring events: `event`, and `Hybrid`, a field with its events as programs of one theta."""

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pynode.fields import parameters
from pynode.fields.field import Field, Parameters, run
from pynode.fields.parameters import Parameter
from pynode.programs.tracing import new_trace, trace


@dataclass(frozen=True, eq=False)
class Event:
    """See `event`, which makes it."""

    g: Any
    terminal: bool
    direction: int
    reset: Any
    hold: bool
    name: str

    def parts(self):
        """(name, function or Field, numbers returned or None for d)."""
        return [("g", self.g, 1)] + ([] if self.reset is None else [("reset", self.reset, None)])


def event(g, *, terminal=None, direction=0, reset=None, hold=False, name=None):
    """Something that happens where g(t, y; theta) changes its sign.

    Parameters
    ----------
    g : function g(t, y) or g(t, y, th) -> number, or Field with out=1
        A function is traced like a field; `th` are the parameters of the vector field. A Field has parameters of its own,
        which stand behind those of the vector field in theta (`Hybrid`).
    terminal : bool, optional
        Whether the sample ends there. Default: unless there is a reset.
    direction : {0, 1, -1}
        Which changes count: both, rising (from - to +), falling.
    reset : function or Field with out=d, optional
        y+ = R(t, y-; theta), the state from which the sample goes on.
    hold : bool
        Results at times after a terminal event are the state there (after its reset) instead of NaN.
    name : str, optional

    Returns
    -------
    Event

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
    name = name or getattr(g, "name", None) or getattr(g, "__name__", "event")
    return Event(g, terminal, int(direction), reset, bool(hold), name)


class Hybrid:
    """A vector field with events; its theta is [field | parameters of the Fields among g and reset, event by event].

    `solve` and `loss_and_grad` make one of their `events`; make it yourself to get at ``n_params``, ``init`` and ``split``.

    Parameters
    ----------
    field : Field
    events : Event or list of Event
    """

    def __init__(self, field, events):
        events = [events] if isinstance(events, Event) or not isinstance(events, (list, tuple)) else list(events)
        if not events or not all(isinstance(e, Event) for e in events):
            raise TypeError("events must be a pynode.event or a non-empty list of them")
        if not isinstance(field, Field):
            raise TypeError(f"events belong to a Field, not to {type(field).__name__}")
        if field.n_out != field.d:
            raise ValueError(
                f"{field.name} maps {field.d} state components to {field.n_out}: a vector field has as many of each"
            )
        self.field, self.events = field, tuple(events)
        spec, self.offsets = list(field.spec), {}
        for i, e in enumerate(events):
            for part, f, n_out in e.parts():
                if not isinstance(f, Field):
                    continue
                n_out = field.d if n_out is None else n_out
                if f.d != field.d or f.n_out != n_out:
                    raise ValueError(
                        f"{part} of event {i} ({e.name}) maps {f.d} state components to {f.n_out}; with this field it must "
                        f"map {field.d} to {n_out}" + (" (pynode.field(state=d, out=1))" if part == "g" else "")
                    )
                self.offsets[i, part] = parameters.total(spec)
                spec += parameters.shifted(f.spec, f"event{i}.{part}", parameters.total(spec))
        self.spec = tuple(spec)
        self.name = f"{field.name} with events"
        self.d, self.n_params = field.d, parameters.total(spec)

    def init(self, seed=None):
        """Initial parameters (n_params,)."""
        return parameters.initial(self.spec, seed)

    def split(self, theta):
        """theta as a dict of views: "field", and "event0.g", "event0.reset", ... where these have parameters."""
        theta = parameters.checked_theta(self.spec, theta)
        parts = {"field": theta[: self.field.n_params]}
        for (i, part), at in self.offsets.items():
            n = getattr(self.events[i], part).n_params
            if n:
                parts[f"event{i}.{part}"] = theta[at : at + n]
        return parts

    @cached_property
    def watch(self):
        """All event functions as one Field (out = number of events) of t, y and the whole theta."""
        return self._traced([(i, "g", e.g, 1) for i, e in enumerate(self.events)], "events")

    @cached_property
    def resets(self):
        """For each event the Field of its reset, of the whole theta, or None."""
        return [
            None if e.reset is None else self._traced([(i, "reset", e.reset, self.d)], f"reset of {e.name}")
            for i, e in enumerate(self.events)
        ]

    def _traced(self, parts, name):
        where = new_trace((1, self.d, 0), (self.n_params,))
        theta: Any = where.theta()
        t, y = where.slot(0, ()), where.slot(1)
        values = []
        for i, part, f, size in parts:
            if isinstance(f, Field):
                at = self.offsets[i, part]
                own = theta[at : at + f.n_params] if f.n_params else None
                values.append(f.bind(own)(t, y))
            else:
                values.append(trace(f, [t, y, *self._th(f, theta)], where, size))
        value: Any = np.concatenate([v.reshape(-1) for v in values])
        spec = (Parameter("theta", (self.n_params,), 0, ("value", [0.0] * self.n_params)),) if self.n_params else ()
        return Field(where.builder.finish([value.register]), spec, name)

    def _th(self, fn, theta):
        """The third argument of a traced function, if it takes one: the field's parameters."""
        try:
            inspect.signature(fn).bind(None, None)
            return []
        except TypeError:
            pass
        try:
            inspect.signature(fn).bind(None, None, None)
        except TypeError:
            raise TypeError(
                f"{fn.__name__}{inspect.signature(fn)}: an event and its reset are functions of (t, y) or (t, y, th)"
            ) from None
        spec, n = self.field.spec, self.field.n_params
        if not n:
            raise TypeError(f"{fn.__name__} takes th, but {self.field.name} has no parameters")
        if len(spec) == 1 and spec[0].name == "theta":
            return [theta[:n].reshape(spec[0].shape)]
        return [Parameters(parameters.nested(spec, lambda p: theta[p.offset : p.stop].reshape(p.shape)), theta[:n])]


def pull_back(field, t, y, theta, seed):
    """(value, s f_y (n, d), s f_t (n,), s f_theta (n_params,) summed) of an event function or a reset."""
    values = {"t": t, "y": y, "u": None, "seed": seed}
    (value, gy, gt, _), grads = run(field.vjp_program, values, [theta])
    gy = np.zeros_like(y) if gy is None else gy
    gt = np.zeros(len(y)) if gt is None else gt[:, 0]
    return value, gy, gt, grads[0] if grads else np.zeros(field.n_params)
