"""Wide layers beside PyTorch and JAX. python benchmarks/wide.py [--torch PYTHON] [--jax PYTHON]

Networks 2-H-H-2 (tanh) by RK4, eight steps, and the loss of the last state; and one loss and gradient of a Hamiltonian
network 2-200-1 on the slopes of many states. Each library works in a process of its own, with one thread; they take turns,
and a time is the least CPU time of several rounds. PyTorch: RK4 by hand and autograd. JAX: RK4 in a scan, compiled. A ratio
is the time of the faster of the two over that of pynode.
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from harness import Worker, cpu_seconds

ROOT = Path(__file__).resolve().parent.parent
STEPS = 8
WIDTHS = 64, 200, 256, 512, 768, 1024, 2048
BATCHES = 1, 2, 20, 64, 4096
SLOPES = 256, 1000


# the libraries: each makes functions of nothing, forward and gradient, that return a number -------------------


def numbers(kind, width, batch, dtype):
    """(sizes, theta, y0 (batch, 2), slopes (batch, 2)), the same for every library."""
    import numpy as np

    random = np.random.default_rng(7)
    sizes = (2, width, width, 2) if kind == "solve" else (2, width, 1)
    parts = []
    for i, o in itertools.pairwise(sizes):
        parts += [random.standard_normal(o * i) / np.sqrt(i), 0.1 * random.standard_normal(o)]
    y0, slopes = random.standard_normal((2, batch, 2))
    return sizes, *(x.astype(dtype) for x in (np.concatenate(parts), y0, slopes))


def cut(sizes, theta):
    """[(W (out, in), b (out,)), ...]"""
    weights, at = [], 0
    for i, o in itertools.pairwise(sizes):
        weights.append((theta[at : at + o * i].reshape(o, i), theta[at + o * i : at + o * i + o]))
        at += o * i + o
    return weights


def rk4(f, y, h):
    k1 = f(y)
    k2 = f(y + h / 2 * k1)
    k3 = f(y + h / 2 * k2)
    k4 = f(y + h * k3)
    return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def by_pynode(kind, width, batch, dtype):
    import numpy as np

    import pynode as pn

    sizes, theta, y0, slopes = numbers(kind, width, batch, dtype)
    net = pn.mlp(2, sizes[1:-1], sizes[-1])
    if kind == "slopes":
        regression = pn.Regression(pn.hamiltonian(net), y0, slopes)
        return None, lambda: float(regression(theta)[0])
    options = {"method": "rk4", "step": 1 / STEPS}
    t = np.array([0.0, 1.0])
    target = np.stack([np.full_like(y0, np.nan), np.zeros_like(y0)], axis=1)

    def forward():
        return float((pn.solve(net, y0, t, theta, **options).y[:, -1] ** 2).mean())

    return forward, lambda: float(pn.loss_and_grad(net, y0, t, theta, target, **options).loss)


def by_torch(kind, width, batch, dtype):
    import torch

    torch.set_num_threads(1)
    sizes, theta, y0, slopes = numbers(kind, width, batch, dtype)
    weights = [(torch.tensor(W, requires_grad=True), torch.tensor(b, requires_grad=True)) for W, b in cut(sizes, theta)]
    parameters = [p for pair in weights for p in pair]
    y0, slopes = torch.tensor(y0), torch.tensor(slopes)

    def network(x):
        for W, b in weights[:-1]:
            x = torch.tanh(torch.nn.functional.linear(x, W, b))
        return torch.nn.functional.linear(x, *weights[-1])

    def loss():
        y = y0
        for _ in range(STEPS):
            y = rk4(network, y, 1 / STEPS)
        return (y**2).mean()

    def hamiltonian_loss():
        z = y0.clone().requires_grad_()
        (slope,) = torch.autograd.grad(network(z).sum(), z, create_graph=True)
        f = torch.stack([slope[:, 1], -slope[:, 0]], dim=1)
        return ((f - slopes) ** 2).mean()

    def forward():
        with torch.no_grad():
            return loss().item()

    def gradient():
        value = loss() if kind == "solve" else hamiltonian_loss()
        torch.autograd.grad(value, parameters, allow_unused=True)
        return value.item()

    return forward if kind == "solve" else None, gradient


def by_jax(kind, width, batch, dtype):
    os.environ |= {"PJRT_NPROC": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    sizes, theta, y0, slopes = numbers(kind, width, batch, dtype)
    weights = [(jnp.asarray(W), jnp.asarray(b)) for W, b in cut(sizes, theta)]
    y0, slopes = jnp.asarray(y0), jnp.asarray(slopes)

    def network(weights, x):
        for W, b in weights[:-1]:
            x = jnp.tanh(x @ W.T + b)
        W, b = weights[-1]
        return x @ W.T + b

    def loss(weights, y0, slopes):
        y, _ = jax.lax.scan(lambda y, _: (rk4(lambda x: network(weights, x), y, 1 / STEPS), None), y0, None, STEPS)
        return jnp.mean(y**2)

    def hamiltonian_loss(weights, y0, slopes):
        slope = jax.vmap(jax.grad(lambda z: network(weights, z)[0]))(y0)
        return jnp.mean((jnp.stack([slope[:, 1], -slope[:, 0]], axis=1) - slopes) ** 2)

    value = loss if kind == "solve" else hamiltonian_loss
    alone, both = jax.jit(value), jax.jit(jax.value_and_grad(value))

    def gradient():
        found = jax.block_until_ready(both(weights, y0, slopes))
        return float(found[0])

    return (lambda: float(alone(weights, y0, slopes))) if kind == "solve" else None, gradient


LIBRARIES = {"pynode": by_pynode, "torch": by_torch, "jax": by_jax}


# turns ----------------------------------------------------------------------------------------------------------


def work(name):
    """The process of a library: a case is answered by its loss; 0 and 1, forward and gradient, by CPU seconds."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    calls = []
    for line in sys.stdin:
        request = json.loads(line)
        if len(request) > 1:
            calls = LIBRARIES[name](*request)
            answer = calls[1]()
        else:
            call = calls[request[0]]
            once = cpu_seconds(call, 1, 1)
            answer = once if once > 0.02 else min(once, cpu_seconds(call, int(0.02 / once), 2))
        print(json.dumps(answer), file=answers)


def times(processes, what, rounds):
    """{library: the least CPU seconds}"""
    best = dict.fromkeys(processes, float("inf"))
    for _ in range(rounds):
        for name, process in processes.items():
            best[name] = min(best[name], process.ask(what))
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in LIBRARIES:
        parser.add_argument(
            f"--{name}", metavar="PYTHON", default=sys.executable, help="its Python, '': left out (this one)"
        )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--dtypes", nargs="*", default=["float64", "float32"])
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        processes = {
            name: stack.enter_context(
                Worker(getattr(options, name), name, 1, scratch, ROOT, [Path(__file__).resolve(), "--work", name])
            )
            for name in LIBRARIES
            if getattr(options, name)
        }
        compare(processes, options)


def compare(processes, options):
    """Print the table."""
    print(f"{'case':30}" + "".join(f"{name:>12}" for name in processes) + "   ratio")
    cases = [("solve", H, B) for H in options.widths for B in options.batches if B * H * H <= 1 << 30]
    cases += [("slopes", 200, B) for B in SLOPES]
    for dtype in options.dtypes:
        for kind, width, batch in cases:
            losses = [process.ask(kind, width, batch, dtype) for process in processes.values()]
            assert max(losses) - min(losses) <= (1e-9 if dtype == "float64" else 1e-3) * abs(losses[0]), losses
            for what in (0, 1) if kind == "solve" else (1,):
                best = times(processes, what, options.rounds)
                ratio = (
                    min(best[name] for name in best if name != "pynode") / best["pynode"] if len(best) > 1 else float("nan")
                )
                label = f"{kind} {dtype} {width:4d} {batch:4d} {('forward', 'gradient')[what]}"
                print(f"{label:34}" + "".join(f"{x * 1e3:9.3f} ms" for x in best.values()) + f"{ratio:8.2f}", flush=True)


if __name__ == "__main__":
    main()
