"""Families of curves, measured with noise at few times: data for latent ODEs, with the truth to compare with."""

from dataclasses import dataclass

import numpy as np

from pynode.data.trajectories import Trajectories
from pynode.datasets.base import Dataset


@dataclass(frozen=True)
class Curves(Dataset):
    """Noisy observations of curves, and the curves.

    Attributes
    ----------
    t : tuple of (T,) arrays
        Times at which the curves are known, one array a curve of `train`.
    clean : (n_train, T, d) array
        The curves at these times, without noise.
    t_held_out, clean_held_out : the same of `held_out`
    """

    t: tuple = ()
    clean: np.ndarray | None = None
    t_held_out: tuple = ()
    clean_held_out: np.ndarray | None = None


def spirals(seed=0, *, n_train=500, n_held_out=500, n_observed=30, noise=0.3, n_times=500, window=100):
    """Pieces of a spiral that winds out and of one that winds in, the toy of Chen et al. (2018), section 5.1.

    With s from 0 to 6 pi in `n_times` points, r = 0.3 s, x = r cos(s) + 5, y = r sin(s) turns one way, and with
    s' = 6 pi + 1 - s, r = 15 / s', x = r cos(s') - 5, y = r sin(s') the other. A curve is `window` successive points of
    either, from a random one on; the time of each starts at 0.

    Parameters
    ----------
    seed : int
        The same seed, the same data.
    n_train, n_held_out : int
        Curves to learn from and to test on; both are measured.
    n_observed : int
        Points of each window that are measured, drawn without replacement.
    noise : float
        Standard deviation of the measurements.
    n_times, window : int

    Returns
    -------
    Curves
    """
    _check(n_train, n_held_out, n_observed, noise, window)
    if n_times <= 2 * window:
        raise ValueError(f"n_times={n_times!r} must be more than two windows of {window}")
    s = np.linspace(0.0, 6 * np.pi, n_times)
    back = s[-1] + 1 - s
    inward = np.stack([15 / back * np.cos(back) - 5, 15 / back * np.sin(back)], axis=1)
    outward = np.stack([0.3 * s * np.cos(s) + 5, 0.3 * s * np.sin(s)], axis=1)
    rng, n = np.random.default_rng(seed), n_train + n_held_out
    first, which = rng.integers(window, n_times - window, n), rng.random(n) < 0.5
    clean = np.stack([(outward if w else inward)[a : a + window] for a, w in zip(first, which, strict=True)])
    t = np.broadcast_to(s[:window], (n, window))
    source = f"spirals, {n_observed} of {window} points, noise {noise:g}, seed {seed}"
    return _measured(rng, t, clean, n_train, n_observed, noise, ("x", "y"), source)


def periodic(seed=0, *, n_train=500, n_held_out=500, n_observed=10, noise=0.1, n_times=50, duration=5.0):
    """Sine waves of random frequency, phase and offset at times of their own.

    y = c + sin(2 pi f t + p): f uniform in [0.2, 0.6], p in [0, 2 pi], c normal with standard deviation 0.5. Each curve has
    `n_times` times of its own, uniform in [0, duration], of which the first `n_observed` in a random order are measured.

    Parameters
    ----------
    seed, n_train, n_held_out, n_observed, noise : see `spirals`
    n_times : int
    duration : float

    Returns
    -------
    Curves
    """
    _check(n_train, n_held_out, n_observed, noise, n_times)
    rng, n = np.random.default_rng(seed), n_train + n_held_out
    t = np.sort(rng.uniform(0.0, duration, (n, n_times)), axis=1)
    f, p, c = rng.uniform(0.2, 0.6, (n, 1)), rng.uniform(0, 2 * np.pi, (n, 1)), 0.5 * rng.standard_normal((n, 1))
    clean = (c + np.sin(2 * np.pi * f * t + p))[:, :, None]
    source = f"sine waves, {n_observed} of {n_times} times, noise {noise:g}, seed {seed}"
    return _measured(rng, t, clean, n_train, n_observed, noise, ("y",), source)


def _measured(rng, t, clean, n_train, n_observed, noise, names, source):
    n, length, d = clean.shape
    rows = np.sort(rng.permuted(np.broadcast_to(np.arange(length), (n, length)), axis=1)[:, :n_observed], axis=1)
    y = np.take_along_axis(clean, rows[:, :, None], axis=1) + noise * rng.standard_normal((n, n_observed, d))
    times = np.take_along_axis(t, rows, axis=1)
    train, rest = slice(n_train), slice(n_train, None)
    return Curves(
        Trajectories.from_arrays(list(times[train]), list(y[train]), names=names),
        Trajectories.from_arrays(list(times[rest]), list(y[rest]), names=names) if n > n_train else None,
        source=source,
        t=tuple(t[:n_train]),
        clean=clean[:n_train],
        t_held_out=tuple(t[n_train:]),
        clean_held_out=clean[n_train:],
    )


def _check(n_train, n_held_out, n_observed, noise, n_times):
    if n_train < 1 or n_held_out < 0 or not 1 <= n_observed <= n_times or not noise >= 0:
        raise ValueError(
            f"needs n_train >= 1, n_held_out >= 0, 1 <= n_observed <= {n_times} and noise >= 0, got "
            f"{n_train!r}, {n_held_out!r}, {n_observed!r}, {noise!r}"
        )
