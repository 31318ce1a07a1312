"""Rows of an equation that say that one state is the time derivative of another, dx/dt = v: nothing to be estimated.

A coefficient of 0.9993 +- 0.0009 is one. Left free, it makes amplitudes and periods uncertain that the data know well.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pynode.training.equations.terms import Term

Array = NDArray[np.float64]

ODDS = np.log(4.0)
"""-log of the prior odds that a coefficient near 1 of another state alone is 1."""


def velocities(terms: Sequence[Sequence[Term]], theta: Array, deviation: Array) -> dict[int, tuple[float, float]]:
    """The states whose derivative is another state, with the coefficient that was found and its standard deviation.

    Exactly one is compared with any coefficient of order one by their evidence: the Gaussian posterior at 1 over a Gaussian
    prior of unit deviation there (Savage-Dickey; Dickey 1971, doi:10.1214/aoms/1177693507).

    Parameters
    ----------
    terms : sequence of sequences of Term
        Of each state.
    theta : (p,) array
        Their coefficients.
    deviation : (p,) array
        Standard deviations of these.
    """
    found = {}
    k = 0
    for i, row in enumerate(terms):
        if len(row) == 1 and _is_another_state(row[0], i, len(terms)) and deviation[k] > 0:
            c, s = float(theta[k]), float(deviation[k])
            if 0.5 - np.log(s) - 0.5 * ((c - 1.0) / s) ** 2 > ODDS:
                found[i] = (c, s)
        k += len(row)
    if sum(len(row) for i, row in enumerate(terms) if i not in found) == 0:
        return {}  # something is left to be fitted
    return found


def _is_another_state(term: Term, i: int, d: int) -> bool:
    return term.degree == 1 and not term.function and any(term.powers[j] for j in range(d) if j != i)
