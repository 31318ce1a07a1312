"""`pn.Regression`: losses and gradients on rows against NumPy, minibatches, what is refused."""

import numpy as np
import pytest

import pynode as pn
from pynode.engine.losses import LOSSES, rho, slope


def rows(n=37, d=3, k=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((n, k))


@pn.field(state=3, out=2, inputs=2, theta={"net": pn.mlp(3, (5,), 2), "a": (2,)})
def driven(t, y, th, u):
    return th.net(y) * np.cos(t) + th.a * u


def by_numpy(f, theta, x, z, weight, name, **more):
    """Loss (sum) and gradient by `pn.vjp` row by row, rho and slope as the engine has them."""
    scale, dof = more.pop("scale", 1.0), more.pop("dof", 4.0)
    value = f(more.get("t", 0.0), x, theta, more.get("u"))
    seen = ~np.isnan(z)
    r = np.where(seen, value - np.nan_to_num(z), 0)
    w = np.where(seen, weight, 0.0)
    g = np.zeros(f.n_params)
    for i in range(len(x)):
        t = np.broadcast_to(more.get("t", 0.0), len(x))[i]
        u = None if more.get("u") is None else more["u"][i]
        g += pn.vjp(f)(t, x[i], theta, (w * slope(name, r, scale, dof))[i], u=u).theta
    return (w * rho(name, r, scale, dof)).sum(), g, w.sum()


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_is_that_of_the_engine(name):
    x, z = rows()
    z[3, 1] = z[8, 0] = np.nan
    weight = np.random.default_rng(1).uniform(0.5, 2, z.shape)
    weight[5] = 0
    f = pn.mlp(3, (6, 4), 2)
    theta = f.init(0)
    regression = pn.Regression(f, x, z, loss=name, weight=weight, loss_scale=0.7, loss_dof=3.0)
    loss, gradient = regression(theta)
    expected, g, total = by_numpy(f, theta, x, z, weight, name, scale=0.7, dof=3.0)
    scale = 1.0 if name == "sse" else 1 / total
    np.testing.assert_allclose(loss, expected * scale, rtol=1e-13)
    np.testing.assert_allclose(gradient, g * scale, rtol=1e-11, atol=1e-13)
    assert regression.value(theta) == pytest.approx(loss, rel=1e-14)
    assert regression.n_observed == z.size - 4 and regression.n_rows == len(x)
    other = "sum" if name != "sse" else "mean"
    again, _ = pn.Regression(f, x, z, loss=name, weight=weight, loss_scale=0.7, loss_dof=3.0, reduction=other)(theta)
    np.testing.assert_allclose(again, expected if other == "sum" else expected / total, rtol=1e-13)


def test_times_and_inputs():
    x, z = rows()
    rng = np.random.default_rng(2)
    t, u = rng.uniform(0, 3, len(x)), rng.standard_normal((len(x), 2))
    theta = driven.init(0)
    loss, gradient = pn.Regression(driven, x, z, loss="sse", t=t, u=u)(theta)
    expected, g, _ = by_numpy(driven, theta, x, z, 1.0, "sse", t=t, u=u)
    np.testing.assert_allclose(loss, expected, rtol=1e-13)
    np.testing.assert_allclose(gradient, g, rtol=1e-11, atol=1e-13)
    at_one, _ = pn.Regression(driven, x, z, loss="sse", t=1.0, u=u)(theta)
    np.testing.assert_allclose(at_one, by_numpy(driven, theta, x, z, 1.0, "sse", t=1.0, u=u)[0], rtol=1e-13)


@pytest.mark.parametrize("isa", pn.ISAS)
@pytest.mark.parametrize("hidden", [(9,), (80, 70)])  # the second has gradients that wait for more rows
@pytest.mark.parametrize("n", [1, 15, 16, 17, 64, 129, 1000])
def test_parts_of_a_table_add_up(isa, hidden, n):
    before = pn.isa()
    pn.set_isa(isa)
    try:
        x, z = rows(n, seed=n)
        f = pn.mlp(3, hidden, 2)
        theta = f.init(0)
        loss, gradient = pn.Regression(f, x, z, loss="sse")(theta)
        cut = n // 3
        parts = [pn.Regression(f, a, b, loss="sse")(theta) for a, b in ((x[:cut], z[:cut]), (x[cut:], z[cut:])) if len(a)]
        np.testing.assert_allclose(loss, sum(p[0] for p in parts), rtol=1e-13)
        np.testing.assert_allclose(gradient, sum(p[1] for p in parts), rtol=1e-10, atol=1e-11)
        direction = np.random.default_rng(0).standard_normal(f.n_params)
        h = 1e-6
        ahead, behind = (pn.Regression(f, x, z, loss="sse").value(theta + s * h * direction) for s in (1, -1))
        np.testing.assert_allclose(gradient @ direction, (ahead - behind) / (2 * h), rtol=1e-6)
    finally:
        pn.set_isa(before)


def test_more_rows_than_one_part(monkeypatch):
    x, z = rows(50)
    f = pn.mlp(3, (4,), 2)
    whole = pn.Regression(f, x, z)(f.init(0))
    monkeypatch.setattr("pynode.training.regression.PART", 16)
    parts = pn.Regression(f, x, z)(f.init(0))
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-14)
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-12, atol=1e-15)


def test_a_loss_of_ones_own():
    x, _ = rows()
    label = (x[:, 0] > 0).astype(float)
    f = pn.mlp(3, (6,), 1)
    theta = f.init(0)
    weight = np.linspace(0.5, 1.5, len(x))
    regression = pn.Regression(f, x, label, weight=weight, loss=lambda v, z: pn.softplus(v[0]) - z[0] * v[0])
    loss, gradient = regression(theta)
    logit = f(0.0, x, theta)[:, 0]
    np.testing.assert_allclose(loss, np.average(np.logaddexp(0, logit) - label * logit, weights=weight), rtol=1e-13)
    seed = (1 / (1 + np.exp(-logit)) - label) * weight / weight.sum()
    np.testing.assert_allclose(gradient, pn.vjp(f)(0.0, x, theta, seed[:, None]).theta, rtol=1e-11, atol=1e-14)
    result = pn.fit.lbfgs(regression, theta, max_iter=200)
    assert ((f(0.0, x, result.theta)[:, 0] > 0) == (label > 0)).all()


def test_a_network_learns_a_function():
    x = np.random.default_rng(0).uniform(-2, 2, (500, 2))
    z = np.stack([np.sin(x[:, 0] * x[:, 1]), np.cos(x[:, 0])], axis=1)
    f = pn.mlp(2, (24,))
    result = pn.fit.lbfgs(pn.Regression(f, x, z), f.init(0), max_iter=800)
    assert result.loss < 1e-3
    batches = pn.Regression(f, x, z, batch_size=50)
    assert batches.n_batches == 10
    start = batches.value(f.init(0))
    result = pn.fit.adam(batches, f.init(0), max_iter=1000, learning_rate=0.01)
    assert batches.value(result.theta) < 0.05 * start


def test_minibatches_are_rows_of_the_table_and_their_mean_is_the_whole():
    x, z = rows(60)
    z[7] = np.nan
    f = pn.mlp(3, (4,), 2)
    theta = f.init(0)
    batches = pn.Regression(f, x, z, batch_size=20, loss="sse", random_state=3)
    whole = pn.Regression(f, x, z, loss="sse")(theta)
    found = []
    for k in (1, 2, 3):
        batches.draw(k)
        found.append(batches(theta))
    np.testing.assert_allclose(sum(v for v, _ in found), whole[0], rtol=1e-13)
    np.testing.assert_allclose(sum(g for _, g in found), whole[1], rtol=1e-11, atol=1e-13)
    batches.draw(1)
    assert batches(theta)[0] == found[0][0] and batches.value(theta) == pytest.approx(whole[0])
    assert not hasattr(pn.Regression(f, x, z, batch_size=60), "draw")  # one batch: not stochastic
    lonely = pn.Regression(f, x[6:8], z[6:8], batch_size=1)
    losses = []
    for k in (1, 2):
        lonely.draw(k)
        losses.append(lonely(theta)[0])
    assert sorted(losses)[0] == 0 < sorted(losses)[1]


def test_what_is_given_is_copied_and_may_have_any_layout():
    x, z = rows(40)
    f = pn.mlp(3, (4,), 2)
    theta = f.init(0)
    expected = pn.Regression(f, x, z)(theta)
    for a in (np.asfortranarray(x), x[::-1][::-1], x.astype(">f8"), x.tolist()):
        loss, gradient = pn.Regression(f, a, z)(theta)
        assert loss == expected[0] and (gradient == expected[1]).all()
    regression = pn.Regression(f, x, z)
    x[:], z[:] = 0, 0
    assert regression(theta)[0] == expected[0]


F = pn.mlp(3, (4,), 2)
X, Z = rows(10)
BAD = np.where(np.arange(30).reshape(10, 3) == 13, np.nan, X)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: pn.Regression(lambda t, y: y, X, Z), TypeError, "f must be a Field"),
        (lambda: pn.Regression(pn.callback_field(lambda t, y: y, 3), X, X), TypeError, "callback"),
        (lambda: pn.Regression(F, X[:, :2], Z), ValueError, r"x has shape \(10, 2\); it must be \(n, 3\)"),
        (lambda: pn.Regression(F, X[:0], Z[:0]), ValueError, "x has no rows"),
        (lambda: pn.Regression(F, BAD, Z), ValueError, "x is not finite in 1 rows, the first is row 4"),
        (lambda: pn.Regression(F, X, Z[:9]), ValueError, r"target has shape \(9, 2\); it must be \(10, 2\)"),
        (lambda: pn.Regression(F, X, Z[:, 0]), ValueError, "target has shape"),
        (lambda: pn.Regression(F, X, np.where(Z > 0, np.inf, Z)), ValueError, "infinite"),
        (lambda: pn.Regression(F, X, np.full((10, 2), np.nan)), ValueError, "no entry of target counts"),
        (lambda: pn.Regression(F, X, Z, weight=np.zeros(10)), ValueError, "no entry of target counts"),
        (lambda: pn.Regression(F, X, Z, weight=-np.ones((10, 2))), ValueError, "weight has an entry -1"),
        (lambda: pn.Regression(F, X, Z, weight=np.ones((10, 3))), ValueError, "weight has shape"),
        (lambda: pn.Regression(F, X, Z, loss="l2"), ValueError, "loss='l2' is not one of mse, sse"),
        (lambda: pn.Regression(F, X, Z, loss=["mse"]), ValueError, "loss="),
        (lambda: pn.Regression(F, X, Z, reduction="median"), ValueError, "reduction='median'"),
        (lambda: pn.Regression(F, X, Z, loss="huber", loss_scale=0), ValueError, "loss_scale"),
        (lambda: pn.Regression(F, X, Z, t=np.zeros(9)), ValueError, "t has shape"),
        (lambda: pn.Regression(F, X, Z, t=np.nan), ValueError, "t is not finite"),
        (lambda: pn.Regression(F, X, Z, u=X), ValueError, "f has 0 inputs, u was given"),
        (lambda: pn.Regression(driven, X, Z), ValueError, "f has 2 inputs, u is missing"),
        (lambda: pn.Regression(driven, X, Z, u=X), ValueError, "u has shape"),
        (lambda: pn.Regression(F, X, Z, batch_size=0), ValueError, "batch_size"),
        (lambda: pn.Regression(F, X, Z, loss=lambda v, z: v), pn.TraceError, "returned"),
        (lambda: pn.Regression(F, X, np.where(Z > 0, np.nan, Z), loss=lambda v, z: v[0]), ValueError, "NaN"),
        (lambda: pn.Regression(F, X, Z)(np.zeros(3)), ValueError, "theta must have shape"),
        (lambda: pn.Regression(F, X + 1j, Z), TypeError, "x must hold real numbers"),
    ],
)
def test_what_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
