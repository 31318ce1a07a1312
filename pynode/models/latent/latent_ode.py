"""LatentODE: a generative model of time series, a differential equation in a latent space (an autoencoder)."""

import os
import time as clock
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from pynode.data.signal import told
from pynode.data.trajectories import Trajectories
from pynode.models.latent.belief import Units
from pynode.models.latent.checks import check_series
from pynode.models.latent.elbo import Networks
from pynode.models.latent.forecasts import LatentForecasts
from pynode.models.latent.options import as_noise
from pynode.models.latent.storage import from_content, to_content
from pynode.models.latent.training import HeldOut, Iterations, make_networks, make_objective
from pynode.models.options import documented
from pynode.models.trajectories.series import Inputs, Series, as_trajectories, n_inputs
from pynode.optim.adam import adam
from pynode.optim.checkpoint import Checkpoint, opened
from pynode.optim.progress import Progress
from pynode.optim.result import FitInterrupted, FitResult, Iteration
from pynode.optim.session import results_kept_whole
from pynode.training.early_stopping import EarlyStopping, split

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

BOUND_DRAWS = 20
"""Draws of z_0 behind the bounds of the report."""


@documented
class LatentODE(LatentForecasts):
    """A latent ODE: each series comes from an initial state z_0 of a latent differential equation, through a decoder.

        z_0 ~ N(0, 1),   dz/dt = f(z; theta),   x(t_i) ~ N(decoder(z(t_i)), noise^2)

    A recurrent encoder reads the observations backwards in time and gives q(z_0 | x) = N(mean, std^2); encoder, equation and
    decoder are trained together by the evidence lower bound (Chen et al. 2018, arXiv:1806.07366, section 5; Rubanova, Chen,
    Duvenaud 2019, arXiv:1907.03907). Times may be irregular and different for each series, entries may be missing (NaN).

    With control inputs u(t) (fit(..., u=)) the equation is dz/dt = f(z, u(t); theta), and the encoder reads with each
    observation the mean input since the one before: a world model, see `filter`, `rollout` and `pynode.control.Planner`.

    {options}

    Attributes
    ----------
    theta_ : (p,) array
    networks_ : Networks
        Encoder, head, latent equation with its likelihood, decoder; all in scaled units.
    equation_theta_, decoder_theta_ : arrays
        The parts of theta_ that belong to the latent equation and to the decoder.
    units_ : Units
        The scaling.
    t0_ : float
        Time of z_0.
    names_ : tuple of str
    time_name_ : str
    noise_ : (d,) array
        Standard deviation of the measurements, given or learned.
    data_ : Trajectories or None
        What it was fitted to.
    random_state_ : int
        The seed that was used.
    history_ : dict of arrays
        An entry an iteration: loss (-ELBO per observed number, in scaled units), gradient_norm, nfe (evaluations of the
        latent equation in forward solves), seconds since the start, validation (the loss of the series kept aside, at the
        end of each epoch; NaN elsewhere and without early stopping).
    report_ : dict
        How the fit went: status ("finished", "early", "stopped", "interrupted") and message; loss, nfe, seconds, n_iter,
        n_params, n_samples (series), n_observed (numbers), n_failed (series that could not be solved, over all
        iterations), random_state, warnings, version; elbo and iwae (by 20 draws) per observed number, in nats and the
        units of the data; kl, the mean over the series; rmse and noise by name.

    See Also
    --------
    NeuralODE : where what is observed determines what follows.
    pynode.control.Planner : acts on a model that was fitted with control inputs.

    Notes
    -----
    `fit` takes no weights: an entry that counts less is one that was measured with more noise, and the noise is an option
    or learned.

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

    # ---- Fitting -------------------------------------------------------------------------------------------------

    def fit(
        self,
        t: Series | Trajectories,
        Y: Series | None = None,
        *,
        u: Inputs | None = None,
        names: Sequence[str] | None = None,
        time: str | None = None,
        state: str | Sequence[str] | None = None,
        id: str | None = None,
        input: str | Sequence[str] | None = None,
        progress: bool | str | None = None,
        callback: Callable[[Iteration], Any] | None = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    ) -> Self:
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
            Names of the d values.
        time, state, id, input : str or sequence of str
            Columns of the data frame.
        progress : bool or str, optional
            Show how training goes; a string is the label of the display. Default: `verbose`.
        callback : callable, optional
            callback(`pynode.fit.Iteration`) after each iteration; return True to stop.
        checkpoint : path or pynode.fit.Checkpoint, optional
            A file that is written now and then. If it is there, the fit goes on from it, to the same bits as if nothing had
            happened; it is removed at the end. Needs random_state.

        Returns
        -------
        LatentODE
            This model, fitted.

        Raises
        ------
        TypeError, ValueError
            Bad options or data: a series without observation, an observation before t0.
        pynode.fit.FitInterrupted
            Ctrl-C (it is a KeyboardInterrupt); the model keeps the state reached and can be used.
        """
        self.check_options()
        data = as_trajectories(t, Y, u, names, time, state, id, input, fitted=True)
        self._check_data(data)
        units = Units.of(data, None if self.t0 is None else float(self.t0), self.t_scale)
        check_series(data, units.t0)
        started = clock.perf_counter()
        seed = self._seed()
        everything = data
        networks = make_networks(self, data.d, units)
        data, stopping = self._kept_aside(data, networks, units, seed)
        objective = make_objective(self, networks, units.series(data), seed, units.t_scale)
        label = progress if isinstance(progress, str) else "training"
        shown = bool(self.verbose) if progress is None else bool(progress)
        interrupt = None
        with opened(checkpoint, self.random_state, partial(self._what, everything)) as saved:
            with Progress(int(self.max_iter), label, shown) as bar:
                iterations = Iterations(objective.n_batches, stopping, callback, bar)
                if saved is not None:
                    iterations.attach(saved)
                try:
                    result = adam(
                        objective,
                        networks.init(seed),
                        max_iter=int(self.max_iter),
                        learning_rate=self.learning_rate,
                        schedule=self.schedule,
                        max_gradient=self.max_gradient,
                        callback=iterations,
                        checkpoint=saved,
                    )
                except FitInterrupted as error:
                    result, interrupt = error.result, error
            with results_kept_whole():
                self.random_state_ = seed
                self.networks_ = networks
                self.units_ = units
                self.t0_ = units.t0
                self._keep(result, iterations, data, objective.failed, started)
            if interrupt is not None:
                raise interrupt
        return self

    def _kept_aside(
        self, data: Trajectories, networks: Networks, units: Units, seed: int
    ) -> tuple[Trajectories, EarlyStopping | None]:
        """(the series to learn from, what stops early by the others, if some are kept aside)."""
        if not self.early_stopping:
            return data, None
        kept, aside = split(len(data), self.validation_fraction, seed, "series")
        held = HeldOut(self, networks, units.series(data.take(aside)), seed, units.t_scale)
        return data.take(kept), EarlyStopping(held, int(self.patience))

    def _check_data(self, data: Trajectories) -> None:
        if self.field is not None and self.field.inputs != n_inputs(data):
            raise ValueError(f"the field has {self.field.inputs} control inputs, u {n_inputs(data)}")
        if data.never_observed:
            raise ValueError(f"{data.never_observed[0]} is never observed: leave the column out")

    def _what(self, data: Trajectories) -> tuple[Any, ...]:
        """What a fit follows from, for the fingerprint of a checkpoint."""
        return "LatentODE", *self._told("verbose", "refine"), list(data.t), list(data.y), *told(data.signal)

    def _keep(self, result: FitResult, iterations: Iterations, data: Trajectories, failed: int, started: float) -> None:
        """The results of training."""
        best = iterations.best()
        self.theta_ = result.theta
        loss = float(result.loss)
        self.history_ = result.history | {"validation": np.array(iterations.validation[: result.n_iter], dtype=np.float64)}
        if iterations.stopping is not None and iterations.stopping.kept is not None:
            (self.theta_,) = iterations.stopping.kept
            loss = float(self.history_["loss"][best])
        self.names_ = data.names
        self.time_name_ = data.time_name
        self.data_ = data
        self.noise_ = self._noise()
        seconds = clock.perf_counter() - started
        early = result.status == "stopped" and not iterations.asked
        status = "early" if early else "finished" if result.status == "max_iter" else result.status
        self.report_ = self.common_report(
            status,
            result.message,
            [f"{failed} times a series could not be solved and took no part in its iteration"] if failed else [],
            loss=loss,
            nfe=float(self.history_["nfe"].sum()),
            seconds=seconds,
            n_iter=int(result.n_iter),
            n_samples=len(data),
            n_failed=int(failed),
            n_observed=data.n_observed,
            **self._quality(data),
        )

    def _quality(self, data: Trajectories) -> dict[str, Any]:
        """How well the model explains the data."""
        q, count = self._posterior(data), data.n_observed
        bound = self._bounds(data, q, BOUND_DRAWS, self.random_state_)
        residual = np.concatenate(data.y) - np.concatenate(self._curves(q.mean, list(data.t), data.signal))
        return {
            "elbo": float(np.nansum(bound["elbo"]) / count),
            "iwae": float(np.nansum(bound["iwae"]) / count),
            "kl": float(q.kl.mean()),
            "rmse": dict(zip(data.names, np.sqrt(np.nanmean(residual**2, axis=0)).tolist(), strict=True)),
            "noise": dict(zip(data.names, self.noise_.tolist(), strict=True)),
        }

    def _noise(self) -> Array:
        """Standard deviations of the measurements, in the units of the data."""
        if self.noise is not None:
            return as_noise(self.noise, len(self.names_))
        loss = self.networks_.generator.unflatten(self.theta_[self.networks_.parts["generator"]])["loss"]
        learned: Array = np.exp(loss["log_noise"]) * self.units_.scale
        return learned

    def plot(
        self,
        kind: str = "series",
        t: Series | Trajectories | None = None,
        Y: Series | None = None,
        *,
        u: Inputs | None = None,
        **options: Any,
    ) -> "Figure":
        """A figure (needs matplotlib).

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

        self.check_is_fitted()
        data = None if t is None else self._series(t, Y, u)[0]
        return draw("latent", kind, self, data, **options)

    # ---- Options and files ---------------------------------------------------------------------------------------

    def to_content(self, data: bool = True) -> dict[str, Any]:
        """The fitted model as plain data and arrays, for `pynode.data.files.write`.

        Parameters
        ----------
        data : bool, default True
            Whether with the data that it was fitted to.

        Returns
        -------
        dict
        """
        return to_content(self, data)

    @classmethod
    def from_content(cls, content: dict[str, Any]) -> Self:
        """The model from what a file holds.

        Parameters
        ----------
        content : dict
            What `to_content` gave; nothing in it is trusted.

        Returns
        -------
        LatentODE

        Raises
        ------
        Exception
            Of any kind, where it is not a model: `pynode.load` makes a `ModelFileError` of it.
        """
        model: Self = from_content(content, cls)
        model.noise_ = model._noise()
        return model

    def __repr__(self) -> str:
        what = f"<LatentODE latent={self.latent}, encoder={self.encoder!r}"
        if not hasattr(self, "theta_"):
            return f"{what}, not fitted>"
        return f"{what}, {', '.join(self.names_)}: fitted to {self.report_['n_samples']} series>"
