"""The field editor: it solves what its text says in Python, with derivatives; errors in words; dragging and sliders."""

import json
import re

import numpy as np
import pytest

import pynode as pn

DATA = "document.documentElement.dataset"


def solved(page):
    """What the page shows against the Python that it writes, solved by pynode."""
    page.wait(f"{DATA}.derivatives")
    assert page.evaluate(f"{DATA}.status") == "OK"
    theta, end, derivatives = (json.loads(page.evaluate(f"{DATA}.{name}")) for name in ("theta", "end", "derivatives"))
    names = {}
    text = page.evaluate("document.getElementById('python').textContent")
    exec(text, names)
    f = names["f"]
    last = float(page.evaluate("document.getElementById('end').value"))
    t = np.linspace(0, float(f"{10**last:.2g}"), 801)
    y0 = json.loads(re.search(r"pn.solve\(f, (\[.*?\])", text)[1])
    scalars = sum(parameter.shape == () for parameter in f.spec)
    assert f.init(0)[:scalars] == pytest.approx(theta[:scalars])
    expected = pn.sensitivities(f, y0, t, theta, method="auto")
    assert end == pytest.approx(pn.solve(f, y0, t, theta, method="auto").y[-1], rel=1e-9, abs=1e-9)
    columns = np.concatenate([expected.theta[-1][:, :scalars], expected.y0[-1]], axis=1)
    assert np.array(derivatives) == pytest.approx(columns.T, rel=1e-6, abs=1e-8)
    return names, end


def write(page, text):
    page.set("#text", text)
    page.evaluate("new Promise((done) => setTimeout(done, 150))")


@pytest.mark.parametrize(
    "example", ["Van der Pol", "Damped oscillator", "An epidemic", "A network", "Known law and a network", "Stiff"]
)
def test_examples(live, example):
    page = live("field_editor")
    page.set("#example", example)
    solved(page)


def test_all_examples_solve(live):
    page = live("field_editor")
    for example in page.evaluate("[...document.querySelectorAll('#example option')].map((e) => e.value)"):
        page.set("#example", example)
        assert page.evaluate(f"{DATA}.error") == ""
        assert page.evaluate(f"{DATA}.status") == "OK"
        assert "Solved" in page.evaluate("document.getElementById('message').textContent")


def test_unknown_names_become_sliders(live):
    page = live("field_editor")
    write(page, "y' = -rate*y + push\ny(0) = 2")
    assert page.evaluate("[...document.querySelectorAll('#parameters input')].map((e) => e.dataset.name)") == [
        "rate",
        "push",
    ]
    page.set("[data-name=rate]", 0.6)
    page.set("[data-name=push]", 0.3)
    page.set("#end", np.log10(2))
    _, end = solved(page)
    assert end[0] == pytest.approx(0.5 + 1.5 * np.exp(-1.2), rel=1e-5)
    write(page, "y' = -rate*y + push*t\ny(0) = 2")  # what was moved stays
    assert float(page.evaluate("document.querySelector('[data-name=rate]').value")) == pytest.approx(0.6)
    solved(page)
    page.set("#shown", "d0")
    assert "\u2202y/\u2202rate" in page.evaluate("document.getElementById('legend').textContent")


def test_dragging_moves_the_start(live):
    page = live("field_editor")
    page.set("#example", "Damped oscillator")
    page.drag_within("#portrait", (0.5, 0.5), (0.75, 0.1))
    page.evaluate("new Promise((done) => setTimeout(done, 150))")
    x, v = (float(page.evaluate(f"document.querySelector('[data-name=\"{name}(0)\"]').value")) for name in ("x", "v"))
    assert 0.5 < x < 0.9
    assert v > 0.1
    solved(page)


def test_errors_are_told_and_the_last_picture_stays(live):
    page = live("field_editor")
    before = page.evaluate(f"{DATA}.end")
    write(page, "x' = v\nv' = 2x")
    assert "Line 2, column 7" in page.evaluate("document.getElementById('message').textContent")
    assert page.evaluate("document.getElementById('text').getAttribute('aria-invalid')") == "true"
    assert page.evaluate(f"{DATA}.end") == before
    write(page, "x' = x^2")
    assert "Stopped at t = 1" in page.evaluate("document.getElementById('message').textContent")
    write(page, "x' = log(-x)")
    assert "Stopped" in page.evaluate("document.getElementById('message').textContent")
    write(page, "x' = -x")
    assert "Solved" in page.evaluate("document.getElementById('message').textContent")


def test_typing(live):
    page = live("field_editor")
    page.evaluate("document.getElementById('text').value = ''")
    page.click("#text")
    for key in "y'=0":
        page.send("Input.insertText", text=key)
    page.evaluate("new Promise((done) => setTimeout(done, 200))")
    assert json.loads(page.evaluate(f"{DATA}.end")) == [1.0]
