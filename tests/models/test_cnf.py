"""Continuous normalising flows: divergence, closed forms, gradients, what densities must obey, bad input."""

import itertools
import warnings

import numpy as np
import pytest
from test_predictors import RK4, differences

import pynode as pn
from pynode.data import files
from pynode.models.flows.cnf import density_field, negative_log_likelihood, rademacher
from pynode.models.flows.samples import FlowSamples
from pynode.training.early_stopping import split


def moons(n=300, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    angle, upper = np.pi * rng.uniform(size=n), rng.uniform(size=n) < 0.5
    x = np.where(upper, np.cos(angle), 1 - np.cos(angle))
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle))
    return np.stack([x, y], axis=1) + noise * rng.normal(size=(n, 2))


@pytest.fixture(scope="module")
def fitted():
    return pn.CNF((24, 24), max_iter=40, batch_size=75, learning_rate=2e-2, random_state=0, rtol=1e-3, atol=1e-3).fit(
        moons()
    )


# ---- The field of the density ------------------------------------------------------------------------------------------


def jacobian(f, t, y, theta, h=1e-6):
    return np.stack([(f(t, y + h * e, theta) - f(t, y - h * e, theta)) / (2 * h) for e in np.eye(len(y))], axis=1)


def test_divergence_and_norm_of_the_jacobian_are_exact():
    f, rng = pn.mlp(3, (6, 5), time=True), np.random.default_rng(0)
    theta, y = rng.normal(size=f.n_params), rng.normal(size=3)
    J, slope = jacobian(f, 0.4, y, theta), f(0.4, y, theta)
    g = density_field(f, kinetic=2.0, jacobian_norm=0.5)
    value = g(0.4, [*y, 0.7, 0.2], theta)
    np.testing.assert_allclose(value[:3], slope, rtol=1e-13)
    np.testing.assert_allclose(value[3], np.trace(J), rtol=1e-7)
    np.testing.assert_allclose(value[3], pn.divergence(f)(0.4, y, theta), rtol=1e-12)
    np.testing.assert_allclose(value[4], (2.0 * (slope @ slope) + 0.5 * (J**2).sum()) / 3, rtol=1e-7)


def test_hutchinson_is_exact_over_all_signs():
    """The mean of v^T J v over all sign vectors is tr J, that of |J v|^2 is |J|_F^2: no estimate is left to chance."""
    f, rng = pn.mlp(3, (6,), time=True), np.random.default_rng(1)
    theta, y = rng.normal(size=f.n_params), rng.normal(size=3)
    J, g = jacobian(f, 0.4, y, theta), density_field(f, exact=False, jacobian_norm=1.0)
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=3)))
    values = g(np.full(8, 0.4), np.tile([*y, 0.0, 0.0], (8, 1)), theta, signs)
    np.testing.assert_allclose(values[:, 3].mean(), np.trace(J), rtol=1e-7)
    np.testing.assert_allclose(values[:, 4].mean(), (J**2).sum() / 3, rtol=1e-7)
    assert values[:, 3].std() > 0
    drawn = rademacher(np.random.default_rng(0), 4000, 3)
    assert set(np.unique(drawn)) == {-1.0, 1.0} and np.abs(drawn.T @ drawn / 4000 - np.eye(3)).max() < 0.06


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("penalty", [(0.0, 0.0), (0.2, 0.3)])
def test_gradient_against_finite_differences(exact, penalty):
    f, rng = pn.mlp(2, (4,), time=True), np.random.default_rng(2)
    noise = None if exact else lambda r, n: rademacher(r, n, 2)
    objective = FlowSamples(
        density_field(f, exact, *penalty),
        negative_log_likelihood(2, any(penalty)),
        rng.normal(size=(7, 2)),
        np.ones((7, 1)),
        7,
        0,
        noise=noise,
        **RK4,
    )
    z = rng.normal(size=f.n_params)
    gradient = objective(z)[1]
    np.testing.assert_allclose(gradient, differences(objective, z), atol=1e-9 * max(1, np.abs(gradient).max()))


# ---- Densities -----------------------------------------------------------------------------------------------------------


def test_closed_form_of_a_linear_flow():
    """dx/dt = (a - b t) x multiplies by s = e^(a - b/2): the density is the Gaussian of standard deviation 1/s."""

    @pn.field(state=2, theta={"a": 0.3, "b": 0.2})
    def linear(t, y, th):
        return (th.a - th.b * t) * y

    X = np.random.default_rng(0).normal(size=(50, 2)) * [3.0, 0.5] + [1.0, -2.0]
    model = pn.CNF(field=linear, max_iter=1, random_state=0).fit(X)
    model.theta_ = np.array([0.7, 0.4])
    s = np.exp(0.5)
    std = model.scale_ / s
    expected = -0.5 * (((X - model.shift_) / std) ** 2).sum(axis=1) - np.log(2 * np.pi) - np.log(std).sum()
    np.testing.assert_allclose(model.log_prob(X), expected, atol=1e-7)
    np.testing.assert_allclose(model.transform(X), s * (X - model.shift_) / model.scale_, atol=1e-7)
    np.testing.assert_allclose(model.trajectories(X, [0.0, 1.0])[:, 1], model.transform(X), atol=1e-12)


def test_the_density_integrates_to_one(fitted):
    x = np.linspace(-3, 4, 161)
    grid = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
    total = np.exp(fitted.log_prob(grid)).sum() * (x[1] - x[0]) ** 2
    assert abs(total - 1) < 0.01


def test_there_and_back(fitted):
    X = moons(seed=1)
    assert np.abs(fitted.inverse_transform(fitted.transform(X)) - X).max() < 1e-5
    Z = np.random.default_rng(0).normal(size=(100, 2))
    assert np.abs(fitted.transform(fitted.inverse_transform(Z)) - Z).max() < 1e-5


def test_it_learns_two_moons(fitted):
    X = moons(seed=1)
    gauss = np.mean(-0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.cov(moons().T))[1])
    assert fitted.score(X) > gauss + 0.6  # a Gaussian of the same covariance
    new = fitted.sample(2000, random_state=0)
    assert new.shape == (2000, 2) and (new == fitted.sample(2000, random_state=0)).all()
    np.testing.assert_allclose(new.mean(axis=0), X.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(new.std(axis=0), X.std(axis=0), atol=0.1)
    assert abs(fitted.score(new) - fitted.score(moons())) < 0.25
    assert (fitted.score_samples(X) == fitted.log_prob(X)).all()


def test_units_of_the_data_change_the_density_by_their_product():
    X = moons(100)
    a = pn.CNF((8,), max_iter=3, random_state=0).fit(X)
    b = pn.CNF((8,), max_iter=3, random_state=0).fit(X * [10.0, 0.1] + 3)
    np.testing.assert_allclose(b.log_prob(X * [10.0, 0.1] + 3), a.log_prob(X), atol=1e-3)


def test_penalties_cut_evaluations():
    X, options = moons(200), {"hidden": (16, 16), "max_iter": 40, "batch_size": 50, "learning_rate": 2e-2, "random_state": 0}
    free = pn.CNF(**options).fit(X)
    gentle = pn.CNF(kinetic_energy=0.2, jacobian_norm=0.2, **options).fit(X)
    assert gentle.history_["nfe"][-1] < 0.9 * free.history_["nfe"][-1]
    assert gentle.score(X) > free.score(X) - 0.3


def test_hutchinson_learns_a_gaussian_of_eight_features():
    rng = np.random.default_rng(0)
    A = np.eye(8) + 0.4 * rng.normal(size=(8, 8))
    X = rng.normal(size=(600, 8)) @ A.T
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.cov(X.T))[1]
    model = pn.CNF((), scale=False, max_iter=40, batch_size=100, learning_rate=5e-2, random_state=0, rtol=1e-3, atol=1e-3)
    assert abs(model.fit(X).score(X) + entropy) < 0.1
    assert density_field(model.field_, False).inputs == 8


def test_one_feature():
    X = np.random.default_rng(0).normal(size=(200, 1)) ** 3
    model = pn.CNF((8,), max_iter=20, random_state=0).fit(X)
    x = np.linspace(-60, 60, 4001)
    assert abs(np.exp(model.log_prob(x[:, None])).sum() * (x[1] - x[0]) - 1) < 0.01


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_early_stopping_keeps_the_best_parameters(trace):
    X = moons(60)
    options = {"hidden": (32,), "max_iter": 60, "batch_size": 16, "learning_rate": 5e-2, "random_state": 0}
    model = pn.CNF(**options, trace=trace, early_stopping=True, patience=3, kinetic_energy=0.01).fit(X)
    validation = model.history_["validation"]
    assert (
        model.report_["status"] == "early"
        and len(validation) == validation.argmin() + 4
        and model.report_["n_samples"] == 48
    )
    _, aside = split(60, 0.2, 0)
    nll = -model.log_prob(X[aside]).mean() - np.log(model.scale_).sum()
    np.testing.assert_allclose(validation.min(), nll, atol=1e-3 if trace == "exact" else 0.4)


# ---- Bad input, files, pictures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "X, options, message",
    [
        (moons(20)[:, 0], {}, "Reshape your data"),
        (np.full((5, 2), np.nan), {}, r"X\[0, 0\] is nan"),
        (moons(1), {}, "n_samples=1"),
        (np.stack([np.arange(9.0), np.ones(9)], axis=1), {}, "feature 1 is 1 in every sample"),
        (moons(20), {"trace": "lucky"}, "trace='lucky'"),
        (moons(20), {"kinetic_energy": -1.0}, "kinetic_energy=-1.0"),
        (moons(20), {"field": pn.mlp(3, (4,))}, "2 features need a traced field of 2 states"),
        (moons(20), {"rtol": 0}, "rtol=0"),
    ],
)
def test_what_fit_refuses(X, options, message):
    with pytest.raises(ValueError, match=message):
        pn.CNF(max_iter=1, **options).fit(X)


def test_before_fit_and_with_other_features(fitted):
    for call in ("log_prob", "transform", "inverse_transform", "trajectories"):
        with pytest.raises(pn.models.NotFittedError):
            getattr(pn.CNF(), call)(moons(3))
        with pytest.raises(ValueError, match="expecting 2 features"):
            getattr(fitted, call)(np.zeros((4, 3)))
    with pytest.raises(pn.models.NotFittedError):
        pn.CNF().sample(3)
    with pytest.raises(ValueError, match="n=0"):
        fitted.sample(0)


def test_to_file_and_back(fitted, tmp_path):
    fitted.save(tmp_path / "flow.npz")
    again = pn.load(tmp_path / "flow.npz")
    assert type(again) is pn.CNF and again.get_params() == fitted.get_params()
    X = moons(20, seed=3)
    assert (again.log_prob(X) == fitted.log_prob(X)).all()
    content = {"model": "CNF"} | fitted.to_content()
    files.write(tmp_path / "bad.npz", content | {"theta": content["theta"][1:]})
    with pytest.raises(pn.ModelFileError, match="theta"):
        pn.load(tmp_path / "bad.npz")


@pytest.mark.parametrize("kind", ["overview", "density", "flow", "training"])
def test_pictures(fitted, kind):
    pytest.importorskip("matplotlib")
    assert fitted.plot(kind, moons(50)).axes


def test_the_checks_of_scikit_learn():
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = checks.check_estimator(pn.CNF((4,), max_iter=2, random_state=0), on_fail=None, on_skip=None)
    assert {r["check_name"] for r in results if r["status"] == "failed"} <= {
        "check_estimators_unfitted",
        "check_sample_weight_equivalence_on_dense_data",
    }  # as there
