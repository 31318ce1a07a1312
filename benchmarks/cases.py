"""The problems: six for speed, one for training. The same arrays, from the same seeds, for every library.

run.py reads this file with any Python, so NumPy is imported where it is needed.
"""

import itertools
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """Solve dy/dt = network(y), or network(y^3); the loss is mean((y - target)^2) over all saved states."""

    name: str
    d: int
    hidden: tuple
    batch: int
    end: float
    n_times: int
    method: str  # "euler", "rk4" (steps of size `step`) or "dopri5" (rtol, atol)
    step: float | None = None
    rtol: float | None = None
    atol: float | None = None
    dtype: str = "float64"
    cubic: bool = False
    agree: float = 1e-8  # relative; ten times rtol where libraries choose steps of their own, more for float32

    def arrays(self):
        """(weights, y0 (B, d), t (T,), target (T, B, d)); weights: [(W (out, in), b (out,)), ...]: x W^T + b, then tanh."""
        import numpy as np

        random = np.random.default_rng(7)
        sizes = (self.d, *self.hidden, self.d)
        gain = 1.5 if len(self.hidden) == 1 else 1.2

        def normal(*shape, scale=1.0, gain=1.0):
            return (random.standard_normal(shape) * scale * gain).astype(self.dtype)

        pairs = itertools.pairwise(sizes)
        weights = [(normal(o, i, scale=np.sqrt(1.0 / i), gain=gain), normal(o, scale=0.1)) for i, o in pairs]
        y0 = normal(self.batch, self.d)
        t = np.linspace(0, self.end, self.n_times).astype(self.dtype)
        return weights, y0, t, normal(self.n_times, self.batch, self.d)


_CASES = (
    Case("codelab", 1, (8,), 5, 1.0, 21, "euler", step=0.05),
    Case("rk4one", 2, (16,), 1, 10.0, 101, "rk4", step=0.05, agree=1e-6),  # torchdiffeq's is the 3/8 rule
    Case("spiral", 2, (50,), 20, 9 * 25 / 999, 10, "dopri5", rtol=1e-7, atol=1e-9, dtype="float32", cubic=True, agree=1e-5),
    Case("vdp", 2, (32, 32), 64, 7.0, 100, "dopri5", rtol=1e-6, atol=1e-8, agree=1e-5),
    Case("big", 2, (64, 64), 4096, 1.0, 10, "dopri5", rtol=1e-5, atol=1e-5, dtype="float32", agree=1e-4),
    Case("wide", 64, (256,), 128, 1.0, 2, "dopri5", rtol=1e-3, atol=1e-3, dtype="float32", agree=1e-2),
)
CASES = {case.name: case for case in _CASES}


def mixed():
    """(mu (256,), y0 (256, 2), t (100,)): Van der Pol oscillators, mu 0.1 to 50, as the program lanes.c draws them."""
    import ctypes
    from math import exp, log

    import numpy as np

    c = ctypes.CDLL(None)
    c.srand(1)
    draws = np.array([c.rand() / (2**31 - 1) for _ in range(3 * 256)]).reshape(256, 3)
    mu = np.array([exp(log(0.1) + log(500.0) * x) for x in draws[:, 0]])
    return mu, 4 * draws[:, 1:] - 2, np.linspace(0, 20, 100)


def van_der_pol(seed):
    """Noisy trajectories to train on and clean ones held out, as a dict of arrays.

    t (101,), noisy (16, 101, 2) with noise of standard deviation 0.05, held_out (8, 101, 2), and the initial weights
    W0, b0, W1, ... of a network 2-32-32-2 (pynode makes its own).
    """
    import numpy as np
    from scipy.integrate import solve_ivp

    def field(t, y):
        return [y[1], (1 - y[0] ** 2) * y[1] - y[0]]

    random, t = np.random.default_rng(seed), np.linspace(0, 10, 101)
    starts = random.uniform(-3, 3, (24, 2))
    clean = np.stack([solve_ivp(field, (0, 10), y0, "DOP853", t, rtol=1e-10, atol=1e-10).y.T for y0 in starts])
    data = {"t": t, "noisy": clean[:16] + NOISE * random.standard_normal(clean[:16].shape), "held_out": clean[16:]}
    for k, (i, o) in enumerate(itertools.pairwise((2, 32, 32, 2))):
        data |= {f"W{k}": random.standard_normal((o, i)) * np.sqrt(1 / i), f"b{k}": np.zeros(o)}
    return data


NOISE = 0.05
"""Standard deviation of the noise of `van_der_pol`."""


def windows(noisy, intervals=10):
    """Trajectories cut into windows: (16, 101, 2) -> (160, 11, 2)."""
    import numpy as np

    starts = range(0, noisy.shape[1] - 1, intervals)
    return np.concatenate([noisy[:, i : i + intervals + 1] for i in starts])


def layers(data):
    """[(W, b), ...] of `van_der_pol`."""
    return [(data[f"W{k}"], data[f"b{k}"]) for k in range(3)]
