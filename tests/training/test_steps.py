"""Optimisers, objectives of training, smoothing."""

import itertools

import numpy as np
import pytest

import pynode as pn
from pynode.fit import FitInterrupted, adam, lbfgs
from pynode.optim.progress import Progress
from pynode.training.matching import MatchingObjective
from pynode.training.objective import TrainingObjective
from pynode.training.smoothing import local_cubic, smooth
from pynode.training.windows import Data, default_windows

OPTIMIZERS = {"adam": lambda f, x, **k: adam(f, x, learning_rate=0.05, **k), "lbfgs": lbfgs}


def rosenbrock(x):
    a, b = x[:-1], x[1:]
    g = np.zeros_like(x)
    g[:-1] = -400 * a * (b - a**2) - 2 * (1 - a)
    g[1:] += 200 * (b - a**2)
    return float((100 * (b - a**2) ** 2 + (1 - a) ** 2).sum()), g


def test_lbfgs_finds_the_minimum_of_rosenbrock():
    result = lbfgs(rosenbrock, np.full(10, -1.0), max_iter=500, loss_tol=0)
    assert result.status == "converged"
    np.testing.assert_allclose(result.theta, 1.0, atol=1e-7)
    assert result.n_evaluations < 200
    assert result.loss == rosenbrock(result.theta)[0]


def test_lbfgs_on_a_quadratic_takes_few_iterations():
    A = np.diag(np.arange(1.0, 9.0))
    result = lbfgs(lambda x: (0.5 * x @ A @ x, A @ x), np.ones(8), loss_tol=0)
    assert result.loss < 1e-15
    assert result.n_iter < 25


def test_adam_reaches_a_minimum():
    result = adam(lambda x: (float(x @ x), 2 * x), np.array([1.0, -2.0]), max_iter=800, learning_rate=0.05)
    assert result.loss < 1e-6
    assert result.status == "max_iter"


def test_adam_follows_its_paper():
    """Two steps by hand, constant rate."""
    gradients = [np.array([1.0, -2.0]), np.array([0.5, 1.0])]
    seen = []

    def objective(theta):
        seen.append(theta.copy())
        return -float(len(seen)), gradients[len(seen) - 1] if len(seen) <= 2 else np.zeros(2)

    adam(objective, np.zeros(2), max_iter=3, learning_rate=0.1, schedule="constant")
    np.testing.assert_allclose(seen[1], [-0.1, 0.1], rtol=1e-7)
    m = 0.9 * 0.1 * gradients[0] + 0.1 * gradients[1]
    v = 0.999 * 0.001 * gradients[0] ** 2 + 0.001 * gradients[1] ** 2
    step = 0.1 * (m / (1 - 0.9**2)) / (np.sqrt(v / (1 - 0.999**2)) + 1e-8)
    np.testing.assert_allclose(seen[2], seen[1] - step, rtol=1e-12)


@pytest.mark.parametrize("minimise", OPTIMIZERS.values(), ids=OPTIMIZERS)
class TestAnyOptimizer:
    def test_steps_back_from_an_infinite_loss(self, minimise):
        def barrier(x):
            if x[0] <= 0.2:
                return np.inf, np.zeros(1)
            return float(x[0] - np.log(x[0] - 0.2)), 1 - 1 / (x - 0.2)

        result = minimise(barrier, np.array([9.0]), max_iter=400)
        assert result.loss == pytest.approx(1.2, abs=1e-3)

    def test_refuses_a_start_that_is_not_finite(self, minimise):
        with pytest.raises(ValueError, match="not finite at theta0"):
            minimise(lambda x: (np.nan, x), np.ones(2))

    def test_refuses_a_gradient_of_the_wrong_shape(self, minimise):
        with pytest.raises(ValueError, match="gradient of shape"):
            minimise(lambda x: (1.0, np.ones(3)), np.ones(2))

    def test_a_callback_stops_it(self, minimise):
        result = minimise(rosenbrock, np.zeros(4), callback=lambda it: it.number == 5)
        assert (result.status, result.n_iter) == ("stopped", 5)
        assert [len(x) for x in result.history.values()] == [5] * 5

    def test_ctrl_c_keeps_the_best(self, minimise):
        def callback(iteration):
            if iteration.number == 20:
                raise KeyboardInterrupt

        with pytest.raises(FitInterrupted) as error:
            minimise(rosenbrock, np.zeros(4), callback=callback)
        assert isinstance(error.value, KeyboardInterrupt)
        assert error.value.result.status == "interrupted"
        assert error.value.result.loss < rosenbrock(np.zeros(4))[0]
        assert rosenbrock(error.value.result.theta)[0] == error.value.result.loss

    def test_errors_of_the_objective_come_out(self, minimise):
        with pytest.raises(ZeroDivisionError):
            minimise(lambda x: 1 / 0, np.ones(2))

    def test_the_start_is_not_changed(self, minimise):
        start = np.zeros(3)
        minimise(rosenbrock, start, max_iter=3)
        np.testing.assert_array_equal(start, 0)

    def test_takes_an_objective_of_the_library(self, minimise):
        f = pn.mlp(1, (4,))
        t = np.linspace(0, 1, 11)
        objective = pn.Objective(f, [1.0], t, np.exp(-t)[:, None])
        result = minimise(objective, f.init(0), max_iter=60)
        assert result.loss < 0.05 * objective(f.init(0))[0]


# ------------------------------------------------------------------------------------------------------------


def differences(objective, x, h=1e-6):
    return np.array([(objective(x + h * e)[0] - objective(x - h * e)[0]) / (2 * h) for e in np.eye(len(x))])


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    t = [np.linspace(0, 1, 12), np.sort(rng.uniform(0, 1, 9))]
    y = [rng.standard_normal((len(x), 2)) for x in t]
    y[0][3, 1] = y[1][:2, 0] = np.nan
    return Data(t, y)


def test_training_objective_has_exact_gradients(data):
    f = pn.mlp(2, (5,))
    cut = data.windows(4)
    y0 = np.random.default_rng(0).standard_normal((len(cut), 2))
    objective = TrainingObjective(f, cut, y0, decay=0.3, weight=np.array([1.0, 4.0]), rtol=1e-9, atol=1e-9)
    x = objective.join(f.init(1))
    loss, gradient = objective(x)
    np.testing.assert_allclose(gradient, differences(objective, x), rtol=2e-5, atol=1e-8)
    assert objective(x)[0] == loss  # pure


def test_matching_objective_has_exact_gradients():
    f, rng = pn.mlp(2, (5,)), np.random.default_rng(0)
    y, slope = rng.standard_normal((2, 7, 2))
    objective = MatchingObjective(f, np.arange(7.0), y, slope, decay=0.2, weight=np.array([1.0, 3.0]))
    theta = f.init(0)
    np.testing.assert_allclose(objective(theta)[1], differences(objective, theta), rtol=1e-6, atol=1e-9)


def test_a_failed_window_is_no_improvement(data):
    @pn.field(state=2, theta={"k": ()})
    def explodes(t, y, th):
        return [th.k * y[0] ** 3, y[1]]

    objective = TrainingObjective(explodes, data.windows(), np.ones((2, 2)), rtol=1e-6, atol=1e-6)
    assert np.isfinite(objective(objective.join(np.array([0.1])))[0])
    assert objective(objective.join(np.array([100.0])))[0] == np.inf


def test_windows_cover_the_data_and_share_their_ends(data):
    t, cut = data.t, data.windows(4)
    for i in range(2):
        mine = [w for w in range(len(cut)) if cut.source[w, 0] == i]
        assert cut.t[mine[0]][0] == t[i][0] and cut.t[mine[-1]][-1] == t[i][-1]
        assert all(cut.t[a][-1] == cut.t[b][0] for a, b in itertools.pairwise(mine))
    assert len(data.windows()) == 2
    with pytest.raises(ValueError, match="nothing to learn"):
        Data([np.array([0.0])], [np.ones((1, 2))]).windows()


@pytest.mark.parametrize("n", [2, 3, 5, 16, 101, 5000])
def test_default_windows_end_with_whole_trajectories(n):
    sizes = default_windows([n])
    assert sizes[-1] is None
    assert all(a < b for a, b in itertools.pairwise((0, *sizes[:-1])))


# ------------------------------------------------------------------------------------------------------------


def test_local_cubic_is_exact_for_cubics():
    t = np.sort(np.random.default_rng(0).uniform(-1, 2, 40))
    at = np.linspace(t[0], t[-1], 33)
    near, to_value, to_slope = local_cubic(t, at, 9)
    y = (t**3 - 2 * t)[near]
    np.testing.assert_allclose((to_value * y).sum(axis=1), at**3 - 2 * at, atol=1e-6)
    np.testing.assert_allclose((to_slope * y).sum(axis=1), 3 * at**2 - 2, atol=1e-4)


def test_smooth_finds_noise_states_and_slopes():
    rng = np.random.default_rng(0)
    t = [np.linspace(0, 10, 201)] * 4
    truth = [np.stack([np.sin(x + k), np.cos(x + k)], 1) for k, x in enumerate(t)]
    y = [x + 0.1 * rng.standard_normal(x.shape) for x in truth]
    y[0][50:60, 0] = np.nan
    smoothed = smooth(t, y)
    np.testing.assert_allclose(np.sqrt(smoothed.variance), 0.1, rtol=0.1)
    assert np.sqrt(np.mean((np.concatenate(smoothed.y) - np.concatenate(truth)) ** 2)) < 0.05
    assert not np.isnan(smoothed.y[0]).any()


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_smooth_takes_few_points_and_states_never_seen(n):
    y = np.arange(2.0 * n).reshape(n, 2)
    y[:, 1] = np.nan
    other = np.ones((n, 2))
    smoothed = smooth([np.arange(float(n))] * 2, [y, other])
    np.testing.assert_allclose(smoothed.y[0][:, 0], y[:, 0], atol=1e-5)
    assert np.isnan(smoothed.y[0][:, 1]).all()
    if n >= 2:
        np.testing.assert_allclose(smoothed.slope[0][:, 0], 2.0, atol=1e-4)


def test_smoothing_does_not_depend_on_company():
    """Trajectories with the same times are smoothed together: twice the data, the same results."""
    rng = np.random.default_rng(0)
    t = [np.linspace(0, 5, 30)] * 3 + [np.linspace(0, 4, 30)]
    y = [np.sin(x)[:, None] + 0.1 * rng.standard_normal((30, 1)) for x in t]
    together, twice = smooth(t, y), smooth(t + t, y + y)
    for a, b in zip(together.y + together.slope, twice.y[4:] + twice.slope[4:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_progress_prints_plain_lines(capsys):
    with Progress(10, "work", every=0) as bar:
        bar.update(3, "loss 1")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("work:  30 %") and lines[0].endswith("loss 1")
    assert lines[-1].startswith("work: 100 %")
    with Progress(10, "work", show=False) as bar:
        bar.update(3, "loss 1")
    assert capsys.readouterr().err == ""


def test_ctrl_c_before_the_first_iteration_is_a_fit_interrupted():
    """It comes while the windows are solved for the first time, outside of any optimiser."""

    def interrupted(t, y):
        raise KeyboardInterrupt

    field = pn.callback_field(interrupted, 1)
    t = np.linspace(0, 1, 12)
    with pytest.raises(pn.fit.FitInterrupted) as caught:
        pn.fit.multiple_shooting(field, t, np.exp(-t)[:, None])
    assert caught.value.result.status == "interrupted" and caught.value.result.n_iter == 0
