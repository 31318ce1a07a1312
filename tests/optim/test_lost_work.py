"""What is lost of a fit that ends early: by Ctrl-C, an exception, a full disk. See also tests/interrupts.py."""

import errno
import os
import signal
import time

import numpy as np
import pytest

import pynode as pn
from pynode import NeuralODE
from pynode.data import files
from pynode.fit import Checkpoint
from pynode.models.trajectories import stages

T = np.linspace(0, 6, 40)
DATA = np.array([1.0, 0.5, 0.8])[:, None, None] * np.stack([np.cos(T), -np.sin(T)], axis=1)
DATA = DATA + 0.01 * np.random.default_rng(0).standard_normal(DATA.shape)


class Crash(Exception):
    pass


def fit(checkpoint=None, callback=None):
    return NeuralODE(hidden=(4,), random_state=0, max_iter=5).fit(T, DATA, checkpoint=checkpoint, callback=callback)


def same(a, b):
    np.testing.assert_array_equal(a.theta_, b.theta_)
    np.testing.assert_array_equal(a.history_["loss"], b.history_["loss"])


def test_ctrl_c_writes_what_was_done_since_the_last_writing(tmp_path):
    """Long before the first writing is due; also while slopes are matched and starts are tried."""
    path = tmp_path / "c.npz"
    whole = fit()

    def interrupt_at(stage, number):
        def interrupt(iteration):
            time.sleep(0.11 if iteration.number < number + 3 else 0)  # a state is kept every tenth of a second
            if iteration.stage == stage and iteration.number >= number:
                raise KeyboardInterrupt

        return interrupt

    for stage in dict.fromkeys(part["name"] for part in whole.report_["stages"]):
        with pytest.raises(pn.fit.FitInterrupted):
            fit(Checkpoint(path, every=60), interrupt_at(stage, 4))
        seen = []
        again = fit(path, lambda iteration, to=seen: to.append(iteration.number))
        same(again, whole)
        assert seen[0] > 2  # goes on, does not begin again


def test_the_state_is_written_where_a_callback_fails(tmp_path):
    path = tmp_path / "c.npz"

    def fail(iteration):
        time.sleep(0.11)
        if iteration.number == 5:
            raise Crash

    with pytest.raises(Crash):
        pn.fit.adam(lambda x: (x @ x, 2 * x), np.ones(3), max_iter=20, checkpoint=path, callback=fail)
    numbers = []
    again = pn.fit.adam(
        lambda x: (x @ x, 2 * x), np.ones(3), max_iter=20, checkpoint=path, callback=lambda it: numbers.append(it.number)
    )
    assert numbers[0] == 5
    np.testing.assert_array_equal(again.theta, pn.fit.adam(lambda x: (x @ x, 2 * x), np.ones(3), max_iter=20).theta)


def test_a_place_that_cannot_be_written_to_is_refused_before_training(tmp_path):
    calls = []
    with pytest.raises(OSError, match="nowhere"):
        pn.fit.adam(lambda x: calls.append(1) or (x @ x, 2 * x), np.ones(3), checkpoint=tmp_path / "nowhere" / "c.npz")
    assert not calls


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # few iterations
def test_a_full_disk_ends_no_fit(tmp_path, monkeypatch):
    path, whole = tmp_path / "c.npz", fit()
    count = []

    def full(*_):
        count.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(RuntimeWarning, match=r"c\.npz could not be written .*No space left") as said:
        same(fit(Checkpoint(path, every=0)), whole)
    assert len(count) > 3 and sum("could not be written" in str(w.message) for w in said) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # few iterations
def test_what_a_killed_writer_left_is_removed(tmp_path):
    (tmp_path / ".c.npz.0123abcd.part").write_bytes(b"half")
    (tmp_path / ".d.npz.0123abcd.part").write_bytes(b"of another")
    fit(tmp_path / "c.npz")
    assert [x.name for x in tmp_path.iterdir()] == [".d.npz.0123abcd.part"]


def test_ctrl_c_while_results_are_set_waits_for_them(monkeypatch):
    """All of them are there, or none."""
    kept = stages.keep_run

    def interrupted(model, *args):
        signal.raise_signal(signal.SIGINT)
        kept(model, *args)

    monkeypatch.setattr(stages, "keep_run", interrupted)
    model = NeuralODE(hidden=(4,), random_state=0, max_iter=5)
    with pytest.raises(KeyboardInterrupt):
        model.fit(T, DATA)
    assert np.isfinite(model.predict(T[:3], [1.0, 0.0])).all()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_changed_checkpoint_is_refused(tmp_path):
    """As found by tests/fuzz: entries gone or of another type raised KeyError or TypeError somewhere in training."""
    path = tmp_path / "c.npz"

    def minimise(**more):
        return pn.fit.adam(lambda x: (x @ x, 2 * x), np.ones(3), max_iter=6, checkpoint=Checkpoint(path, every=0), **more)

    def fail(iteration):
        if iteration.number == 4:
            raise Crash

    with pytest.raises(Crash):
        minimise(callback=fail)
    whole = files.read(path)
    changes = [{"outer": 1}, {"inner": None}, {"inner": ["adam", {}]}, {"seal": "0"}]
    changes.append({"inner": ["adam", whole["inner"][1] | {"rate": "fast"}]})
    for change in changes:
        files.write(path, whole | change)
        with pytest.raises(ValueError, match=r"c\.npz is damaged"):
            minimise()
    files.write(path, whole)
    assert minimise().n_iter == 6
