"""Encoder, equation, decoder in torch: the equation by pynode.torch and by torchdiffeq. python benchmarks/torch_model.py

64 series; each line is one training step (loss, gradient of all parameters, Adam): CPU time, best of several rounds, one
thread.
Also loss and gradient of the solve alone, beside pynode.loss_and_grad. Needs torch and torchdiffeq.
"""

import argparse

import numpy as np
import torch
import torchdiffeq
from harness import cpu_seconds
from torch import nn

import pynode as pn
import pynode.torch as pt

TIMES = torch.linspace(0, 5, 11, dtype=torch.float64)


class Func(nn.Module):
    """dy/dt = net(y), for torchdiffeq."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, t, y):
        return self.net(y)


class Model(nn.Module):
    """A GRU, a solve, a linear layer."""

    def __init__(self, solve, func):
        super().__init__()
        self.encoder = nn.GRU(1, 16, batch_first=True, dtype=torch.float64)
        self.inner = nn.Linear(16, 2, dtype=torch.float64)
        self.outer = nn.Linear(2, 1, dtype=torch.float64)
        self.solve, self.func = solve, func

    def forward(self, x):
        y0 = self.inner(self.encoder(x)[1][0])
        return self.outer(self.solve(self.func, y0))


def models(method):
    """name -> model, with the same weights."""
    options = {"method": method} | ({"options": {"step_size": 0.25}} if method == "rk4" else {"rtol": 1e-6, "atol": 1e-8})
    mine = {"method": "rk38", "step": 0.25} if method == "rk4" else {"method": method, "rtol": 1e-6, "atol": 1e-8}
    made = {}
    for name in ("no equation", "pynode.torch", "pynode.torch.diffeq", "torchdiffeq"):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2)).double()
        if name == "no equation":
            made[name] = Model(lambda func, y0: func(y0)[:, None].expand(-1, len(TIMES), -1), net)
        elif name == "pynode.torch":
            field, theta = pt.from_torch(net)
            block = pt.ODEBlock(field, TIMES, theta=theta, last=False, dtype=torch.float64, **mine)
            made[name] = Model(lambda block, y0: block(y0), block)
        else:
            odeint = torchdiffeq.odeint if name == "torchdiffeq" else pt.diffeq.odeint
            made[name] = Model(lambda func, y0, odeint=odeint: odeint(func, y0, TIMES, **options).movedim(0, 1), Func(net))
    return made


def whole(method, samples, repeats):
    """A training step of each model; the first loss says that those with an equation are the same."""
    x = torch.randn(samples, 11, 1, dtype=torch.float64)
    for name, model in models(method).items():
        optimiser = torch.optim.Adam(model.parameters(), 1e-3)
        losses = []

        def step(model=model, optimiser=optimiser, losses=losses):
            optimiser.zero_grad()
            loss = ((model(x) - x) ** 2).mean()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())

        took = cpu_seconds(step, repeats)
        print(f"{method:8s} {samples:4d} samples  {name:20s} {1e3 * took:9.3f} ms   first loss {losses[0]:.9f}")


def alone(samples, repeats):
    """Loss and gradient of the solve alone."""
    f = pn.mlp(2, (16, 16))
    theta = f.init(0)
    rng = np.random.default_rng(0)
    y0, target = rng.normal(size=(samples, 2)), rng.normal(size=(samples, 11, 2))
    p = torch.from_numpy(theta).requires_grad_()
    a, b = torch.from_numpy(y0), torch.from_numpy(target)
    t = TIMES.numpy()

    def through_torch():
        p.grad = None
        ((pt.odeint(f, a, TIMES, p) - b) ** 2).mean().backward()

    def without_solve():
        ((a[:, None] + p.sum() - b) ** 2).mean().backward()

    runs = {
        "torch": through_torch,
        "loss_and_grad": lambda: pn.loss_and_grad(f, y0, t, theta, target),
        "torch without a solve": without_solve,
    }
    for name, run in runs.items():
        print(f"alone    {samples:4d} samples  {name:22s} {1e6 * cpu_seconds(run, repeats):9.1f} us")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for samples in (1, 64):
        alone(samples, 10 * args.repeats)
    for method in ("dopri5", "rk4"):
        whole(method, 64, args.repeats)


if __name__ == "__main__":
    main()
