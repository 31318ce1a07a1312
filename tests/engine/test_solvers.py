"""Solutions against closed forms and SciPy: orders, tolerances, dense output, times, bookkeeping, failures; and that a
sample's result does not depend on who shares its batch."""

import itertools

import numpy as np
import pytest
import rk_reference as rk
from scipy.integrate import solve_ivp
from scipy.integrate._ivp import rk as scipy_rk

import pynode as pn

METHODS = list(pn.METHODS)
EXPLICIT = [name for name, row in pn.METHODS.items() if row["gamma"] == 0]
ONE_TABLE = [name for name, row in pn.METHODS.items() if not row["second"]]  # the others: test_leapfrog.py
REVERSIBLE = [name for name in ONE_TABLE if pn.METHODS[name]["gamma"] == 0]
ADAPTIVE = [name for name, row in pn.METHODS.items() if row["error_order"]]
HIGH = 5
"""Methods of an order beyond it take steps so long that rounding is soon reached."""


# ---- Fields with known solutions


@pytest.fixture(scope="module")
def flow():
    """A nonlinear, nonautonomous system, and its solution."""

    @pn.field(state=2)
    def f(t, y):
        rate = 4 * (1 + 0.3 * np.cos(t)) * (y[0] ** 2 + y[1] ** 2) ** 0.25
        return [rate * y[1], -rate * y[0]]

    def exact(t):
        phase = 4 * (t + 0.3 * np.sin(t))
        return np.stack([np.sin(phase), np.cos(phase)], axis=-1)

    return f, exact


@pn.field(state=2, theta={"mu": 2.0})
def vdp(t, y, th):
    return [y[1], th.mu * (1 - y[0] ** 2) * y[1] - y[0]]


@pn.field(state=2)
def lotka(t, y):
    return [y[0] * (1.5 - y[1]), y[1] * (y[0] - 3)]


@pn.field(state=2)
def stiffish(t, y):
    return [-50 * y[0] + 49 * y[1], 49 * y[0] - 50 * y[1]]


@pn.field(state=1)
def forced(t, y):
    return -2 * t * y + np.cos(3 * t)


MU = 0.012277471


@pn.field(state=4)
def arenstorf(t, y):
    # the restricted three-body problem: x, y, x', y'
    a, b = y[0] + MU, y[0] - (1 - MU)
    A, B = (a**2 + y[1] ** 2) ** 1.5, (b**2 + y[1] ** 2) ** 1.5
    return [
        y[2],
        y[3],
        y[0] + 2 * y[3] - (1 - MU) * a / A - MU * b / B,
        y[1] - 2 * y[2] - (1 - MU) * y[1] / A - MU * y[1] / B,
    ]


PROBLEMS = {
    "vdp": (vdp, [2.0, 0.0], np.linspace(0, 8, 33)),
    "lotka": (lotka, [2.0, 1.0], np.linspace(0, 6, 25)),
    "stiffish": (stiffish, [1.0, 0.5], np.linspace(0, 2, 9)),
    "forced": (forced, [0.3], np.linspace(-1, 2, 13)),
    "arenstorf": (arenstorf, [0.994, 0.0, 0.0, -2.00158510637908252], np.linspace(0, 17.0652165601579625, 40)),
}


def scipy_solution(f, y0, t):
    """By solves from each time to the next: SciPy's dense output is not always as accurate as its steps."""
    theta, y = f.init() if f.n_params else None, [np.asarray(y0, dtype=float)]
    for a, b in itertools.pairwise(t):
        y.append(solve_ivp(lambda s, y: f(s, y, theta), (a, b), y[-1], "DOP853", rtol=1e-12, atol=1e-13).y[:, -1])
    return np.array(y)


@pytest.fixture(scope="module")
def references():
    return {name: scipy_solution(f, y0, t) for name, (f, y0, t) in PROBLEMS.items()}


# ---- The tables once more: against SciPy's


@pytest.mark.parametrize(
    ("name", "other"), [("bosh3", scipy_rk.RK23), ("dopri5", scipy_rk.RK45), ("dop853", scipy_rk.DOP853)]
)
def test_coefficients_are_those_of_scipy(name, other):
    m = pn.METHODS[name]
    s = m["s"]
    n = other.A.shape[1]
    assert np.allclose(m["a"][:s, :s][:, :n], other.A[:s, :s], rtol=1e-14, atol=1e-15) and np.allclose(
        m["b"], other.B, rtol=1e-14, atol=1e-15
    )
    assert np.allclose(m["c"][:s], other.C[:s], rtol=1e-14, atol=1e-15)
    if m["has_e2"]:
        assert np.allclose(np.abs(m["e"][: s + 1]), np.abs(other.E5), rtol=1e-14, atol=1e-15)
        assert np.allclose(np.abs(m["e2"][: s + 1]), np.abs(other.E3), rtol=1e-14, atol=1e-15)
    else:
        assert np.allclose(np.abs(m["e"]), np.abs(other.E), rtol=1e-14, atol=1e-15)


# ---- Orders

# order -> number of steps (on an interval of length 1) from which two doublings are measured: rounding is far, and the
# leading term of the error rules
WINDOW = {1: 320, 2: 80, 3: 80, 4: 80, 5: 80, 6: 40, 7: 20, 8: 10}


def slopes(errors):
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("method", ONE_TABLE)
def test_order(method, backward, flow):
    f, exact = flow
    row = pn.METHODS[method]
    t = np.linspace(0.5, 1.5, 11)[:: -1 if backward else 1].copy()
    between = t[0] + (t[-1] - t[0]) * np.linspace(0, 1, 173) ** 1.03  # not at ends of steps
    at_steps, dense, landed, continuous = [], [], [], []
    for n in WINDOW[row["order"]] * np.array([1, 2, 4]):
        step = 1 / n
        at_steps.append(np.abs(pn.solve(f, exact(t[0]), t, method=method, step=step).y - exact(t)).max())
        dense.append(np.abs(pn.solve(f, exact(t[0]), between, method=method, step=step).y - exact(between)).max())
        landed.append(np.abs(pn.solve(f, exact(t[0]), t, method=method, step=step, save="land").y - exact(t)).max())
        sol = pn.solve(f, exact(t[0]), t[[0, -1]], method=method, step=step, dense=True)
        s = np.linspace(t[0], t[-1], 7 * n + 3)
        continuous.append(np.abs(sol(s) - exact(s)).max())
    assert min(at_steps) > 2e-14
    for errors in (at_steps, landed):
        assert np.abs(slopes(errors) - row["order"]).max() < 0.2, errors
    for errors in (dense, continuous):
        assert np.abs(slopes(errors) - min(row["order"], row["dense_order"] + 1)).max() < 0.25, errors


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("method", ADAPTIVE)
def test_error_is_proportional_to_the_tolerance(method, backward, flow):
    f, exact = flow
    t = np.array([0.5, 4.5])[:: -1 if backward else 1].copy()
    order, estimated = pn.METHODS[method]["order"], pn.METHODS[method]["error_order"] + 1
    tolerances = 10.0 ** -np.arange(5, {2: 9, 3: 10}.get(order, 12))
    errors, steps = [], []
    for tol in tolerances:
        sol = pn.solve(f, exact(t[0]), t, method=method, rtol=tol, atol=tol, save="land")
        errors.append(np.abs(sol.y - exact(t)).max())
        steps.append(sol.stats.accepted)
    extrapolates = order >= estimated  # rosenbrock23 does not: the estimate is of the error of y_new, or larger
    assert np.all(np.array(errors) < (300 * tolerances if extrapolates else 10 * tolerances ** (order / estimated))), errors
    # the step goes with tol^(1/(q+1)), the error with the step^order
    slope = np.polyfit(np.log(tolerances), np.log(errors), 1)[0]
    assert slope == pytest.approx(order / estimated, abs=0.2), errors
    slope = np.polyfit(np.log(tolerances[2:]), np.log(steps[2:]), 1)[0]
    assert slope == pytest.approx(-1 / estimated, abs=0.05), steps


# ---- Against SciPy


@pytest.mark.parametrize("save", ["interpolate", "land"])
@pytest.mark.parametrize(
    ("problem", "method"),
    [
        (p, m) for p in PROBLEMS for m in ADAPTIVE if p != "arenstorf" or pn.METHODS[m]["order"] > 2
    ],  # which take too many steps
)
def test_against_scipy(problem, method, save, references):
    f, y0, t = PROBLEMS[problem]
    order = pn.METHODS[method]["order"]
    tol = {2: 1e-7, 3: 1e-9}.get(order, 1e-10)
    want = references[problem]
    sol = pn.solve(f, y0, t, f.init() if f.n_params else None, method=method, rtol=tol, atol=tol, save=save)
    assert sol.status == 0
    amplification = {"arenstorf": 1e6, "vdp": 300}.get(problem, 100)  # of a local error along the path
    if order <= pn.METHODS[method]["error_order"]:
        tol **= order / (order + 1)  # without local extrapolation the error goes with the step^order
        amplification /= 10
    if (problem, save) == ("stiffish", "interpolate") and order > HIGH:
        amplification = 3e4  # where stability limits its steps, their ends are far better than what lies between them
    assert np.abs(sol.y - want).max() < amplification * tol
    assert np.array_equal(sol.y[0], y0)


def test_arenstorf_orbit_closes(references):
    f, y0, t = PROBLEMS["arenstorf"]
    sol = pn.solve(f, y0, t, method="dop853", rtol=1e-12, atol=1e-13)
    assert np.abs(sol.y[-1] - y0).max() < 1e-4  # one turn: errors grow by 1e7
    assert np.abs(sol.y - references["arenstorf"])[:20].max() < 1e-7


def test_dense_output_against_scipy():
    # between the steps the solution is as good as at their ends, forward and backward
    for end in (8.0, -3.0):
        t = np.array([0.0, end])
        sol = pn.solve(vdp, [2.0, 0.3], t, vdp.init(), rtol=1e-10, atol=1e-10, dense=True)
        s = np.linspace(0, end, 91)
        want = scipy_solution(vdp, [2.0, 0.3], s)
        assert np.abs(sol(s) - want).max() < 3e-8
        assert sol(0.5 * end).shape == (2,) and sol(s.reshape(7, 13)).shape == (7, 13, 2)
        assert np.array_equal(sol(s.reshape(7, 13)).reshape(-1, 2), sol(s))
        with pytest.raises(ValueError, match="interval"):
            sol(1.01 * end)


@pytest.mark.parametrize("method", METHODS)
def test_dense_output_is_what_interpolation_saves(method):
    t = np.linspace(0, 3, 31)
    plain = pn.solve(vdp, [2.0, 0.3], t, vdp.init(), method=method, step=0.07)
    sol = pn.solve(vdp, [2.0, 0.3], t, vdp.init(), method=method, step=0.07, dense=True)
    assert np.array_equal(plain.y, sol.y)
    assert np.abs(sol(t) - sol.y).max() < 1e-13 * 10
    if method not in EXPLICIT:  # whose polynomials only join
        return
    ends, h = sol.steps[1:-1], 1e-6  # continuously differentiable across steps, with the field's slope
    slope = vdp(ends, sol(ends), vdp.init())
    for side in (h, -h):
        assert np.abs((sol(ends + side) - sol(ends)) / side - slope).max() < 1e-4


@pytest.mark.parametrize("method", REVERSIBLE)
def test_dense_output_of_the_reversible_scheme(method, flow):
    # asking for it changes nothing; it is continuous, and as good as the steps
    f, exact = flow
    t, step = np.linspace(0.5, 1.5, 5), 0.04 if pn.METHODS[method]["order"] > HIGH else 0.01
    for coupling in (1.0, 0.9):
        options = {"method": method, "step": step, "coupling": coupling}
        plain, sol = (pn.solve(f, exact(0.5), t, dense=dense, **options) for dense in (False, True))
        assert np.array_equal(plain.y, sol.y) and np.abs(sol(t) - sol.y).max() < 1e-13
        ends = sol.steps[1:-1]
        assert np.abs(sol(ends) - sol(ends * (1 - 1e-15))).max() < 1e-12
        s = np.linspace(0.5, 1.5, 2003)
        assert np.abs(sol(s) - exact(s)).max() < 4 * np.abs(sol.y - exact(t)).max()


# ---- Steps


@pytest.mark.parametrize("method", ONE_TABLE)
@pytest.mark.parametrize("save", ["interpolate", "land"])
def test_fixed_steps_are_where_they_should_be(method, save):
    t = np.array([0.3, 0.5, 0.5, 1.13, 2.0])
    for times in (t, 2.3 - t):
        sol = pn.solve(vdp, [2.0, 0.0], times, vdp.init(), method=method, step=0.25, save=save, steps=True)
        parts = itertools.pairwise(times) if save == "land" else [(times[0], times[-1])]
        want = [times[0]]
        for a, b in parts:
            n = int(np.ceil(abs(b - a) / 0.25 - 1e-9))
            want += [a + np.sign(b - a) * 0.25 * k for k in range(1, n)] + [b] * (n > 0)
        assert np.abs(sol.steps - want).max() < 1e-15 * 4
        assert sol.steps[0] == times[0] and sol.steps[-1] == times[-1]
        assert sol.stats.accepted == len(want) - 1 and sol.stats.rejected == 0


@pytest.mark.parametrize(("method", "coupling"), [*((name, 0.0) for name in METHODS), *((name, 0.9) for name in REVERSIBLE)])
def test_prescribed_steps_and_the_reference_integrator(method, coupling):
    # an independent integrator on the same uneven grid, dense output included; and the steps as a grid give the same bits
    rng = np.random.default_rng(1)
    grid = np.cumsum(np.concatenate([[0.2], rng.uniform(0.01, 0.2, 20)]))
    times = grid[::4] if coupling else np.sort(np.concatenate([grid[[0, 5]], rng.uniform(grid[0], grid[-1], 8), grid[-1:]]))
    F = rk.mlp((3, 6, 2), time=True)
    f = pn.mlp(2, (6,), time=True)
    theta, y0 = f.init(1), rng.normal(size=2)
    sol = pn.solve(f, y0, times, theta, method=method, grid=grid, coupling=coupling, steps=True)
    on_grid = np.isin(times, grid)
    want = rk.integrate(
        lambda s, y, middle: F(s, y, theta[None].astype(complex), None),
        method,
        grid[None].astype(complex),
        y0[None].astype(complex),
        times[None].astype(complex),
        on_grid,
        coupling,
    )[0].real
    assert np.abs(sol.y - want).max() < 2e-14
    assert np.array_equal(sol.steps, grid)


def test_steps_of_one_solve_prescribed_to_another_give_the_same_bits():
    rng, f = np.random.default_rng(2), pn.mlp(2, (8,), time=True)
    for method in ADAPTIVE:
        t = [np.sort(rng.normal(size=5)) * (-1) ** i for i in range(60)]  # t + (t1 - t) is not always t1
        t = [np.sort(x)[:: (-1) ** i].copy() for i, x in enumerate(t)]
        y0 = rng.normal(size=(60, 2))
        sol = pn.solve(f, y0, t, f.init(1), method=method, rtol=1e-4, atol=1e-4, steps=True)
        again = pn.solve(f, y0, t, f.init(1), method=method, grid=sol.steps, steps=True)
        for a, b, c, d in zip(sol.y, again.y, sol.steps, again.steps, strict=True):
            assert np.array_equal(a, b) and np.array_equal(c, d)


def test_a_step_that_is_not_cut_short_is_controlled():
    # the size of the next step must not depend on how t + h rounds: with tiny changes of y0 the steps change by as little
    f = pn.mlp(2, (8,), time=True, gain=2.0)
    theta, t, y0 = f.init(1), np.linspace(0, 10, 23), np.array([0.1257, -0.1321])
    sols = [pn.solve(f, y0 + e, t, theta, rtol=1e-7, atol=1e-9, steps=True) for e in (0, 1e-15, -1e-15, 1e-14, 1e-13)]
    for sol in sols[1:]:
        assert sol.stats == sols[0].stats
        assert np.abs(sol.steps - sols[0].steps).max() < 1e-6


def test_step_sizes_follow_the_error():
    # on y' = -y all steps but the first and last few are alike, and few attempts are rejected
    @pn.field(state=1)
    def decay(t, y):
        return -y

    for method in ADAPTIVE:
        sol = pn.solve(
            decay,
            [1.0],
            [0.0, 30.0 if pn.METHODS[method]["order"] > HIGH else 3.0],
            method=method,
            rtol=1e-8,
            atol=0.0,
            steps=True,
            first_step=0.02,
        )
        h = np.diff(sol.steps)[8:-2]
        assert len(h) > 10
        assert h.max() / h.min() < 1.05, (method, h)
        assert sol.stats.rejected <= 2 + 1e-3 * sol.stats.accepted


def test_landing_does_not_hold_up_the_following_steps():
    # after a step cut short to land, the control goes on where it was
    t = np.sort(np.concatenate([np.arange(9), np.arange(8) + 1e-7]))
    for method in ADAPTIVE:
        options = {"method": method, "rtol": 1e-4, "atol": 1e-4}
        free = pn.solve(vdp, [2.0, 0.1], t, vdp.init(), **options)
        land = pn.solve(vdp, [2.0, 0.1], t, vdp.init(), save="land", **options)
        assert land.stats.accepted <= free.stats.accepted + 1.5 * len(t), method
    slow = pn.solve(vdp, [2.0, 0.1], t, vdp.init(), save="land", max_step=0.2, rtol=1e-3, atol=1e-3)
    assert slow.stats.accepted < 8 * 7


def test_max_step_and_first_step():
    sol = pn.solve(vdp, [2.0, 0.3], np.linspace(0, 3, 4), vdp.init(), rtol=1e-2, atol=1e-2, max_step=0.05, steps=True)
    h = np.diff(sol.steps)
    assert h.max() <= 0.05 * (1 + 1e-12) and sol.stats.accepted in (60, 61)
    for first in (1e-3, 0.02):
        assert np.diff(pn.solve(vdp, [2.0, 0.0], [0, 3], vdp.init(), first_step=first, steps=True).steps)[
            0
        ] == pytest.approx(first)
    # far too large a first step is rejected until it fits, and the next one is not larger; results stay right
    want = pn.solve(vdp, [2.0, 0.3], [0, 3], vdp.init(), rtol=1e-9).y
    for first in (0.3, 0.5, 0.8, 1.3, 2.0, 100.0):
        sol = pn.solve(vdp, [2.0, 0.3], [0, 3], vdp.init(), first_step=first, steps=True)
        h = np.diff(sol.steps)
        assert sol.stats.rejected > 0 and h[1] <= h[0] * (1 + 1e-12)
        assert np.abs(sol.y - want).max() < 1e-5


def test_the_norm_of_the_error_is_a_mean():
    # copies of a component change no step
    one, five = (pn.field(state=d)(lambda t, y: y * np.cos(t)) for d in (1, 5))
    for method in ADAPTIVE:
        options = {"method": method, "rtol": 1e-5, "atol": 1e-7, "steps": True}
        a, b = (pn.solve(f, [0.3] * f.d, [0, 6], **options).steps for f in (one, five))
        assert a.shape == b.shape and np.abs(a - b).max() < 1e-6


def test_automatic_first_step_is_sane():
    # Hairer's. It knows the scale of the state, not that of time: where that is far from 1, some more steps
    @pn.field(state=2, theta={"rate": (), "size": ()})
    def oscillator(t, y, th):
        return [th.rate * y[1], -th.rate * th.size * np.sin(y[0] / th.size)]

    for method in ADAPTIVE:
        if pn.METHODS[method]["order"] < 3:  # whose other steps are shorter than any first one
            continue
        for size in (1e-3, 1.0, 1e3):
            accepted = []
            for rate in (1.0, 1e-6, 1e6):
                sol = pn.solve(
                    oscillator,
                    [size, 0.1 * size],
                    [0, 5 / rate],
                    [rate, size],
                    method=method,
                    rtol=1e-6,
                    atol=1e-6 * size,
                    steps=True,
                )
                h = np.diff(sol.steps)
                assert rate != 1 or 0.03 < h[0] / np.median(h) < 3, (size, method)
                assert sol.stats.rejected <= 3
                accepted.append(sol.stats.accepted)
            assert max(accepted) <= min(accepted) + 9
    constant = pn.field(state=1)(lambda t, y: 0 * y)
    assert np.array_equal(pn.solve(constant, [0.0], [0, 1e9]).y, [[0.0], [0.0]])
    assert pn.solve(constant, [1.0], [0, 1e9]).stats.accepted < 40


# ---- Times


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"save": "land"},
        {"method": "rk4", "step": 0.1},
        {"method": "dop853", "step": 0.3},
        {"coupling": 0.9, "step": 0.1},
    ],
)
def test_repeated_and_single_times(options):
    t = np.array([0.0, 0.0, 0.4, 0.4, 0.4, 1.0, 1.0])
    f = vdp
    y = pn.solve(f, [2.0, 0.1], t, f.init(), **options).y
    unique, inverse = np.unique(t, return_inverse=True)
    assert np.array_equal(y, pn.solve(f, [2.0, 0.1], unique, f.init(), **options).y[inverse])
    for times in ([0.7], [0.7, 0.7, 0.7]):
        sol = pn.solve(f, [2.0, 0.1], times, f.init(), dense=True, **options)
        assert np.array_equal(sol.y, [[2.0, 0.1]] * len(times))
        assert (sol.status, sol.stats.nfe, sol.stats.accepted) == (0, 0, 0)
        assert np.array_equal(sol.steps, [0.7]) and np.array_equal(sol(0.7), [2.0, 0.1])


def test_many_saves_in_a_step_cost_nothing():
    few = pn.solve(vdp, [2.0, 0.0], [0, 5], vdp.init())
    many = pn.solve(vdp, [2.0, 0.0], np.linspace(0, 5, 1000), vdp.init())
    assert few.stats == many.stats and np.array_equal(few.y[-1], many.y[-1])


def test_land_and_interpolate_agree():
    t = np.linspace(0, 8, 33)
    a, b = (
        pn.solve(vdp, [2.0, 0.0], t, vdp.init(), rtol=1e-9, atol=1e-9, save=save, steps=True)
        for save in ("interpolate", "land")
    )
    assert np.isin(t, b.steps).all() and not np.isin(t, a.steps).all()
    assert 0 < np.abs(a.y - b.y).max() < 1e-6


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e6])
def test_times_far_from_zero(offset):
    # vdp does not depend on t; t itself has 1e-10 left there
    t = np.linspace(0, 3, 7)
    want = pn.solve(vdp, [2.0, 0.0], t, vdp.init(), rtol=1e-8, atol=1e-8).y
    got = pn.solve(vdp, [2.0, 0.0], t + offset, vdp.init(), rtol=1e-8, atol=1e-8).y
    assert np.abs(got - want).max() < 1e-7 + 1e-14 * abs(offset)


def test_kinds_of_batches():
    rng = np.random.default_rng(3)
    y0, t = rng.normal(size=(4, 2)), np.sort(rng.uniform(0, 3, (4, 6)))
    own = pn.solve(vdp, y0, t, vdp.init())
    assert own.y.shape == (4, 6, 2)
    ragged = pn.solve(vdp, y0, [t[0], t[1][:3], t[2][:1], t[3][2:]], vdp.init())
    assert np.array_equal(ragged.y[0], own.y[0]) and [len(y) for y in ragged.y] == [6, 3, 1, 4]
    assert np.abs(ragged.y[1] - own.y[1][:3]).max() < 1e-6  # another end of the interval, other steps
    shared = pn.solve(vdp, y0, t[0], vdp.init())
    assert np.array_equal(shared.y[0], own.y[0]) and shared.y.shape == (4, 6, 2)
    empty = pn.solve(vdp, np.zeros((0, 2)), t[0], vdp.init())
    assert empty.y.shape == (0, 6, 2) and empty.ok


@pytest.mark.parametrize("method", METHODS)
def test_one_sample_and_a_batch_of_one(method):
    t = np.linspace(0, 3, 7)
    for control in [{"step": 0.1}, *([{}] if method in ADAPTIVE else [])]:
        one = pn.solve(vdp, [2.0, 0.3], t, vdp.init(), method=method, **control)
        batch = pn.solve(vdp, [[2.0, 0.3]], t, vdp.init(), method=method, **control)
        two = pn.solve(vdp, [[2.0, 0.3]] * 2, t, vdp.init(), method=method, **control)
        assert one.y.shape == (7, 2) and np.array_equal(one.y, batch.y[0])
        assert np.abs(one.y - two.y[0]).max() < 1e-12 and np.array_equal(two.y[0], two.y[1])
        assert isinstance(one.stats.nfe, int) and one.stats.nfe == batch.stats.nfe[0] == two.stats.nfe[0]


# ---- float32


@pytest.mark.parametrize("method", METHODS)
def test_float32(method):
    t = np.linspace(0, 3, 7)
    sol = pn.solve(vdp, np.float32([[2.0, 0.3], [1.0, -1.0]]), t, vdp.init(), method=method, step=0.01)
    assert sol.y.dtype == np.float32 and sol.theta.dtype == np.float32
    want = pn.solve(vdp, np.float32([[2.0, 0.3], [1.0, -1.0]]).astype(float), t, vdp.init(), method=method, step=0.01)
    assert np.abs(sol.y - want.y).max() < (1e-4 if method == "rodas5p" else 3e-5)  # its coefficients are large
    assert pn.solve(vdp, [2.0, 0.3], t, vdp.init(), dtype=np.float32, method=method, step=0.01).y.dtype == np.float32
    if method in ADAPTIVE:
        sol = pn.solve(vdp, np.float32([2.0, 0.3]), t, vdp.init(), method=method, rtol=1e-4, atol=1e-5)
        assert np.abs(sol.y - scipy_solution(vdp, [2.0, np.float64(np.float32(0.3))], t)).max() < 3e-3


def test_time_is_double_in_float32():
    # 1e7 steps of 1e-7 would not move a float32 time; here the fixed grid is exact
    @pn.field(state=1)
    def one(t, y):
        return [1.0 + 0 * t]

    sol = pn.solve(one, np.float32([0.0]), 1e6 + np.array([0, 0.25]), method="euler", step=1e-3, steps=True)
    assert sol.stats.accepted == 250 and sol.y[-1, 0] == pytest.approx(0.25, rel=1e-5)


# ---- Independence of the batch, threads, instruction sets


def hard_batch(rng, n, dtype=np.float64):
    """Samples of very different difficulty and length."""
    y0 = (rng.normal(size=(n, 2)) * 10 ** rng.uniform(-1, 1, (n, 1))).astype(dtype)
    t = [np.sort(rng.uniform(0, 4, rng.integers(1, 12))) for _ in range(n)]
    return y0, [x[::-1].copy() if i % 4 == 0 else x for i, x in enumerate(t)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("method", METHODS)
def test_results_do_not_depend_on_neighbours(method, dtype):
    rng = np.random.default_rng(4)
    f = pn.mlp(2, (9,), time=True, gain=2.0)
    y0, t = hard_batch(rng, 70, dtype)
    loose = {"rtol": 1e-6, "atol": 1e-6} if dtype == np.float64 else {"rtol": 1e-3, "atol": 1e-4}
    for options in [
        {"step": 0.1},
        *([{"step": 0.1, "coupling": 0.9}] if method in REVERSIBLE else []),
        *([loose, loose | {"save": "land"}] if method in ADAPTIVE else []),
    ]:
        whole = pn.solve(f, y0, t, f.init(1), method=method, errors="ignore", **options)
        for n in (2, 3, 7, 8, 16, 17, 31, 33, 64):
            some = rng.permutation(70)[:n]
            part = pn.solve(f, y0[some], [t[i] for i in some], f.init(1), method=method, errors="ignore", **options)
            for j, i in enumerate(some):
                assert np.array_equal(part.y[j], whole.y[i], equal_nan=True)
                for name in ("nfe", "accepted", "rejected"):
                    assert getattr(part.stats, name)[j] == getattr(whole.stats, name)[i], name


@pytest.mark.filterwarnings("ignore::pynode.StiffnessWarning")  # it is meant
def test_stiff_and_failing_neighbours():
    y0 = np.array([[2.0, 0.1], [2.0, 0.1], [1e3, 0.0], [np.nan, 0.0], [2.0, 0.1], [1e300, 1e300]])
    sol = pn.solve(vdp, y0, np.linspace(0, 2, 5), [3.0], errors="ignore", max_steps=3000)
    alone = pn.solve(vdp, y0[:2], np.linspace(0, 2, 5), [3.0])
    assert all(np.array_equal(sol.y[i], alone.y[0]) for i in (0, 1, 4))
    assert sol.stats.nfe[0] == alone.stats.nfe[0] < sol.stats.nfe[2]
    assert [pn.STATUS[s] for s in sol.status[[0, 1, 3, 4]]] == ["ok", "ok", "bad_input", "ok"] and sol.status[5] != 0


def test_threads():
    rng = np.random.default_rng(5)
    y0, t = hard_batch(rng, 700)
    f = pn.mlp(2, (9,), time=True, gain=2.0)
    one = pn.solve(f, y0, t, f.init(1), threads=1, dense=True)
    for threads in (2, 3, 16):
        sol = pn.solve(f, y0, t, f.init(1), threads=threads, dense=True)
        assert all(np.array_equal(a, b) for a, b in zip(sol.y, one.y, strict=True))
        assert np.array_equal(sol.stats.nfe, one.stats.nfe)
        assert all(np.array_equal(a, b) for a, b in zip(sol.steps, one.steps, strict=True))


@pytest.mark.parametrize("isa", pn.ISAS)
@pytest.mark.parametrize("n", [1, 37])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_instruction_sets(isa, n, dtype):
    rng = np.random.default_rng(6)
    f = pn.mlp(3, (9, 4), time=True)
    y0, t = rng.normal(size=(n, 3)).astype(dtype), np.linspace(0, 2, 5)
    before, results = pn.isa(), []
    try:
        for name in (isa, "plain"):
            pn.set_isa(name)
            sol = pn.solve(f, y0, t, f.init(1), method="rk4", step=0.05)
            assert sol.stats.backend == name
            results.append(sol.y)
            again = pn.solve(f, y0, t, f.init(1), method="rk4", step=0.05).y
            assert np.array_equal(again, sol.y)
    finally:
        pn.set_isa(before)
    assert np.abs(results[0] - results[1]).max() < (1e-13 if dtype == np.float64 else 1e-5)
    with pytest.raises(ValueError):
        pn.set_isa("z80")


# ---- Bookkeeping


@pytest.mark.parametrize("save", ["interpolate", "land"])
@pytest.mark.parametrize("method", EXPLICIT)  # of functions of Python; the others: test_rosenbrock.py
def test_evaluations_are_counted(method, save):
    calls = []

    def f(t, y):
        calls.append(t)
        return np.array([y[1], -np.sin(y[0]) + 0.1 * np.cos(t)])

    traced = pn.field(state=2)(lambda t, y: [y[1], -np.sin(y[0]) + 0.1 * np.cos(t)])
    t = np.linspace(0, 4, 9)
    row = pn.METHODS[method]
    cases = [{"step": 0.11}, {"step": 0.125}, {"step": 0.11, "dense": True}]
    cases += [{"step": 0.11, "coupling": 0.9}] if method in REVERSIBLE else []
    for options in cases + ([{}, {"rtol": 1e-3, "first_step": 2.0}, {"coupling": 0.9}] if method in ADAPTIVE else []):
        calls.clear()
        sol = pn.solve(f, [1.0, 0.2], t, method=method, save=save, **options)
        assert sol.stats.backend == "callback" and sol.stats.nfe == len(calls)
        again = pn.solve(traced, [1.0, 0.2], t, method=method, save=save, **options)
        assert again.stats.backend == pn.isa()
        assert (again.stats.nfe, again.stats.accepted, again.stats.rejected) == (
            len(calls),
            sol.stats.accepted,
            sol.stats.rejected,
        )
        assert np.abs(again.y - sol.y).max() < 1e-12
        if options == {"step": 0.125} and save == "land":  # no saves inside: s evaluations a step
            assert sol.stats.nfe == 32 * row["s"]
        if options == {} and save == "land" and row["error_uses_new"]:  # first same as last
            attempts = sol.stats.accepted + sol.stats.rejected
            assert sol.stats.nfe == row["s"] * attempts + 2


def test_stats_of_a_batch():
    sol = pn.solve(vdp, [[2.0, 0.0], [0.1, 0.1]], [[0.0, 1.0], [1.0, 1.0]], vdp.init())
    assert sol.stats.nfe.dtype == sol.stats.accepted.dtype == np.int64
    assert sol.stats.nfe[0] > 0 and sol.stats.nfe[1] == 0


# ---- Failures


@pn.field(state=1)
def square(t, y):
    return y**2  # 1 / (1/y0 - t)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_blow_up_ends(method):
    t = np.linspace(0, 1, 6)
    with pytest.warns(pn.SolveWarning, match=r"1 of 3 samples failed; sample 1: .* at t = 0\.(5|49)"):
        sol = pn.solve(square, [[0.5], [2.0], [-1.0]], t, method=method)
    assert sol.status[0] == sol.status[2] == 0 and pn.STATUS[sol.status[1]] in ("step_too_small", "non_finite", "max_steps")
    assert not sol.ok
    assert np.isfinite(sol.y[1, :3]).all() and np.isnan(sol.y[1, 3:]).all()  # t = 0.4 is before the pole at 0.5
    assert np.abs(sol.y[1, :3, 0] - 1 / (0.5 - t[:3])).max() < 1e-2
    assert np.abs(sol.y[[0, 2], :, 0] - [1 / (2 - t), 1 / (-1 - t)]).max() < 1e-4
    with pytest.raises(pn.SolveError, match=r"at t = 0\.(5|49)"):
        pn.solve(square, [2.0], t, method=method, errors="raise")
    assert pn.solve(square, [2.0], t, method=method, errors="ignore").status == sol.status[1]


@pytest.mark.parametrize("method", REVERSIBLE)  # implicit ones step over the pole
@pytest.mark.parametrize("coupling", [0.0, 0.9])
def test_blow_up_with_fixed_steps(method, coupling):
    sol = pn.solve(
        square, [[0.5], [2.0]], np.linspace(0, 3, 31), method=method, step=0.05, coupling=coupling, errors="ignore"
    )
    assert pn.STATUS[sol.status[1]] == "non_finite" and np.isnan(sol.y[1, -1, 0])
    first = np.flatnonzero(np.isnan(sol.y[1, :, 0]))[0]
    assert np.isfinite(sol.y[1, :first]).all() and np.isnan(sol.y[1, first:]).all() and first > 5
    assert "component 0" in sol.message(1)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_field_that_becomes_nan(method):
    @pn.field(state=2)
    def f(t, y):
        return [1.0 + 0 * y[0], np.sqrt(1 - y[0]) - y[1]]

    sol = pn.solve(f, [0.0, 0.3], [0.0, 0.5, 2.0], method=method, errors="ignore", rtol=1e-4)
    assert pn.STATUS[sol.status] in ("non_finite", "step_too_small")
    assert np.isfinite(sol.y[1]).all() and np.isnan(sol.y[2]).all()
    assert sol.message().split(" at t = ")[1].startswith(("1:", "1 ", "0.99", "1."))
    never = pn.field(state=1)(lambda t, y: y / (0 * y))
    sol = pn.solve(never, [1.0], [0.0, 1.0], method=method, errors="ignore")
    assert pn.STATUS[sol.status] == "non_finite" and np.array_equal(sol.y[0], [1.0]) and np.isnan(sol.y[1, 0])


def test_max_steps():
    t = np.linspace(0, 5, 6)
    free = pn.solve(vdp, [2.0, 0.0], t, vdp.init())
    needed = free.stats.accepted + free.stats.rejected
    assert pn.solve(vdp, [2.0, 0.0], t, vdp.init(), max_steps=needed).ok
    sol = pn.solve(vdp, [2.0, 0.0], t, vdp.init(), max_steps=needed - 1, errors="ignore", steps=True)
    assert pn.STATUS[sol.status] == "max_steps" and "max_steps" in sol.message()
    assert sol.stats.accepted + sol.stats.rejected == needed - 1
    done = t <= sol.steps[-1]
    assert not done.all() and np.array_equal(sol.y[done], free.y[done]) and np.isnan(sol.y[~done]).all()
    assert (
        pn.STATUS[pn.solve(vdp, [2.0, 0.0], t, vdp.init(), step=0.01, max_steps=10, errors="ignore").status] == "max_steps"
    )


def test_step_too_small():
    # the slope jumps by more than any step can follow
    @pn.field(state=1)
    def kick(t, y):
        return [1 / (1e-300 + (t - 0.5) ** 2)]

    sol = pn.solve(kick, [0.0], [0.0, 0.3, 1.0], errors="ignore")
    assert pn.STATUS[sol.status] in ("step_too_small", "non_finite") and np.isfinite(sol.y[1]).all()
    assert sol.stats.accepted + sol.stats.rejected < 5000


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_initial_states(bad):
    sol = pn.solve(vdp, [[2.0, bad], [2.0, 0.0]], [0.0, 1.0], vdp.init(), errors="ignore")
    assert pn.STATUS[sol.status[0]] == "bad_input" and np.isnan(sol.y[0]).all() and sol.status[1] == 0
    assert sol.stats.nfe[0] == 0


def test_overflow_of_a_stage_only_is_a_rejection():
    # a first step far too large overflows; the control recovers
    exponential = pn.field(state=1)(lambda t, y: -np.exp(y))
    sol = pn.solve(exponential, [1.0], [0.0, 1.0], first_step=1e6, rtol=1e-9, atol=1e-9)
    assert sol.stats.rejected > 0
    assert sol.y[-1, 0] == pytest.approx(-np.log(np.exp(-1) + 1), abs=1e-8)


# ---- Tolerances


@pytest.mark.filterwarnings("ignore:component:pynode.ToleranceWarning")  # it is meant
def test_atol_of_each_component():
    f = pn.field(state=2)(lambda t, y: [y[1], -100 * y[0]])
    want = np.array([np.cos(10.0), -10 * np.sin(10.0)])
    errors = [
        np.abs(pn.solve(f, [1.0, 0.0], [0, 1], rtol=0.0, atol=a).y[-1] - want) for a in ([1e-9, 1e3], [1e3, 1e-9], 1e-9)
    ]
    assert errors[0][0] < 1e-6 and errors[1][1] < 1e-5 and errors[2].max() < 1e-6
    steps = [
        pn.solve(f, [1.0, 0.0], [0, 1], rtol=0.0, atol=a).stats.accepted for a in ([1e-9, 1e3], [1e3, 1e-8], [1e3, 1e3])
    ]
    assert 3 * steps[2] < min(steps[:2])


def test_relative_tolerance_scales_with_the_state():
    f = pn.field(state=1)(lambda t, y: -y * (1 + 0 * t))
    small, large = (pn.solve(f, [s], [0, 1], rtol=1e-7, atol=0.0) for s in (1e-12, 1e12))
    assert small.stats.accepted == large.stats.accepted
    assert small.y[-1, 0] / 1e-12 == pytest.approx(large.y[-1, 0] / 1e12, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_instruction_sets_differ_by_rounding_where_the_field_is_smooth(seed):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(3, 3))
    A = A - A.T - 0.3 * np.eye(3)
    c = rng.normal(size=3)
    w = rng.normal(size=3)
    f = pn.field(state=3)(lambda t, y: [A[i] @ y + np.sin(w[i] * t + c[i]) for i in range(3)])
    before = pn.isa()
    y0 = rng.normal(size=(9, 3))
    found = []
    try:
        for isa in pn.ISAS:
            pn.set_isa(isa)
            found.append(pn.solve(f, y0, np.linspace(0, 20, 21), rtol=1e-6, atol=1e-8))
    finally:
        pn.set_isa(before)
    for other in found[1:]:
        assert (other.stats.accepted == found[0].stats.accepted).all()
        np.testing.assert_allclose(other.y, found[0].y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_many_times_in_a_step(d, dtype, backwards):
    @pn.field(state=d)
    def turning(t, y):
        return np.cos(3.0 * t) - 0.1 * y * y

    y0 = np.linspace(0.0, 1.0, 5 * d).reshape(5, d).astype(dtype)
    t = np.linspace(0, 2, 203)[:: -1 if backwards else 1]
    for first in (y0, y0[0]):
        all_times = pn.solve(turning, first, t, rtol=1e-3, atol=1e-3).y
        for k in (*range(1, 40), 150, 201):
            few = pn.solve(turning, first, t[[0, k, -1]], rtol=1e-3, atol=1e-3).y
            assert np.array_equal(few[..., 1, :], all_times[..., k, :])
