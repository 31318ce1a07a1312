"""What is exported: a field with its parameters, its units, and its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.signal import KINDS, Signal, as_signal
from pynode.export.tables import Numbers
from pynode.fields import parameters
from pynode.fields.field import Field

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Units:
    """z = (g(y) - shift) / scale, tau = (t - t_shift) / t_scale, inputs likewise; g: the log of the first `logs` states."""

    shift: Array
    scale: Array
    t_shift: float
    t_scale: float
    logs: int
    u_shift: Array
    u_scale: Array
    delay: float

    @property
    def log(self) -> bool:
        """Whether some states are logarithms."""
        return self.logs > 0


@dataclass(frozen=True)
class Subject:
    """A field to export.

    Attributes
    ----------
    field : Field
    theta : (n_params,) array
    scaling : Units
    kind : str or None
        How inputs go between knots; None without inputs.
    signal : Signal or None
        Inputs that are a table in the file, in the units of the field.
    options : dict
        Defaults of the solve.
    """

    field: Field
    theta: Array
    scaling: Units
    kind: str | None
    signal: Signal | None
    options: dict[str, Any]

    def tables(self, numbers: Numbers, baked: bool, name: str) -> str:
        """Sizes, parameters, units and their conversions."""
        f, s = self.field, self.scaling
        d, m = f.d, f.inputs
        lines = [
            f"enum {{ D = {d}, M = {m}, M1 = {max(m, 1)} }};",
            f"#define T_SHIFT {numbers.text(s.t_shift)}",
            f"#define T_SCALE {numbers.text(s.t_scale)}",
        ]
        if baked and f.n_params:
            lines.append(numbers.table("THETA", self.theta))
        if len(f.program.breaks):
            pairs = ", ".join(f"{{{numbers.text(a)}, {numbers.text(b)}}}" for a, b in f.program.breaks.tolist())
            lines.append(f"enum {{ N_STOPS = {2 * len(f.program.breaks)} }};")
            lines.append(f"static const real BREAKS[{len(f.program.breaks)}][2] = {{{pairs}}};")
        lines += [numbers.table("SHIFT", s.shift), numbers.table("SCALE", s.scale)]
        if m:
            lines += [numbers.table("U_SHIFT", s.u_shift), numbers.table("U_SCALE", s.u_scale)]
        if self.signal is not None:
            t, u = self.signal.t[0], self.signal.u[0]
            lines += [numbers.table("KNOTS", t), numbers.table("VALUES", u.ravel())]
            lines.append(f"static const {name}_signal SIGNAL = {{{len(t)}, KNOTS, VALUES}};")
        if self.kind in ("previous", "linear", "cubic"):
            degree = {"previous": 0, "linear": 1, "cubic": 3}[self.kind]
            lines.append(f"enum {{ DEGREE_U = {degree} }};")
        return "\n".join([*lines, "", *_conversions(s, m)])

    def knot_texts(self, numbers: Numbers) -> dict[str, str]:
        """How knots of the caller become those of the solver."""
        least = "1" if self.kind == "previous" else "2"
        virtual = 1 if self.kind == "previous" else 0
        if self.signal is not None:
            more = f" + {virtual}" if virtual else ""
            return {"KNOT": "return u->t[i];", "VALUE": "return u->u[i * M + j];", "KNOTS_MORE": more, "KNOTS_LEAST": least}
        plain = "return to_input(u->u[i * M + j], j);"
        if not self.scaling.delay:
            more = f" + {virtual}" if virtual else ""
            return {"KNOT": "return to_time(u->t[i]);", "VALUE": plain, "KNOTS_MORE": more, "KNOTS_LEAST": least}
        late = numbers.text(self.scaling.delay)
        return {
            "KNOT": f"return i == 0 ? to_time(u->t[0]) : to_time(u->t[i - 1] + {late}); /* inputs take effect later */",
            "VALUE": f"if (i > 0) i--;\n    {plain}",
            "KNOTS_MORE": f" + {virtual + 1}",
            "KNOTS_LEAST": least,
        }


def _conversions(s: Units, m: int) -> list[str]:
    """Functions from the units of the caller to those of the field and back."""
    known = "" if s.logs == len(s.shift) else f"c < {s.logs} ? "
    if s.log:
        rest = " : {0}" if known else ""
        to = f"({known}m_log(y)" + rest.format("y") + " - SHIFT[c]) / SCALE[c]"
        to = to.replace(f"({known}m_log(y){rest.format('y')} -", f"(({known}m_log(y){rest.format('y')}) -")
        back = f"{known}m_exp(z * SCALE[c] + SHIFT[c])" + rest.format("z * SCALE[c] + SHIFT[c]")
        unit = f"{known}SCALE[c] * y" + rest.format("SCALE[c]")
    else:
        to = "(y - SHIFT[c]) / SCALE[c]"
        back = "z * SCALE[c] + SHIFT[c]"
        unit = "SCALE[c]"
    lines = [
        "static int finite_number(real x)\n{\n    return x - x == R0;\n}\n",
        "static real to_time(real t)\n{\n    return (t - T_SHIFT) / T_SCALE;\n}\n",
        f"static real to_units(real y, int c)\n{{\n    return {to};\n}}\n",
        f"static real from_units(real z, int c)\n{{\n    return {back};\n}}\n",
        "/* dy/dz */",
        f"static real unit(real y, int c)\n{{\n{'' if s.log else '    (void)y;' + chr(10)}    return {unit};\n}}\n",
    ]
    if m:
        lines.append("static real to_input(real u, int c)\n{\n    return (u - U_SHIFT[c]) / U_SCALE[c];\n}\n")
    return lines


def subject_of(f: Any, theta: Any, inputs: Any) -> Subject:
    """What a caller wants exported, checked."""
    if isinstance(f, Field):
        field = f
        scaling = _plain(f)
        kind = "constant"
        whole = None
        options: dict[str, Any] = {}
        theta = parameters.checked_theta(f.spec, theta)
    elif hasattr(f, "scaling_") and hasattr(f, "field_"):
        field, theta, scaling, options, kind, whole = _of_model(f, theta)
    elif hasattr(f, "fit"):
        raise ValueError(f"{type(f).__name__}: fit it first; a NeuralODE can be exported, and any Field")
    else:
        raise TypeError(
            f"f must be a Field or a fitted NeuralODE, not {type(f).__name__}: jumps and events are not exported"
        )
    if field.callback is not None:
        raise ValueError(f"{field.name} calls Python: only programs can be exported, write it with pynode.field")
    if field.n_out != field.d:
        raise ValueError(f"{field.name} has {field.n_out} outputs and {field.d} states: only vector fields can be exported")
    if not np.isfinite(theta).all():
        raise ValueError("theta must be finite: it has entries that are not")
    if not field.inputs:
        if inputs is not None:
            raise ValueError(f"inputs={inputs!r}: {field.name} has no inputs")
        return Subject(field, theta, scaling, None, None, options)
    if inputs is None:
        return Subject(field, theta, scaling, kind, None, options)
    if isinstance(inputs, str):
        if inputs not in KINDS:
            raise ValueError(f"inputs={inputs!r} is not one of {', '.join(KINDS)}, nor a pynode.Signal")
        return Subject(field, theta, scaling, inputs, None, options)
    signal: Signal = as_signal(inputs, None)
    if len(signal.t) != 1 or signal.m != field.inputs or signal.kind == "constant":
        raise ValueError(f"inputs={signal!r} must be one signal with knots of {field.inputs} inputs")
    scaled = signal if whole is None else whole.inputs(signal)
    return Subject(field, theta, scaling, signal.kind, scaled, options)


def _plain(f: Field) -> Units:
    return Units(np.zeros(f.d), np.ones(f.d), 0.0, 1.0, 0, np.zeros(f.inputs), np.ones(f.inputs), 0.0)


def _of_model(model: Any, theta: Any) -> tuple[Field, Array, Units, dict[str, Any], str, Any]:
    if theta is not None:
        raise ValueError("theta: a fitted model has its own, leave it out")
    if model.estimators_:
        raise ValueError("an ensemble has many equations: export its members, model.estimators_[0]")
    if model.protocol_ is not None:
        raise ValueError(
            "doses and observation functions are not exported: export the field, pn.export.c(model.field_, model.theta_)"
        )
    s, field = model.scaling_, model.field_
    delays = s.u_delay if len(s.u_delay) else np.zeros(max(field.inputs, 1))
    if np.ptp(delays) > 0:
        raise ValueError(f"the inputs take effect later by {delays.tolist()}: different delays are not exported")
    units = Units(
        s.shift,
        s.scale,
        s.t_shift,
        s.t_scale,
        len(s.shift) - s.extra if s.log else 0,
        s.u_shift[: field.inputs],
        s.u_scale[: field.inputs],
        float(delays[0]),
    )
    return field, np.asarray(model.theta_, dtype=np.float64), units, model.solve_options(), model.input_kind_, s
