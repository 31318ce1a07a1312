"""Gradients of callback fields: with respect to time where its derivative is given, refused where nothing is known."""

import numpy as np
import pytest

import pynode as pn

T = [0.0, 0.4, 1.0]
TARGET = np.zeros((3, 1))
RATE = {"time_derivative": lambda t, y, th: -np.sin(3 * t) * 3 * th}


@pn.field(state=1, theta={"a": 1.5})
def traced(t, y, th):
    return th.a * np.cos(3 * t) - y**2


def forced(vectorized=False, **more):
    def vjp(t, y, th, dy):
        return -2 * y * dy, np.cos(3 * t).reshape(dy.shape) * dy

    def f(t, y, th):
        return th * np.cos(3 * t).reshape(y[..., :1].shape) - y**2

    return pn.callback_field(f, 1, n_params=1, vjp=vjp, vectorized=vectorized, **more)


@pytest.mark.parametrize("method", ["dopri5", "rodas5p"])
@pytest.mark.parametrize("vectorized", [False, True])
def test_gradients_of_times_take_the_time_derivative(method, vectorized):
    rate = {"time_derivative": lambda t, y, th: (-3 * th * np.sin(3 * t)).reshape(y.shape)}
    args = [0.5], T, [1.5], TARGET
    wanted = {"wrt": ("theta", "y0", "t"), "method": method, "rtol": 1e-9, "atol": 1e-9}
    found = pn.loss_and_grad(forced(vectorized, **rate), *args, **wanted)
    exact = pn.loss_and_grad(traced, *args, **wanted)
    for name in wanted["wrt"]:
        assert np.allclose(getattr(found, name), getattr(exact, name), rtol=1e-5, atol=1e-7), name


def test_gradients_through_events_take_it_too():
    late = pn.event(lambda t, y: y[0] - 0.7)
    args = [0.5], T, [1.5], TARGET
    exact = pn.loss_and_grad(traced, *args, events=late, rtol=1e-9, atol=1e-9)
    found = pn.loss_and_grad(forced(**RATE), *args, events=late, rtol=1e-9, atol=1e-9)
    assert exact.solution.events.t.size == 1
    assert np.allclose(found.theta, exact.theta, rtol=1e-6)
    with pytest.raises(ValueError, match=r"through events.*time_derivative="):
        pn.loss_and_grad(forced(), *args, events=late)


def test_what_the_vjp_says_nothing_of_is_refused():
    with pytest.raises(ValueError, match=r"wrt='t'.*time_derivative="):
        pn.loss_and_grad(forced(), [0.5], T, [1.5], TARGET, wrt="t")
    driven = pn.callback_field(lambda t, y, u: -y + u, 1, inputs=1, vjp=lambda t, y, u, dy: -dy)
    sol = pn.solve(driven, [1.0], T, inputs=[1.0])
    for wrt, words in (("inputs", "wrt='inputs'.*says nothing of u"), (("y0", "t"), "wrt='t'.*moves with t")):
        with pytest.raises(ValueError, match=words):
            pn.loss_and_grad(driven, [1.0], T, None, TARGET, inputs=[1.0], wrt=wrt)
        with pytest.raises(ValueError, match=words):
            sol.vjp(TARGET, wrt=wrt)
    assert sol.vjp(TARGET + 1, wrt="y0").y0 == pytest.approx(1 + np.exp(-0.4) + np.exp(-1), rel=1e-3)
