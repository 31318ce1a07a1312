"""The times at which a program changes its form: where comparisons of t with numbers change, kinks of functions of t.

A program is read without running it. A register that depends on t and constants only is, at each time, one of a few
polynomials in t, its *branches*: t - 5 is one, abs(t - 5) one of two, a comparison 0 or 1. Where a comparison, a maximum
or the like has branches p and q on its sides, it can change where p = q only. Times that are computed of parameters,
states or inputs are not known to a program and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pynode.programs.program import Instr, Program

Polynomial = tuple[float, ...]
"""Coefficients of 1, t, t^2, ...; the last is not 0, () is the polynomial 0."""

Branches = frozenset[Polynomial]

MOST_BRANCHES = 16
"""An element with more of them is left out."""

MOST_DEGREE = 4

ZERO: Polynomial = ()
ONE: Polynomial = (1.0,)

CORNERS = ("ABS", "SIGN", "STEP", "RELU", "LT", "LE", "EQ", "MAX", "MIN")
"""Operations that change their form where their operand is 0, or their two operands are equal."""


def _polynomial(coefficients: Iterable[float]) -> Polynomial:
    found = [float(c) for c in coefficients]
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)


def _plus(p: Polynomial, q: Polynomial, sign: float = 1.0) -> Polynomial:
    n = max(len(p), len(q))
    return _polynomial(a + sign * b for a, b in zip(_padded(p, n), _padded(q, n), strict=True))


def _padded(p: Polynomial, n: int) -> list[float]:
    return [*p, *[0.0] * (n - len(p))]


def _times(p: Polynomial, q: Polynomial) -> Polynomial:
    return _polynomial(np.convolve(p, q)) if p and q else ZERO


def _over(p: Polynomial, q: Polynomial) -> Polynomial | None:
    return _polynomial(a / q[0] for a in p) if len(q) == 1 else None


Rule = Callable[..., Iterable[Polynomial | None]]

_RULES: dict[str, Rule] = {
    "NEG": lambda p: (_plus(ZERO, p, -1.0),),
    "SQUARE": lambda p: (_times(p, p),),
    "ADD": lambda p, q: (_plus(p, q),),
    "SUB": lambda p, q: (_plus(p, q, -1.0),),
    "MUL": lambda p, q: (_times(p, q),),
    "DIV": lambda p, q: (_over(p, q),),
    "ABS": lambda p: (p, _plus(ZERO, p, -1.0)),
    "SIGN": lambda p: (ZERO, ONE, (-1.0,)),
    "STEP": lambda p: (ZERO, ONE),
    "RELU": lambda p: (ZERO, p),
    "LT": lambda p, q: (ZERO, ONE),
    "LE": lambda p, q: (ZERO, ONE),
    "EQ": lambda p, q: (ZERO, ONE),
    "MAX": lambda p, q: (p, q),
    "MIN": lambda p, q: (p, q),
    "WHERE": lambda m, p, q: (p, q),
}


def breaks(program: Program) -> NDArray[np.float64]:
    """The times at which a program changes its form.

    Parameters
    ----------
    program : Program
        Its slot 0 is t.

    Returns
    -------
    (n, 2) array
        Times, increasing, and for each the size of the numbers that are compared there, in units of t: rounding moves the
        time by some last digits of that size.
    """
    if not program.uses_slot(0) or not any(ins.op in CORNERS for ins in program.instructions):
        return np.empty((0, 2))
    reader = _Reader(program)
    for ins in program.instructions:
        reader.read(ins)
    times = sorted(reader.found.items())
    return np.array(times, dtype=np.float64).reshape(-1, 2)


def compares_t_with_parameters(program: Program) -> bool:
    """Whether a comparison has t (or a function of t) on one side and parameters on the other: t > a, t - a > 0.

    Parameters
    ----------
    program : Program
        Its slot 0 is t.
    """
    if not program.uses_slot(0) or not any(ins.op in ("PARAM", "AFFINE") for ins in program.instructions):
        return False
    kind = dict.fromkeys(range(program.n_slots), "other") | {0: "t"}
    for ins in program.instructions:
        read = {kind[r] for r in ins.operands} - {"constant"}
        if ins.op in ("LT", "LE", "EQ", "SIGN") and (read == {"t", "theta"} or read == {"t - theta"}):
            return True
        if ins.out >= 0:
            kind[ins.out] = _kind(ins.op, read)
    return False


def _kind(op: str, read: set[str]) -> str:
    """What a register is made of, told apart as far as `compares_t_with_parameters` needs it."""
    if op in ("PARAM", "CONST"):
        return "theta" if op == "PARAM" else "constant"
    if read == {"t", "theta"}:
        return "t - theta" if op in ("ADD", "SUB") else "other"
    if read == {"t - theta"} and op not in ("NEG", "BCAST", "SLICE", "GATHER", "MUL", "DIV", "ADD", "SUB"):
        return "other"
    if op in ("AFFINE", "AFFINE_T", "CALL") or len(read) > 1:
        return "theta" if read <= {"theta"} and op != "CALL" else "other"
    return read.pop() if read else "constant"


class _Reader:
    """What is known of the registers of a program: the branches of those that depend on t and constants only."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.known: dict[int, list[Branches | None]] = {0: [frozenset([(0.0, 1.0)])]}
        self.consts: dict[int, NDArray[np.float64]] = {}
        self.found: dict[float, float] = {}

    def read(self, ins: Instr) -> None:
        """Learn what an instruction makes, and note the times at which it changes its form."""
        program = self.program
        if ins.op == "CONST":
            self.consts[ins.out] = program.consts[ins.p : ins.p + program.sizes[ins.out]]
        elif ins.out < 0 or not any(r in self.known for r in ins.operands):
            return
        elif ins.op in _RULES:
            n = program.sizes[ins.out]
            made = [self._elementwise(ins, [self._element(r, i) for r in ins.operands]) for i in range(n)]
            self._learn(ins.out, made)
        elif ins.op in ("BCAST", "SLICE", "GATHER", "CONCAT"):
            self._learn(ins.out, self._moved(ins))

    def _learn(self, register: int, made: list[Branches | None]) -> None:
        if any(branches is not None for branches in made):
            self.known[register] = made

    def _element(self, register: int, i: int) -> Branches | None:
        if register in self.consts:
            return frozenset([_polynomial([self.consts[register][i]])])
        return self.known[register][i] if register in self.known else None

    def _moved(self, ins: Instr) -> list[Branches | None]:
        program = self.program
        n = program.sizes[ins.out]
        if ins.op == "CONCAT":
            return [self._element(r, i) for r in ins.operands for i in range(program.sizes[r])]
        index: Any = np.zeros(n, dtype=np.int64)
        if ins.op == "SLICE":
            index = ins.p + ins.q * np.arange(n)
        elif ins.op == "GATHER":
            index = program.index[ins.p : ins.p + n]
        return [self._element(ins.a, int(i)) for i in index]

    def _elementwise(self, ins: Instr, operands: list[Branches | None]) -> Branches | None:
        if ins.op == "WHERE":
            operands = [operands[1], *operands[1:]]  # the condition was read where it was made
        if any(branches is None for branches in operands):
            return None
        sides = [sorted(branches) for branches in operands if branches is not None]
        rule = _RULES[ins.op]
        made: set[Polynomial] = set()
        for p in sides[0]:
            for rest in self._rest(sides[1:]):
                if ins.op in CORNERS:
                    self._note(p, rest[0] if rest else ZERO)
                for value in rule(p, *rest):
                    if value is None or len(value) > MOST_DEGREE + 1 or not np.isfinite(value).all():
                        return None
                    made.add(value)
        return frozenset(made) if len(made) <= MOST_BRANCHES else None

    @staticmethod
    def _rest(sides: list[list[Polynomial]]) -> list[tuple[Polynomial, ...]]:
        rest: list[tuple[Polynomial, ...]] = [()]
        for side in sides:
            rest = [(*before, p) for before in rest for p in side]
        return rest

    def _note(self, p: Polynomial, q: Polynomial) -> None:
        """The times at which two polynomials are equal."""
        difference = _plus(p, q, -1.0)
        if len(difference) < 2:
            return
        n = len(difference)
        largest = [abs(a) + abs(b) for a, b in zip(_padded(p, n), _padded(q, n), strict=True)]
        roots = [-difference[0] / difference[1]] if n == 2 else np.roots(difference[::-1])
        slope = np.polynomial.polynomial.polyder(np.array(difference))
        for root in np.real(np.asarray(roots)[np.abs(np.imag(roots)) <= 1e-8 * np.abs(roots)]):
            rate = abs(np.polynomial.polynomial.polyval(root, slope))
            terms = float(np.polynomial.polynomial.polyval(abs(root), largest))
            size = terms / rate if rate > 1e-6 * terms / max(abs(root), 1e-300) else 1e6 * abs(root)
            time = float(root) + 0.0
            if np.isfinite(size):
                self.found[time] = max(size, self.found.get(time, 0.0))
