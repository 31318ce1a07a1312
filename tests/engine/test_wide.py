"""Wide layers: large weights are packed, their gradients wait for more samples, and chunks have fewer samples."""

import numpy as np
import pytest

import pynode as pn

LANES = {"plain": 2, "baseline": 4, "avx2": 8, "avx512": 16}
"""In double precision."""

METHODS = [{"method": "rk4", "step": 0.25}, {"method": "dopri5", "rtol": 1e-4}]


def case(hidden, n, dtype=np.float64):
    f = pn.mlp(3, hidden)
    rng = np.random.default_rng(0)
    y0, target = rng.standard_normal((n, 3)).astype(dtype), rng.standard_normal((n, 4, 3)).astype(dtype)
    return f, y0, np.linspace(0.0, 1.0, 4), (1.2 * f.init(0)).astype(dtype), target


def gradient(f, y0, t, theta, target, **keys):
    return pn.loss_and_grad(f, y0, t, theta, target, loss="sse", wrt=("theta", "y0"), **keys)


@pytest.mark.parametrize("options", METHODS, ids=["rk4", "dopri5"])
@pytest.mark.parametrize("hidden", [(257, 256), (256, 300), (520, 130)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gradients_of_large_matrices_are_those_of_the_samples(isa, hidden, options, dtype):
    """One sample has kernels of its own: vectors hold its features, and large matrices are read as they lie in theta."""
    f, y0, t, theta, target = case(hidden, 37, dtype)
    together = gradient(f, y0, t, theta, target, **options)
    alone = [gradient(f, y0[i], t, theta, target[i], **options) for i in range(len(y0))]
    room = 2e-4 if dtype is np.float32 else 2e-13 if "step" in options else 1e-9  # lengths of steps follow from roundings
    for name in ("theta", "y0"):
        one = [np.asarray(getattr(r, name)) for r in alone]
        expected = np.sum(one, axis=0) if name == "theta" else np.stack(one)
        np.testing.assert_allclose(getattr(together, name), expected, rtol=0, atol=room * np.abs(expected).max())


@pytest.mark.parametrize("hidden", [(33, 32), (40, 64, 25), (257, 256)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_sample_of_many_steps(isa, hidden, dtype):
    """What waits is given to the gradient several times on the way, also where theta has a row for each sample."""
    f, y0, t, theta, target = case(hidden, 9, dtype)
    options = {"method": "rk4", "step": 0.03}
    alone, row = (
        gradient(f, y0[0], t, theta, target[0], **options),
        gradient(f, y0[:1], t, theta[None], target[:1], **options),
    )
    expected = gradient(f, y0[:1].repeat(9, axis=0), t, theta, target[:1].repeat(9, axis=0), **options).theta / 9
    for found in (alone.theta, row.theta[0]):
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=(1e-12 if dtype == np.float64 else 2e-4) * np.abs(expected).max()
        )
    np.testing.assert_array_equal(alone.theta, row.theta[0])
    tight = gradient(f, y0[0], t, theta, target[0], memory="100kB", **options)
    np.testing.assert_array_equal(alone.theta, tight.theta)


def test_the_gradient_is_the_slope():
    f, y0, t, theta, target = case((256, 257), 11)
    rng = np.random.default_rng(1)
    options = {"method": "rk4", "step": 0.25}
    found = gradient(f, y0, t, theta, target, **options).theta
    for _ in range(3):
        way, h = rng.standard_normal(theta.size), 1e-6
        up, down = (gradient(f, y0, t, theta + s * h * way, target, **options).loss for s in (1, -1))
        assert (up - down) / (2 * h) == pytest.approx(found @ way, rel=1e-6)


@pytest.mark.parametrize("options", METHODS, ids=["rk4", "dopri5"])
@pytest.mark.parametrize("n", [16, 50, 131])
def test_the_same_bits_for_threads_and_budgets(isa, options, n):
    f, y0, t, theta, target = case((256, 257), n)
    first = gradient(f, y0, t, theta, target, threads=1, **options)
    for keys in ({"threads": 2}, {"threads": 5}, {"threads": 1, "memory": "2MB"}, {"threads": 3, "memory": "8MB"}):
        other = gradient(f, y0, t, theta, target, **keys, **options)
        np.testing.assert_array_equal(first.theta, other.theta)
        np.testing.assert_array_equal(first.y0, other.y0)
        assert first.loss == other.loss
    some = pn.solve(f, y0[3:12], t, theta, **options)
    np.testing.assert_array_equal(some.y, pn.solve(f, y0, t, theta, threads=2, **options).y[3:12])


def test_few_samples_of_a_wide_field_are_several_chunks(isa):
    """The gradient of a batch is the sum of those of its chunks, in pairs and bit for bit: that tells where it was cut."""
    blocks = 4 if isa == "plain" else 2  # with two lanes a step is not long
    lanes = blocks * LANES[isa]
    n = 4 * lanes
    f, y0, t, theta, target = case((256, 300), n)
    whole = gradient(f, y0, t, theta, target, method="rk4", step=0.25).theta
    chunks = [slice(a, a + lanes) for a in range(0, n, lanes)]
    parts = [gradient(f, y0[c], t, theta, target[c], method="rk4", step=0.25).theta for c in chunks]
    np.testing.assert_array_equal(whole, (parts[0] + parts[1]) + (parts[2] + parts[3]))


def test_a_sample_without_a_gradient_is_left_out_of_what_waits():
    @pn.field(state=2, theta={"c": 0.0, "W": np.eye(256), "V": np.full((256, 2), 0.1), "U": np.full((2, 256), 0.01)})
    def f(t, y, th):
        return th.U @ np.tanh(th.W @ np.tanh(th.V @ np.sqrt(y - th.c)))

    y0 = np.random.default_rng(0).uniform(0.5, 1.5, (20, 2))
    t, target = np.linspace(0.0, 0.5, 3), np.full((20, 3, 2), 0.5)
    theta = f.init()
    clean = pn.loss_and_grad(f, np.delete(y0, 7, 0), t, theta, np.delete(target, 7, 0), loss="sse", method="rk4", step=0.25)
    y0[7] = 0.0
    with pytest.warns(UserWarning):
        found = pn.loss_and_grad(f, y0, t, theta, target, loss="sse", method="rk4", step=0.25)
    assert np.flatnonzero(found.solution.status).tolist() == [7]
    np.testing.assert_allclose(found.theta, clean.theta, rtol=0, atol=1e-12 * np.abs(clean.theta).max())
