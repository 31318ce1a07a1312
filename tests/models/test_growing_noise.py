"""Equations that are found from readings whose noise grows with the states: their bands grow, too."""

from dataclasses import replace

import numpy as np
import pytest

import pynode as pn
from pynode.data.trajectories import Trajectories
from pynode.models.trajectories.equations.structure import EquationFit
from pynode.training.equations.noise_shape import grown, grows_where_slow, shape_along

T = np.linspace(0, 8, 150)
DECAY = 10 * np.exp(-0.4 * T)[:, None]


def readings(seed):
    return DECAY * (1 + 0.1 * np.random.default_rng(seed).standard_normal(DECAY.shape))


@pytest.mark.parametrize("seed", [100, 102])
def test_bands_hold_where_the_noise_is_large_and_where_it_is_small(seed, tmp_path):
    model = pn.NeuralODE(random_state=0).fit(T, readings(seed))
    row = model.report_["error_models"]["y1"]
    assert row["proportional"] == pytest.approx(0.1, rel=0.15) and row["additive"] < 0.03
    band = model.predict(T, [10.0], interval=0.9, kind="prediction")
    new = np.concatenate([readings(seed) for seed in range(20)], axis=1)
    inside = (band.lower <= new) & (new <= band.upper)
    assert 0.78 < inside[:40].mean() < 0.98 and 0.78 < inside[-40:].mean() < 0.98
    known = pn.NeuralODE(
        field=pn.field(state=1, theta={"k": 0.3})(lambda t, y, th: [-th.k * y[0]]), noise="combined", initial=[np.nan]
    ).fit(T, readings(seed))
    assert row["proportional"] == pytest.approx(known.report_["error_models"]["y1"]["proportional"], rel=0.03)
    model.save(tmp_path / "model.npz")
    again = pn.load(tmp_path / "model.npz").predict(T, [10.0], interval=0.9, kind="prediction")
    np.testing.assert_allclose(again.upper, band.upper, rtol=1e-12)


def test_no_error_model_where_noise_does_not_grow_or_weights_tell_it():
    rng = np.random.default_rng(3)
    plain = pn.NeuralODE(random_state=0).fit(T, DECAY + 0.1 * rng.standard_normal(DECAY.shape))
    weighted = pn.NeuralODE(random_state=0).fit(T, readings(3), weight=1 / DECAY**2)
    assert "error_models" not in plain.report_ and "error_models" not in weighted.report_


@pytest.mark.parametrize("grows", [True, False])
@pytest.mark.parametrize("claimed", [0.0, 0.9])
def test_weights_are_those_of_the_residuals_that_are_left(grows, claimed):
    """What the noise was taken for while terms were chosen is forgotten: trajectories were not followed well then."""
    rng = np.random.default_rng(5)
    size = 0.1 * (DECAY if grows else np.ones_like(DECAY))
    data = Trajectories([T], [DECAY + size * rng.standard_normal(DECAY.shape)], ("y1",))
    equation = EquationFit(pn.NeuralODE(), data, None, 0)
    best = equation.candidates[0]
    y = np.concatenate(best.fitted.guess.states)
    guess = replace(best.fitted.guess, shape=grown(y, np.array([claimed]), np.array([np.mean(y**2)])))
    equation.candidates = [replace(best, fitted=replace(best.fitted, guess=guess))]
    equation.train()
    residual = data.y[0] - equation.run.training.states[0]
    shape = shape_along(equation.run.training.states[0], equation.inside)
    assert np.ptp(shape) > 0 if grows else not np.ptp(shape)
    expected = np.sqrt(np.mean(residual**2 / shape))
    assert np.sqrt(equation.run.variance[0]) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("misses", [True, False])
def test_fast_jumps_that_a_model_misses_are_no_growing_noise(misses):
    """Jumps that end far from 0: what is left there alone may be misfit; what is left of slow states far from 0 is not."""
    rng = np.random.default_rng(2)
    high = np.where(np.arange(300) % 30 < 10, 1.0, 0.1)
    fast = np.arange(300) % 30 < (3 if misses else 1)
    size = np.where(fast, 0.5, 0.02) if misses else 0.1 * high
    residual = (size * rng.standard_normal(300))[:, None]
    found = grows_where_slow(residual, high[:, None], np.where(fast, 5.0, 0.01)[:, None])
    assert found.tolist() == [not misses]
    assert grows_where_slow(0.1 * rng.standard_normal((300, 1)), high[:, None], np.ones((300, 1))).tolist() == [True]


def test_an_equation_that_misses_fast_jumps_does_not_call_them_noise():
    """Calcium in a cell (Li and Rinzel 1994): spikes at the start; their misfit was taken for noise of 5 % of the state."""

    @pn.field(state=2)
    def calcium(t, y):
        c, h = y
        m = c / (c + 0.13) * 0.5 / 0.63
        q = 1.05 * 0.63 / 1.44
        return [
            0.185 * (6 * (m * h) ** 3 + 0.11) * ((2 - c) / 0.185 - c) - 0.9 * c * c / (0.01 + c * c),
            0.2 * (q - (q + c) * h),
        ]

    rng = np.random.default_rng(1)
    t = np.linspace(0, 60, 101)
    clean = pn.solve(calcium, rng.uniform([0.05, 0.2], [0.6, 0.9], (12, 2)), t, rtol=1e-9, atol=1e-9).y
    noise = 0.1 * clean.std(axis=(0, 1))
    model = pn.NeuralODE(random_state=0).fit(t, clean + noise * rng.standard_normal(clean.shape))
    np.testing.assert_allclose(list(model.report_["noise"].values()), noise, rtol=0.07)
