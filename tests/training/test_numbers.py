"""Which coefficients of an equation are one, or the same number."""

import numpy as np
import pytest

import pynode as pn
from pynode.training.equations.bends import Bend
from pynode.training.equations.numbers import Numbers, numbers_in, simplified, told
from pynode.training.equations.sparse_field import sparse_field
from pynode.training.equations.terms import Term, polynomials

NONE = (0, 0)
V = Term((0, 1), "", NONE)
X = Term((1, 0), "", NONE)
BOTH = Term((1, 1), "", NONE)
BENT = Term((2, 1), "", NONE)
SQUARE = Term((0, 2), "", NONE)


def of(terms, theta, deviation):
    return simplified(terms, np.array(theta, dtype=float), np.diag(np.broadcast_to(deviation, len(theta)) ** 2.0))


@pytest.mark.parametrize(
    "c, s, exact",
    [
        (1.0007, 0.001, True),
        (1.001, 0.0001, False),  # ten deviations away
        (0.98, 0.02, True),
        (1.2, 0.1, False),  # as likely as not, and not assumed
        (1.0, 0.0, False),  # no deviation is known
        (1.0, np.nan, False),
    ],
)
def test_a_velocity_is_taken_where_the_data_prefer_it(c, s, exact):
    found = of([[V], [X, V]], [c, -2.0, -0.1], [s, 0.01, 0.01])
    assert (found is not None) == exact
    if exact:
        assert found.numbers == Numbers((-1, 0, 1), (1.0, 1.0, 1.0))
        np.testing.assert_allclose(found.theta, [1.0, -2.0, -0.1])


def test_only_another_state_by_itself_is_a_velocity():
    """Where an equation has many terms, nothing else is asked."""
    theta = np.array([1.0, 1.0, 1.0])
    small = np.diag(np.full(3, 1e-6))
    assert simplified([[X], [X, V]], theta, small, few=False) is None  # its own growth
    assert simplified([[SQUARE], [X, V]], theta, small, few=False) is None
    assert simplified([[V, X], [X]], theta, small, few=False).numbers == Numbers((0, 1, -1), (1.0, 1.0, 1.0))


def test_one_number_is_left_to_be_fitted():
    assert of([[V], [X]], [1.0, 1.0], 1e-3).numbers.n == 1
    found = of([[V], [V, X, BENT]], [1.0, 1.0, -1.0, -1.0], 1e-3)
    assert sorted(found.numbers.which) == [-1, -1, 0, 0]  # the last two have a part in it


@pytest.mark.parametrize(
    "off, s, same",
    [
        (1.0, 0.01, True),
        (2.9, 0.01, False),
        (2.9, 0.0001, True),  # what is so near by chance is rare
        (5.0, 0.0001, False),
        (0.0, 1.0, False),  # nearly nothing is known
    ],
)
def test_what_one_state_loses_another_gains(off, s, same):
    """-0.5 x y and 0.5 x y, off by so many deviations of their difference."""
    found = of([[BOTH], [BOTH, V]], [-0.5, 0.5 + off * s * 2**0.5, -0.3], s)
    flows = found is not None and found.numbers == Numbers((0, 0, 1), (1.0, -1.0, 1.0))
    assert flows == same


def test_flows_are_likelier_than_other_terms_of_the_same_number():
    near = [-0.5, 0.5 + 2.5 * 0.01, -0.3]
    assert of([[BOTH], [BOTH, V]], near, 0.01) is not None
    assert of([[BOTH], [X, V]], near, 0.01) is None


def test_a_force_to_a_centre_has_one_number():
    """Although one component by itself may be 1."""
    none = (0,) * 4
    pull = [Term((*none[:i], 1, *none[i + 1 :]), "radial", (1, 1, 0, 0)) for i in (0, 1)]
    v = [Term((*none[:i], 1, *none[i + 1 :]), "", none) for i in (2, 3)]
    found = of([[v[0]], [v[1]], [pull[0]], [pull[1]]], [1.0, 1.0, -1.01, -1.0], 0.004)
    assert found.numbers == Numbers((-1, -1, 0, 0), (1.0, 1.0, 1.0, 1.0))
    assert found.theta[2] == found.theta[3] == pytest.approx(-1.005)


def test_what_holds_once_is_likelier_to_hold_again():
    """Of six decays one is so near to 1 that it is; another, 0.98 +- 0.015, is then 1 as well, and by itself is not."""
    each = [Term(tuple(int(i == j) for j in range(6)), "", (0,) * 6) for i in range(6)]
    square = [Term(tuple(2 * (i == j) for j in range(6)), "", (0,) * 6) for i in range(6)]
    rows = [[each[0]], [square[1]], [each[2]], [square[3]], [square[4]], [square[5]]]
    theta = [-2.3, -0.98, -3.1, -1.0, -5.2, -0.4]
    sure = [1e-3, 0.015, 1e-3, 1e-4, 1e-3, 1e-3]
    assert of(rows, theta, sure).numbers.which == (0, -1, 1, -1, 2, 3)
    assert of(rows, [*theta[:3], -1.7, *theta[4:]], sure) is None


def test_relaxation_oscillator_has_one_number():
    """v' = mu (v - x^2 v) - x: of what follows from other claims the likeliest values are those given these."""
    covariance = np.diag([1e-3, 6e-3, 1e-3, 9e-3]) ** 2
    covariance[1, 3] = covariance[3, 1] = -0.9 * 6e-3 * 9e-3
    theta = np.array([1.0005, 4.99, -0.999, -4.98])
    found = simplified([[V], [V, X, BENT]], theta, covariance)
    assert found.numbers == Numbers((-1, 0, -1, 0), (1.0, 1.0, -1.0, -1.0))
    a = np.array([0, 1, 0, 1.0])
    weight = covariance @ a / (a @ covariance @ a)
    np.testing.assert_allclose(found.theta, [1.0, 4.99 - weight[1] * 0.01, -1.0, -4.98 - weight[3] * 0.01])
    assert found.theta[1] == pytest.approx(-found.theta[3])


def test_the_same_function_of_two_variables_has_one_scale():
    """Two genes that repress each other; a decay has a scale of another kind."""

    def terms(*bends):
        return [
            [X._replace(powers=NONE, function="bend", bend=bends[0]), X],
            [X._replace(powers=NONE, function="bend", bend=bends[1]), V],
        ]

    theta = np.array([4.0, -0.7, 5.0, -0.3, 1.001, 0.998])
    covariance = np.diag([0.02, 0.01, 0.02, 0.01, 0.002, 0.002]) ** 2
    both = terms(Bend("down", 1, 2, 1.001), Bend("down", 0, 2, 0.998))
    found = simplified(both, theta, covariance)
    assert [(claim.one, claim.other) for claim in found.claims] == [(4, 5)]
    assert found.theta[4] == found.theta[5] == pytest.approx(0.9995)
    assert found.numbers == Numbers.free(4)
    words = told(found.claims[0], both, ["x", "v"], theta, np.sqrt(np.diag(covariance)))
    assert words == (
        "K of 1/(1 + (v/1.001)^2) in dx/dt and K of 1/(1 + (x/0.998)^2) in dv/dt are taken to have the same number "
        "(the data say 1.001 +- 0.002 and 0.998 +- 0.002)"
    )
    assert simplified(terms(Bend("down", 1, 2, 1.001), Bend("decay", 0, 1, 0.998)), theta, covariance) is None


def test_a_scale_that_is_hardly_known_stays_positive():
    """A claim moves what is correlated with it: here 0.9 deviations of a scale of 1 +- 2."""
    terms = [[V], [X._replace(powers=NONE, function="bend", bend=Bend("up", 1, 1, 1.0)), X]]
    theta = np.array([0.99, 3.0, -2.0, 1.0])
    deviation = np.array([0.01, 0.5, 0.1, 2.0])
    correlation = np.eye(4)
    correlation[0, 3] = correlation[3, 0] = -0.9
    found = simplified(terms, theta, correlation * np.outer(deviation, deviation))
    assert found.claims and found.theta[0] == pytest.approx(1.0)
    assert 0.4 < found.theta[3] < 1.0  # linearised it would be 1 - 1.8


def test_claims_that_follow_from_others_change_nothing():
    """Four numbers in a circle: three claims, and the others hold by themselves."""
    found = of([[X, V], [X, V]], [0.7, -0.7, -0.7, 0.7], 1e-3)
    assert found.numbers == Numbers((0, 0, 0, 0), (1.0, -1.0, -1.0, 1.0))
    assert len(found.claims) == 3


def test_a_field_has_the_numbers_that_it_was_made_with():
    terms = polynomials(3, 2)  # of two states and an input
    rng = np.random.default_rng(0)
    chosen = [[terms[k] for k in (1, 4, 7)], [terms[k] for k in (0, 4, 3)]]
    numbers = Numbers((0, 1, -1), (1.0, 1.0, -1.0))
    numbers = Numbers((*numbers.which, 2, 1, -1), (*numbers.factor, 1.0, -1.0, 1.0))
    field = sparse_field(chosen, [[0.3, -0.6, -1.0], [0.2, 0.6, 1.0]], 1, ["x", "y", "u"], numbers)
    assert [p.name for p in field.spec] == ["x: x", "x: x^2", "y: 1"]
    theta = field.init(0)
    np.testing.assert_array_equal(theta, [0.3, -0.6, 0.2])
    y, u = rng.standard_normal((5, 2)), rng.standard_normal((5, 1))
    x = [*y.T, u[:, 0]]
    expected = np.stack(
        [
            0.3 * x[0] - 0.6 * x[0] ** 2 - terms[7].value(x),
            0.2 + 0.6 * x[0] ** 2 + x[2],
        ],
        axis=1,
    )
    np.testing.assert_allclose(field(np.zeros(5), y, theta, u), expected, rtol=1e-14)
    which, C = numbers_in(field, terms, theta)
    assert which[0, [1, 4, 7]].tolist() == [1, 2, -1] and which[1, [0, 4, 3]].tolist() == [3, 2, -1]
    assert (which != 0).sum() == 6
    np.testing.assert_array_equal(C[0, [1, 4, 7]], [0.3, -0.6, -1.0])
    np.testing.assert_array_equal(C[1, [0, 4, 3]], [0.2, 0.6, 1.0])
    again = Numbers.shared([1, 0, 2, -1, 0, 2], [0.3, 0.0, -0.6, -1.0, 0.0, 0.6])
    assert again == Numbers((0, 1, 2, -1, 3, 2), (1.0, 1.0, 1.0, -1.0, 1.0, -1.0))


def test_a_field_of_other_terms_has_no_such_numbers():
    terms = polynomials(2, 2)

    @pn.field(state=2, theta={"k": 2.0})
    def cubic(t, y, th):
        return [y[1], -th.k * y[0] ** 3]

    assert numbers_in(cubic, terms, np.array([2.0])) is None


def test_rows_of_known_numbers_alone():
    constant = Term((0, 0), "", NONE)
    field = sparse_field([[constant], [constant, X]], [[-1.0], [1.0, 2.0]], 0, (), Numbers((-1, -1, 0), (-1.0, 1.0, 1.0)))
    found = field(np.zeros(1), np.array([[3.0, 5.0]]), field.init(0))
    np.testing.assert_array_equal(found, [[-1.0, 7.0]])
