"""LatentODE: a generative model of time series, a differential equation in a latent space (an autoencoder)."""

import math
import secrets
import time
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from pynode import _version
from pynode.calls.solve import solve
from pynode.data.arrays import as_integer, as_positive, real_array
from pynode.data.signal import as_control
from pynode.data.trajectories import Trajectories
from pynode.engine.options import METHODS, Options
from pynode.fields.cells import gru_cell, rnn_cell
from pynode.fields.field import Field
from pynode.fields.make import mlp
from pynode.fields.system import System
from pynode.models.base import SeriesEstimator, plain_params
from pynode.models.latent.belief import SPAN, Belief, Units
from pynode.models.latent.elbo import Elbo, Networks, bounds, encode, likelihood
from pynode.models.latent.posterior import LatentPosterior, posterior_of
from pynode.models.trajectories.options import widths
from pynode.models.trajectories.series import as_trajectories
from pynode.models.trajectories.storage import as_text, data_from_dict, data_to_dict, of_type, without_nan
from pynode.optim.adam import adam
from pynode.optim.checkpoint import opened
from pynode.optim.progress import Progress
from pynode.optim.result import HISTORY, FitInterrupted
from pynode.optim.schedules import as_schedule
from pynode.programs.functions import ACTIVATIONS

ENCODERS = ("gru", "rnn", "ode-rnn")


DRIFT_STEPS = 20
"""Steps on that length with which the ODE-RNN solves between observations; a shorter gap is one step."""


FINE = 1e-6
"""Largest tolerance of predictions."""


NEAR, MOST_STEPS = 1e-4, 10_000
"""Of the solves behind a posterior: largest tolerance, most steps."""


DRAWS = 100
"""Draws of z_0 behind a standard deviation."""


TUPLES = ("hidden", "decoder_hidden", "context")
"""Parameters that may be tuples."""


class LatentODE(SeriesEstimator):
    """A latent ODE: each series comes from an initial state z_0 of a latent differential equation, through a decoder.

        z_0 ~ N(0, 1),   dz/dt = f(z; theta),   x(t_i) ~ N(decoder(z(t_i)), noise^2)

    A recurrent encoder reads the observations backwards in time and gives q(z_0 | x) = N(mean, std^2); encoder, equation and
    decoder are trained together by the evidence lower bound (Chen et al. 2018, arXiv:1806.07366, section 5; Rubanova, Chen,
    Duvenaud 2019, arXiv:1907.03907). Times may be irregular and different for each series, entries may be missing (NaN).

    With control inputs u(t) (fit(..., u=)) the equation is dz/dt = f(z, u(t); theta), and the encoder reads with each
    observation the mean input since the one before: a world model, see `filter`, `rollout` and `pynode.agents.Planner`.

    Parameters
    ----------
    latent : int
        Size of z.
    hidden : tuple of int
        Widths of the hidden layers of the latent equation.
    encoder : {"gru", "rnn", "ode-rnn"}
        "gru", "rnn": a gated or a plain recurrent cell, which is told the gaps between observations. "ode-rnn": the GRU, and
        between observations its state follows a differential equation of its own.
    encoder_hidden : int
        Size of the encoder's state.
    decoder_hidden : tuple of int
        Widths of the hidden layers of the decoder.
    activation : str
        Of the latent equation and the decoder, see `pynode.mlp`.
    field : Field, optional
        A latent equation of your own (d = latent) in place of the network. Its time is (t - t0_) / units_.t_scale, its
        inputs, if any, are (u - units_.u_shift) / units_.u_scale.
    context : float or (float, float), optional
        The encoder sees only what was observed until t0 + context, and the rest is learned as a forecast; a pair: until a
        time between these, drawn anew for each series and epoch. Default: it sees all. A series's first observation
        is always seen.
    noise : float or sequence of float, optional
        Standard deviation of the measurements, in the units of the data, one for all or one for each; default: learned.
    anneal : float
        Part of training over which the weight of the KL divergence rises from 0 to 1.
    n_samples : int
        Draws of z_0 for each series and iteration.
    batch_size : int or None
        Series of a minibatch; None: all of them.
    max_iter : int
        Iterations of Adam.
    learning_rate : float
    schedule : {"cosine", "constant", "exponential", "one_cycle"} or callable
        Of the learning rate, see `pynode.fit.schedules`.
    max_gradient : float, optional
        Longer gradients are shortened to this norm.
    method, rtol, atol : see `pynode.solve`
        Of the latent equation while training; predictions use tolerances of at most 1e-6.
    dtype : {"float32", "float64"}
        Of the solves while training.
    refine : int
        Once fitted, the posterior of z_0 is that of the encoder after so many Gauss-Newton steps at most, with the
        covariance that the equation gives (Laplace's approximation, see `pynode.fit.posterior`). 0: what the encoder says.
    t0 : float, optional
        Time of z_0; no observation may be earlier. Default: the first time in the data.
    t_scale : float, optional
        Unit of the latent equation's time. Default: a quarter of the longest series.
    random_state : int, optional
        The same seed gives the same model.
    verbose : int
        Show progress while fitting.

    Attributes
    ----------
    theta_ : (p,) array
    networks_ : pynode.fit.elbo.Networks
        Encoder, head, latent equation with its likelihood, decoder; all in scaled units.
    units_ : Units
        The scaling.
    t0_ : float
    names_ : tuple of str
    noise_ : (d,) array
        Standard deviation of the measurements, given or learned.
    data_ : Trajectories or None
        What it was fitted to.
    history_ : dict of arrays
        loss, gradient_norm, nfe, seconds, validation: an entry an iteration.
    report_ : dict
        How the fit went. elbo and iwae (by 20 draws) are per observed number, in nats and the units of the data; kl is the
        mean over the series.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> rng = np.random.default_rng(0)
    >>> t = np.linspace(0, 3, 15)
    >>> Y = np.sin(t + rng.uniform(0, 6, (20, 1)))[:, :, None]
    >>> model = pn.LatentODE(latent=2, hidden=(8,), max_iter=20, random_state=0).fit(t, Y)
    >>> model.extrapolate(t, Y, np.linspace(3, 4, 5)).shape
    (20, 5, 1)
    """

    def __init__(
        self,
        latent=4,
        hidden=(20, 20),
        *,
        encoder="gru",
        encoder_hidden=25,
        decoder_hidden=(20,),
        activation="tanh",
        field=None,
        context=None,
        noise=None,
        anneal=0.1,
        n_samples=1,
        batch_size=50,
        max_iter=2000,
        learning_rate=1e-2,
        schedule="cosine",
        max_gradient=None,
        method="dopri5",
        rtol=1e-3,
        atol=1e-3,
        dtype="float32",
        refine=10,
        t0=None,
        t_scale=None,
        random_state=None,
        verbose=0,
    ):
        # as in scikit-learn: kept as given, checked by fit
        self.latent, self.hidden, self.field, self.context = latent, hidden, field, context
        self.encoder, self.encoder_hidden, self.decoder_hidden = encoder, encoder_hidden, decoder_hidden
        self.activation, self.noise, self.anneal, self.n_samples = activation, noise, anneal, n_samples
        self.batch_size, self.max_iter, self.learning_rate = batch_size, max_iter, learning_rate
        self.schedule, self.max_gradient = schedule, max_gradient
        self.method, self.rtol, self.atol, self.dtype, self.refine = method, rtol, atol, dtype, refine
        self.t0, self.t_scale, self.random_state, self.verbose = t0, t_scale, random_state, verbose

    # ---- Fitting -------------------------------------------------------------------------------------------------

    def fit(
        self,
        t,
        Y=None,
        *,
        u=None,
        names=None,
        time=None,
        state=None,
        id=None,
        input=None,
        progress=None,
        callback=None,
        checkpoint=None,
    ):
        """Learn from many series.

        Parameters
        ----------
        t : (T,) array, list of (T_i,) arrays, Trajectories, or a data frame
            Times. A data frame holds everything: name its columns `time`, `state`, `id`, `input`.
        Y : (B, T, d) array, or list of (T_i, d) arrays
            Values; NaN: not observed.
        u : array, list of arrays, tuple or Signal, optional
            Control inputs, see `NeuralODE.fit`: values at the times of the data with straight lines between them,
            (times, values, "previous") for actions that are held, or a `pynode.Signal`. Known from t0 to the last time.
        names : sequence of str, optional
            Of the d values.
        time, state, id, input : str or sequence of str
            Columns of the data frame.
        progress : bool, optional
            Show how training goes. Default: `verbose`.
        callback : callable, optional
            callback(Iteration) after each iteration; return True to stop.
        checkpoint : path or pynode.fit.Checkpoint, optional
            A file that is written now and then. If it is there, the fit goes on from it, to the same bits as if nothing had
            happened; it is removed at the end. Needs random_state.

        Returns
        -------
        LatentODE
            This model, fitted.

        Raises
        ------
        ValueError
            Bad options or data: a series without observation, an observation before t0.
        pynode.fit.FitInterrupted
            Ctrl-C (it is a KeyboardInterrupt); the model keeps the state reached and can be used.
        """
        check(self)
        data = as_trajectories(t, Y, u, names, time, state, id, input)
        if self.field is not None and self.field.inputs != _n_inputs(data):
            raise ValueError(f"the field has {self.field.inputs} control inputs, u {_n_inputs(data)}")
        if data.never_observed:
            raise ValueError(f"{data.never_observed[0]} is never observed: leave the column out")
        units = Units.of(data, None if self.t0 is None else float(self.t0), self.t_scale)
        _check_series(data, units.t0)
        started = _now()
        seed = secrets.randbits(31) if self.random_state is None else int(self.random_state)
        networks = self._networks(data.d, units)
        objective = self._objective(networks, units.series(data), seed, units.t_scale)
        theta0, interrupt = networks.init(seed), None
        total, show = int(self.max_iter), bool(self.verbose) if progress is None else bool(progress)
        with opened(checkpoint, self.random_state, partial(self._what, data)) as saved:
            with Progress(total, "training", show) as bar:
                try:
                    result = adam(
                        objective,
                        theta0,
                        max_iter=total,
                        learning_rate=self.learning_rate,
                        schedule=self.schedule,
                        max_gradient=self.max_gradient,
                        callback=_reporting(bar, callback),
                        checkpoint=saved,
                    )
                except FitInterrupted as error:
                    result, interrupt = error.result, error
            self._keep(networks, result, units, data, seed, objective.failed, started)
            if interrupt is not None:
                raise interrupt
        return self

    def _networks(self, d, units):
        latent, H = int(self.latent), int(self.encoder_hidden)
        cell = (rnn_cell if self.encoder == "rnn" else gru_cell)(H, 2 * d + 1 + units.m)
        drift = mlp(H, (H,), gain=0.5) if self.encoder == "ode-rnn" else None
        decoder = mlp(latent, widths(self.decoder_hidden), d, activation=self.activation)
        equation = self.field
        if equation is None:
            equation = mlp(latent, widths(self.hidden), activation=self.activation, inputs=units.m)
        noise = None if self.noise is None else _noise(self.noise, d) / units.scale
        generator = System(equation, loss=likelihood(latent, decoder, d, noise))
        return Networks(drift, cell, mlp(H, (), 2 * latent), generator, decoder)

    def _options(self, most=math.inf, **more):
        """(encoder's, generator's) options of the solves, with tolerances of at most `most`."""
        step = SPAN / DRIFT_STEPS if self.encoder == "ode-rnn" else math.inf
        encoding = Options("midpoint", step=step) if math.isfinite(step) else Options("euler", step=1e300)
        return encoding, Options(self.method, min(self.rtol, most), min(self.atol, most), **more)

    def _objective(self, networks, series, seed, t_scale):
        rise = max(1.0, self.anneal * self.max_iter)
        return Elbo(
            networks,
            series,
            *self._options(),
            batch_size=self.batch_size,
            n_samples=int(self.n_samples),
            seed=seed,
            beta=lambda k: min(1.0, k / rise),
            context=None if self.context is None else [c / t_scale for c in _context(self.context)],
            dtype=np.dtype(self.dtype).type,
        )

    def _what(self, data):
        """What a fit follows from, for the fingerprint of a checkpoint."""
        signal = () if data.signal is None else (data.signal.kind, data.signal.t, data.signal.u)
        return "LatentODE", *self._told("verbose", "refine"), list(data.t), list(data.y), *signal

    def _keep(self, networks, result, units, data, seed, failed, started):
        self.networks_, self.theta_, self.units_, self.t0_ = networks, result.theta, units, units.t0
        self.names_, self.time_name_, self.data_ = data.names, data.time_name, data
        self.history_ = result.history
        self.noise_ = self._noise_of()
        seconds = _now() - started
        q, count = self._posterior(data), data.n_observed
        bound = self._bounds(data, q, 20, seed)
        residual = np.concatenate(data.y) - np.concatenate(self._curves(q.mean, list(data.t), data.signal))
        self.report_ = {
            "status": "finished" if result.status == "max_iter" else result.status,
            "loss": float(result.loss),
            "elbo": float(np.nansum(bound["elbo"]) / count),
            "iwae": float(np.nansum(bound["iwae"]) / count),
            "kl": float(q.kl.mean()),
            "rmse": dict(zip(data.names, np.sqrt(np.nanmean(residual**2, axis=0)).tolist(), strict=True)),
            "noise": dict(zip(data.names, self.noise_.tolist(), strict=True)),
            "seed": seed,
            "seconds": seconds,
            "iterations": int(result.n_iter),
            "failed": int(failed),
            "n_params": networks.n_params,
            "n_series": len(data),
            "n_observed": count,
            "version": _version.__version__,
        }

    def _noise_of(self):
        if self.noise is not None:
            return _noise(self.noise, len(self.names_))
        loss = self.networks_.generator.unflatten(self.theta_[self.networks_.parts["generator"]])["loss"]
        return np.exp(loss["log_noise"]) * self.units_.scale

    # ---- Using it ------------------------------------------------------------------------------------------------

    def encode(self, t, Y=None, *, u=None):
        """The posterior of the initial state of each series, q(z_0 | x): mean and standard deviation.

        Parameters
        ----------
        t, Y, u : as in `fit`, or one series: (T,), (T, d)

        Returns
        -------
        mean, std : (B, latent) arrays; (latent,) of one series
        """
        data, single = self._data(t, Y, u)
        q = self._posterior(data)
        return (q.mean[0], q.std[0]) if single else (q.mean, q.std)

    def _posterior(self, data):
        """Of z_0 of each series: from the encoder, refined."""
        series = self._seen(self.units_.series(data))
        encoding, options = self._options(NEAR, max_steps=MOST_STEPS)
        mean, log_std = encode(self.networks_, self.theta_, series, encoding)
        q = LatentPosterior.independent(mean, np.exp(log_std))
        if self.refine == 0:
            return q
        noise = self.noise_ / self.units_.scale
        return posterior_of(self.networks_, self.theta_, series, q, noise, options, self.refine)

    def _seen(self, series):
        """What the encoder sees of them."""
        if self.context is None:
            return series
        return series.until(np.full(len(series), _context(self.context)[1] / self.units_.t_scale))

    def filter(self, t, Y=None, *, u=None, at=None, n_samples=DRAWS, random_state=0):
        """The latent state now, given the recent past: z_0 by the encoder, then the latent equation to the present.

        Of each series the last stretch of length `context` is taken (all of it, where that is None), by a clock that starts
        at its first time: where in the past it lies is of no importance.

        Parameters
        ----------
        t, Y, u : as in `fit`, or one series: (T,), (T, d)
            Rows of NaN, the last one too, tell a time at which nothing was seen. u must reach to `at`.
        at : float or (B,) array, optional
            The present; default: the last time of each series. Not before it.
        n_samples : int
            Draws.
        random_state : int

        Returns
        -------
        Belief
        """
        data, single = self._data(t, Y, u, start=-math.inf)
        if self.networks_.generator.field.time_dependent:
            raise ValueError("the latent equation depends on t, so where the past lies matters: take predict(t, Y, at)")
        last = np.array([times[-1] for times in data.t])
        now = last if at is None else np.broadcast_to(real_array("at", at, np.float64), last.shape)
        if not (now >= last).all():
            raise ValueError(f"at={at!r} must not be before the last time of a series")
        recent, first = self._recent(data)
        ends = [np.array([x]) for x in now - first]
        q = self._posterior(recent)
        n, mean = as_integer("n_samples", n_samples, 1), q.mean
        z0 = q.draws(np.random.default_rng(random_state).standard_normal((n, *mean.shape)))
        z0 = np.concatenate([mean[None], z0]).reshape(-1, mean.shape[1])
        z = np.concatenate(self._states(z0, ends * (n + 1), _repeated(recent.signal, len(data), n + 1)))
        z = z.reshape(n + 1, *mean.shape)
        if single:
            return Belief(float(now[0]), z[0, 0], z[1:, 0].std(axis=0), z[1:, 0])
        return Belief(now, z[0], z[1:].std(axis=0), z[1:])

    def _recent(self, data):
        """The last stretches of the series by clocks that start at t0_, and by how much these are late, (B,)."""
        ts, ys = list(data.t), list(data.y)
        if self.context is not None:
            length = _context(self.context)[1] * (1 + 1e-9)
            first = [int(np.searchsorted(t, t[-1] - length)) for t in ts]
            ts, ys = ([x[k:] for x, k in zip(part, first, strict=True)] for part in (ts, ys))
        late = np.array([t[0] for t in ts]) - self.t0_
        signal = None if data.signal is None else data.signal.shifted(late)
        ts = [t - b for t, b in zip(ts, late, strict=True)]
        recent = Trajectories(tuple(ts), tuple(ys), data.names, data.time_name, data.ids, signal)
        _check_series(recent, self.t0_)
        return recent, late

    def rollout(self, z, t, *, u=None, return_std=False):
        """Curves from latent states that are known: what will be seen if these inputs are given.

        Parameters
        ----------
        z : (..., latent) array or Belief
            At the time t[0]; of a Belief its mean.
        t : (S,) array
            Times, rising.
        u : tuple (times, values[, kind]), Signal, or array (S, m), (B, S, m)
            Inputs, for all states or (where z is (B, latent)) each, known from t[0] to t[-1].
        return_std : bool
            Return (mean, std) over the draws of a Belief. Measurements have the noise `noise_` on top.

        Returns
        -------
        (..., S, d) array
        """
        self._fitted()
        if return_std:
            if not isinstance(z, Belief):
                raise TypeError(f"return_std=True needs the draws of a Belief (filter(t, Y)), z is {type(z).__name__}")
            curves = self.rollout(z.draws.reshape(len(z.draws), -1, z.draws.shape[-1]), t, u=u)
            curves = curves[:, 0] if z.mean.ndim == 1 else curves
            return curves.mean(axis=0), curves.std(axis=0)
        z = real_array("z", z.mean if isinstance(z, Belief) else z, np.float64)
        if z.ndim == 0 or z.shape[-1] != self.networks_.latent or z.size == 0 or not np.isfinite(z).all():
            raise ValueError(
                f"z has shape {z.shape}; it must be finite, (..., {self.networks_.latent}): states of the model"
            )
        t = self._checked_times("t", t, start=-math.inf)
        count = z.shape[-2] if z.ndim > 1 else 1
        signal = as_control(u, self.units_.m, [t] * count)
        _check_known(signal, np.tile([t[0], t[-1]], (count, 1)))
        z0 = z.reshape(-1, z.shape[-1])
        states = self._states(z0, t, _repeated(signal, count, len(z0) // count), landed=True)
        return self._decoded(states.reshape(-1, z.shape[-1])).reshape(*z.shape[:-1], len(t), -1)

    def predict(self, t, Y=None, at=None, *, u=None, return_std=False, n_samples=None, random_state=0):
        """Curves given series: the decoder along the latent trajectory from the posterior of z_0, at any times.

        Parameters
        ----------
        t, Y, u : as in `fit`, or one series: (T,), (T, d)
            u must be known until the last of the times asked for: (times, values[, kind]) or a Signal.
        at : (S,) array, or list of B arrays, optional
            Times, not before t0_, rising. Default: those of the series.
        return_std : bool
            Return (mean, std) over draws from the posterior of z_0: how uncertain the curve is. Measurements have the noise
            `noise_` on top.
        n_samples : int, optional
            Draws behind mean and std (100 with return_std). Default: none, the curve from the mean of z_0.
        random_state : int
            Of the draws.

        Returns
        -------
        (B, S, d) array, a list of (S_i, d) arrays where the times differ; (S, d) of one series
        """
        data, single = self._data(t, Y, u)
        at = self._times(list(data.t) if at is None else at, len(data), data.signal, shared=at is None)
        q = self._posterior(data)
        n = int(DRAWS if return_std else 0) if n_samples is None else as_integer("n_samples", n_samples, 1)
        if n == 0:
            return _shaped(self._curves(q.mean, at, data.signal), single)
        z0 = q.draws(np.random.default_rng(random_state).standard_normal((n, *q.mean.shape)))
        curves = self._draws(z0, at, data.signal)
        pairs = [np.stack([c.mean(axis=0), c.std(axis=0)]) for c in curves]
        y, std = ([pair[i] for pair in pairs] for i in (0, 1))
        y, std = (_shaped(_stacked(part, at), single) for part in (y, std))
        return (y, std) if return_std else y

    def reconstruct(self, t, Y=None, **options):
        """`predict` at the times of the series themselves: smoothed, missing entries filled."""
        return self.predict(t, Y, **options)

    def extrapolate(self, t, Y=None, at=None, **options):
        """`predict` at later times.

        Parameters
        ----------
        t, Y, **options : see `predict`
        at : (S,) array, or list of B arrays
            Not before the last time of any series.
        """
        data, _ = self._data(t, Y, options.get("u"))
        if at is None:
            raise TypeError("extrapolate needs the times: extrapolate(t, Y, at)")
        times = self._times(at, len(data))
        for i, name in enumerate(data.ids):
            first = (times[i] if isinstance(times, list) else times)[0]
            if first < data.t[i][-1]:
                raise ValueError(
                    f"at begins at {first:g}, before the last time of series {name}, {data.t[i][-1]:g}: "
                    "take predict(t, Y, at)"
                )
        return self.predict(t, Y, at, **options)

    def sample(self, at, n=1, t=None, Y=None, *, u=None, random_state=None):
        """Curves of random initial states: from the prior N(0, 1), or, given series, from their posteriors.

        Parameters
        ----------
        at : (S,) array
            Times, not before t0_, rising.
        n : int
            How many.
        t, Y : as in `predict`, optional
            Series whose posterior to draw from.
        u : see `predict`, optional
            Control inputs of the series; without series those of the curves, (S, m) or (n, S, m) at the times `at`, ...
        random_state : int, optional

        Returns
        -------
        (n, S, d) array; (n, B, S, d) given series, (n, S, d) given one
            Without measurement noise.
        """
        self._fitted()
        n, rng = as_integer("n", n, 1), np.random.default_rng(random_state)
        at = self._times(real_array("at", at, np.float64), 1)
        if t is None and Y is None:
            signal = as_control(u, self.units_.m, [at] * n)
            self._times(at, n, signal)
            return np.asarray(self._curves(rng.standard_normal((n, self.networks_.latent)), at, signal))
        data, single = self._data(t, Y, u)
        self._times(at, len(data), data.signal)
        q = self._posterior(data)
        z0 = q.draws(rng.standard_normal((n, *q.mean.shape)))
        curves = np.stack(self._draws(z0, at, data.signal), axis=1)
        return curves[:, 0] if single else curves

    def bound(self, t, Y=None, *, u=None, n_samples=100, random_state=0):
        """Lower bounds of the log density of each series, in nats.

        Parameters
        ----------
        t, Y, u : as in `fit`
        n_samples : int
            Draws of z_0.
        random_state : int

        Returns
        -------
        dict
            elbo, iwae: (B,) arrays. The importance-weighted bound (Burda, Grosse, Salakhutdinov 2016, arXiv:1509.00519) is
            the tighter the more draws.
        """
        data, _ = self._data(t, Y, u)
        return self._bounds(data, self._posterior(data), as_integer("n_samples", n_samples, 1), random_state)

    def _bounds(self, data, q, n_samples, seed):
        series = self.units_.series(data)
        pair = bounds(self.networks_, self.theta_, series, q, self._options(FINE)[1], n_samples, seed)
        shift = np.add.reduceat(series.mask @ np.log(self.units_.scale), series.start)  # density in the units of the data
        return dict(zip(("elbo", "iwae"), (value - shift for value in pair), strict=True))

    def _parameters(self):
        """(of the latent equation, of the decoder)"""
        theta = self.networks_.generator.split(self.theta_[self.networks_.parts["generator"]])
        return theta["field"], theta["loss"][: self.networks_.decoder.n_params]

    def _states(self, z0, at, signal, landed=False):
        """Latent states (n, S, latent), or a list of them, at times of the user, from z0 at t0_ (landed: at the first)."""
        inside = lambda x: np.concatenate([[] if landed else [0.0], (x - self.t0_) / self.units_.t_scale])  # noqa: E731
        times, o = [inside(x) for x in at] if isinstance(at, list) else inside(at), self._options(FINE)[1]
        signal = self.units_.signal(signal)
        keys = {"method": o.method, "rtol": o.rtol, "atol": o.atol} | ({} if signal is None else {"inputs": signal})
        z = solve(self.networks_.generator.field, z0, times, self._parameters()[0], **keys).y
        if landed:
            return z
        return [part[1:] for part in z] if isinstance(at, list) else z[:, 1:]

    def _decoded(self, rows):
        """(n, d) values of latent states (n, latent)."""
        return self.networks_.decoder(0.0, rows, self._parameters()[1]) * self.units_.scale + self.units_.shift

    def _curves(self, z0, at, signal=None):
        """Decoded curves (n, S, d), or a list of them, at times of the user, shared or a list."""
        z = self._states(z0, at, signal)
        x = self._decoded(np.concatenate(list(z)))
        if not isinstance(at, list):
            return x.reshape(len(z0), len(at), -1)
        return np.split(x, np.cumsum([len(t) for t in at])[:-1])

    def _draws(self, z0, at, signal=None):
        """A list of (n, S_i, d) curves of z0 (n, B, latent)."""
        n, count = z0.shape[:2]
        flat = self._curves(z0.reshape(n * count, -1), at * n if isinstance(at, list) else at, _repeated(signal, count, n))
        return [np.stack(flat[i::count]) for i in range(count)]

    def _data(self, t, Y, u, start=None):
        """(Trajectories, whether it is one series by itself)."""
        self._fitted()
        if t is None or (Y is None and not isinstance(t, Trajectories)):
            raise TypeError("give the series, (t, Y), or Trajectories")
        single = not isinstance(t, Trajectories) and not isinstance(Y, (list, tuple)) and np.ndim(Y) < 3
        data = as_trajectories(t, Y, u, None, None, None, None, None)
        if data.d != len(self.names_):
            raise ValueError(
                f"the series have {data.d} values a time, the model {len(self.names_)}: {', '.join(self.names_)}"
            )
        if _n_inputs(data) != self.units_.m:
            raise ValueError(f"the model has {self.units_.m} control inputs, u {_n_inputs(data)}: give u= as in fit")
        if start is None:
            _check_series(data, self.t0_)
        return data, single

    def _times(self, at, n, signal=None, shared=False):
        """Times asked for: one array, or a list of n arrays; `shared`: a list of equal arrays becomes one."""
        times = self._times_of(at, n, shared)
        ends = [x[-1] for x in times] if isinstance(times, list) else [times[-1]] * n
        _check_known(signal, np.stack([np.full(n, self.t0_), ends], axis=1))
        return times

    def _times_of(self, at, n, shared):
        if isinstance(at, (list, tuple)) and len(at) and np.ndim(at[0]) == 1:
            if len(at) != n:
                raise ValueError(f"at holds {len(at)} arrays of times for {n} series")
            if shared and all(len(x) == len(at[0]) and (x == at[0]).all() for x in at):
                return self._checked_times("at", at[0])
            return [self._checked_times(f"at[{i}]", x) for i, x in enumerate(at)]
        return self._checked_times("at", at)

    def _checked_times(self, name, x, start=None):
        x = real_array(name, x, np.float64)
        if x.ndim != 1 or x.size == 0 or not np.isfinite(x).all() or (np.diff(x) < 0).any():
            raise ValueError(f"{name} must be a non-empty vector of finite times that do not fall")
        if x[0] < (self.t0_ if start is None else start):
            raise ValueError(f"{name} begins at {x[0]:g}, before the time t0 = {self.t0_:g} of the latent initial state")
        return x

    def plot(self, kind="series", t=None, Y=None, *, u=None, **options):
        """A picture (needs matplotlib).

        Parameters
        ----------
        kind : {"series", "latent", "loss"}
            Data and posterior curves with 90 % bands; posterior means in latent space; the loss while training.
        t, Y, u : as in `predict`, optional
            Series to show; default those of the fit.
        **options
            Further arguments of `pynode.plots.series` or `pynode.plots.latent_space`.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from pynode.plots.registry import draw

        self._fitted()
        data = None if t is None else self._data(t, Y, u)[0]
        return draw("latent", kind, self, data, **options)

    # ---- Parameters and files ------------------------------------------------------------------------------------

    @staticmethod
    def _from_content(content):
        return from_content(content)

    def _content(self, data=True):
        params = plain_params(self) | {"noise": None if self.noise is None else self.noise_.tolist()}
        return {
            "params": params,
            "field": None if self.field is None else self.field.to_dict(),
            "theta": self.theta_,
            "units": asdict(self.units_),
            "names": list(self.names_),
            "time_name": self.time_name_,
            "history": self.history_,
            "report": without_nan(self.report_),
            "data": data_to_dict(self.data_) if data and self.data_ is not None else None,
        }

    def __repr__(self):
        what = f"<LatentODE latent={self.latent}, encoder={self.encoder!r}"
        if not hasattr(self, "theta_"):
            return f"{what}, not fitted>"
        return f"{what}, {', '.join(self.names_)}: fitted to {self.report_['n_series']} series>"


def from_content(content):
    """The model that `LatentODE.save` wrote, from the content of its file; raises where that makes no sense."""
    params = {"refine": 0} | content["params"]  # files of before it was there
    params |= {name: tuple(x) for name, x in params.items() if name in TUPLES and isinstance(x, list)}
    params["field"] = None if content["field"] is None else Field.from_dict(content["field"])
    model = LatentODE(**params)
    check(model)
    names = tuple(of_type(name, str, "a name") for name in content["names"])
    units = Units(**content["units"])
    for name in ("shift", "scale"):
        part = getattr(units, name)
        if part.shape != (len(names),) or not np.isfinite(part).all() or (name == "scale" and not (part > 0).all()):
            raise ValueError(f"{name} must be {len(names)} finite numbers")
    inside = units.u_shift, units.u_scale
    if inside[0].ndim != 1 or inside[0].shape != inside[1].shape or not np.isfinite(inside).all() or (inside[1] <= 0).any():
        raise ValueError("u_shift and u_scale must be finite numbers, one for each control input")
    if model.field is not None and model.field.inputs != units.m:
        raise ValueError(f"the field has {model.field.inputs} control inputs, the scaling {units.m}")
    as_positive("t_scale", units.t_scale), as_positive("gap", units.gap), of_type(units.t0, float, "t0")
    model.networks_ = model._networks(len(names), units)
    theta, history = content["theta"], content["history"]
    if theta.shape != (model.networks_.n_params,) or not np.isfinite(theta).all():
        raise ValueError(f"theta must be {model.networks_.n_params} finite numbers")
    if set(history) != set(HISTORY) or len({x.shape for x in history.values()}) != 1:
        raise ValueError("the history must be vectors of one length")
    model.theta_, model.units_, model.t0_, model.names_ = theta, units, units.t0, names
    model.time_name_, model.history_ = as_text(content["time_name"]), history
    model.report_ = of_type(content["report"], dict, "the report")
    model.data_ = None if content["data"] is None else data_from_dict(content["data"], names, model.time_name_)
    if model.data_ is not None and _n_inputs(model.data_) != units.m:
        raise ValueError(f"the model has {units.m} control inputs, the data {_n_inputs(model.data_)}")
    model.noise_ = model._noise_of()
    return model


def check(model):
    """Everything that can be said before there are data."""
    least = {"latent": 1, "encoder_hidden": 1, "n_samples": 1, "max_iter": 1}
    for name, low in least.items():
        as_integer(name, getattr(model, name), low)
    as_integer("refine", model.refine, 0)
    for name in ("batch_size", "random_state"):
        if getattr(model, name) is not None:
            as_integer(name, getattr(model, name), int(name == "batch_size"))
    for name in ("hidden", "decoder_hidden"):
        for width in widths(getattr(model, name)):
            as_integer(name, width, 1)
    for name in ("learning_rate", "rtol", "atol", "max_gradient", "t_scale"):
        if getattr(model, name) is not None:
            as_positive(name, getattr(model, name))
    if not 0 <= as_positive("anneal", model.anneal, zero=True) <= 1:
        raise ValueError(f"anneal={model.anneal!r} must be between 0 and 1, a part of training")
    if model.t0 is not None and not math.isfinite(float(model.t0)):
        raise ValueError(f"t0={model.t0!r} must be finite")
    adaptive = [name for name, row in METHODS.items() if row["error_order"]]
    choices: Any = {"encoder": ENCODERS, "activation": ACTIVATIONS, "dtype": ("float32", "float64"), "method": adaptive}
    for name, known in choices.items():
        value = getattr(model, name)
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{name}={value!r} is not one of {', '.join(known)}")
    as_schedule(model.schedule)
    if model.context is not None:
        _context(model.context)
    if model.field is not None:
        if not isinstance(model.field, Field):
            raise TypeError(f"field must be a Field (pynode.field, pynode.mlp, ...), not {type(model.field).__name__}")
        if model.field.callbacks or not model.field.d == model.field.n_out == model.latent:
            raise ValueError(f"field must be a traced vector field of latent = {model.latent} states")


def _context(context):
    """(least, most) of what the encoder sees, as lengths of time."""
    pair = real_array("context", context, np.float64)
    if (
        pair.shape not in ((), (2,))
        or not np.isfinite(pair).all()
        or (pair < 0).any()
        or (np.diff(np.atleast_1d(pair)) < 0).any()
    ):
        raise ValueError(f"context={context!r} must be a length of time >= 0, or a rising pair of them")
    return [float(x) for x in np.broadcast_to(pair, (2,))]


def _n_inputs(data):
    return 0 if data.signal is None else data.signal.m


def _repeated(signal, count, n):
    """The signals of `count` series for n draws of each."""
    return None if signal is None else signal.take(list(range(count)) * n)


def _check_known(signal, spans):
    """Inputs must be known on spans (B, 2), in the units of the user."""
    if signal is not None:
        signal.check_spans(spans)


def _noise(noise, d):
    """(d,) standard deviations."""
    noise = real_array("noise", noise, np.float64)
    if noise.shape not in ((), (d,)) or not (np.isfinite(noise) & (noise > 0)).all():
        raise ValueError(f"noise must be positive, one number or {d}")
    return np.broadcast_to(noise, (d,)).copy()


def _check_series(data, t0):
    _check_known(data.signal, np.array([(t0, max(t[-1], t0)) for t in data.t]))
    for name, t, y in zip(data.ids, data.t, data.y, strict=True):
        seen = ~np.isnan(y).all(axis=1)
        if not seen.any():
            raise ValueError(f"series {name} has no observed entry (all are NaN): leave it out, its posterior is the prior")
        if t[seen][0] < t0:
            raise ValueError(
                f"series {name} has an observation at {data.time_name} = {t[seen][0]:g}, before the time t0 = {t0:g} of the "
                "latent initial state: give t0= a time before all observations when fitting, or cut the series"
            )


def _stacked(parts, at):
    return parts if isinstance(at, list) else np.stack(parts)


def _shaped(curves, single):
    return curves[0] if single else curves


def _reporting(bar, callback):
    def after_iteration(iteration):
        bar.update(iteration.number, f"-ELBO {iteration.loss:.4g}")
        return callback is not None and callback(iteration) is True

    return after_iteration


def _now():
    return time.perf_counter()
