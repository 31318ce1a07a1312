"""torchdiffeq, on the CPU."""

import os

import numpy as np
import torch
import torchdiffeq
from cases import layers, windows
from systems_nets import Inputs, Windows

REQUIREMENTS = ["torch", "torchdiffeq", "numpy"]
CPU_BUILDS = ["torch"]

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


class Field(torch.nn.Module):
    def __init__(self, weights, cubic=False):
        super().__init__()
        modules = []
        for W, b in weights:
            linear = torch.nn.Linear(*W.shape[::-1], dtype=torch.from_numpy(W).dtype)
            linear.weight.data, linear.bias.data = torch.tensor(W), torch.tensor(b)
            modules += [linear, torch.nn.Tanh()]
        self.net, self.cubic = torch.nn.Sequential(*modules[:-1]), cubic

    def forward(self, t, y):
        return self.net(y**3 if self.cubic else y)


def variants(case):
    weights, *arrays = case.arrays()
    field, (y0, t, target) = Field(weights, case.cubic), map(torch.tensor, arrays)
    options = {"method": case.method}
    options |= {"options": {"step_size": case.step}} if case.step else {"rtol": case.rtol, "atol": case.atol}

    def forward():
        with torch.no_grad():
            return torchdiffeq.odeint(field, y0, t, **options)

    def gradient(odeint):
        field.zero_grad()
        loss = ((odeint(field, y0, t, **options) - target) ** 2).mean()
        loss.backward()
        return loss.detach(), [p.grad for p in field.parameters()]

    yield "backprop", forward, lambda: gradient(torchdiffeq.odeint)
    yield "adjoint", None, lambda: gradient(torchdiffeq.odeint_adjoint)


def fit(data, steps, report):
    """Adam on windows of 10 intervals, each from its first, noisy, state."""
    field, cut = Field(layers(data)), torch.tensor(windows(data["noisy"]))
    t, y0, target = torch.tensor(data["t"][: cut.shape[1]]), cut[:, 0], cut[:, 1:].swapaxes(0, 1)
    adam = torch.optim.Adam(field.parameters(), lr=1e-2)

    def predict(t, y0):
        with torch.no_grad():
            y = torchdiffeq.odeint(field, torch.tensor(y0), torch.tensor(t), rtol=1e-6, atol=1e-6)
        return np.swapaxes(y.numpy(), 0, 1), None

    for step in range(1, steps + 1):
        adam.zero_grad()
        loss = ((torchdiffeq.odeint(field, y0, t, rtol=1e-4, atol=1e-4)[1:] - target) ** 2).mean()
        loss.backward()
        adam.step()
        if step % 50 == 0 or step == steps:
            report(step, predict)


def systems(data, steps):
    """predict(t, y0 (n, d), u (n, T, m) or None) -> (n, T, d): a network trained by Adam on windows of 10 intervals."""
    own = Windows(data)
    field = Field(own.weights)
    y0, target = torch.tensor(own.start), torch.tensor(own.target)

    def solve(t, y0, u, tolerance):
        inputs = Inputs(t, None if u is None else torch.tensor(u.swapaxes(0, 1)))

        def slope(x, y):
            between = inputs(float(x))
            return field(x, y if between is None else torch.cat([y, between], dim=-1))

        return torchdiffeq.odeint(slope, y0, torch.tensor(t), rtol=tolerance, atol=tolerance)

    adam = torch.optim.Adam(field.parameters(), lr=1e-2)
    for _ in range(steps):
        adam.zero_grad()
        loss = ((solve(own.t, y0, own.u, 1e-4)[1:] - target) ** 2).mean()
        loss.backward()
        adam.step()

    def predict(t, y0, u):
        out = np.full((len(y0), len(t), y0.shape[1]), np.nan)
        for i, start in enumerate(own.scaled(y0)):
            try:
                with torch.no_grad():
                    z = solve(t / own.unit, torch.tensor(start[None]), None if u is None else u[i : i + 1], 1e-6)
            except AssertionError:  # steps became too small
                continue
            out[i] = own.back(z[:, 0].numpy())
        return out

    return predict
