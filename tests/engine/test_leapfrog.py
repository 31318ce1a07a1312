"""Partitioned methods (leapfrog, Yoshida 4): order conditions, orders, symplecticity, reversibility, energy, refusals.

Their gradients and sensitivities are compared with complex steps of an independent integrator in test_gradients.py, where
every method is; here are finite differences on a Hamiltonian.
"""

from itertools import product

import numpy as np
import pytest
import tableau_conditions as tc

import pynode as pn

PARTITIONED = {name: row for name, row in pn.METHODS.items() if row["second"]}
ORDERS = {"leapfrog": (2, 2), "yoshida4": (4, 3)}  # where q' = f(v), v' = g(q); anywhere

method = pytest.mark.parametrize("name", PARTITIONED)


@pn.field(state=2)
def pendulum(t, y):
    return [y[1], -np.sin(y[0])]


def pendulum_energy(y):
    return 0.5 * y[..., 1] ** 2 - np.cos(y[..., 0])


@pn.field(state=6, theta={"k": np.array([1.0, 1.7, 0.6, 1.1]), "cubic": 0.4})
def chain(t, y, th):
    # three masses between two walls, springs that harden
    x = np.concatenate([[0.0], y[:3], [0.0]])
    stretch = x[1:] - x[:-1]
    force = th.k * stretch + th.cubic * stretch**3
    return [y[3], y[4], y[5], *(force[1:] - force[:-1])]


@pn.field(state=2)
def lossy(t, y):
    # q' depends on q, and v' on v: y = exp(-0.3 t) (rotation by t^2 / 2)
    return [-0.3 * y[0] + t * y[1], -t * y[0] - 0.3 * y[1]]


def lossy_exact(t):
    return np.exp(-0.3 * t)[..., None] * np.stack([np.sin(0.5 * t * t + 1), np.cos(0.5 * t * t + 1)], axis=-1)


def reference(f, y0, t):
    return pn.solve(f, y0, t, f.init() if f.n_params else None, method="dop853", rtol=1e-13, atol=1e-14, save="land").y


# ---- Order conditions (Hairer, Lubich, Wanner, Geometric Numerical Integration, III.2.2)


def coloured(tree, parent, alternating):
    """(colour, children) for every colouring of the nodes by half; alternating: no child has its parent's colour."""
    for colour in [1 - parent] if alternating and parent is not None else [0, 1]:
        for children in product(*(list(coloured(child, colour, alternating)) for child in tree)):
            yield colour, children


def stage_weights(node, halves):
    g = np.ones(halves[0]["s"])
    for child in node[1]:
        g = g * (halves[child[0]]["a"][: len(g), : len(g)] @ stage_weights(child, halves))
    return g


def worst_condition(row, order, alternating):
    halves = (row, row["second"])
    return max(
        abs(halves[node[0]]["b"] @ stage_weights(node, halves) - 1 / tc.gamma(tree))
        for tree in tc.trees(order)
        for node in coloured(tree, None, alternating)
    )


@method
def test_order_conditions(name):
    separable, anywhere = ORDERS[name]
    row = PARTITIONED[name]
    assert row["order"] == separable
    for alternating, order in ((True, separable), (False, anywhere)):
        for p in range(1, order + 1):
            assert worst_condition(row, p, alternating) < 1e-14, p
        assert worst_condition(row, order + 1, alternating) > 1e-3


@method
def test_structure(name):
    row, second = PARTITIONED[name], PARTITIONED[name]["second"]
    s = row["s"]
    assert np.array_equal(row["c"], second["c"]) and second["s"] == s and second["dense_degree"] == row["dense_degree"]
    assert row["error_order"] == second["error_order"] == 0 and second["second"] is None
    for half in (row, second):
        assert not np.triu(half["a"]).any() and np.array_equal(half["a"][s, :s], half["b"])
        assert np.abs(half["a"].sum(axis=1) - half["c"]).max() < 1e-14
        dense, powers = half["dense"], np.arange(4)
        assert np.abs(dense.sum(axis=1)[:s] - half["b"]).max() < 1e-14 and dense.sum(axis=1)[s] == 0  # ends in y_new
        assert np.abs(dense[:, 1] - np.eye(s + 1)[0]).max() < 1e-14  # with the slopes k_0 and f_new
        assert np.abs(dense @ powers - np.eye(s + 1)[s]).max() < 1e-14


# ---- The steps


def verlet(y, h, n, force):
    """Velocity Verlet as it is usually written."""
    q, v = np.split(y, 2)
    path = [y]
    for _ in range(n):
        v = v + 0.5 * h * force(q)
        q = q + h * v
        v = v + 0.5 * h * force(q)
        path.append(np.concatenate([q, v]))
    return np.array(path)


def test_leapfrog_is_velocity_verlet():
    theta, y0 = chain.init(), np.array([0.3, -0.8, 0.5, 0.1, 0.7, -0.4])
    want = verlet(y0, 0.07, 200, lambda q: chain(0.0, np.concatenate([q, 0 * q]), theta)[3:])
    sol = pn.solve(chain, y0, 0.07 * np.arange(201), theta, method="leapfrog", step=0.07)
    assert np.abs(sol.y - want).max() < 1e-12
    batch = pn.solve(chain, [y0] * 3, 0.07 * np.arange(201), theta, method="leapfrog", step=0.07)
    assert np.abs(batch.y - want).max() < 1e-12


def test_yoshida_is_three_leapfrogs():
    w1 = 1 / (2 - 2 ** (1 / 3))
    theta, y = chain.init(), np.array([0.3, -0.8, 0.5, 0.1, 0.7, -0.4])
    sol = pn.solve(chain, y, 0.1 * np.arange(31), theta, method="yoshida4", step=0.1)
    for want in sol.y:
        assert np.abs(y - want).max() < 1e-13
        for w in (w1, 1 - 2 * w1, w1):
            y = pn.solve(chain, y, [0, 0.1 * w], theta, method="leapfrog", step=abs(0.1 * w)).y[-1]


def slopes(errors):
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


@method
@pytest.mark.parametrize("backward", [False, True])
def test_order(name, backward):
    row = PARTITIONED[name]
    end = -3.0 if backward else 3.0
    times, between = np.linspace(0, end, 4), end * np.linspace(0, 1, 103) ** 1.03
    y0 = [0.3, -0.8, 0.5, 0.1, 0.7, -0.4]
    at, inside = reference(chain, y0, times), reference(chain, y0, between)
    options = {"method": name, "theta": chain.init()}
    steps = [0.1, 0.05, 0.025, 0.0125]
    errors = [np.abs(pn.solve(chain, y0, times, step=h, save="land", **options).y - at).max() for h in steps]
    dense = [np.abs(pn.solve(chain, y0, between, step=h, **options).y - inside).max() for h in steps]
    assert np.abs(slopes(errors)[1:] - row["order"]).max() < 0.2, errors
    assert np.abs(slopes(dense)[1:] - min(row["order"], row["dense_order"] + 1)).max() < 0.2, dense


@method
def test_order_with_friction_and_time(name):
    t = np.linspace(0.5, 2.5, 5)
    errors = [
        np.abs(pn.solve(lossy, lossy_exact(t[0]), t, method=name, step=h, save="land").y - lossy_exact(t)).max()
        for h in (0.05, 0.025, 0.0125, 0.00625)
    ]
    assert np.abs(slopes(errors)[1:] - ORDERS[name][1]).max() < 0.2, errors


@method
def test_a_force_that_depends_on_time(name):
    # q'' = -q + cos 2t from rest at 1: q = 4/3 cos t - 1/3 cos 2t
    f = pn.field(state=2, inputs=1)(lambda t, y, u: [y[1], -y[0] + u[0]])
    g = pn.field(state=2)(lambda t, y: [y[1], -y[0] + np.cos(2 * t)])
    t = np.linspace(0, 4, 5)
    exact = 4 / 3 * np.cos(t) - np.cos(2 * t) / 3
    errors = [
        np.abs(pn.solve(g, [1.0, 0.0], t, method=name, step=h, save="land").y[:, 0] - exact).max()
        for h in (0.1, 0.05, 0.025)
    ]
    assert np.abs(slopes(errors) - ORDERS[name][0]).max() < 0.2, errors
    # an input that is linear in t: q'' = -q + t, q = t + cos t - sin t; steps end at the knots
    signal = (np.array([0.0, 1.3, 4.0]), np.array([[0.0], [1.3], [4.0]]))
    q = pn.solve(f, [1.0, 0.0], t, method=name, step=0.01, inputs=signal).y[:, 0]
    assert np.abs(q - (t + np.cos(t) - np.sin(t))).max() < 2e-4


# ---- Geometry


@method
def test_symplectic(name):
    # J^T Omega J = Omega for the flow of any number of steps, however long they are
    y0, t = np.array([0.3, -0.8, 0.5, 0.1, 0.7, -0.4]), np.arange(0, 6, 0.3)
    omega = np.kron([[0, 1], [-1, 0]], np.eye(3))
    for samples in (y0, np.stack([y0, 0.5 * y0, -y0])):
        J = pn.sensitivities(chain, samples, t, chain.init(), method=name, step=0.3).y0.reshape(-1, 6, 6)
        assert np.abs(np.swapaxes(J, 1, 2) @ omega @ J - omega).max() < 1e-11
        J = pn.sensitivities(chain, samples, t, chain.init(), method="rk4", step=0.3).y0.reshape(-1, 6, 6)
        assert np.abs(np.swapaxes(J, 1, 2) @ omega @ J - omega).max() > 1e-4


@method
def test_reversible_in_time(name):
    y0, flip = np.array([1.4, 0.3]), np.array([1, -1])
    there = pn.solve(pendulum, y0, [0, 40.0], method=name, step=0.1).y[-1]
    back = pn.solve(pendulum, flip * there, [0, 40.0], method=name, step=0.1).y[-1]
    assert np.abs(flip * back - y0).max() < 1e-11
    backward = pn.solve(pendulum, there, [40.0, 0], method=name, step=0.1).y[-1]  # symmetric: minus the step, too
    assert np.abs(backward - y0).max() < 1e-11
    for other in ("midpoint", "rk4"):
        there = pn.solve(pendulum, y0, [0, 40.0], method=other, step=0.1).y[-1]
        back = pn.solve(pendulum, flip * there, [0, 40.0], method=other, step=0.1).y[-1]
        assert np.abs(flip * back - y0).max() > 1e-6


@method
def test_energy_stays_bounded(name):
    # a hundred thousand steps: no drift, where rk4 loses more all the time
    h, y0 = 0.25, [1.4, 0.3]
    t = h * np.arange(0, 100001, 10)
    energy = pendulum_energy(pn.solve(pendulum, y0, t, method=name, step=h).y)
    error = np.abs(energy - energy[0])
    assert error.max() < {"leapfrog": 0.013, "yoshida4": 3e-4}[name]
    assert error[-1000:].max() < 1.01 * error[:1000].max()
    lost = pendulum_energy(pn.solve(pendulum, y0, t, method="rk4", step=h).y)
    assert np.abs(lost[-1000:] - lost[0]).max() > 10 * error.max()


# ---- Gradients


@method
@pytest.mark.parametrize("save", ["interpolate", "land"])
def test_gradients_are_those_of_the_steps(name, save):
    rng = np.random.default_rng(1)
    for y0 in (rng.normal(size=6), rng.normal(size=(5, 6))):
        t = np.linspace(0, 2, 7)
        target = rng.normal(size=(*y0.shape[:-1], 7, 6))
        options = {"method": name, "step": 0.13, "save": save}
        for wrt, tolerance in ((("theta", "y0"), 1e-10), ("t", 2e-7)):  # differences of short steps in t are coarse
            check = pn.check_grad(chain, y0, t, chain.init(), target, wrt=wrt, **options)
            assert check.max_error < tolerance, str(check)
        sol = pn.solve(chain, y0, t, chain.init(), **options)
        dy = rng.normal(size=target.shape)
        grads, s = sol.vjp(dy), pn.sensitivities(chain, y0, t, chain.init(), **options)
        assert np.allclose((dy[..., None] * s.theta).reshape(-1, 5).sum(axis=0), grads.theta, rtol=1e-11, atol=1e-12)
        assert np.allclose((dy[..., None] * s.y0).sum(axis=(-3, -2)), grads.y0, rtol=1e-11, atol=1e-12)


@method
def test_gradient_in_float32(name):
    rng = np.random.default_rng(2)
    y0, t, target = rng.normal(size=(9, 6)), np.linspace(0, 2, 5), rng.normal(size=(9, 5, 6))
    both = [
        pn.loss_and_grad(chain, y0, t, chain.init(), target, method=name, step=0.1, dtype=dtype)
        for dtype in (np.float32, np.float64)
    ]
    assert both[0].solution.y.dtype == np.float32
    assert np.abs(both[0].theta - both[1].theta).max() < 1e-4 * np.abs(both[1].theta).max()


# ---- What it cannot do


@method
def test_a_step_that_ends_on_an_event(name):
    """It is the method's own step, of that length."""
    y0, step = np.array([1.0, 0.2]), 0.3
    falls = pn.event(lambda t, y: y[0] + 0.3 * y[1], terminal=True)
    events = pn.solve(pendulum, y0, [0, 3], method=name, step=step, events=[falls]).events
    grid = [*np.arange(0, events.t[0], step), events.t[0]]
    assert np.array_equal(pn.solve(pendulum, y0, grid, method=name, grid=grid).y[-1], events.before[0])


@method
def test_refusals(name):
    odd = pn.mlp(3, (4,))
    with pytest.raises(ValueError, match=f"method='{name}' splits the state into halves .* must be even, not 3"):
        pn.solve(odd, [0.0, 0, 0], [0, 1.0], odd.init(0), method=name, step=0.1)
    with pytest.raises(ValueError, match=f"method='{name}' has no error estimate: give step="):
        pn.solve(pendulum, [1.0, 0], [0, 1.0], method=name)
    with pytest.raises(ValueError, match="no reversible scheme, coupling must be 0"):
        pn.solve(pendulum, [1.0, 0], [0, 1.0], method=name, step=0.1, coupling=0.9)
    for adjoint in ("reversible", "backsolve", "interpolating"):
        with pytest.raises(ValueError, match="exact gradient of its steps only: take adjoint='discrete'"):
            pn.loss_and_grad(
                chain, np.ones(6), [0, 1.0], chain.init(), np.ones((2, 6)), method=name, step=0.1, adjoint=adjoint
            )
        with pytest.raises(ValueError, match="discrete"):
            pn.solve(pendulum, [1.0, 0], [0, 1.0], method=name, step=0.1).vjp(np.ones((2, 2)), adjoint=adjoint)
