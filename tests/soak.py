"""Memory and bits over a long time: python tests/soak.py --solves 1000000 --fits 10000 --processes 2 --minutes 60

Each process solves, differentiates and fits in turns, with other sizes, precisions, methods and numbers of threads,
until its share of the solves and fits is done, or the time is up. The memory of a process (RSS) is read after each
percent of its work: the median of the last ten readings may be 2 % more than that of ten a third of the way, when
caches are full. Results are compared with the first ones, bit for bit. Exits with 1 where something differs or grows.
"""

import argparse
import multiprocessing
import os
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np

import pynode as pn

GROWTH = 0.02
"""The most that the memory of a process may grow."""
READINGS = 100
"""How often the memory of a process is read."""

NETS = [
    pn.mlp(2, (4,)),
    pn.mlp(3, (8,), time=True),
    pn.field(state=2, theta={"mu": 3.0})(lambda t, y, th: [y[1], th.mu * (1 - y[0] ** 2) * y[1] - y[0]]),
]
T = np.linspace(0, 1, 6)


def rss():
    """The memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def solved(k):
    """One solve or gradient, the k-th kind of 24."""
    f = NETS[k % 3]
    y0 = np.linspace(-1, 1, f.d * (1 + 7 * (k % 2))).reshape(-1, f.d)
    options = {
        "threads": 1 + k % 2,
        "method": ("dopri5", "rodas5p", "auto", "dop853")[k // 6],
        "dtype": (np.float64, np.float32)[k % 2 * (k < 6)],
    }
    theta = f.init(0)
    if k % 4 < 2:
        return pn.solve(f, y0, T, theta, **options).y
    return pn.loss_and_grad(f, y0, T, theta, np.zeros((len(y0), len(T), f.d)), memory=(None, "1MB")[k % 2], **options).theta


def fitted(k):
    """One short fit, the k-th kind of 3."""
    y = np.stack([np.cos(3 * T), -np.sin(3 * T)], axis=1)
    if k % 3 == 0:
        return pn.NeuralODE(hidden=(2,), max_iter=2, random_state=0, structure="network").fit(T, y).theta_
    if k % 3 == 1:
        return pn.fit.lbfgs(pn.Objective(NETS[0], y[0], T, y), NETS[0].init(0), max_iter=3).theta
    return pn.NeuralODEClassifier((2,), max_iter=1, random_state=0).fit(y, y[:, 0] > 0).theta_


def work(solves, fits, seconds, told):
    """The share of one process; puts (solves done, fits done, what differs, readings of its memory) to `told`."""
    warnings.simplefilter("ignore")
    first = [solved(k).tobytes() for k in range(24)], [fitted(k).tobytes() for k in range(3)]
    begun = time.monotonic()
    per_fit = max(1, solves // max(1, fits))
    differ = done = made = 0
    memory = [rss()]
    while (share := max(done / solves, (time.monotonic() - begun) / seconds)) < 1.0:
        if made < fits and done >= made * per_fit:
            differ += fitted(made).tobytes() != first[1][made % 3]
            made += 1
        differ += solved(done % 24).tobytes() != first[0][done % 24]
        done += 1
        if share * READINGS >= len(memory):
            memory.append(rss())
    told.put((done, made, differ, memory))


def growth(memory):
    """The share by which the memory of a process grew after a third of its work, and what it had grown by then."""
    third = len(memory) // 3
    early = np.median(memory[third : third + 10])
    return np.median(memory[-10:]) / early - 1.0, early / memory[0] - 1.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solves", type=int, default=1_000_000)
    parser.add_argument("--fits", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--minutes", type=float, default=60)
    given = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    told = spawn.Queue()
    share = (given.solves // given.processes, given.fits // given.processes, 60 * given.minutes, told)
    crowd = [spawn.Process(target=work, args=share) for _ in range(given.processes)]
    for process in crowd:
        process.start()
    found = [told.get() for _ in crowd]
    for process in crowd:
        process.join()
    solves, fits, differ, memory = zip(*found, strict=True)
    grown, before = (max(x) for x in zip(*map(growth, memory), strict=True))
    print(f"{sum(solves)} solves, {sum(fits)} fits in {given.processes} processes: {sum(differ)} with other bits;", end=" ")
    print(f"memory grew by at most {100 * grown:.2f} % (in the first third by {100 * before:.2f} %)")
    for k, readings in enumerate(memory):
        print(f"process {k}, MB:", *(f"{x / 1e6:.1f}" for x in readings[:: max(1, len(readings) // 10)]))
    return int(sum(differ) > 0 or grown > GROWTH)


if __name__ == "__main__":
    sys.exit(main())
