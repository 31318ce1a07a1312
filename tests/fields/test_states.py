"""States with names, starts and limits: declared, kept, obeyed by every way to fit; against SciPy's bounded squares."""

import pickle

import numpy as np
import pytest
from scipy.optimize import least_squares

import pynode as pn
from pynode import NeuralODE
from pynode.fields.field import Field
from pynode.fields.states import inside, limits, starts
from pynode.optim.normal_equations import FreeStates
from pynode.training.initial_states import choose_states
from pynode.training.windows import Data

T = np.linspace(0, 4, 25)


def chain(state, **theta):
    """A -> B -> C."""

    @pn.field(state=state, theta={"a": pn.positive(0.5), "b": pn.positive(0.5)} | theta)
    def f(t, y, th):
        return [-th.a * y[0], th.a * y[0] - th.b * y[1], th.b * y[1]]

    return f


POSITIVE = {"A": pn.positive, "B": pn.positive, "C": pn.positive}


def measured(seed):
    """From (1, 0, 0): noise would pull the initial B and C below 0 in one of two seeds."""
    y = pn.solve(chain(3), [1.0, 0.0, 0.0], T, [1.2, 0.7], rtol=1e-10, atol=1e-12).y
    return y + 0.03 * np.random.default_rng(seed).standard_normal(y.shape)


def test_names_starts_and_limits_are_kept():
    f = chain({"A": pn.positive, "B": pn.bounded(1.0, 2.0), "C": pn.positive(3.0)})
    assert f.state_names == ("A", "B", "C") and f.d == 3
    np.testing.assert_array_equal(limits(f), [[0, 1, 0], [np.inf, 2, np.inf]])
    np.testing.assert_array_equal(starts(f), [np.nan, np.nan, 3.0])
    assert "(A, B, C)" in repr(f)
    for again in (Field.from_dict(f.to_dict()), pickle.loads(pickle.dumps(f))):
        assert again.states == f.states
    assert chain(["A", "B", "C"]).state_names == ("A", "B", "C") and limits(chain(["A", "B", "C"])) is None
    assert chain(3).state_names == () and chain({"A": 1.0, "B": None, "C": None}).states[0].start == 1.0


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"A": pn.frozen(1.0), "B": None, "C": None}, "known initial state"),
        ({"A": "much", "B": None, "C": None}, "none of pn.positive"),
        ({"A": pn.positive(-1.0), "B": None, "C": None}, "must start between 0"),
        (["A", "A", "C"], "each once"),
        ([], "one or more states"),
        ("ABC", "integer"),
    ],
)
def test_bad_declarations_say_what_is_wrong(state, words):
    with pytest.raises((TypeError, ValueError), match=words):
        chain(state)


def test_bounds_without_a_value_start_in_their_middle():
    assert chain(3, a=pn.bounded(1e-4, 1.0)).init(0)[0] == pytest.approx(1e-2)  # by size
    assert chain(3, a=pn.bounded(0.0, 1.0)).init(0)[0] == 0.5
    assert chain(3, a=pn.bounded(0.3, 0.0, 1.0)).init(0)[0] == 0.3


def bounded_by_scipy(y, low, size=1.0):
    """(a, b, initial states) of bounded least squares, with the closed form of the chain."""

    def residual(q):
        a, b, A, B, C = q
        x = A * np.exp(-a * T)
        z = (B - a * A / (b - a)) * np.exp(-b * T) + a * A / (b - a) * np.exp(-a * T)
        return (np.stack([x, z, A + B + C - x - z], axis=1) - y).ravel() / np.tile(size * np.ones(3), len(y))

    lowest = [0.01, 0.01, low, low, low]
    return least_squares(residual, [1.2, 0.7, 1.0, 0.1, 0.1], bounds=(lowest, np.inf), xtol=1e-12, ftol=1e-12).x


@pytest.mark.parametrize("optimizer", ["levenberg-marquardt", "lbfgs"])
def test_initial_states_stay_within_limits_and_the_rest_is_the_bounded_optimum(optimizer):
    y = measured(3)
    size = y.std(axis=0) if optimizer == "lbfgs" else 1.0  # by which gradient descent weighs the states
    expected = bounded_by_scipy(y, 0.0, size)
    free = bounded_by_scipy(y, -np.inf, size)
    assert free[2:].min() < -0.05 and abs(free[0] - expected[0]) > 0.05  # the limit binds, and matters
    options = {"noise": "gaussian", "windows": (None,), "optimizer": optimizer, "max_iter": 500, "random_state": 0}
    model = NeuralODE(field=chain(POSITIVE), **options).fit(T, y)
    assert (model.initial_states_ > 0).all()
    # Levenberg-Marquardt weighs states by their noise, which is estimated
    np.testing.assert_allclose(model.theta_, expected[:2], atol=6e-3)
    np.testing.assert_allclose(model.initial_states_[0], expected[2:], atol=6e-3)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # B and C end at their limit, which is said
def test_limits_hold_in_fits_by_likelihood():
    y = measured(0)
    model = NeuralODE(field=chain(POSITIVE), initial={"A": 1.0}, random_state=0).fit(T, y)
    assert model.names_ == ("A", "B", "C") and (model.initial_states_ >= 0).all()
    assert model.protocol_.initial.low.tolist() == [0, 0, 0]
    wide = NeuralODE(field=chain(POSITIVE), initial={"A": pn.bounded(0.5, 1.5)}, random_state=0).fit(T, y)
    assert abs(wide.initial_states_[0, 0] - 1.0) < 0.05


def test_limits_that_do_not_bind_change_nothing():
    y = pn.solve(chain(3), [1.0, 0.5, 0.4], T, [1.2, 0.7], rtol=1e-10).y
    y += 0.01 * np.random.default_rng(0).standard_normal(y.shape)
    free = NeuralODE(field=chain(3), random_state=0).fit(T, y)
    limited = NeuralODE(field=chain(POSITIVE), random_state=0).fit(T, y)
    np.testing.assert_array_equal(limited.theta_, free.theta_)


def test_free_states_that_are_held_leave_the_best_step_of_the_others():
    """Against the same quadratic minimised with those components substituted."""
    rng = np.random.default_rng(0)
    b = 2
    d = 3
    n = 4
    J = rng.standard_normal((30, n + b * d))
    J[:15, n + d :] = 0.0
    J[15:, n : n + d] = 0.0
    r = rng.standard_normal(30)
    whole, slope = J.T @ J, J.T @ r
    place = [slice(n + i * d, n + (i + 1) * d) for i in range(b)]
    here = FreeStates(
        whole[:n, :n],
        slope[:n],
        np.stack([whole[p, :n] for p in place]),
        np.stack([whole[p, p] for p in place]),
        np.stack([slope[p] for p in place]),
    )
    held = np.array([[True, False, False], [False, True, True]])
    given = rng.standard_normal((b, d))
    H, g, gain, shift = here.holding(held, given).eliminated()
    step = -np.linalg.solve(H, g)
    free = -(shift + gain @ step)
    rest = np.concatenate([np.ones(n, bool), ~held.ravel()])
    fixed = np.concatenate([np.zeros(n), np.where(held, given, 0.0).ravel()])
    expected = fixed.copy()
    expected[rest] = -np.linalg.solve(whole[np.ix_(rest, rest)], (slope + whole @ fixed)[rest])
    np.testing.assert_allclose(np.concatenate([step, free.ravel()]), expected, rtol=1e-9)


def test_guesses_keep_to_the_limits():
    """Slopes imply a negative state; with limits that guess is not tried."""
    f = chain(POSITIVE)
    theta = np.array([1.2, 0.7])
    y = np.full((len(T), 3), np.nan)
    y[:, 2] = measured(1)[:, 2]
    data = Data([T], [y])
    implied = [np.tile([-0.5, -0.5, 0.0], (len(T), 1))]
    states = choose_states(f, theta, data, implied, np.full(3, 1e3), rtol=1e-8, atol=1e-8)
    assert (states[0][0] > 0).all()
    assert np.sqrt(np.nanmean((states[0][:, 2] - y[:, 2]) ** 2)) < 0.05
    boxed = chain({"A": pn.bounded(0.9, 1.1), "B": pn.positive, "C": pn.positive})
    states = choose_states(boxed, theta, data, implied, np.full(3, 1e3), rtol=1e-8, atol=1e-8)
    assert 0.9 < states[0][0, 0] < 1.1


def test_inside_moves_what_is_beyond():
    found = inside(np.array([[-1.0, 0.5, 9.0]]), (np.zeros(3), np.array([np.inf, 1.0, 1.0])), 0.1)
    np.testing.assert_allclose(found, [[0.1, 0.5, 0.9]])


def test_columns_go_to_their_states_by_name():
    y = measured(2)
    f = chain(POSITIVE)
    whole = NeuralODE(field=f, random_state=0).fit(T, y)
    assert whole.names_ == ("A", "B", "C")
    turned = NeuralODE(field=f, random_state=0).fit(T, y[:, [2, 0, 1]], names=["C", "A", "B"])
    np.testing.assert_array_equal(turned.theta_, whole.theta_)
    two = NeuralODE(field=f, random_state=0).fit(T, y[:, [0, 2]], names=["A", "C"])
    assert two.names_ == ("A", "B", "C") and np.isnan(two.report_["rmse"]["B"])
    np.testing.assert_allclose(two.theta_, whole.theta_, atol=0.2)
    with pytest.raises(ValueError, match="total are not"):
        NeuralODE(field=f).fit(T, y, names=["A", "B", "total"])


def test_states_survive_a_model_file(tmp_path):
    f = chain({"A": pn.positive, "B": pn.bounded(-1.0, 2.0), "C": pn.positive(0.1)})
    model = NeuralODE(field=f, random_state=0).fit(T, measured(0))
    model.save(tmp_path / "model.pynode")
    again = pn.load(tmp_path / "model.pynode")
    assert again.field_.states == f.states and again.names_ == ("A", "B", "C")
