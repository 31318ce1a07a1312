"""What each operation of a program is in C: one table, a row an operation of csrc/program/ops.def."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pynode.programs.program import Instr, Program

Write = Callable[["Writer", Instr], list[str]]


class Writer:
    """Writes the instructions of one program.

    Attributes
    ----------
    program : Program
    slots : sequence of str
        What the slots are called; the first, t, is a number, others are arrays.
    number : callable
        A number as a literal of C.
    """

    def __init__(self, program: Program, slots: Sequence[str], number: Callable[[float], str]) -> None:
        self.program = program
        self.slots = slots
        self.number = number

    def at(self, r: int, index: str) -> str:
        """An element of a register."""
        if r < self.program.n_slots:
            return self.slots[r] if r == 0 else f"{self.slots[r]}[{index}]"
        return f"r{r}" if self.program.sizes[r] == 1 else f"r{r}[{index}]"

    def declared(self, r: int) -> str:
        """The declaration of a register."""
        n = self.program.sizes[r]
        return f"real r{r};" if n == 1 else f"real r{r}[{n}];"

    def values(self, numbers: Sequence[float], kind: str = "real") -> str:
        """A constant table for one instruction."""
        texts = [self.number(x) if kind == "real" else str(int(x)) for x in numbers]
        return f"static const {kind} c[{len(texts)}] = {{{', '.join(texts)}}};"


def loop(n: int, body: Callable[[str], str], index: str = "i") -> list[str]:
    """A statement for each of n elements."""
    if n == 1:
        return [body("0")]
    return [f"for (int {index} = 0; {index} < {n}; {index}++) {{ {body(index)} }}"]


def elementwise(expression: str) -> Write:
    """A row whose elements are made one by one; {a}, {b}, {c}: those of the operands."""

    def write(w: Writer, x: Instr) -> list[str]:
        def body(i: str) -> str:
            names = dict(zip("abc", (w.at(r, i) for r in x.operands), strict=False))
            return f"{w.at(x.out, i)} = {expression.format(**names)};"

        return loop(w.program.sizes[x.out], body)

    return write


def _const(w: Writer, x: Instr) -> list[str]:
    n = w.program.sizes[x.out]
    numbers = w.program.consts[x.p : x.p + n].tolist()
    if len(set(map(repr, numbers))) == 1:
        return loop(n, lambda i: f"{w.at(x.out, i)} = {w.number(numbers[0])};")
    return ["{", w.values(numbers), *loop(n, lambda i: f"{w.at(x.out, i)} = c[{i}];"), "}"]


def _param(w: Writer, x: Instr) -> list[str]:
    return loop(w.program.sizes[x.out], lambda i: f"{w.at(x.out, i)} = theta[{plus(x.p, i)}];")


def plus(p: int, i: str) -> str:
    """p + i, without what is 0."""
    return str(p + int(i)) if i.isdigit() else i if p == 0 else f"{p} + {i}"


def _sums(w: Writer, x: Instr, start: Callable[[str], str], term: Callable[[str, str], str], n: int) -> list[str]:
    """Elements that are sums of n terms."""

    def body(i: str) -> str:
        return (
            f"real sum = {start(i)}; "
            + " ".join(loop(n, lambda j: f"sum += {term(i, j)};", "j"))
            + f" {w.at(x.out, i)} = sum;"
        )

    m = w.program.sizes[x.out]
    return ["{ " + body("0") + " }"] if m == 1 else loop(m, body)


def _entry(row: str, n: int, column: str, p: int = 0) -> str:
    """The place of an entry of a matrix with n columns."""
    if row.isdigit() and column.isdigit():
        return str(p + int(row) * n + int(column))
    first = row if n == 1 else str(int(row) * n) if row.isdigit() else f"{row} * {n}"
    parts = [part for part in (str(p), first, column) if part != "0"]
    return " + ".join(parts)


def _affine(w: Writer, x: Instr) -> list[str]:
    n = w.program.sizes[x.a]
    start = (lambda i: w.number(0.0)) if x.q < 0 else (lambda i: f"theta[{plus(x.q, i)}]")
    return _sums(w, x, start, lambda i, j: f"theta[{_entry(i, n, j, x.p)}] * {w.at(x.a, j)}", n)


def _affine_t(w: Writer, x: Instr) -> list[str]:
    n = w.program.sizes[x.out]
    m = w.program.sizes[x.a]
    return _sums(w, x, lambda i: w.number(0.0), lambda i, j: f"theta[{_entry(j, n, i, x.p)}] * {w.at(x.a, j)}", m)


def _matvec(w: Writer, x: Instr) -> list[str]:
    n = w.program.sizes[x.b]
    return _sums(w, x, lambda i: w.number(0.0), lambda i, j: f"{w.at(x.a, _entry(i, n, j))} * {w.at(x.b, j)}", n)


def _matvec_t(w: Writer, x: Instr) -> list[str]:
    n = w.program.sizes[x.out]
    m = w.program.sizes[x.b]
    return _sums(w, x, lambda i: w.number(0.0), lambda i, j: f"{w.at(x.a, _entry(j, n, i))} * {w.at(x.b, j)}", m)


def _outer(w: Writer, x: Instr) -> list[str]:
    m, n = w.program.sizes[x.a], w.program.sizes[x.b]

    def row(i: str) -> str:
        return " ".join(loop(n, lambda j: f"{w.at(x.out, _entry(i, n, j))} = {w.at(x.a, i)} * {w.at(x.b, j)};", "j"))

    return loop(m, row)


def _bcast(w: Writer, x: Instr) -> list[str]:
    return loop(w.program.sizes[x.out], lambda i: f"{w.at(x.out, i)} = {w.at(x.a, '0')};")


def _sum(w: Writer, x: Instr) -> list[str]:
    return _sums(w, x, lambda i: w.number(0.0), lambda i, j: w.at(x.a, j), w.program.sizes[x.a])


def _slice(w: Writer, x: Instr) -> list[str]:
    def place(i: str) -> str:
        return str(x.p + int(i) * x.q) if i.isdigit() else plus(x.p, i) if x.q == 1 else f"{x.p} + {i} * ({x.q})"

    return loop(w.program.sizes[x.out], lambda i: f"{w.at(x.out, i)} = {w.at(x.a, place(i))};")


def _concat(w: Writer, x: Instr) -> list[str]:
    n = w.program.sizes[x.a]
    first = loop(n, lambda i: f"{w.at(x.out, i)} = {w.at(x.a, i)};")
    return first + loop(w.program.sizes[x.b], lambda i: f"{w.at(x.out, plus(n, i))} = {w.at(x.b, i)};")


def _gather(w: Writer, x: Instr) -> list[str]:
    n = w.program.sizes[x.out]
    places = w.program.index[x.p : x.p + n].tolist()
    if n == 1:
        return [f"{w.at(x.out, '0')} = {w.at(x.a, str(places[0]))};"]
    if w.program.sizes[x.a] == 1:
        return loop(n, lambda i: f"{w.at(x.out, i)} = {w.at(x.a, '0')};")
    return ["{", w.values(places, "int"), *loop(n, lambda i: f"{w.at(x.out, i)} = {w.at(x.a, f'c[{i}]')};"), "}"]


def _scatter(w: Writer, x: Instr) -> list[str]:
    n = w.program.sizes[x.a]
    places = w.program.index[x.p : x.p + n].tolist()
    lines = loop(w.program.sizes[x.out], lambda i: f"{w.at(x.out, i)} = {w.number(0.0)};")
    if n == 1:
        return [*lines, f"{w.at(x.out, str(places[0]))} += {w.at(x.a, '0')};"]
    if w.program.sizes[x.out] == 1:
        return [*lines, *loop(n, lambda i: f"{w.at(x.out, '0')} += {w.at(x.a, i)};")]
    return [*lines, "{", w.values(places, "int"), *loop(n, lambda i: f"{w.at(x.out, f'c[{i}]')} += {w.at(x.a, i)};"), "}"]


def _acc(w: Writer, x: Instr) -> list[str]:
    return loop(w.program.sizes[x.a], lambda i: f"g_theta[{plus(x.p, i)}] += {w.at(x.a, i)};")


def _acc_outer(w: Writer, x: Instr) -> list[str]:
    n = w.program.sizes[x.b]

    def row(i: str) -> str:
        return " ".join(loop(n, lambda j: f"g_theta[{_entry(i, n, j, x.p)}] += {w.at(x.a, i)} * {w.at(x.b, j)};", "j"))

    return loop(w.program.sizes[x.a], row)


def _call(w: Writer, x: Instr) -> list[str]:
    raise ValueError("the field calls Python: only programs can be exported, write it with pynode.field")


ONE_IF = "({a} %s {b}) ? R1 : R0"

OPERATIONS: dict[str, Write] = {
    "CONST": _const,
    "PARAM": _param,
    "AFFINE": _affine,
    "AFFINE_T": _affine_t,
    "MATVEC": _matvec,
    "MATVEC_T": _matvec_t,
    "OUTER": _outer,
    "NEG": elementwise("-{a}"),
    "ABS": elementwise("m_fabs({a})"),
    "SIGN": elementwise("({a} > R0) ? R1 : ({a} < R0) ? -R1 : {a}"),
    "SQUARE": elementwise("{a} * {a}"),
    "RECIP": elementwise("R1 / {a}"),
    "SQRT": elementwise("m_sqrt({a})"),
    "EXP": elementwise("m_exp({a})"),
    "EXPM1": elementwise("m_expm1({a})"),
    "LOG": elementwise("m_log({a})"),
    "LOG1P": elementwise("m_log1p({a})"),
    "SIN": elementwise("m_sin({a})"),
    "COS": elementwise("m_cos({a})"),
    "TANH": elementwise("m_tanh({a})"),
    "SIGMOID": elementwise("R1 / (R1 + m_exp(-{a}))"),
    "SOFTPLUS": elementwise("(({a} > R0) ? {a} : R0) + m_log1p(m_exp(-m_fabs({a})))"),
    "RELU": elementwise("({a} < R0) ? R0 : {a}"),
    "STEP": elementwise("({a} > R0) ? R1 : ({a} <= R0) ? R0 : {a}"),
    "ERF": elementwise("m_erf({a})"),
    "ATAN": elementwise("m_atan({a})"),
    "ADD": elementwise("{a} + {b}"),
    "SUB": elementwise("{a} - {b}"),
    "MUL": elementwise("{a} * {b}"),
    "DIV": elementwise("{a} / {b}"),
    "POW": elementwise("m_pow({a}, {b})"),
    "MAX": elementwise("({a} > {b} || {a} != {a}) ? {a} : {b}"),
    "MIN": elementwise("({a} < {b} || {a} != {a}) ? {a} : {b}"),
    "LT": elementwise(ONE_IF % "<"),
    "LE": elementwise(ONE_IF % "<="),
    "EQ": elementwise(ONE_IF % "=="),
    "DTANH": elementwise("({a} == R0) ? R0 : {a} * (R1 - {b} * {b})"),
    "DSIGMOID": elementwise("({a} == R0) ? R0 : {a} * ({b} * (R1 - {b}))"),
    "DMUL": elementwise("({a} == R0 || {b} == R0) ? R0 : {a} * {b}"),
    "DDIV": elementwise("({a} == R0) ? R0 : {a} / {b}"),
    "WHERE": elementwise("({a} != R0) ? {b} : {c}"),
    "BCAST": _bcast,
    "SUM": _sum,
    "SLICE": _slice,
    "CONCAT": _concat,
    "GATHER": _gather,
    "SCATTER": _scatter,
    "CALL": _call,
    "ACC": _acc,
    "ACC_OUTER": _acc_outer,
}
"""Name of an operation -> what writes it. Numbers R0, R1 and functions m_exp, ... are of the precision of the file."""


def needed(program: Program, stop: int, outputs: Sequence[int]) -> list[Instr]:
    """The instructions before `stop` that outputs or sums of gradients rest on."""
    wanted = {r for r in outputs if r >= 0}
    kept = []
    for x in reversed(program.instructions[:stop]):
        if x.op not in ("ACC", "ACC_OUTER") and x.out not in wanted:
            continue
        wanted.update(x.operands)
        kept.append(x)
    return kept[::-1]


def function(
    head: str, program: Program, stop: int, targets: Sequence[tuple[int, str]], slots: Sequence[str], number: Any
) -> str:
    """A C function that runs the instructions before `stop` and copies registers to targets.

    Parameters
    ----------
    head : str
        Up to the parenthesis that closes its arguments.
    program : Program
    stop : int
    targets : sequence of (int, str)
        Registers (-1: zeros are left as they are) and the arrays that they go to.
    slots : sequence of str
    number : callable
    """
    w = Writer(program, slots, number)
    lines = []
    for x in needed(program, stop, [r for r, _ in targets]):
        if x.k:
            raise ValueError(f"{x.op} reads another parameter vector than theta: this is not the program of a field")
        if x.op not in ("ACC", "ACC_OUTER"):
            lines.append(w.declared(x.out))
        lines += OPERATIONS[x.op](w, x)
    for r, to in targets:
        if r >= 0:
            lines += loop(program.sizes[r], lambda i, r=r, to=to: f"{to}[{i}] = {w.at(r, i)};")  # type: ignore[misc]
    names = [part.strip().rpartition(" ")[2].lstrip("*") for part in head[head.index("(") + 1 :].split(",")]
    text = "\n".join(lines)
    unused = [f"(void){name};" for name in names if not _mentions(text, name)]
    return "\n".join([f"{head})", "{", *(f"    {line}" for line in [*unused, *lines]), "}", ""])


def _mentions(text: str, name: str) -> bool:
    import re

    return re.search(rf"\b{name}\b", text) is not None
