"""Profile likelihood against closed forms."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import chi2, t

from pynode.training.likelihood.profile import Scale, profile, rise_of

T = np.linspace(0.5, 5, 12)


def counted(deviance):
    calls = []

    def call(index, value, start):
        calls.append(value)
        return deviance(value), start

    return call, calls


def test_a_linear_model_has_students_interval():
    rng = np.random.default_rng(0)
    X = np.stack([np.ones(12), T], axis=1)
    y = X @ [1.0, 2.0] + 0.3 * rng.standard_normal(12)
    best, rss = np.linalg.lstsq(X, y, rcond=None)[:2]

    def deviance(index, value, start):
        other = X[:, 1 - index]
        rest = y - value * X[:, index]
        a = other @ rest / (other @ other)
        return 12 * np.log(np.sum((rest - a * other) ** 2)), a

    error = np.sqrt(np.diag(rss[0] / 10 * np.linalg.inv(X.T @ X)))
    for k in range(2):
        found = profile(
            deviance, k, best[k], best[1 - k], 12 * np.log(rss[0]), rise=rise_of(0.9, 12, 10), width=error[k], level=0.9
        )
        np.testing.assert_allclose(
            [found.low, found.high], best[k] + np.array([-1, 1]) * t.ppf(0.95, 10) * error[k], rtol=2e-3
        )
        assert found.words == ()


@pytest.mark.parametrize("width", [np.nan, 1e-3, 0.3, 50.0])
def test_a_rate_of_events(width):
    """Seven events in a time of 2: the deviance of a rate r is 2 (2 r - 7 log r)."""
    deviance, calls = counted(lambda r: 2 * (2 * r - 7 * np.log(r)))
    least = deviance(0, 3.5, None)[0]
    found = profile(deviance, 0, 3.5, None, least, width=width, scale=Scale("log"))

    def miss(r):
        return 2 * (2 * r - 7 * np.log(r)) - least - chi2.ppf(0.95, 1)

    np.testing.assert_allclose([found.low, found.high], [brentq(miss, 0.1, 3.5), brentq(miss, 3.5, 50)], rtol=3e-3)
    assert len(calls) < 45
    assert (np.diff(found.values) > 0).all()
    assert found.rise[np.searchsorted(found.values, 3.5)] == 0


def test_a_flat_profile_has_no_end():
    """1 - exp(-r): all large rates are alike."""
    deviance, _ = counted(lambda r: 100 * (1 - np.exp(-r) - 0.95) ** 2)
    found = profile(deviance, 0, -np.log(0.05), None, 0.0, scale=Scale("log"), width=1.0, name="r")
    assert found.high == np.inf
    assert 0 < found.low < 2
    assert len(found.words) == 1
    assert found.words[0] == (
        "the upper end of r is open: up to a factor of 1e+06 the deviance rises by no more than 0.25 of 3.84"
    )


def test_no_influence():
    deviance, _ = counted(lambda x: 3.0)
    found = profile(deviance, 0, 0.5, None, 3.0, scale=Scale("logit", 0.0, 1.0))
    assert (found.low, found.high) == (0.0, 1.0)
    assert len(found.words) == 2
    found = profile(deviance, 0, 0.5, None, 3.0)
    assert (found.low, found.high) == (-np.inf, np.inf)


def test_where_nothing_can_be_computed_the_interval_ends():
    deviance, _ = counted(lambda x: x * x if x < 1.5 else np.inf)
    found = profile(deviance, 0, 0.0, None, 0.0, width=1.0)
    assert found.low == pytest.approx(-1.96, abs=5e-3)
    assert found.high == pytest.approx(1.5, abs=1e-3)
    assert "can still be solved" in found.words[0]


def test_a_better_fit_is_told():
    deviance, _ = counted(lambda x: x * x - 2 * np.exp(-((x - 1) ** 2) / 0.1) if x > 0 else x * x)
    found = profile(deviance, 0, 0.0, None, 0.0, width=1.0, between=7, name="k")
    assert any("better fit was found at k" in words for words in found.words)


def test_the_rise():
    assert rise_of(0.95) == pytest.approx(3.8415, abs=1e-4)
    assert rise_of(0.95, 1e7, 1e7 - 3) == pytest.approx(3.8415, abs=1e-3)
    assert rise_of(0.95, 3, 0) == rise_of(0.95)


@pytest.mark.parametrize("scale", [Scale(), Scale("log"), Scale("logit", -1.0, 5.0)])
def test_scales(scale):
    u = scale.inside(2.0)
    assert scale.outside(u) == pytest.approx(2.0)
    assert scale.slope(2.0) == pytest.approx((scale.outside(u + 1e-6) - scale.outside(u - 1e-6)) / 2e-6, rel=1e-6)
