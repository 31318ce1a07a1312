"""An equation that is kept although a network leaves clearly less of the data says so."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import pynode as pn
from pynode.models.trajectories.equations import looking
from pynode.models.trajectories.equations import outdone as outdone_module
from pynode.models.trajectories.equations.outdone import outdone
from pynode.models.trajectories.equations.structure import EquationFit
from pynode.training.curriculum import FitWarning


def fit(noise, fitted, rows):
    """What of a model is read: noise of two states, effective parameters; of 2 trajectories of so many times."""
    data = SimpleNamespace(y=[np.zeros((rows, 2))] * 2)
    report = {"noise": {"x": noise[0], "v": noise[1]}, "effective_parameters": fitted}
    return SimpleNamespace(data_=data, names_=["x", "v"], report_=report, initial_states_=np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("ours", "theirs", "rows", "told"),
    [
        ((2.0, 1.0), (1.0, 1.0), 50, "2 times as much of x as"),
        ((2.0, 3.0), (1.0, 1.0), 50, "2, 3 times as much of x, v as"),
        ((1.2, 1.2), (1.0, 1.0), 5000, ""),  # sure, but little
        ((2.0, 2.0), (1.0, 1.0), 13, ""),  # by chance: of 52 numbers 24 are left
        ((1.0, 1.0), (2.0, 0.0), 50, ""),
    ],
)
def test_what_is_told(ours, theirs, rows, told):
    words = outdone(fit(ours, 4.0, rows), fit(theirs, 24.0, rows))
    assert len(words) == bool(told)
    assert told in "".join(words)


@pytest.fixture
def no_bends(monkeypatch):
    """Nothing bends: the terms of the double well are found along a network's trajectories alone."""
    monkeypatch.setattr(EquationFit, "bent", lambda self, known=False: [])


def double_well():
    rng = np.random.default_rng(3)
    t = np.linspace(0, 20, 61)
    y = pn.solve(pn.field(state=2)(lambda t, y: [y[1], y[0] - y[0] ** 3 - 0.1 * y[1]]), rng.uniform(-1.5, 1.5, (10, 2)), t).y
    return t, y + 0.05 * y.std(axis=(0, 1)) * rng.standard_normal(y.shape)


def said(model, t, y):
    """The model, fitted, and what users saw."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(t, y)
    return model, [str(one.message) for one in caught]


@pytest.mark.usefixtures("no_bends")
@pytest.mark.parametrize("limit", [1.5, 0.0])
def test_an_equation_that_takes_the_place_of_a_network_is_compared_with_it(limit, monkeypatch):
    monkeypatch.setattr(outdone_module, "LARGER", limit)
    monkeypatch.setattr(outdone_module, "CHANCE", 2e-3 if limit else 2.0)
    model, told = said(pn.NeuralODE(random_state=0), *double_well())
    assert model.field_.name == "equation" and "that of the network" in model.report_["message"]
    assert told == model.report_["warnings"]
    assert ("trained beside it" in " ".join(told)) == (limit == 0)


@pytest.mark.usefixtures("no_bends")
@pytest.mark.parametrize("kept", ["equation", "network"])
def test_warnings_of_a_network_are_not_those_of_the_equation_in_its_place(kept, monkeypatch):
    train = looking.fit_stages

    def fit_stages(*args):
        warnings.warn("of the network", FitWarning, stacklevel=1)
        warnings.warn("of something else", UserWarning, stacklevel=1)
        return train(*args)

    monkeypatch.setattr(looking, "fit_stages", fit_stages)
    t, y = double_well()
    if kept == "network":
        rng = np.random.default_rng(0)
        y = np.tanh(3 * np.sin(t))[:, None] + 0.02 * rng.standard_normal((len(t), 1))
    model, told = said(pn.NeuralODE(random_state=0), t, y)
    assert (model.field_.name == "equation") == (kept == "equation")
    assert ("of the network" in told) == (kept == "network")
    assert told.count("of something else") == 1


@pytest.mark.usefixtures("no_bends")
def test_warnings_kept_back_are_told_where_the_fit_of_a_network_fails(monkeypatch):
    def fit_stages(*args):
        warnings.warn("of the network", FitWarning, stacklevel=1)
        raise KeyboardInterrupt

    monkeypatch.setattr(looking, "fit_stages", fit_stages)
    with pytest.warns(FitWarning, match="of the network"), pytest.raises(KeyboardInterrupt):
        pn.NeuralODE(random_state=0).fit(*double_well())
