"""Derivatives of programs: forward mode (`pushforward`), reverse mode (`pullback`) and the programs the
solvers run.

Both modes write instructions into a `Builder`, so they compose to any order: every rule is written in
operations that have rules themselves. A new operation needs one entry in `RULES`.

Conventions: x is the tuple of operand registers, y the output register, v a tangent of an operand or a
cotangent of the output, dx tangents of the operands. None stands for an exactly zero tangent or cotangent.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pynode.programs.builder import Builder, weights
from pynode.programs.program import ACCUMULATING, READS_THETA

# ---- Where cotangents are collected


@dataclass(frozen=True)
class Piece:
    """A cotangent of some elements of a register only."""

    index: np.ndarray
    register: int


class Cotangent:
    """The sum of what is added to it: whole registers and pieces. As a sink it collects a parameter
    gradient in a register, for use inside another program."""

    def __init__(self, b, size):
        self.b, self.size = b, size
        self.whole, self.pieces = None, {}

    def add(self, term):
        if isinstance(term, Piece):
            key = tuple(term.index.tolist())
            self.pieces[key] = self.b.total([self.pieces.get(key), term.register])
        else:
            self.whole = self.b.total([self.whole, term])

    def acc(self, p, a):
        self.add(Piece(np.arange(p, p + self.b.sizes[a]), a))

    def acc_outer(self, p, a, b):
        self.acc(p, self.b.outer(a, b))

    def total(self):
        """The register of the sum, None for zero."""
        b, pieces = self.b, sorted(self.pieces.items())
        scattered = None
        if pieces:
            index = [i for key, _ in pieces for i in key]
            scattered = b.scatter(b.concat(*[r for _, r in pieces]), index, self.size)
        result = b.total([self.whole, scattered])
        return None if result is not None and b.is_const(result, 0.0) else result


class GradSink:
    """Adds to the parameter gradient grad_k of the program that is being written."""

    def __init__(self, b, k=0):
        self.b, self.k = b, k

    def acc(self, p, a):
        self.b.acc(self.k, p, a)

    def acc_outer(self, p, a, b):
        self.b.acc_outer(self.k, p, a, b)


# ---- Rules


@dataclass
class Context:
    """What a rule may read: the builder, the program being differentiated, and registers of parameter
    vectors.

    theta[k], and its tangent dtheta[k]; sinks of its cotangent, theta_bar[k]; the cotangent grad_bar[k] of
    grad_k, which is a vector like theta; sinks of the tangent of grad_k, dgrad[k]. None where there is
    none.
    """

    b: Builder
    program: Any
    theta: list
    dtheta: list = field(default_factory=list)
    dgrad: list = field(default_factory=list)
    theta_bar: list = field(default_factory=list)
    grad_bar: list = field(default_factory=list)

    def weights(self, ins, theta):
        """Registers of the matrix and the bias of an affine instruction, read from this parameter vector."""
        sizes = self.program.sizes
        m, n = (ins.out, ins.a) if ins.op == "AFFINE" else (ins.a, ins.out)
        return weights(self.b, theta, ins, sizes[m], sizes[n])


class Rule(NamedTuple):
    """jvp(c, ins, x, y, dx) -> tangent of y or None; vjp(c, ins, x, y, v) -> one function an operand, each
    giving its cotangent (a register, a `Piece`) when called, or None."""

    jvp: Callable
    vjp: Callable


RULES = {}


def diagonal(op, partials):
    """An elementwise operation. Its Jacobian is diagonal, so one map v -> (dy/dx_i) v, given by
    ``partials(b, y, *x)`` for each operand (None: zero), pushes tangents forward and pulls cotangents
    back."""

    def jvp(c, ins, x, y, dx):
        maps = partials(c.b, y, *x)
        return c.b.total([f(v) for f, v in zip(maps, dx, strict=True) if f is not None and v is not None])

    def vjp(c, ins, x, y, v):
        return [f and (lambda f=f: f(v)) for f in partials(c.b, y, *x)]

    RULES[op] = Rule(jvp, vjp)


def _flat(n):
    """Piecewise constant in its n operands."""
    return lambda b, y, *x: (None,) * n


def _pow(b, y, x, e):
    n = b.sizes[x]
    zero, one = b.full(n, 0.0), b.full(n, 1.0)
    is_flat = b.eq(e, zero)  # x^0 = 1 also at x = 0
    one_less = b.where(is_flat, one, b.sub(e, one))
    base = b.where(b.eq(x, zero), one, x)  # 0^e = 0 for every e > 0
    return (lambda v: b.mul(v, b.mul(e, b.pow(x, one_less)))), (lambda v: b.mul(v, b.mul(y, b.log(base))))


def _larger(compare):
    """max and min: the cotangent goes to the operand chosen, to the first where they are equal."""

    def partials(b, y, x, z):
        zero = b.full(b.sizes[x], 0.0)
        first = compare(b, x, z)
        return (lambda v: b.where(first, v, zero)), (lambda v: b.where(first, zero, v))

    return partials


def _where(b, y, mask, x, z):
    zero = b.full(b.sizes[x], 0.0)
    return None, (lambda v: b.where(mask, v, zero)), (lambda v: b.where(mask, zero, v))


for _op, _partials in {
    "NEG": lambda b, y, x: (b.neg,),
    "ABS": lambda b, y, x: (lambda v: b.mul(v, b.sign(x)),),
    "SIGN": _flat(1),
    "SQUARE": lambda b, y, x: (lambda v: b.mul(v, b.scale(2.0, x)),),
    "RECIP": lambda b, y, x: (lambda v: b.neg(b.mul(v, b.square(y))),),
    "SQRT": lambda b, y, x: (lambda v: b.div(v, b.scale(2.0, y)),),
    "EXP": lambda b, y, x: (lambda v: b.mul(v, y),),
    "EXPM1": lambda b, y, x: (lambda v: b.mul(v, b.exp(x)),),
    "LOG": lambda b, y, x: (lambda v: b.div(v, x),),
    "LOG1P": lambda b, y, x: (lambda v: b.div(v, b.add(x, b.full(b.sizes[x], 1.0))),),
    "SIN": lambda b, y, x: (lambda v: b.mul(v, b.cos(x)),),
    "COS": lambda b, y, x: (lambda v: b.neg(b.mul(v, b.sin(x))),),
    "TANH": lambda b, y, x: (lambda v: b.dtanh(v, y),),
    "SIGMOID": lambda b, y, x: (lambda v: b.dsigmoid(v, y),),
    "SOFTPLUS": lambda b, y, x: (lambda v: b.mul(v, b.sigmoid(x)),),
    "RELU": lambda b, y, x: (lambda v: b.mul(v, b.step(x)),),
    "STEP": _flat(1),
    "ERF": lambda b, y, x: (lambda v: b.mul(v, b.scale(2.0 / math.sqrt(math.pi), b.exp(b.neg(b.square(x))))),),
    "ATAN": lambda b, y, x: (lambda v: b.div(v, b.add(b.square(x), b.full(b.sizes[x], 1.0))),),
    "ADD": lambda b, y, x, z: (lambda v: v, lambda v: v),
    "SUB": lambda b, y, x, z: (lambda v: v, b.neg),
    "MUL": lambda b, y, x, z: (lambda v: b.mul(v, z), lambda v: b.mul(x, v)),
    "DIV": lambda b, y, x, z: (lambda v: b.div(v, z), lambda v: b.neg(b.div(b.mul(v, y), z))),
    "POW": _pow,
    "MAX": _larger(lambda b, x, z: b.le(z, x)),
    "MIN": _larger(lambda b, x, z: b.le(x, z)),
    "LT": _flat(2),
    "LE": _flat(2),
    "EQ": _flat(2),
    "DTANH": lambda b, y, x, z: (lambda v: b.dtanh(v, z), lambda v: b.mul(b.scale(-2.0, v), b.mul(x, z))),
    "DSIGMOID": lambda b, y, x, z: (
        lambda v: b.dsigmoid(v, z),
        lambda v: b.mul(v, b.mul(x, b.sub(b.full(b.sizes[z], 1.0), b.scale(2.0, z)))),
    ),
    "WHERE": _where,
}.items():
    diagonal(_op, _partials)


def bilinear(op, product, transposes):
    """y = product(b, *x), linear in each operand; transposes(b, v, *x) gives the cotangents."""

    def jvp(c, ins, x, y, dx):
        return c.b.total([product(c.b, *x[:i], v, *x[i + 1 :]) for i, v in enumerate(dx) if v is not None])

    RULES[op] = Rule(jvp, lambda c, ins, x, y, v: transposes(c.b, v, *x))


bilinear("MATVEC", Builder.matvec, lambda b, v, A, x: (lambda: b.outer(v, x), lambda: b.matvec_t(A, v)))
bilinear("MATVEC_T", Builder.matvec_t, lambda b, v, A, x: (lambda: b.outer(x, v), lambda: b.matvec(A, v)))
bilinear("OUTER", Builder.outer, lambda b, v, x, z: (lambda: b.matvec(v, z), lambda: b.matvec_t(v, x)))


def linear(op, push, pull):
    """A linear operation of one operand: push(c, ins, v) -> tangent, pull(c, ins, v) -> cotangent."""
    RULES[op] = Rule(lambda c, ins, x, y, dx: push(c, ins, dx[0]), lambda c, ins, x, y, v: (lambda: pull(c, ins, v),))


def _slice_index(c, ins):
    return ins.p + ins.q * np.arange(c.program.sizes[ins.out])


def _gather_index(c, ins):
    return c.program.index[ins.p : ins.p + c.program.sizes[ins.out]]


def _scatter_index(c, ins):
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


def _concat_jvp(c, ins, x, y, dx):
    b = c.b
    return b.concat(*(b.full(b.sizes[r], 0.0) if v is None else v for r, v in zip(x, dx, strict=True)))


def _concat_vjp(c, ins, x, y, v):
    n, m = c.b.sizes[x[0]], c.b.sizes[x[1]]
    return (lambda: c.b.slice(v, 0, n)), (lambda: c.b.slice(v, n, m))


RULES["CONCAT"] = Rule(_concat_jvp, _concat_vjp)


RULES["CONST"] = Rule(lambda c, ins, x, y, dx: None, lambda c, ins, x, y, v: ())


# Parameters: each of these reads theta_k, so its vjp also adds to the sink theta_bar[k].


def _param_jvp(c, ins, x, y, dx):
    dtheta = c.dtheta[ins.k]
    return None if dtheta is None else c.b.slice(dtheta, ins.p, c.program.sizes[ins.out])


def _param_vjp(c, ins, x, y, v):
    if c.theta_bar[ins.k] is not None:
        c.theta_bar[ins.k].acc(ins.p, v)
    return ()


def _affine_jvp(c, ins, x, y, dx):
    b, terms = c.b, []
    if dx[0] is not None:
        terms.append(b.matvec(c.weights(ins, c.theta[ins.k])[0], dx[0]))
    if c.dtheta[ins.k] is not None:
        dW, dbias = c.weights(ins, c.dtheta[ins.k])
        terms.append(b.total([b.matvec(dW, x[0]), dbias]))
    return b.total(terms)


def _affine_vjp(c, ins, x, y, v):
    sink = c.theta_bar[ins.k]
    if sink is not None:
        sink.acc_outer(ins.p, v, x[0])
        if ins.q >= 0:
            sink.acc(ins.q, v)
    return (lambda: c.b.matvec_t(c.weights(ins, c.theta[ins.k])[0], v),)


def _affine_t_jvp(c, ins, x, y, dx):
    b, terms = c.b, []
    if dx[0] is not None:
        terms.append(b.matvec_t(c.weights(ins, c.theta[ins.k])[0], dx[0]))
    if c.dtheta[ins.k] is not None:
        terms.append(b.matvec_t(c.weights(ins, c.dtheta[ins.k])[0], x[0]))
    return b.total(terms)


def _affine_t_vjp(c, ins, x, y, v):
    sink = c.theta_bar[ins.k]
    if sink is not None:
        sink.acc_outer(ins.p, x[0], v)
    return (lambda: c.b.matvec(c.weights(ins, c.theta[ins.k])[0], v),)


RULES["PARAM"] = Rule(_param_jvp, _param_vjp)


RULES["AFFINE"] = Rule(_affine_jvp, _affine_vjp)


RULES["AFFINE_T"] = Rule(_affine_t_jvp, _affine_t_vjp)


# Parameter gradients are outputs: tangents go to the sink dgrad[k]; the cotangent of grad_k is the vector
# grad_bar[k].


def _acc_jvp(c, ins, x, y, dx):
    if c.dgrad[ins.k] is not None and dx[0] is not None:
        c.dgrad[ins.k].acc(ins.p, dx[0])


def _acc_vjp(c, ins, x, y, v):
    return (lambda: c.b.slice(c.grad_bar[ins.k], ins.p, c.program.sizes[ins.a]),)


def _acc_outer_jvp(c, ins, x, y, dx):
    sink = c.dgrad[ins.k]
    if sink is not None and dx[0] is not None:
        sink.acc_outer(ins.p, dx[0], x[1])
    if sink is not None and dx[1] is not None:
        sink.acc_outer(ins.p, x[0], dx[1])


def _acc_outer_vjp(c, ins, x, y, v):
    m, n = (c.program.sizes[r] for r in ins.operands)
    G = c.b.slice(c.grad_bar[ins.k], ins.p, m * n)
    return (lambda: c.b.matvec(G, x[1])), (lambda: c.b.matvec_t(G, x[0]))


RULES["ACC"] = Rule(_acc_jvp, _acc_vjp)


RULES["ACC_OUTER"] = Rule(_acc_outer_jvp, _acc_outer_vjp)


# ---- The two modes


def _padded(values, n):
    values = list(values or ())
    return values + [None] * (n - len(values))


def _rule(ins):
    if ins.op not in RULES:
        raise ValueError(f"the operation {ins.op} has no derivative (a Python callback has only the vjp given with it)")
    return RULES[ins.op]


def pushforward(b, program, env, tangents, theta=None, dtheta=None, dgrad=None):
    """Forward mode: the tangents of the outputs.

    Parameters
    ----------
    b : Builder
    program : Program
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
    n_theta, n_grad = len(program.n_theta), len(program.n_grad)
    theta = [b.theta(k) for k in range(n_theta)] if theta is None else theta
    c = Context(b, program, theta, dtheta=_padded(dtheta, n_theta), dgrad=_padded(dgrad, n_grad))
    d = _padded(tangents, len(program.sizes))
    for ins in program.instructions:
        dx = [d[r] for r in ins.operands]
        if ins.op == "CALL" or ins.op in READS_THETA or any(v is not None for v in dx):
            x = [env[r] for r in ins.operands]
            v = _rule(ins).jvp(c, ins, x, env[ins.out] if ins.out >= 0 else None, dx)
            if ins.out >= 0 and v is not None and not b.is_const(v, 0.0):
                d[ins.out] = v
    return [d[r] if r >= 0 else None for r in program.outputs]


def pullback(b, program, env, seeds, wanted, theta=None, theta_bar=None, grad_bar=None):
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
    n_theta, n_grad = len(program.n_theta), len(program.n_grad)
    theta = [b.theta(k) for k in range(n_theta)] if theta is None else theta
    c = Context(b, program, theta, theta_bar=_padded(theta_bar, n_theta), grad_bar=_padded(grad_bar, n_grad))
    active = _active(program, wanted, c.theta_bar)
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


def _active(program, wanted, theta_bar):
    """Which registers depend on something whose cotangent is asked for."""
    active = [slot in wanted for slot in range(len(program.sizes))]
    for ins in program.instructions:
        if ins.out >= 0:
            reads = ins.op in READS_THETA and theta_bar[ins.k] is not None
            active[ins.out] = reads or ins.op == "CALL" or any(active[r] for r in ins.operands)
    return active


# ---- Programs of a field: slots t, y, u; output f


def vjp_program(program):
    """Slots (t, y, u, s): outputs [f, s^T df/dy, s^T df/dt, s^T df/du], accumulates s^T df/dtheta into
    grad_0."""
    b = Builder((*program.slot_sizes, program.output_sizes[0]), program.n_theta, program.n_theta[:1])
    env = b.replay(program, b.slots[:3])
    gt, gy, gu = pullback(b, program, env, [3], wanted=(0, 1, 2), theta_bar=[GradSink(b)])
    return b.finish([env[program.outputs[0]], gy, gt, gu], forward=1)


def backsolve_program(program):
    """Slots (t, z = [y; a], u): outputs [dz, 0, a^T df/dt, a^T df/du] with dz = [f; -a^T df/dy]; accumulates
    a^T df/dtheta into grad_0."""
    nt, d, m = program.slot_sizes
    b = Builder((nt, 2 * d, m), program.n_theta, program.n_theta[:1])
    y, a = b.slice(1, 0, d), b.slice(1, d, d)
    env = b.replay(program, [0, y, 2])
    gt, gy, gu = pullback(b, program, env, [a], wanted=(0, 1, 2), theta_bar=[GradSink(b)])
    da = b.neg(gy) if gy is not None else b.full(d, 0.0)
    return b.finish([b.concat(env[program.outputs[0]], da), None, gt, gu], forward=1)


def interpolating_program(program):
    """Slots (t, a, w = [y(t); u]): outputs [da, 0, a^T df/dt, [0; a^T df/du]] with da = -a^T df/dy;
    accumulates a^T df/dtheta into grad_0. y(t) is not an input to differentiate by, hence the zeros."""
    nt, d, m = program.slot_sizes
    b = Builder((nt, d, d + m), program.n_theta, program.n_theta[:1])
    env = b.replay(program, [0, b.slice(2, 0, d), b.slice(2, d, m) if m else None])
    gt, gy, gu = pullback(b, program, env, [1], wanted=(0, 1, 2), theta_bar=[GradSink(b)])
    da = b.neg(gy) if gy is not None else b.full(d, 0.0)
    gw = None if gu is None else b.concat(b.full(d, 0.0), gu)
    return b.finish([da, None, gt, gw], forward=1)
