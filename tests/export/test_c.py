"""pn.export.c: files that strict compilers take, with the numbers of the library."""

import ctypes
import subprocess

import numpy as np
import pytest
from compiled import COMPILERS, STRICT, Compiled, needs_compiler

import pynode as pn
from pynode.export.operations import ELEMENTWISE, OTHERS, REFUSED, VIEWS
from pynode.programs.program import OPS

pytestmark = needs_compiler

RNG = np.random.default_rng(0)
EXPLICIT = [name for name, row in pn.METHODS.items() if row["gamma"] == 0]


def smooth(t, y, th):
    a = np.stack([np.exp(-(y[0] ** 2)), np.expm1(y[1]), np.sqrt(1.5 + np.sin(y[2])), np.log(2.0 + y[3] ** 2)])
    b = np.stack([np.log1p(y[0] ** 2), np.cos(th.k * t), np.tanh(y[1]), pn.sigmoid(y[2])])
    c = np.stack([pn.softplus(y[3]), pn.erf(y[0]), np.arctan(y[1]), (1.0 + y[2] ** 2) ** th.k])
    return (a - b / (1.0 + y**2) + c * th.k) * np.mean(y) - np.reciprocal(2.0 + y**2)


def broken(t, y, th):
    a = np.maximum(y[0], y[1]) - np.minimum(y[2], y[3])
    b = np.where(y[0] < y[1], np.abs(y[2]), np.sign(y[3])) + np.where(y[0] <= y[3], 1.0, th.k) * (y[0] == y[1])
    return np.concatenate([np.stack([a, b]), pn.relu(y[1:3] - 0.1)])


def matrices(t, y, th):
    rate = (y[:2, None] * th.A) @ y[2:]
    turned = th.A.T @ y[:2] + np.outer(y[:2], y[2:]).sum(axis=0)
    return np.concatenate([rate, turned * y[[3, 0]]]) + th.net(y) - y[::-1]


FIELDS = {
    "smooth": pn.field(state=4, theta={"k": 0.7})(smooth),
    "broken": pn.field(state=4, theta={"k": 0.7})(broken),
    "matrices": pn.field(state=4, theta={"A": np.array([[0.2, -0.5], [0.9, 0.3]]), "net": pn.mlp(4, (5,))})(matrices),
    "gradient": pn.grad(pn.field(state=4, out=1, theta={"net": pn.mlp(4, (5,), 1)})(lambda t, y, th: th.net(y))),
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    made = {}

    def make(name, precision="double", compiler=COMPILERS[0]):
        key = name, precision, compiler
        if key not in made:
            field = FIELDS[name]
            folder = tmp_path_factory.mktemp("c")
            made[key] = Compiled(folder, field, field.init(0), compiler, precision=precision, vjp=True)
        return made[key]

    return make


def test_every_operation_has_one_row_and_is_tried():
    """An operation that is added to the core is added to the exporter too, and to a field here."""
    assert {*ELEMENTWISE, *OTHERS, *VIEWS, *REFUSED} == set(OPS)
    assert not set(ELEMENTWISE) & set(OTHERS)
    tried = {ins.op for f in FIELDS.values() for p in (f.program, f.vjp_program) for ins in p.instructions}
    assert set(OPS) - tried - set(REFUSED) == set(), "no field above has them"


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("precision", ["double", "float"])
@pytest.mark.parametrize("name", list(FIELDS))
def test_values_and_derivatives_are_those_of_the_library(compiled, name, precision, compiler):
    it = compiled(name, precision, compiler)
    f = it.field
    theta = f.init(0)
    close = 1e-13 if precision == "double" else 2e-5
    for _ in range(10):
        y, seed = RNG.normal(size=(2, f.d))
        y, seed = (v.astype(it.real).astype(float) for v in (y, seed))
        np.testing.assert_allclose(it.field_at(0.3, y), f(0.3, y, theta), rtol=close, atol=close)
        g_y, _, g_theta = it.vjp(0.3, y, seed)
        outputs, grads = f.vjp_program.evaluate([np.array([[0.3]]), y[None], np.zeros((1, 0)), seed[None]], [theta])
        np.testing.assert_allclose(g_y, outputs[1][0], rtol=close, atol=close)
        if len(grads):
            np.testing.assert_allclose(g_theta, grads[0], rtol=close, atol=10 * close)


def test_parameters_of_a_call_take_the_place_of_those_of_the_file(compiled):
    it = compiled("matrices")
    theta = it.field.init(1)
    y = RNG.normal(size=4)
    np.testing.assert_allclose(it.field_at(0.0, y, theta=theta), it.field(0.0, y, theta), rtol=1e-13)
    _, found = it.solve(y, [0.0, 0.5], theta)
    np.testing.assert_allclose(found, pn.solve(it.field, y, [0.0, 0.5], theta).y, rtol=1e-12)


def forced(t, y, th, u):
    return [y[2], y[3], -th.k * np.sin(y[0]) + u[0] * np.cos(t), -(y[1] ** 3) - 0.1 * y[3] + y[0]]


FORCED = pn.field(state=4, inputs=1, theta={"k": 1.0})(forced)
KNOTS = np.array([0.0, 1.3, 2.9, 6.0])
VALUES = np.array([[0.0], [1.0], [-1.0], [0.5]])
T = np.linspace(0.0, 5.0, 23)
Y0 = np.array([0.5, -0.2, 0.1, 0.8])


@pytest.mark.parametrize("method", EXPLICIT)
def test_the_steps_are_those_of_the_library(tmp_path, method):
    """Adaptive forward and backward, and fixed: the same numbers at all save times, with a kink in the input."""
    signal = pn.Signal(KNOTS, VALUES)
    it = Compiled(tmp_path, FORCED, [1.0], method=method, inputs=signal)
    cases = [(T, {"step": 0.07})]
    if pn.METHODS[method]["error_order"]:
        cases += [
            (T, {}),
            (T[::-1], {}),
            (T, {"rtol": 1e-8, "atol": 1e-10, "max_steps": 1_000_000}),
            (T, {"first_step": 0.01, "max_step": 0.1}),
        ]
    for t, options in cases:
        status, y = it.solve(Y0, t, **options)
        assert status == 0
        expected = pn.solve(FORCED, Y0, t, [1.0], method=method, inputs=signal, **options).y
        np.testing.assert_allclose(y, expected, rtol=0, atol=2e-12)


@pytest.mark.parametrize("kind", ["previous", "linear", "cubic"])
def test_kinds_of_inputs(tmp_path, kind):
    signal = pn.Signal(KNOTS, VALUES, kind)
    it = Compiled(tmp_path, FORCED, [1.0], inputs=signal)
    expected = pn.solve(FORCED, Y0, T, [1.0], inputs=signal).y
    np.testing.assert_allclose(it.solve(Y0, T)[1], expected, rtol=0, atol=1e-12)
    pieces = signal.pieces(1, np.float64, np.array([[0.0, 5.0]]))
    other = Compiled(tmp_path, FORCED, [1.0])
    assert other.solve(Y0, T)[0] == 4  # no inputs
    np.testing.assert_allclose(other.solve(Y0, T, signal=(pieces.knots(0), pieces.coef))[1], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind, degree", [("previous", 0), ("linear", 1)])
def test_signals_are_made_from_values_in_c(tmp_path, kind, degree):
    it = Compiled(tmp_path, FORCED, [1.0])
    coef = np.zeros((3, degree + 1, 1))
    if kind == "previous":
        it.it.it_previous(ctypes.c_size_t(4), it.pointer(VALUES), it.pointer(coef))
    else:
        it.it.it_linear(ctypes.c_size_t(4), it.pointer(KNOTS), it.pointer(VALUES), it.pointer(coef))
    expected = pn.solve(FORCED, Y0, T, [1.0], inputs=pn.Signal(KNOTS, VALUES, kind)).y
    np.testing.assert_allclose(it.solve(Y0, T, signal=(KNOTS, coef))[1], expected, rtol=0, atol=1e-12)


def test_one_step(tmp_path):
    f = FIELDS["smooth"]
    it = Compiled(tmp_path, f, f.init(0), method="rk4")
    expected = pn.solve(f, Y0, [0.2, 0.3], f.init(0), method="rk4", step=0.1).y[-1]
    np.testing.assert_allclose(it.step(0.2, 0.3 - 0.2, Y0), expected, rtol=1e-13)


@pytest.mark.filterwarnings("ignore::pynode.training.curriculum.FitWarning")  # five iterations are few
@pytest.mark.parametrize("precision, close", [("double", 1e-11), ("float", 2e-3)])
def test_models_in_the_units_of_their_data(tmp_path, precision, close):
    t = np.linspace(0.0, 10.0, 60)
    u = np.sin(t)[:, None]
    truth = pn.solve(FORCED, Y0, t, [1.0], inputs=pn.Signal(t, u)).y * [10.0, 0.1, 5.0, 1.0] + [3.0, 0.0, 0.0, -1.0]
    model = pn.NeuralODE(hidden=(6,), max_iter=5, input_kind="linear", random_state=0).fit(t, truth, u=u)
    signal = pn.Signal(t, u)
    it = Compiled(tmp_path, model, precision=precision, inputs=signal, vjp=True)
    status, y = it.solve(truth[0], t)
    assert status == 0
    np.testing.assert_allclose(y, model.predict(t, truth[0], u=u), rtol=close, atol=close * 10)
    if precision == "double":
        slope = it.field_at(0.7, truth[3], [0.4])
        np.testing.assert_allclose(slope, model.derivative(0.7, truth[3], [0.4]), rtol=1e-12)
        seed = np.array([0.3, -1.0, 0.2, 0.9])
        g_y, g_u, _ = it.vjp(0.7, truth[3], seed, [0.4])
        for j in range(4):
            h = 1e-6 * np.eye(4)[j] * model.scaling_.scale[j]
            high, low = (seed @ it.field_at(0.7, truth[3] + s * h, [0.4]) for s in (1, -1))
            assert g_y[j] == pytest.approx((high - low) / (2 * h[j]), rel=1e-6)
        high, low = (seed @ it.field_at(0.7, truth[3], [0.4 + s]) for s in (1e-6, -1e-6))
        assert g_u[0] == pytest.approx((high - low) / 2e-6, rel=1e-6)


@pytest.mark.filterwarnings("ignore::pynode.training.curriculum.FitWarning")
def test_logarithms(tmp_path):
    t = np.linspace(0.0, 5.0, 40)
    y = np.exp(np.stack([np.sin(t), np.cos(t)], axis=1))
    model = pn.NeuralODE(hidden=(6,), log=True, max_iter=5, random_state=0).fit(t, y)
    it = Compiled(tmp_path, model)
    np.testing.assert_allclose(it.solve(y[0], t)[1], model.predict(t, y[0]), rtol=1e-11)
    with pytest.raises(ValueError, match="vjp=True: the model learns logarithms"):
        pn.export.c(model, path=tmp_path / "m.c", vjp=True)


def test_what_cannot_be_solved_says_so(tmp_path):
    f = pn.field(state=1, theta={"k": 1.0})(lambda t, y, th: th.k * y**2)
    it = Compiled(tmp_path, f, [1.0])
    ok, max_steps, small, non_finite, bad = range(5)
    status, y = it.solve([1.0], [0.0, 0.5, 2.0])
    assert status in (small, non_finite) and np.isnan(y[2]).all()
    np.testing.assert_allclose(y[1], 2.0, rtol=1e-5)
    assert it.solve([1.0], [0.0, 0.5], max_steps=2)[0] == max_steps
    assert it.solve([1.0], [0.0, 2.0], step=0.1)[0] in (ok, non_finite)
    assert it.solve([1e200], [0.0, 2.0], step=0.1)[0] == non_finite
    for y0, t, options in [
        ([np.nan], [0.0, 1.0], {}),
        ([1.0], [0.0, np.nan], {}),
        ([1.0], [0.0, np.inf], {}),
        ([1.0], [0.0, 1.0, 0.5, 2.0], {}),
        ([1.0], [0.0, 1.0, 0.0], {}),
        ([1.0], [], {}),
        ([1.0], [0.0, 1.0], {"step": -0.1}),
        ([1.0], [0.0, 1.0], {"rtol": np.nan}),
        ([1.0], [0.0, 1.0], {"rtol": 0.0, "atol": 0.0}),
        ([1.0], [0.0, 1.0], {"max_steps": 0}),
    ]:
        status, y = it.solve(y0, t, **options)
        assert status == bad, (y0, t, options)
        assert np.isnan(y).all()
    status, y = it.solve([1.0], [0.5, 0.5])
    assert status == ok and (y == 1.0).all()


def test_refusals(tmp_path):
    def write(what, theta=None, **options):
        return pn.export.c(what, theta, tmp_path / "f.c", **options)

    f = FIELDS["smooth"]
    theta = f.init(0)
    for match, call in {
        "theta is missing": lambda: write(f),
        "theta has shape": lambda: write(f, [1.0, 2.0]),
        "not finite": lambda: write(f, [np.nan]),
        "solves linear systems": lambda: write(f, theta, method="rodas5p"),
        "is not one of": lambda: write(f, theta, method="magic"),
        "must end in .c": lambda: pn.export.c(f, theta, tmp_path / "f.txt"),
        "is no name in C": lambda: write(f, theta, name="while"),
        "neither 'double' nor 'float'": lambda: write(f, theta, precision="half"),
        "changes its form at fixed times": lambda: write(pn.field(state=1)(lambda t, y: np.where(t < 1.0, -y, y)), None),
        "calls Python": lambda: write(pn.callback_field(lambda t, y, th: -y, d=1), None),
        "features": lambda: write(FORCED, [1.0], inputs=pn.Signal(None, [1.0, 2.0], "constant")),
        "too large for precision": lambda: write(f, [1e300], precision="float"),
        "tolerances must be": lambda: write(f, theta, rtol=-1.0),
    }.items():
        with pytest.raises(ValueError, match=match):
            call()
    with pytest.raises(TypeError, match="neither a Field nor a fitted NeuralODE"):
        write(3.0)


def test_two_files_in_one_program_and_cpp(tmp_path):
    """Names do not clash, and C++ takes the headers."""
    for name in ("first", "second"):
        pn.export.c(FIELDS["smooth"], [0.7], tmp_path / f"{name}.c", vjp=name == "first")
        subprocess.run([COMPILERS[0], *STRICT, "-c", f"{name}.c"], cwd=tmp_path, check=True)
    main = """
#include "first.h"
#include "second.h"
#include <cstdio>
int main() {
    const double y0[FIRST_STATES] = {0.5, -0.2, 0.1, 0.8}, t[2] = {0.0, 1.0};
    double a[2 * FIRST_STATES], b[2 * SECOND_STATES];
    int bad = first_solve(y0, 2, t, nullptr, nullptr, nullptr, a) || second_solve(y0, 2, t, nullptr, nullptr, nullptr, b);
    std::printf("%d %.17g %.17g\\n", bad, a[4], b[4]);
}
"""
    (tmp_path / "main.cpp").write_text(main)
    subprocess.run([f"{COMPILERS[0]}", "-x", "c++", "-Wall", "-Werror", "-c", "main.cpp"], cwd=tmp_path, check=True)
    linker = ["g++" if COMPILERS[0] == "gcc" else "clang++", "main.o", "first.o", "second.o", "-lm", "-o", "main"]
    subprocess.run(linker, cwd=tmp_path, check=True)
    bad, a, b = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout.split()
    assert bad == "0" and a == b
    assert float(a) == pytest.approx(pn.solve(FIELDS["smooth"], Y0, [0.0, 1.0], [0.7]).y[-1, 0], rel=1e-12)


def test_memory_is_kept_small():
    """Places of numbers that nobody reads any more are used again."""
    from pynode.export.operations import Emitter

    deep = pn.mlp(2, (30,) * 6)
    emitter = Emitter(deep.program, ("time", "y", "u"), "")
    emitter.run()
    assert emitter.size <= 92
