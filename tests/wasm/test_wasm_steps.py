"""The ends of accepted steps: those of pynode, of each sample, freed after each call."""

import numpy as np
import pytest

import pynode as pn

T = [[0.0, 1.0, 3.0], [0.5, 1.5, 2.5], [1.0, 1.0, 1.0]]  # the last goes nowhere


@pn.field(state=2, theta={"mu": 5.0})
def van_der_pol(t, y, th):
    return [y[1], th.mu * (1 - y[0] ** 2) * y[1] - y[0]]


def calls(name="solve", **options):
    given = {"call": name, "field": van_der_pol.to_json(), "y0": [[2.0, 0.0], [1.0, 1.0], [0.5, 0.0]]}
    return [given | {"t": T, "theta": [5.0], "options": {"steps": True, **options}}]


@pytest.mark.parametrize("options", [{}, {"method": "rodas5p"}, {"method": "rk4", "step": 0.1}])
@pytest.mark.parametrize("name", ["solve", "sensitivities"])
def test_steps_of_each_sample(run, name, options):
    y0 = [[2.0, 0.0], [1.0, 1.0], [0.5, 0.0]]
    want = pn.solve(van_der_pol, y0, T, [5.0], steps=True, **options).steps
    (got,) = run(calls(name, **options))["answers"]
    for mine, theirs in zip(got["steps"], want, strict=True):
        assert len(mine) == len(theirs)
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)  # error estimates are small differences: rounding shows in them


def test_steps_of_a_solve_that_fails(run):
    (got,) = run(calls(maxSteps=10, errors="ignore"))["answers"]
    assert len(got["steps"][0]) == got["accepted"][0] + 1 <= 11
    assert got["steps"][0][-1] == pytest.approx(got["stopT"][0])
    (raised,) = run(calls(maxSteps=10))["answers"]
    assert raised["status"] == "MAX_STEPS"


def test_steps_are_there_only_when_asked_for(run):
    (got,) = run(calls(steps=False))["answers"]
    assert "steps" not in got


def test_memory_of_steps_is_freed(run):
    memory = run(calls(method="rk4", step=1e-3), rounds=60)["memory"]
    assert memory[-1] == memory[9]
