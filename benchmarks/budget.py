"""Gradients within a budget of memory, in forward solves. python benchmarks/budget.py [--rounds 10]

Loss and gradient of small networks by RK4 and dopri5, with no limit and within 64, 16 and 4 MB. The floor, what checkpoints
have to cost, is a forward solve and the gradient, without a limit, of the first hundredth of the interval, whose register
files stay in the caches. All take turns, on one thread, and a time is the least CPU time of the rounds.
"""

import argparse
import time

import numpy as np

import pynode as pn

CASES = {
    (8,): ((1, 20000), (16, 20000), (64, 5000), (1000, 400)),
    (32, 32): ((1, 20000), (16, 5000), (64, 1250), (1000, 100)),
}
BUDGETS = None, "64MB", "16MB", "4MB"


def calls(hidden, method, batch, steps):
    """Solve and gradients over the whole interval, then both over a part of it, which is repeated."""
    f = pn.mlp(2, hidden)
    theta = f.init(0)
    y0 = np.random.default_rng(0).uniform(-1, 1, (batch, 2))
    target = np.zeros((batch, 2, 2))
    step = 5e-4
    control = {"step": step} if method == "rk4" else {"rtol": 1e-6, "atol": 1e-6, "max_step": step, "max_steps": 10**7}
    options = {"method": method, "threads": 1, **control}
    part = max(4, steps // 100)
    whole = [0.0, step * steps]
    short = [0.0, step * part]

    def often(call):
        return lambda: [call() for _ in range(steps // part)]

    yield lambda: pn.solve(f, y0, whole, theta, **options)
    for memory in BUDGETS:
        yield lambda memory=memory: pn.loss_and_grad(f, y0, whole, theta, target, memory=memory, **options)
    yield often(lambda: pn.solve(f, y0, short, theta, **options))
    yield often(lambda: pn.loss_and_grad(f, y0, short, theta, target, **options))


def least(functions, rounds):
    """Their least CPU times."""
    best = [np.inf] * len(functions)
    for i in range(rounds + 1):
        for j, function in enumerate(functions):
            begin = time.process_time()
            function()
            if i:
                best[j] = min(best[j], time.process_time() - begin)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    print("| network, method, samples | forward, ms | no limit | 64, 16, 4 MB | floor |\n|---|---|---|---|---|")
    for hidden, cases in CASES.items():
        for method in ("rk4", "dopri5"):
            for batch, steps in cases:
                forward, free, *tight, few, graded = least(list(calls(hidden, method, batch, steps)), rounds)
                name = f"{'-'.join(map(str, (2, *hidden, 2)))}, {method}, {batch}"
                within = ", ".join(f"{x / forward:.1f}" for x in tight)
                row = name, f"{1e3 * forward:.1f}", f"{free / forward:.1f}", within, f"{graded / few + 1:.1f}"
                print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
