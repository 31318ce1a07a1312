"""Products with the Jacobian of trajectories, and training by them, against dense sensitivities and dense steps."""

import numpy as np
import pytest

import pynode as pn
from pynode.optim import few_rows
from pynode.optim.few_rows import FIRST_ROWS, ROWS, FewRows
from pynode.optim.levenberg_marquardt import descend, log_evidence, update_evidence
from pynode.optim.matrix_free import descend_by_sweeps, whole
from pynode.optim.normal_equations import Linearised
from pynode.optim.posterior import LaplacePosterior
from pynode.optim.preconditioner import Preconditioner, place
from pynode.training import sweeps as module
from pynode.training.coordinates import Coordinates
from pynode.training.matching import MatchingProblem
from pynode.training.second_order import SecondOrderRun
from pynode.training.shooting import ShootingProblem
from pynode.training.sizes import EACH, MANY_STATES, MAX_PARAMETERS, groups_of, prior_groups
from pynode.training.sweeps import MatchingSweeps, ShootingSweeps, pays, sweeps_of, thinned
from pynode.training.thinning import every
from pynode.training.windows import Data

OPTIONS = {"rtol": 1e-6, "atol": 1e-6}


def rotation(n=4, T=25, noise=0.02, seed=0):
    """Trajectories of two coupled oscillators, with gaps, and the field and parameters near them."""
    rng = np.random.default_rng(seed)
    A = np.array([[0, 1, 0, 0], [-1, -0.1, 0.3, 0], [0, 0, 0, 1], [0.3, 0, -2, -0.1]])
    t = np.linspace(0, 3, T)
    w, V = np.linalg.eig(A)
    flow = np.stack([(V * np.exp(w * s)) @ np.linalg.inv(V) for s in t]).real
    Y = np.einsum("tij,bj->bti", flow, rng.standard_normal((n, 4)))
    Y = Y + noise * rng.standard_normal(Y.shape)
    Y[0, 3, 1] = np.nan
    return Data([t] * n, list(Y))


def problem_of(data, field, weight=1.0, intervals=None, **more):
    cut = data.windows(intervals)
    y0 = np.nan_to_num(cut.initial(data.y))
    return ShootingProblem(field, cut, y0, weight, **OPTIONS, **more), y0


@pytest.mark.parametrize("intervals", [None, 7])
def test_products_are_those_of_dense_sensitivities(intervals):
    data, field = rotation(), pn.mlp(4, (6,), skip=True)
    rng = np.random.default_rng(1)
    theta = 0.3 * field.init(0)
    problem, y0 = problem_of(data, field, rng.uniform(0.5, 2.0, 4), intervals)
    y0 = y0 + 0.01 * rng.standard_normal(y0.shape)
    dense = problem.linearise(theta, y0)
    here = ShootingSweeps(problem).tangents(theta, y0)
    np.testing.assert_allclose(here.loss, dense.loss, rtol=1e-12)
    np.testing.assert_allclose(here.g, dense.free.g, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(here.z, dense.free.gradient, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(here.precision, dense.free.precision, rtol=1e-8, atol=1e-10)
    v = rng.standard_normal(len(theta))
    for damping in (0.0, 0.3):
        H, g, gain, shift = dense.free.eliminated(damping)
        product, reduced, follow = here.eliminated(damping)
        np.testing.assert_allclose(product(v), H @ v, rtol=1e-7, atol=1e-8 * np.abs(H).max())
        np.testing.assert_allclose(reduced, g, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(follow(v), -(shift + gain @ v), rtol=1e-6, atol=1e-8)
    free = rng.standard_normal(y0.shape)
    np.testing.assert_allclose(here.change(v, free), dense.free.change(v, free), rtol=1e-9)


def test_frozen_parameters_have_no_direction():
    @pn.field(state=2, theta={"net": pn.mlp(2, (5,)), "k": pn.frozen(0.7)})
    def f(t, y, th):
        return th.net(y) - th.k * y

    rng = np.random.default_rng(2)
    t = np.linspace(0, 1, 9)
    data = Data([t] * 3, list(rng.standard_normal((3, 9, 2))))
    theta = f.init(0)
    coordinates = Coordinates(f.spec, theta)
    x = coordinates.x(theta)
    assert len(x) == len(theta) - 1
    problem, y0 = problem_of(data, f, coordinates=coordinates)
    dense = problem.linearise(x, y0)
    product, g, _ = ShootingSweeps(problem).tangents(x, y0).eliminated(0.0)
    v = rng.standard_normal(len(x))
    np.testing.assert_allclose(product(v), dense.H @ v, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(g, dense.g, rtol=1e-7, atol=1e-8)


def test_inputs_act_on_tangents():
    @pn.field(state=1, theta={"a": 0.5, "b": 0.8}, inputs=1)
    def f(t, y, th, u):
        return -th.a * y**3 + th.b * u

    t = np.linspace(0, 2, 12)
    signal = pn.Signal(t, np.sin(3 * t)[:, None])
    data = Data([t] * 2, [np.cos(t)[:, None], np.sin(t)[:, None]], None, signal)
    problem, y0 = problem_of(data, f)
    dense = problem.linearise(f.init(), y0)
    product, *_ = ShootingSweeps(problem).tangents(f.init(), y0).eliminated(0.0)
    np.testing.assert_allclose(product(np.array([0.3, -1.0])), dense.H @ [0.3, -1.0], rtol=1e-7)


def test_products_of_slopes_are_those_of_the_dense_jacobian():
    field, rng = pn.mlp(3, (5,), skip=True), np.random.default_rng(3)
    t = np.zeros(40)
    y = rng.standard_normal((40, 3))
    slope = rng.standard_normal((40, 3))
    theta = field.init(0)
    problem = MatchingProblem(field, t, y, slope, rng.uniform(0.5, 2.0, 3))
    dense = problem.linearise(theta)
    here = MatchingSweeps(problem).tangents(theta)
    v = rng.standard_normal(len(theta))
    np.testing.assert_allclose(here.eliminated(0.0)[0](v), dense.H @ v, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(here.g, dense.g, rtol=1e-10, atol=1e-10)
    H, diagonal = MatchingSweeps(problem).dense(theta, None, 10**9, {})
    size = np.sqrt(np.diag(dense.H))
    np.testing.assert_allclose(
        H / size / size[:, None], dense.H / size / size[:, None], rtol=0, atol=1e-6
    )  # single precision
    np.testing.assert_allclose(diagonal, np.diag(dense.H), rtol=1e-6)


def test_a_rough_matrix_of_slopes_knows_parameters_without_influence():
    field, rng = pn.mlp(3, (5,), skip=True), np.random.default_rng(3)
    y = rng.standard_normal((40, 3))
    theta = field.init(0)
    theta[field.spec[2].offset : field.spec[2].stop] = 0.0  # the last layer: the first has no influence
    problem = MatchingProblem(field, np.zeros(40), y, y, np.array([1e60, 1.0, 1e-60]))  # squares beyond single precision
    H = problem.linearise(theta).H
    rough = problem.linearise(theta, single=True).H
    np.testing.assert_allclose(rough, H, rtol=1e-5, atol=0.0)
    assert (np.diag(H) == 0).any()


def test_covariances_from_some_of_the_residuals_are_those_from_all():
    data, field = rotation(T=161), pn.mlp(4, (4,), skip=True)
    groups = prior_groups(field)
    problem, y0 = problem_of(data, field)
    state, part = start_of(field, problem, y0), start_of(field, problem, y0)
    state.loss = part.loss = problem.loss(state.theta, y0)
    few = thinned(problem, y0, problem.n_observed // 4, problem.root, problem.prior)
    assert few.n_observed < 0.3 * problem.n_observed
    whole(problem, problem, state, groups)
    whole(problem, few, part, groups)
    assert part.loss == state.loss
    np.testing.assert_allclose(part.gamma, state.gamma, rtol=0.01)
    np.testing.assert_allclose(np.diag(part.covariance), np.diag(state.covariance), rtol=0.1)


def test_a_matrix_of_all_rows_is_the_dense_one_and_one_of_some_is_near():
    data, field = rotation(T=41), pn.mlp(4, (4,), skip=True)
    theta = 0.3 * field.init(0)
    problem, y0 = problem_of(data, field, intervals=20)
    dense = problem.linearise(theta, y0)
    by = ShootingSweeps(problem)
    H, diagonal = by.dense(theta, y0, 10**9, by.weights())
    np.testing.assert_allclose(H, dense.H, rtol=1e-6, atol=1e-6 * np.abs(dense.H).max())
    np.testing.assert_allclose(diagonal, np.diag(dense.free.H), rtol=1e-10)
    some, _ = by.dense(theta, y0, problem.n_observed // 4, by.weights())
    assert 0.7 < np.trace(some) / np.trace(dense.H) < 1.4


def test_rows_that_are_kept_stand_for_all():
    length = np.array([11, 2, 1, 8])
    kept, weight = every(4, length)
    assert weight.sum() == length.sum()
    ends = np.cumsum(length)
    assert kept[ends - 1].all() and kept[ends - length].all()
    assert (weight[~kept] == 0).all()
    for piece, n in zip(np.split(weight, ends[:-1]), length, strict=True):
        assert piece.sum() == n
    assert every(1, length)[0].all()


def test_bending_is_the_second_derivative_of_the_residuals():
    data, field = rotation(n=2, T=15), pn.mlp(4, (5,), skip=True)
    rng = np.random.default_rng(4)
    theta = 0.3 * field.init(0)
    cut = data.windows(None)
    y0 = np.nan_to_num(cut.initial(data.y))
    problem = ShootingProblem(field, cut, y0, rtol=1e-11, atol=1e-11)
    here = ShootingSweeps(problem).tangents(theta, y0)
    step, free = 0.02 * rng.standard_normal(len(theta)), 0.02 * rng.standard_normal(y0.shape)

    def residual(h):
        return problem.residual(theta + h * step, y0 + h * free)

    h = 0.02
    second = (residual(h) - 2 * residual(0.0) + residual(-h)) / h**2
    dense = problem.linearise(theta, y0)
    g, z = here.back(second)
    gain = np.linalg.solve(dense.free.precision, dense.free.coupling)
    expected = g - np.einsum("bin,bi->n", gain, z)
    found, follow = here.bend(step, free, 0.0)
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.02 * np.abs(expected).max())
    a = rng.standard_normal(len(theta))
    states = -np.linalg.solve(dense.free.precision, (z + dense.free.coupling @ a)[:, :, None])[:, :, 0]
    np.testing.assert_allclose(follow(a), states, rtol=0.05, atol=0.02 * np.abs(states).max())


def start_of(field, problem, y0):
    return LaplacePosterior(0.3 * field.init(0), y0.copy(), np.ones(field.n_params), 1e3)


def test_a_descent_ends_where_the_dense_one_does():
    data, field = rotation(n=6, T=31, seed=2), pn.mlp(4, (5,), skip=True)  # other seeds have several minima
    groups = prior_groups(field)
    ends = []
    for by_products in (False, True):
        problem, y0 = problem_of(data, field)
        state = start_of(field, problem, y0)
        if by_products:
            descend_by_sweeps(ShootingSweeps(problem), state, groups=groups, tol=1e-5, max_iter=200)
            whole(problem, problem, state, groups)
        else:
            descend(problem, state, groups=groups, tol=1e-5, max_iter=200)
        ends.append(state)
    dense, products = ends
    assert products.status in ("converged", "stalled")
    np.testing.assert_allclose(products.loss, dense.loss, rtol=1e-3)
    np.testing.assert_allclose(products.gamma, dense.gamma, rtol=0.02)
    np.testing.assert_allclose(products.beta, dense.beta, rtol=1e-3)
    assert log_evidence(problem.n_observed, products) > log_evidence(problem.n_observed, dense) - 1
    assert products.covariance.shape == (field.n_params, field.n_params)
    assert products.free_gain.shape == (6, 4, field.n_params)


@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_a_descent_returns_to_the_minimum_beside_it(seed):
    data, field = rotation(n=6, T=31, seed=seed), pn.mlp(4, (5,), skip=True)
    groups = prior_groups(field)
    problem, y0 = problem_of(data, field)
    dense = start_of(field, problem, y0)
    descend(problem, dense, groups=groups, tol=1e-7, max_iter=1000)
    aside = 0.3 * np.linalg.cholesky(dense.covariance) @ np.random.default_rng(seed).standard_normal(field.n_params)
    back = LaplacePosterior(dense.theta + aside, dense.free.copy(), dense.alpha.copy(), dense.beta)
    problem, _ = problem_of(data, field)
    loss = problem.linearise(back.theta, back.free).loss
    descend_by_sweeps(ShootingSweeps(problem), back, groups=groups, tol=1e-7, max_iter=400)
    whole(problem, problem, back, groups)
    assert loss > 1.02 * dense.loss
    np.testing.assert_allclose(back.loss, dense.loss, rtol=1e-3)
    np.testing.assert_allclose(back.gamma, dense.gamma, rtol=0.02)
    gained = log_evidence(problem.n_observed, back) - log_evidence(problem.n_observed, dense)
    np.testing.assert_allclose(gained, 0, atol=0.3)


def test_rows_of_j_are_those_of_dense_sensitivities():
    data, field = rotation(), pn.mlp(4, (6,), skip=True)
    problem, y0 = problem_of(data, field, np.array([1.0, 2.0, 0.5, 1.5]), 7)
    theta = 0.3 * field.init(0)
    dense = problem.linearise(theta, y0)
    J, whole_squares = ShootingSweeps(problem).some_rows(theta, y0, 10**9, {"root": problem.root, "prior": problem.prior})
    size = np.sqrt(np.diag(dense.H))
    np.testing.assert_allclose(J.T @ J / size / size[:, None], dense.H / size / size[:, None], rtol=0, atol=1e-5)
    np.testing.assert_allclose(whole_squares, np.diag(dense.free.H), rtol=1e-5)
    slopes = MatchingProblem(field, np.zeros(40), *np.random.default_rng(3).standard_normal((2, 40, 4)))
    J, squares = MatchingSweeps(slopes).some_rows(theta, None, 10**9, {})
    np.testing.assert_allclose(J.T @ J, slopes.linearise(theta).H, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(squares, np.diag(slopes.linearise(theta).H), rtol=1e-10)


@pytest.mark.parametrize("strength", [1e-4, 1.0, 1e4])
def test_inverse_evidence_and_determinant_of_few_rows_are_the_dense_ones(strength):
    """Fewer rows than parameters, so that priors alone hold some directions."""
    data, field = rotation(n=2, T=12), pn.mlp(4, (16,), skip=True)
    groups = prior_groups(field)
    problem, y0 = problem_of(data, field)
    by = ShootingSweeps(problem)
    state, dense = start_of(field, problem, y0), start_of(field, problem, y0)
    for each in (state, dense):
        each.alpha *= strength
        each.loss = problem.loss(each.theta, y0)
    assert problem.n_observed < field.n_params
    near = FewRows.of(by, place(by, state))
    H = near.J.T @ near.J
    K = state.beta * H + np.diag(state.alpha)
    r = np.random.default_rng(0).standard_normal(field.n_params)
    np.testing.assert_allclose(K @ near.inverse(state, state.alpha)(r), r, rtol=0, atol=1e-3)
    near.evidence(by, state, groups)
    update_evidence(dense, H, groups, problem.n_observed, problem.n_free)
    np.testing.assert_allclose(state.gamma, dense.gamma, rtol=1e-6)
    np.testing.assert_allclose(state.alpha, dense.alpha, rtol=1e-4)
    np.testing.assert_allclose(state.logdet, -np.linalg.slogdet(K)[1], rtol=1e-9)
    assert state.covariance is None and np.isfinite(log_evidence(problem.n_observed, state))


def test_how_many_rows_follows_what_the_data_tell():
    data, field = rotation(n=6, T=401), pn.mlp(4, (30,), skip=True)
    problem, y0 = problem_of(data, field)
    by = ShootingSweeps(problem)
    state = start_of(field, problem, y0)
    state.gamma = np.nan
    first = len(FewRows.of(by, place(by, state)).J)
    assert 0.9 * FIRST_ROWS < first < 1.3 * FIRST_ROWS < problem.n_observed
    state.gamma = 150.0
    known = len(FewRows.of(by, place(by, state)).J)
    assert 0.9 * ROWS * 150 < known < 1.3 * ROWS * 150 < 0.9 * first


def test_a_descent_by_few_rows_ends_as_low(monkeypatch):
    data, field = rotation(n=6, T=31, seed=2), pn.mlp(4, (5,), skip=True)
    groups = prior_groups(field)
    problem, y0 = problem_of(data, field)
    dense = start_of(field, problem, y0)
    descend(problem, dense, groups=groups, tol=1e-5, max_iter=200)
    monkeypatch.setattr(few_rows, "LARGE", 10)
    problem, y0 = problem_of(data, field)
    state = start_of(field, problem, y0)
    descend_by_sweeps(ShootingSweeps(problem), state, groups=groups, tol=1e-5, max_iter=200)
    np.testing.assert_allclose(state.loss, dense.loss, rtol=0.01)
    np.testing.assert_allclose(state.gamma, dense.gamma, rtol=0.05)
    gained = log_evidence(problem.n_observed, state) - log_evidence(problem.n_observed, dense)
    np.testing.assert_allclose(gained, 0, atol=1.0)
    assert state.covariance is None


def test_a_matrix_is_formed_again_once_its_age_has_cost_as_much():
    near = Preconditioner({}, np.eye(2), np.ones(2), worth=10.0)
    assert not near.old
    near.age, near.spent = 3, 10
    assert not near.old
    near.spent = 11
    assert near.old
    near.spent, near.moving = 0, True
    assert near.old


def test_the_rule_knows_limits_and_sizes():
    large = pn.mlp(16, (32,), skip=True)
    free = Coordinates(large.spec, large.init(0))
    assert pays(large, free, 32_000)
    assert not pays(large, free, 1_000)
    small = pn.mlp(2, (32,))
    assert not pays(small, Coordinates(small.spec, small.init(0)), 10**6)
    t, y = np.zeros(10), np.zeros((10, 2))
    assert sweeps_of(MatchingProblem(small, t, y, y)) is None


def take_products(monkeypatch):
    """Fits go by products from here on, however small they are."""
    monkeypatch.setattr(module, "DEARER", 0.0)
    monkeypatch.setattr(module, "DEARER_ROW", 0.0)


def circles(ripple=0.0):
    """(times, two trajectories on circles, with a ripple)."""
    t = np.linspace(0, 3, 31)
    return t, [np.stack([a * np.cos(t), -a * np.sin(t)], axis=1) + ripple * np.sin(40 * t[:, None]) for a in (1.0, 0.5)]


def test_a_model_fitted_by_products_is_as_good(monkeypatch):
    t = np.linspace(0, 6, 41)
    rng = np.random.default_rng(0)
    start = rng.standard_normal((6, 2))
    clean = np.stack([np.stack([a * np.cos(t) + b * np.sin(t), b * np.cos(t) - a * np.sin(t)], axis=1) for a, b in start])
    noisy = list(clean + 0.02 * rng.standard_normal(clean.shape))
    dense = pn.NeuralODE(hidden=(8,), random_state=0).fit(t, noisy)
    take_products(monkeypatch)
    model = pn.NeuralODE(hidden=(8,), random_state=0).fit(t, noisy)
    error = np.abs(model.predict(t, [1.0, 0.0])[:, 0] - np.cos(t)).max()
    assert error < max(2 * np.abs(dense.predict(t, [1.0, 0.0])[:, 0] - np.cos(t)).max(), 0.02)
    assert 0.9 < model.report_["noise"]["y1"] / 0.02 < 1.1
    _, std = model.predict(t, [1.0, 0.0], return_std=True)
    assert np.isfinite(std).all() and (std > 0).any()
    assert model.state_gain_.any()


def test_bands_of_a_model_too_large_for_them_are_refused_in_words(monkeypatch):
    take_products(monkeypatch)
    monkeypatch.setattr(few_rows, "LARGE", 10)
    t, Y = circles()
    model = pn.NeuralODE(hidden=(5,), random_state=0, max_iter=20).fit(t, Y)
    assert model.covariance_ is None
    assert np.isfinite(model.report_["effective_parameters"])
    assert np.abs(model.predict(t, [0.8, 0.0])[:, 0] - 0.8 * np.cos(t)).max() < 0.02
    with pytest.raises(ValueError, match=r"return_std .*ensemble.*at most [0-9]+ parameters"):
        model.predict(t, [0.8, 0.0], return_std=True)


LOOSE = pytest.mark.filterwarnings("ignore:the data determine the network loosely:pynode.fit.FitWarning")


@LOOSE
def test_a_resumed_fit_has_the_same_bits(monkeypatch, tmp_path):
    take_products(monkeypatch)
    t, Y = circles(0.01)
    whole_fit = pn.NeuralODE(hidden=(5,), random_state=0).fit(t, Y)
    n = whole_fit.report_["n_iter"]
    path = tmp_path / "fit"

    def stop(iteration):
        if iteration.number == n - 4:
            raise KeyboardInterrupt

    saved = pn.fit.Checkpoint(path, every=0)
    with pytest.raises(pn.fit.FitInterrupted):
        pn.NeuralODE(hidden=(5,), random_state=0).fit(t, Y, callback=stop, checkpoint=saved)
    resumed = pn.NeuralODE(hidden=(5,), random_state=0).fit(t, Y, checkpoint=path)
    np.testing.assert_array_equal(resumed.theta_, whole_fit.theta_)


@LOOSE
def test_a_fit_resumed_after_its_last_stage_has_the_same_bands(monkeypatch, tmp_path):
    """Their covariances are computed at the very end, of the problem of that stage."""
    take_products(monkeypatch)
    t, Y = circles(0.01)
    path = tmp_path / "fit"

    def fit(checkpoint=None):
        return pn.NeuralODE(hidden=(5,), random_state=0).fit(t, Y, checkpoint=checkpoint)

    def stop(run):
        raise KeyboardInterrupt

    whole_fit = fit()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(SecondOrderRun, "compete", stop)
        fit(pn.fit.Checkpoint(path, every=0))
    resumed = fit(path)
    assert whole_fit.state_gain_.any()
    np.testing.assert_array_equal(resumed.theta_, whole_fit.theta_)
    np.testing.assert_array_equal(resumed.covariance_, whole_fit.covariance_)
    np.testing.assert_array_equal(resumed.state_gain_, whole_fit.state_gain_)
    for a, b in zip(*(each.predict(t, [0.8, 0.0], return_std=True) for each in (resumed, whole_fit)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_each_weight_has_a_prior_of_its_own_where_states_and_data_are_many():
    field = pn.mlp(MANY_STATES, (5,))
    enough = EACH * field.n_params
    assert sorted(g.item() for g in groups_of(field, enough)) == list(range(field.n_params))
    large = pn.mlp(40, (40,))
    assert large.n_params > MAX_PARAMETERS
    small = pn.mlp(MANY_STATES - 1, (5,))
    for f, n in ((field, enough - 1), (large, 10**7), (small, 10**7)):
        assert len(groups_of(f, n)) == len(prior_groups(f)) < f.n_params


def test_evidence_leaves_out_weights_that_the_data_do_not_ask_for():
    rng = np.random.default_rng(0)
    J = rng.standard_normal((100, 30))
    truth = np.zeros(30)
    truth[:3] = [1.0, -2.0, 0.5]
    y = J @ truth + 0.3 * rng.standard_normal(100)

    class Linear:
        n_observed = 100
        n_free = 0
        nfe = 0

        def loss(self, x, free=None):
            return float(((J @ x - y) ** 2).sum())

        def linearise(self, x, free=None):
            return Linearised(self.loss(x), J.T @ J, J.T @ (J @ x - y))

    def descended(groups):
        state = LaplacePosterior(0.1 * rng.standard_normal(30), None, np.ones(30), 1.0)
        return descend(Linear(), state, groups=groups, max_iter=100, tol=1e-9)

    each = descended([np.array([i]) for i in range(30)])
    together = descended([np.arange(30)])
    assert each.gamma < 12 < 25 < together.gamma
    assert np.linalg.norm(each.theta - truth) < 0.7 * np.linalg.norm(together.theta - truth)
    expected = np.clip(1 - each.alpha * np.diag(each.covariance), 1e-3, 1) / each.theta**2
    np.testing.assert_allclose(each.alpha[:3], expected[:3], rtol=1e-3)  # MacKay's fixed point
    assert np.median(each.alpha[3:]) > 100 * each.alpha[:3].max()
