"""Trajectories that a random force drives: what `process_noise=True` finds, and what its bands hold.

    python benchmarks/process_noise.py [--seeds 10]
    python benchmarks/process_noise.py --outliers 0.1 --noise student    # a tenth of the readings are gross errors

Stochastic equations solved by Euler-Maruyama (100 steps an interval), read with noise; six trajectories of 81 readings to
learn from, 40 readings of each beyond them to forecast. A known equation has its parameters to find; the network has 16
hidden units. Gross errors are 10 to 40 standard deviations of the noise. The error of the smoothed path is over the noise.
"""

import argparse
import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

import pynode as pn

FINE = 100
SHOWN = 81
HELD = 40
TRAJECTORIES = 6


@dataclass(frozen=True)
class System:
    """A stochastic equation: slopes of states (B, d), the field and its parameters, the force, the noise of readings."""

    slope: Any
    field: Any
    truth: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    step: float
    force: tuple[float, ...]
    noise: float


@pn.field(state=2, theta={"mu": 0.5, "k": 0.5})
def van_der_pol(t, y, th):
    return [y[1], th.mu * y[1] * (1 - y[0] ** 2) - th.k * y[0]]


@pn.field(state=2, theta={"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.5})
def predators(t, y, th):
    return [y[0] * (th.a - th.b * y[1]), y[1] * (th.c * y[0] - th.d)]


@pn.field(state=1, theta={"a": 0.5, "b": 0.5})
def double_well(t, y, th):
    return [th.a * y[0] - th.b * y[0] ** 3]


SYSTEMS = {
    "van der Pol": System(
        lambda y: np.stack([y[:, 1], y[:, 1] * (1 - y[:, 0] ** 2) - y[:, 0]], axis=1),
        *(van_der_pol, (1.0, 1.0), (-2, -2), (2, 2), 0.15, (0.1, 0.1), 0.05),
    ),
    "Lotka-Volterra": System(
        lambda y: np.stack([y[:, 0] * (1 - y[:, 1]), y[:, 1] * (y[:, 0] - 1)], axis=1),
        *(predators, (1.0, 1.0, 1.0, 1.0), (0.8, 0.8), (1.5, 1.5), 0.2, (0.05, 0.05), 0.05),
    ),
    "double well": System(lambda y: y - y**3, *(double_well, (1.0, 1.0), (-1.5,), (1.5,), 0.2, (0.4,), 0.1)),
}


def drawn(system, seed, outliers):
    """(times, states (B, T, d), readings, of which the part `outliers` has gross errors)."""
    rng = np.random.default_rng(seed)
    y = rng.uniform(system.low, system.high, (TRAJECTORIES, len(system.low)))
    h = system.step / FINE
    path = [y]
    for _ in range(SHOWN + HELD - 1):
        for _ in range(FINE):
            y = y + h * system.slope(y) + np.sqrt(h) * np.array(system.force) * rng.standard_normal(y.shape)
        path.append(y)
    states = np.stack(path, axis=1)
    t = system.step * np.arange(SHOWN + HELD)
    y = states + system.noise * rng.standard_normal(states.shape)
    gross = rng.choice((-1.0, 1.0), y.shape) * rng.uniform(10, 40, y.shape)
    return t, states, y + system.noise * gross * (rng.random(y.shape) < outliers)


def inside(x, band):
    return float(np.mean((x > band.lower) & (x < band.upper)))


def measured(system, seed, options, outliers):
    """A row: errors of parameters in standard errors, ratios of the noise and of the force, errors of the smoothed path over
    the noise, what bands hold, seconds."""
    t, states, y = drawn(system, seed, outliers)
    started = time.process_time()
    try:
        model = pn.NeuralODE(process_noise=True, random_state=0, **options).fit(t[:SHOWN], y[:, :SHOWN])
    except pn.fit.FitError:
        return (np.nan,) * 7
    seconds = time.process_time() - started
    off = np.nan
    if "field" in options:
        off = float(np.sqrt(np.mean((model.theta_ - system.truth) ** 2 / np.diag(model.covariance_))))
    noise = np.array(list(model.report_["noise"].values())) / system.noise
    force = np.array(list(model.process_noise_.values())) / system.force
    past = [model.predict(t[:SHOWN], trajectory=i, interval=0.9) for i in range(TRAJECTORIES)]
    future = [model.predict(t[SHOWN:], trajectory=i, interval=0.9) for i in range(TRAJECTORIES)]
    smooth = np.mean([inside(states[i, :SHOWN], band) for i, band in enumerate(past)])
    ahead = np.mean([inside(states[i, SHOWN:], band) for i, band in enumerate(future)])
    miss = np.sqrt(np.mean([(band.mean - states[i, :SHOWN]) ** 2 for i, band in enumerate(past)])) / system.noise
    ratios = float(np.exp(np.log(noise).mean())), float(np.exp(np.log(force).mean()))
    return off, *ratios, miss, smooth, ahead, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--outliers", type=float, default=0.0, help="part of the readings with gross errors")
    parser.add_argument("--noise", choices=("gaussian", "huber", "student"), default="gaussian")
    given = parser.parse_args()
    seeds = given.seeds
    warnings.simplefilter("ignore")
    columns = ("system", "learned", "errors in std. errors", "noise / true", "force / true")
    columns += ("path / noise", "smoothed", "forecasts", "s")
    print(f"| {' | '.join(columns)} |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, system in SYSTEMS.items():
        for kind, options in (("equation", {"field": system.field}), ("network", {"hidden": (16,)})):
            options |= {"noise": given.noise}
            rows = np.array([measured(system, seed, options, given.outliers) for seed in range(seeds)])
            off = "-" if np.isnan(rows[:, 0]).all() else f"{np.sqrt(np.mean(rows[:, 0] ** 2)):.2f}"
            lost = np.isnan(rows[:, 1])
            rows, kind = rows[~lost], kind + f", {lost.sum()} cannot be fitted" * bool(lost.any())
            ratios = " | ".join(f"{x.mean():.2f} ± {x.std():.2f}" for x in rows[:, 1:3].T)
            held = " | ".join(f"{100 * x:.0f} %" for x in rows[:, 4:6].mean(axis=0))
            miss, seconds = np.median(rows[:, 3]), np.median(rows[:, 6])
            print(f"| {name} | {kind} | {off} | {ratios} | {miss:.2f} | {held} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
