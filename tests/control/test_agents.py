"""Halting, credit and the two policy gradients, against closed forms and finite differences."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import pynode as pn
from pynode.control.agents import HeldPolicy, credit, euler_halting, halting


@pn.field(state=2, theta={"a": 0.8})
def decay(t, y, th):
    return -th.a * y


def test_halting_time_and_gradient_are_the_closed_form():
    y0, a, limit = np.array([[3.0, 4.0], [0.3, 0.4], [0.6, 0.8]]), 0.8, 0.5
    sol = pn.solve(decay, y0, [0.0, 9.0], [a], events=halting(decay, limit), rtol=1e-11, atol=1e-13)
    size = np.linalg.norm(y0, axis=1)
    exact = np.log(a * size / limit) / a  # a |y| = limit; the second starts below it
    assert sol.terminated.tolist() == [True, False, True]
    assert np.abs(sol.events.t - exact[[0, 2]]).max() < 1e-10
    assert np.abs(np.linalg.norm(sol.y[0, -1]) - limit / a) < 1e-12
    g = sol.vjp(event_t=[1.0, 0.0]).theta
    assert abs(g[0] - (1 / a**2 - exact[0] / a)) < 1e-9
    assert np.isnan(pn.solve(decay, y0, [0.0, 9.0], [a], events=halting(decay, limit, hold=False)).y[0, -1]).all()


def test_euler_halts_where_the_speed_is_low_and_converges_to_the_event():
    y0 = np.array([[3.0, 4.0], [0.3, 0.4]])
    y, depth = euler_halting(decay, y0, [0.8], 0.1, 0.5, 1000)
    n = int(np.ceil(np.log(0.5 / 4.0) / np.log(1 - 0.08)))  # 4 (1 - 0.08)^n <= 0.5
    assert depth.tolist() == [n, 0] and np.allclose(y[0], y0[0] * (1 - 0.08) ** n) and (y[1] == y0[1]).all()
    event = pn.solve(decay, y0[0], [0.0, 9.0], [0.8], events=halting(decay, 0.5)).events.t[0]
    gaps = [abs(h * euler_halting(decay, y0[:1], [0.8], h, 0.5, 10**5)[1][0] - event) for h in (0.1, 0.01, 0.001)]
    assert gaps[2] < 2e-3 and gaps[1] < 2e-2
    assert euler_halting(decay, y0, [0.8], 0.1, 0.5, 3)[1].tolist() == [3, 0]


def test_credit_is_the_adjoint_and_the_chain_converges_to_it():
    t, slope = np.linspace(0, 2, 9), np.array([1.0, -2.0])
    y = pn.solve(decay, [1.0, 2.0], t, [0.8]).y
    exact = slope * np.exp(-0.8 * (2 - t))[:, None]
    assert np.abs(credit(decay, t, y, [0.8], slope, rtol=1e-10, atol=1e-12) - exact).max() < 1e-9
    errors = []
    for n in (32, 64, 128):
        layers = np.linspace(0, 2, n + 1)
        states = pn.solve(decay, [1.0, 2.0], layers, [0.8], method="euler", step=2 / n).y
        chain = credit(decay, layers, states, [0.8], slope, method="euler", step=2 / n)
        assert np.allclose(chain, slope * (1 - 1.6 / n) ** (n - np.arange(n + 1))[:, None], atol=1e-12)
        errors.append(np.abs(chain - slope * np.exp(-0.8 * (2 - layers))[:, None]).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.abs(orders - 1).max() < 0.05


@pn.field(state=3, inputs=1)
def cart(t, y, u):
    return [y[1], np.sin(y[0]) - 0.1 * y[1] + u[0], y[0] ** 2 + 0.1 * y[1] ** 2 + 0.01 * u[0] ** 2]


def episodes(agent, theta, B, seed=0, K=4):
    rng = np.random.default_rng(seed)
    y0 = np.zeros((B, 3))
    y0[:, :2] = rng.normal(size=(B, 2)) * 0.5
    noise = rng.normal(size=(B, K, 1))
    return y0, noise, agent.rollout(theta, y0, noise)


def test_the_pathwise_gradient_is_that_of_the_mean_cost():
    policy = pn.mlp(2, (3,), 1)
    agent, theta = HeldPolicy(cart, policy, np.linspace(0, 1, 5), 0.3, method="rk4", step=0.05), policy.init(0)
    y0, noise, all_ = episodes(agent, theta, 6)
    g = agent.pathwise(theta, all_)
    assert all_.y.shape == (6, 5, 3) and (all_.cost > 0).all()
    for k in range(policy.n_params):
        e = 1e-6 * np.eye(policy.n_params)[k]
        up, down = (agent.rollout(theta + s * e, y0, noise).cost.mean() for s in (1, -1))
        assert abs(g[k] - (up - down) / 2e-6) < 1e-8


def test_reinforce_has_the_same_mean_and_a_larger_variance():
    policy = pn.mlp(2, (), 1)  # linear: three parameters
    agent, theta = HeldPolicy(cart, policy, np.linspace(0, 1, 5), 0.5, method="rk4", step=0.125), policy.init(1)
    path, score, plain = [], [], []
    for seed in range(40):
        batch = episodes(agent, theta, 64, seed)[2]
        path.append(agent.pathwise(theta, batch))
        score.append(agent.reinforce(theta, batch))
        plain.append(agent.reinforce(theta, batch, baseline=False))
    path, score, plain = (np.array(x) for x in (path, score, plain))
    for other in (score, plain):
        error = np.sqrt((path.var(axis=0, ddof=1) + other.var(axis=0, ddof=1)) / 40)
        assert (np.abs(path.mean(axis=0) - other.mean(axis=0)) < 4 * error).all()
        assert other.var(axis=0).sum() > 10 * path.var(axis=0).sum()


def test_bad_arguments_are_named():
    policy = pn.mlp(2, (3,), 1)
    with pytest.raises(ValueError, match="threshold"):
        halting(decay, -1.0)
    with pytest.raises(ValueError, match="plant"):
        HeldPolicy(decay, policy, [0, 1], 0.1)
    with pytest.raises(ValueError, match="policy maps"):
        HeldPolicy(cart, pn.mlp(3, (3,), 1), [0, 1], 0.1)
    agent = HeldPolicy(cart, policy, np.linspace(0, 1, 5), 0.0)
    with pytest.raises(ValueError, match="sigma=0"):
        agent.reinforce(policy.init(0), episodes(agent, policy.init(0), 2)[2])
    noisy = HeldPolicy(cart, policy, np.linspace(0, 1, 5), 0.1)
    one = episodes(noisy, policy.init(0), 1)[2]
    with pytest.raises(ValueError, match="baseline=True needs 2 episodes or more, not 1"):
        noisy.reinforce(policy.init(0), one)
    assert np.isfinite(noisy.reinforce(policy.init(0), one, baseline=False)).all()


def example(name):
    path = Path(__file__).parents[2] / "examples" / f"{name}.py"
    if not path.exists():
        pytest.skip("the examples are not there")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_world_model_learns_filters_and_plans():
    w = example("world_model")
    model, gap = w.learn()
    assert abs(model.report_["noise"]["y1"] / w.NOISE - 1) < 0.1 and gap < 0.1
    planner = w.Planner(model.theta_, steps=20, n=3)
    x, e = planner.plans.ravel().copy(), np.zeros(60)
    _, g = planner.cost(x, np.array([0.1, 0.2]))
    for k in (0, 19, 37):
        e[:] = 0
        e[k] = 1e-4
        up, down = (planner.cost(x + s * e, np.array([0.1, 0.2]))[0] for s in (1, -1))
        assert abs(g[k] - (up - down) / 2e-4) < 2e-2 * max(1, abs(g[k]))  # steps are free, tolerances 1e-4
    assert np.isclose(planner.each.sum(), planner.cost(planner.plans.ravel(), np.array([0.1, 0.2]))[0])
    before = planner.each.min()
    planner(np.array([0.1, 0.2]))
    assert planner.each.min() < 0.9 * before
    watch, state = w.Filter(model.theta_, [0.0, 0.0], np.diag([0.1, 0.5])), np.array([0.3, 1.0])
    rng = np.random.default_rng(0)
    for k in range(30):
        watch.update(state[0] + w.NOISE * rng.normal())
        torque = np.array([np.sin(0.5 * k)])
        watch.predict(torque)
        state = pn.solve(w.pendulum, state, [0.0, w.DT], inputs=torque).y[-1]
    assert np.abs(watch.mean - state).max() < 0.15 and np.sqrt(watch.P[1, 1]) < 0.15


PLANT = pn.field(state=["a", "b", "cost"], inputs=1)(lambda t, y, u: [y[1], u[0], y[0] ** 2 + 0.1 * u[0] ** 2])


def test_names_and_labels_reach_a_policy():
    pd = pytest.importorskip("pandas")
    policy = pn.mlp(2, (), 1)
    agent = pn.control.HeldPolicy(PLANT, policy, np.linspace(0, 1, 5), sigma=0.1)
    theta, noise = policy.init(0), np.random.default_rng(0).standard_normal((2, 4, 1))
    y0 = np.array([[1.0, 0.0, 0.0], [2.0, 1.0, 0.0]])
    episodes = agent.rollout(theta, y0, noise)
    labelled = pd.Series(theta, index=["W0[0]", "W0[1]", "b0"])[::-1]
    frame = pd.DataFrame(y0, columns=["a", "b", "cost"])[["cost", "b", "a"]]
    np.testing.assert_array_equal(agent.rollout(labelled, frame, noise).cost, episodes.cost)
    for given in (labelled, policy.unflatten(theta)):
        np.testing.assert_array_equal(agent.pathwise(given, episodes), agent.pathwise(theta, episodes))
        np.testing.assert_array_equal(agent.reinforce(given, episodes), agent.reinforce(theta, episodes))
    plans = [pn.control.Planner(PLANT, None, 0.25, 4, -1.0, 1.0, max_iter=2) for _ in range(2)]
    assert plans[0](pd.Series({"b": 0.5, "a": 1.0})).cost == plans[1]([1.0, 0.5]).cost
    swing = pn.field(state=["x", "v"])(lambda t, y: [y[1], -y[0]])
    t = np.linspace(0, 1, 4)
    y = pn.solve(swing, [1.0, 0.0], t).y
    Y = pd.DataFrame(y, columns=["x", "v"])[["v", "x"]]
    expected = pn.control.credit(swing, t, y, None, [1.0, 2.0])
    np.testing.assert_array_equal(pn.control.credit(swing, t, Y, None, pd.Series({"v": 2.0, "x": 1.0})), expected)
    a, b = (pn.control.euler_halting(swing, x, None, 0.1, 0.01, 5)[0] for x in (Y, y))
    np.testing.assert_array_equal(a, b)


def test_shapes_that_do_not_fit_are_told():
    agent = pn.control.HeldPolicy(PLANT, pn.mlp(2, (), 1), np.linspace(0, 1, 5), sigma=0.1)
    theta = agent.policy.init(0)
    with pytest.raises(ValueError, match=r"y0 has shape \(3,\): give \(B, 3\)"):
        agent.rollout(theta, np.zeros(3), np.zeros((1, 4, 1)))
    with pytest.raises(ValueError, match=r"noise has shape \(2, 3, 1\): give \(2, 4, 1\)"):
        agent.rollout(theta, np.zeros((2, 3)), np.zeros((2, 3, 1)))
    decay = pn.field(state=1)(lambda t, y: -y)
    with pytest.raises(ValueError, match=r"y has shape \(2, 1\) and dy \(1,\): give \(3, 1\)"):
        pn.control.credit(decay, [0.0, 1.0, 2.0], np.ones((2, 1)), None, [1.0])
    with pytest.raises(ValueError, match=r"step=-0.5 must be"):
        pn.control.euler_halting(decay, [[1.0]], None, -0.5, 0.1, 3)
    with pytest.raises(ValueError, match=r"max_steps=2.5 must be"):
        pn.control.euler_halting(decay, [[1.0]], None, 0.5, 0.1, 2.5)
    planner = pn.control.Planner(PLANT, None, 0.25, 4, -1.0, 1.0)
    with pytest.raises(ValueError, match=r"y0 = \[1.0, nan\]: states must be finite"):
        planner([1.0, np.nan])
