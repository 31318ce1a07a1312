"""Arguments of the command line, in this process: an exit status, never a traceback."""

import contextlib
import io
import os
import tempfile
from pathlib import Path

import numpy as np
from odd import one_of

import pynode as pn
from pynode.app import cli

FOLDER = Path(tempfile.mkdtemp())
os.chdir(FOLDER)
T = np.linspace(0, 3, 20)
ROWS = "\n".join(f"{t:.3f},{np.cos(t):.4f},{-np.sin(t):.4f}" for t in T)
Path("data.csv").write_text(f"time,x,y\n{ROWS}\n")
Path("noise.csv").write_bytes(bytes(range(256)))
pn.NeuralODE(hidden=(2,), max_iter=1, random_state=0, structure="network").fit(
    T, np.stack([np.cos(T), -np.sin(T)], axis=1)
).save("m.npz")
WORDS = (
    "fit",
    "predict",
    "report",
    "info",
    "demo",
    "--help",
    "--version",
    "--time",
    "--state",
    "--y0",
    "--t",
    "-o",
    "--log",
    "--id",
)
WORDS += (
    "data.csv",
    "m.npz",
    "noise.csv",
    "nothing",
    ".",
    "time",
    "x",
    "y",
    "1",
    "0:1:0.1",
    "0:1:0",
    "1:0:1e-9",
    "nan",
    "",
    "-1",
    "é",
)
WORDS += (
    "--hidden",
    "--max-iter",
    "--random-state",
    "--no",
    "--t=0:1:0.25",
    "--y0=1",
    "1e300",
    "0:1e9:1e-9",
    "--method",
    "rk4",
)
GOOD = (
    ["fit", "data.csv", "--time", "time", "--state", "x", "y", "-o", "out.npz", "--max-iter", "1"],
    ["predict", "m.npz", "--y0", "1", "0", "--t", "0:1:0.25"],
    ["info", "m.npz"],
    ["report", "m.npz"],
)


def case(rng):
    if rng.random() < 0.6:
        words = list(one_of(rng, *GOOD))
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(words)))
            change = rng.integers(3)
            if change == 0:
                words[at] = one_of(rng, *WORDS)
            elif change == 1:
                words.insert(at, one_of(rng, *WORDS))
            elif len(words) > 1:
                del words[at]
    else:
        words = [one_of(rng, *WORDS) for _ in range(int(rng.integers(0, 7)))]
    if words[:1] == ["demo"]:
        return  # trains, and writes a folder
    if words[:1] == ["fit"]:
        words += ["--max-iter", "1", "--structure", "network", "--hidden", "2"]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = cli.main(words)
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        raise AssertionError(f"{words}: {type(error).__name__}: {error}") from error
    assert code in (None, 0, 1, 2), (words, code)
    assert code in (None, 0) or said.getvalue().strip(), (words, code)
