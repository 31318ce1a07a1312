"""Bumps beside an equation: where they are, and what they add."""

import numpy as np
import pytest

import pynode as pn
from pynode.training.equations.discrepancy import CLOSE, Bumps
from pynode.training.windows import Data


def along(n=3, inputs=False):
    rng = np.random.default_rng(0)
    t = [np.linspace(0, 1, 50)] * n
    y = [3.0 + r * np.stack([np.cos(8 * t[0]), 100.0 * np.sin(8 * t[0])], axis=1) for r in np.linspace(1.0, 2.0, n)]
    signal = pn.Signal(np.stack(t), rng.standard_normal((n, 50, 1))) if inputs else None
    return Data(t, y, None, signal)


def test_each_state_is_near_the_centre_of_a_bump():
    data = along()
    bumps = Bumps.along(data, data.y, 2)
    x = np.concatenate(data.y)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    far = np.sqrt(((z[:, None] - bumps.centres) ** 2).sum(axis=-1).min(axis=1))
    assert far.max() <= CLOSE * bumps.length
    assert len(np.unique(bumps.centres, axis=0)) == len(bumps.centres) <= 100
    assert len(Bumps.along(data, data.y, 12).centres) == 20


@pytest.mark.parametrize("inputs", [False, True])
def test_bumps_are_gaussian_functions_of_states_and_inputs_in_some_derivatives(inputs):
    data = along(inputs=inputs)
    bumps = Bumps.along(data, data.y, 1)
    if inputs:
        base = pn.field(state=2, inputs=1, theta={"k": 0.7})(lambda t, y, th, u: [y[1] + u[0], -th.k * y[0] + t])
    else:
        base = pn.field(state=2, theta={"k": 0.7})(lambda t, y, th: [y[1], -th.k * y[0] + t])
    field = bumps.beside(base, [1])
    K = len(bumps.centres)
    assert field.n_params == 1 + K
    w = np.random.default_rng(1).standard_normal(K)
    y = data.y[0][:5]
    t = data.t[0][:5]
    u = data.inputs_at_rows()[:5] if inputs else None
    x = y if u is None else np.concatenate([y, u], axis=1)
    z = (x - bumps.middle) / bumps.scale
    g = np.exp(-0.5 * ((z[:, None] - bumps.centres) ** 2).sum(axis=-1) / bumps.length**2) @ w
    expected = base(t, y, [0.7], u) + np.stack([np.zeros(5), g], axis=1)
    np.testing.assert_allclose(field(t, y, [0.7, *w], u), expected, rtol=1e-9, atol=1e-9)


def test_the_size_of_bumps_is_that_of_their_sum_along_the_data():
    data = along()
    bumps = Bumps.along(data, data.y, 2)
    z = (np.concatenate(data.y) - bumps.middle) / bumps.scale
    heights = np.exp(-0.5 * ((z[:, None] - bumps.centres) ** 2).sum(axis=-1) / bumps.length**2)
    sums = heights @ np.random.default_rng(0).standard_normal((len(bumps.centres), 4000))
    np.testing.assert_allclose(np.sqrt(np.mean(sums**2)), bumps.size, rtol=0.05)
