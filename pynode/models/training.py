"""What models whose points are carried by a flow have in common: options, training by epochs, files."""

import secrets
import time
from typing import Any, NamedTuple

import numpy as np

from pynode import _version
from pynode.arguments import integer, positive, real_dtype
from pynode.fields import Field
from pynode.fit.adam import adam
from pynode.fit.progress import Progress
from pynode.fit.result import FitInterrupted
from pynode.fit.schedules import as_schedule
from pynode.functions import ACTIVATIONS
from pynode.models.options import widths
from pynode.models.tabular import Estimator, plain_params, stored_history, stored_report, stored_vector
from pynode.solving import METHODS

HISTORY = ("loss", "nfe", "seconds")
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
"""What a report holds: loss and nfe are those of the last epoch, failed counts samples that could not be solved."""


class Epoch(NamedTuple):
    """What a callback of `fit` sees after each epoch; to stop the fit it returns True.

    loss is the mean over the epoch's batches, nfe the mean number of evaluations of the field a sample, in forward solves.
    """

    number: int
    loss: float
    nfe: float
    seconds: float


class CarriedModel(Estimator):
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

    def _check(self):
        """Everything that can be said before there are data."""
        one_of("activation", self.activation, ACTIVATIONS)
        if self.field is not None and not isinstance(self.field, Field):
            raise TypeError(f"field must be a Field (pynode.field, pynode.mlp), not {type(self.field).__name__}")
        one_of("method", self.method, [name for name, row in METHODS.items() if row["error_order"]])
        for name in ("max_iter", "batch_size"):
            integer(name, getattr(self, name), 1)
        for width in widths(self.hidden):
            integer("hidden", width, 1)
        if self.random_state is not None:
            integer("random_state", self.random_state, 0, 2**32 - 1)
        for name in ("rtol", "atol", "learning_rate"):
            positive(name, getattr(self, name))
        for name in ("weight_decay", "kinetic_energy", "jacobian_norm"):
            positive(name, getattr(self, name), zero=True)
        if self.max_gradient is not None:
            positive("max_gradient", self.max_gradient)
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

    def _keep_scaling(self, X):
        spread, k = X.std(axis=0), X.shape[1]
        self.n_features_in_ = k
        self.shift_ = X.mean(axis=0) if self.scale else np.zeros(k)
        self.scale_ = np.where(spread > 0, spread, 1.0) if self.scale else np.ones(k)

    def _scaled(self, X):
        return (X - self.shift_) / self.scale_

    def _train(self, objective, start, progress, callback):
        """Adam on minibatches; the fitted model.

        Parameters
        ----------
        objective : CarriedSamples
        start : (p,) array
        progress, callback : see `fit`
        """
        label = progress if isinstance(progress, str) else type(self).__name__
        shown, n = bool(self.verbose) if progress is None else bool(progress), int(self.max_iter)
        interrupt = None
        with Progress(n, label, shown) as bar:
            epochs = _Epochs(objective, callback, bar)
            try:
                result = adam(
                    objective,
                    start,
                    max_iter=n * objective.n_batches,
                    learning_rate=self.learning_rate,
                    schedule=self.schedule,
                    max_gradient=self.max_gradient,
                    callback=epochs,
                )
            except FitInterrupted as error:
                interrupt, result = error, error.result
        self.theta_, self.n_iter_ = result.theta, max(1, len(epochs.rows))
        self.history_ = dict(zip(HISTORY, np.array(epochs.rows, dtype=np.float64).reshape(-1, 3).T.copy(), strict=True))
        loss, nfe, seconds = epochs.rows[-1] if epochs.rows else (float(result.loss), 0.0, 0.0)
        self.report_ = {
            "status": result.status,
            "loss": loss,
            "nfe": nfe,
            "seconds": seconds,
            "epochs": len(epochs.rows),
            "n_params": len(self.theta_),
            "n_samples": len(objective.x),
            "failed": objective.failed,
            "seed": self.seed_,
            "version": _version.__version__,
        }
        if interrupt is not None:
            raise interrupt
        return self

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
        k = model.n_features_in_ = integer("n_features", content["n_features"], 1, 1 << 20)
        model.theta_ = stored_vector(content["theta"], (model._restore(content),), "theta")
        model.shift_ = stored_vector(content["shift"], (k,), "shift")
        model.scale_ = stored_vector(content["scale"], (k,), "scale")
        if not (model.scale_ > 0).all():
            raise ValueError("scale must be positive")
        model.history_ = stored_history(content["history"], HISTORY)
        model.report_ = stored_report(content["report"], REPORT)
        model.seed_, model.n_iter_ = model.report_["seed"], max(1, model.report_["epochs"])
        return model

    def _restore(self, content):
        raise NotImplementedError


class _Epochs:
    """From iterations of Adam to epochs: a callback for `adam`."""

    def __init__(self, objective, callback, bar):
        self.objective, self.callback, self.bar = objective, callback, bar
        self.rows, self.losses = [], []
        self.nfe = self.solved = 0
        self.start = time.perf_counter()

    def __call__(self, iteration):
        self.losses.append(iteration.loss)
        if len(self.losses) < self.objective.n_batches:
            return False
        o, loss = self.objective, float(np.mean(self.losses))
        nfe = (o.nfe - self.nfe) / max(o.solved - self.solved, 1)
        self.rows.append((loss, nfe, time.perf_counter() - self.start))
        self.losses, self.nfe, self.solved = [], o.nfe, o.solved
        self.bar.update(len(self.rows), f"loss {loss:.4g}, {nfe:.1f} evaluations a sample")
        return self.callback is not None and self.callback(Epoch(len(self.rows), *self.rows[-1])) is True


def one_of(name, value, names):
    """Refuse a value that is none of the names."""
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(names)}")
