"""Fits of stiff equations: rates over nine decades, states over five, times over eleven; a fast reaction beside a network; a
reaction of which the data determine a part. SciPy's Radau is the reference."""

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


FAST = 1e4


@pn.field(state=3, theta={"U": pn.mlp(1, (8,), 2)})
def hybrid(t, y, th):
    """Prey and predators meet by a fast reaction that is known; what becomes of them then is not."""
    U = th.U(y[2:])
    return [1.3 * y[0] - U[0], U[1] - 1.8 * y[1], FAST * (y[0] * y[1] - y[2])]


def meetings(y0, t):
    def f(t, y):
        eaten = y[2] / (1 + 0.2 * y[2])
        return [1.3 * y[0] - 0.9 * eaten, 0.8 * eaten - 1.8 * y[1], FAST * (y[0] * y[1] - y[2])]

    return solve_ivp(f, (0, t[-1]), y0, "Radau", t, rtol=1e-9, atol=1e-11).y.T


def test_a_network_beside_a_fast_reaction_that_is_known():
    """The fast state is never measured."""
    t = np.linspace(0, 3, 61)
    clean = np.stack([meetings(y0, t) for y0 in ([1.0, 1.5, 0.0], [3.0, 1.0, 0.0], [2.0, 2.0, 0.0])])
    y = clean + 0.03 * np.random.default_rng(0).standard_normal(clean.shape)
    y[:, :, 2] = np.nan
    model = fit(hybrid, y, t)
    new = [1.5, 1.5, 0.0]
    error = pn.solve(hybrid, new, t, model.theta_, method="rodas5p").y - meetings(new, t)
    assert np.sqrt(np.mean(error[:, :2] ** 2, axis=0)).max() < 0.02 * clean[:, :, 0].max()


def exchange(t, y, k1, k2, k3, k4):
    """A goes to a fleeting X, which goes to B or to C; B goes back to A."""
    made = k1 * y[0]
    to_b = k2 * y[1]
    to_c = k3 * y[1]
    back = k4 * y[2]
    return [back - made, made - to_b - to_c, to_b - back, to_c]


def test_of_a_fleeting_species_only_the_quotient_of_rates_is_determined():
    rates = np.array([0.5, 3e6, 1e6, 0.2])
    start = [1.0, 0.0, 0.0, 0.0]
    t = np.linspace(0, 10, 41)

    def reference(k):
        return solve_ivp(exchange, (0, t[-1]), start, "Radau", t, args=tuple(k), rtol=1e-9, atol=1e-13).y.T

    @pn.field(state=4, theta={f"k{j + 1}": pn.positive(k) for j, k in enumerate((1.0, 1e6, 1e6, 0.1))})
    def reaction(t, y, th):
        return exchange(t, y, th.k1, th.k2, th.k3, th.k4)

    y = reference(rates) + 0.01 * np.random.default_rng(0).standard_normal((41, 4))
    y[:, 1] = np.nan
    with pytest.warns(UserWarning, match="do not determine k2"):
        model = pn.NeuralODE(field=reaction, method="rodas5p", initial=start).fit(t, y)
    assert model.summary().combinations == ("only k2 / k3 is determined by the data, not k2 and k3 by themselves",)
    moved = reference(model.theta_ * [1, 2, 2, 1]) - reference(model.theta_)
    assert np.abs(moved).max() < 1e-5
    found = model.theta_[[0, 3]]
    assert (np.abs(found - rates[[0, 3]]) < 3 * np.sqrt(np.diag(model.covariance_)[[0, 3]])).all()
    assert np.isclose(model.theta_[1] / model.theta_[2], 3, rtol=0.1)
