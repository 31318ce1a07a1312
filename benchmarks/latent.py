"""Latent ODE on bi-directional spirals: time an iteration and error, beside the same model in torchdiffeq and diffrax.

    python benchmarks/latent.py [--points 30 50 100] [--cells rnn gru] [--seconds 20] [--peers torchdiffeq diffrax]
    python benchmarks/latent.py --fits [--iterations 4000]

The model is in latent_data.py; it is trained on all series at once, so that an iteration is the same work for all. Times are
of the processor, the best and the median of the first 100 iterations: the same stage of training. The libraries take turns,
each in a process of its own with one thread.
With --fits pynode trains as it would by itself, in minibatches, beside the same model with a recurrent network for the
latent equation. RMSE: of the curve from the posterior mean against the spiral without noise, all 100 points of the window.
"""

import argparse
import itertools
import json
import os
import subprocess
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
    parser.add_argument("--iterations", type=int, default=4000, help="of --fits (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", nargs="*", default=["torchdiffeq", "diffrax"], choices=["torchdiffeq", "diffrax"])
    environments.add_options(parser)
    options = parser.parse_args()
    everyone = environments.peers()
    names = ["pynode", *([] if options.fits else options.peers)]
    pythons = {name: environments.interpreter(everyone[name], options.cache, options.pip) for name in names}
    if options.fits:
        fits(pythons["pynode"], options)
    else:
        race(pythons, options)


def race(pythons, options):
    rows, here = [], environments.FOLDER
    scripts = {"pynode": "latent_pynode.py", "torchdiffeq": "latent_torch.py", "diffrax": "latent_diffrax.py"}
    with tempfile.TemporaryDirectory() as scratch:
        for points in options.points:
            path = Path(scratch) / f"spirals_{points}.npz"
            ask(pythons["pynode"], here / "latent_pynode.py", "data", path, points, options.seed)
            for cell, rtol, name in itertools.product(options.cells, options.rtol, pythons):
                harness.progress(f"{points} points, {cell}: {name}")
                start = [here / scripts[name], *(["race"] * (name == "pynode"))]
                row = ask(pythons[name], *start, path, cell, rtol, options.seconds)
                cells = [f"{row['best']:.1f}", f"{row['median']:.1f}", row["iterations"], f"{row['rmse']:.3f}"]
                rows.append([name, points, cell, f"{rtol:g}", *cells])
    harness.progress("")
    harness.table(["", "points", "cell", "rtol", "best ms", "median ms", "iterations", "RMSE"], rows)


def fits(python, options):
    rows, script = [], environments.FOLDER / "latent_pynode.py"
    for points, kind in itertools.product(options.points, ("ode", "rnn")):
        harness.progress(f"{points} points: {kind}")
        row = ask(python, script, "fit", kind, points, options.seed, options.iterations)
        rows.append([f"latent {kind}", points, *(f"{row[name]:.3f}" for name in ("rmse", "fresh"))])
        rows[-1] += [f"{row[name]:.1f} s" for name in ("cpu", "wall")]
    harness.progress("")
    harness.table(["", "points", "RMSE", "fresh spirals", "cpu", "wall"], rows)


if __name__ == "__main__":
    main()
