"""Many small least-squares problems side by side."""

import numpy as np
import pytest

import pynode as pn
from pynode.optim.batched import minimise_each
from pynode.training.initial_states import estimate_states
from pynode.training.windows import Data


def rosenbrock(scale):
    """Residuals (10 (x_1 - x_0^2), s - x_0) of problem i, s = scale[i]."""

    def evaluate(x):
        r = np.stack([10 * (x[:, 1] - x[:, 0] ** 2), scale - x[:, 0]], axis=1)
        J = np.zeros((len(x), 2, 2))
        J[:, 0] = np.stack([-20 * x[:, 0], np.full(len(x), 10.0)], axis=1)
        J[:, 1, 0] = -1.0
        return 0.5 * (r * r).sum(axis=1), np.einsum("nci,nc->ni", J, r), np.einsum("nci,ncj->nij", J, J)

    return evaluate


SCALE = np.array([1.0, -2.0, 0.3, 3.0])
START = np.array([[-1.2, 1.0]] * 4)


def test_each_is_minimised_as_if_alone():
    found = minimise_each(rosenbrock(SCALE), START, max_iter=200, tol=1e-14)
    np.testing.assert_allclose(found.x, np.stack([SCALE, SCALE**2], axis=1), atol=1e-8)
    for i, s in enumerate(SCALE):
        alone = minimise_each(rosenbrock(SCALE[i : i + 1]), START[i : i + 1], max_iter=200, tol=1e-14)
        np.testing.assert_array_equal(alone.x[0], found.x[i])
        np.testing.assert_array_equal(alone.matrix[0], found.matrix[i])
        assert found.x[i, 0] == pytest.approx(s)


def test_values_never_rise_and_steps_have_their_longest_length():
    seen = []

    def evaluate(x):
        seen.append(x.copy())
        return rosenbrock(SCALE)(x)

    values = [minimise_each(evaluate, START, max_iter=n, longest=0.1).value for n in range(12)]
    assert (np.diff(values, axis=0) <= 0).all() and (values[-1] < values[0]).all()
    steps = np.linalg.norm(np.diff(seen[-12:], axis=0), axis=2)  # from a point that was refused, at most twice as far
    assert steps.max() < 0.2 + 1e-12


def test_a_problem_that_fails_stays_where_it_starts_and_harms_no_other():
    def evaluate(x):
        value, gradient, matrix = rosenbrock(SCALE)(x)
        lost = np.arange(4) == 2
        value[lost] = np.nan
        gradient[lost] = np.nan
        matrix[lost] = np.inf
        far = np.abs(x[:, 0]) > 2.5  # a wall that the last one would have to pass
        value[far] = np.inf
        return value, gradient, matrix

    found = minimise_each(evaluate, START, max_iter=200)
    assert found.failed.tolist() == [False, False, True, False] and found.value[2] == np.inf
    np.testing.assert_array_equal(found.x[2], START[2])
    np.testing.assert_array_equal(found.matrix[2], np.eye(2))
    np.testing.assert_allclose(found.x[:2, 0], SCALE[:2], atol=1e-6)
    assert 2 < found.x[3, 0] <= 2.5


def test_what_nothing_tells_stays():
    def evaluate(x):  # of two coordinates only the first counts
        r = x[:, 0] - 1.0
        matrix = np.zeros((len(x), 2, 2))
        matrix[:, 0, 0] = 1.0
        return 0.5 * r * r, np.stack([r, 0 * r], axis=1), matrix

    found = minimise_each(evaluate, np.array([[0.0, 7.0]]))
    assert found.x[0, 0] == pytest.approx(1.0) and found.x[0, 1] == 7.0


def test_no_problems():
    found = minimise_each(lambda x: (x.sum(axis=1), x, np.zeros((0, 3, 3))), np.zeros((0, 3)))
    assert found.x.shape == (0, 3) and found.failed.shape == (0,)


def test_initial_states_beside_one_that_cannot_be_solved():
    @pn.field(state=1)
    def explode(t, y):
        return y * y

    t = np.linspace(0.0, 1.0, 8)
    y = pn.solve(explode, [0.5], t).y
    start = np.array([[0.4], [3.0]])
    weight = np.array([1e4])
    prior = np.full((2, 1), 1e-2)
    with np.errstate(all="ignore"):
        found, covariance = estimate_states(explode, np.zeros(0), Data([t, t], [y, y]), start, weight, prior)
    alone, alone_covariance = estimate_states(explode, np.zeros(0), Data([t], [y]), start[:1], weight, prior[:1])
    assert found[0, 0] == pytest.approx(0.5, abs=1e-4) and found[0, 0] == pytest.approx(alone[0, 0], abs=1e-12)
    assert covariance[0] == pytest.approx(alone_covariance[0], rel=1e-9)
    assert found[1, 0] == 3.0 and covariance[1, 0, 0] == pytest.approx(100.0)
