"""Topology: both flows separate the sample, with the loss and gradient of Python; fresh points tell them apart; painting."""

import numpy as np
import pytest

import pynode as pn

MESSAGE = "document.getElementById('message').textContent"
STATE = "JSON.parse(document.documentElement.dataset.state)"


def train(page):
    page.click("#run")
    page.wait("document.getElementById('run').textContent === 'Stop'")
    page.wait("document.getElementById('run').textContent === 'Train'", within=180)


def test_both_flows_separate_the_sample(live):
    page = live("topology")
    train(page)
    state = page.evaluate(STATE)
    labels = np.array(state["labels"])
    for flow in state["flows"].values():
        f = pn.mlp(2 + flow["extra"], (16,))
        start = np.pad(state["points"], ((0, 0), (0, flow["extra"])))
        sol = pn.solve(f, start, [0.0, 1.0], flow["theta"], rtol=1e-3, atol=1e-4)
        border = np.array(flow["border"])
        margins = sol.y[:, 1] @ border[:-1] + border[-1]
        assert flow["loss"] == pytest.approx(np.mean(np.logaddexp(0.0, -labels * margins)), rel=1e-9)
        pull = -labels / (1 + np.exp(labels * margins)) / len(labels)
        cotangent = np.zeros_like(sol.y)
        cotangent[:, 1] = pull[:, None] * border[:-1]
        gradient = [*sol.vjp(cotangent).theta, *pull @ sol.y[:, 1], pull.sum()]
        np.testing.assert_allclose(flow["gradient"], gradient, atol=1e-9)
        assert flow["right"] == 1.0
    fresh = page.evaluate(MESSAGE).split("right: ")[1].replace(" %", "").split()
    assert float(fresh[0]) < float(fresh[4]) == 100.0


def test_time_is_that_of_the_flow(live):
    page = live("topology")
    page.click("#play")
    page.wait("document.getElementById('time').value === '1'")
    page.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert "not trained yet" in page.evaluate(MESSAGE)
    still = live("topology", still=True)
    still.click("#play")
    assert still.evaluate("document.getElementById('time').value") == "1"


def test_painting(live):
    page = live("topology")
    page.click("#clear")
    page.drag_within("#plain", (0.4, 0.4), (0.6, 0.4))
    page.click("#run")
    page.wait(f"{MESSAGE}.includes('both colours')")
    page.set("#brush", "-1")
    for x in (-1.0, 1.0):
        page.set("#x", x)
        page.click("#add")
    train(page)
    state = page.evaluate(STATE)
    assert state["labels"].count(-1) == 2
    assert state["labels"].count(1) >= 4
    assert all(flow["right"] == 1.0 for flow in state["flows"].values())
    assert "Fresh" not in page.evaluate(MESSAGE)
    page.set("#brush", "0")
    page.click("#add")
    assert f"{len(state['labels']) - 1} points, not trained" in page.evaluate(MESSAGE)


def test_the_border_is_seen_edge_on(live):
    page = live("topology")
    train(page)
    page.click("#edge")
    b, c = page.evaluate(f"{STATE}.flows.lifted.border")[1:3]
    turned = float(page.evaluate("document.getElementById('turn').value"))
    assert turned == pytest.approx(np.degrees(np.arctan2(c, b)) % 180, abs=0.51)
    page.drag_within("#lifted", (0.5, 0.5), (0.3, 0.5))
    assert float(page.evaluate("document.getElementById('turn').value")) < 90
