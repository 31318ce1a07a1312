"""The constants of an exported C file: method, error control, units, parameters, inputs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

PER_LINE = 6

LIMITS = {
    "double": {"EPSILON": "2.220446049250313e-16", "TINY": "2.2250738585072014e-308", "LEAST": "1e-200", "NEARLY": "1e-9"},
    "float": {"EPSILON": "1.1920929e-07", "TINY": "1.1754944e-38", "LEAST": "1e-30", "NEARLY": "1e-6"},
}
"""Of the numbers: the distance from 1 to the next, the smallest, the smallest square of an error, a part of a step."""


class Numbers:
    """How numbers are written.

    Parameters
    ----------
    precision : {"double", "float"}
    """

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self.suffix = "f" if precision == "float" else ""

    def one(self, value: float) -> str:
        """A number, with all its digits."""
        if not np.isfinite(value):
            return (
                "NAN"
                if np.isnan(value)
                else "HUGE_VAL" + self.suffix.upper()
                if value > 0
                else "-HUGE_VAL" + self.suffix.upper()
            )
        if not self.suffix:
            return repr(float(value))
        with np.errstate(over="ignore"):
            rounded = np.float32(value)
        if not np.isfinite(rounded):
            raise ValueError(f"{value} is too large for precision='float': take precision='double', or other units")
        text = str(rounded)
        return (text if "." in text or "e" in text else text + ".0") + "f"

    def row(self, values: ArrayLike) -> str:
        """Numbers in braces."""
        return "{" + ", ".join(self.one(float(v)) for v in np.ravel(values)) + "}"

    def array(self, name: str, values: ArrayLike, kind: str = "static const real") -> list[str]:
        """A table of numbers, a few a line."""
        flat = np.ravel(np.asarray(values, dtype=np.float64))
        if not len(flat):
            return []
        rows = [", ".join(self.one(float(v)) for v in flat[i : i + PER_LINE]) for i in range(0, len(flat), PER_LINE)]
        return [f"{kind} {name}[{len(flat)}] = {{", *(f"    {row}," for row in rows), "};"]

    def matrix(self, name: str, values: Array) -> list[str]:
        """A table of rows."""
        rows = [f"    {self.row(row)}," for row in values]
        return [f"static const real {name}[{values.shape[0]}][{values.shape[1]}] = {{", *rows, "};"]


def method_tables(row: Mapping[str, Any], numbers: Numbers) -> list[str]:
    """The coefficients of a method, as macros and tables."""
    stages = len(row["c"])
    lines = [
        f"/* {row['name']}: {row['source']} */",
        f"#define CORE {row['s']}",
        f"#define STAGES {stages}",
        f"#define DEGREE {row['dense_degree']}",
        f"#define ERROR_ORDER {row['error_order']}",
        f"#define ERROR_USES_NEW {int(row['error_uses_new'])}",
        f"#define DENSE_USES_NEW {int(row['dense_uses_new'])}",
        f"#define SECOND_ERROR {int(row['has_e2'])}",
    ]
    second = row["second"]
    lines += [f"#define {name}2 {name}" for name in ("A", "DENSE") if second is None]
    lines += numbers.matrix("A", row["a"]) + numbers.array("C", row["c"]) + numbers.array("E", row["e"])
    lines += numbers.array("E2", row["e2"]) if row["has_e2"] else []
    lines += numbers.matrix("DENSE", row["dense"])
    if second is not None:
        lines += numbers.matrix("A2", second["a"]) + numbers.matrix("DENSE2", second["dense"])
    return lines


def control_macros(options: Mapping[str, float], numbers: Numbers) -> list[str]:
    """The constants of error control."""
    own = {name: numbers.one(float(text)) for name, text in LIMITS[numbers.precision].items()}
    given = {name: numbers.one(value) for name, value in options.items()}
    given["MEMORY"] = numbers.one(float(np.log(0.1)))
    return [f"#define {name} (({'real'}){value})" for name, value in (own | given).items()]


def units(scaling: Any, d: int, m: int, numbers: Numbers) -> list[str]:
    """Functions between the units of the data and those of the field; scaling None: they are the same."""
    identity = scaling is None
    lines = ["/* units of the data and of the field */"]
    if not identity:
        lines += numbers.array("SHIFT", scaling.shift) + numbers.array("SCALE", scaling.scale)
        if m:
            lines += numbers.array("U_SHIFT", scaling.u_shift) + numbers.array("U_SCALE", scaling.u_scale)
    logs = d - scaling.extra if not identity and scaling.log else 0
    value, back = ("y[c]", "z[c]") if identity else ("(y[c] - SHIFT[c]) / SCALE[c]", "z[c] * SCALE[c] + SHIFT[c]")
    if logs:
        value = f"((c < {logs} ? log{numbers.suffix}(y[c]) : y[c]) - SHIFT[c]) / SCALE[c]"
        back = f"c < {logs} ? exp{numbers.suffix}({back}) : {back}"
    slope = "1" if identity else "SCALE[c]" + (f" * (c < {logs} ? y[c] : 1)" if logs else "")
    rate = "1" if identity else f"(ONE / {numbers.one(scaling.t_scale)})"
    time = "(t)" if identity else f"(((t) - {numbers.one(scaling.t_shift)}) * RATE)"
    lines += [
        f"#define RATE ({rate})",
        f"#define scale_time(t) {time}",
        f"#define SLOPE_BACK(c, y) ({slope.replace('y[c]', '(y)[c]')})",
        f"#define INPUT_SCALE(c) ({'1' if identity else 'U_SCALE[c]'})",
        "static void scale_states(const real *y, real *z)\n{",
        f"    for (size_t c = 0; c < STATES; c++) z[c] = {value};\n}}",
        "static void unscale_states(const real *z, real *y)\n{",
        f"    for (size_t c = 0; c < STATES; c++) y[c] = {back};\n}}",
    ]
    if m:
        scaled = "u[c]" if identity else "(u[c] - U_SHIFT[c]) / U_SCALE[c]"
        lines += [
            "static void scale_inputs(const real *u, real *to)\n{",
            f"    for (size_t c = 0; c < INPUTS; c++) to[c] = {scaled};\n}}",
        ]
    return lines
