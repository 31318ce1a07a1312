"""Fields and their derivatives on one row: the short way gives what the checked one gives, and refuses what that refuses."""

import numpy as np
import pandas as pd
import pytest

import pynode as pn
from pynode.programs.program import Program


@pn.field(state=["q", "p"], theta={"k": 2.0, "c": 0.1}, inputs=1)
def driven(t, y, th, u):
    return [y[1], -th.k * np.sin(y[0]) - th.c * y[1] + u[0] * np.cos(t)]


@pn.field(state=1)
def alone(t, y):
    return -y


NET = pn.mlp(3, (4, 4))
Y, U = np.array([0.3, -0.2]), np.array([0.7])
THETA, DIRECTION = driven.init(), np.array([-0.2, 0.3])


def calls(t=0.5, y=Y, theta=THETA, u=U, v=DIRECTION):
    """Everything that is called with (t, y, theta): name -> function."""
    net_theta = NET.init(0)
    return {
        "field": lambda: driven(t, y, theta, u),
        "jacobian": lambda: pn.jacobian(driven)(t, y, theta, u),
        "jacobian theta": lambda: pn.jacobian(driven, "theta")(t, y, theta, u),
        "divergence": lambda: pn.divergence(driven)(t, y, theta, u),
        "vjp": lambda: pn.vjp(driven)(t, y, theta, v, u=u),
        "jvp": lambda: pn.jvp(driven)(t, y, theta, v, u=u),
        "jvp all": lambda: pn.jvp(driven)(t, y, theta, v, u=u, dt=1.0, dtheta=np.ones(2), du=np.ones(1)),
        "network": lambda: NET(t, np.ones(3), net_theta),
        "network vjp": lambda: pn.vjp(NET)(t, np.ones(3), net_theta, np.ones(3)),
        "network jvp": lambda: pn.jvp(NET)(t, np.ones(3), net_theta, np.ones(3)),
    }


def parts(value):
    return value if isinstance(value, tuple) else (value,)


def checked(call, monkeypatch):
    """By the way on which everything is checked."""
    with monkeypatch.context() as patch:
        patch.setattr(Program, "row", lambda *args: None)
        return call()


@pytest.mark.parametrize("name", calls())
@pytest.mark.parametrize("t", [0.5, 2, np.float64(0.25), np.array([0.5]), np.array(0.5)])
def test_the_same_numbers(name, t, monkeypatch):
    call = calls(t)[name]
    for now, then in zip(parts(call()), parts(checked(call, monkeypatch)), strict=True):
        assert type(now) is type(then) and now.dtype == then.dtype and now.shape == then.shape
        np.testing.assert_array_equal(now, then)


def test_arrays_that_change(monkeypatch):
    y, u = Y.copy(), U.copy()
    theta = driven.init()
    for array in (y, theta, u):
        array *= 1.5
        for call in calls(0.5, y, theta, u).values():
            for now, then in zip(parts(call()), parts(checked(call, monkeypatch)), strict=True):
                np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("name", calls())
def test_results_are_not_shared(name):
    call = calls()[name]
    first = [np.array(x) for x in parts(call())]
    for x in parts(call()):
        x[...] = 7.0
    for now, then in zip(parts(call()), first, strict=True):
        np.testing.assert_array_equal(now, then)
    for x in parts(call()):
        assert not np.shares_memory(x, Y) and not np.shares_memory(x, U)


WRONG = [
    {"t": None},
    {"t": "a"},
    {"t": 10**30},
    {"t": 1j},
    {"t": np.zeros((2, 2))},
    {"y": None},
    {"y": np.ones(3)},
    {"y": np.ones((2, 2, 2))},
    {"y": [1.0, "a"]},
    {"y": np.ones(2, complex)},
    {"y": pd.Series([1.0, 2.0], ["q", "x"])},
    {"y": np.ma.masked_array([1.0, 2.0], [True, False])},
    {"theta": None},
    {"theta": np.ones(3)},
    {"theta": {"k": 1.0}},
    {"theta": pd.Series([1.0, 2.0], ["k", "d"])},
    {"u": None},
    {"u": np.ones(2)},
    {"v": None},
    {"v": np.ones(3)},
    {"y": np.ones((2, 2)), "u": np.ones((3, 1))},
]


@pytest.mark.parametrize("given", WRONG, ids=str)
def test_errors(given, monkeypatch):
    """Those of the checked way, also after a call that was good."""
    names = ["vjp"] if "v" in given else ["field", "jacobian", "vjp", "jvp", "jvp all"]
    names = ["field"] if isinstance(given.get("y"), pd.Series) else names  # the others go by position
    for name in names:
        calls()[name]()
        messages = []
        for run in (lambda call: call(), lambda call: checked(call, monkeypatch)):
            with pytest.raises((ValueError, TypeError)) as caught:
                run(calls(**given)[name])
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


@pytest.mark.parametrize(
    "given",
    [
        {"y": [0.3, -0.2]},
        {"y": pd.Series([-0.2, 0.3], ["p", "q"])},
        {"y": pd.Series([0.3, -0.2])},
        {"y": np.array([0.3, 9.0, -0.2])[::2]},
        {"y": Y.astype(">f8")},
        {"theta": driven.init().tolist()},
        {"theta": {"k": 2.0, "c": 0.1}},
        {"theta": pd.Series([0.1, 2.0], ["c", "k"])},
        {"u": [0.7]},
        {"u": 0.7},
        {"t": True, "u": U * np.cos(0.5) / np.cos(1.0)},
    ],
    ids=str,
)
def test_other_forms(given):
    np.testing.assert_allclose(driven(**{"t": 0.5, "y": Y, "theta": driven.init(), "u": U} | given), calls()["field"]())


def test_single_precision_and_rows():
    y, theta = Y.astype(np.float32), driven.init().astype(np.float32)
    np.testing.assert_allclose(driven(0.5, y, theta, U), calls()["field"](), rtol=1e-6)
    np.testing.assert_array_equal(driven(0.5, Y[None], driven.init(), U[None]), calls()["field"]()[None])
    np.testing.assert_array_equal(driven(0.5, np.stack([Y, Y]), driven.init(), U)[1], calls()["field"]())


def test_not_a_number_goes_through():
    value = NET(0.0, np.array([np.nan, 0.0, 0.0]), NET.init(0))
    assert np.isnan(value).all()
    assert np.isnan(NET(np.inf, np.zeros(3), np.full(NET.n_params, np.nan))).all()


def test_one_number():
    """A state of one number, no parameters, no inputs; derivatives that are zero."""
    for y in (2.0, 2, np.array([2.0]), np.float64(2.0), [2.0]):
        np.testing.assert_array_equal(alone(0.0, y), [-2.0])
    np.testing.assert_array_equal(alone(0.0, np.array([2.0]), None), [-2.0])
    np.testing.assert_array_equal(alone(0.0, np.array([2.0]), np.zeros(0)), [-2.0])
    with pytest.raises(ValueError, match="theta"):
        alone(0.0, np.array([2.0]), np.zeros(1))
    g = pn.vjp(alone)(0.0, np.array([2.0]), np.array([1.0]))
    assert g.t == 0.0 and g.theta.shape == (0,) and g.u.shape == (0,) and g.y.tolist() == [-1.0]
    assert pn.jacobian(alone)(0.0, np.array([2.0])).tolist() == [[-1.0]]


def test_inside_a_trace():
    @pn.field(state=3, theta={"net": NET})
    def outer(t, y, th):
        g = pn.vjp(th.net)(y, np.ones(3))
        return th.net(y) + pn.jvp(th.net)(y, np.ones(3)) + g.y + NET(0.0, y, NET.init(0)) + NET(0.0, np.ones(3), NET.init(0))

    y, theta = np.array([0.1, 0.2, 0.3]), NET.init(1)
    ones, fixed = np.ones(3), NET.init(0)
    expected = NET(0.0, y, theta) + pn.jvp(NET)(0.0, y, theta, ones) + pn.vjp(NET)(0.0, y, theta, ones).y
    expected = expected + NET(0.0, y, fixed) + NET(0.0, ones, fixed)
    np.testing.assert_allclose(outer(0.0, y, theta), expected, rtol=1e-12)


def test_callbacks_are_bound():
    f = pn.callback_field(lambda t, y: -2.0 * y, 2)
    np.testing.assert_array_equal(f(0.0, Y), -2.0 * Y)
