"""What a network does far from the data, and what is said of rollouts that go there."""

import warnings

import numpy as np
import pytest

import pynode as pn
from pynode.fit import FitWarning
from pynode.models.trajectories import far_field
from pynode.models.trajectories.visits import warn_of_far

T = np.linspace(0, 8, 81)


@pn.field(state=2)
def vdp(t, y):
    return [y[1], (1 - y[0] ** 2) * y[1] - y[0]]


def trajectories(seed=0):
    rng = np.random.default_rng(seed)
    y = pn.solve(vdp, 1.5 * rng.standard_normal((6, 2)), T).y
    return y + 0.02 * rng.standard_normal(y.shape)


@pytest.fixture(scope="module")
def inward():
    return pn.NeuralODE(hidden=(12,), skip=True, far_field="inward", random_state=0).fit(T, trajectories())


@pytest.fixture(scope="module")
def linear():
    return pn.NeuralODE(hidden=(12,), skip=True, far_field="linear", random_state=0).fit(T, trajectories())


def test_inside_the_data_nothing_changes(inward, linear):
    assert np.array_equal(inward.theta_, linear.theta_)
    inside = np.random.default_rng(1).uniform(-1.8, 1.8, (50, 2))
    assert np.array_equal(inward.derivative(inside), linear.derivative(inside))
    assert np.array_equal(inward.predict(T, [1.0, 0.5]), linear.predict(T, [1.0, 0.5]))


def test_far_from_the_data_the_field_leads_back(inward):
    for start in np.random.default_rng(2).uniform(-1e3, 1e3, (20, 2)):
        assert start @ inward.derivative(start) < 0
        path = inward.predict(np.linspace(0, 100, 50), start)
        assert np.isfinite(path).all() and np.abs(path[-1]).max() < 10


def test_a_bent_field_comes_back_from_a_file(inward):
    again = pn.NeuralODE.from_content(inward.to_content())
    start = [200.0, -100.0]
    assert np.array_equal(again.predict(T, start), inward.predict(T, start))
    assert again.strays_ == () and np.array_equal(again.visited_.states, inward.visited_.states)


def exploding(far):
    """A model whose rollouts are said to leave the data, once fitted."""
    return pn.NeuralODE(hidden=(12,), far_field=far, random_state=0)


@pytest.mark.parametrize("far, bent", [("auto", True), ("linear", False)])
def test_where_rollouts_stray_it_is_said_and_the_field_bent(monkeypatch, far, bent):
    monkeypatch.setattr(far_field, "strays", lambda model: (1, 3))
    with pytest.warns(FitWarning, match=r"2 of 6 trajectories \(1, 3\) leave the data"):
        model = exploding(far).fit(T, trajectories())
    assert model.strays_ == (1, 3) and ("bent inward" in model.field_.name) is bent
    assert any("leave the data" in words for words in model.report_["warnings"])


def test_rollouts_that_leave_the_data_are_warned_of(linear):
    model = pn.NeuralODE.from_content(linear.to_content())
    model.theta_ = linear.theta_.copy()
    (A,) = (p for p in model.field_.spec if p.name == "A")
    model.theta_[A.offset : A.stop] += np.eye(2).ravel() * 3.0  # grows
    with pytest.warns(pn.ExtrapolationWarning, match="a rollout leaves the data: y[12] is .* at "):
        model.predict(T, [1.0, 0.5])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.predict(T, [[1.0, 0.5], [0.5, 0.5]])
    assert sum(x.category is pn.ExtrapolationWarning for x in said) == 1


def test_rollouts_that_cannot_be_solved_are_told_without_a_value(linear):
    path = np.asarray(linear.predict(T, [1.0, 0.5])).copy()
    path[30:] = np.nan
    with pytest.warns(pn.ExtrapolationWarning, match=f"leaves the data: it cannot be solved as far as {T[30]:.5g}, "):
        warn_of_far(linear, T, path)


def test_leaves_tells_from_when_on_a_rollout_is_outside(linear):
    t = np.linspace(0, 1, 101)
    assert linear.leaves(T, [1.0, 0.5]) == np.inf
    assert linear.leaves(t, [1e3, 0.0]) == 0.0
    found = linear.leaves(t, [[1.0, 0.5], [0.0, 60.0]])
    assert found.shape == (2,) and found[0] == np.inf and found[1] == 0.0
    low, high = linear.visited_.low, linear.visited_.high
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = linear.predict(t, [1.9, 4.0])
    z = linear.scaling_.states(path)
    outside = ((z > high + 0.25 * (high - low)) | (z < low - 0.25 * (high - low))).any(axis=1)
    expected = t[outside][0] if outside.any() else np.inf
    assert linear.leaves(t, [1.9, 4.0]) == expected


def test_a_start_outside_is_the_users_own_doing(linear):
    with warnings.catch_warnings():
        warnings.simplefilter("error", pn.ExtrapolationWarning)
        linear.predict(np.linspace(0, 0.1, 5), [50.0, 50.0])


def test_a_start_outside_that_goes_further_out_is_warned_of(linear):
    model = pn.NeuralODE.from_content(linear.to_content())
    (A,) = (p for p in model.field_.spec if p.name == "A")
    model.theta_ = linear.theta_.copy()
    model.theta_[A.offset : A.stop] += np.eye(2).ravel() * 3.0  # grows
    width = model.visited_.width * model.scaling_.scale
    start = model.scaling_.states_back(model.visited_.high) + 0.5 * width
    with pytest.warns(pn.ExtrapolationWarning, match="a rollout leaves the data: y[12] is .* at ") as said:
        path = model.predict(T, start)
    over = ((path - start) / width).max(axis=1)
    first = T[np.argmax((over > 1.0) | ~np.isfinite(path).all(axis=1))]
    assert f"at {first:.5g}, " in str(said[0].message)
