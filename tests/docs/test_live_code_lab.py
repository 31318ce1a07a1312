"""The code lab: it trains, by both gradients, smoothly, and stops."""

import pytest


def trained(page, gradient):
    page.set("#gradient", gradient)
    before = float(page.evaluate("document.documentElement.dataset.error"))
    page.click("#run")
    page.wait("document.getElementById('run').textContent === 'Run'")
    epochs, error = page.evaluate(
        "(({ epochs, error }) => [Number(epochs), Number(error)])(document.documentElement.dataset)"
    )
    assert epochs == 120
    assert error < 0.5 * before
    assert "finished" in page.evaluate("document.getElementById('message').textContent")
    return error


def test_both_gradients_train_alike(live):
    page = live("code_lab")
    assert trained(page, "differences") == pytest.approx(trained(page, "adjoint"), rel=1e-4)


def test_stop(live):
    page = live("code_lab")
    page.set("#epochs", 2000)
    page.set("#hidden", 32)
    page.click("#run")
    page.wait("document.getElementById('run').textContent === 'Stop'")
    page.evaluate("new Promise((done) => setTimeout(done, 500))")
    page.click("#run")
    assert int(page.evaluate("document.documentElement.dataset.fps")) > 20  # 60 on an idle machine
    assert page.evaluate("document.getElementById('run').textContent") == "Run"
    assert "stopped" in page.evaluate("document.getElementById('message').textContent")


def test_a_rate_that_is_too_large_is_said(live):
    page = live("code_lab")
    page.set("#rate", 1)
    page.set("#epochs", 2000)
    page.click("#run")
    page.wait("document.getElementById('run').textContent === 'Run'")
    message = page.evaluate("document.getElementById('message').textContent")
    assert "learning rate" in message or "finished" in message
