"""What a fitted LatentODE forecasts: curves given series, from known latent states, or at random."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.arrays import as_integer, real_array
from pynode.data.control import as_control
from pynode.data.trajectories import Trajectories
from pynode.models.latent.belief import Belief
from pynode.models.latent.checks import check_known, checked_times, repeated, times_asked_for
from pynode.models.latent.inference import DRAWS, LatentInference
from pynode.models.trajectories.series import Inputs, Series

Array = NDArray[np.float64]


class LatentForecasts(LatentInference):
    """The part of `LatentODE` that goes from latent states to curves; its attributes are explained there."""

    def predict(
        self,
        t: Series | Trajectories,
        Y: Series | None = None,
        at: Any = None,
        *,
        u: Inputs | None = None,
        return_std: bool = False,
        n_samples: int | None = None,
        random_state: int | None = 0,
    ) -> Any:
        """Curves given series: the decoder along the latent trajectory from the posterior of z_0, at any times.

        Parameters
        ----------
        t, Y : arrays or Trajectories
            The series observed, as in `fit`, or one series: (T,), (T, d).
        at : (S,) array_like, or list of B arrays, optional
            Times, not before t0_, rising. Default: those of the series.
        u : tuple or Signal, optional
            Control inputs, as in `fit`. They must be known until the last of the times asked for: (times, values[, kind])
            or a Signal.
        return_std : bool, default False
            Return (mean, std) over draws from the posterior of z_0: how uncertain the curve is. Measurements have the noise
            `noise_` on top.
        n_samples : int, optional
            Draws behind mean and std (100 with return_std). Default: none, the curve from the mean of z_0.
        random_state : int or None, default 0
            Of the draws.

        Returns
        -------
        (B, S, d) array, a list of (S_i, d) arrays where the times differ; (S, d) of one series
            With return_std a pair of them.
        """
        data, single = self._series(t, Y, u)
        asked = list(data.t) if at is None else at
        times = times_asked_for(asked, len(data), self.t0_, data.signal, shared=at is None)
        q = self._posterior(data)
        n = int(DRAWS if return_std else 0) if n_samples is None else as_integer("n_samples", n_samples, 1)
        if n == 0:
            return _shaped(self._curves(q.mean, times, data.signal), single)
        z0 = q.draws(np.random.default_rng(random_state).standard_normal((n, *q.mean.shape)))
        curves = self._drawn_curves(z0, times, data.signal)
        pairs = [np.stack([c.mean(axis=0), c.std(axis=0)]) for c in curves]
        y, std = ([pair[i] for pair in pairs] for i in (0, 1))
        y, std = (_shaped(part if isinstance(times, list) else np.stack(part), single) for part in (y, std))
        return (y, std) if return_std else y

    def reconstruct(self, t: Series | Trajectories, Y: Series | None = None, **options: Any) -> Any:
        """`predict` at the times of the series themselves: smoothed, missing entries filled.

        Parameters
        ----------
        t, Y : arrays or Trajectories
            The series observed, as in `fit`, or one series: (T,), (T, d).
        **options
            u, return_std, n_samples and random_state of `predict`.

        Returns
        -------
        As `predict`.
        """
        return self.predict(t, Y, **options)

    def extrapolate(self, t: Series | Trajectories, Y: Series | None = None, at: Any = None, **options: Any) -> Any:
        """`predict` at later times.

        Parameters
        ----------
        t, Y : arrays or Trajectories
            The series observed, as in `fit`, or one series: (T,), (T, d).
        at : (S,) array_like, or list of B arrays
            Times, not before the last time of any series.
        **options
            u, return_std, n_samples and random_state of `predict`.

        Returns
        -------
        As `predict`.
        """
        data, _ = self._series(t, Y, options.get("u"))
        if at is None:
            raise TypeError("extrapolate needs the times: extrapolate(t, Y, at)")
        times = times_asked_for(at, len(data), self.t0_)
        for i, name in enumerate(data.ids):
            first = (times[i] if isinstance(times, list) else times)[0]
            if first < data.t[i][-1]:
                raise ValueError(
                    f"at begins at {first:g}, before the last time of series {name}, {data.t[i][-1]:g}: "
                    "take predict(t, Y, at)"
                )
        return self.predict(t, Y, at, **options)

    def rollout(self, t: ArrayLike, z: ArrayLike | Belief, *, u: Inputs | None = None, return_std: bool = False) -> Any:
        """Curves from latent states that are known: what will be seen if these inputs are given.

        Parameters
        ----------
        t : (S,) array_like
            Times, rising.
        z : (..., latent) array_like or Belief
            At the time t[0]; of a Belief its mean.
        u : tuple (times, values[, kind]), Signal, or array (S, m), (B, S, m), optional
            Inputs, for all states or (where z is (B, latent)) each, known from t[0] to t[-1].
        return_std : bool, default False
            Return (mean, std) over the draws of a Belief. Measurements have the noise `noise_` on top.

        Returns
        -------
        (..., S, d) array
            With return_std a pair of them.
        """
        self.check_is_fitted()
        if return_std:
            if not isinstance(z, Belief):
                raise TypeError(f"return_std=True needs the draws of a Belief (filter(t, Y)), z is {type(z).__name__}")
            curves = self.rollout(t, z.draws.reshape(len(z.draws), -1, z.draws.shape[-1]), u=u)
            curves = curves[:, 0] if z.mean.ndim == 1 else curves
            return curves.mean(axis=0), curves.std(axis=0)
        start: Array = real_array("z", z.mean if isinstance(z, Belief) else z, np.float64)
        latent = self.networks_.latent
        if start.ndim == 0 or start.shape[-1] != latent or start.size == 0 or not np.isfinite(start).all():
            raise ValueError(f"z has shape {start.shape}; it must be finite, (..., {latent}): states of the model")
        times = checked_times("t", t, -math.inf)
        count = start.shape[-2] if start.ndim > 1 else 1
        signal = as_control(u, self.units_.m, [times] * count)
        check_known(signal, np.tile([times[0], times[-1]], (count, 1)))
        z0 = start.reshape(-1, latent)
        states = self._states(z0, times, repeated(signal, count, len(z0) // count), landed=True)
        return self._decoded(states.reshape(-1, latent)).reshape(*start.shape[:-1], len(times), -1)

    def sample(
        self,
        at: ArrayLike,
        n: int = 1,
        t: Series | Trajectories | None = None,
        Y: Series | None = None,
        *,
        u: Inputs | None = None,
        random_state: int | None = None,
    ) -> Array:
        """Curves of random initial states: from the prior N(0, 1), or, given series, from their posteriors.

        Parameters
        ----------
        at : (S,) array_like
            Times, not before t0_, rising.
        n : int, default 1
            How many.
        t, Y : as in `predict`, optional
            Series whose posterior to draw from.
        u : see `predict`, optional
            Control inputs of the series; without series those of the curves, (S, m) or (n, S, m) at the times `at`, ...
        random_state : int, optional
            Seed of the draws; default: other curves at every call.

        Returns
        -------
        (n, S, d) array; (n, B, S, d) given series, (n, S, d) given one
            Without measurement noise.
        """
        self.check_is_fitted()
        n, rng = as_integer("n", n, 1), np.random.default_rng(random_state)
        times = times_asked_for(real_array("at", at, np.float64), 1, self.t0_)
        if t is None and Y is None:
            signal = as_control(u, self.units_.m, [times] * n)
            times_asked_for(times, n, self.t0_, signal)
            return np.asarray(self._curves(rng.standard_normal((n, self.networks_.latent)), times, signal))
        series: Any = t
        data, single = self._series(series, Y, u)
        times_asked_for(times, len(data), self.t0_, data.signal)
        q = self._posterior(data)
        z0 = q.draws(rng.standard_normal((n, *q.mean.shape)))
        curves = np.stack(self._drawn_curves(z0, times, data.signal), axis=1)
        return curves[:, 0] if single else curves


def _shaped(curves: Any, single: bool) -> Any:
    return curves[0] if single else curves
