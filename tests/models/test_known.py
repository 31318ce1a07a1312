"""Fits of known equations against SciPy: estimates, standard errors, verdicts, and what is refused."""

import warnings

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import norm

import pynode as pn
from pynode.fit import FitWarning

T = np.linspace(0.0, 8.0, 25)
PK_T = np.array([0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 9.0, 10.0, 12.0, 16.0])
TWICE = [pn.Dose(0.0, 100.0, interval=8.0, count=2)]


@pn.field(state=1, theta={"A": pn.positive(3.0), "k": pn.positive(1.0)})
def decay(t, y, th):
    return -th.k * y


@pn.field(state=1, theta={"CL": pn.positive(1.0), "V": pn.positive(10.0)})
def pk(t, y, th):
    return [-th.CL / th.V * y[0]]


def exponential(t, A, k):
    return A * np.exp(-k * t)


def concentration(t, CL, V):
    return sum(np.where(t > s, 100 / V * np.exp(-CL / V * np.maximum(t - s, 0.0)), 0.0) for s in (0.0, 8.0))


def volume(t, y, th):
    return [y[0] / th.V]


def from_A(th):
    return [th.A]


def noisy(f, sigma, seed=0):
    return f + sigma * np.random.default_rng(seed).standard_normal(np.shape(f))


Y = noisy(exponential(T, 5.0, 0.4), 0.1)
C = noisy(concentration(PK_T, 3.0, 20.0), 0.05)


def quiet(model, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        return model.fit(*args, **options)


def strict(model, *args, **options):
    """A fit that has nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return model.fit(*args, **options)


def like(model, reference, names=None):
    """Whether estimates and standard errors are those of SciPy, to a thousandth."""
    p, c = reference
    own = range(len(model.theta_)) if names is None else names
    np.testing.assert_allclose(model.theta_[own], p, rtol=1e-3)
    np.testing.assert_allclose(np.sqrt(np.diag(model.covariance_))[own], np.sqrt(np.diag(c)), rtol=1e-3)


def field_of(**theta):
    @pn.field(state=1, theta=theta)
    def made(t, y, th):
        return -th.k * y

    return made


# ---- Estimates and standard errors


def test_shared_initial_state():
    model = strict(pn.NeuralODE(field=decay, initial=from_A), T, Y)
    like(model, curve_fit(exponential, T, Y, p0=[3, 1]))
    sigma = np.sqrt(np.mean((Y - model.predict(T)[:, 0]) ** 2))
    assert model.report_["log_likelihood"] == pytest.approx(norm.logpdf(Y, model.predict(T)[:, 0], sigma).sum(), abs=1e-5)
    assert model.report_["noise"]["y1"] == pytest.approx(sigma * np.sqrt(25 / 23), rel=1e-4)


@pytest.mark.parametrize("initial", [None, [np.nan], {0: pn.positive(2.0)}, {0: pn.bounded(2.0, 0.0, 50.0)}, {0: None}])
def test_free_initial_states(initial):
    model = strict(pn.NeuralODE(field=field_of(k=pn.positive(1.0)), initial=initial, noise="additive"), T, Y)
    p, c = curve_fit(exponential, T, Y, p0=[3, 1])
    np.testing.assert_allclose([model.initial_states_[0, 0], model.theta_[0]], p, rtol=1e-3)
    mean, std = model.predict([0.0, 4.0], return_std=True)
    np.testing.assert_allclose(np.sqrt(model.covariance_[0, 0]), np.sqrt(c[1, 1]), rtol=2e-3)
    np.testing.assert_allclose(std[0, 0], np.sqrt(c[0, 0]), rtol=2e-3)
    slope = np.exp(-p[1] * 4.0) * np.array([1.0, -4.0 * p[0]])
    np.testing.assert_allclose(std[1, 0], np.sqrt(slope @ c @ slope), rtol=2e-3)
    np.testing.assert_allclose(mean[:, 0], exponential(np.array([0.0, 4.0]), *p), rtol=1e-3)


def test_doses_and_an_observation_function():
    model = strict(pn.NeuralODE(field=pk, observe=volume, initial=[0.0]), PK_T, C, doses=TWICE)
    like(model, curve_fit(concentration, PK_T, C, p0=[1, 10]))
    assert model.score(PK_T, C, doses=TWICE) > 0.99
    np.testing.assert_array_equal(model.predict(PK_T[::-1][:1]), model.predict(PK_T)[-1:])


def test_lag_bioavailability_and_infusion_are_estimated():
    @pn.field(
        state=1,
        theta={"k": pn.positive(0.3), "tlag": pn.positive(0.4), "F": pn.bounded(0.5, 0.0, 1.0), "to": pn.positive(1.0)},
    )
    def one(t, y, th):
        return -th.k * y

    def course(t, k, lag, F, to):
        s = np.clip(t - lag, 0.0, to)
        infused = 10 * F / to * (1 - np.exp(-k * s)) / k * np.exp(-k * np.maximum(t - lag - to, 0.0))
        return infused + np.where(t > 5, 8 * np.exp(-k * np.maximum(t - 5, 0.0)), 0.0)

    t = np.linspace(0.1, 9.0, 40)
    y = noisy(course(t, 0.5, 0.7, 0.8, 2.0), 0.1)
    doses = [pn.Dose(0.0, 10.0, duration="to", lag="tlag", bioavailability="F"), pn.Dose(5.0, 8.0)]
    model = quiet(pn.NeuralODE(field=one, initial=[0.0]), t, y, doses=doses)
    like(model, curve_fit(course, t, y, p0=[0.4, 0.6, 0.7, 1.8]))


def test_replicates():
    t = np.repeat(T, 3)
    y = noisy(exponential(t, 5.0, 0.4), 0.2)
    model = strict(pn.NeuralODE(field=decay, initial=from_A), t, y)
    like(model, curve_fit(exponential, t, y, p0=[3, 1]))
    assert model.predict(t).shape == (75, 1)


def test_weights_are_relative_precisions():
    weight = np.random.default_rng(1).uniform(0.2, 5.0, len(T))
    reference = curve_fit(exponential, T, Y, p0=[3, 1], sigma=weight**-0.5)
    for factor in (1.0, 100.0):
        like(quiet(pn.NeuralODE(field=decay, initial=from_A), T, Y, weight=factor * weight[:, None]), reference)
    weight[::2] = 0.0
    model = quiet(pn.NeuralODE(field=decay, initial=from_A), T, Y, weight=weight[:, None])
    like(model, curve_fit(exponential, T[1::2], Y[1::2], p0=[3, 1], sigma=weight[1::2] ** -0.5))


def test_ragged_trajectories_with_doses_and_initial_states_of_their_own():
    t = [T, T[:6], T[4:5]]
    amount = [2.0, 4.0, 1.0]
    start = np.array([[1.0], [0.0], [2.0]])

    def course(whole, k):
        parts = [
            s * np.exp(-k * (x - x[0])) + a * np.where(x > 1, np.exp(-k * np.maximum(x - 1, 0)), 0)
            for x, a, s in zip(t, amount, start[:, 0], strict=True)
        ]
        parts[2] = start[2, 0] * np.exp(-k * (t[2] - 1)) + np.exp(-k * (t[2] - 1))  # begins with its dose
        return np.concatenate(parts)

    y = noisy(course(None, 0.4), 0.05)
    cut = np.split(y[:, None], [25, 31])
    doses = [[pn.Dose(1.0, a)] for a in amount]
    model = quiet(pn.NeuralODE(field=field_of(k=pn.positive(1.0)), initial=start), t, cut, doses=doses)
    like(model, curve_fit(course, None, y, p0=[0.5]))
    by_id = quiet(pn.NeuralODE(field=model.field, initial=start), t, cut, doses=dict(enumerate(doses)))
    plain = [[{"time": 1.0, "amount": a}] for a in amount]
    as_dicts = quiet(pn.NeuralODE(field=model.field, initial=start), t, cut, doses=plain)
    np.testing.assert_array_equal(by_id.theta_, model.theta_)
    np.testing.assert_array_equal(as_dicts.theta_, model.theta_)


def test_doses_with_inputs():
    @pn.field(state=1, inputs=1, theta={"k": pn.positive(0.7), "b": 0.5})
    def fed(t, y, th, u):
        return th.b * u - th.k * y

    def course(t, k, b):
        return 3 * np.where(t > 2, np.exp(-k * np.maximum(t - 2, 0)), 0.0) + b * 0.8 * (1 - np.exp(-k * t)) / k

    y = noisy(course(T, 0.4, 1.0), 0.05)
    model = strict(pn.NeuralODE(field=fed, initial=[0.0]), T, y, u=np.full((25, 1), 0.8), doses=[pn.Dose(2.0, 3.0)])
    like(model, curve_fit(course, T, y, p0=[0.5, 0.8]))


def test_a_network_from_known_initial_states():
    t = np.linspace(0, 6, 30)
    y = noisy(np.stack([np.cos(t), -np.sin(t)], axis=1), 0.05)
    model = quiet(pn.NeuralODE(hidden=(6,), initial=[1.0, 0.0], max_iter=60, random_state=0), t, y)
    np.testing.assert_array_equal(model.initial_states_, [[1.0, 0.0]])
    mean, std = model.predict([0.0, 3.0], return_std=True)
    np.testing.assert_array_equal(mean[0], [1.0, 0.0])
    np.testing.assert_array_equal(std[0], 0.0)
    np.testing.assert_allclose(mean[1], [np.cos(3), -np.sin(3)], atol=0.15)


# ---- What is not determined


def test_a_frozen_parameter():
    model = quiet(pn.NeuralODE(field=field_of(A=pn.frozen(5.0), k=pn.positive(1.0)), initial=from_A), T, Y)
    like(model, curve_fit(lambda t, k: exponential(t, 5.0, k), T, Y, p0=[1]), [1])
    assert model.covariance_[0, 0] == 0
    assert model.theta_[0] == 5.0


def test_a_parameter_at_a_bound():
    model = quiet(pn.NeuralODE(field=field_of(A=pn.positive(3.0), k=pn.bounded(0.2, 0.0, 0.3)), initial=from_A), T, Y)
    like(model, curve_fit(lambda t, A: exponential(t, A, 0.3), T, Y, p0=[3]), [0])
    assert np.isnan(model.covariance_[1]).all()
    assert any("do not determine k = 0.3" in words for words in model.report_["warnings"])


def test_an_initial_state_at_a_bound():
    model = quiet(pn.NeuralODE(field=field_of(k=pn.positive(1.0)), initial={0: pn.bounded(2.0, 1.0, 3.0)}), T, Y)
    p, c = curve_fit(lambda t, k: exponential(t, 3.0, k), T, Y, p0=[1])
    np.testing.assert_allclose([model.theta_[0], model.covariance_[0, 0]], [p[0], c[0, 0]], rtol=5e-3)
    assert any("the initial y1 = 3" in words for words in model.report_["warnings"])


@pytest.mark.parametrize("kind", [pn.positive, float])
def test_only_a_sum_is_determined(kind):
    @pn.field(state=1, theta={"A": pn.positive(3.0), "k": kind(0.5), "z": kind(0.5)})
    def both(t, y, th):
        return -(th.k + th.z) * y

    model = quiet(pn.NeuralODE(field=both, initial=from_A), T, Y)
    p, c = curve_fit(exponential, T, Y, p0=[3, 1])
    like(model, (p[:1], c[:1, :1]), [0])
    assert model.theta_[1:].sum() == pytest.approx(p[1], rel=1e-3)
    assert np.isnan(np.diag(model.covariance_)[1:]).all()
    whole = quiet(pn.NeuralODE(field=decay, initial=from_A), T, Y)
    np.testing.assert_allclose(
        model.predict([1.0, 12.0], return_std=True), whole.predict([1.0, 12.0], return_std=True), rtol=1e-3
    )
    assert model.report_["effective_parameters"] == pytest.approx(2.0)


@pytest.mark.parametrize("n", [1, 2])
def test_without_readings_left_there_are_no_standard_errors(n):
    model = quiet(pn.NeuralODE(field=decay, initial=from_A), T[1 : n + 1], Y[1 : n + 1])
    assert np.isnan(model.covariance_).all()
    assert np.isnan(model.predict([2.0], return_std=True)[1]).all()
    assert any("nothing is left to tell the noise" in words for words in model.report_["warnings"])


def test_exact_data():
    model = strict(pn.NeuralODE(field=decay, initial=from_A), T, exponential(T, 5.0, 0.4))
    np.testing.assert_allclose(model.theta_, [5.0, 0.4], rtol=1e-6)
    assert (np.sqrt(np.diag(model.covariance_)) < 1e-5).all()


# ---- Verdicts


SEEDS = range(10)


@pytest.mark.parametrize("case", ["decay", "doses", "replicates"])
def test_a_good_fit_has_nothing_to_warn_of(case):
    z = []
    for seed in SEEDS:
        if case == "doses":
            model = pn.NeuralODE(field=pk, observe=volume, initial=[0.0])
            strict(model, PK_T, noisy(concentration(PK_T, 3.0, 20.0), 0.1, seed), doses=TWICE)
            z.append((model.theta_ - [3.0, 20.0]) / np.sqrt(np.diag(model.covariance_)))
            continue
        t = np.repeat(T, 4) if case == "replicates" else T
        model = strict(pn.NeuralODE(field=decay, initial=from_A), t, noisy(exponential(t, 5.0, 0.4), 0.2, seed))
        z.append((model.theta_ - [5.0, 0.4]) / np.sqrt(np.diag(model.covariance_)))
    assert 0.6 < np.sqrt(np.mean(np.square(z))) < 1.5


def saturating(t, A, k):
    return 5.0 - A * np.exp(-k * t)


def oral(t, *doses):
    ka = 1.5
    CL = 3.0
    V = 25.0
    k = CL / V
    return sum(
        amount * ka / V / (ka - k) * (np.exp(-k * np.maximum(t - s, 0)) - np.exp(-ka * np.maximum(t - s, 0)))
        for s, amount in doses
    )


@pytest.mark.parametrize("case", ["wrong equation", "wrong equation, replicates", "missing dose", "wrong time"])
def test_a_misfit_is_reported(case):
    for seed in SEEDS[:2]:
        if "equation" in case:
            t = np.repeat(T, 4) if "replicates" in case else T
            model = pn.NeuralODE(field=decay, initial=from_A)
            quiet(model, t, noisy(saturating(t, 5.0, 0.5), 0.1, seed))
        else:
            t = np.array([0.5, 1, 2, 3, 4, 6, 8, 10, 12.5, 13, 14, 16, 18, 20, 24, 30, 36.0])
            y = noisy(oral(t, (0.0, 300.0), (12.0, 300.0)), 0.4, seed)
            first, second = pn.Dose(0.0, 300.0), pn.Dose(14.0, 300.0)

            @pn.field(state=2, theta={"ka": pn.positive(1.0), "CL": pn.positive(2.0), "V": pn.positive(20.0)})
            def two(t, y, th):
                return [-th.ka * y[0], th.ka * y[0] - th.CL / th.V * y[1]]

            model = pn.NeuralODE(field=two, observe=lambda t, y, th: y[1:] / th.V, initial=[0.0, 0.0])
            quiet(model, t, y, doses=[first] if case == "missing dose" else [first, second])
        assert any("misfit" in words or "explains hardly" in words for words in model.report_["warnings"]), seed


@pytest.mark.parametrize("dose", [pn.Dose(9.0, 300.0), pn.Dose(12.0, 120.0)])
def test_a_dose_that_readings_contradict_is_named(dose):
    """Its second dose was given at 12, and was 300."""
    t = np.array([0.5, 1, 2, 3, 4, 6, 8, 10, 12.5, 13, 14, 16, 18, 20, 24, 30, 36.0])

    @pn.field(state=2, theta={"ka": pn.positive(1.0), "CL": pn.positive(2.0), "V": pn.positive(20.0)})
    def two(t, y, th):
        return [-th.ka * y[0], th.ka * y[0] - th.CL / th.V * y[1]]

    model = pn.NeuralODE(field=two, observe=lambda t, y, th: y[1:] / th.V, initial=[0.0, 0.0])
    y = noisy(oral(t, (0.0, 300.0), (12.0, 300.0)), 0.2)
    quiet(model, t, y, doses=[pn.Dose(0.0, 300.0), dose])
    assert any("the readings contradict Dose" in words for words in model.report_["warnings"])
    strict(model, t, y, doses=[pn.Dose(0.0, 300.0), pn.Dose(12.0, 300.0)])
