"""Bands of learned equations and networks, over many data sets: what they hold, and the refits that calibrate them."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import pynode as pn
from pynode.models.trajectories.intervals import calibrated
from pynode.models.trajectories.refits import folds, refitted, shortened

T = np.linspace(0, 10, 61)


def tumbling(t, y):
    """A rigid body: refits from states of another trajectory end elsewhere."""
    return [-2.0 * y[1] * y[2], 1.25 * y[0] * y[2], -0.5 * y[0] * y[1]]


def solved(rhs, y0, t=T):
    return solve_ivp(rhs, (t[0], t[-1]), y0, t_eval=t, rtol=1e-9, atol=1e-10).y.T


@pytest.fixture(scope="module")
def body():
    rng = np.random.default_rng(0)
    y = np.stack([solved(tumbling, rng.uniform(-1, 1, 3)) for _ in range(8)])
    y = y + 0.02 * rng.standard_normal(y.shape)
    return pn.NeuralODE(random_state=0).fit(T, y)


def test_refits_start_from_their_own_trajectories(body):
    assert body.field_.n_params == 3
    std = np.sqrt(np.diag(body.covariance_))
    for lengths in folds(body.data_.lengths):
        refit = refitted(body, shortened(body.data_, lengths), np.flatnonzero(lengths))
        assert (np.abs(refit.theta_ - body.theta_) < 5 * std).all()


def test_a_true_equation_has_the_bands_of_its_covariance(body):
    """Refits of an equation of the true form err as they should: nothing widens their bands manifold."""
    calibration = calibrated(body)
    assert calibration.growth < 8
    assert calibration.quantile(0.9, beyond=True) < 1.9
