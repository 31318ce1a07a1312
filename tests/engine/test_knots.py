"""Steps over the knots of inputs: which signals, how exact, and that gradients are those of the steps taken."""

import functools
import itertools

import numpy as np
import pytest

import pynode as pn
from pynode.data.signal import Signal

TIMES = np.linspace(0, 6, 7)


@pn.field(state=2, inputs=1, theta={"k": 1.0, "c": 0.3, "b": 0.5})
def spring(t, y, th, u):
    return [y[1], u[0] - th.k * y[0] - th.c * y[1] - th.b * y[0] ** 3]


@pn.field(state=1, inputs=1)
def leaky(t, y, u):
    return u - 0.01 * y


def even(n, rate=1.3):
    t = np.linspace(0, 6, n)
    return t, np.sin(rate * t)[:, None]


def uneven(n, seed=0):
    """Knots whose distances differ by factors of a thousand."""
    gaps = 10 ** np.random.default_rng(seed).uniform(-3, 0, n - 1)
    t = np.concatenate([[0.0], np.cumsum(gaps)])
    t *= 6 / t[-1]
    return t, np.cos(t)[:, None]


@pytest.mark.parametrize("kind", ["linear", "cubic"])
@pytest.mark.parametrize("make", [even, uneven])
def test_going_over_knots_keeps_the_tolerance(kind, make):
    t, u = make(400)
    exact = pn.solve(spring, [1.0, 0.0], TIMES, spring.init(0), inputs=Signal(t, u, kind, "step"), rtol=1e-12, atol=1e-12).y
    steps, errors = [], []
    for tolerance in (1e-4, 1e-7):
        signal = Signal(t, u, kind, "smooth")
        sol = pn.solve(spring, [1.0, 0.0], TIMES, spring.init(0), inputs=signal, rtol=tolerance, atol=tolerance)
        steps.append(int(sol.stats.accepted))
        errors.append(np.abs(sol.y - exact).max())
    assert steps[0] < 30 and steps[1] < 399, steps
    assert errors[0] < 2e-3 and errors[1] < 1e-4 and errors[1] < errors[0], errors


def test_backwards_in_time_it_is_the_same_way():
    t, u = even(300)
    signal = Signal(t, u, "linear", "smooth")
    there = pn.solve(spring, [1.0, 0.0], TIMES, spring.init(0), inputs=signal, rtol=1e-9, atol=1e-9).y
    back = pn.solve(spring, there[-1], TIMES[::-1], spring.init(0), inputs=signal, rtol=1e-9, atol=1e-9).y
    assert np.abs(back[::-1] - there).max() < 1e-5


@pytest.mark.parametrize("kind", ["linear", "cubic"])
@pytest.mark.parametrize("method", ["dopri5", "bosh3", "rodas4"])
def test_gradients_are_those_of_the_steps(kind, method):
    t, u = uneven(40)
    signal = Signal(t, u, kind, "smooth")
    target = np.zeros((5, 2))
    keys = {"wrt": ("theta", "y0", "inputs", "t"), "inputs": signal, "method": method}
    result = pn.check_grad(spring, [1.0, 0.0], TIMES[1:-1], spring.init(0), target, **keys)
    assert result.max_error < 1e-6, result


def test_the_interpolating_adjoint_ends_its_pieces_at_knots():
    t, u = even(80)
    signal = Signal(t, u, "linear", "smooth")
    args = spring, [1.0, 0.0], TIMES, spring.init(0), np.zeros((7, 2))
    keys = {"inputs": signal, "rtol": 1e-9, "atol": 1e-9, "wrt": ("theta", "inputs")}
    found = [pn.loss_and_grad(*args, adjoint=a, **keys) for a in ("discrete", "interpolating", "backsolve")]
    for other in found[1:]:
        assert np.abs(other.theta - found[0].theta).max() < 1e-5
        assert np.abs(other.inputs.sum() - found[0].inputs.sum()) < 1e-4
    assert np.abs(found[1].inputs - found[2].inputs).max() < 1e-4 * np.abs(found[1].inputs).max() + 1e-4


def test_sensitivities_and_events_go_over_knots():
    t, u = even(200)
    keys = {"inputs": Signal(t, u, "linear", "smooth"), "rtol": 1e-8, "atol": 1e-8}
    y0 = np.array([1.0, 0.0])
    found = pn.sensitivities(spring, y0, TIMES, spring.init(0), **keys)
    loss = pn.loss_and_grad(spring, y0, TIMES, spring.init(0), np.zeros((7, 2)), loss="sse", **keys)
    assert np.allclose(2 * np.einsum("tc,tcp->p", found.solution.y, found.theta), loss.theta, rtol=1e-9)
    turn = pn.event(lambda t, y: y[1])
    steps = pn.Signal(t, u, "linear", "step")
    both = (keys | {"inputs": s} for s in (keys["inputs"], steps))
    there, same = (pn.solve(spring, y0, TIMES, spring.init(0), events=[turn], **k).events.t for k in both)
    assert 0 < there < 6 and abs(there - same) < 1e-5


@functools.cache
def driven(kind, seed, n):
    """A smooth signal at n knots, what it drives to within 1e-12, and the largest of it."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1000, n)
    rates = rng.uniform(0.002, 0.016, 3)
    phases = rng.uniform(0, 7, 3)
    u = 1000 * np.sin(rates * t[:, None] + phases).sum(axis=1, keepdims=True)
    keys = {"rtol": 1e-12, "atol": 1e-12, "method": "dop853"}
    y = pn.solve(leaky, [0.0], np.linspace(0, 1000, 101), inputs=(t, u, kind, "step"), **keys).y
    return (t, u, kind), y[-1, 0], np.abs(y).max()


@pytest.mark.parametrize("method", ["tsit5", "dopri5", "dop853", "rodas5p"])
@pytest.mark.parametrize("kind", ["linear", "cubic"])
def test_the_default_keeps_the_tolerance_on_smooth_inputs(kind, method):
    """Of the largest state; steps over every knot missed it by factors of thousands (dop853, 101 knots), unseen."""
    for seed, n, tolerance in itertools.product(range(4), (11, 101, 1001), (1e-4, 1e-6, 1e-8)):
        signal, exact, largest = driven(kind, seed, n)
        keys = {"rtol": tolerance, "atol": tolerance, "method": method}
        sol = pn.solve(leaky, [0.0], [0.0, 1000.0], inputs=signal, **keys)
        assert abs(sol.y[-1, 0] - exact) < 2 * tolerance * largest, (seed, n, tolerance)
        assert sol.stats.accepted < 100 or (n, tolerance) != (1001, 1e-4)


def test_the_choice_is_by_the_data_of_each_sample_alone():
    t, u = even(20_000)
    rough = np.random.default_rng(0).standard_normal(u.shape)
    keys = {"rtol": 1e-6, "atol": 1e-6}
    y0 = np.ones((3, 2))
    both = pn.solve(spring, y0, TIMES, spring.init(0), inputs=Signal(t, np.stack([u, rough, 2 * u])), **keys)
    assert both.stats.accepted[1] >= 19_999 > 199 > both.stats.accepted[0]
    for i, v in enumerate((u, rough, 2 * u)):
        alone = pn.solve(spring, y0[:1], TIMES, spring.init(0), inputs=Signal(t, v[None]), **keys)
        assert int(alone.stats.accepted[0]) == int(both.stats.accepted[i])
    t, u = even(200)
    corner = np.minimum(t, 3.0)[:, None]  # one kink among many straight pieces
    span = np.array([[0.0, 6.0]])
    for v, crosses in ((u, True), (rough[:200], False), (corner, False), (np.ones_like(u), True), (t[:, None], True)):
        assert Signal(t, v).pieces(1, float, span, rtol=1e-3).crosses.tolist() == [crosses]
    for kind, rtol, crosses in (("linear", 1e-4, 0), ("cubic", 1e-4, 1), ("cubic", 1e-8, 0), ("cubic", 0.0, 0)):
        assert Signal(t, u, kind).pieces(1, float, span, rtol=rtol).crosses.tolist() == [crosses]
    fine = 3 + np.linspace(-1e-5, 1e-5, 201)  # kinks between near knots move nothing, corners do
    assert not Signal(fine, np.maximum(fine, 3.0)[:, None]).pieces(1, float, fine[None, [0, -1]], rtol=1e-2).crosses[0]


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_do_not_depend_on_threads_or_memory(threads):
    t, u = even(100)
    y0 = np.random.default_rng(1).standard_normal((70, 2))
    objective = pn.Objective(spring, y0, TIMES, np.zeros((70, 7, 2)), inputs=Signal(t, u), threads=threads)
    limited = pn.Objective(spring, y0, TIMES, np.zeros((70, 7, 2)), inputs=Signal(t, u), threads=threads, memory="500KB")
    first = pn.Objective(spring, y0, TIMES, np.zeros((70, 7, 2)), inputs=Signal(t, u), threads=1)(spring.init(0))
    for found in (objective(spring.init(0)), limited(spring.init(0))):
        assert found[0] == first[0] and (found[1] == first[1]).all()


def test_gradients_of_inputs_know_every_knot():
    """Of a knot that no stage looks at, the steps over it have the derivative 0: not by default."""
    t, u = even(300)
    keys = {"rtol": 1e-4, "atol": 1e-4, "wrt": ("inputs",)}
    args = spring, [1.0, 0.0], TIMES, spring.init(0), np.zeros((7, 2))
    assert (pn.loss_and_grad(*args, inputs=Signal(t, u), **keys).inputs != 0).all()
    assert (pn.loss_and_grad(*args, inputs=Signal(t, u, "linear", "smooth"), **keys).inputs == 0).any()


def test_fixed_steps_end_at_knots_unless_told():
    t, u = even(100)
    for knots, least in (("auto", 99), ("smooth", 12)):
        signal = Signal(t, u, "linear", knots)
        sol = pn.solve(spring, [1.0, 0.0], TIMES, spring.init(0), inputs=signal, method="rk4", step=0.5)
        assert int(sol.stats.accepted) == least


def test_a_grid_may_pass_knots_that_steps_go_over():
    t, u = even(100)
    grid = np.linspace(0, 6, 25)
    keys = {"grid": grid, "method": "rk4"}
    over = Signal(t, u, "linear", "smooth")
    assert pn.solve(spring, [1.0, 0.0], TIMES, spring.init(0), inputs=over, **keys).stats.accepted == 24
    with pytest.raises(ValueError, match="a knot of the inputs"):
        pn.solve(spring, [1.0, 0.0], TIMES, spring.init(0), inputs=Signal(t, u, "linear", "step"), **keys)


def test_what_jumps_is_refused_and_names_are_checked():
    with pytest.raises(ValueError, match="knots='smooth' is for inputs without jumps"):
        Signal([0.0, 1.0], [[1.0], [2.0]], "previous", "smooth")
    with pytest.raises(ValueError, match="knots='over' is not one of"):
        Signal([0.0, 1.0], [[1.0], [2.0]], "linear", "over")
    with pytest.raises(ValueError, match="that are constant between knots jump there"):
        pieces = Signal([0.0, 1.0], [[1.0], [2.0]], "previous").pieces(1, float, np.array([[0.0, 1.0]]))
        keys = pieces.arguments() | {"cross_knots": [1]}
        pn._core.Problem(spring.program.core, y0=np.zeros((1, 2)), t=[0.0, 1.0], **keys)


def test_values_that_are_not_finite_end_their_sample_only():
    t, u = even(50)
    values = np.stack([u, u]).astype(np.float64)
    values[1, 40] = 1e300  # overflows in float32
    with np.errstate(over="ignore"), pytest.warns(pn.SolveWarning, match="sample 1: bad_input"):
        sol = pn.solve(
            spring, np.ones((2, 2), np.float32), TIMES, spring.init(0).astype(np.float32),
            inputs=Signal(t, values, "linear", "smooth"),
        )  # fmt: skip
    assert np.isfinite(sol.y[0]).all() and np.isnan(sol.y[1, 1:]).all()


def test_many_knots_and_times_do_not_use_up_the_steps():
    t = np.linspace(0, 6, 100_002)
    rough = np.random.default_rng(0).standard_normal((len(t), 1))
    for kind in ("previous", "linear"):
        assert pn.solve(leaky, [0.0], [0.0, 6.0], inputs=(t, rough, kind)).ok
    assert pn.solve(leaky, [0.0], t, inputs=[[1.0]], save="land").stats.accepted > 100_000
    with pytest.warns(pn.SolveWarning, match="max_steps"):
        pn.solve(leaky, [0.0], [0.0, 6.0], inputs=(t, rough), max_steps=100_000)


def test_check_grad_takes_the_steps_of_the_gradient():
    """Which end at every knot where gradients of the inputs are wanted, though all other steps go over them."""
    t = np.linspace(-1, 3, 5001)
    signal = Signal(t, np.sin(t)[:, None])
    keys = {"inputs": signal, "rtol": 1e-3, "wrt": ("inputs", "theta")}
    assert pn.solve(spring, [1.0, 0.0], [0.0, 2.0], spring.init(0), inputs=signal, rtol=1e-3).stats.accepted < 100
    check = pn.check_grad(spring, [1.0, 0.0], [0.0, 1.0, 2.0], spring.init(0), np.zeros((3, 2)), n_entries=5, **keys)
    assert check.max_error < 1e-6, check


@pytest.mark.parametrize("kind", ["previous", "linear"])
@pytest.mark.parametrize("knots", [[0.0, 1.0, 2.0], [-1.0, 0.0, 1.0, 2.0]])
def test_check_grad_leaves_out_times_on_knots(kind, knots):
    inputs = (knots, np.cos(knots)[:, None], kind)
    lands = pn.event(lambda t, y: y[0] - 0.5, terminal=False)
    for more in ({}, {"save": "land"}, {"step": 0.3}, {"events": lands, "rtol": 1e-11, "atol": 1e-12}):
        keys = {"inputs": inputs, "wrt": ("t",)} | more
        check = pn.check_grad(leaky, [1.0], [0.0, 0.7, 1.0, 1.9], None, np.zeros((4, 1)), **keys)
        assert check.names == ["t[1]", "t[3]"] and check.max_error < 1e-4, check
        near = pn.check_grad(leaky, [1.0], [0.01, 0.7, 1.01, 1.99], None, np.zeros((4, 1)), **keys)
        assert len(near.names) == 4 and near.max_error < 1e-4, near
