"""Early stopping of NeuralODE: trajectories that were kept aside keep their numbers."""

import numpy as np
import pytest

import pynode as pn
from pynode.training.early_stopping import split

pytestmark = pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # four trajectories determine it loosely


@pytest.fixture(scope="module")
def fitted():
    """(model, times, states of five trajectories), the noise being 0.03."""
    pendulum = pn.field(state=2)(lambda t, y: [y[1], -np.sin(y[0]) - 0.2 * y[1]])
    t = np.linspace(0, 15, 60)
    Y = pn.solve(pendulum, [[1.5, 0], [-0.8, 1.0], [2.2, -0.5], [0.3, 0.9], [-1.5, 0.2]], t).y
    Y += 0.03 * np.random.default_rng(0).standard_normal(Y.shape)
    model = pn.NeuralODE(random_state=2, early_stopping=True, hidden=(8,), structure="network")
    return model.fit(np.tile(t, (5, 1)), Y, weight=np.linspace(1, 2, 60)), t, Y


def test_trajectories_keep_the_numbers_that_the_user_gave_them(fitted):
    model, t, Y = fitted
    assert len(model.data_) == len(model.weight_) == len(model.forecast(3)) == 5
    for i, y in enumerate(Y):
        mean, std = model.predict(t, trajectory=i, return_std=True)
        assert np.sqrt(np.mean((mean - y) ** 2)) < 0.04 and (std > 0).all()


def test_the_initial_state_of_one_kept_aside_fits_its_data(fitted):
    model, t, Y = fitted
    (aside,) = split(5, 0.2, 2)[1]
    assert model.aside_ == (aside,) and model.report_["n_samples"] == 4
    np.testing.assert_array_equal(model.initial_states_[aside], model.initial_states(t, Y[aside])[0])
    explained = model.summary().r2
    trained = np.concatenate(np.delete(Y, aside, axis=0))
    for k, name in enumerate(model.names_):
        assert explained[name] == pytest.approx(1 - model.report_["rmse"][name] ** 2 / trained[:, k].var())


def test_files_know_which_were_kept_aside(fitted, tmp_path):
    model, t, _ = fitted
    model.save(tmp_path / "model.npz")
    again = pn.load(tmp_path / "model.npz")
    assert again.aside_ == model.aside_
    np.testing.assert_array_equal(again.predict(t, trajectory=4), model.predict(t, trajectory=4))
