"""Exact gradients through Rosenbrock methods: against complex steps of a reference on the same steps, differences,
sensitivities; stiff problems, unusual Jacobians, everything that surrounds a solve. (All methods: test_gradients.py.)"""

import numpy as np
import pytest
import rk_reference as rk
from gradient_cases import KNOTS, THETA, agree, driven, driven_reference, ragged
from stiff_cases import CASES

import pynode as pn

METHODS = [name for name, row in pn.METHODS.items() if row["gamma"] > 0]
methods = pytest.mark.parametrize("method", METHODS)
WRT = ("theta", "y0", "t")


# ---- Against the reference


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", ["constant", "previous", "linear", "cubic"])
@methods
def test_inputs(method, kind, shared):
    rng = np.random.default_rng(4)
    t, target, weight = ragged(rng, backward=(0, 2))
    n = 1 if shared else 3
    knots = None if kind == "constant" else [KNOTS + 0.01 * i for i in range(n)]
    values = [rng.normal(size=(1 if kind == "constant" else 6, 2)) for _ in range(n)]
    for options in ({"save": "interpolate", "rtol": 1e-3, "atol": 1e-4}, {"save": "land", "step": 0.2}):
        agree(
            driven,
            driven_reference,
            rng.normal(size=(3, 2)),
            t,
            THETA,
            target,
            weight=weight,
            inputs=(kind, knots, values),
            wrt=(*WRT, "inputs"),
            method=method,
            **options,
        )


@pytest.mark.parametrize("loss", ["mse", "sse", "mae", "huber", "student"])
@methods
def test_losses(method, loss):
    rng = np.random.default_rng(3)
    t, target, weight = ragged(rng)
    f = pn.mlp(2, (4,), time=True)
    theta = rng.normal(size=f.n_params)
    y0 = rng.normal(size=(3, 2))
    options = {"method": method, "rtol": 1e-2, "atol": 1e-2, "loss": loss, "weight": weight, "scale": 0.4}
    agree(f, rk.mlp((3, 4, 2), time=True), y0, t, theta, target, **options)


LINEAR = {
    "singular": [[1.0, -2.0, 0.0], [-0.5, 1.0, 0.0], [0.3, 0.1, 0.0]],
    "defective": [[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0], [0.0, 0.0, -1.0]],
    "nilpotent": [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]],
    "zero": [[0.0] * 3] * 3,
    "permutation": [[0.0, 0.0, 200.0], [300.0, 0.0, 0.0], [0.0, 100.0, 0.0]],
    "stiff": [[-1e4, 1e4, 0.0], [1e4, -2e4, 1e4], [0.0, 1e4, -1e4]],
}


@pytest.mark.parametrize("kind", LINEAR)
@methods
def test_matrices_of_every_kind(method, kind):
    """The Jacobian is the parameter: at a defective matrix its eigenvectors have no derivative, the steps have."""
    f = pn.field(state=3, theta=(9,))(lambda t, y, th: [sum(th[3 * i + j] * y[j] for j in range(3)) for i in range(3)])

    def F(t, y, th, u):
        return np.stack([sum(th[:, 3 * i + j] * y[:, j] for j in range(3)) for i in range(3)], 1)

    rng = np.random.default_rng(1)
    t = [np.linspace(0, 0.1, 5), np.array([0.0, 0.03])]
    target = [rng.normal(size=(5, 3)), rng.normal(size=(2, 3))]
    y0 = rng.normal(size=(2, 3))
    wrt = ("theta", "y0") if kind == "zero" else WRT  # where nothing moves, times do not matter
    agree(f, F, y0, t, np.ravel(LINEAR[kind]), target, method=method, step=0.011, tolerance=1e-10, wrt=wrt)


@methods
def test_fields_whose_jacobian_is_constant_or_nothing(method):
    rng = np.random.default_rng(2)
    t = [np.array([0.0, 0.4, 1.0]), np.array([1.0, 0.2])]
    target = [rng.normal(size=(3, 2)), rng.normal(size=(2, 2))]
    y0 = rng.normal(size=(2, 2))
    cases = [
        (
            lambda t, y, th: [th[0] * np.cos(th[1] * t), th[1] * t * t],
            lambda t, y, th: (th[0] * np.cos(th[1] * t), th[1] * t * t),
        ),
        (lambda t, y, th: [th[0] + 0 * t, th[0] * th[1] + 0 * t], lambda t, y, th: (th[0] + 0 * t, th[0] * th[1] + 0 * t)),
        (lambda t, y, th: [th[0] * t - y[0], y[0] + th[1]], lambda t, y, th: (th[0] * t - y[0], y[0] + th[1])),
        (lambda t, y, th: [y[0] * y[1], th[0] * th[1] * t], lambda t, y, th: (y[0] * y[1], th[0] * th[1] * t)),
    ]
    for traced, plain in cases:
        f = pn.field(state=2, theta=(2,))(traced)

        def F(t, y, th, u, plain=plain):
            return np.stack(plain(t, [y[:, 0], y[:, 1]], [th[:, 0], th[:, 1]]), 1)

        agree(f, F, y0, t, np.array([0.7, 1.3]), target, method=method, step=0.13, wrt=WRT)


@methods
def test_one_state_and_no_parameters(method):
    f = pn.field(state=1)(lambda t, y: [-5.0 * (y[0] - np.cos(t)) * y[0]])

    def F(t, y, th, u):
        return np.stack([-5.0 * (y[:, 0] - np.cos(t)) * y[:, 0]], 1)

    rng = np.random.default_rng(3)
    t = [np.array([0.0, 0.3, 1.1]), np.array([0.5, 0.1])]
    target = [rng.normal(size=(3, 1)), rng.normal(size=(2, 1))]
    y0 = np.array([[0.4], [0.9]])
    for options in ({"step": 0.07}, {"rtol": 1e-3, "atol": 1e-3}, {"rtol": 1e-3, "atol": 1e-3, "save": "land"}):
        agree(f, F, y0, t, np.zeros(0), target, method=method, wrt=("y0", "t"), **options)


# ---- Stiff problems


@pytest.mark.parametrize("name", CASES)
@methods
def test_stiff_problems(method, name):
    """Gradients in units of each parameter; reference and core lose as many digits as W is ill conditioned."""
    case = CASES[name]
    t = case.t[case.t <= 0.5 * case.t[-1]]
    sol = pn.solve(case.field, case.y0, t, case.theta, method=method, rtol=1e-2, atol=case.atol, steps=True)
    g = np.random.default_rng(0).normal(size=sol.y.shape) / (np.abs(sol.y) + np.array(case.atol)) / sol.y.size
    problem = rk.Problem(case.reference, method, [sol.steps], np.array([case.y0]), [t], case.theta, [np.zeros(sol.y.shape)])

    def want(**moved):
        (path,) = moved.values()
        return np.einsum("ptc,tc->p", problem.path(0, **moved).imag, g) / rk.EPS if len(path) else 0

    got = sol.vjp(g, wrt=("theta", "y0"))
    theta = want(theta=case.theta + 1j * rk.EPS * np.eye(len(case.theta)))
    y0 = want(y0=np.array(case.y0) + 1j * rk.EPS * np.eye(len(case.y0)))
    size = np.abs(case.theta * theta).max()
    np.testing.assert_allclose(case.theta * got.theta, case.theta * theta, rtol=1e-8, atol=1e-9 * size)
    np.testing.assert_allclose(got.y0, y0, rtol=1e-8, atol=1e-9 * np.abs(y0).max())
    S = pn.sensitivities(case.field, case.y0, t, case.theta, method=method, grid=sol.steps)
    forward = np.einsum("tc,tcp->p", g, S.theta)
    np.testing.assert_allclose(case.theta * forward, case.theta * got.theta, rtol=1e-9, atol=1e-10 * size)
    np.testing.assert_allclose(np.einsum("tc,tcp->p", g, S.y0), got.y0, rtol=1e-9, atol=1e-10 * np.abs(y0).max())


def test_the_gradient_of_a_stiff_solution_is_that_of_the_exact_one():
    """Robertson: d y(T) / d theta at tight tolerance, against differences of tight solves."""
    case = CASES["rober"]
    t = np.array([0.0, 40.0])
    options = {"method": "rodas5p", "rtol": 1e-10, "atol": np.array(case.atol) * 1e-6}
    S = pn.sensitivities(case.field, case.y0, t, case.theta, **options).theta[-1] * case.theta
    for i in range(3):
        moved = [case.theta * np.exp(e * np.eye(3)[i]) for e in (1e-3, -1e-3, 2e-3, -2e-3)]
        a, b, c, d = (pn.solve(case.field, case.y0, t, p, **options).y[-1] for p in moved)
        want = (8 * (a - b) - (c - d)) / 12e-3
        np.testing.assert_allclose(S[:, i], want, rtol=1e-6, atol=1e-13)


# ---- The same numbers, however they are computed


def batch(n):
    case = CASES["rober"]
    rng = np.random.default_rng(0)
    theta = case.theta * np.exp(0.3 * rng.normal(size=(n, 3)))
    t = [np.append(0.0, np.sort(10 ** rng.uniform(-3, 3, 1 + i % 5))) for i in range(n)]
    y0 = np.array(case.y0) + [[0.0, 0.0, 0.1 * i] for i in range(n)]
    target = [rng.normal(size=(len(x), 3)) for x in t]
    return case, y0, t, theta, target


def assert_same(a, b, wrt=WRT):
    assert np.array_equal(a.loss, b.loss)
    for name in wrt:
        one, two = (getattr(x, name) for x in (a, b))
        for x, y in zip(one, two, strict=True):
            assert np.array_equal(x, y), name


@pytest.mark.parametrize("save", ["interpolate", "land"])
@methods
def test_memory_and_threads_change_no_bit(method, save):
    case, y0, t, _, target = batch(37)
    options = {"method": method, "save": save, "rtol": 1e-5, "atol": np.array(case.atol), "wrt": WRT}
    free = pn.loss_and_grad(case.field, y0, t, case.theta, target, threads=1, **options)
    assert np.all(free.status == 0)
    for threads in (2, 5):
        assert_same(free, pn.loss_and_grad(case.field, y0, t, case.theta, target, threads=threads, **options))
    tape = int(free.stats.accepted.sum()) * 2 * 88
    for part in (1.0, 0.6, 0.3):
        assert_same(
            free, pn.loss_and_grad(case.field, y0, t, case.theta, target, threads=1, memory=int(part * tape), **options)
        )


@methods
def test_rows_of_theta(method):
    """(B, p): each sample's gradient is that of a solve alone; of equal rows the sum is that of a shared theta."""
    case, y0, t, theta, target = batch(37)
    ends = pn.solve(case.field, y0, t, theta, method=method, rtol=1e-3, atol=1e-8, steps=True).steps
    options = {"method": method, "loss": "sse", "wrt": WRT}
    whole = pn.loss_and_grad(case.field, y0, t, theta, target, grid=ends, **options)
    for i in range(0, 37, 4):
        one = pn.loss_and_grad(case.field, y0[i], t[i], theta[i], target[i], grid=ends[i], **options)
        np.testing.assert_allclose(whole.theta[i], one.theta, rtol=1e-8, atol=1e-9 * np.abs(one.theta).max())
        np.testing.assert_allclose(whole.y0[i], one.y0, rtol=1e-8, atol=1e-9 * np.abs(one.y0).max())
        np.testing.assert_allclose(whole.t[i], one.t, rtol=1e-8, atol=1e-9 * np.abs(one.t).max())
    options |= {"rtol": 1e-4, "atol": 1e-8}
    shared = pn.loss_and_grad(case.field, y0, t, case.theta, target, **options)
    rows = pn.loss_and_grad(case.field, y0, t, np.tile(case.theta, (37, 1)), target, **options)
    np.testing.assert_allclose(rows.theta.sum(axis=0), shared.theta, rtol=1e-11)
    assert all(np.array_equal(a, b) for a, b in zip(rows.y0, shared.y0, strict=True))


@methods
def test_neighbours_change_no_bit(method):
    case, y0, t, theta, target = batch(37)
    options = {"method": method, "loss": "sse", "wrt": WRT, "rtol": 1e-4, "atol": 1e-8}
    whole = pn.loss_and_grad(case.field, y0, t, theta, target, **options)
    some = np.array([3, 36, 11, 0, 20])
    part = pn.loss_and_grad(case.field, y0[some], [t[i] for i in some], theta[some], [target[i] for i in some], **options)
    for j, i in enumerate(some):
        assert np.array_equal(part.y0[j], whole.y0[i]) and np.array_equal(part.theta[j], whole.theta[i])
        assert np.array_equal(part.t[j], whole.t[i])


@pytest.mark.parametrize("isa", pn.ISAS)
@methods
def test_instruction_sets(method, isa):
    case, y0, t, theta, target = batch(19)
    ends = pn.solve(case.field, y0, t, theta, method=method, rtol=1e-3, atol=1e-8, steps=True).steps
    before, found = pn.isa(), []
    try:
        for name in (isa, "plain"):
            pn.set_isa(name)
            found.append(pn.loss_and_grad(case.field, y0, t, theta, target, method=method, grid=ends, wrt=WRT))
    finally:
        pn.set_isa(before)
    size = np.abs(found[1].theta).max(axis=1, keepdims=True)
    assert (np.abs(found[0].theta - found[1].theta) < 1e-9 * size).all()


@methods
def test_float32(method):
    rng = np.random.default_rng(5)
    f = pn.mlp(2, (5,), time=True)
    theta = f.init(0)
    y0 = rng.normal(size=(21, 2))
    t = np.linspace(0, 1.5, 5)
    target = rng.normal(size=(21, 5, 2))
    options = {"method": method, "step": 0.1, "wrt": WRT}
    want = pn.loss_and_grad(f, y0, t, theta, target, **options)
    got = pn.loss_and_grad(f, y0.astype(np.float32), t, theta, target, **options)
    limit = 1e-3 if method == "rodas5p" else 1e-4  # its coefficients are large
    for name in WRT:
        assert np.abs(getattr(got, name) - getattr(want, name)).max() < limit * np.abs(getattr(want, name)).max(), name


# ---- Events, jumps, systems


@methods
def test_events_with_resets(method):
    """Differences on tight solves: where the event is, and what is behind it, moves with theta and y0."""
    f = pn.field(state=2, theta={"g": 9.81, "drag": 0.2})(lambda t, y, th: [y[1], -th.g - th.drag * y[1]])
    bounce = pn.event(lambda t, y: y[0], direction=-1, reset=lambda t, y: [0 * y[0], -0.7 * y[1]])
    t = np.linspace(0, 1.2, 7)
    theta, y0 = np.array([9.81, 0.2]), np.array([1.0, 0.1])
    g = np.random.default_rng(0).normal(size=(7, 2))
    tol = {"rosenbrock23": 1e-9, "ros34pw2": 1e-10, "rodas4": 1e-10, "rodas5p": 1e-11}[method]
    options = {"method": method, "events": bounce, "rtol": tol, "atol": tol}
    sol = pn.solve(f, y0, t, theta, **options)
    assert len(sol.events.t) >= 2
    got = sol.vjp(g, wrt=("theta", "y0"))

    def loss(theta, y0):
        return (g * pn.solve(f, y0, t, theta, **options).y).sum()

    h = 1e-4
    accuracy = {"rosenbrock23": 1e-4, "ros34pw2": 1e-5, "rodas4": 1e-5, "rodas5p": 1e-6}[method]
    for i in range(2):
        e = h * np.eye(2)[i]
        assert got.theta[i] == pytest.approx((loss(theta + e, y0) - loss(theta - e, y0)) / 2 / h, rel=accuracy, abs=accuracy)
        assert got.y0[i] == pytest.approx((loss(theta, y0 + e) - loss(theta, y0 - e)) / 2 / h, rel=accuracy, abs=accuracy)
    S = pn.sensitivities(f, y0, t, theta, **options)
    np.testing.assert_allclose(np.einsum("tc,tcp->p", g, S.theta), got.theta, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(np.einsum("tc,tcp->p", g, S.y0), got.y0, rtol=1e-9, atol=1e-10)


@methods
def test_jumps_and_losses_of_a_system(method):
    f = pn.field(state=2, theta={"mu": 5.0})(lambda t, y, th: [y[1], th.mu * (1 - y[0] ** 2) * y[1] - y[0]])
    jump = pn.field(state=2, inputs=1, theta={"a": 0.8})(lambda t, y, th, x: [y[0] + th.a * x[0], y[1] * np.cos(x[0])])
    system = pn.System(f, jump=jump)
    t = np.linspace(0, 1.5, 7)
    data = np.full((7, 1), np.nan)
    data[[2, 4], 0] = 0.3, -0.5
    theta, y0 = np.array([5.0, 0.8]), np.array([2.0, 0.1])
    g = np.random.default_rng(0).normal(size=(7, 2))
    options = {"method": method, "data": data, "step": 0.05}
    got = pn.solve(system, y0, t, theta, **options).vjp(g, wrt=("theta", "y0"))

    def loss(theta, y0):
        return (g * pn.solve(system, y0, t, theta, **options).y).sum()

    h = 1e-5
    for i in range(2):
        e = h * np.eye(2)[i]
        assert got.theta[i] == pytest.approx((loss(theta + e, y0) - loss(theta - e, y0)) / 2 / h, rel=1e-7)
        assert got.y0[i] == pytest.approx((loss(theta, y0 + e) - loss(theta, y0 - e)) / 2 / h, rel=1e-7)


@methods
def test_check_grad_and_a_fit(method):
    case = CASES["vdp"]
    target = np.zeros((3, 2))
    report = pn.check_grad(case.field, case.y0, [0.0, 0.3, 1.0], [10.0], target, method=method, wrt=WRT)
    assert report.max_error < 1e-7


@methods
def test_sensitivities_are_the_rows_of_vjps(method):
    rng = np.random.default_rng(0)
    t = np.linspace(0, 1, 4)
    y0 = rng.normal(size=(5, 2))
    signal = pn.Signal(KNOTS, rng.normal(size=(6, 2)), "cubic")
    for options in ({"step": 0.11}, {"step": 0.11, "save": "land"}):
        options |= {"method": method, "inputs": signal}
        S = pn.sensitivities(driven, y0, t, THETA, **options)
        sol = pn.solve(driven, y0, t, THETA, **options)
        for row in range(1, 4):
            for c in range(2):
                g = np.zeros((5, 4, 2))
                g[:, row, c] = 1
                v = sol.vjp(g, wrt=("theta", "y0"))
                np.testing.assert_allclose(S.theta[:, row, c].sum(axis=0), v.theta, rtol=1e-12, atol=1e-13)
                np.testing.assert_allclose(S.y0[:, row, c], v.y0, rtol=1e-12, atol=1e-13)
