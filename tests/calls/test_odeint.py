"""`odeint`: torchdiffeq's signature and shapes."""

import inspect

import numpy as np
import pytest

import pynode as pn

T = np.linspace(0, 1, 6)
NET = pn.mlp(2, (4,))
THETA = NET.init(0)

decay = pn.field(state=1)(lambda t, y: [-y[0]])


def test_signature():
    names = list(inspect.signature(pn.odeint).parameters)
    assert names[:3] == ["func", "y0", "t"]
    assert {"rtol", "atol", "method", "options"} <= set(names)


@pytest.mark.parametrize("shape", [(2,), (5, 2), (3, 4, 2), (1, 1, 1, 2), (0, 2), (3, 0, 2)])
def test_shapes_of_fields(shape):
    y0 = np.random.default_rng(0).normal(size=shape)
    y = pn.odeint(NET, y0, T, THETA)
    assert y.shape == (6, *shape) and y.dtype == np.float64
    np.testing.assert_array_equal(y[0], y0)
    if y0.size:
        alone = pn.solve(NET, y0.reshape(-1, 2), T, THETA, rtol=1e-7, atol=1e-9).y
        np.testing.assert_array_equal(y.reshape(6, -1, 2), np.swapaxes(alone, 0, 1))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1, 4)])
def test_shapes_of_plain_functions(shape):
    def f(t, y):
        assert type(t) is float and y.shape == shape and y.dtype == np.float64
        return -y * (1 + t)

    y0 = 1 + np.arange(int(np.prod(shape)), dtype=float).reshape(shape)
    y = pn.odeint(f, y0, T)
    assert y.shape == (6, *shape)
    np.testing.assert_allclose(y, y0 * np.exp(-T - T**2 / 2).reshape(-1, *[1] * len(shape)), rtol=1e-5)


def test_complicated_returns():
    matrix = pn.odeint(lambda t, y: np.array([[0.0, 1.0], [-1.0, 0.0]]) @ y, np.eye(2), T)
    np.testing.assert_allclose(matrix[:, 0, 1], np.sin(T), atol=1e-6)
    np.testing.assert_allclose(pn.odeint(lambda t, y: [-y[0], 0], [1, 2], T)[-1], [np.exp(-1), 2], rtol=1e-6)


@pytest.mark.parametrize(
    "method", ["dopri5", "tsit5", "bosh3", "dop853", "adaptive_heun", "heun2", "euler", "midpoint", "rk4"]
)
def test_methods(method):
    for f in (decay, lambda t, y: -y):
        y = pn.odeint(f, np.ones(1), np.linspace(0, 1, 51), method=method)
        np.testing.assert_allclose(y[-1], np.exp(-1), rtol=2e-2 if method == "euler" else 1e-4)


def test_fixed_steps():
    steps = pn.odeint(decay, [1.0], [0, 1.0, 2.0], method="euler")
    np.testing.assert_array_equal(steps[:, 0], [1, 0, 0])
    half = pn.odeint(decay, [1.0], [0, 1.0, 2.0], method="euler", options={"step_size": 0.5})
    np.testing.assert_allclose(half[:, 0], [1, 0.25, 0.0625])
    np.testing.assert_allclose(
        pn.odeint(decay, [1.0], [0, 0, 1.0, 1.0, 2.0], method="rk4")[:, 0], [1, 1, 0.375, 0.375, 0.375**2]
    )
    three_eighths = pn.odeint(lambda t, y: np.array([t**3]), [0.0], [0, 1.0], method="rk4")
    np.testing.assert_allclose(three_eighths[-1], 0.25)


def test_float32_and_backwards():
    assert pn.odeint(NET, np.ones(2, np.float32), T, THETA).dtype == np.float32
    np.testing.assert_allclose(pn.odeint(decay, [1.0], T[::-1])[-1], np.e, rtol=1e-6)


def test_one_time():
    assert pn.odeint(NET, np.ones((3, 2)), [0.5], THETA).shape == (1, 3, 2)
    assert pn.odeint(lambda t, y: -y, np.ones((3, 2)), [0.5], method="rk4").shape == (1, 3, 2)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: pn.odeint(NET, np.ones(3), T, THETA), ValueError, ["y0 has shape (3,)", "(..., 2)"]),
        (lambda: pn.odeint(NET, 1.0, T, THETA), ValueError, ["y0 has shape ()", "(..., 2)"]),
        (lambda: pn.odeint(NET, np.ones(2), T), ValueError, ["22 parameters", "give theta"]),
        (lambda: pn.odeint(NET, np.ones(2), T, THETA[:3]), ValueError, ["theta must have shape (22,)", "(3,)"]),
        (lambda: pn.odeint(NET, np.ones(2), [0, 2, 1], THETA), ValueError, ["t[1] = 2", "sort"]),
        (lambda: pn.odeint(NET, np.ones(2), [], THETA), ValueError, ["t must be a non-empty"]),
        (lambda: pn.odeint(NET, np.ones(2), [], THETA, method="rk4"), ValueError, ["t must be a non-empty"]),
        (lambda: pn.odeint(NET, np.ones(2), [0, np.nan], THETA, method="rk4"), ValueError, ["t[1] is nan"]),
        (lambda: pn.odeint(NET, np.ones(2), [0, 2, 1], THETA, method="rk4"), ValueError, ["t[1] = 2", "sort"]),
        (lambda: pn.odeint(NET, np.ones(2), 1.0, THETA, method="rk4"), ValueError, ["t must be a 1-d array", "()"]),
        (lambda: pn.odeint(NET, np.ones((2, 2)), np.ones((2, 3)), THETA), ValueError, ["t", "1-d"]),
        (lambda: pn.odeint(NET, np.ones(2, complex), T, THETA), TypeError, ["y0 must hold real numbers", "complex128"]),
        (lambda: pn.odeint(None, np.ones(2), T), TypeError, ["func", "NoneType"]),
        (lambda: pn.odeint(NET, np.ones(2), T, THETA, method="lsoda"), ValueError, ["method='lsoda'", "dopri5"]),
        (lambda: pn.odeint(NET, np.ones(2), T, THETA, method=["dopri5"]), ValueError, ["method=['dopri5']"]),
        (lambda: pn.odeint(NET, np.ones(2), T, THETA, rtol=-1), ValueError, ["rtol=-1"]),
        (lambda: pn.odeint(NET, np.ones(2), T, THETA, options={"foo": 1}), ValueError, ["options['foo']", "step_size"]),
        (lambda: pn.odeint(NET, np.ones(2), T, THETA, options=5), TypeError, ["options"]),
        (lambda: pn.odeint(NET, np.ones(2), T, THETA, options={"step_size": 0.1}), ValueError, ["step_size", "fixed-step"]),
        (
            lambda: pn.odeint(NET, np.ones(2), T, THETA, method="rk4", options={"first_step": 0.1}),
            ValueError,
            ["first_step"],
        ),
        (lambda: pn.odeint(NET, np.ones(2), T, THETA, method="rk4", options={"step_size": -1}), ValueError, ["step", "-1"]),
        (lambda: pn.odeint(NET, np.ones(2), T, THETA, options={"max_num_steps": 0}), ValueError, ["max_steps=0"]),
        (lambda: pn.odeint(NET, [np.nan, 0], T, THETA), pn.SolveError, ["bad_input", "y0[0, 0] is nan"]),
        (lambda: pn.odeint(NET, np.ones(2), T, THETA, options={"max_num_steps": 1}), pn.SolveError, ["max_steps"]),
        (lambda: pn.odeint(lambda t, y: y[:1], np.ones(2), T), ValueError, ["func must return", "(2,)", "(1,)"]),
        (lambda: pn.odeint(lambda t, y: y.T, np.ones((2, 3)), T), ValueError, ["func must return", "(2, 3)", "(3, 2)"]),
        (lambda: pn.odeint(lambda t, y: y * 1j, np.ones(2), T), TypeError, ["what func returns", "complex128"]),
        (lambda: pn.odeint(lambda t, y: y * np.nan, np.ones(2), T), pn.SolveError, ["non_finite", "component 0"]),
        (lambda: pn.odeint(lambda t, y: y, np.zeros((0, 2)), T), ValueError, ["y0", "(0, 2)"]),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_an_exception_in_the_function_comes_out():
    class Mine(Exception):
        pass

    def f(t, y):
        raise Mine("here")

    with pytest.raises(Mine, match="here"):
        pn.odeint(f, [1.0], T)
