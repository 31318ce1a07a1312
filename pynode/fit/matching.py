"""Gradient matching: fit the field to slopes of smoothed data, without solving anything.

Varah 1982, doi:10.1137/0903003.
"""

import numpy as np

from pynode.fields import run
from pynode.fit.coordinates import Coordinates

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
