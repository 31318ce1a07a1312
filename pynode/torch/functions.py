"""A solve as a function of tensors that autograd and torch.func differentiate: `Solve`, its gradient `Back`.

All derivatives come from two things: the gradient along the tape of a solve (`Taped.back`), and the solve of the tangents
along the same steps (`TapedSolver.tangent`). With [y, v] that solve, v the change of y in the direction (a, b) of
(y0, theta),

    jvp of Solve:                      v
    double backward, jvp of Back:      the gradient of <g, v> + <h, y>, with h the cotangent or change that belongs to y

since the derivative of J^T g in a direction is the gradient of <g, J direction>.
"""

from __future__ import annotations

from typing import Any

import torch

from pynode.calls.taped import Taped, TapedSolver
from pynode.data.signal import Signal
from pynode.torch.tensors import to_array, to_tensor

NAMES = ("y0", "t", "theta", "inputs")

Wanted = tuple[bool, bool, bool, bool]


class Call:
    """What goes along with the tensors of one call.

    Attributes
    ----------
    solver : TapedSolver
    keep : bool
        The gradient will be wanted.
    kind, knots : of the inputs, where there are some; see `Signal`
    taped : Taped or None
        The solve, once there was one.
    flat : Call or None
        That of the batch into which `vmap` made this one; `rows`: what it gave a row for each sample.
    """

    def __init__(self, solver: TapedSolver, keep: bool, kind: Any = None, knots: Any = None) -> None:
        self.solver = solver
        self.keep = keep
        self.kind = kind
        self.knots = knots
        self.taped: Taped | None = None
        self.flat: Call | None = None
        self.rows: tuple[bool, ...] = ()

    def again(self) -> Call:
        """A call of the same kind with other tensors."""
        return Call(self.solver, self.keep, self.kind, self.knots)

    def tangent(self, keep: bool) -> Call:
        """That of the tangents of this one."""
        return Call(self.solver.tangent, keep, self.kind, self.knots)

    def solve(self, y0: Any, t: Any, theta: Any, u: Any, keep: bool) -> Taped:
        """Solve with these tensors."""
        inputs = None if self.kind is None else Signal(self.knots, to_array(u).astype("float64"), self.kind)
        self.taped = self.solver.run(to_array(y0), to_array(t), to_array(theta), inputs, keep)
        return self.taped


class Solve(torch.autograd.Function):
    """(y0 (B, d), t (T,) or (B, T), theta (p,) or (B, p), u, call) -> y (B, T, d)."""

    @staticmethod
    def forward(y0: Any, t: Any, theta: Any, u: Any, call: Call) -> Any:
        """Solve."""
        return to_tensor(call.solve(y0, t, theta, u, call.keep).y, y0)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep the tensors, and the call with its tape."""
        *tensors, ctx.call = inputs
        ctx.set_materialize_grads(False)  # what nobody asks for is None
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        """The gradient."""
        wanted: Wanted = ctx.needs_input_grad[:4]
        if g is None or not any(wanted):
            return None, None, None, None, None
        if not torch.is_grad_enabled() and not transforms_active():
            y0, t, theta, u = ctx.saved_tensors
            return (*gradients(g, y0, t, theta, u, ctx.call, wanted), None)
        found = Back.apply(g, *ctx.saved_tensors, ctx.call, wanted)
        return (*(x if w else None for x, w in zip(found, wanted, strict=True)), None)

    @staticmethod
    def jvp(ctx: Any, dy0: Any, dt: Any, dtheta: Any, du: Any, _: Any) -> Any:
        """The change of y along these directions."""
        y0, t, theta, u = ctx.saved_tensors
        refuse(dt, du, "forward-mode")
        return pushed(ctx.call, y0, t, theta, u, dy0, dtheta)[1]

    @staticmethod
    def vmap(info: Any, dims: Any, y0: Any, t: Any, theta: Any, u: Any, call: Call) -> Any:
        """One call with all samples side by side."""
        flat, rows = flattened(info.batch_size, dims[:4], (y0, t, theta, u), call, (False,) * 4)
        call.flat = call.again()
        call.rows = rows
        y = Solve.apply(*flat, call.flat)
        return y.reshape(info.batch_size, -1, *y.shape[1:]), 0


class QuickSolve(torch.autograd.Function):
    """`Solve` where torch.func is not at work: without what that needs, which takes a tenth of a millisecond."""

    @staticmethod
    def forward(ctx: Any, y0: Any, t: Any, theta: Any, u: Any, call: Call) -> Any:
        """Solve, keep the tensors and the call."""
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(y0, t, theta, u)
        ctx.save_for_forward(y0, t, theta, u)
        return to_tensor(call.solve(y0, t, theta, u, call.keep).y, y0)

    backward = Solve.backward
    jvp = Solve.jvp


def gradients(g: Any, y0: Any, t: Any, theta: Any, u: Any, call: Call, wanted: Wanted) -> tuple[Any, ...]:
    """Those of (y0, t, theta, u) along the tape; a call without one solves again. None where one is not wanted."""
    taped = call.taped if call.taped is not None else call.solve(y0, t, theta, u, True)
    found = taped.back(to_array(g), [name for name, w in zip(NAMES, wanted, strict=True) if w])
    like = zip(NAMES, (y0, t, theta, u), strict=True)
    return tuple(to_tensor(found[name], x) if name in found else None for name, x in like)


transforms_active = getattr(getattr(torch, "_C", None), "_are_functorch_transforms_active", lambda: True)
"""Whether a transformation of torch.func is at work; also where this torch cannot tell."""


class Back(torch.autograd.Function):
    """(g (B, T, d), y0, t, theta, u, call, wanted) -> the gradients of <g, y>; where one is not wanted, an empty tensor."""

    @staticmethod
    def forward(g: Any, y0: Any, t: Any, theta: Any, u: Any, call: Call, wanted: Wanted) -> Any:
        """Along the tape; a call without one solves again."""
        found = gradients(g, y0, t, theta, u, call, wanted)
        return tuple(g.new_empty(0) if x is None else x for x in found)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep the tensors and the call."""
        *tensors, ctx.call, ctx.wanted = inputs
        ctx.set_materialize_grads(False)  # what nobody asks for is None
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, a: Any, at: Any, b: Any, au: Any) -> Any:
        """a, b: cotangents of the gradients of y0 and theta."""
        g, y0, t, theta, u = ctx.saved_tensors
        if (ctx.wanted[1] and not is_zero(at)) or (ctx.wanted[3] and not is_zero(au)):
            refuse(at if ctx.wanted[1] else None, au if ctx.wanted[3] else None, "second")
        call = ctx.call.tangent(True)
        a, b = (x if w else None for x, w in ((a, ctx.wanted[0]), (b, ctx.wanted[2])))
        joint, v = pushed(call, y0, t, theta, u, a, b, made=True)
        need = ctx.needs_input_grad
        wanted = (need[1], need[2] or need[4], need[3], False)
        if wanted[1]:
            raise NotImplementedError(
                "second derivatives with respect to t and the inputs are not there: detach them, t.detach(), where the loss "
                "contains a gradient"
            )
        gy0 = gtheta = None
        if wanted[0] or wanted[2]:
            both = torch.cat([torch.zeros_like(g), g], -1)
            found = Back.apply(both, *joint, call, wanted)
            gy0 = found[0][..., : y0.shape[-1]] if wanted[0] else None
            gtheta = found[2][..., : theta.shape[-1]] if wanted[2] else None
        return v, gy0, None, gtheta, None, None, None

    @staticmethod
    def jvp(ctx: Any, dg: Any, dy0: Any, dt: Any, dtheta: Any, du: Any, *_: Any) -> Any:
        """The change of the gradients along these directions."""
        g, y0, t, theta, u = ctx.saved_tensors
        refuse(dt, du, "second")
        if ctx.wanted[1] or ctx.wanted[3]:
            refuse(t if ctx.wanted[1] else None, u if ctx.wanted[3] else None, "second")
        call = ctx.call.tangent(True)
        joint, _v = pushed(call, y0, t, theta, u, dy0, dtheta, made=True)
        both = torch.cat([torch.zeros_like(g) if dg is None else dg, g], -1)
        found = Back.apply(both, *joint, call, (ctx.wanted[0], False, ctx.wanted[2], False))
        gy0 = found[0][..., : y0.shape[-1]] if ctx.wanted[0] else found[0]
        gtheta = found[2][..., : theta.shape[-1]] if ctx.wanted[2] else found[2]
        return gy0, g.new_empty(0), gtheta, g.new_empty(0)

    @staticmethod
    def vmap(info: Any, dims: Any, g: Any, y0: Any, t: Any, theta: Any, u: Any, call: Call, wanted: Wanted) -> Any:
        """Several g for one solve: along its tape several times; else one call with all samples side by side."""
        n = info.batch_size
        g = g.expand(n, *g.shape) if dims[0] is None else g.movedim(dims[0], 0)
        if all(dim is None for dim in dims[1:5]):
            each = [Back.apply(g[k], y0, t, theta, u, call, wanted) for k in range(n)]
            return tuple(torch.stack(x) for x in zip(*each, strict=True)), (0,) * 4
        tensors = (y0, t, theta, u)
        flat, rows = flattened(n, dims[1:5], tensors, call, wanted)
        along = call.flat if call.flat is not None and call.rows == rows else call.again()
        found = Back.apply(g.reshape(-1, *g.shape[2:]), *flat, along, wanted)
        return tuple(
            folded(x, n, own) if w else x.expand(n, 0)
            for x, w, own in zip(found, wanted, own_rows(call, dims[1:5], tensors), strict=True)
        ), (0,) * 4


def is_zero(x: Any) -> bool:
    """Whether a cotangent is None or all 0."""
    if x is None or x.numel() == 0:
        return True
    try:
        return not bool((x != 0).any())
    except RuntimeError:  # inside vmap nobody can tell
        return False


def refuse(of_t: Any, of_u: Any, what: str) -> None:
    """Derivatives that there are not."""
    for name, x in (("t", of_t), ("u", of_u)):
        if x is not None and x.numel() > 0:
            raise NotImplementedError(
                f"{what} derivatives with respect to {name} are not there, only the gradient by backpropagation: detach "
                f"{name}, {name}.detach(), where they are not meant"
            )


def pushed(
    call: Call, y0: Any, t: Any, theta: Any, u: Any, a: Any, b: Any, made: bool = False
) -> tuple[tuple[Any, Any, Any, Any], Any]:
    """The tangent solve in the direction (a, b) of (y0, theta), None being 0: what was solved, and the change of y.

    made: the call is that of the tangents already.
    """
    call = call if made else call.tangent(call.keep)
    a = torch.zeros_like(y0) if a is None else a
    b = torch.zeros_like(theta) if b is None else b
    joint = (torch.cat([y0, a], -1), t, torch.cat([theta, b], -1), u)
    return joint, Solve.apply(*joint, call)[..., y0.shape[-1] :]


def own_rows(call: Call, dims: Any, tensors: Any) -> tuple[bool, bool, bool, bool]:
    """Which of (y0, t, theta, u) have a row for each sample, before `vmap`."""
    sizes = [x.ndim - (dim is not None) for x, dim in zip(tensors, dims, strict=True)]
    least = 1 if call.kind == "constant" else 2
    return True, sizes[1] == 2, sizes[2] == 2, call.kind is not None and sizes[3] == least + 1


def flattened(n: int, dims: Any, tensors: Any, call: Call, wanted: Any) -> tuple[tuple[Any, ...], tuple[bool, ...]]:
    """(y0, t, theta, u) of n batches as those of one; and which of them have a row for each sample now.

    What all batches share stays shared, unless its gradient is wanted, which is one of each batch.
    """
    y0 = tensors[0]
    samples = y0.shape[0] if dims[0] is None else y0.movedim(dims[0], 0).shape[1]
    own = own_rows(call, dims, tensors)
    flat, rows = [], []
    for x, dim, has, w in zip(tensors, dims, own, wanted, strict=True):
        needs = has or dim is not None or (w and x.numel() > 0)
        if needs:
            x = x.expand(n, *x.shape) if dim is None else x.movedim(dim, 0)
            x = x if has else x.unsqueeze(1).expand(n, samples, *x.shape[1:])
            x = x.reshape(n * samples, *x.shape[2:])
        flat.append(x)
        rows.append(bool(needs))
    return tuple(flat), tuple(rows)


def folded(gradient: Any, n: int, own: bool) -> Any:
    """The gradient of what was flattened, for each of n batches; own: of each sample, else their sum."""
    each = gradient.reshape(n, -1, *gradient.shape[1:])
    return each if own else each.sum(1)
