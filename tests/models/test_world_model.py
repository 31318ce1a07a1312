"""Control inputs of latent ODEs, filters, plans: gradients, other ways to compute them, a closed loop, bad input."""

import numpy as np
import pytest

import pynode as pn
from pynode.control.planning import Planner, priced
from pynode.engine.options import Options
from pynode.models.latent import elbo
from pynode.optim.checkpoint import Checkpoint

JUMPS = Options("euler", step=1e300)


@pn.field(state=2, inputs=1)
def spring(t, y, u):
    return [y[1], -y[0] + u[0]]


def swings(n=60, steps=30, seed=0, noise=0.03):
    """A spring pushed at random; only its position is seen, one time in five not."""
    rng = np.random.default_rng(seed)
    t = 0.2 * np.arange(steps + 1)
    u = rng.uniform(-1, 1, (n, steps + 1, 1))
    y = pn.solve(spring, rng.normal(size=(n, 2)), t, inputs=(t, u, "previous")).y
    seen = y[..., :1] + noise * rng.normal(size=(n, steps + 1, 1))
    seen[rng.random(seen.shape) < 0.2] = np.nan
    seen[:, 0, 0] = y[:, 0, 0]
    return t, seen, u, y


@pytest.fixture(scope="module")
def world():
    t, seen, u, _ = swings()
    model = pn.LatentODE(
        latent=2, hidden=(8,), encoder_hidden=16, decoder_hidden=(), context=2.0, max_iter=1500, random_state=0
    )
    return model.fit(t, seen, u=(t, u, "previous"))


# ---- Signals


@pytest.mark.parametrize("kind", ["linear", "previous", "cubic"])
def test_mean_of_a_signal_is_its_integral(kind):
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0, 3, 6))
    signal = pn.Signal(t, rng.normal(size=(6, 2)), kind)
    low, high = np.array([t[0], t[1], t[2]]), np.array([t[5], t[3], t[2]])
    mean = signal.mean(low, high)
    for a, b, m in zip(low[:2], high[:2], mean, strict=False):
        fine = np.linspace(a, b, 200_001)
        middle = (fine[1:] + fine[:-1]) / 2
        np.testing.assert_allclose(m, signal(middle).mean(axis=0), atol=2e-5)
    np.testing.assert_array_equal(mean[2], signal(t[2:3])[0])
    np.testing.assert_allclose(pn.Signal(None, [1.0, 2.0], "constant").mean(low, high), [[1.0, 2.0]] * 3)


# ---- The bound


@pytest.mark.parametrize("drift", [None, pn.mlp(5, (6,), gain=0.5)])
@pytest.mark.parametrize("kind", ["previous", "linear"])
def test_gradient_of_the_bound_with_inputs_against_finite_differences(drift, kind):
    rng = np.random.default_rng(0)
    t = [np.sort(rng.uniform(0.1, 4, n)) for n in (1, 3, 12, 7)]
    y = [np.where(rng.random((len(s), 2)) < 0.2, np.nan, rng.normal(size=(len(s), 2))) for s in t]
    for part in y:
        part[0, 0] = 0.5
    knots = [np.linspace(0, 4.5, 7 + i) for i in range(4)]
    signal = pn.Signal(knots, [rng.normal(size=(len(k), 2)) for k in knots], kind)
    decoder = pn.mlp(2, (5,), 2)
    generator = pn.System(pn.mlp(2, (6,), inputs=2), loss=elbo.likelihood(2, decoder, 2))
    nets = elbo.Networks(drift, pn.gru_cell(5, 7), pn.mlp(5, (), 4), generator, decoder)
    series = elbo.Series.of(t, y, signal=signal)
    encoding = JUMPS if drift is None else Options("midpoint", step=0.25)
    options = {"n_samples": 3, "beta": lambda k: 0.7, "context": (1.0, 3.0), "dtype": np.float64}
    objective = elbo.Elbo(nets, series, encoding, Options("rk4", step=0.25), **options)
    theta, delta = nets.init(1), 1e-5
    _, gradient = objective(theta)
    for part in nets.parts.values():
        for i in rng.choice(np.arange(part.start, part.stop), 12, replace=False):
            e = delta * (np.arange(len(theta)) == i)
            difference = (objective(theta + e)[0] - objective(theta - e)[0]) / (2 * delta)
            assert gradient[i] == pytest.approx(difference, abs=2e-8)


def test_the_encoder_sees_the_context_and_the_actions_only(world):
    t, seen, u, _ = swings(4, seed=1)
    mean = world.encode(t, seen, u=(t, u, "previous"))[0]
    later = seen.copy()
    later[:, t > 2.0] += 1.0
    assert (world.encode(t, later, u=(t, u, "previous"))[0] == mean).all()
    sooner = seen.copy()
    sooner[:, 0] += 1.0
    assert (world.encode(t, sooner, u=(t, u, "previous"))[0] != mean).any(axis=1).all()
    assert (world.encode(t, seen, u=(t, -u, "previous"))[0] != mean).any(axis=1).all()


# ---- Filter, forecast


def test_it_filters_and_forecasts(world):
    t, seen, u, y = swings(40, 25, seed=2)
    signal, k = (t, u, "previous"), 10
    belief = world.filter(t[: k + 1], seen[:, : k + 1], u=signal)
    mean, std = world.rollout(t[k:], belief, u=signal, return_std=True)
    error = np.sqrt(np.mean((mean - y[:, k:, :1]) ** 2, axis=(0, 2)))
    assert mean.shape == std.shape == (40, 16, 1) and (std > 0).all()
    assert error[0] < 0.15 and error[-1] < 0.3  # of positions with 1
    away = world.rollout(t[k:], belief, u=(t, 0 * u, "previous")) - y[:, k:, :1]
    assert np.sqrt(np.mean(away[:, -1] ** 2)) > 1.5 * error[-1]  # the actions matter


def test_filter_and_rollout_are_predict(world):
    """Where the past begins at t0, the two together are the prediction from z_0; elsewhere only the clock is another."""
    t, seen, u, _ = swings(3, 20, seed=3)
    signal = (t, u, "previous")
    belief = world.filter(t[:11], seen[:, :11], u=signal)
    want = world.predict(t[:11], seen[:, :11], t[10:], u=signal)
    np.testing.assert_allclose(world.rollout(t[10:], belief, u=signal), want, atol=1e-5)
    late = world.filter(t[:11] + 100, seen[:, :11], u=(t + 100, u, "previous"), at=102.4)
    np.testing.assert_allclose(late.mean, world.filter(t[:11], seen[:, :11], u=signal, at=2.4).mean, atol=1e-8)
    one = world.filter(t[:11], seen[1, :11], u=(t, u[1], "previous"))
    np.testing.assert_allclose(one.mean, belief.mean[1], atol=1e-8)
    assert one.mean.shape == (2,) and one.draws.shape == (100, 2) and one.t == t[10]
    assert [x.shape for x in world.rollout(t[10:], one, u=(t, u[1], "previous"), return_std=True)] == [(11, 1)] * 2
    longer = world.filter(t, seen, u=signal)  # the last 2 s of it
    recent = world.filter(t[10:], seen[:, 10:], u=signal)
    np.testing.assert_allclose(longer.mean, recent.mean, atol=1e-8)


def test_other_calls_take_inputs(world):
    t, seen, u, _ = swings(3, 20, seed=4)
    signal = (t, u, "previous")
    assert world.sample(t, 3, u=u).shape == (3, 21, 1)
    assert world.sample(t, 2, t, seen, u=signal).shape == (2, 3, 21, 1)
    assert world.extrapolate(t, seen, [4.0, 5.0], u=signal).shape == (3, 2, 1)
    assert np.isfinite(world.bound(t, seen, u=signal)["iwae"]).all()


def test_save_and_load(world, tmp_path):
    t, seen, u, _ = swings(3, 20, seed=4)
    world.save(tmp_path / "model.npz")
    again = pn.load(tmp_path / "model.npz")
    signal = (t, u, "previous")
    assert again.context == 2.0
    assert (again.predict(t, seen, u=signal) == world.predict(t, seen, u=signal)).all()
    assert again.data_.signal.kind == "previous"


def test_a_picture(world, tmp_path):
    pytest.importorskip("matplotlib")
    world.plot("series", n=2).savefig(tmp_path / "a.png")


# ---- Plans


def price(x, u):
    return (x[0] - 0.6) ** 2 + 0.01 * u[0] ** 2


def test_gradient_of_the_cost_with_respect_to_actions(world):
    planner = Planner(
        *priced(world, price), 0.2, 6, -1.0, 1.0, n_plans=3, terminal=lambda z: z[0] ** 2, rtol=1e-10, atol=1e-10
    )
    z, u = np.array([[0.3, -0.5], [0.1, 0.4]]), planner.plans
    value, gradient = planner.cost(u, z)
    each = [planner.cost(u, one)[0] for one in z]
    np.testing.assert_allclose(value, np.mean(each, axis=0), rtol=1e-9)
    for k in range(6):
        e = 1e-5 * (np.arange(6) == k)[:, None]
        difference = (planner.cost(u + e, z)[0] - planner.cost(u - e, z)[0]) / 2e-5
        np.testing.assert_allclose(gradient[:, k, 0], difference, atol=1e-7)


def test_the_cost_is_the_integral_along_the_rollout(world):
    planner = Planner(*priced(world, price), 0.2, 6, -1.0, 1.0, n_plans=1, n_fresh=0, rtol=1e-9, atol=1e-9)
    z, fine = np.array([0.3, -0.5]), np.linspace(0, 1.2, 1201)
    middle = (fine[1:] + fine[:-1]) / 2
    x = world.rollout(np.append(0.0, middle), z, u=(planner.t, planner.plans[0], "previous"))[1:, 0]
    u = np.repeat(planner.plans[0, :, 0], 200)
    want = np.sum((x - 0.6) ** 2 + 0.01 * u**2) * 1e-3
    assert planner.cost(planner.plans, z)[0][0] == pytest.approx(want, rel=1e-4)


def closed_loop(act, seed, steps=40, wait=10):
    """Mean squared distance from 0.6 of the true spring, in the last half."""
    rng, state, t = np.random.default_rng(seed), np.array([-1.0, 0.0]), 0.2 * np.arange(steps + 1)
    seen, u, x = [], [], []
    for k in range(steps):
        x.append(state[0])
        seen.append([np.nan] if k % 5 == 4 else [state[0] + 0.03 * rng.normal()])
        u.append(act(t[: k + 1], np.array(seen), u, rng) if k >= wait else np.zeros(1))
        state = pn.solve(spring, state, [0.0, 0.2], inputs=u[-1]).y[-1]
    return np.mean((np.array(x[steps // 2 :]) - 0.6) ** 2)


def test_the_closed_loop_beats_random_actions(world):
    planner = Planner(*priced(world, price), 0.2, 10, -1.0, 1.0, n_plans=2, n_fresh=0, max_iter=6)

    def act(t, seen, u, rng):
        k = slice(-11, None)
        actions = np.concatenate([u, [u[-1]]])
        return planner(world.filter(t[k], seen[k], u=(t[k], actions[k], "previous"), n_samples=1).mean).u[0]

    ours = closed_loop(act, 0)
    chance = np.mean([closed_loop(lambda t, seen, u, rng: rng.uniform(-1, 1, 1), seed) for seed in range(5)])
    assert ours < 0.1 < 0.3 < chance


# ---- Bad input


def test_bad_inputs_are_named(world):
    t, seen, u, _ = swings(3, 20, seed=4)
    with pytest.raises(ValueError, match="1 control inputs, u 0"):
        world.predict(t, seen)
    with pytest.raises(ValueError, match="1 control inputs, u 2"):
        world.filter(t, seen, u=np.concatenate([u, u], axis=2))
    with pytest.raises(ValueError, match="not finite"):
        world.encode(t, seen, u=np.where(t[:, None] > 1, np.nan, u))
    with pytest.raises(ValueError, match="known on"):
        world.extrapolate(t, seen, [5.0], u=u)
    with pytest.raises(ValueError, match="known on"):
        world.rollout([0.0, 5.0], [0.0, 0.0], u=([0.0, 1.0], np.zeros((2, 1))))
    with pytest.raises(ValueError, match="z has shape"):
        world.rollout([0.0, 1.0], [0.0, 0.0, 0.0], u=(t, u[0]))
    with pytest.raises(TypeError, match="Belief"):
        world.rollout([0.0, 1.0], [0.0, 0.0], u=(t, u[0]), return_std=True)
    with pytest.raises(ValueError, match="at="):
        world.filter(t, seen, u=(t, u, "previous"), at=1.0)
    with pytest.raises(ValueError, match="context"):
        pn.LatentODE(context=(2.0, 1.0)).fit(t, seen)
    with pytest.raises(ValueError, match="field has 2 control inputs, u 1"):
        pn.LatentODE(2, field=pn.mlp(2, (3,), inputs=2)).fit(t, seen, u=u)
    for call in (lambda m: m.filter(t, seen), lambda m: m.rollout(t, [0.0]), lambda m: priced(m, price)):
        with pytest.raises(pn.models.NotFittedError):
            call(pn.LatentODE())


def test_bad_plans_are_named(world):
    plant = priced(world, price)
    with pytest.raises(ValueError, match="plant"):
        Planner(pn.mlp(2, (3,)), None, 0.1, 5, -1, 1)
    with pytest.raises(ValueError, match="low"):
        Planner(*plant, 0.1, 5, 1.0, -1.0)
    with pytest.raises(ValueError, match="n_fresh"):
        Planner(*plant, 0.1, 5, -1.0, 1.0, n_plans=2, n_fresh=2)
    planner = Planner(*plant, 0.1, 5, -1.0, 1.0)
    with pytest.raises(ValueError, match="actions must be finite"):
        planner.cost(np.full((1, 5, 1), np.nan), [0.0, 0.0])
    with pytest.raises(ValueError, match="u has shape"):
        planner.cost(np.zeros((1, 4, 1)), [0.0, 0.0])
    with pytest.raises(ValueError, match="y0 has shape"):
        planner([0.0])
    with pytest.raises(ValueError, match="one number"):
        priced(world, lambda x, u: np.concatenate([x, u]))


# ---- Checkpoints


def test_a_fit_with_inputs_goes_on_from_its_checkpoint(tmp_path):
    """To the same bits; other inputs are another fit."""
    t, seen, u, _ = swings(n=8)
    options = {"latent": 2, "hidden": (8,), "context": (1.0, 3.0), "max_iter": 12, "batch_size": 3, "random_state": 3}
    whole = pn.LatentODE(**options).fit(t, seen, u=(t, u, "previous"))
    path = tmp_path / "fit.npz"

    def stop(iteration):
        if iteration.number == 7:
            raise KeyboardInterrupt

    with pytest.raises(pn.fit.FitInterrupted):
        pn.LatentODE(**options).fit(t, seen, u=(t, u, "previous"), checkpoint=Checkpoint(path, every=0), callback=stop)
    with pytest.raises(ValueError, match="another fit"):
        pn.LatentODE(**options).fit(t, seen, u=(t, u + 0.1, "previous"), checkpoint=path)
    again = pn.LatentODE(**options).fit(t, seen, u=(t, u, "previous"), checkpoint=path)
    assert (again.theta_ == whole.theta_).all() and not path.exists()
