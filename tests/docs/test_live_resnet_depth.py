"""Depth is time: layers and flow are the library's, the distance falls as 1/N, the input is dragged."""

import numpy as np
import pytest

import pynode as pn

FIRST = [2, 0, 2.5, 0, 0, 1.5, 1, -1]
BIAS = [2, 0, 0, 0]
SECOND = np.array([0, 0, -0.6, 0.4, 0.8, -2.8, -0.9, 0.4])


def shown(page):
    return page.evaluate("({ ...document.documentElement.dataset })")


@pytest.mark.parametrize(("n", "strength"), [(1, 1.0), (7, 2.5), (64, 1.0)])
def test_layers_and_flow(live, n, strength):
    page = live("resnet_depth")
    page.set("#layers", n)
    page.set("#strength", strength)
    got = shown(page)
    f = pn.mlp(2, (4,))
    theta = np.array([*FIRST, *BIAS, *(strength * SECOND), 3.5, 0])
    h = start = np.array([-1.9, 0.4])
    for _ in range(n):
        h = h + f(0.0, h, theta) / n
    assert [float(got["outX"]), float(got["outY"])] == pytest.approx(h, abs=1e-12)
    flow = pn.solve(f, start, [0.0, 1.0], theta, rtol=1e-12, atol=1e-13).y[-1]
    assert [float(got["flowX"]), float(got["flowY"])] == pytest.approx(flow, abs=1e-9)


def test_first_order(live):
    page = live("resnet_depth")
    page.set("#layers", 64)
    got = shown(page)
    assert float(got["distance"]) / float(got["twice"]) == pytest.approx(2, abs=0.05)


def test_a_drag_moves_the_input(live):
    page = live("resnet_depth")
    page.drag_within("#plane", (0.5, 0.5), (0.6, 0.3))
    x, y = (float(v) for v in shown(page)["start"].split())
    assert x > -1.9
    assert y > 0.3
    before = shown(page)["outX"]
    page.evaluate("document.getElementById('x').focus()")
    page.key("ArrowRight")
    page.wait(f"document.documentElement.dataset.outX !== '{before}'")
