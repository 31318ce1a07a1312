"""Wrong arguments of fits of known equations: each is answered by its name, its value, and what to do."""

import warnings

import numpy as np
import pytest

import pynode as pn

T = np.array([0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 9.0, 10.0, 12.0, 16.0])
Y = 5 * np.exp(-0.15 * T)
DOSES = [pn.Dose(0.0, 100.0)]


@pn.field(state=1, theta={"CL": pn.positive(1.0), "V": pn.positive(10.0)})
def pk(t, y, th):
    return [-th.CL / th.V * y[0]]


def volume(t, y, th):
    return [y[0] / th.V]


def fit(y=Y, doses=DOSES, weight=None, u=None, **options):
    model = pn.NeuralODE(**({"field": pk, "observe": volume, "initial": [0.0], "max_iter": 2} | options))
    return model.fit(T, y, doses=doses, weight=weight, u=u)


OPTIONS = [
    ({"observe": lambda t, y, th: [y[0], y[0]]}, r"observe gives 2 numbers, the data have 1 columns \(y1\)"),
    ({"observe": lambda t, y: [y[0]]}, r"observe is called as observe\(t, y, th\)"),
    ({"observe": lambda t, y, th: y if y[0] > 0 else -y}, "observe is called .*np.where"),
    ({"observe": lambda t, y, th: float(y[0])}, "a traced value has no number yet"),
    ({"observe": lambda t, y, th: y / th.W}, "theta has no 'W'; it has CL, V"),
    ({"observe": "V"}, "observe='V' must be a function"),
    ({"initial": "zero"}, "initial='zero' must be an array, a dict, a function"),
    ({"initial": [0.0, 0.0]}, r"initial has shape \(2,\): give \(1,\)"),
    ({"initial": [np.inf]}, "must be finite"),
    ({"initial": [True]}, "must be numbers"),
    ({"initial": {"gut": 1.0}}, "'gut' is not a state"),
    ({"initial": {3: 1.0}}, "3 is not a state"),
    ({"initial": lambda th: th.Q}, "theta has no 'Q'"),
    ({"initial": lambda th: [1.0, 2.0]}, "returned 2 numbers"),
    ({"noise": {"conc": "additive"}}, "noise names 'conc', which is not measured; measured are y1"),
    ({"noise": {"y1": "weird"}}, "noise of 'y1' is 'weird', not one of additive"),
    ({"noise": {"y1": "student"}}, "noise of 'y1' is 'student', not one of additive"),
    ({"noise": ["additive"]}, r"noise=\['additive'\] is not one of"),
    ({"lag": {5: 1.0}}, "state=5 of lag: there are 1 states"),
    ({"lag": {"gut": 1.0}}, "state='gut' of lag is not a state"),
    ({"lag": {0: -1.0}}, "lag of 0 is -1.0: it must be a number >= 0"),
    ({"lag": {0: True}}, "lag of 0 is True"),
    ({"lag": {0: np.nan}}, "lag of 0 is nan"),
    ({"lag": {0: "tlag"}}, "'tlag' .* those of the field are: CL, V"),
    ({"lag": [1.0]}, r"lag=\[1.0\] must be a dict"),
    ({"bioavailability": {0: "F"}}, "'F' .* those of the field are: CL, V"),
    ({"log": True}, "log=True does not go with"),
    ({"optimizer": "adam"}, "optimizer='adam' does not go with"),
    ({"early_stopping": True}, "early_stopping=True does not go with"),
    ({"weight_decay": 0.1}, "weight_decay=0.1 does not go with"),
    ({"kinetic_energy": 0.1}, "kinetic_energy=0.1 does not go with"),
    ({"batch_size": 3}, "batch_size=3 does not go with"),
    ({"augment": 1}, "augment adds states to the network"),
]
DATA = [
    ({"y": -Y, "noise": "lognormal"}, "noise='lognormal' .* y1 is -4.6.* at t = 0.5 of trajectory 0"),
    ({"y": np.where(T == 2, 0.0, Y), "noise": {"y1": "lognormal"}}, "y1 is 0 at t = 2 of trajectory 0"),
    ({"y": np.full(10, np.nan)}, "nothing is observed"),
    ({"weight": np.zeros((10, 1))}, "weight is 0 wherever"),
    ({"weight": -np.ones((10, 1))}, "weights must be finite and not negative"),
    ({"weight": np.ones(3)}, r"weight of trajectory 0 has shape \(3,\)"),
    ({"u": np.ones((10, 1))}, "the field has 0 control inputs, u 1"),
    ({"doses": [DOSES, DOSES]}, "doses are for 2 trajectories, there are 1"),
    ({"doses": "abc"}, "doses='abc' must be a list of pynode.Dose"),
    ({"doses": 3}, "doses=3 must be a list of pynode.Dose"),
    ({"doses": [1]}, "doses=1 must be a list of pynode.Dose"),
    ({"doses": [[1]]}, "doses must hold pynode.Dose, not 1"),
    ({"doses": {7: DOSES}}, "doses are for 7, which is not a trajectory; they are 0"),
    ({"doses": [{"when": 0.0}]}, "the unknown entry 'when'.* its entries are time, amount"),
    ({"doses": [{"amount": 1.0}]}, "a dose has no time"),
    ({"doses": [pn.Dose(0.0, 1.0, 3)]}, "state=3 of a dose: there are 1 states"),
    ({"doses": [pn.Dose(0.0, 1.0, "gut")]}, "state='gut' of a dose is not a state; the states have no names"),
    ({"doses": [pn.Dose("t0", 1.0)]}, "'t0' of a dose is not a parameter"),
]


@pytest.mark.parametrize(("wrong", "words"), OPTIONS + DATA, ids=lambda x: x[:40] if isinstance(x, str) else "+".join(x))
def test_refused(wrong, words):
    with pytest.raises((TypeError, ValueError), match=words):
        fit(**wrong)


def test_log_normal_readings_of_nothing():
    """A model that says 0 where something was read has no logarithm."""
    with pytest.raises(pn.fit.FitError, match="noise='lognormal' needs predictions above 0 at every reading"):
        fit(doses=[*DOSES, pn.Dose(3.0, kind="reset")], noise="lognormal")


def test_doses_may_be_given_in_many_ways():
    warnings.simplefilter("ignore", pn.fit.FitWarning)
    expected = fit().theta_
    plain = [{"time": 0.0, "amount": 100.0}]
    for doses in (DOSES[0], tuple(DOSES), [DOSES], {0: DOSES}, plain, [plain], {0: DOSES[0]}, iter(DOSES)):
        np.testing.assert_array_equal(fit(doses=doses).theta_, expected)
