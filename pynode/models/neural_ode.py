"""NeuralODE: the estimator. Measured trajectories in, a differential equation out."""

import inspect
import secrets
import time
from dataclasses import replace
from typing import Any

import numpy as np

from pynode import _version, files
from pynode.arguments import positive, real_array
from pynode.fields import Field, mlp
from pynode.fit.curriculum import OPTIMIZERS, Plan, Training, default_windows, train
from pynode.fit.matching import STILL
from pynode.fit.progress import Progress
from pynode.fit.second_order import MAX_PARAMETERS, MAX_STATES, ROBUST, SecondOrder, prior_groups, train_second_order
from pynode.fit.smoothing import smooth
from pynode.functions import ACTIVATIONS
from pynode.jacobians import sensitivities
from pynode.models.scaling import Scaling
from pynode.models.storage import from_content, to_content
from pynode.solving import METHODS, solve
from pynode.tables import Trajectories

SECOND_ORDER = "levenberg-marquardt"

PRIOR_SCALE = 0.5
"""Standard deviation of the Gaussian prior of network weights (scaled units): the automatic weight decay."""

MIN_DECAY = 1e-6


class NotFittedError(RuntimeError):
    """The model was not fitted yet."""


class NeuralODE:
    """A differential equation dy/dt = f(y; theta) learned from measured trajectories.

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
    field : Field, optional
        A field of your own (`pynode.field`), in the units of the data (of their logarithms, if `log`), in place
        of the network. It is not scaled (the loss is), so choose units of time in which its parameters are of
        order one.
    method : str
        Runge-Kutta method, see `pynode.solve`.
    rtol, atol : float
        Tolerances of training, atol in standard deviations of the states; predictions use at most 1e-6 and 1e-8.
    optimizer : {"auto", "levenberg-marquardt", "adam+lbfgs", "lbfgs", "adam"}
        "auto": Levenberg-Marquardt for fields of at most 1500 parameters and 20 states, else Adam for the
        start from random parameters, then L-BFGS.
    max_iter : int, optional
        Iterations of each stage of training. Default: 40 of Levenberg-Marquardt, 100 of the others.
    learning_rate : float
        Of Adam.
    windows : sequence of int or None, optional
        Lengths of the windows of the stages, in intervals between times; None in it stands for whole
        trajectories. Default: tripling from at most 10 to whole trajectories.
    weight_decay : float, optional
        The loss has weight_decay / n_observed * |theta|^2 added. Default: the variance of the noise,
        estimated from the data, over 0.5^2, which is a Gaussian prior of standard deviation 0.5; 0 for a
        field of your own. Levenberg-Marquardt estimates it by default (evidence), for each array of weights.
    noise : {"gaussian", "huber", "student"}
        Of the measurements; the last two are not led astray by outliers (Levenberg-Marquardt only). Its
        variance is estimated for each state.
    n_restarts : int
        Random starts; the one of largest evidence after matching slopes goes on (Levenberg-Marquardt only).
    scale : bool
        Scale states and time to order one.
    log : bool
        Learn the logarithms of the states, which must be positive: populations, concentrations.
    random_state : int, optional
        The same seed gives the same model.

    Attributes
    ----------
    theta_ : (p,) array
    field_ : Field
        In scaled units; `derivative` is in yours.
    scaling_ : Scaling
    initial_states_ : (B, d) array
        Fitted initial states of the trajectories, in your units.
    covariance_ : (p, p) array or None
        Of theta_, by Laplace's approximation; None where the optimizer gives none.
    data_ : Trajectories or None
        What it was fitted to.
    history_ : dict of arrays
        stage, loss, gradient_norm, seconds: an entry an iteration.
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
        method="dopri5",
        rtol=1e-5,
        atol=1e-5,
        optimizer="auto",
        max_iter=None,
        learning_rate=2e-2,
        windows=None,
        weight_decay=None,
        noise="gaussian",
        n_restarts=1,
        scale=True,
        log=False,
        random_state=None,
    ):
        self.hidden = (hidden,) if isinstance(hidden, int) else tuple(hidden)
        self.activation, self.field, self.method = activation, field, method
        self.rtol, self.atol, self.optimizer, self.max_iter = rtol, atol, optimizer, max_iter
        self.learning_rate, self.windows, self.weight_decay = learning_rate, windows, weight_decay
        self.noise, self.n_restarts = noise, n_restarts
        self.scale, self.log, self.random_state = bool(scale), bool(log), random_state
        self._check()

    def _check(self):
        """Everything that can be said before there are data."""
        if not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 1 for n in self.hidden):
            raise ValueError(f"hidden={self.hidden!r} must hold the widths of layers, integers >= 1")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation={self.activation!r} is not one of {', '.join(ACTIVATIONS)}")
        if self.field is not None and not isinstance(self.field, Field):
            raise TypeError(f"field must be a Field (pynode.field, pynode.mlp, ...), not {type(self.field).__name__}")
        if self.field is not None and self.field.inputs:
            raise ValueError("a field with inputs cannot be fitted by NeuralODE; use pynode.Objective(..., inputs=...)")
        if self.method not in METHODS or METHODS[self.method]["error_order"] == 0:
            adaptive = ", ".join(name for name, row in METHODS.items() if row["error_order"])
            raise ValueError(f"method={self.method!r} must be an adaptive method: {adaptive}")
        if self.optimizer not in ("auto", SECOND_ORDER, *OPTIMIZERS):
            raise ValueError(f"optimizer={self.optimizer!r} is not one of auto, {SECOND_ORDER}, {', '.join(OPTIMIZERS)}")
        if self.noise not in ROBUST:
            raise ValueError(f"noise={self.noise!r} is not one of {', '.join(ROBUST)}")
        if self.optimizer in OPTIMIZERS and (self.noise != "gaussian" or self.n_restarts != 1):
            raise ValueError(f"noise and n_restarts belong to {SECOND_ORDER}; optimizer={self.optimizer!r} has none of them")
        for name in ("rtol", "atol", "learning_rate"):
            positive(name, getattr(self, name))
        for name in ("max_iter", "n_restarts"):
            n = getattr(self, name)
            if not (n is None and name == "max_iter") and (
                isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1
            ):
                raise ValueError(f"{name}={n!r} must be a positive integer")
        if self.weight_decay is not None:
            positive("weight_decay", self.weight_decay, zero=True)
        if self.windows is not None:
            self.windows = tuple(self.windows)
            if not self.windows or not all(n is None or (isinstance(n, (int, np.integer)) and n >= 1) for n in self.windows):
                raise ValueError(
                    f"windows={self.windows!r} must hold numbers of intervals >= 1, or None for whole trajectories"
                )
        if self.random_state is not None and (
            isinstance(self.random_state, bool)
            or not isinstance(self.random_state, (int, np.integer))
            or self.random_state < 0
        ):
            raise ValueError(f"random_state={self.random_state!r} must be None or an integer >= 0")

    # --------------------------------------------------------------------------------------------------------

    def fit(self, t, Y=None, *, names=None, time=None, state=None, id=None, progress=False, callback=None):
        """Learn from trajectories.

        Parameters
        ----------
        t : (T,) array, list of (T_i,) arrays, Trajectories, or a data frame
            Times. A data frame holds everything: name its columns `time`, `state`, `id`.
        Y : (T,), (T, d) or (B, T, d) array, or list of (T_i, d) arrays
            States; NaN: not observed.
        names : sequence of str, optional
            Of the states.
        time, state, id : str, sequence of str, str
            Columns of the data frame.
        progress : bool or str
            Show how training goes; a string is the label of the display.
        callback : callable, optional
            callback(Stage, Iteration) after each iteration; return True to stop.

        Returns
        -------
        NeuralODE
            This model, fitted.

        Raises
        ------
        pynode.fit.FitInterrupted
            Ctrl-C (it is a KeyboardInterrupt); the model keeps the best so far and can be used.
        """
        data = _as_trajectories(t, Y, names, time, state, id)
        if self.log:
            _check_positive(data)
        if self.field is not None and self.field.d != data.d:
            raise ValueError(f"the data have {data.d} states ({', '.join(data.names)}), the field has {self.field.d}")
        started = _now()
        scaling, smoothed = self._scaled(data)
        seed = secrets.randbits(31) if self.random_state is None else int(self.random_state)
        field = mlp(data.d, self.hidden, activation=self.activation) if self.field is None else self.field
        z = [scaling.states(y) for y in data.y]
        tau = scaling.times(list(data.t))
        second = self._second_order(field)
        plan = (self._second_plan if second else self._plan)(field, data, smoothed, scaling.spread)
        training = Training.start(field.init(seed), z, smoothed)
        interrupt = posterior = None
        with Progress(plan.total_iterations, progress if isinstance(progress, str) else "training", bool(progress)) as bar:
            try:
                reporting = _reporting(bar, callback)
                if second:
                    starts = [field.init(seed + i) for i in range(self.n_restarts)]
                    posterior = train_second_order(field, tau, z, training, smoothed, plan, starts, reporting)
                else:
                    train(field, tau, z, training, smoothed, plan, reporting)
            except KeyboardInterrupt as error:
                interrupt = error
        self.field_, self.theta_, self.scaling_, self.data_, self.seed_ = (
            field,
            training.theta,
            scaling,
            data,
            seed,
        )
        self.names_, self.time_name_ = data.names, data.time_name
        self._keep_posterior(posterior)
        self.initial_states_ = scaling.states_back(np.stack([states[0] for states in training.states]))
        self.history_ = {name: np.array(values) for name, values in training.history.items()}
        noise = np.sqrt(smoothed.variance) if posterior is None else posterior.noise
        status = "interrupted" if interrupt else None
        self.report_ = self._report(training, noise, posterior, self._optimizer(field), status, _now() - started)
        if interrupt is not None:
            raise interrupt
        return self

    def _scaled(self, data):
        """(Scaling, Smoothed in scaled units)."""
        own = self.field is not None
        scaling = Scaling.of(data.y, self.log) if self.scale else Scaling.identity(data.d, self.log)
        scaling = scaling.unscaled() if own else scaling
        z = [scaling.states(y) for y in data.y]
        smoothed = smooth(list(data.t), z)
        if self.scale and not own:
            slope = np.concatenate(smoothed.slope)
            rate = np.sqrt(np.nanmean(slope**2)) if not np.isnan(slope).all() else 0.0
            span = max(t[-1] - t[0] for t in data.t)
            t_scale = 1.0 / rate if rate * span > STILL else (span if span > 0 else 1.0)
            scaling = replace(scaling, t_shift=float(min(t[0] for t in data.t)), t_scale=float(t_scale))
            smoothed = replace(smoothed, slope=[s * t_scale for s in smoothed.slope])
        return scaling, smoothed

    def _optimizer(self, field):
        if self.optimizer != "auto":
            return self.optimizer
        small = 0 < field.n_params <= MAX_PARAMETERS and field.d <= MAX_STATES and not field.callbacks
        return SECOND_ORDER if small else OPTIMIZERS[0]

    def _second_order(self, field):
        if self._optimizer(field) != SECOND_ORDER:
            return False
        if field.n_params == 0 or field.callbacks:
            raise ValueError(f"optimizer={SECOND_ORDER!r} needs a traced field with parameters; take 'auto' or 'lbfgs'")
        return True

    def _second_plan(self, field, data, smoothed, spread):
        known = smoothed.variance[~np.isnan(smoothed.variance)]
        variance = max(MIN_DECAY, known.mean() if len(known) else MIN_DECAY)
        given = self.weight_decay is not None
        groups = [] if given else prior_groups(field)
        windows = default_windows(data.lengths, growth=6) if self.windows is None else self.windows
        options = {"method": self.method, "rtol": self.rtol, "atol": self.atol * spread, "max_steps": 20_000}
        return SecondOrder(
            windows,
            int(self.max_iter or 40),
            3e-4,
            groups,
            self.weight_decay / variance if given else 0.0,
            self.noise,
            int(self.n_restarts),
            options,
        )

    def _keep_posterior(self, posterior):
        """What error bands need."""
        self.covariance_ = None if posterior is None else posterior.covariance
        self._state_gain: Any = None if posterior is None else posterior.free_gain
        self._state_covariance: Any = None if posterior is None else posterior.free_covariance

    def _plan(self, field, data, smoothed, spread):
        decay = self.weight_decay
        if decay is None:
            known = smoothed.variance[~np.isnan(smoothed.variance)]
            decay = 0.0 if self.field is not None else max(MIN_DECAY, known.mean() if len(known) else 0.0) / PRIOR_SCALE**2
        windows = default_windows(data.lengths) if self.windows is None else self.windows
        options = {"method": self.method, "rtol": self.rtol, "atol": self.atol * spread}
        return Plan(
            windows, self.optimizer, int(self.max_iter or 100), self.learning_rate, float(decay), spread**-2, options
        )

    def _report(self, training, noise, posterior, optimizer, status, seconds):
        data, scaling = self.data_, self.scaling_
        residual = np.concatenate([y - scaling.states_back(z) for y, z in zip(data.y, training.states, strict=True)])
        noise = noise * scaling.scale
        used = [stage for stage in training.stages if stage.status not in ("undone", "left out")]
        last = used[-1] if used else None
        return {
            "status": status or ("stopped" if last and last.status == "stopped" else "finished"),
            "loss": float(last.loss) if last else float("nan"),
            "rmse": dict(zip(data.names, np.sqrt(np.nanmean(residual**2, axis=0)).tolist(), strict=True)),
            "noise": dict(zip(data.names, noise.tolist(), strict=True)),
            "noise_of": "logarithms" if self.log else "states",
            "optimizer": optimizer,
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

    # --------------------------------------------------------------------------------------------------------

    def predict(self, t, y0=None, *, trajectory=0, return_std=False):
        """Trajectories of the learned equation.

        Parameters
        ----------
        t : (T,) array, or list of (T_i,) arrays where y0 is a batch
            Times, rising or falling; the state at the first one is y0.
        y0 : (d,) or (B, d) array, optional
            Initial states. Default: the fitted trajectory, from its own first time, continued to wherever t
            is; only times not before that.
        trajectory : int
            Which one, without y0.
        return_std : bool
            Return (mean, std): the standard deviation of each entry that the uncertainty of the parameters causes
            (linearised; with y0 given, y0 is exact; without, that of the fitted initial state is included). It is
            that of the state, not of a new measurement, which has the noise in `report_` on top.

        Returns
        -------
        (T, d) or (B, T, d) array, or list of (T_i, d) arrays
            NaN (and a SolveWarning) where the solver failed.
        """
        self._fitted()
        if return_std and self.covariance_ is None:
            raise ValueError(
                "return_std needs a model that was trained by Levenberg-Marquardt (optimizer='auto' with a field of "
                f"at most {MAX_PARAMETERS} parameters and {MAX_STATES} states)"
            )
        if y0 is None:
            return self._continue(t, trajectory, return_std)
        y0 = real_array("y0", y0, np.float64)
        if y0.ndim == 0:
            y0 = y0[None]
        if self.log and not (y0 > 0).all():
            raise ValueError("y0 must be positive: the model is one of logarithms")
        z0, tau, back = self.scaling_.states(y0), self.scaling_.times(t), self.scaling_.states_back
        if return_std:
            return self._bands(z0, tau)
        solution = self._solve(z0, tau)
        return [back(z) for z in solution.y] if isinstance(solution.y, list) else back(solution.y)

    def _bands(self, z0, tau, trajectory=None):
        """(mean, std) of rollouts: the parameters' covariance through the exact sensitivities."""
        rollout = sensitivities(self.field_, z0, tau, self.theta_, **self._options())

        def deviation(J, J0, z):
            variance = np.zeros(z.shape)
            if trajectory is not None:
                J = J - J0 @ self._state_gain[trajectory]
                variance = np.einsum("...ci,ij,...cj->...c", J0, self._state_covariance[trajectory], J0)
            variance = variance + ((J @ self.covariance_) * J).sum(axis=-1)
            std = np.sqrt(np.maximum(variance, 0.0)) * self.scaling_.scale
            return std * self.scaling_.states_back(z) if self.log else std

        z, J, J0, back = rollout.solution.y, rollout.theta, rollout.y0, self.scaling_.states_back
        if isinstance(z, list):
            return [back(x) for x in z], [deviation(*x) for x in zip(J, J0, z, strict=True)]
        return back(z), deviation(J, J0, z)

    def _continue(self, t, trajectory, return_std):
        if not 0 <= trajectory < len(self.initial_states_):
            raise ValueError(f"trajectory={trajectory!r} must be from 0 to {len(self.initial_states_) - 1}")
        if self.data_ is None:
            raise ValueError("the model was saved without its data: give y0")
        t, first = np.atleast_1d(real_array("t", t, np.float64)), self.data_.t[trajectory][0]
        if t.ndim != 1 or (t < first).any() or (np.diff(t) < 0).any():
            raise ValueError(f"without y0, t must rise from {first:g} or later, where the trajectory starts")
        times = np.concatenate([[first], t])
        if not return_std:
            return self.predict(times, self.initial_states_[trajectory])[1:]
        z0 = self.scaling_.states(self.initial_states_[trajectory])
        mean, std = self._bands(z0, self.scaling_.times(times), trajectory)
        return mean[1:], std[1:]

    def _options(self):
        return {"method": self.method, "rtol": min(self.rtol, 1e-6), "atol": min(self.atol, 1e-8) * self.scaling_.spread}

    def _solve(self, z0, tau):
        return solve(self.field_, z0, tau, self.theta_, **self._options())

    def derivative(self, y, t=0.0):
        """dy/dt of the learned equation, in your units.

        Parameters
        ----------
        y : (d,) or (B, d) array
        t : float or (B,) array
            Matters only to a field of your own that depends on time.

        Returns
        -------
        array of the shape of y
        """
        self._fitted()
        y = real_array("y", y, np.float64)
        value = self.field_(self.scaling_.times(t), self.scaling_.states(y), self.theta_)
        return self.scaling_.slopes_back(y, value)

    def score(self, t, Y):
        """Coefficient of determination R^2 of rollouts from the first row of each trajectory.

        Parameters
        ----------
        t, Y : as in `fit`
            The first row of each trajectory must be observed in full.

        Returns
        -------
        float
            Mean over the states of 1 - sum (y - prediction)^2 / sum (y - mean)^2; 1 is perfect. -inf if a
            rollout fails.
        """
        self._fitted()
        data = _as_trajectories(t, Y, self.names_, None, None, None)
        if data.d != len(self.names_):
            raise ValueError(f"the data have {data.d} states, the model {len(self.names_)}")
        y0 = np.stack([y[0] for y in data.y])
        if np.isnan(y0).any():
            raise ValueError("score starts rollouts at the first row of each trajectory: it must be observed in full")
        predicted = np.concatenate([p[1:] for p in self.predict(list(data.t), y0)])
        truth = np.concatenate([y[1:] for y in data.y])
        if not np.isfinite(predicted).all():
            return -np.inf
        spread = np.nansum((truth - np.nanmean(truth, axis=0)) ** 2, axis=0)
        return float(np.mean(1 - np.nansum((truth - predicted) ** 2, axis=0) / spread))

    def plot(self, kind="trajectories", **options):
        """A picture (needs matplotlib): "trajectories", "phase" or "loss", see `pynode.plots`.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from pynode import plots

        self._fitted()
        if kind not in plots.PICTURES:
            raise ValueError(f"kind={kind!r} is not one of {', '.join(plots.PICTURES)}")
        return plots.PICTURES[kind](self, **options)

    # --------------------------------------------------------------------------------------------------------

    def get_params(self, deep=True):
        """The parameters of the constructor by name (as in scikit-learn)."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def save(self, path, *, data=True):
        """Write the model to a file that `pynode.load` reads; an existing file is replaced in one step.

        Parameters
        ----------
        path : path
        data : bool
            Store the data it was fitted to as well, for pictures and reports.
        """
        self._fitted()
        files.write(path, to_content(self, data))

    def _fitted(self):
        if not hasattr(self, "theta_"):
            raise NotFittedError("this model was not fitted yet: call fit(t, Y), or read one with pynode.load(path)")

    def __repr__(self):
        what = f"hidden={self.hidden}" if self.field is None else f"field={self.field.name}"
        if not hasattr(self, "theta_"):
            return f"<NeuralODE {what}, not fitted>"
        return f"<NeuralODE {what}, {', '.join(self.names_)}: fitted to {self.report_['n_observed']} numbers>"


def load(path):
    """Read a model that `NeuralODE.save` wrote.

    Parameters
    ----------
    path : path

    Returns
    -------
    NeuralODE

    Raises
    ------
    ModelFileError
        The file is damaged or not a model.
    OSError
        It cannot be opened.
    """
    content = files.read(path)
    try:
        return from_content(content, NeuralODE)
    except Exception as error:  # whatever a hostile file makes the constructors say
        raise files.ModelFileError(f"{path} does not hold a valid model: {type(error).__name__}: {error}") from error


def _as_trajectories(t, Y, names, time, state, id):
    if isinstance(t, Trajectories):
        if Y is not None:
            raise TypeError("Trajectories hold times and states: give no Y")
        return t
    if hasattr(t, "columns") and hasattr(t, "iloc"):
        if Y is not None or time is None or state is None:
            raise TypeError("a data frame holds everything: give time= and state= (and id=) its columns, and no Y")
        return Trajectories.from_frame(t, time, state, id)
    if Y is None:
        raise TypeError("Y is missing: fit(t, Y), or fit(frame, time=..., state=[...])")
    if time is not None or state is not None or id is not None:
        raise TypeError("time, state and id name columns of a data frame; with arrays give names= of the states")
    return Trajectories.from_arrays(t, Y, names)


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
