"""Preconditioned conjugate gradients, and what they tell of the matrix on the way."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal

Array = NDArray[np.float64]

FORCING = 0.05
"""They end once the residual, in the norm of the preconditioner, is this part of the right-hand side."""


def conjugate_gradients(
    product: Callable[[Array], Array],
    b: Array,
    precondition: Callable[[Array], Array],
    forcing: float = FORCING,
    most: int = 40,
) -> tuple[Array, int, float]:
    """(x, iterations, logarithm) with A x close to b, for a positive definite A given by its products.

    Nocedal & Wright 2006, algorithm 5.3. Their steps are those of Lanczos' method on M^-1/2 A M^-1/2 from M^-1/2 b; of its
    logarithm they give the quadratic form b^T M^-1/2 log(M^-1/2 A M^-1/2) M^-1/2 b (Golub & Meurant 2010, ch. 6).

    Parameters
    ----------
    product : callable
        v -> A v.
    b : (n,) array
        The right-hand side.
    precondition : callable
        r -> M^-1 r for a positive definite M near A.
    forcing : float
        Ends once r^T M^-1 r of the residual r is this part, squared, of that of b.
    most : int
        The most iterations.
    """
    x = np.zeros_like(b)
    r = b.copy()
    z = precondition(r)
    p = z
    rz = float(r @ z)
    first = rz
    steps: list[float] = []
    turns: list[float] = []
    while len(steps) < most and rz > forcing**2 * first:
        Ap = product(p)
        bend = float(p @ Ap)
        if not bend > 0:  # rounding
            break
        a = rz / bend
        x = x + a * p
        r = r - a * Ap
        z = precondition(r)
        before = rz
        rz = float(r @ z)
        steps.append(a)
        turns.append(rz / before)
        p = z + turns[-1] * p
    return x, len(steps), first * _logarithm(np.array(steps), np.array(turns))


def _logarithm(a: Array, b: Array) -> float:
    """e_1^T log(T) e_1 of the tridiagonal matrix T that steps a and turns b of conjugate gradients imply."""
    if not len(a):
        return 0.0
    diagonal = 1.0 / a
    diagonal[1:] += b[:-1] / a[:-1]
    w, V = eigh_tridiagonal(diagonal, np.sqrt(b[:-1]) / a[:-1])
    return float((V[0] ** 2 * np.log(np.maximum(w, 1e-300))).sum())
