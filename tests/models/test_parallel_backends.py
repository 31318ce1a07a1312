"""Members of ensembles, restarts and folds of cross-validation by the backends of joblib: the same bits as in turn."""

import contextlib
import warnings

import numpy as np
import pytest

import pynode as pn

joblib = pytest.importorskip("joblib")

T = np.linspace(0, 4, 40)


@pn.field(state=2, theta={"k": pn.positive(3.0), "c": pn.bounded(0.5, 0.0, 2.0)})
def spring(t, y, th):
    return [y[1], -th.k * y[0] - th.c * y[1]]


def data():
    starts = np.random.default_rng(0).uniform(-1, 1, (6, 2))
    y = pn.solve(spring, starts, T, [1.0, 0.2]).y
    return y + 0.02 * np.random.default_rng(1).standard_normal(y.shape)


def ensemble(n_jobs):
    model = pn.NeuralODE(hidden=(4,), max_iter=8, n_estimators=3, n_jobs=n_jobs, random_state=0).fit(T, data())
    return [member.theta_ for member in model.estimators_]


def restarts(n_jobs):
    return [pn.NeuralODE(field=spring, n_restarts=3, n_jobs=n_jobs, random_state=0).fit(T, data()).theta_]


def folds(n_jobs):
    selection = pytest.importorskip("sklearn.model_selection")
    model = pn.NeuralODE(hidden=(3,), max_iter=5, random_state=0)
    return [selection.cross_val_score(model, [T] * 6, list(data()), cv=3, n_jobs=n_jobs)]


@contextlib.contextmanager
def backend(name):
    if name == "dask":
        distributed = pytest.importorskip("distributed")
        options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
        with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster), joblib.parallel_config("dask"):
            yield
    elif name == "ray":
        ray = pytest.importorskip("ray")
        pytest.importorskip("ray.util.joblib").register_ray()
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        try:
            with joblib.parallel_config("ray"):
                yield
        finally:
            ray.shutdown()
    else:
        with joblib.parallel_config(name):
            yield


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loky", "threading", "dask", "ray"])
def test_backends_give_the_same_bits(name):
    with warnings.catch_warnings():  # of short fits, of sockets, clocks and ports
        warnings.simplefilter("ignore")
        with backend(name):
            there = [work(2) for work in (ensemble, restarts, folds)]
        here = [work(None) for work in (ensemble, restarts, folds)]
    for ours, theirs in zip(here, there, strict=True):
        assert [x.tobytes() for x in ours] == [x.tobytes() for x in theirs]
