"""max_growth: a bound on how fast nearby rollouts of a learned field part."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import pynode as pn
from pynode.fields.make import mlp
from pynode.fit import FitWarning
from pynode.optim.levenberg_marquardt import descend
from pynode.optim.posterior import LaplacePosterior
from pynode.training import growth
from pynode.training.growth import BoundedProblem, GrowthBound
from pynode.training.matching import MatchingProblem

ROTATION = np.array([[-0.2, 1.0], [-1.0, -0.2]])


def few(seed):
    """Twelve readings, noise of 20 %, of a stable linear system."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 4, 12)
    y = pn.solve(pn.field(state=2)(lambda t, y: ROTATION @ y), [1.0, 0.0], t).y
    return t, y + 0.2 * rng.standard_normal(y.shape)


def bound_of(inputs, rate=-0.2):
    """(network, its bound at 30 states, theta)."""
    rng = np.random.default_rng(0)
    network = mlp(3, (5,), inputs=inputs)
    u = rng.standard_normal((30, inputs)) if inputs else None
    scale = np.array([1.0, 2.0, 0.5])
    y = rng.standard_normal((30, 3))
    return network, GrowthBound(network, rate, np.zeros(30), y, u, scale), network.init(0)


@pytest.mark.parametrize("inputs", [0, 2])
def test_norms_are_those_of_the_scaled_jacobian(inputs):
    network, bound, theta = bound_of(inputs)
    norms, _ = bound.norms(theta)
    for k in (0, 17):
        J = np.zeros((3, 3))
        for j in range(3):
            step = np.zeros(3)
            step[j] = 1e-6
            u = None if bound.u is None else bound.u[k]
            J[:, j] = (network(0.0, bound.y[k] + step, theta, u) - network(0.0, bound.y[k] - step, theta, u)) / 2e-6
        J = J * bound.scale / bound.scale[:, None]
        assert norms[k] == pytest.approx(np.linalg.eigvalsh((J + J.T) / 2)[-1], abs=1e-7)


@pytest.mark.parametrize("inputs", [0, 2])
def test_derivatives_of_the_excess_against_differences(inputs):
    _, bound, theta = bound_of(inputs)
    bound.rate = float(np.median(bound.norms(theta)[0]))
    excess, J = bound.linearised(theta)
    over = bound.excess(theta) > 0
    assert 5 < over.sum() < 30 and np.array_equal(excess, bound.excess(theta)[over])
    for i in range(len(theta)):
        step = np.zeros(len(theta))
        step[i] = 1e-6
        slope = (bound.excess(theta + step) - bound.excess(theta - step))[over] / 2e-6
        np.testing.assert_allclose(J[:, i], slope, atol=1e-6)


def test_the_problem_is_that_of_the_data_and_the_excess():
    network, bound, theta = bound_of(0)
    rng = np.random.default_rng(1)
    slope = rng.standard_normal((30, 3))
    plain = MatchingProblem(network, np.zeros(30), bound.y, slope)
    whole = BoundedProblem(plain, bound, 7.0)
    here = whole.linearise(theta, None)
    assert whole.loss(theta, None) == pytest.approx(here.loss)
    assert here.loss == pytest.approx(plain.loss(theta) + 7.0 * (bound.excess(theta) ** 2).sum())
    for i in (0, 10, 25):
        step = np.zeros(len(theta))
        step[i] = 1e-5
        change = (whole.loss(theta + step, None) - whole.loss(theta - step, None)) / 2e-5
        assert 2 * here.g[i] == pytest.approx(change, rel=1e-4, abs=1e-6)
    state = LaplacePosterior(theta.copy(), None, np.full(len(theta), 1e-3), 1.0)
    descend(BoundedProblem(plain, bound, 1e4), state, evidence=False, max_iter=60)
    assert bound.excess(state.theta).max() < 0.05 < bound.excess(theta).max()


def test_a_field_without_excess_is_left_alone():
    network, bound, theta = bound_of(0, rate=50.0)
    excess, J = bound.linearised(theta)
    assert excess.shape == (0,) and J.shape == (0, len(theta))
    plain = MatchingProblem(network, np.zeros(30), bound.y, np.zeros((30, 3)))
    whole = BoundedProblem(plain, bound, 1.0)
    np.testing.assert_array_equal(whole.linearise(theta, None).H, plain.linearise(theta).H)


@pytest.mark.filterwarnings("ignore:the data determine the network loosely")
def test_rollouts_of_a_stable_system_stay_where_the_data_alone_let_them_grow():
    starts = [[2.2, 0.0], [-2.0, 1.0], [0.0, 2.0]]
    away = {None: [], 0.0: []}
    for seed in (1, 2, 3):
        t, y = few(seed)
        for rate, sizes in away.items():
            model = pn.NeuralODE(hidden=(16,), structure="network", max_growth=rate, random_state=seed).fit(t, y)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                sizes.append(np.abs(model.predict(np.linspace(0, 60, 61), starts)[:, -1]).max())
            assert model.report_["rmse"]["y1"] < 0.25
    assert min(away[None]) > 1.5 and max(away[0.0]) < 1.0


def test_a_bound_that_is_far_changes_nothing():
    t, y = few(0)
    plain, loose = (
        pn.NeuralODE(hidden=(4,), structure="network", max_growth=rate, random_state=0).fit(t, y) for rate in (None, 1e3)
    )
    np.testing.assert_array_equal(plain.theta_, loose.theta_)


def test_the_rate_is_in_units_of_time_and_of_any_states():
    t, y = few(1)
    options = {"hidden": (), "max_growth": 0.0, "random_state": 0}
    model = pn.NeuralODE(**options).fit(t, y)
    other = pn.NeuralODE(**options).fit(1000 * t, y * [1e-3, 1e3])
    scale = np.array([1e-3, 1e3])
    np.testing.assert_allclose(other.predict(1000 * t, y[0] * scale), model.predict(t, y[0]) * scale, rtol=1e-3, atol=1e-6)


def test_data_that_grow_faster_are_warned_of():
    t = np.linspace(0, 3, 30)
    y = np.exp(0.8 * t)[:, None] * [1.0, -2.0] + 0.01 * np.random.default_rng(0).standard_normal((30, 2))
    with pytest.warns(FitWarning, match=r"max_growth=0.4 does not go with the data.* raise it, or leave it out"):
        pn.NeuralODE(hidden=(), max_growth=0.4, random_state=0).fit(t, y)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pn.NeuralODE(hidden=(4,), structure="network", max_growth=5.0, random_state=0).fit(t, y)
    assert not any("max_growth" in str(x.message) for x in said)


def test_one_state_of_many_beyond_the_bound_is_more_than_none_of_them(monkeypatch):
    bound = SimpleNamespace(rate=0.5, excess=lambda theta: np.append(np.zeros(999), 0.1))
    monkeypatch.setattr(growth, "growth_bound", lambda run: bound)
    monkeypatch.setattr(growth, "_typical", lambda run: 1.0)
    run = SimpleNamespace(recipe=SimpleNamespace(max_growth=0.5), training=SimpleNamespace(theta=None))
    (words,) = growth.outgrown(run, 1.0)
    assert "at 1 % of the states" in words


def test_with_process_noise_inputs_and_a_field_of_ones_own():
    rng = np.random.default_rng(0)
    t = 0.2 * np.arange(60)
    u = np.repeat(rng.standard_normal(20), 3)[:, None]

    @pn.field(state=1, inputs=1, theta={"k": 0.2})
    def tank(t, y, th, u):
        return [u[0] + th.k * y[0]]

    y = pn.solve(tank, [0.5], t, [-0.2], inputs=(t, u, "previous")).y + 0.05 * rng.standard_normal((60, 1))
    for options in ({"field": tank}, {"hidden": (4,)}, {"field": tank, "process_noise": True}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitWarning)
            model = pn.NeuralODE(**options, max_growth=-0.6, input_kind="previous", random_state=0).fit(t, y, u=u)
        if "field" in options:
            assert model.theta_[0] == pytest.approx(-0.6, abs=0.15)
            assert model.theta_[0] < -0.35


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"max_growth": "fast"}, TypeError, "max_growth='fast'"),
        ({"max_growth": True}, TypeError, "max_growth=True"),
        ({"max_growth": np.nan}, ValueError, "max_growth=nan"),
        ({"optimizer": "adam"}, ValueError, "optimizer='adam'"),
        ({"batch_size": 8}, ValueError, "batch_size"),
        ({"structure": "equation"}, ValueError, "max_growth=0.0"),
        ({"hidden": (400, 400)}, ValueError, "fewer hidden units"),
        ({"initial": [0.0, 0.0]}, ValueError, "initial"),
    ],
)
def test_refused(options, kind, words):
    t, y = few(0)
    with pytest.raises(kind, match=words):
        pn.NeuralODE(**{"max_growth": 0.0, "random_state": 0} | options).fit(t, y)
