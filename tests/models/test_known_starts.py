"""Fits of known equations: which starts are tried, from near and from far."""

import numpy as np
import pytest

import pynode as pn
from pynode.training import likelihood_verdict

T = np.array([0.5, 1, 2, 3, 4, 6, 7.9, 8.5, 10, 12, 14, 15.9, 16.5, 18, 20, 22, 24.0])


@pn.field(state=1, theta={"CL": pn.positive(1.0), "V": pn.positive(10.0)})
def elimination(t, y, th):
    return -th.CL / th.V * y


def concentrations(seed):
    """Of three doses, with noise."""
    clean = sum(np.where(s < T, 5 * np.exp(-3 / 20 * (T - s)), 0.0) for s in (0.0, 8.0, 16.0))
    return clean + 0.05 * np.random.default_rng(seed).standard_normal(len(T))


@pytest.mark.parametrize("seed", range(5))
def test_a_start_that_explains_the_readings_of_doses_is_the_only_one_tried(seed):
    model = pn.NeuralODE(field=elimination, initial=[0.0], observe=lambda t, y, th: y[0] / th.V)
    model.fit(T, concentrations(seed), doses=[pn.Dose(0.0, 100.0, interval=8.0, count=3)])
    assert len(model.report_["stages"]) == 1
    assert np.allclose(model.theta_, [3.0, 20.0], rtol=0.05)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # only CL / V is determined
def test_readings_are_smoothed_once(monkeypatch):
    calls = []
    smooth = likelihood_verdict.smooth

    def counted(*arguments):
        calls.append(arguments)
        return smooth(*arguments)

    monkeypatch.setattr(likelihood_verdict, "smooth", counted)
    y = 5 * np.exp(-0.15 * (T - T[0])) + 0.05 * np.random.default_rng(0).standard_normal(len(T))
    pn.NeuralODE(field=elimination, initial=[5.0]).fit(T, y)
    assert len(calls) == 1
