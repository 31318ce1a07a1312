"""Few noisy readings of a stable system: how far rollouts of the learned field go, with and without `max_growth`.

    python benchmarks/growth.py [--seeds 12]

Twelve readings of one trajectory of a spiral, with noise of a fifth of its size; rollouts from four other states on [0, 60],
where the truth has come to rest. Errors are root mean squares of each fit; numbers beyond 1000 count as 1000.
"""

import argparse
import warnings

import numpy as np

import pynode as pn

STARTS = [[2.2, 0.0], [-2.0, 1.0], [0.0, 2.0], [-1.0, -2.0]]
MOST = 1e3


@pn.field(state=2)
def spiral(t, y):
    return [-0.2 * y[0] + y[1], -y[0] - 0.2 * y[1]]


def measured(seed):
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 4, 12)
    y = pn.solve(spiral, [1.0, 0.0], t).y
    return t, y + 0.2 * rng.standard_normal(y.shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12)
    seeds = parser.parse_args().seeds
    warnings.simplefilter("ignore")
    t_far = np.linspace(0, 60, 61)
    truth = pn.solve(spiral, STARTS, t_far).y
    for far_field in ("auto", "inward"):
        for rate in (None, 0.0):
            errors = []
            for seed in range(seeds):
                options = {"hidden": (16,), "structure": "network", "max_growth": rate, "far_field": far_field}
                model = pn.NeuralODE(**options, random_state=seed).fit(*measured(seed))
                paths = np.clip(np.nan_to_num(model.predict(t_far, STARTS), nan=MOST), -MOST, MOST)
                errors.append(np.sqrt(np.mean((paths - truth) ** 2)))
            told = f"median {np.median(errors):.2f}, worst {np.max(errors):.2f}"
            print(f"far_field {far_field!r:9} max_growth {rate!s:5} error {told}", flush=True)


if __name__ == "__main__":
    main()
