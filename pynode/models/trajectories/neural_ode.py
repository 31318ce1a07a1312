"""NeuralODE: the estimator. Measured trajectories in, a differential equation out."""

import secrets
import time
from functools import partial
from typing import Any

import numpy as np

from pynode import _version
from pynode.models.trajectories.ensemble import fit_members
from pynode.models.trajectories.options import check
from pynode.models.trajectories.predictions import Rollouts
from pynode.models.trajectories.recipe import optimizer_of, prepare
from pynode.models.trajectories.series import as_trajectories, check_positive
from pynode.models.trajectories.storage import from_content, to_content
from pynode.optim.checkpoint import opened
from pynode.optim.progress import Progress
from pynode.training.windows import as_weights

RESULTS = (
    "field_",
    "theta_",
    "scaling_",
    "seed_",
    "data_",
    "names_",
    "time_name_",
    "n_unobserved_",
    "initial_states_",
    "covariance_",
    "_state_gain",
    "_state_covariance",
    "history_",
    "report_",
)
"""What a fit leaves, but for `estimators_`."""


class NeuralODE(Rollouts):
    """A differential equation dy/dt = f(y, u; theta) learned from measured trajectories.

    Training matches slopes of smoothed data, then fits short windows, longer ones, and whole trajectories,
    their initial states free. Inside, states and time are scaled to order one. Small fields are trained to
    second order (Levenberg-Marquardt on exact sensitivities); the noise and the strength of the priors are
    then estimated along the way, and predictions have error bands.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers of the network.
    activation : str
        See `pynode.mlp`.
    skip : bool
        Add a linear map to the network: linear systems are then learned exactly, and far from the data the field goes on
        linearly.
    field : Field, optional
        A field of your own (`pynode.field`), in the units of the data (of their logarithms, if `log`), in place
        of the network. It is not scaled (the loss is), so choose units of time in which its parameters are of
        order one. Its parameters may be `pynode.positive`, `pynode.bounded` or `pynode.frozen`. States that it has
        and nobody measured are columns of NaN in the data.
    augment : int
        States that are added to the measured ones because those alone do not determine their future (an oscillator
        of which only the position is seen); their initial values are estimated.
    method : str
        Runge-Kutta method, see `pynode.solve`.
    rtol, atol : float
        Tolerances of training, atol in standard deviations of the states; predictions use at most 1e-6 and 1e-8.
    optimizer : {"auto", "levenberg-marquardt", "adam+lbfgs", "lbfgs", "adam"}
        "auto": Levenberg-Marquardt for fields of at most 1500 parameters and 20 states, else Adam for the
        start from random parameters, then L-BFGS; Adam on minibatches where the data are many.
    max_iter : int, optional
        Iterations of each stage of training; epochs, with minibatches. Default: 100 of Levenberg-Marquardt, 10
        epochs, 400 of Adam, 100 of the others.
    learning_rate : float
        Of Adam.
    schedule : {"cosine", "constant", "exponential", "one_cycle"} or callable
        Of the learning rate, see `pynode.fit.schedules`.
    max_gradient : float, optional
        Adam shortens longer gradients to this norm.
    batch_size : int, optional
        Windows of a minibatch (Adam), for the shortest windows; of longer ones fewer. Default: 256 where there are more
        than 20,000 windows.
    windows : sequence of int or None, optional
        Lengths of the windows of the stages, in intervals between times; None in it stands for whole
        trajectories. Default: growing from at most 10 to whole trajectories.
    weight_decay : float, optional
        The loss has weight_decay / n_observed * |theta|^2 added. Default: Levenberg-Marquardt estimates it
        (evidence), for each array of weights; for the others the variance of the noise, estimated from the data,
        over 0.5^2, which is a Gaussian prior of standard deviation 0.5. 0 for a field of your own.
    kinetic_energy, jacobian_norm : float
        Strength of regularisers along the path, see `pynode.fit.with_penalty` (gradient descent only).
    steer : float
        End times of windows are moved at random by this part of the last interval (Adam only).
    noise : {"gaussian", "huber", "student"}
        Of the measurements; the last two are not led astray by outliers. Its variance is estimated for each state.
    early_stopping : bool
        Keep some trajectories aside, stop each stage when the error on them no longer falls, and keep the best
        parameters for them; in place of the estimated priors.
    validation_fraction : float
        Part of the trajectories kept aside.
    patience : int
        Iterations without improvement after which a stage stops.
    n_restarts : int
        Random starts; the one of largest evidence after matching slopes goes on (Levenberg-Marquardt only).
    n_estimators : int
        Members of an ensemble, which differ in their random start; predictions are their mean, and bands contain
        how they differ.
    n_jobs : int, optional
        How many members are fitted at once, by joblib (its backends may spread them over machines).
    scale : bool
        Scale states and time to order one.
    log : bool
        Learn the logarithms of the states, which must be positive: populations, concentrations.
    random_state : int, optional
        The same seed gives the same model.
    verbose : int
        Show progress while fitting.

    Attributes
    ----------
    theta_ : (p,) array
    field_ : Field
        In scaled units; `derivative` is in yours.
    scaling_ : Scaling
    names_ : tuple of str
        The states that predictions are about.
    n_unobserved_ : int
        States that were added (`augment`), after the others.
    initial_states_ : (B, d) array
        Fitted initial states of the trajectories, in your units.
    covariance_ : (p, p) array or None
        Of theta_, by Laplace's approximation; None where the optimizer gives none.
    data_ : Trajectories or None
        What it was fitted to.
    estimators_ : list of NeuralODE
        The members of an ensemble, else empty. theta_ and the like are those of the member of the lowest loss.
    history_ : dict of arrays
        stage, loss, gradient_norm, nfe, seconds, validation: an entry an iteration; `pandas.DataFrame(model.history_)`.
    report_ : dict
        How the fit went: loss, rmse, noise, stages, seconds, nfe, status.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> t = np.linspace(0, 6, 40)
    >>> Y = np.stack([np.cos(t), -np.sin(t)], axis=1)
    >>> model = pn.NeuralODE(hidden=(8,), max_iter=50, random_state=0).fit(t, Y)
    >>> model.predict(t, [0.5, 0.0]).shape
    (40, 2)
    """

    def __init__(
        self,
        hidden=(32,),
        activation="tanh",
        field=None,
        *,
        skip=True,
        augment=0,
        method="dopri5",
        rtol=1e-5,
        atol=1e-5,
        optimizer="auto",
        max_iter=None,
        learning_rate=2e-2,
        schedule="cosine",
        max_gradient=None,
        batch_size=None,
        windows=None,
        weight_decay=None,
        kinetic_energy=0.0,
        jacobian_norm=0.0,
        steer=0.0,
        noise="gaussian",
        early_stopping=False,
        validation_fraction=0.2,
        patience=10,
        n_restarts=1,
        n_estimators=1,
        n_jobs=None,
        scale=True,
        log=False,
        random_state=None,
        verbose=0,
    ):
        # as in scikit-learn: kept as given, checked by fit
        self.hidden, self.activation, self.skip, self.field, self.augment = hidden, activation, skip, field, augment
        self.method, self.rtol, self.atol = method, rtol, atol
        self.optimizer, self.max_iter, self.windows, self.batch_size = optimizer, max_iter, windows, batch_size
        self.learning_rate, self.schedule, self.max_gradient = learning_rate, schedule, max_gradient
        self.weight_decay, self.kinetic_energy, self.jacobian_norm = weight_decay, kinetic_energy, jacobian_norm
        self.steer, self.noise, self.early_stopping = steer, noise, early_stopping
        self.validation_fraction, self.patience = validation_fraction, patience
        self.n_restarts, self.n_estimators, self.n_jobs = n_restarts, n_estimators, n_jobs
        self.scale, self.log, self.random_state, self.verbose = scale, log, random_state, verbose

    # ---- Fitting -------------------------------------------------------------------------------------------------

    def fit(
        self,
        t,
        Y=None,
        *,
        u=None,
        weight=None,
        names=None,
        time=None,
        state=None,
        id=None,
        input=None,
        progress=None,
        callback=None,
        checkpoint=None,
    ):
        """Learn from trajectories.

        Parameters
        ----------
        t : (T,) array, list of (T_i,) arrays, Trajectories, or a data frame
            Times. A data frame holds everything: name its columns `time`, `state`, `id`, `input`.
        Y : (T,), (T, d) or (B, T, d) array, or list of (T_i, d) arrays
            States; NaN: not observed.
        u : array, list of arrays, tuple or Signal, optional
            Control inputs: values at the times of the data, (T, m), (B, T, m) or a list of (T_i, m), with straight
            lines between them; (B, m), constants; (times, values[, kind]) or a `pynode.Signal` for any other.
        weight : array or list of arrays, optional
            Relative precision (1 / variance) of the entries of Y, of its shape or one that broadcasts to it.
        names : sequence of str, optional
            Of the states.
        time, state, id, input : str or sequence of str
            Columns of the data frame.
        progress : bool or str, optional
            Show how training goes; a string is the label of the display. Default: `verbose`.
        callback : callable, optional
            callback(Iteration) after each iteration; return True to stop.
        checkpoint : path or pynode.fit.Checkpoint, optional
            A file that is written now and then. If it is there, the fit goes on from it, to the same bits as if
            nothing had happened; it is removed at the end. Needs random_state.

        Returns
        -------
        NeuralODE
            This model, fitted.

        Raises
        ------
        pynode.fit.FitInterrupted
            Ctrl-C (it is a KeyboardInterrupt); the model keeps the best so far and can be used.
        """
        check(self)
        data = as_trajectories(t, Y, u, names, time, state, id, input)
        self._check_data(data)
        progress = bool(self.verbose) if progress is None else progress
        if self.n_estimators > 1:
            return self._fit_ensemble(data, weight, progress, callback, checkpoint)
        started = _now()
        seed = secrets.randbits(31) if self.random_state is None else int(self.random_state)
        weight = as_weights(weight, data.y)
        with opened(checkpoint, self.random_state, partial(self._what, data, weight)) as saved:
            run, scaling, smoothed, data = prepare(self, data, weight, seed)
            run.checkpoint = saved
            interrupt = None
            total = run.plan.total_iterations * run.batches
            with Progress(total, progress if isinstance(progress, str) else "training", bool(progress)) as bar:
                run.callback = _reporting(bar, callback)
                try:
                    run.go()
                except KeyboardInterrupt as error:
                    interrupt = error
            self._keep(run, scaling, smoothed, data, seed, "interrupted" if interrupt else None, _now() - started)
            if interrupt is not None:
                raise interrupt
        return self

    def _check_data(self, data):
        if self.log:
            check_positive(data)
        d = data.d if self.field is None else self.field.d
        if d != data.d:
            raise ValueError(
                f"the data have {data.d} states ({', '.join(data.names)}), the field has {d}"
                + (": columns of NaN stand for states never observed" if d > data.d else "")
            )
        if data.n_observed == 0:
            raise ValueError("nothing is observed: all states are NaN")
        if data.never_observed and self.field is None:
            raise ValueError(
                f"state {data.never_observed[0]} is never observed: leave the column out, and let augment=1 add a state "
                "that nobody measured; or give a field= of your own in which it has a meaning"
            )
        m = 0 if data.signal is None else data.signal.m
        if self.field is not None and m != self.field.inputs:
            raise ValueError(f"the field has {self.field.inputs} control inputs, u {m}")

    def _what(self, data, weight):
        """What a fit follows from, for the fingerprint of a checkpoint."""
        signal = () if data.signal is None else (data.signal.kind, data.signal.t, data.signal.u)
        return *self._told("verbose", "n_jobs"), list(data.t), list(data.y), weight, signal

    def _keep(self, run, scaling, smoothed, data, seed, status, seconds):
        """The results of a run."""
        training, posterior = run.training, getattr(run, "posterior", None)
        self.field_, self.theta_, self.scaling_, self.seed_ = run.field, training.theta, scaling, seed
        self.data_, self.names_, self.time_name_ = data, data.names, data.time_name
        self.n_unobserved_, self.estimators_ = int(self.augment), []
        self.initial_states_ = scaling.states_back(np.stack([states[0] for states in training.states]))
        self._keep_posterior(run, posterior, smoothed)
        self.history_ = {name: np.array(values) for name, values in training.history.items()}
        noise = np.sqrt(smoothed.variance) if posterior is None or posterior.noise is None else posterior.noise
        self.report_ = self._report(training, noise, posterior, status, seconds)

    def _keep_posterior(self, run, posterior, smoothed):
        """What error bands need: covariances of theta and of the initial state of each trajectory given theta."""
        self.covariance_: Any = None
        self._state_gain: Any = None
        self._state_covariance: Any = None
        if posterior is None or posterior.covariance is None:
            return
        p, (b, d) = run.field.n_params, (len(run.data), run.field.d)
        self.covariance_ = run.coordinates.spread(posterior.theta, posterior.covariance)
        self._state_gain = np.zeros((b, d, p))
        self._state_covariance = np.broadcast_to(np.diag(np.nan_to_num(smoothed.variance, nan=1.0)), (b, d, d)).copy()
        if run.fitted is None or posterior.free_gain is None:
            return
        cut, chosen = run.fitted_windows()
        for w in np.flatnonzero(cut.source[:, 1] == 0):
            i = chosen[cut.source[w, 0]]
            self._state_gain[i] = run.coordinates.gain(posterior.theta, posterior.free_gain[w])
            self._state_covariance[i] = posterior.free_covariance[w]

    def _report(self, training, noise, posterior, status, seconds):
        data, scaling = self.data_, self.scaling_
        seen = np.concatenate([scaling.states_back(z) for z in training.states])[:, : data.d]
        residual = np.concatenate(data.y) - seen
        known = ~np.isnan(residual).all(axis=0)
        rmse = np.full(data.d, np.nan)
        rmse[known] = np.sqrt(np.nanmean(residual[:, known] ** 2, axis=0))
        noise = (noise * scaling.scale)[: data.d]
        used = [stage for stage in training.stages if stage.status not in ("undone", "left out")]
        last = used[-1] if used else None
        return {
            "status": status or ("stopped" if last and last.status == "stopped" else "finished"),
            "loss": float(last.loss) if last else float("nan"),
            "rmse": dict(zip(data.names, rmse.tolist(), strict=True)),
            "noise": dict(zip(data.names, noise.tolist(), strict=True)),
            "noise_of": "logarithms" if self.log else "states",
            "optimizer": optimizer_of(self, self.field_),
            "effective_parameters": float("nan") if posterior is None else float(posterior.gamma),
            "seed": self.seed_,
            "seconds": seconds,
            "nfe": sum(stage.nfe for stage in training.stages),
            "evaluations": sum(stage.evaluations for stage in training.stages),
            "n_params": self.field_.n_params,
            "n_trajectories": len(data),
            "n_observed": data.n_observed,
            "time_scale": scaling.t_scale,
            "stages": training.report,
            "version": _version.__version__,
        }

    def _fit_ensemble(self, data, weight, progress, callback, checkpoint):
        if checkpoint is not None:
            raise ValueError("checkpoint= is for a single fit: with n_estimators > 1 fit the members by themselves")
        seed = secrets.randbits(31) if self.random_state is None else int(self.random_state)
        members = fit_members(self, data, weight, seed, progress, callback)
        best = min(members, key=lambda member: member.report_["loss"])
        for name in RESULTS:
            setattr(self, name, getattr(best, name))
        self.estimators_ = members
        self.report_ = best.report_ | {"seconds": sum(member.report_["seconds"] for member in members)}
        return self

    def plot(self, kind="overview", **options):
        """A picture (needs matplotlib): "overview", "trajectories", "phase", "residuals" or "loss", see `pynode.plots`.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from pynode.plots.registry import draw

        self._fitted()
        return draw("trajectories", kind, self, **options)

    # ---- Parameters and files ------------------------------------------------------------------------------------

    def __sklearn_tags__(self):
        from sklearn.utils import InputTags, RegressorTags, Tags, TargetTags

        return Tags(
            estimator_type="regressor",
            target_tags=TargetTags(required=True, one_d_labels=False, two_d_labels=True, multi_output=True),
            regressor_tags=RegressorTags(),
            input_tags=InputTags(two_d_array=True, three_d_array=True, allow_nan=True),
            no_validation=True,
            non_deterministic=False,
        )

    def _content(self, data=True):
        return to_content(self, data)

    @classmethod
    def _from_content(cls, content):
        return from_content(content, cls)

    def __repr__(self):
        what = f"hidden={self.hidden}" if self.field is None else f"field={self.field.name}"
        if not hasattr(self, "theta_"):
            return f"<NeuralODE {what}, not fitted>"
        return f"<NeuralODE {what}, {', '.join(self.names_)}: fitted to {self.report_['n_observed']} numbers>"


def _reporting(bar, callback):
    def after_iteration(iteration):
        bar.update(iteration.number, f"{iteration.stage}: loss {iteration.loss:.4g}")
        return callback is not None and callback(iteration) is True

    return after_iteration


def _now():
    return time.perf_counter()
