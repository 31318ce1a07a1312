"""Exact simplifications of elementwise operations, for the `Builder`: constants folded, signs and neutral elements gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pynode.programs.builder import Builder

# Exact in floating point, or cheap enough to do once in Python: folded when all operands are constants.
FOLD: dict[str, Callable[..., Any]] = {
    "NEG": np.negative,
    "ABS": np.abs,
    "SIGN": np.sign,
    "SQUARE": np.square,
    "RECIP": np.reciprocal,
    "STEP": lambda a: np.where(a > 0, 1.0, 0.0),
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "DIV": np.divide,
    "DMUL": lambda a, b: np.where((a == 0) | (b == 0), 0.0, a * b),
    "DDIV": lambda a, b: np.where(a == 0, 0.0, a / b),
    "LT": np.less,
    "LE": np.less_equal,
    "EQ": np.equal,
    "WHERE": lambda m, a, b: np.where(m != 0, a, b),
}


def simplified(b: Builder, op: str, x: tuple[int, ...]) -> int | None:
    """The register of an elementwise operation where it is known or simpler without it, else None."""
    values = [b.const_value(r) for r in x]
    if op in FOLD and all(v is not None for v in values):
        with np.errstate(all="ignore"):
            return b.const(FOLD[op](*values))
    ins = b.made[x[0]]
    if op == "NEG" and ins is not None and ins.op == "NEG":
        return ins.a
    if op == "WHERE" and values[0] is not None:
        chosen = values[0] != 0
        return x[1] if chosen.all() else x[2] if not chosen.any() else None
    if len(x) == 2:
        return _simplified_binary(b, op, *x)
    return None


def _simplified_binary(b: Builder, op: str, x: int, y: int) -> int | None:
    negated = [r.a if r is not None and r.op == "NEG" else None for r in (b.made[x], b.made[y])]
    if op == "ADD":
        if b.is_const(x, 0.0) or b.is_const(y, 0.0):
            return y if b.is_const(x, 0.0) else x
        if negated[1] is not None:
            return b.sub(x, negated[1])
        if negated[0] is not None:
            return b.sub(y, negated[0])
        return _with_bias(b, x, y) or _with_bias(b, y, x)
    if op == "SUB":
        if b.is_const(y, 0.0):
            return x
        if b.is_const(x, 0.0):
            return b.neg(y)
        return b.add(x, negated[1]) if negated[1] is not None else None
    if op in ("MUL", "DIV") and b.is_const(y, 1.0):
        return x
    if op in ("MUL", "DIV") and b.is_const(y, -1.0):
        return b.neg(x)
    if op == "MUL":
        if b.is_const(x, 1.0) or b.is_const(x, -1.0):
            return b.mul(y, x)
        return b.square(x) if x == y else None
    return None


def _with_bias(b: Builder, product: int, bias: int) -> int | None:
    """AFFINE without bias + PARAM of the same theta -> AFFINE with bias."""
    f, g = b.made[product], b.made[bias]
    if f is None or g is None or f.op != "AFFINE" or f.q >= 0 or g.op != "PARAM" or f.k != g.k:
        return None
    return b.emit("AFFINE", b.sizes[product], f.a, p=f.p, q=g.p, k=f.k)
