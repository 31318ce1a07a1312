"""Equations that are found from readings whose noise grows with the states: their bands grow, too."""

from dataclasses import replace

import numpy as np
import pytest

import pynode as pn
from pynode.data.trajectories import Trajectories
from pynode.models.trajectories.equations.structure import EquationFit
from pynode.training.equations.noise_shape import grown, shape_along

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
