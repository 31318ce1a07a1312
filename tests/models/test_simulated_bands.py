"""Bands of simulations from a warm-up: parameters and the state that the warm-up tells are both uncertain."""

import warnings

import numpy as np
import pytest

import pynode as pn
from pynode.fit import FitWarning
from pynode.models.trajectories.equations.loose import under_other_inputs
from pynode.models.trajectories.intervals.refits import _inverse

T = 0.1 * np.arange(500)
NOISE = 0.02
WARM = slice(0, 40)


@pn.field(state=2, inputs=1)
def spring(t, y, u):
    return [y[1], u[0] - y[0] - 0.5 * y[1] - 0.3 * y[0] ** 3]


@pn.field(state=2, inputs=1)
def rubbing(t, y, u):
    """A motor on a slide with dry friction."""
    return [y[1], 8.0 * u[0] - 3.0 * y[1] - 4.0 * np.tanh(20.0 * y[1]) - 10.0 * y[0]]


def record(field, seed, dt=0.1, size=1.0, n=500):
    """(times, inputs, positions, readings of them)."""
    rng = np.random.default_rng(seed)
    t, u = dt * np.arange(n), np.repeat(size * rng.uniform(-1, 1, n // 20), 20)
    y = pn.solve(field, 0.3 * rng.standard_normal(2), t, inputs=(t, u[:, None], "previous"), rtol=1e-8, atol=1e-8).y[:, :1]
    return t, u, y, y + NOISE * rng.standard_normal(y.shape)


@pytest.fixture(scope="module")
def model():
    t, u, _, y = record(spring, 0)
    return pn.NeuralODE(hidden=(8,), augment=1, input_kind="previous", random_state=0).fit(t, y, u=u)


def simulated(model, seed=50, **asked):
    """(what a simulation of a new record gives, the truth, readings)."""
    t, u, truth, y = record(spring, seed)
    return model.simulate((t, u), (t[WARM], y[WARM]), **asked), truth, y


def test_the_deviation_is_that_of_other_parameters_and_other_readings(model):
    """Each direction of the parameters' distribution by differences, the state found anew; then new noise in the warm-up."""
    t, u, truth, y = record(spring, 50)
    mean, std = model.simulate((t, u), (t[WARM], y[WARM]), return_std=True)
    assert np.allclose(mean, model.simulate((t, u), (t[WARM], y[WARM])), atol=1e-6)
    w, V = np.linalg.eigh(np.nan_to_num(model.covariance_))
    h = 0.01
    theta = model.theta_
    variance = np.zeros(mean.shape)
    for direction in (V * np.sqrt(np.maximum(w, 0.0))).T:
        ends = []
        for sign in (1, -1):
            model.theta_ = theta + sign * h * direction
            ends.append(model.simulate((t, u), (t[WARM], y[WARM])))
        variance = variance + ((ends[0] - ends[1]) / (2 * h)) ** 2
    model.theta_ = theta
    rng = np.random.default_rng(0)
    others = [truth[WARM] + NOISE * rng.standard_normal(truth[WARM].shape) for _ in range(60)]
    by_readings = np.std([model.simulate((t, u), (t[WARM], other)) for other in others], axis=0)
    expected = np.sqrt(variance + by_readings**2)
    assert np.allclose(std, expected, rtol=0.3, atol=0.05 * NOISE)
    assert abs(np.sqrt(np.mean(std**2) / np.mean(expected**2)) - 1) < 0.1


def test_bands_hold_new_records(model):
    held, readings = [], []
    for seed in range(60, 68):
        band, truth, _ = simulated(model, seed, interval=0.9)
        held.append(((band.lower <= truth) & (truth <= band.upper))[40:].mean())
        band, _, y = simulated(model, seed, interval=0.9, kind="prediction")
        readings.append(((band.lower <= y) & (y <= band.upper))[40:].mean())
    assert np.mean(held) > 0.75
    assert 0.85 < np.mean(readings) < 0.99


def test_a_warmup_as_long_as_the_data_gives_the_bands_of_the_fitted_trajectory(model):
    t, u, _, y = record(spring, 0)
    later = t[-1] + 0.1 * np.arange(1, 60)
    inputs = (np.append(t, later), np.append(u, np.repeat([0.5, -0.5, 0.2], 20)[1:]))
    simulated = model.simulate(inputs, (t, y), t=later, interval=0.9, kind="prediction")
    forecast = model.predict(later, u=pn.Signal(inputs[0], inputs[1][:, None], "previous"), interval=0.9, kind="prediction")
    for one, other in zip(simulated, forecast, strict=True):
        assert np.allclose(one, other, atol=0.1 * NOISE)


def test_bands_are_those_of_a_saved_model_without_its_data(model, tmp_path):
    before, _, _ = simulated(model, interval=0.9)
    model.save(tmp_path / "model.npz", data=False)
    after, _, _ = simulated(pn.load(tmp_path / "model.npz"), interval=0.9)
    for one, other in zip(after, before, strict=True):
        assert np.allclose(one, other, rtol=1e-9)


def test_unobserved_states_have_deviations_too(model):
    (mean, std), _, _ = simulated(model, return_std=True, unobserved=True)
    assert mean.shape == std.shape == (500, 2) and (std > 0).all()


def test_from_a_known_state_nothing_but_the_parameters_is_uncertain():
    t, u, _, _ = record(spring, 0)
    y = pn.solve(spring, [0.3, 0.1], t, inputs=(t, u[:, None], "previous")).y
    y = y + NOISE * np.random.default_rng(0).standard_normal(y.shape)
    model = pn.NeuralODE(input_kind="previous", random_state=0).fit(t, y, u=u)
    path, std = model.simulate((t, u), y0=[0.3, 0.1], return_std=True)
    assert (std[0] == 0).all() and np.array_equal(std, model.predict(t, [0.3, 0.1], u=u, return_std=True)[1])
    band = model.simulate((t, u), y0=[0.3, 0.1], interval=0.9)
    assert np.array_equal(band.mean, path) and np.array_equal(band.upper, model.predict(t, [0.3, 0.1], u=u, interval=0.9)[2])


def test_several_experiments_have_a_band_each(model):
    parts = [record(spring, seed) for seed in (70, 71)]
    bands = model.simulate([(t, u) for t, u, *_ in parts], [(t[WARM], y[WARM]) for t, _, _, y in parts], interval=0.9)
    for band, (t, u, _, y) in zip(bands, parts, strict=True):
        single = model.simulate((t, u), (t[WARM], y[WARM]), interval=0.9)
        assert all(np.array_equal(one, other) for one, other in zip(band, single, strict=True))


def test_a_random_force_widens_simulations(model):
    t, u, _, y = record(spring, 0, n=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        driven = pn.NeuralODE(hidden=(), augment=1, input_kind="previous", process_noise=True, random_state=0)
        driven.fit(t, y, u=u)
    mean, std = driven.simulate((t, u), (t[WARM], y[WARM]), return_std=True)
    assert np.allclose(mean, driven.simulate((t, u), (t[WARM], y[WARM])), atol=1e-6)
    band = driven.simulate((t, u), (t[WARM], y[WARM]), interval=0.9)
    wide = driven.simulate((t, u), (t[WARM], y[WARM]), interval=0.9, kind="prediction")
    assert np.allclose(band.upper - band.mean, 1.6449 * std, rtol=1e-3)
    assert (wide.upper - wide.lower > band.upper - band.lower).all()


def test_where_rollouts_run_away_nothing_is_known_of_the_start():
    for information in (np.zeros((2, 2)), np.full((2, 2), np.inf), np.full((2, 2), np.nan)):
        assert np.isnan(_inverse(information)).all()
    assert np.allclose(_inverse(np.diag([4.0, 0.5])), np.diag([0.25, 2.0]))


@pytest.mark.parametrize(("field", "dt", "size", "loose"), [(spring, 0.1, 1.0, False), (rubbing, 0.02, 2.0, True)])
def test_simulations_that_the_data_leave_open_are_warned_of(field, dt, size, loose):
    """A record of a motor that mostly sticks tells little of how it moves."""
    t, u, _, y = record(field, 1, dt, size)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = pn.NeuralODE(hidden=(8,), augment=1, input_kind="previous", random_state=0).fit(t, y, u=u)
    uncertain, _ = under_other_inputs(model)
    warned = any("a simulation under the inputs of the data in reverse order is uncertain" in str(x.message) for x in said)
    assert warned == loose
    new_t, new_u, truth, new_y = record(field, 31, dt, size)
    error = model.simulate((new_t, new_u), (new_t[WARM], new_y[WARM]))[40:] - truth[40:]
    assert (np.sqrt(np.mean(error**2)) > 2 * NOISE) == loose
    assert 0.2 * uncertain * NOISE < np.sqrt(np.mean(error**2)) + NOISE
