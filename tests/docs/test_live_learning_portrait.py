"""The front page's figure: it begins by itself, what it shows is what pynode solves, its start is dragged and slid."""

import numpy as np
import pytest

import pynode as pn

DATA = "document.documentElement.dataset"


def finished(page):
    page.wait("document.getElementById('message').textContent.includes('finished')", within=120)


def numbers(page):
    theta = np.array([float(x) for x in page.evaluate(f"{DATA}.theta").split()])
    return theta, float(page.evaluate(f"{DATA}.end"))


def expected(page, start):
    """x at the end by pynode, with the tolerances of the page."""
    theta, end = numbers(page)
    solved = pn.solve(pn.mlp(2, (16,)), start, np.linspace(0, 24, 241), theta, rtol=1e-4)
    assert end == pytest.approx(solved.y[-1, 0], abs=1e-9)


def test_it_learns_by_itself(live):
    page = live("learning_portrait")
    finished(page)
    assert float(page.evaluate(f"{DATA}.loss")) < 0.01  # noise of 0.05 twice: where a piece begins, and where it is compared
    expected(page, [0.4, 0.0])
    page.set("#x", 1.5)
    page.set("#v", -1)
    expected(page, [1.5, -1.0])
    theta, _ = numbers(page)
    x = np.linspace(-1.5, 1.5, 7)  # the middle of what was measured: near Van der Pol's equation
    learned = pn.mlp(2, (16,))(0.0, np.stack([x, np.ones(7)], axis=1), theta)
    assert np.abs(learned[:, 0] - 1.0).max() < 0.7
    page.click("#again")
    page.wait(f"Number({DATA}.epochs) < 600")


def test_dragging(live):
    page = live("learning_portrait")
    finished(page)
    page.drag_within("#portrait", (0.5, 0.4), (0.8, 0.3))
    x = float(page.evaluate("document.getElementById('x').value"))
    v = float(page.evaluate("document.getElementById('v').value"))
    assert 1 < x < 3
    assert 0.5 < v < 2.5
    expected(page, [x, v])


def test_reduced_motion(live):
    page = live("learning_portrait", still=True)
    finished(page)
    assert float(page.evaluate(f"{DATA}.loss")) < 0.01
