"""Products with sums of matrices that change with t or y are taken term by term: values and derivatives of every kind
against the complex step, and the instructions that they become."""

import re

import numpy as np
import pytest

import pynode as pn
from pynode.programs.derivatives import vjp_program

D = 6
STEP = 1e-30
S = np.triu(np.ones((D, D)), 1) - 0.5 * np.eye(D)[::-1]
T = 0.7
Y = np.linspace(-0.8, 1.1, D)
V = np.linspace(0.3, -0.4, D)
THETA = 0.5 * np.random.default_rng(0).standard_normal(2 * D * D)

# what is written -> how many products with matrices of parameters, with their transposes, and with other matrices
SUMS = {
    "W0 + t W1": (lambda t, y, A, B: (A + t * B) @ y, 2, 0, 0),
    "W0 - y0 W1": (lambda t, y, A, B: (A - y[0] * B) @ y, 2, 0, 0),
    "t W": (lambda t, y, A, B: (t * A) @ y + B @ y, 2, 0, 0),
    "-(W0 + t W1)": (lambda t, y, A, B: -(A + t * B) @ y, 2, 0, 0),
    "W1 t - W0": (lambda t, y, A, B: (B * t - A) @ y, 2, 0, 0),
    "transposed": (lambda t, y, A, B: (A + t * B).T @ y, 0, 2, 0),
    "one transposed": (lambda t, y, A, B: (A.T + t * B) @ y, 1, 1, 0),
    "both ways": (lambda t, y, A, B: (A.T + t * B).T @ y, 1, 1, 0),
    "from the left": (lambda t, y, A, B: y @ (A + np.sin(t) * B), 0, 2, 0),
    "a constant": (lambda t, y, A, B: (A + t * S) @ y + (y[1] * B) @ y, 2, 0, 1),
    "four": (lambda t, y, A, B: (A + t * B - t * t * A.T + y[0] * y[1] * B.T) @ y, 2, 2, 0),
    "five": (lambda t, y, A, B: (A + t * B + t * t * A.T + y[0] * B.T + y[1] * A) @ y, 0, 0, 1),
    "a sum within": (lambda t, y, A, B: (A - (t * B - y[2] * A.T)) @ y, 2, 1, 0),
    "not a sum": (lambda t, y, A, B: np.sin(t * A + B) @ y, 0, 0, 1),
    "a number that is added": (lambda t, y, A, B: (A + t + B) @ y, 0, 0, 1),
    "two products": (lambda t, y, A, B: (A + t * B) @ np.tanh((A + t * B) @ y), 4, 0, 0),
    "computed": (lambda t, y, A, B: (np.exp(A) - t * ((A - A.T) @ B)) @ y, 0, 0, D + 2),  # one for each column of B
}


@pytest.fixture(params=SUMS)
def case(request):
    write, *counts = SUMS[request.param]
    f = pn.field(state=D, theta={"A": (D, D), "B": (D, D)})(lambda t, y, th: write(t, y, th.A, th.B))
    return f, lambda t, y, th: write(t, y, *th.reshape(2, D, D)), counts


def derivative(value, x):
    """d value / d x by complex steps, a column for each number of x."""
    x = np.asarray(x, dtype=complex)
    return np.stack([value(x + 1j * STEP * e).imag / STEP for e in np.eye(x.size)], axis=1)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * max(np.abs(expected).max(), 1))


def test_instructions(case):
    f, _, counts = case
    found = [len(re.findall(rf"= {op} ", f.program.disassemble())) for op in ("AFFINE", "AFFINE_T", "MATVEC(?:_T)?")]
    assert found == counts
    assert not counts[2] or "MATVEC" in vjp_program(f.program).disassemble()


def test_values_and_jacobians(case):
    f, expected, _ = case
    close(f(T, Y, THETA), expected(T, Y, THETA))
    many = np.stack([Y * s for s in np.linspace(-1, 1, 19)])
    close(f(T, many, THETA), [expected(T, y, THETA) for y in many])
    by = {
        "y": derivative(lambda y: expected(T, y, THETA), Y),
        "t": derivative(lambda t: expected(t[0], Y, THETA), [T])[:, 0],
        "theta": derivative(lambda th: expected(T, Y, th), THETA),
    }
    cotangents = pn.vjp(f)(T, Y, THETA, V)
    for name, J in by.items():
        close(pn.jacobian(f, name)(T, Y, THETA), J)
        close(getattr(cotangents, name), V @ J)
    close(pn.jvp(f)(T, Y, THETA, V, dtheta=THETA[::-1]), by["y"] @ V + by["theta"] @ THETA[::-1])


def test_second_derivatives(case):
    """Of H = sum(f^2) and of the Jacobian, by complex steps through what is exact already."""
    f, expected, _ = case
    H = pn.field(state=D, out=1, theta={"f": f})(lambda t, y, th: [np.sum(th.f(t, y) ** 2)])
    slope = pn.grad(H)

    def exact_slope(y, th):
        h = 1e-4  # of eighth order: what is differentiated is a polynomial, or almost one
        weights = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
        square = lambda z: np.sum(expected(T, z, th) ** 2)  # noqa: E731
        return np.array(
            [sum(w * (square(y + k * h * e) - square(y - k * h * e)) / h for k, w in weights.items()) for e in np.eye(D)]
        )

    hessian = derivative(lambda y: exact_slope(y, THETA), Y)
    mixed = derivative(lambda th: exact_slope(Y, th), THETA)
    room = 1e-7 * np.abs(hessian).max()
    np.testing.assert_allclose(pn.hvp(H)(T, Y, THETA, V), hessian @ V, atol=room)
    np.testing.assert_allclose(pn.jacobian(slope)(T, Y, THETA), hessian, atol=room)
    np.testing.assert_allclose(pn.jacobian(slope, "theta")(T, Y, THETA), mixed, atol=room)


def test_solves(case):
    f, _, _ = case
    options = {"method": "rk4", "step": 0.125}
    times = np.linspace(0.0, 0.5, 3)
    for n in (1, 2, 9):
        y0 = np.stack([Y * s for s in np.linspace(0.4, 1, n)])
        check = pn.check_grad(f, y0, times, THETA, np.zeros((n, 3, D)), wrt=("theta", "y0", "t"), **options)
        assert check.max_error < 1e-7
    rows = np.tile(THETA, (9, 1))
    close(pn.solve(f, y0, times, rows, **options).y, pn.solve(f, y0, times, THETA, **options).y)
