"""Residuals of noise depend on nothing, whatever the noise; those of a wrong field on the state, or on its speed."""

import numpy as np
import pytest

import pynode as pn
from pynode.training.verdict.dependence import DEPENDS, LENGTH, LONGER, at_speed, dependence

T = np.linspace(0.0, 12.0, 101)


def spirals(count=12, seed=0):
    """(states, speeds, trajectory by trajectory) of van der Pol's oscillator, mu = 3, shifted so that sizes differ."""
    field = pn.field(state=2)(lambda t, y: [y[1], 3 * (1 - (y[0] - 3) ** 2) * y[1] - (y[0] - 3)])
    y0 = np.random.default_rng(seed).uniform([1, -2], [5, 2], (count, 2))
    y = np.concatenate(pn.solve(field, y0, T).y)
    return y, np.asarray(field(np.zeros(len(y)), y, np.zeros(0)))


STATES, SPEEDS = spirals()
KINDS = {
    "additive": lambda y, rng: 0.05 * rng.standard_normal(y.shape),
    "proportional": lambda y, rng: 0.05 * y * rng.standard_normal(y.shape),
    "both": lambda y, rng: np.hypot(0.05, 0.05 * y) * rng.standard_normal(y.shape),
    "student": lambda y, rng: 0.05 * rng.standard_t(4, y.shape),
}


def test_statistic_is_the_double_sum():
    rng = np.random.default_rng(1)
    x, r = rng.standard_normal((60, 3)), rng.standard_normal((60, 3))
    z = x / x.std(axis=0)
    squares = ((z[:, None] - z) ** 2).sum(axis=-1) / (LENGTH**2 * 1.5)
    found = dependence(x, r)
    best = np.full(3, -np.inf)
    for scale in (1.0, LONGER):
        total, variance = np.zeros(3), np.zeros(3)
        for i in range(60):
            for j in range(60):
                if i != j:
                    k = np.exp(-0.5 * squares[i, j] / scale**2)
                    total += k * r[i] * r[j]
                    variance += 2 * k**2 * r[i] ** 2 * r[j] ** 2
        best = np.maximum(best, total / np.sqrt(variance))
    np.testing.assert_allclose(found.z, best, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_depends_on_nothing(kind):
    found = []
    for seed in range(40):
        noise = KINDS[kind](STATES, np.random.default_rng(seed))
        told = dependence(STATES, noise)
        assert not told.clear.any(), seed
        assert kind == "student" or (at_speed(SPEEDS, STATES, noise) == 1).all(), seed
        found += told.z.tolist()
    assert -0.2 < np.mean(found) < 0.9 and 0.6 < np.std(found) < 1.5  # the larger of two that are alike: mean 0.3 to 0.6


def test_missing_entries_take_no_part():
    noise = KINDS["additive"](STATES, np.random.default_rng(3))
    gone = np.random.default_rng(4).random(noise.shape) < 0.5
    states = np.where(gone.all(axis=1)[:, None], np.nan, STATES)
    kept = np.where(gone, 0.0, noise)
    rows = ~gone.all(axis=1)
    np.testing.assert_allclose(dependence(states, kept).z, dependence(STATES[rows], kept[rows]).z, rtol=1e-12)
    assert (at_speed(SPEEDS, states, kept) == 1).all()


def test_misfit_in_one_place_is_found_better_than_by_lag_one():
    rng = np.random.default_rng(5)
    noise = KINDS["additive"](STATES, rng)
    wrong = noise.copy()
    wrong[:, 1] += 0.1 * ((SPEEDS[:, 1] > 2) & (np.arange(len(STATES)) % 101 > 0))
    found = dependence(STATES, wrong)
    assert found.clear.tolist() == [False, True] and found.z[1] > 2 * DEPENDS
    pairs = wrong[1:, 1] * wrong[:-1, 1]
    assert found.z[1] > pairs.sum() / (wrong[:, 1].var() * np.sqrt(len(pairs)))


@pytest.mark.parametrize("kind", ["additive", "proportional", "both"])
def test_larger_where_fast_is_found(kind):
    rng = np.random.default_rng(6)
    pace = ((SPEEDS / STATES.std(axis=0)) ** 2).sum(axis=1)
    fast = pace > np.quantile(pace, 0.9)
    noise = KINDS[kind](STATES, rng) * np.where(fast, 1.8, 1.0)[:, None]
    found = at_speed(SPEEDS, STATES, noise)
    assert (found > 2).all() and (found < 5).all()  # 1.8^2 = 3.24
    assert not dependence(STATES, noise).clear.any()


def test_readings_at_wrong_times_are_told():
    """Jitter of the times shows where the states are fast, and nowhere else."""
    rng = np.random.default_rng(7)
    field = pn.field(state=2, theta={"mu": 1.0})(lambda t, y, th: [y[1], th.mu * (1 - y[0] ** 2) * y[1] - y[0]])
    t = T + np.pad(rng.uniform(-0.04, 0.04, len(T) - 2), 1)
    y0 = rng.uniform(-2, 2, (8, 2))
    y = pn.solve(field, y0, np.sort(t), [4.0]).y + 0.02 * rng.standard_normal((8, len(T), 2))
    with pytest.warns(pn.fit.FitWarning, match="where the states are fast"):
        pn.NeuralODE(field=field).fit(T, y)
