"""Times that are dates: as numbers, in models and their files, and back."""

import datetime

import numpy as np
import pytest

import pynode as pn
from pynode.data.clock import Clock
from pynode.data.instants import NotADate, as_instants

pd = pytest.importorskip("pandas")

N = 30
HOURS = pd.date_range("2024-03-30 18:00", periods=N, freq="h")
STATES = 20 + 10 * np.exp(-np.arange(N) / 10.0)
LOCAL = HOURS.tz_localize("Europe/Madrid", nonexistent="shift_forward").drop_duplicates()  # summer time begins at 2:00

KINDS = {
    **{f"datetime64[{unit}]": HOURS.to_numpy().astype(f"datetime64[{unit}]") for unit in ("ns", "us", "ms", "s", "m", "h")},
    "index": HOURS,
    "column": pd.Series(HOURS),
    "UTC": pd.Series(HOURS.tz_localize("UTC")),
    "fixed offset": pd.Series(HOURS.tz_localize(datetime.timezone(datetime.timedelta(hours=-3.5)))),
    "timedelta": pd.Series(HOURS - HOURS[0]),
    "timedelta64[m]": (HOURS - HOURS[0]).to_numpy().astype("timedelta64[m]"),
    "text": pd.Series(HOURS.strftime("%Y-%m-%d %H:%M")),
    "text with T": list(HOURS.strftime("%Y-%m-%dT%H:%M:%S")),
    "text with slashes": pd.Series(HOURS.strftime("%Y/%m/%d %H:%M")),
    "text with Z": list(HOURS.strftime("%Y-%m-%dT%H:%M:%SZ")),
    "text with offset": list(HOURS.strftime("%Y-%m-%d %H:%M:%S+0200")),
    "objects": pd.Series(HOURS.to_pydatetime(), dtype=object),
    "list of datetime": list(HOURS.to_pydatetime()),
    "list of Timestamp": list(HOURS),
    "list of numpy.datetime64": list(HOURS.to_numpy()),
    "list of timedelta": list((HOURS - HOURS[0]).to_pytimedelta()),
    "period": pd.Series(HOURS.to_period("h")),
    "category": pd.Series(HOURS).astype("category"),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind(name):
    dates = KINDS[name]
    frame = pd.DataFrame({"time": dates, "level": STATES})
    for data in (pn.Trajectories.from_arrays(dates, STATES), pn.Trajectories.from_frame(frame, "time", "level")):
        assert data.t[0].tolist() == list(range(N))
        assert data.clock.unit == "h" and data.clock.kind == ("durations" if "timedelta" in name else "dates")
        back = data.clock.to_dates(data.t[0])
        again = pn.Trajectories.from_arrays(back, STATES)
        assert again.clock == data.clock and (again.t[0] == data.t[0]).all()
        np.testing.assert_array_equal(data.clock.to_numbers(dates), np.arange(N))
        assert Clock.from_dict(data.clock.to_dict()) == data.clock


def test_summer_time():
    hours = (LOCAL - LOCAL[0]).total_seconds() / 3600
    data = pn.Trajectories.from_arrays(LOCAL, np.arange(len(LOCAL)))
    np.testing.assert_array_equal(data.t[0], hours)
    assert data.clock.timezone == "Europe/Madrid"
    assert (pd.to_datetime(data.clock.to_dates(data.t[0])) == LOCAL).all()
    assert data.clock.to_text([7, 8])[1] == "2024-03-31 03:00+02:00"
    np.testing.assert_array_equal(data.clock.to_numbers(["2024-03-31 01:00", "2024-03-31 03:00"]), [7, 8])  # local times


@pytest.mark.parametrize(
    "step, unit",
    [("1D", "d"), ("7D", "d"), ("3h", "h"), ("1h", "h"), ("59min", "min"), ("10s", "s"), ("20ms", "s"), ("YS", "d")],
)
def test_the_unit_is_chosen_by_the_median_step(step, unit):
    data = pn.Trajectories.from_arrays(pd.date_range("2024-01-01", periods=9, freq=step), np.arange(9.0))
    assert data.clock.unit == unit


@pytest.mark.parametrize(
    "name, factor", [("min", 60), ("seconds", 3600), ("days", 1 / 24), ("week", 1 / 168), ("ms", 3.6e6)]
)
def test_the_unit_is_given(name, factor):
    data = pn.Trajectories.from_arrays(HOURS, STATES, time_unit=name)
    np.testing.assert_allclose(data.t[0], np.arange(N) * factor, rtol=1e-15)
    with pytest.raises(ValueError, match="time_unit='fortnight' is not one of"):
        pn.Trajectories.from_arrays(HOURS, STATES, time_unit="fortnight")
    with pytest.raises(ValueError, match="holds numbers"):
        pn.Trajectories.from_arrays(np.arange(N), STATES, time_unit=name)


def test_several_trajectories_have_one_origin():
    frame = pd.DataFrame({"when": [*HOURS[5:10], *HOURS[:5]], "who": list("aaaaabbbbb"), "level": STATES[:10]})
    data = pn.Trajectories.from_frame(frame, "when", "level", id="who")
    assert [t.tolist() for t in data.t] == [[5, 6, 7, 8, 9], [0, 1, 2, 3, 4]]
    ragged = pn.Trajectories.from_arrays([HOURS[5:10], HOURS[:5]], [STATES[:5], STATES[5:10]])
    assert [t.tolist() for t in ragged.t] == [[5, 6, 7, 8, 9], [0, 1, 2, 3, 4]]
    assert data.take([1]).clock == data.rows(0, 2).clock == data.clock


def test_small_and_large_steps_come_back():
    fine = pd.date_range("2024-01-01", periods=5, freq="100ns")
    data = pn.Trajectories.from_arrays(fine, np.arange(5), time_unit="us")
    np.testing.assert_allclose(data.t[0], np.arange(5) / 10, rtol=1e-12)
    assert (data.clock.to_dates(data.t[0]) == fine.to_numpy()).all()
    old = np.array(["0900-01-01", "1500-06-01", "2900-01-01"], dtype="datetime64[D]")
    data = pn.Trajectories.from_arrays(old, np.arange(3))
    assert (data.clock.to_dates(data.t[0]) == old).all()


@pytest.mark.parametrize(
    "dates, message",
    [
        ([*HOURS[:3], pd.NaT], r"t\[3\] is missing \(NaT\)"),
        (np.array(["2024-01-01", "NaT"], "datetime64[D]"), r"t\[1\] is missing \(NaT\)"),
        (["2024-01-01", ""], r"t\[1\] is missing \(blank\)"),
        (["2024-01-01", "2024-13-01"], r"t\[1\] is '2024-13-01', neither"),
        ([datetime.time(1), datetime.time(2)], "time of the day"),
        ([HOURS[0], HOURS[1].tz_localize("UTC")], "do not mix"),
        ([HOURS[0], 1.0], r"t\[1\] is 1\.0, no date, where others are"),
        (np.array([1, 2], "timedelta64[M]"), "no fixed length"),
        (HOURS[[0, 2, 1]], "must increase strictly"),
    ],
)
def test_mistakes(dates, message):
    with pytest.raises(ValueError, match=message):
        pn.Trajectories.from_arrays(dates, np.arange(len(dates)))


@pytest.mark.parametrize(
    "dates, missing",
    [
        (["2024-01-01", ""], True),
        ([HOURS[0], None], True),
        (np.array(["2024-01-01", "NaT"], "datetime64[D]"), True),
        (["2024-01-01", "missing"], False),
    ],
)
def test_an_entry_that_is_no_date_says_whether_there_is_one(dates, missing):
    with pytest.raises(NotADate) as error:
        as_instants(dates, texts=True)
    assert error.value.index == 1
    assert error.value.missing is missing


def test_the_row_of_a_date_that_is_missing(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("# logger\ntime,level\n2024-03-01,1\n\n,2\n2024-03-03,3\n")
    with pytest.raises(ValueError, match=r"line 5: the time 'time' is missing"):
        pn.read_csv(file, "time", "level")


def test_dates_that_are_the_index():
    frame = pd.DataFrame({"level": STATES}, index=HOURS.rename("time"))
    assert pn.Trajectories.from_frame(frame, "time", "level").t[0].tolist() == list(range(N))


# ---- Models


@pytest.fixture(scope="module")
def model():
    times = HOURS.tz_localize("UTC").tz_convert("Europe/Rome")
    frame = pd.DataFrame({"time": times, "level": STATES})
    return pn.NeuralODE(hidden=(), random_state=0).fit(frame, time="time", state="level")


def test_predictions_at_dates(model, tmp_path):
    later = ["2024-04-01 00:00", "2024-04-01T06:00"]
    hours = model.clock_.to_numbers(later)
    expected = model.predict(hours)
    model.save(tmp_path / "m.npz")
    model.save(tmp_path / "bare.npz", data=False)
    for one in (model, pn.load(tmp_path / "m.npz")):
        np.testing.assert_array_equal(one.predict(later), expected)
        np.testing.assert_array_equal(one.predict(pd.DatetimeIndex(later).tz_localize("Europe/Rome")), expected)
        np.testing.assert_array_equal(
            one.predict([datetime.datetime(2024, 4, 1), datetime.datetime(2024, 4, 1, 6)]), expected
        )
    bare = pn.load(tmp_path / "bare.npz")
    assert bare.clock_ == model.clock_
    start = [25.0]
    np.testing.assert_array_equal(bare.predict(later, start), model.predict(hours, start))
    np.testing.assert_array_equal(bare.vjp(later, start, [[0.0], [1.0]]).y0, model.vjp(hours, start, [[0.0], [1.0]]).y0)
    np.testing.assert_array_equal(bare.derivative(later[0], start), model.derivative(start))


def test_scores_at_dates(model):
    days = ["2025-01-01 00:00", "2025-01-01 01:00", "2025-01-01 02:00"]
    Y = [30.0, 29.0, 28.0]
    hours = model.clock_.to_numbers(days)
    assert model.score(days, Y) == model.score(hours, Y)
    np.testing.assert_array_equal(model.initial_states(days, Y), model.initial_states(hours, Y))
    other = pn.Trajectories.from_arrays(days, Y, time_unit="min")  # by a clock of its own: without a timezone
    assert model.score(other, None) == model.score(hours, Y)


def test_dates_of_another_kind(model):
    with pytest.raises(TypeError, match="t holds durations, but the times of the data were dates"):
        model.predict(np.array([1, 2], "timedelta64[h]"))
    plain = pn.NeuralODE(hidden=(), random_state=0).fit(HOURS, STATES)
    with pytest.raises(TypeError, match="t has the timezone UTC, the times of the data had none"):
        plain.predict(HOURS.tz_localize("UTC"))


@pytest.mark.parametrize(
    "stored",
    [
        {"origin": "yesterday", "unit": "h", "timezone": None},
        {"origin": "NaT", "unit": "h", "timezone": None},
        {"origin": 5, "unit": "h", "timezone": None},
        {"origin": None, "unit": "furlong", "timezone": None},
        {"origin": None, "unit": "h", "timezone": "../../etc/passwd"},
        {"origin": None, "unit": "h", "timezone": "Mars/Olympus"},
        {"unit": "h"},
        None,
    ],
)
def test_clocks_of_files_are_not_trusted(stored):
    with pytest.raises((ValueError, TypeError, KeyError)):
        Clock.from_dict(stored)
