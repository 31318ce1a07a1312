"""The evidence lower bound of a latent ODE, and its gradient.

    h = encoder(x_1 .. x_n),  (mean, log std) = head(h),  z_0 = mean + std eps,  eps ~ N(0, 1)
    ELBO = E log p(x | z(t; z_0)) - beta KL(q(z_0 | x) || N(0, 1))

(Kingma & Welling 2014, arXiv:1312.6114; Chen et al. 2018, arXiv:1806.07366, section 5.) The encoder runs backwards in time.
Encoder and decoder are one solve each in the C core; what lies between them, a few numbers a series, is NumPy.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pynode import _core
from pynode.data.batch import SaveTimes, starts
from pynode.engine.options import Options
from pynode.engine.problem import core_problem, hoisted_programs, implicit_programs, system_programs
from pynode.errors import OK
from pynode.fields.field import Field, run
from pynode.fields.make import field
from pynode.fields.system import System
from pynode.models.latent.series import Series
from pynode.optim.minibatches import Epochs

if TYPE_CHECKING:
    from pynode.models.latent.posterior import LatentPosterior

Array = NDArray[np.float64]

Integers = NDArray[np.int64]

LOG_2PI = math.log(2 * math.pi)


CHUNK = 10
"""Most observations that an encoder without drift takes in one jump."""


def likelihood(latent: int, decoder: Field, d: int, noise: Array | None = None) -> Field:
    """-log N(x | decoder(z), noise^2) of the observed entries of a row, as a field with u = (x, mask).

    Parameters
    ----------
    latent : int
        Size of z.
    decoder : Field
        z -> x.
    d : int
        Size of x.
    noise : (d,) array, optional
        Standard deviation; default: learned, theta has its logarithm.

    Returns
    -------
    Field
        Its value is one number.
    """
    theta: dict[str, Any] = {"decoder": decoder} | ({"log_noise": np.full(d, -1.0)} if noise is None else {})
    known = None if noise is None else np.log(noise)

    @field(state=latent, theta=theta, inputs=2 * d, out=1, name="likelihood")
    def negative_log(t: Any, z: Any, th: Any, u: Any) -> Any:
        x, mask = u[:d], u[d:]
        log_noise = th.log_noise if known is None else known
        r = (x - th.decoder(z)) * np.exp(-log_noise)
        return [np.sum(mask * (0.5 * r**2 + log_noise + 0.5 * LOG_2PI))]

    return negative_log


@dataclass(frozen=True)
class Networks:
    """The parts of a latent ODE; theta is [drift | cell | head | generator].

    Attributes
    ----------
    drift : Field or None
        dh/dt of the encoder's state between observations; None: it only changes at observations.
    cell : Field
        h+ = cell(h, x) at an observation, x = (value, mask, gap, action).
    head : Field
        h -> (mean, log std) of q(z_0 | x).
    generator : System
        dz/dt, and the loss `likelihood`.
    decoder : Field
        z -> x; its parameters are the first of the likelihood's.
    """

    drift: Field | None
    cell: Field
    head: Field
    generator: System
    decoder: Field

    @property
    def latent(self) -> int:
        """Size of z."""
        return self.generator.d

    @property
    def n_params(self) -> int:
        """Length of theta."""
        return int(self.parts["generator"].stop)

    @cached_property
    def parts(self) -> dict[str, slice]:
        """name -> slice of theta."""
        a, b, c = (part.n_params for part in (self.encoder(1), self.head, self.generator))
        return {"encoder": slice(0, a), "head": slice(a, a + b), "generator": slice(a + b, a + b + c)}

    def encoder(self, n: int) -> System:
        """The System that takes n observations a jump."""
        made: dict[int, System] = self.__dict__.setdefault("_encoders", {})
        if n not in made:
            drift = still(self.cell.d) if self.drift is None else self.drift
            made[n] = System(drift, jump=unrolled(self.cell, n, self.decoder.n_out) if n > 1 else self.cell)
        return made[n]

    def init(self, random_state: int | np.random.Generator | None) -> Array:
        """Initial theta."""
        rng = np.random.default_rng(random_state)
        return np.concatenate([part.init(rng) for part in (self.encoder(1), self.head, self.generator)])


def still(d: int) -> Field:
    """The vector field 0: a state that only jumps."""

    @field(state=d, name="still")
    def nothing(t: Any, h: Any) -> Any:
        return np.zeros(d)

    return nothing


def unrolled(cell: Field, n: int, d: int) -> Field:
    """n steps of a cell as one: its data are n observations of d numbers, those whose masks are all 0 being left out."""
    k = cell.inputs

    @field(state=cell.d, theta={"cell": cell}, inputs=n * k, name=f"{n} x {cell.name}")
    def steps(t: Any, h: Any, th: Any, x: Any) -> Any:
        for i in range(n):
            one = x[i * k : (i + 1) * k]
            h = np.where(np.sum(one[d : 2 * d]) > 0.5, th.cell(t, h, one), h)
        return h

    return steps


class Encoder:
    """x -> h, backwards in time from the last observation to the time of z_0, for one set of series.

    Where the state only changes at observations, time plays no part: nothing is solved, and each jump takes several
    observations, which saves moving states in and out.

    Parameters
    ----------
    networks : Networks
    series : Series
    options : Options
        How the state between observations is solved for.
    dtype : float32 or float64
    """

    def __init__(self, networks: Networks, series: Series, options: Options, dtype: DTypeLike) -> None:
        self.drifts, longest = networks.drift is not None, int(series.length.max())
        each = 1 if self.drifts else -(-longest // -(-longest // CHUNK))  # observations a jump
        system, n = networks.encoder(each), len(series)
        count: Integers = -(-series.length // each)  # jumps of each series; one more row, without, at the time of z_0
        start = starts(count + 1)
        rows, k = int(count.sum()) + n, networks.cell.inputs
        self.last, self.shape = start + count, (rows, system.d)
        self.dtype, self.part = dtype, networks.parts["encoder"]
        # the observations of a series, in falling time, fill its places to the last; those before stay empty
        empty = np.repeat(count * each - series.length, series.length)
        place = np.arange(len(series.t)) + np.repeat(start * each - series.start, series.length) + empty
        t, x = np.zeros(rows), np.zeros((rows * each, k), dtype)
        back = series.backwards
        x[place] = np.concatenate([series.value, series.mask, series.gap[:, None], series.action], axis=1)[back]
        x = x.reshape(rows, each * k)
        x[self.last] = np.nan
        if self.drifts:
            t[place] = series.t[back]
        times = SaveTimes(t, start, count + 1, start)
        self.problem = _problem(system, options, np.zeros((n, system.d), dtype), times, None, land=True, jump_data=x)

    def __call__(self, theta: Array) -> Array:
        """(B, H) final states."""
        self.raw = self.problem.run(theta[self.part].astype(self.dtype))
        h: Array = self.raw["y"][self.last].astype(np.float64)
        return h

    def pull(self, theta: Array, dh: Array) -> Array:
        """Gradient of sum(dh h) with respect to the encoder's part of theta, after a call with the same theta."""
        g = np.zeros(self.shape, self.dtype)
        g[self.last] = dh
        after = None if self.drifts else self.raw
        part = theta[self.part].astype(self.dtype)
        g_theta: Array = self.problem.run(part, g_y=g, gradient="discrete", after=after)["g_theta"]
        return g_theta


class Decoder:
    """z_0 -> -log p(x | z), for one set of series, each with `n_samples` initial states.

    Parameters
    ----------
    networks, series, options, dtype : see `Encoder`
    n_samples : int

    Attributes
    ----------
    nfe : int
        Evaluations of the latent equation by the forward solve of the last call of `gradient`.
    """

    def __init__(self, networks: Networks, series: Series, options: Options, dtype: DTypeLike, n_samples: int = 1) -> None:
        system, n = networks.generator, len(series)
        self.dtype, self.part = dtype, networks.parts["generator"]
        seen, once = series.from_start()
        rows = len(seen)
        target = np.full((rows, system.n_target), np.nan)
        target[seen] = np.concatenate([series.value, series.mask], axis=1)
        draws = np.arange(n_samples)[:, None]
        start, length = np.tile(once.start, n_samples), np.tile(once.length, n_samples)
        times = SaveTimes(once.t, start, length, (draws * rows + once.row).ravel())
        keys: dict[str, Any] = inputs_of(series, dtype, n_samples, options)
        y0 = np.zeros((n * n_samples, system.d), dtype)
        keys |= {"loss": "program", "target": np.tile(target, (n_samples, 1)).astype(dtype)}
        self.problem = _problem(system, options, y0, times, series.signal, **keys)

    def __call__(self, theta: Array, z0: Array) -> Array:
        """(n_samples * B,) -log p(x | z_0), NaN where the solve failed."""
        raw = self.problem.run(theta[self.part].astype(self.dtype), y0=z0.astype(self.dtype))
        return np.where(raw["status"] == OK, raw["sample_loss"], np.nan)

    def gradient(self, theta: Array, z0: Array) -> tuple[Array, Array, Array]:
        """The same, and gradients of the sum with respect to the generator's part of theta and z_0; of failed ones 0."""
        raw = self.problem.run(
            theta[self.part].astype(self.dtype), y0=z0.astype(self.dtype), gradient="discrete", wrt_y0=True
        )
        self.nfe = int(raw["nfe"].sum())
        return np.where(raw["status"] == OK, raw["sample_loss"], np.nan), raw["g_theta"], raw["g_y0"].astype(np.float64)


def inputs_of(series: Series, dtype: DTypeLike, n_samples: int, options: Options) -> dict[str, Any]:
    """Keywords of `_core.Problem` for the control inputs of n_samples draws of each series; none without inputs."""
    if series.signal is None:
        return {}
    spans = np.stack([np.zeros(len(series)), series.t[series.start + series.length - 1]], axis=1)
    keys = series.signal.pieces(len(series), dtype, spans, rtol=options.rtol).arguments()
    each = ("knot_start", "knot_len", "seg_start", "cross_knots")
    return keys | {name: np.tile(keys[name], n_samples) for name in each}


def _problem(
    system: System, options: Options, y0: NDArray[Any], times: SaveTimes, signal: Any, **keys: Any
) -> _core.Problem:
    """A problem whose initial states are given when it runs, or are y0."""
    parts = system_programs(system, gradient=True) | implicit_programs(system, options, signal, True)
    parts |= hoisted_programs(system, True)
    return core_problem(system.program, system.vjp_program, y0, times, options.arguments(system.d), **parts, **keys)


class Elbo:
    """-ELBO of a minibatch per observed number, with its gradient: a stochastic objective for `pynode.fit.adam`.

    Parameters
    ----------
    networks : Networks
    series : Series
    encoder_options, options : Options
        Of the two solves.
    batch_size : int, optional
        Series of a minibatch; default all.
    n_samples : int
        Draws of z_0 for each series.
    random_state : int
        Seed of minibatches and draws, together with the number of the iteration.
    beta : callable
        k -> weight of the KL divergence in iteration k.
    context : (float, float), optional
        The encoder sees a series until a time that is drawn between these for each epoch; default: all of it.
    dtype : float32 or float64
        Of the solves.

    Attributes
    ----------
    failed : int
        Series whose solve failed in an iteration and which took no part in it, over all iterations.
    nfe : int
        Evaluations of the latent equation in forward solves so far.
    """

    def __init__(
        self,
        networks: Networks,
        series: Series,
        encoder_options: Options,
        options: Options,
        *,
        batch_size: int | None = None,
        n_samples: int = 1,
        random_state: int = 0,
        beta: Callable[[int], float] | None = None,
        context: tuple[float, float] | None = None,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.networks, self.series = networks, series
        self.options = encoder_options, options
        self.epochs = Epochs(len(series), batch_size, (random_state, 1), at_most=True)
        self.n_samples, self.random_state, self.dtype = n_samples, random_state, dtype
        self.beta_of = beta
        self.context = context
        self.failed, self.nfe, self.taken = 0, 0, 0
        self.draw(1)

    @property
    def n_batches(self) -> int:
        """Iterations of an epoch."""
        return self.epochs.n_batches

    def draw(self, k: int) -> None:
        """The minibatch, the noise and beta of iteration k = 1, 2, ..."""
        self.beta = 1.0 if self.beta_of is None else float(self.beta_of(k))
        changes = self.n_batches > 1 or (self.context is not None and self.context[0] < self.context[1])
        k_taken = k if changes else 1
        if k_taken != self.taken:
            self._take(k_taken)
        shape = (self.n_samples, len(self.chosen), self.networks.latent)
        self.eps = np.random.default_rng([self.random_state, 2, k]).standard_normal(shape)

    def _take(self, k: int) -> None:
        """Prepare the solves of the series of iteration k."""
        self.taken = k
        which = np.sort(self.epochs.batch(k))
        self.chosen = self.series.take(which) if self.n_batches > 1 else self.series
        seen = self.chosen
        if self.context is not None:
            low, high = self.context
            epoch, _ = self.epochs.place(k)
            rng = np.random.default_rng([self.random_state, 3, epoch])
            seen = seen.until(rng.uniform(low, high, len(self.series))[which])
        encoding, decoding = self.options
        self.encoder = Encoder(self.networks, seen, encoding, self.dtype)
        self.decoder = Decoder(self.networks, self.chosen, decoding, self.dtype, self.n_samples)

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """(loss, gradient), the expectations over z_0 by the draws at hand."""
        nets, S, L = self.networks, self.n_samples, self.networks.latent
        part = theta[nets.parts["head"]]
        h = self.encoder(theta)
        mean, log_std = np.split(_posterior(nets.head, h, part), 2, axis=1)
        std = np.exp(log_std)
        nll, g_generator, g_z0 = self.decoder.gradient(theta, (mean + std * self.eps).reshape(-1, L))
        self.nfe += self.decoder.nfe
        nll, g_z0 = nll.reshape(S, -1), g_z0.reshape(S, -1, L) / S
        solved = np.asarray(~np.isnan(nll).any(axis=0))
        self.failed += int((~solved).sum())
        beta = self.beta * solved[:, None]
        g_mean = g_z0.sum(axis=0) + beta * mean
        g_log_std = (g_z0 * self.eps).sum(axis=0) * std + beta * (std**2 - 1)
        seed = np.concatenate([g_mean, g_log_std], axis=1)
        (_, dh, *_), (g_head,) = run(nets.head.vjp_program, {"t": 0.0, "y": h, "u": None, "seed": seed}, [part])
        gradient = np.concatenate([self.encoder.pull(theta, dh), g_head, g_generator / S])
        count = self.chosen.n_observed[solved].sum()
        if count == 0:
            return math.nan, gradient
        total = nll[:, solved].mean(axis=0).sum() + self.beta * kl(mean, log_std)[solved].sum()
        return float(total / count), gradient / count


def _posterior(head: Field, h: Array, theta: Array) -> Array:
    """(B, 2 latent) means and logarithms of standard deviations."""
    (value,), _ = run(head.program, {"t": 0.0, "y": h, "u": None}, [theta])
    return np.asarray(value, dtype=np.float64)


def kl(mean: Array, log_std: Array) -> Array:
    """(B,) the divergence KL(N(mean, std^2) || N(0, 1)) over the last axis."""
    return np.asarray(np.sum(0.5 * (mean**2 + np.exp(2 * log_std) - 1) - log_std, axis=-1))


def encode(networks: Networks, theta: Array, series: Series, options: Options) -> tuple[Array, Array]:
    """(mean, log std), each (B, latent), of q(z_0 | x), in float64."""
    h = Encoder(networks, series, options, np.float64)(theta)
    mean, log_std = np.split(_posterior(networks.head, h, theta[networks.parts["head"]]), 2, axis=1)
    return mean, log_std


def bounds(
    networks: Networks,
    theta: Array,
    series: Series,
    posterior: "LatentPosterior",
    options: Options,
    n_samples: int,
    random_state: int | None,
) -> tuple[Array, Array]:
    """Two lower bounds of log p(x) of each series, by n_samples draws of z_0 from a `LatentPosterior`.

    Returns
    -------
    elbo, iwae : (B,) arrays
        Mean of log w and logarithm of the mean of w = p(x | z_0) p(z_0) / q(z_0 | x) (Burda, Grosse, Salakhutdinov 2016,
        arXiv:1509.00519, eq. 8); NaN where a solve failed.
    """
    eps = np.random.default_rng(random_state).standard_normal((n_samples, *posterior.mean.shape))
    z0 = posterior.draws(eps)
    nll = Decoder(networks, series, options, np.float64, n_samples)(theta, z0.reshape(-1, networks.latent))
    log_w = -nll.reshape(n_samples, -1) + np.sum(0.5 * (eps**2 - z0**2), axis=-1) + posterior.log_det
    top = log_w.max(axis=0)
    return log_w.mean(axis=0), top + np.log(np.mean(np.exp(log_w - top), axis=0))
