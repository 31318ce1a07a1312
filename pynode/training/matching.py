"""Gradient matching: fit the field to slopes of smoothed data, without solving anything.

Varah 1982, doi:10.1137/0903003.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.fields.field import Field, run
from pynode.fields.transforms import jacobian
from pynode.optim.normal_equations import Linearised, column_sizes, gram, in_single, single_gram
from pynode.training.coordinates import Coordinates
from pynode.training.shooting import PART

Array = NDArray[np.float64]


class MatchingProblem:
    """Weighted residuals f(t, y; theta) - slope at n points: a `Problem` for Levenberg-Marquardt without free states.

    Parameters
    ----------
    field : Field
        The vector field f, with d states.
    t : (n,) array
        Times.
    y, slope : (n, d) arrays
        States and their time derivatives.
    weight : (n, d) or (d,) array, default 1
        Weights of the squares.
    u : (n, m) array, optional
        Control inputs.
    coordinates : Coordinates, optional
        The coordinates that are varied in place of theta. Default: theta itself.
    """

    def __init__(
        self,
        field: Field,
        t: Array,
        y: Array,
        slope: Array,
        weight: ArrayLike = 1.0,
        u: Array | None = None,
        coordinates: Coordinates | None = None,
    ) -> None:
        self.field = field
        self.slope = slope
        self.point = {"t": t, "y": y, "u": u}
        self.root = np.sqrt(np.broadcast_to(weight, slope.shape))
        self.n_observed = int((self.root > 0).sum())
        self.n_free = 0
        self.nfe = 0  # nothing is solved
        self.jacobian = jacobian(field, wrt="theta").program
        self.coordinates = Coordinates.all_free(field.n_params) if coordinates is None else coordinates

    def residual(self, x: Array) -> Array:
        """Weighted residuals (n, d)."""
        (value,), _ = run(self.field.program, self.point, [self.coordinates.theta(x)])
        return np.asarray(self.root * (value - self.slope), dtype=np.float64)

    def loss(self, x: Array, free: None = None) -> float:
        """The weighted sum of squares."""
        r = self.residual(x)
        return float((r * r).sum())

    def linearise(self, x: Array, free: None = None, single: bool = False) -> Linearised:
        """The normal equations; J^T J in single precision for a preconditioner."""
        r = self.residual(x)
        n = len(x)
        H = np.zeros((n, n))
        g = np.zeros(n)
        for rows, J in self._pieces(x):
            H += _rough_gram(J.reshape(*r[rows].shape, -1)) if single else gram(J)
            g += J.T @ r[rows].ravel()
        return Linearised(float((r * r).sum()), H, g)

    def rows(self, x: Array) -> Array:
        """The Jacobian (n d, len(x)) of all residuals."""
        return np.concatenate([J for _, J in self._pieces(x)])

    def _pieces(self, x: Array) -> Iterator[tuple[slice, Array]]:
        """(some of the points, the Jacobian of their residuals), until all are done."""
        theta = self.coordinates.theta(x)
        part = max(1, PART // (self.field.d * self.field.n_params))
        for a in range(0, len(self.slope), part):
            rows = slice(a, a + part)
            (J,), _ = run(self.jacobian, {k: None if v is None else v[rows] for k, v in self.point.items()}, [theta])
            J = self.coordinates.jacobian(x, J.reshape(self.slope[rows].size, -1))
            J *= self.root[rows].reshape(-1, 1)
            yield rows, J


def _rough_gram(J: Array) -> Array:
    """J^T J (n, n) of J (rows, d, n) in single precision.

    Parameters that have a part in the slope of one state only, such as those of the last layer of a network, are most.
    """
    n = J.shape[2]
    H = np.zeros((n, n))
    used = np.asarray(J.any(axis=0))
    shared = np.flatnonzero(used.sum(axis=0) > 1)
    common = np.ascontiguousarray(J[:, :, shared])
    size = column_sizes(common)
    H[shared[:, None], shared] = single_gram(in_single(common, size), size)
    used[:, shared] = False
    for c, mine in enumerate(used):
        own = np.flatnonzero(mine)
        block = J[:, c, own]
        across = common[:, c].T @ block
        H[own[:, None], own] = block.T @ block
        H[shared[:, None], own] = across
        H[own[:, None], shared] = across.T
    return H


STILL = 1e-6
"""Slopes count as zero where the changes over the whole time, in units of the states, are below this."""


class MatchingObjective:
    """x -> (loss, gradient): sum of weight (f(t, y; theta) - slope)^2 over that of weight slope^2, with decay.

    Parameters
    ----------
    field : Field
        The vector field f, with d states.
    t : (n,) array
        Times.
    y, slope : (n, d) arrays
        States and their time derivatives.
    decay : float, default 0
        decay / n * |x|^2 is added to the loss.
    weight : (d,) array, optional
        Weights of the states. Default: 1.
    u : (n, m) array, optional
        Control inputs.
    coordinates : Coordinates, optional
        The map theta = T(x). Default: x is theta.
    """

    def __init__(
        self,
        field: Field,
        t: Array,
        y: Array,
        slope: Array,
        decay: float = 0.0,
        weight: Array | None = None,
        u: Array | None = None,
        coordinates: Coordinates | None = None,
    ) -> None:
        self.field = field
        self.point = {"t": t, "y": y, "u": u}
        self.slope = slope
        self.coordinates = Coordinates.all_free(field.n_params) if coordinates is None else coordinates
        self.weight = np.ones(field.d) if weight is None else weight
        total = (self.weight * slope**2).sum()
        still = slope.size * (STILL / np.ptp(t)) ** 2
        self.scale = 1.0 / max(total, still)
        self.decay = decay / len(slope)

    def __call__(self, x: Array) -> tuple[float, Array]:
        field = self.field
        theta = self.coordinates.theta(x)
        callbacks = field.bind_callbacks(theta) if field.callbacks else None
        (value,), _ = run(field.program, self.point, [theta], callbacks)
        residual = value - self.slope
        seed = 2 * self.scale * self.weight * residual
        _, (gradient,) = run(field.vjp_program, self.point | {"seed": seed}, [theta], callbacks)
        loss = self.scale * (self.weight * residual**2).sum() + self.decay * (x @ x)
        return float(loss), self.coordinates.pull(x, gradient) + 2 * self.decay * x
