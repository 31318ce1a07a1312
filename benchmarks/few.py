"""What two, three, four and eight samples cost beside one, forward and with the gradient.

    python benchmarks/few.py             # PYNODE_ISA=avx2 for another instruction set

One thread, the least of many repetitions each; samples are alike, so that all take the same steps.
"""

import time

import numpy as np

import pynode as pn

BATCHES = (1, 2, 3, 4, 8)
METHODS = {"rk4": {"method": "rk4", "step": 0.05}, "dopri5": {"rtol": 1e-6, "atol": 1e-8}}


def least(call, repetitions):
    """Microseconds."""
    best = np.inf
    for _ in range(repetitions):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return 1e6 * best


def measure(hidden, dtype, options):
    """(solve, gradient) in microseconds for each size of a batch."""
    f, t = pn.mlp(2, hidden), np.linspace(0.0, 1.0, 11)
    theta = f.init(0).astype(dtype)
    found = []
    for n in BATCHES:
        y0 = np.tile([0.7, -1.2], (n, 1)).astype(dtype)
        target = np.zeros((n, len(t), 2), dtype)
        repetitions = 300 if hidden[0] < 200 else 40
        solve = least(lambda y0=y0: pn.solve(f, y0, t, theta, threads=1, **options), repetitions)
        gradient = least(lambda y0=y0, g=target: pn.loss_and_grad(f, y0, t, theta, g, threads=1, **options), repetitions)
        found.append((solve, gradient))
    return np.array(found)


if __name__ == "__main__":
    print("one sample in us, then", ", ".join(f"{n} samples" for n in BATCHES[1:]), "as multiples of it: solve / gradient")
    for hidden in ((8,), (32, 32), (64, 64), (256, 256)):
        for dtype in (np.float64, np.float32):
            for name, options in METHODS.items():
                us = measure(hidden, dtype, options)
                cells = [f"{solve:.2f} / {gradient:.2f}" for solve, gradient in us[1:] / us[0]]
                net = "-".join(str(n) for n in (2, *hidden, 2))
                print(
                    f"{net:12} {np.dtype(dtype).name} {name:7} {us[0, 0]:7.1f} / {us[0, 1]:7.1f}   ",
                    "   ".join(cells),
                    flush=True,
                )
