"""The forward map of experiments: closed forms of doses, and derivatives by central differences."""

import numpy as np
import pytest

import pynode as pn
from pynode.data.signal import Signal
from pynode.experiments.doses import Dose, Schedule
from pynode.experiments.forward import Experiment
from pynode.experiments.initial import as_initial
from pynode.experiments.parts import function

FINE = {"rtol": 1e-11, "atol": 1e-13}
K, KA = 0.3, 1.1
T = np.array([0.5, 1.0, 2.0, 3.5, 4.0, 6.0, 9.0])


@pn.field(state=1, theta={"k": K, "at": 1.5, "tau": 2.5, "amount": 8.0, "lag": 0.4, "F": 0.7, "pace": 3.0, "to": 2.0})
def decay(t, y, th):
    return -th.k * y


@pn.field(state=2, theta={"ka": KA, "k": K})
def oral(t, y, th):
    return [-th.ka * y[0], th.ka * y[0] - th.k * y[1]]


def experiment(field, times, doses, initial=0.0, observe=None, signal=None, **options):
    times = [times] if isinstance(times, np.ndarray) else times
    doses = [doses] if not doses or isinstance(doses[0], Dose) else doses
    plan = Schedule(doses, field.spec, (), field.d, **options)
    start = as_initial(np.full(field.d, initial) if np.isscalar(initial) else initial, field, len(times), ())
    return Experiment(field, times, start, plan, observe, signal, **FINE)


def values(field, times, doses, initial=0.0, theta=None, **options):
    ex = experiment(field, times, doses, initial, **options)
    free = np.zeros((len(ex.times), field.d))
    course = ex.run(field.init() if theta is None else theta, free, derivatives=False)
    assert not course.failed.any()
    return course.value


def after(t, s, k=K):
    """exp(-k (t - s)) after s, 0 before; a reading at s comes before."""
    return np.where(t > s, np.exp(-k * np.maximum(t - s, 0.0)), 0.0)


def infused(t, begin, end, k=K):
    """The amount of an infusion at rate 1 from begin to end."""
    given = np.clip(t, begin, end)
    return np.exp(-k * (t - given)) * (1 - np.exp(-k * (given - begin))) / k


# ---- Closed forms

CASES = {
    "bolus": ([Dose(1.0, 5.0)], 5 * after(T, 1.0)),
    "bolus before the first reading": ([Dose(-2.0, 5.0)], 5 * after(T, -2.0)),
    "bolus at the first reading": ([Dose(0.5, 5.0)], 5 * after(T, 0.5)),
    "bolus at the last reading": ([Dose(9.0, 5.0)], 0 * T),
    "bolus after the last reading": ([Dose(11.0, 5.0)], 0 * T),
    "bolus of nothing": ([Dose(1.0, 0.0)], 0 * T),
    "no dose": ([], 0 * T),
    "repeated": ([Dose(0.0, 5.0, interval=2.0, count=4)], 5 * sum(after(T, s) for s in (0.0, 2.0, 4.0, 6.0))),
    "repeated beyond the end": ([Dose(0.0, 5.0, interval=6.0, count=9)], 5 * (after(T, 0.0) + after(T, 6.0))),
    "many at a time": ([Dose(1.0, 2.0), Dose(1.0, 3.0), Dose(1.0, -1.0)], 4 * after(T, 1.0)),
    "in any order": ([Dose(4.0, 2.0), Dose(1.0, 3.0)], 2 * after(T, 4.0) + 3 * after(T, 1.0)),
    "infusion by rate": ([Dose(1.0, 6.0, rate=2.0)], 2 * infused(T, 1.0, 4.0)),
    "infusion by duration": ([Dose(1.0, 6.0, duration=1.5)], 4 * infused(T, 1.0, 2.5)),
    "infusion of nothing by rate": ([Dose(1.0, 0.0, rate=2.0)], 0 * T),
    "infusion of nothing by duration": ([Dose(1.0, 0.0, duration=2.0)], 0 * T),
    "infusion beyond the end": ([Dose(3.0, 100.0, rate=4.0)], 4 * infused(T, 3.0, 28.0)),
    "infusions that overlap": (
        [Dose(0.5, 6.0, rate=2.0, interval=2.0, count=2)],
        2 * infused(T, 0.5, 3.5) + 2 * infused(T, 2.5, 5.5),
    ),
    "infusion and bolus": ([Dose(1.0, 6.0, rate=2.0), Dose(1.0, 3.0)], 2 * infused(T, 1.0, 4.0) + 3 * after(T, 1.0)),
    "lag": ([Dose(1.0, 5.0, lag=0.7)], 5 * after(T, 1.7)),
    "lag of an infusion": ([Dose(1.0, 6.0, rate=2.0, lag=0.5)], 2 * infused(T, 1.5, 4.5)),
    "bioavailability": ([Dose(1.0, 5.0, bioavailability=0.2)], after(T, 1.0)),
    "bioavailability of a rate": ([Dose(1.0, 6.0, rate=2.0, bioavailability=0.5)], 2 * infused(T, 1.0, 2.5)),
    "bioavailability of a duration": ([Dose(1.0, 6.0, duration=3.0, bioavailability=0.5)], infused(T, 1.0, 4.0)),
    "parameters": ([Dose("at", "amount", lag="lag", bioavailability="F")], 5.6 * after(T, 1.9)),
    "interval by name": ([Dose(0.0, 5.0, interval="tau", count=2)], 5 * (after(T, 0.0) + after(T, 2.5))),
    "rate by name": ([Dose(1.0, 6.0, rate="pace")], 3 * infused(T, 1.0, 3.0)),
    "duration by name": ([Dose(1.0, 6.0, duration="to")], 3 * infused(T, 1.0, 3.0)),
}


@pytest.mark.parametrize("name", CASES)
def test_closed_forms(name):
    doses, expected = CASES[name]
    np.testing.assert_allclose(values(decay, T, doses)[:, 0], expected, rtol=1e-8, atol=1e-9)


def test_reset_and_set():
    doses = [Dose(0.0, 5.0, interval=1.5, count=2), Dose(1.8, kind="reset"), Dose(3.0, 7.0, kind="set"), Dose(3.0, 1.0)]
    expected = np.where(T <= 1.8, 5 * after(T, 0.0) + 5 * after(T, 1.5), 8 * after(T, 3.0))
    np.testing.assert_allclose(values(decay, T, doses)[:, 0], expected, rtol=1e-8, atol=1e-9)


def test_a_reset_empties_all_states_and_ends_no_infusion():
    doses = [Dose(0.0, 10.0, 1), Dose(0.5, 8.0, 1, rate=2.0), Dose(1.0, 3.0, 0), Dose(2.0, kind="reset")]
    value = values(oral, T, doses)
    late = T > 2.0
    np.testing.assert_allclose(value[late, 0], 0.0, atol=1e-9)
    np.testing.assert_allclose(value[late, 1], 2 * infused(T, 2.0, 4.5)[late], rtol=1e-8)


def test_bateman():
    doses = [Dose(1.0, 20.0, 0, bioavailability=0.8, interval=4.0, count=2)]
    expected = 16 * KA / (KA - K) * sum(after(T, s, K) - after(T, s, KA) for s in (1.0, 5.0))
    np.testing.assert_allclose(values(oral, T, doses)[:, 1], expected, rtol=1e-8, atol=1e-9)


def test_initial_states_are_those_before_an_early_dose():
    value = values(decay, T, [Dose(-1.0, 5.0)], initial=2.0)[:, 0]
    np.testing.assert_allclose(value, 7 * np.exp(-K * (T + 1)), rtol=1e-8)
    value = values(decay, T, [Dose(2.0, 5.0)], initial=2.0)[:, 0]
    np.testing.assert_allclose(value, 2 * np.exp(-K * (T - 0.5)) + 5 * after(T, 2.0), rtol=1e-8)


def test_ragged_trajectories_with_doses_of_their_own():
    times = [T, np.array([2.0]), np.array([0.0, 7.0])]
    doses = [[Dose(1.0, 5.0)], [Dose(0.0, 3.0, interval=0.5, count=3)], []]
    expected = [5 * after(T, 1.0), 3 * sum(after(times[1], s) for s in (0.0, 0.5, 1.0)), [0.0, 0.0]]
    np.testing.assert_allclose(values(decay, times, doses)[:, 0], np.concatenate(expected), rtol=1e-8, atol=1e-9)
    for i, own in enumerate(times):
        np.testing.assert_allclose(values(decay, own, doses[i])[:, 0], expected[i], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("count", [10, 30])
def test_a_reading_at_the_time_of_a_dose_comes_first_whatever_rounding_says(count):
    times = np.linspace(0, count * 0.1, count + 1)
    by_interval = values(decay, times, [Dose(0.0, 1.0, interval=0.1, count=count)], theta=0 * decay.init())
    np.testing.assert_allclose(by_interval[:, 0], np.arange(count + 1), atol=1e-9)
    one_by_one = [Dose(float(np.cumsum(np.full(count, 0.1))[j] - 0.1), 1.0) for j in range(count)]
    np.testing.assert_allclose(
        values(decay, times, one_by_one, theta=0 * decay.init())[:, 0], np.arange(count + 1), atol=1e-9
    )


def test_doses_and_inputs():
    @pn.field(state=1, inputs=1, theta={"k": K})
    def fed(t, y, th, u):
        return u - th.k * y

    signal = Signal(np.array([0.0, 10.0]), np.array([[0.6], [0.6]]))
    value = values(fed, T, [Dose(1.0, 5.0)], signal=signal)[:, 0]
    np.testing.assert_allclose(value, 5 * after(T, 1.0) + 0.6 * infused(T, 0.5, 9.0), rtol=1e-8)
    each = Signal(np.array([0.0, 10.0]), np.array([[[0.0], [0.0]], [[0.6], [0.6]]]))
    value = values(fed, [T, T], [[Dose(1.0, 5.0)], [Dose(1.0, 6.0, rate=2.0)]], signal=each)[:, 0]
    expected = [5 * after(T, 1.0), 2 * infused(T, 1.0, 4.0) + 0.6 * infused(T, 0.5, 9.0)]
    np.testing.assert_allclose(value, np.concatenate(expected), rtol=1e-8, atol=1e-9)


def test_a_field_that_explodes_fails_by_itself():
    @pn.field(state=1)
    def runaway(t, y):
        return y**2

    ex = experiment(runaway, [T, T], [[Dose(1.0, 50.0)], [Dose(1.0, 0.01)]])
    course = ex.run(np.empty(0), np.zeros((2, 1)))
    np.testing.assert_array_equal(course.failed, [True, False])
    assert np.isnan(course.value[: len(T)][-1]).all()
    np.testing.assert_allclose(course.value[-1, 0], 1 / (100.0 - 8.0), rtol=1e-8)


# ---- Derivatives


def numeric(ex, theta, free, step=1e-5):
    """The Jacobian by central differences."""
    columns = []
    for h in step * np.eye(len(theta)):
        columns.append(ex.run(theta + h, free, False).value - ex.run(theta - h, free, False).value)
    for j in range(free.shape[1]):
        h = np.zeros(free.shape)
        h[:, j] = step
        columns.append(ex.run(theta, free + h, False).value - ex.run(theta, free - h, False).value)
    return np.stack(columns, axis=-1) / (2 * step)


def check(ex, free=None, theta=None, atol=2e-6):
    theta = ex.field.init() if theta is None else theta
    free = np.full((len(ex.times), ex.d), 2.0) if free is None else free
    course = ex.run(theta, free)
    assert not course.failed.any()
    np.testing.assert_allclose(course.jacobian, numeric(ex, theta, free), atol=atol * np.abs(course.value).max())
    return course


OFF = T + 0.013
"""Readings that no dose meets: there the course jumps with the time of the dose."""


@pytest.mark.parametrize(
    "doses",
    [
        [Dose("at", "amount", bioavailability="F")],
        [Dose(0.0, "amount", interval="tau", count=3, lag="lag")],
        [Dose(1.0, "amount", rate="pace", bioavailability="F", lag="lag")],
        [Dose("at", 5.0, duration="to", interval="tau", count=2)],
        [Dose("at", "amount", kind="set"), Dose("at", 2.0)],
        [Dose(0.0, 5.0), Dose("at", kind="reset"), Dose("tau", 3.0)],
        [Dose("at", 5.0), Dose("at", "amount", rate="pace"), Dose("at", kind="reset", lag="lag")],
        [Dose("k", 5.0, lag="k")],
    ],
    ids=lambda doses: "+".join(map(repr, doses)),
)
@pytest.mark.parametrize("initial", [0.0, np.nan], ids=["known", "free"])
def test_derivatives_of_doses(doses, initial):
    check(experiment(decay, OFF, doses, initial))


@pytest.mark.parametrize("at", [-0.7, 0.3])
def test_a_dose_whose_time_is_a_parameter_may_come_first(at):
    """The trajectory then begins with it; its initial state is the one before the dose."""
    theta = decay.init()
    theta[1] = at
    ex = experiment(decay, OFF, [Dose("at", 5.0)], initial=2.0)
    course = check(ex, theta=theta)
    np.testing.assert_allclose(course.value[:, 0], 7 * np.exp(-K * (OFF - at)), rtol=1e-8)
    np.testing.assert_allclose(ex.begin(theta), at)
    theta[1] = 1.0
    np.testing.assert_allclose(ex.begin(theta), OFF[0])
    check(experiment(decay, OFF, [Dose("at", "amount", rate="pace")], initial=2.0), theta=theta)


def test_derivatives_of_observations_and_formulas():
    @pn.field(state=2, theta={"ka": KA, "k": K, "V": 3.0, "dose": 10.0})
    def pk(t, y, th):
        return [-th.ka * y[0], th.ka * y[0] - th.k * y[1] / th.V]

    observe = function(
        "observe", lambda t, y, th: [np.log(1.0 + y[1] / th.V), t * y[0], th.ka * th.V], pk, None, ("t", "y", "th")
    )
    doses = [[Dose(0.7, "dose", 0), Dose(3.0, "dose", 1, duration="ka")], []]
    plan = Schedule(doses, pk.spec, (), 2, lag={0: "k"}, bioavailability={1: "k"})
    formula = as_initial(lambda th: [np.nan, th.V * th.k], pk, 2, ())
    ex = Experiment(pk, [OFF, OFF[2:]], formula, plan, observe, **FINE)
    course = check(ex, np.array([[1.0, 9.0], [0.5, 9.0]]))
    np.testing.assert_allclose(course.states[0], [1.0, 0.9])
    np.testing.assert_array_equal(course.jacobian[..., -1], 0.0)  # the second state is not free


def test_derivatives_with_inputs():
    @pn.field(state=1, inputs=1, theta={"k": K, "at": 1.5})
    def fed(t, y, th, u):
        return u - th.k * y

    signal = Signal(np.array([0.0, 4.0, 10.0]), np.array([[0.0], [2.0], [1.0]]))
    formula = as_initial(lambda th, u: th.k * (1.0 + u), fed, 1, ())
    plan = Schedule([[Dose("at", 5.0, duration="k")]], fed.spec, (), 1)
    observe = function("observe", lambda t, y, th, u: y * u * th.k, fed, None, ("t", "y", "th", "u"))
    check(Experiment(fed, [OFF], formula, plan, observe, signal, **FINE))


def test_other_times_of_the_same_experiment():
    ex = experiment(decay, T, [Dose(1.0, 6.0, rate=2.0)])
    other = ex.take([np.array([0.6, 5.0])])
    assert other.rows[-1] == 2
    np.testing.assert_allclose(
        other.run(decay.init(), np.zeros((1, 1))).value[:, 0], 2 * infused(np.array([0.6, 5.0]), 1.0, 4.0), atol=1e-9
    )


def test_nothing_but_what_is_asked_for():
    course = experiment(decay, T, [Dose(1.0, 5.0)]).run(decay.init(), np.zeros((1, 1)), derivatives=False)
    assert course.jacobian is None
    assert course.states_jacobian is None
    assert course.nfe > 0
