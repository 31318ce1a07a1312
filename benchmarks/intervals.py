"""Coverage and width of intervals: `NeuralODE.predict(..., interval=0.9)` on known systems and on records of nature.

    python benchmarks/intervals.py [--seeds 3] [--only NAME ...] [--cache FOLDER] [--plain] [--out FILE.json]

Needs a Python that has pynode and, for sunspots and CO2, statsmodels and pandas (left out without).

A part of the checks is about fitted trajectories ("inside"), a part about what comes after them ("future"), a part about
other initial states, known exactly ("new"). Coverage is the share of numbers inside the interval. *width* is the mean width
over the width that is needed: that of the same intervals, all of one check made narrower or wider by one factor so that they
cover 90 %. `--plain` shows the bands of `return_std` alone, with the noise of `report_` for new readings.
"""

import argparse
import hashlib
import json
import pickle
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import pynode as pn

LEVEL = 0.9
Z = 1.6448536269514722


# ---- Systems


@pn.field(state=2)
def pendulum(t, y):
    return [y[1], -2.0 * np.sin(y[0]) - 0.15 * y[1]]


@pn.field(state=2)
def fitzhugh_nagumo(t, y):
    return [3 * (y[0] - y[0] ** 3 / 3 + y[1]), -(y[0] - 0.2 + 0.2 * y[1]) / 3]


@pn.field(state=2)
def prey(t, y):  # Lotka and Volterra, logarithms
    x, z = np.exp(y)
    return [0.6 - 0.5 * z, -0.8 + 0.4 * x]


@pn.field(state=2)
def satiated(t, y):  # Rosenzweig and MacArthur, logarithms
    x, z = np.exp(y)
    return [0.8 * (1 - x / 8) - 0.6 * z / (1 + 0.3 * x), 0.45 * x / (1 + 0.3 * x) - 0.55]


@pn.field(state=1)
def gompertz(t, y):
    return [-0.5 * y[0] * np.log(y[0] / 10)]


@pn.field(state=3)
def epidemic(t, y):
    s, i, _ = y
    return [-0.8 * s * i, 0.8 * s * i - 0.25 * i, 0.25 * i]


@pn.field(state=2)
def spring(t, y):
    return [y[1], -y[0] - 0.05 * y[1]]


@pn.field(state=1, theta={"r": pn.positive(0.3), "K": pn.positive(8.0)})
def logistic(t, y, th):
    return [th.r * y[0] * (1 - y[0] / th.K)]


@pn.field(state=3, theta={"b": pn.positive(0.5), "g": pn.positive(0.5)})
def sir(t, y, th):
    s, i, _ = y
    return [-th.b * s * i, th.b * s * i - th.g * i, th.g * i]


@dataclass(frozen=True)
class System:
    """A known system, how it is measured, and what is fitted to it."""

    field: object
    low: tuple  # initial states are uniform between low and high
    high: tuple
    n: int  # trajectories
    duration: float
    times: int
    noise: float  # in standard deviations of the states
    options: dict
    seen: int = 0  # how many of the states are measured; 0: all
    log: bool = False


SYSTEMS = {
    "van der Pol, 8 units": System(
        pn.datasets.van_der_pol(n_train=1).field, (-3, -3), (3, 3), 16, 10, 101, 0.035, {"hidden": (8,)}
    ),
    "van der Pol": System(pn.datasets.van_der_pol(n_train=1).field, (-3, -3), (3, 3), 4, 10, 81, 0.05, {}),
    "van der Pol, few": System(pn.datasets.van_der_pol(n_train=1).field, (1, 0), (2, 1), 1, 12, 40, 0.02, {"hidden": (8,)}),
    "pendulum": System(pendulum, (1, -1), (2, 1), 2, 10, 60, 0.05, {"hidden": (16,)}),
    "FitzHugh-Nagumo": System(fitzhugh_nagumo, (-1, -1), (1, 1), 4, 15, 80, 0.05, {"hidden": (16,)}),
    "Lotka-Volterra, network": System(prey, (0, 0), (1, 1), 3, 15, 50, 0.1, {"hidden": (16,), "log": True}, log=True),
    "Lotka-Volterra, satiated": System(
        satiated, (0, 0), (1, 1), 2, 15, 50, 0.1, {"field": pn.datasets.lotka_volterra(), "log": True}, log=True
    ),
    "logistic for Gompertz": System(gompertz, (0.5,), (1.5,), 1, 8, 30, 0.03, {"field": logistic}),
    "epidemic": System(epidemic, (0.95, 0.01, 0), (0.99, 0.03, 0.001), 1, 20, 30, 0.05, {"field": sir}),
    "spring, position only": System(spring, (1, -1), (2, 1), 1, 20, 70, 0.05, {"augment": 1, "hidden": ()}, seen=1),
    "spring, lines": System(spring, (1, -1), (2, 1), 2, 12, 50, 0.1, {"hidden": ()}),
}


@dataclass
class Check:
    """Intervals that are wanted, and what they should cover."""

    name: str
    t: object
    y0: object
    trajectory: int
    kind: str
    truth: np.ndarray
    u: object = None


def of_system(system, seed):
    """(fit, checks)."""
    rng = np.random.default_rng(1000 + seed)
    n, new = system.n, 4
    t = np.linspace(0, system.duration, system.times)
    later = t[1] * np.arange(system.times, int(1.4 * system.times))
    start = rng.uniform(system.low, system.high, (n + new, len(system.low)))
    y = pn.solve(system.field, start, np.append(t, later), method="dop853", rtol=1e-10, atol=1e-10).y
    noisy = y + system.noise * y[:n, : len(t)].std(axis=(0, 1)) * rng.standard_normal(y.shape)
    if system.log:
        y = np.exp(y)
        noisy = np.exp(noisy)
        start = np.exp(start)
    seen = system.seen or y.shape[2]
    y = y[..., :seen]
    noisy = noisy[..., :seen]

    def fit():
        return pn.NeuralODE(random_state=seed, **system.options).fit(t, noisy[:n, : len(t)])

    checks = []
    for i in range(min(n, 4)):
        checks.append(Check("inside, mean", t, None, i, "mean", y[i, : len(t)]))
        checks.append(Check("future, mean", later, None, i, "mean", y[i, len(t) :]))
        checks.append(Check("future, prediction", later, None, i, "prediction", noisy[i, len(t) :]))
    if seen == start.shape[1]:
        for i in range(n, n + new):
            checks.append(Check("new, mean", t, start[i], 0, "mean", y[i, : len(t)]))
            checks.append(Check("new, prediction", t, start[i], 0, "prediction", noisy[i, : len(t)]))
    return fit, checks


# ---- Records


def records(later=0):
    """{name: [(origin, t, Y, u, horizon, options)]}, all forecasts by rolling origin."""
    data = pn.datasets.lynx_hare().train
    found = {"lynx and hare": [], "sunspots": [], "CO2": []}
    for stop in (14, 15, 16, 17, 18):
        options = {"log": True, "n_restarts": 5}
        found["lynx and hare"].append((stop, data.t[0], data.y[0], None, 5, options))
    try:
        from statsmodels.datasets import co2, sunspots
    except ImportError:
        print("sunspots and CO2 are left out: they need statsmodels and pandas")
        return {"lynx and hare": found["lynx and hare"]}
    table = sunspots.load_pandas().data
    year, spots = table["YEAR"].to_numpy(), np.sqrt(table["SUNACTIVITY"].to_numpy())[:, None]
    for first in (60, 90, 120, 150, 180, 210):
        if first + later + 91 > len(year):
            continue
        part = slice(first + later, first + later + 91)
        options = {"augment": 1, "hidden": (8,)}
        found["sunspots"].append((80, year[part], spots[part], None, 11, options))
    month = co2.load_pandas().data["co2"].resample("MS").mean().interpolate().to_numpy()[:, None]
    t = 1958 + (2 + np.arange(len(month))) / 12
    season = np.stack([np.cos(2 * np.pi * t), np.sin(2 * np.pi * t)], axis=1)
    for first in (24, 96, 168, 240, 312, 384):
        if first + later + 120 > len(t):
            continue
        part = slice(first + later, first + later + 120)
        found["CO2"].append((96, t[part], month[part], season[part], 24, {"hidden": (4,)}))
    return found


def of_record(record, seed):
    """(fit, checks)."""
    stop, t, y, u, horizon, options = record
    end = min(stop + horizon, len(t))

    def fit():
        signal = None if u is None else pn.Signal(t, u)
        return pn.NeuralODE(random_state=seed, **options).fit(t[:stop], y[:stop], u=signal)

    signal = None if u is None else pn.Signal(t, u)
    return fit, [Check("future, prediction", t[stop:end], None, 0, "prediction", y[stop:end], signal)]


# ---- What is found


def cases(seeds, only, first=0):
    """Yields (name, fit, checks)."""
    for name, system in SYSTEMS.items():
        if not only or name in only:
            for seed in range(first, first + seeds):
                yield name, *of_system(system, seed)
    for name, list_of in records(first).items():
        if not only or name in only:
            for record in list_of:
                yield name, *of_record(record, 0)


def fitted(name, number, fit, cache):
    """The model, from the cache where it is there."""
    path = None if cache is None else cache / f"{hashlib.sha1(f'{name} {number}'.encode()).hexdigest()[:12]}.pickle"
    if path is not None and path.exists():
        return pickle.loads(path.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = fit()
    if path is not None:
        cache.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(model))
    return model


def bounds(model, check, plain):
    """(lower, upper) of a check."""
    if not plain:
        _, lower, upper = model.predict(
            check.t, check.y0, u=check.u, trajectory=check.trajectory, interval=LEVEL, kind=check.kind
        )
        return lower, upper
    y, std = model.predict(check.t, check.y0, u=check.u, trajectory=check.trajectory, return_std=True)
    scale = y if model.log else 1.0
    half = std / scale
    if check.kind == "prediction":
        half = np.hypot(half, [model.report_["noise"][name] for name in model.names_])
    if model.log:
        return y * np.exp(-Z * half), y * np.exp(Z * half)
    return y - Z * half, y + Z * half


def measure(model, checks, plain):
    """{name of checks: [|error| over half width, half width]}; of logarithms where the model is one of these."""
    found = defaultdict(list)
    for check in checks:
        lower, upper = bounds(model, check, plain)
        truth = check.truth
        if model.log:
            lower = np.log(lower)
            upper = np.log(upper)
            truth = np.log(truth)
        half = 0.5 * (upper - lower)
        ratio = np.abs(truth - 0.5 * (lower + upper)) / np.maximum(half, 1e-300)
        found[check.name].append((np.where(np.isfinite(ratio), ratio, np.inf).ravel(), half.ravel()))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed; records begin as much later (not the pelts)")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table = defaultdict(lambda: defaultdict(list))
    numbers = defaultdict(int)
    for name, fit, checks in cases(options.seeds, options.only, options.first):
        model = fitted(name, numbers[name] + options.first, fit, options.cache)
        numbers[name] += 1
        for what, pairs in measure(model, checks, options.plain).items():
            table[name][what] += pairs
    tell(table, options.out)


def summary(pairs):
    """(coverage, width over that needed) of checks."""
    ratio = np.concatenate([r for r, _ in pairs])
    return float((ratio <= 1).mean()), float(1 / max(np.quantile(ratio, LEVEL), 1e-300))


def tell(table, out):
    """Print the table: a row a system, and all of them pooled, each system with the same weight."""
    kinds = ["inside, mean", "new, mean", "new, prediction", "future, mean", "future, prediction"]
    print(f"{'':28}" + "".join(f"{kind:>20}" for kind in kinds) + f"{'all':>20}")
    rows = {}
    for name, found in table.items():
        rows[name] = {kind: summary(found[kind]) for kind in kinds if found[kind]}
        rows[name]["all"] = summary([pair for pairs in found.values() for pair in pairs])
        _row(name, [rows[name].get(kind) for kind in [*kinds, "all"]])
    pooled = {}
    for kind in [*kinds, "all"]:
        there = [row[kind] for row in rows.values() if kind in row]
        pooled[kind] = tuple(np.mean(there, axis=0).tolist()) if there else None
    _row("pooled", [pooled[kind] for kind in [*kinds, "all"]])
    if out is not None:
        out.write_text(json.dumps({"rows": rows, "pooled": pooled}, indent=1))


def _row(name, pairs):
    cells = ("" if pair is None else f"{100 * pair[0]:.0f} %  {pair[1]:.2f}" for pair in pairs)
    print(f"{name:28}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
