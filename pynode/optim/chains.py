"""Normal equations of shared coordinates and of free states in chains: each is coupled to the one after it in its chain.

The matrix of the free states is block-tridiagonal, so that eliminating them takes time in proportion to their number
(Rauch, Tung, Striebel 1965 in the language of least squares; Bell 1994, SIAM J. Optim. 4, 626).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky_banded, solveh_banded

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ChainedStates:
    """What `pynode.optim.normal_equations.FreeStates` is for states that are not coupled.

    Attributes
    ----------
    H : (n, n) array
        J^T J of the shared coordinates.
    g : (n,) array
        J^T r of the shared coordinates.
    coupling : (N, d, n) array
        J^T J between the free states and the shared coordinates.
    precision : (N, d, d) array
        J^T J of each free state.
    following : (N, d, d) array
        J^T J between a free state (rows) and the one after it (columns); 0 where a chain ends.
    gradient : (N, d) array
        J^T r of the free states.
    """

    H: Array
    g: Array
    coupling: Array
    precision: Array
    following: Array
    gradient: Array

    room: Any = None
    """Steps of the free states are not limited."""

    def eliminated(self, damping: float = 0.0) -> tuple[Array, Array, Array, Array]:
        """(H, g, gain (N, d, n), shift (N, d)): the best step of the free states is -(shift + gain step).

        Raises
        ------
        numpy.linalg.LinAlgError
            The free states are not determined.
        """
        N, d, n = self.coupling.shape
        rows = self.coupling.reshape(N * d, n)
        right = np.concatenate([rows, self.gradient.reshape(-1, 1)], axis=1)
        found = solveh_banded(self.band(damping), right, overwrite_ab=True, overwrite_b=True, check_finite=False)
        gain, shift = found[:, :n], found[:, n]
        return self.H - rows.T @ gain, self.g - rows.T @ shift, gain.reshape(N, d, n), shift.reshape(N, d)

    def band(self, damping: float = 0.0) -> Array:
        """(2 d, N d) the matrix of the free states in LAPACK's upper banded form."""
        N, d = self.gradient.shape
        band = np.zeros((2 * d, N, d))
        for i in range(d):
            for j in range(i, d):
                band[2 * d - 1 + i - j, :, j] = self.precision[:, i, j]
            band[2 * d - 1, :, i] *= 1 + damping
            for j in range(d):  # rows of a state, columns of the next one
                band[d - 1 + i - j, 1:, j] = self.following[:-1, i, j]
        return band.reshape(2 * d, N * d)

    def log_determinant(self) -> float:
        """Of the matrix of the free states."""
        return float(2 * np.log(cholesky_banded(self.band(), check_finite=False)[-1]).sum())

    def with_more(self, H: Array, g: Array) -> "ChainedStates":
        """The equations with more residuals, of the shared coordinates alone: their J^T J and J^T r."""
        return replace(self, H=self.H + H, g=self.g + g)

    def change(self, step: Array, free: Array) -> float:
        """The change of E that the linearised residuals promise for a step (n,), and one of the free states (N, d)."""
        slope = self.g @ step + (self.gradient * free).sum()
        bend = step @ (self.H @ step) + 2 * ((self.coupling @ step) * free).sum()
        own = np.einsum("bi,bij,bj", free, self.precision, free)
        next_one = np.einsum("bi,bij,bj", free[:-1], self.following[:-1], free[1:])
        return float(2 * slope + bend + own + 2 * next_one)

    def holding(self, held: NDArray[np.bool_], step: Array) -> "ChainedStates":
        """The equations where some free states take a given step; nothing is ever held, see `room`."""
        if held.any():
            raise ValueError("steps of free states in chains are not limited")
        return replace(self)

    def covariances(self) -> tuple[Array, Array]:
        """(N, d, d) covariances of each free state, and (N, d, d) between it (rows) and the one after it, x given.

        Raises
        ------
        numpy.linalg.LinAlgError
            The free states are not determined.
        """
        N, d = self.gradient.shape
        forward = np.empty((N, d, d))
        pull = np.zeros((N, d, d))
        left = self.precision[0]
        for k in range(N):
            if k:
                left = self.precision[k] - self.following[k - 1].T @ pull[k - 1]
            forward[k] = np.linalg.inv(left)
            pull[k] = forward[k] @ self.following[k]
        spread = np.empty((N, d, d))
        between = np.zeros((N, d, d))
        spread[-1] = forward[-1]
        for k in range(N - 2, -1, -1):
            between[k] = -pull[k] @ spread[k + 1]
            spread[k] = forward[k] - between[k] @ pull[k].T
        return spread, between
