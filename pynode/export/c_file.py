"""A field or a fitted model as one C file and its header, that solve it without anything else."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode._version import __version__
from pynode.data.signal import Signal
from pynode.engine.options import METHODS
from pynode.engine.tableau import Tableau
from pynode.export import solver_text
from pynode.export.c_tables import Numbers, control_macros, method_tables, units
from pynode.export.operations import HELPERS, REFUSED, Emitter
from pynode.fields.field import Field

if TYPE_CHECKING:
    from pynode.programs.program import Program

Array = NDArray[np.float64]

CONTROL = {"SAFETY": 0.9, "GROWTH": 10.0, "DECAY": 0.2, "BETA": 0.2}
"""As in `pynode.engine.options`."""

WORDS = frozenset(
    re.findall(
        r"\w+",
        "auto break case char const continue default do double else enum extern float for goto if inline int long register "
        "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while",
    )
)


class Exported(NamedTuple):
    """What was written.

    Attributes
    ----------
    source, header : pathlib.Path
        The files.

    Examples
    --------
    >>> import pynode as pn
    >>> import tempfile
    >>> files = pn.export.c(pn.mlp(2, (8,)), pn.mlp(2, (8,)).init(0), tempfile.mkdtemp() + "/net.c")
    >>> files.source.name, files.header.name
    ('net.c', 'net.h')
    """

    source: Path
    header: Path


class _Subject(NamedTuple):
    """What is exported: a field, numbers of its parameters, units (or None), and options of a solve."""

    field: Field
    theta: Array
    scaling: Any
    method: Any
    rtol: float
    atol: Array


def c(
    what: Any,
    theta: ArrayLike | None = None,
    path: str | os.PathLike[str] = "model.c",
    *,
    method: str | Tableau | None = None,
    precision: Literal["double", "float"] = "double",
    inputs: Signal | None = None,
    vjp: bool = False,
    name: str | None = None,
    rtol: float | None = None,
    atol: ArrayLike | None = None,
) -> Exported:
    """Write a field or a fitted model as C99: `path`, and its header beside it.

    The files need math.h and stddef.h only. They allocate nothing, change no static data, and take the same steps as
    `pynode.solve`.

    Parameters
    ----------
    what : Field or NeuralODE
        A traced field or network; or a fitted model, in whose units states, inputs and times of the file are.
    theta : (n_params,) array or nested dict
        Parameters of a field, which the file holds; calls may give others. Not for a model, which has its own.
    path : path, default "model.c"
        The header has the same name with ".h".
    method : str or Tableau, optional
        An explicit Runge-Kutta method. Default: that of the model, "dopri5" for a field.
    precision : {"double", "float"}, default "double"
        Of all numbers.
    inputs : Signal, optional
        Control inputs of one sample that the file holds; calls may give others.
    vjp : bool, default False
        Also write `<name>_vjp`, the product of a vector with the derivatives of the field.
    name : str, optional
        What functions and types begin with. Default: the name of the file.
    rtol, atol : float and float or (d,) array, optional
        Default tolerances of the file. Default: those of the model; 1e-6 and 1e-8 for a field (1e-4 and 1e-6 in float).

    Returns
    -------
    Exported
        The two paths.

    Raises
    ------
    TypeError, ValueError
        The field calls Python, the method is implicit, or an argument makes no sense; the message says what to do.

    See Also
    --------
    Field.to_dict : the field as data.

    Examples
    --------
    >>> import pynode as pn
    >>> import tempfile, pathlib
    >>> spring = pn.field(state=2, theta={"k": 4.0})(lambda t, y, th: [y[1], -th.k * y[0]])
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> files = pn.export.c(spring, [4.0], folder / "spring.c")
    >>> "spring_solve" in files.header.read_text()
    True
    """
    if precision not in ("double", "float"):
        raise ValueError(f"precision={precision!r} is neither 'double' nor 'float'")
    source = Path(path)
    if source.suffix != ".c":
        raise ValueError(f"path={str(path)!r} must end in .c: the header has the same name with .h")
    prefix = _prefix(source.stem if name is None else name, name is None)
    subject = _subject(what, theta, method, precision, rtol, atol)
    numbers = Numbers(precision)
    field = subject.field
    row = _method(subject.method)
    if len(field.program.breaks):
        times = ", ".join(f"{t:g}" for t in field.program.breaks[:3, 0])
        raise ValueError(
            f"{field.name} changes its form at fixed times (t = {times}), and the steps of the file do not end there: make "
            "the switch a control input of kind 'previous'"
        )
    if vjp and subject.scaling is not None and subject.scaling.log:
        raise ValueError(
            "vjp=True: the model learns logarithms (log=True), whose derivatives are not exported; leave vjp out"
        )
    header = source.with_suffix(".h")
    texts = _source(subject, row, numbers, inputs, vjp, header.name), _header(subject, numbers, vjp)
    for file, text in zip((source, header), texts, strict=True):
        file.write_text(_named(text, prefix, numbers), encoding="utf-8")
    return Exported(source, header)


def _prefix(name: str, from_file: bool) -> str:
    if from_file:
        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        name = f"model_{name}" if not name[:1].isalpha() else name
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name in WORDS:
        raise ValueError(f"name={name!r} is no name in C: take letters, digits and underscores, a letter first")
    return name


def _subject(what: Any, theta: Any, method: Any, precision: str, rtol: float | None, atol: Any) -> _Subject:
    """The field and its numbers, of a field or of a model."""
    loose = 1e2 if precision == "float" else 1.0
    if isinstance(what, Field):
        if theta is None and what.n_params:
            raise ValueError(f"theta is missing: {what.name} has {what.n_params} parameters")
        numbers = np.zeros(0) if theta is None else _theta(what, theta)
        chosen: dict[str, Any] = {"method": method or "dopri5", "rtol": 1e-6 * loose, "atol": 1e-8 * loose}
        field, scaling = what, None
    elif hasattr(what, "scaling_") and hasattr(what, "solve_options"):
        field, numbers, scaling, chosen = _of_model(what, theta, method)
        if precision == "float":
            chosen |= {"rtol": max(chosen["rtol"], 1e-5), "atol": np.maximum(chosen["atol"], 1e-6)}
    else:
        raise TypeError(f"what={what!r} is neither a Field nor a fitted NeuralODE: nothing else can be exported")
    if field.callback is not None or any(ins.op in REFUSED for ins in field.program.instructions):
        raise ValueError(f"{field.name} calls Python, which no C file can: write it with pynode.field, so that it is traced")
    if field.n_out != field.d:
        raise ValueError(f"{field.name} has {field.n_out} values for {field.d} states: only vector fields are exported")
    if not np.isfinite(numbers).all():
        raise ValueError("theta holds numbers that are not finite")
    tolerance = float(chosen["rtol"] if rtol is None else rtol)
    absolute = np.broadcast_to(np.asarray(chosen["atol"] if atol is None else atol, dtype=np.float64), (field.d,))
    if not (tolerance >= 0 and np.isfinite(tolerance) and (absolute >= 0).all() and (absolute + tolerance > 0).all()):
        raise ValueError(f"rtol={tolerance!r}, atol={absolute.tolist()!r}: tolerances must be >= 0, and not both 0")
    return _Subject(field, numbers, scaling, chosen["method"], tolerance, absolute)


def _theta(field: Field, theta: Any) -> Array:
    flat = field.flatten(theta) if isinstance(theta, dict) else theta
    numbers = np.asarray(flat, dtype=np.float64)
    if numbers.shape != (field.n_params,):
        raise ValueError(f"theta has shape {numbers.shape}: {field.name} has {field.n_params} parameters")
    return numbers


def _of_model(model: Any, theta: Any, method: Any) -> tuple[Field, Array, Any, dict[str, Any]]:
    model.check_is_fitted()
    if theta is not None:
        raise ValueError("theta= is for fields: a fitted model has its own parameters")
    if model.estimators_:
        raise ValueError("an ensemble has many fields: export its members, model.estimators_[0]")
    scaling = model.scaling_
    if scaling.u_delay.any():
        raise ValueError(
            "the model's inputs take effect later (input_delay), which the file does not know: shift their knots, and fit so"
        )
    options = model.solve_options()
    chosen = method or ("dopri5" if options["method"] == "auto" else options["method"])
    return model.field_, np.asarray(model.theta_, dtype=np.float64), scaling, options | {"method": chosen}


def _method(method: Any) -> Any:
    if isinstance(method, Tableau):
        return method.row
    if method not in METHODS:
        raise ValueError(f"method={method!r} is not one of {', '.join(METHODS)}")
    row = METHODS[method]
    if row["gamma"] > 0:
        raise ValueError(
            f"method={method!r} solves linear systems, which the file cannot: take an explicit method such as 'dopri5', "
            "with steps short enough for stability"
        )
    return row


def _functions(program: Program, slots: tuple[str, ...], numbers: Numbers, heads: list[str]) -> tuple[Emitter, list[str]]:
    """(emitter, statements) of a program whose outputs go to the arrays `heads`; empty: that one is not wanted."""
    emitter = Emitter(program, slots, numbers.suffix)
    lines = list(emitter.run())
    for register, array in zip(program.outputs, heads, strict=True):
        if not array:
            continue
        n = program.sizes[register] if register >= 0 else 0
        for i in range(n):
            lines.append(f"{array}[{i}] = {emitter.places[register].at(str(i))};")
    return emitter, lines


def _body(emitter: Emitter, lines: list[str], unused: tuple[str, ...]) -> list[str]:
    text = "\n".join(lines)
    words = set(re.findall(r"\w+", text))
    start = [f"    real w[{emitter.size}];"] if emitter.size else []
    start += ["    const real time[1] = {t};"] if "time" in words else ["    (void)t;"]
    start += [f"    (void){name};" for name in unused if name not in words]
    indices = [f"    {line}" for line in emitter.indices]
    return ["{", *indices, *start, *(f"    {line}" for line in text.split("\n") if line), "}"]


def _source(subject: _Subject, row: Any, numbers: Numbers, inputs: Signal | None, vjp: bool, header: str) -> str:
    field = subject.field
    d, m = field.d, field.inputs
    emitter, lines = _functions(field.program, ("time", "y", "u"), numbers, ["dy"])
    if field.program.outputs[0] < 0:
        lines += [f"for (int i = 0; i < {d}; i++) dy[i] = 0;"]
    parts = ["\n".join(_body(emitter, lines, ("y", "u", "theta")))]
    functions = ["static void rhs(real t, const real *y, const real *u, const real *theta, real *dy)\n" + parts[0]]
    if vjp:
        functions.append(_vjp(field, numbers))
    constants = [field.program.consts, field.vjp_program.consts if vjp else np.zeros(0)]
    body = "\n\n".join(functions)
    tables = numbers.array("constant", constants[0]) + numbers.array("constant_vjp", constants[1])
    helpers = _helpers(body, numbers)
    head = [
        f"/* {field.name}: {d} states, {m} control inputs, {field.n_params} parameters; {row['name']}, {numbers.precision}.",
        f"   Written by pynode {__version__}. C99; needs math.h; allocates nothing, changes no static data. */",
        f'#include "{header}"',
        "",
        "#include <math.h>",
        "",
        "typedef name_real real;",
        "#define ONE ((real)1)",
        "#define NOT_A_NUMBER ((real)NAN)",
        f"#define STATES {d}",
        f"#define INPUTS {m}",
        *control_macros(CONTROL, numbers),
        "",
        *method_tables(row, numbers),
        "",
        *_parameters(subject, numbers),
        *tables,
        "",
        *_signal(inputs, m, numbers),
        f"const name_options name_defaults = {{0, {numbers.one(subject.rtol)}, {numbers.row(subject.atol)}, 0, 0, 100000}};",
        "",
    ]
    public = [_public_field(m)] + ([_public_vjp(m)] if vjp else [])
    return "\n".join(
        [*head, *units(subject.scaling, d, m, numbers), "", *helpers, body, ""]
        + ([solver_text.SIGNALS] if m else [])
        + [*public, solver_text.RUN]
    )


def _vjp(field: Field, numbers: Numbers) -> str:
    program = field.vjp_program
    emitter, lines = _functions(program, ("time", "y", "u", "seed"), numbers, ["", "g_y", "", "g_u" if field.inputs else ""])
    if program.outputs[1] < 0:
        lines += [f"for (int i = 0; i < {field.d}; i++) g_y[i] = 0;"]
    if field.inputs and program.outputs[3] < 0:
        lines += [f"for (int i = 0; i < {field.inputs}; i++) g_u[i] = 0;"]
    lines = [re.sub(r"\bconstant\[", "constant_vjp[", line) for line in lines]
    body = _body(emitter, lines, ("y", "u", "theta", "seed", "g_y", "g_u", "g_theta"))
    head = "static void rhs_vjp(real t, const real *y, const real *u, const real *theta, const real *seed, real *g_y,"
    return "\n".join([head, "                    real *g_u, real *g_theta)", *body])


def _helpers(body: str, numbers: Numbers) -> list[str]:
    """The functions that the statements call, and those that these call."""
    words = set(re.findall(r"\w+", body))
    for name in reversed(list(HELPERS)):
        if name in words:
            words |= set(re.findall(r"\w+", HELPERS[name]))
    found = [
        HELPERS[name].replace("{{", "{").replace("}}", "}").replace("{f}", numbers.suffix)
        for name in HELPERS
        if name in words
    ]
    return [line for text in found for line in (text, "")]


def _parameters(subject: _Subject, numbers: Numbers) -> list[str]:
    if not len(subject.theta):
        return ["#define THETA NULL"]
    names = [f"   {p.name} {p.shape}: from {p.offset}" for p in subject.field.spec]
    return [
        "/* parameters",
        *names,
        "*/",
        *numbers.array("name_theta", subject.theta, "const real"),
        "#define THETA name_theta",
    ]


def _signal(inputs: Signal | None, m: int, numbers: Numbers) -> list[str]:
    """The control inputs that the file holds."""
    if inputs is None:
        return ["#define SIGNAL NULL", ""]
    if not isinstance(inputs, Signal):
        raise TypeError(f"inputs={inputs!r} must be a pynode.Signal")
    if inputs.m != m:
        raise ValueError(f"inputs has {inputs.m} features, the field has {m} control inputs")
    if len(inputs.u) != 1:
        raise ValueError(f"inputs holds signals of {len(inputs.u)} samples: the file holds one, inputs.take([0])")
    knots = inputs.t[0] if len(inputs.t[0]) > 1 else inputs.t[0][0] + np.array([0.0, 1.0])
    pieces = inputs.pieces(1, np.float64, np.array([[knots[0], knots[-1]]]))
    knots = pieces.knots(0)
    with np.errstate(over="ignore"):
        rounded = knots.astype(np.float32) if numbers.suffix else knots
    if not (np.diff(rounded) > 0).all():
        raise ValueError(
            "the knots of inputs are closer together than precision='float' tells apart: take precision='double'"
        )
    degree = pieces.coef.shape[1] - 1
    return [
        *numbers.array("knots", knots),
        *numbers.array("coefficients", pieces.coef),
        f"static const name_signal signal = {{{len(knots)}, {degree}, knots, coefficients}};",
        "#define SIGNAL (&signal)",
        "",
    ]


def _public_field(m: int) -> str:
    inside = ["    real z[STATES];", *(["    real scaled[INPUTS];", "    scale_inputs(u, scaled);"] if m else [])]
    return "\n".join(
        [
            "void name_field(real t, const real *y, const real *u, const real *theta, real *dy)",
            "{",
            *inside,
            *([] if m else ["    (void)u;"]),
            "    scale_states(y, z);",
            f"    rhs(scale_time(t), z, {'scaled' if m else 'NULL'}, theta != NULL ? theta : THETA, dy);",
            "    for (size_t c = 0; c < STATES; c++) dy[c] *= RATE * SLOPE_BACK(c, y);",
            "}",
            "",
        ]
    )


def _public_vjp(m: int) -> str:
    inputs = ("scaled", "g_u") if m else ("NULL", "NULL")
    return "\n".join(
        [
            "void name_vjp(real t, const real *y, const real *u, const real *theta, const real *seed, real *g_y, real *g_u,",
            "              real *g_theta)",
            "{",
            "    real z[STATES], s[STATES];",
            *(["    real scaled[INPUTS];", "    scale_inputs(u, scaled);"] if m else ["    (void)u;", "    (void)g_u;"]),
            "    scale_states(y, z);",
            "    for (size_t c = 0; c < STATES; c++) s[c] = seed[c] * RATE * SLOPE_BACK(c, y);",
            f"    rhs_vjp(scale_time(t), z, {inputs[0]}, theta != NULL ? theta : THETA, s, g_y, {inputs[1]}, g_theta);",
            "    for (size_t c = 0; c < STATES; c++) g_y[c] /= SLOPE_BACK(c, y);",
            *(["    for (size_t c = 0; c < INPUTS; c++) g_u[c] /= INPUT_SCALE(c);"] if m else []),
            "}",
            "",
        ]
    )


def _header(subject: _Subject, numbers: Numbers, vjp: bool) -> str:
    field = subject.field
    sizes = {"STATES": field.d, "INPUTS": field.inputs, "PARAMETERS": field.n_params}
    lines = [
        f"/* {field.name}, written by pynode {__version__}: dy/dt = f(t, y, u; theta) and its solutions. */",
        "#ifndef NAME_H",
        "#define NAME_H",
        "#include <stddef.h>",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        f"enum {{ {', '.join(f'NAME_{k} = {v}' for k, v in sizes.items())} }};",
        f"typedef {numbers.precision} name_real;",
        *(["extern const name_real name_theta[NAME_PARAMETERS]; /* those that were fitted */"] if field.n_params else []),
        "",
        solver_text.DECLARATIONS,
        "/* dy/dt. u: NAME_INPUTS control inputs (NULL where there are none); theta NULL: the parameters of the file. */",
        "void name_field(name_real t, const name_real *y, const name_real *u, const name_real *theta, name_real *dy);",
        "",
    ]
    if vjp:
        lines += [
            "/* seed^T df/dy and seed^T df/du, and seed^T df/dtheta added to g_theta (NAME_PARAMETERS). */",
            "void name_vjp(name_real t, const name_real *y, const name_real *u, const name_real *theta,",
            "              const name_real *seed, name_real *g_y, name_real *g_u, name_real *g_theta);",
            "",
        ]
    lines += [solver_text.SIGNAL_DECLARATIONS] if field.inputs else []
    lines += [solver_text.SOLVE_DECLARATION, "#ifdef __cplusplus", "}", "#endif", "#endif", ""]
    return "\n".join(lines)


def _named(text: str, prefix: str, numbers: Numbers) -> str:
    """With the prefix, and the suffixes of the precision, put in."""
    text = text.replace("{f}", numbers.suffix).replace("{F}", numbers.suffix.upper())
    text = re.sub(r"\bname_", f"{prefix}_", text)
    return re.sub(r"\bNAME_", f"{prefix.upper()}_", text)
