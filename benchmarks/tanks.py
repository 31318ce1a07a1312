"""The Cascaded Tanks benchmark (Schoukens, Mattsson, Wigren, Noel): the level of a lower tank, from the pump's voltage.

    python benchmarks/tanks.py path/to/cascaded_tanks.csv                # cross-validation on the estimation half alone
    python benchmarks/tanks.py path/to/cascaded_tanks.csv --validate     # fit to all of it, simulate the validation half
    python benchmarks/tanks.py path/to/cascaded_tanks.csv --validate --settings restarts --apart 100

The level of the upper tank is not measured, and what overflows from it goes partly into the lower tank, which overflows at
10 V. The data (columns uEst, uVal, yEst, yVal; share-alike licence) are no part of this project: give the path.

The error is the root mean square, in volts, over all points of the validation half, simulated from a state that its first
WARMUP readings tell. Published: best linear 0.76, Volterra 0.54, NLSS2 0.34, CT-SUBNET 0.31, a well-posed variant 0.25.
"""

import argparse
import itertools
import time
import warnings

import numpy as np

import pynode as pn

STEP = 4.0
"""Seconds from one reading to the next."""

WARMUP = 50
"""Readings that tell the first state."""

FULL = 10.0
"""The level, in volts, at which the lower tank overflows: it is seen in the estimation half."""

BLOCKS = 8
"""Parts of the estimation half, each left out once in the cross-validation."""

LINEAR = {"hidden": (), "augment": 1, "limits": {"y1": (None, FULL)}}
NETWORK = {"hidden": (4,), "augment": 1, "limits": {"y1": (None, FULL)}, "average": "median"}

SETTINGS = {
    "plain": [{"hidden": (8,), "augment": 1}],
    "linear": [LINEAR],
    "network": [NETWORK],
    "ensemble": [NETWORK | {"n_estimators": 10}],
    "restarts": [NETWORK | {"n_estimators": 10, "n_restarts": 3}],
    "both": [LINEAR, NETWORK | {"n_estimators": 10}],
}
"""Models whose simulations are averaged."""


def read(path):
    """(u, y) of the estimation half and of the validation half."""
    table = np.genfromtxt(path, delimiter=",", names=True)
    return tuple((table[f"u{half}"][:, None], table[f"y{half}"][:, None]) for half in ("Est", "Val"))


def fitted(settings, seed, parts):
    """(model, CPU seconds) fitted to stretches (u, y), each an experiment."""
    started = time.process_time()
    times = [STEP * np.arange(len(y)) for _, y in parts]
    inputs = pn.Signal(times, [u for u, _ in parts], "linear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = pn.NeuralODE(random_state=seed, **settings).fit(times, [y for _, y in parts], u=inputs)
    return model, time.process_time() - started


def simulated(model, u, y):
    """The levels simulated along a stretch."""
    t = STEP * np.arange(len(y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.simulate((t, u, "linear"), warmup=(t[:WARMUP], y[:WARMUP]))


def error(simulation, y):
    """The root mean square."""
    miss = np.where(np.isfinite(simulation), simulation - y, np.inf)
    return float(np.sqrt((miss**2).mean()))


def experiment(settings, seed, parts, tests):
    """(errors on each stretch of tests, CPU seconds) of the average of the models."""
    total, found = 0.0, [0.0] * len(tests)
    for each in settings:
        model, seconds = fitted(each, seed, parts)
        total += seconds
        found = [a + simulated(model, *test) / len(settings) for a, test in zip(found, tests, strict=True)]
    return [error(a, y) for a, (_, y) in zip(found, tests, strict=True)], total


def cross_validation(settings, seed, u, y):
    """Errors of each block of the estimation half, left out in turn."""
    ends = np.linspace(0, len(y), BLOCKS + 1).astype(int)
    found = []
    for a, b in itertools.pairwise(ends):
        parts = [(u[i:j], y[i:j]) for i, j in ((0, a), (b, len(y))) if j > i]
        found += experiment(settings, seed, parts, [(u[a:b], y[a:b])])[0]
    return np.array(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--validate", action="store_true", help="simulate the validation half")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--apart", type=int, default=1, help="distance of the seeds; starts take seeds that follow them")
    parser.add_argument("--settings", choices=list(SETTINGS), nargs="*", default=list(SETTINGS))
    options = parser.parse_args()
    (u, y), (u_new, y_new) = read(options.path)
    for name in options.settings:
        for seed in options.first + options.apart * np.arange(options.seeds):
            if options.validate:
                (own, new), seconds = experiment(SETTINGS[name], seed, [(u, y)], [(u, y), (u_new, y_new)])
                errors = f"estimation {own:.3f} V  validation {new:.3f} V"
                print(f"{name:10s} seed {seed:4d}  {errors}  {seconds:.1f} s", flush=True)
            else:
                blocks = cross_validation(SETTINGS[name], seed, u, y)
                total = np.sqrt((blocks**2).mean())
                print(f"{name:10s} seed {seed:4d}  {total:.3f} V  by block {np.round(blocks, 2)}", flush=True)


if __name__ == "__main__":
    main()
