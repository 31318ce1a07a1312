"""Gradients through a solve: `loss_and_grad`, `Objective`, and what `Solution.vjp` needs.

A gradient method is one row of `ADJOINTS`: a function
(setup, theta, seed, wanted, memory) -> (raw results of the core, g_theta, g_y0, g_t, g_coef),
the gradients of the sum of the loss. seed is dL/dy (rows, d); where a loss is built in it is None for the core's own
methods, and for the others the `DataLoss`, whose `slopes` give it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pynode.engine.continuous import backsolve, interpolating
from pynode.engine.options import as_memory, is_implicit
from pynode.engine.problem import PreparedSolve
from pynode.errors import MESSAGES, OK, STATUS, SolveWarning, users_level
from pynode.fields.system import System

if TYPE_CHECKING:
    from pynode.engine.options import Options
    from pynode.engine.solution import Solution
    from pynode.fields.field import Field


Wrt = Literal["theta", "y0", "t", "inputs", "data", "target"]
WRT = get_args(Wrt)


REVERSIBLE_COUPLING = 0.99


@dataclass(frozen=True)
class Gradients:
    """Gradients of a scalar; None where not asked for.

    Attributes
    ----------
    theta : (n_params,), or (B, n_params) where theta had a row for each sample
    y0 : (d,) or (B, d)
    t : like t, one value a saved time (for t shared by a batch: summed over the samples)
        The grid of steps counts as frozen but for its first and last time and the times that steps land on.
    inputs : like the values u of the inputs
    data, target : like the data of the jumps and the target of a loss program

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> f = pn.mlp(2, (8,))
    >>> g = pn.solve(f, [1.0, 0.0], [0.0, 1.0], f.init(0)).vjp(np.ones((2, 2)), wrt=("y0", "t"))
    >>> g.y0.shape, g.t.shape, g.theta is None
    ((2,), (2,), True)
    """

    theta: Any = None
    y0: Any = None
    t: Any = None
    inputs: Any = None
    data: Any = None
    target: Any = None


# ---------------------------------------------------------------------------------------------------------------------
# Gradient methods
# ---------------------------------------------------------------------------------------------------------------------


def _exact(kind: str) -> Any:
    """The core's own reverse pass; seed is None (the problem has a loss) or the cotangent rows."""

    def run(setup: PreparedSolve, theta: NDArray[Any], seed: Any, wanted: Sequence[str], memory: Any, **data: Any) -> Any:
        raw = setup.run(
            theta,
            **data,
            g_y=seed,
            gradient=kind,
            wrt_y0="y0" in wanted,
            wrt_t="t" in wanted,
            wrt_inputs="inputs" in wanted,
            wrt_data="data" in wanted,
            wrt_target="target" in wanted,
            memory=memory,
        )
        if kind == "reversible":
            _check_reconstruction(raw, setup.options.coupling, setup.dtype)
        return raw, raw["g_theta"], raw.get("g_y0"), raw.get("g_t"), raw.get("g_coef")

    return run


ADJOINTS = {
    "discrete": _exact("discrete"),
    "reversible": _exact("reversible"),
    "backsolve": backsolve,
    "interpolating": interpolating,
}


def _check_reconstruction(raw: Any, coupling: float, dtype: Any) -> None:
    """Going back multiplies rounding by 1 / coupling at every step."""
    steps = int(raw["accepted"].max(initial=0))
    lost = np.log10(np.finfo(dtype).eps) - steps * np.log10(coupling)
    if lost > -6:
        better = 10 ** (-(-7 - np.log10(np.finfo(dtype).eps)) / max(steps, 1))
        warnings.warn(
            f"adjoint='reversible' with coupling={coupling:g} over {steps} steps enlarges rounding to about 1e{lost:+.0f} "
            f"of the state: the gradient is not to be trusted; take coupling={better:.6f} or closer to 1, fewer steps, "
            "or adjoint='discrete'",
            SolveWarning,
            stacklevel=users_level(),
        )


def check_adjoint(adjoint: str, options: Options, memory: Any, f: Field | System) -> Options:
    """The options with which this gradient method solves."""
    jumps = isinstance(f, System) and f.jump is not None
    if not isinstance(adjoint, str) or adjoint not in ADJOINTS:
        raise ValueError(f"adjoint={adjoint!r} is not one of {', '.join(ADJOINTS)}")
    if memory and adjoint != "discrete":
        raise ValueError(f"memory= limits the tape of adjoint='discrete'; adjoint={adjoint!r} has none")
    if adjoint in ("backsolve", "interpolating") and isinstance(f, System):
        raise ValueError(f"adjoint={adjoint!r} is for fields; a System has 'discrete' (and 'reversible' if nothing jumps)")
    if adjoint == "reversible" and jumps:
        raise ValueError("adjoint='reversible': the scheme cannot go back through jumps; use adjoint='discrete'")
    if adjoint in ("backsolve", "interpolating") and is_implicit(options.method):
        raise ValueError(
            f"adjoint={adjoint!r} with method={options.method!r}: continuous adjoints take explicit methods; "
            "adjoint='discrete' is exact, and stable where the solve is"
        )
    if f.callbacks and adjoint in ("backsolve", "interpolating"):
        raise ValueError(
            f"adjoint={adjoint!r} needs a field that was traced (pynode.field, pynode.mlp): a callback field has "
            "'discrete' and 'reversible'"
        )
    if options.partitioned and adjoint != "discrete":
        raise ValueError(
            f"method={options.method!r} has the exact gradient of its steps only: take adjoint='discrete', not {adjoint!r}"
        )
    if adjoint == "reversible":
        return options if options.coupling > 0 else replace(options, coupling=REVERSIBLE_COUPLING)
    if options.coupling > 0:
        raise ValueError(f"a solve with coupling={options.coupling:g} (the reversible scheme) needs adjoint='reversible'")
    return options


def check_wrt(wrt: Any, f: Field | System, program: bool = False) -> tuple[str, ...]:
    """The names as a tuple; `program`: the loss is one, so that its target counts."""
    if not isinstance(wrt, (str, tuple, list, set, frozenset)):
        raise TypeError(f"wrt={wrt!r} must be a tuple out of {', '.join(WRT)}")
    names: tuple[str, ...] = (wrt,) if isinstance(wrt, str) else tuple(wrt)
    unknown = [name for name in names if name not in WRT]
    if unknown:
        raise ValueError(f"wrt={unknown[0]!r} is not one of {', '.join(WRT)}")
    if "inputs" in names and not f.inputs:
        raise ValueError("wrt='inputs': the field has no inputs")
    callback = f.field.callback if isinstance(f, System) else f.callback
    if callback is not None:
        callback.check_wrt(names)
    if "data" in names and not (isinstance(f, System) and f.n_data):
        raise ValueError("wrt='data': there is no jump that takes data (pynode.System(field, jump=...))")
    if "target" in names and not program:
        raise ValueError("wrt='target': only a loss program (loss='program') has a gradient with respect to its target")
    return names


def shaped_gradients(
    setup: PreparedSolve, wanted: Sequence[str], raw: Any, grads: Any, scale: float = 1.0
) -> dict[str, Any]:
    """Raw gradients (rows, coefficients) in the user's shapes, times scale."""
    (theta, y0, t, coef), batch, out = grads, setup.batch, {}
    for name in {"data", "target"} & set(wanted):
        out[name] = batch.unflatten(raw[f"g_{name}"] * scale)
    if "theta" in wanted:
        out["theta"] = scaled(theta, scale)
    if "y0" in wanted:
        out["y0"] = scaled(y0[0] if batch.kind == "single" else y0, scale)
    if "t" in wanted:
        out["t"] = batch.by_time(t * scale)
    if "inputs" in wanted:
        out["inputs"] = scaled(setup.signal.pull(coef), scale)
    return out


def scaled(x: Any, scale: float) -> Any:
    if scale == 1.0:
        return x
    return [v * scale for v in x] if isinstance(x, list) else x * scale


def warn_of_lost(lost: NDArray[np.bool_], adjoint: str = "discrete") -> None:
    """Say which samples add nothing to a gradient, and why."""
    if not lost.any():
        return
    why = MESSAGES[STATUS.index("gradient")]
    if adjoint in ("backsolve", "interpolating"):
        why = "it could not be solved backwards; adjoint='discrete' has no such limit"
    text = f"{lost.sum()} of {len(lost)} samples add nothing to this gradient; sample {np.flatnonzero(lost)[0]}: {why}"
    warnings.warn(text, SolveWarning, stacklevel=users_level())


def solution_vjp(solution: Solution, dy: Any, wrt: Any, adjoint: str | None, memory: Any) -> Gradients:
    """See `Solution.vjp`."""
    old, f = solution.prepared, solution.field
    wanted = check_wrt(wrt, f)
    adjoint = adjoint or ("reversible" if old.options.coupling > 0 else "discrete")
    options = check_adjoint(adjoint, old.options, memory, f)
    if options.coupling != old.options.coupling:
        raise ValueError("adjoint='reversible' needs a solution of the reversible scheme: solve(..., coupling=0.99)")
    seed = solution.batch.flatten("dy", dy, old.dtype)
    if not np.isfinite(seed).all():
        raise ValueError("dy must be finite; give 0 where the loss does not depend on an entry")
    setup = PreparedSolve(f, solution.batch, options, gradient=True, own_inputs="inputs" in wanted, data=old.data)
    raw, *grads = ADJOINTS[adjoint](setup, solution.theta, seed, wanted, as_memory(memory))
    warn_of_lost((raw["status"] != OK) & (solution.results["status"] == OK), adjoint)
    return Gradients(**shaped_gradients(setup, wanted, raw, grads))
