"""Initial states: known, partly known, shared, bounded; and what is refused."""

import numpy as np
import pytest

import pynode as pn
from pynode.experiments.initial import as_initial

NAMES = ("S", "I")


@pn.field(state=2, theta={"a": 2.0, "b": 3.0})
def two(t, y, th):
    return [-th.a * y[0], th.b * y[1]]


@pn.field(state=2, inputs=1, theta={"a": 2.0})
def fed(t, y, th, u):
    return [-th.a * y[0], u[0]]


THETA = two.init()
FREE = np.array([[7.0, 8.0], [9.0, 10.0], [11.0, 12.0]])
FIRST = np.zeros(3)


def states(initial, field=two, u=None):
    made = as_initial(initial, field, 3, NAMES)
    return made, made.states(field.init(), FREE, FIRST, u)


def test_by_default_all_are_free():
    made, y0 = states(None)
    assert made.free.all()
    np.testing.assert_array_equal(y0, FREE)
    assert not made.slopes(THETA, FIRST, None).any()


@pytest.mark.parametrize(
    "initial", [[1.0, np.nan], {"S": 1.0}, {0: 1.0, 1: None}, {"S": pn.frozen(1.0)}, {"S": [1.0, 1.0, 1.0]}]
)
def test_partly_known(initial):
    made, y0 = states(initial)
    np.testing.assert_array_equal(made.free, [[False, True]] * 3)
    np.testing.assert_array_equal(y0, np.stack([np.ones(3), FREE[:, 1]], axis=1))


def test_known_for_each_trajectory():
    made, y0 = states([[1.0, 2.0], [np.nan, 3.0], [np.nan, np.nan]])
    np.testing.assert_array_equal(y0, [[1.0, 2.0], [9.0, 3.0], [11.0, 12.0]])
    np.testing.assert_array_equal(made.free, [[False, False], [True, False], [True, True]])


def test_a_start_is_no_knowledge():
    made, y0 = states({"S": pn.positive(5.0), 1: pn.bounded([1.0, 2.0, 3.0], 0.5, 4.0)})
    assert made.free.all()
    np.testing.assert_array_equal(y0, FREE)
    np.testing.assert_array_equal(made.start, [[5.0, 1.0], [5.0, 2.0], [5.0, 3.0]])
    np.testing.assert_array_equal([made.low, made.high], [[0.0, 0.5], [np.inf, 4.0]])


@pytest.mark.parametrize("how", ["function", "field"])
def test_shared_by_a_formula(how):
    def formula(th):
        return [th.a * th.b, np.nan]

    if how == "field":

        @pn.field(state=2, theta={"a": 2.0, "b": 3.0})
        def formula(t, y, th):
            return [th.a * th.b, np.nan]

    made, y0 = states(formula)
    np.testing.assert_array_equal(made.told, [True, False])
    np.testing.assert_array_equal(y0, np.stack([np.full(3, 6.0), FREE[:, 1]], axis=1))
    np.testing.assert_allclose(made.slopes(THETA, FIRST, None), [[[3.0, 2.0], [0.0, 0.0]]] * 3)


def test_a_formula_of_inputs():
    u = np.array([[1.0], [2.0], [4.0]])
    made, y0 = states(lambda th, u: [th.a * u[0], 1.0], fed, u)
    np.testing.assert_array_equal(y0, [[2.0, 1.0], [4.0, 1.0], [8.0, 1.0]])
    np.testing.assert_allclose(made.slopes(fed.init(), FIRST, u)[:, 0, 0], u[:, 0])
    assert not made.free.any()


class Picky:
    """A formula that looks at its values, which tracing cannot follow."""

    def __call__(self, th):
        return [1.0 if th.a > 1 else 2.0, 0.0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("zero", "initial"),
        (5.0, r"initial has shape \(\): give \(2,\) or \(3, 2\)"),
        ([1.0], r"initial has shape \(1,\)"),
        ([1.0, 2.0, 3.0], r"initial has shape \(3,\)"),
        (np.ones((2, 2)), r"initial has shape \(2, 2\)"),
        (np.ones((3, 2, 1)), r"initial has shape \(3, 2, 1\)"),
        ([1.0, np.inf], "initial=.* must be finite"),
        ([1.0, 1j], "initial"),
        ([True, False], "initial"),
        (["a", "b"], "initial"),
        ({"R": 1.0}, "'R' is not a state; they are S, I"),
        ({2: 1.0}, "2 is not a state"),
        ({-1: 1.0}, "-1 is not a state"),
        ({True: 1.0}, "True is not a state"),
        ({0.5: 1.0}, "0.5 is not a state"),
        ({"S": "one"}, "initial of S"),
        ({"S": True}, "initial of S"),
        ({"S": np.inf}, "initial of S=inf must be finite"),
        ({"S": [1.0, 2.0]}, r"initial of S has shape \(2,\)"),
        ({"S": 1.0, 0: 2.0}, "state 0 is there twice"),
        (lambda th: [th.a], "initial"),
        (lambda th: th.c, "c"),
        (lambda t, y, th: [th.a, th.b], r"initial is called as initial\(th\)"),
        (Picky(), "if"),
        (two, None),
    ],
)
def test_refused(wrong, words):
    if words is None:
        as_initial(wrong, two, 3, NAMES)  # a field is a formula
        return
    with pytest.raises((TypeError, ValueError, AttributeError), match=words):
        as_initial(wrong, two, 3, NAMES)


def test_a_formula_of_other_size_is_refused():
    @pn.field(state=1, theta={"a": 2.0, "b": 3.0})
    def one(t, y, th):
        return [th.a]

    with pytest.raises(ValueError, match="it must give the 2 initial states"):
        as_initial(one, two, 3, NAMES)


@pytest.mark.parametrize("value", [pn.positive(1.0), pn.bounded(1.0, 0.0, 2.0)])
def test_a_start_out_of_its_bounds_is_refused(value):
    shifted = value._replace(value=np.array([1.0, 3.0, -1.0]))
    with pytest.raises(ValueError, match="initial of S must start between 0 and"):
        as_initial({"S": shifted}, two, 3, NAMES)
