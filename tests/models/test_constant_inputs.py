"""Covariates of new subjects: constants (m,) and (1, m) of one, (B, m) of several."""

import numpy as np
import pytest

import pynode as pn

T = np.linspace(0, 10, 8)
WEIGHT = np.array([[60.0], [75.0], [90.0]])


def course(start, weight, age=40.0):
    """How much is left after T."""
    return start * np.exp(-0.2 * (weight / 70) ** -0.25 * (age / 40) * T)


@pytest.fixture(scope="module", params=["states alone", "a protocol"])
def model(request):
    @pn.field(state=1, theta={"k": pn.positive(0.1)}, inputs=2)
    def scaled(t, y, th, u):
        return -th.k * (u[0] / 70) ** -0.25 * (u[1] / 40) * y

    options = {} if request.param == "states alone" else {"initial": [5.0]}
    u = [[w, 40.0] for w in WEIGHT[:, 0]]  # a list of lists, too
    return pn.NeuralODE(field=scaled, random_state=0, **options).fit([T] * 3, [course(5.0, w[0]) for w in WEIGHT], u=u)


@pytest.mark.parametrize("u", [[80.0, 30.0], [[80.0, 30.0]], np.array([80.0, 30.0]), np.array([[80.0, 30.0]])])
def test_those_of_one_subject(model, u):
    exact = course(5.0, 80.0, 30.0)[:, None]
    np.testing.assert_allclose(model.predict(T, [5.0], u=u), exact, atol=1e-5)
    np.testing.assert_allclose(model.predict(T, [[5.0]], u=u), exact[None], atol=1e-5)
    np.testing.assert_allclose(model.predict(T[:1], [5.0], u=u), [[5.0]])
    np.testing.assert_allclose(model.initial_states(T, exact, u=u), [[5.0]], atol=1e-5)
    assert model.score(T, exact, u=u) > 0.999999


def test_those_of_a_batch(model):
    exact = np.stack([course(5.0, 60.0), course(4.0, 80.0, 30.0)])[..., None]
    u = [[60.0, 40.0], [80.0, 30.0]]
    mean, std = model.predict(np.append(T, T[-1:]), [[5.0], [4.0]], u=u, return_std=True)
    np.testing.assert_allclose(mean, np.concatenate([exact, exact[:, -1:]], axis=1), atol=1e-5)
    assert std.shape == mean.shape
    np.testing.assert_allclose(model.predict(T, [[5.0], [4.0]], u=u, interval=0.9).mean, exact, atol=1e-5)


def test_values_at_other_times_are_no_constants(model):
    for u in ([80.0, 30.0, 1.0], np.ones((7, 2)), [np.ones((7, 2))], [[80.0, 30.0]] * 2):
        with pytest.raises(ValueError, match="u "):
            model.predict(T, [5.0], u=u)
    with pytest.raises(ValueError, match=r"y0 has shape \(1, 2\); the model has 1 states|y0"):
        model.predict(T, [[5.0, 1.0]], u=[80.0, 30.0])


def test_a_field_that_is_learned_takes_no_series_for_constants():
    with pytest.raises(ValueError, match=r"u has shape \(7,\)"):
        pn.NeuralODE(hidden=(2,)).fit(T, course(5.0, 60.0), u=np.ones(7))
