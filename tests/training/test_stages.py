"""What stages of training tell of themselves: the length of their windows, trials, and which of them the fit rests on."""

import copy
import itertools
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

import pynode as pn
from pynode.models.trajectories.intervals.refits import last_windows
from pynode.training.state import Stage

T = np.linspace(0, 4, 60)
Y = np.stack([np.cos(T), np.sin(T)], axis=1)


@pytest.fixture(scope="module")
def model():
    """Two starts that are close: both are tried on the windows, and then the better one goes on."""
    return pn.NeuralODE(hidden=(4,), windows=(10, None), max_iter=5, random_state=0).fit(T, Y)


def windows_of(*stages):
    return last_windows(SimpleNamespace(report_={"stages": [asdict(stage) for stage in stages]}))


def test_windows_are_those_of_the_last_stage_that_the_fit_rests_on():
    short = Stage("windows of 10", 5, "converged", intervals=10)
    whole = Stage("whole trajectories", 1, "converged")
    trial = Stage("trial on whole trajectories", 1, "converged", trial=True)
    assert windows_of(short) == 10
    assert windows_of(short, whole) is None
    assert windows_of(short, trial) == 10
    assert windows_of(short, Stage("whole trajectories", 1, "undone")) == 10
    assert windows_of(Stage("slopes", status="converged"), Stage("windows of 30 of a part", 5, intervals=30)) == 30


def test_stages_know_their_windows_and_whether_they_were_trials(model):
    found = [(stage["name"], stage["intervals"], stage["trial"]) for stage in model.report_["stages"] if stage["windows"]]
    trial = ("trial on windows of 10", 10, True)
    assert found[:4] == [trial, trial, ("windows of 10", 10, False), ("whole trajectories", None, False)]


def test_trials_have_the_colour_of_what_they_try(model):
    lines = {line.get_label(): line for line in model.plot("loss").axes[0].lines}
    trial, proper, whole = (lines[name] for name in ("trial on windows of 10", "windows of 10", "whole trajectories"))
    assert trial.get_color() == proper.get_color() != whole.get_color()
    assert (trial.get_linestyle(), proper.get_linestyle()) == (":", "-")


@pytest.mark.parametrize("old", [False, True])
def test_files_hold_what_stages_tell(model, old):
    """Those of older models lack it."""
    content = copy.deepcopy(model.to_content())
    stages = [dict(stage) for stage in content["report"]["stages"]]
    for stage, name in itertools.product(stages, ("intervals", "trial") if old else ()):
        del stage[name]
    content["report"]["stages"] = stages
    again = pn.NeuralODE.from_content(content).report_["stages"]
    assert again == [stage | {"intervals": None, "trial": False} if old else stage for stage in model.report_["stages"]]
