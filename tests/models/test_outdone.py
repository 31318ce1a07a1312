"""An equation that is kept although a network leaves clearly less of the data says so."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import pynode as pn
from pynode.models.trajectories import outdone as outdone_module
from pynode.models.trajectories.outdone import outdone


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


@pytest.mark.parametrize("limit", [1.5, 0.0])
def test_an_equation_that_takes_the_place_of_a_network_is_compared_with_it(limit, monkeypatch):
    monkeypatch.setattr(outdone_module, "LARGER", limit)
    monkeypatch.setattr(outdone_module, "CHANCE", 2e-3 if limit else 2.0)
    rng = np.random.default_rng(3)
    t = np.linspace(0, 20, 61)
    y = pn.solve(pn.field(state=2)(lambda t, y: [y[1], y[0] - y[0] ** 3 - 0.1 * y[1]]), rng.uniform(-1.5, 1.5, (10, 2)), t).y
    model = pn.NeuralODE(random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pn.fit.FitWarning)
        model.fit(t, y + 0.05 * y.std(axis=(0, 1)) * rng.standard_normal(y.shape))
    assert model.field_.name == "equation" and "that of the network" in model.report_["message"]
    assert ("trained beside it" in " ".join(model.report_["warnings"])) == (limit == 0)
