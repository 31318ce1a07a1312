"""Models of known equations in files, copies and checkpoints; interrupts; members of ensembles; new data."""

import copy
import pickle
import warnings

import numpy as np
import pytest

import pynode as pn
from pynode.fit import FitWarning

T = np.array([0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 9.0, 10.0, 12.0, 16.0])
DOSES = [[pn.Dose(0.0, "dose", interval=8.0, count=2)], [pn.Dose(1.0, 50.0, duration=2.0), pn.Dose(9.0, 5.0, kind="set")]]


@pn.field(state=1, theta={"CL": pn.positive(1.0), "V": pn.positive(10.0), "dose": pn.frozen(100.0), "tlag": pn.frozen(0.2)})
def pk(t, y, th):
    return [-th.CL / th.V * y[0]]


def volume(t, y, th):
    return [y[0] / th.V]


def scaled(th):
    return [0.1 * th.V]


def readings():
    protocol = pn.NeuralODE(field=pk, observe=volume, initial=[0.0], lag={0: "tlag"}, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        protocol.fit([T, T], [np.ones((10, 1))] * 2, doses=DOSES)
    protocol.theta_ = np.array([3.0, 20.0, 100.0, 0.2])
    rng = np.random.default_rng(0)
    return [protocol.predict(T, trajectory=i) * np.exp(0.05 * rng.standard_normal((10, 1))) + 0.01 for i in range(2)]


DATA = readings()
OPTIONS = {
    "known": {"initial": [0.0]},
    "rows": {"initial": [[0.0], [np.nan]], "noise": "combined"},
    "positive": {"initial": {0: pn.positive(1.0)}, "noise": "lognormal"},
    "bounded": {"initial": {0: pn.bounded(1.0, 0.0, 9.0)}, "noise": {"y1": "proportional"}},
    "formula": {"initial": scaled, "noise": "student"},
    "bioavailability": {"initial": [0.0], "bioavailability": {0: 0.9}},
}


def fitted(options, **more):
    model = pn.NeuralODE(field=pk, observe=volume, lag={0: "tlag"}, random_state=0, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        return model.fit([T, T], DATA, doses=more.pop("doses", DOSES), **more)


@pytest.fixture(scope="module")
def models():
    return {name: fitted(options) for name, options in OPTIONS.items()}


def same(a, b):
    for i in range(2):
        np.testing.assert_array_equal(
            a.predict(T, trajectory=i, return_std=True), b.predict(T, trajectory=i, return_std=True)
        )
    np.testing.assert_array_equal(a.covariance_, b.covariance_)
    np.testing.assert_array_equal(a.determined_covariance_, b.determined_covariance_)
    np.testing.assert_array_equal(a.initial_states_, b.initial_states_)
    assert a.report_["error_models"] == b.report_["error_models"]
    assert a.protocol_.doses == b.protocol_.doses


@pytest.mark.parametrize("name", OPTIONS)
def test_round_trip(name, models, tmp_path):
    model = models[name]
    model.save(tmp_path / "m.npz")
    other = pn.load(tmp_path / "m.npz")
    same(model, other)
    again = fitted_again(other)
    np.testing.assert_allclose(again.theta_, model.theta_, rtol=1e-6)
    same(pickle.loads(pickle.dumps(model)), model)
    same(copy.deepcopy(model), model)


def fitted_again(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        return model.fit(model.data_, doses=DOSES)


def test_clones_have_the_same_options(models):
    sklearn = pytest.importorskip("sklearn.base")
    for model in models.values():
        twin = sklearn.clone(model)
        assert twin.observe is volume
        assert not hasattr(twin, "theta_")


def test_files_without_data(models, tmp_path):
    models["rows"].save(tmp_path / "m.npz", data=False)
    other = pn.load(tmp_path / "m.npz")
    assert other.data_ is None
    same(models["rows"], other)
    known = models["rows"].predict(T, trajectory=1, interval=0.9)
    models["rows"].save(tmp_path / "m.npz", data=False)
    for a, b in zip(known, pn.load(tmp_path / "m.npz").predict(T, trajectory=1, interval=0.9), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- Checkpoints and interrupts


class Stop(Exception):
    pass


def stopping(number, error):
    def callback(step):
        if step.number == number:
            raise error

    return callback


@pytest.mark.parametrize("name", ["known", "positive"])
def test_a_checkpoint_goes_on_to_the_same_bits(name, models, tmp_path):
    whole = models[name]
    n = len(whole.history_["loss"])
    for number in (2, n // 2, n):
        saved = pn.fit.Checkpoint(tmp_path / f"{number}.npz", every=0)
        with pytest.raises(Stop):
            fitted(OPTIONS[name], checkpoint=saved, callback=stopping(number, Stop))
        again = fitted(OPTIONS[name], checkpoint=saved)
        same(again, whole)
        np.testing.assert_array_equal(again.history_["loss"], whole.history_["loss"])
        assert not saved.path.exists()


def test_a_checkpoint_of_another_fit_is_refused(tmp_path):
    path = tmp_path / "c.npz"
    with pytest.raises(Stop):
        fitted(OPTIONS["known"], checkpoint=pn.fit.Checkpoint(path, every=0), callback=stopping(3, Stop))
    censored = [np.zeros((10, 1), int), np.zeros((10, 1), int)]
    censored[0][3] = 1
    marked = pn.Trajectories((T, T), tuple(DATA), ("y1",), censored=tuple(censored))
    model = pn.NeuralODE(field=pk, observe=volume, lag={0: "tlag"}, random_state=0, **OPTIONS["known"])
    with pytest.raises(ValueError, match="another fit"):
        model.fit(marked, doses=DOSES, checkpoint=path)
    with pytest.raises(ValueError, match="another fit"):
        fitted(OPTIONS["known"], doses=[[pn.Dose(0.0, "dose")], []], checkpoint=path)
    for options in (OPTIONS["rows"], OPTIONS["formula"], OPTIONS["bioavailability"], {"initial": [0.1]}):
        with pytest.raises(ValueError, match="another fit"):
            fitted(options, checkpoint=path)
    assert path.exists()


def test_ctrl_c_keeps_the_best_so_far():
    model = pn.NeuralODE(field=pk, observe=volume, initial=[0.0], lag={0: "tlag"})
    with pytest.raises(pn.fit.FitInterrupted):
        model.fit([T, T], DATA, doses=DOSES, callback=stopping(4, KeyboardInterrupt))
    assert model.report_["status"] == "interrupted"
    assert model.predict(T).shape == (10, 1)
    assert len(model.history_["loss"]) == 4


# ---- Ensembles


def test_doses_reach_the_members_of_an_ensemble(models):
    whole = fitted(OPTIONS["known"] | {"n_estimators": 2})
    assert [member.protocol_.doses for member in whole.estimators_] == [models["known"].protocol_.doses] * 2
    np.testing.assert_allclose(whole.predict(T), models["known"].predict(T), rtol=1e-9)


# ---- New data


def test_new_trajectories(models):
    model = models["known"]
    assert model.score([T, T], DATA, doses=DOSES) > 0.95
    np.testing.assert_array_equal(model.initial_states([T, T], DATA, doses=DOSES), [[0.0], [0.0]])
    later = model.predict(
        [0.0, 1.0, 2.0], [40.0], doses=[pn.Dose(0.0, 20.0), pn.Dose(0.5, kind="reset"), pn.Dose(1.0, 30.0)]
    )
    k = model.theta_[0] / model.theta_[1]
    expected = [40.0, 0.0, 30 * np.exp(-k * 0.8)]  # doses act 0.2 later
    np.testing.assert_allclose(later[:, 0] * model.theta_[1], expected, rtol=1e-4, atol=1e-6)


def test_free_initial_states_of_new_trajectories(models):
    model = models["positive"]
    k, V = model.theta_[0] / model.theta_[1], model.theta_[1]
    y = 7.0 / V * np.exp(-k * (T - T[0]))
    found = model.initial_states(T, y)
    np.testing.assert_allclose(found, [[7.0]], rtol=1e-4)


@pytest.mark.parametrize(
    ("t", "options", "words"),
    [
        ([-1.0, 2.0], {}, "t must be 0 or later"),
        ([2.0, 1.0], {}, "rising"),
        ([], {}, "t is empty"),
        ([np.nan], {}, "nan"),
        ([1.0], {"trajectory": 2}, "trajectory=2 must be from 0 to 1"),
        ([1.0], {"trajectory": True}, "trajectory=True"),
        ([1.0], {"y0": [np.nan]}, "finite"),
        ([1.0], {"y0": [1.0, 2.0]}, r"y0 has shape \(2,\)"),
        ([1.0], {"y0": [1.0], "doses": [pn.Dose(0.0, 1.0)]}, "before 1, the first of t"),
        ([1.0], {"doses": [pn.Dose(-1.0, 1.0)]}, "doses hold one at -1, before 0"),
        ([1.0], {"doses": [pn.Dose(0.0, 1.0, "liver")]}, "liver"),
        ([1.0], {"doses": "one"}, "doses='one'"),
        ([1.0], {"doses": [1.0]}, "pynode.Dose, not 1.0"),
    ],
)
def test_wrong_predictions(models, t, options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        models["known"].predict(t, **options)
