"""Fitted models are copied and sent to other processes."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest

import pynode as pn

T = np.linspace(0, 2, 10)
X = np.random.default_rng(0).normal(size=(30, 2))
SERIES = np.exp(-T)[None, :, None] * np.linspace(0.5, 2, 8)[:, None, None]


@pn.field(state=1, theta={"k": pn.positive(0.5)})
def decay(t, y, th):
    return -th.k * y


MODELS = {
    "NeuralODE": lambda: pn.NeuralODE((4,), max_iter=3, random_state=0).fit(T, np.exp(-T)),
    "ensemble": lambda: pn.NeuralODE((4,), max_iter=3, n_estimators=2, random_state=0).fit(T, np.exp(-T)),
    "field": lambda: pn.NeuralODE(field=decay, max_iter=3, random_state=0).fit(T, np.exp(-T)),
    "classifier": lambda: pn.NeuralODEClassifier((4,), max_iter=2, random_state=0).fit(X, X[:, 0] > 0),
    "regressor": lambda: pn.NeuralODERegressor((4,), lift=3, max_iter=2, random_state=0).fit(X, X),
    "CNF": lambda: pn.CNF((4,), max_iter=2, random_state=0).fit(X),
    "LatentODE": lambda: pn.LatentODE(2, (4,), max_iter=3, random_state=0).fit(T, SERIES),
}


@pytest.fixture(scope="module", params=list(MODELS))
def fitted(request):
    return MODELS[request.param]()


def answers(model):
    """Something each model says."""
    if isinstance(model, pn.NeuralODE):
        return model.predict(T, [0.7])
    if isinstance(model, pn.LatentODE):
        return model.predict(T, SERIES)
    return model.log_prob(X) if isinstance(model, pn.CNF) else model.predict(X)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_answer_alike(fitted, way):
    answers(fitted)  # whatever was prepared by use must not stand in the way
    other = way(fitted)
    assert type(other) is type(fitted) and other is not fitted
    np.testing.assert_array_equal(answers(other), answers(fitted))
    assert str(other) == str(fitted) and other.get_params().keys() == fitted.get_params().keys()
    assert other.report_ == fitted.report_


def test_unfitted_models_are_copied(fitted):
    model = type(fitted)(**fitted.get_params())
    assert not hasattr(pickle.loads(pickle.dumps(model)), "theta_")


def test_a_deep_copy_shares_nothing(fitted):
    other = copy.deepcopy(fitted)
    before = answers(fitted)
    other.theta_[:] = 0.0
    np.testing.assert_array_equal(answers(fitted), before)


def test_other_processes_that_start_anew():
    models = [make() for make in MODELS.values()]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.map(answers, models)
        back = pool.apply(copy.copy, (models[0],))
    for model, there in zip(models, found, strict=True):
        np.testing.assert_array_equal(there, answers(model))
    np.testing.assert_array_equal(answers(back), answers(models[0]))


def test_joblib():
    joblib = pytest.importorskip("joblib")
    models = [MODELS["NeuralODE"](), MODELS["LatentODE"](), MODELS["classifier"]()]
    work = (joblib.delayed(copy.deepcopy)(model) for model in models)
    for model, back in zip(models, joblib.Parallel(n_jobs=2)(work), strict=True):
        np.testing.assert_array_equal(answers(back), answers(model))
