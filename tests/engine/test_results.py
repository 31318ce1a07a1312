"""`_core.Results`: what a run gives back, a mapping whose reports of the samples are made when they are asked for."""

import copy
import gc
import pickle

import numpy as np
import pytest

import pynode as pn
from pynode import _core

REPORTS = {"status", "stop_t", "stop_component", "nfe", "accepted", "rejected", "stiff_steps", "jacobians", "factorisations"}


@pytest.fixture
def problem():
    field = pn.mlp(2, (8,))
    setup = pn.Objective(field, np.ones((3, 2)), [0.0, 1.0], np.zeros((3, 2, 2))).setup
    return setup.problem, field.init(0)


def test_a_mapping(problem):
    problem, theta = problem
    results = problem.run(theta)
    totals = {"sample_loss", "sample_weight", "failed", "total_loss", "total_weight"}
    names = {"y", "isa", "theta", "below", "many", *totals, *REPORTS}
    assert set(results) == set(results.keys()) == names and len(results) == len(names)
    assert "nfe" in results and "g_theta" not in results and "x" not in results and 3 not in results
    assert results.get("g_theta") is None and results.get("x", 5) == 5 and results.get("y") is results["y"]
    assert "g_theta" in problem.run(theta, gradient="discrete")


def test_the_arrays_given_to_a_run_are_copied(problem):
    problem, theta = problem
    y0 = np.full((problem.n, problem.d), 0.5)
    results = problem.run(theta, y0=y0)
    for name, given in (("theta", theta), ("y0", y0)):
        assert np.array_equal(results[name], given) and not np.shares_memory(results[name], given)


def test_reports_are_arrays_of_their_own_part(problem):
    problem, theta = problem
    results, again = problem.run(theta), problem.run(theta)
    assert {results[name].dtype for name in ("status", "stop_component")} == {np.dtype(np.int32)}
    assert {results[name].dtype for name in ("nfe", "accepted", "rejected")} == {np.dtype(np.int64)}
    assert (results["stop_t"] == 1).all() and (results["stop_component"] == -1).all() and (results["status"] == 0).all()
    assert (results["nfe"] == 6 * (results["accepted"] + results["rejected"]) + 2).all()
    assert results["sample_loss"].sum() == pytest.approx(results["total_loss"], rel=1e-15)
    assert results["nfe"] is results["nfe"] and results["nfe"].flags.c_contiguous and results["nfe"].flags.aligned
    results["nfe"][1] = -7  # of all arrays, this one alone changes
    for name in set(results) - {"isa"}:
        assert np.array_equal(results[name], again[name]) is (name != "nfe")


def test_arrays_outlive_the_results(problem):
    problem, theta = problem
    nfe = [problem.run(theta)["nfe"] for _ in range(100)]
    gc.collect()
    assert np.unique(nfe).size == 1


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(problem, way):
    problem, theta = problem
    results = problem.run(theta, gradient="discrete")
    other = way(results)
    assert type(other) is _core.Results and list(other) == list(results)
    for name in results:
        assert np.array_equal(other[name], results[name])
    other["failed"] = 2
    assert results["failed"] == 0


def test_bad_names(problem):
    problem, theta = problem
    results = problem.run(theta)
    for bad in ("x", 3, None):
        with pytest.raises(KeyError):
            results[bad]
        with pytest.raises(KeyError):
            results[bad] = 1
    with pytest.raises(TypeError, match="cannot be deleted"):
        del results["y"]
    with pytest.raises(TypeError):
        _core.Results()
    with pytest.raises(KeyError):
        _core.Results({"x": 1})
    with pytest.raises(TypeError, match="get"):
        results.get()


def test_no_cycle_is_left_behind(problem):
    problem, theta = problem
    results = problem.run(theta)
    results["failed"] = [results]  # the user's own doing
    del results
    assert gc.collect() > 0
