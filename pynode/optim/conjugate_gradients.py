"""Preconditioned conjugate gradients."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FORCING = 0.05
"""They end once the residual, in the norm of the preconditioner, is this part of the right-hand side."""


def conjugate_gradients(
    product: Callable[[Array], Array],
    b: Array,
    precondition: Callable[[Array], Array],
    forcing: float = FORCING,
    most: int = 40,
) -> tuple[Array, int]:
    """(x, iterations) with A x close to b, for a positive definite A given by its products.

    Nocedal & Wright 2006, algorithm 5.3.

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
    n = 0
    while n < most and rz > forcing**2 * first:
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
        p = z + rz / before * p
        n += 1
    return x, n
