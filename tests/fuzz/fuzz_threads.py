"""Fifty threads that solve, change the arrays they gave, raise, call again from a callback, and fork."""

import gc
import os
import sys
import threading

import numpy as np
from odd import one_of

import pynode as pn

NET = pn.mlp(3, (4,))
THETA = NET.init(0)
T = np.linspace(0, 1, 5)
Y0 = np.random.default_rng(0).normal(size=(20, 3))
RIGHT = pn.solve(NET, Y0, T, THETA).y
GRADIENT = pn.loss_and_grad(NET, Y0, T, THETA, RIGHT + 1).theta


def plain():
    assert pn.solve(NET, Y0, T, THETA, threads=2).y.tobytes() == RIGHT.tobytes()


def gradient():
    assert pn.loss_and_grad(NET, Y0, T, THETA, RIGHT + 1).theta.tobytes() == GRADIENT.tobytes()


def changing():
    """Arguments that another thread writes meanwhile: any finite numbers, no crash."""
    y0 = Y0.copy()
    theta = THETA.copy()
    t = T.copy()
    stop = threading.Event()

    def write():
        while not stop.is_set():
            y0[:] += 1e-9
            theta[:] *= 1 + 1e-12
            t[1] = t[1] + 0.0

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            pn.loss_and_grad(NET, y0, t, theta, RIGHT)
    finally:
        stop.set()
        writer.join()


def raising():
    def f(t, y):
        raise KeyError("mine")

    try:
        pn.solve(pn.callback_field(f, 2), np.ones((3, 2)), T)
    except KeyError:
        return
    raise AssertionError("the exception was lost")


def entering():
    def f(t, y):
        return -pn.solve(NET, np.append(y, 0.0), T[:2], THETA).y[-1, :2]

    assert np.isfinite(pn.solve(pn.callback_field(f, 2), np.ones((2, 2)), T[:2], rtol=1e-3).y).all()


def forking():
    child = os.fork()
    if child == 0:
        good = pn.solve(NET, Y0, T, THETA, threads=2).y.tobytes() == RIGHT.tobytes()
        os._exit(0 if good else 3)
    assert os.waitpid(child, 0)[1] == 0, "in the child of a fork"


def case(rng):
    kinds = [plain, gradient, changing, raising, entering] + [forking] * (os.name == "posix")
    before = [sys.getrefcount(x) for x in (NET, THETA, Y0, T, NET.program)]
    wrong = []

    def work(what):
        try:
            for one in what:
                one()
        except BaseException as error:
            wrong.append(error)

    jobs = [[one_of(rng, *kinds) for _ in range(3)] for _ in range(50)]
    crowd = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert not wrong, [f"{type(e).__name__}: {e}" for e in wrong[:3]]
    del crowd
    gc.collect()
    after = [sys.getrefcount(x) for x in (NET, THETA, Y0, T, NET.program)]
    assert all(abs(a - b) <= 2 for a, b in zip(before, after, strict=True)), (before, after)
