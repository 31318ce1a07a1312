"""Classifier and regressor: what topology forbids a plain flow, what an added dimension costs, and handwritten digits.

    python benchmarks/models_classifier.py [annuli] [line] [digits] [--out FOLDER]

Each prints a table. Seconds are CPU seconds of this process, which other work on the machine disturbs least; set
PYNODE_NUM_THREADS=1 to have them equal to wall time of one thread on an idle machine.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import pynode as pn

PEERS = """torchdiffeq and diffrax on such data, measured before, in other runs (field 2-32-32-2 tanh with time, dopri5 1e-3,
batch 64, Adam 1e-3, Huber, 48 epochs): plain loss 0.012-0.022 at 24-27 evaluations, augmented 0.0013-0.0065 at 20-26;
110-180 ms an epoch (torchdiffeq), 21 ms (diffrax). On the line plain stays at 1.00, augmented comes to 0.0003."""


def annuli_data(seed, n=(500, 1000)):
    """Inner disk r <= 0.5 (target -1), ring 1 <= r <= 1.5 (target 1), uniform in area."""
    rng = np.random.default_rng(seed)
    points = []
    for count, (low, high) in zip(n, ((0.0, 0.5), (1.0, 1.5)), strict=True):
        r, angle = np.sqrt(rng.uniform(low**2, high**2, count)), rng.uniform(0, 2 * np.pi, count)
        points.append(np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1))
    return np.concatenate(points), np.repeat([-1.0, 1.0], n)


def huber(residual):
    r = np.abs(residual)
    return float(np.mean(np.where(r < 1, 0.5 * r**2, r - 0.5)))


class Clock:
    """CPU seconds of each epoch: a callback of `fit`."""

    def __init__(self):
        self.ticks = [time.process_time()]

    def __call__(self, epoch):
        self.ticks.append(time.process_time())

    @property
    def best(self):
        return float(np.diff(self.ticks).min())


def evaluations(model, X):
    """Mean evaluations a sample of the learned flow, dopri5 with tolerance 1e-3: with what the peers trained."""
    y0 = np.pad(X, ((0, 0), (0, model.field_.d - X.shape[1])))
    theta = model.theta_[: model.field_.n_params]
    return float(pn.solve(model.field_, y0, [0.0, 1.0], theta, rtol=1e-3, atol=1e-3).stats.nfe.mean())


def annuli(out):
    print("\nAnnuli: 500 + 1000 points, hidden 32-32, 48 epochs, batch 64, Huber; loss of all points, solved to 1e-6")
    print(f"{'':10} {'kinetic':>8} {'seed':>4} {'loss':>8} {'fresh':>8} {'nfe':>6} {'nfe at 1e-3':>12} {'ms an epoch':>12}")
    for kinetic in (0.0, 0.03):
        for augment in (0, 1):
            for seed in range(3):
                X, y = annuli_data(seed)
                options = {"loss": "huber", "scale": False, "augment": augment, "max_iter": 48, "random_state": seed}
                clock, name = Clock(), "augmented" if augment else "plain"
                model = pn.NeuralODERegressor(kinetic_energy=kinetic, **options).fit(X, y, callback=clock)
                fresh, labels = annuli_data(seed + 100)
                print(
                    f"{name:10} {kinetic:8} {seed:4} {huber(model.predict(X) - y):8.5f} "
                    f"{huber(model.predict(fresh) - labels):8.5f} {model.history_['nfe'][-1]:6.1f} "
                    f"{evaluations(model, X):12.1f} {1e3 * clock.best:12.1f}",
                    flush=True,
                )
                if out is not None and seed == 0:
                    model.plot("overview", X, y).savefig(out / f"annuli-{name}-{kinetic}.png")
    print("nfe: evaluations a sample in the last epoch, bosh3 at 1e-2; nfe at 1e-3: of the learned flow by dopri5, what the")
    print("peers trained with; ms an epoch: CPU time of the fastest epoch")
    print(PEERS)


def line(out):
    print("\nThe line: g(-1) = 1, g(1) = -1, output where the first state arrives; mean squared error after 300 epochs")
    x, g = np.array([[-1.0], [1.0]]), np.array([1.0, -1.0])
    for augment in (0, 1):
        for seed in range(3):
            options = {"readout": "first", "augment": augment, "scale": False, "max_iter": 300, "random_state": seed}
            model = pn.NeuralODERegressor(**options).fit(x, g)
            error = np.mean((model.predict(x) - g) ** 2)
            nfe, name = model.history_["nfe"], "augmented" if augment else "plain"
            print(f"{name:10} {seed:4} {error:9.5f}  evaluations {nfe[0]:.0f} -> {nfe[-1]:.0f}")


def digits(out):
    from sklearn.datasets import load_digits
    from sklearn.model_selection import StratifiedKFold

    data = load_digits()
    X, y = data.data / 16, data.target
    print("\nDigits 8x8, 5 stratified splits: state 32 (learned lift), hidden 64, 30 epochs")
    for name, options in (("Neural ODE", {}), ("ResNet, 10 layers", {"layers": 10}), ("ResNet, 2 layers", {"layers": 2})):
        right, nfe, cpu = [], [], time.process_time()
        for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(X, y):
            model = pn.NeuralODEClassifier((64,), lift=32, scale=False, max_iter=30, random_state=0, **options)
            right.append(model.fit(X[train], y[train]).score(X[test], y[test]))
            nfe.append(model.history_["nfe"][-1])
        cpu = (time.process_time() - cpu) / 5
        print(
            f"{name:18} {100 * np.mean(right):.2f} % right ({' '.join(f'{100 * r:.1f}' for r in right)}), "
            f"{len(model.theta_)} parameters, {np.mean(nfe):.1f} evaluations, {cpu:.1f} s a fit (CPU)",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", default=["annuli", "line", "digits"], help="annuli, line, digits")
    parser.add_argument("--out", type=Path, help="folder for pictures")
    arguments = parser.parse_args()
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    for part in arguments.parts:
        {"annuli": annuli, "line": line, "digits": digits}[part](arguments.out)
