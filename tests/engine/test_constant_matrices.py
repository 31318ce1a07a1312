"""Products with a matrix of constants: kernels of matrices of parameters, sparse ones where few entries are not 0."""

import numpy as np
import pytest
import reference_interpreter as reference

import pynode as pn
from pynode.programs.derivatives import vjp_program

T = np.linspace(0.0, 1.0, 5)
OPTIONS = [{"method": "rk4", "step": 0.25}, {"method": "dopri5", "rtol": 1e-6, "atol": 1e-8}]


def matrix(d, kind):
    rng = np.random.default_rng(d)
    if kind == "dense":
        return rng.standard_normal((d, d)) / np.sqrt(d) - np.eye(d)
    if kind == "stencil":
        return np.eye(d, k=1) - 2 * np.eye(d) + np.eye(d, k=-1)
    full = rng.standard_normal((d, d)) * (rng.random((d, d)) < min(0.2, 4 / d))
    full[d // 2] = 0  # a row and a column without entries
    full[:, d // 3] = 0
    return full


def fields(A):
    """A y written with constants, and with parameters."""
    d = len(A)

    @pn.field(state=d, theta={"k": np.ones(d)})
    def constant(t, y, th):
        return th.k * np.tanh(A @ y) - A.T @ np.sin(y) + np.cos(t)

    @pn.field(state=d, theta={"k": np.ones(d), "A": A})
    def parameter(t, y, th):
        return th.k * np.tanh(th.A @ y) - th.A.T @ np.sin(y) + np.cos(t)

    return constant, parameter


def states(n, d, dtype=np.float64):
    return (0.3 * np.random.default_rng(1).standard_normal((n, d))).astype(dtype)


@pytest.mark.parametrize("kind", ["dense", "stencil", "random"])
@pytest.mark.parametrize("d", [2, 9, 24, 257])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_as_a_matrix_of_parameters(isa, kind, d, dtype):
    A = matrix(d, kind)
    constant, parameter = fields(A)
    options = {"method": "rk4", "step": 0.25}
    for n in (1, 19):
        y0, target = states(n, d, dtype), np.zeros((n, len(T), d), dtype)
        one, other = (
            pn.loss_and_grad(f, y0, T, f.init(0).astype(dtype), target, loss="sse", wrt=("theta", "y0", "t"), **options)
            for f in (constant, parameter)
        )
        room = 1e-4 if dtype is np.float32 else 1e-12
        for a, b in ((one.theta, other.theta[:d]), (one.y0, other.y0), (one.t, other.t), (one.loss, other.loss)):
            np.testing.assert_allclose(a, b, rtol=room, atol=room * np.abs(b).max())


@pytest.mark.parametrize("kind", ["dense", "stencil", "random"])
@pytest.mark.parametrize("n", [1, 3, 33])
def test_programs_as_the_interpreter_has_them(isa, kind, n):
    constant, _ = fields(matrix(31, kind))
    rng = np.random.default_rng(2)
    for program in (constant.program, vjp_program(constant.program)):
        slots = [rng.standard_normal((n, size)) for size in program.slot_sizes]
        thetas = [rng.standard_normal(size) for size in program.n_theta]
        expected, expected_grads = reference.evaluate(program, slots, thetas)
        found, grads = program.evaluate(slots, thetas)
        for a, b in (*zip(found, expected, strict=True), *zip(grads, expected_grads, strict=True)):
            if b is not None:
                np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", ["dense", "stencil"])
@pytest.mark.parametrize("n", [1, 7, 40])
@pytest.mark.parametrize("options", OPTIONS, ids=["rk4", "dopri5"])
def test_a_theta_for_each_sample(isa, kind, n, options):
    """The same bits as with one theta for all where they are equal; else those of single solves but for roundings."""
    d = 20
    constant, _ = fields(matrix(d, kind))
    y0, target = states(n, d), np.zeros((n, len(T), d))
    theta = constant.init(0)
    keys = {"loss": "sse", "wrt": ("theta", "y0")} | options
    shared = pn.loss_and_grad(constant, y0, T, theta, target, **keys)
    equal = pn.loss_and_grad(constant, y0, T, np.tile(theta, (n, 1)), target, **keys)
    np.testing.assert_array_equal(shared.y0, equal.y0)
    np.testing.assert_allclose(shared.theta, equal.theta.sum(axis=0), rtol=1e-12)
    own = theta * np.random.default_rng(3).uniform(0.5, 1.5, (n, d))
    value = pn.loss_and_grad(constant, y0, T, own, target, **keys)
    for i in range(0, n, 6):
        alone = pn.loss_and_grad(constant, y0[i], T, own[i], target[i], **keys)
        np.testing.assert_allclose(value.theta[i], alone.theta, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(value.y0[i], alone.y0, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", ["dense", "stencil", "random"])
@pytest.mark.parametrize("options", OPTIONS, ids=["rk4", "dopri5"])
def test_the_same_bits_for_neighbours_threads_and_budgets(isa, kind, options):
    constant, _ = fields(matrix(40, kind))
    n = 67
    y0, target = states(n, 40), np.zeros((n, len(T), 40))
    theta = constant.init(0)
    all_of_them = pn.solve(constant, y0, T, theta, **options).y
    np.testing.assert_array_equal(all_of_them[20:41], pn.solve(constant, y0[20:41], T, theta, **options).y)
    first = pn.loss_and_grad(constant, y0, T, theta, target, threads=1, wrt=("theta", "y0"), **options)
    for keys in ({"threads": 3}, {"threads": 1, "memory": "1MB"}):
        other = pn.loss_and_grad(constant, y0, T, theta, target, wrt=("theta", "y0"), **keys, **options)
        np.testing.assert_array_equal(first.theta, other.theta)
        np.testing.assert_array_equal(first.y0, other.y0)


def test_zeros_that_are_left_out_change_no_bit(isa):
    """Entries are added in their order, and 0 times a finite number adds nothing."""
    d = 24
    A = matrix(d, "stencil")
    almost = A + 1e-300 * np.ones((d, d))  # not sparse
    sparse = pn.field(state=d)(lambda t, y: A @ y)
    dense = pn.field(state=d)(lambda t, y: almost @ y)
    y0 = 1 + np.abs(states(33, d))
    np.testing.assert_array_equal(sparse(0.0, y0), dense(0.0, y0))


@pytest.mark.parametrize("kind", ["dense", "stencil"])
def test_derivatives_of_every_kind(kind):
    d = 12
    A = matrix(d, kind)
    constant, parameter = fields(A)
    y0, theta = states(1, d)[0], constant.init(0)
    check = pn.check_grad(constant, y0, T, theta, np.zeros((len(T), d)), wrt=("theta", "y0"), rtol=1e-8, atol=1e-10)
    assert check.max_error < 1e-8
    whole = parameter.init(0)
    stiff = {"method": "rodas5p", "rtol": 1e-7, "atol": 1e-9}
    np.testing.assert_allclose(
        pn.solve(constant, y0, T, theta, **stiff).y, pn.solve(parameter, y0, T, whole, **stiff).y, rtol=1e-9, atol=1e-11
    )
    a, b = (
        pn.loss_and_grad(f, y0, T, p, np.zeros((len(T), d)), wrt=("theta", "y0"), **stiff)
        for f, p in ((constant, theta), (parameter, whole))
    )
    np.testing.assert_allclose(a.y0, b.y0, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(a.theta, b.theta[:d], rtol=1e-8, atol=1e-10)
    some, more = (pn.sensitivities(f, y0, T, p, rtol=1e-8, atol=1e-10) for f, p in ((constant, theta), (parameter, whole)))
    np.testing.assert_allclose(some.theta, more.theta[..., :d], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(some.y0, more.y0, rtol=1e-6, atol=1e-8)


def test_a_prologue_that_multiplies_parameters(isa):
    """A @ theta is computed once, from constants and parameters alone."""
    A = matrix(16, "stencil")
    f = pn.field(state=16, theta={"k": np.linspace(0, 1, 16)})(lambda t, y, th: y * (A @ th.k) + A @ y)
    y = states(21, 16)
    k = f.init(0)
    expected = y * (A @ k) + y @ A.T
    np.testing.assert_allclose(f(0.0, y, k), expected, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(pn.solve(f, y, T, np.tile(k, (21, 1))).y, pn.solve(f, y, T, k).y, rtol=1e-12)
