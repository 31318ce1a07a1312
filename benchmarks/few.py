"""What two, three, four and eight samples cost beside one, forward and with the gradient.

    python benchmarks/few.py             # PYNODE_ISA=avx2 for another instruction set

One thread, the least CPU time of many repetitions each; samples are alike, so that all take the same steps.
"""

import numpy as np
from harness import cpu_seconds

import pynode as pn

BATCHES = (1, 2, 3, 4, 8)
METHODS = {"rk4": {"method": "rk4", "step": 0.05}, "dopri5": {"rtol": 1e-6, "atol": 1e-8}}


def measure(hidden, dtype, options):
    """(solve, gradient) in microseconds for each size of a batch."""
    f, t = pn.mlp(2, hidden), np.linspace(0.0, 1.0, 11)
    theta = f.init(0).astype(dtype)
    found = []
    for n in BATCHES:
        y0 = np.tile([0.7, -1.2], (n, 1)).astype(dtype)
        target = np.zeros((n, len(t), 2), dtype)
        calls = (
            lambda y0=y0: pn.solve(f, y0, t, theta, threads=1, **options),
            lambda y0=y0, g=target: pn.loss_and_grad(f, y0, t, theta, g, threads=1, **options),
        )
        found.append([cpu_seconds(call, 3, 100 if hidden[0] < 200 else 15) for call in calls])
    return 1e6 * np.array(found)


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
