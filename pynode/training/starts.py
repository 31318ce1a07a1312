"""Starts for a field: its own values first, then draws over the ranges that its parameters were declared with."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from pynode.fields.constraints import by_size
from pynode.fields.field import Field
from pynode.fields.parameters import Parameter
from pynode.training.sizes import prior_groups

Array = NDArray[np.float64]

DECADES = (1.0, 2.0)
"""Within how many powers of ten of its value a positive parameter is drawn, in turn."""

SPREADS = (1.0, 3.0)
"""By how many times its size (1 where it is 0) a parameter without constraint is drawn from its value, in turn."""


def drawn(field: Field, n: int, random_state: int) -> Array:
    """n starts: the field's own values, then draws that cover the declared ranges evenly.

    Bounded parameters are drawn uniformly, by size where the bounds are positive and more than a decade apart; positive ones
    by size; others around their value. Networks are drawn as they always are; frozen parameters stay.

    Parameters
    ----------
    field : Field
        With p parameters.
    n : int
        How many starts.
    random_state : int
        Seed; other seeds, other draws.

    Returns
    -------
    (n, p) array
    """
    theta = np.stack([field.init(random_state + k) for k in range(n)])
    if n == 1:
        return theta
    rng = np.random.default_rng([random_state, 3])
    strata = np.stack([rng.permutation(n - 1) for _ in range(field.n_params)], axis=1) if field.n_params else theta[1:]
    places = (strata + rng.uniform(0.0, 1.0, strata.shape)) / (n - 1)
    network = np.concatenate([np.empty(0, np.intp), *prior_groups(field)])
    for parameter in field.spec:
        at = slice(parameter.offset, parameter.stop)
        if parameter.init[0] != "value" or parameter.offset in network:
            continue
        for k in range(1, n):
            theta[k, at] = _placed(parameter, theta[0, at], places[k - 1, at], (k - 1) % 2)
    return theta


def _placed(parameter: Parameter, start: Array, place: Array, turn: int) -> Array:
    """Values of a parameter at these places, from 0 to 1, of its range."""
    kind, *bounds = parameter.constraint
    if kind == "frozen":
        return start
    if kind == "positive":
        return np.asarray(start * 10 ** (DECADES[turn] * (2 * place - 1)))
    if kind == "bounded":
        low, high = bounds
        return np.asarray(low * (high / low) ** place if by_size(low, high) else low + (high - low) * place)
    size = np.where(start != 0, np.abs(start), 1.0)
    return np.asarray(start + SPREADS[turn] * size * ndtri(place))
