"""Driven systems of which one output is read: simulations of new records, their bands, and what a fit says beforehand.

    python benchmarks/driven.py [--systems NAME ...] [--augment 1 2 auto] [--noises 0.02 0.1] [--seeds 0]

Each system is fitted to two thirds of a record by `NeuralODE(augment=...)`. The last third of it, and as much of two new
records, are simulated from a warm-up of 50 readings. A line for each fit: how uncertain a simulation under the inputs in
reverse order is (`loose.under_other_inputs`), errors of simulations and their deviation in standard deviations of the noise,
and what bands of 90 % hold of the rest of the record, of the trajectory and of new readings.
"""

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp

import pynode as pn
from pynode.models.trajectories.equations.loose import SIMULATED, SIMULATED_PART, under_other_inputs

WARM = slice(0, 50)
LEVEL = 0.9


@dataclass(frozen=True)
class Driven:
    """dx/dt = f(x, u), read every dt; kind: of the input, (name, its numbers)."""

    f: Callable
    start: tuple
    dt: float
    n: int
    kind: tuple
    output: Callable = lambda x: x[0]


def _tank(x, u):
    flow = 0.17 * np.sqrt(np.maximum(x, 1e-9))
    return [0.1 * u - flow[0], flow[0] - flow[1]]


def _reactor(x, u):
    rate = x[0] * np.exp(x[1] / (1 + 0.05 * x[1]))
    return [1 - x[0] - 0.8 * rate, -x[1] + rate + 0.9 * u]


def _algae(x, u):
    uptake = x[0] * x[1] / (0.6 + x[1])
    return [1.2 * uptake - 0.4 * x[0], 0.4 * (2 * u - x[1]) - 0.9 * uptake]


def _runoff(x, u):
    flow = 0.12 * max(x[0], 0.0) ** 1.5
    return [u - flow, flow - 0.25 * x[1]]


def _walls(x, u):
    first, second = x[0] - x[1], x[1] - x[2]
    return [(20 * u - first - 0.3 * (x[0] - 5)) / 900, (first - second) / 4000, (second - 0.4 * (x[2] - 5)) / 9000]


def _arm(x, u):
    twist = 2 * (x[0] - x[1])
    return [x[2], x[3], 4 * (u - twist - 0.5 * x[2]), 3 * twist - 0.4 * x[3] - 2 * np.sin(x[1])]


SYSTEMS = {
    "hardening spring": Driven(
        lambda x, u: [x[1], u - x[0] - 0.2 * x[1] - 0.5 * x[0] ** 3], (0, 0), 0.1, 800, ("sines", 0.5, 2.0)
    ),
    "hysteresis": Driven(
        lambda x, u: [
            x[1],
            u - 0.3 * x[1] - 0.5 * x[0] - x[2],
            x[1] - 0.8 * abs(x[1]) * x[2] - 0.5 * x[1] * abs(x[2]),
        ],
        (0, 0, 0),
        0.1,
        800,
        ("sines", 0.3, 3.0),
    ),
    "slide with friction": Driven(
        lambda x, u: [x[1], 8 * u - 3 * x[1] - 4 * np.tanh(x[1] / 0.05) - 10 * x[0]], (0, 0), 0.02, 800, ("steps", 25, -2, 2)
    ),
    "saturating sensor": Driven(
        lambda x, u: [x[1], u - x[0] - 0.8 * x[1], 2 * (np.tanh(2 * x[0]) - x[2])],
        (0, 0, 0),
        0.1,
        800,
        ("sines", 0.4, 2.0),
        lambda x: x[2],
    ),
    "room and walls": Driven(_walls, (20, 20, 20), 60.0, 800, ("steps", 30, 0, 1)),
    "battery": Driven(
        lambda x, u: [-u / 2000, (0.03 * u - x[1]) / 15, (0.02 * u - x[2]) / 120],
        (0.8, 0, 0),
        1.0,
        800,
        ("steps", 20, -0.5, 1.5),
        lambda x: 3.3 + 0.9 * x[0] - 0.15 * np.exp(-12 * x[0]) - x[1] - x[2],
    ),
    "glucose": Driven(
        lambda x, u: [
            1.5 + 0.8 * u - (0.015 + x[1]) * x[0],
            1.5e-5 * (x[2] - 10) - 0.03 * x[1],
            1.5 + 0.03 * max(x[0] - 100, 0) - 0.15 * x[2],
        ],
        (100, 0, 10),
        5.0,
        600,
        ("steps", 12, 0, 3),
    ),
    "effect of a drug": Driven(
        lambda x, u: [u - 1.2 * x[0], 0.8 * x[0] - 0.4 * x[1], 0.3 * (x[1] / (0.5 + x[1]) - x[2])],
        (0, 0, 0),
        0.25,
        400,
        ("pulses", 40, 0.5, 4.0),
        lambda x: x[2],
    ),
    "rain and runoff": Driven(_runoff, (1, 1), 1.0, 900, ("rain", 0.15, 4.0), lambda x: x[1]),
    "heat exchanger": Driven(
        lambda x, u: [
            0.1 * u * (80 - x[0]) - 0.08 * (x[0] - x[1]),
            0.1 * (x[0] - x[1]) - 0.1 * (x[1] - x[2]),
            0.06 * (20 - x[2]) + 0.08 * (x[1] - x[2]),
        ],
        (60, 40, 30),
        1.0,
        800,
        ("steps", 20, 0.5, 2),
        lambda x: x[2],
    ),
    "stirred reactor": Driven(_reactor, (0.5, 1), 0.2, 700, ("steps", 20, -0.3, 0.3), lambda x: x[1]),
    "flexible arm": Driven(_arm, (0, 0, 0, 0), 0.05, 800, ("sines", 1.0, 3.0), lambda x: x[1]),
    "magnetic bearing": Driven(
        lambda x, u: [x[1], 20 * ((1 + x[2]) ** 2 / (1 + 0.3 * x[0]) ** 2 - 1) - 40 * x[0] - 6 * x[1], 15 * (u - x[2])],
        (0, 0, 0),
        0.02,
        700,
        ("steps", 20, -0.3, 0.3),
    ),
    "drive without a sign": Driven(
        lambda x, u: [4 * (u - x[0]), 25 * (x[2] - x[1]), 8 * (x[0] - x[2])],
        (0, 0, 0),
        0.05,
        700,
        ("steps", 15, -2, 2),
        lambda x: np.sqrt(x[1] ** 2 + 0.01),
    ),
    "two tanks": Driven(_tank, (3, 3), 4.0, 800, ("steps", 15, 1, 5), lambda x: x[1]),
    "van der Pol": Driven(lambda x, u: [x[1], (1 - x[0] ** 2) * x[1] - x[0] + u], (1, 0), 0.1, 900, ("sines", 0.3, 1.0)),
    "algae": Driven(_algae, (1, 0.5), 0.5, 400, ("steps", 20, 0.3, 1.2)),
    "linear oscillator": Driven(lambda x, u: [x[1], u - 2 * x[0] - 0.6 * x[1]], (0, 0), 0.1, 500, ("steps", 10, -1, 1)),
}


def inputs(system, t, rng):
    """(T,) control inputs; held between their times where they are steps or pulses."""
    what, *numbers = system.kind
    if what == "sines":
        highest, size = numbers
        rates = 2 * np.pi * np.linspace(highest / 8, highest, 8)
        waves = np.sin(np.outer(t, rates) + rng.uniform(0, 2 * np.pi, 8)).sum(axis=1)
        return size * waves / np.abs(waves).max()
    if what == "steps":
        hold, low, high = numbers
        return np.repeat(rng.uniform(low, high, len(t) // hold + 1), hold)[: len(t)]
    if what == "pulses":
        every, low, high = numbers
        u = np.zeros(len(t))
        for i in range(0, len(t), every):
            u[i : i + 3] = rng.uniform(low, high)
        return u
    part, size = numbers
    rain = np.where(rng.random(len(t)) < part, rng.exponential(size, len(t)), 0.0)
    return np.convolve(rain, [0.25, 0.5, 0.25], "same")


def record(name, seed, noise):
    """(times, inputs, (T, 1) output, (T, 1) readings, deviation of their noise)."""
    system = SYSTEMS[name]
    rng = np.random.default_rng([seed, list(SYSTEMS).index(name)])
    t = system.dt * np.arange(system.n)
    u = inputs(system, t, rng)
    slope = np.zeros(system.n) if system.kind[0] in ("steps", "pulses") else np.append(np.diff(u) / system.dt, 0.0)
    x = np.empty((system.n, len(system.start)))
    x[0] = system.start
    for i in range(system.n - 1):

        def rhs(time, z, i=i):
            return system.f(z, u[i] + slope[i] * (time - t[i]))

        x[i + 1] = solve_ivp(rhs, (t[i], t[i + 1]), x[i], "LSODA", rtol=1e-7, atol=1e-9).y[:, -1]
    y = system.output(x.T)[:, None]
    sigma = noise * y.std()
    return t, u, y, y + sigma * rng.standard_normal(y.shape), sigma


def rms(x):
    return float(np.sqrt(np.mean(np.square(x))))


def held(band, values):
    """The part of values inside a band, after the warm-up."""
    return float(np.mean(((band.lower <= values) & (values <= band.upper))[WARM.stop :]))


def measured(name, noise, seed, augment):
    """What is told of a fit."""
    t, u, y, z, sigma = record(name, seed, noise)
    n = 2 * len(t) // 3
    model = pn.NeuralODE(augment=augment, random_state=seed).fit(t[:n], z[:n], u=u[:n])
    uncertain, part = under_other_inputs(model)
    rest = slice(n, len(t))

    def simulated(times, values, readings, **asked):
        return model.simulate((times, values), (times[WARM], readings[WARM], values[WARM]), **asked)

    own = (t[rest], u[rest], z[rest])
    row = {
        "warned": uncertain > SIMULATED and part > SIMULATED_PART,
        "uncertain": uncertain,
        "trajectory": held(simulated(*own, interval=LEVEL), y[rest]),
        "readings": held(simulated(*own, interval=LEVEL, kind="prediction"), z[rest]),
        "unobserved": model.n_unobserved_,
        "errors": [],
        "deviations": [],
        "parts": [],
    }
    for other in (100, 101):
        times, values, truth, readings, _ = record(name, seed + other, noise)
        path, std = simulated(times[:n], values[:n], readings[:n], return_std=True)
        error = rms((path - truth[:n])[WARM.stop :])
        row["errors"].append(error / sigma)
        row["parts"].append(error / y.std())
        row["deviations"].append(rms(std[WARM.stop :]) / sigma)
    row["off"] = np.median(row["errors"]) > SIMULATED and np.median(row["parts"]) > SIMULATED_PART
    return row


def _told(name, noise, seed, row):
    """A line of a fit."""
    errors, deviations = (", ".join(f"{x:.2f}" for x in row[k]) for k in ("errors", "deviations"))
    said = f"{'warned' if row['warned'] else '':6} {'off' if row['off'] else '':3}"
    return (
        f"{name:21} {noise:4} {seed} {row['unobserved']} of {len(SYSTEMS[name].start) - 1} unobserved, reversed "
        f"{row['uncertain']:8.2f} {said} new records: errors {errors}, deviations {deviations}; held "
        f"{row['trajectory']:.2f}, readings {row['readings']:.2f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), metavar="NAME", help=", ".join(SYSTEMS))
    parser.add_argument("--augment", nargs="+", type=lambda x: x if x == "auto" else int(x), default=[1, 2])
    parser.add_argument("--noises", nargs="+", type=float, default=[0.02, 0.1])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    options = parser.parse_args()
    if unknown := [name for name in options.systems if name not in SYSTEMS]:
        parser.error(f"no such system: {', '.join(unknown)}")
    warnings.simplefilter("ignore")
    for noise in options.noises:
        rows = []
        for name in options.systems:
            for seed in options.seeds:
                for augment in options.augment:
                    row = measured(name, noise, seed, augment)
                    rows.append(row)
                    print(_told(name, noise, seed, row), flush=True)
        off = [row["warned"] for row in rows if row["off"]]
        near = [row["warned"] for row in rows if not row["off"]]
        trajectory, readings = (np.array([row[k] for row in rows]) for k in ("trajectory", "readings"))
        print(
            f"noise {noise}: warned of {sum(off)} of {len(off)} fits whose simulations are off, of {sum(near)} of the other "
            f"{len(near)}; bands of {LEVEL:.0%} hold {trajectory.mean():.1%} of trajectories, {readings.mean():.1%} of "
            f"readings ({readings.min():.0%} to {readings.max():.0%})"
        )


if __name__ == "__main__":
    main()
