"""Equations from trajectories of which some do not observe all states."""

import numpy as np
import pytest
from printed_terms import terms_of

import pynode as pn

T = np.linspace(0.0, 10.0, 101)
VAN_DER_POL = pn.field(state=2)(lambda t, y: [y[1], (1 - y[0] ** 2) * y[1] - y[0]])
TRUE = {"y1: y2": 1.0, "y2: y2": 1.0, "y2: y1": -1.0, "y2: y1^2*y2": -1.0}


def measured(missing):
    """Six noisy trajectories (6, T, 2), without what `missing` names: pairs of a trajectory and its states."""
    rng = np.random.default_rng(3)
    clean = pn.solve(VAN_DER_POL, 1.5 * rng.normal(size=(6, 2)), T, rtol=1e-9, atol=1e-9).y
    noisy = clean + 0.02 * rng.normal(size=clean.shape)
    for i, states in missing:
        noisy[i, :, states] = np.nan
    return clean, noisy


@pytest.mark.parametrize("missing", [[(2, [0, 1])], [(2, [0])], [(0, [1]), (3, [0]), (4, [0, 1])]])
def test_terms_are_found_on_those_that_do(missing):
    clean, noisy = measured(missing)
    model = pn.NeuralODE(random_state=0).fit(T, noisy)
    found = terms_of(model)
    assert found.keys() == TRUE.keys()
    for name, value in TRUE.items():
        assert found[name] == pytest.approx(value, abs=0.02)
    for i, states in missing:  # what one state tells of the other's beginning
        if len(states) == 1:
            np.testing.assert_allclose(model.initial_states_[i], clean[i, 0], rtol=0.03, atol=0.05)
    assert not model.report_["warnings"]


def test_none_does():
    _, noisy = measured([(i, [i % 2]) for i in range(6)])
    with pytest.raises(ValueError, match=r"^structure='equation' cannot be had: no trajectory observes all states"):
        pn.NeuralODE(structure="equation", random_state=0).fit(T, noisy)
