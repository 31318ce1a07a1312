"""Two ends of the scale: chaos over long times, and linear systems."""

import numpy as np
import pytest

import pynode as pn
from pynode import NeuralODE
from pynode.fit import FitWarning


@pn.field(state=3)
def lorenz(t, y):
    x, y, z = y
    return [10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z]


def measured(field, y0, t, part, seed=0):
    """(clean, with noise of this part of the standard deviation, standard deviation of the noise)."""
    clean = pn.solve(field, y0, t, rtol=1e-9, atol=1e-9).y
    sigma = part * clean.std(axis=(0, 1))
    return clean, clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape), sigma


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # few iterations
def test_chaos_over_long_times_keeps_what_windows_taught():
    start = pn.solve(lorenz, [1.0, 1.0, 20.0], np.linspace(0, 30, 40)).y[8:]
    t = np.linspace(0, 25, 1001)
    clean, noisy, _ = measured(lorenz, start[:2], t, 0.02)
    with pytest.warns(FitWarning, match="whole trajectories|windows of [0-9]+"):
        model = NeuralODE(skip=True, random_state=0, max_iter=30).fit(t, noisy)
    slope, learned = lorenz(0.0, clean[0]), model.derivative(0.0, clean[0])
    assert np.sqrt(np.mean((learned - slope) ** 2)) < 0.2 * slope.std()


def test_exponential_decay():
    """y' = -2 y with a network of 8: the field on the range of the data."""
    t, y0 = np.linspace(0, 2, 41), np.linspace(-2, 2, 20)
    clean = y0[:, None, None] * np.exp(-2 * t)[:, None]
    grid = np.linspace(-2, 2, 41)[:, None]
    for sigma, limit in ((0.0, 1e-4), (0.01, 0.05)):
        y = clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)
        model = NeuralODE(hidden=(8,), random_state=0).fit(t, y)
        assert np.abs(model.derivative(0.0, grid) + 2 * grid).max() < limit
