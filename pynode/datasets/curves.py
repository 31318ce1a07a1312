"""Families of curves, measured with noise at few times: data for latent ODEs, with the truth to compare with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pynode.data.trajectories import Trajectories
from pynode.datasets.base import Dataset

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curves(Dataset):
    """Noisy observations of curves, and the curves.

    Attributes
    ----------
    t : tuple of (T,) arrays
        Times at which the curves are known, one array for each curve of `train`.
    clean : (n_train, T, d) array
        The curves at these times, without noise.
    t_held_out : tuple of (T,) arrays
        The same times for the curves of `held_out`.
    clean_held_out : (n_held_out, T, d) array
        The curves of `held_out` at these times, without noise.

    See Also
    --------
    pynode.datasets.spirals, pynode.datasets.periodic

    Examples
    --------
    >>> import pynode as pn
    >>> data = pn.datasets.spirals(n_train=3, n_held_out=1)
    >>> data.clean.shape, data.train.y[0].shape
    ((3, 100, 2), (30, 2))
    """

    t: tuple[Array, ...] = ()
    clean: Array | None = None
    t_held_out: tuple[Array, ...] = ()
    clean_held_out: Array | None = None


def spirals(
    random_state: int | None = 0,
    *,
    n_train: int = 500,
    n_held_out: int = 500,
    n_observed: int = 30,
    noise: float = 0.3,
    n_times: int = 500,
    window: int = 100,
) -> Curves:
    """Pieces of a spiral that winds out and of one that winds in, the toy problem of Chen et al. (2018), section 5.1.

    With s from 0 to 6 pi in `n_times` points, r = 0.3 s, x = r cos(s) + 5, y = r sin(s) turns one way, and with
    s' = 6 pi + 1 - s, r = 15 / s', x = r cos(s') - 5, y = r sin(s') the other. A curve is `window` successive points of
    either, from a random one on; the time of each starts at 0.

    Parameters
    ----------
    random_state : int or None, default 0
        The same number, the same data; None: others each time.
    n_train, n_held_out : int, default 500
        Curves to learn from and to test on; both are measured.
    n_observed : int, default 30
        Points of each window that are measured, drawn without replacement.
    noise : float, default 0.3
        Standard deviation of the measurements.
    n_times : int, default 500
        Points of a whole spiral.
    window : int, default 100
        Points of a curve.

    Returns
    -------
    Curves

    Raises
    ------
    ValueError
        A number is out of its range.

    See Also
    --------
    pynode.datasets.periodic, pynode.LatentODE

    References
    ----------
    Chen, Rubanova, Bettencourt, Duvenaud: Neural Ordinary Differential Equations, NeurIPS 2018.

    Examples
    --------
    >>> import pynode as pn
    >>> data = pn.datasets.spirals(n_train=20, n_held_out=5, n_observed=10)
    >>> len(data.train), data.train.y[0].shape
    (20, (10, 2))
    """
    _check_counts(n_train, n_held_out, n_observed, noise, window)
    if n_times <= 2 * window:
        raise ValueError(f"n_times={n_times!r} must be more than two windows of {window}")
    s = np.linspace(0.0, 6 * np.pi, n_times)
    back = s[-1] + 1 - s
    inward = np.stack([15 / back * np.cos(back) - 5, 15 / back * np.sin(back)], axis=1)
    outward = np.stack([0.3 * s * np.cos(s) + 5, 0.3 * s * np.sin(s)], axis=1)
    rng = np.random.default_rng(random_state)
    n = n_train + n_held_out
    first = rng.integers(window, n_times - window, n)
    winds_out = rng.random(n) < 0.5
    clean = np.stack([(outward if w else inward)[a : a + window] for a, w in zip(first, winds_out, strict=True)])
    t = np.broadcast_to(s[:window], (n, window))
    source = f"spirals, {n_observed} of {window} points, noise {noise:g}, random_state {random_state}"
    return _measured(rng, t, clean, n_train, n_observed, noise, ("x", "y"), source)


def periodic(
    random_state: int | None = 0,
    *,
    n_train: int = 500,
    n_held_out: int = 500,
    n_observed: int = 10,
    noise: float = 0.1,
    n_times: int = 50,
    duration: float = 5.0,
) -> Curves:
    """Sine waves of random frequency, phase and offset, each at times of its own.

    y = c + sin(2 pi f t + p): f uniform in [0.2, 0.6], p in [0, 2 pi], c normal with standard deviation 0.5. Each curve has
    `n_times` times of its own, uniform in [0, duration], of which the first `n_observed` in a random order are measured.

    Parameters
    ----------
    random_state : int or None, default 0
        The same number, the same data; None: others each time.
    n_train, n_held_out : int, default 500
        Curves to learn from and to test on; both are measured.
    n_observed : int, default 10
        Times of each curve that are measured.
    noise : float, default 0.1
        Standard deviation of the measurements.
    n_times : int, default 50
        Times at which each curve is known.
    duration : float, default 5.0
        The curves run from 0 to `duration`.

    Returns
    -------
    Curves

    Raises
    ------
    ValueError
        A number is out of its range.

    See Also
    --------
    pynode.datasets.spirals, pynode.LatentODE

    Examples
    --------
    >>> import pynode as pn
    >>> data = pn.datasets.periodic(n_train=20, n_held_out=5)
    >>> len(data.held_out), data.clean.shape
    (5, (20, 50, 1))
    """
    _check_counts(n_train, n_held_out, n_observed, noise, n_times)
    rng = np.random.default_rng(random_state)
    n = n_train + n_held_out
    t = np.sort(rng.uniform(0.0, duration, (n, n_times)), axis=1)
    f = rng.uniform(0.2, 0.6, (n, 1))
    p = rng.uniform(0, 2 * np.pi, (n, 1))
    c = 0.5 * rng.standard_normal((n, 1))
    clean = (c + np.sin(2 * np.pi * f * t + p))[:, :, None]
    source = f"sine waves, {n_observed} of {n_times} times, noise {noise:g}, random_state {random_state}"
    return _measured(rng, t, clean, n_train, n_observed, noise, ("y",), source)


def _measured(
    rng: np.random.Generator,
    t: Array,
    clean: Array,
    n_train: int,
    n_observed: int,
    noise: float,
    names: Sequence[str],
    source: str,
) -> Curves:
    """Curves clean (n, T, d) at times t (n, T), of which `n_observed` points each are measured."""
    n, length, d = clean.shape
    rows = np.sort(rng.permuted(np.broadcast_to(np.arange(length), (n, length)), axis=1)[:, :n_observed], axis=1)
    y = np.take_along_axis(clean, rows[:, :, None], axis=1) + noise * rng.standard_normal((n, n_observed, d))
    times = np.take_along_axis(t, rows, axis=1)
    train = slice(n_train)
    rest = slice(n_train, None)
    return Curves(
        Trajectories.from_arrays(list(times[train]), list(y[train]), names=names),
        Trajectories.from_arrays(list(times[rest]), list(y[rest]), names=names) if n > n_train else None,
        source=source,
        t=tuple(t[train]),
        clean=clean[train],
        t_held_out=tuple(t[rest]),
        clean_held_out=clean[rest],
    )


def _check_counts(n_train: int, n_held_out: int, n_observed: int, noise: float, n_times: int) -> None:
    if n_train < 1 or n_held_out < 0 or not 1 <= n_observed <= n_times or not noise >= 0:
        raise ValueError(
            f"needs n_train >= 1, n_held_out >= 0, 1 <= n_observed <= {n_times} and noise >= 0, got "
            f"{n_train!r}, {n_held_out!r}, {n_observed!r}, {noise!r}"
        )
