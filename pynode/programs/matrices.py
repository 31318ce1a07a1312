"""Matrices of a program: transposes, and sums that need not be formed before they are multiplied with a vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from pynode.programs.program import Instr

if TYPE_CHECKING:
    from pynode.programs.builder import Builder

MOST_MATRICES = 4
"""A matrix that is a sum of more is formed before it is multiplied with."""

Term = tuple[bool, int | None, int]
"""A matrix in a sum: whether it is subtracted, the register of the number that multiplies it or None, its own register."""


def matrices(b: Builder, A: int) -> list[Term]:
    """What a matrix that changes with t or y is the sum of, where that is matrices of parameters and constants: W0 + t W1.

    A product with each of these serves all samples; the sum would be formed for each sample.

    Returns
    -------
    list of Term
        Empty where the matrix is no such sum.
    """
    found: list[Term] = []
    left: list[tuple[bool, int]] = [(False, A)] if b.varying[A] else []
    while left:
        negative, r = left.pop()
        ins = b.made[r]
        scaled = _scaled(b, ins)
        if not b.varying[r]:
            found.append((negative, None, r))
        elif scaled is not None:
            found.append((negative, *scaled))
        elif ins is not None and ins.op == "NEG":
            left.append((not negative, ins.a))
        elif ins is not None and ins.op in ("ADD", "SUB"):
            left += [(negative != (ins.op == "SUB"), ins.b), (negative, ins.a)]
        else:
            return []
        if len(found) + len(left) > MOST_MATRICES:
            return []
    return found


def _scaled(b: Builder, ins: Instr | None) -> tuple[int, int] | None:
    """The number and the matrix of parameters and constants that an instruction multiplies, or None."""
    if ins is None or ins.op != "MUL":
        return None
    for x, y in ((ins.a, ins.b), (ins.b, ins.a)):
        number = None if b.varying[y] else _repeated(b, x)
        if number is not None:
            return number, y
    return None


def _repeated(b: Builder, r: int) -> int | None:
    """The number that a register repeats, or None."""
    ins = b.made[r]
    if ins is not None and ins.op == "BCAST":
        return ins.a
    if ins is not None and ins.op == "GATHER":
        index = b.index.get(ins.p, b.sizes[r])
        return b.gather(ins.a, index[:1]) if (index == index[0]).all() else None
    return None


def sum_of_products(b: Builder, terms: Sequence[Term], product: Callable[[int], int]) -> int:
    """The sum of the products with each of some matrices; product(register) writes one."""
    result: int | None = None
    for negative, factor, B in terms:
        value = product(B)
        if factor is not None:
            value = b.mul(b.broadcast(factor, b.sizes[value]), value)
        if result is None:
            result = b.neg(value) if negative else value
        else:
            result = b.sub(result, value) if negative else b.add(result, value)
    return cast(int, result)


def transposes(index: NDArray[np.int64], m: int, n: int) -> bool:
    """Whether an index picks the transpose of an (m, n) matrix."""
    return index.size == m * n and np.array_equal(index, np.arange(m * n).reshape(m, n).T.ravel())


def transpose_of(b: Builder, A: int, m: int, n: int) -> int | None:
    """The register that A (m n) is the written-out transpose of, else None."""
    ins = b.made[A]
    if ins is None or ins.op != "GATHER" or b.sizes[ins.a] != m * n:
        return None
    return ins.a if transposes(b.index.get(ins.p, m * n), n, m) else None
