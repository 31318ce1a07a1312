"""The command line at work on tables as people have them: dates, decimal commas, inputs to come, warnings."""

import argparse
import csv

import numpy as np
import pandas as pd
import pytest

import pynode as pn
from pynode.app import cli
from pynode.app.commands.arguments import by_flags
from pynode.app.commands.times import times

N = 48
HOURS = np.arange(N)
DATES = np.datetime64("2024-03-01T00:00") + HOURS.astype("timedelta64[h]")
LEVEL = 20 + 5 * np.exp(-HOURS / 10.0)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def log(where, name="log.csv", encoding="utf-8"):
    rows = [f"{t};{x:.4f}\n".replace(".", ",").replace("T", " ") for t, x in zip(DATES, LEVEL, strict=True)]
    (where / name).write_text("Logger 7\nZeit;T [°C]\n;°C\n" + "".join(rows), encoding=encoding)


FIT = [
    "fit",
    "log.csv",
    "--time",
    "Zeit",
    "--state",
    "T [°C]",
    "--hidden",
    "4",
    "--max-iter",
    "60",
    "--quiet",
    "-o",
    "m.npz",
]


def test_a_log_with_dates(here, capsys):
    log(here)
    assert cli.main([*FIT, "--strict"]) == 0
    captured = capsys.readouterr()
    assert "Zeit (h since 2024-03-01)" in captured.out and captured.err == ""
    assert cli.main(["predict", "m.npz", "--t", "2024-03-02/2024-03-03 12:00/12h", "--std"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    shown = ["2024-03-02 00:00", "2024-03-02 12:00", "2024-03-03 00:00", "2024-03-03 12:00"]
    assert [row["Zeit"] for row in rows] == shown
    values = [float(row["T [°C]"]) for row in rows]
    np.testing.assert_allclose(values, 20 + 5 * np.exp(-np.array([24, 36, 48, 60]) / 10), atol=0.01)
    assert cli.main(["predict", "m.npz", "--t", "24:60:12"]) == 0
    numbers = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["Zeit"] for row in numbers] == ["24", "36", "48", "60"]
    assert [float(row["T [°C]"]) for row in numbers] == values
    assert cli.main(["predict", "m.npz", "--t", "2024-02-01,2024-03-01"]) == 2
    assert "t must rise from 2024-03-01 or later, where the trajectory starts" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, start", [("p.png", b"\x89PNG"), ("p.pdf", b"%PDF-"), ("p.svg", b"<?xml"), ("P.SVG", b"<?xml")]
)
def test_pictures_are_what_they_say(here, capsys, name, start):
    log(here)
    assert cli.main(FIT) == 0
    arguments = ["predict", "m.npz", "--t", "2024-03-02/2024-03-05/6h", "--plot", name]
    assert cli.main(arguments) == 0
    first = (here / name).read_bytes()
    assert first.startswith(start)
    assert cli.main(arguments) == 0
    assert (here / name).read_bytes() == first
    assert cli.main([*arguments[:-1], "p.jpg"]) == 2
    assert "p.jpg must end in one of .png, .pdf, .svg" in capsys.readouterr().err and not (here / "p.jpg").exists()


def test_the_picture_shows_data_band_and_their_end(here, monkeypatch):
    from pynode.models import pages

    figures = []
    monkeypatch.setattr(pages, "image", lambda figure, path: figures.append(figure) or b"")
    log(here)
    assert cli.main(FIT) == 0
    assert cli.main(["predict", "m.npz", "--t", "2024-03-02/2024-03-05/6h", "--plot", "p.png"]) == 0
    (ax,) = figures[0].axes
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["data"].get_xdata().tolist() == HOURS.tolist()
    assert lines["model"].get_xdata()[[0, -1]].tolist() == [0, 96]
    assert lines["end of data"].get_xdata()[0] == 47
    assert "90 % band" in [part.get_label() for part in ax.collections]
    figures[0].canvas.draw()
    ticks = ax.get_xticks()
    labels = [tick.get_text() for tick in ax.get_xticklabels()]
    assert all(x % 24 == 0 or x % 12 == 0 for x in ticks)
    assert any(label in ("02", "03", "04") for label in labels) and ax.get_xlabel() == "Zeit"
    assert cli.main(["predict", "m.npz", "--t", "0:5:1", "--y0", "22", "--plot", "p.png"]) == 0
    assert {line.get_label() for line in figures[1].axes[0].lines} == {"model"}


def test_how_a_table_is_written_can_be_told(here, capsys):
    (here / "a.txt").write_bytes("t|x|who\ns|5|1\n0|1.234,5|a\n1|-99|a\n2|1.500,5|a\n".encode("utf-16-be"))
    told = [
        "--sep",
        "|",
        "--decimal",
        ",",
        "--thousands",
        ".",
        "--encoding",
        "utf-16-be",
        "--missing",
        "-99",
        "NV",
        "--units-row",
    ]
    data = []

    def fit(self, table, **options):
        data.append(table)
        raise pn.fit.FitError("enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pn.NeuralODE, "fit", fit)
        assert cli.main(["fit", "a.txt", "--time", "t", "--state", "x", *told]) == 2
    assert "enough" in capsys.readouterr().err
    np.testing.assert_array_equal(data[0].y[0][:, 0], [1234.5, np.nan, 1500.5])


@pytest.mark.parametrize(
    "flags, check",
    [
        (["--average"], lambda d: d.y[0][:, 0].tolist() == [2, 5]),
        (["--replicates"], lambda d: d.y[0][:, 0].tolist() == [1, 3, 5] and d.repeated),
        ([], None),
    ],
)
def test_replicates(here, flags, check):
    (here / "a.csv").write_text("t,x\n0,1\n0,3\n1,5\n")
    data = []

    def fit(self, table, **options):
        data.append(table)
        raise pn.fit.FitError("enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pn.NeuralODE, "fit", fit)
        assert cli.main(["fit", "a.csv", "--time", "t", "--state", "x", *flags]) == 2
    assert data == [] if check is None else check(data[0])


def test_wide_tables(here, capsys):
    (here / "a.csv").write_text("t,a,b\n" + "".join(f"{t},{np.exp(-t)},{2 * np.exp(-t)}\n" for t in np.linspace(0, 3, 20)))
    rest = ["--time", "t", "--state", "x", "--hidden", "4", "--max-iter", "30", "--quiet", "-o", "m.npz"]
    assert cli.main(["fit", "a.csv", *rest, "--wide"]) == 0
    assert "40 numbers in 2 trajectories" in capsys.readouterr().out
    assert pn.load("m.npz").data_.ids == ("a", "b")
    assert cli.main(["fit", "a.csv", *rest, "--wide", "b"]) == 0
    assert "20 numbers in 1 trajectory" in capsys.readouterr().out


def test_warnings_are_said_and_strict_is_strict(here, capsys):
    log(here, encoding="latin-1")
    assert cli.main(FIT) == 0
    assert "pynode: warning: log.csv is not in UTF-8" in capsys.readouterr().err
    assert cli.main([*FIT, "--strict"]) == 1
    assert "pynode: error: 1 warning with --strict" in capsys.readouterr().err
    assert cli.main([*FIT, "--strict", "--encoding", "latin-1"]) == 0
    (here / "wave.csv").write_text("t,x\n" + "".join(f"{t},{np.cos(t)}\n" for t in np.linspace(0, 12, 60)))
    arguments = [
        "fit",
        "wave.csv",
        "--time",
        "t",
        "--state",
        "x",
        "--hidden",
        "2",
        "--max-iter",
        "20",
        "--quiet",
        "-o",
        "w.npz",
    ]
    capsys.readouterr()
    assert cli.main(arguments) == 0
    said = capsys.readouterr().err
    warned = pn.load("w.npz").report_["warnings"]
    assert warned and said.count("pynode: warning: ") == len(warned)
    assert all(by_flags(" ".join(words.split()), pn.NeuralODE) in said for words in warned)
    (here / "w.npz").unlink()
    assert cli.main([*arguments, "--strict"]) == 1
    assert (here / "w.npz").exists()


def test_forecasts_with_inputs_to_come(here, capsys):
    t = np.arange(0, 20, 0.5)
    u = np.sin(t / 2)
    y = [1.0]
    for k in range(len(t) - 1):  # dy/dt = u - y, u linear in between
        y.append(float(pn.solve(DRIVEN, [y[-1]], t[k : k + 2], inputs=(t, u[:, None])).y[-1, 0]))
    (here / "a.csv").write_text("t,y,u\n" + "".join(f"{a},{b},{c}\n" for a, b, c in zip(t, y, u, strict=True)))
    rest = ["--time", "t", "--state", "y", "--input", "u", "--hidden", "4", "--max-iter", "60", "--quiet", "-o", "m.npz"]
    assert cli.main(["fit", "a.csv", *rest]) == 0
    capsys.readouterr()
    later = np.arange(20, 30.5, 0.5)
    (here / "future.csv").write_text("t;u\n" + "".join(f"{a};{np.sin(a / 2)}\n".replace(".", ",") for a in later))
    assert cli.main(["predict", "m.npz", "--t", "19:30:1", "--inputs", "future.csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    whole = np.append(t, later)
    exact = pn.solve(DRIVEN, [1.0], np.append(0.0, np.arange(19.0, 31)), inputs=(whole, np.sin(whole / 2)[:, None])).y[1:, 0]
    np.testing.assert_allclose([float(row["y"]) for row in rows], exact, atol=0.02)
    assert cli.main(["predict", "m.npz", "--t", "20:30:1", "--y0", "0.5", "--inputs", "future.csv"]) == 0
    assert cli.main(["predict", "m.npz", "--t", "20:40:1", "--inputs", "future.csv"]) == 2
    assert "control inputs end at t = 30, before the last time of --t" in capsys.readouterr().err
    assert cli.main(["predict", "m.npz", "--t", "20:40:1", "--y0", "1"]) == 2
    assert "leave --y0 out, or give --inputs" in capsys.readouterr().err


DRIVEN = pn.field(state=1, inputs=1)(lambda t, y, u: u - y)


@pytest.mark.parametrize(
    "text",
    ["2024-01-01/2024-01-02/fast", "2024-01-01/2024-01-02/0h", "2024-01-01/2024-01-02/", "2024-01-01/x/1h", "2024-01-01,3"],
)
def test_dates_that_are_none(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"must be a number above 0 and a unit|is neither"):
        times(text)


def test_dates_that_go_back(here, capsys):
    pn.NeuralODE(hidden=(), random_state=0).fit(DATES, LEVEL).save("m.npz")
    assert cli.main(["predict", "m.npz", "--t", "2024-03-02/2024-03-01/6h"]) == 2
    assert "error: --t: '2024-03-02/2024-03-01': STEP must lead from START to STOP" in capsys.readouterr().err


def test_dates_for_a_model_of_numbers(here, capsys):
    t = np.linspace(0, 3, 20)
    pn.NeuralODE(hidden=(), random_state=0).fit(t, np.exp(-t)).save("m.npz")
    assert cli.main(["predict", "m.npz", "--t", "2024-01-01/2024-01-02/1h"]) == 2
    assert "the model was fitted to times that are numbers" in capsys.readouterr().err


def test_messages_name_flags(here, capsys):
    """What a fit and a table have to say is for people who write flags, not arguments of Python."""
    t = np.linspace(0, 6, 30)
    table = {
        "wave.csv": "".join(f"{a:.3f},{np.sin(2 * a):.4f}\n" for a in t),
        "two.csv": "0,1.0\n1,0.5\n1,0.6\n2,0.3\n",
        "limit.csv": "0,1.0\n1,0.5\n2,<0.4\n",
        "dates.csv": "".join(f"{k + 1}.03.2024 06:00,{k}\n" for k in range(5)),
    }
    for name, rows in table.items():
        (here / name).write_text("t,x\n" + rows)

    def said(name, *flags):
        cli.main(["fit", name, "--time", "t", "--state", "x", "--quiet", *flags])
        return capsys.readouterr().err

    assert "--augment 1 adds a state" in said("wave.csv")
    assert "ended after --max-iter 2 steps" in said("wave.csv", "--structure", "network", "--hidden", "2", "--max-iter", "2")
    assert "--log needs positive states" in said("wave.csv", "--log")
    assert said("two.csv").endswith("keep both readings: --replicates, or their mean: --average\n")
    assert "--censored keeps it as such, --missing '<0.4' leaves it out" in said("limit.csv")
    assert "--date-format '%d.%m.%Y %H:%M' would read it" in said("dates.csv")


@pytest.mark.parametrize(
    ("words", "by_flag"),
    [
        ("(another random_state, n_restarts); noise='student' bears", "(another --seed, --restarts); --noise student bears"),
        ("process_noise=True, if chance drives them", "--process-noise, if chance drives them"),
        ("network (hidden), far_field='inward', or", "network (--hidden), --far-field inward, or"),
        ("or windows=(None,); field= takes", "or windows=(None,) (in Python); field= (in Python) takes"),
        ("tighter tolerances (rtol, atol), other", "tighter tolerances (--rtol, --atol), other"),
        ("noise of x, a method and log(x)", "noise of x, a method and log(x)"),
    ],
)
def test_arguments_of_python_become_flags(words, by_flag):
    assert by_flags(words, pn.NeuralODE) == by_flag


def test_predictions_speak_of_flags(here, capsys):
    t = np.linspace(0, 6, 40)
    x = (np.sin(t) - np.cos(t) + np.exp(-t)) / 2  # of an input that is not held, so that it is known until its last time
    rows = zip(t, x, np.sin(t), strict=True)
    (here / "a.csv").write_text("t,x,pump\n" + "".join(f"{a:.4f},{b:.5f},{c:.5f}\n" for a, b, c in rows))
    (here / "later.csv").write_text("t,pump\n6,0\n10,1\n")
    fit = ["fit", "a.csv", "--time", "t", "--state", "x", "--input", "pump", "--hidden", "4", "--max-iter", "20", "--quiet"]
    assert cli.main(fit) == 0
    capsys.readouterr()
    for flags, words in [
        (["--t", "6:10:2"], "the control inputs of the fit are known until 6: --inputs FILE holds"),
        (["--t", "0:10:2", "--y0", "1", "--inputs", "later.csv"], "control inputs begin at t = 6, after the first time"),
        (["--t=-1:1:1"], "without --y0, --t must rise from 0"),
        (["--t", "0:1:1", "--trajectory", "3"], "--trajectory 3 must be from 0 to 0"),
        (["--t", "0:1:1", "--y0", "nan", "--inputs", "a.csv"], "--y0 nan: states must be finite"),
    ]:
        assert cli.main(["predict", "model.npz", *flags]) == 2
        assert words in capsys.readouterr().err


def test_inputs_of_a_file_go_as_those_of_the_fit_did(here):
    t = np.linspace(0, 6, 40)
    pump = np.cos(3 * t)[:, None]
    lag = pn.field(state=1, inputs=1)(lambda t, y, u: u - y)
    rows = pd.DataFrame({"t": t, "x": pn.solve(lag, [0.0], t, inputs=(t, pump, "previous")).y[:, 0], "pump": pump[:, 0]})
    model = pn.NeuralODE(hidden=(), input_kind="previous", random_state=0).fit(rows, time="t", state="x", input="pump")
    model.save("bare.npz", data=False)
    rows[["t", "pump"]].to_csv("later.csv", index=False)
    flags = ["--t", "0:6:1", "--y0", "1", "--inputs", "later.csv", "-o", "path.csv"]
    assert cli.main(["predict", "bare.npz", *flags]) == 0
    path = model.predict(np.arange(7.0), [1.0], u=(t, rows[["pump"]], "previous"))
    np.testing.assert_allclose(pd.read_csv("path.csv")["x"], path[:, 0], rtol=1e-6)


def test_an_equation_that_was_found_is_shown(here, capsys):
    t = np.linspace(0, 4, 40)
    (here / "a.csv").write_text("t,x\n" + "".join(f"{a:.4f},{np.exp(-a / 2):.6f}\n" for a in t))
    assert cli.main(["fit", "a.csv", "--time", "t", "--state", "x", "--quiet"]) == 0
    fitted = capsys.readouterr().out
    assert cli.main(["info", "model.npz"]) == 0
    for shown in (fitted, capsys.readouterr().out):
        assert "equation, 1 parameter\n" in shown
        assert "dx/dt = -0.5*x\n" in shown
