"""What second order is fit for, and how it begins: sizes of fields and of data, and the parameters that share a prior."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pynode.fields.field import Field
from pynode.fields.parameters import Parameter
from pynode.fields.states import limits
from pynode.training.windows import Data

MAX_PARAMETERS = 3000
"""The most parameters ..."""

MAX_STATES = 50
"""... and states with which second order is the better choice. Above these it is L-BFGS."""

MAX_LIMITED = (1500, 20)
"""The same where parameters or states have limits: a step then needs all of J^T J, which costs O(n p^2)."""

MANY_STATES = 6
"""From so many states on each weight of a network has a prior of its own ..."""

EACH = 10
"""... where there are so many observed numbers for each parameter: of few data it takes signal for noise."""

ENOUGH = 60
"""How many observed numbers for each parameter training starts with, where there are many more."""


def is_small(field: Field) -> bool:
    """Whether second order is the better choice for a field."""
    limited = limits(field) is not None or any(p.constraint[0] in ("positive", "bounded") for p in field.spec)
    n_params, d = MAX_LIMITED if limited else (MAX_PARAMETERS, MAX_STATES)
    return field.n_params <= n_params and field.d <= d and not field.callbacks


def part_of(data: Data, n_params: int) -> int | None:
    """How many trajectories are enough to start with, or None for all."""
    n = int(np.ceil(ENOUGH * n_params / max(data.n_observed / len(data), 1)))
    n = max(n, 32)
    return n if 4 * n <= len(data) else None


def prior_groups(field: Field) -> list[NDArray[np.intp]]:
    """Groups of parameters that share a prior: each array of a network. Parameters with given initial values have none."""
    shapes = {p.name: p.shape for p in field.spec}
    return [np.arange(p.offset, p.stop) for p in field.spec if _of_network(p, shapes)]


def groups_of(field: Field, n_observed: int) -> list[NDArray[np.intp]]:
    """Groups of parameters that share a prior, for so many numbers to fit to.

    Of many states, each is driven by few others: where the data are many, every weight of their network is a group by
    itself, and the prior of one that they do not ask for grows strong (automatic relevance determination: MacKay 1994, Neal
    1996). Of more than MAX_PARAMETERS variances are not known one by one. Else each array is a group.
    """
    groups = prior_groups(field)
    sparse = field.d >= MANY_STATES and field.n_params <= MAX_PARAMETERS and n_observed >= EACH * field.n_params
    return [np.array([i]) for group in groups for i in group] if sparse else groups


def _of_network(p: Parameter, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a parameter is drawn at random, or is the bias of a layer of `pynode.mlp`; shapes: of all, by their names."""
    folder, dot, leaf = p.name.rpartition(".")
    matrix = shapes.get(f"{folder}{dot}W{leaf[1:]}", ())
    bias = leaf[:1] == "b" and leaf[1:].isdigit() and len(matrix) == 2 and p.shape == matrix[:1]
    return bias or p.init[0] == "normal"
