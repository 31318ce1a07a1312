"""Every allocation of Python fails in turn, in each kind of call of the core: python tests/nomemory.py [kind ...]

Needs an interpreter with the module _testcapi. The calls of pynode._core that a public call makes are recorded, and
each is repeated with its k-th allocation failing, for k = 0, 1, ... until it makes no more: it must raise MemoryError
or give the right results, and work afterwards, with the same bits. NumPy and Python themselves are left out: NumPy
crashes where a scalar cannot be allocated. With --limit the memory of the process is limited instead (RLIMIT_AS), to
less and less, during the whole public call. A crash ends the script, and the last line says where.
csrc/tests/test_alloc.c does the same for the memory that the core asks for itself.
"""

import _testcapi
import argparse
import faulthandler
import importlib.util
import os
import resource
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

import pynode as pn
from pynode import _core
from pynode.calls.taped import TapedSolver

NET = pn.mlp(3, (4,), inputs=1)
THETA = NET.init(0)
T = np.linspace(0, 1, 5)
Y0 = np.random.default_rng(0).normal(size=(9, 3))
U = (T, np.sin(T)[:, None])
STIFF = pn.field(state=2, theta={"mu": 10.0})(lambda t, y, th: [y[1], th.mu * (1 - y[0] ** 2) * y[1] - y[0]])
BALL = pn.field(state=2)(lambda t, y: [y[1], -9.81 + 0 * y[0]])
BOUNCE = pn.event(lambda t, y: y[0], reset=lambda t, y: [y[0], -0.8 * y[1]], direction=-1)
PATH = Path(tempfile.mkdtemp(), "m.npz")
CIRCLE = np.stack([np.cos(T), -np.sin(T)], axis=1)
MODEL = pn.NeuralODE(hidden=(2,), max_iter=1, random_state=0, structure="network")
TABLE = ("name", "order", "error_order", "c", "a", "b", "e", "dense", "dense_order")


def objective():
    """A loss and its gradient, for many calls."""
    return pn.Objective(NET, Y0, T, np.zeros((9, 5, 3)), inputs=U)


KINDS = {
    "solve": lambda: pn.solve(NET, Y0, T, THETA, inputs=U).y,
    "dense": lambda: pn.solve(NET, Y0, T, THETA, inputs=U, dense=True)(0.3),
    "float32": lambda: pn.solve(NET, Y0.astype(np.float32), T, THETA, inputs=U).y,
    "stiff": lambda: pn.solve(STIFF, [2.0, 0.0], T, [10.0], method="rodas5p").y,
    "callback": lambda: pn.solve(lambda t, y: -y, Y0, T).y,
    "gradient": lambda: pn.loss_and_grad(NET, Y0, T, THETA, np.zeros((9, 5, 3)), inputs=U, wrt=("theta", "y0", "t")).theta,
    "memory": lambda: pn.loss_and_grad(NET, Y0, T, THETA, np.zeros((9, 5, 3)), inputs=U, memory="200KB").theta,
    "backsolve": lambda: pn.loss_and_grad(NET, Y0, T, THETA, np.zeros((9, 5, 3)), inputs=U, adjoint="backsolve").theta,
    "objective": lambda: objective()(THETA)[1],
    "sensitivities": lambda: pn.sensitivities(NET, Y0, T, THETA, inputs=U).theta,
    "events": lambda: pn.solve(BALL, [1.0, 0.0], T, events=BOUNCE).y,
    "trace": lambda: pn.field(state=2, theta={"k": 1.0})(lambda t, y, th: [y[1], -th.k * np.sin(y[0])])(
        0.0, [1.0, 0.0], [2.0]
    ),
    "lbfgs": lambda: pn.fit.lbfgs(objective(), THETA, max_iter=2).theta,
    "save and load": lambda: (MODEL.save(PATH), pn.load(PATH).theta_)[1],
    "predict": lambda: MODEL.predict(T, [1.0, 0.0]),
}


def imported():
    """The core once more, as a module of its own."""
    spec = importlib.util.spec_from_file_location("pynode._core", _core.__file__)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SystemError as error:  # PyType_FromModuleAndSpec of Python 3.11 does not say why it failed
        raise MemoryError from error
    return np.array([len(module.OPS), len(module.STATUS), len(module.ISAS)])


def problem():
    """A problem of the core, as a public call makes it."""
    kept, made = _core.Problem, []
    try:
        _core.Problem = lambda *args, **kwargs: made.append(kept(*args, **kwargs)) or made[-1]
        TapedSolver(NET).run(Y0, T, THETA, inputs=U, keep=True)
    finally:
        _core.Problem = kept
    return made[0]


def direct():
    """{name: a call of the core itself, which public calls do not make as it is}."""
    solved = problem()
    results = solved.run(THETA)
    table = {name: x for name, x in pn.Tableau([[], [1.0]], [0.5, 0.5], b_hat=[1.0, 0.0]).row.items() if name in TABLE}
    return {
        "import": imported,
        "results": lambda: [results[name] for name in (*results, *results.keys()) if name in results],
        "absent": lambda: results.get("sensitivity", 0.0),
        "copied": lambda: copied(results)["y"],
        "tables": lambda: [table["b"] for table in _core.tableaus()],
        "table": lambda: _core.Tableau(**table).row()["b"],
        "sizes": lambda: np.array([*NET.program.slot_sizes, *NET.program.output_sizes, *NET.program.n_theta]),
        "tape": lambda: taped(solved),
        "choices": lambda: (_core.set_isa(_core.isa()), _core.set_num_threads(1), float(_core.num_threads())),
    }


def copied(results):
    """As pickle copies them."""
    kind, arguments = results.__reduce__()
    return kind(*arguments)


def taped(solved):
    """A solve, and back with a cotangent of its own."""
    tape = _core.Tape()
    results = solved.run(THETA, gradient="discrete", tape=tape)
    return [results["y"], solved.back(tape, np.ones((45, 3)))["g_theta"]]


def bits(result):
    """The bytes of results; b"" of what is no array."""
    if isinstance(result, (list, tuple)):
        return b"".join(bits(part) for part in result)
    return np.ascontiguousarray(result).tobytes() if isinstance(result, (np.ndarray, float)) else b""


def recorded(call):
    """The calls of the core that a public call makes, as (name, function without arguments)."""
    calls = []
    kept = {name: getattr(_core, name) for name in ("Problem", "Program", "Tableau", "evaluate", "evaluate_row")}

    def recording(function):
        def recorder(*args, **kwargs):
            made = function(*args, **kwargs)
            calls.append((function.__name__, lambda: function(*args, **kwargs)))
            return Recorded(made, calls) if function is kept["Problem"] else made

        return recorder

    try:
        for name, function in kept.items():
            setattr(_core, name, recording(function))
        call()
    finally:
        for name, function in kept.items():
            setattr(_core, name, function)
    return calls


class Recorded:
    """A problem whose runs are recorded."""

    def __init__(self, problem, calls):
        self.problem = problem
        self.calls = calls

    def __getattr__(self, name):
        return getattr(self.problem, name)

    def run(self, *args, **kwargs):
        def again():
            found = self.problem.run(*args, **kwargs)
            return [found[name] for name in sorted(found)]

        self.calls.append(("run", again))
        return self.problem.run(*args, **kwargs)


def refusing(call, k):
    """What a call gives where allocation k fails: its bits, or the exception."""
    try:
        _testcapi.set_nomemory(k, k + 1)
        try:
            result = call()
        finally:
            _testcapi.remove_mem_hooks()
        return bits(result)
    except BaseException as error:
        return error


def limited(call, free):
    """What a call gives where the process may take so many bytes more."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (now + free, before[1]))
        try:
            result = call()
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
        return bits(result)
    except BaseException as error:
        return error


def allocations(calls):
    """(allocations that failed, what is wrong) in calls of the core, as (name, function)."""
    wrong = []
    failed = 0
    seen = Counter()
    for name, one in calls:
        seen[name] += 1
        if seen[name] > 4:
            continue
        right = bits(one())
        row = 0
        for k in range(100_000):
            found = refusing(one, k)
            if isinstance(found, MemoryError):
                failed += 1
                row = 0
            elif isinstance(found, BaseException):
                wrong.append(f"{name}, allocation {k}: {type(found).__name__}: {found}")
            else:
                row += 1
                if found != right:
                    wrong.append(f"{name}, allocation {k}: another result")
            if bits(one()) != right:
                wrong.append(f"{name}, after allocation {k}: another result")
            if row > 100:  # some failures do no harm, as in a free list; so many in a row are the end
                break
    return failed, wrong


def limits(call):
    """The same under limits of memory, from 256 MiB more than there is down to nothing."""
    right = bits(call())
    wrong = []
    for shift in range(28, 11, -1):
        found = limited(call, 1 << shift)
        if isinstance(found, BaseException) and not isinstance(found, MemoryError):
            wrong.append(f"{1 << shift} bytes: {type(found).__name__}: {found}")
        elif not isinstance(found, BaseException) and found != right:
            wrong.append(f"{1 << shift} bytes: another result")
        if bits(call()) != right:
            wrong.append(f"after {1 << shift} bytes: another result")
    return 17, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="kind")
    parser.add_argument("--limit", action="store_true")
    given = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore")
    pn.set_num_threads(1)
    MODEL.fit(T, CIRCLE)
    bad = 0
    own = {} if given.limit else direct()
    for kind in [*given.kinds, *own]:
        print(kind, end=": ", flush=True)
        if given.limit:
            tried, wrong = limits(KINDS[kind])
        else:
            tried, wrong = allocations([(kind, own[kind])] if kind in own else recorded(KINDS[kind]))
        bad += len(wrong)
        print(f"{tried} failures, {len(wrong)} wrong", *wrong[:8], sep="\n    " if wrong else "", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
