"""Terms that bend: their functions, their scales as parameters, and the search for them."""

import numpy as np
import pytest

import pynode as pn
from pynode.training.equations.bends import Bend
from pynode.training.equations.terms import Term, evaluate, sparse_field

BENDS = [
    Bend("up", 0, 1, 0.7),
    Bend("up", 0, 3, 1.2),
    Bend("down", 0, 1, 0.5),
    Bend("down", 0, 4, 0.9),
    Bend("decay", 0, 1, 0.6),
]


def expected(bend, x, K):
    n = bend.n
    return {"up": x**n / (K**n + x**n), "down": 1 / (1 + (x / K) ** n), "decay": np.exp(-x / K)}[bend.kind]


@pytest.mark.parametrize("bend", BENDS)
def test_values_and_slopes(bend):
    x = np.linspace(0, 3, 7)
    np.testing.assert_allclose(bend.value(x), expected(bend, x, bend.scale), rtol=1e-14)
    h = 1e-6
    slope = (expected(bend, x, bend.scale * np.exp(h)) - expected(bend, x, bend.scale * np.exp(-h))) / (2 * h)
    np.testing.assert_allclose(bend.slope(x), slope, atol=1e-9)


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
