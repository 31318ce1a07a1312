"""The capstone: it fits the sample to its noise, as Python's network; tables are read or refused; strokes are data."""

import json
import time
from urllib.parse import unquote

import numpy as np
import pytest

import pynode as pn

MESSAGE = "document.getElementById('message').textContent"
FRAME = "new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))"


def van_der_pol(x, v):
    return v, (1 - x**2) * v - x


def fit(page):
    page.click("#run")
    page.wait("document.getElementById('run').textContent === 'Stop'")
    page.wait("document.getElementById('run').textContent === 'Fit'", within=180)


def network(page):
    """The downloaded network: field and theta."""
    text = unquote(page.evaluate("document.getElementById('download').href").partition(",")[2])
    model = json.loads(text)
    return eval(model["model"], {"pn": pn}), np.array(model["theta"])


def agrees(page):
    """The path from the reader's start is that of Python's solver with the downloaded network."""
    f, theta = network(page)
    end = json.loads(page.evaluate("document.documentElement.dataset.end"))
    y = pn.solve(f, end["from"], np.linspace(0.0, end["t"], 201), theta, rtol=1e-6, atol=1e-8).y
    np.testing.assert_allclose(end["y"], y[-1], atol=1e-9)
    return end["from"]


def test_the_sample_is_fitted_to_its_noise(live):
    page = live("capstone")
    fit(page)
    error, noise = page.evaluate("(({ error, noise }) => [Number(error), Number(noise)])(document.documentElement.dataset)")
    assert error < 1.1 * noise
    assert "Fitted to the noise" in page.evaluate(MESSAGE)
    f, theta = network(page)
    cycle = [(2.0, 0.0), (1.0, -2.3), (-1.0, 2.3), (-2.0, 0.0)]
    for point in cycle:
        np.testing.assert_allclose(
            pn.solve(f, point, [0.0, 1e-6], theta).y[1], point + 1e-6 * np.array(van_der_pol(*point)), atol=4e-7
        )
    before = agrees(page)
    page.drag_within("#portrait", (0.5, 0.5), (0.8, 0.3))
    page.evaluate(FRAME)
    after = agrees(page)
    assert after[0] > before[0]
    page.set("#y", -1.0)
    assert agrees(page)[1] == pytest.approx(-1.0, abs=0.02)


def table(run="a"):
    t = np.linspace(0.0, 4.0, 41)
    y = np.exp(-0.2 * t)[:, None] * np.column_stack([np.cos(2 * t), -np.sin(2 * t)])
    return "\n".join(f"{a:.3f};{b:.6f};{c:.6f};{run}" for a, (b, c) in zip(t, y, strict=True))


def test_a_table(live):
    page = live("capstone")
    page.set("#csv", "time;volts;amperes;run\n" + table() + "\n" + table("b"))
    page.click("#use")
    assert "2 trajectories, 82 points" in page.evaluate(MESSAGE)
    assert page.evaluate("document.getElementById('name-x').textContent") == "start volts"
    fit(page)
    assert float(page.evaluate("document.documentElement.dataset.error")) < 0.01
    agrees(page)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("", "no row of data"),
        ("t,x,y", "no row of data"),
        ("0,1\n1,2", "Row 1 has 2 cells"),
        ("0,1,2\n1,a,2", "Row 2: “a” in column x is not a number"),
        ("0,1,2\n1,2,", "Row 2: “” in column y is not a number"),
        ("0,1,2\n0,1,2", "Row 2: time 0 does not come after 0"),
        ("0,1,2\n1,1,2", "has 2 rows: at least 7"),
        ("\n".join(f"{i},0,1" for i in range(3000)), "3000 rows are more than the 2000"),
    ],
)
def test_what_is_wrong_in_a_table_is_said(live, rows, words):
    page = live("capstone")
    page.set("#csv", rows)
    page.click("#use")
    assert words in page.evaluate(MESSAGE)


def mouse(page, kind, x, y):
    page.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)


def test_strokes(live):
    page = live("capstone")
    page.set("#source", "drawn")
    page.click("#run")
    page.wait(f"{MESSAGE}.includes('no data to fit')")
    left, top, width, height = page.box("#portrait")
    places = [
        (left + width * (0.5 + 0.3 * np.cos(a)), top + height * (0.5 + 0.3 * np.sin(a))) for a in np.linspace(0, 5, 30)
    ]
    mouse(page, "mousePressed", *places[0])
    for place in places[1:]:
        mouse(page, "mouseMoved", *place)
        time.sleep(0.02)
    mouse(page, "mouseReleased", *places[-1])
    assert "1 trajectory" in page.wait(f"{MESSAGE}.includes('press Fit') && {MESSAGE}")
    page.click("#portrait")
    assert "longer one" in page.evaluate(MESSAGE)
    page.click("#clear")
    assert "Draw trajectories" in page.evaluate(MESSAGE)


def test_stop(live):
    page = live("capstone")
    page.click("#run")
    page.wait("Number(document.documentElement.dataset.error) > 0")
    page.click("#run")
    assert page.evaluate("document.getElementById('run').textContent") == "Fit"
    assert "Stopped" in page.evaluate(MESSAGE)
    agrees(page)
