"""pn.export.sympy: expressions with the values of the field."""

import numpy as np
import pytest

import pynode as pn
from pynode.export.symbolic import _functions
from pynode.programs.formula import CALLS

sp = pytest.importorskip("sympy")


def smooth(t, y, th):
    a = np.stack([np.exp(-(y[0] ** 2)), np.expm1(y[1]), np.sqrt(1.5 + np.sin(y[2])), np.log(2.0 + y[3] ** 2)])
    b = np.stack([np.log1p(y[0] ** 2), np.cos(th.k * t), np.tanh(y[1]), pn.sigmoid(y[2])])
    c = np.stack([pn.softplus(y[3]), pn.erf(y[0]), np.arctan(y[1]), (1.0 + y[2] ** 2) ** th.k])
    return (a - b / (1.0 + y**2) + c * th.k) * np.mean(y) - np.reciprocal(2.0 + y**2)


def broken(t, y, th):
    a = np.maximum(y[0], y[1]) - np.minimum(y[2], y[3])
    b = np.where(y[0] < y[1], np.abs(y[2]), np.sign(y[3])) + np.where(y[0] <= y[3], 1.0, th.k) * (y[0] == y[1])
    return np.concatenate([np.stack([a, b]), pn.relu(y[1:3] - 0.1)])


FIELDS = {f.__name__: pn.field(state=4, theta={"k": 0.7})(f) for f in (smooth, broken)}


@pytest.mark.parametrize("name", ["smooth", "broken"])
def test_values_are_those_of_the_field(name):
    f = FIELDS[name]
    found = pn.export.sympy(f, [0.7])
    value = sp.lambdify(sp.symbols("t y1 y2 y3 y4", real=True), found, ["scipy", "numpy"])
    for y in np.random.default_rng(0).normal(size=(10, 4)):
        np.testing.assert_allclose(np.array(value(0.3, *y), float), f(0.3, y, [0.7]), rtol=1e-12, atol=1e-12)


def test_every_function_of_formulas_is_known():
    assert set(_functions(sp)) == set(CALLS.values())


def test_an_equation_that_was_found():
    t = np.linspace(0, 15, 200)
    truth = pn.solve(pn.field(state=2)(lambda t, y: [y[1], -2.0 * np.sin(y[0]) - 0.2 * y[1]]), [2.5, 0.0], t).y
    rng = np.random.default_rng(0)
    model = pn.NeuralODE(random_state=0).fit(t, truth + 0.01 * rng.standard_normal(truth.shape), names=["angle", "rate"])
    angle, rate = sp.symbols("angle rate", real=True)
    first, second = pn.export.sympy(model)
    assert first == rate
    assert float(sp.diff(second, rate)) == pytest.approx(-0.2, abs=0.01)
    assert float(sp.diff(second, angle).subs(angle, 0)) == pytest.approx(-2.0, abs=0.02)
    assert sp.latex(first) == r"rate"


def test_refusals():
    f = FIELDS["smooth"]
    with pytest.raises(ValueError, match="theta is missing"):
        pn.export.sympy(f)
    with pytest.raises(ValueError, match="theta has shape"):
        pn.export.sympy(f, [1.0, 2.0])
    with pytest.raises(ValueError, match="cannot be written as an expression"):
        pn.export.sympy(pn.mlp(3, (40,)), pn.mlp(3, (40,)).init(0))
    with pytest.raises(ValueError, match="calls Python"):
        pn.export.sympy(pn.callback_field(lambda t, y, th: -y, d=1))
    with pytest.raises(TypeError, match="neither a Field"):
        pn.export.sympy(3.0)
