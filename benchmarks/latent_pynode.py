"""pynode's part of latent.py; prints a JSON line.

latent_pynode.py data PATH POINTS SEED             write the data
latent_pynode.py race PATH CELL RTOL SECONDS       train like the peers
latent_pynode.py fit KIND POINTS SEED ITERATIONS   train as pynode would, KIND "ode", or "rnn": a recurrent decoder
"""

import json
import sys
import time

import numpy as np
from latent_data import ANNEAL, DECODER, ENCODER, HIDDEN, LATENT, SPAN, prepared, times

import pynode as pn
from pynode.engine.options import Options
from pynode.fields.system import System
from pynode.models.latent import elbo

JUMPS = Options("euler", step=1e300)


def data(path, points, seed):
    spirals = pn.datasets.spirals(int(seed), n_observed=int(points))
    grid, t, y = spirals.t[0], np.stack(spirals.train.t), np.stack(spirals.train.y)
    shift, scale, unit = y.mean(axis=(0, 1)), y.std(axis=(0, 1)), grid[-1] / SPAN
    gap = np.diff(t, axis=1, prepend=0.0) / np.diff(t, axis=1, prepend=0.0).mean()
    index = np.searchsorted(grid, t)
    arrays = {"t": t / unit, "gap": gap, "y": (y - shift) / scale, "index": index, "grid": grid / unit, "noise": 0.3 / scale}
    np.savez(path, clean=spirals.clean, shift=shift, scale=scale, **arrays)
    return {}


def networks(cell, noise, recurrent=False):
    decoder = pn.mlp(LATENT, (DECODER,), 2)
    loss, encoder = elbo.likelihood(LATENT, decoder, 2, noise), {"rnn": pn.rnn_cell, "gru": pn.gru_cell}[cell](ENCODER, 5)
    equation = pn.mlp(LATENT, (HIDDEN, HIDDEN))
    generator = System(elbo.still(LATENT), jump=recurrence(), loss=loss) if recurrent else System(equation, loss=loss)
    return elbo.Networks(None, encoder, pn.mlp(ENCODER, (), 2 * LATENT), generator, decoder)


def race(path, cell, rtol, seconds):
    arrays = {name: np.float64(a) for name, a in prepared(path).items()}
    rtol, seconds = float(rtol), float(seconds)
    nets, t, y = networks(cell, arrays["noise"]), arrays["t"], arrays["y"]
    series = elbo.Series.of(list(t), list(y), float(np.diff(t, axis=1, prepend=0.0).mean()))
    options = Options("dopri5", rtol, rtol)
    objective = elbo.Elbo(nets, series, JUMPS, options, beta=lambda k: min(1.0, k / ANNEAL))
    clock, start = [time.process_time()], time.perf_counter()

    def after(iteration):
        clock.append(time.process_time())
        return time.perf_counter() - start > seconds

    more = {"max_iter": 10**6, "learning_rate": 1e-2, "schedule": "constant"}
    theta = pn.fit.adam(objective, nets.init(0), callback=after, **more).theta
    mean, _ = elbo.encode(nets, theta, series, JUMPS)
    part = nets.generator.split(theta[nets.parts["generator"]])
    z = pn.solve(nets.generator.field, mean, arrays["grid"], part["field"], rtol=1e-5, atol=1e-5).y
    x = decoded(nets, part["loss"], z) * arrays["scale"] + arrays["shift"]
    costs = 1e3 * np.diff(clock[1:])
    return times(costs) | {"rmse": rmse(x, arrays["clean"])}


def decoded(nets, theta, z):
    return nets.decoder(0.0, z.reshape(-1, LATENT), theta[: nets.decoder.n_params]).reshape(*z.shape[:2], 2)


def rmse(x, clean):
    return float(np.sqrt(np.mean((x - clean) ** 2)))


# ---- pynode's own training, and a recurrent network in place of the latent equation


def fit(kind, points, seed, iterations):
    spirals, iterations = pn.datasets.spirals(int(seed), n_observed=int(points)), int(iterations)
    started = time.process_time(), time.perf_counter()
    curves = fit_ode(spirals, iterations) if kind == "ode" else fit_rnn(spirals, int(seed), iterations)
    cpu, wall = time.process_time() - started[0], time.perf_counter() - started[1]
    train, fresh = rmse(curves(spirals.train), spirals.clean), rmse(curves(spirals.held_out), spirals.clean_held_out)
    return {"rmse": train, "fresh": fresh, "cpu": cpu, "wall": wall}


def fit_ode(spirals, iterations):
    model = pn.LatentODE(noise=0.3, t0=0.0, max_iter=iterations, random_state=0).fit(spirals.train)
    return lambda data: model.predict(data, at=spirals.t[0])


def recurrence():
    """z+ = cell(z) from one point of the grid to the next, a GRU without data; about as many parameters as the field."""

    @pn.field(state=LATENT, theta={"gates": pn.mlp(LATENT, (10,), 2 * LATENT), "new": pn.mlp(LATENT, (HIDDEN,), LATENT)})
    def step(t, z, th):
        gates = pn.sigmoid(th.gates(z))
        r, u = gates[:LATENT], gates[LATENT:]
        return u * z + (1 - u) * np.tanh(th.new(r * z))

    return step


class RecurrentDecoder(elbo.Decoder):
    """z_0, then the recurrence at each point of the grid, observed or not; nothing is solved."""

    def __init__(self, nets, series, options, dtype, grid):
        n, rows = len(series), len(grid)
        self.dtype, self.part = dtype, nets.parts["generator"]
        target = np.full((n, rows, 4), np.nan)
        which = np.repeat(np.arange(n), series.length), np.searchsorted(grid, series.t - 1e-9)
        target[which] = np.concatenate([series.value, series.mask], axis=1)
        start = rows * np.arange(n)
        keys = {"t": np.zeros(n * rows), "t_start": start, "t_len": np.full(n, rows), "row": start, "land": True}
        target = target.reshape(-1, 4).astype(dtype)
        self.problem = elbo._problem(nets.generator, options, dtype, n, loss="program", target=target, **keys)


class RecurrentElbo(elbo.Elbo):
    grid: np.ndarray

    def _take(self, epoch, part):
        super()._take(epoch, part)
        self.decoder = RecurrentDecoder(self.networks, self.chosen, JUMPS, self.dtype, self.grid)


def fit_rnn(spirals, seed, iterations):
    unit = spirals.t[0][-1] / SPAN
    y = np.concatenate(spirals.train.y)
    shift, scale, gap = y.mean(axis=0), y.std(axis=0), 100 / len(spirals.train.t[0]) * spirals.t[0][1] / unit
    nets = networks("gru", 0.3 / scale, recurrent=True)

    def series(data):
        return elbo.Series.of([t / unit for t in data.t], [(part - shift) / scale for part in data.y], gap)

    RecurrentElbo.grid = spirals.t[0] / unit
    rise = {"beta": lambda k: min(1.0, 10 * k / iterations)}
    objective = RecurrentElbo(nets, series(spirals.train), JUMPS, JUMPS, batch_size=50, seed=0, **rise)
    theta = pn.fit.adam(objective, nets.init(0), max_iter=iterations, learning_rate=1e-2).theta
    part = nets.generator.split(theta[nets.parts["generator"]])

    def curves(data):
        z0, _ = elbo.encode(nets, theta, series(data), JUMPS)
        system, own = System(nets.generator.field, jump=nets.generator.jump), part["jump"]
        z = pn.solve(system, z0, np.zeros(len(spirals.t[0])), own, method="euler", step=1.0).y
        return decoded(nets, part["loss"], z) * scale + shift

    return curves


if __name__ == "__main__":
    print(json.dumps({"data": data, "race": race, "fit": fit}[sys.argv[1]](*sys.argv[2:])))
