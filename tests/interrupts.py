"""Ctrl-C and kill -9 at random moments of a fit, and every operation on files failing: tests/campaign.sh interrupts runs it.

    python tests/interrupts.py ctrl_c 200      SIGINT at 200 random moments: how long the fit takes to end, what it leaves
    python tests/interrupts.py killed 100      SIGKILL at 100 random moments: the fit, called again, ends with the same bits
    python tests/interrupts.py files           each operation on files fails in turn, in save and in checkpoints

Exits with 1 where something is broken. Moments are drawn with --seed.
"""

import argparse
import builtins
import errno
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

import pynode as pn
from pynode.data import files
from pynode.fit import Checkpoint

LATEST = 0.2
"""Seconds within which a fit ends after Ctrl-C."""

T = np.linspace(0, 6, 40)
CIRCLE = np.stack([np.cos(T), -np.sin(T)], axis=1)
SIZES = np.array([1.0, 0.5, 0.8, 1.2, 0.3])[:, None, None]
DATA = SIZES * CIRCLE + 0.01 * np.random.default_rng(0).standard_normal((5, 40, 2))
X = np.random.default_rng(1).normal(size=(200, 2))
LABELS = (X[:, 0] * X[:, 1] > 0).astype(int)

MODELS = {
    "second order": lambda: pn.NeuralODE(hidden=(4,), random_state=0, max_iter=10),
    "first order": lambda: pn.NeuralODE(hidden=(4,), random_state=0, max_iter=20, optimizer="adam+lbfgs"),
    "classifier": lambda: pn.NeuralODEClassifier((4,), lift=3, max_iter=20, batch_size=20, random_state=0),
}


def fit(name, model, checkpoint=None):
    """Fit a model of MODELS to its data."""
    data = (X, LABELS) if name == "classifier" else (T, DATA)
    return model.fit(*data, checkpoint=checkpoint)


def same(a, b):
    """Whether two models have the same parameters and went the same way."""
    return np.array_equal(a.theta_, b.theta_) and np.array_equal(a.history_["loss"], b.history_["loss"])


def usable(name, model):
    """Whether a model that an interrupt left predicts, or says that it is not fitted."""
    try:
        found = model.predict_proba(X[:3]) if name == "classifier" else model.predict(T[:5], [1.0, 0.0])
    except pn.models.NotFittedError:
        return True
    return bool(np.isfinite(found).all())


def interrupted(name, checkpoint, moment):
    """(seconds from the signal to the end of the fit; None where it was over before, the model as it was left)."""
    fired = []

    def now(number, frame):
        fired.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGALRM, now)
    model = MODELS[name]()
    try:
        signal.setitimer(signal.ITIMER_REAL, moment)
        fit(name, model, checkpoint)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        pass
    return (time.monotonic() - fired[0] if fired else None), model


def ctrl_c(count, rng):
    """Interrupt at random moments; the checkpoint that is left then ends with the same bits."""
    waits = []
    resumed = broken = 0
    for name, make in MODELS.items():
        fit(name, make())
        start = time.monotonic()
        whole = fit(name, make())
        span = time.monotonic() - start
        for _ in range(-(-count // len(MODELS))):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "fit.npz")
                checkpoint = Checkpoint(path, every=rng.choice([0, 0.05, 5]))
                wait, model = interrupted(name, checkpoint, max(1e-4, rng.random() * span))
                if wait is None:
                    continue
                waits.append(wait)
                good = usable(name, model) and not list(path.parent.glob(".*.part")) and not checkpoint.mark
                resumed += path.exists()
                good = good and same(fit(name, make(), path), whole)
                broken += not good
                if not good:
                    print(f"{name}: a broken state")
    late = sum(wait > LATEST for wait in waits)
    milliseconds = 1e3 * np.sort(waits)
    print(
        f"Ctrl-C {len(waits)} times, {resumed} left a checkpoint: ended after {np.median(milliseconds):.1f} ms (median), "
        f"{milliseconds[-1]:.0f} ms at worst, {late} later than {LATEST} s; {broken} broken states"
    )
    return late + broken


def killed(count, rng):
    """Kill fits at random moments and start them again, until they end; they have the bits of those never killed."""
    kills = broken = 0
    names = list(MODELS)
    while kills < count:
        name = names[kills % len(names)]
        whole = fit(name, MODELS[name]())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "fit.npz")
            while True:
                child = subprocess.Popen(
                    [sys.executable, "-W", "ignore", __file__, "child", name, "--path", str(path)], stdout=subprocess.PIPE
                )
                child.stdout.readline()  # all is imported
                try:
                    child.wait(timeout=0.5 * rng.random())
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
                child.stdout.close()
                if child.returncode == -signal.SIGKILL:
                    kills += 1
                    continue
                good = child.returncode == 0 and not path.exists() and same(pn.load(path.with_suffix(".model")), whole)
                good = good and not list(path.parent.glob(".*.part"))
                broken += not good
                break
    print(f"killed {kills} times: {broken} fits ended otherwise than those never killed")
    return broken


class FailingFiles:
    """Within it, operation k on files (from 0) of the process fails with `error`; `count` are those asked for."""

    def __init__(self, k, error):
        self.k = k
        self.error = error
        self.count = 0

    def _or_fail(self, function):
        def tried(*args, **kwargs):
            self.count += 1
            if self.count == self.k + 1:
                raise OSError(self.error, os.strerror(self.error))
            return function(*args, **kwargs)

        return tried

    def __enter__(self):
        self.kept = (os.fsync, os.replace)

        def opened(*args, **kwargs):
            file = self._or_fail(builtins.open)(*args, **kwargs)
            return Written(file, self._or_fail) if "x" in str(args[1:]) else file

        files.open = opened
        os.fsync, os.replace = map(self._or_fail, self.kept)
        return self

    def __exit__(self, *ignored):
        del files.open
        os.fsync, os.replace = self.kept


class Written:
    """A file whose operations may fail."""

    def __init__(self, file, or_fail):
        self.file = file
        for name in ("write", "flush", "close"):
            setattr(self, name, or_fail(getattr(file, name)))
        self.fileno = file.fileno

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        self.file.close()


def failing_files(count, rng):
    """Each operation of save and of a checkpoint fails in turn; files cut short by the system at each size."""
    broken = tried = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fit.npz")
        first, second = (fit("classifier", MODELS["classifier"]().set_params(max_iter=n)) for n in (2, 3))
        for error in (errno.ENOSPC, errno.EACCES, errno.EIO, errno.EROFS):
            for k in range(100):
                first.save(path)
                with FailingFiles(k, error) as failing:
                    try:
                        second.save(path)
                        failed = False
                    except OSError as said:
                        failed = said.errno == error
                expected = first if failing.count > k else second
                broken += failed != (failing.count > k) or not same(pn.load(path), expected) or len(os.listdir(folder)) != 1
                if failing.count <= k:
                    break
                tried += 1
        size = path.stat().st_size
        for most in rng.sample(range(size), min(count, size)):
            first.save(path)
            broken += not cut_short(lambda: second.save(path), most) or not same(pn.load(path), first)
            broken += len(os.listdir(folder)) != 1
            tried += 1
        path.unlink()
        whole = fit("second order", MODELS["second order"]())
        for k in range(100):
            with FailingFiles(k, errno.ENOSPC) as failing, warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                try:
                    good = same(fit("second order", MODELS["second order"](), Checkpoint(path, every=0)), whole)
                    good = good and any("could not be written" in str(w.message) for w in said) == (failing.count > k)
                except OSError:
                    good = k < 2  # a place that cannot be written to is refused before training
            broken += not good or bool(os.listdir(folder))
            if failing.count <= k:
                break
            tried += 1
    print(f"{tried} operations on files failed: {broken} broken states")
    return broken


def cut_short(write, most):
    """Whether a writer says that files may have at most this many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        write()
        return False
    except OSError as error:
        return error.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def child(name, path):
    """A fit that is to be killed."""
    print("ready", flush=True)
    fit(name, MODELS[name](), Checkpoint(path, every=0)).save(path.with_suffix(".model"))
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ctrl_c", "killed", "files", "child"])
    parser.add_argument("count", nargs="?", default="100")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--path", type=Path)
    given = parser.parse_args()
    if given.what == "child":
        return child(given.count, given.path)
    warnings.simplefilter("ignore")
    run = {"ctrl_c": ctrl_c, "killed": killed, "files": failing_files}[given.what]
    return int(run(int(given.count), random.Random(given.seed)) > 0)


if __name__ == "__main__":
    sys.exit(main())
