"""Solves called from compiled code without Python: the bits of the other way, threads, failures, what is kept and let go."""

import gc
import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

import pynode as pn  # noqa: E402
import pynode.jax.host as host  # noqa: E402
from pynode import _core  # noqa: E402
from pynode.jax import primitives, xla  # noqa: E402
from pynode.jax.xla import handlers  # noqa: E402

if not handlers():
    pytest.skip("the extension was built without XLA's header", allow_module_level=True)

T = np.linspace(0.0, 2.0, 11)
RNG = np.random.default_rng(0)
Y0 = RNG.standard_normal((70, 2))
F = pn.mlp(2, (8,))
THETA = F.init(0)
EACH = THETA * (1 + 0.1 * RNG.standard_normal((70, THETA.size)))
EXPLODE = pn.field(state=1, theta={"k": 1.0})(lambda t, y, th: [th.k * y[0] ** 2])


def solved(y0, theta, t=T, f=F, **options):
    return pn.jax.odeint(f, y0, t, theta, **options)


def loss(theta, y0, **options):
    return (solved(y0, theta, **options) ** 2).mean()


def results(dtype=np.float64):
    """name -> what a transformation gives."""
    y0, theta = Y0.astype(dtype), THETA.astype(dtype)
    each = EACH.astype(dtype)
    rng = np.random.default_rng(1)
    few = y0[:3]
    rtol = {"rtol": 1e-4, "atol": 1e-5}
    v = np.ones_like(theta)
    times = np.linspace(0.0, 1 + np.arange(70) / 70, 9, axis=1)
    pull = jax.vjp(lambda y0, th: solved(y0, th, **rtol), y0, theta)[1]
    seeds = rng.standard_normal((2, 70, 11, 2)).astype(dtype)
    return jax.block_until_ready(
        {
            "solve": solved(y0, theta, **rtol),
            "one": solved(y0[0], theta, **rtol),
            "grad": jax.jit(jax.grad(loss, (0, 1)))(theta, y0),
            "pull": [pull(seed) for seed in seeds],
            "pull again": pull(seeds[0]),
            "own theta": jax.vmap(solved)(y0, each),
            "own gradient": jax.vmap(jax.grad(loss, (0, 1)))(each, y0),
            "own times": jax.vmap(lambda y0, t: solved(y0, theta, t))(y0, times),
            "jvp": jax.jvp(lambda th: solved(few, th, **rtol), (theta,), (v,)),
            "jacrev": jax.jacrev(solved)(few, theta),
            "product": jax.jvp(jax.grad(lambda th: loss(th, few)), (theta,), (v,)),
            "hessian": jax.hessian(lambda y: loss(theta, y))(few[0]),
            "stiff": jax.grad(lambda th: loss(th, few, method="rodas5p", **rtol))(theta),
            "fixed": jax.grad(lambda th: loss(th, y0, method="rk4", step=0.1))(theta),
        }
    )


@pytest.mark.parametrize(("dtype", "threads"), [(np.float64, 3), (np.float32, 1)])
def test_both_ways_have_the_same_bits(dtype, threads, through_python):
    before = pn.num_threads()
    try:
        pn.set_num_threads(threads)
        compiled = results(dtype)
        through_python()
        called = results(dtype)
    finally:
        pn.set_num_threads(before)
    for name in compiled:
        for a, b in zip(jax.tree.leaves(compiled[name]), jax.tree.leaves(called[name]), strict=True):
            assert a.dtype == dtype
            np.testing.assert_array_equal(a, b, err_msg=name)


def test_matrices_that_are_computed_of_parameters():
    """They are computed once for a solve of one theta, and for each sample where that has rows."""
    rng = np.random.default_rng(3)
    turn = pn.field(state=6, theta={"A": (6, 6)})(lambda t, y, th: np.tanh((th.A - th.A.T) @ y))
    y0, thetas = rng.standard_normal((5, 6)), rng.standard_normal((3, 36))

    def total(theta):
        return (solved(y0, theta, f=turn, rtol=1e-6, atol=1e-8) ** 2).sum()

    found = jax.jit(jax.vmap(jax.grad(total)))(thetas)
    for theta, rows in zip(thetas, found, strict=True):
        target = np.zeros((5, len(T), 6))
        wanted = pn.loss_and_grad(turn, y0, T, theta, target, loss="sse", rtol=1e-6, atol=1e-8).theta
        np.testing.assert_array_equal(jax.jit(jax.grad(total))(theta), wanted)
        np.testing.assert_allclose(rows, wanted, rtol=1e-9, atol=1e-11)


def test_the_gradient_of_more_solves_than_are_kept():
    theta = jnp.asarray(THETA)

    def windows(theta):
        def step(y, k):
            after = solved(y, theta)[:, -1]
            return after, (after**2).mean()

        return jax.lax.scan(step, jnp.asarray(Y0[:3]), jnp.arange(20))[1].sum()

    def unrolled(theta):
        y = jnp.asarray(Y0[:3])
        total = 0.0
        for _ in range(20):
            y = solved(y, theta)[:, -1]
            total += (y**2).mean()
        return total

    np.testing.assert_allclose(jax.jit(jax.grad(windows))(theta), jax.grad(unrolled)(theta), rtol=1e-12)
    direction = np.random.default_rng(2).standard_normal(THETA.size)
    ahead, behind = (windows(theta + h * direction) for h in (1e-5, -1e-5))
    assert jax.grad(windows)(theta) @ direction == pytest.approx(float(ahead - behind) / 2e-5, rel=1e-5)


def test_a_vjp_of_earlier_arrays():
    """What is kept belongs to its own numbers, whatever was solved since."""
    pulls = [jax.vjp(lambda th: solved(Y0, th), k * THETA)[1] for k in np.linspace(0.5, 1.5, 12)]
    seed = jnp.ones((70, 11, 2))
    for k, pull in reversed(list(zip(np.linspace(0.5, 1.5, 12), pulls, strict=True))):
        expected = pn.solve(F, Y0, T, k * THETA).vjp(np.ones((70, 11, 2))).theta
        np.testing.assert_allclose(pull(seed)[0], expected, rtol=1e-12, atol=1e-14)


def test_many_threads():
    run = jax.jit(jax.value_and_grad(loss))
    thetas = [k * THETA for k in np.linspace(0.5, 1.5, 4)]
    expected = [run(theta, Y0) for theta in thetas]
    wrong = []

    def work(k):
        own = jax.jit(jax.value_and_grad(loss))
        for _ in range(20):
            for at in (k, (k + 1) % 4):
                value, gradient = own(thetas[at], Y0)
                if value != expected[at][0] or not np.array_equal(gradient, expected[at][1]):
                    wrong.append(at)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_times_that_change_in_every_call():
    run = jax.jit(lambda t: solved(Y0[0], THETA, t))
    for stop in np.linspace(1, 2, 30):
        t = np.linspace(0, stop, 5)
        np.testing.assert_array_equal(run(t), pn.solve(F, Y0[0], t, THETA).y)
    with pytest.raises(Exception, match="ValueError: t"):
        jax.block_until_ready(run(np.array([0.0, 1.0, 0.5, 2.0, 3.0])))
    np.testing.assert_array_equal(run(T[:5]), pn.solve(F, Y0[0], T[:5], THETA).y)


def test_failures_are_said_once_for_a_solve():
    run = jax.jit(lambda y0, k: solved(y0, k, f=EXPLODE))
    with pytest.warns(pn.SolveWarning, match="step_too_small") as said:
        y = jax.block_until_ready(run(np.array([[1.0], [0.1]]), np.ones(1)))
    assert len(said) == 1
    assert np.isnan(y[0, -1, 0])
    assert np.isfinite(y[1]).all()
    np.testing.assert_array_equal(y, pn.solve(EXPLODE, np.array([[1.0], [0.1]]), T, [1.0], errors="ignore").y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.block_until_ready(jax.jit(lambda y0: solved(y0, np.ones(1), f=EXPLODE, errors="ignore"))(np.ones((1, 1))))
    for _ in range(2):
        with pytest.raises(Exception, match="step_too_small"):
            jax.block_until_ready(jax.jit(lambda y0: solved(y0, np.ones(1), f=EXPLODE, errors="raise"))(np.ones((1, 1))))


def test_a_component_below_its_tolerance_is_said():
    tiny = pn.field(state=2, theta={"k": 1.0})(lambda t, y, th: [-th.k * y[0], 1e-12 * th.k])
    with pytest.warns(pn.ToleranceWarning, match="component 1"):
        jax.block_until_ready(solved(np.array([1.0, 0.0]), np.ones(1), f=tiny))
    decays = pn.field(state=1, theta={"k": 1.0})(lambda t, y, th: [-20 * th.k * y[0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = jax.block_until_ready(solved(np.ones(1), np.ones(1), f=decays))
    assert y[-1, 0] < 1e-8


@pytest.mark.parametrize("way", ["compiled", "python"])
def test_numbers_that_are_not_finite_fail_their_samples(way, through_python):
    if way == "python":
        through_python()
    each = EACH[:3].copy()
    each[1, 0] = np.nan
    with pytest.warns(pn.SolveWarning, match="1 of 3 samples failed; sample 1: non_finite"):
        y = jax.block_until_ready(jax.vmap(solved)(Y0[:3], each))
    assert np.isnan(y[1, -1]).all()
    np.testing.assert_array_equal(y[::2], jax.vmap(solved)(Y0[:3], EACH[:3])[::2])
    with pytest.warns(pn.SolveWarning, match="3 of 3 samples failed"):
        assert np.isnan(jax.jit(loss)(each[1], Y0[:3]))
    with pytest.warns(pn.SolveWarning, match="bad_input"):
        y = jax.block_until_ready(solved(np.array([[np.inf, 0.0], [1.0, 0.0]]), THETA))
    assert np.isnan(y[0, -1]).all()
    assert np.isfinite(y[1]).all()


@pytest.mark.parametrize("way", ["compiled", "python"])
def test_cotangents_that_are_not_finite(way, through_python):
    if way == "python":
        through_python()
    y, pull = jax.vjp(lambda y0: solved(y0, THETA), Y0[:3])
    seed = jnp.ones_like(y).at[1, 4, 0].set(np.nan)
    with pytest.warns(pn.SolveWarning, match="gradient"):
        of_y0 = jax.block_until_ready(pull(seed)[0])
    np.testing.assert_array_equal(of_y0[::2], pull(jnp.ones_like(y))[0][::2])
    np.testing.assert_array_equal(of_y0[1], 0)


def test_programs_live_as_long_as_they_can_be_called(monkeypatch):
    monkeypatch.setattr(host, "KEPT_HANDLES", 8)

    def make(k):
        f = pn.field(state=1, theta={"k": 1.0})(lambda t, y, th: [-k * th.k * y[0]])
        return jax.jit(lambda y0: solved(y0, np.ones(1), f=f)[-1, 0])

    runs = [make(1 + k / 100) for k in range(12)]
    first = [run(np.ones(1)) for run in runs]
    ahead = make(2.0).lower(np.ones(1)).compile()
    jax.clear_caches()
    gc.collect()
    assert [run(np.ones(1)) for run in runs] == first
    assert ahead(np.ones(1)) == pytest.approx(np.exp(-4.0), rel=1e-5)
    for k in range(10):  # nobody holds these while they run
        jax.block_until_ready(make(3 + k)(np.ones(1)))
    assert len(host.HANDLES) <= host.KEPT_HANDLES


def test_equal_calls_share_what_is_prepared():
    numbers = {host.handle(host.Call(F, (("rtol", 1e-3),))).number for _ in range(3)}
    assert len(numbers) == 1
    assert host.handle(host.Call(F, (("rtol", 1e-4),))).number not in numbers


@pytest.mark.parametrize("version", [None, ("1", 0), ("0", 0)])
def test_no_handlers_for_an_interface_of_another_kind(monkeypatch, version):
    monkeypatch.setattr(xla, "interface", lambda: version)
    assert xla.handlers.__wrapped__() == {}


def test_handlers_that_are_refused_are_said(monkeypatch):
    def refuse(*args, **keys):
        raise RuntimeError("too old")

    monkeypatch.setattr(jax.ffi, "register_ffi_target", refuse)
    with pytest.warns(RuntimeWarning, match="through Python: too old"):
        assert xla.handlers.__wrapped__() == {}


def test_a_handle_that_is_gone(monkeypatch):
    monkeypatch.setattr(primitives, "handle", lambda call: host.Handle(12345, None))
    with pytest.raises(Exception, match="Trace it again"):
        jax.block_until_ready(jax.jit(lambda y0: solved(y0, THETA, rtol=0.5))(Y0[:2]))


def test_a_call_that_goes_while_it_runs():
    """Its solve is not taken for that of a later call, whose memory may have the same address."""
    number, keep = np.int64(12346), np.int64(1)
    given = np.ones((1, 1)), np.linspace(0.0, 1.0, 5)[None], np.ones(1)
    y, of_y0, of_theta = (jax.ShapeDtypeStruct(shape, np.float64) for shape in ((1, 5, 1), (1, 1), (1,)))
    names = handlers()
    solve = jax.jit(lambda: jax.ffi.ffi_call(names["solve"], y)(*given, number=number, keep=keep))
    pull = jax.ffi.ffi_call(names["backward"], (of_y0, of_theta))
    back = jax.jit(lambda: pull(*given, np.ones((1, 5, 1)), number=number, keep=keep))
    slow, fast = (
        host.Call(pn.field(state=1, theta={"k": 1.0})(lambda t, y, th, k=k: [-k * th.k * y[0]]), ()).prepared(*given[:2])
        for k in (1, 2)
    )
    alive = []

    def go(*arrays):
        alive.clear()
        return slow.problem

    for _ in range(30):
        alive.append(_core.XlaCall(number, go, go))
        jax.block_until_ready(solve())
        alive.append(_core.XlaCall(number, lambda *arrays: fast.problem, go))
        assert back()[0][0, 0] == pytest.approx(np.exp(-2 * given[1]).sum(), rel=1e-4)
        alive.clear()


PROGRAM = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", sys.argv[2])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
import numpy as np
import pynode as pn

k = float(sys.argv[1])
f = pn.field(state=1, theta={"k": 1.0})(lambda t, y, th: [-k * th.k * y[0]])
print(float(jax.jit(lambda y0: pn.jax.odeint(f, y0, np.array([0.0, 1.0]), np.ones(1)))(np.ones(1))[-1, 0]))
"""


def test_programs_in_a_cache_on_disk_are_not_taken_for_others(tmp_path):
    """A compiled program knows its solve by a number: another process must not find one of its own by it."""
    for k in (1.0, 2.0, 2.0):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(k), str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert float(done.stdout) == pytest.approx(np.exp(-k), rel=1e-5)
    assert any(tmp_path.iterdir())
