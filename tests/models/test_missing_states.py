"""Equations from trajectories of which some do not observe all states."""

import warnings

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


@pytest.mark.parametrize("late", [range(6), [1], [0, 2, 3, 4, 5]])
def test_a_trajectory_begins_with_its_first_reading(late):
    """Rows in which nothing was read yet, as where series are padded to the same times."""
    clean, noisy = measured([])
    for i in late:
        noisy[i, :20] = np.nan
    weight = np.ones(noisy.shape)
    model = pn.NeuralODE(random_state=0).fit(T, noisy, weight=weight)
    assert terms_of(model).keys() == TRUE.keys() and not model.report_["warnings"]
    assert [t[0] for t in model.data_.t] == [T[20 if i in late else 0] for i in range(6)]
    first = np.array([clean[i, 20 if i in late else 0] for i in range(6)])
    np.testing.assert_allclose(model.initial_states_, first, rtol=0.03, atol=0.03)
    ragged = pn.NeuralODE(random_state=0).fit(
        [T[20 if i in late else 0 :] for i in range(6)], [y[20 if i in late else 0 :] for i, y in enumerate(noisy)]
    )
    np.testing.assert_allclose(model.theta_, ragged.theta_, rtol=1e-9)


def test_a_state_that_is_read_once_in_each_trajectory_makes_no_equation():
    _, noisy = measured([])
    noisy[:, 1:, 1] = np.nan
    with pytest.raises(ValueError, match=r"^structure='equation' cannot be had: no trajectory observes all states, each of"):
        pn.NeuralODE(structure="equation", random_state=0).fit(T, noisy)
    noisy[1:, 0, 1] = np.nan
    with pytest.warns(pn.fit.FitWarning):
        model = pn.NeuralODE(hidden=(2,), max_iter=2, random_state=0).fit(T, noisy)
    assert not any("nothing changes in the data" in words for words in model.report_["warnings"])


@pytest.mark.parametrize("forced", [False, True])
def test_a_state_that_is_read_at_the_ends_alone_makes_no_equation_either(forced):
    """No window of the integral form has two of its readings."""
    t = np.linspace(0.0, 20.0, 200)
    field = pn.field(state=2, inputs=1)(lambda t, y, u: [y[1], u[0] - y[0] - 0.1 * y[1]])
    u = np.sin(0.7 * t) if forced else np.zeros(200)
    y = pn.solve(field, [1.0, 0.0], t, inputs=(t, u[:, None])).y + 0.01 * np.random.default_rng(0).normal(size=(200, 2))
    y[1:-1, 1] = np.nan
    given = {"u": u} if forced else {}
    with pytest.raises(
        ValueError, match=r"cannot be had: y2 is read so rarely that no 40 intervals .* two of its readings$"
    ):
        pn.NeuralODE(structure="equation").fit(t, y, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pn.fit.FitWarning)  # so few steps are taken
        model = pn.NeuralODE(random_state=0, max_iter=5).fit(t, y, **given)
    assert np.isfinite(model.theta_).all()
