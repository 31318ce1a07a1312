"""A recurrent encoder in torch around an equation of ours: series with gaps in, the hidden state and its future out.

    python examples/torch_encoder.py [--epochs 200]

Each series is a noisy look at one coordinate of an oscillator with its own frequency and phase. A GRU reads the first half
backwards and tells the hidden state at the start, pynode solves the equation, learned too, and a linear layer reads values
off. Prints the error on series that were not trained on, in the half that the encoder did not see. Needs torch.
"""

import argparse
import math

import torch
from torch import nn

import pynode as pn
import pynode.torch as pt


class Forecaster(nn.Module):
    """Encoder, equation, decoder."""

    def __init__(self, times, seen, size=4):
        super().__init__()
        self.seen = seen
        self.encoder = nn.GRU(1, 24, batch_first=True)
        self.to_state = nn.Linear(24, size)
        self.flow = pt.ODEBlock(pn.mlp(size, (24,)), times, last=False, random_state=0, rtol=1e-4, atol=1e-5)
        self.decoder = nn.Linear(size, 1)

    def forward(self, values):
        """Values (B, T, 1) -> fitted and forecast values (B, T, 1)."""
        backwards = values[:, : self.seen].flip(1)
        return self.decoder(self.flow(self.to_state(self.encoder(backwards)[1][0])))


def series(n, times, noise, generator):
    """(B, T, 1) oscillations of amplitude 1 with random frequencies and phases; the same without noise."""
    frequency = 1 + 0.5 * torch.rand(n, 1, generator=generator)
    phase = 2 * math.pi * torch.rand(n, 1, generator=generator)
    clean = torch.sin(frequency * times.float() + phase)[..., None]
    return clean + noise * torch.randn(clean.shape, generator=generator), clean


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200)
    args = parser.parse_args()
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    times = torch.linspace(0, 8, 33, dtype=torch.float64)
    values, _ = series(128, times, 0.05, generator)
    unseen, clean = series(64, times, 0.05, generator)
    model = Forecaster(times, seen=17)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for epoch in range(args.epochs):
        optimiser.zero_grad()
        loss = ((model(values) - values) ** 2).mean()
        loss.backward()
        optimiser.step()
        if epoch % 50 == 0:
            print(f"epoch {epoch}: loss {loss.item():.4f}")
    with torch.no_grad():
        error = (model(unseen) - clean)[:, 17:].square().mean().sqrt().item()
    print(f"error of the forecast (root mean square, amplitude 1): {error:.3f}")
    return error


if __name__ == "__main__":
    main()
