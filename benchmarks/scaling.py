"""How time and memory grow, and what sensitivities cost."""

import multiprocessing
import re
import time
from pathlib import Path

import numpy as np
from cases import van_der_pol
from topics import best, claim, tell

import pynode as pn


def slopes(quick):
    """Exponent of the time in the number of steps and of samples: least squares on logarithms."""
    f, y0 = pn.mlp(2, (16,)), np.random.default_rng(0).standard_normal((4096, 2))
    theta = f.init(0)

    def slope(sizes, call):
        times = best([lambda n=n: call(n) for n in sizes], 0.05 if quick else 0.5)
        return np.polyfit(np.log(sizes), np.log(times), 1)[0]

    def gradient(samples, steps):
        t = np.array([0.0, 1.0])
        return pn.loss_and_grad(f, y0[:samples], t, theta, np.zeros((samples, 2, 2)), method="rk4", step=1 / steps)

    yield claim("time of a gradient ~ steps^k, k", slope([1000, 4000, 16000], lambda n: gradient(16, n)), most=1.05)
    yield claim("time of a gradient ~ samples^k, k", slope([64, 256, 1024, 4096], lambda n: gradient(n, 100)), most=1.05)


def peak():
    """Largest memory of this process so far, MB; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1e3 if status.exists() else 0.0


def _long(steps, memory, answer):
    """Growth of the peak memory (MB), time, and the gradient, of a process of its own."""
    f, y0, t = pn.mlp(2, (16,)), np.random.default_rng(0).standard_normal((16, 2)), np.array([0.0, 10.0])
    theta, target = f.init(0), np.zeros((16, 2, 2))
    pn.loss_and_grad(f, y0, t, theta, target, method="rk4", step=0.1)
    before, begin = peak(), time.thread_time()
    value = pn.loss_and_grad(f, y0, t, theta, target, method="rk4", step=10 / steps, memory=memory)
    took = time.thread_time() - begin
    answer.put((peak() - before, took, value.theta))


def memory(quick):
    """A gradient through many steps of 16 samples, within a budget and without."""
    steps, spawn, found = 10_000 if quick else 1_000_000, multiprocessing.get_context("spawn"), {}
    for _ in range(1):
        for budget in ("64MB", None):
            answer = spawn.Queue()
            process = spawn.Process(target=_long, args=(steps, budget, answer))
            process.start()
            grown, took, gradient = answer.get()
            process.join()
            found[budget] = (grown, min(took, found.get(budget, (0, took))[1]), gradient)
    (grown, limited, a), (tape, free, b) = found["64MB"], found[None]
    name = f"gradient through {steps:,} RK4 steps of 16 samples"
    yield claim(f"{name}, memory='64MB': peak", grown, "MB", most=64)
    yield claim(f"{name}, without a limit: peak", tape, "MB")
    yield claim(f"{name}: time within 64 MB over without", limited / free, "x", most=2.2)
    yield claim(f"{name}: the same bits", float(np.array_equal(a, b)), least=1)


def sensitivities(quick):
    """Jacobian of the Van der Pol data with a 2-32-2 network near the truth, in gradients."""
    data, f = van_der_pol(0), pn.mlp(2, (32,))
    y, theta = data["noisy"], f.init(0)
    points = y.reshape(-1, 2)
    x, v = points.T
    part = f.unflatten(theta)
    features = np.column_stack([np.tanh(points @ part["W0"].T + part["b0"]), np.ones(len(points))])
    last = np.linalg.lstsq(features, np.column_stack([v, (1 - x**2) * v - x]), rcond=None)[0]
    theta = f.flatten(part | {"W1": last[:-1].T, "b1": last[-1]})
    problem = pn.SensitivityProblem(f, y[:, 0], data["t"])
    objective = pn.Objective(f, y[:, 0], data["t"], y)
    gradient, jacobian = best([lambda: objective(theta), lambda: problem.run(theta)], 0.1 if quick else 2.0)
    yield claim("sensitivities of Van der Pol data (d = 2, H = 32), in gradients", jacobian / gradient, "x", most=4)


def claims(quick):
    yield from slopes(quick)
    yield from sensitivities(quick)
    yield from memory(quick)


if __name__ == "__main__":
    tell(claims)
