"""One protocol for dynamics: a Field, a System, and either with events, in every call that takes dynamics."""

import re

import numpy as np
import pytest

import pynode as pn

TIGHT = {"rtol": 1e-11, "atol": 1e-12, "method": "dop853"}


@pn.field(state=2, theta={"gravity": 9.81, "drag": 0.1})
def ball(t, y, th):
    return [y[1], -th.gravity - th.drag * y[1]]


@pn.field(state=2, theta={"kick": 0.7}, inputs=1)
def push(t, y, th, x):
    return [y[0], y[1] + th.kick * x[0]]


@pn.field(state=2, out=1, theta={"weight": 0.5}, inputs=1)
def misfit(t, y, th, x):
    return [th.weight * (y[0] - x[0]) ** 2 + 0.1 * y[1] ** 2]


BOUNCE = pn.event(lambda t, y: y[0], direction=-1, reset=lambda t, y: [0.0 * y[0], -0.8 * y[1]])
T = np.array([0.0, 0.3, 0.55, 0.9, 1.3, 1.6])
DATA = np.array([[np.nan], [np.nan], [3.0], [np.nan], [-2.0], [np.nan]])
Y0 = np.array([1.0, 0.5])


def by_hand(theta, y0=Y0, data=DATA, t=T):
    """The same by plain solves from one event or jump to the next: (states, states before jumps, times of events)."""
    rows = np.full((len(t), 2), np.nan)
    before = np.full((len(t), 2), np.nan)
    events = []
    y, now = np.array(y0), t[0]
    for i in range(len(t)):
        while now < t[i]:
            sol = pn.solve(ball, y, [now, t[i]], theta[:2], events=pn.event(lambda t, y: y[0], direction=-1), **TIGHT)
            if len(sol.events) and sol.events.t[0] < t[i]:
                now, y = sol.events.t[0], sol.events.before[0]
                events.append(now)
                y = np.array([0.0, -0.8 * y[1]])
            else:
                now, y = t[i], sol.y[-1]
        before[i] = y
        if not np.isnan(data[i, 0]):
            y = np.array([y[0], y[1] + theta[2] * data[i, 0]])
        rows[i] = y
    return rows, before, np.array(events)


SYSTEM = pn.System(ball, jump=push, loss=misfit, events=BOUNCE)
THETA = SYSTEM.init()


def test_jumps_and_events_go_together():
    sol = pn.solve(SYSTEM, Y0, T, THETA, data=DATA, **TIGHT)
    y, before, times = by_hand(THETA)
    assert sol.ok and len(times) > 1
    np.testing.assert_allclose(sol.events.t, times, rtol=1e-9)
    np.testing.assert_allclose(sol.y, y, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(sol.y_before, before, rtol=1e-8, atol=1e-9)
    shorthand = pn.solve(pn.System(ball, jump=push), Y0, T, THETA[:3], data=DATA, events=BOUNCE, **TIGHT)
    assert np.array_equal(shorthand.y, sol.y)


def test_a_batch_jumps_and_bounces_as_its_samples_do():
    y0 = np.array([[1.0, 0.5], [0.2, -1.0], [3.0, 0.0]])
    data = np.stack([DATA, -DATA, np.full_like(DATA, np.nan)])
    both = pn.solve(SYSTEM, y0, T, THETA, data=data, **TIGHT)
    for i in range(3):
        alone = pn.solve(SYSTEM, y0[i], T, THETA, data=data[i], **TIGHT)
        np.testing.assert_allclose(both.y[i], alone.y, rtol=1e-8, atol=1e-9)
        assert len(both.events.of(sample=i)) == len(alone.events)


def test_a_jump_at_the_initial_time():
    data = np.full((len(T), 1), np.nan)
    data[0] = 1.0
    sol = pn.solve(SYSTEM, Y0, T, THETA, data=data, **TIGHT)
    moved = pn.solve(SYSTEM, [1.0, 0.5 + 0.7], T, THETA, data=np.full_like(data, np.nan), **TIGHT)
    np.testing.assert_allclose(sol.y, moved.y, rtol=1e-9, atol=1e-10)


def test_an_event_at_the_time_of_a_jump_comes_first():
    halve = pn.event(lambda t, y: t - 0.25, reset=lambda t, y: [y[0], 0.5 * y[1]])
    system = pn.System(ball, jump=push, events=halve)
    t, data = np.array([0.0, 0.25, 0.4]), np.array([[np.nan], [2.0], [np.nan]])
    sol = pn.solve(system, Y0, t, system.init(), data=data, **TIGHT)
    free = pn.solve(ball, Y0, t, ball.init(), **TIGHT).y[1]
    after = [free[0], 0.5 * free[1] + 0.7 * 2.0]
    assert len(sol.events) == 1 and sol.events.t[0] == pytest.approx(0.25)
    np.testing.assert_allclose(sol.y_before[1], [free[0], 0.5 * free[1]], rtol=1e-10)
    np.testing.assert_allclose(sol.y[1], after, rtol=1e-10)
    np.testing.assert_allclose(sol.y[2], pn.solve(ball, after, [0.25, 0.4], ball.init(), **TIGHT).y[1], rtol=1e-10)
    table = pn.check_grad(system, Y0, t, system.init(), np.zeros((3, 2)), data=data, wrt=("theta", "y0", "data"), **TIGHT)
    assert table.max_error < 1e-6


def differences(f, x, h=1e-5):
    x = np.asarray(x, dtype=np.float64)
    g = np.zeros(x.size)
    for i in range(x.size):
        for c, k in ((2 / 3, 1), (-2 / 3, -1), (-1 / 12, 2), (1 / 12, -2)):
            moved = x.ravel().copy()
            moved[i] += k * h
            g[i] += c * f(moved.reshape(x.shape)) / h
    return g.reshape(x.shape)


def test_gradients_through_jumps_and_events():
    target = np.linspace(1.0, 0.2, len(T))[:, None]
    known = {"loss": "program", "data": DATA, **TIGHT}
    wrt = ("theta", "y0", "data", "target", "t")
    val = pn.loss_and_grad(SYSTEM, Y0, T, THETA, target, wrt=wrt, **known)

    def loss(theta=THETA, y0=Y0, data=DATA, target=target, t=T):
        y = by_hand(theta, y0, data, t)[0]
        return float((theta[3] * (y[:, 0] - target[:, 0]) ** 2 + 0.1 * y[:, 1] ** 2).sum())

    assert abs(val.loss - loss()) < 1e-7
    np.testing.assert_allclose(val.theta, differences(lambda x: loss(theta=x), THETA), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(val.y0, differences(lambda x: loss(y0=x), Y0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(val.target, differences(lambda x: loss(target=x), target), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(val.t, differences(lambda x: loss(t=x), T), rtol=1e-4, atol=1e-5)
    seen = ~np.isnan(DATA)
    moved = differences(lambda x: loss(data=np.where(seen, x, np.nan)), np.nan_to_num(DATA))
    np.testing.assert_allclose(val.data[seen], moved[seen], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_reduction_holds_with_events(reduction):
    target = np.zeros((len(T), 2))
    val = pn.loss_and_grad(ball, Y0, T, ball.init(), target, events=BOUNCE, reduction=reduction)
    y = pn.solve(ball, Y0, T, ball.init(), events=BOUNCE).y
    total = float((y**2).sum())
    assert val.loss == pytest.approx(total if reduction == "sum" else total / y.size)
    other = pn.loss_and_grad(ball, Y0, T, ball.init(), target, events=BOUNCE, reduction="sum")
    np.testing.assert_allclose(val.theta, other.theta / (1 if reduction == "sum" else y.size))


def test_what_does_not_go_with_events_says_so():
    target = np.zeros((len(T), 2))
    theta = ball.init()
    for keys, words in (
        ({"reduction": "nonsense"}, "reduction='nonsense'"),
        ({"adjoint": "backsolve"}, "adjoint='backsolve'"),
        ({"memory": "64MB"}, "memory='64MB'"),
        ({"coupling": 0.9}, "coupling=0.9"),
        ({"grid": T}, "grid="),
        ({"data": DATA}, "data= is given"),
        ({"wrt": "data"}, "wrt='data'"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            pn.loss_and_grad(ball, Y0, T, theta, target, events=BOUNCE, **keys)
    for keys, words in (
        ({"coupling": 0.9}, "coupling must be 0"),
        ({"grid": T}, "grid="),
        ({"data": DATA}, "data= is given"),
        ({"max_events": 0}, "max_events"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            pn.sensitivities(ball, Y0, T, theta, events=BOUNCE, **keys)
    with pytest.raises(ValueError, match="data is missing"):
        pn.sensitivities(pn.System(ball, jump=push), Y0, T, THETA[:3])
    with pytest.raises(TypeError, match=r"pynode\.event"):
        pn.solve(ball, Y0, T, theta, events=[lambda t, y: y[0]])


def test_check_grad_with_events():
    table = pn.check_grad(ball, Y0, T, ball.init(), np.zeros((len(T), 2)), events=BOUNCE, wrt=("theta", "y0", "t"), **TIGHT)
    assert table.max_error < 1e-6
    target = np.linspace(1.0, 0.2, len(T))[:, None]
    groups = ("theta", "y0", "data", "target")
    table = pn.check_grad(SYSTEM, Y0, T, THETA, target, loss="program", data=DATA, wrt=groups, **TIGHT)
    assert table.max_error < 1e-6


def test_an_objective_with_events():
    objective = pn.Objective(ball, Y0, T, np.zeros((len(T), 2)), events=BOUNCE)
    loss, gradient = objective(ball.init())
    value = objective.evaluate(ball.init())
    assert loss == value.loss == objective.value(ball.init())
    assert np.array_equal(gradient, value.theta)
    assert objective.n_observed == 12


def test_an_event_on_the_end_of_a_step_has_a_gradient():
    """y' = -1 from 1, steps of 0.1: the event at t = 1 falls on the end of the tenth step."""

    @pn.field(state=1, theta={"rate": 1.0})
    def fall(t, y, th):
        return -th.rate + 0.0 * y

    ground = pn.event(lambda t, y: y[0])
    for step in (0.1, 0.25, 0.5, 1.0):
        sol = pn.solve(fall, [1.0], [0.0, 2.0], fall.init(), events=ground, method="rk4", step=step)
        g = sol.vjp(event_t=[1.0])
        assert abs(sol.events.t[0] - 1.0) < 1e-12
        np.testing.assert_allclose([g.theta[0], g.y0[0]], [-1.0, 1.0], rtol=1e-9)


def test_parameters_of_systems_by_name():
    assert set(SYSTEM.unflatten(THETA)) == {"field", "jump", "loss"}
    plain = pn.solve(ball, Y0, T, ball.unflatten(ball.init()), events=BOUNCE)
    named = pn.solve(ball, Y0, T, ball.init(), events=BOUNCE)
    assert np.array_equal(plain.y, named.y)


def test_systems_with_events_are_plain_data():
    ground = pn.field(state=2, theta={"height": 0.1}, out=1)(lambda t, y, th: y[0] - th.height)
    back = pn.field(state=2, theta={"e": 0.8})(lambda t, y, th: [y[0], -th.e * y[1]])
    system = pn.System(ball, events=pn.event(ground, direction=-1, reset=back))
    again = pn.System.from_dict(system.to_dict())
    a, b = (pn.solve(s, Y0, T, s.init()).y for s in (system, again))
    assert np.array_equal(a, b)
    with pytest.raises(ValueError, match=r"g of event 0 .* is a Python function"):
        SYSTEM.to_dict()


KINDS = {
    "field": (ball, {}),
    "loss": (pn.System(ball, loss=misfit), {}),
    "jump": (pn.System(ball, jump=push), {"data": DATA}),
    "jump and loss": (pn.System(ball, jump=push, loss=misfit), {"data": DATA}),
}


@pytest.mark.parametrize("events", [None, BOUNCE], ids=["plain", "events"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_every_call_takes_every_kind(kind, events):
    f, keys = KINDS[kind]
    keys = keys | TIGHT | ({} if events is None else {"events": events})
    theta, target = f.init(), np.zeros((len(T), 2))
    assert np.array_equal(f.flatten(f.unflatten(theta)), theta)
    sol = pn.solve(f, Y0, T, theta, **keys)
    val = pn.loss_and_grad(f, Y0, T, theta, target, wrt=("theta", "y0", "t"), **keys)
    assert val.loss == pytest.approx(float((sol.y**2).mean()))
    objective = pn.Objective(f, Y0, T, target, **keys)
    loss, gradient = objective(theta)
    np.testing.assert_allclose(gradient, val.theta, rtol=1e-12, atol=1e-14)
    assert objective.value(theta) == loss == pytest.approx(val.loss, rel=1e-14)
    assert pn.check_grad(f, Y0, T, theta, target, wrt=("theta", "y0"), **keys).max_error < 1e-6
    sens = pn.sensitivities(f, Y0, T, theta, **keys)
    assert np.array_equal(sens.solution.y, sol.y)
    by_loss = np.einsum("tdp,td->p", sens.theta, 2 * sol.y / sol.y.size)
    np.testing.assert_allclose(by_loss, val.theta, rtol=1e-10, atol=1e-12)
    if "loss" in kind:
        keys["loss"] = "program"
        assert pn.check_grad(f, Y0, T, theta, target[:, :1], wrt=("theta", "y0", "target"), **keys).max_error < 1e-6


def test_a_loss_does_not_change_sensitivities():
    plain = pn.sensitivities(ball, Y0, T, THETA[:2])
    system = pn.sensitivities(pn.System(ball, loss=misfit), Y0, T, np.append(THETA[:2], 0.5))
    assert np.array_equal(system.theta[..., :2], plain.theta) and (system.theta[..., 2] == 0).all()
    assert np.array_equal(system.y0, plain.y0)
