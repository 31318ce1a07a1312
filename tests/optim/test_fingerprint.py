"""Fingerprints tell apart whatever training can depend on, and are the same in every process."""

import itertools
import math
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

import pynode as pn
from pynode.optim.fingerprint import fingerprint
from pynode.optim.schedules import cosine, one_cycle


class Falling:
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, done):
        return math.exp(-self.rate * done)

    def factor(self, done):
        return 1 - self.rate * done


def countdown(n):
    def again(k):
        return n if k == 0 else again(k - 1)

    return again


def power(done, k=1, *, of=2.0):
    return of**-k * done


def made(text):
    """A new function, as another process makes it."""
    return eval(text, {"math": math})


def pair(first, second):
    both = np.empty(2, object)
    both[:] = first, second
    return both


HEUN = pn.Tableau([[0, 0], [1, 0]], [0.5, 0.5], order=2)
MIDPOINT = pn.Tableau([[0, 0], [0.5, 0]], [0, 1], order=2)

DIFFERENT = {
    "numbers side by side": lambda: [(1, 150), (11, 50)],
    "text side by side": lambda: [("a", "bc"), ("ab", "c"), {"a": "bc"}, {"ab": "c"}],
    "depth": lambda: [((1, 2), 3), (1, (2, 3)), (1, 2, 3)],
    "types": lambda: [1, 1.0, "1", b"1", True, None, {1: 0}, {"1": 0}, [1], {1}],
    "zeros": lambda: [0.0, -0.0, np.zeros(1), np.zeros(1, np.float32), np.zeros((1, 1))],
    "constants": lambda: [made("lambda d: 1 - 0.5 * d"), made("lambda d: 1 - 0.6 * d")],
    "closures": lambda: [cosine(0.1), cosine(0.5), one_cycle(), one_cycle(0.3), countdown(1), countdown(2)],
    "names": lambda: [made("lambda d: math.sqrt(d)"), made("lambda d: math.exp(d)")],
    "nested code": lambda: [made("lambda d: (lambda: d + 1)()"), made("lambda d: (lambda: d + 2)()")],
    "defaults": lambda: [made("lambda x, k=1: x + k"), made("lambda x, k=2: x + k"), made("lambda x, *, k=1: x + k")],
    "partial": lambda: [partial(power, k=1), partial(power, k=2), partial(power, of=3.0), power],
    "objects": lambda: [Falling(1.0), Falling(2.0), Falling(1.0).factor, Falling(2.0).factor],
    "arrays of objects": lambda: [pair(None, "a"), pair("a", None), pair(HEUN, None), pair(MIDPOINT, None)],
    "sets": lambda: [{"one", "two", "three"}, {"one", "two"}],
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_has_another_fingerprint(name):
    """And what is made again has the same one."""
    found = [fingerprint(x) for x in DIFFERENT[name]()]
    assert [fingerprint(x) for x in DIFFERENT[name]()] == found
    for a, b in itertools.combinations(found, 2):
        assert a != b


def all_of_them():
    return fingerprint([make() for make in DIFFERENT.values()])


def test_it_is_the_same_in_another_process():
    command = [sys.executable, "-c", "import test_fingerprint as here; print(here.all_of_them())"]
    found = set() if "PYNODE_LINES" in os.environ else {all_of_them()}  # code whose lines are counted is other code
    for seed in ("1", "2"):
        path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path}
        found.add(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip())
    assert len(found) == 1


def test_numbers_of_numpy_are_numbers():
    assert fingerprint(np.int64(3), np.float64(0.1), (4,)) == fingerprint(3, 0.1, [4])
