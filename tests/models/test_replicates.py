"""Several readings at one time, for fields that are learned: means, and never a fit of another kind."""

import numpy as np
import pytest
from printed_terms import terms_of

import pynode as pn

T = np.linspace(0, 20, 80)
TWICE = np.repeat(T, np.where(np.arange(80) == 5, 2, 1))


@pytest.fixture(scope="module")
def animals():
    """(81, 2) predators and prey, read twice at the sixth time."""
    field = pn.field(state=2)(lambda t, y: [1.1 * y[0] - 0.4 * y[0] * y[1], 0.1 * y[0] * y[1] - 0.4 * y[1]])
    y = pn.solve(field, [10.0, 5.0], TWICE).y
    return y + 0.1 * np.random.default_rng(0).standard_normal(y.shape)


def test_an_equation_is_found_of_means(animals):
    model = pn.NeuralODE(random_state=0, structure="equation").fit(TWICE, animals)
    assert terms_of(model).keys() == {"y1: y1", "y1: y1*y2", "y2: y2", "y2: y1*y2"}
    means = np.delete(animals, 6, axis=0)
    means[5] = animals[5:7].mean(axis=0)
    weight = np.where(np.arange(80) == 5, 2.0, 1.0)[:, None]
    same = pn.NeuralODE(random_state=0, structure="equation").fit(T, means, weight=weight)
    np.testing.assert_allclose(model.theta_, same.theta_, rtol=1e-9)
    assert model.score(TWICE, animals) == pytest.approx(same.score(T, means), rel=1e-9) and model.score(T, means) > 0.99


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # two iterations explain nothing
def test_a_table_with_inputs_may_have_a_row_twice(animals):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"t": TWICE, "prey": animals[:, 0], "u": np.sin(TWICE)})
    columns = {"time": "t", "state": "prey", "input": "u"}
    model = pn.NeuralODE(random_state=0, hidden=(2,), max_iter=2, n_estimators=2).fit(table, **columns)
    assert model.protocol_ is None and [len(one.data_.t[0]) for one in model.estimators_] == [80, 80]
    table.loc[6, "u"] += 1.0
    with pytest.raises(ValueError, match="u of trajectory 0 differs between readings at one time"):
        model.fit(table, **columns)


@pytest.mark.parametrize(("option", "value"), [("noise", "proportional"), ("initial", [1.0, 1.0])])
def test_no_equation_is_looked_for_where_a_protocol_is_needed(animals, option, value):
    with pytest.raises(ValueError, match=f"structure='equation' does not go with {option}="):
        pn.NeuralODE(structure="equation", **{option: value}).fit(TWICE, animals)
