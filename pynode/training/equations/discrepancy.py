"""What a right-hand side may lack: a smooth random function of the states and inputs beside the equation that was found.

dy/dt = f(y) + g(y), where g is, for each state by itself, a Gaussian process of mean 0 whose values are alike within a
length (the discrepancy of Kennedy and O'Hagan 2001, doi:10.1111/1467-9868.00294). Here it is a sum of bumps along the data,

    g(x) = sum_k w_k exp(-|x - c_k|^2 / 2 l^2),

x in standard deviations and the w_k independent: linear in its coefficients, as an equation is in those of its terms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import evenly
from pynode.fields.field import Field
from pynode.fields.make import field as traced
from pynode.training.windows import Data

Array = NDArray[np.float64]

LENGTH = 0.3
"""The length for two variables, in standard deviations of the data; for n variables it is sqrt(n / 2) times as long."""

CLOSE = 0.7
"""The furthest a state is from the centre of a bump, in lengths ..."""

MOST = (100, 240)
"""... but there are no more bumps than this, for a state and for all of them together."""

COMPARED = 1500
"""Rows of the data that may be centres."""


@dataclass(frozen=True)
class Bumps:
    """Bumps along the data.

    Attributes
    ----------
    middle, scale : (n,) arrays
        Mean and standard deviation of states and inputs.
    centres : (K, n) array
        In these standard deviations.
    length : float
        The same.
    size : float
        Root mean square of the sum of all, where their coefficients are independent and of variance 1.
    """

    middle: Array
    scale: Array
    centres: Array
    length: float
    size: float

    @classmethod
    def along(cls, data: Data, states: Sequence[Array], rows: int) -> Self:
        """Bumps along trajectories (T_i, d) and the inputs of the data, for the derivatives of so many states."""
        y = np.concatenate(list(states))
        u = data.inputs_at_rows()
        x = y if u is None else np.concatenate([y, u], axis=1)
        spread = x.std(axis=0)
        scale = np.where(spread > 0, spread, 1.0)
        middle = x.mean(axis=0)
        z = ((x - middle) / scale)[evenly(len(x), COMPARED)]
        length = float(LENGTH * np.sqrt(x.shape[1] / 2))
        centres = _spread_out(z, CLOSE * length, min(MOST[0], MOST[1] // rows))
        squares = ((z[:, None] - centres) ** 2).sum(axis=-1)
        return cls(middle, scale, centres, length, float(np.sqrt(np.exp(-squares / length**2).sum(axis=1).mean())))

    def beside(self, base: Field, rows: Sequence[int]) -> Field:
        """The field with bumps in the derivatives of some states; their coefficients (rows, K) follow its parameters."""
        centres = self.centres / self.length
        squares = 0.5 * (centres**2).sum(axis=1)
        where = np.eye(base.d)[:, list(rows)]

        def slopes(t: Any, y: Any, th: Any, *u: Any) -> Any:
            x = (np.concatenate([y, *u]) - self.middle) / (self.scale * self.length)
            heights = np.exp(centres @ x - 0.5 * np.sum(x * x) - squares)
            return th.base(t, y, *u) + where @ (th.bumps @ heights)

        theta = {"base": base, "bumps": np.zeros((len(rows), len(centres)))}
        if base.inputs:
            made = traced(base.d, theta, inputs=base.inputs, name=base.name)
            return made(lambda t, y, th, u: slopes(t, y, th, u))
        return traced(base.d, theta, name=base.name)(lambda t, y, th: slopes(t, y, th))


def _spread_out(z: Array, radius: float, most: int) -> Array:
    """Some of the rows z, at most so many, such that none is further than the radius from one of them, if that can be.

    Each is the furthest from those before it (Gonzalez 1985, doi:10.1016/0304-3975(85)90224-5).
    """
    chosen = [int(np.argmin((z**2).sum(axis=1)))]
    far = ((z - z[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < most and far.max() > radius**2:
        chosen.append(int(np.argmax(far)))
        far = np.minimum(far, ((z - z[chosen[-1]]) ** 2).sum(axis=1))
    return z[chosen]
