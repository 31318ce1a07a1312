"""How control inputs go between their times, as the integral form tells it."""

import numpy as np
import pytest

import pynode as pn
from pynode.data.delays import of_kind
from pynode.training.equations.input_evidence import input_evidence
from pynode.training.equations.integral_form import integrals
from pynode.training.equations.terms import polynomials
from pynode.training.smoothing import smooth

KINDS = ("linear", "previous", "cubic")
T = np.linspace(0.0, 12.0, 121)


def told(field, kind, noise, seed=0, size=1.0):
    """What is said of data of this kind."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6.28, (6, 1))
    u = (np.sin(1.3 * T + phase) + 0.5 * np.sin(2.9 * T - phase))[:, :, None]
    signal = pn.Signal(T, u, kind)
    y = size * pn.solve(field, rng.uniform(-1, 1, (6, field.d)), T, inputs=signal).y
    y += noise * y.std() * rng.standard_normal(y.shape)
    ys = list(y)
    return input_evidence([T] * 6, ys, smooth([T] * 6, ys), [of_kind(signal, name) for name in KINDS])


@pn.field(state=2, inputs=1)
def spring(t, y, u):
    return [y[1], 2.0 * u[0] - y[0] - 0.4 * y[1]]


@pytest.mark.parametrize("size", [1e-40, 1.0, 1e30])
@pytest.mark.parametrize("kind", ["linear", "previous"])
def test_what_is_likelier_is_told(kind, size):
    found = told(spring, kind, 0.05, size=size)
    assert found.explained
    assert found.logs[0] == 0.0
    assert (found.logs[1] > 10) == (kind == "previous")
    assert abs(found.logs[2]) < 5  # a smooth input hardly differs from straight lines


def test_residuals_that_are_no_noise_count_for_less():
    @pn.field(state=2, inputs=1)
    def stiff(t, y, u):
        return [y[1], 2.0 * u[0] - 8.0 * np.tanh(6 * y[0]) - 0.4 * y[1]]

    found = told(stiff, "linear", 0.001)
    assert not found.explained and max(found.logs) < 5


def test_where_data_are_few_nothing_is_told():
    signal = pn.Signal(T[:8], np.sin(T[:8])[:, None])
    y = [np.cos(T[:8])[:, None] * np.ones(3)]
    assert input_evidence([T[:8]], y, smooth([T[:8]], y), [signal]) is None
    two = [np.ones((2, 1))] * 40
    t = [T[:2]] * 40
    many = pn.Signal([T[:2]] * 40, [np.zeros((2, 1))] * 40)
    assert input_evidence(t, two, smooth(t, two), [many]) is None


@pytest.mark.parametrize("kind", ["previous", "linear", "cubic"])
def test_integrals_are_those_of_the_input_as_it_goes(kind):
    """Gauss's nodes leave nothing of polynomials of the fifth degree in each interval: all but a cubic input's square."""
    t = np.array([0.0, 0.3, 0.5, 1.1, 1.2, 2.0])
    u = np.random.default_rng(3).standard_normal((6, 1))
    signal = pn.Signal(t, u, kind)
    (found,) = integrals(polynomials(2, 2), [t], [t[:, None] ** 2 - t[:, None]], signal)
    step = np.diff(t)[:, None] / 2000
    fine = t[:-1, None] + step * (np.arange(2000) + 0.5)
    x, v = fine**2 - fine, signal(fine)[:, :, 0]
    terms = np.stack([np.ones(x.shape), x, v, x * x, x * v, v * v])
    whole = np.cumsum((terms * step).sum(axis=2), axis=1).T
    exact = 5 if kind == "cubic" else 6
    np.testing.assert_allclose(found[1:, :exact], whole[:, :exact], rtol=1e-5, atol=1e-6)
