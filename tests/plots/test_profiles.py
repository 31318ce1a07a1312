"""Pictures of profile likelihoods."""

import numpy as np
import pytest

import pynode as pn

T = np.linspace(0, 5, 30)


def equation():
    """A model of a known equation."""

    @pn.field(state=1, theta={"k": pn.positive(1.0), "c": 0.1, "frozen": pn.frozen(1.0)})
    def decay(t, y, th):
        return th.frozen * th.c - th.k * y

    return pn.NeuralODE(field=decay).fit(T, np.exp(-0.5 * T) + 0.02 * np.random.default_rng(0).standard_normal(30))


def test_profiles_are_drawn():
    model = equation()
    network = pn.NeuralODE(hidden=(3,), max_iter=3, random_state=0).fit(T, np.exp(-T))
    figure = model.plot("profile")
    assert [ax.get_xlabel() for ax in figure.axes] == ["k", "c"]
    found = model.profile("k")["k"]
    curve = figure.axes[0].lines[0]
    inside = np.interp([found.low, found.high], *curve.get_data())
    np.testing.assert_allclose(inside, found.limit, rtol=1e-2)
    assert len(model.plot("profile", names=["c"]).axes) == 1
    with pytest.raises(ValueError, match="field of your own"):
        network.plot("profile", names=["k"])
    with pytest.raises(ValueError, match="no data"):
        model.plot("profile", data=model.data_)
