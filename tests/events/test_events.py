"""Events against closed forms, and their gradients against complex steps through an independent integrator."""

import warnings

import numpy as np
import pytest

import pynode as pn

TIGHT = {"rtol": 1e-11, "atol": 1e-13, "method": "dop853"}
G, E = 9.81, 0.8


@pn.field(state=2, theta={"gravity": G, "restitution": E, "floor": 0.0})
def ball(t, y, th):
    return [y[1], -th.gravity]


def bounce(**keys):
    return pn.event(
        lambda t, y, th: y[0] - th.floor,
        direction=-1,
        terminal=False,
        reset=lambda t, y, th: [th.floor, -th.restitution * y[1]],
        **keys,
    )


def ball_exact(t, h, g, e, floor):
    """Position and velocity at t, bounce times; complex arguments allowed."""
    t_hit, v, times = np.sqrt(2 * (h - floor) / g), -np.sqrt(2 * (h - floor) * g), []
    if t < np.real(t_hit):
        return np.array([h - 0.5 * g * t**2, -g * t]), times
    while np.real(t_hit) <= t:
        times.append(t_hit)
        v_up = -e * v
        start, t_hit, v = t_hit, t_hit + 2 * v_up / g, -v_up
    s = t - start
    return np.array([floor + v_up * s - 0.5 * g * s**2, v_up - g * s]), times


@pn.field(state=1, theta={"a": 0.7, "level": 0.25})
def decay(t, y, th):
    return -th.a * y


HALT = pn.event(lambda t, y, th: y[0] - th.level)


# ---- forward ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dopri5", "tsit5", "bosh3", "dop853"])
def test_terminal_event_time_is_the_closed_form(method):
    tol = 1e-10 if method == "bosh3" else 1e-12
    sol = pn.solve(decay, [2.0], [0.0, 10.0], decay.init(), events=HALT, method=method, rtol=tol, atol=tol)
    assert sol.terminated is True and sol.status == 0 and len(sol.events) == 1
    assert abs(sol.events.before[0, 0] - 0.25) < 1e-15
    assert abs(sol.events.t[0] - np.log(8.0) / 0.7) < 100 * tol
    assert np.isnan(sol.y[1, 0])


@pytest.mark.parametrize("method", ["euler", "midpoint", "heun", "rk4", "rk38", "dopri5"])
def test_fixed_steps_end_on_the_event(method):
    sol = pn.solve(decay, [2.0], [0.0, 10.0], decay.init(), events=HALT, method=method, step=0.1, steps=True)
    assert abs(sol.events.before[0, 0] - 0.25) < 1e-14
    assert sol.steps[-1] == sol.events.t[0]
    assert np.allclose(np.diff(sol.steps)[:-1], 0.1)


def test_bouncing_ball_times_and_states():
    t = np.linspace(0, 3, 31)
    sol = pn.solve(ball, [1.5, 0.0], t, ball.init(), events=bounce(), **TIGHT)
    times = ball_exact(3.0, 1.5, G, E, 0.0)[1]
    assert len(times) > 3 and len(sol.events) == len(times)
    assert np.abs(sol.events.t - np.array(times)).max() < 1e-12
    assert np.abs(sol.events.before[:, 0]).max() < 1e-13
    assert np.array_equal(sol.events.after[:, 1], -E * sol.events.before[:, 1])
    exact = np.array([ball_exact(s, 1.5, G, E, 0.0)[0] for s in t])
    assert np.abs(sol.y - exact).max() < 1e-11


def test_many_bounces_do_not_fall_through_the_floor():
    times = ball_exact(4.94, 1.5, G, E, 0.0)[1]  # they accumulate at 4.977
    sol = pn.solve(ball, [1.5, 0.0], [0.0, 4.94], ball.init(), events=bounce())
    assert sol.ok and len(sol.events) == len(times) > 20
    assert np.abs(sol.events.t - np.array(times)).max() < 1e-9


def test_accumulating_events_are_a_failure_with_a_hint():
    with pytest.warns(pn.SolveWarning, match="max_events"):
        sol = pn.solve(ball, [1.5, 0.0], [0.0, 4.0, 6.0], ball.init(), events=bounce(), max_events=60)
    assert pn.STATUS[sol.status] == "max_events" and len(sol.events) == 60
    assert np.isfinite(sol.y[1]).all() and np.isnan(sol.y[2]).all()
    with pytest.raises(pn.SolveError, match="max_events"):
        pn.solve(ball, [1.5, 0.0], [0.0, 6.0], ball.init(), events=bounce(), max_events=3, errors="raise")


def test_a_batch_has_its_own_events_and_the_same_bits_for_any_number_of_threads():
    rng = np.random.default_rng(0)
    y0 = np.stack([rng.uniform(0.6, 3, 100), rng.normal(size=100)], axis=1)
    t = np.linspace(0, 2, 11)
    one = pn.solve(ball, y0, t, ball.init(), events=bounce(), threads=1)
    two = pn.solve(ball, y0, t, ball.init(), events=bounce(), threads=2)
    few = pn.solve(ball, y0[:17], t, ball.init(), events=bounce())
    assert np.array_equal(one.y, two.y) and np.array_equal(one.events.t, two.events.t)
    assert np.array_equal(few.y, one.y[:17]) and np.array_equal(few.stats.nfe, one.stats.nfe[:17])
    counts = np.bincount(one.events.sample, minlength=100)
    assert counts.min() < counts.max()
    for i in range(0, 100, 9):
        alone = pn.solve(ball, y0[i], t, ball.init(), events=bounce())
        assert len(alone.events) == counts[i]
        assert np.abs(alone.events.t - one.events.of(sample=i).t).max(initial=0) < 1e-12
        assert np.abs(alone.y - one.y[i]).max() < 1e-10


@pn.field(state=2)
def circle(t, y):
    return [-y[1], y[0]]


@pytest.mark.parametrize(("direction", "phases"), [(0, [0.25, 0.75]), (1, [0.75]), (-1, [0.25])])
def test_directions_and_events_without_reset(direction, phases):
    cross = pn.event(lambda t, y: y[0], terminal=False, direction=direction)  # x = cos t
    sol = pn.solve(circle, [1.0, 0.0], [0.0, 20.0], events=cross, **TIGHT)
    exact = 2 * np.pi * np.array([n + p for n in range(4) for p in phases])
    exact = exact[exact < 20]
    assert len(sol.events) == len(exact) and np.abs(sol.events.t - exact).max() < 1e-10
    assert np.array_equal(sol.events.before, sol.events.after)
    plain = pn.solve(circle, [1.0, 0.0], [0.0, 20.0], **TIGHT)
    assert np.abs(sol.y - plain.y).max() < 1e-10


def test_a_start_on_the_surface_does_not_fire_and_returns_do():
    cross = pn.event(lambda t, y: y[0], terminal=False)
    sol = pn.solve(circle, [0.0, 1.0], [0.0, 7.0], events=cross, **TIGHT)
    assert np.abs(sol.events.t - np.pi * np.array([1, 2])).max() < 1e-10
    up = pn.solve(ball, [0.0, 3.0], [0.0, 0.7], ball.init(), events=bounce(), **TIGHT)
    assert np.abs(up.events.t - 6 / G).max() < 1e-12


def test_a_pair_of_crossings_inside_one_step_is_seen():
    @pn.field(state=1)
    def free(t, y):
        return [1.0 + 0 * y[0]]

    for low, high in ((0.30, 0.34), (0.48, 0.53), (0.80, 0.82)):
        pair = pn.event(lambda t, y, a=low, b=high: (y[0] - a) * (y[0] - b), terminal=False)
        sol = pn.solve(free, [0.0], [0.0, 1.0], events=pair, method="rk4", step=1.0)
        assert np.abs(sol.events.t - [low, high]).max() < 1e-12, (low, high)
        rising = pn.event(lambda t, y, a=low, b=high: (y[0] - a) * (y[0] - b), direction=1)
        sol = pn.solve(free, [0.0], [0.0, 1.0], events=rising, method="rk4", step=1.0)
        assert np.abs(sol.events.t - [high]).max() < 1e-12


def test_the_earliest_event_comes_first_and_equal_ones_in_their_order():
    events = [
        pn.event(lambda t, y: t - 0.52, terminal=False),
        pn.event(lambda t, y: t - 0.51, terminal=False),
        pn.event(lambda t, y: 2 * (t - 0.52), terminal=False),
    ]
    sol = pn.solve(circle, [1.0, 0.0], [0.0, 1.0], events=events, method="rk4", step=1.0)
    assert sol.events.which.tolist() == [1, 0, 2]
    assert np.abs(sol.events.t - [0.51, 0.52, 0.52]).max() < 1e-14


def test_a_graze_is_no_crossing():
    for gap, n in ((1e-6, 0), (-1e-6, 2)):
        near = pn.event(lambda t, y, gap=gap: 1.0 + gap - y[0], terminal=False)
        sol = pn.solve(circle, [0.0, -1.0], [0.0, np.pi], events=near, **TIGHT)  # x = sin t
        assert len(sol.events) == n


def test_rows_after_a_terminal_event_are_nan_or_held():
    t = np.linspace(0, 5, 11)
    y0 = np.array([[2.0], [0.3], [0.1]])  # the last starts below and never meets the level
    for hold in (False, True):
        halt = pn.event(lambda t, y, th: y[0] - th.level, hold=hold)
        sol = pn.solve(decay, y0, t, decay.init(), events=halt)
        assert sol.terminated.tolist() == [True, True, False]
        for i in (0, 1):
            after = t > sol.events.of(sample=i).t[0]
            assert (np.isnan(sol.y[i, after]) if not hold else sol.y[i, after] == sol.events.of(sample=i).after[0]).all()
            assert np.abs(sol.y[i, ~after, 0] - y0[i, 0] * np.exp(-0.7 * t[~after])).max() < 1e-5
        assert np.isfinite(sol.y[2]).all()


def test_an_event_at_a_save_time_shows_the_state_after_it():
    @pn.field(state=1)
    def clock(t, y):
        return [1.0 + 0 * y[0]]

    tick = pn.event(lambda t, y: t - 0.5, reset=lambda t, y: y + 10.0)
    for save in ("interpolate", "land"):
        sol = pn.solve(clock, [0.0], [0.0, 0.25, 0.5, 0.5, 0.75], events=tick, save=save)
        assert np.allclose(sol.y[:, 0], [0, 0.25, 10.5, 10.5, 10.75])
    last = pn.solve(clock, [0.0], [0.0, 0.5], events=pn.event(lambda t, y: t - 0.5, reset=lambda t, y: y + 10.0))
    assert np.allclose(last.y[:, 0], [0, 10.5]) and len(last.events) == 1


def test_ragged_and_backward_times_and_dense_output():
    t = [np.linspace(0, 1, 4), np.array([0.0, 2.0]), np.array([0.0])]
    sol = pn.solve(ball, [[1.0, 0.0], [2.0, 1.0], [1.0, 0.0]], t, ball.init(), events=bounce(), dense=True)
    assert [len(y) for y in sol.y] == [4, 2, 1] and sol.ok
    s = np.linspace(0, 1, 50)
    exact = np.array([ball_exact(x, 1.0, G, E, 0.0)[0] for x in s])
    assert np.abs(sol(s, sample=0) - exact).max() < 1e-8
    back = pn.solve(circle, [1.0, 0.0], [0.0, -5.0], events=pn.event(lambda t, y: y[0], terminal=False), **TIGHT)
    assert np.abs(back.events.t + np.pi * np.array([0.5, 1.5])).max() < 1e-10


def test_other_kinds_of_fields():
    single = pn.solve(ball, np.float32([1.0, 0.0]), [0.0, 1.0], ball.init(), events=bounce(), rtol=1e-4, atol=1e-5)
    assert single.y.dtype == np.float32 and abs(single.events.t[0] - np.sqrt(2 / G)) < 1e-5

    slow = pn.callback_field(lambda t, y: np.stack([y[1], np.array(-G)]), 2)
    sol = pn.solve(slow, [[1.0, 0.0], [2.0, 0.0]], [0.0, 0.7], events=pn.event(lambda t, y: y[0], direction=-1))
    assert sol.stats.backend == "callback"
    assert np.abs(sol.events.t - np.sqrt([2 / G, 4 / G])).max() < 1e-10

    @pn.field(state=1, inputs=1)
    def driven(t, y, u):
        return u

    up = pn.event(lambda t, y: y[0] - 1.0, reset=lambda t, y: 0 * y)
    knots, power = np.array([0.0, 1.0, 4.0]), np.array([[0.5], [2.0], [0.0]])
    sol = pn.solve(driven, [[0.0], [0.5]], [0.0, 3.0], inputs=(knots, power, "previous"), events=up)
    assert np.abs(sol.events.of(sample=0).t - [1.25, 1.75, 2.25, 2.75]).max() < 1e-12


def test_an_event_function_that_is_nan_fails():
    bad = pn.event(lambda t, y: np.log(y[0] - 0.5), terminal=False)  # 0 at y = 1.5, NaN below 0.5
    with pytest.warns(pn.SolveWarning, match="event function is NaN"):
        sol = pn.solve(decay, [[2.0], [0.3], [0.9]], [0.0, 0.1, 5.0], decay.init(), events=bad)
    assert [pn.STATUS[s] for s in sol.status] == ["bad_event"] * 3
    assert np.isfinite(sol.y[:, 0]).all() and np.isfinite(sol.y[0, 1]).all() and np.isnan(sol.y[:, 2]).all()
    assert sol.events.sample.tolist() == [0] and abs(sol.events.before[0, 0] - 1.5) < 1e-12


# ---- gradients --------------------------------------------------------------------------------------------------------


def test_gradient_of_a_terminal_time_and_state():
    t = np.array([0.0, 10.0])
    sol = pn.solve(decay, [2.0], t, decay.init(), events=HALT, **TIGHT)
    g = sol.vjp(event_t=np.ones(1), wrt=("theta", "y0", "t"))
    a, c, y0 = 0.7, 0.25, 2.0
    t_star = np.log(y0 / c) / a
    assert np.allclose(g.theta, [-t_star / a, -1 / (a * c)], rtol=1e-10)
    assert np.allclose(g.y0, 1 / (a * y0), rtol=1e-10)
    assert np.allclose(g.t, [1.0, 0.0], atol=1e-10)
    g = sol.vjp(event_before=np.ones((1, 1)))  # the state there is the level, whatever else
    assert np.allclose(g.theta, [0.0, 1.0], atol=1e-12) and np.allclose(g.y0, 0.0, atol=1e-12)


def test_gradient_through_many_bounces_is_the_closed_form():
    T, h = 2.6, 1.5
    theta = np.array([G, E, 0.1])
    sol = pn.solve(ball, [h, 0.0], [0.0, T], theta, events=bounce(), **TIGHT)
    assert len(sol.events) >= 3
    for c in range(2):
        dy = np.zeros((2, 2))
        dy[1, c] = 1.0
        g = sol.vjp(dy, wrt=("theta", "y0", "t"))
        for k in range(3):
            p = theta + 1e-30j * np.eye(3)[k]
            assert abs(g.theta[k] - ball_exact(T, h, *p)[0][c].imag / 1e-30) < 1e-8 * max(1, abs(g.theta[k]))
        assert abs(g.y0[0] - ball_exact(T, h + 1e-30j, *theta)[0][c].imag / 1e-30) < 1e-8 * max(1, abs(g.y0[0]))
        velocity, force = sol.y[1, 1], -G
        assert abs(g.t[1] - (velocity, force)[c]) < 1e-8 and abs(g.t.sum()) < 1e-8  # a shift in time changes nothing
    weights = np.arange(1.0, len(sol.events) + 1)
    g = sol.vjp(event_t=weights)
    for k in range(3):
        p = theta + 1e-30j * np.eye(3)[k]
        exact = sum(w * s.imag for w, s in zip(weights, ball_exact(T, h, *p)[1], strict=True)) / 1e-30
        assert abs(g.theta[k] - exact) < 1e-8 * max(1, abs(exact))


def rk4_step(f, t, y, h):
    k1 = f(t, y)
    k2 = f(t + h / 2, y + h / 2 * k1)
    k3 = f(t + h / 2, y + h / 2 * k2)
    k4 = f(t + h, y + h * k3)
    return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


@pn.field(state=2, theta={"k": 4.0, "c": 0.3, "drive": 1.5})
def driven_pendulum(t, y, th):
    return [y[1], -th.k * np.sin(y[0]) - th.c * y[1] + th.drive * np.cos(t)]


def test_gradient_is_that_of_the_steps_taken():
    """Coarse steps, so that only the exact derivative of the numbers computed will do: complex steps through an independent
    integrator on the same grids, the last step of each stretch solving for the event."""
    own = pn.field(state=2, theta={"wall": 0.3, "slope": 0.2}, out=1)(
        lambda t, y, th: y[0] - th.wall - th.slope * np.sin(3 * t)
    )
    kick = pn.field(state=2, theta={"e": 0.7, "push": 0.1})(
        lambda t, y, th: [y[0] - 0.05 * y[1], -th.e * y[1] - th.push * t]
    )
    wall = pn.event(own, direction=1, terminal=False, reset=kick)
    system = pn.System(driven_pendulum, events=wall)
    theta, y0 = system.init(0), np.array([0.0, 1.0])
    assert system.n_params == 7 and set(system.split(theta)) == {"field", "event0.g", "event0.reset"}
    t = np.array([0.0, 0.4, 1.5, 2.0, 3.0, 7.0])
    sol = pn.solve(system, y0, t, theta, method="rk4", step=0.31, save="land")
    assert len(sol.events) >= 2
    grids = [r.grids[0] for r in sol.rounds]
    rng = np.random.default_rng(1)
    dy, dt, db = rng.normal(size=sol.y.shape), rng.normal(size=len(sol.events)), rng.normal(size=(len(sol.events), 2))

    def loss(p, y):
        k, c, drive, level, slope, e, push = p
        f = lambda t, y: np.array([y[1], -k * np.sin(y[0]) - c * y[1] + drive * np.cos(t)])  # noqa: E731
        total = (dy[0] * y).sum()
        start = t[0] + 0j
        for n, grid in enumerate(grids):
            at = start
            for end in grid[1:-1]:
                y, at = rk4_step(f, at, y, end - at), end
                total += sum((dy[j] * y).sum() for j in np.flatnonzero(t == end))
            end = grid[-1] + 0j
            if n == len(grids) - 1:
                y = rk4_step(f, at, y, end - at)
                return total + (dy[-1] * y).sum()
            g = lambda s: rk4_step(f, at, y, s - at)[0] - level - slope * np.sin(3 * s)  # noqa: E731, B023
            for _ in range(8):
                end = end - g(end) / ((g(end + 1e-4) - g(end - 1e-4)) / 2e-4)
            y = rk4_step(f, at, y, end - at)
            total += dt[n] * end + (db[n] * y).sum()
            y, start = np.array([y[0] - 0.05 * y[1], -e * y[1] - push * end]), end

    g = sol.vjp(dy, event_t=dt, event_before=db)
    for k in range(7):
        exact = loss(theta + 1e-30j * np.eye(7)[k], y0).imag / 1e-30
        assert abs(g.theta[k] - exact) < 1e-10 * max(1, abs(exact)), k
    for k in range(2):
        exact = loss(theta, y0 + 1e-30j * np.eye(2)[k]).imag / 1e-30
        assert abs(g.y0[k] - exact) < 1e-10 * max(1, abs(exact)), k


@pytest.mark.parametrize("method", ["dopri5", "dop853", "rk4"])
def test_interpolated_rows_in_the_last_step_and_batches(method):
    """Against central differences at tolerances where freezing the steps does not matter."""
    options = {"rtol": 1e-11, "atol": 1e-12} if method != "rk4" else {"step": 0.002}
    wall = pn.event(lambda t, y, th: y[0] - 0.3, direction=1, reset=lambda t, y, th: [y[0], -0.2 * th.k * y[1]])
    rng = np.random.default_rng(2)
    y0, t = rng.normal(size=(5, 2)) * 0.3 + [0.0, 0.8], np.linspace(0, 7, 60)
    theta = driven_pendulum.init()

    def solve(theta, y0):
        return pn.solve(driven_pendulum, y0, t, theta, events=wall, method=method, **options)

    sol = solve(theta, y0)
    assert len(sol.events) > 5
    dy = rng.normal(size=sol.y.shape)
    dy[np.abs(t[None, :, None] - 7 * rng.random((5, 60, 1)))[..., 0] > 2] = 0
    g = sol.vjp(dy)
    h = 1e-6
    for k in range(3):
        e = h * np.eye(3)[k]
        fd = ((solve(theta + e, y0).y - solve(theta - e, y0).y) * dy).sum() / (2 * h)
        assert abs(g.theta[k] - fd) < 3e-6 * max(1, abs(fd))
    e = np.zeros((5, 2))
    e[3, 1] = h
    fd = ((solve(theta, y0 + e).y - solve(theta, y0 - e).y) * dy).sum() / (2 * h)
    assert abs(g.y0[3, 1] - fd) < 3e-6 * max(1, abs(fd))


def test_loss_and_grad_with_a_held_halting_network():
    """Adaptive depth: stop where |f| is small; the events use the network's own parameters."""

    @pn.field(state=2, theta={"net": pn.mlp(2, (6,))})
    def net(t, y, th):
        return th.net(y) - y

    quiet = pn.event(lambda t, y, th: (net(t, y, th) ** 2).sum() - 0.01, direction=-1, hold=True)
    rng = np.random.default_rng(0)
    y0, t, theta = rng.normal(size=(9, 2)), [0.0, 6.0], net.init(3)
    target = np.full((9, 2, 2), np.nan)
    target[:, 1] = rng.normal(size=(9, 2))
    options = {"events": quiet, **TIGHT}
    val = pn.loss_and_grad(net, y0, t, theta, target, wrt=("theta", "y0"), **options)
    assert val.solution.terminated.sum() > 3
    for k in (0, 5, 13, 20, 30):
        e = 1e-6 * np.eye(len(theta))[k]
        up, down = (pn.loss_and_grad(net, y0, t, theta + s * e, target, **options).loss for s in (1, -1))
        assert abs(val.theta[k] - (up - down) / 2e-6) < 1e-7
    objective = pn.Objective(net, y0, t, target, **options)
    loss, gradient = objective(theta)
    assert loss == val.loss and np.array_equal(gradient, val.theta)
    fit = pn.fit.lbfgs(objective, theta, max_iter=5)
    assert fit.loss < val.loss


def test_gradient_of_inputs_and_of_float32():
    @pn.field(state=1, inputs=1)
    def driven(t, y, u):
        return u

    up = pn.event(lambda t, y: y[0] - 1.0, reset=lambda t, y: 0 * y)
    knots, power = np.array([0.0, 1.0, 4.0]), np.array([[0.5], [2.0], [0.0]])
    sol = pn.solve(driven, [0.0], [0.0, 1.4], inputs=(knots, power, "previous"), events=up)
    g = sol.vjp(event_t=[1.0], wrt="inputs")  # t* = 1 + (1 - u0) / u1
    assert np.allclose(g.inputs[:, 0], [-1 / 2.0, -0.5 / 4.0, 0.0])
    y32 = pn.solve(decay, np.float32([2.0]), [0.0, 10.0], decay.init(), events=HALT, rtol=1e-5, atol=1e-6)
    assert np.allclose(y32.vjp(event_t=[1.0]).theta, [-np.log(8) / 0.49, -1 / 0.175], rtol=1e-3)


def test_failed_samples_add_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sol = pn.solve(ball, [[1.5, 0.0], [1.5, 100.0]], [0.0, 6.0], ball.init(), events=bounce(), max_events=20)
    assert sol.status.tolist() == [pn.STATUS.index("max_events"), 0]
    g = sol.vjp(np.nan_to_num(np.ones_like(sol.y)))
    alone = pn.solve(ball, [[1.5, 100.0]], [0.0, 6.0], ball.init(), events=bounce()).vjp(np.ones((1, 2, 2)))
    assert (g.y0[0] == 0).all() and np.allclose(g.theta, alone.theta)


def test_the_time_of_an_event_whose_function_does_not_move_has_no_derivative():
    switch = pn.event(lambda t, y: np.where(t < 0.3, -1.0, 1.0), reset=lambda t, y: y + t)
    sol = pn.solve(decay, [1.0], [0.0, 0.5, 1.0], decay.init(), events=switch)
    assert len(sol.events) == 1 and abs(sol.events.t[0] - 0.3) < 1e-9
    with pytest.raises(ValueError, match="no derivative"):
        sol.vjp(event_t=[1.0])


# ---- bad input --------------------------------------------------------------------------------------------------------


def test_bad_arguments_are_named():
    g = lambda t, y: y[0]  # noqa: E731
    for bad, match in (
        (lambda: pn.event(3), "g must be"),
        (lambda: pn.event(g, reset=3), "reset must be"),
        (lambda: pn.event(g, direction=2), "direction=2"),
        (lambda: pn.event(g, terminal=False, hold=True), "hold=True"),
        (lambda: pn.solve(circle, [1.0, 0.0], [0, 1], events=[]), "non-empty"),
        (lambda: pn.solve(circle, [1.0, 0.0], [0, 1], events=g), "pynode.event"),
        (lambda: pn.solve(circle, [1.0, 0.0], [0, 1], events=pn.event(lambda t: t)), "functions of"),
        (lambda: pn.solve(circle, [1.0, 0.0], [0, 1], events=pn.event(lambda t, y, th: th.k)), "no parameters"),
        (lambda: pn.solve(circle, [1.0, 0.0], [0, 1], events=pn.event(lambda t, y: y)), "2 numbers"),
        (lambda: pn.solve(circle, [1.0, 0.0], [0, 1], events=pn.event(lambda t, y: y[0] < 0.5)), "returns a condition"),
        (lambda: pn.solve(circle, [1.0, 0.0], [0, 1], events=pn.event(pn.mlp(3, (2,), 1))), "3 state components"),
        (lambda: pn.solve(circle, [1.0, 0.0], [0, 1], events=pn.event(g, reset=pn.mlp(2, (2,), 1))), "reset of event 0"),
        (lambda: pn.solve(circle, [1.0, 0.0], [0, 1], events=pn.event(g), coupling=0.9), "coupling"),
        (lambda: pn.solve(circle, [1.0, 0.0], [0, 1], events=pn.event(g), grid=[0, 1]), "grid"),
        (lambda: pn.solve(circle, [1.0, 0.0], [0, 1], events=pn.event(g), max_events=0), "max_events"),
        (lambda: pn.event(pn.callback_field(lambda t, y: y, 2)), "callback"),
        (lambda: pn.event(pn.mlp(2, (2,), 1, inputs=1)), "inputs"),
    ):
        with pytest.raises((ValueError, TypeError), match=match):
            bad()
    sol = pn.solve(circle, [1.0, 0.0], [0.0, 1.0, 9.0], events=pn.event(g))
    with pytest.raises(ValueError, match="event_t"):
        sol.vjp(event_t=np.ones(5))
    with pytest.raises(ValueError, match="hold=True"):
        sol.vjp(np.ones_like(sol.y))
    with pytest.raises(ValueError, match="adjoint"):
        sol.vjp(np.zeros_like(sol.y), adjoint="backsolve")
    with pytest.raises(ValueError, match="adjoint"):
        pn.loss_and_grad(circle, [1.0, 0.0], [0.0, 1.0], None, np.zeros((2, 2)), events=pn.event(g), adjoint="backsolve")
