"""Coordinates without limits for constrained parameters: theta = T(x); frozen parameters have no coordinate."""

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pynode.fields import constraints
from pynode.fields.parameters import Parameter

Array = NDArray[np.float64]

FACTOR = 10.0
"""The most by which one step changes a positive parameter. A start may be wrong by orders of magnitude, one of which is
bridged by one step; a longer step ends, where the data favour a small value, at exp(-50): there no derivative leads back."""


VAGUE = 1e3
"""A parameter of which the data leave the factor this uncertain is not determined by them."""


EDGE = 1e-15
"""Places between bounds are told apart from them by this, in units of their distance."""


class Coordinates:
    """The map between theta (p,) and x (n,), one coordinate for each parameter that is not frozen.

    Positive: theta = exp(x). Bounded: theta = low + (high - low) / (1 + exp(-x)). Otherwise theta = x.

    Parameters
    ----------
    spec : tuple of Parameter
        The parameters of a field, with their constraints.
    theta : (p,) array
        Where fitting starts; frozen parameters keep these values.
    held : sequence of int
        Positions in theta of more numbers that keep these values.

    Attributes
    ----------
    index : (n,) int array
        Place of each coordinate in theta.
    trivial : bool
        x is theta.
    longest : (n,) array or None
        The most that each coordinate may change in a step; None: no coordinate is limited.
    """

    def __init__(self, spec: Iterable[Parameter], theta: Array, held: Sequence[int] = ()) -> None:
        self.base = np.array(theta, dtype=np.float64)
        p = len(self.base)
        frozen = np.zeros(p, bool)
        log = np.zeros(p, bool)
        low = np.full(p, -np.inf)
        high = np.full(p, np.inf)
        for parameter in spec:
            at = slice(parameter.offset, parameter.stop)
            constraints.check(parameter, self.base[at])
            kind = parameter.constraint[0]
            frozen[at] = kind == "frozen"
            log[at] = kind == "positive"
            if kind == "bounded":
                low[at], high[at] = parameter.constraint[1:]
        frozen[list(held)] = True
        self.index = np.flatnonzero(~frozen)
        self.log = log[self.index]
        self.low = low[self.index]
        self.high = high[self.index]
        self.box = np.isfinite(self.low)
        self.trivial = not (frozen.any() or self.log.any() or self.box.any())
        # of a box the same: its odds (theta - low) / (high - theta) change by at most this factor
        limited = self.log | self.box
        self.longest = np.where(limited, np.log(FACTOR), np.inf) if limited.any() else None

    @classmethod
    def all_free(cls, n: int) -> Self:
        """The coordinates of n parameters without constraints."""
        return cls((), np.zeros(n))

    def __len__(self) -> int:
        return len(self.index)

    def theta(self, x: Array) -> Array:
        """theta (p,) of coordinates x (n,)."""
        if self.trivial:
            return x
        theta = self.base.copy()
        value = x.copy()
        value[self.log] = np.exp(np.clip(x[self.log], -700.0, 700.0))
        low = self.low[self.box]
        high = self.high[self.box]
        inside = low + (high - low) * _sigmoid(x[self.box])
        value[self.box] = np.clip(inside, np.nextafter(low, high), np.nextafter(high, low))  # never at a bound by rounding
        theta[self.index] = value
        return theta

    def x(self, theta: Array) -> Array:
        """Coordinates (n,) of theta (p,)."""
        if self.trivial:
            return theta
        x: Array = theta[self.index].copy()
        x[self.log] = np.log(x[self.log])
        place = (x[self.box] - self.low[self.box]) / (self.high - self.low)[self.box]
        place = np.clip(place, EDGE, 1.0 - EDGE)
        x[self.box] = np.log(place / (1 - place))
        return x

    def slope(self, x: Array) -> Array:
        """d theta[index] / d x (n,)."""
        slope = np.ones(len(x))
        slope[self.log] = np.exp(np.minimum(x[self.log], 700.0))
        place = _sigmoid(x[self.box])
        slope[self.box] = (self.high - self.low)[self.box] * place * (1 - place)
        return slope

    def pull(self, x: Array, gradient: Array) -> Array:
        """The gradient with respect to x, from the gradient with respect to theta."""
        return gradient if self.trivial else gradient[self.index] * self.slope(x)

    def push(self, x: Array, v: Array) -> Array:
        """The direction (p,) of theta that a direction v (n,) of x leads to."""
        if self.trivial:
            return v
        moved = np.zeros(len(self.base))
        moved[self.index] = v * self.slope(x)
        return moved

    def jacobian(self, x: Array, J: Array) -> Array:
        """The Jacobian (..., n) with respect to x, from the Jacobian (..., p) with respect to theta."""
        return J if self.trivial else J[..., self.index] * self.slope(x)

    def spread(self, x: Array, covariance: Array) -> Array:
        """The covariance (p, p) of theta from the covariance (n, n) of x, to first order."""
        if self.trivial:
            return covariance
        out = np.zeros((len(self.base), len(self.base)))
        slope = self.slope(x)
        out[np.ix_(self.index, self.index)] = covariance * slope * slope[:, None]
        return out

    def undetermined(self, x: Array, covariance: Array) -> NDArray[np.bool_]:
        """(p,) whether a parameter is one that no data tell.

        Its standard deviation is a factor of a thousand (positive; of the odds, if bounded), or a thousand times its size
        and 1. A parameter at 0, or at a bound, has no influence in these coordinates.
        """
        found = np.zeros(len(self.base), bool)
        found[self.index] = ~(np.sqrt(np.maximum(np.diag(covariance), 0.0)) < self._vague(x))
        return found

    def n_undetermined(self, x: Array, covariance: Array) -> int:
        """How many directions there are that no data tell: of a and b one where a + b is determined."""
        most = self._vague(x)
        scaled = covariance / most / most[:, None]
        if not np.isfinite(scaled).all():
            return int(self.undetermined(x, covariance).sum())
        spread = np.linalg.eigvalsh(scaled)
        return int((spread > max(1.0, 1e-10 * spread.max(initial=0.0))).sum())  # what is smaller beside it is rounding

    def _vague(self, x: Array) -> Array:
        """The standard deviations (n,) of parameters that no data tell."""
        size = np.maximum(np.maximum(np.abs(x), np.abs(self.base[self.index])), 1.0)
        return np.where(self.log | self.box, np.log(VAGUE), VAGUE * size)

    def gain(self, x: Array, gain: Array) -> Array:
        """A linear map (..., p) of changes of theta, from the same map (..., n) of changes of x."""
        if self.trivial:
            return gain
        out = np.zeros((*gain.shape[:-1], len(self.base)))
        slope = self.slope(x)
        out[..., self.index] = gain / np.where(slope > 0, slope, np.inf)
        return out

    def groups(self, groups: Sequence[NDArray[np.intp]]) -> list[NDArray[np.intp]]:
        """Groups of indices into x, from groups of indices into theta; empty ones are left out."""
        place = np.full(len(self.base), -1)
        place[self.index] = np.arange(len(self.index))
        found = [place[g][place[g] >= 0] for g in groups]
        return [g for g in found if len(g)]


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)), dtype=np.float64)
