"""What a field computes of its parameters alone: once for a solve, with a gradient that goes through it once.

A program keeps such registers in its prologue. But a matrix among them is copied into every lane, and the vjp goes back
through what makes it at every stage. As further parameters they have the kernels of parameters, and the way back goes
through what makes them once, with the sum of all cotangents (Aho, Lam, Sethi, Ullman, *Compilers*, 9.5, code motion; here
with its transpose).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from pynode.programs.builder import Builder
from pynode.programs.derivatives import GradSink, pullback, vjp_program
from pynode.programs.program import READS_THETA, Instr, Program

LEAST = 16
"""Fewer numbers than these are computed where they are."""

MOST_NUMBERS = 1 << 22
"""In the registers of a program, with their padding: the core takes no more."""

MOVES = ("PARAM", "CONST", "SLICE", "GATHER", "BCAST", "CONCAT")
"""Operations that compute nothing."""


@dataclass(frozen=True)
class Hoisted:
    """A field in two parts.

    Attributes
    ----------
    once : Program
        No slots; its output: numbers that depend on theta alone.
    rest : Program
        The field, with slots t, y, u, that reads them behind theta.
    """

    once: Program
    rest: Program

    @cached_property
    def once_vjp(self) -> Program:
        """Slot: the cotangent of the numbers; accumulates that of theta into grad_0."""
        b = Builder((self.once.sizes[self.once.outputs[0]],), self.once.n_theta, self.once.n_theta)
        env = b.replay(self.once, [])
        pullback(b, self.once, env, [0], wanted=(), theta_bar=[GradSink(b)])
        return b.finish([None])

    @property
    def fits(self) -> bool:
        """Whether the core takes the programs: they put together what the field has in pieces."""
        numbers = _numbers(self.once)
        return numbers < MOST_NUMBERS // 16 or max(numbers, _numbers(self.once_vjp)) < MOST_NUMBERS

    @cached_property
    def rest_vjp(self) -> Program:
        """The vjp program of `rest`."""
        return vjp_program(self.rest)


def hoisted(program: Program) -> Hoisted | None:
    """The parts of a field.

    Parameters
    ----------
    program : Program
        Of a field, see docs/program.md.

    Returns
    -------
    Hoisted or None
        None where too little is computed of parameters alone, or too much.
    """
    (n,) = program.n_theta
    chosen = _chosen(program)
    if sum(program.sizes[r] for r in chosen) < LEAST:
        return None
    b = Builder((), program.n_theta)
    env = b.replay(program, [None] * program.n_slots, prologue=True)
    once = b.finish([b.end_to_end([env[r] for r in chosen])])
    b = Builder(program.slot_sizes, (n + once.sizes[once.outputs[0]],))
    known = {}
    for r in chosen:
        known[r] = b.param(n, program.sizes[r], 0)
        n += program.sizes[r]
    env = b.replay(program, b.slots, known=known)
    parts = Hoisted(once, b.finish([env[r] for r in program.outputs]))
    return parts if parts.fits else None


def _numbers(program: Program) -> int:
    return sum(program.sizes) + 16 * len(program.sizes)


def _chosen(program: Program) -> list[int]:
    """Registers of the prologue to be handed on: matrices of products, and what else is computed of theta."""
    made: dict[int, Instr] = {}
    of_theta: set[int] = set()
    for ins in program.instructions[: program.segments[0]]:
        made[ins.out] = ins
        if ins.op in READS_THETA or any(r in of_theta for r in ins.operands):
            of_theta.add(ins.out)
    chosen: set[int] = set()
    for ins in program.instructions[program.segments[0] :]:
        products = ins.op in ("MATVEC", "MATVEC_T")
        chosen |= {ins.a} & of_theta if products else set()
        chosen |= _computed(made, of_theta, ins.operands[1:] if products else ins.operands)
    return sorted(chosen | _computed(made, of_theta, program.outputs))


def _computed(made: dict[int, Instr], of_theta: set[int], registers: Iterable[int]) -> set[int]:
    """What these registers were computed of, with all that only moved numbers left away."""
    found: set[int] = set()
    left = [r for r in registers if r in of_theta]
    while left:
        r = left.pop()
        if made[r].op in MOVES:
            left += [operand for operand in made[r].operands if operand in of_theta]
        else:
            found.add(r)
    return found
