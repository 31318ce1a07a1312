"""Where training starts, and what is kept: the user's values, guesses of states that nobody measured, limits of steps."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import least_squares

import pynode as pn
from pynode import NeuralODE
from pynode.optim.levenberg_marquardt import descend
from pynode.optim.normal_equations import FreeStates, Residuals
from pynode.optim.posterior import LaplacePosterior
from pynode.training.coordinates import Coordinates
from pynode.training.initial_states import choose_states
from pynode.training.noise import Noise
from pynode.training.shooting import ShootingProblem
from pynode.training.windows import Data

PEOPLE = 763.0
DAYS = np.arange(1.0, 15.0)
IN_BED = np.array([3, 8, 26, 76, 225, 298, 258, 233, 189, 128, 68, 29, 14, 4.0])
"""Influenza in a boarding school, British Medical Journal 4 March 1978, p. 587: boys in bed, day by day."""


def epidemic(beta=1.0, gamma=0.3):
    @pn.field(state=3, theta={"beta": pn.positive(beta), "gamma": pn.positive(gamma)})
    def sir(t, y, th):
        new, out = th.beta * y[0] * y[1] / PEOPLE, th.gamma * y[1]
        return [-new, new - out, out]

    return sir


def only_second(values):
    Y = np.full((len(values), 3), np.nan)
    Y[:, 1] = values
    return Y


# ---- Free initial states -------------------------------------------------------------------------------------------


def test_damped_free_states_solve_the_damped_normal_equations():
    """Against the whole system, its diagonal multiplied by 1 + damping where the free states are."""
    rng = np.random.default_rng(0)
    b, d = 3, 2
    n = 4
    J = np.zeros((b, 9, n + b * d))
    for i in range(b):
        J[i, :, :n] = rng.normal(size=(9, n))
        J[i, :, n + i * d : n + (i + 1) * d] = rng.normal(size=(9, d))
    J, r = J.reshape(-1, n + b * d), rng.normal(size=9 * b)
    M, z = J.T @ J, J.T @ r
    blocks = [slice(n + i * d, n + (i + 1) * d) for i in range(b)]
    free = FreeStates(
        M[:n, :n],
        z[:n],
        np.stack([M[at, :n] for at in blocks]),
        np.stack([M[at, at] for at in blocks]),
        np.stack([z[at] for at in blocks]),
    )
    damped = M + np.diag(np.append(np.zeros(n), 0.7 * np.diag(M)[n:]))
    want = np.linalg.solve(damped, -z)
    H, g, gain, shift = free.eliminated(0.7)
    step = np.linalg.solve(H, -g)
    np.testing.assert_allclose(step, want[:n], rtol=1e-9)
    np.testing.assert_allclose(-(shift + gain @ step).ravel(), want[n:], rtol=1e-9)
    promised = free.change(want[:n], want[n:].reshape(b, d))
    assert promised == pytest.approx(((r + J @ want) ** 2).sum() - r @ r, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_weak_prior_follows_the_units(scale):
    """The same normal equations in other units of the states; one of them is never observed."""

    @pn.field(state=2, theta={"k": 0.5})
    def decay(t, y, th):
        return [-th.k * y[0], th.k * y[0] - y[1]]

    t = np.linspace(0, 3, 12)
    y = pn.solve(decay, [1.0, 0.5], t, [0.6]).y
    y[:, 1] = np.nan

    def problem(unit):
        data = Data([t], [y * unit])
        start = np.array([[1.1, 0.4]]) * unit
        return ShootingProblem(decay, data, start, 1 / unit**2, rtol=1e-9, atol=1e-9 * unit)

    a, b = problem(1.0), problem(scale)
    np.testing.assert_allclose(b.prior * scale**2, a.prior, rtol=1e-9)
    assert a.prior[0, 0] == pytest.approx(1e-8)
    b.set_weight(np.full((12, 2), 7 / scale**2))
    np.testing.assert_allclose(b.prior * scale**2, 7 * a.prior, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:.* never changes in the data:pynode.fit.FitWarning")
@pytest.mark.parametrize("column", ["zero", "constant", "each"])
def test_a_column_that_never_changes_leaves_the_others_alone(column):
    """It was fitted exactly, outweighed the others without limit, and tripled their error."""
    rng = np.random.default_rng(0)
    lotka = pn.field(state=2)(lambda t, y: [y[0] * (1 - y[1]), y[1] * (y[0] - 1)])
    t = np.linspace(0, 10, 60)
    clean = pn.solve(lotka, rng.uniform(0.5, 2, (8, 2)), t, rtol=1e-8, atol=1e-8).y
    Y = clean + 0.05 * rng.standard_normal(clean.shape)
    still = {"zero": 0.0, "constant": 7.0, "each": rng.normal(size=(8, 1, 1))}[column] * np.ones((8, 60, 1))
    model = NeuralODE(random_state=0).fit(t, np.concatenate([Y, still], axis=2))
    np.testing.assert_allclose(list(model.report_["noise"].values())[:2], 0.05, rtol=0.15)
    np.testing.assert_allclose(model.predict(t, trajectory=0)[:, 2], still[0, :, 0], atol=0.05)


# ---- The user's values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [(1.0, 10.0), (3.0, 20.0)])
def test_a_dose_model_keeps_the_truth(start):
    """Ten readings, three doses: slopes of the smoothed data are nonsense, and led to CL = 0. Against the closed form."""
    doses, amount = np.array([0.0, 8.0, 16.0]), 100.0
    t = np.array([0.0, 0.5, 2, 4, 7.9, 8.5, 12, 15.9, 16.5, 20, 24.0])

    def concentration(CL, V):
        since = t[:, None] - doses
        return np.where(since > 0, amount / V * np.exp(-CL / V * since), 0.0).sum(axis=1)

    y = concentration(3.0, 20.0) + 0.05 * np.random.default_rng(0).standard_normal(len(t))
    y[0] = 0.0
    best = least_squares(lambda q: (concentration(*q) - y)[1:], start, x_scale=start)

    @pn.field(state=1, theta={"CL": pn.positive(start[0]), "V": pn.positive(start[1])}, inputs=1)
    def pk(t, y, th, u):
        return [(u[0] - th.CL * y[0]) / th.V]

    short = 0.01
    times = np.ravel([[s, s + short] for s in doses])
    rate = np.ravel([[amount / short, 0.0] for _ in doses])[:, None]
    weight = np.append(1e8, np.ones(10))[:, None]
    model = NeuralODE(field=pk, random_state=0).fit(t, y, u=(times, rate, "previous"), weight=weight)
    np.testing.assert_allclose(model.theta_, best.x, rtol=0.01)


@pytest.mark.parametrize("start", [(1.0, 0.3), (1.7, 0.45)])
def test_an_epidemic_of_which_only_the_infected_are_seen(start):
    """As good as SciPy's least squares with the same freedom; it ended with -31 persons, nine times the misfit."""

    def infected(q):
        def slope(_, y):
            new = q[0] * y[0] * y[1] / PEOPLE
            return [-new, new - q[1] * y[1]]

        return solve_ivp(slope, (1, 14), [q[2] * PEOPLE, q[3] * PEOPLE], t_eval=DAYS, rtol=1e-9, atol=1e-9).y[1]

    best = least_squares(lambda q: (infected(q) - IN_BED) / PEOPLE, [1.0, 0.3, 1.0, 0.004])
    rmse = np.sqrt(2 * best.cost / len(DAYS)) * PEOPLE
    model = NeuralODE(field=epidemic(*start), random_state=0).fit(DAYS, only_second(IN_BED))
    assert model.report_["rmse"]["y2"] < 1.01 * rmse
    np.testing.assert_allclose(model.theta_, best.x[:2], rtol=0.02)
    assert model.report_["stages"][-1]["name"] == "whole trajectories"


def test_rivals_leave_a_good_fit_as_it_is():
    """Where the residuals are those of the noise, no other way is tried."""

    @pn.field(state=2, theta={"k": pn.positive(2.0), "c": pn.positive(0.02)})
    def spring(t, y, th):
        return [y[1], -th.k * y[0] - th.c * y[1]]

    t = np.linspace(0, 10, 100)
    y = pn.solve(spring, [1.0, 0.0], t, [1.0, 0.1], rtol=1e-9, atol=1e-9).y
    model = NeuralODE(field=spring, random_state=0).fit(t, y + 0.02 * np.random.default_rng(0).standard_normal(y.shape))
    assert not [stage["name"] for stage in model.report_["stages"] if stage["name"].startswith("trial")]


@pytest.mark.parametrize("kind", ["gaussian", "huber", "student"])
def test_the_misfit_is_a_negative_log_likelihood(kind):
    """Differences between residuals of one scale, against the densities themselves."""
    rng = np.random.default_rng(0)
    given = np.ones((400, 1))
    a = rng.standard_normal((400, 1))
    b = np.where(np.arange(400)[:, None] < 100, 3 * a, a)
    misfits = []
    for r in (a, b):
        noise = Noise(np.ones(1), kind, given, np.zeros(1))
        misfits.append(noise.misfit(r))
        s = np.sqrt(noise.variance[0])
        z = np.abs(r[:, 0]) / s
        rho = {
            "gaussian": 0.5 * z**2,
            "huber": np.where(z < 1.345, 0.5 * z**2, 1.345 * z - 0.5 * 1.345**2),
            "student": 2.5 * np.log(1 + z**2 / 4),
        }[kind]
        assert misfits[-1] == pytest.approx(rho.sum() + 400 * np.log(s), rel=1e-9)
    assert misfits[1] > misfits[0]


# ---- States never measured -----------------------------------------------------------------------------------------


def test_guesses_of_hidden_states_are_those_that_fit():
    """The susceptible, from a guess that implies a negative number of them."""
    field = epidemic()
    t = np.arange(0.0, 15.0)
    true = pn.solve(field, [760.0, 3.0, 0.0], t, [1.66, 0.45], rtol=1e-9, atol=1e-9).y
    data = Data([t], [only_second(true[:, 1])])
    bad = np.column_stack([np.full(15, -900.0), true[:, 1], np.full(15, -5.0)])
    (states,) = choose_states(field, np.array([1.66, 0.45]), data, [bad], np.ones(3), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(states[:, :2], true[:, :2], rtol=1e-3, atol=0.1)


def test_a_nerve_of_which_only_the_voltage_is_seen():
    """The stages lose the data at longer windows; another way follows them, and no warning of the stages is left."""

    def nerve(**theta):
        @pn.field(state=2, theta=theta)
        def field(t, y, th):
            return [y[0] - y[0] ** 3 / 3 - y[1] + th.I, th.e * (y[0] + th.a - th.b * y[1])]

        return field

    true = nerve(a=0.7, b=0.8, e=0.08, I=0.5)
    t = np.linspace(0, 100, 201)
    y = pn.solve(true, [-1.0, 1.0], t, true.init(), rtol=1e-9, atol=1e-9).y
    sd = 0.05 * y[:, 0].std()
    Y = np.full(y.shape, np.nan)
    Y[:, 0] = y[:, 0] + sd * np.random.default_rng(3).standard_normal(len(t))
    model = NeuralODE(field=nerve(a=1.5, b=0.2, e=0.3, I=0.0), method="dopri5", random_state=0).fit(t, Y)
    assert "undone" in [stage["status"] for stage in model.report_["stages"]] and model.report_["warnings"] == []
    assert model.report_["rmse"]["y1"] == pytest.approx(sd, rel=0.1)
    np.testing.assert_allclose(model.theta_[1:3], [0.8, 0.08], rtol=0.05)  # a and I only together


# ---- Steps of positive and bounded parameters ----------------------------------------------------------------------


def test_positive_parameters_change_by_at_most_a_factor_of_ten_in_a_step():
    """Where theta is small its logarithm seems to have hardly any influence, and would leap by 147."""

    @pn.field(state=1, theta={"k": pn.positive(1.0), "a": 0.0, "c": pn.bounded(0.5, 0.0, 1.0)})
    def field(t, y, th):
        return [th.k * y[0] + th.a + th.c]

    coordinates = Coordinates(field.spec, np.array([1.0, 0.0, 0.5]))
    np.testing.assert_allclose(coordinates.longest, [np.log(10), np.inf, np.log(10)])
    assert Coordinates.all_free(2).longest is None
    seen = []

    def residuals(x):
        seen.append(x.copy())
        return np.array([np.exp(x[0]) - 1.0, x[1] - 50.0]), np.array([[np.exp(x[0]), 0.0], [0.0, 1.0]])

    farthest = []
    for longest in (None, np.array([np.log(10), np.inf])):
        seen.clear()
        start = np.array([-5.0, 0.0])
        state = LaplacePosterior(start, None, np.zeros(2), 1.0)
        descend(Residuals(residuals, start), state, evidence=False, damping=1e-9, longest=longest, tol=1e-12)
        farthest.append(max(x[0] for x in seen))
        np.testing.assert_allclose(state.theta, [0.0, 50.0], atol=1e-5)
    assert farthest[0] > 100 and farthest[1] < np.log(10)
