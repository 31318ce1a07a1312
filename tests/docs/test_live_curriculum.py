"""Curriculum: losses are those of Python's Adam, short horizons win, a horizon of everything is the other network."""

import numpy as np
import pytest

import pynode as pn

MESSAGE = "document.getElementById('message').textContent"
STATE = "JSON.parse(document.documentElement.dataset.state)"
T = np.linspace(0.0, 6.0, 61)
STARTS = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, -1.5]])


def run(page, **knobs):
    for name, value in knobs.items():
        page.set(f"#{name}", value)
    page.click("#run")
    page.wait("document.getElementById('run').textContent === 'Stop'")
    page.wait("document.getElementById('run').textContent === 'Run'", within=240)
    return page.evaluate(STATE)


def test_losses_are_those_of_python(live):
    state = run(live("curriculum"), epochs=180)
    f = pn.mlp(2, (16,))
    data = np.array(state["data"])
    everything = pn.Objective(f, STARTS, T, data, method="rk4", step=0.05)
    for name, count in [("grown", 6), ("whole", 61)]:
        objective = pn.Objective(f, STARTS, T[:count], data[:, :count], method="rk4", step=0.05)
        losses = []
        pn.fit.adam(
            objective,
            np.array(state["initial"]),
            max_iter=30,
            learning_rate=state["rate"],
            schedule="constant",
            callback=lambda now, losses=losses: losses.append(everything.value(now.theta)),
        )
        np.testing.assert_allclose(state[name]["losses"][:30], losses[:30], rtol=1e-8)
    assert state["ends"] == pytest.approx(0.5 * 12 ** (np.arange(6) / 5))


def test_short_horizons_win(live):
    page = live("curriculum")
    state = run(page)
    grown, whole = (state[name]["losses"][-1] for name in ("grown", "whole"))
    assert grown < 0.01
    assert whole > 0.1
    assert "finished" in page.evaluate(MESSAGE)


def test_a_horizon_of_everything_is_no_curriculum(live):
    state = run(live("curriculum"), first=6, epochs=120)
    assert state["grown"] == state["whole"]


def test_the_horizon_is_dragged_and_runs_stop(live):
    page = live("curriculum")
    page.drag_within("#grown", (0.2, 0.5), (0.6, 0.5))
    page.wait("Number(document.getElementById('first').value) > 2")
    assert page.evaluate(STATE)["ends"][0] == float(page.evaluate("document.getElementById('first').value"))
    page.click("#run")
    page.wait("Number(document.documentElement.dataset.done) > 2")
    page.click("#run")
    assert "stopped" in page.evaluate(MESSAGE)
    page.set("#shows", "1")
    assert "stopped" in page.evaluate(MESSAGE)
