"""A field, or a fitted model, as one file of C99: `c`."""

from __future__ import annotations

import keyword
import os
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from pynode.data.signal import Signal
from pynode.engine.options import AUTO, MAX_STEPS, method_row, tolerances
from pynode.engine.tableau import Tableau
from pynode.export import entries, solver, steps
from pynode.export.operations import function
from pynode.export.subject import Subject, subject_of
from pynode.export.tables import Numbers, head, method_tables, prototypes
from pynode.fields.field import Field
from pynode.fields.implicit import jacobian_field

Precision = Literal["double", "float"]

Parameters = Literal["baked", "argument"]

KINDS = {"constant": 0, "previous": 0, "linear": 1, "cubic": 3}
"""How inputs go between knots -> degree."""

FUNCTIONS = ("fabs", "sqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "erf", "atan", "pow")
"""What a file calls of math.h."""


class Files(NamedTuple):
    """What was written."""

    source: Path
    header: Path


def c(
    f: Any,
    theta: Any = None,
    path: str | os.PathLike[str] = "model.c",
    *,
    method: str | Tableau | None = None,
    precision: Precision = "double",
    parameters: Parameters = "baked",
    inputs: str | Signal | None = None,
    vjp: bool = False,
    name: str | None = None,
    step: float | None = None,
    rtol: float | None = None,
    atol: Any = None,
    max_steps: int | None = None,
) -> Files:
    """Write a field as a file of C99 and its header: no allocation, no global variables, nothing but math.h.

    The file has functions to evaluate the field, to take one step, and to solve at given times with steps that are fixed or
    chosen, as `pynode.solve` does; docs/export.md shows how they are called.

    Parameters
    ----------
    f : Field or fitted NeuralODE
        Of a model the units of the data are those of the file: states, inputs and time are scaled in it.
    theta : array or dict, optional
        The parameters. A model has its own.
    path : str or path, default "model.c"
        The header goes beside it, with the ending .h.
    method : str or Tableau, optional
        Default: that of the model ("dopri5" for "auto", which begins with it), or "dopri5". All but "auto".
    precision : {"double", "float"}, default "double"
        Of all numbers in the file, times too.
    parameters : {"baked", "argument"}, default "baked"
        Whether theta is a table in the file or an argument of its functions.
    inputs : str or Signal, optional
        How inputs go between knots that the caller gives: "constant", "previous", "linear", "cubic"; a `Signal` is a
        table in the file. Default: that of the model, or "constant".
    vjp : bool, default False
        Write vector-Jacobian products too: of the field, and of a step.
    name : str, optional
        What names in the file begin with; default: the name of the file.
    step, rtol, atol, max_steps : optional
        What NAME_defaults sets. Tolerances are those of scaled states.

    Returns
    -------
    Files
        The paths of the source and the header.

    Raises
    ------
    ValueError
        The field calls Python, or an option does not fit; the message says what to do.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import pynode as pn
    >>> f = pn.mlp(2, (8,))
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> pn.export.c(f, f.init(0), folder / "spiral.c").header.name
    'spiral.h'
    """
    path = Path(path)
    if path.suffix != ".c":
        raise ValueError(f"path={str(path)!r} must end in .c: the header is written beside it")
    name = _name(path.stem if name is None else name)
    for what, value, known in (
        ("precision", precision, ("double", "float")),
        ("parameters", parameters, ("baked", "argument")),
    ):
        if value not in known:
            raise ValueError(f"{what}={value!r} must be one of {', '.join(known)}")
    subject = subject_of(f, theta, inputs)
    if method is None:
        method = subject.options.get("method", "dopri5")
        method = "dopri5" if method == AUTO else method  # with which "auto" begins
    if method == AUTO:
        raise ValueError(
            "method='auto' changes methods while it solves: name one for the file, 'dopri5' or, if stiff, 'rodas5p'"
        )
    writer = _Writer(subject, method_row(method), name, Numbers(precision), parameters == "baked", vjp)
    defaults = _defaults(subject, writer.row, step, rtol, atol, max_steps)
    source = writer.source(defaults, path.with_suffix(".h").name)
    header = writer.header()
    _check_names(name, source, header)
    path.write_text(source, encoding="utf-8")
    path.with_suffix(".h").write_text(header, encoding="utf-8")
    return Files(path, path.with_suffix(".h"))


def _name(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name) or keyword.iskeyword(name) or name in ("int", "double", "float"):
        raise ValueError(f"name={name!r} must be a name of C in lower case, of at most 31 letters, digits and _")
    return name


def _check_names(name: str, source: str, header: str) -> None:
    """Functions of the header must not be called as those inside the file are."""
    inside = set(re.findall(r"^static [\w ]+?\*?(\w+)\(", source, flags=re.MULTILINE))
    both = sorted(inside.intersection(re.findall(rf"\b{name}_\w+", header)))
    if both:
        raise ValueError(f"name={name!r}: {both[0]} is a function inside the file already; give another name=")


def _defaults(subject: Subject, row: Any, step: Any, rtol: Any, atol: Any, max_steps: Any) -> dict[str, Any]:
    """What NAME_defaults sets."""
    d = subject.field.d
    keys = tolerances(
        subject.options.get("rtol", 1e-6) if rtol is None else rtol,
        subject.options.get("atol", 1e-8) if atol is None else atol,
        d,
    )
    if step is None and not row["error_order"]:
        raise ValueError(f"method={row['name']!r} has no error estimate: give step=, the length of its steps")
    if step is not None and not (np.isfinite(step) and step > 0):
        raise ValueError(f"step={step!r} must be a positive number")
    limit = MAX_STEPS if max_steps is None else max_steps
    if type(limit) is not int or not 1 <= limit < 2**31:
        raise ValueError(f"max_steps={max_steps!r} must be a whole number from 1 to 2147483647")
    return {"rtol": keys["rtol"], "atol": keys["atol"], "step": 0.0 if step is None else float(step), "max_steps": limit}


class _Writer:
    """Writes the source and the header."""

    def __init__(self, subject: Subject, row: Any, name: str, numbers: Numbers, baked: bool, vjp: bool) -> None:
        self.subject = subject
        self.row = row
        self.name = name
        self.numbers = numbers
        self.baked = baked
        self.vjp = vjp
        f = subject.field
        if row["second"] is not None and f.d % 2:
            raise ValueError(f"method={row['name']!r} splits the state into halves (q, v): its size must be even, not {f.d}")
        kind = subject.kind
        self.holds = {
            "adaptive": row["error_order"] > 0,
            "implicit": row["gamma"] > 0,
            "partitioned": row["second"] is not None,
            "has_e2": bool(row["has_e2"]),
            "error_uses_new": bool(row["error_uses_new"]),
            "dense_uses_new": bool(row["dense_uses_new"]),
            "stops": len(f.program.breaks) > 0,
            "inputs": f.inputs > 0,
            "knots": kind in ("previous", "linear", "cubic"),
            "moving": kind in ("linear", "cubic"),
            "no_slopes": kind in (None, "constant"),
            "held": kind == "previous",
            "log": subject.scaling.log,
            **{k: kind == k for k in KINDS},
        }

    def names(self) -> dict[str, str]:
        """What stands in the templates."""
        return {"n": self.name, "N": self.name.upper()}

    def header(self) -> str:
        """The header."""
        return head(self.subject, self.row, self.name, self.numbers, self.holds, self.baked, self.vjp)

    def programs(self) -> str:
        """The field, its vjp and its Jacobian."""
        f, number = self.subject.field, self.numbers.text
        program = f.program
        start = "static void field(real t, const real *y, const real *u, const real *theta, real *out"
        parts = [function(start, program, sum(program.segments[:2]), [(program.outputs[0], "out")], "tyu", number)]
        if self.vjp:
            parts.append(self._vjp("field", f))
        if self.holds["implicit"]:
            found = jacobian_field(f, self.holds["moving"])
            program = found.field.program
            start = "static void jacobian(real t, const real *y, const real *u, const real *theta, real *out"
            n = program.sizes[program.outputs[0]]
            rows, columns = np.divmod(np.arange(f.d**2), f.d) if found.pattern is None else found.pattern
            parts.append(f"enum {{ ENTRIES = {n}, ON_PATTERN = {len(rows)} }};\n")
            for what, places in (("ROW", rows), ("COLUMN", columns)):
                parts.append(f"static const int {what}[{len(rows)}] = {{{', '.join(map(str, places))}}};\n")
            parts.append(function(start, program, sum(program.segments[:2]), [(program.outputs[0], "out")], "tyu", number))
            if self.vjp:
                parts.append(self._vjp("jacobian", found.field))
        return "\n".join(parts)

    def _vjp(self, name: str, f: Field) -> str:
        """The function NAME_vjp: the value of f, and the gradients of its product with s."""
        program = f.vjp_program
        arguments = "real t, const real *y, const real *u, const real *theta, const real *s"
        arrays = ("out", "g_y", "g_t", "g_u")
        start = f"static void {name}_vjp({arguments}, " + ", ".join(f"real *{a}" for a in (*arrays, "g_theta"))
        targets = list(zip(program.outputs, arrays, strict=True))
        return function(start, program, len(program.code), targets, "tyus", self.numbers.text)

    def source(self, defaults: dict[str, Any], header: str) -> str:
        """The source."""
        subject, numbers = self.subject, self.numbers
        f = subject.field
        values = self.names() | prototypes(self.name, self.holds, self.baked, subject.signal is not None, f.n_params)
        values |= {
            "ATOL": ", ".join(map(numbers.text, defaults["atol"].tolist())),
            "RTOL": numbers.text(defaults["rtol"]),
            "STEP": numbers.text(defaults["step"]),
            "MAX_STEPS": str(defaults["max_steps"]),
            "THETA": "NULL" if not f.n_params else "THETA" if self.baked else "theta",
            "SIGNAL": "u" if subject.signal is None else "&SIGNAL",
            "UNIT_SLOPE": "SCALE[c]" if subject.scaling.logs == f.d else f"c < {subject.scaling.logs} ? SCALE[c] : R0",
            **subject.knot_texts(numbers),
        }
        suffix = numbers.suffix
        defines = "\n".join(f"#define m_{name} {name}{suffix}" for name in FUNCTIONS)
        parts = [
            f"/* {_comment(f.name)}: dy/dt = f(t, y), solved by {_comment(self.row['name'])}; by pynode.export.c. */\n",
            f'#include "{header}"\n\n#include <math.h>\n#include <stddef.h>\n\n{defines}\n',
            f"typedef {self.name}_real real;\n",
            method_tables(self.row, numbers, self.holds),
            subject.tables(numbers, self.baked, self.name),
            self.programs(),
            self._solver(values),
        ]
        return "\n".join(parts)

    def _solver(self, values: dict[str, str]) -> str:
        texts = [solver.WORK, solver.INPUTS if self.holds["knots"] else "", solver.STAGES, steps.CONTROL, entries.SOLVE]
        texts.append(entries.VJP if self.vjp else "")
        return solver.rendered("".join(texts), self.holds, values)


def _comment(text: str) -> str:
    """A name that cannot end a comment, in printable ASCII."""
    return "".join(ch for ch in text.replace("*/", "").replace("/*", "") if ch.isascii() and ch.isprintable()).replace(
        "\\", ""
    )[:60]
