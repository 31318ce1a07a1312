"""Equations that are found from readings whose noise grows with the states: their bands grow, too."""

import numpy as np
import pytest

import pynode as pn

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
