"""Rosenbrock methods at work: against a reference, SciPy's Radau, closed forms; orders on stiff problems, fields
with unusual Jacobians, failures, refusals. Their coefficients: test_rosenbrock_tables.py."""

import numpy as np
import pytest
import rk_reference as rk
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from stiff_cases import CASES

import pynode as pn

METHODS = [name for name, row in pn.METHODS.items() if row["gamma"] > 0]
methods = pytest.mark.parametrize("method", METHODS)


def reference(F, method, grid, y0, times, theta=()):
    """(T, d) by rk_reference.py on that grid; F(t (P,), y (P, d), theta (P, p), None)."""
    theta = np.asarray(theta, dtype=complex)[None]
    return rk.integrate(
        lambda s, y, middle: F(s, y, theta, None),
        method,
        np.asarray(grid, dtype=complex)[None],
        np.asarray(y0, dtype=complex)[None],
        np.asarray(times, dtype=complex)[None],
        np.isin(times, grid),
    )[0].real


# ---- Stiff problems


@pytest.mark.parametrize("name", CASES)
@methods
def test_steps_of_stiff_problems(method, name):
    """On the grid of an adaptive solve, dense output included; stages are as exact as W is well conditioned."""
    case = CASES[name]
    sol = pn.solve(case.field, case.y0, case.t, case.theta, method=method, rtol=1e-2, atol=case.atol, steps=True)
    again = pn.solve(case.field, case.y0, case.t, case.theta, method=method, grid=sol.steps)
    assert np.array_equal(again.y, sol.y)
    want = reference(case.reference, method, sol.steps, case.y0, case.t, case.theta)
    assert sol.stats.accepted > 10
    np.testing.assert_allclose(sol.y, want, rtol=1e-9, atol=1e-13)


@pytest.fixture(scope="module")
def radau():
    found = {}
    for name, case in CASES.items():
        d = len(case.y0)
        J = pn.jacobian(case.field, "y")
        found[name] = solve_ivp(
            lambda t, y, case=case: np.array(case.rhs(y, case.p)),
            (0.0, case.t[-1]),
            case.y0,
            "Radau",
            t_eval=case.t,
            rtol=1e-12,
            atol=1e-6 * np.array(case.atol),
            jac=lambda t, y, case=case, d=d, J=J: J(t, y, case.theta).reshape(d, d),
        ).y.T
    return found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("method", "tol", "factor"),
    [("rosenbrock23", 1e-5, 300), ("ros34pw2", 1e-6, 100), ("rodas4", 1e-7, 30), ("rodas5p", 1e-8, 10)],
)
def test_against_radau(method, tol, factor, name, radau):
    case = CASES[name]
    for save in ("interpolate", "land"):
        atol = np.array(case.atol) * tol
        sol = pn.solve(case.field, case.y0, case.t, case.theta, method=method, rtol=tol, atol=atol, save=save)
        error = np.abs(sol.y - radau[name]) / (np.abs(radau[name]) + case.atol)
        assert error.max() < factor * tol


@pytest.mark.filterwarnings("ignore::pynode.StiffnessWarning")  # it is right
def test_explicit_methods_need_far_more_steps():
    case = CASES["vdp"]
    options = {"rtol": 1e-4, "atol": 1e-4, "errors": "ignore"}
    steps = {
        m: pn.solve(case.field, case.y0, [0.0, 100.0], case.theta, method=m, **options).stats for m in ("dopri5", *METHODS)
    }
    assert all(100 * steps[m].accepted < steps["dopri5"].accepted for m in METHODS)


@pytest.mark.parametrize(("method", "order"), [("rosenbrock23", 2), ("ros34pw2", 3), ("rodas4", 2), ("rodas5p", 4)])
def test_order_whatever_the_stiffness(method, order):
    """Prothero, Robinson (1974): y' = -rate (y - sin t) + cos t. The worst error over all rates falls with the order that is
    left: rodas4 keeps 2 of 4 (Steinebach 2023, rodas5p 4 of 5), ros34pw2 all 3."""

    @pn.field(state=1, theta={"rate": ()})
    def relaxing(t, y, th):
        return [-th.rate * (y[0] - np.sin(t)) + np.cos(t)]

    rates = np.geomspace(1, 1e7, 60)[:, None]
    t = np.linspace(0.5, 4.5, 5)
    y0 = np.full((60, 1), np.sin(0.5))
    errors = []
    for n in (32, 64, 128):
        sol = pn.solve(relaxing, y0, t, rates, method=method, step=1 / n)
        errors.append(np.abs(sol.y[:, :, 0] - np.sin(t)).max())
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.abs(slopes - order).max() < 0.1, errors


@methods
def test_fast_modes_die_at_once(method):
    """R(infinity) = 0: a step far longer than the time scale ends near the slow solution, and does not overshoot."""
    fast = pn.field(state=2)(lambda t, y: [-1e9 * (y[0] - y[1]), -y[1]])
    sol = pn.solve(fast, [5.0, 1.0], [0.0, 0.1, 1.0], method=method, step=0.1)
    assert np.abs(sol.y[1:, 0] - sol.y[1:, 1]).max() < 1e-6


# ---- Fields with unusual Jacobians

MATRICES = {
    "singular": [[1.0, -2.0, 0.0], [-0.5, 1.0, 0.0], [0.3, 0.1, 0.0]],
    "defective": [[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0], [0.0, 0.0, -1.0]],
    "nilpotent": [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]],
    "permutation": [[0.0, 0.0, 50.0], [50.0, 0.0, 0.0], [0.0, 50.0, 0.0]],
    "stiff": [[-1e4, 1e4, 0.0], [1e4, -2e4, 1e4], [0.0, 1e4, -1e4]],
    "zero": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
}


@pytest.mark.parametrize("kind", MATRICES)
@methods
def test_linear_fields(method, kind):
    """Against the exponential, and R(h A) y by the reference; the Jacobian is a constant."""
    A = np.array(MATRICES[kind])
    f = pn.field(state=3)(lambda t, y: A @ y + 0.0)
    t = np.linspace(0, 1, 6)
    y0 = [1.0, -0.4, 0.7]
    grid = np.linspace(0, 1, 11) ** 1.5
    got = pn.solve(f, y0, t, method=method, grid=grid).y
    want = reference(
        lambda s, y, theta, u: np.stack([sum(a * y[:, j] for j, a in enumerate(row)) for row in A], 1), method, grid, y0, t
    )
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)
    sol = pn.solve(f, y0, t, method=method, rtol=1e-6, atol=1e-8)
    exact = np.array([expm(A * s) @ y0 for s in t])
    assert np.abs(sol.y - exact).max() < (2e-2 if method == "rosenbrock23" else 1e-4) * np.abs(exact).max()


@pytest.mark.parametrize("n", [1, 9])
@methods
def test_rows_are_exchanged_in_each_lane(method, n):
    """Samples whose pivots differ: W of one is dominated by its off-diagonal entries, that of another by its diagonal."""
    f = pn.field(state=3, theta=(9,))(lambda t, y, th: [sum(th[3 * i + j] * y[j] for j in range(3)) for i in range(3)])
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(n, 9)) * 10.0 ** rng.integers(0, 5, (n, 1))
    theta[0] = [0, 0, 4e3, 3e3, 0, 0, 0, 5e3, 0]
    y0 = rng.normal(size=(n, 3))
    grid = [0.0, 0.011, 0.03]
    got = pn.solve(f, y0, grid, theta, method=method, grid=grid).y

    def F(t, y, th, u):
        return np.stack([sum(th[:, 3 * i + j] * y[:, j] for j in range(3)) for i in range(3)], 1)

    for i in range(n):
        want = reference(F, method, grid, y0[i], grid, theta[i])
        np.testing.assert_allclose(got[i], want, rtol=0, atol=1e-10 * np.abs(want).max())


@methods
def test_fields_that_do_not_depend_on_the_state(method):
    only_t = pn.field(state=2)(lambda t, y: [np.cos(t), 3 * t**2])
    t = np.linspace(0, 2, 5)
    want = np.stack([np.sin(t), t**3], axis=1)
    order = pn.METHODS[method]["order"]
    errors = [np.abs(pn.solve(only_t, [0.0, 0.0], t, method=method, step=h).y - want)[-1].max() for h in (0.1, 0.05)]
    assert errors[1] < 1e-13 or np.log2(errors[0] / errors[1]) > order - 0.2
    constant = pn.field(state=2, theta=(2,))(lambda t, y, th: [th[0] + 0 * t, th[1] + 0 * t])
    got = pn.solve(constant, [1.0, 2.0], t, [0.5, -1.0], method=method, rtol=1e-8, atol=1e-8).y
    np.testing.assert_allclose(got, [1.0, 2.0] + t[:, None] * [0.5, -1.0], rtol=1e-13, atol=1e-13)


@methods
def test_one_state(method):
    f = pn.field(state=1)(lambda t, y: [-5.0 * (y[0] - np.cos(t)) * y[0]])
    grid = np.linspace(0, 1.5, 31)
    times = np.array([0.0, 0.333, 1.2, 1.5])
    got = pn.solve(f, [0.2], times, method=method, grid=grid).y
    want = reference(lambda t, y, th, u: np.stack([-5.0 * (y[:, 0] - np.cos(t)) * y[:, 0]], 1), method, grid, [0.2], times)
    np.testing.assert_allclose(got, want, rtol=1e-13)


@methods
def test_many_states(method):
    """Diffusion in 40 cells: rows of W are mostly 0."""
    d = 40
    f = pn.field(state=d)(lambda t, y: 1600.0 * (np.concatenate([y[1:], y[:1]]) - 2 * y + np.concatenate([y[-1:], y[:-1]])))
    A = 1600.0 * (np.roll(np.eye(d), 1, 0) - 2 * np.eye(d) + np.roll(np.eye(d), -1, 0))
    y0 = np.exp(-0.1 * (np.arange(d) - 20.0) ** 2)
    sol = pn.solve(f, y0, [0.0, 0.01, 0.1], method=method, rtol=1e-6, atol=1e-8)
    want = np.array([expm(A * t) @ y0 for t in (0.0, 0.01, 0.1)])
    assert np.abs(sol.y - want).max() < (1e-3 if method == "rosenbrock23" else 1e-5)
