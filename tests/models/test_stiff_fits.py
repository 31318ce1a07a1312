"""Fits of stiff equations: rates over nine decades, states over five, times over eleven; SciPy's Radau is the reference."""

import warnings

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import pynode as pn

RATES = np.array([0.04, 1e4, 3e7])
SIZES = np.array([1.0, 3.6e-5, 1.0])
T = np.concatenate([[0.0], np.logspace(-5, 6, 60)])
FAR = {"near": RATES, "3x": RATES * [3, 0.3, 3], "10x": RATES * [10, 0.1, 0.1], "100x": RATES * [0.01, 100, 100]}


def robertson_of(k1, k2, k3):
    @pn.field(state=3, theta={"k1": k1, "k2": k2, "k3": k3})
    def robertson(t, y, th):
        slow = th.k1 * y[0]
        back = th.k2 * y[1] * y[2]
        fast = th.k3 * y[1] ** 2
        return [back - slow, slow - back - fast, fast]

    return robertson


def positive(start):
    return robertson_of(*(pn.positive(float(k)) for k in start))


def radau(rates):
    k1, k2, k3 = rates

    def f(t, y):
        return [k2 * y[1] * y[2] - k1 * y[0], k1 * y[0] - k2 * y[1] * y[2] - k3 * y[1] ** 2, k3 * y[1] ** 2]

    def jacobian(t, y):
        middle = [k1, -k2 * y[2] - 2 * k3 * y[1], -k2 * y[1]]
        return [[-k1, k2 * y[2], k2 * y[1]], middle, [0, 2 * k3 * y[1], 0]]

    options = {"jac": jacobian, "rtol": 1e-8, "atol": [1e-10, 1e-14, 1e-10]}
    return solve_ivp(f, (0, T[-1]), [1.0, 0, 0], "Radau", T, **options).y.T


CLEAN = radau(RATES)


def noisy(seed=0):
    return CLEAN + 0.02 * SIZES * np.random.default_rng(seed).standard_normal(CLEAN.shape)


def fit(field, y, t=T, **options):
    """A fit that has nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return pn.NeuralODE(field=field, method="rodas5p", **options).fit(t, y)


def relative_errors(model):
    return np.sqrt(np.diag(model.covariance_)) / model.theta_


def test_rates_and_errors_are_those_of_least_squares_around_radau():
    y = noisy()
    model = fit(positive(FAR["10x"]), y, initial=[1.0, 0, 0])
    h = 1e-3
    sides = [[radau(model.theta_ * np.exp(s * h * e)) for s in (1, -1)] for e in np.eye(3)]
    r = radau(model.theta_) - y
    sigma = np.sqrt(np.mean(r**2, axis=0) * y.size / (y.size - 3))
    J = np.stack([((up - down) / (2 * h) / sigma).ravel() for up, down in sides], axis=1)
    covariance = np.linalg.inv(J.T @ J)
    errors = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(relative_errors(model), errors, rtol=5e-3)
    left = covariance @ J.T @ (r / sigma).ravel()  # the step that Gauss and Newton would go from there
    assert np.abs(left / errors).max() < 0.01


@pytest.mark.parametrize("start", FAR)
def test_every_start_leads_to_the_same_rates(start):
    y = noisy()
    best = fit(positive(RATES), y, initial=[1.0, 0, 0]).theta_
    np.testing.assert_allclose(fit(positive(FAR[start]), y, initial=[1.0, 0, 0]).theta_, best, rtol=1e-4)


@pytest.mark.parametrize("start", FAR)
@pytest.mark.parametrize(
    "of", [pn.positive, float, lambda k: pn.bounded(k, 1e-6, 1e10)], ids=["positive", "plain", "bounded"]
)
def test_slopes_and_windows_where_initial_states_are_unknown(start, of):
    """Plain rates took no steps in the units of the largest; of bounds nine decades apart the lower one was reported."""
    best = fit(positive(RATES), noisy(), windows=(None,)).theta_
    model = fit(robertson_of(*(of(float(k)) for k in FAR[start])), noisy())
    np.testing.assert_allclose(model.theta_, best, rtol=2e-4)
    assert model.report_["stages"][0]["name"] == "slopes"


def test_standard_errors_are_calibrated():
    z = []
    for seed in range(8):
        model = fit(positive(FAR["3x"]), noisy(seed), initial=[1.0, 0, 0])
        z.append(np.log(model.theta_ / RATES) / relative_errors(model))
    assert 0.7 < np.sqrt(np.mean(np.square(z))) < 1.3  # 24 normal deviates: 0.72 .. 1.28 in 95 of 100 cases
