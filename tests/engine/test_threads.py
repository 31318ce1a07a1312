"""Threads, processes, the environment, and how long it takes to begin."""

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import pynode as pn
from pynode import _core

ROOT = Path(pn.__file__).parents[1]
T = np.linspace(0, 2, 9)
NET = pn.mlp(2, (8,))
THETA = NET.init(0)
RNG = np.random.default_rng(0)
BATCH = RNG.normal(size=(300, 2))
TARGET = RNG.normal(size=(300, 9, 2))


def bits(v):
    return [
        np.float64(v.loss).tobytes(),
        v.theta.tobytes(),
        v.y0.tobytes(),
        v.t.tobytes(),
        v.y.tobytes(),
        v.stats.nfe.tobytes(),
    ]


def full(**options):
    return bits(pn.loss_and_grad(NET, BATCH, T, THETA, TARGET, wrt=("theta", "y0", "t"), **options))


@pytest.fixture
def threads():
    """The setting, put back afterwards."""
    before = pn.num_threads()
    yield
    pn.set_num_threads(before)


# ---- in one process


@pytest.mark.parametrize(
    "options", [{}, {"memory": "1MB"}, {"adjoint": "reversible"}, {"adjoint": "backsolve"}, {"dtype": np.float32}]
)
def test_any_number_of_threads_gives_the_same_bits(options, threads):
    alone = full(threads=1, **options)
    for n in (2, 3, 7, 64, 300):
        assert full(threads=n, **options) == alone
    pn.set_num_threads(3)
    assert full(**options) == alone


def job(i):
    """One of several kinds of solves: its bits."""
    rng = np.random.default_rng(i)
    y0, n = rng.normal(size=(5 + i % 40, 2)), 5 + i % 40
    theta = THETA + 0.1 * rng.normal(size=THETA.size)
    kind = i % 5
    if kind == 0:
        return pn.solve(NET, y0, T, theta, threads=1 + i % 3).y.tobytes()
    if kind == 1:
        return pn.solve(NET, y0[0], T, theta, dense=True)(0.3).tobytes()
    if kind == 2:
        return pn.solve(lambda t, y: -y, y0[:2], T, rtol=1e-3).y.tobytes()
    options = {} if kind == 3 else {"memory": "1MB"}
    v = pn.loss_and_grad(NET, y0, T, theta, np.ones((n, 9, 2)), threads=1 + i % 2, **options)
    return v.theta.tobytes()


def test_python_threads_at_once_give_the_same_bits():
    alone = [job(i) for i in range(120)]
    for _ in range(2):
        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(job, range(120))) == alone


def test_one_objective_for_many_threads():
    o = pn.Objective(NET, BATCH[:50], T, TARGET[:50])
    thetas = [THETA * s for s in np.linspace(0.5, 1.5, 24)]
    alone = [(v, g.tobytes()) for v, g in map(o, thetas)]
    with ThreadPoolExecutor(6) as pool:
        assert [(v, g.tobytes()) for v, g in pool.map(o, thetas)] == alone


def test_first_uses_at_once():
    """Lazy parts of a field (its programs, the checked C objects) are made by whoever comes first."""
    for _ in range(10):
        f = pn.mlp(2, (6, 5))
        start = threading.Barrier(4)

        def first(_, f=f, start=start):
            start.wait()
            return pn.loss_and_grad(f, BATCH[:3], T, f.init(0), TARGET[:3]).theta.tobytes()

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(first, range(4)))) == 1


def test_settings_while_others_solve(threads):
    isa, done = pn.isa(), threading.Event()

    def turn():
        while not done.is_set():
            pn.set_num_threads(1)
            pn.set_num_threads(4)
            pn.set_isa(isa)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        alone = full(threads=1)
        for _ in range(10):
            assert full() == alone
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("n", [0, -1, 2**40, 10**30])
def test_bad_numbers_of_threads(n):
    with pytest.raises(ValueError, match=rf"between 1 and 4096, got {n}"):
        pn.set_num_threads(n)


@pytest.mark.parametrize("n", [1.5, "2", None])
def test_bad_kinds_of_threads(n):
    with pytest.raises(TypeError):
        pn.set_num_threads(n)


def test_bad_instruction_sets():
    with pytest.raises(ValueError, match=r"'foo' is not available here; choose from plain"):
        pn.set_isa("foo")
    with pytest.raises(TypeError):
        pn.set_isa(5)


# ---- several processes

needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork_after_threads():
    alone = full(threads=4)  # threads of C have run
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(job, range(6)))
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, b"same" if full(threads=4) == alone else b"other")
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        assert file.read() == b"same"
    assert os.waitpid(pid, 0)[1] == 0


def remote(argument):
    f, theta, y0 = argument
    return os.getpid(), pn.loss_and_grad(f, y0, T, theta, np.ones((len(y0), 9, 2)), threads=2).theta.tobytes()


@pytest.mark.parametrize(
    "method", ["spawn", pytest.param("fork", marks=needs_fork), pytest.param("forkserver", marks=needs_fork)]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_process_pools(method):
    traced = pn.field(state=2, theta={"k": ()})(lambda t, y, th: [y[1], -th.k * y[0]])
    work = [(NET, THETA, BATCH[:20]), (traced, np.array([2.0]), BATCH[:20])] * 2
    here = [remote(w)[1] for w in work]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        there = list(pool.map(remote, work))
    assert [b for _, b in there] == here and os.getpid() not in {pid for pid, _ in there}


def test_pickles():
    for f in (
        NET,
        pn.field(state=2, inputs=1)(lambda t, y, u: [y[1], u[0]]),
        pn.jacobian(NET),
        pn.callback_field(rate, 2, 1),
    ):
        f.program.core  # noqa: B018
        copy = pickle.loads(pickle.dumps(f))
        theta, u = f.init(0), [0.5] if f.inputs else None
        np.testing.assert_array_equal(copy(0.1, [1.0, 2.0], theta, u), f(0.1, [1.0, 2.0], theta, u))
        assert repr(copy) == repr(f)
    program = pickle.loads(pickle.dumps(NET.vjp_program))
    assert program.core.slot_sizes == NET.vjp_program.core.slot_sizes


def rate(t, y, th):
    return -th * y


def test_core_objects_are_not_pickled_silently():
    for x in (NET.program.core, _core.Problem(NET.program.core, y0=BATCH, t=T)):
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(x)


# ---- the environment


def python(code, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYNODE_")} | environment
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [env.get("PYTHONPATH")])])
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True, timeout=60)


def test_environment_of_threads():
    show = "import pynode; print(pynode.num_threads())"
    assert python(show, PYNODE_NUM_THREADS="3").stdout == "3\n"
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert python(show).stdout == python(show, PYNODE_NUM_THREADS="").stdout == f"{cpus}\n"


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("PYNODE_NUM_THREADS", "0", ["ValueError", "PYNODE_NUM_THREADS", "between 1 and 4096, got 0"]),
        ("PYNODE_NUM_THREADS", "-1", ["ValueError", "PYNODE_NUM_THREADS", "got -1"]),
        ("PYNODE_NUM_THREADS", "two", ["ValueError", "PYNODE_NUM_THREADS", "'two' is not a whole number"]),
        ("PYNODE_NUM_THREADS", "9" * 50, ["ValueError", "PYNODE_NUM_THREADS", "between 1 and 4096"]),
        ("PYNODE_ISA", "foo", ["ValueError", "PYNODE_ISA", "'foo' is not available here; choose from plain"]),
    ],
)
def test_bad_environment(name, value, words):
    done = python("import pynode; pynode.solve", **{name: value})
    assert done.returncode == 1
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.mark.parametrize("isa", _core.ISAS)
def test_environment_of_instruction_sets(isa):
    done = python(
        """
        import numpy as np, pynode as pn
        f = pn.mlp(2, (8,))
        s = pn.solve(f, np.ones((9, 2)), [0, 1.0], f.init(0))
        print(pn.isa(), s.stats.backend, repr(float(s.y[0, -1, 0])))
    """,
        PYNODE_ISA=isa,
    )
    used, backend, y = done.stdout.split()
    assert used == backend == isa
    s = pn.solve(pn.mlp(2, (8,)), np.ones((9, 2)), [0, 1.0], pn.mlp(2, (8,)).init(0))
    assert float(y) == pytest.approx(s.y[0, -1, 0], rel=1e-9)


# ---- how long it takes to begin


def least(code, times=4):
    """The least of the numbers that the code prints, in seconds."""
    return min(float(python(code).stdout) for _ in range(times))


STOPWATCH = "import numpy, time; start = time.perf_counter(); import pynode; {} print(time.perf_counter() - start)"


def test_import_time():
    alone, used = least(STOPWATCH.format("")), least(STOPWATCH.format("pynode.mlp, pynode.solve, pynode.loss_and_grad;"))
    print(f"\nimport pynode after numpy: {1e3 * alone:.1f} ms; with mlp, solve and loss_and_grad {1e3 * used:.1f} ms")
    assert alone < 0.030  # the goal; a few ms as a rule
    assert used < 0.150  # 30 to 60 ms as a rule, on a machine with nothing else to do


def test_nothing_large_is_imported():
    done = python("""
        import json, sys, pynode as pn, numpy as np
        pn.__version__; dir(pn)
        f = pn.mlp(2, (4,))
        v = pn.loss_and_grad(f, [1.0, 0.0], np.linspace(0, 1, 5), f.init(0), np.zeros((5, 2)))
        large = ["scipy", "matplotlib", "pandas", "sklearn", "tqdm", "joblib", "multiprocessing"]
        print(json.dumps([m for m in large if m in sys.modules]))
    """)
    assert json.loads(done.stdout) == []


def test_first_gradient():
    seconds = least(
        """
        import time; start = time.perf_counter()
        import numpy as np, pynode as pn
        f = pn.mlp(2, (32, 32))
        t = np.linspace(0, 5, 50)
        v = pn.loss_and_grad(f, np.ones((10, 2)), t, f.init(0), np.zeros((10, 50, 2)))
        print(time.perf_counter() - start)
    """,
        3,
    )
    print(f"\nfirst loss_and_grad from the start of the process: {seconds:.3f} s, imports included")
    assert seconds < 0.3 * 2  # the goal is 0.3 s
