"""Fields that compute with matrices of parameters, beside diffrax. python benchmarks/computed.py [--only NAME ...]

Each field is written once, for NumPy and for jax.numpy: matrices that are computed of parameters (A - A^T, exp(W), U V,
weights over their norms), that change with time, products of matrices. Dopri5, rtol = atol = 1e-6, eleven times saved on
[0, 1]; loss: the mean square of all of them. CPU time of one thread, the least of several rounds that take turns; a ratio is
the time of diffrax over that of pynode. Diffrax is vmapped over samples, or solves all by one step size, whichever is
faster. Needs jax and diffrax.
"""

import argparse
import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from harness import cpu_seconds

import pynode as pn

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)

ROUNDS = 7
TOLERANCE = 1e-6
T = np.linspace(0.0, 1.0, 11)


def draw(*shape, size=1.0):
    """Parameters or states, always the same."""
    return size * np.random.default_rng(sum(shape) + len(shape)).standard_normal(shape)


def skew(xp, t, y, th):
    return xp.tanh((th["A"] - th["A"].T) @ y)


def squared(xp, t, y, th):
    return y * (th["r"] - (th["A"] @ th["A"]) @ y)


def low_rank(xp, t, y, th):
    return xp.tanh((th["U"] @ th["V"]) @ y) - y


def normalised(xp, t, y, th):
    size = xp.sqrt((th["W"] ** 2).sum(axis=1))
    return th["V"] @ xp.tanh((th["W"] * (th["g"] / size)[:, None]) @ y) - y


def positive(xp, t, y, th):
    return 1.0 - xp.log1p(xp.exp(th["W"])) @ y


def dissipative(xp, t, y, th):
    return (th["A"] - th["A"].T - th["L"] @ th["L"].T) @ y


def moving(xp, t, y, th):
    return xp.tanh((th["W0"] + t * th["W1"]) @ y)


NODES, FEATURES = 100, 16
RING = (np.roll(np.eye(NODES), 1, axis=0) + np.roll(np.eye(NODES), -1, axis=0)) / 2


def graph(xp, t, y, th):
    return xp.tanh(RING @ (y.reshape(NODES, FEATURES) @ th["W"])).ravel() - y


def rates(xp, t, y, th):
    a, b, c, d = (xp.exp(th[name]) for name in "abcd")
    return xp.stack([a * y[0] - b * y[0] * y[1], d * y[0] * y[1] - c * y[1]])


CASES = {
    "A - A^T": (skew, 100, {"A": draw(100, 100, size=0.1)}, (1, 64)),
    "A A": (squared, 100, {"A": draw(100, 100, size=0.05), "r": np.ones(100)}, (1, 32)),
    "U V": (low_rank, 64, {"U": draw(64, 8, size=0.3), "V": draw(8, 64, size=0.3)}, (1, 128)),
    "weight norm": (normalised, 16, {"W": draw(64, 16), "g": np.ones(64), "V": draw(16, 64, size=0.1)}, (1, 128)),
    "softplus(W)": (positive, 32, {"W": draw(32, 32)}, (1, 64)),
    "A - A^T - L L^T": (dissipative, 20, {"A": draw(20, 20), "L": draw(20, 20, size=0.3)}, (1, 64)),
    "W0 + t W1": (moving, 32, {"W0": draw(32, 32, size=0.2), "W1": draw(32, 32, size=0.15)}, (1, 64)),
    "A (X W)": (graph, NODES * FEATURES, {"W": draw(FEATURES, FEATURES, size=0.3)}, (1, 16)),
    "exp of rates": (rates, 2, {"a": 0.4, "b": 0.0, "c": 1.1, "d": 0.0}, (1, 64)),
}


def by_pynode(f, d, parameters, y0):
    """Two functions of nothing that return a number: the loss by itself, the loss with its gradient."""

    @pn.field(state=d, theta=parameters)
    def field(t, y, th):
        return f(np, t, y, th)

    theta = field.init(0)
    options = {"rtol": TOLERANCE, "atol": TOLERANCE}
    objective = pn.Objective(field, y0, T, np.zeros((len(y0), len(T), d)), **options)
    return lambda: float((pn.solve(field, y0, T, theta, **options).y ** 2).mean()), lambda: objective(theta)[0]


def by_diffrax(f, d, parameters, y0, together):
    """The same; together: one step size for all samples."""
    theta, start = jax.tree.map(jnp.asarray, parameters), jnp.asarray(y0)

    def solved(theta, y):
        one = lambda t, y, th: f(jnp, t, y, th)  # noqa: E731
        term = diffrax.ODETerm(jax.vmap(one, in_axes=(None, 0, None)) if together else one)
        controller = diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE)
        saved = diffrax.SaveAt(ts=jnp.asarray(T))
        return diffrax.diffeqsolve(
            term, diffrax.Dopri5(), 0.0, 1.0, None, y, theta, saveat=saved, stepsize_controller=controller, max_steps=4096
        ).ys

    def loss(theta):
        ys = solved(theta, start) if together else jax.vmap(solved, in_axes=(None, 0))(theta, start)
        return (ys**2).mean()

    forward, gradient = jax.jit(loss), jax.jit(jax.value_and_grad(loss))

    def with_gradient():
        value, slopes = gradient(theta)
        jax.block_until_ready(slopes)
        return float(value)

    return lambda: float(forward(theta)), with_gradient


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES, metavar="NAME", help=f"of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    print(f"{'field':18}{'samples':>8}{'forward':>12}{'ratio':>8}{'gradient':>12}{'ratio':>8}")
    for name in options.only:
        f, d, parameters, batches = CASES[name]
        for batch in batches:
            y0 = np.abs(draw(batch, d, size=0.5))
            ours = by_pynode(f, d, parameters, y0)
            theirs = [by_diffrax(f, d, parameters, y0, together) for together in (False, True)]
            line = f"{name:18}{batch:8d}"
            for k in range(2):  # forward, gradient
                calls = [ours[k], *(each[k] for each in theirs)]
                for call in calls[1:]:
                    np.testing.assert_allclose(call(), calls[0](), rtol=1e-4)
                times = [min(cpu_seconds(call, 3, 1) for _ in range(options.rounds)) for call in calls]
                line += f"{times[0] * 1e3:9.3f} ms{min(times[1:]) / times[0]:8.2f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
