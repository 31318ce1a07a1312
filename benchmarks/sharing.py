"""Threads, and what else runs on the machine."""

import multiprocessing
import os
import time

import numpy as np
from cases import CASES
from topics import best, claim, tell

import pynode as pn

SHARED = 1.2
"""Waiting threads must not take the processor from others: at most this much longer."""


def objective(name, threads, batch=None):
    """(Objective of a case, theta), perhaps with another number of samples."""
    case = CASES[name]
    weights, y0, t, target = case.arrays()
    if batch:
        random = np.random.default_rng(1)
        y0, target = random.standard_normal((batch, case.d)), random.standard_normal((case.n_times, batch, case.d))
    theta = np.concatenate([a.ravel() for layer in weights for a in layer]).astype(y0.dtype)
    options = {"method": case.method, "rtol": case.rtol, "atol": case.atol, "threads": threads}
    return pn.Objective(pn.mlp(case.d, case.hidden), y0, t, target.swapaxes(0, 1), **options), theta


def threads(quick):
    for name, batch, title in (("vdp", 1024, "vdp, 1024 samples"), ("big", None, "big")):
        (one, theta), (two, _) = (objective(name, n, batch) for n in (1, 2))
        a, b = best(
            [lambda one=one, x=theta: one(x), lambda two=two, x=theta: two(x)],
            0.1 if quick else 3.0,
            clock=time.perf_counter,
        )
        yield claim(f"{title}: 1 thread over 2 threads", a / b, "x", least=1.8)
        same = np.array_equal(one(theta)[1], two(theta)[1])
        yield claim(f"{title}: the same bits with 2 threads", float(same), least=1)


def _pool(args):
    n, seconds = args
    call, theta = objective("vdp", n)
    return best([lambda: call(theta)], seconds, clock=time.perf_counter)[0]


def pool(quick):
    """As many processes as there are processors, each with as many threads: no slower than with one."""
    processes, seconds = os.cpu_count() or 1, 0.1 if quick else 1.5
    took = {}
    with multiprocessing.get_context("spawn").Pool(processes) as workers:
        for _ in range(2):
            for n in (1, 2):
                each = workers.map(_pool, [(n, seconds)] * processes, chunksize=1)
                took[n] = min(took.get(n, np.inf), float(np.mean(each)))
    yield claim(f"{processes} processes, 2 threads each over 1 thread each", took[2] / took[1], "x", most=SHARED)


def blas(quick):
    """A matrix product (NumPy's threads) before each gradient, against the two by themselves."""
    call, theta = objective("vdp", 2)
    matrix = np.random.default_rng(0).standard_normal((300, 300))

    def both():
        matrix @ matrix
        call(theta)

    product, gradient, together = best(
        [lambda: matrix @ matrix, lambda: call(theta), both], 0.1 if quick else 2.0, clock=time.perf_counter
    )
    yield claim("gradient after a BLAS product, over both alone", together / (product + gradient), "x", most=SHARED)


def fork(quick):
    """A child of a process that has used threads solves with threads of its own."""
    call, theta = objective("vdp", 2)
    expected, good = call(theta)[1], False
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(call(theta)[1], expected) else 1)
    good = os.waitpid(child, 0)[1] == 0
    yield claim("after fork: the same bits with 2 threads", float(good), least=1)


def claims(quick):
    for topic in (threads, pool, blas, fork):
        yield from topic(quick)


if __name__ == "__main__":
    tell(claims)
