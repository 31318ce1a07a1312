"""Equations of what moves ahead, turns, is coupled or relaxes: sines times speeds, sums of sines, terms met by jumps."""

import numpy as np
import pytest
from printed_terms import terms_of

import pynode as pn

BOAT = {
    "y1: cos(y3)*y4": 1.0,
    "y1: sin(y3)*y5": -1.0,
    "y2: sin(y3)*y4": 1.0,
    "y2: cos(y3)*y5": 1.0,
    "y3: y6": 1.0,
    "y4: u1": 1.2,
    "y4: y4": -0.5,
    "y4: y5*y6": 1.0,
    "y5: y5": -0.8,
    "y5: y4*y6": -1.0,
    "y6: u2": 0.9,
    "y6: y6": -0.7,
}


@pn.field(state=6, inputs=2)
def boat(t, y, u):
    """Place, heading; speeds ahead, aside, and of turning."""
    _, _, angle, ahead, aside, turn = y
    return [
        ahead * np.cos(angle) - aside * np.sin(angle),
        ahead * np.sin(angle) + aside * np.cos(angle),
        turn,
        1.2 * u[0] - 0.5 * ahead + aside * turn,
        -0.8 * aside - ahead * turn,
        0.9 * u[1] - 0.7 * turn,
    ]


def waves(rng, n, t):
    """(n, T, 2) smooth inputs."""
    phase, speed = rng.uniform(0, 6.28, (2, n, 1, 2))
    return np.sin((0.3 + 0.3 * speed) * t[:, None] + phase) + 0.6 * np.sin(2.3 * t[:, None] - 2 * phase)


@pytest.mark.parametrize("kind", ["linear", "previous"])
def test_a_vehicle_has_its_terms_and_its_kind_of_inputs(kind):
    rng = np.random.default_rng(4)
    t = np.linspace(0, 8, 101)
    u = waves(rng, 8, t)
    y0 = rng.uniform([-1, -1, -1, 0, -0.3, -0.5], [1, 1, 1, 1, 0.3, 0.5], (8, 6))
    clean = pn.solve(boat, y0, t, inputs=(t, u, kind), rtol=1e-9, atol=1e-9).y
    y = clean + 0.02 * clean.std(axis=(0, 1)) * rng.standard_normal(clean.shape)
    model = pn.NeuralODE(random_state=0).fit(t, y, u=u)
    assert model.input_kind_ == kind
    found = terms_of(model)
    assert set(found) == set(BOAT)
    assert all(found[name] == pytest.approx(value, abs=0.02) for name, value in BOAT.items())


def test_coupled_oscillators_have_a_sum_of_sines():
    n = 6
    w = 0.3 + 0.1 * np.arange(n)

    @pn.field(state=n)
    def coupled(t, y):
        return [w[i] + 0.25 * sum(np.sin(y[j] - y[i]) for j in range(n) if j != i) for i in range(n)]

    rng = np.random.default_rng(1)
    t = np.linspace(0, 6, 101)
    clean = pn.solve(coupled, rng.uniform(-1.5, 1.5, (12, n)), t, rtol=1e-9, atol=1e-9).y
    y = clean + 0.01 * clean.std(axis=(0, 1)) * rng.standard_normal(clean.shape)
    model = pn.NeuralODE(random_state=0).fit(t, y)
    found = terms_of(model)
    assert len(found) == n * n
    sines = {name: value for name, value in found.items() if "sin" in name}
    assert len(sines) == n * (n - 1) and np.abs(np.abs(list(sines.values())) - 0.25).max() < 0.02
    others = model.predict(t, rng.uniform(-1.2, 1.2, n))
    assert np.isfinite(others).all()


def test_terms_that_meet_fast_jumps_too_early_are_not_lost():
    """Spikes of a predator and its prey (Bazykin): the terms found along smoothed data are right but for half a percent."""

    @pn.field(state=2)
    def bazykin(t, y):
        eaten = y[0] * y[1] / (1 + 0.4 * y[0])
        return [y[0] - eaten - 0.03 * y[0] ** 2, -0.8 * y[1] + eaten - 0.02 * y[1] ** 2]

    rng = np.random.default_rng(0)
    t = np.linspace(0, 25, 101)
    clean = pn.solve(bazykin, rng.uniform([0.5, 0.5], [5, 4], (12, 2)), t, rtol=1e-9, atol=1e-9).y
    y = clean + 0.02 * clean.std(axis=(0, 1)) * rng.standard_normal(clean.shape)
    model = pn.NeuralODE(random_state=0).fit(t, y)
    assert model.report_["message"].startswith("an equation of 6 terms")
    new = rng.uniform([1, 1], [4, 3])
    way = pn.solve(bazykin, new, t, rtol=1e-9, atol=1e-9).y
    assert np.sqrt(np.mean((model.predict(t, new) - way) ** 2)) < 0.02 * clean.std()
