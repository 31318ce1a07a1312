"""Two to four samples: those of a field with matrices are solved two at a time, with the bits of a larger batch."""

import numpy as np
import pytest

import pynode as pn

METHODS = {
    "rk4": {"method": "rk4", "step": 0.11},
    "dopri5": {"method": "dopri5", "rtol": 1e-4},
    "tsit5": {"method": "tsit5", "rtol": 1e-4},
    "leapfrog": {"method": "leapfrog", "step": 0.11},
}
TIMES = np.linspace(0.0, 1.0, 6)
SIZES = [(5,), (8,), (33, 3, 40), (40, 64, 25), (257, 256)]
ROOM = {np.float64: 1e-9, np.float32: 2e-3}


def case(hidden, dtype, d=2, n=20):
    f = pn.mlp(d, hidden)
    rng = np.random.default_rng(3)
    y0, target = rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((n, len(TIMES), d)).astype(dtype)
    return f, y0, (1.5 * f.init(0)).astype(dtype), target


def gradient(f, y0, theta, target, **keys):
    return pn.loss_and_grad(f, y0, TIMES, theta, target, loss="sse", wrt=("theta", "y0", "t"), **keys)


def close(found, expected, dtype):
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROOM[dtype] * max(np.abs(expected).max(), 1.0))


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("hidden", SIZES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("d", [2, 10])
def test_few_samples_have_the_bits_of_many(isa, hidden, options, dtype, d):
    """Ten states are saved in another way than two, and a method of halves is combined in another one."""
    f, y0, theta, _ = case(hidden, dtype, d)
    many = pn.solve(f, y0, TIMES, theta, **options).y
    for n in (2, 3, 4, 5):
        np.testing.assert_array_equal(pn.solve(f, y0[3 : 3 + n], TIMES, theta, **options).y, many[3 : 3 + n])


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("hidden", SIZES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gradients_of_few_samples_are_those_of_many(isa, hidden, options, dtype):
    f, y0, theta, target = case(hidden, dtype)
    many = gradient(f, y0[:10], theta, target[:10], **options)
    parts = [gradient(f, y0[a:b], theta, target[a:b], **options) for a, b in ((0, 2), (2, 5), (5, 6), (6, 10))]
    close(np.sum([p.theta for p in parts], axis=0), many.theta, dtype)
    close(np.concatenate([p.y0 for p in parts]), many.y0, dtype)
    close(np.sum([p.t for p in parts], axis=0), many.t, dtype)


@pytest.mark.parametrize("keys", [{"memory": "200kB"}, {"adjoint": "reversible", "method": "rk4", "step": 0.11}])
@pytest.mark.parametrize("n", [2, 3])
def test_gradients_of_few_samples_by_other_ways_back(isa, keys, n):
    f, y0, theta, target = case((33, 32), np.float64)
    many = gradient(f, y0, theta, np.concatenate([target[:n], np.full_like(target[n:], np.nan)]), **keys)
    found = gradient(f, y0[:n], theta, target[:n], **keys)
    close(found.theta, many.theta, np.float64)
    close(found.y0, many.y0[:n], np.float64)


@pytest.mark.parametrize("n", [2, 3])
def test_gradients_of_few_samples_are_differences(isa, n):
    f, y0, theta, target = case((33, 32), np.float64)
    options = METHODS["rk4"]
    found = gradient(f, y0[:n], theta, target[:n], **options)
    rng = np.random.default_rng(0)
    for _ in range(3):
        v = rng.standard_normal(theta.shape)
        ends = [gradient(f, y0[:n], theta + e * v, target[:n], **options).loss for e in (-1e-5, 1e-5)]
        assert (ends[1] - ends[0]) / 2e-5 == pytest.approx(found.theta @ v, rel=1e-6)


@pn.field(state=2, theta={"w": (2, 2)})
def explodes(t, y, th):
    """The first component reaches infinity soon after it is 3."""
    z = th.w @ np.tanh(y)
    return [y[0] ** 2 + z[0], z[1] - y[1]]


@pytest.mark.parametrize("options", [METHODS["rk4"], METHODS["dopri5"]], ids=["rk4", "dopri5"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("bad", [0, 1])
def test_a_sample_that_fails_leaves_its_neighbour_alone(isa, dtype, options, bad):
    theta, target = 0.3 * np.ones(4, dtype), np.ones((2, len(TIMES), 2), dtype)
    y0 = np.array([[-1.0, 0.5], [-1.0, 0.5]], dtype)
    alone = gradient(explodes, y0[:1], theta, target[:1], **options)
    y0[bad, 0] = 3.0
    found = gradient(explodes, y0, theta, target, errors="ignore", **options)
    assert list(found.status == 0) == [bad != 0, bad != 1]
    close(found.theta, alone.theta, dtype)
    close(found.y0[1 - bad], alone.y0[0], dtype)


def whole_system():
    """A field with inputs, jumps at the readings, events and a loss, each with matrices of its own."""
    field = pn.mlp(2, (33,), inputs=1)
    events = pn.event(lambda t, y: y[0] - 0.2)
    return pn.System(field, jump=pn.mlp(2, (5,), 2, inputs=1), loss=pn.mlp(2, (20,), 1), events=events)


@pytest.mark.parametrize("options", [METHODS["rk4"], METHODS["dopri5"]], ids=["rk4", "dopri5"])
@pytest.mark.parametrize("n", [2, 3])
def test_whole_systems(isa, options, n):
    rng = np.random.default_rng(5)
    system = whole_system()
    theta, y0 = system.init(0), rng.standard_normal((20, 2))
    data, u = rng.standard_normal((20, len(TIMES), 1)), rng.standard_normal((20, 4, 1))
    data[:, 2] = np.nan  # no jump there

    def keys(some):
        return {"data": data[some], "inputs": pn.Signal(np.linspace(0.0, 1.0, 4), u[some], "linear"), **options}

    parts = (slice(0, 20), slice(0, n), slice(n, 20))
    many, found = (pn.solve(system, y0[s], TIMES, theta, **keys(s)) for s in parts[:2])
    np.testing.assert_array_equal(found.y, many.y[:n])
    for i in range(n):
        np.testing.assert_array_equal(found.events.of(sample=i).t, many.events.of(sample=i).t)
    whole, one, other = (
        pn.loss_and_grad(system, y0[s], TIMES, theta, loss="program", reduction="sum", wrt=("theta", "y0"), **keys(s))
        for s in parts
    )
    close(one.theta + other.theta, whole.theta, np.float64)
    close(one.y0, whole.y0[:n], np.float64)


@pytest.mark.parametrize("adjoint", ["interpolating", "backsolve"])
def test_continuous_adjoints(isa, adjoint):
    f, y0, theta, target = case((33, 4), np.float64)
    options = {"adjoint": adjoint, "method": "dopri5", "rtol": 1e-9, "atol": 1e-9}
    found, exact = (
        pn.loss_and_grad(f, y0[:2], TIMES, theta, target[:2], **{**options, "adjoint": a}) for a in (adjoint, "discrete")
    )
    np.testing.assert_allclose(found.theta, exact.theta, rtol=0, atol=1e-5 * np.abs(exact.theta).max())


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_matrices_of_constants(isa, dtype):
    """A full one and a sparse one, a sum and a product of parts: what moves rows and works on single ones."""
    rng = np.random.default_rng(2)
    full, band = rng.standard_normal((7, 7)), np.diag(np.ones(39), 1) - np.eye(40)

    @pn.field(state=40, theta={"a": 0.3, "w": (5, 40)})
    def mixed(t, y, th):
        z = th.w @ y
        first = [y[1] * z[0], -y[0] / (1.0 + z[1] ** 2), np.sin(y[2]) * th.a]
        return band @ y + np.concatenate([first, full @ y[3:10], y[20:32] - y[10:22], 0.1 * y[22:40] * z[2]])

    theta = rng.standard_normal(mixed.n_params).astype(dtype) * dtype(0.2)
    y0 = rng.standard_normal((20, 40)).astype(dtype)
    target = rng.standard_normal((20, len(TIMES), 40)).astype(dtype)
    for options in (METHODS["rk4"], METHODS["dopri5"]):
        many = pn.solve(mixed, y0, TIMES, theta, **options).y
        for n in (2, 3):
            np.testing.assert_array_equal(pn.solve(mixed, y0[:n], TIMES, theta, **options).y, many[:n])
        whole, *parts = (gradient(mixed, y0[s], theta, target[s], **options) for s in (slice(4), slice(2), slice(2, 4)))
        close(parts[0].theta + parts[1].theta, whole.theta, dtype)
