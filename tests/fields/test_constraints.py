"""Constraints of parameters while training: against closed forms, both kinds of optimisers, bad declarations."""

import warnings

import numpy as np
import pytest

import pynode as pn
from pynode import NeuralODE
from pynode.training.coordinates import Coordinates
from pynode.training.matching import MatchingObjective
from pynode.training.shooting import ShootingProblem
from pynode.training.windows import Data

T = np.linspace(0, 6, 40)


def after(here, step):
    """The best step of the free states with a step of the shared coordinates."""
    gain, shift = here.free.eliminated()[2:]
    return -(shift + gain @ step)


def spring(**theta):
    @pn.field(state=2, theta={"k": 1.0, "c": 0.2} | theta)
    def f(t, y, th):
        return [y[1], -th.k * y[0] - th.c * y[1]]

    return f


def springs(k=1.3, c=0.3, sigma=0.01, seed=0):
    y = pn.solve(spring(), [[1.0, 0.0], [0.0, 1.0]], T, [k, c], rtol=1e-10, atol=1e-12).y
    return y + sigma * np.random.default_rng(seed).standard_normal(y.shape)


WAYS = ["levenberg-marquardt", "lbfgs", "adam+lbfgs"]


@pytest.mark.parametrize("optimizer", WAYS)
@pytest.mark.parametrize(
    "theta",
    [{"k": pn.positive(0.5)}, {"k": pn.bounded(1.0, 0.5, 2.0), "c": pn.positive(1.0)}, {"c": pn.bounded(0.5, -1, 1)}],
)
def test_constraints_that_do_not_bind_change_nothing(optimizer, theta):
    """The minimum is the same in other coordinates: to the tolerance of the optimiser, far below the error (0.003)."""
    y = springs()
    free = NeuralODE(field=spring(), random_state=0).fit(T, y)
    bound = NeuralODE(field=spring(**theta), optimizer=optimizer, random_state=0).fit(T, y)
    np.testing.assert_allclose(bound.theta_, free.theta_, atol=5e-4)
    if optimizer == WAYS[0]:
        np.testing.assert_allclose(bound.covariance_, free.covariance_, rtol=0.02, atol=1e-9)
        a, b = (m.predict(T, return_std=True)[1] for m in (free, bound))
        np.testing.assert_allclose(a, b, rtol=0.02)


@pytest.mark.parametrize("optimizer", WAYS)
def test_bounds_hold_at_every_iteration(optimizer):
    f, seen = spring(k=pn.bounded(0.7, 0.5, 0.9), c=pn.positive(2.0)), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pn.fit.FitWarning)
        model = NeuralODE(field=f, optimizer=optimizer, random_state=0, max_iter=30).fit(
            T, springs(), callback=lambda it: seen.append(it.theta)
        )
    k, c = np.array(seen).T
    assert (k >= 0.5).all() and (k <= 0.9).all() and (c > 0).all()
    assert 0.89 < model.theta_[0] <= 0.9  # the truth, 1.3, lies beyond


def test_frozen_parts_keep_their_bits_and_have_no_variance():
    net = pn.mlp(2, (3,), 1)
    frozen = net.init(7)

    @pn.field(state=2, theta={"net": pn.frozen(net), "k": pn.positive(0.5)}, init={"net": net.unflatten(frozen)})
    def f(t, y, th):
        return [y[1], -th.k * y[0] + 0.0 * th.net(y)[0]]

    y = springs(c=0.0)
    for optimizer in WAYS:
        model = NeuralODE(field=f, optimizer=optimizer, random_state=0, max_iter=30).fit(T, y)
        parts = model.field_.unflatten(model.theta_)
        np.testing.assert_array_equal(model.theta_[: len(frozen)], frozen)
        assert parts["k"] == pytest.approx(1.3, abs=0.01)
    first = NeuralODE(field=f, random_state=0).fit(T, y)
    assert not first.covariance_[: len(frozen)].any() and first.covariance_[-1, -1] > 0


def test_a_field_all_of_whose_parameters_are_frozen_estimates_states():
    """Standard error of a linear least-squares problem with known dynamics."""
    f, sigma = spring(k=pn.frozen(1.0), c=pn.frozen(0.0)), 0.02
    clean = np.stack([np.cos(T), -np.sin(T)], axis=1)
    errors, std = [], None
    for seed in range(8):
        y = clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape)
        model = NeuralODE(field=f, random_state=0).fit(T, y)
        np.testing.assert_array_equal(model.theta_, [1.0, 0.0])
        errors.append(model.initial_states_[0] - [1.0, 0.0])
        std = model.predict(T[:1], return_std=True)[1]
    np.testing.assert_allclose(std, sigma / np.sqrt(40), rtol=0.25)  # rotations: J^T J = 40 I; sigma from 80 numbers: 8 %
    assert np.std(errors) == pytest.approx(sigma / np.sqrt(40), rel=0.6)  # of 16 numbers: 18 %
    for optimizer in ("lbfgs", "adam"):
        again = NeuralODE(field=f, optimizer=optimizer, random_state=0, max_iter=30).fit(T, y)
        np.testing.assert_array_equal(again.theta_, [1.0, 0.0])
    with pytest.raises(ValueError, match="nothing to fit"):
        pn.fit.gradient_matching(f, T, y)


@pytest.mark.filterwarnings("ignore:the data do not determine c:pynode.fit.FitWarning")
def test_a_rate_that_is_zero_in_truth_goes_down_to_it():
    """exp(x) with x running to minus infinity: no NaN on the way, and bands that stay finite."""
    f, y = spring(c=pn.positive(0.5)), springs(c=0.0, sigma=0.0)
    for optimizer in WAYS:
        model = NeuralODE(field=f, optimizer=optimizer, random_state=0).fit(T, y)
        assert model.theta_[0] == pytest.approx(1.3, abs=1e-3) and 0 <= model.theta_[1] < 2e-3
    model = NeuralODE(field=f, random_state=0).fit(T, springs(c=0.0))
    assert np.isfinite(model.predict(T, return_std=True)[1]).all()
    c = model.covariance_
    assert c[0, 0] > 0 and (np.isfinite(c[1, 1]) or "do not determine c" in model.report_["warnings"][0])


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_positive_parameters_of_any_size(scale):
    @pn.field(state=1, theta={"rate": pn.positive(0.3 * scale)})
    def decay(t, y, th):
        return -th.rate * y

    t = T / scale
    y = np.exp(-scale * t)[:, None] * [[[1.0]], [[2.0]]]
    model = NeuralODE(field=decay, random_state=0).fit(t, y + 1e-3 * np.random.default_rng(0).standard_normal(y.shape))
    assert model.theta_[0] == pytest.approx(scale, rel=2e-3)


def test_jacobians_in_coordinates():
    """d residual / d x of shooting, by differences, with every kind of constraint."""

    @pn.field(state=2, theta={"k": pn.positive(1.1), "c": pn.bounded([0.2, 0.4], -1.0, 1.0), "m": pn.frozen(1.3), "a": 0.1})
    def f(t, y, th):
        return [y[1] + th.a, (-th.k * y[0] - th.c[0] * y[1] - th.c[1] * y[0] ** 3) / th.m]

    theta = f.init(0)
    coordinates = Coordinates(f.spec, theta)
    x, y = coordinates.x(theta), springs()
    y0 = y[:, 0]
    problem = ShootingProblem(
        f, Data([T] * 2, list(y)), y0, prior=np.zeros((2, 2)), coordinates=coordinates, rtol=1e-9, atol=1e-9
    )
    here = problem.linearise(x, y0)

    def residual(x, y0):
        return problem.residual(x, y0).ravel()

    h = 1e-5
    J = np.stack([(residual(x + h * e, y0) - residual(x - h * e, y0)) / (2 * h) for e in np.eye(len(x))], axis=1)
    moves = h * np.eye(4).reshape(4, 2, 2)
    F = np.stack([(residual(x, y0 + m) - residual(x, y0 - m)) / (2 * h) for m in moves], axis=1)
    full, r = np.concatenate([J, F], axis=1), residual(x, y0)
    step = -np.linalg.solve(full.T @ full, full.T @ r)
    np.testing.assert_allclose(np.linalg.solve(here.H, -here.g), step[: len(x)], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(after(here, step[: len(x)]).ravel(), step[len(x) :], rtol=1e-4, atol=1e-7)


def test_the_gradient_of_matching_in_coordinates():
    f = spring(k=pn.positive(0.8), c=pn.bounded(0.1, 0.0, 0.5))
    coordinates, rng = Coordinates(f.spec, f.init()), np.random.default_rng(0)
    objective = MatchingObjective(
        f, np.arange(9.0), *rng.standard_normal((2, 9, 2)), decay=0.3, weight=np.array([1.0, 2.0]), coordinates=coordinates
    )
    x, h = coordinates.x(f.init()), 1e-6
    numeric = [(objective(x + h * e)[0] - objective(x - h * e)[0]) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(objective(x)[1], numeric, rtol=1e-6)


@pytest.mark.parametrize(
    "declare, error, message",
    [
        (lambda: pn.positive("a"), TypeError, "positive"),
        (lambda: pn.positive(np.nan), TypeError, "finite"),
        (lambda: pn.positive(None), TypeError, "positive"),
        (lambda: pn.bounded(1.0, 0.0, np.inf), ValueError, "finite"),
        (lambda: pn.bounded(1.0, 1.0, 1.0), ValueError, "low < high"),
        (lambda: pn.bounded([1.0, np.inf], 0.0, 2.0), TypeError, "finite"),
        (lambda: pn.frozen((2, 2)), TypeError, "frozen"),
        (lambda: pn.frozen(pn.positive(1.0)), TypeError, "frozen"),
        (lambda: spring(k=pn.positive(0.0)), ValueError, "k must be positive"),
        (lambda: spring(k=pn.bounded(2.0, 0.0, 2.0)), ValueError, r"k must be between 0 and 2"),
        (lambda: spring(k=pn.bounded(-1, 0.0, 2.0)), ValueError, r"starts at -1"),
    ],
)
def test_declarations_that_make_no_sense(declare, error, message):
    with pytest.raises(error, match=message):
        declare()


def test_starting_values_outside_their_bounds_are_named():
    with pytest.raises(ValueError, match="parameter k must be positive"):
        pn.fit.multiple_shooting(spring(k=pn.positive(1.0)), T, springs(), theta0=[-1.0, 0.2])


def test_rounding_never_puts_a_parameter_at_its_bound():
    """What one climb ends with is where the next one starts; at 0 or at a bound no coordinate would be finite."""
    f = spring(k=pn.bounded(0.5, 0.01, 1.0), c=pn.positive(1.0))
    coordinates = Coordinates(f.spec, f.init(0))
    for x in (np.array([1e3, -1e4]), np.array([-1e3, 1e4])):
        theta = coordinates.theta(x)
        assert np.isfinite(Coordinates(f.spec, theta).x(theta)).all()
