"""Fields: functions f(t, y, theta, u) that are programs."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.arrays import real_array
from pynode.data.labels import by_name
from pynode.fields import constraints, exchange, parameters, states
from pynode.fields.parameters import Parameter
from pynode.fields.plans import Plans
from pynode.fields.states import State
from pynode.programs import derivatives
from pynode.programs.hoisting import Hoisted, hoisted
from pynode.programs.program import Callback as CallbackFunction
from pynode.programs.program import Program
from pynode.programs.traced import Trace, TraceError, the_trace_of, trace_of

if TYPE_CHECKING:
    from pynode.fields.callback import Callback
    from pynode.fields.differences import Scales


@dataclass(frozen=True, eq=False, repr=False)
class Field(parameters.Parametric):
    """A function f(t, y, theta, u) with values of `n_out` numbers; a vector field where n_out == d.

    Made by `mlp`, `field`, `callback_field`; immutable.

    Attributes
    ----------
    program : Program
        Slots t, y, u; one output (docs/program.md).
    spec : tuple of Parameter
        Names, shapes, offsets and initial values of the parameters.
    name : str
        What messages call the field.
    out_shape : tuple of int
        Shape of the value for one sample; (n_out,) unless the field is a Jacobian or a scalar.
    callback : Callback or None
        The Python functions of a callback field.
    states : tuple of State
        Names, starts and limits of the d states; empty where only their number was given.

    See Also
    --------
    mlp, field, callback_field : they make fields.

    Examples
    --------
    >>> import pynode as pn
    >>> @pn.field(state=2, theta={"k": 2.0})
    ... def oscillator(t, y, th):
    ...     return [y[1], -th.k * y[0]]
    >>> oscillator
    <Field oscillator: d=2, 1 parameters: k ()>
    >>> oscillator(0.0, [1.0, 0.0], [2.0]).tolist()
    [0.0, -2.0]
    """

    program: Program
    spec: tuple[Parameter, ...] = ()
    name: str = "field"
    out_shape: tuple[int, ...] = cast(Any, None)  # (n_out,), from __post_init__ on
    callback: Callback | None = None
    states: tuple[State, ...] = ()

    def __post_init__(self) -> None:
        sizes = self.program.slot_sizes
        outputs = self.program.outputs
        if len(sizes) != 3 or sizes[0] != 1 or len(outputs) != 1 or outputs[0] < 0 or len(self.program.n_theta) != 1:
            raise ValueError(f"not the program of a field (slots t, y, u; one output; one theta): {self.program!r}")
        if parameters.total(self.spec) != self.n_params:
            raise ValueError(f"the parameters named have {parameters.total(self.spec)} numbers, the program {self.n_params}")
        if len(self.states) not in (0, self.d):
            raise ValueError(f"{len(self.states)} states are named, the program has {self.d}")
        if cast(Any, self.out_shape) is None:
            object.__setattr__(self, "out_shape", (self.n_out,))

    @property
    def d(self) -> int:
        """Size of the state y."""
        return self.program.slot_sizes[1]

    @property
    def inputs(self) -> int:
        """Size of the input signal u."""
        return self.program.slot_sizes[2]

    @property
    def n_out(self) -> int:
        """Size of the value."""
        return self.program.sizes[self.program.outputs[0]]

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states; empty where they have none."""
        return tuple(state.name for state in self.states)

    @property
    def n_params(self) -> int:
        """Length of theta."""
        return self.program.n_theta[0]

    @cached_property
    def time_dependent(self) -> bool:
        """Whether the value depends on t."""
        return self.program.uses_slot(0)

    @property
    def callbacks(self) -> tuple[Any, Any] | None:
        """(f, vjp or None) of a callback field, None for a program."""
        return None if self.callback is None else (self.callback.f, self.callback.vjp)

    @cached_property
    def plans(self) -> Plans:
        """What earlier calls found out, see `pynode.calls.cache`."""
        return Plans()

    @cached_property
    def vjp_program(self) -> Program:
        """Outputs [f, s^T df/dy, s^T df/dt, s^T df/du]; accumulates s^T df/dtheta (docs/program.md)."""
        if self.callback is not None:
            return self.callback.vjp_program()
        return derivatives.vjp_program(self.program)

    @cached_property
    def hoisted(self) -> Hoisted | None:
        """The field in two parts, of which one is computed once for a solve; None where there is nothing of the kind."""
        return None if self.callback is not None else hoisted(self.program)

    @cached_property
    def backsolve_program(self) -> Program:
        """The continuous adjoint: see `derivatives.backsolve_program`."""
        return derivatives.backsolve_program(self.program)

    @cached_property
    def interpolating_program(self) -> Program:
        """The continuous adjoint along a stored solution: see `derivatives.interpolating_program`."""
        return derivatives.interpolating_program(self.program)

    def __call__(self, t: Any, y: Any, theta: Any = None, u: Any = None) -> Any:
        """Evaluate the field.

        Parameters
        ----------
        t : float or (B,) array
        y : (d,) or (B, d) array
            A pandas Series or DataFrame labelled by the names of states or parameters goes by them.
        theta : (n_params,) array or nested dict; may be left out where n_params == 0
        u : (inputs,) or (B, inputs) array, where the field has inputs

        Returns
        -------
        (n_out,) or (B, n_out) array
            Inside another field (traced arguments): a traced array of shape `out_shape`.
        """
        ready = self.program.row((t, y, u), (theta,))
        if ready is not None:
            return ready[0][0].reshape(self.out_shape)
        if trace_of(t, y, theta, u) is not None:
            return self.bind(theta)(t, y, u)
        y = by_name("y", y, self.state_names)
        theta = parameters.checked_theta(self.spec, theta)
        callbacks = None if self.callback is None else self.bind_callbacks(theta)
        (value,), _ = run(self.program, {"t": t, "y": y, "u": u}, [theta], callbacks)
        return value.reshape((*value.shape[:-1], *self.out_shape))

    def bind(self, theta: Any) -> BoundField:
        """The field with its parameters, for use inside another one.

        Parameters
        ----------
        theta : (n_params,) array, traced value or None
            The parameters: numbers, or values of the field that is being traced.

        Returns
        -------
        BoundField
            A function of (t, y), or of (t, y, u) where the field has inputs.
        """
        return BoundField(self, theta)

    def bind_callbacks(self, theta: ArrayLike, scales: Scales | None = None) -> CallbackFunction:
        """What CALL instructions run.

        Parameters
        ----------
        theta : (n_params,) array_like
            The parameters.
        scales : Scales, optional
            Sizes of states and times, for Jacobians by differences.

        Returns
        -------
        callable
            call(which, t (n,), y (n, d), u (n, m), seed (n, n_out)) -> (n, size) array, which = 0 for f, 1 for its vjp,
            2 for its Jacobian and df/dt, 3 for the vjp of those.
        """
        if self.callback is None:
            raise ValueError(f"{self.name} is a program: it has no callbacks")
        return self.callback.bind(np.asarray(theta, dtype=np.float64), scales)

    def to_dict(self) -> dict[str, Any]:
        """The field as plain data.

        Returns
        -------
        dict
            Numbers, strings, lists and arrays, which `from_dict` reads.
        """
        if self.callback is not None:
            raise ValueError(f"{self.name} is a Python callback: it cannot be written to a file, only programs can")
        return {
            "name": self.name,
            "out_shape": list(self.out_shape),
            "program": self.program.to_dict(),
            "spec": [[p.name, list(p.shape), p.offset, list(p.init), list(p.constraint)] for p in self.spec],
            "states": [[s.name, s.start, list(s.constraint)] for s in self.states],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`.

        Parameters
        ----------
        data : dict
            What `to_dict` gave.

        Returns
        -------
        Field

        Raises
        ------
        ValueError
            The program is not valid: the C core checks every index, size and offset.
        """
        spec = tuple(
            Parameter(name, tuple(shape), offset, tuple(init), constraints.valid(*constraint or [("free",)]))
            for name, shape, offset, init, *constraint in data["spec"]
        )
        if not all(isinstance(parameter.name, str) for parameter in spec):
            raise ValueError("the names of parameters must be text")
        program = Program.from_dict(data["program"])
        program.check()
        named = states.valid(data.get("states", ()), program.slot_sizes[1])
        return cls(program, spec, data["name"], tuple(data["out_shape"]), states=named)

    def to_json(self) -> str:
        """The field as JSON, for programs that are not Python; the schema is in docs/export.md.

        Returns
        -------
        str
            A text, which `from_json` reads. Parameters are not in it, but for their initial values.

        See Also
        --------
        to_dict : the same as Python data.

        Examples
        --------
        >>> import pynode as pn
        >>> @pn.field(state=2, theta={"k": 2.0})
        ... def oscillator(t, y, th):
        ...     return [y[1], -th.k * y[0]]
        >>> pn.Field.from_json(oscillator.to_json())
        <Field oscillator: d=2, 1 parameters: k ()>
        """
        return exchange.to_text(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Inverse of `to_json`.

        Parameters
        ----------
        text : str or bytes
            What `to_json` gave, or another program of the schema in docs/export.md.

        Returns
        -------
        Field

        Raises
        ------
        ValueError
            The text is not of the schema, or its program is not valid: it may come from anywhere.
        """
        data = exchange.from_text(text)
        found = cls.from_dict(data)
        if np.prod(found.out_shape, dtype=np.int64) != found.n_out:
            raise ValueError(f"from_json: out_shape is {list(found.out_shape)}, the program has {found.n_out} outputs")
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name in self.__dataclass_fields__}

    def __repr__(self) -> str:
        sizes = f"d={self.d}" + (f" ({', '.join(self.state_names)})" if self.states else "")
        sizes += f", n_out={self.n_out}" if self.out_shape != (self.d,) else ""
        sizes += f", inputs={self.inputs}" if self.inputs else ""
        names = ", ".join(f"{p.name} {p.shape}" for p in self.spec[:8]) + (", ..." if len(self.spec) > 8 else "")
        return f"<Field {self.name}: {sizes}, {self.n_params} parameters{': ' + names if names else ''}>"


class BoundField:
    """A field inside a field: its parameters are traced values (or numbers).

    Call it as ``net(y)`` (where it does not depend on t), ``net(t, y)`` or ``net(t, y, u)``.
    """

    def __init__(self, field: Field, theta: Any) -> None:
        n = field.n_params
        theta = theta._vector if isinstance(theta, Parameters) else theta
        if theta is None and n:
            raise TraceError(
                f"{field.name} has {n} parameters: declare it, theta={{'net': {field.name}}}, and call "
                "th.net(y), or pass theta"
            )
        if theta is not None and np.shape(theta) != (n,):
            raise TraceError(f"{field.name} has {n} parameters, but theta has shape {np.shape(theta)}")
        self.field = field
        self.theta = theta if n else None

    @property
    def parameters(self) -> Parameters:
        """The parameters by name, as traced arrays."""
        theta: Any = self.theta
        return Parameters(parameters.nested(self.field.spec, lambda p: theta[p.offset : p.stop].reshape(p.shape)))

    def point(self, args: Sequence[Any], u: Any = None) -> tuple[Any, Any, Any]:
        """(t, y, u) from the positional arguments of a call."""
        f = self.field
        if not 1 <= len(args) <= 3:
            raise TraceError(f"{f.name} takes (y), (t, y) or (t, y, u), not {len(args)} arguments")
        if len(args) == 1 and f.time_dependent:
            raise TraceError(f"{f.name} depends on t: call it with (t, y)")
        if len(args) == 1:
            return 0.0, args[0], u
        return args[0], args[1], args[2] if len(args) == 3 else u

    def __call__(self, *args: Any, u: Any = None) -> Any:
        """The value at (y), (t, y) or (t, y, u): a traced array, or numbers where nothing is traced."""
        t, y, u = self.point(args, u)
        if trace_of(t, y, u, self.theta) is None:
            return self.field(t, y, self.theta, u)
        where, (value,) = inlined(self.field.program, {"t": t, "y": y, "u": u}, [self.theta], self.field.name)
        return where.array(cast(int, value), self.field.out_shape)

    def __repr__(self) -> str:
        return f"<{self.field!r} inside a trace>"


class Parameters:
    """The parameters of a field while it is traced: th.k, th["k"]; like a dict of traced arrays and
    fields."""

    _vector: Any
    _tree: dict[str, Any]

    def __init__(self, tree: Mapping[str, Any], vector: Any = None) -> None:
        super().__setattr__("_vector", vector)  # the whole vector, where one stands behind the names
        self._tree = {name: Parameters(value) if isinstance(value, dict) else value for name, value in tree.items()}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Any:
        if name not in self._tree:
            raise TraceError(f"theta has no {name!r}; it has {', '.join(self._tree)}")
        return self._tree[name]

    def __setattr__(self, name: str, value: object) -> None:
        if name != "_tree":
            raise TraceError("parameters cannot be changed inside a field")
        super().__setattr__(name, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tree)

    def __len__(self) -> int:
        return len(self._tree)

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._tree.keys()

    def values(self) -> ValuesView[Any]:
        """The traced arrays, fields and nested parameters."""
        return self._tree.values()

    def items(self) -> ItemsView[str, Any]:
        """Pairs of a name and its value."""
        return self._tree.items()

    def __repr__(self) -> str:
        return f"Parameters({', '.join(self._tree)})"


# ---- Running a program on numbers, and writing it into another one


def run(
    program: Program,
    values: Mapping[str, Any],
    thetas: Sequence[NDArray[np.float64]],
    callbacks: CallbackFunction | None = None,
) -> tuple[list[Any], list[NDArray[np.float64]]]:
    """Evaluate a program for one sample or a batch.

    Parameters
    ----------
    program : Program
    values : dict
        Name -> value of each slot, in their order: (size,) or (B, size); scalar or (B,) for those of size 1
        named t, dt.
    thetas : list of 1-d arrays
        The parameter vectors.
    callbacks : callable, optional
        What CALL instructions run.

    Returns
    -------
    outputs : list of (size,) or (B, size) arrays, None for zero
    grads : list of 1-d arrays, summed over the batch
    """
    slots = [_slot(name, value, size) for (name, value), size in zip(values.items(), program.slot_sizes, strict=True)]
    lengths = {len(x) for x in slots if x.ndim == 2}
    if len(lengths) > 1:
        shapes = ", ".join(f"{name} {x.shape}" for name, x in zip(values, slots, strict=True))
        raise ValueError(f"the arguments have different batch sizes: {shapes}")
    B = lengths.pop() if lengths else 1
    single = all(x.ndim == 1 for x in slots)
    outputs, grads = program.evaluate([np.broadcast_to(x, (B, x.shape[-1])) for x in slots], thetas, callbacks)
    return [x[0] if single and x is not None else x for x in outputs], grads


def _slot(name: str, value: Any, size: int) -> NDArray[np.float64]:
    """The value of a slot as (size,) or (B, size)."""
    if value is None:
        if size:
            raise ValueError(f"{name} is missing: {size} numbers a sample")
        return np.empty(0)
    x = real_array(name, value, np.float64)
    if size == 1 and (x.ndim == 0 or (x.ndim == 1 and name in ("t", "dt") and x.shape != (1,))):
        x = x[..., None]
    if x.ndim not in (1, 2) or x.shape[-1] != size:
        raise ValueError(f"{name} must have shape ({size},) or (B, {size}), not {np.shape(value)}")
    return x


def inlined(
    program: Program, values: Mapping[str, Any], thetas: Sequence[Any], name: str = "the field"
) -> tuple[Trace, list[int | None]]:
    """Write a program into the one being traced.

    Parameters
    ----------
    program : Program
    values : dict
        Name -> value of each slot: traced arrays, numbers, lists; None where the size is 0.
    thetas : list
        Traced or numbers, None where empty.

    Returns
    -------
    Trace, list of registers (None for zero)
    """
    where = the_trace_of(*values.values(), *thetas)
    slots: list[int | None] = []
    for (slot, value), size in zip(values.items(), program.slot_sizes, strict=True):
        if value is None:
            if size:
                raise TraceError(f"{name} needs {slot} ({size} numbers)")
            slots.append(None)
            continue
        lifted = where.lift(value)
        if lifted.size != size:
            raise TraceError(f"{name} takes {slot} of {size} numbers, not of shape {lifted.shape}")
        slots.append(lifted.register)
    registers = [None if theta is None else where.lift(theta).register for theta in thetas]
    return where, where.builder.inline(program, slots, registers)
