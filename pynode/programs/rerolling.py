"""Loops that were written out are rolled up again, for the `Builder`.

A Python loop over the components of a state traces to as many copies of its body as there are components, each on
single numbers. Numbers that stand one after the other in a list and were computed alike, by the same operations from
neighbouring or equal operands, are computed by one operation on vectors in place of them: the same operations on the
same numbers, so the same bits.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pynode.programs.program import COMMUTATIVE, SAME, Instr

if TYPE_CHECKING:
    from pynode.programs.builder import Builder


FEWEST = 16
"""So many numbers at least are computed together."""

DEEPEST = 1000
"""So many operations lie above one another, at most: as many terms has a sum that a loop adds up."""


def rerolled(b: Builder, xs: Sequence[int]) -> list[int]:
    """Registers that hold the same numbers one after the other as these do: fewer where numbers were computed alike."""
    if len(xs) < FEWEST:
        return list(xs)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 4 * DEEPEST)  # three calls for each operation
    try:
        return _Roller(b).parts(xs, 0)[0]
    except RecursionError:  # another thread has set the limit back
        return list(xs)
    finally:
        sys.setrecursionlimit(limit)


class _Roller:
    """One call of `rerolled`."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.known: dict[tuple[int, ...], int | None] = {}

    def parts(self, xs: Sequence[int], depth: int) -> tuple[list[int], int]:
        """The registers in place of these, and how many numbers are in vectors."""
        out: list[int] = []
        vectors = 0
        for run in self.runs(xs):
            whole = self.together(tuple(run), depth) if len(run) >= FEWEST else None
            out.extend(run if whole is None else [whole])
            vectors += 0 if whole is None else len(run)
        return out, vectors

    def runs(self, xs: Sequence[int]) -> Iterator[list[int]]:
        """The registers, cut where the way in which they were computed changes."""
        run: list[int] = []
        for r in xs:
            if run and self.kind(r) != self.kind(run[0]):
                yield run
                run = []
            run.append(r)
        yield run

    def kind(self, r: int) -> Hashable:
        """What registers that may be computed together have in common."""
        ins = self.b.made[r]
        if ins is None or self.b.sizes[r] != 1:
            return r
        if ins.op == "SLICE":
            return ins.op, ins.a
        if ins.op == "PARAM":
            return ins.op, ins.k
        return ins.op if ins.op == "CONST" or ins.op in SAME else r

    def together(self, run: tuple[int, ...], depth: int) -> int | None:
        """One register of what these hold, all of one kind; None where their operands differ too much."""
        if run not in self.known:
            self.known[run] = self._together(run, depth)
        return self.known[run]

    def _together(self, run: tuple[int, ...], depth: int) -> int | None:
        b = self.b
        made = [ins for r in run if (ins := b.made[r]) is not None]
        if len(set(run)) == 1:
            return b.broadcast(run[0], len(run)) if b.sizes[run[0]] == 1 else None
        if not made or depth > DEEPEST:
            return None
        first = made[0]
        if first.op == "CONST":
            return b.const(np.concatenate([b.consts.get(ins.p, 1) for ins in made]))
        if first.op == "SLICE":
            return b.gather(first.a, [ins.p for ins in made])
        if first.op == "PARAM":
            return b.gather(b.param(0, b.n_theta[first.k], first.k), [ins.p for ins in made])
        columns = []
        for column in self.operands(made):
            parts, vectors = self.parts(column, depth + 1)
            if 2 * vectors < len(run):
                return None
            columns.append(b.end_to_end(parts))
        return b.same(first.op, *columns)

    def operands(self, made: Sequence[Instr]) -> list[list[int]]:
        """The first operands, the second ones, ...; those of sums and products in the order that makes them alike."""
        rows: list[tuple[int, ...]] = []
        for ins in made:
            row = ins.operands
            if ins.op in COMMUTATIVE and rows and self.differences(row, rows[-1]) > self.differences(row[::-1], rows[-1]):
                row = row[::-1]
            rows.append(row)
        return [list(column) for column in zip(*rows, strict=True)]

    def differences(self, row: tuple[int, ...], before: tuple[int, ...]) -> int:
        """How much operands differ from those of the one before: 2 for another kind, 1 where they are no neighbours."""
        return sum(self.difference(r, s) for r, s in zip(row, before, strict=True))

    def difference(self, r: int, before: int) -> int:
        """The same for one operand."""
        if r == before:
            return 0
        if self.kind(r) != self.kind(before):
            return 2
        x = self.b.made[r]
        y = self.b.made[before]
        return int(x is not None and y is not None and x.op in ("SLICE", "PARAM") and x.p != y.p + 1)
