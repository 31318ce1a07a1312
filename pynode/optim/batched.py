"""Levenberg-Marquardt for many small problems side by side, each as if it were alone.

Levenberg 1944, doi:10.1090/qam/10666; Marquardt 1963, doi:10.1137/0111030.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Evaluate = Callable[[Array], tuple[Array, Array, Array]]
"""x (n, k) -> (values (n,), gradients (n, k), Gauss-Newton matrices (n, k, k))."""

FIRST_DAMPING = 1e-3

MOST_DAMPING = 1e8
"""A problem ends when its damping has grown beyond this: no step makes its value smaller."""

LEAST_DAMPING = 1e-12


@dataclass(frozen=True)
class Minima:
    """Where n problems ended.

    Attributes
    ----------
    x : (n, k) array
        The best points found; where the value at the start is not finite, the start.
    value : (n,) array
        Infinite where the start could not be evaluated.
    matrix : (n, k, k) array
        Gauss-Newton matrices at x; the identity where the start could not be evaluated.
    """

    x: Array
    value: Array
    matrix: Array

    @property
    def failed(self) -> NDArray[np.bool_]:
        """(n,) which problems could not be evaluated at their start."""
        return ~np.isfinite(self.value)


def minimise_each(
    evaluate: Evaluate,
    x0: Array,
    *,
    max_iter: int = 50,
    tol: float = 1e-10,
    longest: float = np.inf,
    least_curvature: float = 0.0,
    factor: float = 5.0,
    room: Callable[[Array], tuple[Array, Array] | None] | None = None,
) -> Minima:
    """Minimise n small problems of nonlinear least squares side by side.

    The problems share the calls of `evaluate` and nothing else. Each has its own damping and ends by itself, so that its
    result does not depend on the others.

    Parameters
    ----------
    evaluate : callable
        x (n, k) -> (values (n,), gradients (n, k), matrices (n, k, k)). A value is half a sum of squares; its matrix is
        J^T J, or an approximation of the Hessian in its place. Where a value is not finite the problem cannot be evaluated,
        and the step is not taken.
    x0 : (n, k) array
        Where to start.
    max_iter : int
        The most calls of `evaluate` after the first.
    tol : float
        A problem ends when a step lowers its value by less than this fraction.
    longest : float
        Longer steps are shortened to this Euclidean norm.
    least_curvature : float
        Coordinates are damped in proportion to their curvature (the diagonal of the matrix), or to this where it is larger,
        so that coordinates which the data hardly determine stay near their start.
    factor : float
        The damping is divided by it after a step that was taken, and multiplied by it after one that was not.
    room : callable, optional
        x (n, k) -> the lowest and the highest step (n, k) from there, or None for no limits.

    Returns
    -------
    Minima

    Examples
    --------
    >>> import numpy as np
    >>> def evaluate(x):  # (exp(x) - target)^2 / 2
    ...     e = np.exp(x)
    ...     r = e - np.array([[1.0], [2.0], [3.0]])
    ...     return 0.5 * (r * r)[:, 0], e * r, (e * e)[:, :, None]
    >>> minimise_each(evaluate, np.zeros((3, 1))).x.round(3).ravel().tolist()
    [0.0, 0.693, 1.099]
    """
    x = np.array(x0, dtype=np.float64)
    n, k = x.shape
    value, gradient, matrix = evaluate(x)
    going = np.isfinite(value)
    value = np.where(going, value, np.inf)
    gradient = np.where(going[:, None], gradient, 0.0)
    matrix = np.where(going[:, None, None], matrix, np.eye(k))
    damping = np.full(n, FIRST_DAMPING)
    for _ in range(max_iter):
        if not going.any():
            break
        step = _steps(matrix, gradient, damping, least_curvature)
        if np.isfinite(longest):
            step *= np.minimum(1.0, longest / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-300))
        limits = None if room is None else room(x)
        if limits is not None:
            step = np.clip(step, *limits)
        new_value, new_gradient, new_matrix = evaluate(x + step)
        better = going & (new_value < value)  # False where it is NaN
        small = better & (new_value > (1 - tol) * value)
        x[better] += step[better]
        value = np.where(better, new_value, value)
        gradient[better], matrix[better] = new_gradient[better], new_matrix[better]
        damping = np.where(better, np.maximum(damping / factor, LEAST_DAMPING), damping * factor)
        going &= ~small & (damping <= MOST_DAMPING)
    return Minima(x, value, matrix)


def _steps(matrix: Array, gradient: Array, damping: Array, least_curvature: float) -> Array:
    """(n, k) solutions of (matrix + damping D) step = -gradient, D the diagonal of the matrix."""
    k = matrix.shape[1]
    diagonal = matrix[:, range(k), range(k)]
    # a coordinate that no data determine has neither curvature nor gradient: any positive number will do
    least = np.maximum(1e-12 * diagonal.max(axis=1, keepdims=True, initial=0.0), max(least_curvature, 1e-300))
    damped = matrix.copy()
    damped[:, range(k), range(k)] += damping[:, None] * np.maximum(diagonal, least)
    step = np.linalg.solve(damped, gradient[:, :, None])[:, :, 0]
    return np.asarray(-step, dtype=np.float64)
