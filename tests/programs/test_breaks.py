"""The times at which a traced program of t changes its form."""

import pickle
import warnings

import numpy as np
import pytest

import pynode as pn
from pynode.programs.program import Program

CASES = {
    "greater": (lambda t: np.where(t > 2.5, 1.0, 0.0), [2.5]),
    "less or equal": (lambda t: (t <= 2.5) * 1.0, [2.5]),
    "the number first": (lambda t: np.where(2.5 < t, 1.0, 0.0), [2.5]),  # noqa: SIM300
    "pulse": (lambda t: np.where((t > 1) & (t < 1.25), 3.0, 0.0), [1.0, 1.25]),
    "or, not": (lambda t: np.where(~((t < 1) | (t > 2)), 1.0, 0.0), [1.0, 2.0]),
    "affine": (lambda t: np.where(2 * t - 3 > 4, 1.0, 0.0), [3.5]),
    "quotient": (lambda t: np.where((t - 1) / 4 > 0.5, 1.0, 0.0), [3.0]),
    "negative slope": (lambda t: np.where(5 - t > 0, 1.0, 0.0), [5.0]),
    "both sides": (lambda t: np.where(3 * t > t + 1, 1.0, 0.0), [0.5]),
    "heaviside": (lambda t: np.heaviside(t - 2, 0.5), [2.0]),
    "sign": (lambda t: np.sign(t - 2), [2.0]),
    "kink": (lambda t: np.maximum(t - 2, 0), [2.0]),
    "relu": (lambda t: pn.relu(t - 2), [2.0]),
    "absolute value": (lambda t: np.abs(t + 2), [-2.0]),
    "window": (lambda t: np.where(np.abs(t - 5) < 0.5, 1.0, 0.0), [4.5, 5.0, 5.5]),
    "square": (lambda t: np.where((t - 5) ** 2 < 0.25, 1.0, 0.0), [4.5, 5.5]),
    "ramp": (lambda t: np.clip(t - 1, 0, 2), [1.0, 3.0]),
    "trapezoid": (lambda t: np.minimum(np.clip(t - 1, 0, 1), np.clip(5 - t, 0, 1)), [1, 2, 3, 4, 5]),
    "nested": (lambda t: np.where(t < 1, 0.0, np.where(t < 2, 1.0, 2.0)), [1.0, 2.0]),
    "vector": (lambda t: np.sum(t > np.array([1.0, 2.0, 4.0])), [1.0, 2.0, 4.0]),
    "list": (lambda t: sum(np.where((t > a) & (t < a + 0.1), 1.0, 0.0) for a in range(3)), [0, 0.1, 1, 1.1, 2, 2.1]),
    "zero": (lambda t: np.where(t > 0, 1.0, 0.0), [0.0]),
    "inside a function": (lambda t: np.exp(-np.maximum(t - 1, 0.0)) * np.sin(t), [1.0]),
    "smooth": (lambda t: np.sin(t) + t**2, []),
    "never": (lambda t: np.where(t**2 + 1 < 0, 1.0, t), []),
    "not a polynomial": (lambda t: np.where(np.sin(t) > 0.5, 1.0, 0.0), []),
}


def field_of(g):
    return pn.field(state=1)(lambda t, y: -y * (1 + g(t)))


@pytest.mark.parametrize("name", CASES)
def test_times(name):
    g, expected = CASES[name]
    found = field_of(g).program.breaks
    missing = [a for a in expected if not np.isclose(found[:, 0], a, rtol=1e-15, atol=1e-15).any()]
    assert not missing
    if name not in ("trapezoid",):  # branches give more times than there are kinks; those are harmless
        assert len(found) == len(expected)
    for time, size in found:
        assert size >= abs(time)


def test_other_variables_are_left_out():
    @pn.field(state=2, theta={"a": 1.0}, inputs=1)
    def f(t, y, th, u):
        return [np.maximum(t, th.a) + np.maximum(y[0], t), np.where(t - u[0] > 0, 1.0, 0.0) + np.abs(y[1] - 2)]

    assert f.program.breaks.shape == (0, 2)


SMALL = pn.mlp(1, (3,), 1, activation="elu")
COMPARED = {
    "t > a": (lambda t, y, th: np.where(t > th.a, 1.0, 0.0) * y, True),
    "t - a > 0": (lambda t, y, th: np.where(t - th.a > 0, 1.0, 0.0) * y, True),
    "scaled": (lambda t, y, th: np.where(2 * (t - th.a) / 3 <= 1, 1.0, 0.0) * y, True),
    "sign": (lambda t, y, th: np.sign(t - th.a) * y, True),
    "window": (lambda t, y, th: np.where((t > th.a) & (t < th.a + 1), 1.0, 0.0) * y, True),
    "kink": (lambda t, y, th: np.maximum(t - th.a, 0.0) * y, False),
    "smooth": (lambda t, y, th: pn.sigmoid(t - th.a) * y, False),
    "network": (lambda t, y, th: th.net(t) * y, False),
    "number": (lambda t, y, th: np.where(t > 1, th.a, 0.0) * y, False),
    "state": (lambda t, y, th: np.where(t > y + th.a, 1.0, 0.0), False),
    "no time": (lambda t, y, th: np.where(y > th.a, 1.0, 0.0), False),
}


@pytest.mark.parametrize("name", COMPARED)
def test_times_that_are_parameters_are_said_to_be_unknown(name):
    f, warns = COMPARED[name]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pn.field(state=1, theta={"a": 1.0, "net": SMALL}, name="dosed")(f)
    assert [str(w.message)[:34] for w in said] == ["dosed compares t with a parameter:"] * warns


def test_elements_are_told_apart():
    """A vector of which only some elements are functions of t alone."""

    @pn.field(state=2)
    def f(t, y):
        return np.maximum(np.stack([t - 1, y[1]]), 0.0) + np.where(np.concatenate([y, np.stack([t])]) > 2, 1.0, 0.0)[1:]

    assert f.program.breaks[:, 0].tolist() == [1.0, 2.0]


def test_more_branches_than_are_followed():
    f = field_of(lambda t: np.abs(sum(np.abs(t - a) * (1 + a) for a in np.linspace(0, 0.9, 7)) - 30.0))
    assert set(np.linspace(0, 0.9, 7)) <= set(f.program.breaks[:, 0])


def test_programs_made_of_programs_keep_them():
    """Nothing has to be carried along: the times are read from the instructions."""
    pulse = field_of(CASES["pulse"][0])
    times = pulse.program.breaks

    @pn.field(state=1, theta={"f": pulse})
    def around(t, y, th):
        return th.f(t, y)

    @pn.field(state=1)
    def closed(t, y):
        return 2 * pulse(t, y)

    later = pn.field(state=1)(lambda t, y: pulse(t - 10.0, y))
    for program in (
        around.program,
        closed.program,
        pulse.vjp_program,
        pulse.backsolve_program,
        pulse.interpolating_program,
        pickle.loads(pickle.dumps(pulse)).program,
        Program.from_dict(pulse.program.to_dict()),
        pn.System(pulse).program,
    ):
        assert np.array_equal(program.breaks[:, 0], times[:, 0])
    np.testing.assert_allclose(later.program.breaks[:, 0], [11.0, 11.25], rtol=1e-15)
