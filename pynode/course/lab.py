"""The data of the code lab: noisy solutions of y' = -2 y."""

from typing import NamedTuple

import numpy as np


class Lab(NamedTuple):
    """Five trajectories: times (21,), starts (5, 1), noisy states (5, 21, 1), the same without noise."""

    t: np.ndarray
    y0: np.ndarray
    noisy: np.ndarray
    clean: np.ndarray


def code_lab(noise=0.02, end=1.0, seed=0):
    """Solutions of y' = -2 y from five starts, every 0.05 s up to `end`, with measurement noise (standard deviation)."""
    t = np.linspace(0.0, end, round(end / 0.05) + 1)
    y0 = np.array([[-1.5], [-0.75], [0.5], [1.0], [1.5]])
    clean = y0[:, None] * np.exp(-2.0 * t)[None, :, None]
    return Lab(t, y0, clean + noise * np.random.default_rng(seed).standard_normal(clean.shape), clean)
