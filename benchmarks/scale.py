"""How fits of `NeuralODE` with its defaults grow with the states, the trajectories, the times and the network.

    python benchmarks/scale.py [CASE ...]        all of them by default, or "chain-8", "linear-10", "many", ...

prints a line of JSON for each case: parameters, seconds, CPU seconds, peak memory in MB, error of held-out trajectories in
standard deviations of the noise (and of the states), the estimated noise over the true one. Each case has its own process.

- chain-d: d / 2 oscillators with cubic springs in a ring; linear-d: a random, slightly damped linear system; circuit-d:
  leaky neurons that drive each other by tanh: no equation of few products describes them. 20 trajectories of 101 points,
  noise of 2 %, 20 more held out from the same distribution of initial states.
- many: 5000 trajectories of Van der Pol's oscillator; long: one of 2000 points; wide: 20, with 256 hidden units.
"""

import json
import multiprocessing
import re
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from scipy.integrate import solve_ivp

import pynode as pn

CASES = (
    *(f"chain-{d}" for d in (2, 8, 12, 16, 20, 30, 50)),
    *(f"linear-{d}" for d in (10, 16)),
    *(f"circuit-{d}" for d in (8, 16, 20)),
    *("many", "long", "wide"),
)
NOISE = 0.02


def chain(d, rng):
    m = d // 2

    def f(t, y):
        q, v = y[:m], y[m:]
        springs = 0.3 * (np.roll(q, 1) + np.roll(q, -1) - 2 * q) if m > 1 else 0.0
        return np.concatenate([v, -q - 0.3 * q**3 - 0.1 * v + springs])

    return f


def linear(d, rng):
    A = rng.standard_normal((d, d)) / np.sqrt(d)
    A = A - A.T - 0.1 * np.eye(d) + 0.05 * rng.standard_normal((d, d)) / np.sqrt(d)
    return lambda t, y: A @ y


def circuit(d, rng):
    W = 1.5 * rng.standard_normal((d, d)) / np.sqrt(d)
    return lambda t, y: np.tanh(W @ y) - y


def van_der_pol(d, rng):
    return lambda t, y: np.array([y[1], (1 - y[0] ** 2) * y[1] - y[0]])


def data(case, seed):
    """(times, noisy trajectories, held-out ones, standard deviations of the states, options of the model)."""
    kind, _, d = case.partition("-")
    n, points, options = {"many": (5000, 101, {}), "long": (1, 2000, {}), "wide": (20, 101, {"hidden": (256,)})}.get(
        kind, (20, 101, {})
    )
    d = int(d) if d else 2
    f = {"chain": chain, "linear": linear, "circuit": circuit}.get(kind, van_der_pol)(d, np.random.default_rng(7))
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 0.1 * (points - 1), points)
    many = n > 100  # by the library itself: SciPy takes minutes
    count = n + 20
    y0 = rng.standard_normal((count, d)) if kind in ("chain", "linear", "circuit") else rng.uniform(-2, 2, (count, d))
    if many:
        field = pn.field(state=2)(lambda t, y: [y[1], (1 - y[0] ** 2) * y[1] - y[0]])
        Y = np.stack(pn.solve(field, y0, t, rtol=1e-8, atol=1e-8).y)
    else:
        Y = np.stack([solve_ivp(f, (0, t[-1]), x, t_eval=t, rtol=1e-8, atol=1e-8).y.T for x in y0])
    spread = Y[:n].reshape(-1, d).std(axis=0)
    noisy = Y[:n] + NOISE * spread * rng.standard_normal(Y[:n].shape)
    held = Y[n:, :101]
    return t, noisy, held, spread, options


def peak():
    """Largest memory of this process so far, MB; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1e3 if status.exists() else 0.0


def _fit(case, seed, answer):
    t, Y, held, spread, options = data(case, seed)
    model = pn.NeuralODE(random_state=seed, **options)
    wall, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.fit(t, list(Y))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    predicted = model.predict(t[: held.shape[1]], held[:, 0])
    error = float(np.sqrt(np.mean(((predicted - held) / spread) ** 2)))
    noise = np.array(list(model.report_["noise"].values())) / spread / NOISE
    found = {
        "case": case,
        "parameters": model.field_.n_params,
        "optimizer": model.report_["optimizer"],
        "learned": "equation" if model.report_["message"].startswith("an equation") else "network",
        "seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_mb": round(peak()),
        "error_in_noise": round(error / NOISE, 2),
        "error_in_std": round(error, 4),
        "noise_ratio": [round(float(noise.min()), 3), round(float(noise.max()), 3)],
        "warnings": len(said),
    }
    answer.put(found)


def main(cases):
    spawn = multiprocessing.get_context("spawn")
    for case in cases:
        answer = spawn.Queue()
        process = spawn.Process(target=_fit, args=(case, 0, answer))
        process.start()
        print(json.dumps(answer.get()), flush=True)
        process.join()


if __name__ == "__main__":
    main(sys.argv[1:] or CASES)
