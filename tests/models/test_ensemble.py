"""Ensembles and starts of which some fail, and those that are interrupted."""

import _thread
import threading
import time

import numpy as np
import pytest

import pynode as pn
from pynode.fit import FitError, FitWarning

T = np.linspace(0, 4, 60)
Y = np.stack([np.cos(T), np.sin(T)], axis=1)
OPTIONS = {"hidden": (4,), "windows": (10,), "max_iter": 5, "random_state": 0}


class Fails(pn.NeuralODE):
    """A model whose members with these seeds cannot be fitted."""

    seeds = ()

    def fit(self, *args, **kwargs):
        if self.n_estimators == 1 and self.random_state in self.seeds:
            raise FitError(f"seed {self.random_state}")
        return super().fit(*args, **kwargs)


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")  # few iterations
def test_members_that_cannot_be_fitted_are_left_out(monkeypatch):
    whole = Fails(**OPTIONS, n_estimators=3).fit(T, Y)
    monkeypatch.setattr(Fails, "seeds", (1000,))
    said = r"1 of 3 members of the ensemble could not be fitted, and are left out \(seed 1000\)"
    with pytest.warns(FitWarning, match=said):
        model = Fails(**OPTIONS, n_estimators=3).fit(T, Y)
    assert any(words.startswith("1 of 3 members") for words in model.report_["warnings"])
    assert len(model.estimators_) == 2
    for left, each in zip(model.estimators_, whole.estimators_[::2], strict=True):
        assert (left.theta_ == each.theta_).all()


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
def test_one_member_that_is_left_predicts_by_itself(monkeypatch, tmp_path):
    monkeypatch.setattr(Fails, "seeds", (0, 1000))
    model = Fails(**OPTIONS, n_estimators=3).fit(T, Y)
    (left,) = model.estimators_
    mean, std = model.predict(T, Y[0], return_std=True)
    assert (mean == left.predict(T, Y[0])).all()
    assert np.allclose(std, left.predict(T, Y[0], return_std=True)[1], rtol=1e-12)
    assert np.isfinite(model.predict(T, Y[0], interval=0.9).upper).all()
    model.save(tmp_path / "model")
    assert (pn.load(tmp_path / "model").predict(T, Y[0]) == mean).all()


def test_an_ensemble_without_members_says_why(monkeypatch):
    monkeypatch.setattr(Fails, "seeds", (0, 1000))
    with pytest.raises(FitError, match=r"^seed 0$"):
        Fails(**OPTIONS, n_estimators=2).fit(T, Y)


def until(count):
    """A callback that interrupts the fit at its count-th iteration."""
    seen = []

    def interrupt(iteration):
        seen.append(iteration)
        if len(seen) == count:
            raise KeyboardInterrupt

    return interrupt


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
@pytest.mark.parametrize("options", [{"n_estimators": 3}, {"n_restarts": 3}, {"n_estimators": 2, "n_restarts": 2}], ids=str)
def test_many_fits_go_on_from_their_checkpoints(options, tmp_path):
    seen = []
    whole = pn.NeuralODE(**OPTIONS, **options).fit(T, Y, callback=lambda iteration: bool(seen.append(iteration)))
    for count in np.linspace(2, len(seen) - 1, 4).astype(int).tolist():
        checkpoint = pn.fit.Checkpoint(tmp_path / "fit", every=0)
        with pytest.raises(KeyboardInterrupt):
            pn.NeuralODE(**OPTIONS, **options).fit(T, Y, callback=until(count), checkpoint=checkpoint)
        assert [*tmp_path.iterdir()]
        later = []
        again = pn.NeuralODE(**OPTIONS, **options)
        again.fit(T, Y, callback=lambda iteration, later=later: bool(later.append(iteration)), checkpoint=tmp_path / "fit")
        assert len(later) <= len(seen) - count // 2  # fits that were done are not made again
        assert not [*tmp_path.iterdir()]
        assert (again.theta_ == whole.theta_).all()
        assert (again.predict(T, Y[0]) == whole.predict(T, Y[0])).all()


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
def test_an_interrupt_leaves_the_members_that_are_there(tmp_path):
    """Those that were finished; else the one at work."""
    seen = []
    first = pn.NeuralODE(**OPTIONS).fit(T, Y, callback=lambda iteration: bool(seen.append(iteration)))
    for count, finished in ((len(seen) - 1, 0), (len(seen) + 2, 1)):
        model = pn.NeuralODE(**OPTIONS, n_estimators=3)
        with pytest.raises(pn.fit.FitInterrupted):
            model.fit(T, Y, callback=until(count))
        (member,) = model.estimators_
        assert (member.report_["status"], model.report_["status"]) == (("interrupted", "finished")[finished], "interrupted")
        assert (member.predict(T, Y[0]) == model.predict(T, Y[0])).all()
        if finished:
            assert (model.predict(T, Y[0]) == first.predict(T, Y[0])).all()
        model.save(tmp_path / "model")
        assert (pn.load(tmp_path / "model").predict(T, Y[0]) == model.predict(T, Y[0])).all()


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
@pytest.mark.parametrize("options", [{"n_estimators": 2}, {"n_restarts": 2}], ids=str)
def test_parts_of_a_checkpoint_that_stays_stay(options, tmp_path):
    pn.NeuralODE(**OPTIONS, **options).fit(T, Y, checkpoint=pn.fit.Checkpoint(tmp_path / "fit", stays=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit.1", "fit.2"]


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
def test_checkpoints_go_to_processes(tmp_path):
    whole = pn.NeuralODE(**OPTIONS, n_estimators=2).fit(T, Y)
    with pytest.raises(KeyboardInterrupt):
        pn.NeuralODE(**OPTIONS, n_estimators=2).fit(T, Y, callback=until(8), checkpoint=tmp_path / "fit")
    model = pn.NeuralODE(**OPTIONS, n_estimators=2, n_jobs=2).fit(T, Y, checkpoint=tmp_path / "fit")
    assert not [*tmp_path.iterdir()]
    assert (model.predict(T, Y[0]) == whole.predict(T, Y[0])).all()


@pytest.mark.parametrize("options", [{"n_estimators": 2}, {"n_restarts": 2}], ids=str)
def test_checkpoints_of_many_fits_are_checked(options, tmp_path):
    with pytest.raises(ValueError, match="checkpoint= needs random_state"):
        pn.NeuralODE(hidden=(4,), **options).fit(T, Y, checkpoint=tmp_path / "fit")
    with pytest.raises(KeyboardInterrupt):
        pn.NeuralODE(**OPTIONS, **options).fit(T, Y, callback=until(3), checkpoint=tmp_path / "fit")
    with pytest.raises(ValueError, match=r"fit\.1 is the checkpoint of another fit"):
        pn.NeuralODE(**OPTIONS, **options).fit(T, 2 * Y, checkpoint=tmp_path / "fit")


class Interrupts(pn.NeuralODE):
    """Ctrl-C meets whoever waits for it, once the first of its fits is done and the others are at work."""

    def fit(self, *given, **more):
        if self.n_estimators > 1 or self.n_restarts > 1:
            return super().fit(*given, **more)
        if self.random_state == 0:
            super().fit(*given, **more)
            DONE.set()
            return self
        DONE.wait(60)
        if self.random_state in (1, 1000):
            time.sleep(0.5)
            _thread.interrupt_main()
        time.sleep(1.0)
        return super().fit(*given, **more)


DONE = threading.Event()


@pytest.mark.filterwarnings("ignore::pynode.fit.FitWarning")
@pytest.mark.parametrize("options", [{"n_estimators": 3}, {"n_restarts": 3}], ids=str)
def test_an_interrupt_keeps_members_that_were_fitted_elsewhere(options):
    joblib = pytest.importorskip("joblib")
    DONE.clear()
    model = Interrupts(**OPTIONS | {"random_state": 0}, **options, n_jobs=3)
    with joblib.parallel_config("threading"), pytest.raises(pn.fit.FitInterrupted):
        model.fit(T, Y)
    assert model.report_["status"] == "interrupted"
    assert len(model.estimators_) == (1 if "n_estimators" in options else 0)
    first = pn.NeuralODE(**OPTIONS | {"random_state": 0}).fit(T, Y)
    assert (model.predict(T, Y[0]) == first.predict(T, Y[0])).all()
