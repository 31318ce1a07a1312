"""A fit to data in partitions, in this process and on a cluster of processes, one of which is killed on the way.

    python examples/many_machines.py [--partitions 20] [--trajectories 500] [--workers 2] [--folder runs]

Writes Parquet files of noisy trajectories of Van der Pol's oscillator, fits them one after the other, then by Dask, kills a
worker while all partitions are at work, and compares the bits of both models. Needs pip install 'pynode-ode[dask,table]'.
"""

import argparse
import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np

import pynode as pn

TIMES = np.linspace(0, 5, 50)


def write(folder, partitions, trajectories):
    """A Parquet file for each partition."""
    import pandas as pd

    field = pn.field(state=2)(lambda t, y: [y[1], (1 - y[0] ** 2) * y[1] - y[0]])
    for k in range(partitions):
        rng = np.random.default_rng(k)
        y = pn.solve(field, rng.uniform(-2, 2, (trajectories, 2)), TIMES, rtol=1e-7, atol=1e-7).y
        y = y + 0.05 * rng.standard_normal(y.shape)
        ids = np.arange(trajectories * k, trajectories * (k + 1))
        table = {"run": np.repeat(ids, len(TIMES)), "t": np.tile(TIMES, trajectories)}
        pd.DataFrame(table | {"x": y[..., 0].ravel(), "v": y[..., 1].ravel()}).to_parquet(folder / f"{k:05d}.parquet")


def fitted(files, engine, callback=None):
    """A model of the files."""
    started = time.perf_counter()
    runs = pn.Partitions(files, time="t", state=["x", "v"], id="run", engine=engine)
    model = pn.NeuralODE(random_state=0).fit(runs, callback=callback)
    print(f"{engine}: {time.perf_counter() - started:.1f} s\n{model.equation(digits=6)}")
    return model


def main():
    """Write, fit twice, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=20)
    parser.add_argument("--trajectories", type=int, default=500, help="of each partition")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where files are written (default: a temporary folder)")
    args = parser.parse_args()
    from distributed import Client, LocalCluster

    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        write(folder, args.partitions, args.trajectories)
        files = sorted(folder.glob("*.parquet"))
        here = fitted(files, "local")
        with LocalCluster(n_workers=args.workers, threads_per_worker=1) as cluster, Client(cluster) as client:
            killed = []

            def kill(iteration):
                if iteration.stage.startswith("all partitions") and not killed:
                    killed.append(next(iter(client.run(os.getpid).values())))
                    os.kill(killed[0], signal.SIGKILL)

            there = fitted(files, "dask", kill)
    print(f"killed: process {killed[0] if killed else 'none, the fit of the sample was the end'}")
    print(f"the same bits: {here.theta_.tobytes() == there.theta_.tobytes()}")


if __name__ == "__main__":
    main()
