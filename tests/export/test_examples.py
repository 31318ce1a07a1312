"""examples/exported: a simulator in C++ and a loop as on an Arduino, with the model that export.py writes."""

import importlib.util
import subprocess
from pathlib import Path

import numpy as np
import pytest
from exported_c import COMPILERS, FLAGS

import pynode as pn

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "exported"

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler: neither gcc nor clang is installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With block.c, block.h, block.o."""
    made = tmp_path_factory.mktemp("block")
    spec = importlib.util.spec_from_file_location("export_example", EXAMPLES / "export.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(made)
    subprocess.run([COMPILERS[0], *FLAGS, "-c", "block.c"], cwd=made, check=True)
    return made, module.block


def test_the_simulator(folder):
    made, block = folder
    compiler = "g++" if COMPILERS[0] == "gcc" else "clang++"
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{made}", str(EXAMPLES / "simulator.cpp")]
    subprocess.run([*command, "block.o", "-lm", "-o", "simulator"], cwd=made, check=True)
    table = subprocess.run([made / "simulator"], check=True, capture_output=True, text=True).stdout.split("\n")[1:-1]
    t, temperature = np.array([line.split(",") for line in table], float).T
    knots = np.array([0.0, 8.0, 20.0, 28.0, 40.0, 48.0, 60.0])
    signal = pn.Signal(knots, np.array([[1.0], [0.0], [1.0], [0.0], [1.0], [0.0], [1.0]]), "previous")
    truth = pn.solve(block, [20.0], t, [0.12, 5.0], inputs=signal).y[:, 0]
    np.testing.assert_allclose(temperature, truth, atol=0.3)  # the model has learned from noise of 0.2


def test_the_controller_holds_its_goal(folder):
    made, _ = folder
    command = [COMPILERS[0], *FLAGS, f"-I{made}", str(EXAMPLES / "controller.c"), "block.o", "-lm", "-o", "controller"]
    subprocess.run(command, cwd=made, check=True)
    lines = subprocess.run([made / "controller"], check=True, capture_output=True, text=True).stdout.split("\n")[:-1]
    temperature, heater = np.array([line.split() for line in lines], float).T
    assert abs(temperature[20:] - 45.0).max() < 5.0
    assert set(heater[20:]) == {0.0, 1.0}
