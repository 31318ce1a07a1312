"""Error models: densities, their information by quadrature, derivatives by differences, and tails."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm, t

from pynode.training.error_models import ERROR_MODELS, as_error_models, density, scale, tail
from pynode.training.noise import HUBER, ROBUST

EDGES = [-HUBER, 0.0, HUBER]


def integral(fn):
    """Over all numbers."""
    parts = [(-np.inf, -30.0), (-30.0, EDGES[0]), (EDGES[0], 0.0), (0.0, EDGES[2]), (EDGES[2], 30.0), (30.0, np.inf)]
    return sum(quad(fn, a, b, epsabs=1e-13, epsrel=1e-12)[0] for a, b in parts)


def p(noise, z):
    return float(np.exp(-0.5 * density(noise).deviance(np.array(z))))


@pytest.mark.parametrize("noise", ROBUST)
def test_densities_are_densities(noise):
    assert integral(lambda z: p(noise, z)) == pytest.approx(1.0, abs=1e-9)


def test_densities_are_those_of_scipy():
    z = np.linspace(-6, 6, 41)
    np.testing.assert_allclose(-0.5 * density("gaussian").deviance(z), norm.logpdf(z), rtol=1e-12)
    np.testing.assert_allclose(-0.5 * density("student").deviance(z), t.logpdf(z, 4), rtol=1e-12)


@pytest.mark.parametrize("noise", ROBUST)
def test_scores_are_derivatives(noise):
    z = np.linspace(-5, 5, 42)
    numeric = (density(noise).deviance(z + 1e-6) - density(noise).deviance(z - 1e-6)) / 4e-6
    np.testing.assert_allclose(density(noise).score(z), numeric, atol=1e-8)


@pytest.mark.parametrize("noise", ROBUST)
def test_information_is_the_variance_of_scores(noise):
    def psi(z):
        return float(density(noise).score(np.array(z)))

    assert density(noise).location == pytest.approx(integral(lambda z: psi(z) ** 2 * p(noise, z)), rel=1e-8)
    assert density(noise).scale == pytest.approx(integral(lambda z: (z * psi(z) - 1) ** 2 * p(noise, z)), rel=1e-7)


# ---- Tails


@pytest.mark.parametrize("noise", ROBUST)
def test_tails_are_integrals_of_densities(noise):
    for z in (-8.0, -3.0, -1.5, -0.5, 0.0, 0.7, 1.3, 1.4, 4.0):
        below = quad(lambda x: p(noise, x), -np.inf, min(z, -HUBER), epsabs=1e-14)[0]
        below += quad(lambda x: p(noise, x), min(z, -HUBER), z, epsabs=1e-14, points=[HUBER] if z > HUBER else None)[0]
        assert tail(noise, np.array([z]))[0][0] == pytest.approx(-2 * np.log(below), rel=1e-7)


@pytest.mark.parametrize("noise", ROBUST)
def test_derivatives_of_tails(noise):
    z = np.array([-7.0, -2.0, -1.0, 0.0, 0.5, 1.1, 2.0, 5.0])
    _, slope, curvature = tail(noise, z)
    up, down = tail(noise, z + 1e-5), tail(noise, z - 1e-5)
    np.testing.assert_allclose(slope, (up[0] - down[0]) / 4e-5, rtol=1e-5, atol=1e-9)
    assert (curvature > 0).all()
    if noise != "student":  # whose tail is not log-concave: there the curvature is the square of the slope
        np.testing.assert_allclose(curvature, (up[1] - down[1]) / 2e-5, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("noise", ROBUST)
def test_tails_far_out_are_finite(noise):
    for part in tail(noise, np.array([-1e150, -1e30, -1e6, -100.0, 100.0, 1e6, 1e30])):
        assert np.isfinite(part).all()
    deviance = tail(noise, np.array([-1e6, -1e3, -100.0, 0.0, 100.0]))[0]
    assert (np.diff(deviance) < 0).all()


# ---- Scales


@pytest.mark.parametrize("name", ERROR_MODELS)
def test_derivatives_of_scales(name):
    model = ERROR_MODELS[name]
    f = np.array([-3.0, -0.2, 0.01, 0.5, 2.0, 40.0])
    log = np.log([0.3, 0.2][: len(model.parameters)])

    def value(f, log):
        return scale(model, f, np.exp(log), 1e-7, 1.0)[0]

    s, by_f, by_log = scale(model, f, np.exp(log), 1e-7, 1.0)
    np.testing.assert_allclose(by_f, (value(f + 1e-6, log) - value(f - 1e-6, log)) / 2e-6, atol=1e-8)
    for j, h in enumerate(1e-6 * np.eye(len(log))):
        np.testing.assert_allclose(by_log[:, j], (value(f, log + h) - value(f, log - h)) / 2e-6, rtol=1e-6)
    expected = {"additive": 0.3, "proportional": 0.3 * np.abs(f), "combined": np.hypot(0.3, 0.2 * f), "lognormal": 0.3}[name]
    np.testing.assert_allclose(s, expected * np.ones(len(f)), rtol=1e-8)


def test_a_proportional_error_of_nothing_is_small_but_there():
    s, by_f, by_log = scale(ERROR_MODELS["proportional"], np.zeros(3), np.array([0.1]), 1e-7, 2.0)
    assert (s > 0).all()
    assert np.isfinite(by_log).all()
    np.testing.assert_array_equal(by_f, 0.0)


# ---- What a user says


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        ("gaussian", ("gaussian", ("additive", "additive"))),
        ("student", ("student", ("additive", "additive"))),
        ("huber", ("huber", ("additive", "additive"))),
        ("combined", ("gaussian", ("combined", "combined"))),
        ("lognormal", ("gaussian", ("lognormal", "lognormal"))),
        ({"b": "proportional"}, ("gaussian", ("additive", "proportional"))),
        ({}, ("gaussian", ("additive", "additive"))),
    ],
)
def test_names(noise, expected):
    assert as_error_models(noise, ("a", "b")) == expected


def test_an_unknown_column_is_refused():
    with pytest.raises(ValueError, match="noise names 'c', which is not measured; measured are a, b"):
        as_error_models({"c": "additive"}, ("a", "b"))
