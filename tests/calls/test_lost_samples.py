"""Samples whose gradient is not finite, replays that differ, arrays that change during a run, forks."""

import os
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

import pynode as pn

T = np.linspace(0, 1, 5)
THETA = [1.3, 0.0]


@pn.field(state=1, theta={"k": 1.0, "c": 0.0})
def root(t, y, th):
    """Its derivatives with respect to y and c are infinite at y = c, where it stays."""
    return -th.k * np.sqrt(y - th.c)


def batch(n=30, bad=(17,)):
    y0 = np.random.default_rng(0).uniform(1, 2, (n, 1))
    y0[list(bad)] = 0.0
    return y0, np.full((n, len(T), 1), 0.5)


def without(bad, x):
    return np.delete(x, bad, axis=0)


@pytest.mark.parametrize("n, bad", [(1, (0,)), (30, (17,)), (30, (0, 29)), (600, (3, 4, 450))])
@pytest.mark.parametrize("options", [{}, {"method": "rk4", "step": 0.05}, {"memory": "300kB"}])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_sample_does_not_ruin_the_gradient_of_all(n, bad, options, dtype):
    y0, target = (x.astype(dtype) for x in batch(n, bad))
    with pytest.warns(pn.SolveWarning, match="gradient of this sample is NaN or infinite"):
        val = pn.loss_and_grad(root, y0, T, THETA, target, wrt=("theta", "y0"), reduction="sum", **options)
    assert (np.flatnonzero(val.solution.status) == bad).all()
    assert {pn.STATUS[s] for s in val.solution.status[list(bad)]} == {"gradient"}
    assert not val.y0[list(bad)].any() and not val.sample_loss[list(bad)].any()
    if n == 1:
        assert not val.theta.any()
        return
    rest = pn.loss_and_grad(
        root, without(bad, y0), T, THETA, without(bad, target), wrt=("theta", "y0"), reduction="sum", **options
    )
    rel = 1e-12 if dtype == np.float64 else 1e-4
    assert val.loss == pytest.approx(rest.loss, rel=rel) and val.theta == pytest.approx(rest.theta, rel=rel)
    np.testing.assert_allclose(without(bad, val.y0), rest.y0, rtol=rel)


def test_errors_says_what_happens():
    y0, target = batch()
    with pytest.raises(pn.SolveError, match="sample 17: gradient"):
        pn.loss_and_grad(root, y0, T, THETA, target, errors="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pn.loss_and_grad(root, y0, T, THETA, target, errors="ignore")


def test_vjp_and_sensitivities_say_it():
    y0, _ = batch()
    sol = pn.solve(root, y0, T, THETA)
    with pytest.warns(pn.SolveWarning, match="sample 17"):
        g = sol.vjp(np.ones_like(sol.y))
    clean = pn.solve(root, without([17], y0), T, THETA)
    assert g.theta == pytest.approx(clean.vjp(np.ones_like(clean.y)).theta, rel=1e-12)
    with pytest.warns(pn.SolveWarning, match="sample 17"):
        s = pn.sensitivities(root, y0, T, THETA)
    assert np.isfinite(without([17], s.theta)).all()


def test_optimisers_name_the_sample_once():
    y0, target = batch()
    for fit in (pn.fit.adam, pn.fit.lbfgs):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            result = fit(pn.Objective(root, y0, T, target), [1.0, 0.0], max_iter=20)
        about = [str(w.message) for w in said if w.category is pn.SolveWarning]
        assert len(about) == 1 and "sample 17" in about[0]
        assert np.isfinite(result.theta).all() and result.theta[0] != 1.0


def test_events_leave_the_sample_out():
    y0, _ = batch(5, (2,))
    halved = pn.event(lambda t, y: y[0] - 0.9, direction=-1, reset=lambda t, y: [0.5 * y[0]])
    sol = pn.solve(root, y0, T, THETA, events=halved)
    with pytest.warns(pn.SolveWarning, match="sample 2"):
        g = sol.vjp(np.ones_like(sol.y))
    clean = pn.solve(root, without([2], y0), T, THETA, events=halved)
    h = clean.vjp(np.ones_like(clean.y))
    assert g.theta == pytest.approx(h.theta, rel=1e-10) and not g.y0[2].any()
    np.testing.assert_allclose(without([2], g.y0), h.y0, rtol=1e-10)


def test_loss_programs_and_jumps_lose_their_sample_only():
    f = pn.field(state=1, theta={"k": 1.0})(lambda t, y, th: -th.k * y)
    jump = pn.field(state=1, inputs=1)(lambda t, y, x: np.sqrt(y - x))
    loss = pn.field(state=1, out=1, inputs=1)(lambda t, y, x: (y - x) ** 2)
    system = pn.System(f, jump=jump, loss=loss)
    data = np.full((3, 5, 1), np.nan)
    data[:, 2] = 0.1
    y0, target = np.array([[1.0], [2.0], [3.0]]), np.zeros((3, 5, 1))
    data[1, 0] = 2.0  # a root of 0 at the start
    data[1, 2] = -1.0
    with pytest.warns(pn.SolveWarning):
        val = pn.loss_and_grad(
            system, y0, T, system.init(), target, data=data, loss="program", wrt=("theta", "y0"), reduction="sum"
        )
    rest = pn.loss_and_grad(
        system,
        y0[[0, 2]],
        T,
        system.init(),
        target[:2],
        data=data[[0, 2]],
        loss="program",
        wrt=("theta", "y0"),
        reduction="sum",
    )
    assert val.theta == pytest.approx(rest.theta, rel=1e-12) and np.flatnonzero(val.solution.status).tolist() == [1]


# ---- replays ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [10, 1000, 11000])
def test_a_callback_with_a_state_is_noticed(late):
    calls = [0]

    def f(t, y, th):
        calls[0] += 1
        return th * np.cos(40 * t)[:, None] * y if calls[0] < change else 0 * y

    def vjp(t, y, th, g):
        return th * np.cos(40 * t)[:, None] * g, np.cos(40 * t)[:, None] * y * g

    g = pn.callback_field(f, 2, n_params=2, vjp=vjp, vectorized=True)
    y0 = np.ones((1, 2))
    t = [0.0, 50.0]
    change = 10**9
    pn.solve(g, y0, t, np.ones(2), rtol=1e-6)
    change, calls[0] = calls[0] + late, 0
    with pytest.raises(ValueError, match="gave other values when a part of the solve was made again"):
        pn.loss_and_grad(g, y0, t, np.ones(2), np.zeros((1, 2, 2)), rtol=1e-6, memory=300_000)


def test_arrays_may_change_while_a_solve_runs():
    net = pn.mlp(2, (), 2)
    f = pn.field(state=2, theta={"net": net})(lambda t, y, th: pn.relu(th.net(y)) * np.cos(40 * t) * y)
    theta = np.zeros(6)
    theta[4:] = 1
    y0, target = np.ones((1, 2)), np.zeros((1, 2, 2))
    options = {"rtol": 1e-8, "memory": 400_000, "errors": "ignore", "max_steps": 10**7}

    def call():
        return pn.loss_and_grad(f, y0, [0.0, 200.0], theta, target, wrt=("theta", "y0"), **options)

    right, start = call(), time.perf_counter()
    call()
    took, kept = time.perf_counter() - start, theta.copy()
    for k in range(6):

        def scribble():
            theta[4:] = -1000.0
            y0[:] = 7.0
            target[:] = np.nan

        timer = threading.Timer(took * (0.2 + 0.1 * k), scribble)
        timer.start()
        val = call()
        timer.join()
        assert (val.theta == right.theta).all() and (val.y0 == right.y0).all() and val.loss == right.loss
        theta[:] = kept
        y0[:] = 1.0
        target[:] = 0.0


# ---- fork ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("events", [False, True])
def test_fork_in_a_signal_handler(events):
    """The child of a solve with threads has only one of them: it does all the work, and gets the same results."""
    code = f"""if True:
        import os, signal, sys, numpy as np, pynode as pn
        f = pn.mlp(3, (32, 32))
        theta, y0 = f.init(0) * 3, np.random.default_rng(0).standard_normal((600, 3))
        events = pn.event(lambda t, y: y[0], direction=1, terminal=True) if {events} else None
        options = dict(rtol=1e-8, events=events, errors="ignore")
        solve = lambda threads: pn.solve(f, y0, [0, 40.0], theta, threads=threads, **options).y
        right, kids = solve(1), []
        def handler(*_):
            pid = os.fork()
            if pid: kids.append(pid)
        me = os.getpid()
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        got = 0
        while not kids and os.getpid() == me and got < 200:
            y, got = solve(2), got + 1
        same = np.array_equal(y, right, equal_nan=True)
        if os.getpid() != me:
            os._exit(0 if same else 3)
        ends = [os.waitpid(kid, 0)[1] for kid in kids]
        print("same" if same else "differs", ends)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split("\n")[0] == "same [0]", done.stdout + done.stderr
