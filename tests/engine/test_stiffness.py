"""Stiffness is noticed where an explicit method steps at the limit of its stability, and nowhere else."""

import warnings

import numpy as np
import pytest

import pynode as pn
from pynode.engine.stiffness import stability_limit


@pn.field(state=2, theta={"mu": 1000.0})
def van_der_pol(t, y, th):
    return [y[1], th.mu * (1 - y[0] ** 2) * y[1] - y[0]]


@pn.field(state=1, theta={"k": 1000.0}, inputs=1)
def follows(t, y, th, u):
    return -th.k * (y - u)


@pytest.mark.parametrize(("method", "limit"), [("euler", 2.0), ("rk4", 2.785), ("dopri5", 3.306), ("bosh3", 2.513)])
def test_limits_are_those_of_the_stability_polynomials(method, limit):
    assert stability_limit(method) == pytest.approx(limit, abs=0.01)


@pytest.mark.parametrize("method", ["dopri5", "tsit5", "bosh3", "dop853"])
def test_stiff_equations_are_named(method):
    with pytest.warns(pn.StiffnessWarning, match="take method='rodas5p'"):
        pn.solve(van_der_pol, [2.0, 0.0], [0.0, 5.0], [1000.0], method=method)


def test_gradients_objectives_and_inputs_say_so_too():
    t = np.linspace(0, 3, 5)
    with pytest.warns(pn.StiffnessWarning):
        pn.loss_and_grad(van_der_pol, [2.0, 0.0], t, [1000.0], np.zeros((5, 2)))
    objective = pn.Objective(follows, [1.0], t, np.zeros((5, 1)), inputs=(t, np.cos(t)[:, None]))
    with pytest.warns(pn.StiffnessWarning):
        objective([2000.0])
    with pytest.warns(pn.StiffnessWarning, match="sample 1 is stiff"):
        pn.solve(van_der_pol, np.full((2, 2), [2.0, 0.0]), [0.0, 5.0], [[1.0], [1000.0]])


@pytest.mark.parametrize("f", [van_der_pol, pn.System(van_der_pol)], ids=["field", "system"])
def test_whoever_ignores_errors_is_not_told(f):
    arguments = f, [2.0, 0.0], np.linspace(0, 3, 5)
    target = np.zeros((5, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pn.solve(*arguments, [1000.0], errors="ignore")
        pn.sensitivities(*arguments, [1000.0], errors="ignore")
        pn.loss_and_grad(*arguments, [1000.0], target, errors="ignore")
        pn.Objective(*arguments, target).evaluate([1000.0], errors="ignore")


@pytest.mark.parametrize("method", ["dopri5", "tsit5", "dop853"])
@pytest.mark.parametrize("rate", [1.0, 30.0])
def test_long_solves_that_accuracy_limits_are_not_stiff(method, rate):
    f = pn.field(state=2)(lambda t, y: [rate * (y[0] - y[0] * y[1]), rate * (y[0] * y[1] - y[1])])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sol = pn.solve(f, [1.2, 0.7], [0.0, 1500.0 / rate], method=method, rtol=1e-9, atol=1e-9)
    assert sol.stats.accepted > 1000


def test_methods_for_stiff_equations_fixed_steps_and_callbacks_are_not_looked_at():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pn.solve(van_der_pol, [2.0, 0.0], [0.0, 20.0], [1000.0], method="rodas5p", rtol=1e-10, atol=1e-12)
        pn.solve(van_der_pol, [2.0, 0.0], [0.0, 1.0], [1000.0], step=2e-4)
        pn.solve(lambda t, y: -2000.0 * y, [1.0], [0.0, 3.0])
