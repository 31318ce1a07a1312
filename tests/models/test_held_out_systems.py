"""Systems on which no default was tuned: FitzHugh-Nagumo, Lorenz, a double well, known physics, y' = -2 y."""

import numpy as np
import pytest

import pynode as pn
from pynode import NeuralODE

TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def z_scores(model, true):
    """Errors of theta_ in standard deviations."""
    return (model.theta_ - true) / np.sqrt(np.diag(model.covariance_))


# ---- FitzHugh-Nagumo with an input current -------------------------------------------------------------------------

NERVE = np.array([0.7, 0.8, 0.08])


@pn.field(state=2, theta={"a": pn.positive(0.4), "b": pn.bounded(0.5, 0, 2), "e": pn.positive(0.2)}, inputs=1)
def nerve(t, y, th, u):
    v, w = y
    return [v - v**3 / 3 - w + u[0], th.e * (v + th.a - th.b * w)]


def spikes(n, sigma=0.02, seed=0):
    rng, t = np.random.default_rng(seed), np.linspace(0, 40, 161)
    current, y0 = rng.uniform(0.2, 0.8, (n, 1)), rng.uniform(-1.5, 1.5, (n, 2))
    clean = pn.solve(nerve, y0, t, NERVE, inputs=current, **TIGHT).y
    return t, current, clean, clean + sigma * rng.standard_normal(clean.shape)


def test_fitzhugh_nagumo_by_a_network():
    """Measured: mean squared error of rollouts 1e-4 (noise 4e-4), noise within 2 %."""
    t, current, clean, y = spikes(5)
    model = NeuralODE(structure="network", random_state=0).fit(t, y, u=current)
    assert np.mean((model.predict(t, clean[:, 0], u=current) - clean) ** 2) < 1e-3
    np.testing.assert_allclose(list(model.report_["noise"].values()), 0.02, rtol=0.06)
    assert [stage["status"] for stage in model.report_["stages"][-3:]] == ["converged"] * 3
    for i in range(2):
        for at in (clean[i, 40], clean[i, 90]):
            exact = nerve(0.0, at, NERVE, current[i])
            np.testing.assert_allclose(model.derivative(0.0, at, u=current[i]), exact, atol=0.1)


@pytest.mark.parametrize("optimizer", ["levenberg-marquardt", "lbfgs"])
def test_fitzhugh_nagumo_known_up_to_its_constants(optimizer):
    t, current, _, y = spikes(3, seed=1)
    model = NeuralODE(field=nerve, optimizer=optimizer, random_state=0).fit(t, y, u=current)
    np.testing.assert_allclose(model.theta_, NERVE, rtol=0.02)
    if optimizer == "levenberg-marquardt":
        assert np.abs(z_scores(model, NERVE)).max() < 4


def test_fitzhugh_nagumo_from_the_voltage_alone():
    """As in the laboratory: the recovery variable is never measured. 4 standard errors, and below 5 %."""
    t, current, clean, y = spikes(3, seed=2)
    y[:, :, 1] = np.nan
    model = NeuralODE(field=nerve, random_state=0).fit(t, y, u=current)
    assert np.abs(z_scores(model, NERVE)).max() < 4
    np.testing.assert_allclose(model.theta_, NERVE, rtol=0.05)
    assert np.abs(model.predict(t, trajectory=1) - clean[1]).max() < 0.1


# ---- Hindmarsh and Rose (1984): bursts of spikes --------------------------------------------------------------------


def test_spikes_that_smoothing_loses():
    """Smoothed spikes lead to no equation, and the network's states to one of too many terms, which are chosen again."""

    @pn.field(state=3)
    def bursts(t, y):
        v, w, z = y
        return [w - v**3 + 3 * v**2 - z + 3, 1 - 5 * v**2 - w, 0.01 * (4 * (v + 1.6) - z)]

    rng, t = np.random.default_rng(0), np.linspace(0, 40, 201)
    clean = pn.solve(bursts, rng.uniform([-1.5, -6, 2.5], [1.5, 0, 3.5], (6, 3)), t, **TIGHT).y
    y = clean + 0.02 * clean.std((0, 1)) * rng.standard_normal(clean.shape)
    model = NeuralODE(random_state=0).fit(t, y)
    assert model.report_["message"].startswith("an equation of 11 terms")
    error = (model.predict(t, clean[:, 0]) - clean) / clean.std((0, 1))
    assert np.median(np.sqrt(np.mean(error**2, axis=(1, 2)))) < 2e-3


# ---- Lorenz --------------------------------------------------------------------------------------------------------

CHAOS = np.array([10.0, 28.0, 8 / 3])


@pn.field(state=3, theta={"s": pn.positive(5.0), "r": pn.positive(20.0), "b": pn.positive(1.0)})
def lorenz(t, y, th):
    return [th.s * (y[1] - y[0]), y[0] * (th.r - y[2]) - y[1], y[0] * y[1] - th.b * y[2]]


def butterfly(end, n, sigma=0.05):
    t = np.linspace(0, end, n)
    clean = pn.solve(lorenz, [1.0, 1.0, 20.0], t, CHAOS, rtol=1e-10, atol=1e-10).y
    return t, clean, clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)


@pytest.mark.filterwarnings("ignore:the data determine the network loosely")
def test_lorenz_from_short_windows():
    """Relative error of the field over the attractor; measured 0.8 % with four times the data."""
    t, clean, y = butterfly(4, 201)
    model = NeuralODE(hidden=(16,), windows=(5, 10), random_state=0).fit(t, y)
    slope = lorenz(0.0, clean, CHAOS)
    assert np.sqrt(np.mean((model.derivative(0.0, clean) - slope) ** 2)) < 0.05 * slope.std()
    np.testing.assert_allclose(list(model.report_["noise"].values()), 0.05, rtol=0.2)


def test_lorenz_known_up_to_its_constants():
    t, _, y = butterfly(3, 151)
    model = NeuralODE(field=lorenz, random_state=0).fit(t, y)
    np.testing.assert_allclose(model.theta_, CHAOS, rtol=1e-2)
    assert np.abs(z_scores(model, CHAOS)).max() < 4
    assert model.report_["stages"][-1]["name"] == "whole trajectories"


# ---- A double well -------------------------------------------------------------------------------------------------


def test_double_well():
    """Damped motion in the potential x^4 / 4 - x^2 / 2: held-out rollouts that do not start on the ridge, bands, wells."""

    @pn.field(state=2)
    def well(t, y):
        return [y[1], y[0] - y[0] ** 3 - 0.3 * y[1]]

    rng, t = np.random.default_rng(0), np.linspace(0, 10, 101)
    clean = pn.solve(well, rng.uniform(-1.8, 1.8, (12, 2)), t, **TIGHT).y
    model = NeuralODE(random_state=0).fit(t, clean + 0.02 * rng.standard_normal(clean.shape))
    np.testing.assert_allclose(list(model.report_["noise"].values()), 0.02, rtol=0.08)
    start = rng.uniform(-1.5, 1.5, (8, 2))
    new = pn.solve(well, start, t, **TIGHT).y
    mean, std = model.predict(t, start, return_std=True)
    mse = np.mean((mean - new) ** 2, axis=(1, 2))
    assert np.median(mse) < 4e-4 and (mse < 4e-4).sum() >= 5  # of 8: measured 4e-5 and 6; below the noise
    assert 0.7 < np.mean(np.abs(mean - new) < 1.645 * std) <= 1  # measured 0.86 for a nominal 0.9
    for x in (-1.0, 1.0):  # the wells are at rest
        assert np.abs(model.derivative(0.0, [x, 0.0])).max() < 0.05


# ---- A damped oscillator -------------------------------------------------------------------------------------------

SPRING = np.array([1.0, 0.5])


@pn.field(state=2, theta={"k": pn.positive(0.3), "c": pn.positive(0.3)})
def spring(t, y, th):
    return [y[1], -th.k * y[0] - th.c * y[1]]


def swings():
    t = np.linspace(0, 4, 50)
    return t, pn.solve(spring, [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5]], t, SPRING, rtol=1e-10, atol=1e-12).y


def test_oscillator_known_physics_without_noise():
    """Promised: k and c within 0.1 %; measured 3e-6, the tolerance of the solver."""
    t, y = swings()
    model = NeuralODE(field=spring, random_state=0).fit(t, y)
    np.testing.assert_allclose(model.theta_, SPRING, rtol=1e-4)
    first = NeuralODE(field=spring, optimizer="lbfgs", random_state=0).fit(t, y)
    np.testing.assert_allclose(first.theta_, SPRING, rtol=1e-3)


def test_oscillator_errors_are_calibrated():
    """40 standardised errors: their standard deviation is 1 +- 0.11; 4 of those."""
    t, y = swings()
    z = [
        z_scores(NeuralODE(field=spring, random_state=0).fit(t, y + 0.02 * rng.standard_normal(y.shape)), SPRING)
        for rng in map(np.random.default_rng, range(20))
    ]
    assert 0.55 < np.std(z) < 1.45 and np.abs(z).max() < 4 and np.abs(np.mean(z, axis=0)).max() < 4 / np.sqrt(20)


def test_oscillator_by_a_network():
    """Promised: held-out mean squared error below 1e-5; measured 2e-9."""
    t, y = swings()
    model = NeuralODE(hidden=(16,), random_state=0).fit(t, y)
    start = [[0.7, 0.3], [-0.5, -0.5]]
    assert np.mean((model.predict(t, start) - pn.solve(spring, start, t, SPRING, **TIGHT).y) ** 2) < 1e-7


def test_oscillator_with_a_part_unknown():
    """Known spring, unknown friction, learned by a network: its force within the promised accuracy of the rollout."""

    @pn.field(state=2, theta={"k": pn.positive(0.5), "rest": pn.mlp(1, (6,), 1)})
    def hybrid(t, y, th):
        return [y[1], -th.k * y[0] + th.rest(y[1:])[0]]

    @pn.field(state=2)
    def true(t, y):
        return [y[1], -1.5 * y[0] - 0.4 * y[1] ** 3]

    t, start = np.linspace(0, 8, 80), [[1.0, 0.0], [0.0, 1.5], [-1.5, 0.5]]
    clean = pn.solve(true, start, t, **TIGHT).y
    model = NeuralODE(field=hybrid, random_state=0).fit(
        t, clean + 0.01 * np.random.default_rng(0).standard_normal(clean.shape)
    )
    assert model.theta_[0] == pytest.approx(1.5, abs=0.03)
    v = np.linspace(-1.2, 1.2, 9)
    friction = model.derivative(0.0, np.stack([0 * v, v], axis=1))[:, 1]
    np.testing.assert_allclose(friction, -0.4 * v**3, atol=0.1)  # at the ends; measured 0.05


# ---- The code lab: y' = -2 y ---------------------------------------------------------------------------------------


def lab_errors(sigma, optimizer="auto"):
    t = np.linspace(0, 1, 20)
    y = np.exp(-2 * t)[:, None]
    grid = np.linspace(y.min(), y.max(), 50)[:, None]
    errors = []
    for seed in range(6):
        noisy = y + sigma * np.random.default_rng(seed).standard_normal(y.shape)
        model = NeuralODE(hidden=(8,), optimizer=optimizer, random_state=0).fit(t, noisy)
        errors.append(np.abs(model.derivative(0.0, grid) + 2 * grid).max())
    return errors, model


def test_code_lab():
    """20 numbers of one decay. Even a rate alone, fitted with its initial value, has a standard error of 0.021 for
    sigma = 0.01 and 0.10 for 0.05, which is the error of the field at y = 1: 0.05 can be met for 0.01 only (measured: median
    0.036)."""
    errors, model = lab_errors(0.01)
    assert np.median(errors) < 0.05 and max(errors) < 0.15
    assert model.report_["seconds"] < 1
    errors, _ = lab_errors(0.05)
    assert np.median(errors) < 0.25 and max(errors) < 0.75  # in proportion to the noise


def test_code_lab_one_constant():
    @pn.field(state=1, theta={"rate": pn.positive(0.5)})
    def decay(t, y, th):
        return -th.rate * y

    t = np.linspace(0, 1, 20)
    z = []
    for seed in range(10):
        noisy = np.exp(-2 * t) + 0.05 * np.random.default_rng(seed).standard_normal(20)
        z.append(z_scores(NeuralODE(field=decay, random_state=0).fit(t, noisy), [2.0])[0])
    assert np.abs(z).max() < 4 and 0.4 < np.std(z) < 1.9  # 10 of a t distribution with 18 degrees of freedom


# ---- Lotka-Volterra ------------------------------------------------------------------------------------------------

PREY = np.array([1.1, 0.4, 0.4, 0.1])


@pn.field(state=2, theta={name: pn.positive(1.0) for name in "abcd"})
def lotka_volterra(t, y, th):
    return [y[0] * (th.a - th.b * y[1]), y[1] * (th.d * y[0] - th.c)]


@pn.field(state=2, theta={name: pn.positive(1.0) for name in "abcd"})
def of_logarithms(t, y, th):
    n = np.exp(y)
    return [th.a - th.b * n[1], th.d * n[0] - th.c]


@pytest.mark.parametrize("log", [False, True])
def test_lotka_volterra_with_relative_noise(log):
    """5 % noise: by weights in the units of the data, or by logarithms. Errors of all parameters below 4 deviations."""
    t = np.linspace(0, 25, 60)
    y = pn.solve(lotka_volterra, [10.0, 5.0], t, PREY, **TIGHT).y
    for seed in range(2):
        noisy = y * np.exp(0.05 * np.random.default_rng(seed).standard_normal(y.shape))
        field, more = (of_logarithms, {}) if log else (lotka_volterra, {"weight": 1 / (0.05 * y) ** 2})
        model = NeuralODE(field=field, log=log, random_state=0).fit(t, noisy, **more)
        assert (model.theta_ > 0).all() and np.abs(z_scores(model, PREY)).max() < 4
        np.testing.assert_allclose(model.theta_, PREY, rtol=0.1)
        if log:
            assert model.report_["noise"]["y1"] == pytest.approx(0.05, rel=0.35)
            ahead = np.array([0.0, 3.0])
            exact = pn.solve(lotka_volterra, [8.0, 2.0], ahead, PREY, **TIGHT).y
            np.testing.assert_allclose(model.predict(ahead, [8.0, 2.0]), exact, rtol=0.1)
