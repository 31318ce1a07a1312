"""NeuralODE: learning, predicting, interrupts, what it refuses."""

import copy
import pickle

import numpy as np
import pytest

import pynode as pn
from pynode import datasets
from pynode.data.trajectories import Trajectories
from pynode.fit import FitInterrupted, FitWarning
from pynode.models import NeuralODE, NotFittedError

T = np.linspace(0, 6, 40)
CIRCLE = np.stack([np.cos(T), -np.sin(T)], axis=1)
QUICK = {"hidden": (8,), "max_iter": 40, "random_state": 0}


@pytest.fixture(scope="module")
def circle():
    return NeuralODE(**QUICK).fit(T, CIRCLE, names=["x", "v"])


@pytest.fixture(scope="module")
def vdp():
    data = datasets.van_der_pol(0)
    return data, NeuralODE(random_state=0).fit(data.train)


def test_van_der_pol_reaches_the_noise(vdp):
    """Held-out rollouts of the median initial state: below the variance of the noise (peers: 0.011)."""
    data, model = vdp
    truth = np.stack(data.held_out.y)
    mse = np.mean((model.predict(data.held_out.t[0], truth[:, 0]) - truth) ** 2, axis=(1, 2))
    assert np.median(mse) < 0.0025
    assert mse.mean() < 0.05
    assert model.score(list(data.held_out.t), list(data.held_out.y)) > 0.98
    assert model.report_["rmse"]["x"] == pytest.approx(0.05, rel=0.1)
    assert model.report_["noise"]["x"] == pytest.approx(0.05, rel=0.1)


def test_the_field_is_learned_in_the_units_of_the_data(vdp):
    data, model = vdp
    y = np.concatenate(data.train.y)[::7]
    error = model.derivative(0.0, y) - data.field(0.0, y)
    assert np.sqrt(np.median(error**2)) < 0.1
    assert model.derivative(0.0, y[0]).shape == (2,)


def test_lynx_hare_beats_persistence():
    """Five held-out years: the error of the logarithms is well below that of repeating the last value."""
    data = datasets.lynx_hare(5)
    model = NeuralODE(log=True, random_state=0).fit(data.train)
    truth = np.log(data.held_out.y[0])
    error = np.sqrt(np.mean((np.log(model.predict(data.held_out.t[0])) - truth) ** 2))
    persistence = np.sqrt(np.mean((np.log(data.train.y[0][-1]) - truth) ** 2))
    assert error < 0.7 * persistence


def test_the_derivative_of_a_log_model_agrees_with_its_predictions():
    model = NeuralODE(log=True, **QUICK).fit(T, np.exp(0.5 * CIRCLE))
    h, y0 = 1e-3, np.array([1.3, 0.8])
    y = model.predict([0, h, 2 * h], y0)
    np.testing.assert_allclose((y[2] - y[0]) / (2 * h), model.derivative(0.0, y[1]), rtol=1e-5)
    assert (y > 0).all()


def test_irregular_times_and_missing_entries():
    rng = np.random.default_rng(0)
    ts = [np.sort(rng.uniform(0, 6, n)) for n in (30, 45, 60)]
    ys = []
    for k, t in enumerate(ts):
        y = np.stack([np.cos(t + k), -np.sin(t + k)], axis=1) + 0.01 * rng.standard_normal((len(t), 2))
        y[rng.random(y.shape) < 0.3] = np.nan
        ys.append(y)
    model = NeuralODE(hidden=(16,), random_state=1).fit(ts, ys)
    np.testing.assert_allclose(model.predict(T, [1.0, 0.0]), CIRCLE, atol=0.05)
    assert model.report_["n_observed"] == sum(int((~np.isnan(y)).sum()) for y in ys)


def test_a_state_not_observed_in_one_trajectory():
    other = CIRCLE.copy()
    other[:, 1] = np.nan
    model = NeuralODE(**QUICK).fit(T, [CIRCLE, other])
    assert np.isfinite(model.initial_states_).all()
    np.testing.assert_allclose(model.predict(T, trajectory=1)[:, 1], CIRCLE[:, 1], atol=0.1)


@pytest.mark.parametrize("Y", [CIRCLE[:, 0] * 0 + np.exp(-T), np.exp(-T)[:, None], [np.exp(-T)]])
def test_one_state(Y):
    model = NeuralODE(**QUICK).fit(T, Y)
    np.testing.assert_allclose(model.predict(T, 1.0)[:, 0], np.exp(-T), atol=0.02)
    assert model.predict(T, [[1.0], [0.5]]).shape == (2, 40, 1)


def test_a_field_of_ones_own_finds_its_parameters():
    @pn.field(state=2, theta={"k": (), "c": ()})
    def spring(t, y, th):
        return [y[1], -th.k * y[0] - th.c * y[1]]

    t = np.linspace(0, 8, 60)
    y = pn.solve(spring, [100.0, 0.0], t, np.array([2.0, 0.3])).y
    model = NeuralODE(field=spring, random_state=0).fit(t, y + np.random.default_rng(0).standard_normal(y.shape))
    np.testing.assert_allclose(model.theta_, [2.0, 0.3], rtol=0.05)
    assert model.report_["optimizer"] == "levenberg-marquardt"


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_the_units_of_states_do_not_matter_to_a_field_of_ones_own(size):
    @pn.field(state=2, theta={"k": 1.0, "c": 1.0})
    def spring(t, y, th):
        return [y[1], -th.k * y[0] - th.c * y[1]]

    t = np.linspace(0, 8, 60)
    y = pn.solve(spring, [size, 0.0], t, np.array([2.0, 0.3]), atol=1e-12 * size).y
    model = NeuralODE(field=spring, random_state=0).fit(t, y)
    np.testing.assert_allclose(model.theta_, [2.0, 0.3], rtol=1e-3)


def test_the_same_random_state_gives_the_same_bits(circle):
    again = NeuralODE(**QUICK).fit(T, CIRCLE)
    np.testing.assert_array_equal(again.theta_, circle.theta_)
    np.testing.assert_array_equal(again.history_["loss"], circle.history_["loss"])
    other = NeuralODE(**QUICK | {"random_state": 1}).fit(T, CIRCLE)
    assert not np.array_equal(other.theta_, circle.theta_)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # three iterations, any seed
def test_no_random_state_reports_the_one_it_drew():
    model = NeuralODE(**QUICK | {"random_state": None, "max_iter": 3}).fit(T, CIRCLE)
    again = NeuralODE(**QUICK | {"random_state": model.random_state_, "max_iter": 3}).fit(T, CIRCLE)
    np.testing.assert_array_equal(again.theta_, model.theta_)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # few iterations
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_other_optimizers(optimizer):
    model = NeuralODE(**QUICK | {"optimizer": optimizer, "max_iter": 100}).fit(T, CIRCLE)
    assert model.score(T, CIRCLE) > 0.9


@pytest.mark.parametrize("factor, shift", [(1e6, 0.0), (1e-6, 5e-6)])
def test_units_do_not_matter(circle, factor, shift):
    model = NeuralODE(**QUICK).fit(T * 1e3 + 1e5, CIRCLE * factor + shift)
    np.testing.assert_allclose(model.theta_, circle.theta_, rtol=0.05, atol=0.02)


def test_without_scaling():
    model = NeuralODE(scale=False, **QUICK).fit(T, CIRCLE)
    np.testing.assert_array_equal(model.scaling_.scale, 1)
    assert model.scaling_.t_scale == 1
    np.testing.assert_allclose(model.predict(T, [1.0, 0.0]), CIRCLE, atol=0.1)


# ------------------------------------------------------------------------------------------------------------


def test_predict_shapes(circle):
    assert circle.predict(T, [1.0, 0.0]).shape == (40, 2)
    assert circle.predict(T, np.ones((3, 2))).shape == (3, 40, 2)
    ragged = circle.predict([T, T[:7]], np.ones((2, 2)))
    assert [y.shape for y in ragged] == [(40, 2), (7, 2)]
    np.testing.assert_allclose(circle.predict(T[::-1], circle.predict(T, [1.0, 0.0])[-1])[-1], [1.0, 0.0], atol=1e-4)


def test_predict_continues_the_fitted_trajectory(circle):
    np.testing.assert_allclose(circle.predict(T), CIRCLE, atol=0.02)
    later = np.array([6.5, 7.0])
    np.testing.assert_allclose(circle.predict(later), circle.predict([0, 6.5, 7.0], circle.initial_states_[0])[1:])
    with pytest.raises(ValueError, match="t must rise from 0 or later"):
        circle.predict([-1.0, 0.0])
    with pytest.raises(ValueError, match="trajectory=1"):
        circle.predict(T, trajectory=1)


def test_history_and_report(circle):
    report, history = circle.report_, circle.history_
    assert report["status"] == "finished" and report["seconds"] > 0 and report["nfe"] > 0
    assert next(s["name"] for s in report["stages"]) == "slopes"
    assert report["stages"][-1]["name"] == "whole trajectories"
    assert {len(x) for x in history.values()} == {sum(s["iterations"] for s in report["stages"])}
    assert (np.diff(history["seconds"]) >= 0).all()
    assert history["loss"][-1] == pytest.approx(report["loss"])


def test_repr_copy_and_pickle(circle):
    assert repr(circle) == "<NeuralODE hidden=(8,), x, v: fitted to 80 numbers>"
    assert "not fitted" in repr(NeuralODE())
    for other in (copy.deepcopy(circle), pickle.loads(pickle.dumps(circle))):
        np.testing.assert_array_equal(other.predict(T, [1, 0]), circle.predict(T, [1, 0]))
    assert NeuralODE(**circle.get_params()).get_params() == circle.get_params()


def test_data_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"run": "a", "t": T, "x": CIRCLE[:, 0], "v": CIRCLE[:, 1]})
    model = NeuralODE(**QUICK | {"max_iter": 5}).fit(frame, time="t", state=["x", "v"], id="run")
    assert model.names_ == ("x", "v") and model.data_.ids == ("a",)
    with pytest.raises(TypeError, match=r"name|data frame"):
        NeuralODE().fit(frame)


# ------------------------------------------------------------------------------------------------------------


def test_a_callback_sees_every_iteration_and_can_stop():
    seen = []

    def callback(iteration):
        seen.append((iteration.stage, iteration.loss))
        return len(seen) == 12

    model = NeuralODE(**QUICK).fit(T, CIRCLE, callback=callback)
    assert len(seen) == 12 == len(model.history_["loss"])
    assert model.report_["status"] == "stopped"
    assert model.predict(T, [1, 0]).shape == (40, 2)


@pytest.mark.filterwarnings("ignore::pynode.errors.ExtrapolationWarning")  # hardly trained
@pytest.mark.parametrize(
    "optimizer, at", [("adam+lbfgs", 1), ("adam+lbfgs", 60), ("adam+lbfgs", 190), ("auto", 1), ("auto", 12)]
)
def test_ctrl_c_keeps_the_best_so_far(optimizer, at):
    count = 0

    def callback(iteration):
        nonlocal count
        count += 1
        if count == at:
            raise KeyboardInterrupt

    model = NeuralODE(**QUICK | {"optimizer": optimizer})
    with pytest.raises(FitInterrupted):
        model.fit(T, CIRCLE, callback=callback)
    assert model.report_["status"] == "interrupted"
    assert model.predict(T, [1, 0]).shape == (40, 2)
    assert np.isfinite(model.theta_).all() and len(model.history_["loss"]) == at


def test_errors_of_the_callback_come_out():
    with pytest.raises(ZeroDivisionError):
        NeuralODE(**QUICK).fit(T, CIRCLE, callback=lambda iteration: 1 / 0)


def test_a_stage_that_cannot_be_solved_is_left_out_with_a_warning():
    @pn.field(state=1, theta={"k": ()})
    def explodes(t, y, th):
        return [5 * y[0] ** 2 + 1 + 0 * th.k]

    t = np.linspace(0, 10, 30)
    with (
        pytest.warns(FitWarning, match="left out"),
        pytest.raises(pn.fit.FitError, match="could not be solved"),
    ):
        NeuralODE(field=explodes, windows=(None,)).fit(t, np.linspace(0, 30, 30))


def test_chaos_keeps_what_was_learned_from_windows():
    @pn.field(state=3)
    def lorenz(t, y):
        return [10 * (y[1] - y[0]), y[0] * (28 - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]]

    t = np.linspace(0, 20, 1001)
    Y = pn.solve(lorenz, [1.0, 1.0, 20.0], t).y
    rmse = []
    for seed in range(3):  # how far windows can be followed is a matter of luck: the median of three
        noisy = Y + 0.1 * np.random.default_rng(seed).standard_normal(Y.shape)
        with pytest.warns(FitWarning) as said:
            model = NeuralODE(structure="network", random_state=0).fit(t, noisy)
        words = " ".join(str(x.message) for x in said)
        assert "fitted to windows of" in words or "misfit" in words  # given up, or followed with errors
        rmse.append(max(model.report_["rmse"].values()))
        error = model.derivative(0.0, Y) - lorenz(0.0, Y)
        assert np.sqrt(np.mean(error**2)) < 0.1 * np.std(lorenz(0.0, Y))
    assert np.median(rmse) < 0.2 * Y.std()


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"method": "rk5"}, ValueError, "method='rk5' must be an adaptive method"),
        ({"method": "rk4"}, ValueError, "adaptive"),
        ({"activation": "tan"}, ValueError, "activation"),
        ({"optimizer": "sgd"}, ValueError, "optimizer='sgd' is not one of"),
        ({"max_iter": 0}, ValueError, "max_iter=0"),
        ({"rtol": -1}, ValueError, "rtol"),
        ({"weight_decay": -1}, ValueError, "weight_decay"),
        ({"windows": [0]}, ValueError, "windows"),
        ({"random_state": -1}, ValueError, "random_state"),
        ({"field": lambda t, y: y}, TypeError, "field must be a Field"),
        ({"hidden": (0,)}, ValueError, "widths"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    model = NeuralODE(**options)  # as in scikit-learn, nothing is checked before fit
    with pytest.raises(error, match=message):
        model.fit(T, CIRCLE)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((T,), TypeError, "Y is missing"),
        ((T, CIRCLE[:5]), ValueError, "rows"),
        ((T[:1], CIRCLE[:1]), ValueError, "nothing to learn"),
        ((T, [[1, np.nan]] * len(T)), ValueError, "y2 is never observed: leave the column out"),
        ((T, [[np.nan]] * len(T)), ValueError, "nothing is observed"),
        ((Trajectories.from_arrays(T, CIRCLE), CIRCLE), TypeError, "give no Y"),
    ],
)
def test_bad_data_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        NeuralODE(**QUICK).fit(*arguments)


def test_logarithms_need_positive_data():
    with pytest.raises(ValueError, match="log=True needs positive states, but y2 of trajectory 0"):
        NeuralODE(log=True).fit(T, CIRCLE)
    model = NeuralODE(log=True, **QUICK).fit(T, np.exp(CIRCLE))
    with pytest.raises(ValueError, match="y0 must be positive"):
        model.predict(T, [-1, 1])


def test_a_field_of_another_size():
    with pytest.raises(ValueError, match=r"the data have 2 states .* the field has 3"):
        NeuralODE(field=pn.mlp(3, (4,))).fit(T, CIRCLE)


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.predict(T, [1, 0]),
        lambda m: m.score(T, CIRCLE),
        lambda m: m.save("x.npz"),
        lambda m: m.derivative(0.0, [1, 0]),
        lambda m: m.plot(),
    ],
)
def test_not_fitted(call):
    with pytest.raises(NotFittedError, match="call fit"):
        call(NeuralODE())
