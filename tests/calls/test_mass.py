"""Mass matrices and differential-algebraic equations: against the same equations without, closed forms, frozen steps."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import pynode as pn
from pynode.engine.saltation import rate_of_change

TIMES = np.concatenate([[0.0], np.logspace(-2, 5, 8)])
TIGHT = {"method": "rodas5p", "rtol": 1e-8, "atol": [1e-10, 1e-14, 1e-10]}


@pn.field(state=3)
def robertson(t, y):
    back = 1e4 * y[1] * y[2]
    return [back - 0.04 * y[0], 0.04 * y[0] - back - 3e7 * y[1] ** 2, 3e7 * y[1] ** 2]


@pn.field(state=3)
def conserved(t, y):
    back = 1e4 * y[1] * y[2]
    return [back - 0.04 * y[0], 0.04 * y[0] - back - 3e7 * y[1] ** 2, y[0] + y[1] + y[2] - 1.0]


@pn.field(state=5, theta={"g": 9.81})
def pendulum(t, z, th):  # of index 1: the tension from the second derivative of the constraint
    x, y, u, v, tension = z
    return [u, v, -tension * x, -tension * y - th.g, u * u + v * v - tension * (x * x + y * y) - th.g * y]


PENDULUM = {"method": "rodas5p", "mass": np.diag([1.0, 1.0, 1.0, 1.0, 0.0])}


def test_robertson_as_a_dae():
    plain = pn.solve(robertson, [1.0, 0.0, 0.0], TIMES, **TIGHT).y
    dae = pn.solve(conserved, [1.0, 0.0, 0.0], TIMES, mass=[1.0, 1.0, 0.0], **TIGHT).y
    np.testing.assert_allclose(dae, plain, atol=1e-13)
    reference = solve_ivp(robertson, (0, 1e5), [1.0, 0, 0], "Radau", TIMES, rtol=1e-10, atol=1e-14).y.T
    np.testing.assert_allclose(dae, reference, rtol=1e-6, atol=1e-9)


def test_pendulum_of_index_one():
    start = pn.consistent_state(pendulum, [1.0, 0, 0, 0, 5.0], [9.81], mass=PENDULUM["mass"])
    assert abs(start[4]) < 1e-12
    t = np.linspace(0, 2, 9)
    y = pn.solve(pendulum, start, t, [9.81], rtol=1e-9, atol=1e-9, **PENDULUM).y
    angle = solve_ivp(lambda _, a: [a[1], -9.81 * np.cos(a[0])], (0, 2), [0, 0], t_eval=t, rtol=1e-11, atol=1e-12).y[0]
    np.testing.assert_allclose(y[:, :2], np.stack([np.cos(angle), np.sin(angle)], axis=1), atol=1e-8)


def test_every_sample_has_a_theta_of_its_own():
    scaled = pn.field(state=2, theta=(2,))(lambda t, y, th: [-th[0] * y[0], th[1] * y[0] - y[1]])
    thetas = np.array([[1.0, 2.0], [3.0, 0.5]])
    starts = np.array([[1.0, 2.0], [1.0, 0.5]])
    options = {"method": "rodas5p", "mass": [1.0, 0.0], "rtol": 1e-9, "atol": 1e-9}
    y = pn.solve(scaled, starts, [0.0, 1.0], thetas, **options).y[:, -1]
    np.testing.assert_allclose(y, np.exp(-thetas[:, :1]) * [[1.0, 2.0], [1.0, 0.5]], rtol=1e-8)
    with pytest.raises(ValueError, match="sample 1 does not satisfy"):
        pn.solve(scaled, starts[[0, 0]], [0.0, 1.0], thetas, **options)


def test_gradients_through_a_dae():
    t = np.linspace(0, 2, 9)
    start = pn.consistent_state(pendulum, [1.0, 0, 0, 0, 0], [9.81], mass=PENDULUM["mass"])
    options = PENDULUM | {"grid": np.linspace(0, 2, 65)}
    g = np.random.default_rng(0).normal(size=(9, 5))

    def total(rate, move=0.0):
        consistent = pn.consistent_state(pendulum, start + move, [rate], mass=PENDULUM["mass"])
        return float((pn.solve(pendulum, consistent, t, [rate], **options).y * g).sum())

    back = pn.solve(pendulum, start, t, [9.81], **options).vjp(g, wrt=("theta", "y0"))
    assert back.theta[0] == pytest.approx((total(9.81 + 1e-4) - total(9.81 - 1e-4)) / 2e-4, rel=1e-7)
    forward = pn.sensitivities(pendulum, start, t, [9.81], **options)
    assert (forward.theta[..., 0] * g).sum() == pytest.approx(back.theta[0], rel=1e-11)
    along = np.array([0.0, 1e-5, 0.0, 0.0, 0.0])  # the tension moves by -g along
    assert (total(9.81, along) - total(9.81, -along)) / 2e-5 == pytest.approx(back.y0[1] - 9.81 * back.y0[4], rel=1e-7)


def test_a_regular_mass_matrix_is_a_division():
    M = np.array([[2.0, 0.5], [0.0, 4.0]])
    f = pn.field(state=2, theta={"k": 3.0})(lambda t, y, th: [-th.k * y[0] + y[1] * y[0], np.sin(t) - y[1]])
    inverse = np.linalg.inv(M)
    g = pn.field(state=2, theta={"k": 3.0})(lambda t, y, th: inverse @ f(t, y, th.k[None]))
    t = np.linspace(0, 3, 7)
    a = pn.solve(f, [1.0, 0.5], t, [3.0], method="rodas5p", mass=M, rtol=1e-9, atol=1e-11)
    b = pn.solve(g, [1.0, 0.5], t, [3.0], method="dop853", rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(a.y, b.y, atol=1e-8)
    ones = np.ones((7, 2))
    np.testing.assert_allclose(a.vjp(ones).theta, b.vjp(ones).theta, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mass": [1.0, 1.0, 0.0]}, "method='dopri5' does not"),
        ({"mass": [1.0, 1.0], "method": "rodas4"}, r"mass has shape \(2,\)"),
        ({"mass": [1.0, np.nan, 0.0], "method": "rodas4"}, "mass must be a finite matrix"),
        ({"mass": [1.0, 1.0, 0.0], "method": "rodas4", "y0": [1.0, 0.0, 0.1]}, "does not satisfy the algebraic equations"),
        ({"mass": [1.0, 0.0, 0.0], "method": "rodas4"}, "index is above 1"),
    ],
)
def test_refused(options, words):
    y0 = options.pop("y0", [1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=words):
        pn.solve(conserved, y0, TIMES, **options)


def test_consistent_states_that_cannot_be_had():
    never = pn.field(state=2)(lambda t, y: [y[0], y[1] ** 2 + 1.0])
    with pytest.raises(ValueError, match=r"no state near|index is above 1"):
        pn.consistent_state(never, [1.0, 1.0], mass=[1.0, 0.0])
    with pytest.raises(ValueError, match="y0 must be"):
        pn.consistent_state(never, [1.0], mass=[1.0, 0.0])


@pytest.mark.parametrize("size", [1e-150, 1e-13, 1.0, 1e9])
def test_consistent_states_of_any_size(size):
    circle = pn.field(state=2)(lambda t, y: [-y[0], (y[0] / size) ** 2 + (y[1] / size) ** 2 - 1.0])
    start = pn.consistent_state(circle, [0.6 * size, 3.0 * size], mass=[1.0, 0.0])
    np.testing.assert_allclose(start / size, [0.6, 0.8], rtol=1e-14)
    np.testing.assert_allclose(pn.consistent_state(circle, start, mass=[1.0, 0.0]), start, rtol=1e-15)


def test_components_of_very_different_sizes():
    """Each counts by itself."""
    cubic = pn.field(state=3)(lambda t, y: [-1e-3 * y[0], (y[1] * 1e9) ** 3 + y[1] * 1e9 - y[0] * 1e-6, y[2] - 1e7 * y[0]])
    mass = [1.0, 0.0, 0.0]
    root = np.roots([1.0, 0.0, 1.0, -1.0])[-1].real * 1e-9
    start = pn.consistent_state(cubic, [1e6, 1e-8, 1.0], mass=mass)
    np.testing.assert_allclose(start, [1e6, root, 1e13], rtol=1e-14)
    options = {"method": "ros34pw2", "mass": mass, "step": 0.1}
    pn.solve(cubic, start * [1.0, 1.0 + 1e-7, 1.0], [0.0, 1.0], **options)
    with pytest.raises(ValueError, match=r"component 1 would have to move by about 1\.7e-09"):
        pn.solve(cubic, [1e6, 5e-9, 1e13], [0.0, 1.0], **options)
    with pytest.raises(ValueError, match="component 1 would have to move"):
        pn.solve(cubic, start * [1.0, 1.0 + 1e-5, 1.0], [0.0, 1.0], **options)


def test_a_start_is_consistent_within_the_tolerances_of_its_solve():
    clock = pn.field(state=2)(lambda t, y: [-y[0], y[1] - t - 1e-9])
    options = {"method": "rodas5p", "mass": [1.0, 0.0]}
    pn.solve(clock, [1.0, 0.0], [0.0, 1.0], atol=[1e-8, 1e-8], **options)
    for finer in ({"atol": [1e-8, 1e-10]}, {"step": 0.1}):
        with pytest.raises(ValueError, match="component 1 would have to move by about 1e-09"):
            pn.solve(clock, [1.0, 0.0], [0.0, 1.0], **options, **finer)


@pn.field(state=2, theta={"s": 1.0})
def shares(t, y, th):  # what is left of 1 decays into the other
    return [-th.s * y[0], y[0] + y[1] - 1.0]


SHARES = {"method": "rodas5p", "mass": (1.0, 0.0)}
CALLS = {
    "solve": lambda f, y0, th, o: pn.solve(f, y0, [0.0, 1.0], th, **o),
    "loss_and_grad": lambda f, y0, th, o: pn.loss_and_grad(f, y0, [0.0, 1.0], th, np.zeros((*np.shape(y0)[:-1], 2, 2)), **o),
    "Objective": lambda f, y0, th, o: pn.Objective(f, y0, [0.0, 1.0], np.zeros((*np.shape(y0)[:-1], 2, 2)), **o)(th),
    "sensitivities": lambda f, y0, th, o: pn.sensitivities(f, y0, [0.0, 1.0], th, **o),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("system", [False, True])
def test_every_call_refuses_states_that_are_not_consistent(call, system):
    f = pn.System(shares, events=pn.event(lambda t, y: y[0] - 0.5, reset=lambda t, y: y)) if system else shares
    good, bad = [[1.0, 0.0], [0.5, 0.5], [0.2, 0.8]], [[1.0, 0.0], [0.5, 0.5], [0.2, 0.9]]
    call(f, good, [1.0], SHARES)
    with pytest.raises(ValueError, match=r"y0 of sample 2 does not satisfy.*component 1 would have to move by about 0.1;"):
        call(f, bad, [1.0], SHARES)
    if not system:
        with pytest.raises(ValueError, match="y0 of sample 2 does not satisfy"):
            call(f, bad, np.ones((3, 1)), SHARES)


def test_each_theta_is_looked_at():
    """An equation that has parameters: the next theta may ask for another state."""
    f = pn.field(state=2, theta={"s": 1.0})(lambda t, y, th: [-y[0], y[0] + y[1] - th.s])
    arguments = f, [1.0, 0.0], [0.0, 1.0]
    objective = pn.Objective(*arguments, np.zeros((2, 2)), **SHARES)
    problem = pn.SensitivityProblem(*arguments, **SHARES)
    pn.loss_and_grad(*arguments, np.ones(1), np.zeros((2, 2)), **SHARES)
    value, again = objective(np.ones(1)), problem.run(np.ones(1))
    assert np.isfinite(value[0]) and (again["status"] == 0).all()
    for wrong in (
        lambda: objective(np.full(1, 1.1)),
        lambda: objective.value(np.full(1, 1.1)),
        lambda: problem.run(np.full(1, 1.1)),
        lambda: problem.run(np.ones(1), y0=[[1.0, 0.1]]),
        lambda: pn.loss_and_grad(*arguments, np.full(1, 1.1), np.zeros((2, 2)), **SHARES),
    ):
        with pytest.raises(ValueError, match=r"would have to move by about 0\.1;"):
            wrong()
    problem.run(np.full(1, 1.1), y0=[[1.0, 0.1]])
    with pytest.raises(ValueError, match=r"y0 has shape \(1, 3\)"):
        problem.run(np.ones(1), y0=np.zeros((1, 3)))


def test_inputs_and_times_of_each_sample_count():
    f = pn.field(state=2, inputs=1)(lambda t, y, u: [-y[0], y[0] + y[1] - u[0] * (1 + t)])
    options = {"method": "rodas4", "mass": [1.0, 0.0], "inputs": np.array([[1.0], [2.0]])}
    t = np.array([[0.0, 1.0], [1.0, 2.0]])
    sol = pn.solve(f, [[1.0, 0.0], [1.0, 3.0]], t, **options)
    np.testing.assert_allclose(sol.y.sum(axis=2), [[1.0, 2.0], [4.0, 6.0]], rtol=1e-6)
    with pytest.raises(ValueError, match="sample 1 does not satisfy"):
        pn.solve(f, [[1.0, 0.0], [1.0, 1.0]], t, **options)


def test_equations_that_are_nan_end_their_sample():
    f = pn.field(state=2)(lambda t, y: [-y[0], y[0] + y[1] - np.sqrt(y[0])])
    with pytest.warns(pn.SolveWarning, match="Jacobian or the state is NaN"):
        sol = pn.solve(f, [[1.0, 0.0], [-1.0, 0.0]], [0.0, 0.5], method="rodas4", mass=[1.0, 0.0])
    assert (sol.status == 0).tolist() == [True, False]
    with pytest.raises(ValueError, match="NaN or infinite at t = 0"):
        pn.consistent_state(f, [-1.0, 0.0], mass=[1.0, 0.0])


def test_events_know_the_slope_that_a_mass_matrix_makes():
    """-y' = cos(t): y = 1 - sin(t) falls from where g is 0, rises through it at pi; and a gradient at an event at once."""
    f = pn.field(state=1)(lambda t, y: [np.cos(t) + 0 * y[0]])
    level = pn.event(lambda t, y: y[0] - 1.0, terminal=False)
    tight = {"method": "rodas5p", "rtol": 1e-9, "atol": 1e-10}
    sol = pn.solve(f, [1.0], [0.0, 4.0], mass=[-1.0], events=level, **tight)
    np.testing.assert_allclose(sol.events.t, [np.pi], rtol=1e-7)
    solid = pn.System(f, jump=pn.field(state=1)(lambda t, y: [y[0] + 1]), events=level)
    found = pn.loss_and_grad(
        solid, [3.0], [0.0, 1.0, 1.0], None, np.zeros((3, 1)), loss="sse", wrt="t", mass=[-2.0], **tight
    )
    y = np.array([4.0, 5 - np.sin(1.0) / 2, 6 - np.sin(1.0) / 2])
    by_end = -np.cos(1.0) / 2 * 2 * (y[1] + y[2])
    np.testing.assert_allclose([found.t[0], found.t[1] + found.t[2]], [(y[1] + y[2]), by_end], rtol=1e-6)


def test_slopes_of_algebraic_variables():
    """x' = -x + u, 0 = x + sin(t) + 2 u - z, at a point: z' = x' + cos(t) + 2 u'."""
    f = pn.field(state=2, inputs=1)(lambda t, y, u: [-y[0] + u[0], y[0] + np.sin(t) + 2 * u[0] - y[1]])
    t, y = np.array([0.4]), np.array([[0.3, 0.0]])
    u, du = np.array([[0.2]]), np.array([[0.7]])
    y[0, 1] = y[0, 0] + np.sin(0.4) + 2 * 0.2
    slope = rate_of_change(f, np.diag([1.0, 0.0]), t, y, np.zeros(0), f(t, y, np.zeros(0), u), u, du)
    np.testing.assert_allclose(slope, [[-0.1, -0.1 + np.cos(0.4) + 1.4]], rtol=1e-12)
