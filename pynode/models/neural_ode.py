"""NeuralODE: the estimator. Measured trajectories in, a differential equation out."""

import secrets
import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from pynode import _version
from pynode.arguments import real_array
from pynode.fields import mlp
from pynode.fit.checkpoint import opened
from pynode.fit.curriculum import Training, default_windows
from pynode.fit.data import Data, as_weights
from pynode.fit.first_order import OPTIMIZERS, FirstOrder, FirstOrderRun
from pynode.fit.holdout import Holdout, split
from pynode.fit.matching import STILL
from pynode.fit.pieces import SECOND_ORDER
from pynode.fit.progress import Progress
from pynode.fit.second_order import (
    MAX_PARAMETERS,
    MAX_STATES,
    STEPS,
    SecondOrder,
    SecondOrderRun,
    is_small,
    part_of,
    prior_groups,
)
from pynode.fit.smoothing import smooth, with_derivatives, with_implied
from pynode.fit.states import estimate_states
from pynode.gradients import Gradients
from pynode.inputs import Signal, as_control
from pynode.jacobians import sensitivities
from pynode.models.base import NotFittedError, SeriesEstimator, load
from pynode.models.ensemble import combined, fit_members
from pynode.models.options import check, first_order_options, widths
from pynode.models.scaling import Scaling
from pynode.models.storage import from_content, to_content
from pynode.solving import solve
from pynode.tables import Trajectories

PRIOR_SCALE = 0.5
"""Standard deviation of the Gaussian prior of network weights (scaled units): the automatic weight decay."""

MIN_DECAY = 1e-6

MANY = 20_000
"""Windows from which on gradient descent takes minibatches by default ..."""

BATCH = 256
"""... of this many."""

EPOCHS = 10
"""Passes over minibatches in each stage, by default."""


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


ADAM_ITERATIONS = 400
"""Iterations of each stage where Adam does everything, by default."""


class NeuralODE(SeriesEstimator):
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
        stage, loss, gradient_norm, seconds, validation: an entry an iteration; `pandas.DataFrame(model.history_)`.
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
            callback(Stage, Iteration) after each iteration; return True to stop.
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
        data = _as_trajectories(t, Y, u, names, time, state, id, input)
        self._check_data(data)
        progress = bool(self.verbose) if progress is None else progress
        if self.n_estimators > 1:
            return self._fit_ensemble(data, weight, progress, callback, checkpoint)
        started = _now()
        seed = secrets.randbits(31) if self.random_state is None else int(self.random_state)
        weight = as_weights(weight, data.y)
        with opened(checkpoint, self.random_state, partial(self._what, data, weight)) as saved:
            run, scaling, smoothed, data = self._prepare(data, weight, seed)
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
            _check_positive(data)
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

    def _prepare(self, data, weight, seed):
        """(Run, Scaling, Smoothed, the trajectories it is fitted to)."""
        own, m = self.field, 0 if data.signal is None else data.signal.m
        field = own
        if field is None:
            shape = {"activation": self.activation, "inputs": m, "skip": bool(self.skip)}
            field = mlp(data.d + self.augment, widths(self.hidden), **shape)
        scaling = (
            Scaling.of(data.y, bool(self.log), data.signal) if self.scale else Scaling.identity(data.d, bool(self.log), m)
        )
        scaling = scaling if own is None else scaling.unscaled()
        z, times, theta = [scaling.states(y) for y in data.y], list(data.t), field.init(seed)
        smoothed = smooth(times, z)
        if self.augment:
            smoothed = with_derivatives(times, smoothed, self.augment)
            scaling = scaling.with_extra(self.augment)
            z = [np.concatenate([x, np.full((len(x), self.augment), np.nan)], axis=1) for x in z]
            weight = (
                None if weight is None else [np.pad(w, ((0, 0), (0, self.augment)), constant_values=1.0) for w in weight]
            )
        elif data.never_observed:
            u = Data(times, z, None, data.signal).inputs_at_rows()
            smoothed = with_implied(field, theta, times, smoothed, u)
        if self.scale and own is None:
            scaling, smoothed = _scaled_time(scaling, smoothed, times)
        inside = Data(scaling.times(times), z, weight, scaling.inputs(data.signal))
        training, holdout = Training.start(theta, inside, smoothed), None
        if self.early_stopping:
            kept, aside = split(len(data), self.validation_fraction, seed)
            holdout = Holdout(inside.take(aside), [training.states[i] for i in aside], int(self.patience))
            parts = {name: [getattr(smoothed, name)[i] for i in kept] for name in ("y", "slope")}
            data, inside, smoothed = data.take(kept), inside.take(kept), replace(smoothed, **parts)
            training = Training.start(theta, inside, smoothed)
        if self._second_order(field):
            plan = self._second_plan(field, inside, smoothed, scaling.spread, seed)
            return SecondOrderRun(field, inside, training, smoothed, plan, holdout=holdout), scaling, smoothed, data
        plan = self._first_plan(field, inside, smoothed, scaling.spread, seed)
        run = FirstOrderRun(field, inside, training, smoothed, plan, holdout=holdout)
        if plan.batch_size is not None:
            run.batches = max(1, len(inside.windows(plan.windows[0])) // plan.batch_size)
        return run, scaling, smoothed, data

    def _optimizer(self, field):
        if self.optimizer != "auto":
            return self.optimizer
        if first_order_options(self):
            return "adam" if self.batch_size is not None or self.steer else OPTIMIZERS[0]
        return SECOND_ORDER if field.n_params > 0 and is_small(field) else OPTIMIZERS[0]

    def _second_order(self, field):
        if self._optimizer(field) != SECOND_ORDER:
            if self.optimizer == "auto" and self.n_restarts != 1:
                raise ValueError(
                    f"n_restarts belongs to {SECOND_ORDER}, which this field is too large for: take n_estimators"
                )
            return False
        if field.n_params == 0 or field.callbacks:
            raise ValueError(f"optimizer={SECOND_ORDER!r} needs a traced field with parameters; take 'auto' or 'lbfgs'")
        return True

    def _second_plan(self, field, inside, smoothed, spread, seed):
        variance = max(MIN_DECAY, _mean_variance(smoothed))
        return SecondOrder(
            default_windows([len(t) for t in inside.t], growth=6) if self.windows is None else tuple(self.windows),
            int(self.max_iter or STEPS),
            3e-4,
            prior_groups(field) if self._evidence else [],
            (self.weight_decay or 0.0) / variance,
            self.noise,
            self._starts(field, seed),
            {"method": self.method, "rtol": self.rtol, "atol": self.atol * spread, "max_steps": 20_000},
            self.n_restarts if self._has_linear_map else None,
            part_of(inside, field.n_params),
            seed,
        )

    @property
    def _has_linear_map(self):
        """Whether the network's linear map alone is a start too; evidence then chooses."""
        return self.field is None and bool(self.skip) and len(widths(self.hidden)) > 0 and self._evidence

    @property
    def _evidence(self):
        """Whether the strength of priors is estimated."""
        return self.weight_decay is None and not self.early_stopping

    def _starts(self, field, seed):
        """Random parameters to start from and, where the network has a linear map, that map alone."""
        starts = [field.init(seed + i) for i in range(self.n_restarts)]
        if self._has_linear_map:
            linear, last = starts[0].copy(), field.spec[-3]
            linear[last.offset : last.stop] = 0.0
            starts.append(linear)
        return starts

    def _first_plan(self, field, inside, smoothed, spread, seed):
        variance = _mean_variance(smoothed)
        decay = self.weight_decay
        if decay is None:
            decay = 0.0 if self.field is not None or self.early_stopping else max(MIN_DECAY, variance) / PRIOR_SCALE**2
        windows = default_windows([len(t) for t in inside.t]) if self.windows is None else tuple(self.windows)
        optimizer, batch = self._optimizer(field), self.batch_size
        if batch is None and self.optimizer in ("auto", "adam") and sum(map(len, inside.t)) > MANY * (windows[0] or MANY):
            optimizer, batch = "adam", BATCH
        return FirstOrder(
            windows,
            optimizer,
            int(self.max_iter or (EPOCHS if batch is not None else ADAM_ITERATIONS if optimizer == "adam" else 100)),
            self.learning_rate,
            float(decay),
            spread**-2,
            {"method": self.method, "rtol": self.rtol, "atol": self.atol * spread},
            schedule=self.schedule,
            max_gradient=self.max_gradient,
            batch_size=None if batch is None else int(batch),
            noise=self.noise,
            deviation=float(np.sqrt(variance)) or 1.0,
            penalty=(float(self.kinetic_energy), float(self.jacobian_norm)),
            steer=float(self.steer),
            seed=seed,
        )

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
            "optimizer": self._optimizer(self.field_),
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

    # ---- Predictions ---------------------------------------------------------------------------------------------

    def predict(self, t, y0=None, *, u=None, trajectory=0, return_std=False, unobserved=False):
        """Trajectories of the learned equation.

        Parameters
        ----------
        t : (T,) array, or list of (T_i,) arrays where y0 is a batch
            Times, rising or falling; the state at the first one is y0.
        y0 : (d,) or (B, d) array, optional
            Initial states (of a model with unobserved states: all of them, see `initial_states`). Default: the
            fitted trajectory, from its own first time, continued to wherever t is; only times not before that.
        u : see `fit`, optional
            Control inputs of these trajectories. Without y0 the default is what the trajectory was fitted with.
        trajectory : int
            Which one, without y0.
        return_std : bool
            Return (mean, std): the standard deviation of each entry that the uncertainty of the parameters causes
            (linearised; with y0 given, y0 is exact; without, that of the fitted initial state is included). It is
            that of the state, not of a new measurement, which has the noise in `report_` on top. Of an ensemble it
            contains how its members differ.
        unobserved : bool
            Return the unobserved states too, after the others.

        Returns
        -------
        (T, d) or (B, T, d) array, or list of (T_i, d) arrays
            NaN (and a SolveWarning) where the solver failed.
        """
        self._fitted()
        if self.estimators_:
            if y0 is not None and self.n_unobserved_:
                raise ValueError(
                    "members of an ensemble have unobserved states of their own, so no y0 fits all of them: continue a "
                    "fitted trajectory (no y0), or predict with the members, estimators_"
                )
            options = {"u": u, "trajectory": trajectory, "unobserved": unobserved}
            means_only = return_std and any(model.covariance_ is None for model in self.estimators_)
            predictions: Any = [
                model.predict(t, y0, return_std=return_std and not means_only, **options) for model in self.estimators_
            ]
            if means_only:  # trained by gradient descent: how the members differ is all there is
                predictions = [
                    (y, [np.zeros(x.shape) for x in y] if isinstance(y, list) else np.zeros(y.shape)) for y in predictions
                ]
            return combined(predictions, return_std)
        if return_std and self.covariance_ is None:
            raise ValueError(
                "return_std needs an ensemble (n_estimators), or a model that was trained by Levenberg-Marquardt "
                f"(optimizer='auto' with a field of at most {MAX_PARAMETERS} parameters and {MAX_STATES} states)"
            )
        if y0 is None:
            t, z0, signal = self._continued(t, u, trajectory)
            result = self._rollout(z0, t, signal, return_std, trajectory)
            result = tuple(x[1:] for x in result) if return_std else result[1:]
        else:
            y0 = self._full_state(y0)
            times = (
                t if isinstance(t, (list, tuple)) and len(t) and np.ndim(t[0]) else [t] * (len(y0) if y0.ndim == 2 else 1)
            )
            signal = as_control(u, self.field_.inputs, times)
            result = self._rollout(self.scaling_.states(y0), t, signal, return_std)
        return result if unobserved or not self.n_unobserved_ else self._only_observed(result)

    def _full_state(self, y0):
        """y0 checked: all states of the field, in the units of the data."""
        y0 = real_array("y0", y0, np.float64)
        y0 = y0[None] if y0.ndim == 0 else y0
        d, n = self.field_.d, len(self.names_)
        if self.n_unobserved_ and y0.shape[-1] == n:
            raise ValueError(
                f"y0 has the {n} observed states, but this model has {self.n_unobserved_} more: estimate all of them with "
                "initial_states(t, Y) from a stretch of measurements, or continue a fitted trajectory (no y0)"
            )
        if y0.ndim > 2 or y0.shape[-1] != d:
            raise ValueError(f"y0 has shape {y0.shape}; it must be ({d},) or (B, {d})")
        if self.log and not (y0[..., :n] > 0).all():
            raise ValueError("y0 must be positive: the model is one of logarithms")
        return y0

    def _only_observed(self, result):
        if isinstance(result, (tuple, list)):
            return type(result)(self._only_observed(x) for x in result)
        return result[..., : len(self.names_)]

    def _rollout(self, z0, t, signal, return_std, trajectory=None):
        """Rollouts in the units of the data, or (mean, std)."""
        tau, scaling = self.scaling_.times(t), self.scaling_
        options = self._options() | {"inputs": scaling.inputs(signal)}
        if not return_std:
            z = solve(self.field_, z0, tau, self.theta_, **options).y
            return [scaling.states_back(x) for x in z] if isinstance(z, list) else scaling.states_back(z)
        rollout = sensitivities(self.field_, z0, tau, self.theta_, **options)

        def deviation(J, J0, z):
            variance = np.zeros(z.shape)
            if trajectory is not None:
                J = J - J0 @ self._state_gain[trajectory]
                variance = np.einsum("...ci,ij,...cj->...c", J0, self._state_covariance[trajectory], J0)
            variance = variance + ((J @ self.covariance_) * J).sum(axis=-1)
            return np.sqrt(np.maximum(variance, 0.0)) * scaling.slope_of_states_back(scaling.states_back(z))

        z, J, J0, back = rollout.solution.y, rollout.theta, rollout.y0, scaling.states_back
        if isinstance(z, list):
            return [back(x) for x in z], [deviation(*x) for x in zip(J, J0, z, strict=True)]
        return back(z), deviation(J, J0, z)

    def _continued(self, t, u, trajectory):
        """(times, z0, control inputs) of a fitted trajectory, from its first time on."""
        if isinstance(trajectory, bool) or not isinstance(trajectory, (int, np.integer)):
            raise TypeError(f"trajectory={trajectory!r} must be an integer")
        if not 0 <= trajectory < len(self.initial_states_):
            raise ValueError(f"trajectory={trajectory!r} must be from 0 to {len(self.initial_states_) - 1}")
        if self.data_ is None:
            raise ValueError("the model was saved without its data: give y0")
        t, first = np.atleast_1d(real_array("t", t, np.float64)), self.data_.t[trajectory][0]
        if t.ndim != 1 or (t < first).any() or (np.diff(t) < 0).any():
            raise ValueError(f"without y0, t must rise from {first:g} or later, where the trajectory starts")
        times = np.concatenate([[first], t])
        if u is None and self.data_.signal is not None:
            signal = self.data_.signal.take([trajectory])
        elif u is not None and not isinstance(u, tuple) and not hasattr(u, "pieces"):
            raise ValueError("without y0, u must be a pynode.Signal or (times, values): it starts where the trajectory does")
        else:
            signal = as_control(u, self.field_.inputs, [times])
        return times, self.scaling_.states(self.initial_states_[trajectory]), signal

    def _options(self):
        return {"method": self.method, "rtol": min(self.rtol, 1e-6), "atol": min(self.atol, 1e-8) * self.scaling_.spread}

    def initial_states(self, t, Y, *, u=None):
        """Initial states of new trajectories, estimated from measurements: what `predict` starts from.

        Parameters
        ----------
        t, Y, u : as in `fit`

        Returns
        -------
        (B, d) array
            All states of the model, unobserved ones too, at the first time of each trajectory; in your units. Of an
            ensemble: those of the member of the lowest loss.
        """
        self._fitted()
        data = self._new_data(t, Y, u)
        scaling, extra = self.scaling_, self.n_unobserved_
        z = [scaling.states(np.pad(y, ((0, 0), (0, extra)), constant_values=np.nan)) for y in data.y]
        inside = Data(scaling.times(list(data.t)), z, None, scaling.inputs(data.signal))
        smoothed = smooth(inside.t, z)
        if not inside.seen.all():
            smoothed = with_implied(self.field_, self.theta_, inside.t, smoothed, inside.inputs_at_rows())
        start = np.stack([states[0] for states in Training.start(self.theta_, inside, smoothed).states])
        noise = np.array([self.report_["noise"][name] for name in self.names_])
        noise = np.append(noise / scaling.scale[: data.d], np.ones(extra))
        weight = 1.0 / np.maximum(np.nan_to_num(noise, nan=1.0), 1e-6 * scaling.spread) ** 2
        prior = np.full(start.shape, 1e-4) / scaling.spread**2
        found, _ = estimate_states(self.field_, self.theta_, inside, start, weight, prior, **self._options())
        return scaling.states_back(found)

    def _new_data(self, t, Y, u):
        data = _as_trajectories(t, Y, u, self.names_, None, None, None, None)
        if data.d != len(self.names_):
            raise ValueError(f"the data have {data.d} states, the model {len(self.names_)}")
        m = 0 if data.signal is None else data.signal.m
        if m != self.field_.inputs:
            raise ValueError(f"the model has {self.field_.inputs} control inputs, u {m}")
        if self.log:
            _check_positive(data)
        return data

    def vjp(self, dy, t, y0, *, u=None, wrt=("theta", "y0")):
        """Gradients of any loss of yours of rollouts: what optimal control and design need.

        Parameters
        ----------
        dy : array of the shape of predict(t, y0, unobserved=True)
            dL/dy at every entry.
        t, y0, u : as in `predict`
        wrt : tuple out of "theta", "y0", "inputs"

        Returns
        -------
        Gradients
            Of L, in your units; `inputs` has the shape of u, or of the values of a `pynode.Signal`.
        """
        self._fitted()
        unknown = [name for name in wrt if name not in ("theta", "y0", "inputs")]
        if unknown or isinstance(wrt, str):
            raise ValueError(f"wrt={wrt!r} must be a tuple out of theta, y0, inputs")
        y0, scaling = self._full_state(y0), self.scaling_
        ragged = isinstance(t, (list, tuple)) and len(t) and np.ndim(t[0])
        signal = as_control(u, self.field_.inputs, t if ragged else [t] * (len(y0) if y0.ndim == 2 else 1))
        options = self._options() | {"inputs": scaling.inputs(signal)}
        solution = solve(self.field_, scaling.states(y0), scaling.times(t), self.theta_, **options)
        slope = scaling.slope_of_states_back
        shapes = [np.shape(x) for x in solution.y] if ragged else np.shape(solution.y)
        if (list(map(np.shape, dy)) if ragged else np.shape(dy)) != shapes:
            raise ValueError(f"dy must have the shape of predict(t, y0, unobserved=True), {shapes}, not {_shape(dy)}")
        if ragged:
            dz = [np.asarray(g) * slope(scaling.states_back(z)) for g, z in zip(dy, solution.y, strict=True)]
        else:
            dz = np.asarray(dy) * slope(scaling.states_back(solution.y))
        g = solution.vjp(dz, wrt=tuple(wrt))
        inputs = g.inputs
        if inputs is not None:
            inputs = [x / scaling.u_scale for x in inputs] if isinstance(inputs, list) else inputs / scaling.u_scale
            if y0.ndim == 1 and not isinstance(u, (Signal, tuple)):
                inputs = inputs[0].reshape(np.shape(u))
        return Gradients(g.theta, None if g.y0 is None else g.y0 / slope(y0), None, inputs)

    def derivative(self, y, t=0.0, u=None):
        """dy/dt of the learned equation, in your units.

        Parameters
        ----------
        y : (d,) or (B, d) array
        t : float or (B,) array
            Matters only to a field of your own that depends on time.
        u : (m,) or (B, m) array, optional
            Control inputs.

        Returns
        -------
        array of the shape of y
            Of an ensemble: of the member of the lowest loss.
        """
        self._fitted()
        y, scaling = real_array("y", y, np.float64), self.scaling_
        if u is not None:
            u = (real_array("u", u, np.float64) - scaling.u_shift) / scaling.u_scale
        value = self.field_(scaling.times(t), scaling.states(y), self.theta_, u)
        return scaling.slopes_back(y, value)

    def score(self, t, Y, *, u=None):
        """Coefficient of determination R^2 of rollouts from the first row of each trajectory.

        Where that row is not observed in full, or the model has unobserved states, the initial state is estimated from
        the whole trajectory (`initial_states`).

        Parameters
        ----------
        t, Y, u : as in `fit`

        Returns
        -------
        float
            Mean over the states of 1 - sum (y - prediction)^2 / sum (y - mean)^2; 1 is perfect. -inf if a
            rollout fails.
        """
        self._fitted()
        data = self._new_data(t, Y, u)
        members = self.estimators_ or [self]
        predicted = np.mean([np.concatenate([p[1:] for p in model._rollouts(data)]) for model in members], axis=0)
        truth = np.concatenate([y[1:] for y in data.y])
        if not np.isfinite(predicted).all():
            return -np.inf
        known = ~np.isnan(truth).all(axis=0)
        if not known.any():
            raise ValueError("nothing is observed after the first rows: there is nothing to score")
        truth, predicted = truth[:, known], predicted[:, known]
        spread = np.nansum((truth - np.nanmean(truth, axis=0)) ** 2, axis=0)
        miss = np.nansum((truth - predicted) ** 2, axis=0)
        constant = np.where(miss > 0, 0.0, 1.0)  # as in scikit-learn
        return float(np.mean(np.where(spread > 0, 1 - miss / np.where(spread > 0, spread, 1.0), constant)))

    def _rollouts(self, data):
        """Rollouts along trajectories, from their first rows, or from estimated states where those are not known."""
        y0 = np.stack([y[0] for y in data.y])
        if self.n_unobserved_ or np.isnan(y0).any():
            y0 = self.initial_states(data, None)
        return self.predict(list(data.t), y0, u=data.signal)

    def plot(self, kind="overview", **options):
        """A picture (needs matplotlib): "overview", "trajectories", "phase", "residuals" or "loss", see `pynode.plots`.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from pynode import plots

        self._fitted()
        if kind not in plots.PICTURES:
            raise ValueError(f"kind={kind!r} is not one of {', '.join(plots.PICTURES)}")
        return plots.PICTURES[kind](self, **options)

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


def _as_trajectories(t, Y, u, names, time, state, id, input):
    if isinstance(t, Trajectories):
        if Y is not None or u is not None:
            raise TypeError("Trajectories hold times, states and control inputs: give no Y and no u")
        return t
    if hasattr(t, "columns") and hasattr(t, "iloc"):
        if Y is not None or u is not None or time is None or state is None:
            raise TypeError("a data frame holds everything: give time= and state= (and id=, input=) its columns, no Y, no u")
        return Trajectories.from_frame(t, time, state, id, input)
    if Y is None:
        raise TypeError("Y is missing: fit(t, Y), or fit(frame, time=..., state=[...])")
    if any(name is not None for name in (time, state, id, input)):
        raise TypeError("time, state, id and input name columns of a data frame; with arrays give names= of the states")
    return Trajectories.from_arrays(t, Y, names, u=u)


def _scaled_time(scaling, smoothed, times):
    """Time in units in which slopes are of order one."""
    slope = np.concatenate(smoothed.slope)
    rate = np.sqrt(np.nanmean(slope**2)) if not np.isnan(slope).all() else 0.0
    span = max(t[-1] - t[0] for t in times)
    t_scale = 1.0 / rate if rate * span > STILL else (span if span > 0 else 1.0)
    scaling = replace(scaling, t_shift=float(min(t[0] for t in times)), t_scale=float(t_scale))
    return scaling, replace(smoothed, slope=[s * t_scale for s in smoothed.slope])


def _mean_variance(smoothed):
    """Of the noise, over the states for which smoothing tells; 0 if for none."""
    known = smoothed.variance[~np.isnan(smoothed.variance)]
    return float(known.mean()) if len(known) else 0.0


def _shape(x):
    """The shape of an array, or those of a list of arrays."""
    try:
        return np.shape(x)
    except ValueError:
        return [np.shape(part) for part in x]


def _check_positive(data):
    for name, t, y in zip(data.ids, data.t, data.y, strict=True):
        bad = np.argwhere(y <= 0)
        if len(bad):
            i, j = bad[0]
            raise ValueError(
                f"log=True needs positive states, but {data.names[j]} of trajectory {name} is {y[i, j]:g} at "
                f"{data.time_name} = {t[i]:g}; drop the entry (NaN), or use log=False"
            )


def _reporting(bar, callback):
    done = 0

    def after_iteration(stage, iteration):
        nonlocal done
        done += 1
        bar.update(done, f"{stage.name}: loss {iteration.loss:.4g}")
        return callback is not None and callback(stage, iteration) is True

    return after_iteration


def _now():
    return time.perf_counter()


__all__ = ["NeuralODE", "NotFittedError", "load"]
