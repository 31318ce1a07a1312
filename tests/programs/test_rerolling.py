"""Loops over components trace to operations on vectors, with the bits of the loop."""

import numpy as np
import pytest

import pynode as pn
from pynode.programs import builder as builder_module

N = 24
K = np.linspace(0.5, 1.5, N)
A = np.random.default_rng(0).standard_normal((N, N))


def lorenz(t, y, th):
    return [(y[(i + 1) % N] - y[i - 2]) * y[i - 1] - y[i] + 8.0 for i in range(N)]


def heat(t, y, th):
    out = [y[1] - y[0]]
    for i in range(1, N - 1):
        out.append(y[i - 1] - 2 * y[i] + y[i + 1])
    return [*out, y[N - 2] - y[N - 1]]


def reactions(t, y, th):
    return [th.k[i] * y[i] * y[(i + 1) % N] - th.k[i - 1] * y[i - 1] * y[i] for i in range(N)]


def constants(t, y, th):
    return [K[i] * np.tanh(y[i]) + np.sin(t) for i in range(N)]


def products(t, y, th):
    return [sum(A[i, j] * y[j] for j in range(N)) for i in range(N)]


def swapped(t, y, th):
    """The operands of sums and products in any order."""
    return [y[i] * y[(i + 1) % N] + y[i - 3] if i % 3 else y[i - 3] + y[(i + 1) % N] * y[i] for i in range(N)]


def same(t, y, th):
    return [np.exp(-y[3]) + t for _ in range(N)]


def mixed(t, y, th):
    """Two loops, and single components of other forms between them."""
    first = [y[i] * y[i + 1] - y[i] for i in range(16)]
    return [*first, np.exp(y[0]), y[3], *[y[i] / (1 + y[i] ** 2) for i in range(N - 18)]]


def deep(t, y, th):
    def chain(x):
        for _ in range(150):
            x = np.sin(x) + x
        return x

    return [chain(1e-3 * y[i]) for i in range(N)]


LOOPS = [lorenz, heat, reactions, constants, products, swapped, same, mixed, deep]


def made(fn):
    return pn.field(state=N, theta={"k": np.ones(N)})(fn)


@pytest.mark.parametrize("loop", LOOPS, ids=lambda f: f.__name__)
def test_the_bits_of_the_loop(loop, monkeypatch):
    rolled = made(loop)
    monkeypatch.setattr(builder_module, "rerolled", lambda b, xs: list(xs))
    plain = made(loop)
    rng = np.random.default_rng(1)
    theta = rng.uniform(0.5, 1.5, N)
    for n in (1, 7, 33):
        y = rng.standard_normal((n, N))
        np.testing.assert_array_equal(rolled(0.7, y, theta), plain(0.7, y, theta))
        slots = [np.full((n, 1), 0.7), y, np.empty((n, 0)), rng.standard_normal((n, N))]
        found, other = ([*f.vjp_program.evaluate(slots, [theta])] for f in (rolled, plain))
        for a, b in zip([*found[0], *found[1]], [*other[0], *other[1]], strict=True):
            np.testing.assert_allclose(0 if a is None else a, 0 if b is None else b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loop", [lorenz, heat, reactions, constants, swapped, same], ids=lambda f: f.__name__)
def test_as_few_instructions_as_written_with_arrays(loop):
    assert len(made(loop).program.instructions) < 20


def test_the_program_of_the_vectorised_form():
    vectorised = made(lambda t, y, th: (np.roll(y, -1) - np.roll(y, 2)) * np.roll(y, 1) - y + 8.0)
    assert [i.op for i in made(lorenz).program.instructions] == [i.op for i in vectorised.program.instructions]


def test_few_components_stay_as_they_are():
    f = pn.field(state=8)(lambda t, y: [y[i] * y[(i + 1) % 8] for i in range(8)])
    assert sum(i.op == "MUL" for i in f.program.instructions) == 8


def test_what_differs_is_not_rolled_up():
    """Each component by another operation."""
    functions = [np.sin, np.cos, np.tanh, np.exp]
    f = made(lambda t, y, th: [functions[i % 4](y[i]) for i in range(N)])
    assert all(f.program.sizes[i.out] == 1 for i in f.program.instructions if i.op in ("SIN", "COS", "TANH", "EXP"))


def test_long_sums_of_a_loop_are_rolled_up_too():
    n = 130

    def pairs(t, y):
        out = []
        for i in range(n):
            total = 0.0
            for j in range(n):
                total = total + np.sin(y[j] - y[i])
            out.append(total / n)
        return out

    f = pn.field(state=n)(pairs)
    assert len(f.program.instructions) < 10 * n
    y = np.random.default_rng(2).standard_normal(n)
    np.testing.assert_allclose(f(0.0, y), np.sin(y[None] - y[:, None]).mean(axis=1), rtol=1e-12, atol=1e-15)
