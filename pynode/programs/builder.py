"""The builder that writes programs: constants folded, common subexpressions shared, dead code removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.programs.matrices import matrices, sum_of_products, transpose_of, transposes
from pynode.programs.program import ACCUMULATING, COMMUTATIVE, MAY_DIVERGE, OPS, READS_THETA, SAME, Instr, Program
from pynode.programs.rerolling import rerolled
from pynode.programs.simplify import simplified

MOST_SUMMANDS = 8
"""Sums of more parts are accumulated as they are."""


class Pool:
    """An append-only pool of numbers; equal arrays are stored once."""

    def __init__(self, dtype: type[np.number[Any]]) -> None:
        self.dtype = dtype
        self.values: list[Any] = []
        self.where: dict[bytes, int] = {}

    def add(self, values: ArrayLike) -> int:
        """The place of these numbers, put there now or before."""
        values = np.ascontiguousarray(values, dtype=self.dtype).ravel()
        key = values.tobytes()
        if key not in self.where:
            self.where[key] = len(self.values)
            self.values.extend(values.tolist())
        return self.where[key]

    def get(self, offset: int, size: int) -> NDArray[Any]:
        """The numbers at a place."""
        return np.array(self.values[offset : offset + size], dtype=self.dtype)


class Sink(Protocol):
    """What takes in the gradient of a parameter vector, part by part."""

    def acc(self, p: int, a: int, /) -> None:
        """Add register a from element p on."""

    def acc_outer(self, p: int, a: int, b: int, /) -> None:
        """Add a b^T, row by row, from element p on."""


class Builder:
    """Writes a program.

    Registers are integers. Every method that makes one looks first for the same instruction written before
    (common subexpressions) and for an exact simplification: indexing looks through slices, gathers and
    concatenations, a matrix product with a parameter matrix is AFFINE, adding a parameter vector to it is
    its bias. For each elementwise operation there is a method of its name: ``b.add(x, y)``, ``b.tanh(x)``.

    Parameters
    ----------
    slot_sizes : sequence of int
        Sizes of the inputs.
    n_theta, n_grad : sequence of int
        Lengths of the parameter vectors and of the gradients.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Callable[..., int]: ...  # the elementwise operations, set below

    def __init__(self, slot_sizes: Sequence[int], n_theta: Sequence[int] = (0,), n_grad: Sequence[int] = ()) -> None:
        self.sizes = [int(n) for n in slot_sizes]
        self.n_slots = len(self.sizes)
        self.n_theta = tuple(n_theta)
        self.n_grad = tuple(n_grad)
        self.made: list[Instr | None] = [None] * self.n_slots  # the instruction that makes each register
        self.varying = [True] * self.n_slots  # False: depends on theta and constants only
        self.finite = [True] * self.n_slots  # False: may be infinite or NaN where slots and parameters are finite
        self.zero_wins = False  # whether a derivative of a derivative is being written, see `pynode.programs.rules.times`
        self.accumulated: list[Instr] = []
        self.seen: dict[tuple[str, int, int, int, int, int, int, int], int] = {}
        self.consts = Pool(np.float64)
        self.index = Pool(np.int32)

    @property
    def slots(self) -> list[int]:
        """The registers of the inputs."""
        return list(range(self.n_slots))

    def emit(self, op: str, size: int, a: int = -1, b: int = -1, c: int = -1, p: int = 0, q: int = 0, k: int = 0) -> int:
        """The register of this instruction, written now or before."""
        if op in COMMUTATIVE and a > b:
            a, b = b, a
        key = (op, int(size), a, b, c, int(p), int(q), int(k))
        if key not in self.seen:
            if size < 1:
                raise ValueError(f"{op} would make an empty register")
            out = len(self.sizes)
            ins = Instr(op, out, a, b, c, int(p), int(q), int(k))
            self.sizes.append(int(size))
            self.made.append(ins)
            self.varying.append(op == "CALL" or any(self.varying[r] for r in ins.operands))
            self.finite.append(self._stays_finite(ins))
            self.seen[key] = out
        return self.seen[key]

    def _stays_finite(self, ins: Instr) -> bool:
        """Whether an instruction keeps numbers finite, but for overflow of sums and products."""
        if ins.op == "CONST":
            return bool(np.isfinite(self.consts.get(ins.p, self.sizes[ins.out])).all())
        divisor = self.const_value(ins.b) if ins.op in ("DIV", "DDIV") else None
        diverges = ins.op in MAY_DIVERGE and (divisor is None or not divisor.all())
        return not diverges and all(self.finite[r] for r in ins.operands)

    def acc(self, k: int, p: int, a: int) -> None:
        """grad_k[p:] += register a; outer products in a sum or with another sign by themselves, without their matrices."""
        for negative, r in summands(self.made, a):
            ins = self.made[r]
            if ins is not None and ins.op == "OUTER":
                self.acc_outer(k, p, self.neg(ins.a) if negative else ins.a, ins.b)
            else:
                self.accumulated.append(Instr("ACC", -1, self.neg(r) if negative else r, p=p, k=k))

    def acc_outer(self, k: int, p: int, a: int, b: int) -> None:
        """grad_k[p:] += a b^T."""
        self.accumulated.append(Instr("ACC_OUTER", -1, a, b, p=p, k=k))

    # Leaves

    def const(self, values: ArrayLike) -> int:
        """A register that holds these numbers."""
        values = np.asarray(values, dtype=np.float64).ravel()
        return self.emit("CONST", values.size, p=self.consts.add(values))

    def full(self, size: int, value: float) -> int:
        """A register that holds one number, `size` times."""
        return self.const(np.full(size, float(value)))

    def param(self, p: int, size: int, k: int = 0) -> int:
        """Parameters p to p + size of the vector k."""
        return self.emit("PARAM", size, p=p, k=k)

    def theta(self, k: int = 0) -> int | None:
        """The whole parameter vector k (None where it is empty). Reads of its parts do not keep it alive."""
        return self.param(0, self.n_theta[k], k) if self.n_theta[k] else None

    def const_value(self, r: int) -> NDArray[np.float64] | None:
        """The value of a constant register, None for any other."""
        ins = self.made[r]
        return self.consts.get(ins.p, self.sizes[r]) if ins is not None and ins.op == "CONST" else None

    def is_const(self, r: int, value: float) -> bool:
        """Whether a register holds this number everywhere."""
        values = self.const_value(r)
        return values is not None and bool((values == value).all())

    # Elementwise

    def same(self, op: str, *x: int) -> int:
        """An elementwise operation on registers of one size, simplified where that is exact."""
        if len({self.sizes[r] for r in x}) != 1:
            raise ValueError(f"{op} of registers of different sizes {[self.sizes[r] for r in x]}")
        simple = simplified(self, op, x)
        return self.emit(op, self.sizes[x[0]], *x) if simple is None else simple

    def total(self, terms: Iterable[int | None]) -> int | None:
        """The sum of registers; None (zero) terms are left out, None for an empty sum."""
        result: int | None = None
        for r in terms:
            if r is not None:
                result = r if result is None else self.add(result, r)
        return result

    def scale(self, factor: float, x: int) -> int:
        """A Python number times a register."""
        return self.mul(self.full(self.sizes[x], factor), x)

    # Moving

    def gather(self, x: int, index: ArrayLike) -> int:
        """out[i] = x[index[i]]."""
        index = np.asarray(index, dtype=np.int64).ravel()
        source, n = self.made[x], index.size
        if n == self.sizes[x] and (index == np.arange(n)).all():
            return x
        if source is not None:
            found = self._gather_through(source, index)
            if found is not None:
                return found
        if self.sizes[x] == 1:
            return self.emit("BCAST", n, x)
        step = int(index[1] - index[0]) if n > 1 else 1
        if step != 0 and (np.diff(index) == step).all():
            return self.emit("SLICE", n, x, p=index[0], q=step)
        return self.emit("GATHER", n, x, p=self.index.add(index))

    def _gather_through(self, ins: Instr, index: NDArray[np.int64]) -> int | None:
        """The gather read from the operands of the instruction that made its source, where that is possible."""
        if ins.op == "CONST":
            return self.const(self.consts.get(ins.p, self.sizes[ins.out])[index])
        if ins.op == "SLICE":
            return self.gather(ins.a, ins.p + ins.q * index)
        if ins.op == "GATHER":
            return self.gather(ins.a, self.index.get(ins.p, self.sizes[ins.out])[index])
        if ins.op == "BCAST":
            return self.gather(ins.a, np.zeros(index.size, dtype=np.int64))
        if ins.op == "OUTER" and transposes(index, self.sizes[ins.a], self.sizes[ins.b]):
            return self.outer(ins.b, ins.a)
        if ins.op == "NEG" and (source := self.made[ins.a]) is not None and source.op == "OUTER":
            return self.neg(self.gather(ins.a, index))
        if ins.op == "PARAM":
            low, n = int(index.min()), int(np.ptp(index)) + 1
            if (np.diff(index) == 1).all():
                return self.param(ins.p + low, n, ins.k)
            if n < self.sizes[ins.out]:
                return self.gather(self.param(ins.p + low, n, ins.k), index - low)
        if ins.op == "CONCAT":
            cut = self.sizes[ins.a]
            if index.max() < cut:
                return self.gather(ins.a, index)
            if index.min() >= cut:
                return self.gather(ins.b, index - cut)
        return None

    def slice(self, x: int, start: int, size: int, step: int = 1) -> int:
        """out[i] = x[start + i step]."""
        return self.gather(x, start + step * np.arange(size))

    def broadcast(self, x: int, size: int) -> int:
        """A register of one feature repeated; one of the right size is returned as it is."""
        return x if self.sizes[x] == size else self.gather(x, np.zeros(size, dtype=np.int64))

    def scatter(self, x: int, index: ArrayLike, size: int) -> int:
        """out = 0; out[index[i]] += x[i]."""
        index = np.asarray(index, dtype=np.int64).ravel()
        if index.size == size and np.array_equal(np.sort(index), np.arange(size)):
            return self.gather(x, np.argsort(index))
        return self.emit("SCATTER", size, x, p=self.index.add(index))

    def concat(self, *xs: int) -> int:
        """Registers one after the other, by halves. Single numbers that were computed alike are computed together."""
        return self.end_to_end(rerolled(self, xs))

    def end_to_end(self, xs: Sequence[int]) -> int:
        """Registers one after the other, as they are."""
        if len(xs) == 1:
            return xs[0]
        if len(xs) > 2:
            half = len(xs) // 2
            return self.end_to_end([self.end_to_end(xs[:half]), self.end_to_end(xs[half:])])
        x, y = xs
        f = self.made[x]
        g = self.made[y]
        nx = self.sizes[x]
        ny = self.sizes[y]
        if f is not None and g is not None and f.op == g.op:
            if f.op == "CONST":
                return self.const(np.concatenate([self.consts.get(f.p, nx), self.consts.get(g.p, ny)]))
            if f.op == "PARAM" and f.k == g.k and f.p + nx == g.p:
                return self.param(f.p, nx + ny, f.k)
            if f.op == "SLICE" and f.a == g.a and f.q == g.q == 1 and f.p + nx == g.p:
                return self.slice(f.a, f.p, nx + ny)
        return self.emit("CONCAT", nx + ny, x, y)

    def sum(self, x: int) -> int:
        """The sum of the elements of a register."""
        return x if self.sizes[x] == 1 else self.emit("SUM", 1, x)

    # Matrices (stored row by row)

    def matvec(self, A: int, x: int) -> int:
        """out (m) = A x, A (m n), x (n)."""
        n = self.sizes[x]
        m = self.sizes[A] // n
        transposed = transpose_of(self, A, m, n)
        if transposed is not None:
            return self.matvec_t(transposed, x)
        ins = self.made[A]
        if ins is not None and ins.op == "PARAM":
            return self.emit("AFFINE", m, x, p=ins.p, q=-1, k=ins.k)
        terms = matrices(self, A)
        return sum_of_products(self, terms, lambda B: self.matvec(B, x)) if terms else self.emit("MATVEC", m, A, x)

    def matvec_t(self, A: int, x: int) -> int:
        """out (n) = A^T x, A (m n), x (m)."""
        m = self.sizes[x]
        n = self.sizes[A] // m
        transposed = transpose_of(self, A, m, n)
        if transposed is not None:
            return self.matvec(transposed, x)
        ins = self.made[A]
        if ins is not None and ins.op == "PARAM":
            return self.emit("AFFINE_T", n, x, p=ins.p, k=ins.k)
        terms = matrices(self, A)
        return sum_of_products(self, terms, lambda B: self.matvec_t(B, x)) if terms else self.emit("MATVEC_T", n, A, x)

    def outer(self, x: int, y: int) -> int:
        """out (m n) = x y^T, x (m), y (n)."""
        return self.emit("OUTER", self.sizes[x] * self.sizes[y], x, y)

    # Programs

    def replay(
        self,
        program: Program,
        slots: Sequence[int | None],
        thetas: Sequence[int | None] | None = None,
        sinks: Sequence[Sink | None] = (),
        *,
        known: Mapping[int, int] | None = None,
        prologue: bool = False,
    ) -> list[Any]:
        """Write another program here.

        Parameters
        ----------
        program : Program
        slots : list
            Registers for its slots (None where the size is 0).
        thetas : list, optional
            Registers of its parameter vectors (None where empty); default: this builder's own.
        sinks : list, optional
            For each of its gradients what takes it in, or None to drop it.
        known, prologue : dict and bool, optional
            Registers there whose values are here already, in these; whether only its prologue is written.

        Returns
        -------
        list
            The register here of each register there.
        """
        thetas = [self.theta(k) for k in range(len(program.n_theta))] if thetas is None else thetas
        sinks = [*sinks, *[None] * (len(program.n_grad) - len(sinks))]
        env: list[Any] = list(slots) + [None] * (len(program.sizes) - program.n_slots)
        known = known or {}
        for ins in program.instructions[: program.segments[0] if prologue else None]:
            x = [env[r] for r in ins.operands]
            if ins.op not in ACCUMULATING:
                env[ins.out] = known[ins.out] if ins.out in known else self._again(program, ins, x, thetas)
                continue
            sink = sinks[ins.k]
            if sink is not None:
                (sink.acc if ins.op == "ACC" else sink.acc_outer)(ins.p, *x)
        return env

    def inline(
        self,
        program: Program,
        slots: Sequence[int | None],
        thetas: Sequence[int | None] | None = None,
        sinks: Sequence[Sink | None] = (),
    ) -> list[int | None]:
        """`replay`, returning the output registers (None for zero)."""
        env = self.replay(program, slots, thetas, sinks)
        return [env[r] if r >= 0 else None for r in program.outputs]

    def _again(self, program: Program, ins: Instr, x: list[Any], thetas: Sequence[int | None]) -> int:
        """An instruction of another program written here."""
        op = ins.op
        size = program.sizes[ins.out]
        theta = cast(int, thetas[ins.k]) if op in READS_THETA else -1
        if OPS[op]["shape"] == "SAME":
            return self.same(op, *x)
        if op == "AFFINE":
            W, bias = weights(self, theta, ins, size, program.sizes[ins.a])
            product = self.matvec(W, x[0])
            return product if bias is None else self.add(product, bias)
        if op == "AFFINE_T":
            return self.matvec_t(weights(self, theta, ins, program.sizes[ins.a], size)[0], x[0])
        if op == "CALL":
            raise ValueError("a callback field cannot be used inside another field: it is Python code, not a program")
        write: dict[str, Callable[[], int]] = {
            "CONST": lambda: self.const(program.consts[ins.p : ins.p + size]),
            "PARAM": lambda: self.slice(theta, ins.p, size),
            "MATVEC": lambda: self.matvec(*x),
            "MATVEC_T": lambda: self.matvec_t(*x),
            "OUTER": lambda: self.outer(*x),
            "BCAST": lambda: self.broadcast(x[0], size),
            "SUM": lambda: self.sum(x[0]),
            "SLICE": lambda: self.slice(x[0], ins.p, size, ins.q),
            "CONCAT": lambda: self.concat(*x),
            "GATHER": lambda: self.gather(x[0], program.index[ins.p : ins.p + size]),
            "SCATTER": lambda: self.scatter(x[0], program.index[ins.p : ins.p + program.sizes[ins.a]], size),
        }
        return write[op]()

    # Finishing

    def finish(self, outputs: Sequence[int | None], forward: int | None = None) -> Program:
        """The program: dead code removed, cut into segments, registers numbered anew.

        Parameters
        ----------
        outputs : list of registers, None for identically zero
        forward : int, optional
            How many leading outputs the forward segment computes (default all); what only the others and the
            accumulated gradients need is the reverse segment.
        """
        roots = [-1 if r is None else r for r in outputs]
        early = self._needed(roots if forward is None else roots[:forward])
        live = self._needed(roots + [r for ins in self.accumulated for r in ins.operands])
        written = [ins for ins in self._written() if live[ins.out]]
        prologue = [ins for ins in written if not self.varying[ins.out]]
        now = [ins for ins in written if self.varying[ins.out] and early[ins.out]]
        later = [ins for ins in written if self.varying[ins.out] and not early[ins.out]]
        return self._number(roots, prologue, now, later)

    def _written(self) -> list[Instr]:
        return [ins for ins in self.made if ins is not None]

    def _needed(self, roots: Iterable[int]) -> list[bool]:
        """Which registers these depend on."""
        needed = [False] * len(self.sizes) + [False]  # the last one stands for register -1
        for r in roots:
            needed[r] = True
        for ins in reversed(self._written()):
            if needed[ins.out]:
                for r in ins.operands:
                    needed[r] = True
        return needed

    def _number(self, outputs: list[int], prologue: list[Instr], now: list[Instr], later: list[Instr]) -> Program:
        """The program of these instructions, with registers and constants numbered anew."""
        new = {-1: -1, **{r: r for r in self.slots}}
        sizes = self.sizes[: self.n_slots]
        code = []
        consts = Pool(np.float64)
        index = Pool(np.int32)
        for ins in [*prologue, *now, *later, *self.accumulated]:
            p = ins.p
            if ins.op == "CONST":
                p = consts.add(self.consts.get(p, self.sizes[ins.out]))
            elif ins.op in ("GATHER", "SCATTER"):
                p = index.add(self.index.get(p, self.sizes[ins.out if ins.op == "GATHER" else ins.a]))
            if ins.out >= 0:
                new[ins.out] = len(sizes)
                sizes.append(self.sizes[ins.out])
            code.append((OPS[ins.op]["code"], new[ins.out], new[ins.a], new[ins.b], new[ins.c], p, ins.q, ins.k))
        return Program(
            sizes,
            self.n_slots,
            np.array(code, dtype=np.int32).reshape(-1, 8),
            consts.values,
            index.values,
            [new[r] for r in outputs],
            self.n_theta,
            self.n_grad,
            (len(prologue), len(now), len(later)),
        )


def weights(b: Builder, theta: int, ins: Instr, m: int, n: int) -> tuple[int, int | None]:
    """Registers of the matrix (m n) and of the bias (None where there is none) that an affine instruction reads."""
    bias = b.slice(theta, ins.q, m) if ins.op == "AFFINE" and ins.q >= 0 else None
    return b.slice(theta, ins.p, m * n), bias


def _elementwise(op: str) -> Callable[..., int]:
    def method(self: Builder, *x: int) -> int:
        return self.same(op, *x)

    method.__name__ = op.lower()
    method.__doc__ = f"Elementwise {op}."
    return method


for _op in SAME:
    setattr(Builder, _op.lower(), _elementwise(_op))


def summands(made: Sequence[Instr | None], a: int) -> list[tuple[bool, int]]:
    """What a register is the sum of, (negative, register) each: itself, unless outer products are among them."""
    found: list[tuple[bool, int]] = []
    outer = False
    left = [(False, a)]
    while left and len(found) + len(left) <= MOST_SUMMANDS:
        negative, r = left.pop()
        ins = made[r]
        if ins is not None and ins.op == "NEG":
            left.append((not negative, ins.a))
        elif ins is not None and ins.op in ("ADD", "SUB"):
            left += [(negative != (ins.op == "SUB"), ins.b), (negative, ins.a)]
        else:
            outer = outer or (ins is not None and ins.op == "OUTER")
            found.append((negative, r))
    return found if outer and not left else [(False, a)]
