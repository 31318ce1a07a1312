"""Inputs, jumps and resets that leave algebraic equations: told of where results are wrong, and only there."""

import warnings

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

import pynode as pn

T = np.linspace(0.0, 1.0, 5)
MASS = [1.0, 0.0]


@pn.field(state=2, inputs=1)
def cubic(t, y, u):
    return [-y[1], y[1] ** 3 + y[1] - u[0] - y[0]]


@pn.field(state=2)
def still(t, y):  # the same without its input
    return [-y[1], y[1] ** 3 + y[1] - y[0]]


@pn.field(state=2, inputs=1)
def affine(t, y, u):
    return [-y[1], y[1] - u[0] - y[0]]


@pn.field(state=2, inputs=1)
def squared(t, y, u):  # the equation is affine, the slope is not
    return [-(y[1] ** 2), y[1] - u[0] - y[0]]


def held(size):
    return [0.0, 0.5, 1.0], [[0.0], [size], [size]], "previous"


def truth(slope, size, x):
    """The differential variable at the end, the algebraic one put in."""
    for span, u in (((0.0, 0.5), 0.0), ((0.5, 1.0), size)):
        x = solve_ivp(lambda _, s, u=u: slope(s[0], u), span, [x], rtol=1e-11, atol=1e-12).y[0, -1]
    return x


def root(x, u):
    return brentq(lambda z: z**3 + z - u - x, -50.0, 50.0, xtol=1e-15)


METHODS = ["rosenbrock23", "ros34pw2", "rodas4", "rodas5p"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [0.5, 3.0])
def test_prescribed_steps_over_a_held_input(method, size):
    arguments = cubic, [2.0, 1.0], T
    options = {"method": method, "mass": MASS, "inputs": held(size), "step": 0.01}
    words = r"sample 0: inputs= leaves the algebraic equations of mass= at t = 0\.5, .*component 1 .*linear between knots"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = pn.solve(*arguments, **options).y[-1, 0]
    assert not abs(x - truth(lambda x, u: -root(x, u), size, 2.0)) < 1e-6
    with pytest.raises(pn.SolveError, match=words):
        pn.solve(*arguments, errors="raise", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(pn.SolveWarning, match=words):
            pn.solve(*arguments, **options)
        pn.solve(*arguments, **options | {"inputs": ([0.0, 0.5, 1.0], [[0.0], [0.1], [0.1]], "linear")})


def test_slopes_count_too():
    options = {"method": "rodas5p", "mass": MASS, "inputs": held(3.0)}
    with pytest.warns(pn.SolveWarning, match=r"at t = 0\.5, where component 1 of the state has to move by about 3 at once"):
        wrong = pn.solve(squared, [2.0, 2.0], T, step=0.01, **options).y[-1, 0]
    exact = truth(lambda x, u: -((x + u) ** 2), 3.0, 2.0)
    assert abs(wrong - exact) > 1e-2
    assert pn.solve(squared, [2.0, 2.0], T, **options).y[-1, 0] == pytest.approx(exact, abs=1e-6)  # steps that are chosen


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_said_where_the_steps_follow(method):
    options = {"method": method, "mass": MASS, "step": 0.01}
    x = pn.solve(affine, [2.0, 2.0], T, inputs=held(3.0), **options).y[-1, 0]
    assert x == pytest.approx(truth(lambda x, u: -(x + u), 3.0, 2.0), abs=1e-4 if method == "rosenbrock23" else 1e-6)
    pn.solve(cubic, [2.0, 1.0], T, inputs=held(0.0), **options)
    pn.solve(cubic, [2.0, 1.0], T[:3], inputs=held(3.0), **options)  # ends there


def test_a_failure_is_explained():
    options = {"mass": MASS, "inputs": held(3.0)}
    with pytest.warns(pn.SolveWarning) as told:
        pn.solve(cubic, [2.0, 1.0], T, method="rodas5p", **options)
    assert any("inputs= leaves" in str(w.message) and "the solve failed" in str(w.message) for w in told)
    with pytest.warns(pn.SolveWarning) as told:
        pn.solve(affine, [2.0, 2.0], T, method="ros34pw2", **options)
    assert any("take method='rodas5p' or 'rodas4'" in str(w.message) for w in told)


def test_backwards():
    with pytest.warns(pn.SolveWarning, match=r"inputs= leaves .* at t = 0\.5, "):
        pn.solve(cubic, [2.0, root(2.0, 0.5)], T[::-1], method="rodas5p", mass=MASS, inputs=held(0.5), step=0.01)


def test_samples_have_inputs_of_their_own():
    u = np.array([[[0.0], [0.0], [0.0]], [[0.0], [3.0], [3.0]]])
    options = {"method": "ros34pw2", "mass": MASS, "step": 0.01}
    with pytest.warns(pn.SolveWarning, match="sample 1: inputs= leaves"):
        pn.solve(cubic, [[2.0, 1.0]] * 2, T, inputs=([0.0, 0.5, 1.0], u, "previous"), **options)


RESETS = {
    "off": lambda t, y: [y[0] + 0.2, y[1]],
    "on": lambda t, y: [(2 * y[1]) ** 3 + 2 * y[1], 2 * y[1]],
}
FIXED = {"method": "rodas5p", "mass": MASS, "step": 0.01}


@pytest.mark.parametrize("call", ["solve", "loss_and_grad", "sensitivities"])
def test_resets(call):
    def run(reset):
        events = pn.event(lambda t, y: y[0] - 1.5, reset=RESETS[reset], direction=-1)
        target = [None, np.zeros((5, 2))] if call == "loss_and_grad" else []
        return getattr(pn, call)(still, [2.0, 1.0], T, *target, events=events, **FIXED)

    run("on")
    with pytest.warns(pn.SolveWarning, match="sample 0: events= leaves .*let the reset return a state that satisfies them"):
        run("off")


@pytest.mark.parametrize("call", ["solve", "loss_and_grad", "sensitivities"])
@pytest.mark.parametrize("events", [None, pn.event(lambda t, y: y[0] + 9.0)])
def test_jumps(call, events):
    data = np.array([[np.nan], [np.nan], [1.0], [np.nan], [np.nan]])

    def run(reset):
        jump = pn.field(state=2, inputs=1)(lambda t, y, x: RESETS[reset](t, y))
        target = [None, np.zeros((5, 2))] if call == "loss_and_grad" else []
        return getattr(pn, call)(pn.System(still, jump=jump), [2.0, 1.0], T, *target, data=data, events=events, **FIXED)

    run("on")
    with pytest.warns(pn.SolveWarning, match=r"sample 0: jump= leaves .* at t = 0\.5, "):
        run("off")


def test_an_objective_tells_once():
    target = np.zeros((5, 2))
    objective = pn.Objective(cubic, [2.0, 1.0], T, target, inputs=held(0.5), **FIXED)
    for call in (
        lambda: objective(np.zeros(0)),
        lambda: pn.loss_and_grad(cubic, [2.0, 1.0], T, None, target, inputs=held(0.5), **FIXED),
    ):
        with pytest.warns(pn.SolveWarning, match="inputs= leaves"):
            call()
    objective(np.zeros(0))


def test_solving_part_by_part():
    """What the warning says to do."""
    first = pn.solve(still, [2.0, 1.0], [0.0, 0.5], **FIXED).y[-1]
    start = pn.consistent_state(cubic, first, mass=MASS, inputs=[3.0])
    x = pn.solve(cubic, start, [0.5, 1.0], inputs=[3.0], **FIXED).y[-1, 0]
    assert x == pytest.approx(truth(lambda x, u: -root(x, u), 3.0, 2.0), abs=1e-9)
