"""`odeint`: a solve with tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from pynode.calls.cache import by_value
from pynode.calls.taped import TapedSolver
from pynode.data.signal import Signal
from pynode.engine.solution import Errors
from pynode.engine.tableau import Tableau
from pynode.fields.arguments import states_by_name
from pynode.fields.field import Field
from pynode.fields.parameters import Parameter, leaves, ordered
from pynode.torch.functions import Call, QuickSolve, Solve, transforms_active
from pynode.torch.ops import compiled_solve
from pynode.torch.tensors import FLOATS, as_tensor

MOST_SOLVERS = 256
"""So many solvers of a field are kept, by their options."""

OPTIONS = ("method", "rtol", "atol", "step", "save", "max_steps", "first_step", "max_step", "threads")
"""The keywords that say how to solve; see `pynode.solve`."""


def odeint(
    field: Field,
    y0: Any,
    t: Any,
    theta: Any = None,
    *,
    method: str | Tableau = "dopri5",
    rtol: float = 1e-6,
    atol: Any = 1e-8,
    step: float | None = None,
    u: Any = None,
    errors: Errors = "warn",
    **options: Any,
) -> Any:
    """Solve dy/dt = f(t, y; theta), with tensors in and out, as a part of a model in PyTorch.

    Every sample has steps of its own. The gradient is the exact one of the steps taken, along the tape of the solve.

    Parameters
    ----------
    field : Field
        From `pynode.field`, `pynode.mlp`, `from_torch`, ...
    y0 : (..., d) tensor
        Initial states, float32 or float64, which is that of the solve. All axes but the last are samples.
    t : (T,) tensor, or (B, T) where y0 is (B, d)
        Times of the results, the first being the initial time.
    theta : (n_params,) tensor, (B, n_params) with y0 (B, d), or nested dict of tensors by the names of the field
        The parameters; with a row for each sample every sample has its own.
    method, rtol, atol, step : as in `pynode.solve`
        How it is solved.
    u : tensor, or (knots, tensor), or (knots, tensor, kind), optional
        The inputs: constant (m,) or (B, m); or values (K, m) or (B, K, m) at knots (K,), see `pynode.Signal`.
    errors : {"warn", "raise", "ignore"}
        What to do if samples fail: their results are NaN from the failure on, and they add nothing to gradients.
    **options : save, max_steps, first_step, max_step, threads
        As in `pynode.solve`.

    Returns
    -------
    (..., T, d) tensor
        The states, of y0's type and on its device; the order of axes is that of `pynode.solve`, (sample, time, state).

    Raises
    ------
    ValueError, TypeError
        Arguments that cannot work.
    NotImplementedError
        When differentiating: what there is no derivative of; the message says what to do.

    See Also
    --------
    ODEBlock : the same as a layer.
    pynode.torch.diffeq : torchdiffeq's signature.

    Notes
    -----
    Gradients with respect to y0, theta, t and u; with respect to y0 and theta also `torch.func` (vjp, jvp, jacrev, jacfwd,
    hessian, vmap, which is one call for all samples) and double backward. `torch.compile` takes the call whole.
    The solve is on the CPU: tensors elsewhere are copied, which a warning says once.

    Examples
    --------
    >>> import torch, pynode as pn, pynode.torch
    >>> f = pn.mlp(2, (16,))
    >>> theta = torch.from_numpy(f.init(0)).requires_grad_()
    >>> y = pynode.torch.odeint(f, torch.ones(5, 2, dtype=torch.float64), torch.linspace(0, 1, 11), theta)
    >>> y.shape
    torch.Size([5, 11, 2])
    >>> (y**2).mean().backward()
    >>> theta.grad.shape
    torch.Size([82])
    """
    if unknown := sorted(options.keys() - OPTIONS):
        raise TypeError(f"odeint() got an unexpected keyword argument {unknown[0]!r}; options are {', '.join(OPTIONS)}, u")
    solver = solver_of(field, errors, {"method": method, "rtol": rtol, "atol": atol, "step": step, **options})
    y0 = as_tensor("y0", states_by_name("y0", field, y0))
    if y0.ndim == 0 or y0.shape[-1] != field.d:
        raise ValueError(f"y0 has shape {tuple(y0.shape)}, but {field.name} has {field.d} states: give (..., {field.d})")
    t = as_tensor("t", t, torch.float64)
    theta = theta_of(field, theta, y0)
    batch = y0.shape[:-1]
    if theta.ndim == 2 and not batch:
        batch = theta.shape[:1]
        y0 = y0.expand(*batch, field.d)
    elif t.ndim == 2 and not batch:
        batch = t.shape[:1]
        y0 = y0.expand(*batch, field.d)
    states = y0 if y0.ndim == 2 else y0.reshape(-1, field.d)
    check_rows("theta", theta, states)
    check_rows("t", t, states)
    kind, knots, u = inputs_of(field, u, states)
    y = solved(solver, states, t, theta, u, kind, knots)
    return y if len(batch) == 1 else y.reshape(*batch, t.shape[-1], field.d)


def solved(solver: TapedSolver, states: Any, t: Any, theta: Any, u: Any, kind: Any = None, knots: Any = None) -> Any:
    """(B, T, d): the solve of checked tensors."""
    if torch.compiler.is_compiling():
        return compiled(solver, states, t, theta, kind)
    keep = torch.is_grad_enabled() and (states.requires_grad or theta.requires_grad or t.requires_grad or u.requires_grad)
    function = Solve if transforms_active() else QuickSolve
    return function.apply(states, t, theta, u, Call(solver, keep, kind, knots))


def compiled(solver: TapedSolver, states: Any, t: Any, theta: Any, kind: Any) -> Any:
    """The same for a graph of torch.compile."""
    if kind is not None:
        raise NotImplementedError("inputs u inside torch.compile: call odeint outside the compiled function, or leave u out")
    return compiled_solve(states, t, theta, solver.number)


@torch.compiler.assume_constant_result
def solver_of(field: Field, errors: Errors, options: dict[str, Any]) -> TapedSolver:
    """The solver of a field by these options, kept with the field. A constant for torch.compile."""
    if not isinstance(field, Field):
        raise TypeError(
            f"field={field!r} is not a Field: make one by pynode.field or pynode.mlp, or of a torch.nn.Module by "
            "pynode.torch.from_torch"
        )
    solvers: dict[Any, TapedSolver] = field.__dict__.setdefault("_taped", {})
    try:
        key = (errors, *options.items())
        hash(key)
    except TypeError:
        key = (errors, *((name, by_value(value)) for name, value in options.items()))
    try:
        solver = solvers.get(key)
    except TypeError:
        return TapedSolver(field, errors, **options)
    if solver is None:
        if len(solvers) >= MOST_SOLVERS:
            solvers.clear()
        solver = solvers[key] = TapedSolver(field, errors, **options)
    return solver


def theta_of(field: Field, theta: Any, y0: Any) -> Any:
    """The parameters as one tensor (n_params,) or (B, n_params) of y0's type."""
    if theta is None:
        if field.n_params:
            raise ValueError(f"theta is missing: {field.name} has {field.n_params} parameters")
        return nothing(y0)
    if isinstance(theta, Mapping):
        theta = flat_theta(field.spec, theta)
    elif not isinstance(theta, torch.Tensor):
        theta = ordered(field.spec, theta)
    theta = as_tensor("theta", theta, y0.dtype, y0.device)
    if theta.ndim not in (1, 2) or theta.shape[-1] != field.n_params:
        raise ValueError(
            f"theta has shape {tuple(theta.shape)}; {field.name} has {field.n_params} parameters: give ({field.n_params},), "
            f"or (B, {field.n_params}) with a row for each sample"
        )
    return theta if theta.is_cpu and y0.is_cpu else theta.to(y0.device)


def flat_theta(spec: tuple[Parameter, ...], tree: Mapping[str, Any]) -> Any:
    """One vector from a nested dict of tensors by name."""
    given, names = dict(leaves(tree)), [p.name for p in spec]
    for one, others, words in ((given, names, "a parameter of the field"), (names, given, "in theta")):
        if odd := [name for name in one if name not in others]:
            raise ValueError(f"theta: {odd[0]!r} is not {words}; the parameters are {', '.join(names)}")
    parts = []
    for p in spec:
        node = as_tensor(p.name, given[p.name])
        if tuple(node.shape) != p.shape:
            raise ValueError(f"parameter {p.name} has shape {p.shape}, not {tuple(node.shape)}")
        parts.append(node.reshape(-1))
    return torch.cat(parts)


NOTHING = {x: torch.empty(0, dtype=x) for x in FLOATS}
"""Tensors without a number, on the CPU."""


def nothing(like: Any) -> Any:
    """A tensor without a number, for parameters or inputs that there are not."""
    return NOTHING[like.dtype] if like.is_cpu else like.new_empty(0)


def check_rows(name: str, x: Any, states: Any) -> None:
    """Rows of x are those of the samples."""
    if x.ndim == 0 or x.ndim > 2:
        raise ValueError(f"{name} has shape {tuple(x.shape)}: give one axis, or two with a row for each sample")
    if x.ndim == 2 and len(x) != len(states):
        raise ValueError(f"{name} has {len(x)} rows for {len(states)} samples: give one row for each, or one for all")


def inputs_of(field: Field, u: Any, states: Any) -> tuple[Any, Any, Any]:
    """(kind, knots, values) of the inputs; (None, None, an empty tensor) where the field takes none."""
    if not field.inputs:
        if u is not None:
            raise ValueError(f"u is given, but {field.name} takes no inputs")
        return None, None, nothing(states)
    if u is None:
        raise ValueError(f"u is missing: {field.name} takes {field.inputs} input{'s' * (field.inputs > 1)}")
    if isinstance(u, Signal):
        raise TypeError(f"u is a pynode.Signal: give (knots, values, {u.kind!r}), which may be tensors")
    if not isinstance(u, tuple):
        kind: str = "constant"
        knots: Any = None
        values = u
    elif len(u) in (2, 3):
        knots, values = u[:2]
        knots = np.asarray(knots.detach().cpu() if isinstance(knots, torch.Tensor) else knots, dtype=np.float64)
        kind = u[2] if len(u) == 3 else "linear"
    else:
        raise ValueError("u must be a tensor of constants, (knots, values) or (knots, values, kind)")
    values = as_tensor("u", values, states.dtype, states.device)
    shared = 1 if kind == "constant" else 2
    if values.ndim not in (shared, shared + 1) or values.shape[-1] != field.inputs:
        raise ValueError(
            f"u has shape {tuple(values.shape)}: give ({'' if shared == 1 else 'K, '}{field.inputs}), or that with a "
            f"leading axis for {len(states)} samples"
        )
    return kind, knots, values
