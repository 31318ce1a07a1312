"""Latent ODEs: the bound and its gradient against other ways to compute them; the estimator; bad input."""

import copy

import numpy as np
import pytest
from scipy import stats

import pynode as pn
from pynode.data.signal import Signal
from pynode.engine.options import Options
from pynode.models.latent import elbo, posterior
from pynode.models.latent.posterior import LatentPosterior, Misfit, refined
from pynode.optim.checkpoint import Checkpoint

JUMPS = Options("euler", step=1e300)


def observations(lengths=(1, 3, 12, 23, 7), d=2, missing=0.3, seed=0):
    """Irregular times and values, some entries NaN."""
    rng = np.random.default_rng(seed)
    t = [np.sort(rng.uniform(0.1, 4, n)) for n in lengths]
    y = [rng.standard_normal((n, d)) for n in lengths]
    for part in y:
        part[rng.random(part.shape) < missing] = np.nan
        part[0, 0] = 0.5
    return t, y


def networks(cell, drift=None, noise=None, latent=2):
    decoder = pn.mlp(latent, (5,), 2)
    generator = pn.System(pn.mlp(latent, (6,)), loss=elbo.likelihood(latent, decoder, 2, noise))
    return elbo.Networks(drift, cell, pn.mlp(cell.d, (), 2 * latent), generator, decoder)


def sines(n=40, seed=0, n_times=20, noise=0.05):
    """Sine waves of random phase at times of their own, 20 % of them missing."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(0, 4, (n, n_times)), axis=1)
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    y = np.stack([np.sin(t + phase), np.cos(t + phase)], axis=2) + noise * rng.standard_normal((n, n_times, 2))
    y[rng.random(y.shape) < 0.2] = np.nan
    return list(t), list(y), phase


@pytest.fixture(scope="module")
def fitted():
    t, y, _ = sines()
    model = pn.LatentODE(latent=2, hidden=(10,), max_iter=400, batch_size=20, t0=0.0, random_state=0)
    return model.fit(t, y)


# ---- Cells


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_gru_is_its_equations():
    cell = pn.gru_cell(3, 2)
    rng = np.random.default_rng(0)
    theta, h, x = rng.standard_normal(cell.n_params), rng.standard_normal(3), rng.standard_normal(2)
    p = cell.unflatten(theta)
    gates = sigmoid(p["gates"]["W"] @ np.concatenate([x, h]) + p["gates"]["b"])
    r, u = gates[:3], gates[3:]
    new = np.tanh(p["new"]["W"] @ np.concatenate([x, r * h]) + p["new"]["b"])
    np.testing.assert_allclose(cell(0.0, h, theta, x), u * h + (1 - u) * new, rtol=1e-13)


def test_rnn_is_its_equation():
    cell = pn.rnn_cell(3, 2)
    rng = np.random.default_rng(0)
    theta, h, x = rng.standard_normal(cell.n_params), rng.standard_normal(3), rng.standard_normal(2)
    p = cell.unflatten(theta)
    np.testing.assert_allclose(cell(0.0, h, theta, x), np.tanh(p["W"] @ np.concatenate([x, h]) + p["b"]), rtol=1e-13)


# ---- The encoder


def backwards(nets, theta, t, y, drift_step=None):
    """The encoder in plain NumPy, one series: the last observation first."""
    h = np.zeros(nets.cell.d)
    theta = nets.encoder(1).split(theta[nets.parts["encoder"]])
    seen = ~np.isnan(y).all(axis=1)
    t, y = t[seen], y[seen]
    for i in range(len(t) - 1, -1, -1):
        before = t[i - 1] if i else 0.0
        x = np.concatenate([np.nan_to_num(y[i]), ~np.isnan(y[i]), [t[i] - before]])
        h = nets.cell(0.0, h, theta["jump"], x)
        if nets.drift is not None and t[i] > before:
            grid = np.array([t[i], before])
            h = pn.solve(nets.drift, h, grid, theta["field"], method="midpoint", step=drift_step).y[-1]
    return h


@pytest.mark.parametrize("cell", [pn.gru_cell, pn.rnn_cell])
@pytest.mark.parametrize("drift", [None, pn.mlp(5, (6,))])
def test_encoder_is_the_loop_over_observations(cell, drift):
    t, y = observations()
    y[2][4] = np.nan  # a row without observation
    nets = networks(cell(5, 5), drift)
    theta = nets.init(3)
    options = JUMPS if drift is None else Options("midpoint", step=0.2)
    h = elbo.Encoder(nets, elbo.Series.of(t, y), options, np.float64)(theta)
    want = [backwards(nets, theta, *one, drift_step=0.2) for one in zip(t, y, strict=True)]
    np.testing.assert_allclose(h, want, rtol=1e-11, atol=1e-13)


def test_a_series_does_not_depend_on_the_others_nor_on_empty_rows():
    t, y = observations()
    nets = networks(pn.gru_cell(5, 5))
    theta = nets.init(0)
    h = elbo.Encoder(nets, elbo.Series.of(t, y), JUMPS, np.float64)(theta)
    for i in range(len(t)):
        padded = np.append(t[i], 4.5), np.append(y[i], [[np.nan, np.nan]], axis=0)
        alone = elbo.Encoder(nets, elbo.Series.of([padded[0]] * 2, [padded[1]] * 2), JUMPS, np.float64)(theta)
        assert (alone[0] == h[i]).all()


def test_taking_series():
    t, y = observations()
    part = elbo.Series.of(t, y).take(np.array([1, 3]))
    same = elbo.Series.of([t[1], t[3]], [y[1], y[3]])
    for name in ("t", "value", "mask", "start", "length", "gap", "backwards", "n_observed"):
        np.testing.assert_array_equal(getattr(part, name), getattr(same, name))


# ---- The bound


def test_likelihood_is_the_normal_density():
    decoder = pn.mlp(2, (4,), 3)
    field = elbo.likelihood(2, decoder, 3)
    rng = np.random.default_rng(0)
    theta, z, x = rng.standard_normal(field.n_params), rng.standard_normal(2), rng.standard_normal(3)
    mask = np.array([1.0, 0.0, 1.0])
    mean, sigma = decoder(0.0, z, theta[: decoder.n_params]), np.exp(theta[decoder.n_params :])
    want = -(mask * stats.norm.logpdf(x, mean, sigma)).sum()
    assert field(0.0, z, theta, np.concatenate([x, mask]))[0] == pytest.approx(want, rel=1e-12)


def test_kl_is_the_integral():
    mean, log_std = 0.7, -0.4
    q = stats.norm(mean, np.exp(log_std))
    want = q.expect(lambda z: q.logpdf(z) - stats.norm.logpdf(z))
    assert elbo.kl(np.array([[mean]]), np.array([[log_std]]))[0] == pytest.approx(want, rel=1e-8)


TURN = pn.field(state=5, theta={"A": (5, 5)})(lambda t, y, th: np.tanh((th.A - th.A.T) @ y))


@pytest.mark.parametrize("cell", [pn.gru_cell, pn.rnn_cell])
@pytest.mark.parametrize("drift", [None, pn.mlp(5, (6,), gain=0.5), TURN])
@pytest.mark.parametrize("noise", [None, np.array([0.3, 0.5])])
def test_gradient_against_finite_differences(cell, drift, noise):
    t, y = observations()
    nets = networks(cell(5, 5), drift, noise)
    encoding = JUMPS if drift is None else Options("midpoint", step=0.25)
    objective = elbo.Elbo(
        nets,
        elbo.Series.of(t, y),
        encoding,
        Options("rk4", step=0.25),
        n_samples=3,
        beta=lambda k: 0.7,
        dtype=np.float64,
    )
    theta, delta = nets.init(1), 1e-5
    _, gradient = objective(theta)
    rng = np.random.default_rng(0)
    for part in nets.parts.values():
        for i in rng.choice(np.arange(part.start, part.stop), 12, replace=False):
            e = delta * (np.arange(len(theta)) == i)
            difference = (objective(theta + e)[0] - objective(theta - e)[0]) / (2 * delta)
            assert gradient[i] == pytest.approx(difference, abs=2e-8)


def encoded(nets, theta, series):
    mean, log_std = elbo.encode(nets, theta, series, JUMPS)
    return LatentPosterior.independent(mean, np.exp(log_std))


def test_the_loss_is_minus_the_bound():
    t, y = observations()
    nets, series = networks(pn.gru_cell(5, 5)), elbo.Series.of(t, y)
    theta, options = nets.init(0), Options("dopri5", rtol=1e-8, atol=1e-8)
    objective = elbo.Elbo(nets, series, JUMPS, options, n_samples=4000, dtype=np.float64)
    lower, _ = elbo.bounds(nets, theta, series, encoded(nets, theta, series), options, 4000, 1)
    assert objective(theta)[0] == pytest.approx(-lower.sum() / series.n_observed.sum(), rel=0.03)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_way_back_of_an_encoder_begins_at_its_last_call(dtype):
    """To the same bits as a whole run; what is no such result is refused."""
    t, y = observations(lengths=(1, 3, 12, 23, 7) * 3)
    nets, series = networks(pn.gru_cell(5, 5)), elbo.Series.of(t, y)
    theta, encoder = nets.init(0), elbo.Encoder(nets, series, JUMPS, dtype)
    dh = np.random.default_rng(0).standard_normal(encoder(theta).shape)
    after, raw = encoder.pull(theta, dh), encoder.raw
    encoder.raw = None
    assert (encoder.pull(theta, dh) == after).all() and np.abs(after).max() > 0
    part, g = theta[encoder.part].astype(dtype), np.zeros(encoder.shape, dtype)
    short, wide = copy.copy(raw), copy.copy(raw)
    short["y_before"], wide["status"] = raw["y_before"][1:], raw["status"].astype(np.int64)
    for bad, message in (
        ({}, "result of a run"),
        (short, "y_before has shape"),
        (wide, "status must be .* int32"),
    ):
        with pytest.raises(ValueError, match=message):
            encoder.problem.run(part, g_y=g, gradient="discrete", after=bad)
    with pytest.raises(ValueError, match="goes with g_y"):
        encoder.problem.run(part, after=raw)
    nets = networks(pn.gru_cell(5, 5), pn.mlp(5, (6,)))  # its state moves between observations
    moving, theta = elbo.Encoder(nets, series, Options("midpoint", step=0.25), dtype), nets.init(0)
    moving(theta)
    part, g = theta[moving.part].astype(dtype), np.zeros(moving.shape, dtype)
    with pytest.raises(ValueError, match="all times of each sample must be the initial one"):
        moving.problem.run(part, g_y=g, gradient="discrete", after=moving.raw)


@pytest.fixture
def linear_gaussian():
    """z stays, x = W z + b + noise: networks, theta, series, their posteriors and log p(x) by linear algebra."""

    @pn.field(state=2)
    def rest(t, z):
        return 0.0 * z

    t, y = observations(lengths=(1, 2, 3), missing=0.2)
    decoder, cell = pn.mlp(2, (), 2), pn.gru_cell(4, 5)
    generator = pn.System(rest, loss=elbo.likelihood(2, decoder, 2, np.full(2, 0.8)))
    nets = elbo.Networks(None, cell, pn.mlp(4, (), 4), generator, decoder)
    theta = nets.init(0)
    linear, exact = decoder.unflatten(theta[nets.parts["generator"]]), []
    for part in y:
        seen = ~np.isnan(part.ravel())
        W, b = np.tile(linear["W0"], (len(part), 1))[seen], np.tile(linear["b0"], len(part))[seen]
        evidence = stats.multivariate_normal.logpdf(part.ravel()[seen], b, W @ W.T + 0.64 * np.eye(len(b)))
        covariance = np.linalg.inv(np.eye(2) + W.T @ W / 0.64)
        exact.append((evidence, covariance @ W.T @ (part.ravel()[seen] - b) / 0.64, covariance))
    return nets, theta, elbo.Series.of(t, y), exact


def test_bounds_of_a_linear_gaussian_model(linear_gaussian):
    nets, theta, series, exact = linear_gaussian
    lower, tighter = elbo.bounds(nets, theta, series, encoded(nets, theta, series), Options(), 40_000, 0)
    for i, (evidence, *_) in enumerate(exact):
        assert lower[i] < evidence - 0.01
        assert tighter[i] == pytest.approx(evidence, abs=0.02)


def test_refined_the_posterior_of_a_linear_gaussian_model_is_exact(linear_gaussian):
    nets, theta, series, exact = linear_gaussian
    q = refined(Misfit(nets, theta, series, np.full(2, 0.8), Options()), encoded(nets, theta, series), 20)
    for i, (_, mean, covariance) in enumerate(exact):
        assert q.mean[i] == pytest.approx(mean, abs=1e-4)
        assert q.factor[i] @ q.factor[i].T == pytest.approx(covariance, abs=1e-10)
        assert q.std[i] == pytest.approx(np.sqrt(np.diag(covariance)), abs=1e-10)
        prior = stats.multivariate_normal(np.zeros(2))
        z = stats.multivariate_normal(q.mean[i], covariance).rvs(200_000, random_state=0)
        gap = stats.multivariate_normal(q.mean[i], covariance).logpdf(z) - prior.logpdf(z)
        assert q.kl[i] == pytest.approx(gap.mean(), abs=0.02)
    lower, tighter = elbo.bounds(nets, theta, series, q, Options(), 50, 0)
    assert lower == pytest.approx([evidence for evidence, *_ in exact], abs=1e-4)  # any draw tells p(x)
    assert tighter == pytest.approx(lower, abs=1e-4)


@pytest.mark.parametrize("inputs", [False, True])
def test_misfit_is_minus_log_density_with_its_derivatives(inputs):
    """Against the decoder's solve; the gradient against differences; the matrix against J^T J of differences."""
    t, y = observations()
    decoder, noise = pn.mlp(2, (5,), 2), np.array([0.3, 0.5])
    equation = pn.mlp(2, (6,), inputs=int(inputs))
    nets = elbo.Networks(
        None,
        pn.gru_cell(5, 5 + inputs),
        pn.mlp(5, (), 4),
        pn.System(equation, loss=elbo.likelihood(2, decoder, 2, noise)),
        decoder,
    )
    u = [np.sin(s)[:, None] for s in t]
    signal = Signal([np.concatenate([[0.0], s]) for s in t], [np.concatenate([[[0.0]], v]) for v in u]) if inputs else None
    series, theta = elbo.Series.of(t, y, signal=signal), nets.init(3)
    misfit, z = (
        Misfit(nets, theta, series, noise, Options("rk4", step=0.25)),
        np.random.default_rng(0).standard_normal((5, 2)),
    )
    value, gradient, matrix = misfit(z)
    nll = elbo.Decoder(nets, series, Options("rk4", step=0.25), np.float64)(theta, z)
    constant = series.mask @ np.log(noise) + 0.5 * elbo.LOG_2PI * series.mask.sum(axis=1)
    assert value - 0.5 * np.sum(z**2, axis=1) == pytest.approx(nll - np.add.reduceat(constant, series.start), rel=1e-10)
    h = 1e-6
    for k in range(2):
        e = h * (np.arange(2) == k)
        assert gradient[:, k] == pytest.approx((misfit(z + e)[0] - misfit(z - e)[0]) / (2 * h), abs=1e-6)
    for i in range(5):  # the matrix is that of the residuals: exact where they vanish
        rows = slice(series.start[i], series.start[i] + series.length[i])
        shifted = [curve(nets, theta, series, z + h * (np.arange(2) == k), i) for k in range(2)]
        base = curve(nets, theta, series, z, i)
        J = np.stack([((x - base) / h * series.mask[rows] / noise).ravel() for x in shifted], axis=1)
        assert matrix[i] == pytest.approx(J.T @ J + np.eye(2), rel=1e-4, abs=1e-4)


def curve(nets, theta, series, z, i):
    """What the model says of the observations of series i."""
    part, rows = (
        nets.generator.split(theta[nets.parts["generator"]]),
        slice(series.start[i], series.start[i] + series.length[i]),
    )
    keys = {} if series.signal is None else {"inputs": series.signal.take(np.array([i]))}
    times = np.concatenate([[0.0], series.t[rows]])
    states = pn.solve(nets.generator.field, z[i : i + 1], times, part["field"], method="rk4", step=0.25, **keys).y[0, 1:]
    return nets.decoder(0.0, states, part["loss"][: nets.decoder.n_params])


def test_many_series_are_refined_in_parts(fitted, monkeypatch):
    t, y, _ = sines(n=11, seed=4)
    mean, std = fitted.encode(t, y)
    monkeypatch.setattr(posterior, "MOST_NUMBERS", 200)
    parts = fitted.encode(t, y)
    assert parts[0] == pytest.approx(mean, abs=1e-9) and parts[1] == pytest.approx(std, rel=1e-9)


def test_where_a_solve_fails_the_encoder_is_kept():
    @pn.field(state=1)
    def explode(t, z):
        return z**2 * 1.0

    decoder = pn.mlp(1, (), 1)
    nets = elbo.Networks(
        None, pn.gru_cell(3, 3), pn.mlp(3, (), 2), pn.System(explode, loss=elbo.likelihood(1, decoder, 1)), decoder
    )
    series = elbo.Series.of([np.array([1.0, 2.0])] * 2, [np.ones((2, 1))] * 2)
    start = LatentPosterior.independent(np.array([[5.0], [-1.0]]), np.full((2, 1), 0.1))  # the first is infinite at 0.2
    q = refined(Misfit(nets, nets.init(0), series, np.ones(1), Options()), start, 5)
    assert q.mean[0] == 5.0 and q.std[0] == pytest.approx(0.1)
    assert q.mean[1] != -1.0 and q.std[1] != pytest.approx(0.1)


def test_minibatches_cover_the_series_and_depend_on_seed_and_number_only():
    t, y = observations(lengths=(2,) * 7, missing=0.0)
    nets = networks(pn.gru_cell(5, 5))
    make = lambda: elbo.Elbo(nets, elbo.Series.of(t, y), JUMPS, Options(), batch_size=3, random_state=5, dtype=np.float64)  # noqa: E731
    one, other = make(), make()
    first = []
    for k in (1, 2, 3):
        one.draw(k)
        first += one.chosen.value[one.chosen.start, 0].tolist()
    assert sorted(first) == sorted(part[0, 0] for part in y)
    other.draw(3)
    assert (one.eps == other.eps).all() and (one.chosen.t == other.chosen.t).all()
    theta = nets.init(0)
    assert one(theta)[0] == other(theta)[0]


# ---- The estimator


def test_refined_it_is_nearer_and_says_better_how_near(fitted):
    t, y, phase = sines(seed=3)
    clean = np.concatenate([np.stack([np.sin(s + p), np.cos(s + p)], axis=1) for s, p in zip(t, phase, strict=True)])
    plain = pn.LatentODE.from_content(fitted.to_content())
    plain.refine = 0
    errors, covers = [], []
    for model in (plain, fitted):
        mean, std = (np.concatenate(part) for part in model.predict(t, y, return_std=True, random_state=0))
        errors.append(np.sqrt(np.mean((mean - clean) ** 2)))
        covers.append(np.mean(np.abs(mean - clean) < 1.645 * std))
    assert errors[1] < 0.8 * errors[0]
    assert covers[1] > covers[0]
    assert fitted.bound(t, y)["elbo"].mean() > plain.bound(t, y)["elbo"].mean()


def test_it_learns(fitted):
    """New series: missing entries filled, continued beyond the data, noise found."""
    t, y, phase = sines(seed=1)
    clean = [np.stack([np.sin(s + p), np.cos(s + p)], axis=1) for s, p in zip(t, phase, strict=True)]
    filled = np.concatenate(fitted.reconstruct(t, y)) - np.concatenate(clean)
    assert np.sqrt(np.mean(filled**2)) < 0.2  # of curves with 0.71
    later = np.linspace(4, 5, 11)
    ahead = fitted.extrapolate(t, y, later) - np.stack([np.sin(later + phase), np.cos(later + phase)], axis=2)
    assert np.sqrt(np.mean(ahead**2)) < 0.35
    assert fitted.report_["iwae"] >= fitted.report_["elbo"]
    assert fitted.report_["rmse"]["y1"] < 0.2 and (fitted.noise_ < 0.25).all()


@pytest.mark.parametrize("encoder", ["gru", "rnn", "ode-rnn"])
def test_every_encoder_fits(encoder):
    t, y, _ = sines(n=20)
    options = {"encoder": encoder, "latent": 2, "hidden": (8,), "encoder_hidden": 10, "random_state": 0}
    losses = [pn.LatentODE(max_iter=n, **options).fit(t, y).report_["elbo"] for n in (1, 60)]
    assert losses[1] > losses[0] + 0.3


def test_shapes(fitted):
    t, y, _ = sines(n=3, seed=2)
    at, shared = np.linspace(0, 6, 7), np.linspace(0.5, 4, 9)
    stacked = np.sin(shared)[None, :, None] * np.ones((3, 1, 2))
    mean, std = fitted.encode(t, y)
    assert mean.shape == std.shape == (3, 2) and (std > 0).all()
    assert [x.shape for x in fitted.encode(t[0], y[0])] == [(2,), (2,)]
    assert [x.shape for x in fitted.predict(t, y)] == [(20, 2)] * 3
    assert fitted.predict(t, y, at).shape == (3, 7, 2)
    assert fitted.predict(t[0], y[0], at).shape == (7, 2)
    assert fitted.predict(shared, stacked).shape == (3, 9, 2)
    own = fitted.predict(t, y, [at, at[:2], at[3:]])
    assert [x.shape for x in own] == [(7, 2), (2, 2), (4, 2)]
    curve, band = fitted.predict(t, y, at, return_std=True)
    assert curve.shape == band.shape == (3, 7, 2) and (band > 0).all()
    assert [x.shape for x in fitted.predict(t, y, return_std=True)[1]] == [(20, 2)] * 3
    assert fitted.sample(at, 4).shape == (4, 7, 2)
    assert fitted.sample(at, 4, t, y).shape == (4, 3, 7, 2)
    assert fitted.sample(at, 4, t[0], y[0]).shape == (4, 7, 2)
    bound = fitted.bound(t, y, n_samples=5)
    assert bound["elbo"].shape == (3,) and (bound["iwae"] > bound["elbo"]).all()


def test_draws_from_the_posterior_have_its_mean_and_spread(fitted):
    t, y, _ = sines(n=2, seed=3)
    at = np.linspace(0, 4, 5)
    draws = fitted.sample(at, 400, t, y, random_state=0)
    mean, std = fitted.predict(t, y, at, return_std=True, n_samples=400, random_state=1)
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=5 * std.max() / 20)
    np.testing.assert_allclose(draws.std(axis=0), std, rtol=0.3)


def test_the_bound_is_a_density_in_the_units_of_the_data(fitted):
    """Data in other units: the same model, the density divided by the factor."""
    t, y, _ = sines()
    other = pn.LatentODE(**fitted.get_params()).fit(t, [1000 * part for part in y])
    np.testing.assert_allclose(other.noise_, 1000 * fitted.noise_, rtol=1e-3)
    assert other.report_["elbo"] == pytest.approx(fitted.report_["elbo"] - np.log(1000), abs=1e-3)


def test_given_noise_is_kept():
    t, y, _ = sines(n=5)
    model = pn.LatentODE(noise=[0.1, 0.2], max_iter=2, random_state=0).fit(t, y)
    assert model.noise_.tolist() == [0.1, 0.2] and "log_noise" not in str(model.networks_.generator.loss.spec)


def test_a_latent_equation_of_your_own():
    @pn.field(state=2, theta={"w": 1.0})
    def rotation(t, z, th):
        return [th.w * z[1], -th.w * z[0]]

    t, y, _ = sines()
    model = pn.LatentODE(2, field=rotation, t0=0.0, t_scale=1.0, max_iter=600, random_state=0).fit(t, y)
    theta = model.networks_.generator.split(model.theta_[model.networks_.parts["generator"]])["field"]
    assert abs(theta[0]) == pytest.approx(1.0, abs=0.1)  # the frequency of the sines


def test_same_seed_same_model():
    t, y, _ = sines(n=8)
    options = {"max_iter": 5, "batch_size": 3, "random_state": 3}
    one, other = (pn.LatentODE(**options).fit(t, y) for _ in range(2))
    assert (one.theta_ == other.theta_).all()
    assert not (one.theta_ == pn.LatentODE(**(options | {"random_state": 4})).fit(t, y).theta_).all()


# ---- Long fits, files, pictures


def test_a_fit_goes_on_from_its_checkpoint(tmp_path):
    t, y, _ = sines(n=8)
    options = {"max_iter": 12, "batch_size": 3, "random_state": 3}
    whole = pn.LatentODE(**options).fit(t, y)
    path = tmp_path / "fit.npz"

    def stop(iteration):
        if iteration.number == 7:
            raise KeyboardInterrupt

    model = pn.LatentODE(**options)
    with pytest.raises(pn.fit.FitInterrupted):
        model.fit(t, y, checkpoint=Checkpoint(path, every=0), callback=stop)
    assert model.report_["status"] == "interrupted" and len(model.predict(t, y)) == 8
    again = pn.LatentODE(**options).fit(t, y, checkpoint=path)
    assert (again.theta_ == whole.theta_).all() and not path.exists()
    assert len(again.history_["loss"]) == 12


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    t, y, _ = sines(n=4)
    path = tmp_path / "fit.npz"

    def stop(iteration):
        raise KeyboardInterrupt

    model = pn.LatentODE(max_iter=3, random_state=0)
    with pytest.raises(pn.fit.FitInterrupted):
        model.fit(t, y, checkpoint=Checkpoint(path, every=0), callback=lambda i: i.number == 2 and stop(i))
    with pytest.raises(ValueError, match="another fit"):
        pn.LatentODE(max_iter=3, random_state=0).fit(t[:3], y[:3], checkpoint=path)
    with pytest.raises(ValueError, match="random_state"):
        pn.LatentODE(max_iter=3).fit(t, y, checkpoint=path)


def test_a_callback_stops():
    t, y, _ = sines(n=4)
    model = pn.LatentODE(max_iter=50, random_state=0).fit(t, y, callback=lambda iteration: iteration.number == 3)
    assert model.report_["status"] == "stopped" and model.report_["n_iter"] == 3
    assert (model.history_["nfe"] > 0).all()


def test_save_and_load(fitted, tmp_path):
    t, y, _ = sines(n=3, seed=2)
    path = tmp_path / "model.npz"
    fitted.save(path)
    again = pn.load(path)
    assert type(again) is pn.LatentODE and again.get_params() == fitted.get_params()
    at = np.linspace(0, 5, 6)
    assert (again.predict(t, y, at) == fitted.predict(t, y, at)).all()
    assert again.report_ == fitted.report_ and again.names_ == fitted.names_
    assert (again.history_["loss"] == fitted.history_["loss"]).all()
    assert len(again.data_) == 40
    fitted.save(path, data=False)
    assert pn.load(path).data_ is None


def test_save_and_load_of_other_options(tmp_path):
    @pn.field(state=2, theta={"w": 1.0})
    def rotation(t, z, th):
        return [th.w * z[1], -th.w * z[0]]

    t, y, _ = sines(n=3)
    for options in ({"field": rotation}, {"encoder": "ode-rnn"}, {"encoder": "rnn", "noise": 0.1, "dtype": "float64"}):
        model = pn.LatentODE(2, max_iter=1, random_state=0, **options).fit(t, y)
        model.save(tmp_path / "model.npz")
        again = pn.load(tmp_path / "model.npz")
        assert all((a == b).all() for a, b in zip(again.predict(t, y), model.predict(t, y), strict=True))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.update(theta=content["theta"][:-1]),
        lambda content: content["params"].update(latent=3),
        lambda content: content["params"].update(encoder="lstm"),
        lambda content: content["units"].update(scale=np.zeros(2)),
        lambda content: content["names"].append("z"),
        lambda content: content.update(history={}),
        lambda content: content.pop("units"),
    ],
)
def test_a_damaged_file_is_refused(fitted, tmp_path, damage):
    from pynode.data import files

    path = tmp_path / "model.npz"
    fitted.save(path)
    content = files.read(path)
    damage(content)
    files.write(path, content)
    with pytest.raises(pn.ModelFileError, match="valid model"):
        pn.load(path)


def test_pictures(fitted, tmp_path):
    pytest.importorskip("matplotlib")
    t, y, phase = sines(n=3, seed=2)
    for kind in ("series", "latent", "loss"):
        fitted.plot(kind).savefig(tmp_path / "a.png")
    figure = fitted.plot("series", t, y, plane=False, n=2)
    assert len(figure.axes) == 4
    grid = np.linspace(0, 4, 20)
    truth = [(grid, np.stack([np.sin(grid + p), np.cos(grid + p)], axis=1)) for p in phase[:, 0]]
    assert len(fitted.plot("series", t, y, truth=truth).axes) == 3
    fitted.plot("latent", t, y, colour=phase[:, 0]).savefig(tmp_path / "a.png")
    with pytest.raises(ValueError, match="kind"):
        fitted.plot("phase")


# ---- Bad input


def test_unfitted():
    model = pn.LatentODE()
    t, y, _ = sines(n=2)
    for call in (
        lambda: model.predict(t, y),
        lambda: model.encode(t, y),
        lambda: model.reconstruct(t, y),
        lambda: model.extrapolate(t, y, [5.0]),
        lambda: model.sample([1.0]),
        lambda: model.bound(t, y),
        lambda: model.save("nowhere.npz"),
        lambda: model.plot(),
    ):
        with pytest.raises(pn.models.NotFittedError, match="not fitted"):
            call()
    assert "not fitted" in repr(model)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"latent": 0}, "latent=0"),
        ({"encoder": "lstm"}, "encoder='lstm'"),
        ({"hidden": (0,)}, "hidden"),
        ({"noise": -1.0}, "noise"),
        ({"noise": [0.1, 0.1, 0.1]}, "noise"),
        ({"anneal": 2.0}, "anneal"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"method": "rk4"}, "method='rk4'"),
        ({"dtype": "float16"}, "dtype"),
        ({"schedule": "linear"}, "schedule"),
        ({"field": pn.mlp(3, (4,))}, "latent = 4"),
        ({"t0": np.nan}, "t0"),
        ({"t0": 0.5}, "before the time t0 = 0.5"),
        ({"max_iter": 0}, "max_iter"),
    ],
)
def test_bad_options(options, match):
    t, y, _ = sines(n=2)
    with pytest.raises(ValueError, match=match):
        pn.LatentODE(**({"max_iter": 1} | options)).fit(t, y)


def test_bad_data(fitted):
    t, y, _ = sines(n=2)
    empty = np.full_like(y[1], np.nan)
    model = pn.LatentODE(max_iter=1)
    with pytest.raises(ValueError, match="series 1 has no observed entry"):
        model.fit(t, [y[0], empty])
    with pytest.raises(ValueError, match="trajectory 1 is empty"):
        model.fit([t[0], t[1][:0]], [y[0], y[1][:0]])
    with pytest.raises(ValueError, match="y2 is never observed"):
        model.fit(t, [np.where([True, False], part, np.nan) for part in y])
    with pytest.raises(ValueError, match="series 0 has no observed entry"):
        fitted.encode(t[1], empty)
    with pytest.raises(ValueError, match="is empty"):
        fitted.predict([t[0][:0]], [y[0][:0]])
    with pytest.raises(ValueError, match="before the time t0 = 0"):
        fitted.predict(t[0] - 1, y[0])
    with pytest.raises(ValueError, match="values a time"):
        fitted.predict(t[0], y[0][:, :1])
    with pytest.raises(TypeError, match="give the series"):
        fitted.predict(t)


def test_bad_times(fitted):
    t, y, _ = sines(n=2)
    for at in ([-1.0], [], [np.nan], [2.0, 1.0], [[1.0], [1.0]]):
        with pytest.raises(ValueError, match="at"):
            fitted.predict(t, y, np.array(at))
    with pytest.raises(ValueError, match="2 series"):
        fitted.predict(t, y, [np.ones(1)] * 3)
    with pytest.raises(ValueError, match="before the last time of series 0"):
        fitted.extrapolate(t, y, [1.0, 5.0])
    with pytest.raises(TypeError, match="extrapolate needs the times"):
        fitted.extrapolate(t, y)
    with pytest.raises(ValueError, match="n="):
        fitted.sample([1.0], 0)


# ---- The data sets


def test_spirals():
    data = pn.datasets.spirals(1, n_train=40, n_held_out=3, n_observed=20)
    assert data.clean.shape == (40, 100, 2) and len(data.held_out) == 3 and data.clean_held_out.shape == (3, 100, 2)
    s = np.linspace(0, 6 * np.pi, 500)
    assert (data.t[0] == s[:100]).all()
    residual = []
    for t, y, clean in zip(data.train.t, data.train.y, data.clean, strict=True):
        residual.append(y - clean[np.searchsorted(s, t)])
        r = np.hypot(clean[:, 0] - 5, clean[:, 1])
        outward = np.allclose(np.diff(r), 0.3 * s[1])
        product = np.hypot(clean[:, 0] + 5, clean[:, 1])
        assert outward or np.allclose(np.diff(15 / product), -s[1])
    assert np.std(residual) == pytest.approx(0.3, rel=0.05)
    same = pn.datasets.spirals(1, n_train=40, n_held_out=3, n_observed=20)
    assert all((a == b).all() for a, b in zip(same.train.y, data.train.y, strict=True))


def test_periodic():
    data = pn.datasets.periodic(0, n_train=30, n_held_out=2, noise=0.0)
    assert data.train.lengths == (10,) * 30 and len(set(map(len, data.t))) == 1 and len(data.t[0]) == 50
    for t, y, grid, clean in zip(data.train.t, data.train.y, data.t, data.clean, strict=True):
        np.testing.assert_array_equal(y, clean[np.searchsorted(grid, t)])
    assert not (data.t[0] == data.t[1]).any()


@pytest.mark.parametrize("make", [pn.datasets.spirals, pn.datasets.periodic])
@pytest.mark.parametrize("options", [{"n_train": 0}, {"n_observed": 0}, {"n_observed": 101}, {"noise": -1.0}])
def test_bad_data_set(make, options):
    with pytest.raises(ValueError, match="needs n_train"):
        make(**options)
