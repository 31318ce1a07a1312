"""What a field computes of its parameters alone, once for a solve: values and gradients are those of the same field,
which computes that at every stage."""

import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest
from scipy.linalg import expm, expm_frechet

import pynode as pn
from pynode.calls.taped import TapedSolver
from pynode.programs import hoisting

D = 6
T = np.linspace(0.0, 1.0, 5)
WRT = ("theta", "y0", "t", "inputs")
FIXED = {"method": "rk4", "step": 0.125}
TIGHT = {"method": "dop853", "rtol": 1e-12, "atol": 1e-12}
INPUTS = (np.linspace(0.0, 1.0, 4), np.random.default_rng(5).standard_normal((4, 2)), "linear")


def skew():
    @pn.field(state=D, theta={"A": (D, D), "k": (D,)}, inputs=2)
    def f(t, y, th, u):
        return np.tanh((th.A - th.A.T) @ y) * th.k + np.cos(t) * u[0] + u[1]

    return f


def normed():
    """A weight norm, a product of matrices, a matrix without its transpose, an exponential that no product reads."""

    @pn.field(state=D, theta={"V": (8, D), "g": (8,), "U": (D, 3), "W": (3, 8), "s": (D, 4)}, inputs=2)
    def f(t, y, th, u):
        W = th.V * (th.g / np.sqrt(np.sum(th.V * th.V, axis=1)))[:, None]
        decay = np.exp(th.s) @ np.ones(4)
        return (th.U @ th.W) @ np.tanh(W @ y + u[0]) - decay * y * 0.1 + np.sin(t) * u[1]

    return f


def pair(make, monkeypatch):
    """The field in two parts, and as it is."""
    f = make()
    assert f.hoisted is not None
    with monkeypatch.context() as changed:
        changed.setattr(hoisting, "LEAST", 10**9)
        g = make()
        assert g.hoisted is None
    return f, g


def flat(x):
    return np.concatenate([np.ravel(a) for a in x]) if isinstance(x, (list, tuple)) else np.ravel(x)


def close(found, expected, room=1e-11):
    found, expected = flat(found), flat(expected)
    assert found.shape == expected.shape and np.isfinite(expected).all()
    assert np.abs(found - expected).max() <= room * np.abs(expected).max()


def same(a, b, names):
    for name in names:
        np.testing.assert_array_equal(flat(getattr(a, name)), flat(getattr(b, name)), err_msg=name)


def data(n, dtype=np.float64, d=D):
    rng = np.random.default_rng(n)
    return rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((n, len(T), d)).astype(dtype)


def theta_of(f, dtype=np.float64):
    return (0.5 * np.random.default_rng(1).standard_normal(f.n_params)).astype(dtype)


def gradient(f, y0, target, **keys):
    keys = {"loss": "sse", "wrt": WRT, "inputs": INPUTS} | keys
    return pn.loss_and_grad(f, y0, T, keys.pop("theta", theta_of(f, y0.dtype)), target, **keys)


@pytest.mark.parametrize("make", [skew, normed])
@pytest.mark.parametrize("n", [1, 2, 3, 10, 300])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_batches_in_both_precisions(isa, make, n, dtype, monkeypatch):
    f, g = pair(make, monkeypatch)
    y0, target = data(n, dtype)
    found, expected = (gradient(x, y0, target, **FIXED) for x in (f, g))
    room = 2e-4 if dtype is np.float32 else 1e-11
    for name in (*WRT, "loss"):
        close(getattr(found, name), getattr(expected, name), room)
    close(found.solution.y, expected.solution.y, room)
    alone = pn.solve(f, y0, T, theta_of(f, dtype), inputs=INPUTS, **FIXED).y
    np.testing.assert_array_equal(alone, found.solution.y)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "dopri5", "rtol": 1e-9, "atol": 1e-11},
        TIGHT,
        {"method": "rodas5p", "rtol": 1e-7, "atol": 1e-9},
        {"method": "auto", "rtol": 1e-8, "atol": 1e-10},
        {"method": "tsit5", "step": 0.1, "adjoint": "reversible"},
        {"adjoint": "backsolve"} | TIGHT,
        {"adjoint": "interpolating"} | TIGHT,
    ],
    ids=lambda x: "-".join(str(v) for v in x.values() if isinstance(v, str)),
)
@pytest.mark.parametrize("make", [skew, normed])
def test_methods_and_adjoints(options, make, monkeypatch):
    f, g = pair(make, monkeypatch)
    y0, target = data(7)
    found, expected = (gradient(x, y0, target, **options) for x in (f, g))
    for name in (*WRT, "loss"):
        close(getattr(found, name), getattr(expected, name), 1e-9)


@pytest.mark.parametrize("options", [FIXED, {"method": "dopri5"}, {"method": "rodas5p"}], ids=lambda x: x["method"])
def test_threads_and_budgets_change_no_bit(options):
    f = skew()
    y0, target = data(300)
    first = gradient(f, y0, target, threads=1, **options)
    for keys in ({"threads": 3}, {"threads": 1, "memory": "200kB"}, {"threads": 3, "memory": "2MB"}):
        same(gradient(f, y0, target, **keys, **options), first, WRT)


def test_a_theta_for_each_sample(monkeypatch):
    """The field as it is: the same bits."""
    f, g = pair(skew, monkeypatch)
    y0, target = data(9)
    rows = theta_of(f) * np.random.default_rng(0).uniform(0.5, 1.5, (9, 1))
    same(*(gradient(x, y0, target, theta=rows) for x in (f, g)), WRT)
    alone = [gradient(f, y0[i], target[i], theta=rows[i], **FIXED).theta for i in range(9)]
    close(gradient(f, y0, target, theta=rows, **FIXED).theta, alone)


def test_in_closed_form():
    f = pn.field(state=D, theta={"A": (D, D)})(lambda t, y, th: (th.A - th.A.T) @ y)
    A, y0, w = (np.random.default_rng(i).standard_normal(s) for i, s in enumerate([(D, D), D, D]))
    sol = pn.solve(f, y0, [0.0, 0.7], A.ravel(), **TIGHT)
    close(sol.y[1], expm(0.7 * (A - A.T)) @ y0, 1e-10)
    found = sol.vjp(np.stack([np.zeros(D), w])).theta.reshape(D, D)
    G = 0.7 * expm_frechet(0.7 * (A - A.T).T, np.outer(w, y0), compute_expm=False)
    close(found, G - G.T, 1e-9)


@pytest.mark.parametrize("make", [skew, normed])
def test_other_ways_to_a_derivative(make, monkeypatch):
    f, g = pair(make, monkeypatch)
    y0, target = data(5)
    theta = theta_of(f)
    check = pn.check_grad(f, y0, T, theta, target, wrt=WRT, inputs=INPUTS, **FIXED)
    assert check.max_error < 1e-7
    some, more = (pn.sensitivities(x, y0, T, theta, inputs=INPUTS, **FIXED) for x in (f, g))
    same(some, more, ("theta", "y0"))
    by_rows = np.einsum("bti,btip->p", 2 * (some.value - target), some.theta)
    close(gradient(f, y0, target, **FIXED).theta, by_rows, 1e-10)
    objective = pn.Objective(f, y0, T, target, loss="sse", inputs=INPUTS, **FIXED)
    for scale in (1.0, 0.5, 1.0):
        value, slope = objective(scale * theta)
        expected = gradient(g, y0, target, theta=scale * theta, **FIXED)
        close(value, expected.loss)
        close(slope, expected.theta)


@pytest.mark.parametrize("method", ["dopri5", "rodas5p", "auto"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [1, 3, 70])
def test_tapes(method, dtype, n):
    f = skew()
    y0, dy = data(n, dtype)
    solver = TapedSolver(f, method=method)
    for scale in (1.0, 0.5, 1.0):
        theta = (scale * theta_of(f)).astype(dtype)
        sol = pn.solve(f, y0, T, theta, method=method, inputs=INPUTS)
        taped = solver.run(y0, T, theta, INPUTS, keep=True)
        assert taped.tape is not None
        for _ in range(2):
            found, expected = taped.back(dy, WRT), sol.vjp(dy, wrt=WRT)
            for name in WRT:
                np.testing.assert_array_equal(flat(found[name]), flat(getattr(expected, name)))


# ---- systems, events


def matrix_jump():
    return pn.field(state=D, theta={"B": (D, D), "c": 0.5}, inputs=1)(
        lambda t, y, th, x: th.c * y + x[0] * ((th.B @ th.B.T) @ np.sin(y))
    )


def matrix_loss():
    return pn.field(state=D, out=1, theta={"w": (D,), "shift": 0.3}, inputs=D)(
        lambda t, y, th, x: [np.sum(np.exp(th.w) * (y - x - th.shift) ** 2)]
    )


@pytest.mark.parametrize("jumps", [True, False])
@pytest.mark.parametrize("n", [1, 3, 300])
def test_parameters_of_jumps_and_losses_lie_behind(n, jumps, monkeypatch):
    """[field | what is computed | jump | loss] while it is solved."""
    systems = [
        pn.System(f, matrix_jump() if jumps else None, matrix_loss())
        for f in pair(lambda: pn.field(state=D, theta={"A": (D, D)})(lambda t, y, th: (th.A - th.A.T) @ y), monkeypatch)
    ]
    y0, target = data(n)
    keys = {"data": np.random.default_rng(2).standard_normal((n, len(T), 1))} if jumps else {}
    wrt = ("theta", "y0", "t", "target", *keys)
    found, expected = (
        pn.loss_and_grad(s, y0, T, theta_of(s), target, loss="program", wrt=wrt, save="land", **keys, **FIXED)
        for s in systems
    )
    for name in (*wrt, "loss"):
        close(getattr(found, name), getattr(expected, name))
    for part in systems[0].split(found.theta).values():
        assert np.abs(part).max() > 1e-6
    check = pn.check_grad(
        systems[0],
        y0[:2],
        T,
        theta_of(systems[0]),
        target[:2],
        loss="program",
        save="land",
        **{k: v[:2] for k, v in keys.items()},
        **FIXED,
    )
    assert check.max_error < 1e-7


@pytest.mark.parametrize("n", [1, 40])
@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_events_with_parameters(n, method, monkeypatch):
    def make():
        return pn.field(state=D, theta={"A": (D, D), "level": 0.4, "kick": 0.9})(lambda t, y, th: (th.A - th.A.T) @ y)

    event = pn.event(lambda t, y, th: y[0] - th.level, terminal=False, reset=lambda t, y, th: th.kick * y)
    y0, target = data(n)
    options = {"step": 0.05} if method == "rk4" else {"rtol": 1e-10, "atol": 1e-12}
    results = []
    for f in pair(make, monkeypatch):
        whole = f.init(0)
        whole[: D * D] = 2 * theta_of(f)[: D * D]
        keys = {"events": event, "loss": "sse", "wrt": ("theta", "y0"), "method": method} | options
        results.append(pn.loss_and_grad(f, y0, T, whole, target, **keys))
    found, expected = results
    assert len(found.solution.events) > 0 or n == 1
    for name in ("theta", "y0", "loss"):
        close(getattr(found, name), getattr(expected, name), 1e-8)


# ---- numbers that are not finite


def rooted():
    @pn.field(state=D, theta={"A": np.full((D, D), 0.3), "k": np.ones(D)}, inputs=2)
    def f(t, y, th, u):
        return np.tanh(np.sqrt(th.A) @ y + u[0]) * th.k

    return f


@pytest.mark.filterwarnings("ignore::pynode.SolveWarning")
@pytest.mark.parametrize("n", [1, 5, 300])
@pytest.mark.parametrize("single", [0.0, 0.6])
def test_no_finite_derivative(n, single, monkeypatch):
    """sqrt at 0: samples that take a step are left out, those of one time count."""
    y0, target = data(n)
    theta = rooted().init(0)
    theta[3] = 0
    times = [T[: 1 if i + 1 < single * n else None] for i in range(n)]
    targets = [x[: len(s)] for x, s in zip(target, times, strict=True)]
    found, expected = (
        pn.loss_and_grad(f, y0, times, theta, targets, loss="sse", wrt=WRT, inputs=INPUTS, errors="ignore")
        for f in pair(rooted, monkeypatch)
    )
    np.testing.assert_array_equal(found.solution.status, expected.solution.status)
    assert (found.solution.status == pn.STATUS.index("gradient")).any()
    same(found, expected, WRT)


@pytest.mark.parametrize("value", [-1.0, np.inf, np.nan])
@pytest.mark.parametrize("n", [1, 20])
def test_what_is_computed_is_not_finite(value, n, monkeypatch):
    y0, target = data(n)
    theta = rooted().init(0)
    theta[3] = value
    found = []
    for f in pair(rooted, monkeypatch):
        try:
            result = pn.loss_and_grad(f, y0, T, theta, target, wrt=WRT, inputs=INPUTS, errors="ignore")
            found.append((np.asarray(result.solution.status).tolist(), result.theta.tolist()))
        except ValueError as error:
            found.append(str(error))
    np.testing.assert_equal(found[0], found[1])


def test_a_cotangent_too_large_for_a_float(monkeypatch):
    """What is added to is not added to twice."""

    def make():
        return pn.field(state=D, theta={"A": (D, D)}, inputs=2)(lambda t, y, th, u: (th.A * th.A) @ y + u[0])

    y0 = np.ones((300, D), np.float32)
    dy = np.full((300, len(T), D), 1e36, np.float32)
    f, g = pair(make, monkeypatch)
    found, expected = (pn.solve(x, y0, T, theta_of(f, np.float32), inputs=INPUTS, **FIXED).vjp(dy, wrt=WRT) for x in (f, g))
    assert np.abs(expected.theta).max() > np.finfo(np.float32).max
    same(found, expected, WRT)


# ---- what else there is


def test_copies_and_files():
    f = normed()
    y0, target = data(3)
    expected = gradient(f, y0, target)
    for other in (pickle.loads(pickle.dumps(f)), pn.Field.from_json(f.to_json())):
        assert other.hoisted is not None
        same(gradient(other, y0, target), expected, WRT)


def test_little_is_left_where_it_is():
    f = pn.field(state=2, theta={"A": (2, 2)})(lambda t, y, th: (th.A - th.A.T) @ y)
    assert f.hoisted is None
    assert pn.mlp(3, (64,)).hoisted is None
    assert pn.field(state=2)(lambda t, y: [y[1], -y[0]]).hoisted is None


def test_what_is_too_large_put_together_stays_where_it_is():
    """The core takes the field, but no program whose registers have all of its matrices twice."""
    names = [f"V{i}" for i in range(12)]

    @pn.field(state=220, theta=dict.fromkeys(names, (220, 220)))
    def f(t, y, th):
        for name in names:
            V = getattr(th, name)
            y = np.tanh((V / np.sqrt(np.sum(V * V, axis=1))[:, None]) @ y)
        return y

    assert pn.solve(f, np.ones(220), [0.0, 0.1], f.init(0), method="euler", step=0.1).ok
    assert f.hoisted is None


def test_what_has_no_derivative_by_theta(monkeypatch):
    """sign(A): nothing adds to the gradient."""

    def make():
        return pn.field(state=D, theta={"A": (D, D)}, inputs=2)(lambda t, y, th, u: np.sign(th.A) @ np.sin(y) + u[0])

    y0, target = data(4)
    found, expected = (gradient(f, y0, target, **FIXED) for f in pair(make, monkeypatch))
    assert not found.theta.any()
    for name in ("y0", "t", "inputs"):
        close(getattr(found, name), getattr(expected, name))


def test_a_field_that_is_nothing_else():
    """Neither t nor y: its value is computed once."""
    f = pn.field(state=20, theta={"a": (20,)})(lambda t, y, th: np.exp(th.a))
    assert f.hoisted is not None
    a = theta_of(f)
    found = pn.loss_and_grad(f, np.zeros(20), [0.0, 2.0], a, np.zeros((2, 20)), loss="sse", **FIXED)
    close(found.solution.y[1], 2 * np.exp(a))
    close(found.theta, 8 * np.exp(2 * a))


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize("threads", [1, 2])
def test_interrupts(threads):
    f = pn.field(state=D, theta={"A": (D, D)})(lambda t, y, th: (th.A - th.A.T) @ y)
    timer = threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        pn.solve(f, np.ones((64, D)), [0.0, 1e9], theta_of(f), max_steps=2**40, threads=threads)
        time.sleep(5)  # in case the call ended first
    timer.join()
    assert time.perf_counter() - start < 3
