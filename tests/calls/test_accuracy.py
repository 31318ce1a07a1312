"""A component of the state that stays below its absolute tolerance is not controlled: that is said, once a call."""

import re
import warnings

import numpy as np
import pytest

import pynode as pn

T = np.linspace(0.0, 10.0, 6)
FEW = 1e-10


@pn.field(state=4, theta={"beta": 1.2, "sigma": 0.5, "gamma": 0.3})
def seir(t, y, th):
    """Fractions of a population."""
    infected = th.beta * y[0] * y[2]
    return [-infected, infected - th.sigma * y[1], th.sigma * y[1] - th.gamma * y[2], th.gamma * y[2]]


START = np.array([1 - FEW, 0.0, FEW, 0.0])
THETA = seir.init()
TARGET = np.ones((len(T), 4))
DECAY = pn.field(state=1, theta={"k": 1.0})(lambda t, y, th: -th.k * y)
BOTH = pn.field(state=2)(lambda t, y: -y)


def warned(call):
    """The warnings about tolerances that a call gives."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    return [w for w in seen if w.category is pn.ToleranceWarning]


def exact():
    return pn.solve(seir, START, T, THETA, method="dop853", rtol=1e-12, atol=1e-22)


def test_the_default_is_wrong_and_the_remedy_of_the_warning_is_right():
    (warning,) = warned(lambda: pn.solve(seir, START, T, THETA))
    text = str(warning.message)
    assert "components 1, 2, 3 of the state stay below atol=1e-08" in text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rough = pn.solve(seir, START, T, THETA)
    right = exact().y
    assert abs(rough.y[-1, 2] / right[-1, 2] - 1) > 0.05 and rough.ok
    atol = float(re.search(r"give atol=(\S+),", text)[1])
    good = pn.solve(seir, START, T, THETA, atol=atol)  # without a warning
    assert abs(good.y[-1, 1:] / right[-1, 1:] - 1).max() < 1e-4


CALLS = {
    "solve": lambda: pn.solve(seir, START, T, THETA),
    "solve a batch": lambda: pn.solve(seir, np.stack([START] * 3), T, THETA),
    "solve own times": lambda: pn.solve(seir, np.stack([START] * 2), [T, T[:3]], THETA),
    "solve float32": lambda: pn.solve(seir, START.astype(np.float32), T, THETA),
    "solve with atol of each": lambda: pn.solve(seir, START, T, THETA, atol=[1e-8, 1e-20, 1e-8, 1e-20]),
    "solve with events": lambda: pn.solve(seir, START, T, THETA, events=pn.event(lambda t, y: y[0] - 0.5)),
    "odeint": lambda: pn.odeint(seir, START, T, theta=THETA, atol=1e-8, rtol=1e-6),
    "sensitivities": lambda: pn.sensitivities(seir, START, T, THETA),
    "loss_and_grad": lambda: pn.loss_and_grad(seir, START, T, THETA, TARGET),
    "loss_and_grad with events": lambda: pn.loss_and_grad(
        seir, START, T, THETA, TARGET, events=pn.event(lambda t, y: y[0] - 0.5)
    ),
    "backsolve": lambda: pn.loss_and_grad(seir, START, T, THETA, TARGET, adjoint="backsolve"),
    "Objective": lambda: pn.Objective(seir, START, T, TARGET)(THETA),
    "Objective.value": lambda: pn.Objective(seir, START, T, TARGET).value(THETA),
    "Objective.evaluate": lambda: pn.Objective(seir, START, T, TARGET).evaluate(THETA),
    "check_grad": lambda: pn.check_grad(seir, START, T, THETA, TARGET, n_entries=1),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_call_warns_once_where_the_user_is(name):
    for _ in range(2):  # the second time through what the first has prepared
        (warning,) = warned(CALLS[name])
        assert warning.filename == __file__


@pytest.mark.parametrize("events", [None, pn.event(lambda t, y: y[0] - 0.5)])
def test_an_objective_warns_once(events):
    objective = pn.Objective(seir, START, T, TARGET, events=events)
    assert len(warned(lambda: [objective(THETA), objective(THETA), objective.value(THETA), objective.evaluate(THETA)])) == 1


QUIET = {
    "ordinary": lambda: pn.solve(DECAY, [1.0], T, [1.0]),
    "decays far below": lambda: pn.solve(DECAY, [1.0], [0.0, 1.0, 100.0], [1.0]),
    "0 all the time": lambda: pn.solve(BOTH, [1.0, 0.0], T),
    "nothing but 0": lambda: pn.solve(BOTH, [0.0, 0.0], T),
    "rounding": lambda: pn.solve(BOTH, [1.0, 1e-16], T),
    "large in one sample": lambda: pn.solve(BOTH, [[1.0, 1e-10], [1.0, 1.0]], T),
    "large in the first of many": lambda: pn.solve(BOTH, [[1.0, 1.0], *[[1.0, 1e-10]] * 40], T),
    "fixed steps": lambda: pn.solve(seir, START, T, THETA, method="rk4", step=0.1),
    "a grid": lambda: pn.solve(seir, START, T, THETA, method="rk4", grid=T),
    "atol of each": lambda: pn.solve(seir, START, T, THETA, atol=[1e-8, 1e-15, 1e-15, 1e-15]),
    "no atol": lambda: pn.solve(seir, START[[0, 2, 2, 2]], T, THETA, atol=0.0),
    "one time": lambda: pn.solve(BOTH, [1.0, 1e-10], [0.0]),
    "no samples": lambda: pn.solve(BOTH, np.zeros((0, 2)), T),
    "many components": lambda: pn.solve(pn.field(state=60)(lambda t, y: -y), np.ones(60), T),
}


@pytest.mark.parametrize("name", QUIET)
def test_nothing_to_say(name):
    assert not warned(QUIET[name])


def test_many_components():
    f = pn.field(state=60)(lambda t, y: -y)
    y0 = np.ones(60)
    y0[7:17] = 1e-9
    (warning,) = warned(lambda: pn.solve(f, y0, T))
    assert "components 7, 8, 9, 10, 11, ... of the state stay" in str(warning.message)


def test_samples_that_fail_do_not_hide_the_others():
    blowup = pn.field(state=2)(lambda t, y: [y[0] ** 2, -y[1]])
    with pytest.warns(pn.SolveWarning), pytest.warns(pn.ToleranceWarning, match="component 1 of"):
        pn.solve(blowup, [1.0, 1e-9], [0.0, 0.5, 2.0])


@pytest.mark.filterwarnings("ignore:.*effective parameters:pynode.fit.FitWarning")
def test_training_takes_tolerances_from_the_data():
    states = exact().y[:, 1:3]
    line = pn.field(state=2, theta={"A": np.zeros((2, 2))})(lambda t, y, th: th.A @ y)
    found = pn.fit.multiple_shooting(line, T, states, [-0.4, 1.0, 0.4, -0.2], max_iter=20)
    assert abs(found.theta - [-0.5, 1.2, 0.5, -0.3]).max() < 1e-4
    model = pn.NeuralODE(hidden=(), random_state=0).fit(T, states)
    assert abs(model.predict(T, states[0]) - states).max() < 1e-4 * states.max()
