"""What data determine: against the inverse where all is, and by hand where something is not."""

import numpy as np
import pytest
from scipy.optimize import least_squares

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
    J = 1e16 * np.random.default_rng(4).standard_normal((20, 4))
    J[:, 0] = 1.0
    found = determined(COORDINATES, X, J.T @ J)
    np.testing.assert_array_equal(found.lost, [True, False, False])


def test_no_coordinates():
    frozen = Coordinates(field.spec, THETA, held=range(4))
    found = determined(frozen, np.empty(0), np.array([[3.0]]))
    assert found.covariance.shape == (0, 0)
    assert found.n_lost == 0
    assert determined(frozen, np.empty(0), np.empty((0, 0))).lost.shape == (0,)


@pytest.mark.parametrize("options", [{}, {"initial": [np.nan]}], ids=["plain", "likelihood"])
def test_a_number_that_is_known_to_a_part_in_1e9_hides_no_other(options):
    """A level of 1e6 that is known to 0.006: the rate beside it was not "determined", and the level's error halved."""

    @pn.field(state=1, theta={"k": pn.positive(1.0), "level": pn.positive(9e5)})
    def cooling(t, y, th):
        return [-th.k * (y[0] - th.level)]

    t = np.linspace(0, 10, 60)
    y = 1e6 + 3 * np.exp(-0.4 * t) + 0.02 * np.random.default_rng(5).standard_normal(60)
    model = pn.NeuralODE(field=cooling, random_state=0, **options).fit(t, y)

    def residual(p):
        return 1e6 + p[1] + p[2] * np.exp(-p[0] * t) - y

    best = least_squares(residual, [0.5, 1.0, 2.0], xtol=1e-12)
    error = np.sqrt(np.diag(np.linalg.inv(best.jac.T @ best.jac)) * 2 * best.cost / (60 - 3))
    np.testing.assert_allclose(model.theta_ - [0.0, 1e6], best.x[:2], atol=2e-2 * error[0])
    np.testing.assert_allclose(np.sqrt(np.diag(model.covariance_)), error[:2], rtol=2e-2)
    assert model.report_["warnings"] == []
    assert "determined" not in str(model.summary())


def test_sums_of_numbers_that_are_known_closely_are_still_named():
    @pn.field(state=1, theta={"k": pn.positive(1.0), "a": pn.positive(4e5), "b": pn.positive(5e5)})
    def cooling(t, y, th):
        return [-th.k * (y[0] - th.a - th.b)]

    t = np.linspace(0, 10, 60)
    y = 1e6 + 3 * np.exp(-0.4 * t) + 0.02 * np.random.default_rng(5).standard_normal(60)
    with pytest.warns(pn.fit.FitWarning, match="do not determine a"):
        model = pn.NeuralODE(field=cooling, initial=[np.nan], random_state=0).fit(t, y)
    assert np.isnan(np.diag(model.covariance_)).tolist() == [False, True, True]
    assert "a + b is determined" in " ".join(str(model.summary()).split())
