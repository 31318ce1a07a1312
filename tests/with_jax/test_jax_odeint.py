"""pynode.jax.odeint against pynode itself and finite differences: values, every transformation, batches, refusals."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

jax = pytest.importorskip("jax")
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp  # noqa: E402

import pynode as pn  # noqa: E402
import pynode.jax.networks  # noqa: E402
import pynode.jax.solves  # noqa: E402

T = np.linspace(0.0, 2.0, 11)
Y0 = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
TIGHT = {"rtol": 1e-9, "atol": 1e-10}
F = pn.mlp(2, (8,))
THETA = F.init(0)


@pn.field(state=2, theta={"k": 2.0, "c": 0.3})
def spring(t, y, th):
    return [y[1], -th.k * y[0] - th.c * y[1]]


def solved(y0, theta, **options):
    return pn.jax.odeint(F, y0, T, theta, **(TIGHT | options))


def loss(theta, y0):
    return (solved(y0, theta) ** 2).mean()


def test_values_are_those_of_solve():
    expected = pn.solve(F, Y0, T, THETA, **TIGHT).y
    np.testing.assert_array_equal(solved(Y0, THETA), expected)
    np.testing.assert_array_equal(jax.jit(solved)(Y0, THETA), expected)
    np.testing.assert_allclose(solved(Y0[0], THETA), expected[0], rtol=1e-12)
    np.testing.assert_allclose(solved(Y0.reshape(3, 1, 2), THETA)[:, 0], expected, rtol=1e-12)


def test_what_is_computed_of_the_parameters_alone():
    """Once for a solve; its Hessian is that of slopes."""
    f = pn.field(state=6, theta={"A": (6, 6)})(lambda t, y, th: np.tanh((th.A - th.A.T) @ y))
    assert f.hoisted is not None
    theta, y0 = np.random.default_rng(0).normal(size=36), np.random.default_rng(1).normal(size=(3, 6))

    def loss_of(theta):
        return (pn.jax.odeint(f, y0, T, theta, **TIGHT) ** 2).sum()

    wanted = pn.loss_and_grad(f, y0, T, theta, np.zeros((3, len(T), 6)), loss="sse", **TIGHT)
    slope = jax.jit(jax.grad(loss_of))
    np.testing.assert_allclose(slope(theta), wanted.theta, rtol=1e-10, atol=1e-12)
    v = 1e-4 * np.random.default_rng(2).normal(size=36)
    expected = (np.asarray(slope(theta + v)) - np.asarray(slope(theta - v))) / 2
    np.testing.assert_allclose(jax.jvp(slope, (theta,), (v,))[1], expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "rk4", "step": 0.1},
        {"method": "dop853"},
        {"method": "rodas5p"},
        {"method": "auto"},
        {"save": "land"},
        {"atol": [1e-10, 1e-9]},
    ],
)
def test_both_jacobians_are_the_sensitivities(options):
    s = pn.sensitivities(F, Y0, T, THETA, **(TIGHT | options))
    for jacobian in (jax.jacfwd, jax.jacrev):
        of_theta = jacobian(lambda th: solved(Y0, th, **options))(THETA)
        np.testing.assert_allclose(of_theta, s.theta, atol=1e-9)
        of_y0 = jacobian(lambda y0: solved(y0, THETA, **options))(Y0[1])
        np.testing.assert_allclose(of_y0, s.y0[1], atol=1e-9)


def test_gradient_under_jit():
    expected = pn.loss_and_grad(F, Y0, T, THETA, np.zeros((3, 11, 2)), **TIGHT)
    value, grad = jax.jit(jax.value_and_grad(loss))(THETA, Y0)
    assert value == pytest.approx(expected.loss, rel=1e-12)
    np.testing.assert_allclose(grad, expected.theta, atol=1e-14)


def test_hessian_in_every_order():
    H = jax.hessian(loss)(THETA, Y0)
    np.testing.assert_allclose(H, H.T, atol=1e-13)
    v = np.random.default_rng(0).standard_normal(THETA.shape)
    ahead, behind = (jax.grad(loss)(THETA + h * v, Y0) for h in (1e-5, -1e-5))
    np.testing.assert_allclose(H @ v, (ahead - behind) / 2e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(jax.jacfwd(loss))(THETA, Y0), H, atol=1e-12)
    np.testing.assert_allclose(jax.jacrev(jax.grad(loss))(THETA, Y0), H, atol=1e-12)
    product = jax.jvp(lambda th: jax.grad(loss)(th, Y0), (jnp.asarray(THETA),), (jnp.asarray(v),))[1]
    np.testing.assert_allclose(product, H @ v, atol=1e-12)


@pytest.mark.parametrize("order", ["y0", "theta", "both", "nested"])
def test_vmap(order):
    thetas = np.stack([THETA, 1.1 * THETA, 0.9 * THETA])
    pairs = {"y0": (0, None), "theta": (None, 0), "both": (0, 0)}
    if order == "nested":
        found = jax.vmap(jax.vmap(solved, (0, None)), (None, 0))(Y0, thetas)
        expected = np.stack([[solved(y, th) for y in Y0] for th in thetas])
        np.testing.assert_allclose(found, expected, atol=1e-12)
        return
    axes = pairs[order]
    y0 = Y0 if axes[0] == 0 else Y0[0]
    theta = thetas if axes[1] == 0 else THETA
    found = jax.vmap(solved, axes)(y0, theta)
    grads = jax.vmap(jax.grad(loss), axes[::-1])(theta, y0)
    for k in range(3):
        one = (y0[k] if axes[0] == 0 else y0), (theta[k] if axes[1] == 0 else theta)
        np.testing.assert_allclose(found[k], solved(*one), atol=1e-12)
        np.testing.assert_allclose(grads[k], jax.grad(loss)(one[1], one[0]), atol=1e-12)


def test_vmap_is_one_call(monkeypatch, through_python):
    through_python()
    calls = []
    run = pynode.jax.host.Call.run
    monkeypatch.setattr(pynode.jax.host.Call, "run", lambda self, *x: calls.append(len(x[0])) or run(self, *x))
    jax.block_until_ready(jax.vmap(solved, (0, None))(np.tile(Y0, (20, 1)), THETA))
    jax.block_until_ready(jax.vmap(jax.grad(loss), (None, 0))(THETA, np.tile(Y0, (20, 1))))
    assert calls[0] == 60
    assert set(calls) == {60}


def test_times_in_a_batch_and_traced():
    times = np.stack([T, 2 * T])
    found = jax.jit(jax.vmap(lambda t: pn.jax.odeint(F, Y0[0], t, THETA, **TIGHT)))(times)
    for k in range(2):
        np.testing.assert_allclose(found[k], pn.solve(F, Y0[0], times[k], THETA, **TIGHT).y, rtol=1e-9)
    back = pn.jax.odeint(F, Y0[0], T[::-1].copy(), THETA, **TIGHT)
    np.testing.assert_array_equal(back, pn.solve(F, Y0[0], T[::-1].copy(), THETA, **TIGHT).y)


def test_float32():
    y = pn.jax.odeint(F, Y0.astype(np.float32), T, THETA, rtol=1e-4, atol=1e-5)
    assert y.dtype == jnp.float32
    grad = jax.grad(lambda y0: pn.jax.odeint(F, y0, T, THETA, rtol=1e-4, atol=1e-5).sum())(jnp.asarray(Y0, jnp.float32))
    assert grad.dtype == jnp.float32
    np.testing.assert_allclose(grad, jax.grad(lambda y0: solved(y0, THETA).sum())(Y0), rtol=3e-3, atol=1e-3)
    tangent = jax.jvp(
        lambda y0: pn.jax.odeint(F, y0, T, THETA, rtol=1e-4, atol=1e-5), (jnp.float32(Y0),), (jnp.float32(Y0),)
    )
    assert np.isfinite(tangent[1]).all()


def test_named_parameters_and_control_inputs():
    named = {"k": 2.0, "c": 0.3}
    np.testing.assert_allclose(pn.jax.odeint(spring, Y0, T, named), pn.solve(spring, Y0, T, [2.0, 0.3]).y, rtol=1e-12)
    grads = jax.grad(lambda th: pn.jax.odeint(spring, Y0, T, th, **TIGHT).sum())(named)
    flat = pn.solve(spring, Y0, T, [2.0, 0.3], **TIGHT).vjp(np.ones((3, 11, 2))).theta
    np.testing.assert_allclose([grads["k"], grads["c"]], flat, rtol=1e-9)
    pushed = pn.field(state=1, inputs=1)(lambda t, y, u: [u[0] - y[0]])
    signal = pn.Signal([T], [np.sin(T)[:, None]], "linear")
    found = jax.jit(lambda y0: pn.jax.odeint(pushed, y0, T, inputs=signal))(jnp.ones(1))
    np.testing.assert_array_equal(found, pn.solve(pushed, [1.0], T, inputs=signal).y)


def test_a_field_without_parameters():
    turn = pn.field(state=2)(lambda t, y: [y[1], -y[0]])
    expected = pn.sensitivities(turn, Y0[0], T, **TIGHT).y0[-1]
    for jacobian in (jax.jacfwd, jax.jacrev):
        found = jacobian(lambda y0: pn.jax.odeint(turn, y0, T, **TIGHT)[-1])(Y0[0])
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_failure_is_nan_or_an_error():
    explode = pn.field(state=1)(lambda t, y: [y[0] ** 2])
    with pytest.warns(pn.SolveWarning):
        y = jax.block_until_ready(pn.jax.odeint(explode, np.ones(1), T))
    assert np.isnan(y[-1, 0])
    assert np.isfinite(y[:3]).all()
    with pytest.raises(Exception, match="step_too_small"):
        jax.block_until_ready(pn.jax.odeint(explode, np.ones(1), T, errors="raise"))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: pn.jax.odeint(lambda t, y: y, Y0, T), TypeError, "Field"),
        (lambda: pn.jax.odeint(pn.callback_field(lambda t, y: y, 2), Y0, T), TypeError, "calls Python"),
        (lambda: pn.jax.odeint(F, Y0[:, :1], T, THETA), ValueError, r"y0 has shape \(3, 1\)"),
        (lambda: pn.jax.odeint(F, Y0, T), ValueError, "42 parameters"),
        (lambda: pn.jax.odeint(F, Y0, T, THETA[1:]), ValueError, r"theta has shape \(41,\)"),
        (lambda: pn.jax.odeint(F, Y0, T[None], THETA), ValueError, "t has shape"),
        (lambda: pn.jax.odeint(F, Y0, T, THETA, method="rk5"), ValueError, "rk5"),
        (lambda: pn.jax.odeint(F, Y0, T, THETA, events=[1]), ValueError, "events"),
        (lambda: pn.jax.odeint(F, Y0, T, THETA, errors="maybe"), ValueError, "maybe"),
        (lambda: pn.jax.odeint(spring, Y0, T, {"k": 1.0}), ValueError, "k, c"),
        (lambda: jax.grad(lambda t: pn.jax.odeint(F, Y0, t, THETA).sum())(T), NotImplementedError, "times"),
        (lambda: jax.jacfwd(jax.hessian(loss))(THETA, Y0), NotImplementedError, "third"),
        (lambda: jax.jit(lambda r: pn.jax.odeint(F, Y0, T, THETA, rtol=r))(1e-3), TypeError, "static"),
    ],
)
def test_refused(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


@pytest.mark.parametrize("module", [pynode.jax.solves, pynode.jax.networks])
def test_examples(module):
    assert doctest.testmod(module).failed == 0


def test_blocks_of_the_page():
    text = (Path(__file__).resolve().parents[2] / "docs" / "jax.md").read_text(encoding="utf-8")
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        exec(code, names)
    assert names["curvature"].shape == (2, 2)


def test_training_with_optax():
    optax = pytest.importorskip("optax")
    target = pn.solve(spring, Y0, T, [3.0, 0.5]).y
    step = optax.adam(0.1)
    theta = {"k": jnp.array(2.0), "c": jnp.array(0.3)}
    state = step.init(theta)

    @jax.jit
    def update(theta, state):
        grad = jax.grad(lambda th: ((pn.jax.odeint(spring, Y0, T, th) - target) ** 2).mean())(theta)
        change, state = step.update(grad, state)
        return optax.apply_updates(theta, change), state

    for _ in range(150):
        theta, state = update(theta, state)
    assert theta["k"] == pytest.approx(3.0, abs=0.02)
    assert theta["c"] == pytest.approx(0.5, abs=0.02)


class Labelled:
    """What a Series of pandas shows of itself."""

    ndim = 1

    def __init__(self, **entries):
        self.index, self.values = list(entries), np.array([*entries.values()])

    def to_numpy(self):
        return self.values

    def __array__(self, dtype=None, copy=None):
        return self.values


def test_labelled_states_and_parameters_go_by_name():
    named = pn.field(state=["x", "v"], theta={"k": 2.0, "c": 0.3})(lambda t, y, th: [y[1], -th.k * y[0] - th.c * y[1]])
    expected = pn.jax.odeint(named, [1.0, 0.0], T, [3.0, 0.5])
    np.testing.assert_array_equal(pn.jax.odeint(named, Labelled(v=0.0, x=1.0), T, Labelled(c=0.5, k=3.0)), expected)
    with pytest.raises(ValueError, match="y0 is labelled v, z"):
        pn.jax.odeint(named, Labelled(v=0.0, z=1.0), T, [3.0, 0.5])


def test_nested_parameters_go_by_name():
    f = pn.field(state=1, theta={"k": 2.0, "net": pn.mlp(1, (3,))})(lambda t, y, th: th.net(y) - th.k * y)
    theta = f.init(0)
    expected = pn.jax.odeint(f, [1.0], T, theta)
    np.testing.assert_array_equal(pn.jax.odeint(f, [1.0], T, f.unflatten(theta)), expected)
    np.testing.assert_array_equal(pn.jax.odeint(f, [1.0], T, pn.jax.unravel(f, theta)), expected)


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "words"),
    [
        ((Y0, T[[0, 2, 1]]), {}, ValueError, r"t must be non-decreasing .* t\[1\] = 0.4"),
        ((Y0, [0.0, np.nan]), {}, ValueError, r"t\[1\] is nan"),
        ((Y0.astype(np.float16), T), {}, TypeError, "y0 holds float16"),
        ((Y0 + 0j, T), {}, TypeError, "y0 holds complex128"),
        ((Y0, T), {"tol": 1}, TypeError, "unexpected keyword argument 'tol'"),
        ((Y0, T), {"rtol": -1.0}, ValueError, "rtol=-1.0 must be"),
        ((Y0, T), {"method": "rk4"}, ValueError, "give step="),
        ((Y0, T), {"inputs": ([0.0, 2.0], [[1.0], [1.0]])}, TypeError, "inputs must be a pynode.Signal, not tuple"),
        ((Y0, T), {"inputs": pn.Signal([0.0, 2.0], [[1.0], [1.0]])}, ValueError, "the field has none"),
    ],
)
def test_what_is_wrong_is_an_error_of_the_call(arguments, options, kind, words):
    """Not one of JAX's runtime, with the traceback of a callback."""
    with pytest.raises(kind, match=words):
        pn.jax.odeint(F, *arguments, THETA, **options)


def test_inputs_have_to_be_known_over_all_times():
    pushed = pn.field(state=1, inputs=1)(lambda t, y, u: [u[0] - y[0]])
    with pytest.raises(ValueError, match=r"are known on \[0, 1\]"):
        pn.jax.odeint(pushed, [1.0], T, inputs=pn.Signal([0.0, 1.0], [[1.0], [1.0]]))
