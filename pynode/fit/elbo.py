"""The evidence lower bound of a latent ODE, and its gradient.

    h = encoder(x_1 .. x_n),  (mean, log std) = head(h),  z_0 = mean + std eps,  eps ~ N(0, 1)
    ELBO = E log p(x | z(t; z_0)) - beta KL(q(z_0 | x) || N(0, 1))

(Kingma & Welling 2014, arXiv:1312.6114; Chen et al. 2018, arXiv:1806.07366, section 5.) The encoder runs backwards in time.
Encoder and decoder are one solve each in the C core; what lies between them, a few numbers a series, is NumPy.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from pynode import _core
from pynode.errors import OK
from pynode.fields import Field, field, mlp, run
from pynode.solving import Options

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Series:
    """Observations in scaled units, flat: series i has rows start[i] : start[i] + length[i].

    Attributes
    ----------
    t : (rows,) array
        Since the time of z_0; rising in a series.
    value, mask : (rows, d) arrays
        0 and 0 where not observed; no row is empty.
    start, length : (B,) int64 arrays
    """

    t: np.ndarray
    value: np.ndarray
    mask: np.ndarray
    start: np.ndarray
    length: np.ndarray

    @classmethod
    def of(cls, times, values):
        """From lists of (T_i,) and (T_i, d) arrays, NaN where not observed; rows without observation are left out."""
        seen = [~np.isnan(y).all(axis=1) for y in values]
        y = np.concatenate([y[s] for y, s in zip(values, seen, strict=True)])
        length = np.array([int(s.sum()) for s in seen], dtype=np.int64)
        t = np.concatenate([t[s] for t, s in zip(times, seen, strict=True)])
        mask = ~np.isnan(y)
        return cls(t, np.where(mask, y, 0.0), mask.astype(np.float64), np.cumsum(length) - length, length)

    def __len__(self):
        return len(self.length)

    @cached_property
    def n_observed(self):
        """(B,) observed numbers of each series."""
        return np.add.reduceat(self.mask.sum(axis=1), self.start)

    def take(self, which):
        """These series."""
        rows = np.concatenate([np.arange(a, a + n) for a, n in zip(self.start[which], self.length[which], strict=True)])
        length = self.length[which]
        return Series(self.t[rows], self.value[rows], self.mask[rows], np.cumsum(length) - length, length)

    @cached_property
    def backwards(self):
        """(rows,) the rows of each series in falling time."""
        first = np.repeat(self.start, self.length)
        last = np.repeat(self.start + self.length - 1, self.length)
        return first + last - np.arange(len(self.t))

    @cached_property
    def gap(self):
        """(rows,) the time since the observation before, of the first one since z_0."""
        gap = np.diff(self.t, prepend=0.0)
        gap[self.start] = self.t[self.start]
        return gap


def likelihood(latent, decoder, d, noise=None):
    """-log N(x | decoder(z), noise^2) of the observed entries of a row, as a field with u = (x, mask).

    Parameters
    ----------
    latent : int
    decoder : Field
        z -> x.
    d : int
    noise : (d,) array, optional
        Standard deviation; default: learned, theta has its logarithm.

    Returns
    -------
    Field
        Its value is one number.
    """
    theta = {"decoder": decoder} | ({"log_noise": np.full(d, -1.0)} if noise is None else {})
    known = None if noise is None else np.log(noise)

    @field(state=latent, theta=theta, inputs=2 * d, out=1, name="likelihood")
    def negative_log(t, z, th, u):
        x, mask = u[:d], u[d:]
        log_noise = th.log_noise if known is None else known
        r = (x - th.decoder(z)) * np.exp(-log_noise)
        return [np.sum(mask * (0.5 * r**2 + log_noise + 0.5 * LOG_2PI))]

    return negative_log


@dataclass(frozen=True)
class Networks:
    """The parts of a latent ODE; theta holds their parameters in this order.

    Attributes
    ----------
    drift : Field or None
        dh/dt between observations.
    cell : Field
        h+ = cell(h, x) at an observation, x = (value, mask, gap).
    head : Field
        h -> (mean, log std) of q(z_0 | x).
    field : Field
        dz/dt.
    likelihood : Field
        See `likelihood`.
    decoder : Field
        z -> x.
    """

    drift: Field | None
    cell: Field
    head: Field
    field: Field
    likelihood: Field
    decoder: Field

    latent = property(lambda self: self.field.d)

    @cached_property
    def parts(self):
        """name -> slice of theta."""
        named = {name: getattr(self, name) for name in ("drift", "cell", "head", "field", "likelihood")}
        sizes = {name: 0 if part is None else part.n_params for name, part in named.items()}
        stops = list(accumulate(sizes.values()))
        return {name: slice(stop - n, stop) for (name, n), stop in zip(sizes.items(), stops, strict=True)}

    @property
    def n_params(self):
        return self.parts["likelihood"].stop

    def init(self, seed):
        """Initial theta."""
        rng = np.random.default_rng(seed)
        named = (self.drift, self.cell, self.head, self.field, self.likelihood)
        return np.concatenate([part.init(rng) for part in named if part is not None])


class Encoder:
    """x -> h, backwards in time, for one set of series."""

    def __init__(self, networks, series, options, dtype):
        self.parts, self.cell = networks.parts, networks.cell
        back = series.backwards
        x = np.concatenate([series.value, series.mask, series.gap[:, None]], axis=1)[back]
        H, k = self.cell.d, self.cell.inputs
        cell = self.cell

        @field(state=H, theta={"c": cell}, inputs=k)
        def euler(t, h, th, x):
            return th.c(t, h, x) - h

        n, B = series.length, len(series)
        longest = int(n.max())
        self.euler = euler
        self.n = B
        self.problem = _core.Problem(
            euler.program.core,
            euler.vjp_program.core,
            y0=np.zeros((B, H), dtype),
            t=np.stack([np.zeros(B), n.astype(float)], 1).ravel(),
            t_start=np.arange(B) * 2,
            t_len=np.full(B, 2),
            row=np.arange(B) * 2,
            knot=np.arange(longest + 1.0),
            knot_start=np.zeros(B, np.int64),
            knot_len=n + 1,
            seg_start=series.start,
            coef=x[:, None, :].astype(dtype),
            input_jumps=True,
            method="euler",
            adaptive=False,
            step=1.0,
            land=True,
            atol=np.ones(H),
            rtol=1e-3,
            max_steps=2**62,
        )
        self.dtype = dtype

    def __call__(self, theta):
        """(B, H) the states after the first observation of each series, taken last."""
        return self.problem.run(theta[self.parts["cell"]].astype(self.dtype))["y"][1::2].astype(np.float64)

    def pull(self, theta, dh):
        """Gradient of sum(dh h) with respect to drift and cell."""
        g = np.zeros((2 * self.n, dh.shape[1]), self.dtype)
        g[1::2] = dh
        return self.problem.run(theta[self.parts["cell"]].astype(self.dtype), g_y=g, gradient="discrete")["g_theta"]


class Decoder:
    """z_0 -> -log p(x | z), for one set of series."""

    def __init__(self, networks, series, options, dtype, n_samples=1):
        self.networks, self.dtype = networks, dtype
        B, S = len(series), n_samples
        t = np.insert(series.t, series.start, 0.0)
        start, length = series.start + np.arange(B), series.length + 1
        self.rows = int(length.sum())
        self.target = np.concatenate([series.value, series.mask], axis=1)
        self.target = np.tile(np.insert(self.target, series.start, 0.0, axis=0), (S, 1))
        f = networks.field
        self.problem = _core.Problem(
            f.program.core,
            f.vjp_program.core,
            y0=np.zeros((B * S, f.d), dtype),
            t=t,
            t_start=np.tile(start, S),
            t_len=np.tile(length, S),
            row=(np.arange(S)[:, None] * self.rows + start).ravel(),
            **options.arguments(f.d),
        )
        self.start = (np.arange(S)[:, None] * self.rows + start).ravel()

    def __call__(self, theta, z0):
        """(B,) -log p(x | z_0), NaN where the solve failed."""
        f, L = self.networks.field, self.networks.likelihood
        raw = self.problem.run(theta[self.networks.parts["field"]].astype(self.dtype), y0=z0.astype(self.dtype))
        (value,), _ = run(
            L.program, {"t": 0.0, "y": raw["y"], "u": self.target}, [theta[self.networks.parts["likelihood"]]]
        )
        return np.add.reduceat(value[:, 0], self.start)

    def gradient(self, theta, z0):
        """(B,) the same, and gradients of its sum with respect to (field, likelihood) and z_0."""
        f, L = self.networks.field, self.networks.likelihood
        th = theta[self.networks.parts["field"]].astype(self.dtype)
        y = self.problem.run(th, y0=z0.astype(self.dtype))["y"]
        (value, gy, *_), (gl,) = run(
            L.vjp_program,
            {"t": 0.0, "y": y, "u": self.target, "seed": np.ones((len(y), 1))},
            [theta[self.networks.parts["likelihood"]]],
        )
        raw = self.problem.run(th, y0=z0.astype(self.dtype), g_y=gy.astype(self.dtype), gradient="discrete", wrt_y0=True)
        return np.add.reduceat(value[:, 0], self.start), np.concatenate([raw["g_theta"], gl]), raw["g_y0"]


class Elbo:
    """-ELBO of a minibatch per observed number, with its gradient: a stochastic objective for `pynode.fit.adam`.

    Parameters
    ----------
    networks : Networks
    series : Series
    options : pynode.solving.Options
        Of both solves.
    batch_size : int
    n_samples : int
        Draws of z_0 for each series.
    seed : int
        Of draws and minibatches, together with the number of the iteration.
    beta : callable
        k -> weight of the KL divergence in iteration k.
    dtype : float32 or float64
    """

    def __init__(self, networks, series, options, *, batch_size=None, n_samples=1, seed=0, beta=lambda k: 1.0, dtype=np.float32):
        self.networks, self.series, self.options = networks, series, options
        self.batch_size = min(batch_size or len(series), len(series))
        self.n_samples, self.seed, self.beta_of, self.dtype = n_samples, seed, beta, dtype
        self.cache = {}
        self.draw(1)

    def draw(self, k):
        """The minibatch, the noise and beta of iteration k."""
        self.k, self.beta = k, self.beta_of(k)
        n, b = len(self.series), self.batch_size
        per = -(-n // b)
        epoch, part = divmod(k - 1, per)
        order = np.random.default_rng([self.seed, 1]).permutation(n)
        which = order[part * b : (part + 1) * b]
        if part not in self.cache:
            chosen = self.series if per == 1 else self.series.take(np.sort(which))
            self.cache[part] = (
                chosen,
                Encoder(self.networks, chosen, self.options, self.dtype),
                Decoder(self.networks, chosen, self.options, self.dtype, self.n_samples),
            )
        self.chosen, self.encoder, self.decoder = self.cache[part]
        shape = (self.n_samples, len(self.chosen), self.networks.latent)
        self.eps = np.random.default_rng([self.seed, 2, k]).standard_normal(shape)

    def __call__(self, theta):
        """(loss, gradient)."""
        nets, S, L = self.networks, self.n_samples, self.networks.latent
        h = self.encoder(theta)
        th = theta[nets.parts["head"]]
        (stats,), _ = run(nets.head.program, {"t": 0.0, "y": h, "u": None}, [th])
        mean, log_std = stats[:, :L], stats[:, L:]
        std = np.exp(log_std)
        z0 = mean + std * self.eps
        nll, g_decoder, g_z0 = self.decoder.gradient(theta, z0.reshape(-1, L))
        g_z0 = g_z0.reshape(S, -1, L).astype(np.float64) / S
        kl = 0.5 * (mean**2 + std**2 - 1) - log_std
        g_mean = g_z0.sum(axis=0) + self.beta * mean
        g_log_std = (g_z0 * self.eps).sum(axis=0) * std + self.beta * (std**2 - 1)
        seed = np.concatenate([g_mean, g_log_std], axis=1)
        (_, dh, *_), (g_head,) = run(nets.head.vjp_program, {"t": 0.0, "y": h, "u": None, "seed": seed}, [th])
        g_encoder = self.encoder.pull(theta, dh)
        count = self.chosen.n_observed.sum()
        loss = (nll.sum() / S + self.beta * kl.sum()) / count
        return loss, np.concatenate([g_encoder, g_head, g_decoder / S]) / count


__all__ = ["Elbo", "Networks", "Options", "Series", "likelihood", "mlp"]
