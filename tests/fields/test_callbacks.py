"""Python functions as fields, exceptions on their way through C, interrupts, leaks."""

import gc
import os
import signal
import sys
import threading
import time
import traceback
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pynode as pn
from pynode import _core

T = np.linspace(0, 1, 5)
BATCH = np.random.default_rng(0).normal(size=(11, 2))
THETA = np.array([0.7, -0.3])


def rotation(t, y, th):
    return np.array([-th[0] * y[1], th[0] * y[0] + th[1] * t])


def rotation_vjp(t, y, th, g):
    return np.array([th[0] * g[1], -th[0] * g[0]]), np.array([-y[1] * g[0] + y[0] * g[1], t * g[1]])


def many(t, y, th):
    return np.stack([-th[0] * y[:, 1], th[0] * y[:, 0] + th[1] * t], axis=1)


def many_vjp(t, y, th, g):
    return (
        np.stack([th[0] * g[:, 1], -th[0] * g[:, 0]], axis=1),
        np.stack([-y[:, 1] * g[:, 0] + y[:, 0] * g[:, 1], t * g[:, 1]], axis=1),
    )


SINGLE = pn.callback_field(rotation, 2, n_params=2, vjp=rotation_vjp)
VECTORIZED = pn.callback_field(many, 2, n_params=2, vjp=many_vjp, vectorized=True)
TRACED = pn.field(state=2, theta=(2,))(rotation)
oscillator = pn.field(state=2)(lambda t, y: [y[1], -y[0]])
FOREVER = {"max_steps": 10**12, "errors": "ignore"}


# ---- values


@pytest.mark.parametrize("f", [SINGLE, VECTORIZED])
@pytest.mark.parametrize(
    "options", [{}, {"method": "dop853"}, {"save": "land"}, {"method": "rk4", "step": 0.1}, {"coupling": 0.9}]
)
def test_the_same_as_the_traced_field(f, options):
    for y0 in (BATCH, BATCH[0]):
        a, b = pn.solve(f, y0, T, THETA, **options), pn.solve(TRACED, y0, T, THETA, **options)
        np.testing.assert_allclose(a.y, b.y, rtol=1e-10, atol=1e-12)
        assert a.stats.backend == "callback" and b.stats.backend == _core.isa()
        np.testing.assert_array_equal(a.stats.nfe, b.stats.nfe)


@pytest.mark.parametrize("f", [SINGLE, VECTORIZED])
@pytest.mark.parametrize("options", [{}, {"adjoint": "reversible"}, {"memory": "100KB"}])
def test_gradients_are_those_of_the_traced_field(f, options):
    target = np.sin(np.arange(110.0)).reshape(11, 5, 2)
    a = pn.loss_and_grad(f, BATCH, T, THETA, target, wrt=("theta", "y0"), **options)
    b = pn.loss_and_grad(TRACED, BATCH, T, THETA, target, wrt=("theta", "y0"), **options)
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-10)
    np.testing.assert_allclose(a.theta, b.theta, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(a.y0, b.y0, rtol=1e-8, atol=1e-10)


def test_what_the_function_sees():
    def f(t, y, th, u):
        assert type(t) is float and y.shape == (2,) and u.shape == (1,) and th.shape == (2,)
        assert y.dtype == u.dtype == th.dtype == np.float64 and y.flags.c_contiguous
        return y * 0 + u

    def g(t, y, th, u):
        n = len(t)
        assert t.shape == (n,) and y.shape == (n, 2) and u.shape == (n, 1) and n <= 11
        return y * 0 + u

    for field in (pn.callback_field(f, 2, 2, inputs=1), pn.callback_field(g, 2, 2, inputs=1, vectorized=True)):
        for dtype in (np.float64, np.float32):
            s = pn.solve(field, BATCH, T, THETA, inputs=([0, 1], [[0.0], [1.0]]), dtype=dtype)
            np.testing.assert_allclose(s.y, BATCH[:, None] + (T**2 / 2)[:, None], rtol=1e-5, atol=1e-6)
            assert s.y.dtype == dtype


@pytest.mark.parametrize(
    "returns",
    [
        lambda y: y.tolist(),
        tuple,
        lambda y: y.astype(np.float32),
        lambda y: (y * 0).astype(int) + 1,
        np.asfortranarray,
        lambda y: y[::-1][::-1],
        lambda y: y,
    ],
)
def test_anything_like_an_array_may_come_back(returns):
    s = pn.solve(lambda t, y: returns(y), [1.0, 2.0], T)
    assert s.ok


# ---- what must not come back


@pytest.mark.parametrize(
    "value, error, words",
    [
        (np.zeros(3), ValueError, ["f must return", "(2,)", "(3,)"]),
        (0.0, ValueError, ["(2,)", "()"]),
        (np.zeros((1, 2)), ValueError, ["(2,)", "(1, 2)"]),
        (None, TypeError, ["what f returns", "object"]),
        ("ab", TypeError, ["what f returns"]),
        (np.zeros(2, complex), TypeError, ["complex128"]),
        ([1, [2]], ValueError, ["what f returns", "different lengths"]),
        (np.zeros(2, object), TypeError, ["object"]),
        ({}, TypeError, ["what f returns"]),
    ],
)
def test_wrong_returns(value, error, words):
    for call in (
        lambda: pn.solve(lambda t, y: value, [1.0, 2.0], T),
        lambda: pn.callback_field(lambda t, y: value, 2)(0.0, [1.0, 2.0]),
    ):
        with pytest.raises(error) as caught:
            call()
        for word in words:
            assert word in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(2),
        (np.zeros(2),),
        (np.zeros(2), np.zeros(3)),
        (np.zeros(3), np.zeros(2)),
        None,
        (1j * np.ones(2), np.zeros(2)),
    ],
)
def test_wrong_returns_of_the_vjp(value):
    f = pn.callback_field(rotation, 2, 2, vjp=lambda t, y, th, g: value)
    with pytest.raises((ValueError, TypeError), match="vjp"):
        pn.loss_and_grad(f, BATCH, T, THETA, np.zeros((11, 5, 2)))


def test_vectorized_wrong_shape():
    f = pn.callback_field(lambda t, y: y[0], 2, vectorized=True)
    with pytest.raises(ValueError, match=r"\(\d+, 2\), not \(2,\)"):
        pn.solve(f, BATCH, T)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_returns_are_a_status(bad):
    s = pn.solve(lambda t, y: np.array([bad if t > 0.5 else 1.0, 0.0]), np.zeros((2, 2)), T, errors="ignore")
    assert (
        {pn.STATUS[i] for i in s.status} <= {"non_finite", "step_too_small"}
        and np.isfinite(s.y[:, :2]).all()
        and np.isnan(s.y[:, -1]).all()
    )


@pytest.mark.parametrize(
    "arguments",
    [{"d": 0}, {"d": 1.5}, {"d": "2"}, {"n_params": -1}, {"inputs": None}, {"f": 5}, {"vjp": 5}, {"init": np.zeros(5)}],
)
def test_bad_fields(arguments):
    with pytest.raises((ValueError, TypeError)):
        pn.callback_field(**{"f": rotation, "d": 2, "n_params": 2} | arguments)


# ---- exceptions


class Mine(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [
        Mine("a", 1, None),
        KeyError("k"),
        StopIteration(3),
        GeneratorExit(),
        SystemExit(7),
        KeyboardInterrupt("mine"),
        MemoryError("none"),
        RecursionError("deep"),
        UnicodeDecodeError("utf8", b"x", 0, 1, "bad"),
    ],
)
@pytest.mark.parametrize("vectorized", [False, True])
def test_exceptions_come_out_unchanged(error, vectorized):
    calls = 0

    def raises_it(t, y):
        nonlocal calls
        calls += 1
        if calls > 20:
            raise error
        return -y

    f = pn.callback_field(raises_it, 2, vectorized=vectorized)
    with pytest.raises(type(error)) as caught:
        pn.solve(f, BATCH, [0.0, 1e3])
    assert caught.value is error and caught.value.args == error.args and calls == 21
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "raises_it" and "solve" in names
    error.__traceback__ = None


def test_exceptions_in_the_vjp():
    error, calls = Mine("back"), []

    def raises_it(t, y, th, g):
        calls.append(1)
        raise error

    f = pn.callback_field(rotation, 2, 2, vjp=raises_it)
    for options in ({}, {"adjoint": "reversible"}, {"memory": "100KB"}):
        with pytest.raises(Mine) as caught:
            pn.loss_and_grad(f, BATCH, T, THETA, np.zeros((11, 5, 2)), **options)
        assert caught.value is error
    assert len(calls) == 3


def test_causes_and_contexts_are_kept():
    def f(t, y):
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError as zero:
            raise Mine("later") from zero

    with pytest.raises(Mine) as caught:
        pn.solve(f, [1.0], T)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_solve_inside_an_exception_handler():
    try:
        raise Mine
    except Mine:
        assert pn.solve(lambda t, y: -y, [1.0], T).ok
        assert isinstance(sys.exc_info()[1], Mine)


# ---- arrays of the callback


def test_arrays_may_be_kept():
    kept = []

    def f(t, y):
        kept.append((t, y))
        return -y

    s = pn.solve(pn.callback_field(f, 2, vectorized=True), BATCH, T)
    copies = [(t.copy(), y.copy()) for t, y in kept]
    pn.solve(oscillator, BATCH, T)
    gc.collect()
    for (t, y), (a, b) in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(t, a)
        np.testing.assert_array_equal(y, b)
    np.testing.assert_array_equal(kept[0][1], BATCH[: len(kept[0][1])])
    assert s.ok


def test_arrays_may_be_changed():
    def f(t, y):
        out = -y
        y[:] = np.nan
        t[:] = 1e9
        return out

    a = pn.solve(pn.callback_field(f, 2, vectorized=True), BATCH, T)
    b = pn.solve(pn.callback_field(lambda t, y: -y, 2, vectorized=True), BATCH, T)
    np.testing.assert_array_equal(a.y, b.y)

    def in_place(t, y):
        y *= -1
        return y

    np.testing.assert_array_equal(pn.solve(in_place, BATCH, T).y, b.y)


def test_the_users_theta_is_not_changed():
    def f(t, y, th):
        th *= 0.5
        return -y

    theta = THETA.copy()
    pn.solve(pn.callback_field(f, 2, 2), [1.0, 2.0], T, theta)
    np.testing.assert_array_equal(theta, THETA)


# ---- recursion and threads


def test_a_field_that_solves():
    inner = []

    def f(t, y):
        s = pn.solve(oscillator, np.stack([y, y]), [0, 1.0], threads=2)
        inner.append(s.y[0, -1])
        return pn.solve(lambda t, z: -z, y, [0.0, 1.0]).y[-1]

    s = pn.solve(f, [1.0, 2.0], [0, 0.5], rtol=1e-3)
    np.testing.assert_allclose(s.y[-1], np.array([1.0, 2.0]) * np.exp(np.exp(-1) * 0.5), rtol=1e-4)
    assert len(inner) == s.stats.nfe


def test_infinite_recursion_ends():
    limit = sys.getrecursionlimit()

    def f(t, y):
        return pn.solve(f, y, [0, 1.0]).y[-1]

    sys.setrecursionlimit(200)
    try:
        with pytest.raises(RecursionError):
            pn.solve(f, [1.0], [0, 1.0])
    finally:
        sys.setrecursionlimit(limit)


def test_callbacks_from_several_threads():
    alone = pn.loss_and_grad(SINGLE, BATCH, T, THETA, np.zeros((11, 5, 2)))

    def work(i):
        if i % 3 == 2:
            with pytest.raises(Mine):
                pn.solve(pn.callback_field(lambda t, y: (_ for _ in ()).throw(Mine(i)), 2), BATCH, T)
        return pn.loss_and_grad(SINGLE if i % 2 else VECTORIZED, BATCH, T, THETA, np.zeros((11, 5, 2)))

    with ThreadPoolExecutor(4) as pool:
        for i, v in enumerate(pool.map(work, range(24))):
            if i % 2:
                assert v.loss == alone.loss
                np.testing.assert_array_equal(v.theta, alone.theta)


# ---- Ctrl-C

LATENCY = 0.1


def interrupted(call, delay=0.15):
    """Seconds between SIGINT and KeyboardInterrupt."""
    sent = []

    def send():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(delay, send)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            call()
            time.sleep(5)  # in case the call ended first: then the test fails below
        seconds = time.perf_counter() - sent[0]
    finally:
        timer.join()
    return seconds


WIDE = pn.mlp(400, (2000, 2000))
WIDE_THETA = np.full(WIDE.n_params, 1e-3)
UNEVEN = [[0, 1e-3]] * 255 + [[0, 1e9]]
LONG = [0, 1e9]
LONG_SOLVES = {
    "one sample": lambda: pn.solve(oscillator, [1.0, 0.0], LONG, **FOREVER),
    "one thread": lambda: pn.solve(oscillator, np.ones((64, 2)), LONG, threads=1, **FOREVER),
    "two threads": lambda: pn.solve(oscillator, np.ones((512, 2)), LONG, threads=2, **FOREVER),
    "one hard sample among easy ones": lambda: pn.solve(oscillator, np.ones((256, 2)), UNEVEN, threads=2, **FOREVER),
    "one hard sample, first": lambda: pn.solve(oscillator, np.ones((256, 2)), UNEVEN[::-1], threads=2, **FOREVER),
    "fixed steps": lambda: pn.solve(oscillator, [1.0, 0.0], [0, 1.0], method="rk4", step=1e-9),
    "a large network": lambda: pn.solve(WIDE, np.ones((16, 400)), LONG, WIDE_THETA, threads=2, **FOREVER),
    "replaying checkpoints": lambda: pn.loss_and_grad(
        oscillator, [1.0, 0.0], [0, 3e6], None, np.zeros((2, 2)), memory="2MB", wrt="y0", **FOREVER
    ),
    "reversible": lambda: pn.loss_and_grad(
        oscillator, [1.0, 0.0], LONG, None, np.zeros((2, 2)), adjoint="reversible", wrt="y0", **FOREVER
    ),
    "a callback": lambda: pn.solve(lambda t, y: [y[1], -y[0]], [1.0, 0.0], LONG, **FOREVER),
    "a vectorized callback": lambda: pn.solve(VECTORIZED, BATCH, LONG, THETA, **FOREVER),
}


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("name", LONG_SOLVES)
def test_ctrl_c(name):
    for _ in range(5):  # on a busy machine other processes are counted, too: then again
        seconds = interrupted(LONG_SOLVES[name])
        if seconds < LATENCY:
            break
    print(f"\nCtrl-C, {name}: {1e3 * seconds:.1f} ms")
    assert seconds < LATENCY
    assert pn.solve(oscillator, [1.0, 0.0], T).ok


def test_other_signal_handlers_run_during_a_solve():
    class Alarm(Exception):
        pass

    def handler(number, frame):
        raise Alarm

    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        start = time.perf_counter()
        with pytest.raises(Alarm):
            pn.solve(oscillator, [1.0, 0.0], LONG, **FOREVER)
        assert time.perf_counter() - start < 0.05 + LATENCY + 0.1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_other_threads_run_during_a_solve():
    count, stop = [0], threading.Event()

    def spin():
        while not stop.is_set():
            count[0] += 1
            time.sleep(1e-4)

    thread = threading.Thread(target=spin)
    thread.start()
    before, start = count[0], time.perf_counter()
    pn.solve(oscillator, [1.0, 0.0], [0, 3e5], max_steps=10**9)
    seconds = time.perf_counter() - start
    after = count[0]
    stop.set()
    thread.join()
    assert after - before > seconds / 5e-2


# ---- leaks


def everything_once(i):
    """One call of each kind, good and bad."""
    target = np.zeros((11, 5, 2))
    pn.solve(oscillator, BATCH, T, steps=True, dense=True)
    pn.solve(SINGLE, BATCH[0], T[:2], THETA, rtol=1e-2)
    pn.loss_and_grad(TRACED, BATCH, T, THETA, target, wrt=("theta", "y0", "t"))
    pn.loss_and_grad(TRACED, BATCH, T, THETA, target, memory="100KB")
    pn.loss_and_grad(TRACED, BATCH, T, THETA, target, adjoint="reversible")

    def bad(t, y):
        raise Mine(i)

    program = oscillator.program
    for call in (
        lambda: pn.solve(bad, BATCH, T),
        lambda: pn.solve(lambda t, y: y[:1], BATCH, T),
        lambda: pn.solve(TRACED, BATCH, T, THETA[:1]),
        lambda: pn.solve(oscillator, [1.0, 0.0], [0.0, 1e9], max_steps=3, errors="raise"),
        lambda: _core.Problem(program.core, y0=BATCH, t=T, step="a"),
        lambda: _core.Problem(program.core, y0=BATCH, t=T[::-1], t_len=[1]),
        lambda: _core.Problem(program.core, y0=BATCH, t=T).run(np.zeros(0), out=np.zeros(3)),
        lambda: _core.Program(program.sizes, 3, program.code[:0], [], [], [5], [0], [], [0, 0, 0]),
        lambda: _core.evaluate(program.core, [T], []),
        lambda: _core.set_isa("foo"),
        lambda: _core.set_num_threads(0),
    ):
        with pytest.raises((Mine, ValueError, TypeError, pn.SolveError)):
            call()


def test_no_memory_is_lost():
    watched = [BATCH, T, THETA, TRACED.program.core, oscillator.program.core, rotation]
    for i in range(10):
        everything_once(i)
    gc.collect()
    counts = [sys.getrefcount(x) for x in watched]
    tracemalloc.start()
    try:
        sizes = []
        for i in range(600):
            everything_once(i)
            if i % 60 == 59:
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert [sys.getrefcount(x) for x in watched] == counts
    growth = min(np.diff(sizes))  # Python's own caches grow for a while
    print(f"\ntracemalloc: {growth} bytes more after 60 rounds")
    assert growth < 2_000


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="Linux only")
def test_no_memory_of_c_is_lost():
    y0, target = np.ones((64, 2)), np.zeros((64, 5, 2))
    o = pn.Objective(TRACED, y0, T, target)

    def stop(t, y):
        if t > 0.1:
            raise Mine
        return -y

    def rounds(n):
        for _ in range(n):
            o(THETA)
            pn.solve(oscillator, y0, [0, 20.0], steps=True, dense=True)
            with pytest.raises(Mine):
                pn.solve(stop, y0[:4], T, steps=True)

    rounds(60)
    before = resident()
    rounds(200)
    grown = resident() - before
    print(f"\nresident memory: {grown / 200:.0f} bytes more a round")
    assert grown < 4e6


def test_fields_and_results_are_collected():
    import weakref

    def make():
        f = pn.callback_field(lambda t, y: -y, 2)
        s = pn.solve(f, BATCH, T, dense=True)
        return weakref.ref(f), weakref.ref(s)

    refs = make()
    gc.collect()
    assert [r() for r in refs] == [None, None]
