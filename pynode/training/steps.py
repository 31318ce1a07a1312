"""The steps of training on trajectories, by themselves: for models and loops of your own."""

import numpy as np

from pynode.data.control import as_control
from pynode.data.trajectories import Trajectories
from pynode.engine.options import Options
from pynode.fields.arguments import as_field, as_theta
from pynode.optim.checkpoint import as_checkpoint
from pynode.optim.result import FitResult
from pynode.training.curriculum import Training, checked_windows, default_windows
from pynode.training.first_order import OPTIMIZERS, FirstOrder, FirstOrderRun
from pynode.training.noise import ROBUST
from pynode.training.second_order import STEPS, SecondOrder, SecondOrderRun, is_small, prior_groups
from pynode.training.smoothing import smooth, with_implied
from pynode.training.windows import Data, as_weights

SECOND_ORDER = "levenberg-marquardt"


def gradient_matching(field, t, Y, theta0=None, *, u=None, evidence=True, max_iter=40, random_state=0, callback=None):
    """Fit a field to the slopes of smoothed trajectories: nothing is solved (Varah 1982, doi:10.1137/0903003).

    Parameters
    ----------
    field : Field
    t : (T,) array or list of (T_i,) arrays
    Y : (T, d) or (B, T, d) array, or list of (T_i, d) arrays
        States in the units of the field; NaN: not observed.
    theta0 : (p,) array, optional
        Default: field.init(random_state).
    u : array, tuple or Signal, optional
        Control inputs, see `pynode.NeuralODE.fit`.
    evidence : bool
        Estimate the strength of the priors of network weights.
    max_iter : int
    random_state : int
    callback : callable, optional
        callback(Iteration) after each iteration; return True to stop.

    Returns
    -------
    FitResult
        `states` are the smoothed ones.
    """
    run = _run(
        field,
        t,
        Y,
        theta0,
        u,
        None,
        SECOND_ORDER,
        "gaussian",
        None if evidence else 0.0,
        max_iter,
        random_state,
        (None,),
        {},
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
    field,
    t,
    Y,
    theta0=None,
    *,
    windows=None,
    optimizer="auto",
    u=None,
    weight=None,
    noise="gaussian",
    weight_decay=None,
    max_iter=None,
    random_state=0,
    callback=None,
    checkpoint=None,
    **options,
):
    """Fit a field to windows of trajectories, the initial state of each free (Bock 1983), the windows growing.

    Parameters
    ----------
    field, t, Y, theta0, u, random_state : see `gradient_matching`
    windows : sequence of int or None, optional
        Lengths in intervals between times, a stage each; None in it: whole trajectories. Default: growing from ten.
    optimizer : {"auto", "levenberg-marquardt", "adam+lbfgs", "lbfgs", "adam"}
    weight : array or list of arrays, optional
        Relative precision of the entries of Y.
    noise : {"gaussian", "huber", "student"}
    weight_decay : float, optional
        Precision of a Gaussian prior on theta, in units of the precision of the noise. Default: estimated
        (Levenberg-Marquardt), or none.
    max_iter : int, optional
        Of each stage. Default: 100 of Levenberg-Marquardt, 100 of the others.
    callback : callable, optional
        callback(Iteration) after each iteration; return True to stop.
    checkpoint : path or Checkpoint, optional
        Written now and then; if the file is there, training goes on from it, to the same bits. Removed at the end.
    **options : see `pynode.solve`

    Returns
    -------
    FitResult
        With `covariance` of theta (Levenberg-Marquardt) and the fitted `states`.
    """
    run = _run(field, t, Y, theta0, u, weight, optimizer, noise, weight_decay, max_iter, random_state, windows, options)
    run.callback, run.position, run.checkpoint = callback, 1, as_checkpoint(checkpoint)
    if run.checkpoint is not None:
        signal = None if run.data.signal is None else (run.data.signal.kind, run.data.signal.t, run.data.signal.u)
        run.checkpoint.open(
            run.data.t,
            run.data.y,
            run.data.weight,
            signal,
            run.training.theta,
            [np.asarray(value) for value in options.values()],
            repr(run.recipe),
            run.field.program.to_dict(),
            repr(run.field.spec),
        )
    run.go()
    if run.checkpoint is not None:
        run.checkpoint.done()
    return _result(run)


def _run(field, t, Y, theta0, u, weight, optimizer, noise, weight_decay, max_iter, random_state, windows, options):
    field = as_field(field)
    table = Trajectories.from_arrays(t, Y)
    if table.d != field.d:
        raise ValueError(f"Y has {table.d} states, the field {field.d}: columns of NaN stand for states never observed")
    if noise not in ROBUST:
        raise ValueError(f"noise={noise!r} is not one of {', '.join(ROBUST)}")
    if optimizer not in ("auto", SECOND_ORDER, *OPTIMIZERS):
        raise ValueError(f"optimizer={optimizer!r} is not one of auto, {SECOND_ORDER}, {', '.join(OPTIMIZERS)}")
    if windows is not None:
        windows = checked_windows(windows)
    if max_iter is not None and not max_iter >= 1:
        raise ValueError(f"max_iter={max_iter!r} must be a positive integer")
    signal = as_control(u, field.inputs, table.t)
    data = Data(list(table.t), list(table.y), as_weights(weight, table.y), signal)
    theta = field.init(random_state) if theta0 is None else as_theta(field, theta0, np.float64).copy()
    smoothed = smooth(data.t, data.y)
    if not data.seen.all():
        smoothed = with_implied(field, theta, data.t, smoothed, data.inputs_at_rows())
    training = Training.start(theta, data, smoothed)
    Options.of("multiple_shooting", options)
    options = {"rtol": 1e-6, "atol": 1e-6 * np.sqrt(data.spread)} | options
    windows = default_windows(table.lengths) if windows is None else windows
    if optimizer == SECOND_ORDER or (optimizer == "auto" and is_small(field)):
        groups = prior_groups(field) if weight_decay is None else []
        recipe = SecondOrder(
            windows, max_iter or STEPS, 3e-4, groups, weight_decay or 0.0, noise, [theta], options, seed=random_state
        )
        return SecondOrderRun(field, data, training, smoothed, recipe)
    known = smoothed.variance[~np.isnan(smoothed.variance)]
    first = FirstOrder(
        windows,
        OPTIMIZERS[0] if optimizer == "auto" else optimizer,
        max_iter or 100,
        2e-2,
        weight_decay or 0.0,
        1.0 / data.spread,
        options,
        noise=noise,
        deviation=float(np.sqrt(known.mean())) if len(known) else 1.0,
        seed=random_state,
    )
    return FirstOrderRun(field, data, training, smoothed, first)


def _result(run):
    stage, history = run.training.stages[-1], run.training.history
    posterior = getattr(run, "posterior", None)
    covariance = None
    if posterior is not None and posterior.covariance is not None:
        covariance = run.coordinates.spread(posterior.theta, posterior.covariance)
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
    )
