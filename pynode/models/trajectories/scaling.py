"""The units in which a model works: states, control inputs and time of order one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import is_ragged, real_array
from pynode.data.delays import delayed
from pynode.data.scaling import shift_and_scale, spread_within, tolerances
from pynode.data.signal import Signal

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scaling:
    """z = (g(y) - shift) / scale, tau = (t - t_shift) / t_scale, with g = log or the identity; u likewise.

    Attributes
    ----------
    shift, scale : (d,) arrays
    spread : (d,) array
        Standard deviations of z, the units of absolute tolerances: 1 where the states are scaled.
    t_shift, t_scale : float
    log : bool
        All states but the last `extra` ones are those of logarithms.
    extra : int
        States that the model added: they have no units.
    u_shift, u_scale : (m,) arrays
    u_delay : (m,) array
        By how much later control inputs take effect, in the units of the data; empty: at once.
    centre : (d,) array
        Sizes of z, about which it varies; empty: 0.
    within : (d,) array
        Standard deviations of z within trajectories; empty: those of all.
    """

    shift: Array
    scale: Array
    spread: Array
    t_shift: float = 0.0
    t_scale: float = 1.0
    log: bool = False
    extra: int = 0
    u_shift: Array = field(default_factory=lambda: np.zeros(0))
    u_scale: Array = field(default_factory=lambda: np.ones(0))
    u_delay: Array = field(default_factory=lambda: np.zeros(0))
    centre: Array = field(default_factory=lambda: np.zeros(0))
    within: Array = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        arrays = (self.shift, self.scale, self.spread)
        if any(np.ndim(x) != 1 or np.shape(x) != np.shape(self.shift) for x in arrays):
            raise ValueError("shift, scale and spread must be vectors of one length")
        if np.ndim(self.u_shift) != 1 or np.shape(self.u_shift) != np.shape(self.u_scale):
            raise ValueError("u_shift and u_scale must be vectors of one length")
        if np.ndim(self.u_delay) != 1 or len(self.u_delay) not in (0, len(self.u_shift)) or not (self.u_delay >= 0).all():
            raise ValueError("u_delay must hold a number >= 0 for each control input")
        if any(np.shape(x) not in ((0,), np.shape(self.shift)) for x in (self.centre, self.within)):
            raise ValueError("centre and within must hold a number for each state")
        vectors = [*arrays, self.centre, self.within, self.u_shift, self.u_scale, self.u_delay]
        numbers = np.append(np.concatenate(vectors), [self.t_shift, self.t_scale])
        if not np.isfinite(numbers).all():
            raise ValueError("the scaling must consist of finite numbers")
        if not (np.concatenate([*arrays[1:], self.within, self.u_scale]) > 0).all() or not self.t_scale > 0:
            raise ValueError("scale, spread, u_scale and t_scale must be positive")
        if type(self.extra) is not int or not 0 <= self.extra < len(self.shift):
            raise ValueError(f"extra={self.extra!r} makes no sense for {len(self.shift)} states")

    @classmethod
    def identity(cls, d: int, log: bool = False, m: int = 0) -> Self:
        """Nothing is scaled."""
        return cls(np.zeros(d), np.ones(d), np.ones(d), log=log, u_shift=np.zeros(m), u_scale=np.ones(m))

    @classmethod
    def of(cls, y: Sequence[Array], log: bool = False, signal: Signal | None = None) -> Self:
        """Mean 0 and variance 1 for states y (list of (T_i, d)) and control inputs; time is left as it is."""
        x = np.concatenate(y)
        # column after column, as sums of contiguous numbers round less
        shift, scale = shift_and_scale(np.asfortranarray(np.log(x) if log else x))
        m = 0 if signal is None else signal.m
        u_shift, u_scale = shift_and_scale(np.zeros((1, m)) if signal is None else np.concatenate(signal.u))
        within = spread_within([np.log(part) if log else part for part in y]) / scale
        return cls(shift, scale, np.ones(len(shift)), log=log, u_shift=u_shift, u_scale=u_scale, within=within)

    def unscaled(self) -> Self:
        """The same units as those of the data; only the spread is kept."""
        d, m = len(self.shift), len(self.u_shift)
        return replace(
            self,
            shift=np.zeros(d),
            scale=np.ones(d),
            spread=self.scale * self.spread,
            centre=np.abs(self.shift),
            within=self.scale * self.within if len(self.within) else self.within,
            u_shift=np.zeros(m),
            u_scale=np.ones(m),
        )

    def with_extra(self, n: int) -> Self:
        """The same with n more states."""
        if n == 0:
            return self
        zeros, ones = np.zeros(n), np.ones(n)
        return replace(
            self,
            shift=np.append(self.shift, zeros),
            scale=np.append(self.scale, ones),
            spread=np.append(self.spread, ones),
            extra=n,
            centre=np.append(self.centre, zeros) if len(self.centre) else self.centre,
            within=np.append(self.within, ones) if len(self.within) else self.within,
        )

    def observed(self, n: int) -> Self:
        """The same for the first n states alone, those that were measured."""
        parts = {name: getattr(self, name)[:n] for name in ("shift", "scale", "spread", "centre", "within")}
        return replace(self, **parts, extra=0)

    def tolerances(self, rtol: float, atol: float) -> dict[str, Any]:
        """rtol and atol of a solve of z, see `pynode.data.scaling.tolerances`."""
        centre = self.centre if len(self.centre) else np.zeros(len(self.spread))
        within = self.within if len(self.within) else self.spread
        return dict(zip(("rtol", "atol"), tolerances(rtol, atol, centre, self.spread, within), strict=True))

    def states(self, y: Array) -> Array:
        """z from y (..., d)."""
        return (self._logs(y, np.log) - self.shift) / self.scale

    def states_back(self, z: Array) -> Array:
        """y from z (..., d)."""
        return self._logs(z * self.scale + self.shift, np.exp)

    def _logs(self, x: Array, function: Callable[[Array], Array]) -> Array:
        if not self.log:
            return x
        if not self.extra:
            return function(x)
        return np.concatenate([function(x[..., : -self.extra]), x[..., -self.extra :]], axis=-1)

    def slope_of_states_back(self, y: Array) -> Array:
        """dy/dz at y, both (..., d)."""
        slope = np.broadcast_to(self.scale, np.shape(y)).copy()
        if self.log:
            known = slice(None, -self.extra or None)
            slope[..., known] *= y[..., known]
        return slope

    def times(self, t: Any) -> Any:
        """tau from t: an array, or a list of arrays."""
        if is_ragged(t):
            return [self.times(x) for x in t]
        return (real_array("t", t, np.float64) - self.t_shift) / self.t_scale

    def late(self, signal: Signal) -> Signal:
        """Control inputs as they take effect, in the units of the data."""
        return delayed(signal, self.u_delay) if self.u_delay.any() else signal

    def inputs(self, signal: Signal | None) -> Signal | None:
        """Control inputs in the units of the field, or None."""
        return None if signal is None else self.late(signal).scaled(self.u_shift, self.u_scale, self.t_shift, self.t_scale)

    def slopes_back(self, y: Array, slope: Array) -> Array:
        """dy/dt from dz/dtau at y, all (..., d)."""
        return slope * self.slope_of_states_back(y) / self.t_scale
