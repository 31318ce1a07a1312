"""The latent ODE of latent_data.py in JAX and diffrax. Usage: latent_diffrax.py DATA CELL RTOL SECONDS.

Prints a JSON line as latent_torch.py does; the seconds are after compilation.
"""

import json
import os
import sys
import time

if os.environ.get("OMP_NUM_THREADS", "1") == "1":
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["PJRT_NPROC"] = "1"

import diffrax as dx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from latent_data import ANNEAL, DECODER, ENCODER, HIDDEN, LATENT, init, prepared, times

jax.config.update("jax_platforms", "cpu")


def parameters(cell):
    rng, gates = np.random.default_rng(0), 3 if cell == "gru" else 1
    shapes = {
        "rnn": [(5 + ENCODER, ENCODER)] * gates,
        "head": [(ENCODER, 2 * LATENT)],
        "field": [(LATENT, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, LATENT)],
        "decoder": [(LATENT, DECODER), (DECODER, 2)],
    }
    return {name: [init(rng, *shape) for shape in part] for name, part in shapes.items()}


def network(layers, x):
    for W, b in layers[:-1]:
        x = jnp.tanh(x @ W.T + b)
    W, b = layers[-1]
    return x @ W.T + b


def encode(p, x):
    """x (n, B, 5), latest first."""

    def gru(h, x):
        (Wr, br), (Wu, bu), (W, b) = p["rnn"]
        both = jnp.concatenate([x, h], axis=1)
        r, u = jax.nn.sigmoid(both @ Wr.T + br), jax.nn.sigmoid(both @ Wu.T + bu)
        new = jnp.tanh(jnp.concatenate([x, r * h], axis=1) @ W.T + b)
        return new + u * (h - new), None

    def rnn(h, x):
        (W, b) = p["rnn"][0]
        return jnp.tanh(jnp.concatenate([x, h], axis=1) @ W.T + b), None

    h, _ = jax.lax.scan(gru if len(p["rnn"]) == 3 else rnn, jnp.zeros((x.shape[1], ENCODER), x.dtype), x)
    return jnp.split(network(p["head"], h), 2, axis=1)


def curves(p, z0, grid, rtol):
    term = dx.ODETerm(lambda t, z, layers: network(layers, z))
    control, saveat = dx.PIDController(rtol=rtol, atol=rtol), dx.SaveAt(ts=grid)
    solution = dx.diffeqsolve(
        term, dx.Dopri5(), grid[0], grid[-1], None, z0, p["field"], saveat=saveat, stepsize_controller=control
    )
    return network(p["decoder"], solution.ys).swapaxes(0, 1)


def main(path, cell, rtol, seconds):
    data = {name: jnp.asarray(a) for name, a in prepared(path).items()}
    rtol, seconds = float(rtol), float(seconds)
    p, adam = parameters(cell), optax.adam(1e-2)
    y, grid, noise, index = data["y"], data["grid"], data["noise"], data["index"][:, :, None]
    x = jnp.concatenate([y, jnp.ones_like(y), data["gap"][:, :, None]], axis=2)[:, ::-1].swapaxes(0, 1)

    def loss(p, key, beta):
        mean, log_std = encode(p, x)
        z0 = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
        r = (jnp.take_along_axis(curves(p, z0, grid, rtol), index, axis=1) - y) / noise
        kl = (0.5 * (mean**2 + jnp.exp(2 * log_std) - 1) - log_std).sum()
        return (0.5 * (r**2).sum() + beta * kl) / y.size

    @jax.jit
    def step(p, state, key, beta):
        update, state = adam.update(jax.grad(loss)(p, key, beta), state)
        return optax.apply_updates(p, update), state

    state, key = adam.init(p), jax.random.key(0)
    jax.block_until_ready(step(p, state, key, 0.0))
    start, k, costs = time.perf_counter(), 0, []
    while time.perf_counter() - start < seconds:
        k += 1
        before = time.process_time()
        p, state = step(p, state, jax.random.fold_in(key, k), min(1.0, k / ANNEAL))
        jax.block_until_ready(p)
        costs.append(1e3 * (time.process_time() - before))
    curve = curves(p, encode(p, x)[0], grid, 1e-5) * data["scale"] + data["shift"]
    rmse = float(jnp.sqrt(jnp.mean((curve - data["clean"]) ** 2)))
    print(json.dumps(times(costs) | {"rmse": rmse}))


if __name__ == "__main__":
    main(*sys.argv[1:])
