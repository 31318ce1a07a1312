"""Coordinates without limits for constrained parameters: theta = T(x), frozen parameters left out of x."""

import numpy as np

from pynode.fields import constraints


class Coordinates:
    """The map between theta (p,) and x (n,), one coordinate for each parameter that is not frozen.

    Positive: theta = exp(x). Bounded: theta = low + (high - low) / (1 + exp(-x)). Else theta = x.

    Parameters
    ----------
    spec : tuple of Parameter
    theta : (p,) array
        Where fitting starts: what frozen parameters keep.

    Attributes
    ----------
    index : (n,) int array
        Place of each coordinate in theta.
    trivial : bool
        x is theta.
    """

    def __init__(self, spec, theta):
        self.base = np.array(theta, dtype=np.float64)
        frozen, self.log = np.zeros(len(self.base), bool), np.zeros(len(self.base), bool)
        low, high = np.full(len(self.base), -np.inf), np.full(len(self.base), np.inf)
        for p in spec:
            at = slice(p.offset, p.stop)
            constraints.check(p, self.base[at])
            frozen[at], self.log[at] = p.constraint[0] == "frozen", p.constraint[0] == "positive"
            if p.constraint[0] == "bounded":
                low[at], high[at] = p.constraint[1:]
        self.index = np.flatnonzero(~frozen)
        self.log, self.low, self.high = self.log[self.index], low[self.index], high[self.index]
        self.box = np.isfinite(self.low)
        self.trivial = not (frozen.any() or self.log.any() or self.box.any())

    @classmethod
    def all_free(cls, n):
        """Nothing is constrained."""
        return cls((), np.zeros(n))

    def __len__(self):
        return len(self.index)

    def theta(self, x):
        """theta (p,) of coordinates x (n,)."""
        if self.trivial:
            return x
        theta, value = self.base.copy(), x.copy()
        value[self.log] = np.exp(np.minimum(x[self.log], 700.0))
        low, high = self.low[self.box], self.high[self.box]
        value[self.box] = low + (high - low) * _sigmoid(x[self.box])
        theta[self.index] = value
        return theta

    def x(self, theta):
        """Coordinates (n,) of theta (p,)."""
        if self.trivial:
            return theta
        x = theta[self.index].copy()
        x[self.log] = np.log(x[self.log])
        place = (x[self.box] - self.low[self.box]) / (self.high - self.low)[self.box]
        x[self.box] = np.log(place / (1 - place))
        return x

    def slope(self, x):
        """d theta[index] / d x (n,)."""
        slope = np.ones(len(x))
        slope[self.log] = np.exp(np.minimum(x[self.log], 700.0))
        place = _sigmoid(x[self.box])
        slope[self.box] = (self.high - self.low)[self.box] * place * (1 - place)
        return slope

    def pull(self, x, gradient):
        """The gradient with respect to x of that with respect to theta."""
        return gradient if self.trivial else gradient[self.index] * self.slope(x)

    def jacobian(self, x, J):
        """Columns (..., p) with respect to theta as columns (..., n) with respect to x."""
        return J if self.trivial else J[..., self.index] * self.slope(x)

    def spread(self, x, covariance):
        """The covariance (p, p) of theta of that of x (n, n), to first order."""
        if self.trivial:
            return covariance
        out, slope = np.zeros((len(self.base), len(self.base))), self.slope(x)
        out[np.ix_(self.index, self.index)] = covariance * slope * slope[:, None]
        return out

    def gain(self, x, gain):
        """(..., p): a linear map of changes of x (..., n) as one of changes of theta."""
        if self.trivial:
            return gain
        out, slope = np.zeros((*gain.shape[:-1], len(self.base))), self.slope(x)
        out[..., self.index] = gain / np.where(slope > 0, slope, np.inf)
        return out

    def groups(self, groups):
        """Groups of indices of theta as groups of indices of x; empty ones are left out."""
        place = np.full(len(self.base), -1)
        place[self.index] = np.arange(len(self.index))
        groups = [place[g][place[g] >= 0] for g in groups]
        return [g for g in groups if len(g)]


def _sigmoid(x):
    return 0.5 * (1.0 + np.tanh(0.5 * x))
