"""Steps end where a field jumps with t, so that a pulse is not stepped over."""

import itertools
import pickle

import numpy as np
import pytest

import pynode as pn
from pynode.engine.problem import stops

ADAPTIVE = [name for name, row in pn.METHODS.items() if row["error_order"]]
HOUR = 1 / 24
AT = 100.3
YEAR = 365.0


@pn.field(state=1, theta={"k": 0.01, "rate": 1.0})
def pulse(t, y, th):
    return -th.k * y + th.rate * np.where((t > AT) & (t < AT + HOUR), 1.0, 0.0)


THETA = pulse.init()


def exact(t, k=0.01, rate=1.0, start=0.0):
    """The solution with y(0) = start."""
    t = np.asarray(t, dtype=float)
    on = np.clip(t - AT, 0.0, HOUR)
    since = np.maximum(t - AT - HOUR, 0.0)
    return start * np.exp(-k * t) + rate / k * (1 - np.exp(-k * on)) * np.exp(-k * since)


TIGHT = {"rtol": 1e-10, "atol": 1e-12}


@pytest.mark.parametrize("method", ADAPTIVE)
def test_a_pulse_of_an_hour_in_a_year(method):
    t = np.array([0.0, 50.0, AT + HOUR / 3, YEAR])
    loose = pn.solve(pulse, [0.0], t, THETA, method=method)
    np.testing.assert_allclose(loose.y[:, 0], exact(t), rtol=2e-4 if method == "rosenbrock23" else 2e-5, atol=1e-9)
    if pn.METHODS[method]["order"] > 2:  # others take too many steps
        sol = pn.solve(pulse, [0.0], t, THETA, method=method, **TIGHT)
        np.testing.assert_allclose(sol.y[:, 0], exact(t), rtol=1e-8, atol=1e-15)


@pytest.mark.parametrize(("method", "tolerance"), [("euler", 2e-2), ("heun", 1e-4), ("rk4", 1e-9)])
def test_fixed_steps(method, tolerance):
    """Steps are counted from the jump, as from a knot of an input."""
    sol = pn.solve(pulse, [0.0], [0.0, YEAR], THETA, method=method, step=1.0, steps=True)
    assert sol.y[-1, 0] == pytest.approx(exact(YEAR), rel=tolerance)
    ends = np.asarray(sol.steps)
    assert np.isclose(ends, AT + HOUR + 1.0, rtol=1e-14).any()


def test_no_step_reaches_across():
    sol = pn.solve(pulse, [0.0], [0.0, YEAR], THETA, steps=True)
    ends = np.asarray(sol.steps)
    for at in (AT, AT + HOUR):
        before = ends[ends < at][-1]
        after = ends[ends > at][0]
        assert 0 < at - before < 1e-14 * at and 0 < after - at < 1e-14 * at
    assert sol.stats.rejected < 10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2])
def test_samples_with_times_of_their_own(dtype, threads):
    spans = [(0.0, YEAR), (AT, YEAR), (AT + HOUR / 2, YEAR), (200.0, YEAR), (0.0, AT), (0.0, 10.0), (AT + HOUR, YEAR)] * 5
    y0 = exact([a for a, _ in spans], start=0.5)[:, None].astype(dtype)
    sol = pn.solve(pulse, y0, [np.array(span) for span in spans], THETA, threads=threads)
    found = [y[-1, 0] for y in sol.y]
    expected = exact([b for _, b in spans], start=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-4 if dtype is np.float32 else 2e-6)


def test_backward_in_time():
    end = exact(YEAR, start=0.5)
    sol = pn.solve(pulse, [end], [YEAR, 200.0, 0.0], THETA, **TIGHT)
    np.testing.assert_allclose(sol.y[:, 0], exact([YEAR, 200.0, 0.0], start=0.5), rtol=1e-8)


@pytest.mark.parametrize(
    "options",
    [
        {"save": "land"},
        {"max_step": 3.0},
        {"first_step": 5.0},
        {"method": "rk4", "step": 1.0, "coupling": 0.999},
        {"method": "dopri5", "coupling": 0.999},
    ],
)
def test_options(options):
    """Times on the jumps themselves too."""
    t = np.array([0.0, 10.0, AT, AT + HOUR / 2, AT + HOUR, AT + 1.0, YEAR])
    sol = pn.solve(pulse, [0.0], t, THETA, **({"rtol": 1e-9, "atol": 1e-12} | options))
    np.testing.assert_allclose(sol.y[:, 0], exact(t), rtol=1e-6, atol=1e-12)


def test_a_grid_is_left_as_it_is():
    grid = np.linspace(0.0, YEAR, 366)
    sol = pn.solve(pulse, [0.0], [0.0, YEAR], THETA, method="rk4", grid=grid, steps=True)
    assert np.array_equal(np.asarray(sol.steps), grid)
    early = pn.solve(pulse, [1.0], [0.0, 10.0], THETA, method="rk4", grid=grid[:11], steps=True)
    assert np.array_equal(np.asarray(early.steps), grid[:11])


@pytest.mark.parametrize("way", [1, -1])
@pytest.mark.parametrize("method", ["rk4", "dopri5", "rodas4"])
def test_steps_of_a_grid_that_end_on_jumps(method, way):
    """The last stage before a jump sees what is there before it: the order is the method's, as it is with step=."""
    marks = np.array([0.0, AT, AT + HOUR, YEAR])
    errors = []
    for n in (16, 32):
        grid = np.unique(np.concatenate([np.linspace(a, b, n + 1) for a, b in itertools.pairwise(marks)]))
        t, values = marks[::way], exact(marks, start=50.0)[::way]
        sol = pn.solve(pulse, values[:1], t, THETA, method=method, grid=grid[::way], steps=True)
        errors.append(np.abs(sol.y[:, 0] - values).max())
        added = np.setdiff1d(np.asarray(sol.steps), grid)
        assert set(grid) <= set(np.asarray(sol.steps)) and len(added) == 4
        assert np.abs(added[:, None] - marks).min(axis=1).max() < 1e-14 * YEAR
    assert errors[1] < errors[0] / 2 ** (pn.METHODS[method]["order"] - 0.3)


def test_grids_of_samples_that_end_on_jumps():
    marks = [
        np.array([0.0, AT, AT + HOUR, 150.0]),
        np.array([AT, AT + HOUR, YEAR]),
        np.array([AT + HOUR, 200.0]),
        np.array([YEAR]),
    ]
    grids = [np.unique(np.concatenate([m, np.linspace(m[0], m[-1], 200)])) for m in marks]
    y0 = np.array([exact(m[0], start=50.0) for m in marks])[:, None]
    sol = pn.solve(pulse, y0, marks, THETA, method="rk4", grid=grids)
    for m, y in zip(marks, sol.y, strict=True):
        np.testing.assert_allclose(y[:, 0], exact(m, start=50.0), rtol=1e-9)


def slopes(t, start=0.0):
    """The derivatives of y(t)^2 / 2 with respect to k, rate and y0, by differences of the closed form."""
    step = 1e-6
    loss = lambda k, rate, y0: exact(t, k, rate, y0) ** 2 / 2  # noqa: E731
    at = np.array([0.01, 1.0, start])
    return [(loss(*(at + e)) - loss(*(at - e))) / (2 * step) for e in step * np.eye(3)]


@pytest.mark.parametrize("adjoint", ["discrete", "backsolve", "interpolating", "reversible"])
@pytest.mark.parametrize("start", [0.0, AT])
def test_gradients(adjoint, start):
    options = TIGHT | ({"coupling": 0.999} if adjoint == "reversible" else {})
    t = np.array([start, YEAR])
    wrt = ("theta", "y0", "t")
    value = pn.loss_and_grad(pulse, [0.0], t, THETA, np.array([[np.nan], [0.0]]), wrt=wrt, adjoint=adjoint, **options)
    k, rate, y0 = slopes(YEAR)
    y0 *= np.exp(0.01 * start)
    assert value.loss == pytest.approx(exact(YEAR) ** 2, rel=1e-7) or value.loss == pytest.approx(
        exact(YEAR) ** 2 / 2, rel=1e-7
    )
    factor = value.loss / (exact(YEAR) ** 2 / 2)
    np.testing.assert_allclose(value.theta, factor * np.array([k, rate]), rtol=2e-5)
    if start:  # a state of 0 tells steps before the pulse nothing of the error in its derivative
        assert value.y0[0] == pytest.approx(factor * y0, rel=2e-5)
    assert value.t[1] == pytest.approx(factor * exact(YEAR) * -0.01 * exact(YEAR), rel=2e-5)


def test_gradients_of_the_same_steps():
    """The discrete adjoint is that of the numbers, also with a budget, threads, float32 and many samples."""
    y0 = np.linspace(0.0, 1.0, 9)[:, None]
    t = np.array([0.0, 60.0, AT, 200.0, YEAR])
    target = np.full((9, 5, 1), 0.1)
    result = pn.check_grad(pulse, y0, t, THETA, target, wrt=("theta", "y0"))
    assert result.max_error < 1e-6, result
    whole = pn.loss_and_grad(pulse, y0, t, THETA, target, wrt=("theta", "y0"))
    for options in ({"memory": 20000}, {"threads": 2}):
        other = pn.loss_and_grad(pulse, y0, t, THETA, target, wrt=("theta", "y0"), **options)
        assert np.array_equal(whole.theta, other.theta) and np.array_equal(whole.y0, other.y0)
    single = pn.loss_and_grad(pulse, y0.astype(np.float32), t, THETA, target, wrt=("theta", "y0"))
    np.testing.assert_allclose(single.theta, whole.theta, rtol=1e-3)


def test_sensitivities():
    s = pn.sensitivities(pulse, [0.0], [0.0, YEAR], THETA, **TIGHT)
    step = 1e-6
    k = (exact(YEAR, 0.01 + step) - exact(YEAR, 0.01 - step)) / (2 * step)
    np.testing.assert_allclose(s.theta[-1, 0], [k, exact(YEAR)], rtol=1e-6)


def test_events():
    """The rise during the pulse crosses a level; the reset empties the tank, and the rest of the pulse fills it again."""
    level = 0.02
    event = pn.event(lambda t, y: y[0] - level, direction=1, reset=lambda t, y: 0.0 * y)
    sol = pn.solve(pulse, [0.0], [0.0, YEAR], THETA, events=event, **TIGHT)
    rise = -np.log(1 - 0.01 * level) / 0.01
    np.testing.assert_allclose(sol.events.t, AT + rise * np.arange(1, 3), rtol=1e-10)
    result = pn.check_grad(pulse, [0.0], [0.0, YEAR], THETA, [[0.0], [0.1]], events=event, **TIGHT)
    assert result.max_error < 1e-5, result


def test_jumps_of_a_system():
    @pn.field(state=1, inputs=1)
    def dose(t, y, x):
        return y + x

    t = np.array([0.0, AT, YEAR])
    data = np.array([[np.nan], [0.3], [np.nan]])
    sol = pn.solve(pn.System(pulse, jump=dose), [0.0], t, THETA, data=data, **TIGHT)
    expected = exact(YEAR) + 0.3 * np.exp(-0.01 * (YEAR - AT))
    assert sol.y[-1, 0] == pytest.approx(expected, rel=1e-8)


def test_inputs_with_knots():
    @pn.field(state=1, inputs=1)
    def f(t, y, u):
        return u + np.where((t > 3.0) & (t < 3.01), 100.0, 0.0)

    knots = np.array([0.0, 3.0, 6.0, 900.0])
    values = np.array([0.0, 1.0, 0.0, 0.0])
    for options in ({}, {"method": "rk4", "step": 1.0}):
        sol = pn.solve(f, [0.0], [0.0, 900.0], inputs=(knots, values[:, None], "previous"), **options)
        assert sol.y[-1, 0] == pytest.approx(3.0 + 1.0, rel=1e-7)


def test_a_large_jump_at_a_tight_tolerance():
    """Inside a pair of stops every step is accepted: it cannot be shorter, and is as short as rounding."""

    @pn.field(state=1)
    def f(t, y):
        return 1e9 * np.where((t > 1e4) & (t < 1e4 + 1e-7), 1.0, 0.0) + 0 * y

    sol = pn.solve(f, [0.0], [0.0, 2e4], rtol=1e-12, atol=1e-14, method="dop853")
    assert sol.status == 0
    assert sol.y[-1, 0] == pytest.approx(100.0, rel=3e-3)  # 1e-7 is known to 1e-4 at t = 1e4


def test_a_start_on_the_jump():
    """t > 0 does not hold at the initial time, but right after it."""
    f = pn.field(state=1)(lambda t, y: np.where(t > 0, 1.0, 0.0) + 0 * y)
    for dtype in (np.float32, np.float64):
        sol = pn.solve(f, np.zeros(1, dtype), [0.0, 10.0])
        assert sol.y[-1, 0] == pytest.approx(10.0, rel=1e-6)
        assert sol.stats.rejected == 0
    fixed = pn.solve(f, [0.0], [0.0, 10.0], method="euler", step=1.0)
    assert fixed.y[-1, 0] == pytest.approx(10.0, rel=1e-13)


def test_many_pulses():
    days = np.arange(0.25, 365, 1.0)

    @pn.field(state=1)
    def f(t, y):
        return np.sum(np.where((t > days) & (t < days + 1e-3), 1e3, 0.0)) + 0 * y

    sol = pn.solve(f, [0.0], [0.0, 365.0])
    assert sol.y[-1, 0] == pytest.approx(365.0, rel=1e-9)


def test_in_a_model():
    """A field of one's own in NeuralODE; the model is written to a file and read."""
    t = np.linspace(0.0, YEAR, 20)
    y = exact(t, rate=2.0)[:, None]
    model = pn.NeuralODE(field=pulse, max_iter=60, random_state=0).fit(t, y)
    assert model.predict(t, y[0])[-1, 0] == pytest.approx(exact(YEAR, rate=2.0), rel=1e-2)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(t, y[0]), model.predict(t, y[0]))


def test_pairs():
    pairs = stops(np.array([[1.0, 2.0], [2.0, 4.0], [9.0, 9.0]]), np.array([0.0, 5.0]), np.float64)
    assert len(pairs) == 4 and (np.diff(pairs) > 0).all()
    assert pairs[0] < 1 < pairs[1] and pairs[2] < 2 < pairs[3]
    near = stops(np.array([[1.0, 2.0], [1.0 + 1e-8, 2.0]]), np.array([0.0, 5.0]), np.float32)
    assert len(near) == 2 and near[0] < 1 < 1 + 1e-8 < near[1]
    at_zero = stops(np.array([[0.0, 0.0]]), np.array([0.0, 5.0]), np.float64)
    assert at_zero[0] < 0 < at_zero[1] < 1e-30


def test_the_core_refuses_stops_that_are_no_pairs():
    core = pulse.program.core
    for wrong in ([1.0], [2.0, 1.0], [1.0, np.nan], [1.0, 1.0]):
        with pytest.raises(ValueError, match="stops"):
            pn._core.Problem(core, y0=np.zeros((1, 1)), t=np.array([0.0, 3.0]), stops=np.array(wrong))
