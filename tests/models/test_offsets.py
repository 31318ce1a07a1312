"""States far from zero beside what they change by: metres on a map."""

import numpy as np

import pynode as pn
from pynode.models.trajectories.equations.unvisited import unvisited

ON_A_MAP = [4.5e5, 5.2e6, 0.0, 0.0]


def spring(seed):
    """(times, noisy positions and velocities) of a mass that springs in two directions."""
    field = pn.field(state=4)(lambda t, y: [y[2], y[3], -0.3 * y[0] - 0.1 * y[2], -0.5 * y[1] - 0.1 * y[3]])
    t = np.linspace(0, 15, 80)
    y = pn.solve(field, [8.0, -5.0, 0.0, 3.0], t).y
    return t, y + 0.05 * np.random.default_rng(seed).standard_normal(y.shape) + ON_A_MAP


def test_terms_that_bend_alike_along_the_data_are_no_error():
    t, y = spring(0)
    model = pn.NeuralODE(random_state=0).fit(t, y)
    assert max(model.report_["rmse"].values()) < 0.07


def test_a_state_that_moves_by_little_of_its_size_changes():
    t, y = spring(1)
    assert unvisited(pn.Trajectories.from_arrays(t, y)) == []
    y[:, 1] = ON_A_MAP[1] * (1 + 1e-16 * y[:, 2])  # rounding
    (words,) = unvisited(pn.Trajectories.from_arrays(t, y))
    assert words.startswith("y2 never changes")
