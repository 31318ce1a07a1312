"""The adjoint as a push: closed forms of the decay, pynode's gradients of the other, pushes by mouse and keys."""

import numpy as np
import pytest

import pynode as pn

TIGHT = {"rtol": 1e-12, "atol": 1e-14}


@pn.field(state=1, theta={"alpha": 1.0})
def well(t, y, th):
    return th.alpha * y - y**3


def shown(page):
    return {
        name: float(x)
        for name, x in page.evaluate("({ ...document.documentElement.dataset })").items()
        if name not in {"ready"}
    }


def test_decay(live):
    page = live("adjoint")
    for knob, x in {"alpha": 1.3, "start": 1.5, "target": 0.5, "time": 0.7, "push": -0.2}.items():
        page.set(f"#{knob}", x)
    got = shown(page)
    miss = 1.5 * np.exp(-1.3 * 2.0) - 0.5
    t = got["time"]
    growth = np.exp(1.3 * (t - 2.0))
    push = -0.2
    a = miss * growth
    assert t == pytest.approx(0.7)
    assert got["a"] == pytest.approx(a, abs=1e-9)
    assert got["said"] == pytest.approx(a * push, abs=1e-9)
    assert got["change"] == pytest.approx(a * push + 0.5 * (push * growth) ** 2, abs=1e-9)
    assert got["gradient"] == pytest.approx(-miss * 2.0 * 1.5 * np.exp(-1.3 * 2.0), abs=1e-9)
    assert got["area"] == pytest.approx(got["gradient"] * (2.0 - t) / 2.0, abs=1e-9)


def test_well(live):
    page = live("adjoint")
    page.set("#problem", "well")
    got = shown(page)
    t = got["time"]
    target = [[np.nan], [1.0]]
    whole = pn.loss_and_grad(well, [0.1], [0.0, 2.0], [2.0], target, loss="sse", **TIGHT)
    assert got["gradient"] == pytest.approx(whole.theta[0] / 2, abs=1e-9)
    now = pn.solve(well, [0.1], [0.0, t], [2.0], **TIGHT).y[-1]
    rest = pn.loss_and_grad(well, now, [t, 2.0], [2.0], target, loss="sse", wrt=("theta", "y0"), **TIGHT)
    assert got["a"] == pytest.approx(rest.y0[0] / 2, abs=1e-9)
    assert got["area"] == pytest.approx(rest.theta[0] / 2, abs=1e-9)
    after = pn.solve(well, now + got["push"], [t, 2.0], [2.0], **TIGHT).y[-1, 0]
    assert got["change"] == pytest.approx(((after - 1) ** 2 - whole.loss) / 2, abs=1e-9)


def test_a_drag_pushes(live):
    page = live("adjoint")
    page.drag_within("#path", (0.5, 0.5), (0.75, 0.2))
    got = shown(page)
    assert got["time"] > 1.2
    assert got["push"] == pytest.approx(0.6)  # as far as it goes
    assert got["change"] > got["said"]  # the loss is convex in the push


def test_keys_push(live):
    page = live("adjoint")
    before = shown(page)["time"]
    page.evaluate("document.getElementById('time').focus()")
    page.key("ArrowRight")
    page.wait(f"Number(document.documentElement.dataset.time) > {before}")
