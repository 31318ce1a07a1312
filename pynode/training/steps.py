"""The steps of training on trajectories, by themselves: for models and loops of your own."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pynode.data.clock import refuse_clock
from pynode.data.control import as_control
from pynode.data.scaling import shift_and_scale, spread_within, tolerances
from pynode.data.signal import told
from pynode.data.trajectories import Trajectories
from pynode.engine.options import Options
from pynode.fields.arguments import as_field, as_theta
from pynode.fields.field import Field
from pynode.optim.checkpoint import Checkpoint
from pynode.optim.result import FitResult, Iteration
from pynode.optim.session import session
from pynode.training.curriculum import Run
from pynode.training.first_order import OPTIMIZERS, FirstOrder, FirstOrderRun
from pynode.training.noise import ROBUST
from pynode.training.second_order import STEPS, SecondOrderRun
from pynode.training.second_order_recipe import SecondOrder
from pynode.training.sizes import is_small, prior_groups
from pynode.training.smoothing import smooth, with_implied
from pynode.training.state import Training
from pynode.training.verdict.trajectories import doubts
from pynode.training.windows import Data, checked_windows, default_windows, weighed

SECOND_ORDER = "levenberg-marquardt"


def gradient_matching(
    field: Field | Callable[..., Any],
    t: ArrayLike | Sequence[ArrayLike],
    Y: ArrayLike | Sequence[ArrayLike],
    theta0: ArrayLike | None = None,
    *,
    u: Any = None,
    evidence: bool = True,
    max_iter: int = 40,
    random_state: int = 0,
    callback: Callable[[Iteration], object] | None = None,
) -> FitResult:
    """Fit a field to the slopes of smoothed trajectories: nothing is solved (Varah 1982, doi:10.1137/0903003).

    There are no checkpoints, no early stopping and no display of progress: it takes seconds. There are no weights either:
    smoothing estimates the noise of each state from the data.

    Parameters
    ----------
    field : Field
        The vector field, with d states and p parameters.
    t : (T,) array_like, or list of (T_i,) array_like
        Times.
    Y : (T, d) or (B, T, d) array_like, or list of (T_i, d) array_like
        States in the units of the field; NaN: not observed.
    theta0 : (p,) array_like, optional
        Where to start. Default: field.init(random_state).
    u : array, tuple or Signal, optional
        Control inputs, see `pynode.NeuralODE.fit`.
    evidence : bool, default True
        Estimate the strength of the priors of network weights.
    max_iter : int, default 40
        The most steps of Levenberg-Marquardt; more than 40 are never taken.
    random_state : int, default 0
        Seed of the initial parameters, and of the rows that are drawn from very many.
    callback : callable, optional
        callback(Iteration) after each iteration; return True to stop.

    Returns
    -------
    FitResult
        With `covariance` of theta; `states` are the smoothed ones.

    Raises
    ------
    ValueError
        The field is a callback or has no parameters to fit, no slopes can be estimated, or shapes do not fit.
    FitInterrupted
        Ctrl-C; its `result` keeps the best so far.

    See Also
    --------
    multiple_shooting : fits the trajectories themselves; start it from the theta found here.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> decay = pn.field(state=1, theta={"k": 1.0})(lambda t, y, th: -th.k * y)
    >>> t = np.linspace(0, 4, 30)
    >>> result = pn.fit.gradient_matching(decay, t, np.exp(-0.5 * t)[:, None])
    >>> bool(abs(result.theta[0] - 0.5) < 1e-3)
    True
    """
    weight_decay = None if evidence else 0.0
    run = _prepared(
        field, t, Y, theta0, u, None, SECOND_ORDER, "gaussian", weight_decay, max_iter, random_state, (None,), {}
    )
    run.callback = callback
    if run.field.callbacks:
        raise ValueError("gradient_matching needs a traced field (pynode.field, pynode.mlp): callbacks have no Jacobian")
    if len(run.coordinates) == 0:
        raise ValueError("the field has no parameters that may change: there is nothing to fit")
    if run.known_slopes() is None:
        raise ValueError("no slopes can be estimated: there must be a trajectory with two times or more")
    run.match()
    return _result(run)


def multiple_shooting(
    field: Field | Callable[..., Any],
    t: ArrayLike | Sequence[ArrayLike],
    Y: ArrayLike | Sequence[ArrayLike],
    theta0: ArrayLike | None = None,
    *,
    windows: Sequence[int | None] | None = None,
    optimizer: str = "auto",
    u: Any = None,
    weight: ArrayLike | Sequence[ArrayLike] | None = None,
    noise: str = "gaussian",
    weight_decay: float | None = None,
    max_iter: int | None = None,
    random_state: int = 0,
    callback: Callable[[Iteration], object] | None = None,
    checkpoint: str | PathLike[str] | Checkpoint | None = None,
    **options: Any,
) -> FitResult:
    """Fit a field to windows of trajectories, the initial state of each free (Bock 1983), the windows growing.

    There is no early stopping and no display of progress: for these see `pynode.NeuralODE`, or use the callback.

    Parameters
    ----------
    field : Field
        The vector field, with d states and p parameters.
    t : (T,) array_like, or list of (T_i,) array_like
        Times.
    Y : (T, d) or (B, T, d) array_like, or list of (T_i, d) array_like
        States in the units of the field; NaN: not observed.
    theta0 : (p,) array_like, optional
        Where to start. Default: field.init(random_state).
    windows : sequence of int or None, optional
        Lengths in intervals between times, one for each stage; None in it: whole trajectories. Default: growing from ten.
    optimizer : {"auto", "levenberg-marquardt", "adam+lbfgs", "lbfgs", "adam"}, default "auto"
        "auto": Levenberg-Marquardt for small fields, else "adam+lbfgs".
    u : array, tuple or Signal, optional
        Control inputs, see `pynode.NeuralODE.fit`.
    weight : array or list of arrays, optional
        Relative precision of the entries of Y. Default: 1.
    noise : {"gaussian", "huber", "student"}, default "gaussian"
        The distribution of the noise; the last two are robust against outliers.
    weight_decay : float, optional
        Precision of a Gaussian prior on theta, in units of the precision of the noise. Default: estimated
        (Levenberg-Marquardt), or none.
    max_iter : int, optional
        The most iterations of each stage. Default: 100.
    random_state : int, default 0
        Seed of the initial parameters, and of everything else that is drawn.
    callback : callable, optional
        callback(Iteration) after each iteration; return True to stop.
    checkpoint : path or Checkpoint, optional
        A file that is written now and then. If it is there at the start, training goes on from it, to the same bits. It is
        removed at the end.
    **options
        See `pynode.solve`.

    Returns
    -------
    FitResult
        With `covariance` of theta (Levenberg-Marquardt), the fitted `states`, and `warnings` of what is doubtful.

    Raises
    ------
    FitError
        The field cannot be solved over any window.
    ValueError
        An option makes no sense, shapes do not fit, or the checkpoint is that of another fit.
    FitInterrupted
        Ctrl-C; its `result` keeps the best so far.

    See Also
    --------
    gradient_matching : a start for it.
    pynode.NeuralODE : does both, in scaled units.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> decay = pn.field(state=1, theta={"k": 1.0})(lambda t, y, th: -th.k * y)
    >>> t = np.linspace(0, 4, 30)
    >>> result = pn.fit.multiple_shooting(decay, t, np.exp(-0.5 * t)[:, None])
    >>> bool(abs(result.theta[0] - 0.5) < 1e-5), result.states[0].shape
    (True, (30, 1))
    """
    run = _prepared(field, t, Y, theta0, u, weight, optimizer, noise, weight_decay, max_iter, random_state, windows, options)
    run.callback = callback
    run.position = 1  # no slopes are matched
    with session(checkpoint, "multiple_shooting", _what(run), lambda *_: run.interrupted(np.inf).result) as saved:
        run.checkpoint = saved
        run.train()
        for words in [] if run.stopped else doubts(run, [f"state {j + 1}" for j in range(run.field.d)]):
            run.warn(words)
    return _result(run)


def _what(run: Run) -> tuple[Any, ...]:
    """What a fit depends on, for the fingerprint of its checkpoint."""
    data = run.data
    field = (run.field.program.to_dict(), repr(run.field.spec))
    return data.t, data.y, data.weight, told(data.signal), run.training.theta, run.recipe, *field


def _prepared(
    field: Field | Callable[..., Any],
    t: Any,
    Y: Any,
    theta0: ArrayLike | None,
    u: Any,
    weight: Any,
    optimizer: str,
    noise: str,
    weight_decay: float | None,
    max_iter: int | None,
    random_state: int,
    windows: Sequence[int | None] | None,
    options: dict[str, Any],
) -> FirstOrderRun | SecondOrderRun:
    """The run of a fit, from the user's arguments, which are checked."""
    field = as_field(field)
    refuse_clock("t", t)
    table = Trajectories.from_arrays(t, Y)
    if table.d != field.d:
        raise ValueError(f"Y has {table.d} states, the field {field.d}: columns of NaN stand for states never observed")
    if noise not in ROBUST:
        raise ValueError(f"noise={noise!r} is not one of {', '.join(ROBUST)}")
    if optimizer not in ("auto", SECOND_ORDER, *OPTIMIZERS):
        raise ValueError(f"optimizer={optimizer!r} is not one of auto, {SECOND_ORDER}, {', '.join(OPTIMIZERS)}")
    chosen = None if windows is None else checked_windows(windows)
    if max_iter is not None and not max_iter >= 1:
        raise ValueError(f"max_iter={max_iter!r} must be a positive integer")
    signal = as_control(u, field.inputs, table.t)
    data = Data(list(table.t), *weighed(weight, table.y), signal)
    theta = field.init(random_state) if theta0 is None else as_theta(field, theta0, np.float64).copy()
    smoothed = smooth(data.t, data.y)
    if not data.seen.all():
        smoothed = with_implied(field, theta, data.t, smoothed, data.inputs_at_rows())
    training = Training.start(theta, data, smoothed)
    Options.of("multiple_shooting", options)
    rtol, atol = tolerances(1e-6, 1e-6, *shift_and_scale(np.concatenate(data.y)), spread_within(data.y))
    options = {"rtol": rtol, "atol": atol} | options
    lengths = default_windows(table.lengths) if chosen is None else chosen
    more: dict[str, Any] = {"random_state": random_state, "kind": "own"}
    if optimizer == SECOND_ORDER or (optimizer == "auto" and is_small(field)):
        groups = prior_groups(field) if weight_decay is None else []
        recipe = SecondOrder(lengths, max_iter or STEPS, 3e-4, groups, weight_decay or 0.0, noise, [theta], options, **more)
        return SecondOrderRun(field, data, training, smoothed, recipe)
    known = smoothed.variance[~np.isnan(smoothed.variance)]
    first = FirstOrder(
        lengths,
        OPTIMIZERS[0] if optimizer == "auto" else optimizer,
        max_iter or 100,
        2e-2,
        weight_decay or 0.0,
        1.0 / data.spread,
        options,
        noise=noise,
        deviation=float(np.sqrt(known.mean())) if len(known) else 1.0,
        **more,
    )
    return FirstOrderRun(field, data, training, smoothed, first)


def _result(run: FirstOrderRun | SecondOrderRun) -> FitResult:
    stage = run.training.stages[-1]
    history = run.training.history
    covariance = None
    if isinstance(run, SecondOrderRun):
        covariance = run.covariance
    return FitResult(
        run.training.theta,
        stage.loss,
        stage.status,
        f"{stage.name}: {stage.status}",
        sum(s.iterations for s in run.training.stages),
        sum(s.evaluations for s in run.training.stages),
        {name: np.array(history[name]) for name in history},
        covariance,
        run.training.states,
        tuple(run.training.warnings),
    )
