"""Which entries of a program's Jacobian may differ from 0, and columns that share a pushforward."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pynode.programs.program import ACCUMULATING, Instr, Program

Mask = NDArray[np.bool_]
Rule = Callable[[Program, Instr, list[Mask]], Mask]


FLAT = ("SIGN", "STEP", "LT", "LE", "EQ")
"""Piecewise constant: derivatives are 0."""


def jacobian_mask(program: Program, slot: int) -> Mask:
    """Whether an element of output 0 may depend on an element of a slot.

    Parameters
    ----------
    program : Program
        Its output 0 is a register.
    slot : int

    Returns
    -------
    (n_out, n_slot) bool array
        False: the derivative is 0 whatever the numbers are. Where branches are chosen (``where``, ``max``) both count.
    """
    n = program.sizes[slot]
    mask: list[Mask | None] = [None] * len(program.sizes)  # None: all False
    mask[slot] = np.eye(n, dtype=bool)
    for ins in program.instructions:
        if ins.op in ACCUMULATING or ins.op in FLAT:
            continue
        if ins.op == "CALL":
            mask[ins.out] = np.ones((program.sizes[ins.out], n), dtype=bool)
            continue
        operands = ins.operands[1:] if ins.op == "WHERE" else ins.operands
        if all(mask[r] is None for r in operands):
            continue
        x = [np.zeros((program.sizes[r], n), dtype=bool) if (m := mask[r]) is None else m for r in operands]
        mask[ins.out] = RULES.get(ins.op, _same)(program, ins, x)
    out = program.outputs[0]
    found = None if out < 0 else mask[out]
    return np.zeros((program.sizes[out] if out >= 0 else n, n), dtype=bool) if found is None else found


def _same(program: Program, ins: Instr, x: list[Mask]) -> Mask:
    some: Mask = np.logical_or.reduce(x)
    return some


def _dense(program: Program, ins: Instr, x: list[Mask]) -> Mask:
    """Every element depends on what some element of an operand depends on."""
    some = np.logical_or.reduce([m.any(axis=0) for m in x])
    return np.broadcast_to(some, (program.sizes[ins.out], some.size))


def _matrix(program: Program, r: int) -> Mask | None:
    """Which entries of a register differ from 0, where it is a constant."""
    for ins in program.instructions:
        if ins.out == r:
            return program.consts[ins.p : ins.p + program.sizes[r]] != 0 if ins.op == "CONST" else None
    return None


def _product(program: Program, ins: Instr, x: list[Mask], transposed: bool) -> Mask:
    """A b or A^T b with the matrix in register a."""
    A, b = x
    k = program.sizes[ins.b]
    m = program.sizes[ins.out]
    shape = (k, m) if transposed else (m, k)
    entries = _matrix(program, ins.a)
    used = np.ones(shape, dtype=bool) if entries is None else entries.reshape(shape)
    used = used.T if transposed else used
    of_b = used.astype(np.float32) @ b.astype(np.float32) > 0
    of_A = A.reshape(*shape, -1).any(axis=0 if transposed else 1)
    return np.logical_or(of_b, of_A)


def _scatter(program: Program, ins: Instr, x: list[Mask]) -> Mask:
    out = np.zeros((program.sizes[ins.out], x[0].shape[1]), dtype=bool)
    np.logical_or.at(out, program.index[ins.p : ins.p + program.sizes[ins.a]], x[0])
    return out


RULES: dict[str, Rule] = {
    "AFFINE": _dense,
    "AFFINE_T": _dense,
    "SUM": _dense,
    "MATVEC": lambda program, ins, x: _product(program, ins, x, False),
    "MATVEC_T": lambda program, ins, x: _product(program, ins, x, True),
    "OUTER": lambda program, ins, x: np.logical_or(x[0][:, None], x[1][None]).reshape(-1, x[0].shape[1]),
    "BCAST": lambda program, ins, x: np.broadcast_to(x[0], (program.sizes[ins.out], x[0].shape[1])),
    "SLICE": lambda program, ins, x: x[0][ins.p + ins.q * np.arange(program.sizes[ins.out])],
    "CONCAT": lambda program, ins, x: np.concatenate(x),
    "GATHER": lambda program, ins, x: x[0][program.index[ins.p : ins.p + program.sizes[ins.out]]],
    "SCATTER": _scatter,
}
"""Operations that are not elementwise: the mask of the result from those of the operands."""


def colours(mask: Mask) -> NDArray[np.int64]:
    """A colour for each column, such that no row has two entries in columns of one colour.

    One pushforward gives all columns of a colour (Curtis, Powell & Reid 1974, IMA J. Appl. Math. 13). Greedy, column by
    column.
    """
    taken = [0] * len(mask)  # by row, a bit for each colour
    colour = np.zeros(mask.shape[1], dtype=np.int64)
    for c in range(mask.shape[1]):
        rows = np.flatnonzero(mask[:, c]).tolist()
        used = 0
        for r in rows:
            used |= taken[r]
        free = ~used & (used + 1)
        colour[c] = free.bit_length() - 1
        for r in rows:
            taken[r] |= free
    return colour
