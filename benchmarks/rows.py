"""A plain network on many rows: loss and gradient by pn.Regression and by JAX. python benchmarks/rows.py

Each line is one loss + gradient (mean squared error, all rows): CPU time of one thread, best of several rounds that take
turns. Needs jax.
"""

import argparse
import itertools
import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import jax.numpy as jnp
import numpy as np
from harness import cpu_seconds

import pynode as pn

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)

ROUNDS = 15
SHAPES = (
    (10_000, (4, 32, 16, 4)),
    (1_000, (4, 32, 16, 4)),
    (100_000, (4, 32, 16, 4)),
    (10_000, (8, 64, 64, 1)),
    (2_000, (16, 256, 256, 8)),
)


def by_jax(shape, theta, x, z):
    """A compiled function of nothing, and its loss."""
    weights, at = [], 0
    for m, n in itertools.pairwise(shape):
        weights.append((jnp.asarray(theta[at : at + m * n].reshape(n, m)), jnp.asarray(theta[at + m * n : at + m * n + n])))
        at += m * n + n
    assert at == len(theta)
    x, z = jnp.asarray(x), jnp.asarray(z)

    def loss(weights, x, z):
        for W, b in weights[:-1]:
            x = jnp.tanh(x @ W.T + b)
        W, b = weights[-1]
        return jnp.mean((x @ W.T + b - z) ** 2)

    compiled = jax.jit(jax.value_and_grad(loss))

    def call():
        value, gradient = compiled(weights, x, z)
        jax.block_until_ready(gradient)
        return float(value)

    return call


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    print(f"{'rows':>8} {'network':16} {'pynode':>10} {'jax':>10}   ratio")
    for n, shape in SHAPES:
        rng = np.random.default_rng(0)
        x, z = rng.standard_normal((n, shape[0])), rng.standard_normal((n, shape[-1]))
        net = pn.mlp(shape[0], shape[1:-1], shape[-1])
        theta = net.init(0)
        regression = pn.Regression(net, x, z)
        ours, theirs = (lambda r=regression, p=theta: r(p)[0]), by_jax(shape, theta, x, z)
        np.testing.assert_allclose(ours(), theirs(), rtol=1e-10)
        a, b = np.inf, np.inf
        for _ in range(rounds):
            a, b = min(a, cpu_seconds(ours, 3, 1)), min(b, cpu_seconds(theirs, 3, 1))
        print(f"{n:8d} {'-'.join(map(str, shape)):16} {a * 1e3:7.3f} ms {b * 1e3:7.3f} ms {b / a:7.2f}")


if __name__ == "__main__":
    main()
