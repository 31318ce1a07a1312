"""Gradient matching: fit the field to slopes of smoothed data, without solving anything.

Varah 1982, doi:10.1137/0903003.
"""

import numpy as np

from pynode.fields.field import run
from pynode.fields.transforms import jacobian
from pynode.optim.normal_equations import Linearised, gram
from pynode.training.coordinates import Coordinates
from pynode.training.shooting import PART


class MatchingProblem:
    """Residuals f(t, y; theta) - slope at points, each row weighted.

    Parameters
    ----------
    field : Field
    t : (n,) array
    y, slope : (n, d) arrays
    weight : (n, d) or (d,) array
        Of the squares.
    u : (n, m) array, optional
        Control inputs.
    coordinates : Coordinates, optional
    """

    def __init__(self, field, t, y, slope, weight=1.0, u=None, coordinates=None):
        self.field, self.slope = field, slope
        self.point = {"t": t, "y": y, "u": u}
        self.root = np.sqrt(np.broadcast_to(weight, slope.shape))
        self.n_observed = int((self.root > 0).sum())
        self.n_free = 0
        self.nfe = 0  # nothing is solved
        self.jacobian = jacobian(field, wrt="theta").program
        self.coordinates = Coordinates.all_free(field.n_params) if coordinates is None else coordinates

    def residual(self, x):
        (value,), _ = run(self.field.program, self.point, [self.coordinates.theta(x)])
        return self.root * (value - self.slope)

    def loss(self, x, free=None):
        r = self.residual(x)
        return float((r * r).sum())

    def linearise(self, x, free=None):
        r, theta, n = self.residual(x), self.coordinates.theta(x), len(x)
        H, g = np.zeros((n, n)), np.zeros(n)
        part = max(1, PART // (self.field.d * self.field.n_params))
        for a in range(0, len(r), part):
            rows = slice(a, a + part)
            (J,), _ = run(self.jacobian, {k: None if v is None else v[rows] for k, v in self.point.items()}, [theta])
            J = self.coordinates.jacobian(x, J.reshape(r[rows].size, -1))
            J *= self.root[rows].reshape(-1, 1)
            H += gram(J)
            g += J.T @ r[rows].ravel()
        return Linearised(float((r * r).sum()), H, g)


STILL = 1e-6
"""Changes over all the time, in units of the states, below which slopes count as zero."""


class MatchingObjective:
    """x -> (loss, gradient): sum of weight (f(t, y; theta) - slope)^2 over that of weight slope^2, with decay.

    Parameters
    ----------
    field : Field
    t : (n,) array
    y, slope : (n, d) arrays
        States and their time derivatives.
    decay : float
        Added is decay / n * |theta|^2.
    weight : (d,) array, optional
    u : (n, m) array, optional
        Control inputs.
    coordinates : Coordinates, optional
        The objective is one of x, theta = T(x), and so is the decay.
    """

    def __init__(self, field, t, y, slope, decay=0.0, weight=None, u=None, coordinates=None):
        self.field, self.point, self.slope = field, {"t": t, "y": y, "u": u}, slope
        self.coordinates = Coordinates.all_free(field.n_params) if coordinates is None else coordinates
        self.weight = np.ones(field.d) if weight is None else weight
        total, still = (self.weight * slope**2).sum(), slope.size * (STILL / np.ptp(t)) ** 2
        self.scale, self.decay = 1.0 / max(total, still), decay / len(slope)

    def __call__(self, x):
        field, theta = self.field, self.coordinates.theta(x)
        callbacks = field.bind_callbacks(theta) if field.callbacks else None
        (value,), _ = run(field.program, self.point, [theta], callbacks)
        residual = value - self.slope
        seed = 2 * self.scale * self.weight * residual
        _, (gradient,) = run(field.vjp_program, self.point | {"seed": seed}, [theta], callbacks)
        loss = self.scale * (self.weight * residual**2).sum() + self.decay * (x @ x)
        return float(loss), self.coordinates.pull(x, gradient) + 2 * self.decay * x
