"""Every operation of the core in exported C: the same numbers, and no warning of two compilers."""

import numpy as np
import pytest
from exported_c import COMPILERS, compiled

import pynode as pn
from pynode.export.operations import OPERATIONS
from pynode.fields.implicit import jacobian_field
from pynode.programs.program import OPS


def test_every_operation_has_a_row():
    assert set(OPERATIONS) == set(OPS), f"no C for {sorted(set(OPS) - set(OPERATIONS))}, or a row too many"


@pn.field(state=3, inputs=2, theta={"k": 0.7, "W": np.arange(9.0).reshape(3, 3) / 9, "net": pn.mlp(3, (4, 4), 3)})
def functions(t, y, th, u):
    a = np.exp(-(y**2)) + np.expm1(0.1 * y) + np.log(2 + y**2) + np.log1p(y**2) + np.sin(y) * np.cos(th.k * t)
    b = np.tanh(y) + pn.sigmoid(y) + pn.softplus(y) + pn.relu(y) + pn.erf(y) + np.arctan(y) + np.sqrt(1 + y * y)
    c = (
        np.reciprocal(3 + y**2)
        + np.abs(y)
        + np.sign(y)
        + 1 / (2 + y**2)
        + (1.5 + y**2) ** th.k
        + np.maximum(y, u[0])
        + np.minimum(y, th.k)
    )
    d = np.where(y > 0.1, y, -y) + (y <= 0.2) * 2.0 + (y == y) * 0.5
    return a + 0.1 * b - c / 3 + d * u[1] + th.net(y) + th.W @ y[::-1] + np.sum(y) * y[[2, 0, 0]]


@pn.field(state=4, theta={"W": (2, 2), "b": np.ones(2)})
def shapes(t, y, th):
    A = y.reshape(2, 2)
    z = (A @ th.W) @ th.b + np.tanh(th.b * t) + th.W.T @ y[1:3] + np.outer(y[:2], y[2:]) @ y[::3]
    return np.concatenate([z, z[::-1]])


CASES = {
    "functions": (functions, [0.3, -0.7, 1.1], [0.2, -0.4]),
    "shapes": (shapes, [0.3, -0.7, 1.1, 0.05], []),
    "mlp": (pn.mlp(2, (8,), skip=True), [0.3, -0.4], []),
    "relu": (pn.mlp(2, (5,), activation="relu"), [0.3, -0.4], []),
    "sigmoid": (pn.mlp(1, (5,), activation="sigmoid"), [0.3], []),
    "gru": (pn.gru_cell(3, 2), [0.1, 0.2, -0.3], [0.5, -1.0]),
}


def programs(f):
    """All programs of a field that are exported."""
    return f.program, f.vjp_program, jacobian_field(f, f.inputs > 0).field.program


def test_the_cases_have_every_operation():
    seen = {x.op for f, *_ in CASES.values() for program in programs(f) for x in program.instructions}
    assert seen >= set(OPS) - {"CALL"}, sorted(set(OPS) - {"CALL"} - seen)


@pytest.mark.parametrize("parameters", ["baked", "argument"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_products(exported, name, parameters):
    f, y, u = CASES[name]
    theta = f.init(3)
    made = exported(f, theta, vjp=True, parameters=parameters)
    given = np.array(u) if u else None
    assert np.allclose(made.value(0.4, y, u), f(0.4, y, theta, given), rtol=1e-13, atol=1e-14)
    s = np.cos(np.arange(f.d) + 1.0)
    g_y, g_t, g_u, g_theta = made.pull(0.4, y, s, u)
    slots = [np.array([[0.4]]), np.array([y]), np.array(u).reshape(1, -1), s[None]]
    outputs, grads = f.vjp_program.evaluate(slots, [theta])
    for got, expected in zip((g_y, g_t, g_u), outputs[1:], strict=True):
        assert np.allclose(got, 0 if expected is None else expected[0], rtol=1e-12, atol=1e-13)
    assert np.allclose(g_theta, grads[0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("precision", ["double", "float"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("name", CASES)
def test_no_warnings(tmp_path, name, compiler, precision):
    if compiler not in COMPILERS:
        pytest.skip(f"{compiler} is not installed")
    f, *_ = CASES[name]
    method = "rodas5p" if name == "functions" else "dop853"
    files = pn.export.c(f, f.init(0), tmp_path / "model.c", method=method, precision=precision, vjp=True)
    compiled(files.source, compiler)


def test_no_numbers(exported):
    """NaN and infinity go through as in the core."""
    f = pn.mlp(2, (3,), activation="relu")
    theta = f.init(0)
    made = exported(f, theta)
    for y in ([np.nan, 1.0], [np.inf, 1.0]):
        assert np.array_equal(np.isnan(made.value(0, y)), np.isnan(f(0.0, y, theta)))
