"""What data determine only together, on functions whose combinations are known."""

import numpy as np
import pytest

from pynode.training.likelihood.identifiable import undetermined

T = np.linspace(0, 3, 9)
PRECISION = 1e4


def found(f, theta, ask=True):
    theta = np.array(theta, dtype=float)
    J = np.stack([f(theta + 1e-20j * e).imag / 1e-20 for e in np.eye(len(theta))], axis=1)

    def rise(which, values):
        moved = theta.copy()
        moved[which] = values
        return float(PRECISION * np.sum((f(moved) - f(theta)) ** 2))

    return undetermined("abcd", theta, PRECISION * J.T @ J, rise if ask else None)


@pytest.mark.parametrize(
    "f, theta, names",
    [
        (lambda p: np.exp(-(p[0] + p[1]) * T), [1, 1], ("a + b",)),
        (lambda p: np.exp(-p[0] * p[1] * T), [1, 1], ("a * b",)),
        (lambda p: np.exp(-(p[0] + p[1]) * T), [1, 2], ("a + b",)),
        (lambda p: np.exp(-p[0] * p[1] * T), [1, 2], ("a * b",)),
        (lambda p: p[2] * np.exp(-(p[0] - p[1]) * T), [3, 2, 5], ("a - b",)),
        (lambda p: np.exp(-(p[0] + 2 * p[1]) * T), [1.3, 2.7], ("a + 2 b",)),
        (lambda p: p[2] * np.exp(-(p[0] ** 2) * p[1] * T), [-1.3, 0.27, 1], ("a^2 * b",)),
        (lambda p: np.exp(-p[0] * p[1] * p[2] * T), [3, 2, 5], ("a * b * c",)),
        (lambda p: np.exp(-p[0] / (p[1] * p[2]) * T), [3, 2, 5], ("a / (b * c)",)),
    ],
)
def test_names(f, theta, names):
    (group,) = found(f, theta)
    assert group.combinations == names
    assert not group.known
    assert group.words("abcd").startswith(f"only {names[0]} is determined by the data, not a")


def test_two_combinations_of_three():
    (group,) = found(lambda p: p[2] * p[0] * np.exp(-p[0] * p[1] * T), [3, 2, 5])
    span = {"a * b", "b / c", "a * c"}
    assert len(group.combinations) == 2
    assert set(group.combinations) < span
    assert "are determined by the data, not a, b and c by themselves" in group.words("abcd")


def test_numbers_of_very_different_sizes_have_no_sum():
    theta = np.array([8e-4, 1e12])
    known = np.array([1.0, -1.0]) / theta  # a / b

    def rise(which, values):
        return 1e-4 * np.abs(values / theta - 1).max()

    (group,) = undetermined("ab", theta, 1e5 * np.outer(known, known), rise)
    assert group.combinations == ("a / b",)


def test_a_quotient_that_is_a_whole_number_by_chance_is_no_difference():
    theta = np.array([3.0, 1.0])
    known = np.array([1.0, -1.0]) / theta  # a / b

    def rise(which, values):
        return 1e-6 if values[0] > 4.6 else 1e-9  # rounding: a product moves to 3 exp(0.5), a sum to 4.5

    (group,) = undetermined("ab", theta, 1e5 * np.outer(known, known), rise)
    assert group.combinations == ("a / b",)


def test_two_groups():
    groups = found(lambda p: (p[2] + p[3]) * np.exp(-p[0] * p[1] * T), [1, 1, 2, 3])
    assert sorted(group.combinations for group in groups) == [("a * b",), ("c + d",)]


def test_what_has_no_name_is_described():
    (group,) = found(lambda p: np.exp(-(p[0] + 2.37 * p[1]) * T), [1.3, 2.7])
    assert group.combinations == ()
    assert "a and b are not determined by themselves: where they change together (a +10 %, b -2 %)" in group.words("ab")


def test_names_need_more_than_a_direction():
    """At a = b the null vectors of a + b and a b are the same; only a trial tells."""
    f = lambda p: np.exp(-(p[0] + p[1]) * T)  # noqa: E731
    assert found(f, [1, 1])[0].combinations == ("a + b",)
    assert found(f, [1, 1], ask=False)[0].combinations in (("a + b",), ("a * b",))


def test_poorly_known_directions():
    """V t / (K + t) far below K: V / K, hardly more."""
    (group,) = found(lambda p: p[0] * T / (300 * p[1] + T) * 100, [1.3, 2.7])
    assert group.combinations == ("a / b",)
    assert group.known
    assert group.words("VK").startswith("hardly more than a / b is determined")


def test_all_is_determined_or_nothing_is():
    assert found(lambda p: p[1] * np.exp(-p[0] * T), [1, 2]) == []
    assert found(lambda p: np.exp(-p[0] * T) + 0 * p[1], [1, 2]) == []  # b alone: no combination
