"""Dates and durations are refused wherever numbers are wanted: nothing reads them as a count of nanoseconds.

Times of measurements may be dates: test_clock.py.
"""

import datetime

import numpy as np
import pytest

import pynode as pn

pd = pytest.importorskip("pandas")

N = 6
HOURS = pd.date_range("2024-03-01", periods=N, freq="h")
STATES = np.exp(-np.arange(N) / 3.0)
DECAY = pn.field(state=1)(lambda t, y: -y)
DRIVEN = pn.field(state=1, inputs=1)(lambda t, y, u: u - y)
MODEL = pn.NeuralODE(hidden=(2,), max_iter=2, random_state=0).fit(np.arange(N), STATES)
CLASSIFIER = pn.NeuralODEClassifier(hidden=(2,), max_iter=2, random_state=0).fit(np.c_[STATES, STATES**2], np.arange(N) % 2)

COLUMNS = {
    **{f"datetime64[{unit}]": pd.Series(HOURS.astype(f"datetime64[{unit}]")) for unit in ("ns", "us", "ms", "s")},
    "tz": pd.Series(HOURS.tz_localize("Europe/Madrid")),
    "timedelta": pd.Series(HOURS - HOURS[0]),
    "text": pd.Series(HOURS.strftime("%Y-%m-%d %H:%M")),
    "days as text": pd.Series(pd.date_range("2024-03-01", periods=N).strftime("%Y-%m-%d")),
    "objects": pd.Series(HOURS.to_pydatetime(), dtype=object),
    "numpy objects": pd.Series(list(HOURS.to_numpy()), dtype=object),
    "days": pd.Series([d.date() for d in HOURS.to_pydatetime()], dtype=object),
    "timedelta objects": pd.Series(list((HOURS - HOURS[0]).to_pytimedelta()), dtype=object),
    "period": pd.Series(HOURS.to_period("h")),
    "category": pd.Series(HOURS).astype("category"),
    "NaT": pd.Series([pd.NaT] * N),
    "some NaT": pd.Series(HOURS).where(np.arange(N) > 0),
    "one among numbers": pd.Series([0.0, 1.0, 2.0, HOURS[3], 4.0, 5.0], dtype=object),
}
ARRAYS = {
    **{f"Series {name}": x for name, x in COLUMNS.items()},
    **{f"array {name}": x.to_numpy() for name, x in COLUMNS.items()},
    **{f"list {name}": list(x) for name, x in COLUMNS.items()},
    "DatetimeIndex": HOURS,
    "PeriodIndex": HOURS.to_period("h"),
    "list of numpy.datetime64": list(HOURS.to_numpy()),
    "timedelta64[s]": np.arange(N).astype("timedelta64[s]"),
    "numpy NaT": np.full(N, np.datetime64("NaT")),
    "times of the day": [datetime.time(hour) for hour in range(N)],
}


def table(time, **more):
    return pd.DataFrame({"time": time, "level": STATES} | more)


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_of_a_frame(name):
    dates = COLUMNS[name]
    read = pn.Trajectories.from_frame
    for column in ("state", "input"):
        with pytest.raises(ValueError, match=r"column 'when' of the table holds (dates|durations)"):
            read(table(np.arange(N), when=dates), "time", **({"state": "level"} | {column: "when"}))
    if name not in ("NaT", "some NaT", "one among numbers", "days"):
        with pytest.raises(TypeError, match=r"time holds (dates|durations), but times of this model are numbers"):
            pn.LatentODE(latent=2, max_iter=2).fit(table(dates), time="time", state="level")


@pytest.mark.parametrize("name", ["NaT", "some NaT", "one among numbers"])
def test_times_that_are_missing(name):
    message = (
        "row 3, column 'time': .*is not a number" if name == "one among numbers" else "row 0: the time 'time' is missing"
    )
    with pytest.raises(ValueError, match=message):
        pn.Trajectories.from_frame(table(COLUMNS[name]), "time", "level")


def test_the_remedy_of_the_message_works():
    df = table(np.arange(N), when=HOURS).rename(columns={"time": "t", "when": "time"})
    with pytest.raises(ValueError) as caught:
        pn.Trajectories.from_frame(df, "t", "time")
    remedy = str(caught.value).split("since the start: ")[1].split("; ")[0]
    hours = eval(remedy, {"df": df})
    data = pn.Trajectories.from_frame(df.assign(time=hours), "t", "time")
    assert data.y[0][:, 0].tolist() == list(range(N))


ENTRIES = {
    "solve t": lambda x: pn.solve(DECAY, [1.0], x),
    "solve y0": lambda x: pn.solve(pn.mlp(N, (2,)), x, [0.0, 1.0], pn.mlp(N, (2,)).init(0)),
    "solve theta": lambda x: pn.solve(
        pn.field(state=1, theta={"k": (N,)})(lambda t, y, th: -y * th.k[0]), [1.0], [0.0, 1.0], x
    ),
    "solve grid": lambda x: pn.solve(DECAY, [1.0], [0.0, 1.0], method="rk4", grid=x),
    "solve atol": lambda x: pn.solve(pn.mlp(N, (2,)), np.ones(N), [0.0, 1.0], pn.mlp(N, (2,)).init(0), atol=x),
    "own times": lambda x: pn.solve(DECAY, [[1.0], [2.0]], [x, x]),
    "inputs t": lambda x: pn.solve(DRIVEN, [1.0], [0.0, 1.0], inputs=(x, np.ones((N, 1)))),
    "inputs u": lambda x: pn.Signal(np.arange(N), np.asarray(x)[:, None]),
    "signal called": lambda x: pn.Signal(np.arange(N), np.ones((N, 1)))(x),
    "odeint t": lambda x: pn.odeint(lambda t, y: -y, np.ones(1), x),
    "loss_and_grad t": lambda x: pn.loss_and_grad(DECAY, [1.0], x, None, STATES[:, None]),
    "loss_and_grad target": lambda x: pn.loss_and_grad(DECAY, [1.0], np.arange(N), None, np.asarray(x)[:, None]),
    "Objective weight": lambda x: pn.Objective(DECAY, [1.0], np.arange(N), STATES[:, None], weight=np.asarray(x)[:, None]),
    "sensitivities t": lambda x: pn.sensitivities(DECAY, [1.0], x),
    "dense": lambda x: pn.solve(DECAY, [1.0], [0.0, 10.0], dense=True)(x),
    "field t": lambda x: DECAY(x, np.ones((N, 1))),
    "vjp": lambda x: pn.solve(DECAY, [1.0], np.arange(N)).vjp(np.asarray(x)[:, None]),
    "Trajectories y": lambda x: pn.Trajectories.from_arrays(np.arange(N), x),
    "score t": lambda x: MODEL.score(x, STATES),
    "initial states t": lambda x: MODEL.initial_states(x, STATES),
    "derivative t": lambda x: MODEL.derivative(x, STATES[:, None]),
    "vjp of a model": lambda x: MODEL.vjp(x, [1.0], STATES[:, None]),
    "fit Y": lambda x: pn.NeuralODE(hidden=(2,), max_iter=2).fit(np.arange(N), x),
    "fit u": lambda x: pn.NeuralODE(hidden=(2,), max_iter=2).fit(np.arange(N), STATES, u=x),
    "fit weight": lambda x: pn.NeuralODE(hidden=(2,), max_iter=2).fit(np.arange(N), STATES, weight=x),
    "fit of a LatentODE": lambda x: pn.LatentODE(latent=2, max_iter=2).fit(x, STATES),
    "predict t": lambda x: MODEL.predict(x, [1.0]),
    "predict on": lambda x: MODEL.predict(x),
    "classifier X": lambda x: pn.NeuralODEClassifier(max_iter=2).fit(pd.DataFrame({"a": STATES, "b": x}), np.arange(N) % 2),
    "classifier trajectories": lambda x: CLASSIFIER.trajectories(np.c_[STATES, STATES**2], x),
    "regressor y": lambda x: pn.NeuralODERegressor(max_iter=2).fit(np.c_[STATES, STATES**2], x),
    "CNF X": lambda x: pn.CNF(max_iter=2).fit(pd.DataFrame({"a": STATES, "b": x})),
    "gradient matching": lambda x: pn.fit.gradient_matching(DECAY, x, STATES),
    "multiple shooting": lambda x: pn.fit.multiple_shooting(DECAY, x, STATES),
    "credit": lambda x: pn.control.credit(DECAY, x, STATES[:, None], None, [1.0]),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry(entry):
    accepted = []
    for name, x in ARRAYS.items():
        try:
            ENTRIES[entry](x)
        except (TypeError, ValueError) as error:
            if not any(word in str(error) for word in ("date", "duration")):
                accepted.append((name, str(error)))
        else:
            accepted.append((name, "accepted"))
    assert not accepted


@pytest.mark.parametrize("x", [np.timedelta64(5, "ns"), np.timedelta64(1, "h"), datetime.timedelta(1), pd.Timedelta("1h")])
@pytest.mark.parametrize("option", ["step", "first_step", "max_step", "rtol"])
def test_options(option, x):
    more = {"method": "rk4"} if option == "step" else {}
    with pytest.raises(TypeError, match=option):
        pn.solve(DECAY, [1.0], [0.0, 1.0], **{option: x}, **more)


@pytest.mark.parametrize(
    "text, message",
    [
        ("10:30", r"is a time of the day \(10:30\) without a date.*hours since"),
        ("01.03.2024 10:30", r"date_format='%d\.%m\.%Y %H:%M' would read it"),
        ("01/03/2024", "date_format='%d/%m/%Y' or '%m/%d/%Y' would read it"),
        ("2024-02-30", "neither a number nor a date"),
        ("noon", "'noon' is not a number"),
    ],
)
def test_csv(tmp_path, text, message):
    file = tmp_path / "data.csv"
    file.write_text(f"time,level\n{text},1\n{text},2\n")
    with pytest.raises(ValueError, match=rf"line 2, column 'time'.*{message}"):
        pn.read_csv(file, "time", "level")


@pytest.mark.parametrize("dtype", [bool, "boolean", "Int64", "float32", object, "category", str])
def test_other_columns_of_numbers(dtype):
    numbers = pd.Series(np.arange(N) % 2).astype(dtype)
    if dtype in (str, "category"):
        numbers = pd.Series(np.arange(N)).astype(dtype)
    data = pn.Trajectories.from_frame(table(np.arange(N), x=numbers), "time", "x")
    assert data.y[0][:, 0].tolist() == [float(x) for x in numbers]


def test_complex_columns():
    with pytest.raises(ValueError, match="column 'x' of the table holds complex numbers"):
        pn.Trajectories.from_frame(table(np.arange(N), x=np.ones(N) * 1j), "time", "x")
    with pytest.raises(TypeError, match="complex"):
        pn.solve(DECAY, [1.0], np.arange(N) * 1j)


# ---- Ids


def ids(values):
    return pd.DataFrame({"t": [0.0, 1.0] * (len(values) // 2), "y": np.arange(float(len(values))), "who": values})


@pytest.mark.parametrize(
    "missing",
    [
        pd.Series([1.0, 1.0, np.nan, np.nan]),
        pd.Series(["a", "a", None, None], dtype=object),
        pd.Series(["a", "a", "", ""]),
        pd.Series(["a", "a", "  ", "\t"]),
        pd.Series([1, 1, pd.NA, pd.NA], dtype="Int64"),
        pd.Series([HOURS[0], HOURS[0], pd.NaT, pd.NaT]),
        pd.Series(["a", "a", np.nan, np.nan], dtype="category"),
    ],
)
def test_ids_that_are_missing(missing):
    with pytest.raises(ValueError, match="rows 2, 3: the id 'who' is missing"):
        pn.Trajectories.from_frame(ids(missing), "t", "y", id="who")


@pytest.mark.parametrize("a, b", [("1", 1.0), ("1", 1), ("a", "a "), ("1.0", "1"), (" x", "x")])
def test_ids_that_differ_in_their_spelling_only(a, b):
    with pytest.raises(ValueError, match=r"row 2: the ids .* differ in how they are written"):
        pn.Trajectories.from_frame(ids(pd.Series([a, a, b, b], dtype=object)), "t", "y", id="who")


@pytest.mark.parametrize(
    "values", [["a", "b"], [1.0, 2.0], [1.5, 1.25], [1, 2], ["01", "1"], [HOURS[0], HOURS[1]], [True, False]]
)
def test_ids_that_differ(values):
    data = pn.Trajectories.from_frame(ids(pd.Series(np.repeat(np.array(values, object), 2))), "t", "y", id="who")
    assert list(data.ids) == values


@pytest.mark.parametrize("blank", ["", "  ", "NA", "nan"])
def test_ids_that_are_missing_in_a_file(tmp_path, blank):
    file = tmp_path / "data.csv"
    file.write_text(f"who,t,y\na,0,1\na,1,2\n{blank},0,3\n{blank},1,4\n")
    with pytest.raises(ValueError, match="lines 4, 5: the id 'who' is missing"):
        pn.read_csv(file, "t", "y", id="who")


def test_ids_that_differ_in_their_spelling_only_in_a_file(tmp_path):
    file = tmp_path / "data.csv"
    file.write_text("who,t,y\n1,0,1\n1,1,2\n1.0,2,3\n")
    with pytest.raises(ValueError, match=r"line 4: the ids '1' and '1\.0'"):
        pn.read_csv(file, "t", "y", id="who")
