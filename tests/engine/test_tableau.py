"""Runge-Kutta coefficients: order conditions, structure, observed orders."""

from math import factorial

import numpy as np
import pytest
import tableau_conditions as tc

from pynode._core import tableaus

TABLES = {t["name"]: t for t in tableaus()}
EPS = np.finfo(float).eps
TOL = 1e-14  # a condition holds
FAILS = 1e-5  # a condition fails
THETAS = np.linspace(0, 1, 9)  # more than the degree of any condition in theta

SHIPPED = ("euler", "midpoint", "heun", "rk4", "rk38", "bosh3", "dopri5", "tsit5", "dop853")
"""Names that users rely on; methods that are added need not stand here."""


@pytest.fixture(params=[t["name"] for t in tableaus() if not t["second"] and t["gamma"] == 0])
def name(request):
    """The others: test_leapfrog.py, test_rosenbrock_tables.py."""
    return request.param


@pytest.fixture
def table(name):
    return TABLES[name]


def padded(t):
    """b over all stages."""
    return np.pad(t["b"], (0, len(t["c"]) - t["s"]))


def dense_tolerance(t):
    """Rounding of large dense coefficients to double does not cancel in the sums."""
    return TOL + EPS * np.linalg.norm(t["dense"])


def check_order(A, b, c, order, tol=TOL, thetas=(1.0,), weights=None):
    """All conditions up to `order` hold, at least one of order + 1 fails: the order is neither less nor more."""
    weights = weights or (lambda theta: b)
    assert order > 0
    for p in range(1, order + 1):
        for theta in thetas:
            assert tc.worst(A, weights(theta), c, p, theta) < tol, (p, theta)
    assert max(tc.worst(A, weights(th), c, order + 1, th) for th in thetas) > FAILS


def order_of(A, b, c):
    """The order of a method from its coefficients alone."""
    return next(p for p in range(20) if tc.worst(A, b, c, p + 1) > TOL)


# The helper itself.


def test_trees():
    # Numbers of rooted trees, and sum over trees of n nodes of n! / (sigma gamma) =
    # (n-1)!, the number of monotonic labellings of trees with n nodes.
    counts = [1, 1, 2, 4, 9, 20, 48, 115, 286]
    for n, count in enumerate(counts, start=1):
        trees = tc.trees(n)
        assert len(trees) == len(set(trees)) == count
        assert all(tc.size(t) == n for t in trees)
        labellings = [factorial(n) / (tc.symmetry(t) * tc.gamma(t)) for t in trees]
        assert all(x == int(x) for x in labellings)
        assert sum(labellings) == factorial(n - 1)


def test_conditions_of_order_four():
    # The eight conditions of order 4 as they are usually written.
    rng = np.random.default_rng(1)
    A = np.tril(rng.normal(size=(5, 5)), -1)
    b, c = rng.normal(size=5), A.sum(axis=1)
    want = [
        [b.sum() - 1],
        [b @ c - 1 / 2],
        [b @ c**2 - 1 / 3, b @ A @ c - 1 / 6],
        [b @ c**3 - 1 / 4, b @ (c * (A @ c)) - 1 / 8, b @ A @ c**2 - 1 / 12, b @ A @ A @ c - 1 / 24],
    ]
    for order, residuals in enumerate(want, start=1):
        np.testing.assert_allclose(np.sort(tc.residuals(A, b, c, order)), np.sort(residuals), rtol=1e-12, atol=1e-12)


# The tables.


def test_names():
    assert [name for name in TABLES if name in SHIPPED] == list(SHIPPED)
    assert all(t["source"] for t in TABLES.values())
    assert len(TABLES) == len(tableaus())


def test_numbers(table):
    t, stages = table, table["s"] + 1 + table["n_extra"]
    assert t["c"].shape == t["e"].shape == t["e2"].shape == (stages,)
    assert t["a"].shape == (stages, stages)
    assert t["b"].shape == (t["s"],)
    assert t["dense"].shape == (stages, t["dense_degree"] + 1)
    assert t["has_e2"] == t["e2"].any()
    assert t["e"].any() == (t["error_order"] > 0)
    assert t["dense_order"] in (t["order"] - 1, t["order"])


def test_structure(table):
    t, s = table, table["s"]
    A, c = t["a"], t["c"]
    assert not np.triu(A).any()  # explicit
    assert c[0] == 0 and (c >= 0).all() and (c <= 1).all()
    assert np.abs(A.sum(axis=1) - c).max() < TOL
    assert c[s] == 1  # stage s is f_new ...
    assert (A[s, :s] == t["b"]).all()  # ... at y_new
    assert t["b"].any() and A[1:].any(axis=1).all()
    assert t["error_uses_new"] == (t["e"][s] != 0)
    assert not t["e"][s + 1 :].any() and not t["e2"][s:].any()
    assert t["dense_uses_new"] == (t["dense"][s:] != 0).any()
    if t["n_extra"]:
        assert t["dense_uses_new"]
        assert (t["dense"][s:] != 0).any(axis=1).all()


def test_order(table):
    check_order(table["a"], table["b"], table["c"], table["order"])


def test_embedded_order(table):
    t = table
    if not t["error_order"]:
        pytest.skip("no error estimate")
    embedded = order_of(t["a"], padded(t) - t["e"], t["c"])
    check_order(t["a"], padded(t) - t["e"], t["c"], embedded)
    if not t["has_e2"]:
        assert embedded == t["error_order"]
        return
    second = order_of(t["a"], padded(t) - t["e2"], t["c"])
    check_order(t["a"], padded(t) - t["e2"], t["c"], second)
    assert t["error_order"] + 1 == 2 * (embedded + 1) - (second + 1)  # err5^2 / err3 = O(h^(2 * 6 - 4))


def test_dense_order(table):
    t = table
    check_order(
        t["a"], None, t["c"], t["dense_order"], dense_tolerance(t), THETAS, lambda theta: tc.weights(t["dense"], theta)
    )


def test_dense_is_c1(table):
    t, D = table, table["dense"]
    first, new = np.eye(len(D))[[0, t["s"]]]
    powers = np.arange(D.shape[1])
    assert not D[:, 0].any() and D[:, -1].any()
    assert np.abs(D.sum(axis=1) - padded(t)).max() < dense_tolerance(t)  # y_new
    assert (D[:, 1] == first).all()  # k_0
    assert np.abs(D @ powers - new).max() < powers[-1] * dense_tolerance(t)  # f_new


# The tables at work: a nonlinear, nonautonomous system with a known solution
# (Hairer, Norsett, Wanner).


def problem(t, y):
    return np.array(
        [
            2 * t * np.abs(y[1]) ** 0.2 * y[3],
            10 * t * np.exp(5 * (y[2] - 1)) * y[3],
            2 * t * y[3],
            -2 * t * np.log(y[0]),
        ]
    )


def solution(t):
    s = np.sin(t * t)
    return np.array([np.exp(s), np.exp(5 * s), s + 1, np.cos(t * t)])


def step(m, t, y, h):
    """y_new and all stages."""
    k = np.zeros((len(m["c"]), len(y)))
    for i in range(len(k)):
        k[i] = problem(t + m["c"][i] * h, y + h * m["a"][i] @ k)
    return y + h * m["b"] @ k[: m["s"]], k


def errors(m, n, t0=0.5, t1=1.5):
    """Largest errors with n steps: at the grid points, and of dense output."""
    h, y, at_grid, between = (t1 - t0) / n, solution(t0), 0.0, 0.0
    for i in range(n):
        t = t0 + i * h
        y_new, k = step(m, t, y, h)
        for theta in (0.2, 0.4, 0.6, 0.8):
            z = y + h * tc.weights(m["dense"], theta) @ k
            between = max(between, np.abs(z - solution(t + theta * h)).max())
        y = y_new
        at_grid = max(at_grid, np.abs(y - solution(t0 + (i + 1) * h)).max())
    return np.array([at_grid, between])


STEPS = {1: 800, 2: 200, 3: 100, 4: 100, 5: 50, 6: 40, 7: 30, 8: 24}  # by order


def test_observed_order(table):
    n = STEPS[table["order"]]
    slopes = np.log2(errors(table, n) / errors(table, 2 * n))
    want = [table["order"], min(table["order"], table["dense_order"] + 1)]
    assert np.abs(slopes - want).max() < 0.3, slopes


def test_observed_error_estimate(table):
    m = table
    if not m["error_order"]:
        pytest.skip("no error estimate")

    def estimate(h):
        k = step(m, 0.5, solution(0.5), h)[1]
        err = np.linalg.norm(h * m["e"] @ k)
        if m["has_e2"]:
            err *= err / np.hypot(err, 0.1 * np.linalg.norm(h * m["e2"] @ k))
        return err

    h = 0.02 if m["order"] < 8 else 0.04
    assert np.log2(estimate(h) / estimate(h / 2)) == pytest.approx(m["error_order"] + 1, abs=0.3)
