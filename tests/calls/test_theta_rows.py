"""A theta for each sample: theta (B, n_params) in solve, loss_and_grad, sensitivities and everything built on them."""

import pickle

import numpy as np
import pytest

import pynode as pn

B = 37
T = np.linspace(0.0, 2.0, 9)


@pn.field(state=2, theta={"a": 1.5, "b": 1.0, "c": 3.0, "d": 1.0})
def predators(t, y, th):
    return [th.a * y[0] - th.b * y[0] * y[1], -th.c * y[1] + th.d * y[0] * y[1]]


@pn.field(state=1, theta={"k": 2.0})
def decay(t, y, th):
    return -th.k * y


@pn.field(state=2, theta={"A": np.array([[-0.5, 1.0], [-1.0, -0.2]]), "b": np.zeros(2), "s": 1.0}, inputs=1)
def driven(t, y, th, u):
    return np.tanh(th.A @ y + th.b) + th.s * u[0] * np.cos(t)


NETWORK = pn.mlp(3, (7, 5))


def some(f, n=B, seed=0):
    rng = np.random.default_rng(seed)
    theta = f.init(0) * (1 + 0.2 * rng.standard_normal((n, f.n_params))) + 0.05 * rng.standard_normal((n, f.n_params))
    return rng.uniform(0.5, 1.5, (n, f.d)), theta


# --- against single solves -------------------------------------------------------------------------------------------


def close(a, b, eps=1e-12):
    return np.abs(a - b).max() <= eps * max(1.0, np.abs(b).max())


@pytest.mark.parametrize("n", [1, 2, 9, B, 300])
@pytest.mark.parametrize("options", [{}, {"method": "dop853", "rtol": 1e-9}, {"method": "rk4", "step": 0.03}])
def test_the_same_as_single_solves(n, options):
    y0, theta = some(predators, n)
    target = np.ones((n, len(T), 2))
    sol = pn.solve(predators, y0, T, theta, **options)
    value = pn.loss_and_grad(predators, y0, T, theta, target, loss="sse", wrt=("theta", "y0", "t"), **options)
    times = np.zeros(len(T))
    for i in range(n):
        one = pn.loss_and_grad(predators, y0[i], T, theta[i], target[i], loss="sse", wrt=("theta", "y0", "t"), **options)
        assert close(sol.y[i], pn.solve(predators, y0[i], T, theta[i], **options).y)
        assert close(value.theta[i], one.theta)
        assert close(value.y0[i], one.y0)
        times += one.t
    assert value.theta.shape == (n, 4)
    assert close(value.t, times)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("f", [NETWORK, driven, predators], ids=["mlp", "driven", "predators"])
def test_the_bits_are_those_of_a_batch_with_that_theta(f, dtype):
    y0, theta = some(f)
    y0, theta = y0.astype(dtype), theta.astype(dtype)
    options = {"inputs": np.linspace(-1, 1, B)[:, None]} if f.inputs else {}
    sol = pn.solve(f, y0, T, theta, **options)
    sens = pn.sensitivities(f, y0, T, theta, **options)
    dy = np.cos(np.arange(sol.y.size)).reshape(sol.y.shape).astype(dtype)
    g = sol.vjp(dy)
    for i in range(0, B, 6):
        one = pn.solve(f, y0, T, theta[i], **options)
        assert np.array_equal(sol.y[i], one.y[i])
        only = np.zeros_like(dy)
        only[i] = dy[i]
        shared = one.vjp(only)
        eps = 2e-5 if dtype == np.float32 else 1e-13
        assert np.abs(g.theta[i] - shared.theta).max() < eps * np.abs(shared.theta).max()
        assert np.array_equal(g.y0[i], shared.y0[i])
        assert close(sens.theta[i], pn.sensitivities(f, y0, T, theta[i], **options).theta[i], eps)


def test_closed_form():
    k = np.linspace(0.1, 3.0, 20)
    options = {"method": "dop853", "rtol": 1e-12, "atol": 1e-14}
    sol = pn.solve(decay, [2.0], T, k[:, None], **options)
    y = 2 * np.exp(-k[:, None] * T)
    assert sol.y.shape == (20, 9, 1)
    assert np.abs(sol.y[..., 0] - y).max() < 1e-11
    sens = pn.sensitivities(decay, [2.0], T, k[:, None], **options)
    assert np.abs(sens.theta[..., 0, 0] + T * y).max() < 1e-10
    assert np.abs(sens.y0[..., 0, 0] - y / 2).max() < 1e-10
    value = pn.loss_and_grad(decay, [2.0], T, k[:, None], np.zeros((20, 9, 1)), loss="sse", wrt=("theta", "y0"), **options)
    assert np.allclose(value.theta[:, 0], (-2 * T * y**2).sum(axis=1), rtol=1e-9)
    assert np.allclose(value.y0[:, 0], (y**2).sum(axis=1), rtol=1e-9)
    assert np.allclose(value.sample_loss, (y**2).sum(axis=1), rtol=1e-9)


# --- every way of solving and differentiating -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"save": "land"},
        {"method": "rk4", "step": 0.05},
        {"method": "leapfrog", "step": 0.05},
        {"adjoint": "reversible", "coupling": 0.999, "rtol": 1e-5},
        {"memory": 40_000, "rtol": 1e-9},
        {"threads": 3},
    ],
    ids=["plain", "land", "fixed", "leapfrog", "reversible", "memory", "threads"],
)
def test_gradients_are_those_of_differences(options):
    y0, theta = some(driven, 5)
    inputs = (np.linspace(-1, 3, 4), np.random.default_rng(1).normal(size=(5, 4, 1)), "cubic")
    target = np.random.default_rng(2).normal(size=(5, len(T), 2))
    wrt = ("theta", "y0", "t", "inputs")
    check = pn.check_grad(driven, y0, T, theta, target, wrt=wrt, inputs=inputs, n_entries=12, random_state=3, **options)
    assert check.max_error < 2e-7, check


def test_memory_and_threads_keep_the_bits():
    y0, theta = some(predators, 200)
    t = np.linspace(0, 12, 30)
    ways = [{}, {"memory": 60_000}, {"threads": 2}]
    (loss, g), *others = [pn.Objective(predators, y0, t, np.ones((200, 30, 2)), **options)(theta) for options in ways]
    for other_loss, other in others:
        assert other_loss == loss
        assert np.array_equal(other, g)


def test_ragged_times():
    y0, theta = some(predators, 11)
    t = [np.linspace(0, 1 + 0.3 * i, 2 + i) for i in range(11)]
    sol = pn.solve(predators, y0, t, theta)
    g = sol.vjp([np.ones_like(y) for y in sol.y]).theta
    for i in range(11):
        one = pn.solve(predators, y0[i], t[i], theta[i])
        assert np.array_equal(sol.y[i], one.y)
        assert np.array_equal(g[i], one.vjp(np.ones_like(one.y)).theta)


def system():
    jump = pn.field(state=2, theta={"gain": 0.7}, inputs=1)(
        lambda t, y, th, x: y + th.gain * x[0] * np.tanh(0.3 * y) * np.exp(-y)
    )
    loss = pn.field(state=2, out=1, theta={"width": 1.3}, inputs=2)(
        lambda t, y, th, x: [np.sum((y - x) ** 2) / th.width**2 + 2 * np.log(th.width)]
    )
    return pn.System(predators, jump=jump, loss=loss)


@pytest.mark.parametrize("options", [{}, {"memory": 40_000}], ids=["plain", "memory"])
@pytest.mark.parametrize("n", [1, 5, 40])
def test_systems_with_jumps_and_losses(n, options):
    f, rng = system(), np.random.default_rng(5)
    y0, theta = some(f, n)
    theta[:, 5] = rng.uniform(0.5, 2, n)
    data = rng.normal(size=(n, len(T), 1))
    data[:, ::2] = np.nan
    data[:, 0] = 0.3
    target = rng.normal(size=(n, len(T), 2))
    keys = {"loss": "program", "wrt": ("theta", "y0", "data", "target")} | options
    value = pn.loss_and_grad(f, y0, T, theta, target, data=data, **keys)
    for i in range(n):
        one = pn.loss_and_grad(f, y0[i], T, theta[i], target[i], data=data[i], **keys)
        assert np.allclose(value.theta[i], one.theta, rtol=1e-11, atol=1e-12)
        assert np.allclose(value.y0[i], one.y0, rtol=1e-11, atol=1e-12)
        assert np.allclose(value.data[i], one.data, rtol=1e-11, atol=1e-12)
        assert np.allclose(value.target[i], one.target, rtol=1e-12)
    if n == 5:
        check = pn.check_grad(f, y0, T, theta, target, data=data, loss="program", n_entries=30)
        assert check.max_error < 1e-8, check


def test_a_system_that_only_jumps_at_its_initial_time():
    f = pn.System(decay, jump=pn.field(state=1, theta={"g": 1.0})(lambda t, y, th: th.g * y))
    theta = np.array([[1.0, 2.0], [0.5, 3.0], [2.0, -1.0]])
    sol = pn.solve(f, [1.5], [1.0], theta)
    assert np.array_equal(sol.y[:, 0, 0], 1.5 * theta[:, 1])
    g = sol.vjp(np.ones((3, 1, 1)))
    assert np.array_equal(g.theta, np.stack([np.zeros(3), np.full(3, 1.5)], axis=1))
    assert np.array_equal(g.y0[:, 0], theta[:, 1])


def test_sensitivities_of_a_system_with_a_loss():
    f = pn.System(predators, loss=pn.field(state=2, out=1, theta={"w": 1.0})(lambda t, y, th: [th.w * y[0]]))
    y0, theta = some(f, 9)
    sens = pn.sensitivities(f, y0, T, theta)
    assert sens.theta.shape == (9, len(T), 2, 5)
    assert not sens.theta[..., 4].any()
    problem = pn.SensitivityProblem(predators, y0, T)
    raw = problem.run(theta[:, :4])
    assert np.array_equal(raw["sensitivity"][..., :4].reshape(9, len(T), 2, 4), sens.theta[..., :4])


# --- what users may give -----------------------------------------------------------------------------------------------


def test_a_dict_whose_entries_have_a_leading_axis():
    y0, theta = some(driven, 6)
    tree = {"A": theta[:, :4].reshape(6, 2, 2), "b": theta[:, 4:6], "s": theta[:, 6]}
    options = {"inputs": [1.0]}
    assert np.array_equal(pn.solve(driven, y0, T, tree, **options).y, pn.solve(driven, y0, T, theta, **options).y)
    some_shared = theta.copy()
    some_shared[:, 4:6] = [0.1, 0.2]
    y = pn.solve(driven, y0, T, tree | {"b": [0.1, 0.2]}, **options).y
    assert np.array_equal(y, pn.solve(driven, y0, T, some_shared, **options).y)
    sweep = pn.solve(predators, y0, T, {"a": np.linspace(1, 2, 6), "b": 1.0, "c": 3.0, "d": 1.0})
    assert sweep.theta.shape == (6, 4)


def test_one_initial_state_is_shared():
    theta = some(predators)[1]
    sol = pn.solve(predators, [1.0, 0.5], T, theta)
    assert sol.y.shape == (B, len(T), 2)
    assert np.array_equal(sol.y, pn.solve(predators, np.tile([1.0, 0.5], (B, 1)), T, theta).y)
    assert pn.sensitivities(predators, [1.0, 0.5], T, theta).theta.shape == (B, len(T), 2, 4)
    check = pn.check_grad(predators, [1.0, 0.5], T, theta, np.zeros((B, len(T), 2)), n_entries=8)
    assert check.max_error < 1e-8, check


def test_a_later_call_takes_a_theta_or_many():
    """A plan of an earlier call serves both."""
    y0, theta = some(predators, 8)
    many = pn.solve(predators, y0, T, theta).y
    one = pn.solve(predators, y0, T, theta[3]).y
    assert np.array_equal(pn.solve(predators, y0, T, theta).y, many)
    assert np.array_equal(one[3], many[3])
    assert not np.array_equal(one[2], many[2])
    objective = pn.Objective(predators, y0, T, np.zeros((8, len(T), 2)))
    assert objective(theta)[1].shape == (8, 4)
    assert objective(theta[0])[1].shape == (4,)
    assert objective.value(theta) == objective(theta)[0]
    single = pn.solve(predators, y0[0], T, theta[:1])
    assert single.y.shape == (1, len(T), 2)
    assert pn.solve(predators, y0[0], T, theta[0]).y.shape == (len(T), 2)
    again = pn.solve(predators, y0[0], T, theta[:1])
    assert again.y.shape == (1, len(T), 2)


def test_gradients_of_shared_parameters_are_the_sum_of_those_of_the_samples():
    y0, theta = some(NETWORK, 20)
    target = np.zeros((20, len(T), 3))
    shared = pn.loss_and_grad(NETWORK, y0, T, theta[0], target)
    each = pn.loss_and_grad(NETWORK, y0, T, np.tile(theta[0], (20, 1)), target)
    assert each.loss == shared.loss
    assert np.allclose(each.theta.sum(axis=0), shared.theta, rtol=1e-12, atol=1e-14)


def test_a_solution_with_rows_can_be_pickled():
    y0, theta = some(predators, 3)
    sol = pickle.loads(pickle.dumps(pn.solve(predators, y0, T, theta)))
    assert np.array_equal(sol.theta, theta)
    assert sol.vjp(np.ones((3, len(T), 2))).theta.shape == (3, 4)


def test_no_samples_and_no_parameters():
    assert pn.solve(predators, np.zeros((0, 2)), T, np.zeros((0, 4))).y.shape == (0, len(T), 2)
    assert pn.solve(predators, [1.0, 1.0], T, {"a": [], "b": 1.0, "c": 1.0, "d": 1.0}).y.shape == (0, len(T), 2)
    free = pn.field(state=1)(lambda t, y: -y)
    value = pn.loss_and_grad(free, np.ones((3, 1)), T, np.zeros((3, 0)), np.zeros((3, len(T), 1)))
    assert value.theta.shape == (3, 0)


# --- samples that fail ---------------------------------------------------------------------------------------------------


def test_a_sample_that_fails_leaves_the_others_alone():
    f = pn.field(state=1, theta={"k": 1.0})(lambda t, y, th: th.k * y**2)
    k = np.full((B, 1), 0.1)
    k[[3, 20]] = 5.0  # explodes at t = 0.2
    with pytest.warns(pn.SolveWarning, match="2 of 37"):
        value = pn.loss_and_grad(f, np.ones((B, 1)), T, k, np.zeros((B, len(T), 1)), loss="sse")
    assert np.flatnonzero(value.status).tolist() == [3, 20]
    assert not value.theta[[3, 20]].any()
    one = pn.loss_and_grad(f, [1.0], T, [0.1], np.zeros((len(T), 1)), loss="sse")
    assert np.array_equal(np.delete(value.theta, [3, 20], axis=0), np.tile(one.theta, (B - 2, 1)))


def test_a_sample_whose_gradient_is_not_finite_is_left_out():
    f = pn.field(state=1, theta={"k": 1.0})(lambda t, y, th: -np.sqrt(th.k) * y)
    k = np.linspace(1, 2, B)[:, None]
    k[7] = 0.0  # the derivative of its root is infinite
    with pytest.warns(pn.SolveWarning, match="1 of 37"):
        value = pn.loss_and_grad(f, np.ones((B, 1)), T, k, np.zeros((B, len(T), 1)), loss="sse", wrt=("theta", "y0"))
    assert np.flatnonzero(value.status).tolist() == [7]
    assert value.theta[7] == value.y0[7] == 0
    for i in (6, 8):
        one = pn.loss_and_grad(f, [1.0], T, k[i], np.zeros((len(T), 1)), loss="sse")
        assert np.array_equal(value.theta[i], one.theta)


# --- what cannot be -------------------------------------------------------------------------------------------------------


def test_errors_name_both_numbers():
    y0, theta = some(predators, 4)
    with pytest.raises(ValueError, match=r"theta holds 3 rows \(shape \(3, 4\)\), but there are 4 samples"):
        pn.solve(predators, y0, T, theta[:3])
    with pytest.raises(ValueError, match=r"theta holds 3 rows \(shape \(3, 4\)\), but there are 4 samples"):
        pn.Objective(predators, y0, T, np.zeros((4, len(T), 2)))(theta[:3])
    with pytest.raises(ValueError, match="theta holds 3 rows, but there are 4 samples"):
        pn.solve(predators, y0, T, {"a": np.ones(3), "b": 1.0, "c": 1.0, "d": 1.0})
    with pytest.raises(ValueError, match="different numbers of values for the samples"):
        pn.solve(predators, y0, T, {"a": np.ones(3), "b": np.ones(4), "c": 1.0, "d": 1.0})
    with pytest.raises(ValueError, match=r"theta must have shape \(4,\), or \(4, 4\), not \(4, 3\)"):
        pn.solve(predators, y0, T, theta[:, :3])
    with pytest.raises(ValueError, match=r"theta\[2, 1\] is nan"):
        pn.solve(predators, y0, T, np.where(np.arange(16).reshape(4, 4) == 9, np.nan, theta))
    with pytest.raises(ValueError, match=r"theta must have shape"):
        pn.solve(predators, y0, T, np.ones((2, 4, 4)))


def test_what_has_one_theta_for_all_says_so():
    y0, theta = some(predators, 4)
    target = np.zeros((4, len(T), 2))
    event = pn.event(lambda t, y: y[0] - 1.0)
    match = "4 rows, one a sample, but a solve with events takes one theta"
    with pytest.raises(ValueError, match=match):
        pn.solve(predators, y0, T, theta, events=event)
    with pytest.raises(ValueError, match=match):
        pn.loss_and_grad(predators, y0, T, theta, target, events=event)
    sol = pn.solve(predators, y0, T, theta)
    for adjoint in ("backsolve", "interpolating"):
        with pytest.raises(ValueError, match=f"adjoint='{adjoint}' takes one theta for all samples"):
            pn.loss_and_grad(predators, y0, T, theta, target, adjoint=adjoint)
        with pytest.raises(ValueError, match=f"adjoint='{adjoint}' takes one theta for all samples"):
            sol.vjp(target, adjoint=adjoint)
    slow = pn.callback_field(lambda t, y, th: -th[0] * y, 2, n_params=1, vjp=lambda t, y, th, s: (-th[0] * s, [-s @ y]))
    for call in (
        lambda: pn.solve(slow, y0, T, np.ones((4, 1))),
        lambda: pn.loss_and_grad(slow, y0, T, np.ones((4, 1)), target),
        lambda: pn.Objective(slow, y0, T, target).value(np.ones((4, 1))),
    ):
        with pytest.raises(ValueError, match="is a callback field, which has one theta for all samples"):
            call()
