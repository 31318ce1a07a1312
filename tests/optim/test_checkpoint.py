"""Checkpoints: killed anywhere, a fit goes on to the same bits."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import pynode as pn
from pynode import NeuralODE
from pynode.fit import Checkpoint, FitWarning

T = np.linspace(0, 6, 40)
CIRCLE = np.stack([np.cos(T), -np.sin(T)], axis=1)
SIZES = np.array([1.0, 0.5, 0.8, 1.2, 0.3])[:, None, None]
DATA = SIZES * CIRCLE + 0.01 * np.random.default_rng(0).standard_normal((5, 40, 2))


class Crash(Exception):
    pass


class Crashing(Checkpoint):
    """Fails right after the k-th writing."""

    def __init__(self, path, k):
        super().__init__(path, every=0)
        self.left = k

    def offer(self, kind, inner):
        super().offer(kind, inner)
        self.left -= 1
        if self.left == 0:
            raise Crash


@pn.field(state=2, theta={"k": pn.positive(0.6), "c": pn.bounded(0.2, -0.1, 1.0), "m": pn.frozen(1.0)}, inputs=1)
def spring(t, y, th, u):
    return [y[1], (-th.k * y[0] - th.c * y[1] + u[0]) / th.m]


U = 0.1 * np.sin(T)[None, :, None] * SIZES
FITS = {
    "second order": ({"max_iter": 5}, {}),
    "student": ({"noise": "student", "max_iter": 5}, {}),
    "early": ({"early_stopping": True, "patience": 2, "max_iter": 6}, {}),
    "early, adam": ({"early_stopping": True, "patience": 2, "max_iter": 8, "optimizer": "adam"}, {}),
    "lbfgs": ({"optimizer": "lbfgs", "max_iter": 6}, {"weight": 0.1 + np.random.default_rng(0).random((5, 40, 2))}),
    "adam+lbfgs": ({"optimizer": "adam+lbfgs", "max_iter": 6, "kinetic_energy": 0.01}, {}),
    "minibatches": ({"optimizer": "adam", "batch_size": 6, "max_iter": 2, "steer": 0.2, "max_gradient": 1.0}, {}),
    "unobserved": ({"augment": 1, "max_iter": 4}, {}),
    "inputs, constraints": ({"field": spring, "max_iter": 5}, {"u": U}),
}


def fit(name, checkpoint=None):
    options, data = FITS[name]
    options = {"hidden": (4,), "random_state": 0} | options
    return NeuralODE(**options).fit(T, DATA[:, :, :1] if name == "unobserved" else DATA, **data, checkpoint=checkpoint)


def same(a, b):
    np.testing.assert_array_equal(a.theta_, b.theta_)
    np.testing.assert_array_equal(a.initial_states_, b.initial_states_)
    for column in ("stage", "loss", "gradient_norm", "nfe", "validation"):
        np.testing.assert_array_equal(a.history_[column], b.history_[column])
    for name in ("covariance_", "state_gain_", "state_covariance_"):
        mine, theirs = getattr(a, name), getattr(b, name)
        assert (mine is None) == (theirs is None)
        if mine is not None:
            np.testing.assert_array_equal(mine, theirs)
    for name in ("loss", "rmse", "noise", "effective_parameters", "status"):
        np.testing.assert_equal(a.report_[name], b.report_[name])
    for mine, theirs in zip(a.report_["stages"], b.report_["stages"], strict=True):
        for name in ("name", "windows", "status", "loss", "iterations", "nfe", "evaluations", "failed"):
            assert mine[name] == theirs[name]


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
@pytest.mark.parametrize("name", FITS)
def test_the_same_bits_from_every_checkpoint_ever_written(name, tmp_path):
    """All of them, those between two stages and after the last iteration of one too."""
    path, whole = tmp_path / "c.npz", fit(name)
    for k in range(1, 100):
        try:
            fit(name, Crashing(path, k))
        except Crash:
            same(fit(name, path), whole)
            assert not path.exists()
        else:
            break
    assert 5 < k < 100


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
def test_a_stage_that_is_undone_after_the_crash(tmp_path):
    """Chaos over whole trajectories: what is kept was fitted before the checkpoint."""

    @pn.field(state=3)
    def lorenz(t, y):
        return [10 * (y[1] - y[0]), y[0] * (28 - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]]

    t = np.linspace(0, 6, 201)
    y = pn.solve(lorenz, [1.0, 1.0, 20.0], t).y

    def chaos(checkpoint=None):
        return NeuralODE(hidden=(8,), max_iter=4, windows=(5, None), random_state=0).fit(t, y, checkpoint=checkpoint)

    whole, path = chaos(), tmp_path / "c.npz"
    assert whole.report_["stages"][-1]["status"] == "undone" and whole.covariance_ is not None
    for k in range(4, 9, 2):
        with pytest.raises(Crash):
            chaos(Crashing(path, k))
        same(chaos(path), whole)


X = np.random.default_rng(1).normal(size=(40, 2))
LABELS = (X[:, 0] * X[:, 1] > 0).astype(int)
CARRIED = {
    "classifier": (pn.NeuralODEClassifier, {"lift": 3}, (X, LABELS)),
    "weights, early": (
        pn.NeuralODEClassifier,
        {"early_stopping": True, "patience": 2, "max_iter": 8, "learning_rate": 0.3},
        (X, LABELS, 1.0 + LABELS),
    ),
    "regressor": (pn.NeuralODERegressor, {"kinetic_energy": 0.1, "max_gradient": 1.0}, (X, X[:, 0] ** 2)),
    "density": (pn.CNF, {"trace": "hutchinson", "early_stopping": True, "patience": 2}, (X,)),
}


def carry(name, checkpoint=None, **more):
    make, options, data = CARRIED[name]
    options = {"hidden": (4,), "max_iter": 4, "batch_size": 12, "random_state": 0} | options | more
    return make(**options).fit(*data, checkpoint=checkpoint)


def same_carried(a, b):
    np.testing.assert_array_equal(a.theta_, b.theta_)
    for column in ("loss", "nfe", "validation"):
        np.testing.assert_array_equal(a.history_[column], b.history_[column])
    assert (np.diff(a.history_["seconds"]) > 0).all()
    for name in set(a.report_) - {"seconds"}:
        assert a.report_[name] == b.report_[name]


@pytest.mark.parametrize("name", CARRIED)
def test_models_of_tables_go_on_from_every_checkpoint(name, tmp_path):
    path, whole = tmp_path / "c.npz", carry(name)
    for k in range(1, 40):
        try:
            carry(name, Crashing(path, k))
        except Crash:
            same_carried(carry(name, path), whole)
            assert not path.exists()
        else:
            break
    assert 4 < k < 40
    if "early" in CARRIED[name][1]:
        assert whole.report_["status"] == "early"


def test_checkpoints_of_models_of_tables_are_refused_elsewhere(tmp_path):
    path = tmp_path / "c.npz"
    with pytest.raises(Crash):
        carry("classifier", Crashing(path, 3))
    for other in ({"max_iter": 5}, {"random_state": 1}, {"hidden": (5,)}, {"field": pn.mlp(3, (4,), time=True)}):
        with pytest.raises(ValueError, match="another fit"):
            carry("classifier", path, **other)
    for data in ((X[::-1], LABELS), (X, 1 - LABELS), (X, LABELS, 1.0 + LABELS)):
        with pytest.raises(ValueError, match="another fit"):
            pn.NeuralODEClassifier((4,), lift=3, max_iter=4, batch_size=12, random_state=0).fit(*data, checkpoint=path)
    with pytest.raises(ValueError, match="random_state"):
        carry("classifier", path, random_state=None)
    same_carried(carry("classifier", path), carry("classifier"))


def test_ctrl_c_keeps_the_checkpoint_of_a_model_of_tables(tmp_path):
    path = tmp_path / "c.npz"

    def interrupt(epoch):
        if epoch.number == 3:
            raise KeyboardInterrupt

    make, options, data = CARRIED["weights, early"]
    options = {"hidden": (4,), "batch_size": 12, "random_state": 0} | options
    with pytest.raises(pn.fit.FitInterrupted):
        make(**options).fit(*data, checkpoint=Checkpoint(path, every=0), callback=interrupt)
    assert path.exists()
    same_carried(carry("weights, early", path), carry("weights, early"))


PROGRAM = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import test_checkpoint as here
class Killing(here.Crashing):
    def offer(self, kind, inner):
        try:
            super().offer(kind, inner)
        except here.Crash:
            os.kill(os.getpid(), signal.SIGKILL)
(here.carry if sys.argv[2] in here.CARRIED else here.fit)(sys.argv[2], Killing(sys.argv[3], int(sys.argv[4])))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is one of POSIX")
@pytest.mark.parametrize("name", ["second order", "weights, early"])
def test_killed_twice(name, tmp_path):
    """In two processes one after the other, and finished in a third."""
    path = tmp_path / "c.npz"
    for k in (3, 2):
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM, os.path.dirname(__file__), name, path, str(k)]
        assert subprocess.run(command, env=os.environ).returncode == -signal.SIGKILL and path.exists()
    if name in CARRIED:
        same_carried(carry(name, path), carry(name))
    else:
        same(fit(name, path), fit(name))


# ------------------------------------------------------------------------------------------------------------


def test_one_checkpoint_object_for_two_fits(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c.npz", every=0)
    first, second = fit("second order", checkpoint), fit("second order", checkpoint)
    same(first, second)


def shooting(checkpoint=None, **more):
    options = {"windows": (10, None), "optimizer": "adam+lbfgs", "max_iter": 8, "u": list(U)} | more
    return pn.fit.multiple_shooting(spring, T, DATA, **options, checkpoint=checkpoint)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # so few iterations do not fit
@pytest.mark.parametrize("optimizer", ["adam+lbfgs", "levenberg-marquardt"])
def test_multiple_shooting_goes_on(optimizer, tmp_path):
    """Of "adam+lbfgs" the first stage on windows has both."""
    whole, path = shooting(optimizer=optimizer), tmp_path / "c.npz"
    for k in (3, 11, 18, 21):
        try:
            shooting(Crashing(path, k), optimizer=optimizer)
        except Crash:
            again = shooting(path, optimizer=optimizer)
            np.testing.assert_array_equal(again.theta, whole.theta)
            np.testing.assert_array_equal(again.history["loss"], whole.history["loss"])
            np.testing.assert_array_equal(again.history["nfe"], whole.history["nfe"])
            assert again.n_iter == whole.n_iter
            np.testing.assert_equal(again.covariance, whole.covariance)
            for a, b in zip(again.states, whole.states, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # so few iterations do not fit
@pytest.mark.parametrize(
    "other",
    [{"u": list(2 * U)}, {"weight": np.linspace(1.0, 2.0, 40)}, {"noise": "huber"}, {"rtol": 1e-7}, {"random_state": 1}],
)
def test_multiple_shooting_refuses_a_checkpoint_of_other_data(other, tmp_path):
    path = tmp_path / "c.npz"
    with pytest.raises(Crash):
        shooting(Crashing(path, 3))
    with pytest.raises(ValueError, match="another fit"):
        shooting(path, **other)
    shooting(path)


def heun():
    return pn.Tableau([[0, 0], [1, 0]], [0.5, 0.5], b_hat=[1, 0])


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # so few iterations do not fit
def test_multiple_shooting_goes_on_with_a_method_of_ones_own(tmp_path):
    """Which is another object in another process; None is elsewhere there, too."""
    path = tmp_path / "c.npz"
    with pytest.raises(Crash):
        shooting(Crashing(path, 3), method=heun(), max_step=None)
    for other in ({"max_step": 1.0}, {"method": "bosh3"}):
        with pytest.raises(ValueError, match="another fit"):
            shooting(path, **{"method": heun(), "max_step": None} | other)
    whole = shooting(method=heun(), max_step=None)
    np.testing.assert_array_equal(shooting(path, method=heun(), max_step=None).theta, whole.theta)


def exponentials(p):
    x = np.linspace(0, 3, 30)
    e = np.exp(-p[1] * x)
    return p[0] * e - 2 * np.exp(-0.7 * x) + 0.01 * np.sin(40 * x), np.stack([e, -p[0] * x * e], axis=1)


@pytest.mark.parametrize("optimiser", [pn.fit.adam, pn.fit.lbfgs])
def test_a_callback_that_stops_an_optimiser_ends_its_checkpoint(optimiser, tmp_path):
    path = tmp_path / "c.npz"
    result = optimiser(
        lambda x: (np.cosh(x).sum(), np.sinh(x)),
        [1.0, 3.0],
        checkpoint=Checkpoint(path, every=0),
        callback=lambda iteration: path.exists() and iteration.number > 1,
    )
    assert result.status == "stopped" and not path.exists()


@pytest.mark.parametrize("evidence", [False, True])
def test_levenberg_marquardt_goes_on_with_its_history(evidence, tmp_path):
    whole, path = pn.fit.levenberg_marquardt(exponentials, [1.0, 3.0], evidence=evidence), tmp_path / "c.npz"
    for k in range(1, whole.n_iter - 1):
        numbers = []
        with pytest.raises(Crash):
            pn.fit.levenberg_marquardt(exponentials, [1.0, 3.0], evidence=evidence, checkpoint=Crashing(path, k))
        again = pn.fit.levenberg_marquardt(
            exponentials,
            [1.0, 3.0],
            evidence=evidence,
            checkpoint=path,
            callback=lambda it, to=numbers: to.append(it.number),
        )
        np.testing.assert_array_equal(again.theta, whole.theta)
        np.testing.assert_array_equal(again.covariance, whole.covariance)
        np.testing.assert_array_equal(again.history["loss"], whole.history["loss"])
        assert numbers == list(range(k + 1, whole.n_iter + 1)) and again.status == whole.status


# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": (5,)},
        {"random_state": 1},
        {"noise": "huber"},
        {"max_iter": 7},
        {"windows": (3, None)},
        {"log": False, "scale": False},
    ],
)
def test_other_options_are_refused(change, tmp_path):
    path = tmp_path / "c.npz"
    with pytest.raises(Crash):
        fit("second order", Crashing(path, 3))
    kept = path.read_bytes()
    with pytest.raises(ValueError, match="another fit"):
        NeuralODE(**{"hidden": (4,), "random_state": 0, "max_iter": 5} | change).fit(T, DATA, checkpoint=path)
    assert path.read_bytes() == kept


@pytest.mark.parametrize(
    "change",
    [
        lambda t, y: ((t + 1e-9, y), {}),
        lambda t, y: ((t, np.where(np.arange(400).reshape(5, 40, 2) == 7, np.nan, y)), {}),
        lambda t, y: ((t, y), {"weight": np.linspace(1.0, 2.0, len(t))}),
        lambda t, y: ((t, y), {"u": U}),
        lambda t, y: ((t, y[::-1]), {}),
    ],
)
def test_other_data_are_refused(change, tmp_path):
    path = tmp_path / "c.npz"
    with pytest.raises(Crash):
        fit("second order", Crashing(path, 3))
    data, more = change(T, DATA)
    with pytest.raises(ValueError, match="another fit"):
        NeuralODE(hidden=(4,), random_state=0, max_iter=5).fit(*data, **more, checkpoint=path)


@pytest.mark.parametrize(
    "fitted",
    [
        lambda u, c: shooting(c, u=u),
        lambda u, c: NeuralODE(field=spring, random_state=0).fit(T, DATA, u=u, checkpoint=c),
        lambda u, c: pn.LatentODE(random_state=0).fit(T, DATA, u=u, checkpoint=c),
    ],
)
def test_other_knots_of_inputs_are_refused(fitted, tmp_path):
    path = tmp_path / "c.npz"
    with pytest.raises(Crash):
        fitted(pn.Signal(T, list(U)), Crashing(path, 1))
    with pytest.raises(ValueError, match="another fit"):
        fitted(pn.Signal(T, list(U), knots="step"), path)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # few iterations
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "model", "folder"])
def test_a_damaged_checkpoint_is_named(damage, tmp_path):
    path = tmp_path / "c.npz"
    with pytest.raises(Crash):
        fit("second order", Crashing(path, 3))
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 0xFF
    data = {"cut": data[: len(data) // 2], "flip": data, "empty": b"", "text": b"hello"}.get(damage)
    path.unlink()
    if damage == "model":
        fit("lbfgs").save(path)
    elif damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(data)
    with pytest.raises(OSError if damage == "folder" else ValueError, match=r"c\.npz"):
        fit("second order", path)
    assert path.exists()


def test_a_checkpoint_needs_a_random_state():
    with pytest.raises(ValueError, match="random_state"):
        NeuralODE().fit(T, DATA, checkpoint="no.npz")


def test_a_callback_that_stops_ends_the_fit_and_its_checkpoint(tmp_path):
    path, seen = tmp_path / "c.npz", []

    def stop(iteration):
        seen.append(iteration.stage)
        return seen[-1] != "slopes" and seen.count(seen[-1]) == 3

    model = NeuralODE(hidden=(4,), random_state=0).fit(T, DATA, checkpoint=Checkpoint(path, every=0), callback=stop)
    assert model.report_["status"] == "stopped" and not path.exists()


def test_ctrl_c_keeps_the_checkpoint(tmp_path):
    path = tmp_path / "c.npz"

    def interrupt(iteration):
        if iteration.stage == "whole trajectories" and iteration.number > 8:
            raise KeyboardInterrupt

    with pytest.raises(pn.fit.FitInterrupted):
        NeuralODE(hidden=(4,), random_state=0, max_iter=5).fit(
            T, DATA, checkpoint=Checkpoint(path, every=0), callback=interrupt
        )
    assert path.exists()
    same(fit("second order", path), fit("second order"))


def test_a_warning_of_left_out_windows_comes_again(tmp_path):
    """Windows that cannot be solved are the same ones after a crash."""

    @pn.field(state=1, theta={"k": pn.positive(1.01)})
    def blows_up(t, y, th):
        return th.k * y**2

    t = np.linspace(0, 0.9, 20)
    y = [1 / (1 / a - t)[:, None] for a in (0.2, 0.3, 0.5, 0.4)] + [np.full((20, 1), 5.0)]

    def go(checkpoint=None):
        with pytest.warns(FitWarning, match="1 of 5 windows"):
            return pn.fit.multiple_shooting(blows_up, [t] * 5, y, windows=(None,), checkpoint=checkpoint)

    whole, path = go(), tmp_path / "c.npz"
    with pytest.raises(Crash):
        go(Crashing(path, 2))
    again = go(path)
    np.testing.assert_array_equal(again.theta, whole.theta)
    np.testing.assert_array_equal(again.covariance, whole.covariance)
