"""What models whose points are carried by a flow have in common: options, training by epochs, files."""

import math
import secrets
import time
from typing import Any, NamedTuple

import numpy as np

from pynode import _version
from pynode.data.arrays import as_integer, as_positive, real_dtype
from pynode.engine.options import METHODS
from pynode.fields.field import Field
from pynode.models.base import Estimator, plain_params
from pynode.models.storage import stored_history, stored_report, stored_vector
from pynode.models.trajectories.options import widths
from pynode.optim.adam import adam
from pynode.optim.checkpoint import opened
from pynode.optim.progress import Progress
from pynode.optim.result import FitInterrupted
from pynode.optim.schedules import as_schedule
from pynode.programs.functions import ACTIVATIONS
from pynode.training.early_stopping import EarlyStopping, check_fraction, split, split_classes

HISTORY = ("loss", "nfe", "seconds", "validation")


REPORT = {
    "status": str,
    "loss": float,
    "nfe": float,
    "seconds": float,
    "epochs": int,
    "n_params": int,
    "n_samples": int,
    "failed": int,
    "seed": int,
    "version": str,
}
"""What a report holds: loss and nfe are those of the last epoch, or of the one that early stopping keeps; failed counts
samples that could not be solved."""


class Epoch(NamedTuple):
    """What a callback of `fit` sees after each epoch; to stop the fit it returns True.

    loss is the mean over the epoch's batches, nfe the mean number of evaluations of the field a sample, in forward solves,
    validation the loss on the samples kept aside at the end of the epoch (NaN without early stopping).
    """

    number: int
    loss: float
    nfe: float
    seconds: float
    validation: float = math.nan


class FlowModel(Estimator):
    """A model with a field `field_`, parameters `theta_`, and features that are scaled by `shift_` and `scale_`.

    A subclass sets what `fit` needs, calls `_train`, and defines `_restore(content)`, which makes its parts again from a
    file and returns how many parameters they have.
    """

    # options, kept by the constructors of subclasses
    activation: Any
    batch_size: Any
    dtype: Any
    field: Any
    hidden: Any
    jacobian_norm: Any
    kinetic_energy: Any
    learning_rate: Any
    max_gradient: Any
    max_iter: Any
    method: Any
    random_state: Any
    scale: Any
    schedule: Any
    verbose: Any
    field_: Field
    shift_: np.ndarray
    scale_: np.ndarray
    # options that pickles of before lack
    early_stopping: Any = False
    validation_fraction: Any = 0.2
    patience: Any = 10

    def _check(self):
        """Everything that can be said before there are data."""
        one_of("activation", self.activation, ACTIVATIONS)
        if self.field is not None and not isinstance(self.field, Field):
            raise TypeError(f"field must be a Field (pynode.field, pynode.mlp), not {type(self.field).__name__}")
        one_of("method", self.method, [name for name, row in METHODS.items() if row["error_order"]])
        check_fraction(self.validation_fraction)
        for name in ("max_iter", "batch_size", "patience"):
            as_integer(name, getattr(self, name), 1)
        for width in widths(self.hidden):
            as_integer("hidden", width, 1)
        if self.random_state is not None:
            as_integer("random_state", self.random_state, 0, 2**32 - 1)
        for name in ("rtol", "atol", "learning_rate"):
            as_positive(name, getattr(self, name))
        for name in ("weight_decay", "kinetic_energy", "jacobian_norm"):
            as_positive(name, getattr(self, name), zero=True)
        if self.max_gradient is not None:
            as_positive("max_gradient", self.max_gradient)
        as_schedule(self.schedule)
        if real_dtype(self.dtype) is None:
            raise ValueError("dtype=None must be 'float32' or 'float64'")

    @property
    def _penalty(self):
        return float(self.kinetic_energy), float(self.jacobian_norm)

    def _begin(self):
        """The seed of this fit."""
        self.seed_ = secrets.randbits(31) if self.random_state is None else int(self.random_state)
        return self.seed_

    def _keep_scaling(self, X, weight=None):
        k = self.n_features_in_ = X.shape[1]
        self.shift_, self.scale_ = shift_and_scale(X, weight) if self.scale else (np.zeros(k), np.ones(k))

    def _scaled(self, X):
        return (X - self.shift_) / self.scale_

    def _rows(self, n, classes=None):
        """(kept, aside): which of n samples to train on, and which early stopping keeps aside, or None."""
        if not self.early_stopping:
            return slice(None), None
        if classes is not None:
            return split_classes(classes, self.validation_fraction, self.seed_)
        return split(n, self.validation_fraction, self.seed_, "samples")

    def _train(self, samples, rows, start, progress, callback, checkpoint):
        """Adam on minibatches; the fitted model.

        Parameters
        ----------
        samples : callable
            (rows, (kinetic energy, Jacobian norm)) -> CarriedSamples
        rows : see `_rows`
        start : (p,) array
        progress, callback, checkpoint : see `fit`
        """
        label = progress if isinstance(progress, str) else type(self).__name__
        shown, n = bool(self.verbose) if progress is None else bool(progress), int(self.max_iter)
        kept, aside = rows
        objective, held = samples(kept, self._penalty), None if aside is None else samples(aside, (0.0, 0.0))

        def what():
            parts = [part for o in (objective, held) if o is not None for part in (o.x, o.rows)]
            return type(self).__name__, *self._told("verbose"), *parts

        with opened(checkpoint, self.random_state, what) as saved:
            interrupt = None
            with Progress(n, label, shown) as bar:
                judge = None if held is None else EarlyStopping(held.value, int(self.patience))
                epochs = _Epochs(objective, judge, callback, bar)
                if saved is not None:
                    epochs.attach(saved)
                try:
                    result = adam(
                        objective,
                        start,
                        max_iter=n * objective.n_batches,
                        learning_rate=self.learning_rate,
                        schedule=self.schedule,
                        max_gradient=self.max_gradient,
                        callback=epochs,
                        checkpoint=saved,
                    )
                except FitInterrupted as error:
                    interrupt, result = error, error.result
            self._keep(result, epochs)
            if interrupt is not None:
                raise interrupt
        return self

    def _keep(self, result, epochs):
        objective, judge, table = epochs.objective, epochs.judge, epochs.table()
        self.theta_, self.n_iter_, best = result.theta, max(1, len(table)), len(table) - 1
        self.history_ = dict(zip(HISTORY, table.T.copy(), strict=True))
        if judge is not None and judge.kept is not None:
            (self.theta_,), best = judge.kept, int(np.argmin(self.history_["validation"]))
        early = result.status == "stopped" and not epochs.asked
        self.report_ = {
            "status": "early" if early else result.status,
            "loss": float(self.history_["loss"][best] if len(table) else result.loss),
            "nfe": float(self.history_["nfe"][best]) if len(table) else 0.0,
            "seconds": epochs.seconds(),
            "epochs": len(table),
            "n_params": len(self.theta_),
            "n_samples": len(objective.x),
            "failed": objective.failed,
            "seed": self.seed_,
            "version": _version.__version__,
        }

    # ---- Files

    def _content(self):
        return {
            "params": plain_params(self),
            "own_field": self.field is not None,
            "field": self.field_.to_dict(),
            "n_features": self.n_features_in_,
            "theta": self.theta_,
            "shift": self.shift_,
            "scale": self.scale_,
            "history": self.history_,
            "report": self.report_,
        }

    @classmethod
    def _from_content(cls, content):
        """The model of a file; any exception where it is not one."""
        params = content["params"]
        own = Field.from_dict(content["field"]) if content["own_field"] else None
        hidden = params["hidden"]
        model: Any = cls(**params | {"field": own, "hidden": tuple(hidden) if isinstance(hidden, list) else hidden})
        model._check()
        k = model.n_features_in_ = as_integer("n_features", content["n_features"], 1, 1 << 20)
        model.theta_ = stored_vector(content["theta"], (model._restore(content),), "theta")
        model.shift_ = stored_vector(content["shift"], (k,), "shift")
        model.scale_ = stored_vector(content["scale"], (k,), "scale")
        if not (model.scale_ > 0).all():
            raise ValueError("scale must be positive")
        history = content["history"]
        history.setdefault("validation", np.full(len(history["loss"]), np.nan))  # files of before early stopping
        model.history_ = stored_history(history, HISTORY)
        model.report_ = stored_report(content["report"], REPORT)
        model.seed_, model.n_iter_ = model.report_["seed"], max(1, model.report_["epochs"])
        return model

    def _restore(self, content):
        raise NotImplementedError


class _Epochs:
    """From iterations of Adam to epochs: a callback for `adam`, with early stopping and what a checkpoint holds of it."""

    def __init__(self, objective, judge, callback, bar):
        self.objective, self.judge, self.callback, self.bar = objective, judge, callback, bar
        self.rows, self.losses = [], []
        self.nfe = self.solved = 0
        self.asked = False
        self.start = time.perf_counter()

    def __call__(self, iteration):
        self.losses.append(iteration.loss)
        if len(self.losses) < self.objective.n_batches:
            return False
        o, loss = self.objective, float(np.mean(self.losses))
        nfe = (o.nfe - self.nfe) / max(o.solved - self.solved, 1)
        validation = math.nan if self.judge is None else self.judge(iteration.theta, (iteration.theta,))
        self.rows.append((loss, nfe, time.perf_counter() - self.start, validation))
        self.losses, self.nfe, self.solved = [], o.nfe, o.solved
        told = "" if self.judge is None else f", {validation:.4g} on samples kept aside"
        self.bar.update(len(self.rows), f"loss {loss:.4g}{told}, {nfe:.1f} evaluations a sample")
        self.asked = self.callback is not None and self.callback(Epoch(len(self.rows), *self.rows[-1])) is True
        return self.asked or (self.judge is not None and self.judge.tired)

    def table(self):
        """(epochs, 4) the columns of HISTORY."""
        return np.array(self.rows, dtype=np.float64).reshape(-1, len(HISTORY))

    def seconds(self):
        """At the end of the last epoch."""
        return self.rows[-1][2] if self.rows else 0.0

    # Checkpoints

    def attach(self, checkpoint):
        """Give the checkpoint the state, and take what it found."""
        checkpoint.outer = self._saved
        if checkpoint.found is not None:
            self._restore(checkpoint.found["outer"])

    def _saved(self):
        o = self.objective
        return {
            "rows": self.table(),
            "losses": np.array(self.losses, dtype=np.float64),
            "counts": [self.nfe, self.solved, o.nfe, o.solved, o.failed],
            "judge": None if self.judge is None else self.judge.saved(),
            "seconds": time.perf_counter() - self.start,
        }

    def _restore(self, saved):
        self.rows, self.losses = [tuple(row) for row in saved["rows"].tolist()], saved["losses"].tolist()
        o = self.objective
        self.nfe, self.solved, o.nfe, o.solved, o.failed = saved["counts"]
        if self.judge is not None:
            self.judge.restore(saved["judge"])
        self.start -= saved["seconds"]


def shift_and_scale(x, weight=None):
    """(mean, standard deviation) of each column, 1 in place of 0; weight: how often each row counts."""
    if weight is None:
        mean, spread = x.mean(axis=0), x.std(axis=0)
    else:
        mean = np.average(x, axis=0, weights=weight)
        spread = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))
    return mean, np.where(spread > 0, spread, 1.0)


def one_of(name, value, names):
    """Refuse a value that is none of the names."""
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(names)}")
