"""Programs: straight-line code over registers, and the builder that writes them.

The format (slots, segments, outputs) is described in docs/program.md, the operations in csrc/program/ops.def.
A `Program` is frozen data; the C core checks it once, when `Program.core` is first used, and executes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pynode import _core
from pynode.programs.breaks import breaks

Callback = Callable[
    [int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64] | None], ArrayLike
]
"""What CALL instructions run: call(which, t (n,), y (n, d), u (n, m), seed (n, n_out)) -> (n, size) array."""


OPS = _core.OPS
"""name -> {"code": int, "shape": str, "operands": int}, from csrc/program/ops.def."""


NAMES = {row["code"]: name for name, row in OPS.items()}


SAME = tuple(name for name, row in OPS.items() if row["shape"] == "SAME")


ACCUMULATING = ("ACC", "ACC_OUTER")


COMMUTATIVE = ("ADD", "MUL", "DMUL", "EQ")


READS_THETA = ("PARAM", "AFFINE", "AFFINE_T")


MAY_DIVERGE = ("RECIP", "SQRT", "EXP", "EXPM1", "LOG", "LOG1P", "DIV", "DDIV", "POW", "CALL")
"""Operations that can give infinity or NaN for finite operands of ordinary size."""


class Instr(NamedTuple):
    """One instruction: the fields of docs/program.md, with the name of the operation in place of its number."""

    op: str
    out: int
    a: int = -1
    b: int = -1
    c: int = -1
    p: int = 0
    q: int = 0
    k: int = 0

    @property
    def operands(self) -> tuple[int, ...]:
        """The registers that it reads."""
        return (self.a, self.b, self.c)[: OPS[self.op]["operands"]]


def _frozen(values: ArrayLike, dtype: DTypeLike, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    """A copy that cannot be written to."""
    array = np.array(values, dtype=dtype)
    if shape is not None:
        array = array.reshape(shape)
    array.flags.writeable = False
    return array


class Program:
    """A frozen program (see docs/program.md).

    Attributes
    ----------
    sizes : tuple of int
        Features of every register; the first `n_slots` are the inputs.
    code : (n, 8) int32 array
        One row an instruction.
    consts, index : float64 and int32 arrays
        The constant pools.
    outputs : tuple of int
        Output registers, -1 for identically zero.
    n_theta, n_grad : tuple of int
        Lengths of the parameter vectors read and of the parameter gradients accumulated.
    segments : tuple of three int
        How many instructions are in the prologue, the forward and the reverse part.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        n_slots: int,
        code: ArrayLike,
        consts: ArrayLike,
        index: ArrayLike,
        outputs: Sequence[int],
        n_theta: Sequence[int],
        n_grad: Sequence[int],
        segments: Sequence[int],
    ) -> None:
        self.sizes = tuple(int(n) for n in sizes)
        self.n_slots = int(n_slots)
        self.code: NDArray[np.int32] = _frozen(code, np.int32, (-1, 8))
        self.consts: NDArray[np.float64] = _frozen(consts, np.float64)
        self.index: NDArray[np.int32] = _frozen(index, np.int32)
        self.outputs = tuple(int(r) for r in outputs)
        self.n_theta = tuple(int(n) for n in n_theta)
        self.n_grad = tuple(int(n) for n in n_grad)
        self.segments = tuple(int(n) for n in segments)

    @property
    def slot_sizes(self) -> tuple[int, ...]:
        """Sizes of the inputs."""
        return self.sizes[: self.n_slots]

    @property
    def output_sizes(self) -> tuple[int | None, ...]:
        """Sizes of the outputs, None for one that is identically zero."""
        return tuple(self.sizes[r] if r >= 0 else None for r in self.outputs)

    @cached_property
    def instructions(self) -> tuple[Instr, ...]:
        """The code as a tuple of `Instr`."""
        return tuple(Instr(NAMES[row[0]], *row[1:]) for row in self.code.tolist())

    @cached_property
    def core(self) -> _core.Program:
        """The checked C object."""
        return _core.Program(
            sizes=np.array(self.sizes, dtype=np.int32),
            n_slots=self.n_slots,
            code=self.code,
            consts=self.consts,
            index=self.index,
            outputs=np.array(self.outputs, dtype=np.int32),
            n_theta=np.array(self.n_theta, dtype=np.int64),
            n_grad=np.array(self.n_grad, dtype=np.int64),
            segments=np.array(self.segments, dtype=np.int32),
        )

    def check(self) -> None:
        """Raise ValueError if an index, a size or an offset is wrong."""
        self.core  # noqa: B018

    def evaluate(
        self, slots: Sequence[NDArray[np.float64]], thetas: Sequence[NDArray[np.float64]], callbacks: Callback | None = None
    ) -> tuple[list[NDArray[np.float64] | None], list[NDArray[np.float64]]]:
        """Run the program on numbers.

        Parameters
        ----------
        slots : list of (B, size) arrays
            The inputs.
        thetas : list of 1-d arrays
            The parameter vectors.
        callbacks : callable, optional
            What CALL instructions run.

        Returns
        -------
        outputs : list of (B, size) arrays, None for an output that is identically zero
        grads : list of 1-d arrays, summed over the batch
        """
        slots = [np.ascontiguousarray(slot) for slot in slots]
        thetas = [np.ascontiguousarray(theta) for theta in thetas]
        return _core.evaluate(self.core, slots, thetas, callbacks)

    def row(self, slots: tuple[Any, ...], thetas: tuple[Any, ...]) -> tuple[list[Any], list[NDArray[np.float64]]] | None:
        """`evaluate` for one sample, outputs (size,), where there is nothing to check.

        Parameters
        ----------
        slots, thetas : tuple
            What a user gave.

        Returns
        -------
        outputs, grads : list
            Or None, unless all are arrays of float64 (size,) as they are; numbers in slots of size 1, None for size 0.
        """
        return _core.evaluate_row(self.core, slots, thetas)

    def uses_slot(self, slot: int) -> bool:
        """Whether any instruction or output reads the input slot."""
        return slot in self.outputs or any(ins.op == "CALL" or slot in ins.operands for ins in self.instructions)

    @cached_property
    def breaks(self) -> NDArray[np.float64]:
        """(n, 2) the times at which a program of t changes its form, see `pynode.programs.breaks`."""
        return breaks(self)

    @cached_property
    def is_derivative(self) -> bool:
        """Whether products or quotients of a derivative that keep its zeros are among the instructions."""
        return any(ins.op in ("DMUL", "DDIV") for ins in self.instructions)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for files. Operations are stored by name, so that a file outlives a change of numbers."""
        names = sorted({ins.op for ins in self.instructions})
        code = self.code.copy()
        code[:, 0] = [names.index(ins.op) for ins in self.instructions]
        return {
            "ops": names,
            "sizes": list(self.sizes),
            "n_slots": self.n_slots,
            "code": code,
            "consts": self.consts.copy(),
            "index": self.index.copy(),
            "outputs": list(self.outputs),
            "n_theta": list(self.n_theta),
            "n_grad": list(self.n_grad),
            "segments": list(self.segments),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`. Arrays may be nested lists; the C core checks every index when first used."""
        data = dict(data)
        names = data.pop("ops")
        unknown = sorted(set(names) - set(OPS))
        if unknown:
            raise ValueError(f"the program uses operations this version does not know: {', '.join(unknown)}")
        code = np.array(data.pop("code"), dtype=np.int32).reshape(-1, 8)
        if code.size and not (code[:, 0].min() >= 0 and code[:, 0].max() < len(names)):
            raise ValueError("the program has an operation number outside its own table of names")
        code[:, 0] = np.array([OPS[name]["code"] for name in names], dtype=np.int32)[code[:, 0]]
        return cls(code=code, **data)

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in self.__dict__.items()
            if name not in ("core", "instructions", "is_derivative", "breaks")
        }

    def __repr__(self) -> str:
        n = len(self.code)
        return (
            f"Program({n} instruction{'s' * (n != 1)}, slots {self.slot_sizes}, "
            f"outputs {self.output_sizes}, parameters {self.n_theta})"
        )

    def disassemble(self) -> str:
        """A readable listing."""
        prologue, forward, reverse = self.segments
        cuts = {
            0: "prologue",
            prologue: "forward",
            prologue + forward: "reverse",
            prologue + forward + reverse: "accumulate",
        }
        lines = [repr(self), "slots " + ", ".join(f"r{i}({n})" for i, n in enumerate(self.slot_sizes))]
        for i, ins in enumerate(self.instructions):
            if i in cuts:
                lines.append(f"{cuts[i]}:")
            lines.append("  " + self._line(ins))
        outputs = ", ".join("0" if r < 0 else f"r{r}" for r in self.outputs)
        return "\n".join([*lines, f"outputs {outputs}"])

    def _line(self, ins: Instr) -> str:
        """One instruction as text, e.g. ``r4(16) = AFFINE r1  W=theta0[0:32] b=theta0[32:48]``."""
        sizes = self.sizes
        regs = ins.operands
        text = f"{ins.op} " + " ".join(f"r{r}" for r in regs)
        if ins.op in ACCUMULATING:
            return f"grad{ins.k}[{ins.p}:{ins.p + int(np.prod([sizes[r] for r in regs]))}] += {text}"
        size = sizes[ins.out]
        if ins.op == "CONST":
            text += np.array2string(self.consts[ins.p : ins.p + size], threshold=6, edgeitems=2)
        elif ins.op == "PARAM":
            text += f"theta{ins.k}[{ins.p}:{ins.p + size}]"
        elif ins.op in READS_THETA:
            text += f"  W=theta{ins.k}[{ins.p}:{ins.p + size * sizes[ins.a]}]"
            if ins.op == "AFFINE" and ins.q >= 0:
                text += f" b=theta{ins.k}[{ins.q}:{ins.q + size}]"
        elif ins.op == "SLICE":
            text += f"[{ins.p} + {ins.q} i]" if ins.q != 1 else f"[{ins.p}:{ins.p + size}]"
        elif ins.op in ("GATHER", "SCATTER"):
            n = size if ins.op == "GATHER" else sizes[ins.a]
            text += np.array2string(self.index[ins.p : ins.p + n], threshold=6, edgeitems=2)
        elif ins.op == "CALL":
            text += str(ins.p)
        return f"r{ins.out}({size}) = {text}"
