"""The same solve as operators of torch, pynode::solve and pynode::back, which torch.compile takes whole.

A compiled graph holds tensors and numbers only. So a solver is a number here (`TapedSolver.number`), and the tape of a solve
a tensor of one number, whose memory keeps the tape: the gradient finds it by that number, or solves again if it is gone.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch

from pynode.calls.taped import NUMBERS, SOLVERS, Taped, TapedSolver
from pynode.torch.functions import Call, flattened, folded, own_rows
from pynode.torch.tensors import to_array, to_tensor

TAPES: WeakValueDictionary[int, KeptTape] = WeakValueDictionary()


class KeptTape:
    """Memory of one number, for a tensor, which keeps a tape alive."""

    def __init__(self, taped: Taped) -> None:
        self.taped, self.number = taped, next(NUMBERS)
        self.memory = np.array([self.number], dtype=np.int64)
        TAPES[self.number] = self

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self.memory.__array_interface__


def solver_at(number: int) -> TapedSolver:
    """The solver of a number."""
    solver = SOLVERS.get(number)
    if solver is None:
        raise RuntimeError("the field that this graph was compiled for is gone: keep a reference to it, or compile again")
    return solver


@torch.library.custom_op("pynode::solve", mutates_args=())
def solve_op(y0: torch.Tensor, t: torch.Tensor, theta: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(y (B, T, d), the number of its tape)."""
    taped = solver_at(number).run(to_array(y0), to_array(t), to_array(theta), None, True)
    return to_tensor(taped.y, y0), torch.from_numpy(np.asarray(KeptTape(taped)))


@solve_op.register_fake
def _fake_solve(y0: Any, t: Any, theta: Any, number: int) -> Any:
    return y0.new_empty((y0.shape[0], t.shape[-1], y0.shape[1])), torch.empty(1, dtype=torch.int64)


@torch.library.custom_op("pynode::back", mutates_args=())
def back_op(
    g: torch.Tensor, y0: torch.Tensor, t: torch.Tensor, theta: torch.Tensor, tape: torch.Tensor, number: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of y0, t and theta."""
    kept = TAPES.get(int(tape[0]))
    if kept is not None:
        taped = kept.taped
    else:
        taped = solver_at(number).run(to_array(y0), to_array(t), to_array(theta), None, True)
    found = taped.back(to_array(g), ("y0", "t", "theta"))
    return tuple(to_tensor(found[name], x) for name, x in (("y0", y0), ("t", t), ("theta", theta)))


@back_op.register_fake
def _fake_back(g: Any, y0: Any, t: Any, theta: Any, tape: Any, number: int) -> Any:
    return torch.empty_like(y0), torch.empty_like(t), torch.empty_like(theta)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.number = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.mark_non_differentiable(output[1])


def _back(ctx: Any, g: Any, _: Any) -> Any:
    return (*back_op(g, *ctx.saved_tensors, ctx.number), None)


solve_op.register_autograd(_back, setup_context=_keep)


@solve_op.register_vmap
def _vmap_solve(info: Any, dims: Any, y0: Any, t: Any, theta: Any, number: int) -> Any:
    """One call with all samples side by side; its tape belongs to none of the batches."""
    n = info.batch_size
    flat = _flat(n, dims[:3], (y0, t, theta), number, False)
    y, _ = solve_op(*flat, number)
    return (y.reshape(n, -1, *y.shape[1:]), torch.zeros(n, 1, dtype=torch.int64)), (0, 0)


@back_op.register_vmap
def _vmap_back(info: Any, dims: Any, g: Any, y0: Any, t: Any, theta: Any, tape: Any, number: int) -> Any:
    """The same for the gradients, which every batch has its own of: it solves again."""
    n = info.batch_size
    flat = _flat(n, dims[1:4], (y0, t, theta), number, True)
    g = g.expand(n, *g.shape) if dims[0] is None else g.movedim(dims[0], 0)
    found = back_op(g.reshape(-1, *g.shape[2:]), *flat, torch.zeros(1, dtype=torch.int64), number)
    own = own_rows(Call(solver_at(number), False), (*dims[1:4], None), (y0, t, theta, theta))
    return tuple(folded(x, n, has) for x, has in zip(found, own, strict=False)), (0, 0, 0)


def _flat(n: int, dims: Any, tensors: Any, number: int, wanted: bool) -> tuple[Any, ...]:
    """(y0, t, theta) of n batches as those of one."""
    call = Call(solver_at(number), False)
    return flattened(n, (*dims, None), (*tensors, tensors[0].new_empty(0)), call, (wanted,) * 4)[0][:3]


def compiled_solve(y0: Any, t: Any, theta: Any, number: int) -> Any:
    """y, inside a graph."""
    return solve_op(y0, t, theta, number)[0]
