"""Rosenbrock methods with all that surrounds a solve: inputs, events, jumps, batches, threads, float32, counts, failures;
and what they refuse."""

import numpy as np
import pytest
from stiff_cases import CASES

import pynode as pn

METHODS = [name for name, row in pn.METHODS.items() if row["gamma"] > 0]
methods = pytest.mark.parametrize("method", METHODS)
TOLERANCES = {"rosenbrock23": 1e-4, "ros34pw2": 1e-5, "rodas4": 1e-7, "rodas5p": 1e-8}
"""Of the result, at rtol = atol = 1e-8."""

TIGHT = {"rtol": 1e-8, "atol": 1e-8}


@pn.field(state=2, theta={"mu": 30.0})
def vdp(t, y, th):
    return [y[1], th.mu * (1 - y[0] ** 2) * y[1] - y[0]]


# ---- Inputs


@pytest.mark.parametrize("kind", ["constant", "previous", "linear", "cubic"])
@methods
def test_inputs(method, kind):
    """y' = -rate (y - u(t)), against an explicit method of order 8. The forms with f_t need the slope of the signal."""
    f = pn.field(state=1, inputs=1)(lambda t, y, u: -20.0 * (y - u) + 0.1 * t * u)
    rng = np.random.default_rng(0)
    knots = np.array([0.0, 0.4, 0.5, 1.1, 2.0])
    signal = (
        pn.Signal(None, rng.normal(size=1), kind) if kind == "constant" else pn.Signal(knots, rng.normal(size=(5, 1)), kind)
    )
    t = np.linspace(0, 2, 21)
    want = pn.solve(f, [0.3], t, inputs=signal, method="dop853", rtol=1e-11, atol=1e-11).y
    got = pn.solve(f, [0.3], t, inputs=signal, method=method, **TIGHT).y
    assert np.abs(got - want).max() < TOLERANCES[method]


@pytest.mark.parametrize("kind", ["linear", "cubic"])
@methods
def test_order_with_inputs(method, kind):
    f = pn.field(state=1, inputs=1)(lambda t, y, u: -y * y + u * u)
    knots = np.array([0.0, 0.5, 1.0])
    signal = pn.Signal(knots, np.array([[0.2], [1.0], [0.1]]), kind)
    want = pn.solve(f, [0.3], [0.0, 1.0], inputs=signal, method="dop853", rtol=1e-13, atol=1e-14).y[-1]
    errors = [
        np.abs(pn.solve(f, [0.3], [0.0, 1.0], inputs=signal, method=method, step=0.5 / n).y[-1] - want).max()
        for n in ((4, 8, 16) if pn.METHODS[method]["order"] > 3 else (8, 16, 32))
    ]
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert slopes[-1] > pn.METHODS[method]["order"] - 0.4, errors


# ---- Events, jumps


@methods
def test_events_with_resets(method):
    bounce = pn.event(lambda t, y: y[0], direction=-1, reset=lambda t, y: [0 * y[0], -0.7 * y[1]])
    ball = pn.field(state=2)(lambda t, y: [y[1], -9.81 - 0.2 * y[1] * abs(y[1])])
    t = np.linspace(0, 1.9, 20)
    want = pn.solve(ball, [1.0, 0.0], t, method="dop853", rtol=1e-11, atol=1e-12, events=bounce)
    sol = pn.solve(ball, [1.0, 0.0], t, method=method, events=bounce, **TIGHT)
    assert len(sol.events.t) == len(want.events.t) > 2
    np.testing.assert_allclose(sol.events.t, want.events.t, rtol=0, atol=TOLERANCES[method])
    assert np.abs(sol.y - want.y).max() < 100 * TOLERANCES[method]


@methods
def test_a_terminal_event(method):
    decay = pn.field(state=1)(lambda t, y: -y)
    halt = pn.event(lambda t, y: y[0] - 0.5, terminal=True)
    sol = pn.solve(decay, [2.0], [0.0, 10.0], method=method, events=halt, **TIGHT)
    assert sol.events.t[0] == pytest.approx(np.log(4.0), abs=TOLERANCES[method])


@methods
def test_jumps(method):
    system = pn.System(vdp, jump=pn.field(state=2, inputs=1)(lambda t, y, x: [y[0] + x[0], y[1] * np.cos(x[0])]))
    t = np.linspace(0, 3, 7)
    data = np.full((7, 1), np.nan)
    data[[2, 4], 0] = 0.3, -0.5
    want = pn.solve(system, [2.0, 0.0], t, vdp.init(), data=data, method="dop853", rtol=1e-11, atol=1e-12).y
    got = pn.solve(system, [2.0, 0.0], t, vdp.init(), data=data, method=method, **TIGHT).y
    assert np.abs(got - want).max() < 10 * TOLERANCES[method]


# ---- Batches, precision, threads


def stiff_batch(n):
    """Robertson's reaction with other rates and times for each sample, some backwards over a short time."""
    case = CASES["rober"]
    rng = np.random.default_rng(0)
    theta = case.theta * np.exp(0.3 * rng.normal(size=(n, 3)))
    t = [np.append(0.0, np.sort(10 ** rng.uniform(-3, 4, 1 + i % 5))) for i in range(n)]
    y0 = np.array(case.y0) + [[0.0, 0.0, 0.1 * i] for i in range(n)]
    return case, y0, t, theta


@pytest.mark.parametrize("save", ["interpolate", "land"])
@methods
def test_a_batch_of_37_has_the_bits_of_smaller_ones(method, save):
    case, y0, t, theta = stiff_batch(37)
    options = {"method": method, "save": save, "rtol": 1e-5, "atol": np.array(case.atol)}
    whole = pn.solve(case.field, y0, t, theta, **options)
    for some in (np.arange(2), np.arange(5, 14), np.arange(37)[::-1]):
        part = pn.solve(case.field, y0[some], [t[i] for i in some], theta[some], **options)
        for j, i in enumerate(some):
            assert np.array_equal(part.y[j], whole.y[i])
            assert part.stats.nfe[j] == whole.stats.nfe[i]
    for i in range(0, 37, 5):  # one lane adds in another order
        one = pn.solve(case.field, y0[i], t[i], theta[i], **options)
        np.testing.assert_allclose(one.y, whole.y[i], rtol=1e-6, atol=1e-12)
    for threads in (1, 2, 5):
        same = pn.solve(case.field, y0, t, theta, threads=threads, **options)
        assert all(np.array_equal(a, b) for a, b in zip(same.y, whole.y, strict=True))


@methods
def test_one_lane_and_blocks_on_the_same_steps(method):
    case, y0, t, theta = stiff_batch(37)
    ends = [
        pn.solve(case.field, y0[i], t[i], theta[i], method=method, rtol=1e-3, atol=1e-8, steps=True).steps for i in range(37)
    ]
    whole = pn.solve(case.field, y0, t, theta, method=method, grid=ends)
    for i in range(37):
        one = pn.solve(case.field, y0[i], t[i], theta[i], method=method, grid=ends[i])
        np.testing.assert_allclose(one.y, whole.y[i], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("isa", pn.ISAS)
@methods
def test_instruction_sets(method, isa):
    case, y0, t, theta = stiff_batch(19)
    ends = pn.solve(case.field, y0, t, theta, method=method, rtol=1e-3, atol=1e-8, steps=True).steps
    before, found = pn.isa(), []
    try:
        for name in (isa, "plain"):
            pn.set_isa(name)
            found.append(pn.solve(case.field, y0, t, theta, method=method, grid=ends).y)
    finally:
        pn.set_isa(before)
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-15)


@methods
def test_float32(method):
    t = np.linspace(0, 3, 7)
    want = pn.solve(vdp, [[2.0, 0.3], [1.0, -1.0]], t, vdp.init(), method="rodas5p", **TIGHT).y
    sol = pn.solve(vdp, np.float32([[2.0, 0.3], [1.0, -1.0]]), t, vdp.init(), method=method, rtol=1e-4, atol=1e-5)
    assert sol.y.dtype == np.float32 and np.abs(sol.y - want).max() < 2e-2


@methods
def test_backwards(method):
    t = np.linspace(0, 0.4, 5)
    there = pn.solve(vdp, [1.5, 0.3], t, vdp.init(), method=method, rtol=1e-9, atol=1e-9)
    back = pn.solve(vdp, there.y[-1], t[::-1].copy(), vdp.init(), method=method, rtol=1e-9, atol=1e-9)
    assert np.abs(back.y[::-1] - there.y).max() < 1e-2  # errors grow on the way back


@methods
def test_a_system_and_its_copies_take_the_same_steps(method):
    case = CASES["hires"]
    one = pn.solve(case.field, case.y0, case.t, case.theta, method=method, rtol=1e-4, atol=1e-7)
    many = pn.solve(case.field, [case.y0] * 20, case.t, case.theta, method=method, rtol=1e-4, atol=1e-7)
    assert (many.stats.accepted == many.stats.accepted[0]).all() and np.array_equal(many.y[0], many.y[-1])
    np.testing.assert_allclose(many.y[0], one.y, rtol=1e-6, atol=1e-10)


@methods
def test_evaluations_are_counted(method):
    s = pn.METHODS[method]["s"]
    sol = pn.solve(vdp, [2.0, 0.0], [0.0, 1.0], vdp.init(), method=method, step=0.05)
    assert sol.stats.accepted == 20 and sol.stats.nfe == 20 * s


# ---- Failures


@methods
def test_a_jacobian_that_is_not_finite_ends_the_sample(method):
    """f is finite there, df/dy is not."""
    root = pn.field(state=2)(lambda t, y: [1 + np.sqrt(y[0]), 0.3 * y[0]])
    t = [0.0, 1.0]
    for options in ({}, {"step": 0.1}):
        for y0 in ([0.0, 1.0], [[0.0, 1.0], [1.0, 1.0]]):
            sol = pn.solve(root, y0, t, method=method, errors="ignore", **options)
            status = np.ravel(sol.status)
            assert pn.STATUS[status[0]] == "non_finite" and np.isnan(np.reshape(sol.y, (-1, 2, 2))[0, 1]).all()
        want = pn.solve(root, [1.0, 1.0], t, rtol=1e-9).y
        assert status[1] == 0 and np.abs(sol.y[1] - want).max() < 1e-2


@methods
def test_a_jacobian_that_is_nan_ends_the_sample(method):
    f = pn.field(state=1)(lambda t, y: 1 + np.sqrt(y) - np.sqrt(2 * y))  # whose derivative is infinity - infinity at 0
    assert np.isnan(pn.jacobian(f, "y")(0.0, [0.0])).all()
    for options in ({}, {"step": 0.1}):
        sol = pn.solve(f, [0.0], [0.0, 1.0], method=method, errors="ignore", **options)
        assert pn.STATUS[sol.status] == "non_finite" and np.isnan(sol.y[1]).all()
        assert sol.stats.accepted == 0 and sol.stats.rejected < 100


@methods
def test_a_singular_matrix_is_a_rejected_step(method):
    """W = 1 - gamma h is 0 for the first step; shorter ones do."""
    f = pn.field(state=2)(lambda t, y: [1.0 * y[0], -y[1]])
    first = 1 / pn.METHODS[method]["gamma"]
    t = [0.0, first]
    sol = pn.solve(f, [1.0, 1.0], t, method=method, first_step=first, rtol=1e-6, atol=1e-6)
    assert sol.stats.rejected > 0 and sol.y[-1, 0] == pytest.approx(np.exp(first), rel=2e-3)
    alone = pn.solve(f, [1.0, 1.0], t, method=method, step=first, errors="ignore")
    assert pn.STATUS[alone.status] == "non_finite" or np.abs(alone.y).max() > 1e10


def test_wrong_states_do_not_disturb_their_neighbours():
    case = CASES["hires"]
    y0 = np.array([case.y0] * 9)
    good = pn.solve(case.field, y0, case.t, case.theta, method="rodas5p")
    y0[[2, 5], 1] = np.nan, 1e300
    bad = pn.solve(case.field, y0, case.t, case.theta, method="rodas5p", errors="ignore")
    assert bad.status[2] != 0 and bad.status[5] != 0
    keep = np.delete(np.arange(9), [2, 5])
    assert np.array_equal(bad.y[keep], good.y[keep])


# ---- What they refuse, in words


@methods
def test_refusals(method):
    with pytest.raises(ValueError, match="no reversible scheme: coupling must be 0"):
        pn.solve(vdp, [2.0, 0.0], [0.0, 1.0], method=method, step=0.1, coupling=0.9)
    target = np.zeros((2, 2))
    for adjoint in ("backsolve", "interpolating", "reversible"):
        with pytest.raises(ValueError, match=f"(?=.*adjoint='{adjoint}')(?=.*method='{method}')"):
            pn.loss_and_grad(vdp, [2.0, 0.0], [0.0, 1.0], vdp.init(), target, method=method, adjoint=adjoint)
    blind = pn.callback_field(lambda t, y: -y, 1)
    with pytest.raises(ValueError, match="has no vjp"):
        pn.loss_and_grad(blind, [1.0], [0.0, 1.0], None, np.zeros((2, 1)), method=method)


def test_a_tableau_of_ones_own_is_explicit():
    with pytest.raises(ValueError, match=r"lower triangular|implicit"):
        pn.Tableau([[0.25, 0.0], [0.5, 0.25]], [0.5, 0.5])
    row = {
        key: pn.METHODS["rodas4"][key]
        for key in ("name", "order", "error_order", "c", "a", "b", "e", "dense", "dense_order")
    }
    with pytest.raises(ValueError, match="row 1 of a sums"):
        pn._core.Tableau(**row)
