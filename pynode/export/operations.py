"""What each operation of a program is in C: one row an operation (csrc/program/ops.def names them)."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pynode.programs.program import Instr, Program

ELEMENTWISE = {
    "NEG": "-{a}",
    "ABS": "fabs{f}({a})",
    "SIGN": "({a} > 0 ? ONE : {a} < 0 ? -ONE : {a} * 0)",
    "SQUARE": "{a} * {a}",
    "RECIP": "ONE / {a}",
    "SQRT": "sqrt{f}({a})",
    "EXP": "exp{f}({a})",
    "EXPM1": "expm1{f}({a})",
    "LOG": "log{f}({a})",
    "LOG1P": "log1p{f}({a})",
    "SIN": "sin{f}({a})",
    "COS": "cos{f}({a})",
    "TANH": "tanh{f}({a})",
    "SIGMOID": "sigmoid({a})",
    "SOFTPLUS": "softplus({a})",
    "RELU": "larger({a}, 0)",
    "STEP": "({a} > 0 ? ONE : 0)",
    "ERF": "erf{f}({a})",
    "ATAN": "atan{f}({a})",
    "ADD": "{a} + {b}",
    "SUB": "{a} - {b}",
    "MUL": "{a} * {b}",
    "DIV": "{a} / {b}",
    "POW": "pow{f}({a}, {b})",
    "MAX": "larger({a}, {b})",
    "MIN": "-larger(-{a}, -{b})",
    "LT": "({a} < {b} ? ONE : 0)",
    "LE": "({a} <= {b} ? ONE : 0)",
    "EQ": "({a} <= {b} && {a} >= {b} ? ONE : 0)",
    "DTANH": "unless_zero({a}, {a} * (ONE - {b} * {b}))",
    "DSIGMOID": "unless_zero({a}, {a} * {b} * (ONE - {b}))",
    "DMUL": "unless_zero({a}, unless_zero({b}, {a} * {b}))",
    "DDIV": "unless_zero({a}, {a} / {b})",
    "WHERE": "({a} > 0 || {a} < 0 || is_nan({a}) ? {b} : {c})",
}
"""Element by element; {f} is the suffix of functions of math.h."""

HELPERS = {
    "is_nan": "static int is_nan(real a) { return !(a <= 0 || a >= 0); }",
    "larger": "static real larger(real a, real b) { return is_nan(a) ? a : a > b ? a : b; } /* NaN if either is */",
    "sigmoid": """static real sigmoid(real a)
{{
    real e = exp{f}(-fabs{f}(a));
    return (a < 0 ? e : ONE) / (ONE + e);
}}""",
    "softplus": """static real softplus(real a)
{{
    return (a > 0 || is_nan(a) ? a : 0) + log1p{f}(exp{f}(-fabs{f}(a)));
}}""",
    "unless_zero": """/* x, but 0 where a is: a cotangent of 0 stays 0 */
static real unless_zero(real a, real x) {{ return a <= 0 && a >= 0 ? 0 : x; }}""",
}
"""Functions that some rows call, in an order in which each knows those that it calls."""


class Place:
    """Where a register lies: an array, the index of its first number, and the distance to the next."""

    def __init__(self, array: str, first: int, step: int = 1) -> None:
        self.array = array
        self.first = first
        self.step = step

    def at(self, i: str) -> str:
        """The element with this index, a number or the name of a counter."""
        if i.isdigit():
            return f"{self.array}[{self.first + self.step * int(i)}]"
        along = i if self.step == 1 else f"{self.step} * {i}"
        return f"{self.array}[{along}]" if self.first == 0 else f"{self.array}[{self.first} + {along}]"


class Emitter:
    """The statements of a program.

    Registers that are parts of constants, parameters or inputs are read where they are; the others share an array w, in
    which places are used again as soon as nobody reads them any more.

    Parameters
    ----------
    program : Program
    slots : sequence of str
        Names of the arrays of its inputs.
    suffix : {"", "f"}
        Of the functions of math.h.
    gradient : str
        The array that ACC adds to.
    """

    def __init__(self, program: Program, slots: Sequence[str], suffix: str, gradient: str = "g_theta") -> None:
        self.program = program
        self.suffix = suffix
        self.gradient = gradient
        self.places = {i: Place(name, 0) for i, name in enumerate(slots)}
        self.free: list[tuple[int, int]] = []
        self.size = 0
        self.owner: dict[int, int] = {}
        self.lines: list[str] = []
        self.indices: list[str] = []

    def run(self) -> list[str]:
        """The statements; `size` is then the length of w, `indices` the tables that they need."""
        code = self.program.instructions
        for i, ins in enumerate(code):
            self._view(i, ins)
        last = self._last_reads(code)
        for i, ins in enumerate(code):
            if ins.out not in self.owner or ins.op in ("ACC", "ACC_OUTER"):
                if ins.op not in ("ACC", "ACC_OUTER"):
                    self.places[ins.out] = Place("w", self._room(self.program.sizes[ins.out]))
                self._statement(ins)
            else:
                source = self.places[ins.a] if ins.op == "SLICE" else Place("constant" if ins.op == "CONST" else "theta", 0)
                step = ins.q if ins.op == "SLICE" else 1
                self.places[ins.out] = Place(source.array, source.first + ins.p * source.step, source.step * step)
            for register in last.get(i, ()):
                place = self.places[register]
                self.free.append((place.first, self.program.sizes[register]))
        return self.lines

    def _view(self, i: int, ins: Instr) -> None:
        """owner: of registers that are parts of others, whose numbers they are; -1: nobody's."""
        if ins.op in ("CONST", "PARAM"):
            self.owner[ins.out] = -1
        elif ins.op == "SLICE":
            self.owner[ins.out] = self.owner.get(ins.a, -1 if ins.a < self.program.n_slots else ins.a)

    def _last_reads(self, code: Sequence[Instr]) -> dict[int, list[int]]:
        """For each instruction the registers in w that nobody reads after it."""
        last: dict[int, int] = {}
        for i, ins in enumerate(code):
            made = () if ins.op in ("ACC", "ACC_OUTER") else (ins.out,)
            for register in (*ins.operands, *made):
                root = self.owner.get(register, register)
                if root >= self.program.n_slots:
                    last[root] = i
        for register in self.program.outputs:
            last.pop(self.owner.get(register, register), None)
        found: dict[int, list[int]] = {}
        for register, i in last.items():
            found.setdefault(i, []).append(register)
        return found

    def _room(self, n: int) -> int:
        """Where n numbers fit into w."""
        for k, (first, size) in enumerate(sorted(self.free)):
            if size >= n:
                self.free = sorted(self.free)
                self.free[k : k + 1] = [(first + n, size - n)] if size > n else []
                return first
        self.size += n
        return self.size - n

    def _statement(self, ins: Instr) -> None:
        if ins.op in ELEMENTWISE:
            self._each(ins, ELEMENTWISE[ins.op])
        elif ins.op in OTHERS:
            self.lines += OTHERS[ins.op](self, ins)
        else:
            raise ValueError(f"operation {ins.op} has no row in pynode/export/operations.py")

    def _each(self, ins: Instr, text: str) -> None:
        n = self.program.sizes[ins.out]
        out = self.places[ins.out]
        index = "0" if n == 1 else "i"
        inside = {name: self.places[r].at(index) for name, r in zip("abc", ins.operands, strict=False)}
        self.lines += loop(n, f"{out.at(index)} = {text.format(f=self.suffix, **inside)};")

    def table(self, values: NDArray[np.int32]) -> str:
        """The name of a table of indices."""
        name = f"index{len(self.indices)}"
        self.indices.append(f"static const int {name}[{len(values)}] = {{{', '.join(map(str, values.tolist()))}}};")
        return name


def loop(n: int, body: str | list[str], counter: str = "i") -> list[str]:
    """The statements of a loop over n; those of its body where n is 1 are for element 0."""
    inside = [body] if isinstance(body, str) else body
    if n == 1 and not any(f"{counter}" in _words(line) for line in inside):
        return inside
    head = f"for (int {counter} = 0; {counter} < {n}; {counter}++)"
    if len(inside) == 1:
        return [f"{head} {inside[0]}"]
    return [f"{head} {{", *(f"    {line}" for line in inside), "}"]


def _words(line: str) -> set[str]:
    return set("".join(c if c.isalnum() or c == "_" else " " for c in line).split())


def _sum(n: int, start: str, out: str, term: str) -> list[str]:
    """out = start + the sum of a term over j."""
    return [f"real sum = {start};", *loop(n, f"sum += {term};", "j"), f"{out} = sum;"]


def _affine(e: Emitter, ins: Instr) -> list[str]:
    m, n = e.program.sizes[ins.out], e.program.sizes[ins.a]
    bias = f"theta[{ins.q} + i]" if ins.q >= 0 else "0"
    body = _sum(n, bias, e.places[ins.out].at("i"), f"theta[{ins.p} + {n} * i + j] * {e.places[ins.a].at('j')}")
    return loop(m, body)


def _affine_t(e: Emitter, ins: Instr) -> list[str]:
    n, m = e.program.sizes[ins.out], e.program.sizes[ins.a]
    body = _sum(m, "0", e.places[ins.out].at("i"), f"theta[{ins.p} + {n} * j + i] * {e.places[ins.a].at('j')}")
    return loop(n, body)


def _matvec(e: Emitter, ins: Instr) -> list[str]:
    m, n = e.program.sizes[ins.out], e.program.sizes[ins.b]
    body = _sum(n, "0", e.places[ins.out].at("i"), f"{e.places[ins.a].at(f'({n} * i + j)')} * {e.places[ins.b].at('j')}")
    return loop(m, body)


def _matvec_t(e: Emitter, ins: Instr) -> list[str]:
    n, m = e.program.sizes[ins.out], e.program.sizes[ins.b]
    body = _sum(m, "0", e.places[ins.out].at("i"), f"{e.places[ins.a].at(f'({n} * j + i)')} * {e.places[ins.b].at('j')}")
    return loop(n, body)


def _outer(e: Emitter, ins: Instr) -> list[str]:
    m, n = e.program.sizes[ins.a], e.program.sizes[ins.b]
    inner = loop(
        n, f"{e.places[ins.out].at(f'({n} * i + j)')} = {e.places[ins.a].at('i')} * {e.places[ins.b].at('j')};", "j"
    )
    return loop(m, inner)


def _bcast(e: Emitter, ins: Instr) -> list[str]:
    return loop(e.program.sizes[ins.out], f"{e.places[ins.out].at('i')} = {e.places[ins.a].at('0')};")


def _total(e: Emitter, ins: Instr) -> list[str]:
    lines = _sum(e.program.sizes[ins.a], "0", e.places[ins.out].at("0"), e.places[ins.a].at("j"))
    return ["{", *(f"    {line}" for line in lines), "}"]


def _copy(e: Emitter, ins: Instr) -> list[str]:
    return loop(e.program.sizes[ins.out], f"{e.places[ins.out].at('i')} = {_part(e, ins)};")


def _part(e: Emitter, ins: Instr) -> str:
    place = e.places[ins.a]
    return Place(place.array, place.first + ins.p * place.step, place.step * ins.q).at("i")


def _concat(e: Emitter, ins: Instr) -> list[str]:
    n = e.program.sizes[ins.a]
    out = e.places[ins.out]
    second = Place(out.array, out.first + n)
    return [
        *loop(n, f"{out.at('i')} = {e.places[ins.a].at('i')};"),
        *loop(e.program.sizes[ins.b], f"{second.at('i')} = {e.places[ins.b].at('i')};"),
    ]


def _gather(e: Emitter, ins: Instr) -> list[str]:
    n = e.program.sizes[ins.out]
    name = e.table(e.program.index[ins.p : ins.p + n])
    return loop(n, f"{e.places[ins.out].at('i')} = {e.places[ins.a].at(f'{name}[i]')};")


def _scatter(e: Emitter, ins: Instr) -> list[str]:
    n = e.program.sizes[ins.a]
    name = e.table(e.program.index[ins.p : ins.p + n])
    out = e.places[ins.out]
    return [
        *loop(e.program.sizes[ins.out], f"{out.at('i')} = 0;"),
        *loop(n, f"{out.at(f'{name}[i]')} += {e.places[ins.a].at('i')};"),
    ]


def _accumulate(e: Emitter, ins: Instr) -> list[str]:
    return loop(e.program.sizes[ins.a], f"{e.gradient}[{ins.p} + i] += {e.places[ins.a].at('i')};")


def _accumulate_outer(e: Emitter, ins: Instr) -> list[str]:
    m, n = e.program.sizes[ins.a], e.program.sizes[ins.b]
    product = f"{e.places[ins.a].at('i')} * {e.places[ins.b].at('j')}"
    return loop(m, loop(n, f"{e.gradient}[{ins.p} + {n} * i + j] += {product};", "j"))


OTHERS: dict[str, Callable[[Emitter, Instr], list[str]]] = {
    "AFFINE": _affine,
    "AFFINE_T": _affine_t,
    "MATVEC": _matvec,
    "MATVEC_T": _matvec_t,
    "OUTER": _outer,
    "BCAST": _bcast,
    "SUM": _total,
    "SLICE": _copy,
    "CONCAT": _concat,
    "GATHER": _gather,
    "SCATTER": _scatter,
    "ACC": _accumulate,
    "ACC_OUTER": _accumulate_outer,
}
"""The other operations: the statements of an instruction."""

VIEWS = ("CONST", "PARAM", "SLICE")
"""Operations that are parts of arrays, and no statement."""

REFUSED = ("CALL",)
"""Operations that C cannot do: calls of Python."""
