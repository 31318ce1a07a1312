"""Pictures of flows: what colours mean, and the view from the side; legends of other pictures that say what is drawn."""

import numpy as np
import pytest

import pynode as pn

pytest.importorskip("matplotlib")

X = np.random.default_rng(0).normal(size=(40, 2))
INNER = np.where(np.hypot(*X.T) < 1, "inner", "outer")


def legend_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def axes_of(figure):
    return [(ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes]


@pytest.mark.parametrize("n_features", [1, 2, 3])
def test_the_flow_names_the_classes(n_features):
    samples = np.c_[X, X[:, 0]][:, :n_features]
    model = pn.NeuralODEClassifier(max_iter=2, random_state=0).fit(samples, INNER)
    assert legend_of(model.plot("flow", samples, INNER)) == ["inner", "outer"]


@pytest.mark.parametrize("values", [X[:, 0], np.ones(40)])
def test_the_flow_of_values_has_a_bar(values):
    model = pn.NeuralODERegressor(max_iter=2, random_state=0).fit(X, X[:, 0])
    figure = model.plot("flow", X, values)
    assert [ax.get_ylabel() for ax in figure.axes][-1] == "value" and not figure.legends


def test_what_leaves_the_plane_is_seen_from_the_side():
    model = pn.NeuralODEClassifier(augment=2, max_iter=2, random_state=0).fit(X, INNER)
    before, above, side = axes_of(model.plot("flow", X, INNER))
    assert before == ("t = 0", "state 1", "state 2") and above == ("t = 1", "state 1", "state 2")
    assert side == ("t = 1, from the side", "state 1", "state 4")
    narrow = [ax.get_title() for ax in model.plot("overview", X, INNER).axes]
    assert "t = 1 (2 more not drawn)" in narrow and side[0] not in narrow
    flat = pn.NeuralODEClassifier(max_iter=2, random_state=0).fit(X, INNER)
    assert [title for title, _, _ in axes_of(flat.plot("flow", X, INNER))] == ["t = 0", "t = 1"]


def test_colours_of_trajectories_are_told():
    t = np.linspace(0, 3, 12)
    one = pn.NeuralODE(hidden=(3,), max_iter=2, random_state=0).fit(t, np.exp(-t))
    assert one.plot("agreement").legends[0].get_title().get_text() == ""
    two = pn.NeuralODE(hidden=(3,), max_iter=2, random_state=0).fit([t, t], [np.exp(-t), 2 * np.exp(-t)])
    assert two.plot("agreement").legends[0].get_title().get_text() == "a colour for each trajectory"


def test_the_loss_of_minibatches_and_its_median_are_named():
    series = pn.datasets.periodic(n_train=6, n_held_out=0).train
    figure = pn.LatentODE(max_iter=3, random_state=0).fit(series).plot("loss")
    assert legend_of(figure) == ["minibatch", "median of 1"]
    assert figure.axes[0].get_ylabel() == "-ELBO per observed number (scaled units)"
