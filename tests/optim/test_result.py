"""One record of progress for every way to train."""

import numpy as np
import pytest

import pynode as pn
from pynode.fit import Iteration
from pynode.optim.result import HISTORY

T = np.linspace(0.0, 2.0, 15)
DATA = np.exp(-0.7 * T)[:, None]


@pn.field(state=1, theta={"k": 0.3})
def decay(t, y, th):
    return -th.k * y


def square(theta):
    return theta @ theta, 2 * theta


def residuals(theta):
    return theta - 1.0, np.eye(len(theta))


OBJECTIVE = pn.Objective(decay, DATA[0], T, DATA)
START = np.array([0.3])

WAYS = {
    "adam": lambda see: pn.fit.adam(square, np.ones(3), max_iter=4, callback=see),
    "lbfgs": lambda see: pn.fit.lbfgs(square, np.ones(3), max_iter=4, callback=see),
    "levenberg_marquardt": lambda see: pn.fit.levenberg_marquardt(residuals, np.zeros(2), callback=see),
    "objective": lambda see: pn.fit.lbfgs(OBJECTIVE, START, max_iter=4, callback=see),
    "gradient_matching": lambda see: pn.fit.gradient_matching(decay, T, DATA, random_state=1, callback=see),
    "multiple_shooting": lambda see: pn.fit.multiple_shooting(decay, T, DATA, windows=(5, None), callback=see),
    "first order": lambda see: pn.fit.multiple_shooting(
        decay, T, DATA, windows=(5, None), optimizer="adam+lbfgs", max_iter=5, callback=see
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_callbacks_see_the_rows_of_the_history(way):
    seen = []
    fit = WAYS[way](seen.append)
    assert [type(x) for x in seen] == [Iteration] * len(seen) and len(seen) == fit.n_iter > 0
    assert [x.number for x in seen] == list(range(1, len(seen) + 1))
    assert set(fit.history) - {"stage"} == set(HISTORY)
    for name in HISTORY:
        np.testing.assert_array_equal(fit.history[name], [getattr(x, name) for x in seen])
    assert all(x.theta.shape == fit.theta.shape for x in seen)
    assert np.isnan(fit.history["validation"]).all() and (np.diff(fit.history["seconds"]) >= 0).all()
    staged = way in ("gradient_matching", "multiple_shooting", "first order")
    assert all(bool(x.stage) == staged for x in seen) and ("stage" in fit.history) == staged


@pytest.mark.parametrize("way", ["multiple_shooting", "first order"])
def test_iterations_count_the_evaluations_of_their_stage(way):
    seen = []
    WAYS[way](seen.append)
    assert all(x.nfe > 0 for x in seen if x.stage != "slopes")
    assert {x.stage for x in seen} >= {"windows of 5", "whole trajectories"}


@pytest.mark.parametrize("way", WAYS)
def test_a_callback_stops_at_once(way):
    fit = WAYS[way](lambda iteration: iteration.number == 1)
    assert fit.n_iter == 1 and fit.status == "stopped"
