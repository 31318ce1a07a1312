"""What a fit leaves, alike in all models: history, report, seed, callbacks, early stopping."""

import numpy as np
import pytest

import pynode as pn
from pynode.optim.result import HISTORY

T = np.linspace(0, 3, 12)

REPORT = {
    "status",
    "message",
    "loss",
    "nfe",
    "seconds",
    "n_iter",
    "n_params",
    "n_samples",
    "n_failed",
    "random_state",
    "version",
    "warnings",
}


def data_of(make, n=24, seed=0):
    rng = np.random.default_rng(seed)
    if make in (pn.NeuralODE, pn.LatentODE):
        phase = rng.uniform(0, 1.5, (n, 1))
        return np.tile(T, (n, 1)), np.stack([np.cos(T + phase), -np.sin(T + phase)], axis=2)
    X = rng.normal(size=(n, 2))
    if make is pn.CNF:
        return (X,)
    return (X, X[:, 0] > 0) if make is pn.NeuralODEClassifier else (X, X[:, 0] ** 2)


SMALL = {
    pn.NeuralODE: {"hidden": (4,), "max_iter": 4},
    pn.NeuralODEClassifier: {"hidden": (4,), "max_iter": 4, "batch_size": 8},
    pn.NeuralODERegressor: {"hidden": (4,), "max_iter": 4, "batch_size": 8},
    pn.CNF: {"hidden": (4,), "max_iter": 4, "batch_size": 8},
    pn.LatentODE: {"latent": 2, "hidden": (4,), "max_iter": 6, "batch_size": 8},
}
MODELS = list(SMALL)


def fit(make, more=None, **keys):
    return make(**SMALL[make] | {"random_state": 3} | (more or {})).fit(*data_of(make), **keys)


@pytest.mark.parametrize("make", MODELS)
def test_history_and_report(make):
    model = fit(make)
    staged = ("stage",) if make is pn.NeuralODE else ()
    assert set(model.history_) == {*HISTORY, *staged}
    assert {column.shape for column in model.history_.values()} == {(model.report_["n_iter"],)}
    assert np.isfinite(model.history_["gradient_norm"]).all() and np.isnan(model.history_["validation"]).all()
    assert (np.diff(model.history_["seconds"]) >= 0).all()
    assert all(column.dtype == np.float64 for name, column in model.history_.items() if name != "stage")
    report = model.report_
    assert set(report) >= REPORT
    assert report["status"] == "finished" and isinstance(report["message"], str) and report["message"]
    assert report["random_state"] == model.random_state_ == 3
    assert report["n_params"] == len(model.theta_) and report["n_samples"] == 24 and report["n_failed"] == 0
    assert report["warnings"] == [] and report["version"] == pn.__version__ and np.isfinite(report["loss"])


@pytest.mark.parametrize("make", MODELS)
def test_a_seed_that_was_drawn_gives_the_same_model_again(make):
    first = fit(make, {"random_state": None})
    again = fit(make, {"random_state": first.random_state_})
    assert (first.theta_ == again.theta_).all()


@pytest.mark.parametrize("make", MODELS)
def test_callbacks_see_one_kind_of_record_and_stop(make):
    seen = []

    def callback(iteration):
        seen.append(iteration)
        return len(seen) == 3

    model = fit(make, callback=callback)
    assert len(seen) == 3 and all(type(one) is pn.fit.Iteration for one in seen)
    assert [one.number for one in seen] == [1, 2, 3]
    assert model.report_["status"] == "stopped" and "callback" in model.report_["message"]
    for name in HISTORY:
        np.testing.assert_array_equal(model.history_[name][:3], [getattr(one, name) for one in seen])
    assert all((one.stage != "") == (make is pn.NeuralODE) for one in seen)
    assert all(one.theta.shape == model.theta_.shape for one in seen)


@pytest.mark.parametrize("make", MODELS)
def test_early_stopping(make):
    model = fit(make, {"early_stopping": True, "max_iter": 60, "patience": 3, "validation_fraction": 0.25})
    validation = model.history_["validation"]
    assert np.isfinite(validation).any() and model.report_["n_samples"] == 18
    if make is not pn.NeuralODE:  # its stages begin anew
        assert model.report_["loss"] == model.history_["loss"][np.nanargmin(validation)]


def test_a_latent_ode_stops_early_with_the_best_parameters():
    seen = []
    model = pn.LatentODE(latent=2, hidden=(4,), max_iter=400, batch_size=6, early_stopping=True, patience=2, random_state=0)
    model.fit(*data_of(pn.LatentODE), callback=seen.append)
    validation = model.history_["validation"]
    asked = np.flatnonzero(~np.isnan(validation))
    n_batches = -(-19 // 6)
    assert (asked == np.arange(len(asked)) * n_batches + n_batches - 1).all()  # at the end of each epoch
    assert model.report_["status"] == "early" and len(validation) < 400
    best = int(np.nanargmin(validation))
    assert (model.theta_ == seen[best].theta).all() and len(validation) - 1 - best == 2 * n_batches


def test_early_stopping_of_a_latent_ode_goes_on_from_a_checkpoint(tmp_path):
    options = SMALL[pn.LatentODE] | {
        "max_iter": 30,
        "batch_size": 6,
        "early_stopping": True,
        "patience": 4,
        "random_state": 0,
    }
    data = data_of(pn.LatentODE)
    whole = pn.LatentODE(**options).fit(*data)
    path = tmp_path / "fit.npz"

    def crash(iteration):
        if iteration.number == 17:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pn.LatentODE(**options).fit(*data, callback=crash, checkpoint=pn.fit.Checkpoint(path, every=0))
    assert path.exists()
    rest = []
    model = pn.LatentODE(**options).fit(*data, checkpoint=path, callback=rest.append)
    assert rest[0].number == 17 and not path.exists()
    assert (model.theta_ == whole.theta_).all()
    for name in ("loss", "validation", "gradient_norm"):
        np.testing.assert_array_equal(model.history_[name], whole.history_[name])


def test_weights_of_a_density_are_repetitions():
    X = data_of(pn.CNF)[0]
    rng = np.random.default_rng(1)
    weight = rng.integers(0, 3, len(X)).astype(float)
    options = {"hidden": (6,), "max_iter": 40, "batch_size": 1000, "dtype": "float64", "random_state": 0}
    weighted = pn.CNF(**options).fit(X, sample_weight=weight)
    repeated = pn.CNF(**options).fit(np.repeat(X, weight.astype(int), axis=0))
    np.testing.assert_allclose(weighted.shift_, repeated.shift_)
    np.testing.assert_allclose(weighted.log_prob(X), repeated.log_prob(X), atol=1e-5)
    assert weighted.report_["n_samples"] == (weight > 0).sum()
    plain = pn.CNF(**options).fit(X)
    assert (pn.CNF(**options).fit(X, sample_weight=np.full(len(X), 2.0)).theta_ == plain.theta_).all()
    assert np.abs(weighted.log_prob(X) - plain.log_prob(X)).max() > 1e-3
    assert weighted.score(X, sample_weight=weight) == pytest.approx(np.average(weighted.log_prob(X), weights=weight))


@pytest.mark.parametrize("make", MODELS)
def test_reports_come_back_from_a_file(make, tmp_path):
    model = fit(make, {"early_stopping": make is not pn.NeuralODE})
    model.save(tmp_path / "model.npz")
    again = pn.load(tmp_path / "model.npz")
    assert again.report_ == model.report_ and again.random_state_ == 3
    for name, column in model.history_.items():
        np.testing.assert_array_equal(again.history_[name], column)


@pytest.mark.parametrize("make", MODELS)
def test_reports_of_files_are_checked(make):
    content = {"model": make.__name__} | fit(make).to_content()
    for change in ({"status": 3}, {"n_iter": "x"}, {"warnings": [1]}, {"warnings": "a"}, {"random_state": None}):
        with pytest.raises(ValueError, match="report"):
            make.from_content(content | {"report": content["report"] | change})
    report = dict(content["report"])
    del report["message"]
    with pytest.raises(ValueError, match="lacks message"):
        make.from_content(content | {"report": report})
    history = dict(content["history"])
    history["nfe"] = history["nfe"][1:]
    with pytest.raises(ValueError, match="history"):
        make.from_content(content | {"history": history})
