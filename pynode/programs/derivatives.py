"""Derivatives of programs: forward mode (`pushforward`), reverse mode (`pullback`) and the programs the solvers run.

Both modes write instructions into a `Builder`, so they compose to any order. The derivatives of single operations, and
the conventions, are in `pynode.programs.rules`. None stands for an exactly zero tangent or cotangent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pynode.programs.builder import Builder, Sink
from pynode.programs.program import ACCUMULATING, READS_THETA, Instr, Program
from pynode.programs.rules import RULES, Context, Piece, Rule

# ---- Where cotangents are collected


class Cotangent:
    """The sum of what is added to it: whole registers and pieces.

    As a sink it collects a parameter gradient in a register, for use inside another program.
    """

    def __init__(self, b: Builder, size: int) -> None:
        self.b = b
        self.size = size
        self.whole: int | None = None
        self.pieces: dict[tuple[int, ...], int | None] = {}

    def add(self, term: int | Piece) -> None:
        """Add a register of the whole size, or a piece."""
        if isinstance(term, Piece):
            key = tuple(term.index.tolist())
            self.pieces[key] = self.b.total([self.pieces.get(key), term.register])
        else:
            self.whole = self.b.total([self.whole, term])

    def acc(self, p: int, a: int) -> None:
        """Add register a from element p on."""
        self.add(Piece(np.arange(p, p + self.b.sizes[a]), a))

    def acc_outer(self, p: int, a: int, b: int) -> None:
        """Add a b^T, row by row, from element p on."""
        self.acc(p, self.b.outer(a, b))

    def total(self) -> int | None:
        """The register of the sum, None for zero."""
        b = self.b
        pieces = [(key, r) for key, r in sorted(self.pieces.items()) if r is not None]
        scattered = None
        if pieces:
            index = [i for key, _ in pieces for i in key]
            scattered = b.scatter(b.concat(*[r for _, r in pieces]), index, self.size)
        result = b.total([self.whole, scattered])
        return None if result is not None and b.is_const(result, 0.0) else result


class GradSink:
    """Adds to the parameter gradient grad_k of the program that is being written."""

    def __init__(self, b: Builder, k: int = 0) -> None:
        self.b = b
        self.k = k

    def acc(self, p: int, a: int) -> None:
        """Add register a from element p on."""
        self.b.acc(self.k, p, a)

    def acc_outer(self, p: int, a: int, b: int) -> None:
        """Add a b^T, row by row, from element p on."""
        self.b.acc_outer(self.k, p, a, b)


# ---- The two modes


def _padded(values: Iterable[Any] | None, n: int) -> list[Any]:
    """The values with None for those that are missing of n."""
    padded = list(values or ())
    return padded + [None] * (n - len(padded))


def _rule(ins: Instr) -> Rule:
    if ins.op not in RULES:
        raise ValueError(f"the operation {ins.op} has no derivative (a Python callback has only the vjp given with it)")
    return RULES[ins.op]


def pushforward(
    b: Builder,
    program: Program,
    env: Sequence[Any],
    tangents: Sequence[int | None],
    theta: Sequence[int | None] | None = None,
    dtheta: Sequence[int | None] | None = None,
    dgrad: Sequence[Sink | None] | None = None,
) -> list[int | None]:
    """Forward mode: the tangents of the outputs.

    Parameters
    ----------
    b : Builder
        Where the derivative is written.
    program : Program
        What is differentiated.
    env : list
        Registers of the program in `b`, from ``b.replay``.
    tangents : list
        Tangents of the slots.
    theta, dtheta : list, optional
        Registers of the parameter vectors (default: those of `b`) and of their tangents.
    dgrad : list, optional
        Sinks of the tangents of the program's parameter gradients.

    Returns
    -------
    list
        A register, or None for zero, for each output.
    """
    n_theta = len(program.n_theta)
    n_grad = len(program.n_grad)
    theta = [b.theta(k) for k in range(n_theta)] if theta is None else theta
    c = Context(b, program, theta, dtheta=_padded(dtheta, n_theta), dgrad=_padded(dgrad, n_grad))
    d = _padded(tangents, len(program.sizes))
    b.zero_wins = program.is_derivative
    for ins in program.instructions:
        dx = [d[r] for r in ins.operands]
        if ins.op == "CALL" or ins.op in READS_THETA or any(v is not None for v in dx):
            x = [env[r] for r in ins.operands]
            v = _rule(ins).jvp(c, ins, x, env[ins.out] if ins.out >= 0 else None, dx)
            if ins.out >= 0 and v is not None and not b.is_const(v, 0.0):
                d[ins.out] = v
    return [d[r] if r >= 0 else None for r in program.outputs]


def pullback(
    b: Builder,
    program: Program,
    env: Sequence[Any],
    seeds: Sequence[int | None],
    wanted: Sequence[int],
    theta: Sequence[int | None] | None = None,
    theta_bar: Sequence[Sink | None] | None = None,
    grad_bar: Sequence[int | None] | None = None,
) -> list[int | None]:
    """Reverse mode: the cotangents of the slots `wanted`; those of parameters go to sinks.

    Parameters
    ----------
    b, program, env, theta
        As in `pushforward`.
    seeds : list
        Cotangents of the outputs.
    wanted : sequence of int
        Slots.
    theta_bar : list, optional
        Sinks of the cotangents of the parameter vectors.
    grad_bar : list, optional
        Registers: the cotangents of the program's parameter gradients.

    Returns
    -------
    list
        A register, or None for zero, for each slot wanted.
    """
    n_theta = len(program.n_theta)
    n_grad = len(program.n_grad)
    theta = [b.theta(k) for k in range(n_theta)] if theta is None else theta
    c = Context(b, program, theta, theta_bar=_padded(theta_bar, n_theta), grad_bar=_padded(grad_bar, n_grad))
    active = _active(program, wanted, c.theta_bar)
    b.zero_wins = program.is_derivative
    bar = [Cotangent(b, n) for n in program.sizes]
    for r, seed in zip(program.outputs, seeds, strict=True):
        if r >= 0 and seed is not None:
            bar[r].add(seed)
    for ins in reversed(program.instructions):
        if not (c.grad_bar[ins.k] is not None if ins.op in ACCUMULATING else active[ins.out]):
            continue
        v = bar[ins.out].total() if ins.out >= 0 else None
        if v is None and ins.op not in ACCUMULATING:
            continue
        x = [env[r] for r in ins.operands]
        pulls = _rule(ins).vjp(c, ins, x, env[ins.out] if ins.out >= 0 else None, v)
        for r, pull in zip(ins.operands, pulls, strict=True):
            if pull is not None and active[r]:
                bar[r].add(pull())
    return [bar[slot].total() for slot in wanted]


def _active(program: Program, wanted: Sequence[int], theta_bar: Sequence[Sink | None]) -> list[bool]:
    """Which registers depend on something whose cotangent is asked for."""
    active = [slot in wanted for slot in range(len(program.sizes))]
    for ins in program.instructions:
        if ins.out >= 0:
            reads = ins.op in READS_THETA and theta_bar[ins.k] is not None
            active[ins.out] = reads or ins.op == "CALL" or any(active[r] for r in ins.operands)
    return active


# ---- Programs of a field: slots t, y, u; output f


def vjp_program(program: Program) -> Program:
    """Slots (t, y, u, s): outputs [f, s^T df/dy, s^T df/dt, s^T df/du], accumulates s^T df/dtheta into
    grad_0."""
    b = Builder((*program.slot_sizes, program.sizes[program.outputs[0]]), program.n_theta, program.n_theta[:1])
    env = b.replay(program, b.slots[:3])
    gt, gy, gu = pullback(b, program, env, [3], wanted=(0, 1, 2), theta_bar=[GradSink(b)])
    return b.finish([env[program.outputs[0]], gy, gt, gu], forward=1)


def gradient_program(program: Program) -> Program:
    """The program of one number, with the same slots: output [value], accumulates its gradient dvalue/dtheta into grad_0."""
    b = Builder(program.slot_sizes, program.n_theta, program.n_theta[:1])
    env = b.replay(program, b.slots[: len(program.slot_sizes)])
    pullback(b, program, env, [b.full(1, 1.0)], wanted=(), theta_bar=[GradSink(b)])
    return b.finish([env[program.outputs[0]]], forward=1)


def backsolve_program(program: Program) -> Program:
    """Slots (t, z = [y; a], u): outputs [dz, 0, a^T df/dt, a^T df/du] with dz = [f; -a^T df/dy]; accumulates
    a^T df/dtheta into grad_0."""
    nt, d, m = program.slot_sizes
    b = Builder((nt, 2 * d, m), program.n_theta, program.n_theta[:1])
    y = b.slice(1, 0, d)
    a = b.slice(1, d, d)
    env = b.replay(program, [0, y, 2])
    gt, gy, gu = pullback(b, program, env, [a], wanted=(0, 1, 2), theta_bar=[GradSink(b)])
    da = b.neg(gy) if gy is not None else b.full(d, 0.0)
    return b.finish([b.concat(env[program.outputs[0]], da), None, gt, gu], forward=1)


def interpolating_program(program: Program) -> Program:
    """Slots (t, a, w = [y(t); u]): outputs [da, 0, a^T df/dt, [0; a^T df/du]] with da = -a^T df/dy;
    accumulates a^T df/dtheta into grad_0. y(t) is not an input to differentiate by, hence the zeros."""
    nt, d, m = program.slot_sizes
    b = Builder((nt, d, d + m), program.n_theta, program.n_theta[:1])
    env = b.replay(program, [0, b.slice(2, 0, d), b.slice(2, d, m) if m else None])
    gt, gy, gu = pullback(b, program, env, [1], wanted=(0, 1, 2), theta_bar=[GradSink(b)])
    da = b.neg(gy) if gy is not None else b.full(d, 0.0)
    gw = None if gu is None else b.concat(b.full(d, 0.0), gu)
    return b.finish([da, None, gt, gw], forward=1)
