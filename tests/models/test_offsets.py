"""States far from zero beside what they change by: metres on a map."""

import numpy as np
import pytest

import pynode as pn
from pynode.data.scaling import spread_within, tolerances
from pynode.models.trajectories.equations.unvisited import unvisited

ON_A_MAP = [4.5e5, 5.2e6, 0.0, 0.0]


def spring(seed):
    """(times, noisy positions and velocities) of a mass that springs in two directions."""
    field = pn.field(state=4)(lambda t, y: [y[2], y[3], -0.3 * y[0] - 0.1 * y[2], -0.5 * y[1] - 0.1 * y[3]])
    t = np.linspace(0, 15, 80)
    y = pn.solve(field, [8.0, -5.0, 0.0, 3.0], t).y
    return t, y + 0.05 * np.random.default_rng(seed).standard_normal(y.shape) + ON_A_MAP


def test_terms_that_bend_alike_along_the_data_are_no_error():
    t, y = spring(0)
    model = pn.NeuralODE(random_state=0).fit(t, y)
    assert max(model.report_["rmse"].values()) < 0.07


def test_a_state_that_moves_by_little_of_its_size_changes():
    t, y = spring(1)
    assert unvisited(pn.Trajectories.from_arrays(t, y)) == []
    y[:, 1] = ON_A_MAP[1] * (1 + 1e-16 * y[:, 2])  # rounding
    (words,) = unvisited(pn.Trajectories.from_arrays(t, y))
    assert words.startswith("y2 never changes")


def test_inputs_that_never_change_are_told():
    t = np.linspace(0, 10, 60)
    y, u = np.stack([np.sin(t), np.cos(t)], axis=1), np.sin(0.7 * t)
    for inputs, said in [
        (np.stack([u, np.cos(t)], axis=1), []),
        (np.stack([u, np.ones(60)], axis=1), ["u2 never changes in the data: what other values of these control inputs"]),
        (np.stack([u, 2 * u], axis=1), ["u1 - 0.5 u2 never changes in the data: what other values of these"]),
    ]:
        words = unvisited(pn.Trajectories.from_arrays(t, y, u=inputs))
        assert len(words) == len(said) and all(w.startswith(x) for w, x in zip(words, said, strict=True))


T_FAR = np.linspace(0, 10, 80)


def spirals(seed: int, n: int, far: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """(readings, truth) of x' = -0.1 x + v, v' = -x - 0.1 v about a point far from zero."""
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(-1, 1, (2, n, 1))
    c, s = np.cos(T_FAR), np.sin(T_FAR)
    truth = np.exp(-0.1 * T_FAR)[:, None] * np.stack([a * c + b * s, b * c - a * s], axis=-1)
    return truth + 0.03 * rng.standard_normal(truth.shape) + far, truth


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("far", [1e4, -1e6])
def test_a_known_equation_far_from_zero_is_fitted_as_near_it(far, plain):
    """Tolerances relative to the size of the states were larger than what these vary by, in silence."""

    def about(origin: float) -> pn.NeuralODE:
        @pn.field(state=2, theta={"k": 1.0, "w": pn.positive(1.3)})
        def spiral(t, y, th):
            x, v = y[0] - origin, y[1] - origin
            return [th.w * v - th.k * x, -th.w * x - th.k * v]

        more = {} if plain else {"initial": [np.nan, np.nan]}
        return pn.NeuralODE(field=spiral, random_state=0, **more).fit(T_FAR, spirals(0, 1, origin)[0])

    near, away = about(0.0), about(far)
    error = np.sqrt(np.diag(near.covariance_))
    assert (np.abs(away.theta_ - near.theta_) < 0.05 * error).all()
    np.testing.assert_allclose(np.sqrt(np.diag(away.covariance_)), error, rtol=1e-2)
    np.testing.assert_allclose(away.report_["noise"]["y1"], near.report_["noise"]["y1"], rtol=1e-2)
    path = away.predict(T_FAR, [far + 1.0, far]) - far
    np.testing.assert_allclose(path, near.predict(T_FAR, [1.0, 0.0]), atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"initial": [np.nan]}], ids=["plain", "likelihood"])
def test_trajectories_at_levels_far_apart(options):
    """What states vary by is what they vary by within trajectories: errors were those of rounding, and too large."""
    levels, size = np.array([1e5, 2e5, 4e5, 3e5]), np.array([1.0, -1.0, 2.0, 0.5])
    noise = 0.02 * np.random.default_rng(0).standard_normal((4, 80))

    @pn.field(state=1, inputs=1, theta={"k": pn.positive(1.0)})
    def relaxing(t, y, th, u):
        return [-th.k * (y[0] - u[0])]

    def fitted(at: np.ndarray) -> pn.NeuralODE:
        y = at[:, None] + size[:, None] * np.exp(-0.4 * T_FAR) + noise
        return pn.NeuralODE(field=relaxing, random_state=0, **options).fit(T_FAR, y[..., None], u=at[:, None])

    near, away = fitted(0 * levels), fitted(levels)
    error = np.sqrt(np.diag(near.covariance_))
    assert (np.abs(away.theta_ - near.theta_) < 0.05 * error).all()
    np.testing.assert_allclose(np.sqrt(np.diag(away.covariance_)), error, rtol=1e-2)
    np.testing.assert_allclose(away.report_["noise"]["y1"], near.report_["noise"]["y1"], rtol=1e-2)
    path = away.predict(T_FAR, [levels[0] + 1.0], u=levels[:1]) - levels[0]
    np.testing.assert_allclose(path, near.predict(T_FAR, [1.0], u=[0.0]), atol=1e-4)


def test_spread_within_trajectories():
    one, other = np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[101.0, 7.0], [103.0, 7.0], [np.nan, np.nan]])
    np.testing.assert_allclose(spread_within([one, other]), [1.0, 1.0])  # of the second, which only differs between: of all


def test_multiple_shooting_far_from_zero():
    @pn.field(state=2, theta={"k": 0.2, "w": 1.1})
    def spiral(t, y, th):
        x, v = y[0] - 1e5, y[1] - 1e5
        return [th.w * v - th.k * x, -th.w * x - th.k * v]

    found = pn.fit.multiple_shooting(spiral, T_FAR, spirals(0, 1, 1e5)[0])
    assert (np.abs(found.theta - [0.1, 1.0]) < 4 * np.sqrt(np.diag(found.covariance))).all()


@pytest.mark.parametrize("far", [1e4, 1e6])
def test_an_equation_far_from_zero_has_the_terms_that_it_has_near(far):
    near, away = (pn.NeuralODE(random_state=0).fit(T_FAR, spirals(1, 4, origin)[0]) for origin in (0.0, far))
    assert away.field_.n_params == near.field_.n_params
    np.testing.assert_allclose(away.theta_, near.theta_, atol=1e-4)
    assert f"(y1 - {far:.0f})" in str(away.equation())
    for start in spirals(2, 2)[1][:, 0]:
        y, low, high = away.predict(T_FAR, start + far, interval=0.9)
        np.testing.assert_allclose(y - far, near.predict(T_FAR, start), atol=1e-3)
        assert (low <= y).all() and (y <= high).all()


def test_tolerances_near_zero_are_those_given():
    rtol, atol = tolerances(1e-5, 1e-6, np.array([1.0, -3.0]), np.array([1.0, 0.4]))
    assert rtol == 1e-5
    np.testing.assert_array_equal(atol, 1e-6 * np.array([1.0, 0.4]))


@pytest.mark.parametrize("rest", [101325.0, 273.15, 10000.0])
def test_numbers_that_were_written_down_have_all_their_digits(rest):
    @pn.field(state=1, theta={"k": 0.123456})
    def cooling(t, y, th):
        return [-th.k * (y[0] - rest)]

    y = rest + np.exp(-0.123456 * T_FAR)
    model = pn.NeuralODE(field=cooling, random_state=0).fit(T_FAR, y)
    assert model.equation().right == (f"-0.1235*(y1 - {rest:g})" if rest == 273.15 else f"-0.1235*(y1 - {rest:.0f})",)


@pytest.mark.parametrize("rest", [101325.0, -273.15])
def test_variables_count_from_the_roundest_number_near(rest):
    rng = np.random.default_rng(0)
    u = rest + 0.02 * rng.standard_normal((80, 1))
    y = pn.solve(
        pn.field(state=1, inputs=1)(lambda t, y, u: [-0.7 * y[0] + 50 * (u[0] - rest)]),
        [0.0],
        T_FAR,
        inputs=(T_FAR, u, "previous"),
    ).y
    noisy = y + 0.02 * rng.standard_normal(y.shape)
    model = pn.NeuralODE(input_kind="previous", random_state=0).fit(T_FAR, noisy, u=u)
    assert {p.name for p in model.field_.spec} == {"y1: y1", f"y1: (u1 {'-' if rest > 0 else '+'} {abs(rest):.15g})"}
