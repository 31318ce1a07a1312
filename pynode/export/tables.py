"""Numbers, tables of methods, and declarations of an exported file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pynode.export.subject import Subject


class Numbers:
    """Literals of one precision."""

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self.suffix = "f" if precision == "float" else ""

    def text(self, x: float) -> str:
        """A number as a literal of C."""
        with np.errstate(over="ignore"):
            value = np.float32(x) if self.suffix else np.float64(x)
        if np.isfinite(x) and not np.isfinite(value):
            raise ValueError(f"precision='float': the number {x!r} does not fit")
        if np.isnan(value):
            return "(real)NAN"
        if np.isinf(value):
            return "(real)INFINITY" if value > 0 else "-(real)INFINITY"
        text = str(value)
        return text + ("F" if self.suffix else "")

    def table(self, name: str, values: Any) -> str:
        """A constant table."""
        flat = np.asarray(values, dtype=np.float64).ravel().tolist()
        lines = [", ".join(map(self.text, flat[k : k + 6])) for k in range(0, len(flat), 6)]
        return f"static const real {name}[{len(flat)}] = {{\n    " + ",\n    ".join(lines) + "};"


def _triangle(a: Any, rows: int) -> list[float]:
    """Rows 1 ... of a strictly lower triangular matrix, one after the other."""
    return [float(a[i][j]) for i in range(1, rows) for j in range(i)]


def method_tables(row: Any, numbers: Numbers, holds: Mapping[str, bool]) -> str:
    """The coefficients of a method."""
    s = row["s"]
    stages = s + 1 + row["n_extra"]
    n_error = s + (1 if row["error_uses_new"] else 0)
    n_dense = stages if row["dense_uses_new"] else s
    degree = row["dense_degree"]
    single = numbers.suffix == "f"
    lines = [
        f"enum {{ S = {s}, STAGES = {stages}, DEGREE = {degree}, N_DENSE = {n_dense} }};",
        f"enum {{ IMPLICIT = {int(holds['implicit'])} }};",
        "#define R0 ((real)0)",
        "#define R1 ((real)1)",
        f"#define EPS {'1.1920929e-07F' if single else '2.220446049250313e-16'}",
        f"#define NEARLY {'1e-3F' if single else '1e-9'}",
        numbers.table("C", row["c"][:stages]),
        numbers.table("A", _triangle(row["a"], stages)),
        _dense("DENSE", row, n_dense, numbers),
    ]
    if holds["partitioned"]:
        lines += [
            numbers.table("A2", _triangle(row["second"]["a"], stages)),
            _dense("DENSE2", row["second"], n_dense, numbers),
        ]
    if holds["adaptive"]:
        lines += [
            f"enum {{ N_ERROR = {n_error}, ERROR_ORDER = {row['error_order']} }};",
            f"#define TINY {'1.17549435e-38F' if single else '2.2250738585072014e-308'}",
            f"#define LEAST_ERROR {'1e-37F' if single else '1e-200'}",
            f"#define LEAST_MEMORY {numbers.text(-2.302585092994046)}",
            numbers.table("E", row["e"][:n_error]),
        ]
        lines += [numbers.table("E2", row["e2"][:n_error])] if holds["has_e2"] else []
    if holds["adaptive"] or holds["stops"]:
        lines.append("#define R05 ((real)0.5)")
    if holds["implicit"]:
        lines += [
            f"#define GAMMA {numbers.text(row['gamma'])}",
            numbers.table("COUPLING", _triangle(row["coupling"], s)),
            numbers.table("BY_T", row["by_t"][:s]),
        ]
    return "\n".join(lines) + "\n"


def _dense(name: str, row: Any, n: int, numbers: Numbers) -> str:
    degree = row["dense_degree"]
    rows = ["{" + ", ".join(numbers.text(x) for x in row["dense"][i][1 : degree + 1].tolist()) + "}" for i in range(n)]
    return f"static const real {name}[{n}][{degree}] = {{\n    " + ",\n    ".join(rows) + "};"


def prototypes(name: str, holds: Mapping[str, bool], baked: bool, own_signal: bool, n_params: int) -> dict[str, str]:
    """The heads of the functions that callers call."""
    upper = name.upper()
    real = f"{name}_real"
    theta = [] if baked or not n_params else [f"const {real} theta[{upper}_PARAMETERS]"]
    held = [f"const {real} u[{upper}_INPUTS]"] if holds["inputs"] else []
    signal = [] if own_signal or not holds["inputs"] else held if holds["constant"] else [f"const {name}_signal *u"]
    y = f"{real} y[{upper}_STATES]"
    s = f"const {real} s[{upper}_STATES]"
    g = [f"{real} g_y[{upper}_STATES]"]
    g_u = [f"{real} g_u[{upper}_INPUTS]"] if holds["inputs"] else []
    g_theta = [f"{real} g_theta[]"]
    t, h = f"{real} t", f"{real} h"
    solve = [f"const {real} y0[{upper}_STATES]", f"const {real} t[]", "long n", *signal, *theta]
    solve += [f"const {name}_options *options", f"{real} y[]", f"{name}_stats *stats"]
    heads = {
        "SOLVE": (f"{name}_status {name}_solve", solve),
        "STEP": (f"{name}_status {name}_step", [t, h, y, *held, *theta]),
        "FIELD": (f"void {name}_field", [t, f"const {y}", *held, *theta, f"{real} dy[{upper}_STATES]"]),
        "VJP": (f"void {name}_vjp", [t, f"const {y}", *held, *theta, s, *g, f"{real} *g_t", *g_u, *g_theta]),
        "STEP_VJP": (f"void {name}_step_vjp", [t, h, f"const {y}", *held, *theta, s, *g, *g_u, *g_theta]),
    }
    return {f"{key}_HEAD": f"{start}({', '.join(arguments)})" for key, (start, arguments) in heads.items()}


def _signal(name: str) -> str:
    upper = name.upper()
    return f"""\
/* Inputs: n knots t, rising, and values u[i * {upper}_INPUTS + j] of input j at knot i. */
typedef struct {{
    long n;
    const {name}_real *t;
    const {name}_real *u;
}} {name}_signal;

"""


def _products(heads: Mapping[str, str], n_params: int) -> str:
    return f"""
/* Products s^T df/dy, s^T df/dt, ... of the field; g_theta[{n_params}] is added to, the others are set. */
{heads["VJP_HEAD"]};

/* The cotangent s of the state after a step, taken back to the state (and inputs) before it; g_theta is added to. */
{heads["STEP_VJP_HEAD"]};
"""


def head(subject: Subject, row: Any, name: str, numbers: Numbers, holds: Mapping[str, bool], baked: bool, vjp: bool) -> str:
    """The header."""
    upper, f = name.upper(), subject.field
    heads = prototypes(name, holds, baked, subject.signal is not None, f.n_params)
    signal = _signal(name) if holds["knots"] else ""
    where = "tables in the file hold the parameters" if baked else "theta is an argument"
    held = ", with the inputs u held" if holds["inputs"] else ""
    more = _products(heads, f.n_params) if vjp else ""
    return f"""\
/* Written by pynode.export.c. Reentrant, without allocation; {where}. */
#ifndef {upper}_H
#define {upper}_H

#ifdef __cplusplus
extern "C" {{
#endif

typedef {numbers.precision} {name}_real;

enum {{ {upper}_STATES = {f.d}, {upper}_INPUTS = {f.inputs}, {upper}_PARAMETERS = {f.n_params} }};

typedef enum {{
    {upper}_OK = 0,
    {upper}_BAD_ARGUMENT = 1,   /* sizes, times, options or initial states make no sense; y is as it was */
    {upper}_BAD_INPUTS = 2,     /* knots do not rise, or do not cover the times */
    {upper}_NON_FINITE = 3,     /* the state became infinite or no number */
    {upper}_STEP_TOO_SMALL = 4, /* the error estimate asks for steps that no longer move t */
    {upper}_MAX_STEPS = 5       /* options->max_steps attempts were made */
}} {name}_status;

typedef struct {{
    {name}_real step;                  /* > 0: fixed steps of this length; 0: the error estimate chooses */
    {name}_real rtol;
    {name}_real atol[{upper}_STATES];
    {name}_real first_step;            /* 0: chosen */
    {name}_real max_step;              /* 0: any */
    long max_steps;                    /* attempts at most */
}} {name}_options;

typedef struct {{
    long steps, rejected, evaluations;
    {name}_real t;                     /* where the solution ended */
}} {name}_stats;

{signal}void {name}_defaults({name}_options *options);

/* States at times t[0] ... t[n - 1] (rising or falling) into y[n * {upper}_STATES], row by row; y0 is the state at t[0].
   Rows that are not reached are NAN. stats may be NULL. Steps of {row["name"]}. */
{heads["SOLVE_HEAD"]};

/* One step of length h from time t{held}; y is left as it was unless the result is {upper}_OK. */
{heads["STEP_HEAD"]};

/* dy/dt */
{heads["FIELD_HEAD"]};
{more}
#ifdef __cplusplus
}}
#endif
#endif
"""
