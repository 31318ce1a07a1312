"""Doses: what they refuse, and what happens when, with derivatives by central differences."""

import numpy as np
import pytest

import pynode as pn
from pynode.experiments.doses import ADD, RATE, RESET, SET, Dose, Schedule


@pn.field(state=2, theta={"k": 0.4, "t0": 1.5, "tau": 6.0, "dose": 80.0, "lag": 0.3, "F": 0.7, "pace": 16.0})
def two(t, y, th):
    return [-th.k * y[0], th.k * y[0] - y[1]]


THETA = two.init()
NAMES = ("gut", "blood")


def schedule(*doses, **options):
    return Schedule([list(doses)], two.spec, NAMES, 2, **options)


# ---- Wrong arguments


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"time": np.nan}, "time=nan"),
        ({"time": None}, "time=None"),
        ({"time": True}, "time=True"),
        ({"time": [0.0]}, r"time=\[0.0\]"),
        ({"amount": np.inf}, "amount=inf"),
        ({"amount": None}, "amount=None"),
        ({"rate": 0.0}, "rate=0.0 .* positive"),
        ({"rate": -1.0}, "rate=-1.0 .* positive"),
        ({"duration": 0}, "duration=0 .* positive"),
        ({"interval": -2.0, "count": 2}, "interval=-2.0 .* positive"),
        ({"rate": 1.0, "duration": 1.0}, "say the same twice"),
        ({"count": 0, "interval": 1.0}, "count"),
        ({"count": 2.5, "interval": 1.0}, "count"),
        ({"count": True, "interval": 1.0}, "count"),
        ({"count": 10**9, "interval": 1.0}, "count"),
        ({"count": 3}, "count=3 .* interval="),
        ({"kind": "bolus"}, "kind='bolus' .* add, set, reset"),
        ({"kind": "set", "rate": 1.0}, "kind='set' .* at once"),
        ({"kind": "reset", "bioavailability": 0.5}, "kind='reset' .* at once"),
        ({"state": 1.0}, "state=1.0"),
        ({"state": True}, "state=True"),
        ({"bioavailability": -0.5}, "bioavailability=-0.5"),
        ({"lag": -1.0}, "lag=-1.0"),
        ({"amount": -5.0, "duration": 2.0}, "amount=-5.0 .* infusion"),
    ],
)
def test_a_dose_refuses(wrong, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Dose(**({"time": 0.0, "amount": 1.0} | wrong))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Dose(0.0, 1.0, "liver"), "state='liver' .* gut, blood"),
        (Dose(0.0, 1.0, 2), "state=2 .* 2 states"),
        (Dose(0.0, 1.0, -1), "state=-1 .* 2 states"),
        (Dose("t9", 1.0), "'t9' .* k, t0, tau, dose, lag, F, pace"),
        (Dose(0.0, 1.0, lag="nothing"), "'nothing' .* not a parameter"),
    ],
)
def test_a_schedule_refuses(wrong, words):
    with pytest.raises(ValueError, match=words):
        schedule(wrong)


def test_a_schedule_refuses_lags_of_unknown_states():
    with pytest.raises(ValueError, match="state='liver'"):
        schedule(Dose(0.0, 1.0), lag={"liver": 1.0})
    with pytest.raises(ValueError, match="'nothing'"):
        schedule(Dose(0.0, 1.0), bioavailability={0: "nothing"})


def test_a_parameter_of_several_numbers_is_no_number():
    @pn.field(state=1, theta={"w": np.ones(2)})
    def f(t, y, th):
        return -y * th.w[0]

    with pytest.raises(ValueError, match=r"'w' .* one number"):
        Schedule([[Dose("w", 1.0)]], f.spec, (), 1)


# ---- What happens


def test_a_dose_shows_what_was_given():
    dose = Dose(np.float64(1), 2, "gut", interval=3.0, count=np.int64(2))
    assert eval(repr(dose), {"Dose": Dose, "np": np}) == dose
    assert Dose(**dose.to_dict()) == dose
    assert all(type(x) in (int, float, str, type(None)) for x in dose.to_dict().values())


def test_boluses_repeat():
    acts = schedule(Dose(1.0, 5.0, "blood", interval=2.0, count=3)).actions(THETA)
    np.testing.assert_array_equal(acts.time, [1.0, 3.0, 5.0])
    np.testing.assert_array_equal(acts.value, 5.0)
    np.testing.assert_array_equal(acts.state, 1)
    np.testing.assert_array_equal(acts.kind, ADD)


def test_infusions_begin_and_end():
    acts = schedule(Dose(1.0, 6.0, rate=2.0), Dose(2.0, 6.0, 1, duration=3.0)).actions(THETA)
    np.testing.assert_array_equal(acts.time, [1.0, 2.0, 4.0, 5.0])
    np.testing.assert_array_equal(acts.value, [2.0, 2.0, -2.0, -2.0])
    np.testing.assert_array_equal(acts.state, [0, 1, 0, 1])
    np.testing.assert_array_equal(acts.kind, RATE)


def test_bioavailability_shortens_an_infusion_of_known_rate_and_thins_one_of_known_duration():
    acts = schedule(Dose(0.0, 6.0, rate=2.0, bioavailability=0.5)).actions(THETA)
    np.testing.assert_array_equal([acts.time, acts.value], [[0.0, 1.5], [2.0, -2.0]])
    acts = schedule(Dose(0.0, 6.0, duration=3.0, bioavailability=0.5)).actions(THETA)
    np.testing.assert_array_equal([acts.time, acts.value], [[0.0, 3.0], [1.0, -1.0]])


def test_an_infusion_of_nothing_is_nothing():
    for pace in ({"rate": 2.0}, {"duration": 2.0}):
        acts = schedule(Dose(1.0, 0.0, **pace)).actions(THETA)
        rate = np.cumsum(acts.value)[:-1] * np.diff(acts.time)
        assert rate.sum() == 0
        assert np.isfinite(acts.d_time).all()
        assert np.isfinite(acts.d_value).all()


def test_lag_and_bioavailability_of_a_state_hold_for_doses_that_have_none():
    plan = schedule(
        Dose(0.0, 10.0),
        Dose(1.0, 10.0, lag=2.0, bioavailability=0.1),
        Dose(2.0, 10.0, 1),
        lag={"gut": 0.5},
        bioavailability={0: "F"},
    )
    acts = plan.actions(THETA)
    np.testing.assert_allclose(acts.time, [0.5, 2.0, 3.0])
    np.testing.assert_allclose(acts.value, [7.0, 10.0, 1.0])


def test_setting_and_resetting_have_no_bioavailability():
    plan = schedule(Dose(1.0, 4.0, kind="set"), Dose(2.0, kind="reset"), bioavailability={0: 0.5}, lag={0: 1.0})
    acts = plan.actions(THETA)
    np.testing.assert_array_equal(acts.kind, [SET, RESET])
    np.testing.assert_array_equal(acts.time, [2.0, 3.0])
    np.testing.assert_array_equal(acts.value[0], 4.0)


def test_doses_at_the_same_time_keep_their_order():
    acts = schedule(Dose(1.0, 3.0), Dose(1.0, kind="reset"), Dose(1.0, 2.0, 1), Dose(0.0, 9.0)).actions(THETA)
    np.testing.assert_array_equal(acts.kind, [ADD, ADD, RESET, ADD])
    np.testing.assert_array_equal(acts.value[[0, 1, 3]], [9.0, 3.0, 2.0])


def test_trajectories_have_doses_of_their_own():
    plan = Schedule([[Dose(3.0, 1.0)], [], [Dose(2.0, 2.0), Dose(1.0, 4.0)]], two.spec, NAMES, 2)
    acts = plan.actions(THETA)
    np.testing.assert_array_equal(acts.sample, [0, 2, 2])
    np.testing.assert_array_equal(acts.value, [1.0, 4.0, 2.0])
    np.testing.assert_array_equal(plan.first_times(3), [3.0, np.inf, 1.0])


def test_whether_times_move():
    assert not schedule(Dose(1.0, "dose", duration=2.0, bioavailability="F")).moving
    assert not schedule(Dose(1.0, "dose", bioavailability="F")).moving
    for dose in (
        Dose("t0", 1.0),
        Dose(0.0, 1.0, lag="lag"),
        Dose(0.0, 1.0, interval="tau", count=2),
        Dose(0.0, 1.0, duration="tau"),
        Dose(0.0, "dose", rate=2.0),
        Dose(0.0, 5.0, rate="pace"),
        Dose(0.0, 5.0, rate=2.0, bioavailability="F"),
    ):
        assert schedule(dose).moving, dose


def test_derivatives_are_those_of_central_differences():
    plan = schedule(
        Dose("t0", "dose", 1, interval="tau", count=3, lag="lag", bioavailability="F"),
        Dose(0.7, "dose", 0, rate="pace", bioavailability="F", interval="tau", count=2),
        Dose("t0", "dose", 0, duration="tau", lag="lag", bioavailability="F"),
        Dose("lag", "dose", 0, kind="set"),
    )
    acts = plan.actions(THETA)
    step = 1e-6
    for j in range(len(THETA)):
        h = step * np.eye(len(THETA))[j]
        up, down = plan.actions(THETA + h), plan.actions(THETA - h)
        np.testing.assert_allclose((up.time - down.time) / (2 * step), acts.d_time[:, j], atol=1e-7)
        np.testing.assert_allclose((up.value - down.value) / (2 * step), acts.d_value[:, j], atol=1e-7)


@pytest.mark.parametrize("pace", [{"rate": "pace"}, {"duration": "pace"}])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_infusions_that_last_no_time_are_refused(pace, value):
    theta = THETA.copy()
    theta[6] = value
    with pytest.raises(ValueError, match="infusion must be positive"):
        schedule(Dose(0.0, 1.0, **pace)).actions(theta)
