"""Events at the same time, or nearly: all of them happen, in the order of the list, and once."""

import numpy as np
import pytest

import pynode as pn


@pn.field(state=2)
def decay(t, y):
    return [-0.1 * y[0], -0.2 * y[1]]


@pn.field(state=4)
def coasting(t, y):
    return [y[2], y[3], 0 * y[0], 0 * y[0]]


@pn.field(state=2, theta={"gravity": 9.81})
def ball(t, y, th):
    return [y[1], -th.gravity]


def at(time, **keys):
    return pn.event(lambda t, y: t - time, **keys)


def dose(i, time=1.0):
    return at(time, reset=lambda t, y: [y[0] + 10 * (i == 0), y[1] + 10 * (i == 1)])


FIRST, SECOND = dose(0), dose(1)
COUNT, HALT = at(1.0, terminal=False), at(1.0, terminal=True, hold=True)


@pytest.mark.parametrize(
    ("events", "doses"),
    [([FIRST, SECOND], 2), ([SECOND, FIRST], 2), ([FIRST, COUNT], 1), ([FIRST, HALT], 1), ([FIRST, COUNT, SECOND, HALT], 2)],
)
def test_all_that_happens_at_the_same_time_happens_in_the_order_of_the_list(events, doses):
    sol = pn.solve(decay, [1.0, 1.0], [0.0, 1.0, 2.0], events=events)
    assert sol.events.which.tolist() == list(range(len(events))) and np.all(sol.events.t == 1.0)
    assert sol.terminated == (HALT in events)
    state = np.exp([-0.1, -0.2]) + 10.0 * np.array([FIRST in events, SECOND in events])
    np.testing.assert_allclose(sol.y[1], state, rtol=1e-7)  # the state after all of them
    np.testing.assert_allclose(sol.y[2], state if HALT in events else state * np.exp([-0.1, -0.2]), rtol=1e-6)


@pytest.mark.parametrize(("time", "apart"), [(1.0, 1e-14), (1e3, 1e-12), (1.7e9, 20e-6), (-1.7e9, 20e-6)])
@pytest.mark.parametrize("way", [1, -1])
def test_doses_that_lie_close_together(time, apart, way):
    t = time + np.array([-1.0, 1.0])[::way]
    sol = pn.solve(decay, [1.0, 1.0], t, events=[dose(0, time), dose(1, time + apart)])
    assert sorted(sol.events.which.tolist()) == [0, 1]
    assert np.abs(sol.events.t - time).max() < apart + 8 * np.spacing(abs(time))
    rate = np.exp(-np.array([0.1, 0.2]) * way)
    np.testing.assert_allclose(sol.y[1], (rate + 10) * rate, rtol=1e-5)


def wall(i, reset):
    return pn.event(lambda t, y: y[i] - 1, direction=1, reset=reset)


TURN = [lambda t, y: [y[0], y[1], -y[2], y[3]], lambda t, y: [y[0], y[1], y[2], -y[3]]]


@pytest.mark.parametrize("first", [TURN[0], lambda t, y: [1 + 0 * y[0], 1 + 0 * y[0], -y[2], y[3]]])
@pytest.mark.parametrize("speed", [1.0, 0.7, 0.3])
@pytest.mark.parametrize("step", [{}, {"method": "rk4", "step": 0.1}])
def test_a_corner_of_a_box(first, speed, step):
    for walls in ([wall(0, first), wall(1, TURN[1])], [wall(1, TURN[1]), wall(0, first)]):
        sol = pn.solve(coasting, [0.2, 0.2, speed, speed], [0.0, 3.0], events=walls, **step)
        assert sol.events.which.tolist() == [0, 1]
        np.testing.assert_allclose(sol.y[1], [1.8 - 3 * speed] * 2 + [-speed] * 2, atol=1e-9)


def test_a_reset_that_turns_back_from_both_walls_is_made_once():
    both = [wall(i, lambda t, y: [y[0], y[1], -y[2], -y[3]]) for i in range(2)]
    sol = pn.solve(coasting, [0.2, 0.2, 1.0, 1.0], [0.0, 3.0], events=both)
    assert len(sol.events) == 1 and np.allclose(sol.y[1], [-1.2, -1.2, -1.0, -1.0])


def floor(**keys):
    return pn.event(lambda t, y: y[0], direction=-1, **keys)


COUNTED = floor(terminal=False)


@pytest.mark.parametrize("reset", [lambda t, y: [0.0, -0.8 * y[1]], lambda t, y: [y[0], -0.8 * y[1]]])
def test_what_a_bounce_undoes_comes_before_it(reset):
    """Others on the same floor, with or without a bounce after them. There is no second bounce."""
    bounce = floor(reset=reset)
    alone = pn.solve(ball, [1.0, 0.0], [0.0, 1.5], ball.init(), events=bounce)
    assert np.abs(alone.events.t - np.sqrt(2 / 9.81) * np.array([1.0, 2.6])).max() < 1e-12
    for events, expected in (
        ([bounce, bounce], [0, 0]),
        ([bounce, COUNTED], [1, 0, 1, 0]),
        ([COUNTED, bounce], [0, 1, 0, 1]),
        ([bounce, COUNTED, floor(terminal=False)], [1, 2, 0, 1, 2, 0]),
        ([bounce, floor(hold=True)], [1]),
    ):
        sol = pn.solve(ball, [1.0, 0.0], [0.0, 1.5], ball.init(), events=events)
        assert sol.events.which.tolist() == expected
        assert np.abs(sol.events.t - np.repeat(alone.events.t, len(expected) // 2 or 1)[: len(expected)]).max() < 1e-12
        if len(expected) > 1:
            np.testing.assert_allclose(sol.y, alone.y, rtol=1e-9)


def test_a_reset_to_elsewhere_does_not_hide_what_it_was_reset_for():
    """And what lies between here and there does not happen."""

    @pn.field(state=1)
    def rising(t, y):
        return [1 + 0.3 * np.sin(t) + 0 * y[0]]

    spike = pn.event(lambda t, y: y[0] - 1, reset=lambda t, y: [0 * y[0]])
    events = [
        spike,
        pn.event(lambda t, y: y[0] - 1, terminal=False),
        pn.event(lambda t, y: y[0] - 0.5, direction=-1, terminal=False),
    ]
    sol = pn.solve(rising, [0.0], [0.0, 2.0], events=events)
    assert sol.events.which.tolist() == [1, 0, 1, 0]


def test_a_batch_with_ties_is_its_samples():
    events = [FIRST, at(1.0, terminal=False), SECOND, pn.event(lambda t, y: y[0] - 5, terminal=False)]
    y0 = np.array([[1.0, 1.0], [6.0, 0.0], [5.2, 3.0], [0.0, 0.0]])
    sol = pn.solve(decay, y0, [0.0, 1.0, 2.0], events=events)
    for i, y in enumerate(y0):
        alone = pn.solve(decay, y, [0.0, 1.0, 2.0], events=events)
        assert sol.events.of(sample=i).which.tolist() == alone.events.which.tolist()
        np.testing.assert_allclose(sol.y[i], alone.y, rtol=1e-12)


def test_gradients_through_ties():
    """Rows at the time of two doses, and behind, by differences of whole solves; the sensitivities are the same."""

    @pn.field(state=2, theta={"k": 0.3})
    def f(t, y, th):
        return [-th.k * y[0], 0.1 * y[0] - th.k * y[1]]

    system = pn.System(f, events=[FIRST, COUNT, SECOND])
    t, dy = np.array([0.0, 0.5, 1.0, 2.0]), np.arange(1.0, 9.0).reshape(4, 2)
    tight = {"method": "dop853", "rtol": 1e-12, "atol": 1e-12}

    def loss(k):
        return float((pn.solve(system, [1.0, 2.0], t, [k], **tight).y * dy).sum())

    sol = pn.solve(system, [1.0, 2.0], t, [0.3], **tight)
    gradient = sol.vjp(dy).theta[0]
    assert gradient == pytest.approx((loss(0.3 + 1e-5) - loss(0.3 - 1e-5)) / 2e-5, rel=1e-8)
    rows = pn.sensitivities(system, [1.0, 2.0], t, [0.3], **tight).theta
    assert gradient == pytest.approx(float((rows[..., 0] * dy).sum()), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("time", "end"), [(500.0, 1000.0), (300.3, 1000.0), (1e-3, 1.0), (-700.0, -1400.0)])
def test_a_reset_at_a_time_that_is_only_just_not_reached_happens_once(dtype, time, end):
    """In float32 the time found for 500 is 499.99998: there g = t - 500 is below 0, and 0 at the next numbers."""
    resting = pn.field(state=2)(lambda t, y: [0 * t, 0 * t])
    event = at(time, reset=lambda t, y: [y[0] + 1, y[1]])
    sol = pn.solve(resting, np.ones(2, dtype), [0.0, end], events=event)
    assert len(sol.events) == 1 and abs(sol.events.t[0] - time) < 2 * np.finfo(dtype).eps * abs(time)
    assert sol.y.tolist() == [[1.0, 1.0], [2.0, 1.0]]


def test_rows_that_repeat_behind_a_terminal_event_and_a_jump_show_its_state():
    jump = pn.field(state=2, inputs=1)(lambda t, y, x: [y[0] + x[0], y[1]])
    system = pn.System(decay, jump=jump, events=[at(1.0, terminal=True)])
    data = np.array([[np.nan], [1.0], [1.0], [1.0]])
    sol = pn.solve(system, [1.0, 1.0], [0.0, 1.0, 1.0, 2.0], data=data)
    assert sol.terminated and np.isnan(sol.y[3]).all()
    np.testing.assert_allclose(sol.y[1:3], [np.exp([-0.1, -0.2])] * 2, rtol=1e-6)
