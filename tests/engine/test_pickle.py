"""Results travel: pickles and deep copies give the same numbers, in this process and in others."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import pynode as pn

T = np.linspace(0, 1, 6)
NET = pn.mlp(2, (5,))
THETA = NET.init(0)
Y0 = np.array([[1.0, 0.0], [0.5, -1.0], [0.2, 0.3]])
TARGET = np.zeros((3, 6, 2))
RAGGED = [T, T[:3], T[::2]]


def ground(t, y):
    return y[0]


def back(t, y):
    return [0.0 * y[0], -0.8 * y[1]]


@pn.field(state=2, theta={"gravity": 9.81})
def ball(t, y, th):
    return [y[1], -th.gravity]


@pn.field(state=2, inputs=1)
def kick(t, y, x):
    return [y[0], y[1] + x[0]]


BOUNCE = pn.event(ground, direction=-1, reset=back)


def rhs(t, y):
    return -y


def solutions():
    data = np.where(np.arange(6)[:, None] == 2, 0.5, np.nan)
    return {
        "batch": pn.solve(NET, Y0, T, THETA, dense=True),
        "single": pn.solve(NET, Y0[0], T, THETA, steps=True),
        "ragged": pn.solve(NET, Y0, RAGGED, THETA),
        "float32": pn.solve(NET, Y0.astype(np.float32), T, THETA),
        "reversible": pn.solve(NET, Y0, T, THETA, coupling=0.999, rtol=1e-3),
        "inputs": pn.solve(pn.mlp(2, (3,), inputs=1), Y0, T, np.ones(20), inputs=(T, T[:, None] ** 2)),
        "system": pn.solve(pn.System(ball, jump=kick), Y0, T, ball.init(), data=np.stack([data] * 3)),
        "events": pn.solve(ball, Y0, T, ball.init(), events=BOUNCE),
        "callback": pn.solve(rhs, Y0[0], T),
    }


def again(x):
    yield pickle.loads(pickle.dumps(x))
    yield copy.deepcopy(x)


def flat(y):
    return np.concatenate([np.ravel(part) for part in y]) if isinstance(y, list) else np.ravel(y)


@pytest.mark.parametrize("name", list(solutions()))
def test_solutions(name):
    sol = solutions()[name]
    wrt = ("theta", "y0") if sol.field.n_params else ("y0",)
    dy = [np.ones_like(y) for y in sol.y] if isinstance(sol.y, list) else np.ones_like(sol.y)
    g = None if name == "callback" else sol.vjp(dy, wrt=wrt)
    for other in again(sol):
        assert np.array_equal(flat(sol.y), flat(other.y), equal_nan=True)
        assert repr(other) == repr(sol) and other.ok == sol.ok and np.array_equal(other.status, sol.status)
        assert np.array_equal(flat(sol.t), flat(other.t))
        if g is not None:
            h = other.vjp(dy, wrt=wrt)
            assert np.array_equal(g.y0, h.y0) and (g.theta is None or np.array_equal(g.theta, h.theta))
        if name == "batch":
            assert np.array_equal(sol(0.123), other(0.123))
        if name == "events":
            assert np.array_equal(sol.events.t, other.events.t)


def test_losses_gradients_objectives_and_sensitivities():
    val = pn.loss_and_grad(NET, Y0, T, THETA, TARGET, wrt=("theta", "y0"))
    for other in again(val):
        assert other.loss == val.loss and np.array_equal(other.theta, val.theta) and np.array_equal(other.y, val.y)
        assert np.array_equal(other.sample_loss, val.sample_loss)
    for keys in ({}, {"adjoint": "backsolve"}, {"weight": 2.0, "loss": "huber"}, {"memory": "1MB"}):
        objective = pn.Objective(NET, Y0, T, TARGET, **keys)
        for other in again(objective):
            a, b = objective(THETA), other(THETA)
            assert a[0] == b[0] and np.array_equal(a[1], b[1])
    objective = pn.Objective(ball, Y0, T, TARGET, events=BOUNCE)
    for other in again(objective):
        assert np.array_equal(objective(ball.init())[1], other(ball.init())[1])
    for other in again(val.solution.vjp(np.ones_like(val.y))):
        assert other.theta.shape == THETA.shape
    s = pn.sensitivities(NET, Y0, T, THETA)
    for other in again(s):
        assert np.array_equal(other.theta, s.theta) and np.array_equal(other.solution.y, s.solution.y)


def test_systems_events_prepared_solves_and_sensitivity_problems():
    system = pn.System(ball, jump=kick, events=BOUNCE)
    data = np.where(np.arange(6)[:, None] == 2, 0.5, np.nan)
    sol = pn.solve(system, Y0[0], T, system.init(), data=data)
    for other in again(system):
        assert repr(other) == repr(system) and np.array_equal(other.init(), system.init())
        assert np.array_equal(pn.solve(other, Y0[0], T, system.init(), data=data).y, sol.y)
    for other in again(BOUNCE):
        event_t = pn.solve(ball, Y0[0], T, ball.init(), events=other).events.t
        assert np.array_equal(event_t, pn.solve(ball, Y0[0], T, ball.init(), events=BOUNCE).events.t)
    setup = pn.Objective(NET, Y0, T, TARGET).setup
    for other in again(setup):
        assert np.array_equal(other.run(THETA)["y"], setup.run(THETA)["y"])
    problem = pn.SensitivityProblem(NET, Y0, T)
    for other in again(problem):
        assert np.array_equal(other.run(THETA)["sensitivity"], problem.run(THETA)["sensitivity"])
    for f in (system, pn.System(ball, jump=kick)):
        problem = pn.SensitivityProblem(f, Y0[0], T, data=data)
        for other in again(problem):
            assert np.array_equal(other.run(f.init())["sensitivity"], problem.run(f.init())["sensitivity"])
        sens = problem.evaluate(f.init())
        for other in again(sens):
            assert np.array_equal(other.theta, sens.theta) and np.array_equal(other.solution.y, sens.solution.y)


def test_the_solution_of_a_call_that_was_cached():
    pn.solve(NET, Y0, T, THETA, dense=True)
    sol = pn.solve(NET, 2 * Y0, T, THETA, dense=True)
    for other in again(sol):
        assert np.array_equal(other.y, sol.y) and np.array_equal(other(0.3), sol(0.3))
        dy = np.ones_like(sol.y)
        assert np.array_equal(other.vjp(dy).theta, sol.vjp(dy).theta)


def gradient_of(objective):
    return objective(THETA)[1]


def solved(y0):
    return pn.solve(NET, y0, T, THETA, dense=True)


def test_other_processes():
    objective = pn.Objective(NET, Y0, T, TARGET)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert np.array_equal(pool.submit(gradient_of, objective).result(), objective(THETA)[1])
        sol = pool.submit(solved, Y0).result()
    assert np.array_equal(sol(0.4), solved(Y0)(0.4))


def test_joblib():
    joblib = pytest.importorskip("joblib")
    got = joblib.Parallel(n_jobs=2)(joblib.delayed(solved)(y0) for y0 in Y0)
    for sol, y0 in zip(got, Y0, strict=True):
        assert np.array_equal(sol.y, solved(y0).y)


def test_a_lambda_cannot_travel():
    event = pn.event(lambda t, y: y[0])
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(pn.solve(ball, Y0, T, ball.init(), events=event))


def test_a_cluster_of_processes():
    distributed = pytest.importorskip("distributed")
    keys = {"n_workers": 1, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**keys) as cluster, distributed.Client(cluster) as client:
        objective = pn.Objective(NET, Y0, T, TARGET)
        assert np.array_equal(client.submit(gradient_of, objective).result(timeout=60), objective(THETA)[1])
        sol = client.submit(solved, Y0).result(timeout=60)
        bounced = client.submit(pn.solve, ball, Y0, T, ball.init(), events=BOUNCE).result(timeout=60)
    assert np.array_equal(sol(0.4), solved(Y0)(0.4))
    here = pn.solve(ball, Y0, T, ball.init(), events=BOUNCE)
    assert np.array_equal(bounced.events.t, here.events.t)
    assert np.array_equal(bounced.vjp(np.ones_like(here.y)).theta, here.vjp(np.ones_like(here.y)).theta)
