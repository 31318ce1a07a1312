"""The builder that writes programs: constants folded, common subexpressions shared, dead code removed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pynode.programs.program import ACCUMULATING, COMMUTATIVE, OPS, SAME, Instr, Program

# Exact in floating point, or cheap enough to do once in Python: folded when all operands are constants.
FOLD: dict[str, Callable] = {
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
    "LT": np.less,
    "LE": np.less_equal,
    "EQ": np.equal,
    "WHERE": lambda m, a, b: np.where(m != 0, a, b),
}


class Pool:
    """An append-only pool of numbers; equal arrays are stored once."""

    def __init__(self, dtype):
        self.dtype, self.values, self.where = dtype, [], {}

    def add(self, values):
        values = np.ascontiguousarray(values, dtype=self.dtype).ravel()
        key = values.tobytes()
        if key not in self.where:
            self.where[key] = len(self.values)
            self.values.extend(values.tolist())
        return self.where[key]

    def get(self, offset, size):
        return np.array(self.values[offset : offset + size], dtype=self.dtype)


class Builder:
    """Writes a program.

    Registers are integers. Every method that makes one looks first for the same instruction written before
    (common subexpressions) and for an exact simplification: indexing looks through slices, gathers and
    concatenations, a matrix product with a parameter matrix is AFFINE, adding a parameter vector to it is
    its bias. For each elementwise operation there is a method of its name: ``b.add(x, y)``, ``b.tanh(x)``.

    Parameters
    ----------
    slot_sizes : sequence of int
    n_theta, n_grad : sequence of int
        Lengths of the parameter vectors and of the gradients.
    """

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Callable[..., int]: ...  # the elementwise operations, set below

    def __init__(self, slot_sizes, n_theta=(0,), n_grad=()):
        self.sizes = [int(n) for n in slot_sizes]
        self.n_slots = len(self.sizes)
        self.n_theta, self.n_grad = tuple(n_theta), tuple(n_grad)
        self.made: list[Any] = [None] * self.n_slots  # the instruction that makes each register
        self.varying = [True] * self.n_slots  # False: depends on theta and constants only
        self.accumulated = []
        self.seen = {}
        self.consts, self.index = Pool(np.float64), Pool(np.int32)

    @property
    def slots(self):
        return list(range(self.n_slots))

    # Writing

    def emit(self, op, size, a=-1, b=-1, c=-1, p=0, q=0, k=0):
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
            self.seen[key] = out
        return self.seen[key]

    def acc(self, k, p, a):
        """grad_k[p:] += register a."""
        ins = self.made[a]
        if ins is not None and ins.op == "OUTER":
            self.acc_outer(k, p, ins.a, ins.b)
        else:
            self.accumulated.append(Instr("ACC", -1, a, p=p, k=k))

    def acc_outer(self, k, p, a, b):
        """grad_k[p:] += a b^T."""
        self.accumulated.append(Instr("ACC_OUTER", -1, a, b, p=p, k=k))

    # Leaves

    def const(self, values):
        values = np.asarray(values, dtype=np.float64).ravel()
        return self.emit("CONST", values.size, p=self.consts.add(values))

    def full(self, size, value):
        return self.const(np.full(size, float(value)))

    def param(self, p, size, k=0):
        return self.emit("PARAM", size, p=p, k=k)

    def theta(self, k=0):
        """The whole parameter vector k (None where it is empty). Reads of its parts do not keep it alive."""
        return self.param(0, self.n_theta[k], k) if self.n_theta[k] else None

    def const_value(self, r):
        """The value of a constant register, None for any other."""
        ins = self.made[r]
        return self.consts.get(ins.p, self.sizes[r]) if ins is not None and ins.op == "CONST" else None

    def is_const(self, r, value):
        values = self.const_value(r)
        return values is not None and bool((values == value).all())

    # Elementwise

    def same(self, op, *x):
        """An elementwise operation on registers of one size, simplified where that is exact."""
        if len({self.sizes[r] for r in x}) != 1:
            raise ValueError(f"{op} of registers of different sizes {[self.sizes[r] for r in x]}")
        simple = self._simplify(op, x)
        return self.emit(op, self.sizes[x[0]], *x) if simple is None else simple

    def _simplify(self, op, x):
        values = [self.const_value(r) for r in x]
        if op in FOLD and all(v is not None for v in values):
            with np.errstate(all="ignore"):
                return self.const(FOLD[op](*values))
        ins = self.made[x[0]]
        if op == "NEG" and ins is not None and ins.op == "NEG":
            return ins.a
        if op == "WHERE" and values[0] is not None:
            chosen = values[0] != 0
            return x[1] if chosen.all() else x[2] if not chosen.any() else None
        if len(x) == 2:
            return self._simplify_binary(op, *x)
        return None

    def _simplify_binary(self, op, x, y):
        negated = [r.a if r is not None and r.op == "NEG" else None for r in (self.made[x], self.made[y])]
        if op == "ADD":
            if self.is_const(x, 0.0) or self.is_const(y, 0.0):
                return y if self.is_const(x, 0.0) else x
            if negated[1] is not None:
                return self.sub(x, negated[1])
            if negated[0] is not None:
                return self.sub(y, negated[0])
            return self._with_bias(x, y) or self._with_bias(y, x)
        if op == "SUB":
            if self.is_const(y, 0.0):
                return x
            if self.is_const(x, 0.0):
                return self.neg(y)
            return self.add(x, negated[1]) if negated[1] is not None else None
        if op in ("MUL", "DIV") and self.is_const(y, 1.0):
            return x
        if op in ("MUL", "DIV") and self.is_const(y, -1.0):
            return self.neg(x)
        if op == "MUL":
            if self.is_const(x, 1.0) or self.is_const(x, -1.0):
                return self.mul(y, x)
            return self.square(x) if x == y else None
        return None

    def _with_bias(self, product, bias):
        """AFFINE without bias + PARAM of the same theta -> AFFINE with bias."""
        f, g = self.made[product], self.made[bias]
        if f is None or g is None or f.op != "AFFINE" or f.q >= 0 or g.op != "PARAM" or f.k != g.k:
            return None
        return self.emit("AFFINE", self.sizes[product], f.a, p=f.p, q=g.p, k=f.k)

    def total(self, terms):
        """The sum of a list of registers; None (zero) terms are left out, None for an empty sum."""
        terms = [r for r in terms if r is not None]
        result = terms[0] if terms else None
        for r in terms[1:]:
            result = self.add(result, r)
        return result

    def scale(self, factor, x):
        """A Python number times a register."""
        return self.mul(self.full(self.sizes[x], factor), x)

    # Moving

    def gather(self, x, index):
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

    def _gather_through(self, ins, index):
        """The gather read from the operands of the instruction that made its source, where that is
        possible."""
        if ins.op == "CONST":
            return self.const(self.const_value(ins.out)[index])
        if ins.op == "SLICE":
            return self.gather(ins.a, ins.p + ins.q * index)
        if ins.op == "GATHER":
            return self.gather(ins.a, self.index.get(ins.p, self.sizes[ins.out])[index])
        if ins.op == "BCAST":
            return self.gather(ins.a, np.zeros(index.size, dtype=np.int64))
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

    def slice(self, x, start, size, step=1):
        return self.gather(x, start + step * np.arange(size))

    def broadcast(self, x, size):
        """A register of one feature repeated; one of the right size is returned as it is."""
        return x if self.sizes[x] == size else self.gather(x, np.zeros(size, dtype=np.int64))

    def scatter(self, x, index, size):
        """out = 0; out[index[i]] += x[i]."""
        index = np.asarray(index, dtype=np.int64).ravel()
        if index.size == size and np.array_equal(np.sort(index), np.arange(size)):
            return self.gather(x, np.argsort(index))
        return self.emit("SCATTER", size, x, p=self.index.add(index))

    def concat(self, *xs):
        """Registers one after the other, by halves."""
        if len(xs) == 1:
            return xs[0]
        if len(xs) > 2:
            half = len(xs) // 2
            return self.concat(self.concat(*xs[:half]), self.concat(*xs[half:]))
        x, y = xs
        f, g, nx, ny = self.made[x], self.made[y], self.sizes[x], self.sizes[y]
        if f is not None and g is not None and f.op == g.op:
            if f.op == "CONST":
                return self.const(np.concatenate([self.const_value(x), self.const_value(y)]))
            if f.op == "PARAM" and f.k == g.k and f.p + nx == g.p:
                return self.param(f.p, nx + ny, f.k)
            if f.op == "SLICE" and f.a == g.a and f.q == g.q == 1 and f.p + nx == g.p:
                return self.slice(f.a, f.p, nx + ny)
        return self.emit("CONCAT", nx + ny, x, y)

    def sum(self, x):
        return x if self.sizes[x] == 1 else self.emit("SUM", 1, x)

    # Matrices (stored row by row)

    def matvec(self, A, x):
        """out (m) = A x, A (m n), x (n)."""
        n = self.sizes[x]
        m = self.sizes[A] // n
        transposed = self._transpose_of(A, m, n)
        if transposed is not None:
            return self.matvec_t(transposed, x)
        ins = self.made[A]
        if ins is not None and ins.op == "PARAM":
            return self.emit("AFFINE", m, x, p=ins.p, q=-1, k=ins.k)
        return self.emit("MATVEC", m, A, x)

    def matvec_t(self, A, x):
        """out (n) = A^T x, A (m n), x (m)."""
        m = self.sizes[x]
        n = self.sizes[A] // m
        transposed = self._transpose_of(A, m, n)
        if transposed is not None:
            return self.matvec(transposed, x)
        ins = self.made[A]
        if ins is not None and ins.op == "PARAM":
            return self.emit("AFFINE_T", n, x, p=ins.p, k=ins.k)
        return self.emit("MATVEC_T", n, A, x)

    def outer(self, x, y):
        return self.emit("OUTER", self.sizes[x] * self.sizes[y], x, y)

    def _transpose_of(self, A, m, n):
        """The register that A (m n) is the written-out transpose of, else None."""
        ins = self.made[A]
        if ins is None or ins.op != "GATHER" or self.sizes[ins.a] != m * n:
            return None
        transposed = np.arange(m * n).reshape(n, m).T.ravel()
        return ins.a if np.array_equal(self.index.get(ins.p, m * n), transposed) else None

    # Programs

    def replay(self, program, slots, thetas=None, sinks=()):
        """Write another program here.

        Parameters
        ----------
        slots : registers for its slots (None where the size is 0)
        thetas : registers of its parameter vectors (None where empty); default: this builder's own
        sinks : for each of its gradients, an object with ``acc(p, a)`` and ``acc_outer(p, a, b)``, or None
        to drop it

        Returns
        -------
        list
            The register here of each register there.
        """
        thetas = [self.theta(k) for k in range(len(program.n_theta))] if thetas is None else thetas
        sinks = list(sinks) + [None] * (len(program.n_grad) - len(sinks))
        env = list(slots) + [None] * (len(program.sizes) - program.n_slots)
        for ins in program.instructions:
            x = [env[r] for r in ins.operands]
            if ins.op not in ACCUMULATING:
                env[ins.out] = self._again(program, ins, x, thetas)
            elif sinks[ins.k] is not None:
                (sinks[ins.k].acc if ins.op == "ACC" else sinks[ins.k].acc_outer)(ins.p, *x)
        return env

    def inline(self, program, slots, thetas=None, sinks=()):
        """`replay`, returning the output registers (None for zero)."""
        env = self.replay(program, slots, thetas, sinks)
        return [env[r] if r >= 0 else None for r in program.outputs]

    def _again(self, program, ins, x, thetas):
        op, size = ins.op, program.sizes[ins.out]
        if OPS[op]["shape"] == "SAME":
            return self.same(op, *x)
        if op == "AFFINE":
            W, bias = weights(self, thetas[ins.k], ins, size, program.sizes[ins.a])
            return self.total([self.matvec(W, x[0]), bias])
        if op == "AFFINE_T":
            return self.matvec_t(weights(self, thetas[ins.k], ins, program.sizes[ins.a], size)[0], x[0])
        if op == "CALL":
            raise ValueError("a callback field cannot be used inside another field: it is Python code, not a program")
        return {
            "CONST": lambda: self.const(program.consts[ins.p : ins.p + size]),
            "PARAM": lambda: self.slice(thetas[ins.k], ins.p, size),
            "MATVEC": lambda: self.matvec(*x),
            "MATVEC_T": lambda: self.matvec_t(*x),
            "OUTER": lambda: self.outer(*x),
            "BCAST": lambda: self.broadcast(x[0], size),
            "SUM": lambda: self.sum(x[0]),
            "SLICE": lambda: self.slice(x[0], ins.p, size, ins.q),
            "CONCAT": lambda: self.concat(*x),
            "GATHER": lambda: self.gather(x[0], program.index[ins.p : ins.p + size]),
            "SCATTER": lambda: self.scatter(x[0], program.index[ins.p : ins.p + program.sizes[ins.a]], size),
        }[op]()

    # Finishing

    def finish(self, outputs, forward=None):
        """The program: dead code removed, cut into segments, registers numbered anew.

        Parameters
        ----------
        outputs : list of registers, None for identically zero
        forward : int, optional
            How many leading outputs the forward segment computes (default all); what only the others and the
            accumulated gradients need is the reverse segment.
        """
        outputs = [-1 if r is None else r for r in outputs]
        first = outputs if forward is None else outputs[:forward]
        early = self._needed(first)
        live = self._needed(outputs + [r for ins in self.accumulated for r in ins.operands])
        written = [ins for ins in self.made[self.n_slots :] if live[ins.out]]
        prologue = [ins for ins in written if not self.varying[ins.out]]
        now = [ins for ins in written if self.varying[ins.out] and early[ins.out]]
        later = [ins for ins in written if self.varying[ins.out] and not early[ins.out]]
        return self._number(outputs, prologue, now, later)

    def _needed(self, roots):
        needed = [False] * len(self.sizes) + [False]  # the last one stands for register -1
        for r in roots:
            needed[r] = True
        for ins in reversed(self.made[self.n_slots :]):
            if needed[ins.out]:
                for r in ins.operands:
                    needed[r] = True
        return needed

    def _number(self, outputs, prologue, now, later):
        new, sizes, code = {-1: -1, **{r: r for r in self.slots}}, self.sizes[: self.n_slots], []
        consts, index = Pool(np.float64), Pool(np.int32)
        for ins in [*prologue, *now, *later, *self.accumulated]:
            p = ins.p
            if ins.op == "CONST":
                p = consts.add(self.const_value(ins.out))
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


def weights(b, theta, ins, m, n):
    """Registers of the matrix (m n) and of the bias (None where there is none) that an affine instruction
    reads."""
    bias = b.slice(theta, ins.q, m) if ins.op == "AFFINE" and ins.q >= 0 else None
    return b.slice(theta, ins.p, m * n), bias


def _elementwise(op):
    def method(self, *x):
        return self.same(op, *x)

    method.__name__ = op.lower()
    method.__doc__ = f"Elementwise {op}."
    return method


for _op in SAME:
    setattr(Builder, _op.lower(), _elementwise(_op))
