"""Which rows of an equation say that a state is the derivative of another."""

import numpy as np
import pytest

from pynode.training.equations.terms import Term
from pynode.training.equations.velocities import velocities

NONE = (0, 0)
V = Term((0, 1), "", NONE)
X = Term((1, 0), "", NONE)
SQUARE = Term((0, 2), "", NONE)


@pytest.mark.parametrize(
    "c, s, exact",
    [
        (1.0007, 0.001, True),
        (1.001, 0.0001, False),  # ten deviations away
        (0.98, 0.02, True),
        (1.2, 0.1, False),  # as likely as not, and not assumed
        (-1.0, 0.001, False),
        (1.0, 0.0, False),  # no deviation is known
        (1.0, np.nan, False),
    ],
)
def test_one_is_taken_where_the_data_prefer_it(c, s, exact):
    found = velocities([[V], [X, V]], np.array([c, -1.0, -0.1]), np.array([s, 0.01, 0.01]))
    assert found == ({0: (c, s)} if exact else {})


def test_only_another_state_by_itself_is_a_velocity():
    near = np.array([1.0, 1.0, 1.0])
    small = np.full(3, 1e-3)
    assert velocities([[X], [X, V]], near, small) == {}  # its own growth
    assert velocities([[SQUARE], [X, V]], near, small) == {}
    assert velocities([[V, X], [X]], near, small) == {1: (1.0, 1e-3)}


def test_something_is_left_to_be_fitted():
    assert velocities([[V], [X]], np.ones(2), np.full(2, 1e-3)) == {}
