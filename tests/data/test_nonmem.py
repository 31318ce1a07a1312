"""Tables in NONMEM's form: readings, doses, covariates."""

import numpy as np
import pytest

import pynode as pn

pd = pytest.importorskip("pandas")

ORAL = """ID,TIME,AMT,DV,EVID,CMT,RATE,II,ADDL,MDV,SS,WT,SEX,CR,STUDY
1,0,320,.,1,1,0,12,2,1,0,79.6,1,0.9,A
1,0.5,.,1.5,0,2,.,.,.,0,.,79.6,1,1.1,A
1,1,0,2.5,0,2,0,0,0,0,0,79.6,1,0.9,A
1,2,0,7.5,0,2,0,0,0,1,0,79.6,1,0.9,A
2,0,0,0.2,0,2,0,0,0,0,0,70,0,0.9,A
2,1,100,.,1,2,50,0,0,1,0,70,0,0.9,A
2,1.5,.,.,2,2,.,.,.,1,.,70,0,0.9,A
2,3,80,.,4,1,0,0,0,1,0,70,0,0.9,A
2,4,.,3.5,0,2,.,.,.,0,.,70,0,0.9,A
2,5,.,.,3,.,.,.,.,1,.,70,0,0.9,A
"""


@pytest.fixture
def write(tmp_path):
    def made(text, name="pk.csv"):
        file = tmp_path / name
        file.write_text(text)
        return file

    return made


def changed(**cells):
    """ORAL with cells of its first row replaced."""
    lines = ORAL.splitlines()
    row = dict(zip(lines[0].split(","), lines[1].split(","), strict=True)) | cells
    return "\n".join([lines[0], ",".join(row.values()), *lines[2:]]) + "\n"


def check(data):
    assert data.ids == ("1", "2") or data.ids == (1, 2)
    assert data.names == ("conc",) and data.time_name.lower() == "time" and data.id_name.lower() == "id"
    assert [t.tolist() for t in data.t] == [[0.5, 1], [0, 4]]
    assert [y[:, 0].tolist() for y in data.y] == [[1.5, 2.5], [0.2, 3.5]]
    assert data.doses == (
        ({"time": 0.0, "amount": 320.0, "state": 0, "interval": 12.0, "count": 3},),
        (
            {"time": 1.0, "amount": 100.0, "state": 1, "rate": 50.0},
            {"time": 3.0, "kind": "reset"},
            {"time": 3.0, "amount": 80.0, "state": 0},
            {"time": 5.0, "kind": "reset"},
        ),
    )
    for dose in (dose for own in data.doses for dose in own):
        pn.Dose(**dose)
    assert data.covariate_names == ("WT", "SEX") or data.covariate_names == ("wt", "sex")
    assert data.covariates.tolist() == [[79.6, 1], [70, 0]]


def test_a_file(write):
    check(pn.read_nonmem(write(ORAL), "conc", covariates=["WT", "SEX"]))
    comma = ORAL.replace(",", ";").replace(".", ",").replace(";,;", ";.;").replace(";,;", ";.;")  # 79,6 and . for nothing
    check(pn.read_nonmem(write(comma), "conc", covariates=["WT", "SEX"]))


def test_a_frame_and_names_in_any_case(write):
    frame = pd.read_csv(write(ORAL), na_values=".")
    check(pn.read_nonmem(frame, "conc", covariates=["WT", "SEX"]))
    check(pn.read_nonmem(frame.rename(columns=str.lower), "conc", covariates=["wt", "sex"]))
    check(pn.read_nonmem(write(ORAL.replace("ID,TIME", "Id,Time").replace("AMT", "Amt")), "conc", covariates=["WT", "SEX"]))
    shown = frame.rename(columns={"ID": "subject", "TIME": "hours", "DV": "level"})
    data = pn.read_nonmem(shown, "conc", time="hours", id="subject", value="level", covariates="WT")
    assert data.covariate_names == ("WT",) and data.id_name == "subject" and data.time_name == "hours"


def test_doses_without_evid():
    frame = pd.DataFrame({"ID": 1, "TIME": [0, 1, 2, 3], "AMT": [10, 0, 5, 0], "DV": [0, 3, 0, 4.0], "TINF": [0, 0, 2, 0]})
    data = pn.read_nonmem(frame)
    assert data.names == ("DV",) and data.t[0].tolist() == [1, 3]
    assert data.doses[0] == ({"time": 0, "amount": 10, "state": 0}, {"time": 2, "amount": 5, "state": 0, "duration": 2})
    assert data.covariates is None and data.covariate_names == ()


def test_several_quantities(write):
    rows = "ID,TIME,DV,DVID,AMT\n1,0,.,1,5\n1,1,2,1,.\n1,1,20,2,.\n1,2,30,2,.\n1,1,2.5,1,.\n"
    with pytest.raises(pn.TableError, match="the time 'TIME' goes back for ID '1'"):
        pn.read_nonmem(write(rows), ["conc", "effect"])
    rows = "ID,TIME,DV,DVID,AMT\n1,0,.,1,5\n1,1,2,1,.\n1,1,20,2,.\n1,1,2.5,1,.\n1,2,30,2,.\n"
    data = pn.read_nonmem(write(rows), ["conc", "effect"])
    assert data.repeated and data.t[0].tolist() == [1, 1, 2]
    np.testing.assert_array_equal(data.y[0], [[2, 20], [2.5, np.nan], [np.nan, 30]])
    mean = pn.read_nonmem(write(rows), replicates="average")
    assert mean.names == ("DV1", "DV2") and mean.y[0][0].tolist() == [2.25, 20]
    with pytest.raises(pn.TableError, match="several readings of one quantity at one time"):
        pn.read_nonmem(write(rows), ["conc", "effect"], replicates="refuse")
    with pytest.raises(pn.TableError, match=r"readings of 2 quantities .* state names 3"):
        pn.read_nonmem(write(rows), ["a", "b", "c"])


def test_censored_readings(write):
    rows = "ID,TIME,DV,AMT,CENS\n1,0,.,5,0\n1,1,2,.,0\n1,2,0.1,.,1\n"
    assert pn.read_nonmem(write(rows)).censored[0].tolist() == [[0], [1]]
    rows = "ID,TIME,DV,AMT\n1,0,.,5\n1,1,2,.\n1,2,<0.1,.\n"
    with pytest.raises(pn.TableError, match=r"line 4, column 'DV': '<0\.1' is a reading beyond a limit"):
        pn.read_nonmem(write(rows))
    data = pn.read_nonmem(write(rows), censored=True)
    assert data.censored[0].tolist() == [[0], [1]] and data.y[0][:, 0].tolist() == [2, 0.1]


def test_dates(write):
    rows = "ID,TIME,DV,AMT\n1,2024-03-01 08:00,.,5\n1,2024-03-01 09:00,2,.\n1,2024-03-01 11:00,1,.\n"
    data = pn.read_nonmem(write(rows))
    assert data.clock.unit == "h" and data.t[0].tolist() == [1, 3] and data.doses[0][0]["time"] == 0


def test_readings_after_a_dose_at_its_time(write):
    with pytest.warns(pn.TableWarning, match="line 3: a reading of ID '1' stands after a dose at the same time, 0"):
        pn.read_nonmem(write("ID,TIME,DV,AMT\n1,0,.,5\n1,0,2,.\n1,1,1,.\n"))
    pn.read_nonmem(write("ID,TIME,DV,AMT\n1,0,2,.\n1,0,.,5\n1,1,1,.\n"))


@pytest.mark.parametrize("name", ["RATE", "DUR", "TINF"])
def test_readings_where_an_infusion_begins(write, name):
    """Just before and just after are the same: nothing is warned of."""
    data = pn.read_nonmem(write(f"ID,TIME,DV,AMT,{name}\n1,0,.,5,2\n1,0,2,.,.\n1,1,1,.,.\n"))
    assert data.doses[0][0]["rate" if name == "RATE" else "duration"] == 2


@pytest.mark.parametrize(
    "cells, message",
    [
        ({"SS": "1"}, r"line 2, column 'SS': a dose in steady state"),
        ({"RATE": "-2"}, r"line 2, column 'RATE': a rate or duration that is estimated"),
        ({"II": "0"}, "line 2, column 'ADDL': additional doses need the time between them"),
        ({"CMT": "-1"}, r"line 2, column 'CMT': a compartment that is turned off"),
        ({"AMT": "."}, "line 2, column 'AMT': EVID says that this is a dose"),
        ({"EVID": "7"}, "line 2, column 'EVID': 7 is none of 0 to 4"),
        ({"AMT": "much"}, "line 2, column 'AMT': 'much' is not a number"),
        ({"ID": "."}, "line 2: the id 'ID' is missing"),
        ({"TIME": "."}, "line 2: the time 'TIME' is missing"),
        ({"TIME": "9"}, "line 3: the time 'TIME' goes back for ID '1'"),
        ({"ID": "3"}, "ID '3' has no readings: leave it out"),
    ],
)
def test_what_is_refused(write, cells, message):
    with pytest.raises(pn.TableError, match=message):
        pn.read_nonmem(write(changed(**cells)))


def test_columns_that_are_missing(write):
    with pytest.raises(pn.TableError, match="no column 'TIME'"):
        pn.read_nonmem(write("ID,T,DV\n1,0,1\n"))
    with pytest.raises(pn.TableError, match="differ in their case only"):
        pn.read_nonmem(write("ID,TIME,DV,AMT,amt\n1,0,1,0,0\n"))
    with pytest.raises(pn.TableError, match="the covariate 'CR' of ID '1' is not one number"):
        pn.read_nonmem(write(ORAL), covariates=["CR"])
    with pytest.raises(pn.TableError, match=r"line 2, column 'STUDY': 'A' is not a number"):
        pn.read_nonmem(write(ORAL), covariates=["STUDY"])


def test_a_fit_and_its_file(write, tmp_path):
    times = np.array([0.5, 1.0, 2.0, 4.0, 6.0, 9.0])
    amounts = {1: 100.0, 2: 150.0}
    rows = [f"{i},0,{a},.,70" for i, a in amounts.items()]
    rows += [f"{i},{t},0,{a / 20 * np.exp(-0.3 * t):.6f},70" for i, a in amounts.items() for t in times]
    rows.sort(key=lambda row: row.split(",")[0])
    data = pn.read_nonmem(write("ID,TIME,AMT,DV,WT\n" + "\n".join(rows) + "\n"), "conc", covariates="WT")

    @pn.field(state=1, inputs=1, theta={"k": pn.positive(0.5), "V": pn.positive(10.0)})
    def decay(t, y, th, u):
        return [-th.k * y[0]]

    def level(t, y, th, u):
        return [70 * y[0] / (th.V * u[0])]

    model = pn.NeuralODE(field=decay, observe=level, initial=[0.0], random_state=0).fit(data)
    np.testing.assert_allclose(model.theta_, [0.3, 20.0], rtol=1e-3)
    model.save(tmp_path / "m.npz")
    stored = pn.load(tmp_path / "m.npz").data_
    assert stored.doses == data.doses and stored.signal.u[1].tolist() == [[70]]  # a covariate is a constant input in a fit
