"""States that stop at a limit."""

import warnings

import numpy as np
import pytest

import pynode as pn

T = 0.1 * np.arange(300)


@pn.field(state=1, inputs=1)
def tank(t, y, u):
    flow = u[0] - y[0]
    return [np.where(y[0] >= 1.0, np.minimum(flow, 0.0), flow)]


def overflowing(seed=0):
    """(inputs, true level, readings) of a tank that overflows at 1."""
    u = 0.8 + 0.8 * np.sin(0.7 * T + seed)
    y = np.zeros(len(T))
    y[0] = 0.4
    fine = 200
    for k in range(len(T) - 1):  # Euler with small steps: the solver's events are not what is tested
        x = y[k]
        for i in range(fine):
            v = u[k] + (u[k + 1] - u[k]) * i / fine
            x = min(x + (v - x) * 0.1 / fine, 1.0)
        y[k + 1] = x
    return u, y[:, None], y[:, None] + 0.02 * np.random.default_rng(seed).standard_normal((len(T), 1))


def test_a_tank_that_overflows_is_learned_with_its_limit_by_a_linear_field():
    u, _, y = overflowing()
    options = {"hidden": (), "input_kind": "linear", "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pn.fit.FitWarning)  # at the limit the state is a little beyond it
        model = pn.NeuralODE(**options, limits={"y1": (None, 1.0)}).fit(T, y, u=u)
    v, other, _ = overflowing(2)
    new = model.predict(T, other[0], u=v)
    assert np.sqrt(np.mean((new - other) ** 2)) < 0.03
    assert new.max() < 1.1
    with pytest.warns(pn.fit.FitWarning, match="misfit"):
        free = pn.NeuralODE(**options).fit(T, y, u=u)
    assert np.sqrt(np.mean((free.predict(T, other[0], u=v) - other) ** 2)) > 0.06
    assert "within limits" in model.field_.name
    again = pn.NeuralODE.from_content(model.to_content())
    assert np.array_equal(again.predict(T, other[0], u=v), new) and again.limits == {"y1": (None, 1.0)}


def test_limits_by_position_are_those_of_a_loaded_model_too(tmp_path):
    u, _, y = overflowing()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pn.fit.FitWarning)
        model = pn.NeuralODE(hidden=(), input_kind="linear", random_state=0, limits={0: (None, 1.0)}).fit(T, y, u=u)
        model.save(tmp_path / "tank.npz")
        again = pn.load(tmp_path / "tank.npz")
        assert again.limits == {0: (None, 1.0)}
        assert again.forecast(2, u=[1.0, 1.0], interval=0.9).mean.shape == (2, 1)  # refits
        assert np.array_equal(again.fit(T, y, u=u).theta_, model.theta_)


def test_limits_that_many_readings_are_beyond_are_refused():
    u, _, y = overflowing()
    for limits in ({"y1": (2.0, None)}, {0: (None, -1.0)}):
        with pytest.raises(ValueError, match=rf"limits: {len(T)} of {len(T)} readings of y1 lie beyond its limits"):
            pn.NeuralODE(hidden=(), random_state=0, limits=limits).fit(T, y, u=u)


def test_a_network_is_learned_with_its_limit():
    u, _, y = overflowing()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pn.fit.FitWarning)
        model = pn.NeuralODE(input_kind="linear", random_state=0, limits={"y1": (None, 1.0)}).fit(T, y, u=u)
    v, other, _ = overflowing(2)
    assert "within limits" in model.field_.name
    assert np.sqrt(np.mean((model.predict(T, other[0], u=v) - other) ** 2)) < 0.1


def test_within_the_limits_the_field_is_the_network():
    from pynode.models.trajectories.stops import with_stops

    network = pn.mlp(2, (5,), inputs=1, skip=True)
    theta = network.init(0)
    held = with_stops(network, np.array([-1.0, -np.inf]), np.array([np.inf, 2.0]), 10.0)
    assert held.n_params == network.n_params
    y = np.random.default_rng(0).uniform(-0.9, 1.9, (30, 2))
    u = np.ones((30, 1))
    assert np.array_equal(held(np.zeros(30), y, theta, u), network(np.zeros(30), y, theta, u))
    beyond = held(0.0, np.array([-3.0, 5.0]), theta, np.ones(1))
    at = network(0.0, np.array([-1.0, 2.0]), theta, np.ones(1))
    assert np.allclose(beyond - at, [20.0, -30.0])


@pytest.mark.parametrize(
    "limits, words",
    [
        ({"y1": (2.0, 1.0)}, "below the high one"),
        ({"y1": 1.0}, r"give \(low, high\)"),
        ({"y1": (None, None)}, r"give \(low, high\)"),
        ({"level": (None, 1.0)}, "not one of the states y1"),
        ([1.0], "must be a dict"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits, words):
    u, _, y = overflowing()
    with pytest.raises((TypeError, ValueError), match=words):
        pn.NeuralODE(limits=limits, input_kind="linear").fit(T, y, u=u)


def test_limits_are_not_for_fields_of_ones_own():
    u, _, y = overflowing()
    with pytest.raises(ValueError, match="limits belong to the network"):
        pn.NeuralODE(field=tank, limits={"y1": (None, 1.0)}).fit(T, y, u=u)
