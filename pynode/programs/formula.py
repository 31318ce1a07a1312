"""A program as formulas: sums of products of names, powers and functions, as text and as LaTeX.

A `Formula` is a sum of terms, each a number times factors; a factor is an atom to a power. Atoms are names, functions of
formulas, and sums in parentheses. Products of sums stay as they were written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pynode.programs.program import Instr, Program

LARGEST_MATRIX = 36
"""A matrix of more numbers is not written out."""

LONGEST = 2000
"""Formulas of more terms and factors are not written."""

CALLS = {
    "ABS": "abs",
    "SIGN": "sign",
    "SQRT": "sqrt",
    "EXP": "exp",
    "EXPM1": "expm1",
    "LOG": "log",
    "LOG1P": "log1p",
    "SIN": "sin",
    "COS": "cos",
    "TANH": "tanh",
    "SIGMOID": "sigmoid",
    "SOFTPLUS": "softplus",
    "RELU": "relu",
    "STEP": "step",
    "ERF": "erf",
    "ATAN": "arctan",
    "MAX": "max",
    "MIN": "min",
    "LT": "less",
    "LE": "less_equal",
    "EQ": "equal",
    "WHERE": "where",
}
"""Operations that are written as functions."""

KNOWN_TO_LATEX = frozenset({"exp", "log", "sin", "cos", "tanh", "arctan", "max", "min"})
"""Functions that LaTeX has a command for."""


class NotReadable(ValueError):
    """The program is no formula that a person could read."""


@dataclass(frozen=True)
class Atom:
    """A name, a function of formulas, or a sum in parentheses.

    Attributes
    ----------
    name : str
        The name, or that of the function; "": a sum in parentheses.
    inside : tuple of Formula
        The arguments, or the sum; empty for a name.
    exponent : Formula or None
        Where the exponent is no number: it belongs to the atom.
    """

    name: str
    inside: tuple[Formula, ...] = ()
    exponent: Formula | None = None


Factors = tuple[tuple[Atom, float], ...]


@dataclass(frozen=True)
class Formula:
    """A sum.

    Attributes
    ----------
    terms : tuple of (float, tuple of (Atom, float))
        Numbers times powers of atoms.
    """

    terms: tuple[tuple[float, Factors], ...] = ()

    @classmethod
    def number(cls, value: float) -> Formula:
        """A number."""
        return cls(((float(value), ()),) if value else ())

    @classmethod
    def name(cls, name: str) -> Formula:
        """A variable."""
        return cls(((1.0, ((Atom(name), 1.0),)),))

    @classmethod
    def call(cls, name: str, arguments: Iterable[Formula], exponent: Formula | None = None) -> Formula:
        """A function of formulas."""
        return cls(((1.0, ((Atom(name, tuple(arguments), exponent), 1.0),)),))

    @property
    def constant(self) -> float | None:
        """Its value, where it is a number."""
        if not self.terms:
            return 0.0
        return self.terms[0][0] if len(self.terms) == 1 and not self.terms[0][1] else None

    def __add__(self, other: Formula) -> Formula:
        total: dict[frozenset[tuple[Atom, float]], tuple[float, Factors]] = {}
        for coefficient, factors in (*self.terms, *other.terms):
            before, first = total.get(frozenset(factors), (0.0, factors))
            total[frozenset(factors)] = (before + coefficient, first)
        return Formula(tuple(term for term in total.values() if term[0] != 0))

    def __neg__(self) -> Formula:
        return Formula(tuple((-c, f) for c, f in self.terms))

    def __mul__(self, other: Formula) -> Formula:
        if not self.terms or not other.terms:
            return Formula()
        if -1.0 in (self.constant, other.constant):
            return -(other if self.constant == -1.0 else self)
        if 1.0 in (self.constant, other.constant):
            return other if self.constant == 1.0 else self
        a = self._single()
        b = other._single()
        powers: dict[Atom, float] = {}
        for atom, power in (*a[1], *b[1]):
            powers[atom] = powers.get(atom, 0.0) + power
        return Formula(((a[0] * b[0], tuple((atom, p) for atom, p in powers.items() if p)),))

    def power(self, exponent: Formula) -> Formula:
        """The formula to a power."""
        n = exponent.constant
        if n == 1:
            return self
        value = self.constant
        if n is not None and value is not None and (value > 0 or n == int(n)) and (value or n > 0):
            return Formula.number(value**n)
        coefficient, factors = self._single()
        if n is None:
            return Formula.call("", (self,), exponent)
        if n != int(n) and (coefficient != 1 or len(factors) != 1 or factors[0][1] != 1):
            return Formula(((1.0, ((Atom("", (self,)), n),)),))
        return Formula(((coefficient**n, tuple((atom, p * n) for atom, p in factors)),))

    def _single(self) -> tuple[float, Factors]:
        """One term: the sum in parentheses where there are more, or none."""
        return self.terms[0] if len(self.terms) == 1 else (1.0, ((Atom("", (self,)), 1.0),))

    @property
    def size(self) -> int:
        """How many terms and factors it has."""
        return sum(1 + sum(1 + sum(f.size for f in atom.inside) for atom, _ in factors) for _, factors in self.terms)


def formulas(program: Program, names: Sequence[Sequence[str]], theta: Sequence[float]) -> list[Formula]:
    """The first output of a program, as formulas.

    Parameters
    ----------
    program : Program
    names : sequence of sequences of str
        Of the numbers of each slot.
    theta : sequence of float
        The parameters, written as numbers.

    Returns
    -------
    list of Formula

    Raises
    ------
    NotReadable
        It calls Python, or is larger than anyone would read.
    """
    values: dict[int, list[Formula]] = {k: [Formula.name(n) for n in slot] for k, slot in enumerate(names)}
    for i in program.instructions:
        values[i.out] = _made(i, values, program, np.asarray(theta, dtype=np.float64))
        if sum(f.size for f in values[i.out]) > LONGEST:
            raise NotReadable("it is too long")
    return values[program.outputs[0]]


def _made(i: Instr, values: dict[int, list[Formula]], program: Program, theta: Any) -> list[Formula]:
    """What an instruction makes."""
    n = program.sizes[i.out]
    operands = [values[r] for r in i.operands]
    if i.op in ELEMENTWISE:
        return [ELEMENTWISE[i.op](*parts) for parts in zip(*operands, strict=True)]
    if i.op in CALLS:
        return [Formula.call(CALLS[i.op], parts) for parts in zip(*operands, strict=True)]
    if i.op == "CONST":
        return [Formula.number(x) for x in program.consts[i.p : i.p + n].tolist()]
    if i.op == "PARAM":
        return [Formula.number(x) for x in theta[i.p : i.p + n].tolist()]
    if i.op == "BCAST":
        return operands[0] * n
    if i.op == "SUM":
        return [_total(operands[0])]
    if i.op == "SLICE":
        return [operands[0][i.p + k * i.q] for k in range(n)]
    if i.op == "CONCAT":
        return [*operands[0], *operands[1]]
    if i.op == "GATHER":
        return [operands[0][k] for k in program.index[i.p : i.p + n].tolist()]
    if i.op == "AFFINE":
        return _affine(theta[i.p : i.p + n * len(operands[0])], operands[0], None if i.q < 0 else theta[i.q : i.q + n])
    if i.op == "MATVEC":
        m = len(operands[1])
        _readable(n * m)
        return [_total(a * b for a, b in zip(operands[0][r * m : (r + 1) * m], operands[1], strict=True)) for r in range(n)]
    raise NotReadable(f"it has the operation {i.op}")


def _affine(W: Any, x: list[Formula], bias: Any) -> list[Formula]:
    _readable(len(W))
    rows = W.reshape(-1, len(x))
    products = [_total(Formula.number(w) * v for w, v in zip(row, x, strict=True)) for row in rows.tolist()]
    return products if bias is None else [f + Formula.number(b) for f, b in zip(products, bias.tolist(), strict=True)]


def _readable(size: int) -> None:
    if size > LARGEST_MATRIX:
        raise NotReadable(f"it has a matrix of {size} numbers")


def _total(parts: Iterable[Formula]) -> Formula:
    total = Formula()
    for part in parts:
        total = total + part
    return total


TWO = Formula.number(2.0)

INVERSE = Formula.number(-1.0)

ELEMENTWISE: dict[str, Callable[..., Formula]] = {
    "NEG": lambda a: -a,
    "SQUARE": lambda a: a.power(TWO),
    "RECIP": lambda a: a.power(INVERSE),
    "ADD": lambda a, b: a + b,
    "SUB": lambda a, b: a + -b,
    "MUL": lambda a, b: a * b,
    "DIV": lambda a, b: a * b.power(INVERSE),
    "POW": lambda a, b: a.power(b),
}
"""Operations of arithmetic."""


# ---- Writing

WRITTEN = 12
"""Numbers that so many digits hold were written down: numbers that were fitted have more."""


def as_text(formula: Formula, digits: int = 4) -> str:
    """The formula as a line of text."""
    return _sum(formula, lambda c, f: _text_term(c, f, digits))


def as_latex(formula: Formula, digits: int = 4) -> str:
    """The formula in LaTeX."""
    return _sum(formula, lambda c, f: _latex_term(c, f, digits))


def _sum(formula: Formula, write: Callable[[float, Factors], str]) -> str:
    found = ""
    for coefficient, factors in formula.terms:
        sign = "-" if coefficient < 0 else "+"
        text = write(abs(coefficient), factors)
        found += f" {sign} {text}" if found else ("-" if sign == "-" else "") + text
    return found or "0"


def _split(factors: Factors) -> tuple[list[tuple[Atom, float]], list[tuple[Atom, float]]]:
    return [(a, p) for a, p in factors if p > 0], [(a, -p) for a, p in factors if p < 0]


def _digits(coefficient: float, factors: Factors, digits: int) -> int:
    """The digits of a number: of one that is added, and was written down (the 101325 of y - 101325), all that it has."""
    written = not factors and float(f"{coefficient:.{WRITTEN}g}") == coefficient
    return WRITTEN if written else digits


def _text_term(coefficient: float, factors: Factors, digits: int) -> str:
    above, below = _split(factors)
    parts = [_text_power(a, p, digits) for a, p in above]
    number = f"{coefficient:.{_digits(coefficient, factors, digits)}g}"
    if number != "1" or not parts:
        parts = [number, *parts]
    text = "*".join(parts)
    if below:
        under = "*".join(_text_power(a, p, digits) for a, p in below)
        text += f"/({under})" if len(below) > 1 else f"/{under}"
    return text


def _text_power(atom: Atom, power: float, digits: int) -> str:
    inside = ", ".join(as_text(f, digits) for f in atom.inside)
    text = f"{atom.name}({inside})" if atom.inside else atom.name
    if atom.exponent is not None:
        text += f"^({as_text(atom.exponent, digits)})"
    return text if power == 1 else f"{text}^{power:.{digits}g}"


def _latex_term(coefficient: float, factors: Factors, digits: int) -> str:
    above, below = _split(factors)
    parts = [_latex_power(a, p, digits) for a, p in above]
    number = latex_number(coefficient, _digits(coefficient, factors, digits))
    if below:
        alone = len(below) == 1 and below[0][1] == 1 and not below[0][0].name and below[0][0].exponent is None
        under = " ".join(_latex_power(a, p, digits) for a, p in below)
        under = as_latex(below[0][0].inside[0], digits) if alone else under
        over = " ".join(parts if number == "1" and parts else [number, *parts])
        return rf"\frac{{{over}}}{{{under}}}"
    return " ".join(parts if number == "1" and parts else [number, *parts])


def _latex_power(atom: Atom, power: float, digits: int) -> str:
    inside = ", ".join(as_latex(f, digits) for f in atom.inside)
    if not atom.inside:
        text = latex_name(atom.name)
    elif atom.name == "sqrt":
        text = rf"\sqrt{{{inside}}}"
    elif atom.name == "abs":
        text = rf"\left|{inside}\right|"
    else:
        known = f"\\{atom.name}" if atom.name in KNOWN_TO_LATEX else latex_name(atom.name) if atom.name else ""
        text = rf"{known}\left({inside}\right)"
    if atom.exponent is not None:
        text += f"^{{{as_latex(atom.exponent, digits)}}}"
    return text if power == 1 else f"{text}^{{{latex_number(power, digits)}}}"


def latex_number(value: float, digits: int = 4) -> str:
    """A number in LaTeX."""
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}" if exponent else mantissa


def latex_name(name: str) -> str:
    r"""A name in LaTeX: y_{1} for y1, \mathrm{prey} for prey."""
    letters = name.rstrip("0123456789")
    number = name[len(letters) :]
    letters = letters.rstrip("_") if number else letters
    plain = "".join(
        {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}"}.get(c, c) for c in letters
    )
    plain = plain.replace("\\ ", " ")
    base = plain if len(letters) == 1 else rf"\mathrm{{{plain}}}"
    return f"{base}_{{{number}}}" if number else base
