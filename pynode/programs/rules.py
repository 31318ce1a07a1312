"""The derivative of every operation: one entry of `RULES` each.

Rules write instructions into a `Builder`, and every rule is written in operations that have rules themselves, so
derivatives can be taken to any order.

Conventions: x is the tuple of operand registers, y the output register, v a tangent of an operand or a cotangent of the
output, dx tangents of the operands. None stands for an exactly zero tangent or cotangent.

A tangent or cotangent that is 0 at run time stays 0, even where the derivative is infinite or NaN (sqrt at 0, the branch
of `numpy.where` that is not taken): `times`, `over` and `settled` see to that. Products with what is always finite are
plain ones.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pynode.programs.builder import Builder, Sink, weights
from pynode.programs.program import Instr, Program

Registers = Sequence[int]
Tangents = Sequence[int | None]
Map = Callable[[int], int]
"""From a register to the register of its image under a linear map."""


Pull = Callable[[], Any]
"""Writes the cotangent of an operand: gives a register or a `Piece`."""


@dataclass(frozen=True)
class Piece:
    """A cotangent of some elements of a register only."""

    index: NDArray[np.int64]
    register: int


@dataclass
class Context:
    """What a rule may read: the builder, the program that is differentiated, and registers of parameter vectors.

    Attributes
    ----------
    theta, dtheta : list
        Registers of each parameter vector and of its tangent; None where there is none, here and below.
    theta_bar : list
        Sinks of the cotangents of the parameter vectors.
    dgrad : list
        Sinks of the tangents of the program's parameter gradients.
    grad_bar : list
        Registers of the cotangents of the program's parameter gradients.
    """

    b: Builder
    program: Program
    theta: Sequence[Any]
    dtheta: Sequence[int | None] = field(default_factory=list)
    dgrad: Sequence[Sink | None] = field(default_factory=list)
    theta_bar: Sequence[Sink | None] = field(default_factory=list)
    grad_bar: Sequence[Any] = field(default_factory=list)

    def weights(self, ins: Instr, theta: int) -> tuple[int, int | None]:
        """Registers of the matrix and the bias of an affine instruction, read from this parameter vector."""
        sizes = self.program.sizes
        m, n = (ins.out, ins.a) if ins.op == "AFFINE" else (ins.a, ins.out)
        return weights(self.b, theta, ins, sizes[m], sizes[n])


class Rule(NamedTuple):
    """The derivative of one operation.

    Attributes
    ----------
    jvp : callable
        jvp(c, ins, x, y, dx) -> tangent of y, or None.
    vjp : callable
        vjp(c, ins, x, y, v) -> for each operand a function that gives its cotangent (a register or a `Piece`), or None.
    """

    jvp: Callable[..., int | None]
    vjp: Callable[..., Sequence[Pull | None]]


def times(b: Builder, v: int, z: int) -> int:
    """v z for a tangent or cotangent v; 0 where either is 0 if z may be infinite or NaN.

    In a derivative of a derivative also if v may be: z can be a cotangent there, and its 0 wins over the infinite slope
    of what it was not used for.
    """
    return b.mul(v, z) if b.finite[z] and (b.finite[v] or not b.zero_wins) else b.dmul(v, z)


def over(b: Builder, v: int, z: int) -> int:
    """v / z for a tangent or cotangent v; 0 where v is 0, also if z is."""
    divisor = b.const_value(z)
    return b.ddiv(v, z) if divisor is None or not divisor.all() else b.div(v, z)


def settled(b: Builder, z: int, v: int) -> int:
    """z for a product with v; where v is 0 altogether, 0 in place of what is infinite or NaN in z."""
    if b.finite[z]:
        return z
    n = b.sizes[z]
    zero = b.full(n, 0.0)
    some = b.broadcast(b.sum(b.abs(v)), n)
    return b.where(b.add(some, b.eq(b.sub(z, z), zero)), z, zero)


RULES: dict[str, Rule] = {}
"""Operation -> its derivative; every operation but CALL."""


def diagonal(op: str, partials: Callable[..., Iterable[Map | None]]) -> None:
    """An elementwise operation. Its Jacobian is diagonal, so one map v -> (dy/dx_i) v, given by ``partials(b, y, *x)``
    for each operand (None: zero), pushes tangents forward and pulls cotangents back."""

    def jvp(c: Context, ins: Instr, x: Registers, y: int, dx: Tangents) -> int | None:
        maps = partials(c.b, y, *x)
        return c.b.total([f(v) for f, v in zip(maps, dx, strict=True) if f is not None and v is not None])

    def vjp(c: Context, ins: Instr, x: Registers, y: int, v: int) -> Sequence[Pull | None]:
        return [None if f is None else functools.partial(f, v) for f in partials(c.b, y, *x)]

    RULES[op] = Rule(jvp, vjp)


def _flat(n: int) -> Callable[..., Iterable[Map | None]]:
    """Piecewise constant in its n operands."""
    return lambda b, y, *x: (None,) * n


def _pow(b: Builder, y: int, x: int, e: int) -> Iterable[Map]:
    n = b.sizes[x]
    zero = b.full(n, 0.0)
    one = b.full(n, 1.0)
    is_flat = b.eq(e, zero)  # x^0 = 1 also at x = 0
    one_less = b.where(is_flat, one, b.sub(e, one))
    base = b.where(b.eq(x, zero), one, x)  # 0^e = 0 for every e > 0
    return (lambda v: times(b, v, b.mul(e, b.pow(x, one_less)))), (lambda v: times(b, v, b.mul(y, b.log(base))))


def _sqrt(b: Builder, y: int, x: int) -> Iterable[Map]:
    """v / (2 y). The root of a sum of squares is a norm, whose derivative at 0 is 0 (a subgradient), not infinite."""
    if _sum_of_squares(b, x):
        zero = b.full(b.sizes[x], 0.0)
        return (lambda v: over(b, b.where(y, v, zero), b.scale(2.0, y)),)
    return (lambda v: over(b, v, b.scale(2.0, y)),)


_KEEP_SQUARES = ("ADD", "MUL", "DIV", "MATVEC", "SUM", "BCAST", "SLICE", "GATHER", "CONCAT")


def _sum_of_squares(b: Builder, x: int) -> bool:
    """Whether a register holds sums of squares, with weights that are constants or squares themselves."""
    waiting = [x]
    seen = set()
    while waiting:
        r = waiting.pop()
        ins = b.made[r]
        value = b.const_value(r)
        if r in seen or (value is not None and (value >= 0).all()) or (ins is not None and ins.op == "SQUARE"):
            continue
        if ins is None or ins.op not in _KEEP_SQUARES:
            return False
        seen.add(r)
        waiting.extend(ins.operands)
    return True


def _larger(compare: Callable[[Builder, int, int], int]) -> Callable[..., Iterable[Map | None]]:
    """max and min: the cotangent goes to the operand chosen, to the first where they are equal."""

    def partials(b: Builder, y: int, x: int, z: int) -> Iterable[Map]:
        zero = b.full(b.sizes[x], 0.0)
        first = compare(b, x, z)
        return (lambda v: b.where(first, v, zero)), (lambda v: b.where(first, zero, v))

    return partials


def _where(b: Builder, y: int, mask: int, x: int, z: int) -> Iterable[Map | None]:
    zero = b.full(b.sizes[x], 0.0)
    return None, (lambda v: b.where(mask, v, zero)), (lambda v: b.where(mask, zero, v))


_ELEMENTWISE: dict[str, Callable[..., Iterable[Map | None]]] = {
    "NEG": lambda b, y, x: (b.neg,),
    "ABS": lambda b, y, x: (lambda v: times(b, v, b.sign(x)),),
    "SIGN": _flat(1),
    "SQUARE": lambda b, y, x: (lambda v: times(b, v, b.scale(2.0, x)),),
    "RECIP": lambda b, y, x: (lambda v: b.neg(times(b, v, b.square(y))),),
    "SQRT": _sqrt,
    "EXP": lambda b, y, x: (lambda v: times(b, v, y),),
    "EXPM1": lambda b, y, x: (lambda v: times(b, v, b.exp(x)),),
    "LOG": lambda b, y, x: (lambda v: over(b, v, x),),
    "LOG1P": lambda b, y, x: (lambda v: over(b, v, b.add(x, b.full(b.sizes[x], 1.0))),),
    "SIN": lambda b, y, x: (lambda v: times(b, v, b.cos(x)),),
    "COS": lambda b, y, x: (lambda v: b.neg(times(b, v, b.sin(x))),),
    "TANH": lambda b, y, x: (lambda v: b.dtanh(v, y),),
    "SIGMOID": lambda b, y, x: (lambda v: b.dsigmoid(v, y),),
    "SOFTPLUS": lambda b, y, x: (lambda v: times(b, v, b.sigmoid(x)),),
    "RELU": lambda b, y, x: (lambda v: times(b, v, b.step(x)),),
    "STEP": _flat(1),
    "ERF": lambda b, y, x: (lambda v: times(b, v, b.scale(2.0 / math.sqrt(math.pi), b.exp(b.neg(b.square(x))))),),
    "ATAN": lambda b, y, x: (lambda v: over(b, v, b.add(b.square(x), b.full(b.sizes[x], 1.0))),),
    "ADD": lambda b, y, x, z: (lambda v: v, lambda v: v),
    "SUB": lambda b, y, x, z: (lambda v: v, b.neg),
    "MUL": lambda b, y, x, z: (lambda v: times(b, v, z), lambda v: times(b, v, x)),
    "DIV": lambda b, y, x, z: (lambda v: over(b, v, z), lambda v: b.neg(over(b, times(b, v, y), z))),
    "POW": _pow,
    "MAX": _larger(lambda b, x, z: b.le(z, x)),
    "MIN": _larger(lambda b, x, z: b.le(x, z)),
    "LT": _flat(2),
    "LE": _flat(2),
    "EQ": _flat(2),
    "DTANH": lambda b, y, x, z: (lambda v: b.dtanh(v, z), lambda v: times(b, b.scale(-2.0, v), times(b, x, z))),
    "DSIGMOID": lambda b, y, x, z: (
        lambda v: b.dsigmoid(v, z),
        lambda v: times(b, v, times(b, x, b.sub(b.full(b.sizes[z], 1.0), b.scale(2.0, z)))),
    ),
    "DMUL": lambda b, y, x, z: (lambda v: b.dmul(v, z), lambda v: b.dmul(v, x)),
    "DDIV": lambda b, y, x, z: (lambda v: over(b, v, z), lambda v: b.neg(over(b, b.dmul(v, y), z))),
    "WHERE": _where,
}
for _op, _partials in _ELEMENTWISE.items():
    diagonal(_op, _partials)


def bilinear(op: str, product: Callable[..., int], transposes: Callable[..., Sequence[Pull]]) -> None:
    """y = product(b, *x), linear in each operand; transposes(b, v, *x) gives the cotangents."""

    def jvp(c: Context, ins: Instr, x: Registers, y: int, dx: Tangents) -> int | None:
        return c.b.total([product(c.b, *x[:i], v, *x[i + 1 :]) for i, v in enumerate(dx) if v is not None])

    RULES[op] = Rule(jvp, lambda c, ins, x, y, v: transposes(c.b, v, *x))


bilinear(
    "MATVEC",
    Builder.matvec,
    lambda b, v, A, x: (lambda: b.outer(v, settled(b, x, v)), lambda: b.matvec_t(settled(b, A, v), v)),
)
bilinear(
    "MATVEC_T",
    Builder.matvec_t,
    lambda b, v, A, x: (lambda: b.outer(settled(b, x, v), v), lambda: b.matvec(settled(b, A, v), v)),
)
bilinear(
    "OUTER",
    Builder.outer,
    lambda b, v, x, z: (lambda: b.matvec(v, settled(b, z, v)), lambda: b.matvec_t(v, settled(b, x, v))),
)


def linear(op: str, push: Callable[[Context, Instr, int], int], pull: Callable[[Context, Instr, int], Any]) -> None:
    """A linear operation of one operand: push(c, ins, v) -> tangent, pull(c, ins, v) -> cotangent."""
    RULES[op] = Rule(lambda c, ins, x, y, dx: push(c, ins, dx[0]), lambda c, ins, x, y, v: (lambda: pull(c, ins, v),))


def _slice_index(c: Context, ins: Instr) -> NDArray[Any]:
    return ins.p + ins.q * np.arange(c.program.sizes[ins.out])


def _gather_index(c: Context, ins: Instr) -> NDArray[Any]:
    return c.program.index[ins.p : ins.p + c.program.sizes[ins.out]]


def _scatter_index(c: Context, ins: Instr) -> NDArray[Any]:
    return c.program.index[ins.p : ins.p + c.program.sizes[ins.a]]


linear("BCAST", lambda c, ins, v: c.b.broadcast(v, c.program.sizes[ins.out]), lambda c, ins, v: c.b.sum(v))
linear("SUM", lambda c, ins, v: c.b.sum(v), lambda c, ins, v: c.b.broadcast(v, c.program.sizes[ins.a]))
linear(
    "SLICE",
    lambda c, ins, v: c.b.gather(v, _slice_index(c, ins)),
    lambda c, ins, v: Piece(_slice_index(c, ins), v),
)
linear(
    "GATHER",
    lambda c, ins, v: c.b.gather(v, _gather_index(c, ins)),
    lambda c, ins, v: Piece(_gather_index(c, ins), v),
)
linear(
    "SCATTER",
    lambda c, ins, v: c.b.scatter(v, _scatter_index(c, ins), c.program.sizes[ins.out]),
    lambda c, ins, v: c.b.gather(v, _scatter_index(c, ins)),
)


def _concat_jvp(c: Context, ins: Instr, x: Registers, y: int, dx: Tangents) -> int | None:
    b = c.b
    return b.concat(*(b.full(b.sizes[r], 0.0) if v is None else v for r, v in zip(x, dx, strict=True)))


def _concat_vjp(c: Context, ins: Instr, x: Registers, y: int, v: int) -> Sequence[Pull]:
    n = c.b.sizes[x[0]]
    m = c.b.sizes[x[1]]
    return (lambda: c.b.slice(v, 0, n)), (lambda: c.b.slice(v, n, m))


RULES["CONCAT"] = Rule(_concat_jvp, _concat_vjp)


RULES["CONST"] = Rule(lambda c, ins, x, y, dx: None, lambda c, ins, x, y, v: ())


# Parameters: each of these reads theta_k, so its vjp also adds to the sink theta_bar[k].


def _param_jvp(c: Context, ins: Instr, x: Registers, y: int, dx: Tangents) -> int | None:
    dtheta = c.dtheta[ins.k]
    return None if dtheta is None else c.b.slice(dtheta, ins.p, c.program.sizes[ins.out])


def _param_vjp(c: Context, ins: Instr, x: Registers, y: int, v: int) -> Sequence[Pull]:
    sink = c.theta_bar[ins.k]
    if sink is not None:
        sink.acc(ins.p, v)
    return ()


def _affine_jvp(c: Context, ins: Instr, x: Registers, y: int, dx: Tangents) -> int | None:
    b = c.b
    terms: list[int | None] = []
    if dx[0] is not None:
        terms.append(b.matvec(c.weights(ins, c.theta[ins.k])[0], dx[0]))
    dtheta = c.dtheta[ins.k]
    if dtheta is not None:
        dW, dbias = c.weights(ins, dtheta)
        terms.append(b.total([b.matvec(dW, x[0]), dbias]))
    return b.total(terms)


def _affine_vjp(c: Context, ins: Instr, x: Registers, y: int, v: int) -> Sequence[Pull]:
    sink = c.theta_bar[ins.k]
    if sink is not None:
        sink.acc_outer(ins.p, v, settled(c.b, x[0], v))
        if ins.q >= 0:
            sink.acc(ins.q, v)
    return (lambda: c.b.matvec_t(c.weights(ins, c.theta[ins.k])[0], v),)


def _affine_t_jvp(c: Context, ins: Instr, x: Registers, y: int, dx: Tangents) -> int | None:
    b = c.b
    terms: list[int | None] = []
    if dx[0] is not None:
        terms.append(b.matvec_t(c.weights(ins, c.theta[ins.k])[0], dx[0]))
    dtheta = c.dtheta[ins.k]
    if dtheta is not None:
        terms.append(b.matvec_t(c.weights(ins, dtheta)[0], x[0]))
    return b.total(terms)


def _affine_t_vjp(c: Context, ins: Instr, x: Registers, y: int, v: int) -> Sequence[Pull]:
    sink = c.theta_bar[ins.k]
    if sink is not None:
        sink.acc_outer(ins.p, settled(c.b, x[0], v), v)
    return (lambda: c.b.matvec(c.weights(ins, c.theta[ins.k])[0], v),)


RULES["PARAM"] = Rule(_param_jvp, _param_vjp)


RULES["AFFINE"] = Rule(_affine_jvp, _affine_vjp)


RULES["AFFINE_T"] = Rule(_affine_t_jvp, _affine_t_vjp)


# Parameter gradients are outputs: tangents go to the sink dgrad[k]; the cotangent of grad_k is the vector
# grad_bar[k].


def _acc_jvp(c: Context, ins: Instr, x: Registers, y: int, dx: Tangents) -> int | None:
    sink = c.dgrad[ins.k]
    if sink is not None and dx[0] is not None:
        sink.acc(ins.p, dx[0])
    return None


def _acc_vjp(c: Context, ins: Instr, x: Registers, y: int, v: int) -> Sequence[Pull]:
    return (lambda: c.b.slice(c.grad_bar[ins.k], ins.p, c.program.sizes[ins.a]),)


def _acc_outer_jvp(c: Context, ins: Instr, x: Registers, y: int, dx: Tangents) -> int | None:
    sink = c.dgrad[ins.k]
    if sink is not None and dx[0] is not None:
        sink.acc_outer(ins.p, dx[0], x[1])
    if sink is not None and dx[1] is not None:
        sink.acc_outer(ins.p, x[0], dx[1])
    return None


def _acc_outer_vjp(c: Context, ins: Instr, x: Registers, y: int, v: int) -> Sequence[Pull]:
    m, n = (c.program.sizes[r] for r in ins.operands)
    G = c.b.slice(c.grad_bar[ins.k], ins.p, m * n)
    return (lambda: c.b.matvec(G, x[1])), (lambda: c.b.matvec_t(G, x[0]))


RULES["ACC"] = Rule(_acc_jvp, _acc_vjp)


RULES["ACC_OUTER"] = Rule(_acc_outer_jvp, _acc_outer_vjp)
