"""Two ends of the scale: chaos over long times, and linear systems."""

import re
import warnings

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
    clean, noisy, sigma = measured(lorenz, start[:2], t, 0.02)
    model = NeuralODE(skip=True, random_state=0, max_iter=30).fit(t, noisy)
    told = any(re.search("whole trajectories|windows of [0-9]+", words) for words in model.report_["warnings"])
    noise = np.array([model.report_["noise"][name] for name in model.names_])
    assert told or np.allclose(noise, sigma, rtol=0.1)  # or the last digits lead to a fit that follows all of it
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


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e12, 1e30])
def test_an_equation_does_not_depend_on_units(size):
    t = np.linspace(0, 10, 60)
    model = NeuralODE(random_state=0).fit(t, size * np.stack([np.cos(t), np.sin(t)], axis=1))
    assert str(model.equation()) == "dy1/dt = -y2\ndy2/dt = y1"


@pytest.mark.parametrize(
    ("t", "y", "u", "name"),
    [(1, 1e200, 1, "y1"), (1, 1e-160, 1, "y1"), (1e160, 1, 1, "t"), (1e-200, 1, 1, "t"), (1, 1, 1e160, "u1")],
)
def test_sizes_that_floating_point_cannot_square_are_refused(t, y, u, name):
    times = np.linspace(0, 10, 60)
    said = f"^{name} is up to .* in size, not from 1e-152 to 1e.152, .*: give it in other units$"
    with pytest.raises(ValueError, match=said):
        NeuralODE(random_state=0).fit(t * times, y * np.cos(times)[:, None], u=u * np.sin(times)[:, None])


@pytest.mark.parametrize("size", [1e-100, 1e-60, 1e40, 1e100])
def test_no_equation_is_looked_for_where_products_are_beyond_floating_point(size):
    t = np.linspace(0, 10, 60)
    y = np.stack([np.cos(t), np.sin(t)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("ignore", FitWarning)
        model = NeuralODE(random_state=0).fit(t, size * y)
    with pytest.raises(ValueError, match="the model is a network"):
        model.equation()
    assert np.allclose(model.predict(t, trajectory=0) / size, y, atol=1e-2)
    with pytest.raises(ValueError, match=r"^structure='equation' cannot be had: y1 is up to .* in size, not from 1e-50 to"):
        NeuralODE(random_state=0, structure="equation").fit(t, size * y)


@pytest.mark.parametrize("structure", ["auto", "network"])
def test_data_that_never_change_are_told(structure):
    t = np.linspace(0, 10, 60)
    with pytest.warns(FitWarning, match="^nothing changes in the data"):
        model = NeuralODE(structure=structure, random_state=0).fit(t, np.full((60, 2), 3.0))
    assert np.allclose(model.predict(t, [3.0, 3.0]), 3.0)
    assert np.isinf(model.predict(t, [3.0, 4.0], interval=0.9).upper[1:]).all()
