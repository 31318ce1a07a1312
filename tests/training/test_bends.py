"""Terms that bend: their functions, their scales as parameters, and the search for them."""

from types import SimpleNamespace

import numpy as np
import pytest

import pynode as pn
from pynode.training.equations.bends import Bend
from pynode.training.equations.search import Candidate, likeliest_first
from pynode.training.equations.sparse_field import sparse_field
from pynode.training.equations.terms import Term, evaluate

BENDS = [
    Bend("up", 0, 1, 0.7),
    Bend("up", 0, 3, 1.2),
    Bend("down", 0, 1, 0.5),
    Bend("down", 0, 4, 0.9),
    Bend("decay", 0, 1, 0.6),
    Bend("on", 0, 1, 0.4, 2.5),
    Bend("off", 0, 1, 0.4, -1.5),
]


def expected(bend, x, K, threshold):
    n = bend.n
    return {
        "up": x**n / (K**n + x**n),
        "down": 1 / (1 + (x / K) ** n),
        "decay": np.exp(-x / K),
        "on": 1 / (1 + np.exp(-(x - threshold) / K)),
        "off": 1 / (1 + np.exp((x - threshold) / K)),
    }[bend.kind]


@pytest.mark.parametrize("bend", BENDS)
def test_values_and_slopes(bend):
    x = np.linspace(0, 3, 7)
    K = bend.scale
    threshold = bend.level * K
    np.testing.assert_allclose(bend.value(x), expected(bend, x, K, threshold), rtol=1e-14)
    h = 1e-6
    by_scale = (expected(bend, x, K * np.exp(h), threshold) - expected(bend, x, K * np.exp(-h), threshold)) / (2 * h)
    np.testing.assert_allclose(bend.slopes(x)[:, 0], by_scale, atol=1e-9)
    if bend.switches:
        by_threshold = (expected(bend, x, K, threshold + K * h) - expected(bend, x, K, threshold - K * h)) / (2 * h)
        np.testing.assert_allclose(bend.slopes(x)[:, 1], by_threshold, atol=1e-9)


@pytest.mark.parametrize("bend", BENDS)
def test_a_step_moves_scale_and_threshold(bend):
    moved = bend.moved([0.3, 0.5][: len(bend.inner)])
    assert moved.scale == pytest.approx(bend.scale * np.exp(0.3))
    if bend.switches:
        assert moved.level * moved.scale == pytest.approx(bend.level * bend.scale + 0.5 * bend.scale)
    again = bend.at(moved.place)
    np.testing.assert_allclose([v for _, v in again.inner], [v for _, v in moved.inner], rtol=1e-14)


def test_scales_are_parameters_that_rows_share():
    none = (0, 0)
    bent = Term((0, 1), "bend", none, Bend("up", 0, 1, 2.0))
    other = Term(none, "bend", none, Bend("down", 1, 2, 0.5))
    field = sparse_field([[Term((1, 0), "", none), bent], [bent, other]], [[1.0, -3.0], [0.5, 4.0]], 0, ["x", "y"])
    assert [p.name for p in field.spec] == ["x: x", "x: y*x/(K1 + x)", "y: y*x/(K1 + x)", "y: 1/(1 + (y/K2)^2)", "K1", "K2"]
    assert [p.constraint for p in field.spec][-2:] == [("positive",)] * 2
    x, y = np.array([0.3, 1.1])
    theta = np.array([1.0, -3.0, 0.5, 4.0, 1.5, 0.8])
    found = field(0.0, np.array([x, y]), theta)
    eaten = x * y / (1.5 + x)
    np.testing.assert_allclose(found, [x - 3 * eaten, 0.5 * eaten + 4 / (1 + (y / 0.8) ** 2)], rtol=1e-13)
    assert pn.check_grad(field, np.array([x, y]), np.linspace(0, 1, 4), theta, np.zeros((4, 2)))
    np.testing.assert_allclose(evaluate([bent], np.array([[x, y]])), [[x * y / (2 + x)]])


def test_no_state_is_called_like_a_scale():
    none = (0,)
    field = sparse_field([[Term(none, "bend", none, Bend("up", 0, 1, 2.0))]], [[1.0]], 0, ["K"])
    assert [p.name for p in field.spec] == ["K: K/(K_ + K)", "K_"]


def test_switches_have_a_scale_and_a_level():
    none = (0, 0)
    on = Term((0, 1), "bend", none, Bend("on", 0, 1, 0.5, 2.0))
    off = Term(none, "bend", none, Bend("off", 1, 1, 0.5, -1.0))
    field = sparse_field([[on], [off]], [[3.0], [2.0]], 0, ["V", "w"])
    assert [p.name for p in field.spec] == ["V: w*sigmoid(V/K - c1)", "w: sigmoid(c2 - w/K)", "K", "c1", "c2"]
    assert [p.constraint for p in field.spec][-3:] == [("positive",), ("free",), ("free",)]
    V, w = np.array([0.8, 0.4])
    theta = np.array([3.0, 2.0, 0.6, 1.5, -0.5])
    found = field(0.0, np.array([V, w]), theta)
    np.testing.assert_allclose(found, [3 * w / (1 + np.exp(1.5 - V / 0.6)), 2 / (1 + np.exp(0.5 + w / 0.6))], rtol=1e-13)
    assert pn.check_grad(field, np.array([V, w]), np.linspace(0, 1, 4), theta, np.zeros((4, 2)))
    far = field(0.0, np.array([-4000.0, 4000.0]), theta)  # nothing overflows where a switch is shut
    assert np.isfinite(far).all() and np.isfinite(pn.jacobian(field)(0.0, np.array([-4000.0, 4000.0]), theta)).all()


def test_equations_that_lose_trajectories_come_after_those_that_follow_all():
    """What is left out is explained by what was there before, so that the evidence is too high."""

    def candidate(whole, lost, evidence):
        return Candidate([], [], SimpleNamespace(failed=np.array([False, lost]), evidence=evidence), whole, 0.0)

    best, other = candidate(True, False, 10.0), candidate(True, False, 9.0)
    loses, windows = candidate(True, True, 99.0), candidate(False, False, 99.0)
    assert likeliest_first([windows, loses, other, best]) == [best, other, loses, windows]
