"""What a fitted LatentODE infers: posteriors of initial states, the latent state now, bounds; and its curves."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.calls.solve import solve
from pynode.data.arrays import as_integer, real_array
from pynode.data.signal import Signal
from pynode.data.trajectories import Trajectories
from pynode.models.latent.belief import Belief, Units
from pynode.models.latent.checks import check_series, repeated
from pynode.models.latent.elbo import Networks, bounds, encode
from pynode.models.latent.options import LatentODEOptions, as_context
from pynode.models.latent.posterior import LatentPosterior, posterior_of
from pynode.models.latent.training import seen_by_encoder, solve_options
from pynode.models.trajectories.series import Inputs, Series, as_trajectories, n_inputs

Array = NDArray[np.float64]

FINE = 1e-6
"""Largest tolerance of predictions."""


NEAR, MOST_STEPS = 1e-4, 10_000
"""Of the solves behind a posterior: largest tolerance, most steps."""


DRAWS = 100
"""Draws of z_0 behind a standard deviation."""


class LatentInference(LatentODEOptions):
    """The part of `LatentODE` that looks from series to latent states; its attributes are explained there."""

    networks_: Networks
    units_: Units
    t0_: float
    noise_: Array

    @property
    def equation_theta_(self) -> Array:
        """Parameters of the latent equation, a part of theta_."""
        part: Array = self._generator_theta()["field"]
        return part

    @property
    def decoder_theta_(self) -> Array:
        """Parameters of the decoder, a part of theta_."""
        part: Array = self._generator_theta()["loss"][: self.networks_.decoder.n_params]
        return part

    def _generator_theta(self) -> Any:
        self.check_is_fitted()
        return self.networks_.generator.split(self.theta_[self.networks_.parts["generator"]])

    # ---- From series to latent states

    def encode(self, t: Series | Trajectories, Y: Series | None = None, *, u: Inputs | None = None) -> tuple[Array, Array]:
        """The posterior of the initial state of each series, q(z_0 | x): mean and standard deviation.

        Parameters
        ----------
        t, Y : arrays or Trajectories
            The series observed, as in `fit`, or one series: (T,), (T, d).
        u : array, tuple or Signal, optional
            Control inputs, as in `fit`.

        Returns
        -------
        mean, std : (B, latent) arrays
            For one series (latent,) arrays.
        """
        data, single = self._series(t, Y, u)
        q = self._posterior(data)
        return (q.mean[0], q.std[0]) if single else (q.mean, q.std)

    def _posterior(self, data: Trajectories) -> LatentPosterior:
        """The posterior of z_0 of each series: from the encoder, refined."""
        series = seen_by_encoder(self, self.units_.series(data), self.units_.t_scale)
        encoding, options = solve_options(self, NEAR, max_steps=MOST_STEPS)
        mean, log_std = encode(self.networks_, self.theta_, series, encoding)
        q = LatentPosterior.independent(mean, np.exp(log_std))
        if self.refine == 0:
            return q
        noise = self.noise_ / self.units_.scale
        return posterior_of(self.networks_, self.theta_, series, q, noise, options, int(self.refine))

    def filter(
        self,
        t: Series | Trajectories,
        Y: Series | None = None,
        *,
        u: Inputs | None = None,
        at: ArrayLike | None = None,
        n_samples: int = DRAWS,
        random_state: int | None = 0,
    ) -> Belief:
        """The latent state now, given the recent past: z_0 by the encoder, then the latent equation to the present.

        The last stretch of each series of length `context` is taken (all of it, where that is None), by a clock that starts
        at its first time: where in the past it lies is of no importance.

        Parameters
        ----------
        t, Y, u : as in `fit`, or one series: (T,), (T, d)
            Rows of NaN, the last one too, tell a time at which nothing was seen. u must reach to `at`.
        at : float or (B,) array_like, optional
            The present; default: the last time of each series. Not before it.
        n_samples : int, default 100
            Draws.
        random_state : int or None, default 0
            Seed of the draws.

        Returns
        -------
        Belief
        """
        data, single = self._series(t, Y, u, start=-math.inf)
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
        z = np.concatenate(self._states(z0, ends * (n + 1), repeated(recent.signal, len(data), n + 1)))
        z = z.reshape(n + 1, *mean.shape)
        if single:
            return Belief(float(now[0]), z[0, 0], z[1:, 0].std(axis=0), z[1:, 0])
        return Belief(now, z[0], z[1:].std(axis=0), z[1:])

    def _recent(self, data: Trajectories) -> tuple[Trajectories, Array]:
        """The last stretches of the series by clocks that start at t0_, and by how much these are late, (B,)."""
        ts, ys = list(data.t), list(data.y)
        if self.context is not None:
            length = as_context(self.context)[1] * (1 + 1e-9)
            first = [int(np.searchsorted(t, t[-1] - length)) for t in ts]
            ts, ys = ([x[k:] for x, k in zip(part, first, strict=True)] for part in (ts, ys))
        late = np.array([t[0] for t in ts]) - self.t0_
        signal = None if data.signal is None else data.signal.shifted(late)
        ts = [t - b for t, b in zip(ts, late, strict=True)]
        recent = Trajectories(tuple(ts), tuple(ys), data.names, data.time_name, data.ids, signal)
        check_series(recent, self.t0_)
        return recent, late

    def bound(
        self,
        t: Series | Trajectories,
        Y: Series | None = None,
        *,
        u: Inputs | None = None,
        n_samples: int = 100,
        random_state: int | None = 0,
    ) -> dict[str, Array]:
        """Lower bounds of the log density of each series, in nats.

        Parameters
        ----------
        t, Y : arrays or Trajectories
            The series observed, as in `fit`.
        u : array, tuple or Signal, optional
            Control inputs, as in `fit`.
        n_samples : int, default 100
            Draws of z_0.
        random_state : int or None, default 0
            Seed of the draws.

        Returns
        -------
        dict
            elbo, iwae: (B,) arrays. The importance-weighted bound (Burda, Grosse, Salakhutdinov 2016, arXiv:1509.00519) is
            the tighter the more draws.
        """
        data, _ = self._series(t, Y, u)
        return self._bounds(data, self._posterior(data), as_integer("n_samples", n_samples, 1), random_state)

    def _bounds(self, data: Trajectories, q: LatentPosterior, n_samples: int, random_state: int | None) -> dict[str, Array]:
        series = self.units_.series(data)
        options = solve_options(self, FINE)[1]
        pair = bounds(self.networks_, self.theta_, series, q, options, n_samples, random_state)
        shift = np.add.reduceat(series.mask @ np.log(self.units_.scale), series.start)  # density in the units of the data
        return dict(zip(("elbo", "iwae"), (value - shift for value in pair), strict=True))

    # ---- From latent states to curves

    def _states(self, z0: Array, at: Array | list[Array], signal: Signal | None, landed: bool = False) -> Any:
        """Latent states (n, S, latent), or a list of them, at times of the user, from z0 at t0_ (landed: at the first)."""
        before = np.zeros(0 if landed else 1)

        def inside(x: Array) -> Array:
            return np.concatenate([before, (x - self.t0_) / self.units_.t_scale])

        times = [inside(x) for x in at] if isinstance(at, list) else inside(at)
        o = solve_options(self, FINE)[1]
        keys: dict[str, Any] = {"method": o.method, "rtol": o.rtol, "atol": o.atol}
        if signal is not None:
            keys["inputs"] = self.units_.signal(signal)
        z = solve(self.networks_.generator.field, z0, times, self.equation_theta_, **keys).y
        if landed:
            return z
        return [part[1:] for part in z] if isinstance(at, list) else z[:, 1:]

    def _decoded(self, rows: Array) -> Array:
        """(n, d) values of latent states (n, latent)."""
        seen: Array = self.networks_.decoder(0.0, rows, self.decoder_theta_) * self.units_.scale + self.units_.shift
        return seen

    def _curves(self, z0: Array, at: Array | list[Array], signal: Signal | None = None) -> Any:
        """Decoded curves (n, S, d), or a list of them, at times of the user, shared or a list."""
        z = self._states(z0, at, signal)
        x = self._decoded(np.concatenate(list(z)))
        if not isinstance(at, list):
            return x.reshape(len(z0), len(at), -1)
        return np.split(x, np.cumsum([len(t) for t in at])[:-1])

    def _drawn_curves(self, z0: Array, at: Array | list[Array], signal: Signal | None = None) -> list[Array]:
        """A list of (n, S_i, d) curves of z0 (n, B, latent)."""
        n, count = z0.shape[:2]
        times = at * n if isinstance(at, list) else at
        flat = self._curves(z0.reshape(n * count, -1), times, repeated(signal, count, n))
        return [np.stack(flat[i::count]) for i in range(count)]

    # ---- What is handed in

    def _series(
        self, t: Series | Trajectories | None, Y: Series | None, u: Inputs | None, start: float | None = None
    ) -> tuple[Trajectories, bool]:
        """(Trajectories, whether it is one series by itself)."""
        self.check_is_fitted()
        if t is None or (Y is None and not isinstance(t, Trajectories)):
            raise TypeError("give the series, (t, Y), or Trajectories")
        values: Any = Y
        single = not isinstance(t, Trajectories) and not isinstance(Y, (list, tuple)) and np.ndim(values) < 3
        data = as_trajectories(t, Y, u, fitted=True)
        if data.d != len(self.names_):
            raise ValueError(
                f"the series have {data.d} values a time, the model {len(self.names_)}: {', '.join(self.names_)}"
            )
        if n_inputs(data) != self.units_.m:
            raise ValueError(f"the model has {self.units_.m} control inputs, u {n_inputs(data)}: give u= as in fit")
        if start is None:
            check_series(data, self.t0_)
        return data, single
