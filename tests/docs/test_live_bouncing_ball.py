"""The bouncing ball: times of bounces in closed form and as pynode's events; what steps without events make of it."""

import numpy as np
import pytest

import pynode as pn


def shown(page):
    return {name: float(x) for name, x in page.evaluate("({ ...document.documentElement.dataset })").items()}


@pn.field(state=2, theta={"gravity": 9.81, "restitution": 0.9})
def ball(t, y, th):
    return [y[1], -th.gravity]


def test_times_of_bounces(live):
    page = live("bouncing_ball")
    page.set("#start", 1.5)
    page.set("#restitution", 0.9)
    got = shown(page)
    fall = np.sqrt(2 * 1.5 / 9.81)
    assert got["first"] == pytest.approx(fall, abs=1e-9)
    assert got["speed"] == pytest.approx(-9.81 * fall, abs=1e-8)
    assert got["third"] == pytest.approx(fall * (1 + 2 * 0.9 + 2 * 0.81), abs=1e-9)
    bounce = pn.event(lambda t, y: y[0], direction=-1, reset=lambda t, y, th: [0.0, -th.restitution * y[1]])
    sol = pn.solve(ball, [1.5, 0.0], [0.0, 6.0], ball.init(), events=bounce, rtol=1e-10, atol=1e-12)
    assert got["bounces"] == len(sol.events)
    assert got["energy"] == pytest.approx(9.81 * sol.y[-1, 0] + sol.y[-1, 1] ** 2 / 2, abs=1e-8)


def test_a_ball_that_comes_to_rest(live):
    page = live("bouncing_ball")
    page.set("#restitution", 0.3)
    assert shown(page)["energy"] == 0
    assert "bounces, then it lies" in page.evaluate("document.getElementById('message').textContent")


def test_without_events(live):
    page = live("bouncing_ball")
    page.set("#step", -1)
    y, v = (2.0, 0.0)  # exact steps of free fall, and a look after each
    lowest = 0.0
    for _ in range(60):
        y, v = (y + 0.1 * v - 0.5 * 9.81 * 0.01, v - 0.981)
        lowest = min(lowest, y)
        v = -0.8 * v if y < 0 and v < 0 else v
    got = shown(page)
    assert got["below"] == pytest.approx(lowest, abs=1e-9)
    assert got["naive"] == pytest.approx(9.81 * y + v**2 / 2, abs=1e-8)
    page.set("#step", -3)
    assert abs(shown(page)["naive"] - shown(page)["energy"]) < 0.1 * abs(got["naive"] - got["energy"])


def test_a_drag_lifts_the_ball(live):
    page = live("bouncing_ball")
    page.drag_within("#height", (0.15, 0.3), (0.15, 0.5))
    got = shown(page)
    assert 0.2 < got["start"] < 1.9
    assert got["first"] == pytest.approx(np.sqrt(2 * got["start"] / 9.81), abs=1e-9)
    page.evaluate("document.getElementById('start').focus()")
    page.key("ArrowRight")
    page.wait(f"Number(document.documentElement.dataset.start) > {got['start']}")
