"""Conjugate gradients against dense solutions."""

import numpy as np

from pynode.optim.conjugate_gradients import conjugate_gradients


def spd(n, rng, spread=100.0):
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return (Q * np.geomspace(1.0, spread, n)) @ Q.T


def test_solution_is_that_of_dense_equations():
    rng = np.random.default_rng(0)
    A, b = spd(40, rng), rng.standard_normal(40)
    M = np.diag(A)
    x, n = conjugate_gradients(lambda v: A @ v, b, lambda r: r / M, forcing=1e-12, most=200)
    assert n <= 80
    np.testing.assert_allclose(x, np.linalg.solve(A, b), rtol=1e-9)


def test_an_exact_preconditioner_needs_one_iteration():
    rng = np.random.default_rng(1)
    A, b = spd(30, rng, 1e6), rng.standard_normal(30)
    inverse = np.linalg.inv(A)
    x, n = conjugate_gradients(lambda v: A @ v, b, lambda r: inverse @ r)
    assert n == 1
    np.testing.assert_allclose(A @ x, b, atol=1e-6)


def test_stops_early_where_asked():
    rng = np.random.default_rng(3)
    A, b = spd(50, rng, 1e4), rng.standard_normal(50)
    _, n = conjugate_gradients(lambda v: A @ v, b, lambda r: r, forcing=1e-10, most=7)
    assert n == 7
