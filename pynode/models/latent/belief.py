"""What a `LatentODE` is made of besides its networks: the scaling of time, data and inputs; what its filter believes."""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pynode.data.scaling import shift_and_scale
from pynode.data.signal import Signal
from pynode.data.trajectories import Trajectories
from pynode.models.latent.series import Series

Array = NDArray[np.float64]

SPAN = 4.0
"""Length of the longest series in the time of the latent equation, by default: its field is then of order one."""


@dataclass(frozen=True)
class Units:
    """Scaled value = (value - shift) / scale, scaled time = (time - t0) / t_scale; gap: a typical one, scaled.

    u_shift, u_scale (m,): the same of the control inputs.
    """

    shift: Array
    scale: Array
    t0: float
    t_scale: float
    gap: float
    u_shift: Array = field(default_factory=lambda: np.zeros(0))
    u_scale: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def m(self) -> int:
        """How many control inputs."""
        return len(self.u_shift)

    @classmethod
    def of(cls, data: Trajectories, t0: float | None, t_scale: float | None) -> Self:
        """The scaling of data, from a time t0 and a unit of time that are given or chosen."""
        shift, scale = shift_and_scale(np.concatenate(data.y))
        inputs = () if data.signal is None else shift_and_scale(np.concatenate(data.signal.u))
        t0 = float(min(t[0] for t in data.t)) if t0 is None else t0
        longest = max(float(t[-1]) - t0 for t in data.t)
        if t_scale is None:
            t_scale = longest / SPAN if longest > 0 else 1.0
        count = sum(len(t) for t in data.t)
        gap = sum(float(t[-1]) - t0 for t in data.t) / count / t_scale
        return cls(shift, scale, t0, float(t_scale), gap if gap > 0 else 1.0, *inputs)

    def series(self, data: Trajectories) -> Series:
        """Trajectories as scaled `Series`."""
        times = [(t - self.t0) / self.t_scale for t in data.t]
        return Series.of(times, [(y - self.shift) / self.scale for y in data.y], self.gap, self.signal(data.signal))

    def signal(self, signal: Signal | None) -> Signal | None:
        """Control inputs, scaled."""
        return None if signal is None else signal.scaled(self.u_shift, self.u_scale, self.t0, self.t_scale)


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

    See Also
    --------
    pynode.LatentODE.filter : makes it.
    pynode.LatentODE.rollout : what will be seen from here.
    """

    t: Any
    mean: Array
    std: Array
    draws: Array
