"""Where in the space of states the data are, and where they never were."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import evenly
from pynode.data.scaling import STILL

Array = NDArray[np.float64]

REFERENCES = 2000
"""The most states that distances are measured to."""

ROWS = 500
"""How many states are compared with them at once."""

NEAR = 0.3
"""Within this distance of the data, in standard deviations of the states, a field is known about as well as on them."""

THIN = 1e-3
"""Standard deviation, in those of single states, of a direction in which the data do not go ..."""

OFF = 0.05
"""... and how far from them in it a state is another."""


@dataclass(frozen=True)
class Support:
    """The states that trajectories went through.

    Attributes
    ----------
    points : (m, d) array
        Some of them.
    scale : (d,) array
        Standard deviations of the states; 1 for one that never changes.
    still : (d,) bool array
        States that never change.
    flat : (k, d) array
        Directions in which the others, in standard deviations, never go.
    """

    points: Array
    scale: Array
    still: NDArray[np.bool_]
    flat: Array

    @classmethod
    def of(cls, states: Sequence[Array]) -> Self:
        """The support of trajectories (T_i, d); rows with gaps are left out."""
        x = np.concatenate(states)
        x = x[np.isfinite(x).all(axis=1)]
        size = np.abs(x).max(axis=0, initial=0.0)
        std = x.std(axis=0) if len(x) else np.zeros(x.shape[1])
        still = std <= STILL * np.where(size > 0, size, 1.0)
        points = x[evenly(len(x), REFERENCES)] if len(x) else x
        scale = np.where(still, 1.0, std)
        flat = np.zeros((0, x.shape[1]))
        if len(x) > x.shape[1]:
            values, axes = np.linalg.eigh(np.cov((x / scale).T).reshape(len(scale), -1) + np.diag(still.astype(float)))
            flat = axes.T[values < THIN**2]
        return cls(points, scale, still, flat)

    def distance(self, states: Array) -> Array:
        """(n,) distances of states (n, d) from the nearest point, in standard deviations of the states that vary."""
        moving = ~self.still
        if not len(self.points) or not moving.any():
            return np.zeros(len(states))
        reference = (self.points / self.scale)[:, moving]
        asked = (states / self.scale)[:, moving]
        squares = (reference**2).sum(axis=1)
        found = []
        for part in np.array_split(asked, max(1, -(-len(asked) // ROWS))):
            found.append((squares - 2 * part @ reference.T).min(axis=1) + (part**2).sum(axis=1))
        return np.asarray(np.sqrt(np.maximum(np.concatenate(found), 0.0)))

    def strangeness(self, states: Array) -> Array:
        """(n,) from 0 on the data to 1 far from them, after the kernel exp(-distance^2 / 2) with length NEAR."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(1 - np.exp(-0.5 * (self.distance(states) / NEAR) ** 2))

    def never(self, states: Array) -> NDArray[np.bool_]:
        """(n,) whether states are off the data in a direction in which those never go."""
        found = np.zeros(len(states), bool)
        if len(self.points) and self.still.any():
            at = self.points[0, self.still]
            size = np.maximum(np.abs(at), np.abs(states[:, self.still]))
            found |= (np.abs(states[:, self.still] - at) > 1e-3 * np.where(size > 0, size, 1.0)).any(axis=1)
        if len(self.points) and len(self.flat):
            off = (states - self.points.mean(axis=0)) / self.scale
            found |= (np.abs(off @ self.flat.T) > OFF).any(axis=1)
        return found
