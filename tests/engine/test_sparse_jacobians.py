"""Patterns of Jacobians, and solves on them: against numerical Jacobians, full matrices in NumPy, SciPy, differences."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import pynode as pn
from pynode.fields.implicit import jacobian_field

TABLE = pn.METHODS["rodas5p"]
PICK = np.array([3, 0, 5, 5, 1, 2])


def _neighbours(t, y, th):
    return th.p * (np.concatenate([y[1:], y[:1]]) - y) * y


def _picked(t, y, th):
    return np.sin(t) * y[PICK] * th.p + np.where(y > 0, y**2, np.exp(y))


def _matrix(t, y, th):
    return (np.eye(6, k=2) - np.eye(6)) @ (y * y) * th.p[0]


def _branches(t, y, th):
    return np.concatenate([np.maximum(y[:3], y[3:]), y[:2] * th.p[:2], np.sum(y[:2])[None]])


def _network(t, y, th):
    return np.tanh(np.outer(th.p, th.p) @ y)


@pytest.mark.parametrize("rates", [_neighbours, _picked, _matrix, _branches, _network])
def test_entries_are_those_of_a_numerical_jacobian(rates):
    f = pn.field(state=6, theta={"p": np.ones(6)})(rates)
    made = jacobian_field(f, False)
    rng = np.random.default_rng(0)
    for _ in range(5):
        y = rng.normal(size=6)
        p = rng.normal(size=6)
        t = 0.3
        value = np.asarray(made.field(t, y, p))
        got = np.zeros((6, 6))
        rows, cols = np.divmod(np.arange(36), 6) if made.pattern is None else made.pattern
        got[rows, cols] = value[: len(rows)]
        move = 1e-6 * np.eye(6)
        want = np.stack([(np.asarray(f(t, y + e, p)) - np.asarray(f(t, y - e, p))) / 2e-6 for e in move], axis=1)
        np.testing.assert_allclose(got, want, atol=1e-7)
    assert (made.pattern is None) == (rates is _network)


def _linear(A):
    rows = [np.flatnonzero(r) for r in A]
    return pn.field(state=len(A))(
        lambda t, y: [sum((float(A[i, j]) * y[j] for j in r), 0.0 * y[i]) for i, r in enumerate(rows)]
    )


def _step(A, M, y, h):
    W = M - TABLE["gamma"] * h * A
    k = []
    for i in range(len(TABLE["b"])):
        state = y + h * sum(TABLE["a"][i][j] * k[j] for j in range(i))
        carried = M @ sum((TABLE["coupling"][i][j] * k[j] for j in range(i)), np.zeros(len(y)))
        k.append(np.linalg.solve(W, TABLE["gamma"] * (A @ state + carried)))
    return y + h * sum(b * x for b, x in zip(TABLE["b"], k, strict=True))


@pytest.mark.parametrize("d", [5, 12, 40])
@pytest.mark.parametrize("spread", [1.0, 3.0])
@pytest.mark.parametrize("n", [1, 23])
def test_random_linear_systems(d, spread, n):
    rng = np.random.default_rng(d)
    A = rng.normal(size=(d, d)) * (rng.random((d, d)) < 2.5 / d) * 10.0 ** rng.uniform(-2, spread, (d, d))
    y0 = rng.normal(size=(n, d))
    got = pn.solve(_linear(A), y0, [0, 0.1], method="rodas5p", step=0.1).y[:, -1]
    want = np.array([_step(A, np.eye(d), y, 0.1) for y in y0])
    np.testing.assert_allclose(got, want, atol=1e-11 * np.abs(want).max())


@pytest.mark.parametrize("n", [1, 11])
def test_algebraic_equations_off_the_diagonal(n):
    """Rows of the mass are 0, and so are the diagonal entries of J there: equations have to change places."""
    rng = np.random.default_rng(1)
    d = 9
    A = rng.normal(size=(d, d)) * (rng.random((d, d)) < 0.3)
    A[6:] = 0
    A[[6, 7, 8, 6, 7, 8], [7, 8, 6, 0, 1, 2]] = [1.5, -2.0, 1.2, 0.3, 0.4, -0.6]
    M = np.diag([1.0] * 6 + [0.0] * 3)
    differential = rng.normal(size=(n, 6))
    y0 = np.concatenate([differential, np.linalg.solve(A[6:, 6:], -A[6:, :6] @ differential.T).T], axis=1)
    got = pn.solve(_linear(A), y0, [0, 0.1], method="rodas5p", step=0.1, mass=M).y[:, -1]
    np.testing.assert_allclose(got, [_step(A, M, y, 0.1) for y in y0], atol=1e-12)


def brusselator(m):
    """Reaction and diffusion on a line, 2 m equations."""

    @pn.field(state=2 * m, theta={"p": np.ones(3)})
    def f(t, y, th):
        u = y[0::2]
        v = y[1::2]
        p = th.p

        def spread(w, edge):
            return np.concatenate([edge * np.ones(1), w[:-1]]) - 2 * w + np.concatenate([w[1:], edge * np.ones(1)])

        born = u * u * v
        rate = p[2] * (m + 1) ** 2
        du = p[0] + born - (p[1] + 1) * u + rate * spread(u, 1.0)
        return np.stack([du, p[1] * u - born + rate * spread(v, 3.0)], 1).reshape(2 * m)

    return f, np.stack([1 + np.sin(2 * np.pi * np.arange(1, m + 1) / (m + 1)), np.full(m, 3.0)], 1).ravel()


RATES = np.array([1.0, 3.0, 0.02])


def test_two_hundred_equations_against_scipy():
    f, y0 = brusselator(100)
    made = jacobian_field(f, False)
    assert made.pattern.shape == (2, 796)
    assert len(made.field.program.instructions) < 150  # 5 pushforwards, not 200
    sparsity = np.zeros((200, 200))
    sparsity[tuple(made.pattern)] = 1
    y = pn.solve(f, y0, [0, 1.0], RATES, method="rodas5p", rtol=1e-9, atol=1e-9).y[-1]
    options = {"rtol": 1e-9, "atol": 1e-10, "jac_sparsity": sparsity}
    want = solve_ivp(lambda t, y: np.asarray(f(t, y, RATES)), (0, 1.0), y0, "Radau", **options).y[:, -1]
    np.testing.assert_allclose(y, want, atol=1e-6)


def test_gradients_of_two_hundred_equations():
    f, y0 = brusselator(100)
    options = {"method": "rodas5p", "step": 0.05}
    target = np.ones((2, 200))
    back = pn.loss_and_grad(f, y0, [0, 1.0], RATES, target, **options)
    for i, e in enumerate(1e-5 * np.eye(3)):
        up, down = (pn.loss_and_grad(f, y0, [0, 1.0], RATES + s * e, target, **options).loss for s in (1, -1))
        np.testing.assert_allclose(back.theta[i], (up - down) / 2e-5, rtol=1e-6)
    exact = pn.sensitivities(f, y0, [0, 1.0], RATES, **options)
    off = exact.solution.y - target
    slope = np.einsum("tc,tcp->p", 2 * off, exact.theta) * back.loss / np.sum(off**2)  # whatever the mean is over
    np.testing.assert_allclose(back.theta, slope, rtol=1e-8)
