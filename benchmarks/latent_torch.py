"""The latent ODE of latent_data.py in torch and torchdiffeq. Usage: latent_torch.py DATA CELL RTOL SECONDS.

Prints a JSON line: milliseconds of the processor an iteration (best, median), iterations, RMSE.
"""

import json
import os
import sys
import time

import torch
from latent_data import ANNEAL, DECODER, ENCODER, HIDDEN, LATENT, prepared, times
from torch import nn
from torchdiffeq import odeint

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


class Field(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(LATENT, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, LATENT)
        )

    def forward(self, t, z):
        return self.net(z)


class Model(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.rnn = (nn.GRU if cell == "gru" else nn.RNN)(5, ENCODER, batch_first=True)
        self.head, self.field = nn.Linear(ENCODER, 2 * LATENT), Field()
        self.decoder = nn.Sequential(nn.Linear(LATENT, DECODER), nn.Tanh(), nn.Linear(DECODER, 2))

    def encode(self, x):
        return self.head(self.rnn(x)[1][0]).chunk(2, dim=1)

    def curves(self, z0, grid, rtol):
        return self.decoder(odeint(self.field, z0, grid, rtol=rtol, atol=rtol, method="dopri5").transpose(0, 1))


def main(path, cell, rtol, seconds):
    data = {name: torch.tensor(a) for name, a in prepared(path).items()}
    rtol, seconds = float(rtol), float(seconds)
    torch.manual_seed(0)
    model = Model(cell)
    y, grid, noise = data["y"], data["grid"], data["noise"]
    index = data["index"].long()[:, :, None].expand(-1, -1, 2)
    x = torch.cat([y, torch.ones_like(y), data["gap"][:, :, None]], dim=2).flip(1)
    adam, count = torch.optim.Adam(model.parameters(), lr=1e-2), y.numel()
    start, k, costs = time.perf_counter(), 0, []
    while time.perf_counter() - start < seconds:
        k += 1
        before = time.process_time()
        adam.zero_grad()
        mean, log_std = model.encode(x)
        z0 = mean + log_std.exp() * torch.randn_like(mean)
        r = (model.curves(z0, grid, rtol).gather(1, index) - y) / noise
        kl = (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).sum()
        loss = (0.5 * (r**2).sum() + min(1.0, k / ANNEAL) * kl) / count
        loss.backward()
        adam.step()
        costs.append(1e3 * (time.process_time() - before))
    with torch.no_grad():
        curve = model.curves(model.encode(x)[0], grid, 1e-5) * data["scale"] + data["shift"]
        rmse = float(((curve - data["clean"]) ** 2).mean().sqrt())
    print(json.dumps(times(costs) | {"rmse": rmse}))


if __name__ == "__main__":
    main(*sys.argv[1:])
