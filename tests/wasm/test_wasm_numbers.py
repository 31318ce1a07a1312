"""The core as WebAssembly gives the numbers of the native core: to 1e-12, with the same steps."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import pynode as pn
from pynode.programs.program import OPS

T = np.linspace(0.0, 2.0, 9)


def lotka():
    @pn.field(state=["prey", "hunters"], theta={"a": 1.1, "b": 0.4, "c": 0.4, "d": 0.1})
    def lotka(t, y, th):
        return [th.a * y[0] - th.b * y[0] * y[1], -th.c * y[1] + th.d * y[0] * y[1]]

    return lotka


def switched():
    @pn.field(state=2, theta={"k": 2.0})
    def switched(t, y, th):
        return [y[1] + np.where(t < 0.7, 1.0, 0.0), -th.k * np.sin(y[0]) * np.exp(-t)]

    return switched


def driven():
    @pn.field(state=2, theta={"k": 2.0}, inputs=1)
    def driven(t, y, th, u):
        return [y[1], -th.k * y[0] + u[0]]

    return driven


def everything():
    """Nearly every operation."""

    @pn.field(state=3, theta={"A": np.arange(9.0).reshape(3, 3) / 9, "k": 0.5})
    def everything(t, y, th):
        x = np.abs(y) + 0.5
        z = np.outer(y, th.A[0])
        s = np.tanh(x) + np.log(x) + np.log1p(x) + np.sqrt(x) + 1 / x + np.arctan(x) + np.cos(x)
        s = s + np.expm1(-x) + np.maximum(x, th.k) - np.minimum(x, y) + x**th.k + np.sign(y) + np.where(y > th.k, x, -y)
        s = s + np.concatenate([y[1:], y[:1]]) + y[::-1] + (z @ y) + (z.T @ y) + np.maximum(y, 0.0) + np.sum(y**2)
        return np.sin(th.A @ s) / 8 - y

    return everything


def close(got, want):
    got = np.asarray(got, dtype=float).ravel()
    want = np.asarray(want, dtype=float).ravel()
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12 * max(1.0, np.abs(want).max()))


CASES = {
    "mlp": (pn.mlp(2, (16, 16)), {}),
    "lotka": (lotka(), {"method": "tsit5", "rtol": 1e-8}),
    "lotka rk4": (lotka(), {"method": "rk4", "step": 0.05}),
    "lotka dop853": (lotka(), {"method": "dop853", "save": "land"}),
    "lotka rodas5p": (lotka(), {"method": "rodas5p"}),
    "lotka auto": (lotka(), {"method": "auto"}),
    "switched": (switched(), {"rtol": 1e-7, "atol": 1e-9}),
    # it jumps in the state: with steps that are chosen, rounding would decide (docs/core.md, "Chunks, tasks, threads")
    "everything": (everything(), {"method": "rk4", "step": 0.05}),
}


@pytest.fixture(params=list(CASES))
def case(request):
    f, options = CASES[request.param]
    rng = np.random.default_rng(0)
    y0 = 1.0 + 0.3 * rng.standard_normal((5, f.d))
    return f, y0, f.init(0), options


def call(name, f, y0, theta, options, **more):
    options = {"errors": "ignore", **options}
    return {
        "call": name,
        "field": f.to_json(),
        "breaks": f.program.breaks.tolist(),
        "y0": y0.tolist(),
        "t": T.tolist(),
        "theta": theta.tolist(),
        "options": options,
        **more,
    }


def test_solutions_gradients_and_sensitivities(run, case):
    f, y0, theta, options = case
    target = np.full((len(y0), len(T), f.d), 0.5)
    target[1, 2, 0] = np.nan
    sent = [["nan" if np.isnan(x) else x for x in row] for row in target.reshape(-1, f.d)]
    calls = [
        call("solve", f, y0, theta, options),
        call("solve", f, y0[0], theta, options),
        call("lossAndGrad", f, y0, theta, options, target=sent),
        call("sensitivities", f, y0, theta, options),
    ]
    many, one, loss, sens = run(calls)["answers"]
    want = pn.solve(f, y0, T, theta, **options)
    close(many["y"], want.y)
    assert many["nfe"] == want.stats.nfe.tolist()
    close(one["y"], pn.solve(f, y0[0], T, theta, **options).y)
    want = pn.loss_and_grad(f, y0, T, theta, target, wrt=("theta", "y0"), **options)
    close(loss["loss"], want.loss)
    close(loss["grad"], want.theta)
    close(loss["gradY0"], want.y0)
    want = pn.sensitivities(f, y0, T, theta, **options)
    close(sens["theta"], want.theta)
    close(sens["y0"], want.y0)


@pytest.mark.parametrize("kind", ["constant", "previous", "linear"])
def test_inputs(run, kind):
    f = driven()
    knots = np.array([0.0, 0.5, 1.2, 2.0])
    u = np.array([[0.0], [1.0], [-1.0], [0.5]])
    signal = pn.Signal(None, [0.7], "constant") if kind == "constant" else pn.Signal(knots, u, kind)
    sent = {"kind": kind, "t": knots.tolist(), "u": [0.7] if kind == "constant" else u.tolist()}
    y0 = np.array([[1.0, 0.0], [0.0, 1.0]])
    theta = np.array([2.0])
    (got,) = run([call("solve", f, y0, theta, {"inputs": sent})])["answers"]
    close(got["y"], pn.solve(f, y0, T, theta, inputs=signal).y)


def test_mlp_is_that_of_python(run):
    f = pn.mlp(2, (5, 4), 3, "silu", time=True, inputs=1)
    theta = f.init(0)
    calls = [
        {
            "call": "evaluate",
            "mlp": [2, [5, 4], 3, "silu", {"time": True, "inputs": 1}],
            "t": 0.3,
            "y0": [1.0, -2.0],
            "u": [0.5],
            "theta": theta.tolist(),
        }
    ]
    close(run(calls)["answers"][0], f(0.3, [1.0, -2.0], theta, [0.5]))


def test_optimisers_find_the_parameters(run):
    f = lotka()
    y0 = np.array([2.0, 1.0])
    theta = np.array([1.1, 0.4, 0.4, 0.1])
    data = pn.solve(f, y0, T, theta).y.tolist()
    calls = [
        call("levenbergMarquardt", f, y0, theta + 0.05, {}, target=data),
        call("adam", f, y0, theta + 0.05, {}, target=data, fit={"maxIter": 300}),
    ]
    newton, adam = run(calls)["answers"]
    np.testing.assert_allclose(newton["theta"], theta, rtol=1e-6)
    assert adam["loss"] < 1e-4 < adam["losses"][0]


def test_an_event_ends_a_solve_where_it_happens(run):
    @pn.field(state=["height", "speed"], theta={"g": 9.81})
    def ball(t, y, th):
        return [y[1], -th.g]

    (got,) = run([call("bounces", ball, np.array([1.0, 0.0]), np.array([9.81]), {"rtol": 1e-9}, bounces=3)])["answers"]
    first = np.sqrt(2 / 9.81)  # then 0.8 of the speed: times between bounces fall by 0.8
    np.testing.assert_allclose(got, first * np.cumsum([1, 2 * 0.8, 2 * 0.8**2]), rtol=1e-9)


@pytest.mark.parametrize("loss", ["mse", "sse", "mae", "huber", "student"])
def test_losses_weights_times_and_thetas_of_samples(run, loss):
    f = lotka()
    rng = np.random.default_rng(1)
    y0 = 1.0 + rng.random((3, 2))
    thetas = f.init(0) * (1.0 + 0.1 * rng.random((3, 4)))
    target = rng.random((3, len(T), 2))
    weight = rng.random((3, len(T), 2))
    more = {"loss": loss, "weight": weight.tolist(), "lossScale": 0.5, "lossDof": 3.0}
    sent = {"target": target.tolist()}
    calls = [
        call("lossAndGrad", f, y0, f.init(0), more | {"wrt": ["theta", "t"]}, **sent),
        call("lossAndGrad", f, y0, thetas, more, **sent),
    ]
    one, each = run(calls)["answers"]
    options = {"loss": loss, "weight": weight, "loss_scale": 0.5, "loss_dof": 3.0}
    want = pn.loss_and_grad(f, y0, T, f.init(0), target, wrt=("theta", "t"), **options)
    close(one["loss"], want.loss)
    close(np.reshape(one["gradT"], (3, -1)).sum(axis=0), want.t)
    want = pn.loss_and_grad(f, y0, T, thetas, target, **options)
    close(each["grad"], want.theta)


def test_a_field_written_in_javascript(run):
    @pn.field(state=2, theta={"k": 2.0, "a": [0.1, 0.2]})
    def same(t, y, th):
        return [y[1], th.a @ y - th.k * np.sin(y[0])]

    y0 = np.array([1.0, 0.0])
    target = np.zeros((len(T), 2))
    (got,) = run([call("written", same, y0, same.init(), {}, target=target.tolist())])["answers"]
    want = pn.loss_and_grad(same, y0, T, same.init(), target)
    close(got["loss"], want.loss)
    close(got["grad"], want.theta)


def test_vectors_are_found(run):
    assert run([call("simd", lotka(), np.ones(2), np.ones(4), {})])["answers"] == [True]


def test_what_is_wrong_is_said(run):
    f = lotka()
    y0 = np.array([2.0, 1.0])
    theta = np.ones(4)
    broken = json.loads(f.to_json())
    broken["program"]["sizes"][-1] = 7
    calls = [
        call("solve", f, y0, theta[:2], {}),
        call("solve", f, y0, theta, {"method": "runge"}),
        call("solve", f, y0, theta, {"rtol": -1}),
        call("solve", f, y0, theta, {"maxSteps": 2, "errors": "raise"}),
        call("solve", f, y0, theta, {"tolerance": 1}),
        call("solve", f, y0, theta, {}) | {"field": json.dumps(broken)},
        call("solve", f, y0, theta, {}) | {"t": [0.0, 2.0, 1.0]},
        call("solve", f, y0, theta, {}) | {"field": "{}"},
    ]
    said = [answer.get("error", "") for answer in run(calls)["answers"]]
    expected = [
        "theta has 2 numbers: lotka has 4 parameters",
        "method=runge is not one of euler",
        "rtol=-1 must be",
        "the step budget is used up",
        "unknown option tolerance",
        "sizes or offsets do not fit",
        "t of sample 0 must be finite and monotone (entry 2 is not)",
        "this reads pynode-field, version 1",
    ]
    for got, part in zip(said, expected, strict=True):
        assert part in got


def test_memory_is_bounded(run):
    f = CASES["mlp"][0]
    y0 = np.ones((20, 2))
    theta = f.init(0)
    target = np.zeros((20, len(T), 2)).reshape(-1, 2).tolist()
    memory = run([call("lossAndGrad", f, y0, theta, {}, target=target)], rounds=60)["memory"]
    assert memory[-1] == memory[9]


def test_every_operation_is_known():
    """wasm/program.mjs has a row for each operation of the core."""
    source = (Path(__file__).parents[2] / "wasm" / "program.mjs").read_text()
    assert not [name for name in OPS if name != "CALL" and f"{name}: {OPS[name]['operands']}" not in source]


def test_types_name_what_the_module_exports():
    folder = Path(__file__).parents[2] / "wasm"
    listed = re.findall(r"export \{ (.*) \}", (folder / "pynode.mjs").read_text())
    exported = {name.strip() for names in listed for name in names.split(",")}
    typed = re.findall(r"^export (?:class|function) (\w+)", (folder / "pynode.d.ts").read_text(), flags=re.MULTILINE)
    assert set(typed) == exported
