"""What lanes share is not seen: steps taken together, the order of the samples, two ways to write saved states."""

import numpy as np
import pytest

import pynode as pn

FIXED = [("euler", 0.01), ("rk4", 0.03), ("dopri5", 0.05), ("dop853", 0.1), ("leapfrog", 0.01)]


@pn.field(state=2)
def explodes(t, y):
    """The first component reaches infinity at t = 1 / y0 (y0 > 0)."""
    return [y[0] ** 2, np.sin(y[1] + t)]


def batch(n, bursting=()):
    y0 = np.random.default_rng(3).uniform(-2, -0.5, (n, 2))
    y0[list(bursting), 0] = 3.0
    return y0


def alone(y0, t, **options):
    """The same samples, but for one more whose times differ: no chunk has common times."""
    extra = np.append(t, t[-1])
    return pn.solve(explodes, np.concatenate([y0, y0[:1]]), [*[t] * len(y0), extra], errors="ignore", **options)


@pytest.mark.parametrize(("method", "step"), FIXED)
@pytest.mark.parametrize("save", ["interpolate", "land"])
@pytest.mark.parametrize("t", [np.linspace(0, 1.01, 14), np.linspace(1, 0.7, 9), np.array([0, 0, 0.4, 0.4, 0.41])])
def test_steps_in_common(isa, method, step, save, t):
    """Samples with the same times go in step; with one that has others, each by itself: the same bits."""
    y0 = batch(21)
    together = pn.solve(explodes, y0, t, method=method, step=step, save=save)
    apart = alone(y0, t, method=method, step=step, save=save)
    assert np.array_equal(together.y, np.stack(apart.y[:21]))
    for name in ("nfe", "accepted", "rejected"):
        assert np.array_equal(getattr(together.stats, name), getattr(apart.stats, name)[:21])


@pytest.mark.parametrize("bursting", [(0,), (4,), (0, 1, 2), (20,), range(21)])
@pytest.mark.parametrize(("method", "step"), [("rk4", 0.03), ("dopri5", 0.05)])
def test_a_failure_ends_steps_in_common(isa, bursting, method, step):
    y0, t = batch(21, bursting), np.linspace(0, 1, 12)
    together = pn.solve(explodes, y0, t, method=method, step=step, errors="ignore")
    apart = alone(y0, t, method=method, step=step)
    assert set(np.flatnonzero(together.status)) == set(bursting)
    assert np.array_equal(together.status, apart.status[:21])
    assert np.array_equal(together.y, np.stack(apart.y[:21]), equal_nan=True)
    assert np.array_equal(together.stats.nfe, apart.stats.nfe[:21])


@pytest.mark.parametrize(("method", "step"), FIXED[:4])
@pytest.mark.parametrize("save", ["interpolate", "land"])
def test_gradients_of_steps_in_common(isa, method, step, save):
    field, t = pn.mlp(2, (6,)), np.linspace(0, 1, 8)
    y0, theta = batch(5), field.init(0)
    target = np.zeros((5, 8, 2))
    options = {"method": method, "step": step, "save": save, "wrt": ("theta", "y0")}
    together = pn.loss_and_grad(field, y0, t, theta, target, **options)
    nan = np.full((9, 2), np.nan)  # the sample with other times adds nothing
    apart = pn.loss_and_grad(
        field, np.concatenate([y0, y0[:1]]), [*[t] * 5, np.append(t, 1.0)], theta, [*target, nan], **options
    )
    assert together.loss == pytest.approx(apart.loss, rel=1e-14)
    assert np.allclose(together.theta, apart.theta, rtol=1e-12, atol=1e-14)
    assert np.array_equal(together.y0, apart.y0[:5])


def test_most_steps_of_samples_in_step(isa):
    with pytest.raises(pn.SolveError, match="max_steps"):
        pn.solve(explodes, batch(5), [0, 1.0], method="euler", step=0.01, max_steps=50, errors="raise")
    assert pn.solve(explodes, batch(5), [0, 1.0], method="euler", step=0.01, max_steps=100).ok


@pytest.mark.parametrize("options", [{"rtol": 1e-5}, {"rtol": 1e-5, "first_step": 1e-3}, {"method": "rk4", "step": 0.02}])
def test_turns(isa, options):
    """Which samples come first depends on all of a chunk; what becomes of each does not."""
    random = np.random.default_rng(5)
    lengths = 10.0 ** random.uniform(-3, 0.8, 150)
    times = [np.sort(random.uniform(0, length, 4)) for length in lengths]
    y0, order = batch(150), random.permutation(150)
    plain = pn.solve(explodes, y0, times, **options)
    mixed = pn.solve(explodes, y0[order], [times[i] for i in order], **options)
    for i, j in enumerate(order):
        assert np.array_equal(mixed.y[i], plain.y[j])
    assert np.array_equal(mixed.stats.nfe, plain.stats.nfe[order])


@pytest.mark.parametrize("method", ["dopri5", "rk4", "dop853"])
@pytest.mark.parametrize("n", [1, 20])
def test_few_components_and_many(isa, method, n):
    """Up to eight components the values inside a step are written a vector of times at once, else a component at a time."""
    t, y0 = np.linspace(0, 1, 40), np.random.default_rng(1).normal(size=(n, 9))
    solutions, gradients = [], []
    for d in (8, 9):
        field = pn.field(state=d, theta={"a": ()})(lambda t, y, th: th.a * np.sin(y) * np.cos(3 * t))
        theta = np.array([0.7])
        solution = pn.solve(field, y0[:, :d], t, theta, method=method, step=0.25)
        seed = np.zeros_like(solution.y)
        seed[..., :8] = np.random.default_rng(2).normal(size=(n, 40, 8))
        solutions.append(solution.y[..., :8])
        gradients.append(solution.vjp(seed, wrt=("theta", "y0", "t")))
    assert np.abs(solutions[0] - solutions[1]).max() < 1e-15
    assert np.allclose(gradients[0].theta, gradients[1].theta, rtol=1e-13)
    assert np.allclose(gradients[0].y0, gradients[1].y0[:, :8], rtol=1e-13, atol=1e-14)
    assert np.allclose(gradients[0].t, gradients[1].t, rtol=1e-12, atol=1e-13)
