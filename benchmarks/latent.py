"""Latent ODE on bi-directional spirals: time an iteration and error, beside the same model in torchdiffeq and diffrax.

    python benchmarks/latent.py [--points 30 50 100] [--cells rnn gru] [--seconds 20] [--peers torchdiffeq diffrax]

The model and its training are in latent_data.py: full batch, so that an iteration is the same work for all. Times are medians,
of the processor and of the wall. The libraries take turns, each in a process of its own with one thread. Then pynode trains as it
would by itself, in minibatches, beside a recurrent network of the same parts (--fits).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import environments
import harness


def ask(python, *arguments):
    """The JSON on the last line of what a script prints, with one thread."""
    settings = os.environ | dict.fromkeys(harness.THREAD_VARIABLES, "1")
    done = subprocess.run([str(python), *map(str, arguments)], capture_output=True, text=True, env=settings)
    if done.returncode:
        raise SystemExit(f"{done.stderr[-3000:]}\n{arguments} failed")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, nargs="+", default=[30, 50, 100], help="observed points of each window of 100")
    parser.add_argument("--cells", nargs="+", default=["rnn", "gru"], choices=["rnn", "gru"])
    parser.add_argument("--seconds", type=float, default=20.0, help="training of each library (%(default)s)")
    parser.add_argument("--rtol", type=float, nargs="+", default=[1e-3], help="and atol, of the latent solve")
    parser.add_argument("--fits", action="store_true", help="pynode's own training, and the recurrent network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", nargs="*", default=["torchdiffeq", "diffrax"], choices=["torchdiffeq", "diffrax"])
    environments.add_options(parser)
    options = parser.parse_args()
    everyone, here = environments.peers(), environments.FOLDER
    pythons = {
        name: environments.interpreter(everyone[name], options.cache, options.pip) for name in ("pynode", *options.peers)
    }
    scripts = {"pynode": "latent_pynode.py", "torchdiffeq": "latent_torch.py", "diffrax": "latent_diffrax.py"}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for points in options.points:
            path = Path(scratch) / f"spirals_{points}.npz"
            ask(pythons["pynode"], here / "latent_pynode.py", "data", path, points, options.seed)
            for cell in options.cells:
                for rtol in options.rtol:
                    for name, python in pythons.items():
                        row = ask(
                            python, here / scripts[name], *(["race"] * (name == "pynode")), path, cell, rtol, options.seconds
                        )
                        cells = [f"{row['cpu_ms']:.1f}", f"{row['wall_ms']:.1f}", row["iterations"], f"{row['rmse']:.3f}"]
                        rows.append([name, points, cell, f"{rtol:g}", *cells])
                        print(rows[-1], file=sys.stderr)
    harness.table(["", "points", "cell", "rtol", "ms (cpu)", "ms (wall)", "iterations", "RMSE"], rows)


if __name__ == "__main__":
    main()
