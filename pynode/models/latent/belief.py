"""What a `LatentODE` is made of besides its networks: the scaling of time, data and inputs; what its filter believes."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pynode.models.latent.elbo import Series

SPAN = 4.0
"""Length of the longest series in the time of the latent equation, by default: its field is then of order one."""


@dataclass(frozen=True)
class Units:
    """Scaled value = (value - shift) / scale, scaled time = (time - t0) / t_scale; gap: a typical one, scaled.

    u_shift, u_scale (m,): the same of the control inputs.
    """

    shift: np.ndarray
    scale: np.ndarray
    t0: float
    t_scale: float
    gap: float
    u_shift: np.ndarray = field(default_factory=lambda: np.zeros(0))
    u_scale: np.ndarray = field(default_factory=lambda: np.zeros(0))

    m = property(lambda self: len(self.u_shift), doc="How many control inputs.")

    @classmethod
    def of(cls, data, t0, t_scale):
        y = np.concatenate(data.y)
        shift, scale = _standard(y)
        inputs = () if data.signal is None else _standard(np.concatenate(data.signal.u))
        t0 = float(min(t[0] for t in data.t)) if t0 is None else t0
        longest = max(float(t[-1]) - t0 for t in data.t)
        if t_scale is None:
            t_scale = longest / SPAN if longest > 0 else 1.0
        count = sum(len(t) for t in data.t)
        gap = sum(float(t[-1]) - t0 for t in data.t) / count / t_scale
        return cls(shift, scale, t0, float(t_scale), gap if gap > 0 else 1.0, *inputs)

    def series(self, data):
        """Trajectories as scaled `Series`."""
        times = [(t - self.t0) / self.t_scale for t in data.t]
        return Series.of(times, [(y - self.shift) / self.scale for y in data.y], self.gap, self.signal(data.signal))

    def signal(self, signal):
        """Control inputs, scaled."""
        return None if signal is None else signal.scaled(self.u_shift, self.u_scale, self.t0, self.t_scale)


def _standard(x):
    """Mean and standard deviation of columns (1 where they are constant), without NaN."""
    scale = np.nanstd(x, axis=0)
    return np.nanmean(x, axis=0), np.where(scale > 0, scale, 1.0)


@dataclass(frozen=True)
class Belief:
    """What `LatentODE.filter` thinks of the latent state z(t), for B series or one.

    Attributes
    ----------
    t : (B,) array, or float
    mean : (B, latent) or (latent,) array
        From the mean of z_0.
    std : like mean
        Over the draws.
    draws : (n, B, latent) or (n, latent) array
        From draws of z_0.
    """

    t: Any
    mean: np.ndarray
    std: np.ndarray
    draws: np.ndarray
