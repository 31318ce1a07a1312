"""Training: the Van der Pol oscillator from 16 noisy trajectories, with error on 8 held-out ones against wall time.

    python benchmarks/fit.py [--seeds 0 1 2] [--peers torchdiffeq diffrax] [--quick]

pynode: NeuralODE(random_state=0).fit(t, Y), everything else default. Peers: Adam as their users write it, see
benchmarks/peers. Each fit has a process of its own; it is then repeated in it ("warm").
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import harness
from environments import LIBRARY


def measure(pythons, options, scratch):
    """A row of results for each seed and library, in turns."""
    rows = []
    for seed in options.seeds:
        path = str(Path(scratch) / f"van_der_pol_{seed}.npz")
        with harness.Worker(pythons[LIBRARY], LIBRARY, 1, scratch) as worker:
            worker.ask("van_der_pol", seed, path)
        for name, python in pythons.items():
            harness.progress(f"seed {seed}: {name}")
            repeats = 3 if name == LIBRARY else 1
            with harness.Worker(python, name, options.threads, scratch) as worker:
                cold, *warm = worker.ask("fit", path, options.steps, repeats)
            last = {key: value for key, value in cold[-1].items() if key not in ("step", "seconds", "pause")}
            row = {"library": name, "seed": seed, "cold": cold[-1]["seconds"], "warm": min(c[-1]["seconds"] for c in warm)}
            rows.append(row | last | {"curve": cold})
    harness.progress("")
    return rows


def show(rows):
    def cells(row):
        noise, coverage = row.get("noise"), row.get("coverage")
        return [
            *(f"{row['cold']:.2f} s", f"{row['warm']:.2f} s", f"{row['median']:.2g}", f"{row['mean']:.2g}"),
            *("" if noise is None else f"{noise:.5f}", "" if coverage is None else f"{coverage:.0%}"),
        ]

    lines, names = [], list(dict.fromkeys(row["library"] for row in rows))
    for name in names:
        mine = [row for row in rows if row["library"] == name]
        lines += [[name, row["seed"], *cells(row)] for row in mine]
        numbers = mine[0].keys() - {"library", "seed", "curve"}
        middle = {key: statistics.median(row[key] for row in mine) for key in numbers}
        lines += [[name, "median", *cells(middle)], *([] if name == names[-1] else [None])]
    harness.table(["", "seed", "from start", "warm", "MSE median", "MSE mean", "noise", "in 90 % band"], lines)
    print("\nMSE on held-out trajectories without noise: of the median one, and the mean over all 8. Noise: true 0.0025.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the data (0 1 2)")
    parser.add_argument("--steps", type=int, default=1000, help="of Adam (%(default)s)")
    harness.add_options(parser, "fit", "fit")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.steps = options.seeds[:1], min(options.steps, 100)
    pythons = harness.interpreters(options)
    with tempfile.TemporaryDirectory() as scratch:
        about = harness.describe(pythons, options.threads, scratch)
        rows = measure(pythons, options, scratch)
    show(rows)
    harness.keep({"benchmark": "fit", "about": about, "steps": options.steps, "rows": rows}, options, pythons)


if __name__ == "__main__":
    main()
