"""Data that cannot be meant so: each is refused with words that say where, and what else may have been meant."""

import datetime

import numpy as np
import pandas as pd
import pytest

import pynode as pn
from pynode.data.cells import Writing
from pynode.data.clock import Clock
from pynode.data.instants import Instants
from pynode.data.tables import Columns, TableError

T = np.arange(4.0)
Y = np.stack([T, T**2], axis=1)


def frame(**changes):
    return pd.DataFrame({"time": T, "x": Y[:, 0], "v": Y[:, 1]} | changes)


# ---- trajectories


def test_trajectories_that_do_not_fit_together():
    cases = [
        ({"t": (), "y": ()}, "at least one; got 0 and 0"),
        ({"t": (T, T), "y": (Y,)}, "as many arrays of times as of states, and at least one; got 2 and 1"),
        ({"t": (T,), "y": (Y,), "ids": ("a", "b")}, "there are 1 trajectories, but 2 ids"),
        ({"t": (T[:3],), "y": (Y,)}, r"the trajectory: t must have shape \(T,\) and y \(T, 2\), got \(3,\) and \(4, 2\)"),
        ({"t": (T, T[:0]), "y": (Y, Y[:0])}, "trajectory 1 is empty"),
        ({"t": (T,), "y": (np.where(Y == 9, np.inf, Y),)}, "the trajectory: v is infinite at time = 3; write NaN where"),
        ({"t": (T,), "y": (Y,), "censored": (np.full((4, 2), 2),)}, "censored must hold 1, 0 or -1 for each entry of y"),
        ({"t": (T,), "y": (Y,), "censored": (np.zeros((3, 2)),)}, "censored must hold 1, 0 or -1 for each entry of y"),
        ({"t": (T,), "y": (Y,), "doses": ((), ())}, "there are 1 trajectories, but doses of 2"),
        (
            {"t": (T,), "y": (Y,), "covariates": np.ones((1, 2)), "covariate_names": ("weight",)},
            r"names need \(1, 1\)",
        ),
        ({"t": (T,), "y": (Y,), "signal": pn.Signal([T, T], [T[:, None]] * 2)}, "1 trajectories, but control inputs for 2"),
    ]
    for keys, words in cases:
        with pytest.raises(ValueError, match=words):
            pn.Trajectories(**({"names": ("x", "v"), "time_name": "time"} | keys))


def test_arrays_that_do_not_fit_together():
    for args, keys, words in [
        (([T, T], Y), {}, "t has the times of 2 trajectories, Y has 1"),
        ((T, Y), {"names": ("x", "x")}, r"names must be 2 different names, one for each state; got \('x', 'x'\)"),
        ((T, Y), {"names": ("x",)}, "names must be 2 different names"),
        (([T[:3]], [Y]), {}, r"trajectory 0: t has shape \(3,\), so Y must have 3 rows; it has 4"),
        ((T, np.zeros((2, 2, 2, 2))), {}, r"Y must have shape \(T,\), \(T, d\) or \(B, T, d\), or be a list of arrays; got"),
        (([], np.zeros((0, 3, 2))), {}, "Y holds no trajectories"),
        (([T, T], [Y, Y[:, :1]]), {}, r"trajectory 1 of Y has shape \(4, 1\); all must be \(T_i, d\) with one d >= 1"),
    ]:
        with pytest.raises(ValueError, match=words):
            pn.Trajectories.from_arrays(*args, **keys)


def test_masked_and_odd_arrays():
    masked = np.ma.masked_greater(T, 2.5)
    with pytest.raises(ValueError, match="masked entries: fill them, or leave those samples out"):
        pn.solve(lambda t, y: -y, masked, [0.0, 1.0])
    with pytest.raises(ValueError, match="Y has masked entries"):
        pn.Trajectories.from_arrays(T, np.ma.masked_greater(Y, 8.0))


# ---- tables


def test_columns_of_a_table():
    with pytest.raises(TableError, match="name at least one column of states"):
        Columns.of("time", (), None, None)
    with pytest.raises(TableError, match="column 'x' is named twice"):
        pn.Trajectories.from_frame(frame(), "time", ["x", "x"])
    twice = frame().rename(columns={"v": "x"})
    with pytest.raises(TableError, match="more than one column 'x'; its columns are"):
        pn.Trajectories.from_frame(twice, "time", "x")
    with pytest.raises(TableError, match="has a header but no rows"):
        pn.Trajectories.from_frame(frame()[:0], "time", "x")


def test_rows_of_a_table():
    with pytest.raises(TableError, match="the time 'time' is missing or infinite"):
        pn.Trajectories.from_frame(frame(time=[0.0, np.nan, 2.0, 3.0]), "time", "x")
    with pytest.raises(TableError, match="the control input 'v' is missing or infinite"):
        pn.Trajectories.from_frame(frame(v=[0.0, 1.0, np.inf, 3.0]), "time", "x", input="v")
    with pytest.raises(TableError, match="time_unit='h' is for dates and durations; 'time' holds numbers"):
        pn.Trajectories.from_frame(frame(), "time", "x", time_unit="h")
    with pytest.raises(TableError, match="readings beyond a limit have no mean: replicates='keep' keeps them"):
        pn.Trajectories.from_frame(
            frame(time=[0.0, 0.0, 1.0, 2.0], x=["<1", "2", "3", "4"]), "time", "x", censored=True, replicates="average"
        )


# ---- cells


def test_how_numbers_are_written():
    for thousands in ("a", "12", "+"):
        with pytest.raises(ValueError, match=f"thousands={thousands!r} must be one sign".replace("+", r"\+")):
            Writing(thousands=thousands)
    with pytest.raises(ValueError, match="decimal and thousands are both ','"):
        Writing(decimal=",", thousands=",")
    assert Writing(thousands=".").decimal == ","
    with pytest.raises(ValueError, match=r"decimal=';' must be '\.' or ','"):
        Writing(decimal=";")


def test_cells_that_are_no_numbers():
    for cell, words in (
        (1j, "is complex: give real and imaginary parts as columns"),
        ("a", "'a'"),
        ([1], "is not a number"),
    ):
        with pytest.raises(TableError, match=words):
            pn.Trajectories.from_frame(frame(x=pd.Series([cell, 1.0, 2.0, 3.0], dtype=object)), "time", "x")
    for cell in ("inf", "-inf", "Infinity"):
        with pytest.raises(TableError, match="x is infinite at time = 0"):
            pn.Trajectories.from_frame(frame(x=[cell, "1", "2", "3"]), "time", "x")
    missing = pd.Series([None, pd.NA, "NA", 3.0], dtype=object)
    assert np.isnan(pn.Trajectories.from_frame(frame(x=missing), "time", "x").y[0][:3]).all()


# ---- dates


def clock():
    return Clock.of([Instants(np.array(["2024-01-01T00", "2024-01-01T06"], dtype="datetime64[us]"), None)], "h")


def test_dates_of_a_clock():
    hours = clock()
    assert hours.to_numbers([1.0, 2.0]).tolist() == [1.0, 2.0]
    assert hours.to_text(6.0) == ["2024-01-01 06:00"]
    assert hours.to_text([0.0, 24.0]) == ["2024-01-01", "2024-01-02"]
    with pytest.raises(ValueError, match=r"1e\+30 h is too long a time for a date"):
        hours.to_dates([0.0, 1e30])
    with pytest.raises(ValueError, match=r"t\[1\] is missing \(NaT\)"):
        hours.to_numbers([datetime.date(2024, 1, 2), None])
    assert hours.to_numbers([datetime.date(2024, 1, 2), datetime.date(2024, 1, 3)]).tolist() == [24.0, 48.0]
    with pytest.raises(ValueError, match=r"t\[1\] is missing \(NaT\)"):
        hours.to_numbers([np.datetime64("2024-01-01"), np.datetime64("NaT")])


def test_durations_as_text():
    steps = Clock.of([Instants(np.array([0, 90], dtype="timedelta64[m]").astype("timedelta64[us]"), None)], "min")
    assert steps.to_text([150.0, 1441.0]) == ["0 days 02:30:00", "1 days 00:01:00"]
    assert steps.to_text(1 / 120) == ["0 days 00:00:00.500000"]
    fine = Clock.of([Instants(np.array([0, 90], dtype="timedelta64[us]"), None)], "us")
    assert fine.to_text([90.0]) == ["90000 nanoseconds"]


def test_dates_of_another_format():
    days = frame(time=["1.2.2024", "2.2.2024", "3.2.2024", "2024-02-04"])
    with pytest.raises(TableError, match="'2024-02-04', which is not written as date_format="):
        pn.Trajectories.from_frame(days, "time", "x", date_format="%d.%m.%Y")


def test_dates_on_another_clock():
    first = pd.date_range("2024-01-01", periods=4, freq="h")
    data = pn.Trajectories.from_arrays(first, Y)
    later = pn.Trajectories.from_arrays(first + pd.Timedelta("1D"), Y)
    assert data.on(data.clock) is data
    assert later.on(data.clock).t[0].tolist() == [24.0, 25.0, 26.0, 27.0]
    with pytest.raises(TypeError, match="holds dates, but times of this model are numbers"):
        data.on(None)
    driven = pn.Trajectories.from_arrays(first + pd.Timedelta("1D"), Y, u=np.ones((4, 1)))
    with pytest.raises(ValueError, match="with control inputs or doses read the data with clock=, the model's clock_"):
        driven.on(data.clock)


# ---- control inputs


@pytest.mark.parametrize(
    "u, words",
    [
        (([0.0], [[1.0]]), "kind='linear' needs at least 2 knots, got 1"),
        (([0.0, 0.0], [[1.0], [2.0]]), "the knots must be finite and strictly increasing"),
        (([0.0, 1.0, 2.0], [[1.0], [2.0]]), r"knots of shape \(3,\) for values of shape \(2, 1\)"),
    ],
    ids=["one", "equal", "shapes"],
)
def test_knots(u, words):
    f = pn.field(state=1, inputs=1)(lambda t, y, u: -y + u)
    with pytest.raises(ValueError, match=words):
        pn.solve(f, [1.0], [0.0, 1.0], inputs=u)


def test_kinds_of_knots():
    with pytest.raises(ValueError, match="knots='round' is not one of"):
        pn.Signal(T, T[:, None], knots="round")
    with pytest.raises(ValueError, match="knots='smooth' is for inputs without jumps"):
        pn.Signal(T, T[:, None], kind="previous", knots="smooth")


def test_control_inputs_that_may_mean_two_things():
    data = ([T] * 3, [Y] * 3)
    for u, error, words in [
        (np.ones((3, 4)), ValueError, r"3 trajectories of 4 times: give u\[:, :, None\] if columns belong to times"),
        ([(T, T[:, None])] * 3, TypeError, "u is a list of tuples: give \\(list of times, list of values"),
        ([pn.Signal(T, T[:, None])] * 3, TypeError, "u is a list of Signals: give"),
        ([T, T[:3]], ValueError, "u is for 2 trajectories, there are 3"),
    ]:
        with pytest.raises(error, match=words):
            pn.Trajectories.from_arrays(*data, u=u)
    assert pn.Trajectories.from_arrays(*data, u=np.ones((3, 2))).signal.kind == "constant"
    assert pn.Trajectories.from_arrays(*data, u=np.ones((3, 4, 1))).signal.m == 1
