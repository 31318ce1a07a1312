"""Nonlinear least squares as Levenberg-Marquardt sees it: a problem with a loss, linearised to its normal equations."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyrk, ssyrk

Array = NDArray[np.float64]

ROUNDING = 1e-12
"""The part of a curvature that may be rounding once free states are eliminated."""

LARGE = 600
"""From this size of matrix on, BLAS may use as many threads as it wants."""


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def small_matrices(size: int) -> AbstractContextManager[object]:
    """A context in which BLAS works on matrices of this size with as many threads as pay off."""
    limited: AbstractContextManager[object] = _controller().limit(limits=1 if size < LARGE else None, user_api="blas")
    return limited


class OneThread:
    """A context in which BLAS has one thread, so that sums have the same bits everywhere; threads may be in it at once."""

    lock = Lock()
    inside = 0
    limited: Any = None

    def __enter__(self) -> None:
        with OneThread.lock:
            if OneThread.inside == 0:
                OneThread.limited = _controller().limit(limits=1, user_api="blas")
                OneThread.limited.__enter__()
            OneThread.inside += 1

    def __exit__(self, *error: object) -> None:
        with OneThread.lock:
            OneThread.inside -= 1
            if OneThread.inside == 0:
                OneThread.limited.__exit__(None, None, None)


@dataclass(frozen=True)
class FreeStates:
    """The normal equations of shared coordinates and of free states, none of them eliminated yet.

    Attributes
    ----------
    H : (n, n) array
        J^T J of the shared coordinates.
    g : (n,) array
        J^T r of the shared coordinates.
    coupling : (B, d, n) array
        J^T J between the free states and the shared coordinates.
    precision : (B, d, d) array
        J^T J of the free states.
    gradient : (B, d) array
        J^T r of the free states.
    room : ((B, d), (B, d)) arrays or None
        The lowest and the highest step of the free states; None: they are not limited.
    """

    H: Array
    g: Array
    coupling: Array
    precision: Array
    gradient: Array
    room: tuple[Array, Array] | None = None

    def eliminated(self, damping: float = 0.0) -> tuple[Array, Array, Array, Array]:
        """(H, g, gain (B, d, n), shift (B, d)): the best step of the free states is -(shift + gain step).

        They are damped as shared coordinates are: in proportion to their curvature. Undamped, a state that the data hardly
        determine takes steps beyond where the equations are linear.

        Raises
        ------
        numpy.linalg.LinAlgError
            The precision of a free state is singular.
        """
        B, d, n = self.coupling.shape
        precision = self.precision
        if damping:
            precision = precision.copy()
            precision[:, range(d), range(d)] *= 1 + damping
        gain: Array = np.asarray(np.linalg.solve(precision, self.coupling), dtype=np.float64)
        shift: Array = np.asarray(np.linalg.solve(precision, self.gradient[:, :, None])[:, :, 0], dtype=np.float64)
        rows = self.coupling.reshape(B * d, n).T
        return self.H - rows @ gain.reshape(B * d, n), self.g - rows @ shift.ravel(), gain, shift

    def covariances(self) -> tuple[Array, None]:
        """((B, d, d) covariances of the free states, the shared coordinates given, for a noise of 1; None)."""
        return np.asarray(np.linalg.inv(self.precision), dtype=np.float64), None

    def holding(self, held: NDArray[np.bool_], step: Array) -> "FreeStates":
        """The equations of the rest where some free states, held (B, d), take a given step (B, d)."""
        d = held.shape[1]
        fixed = np.where(held, step, 0.0)
        precision = np.where(held[:, :, None] | held[:, None, :], 0.0, self.precision)
        precision[:, range(d), range(d)] += held
        gradient = self.gradient + np.einsum("bij,bj->bi", self.precision, fixed)
        return replace(
            self,
            g=self.g + np.einsum("bin,bi->n", self.coupling, fixed),
            coupling=np.where(held[:, :, None], 0.0, self.coupling),
            precision=precision,
            gradient=np.where(held, -fixed, gradient),
        )

    def with_more(self, H: Array, g: Array) -> "FreeStates":
        """The equations with more residuals, of the shared coordinates alone: their J^T J and J^T r."""
        return replace(self, H=self.H + H, g=self.g + g)

    def change(self, step: Array, free: Array) -> float:
        """The change of E that the linearised residuals promise for a step (n,), and one of the free states (B, d)."""
        slope = self.g @ step + (self.gradient * free).sum()
        bend = step @ (self.H @ step) + 2 * ((self.coupling @ step) * free).sum()
        return float(2 * slope + bend + np.einsum("bi,bij,bj", free, self.precision, free))


class Free(Protocol):
    """What eliminates free states: `FreeStates`, or `pynode.optim.chains.ChainedStates`; see there."""

    @property
    def H(self) -> Array: ...
    @property
    def gradient(self) -> Array: ...
    @property
    def room(self) -> tuple[Array, Array] | None: ...
    def eliminated(self, damping: float = 0.0, /) -> tuple[Array, Array, Array, Array]: ...
    def covariances(self) -> tuple[Array, Array | None]: ...
    def holding(self, held: NDArray[np.bool_], step: Array, /) -> "Free": ...
    def with_more(self, H: Array, g: Array, /) -> "Free": ...
    def change(self, step: Array, free: Array, /) -> float: ...


@dataclass(frozen=True)
class Linearised:
    """Normal equations at a point, for the weighted sum of squares E = sum (w r)^2.

    Attributes
    ----------
    loss : float
        E.
    H : (n, n) array
        J^T J of the shared coordinates, with the free states eliminated.
    g : (n,) array
        J^T r of the shared coordinates, with the free states eliminated.
    free : FreeStates, ChainedStates (`pynode.optim.chains`) or None
        The same with the free states in it; None where there are none.
    free_gain : (B, d, n) array or None
        How the best free states follow x: d free = -free_gain d x.
    """

    loss: float
    H: Array
    g: Array
    free: Free | None = None
    free_gain: Array | None = None

    @classmethod
    def of_free(cls, loss: float, free: "Free") -> "Linearised":
        """With the free states eliminated.

        Raises
        ------
        numpy.linalg.LinAlgError
            The precision of a free state is singular.
        """
        H, g, gain, _ = free.eliminated()
        return cls(loss, H, g, free, gain)


class Problem(Protocol):
    """Nonlinear least squares in x (n,), and perhaps in free states (B, d), one for each of B trajectories.

    `free` is (B, d), or None for a problem without free states.

    Attributes
    ----------
    n_observed : int
        Residuals that count.
    n_free : int
        Numbers in the free states.
    nfe : int
        Evaluations of a field so far; 0 where nothing is solved.
    """

    n_observed: int
    n_free: int
    nfe: int

    def loss(self, x: Array, free: Any, /) -> float:
        """The weighted sum of squares; infinite where it cannot be computed."""
        ...

    def linearise(self, x: Array, free: Any, /) -> Linearised | None:
        """The normal equations; None where they cannot be computed."""
        ...


def gram(J: Array) -> Array:
    """J^T J, with half the work of a product."""
    lower: Array = dsyrk(1.0, np.ascontiguousarray(J).T, lower=1)
    return lower + np.tril(lower, -1).T


def column_sizes(J: Array) -> Array:
    """(n,) the Euclidean norms of the columns of J (..., n)."""
    rows = J.reshape(int(np.prod(J.shape[:-1])), J.shape[-1])
    return np.asarray(np.sqrt(np.einsum("ij,ij->j", rows, rows)), dtype=np.float64)


def in_single(J: Array, size: Array) -> NDArray[np.float32]:
    """J (..., n) over the sizes (n,) of its columns, in single precision."""
    inverse = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    out = np.empty(J.shape, np.float32)
    np.multiply(J, inverse, out=out, casting="same_kind")
    return out


def single_gram(J: NDArray[np.float32], size: Array) -> Array:
    """J^T J of what `in_single` gave for J, in the units that J had: half the time of `gram`, entries exact to 1e-7."""
    rows = J.reshape(int(np.prod(J.shape[:-1])), len(size))
    lower = np.asarray(ssyrk(1.0, rows.T, lower=1), dtype=np.float64) if rows.size else np.zeros((len(size), len(size)))
    lower *= size
    lower *= size[:, None]
    return lower + np.tril(lower, -1).T


def own_scale(curvature: Array, whole: Array) -> Array:
    """What damping of each coordinate is measured by: its own curvature, whatever its units.

    Of rates from 1e-2 to 1e7 curvatures are 1e18 apart. Without influence a coordinate has no gradient, and any number does.

    Parameters
    ----------
    curvature, whole : (n,) arrays
        Curvatures with, and without, free states eliminated.
    """
    without = ROUNDING * curvature.max(initial=0.0)
    return np.where(whole > 0, np.maximum(curvature, ROUNDING * whole), without)


def limited_step(M: Array, gradient: Array, longest: Array | None) -> Array:
    """-M^-1 gradient; coordinates whose step would be longer than allowed go as far as they may, the others with them."""
    step = np.asarray(-cho_solve(cho_factor(M, lower=True, check_finite=False), gradient), dtype=np.float64)
    if longest is None:
        return step
    held = np.zeros(len(step), bool)
    while True:
        over = ~held & (np.abs(step) > longest)
        if not over.any():
            return step
        held |= over
        step[over] = np.copysign(longest[over], step[over])
        rest = ~held
        if rest.any():
            pull = gradient[rest] + M[np.ix_(rest, held)] @ step[held]
            step[rest] = -cho_solve(cho_factor(M[np.ix_(rest, rest)], lower=True, check_finite=False), pull)


class Residuals:
    """A problem given by a user's function(theta) -> (r (n,), J (n, p)); it has no free states."""

    n_free = 0

    def __init__(self, function: Callable[[Array], Any], theta: Array) -> None:
        self.function = function
        self.nfe = 0
        r, J = self._at(np.asarray(theta, dtype=np.float64))
        if r.ndim != 1 or J.shape != (len(r), len(theta)):
            raise ValueError(f"residuals(theta) must give r (n,) and J (n, {len(theta)}), got {r.shape} and {J.shape}")
        if not (np.isfinite(r).all() and np.isfinite(J).all()):
            raise ValueError("the residuals or their Jacobian are not finite at theta0: start elsewhere")
        self.n_observed = len(r)

    def _at(self, theta: Array) -> tuple[Array, Array]:
        r, J = self.function(theta)
        return np.asarray(r, dtype=np.float64), np.asarray(J, dtype=np.float64)

    def loss(self, theta: Array, free: None = None) -> float:
        """The sum of squares; infinite where it is not finite."""
        r, _ = self._at(theta)
        loss = float(r @ r)
        return loss if np.isfinite(loss) else np.inf

    def linearise(self, theta: Array, free: None = None) -> Linearised | None:
        """The normal equations; None where residuals or Jacobian are not finite."""
        r, J = self._at(theta)
        if not (np.isfinite(r).all() and np.isfinite(J).all()):
            return None
        return Linearised(float(r @ r), gram(J), J.T @ r)
