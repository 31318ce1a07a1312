"""Encoder, equation, decoder in JAX: the equation by pynode.jax and by diffrax. python benchmarks/jax_model.py

64 series; each line is one training step (loss, gradient of all parameters, Adam), compiled by jax.jit: CPU time, best of
several rounds, one thread. Also loss and gradient of the solve alone, beside pynode.loss_and_grad; and both through Python,
as where pynode was built without XLA's header. Needs jax, diffrax and optax.
"""

import argparse
import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import diffrax as dx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from harness import cpu_seconds
from jax.interpreters import mlir
from peers.diffrax import RK4

import pynode as pn
from pynode.jax import primitives
from pynode.jax.xla import handlers

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)

TIMES = np.linspace(0, 5, 11)
ADAM = optax.adam(1e-3)
ROUNDS = 15


def through_python():
    """What is traced from now on calls Python, as where pynode was built without XLA's header."""
    for name in primitives.HOST:
        rule = mlir.lower_fun(primitives.through_python(name), multiple_results=primitives.SEVERAL[name])
        mlir.register_lowering(primitives.PRIMITIVES[name], rule, platform="cpu")
    jax.clear_caches()


def dense(key, inner, outer):
    """Weights of a linear layer."""
    return {"W": jax.random.normal(key, (outer, inner)) / np.sqrt(inner), "b": jnp.zeros(outer)}


def affine(layer, x):
    return x @ layer["W"].T + layer["b"]


def encoded(weights, x):
    """A gated recurrent unit over the series x (B, T, 1), its last state as y0 (B, 2)."""

    def step(h, at):
        both = jnp.concatenate([at, h], axis=1)
        reset, update = jnp.split(jax.nn.sigmoid(affine(weights["gates"], both)), 2, axis=1)
        new = jnp.tanh(affine(weights["new"], jnp.concatenate([at, reset * h], axis=1)))
        return update * h + (1 - update) * new, None

    return affine(weights["inner"], jax.lax.scan(step, jnp.zeros((len(x), 16)), x.swapaxes(0, 1))[0])


def network(t, y, layers):
    first, last = layers
    return affine(last, jnp.tanh(affine(first, y)))


def by_diffrax(method):
    """(y0 (B, 2), layers) -> (B, T, 2), each sample with steps of its own."""
    fixed = method == "rk4"
    control = dx.ConstantStepSize() if fixed else dx.PIDController(rtol=1e-6, atol=1e-8)
    solver = RK4() if fixed else dx.Dopri5()

    def solve(y0, layers):
        saveat = dx.SaveAt(ts=jnp.asarray(TIMES))
        step = 0.25 if fixed else None
        return dx.diffeqsolve(
            dx.ODETerm(network), solver, 0.0, TIMES[-1], step, y0, layers, saveat=saveat, stepsize_controller=control
        ).ys

    return jax.vmap(solve, (0, None))


def by_pynode(method):
    """The same by pynode."""
    f = pn.mlp(2, (32,))
    options = {"method": method} | ({"step": 0.25} if method == "rk4" else {"rtol": 1e-6, "atol": 1e-8})

    def solve(y0, layers):
        named = {f"{name}{k}": layer[name] for k, layer in enumerate(layers) for name in ("W", "b")}
        return pn.jax.odeint(f, y0, TIMES, named, **options)

    return solve


def whole(name, solve, samples, repeats, method):
    """One training step; the first loss says that those with an equation are the same."""
    keys = jax.random.split(jax.random.key(0), 6)
    weights = {
        "gates": dense(keys[0], 17, 32),
        "new": dense(keys[1], 17, 16),
        "inner": dense(keys[2], 16, 2),
        "field": (dense(keys[3], 2, 32), dense(keys[4], 32, 2)),
        "outer": dense(keys[5], 2, 1),
    }
    x = jnp.asarray(np.random.default_rng(0).standard_normal((samples, len(TIMES), 1)))

    def loss(weights):
        y = solve(encoded(weights, x), weights["field"])
        return jnp.mean((affine(weights["outer"], y) - x) ** 2)

    @jax.jit
    def step(weights, state):
        value, gradient = jax.value_and_grad(loss)(weights)
        change, state = ADAM.update(gradient, state)
        return optax.apply_updates(weights, change), state, value

    state = ADAM.init(weights)
    first = float(step(weights, state)[2])
    took = cpu_seconds(lambda: jax.block_until_ready(step(weights, state)), repeats, ROUNDS)
    print(f"{method:8s} {samples:4d} samples  {name:26s} {1e3 * took:9.3f} ms   first loss {first:.9f}", flush=True)
    return took


def alone(name, samples, repeats):
    """Loss and gradient of the solve alone."""
    f = pn.mlp(2, (16, 16))
    theta = f.init(0)
    rng = np.random.default_rng(0)
    y0 = rng.standard_normal((samples, 2))
    target = rng.standard_normal((samples, 11, 2))
    given = jnp.asarray(theta), jnp.asarray(y0), jnp.asarray(target)

    @jax.jit
    def by_jax(theta, y0, target):
        return jax.value_and_grad(lambda th: jnp.mean((pn.jax.odeint(f, y0, TIMES, th) - target) ** 2))(theta)

    value, gradient = by_jax(*given)
    expected = pn.loss_and_grad(f, y0, TIMES, theta, target)
    np.testing.assert_allclose(value, expected.loss, rtol=1e-12)
    np.testing.assert_allclose(gradient, expected.theta, atol=1e-12)
    took = cpu_seconds(lambda: jax.block_until_ready(by_jax(*given)), repeats, ROUNDS)
    beside = cpu_seconds(lambda: pn.loss_and_grad(f, y0, TIMES, theta, target), repeats, ROUNDS)
    words = f"{1e6 * took:9.1f} us, {1e6 * beside:9.1f} us by loss_and_grad: {took / beside:.2f} times"
    print(f"alone    {samples:4d} samples  {name:26s} {words}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    pn.set_num_threads(1)
    ways = ["pynode.jax, through Python"]
    if handlers():
        ways.insert(0, "pynode.jax")
    for way in ways:
        if way.endswith("Python"):
            through_python()
        for samples in (1, 64):
            alone(way, samples, 10 * args.repeats)
        for method in ("dopri5", "rk4"):
            whole(way, by_pynode(method), 64, args.repeats, method)
    for method in ("dopri5", "rk4"):
        whole("diffrax", by_diffrax(method), 64, args.repeats, method)
    whole("no equation", lambda y0, layers: network(0.0, y0, layers)[:, None] + jnp.zeros((11, 1)), 64, args.repeats, "")


if __name__ == "__main__":
    main()
