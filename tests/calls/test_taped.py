"""Solves that keep their tape: the gradient along it has the bits of `Solution.vjp`, as often as it is asked for."""

import weakref

import numpy as np
import pytest

import pynode as pn
from pynode import _core
from pynode.calls.taped import SPARE, TapedSolver
from pynode.data.batch import as_batch
from pynode.engine.options import Options
from pynode.engine.problem import PreparedSolve

T = np.linspace(0.0, 3.0, 7)
METHODS = [("dopri5", {}), ("rk4", {"step": 0.1}), ("rodas5p", {}), ("auto", {}), ("dop853", {})]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [1, 10, 70])
@pytest.mark.parametrize("method, options", METHODS)
def test_gradient_along_the_tape_is_that_of_vjp(method, options, n, dtype):
    rng = np.random.default_rng(0)
    f = pn.mlp(2, (8,))
    theta = f.init(0)
    y0 = rng.normal(size=(n, 2)).astype(dtype)
    sol = pn.solve(f, y0, T, theta, method=method, **options)
    solver = TapedSolver(f, method=method, **options)
    for repeat in range(2):
        taped = solver.run(y0, T, theta.astype(dtype), keep=True)
        assert (taped.y == sol.y).all()
        for seed in range(2):
            dy = np.random.default_rng(seed).normal(size=sol.y.shape).astype(dtype)
            found = taped.back(dy, ("theta", "y0", "t"))
            wanted = sol.vjp(dy, wrt=("theta", "y0", "t"))
            for name in found:
                assert (found[name] == getattr(wanted, name)).all(), (repeat, name)


def test_rows_of_theta_and_threads():
    rng = np.random.default_rng(1)
    f = pn.mlp(2, (8,))
    theta = rng.normal(size=(40, f.n_params)) * 0.3
    y0 = rng.normal(size=(40, 2))
    dy = rng.normal(size=(40, 7, 2))
    one = TapedSolver(f, threads=1).run(y0, T, theta, keep=True).back(dy, ("theta", "y0"))
    two = TapedSolver(f, threads=3).run(y0, T, theta, keep=True).back(dy, ("theta", "y0"))
    wanted = pn.solve(f, y0, T, theta).vjp(dy)
    for name in one:
        assert (one[name] == getattr(wanted, name)).all()
        assert (two[name] == one[name]).all()


def test_a_tape_serves_another_problem():
    """Its memory does: what it held is gone."""
    tape = _core.Tape()
    for n, d in ((3, 2), (40, 3), (3, 2)):
        f = pn.mlp(d, (8,))
        theta = f.init(0)
        y0 = np.random.default_rng(d).normal(size=(n, d))
        setup = PreparedSolve(f, as_batch(y0, T, d, None), Options(), gradient=True)
        raw = setup.problem.run(theta, gradient="discrete", tape=tape)
        dy = np.ones_like(raw["y"])
        back = setup.problem.back(tape, dy, True)
        wanted = pn.solve(f, y0, T, theta).vjp(dy.reshape(n, 7, d))
        assert (back["g_theta"] == wanted.theta).all() and (back["g_y0"] == wanted.y0).all()


def test_what_is_refused():
    f = pn.mlp(1, (4,))
    theta = f.init(0)
    setup = PreparedSolve(f, as_batch(np.ones((2, 1)), T, 1, None), Options(), gradient=True)
    other = PreparedSolve(f, as_batch(np.ones((2, 1)), T, 1, None), Options(), gradient=True)
    tape = _core.Tape()
    with pytest.raises(ValueError, match="a run of this problem has filled"):
        setup.problem.back(tape, np.ones((14, 1)))
    setup.problem.run(theta, gradient="discrete", tape=tape)
    with pytest.raises(ValueError, match="a run of this problem has filled"):
        other.problem.back(tape, np.ones((14, 1)))
    with pytest.raises(ValueError, match="g_y"):
        setup.problem.back(tape, np.ones((3, 1)))
    for wrong, words in (
        ({"gradient": "none"}, "discrete"),
        ({"memory": 10**6}, "memory"),
        ({"g_y": np.ones((14, 1))}, "g_y"),
    ):
        with pytest.raises(ValueError, match=words):
            setup.problem.run(theta, **({"gradient": "discrete"} | wrong), tape=tape)
    with pytest.raises(TypeError, match="tape must be a Tape"):
        setup.problem.run(theta, gradient="discrete", tape=1)
    with pytest.raises(ValueError, match="a run of this problem has filled"):
        setup.problem.back(tape, np.ones((14, 1)))  # emptied by the runs that were refused


def test_failed_samples_add_nothing():
    @pn.field(state=1, theta={"k": 1.0})
    def blow_up(t, y, th):
        return th.k * y**2

    y0 = np.array([[0.1], [5.0], [0.2]])
    with pytest.warns(pn.SolveWarning, match="1 of 3"):
        taped = TapedSolver(blow_up).run(y0, np.array([0.0, 1.0]), np.ones(1), keep=True)
    found = taped.back(np.ones((3, 2, 1)), ("theta", "y0"))
    assert np.isnan(taped.y[1, 1]).all() and (found["y0"][1] == 0).all()
    assert np.allclose(found["y0"][[0, 2], 0], 1 + 1 / (1 - y0[[0, 2], 0]) ** 2, rtol=1e-5)


def test_samples_without_a_gradient_are_found():
    f = pn.field(state=1, theta={"k": 1.0})(lambda t, y, th: -th.k * np.sqrt(y))
    taped = TapedSolver(f, method="rk4", step=0.5).run(np.array([[0.0], [4.0]]), np.array([0.0, 1.0]), np.ones(1), keep=True)
    with pytest.warns(pn.SolveWarning, match="add nothing to this gradient"):
        found = taped.back(np.ones((2, 2, 1)), ("theta", "y0"))
    assert np.isfinite(found["theta"]).all()


def test_tangents_are_the_sensitivities():
    rng = np.random.default_rng(2)
    f = pn.mlp(2, (8,), time=True)
    theta = f.init(0)
    v = rng.normal(size=(3, 2))
    w = rng.normal(size=f.n_params)
    y0 = rng.normal(size=(3, 2))
    for options in ({}, {"method": "rodas5p"}, {"method": "rk4", "step": 0.1}):
        s = pn.sensitivities(f, y0, T, theta, **options)
        joint = TapedSolver(f, **options).tangent.run(np.c_[y0, v], T, np.r_[theta, w])
        wanted = np.einsum("btip,p->bti", s.theta, w) + np.einsum("btij,bj->bti", s.y0, v)
        assert np.allclose(joint.y[..., :2], pn.solve(f, y0, T, theta, **options).y, rtol=0, atol=1e-12)
        assert np.allclose(joint.y[..., 2:], wanted, rtol=1e-9, atol=1e-11)


def test_tapes_are_used_again():
    f = pn.mlp(2, (8,))
    SPARE.clear()
    solver = TapedSolver(f)
    for _ in range(5):
        solver.run(np.ones((2, 2)), T, f.init(0), keep=True)
    assert len(SPARE) == 1


def test_a_spare_tape_holds_no_arrays():
    f = pn.mlp(2, (8,))
    SPARE.clear()
    taped = TapedSolver(f).run(np.ones((2, 2)), T, f.init(0), keep=True)
    held = [weakref.ref(taped.raw[name]) for name in ("y", "y0", "theta")]
    del taped
    assert len(SPARE) == 1
    assert all(array() is None for array in held)


def test_the_last_spare_tape_is_taken_by_another_thread(monkeypatch):
    class Taken(list):
        def __bool__(self):
            return True

    monkeypatch.setattr("pynode.calls.taped.SPARE", Taken())
    f = pn.mlp(2, (8,))
    assert TapedSolver(f).run(np.ones((2, 2)), T, f.init(0), keep=True).tape is not None


def test_no_tape_for_callbacks_and_many_samples(monkeypatch):
    monkeypatch.setattr("pynode.calls.taped.MOST_SAMPLES", 2)
    f = pn.mlp(2, (8,))
    y0 = np.ones((3, 2))
    taped = TapedSolver(f).run(y0, T, f.init(0), keep=True)
    assert taped.tape is None
    wanted = pn.solve(f, y0, T, f.init(0)).vjp(np.ones((3, 7, 2))).theta
    assert (taped.back(np.ones((3, 7, 2)), ("theta",))["theta"] == wanted).all()
    assert np.isnan(taped.back(np.full((3, 7, 2), np.nan), ("theta",))["theta"]).all()


@pytest.mark.parametrize("times", [T, np.tile(T, (3, 1))])
@pytest.mark.parametrize("shared", [True, False])
def test_without_a_tape_numbers_that_are_not_finite_make_every_gradient_so(monkeypatch, times, shared):
    monkeypatch.setattr("pynode.calls.taped.MOST_SAMPLES", 2)
    f = pn.field(state=1, theta={"k": 1.0}, inputs=1)(lambda t, y, th, u: th.k * (u - y))
    u = np.ones((4, 1)) if shared else np.ones((3, 4, 1))
    inputs = pn.Signal(np.arange(4.0), u)
    taped = TapedSolver(f).run(np.ones((3, 1)), times, np.ones(1), inputs, keep=True)
    found = taped.back(np.full((3, 7, 1), np.nan), ("theta", "y0", "t", "inputs"))
    shapes = {"theta": (1,), "y0": (3, 1), "t": times.shape, "inputs": u.shape}
    assert {name: g.shape for name, g in found.items()} == shapes
    assert all(np.isnan(g).all() for g in found.values())
