"""Readings far from a fit by least squares are told, and only those."""

import numpy as np
import pytest

import pynode as pn
from pynode.training.verdict.outliers import lying_far

T = np.linspace(0, 10, 101)
SPRING = pn.field(state=2, theta={"mu": 0.6, "k": 1.5})(
    lambda t, y, th: [y[1], th.mu * (1 - y[0] ** 2) * y[1] - th.k * y[0]]
)
SAMPLE = np.repeat(np.arange(6), 100)


def measured(far=0.0, where=(2, 50, 0)):
    rng = np.random.default_rng(0)
    clean = pn.solve(SPRING, 1.5 * rng.normal(size=(6, 2)), T, [1.0, 1.0], rtol=1e-9, atol=1e-9).y
    y = clean + 0.02 * rng.normal(size=clean.shape)
    y[where] += far
    return y


def test_noise_has_none():
    rng = np.random.default_rng(1)
    for _ in range(300):
        assert not len(lying_far(rng.standard_normal(600), SAMPLE))
        assert not len(lying_far(rng.standard_normal(600) * np.exp(-0.05 * np.tile(np.arange(100), 6)), SAMPLE))
        assert not len(lying_far(rng.standard_normal(600) * np.where(np.tile(np.arange(100), 6) < 20, 30.0, 1.0), SAMPLE))


@pytest.mark.parametrize("where", [[0], [99], [100], [250, 251], [3, 303, 599]])
def test_outliers_are_found(where):
    z = np.random.default_rng(2).standard_normal(600)
    z[where] = [-40.0, 30.0, 20.0][: len(where)]
    assert lying_far(z, SAMPLE).tolist() == where


def test_nothing_is_said_of_few_readings_or_of_many_far_ones():
    z = np.random.default_rng(3).standard_normal(600)
    z[5] = 100.0
    assert not len(lying_far(z[:15], SAMPLE[:15]))
    z[::10] = 100.0
    assert not len(lying_far(z, SAMPLE))
    assert not len(lying_far(np.zeros(0), SAMPLE[:0])) and not len(lying_far(np.zeros(50), SAMPLE[:50]))


FITS = {
    "own field": {"field": SPRING},
    "protocol": {"field": SPRING, "initial": [np.nan, np.nan]},
    "error model": {"field": SPRING, "noise": "combined"},
    "equation": {},
    "network": {"structure": "network", "hidden": (6,), "max_iter": 40},
}


@pytest.mark.parametrize("kind", FITS)
def test_a_fit_names_the_reading(kind):
    with pytest.warns(pn.fit.FitWarning):
        model = pn.NeuralODE(random_state=0, **FITS[kind]).fit(T, measured(3.0))
    told = [words for words in model.report_["warnings"] if "far from the fit" in words]
    assert any(words.startswith("y1: ") and "at t = 5 of trajectory 2, " in words for words in told)


@pytest.mark.parametrize("options", [{"field": SPRING}, {"field": SPRING, "initial": [np.nan, np.nan]}])
def test_nothing_is_said_where_there_are_none_or_they_are_borne(options):
    for y, noise in ((measured(), "gaussian"), (measured(0.1), "gaussian"), (measured(3.0), "student")):
        model = pn.NeuralODE(random_state=0, noise=noise, **options).fit(T, y)
        assert not model.report_["warnings"]
