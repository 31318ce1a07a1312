"""The worked examples: every number is the library's, Next and Back step through them, an update lowers the loss."""

import numpy as np
import pytest

import pynode as pn


@pn.field(state=1, theta={"w1": 1.5, "b1": 0.0, "w2": -2.0, "b2": 0.0})
def unit(t, y, th):
    return th.w2 * np.tanh(th.w1 * y + th.b1) + th.b2


def shown(page):
    return page.evaluate("({ ...document.documentElement.dataset })")


def text(page, name):
    return page.evaluate(f"document.getElementById('{name}').textContent")


def wanted(theta, y0=1.0, target=0.37):
    path = pn.solve(unit, [y0], [0.0, 0.25, 0.5], theta, method="euler", step=0.25).y[:, 0]
    value = pn.loss_and_grad(
        unit, [y0], [0.0, 0.5], theta, [[np.nan], [target]], loss="sse", wrt=("theta", "y0"), method="euler", step=0.25
    )
    return [*path[1:], value.loss / 2, value.y0[0] / 2, *(value.theta / 2)]


NAMES = ["y1", "y2", "loss", "a0", "gradW1", "gradB1", "gradW2", "gradB2"]


def test_numbers_of_the_course(live):
    got = shown(live("worked_examples"))
    assert [float(got[name]) for name in NAMES] == pytest.approx(wanted(unit.init()), abs=1e-12)
    assert float(got["gradW2"]) == pytest.approx(-0.0486034, abs=5e-8)
    assert float(got["slope2"]) == pytest.approx(-2.7220, abs=5e-5)
    assert float(got["exact"]) == pytest.approx(np.arcsinh(np.sinh(1.5) * np.exp(-1.5)) / 1.5, abs=1e-8)
    assert float(got["off"]) < 1e-14


def test_other_weights_and_a_dragged_target(live):
    page = live("worked_examples")
    theta = {"w1": 0.5, "b1": -0.75, "w2": 2.5, "b2": 0.5}
    for name, x in theta.items():
        page.set(f"#{name}", x)
    page.drag_within("#path", (0.8, 0.5), (0.85, 0.3))
    target = float(page.evaluate("document.getElementById('target').value"))
    assert target > 0.4
    got = shown(page)
    assert [float(got[name]) for name in NAMES] == pytest.approx(
        wanted(np.array(list(theta.values())), target=target), abs=1e-12
    )


def test_stages_and_update(live):
    page = live("worked_examples")
    assert "0.547426" in text(page, "lines")
    page.click("#next")
    assert "0.209581" in text(page, "lines")
    page.click("#back")
    assert "0.547426" in text(page, "lines")
    before = float(shown(page)["loss"])
    page.evaluate("document.getElementById('next').focus()")
    for _ in range(6):
        page.key("Enter")
    assert "downhill" in text(page, "stage")
    page.key("Enter")
    got = shown(page)
    assert got["stage"] == "0"
    theta = unit.init() - wanted(unit.init())[4:]
    assert float(got["loss"]) == pytest.approx(wanted(theta)[2], abs=1e-12)
    assert float(got["loss"]) < before
    page.click("#reset")
    assert float(shown(page)["loss"]) == before
