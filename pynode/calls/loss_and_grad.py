"""`loss_and_grad`."""

from pynode.calls.cache import keep, recall, serves
from pynode.engine.objective import Objective
from pynode.engine.solution import check_errors
from pynode.events.objective import EventObjective


def loss_and_grad(
    f,
    y0,
    t,
    theta,
    target=None,
    *,
    loss="mse",
    reduction=None,
    data=None,
    weight=None,
    loss_scale=1.0,
    loss_dof=4.0,
    adjoint="discrete",
    wrt=("theta",),
    memory=None,
    dtype=None,
    errors="warn",
    events=None,
    max_events=1000,
    **options,
):
    """The loss of a solve against data, and its gradient.

    Parameters
    ----------
    f, y0, t, theta, data, **options : see `solve`
    target : like the result of `solve`: (T, d), (B, T, d), or a list of (T_i, d)
        NaN where nothing was observed. For loss="program" (T, k), ...: the rows that it takes; one that begins with NaN is
        left out, all other entries must be finite.
    loss : {"mse", "sse", "mae", "huber", "student", "program"}
        Mean (or sum, "sse") over the observed entries of rho(y - target): r^2; |r|; Huber's; Student's -log density.
        "program": the sum over samples and their rows of the loss l(t, y, x; theta) of a System.
    reduction : {"sum", "mean"}, optional
        Whether the sum is divided by the sum of the weights ("program": the number of rows that count). Default: as said
        under `loss`. The mean over samples is the sum divided by their number.
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
    events, max_events : see `solve`
        The gradient goes through the event times. Rows after a terminal event that is not held count as not observed.

    Returns
    -------
    LossAndGrad
        Failed samples add nothing to the loss or the gradient.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> f = pn.mlp(1, (8,))
    >>> t = np.linspace(0, 1, 21)
    >>> val = pn.loss_and_grad(f, [1.0], t, f.init(0), np.exp(-2 * t)[:, None])
    >>> val.theta.shape
    (25,)
    """
    if events is not None or hasattr(f, "events"):
        if adjoint != "discrete" or memory is not None:
            raise ValueError("a solve with events has adjoint='discrete', without memory=")
        more = {"loss": loss, "weight": weight, "loss_scale": loss_scale, "loss_dof": loss_dof, "wrt": wrt, "dtype": dtype}
        with_events = EventObjective(f, y0, t, target, events=events, max_events=max_events, **more, **options)
        return with_events.evaluate(theta, errors)
    key = (loss, reduction, loss_scale, loss_dof, adjoint, wrt, memory, dtype, *options.items())
    check_errors(errors)
    objective = recall(f, key) if weight is None and data is None else None
    if objective is not None and (arrays := serves(objective.setup, theta, y0, t, target)):
        return objective._evaluate(arrays[0], errors, y0, arrays[1], target)
    objective = Objective(
        f,
        y0,
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
        **options,
    )
    result = objective.evaluate(theta, errors)
    if objective.exact and weight is None:
        keep(f, key, objective, objective.setup)
    return result
