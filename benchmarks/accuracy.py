"""How well and how fast the estimator learns: a table of cases, each with what it should reach.

    python benchmarks/accuracy.py [--seeds 10] [--cases vdp missing ...] [--json FILE]

Van der Pol data: 16 noisy training trajectories (sigma 0.05, 101 times in 10 s) and 8 noise-free held-out ones for each data
seed; the estimator has its defaults and random_state=0 throughout.
"""

import argparse
import json
import time
import warnings

import numpy as np

import pynode as pn
from pynode import datasets

SIGMA = 0.05


def held_out(model, data):
    """(median, mean) over the held-out initial conditions of the rollout's mean squared error."""
    truth = np.stack(data.held_out.y)
    mse = np.mean((model.predict(data.held_out.t[0], truth[:, 0]) - truth) ** 2, axis=(1, 2))
    return float(np.median(mse)), float(mse.mean())


def timed(fit):
    started = time.perf_counter()
    model = fit()
    return model, time.perf_counter() - started


def spread(values):
    return {"median": float(np.median(values)), "worst": float(np.max(values))}


def vdp(seeds):
    """All states, all entries."""
    rows, covered = [], []
    for seed in range(seeds):
        data = datasets.van_der_pol(seed)
        model, seconds = timed(lambda data=data: pn.NeuralODE(random_state=0).fit(data.train))
        truth = np.stack(data.held_out.y)
        mean, std = model.predict(data.held_out.t[0], truth[:, 0], return_std=True)
        covered.append((np.abs(mean - truth) <= 1.645 * std)[:, 1:].mean())
        noise = abs(np.mean([s**2 for s in model.report_["noise"].values()]) / SIGMA**2 - 1)
        rows.append((noise, *held_out(model, data), seconds))
    noise, median, mean, seconds = np.array(rows).T
    return {
        "noise variance off by (<= 6 %)": spread(noise),
        "held-out median IC (<= 0.001, worst 0.01)": spread(median),
        "held-out mean of 8 ICs (<= 0.015, worst 0.1)": spread(mean),
        "90 % bands cover (80-97 %)": {"pooled": float(np.mean(covered)), "by seed": [round(float(c), 2) for c in covered]},
        "seconds, warm (<= 1)": spread(seconds[1:] if len(seconds) > 1 else seconds),
        "_median": median.tolist(),
    }


def _variant(seeds, change, **options):
    ratios, medians = [], []
    for seed in range(seeds):
        data = datasets.van_der_pol(seed)
        full = held_out(pn.NeuralODE(random_state=0).fit(data.train), data)[0]
        part = held_out(pn.NeuralODE(random_state=0, **options).fit(*change(seed, data)), data)[0]
        ratios.append(part / full)
        medians.append(part)
    return {"held-out median IC": spread(medians), "ratio to the full data, by seed (<= 2)": spread(ratios)}


def missing(seeds):
    """Half of the entries missing, own irregular times for each trajectory."""

    @pn.field(state=2)
    def truth(t, y):
        return [y[1], (1 - y[0] ** 2) * y[1] - y[0]]

    def change(seed, data):
        rng = np.random.default_rng(100 + seed)
        t = [np.sort(rng.uniform(0, 10, 101)) for _ in data.train.t]
        start = _clean_start(seed)
        y = pn.solve(truth, start, [np.append(0.0, x) for x in t], rtol=1e-10, atol=1e-10).y
        y = [x[1:] + SIGMA * rng.standard_normal(x[1:].shape) for x in y]
        for x in y:
            x[rng.random(x.shape) < 0.5] = np.nan
        return t, y

    return _variant(seeds, change)


def _clean_start(seed):
    """The true initial states of the training trajectories of a data seed."""
    return np.random.default_rng(seed).uniform(-3, 3, (24, 2))[:16]


def outliers(seeds):
    """5 % gross outliers (10 sigma), noise="student"."""

    def change(seed, data):
        rng = np.random.default_rng(200 + seed)
        y = [x.copy() for x in data.train.y]
        for x in y:
            bad = rng.random(x.shape) < 0.05
            x[bad] += 10 * SIGMA * rng.choice([-1, 1], bad.sum())
        return list(data.train.t), y

    return _variant(seeds, change, noise="student")


def unobserved(seeds):
    """Only x is observed, augment=1."""
    excess, medians = [], []
    for seed in range(seeds):
        data = datasets.van_der_pol(seed)
        model = pn.NeuralODE(augment=1, random_state=0).fit(list(data.train.t), [y[:, :1] for y in data.train.y])
        excess.append(model.report_["rmse"]["y1"] ** 2 / SIGMA**2 - 1)
        x = [y[:, :1] for y in data.held_out.y]
        states = model.initial_states(list(data.held_out.t), x)
        mse = np.mean((model.predict(data.held_out.t[0], states) - np.stack(x)) ** 2, axis=(1, 2))
        medians.append(float(np.median(mse)))
    return {
        "training MSE over the noise (within 20 % for 8 of 10)": {"by seed": [round(float(e), 3) for e in excess]},
        "held-out median, initial state estimated from it": spread(medians),
    }


def codelab(seeds):
    """y' = -2 y, H = 8."""
    t = np.linspace(0, 1, 21)
    worst, seconds = [], []
    for seed in range(seeds):
        for sigma in (0.01, 0.05):
            rng = np.random.default_rng(seed)
            y0 = rng.uniform(0.5, 2, 5)
            y = y0[:, None, None] * np.exp(-2 * t)[:, None] + sigma * rng.standard_normal((5, 21, 1))
            model, s = timed(lambda y=y: pn.NeuralODE(hidden=(8,), random_state=0).fit(t, y))
            grid = np.linspace(max(y.min(), 0), y.max(), 50)[:, None]
            worst.append(float(np.abs(model.derivative(0.0, grid) + 2 * grid).max()))
            seconds.append(s)
    return {
        "field off by at most (<= 0.05)": {
            "sigma 0.01": spread(worst[::2]),
            "sigma 0.05": spread(worst[1::2]),
        },
        "seconds (< 0.1)": spread(seconds),
    }


def oscillator(seeds):
    """k = 1, c = 0.5, H = 16, 3 ICs x 50 points on [0, 4], noise-free; known physics."""

    @pn.field(state=2, theta={"k": pn.positive(0.5), "c": pn.positive(0.1)})
    def physics(t, y, th):
        return [y[1], -th.k * y[0] - th.c * y[1]]

    t, y0 = np.linspace(0, 4, 50), np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5]])
    new = np.random.default_rng(0).uniform(-0.7, 0.7, (20, 2))
    true = np.array([1.0, 0.5])
    clean, want = (pn.solve(physics, y, t, true, rtol=1e-11, atol=1e-12).y for y in (y0, new))
    errors, z = [], []
    for seed in range(seeds):
        model = pn.NeuralODE(hidden=(16,), random_state=seed).fit(t, clean)
        errors.append(float(np.mean((model.predict(t, new) - want) ** 2)))
        noisy = clean + 0.02 * np.random.default_rng(seed).standard_normal(clean.shape)
        known = pn.NeuralODE(field=physics, random_state=0).fit(t, noisy)
        z.append((known.theta_ - true) / np.sqrt(np.diag(known.covariance_)))
    exact = pn.NeuralODE(field=physics, random_state=0).fit(t, clean)
    return {
        "held-out MSE (<= 1e-5)": spread(errors),
        "k and c off by, noise-free (<= 0.1 %)": float(np.abs(exact.theta_ / true - 1).max()),
        "errors in standard deviations, sigma 0.02 (rms 1)": float(np.sqrt(np.mean(np.square(z)))),
    }


def lynx_hare(seeds):
    """Pelts 1900 to 1915; forecast of the last five years: RMSE of the logarithms."""
    data = datasets.lynx_hare(5)
    t, y = data.train.t[0], data.train.y[0]
    later, truth = data.held_out.t[0], np.log(data.held_out.y[0])

    def error(forecast):
        return float(np.sqrt(np.mean((np.log(forecast) - truth) ** 2)))

    period = 10
    cycle = np.array([np.exp(np.log(y[(t - s) % period == 0]).mean(axis=0)) for s in later])
    models = {
        "Neural ODE, 5 starts": pn.NeuralODE(log=True, n_restarts=5, random_state=0).fit(data.train),
        "Lotka-Volterra": pn.NeuralODE(field=datasets.lotka_volterra(), log=True, random_state=0).fit(data.train),
    }
    rows = {"persistence": error(y[-1:]), "mean cycle of 10 years": error(cycle)}
    for name, model in models.items():
        mean, std = model.predict(later, return_std=True)
        noise = np.array(list(model.report_["noise"].values()))
        total = np.sqrt((std / mean) ** 2 + noise**2)
        inside = np.abs(np.log(mean) - truth) <= 1.645 * total
        rows[name] = {"RMSE of log": error(mean), "inside 90 % of state + noise": f"{inside.sum()} of {inside.size}"}
    return rows


CASES = {f.__name__: f for f in (vdp, missing, outliers, unobserved, codelab, oscillator, lynx_hare)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--json")
    args = parser.parse_args()
    pn.set_num_threads(1)
    results = {}
    for name in args.cases:
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pn.fit.FitWarning)
            results[name] = CASES[name](args.seeds)
        print(f"\n{name}: {CASES[name].__doc__}  ({time.perf_counter() - started:.1f} s)")
        for what, value in results[name].items():
            if not what.startswith("_"):
                text = value if not isinstance(value, dict) else ", ".join(f"{k} {_number(v)}" for k, v in value.items())
                print(f"  {what}: {_number(text)}", flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=1)


def _number(x):
    if isinstance(x, dict):
        return "{" + ", ".join(f"{k} {_number(v)}" for k, v in x.items()) + "}"
    return f"{x:.3g}" if isinstance(x, float) else x


if __name__ == "__main__":
    main()
