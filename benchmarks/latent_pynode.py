"""pynode's part of latent.py.

latent_pynode.py data PATH POINTS SEED: write the data. latent_pynode.py race PATH CELL RTOL SECONDS: train like the peers.
"""

import json
import sys
import time

import numpy as np
from latent_data import ANNEAL, DECODER, ENCODER, HIDDEN, LATENT, SPAN, prepared

import pynode as pn
from pynode.fit import elbo
from pynode.solving import Options
from pynode.systems import System


def data(path, points, seed):
    spirals = pn.datasets.spirals(int(seed), n_observed=int(points))
    grid, t, y = spirals.t[0], np.stack(spirals.train.t), np.stack(spirals.train.y)
    shift, scale, unit = y.mean(axis=(0, 1)), y.std(axis=(0, 1)), grid[-1] / SPAN
    gap = np.diff(t, axis=1, prepend=0.0) / np.diff(t, axis=1, prepend=0.0).mean()
    index = np.searchsorted(grid, t)
    arrays = {"t": t / unit, "gap": gap, "y": (y - shift) / scale, "index": index, "grid": grid / unit, "noise": 0.3 / scale}
    np.savez(path, clean=spirals.clean, shift=shift, scale=scale, **arrays)
    print("{}")


def race(path, cell, rtol, seconds):
    arrays = {name: np.float64(a) for name, a in prepared(path).items()}
    rtol, seconds = float(rtol), float(seconds)
    decoder = pn.mlp(LATENT, (DECODER,), 2)
    unit = {"rnn": pn.rnn_cell, "gru": pn.gru_cell}[cell]
    networks = elbo.Networks(
        None,
        unit(ENCODER, 5),
        pn.mlp(ENCODER, (), 2 * LATENT),
        System(pn.mlp(LATENT, (HIDDEN, HIDDEN)), loss=elbo.likelihood(LATENT, decoder, 2, arrays["noise"])),
        decoder,
    )
    t, y = arrays["t"], arrays["y"]
    series = elbo.Series.of(list(t), list(y), float(np.diff(t, axis=1, prepend=0.0).mean()))
    options = Options("euler", step=1e300), Options("dopri5", rtol, rtol)
    objective = elbo.Elbo(networks, series, *options, beta=lambda k: min(1.0, k / ANNEAL))
    costs, start = [], time.perf_counter()
    clock = [time.process_time(), start]

    def after(iteration):
        nonlocal clock
        now = [time.process_time(), time.perf_counter()]
        costs.append([b - a for a, b in zip(clock, now, strict=True)])
        clock = now
        return now[1] - start > seconds

    result = pn.fit.adam(
        objective, networks.init(0), max_iter=10**6, learning_rate=1e-2, schedule="constant", callback=after
    )
    mean, _ = elbo.encode(networks, result.theta, series, options[0])
    theta = networks.generator.split(result.theta[networks.parts["generator"]])
    z = pn.solve(networks.generator.field, mean, arrays["grid"], theta["field"], rtol=1e-5, atol=1e-5).y
    x = decoder(0.0, z.reshape(-1, LATENT), theta["loss"]).reshape(*z.shape[:2], 2)
    rmse = float(np.sqrt(np.mean((x * arrays["scale"] + arrays["shift"] - arrays["clean"]) ** 2)))
    cpu_ms, wall_ms = 1e3 * np.median(costs[1:], axis=0)
    print(json.dumps({"library": "pynode", "cpu_ms": cpu_ms, "wall_ms": wall_ms, "iterations": len(costs), "rmse": rmse}))


if __name__ == "__main__":
    {"data": data, "race": race}[sys.argv[1]](*sys.argv[2:])
