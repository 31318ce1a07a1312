"""How LatentODE trains: its networks, the objective, and what happens after each iteration of Adam."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.engine.options import Options
from pynode.fields.cells import gru_cell, rnn_cell
from pynode.fields.make import mlp
from pynode.fields.system import System
from pynode.models.latent.belief import SPAN, Units
from pynode.models.latent.elbo import Elbo, Networks, bounds, encode, likelihood
from pynode.models.latent.options import LatentODEOptions, as_context, as_noise
from pynode.models.latent.posterior import LatentPosterior
from pynode.models.latent.series import Series
from pynode.models.options import widths
from pynode.models.storage import n_of_layers
from pynode.optim.progress import Progress
from pynode.optim.result import Iteration
from pynode.training.early_stopping import EarlyStopping

if TYPE_CHECKING:
    from pynode.optim.checkpoint import Checkpoint

Array = NDArray[np.float64]

DRIFT_STEPS = 20
"""Steps on that length with which the ODE-RNN solves between observations; a shorter gap is one step."""


VALIDATION_DRAWS = 10
"""Draws of z_0 for each series kept aside, the same in each epoch."""


def make_networks(model: LatentODEOptions, d: int, units: Units) -> Networks:
    """Encoder, head, latent equation with its likelihood, decoder, for d values."""
    latent, state = int(model.latent), int(model.encoder_hidden)
    cell = (rnn_cell if model.encoder == "rnn" else gru_cell)(state, 2 * d + 1 + units.m)
    drift = mlp(state, (state,), gain=0.5) if model.encoder == "ode-rnn" else None
    decoder = mlp(latent, widths(model.decoder_hidden), d, activation=model.activation)
    equation = model.field
    if equation is None:
        equation = mlp(latent, widths(model.hidden), activation=model.activation, inputs=units.m)
    noise = None if model.noise is None else as_noise(model.noise, d) / units.scale
    generator = System(equation, loss=likelihood(latent, decoder, d, noise))
    return Networks(drift, cell, mlp(state, (), 2 * latent), generator, decoder)


def implied_parameters(model: LatentODEOptions, d: int, m: int) -> int:
    """How many parameters `make_networks` gives for d values and m control inputs, before anything is made."""
    latent, state = int(model.latent), int(model.encoder_hidden)
    gates = 1 if model.encoder == "rnn" else 3
    cell = gates * state * (state + 2 * d + 1 + m + 1)
    drift = n_of_layers(state, state, state) if model.encoder == "ode-rnn" else 0
    head = n_of_layers(state, 2 * latent)
    decoder = n_of_layers(latent, *widths(model.decoder_hidden), d)
    own = model.field
    equation = n_of_layers(latent + m, *widths(model.hidden), latent) if own is None else own.n_params
    return drift + cell + head + equation + decoder + (d if model.noise is None else 0)


def solve_options(model: LatentODEOptions, most: float = math.inf, **more: Any) -> tuple[Options, Options]:
    """(encoder's, generator's) options of the solves, with tolerances of at most `most`."""
    if model.encoder == "ode-rnn":
        encoding = Options("midpoint", step=SPAN / DRIFT_STEPS)
    else:
        encoding = Options("euler", step=1e300)
    return encoding, Options(model.method, min(model.rtol, most), min(model.atol, most), **more)


def make_objective(model: LatentODEOptions, networks: Networks, series: Series, seed: int, t_scale: float) -> Elbo:
    """The bound that is maximised."""
    rise = max(1.0, model.anneal * model.max_iter)
    context = None
    if model.context is not None:
        low, high = as_context(model.context)
        context = (low / t_scale, high / t_scale)
    return Elbo(
        networks,
        series,
        *solve_options(model),
        batch_size=None if model.batch_size is None else int(model.batch_size),
        n_samples=int(model.n_samples),
        random_state=seed,
        beta=lambda k: min(1.0, k / rise),
        context=context,
        dtype=np.dtype(model.dtype).type,
    )


def seen_by_encoder(model: LatentODEOptions, series: Series, t_scale: float) -> Series:
    """What the encoder sees of series, once trained."""
    if model.context is None:
        return series
    return series.until(np.full(len(series), as_context(model.context)[1] / t_scale))


class HeldOut:
    """theta -> -ELBO per observed number of series kept aside; inf where one of them cannot be solved.

    Parameters
    ----------
    model : LatentODE
    networks : Networks
    series : Series
    seed : int
    t_scale : float
    """

    def __init__(self, model: LatentODEOptions, networks: Networks, series: Series, seed: int, t_scale: float) -> None:
        self.networks = networks
        self.series = series
        self.seen = seen_by_encoder(model, series, t_scale)
        self.encoding, self.options = solve_options(model)
        self.seed = seed

    def __call__(self, theta: Array) -> float:
        mean, log_std = encode(self.networks, theta, self.seen, self.encoding)
        q = LatentPosterior.independent(mean, np.exp(log_std))
        elbo, _ = bounds(self.networks, theta, self.series, q, self.options, VALIDATION_DRAWS, self.seed)
        loss = -elbo.sum() / self.series.n_observed.sum()
        return float(loss) if np.isfinite(loss) else math.inf


class Iterations:
    """A callback for `adam`: shows progress, stops early by series kept aside, calls the user's callback.

    Parameters
    ----------
    n_batches : int
        Iterations of an epoch.
    stopping : EarlyStopping or None
    callback : callable or None
    bar : Progress

    Attributes
    ----------
    validation : list of float
        The loss on series kept aside, after the iterations that end an epoch; NaN after the others.
    asked : bool
        The callback asked to stop.
    """

    def __init__(
        self,
        n_batches: int,
        stopping: EarlyStopping | None,
        callback: Callable[[Iteration], Any] | None,
        bar: Progress,
    ) -> None:
        self.n_batches = n_batches
        self.stopping = stopping
        self.callback = callback
        self.bar = bar
        self.validation: list[float] = []
        self.asked = False
        self.start = time.perf_counter()

    def __call__(self, iteration: Iteration) -> bool:
        value = math.nan
        if self.stopping is not None and iteration.number % self.n_batches == 0:
            assert iteration.theta is not None
            value = self.stopping(iteration.theta, (iteration.theta,))
        self.validation.append(value)
        told = "" if math.isnan(value) else f", {value:.4g} on series kept aside"
        self.bar.update(iteration.number, f"-ELBO {iteration.loss:.4g}{told}")
        if self.callback is not None:
            self.asked = self.callback(replace(iteration, validation=value)) is True
        return self.asked or (self.stopping is not None and self.stopping.tired)

    def best(self) -> int:
        """The iteration of the parameters that are kept, from 0; -1 is the last."""
        if self.stopping is None or self.stopping.kept is None:
            return -1
        return int(np.nanargmin(self.validation))

    def attach(self, checkpoint: "Checkpoint") -> None:
        """Give the checkpoint the state, and take what it found."""
        checkpoint.outer = self._saved
        if checkpoint.found is not None:
            saved = checkpoint.found["outer"]
            self.validation = saved["validation"].tolist()
            if self.stopping is not None:
                self.stopping.restore(saved["stopping"])

    def _saved(self) -> dict[str, Any]:
        stopping = None if self.stopping is None else self.stopping.saved()
        return {"validation": np.array(self.validation, dtype=np.float64), "stopping": stopping}
