"""Systems: a vector field with programs at save times, a jump and a loss; `System`."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pynode.fields import parameters
from pynode.fields.field import Field

PARTS = ("field", "jump", "loss")
"""In the order of their parameters in theta."""


@dataclass(frozen=True, eq=False, repr=False)
class System(parameters.Parametric):
    """A vector field, what happens to the state at data times, and what is minimised.

    theta is one flat vector, [field | jump | loss]. Any of `solve`, `loss_and_grad`, `Objective` and `check_grad` takes a
    system where it takes a field.

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

    def __post_init__(self):
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

    d = property(lambda self: self.field.d, doc="Size of the state.")
    n_out = property(lambda self: self.field.n_out, doc="Size of the derivative, d.")
    inputs = property(lambda self: self.field.inputs, doc="Size of the field's input signal u.")
    n_data = property(lambda self: 0 if self.jump is None else self.jump.inputs, doc="Entries of a row of data.")
    n_target = property(lambda self: 0 if self.loss is None else self.loss.inputs, doc="Entries of a row of the target.")
    name = property(lambda self: f"the system of {self.field.name}")

    @cached_property
    def parts(self):
        """Name -> Field of those that there are, in the order of theta."""
        return {name: getattr(self, name) for name in PARTS if getattr(self, name) is not None}

    @cached_property
    def n_params(self):
        """Length of theta."""
        return sum(part.n_params for part in self.parts.values())

    @cached_property
    def offsets(self):
        """Name -> where the part's parameters begin in theta."""
        ends = np.cumsum([0, *(part.n_params for part in self.parts.values())])
        return {name: int(end) for name, end in zip(self.parts, ends[:-1], strict=True)}

    @cached_property
    def spec(self):  # type: ignore[override]  # of a Field it is an attribute
        """The parameters, named "field.W0", "jump.gain", ..."""
        named = [parameters.shifted(part.spec, name, self.offsets[name]) for name, part in self.parts.items()]
        return tuple(p for part in named for p in part)

    # What the engine asks of a vector field
    program = property(lambda self: self.field.program)
    vjp_program = property(lambda self: self.field.vjp_program)
    callbacks = property(lambda self: self.field.callbacks)

    def bind_callbacks(self, theta):
        return self.field.bind_callbacks(theta[: self.field.n_params])

    def split(self, theta):
        """theta (n_params,) as a dict of views: "field" and, where there are such parts, "jump" and "loss"."""
        theta = parameters.checked_theta(self.spec, theta)
        return {name: theta[a : a + self.parts[name].n_params] for name, a in self.offsets.items()}

    def join(self, **parts):
        """theta (n_params,) from its parts by name: flat vectors or nested dicts; one without parameters may be left out."""
        unknown = sorted(set(parts) - set(self.parts))
        missing = [name for name, part in self.parts.items() if part.n_params and name not in parts]
        if unknown or missing:
            raise ValueError(f"parts missing: {missing}, unknown: {unknown}; this system has {', '.join(self.parts)}")
        return np.concatenate(
            [parameters.checked_theta(part.spec, parts.get(name, np.empty(0))) for name, part in self.parts.items()]
        )

    def to_dict(self):
        """Plain data that `from_dict` reads: what `pynode.files.write` takes."""
        return {name: part.to_dict() for name, part in self.parts.items()}

    @classmethod
    def from_dict(cls, data):
        """Inverse of `to_dict`.

        Raises
        ------
        ValueError
            A program is not valid, or the parts do not fit each other.
        """
        unknown = sorted(set(data) - set(PARTS))
        if unknown or "field" not in data:
            raise ValueError(f"not a system: parts {sorted(data)}, where field and perhaps jump and loss are needed")
        return cls(**{name: Field.from_dict(part) for name, part in data.items()})

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name in PARTS}

    def __repr__(self):
        parts = ", ".join(f"{name}={part.name}" for name, part in self.parts.items())
        sizes = f", data={self.n_data}" * bool(self.n_data) + f", target={self.n_target}" * bool(self.n_target)
        return f"<System {parts}: d={self.d}{sizes}, {self.n_params} parameters>"
