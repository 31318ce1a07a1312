"""Systems on which no default was tuned: learned with defaults, compared with the truth where nothing was measured."""

import numpy as np
import pytest

import pynode as pn
from pynode import NeuralODE
from pynode.fit import FitWarning


@pn.field(state=2)
def fitzhugh_nagumo(t, y):
    v, w = y
    return [v - v**3 / 3 - w + 0.5, 0.08 * (v + 0.7 - 0.8 * w)]


@pn.field(state=2)
def double_well(t, y):
    x, v = y
    return [v, x - x**3 - 0.3 * v]


@pn.field(state=3)
def lorenz(t, y):
    x, y, z = y
    return [10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z]


def measured(field, y0, t, part, seed=0):
    """(clean, with noise of this part of the standard deviation, standard deviation of the noise)."""
    clean = pn.solve(field, y0, t, rtol=1e-9, atol=1e-9).y
    sigma = part * clean.std(axis=(0, 1))
    return clean, clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape), sigma


@pytest.mark.parametrize(
    "field, n, span, reach, limit",
    [
        (fitzhugh_nagumo, 8, np.linspace(0, 60, 121), (2.0, 1.5), 0.06),
        (double_well, 10, np.linspace(0, 12, 80), (1.5, 1.2), 0.03),
    ],
    ids=["FitzHugh-Nagumo", "double well"],
)
def test_oscillators(field, n, span, reach, limit):
    rng = np.random.default_rng(0)
    clean, noisy, sigma = measured(field, rng.uniform(-reach[0], reach[0], (n, 2)), span, 0.03)
    model = NeuralODE(random_state=0).fit(span, noisy)
    np.testing.assert_allclose(list(model.report_["noise"].values()), sigma, rtol=0.08)
    new = rng.uniform(-reach[1], reach[1], (6, 2))
    truth = pn.solve(field, new, span, rtol=1e-9, atol=1e-9).y
    error = np.sqrt(np.mean((model.predict(span, new) - truth) ** 2, axis=(1, 2))) / clean.std()
    assert np.median(error) < limit


def test_chaos_in_short_stretches():
    start = pn.solve(lorenz, [1.0, 1.0, 20.0], np.linspace(0, 30, 40)).y[8:]
    t = np.linspace(0, 1.0, 51)
    clean, noisy, _ = measured(lorenz, start[:16], t, 0.02)
    model = NeuralODE(random_state=0).fit(t, noisy)
    truth = pn.solve(lorenz, start[20:26], t, rtol=1e-9, atol=1e-9).y
    error = np.sqrt(np.mean((model.predict(t, start[20:26]) - truth) ** 2, axis=(1, 2))) / clean.std()
    assert np.median(error) < 0.1


def test_chaos_over_long_times_keeps_what_windows_taught():
    start = pn.solve(lorenz, [1.0, 1.0, 20.0], np.linspace(0, 30, 40)).y[8:]
    t = np.linspace(0, 12, 481)
    clean, noisy, _ = measured(lorenz, start[:2], t, 0.02)
    with pytest.warns(FitWarning, match="cannot be followed over whole trajectories"):
        model = NeuralODE(random_state=0, max_iter=30).fit(t, noisy)
    slope, learned = lorenz(0.0, clean[0]), model.derivative(clean[0])
    assert np.sqrt(np.mean((learned - slope) ** 2)) < 0.2 * slope.std()


def test_exponential_decay():
    """y' = -2 y with a network of 8: the field on the range of the data."""
    t, y0 = np.linspace(0, 2, 41), np.linspace(-2, 2, 20)
    clean = y0[:, None, None] * np.exp(-2 * t)[:, None]
    grid = np.linspace(-2, 2, 41)[:, None]
    for sigma, limit in ((0.0, 1e-4), (0.01, 0.05)):
        y = clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)
        model = NeuralODE(hidden=(8,), random_state=0).fit(t, y)
        assert np.abs(model.derivative(grid) + 2 * grid).max() < limit


def test_damped_oscillator():
    @pn.field(state=2, theta={"k": pn.positive(0.5), "c": pn.positive(0.1)})
    def physics(t, y, th):
        return [y[1], -th.k * y[0] - th.c * y[1]]

    t, y0 = np.linspace(0, 4, 50), np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5]])
    new = np.random.default_rng(0).uniform(-0.7, 0.7, (20, 2))
    clean, want = (pn.solve(physics, y, t, [1.0, 0.5], rtol=1e-11, atol=1e-12).y for y in (y0, new))
    network = NeuralODE(hidden=(16,), random_state=0).fit(t, clean)
    assert np.mean((network.predict(t, new) - want) ** 2) < 1e-7
    known = NeuralODE(field=physics, random_state=0).fit(t, clean)
    np.testing.assert_allclose(known.theta_, [1.0, 0.5], rtol=1e-4)
