"""The units in which a model works: states and time of order one."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scaling:
    """z = (g(y) - shift) / scale, tau = (t - t_shift) / t_scale, with g = log or the identity.

    Attributes
    ----------
    shift, scale : (d,) arrays
    spread : (d,) array
        Standard deviations of z, the units of absolute tolerances: 1 where the states are scaled.
    t_shift, t_scale : float
    log : bool
    """

    shift: np.ndarray
    scale: np.ndarray
    spread: np.ndarray
    t_shift: float = 0.0
    t_scale: float = 1.0
    log: bool = False

    def __post_init__(self):
        arrays = (self.shift, self.scale, self.spread)
        if any(np.ndim(x) != 1 or np.shape(x) != np.shape(self.shift) for x in arrays):
            raise ValueError("shift, scale and spread must be vectors of one length")
        if not np.isfinite([*np.concatenate(arrays), self.t_shift, self.t_scale]).all():
            raise ValueError("the scaling must consist of finite numbers")
        if not (np.concatenate(arrays[1:]) > 0).all() or not self.t_scale > 0:
            raise ValueError("scale, spread and t_scale must be positive")

    @classmethod
    def identity(cls, d, log=False):
        """Nothing is scaled."""
        return cls(np.zeros(d), np.ones(d), np.ones(d), log=log)

    @classmethod
    def of(cls, y, log=False):
        """Mean 0 and variance 1 for states y (list of (T_i, d)); time is left as it is."""
        x = cls.identity(y[0].shape[1], log).states(np.concatenate(y))
        scale = np.nanstd(x, axis=0)
        return cls(np.nanmean(x, axis=0), np.where(scale > 0, scale, 1.0), np.ones(x.shape[1]), log=log)

    def unscaled(self):
        """The same units as those of the data; only the spread is kept."""
        d = len(self.shift)
        return Scaling(np.zeros(d), np.ones(d), self.scale * self.spread, log=self.log)

    def states(self, y):
        """z from y (..., d)."""
        return ((np.log(y) if self.log else y) - self.shift) / self.scale

    def states_back(self, z):
        """y from z (..., d)."""
        x = z * self.scale + self.shift
        return np.exp(x) if self.log else x

    def times(self, t):
        """tau from t: an array, or a list of arrays."""
        if isinstance(t, (list, tuple)) and len(t) and np.ndim(t[0]):
            return [self.times(x) for x in t]
        return (np.asarray(t, dtype=np.float64) - self.t_shift) / self.t_scale

    def slopes_back(self, y, slope):
        """dy/dt from dz/dtau at y, all (..., d)."""
        rate = slope * self.scale / self.t_scale
        return rate * y if self.log else rate
