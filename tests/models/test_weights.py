"""Weights of readings: relative precisions, the same for every kind of fit."""

import numpy as np
import pytest

import pynode as pn
from pynode.training.windows import weighed

T = np.linspace(0, 20, 80)
FIELD = pn.field(state=2)(lambda t, y: [1.1 * y[0] - 0.4 * y[0] * y[1], 0.1 * y[0] * y[1] - 0.4 * y[1]])
CLEAN = pn.solve(FIELD, [[10.0, 5.0], [6.0, 2.0]], np.tile(T, (2, 1))).y
TIMES = np.tile(T, (2, 1))


@pn.field(state=2, theta={"a": 1.0, "b": 0.3, "c": 0.1, "d": 0.3})
def known(t, y, th):
    return [th.a * y[0] - th.b * y[0] * y[1], th.c * y[0] * y[1] - th.d * y[1]]


def fitted(Y, weight=None, **options):
    return pn.NeuralODE(random_state=0, **options).fit(TIMES, Y, weight=weight)


def noisy(seed, sd=0.1):
    return CLEAN + sd * np.random.default_rng(seed).standard_normal(CLEAN.shape)


@pytest.mark.parametrize("options", [{}, {"field": known, "initial": [np.nan] * 2}], ids=["found", "known"])
def test_a_weight_of_0_leaves_an_entry_out_to_the_bit(options):
    bad = np.random.default_rng(7).random(CLEAN.shape) < 0.03
    gaps = fitted(np.where(bad, np.nan, noisy(0)), **options)
    zeros = fitted(np.where(bad, -999.0, noisy(0)), np.where(bad, 0.0, 1.0), **options)
    assert (gaps.theta_ == zeros.theta_).all()
    assert gaps.report_["noise"] == zeros.report_["noise"]
    few, many = (model.predict(T, [8.0, 4.0], interval=0.9) for model in (gaps, zeros))
    assert (few.upper == many.upper).all()


@pytest.mark.parametrize("options", [{}, {"field": known}], ids=["found", "known"])
def test_an_equation_has_the_likelihood_of_its_weights(options):
    """Readings whose error grows with the state, weighted by what it is; the true equation known or found."""
    sd = 0.02 + 0.08 * CLEAN
    Y = noisy(1, sd)
    model = fitted(Y, 1 / sd**2, **options)
    assert model.field_.n_params == 4
    for factor in (1e-6, 1e6):
        scaled = fitted(Y, factor / sd**2, **options)
        np.testing.assert_allclose(scaled.theta_, model.theta_, rtol=1e-6)
    y = np.array([model.predict(T, trajectory=i) for i in (0, 1)])
    variance = np.mean((Y - y) ** 2 / sd**2, axis=(0, 1))
    reached = -0.5 * (np.log(2 * np.pi * variance * sd**2) + (Y - y) ** 2 / (variance * sd**2)).sum()
    assert model.report_["log_likelihood"] == pytest.approx(reached, abs=0.1)
    typical = np.sqrt(variance * np.exp(np.log(sd**2).mean(axis=(0, 1))))
    np.testing.assert_allclose(list(model.report_["noise"].values()), typical, rtol=0.03)


def test_units_of_states_and_weights_do_not_matter():
    plain = fitted(noisy(0))
    for unit in (1e-4, 1e4):
        model = fitted(unit * noisy(0), np.full(CLEAN.shape, 1 / (0.1 * unit) ** 2))
        assert model.field_.n_params == 4
        found, wanted = (list(each.report_["noise"].values()) for each in (model, plain))
        np.testing.assert_allclose(found, unit * np.array(wanted))


def test_weights_are_over_their_geometric_mean_where_something_was_observed():
    y = [np.array([[1.0, 1.0], [np.nan, 1.0], [1.0, 1.0]]), np.ones((1, 2))]
    left, weights = weighed([np.array([[4.0, 3.0], [100.0, 3.0], [0.0, 3.0]]), np.array([[1.0, 3.0]])], y)
    assert np.isnan(left[0][2, 0]) and np.isnan(left[0][1, 0]) and np.isfinite(left[0][:, 1]).all()
    np.testing.assert_allclose(weights[0][0], [2.0, 1.0])
    np.testing.assert_allclose(weights[1][0], [0.5, 1.0])
    assert weighed(np.array([0.3, 7.0]), y)[1] is None  # a factor of a state says nothing
    assert weighed(None, y)[1] is None


def test_weights_go_with_the_columns_that_are_named_like_states():
    @pn.field(state=["prey", "foxes"], theta={"a": 1.0, "b": 0.3, "c": 0.1, "d": 0.3})
    def named(t, y, th):
        return [th.a * y[0] - th.b * y[0] * y[1], th.c * y[0] * y[1] - th.d * y[1]]

    weight = np.random.default_rng(2).uniform(0.1, 10.0, CLEAN.shape)
    plain = pn.NeuralODE(field=named, random_state=0).fit(TIMES, noisy(0), weight=weight)
    turned = pn.NeuralODE(field=named, random_state=0).fit(
        TIMES, noisy(0)[:, :, ::-1], weight=weight[:, :, ::-1], names=["foxes", "prey"]
    )
    assert (turned.theta_ == plain.theta_).all()
