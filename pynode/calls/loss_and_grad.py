"""`loss_and_grad`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Unpack

from numpy.typing import ArrayLike, DTypeLike

from pynode.calls.cache import by_value, keep, recall, same_rows, serves
from pynode.calls.objective import Adjoint, Objective
from pynode.engine.gradients import Wrt
from pynode.engine.losses import Loss
from pynode.engine.options import SolveOptions
from pynode.engine.solution import Errors, LossAndGrad, check_errors
from pynode.fields.arguments import Theta, Times, as_dynamics, as_y0, shared_start
from pynode.fields.event import Event
from pynode.fields.field import Field
from pynode.fields.system import System


def loss_and_grad(
    f: Field | System | Callable[..., Any],
    y0: ArrayLike,
    t: Times,
    theta: Theta,
    target: ArrayLike | Sequence[ArrayLike] | None = None,
    *,
    loss: Loss = "mse",
    reduction: Literal["sum", "mean"] | None = None,
    data: ArrayLike | Sequence[ArrayLike] | None = None,
    weight: ArrayLike | Sequence[ArrayLike] | None = None,
    loss_scale: float = 1.0,
    loss_dof: float = 4.0,
    adjoint: Adjoint = "discrete",
    wrt: Wrt | Sequence[Wrt] = ("theta",),
    memory: int | str | None = None,
    dtype: DTypeLike | None = None,
    errors: Errors = "warn",
    events: Event | Sequence[Event] | None = None,
    max_events: int = 1000,
    **options: Unpack[SolveOptions],
) -> LossAndGrad:
    """The loss of a solve against data, and its gradient.

    Parameters
    ----------
    f, y0, t, theta : as in `solve`
        What is solved.
    target : like the result of `solve`: (T, d), (B, T, d), or a list of (T_i, d)
        NaN where nothing was observed. A DataFrame goes by name, as y0 does. For loss="program" (T, k), ...: the rows that
        it takes; one that begins with NaN is left out, all other entries must be finite.
    loss : {"mse", "sse", "mae", "huber", "student", "program"}
        Mean (or sum, "sse") over the observed entries of rho(y - target): r^2; |r|; Huber's; Student's -log density.
        "program": the sum over samples and their rows of the loss l(t, y, x; theta) of a System.
    reduction : {"sum", "mean"}, optional
        Whether the sum is divided by the sum of the weights ("program": the number of rows that count). Default: as said
        under `loss`. The mean over samples is the sum divided by their number.
    data : as in `solve`
        What the jump of a System takes.
    weight : broadcastable to target, optional
        Weights >= 0 of the entries; means are weighted means.
    loss_scale, loss_dof : float
        Huber's delta or Student's scale; Student's degrees of freedom.
    adjoint : {"discrete", "backsolve", "interpolating", "reversible"}
        "discrete": exact derivative of the steps taken (default). "backsolve": continuous adjoint, states solved
        backwards (Chen et al. 2018), O(1) memory, inexact. "interpolating": continuous adjoint along the dense output.
        "reversible": the scheme of McCallum & Foster (2024), exact, states not stored.
    wrt : tuple out of "theta", "y0", "t", "inputs", "data", "target"
        "data" of the jumps and "target" of a loss program: where a row is left out, 0.
    memory : int or str, optional
        Budget for the tape of "discrete", e.g. "64MB": checkpoints, recomputed in between; the same bits.
    dtype, errors : as in `solve`
        The type of the numbers, and what to do if samples fail.
    events, max_events : as in `solve`
        The gradient goes through the event times. Rows after a terminal event that is not held count as not observed.
    **options : as in `solve`
        How it is solved: method, tolerances, steps, inputs, threads.

    Returns
    -------
    LossAndGrad
        Failed samples add nothing to the loss or the gradient. The gradient has the shape of theta as an array: with a row
        for each sample (B, n_params), derivatives of the loss of all samples with respect to the row of each.

    Raises
    ------
    ValueError, TypeError
        Arguments that cannot work, alone or together.
    SolveError
        A sample failed and errors="raise".

    See Also
    --------
    Objective : for many parameters, everything else checked once.
    check_grad : compares with finite differences.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> f = pn.mlp(1, (8,))
    >>> t = np.linspace(0, 1, 21)
    >>> val = pn.loss_and_grad(f, [1.0], t, f.init(0), np.exp(-2 * t)[:, None])
    >>> val.theta.shape
    (25,)
    """
    chosen = options | {"atol": by_value(options["atol"])} if "atol" in options else options
    key = (loss, reduction, loss_scale, loss_dof, adjoint, wrt, memory, dtype, type(max_events), max_events, *chosen.items())
    check_errors(errors)
    objective: Objective | None = recall(f, key, events) if weight is None else None
    if objective is not None and same_rows(data, objective.setup.data):
        other = None if objective.loss.program else target
        if (other is not None or same_rows(target, objective.rows_of_program)) and (
            arrays := serves(objective.setup, theta, y0, t, other)
        ):
            return objective.run(arrays[0], errors, arrays[1], other)
    f = as_dynamics(f, events=events)
    objective = Objective(
        f,
        shared_start(f, as_y0(f, y0, dtype), theta),
        t,
        target,
        loss=loss,
        reduction=reduction,
        data=data,
        weight=weight,
        loss_scale=loss_scale,
        loss_dof=loss_dof,
        adjoint=adjoint,
        wrt=wrt,
        memory=memory,
        dtype=dtype,
        max_events=max_events,
        **options,
    )
    result = objective.evaluate(theta, errors)
    if objective.exact and weight is None:
        keep(f, key, objective, objective.setup)
    return result
