"""scikit-learn's conventions: its own checks, and its tools at work on trajectories."""

import warnings

import numpy as np
import pytest

from pynode import NeuralODE, load

pytest.importorskip("sklearn", minversion="1.6")
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

TABULAR = "fits a table of features to a number a row; here X holds the times of trajectories and y their states"
DO_NOT_APPLY = {
    "check_fit_score_takes_y": TABULAR,
    "check_estimators_overwrite_params": TABULAR,
    "check_dont_overwrite_parameters": TABULAR,
    "check_estimators_fit_returns_self": TABULAR,
    "check_readonly_memmap_input": TABULAR,
    "check_estimators_dtypes": TABULAR,
    "check_pipeline_consistency": TABULAR,
    "check_estimators_pickle": TABULAR,
    "check_f_contiguous_array_estimator": TABULAR,
    "check_regressors_train": TABULAR,
    "check_regressor_data_not_an_array": TABULAR,
    "check_regressor_multioutput": TABULAR,
    "check_regressors_no_decision_function": TABULAR,
    "check_regressors_int": TABULAR,
    "check_non_transformer_estimators_n_iter": TABULAR,
    "check_methods_sample_order_invariance": TABULAR,
    "check_methods_subset_invariance": TABULAR,
    "check_dict_unchanged": TABULAR,
    "check_fit_idempotent": TABULAR,
    "check_fit_check_is_fitted": TABULAR,
    "check_positive_only_tag_during_fit": TABULAR,
    "check_fit2d_1sample": TABULAR + "; a single trajectory is a proper data set",
    "check_fit2d_1feature": TABULAR + "; a trajectory of one time says so in words of its own",
    "check_estimator_sparse_tag": "sparse matrices have no meaning as times",
    "check_estimator_sparse_array": "sparse matrices have no meaning as times",
    "check_estimator_sparse_matrix": "sparse matrices have no meaning as times",
    "check_estimators_unfitted": "wants scikit-learn's own NotFittedError, and scikit-learn is optional here; ours is a "
    "ValueError and AttributeError too",
}
"""Checks that cannot hold, with the reason (docs/training.md repeats it)."""

MUST_PASS = (
    "check_no_attributes_set_in_init",
    "check_do_not_raise_errors_in_init_or_set_param",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_mixin_order",
    "check_valid_tag_types",
)


def circles(n=6):
    t = np.linspace(0, 6, 30)
    phase = np.linspace(0, 1, n)[:, None]
    return np.tile(t, (n, 1)), np.stack([np.cos(t + phase), -np.sin(t + phase)], axis=2)


def test_the_checks_of_scikit_learn():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(NeuralODE(hidden=(4,), max_iter=5, random_state=0), on_fail=None, on_skip=None)
    status = {}
    for result in results:
        status.setdefault(result["check_name"], set()).add(result["status"])
    failed = {name for name, how in status.items() if "failed" in how}
    assert failed <= set(DO_NOT_APPLY), f"checks that passed before: {sorted(failed - set(DO_NOT_APPLY))}"
    for name in MUST_PASS:
        full = [known for known in status if known.startswith(name)]
        assert full and all(status[known] == {"passed"} for known in full), name


def test_clone_and_set_params():
    model = NeuralODE(hidden=[4, 4], windows=[5, None], random_state=3)
    copy = clone(model)
    assert copy.get_params() == model.get_params() and not hasattr(copy, "theta_")
    assert copy.set_params(hidden=(7,)) is copy and copy.hidden == (7,)
    with pytest.raises(ValueError, match="no parameter 'width'"):
        model.set_params(width=3)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # one hidden unit cannot follow a circle
@pytest.mark.parametrize("as_lists", [False, True])
def test_grid_search(as_lists):
    t, y = circles()
    data = (list(t), list(y)) if as_lists else (t, y)
    search = GridSearchCV(NeuralODE(skip=False, random_state=0, max_iter=10), {"hidden": [(1,), (8,)]}, cv=KFold(3)).fit(
        *data
    )
    assert search.best_params_ == {"hidden": (8,)}
    assert search.best_score_ > 0.999 > search.cv_results_["mean_test_score"][0]


def test_pipeline_and_cross_validation():
    t, y = circles(4)
    model = make_pipeline(FunctionTransformer(lambda t: t / 2), NeuralODE(hidden=(8,), random_state=0))
    model.fit(t, y)
    assert model.score(t, y) > 0.999
    np.testing.assert_allclose(model[-1].scaling_.t_shift, 0.0)
    assert model[-1].data_.t[0][-1] == 3.0
    scores = cross_val_score(NeuralODE(hidden=(8,), random_state=0), t, y, cv=2)
    assert (scores > 0.99).all()


def frame_of_circles(n=6):
    pandas = pytest.importorskip("pandas")
    t, y = circles(n)
    parts = [pandas.DataFrame({"run": f"r{i}", "t": t[i], "x": y[i, :, 0], "v": y[i, :, 1]}) for i in range(n)]
    return pandas.concat(parts, ignore_index=True)


COLUMNS = {"time": "t", "state": ["x", "v"], "id": "run"}


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # one hidden unit cannot follow a circle
def test_data_frames_whose_trajectories_are_kept_whole():
    frame = frame_of_circles().sample(frac=1.0, random_state=0)  # rows in any order
    groups = frame["run"]
    model = NeuralODE(skip=False, random_state=0, max_iter=10)
    search = GridSearchCV(model, {"hidden": [(1,), (8,)]}, cv=GroupKFold(3)).fit(frame, groups=groups, **COLUMNS)
    assert search.best_params_ == {"hidden": (8,)}
    assert search.best_score_ > 0.999 > search.cv_results_["mean_test_score"][0]
    assert len(search.best_estimator_.data_) == 6
    t, y = circles()
    arrays = GridSearchCV(model, {"hidden": [(8,)]}, cv=KFold(3)).fit(t, y)
    assert search.cv_results_["mean_test_score"][1] > 0.999 and arrays.best_score_ > 0.999
    assert search.score(frame) == search.best_estimator_.score(frame) == search.best_estimator_.score(list(t), list(y))


@pytest.mark.filterwarnings("ignore:u never changes in the data:pynode.fit.FitWarning")
def test_scores_of_data_frames(tmp_path):
    frame = frame_of_circles(2)
    frame["u"] = 0.0
    model = NeuralODE(hidden=(8,), random_state=0, max_iter=20).fit(frame, input="u", **COLUMNS)
    assert model.columns_ == {"time": "t", "state": ("x", "v"), "id": "run", "input": ("u",)}
    model.save(tmp_path / "m.npz", data=False)
    other = load(tmp_path / "m.npz")
    assert other.columns_ == model.columns_
    assert other.score(frame) == model.score(frame)
    np.testing.assert_array_equal(other.initial_states(frame), model.initial_states(frame))
    with pytest.raises(ValueError, match="no column 'run'"):
        other.score(frame.drop(columns="run"))
