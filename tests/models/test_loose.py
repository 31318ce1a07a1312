"""Networks, and equations that were found, say where data determine them loosely: in rollouts from between trajectories, or
from where these begin."""

import warnings

import numpy as np
import pytest

import pynode as pn
from pynode.models.trajectories.equations import loose
from pynode.models.trajectories.equations.loose import (
    FIRST,
    FIRST_PART,
    FORMS,
    LOOSE,
    LOOSE_EQUATION,
    MORE,
    beginnings,
    between,
    of_forms,
    uncertainty,
)

FIELD = pn.field(state=2)(lambda t, y: [y[1], -np.sin(y[0]) - 0.2 * y[1]])


def fitted(count, noise=0.05, seed=0):
    """A network of a pendulum, and what the fit warned of."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 8, 41)
    y = pn.solve(FIELD, rng.uniform(-2, 2, (count, 2)), t).y
    model = pn.NeuralODE(structure="network", hidden=(8,), random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pn.fit.FitWarning)
        model.fit(t, y + noise * rng.standard_normal(y.shape))
    return model, " ".join(model.report_["warnings"])


def from_between(model, average=None):
    """The uncertainty of rollouts from states between trajectories, in standard deviations of the noise."""
    return uncertainty(model, *between(model.data_.y, model.random_state_), average)[0]


def test_states_between_are_half_way_to_the_nearest_of_another_trajectory():
    rng = np.random.default_rng(1)
    states = [rng.standard_normal((n, 2)) * [1, 50] for n in (5, 9, 7)]
    states[1][3] = np.nan
    which, found = between(states, 0)
    assert len(found) == 12
    spread = np.nanstd(np.concatenate(states), axis=0)
    for i, y in zip(which, found, strict=True):
        others = np.concatenate([x for k, x in enumerate(states) if k != i])
        others = others[np.isfinite(others).all(axis=1)]
        halves = []
        for own in states[i][np.isfinite(states[i]).all(axis=1)]:
            nearest = others[np.argmin((((others - own) / spread) ** 2).sum(axis=1))]
            halves.append(0.5 * (own + nearest))
        assert np.abs(np.array(halves) - y).max(axis=1).min() < 1e-12
    again = between(states, 0)[1]
    np.testing.assert_array_equal(found, again)
    assert not np.array_equal(found, between(states, 1)[1])
    assert len(between([np.full((3, 2), np.nan), np.zeros((3, 2))], 0)[1]) == 0


@pytest.mark.parametrize(
    ("found", "words"),
    [((7.0, 0.5), "uncertain by 7 standard deviations"), ((np.inf, np.inf), "cannot be followed as long as the data are")],
)
def test_what_is_told(found, words, monkeypatch):
    monkeypatch.setattr(loose, "uncertainty", lambda model, *starts: found)
    told = fitted(3)[1]
    assert words in told and "by inf" not in told


def test_uncertainty_is_that_of_draws_of_the_parameters():
    model, _ = fitted(12)
    rng = np.random.default_rng(2)
    _, y0 = between(model.data_.y, model.random_state_)
    t = model.data_.t[0][np.unique(np.linspace(0, 40, 25).round().astype(int))]
    noise = np.array(list(model.report_["noise"].values()))
    root = np.linalg.cholesky(model.covariance_ + 1e-12 * np.eye(len(model.theta_)))
    part = 1e-4  # the linear part
    draws = model.theta_ + part * rng.standard_normal((300, len(root))) @ root.T
    z0, times = model.scaling_.states(y0), model.scaling_.times(t)
    paths = np.array([pn.solve(model.field_, z0, times, theta, rtol=1e-11, atol=1e-11).y for theta in draws])
    std = paths.std(axis=0) * model.scaling_.scale / part
    expected = np.median(np.sqrt(np.mean((std / noise) ** 2, axis=(1, 2))))
    assert from_between(model) == pytest.approx(expected, rel=0.15)


def test_few_trajectories_are_told_and_many_are_not():
    few, said = fitted(3)
    assert from_between(few) > LOOSE and "determine the network loosely" in said
    many, said = fitted(40)
    assert from_between(many) < LOOSE and "loosely" not in said
    assert from_between(few) > 2 * from_between(many)


def test_an_equation_of_terms_that_only_resemble_the_truth_is_told_and_the_true_one_is_not():
    rng = np.random.default_rng(1)
    t = np.linspace(0, 6, 61)

    @pn.field(state=4)
    def steeper(t, y):  # than gravity, which is among the candidates
        pull = (y[0] ** 2 + y[1] ** 2) ** -1.75
        return [y[2], y[3], -pull * y[0], -pull * y[1]]

    cubic = pn.field(state=2)(lambda t, y: [y[1], -y[0] - 0.3 * y[0] ** 3])
    angle, speed = rng.uniform(0, 2 * np.pi, 6), rng.uniform(0.95, 1.05, 6)
    around = np.stack([np.cos(angle), np.sin(angle), -speed * np.sin(angle), speed * np.cos(angle)], axis=1)
    said = []
    for field, y0 in ((steeper, around), (cubic, rng.uniform(-2, 2, (6, 2)))):
        y = pn.solve(field, y0, t).y
        model = pn.NeuralODE(structure="equation", random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pn.fit.FitWarning)
            model.fit(t, y + 0.1 * rng.standard_normal(y.shape))
        uncertain = from_between(model)
        said.append((uncertain > LOOSE_EQUATION, "determine the equation loosely" in " ".join(model.report_["warnings"])))
    assert said == [(True, True), (False, False)]


@pytest.mark.parametrize("resembles", [True, False])
def test_an_equation_whose_terms_may_be_others_is_told(resembles):
    def spring(t, y):
        return [y[1], -y[0] - (1.5 * np.tanh(2 * y[0]) if resembles else 0.3 * y[0] ** 3) - 0.2 * y[1]]

    rng = np.random.default_rng(2)
    t = np.linspace(0, 12, 30)
    y = pn.solve(pn.field(state=2)(spring), rng.uniform(-2, 2, (6, 2)), t).y
    model = pn.NeuralODE(structure="equation", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pn.fit.FitWarning)
        model.fit(t, y + 0.1 * y.std(axis=(0, 1)) * rng.standard_normal(y.shape))
    alone, forms = from_between(model), from_between(model, of_forms(model))
    assert alone < LOOSE_EQUATION
    assert (forms > MORE * alone and forms**2 - alone**2 > FORMS**2) == resembles
    assert ("other terms than these explain the data about as well" in " ".join(model.report_["warnings"])) == resembles


def test_rollouts_from_first_states_are_told_where_most_readings_rest():
    """A virus that comes to rest within a few intervals: states between trajectories are at rest, too.

    How uncertain a fit is follows from its start and from rounding; what is said follows from how uncertain it is.
    """
    rng = np.random.default_rng(5)
    t = np.linspace(0, 40, 30)

    @pn.field(state=3)
    def virus(t, y):
        infected = 0.02 * y[0] * y[2]
        return [10 - 0.1 * y[0] - infected, infected - 0.5 * y[1], 20 * y[1] - 3 * y[2]]

    y = pn.solve(virus, rng.uniform([40, 0, 1], [100, 5, 30], (6, 3)), t).y
    y += 0.01 * y.std((0, 1)) * rng.standard_normal(y.shape)
    for seed in range(3):
        model = pn.NeuralODE(structure="network", random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pn.fit.FitWarning)
            model.fit(t, y)
        first, part = uncertainty(model, *beginnings(model.data_.y))
        told = "every second rollout from the first states of the trajectories" in " ".join(model.report_["warnings"])
        assert told == (from_between(model) <= LOOSE and first > FIRST and part > FIRST_PART)


def test_uncertain_rollouts_from_first_states_are_told(monkeypatch):
    t = np.linspace(0, 8, 60)
    y = pn.solve(FIELD, [[2.0, 0.0], [0.5, 1.0], [-1.0, 1.0]], t).y
    model = pn.NeuralODE(structure="network", hidden=(8,), random_state=0).fit(t, y)
    for first, said in [((3.0, 0.3), True), ((3.0, 0.05), False), ((0.5, 0.3), False)]:
        answers = iter([(0.2, 0.1), first])  # from states between trajectories, then from first ones
        monkeypatch.setattr(loose, "uncertainty", lambda *_, answers=answers: next(answers))
        model.report_["warnings"] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pn.fit.FitWarning)
            loose.warn_if_loose(model)
        assert ("from the first states of the trajectories" in " ".join(model.report_["warnings"])) == said


def test_a_single_trajectory_that_says_little_is_told():
    rng = np.random.default_rng(0)
    t = np.linspace(0, 8, 15)
    y = pn.solve(FIELD, [2.0, 0.0], t).y
    with pytest.warns(pn.fit.FitWarning, match="from the first states of the trajectories"):
        model = pn.NeuralODE(structure="network", hidden=(8,), random_state=0).fit(t, y + 0.1 * rng.standard_normal(y.shape))
    assert uncertainty(model, *beginnings(model.data_.y))[0] > FIRST


def test_first_states_are_those_that_were_read():
    states = [np.arange(6.0).reshape(3, 2) + i for i in range(30)]
    states[3][0, 1] = np.nan
    states[5] = states[5][:1]
    which, found = beginnings(states)
    assert len(which) == 12 and not {3, 5} & set(which.tolist()) and which[0] == 0 and which[-1] == 29
    np.testing.assert_array_equal(found, [states[i][0] for i in which])
    assert len(beginnings([np.full((3, 2), np.nan)])[1]) == 0
