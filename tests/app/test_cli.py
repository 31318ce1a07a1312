"""The command line, in process and as a command."""

import csv
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pynode import datasets
from pynode.app import cli
from pynode.app.commands.times import times as times_of
from pynode.models import load

T = np.linspace(0, 6, 30)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open("data.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["year", "run", "hare", "lynx"])
        for run in "ab":
            for t in T:
                row = [np.exp(np.cos(t + (run == "b"))), np.exp(-np.sin(t + (run == "b")))]
                out.writerow([t, run, *("" if run == "b" and 2 < t < 2.5 else repr(float(x)) for x in row)])
    return tmp_path


FIT = [
    "fit",
    "data.csv",
    "--time",
    "year",
    "--state",
    "hare",
    "lynx",
    "--id",
    "run",
    "--log",
    "--max-iter",
    "40",
    "--hidden",
    "8",
    "--quiet",
]


@pytest.fixture
def model(here, capsys):
    assert cli.main(FIT) == 0
    capsys.readouterr()
    return here / "model.npz"


def run(argv, **options):
    return subprocess.run(
        [sys.executable, "-m", "pynode", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        **options,
    )


def environment():
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path[:1] + [p for p in sys.path if p])}


def test_fit_predict_report_info(here, capsys):
    assert cli.main([*FIT, "-o", "m.npz"]) == 0
    out = capsys.readouterr().out
    assert "hare, lynx" in out and "Model: m.npz" in out
    y0 = [np.exp(1.0), 1.0]
    arguments = ["predict", "m.npz", "--y0", *map(str, y0), "--t", "0:6:0.5"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert cli.main([*arguments, "-o", "out.csv", "--plot", "p.png"]) == 0
    assert (here / "out.csv").read_text() == printed
    rows = list(csv.DictReader(printed.splitlines()))
    assert len(rows) == 13 and list(rows[0]) == ["year", "hare", "lynx"]
    np.testing.assert_allclose([float(r["hare"]) for r in rows], np.exp(np.cos(np.arange(13) * 0.5)), rtol=0.05)
    np.testing.assert_array_equal([float(r["lynx"]) for r in rows], load("m.npz").predict(np.arange(13) * 0.5, y0)[:, 1])
    assert (here / "p.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main(["report", "m.npz"]) == 0
    assert "<html" in (here / "m.html").read_text()
    assert cli.main(["info", "m.npz"]) == 0
    assert "4 trajectories" not in capsys.readouterr().out


def test_predict_continues_a_trajectory(model, capsys):
    assert cli.main(["predict", str(model), "--t", "6,6.5,7", "--trajectory", "1"]) == 0
    rows = list(csv.reader(capsys.readouterr().out.splitlines()))
    assert [r[0] for r in rows] == ["year", "6", "6.5", "7"]


def test_info_of_the_installation(capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert "instruction set" in out and "numpy" in out


@pytest.mark.parametrize(
    "argv, message",
    [
        (["fit", "no.csv", "--time", "t", "--state", "x"], "no.csv: No such file"),
        (
            ["fit", "data.csv", "--time", "jahr", "--state", "hare"],
            "no column 'jahr'; its columns are year, run, hare, lynx",
        ),
        (
            ["fit", "data.csv", "--time", "year", "--state", "hare"],
            "same time year = 0: name the column that tells",
        ),
        (["fit", "data.csv", "--time", "year", "--state", "hare", "run", "--id", "run"], "named twice"),
        (["fit", "data.csv", "--time", "year", "--state", "run"], "'a' is not a number"),
        ([*FIT, "--method", "rk5"], "--method rk5 must be an adaptive method"),
        ([*FIT, "--max-iter", "0"], "--max-iter 0 must be a positive integer"),
        ([*FIT, "--ensemble", "0"], "--ensemble 0 must be a positive integer"),
        ([*FIT, "--hidden", "0"], "--hidden holds the widths of the hidden layers"),
        ([*FIT, "--process-noise", "--noise", "lognormal"], "--process-noise does not go with --noise lognormal: take"),
        ([*FIT, "--structure", "equation", "--ensemble", "2"], "--structure equation has nothing random: --ensemble and"),
        ([*FIT, "-o", "no/folder/m.npz"], "there is no folder"),
        ([*FIT, "-o", "."], "is a folder"),
        (["predict", "data.csv", "--t", "0:1:0.1"], "not a model file"),
        (["predict", "no.npz", "--t", "0:1:0.1"], "no.npz: No such file"),
        (["report", "data.csv"], "not a model file"),
        (["info", "data.csv"], "not a model file"),
    ],
)
def test_mistakes_are_one_line(here, capsys, argv, message):
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("pynode: error: ") and message in captured.err


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--y0", "1", "--t", "0:1:0.1"], "--y0 needs 2 numbers (hare, lynx), got 1"),
        (["--y0", "-1", "2", "--t", "0:1:0.1"], "y0 must be positive"),
        (["--t", "-3:1:0.1"], "t must rise from 0 or later"),
        (["--t", "7,8", "--trajectory", "9"], "--trajectory 9 must be from 0 to 1"),
        (["--t", "7,8", "-o", "no/out.csv"], "there is no folder"),
    ],
)
def test_mistakes_with_a_model(model, capsys, argv, message):
    if argv[:2] == ["--t", "-3:1:0.1"]:
        argv = ["--t=-3:1:0.1"]
    assert cli.main(["predict", str(model), *argv]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv, message",
    [
        (["predict", "m.npz"], "--t"),
        (["predict", "m.npz", "--t", "0:1"], "neither START:STOP:STEP"),
        (["predict", "m.npz", "--t", "0:1:0"], "neither START:STOP:STEP"),
        (["predict", "m.npz", "--t", "0:1:-1"], "STEP must lead"),
        (["predict", "m.npz", "--t", "0:1:1e-12"], "10 million"),
        (["predict", "m.npz", "--t", "nan,1"], "finite"),
        (["fit", "d.csv", "--time", "t"], "--state"),
        (["fit", "d.csv", "--time", "t", "--state", "x", "--seed", "-1"], "'-1' is not a whole number"),
        (["learn"], "invalid choice"),
    ],
)
def test_wrong_use(capsys, argv, message):
    with pytest.raises(SystemExit) as error:
        cli.main(argv)
    assert error.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, times",
    [
        ("0:1:0.1", np.arange(11) / 10),
        ("0:1:0.3", [0, 0.3, 0.6, 0.9]),
        ("5:5:1", [5]),
        ("2:0:-1", [2, 1, 0]),
        ("1,2.5", [1, 2.5]),
    ],
)
def test_times(text, times):
    np.testing.assert_allclose(times_of(text).numbers(None), times, atol=1e-15)


@pytest.mark.parametrize("command", [[], ["demo"], ["fit"], ["predict"], ["report"], ["info"]])
def test_help_has_examples(capsys, command):
    with pytest.raises(SystemExit) as error:
        cli.main([*command, "--help"])
    out = capsys.readouterr().out
    assert error.value.code == 0 and "example" in out and "pynode " in out
    assert max(map(len, out.splitlines())) < 120


def test_no_command(capsys):
    assert cli.main([]) == 2
    assert "examples:" in capsys.readouterr().out


def test_an_old_model_survives_a_failed_fit(model):
    before = model.read_bytes()
    assert cli.main([*FIT, "--activation", "tan"]) == 2
    assert model.read_bytes() == before


# ------------------------------------------------------------------------------------------------------------


def test_the_demo(tmp_path):
    start = time.perf_counter()
    out = run(["demo", "-o", str(tmp_path / "demo")])
    assert out.returncode == 0, out.stderr
    assert time.perf_counter() - start < 60
    lines = out.stdout.splitlines()
    assert lines[0].split("  ")[0] == "experiment" and "held-out error" in lines[0] and "field evaluations" in lines[0]
    assert lines[2].startswith("Van der Pol") and lines[3].startswith("lynx and hare")
    assert lines[4] == f"Pictures and report: {tmp_path / 'demo' / 'report.html'}"
    assert re.search(r"lynx and hare, start \d of \d: 100 %", out.stderr)
    names = {p.name for p in (tmp_path / "demo").iterdir()}
    assert names == {
        "report.html",
        *(f"{a}-{b}.png" for a in ("van-der-pol", "lynx-and-hare") for b in ("phase", "trajectories", "loss")),
        "van-der-pol-held-out.png",
    }
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 7 and "Odum" in page


def test_the_demo_without_matplotlib(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("pynode.app.demo.EXPERIMENTS", (__import__("pynode.app.demo").app.demo.lynx_hare,))
    assert cli.main(["demo", "-o", str(tmp_path), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert "lynx and hare" in captured.out and "pip install 'pynode-ode[plot]'" in captured.out and captured.err == ""


def test_a_mistake_as_a_command(here):
    out = run(["fit", "no.csv", "--time", "t", "--state", "x"])
    assert (out.returncode, out.stdout) == (2, "")
    assert out.stderr == "pynode: error: no.csv: No such file or directory\n"


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_saves_the_best_so_far(tmp_path):
    data = datasets.van_der_pol(0).train
    with open(tmp_path / "vdp.csv", "w") as file:
        file.write("id,t,x,v\n")
        for i, (t, y) in enumerate(zip(data.t, data.y, strict=True)):
            file.writelines(f"{i},{a},{b},{c}\n" for a, (b, c) in zip(t, y, strict=True))
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pynode",
            "fit",
            "vdp.csv",
            "--time",
            "t",
            "--state",
            "x",
            "v",
            "--id",
            "id",
            "--hidden",
            "64",
            "64",
            "--max-iter",
            "100000",
        ],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    line = process.stderr.readline()  # the first progress, after two seconds
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=30)[1]
    assert line.startswith("training:") and process.returncode == 130
    assert "Traceback" not in rest and "the best so far is in model.npz" in rest
    assert load(tmp_path / "model.npz").report_["status"] == "interrupted"
