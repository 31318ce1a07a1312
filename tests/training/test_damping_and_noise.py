"""How Levenberg-Marquardt damps beside free states, and what noise is taken for where data are few."""

import warnings

import numpy as np

import pynode as pn
from pynode import NeuralODE
from pynode.optim.levenberg_marquardt import descend
from pynode.optim.normal_equations import FreeStates, Linearised
from pynode.optim.posterior import LaplacePosterior
from pynode.training.noise import Noise


class Linear:
    """r = J (x, free) - data; two free states (1, 2) follow three shared coordinates closely."""

    n_observed = 20
    n_free = 2
    nfe = 0

    def __init__(self):
        rng = np.random.default_rng(0)
        self.J = rng.standard_normal((20, 5))
        self.J[:, 3:] = self.J[:, :2] + 0.05 * rng.standard_normal((20, 2))
        self.data = rng.standard_normal(20)

    def loss(self, x, free):
        return float(np.sum((self.J @ np.concatenate([x, free.ravel()]) - self.data) ** 2))

    def linearise(self, x, free):
        r = self.J @ np.concatenate([x, free.ravel()]) - self.data
        H = self.J.T @ self.J
        g = self.J.T @ r
        return Linearised.of_free(r @ r, FreeStates(H[:3, :3], g[:3], H[None, 3:, :3], H[None, 3:, 3:], g[None, 3:]))


def test_shared_coordinates_are_damped_by_the_curvature_that_free_states_leave():
    problem = Linear()
    state = LaplacePosterior(np.zeros(3), np.zeros((1, 2)), np.zeros(3), 1.0)
    descend(problem, state, evidence=False, max_iter=1, damping=0.5)
    H = problem.J.T @ problem.J
    g = -problem.J.T @ problem.data
    A = H[3:, 3:] + 0.5 * np.diag(np.diag(H[3:, 3:]))
    left = H[:3, :3] - H[:3, 3:] @ np.linalg.solve(A, H[3:, :3])
    slope = g[:3] - H[:3, 3:] @ np.linalg.solve(A, g[3:])
    np.testing.assert_allclose(state.theta, -np.linalg.solve(left + 0.5 * np.diag(np.diag(left)), slope), rtol=1e-9)


def test_damping_does_not_depend_on_units():
    """Of rates from 1e-2 to 1e7 the curvatures are 1e18 apart, and the smallest took no steps."""
    units = np.array([1e-2, 1.0, 1e10])
    found = []
    for scale in (np.ones(3), units):
        problem = Linear()
        problem.J[:, :3] /= scale
        state = LaplacePosterior(np.zeros(3), np.zeros((1, 2)), np.zeros(3), 1.0)
        descend(problem, state, evidence=False, max_iter=1, damping=0.5)
        found.append(state.theta / scale)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


def test_another_estimate_of_the_noise_counts_as_one_number():
    residual = np.array([[0.0, 2.0], [0.0, -2.0], [0.0, 2.0]])
    noise = Noise(np.ones(2), "gaussian", np.ones((3, 2)), np.zeros(2), np.array([0.4, 8.0]))
    noise.weights(residual)
    np.testing.assert_allclose(noise.variance, [0.1, 5.0])


def test_few_data_leave_no_state_to_noise():
    """One trajectory of 15 points: one state was interpolated, the other missed by 20 to 80 times the noise."""
    vdp = pn.field(state=2)(lambda t, y: [y[1], (1 - y[0] ** 2) * y[1] - y[0]])
    t = np.linspace(0, 10, 15)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        clean = pn.solve(vdp, rng.uniform(-2, 2, 2), t, rtol=1e-9).y
        y = clean + 0.02 * clean.std(axis=0) * rng.standard_normal(clean.shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pn.fit.FitWarning)
            model = NeuralODE(random_state=0).fit(t, y)
        error = (model.predict(t, trajectory=0) - clean) / clean.std(axis=0)
        assert np.sqrt(np.mean(error**2)) < 0.04
