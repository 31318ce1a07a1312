"""Fits that failed say so, in words; good ones say nothing."""

import numpy as np
import pytest

import pynode as pn
from pynode import NeuralODE
from pynode.training.coordinates import Coordinates

T = np.linspace(0, 10, 101)


def doubts(model, t, Y, **more):
    """The warnings of a fit, which are also in its report."""
    with pytest.warns(pn.fit.FitWarning) as caught:
        model.fit(t, Y, **more)
    words = [str(w.message) for w in caught]
    assert words == model.report_["warnings"]
    return words


@pn.field(state=2, theta={"k": pn.positive(1.0), "c": pn.positive(0.1)})
def spring(t, y, th):
    return [y[1], -th.k * y[0] - th.c * y[1]]


def swings(sigma=0.02, n=3, field=spring, theta=(1.0, 0.2)):
    rng = np.random.default_rng(0)
    clean = pn.solve(field, rng.normal(size=(n, 2)), T, theta, rtol=1e-9, atol=1e-9).y
    return clean + sigma * rng.standard_normal(clean.shape)


def test_a_good_fit_says_nothing():
    """Warnings are errors here. Own field and network, with noise and without."""
    for sigma in (0.0, 0.02):
        for options in ({"field": spring}, {"hidden": (8,)}):
            model = NeuralODE(random_state=0, **options).fit(T, swings(sigma))
            assert model.report_["warnings"] == []


def test_an_equation_that_lacks_something():
    """A linear spring for a pendulum with large swings."""
    pendulum = pn.field(state=2)(lambda t, y: [y[1], -np.sin(y[0]) - 0.1 * y[1]])
    y0 = np.array([[2.5, 0.0], [-2.0, 0.5]])
    y = pn.solve(pendulum, y0, T, rtol=1e-9, atol=1e-9).y + 0.02 * np.random.default_rng(0).standard_normal((2, 101, 2))
    words = doubts(NeuralODE(field=spring, random_state=0), T, y, names=["angle", "speed"])
    assert "the residuals of angle, speed are" in words[0] and "the equation may lack something" in words[0]


def test_one_state_cannot_oscillate():
    y = np.cos(2 * T) + 0.02 * np.random.default_rng(0).standard_normal(101)
    words = doubts(NeuralODE(hidden=(8,), random_state=0), T, y[:, None])
    assert any("y1" in w and "one state alone cannot" in w and "augment=1" in w for w in words)
    model = NeuralODE(hidden=(8,), augment=1, random_state=0).fit(T, y[:, None])
    assert model.report_["warnings"] == []


@pytest.mark.parametrize("optimizer", ["adam+lbfgs", "levenberg-marquardt"])
def test_what_helps_a_network_is_what_its_optimizer_has(optimizer):
    pendulum = pn.field(state=2)(lambda t, y: [y[1], -3.0 * np.sin(y[0])])
    y = swings(0.02, 4, pendulum, ())
    network = {"structure": "network", "hidden": (1,), "skip": 0, "optimizer": optimizer}
    words = [w for w in doubts(NeuralODE(**network, max_iter=5, random_state=0), T, y) if "poor minimum" in w]
    gradients = optimizer == "adam+lbfgs"
    assert words
    assert all(("optimizer='levenberg-marquardt' comes to better ones" in w) is gradients for w in words)
    assert all(("n_restarts" in w) is not gradients and ("process_noise" in w) is not gradients for w in words)


def test_too_few_numbers():
    """A network that interpolates: half as many effective parameters as data, or more."""
    t = np.linspace(0, 6, 8)
    y = np.random.default_rng(1).standard_normal((8, 1))
    words = doubts(NeuralODE(hidden=(32,), augment=2, weight_decay=1e-8, random_state=0), t, y)
    assert any("effective parameters are fitted to 8 numbers" in w for w in words)


def test_a_fit_that_had_too_few_steps():
    y = swings(theta=(9.0, 0.2))
    words = doubts(NeuralODE(field=spring, windows=(None,), max_iter=1, random_state=0), T, y)
    assert any("ended after max_iter=1 steps" in w for w in words)


def test_a_parameter_without_influence(tmp_path):
    """Its covariance is NaN, that of the others what it is without it; bands and files bear it."""

    @pn.field(state=2, theta={"k": pn.positive(1.0), "c": pn.positive(0.1), "idle": 0.5, "off": pn.positive(2.0)})
    def more(t, y, th):
        return [y[1], -th.k * y[0] - th.c * y[1] + 0.0 * th.idle + 0.0 * th.off]

    y = swings()
    model = NeuralODE(field=more, random_state=0)
    words = doubts(model, T, y)
    assert len(words) == 1 and "do not determine idle = 0.5, off = 2:" in words[0]
    plain = NeuralODE(field=spring, random_state=0).fit(T, y)
    np.testing.assert_allclose(model.covariance_[:2, :2], plain.covariance_, rtol=1e-2)
    assert np.isnan(model.covariance_[2:]).all() and np.isnan(model.covariance_[:, 2:]).all()
    _, std = model.predict(T, trajectory=0, return_std=True)
    np.testing.assert_allclose(std, plain.predict(T, trajectory=0, return_std=True)[1], rtol=1e-2)
    model.save(tmp_path / "model.npz")
    again = pn.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.covariance_, model.covariance_)


def test_a_parameter_at_its_bound():
    @pn.field(state=2, theta={"k": pn.positive(1.0), "c": pn.bounded(0.5, 0.3, 0.9), "m": pn.frozen(1.0)})
    def damped(t, y, th):
        return [y[1], (-th.k * y[0] - th.c * y[1]) / th.m]

    model = NeuralODE(field=damped, random_state=0)
    words = doubts(model, T, swings())
    assert any("do not determine c = 0.3:" in w for w in words)
    assert np.isnan(model.covariance_[1, 1]) and model.covariance_[0, 0] > 0 and not model.covariance_[2].any()


def test_what_counts_as_undetermined():
    spec = pn.field(state=1, theta={"k": pn.positive(1.0), "a": 3.0, "f": pn.frozen(1.0)})(
        lambda t, y, th: [th.k * y[0] + th.a + th.f]
    ).spec
    coordinates = Coordinates(spec, np.array([1.0, 3.0, 1.0]))
    x = coordinates.x(np.array([1e-30, 5.0, 1.0]))
    assert coordinates.undetermined(x, np.diag([6.8**2, 4900.0**2])).tolist() == [False, False, False]
    assert coordinates.undetermined(x, np.diag([7.0**2, 5100.0**2])).tolist() == [True, True, False]
    assert coordinates.undetermined(x, np.full((2, 2), np.nan)).tolist() == [True, True, False]


def test_one_state_of_an_own_field_that_should_turn():
    decay = pn.field(state=1, theta={"k": pn.positive(1.0)})(lambda t, y, th: -th.k * y)
    y = np.cos(2 * T) + 0.02 * np.random.default_rng(0).standard_normal(101)
    words = doubts(NeuralODE(field=decay, random_state=0), T, y[:, None])
    assert any("one state alone cannot" in w and "declare a second state" in w for w in words)
    driven = pn.field(state=1, theta={"k": pn.positive(1.0)})(lambda t, y, th: -th.k * y + 2 * np.cos(2 * t))
    x = pn.solve(driven, [0.0], T, [0.5]).y + 0.01 * np.random.default_rng(0).standard_normal((101, 1))
    assert NeuralODE(field=driven, random_state=0).fit(T, x).report_["warnings"] == []  # t drives it: it may turn


@pytest.mark.parametrize("optimizer", ["levenberg-marquardt", "lbfgs"])
@pytest.mark.parametrize("name", ["decay", "equation"])
def test_steps_by_themselves_know_that_the_field_is_ones_own(name, optimizer):
    """Whatever it is called: an equation that was found has that name, too."""
    decay = pn.field(state=2, theta={"k": pn.positive(1.0)}, name=name)(lambda t, y, th: -th.k * y)
    assert decay.name == name
    y = swings(n=1)[0]
    with pytest.warns(pn.fit.FitWarning):
        words = pn.fit.multiple_shooting(decay, T, y, optimizer=optimizer).warnings
    advice = [w for w in words if "noise='student'" in w]
    assert advice and all("the equation may lack something" in w for w in advice)


def test_codes_of_missing_values():
    y = swings()
    y[0, [3, 40], 1] = -999.0
    words = doubts(NeuralODE(field=spring, random_state=0), T, y, names=["angle", "speed"])
    assert words[0].startswith("speed is -999 at 2 times") and "--missing" in words[0]
    plain = swings() + 99.0 - swings()[0, 0, 0]
    assert plain[0, 0, 0] == 99.0
    assert not any("code" in w for w in NeuralODE(hidden=(8,), random_state=0).fit(T, plain).report_["warnings"])


def test_a_bounded_parameter_that_wants_beyond():
    """Its influence is clear, the data want 0.2: with noise this small the fit lies on the bound."""

    @pn.field(state=2, theta={"k": pn.bounded(1.2, 1.1, 2.0), "c": pn.positive(0.1)})
    def stronger(t, y, th):
        return [y[1], -th.k * y[0] - th.c * y[1]]

    words = doubts(NeuralODE(field=stronger, random_state=0), T, swings())
    assert any("k = 1.1" in w and "bound" in w for w in words)


def test_stiffness_is_named_and_accuracy_is_not_taken_for_it():
    @pn.field(state=2, theta={"slow": pn.positive(0.5), "fast": pn.frozen(3e4)})
    def relax(t, y, th):
        return [-th.slow * y[0], th.fast * (y[0] - y[1])]

    t = np.linspace(0, 4, 30)
    y = np.exp(-0.7 * t)[:, None] * np.ones(2) + 0.01 * np.random.default_rng(0).standard_normal((30, 2))
    assert not any("stiff" in w for w in NeuralODE(field=relax, random_state=0).fit(t, y).report_["warnings"])
    words = doubts(NeuralODE(field=relax, method="dopri5", random_state=0), t, y)
    assert any("is stiff" in w and "explicit" in w for w in words)
    quick = pn.field(state=2, theta={"k": pn.positive(4e3)})(lambda t, y, th: [y[1], -th.k * y[0]])
    y = pn.solve(quick, [1.0, 0.0], t, [4.1e3], rtol=1e-9, atol=1e-9).y  # many steps, all of them for accuracy
    y = y + 0.01 * y.std(axis=0) * np.random.default_rng(0).standard_normal(y.shape)
    model = NeuralODE(field=quick, windows=(1, None), random_state=0, max_iter=2).fit(t, y)
    assert not any("stiff" in w for w in model.report_["warnings"])


def test_multiple_shooting_says_what_is_doubtful():
    y = swings()
    good = pn.fit.multiple_shooting(spring, [T] * 3, list(y), [1.0, 0.2])
    assert good.warnings == ()
    with pytest.warns(pn.fit.FitWarning, match="misfit") as caught:
        pendulum = pn.field(state=2)(lambda t, y: [y[1], -np.sin(y[0]) - 0.1 * y[1]])
        x = pn.solve(pendulum, [2.5, 0.0], T, rtol=1e-9, atol=1e-9).y + 0.02 * np.random.default_rng(0).normal(size=(101, 2))
        result = pn.fit.multiple_shooting(spring, T, x, [1.0, 0.2])
    assert any("of state 1, state 2" in w for w in result.warnings)
    assert result.warnings == tuple(str(w.message) for w in caught) and {w.filename for w in caught} == {__file__}


PURE = "nothing but noise"


@pytest.mark.parametrize(("end", "said"), [(15.0, True), (1.5, False)])
@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
def test_oscillations_that_are_read_too_seldom_are_not_explained_in_silence(end, said):
    rng = np.random.default_rng(3)
    t = np.sort(np.append(0.0, rng.uniform(0, end, 30)))
    fast = pn.field(state=2)(lambda t, y: [y[1], -100 * np.pi**2 / 9 * y[0]])  # a period of 0.6
    y = pn.solve(fast, rng.normal(size=(2, 2)) * [1.0, 10.0], t, rtol=1e-8, atol=1e-8).y
    y += 0.01 * y.std((0, 1)) * rng.normal(size=y.shape)
    words = NeuralODE(random_state=0).fit(t, y).report_["warnings"]
    assert any(PURE in w for w in words) == said, words


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
def test_an_equation_of_ones_own_that_explains_nothing():
    t = np.linspace(0, 10, 30)
    y = np.random.default_rng(1).standard_normal((4, 30, 1))
    decay = pn.field(state=1, theta={"k": pn.positive(0.5)})(lambda t, y, th: [-th.k * y[0]])
    for initial in (None, [np.nan]):
        words = NeuralODE(field=decay, initial=initial, random_state=0).fit(t, y).report_["warnings"]
        assert any(PURE in w for w in words), words
    rest = NeuralODE(field=decay, random_state=0).fit(t, np.full((4, 30, 1), 2.0))  # read exactly
    assert not any(PURE in w for w in rest.report_["warnings"])
