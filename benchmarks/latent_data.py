"""The latent ODE of the benchmark, in numbers: its data as padded arrays, its sizes and its initial weights.

All libraries train the same model on the same data: spirals (pynode.datasets.spirals), encoder RNN or GRU of 25 with
(value, mask, gap), q(z_0 | x) of 4, field 4-20-20-4 and decoder 4-20-2 (tanh), given noise, one draw, full batch, Adam 0.01,
float32, dopri5 with the same tolerances.
"""

import numpy as np

LATENT, HIDDEN, ENCODER, DECODER = 4, 20, 25, 20
SPAN = 4.0
ANNEAL = 200
"""Iterations over which the weight of the KL divergence rises to 1 (pynode: a tenth of training)."""


COMPARED = 100
"""Iterations whose times are compared: steps become shorter as training goes on, and some libraries come further."""


def times(costs):
    """What is reported of the milliseconds of the iterations."""
    some = costs[:COMPARED]
    return {"best": float(np.min(some)), "median": float(np.median(some)), "iterations": len(costs)}


def prepared(path):
    """A dict of float32 arrays from the file that latent.py writes.

    t (B, n) times of observations, scaled; gap (B, n) time since the one before; y (B, n, 2), scaled; index (B, n) their
    places in grid (T,), the times of all; noise (2,) scaled; clean (B, T, 2), shift, scale (2,).
    """
    data = np.load(path)
    out = {name: data[name] for name in data.files}
    return {name: a if a.dtype.kind == "i" else a.astype(np.float32) for name, a in out.items()}


def init(rng, n, m):
    """Weights (m, n) with variance 1 / n, biases 0."""
    return (rng.standard_normal((m, n)) / np.sqrt(n)).astype(np.float32), np.zeros(m, np.float32)
