"""Residuals that follow the control inputs are told; those of noise are not."""

import warnings

import numpy as np
import pytest

import pynode as pn
from pynode.fit import FitWarning
from pynode.training.verdict.driven_residuals import driven


@pn.field(state=1, theta={"k": pn.positive(1.0), "a": pn.positive(1.0)}, inputs=1)
def relaxing(t, y, th, u):
    return [th.a * u[0] - th.k * y[0]]


def experiment(seed, n=40, lag=0, hold=1):
    """(t, y, u) of a relaxation whose input takes effect `lag` readings late."""
    rng = np.random.default_rng(seed)
    t, u = 0.25 * np.arange(n), np.repeat(rng.standard_normal(-(-n // hold)), hold)[:n, None]
    late = np.concatenate([np.repeat(u[:1], lag, axis=0), u])[:n]
    y = pn.solve(relaxing, [0.5], t, [0.7, 1.3], inputs=(t, late, "previous")).y
    return t, y + 0.03 * rng.standard_normal(y.shape), u


def told(seed, lag, **options):
    t, y, u = experiment(seed, lag=lag)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pn.NeuralODE(field=relaxing, input_kind="previous", random_state=0, **options).fit(t, y, u=u)
    return [str(w.message) for w in said if issubclass(w.category, FitWarning)]


KINDS = pytest.mark.parametrize("kind", [{}, {"initial": [np.nan]}], ids=["plain", "likelihood"])


@KINDS
@pytest.mark.parametrize("seed", range(3))
def test_a_delay_that_is_not_declared_is_told(seed, kind):
    """Of inputs that change from one reading to the next smoothing takes all they do for noise."""
    assert any("follow the control inputs" in words and "input_delay='auto'" in words for words in told(seed, 3, **kind))
    assert told(seed, 3, input_delay=0.75) == []


@KINDS
def test_right_fits_have_no_such_warning(kind):
    for seed in range(10, 20):
        assert told(seed, 0, **kind) == []


def test_noise_is_seldom_said_to_follow_inputs():
    """Nor is noise that is alike from one reading to the next beside inputs that are."""
    for memory in (0.0, 0.9):
        alarms = 0
        for seed in range(200):
            rng = np.random.default_rng(seed)
            u, r = rng.standard_normal((2, 2, 100, 2))
            for k in range(1, 100):
                u[:, k] += memory * u[:, k - 1]
                r[:, k] += memory * r[:, k - 1]
            alarms += int(driven(list(u), list(r)).any())
        assert alarms <= 1


def test_short_or_constant_inputs_tell_nothing():
    r = [np.random.default_rng(0).standard_normal((4, 1))]
    assert not driven([np.zeros((4, 1))], r).any()
    assert not driven([np.ones((4, 3))], r).any()
    assert not driven([np.zeros((1, 1))], [np.ones((1, 1))]).any()
