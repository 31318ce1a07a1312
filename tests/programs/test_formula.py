"""Programs as formulas, checked by evaluating the text."""

import re

import numpy as np
import pytest

import pynode as pn
from pynode.programs.formula import NotReadable, as_latex, as_text, formulas, latex_name

FUNCTIONS = {name: getattr(np, name) for name in ("sin", "cos", "exp", "log", "sqrt", "tanh", "abs", "where", "less")}


@pn.field(state=2, theta={"b": 0.5, "K": 2.0, "M": np.array([[1.0, 2.0], [0.0, -1.0]])}, inputs=1)
def rich(t, y, th, u):
    S, I = y
    turn = th.M @ y
    return [
        -th.b * S * I / (th.K + S**1.5) + u[0] * turn[0] - np.sum(y) ** 2,
        np.where(S < 1.0, np.exp(-I / th.K), np.sqrt(S)) - 0.2 * (I + np.sin(t)) / (S - 3) ** 2 + turn[1] ** th.b,
    ]


def test_text_has_the_values_of_the_program():
    theta = rich.init(0)
    found = formulas(rich.program, [["t"], ["S", "I"], ["u"]], theta.tolist())
    for S, I, u, t in ((0.4, -1.3, 0.7, 2.0), (1.7, -0.2, -1.1, 0.3)):
        values = FUNCTIONS | {"S": S, "I": I, "u": u, "t": t}
        texts = [eval(as_text(f, 17).replace("^", "**"), {"__builtins__": {}}, values) for f in found]
        np.testing.assert_allclose(texts, rich(t, [S, I], theta, [u]), rtol=1e-12)


def test_what_is_written():
    @pn.field(state=2, theta={"a": 1.84, "b": -1.45})
    def lotka(t, y, th):
        return [y[0] * (th.a + th.b * y[1]), -1.0 * y[1] + 0.0 * y[0] + y[0] * y[1] + 2 * y[0] * y[1] - y[1] / y[0]]

    found = formulas(lotka.program, [["t"], ["prey", "y2"], []], lotka.init(0).tolist())
    assert [as_text(f) for f in found] == ["prey*(1.84 - 1.45*y2)", "-y2 + 3*prey*y2 - y2/prey"]
    assert as_latex(found[1]) == r"-y_{2} + 3 \mathrm{prey} y_{2} - \frac{y_{2}}{\mathrm{prey}}"


def test_names_in_latex():
    assert [latex_name(x) for x in ("x", "y12", "a_b", "k_1")] == ["x", "y_{12}", r"\mathrm{a\_b}", "k_{1}"]


def test_programs_that_nobody_could_read():
    net = pn.mlp(2, (32,))
    with pytest.raises(NotReadable, match="a matrix of 64 numbers"):
        formulas(net.program, [["t"], ["a", "b"], []], net.init(0).tolist())

    @pn.field(state=1)
    def grows(t, y):
        for _ in range(40):
            y = np.sin(y) * y + np.cos(y)
        return y

    with pytest.raises(NotReadable, match="too long"):
        formulas(grows.program, [["t"], ["y"], []], [])


def test_every_elementwise_operation_is_written_or_refused():
    from pynode.programs.formula import CALLS, ELEMENTWISE
    from pynode.programs.program import SAME

    derivatives = {name for name in SAME if re.fullmatch("D(TANH|SIGMOID|MUL|DIV)", name)}
    assert set(SAME) - derivatives == set(CALLS) | set(ELEMENTWISE)
