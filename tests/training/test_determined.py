"""What data determine: against the inverse where all is, and by hand where something is not."""

import numpy as np
import pytest

import pynode as pn
from pynode.training.coordinates import Coordinates
from pynode.training.determined import determined


@pn.field(state=1, theta={"a": 2.0, "b": pn.positive(3.0), "c": pn.bounded(0.5, 0.0, 1.0), "d": pn.frozen(1.0)})
def field(t, y, th):
    return -y * th.a


THETA = field.init()
COORDINATES = Coordinates(field.spec, THETA)
X = COORDINATES.x(THETA)


def test_where_all_is_determined_it_is_the_inverse():
    J = np.random.default_rng(0).standard_normal((20, 4))
    found = determined(COORDINATES, X, J.T @ J)
    np.testing.assert_allclose(found.covariance, np.linalg.inv(J.T @ J)[:3, :3], rtol=1e-10)
    assert not found.lost.any()
    assert found.n_lost == 0


@pytest.mark.parametrize("k", range(3))
def test_a_coordinate_without_influence(k):
    J = np.random.default_rng(1).standard_normal((20, 4))
    J[:, k] *= 1e-9
    found = determined(COORDINATES, X, J.T @ J)
    others = np.delete(np.arange(4), k)
    expected = np.linalg.inv(J[:, others].T @ J[:, others])[:2, :2]
    own = np.delete(np.arange(3), k)
    np.testing.assert_allclose(found.covariance[np.ix_(own, own)], expected, rtol=1e-6)
    np.testing.assert_array_equal(np.flatnonzero(found.lost), [k])
    assert found.n_lost == pytest.approx(1.0)


def test_a_sum_is_determined_where_its_parts_are_not():
    J = np.random.default_rng(2).standard_normal((20, 4))
    J[:, 2] = J[:, 1]
    found = determined(COORDINATES, X, J.T @ J)
    np.testing.assert_array_equal(found.lost, [False, True, True])
    assert found.n_lost == pytest.approx(1.0)
    expected = np.linalg.inv(J[:, [0, 1, 3]].T @ J[:, [0, 1, 3]])
    sums = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    np.testing.assert_allclose(sums @ found.covariance @ sums.T, expected[:2, :2], rtol=1e-9)


def test_an_error_that_is_not_determined_is_not_a_parameter():
    J = np.random.default_rng(3).standard_normal((20, 4))
    J[:, 3] = 0.0
    found = determined(COORDINATES, X, J.T @ J)
    assert not found.lost.any()
    assert found.n_lost == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(found.covariance, np.linalg.inv(J[:, :3].T @ J[:, :3]), rtol=1e-9)


def test_rounding_determines_nothing():
    """Data without noise have curvatures so large that their rounding is large too."""
    J = 1e10 * np.random.default_rng(4).standard_normal((20, 4))
    J[:, 0] = 1.0
    found = determined(COORDINATES, X, J.T @ J)
    np.testing.assert_array_equal(found.lost, [True, False, False])


def test_no_coordinates():
    frozen = Coordinates(field.spec, THETA, held=range(4))
    found = determined(frozen, np.empty(0), np.array([[3.0]]))
    assert found.covariance.shape == (0, 0)
    assert found.n_lost == 0
    assert determined(frozen, np.empty(0), np.empty((0, 0))).lost.shape == (0,)
