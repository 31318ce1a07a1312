"""RK4 against Euler: errors are those of the methods' stability functions, the step follows a drag and the keyboard."""

import math

import numpy as np
import pytest

END = 4.0
FACTORS = {
    "euler": lambda z: 1 + z,
    "midpoint": lambda z: 1 + z + z**2 / 2,
    "rk4": lambda z: 1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24,
}
EXACT = {"decay": -1.0, "oscillator": -1j}  # y, or y + i dy/dt, is exp(z t)


def shown(page):
    return page.evaluate("({ ...document.documentElement.dataset })")


@pytest.mark.parametrize("problem", EXACT)
@pytest.mark.parametrize("place", [0, 9, 16])
def test_errors(live, problem, place):
    page = live("rk4_against_euler")
    page.set("#problem", problem)
    page.set("#size", place)
    got = shown(page)
    n = int(got["steps"])
    for method, factor in FACTORS.items():
        want = abs(factor(EXACT[problem] * END / n) ** n - np.exp(EXACT[problem] * END))
        assert float(got[method]) == pytest.approx(want, rel=1e-6, abs=1e-14)


def test_euler_steps_that_match(live):
    got = shown(live("rk4_against_euler"))
    n = int(got["matching"])
    assert abs((1 - END / n) ** n - math.exp(-END)) == pytest.approx(float(got["rk4"]), rel=0.05)


def test_a_drag_sets_the_step(live):
    page = live("rk4_against_euler")
    page.drag_within("#steps", (0.5, 0.5), (0.56, 0.6))  # to the middle of the axis, t = 2
    assert shown(page)["steps"] == "2"
    assert page.evaluate("document.getElementById('size-value').textContent") == "2"
    assert "2 steps of 2" in page.evaluate("document.getElementById('message').textContent")


def test_keys_set_the_step(live):
    page = live("rk4_against_euler")
    before = int(shown(page)["steps"])
    page.evaluate("document.getElementById('size').focus()")
    page.key("ArrowRight")
    page.wait(f"Number(document.documentElement.dataset.steps) < {before}")


def test_long_steps_are_not_praised(live):
    page = live("rk4_against_euler")
    page.set("#size", 16)
    assert "not stable" in page.evaluate("document.getElementById('message').textContent")
