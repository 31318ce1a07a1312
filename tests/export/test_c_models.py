"""A fitted model as C: its file takes and gives the units of the data."""

import numpy as np
import pytest

import pynode as pn

pytestmark = pytest.mark.filterwarnings(
    "ignore::pynode.training.curriculum.FitWarning", "ignore::pynode.ExtrapolationWarning"
)

T = np.linspace(10.0, 16.0, 40)


def test_logarithms_and_scaled_states(exported):
    t = T - 10
    y = np.stack([5 * np.exp(0.3 * np.sin(t)), 200 * np.exp(0.2 * np.cos(t))], axis=1)
    model = pn.NeuralODE(hidden=(4,), structure="network", log=True, max_iter=5, random_state=0, method="dopri5").fit(T, y)
    made = exported(model, vjp=True)
    status, found, _ = made.solve(y[0], T)
    assert status == 0
    assert np.allclose(found, model.predict(T, y[0]), rtol=1e-12)
    assert np.allclose(made.value(10.5, y[3]), model.derivative(10.5, y[3]), rtol=1e-12)
    s = np.array([0.4, -0.02])
    g_y, *_ = made.pull(10.5, y[3], s)
    e = 1e-5
    differences = [
        s @ (made.value(10.5, y[3] * (1 + e * d)) - made.value(10.5, y[3] * (1 - e * d))) / (2 * e * y[3][k])
        for k, d in enumerate(np.eye(2))
    ]
    assert np.allclose(g_y, differences, rtol=1e-6)


@pytest.mark.parametrize("method", ["tsit5", "rodas5p"])
def test_gradients_of_a_step_in_the_units_of_the_data(exported, method):
    t = T - 10
    y = np.stack([5 * np.exp(0.3 * np.sin(t)), 200 * np.exp(0.2 * np.cos(t))], axis=1)
    model = pn.NeuralODE(hidden=(4,), structure="network", log=True, max_iter=5, random_state=0, method=method).fit(T, y)
    made = exported(model, method=method, vjp=True)
    s = np.array([0.4, -0.02])
    h = 0.4
    e = 1e-5
    g_y, *_ = made.pull(10.5, y[3], s, h=h)
    differences = [
        s @ (made.step(10.5, h, y[3] * (1 + e * d))[1] - made.step(10.5, h, y[3] * (1 - e * d))[1]) / (2 * e * y[3][k])
        for k, d in enumerate(np.eye(2))
    ]
    assert np.allclose(g_y, differences, rtol=1e-6)


@pytest.mark.parametrize("kind", ["previous", "linear", "cubic"])
@pytest.mark.parametrize("baked", [False, True])
def test_inputs_that_take_effect_later(exported, kind, baked):
    u = 3 + np.sin(2 * T)[:, None]
    y = 7 + np.cos(T)[:, None]
    options = {"input_kind": kind, "input_delay": 0.25, "structure": "network", "method": "dopri5"}
    model = pn.NeuralODE(hidden=(3,), max_iter=3, random_state=0, **options).fit(T, y, u=u)
    signal = pn.Signal(T, u, kind)
    made = exported(model, inputs=signal if baked else None)
    status, found, _ = made.solve(y[0], T, None if baked else (T, u))
    assert status == 0
    assert np.allclose(found, model.predict(T, y[0], u=signal), rtol=1e-11)
