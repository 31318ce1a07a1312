"""Learning rates: closed forms on the parabola, losses and curvature of Python on the network, the edge at 2/lambda."""

import numpy as np
import pytest

import pynode as pn

MESSAGE = "document.getElementById('message').textContent"
STATE = "JSON.parse(document.documentElement.dataset.state)"


def race(page, **knobs):
    """The racers at the end."""
    for name, value in knobs.items():
        page.set(f"#{name}", value)
    page.click("#run")
    page.wait("document.getElementById('run').textContent === 'Run' && Number(document.documentElement.dataset.done) > 0")
    return page.evaluate(STATE)


def test_a_parabola(live):
    page = live("learning_rates")
    blue, orange, green = race(page, optimiser1="momentum", rate2=-0.98, epochs=50)["racers"]
    curvature, start = np.array([1.0, 20.0]), np.array([-2.0, 0.9])
    k = np.arange(51)[:, None]
    expected = 0.5 * np.sum(curvature * ((1 - blue["rate"] * curvature) ** k * start) ** 2, axis=1)
    np.testing.assert_allclose(blue["losses"], expected, rtol=1e-9)
    y, v = start, np.zeros(2)
    losses = []
    for _ in range(51):
        losses.append(0.5 * np.sum(curvature * y**2))
        v = 0.9 * v - orange["rate"] * curvature * y
        y = y + v
    np.testing.assert_allclose(orange["losses"], losses, rtol=1e-9)
    assert green["losses"][-1] > green["losses"][0]
    assert page.evaluate("document.documentElement.dataset.limit") == "0.1"


def test_the_edge(live):
    page = live("learning_rates")
    below, above, adam = race(page, steep=50, rate0=-1.42, rate1=-1.38, rate2=-1, optimiser2="adam", epochs=200)["racers"]
    assert below["rate"] < 2 / 50 < above["rate"]
    assert below["losses"][-1] < 0.01
    assert above["losses"][-1] > 1e4
    assert "Orange ran away in epoch" in page.evaluate(MESSAGE)
    assert adam["losses"][-1] < 1


def test_the_network(live):
    page = live("learning_rates")
    state = race(page, problem="network", rate0=-0.5, rate1=-1, optimiser1="adam", epochs=60)
    t = np.linspace(0.0, 1.0, 21)
    target = np.array(state["lab"]["target"])
    y0 = np.array([[-1.5], [-0.75], [0.5], [1.0], [1.5]])
    objective = pn.Objective(pn.mlp(1, (8,)), y0, t, target, method="euler", step=0.05)
    start = theta = np.array(state["lab"]["start"])
    losses = []
    for _ in range(60):
        loss, gradient = objective(theta)
        losses.append(loss)
        theta = theta - state["racers"][0]["rate"] * gradient
    np.testing.assert_allclose(state["racers"][0]["losses"], [*losses, objective.value(theta)], rtol=1e-9)
    track = []
    pn.fit.adam(
        objective, start, max_iter=60, learning_rate=0.1, schedule="constant", callback=lambda now: track.append(now.loss)
    )
    np.testing.assert_allclose(state["racers"][1]["losses"][:60], track[:60], rtol=1e-9)
    near = [objective(start + 1e-5 * e)[1] - objective(start - 1e-5 * e)[1] for e in np.eye(start.size)]
    curvature = np.linalg.eigvalsh(np.array(near) / 2e-5).max()
    assert float(page.evaluate("document.documentElement.dataset.limit")) == pytest.approx(2 / curvature, rel=1e-3)


def test_the_start_is_dragged(live):
    page = live("learning_rates")
    page.drag_within("#where", (0.3, 0.3), (0.8, 0.6))
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")
    x, y = page.evaluate(f"{STATE}.racers[0].theta")
    assert x == pytest.approx(float(page.evaluate("document.getElementById('x').value")), abs=0.01)
    assert x > 0 > y
    page.set("#y", 1.2)
    assert page.evaluate(f"{STATE}.racers[2].theta[1]") == 1.2


def test_stop(live):
    page = live("learning_rates")
    page.set("#epochs", 400)
    page.click("#run")
    page.wait("Number(document.documentElement.dataset.done) > 3")
    page.click("#run")
    assert "stopped" in page.evaluate(MESSAGE)
    assert int(page.evaluate("document.documentElement.dataset.done")) < 400
