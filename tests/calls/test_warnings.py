"""Warnings point at the user's line, and are not repeated in a loop."""

import warnings

import numpy as np
import pytest

import pynode as pn

T = np.linspace(0, 1, 5)


@pn.field(state=1, theta={"a": 1.0})
def explosive(t, y, th):
    return th.a * y * y


FLOOR = pn.event(lambda t, y: y[0] + 1.0, reset=lambda t, y: -y)


def caught(run):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        run()
    return found


def test_an_objective_with_events_is_silent_about_trial_steps_of_an_optimiser():
    """As one without events: any trial step may fail. The line search goes back from it."""
    objectives = [
        pn.Objective(explosive, [1.0], T, np.ones((5, 1)), events=FLOOR, max_events=3),
        pn.Objective(explosive, [1.0], T, np.ones((5, 1))),
    ]
    for objective in objectives:
        assert not np.isfinite(objective(np.array([50.0]))[0])
        found = caught(lambda objective=objective: [objective(np.array([a])) for a in (50.0, 60.0, 0.1)])
        assert found == []


@pytest.mark.parametrize("options", [{}, {"events": FLOOR, "max_events": 3}])
def test_warnings_of_failed_solves_point_here(options):
    theta = np.array([50.0])
    objective = pn.Objective(explosive, [1.0], T, np.ones((5, 1)), **options)
    calls = [
        lambda: pn.solve(explosive, [1.0], T, theta, errors="warn", **options),
        lambda: objective.evaluate(theta),
        lambda: pn.loss_and_grad(explosive, [1.0], T, theta, np.ones((5, 1)), **options),
    ]
    for call in calls:
        found = [w for w in caught(call) if issubclass(w.category, pn.SolveWarning)]
        assert [w.filename for w in found] == [__file__]


def test_warnings_of_fits_point_here():
    t = np.linspace(0, 10, 60)
    y = np.cos(2 * t)[:, None]
    for fit in (
        lambda: pn.NeuralODE(hidden=(4,), random_state=0).fit(t, y),
        lambda: pn.NeuralODE(hidden=(4,), random_state=0, n_restarts=2).fit(t, y),
    ):
        found = [w for w in caught(fit) if issubclass(w.category, pn.fit.FitWarning)]
        assert found and {w.filename for w in found} == {__file__}
