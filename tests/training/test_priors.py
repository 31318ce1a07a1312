"""Which parameters belong to a network, and have a prior: by what they are, whatever they are called."""

import numpy as np

import pynode as pn
from pynode.training.sizes import prior_groups


def names_with_priors(field: pn.Field) -> list[str]:
    first = {p.offset: p.name for p in field.spec}
    return [first[int(group[0])] for group in prior_groups(field)]


def test_biases_of_networks_have_priors():
    @pn.field(state=2, theta={"b1": 1.0, "rest": pn.mlp(2, (4,), 1)})
    def mixed(t, y, th):
        return [-th.b1 * y[0], th.rest(y)[0]]

    assert names_with_priors(pn.mlp(2, (4,))) == ["W0", "b0", "W1", "b1"]
    assert names_with_priors(mixed) == ["rest.W0", "rest.b0", "rest.W1", "rest.b1"]


def test_parameters_with_the_names_of_biases_have_none():
    @pn.field(state=2, theta={"b1": 1.0, "W1": 2.0, "b2": np.ones(2), "part": {"b0": 0.5}})
    def own(t, y, th):
        return [-th.b1 * y[0] + th.W1, th.b2[0] * y[0] - th.b2[1] * th.part.b0 * y[1]]

    assert names_with_priors(own) == []


def test_a_fit_does_not_depend_on_what_a_parameter_is_called():
    t = np.linspace(0, 5, 60)
    y = 3.0 + np.exp(-0.5 * t) + 0.05 * np.random.default_rng(0).standard_normal(60)

    def fitted(name: str) -> pn.NeuralODE:
        @pn.field(state=1, theta={name: 1.0, "c": 0.3})
        def decay(t, y, th):
            return [th.c - getattr(th, name) * y[0]]

        return pn.NeuralODE(field=decay, random_state=0).fit(t, y)

    one, other = fitted("b1"), fitted("k")
    np.testing.assert_array_equal(one.theta_, other.theta_)
    np.testing.assert_array_equal(one.covariance_, other.covariance_)
    assert one.equation().right == other.equation().right
