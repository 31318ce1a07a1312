"""Steps of a stiff equation: as many as pynode takes, at the same places; the window is dragged."""

import numpy as np
import pytest

import pynode as pn


@pn.field(state=2, theta={"mu": 1.0})
def van_der_pol(t, y, th):
    return [y[1], th.mu * (1 - y[0] ** 2) * y[1] - y[0]]


def shown(page):
    return {name: float(x) for name, x in page.evaluate("({ ...document.documentElement.dataset })").items()}


@pytest.mark.filterwarnings("ignore::pynode.StiffnessWarning")
@pytest.mark.parametrize(("power", "rtol"), [(0, -4), (1.5, -3)])
def test_steps_are_those_of_pynode(live, power, rtol):
    page = live("stiff_steps")
    page.set("#mu", power)
    page.set("#rtol", rtol)
    got = shown(page)
    mu = 10.0**power
    assert got["mu"] == pytest.approx(mu)
    assert got["end"] == pytest.approx(max(2 * mu, 20.0))
    for method, name in [("dopri5", "explicit"), ("rodas5p", "implicit")]:
        sol = pn.solve(
            van_der_pol,
            [2.0, 0.0],
            [0.0, got["end"]],
            [got["mu"]],
            method=method,
            rtol=got["rtol"],
            atol=10.0 ** (rtol - 2),
            steps=True,
        )
        assert got[name] == sol.stats.accepted
        assert got[f"{name}Nfe"] == sol.stats.nfe
        inside = np.sum((sol.steps >= got["from"]) & (sol.steps <= got["to"]))
        assert got[f"inside{name.capitalize()}"] == inside
    assert got["last"] == pytest.approx(sol.y[-1, 0], abs=1e-9)


def test_stiffness_is_dear_for_explicit_steps_only(live):
    page = live("stiff_steps")
    page.set("#mu", 2)
    got = shown(page)
    assert got["explicit"] > 30 * got["implicit"]
    page.set("#mu", 0)
    got = shown(page)
    assert got["explicitNfe"] < got["implicitNfe"]


def test_a_drag_moves_the_window(live):
    page = live("stiff_steps")
    before = shown(page)
    page.drag_within("#whole", (0.5, 0.5), (0.8, 0.5))
    after = shown(page)
    assert after["from"] > before["to"]
    page.evaluate("document.getElementById('middle').focus()")
    page.key("ArrowLeft")
    page.wait(f"Number(document.documentElement.dataset.from) < {after['from']}")
