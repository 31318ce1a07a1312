"""Systems: a vector field, its jumps, its events and its loss; `System`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.fields import parameters
from pynode.fields.event import Event, EventPart, as_events, event, traced_parts
from pynode.fields.field import Field
from pynode.fields.plans import Plans, Reading

if TYPE_CHECKING:
    from pynode.fields.differences import Scales
    from pynode.fields.parameters import Parameter
    from pynode.programs.hoisting import Hoisted
    from pynode.programs.program import Program


PARTS = ("field", "jump", "loss")
"""In the order of their parameters in theta; those of Fields among the events follow."""


@dataclass(frozen=True, eq=False, repr=False)
class System(parameters.Parametric):
    """A vector field, what happens to the state at data times and at events, and what is minimised.

    theta is one flat vector, [field | jump | loss | Fields among the events, event by event]. `solve`, `loss_and_grad`,
    `Objective`, `check_grad` and `sensitivities` take a system where they take a field.

    Parameters
    ----------
    field : Field
        dy/dt = f(t, y, u; theta).
    jump : Field, optional
        y+ = J(t, y-, x; theta): a field with ``out=d`` (the default) and ``inputs=k``; its input is the row of ``data=`` at
        that save time. A row whose first entry is NaN is left out: the state stays as it is. With k = 0 every time jumps.
    loss : Field, optional
        l(t, y, x; theta): a field with ``out=1`` and ``inputs=k``; its input is the row of the target, and a row whose
        first entry is NaN is left out. With k = 0 every saved row counts.
    events : Event or list of Event, optional
        What happens where functions of t and y change their sign, see `event`. ``events=`` of a call adds to these.

    Attributes
    ----------
    d, n_params : int
        Size of the state; length of theta.
    n_data, n_target : int
        Entries of a row of data and of the loss's target.

    Raises
    ------
    TypeError, ValueError
        A part is no Field, is a callback (only programs run at save times), or its sizes do not fit the field's.

    Examples
    --------
    A Kalman-like filter: the state decays, and moves towards each observation x.

    >>> import numpy as np, pynode as pn
    >>> @pn.field(state=1, theta={"rate": 1.0})
    ... def decay(t, y, th):
    ...     return -th.rate * y
    >>> @pn.field(state=1, theta={"gain": 0.5}, inputs=1)
    ... def update(t, y, th, x):
    ...     return y + th.gain * (x - y)
    >>> system = pn.System(decay, jump=update)
    >>> t, x = np.array([0.0, 1.0, 2.0]), np.array([[np.nan], [1.0], [0.0]])
    >>> sol = pn.solve(system, [2.0], t, system.init(), data=x)
    >>> sol.y_before.shape
    (3, 1)
    """

    field: Field
    jump: Field | None = None
    loss: Field | None = None
    events: Any = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "events", as_events(self.events or None))
        for name in PARTS:
            part = getattr(self, name)
            if not isinstance(part, Field) and (part is not None or name == "field"):
                raise TypeError(
                    f"{name} must be a Field (pynode.mlp, pynode.field, ...){'' if name == 'field' else ' or None'}, "
                    f"not {type(part).__name__}"
                )
        d = self.field.d
        if self.field.n_out != d:
            raise ValueError(
                f"field must be a vector field, with as many outputs as state components, not {d} to {self.field.n_out}"
            )
        for name, n_out in (("jump", d), ("loss", 1)):
            part = getattr(self, name)
            if part is None:
                continue
            if part.callbacks is not None:
                raise ValueError(f"{name} is a Python callback; only programs (pynode.field, pynode.mlp) run at save times")
            if part.d != d or part.n_out != n_out:
                raise ValueError(
                    f"{name} maps {part.d} state components to {part.n_out}; with this field it must map {d} to {n_out}"
                    + (" (field(state=d, out=1, inputs=k))" if name == "loss" else "")
                )
        self._check_events()

    def _check_events(self) -> None:
        d = self.d
        for i, e in enumerate(self.events):
            for part, (f, n_out) in e.parts(d).items():
                if isinstance(f, Field) and (f.d != d or f.n_out != n_out):
                    raise ValueError(
                        f"{part} of event {i} ({e.name}) maps {f.d} state components to {f.n_out}; with this field it must "
                        f"map {d} to {n_out}" + (" (pynode.field(state=d, out=1))" if part == "g" else "")
                    )

    @property
    def d(self) -> int:
        """Size of the state."""
        return self.field.d

    @property
    def n_out(self) -> int:
        """Size of the derivative, d."""
        return self.field.n_out

    @property
    def inputs(self) -> int:
        """Size of the field's input signal u."""
        return self.field.inputs

    @property
    def n_data(self) -> int:
        """Entries of a row of data."""
        return 0 if self.jump is None else self.jump.inputs

    @property
    def n_target(self) -> int:
        """Entries of a row of the target."""
        return 0 if self.loss is None else self.loss.inputs

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"the system of {self.field.name}"

    @cached_property
    def parts(self) -> dict[str, Field]:
        """Name -> Field of those that there are, in the order of theta: "field", "jump", "loss", "event0.g", ..."""
        parts = {name: getattr(self, name) for name in PARTS if getattr(self, name) is not None}
        for i, e in enumerate(self.events):
            parts |= {f"event{i}.{name}": f for name, (f, _) in e.parts(self.d).items() if isinstance(f, Field)}
        return parts

    @cached_property
    def n_params(self) -> int:
        """Length of theta."""
        return sum(part.n_params for part in self.parts.values())

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Name -> where the part's parameters begin in theta."""
        ends = np.cumsum([0, *(part.n_params for part in self.parts.values())])
        return {name: int(end) for name, end in zip(self.parts, ends[:-1], strict=True)}

    @cached_property
    def spec(self) -> tuple[Parameter, ...]:  # type: ignore[override]  # of a Field it is an attribute
        """The parameters, named "field.W0", "jump.gain", ..."""
        named = [parameters.shifted(part.spec, name, self.offsets[name]) for name, part in self.parts.items()]
        return tuple(p for part in named for p in part)

    @cached_property
    def plans(self) -> Plans:
        """What earlier calls found out, see `pynode.calls.cache`."""
        return Plans()

    # ---- Events, as fields of t, y and the whole theta

    def _event_part(self, i: int, part: str) -> EventPart:
        f, size = self.events[i].parts(self.d)[part]
        return EventPart(f, size, self.offsets.get(f"event{i}.{part}", 0), part == "g")

    @cached_property
    def watch(self) -> Field:
        """All event functions as one Field (out = number of events) of t, y and the whole theta."""
        parts = [self._event_part(i, "g") for i in range(len(self.events))]
        return traced_parts(self.field, parts, self.n_params, "events")

    @cached_property
    def resets(self) -> list[Field | None]:
        """For each event the Field of its reset, of t, y and the whole theta, or None."""
        return [
            None
            if e.reset is None
            else traced_parts(self.field, [self._event_part(i, "reset")], self.n_params, f"reset of {e.name}")
            for i, e in enumerate(self.events)
        ]

    def with_events(self, events: Event | Sequence[Event] | None) -> System:
        """The same system with more events.

        Parameters
        ----------
        events : Event or list of Event, or None
            They stand behind those that it has, and so do their parameters.

        Returns
        -------
        System
            The system itself where events is None.
        """
        more = as_events(events)
        return self if not more else System(self.field, self.jump, self.loss, (*self.events, *more))

    # ---- What the engine asks of a vector field

    @property
    def program(self) -> Program:
        """The program of the field."""
        return self.field.program

    @property
    def vjp_program(self) -> Program:
        """The vjp program of the field."""
        return self.field.vjp_program

    @property
    def hoisted(self) -> Hoisted | None:
        """The parts of the field, see `Field.hoisted`."""
        return self.field.hoisted

    @property
    def callbacks(self) -> Any:
        """The Python functions of a callback field, or None."""
        return self.field.callbacks

    def bind_callbacks(self, theta: NDArray[Any], scales: Scales | None = None) -> Any:
        """The Python functions of the field with its part of theta.

        Parameters
        ----------
        theta : (n_params,) array
            The parameters of the whole system.
        scales : Scales, optional
            See `Field.bind_callbacks`.

        Returns
        -------
        callable
            See `Field.bind_callbacks`.
        """
        return self.field.bind_callbacks(theta[: self.field.n_params], scales)

    def split(self, theta: ArrayLike | Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
        """The parameters of each part.

        Parameters
        ----------
        theta : (n_params,) array or nested dict
            The parameters of the whole system.

        Returns
        -------
        dict of arrays
            Views of theta: "field" and, where there are such parts, "jump", "loss", "event0.g", "event0.reset", ...

        See Also
        --------
        join : the inverse.
        unflatten : every parameter by name.

        Examples
        --------
        >>> import pynode as pn
        >>> system = pn.System(pn.mlp(2, (8,)), loss=pn.mlp(2, (4,), 1))
        >>> {name: part.size for name, part in system.split(system.init(0)).items()}
        {'field': 42, 'loss': 17}
        """
        whole = parameters.checked_theta(self.spec, theta)
        return {name: whole[a : a + self.parts[name].n_params] for name, a in self.offsets.items()}

    def join(self, **parts: Any) -> NDArray[np.float64]:
        """The parameters of the whole system from those of its parts.

        Parameters
        ----------
        **parts : (n,) array or nested dict
            By the names of `split`; a part without parameters may be left out.

        Returns
        -------
        (n_params,) array

        Raises
        ------
        ValueError
            A part is missing or unknown, or has another number of parameters.

        Examples
        --------
        >>> import pynode as pn
        >>> field, loss = pn.mlp(2, (8,)), pn.mlp(2, (4,), 1)
        >>> pn.System(field, loss=loss).join(field=field.init(0), loss=loss.init(1)).shape
        (59,)
        """
        unknown = sorted(set(parts) - set(self.parts))
        missing = [name for name, part in self.parts.items() if part.n_params and name not in parts]
        if unknown or missing:
            raise ValueError(f"parts missing: {missing}, unknown: {unknown}; this system has {', '.join(self.parts)}")
        return np.concatenate(
            [parameters.checked_theta(part.spec, parts.get(name, np.empty(0))) for name, part in self.parts.items()]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` reads: what `pynode.data.files.write` takes.

        Returns
        -------
        dict
            Numbers, strings, lists and arrays, under "field", "jump", "loss" and "events".

        Raises
        ------
        ValueError
            An event is made of Python functions: a file holds programs only.
        """
        for i, e in enumerate(self.events):
            for name, (f, _) in e.parts(self.d).items():
                if not isinstance(f, Field):
                    raise ValueError(
                        f"{name} of event {i} ({e.name}) is a Python function, which no file can hold: make it a Field "
                        f"(pynode.field(state={self.d}{', out=1' if name == 'g' else ''}))"
                    )
        events = [
            {"g": e.g.to_dict(), "reset": None if e.reset is None else e.reset.to_dict()}
            | {"terminal": e.terminal, "direction": e.direction, "hold": e.hold, "name": e.name}
            for e in self.events
        ]
        parts = {name: getattr(self, name).to_dict() for name in PARTS if getattr(self, name) is not None}
        return parts | ({"events": events} if events else {})

    @classmethod
    def from_dict(cls, data: Any) -> System:
        """Inverse of `to_dict`.

        Parameters
        ----------
        data : dict
            What `to_dict` made.

        Returns
        -------
        System

        Raises
        ------
        ValueError
            A program is not valid, or the parts do not fit each other.
        """
        unknown = sorted(set(data) - {*PARTS, "events"})
        if unknown or "field" not in data:
            raise ValueError(f"not a system: parts {sorted(data)}, where field and perhaps jump, loss, events are needed")
        events = [
            event(
                Field.from_dict(e["g"]),
                reset=None if e["reset"] is None else Field.from_dict(e["reset"]),
                **{name: e[name] for name in ("terminal", "direction", "hold", "name")},
            )
            for e in data.get("events", ())
        ]
        return cls(**{name: Field.from_dict(data[name]) for name in PARTS if name in data}, events=events)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name in (*PARTS, "events")}

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={getattr(self, name).name}" for name in PARTS if getattr(self, name) is not None)
        parts += f", events={[e.name for e in self.events]}" if self.events else ""
        sizes = f", data={self.n_data}" * bool(self.n_data) + f", target={self.n_target}" * bool(self.n_target)
        return f"<System {parts}: d={self.d}{sizes}, {self.n_params} parameters>"


def kept_system(f: Field | System, events: tuple[Event, ...]) -> System | None:
    """The system of f with the events of a call that an earlier call made; None where there is none, or these changed.

    Events are functions that are traced for each call, as long as something that they read may change unseen.
    """
    made = f.plans.get(events)
    return made[0] if made is not None and made[1].same() else None


def with_events(f: Field | System, events: Event | Sequence[Event]) -> System:
    """The system of f with the events of a call, kept with f for the next one with the same events."""
    more = as_events(events)
    found = kept_system(f, more)
    if found is None:
        found = (f if isinstance(f, System) else System(f)).with_events(more)
        reading = Reading((part for e in more for part, _ in e.parts(f.d).values()), (Field, System))
        if reading.known and f.callbacks is None:
            f.plans[more] = found, reading
    return found
