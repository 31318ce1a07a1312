"""Sensitivities through jumps, events and observation functions.

The references: closed forms, rows of the backward pass (another algorithm, the same numbers), central differences of solves.
"""

import re

import numpy as np
import pytest

import pynode as pn

TIGHT = {"rtol": 1e-11, "atol": 1e-12, "method": "dop853"}
G = 9.81


@pn.field(state=2, theta={"gravity": G, "restitution": 0.8, "drag": 0.0})
def ball(t, y, th):
    return [y[1], -th.gravity - th.drag * y[1]]


def reflect(t, y, th):
    return [0.0, -th.restitution * y[1]]


def ground(t, y):
    return y[0]


DOUBLE = pn.event(lambda t, y: 2 * y[0], reset=reflect)
LATE = pn.event(ground, direction=-1, reset=lambda t, y, th: [0.1 * t, -th.restitution * y[1] - t])


def wall(t, y, th):
    return y[0] + 0.1 * t * th.drag


BOUNCE = pn.event(ground, direction=-1, reset=reflect)


@pn.field(state=1, theta={"k": 0.4})
def decay(t, y, th):
    return -th.k * y


@pn.field(state=1, theta={"share": 0.7}, inputs=1)
def dose(t, y, th, x):
    return y + th.share * x


@pn.field(state=2, theta={"w": 2.0, "b": 0.3}, inputs=1)
def driven(t, y, th, u):
    return [y[1], -(th.w**2) * np.sin(y[0]) - th.b * y[1] + u[0]]


@pn.field(state=2, theta={"kick": 0.7}, inputs=1)
def push(t, y, th, x):
    return [y[0] * np.cos(0.1 * t), y[1] + th.kick * x[0] * np.exp(-(y[0] ** 2))]


def pushes(n, **at):
    data = np.full((n, 1), np.nan)
    for row, x in at.items():
        data[int(row[1:])] = x
    return data


def rows_of_vjp(sol):
    """(d y / d theta, d y / d y0) of one sample by one backward pass for each entry."""
    y = sol.y
    by_theta = np.full((*y.shape, sol.field.n_params), np.nan)
    by_y0 = np.full((*y.shape, y.shape[1]), np.nan)
    for at in np.argwhere(~np.isnan(y)):
        dy = np.zeros(y.shape)
        dy[tuple(at)] = 1.0
        g = sol.vjp(dy)
        by_theta[tuple(at)], by_y0[tuple(at)] = g.theta, g.y0
    return by_theta, by_y0


def close(a, b, tolerance):
    assert np.array_equal(np.isnan(a), np.isnan(b))
    scale = 1 + np.nanmax(np.abs(b), initial=0.0)
    assert np.nanmax(np.abs(a - b), initial=0.0) < tolerance * scale


# ---- Closed forms


def test_impacts_of_a_ball_in_closed_form():
    """From height h: t_n = s (1 + 2 sum_{i<n} e^i), s = sqrt(2 h / g), and the speed before impact n is -g s e^(n - 1)."""
    h, e = 2.0, 0.8
    s = np.sqrt(2 * h / G)
    sens = pn.sensitivities(ball, [h, 0.0], [0.0, 4.0], ball.init(), events=BOUNCE, **TIGHT)
    events = sens.solution.events
    n = np.arange(1, len(events) + 1)
    times = np.array([s * (1 + 2 * sum(e**i for i in range(1, k))) for k in n])
    by_e = np.array([s * 2 * sum(i * e ** (i - 1) for i in range(1, k)) for k in n])
    assert len(events) >= 4
    np.testing.assert_allclose(events.t, times, rtol=1e-12)
    np.testing.assert_allclose(sens.events.t.theta[:, 0], -times / (2 * G), rtol=1e-9)
    np.testing.assert_allclose(sens.events.t.theta[:, 1], by_e, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(sens.events.t.y0[:, 0], times / (2 * h), rtol=1e-9)
    speed = -G * s * e ** (n - 1)
    np.testing.assert_allclose(events.before[:, 1], speed, rtol=1e-11)
    np.testing.assert_allclose(sens.events.before.theta[:, 1, 0], speed / (2 * G), rtol=1e-9)
    np.testing.assert_allclose(sens.events.before.theta[:, 1, 1], speed * (n - 1) / e, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(sens.events.after.theta[:, 1, 1], -speed * n, rtol=1e-9)
    np.testing.assert_allclose(sens.events.after.y0[:, 1, 0], -speed * e / (2 * h), rtol=1e-9)
    np.testing.assert_allclose(sens.events.before.y0[:, 0], 0.0, atol=1e-12)  # on the ground, wherever it came from


def test_bolus_doses_in_closed_form():
    """y(t) = y0 exp(-k t) + share sum_i x_i exp(-k (t - t_i))."""
    t = np.array([0.0, 1.0, 1.0, 2.5, 4.0, 6.0])
    k, share = 0.4, 0.7
    y0 = 3.0
    x = np.array([2.0, np.nan, 1.0, np.nan, 5.0, np.nan])
    system = pn.System(decay, jump=dose)
    sens = pn.sensitivities(system, [y0], t, system.init(), data=x[:, None], **TIGHT)
    age = t[:, None] - t[~np.isnan(x)]
    given = (np.arange(6)[:, None] >= np.flatnonzero(~np.isnan(x))) * np.exp(-k * age) * x[~np.isnan(x)]
    np.testing.assert_allclose(sens.value[:, 0], y0 * np.exp(-k * t) + share * given.sum(axis=1), rtol=1e-10)
    by_k = -t * y0 * np.exp(-k * t) - share * (given * age).sum(axis=1)
    np.testing.assert_allclose(sens.theta[:, 0, 0], by_k, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(sens.theta[:, 0, 1], given.sum(axis=1), rtol=1e-10)
    np.testing.assert_allclose(sens.y0[:, 0, 0], np.exp(-k * t), rtol=1e-10)


# ---- The backward pass, the same numbers


CASES = {
    "jumps": (pn.System(driven, jump=push), {"data": pushes(25, _0=0.5, _7=1.0, _8=-2.0, _24=0.3), "inputs": [0.5]}),
    "jumps on a grid": (
        pn.System(ball, jump=push),
        {"data": pushes(25, _12=1.0), "grid": np.linspace(0, 1.5, 49), "method": "rk4"},
    ),
    "bounces": (ball, {"events": BOUNCE}),
    "bounces and jumps": (pn.System(ball, jump=push), {"events": BOUNCE, "data": pushes(25, _0=0.5, _9=3.0, _20=-2.0)}),
    "crossings without reset": (
        driven,
        {"events": pn.event(ground, terminal=False), "inputs": ([0, 0.7, 1.5], [[1], [0], [2]])},
    ),
    "backwards": (
        pn.System(driven, jump=push, events=pn.event(ground, reset=lambda t, y, th: [0.1, y[1] * th.b])),
        {"t": np.linspace(1.5, 0, 25), "inputs": [-2.0], "data": pushes(25, _2=1.0, _12=-1.0)},
    ),
    "times that repeat": (
        pn.System(ball, jump=push, events=BOUNCE),
        {
            "t": np.repeat(np.linspace(0, 1.5, 9), [3, 1, 1, 2, 1, 1, 1, 1, 3]),
            "data": pushes(14, _0=1.0, _2=0.3, _5=2.0, _12=1.0),
        },
    ),
    "terminal": (ball, {"events": pn.event(wall)}),
    "terminal and held": (ball, {"events": pn.event(ground, hold=True, reset=reflect, terminal=True)}),
    "two at a time": (
        ball,
        {"events": [BOUNCE, DOUBLE]},
    ),
    "event at a jump": (
        pn.System(ball, jump=push),
        {"events": pn.event(lambda t, y: t - 0.25, reset=lambda t, y: [y[0], 0.5 * y[1]]), "data": pushes(25, _4=2.0)},
    ),
    "reset of time": (
        ball,
        {"events": LATE},
    ),
}
WAYS = {
    "adaptive": {},
    "land": {"save": "land"},
    "dop853": {"method": "dop853", "rtol": 1e-4},
    "fixed": {"method": "rk4", "step": 0.0703},
    "long steps": {"method": "heun", "step": 0.61},
}


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("case", list(CASES))
def test_rows_of_the_backward_pass(case, way):
    f, keys = CASES[case]
    if "grid" in keys and way not in ("adaptive", "land"):
        pytest.skip("the grid says how")
    keys = WAYS[way] | keys
    t, theta = keys.pop("t", np.linspace(0, 1.5, 25)), f.init()
    sens = pn.sensitivities(f, [1.0, 0.5], t, theta, **keys)
    sol = pn.solve(f, [1.0, 0.5], t, theta, **keys)
    assert np.array_equal(sol.y, sens.solution.y, equal_nan=True)
    by_theta, by_y0 = rows_of_vjp(sol)
    eps = 1e-11 if way == "dop853" else 1e-13  # its dense output over long steps cancels
    close(sens.theta, by_theta, eps)
    close(sens.y0, by_y0, eps)
    if not isinstance(sol, pn.EventSolution):
        assert sens.events is None
        return
    n = len(sol.events)
    assert n and np.array_equal(sol.events.t, sens.solution.events.t)
    for i in range(n):
        g = sol.vjp(event_t=np.eye(n)[i])
        close(sens.events.t.theta[i], g.theta, 1e-12)
        close(sens.events.t.y0[i], g.y0, 1e-12)
        for j in range(2):
            seed = np.zeros((n, 2))
            seed[i, j] = 1.0
            for name in ("before", "after"):
                g = sol.vjp(**{f"event_{name}": seed})
                close(getattr(sens.events, name).theta[i, j], g.theta, 1e-12)
                close(getattr(sens.events, name).y0[i, j], g.y0, 1e-12)


def test_against_differences_of_solves():
    f, theta = pn.System(driven, jump=push, events=pn.event(ground, terminal=False)), np.array([3.0, 0.3, 0.7])
    keys = {
        "data": pushes(25, _3=0.5, _7=1.0, _16=-2.0),
        "inputs": [0.5],
        "observe": lambda t, y, th: [np.exp(y[0]) * th.w, t],
    }
    t, y0 = np.linspace(0, 3, 25), np.array([1.0, 0.5])
    h = 1e-5

    def solved(theta, y0):
        sol = pn.sensitivities(f, y0, t, theta, **keys, **TIGHT)
        return sol.solution.y, sol.value, sol.solution.events.t

    s = pn.sensitivities(f, y0, t, theta, **keys, **TIGHT)
    assert len(s.solution.events) > 1
    plain = pn.sensitivities(f, y0, t, theta, **{k: v for k, v in keys.items() if k != "observe"}, **TIGHT)
    for name, point, n in (("theta", theta, 3), ("y0", y0, 2)):
        for i in range(n):
            e = h * np.eye(n)[i]
            args = [{"theta": theta, "y0": y0} | {name: point + sign * e} for sign in (1, -1)]
            up, down = (solved(**a) for a in args)
            y, value, times = ((a - b) / (2 * h) for a, b in zip(up, down, strict=True))
            close(getattr(plain, name)[..., i], y, 1e-7)
            close(getattr(s, name)[..., i], value, 1e-7)
            close(getattr(s.events.t, name)[:, i], times, 1e-7)


# ---- Batches


def test_a_batch_is_its_samples():
    t = [np.linspace(0, 2, 9), np.linspace(0, 0.3, 4), np.linspace(0.5, 1.5, 6), np.linspace(1, -0.4, 7)]
    y0 = np.array([[1.0, 0.5], [2.0, 0.0], [0.1, -3.0], [0.5, -1.0]])
    f, theta = (
        pn.System(ball, jump=push, events=[BOUNCE, pn.event(lambda t, y: y[1] - 1.5, terminal=False)]),
        np.array([G, 0.8, 0.1, 0.7]),
    )
    data = [pushes(len(x), _2=1.0) for x in t]
    sens = pn.sensitivities(f, y0, t, theta, data=data, observe=lambda t, y, th: [y[0] * th.gravity])
    assert len(sens.solution.events.of(sample=3)) and not len(sens.solution.events.of(sample=1).of(which=0))
    for i in range(4):
        one = pn.sensitivities(f, y0[i], t[i], theta, data=data[i], observe=lambda t, y, th: [y[0] * th.gravity])
        close(sens.theta[i], one.theta, 1e-12)
        close(sens.y0[i], one.y0, 1e-12)
        close(sens.value[i], one.value, 1e-13)
        here = sens.solution.events.sample == i
        close(sens.events.t.theta[here], one.events.t.theta, 1e-12)
        close(sens.events.after.y0[here], one.events.after.y0, 1e-12)


def test_a_theta_for_each_sample_with_jumps():
    t, rng = np.linspace(0, 2, 7), np.random.default_rng(0)
    f, theta = pn.System(decay, jump=dose), rng.uniform(0.2, 1.0, (3, 2))
    data = np.where(rng.random((3, 7, 1)) < 0.5, np.nan, 1.0)
    keys = {"observe": lambda t, y, th: [th.k * y[0] ** 2]}
    sens = pn.sensitivities(f, [2.0], t, theta, data=data, **keys)
    for i in range(3):
        one = pn.sensitivities(f, [2.0], t, theta[i], data=data[i], **keys)
        close(sens.theta[i], one.theta, 1e-13)
        close(sens.y0[i], one.y0, 1e-13)
        close(sens.value[i], one.value, 1e-13)
    with pytest.raises(ValueError, match="one theta for all samples"):
        pn.sensitivities(ball, [1.0, 0.0], t, np.tile(ball.init(), (3, 1)), events=BOUNCE)


def test_single_precision():
    t = np.linspace(0, 1.5, 9)
    for f, keys in ((ball, {"events": BOUNCE}), (pn.System(ball, jump=push), {"data": pushes(9, _3=1.0)})):
        a = pn.sensitivities(f, np.array([1.0, 0.5], np.float32), t, f.init(), rtol=1e-5, **keys)
        b = pn.sensitivities(f, [1.0, 0.5], t, f.init(), rtol=1e-5, **keys)
        assert a.theta.dtype == a.y0.dtype == a.value.dtype == np.float32
        close(a.theta, b.theta, 1e-4)
        close(a.y0, b.y0, 1e-4)


# ---- What ends early


def test_nothing_is_known_behind_an_end():
    t = np.linspace(0, 1, 11)
    sens = pn.sensitivities(ball, [1.0, 0.0], t, ball.init(), events=pn.event(ground), observe=lambda t, y: [t])
    behind = t > np.sqrt(2 / G)
    for x in (sens.theta, sens.y0, sens.value):
        assert np.isnan(x[behind]).all() and np.isfinite(x[~behind]).all()
    held = pn.sensitivities(ball, [1.0, 0.0], t, ball.init(), events=pn.event(ground, hold=True))
    np.testing.assert_allclose(held.theta[behind], np.broadcast_to(held.events.after.theta, (behind.sum(), 2, 3)))


@pytest.mark.parametrize("events", [None, pn.event(lambda t, y: y[0] - 2.0, terminal=False)], ids=["jumps", "events"])
def test_a_sample_that_fails(events):
    grow = pn.field(state=1, theta={"a": 1.0})(lambda t, y, th: th.a * y**2)
    f, t = pn.System(grow, jump=dose), np.linspace(0, 2, 9)
    keys = {"data": np.stack([pushes(9, _2=0.1)] * 2), "events": events}
    with pytest.warns(pn.SolveWarning, match="1 of 2 samples failed"):
        sens = pn.sensitivities(f, [[1.0], [0.1]], t, f.init(), **keys)
    alone = pn.sensitivities(f, [0.1], t, f.init(), data=keys["data"][1], events=events)
    close(sens.theta[1], alone.theta, 1e-13)
    lost = np.isnan(sens.solution.y[0, :, 0])
    assert 0 < lost.sum() < 9
    assert np.isnan(sens.theta[0, lost]).all() and np.isfinite(sens.theta[0, ~lost]).all()
    until = t[~lost]
    same = pn.sensitivities(f, [1.0], until, f.init(), data=keys["data"][0, ~lost], events=events)
    close(sens.theta[0, ~lost], same.theta, 1e-5)


def test_too_many_events():
    with pytest.warns(pn.SolveWarning, match="max_events"):
        sens = pn.sensitivities(ball, [1.0, 0.0], np.linspace(0, 4, 21), ball.init(), events=BOUNCE, max_events=2)
    assert len(sens.events.t.theta) == 2
    assert np.array_equal(np.isnan(sens.theta[:, 0, 0]), np.isnan(sens.solution.y[:, 0]))


def test_an_event_met_at_rate_0():
    rest = pn.field(state=1, theta={"a": 0.0})(lambda t, y, th: th.a + 0.0 * y)
    switch = pn.event(lambda t, y, th: np.where(t > 0.5, 1.0, -1.0) + 0.01 * th.a * y[0])
    with pytest.raises(ValueError, match=r"event 0 of sample 0 at t = 0\.5 is met at rate 0"):
        pn.sensitivities(rest, [1.0], [0.0, 0.25, 1.0], rest.init(), events=switch)


# ---- Problems


def test_other_initial_states():
    t, theta = np.linspace(0, 1.5, 9), ball.init()
    y0 = np.array([[2.0, -1.0]])
    for f, keys in ((ball, {"events": BOUNCE}), (pn.System(ball, jump=push), {"data": pushes(9, _3=1.0)})):
        problem = pn.SensitivityProblem(f, [1.0, 0.0], t, **keys)
        raw, sens = problem.run(f.init(), y0), pn.sensitivities(f, y0[0], t, f.init(), **keys)
        assert np.array_equal(raw["sensitivity"], np.concatenate([sens.theta, sens.y0], axis=2))
        again = problem.evaluate(f.init())
        assert np.array_equal(again.theta, pn.sensitivities(f, [1.0, 0.0], t, f.init(), **keys).theta)
        if "events" in keys:
            assert np.array_equal(raw["event_t"], np.concatenate(sens.events.t, axis=1))
            with pytest.raises(ValueError, match=r"y0 has shape \(2,\)"):
                problem.run(theta, y0[0])


def test_least_squares_through_impacts():
    """Gravity, restitution and the height, from impact times alone: with the noise away, to rounding."""
    truth, t = np.array([G, 0.75, 0.0]), np.array([0.0, 3.0])
    seen = pn.solve(ball, [1.7, 0.0], t, truth, events=BOUNCE, **TIGHT).events.t[:4]
    problem = pn.SensitivityProblem(ball, [1.0, 0.0], t, events=BOUNCE, **TIGHT)

    def residuals(x):  # gravity is known
        raw = problem.run([G, x[0], 0.0], [[x[1], 0.0]])
        return raw["events"].t[:4] - seen, raw["event_t"][:4][:, [1, 3]]

    result = pn.fit.levenberg_marquardt(residuals, [0.7, 1.5])
    np.testing.assert_allclose(result.theta, [0.75, 1.7], rtol=1e-9)


# ---- What is measured


def test_observing_by_a_field_uses_parameters_of_the_same_names():
    share = pn.field(state=2, out=1, theta={"drag": 0.0, "gravity": 1.0})(lambda t, y, th: [y[0] * th.gravity + th.drag * t])
    t, theta = np.linspace(0, 1.5, 9), np.array([G, 0.8, 0.1])
    a = pn.sensitivities(ball, [1.0, 0.5], t, theta, events=BOUNCE, observe=share)
    b = pn.sensitivities(
        ball, [1.0, 0.5], t, theta, events=BOUNCE, observe=lambda t, y, th: [y[0] * th.gravity + th.drag * t]
    )
    states = pn.sensitivities(ball, [1.0, 0.5], t, theta, events=BOUNCE)
    assert np.array_equal(a.theta, b.theta) and np.array_equal(a.value, b.value)
    expected = states.theta[:, 0] * G
    expected[:, 0] += states.solution.y[:, 0]
    expected[:, 2] += t
    close(a.theta[:, 0], expected, 1e-13)
    assert a.value.shape == (9, 1) and np.array_equal(states.value, states.solution.y)


def test_observing_inputs():
    power = (np.array([0.0, 1.0, 2.0]), np.array([[[1.0], [3.0], [0.0]], [[0.0], [1.0], [1.0]]]))
    t, y0 = np.linspace(0, 2, 5), np.array([[1.0, 0.5], [0.3, 0.0]])
    s = pn.sensitivities(driven, y0, t, driven.init(), inputs=power, observe=lambda t, y, th, u: [u[0], th.w * u[0] * y[0]])
    u = np.stack([np.interp(t, power[0], x[:, 0]) for x in power[1]])
    np.testing.assert_allclose(s.value[..., 0], u)
    states = pn.sensitivities(driven, y0, t, driven.init(), inputs=power)
    np.testing.assert_allclose(s.theta[..., 1, 1], 2.0 * u * states.theta[..., 0, 1], rtol=1e-12)
    np.testing.assert_allclose(s.theta[..., 1, 0], 2.0 * u * states.theta[..., 0, 0] + u * states.value[..., 0], rtol=1e-12)


def test_a_loss_of_the_system_has_parameters_that_count_for_nothing():
    system = pn.System(ball, loss=pn.field(state=2, out=1, theta={"w": 2.0})(lambda t, y, th: [th.w * y[0]]))
    s = pn.sensitivities(system, [1.0, 0.0], [0.0, 0.2, 0.4], system.init(), observe=lambda t, y, th: [th.gravity * y[0]])
    assert s.theta.shape == (3, 1, 4) and (s.theta[..., 3] == 0).all()


@pytest.mark.parametrize(
    ("observe", "error", "words"),
    [
        (3.0, TypeError, "observe=3.0 must be a function"),
        (lambda y: y, TypeError, "it is called as observe(t, y, th)"),
        (pn.field(state=1, out=1)(lambda t, y: y), ValueError, "takes 1 states"),
        (pn.field(state=2, out=1, theta={"V": 1.0})(lambda t, y, th: y[:1] / th.V), ValueError, "parameter V ()"),
        (lambda t, y, th: [y[0] * th.volume], pn.TraceError, "theta has no 'volume'"),
    ],
)
def test_what_cannot_be_observed(observe, error, words):
    with pytest.raises(error, match=re.escape(words)):
        pn.sensitivities(ball, [1.0, 0.0], [0.0, 1.0], ball.init(), observe=observe)


def test_callbacks_that_do_not_tell_how_they_depend_on_time_are_refused():
    """They were wrong in silence: the time of an event moves what the input is there."""
    f = pn.callback_field(lambda t, y, th, u: -th * y + u, 1, 1, vjp=lambda t, y, th, u, dy: (-th * dy, -y * dy), inputs=1)
    event = pn.event(lambda t, y: y[0] - 0.8)
    inputs = ([0.0, 2.0], [[0.0], [0.1]])
    with pytest.raises(ValueError, match="gradients through events"):
        pn.sensitivities(f, [1.0], [0.0, 1.0], [0.5], inputs=inputs, events=event)
    assert pn.sensitivities(f, [1.0], [0.0, 1.0], [0.5], inputs=inputs).theta.shape == (2, 1, 1)
