"""Exact sensitivities, Levenberg-Marquardt with evidence, error bands."""

import numpy as np
import pytest

import pynode as pn
from pynode import NeuralODE, datasets
from pynode.optim.levenberg_marquardt import covariance, descend, variances
from pynode.optim.normal_equations import Residuals
from pynode.optim.posterior import LaplacePosterior
from pynode.training.matching import MatchingProblem
from pynode.training.shooting import ShootingProblem
from pynode.training.windows import Data

RNG = np.random.default_rng(0)


def after(here, step):
    """The best step of the free states with a step of the shared coordinates."""
    gain, shift = here.free.eliminated()[2:]
    return -(shift + gain @ step)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "dop853"},
        {"method": "rk4", "step": 0.07},
        {"save": "land", "method": "tsit5"},
        {"method": "euler", "step": 0.05},
    ],
)
def test_sensitivities_are_the_transpose_of_the_gradient(options):
    f = pn.mlp(2, (7,), activation="softplus")
    theta, y0, t = f.init(0), RNG.standard_normal((3, 2)), np.linspace(0, 2, 9)
    w = RNG.standard_normal((3, 9, 2))
    s = pn.sensitivities(f, y0, t, theta, **options)
    g = pn.solve(f, y0, t, theta, **options).vjp(w)
    np.testing.assert_allclose(np.einsum("btdp,btd->p", s.theta, w), g.theta, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(np.einsum("btdp,btd->bp", s.y0, w), g.y0, rtol=1e-10, atol=1e-11)


def test_sensitivities_of_a_linear_equation():
    @pn.field(state=1, theta={"a": 2.0})
    def f(t, y, th):
        return -th.a * y

    t = np.linspace(0, 1.5, 7)
    s = pn.sensitivities(f, [3.0], t, [0.7], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(s.theta[:, 0, 0], -t * 3 * np.exp(-0.7 * t), atol=1e-8)
    np.testing.assert_allclose(s.y0[:, 0, 0], np.exp(-0.7 * t), atol=1e-8)


def test_the_normal_equations_eliminate_the_initial_states():
    """Against the full least-squares system."""
    f = pn.mlp(2, (3,))
    theta, t = f.init(1), [np.linspace(0, 1, 5), np.linspace(0, 2, 8)]
    y = [RNG.standard_normal((5, 2)), RNG.standard_normal((8, 2))]
    y[1][3, 0] = np.nan
    free = np.stack([v[0] for v in y])
    problem = ShootingProblem(f, Data(t, y), free, prior=np.zeros((2, 2)))
    here = problem.linearise(theta, free)
    raw = problem.parts[0][1].run(theta, free)
    p, J, r = f.n_params, raw["sensitivity"].reshape(26, -1), (raw["y"] - np.concatenate(y)).ravel()
    full = np.zeros((26, p + 4))
    full[:, :p] = J[:, :p]
    full[:10, p : p + 2], full[10:, p + 2 :] = J[:10, p:], J[10:, p:]
    seen = ~np.isnan(r)
    full, r = full[seen], r[seen]
    damping = 1e-3 * np.diag([1.0] * p + [0.0] * 4)
    want = -np.linalg.solve(full.T @ full + damping, full.T @ r)
    step = -np.linalg.solve(here.H + 1e-3 * np.eye(p), here.g)
    np.testing.assert_allclose(step, want[:p], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(after(here, step).ravel(), want[p:], rtol=1e-6, atol=1e-9)
    assert here.loss == pytest.approx(r @ r)


def test_evidence_finds_the_noise_of_a_linear_model():
    @pn.field(state=3, theta={"A": (1, 3)}, out=1)
    def f(t, y, th):
        return th.A @ y

    rng = np.random.default_rng(3)
    x, truth = rng.standard_normal((4000, 3)), np.array([1.0, -2.0, 0.5])
    y = (x @ truth + 0.3 * rng.standard_normal(4000))[:, None]
    state = LaplacePosterior(np.zeros(3), None, np.ones(3), 1.0)
    descend(MatchingProblem(f, np.zeros(4000), x, y), state, groups=[np.arange(3)])
    assert 1 / np.sqrt(state.beta) == pytest.approx(0.3, rel=0.04)
    assert state.gamma == pytest.approx(3, abs=0.01)
    error = np.abs(state.theta - truth)
    assert (error < 4 * np.sqrt(np.diag(state.covariance))).all() and state.status == "converged"


@pytest.mark.parametrize("settled", [1.0, 1e-3])
def test_the_noise_that_is_given_stays(settled):
    """noise=False: also where the descent begins, and where it stalls before anything was estimated."""
    problem = Residuals(lambda x: (np.array([3.0, x[0]]), np.array([[0.0], [1.0]])), np.zeros(1))
    state = LaplacePosterior(np.zeros(1), None, np.ones(1), 1.0)
    descend(problem, state, groups=[np.arange(1)], noise=False, settled=settled, on_iteration=lambda state: None)
    assert state.status == "stalled" and state.estimated
    assert state.beta == 1 and state.alpha[0] > 1


@pytest.mark.parametrize("seed", [0, 6])
def test_van_der_pol_reaches_the_noise(seed):
    data = datasets.van_der_pol(seed)
    model = NeuralODE(structure="network", random_state=0).fit(data.train)
    for noise in model.report_["noise"].values():
        assert noise**2 == pytest.approx(0.0025, rel=0.1)
    truth = np.stack(data.held_out.y)
    mean, std = model.predict(data.held_out.t[0], truth[:, 0], return_std=True)
    assert np.median(np.mean((mean - truth) ** 2, axis=(1, 2))) < 0.01
    covered = (np.abs(mean - truth) <= 1.645 * std)[:, 1:].mean()
    assert 0.7 < covered <= 1
    assert 10 < model.report_["effective_parameters"] < 120


@pytest.mark.filterwarnings("ignore:y[12]. .*far from the fit:pynode.fit.FitWarning")
def test_outliers_do_not_count():
    t = np.linspace(0, 10, 80)
    clean = np.stack([np.cos(t), -np.sin(t)], axis=1)
    rng = np.random.default_rng(1)
    dirty = clean + 0.02 * rng.standard_normal(clean.shape)
    dirty[rng.random(clean.shape) < 0.05] += 1.0
    error = {}
    for noise in ("gaussian", "student", "huber"):
        model = NeuralODE(hidden=(8,), noise=noise, random_state=0).fit(t, dirty)
        error[noise] = np.sqrt(np.mean((model.predict(t, trajectory=0) - clean) ** 2))
    assert error["student"] < 0.03 and error["huber"] < 0.05
    assert error["student"] < 0.5 * error["gaussian"]


def test_parameters_with_values_have_no_prior_and_calibrated_errors():
    @pn.field(state=2, theta={"k": 0.5, "c": 0.1})
    def oscillator(t, y, th):
        return [y[1], -th.k * y[0] - th.c * y[1]]

    t, true = np.linspace(0, 4, 50), np.array([1.0, 0.5])
    y0 = np.array([[1.0, 0.0], [0.0, 1.0], [-0.5, 0.5]])
    clean = pn.solve(oscillator, y0, t, true, rtol=1e-10, atol=1e-12).y
    exact = NeuralODE(field=oscillator, random_state=0, rtol=1e-8, atol=1e-10).fit(t, clean)
    np.testing.assert_allclose(exact.theta_, true, rtol=1e-3)
    z = []
    for seed in range(12):
        noisy = clean + 0.02 * np.random.default_rng(seed).standard_normal(clean.shape)
        model = NeuralODE(field=oscillator, random_state=0).fit(t, noisy)
        z.append((model.theta_ - true) / np.sqrt(np.diag(model.covariance_)))
    assert 0.5 < np.std(z) < 1.6


def test_bands_need_second_order():
    t = np.linspace(0, 5, 30)
    model = NeuralODE(hidden=(4,), optimizer="lbfgs", random_state=0).fit(t, np.exp(-t))
    with pytest.raises(ValueError, match="return_std needs"):
        model.predict(t, [1.0], return_std=True)
    with pytest.raises(ValueError, match="n_restarts belongs to"):
        NeuralODE(optimizer="adam", n_restarts=2).fit(t, np.exp(-t))


def test_bands_survive_a_file(tmp_path):
    t = np.linspace(0, 5, 30)
    y = np.stack([np.cos(t), -np.sin(t)], axis=1) + 0.05 * np.random.default_rng(0).standard_normal((30, 2))
    model = NeuralODE(hidden=(4,), random_state=0).fit(t, y)
    model.save(tmp_path / "m.npz")
    again = pn.load(tmp_path / "m.npz")
    for a, b in zip(model.predict(t, return_std=True), again.predict(t, return_std=True), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rank", [0, 3, 6])
def test_variances_are_the_diagonal_of_the_covariance(rank):
    J = np.random.default_rng(0).standard_normal((rank, 6))
    for alpha in (np.full(6, 0.1), np.zeros(6)):  # without priors and data the matrix is singular
        np.testing.assert_allclose(variances(J.T @ J, alpha, 2.0), np.diag(covariance(J.T @ J, alpha, 2.0)), rtol=1e-8)
    assert variances(np.zeros((0, 0)), np.zeros(0), 1.0).shape == (0,)
