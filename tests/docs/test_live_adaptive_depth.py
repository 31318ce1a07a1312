"""Adaptive depth: steps, evaluations and errors are those of Python; the difficulty is dragged; a comet comes home."""

import numpy as np
import pytest

import pynode as pn

STATE = "JSON.parse(document.documentElement.dataset.state)"
FINISHED = "document.documentElement.dataset.finished === 'true'"


@pn.field(state=1, theta={"place": 5.0, "width": 0.2})
def front(t, y, th):
    g = np.tanh((t - th.place) / th.width)
    return -(y - g) + (1 - g**2) / th.width


@pn.field(state=4)
def comet(t, y):
    x, z, u, v = y
    cubed = (x**2 + z**2) ** 1.5
    return [u, v, -x / cubed, -z / cubed]


def state(page, **knobs):
    for name, value in knobs.items():
        page.set(f"#{name}", value)
    page.wait(FINISHED)
    return page.evaluate(STATE)


@pytest.mark.parametrize("method", ["dopri5", "bosh3", "dop853"])
def test_steps_are_those_of_python(live, method):
    now = state(live("adaptive_depth"), method=method, place=3.0, width=0.1, tolerance=-5)
    t = np.linspace(0.0, 10.0, 401)
    sol = pn.solve(front, [1.0], t, [3.0, 0.1], method=method, rtol=1e-5, atol=1e-5, steps=True)
    assert now["nfe"] == sol.stats.nfe
    assert len(now["rejected"]) == sol.stats.rejected
    np.testing.assert_allclose(now["times"], sol.steps, rtol=1e-7)  # an error of order 8 is little but rounding
    exact = np.tanh((t - 3.0) / 0.1) + (1 - np.tanh(-30.0)) * np.exp(-t)
    assert now["error"] == pytest.approx(np.abs(sol.y[:, 0] - exact).max(), abs=1e-9)


def test_tolerances(live):
    now = state(live("adaptive_depth"))
    assert [one["power"] for one in now["sweep"]] == list(range(-2, -11, -1))
    errors = np.array([one["error"] for one in now["sweep"]])
    assert (np.diff(errors) < 0).all()
    assert now["error"] < 0.2 * now["fixed"]
    growth = now["sweep"][8]["nfe"] / now["sweep"][3]["nfe"]  # five powers of ten of an error of order 5
    assert growth == pytest.approx(10, rel=0.4)


def test_a_comet(live):
    page = live("adaptive_depth")
    now = state(page, problem="comet", eccentricity=0.6, tolerance=-10)
    far = [-1.6, 0.0, 0.0, -0.5]
    np.testing.assert_allclose(now["end"], far, atol=1e-6)
    sol = pn.solve(comet, far, [0.0, 2 * np.pi], rtol=1e-10, atol=1e-10, steps=True)
    np.testing.assert_allclose(now["times"], sol.steps, rtol=1e-7)
    page.drag_within("#path", (0.3, 0.5), (0.2, 0.5))
    assert float(page.evaluate("document.getElementById('eccentricity').value")) > 0.6


def test_the_front_is_dragged(live):
    page = live("adaptive_depth")
    state(page)
    page.drag_within("#path", (0.5, 0.5), (0.8, 0.5))
    page.wait(FINISHED)
    now = page.evaluate(STATE)
    place = now["settings"]["place"]
    assert place > 6
    middle = 0.5 * (np.array(now["times"][1:]) + now["times"][:-1])
    sizes = np.diff(now["times"])
    assert abs(middle[1:][np.argmin(sizes[1:])] - place) < 3 * now["settings"]["width"]  # but for the first trial step
