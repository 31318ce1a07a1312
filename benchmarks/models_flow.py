"""Continuous normalising flow on two moons: likelihood against time, with and without regularisers.

    python benchmarks/models_flow.py [--out FOLDER] [--epochs 100]

1000 points, noise 0.05, standardised; field 3-64-64-2 tanh, exact divergence, tolerances 1e-5 while training, float32.
Seconds are CPU seconds of this process; with PYNODE_NUM_THREADS=1 they are the wall time of one thread on an idle machine.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import make_moons

import pynode as pn

ENTROPY = 1.136
"""Of the distribution, standardised: what the negative log-likelihood of fresh points cannot fall below."""

PEERS = "torchdiffeq and diffrax, measured before and in other runs, float32: 130 s to NLL 1.14, at 45-150 ms an iteration"


def moons(seed, n=1000):
    X, _ = make_moons(n, noise=0.05, random_state=seed)
    return X


def moments(X):
    return X.mean(axis=0), X.std(axis=0)


def integral(model, low=-4.0, high=4.0, n=300):
    """Of the density over a square that holds nearly all of it, by the midpoint rule."""
    x = low + (high - low) * (np.arange(n) + 0.5) / n
    grid = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
    return np.exp(model.log_prob(grid)).sum() * ((high - low) / n) ** 2


class Watch:
    """When the training loss (of the epoch, penalties included) falls below the level."""

    def __init__(self, level):
        self.level, self.start, self.at = level, time.process_time(), None

    def __call__(self, epoch):
        if self.at is None and epoch.loss < self.level:
            self.at = (epoch.number, time.process_time() - self.start)


def main(out, epochs):
    mean, std = moments(moons(0))
    X, fresh = (moons(0) - mean) / std, (moons(1, 5000) - mean) / std
    print(f"{'':26} {'NLL':>7} {'fresh':>7} {'nfe':>6} {'CPU s':>6} {'ms an iteration':>16} {'integral':>9} {'inverse':>8}")
    for name, options in (
        ("no regulariser", {}),
        ("kinetic + Jacobian, 0.01", {"kinetic_energy": 0.01, "jacobian_norm": 0.01}),
        ("kinetic + Jacobian, 0.05", {"kinetic_energy": 0.05, "jacobian_norm": 0.05}),
        ("Hutchinson, 0.01", {"kinetic_energy": 0.01, "jacobian_norm": 0.01, "trace": "hutchinson"}),
    ):
        watch = Watch(1.14)
        common = {"max_iter": epochs, "batch_size": 125, "learning_rate": 2e-2, "scale": False, "random_state": 0}
        cpu = time.process_time()
        model = pn.CNF((64, 64), **common, **options).fit(X, callback=watch)
        cpu = time.process_time() - cpu
        back = np.abs(model.inverse_transform(model.transform(X)) - X).max()
        print(
            f"{name:26} {-model.score(X):7.4f} {-model.score(fresh):7.4f} {model.history_['nfe'][-1]:6.1f} {cpu:6.1f} "
            f"{1e3 * cpu / (8 * epochs):16.1f} {integral(model):9.4f} {back:8.0e}"
            + (f"   (epoch's loss below 1.14 after {watch.at[1]:.1f} s)" if watch.at else ""),
            flush=True,
        )
        if out is not None:
            short = name.replace(" ", "").replace(",", "-").replace("+", "-")
            for kind in ("overview", "flow"):
                model.plot(kind, X).savefig(out / f"moons-{short}-{kind}.png")
    print(
        f"entropy {ENTROPY}: NLL of the training data may fall below it (they are learned by heart), that of fresh ones not"
    )
    print(PEERS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="folder for pictures")
    parser.add_argument("--epochs", type=int, default=100)
    arguments = parser.parse_args()
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    main(arguments.out, arguments.epochs)
