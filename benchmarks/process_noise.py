"""Trajectories that a random force drives: what `process_noise=True` finds, and what its bands hold.

    python benchmarks/process_noise.py [--seeds 10]

Stochastic equations solved by Euler-Maruyama (100 steps an interval), read with noise; six trajectories of 81 readings to
learn from, 40 readings of each beyond them to forecast. A known equation has its parameters to find; the network has 16
hidden units.
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


def drawn(system, seed):
    """(times, states (B, T, d), readings)."""
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
    return t, states, states + system.noise * rng.standard_normal(states.shape)


def inside(x, band):
    return float(np.mean((x > band.lower) & (x < band.upper)))


def measured(system, seed, options):
    """A row: errors of parameters in standard errors, ratios of the noise and of the force, what bands hold, seconds."""
    t, states, y = drawn(system, seed)
    started = time.process_time()
    model = pn.NeuralODE(process_noise=True, random_state=0, **options).fit(t[:SHOWN], y[:, :SHOWN])
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
    return off, float(np.exp(np.log(noise).mean())), float(np.exp(np.log(force).mean())), smooth, ahead, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = parser.parse_args().seeds
    warnings.simplefilter("ignore")
    columns = ("system", "learned", "errors in std. errors", "noise / true", "force / true", "smoothed", "forecasts", "s")
    print(f"| {' | '.join(columns)} |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for name, system in SYSTEMS.items():
        for kind, options in (("equation", {"field": system.field}), ("network", {"hidden": (16,)})):
            rows = np.array([measured(system, seed, options) for seed in range(seeds)])
            off = "-" if np.isnan(rows[:, 0]).all() else f"{np.sqrt(np.mean(rows[:, 0] ** 2)):.2f}"
            ratios = " | ".join(f"{x.mean():.2f} ± {x.std():.2f}" for x in rows[:, 1:3].T)
            held = " | ".join(f"{100 * x:.0f} %" for x in rows[:, 3:5].mean(axis=0))
            print(f"| {name} | {kind} | {off} | {ratios} | {held} | {np.median(rows[:, 5]):.1f} |", flush=True)


if __name__ == "__main__":
    main()
