"""Functions that share parameters by name."""

import numpy as np
import pytest

import pynode as pn
from pynode.experiments.parts import function, over, union


@pn.field(state=2, theta={"a": 2.0, "w": np.array([1.0, 2.0, 3.0]), "V": pn.positive(4.0)})
def field(t, y, th):
    return [-th.a * y[0], th.w[0] * y[0] + th.w[2] - y[1] / th.V]


@pn.field(state=2, out=1, theta={"V": pn.positive(4.0), "s": 0.5, "a": 2.0})
def observe(t, y, th):
    return th.s * y[:1] / th.V + th.a * t


Y = np.array([0.3, 0.7])


def test_union_keeps_the_first_and_adds_what_is_new():
    spec = union([field, observe])
    assert [p.name for p in spec] == ["a", "w", "V", "s"]
    assert [p.offset for p in spec] == [0, 1, 4, 5]
    assert union([field]) == field.spec


def test_over_is_the_same_function():
    spec = union([field, observe])
    theta = np.array([2.5, 1.0, 2.0, 3.0, 5.0, 0.7])
    np.testing.assert_array_equal(over(spec, field)(0.1, Y, theta), field(0.1, Y, theta[:5]))
    np.testing.assert_array_equal(over(spec, observe)(0.1, Y, theta), observe(0.1, Y, theta[[4, 5, 0]]))
    assert over(spec, field).spec == spec
    assert over(field.spec, field) is field


def test_over_of_a_field_without_parameters():
    @pn.field(state=2)
    def plain(t, y):
        return -y

    np.testing.assert_array_equal(over(field.spec, plain)(0.0, Y, field.init()), -Y)
    np.testing.assert_array_equal(over((), plain)(0.0, Y), -Y)


@pytest.mark.parametrize(
    ("theta", "words"),
    [
        ({"V": 4.0}, "parameter V of other has constraint"),
        ({"V": pn.positive(3.0)}, "parameter V of other has init"),
        ({"w": np.ones(2)}, "parameter w of other has shape"),
        ({"w": np.ones(3)}, "parameter w of other has init"),
        ({"V": pn.frozen(4.0)}, "parameter V of other has constraint"),
    ],
)
def test_parameters_of_one_name_must_be_alike(theta, words):
    name = next(iter(theta))

    @pn.field(state=2, theta=theta)
    def other(t, y, th):
        return y * getattr(th, name).sum() if name == "w" else y * th.V

    with pytest.raises(ValueError, match=words):
        union([field, other])


# ---- Functions of a user


def test_a_function_sees_the_parameters_of_the_field():
    made = function("observe", lambda t, y, th: [y[1] / th.V, th.w.sum() * t], field, None, ("t", "y", "th", "u"))
    assert made.n_out == 2
    assert made.spec == field.spec
    theta = np.array([2.5, 1.0, 2.0, 3.0, 5.0])
    np.testing.assert_allclose(made(0.5, Y, theta), [0.7 / 5, 3.0])


def test_a_function_of_a_field_without_parameters_has_none():
    @pn.field(state=2)
    def plain(t, y):
        return -y

    made = function("observe", lambda t, y: y[0] ** 2, plain, None, ("t", "y", "th", "u"))
    np.testing.assert_allclose(made(0.0, Y), [0.09])


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (lambda y: y, r"observe is called as observe\(t, y, th\)"),
        (lambda t, y, th, u: y, r"observe is called as observe\(t, y, th\)"),
        (lambda t, y, th: th.nothing, "nothing"),
        (lambda t, y, th: y[2], "2"),
        (lambda t, y, th: "text", "observe"),
        (lambda t, y, th: None, "observe"),
        (lambda t, y, th: [], "observe"),
        (lambda t, y, th: float(y[0]), "observe|traced"),
        (lambda t, y, th: y if y[0] > 0 else -y, "if|traced"),
    ],
)
def test_a_function_that_cannot_be_used(fn, words):
    with pytest.raises((TypeError, ValueError, AttributeError, IndexError), match=words):
        function("observe", fn, field, None, ("t", "y", "th", "u"))
