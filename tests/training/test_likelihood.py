"""The likelihood of readings: derivatives by differences, information by simulation, censoring against a direct optimum."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

import pynode as pn
from pynode.experiments.doses import Dose, Schedule
from pynode.experiments.forward import Experiment
from pynode.experiments.initial import as_initial
from pynode.experiments.parts import function
from pynode.training.coordinates import Coordinates
from pynode.training.error_models import tail
from pynode.training.likelihood.problem import LikelihoodProblem, times_and_readings
from pynode.training.likelihood.run import Likelihood, LikelihoodRun, Start

FINE = {"rtol": 1e-10, "atol": 1e-12}
MODELS = ("additive", "proportional", "combined", "lognormal")
T = [np.array([0.5, 1.0, 2.0, 3.5, 5.0, 8.0]), np.array([1.0, 1.0, 4.0])]


@pn.field(state=2, theta={"ka": pn.positive(1.1), "k": pn.bounded(0.3, 0.0, 1.0), "V": 2.0, "c": pn.frozen(0.5)})
def oral(t, y, th):
    return [-th.ka * y[0], th.ka * y[0] - th.k * y[1]]


OBSERVE = function("observe", lambda t, y, th: [y[1] / th.V + th.c, y[0] + 0.1], oral, None, ("t", "y", "th"))


def experiment(times, initial):
    plan = Schedule([[Dose(0.0, 10.0)], [Dose(0.5, 8.0, duration="ka"), Dose(2.0, 2.0, 1)]], oral.spec, (), 2)
    return Experiment(oral, times, as_initial(initial, oral, 2, ()), plan, OBSERVE, **FINE)


def problem(noise, models, initial=None, censored=True, weighted=True, seed=0):
    """(problem, coordinates x, coordinates of initial states) at a point that is not the optimum."""
    rng = np.random.default_rng(seed)
    times = [np.unique(t) for t in T]
    ex = experiment(times, [np.nan, 1.5] if initial is None else initial)
    start = np.full((2, 2), 1.2)
    theta = oral.init()
    value = ex.run(theta, start, False).value
    rows = [np.searchsorted(times[0], T[0]), len(times[0]) + np.searchsorted(times[1], T[1])]
    y = [value[own] * np.exp(0.2 * rng.standard_normal((len(own), 2))) for own in rows]
    y[0][2, 0] = np.nan
    marks = [np.zeros(own.shape, int) for own in y]
    weight = [rng.uniform(0.5, 2.0, own.shape) for own in y]
    if weighted:
        weight[0][4, 1] = 0.0
    if censored:
        marks[0][5, 0] = 1
        marks[1][0, 1] = -1
        marks[1][2, 0] = 1
    found, readings = times_and_readings(T, y, weight if weighted else None, marks)
    made = LikelihoodProblem(ex, readings, models, noise, Coordinates(oral.spec, theta), start)
    assert all((a == b).all() for a, b in zip(found, times, strict=True))
    x = np.concatenate([made.coordinates.x(theta) + 0.1, np.full(made.n_noise, -1.5)])
    return made, x, made.start + 0.1 * made.mask


# ---- Readings


def test_replicates_share_a_row():
    times, readings = times_and_readings(T, [np.arange(12.0).reshape(6, 2), np.arange(6.0).reshape(3, 2)])
    np.testing.assert_array_equal(times[1], [1.0, 4.0])
    assert len(readings) == 18
    np.testing.assert_array_equal(readings.row[readings.sample == 1], [6, 6, 6, 6, 7, 7])
    np.testing.assert_array_equal(readings.value[readings.sample == 1], np.arange(6.0))


def test_readings_without_value_or_weight_do_not_count():
    y = [np.ones((6, 1)), np.ones((3, 1))]
    y[0][1] = np.nan
    weight = [np.full((6, 1), 2.0), np.array([[1.0], [0.0], [1.0]])]
    _, readings = times_and_readings(T, y, weight)
    assert len(readings) == 7
    np.testing.assert_array_equal(readings.weight, [2.0] * 5 + [1.0] * 2)
    np.testing.assert_array_equal(readings.row, [0, 2, 3, 4, 5, 6, 7])


# ---- Values and derivatives


def by_hand(made, names, x, free):
    """-2 log p by SciPy's densities, of Gaussian noise without weights."""
    course = made.course(x, free)
    total = 0.0
    for c in range(2):
        name = names[c]
        sigma = made.sigma(x, c)
        for k in made.columns[c]:
            f, y = course.value[made.readings.row[k], c], made.readings.value[k]
            s = {"proportional": sigma[0] * f, "combined": np.hypot(sigma[0], sigma[-1] * f)}.get(name, sigma[0])
            jacobian = np.log(y) if name == "lognormal" else 0.0
            f, y = (np.log(f), np.log(y)) if name == "lognormal" else (f, y)
            how = made.readings.censored[k]
            total -= 2 * (norm.logpdf(y, f, s) - jacobian if how == 0 else norm.logcdf(how * (y - f) / s))
    return total


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_minus_twice_the_log_likelihood(name):
    made, x, free = problem("gaussian", (name, "additive"), weighted=False)
    prior = float((made.prior * (free - made.start) ** 2).sum())
    assert made.loss(x, free) == pytest.approx(by_hand(made, (name, "additive"), x, free) + prior, rel=1e-9)


@pytest.mark.parametrize("noise", ["gaussian", "student", "huber"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_central_differences(name, noise):
    initial = {0: pn.positive(1.2), 1: pn.bounded(1.2, 0.0, 3.0)} if name == "combined" else None
    made, x, free = problem(noise, (name, MODELS[1 - MODELS.index(name) % 2]), initial)
    here = made.linearise(x, free)
    assert here.loss == made.loss(x, free)
    step = 1e-5
    numeric = [(made.loss(x + h, free) - made.loss(x - h, free)) / (4 * step) for h in step * np.eye(len(x))]
    np.testing.assert_allclose(here.free.g, numeric, atol=2e-6 * np.abs(here.free.g).max())
    for i, j in np.argwhere(made.mask):
        h = np.zeros(free.shape)
        h[i, j] = step
        slope = (made.loss(x, free + h) - made.loss(x, free - h)) / (4 * step)
        assert here.free.gradient[i, j] == pytest.approx(slope, abs=2e-6 * max(np.abs(here.free.gradient).max(), 1.0))


@pytest.mark.parametrize(
    ("noise", "name"), [("gaussian", name) for name in MODELS] + [("student", "additive"), ("huber", "combined")]
)
def test_curvatures_are_the_variances_of_scores(noise, name):
    """J^T J is Fisher's information: the variance of the gradient over readings drawn from the model."""
    made, x, free = problem(noise, (name, name), censored=False, weighted=False)
    x[len(x) - made.n_noise :] = -2.5
    course = made.course(x, free, True)
    value = course.value[made.readings.row, made.readings.column]
    size = {"proportional": value, "combined": np.hypot(1.0, value)}.get(name, 1.0)
    grid = np.linspace(-40.0, 40.0, 20_001)
    below = np.exp(-0.5 * tail(noise, grid)[0])
    rng = np.random.default_rng(1)
    scores = []
    for _ in range(700):
        z = np.exp(-2.5) * size * np.interp(rng.uniform(size=len(value)), below, grid)
        made.readings = replace(made.readings, value=value * np.exp(z) if name == "lognormal" else value + z)
        e, J, _ = made._residuals(course, x, free)
        scores.append(J[:, : len(x)].T @ e)
    information = J[:, : len(x)].T @ J[:, : len(x)]
    ratio = np.diag(np.cov(np.array(scores).T)) / np.diag(information)
    np.testing.assert_allclose(ratio, 1.0, atol=0.25)


def test_weights_are_those_of_scales():
    """Weight 4 is a standard deviation of half."""
    made, x, free = problem("gaussian", ("additive", "combined"))
    course = made.course(x, free)
    z = made.standardised(course, x, 0)
    rows = made.columns[0]
    f = course.value[made.readings.row[rows], 0]
    sigma = made.sigma(x, 0)[0] / np.sqrt(made.readings.weight[rows])
    np.testing.assert_allclose(z, (made.readings.value[rows] - f) / sigma, rtol=1e-8)


# ---- Where nothing can be said


def test_a_prediction_without_logarithm_is_impossible():
    made, x, free = problem("gaussian", ("lognormal", "additive"))
    low = x.copy()
    low[2] = -2.0  # V
    assert made.loss(low, free) == np.inf
    assert made.linearise(low, free) is None
    assert np.isfinite(made.loss(x, free))
    assert np.isnan(made.standardised(made.course(low, free), low, 0)).all()


def test_what_cannot_be_solved_is_impossible():
    made, x, free = problem("gaussian", ("additive", "additive"))
    huge = x.copy()
    huge[0] = 800.0  # log ka
    assert made.loss(huge, free) == np.inf
    assert made.linearise(huge, free) is None


def test_the_coordinates_of_initial_states():
    made, _, _ = problem("gaussian", ("additive", "additive"), {0: pn.positive(1.2), 1: pn.bounded(1.2, 0.0, 3.0)})
    y0 = np.array([[0.3, 2.0], [4.0, 0.1]])
    z = made.states_in(y0)
    back, slope = made.states_out(z)
    np.testing.assert_allclose(back, y0)
    numeric = (made.states_out(z + 1e-6)[0] - made.states_out(z - 1e-6)[0]) / 2e-6
    np.testing.assert_allclose(slope, numeric, rtol=1e-7)
    assert all(np.isfinite(x).all() for x in made.states_out(np.full((2, 2), 1e6)))


def test_first_noise_is_that_of_the_residuals():
    made, x, free = problem("gaussian", ("additive", "proportional"), censored=False, weighted=False)
    x = made.first_noise(x, free)
    course = made.course(x, free)
    for c in range(2):
        assert np.sqrt(np.mean(made.standardised(course, x, c) ** 2)) == pytest.approx(1.0, rel=1e-3)


# ---- Censored readings


@pytest.mark.parametrize("noise", ["additive", "lognormal", "proportional"])
def test_censoring_against_a_direct_optimum(noise):
    """The same likelihood, maximised by SciPy."""

    @pn.field(state=1, theta={"A": pn.positive(5.0), "k": pn.positive(0.5)})
    def decay(t, y, th):
        return -th.k * y

    rng = np.random.default_rng(3)
    t = np.linspace(0.0, 6.0, 40)
    f = 8 * np.exp(-0.7 * t)
    y = {"additive": f + 0.15 * rng.standard_normal(40)}.get(noise, f * np.exp(0.2 * rng.standard_normal(40)))
    marks = np.where(y < 0.4, 1, np.where(y > 7.0, -1, 0))
    y = np.clip(y, 0.4, 7.0)

    def deviance(v):
        f = v[0] * np.exp(-v[1] * t)
        s = np.exp(v[2]) * (f if noise == "proportional" else 1.0)
        r = np.log(y / f) if noise == "lognormal" else y - f
        jacobian = np.log(y) if noise == "lognormal" else 0.0
        return -2 * np.where(marks == 0, norm.logpdf(r, 0, s) - jacobian, norm.logcdf(marks * r / s)).sum()

    best = minimize(
        deviance, [6.0, 0.6, -1.5], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11, "maxiter": 5000}
    )
    times, readings = times_and_readings([t], [y[:, None]], None, [marks[:, None]])
    ex = Experiment(decay, times, as_initial(lambda th: [th.A], decay, 1, ()), **FINE)

    def made(coordinates, states, part):
        return LikelihoodProblem(ex, readings, (noise,), "gaussian", coordinates, states)

    run = LikelihoodRun(Likelihood(made, decay.spec, tol=1e-10), [Start("start", decay.init(), np.zeros((1, 1)))])
    run.train()
    found = run.best
    np.testing.assert_allclose(found.problem.theta(found.posterior.theta), best.x[:2], rtol=1e-4)
    np.testing.assert_allclose(found.problem.sigma(found.posterior.theta, 0), np.exp(best.x[2]), rtol=1e-3)
    assert found.loss == pytest.approx(best.fun, abs=1e-5)
