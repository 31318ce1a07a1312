"""Doses that readings contradict: the score test against fits in which the doses are estimated."""

import warnings

import numpy as np
import pytest
from scipy.optimize import least_squares

import pynode as pn
from pynode.models.trajectories.known import dose_checks
from pynode.models.trajectories.known.fits import KnownFit

T = np.linspace(0.5, 12.0, 20)


@pn.field(state=1, theta={"k": pn.positive(0.5)})
def decay(t, y, th):
    return -th.k * y


def course(k, at, amount):
    return 10 * np.exp(-k * T) + np.where(at < T, amount * np.exp(-k * np.maximum(T - at, 0.0)), 0.0)


def fitted(second, sigma=0.1, seed=0, **options):
    y = course(0.3, 6.2, 5.0) + sigma * np.random.default_rng(seed).standard_normal(len(T))
    model = pn.NeuralODE(field=decay, initial=[0.0], **options)
    doses = [pn.Dose(0.0, 10.0), second]
    data = pn.Trajectories.from_arrays(T, y)
    fit = KnownFit(model, data, None, 0, doses)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run, _ = fit.run()
    return y, fit, run.best


def test_what_a_dose_explains_is_what_least_squares_says():
    """The fall of the sum of squares for a small error, where first order holds."""
    second = pn.Dose(6.2, 4.9)
    y, fit, best = fitted(second)
    rows = [(0, 0, fit.protocol.doses[0][0]), (0, 1, fit.protocol.doses[0][1])]
    problem, owner = dose_checks.with_doses(fit, best, rows)
    np.testing.assert_array_equal(owner, [0, 0, 1, 1])
    x = np.concatenate([best.posterior.theta[:1], problem.coordinates.base[-4:], best.posterior.theta[1:]])
    here = problem.linearise(x, best.posterior.free)
    explained, q = dose_checks.explained(here.H, here.g, np.array([0, 5]), np.array([4]))
    assert q == 1
    before = least_squares(lambda v: course(v[0], 6.2, 4.9) - y, [0.3]).cost
    after = least_squares(lambda v: course(v[0], 6.2, v[1]) - y, [0.3, 4.9]).cost
    assert explained / len(T) == pytest.approx(1 - after / before, rel=1e-2)


def test_directions_that_are_none_of_their_own_do_not_count():
    J = np.random.default_rng(0).standard_normal((20, 4))
    J[:, 3] = J[:, 0] + 1e-5 * J[:, 3]
    r = np.random.default_rng(1).standard_normal(20)
    fall, q = dose_checks.explained(J.T @ J, J.T @ r, np.array([0, 1]), np.array([2, 3]))
    assert q == 1
    without = np.linalg.lstsq(J[:, :2], r)[1][0]
    assert fall == pytest.approx(without - np.linalg.lstsq(J[:, :3], r)[1][0], rel=1e-6)


@pytest.mark.parametrize("second", [pn.Dose(6.2, 2.0), pn.Dose(6.2, 9.0, duration=0.1)])
def test_the_wrong_dose_is_found(second):
    _, fit, best = fitted(second)
    assert dose_checks.doubtful_dose(fit, best, fit.verdict.columns(best)) == (0, second)


def test_right_doses_are_not_doubted(monkeypatch):
    monkeypatch.setattr(dose_checks, "FOLLOWING", -10.0)
    for seed in range(10):
        _, fit, best = fitted(pn.Dose(6.2, 5.0), seed=seed)
        assert dose_checks.doubtful_dose(fit, best, fit.verdict.columns(best)) is None


def test_what_is_not_checked():
    second = pn.Dose(6.2, 2.0)
    _, fit, best = fitted(second, noise="student")
    assert dose_checks.doubtful_dose(fit, best, fit.verdict.columns(best)) is None
    _, fit, best = fitted(pn.Dose(1e-3, 1e-9, interval=0.1, count=3))
    many = KnownFit(fit.model, fit.data, None, 0, [pn.Dose(0.0, 10.0)] * (dose_checks.MOST + 1))
    assert dose_checks.doubtful_dose(many, best, fit.verdict.columns(best)) is None
