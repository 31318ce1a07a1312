"""What models whose points are carried by a flow have in common: options, training by epochs, files."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import as_integer
from pynode.data.scaling import shift_and_scale
from pynode.fields.field import Field
from pynode.fields.make import ActivationName
from pynode.models.base import Estimator
from pynode.models.flows.epochs import Callback, Epochs
from pynode.models.options import (
    Activation,
    AdaptiveMethod,
    Dtype,
    Fraction,
    Integer,
    OwnField,
    Positive,
    Schedule,
    Seed,
    Switch,
    Widths,
    from_plain,
    option,
    to_plain,
)
from pynode.models.storage import check_implied, stored_array, stored_field, stored_history, stored_report
from pynode.optim.adam import adam
from pynode.optim.checkpoint import opened
from pynode.optim.progress import Progress
from pynode.optim.result import HISTORY, FitInterrupted, FitResult
from pynode.optim.session import results_kept_whole
from pynode.training.early_stopping import EarlyStopping, split, split_classes

Rows = tuple[Any, NDArray[np.int64] | None]
"""Which samples to train on, and which early stopping keeps aside."""


@dataclass(eq=False, repr=False)
class FlowOptions(Estimator):
    """Options that all models of this kind have; each adds its own, and has defaults of its own."""

    hidden: int | Sequence[int] = option(
        (32, 32), Widths(), "Widths of the hidden layers of the field, a network of state and time."
    )
    activation: ActivationName = option("tanh", Activation(), "Activation function of the network, see `pynode.mlp`.")
    _: KW_ONLY
    field: Field | None = option(None, OwnField(), "A field of your own in place of the network.")
    method: str = option("bosh3", AdaptiveMethod(), "Runge-Kutta method, see `pynode.solve`.")
    rtol: float = option(
        1e-2,
        Positive(),
        "Relative tolerance of training, where gradients are exact for the steps taken, however large; predictions use at "
        "most 1e-6, in float64.",
    )
    atol: float = option(1e-2, Positive(), "Absolute tolerance of training; predictions use at most 1e-8, in float64.")
    max_iter: int = option(100, Integer(1), "Epochs.")
    batch_size: int = option(64, Integer(1), "Samples of a minibatch.")
    early_stopping: bool = option(
        False,
        Switch(),
        "Keep some samples aside (of a classifier some of each class), stop when the loss on them, without penalties, no "
        "longer falls, and keep the best parameters for them.",
    )
    validation_fraction: float = option(0.2, Fraction(), "Part of the samples kept aside.")
    patience: int = option(10, Integer(1), "Epochs without improvement after which training stops.")
    learning_rate: float = option(1e-2, Positive(), "Learning rate of Adam, see `pynode.fit.adam`.")
    schedule: str | Callable[[float], float] = option(
        "cosine", Schedule(), "Schedule of the learning rate, see `pynode.fit.schedules`."
    )
    max_gradient: float | None = option(None, Positive(), "Adam shortens longer gradients to this norm.")
    weight_decay: float = option(0.0, Positive(zero=True), "The loss has weight_decay |theta|^2 added.")
    kinetic_energy: float = option(
        0.0, Positive(zero=True), "Strength of a regulariser along the path, see `pynode.fit.with_penalty`."
    )
    jacobian_norm: float = option(0.0, Positive(zero=True), "Strength of another one, see there.")
    scale: bool = option(True, Switch(), "Give features (and the targets of a regressor) mean 0 and variance 1.")
    dtype: Literal["float32", "float64"] = option("float32", Dtype(), "Floating-point type of the solves of training.")
    random_state: int | None = option(None, Seed(), "The same seed gives the same model.")
    verbose: int = option(0, Integer(0, booleans=True), "Show progress while fitting.")


class FlowModel(FlowOptions):
    """A model with a field `field_`, parameters `theta_`, and features that are scaled by `shift_` and `scale_`.

    A subclass sets what `fit` needs, calls `_train`, and defines `_restore(content)`, which makes its parts again from a
    file and returns how many parameters they have.
    """

    field_: Field
    shift_: NDArray[np.float64]
    scale_: NDArray[np.float64]
    n_features_in_: int
    n_iter_: int

    @property
    def _penalty(self) -> tuple[float, float]:
        return float(self.kinetic_energy), float(self.jacobian_norm)

    def _keep_scaling(self, X: NDArray[np.float64], weight: NDArray[np.float64] | None = None) -> None:
        k = self.n_features_in_ = X.shape[1]
        self.shift_, self.scale_ = shift_and_scale(X, weight) if self.scale else (np.zeros(k), np.ones(k))

    def _scaled(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return (X - self.shift_) / self.scale_

    def _rows(self, n: int, classes: NDArray[np.int64] | None = None) -> Rows:
        """(kept, aside): which of n samples to train on, and which early stopping keeps aside, or None."""
        if not self.early_stopping:
            return slice(None), None
        if classes is not None:
            return split_classes(classes, self.validation_fraction, self.random_state_)
        return split(n, self.validation_fraction, self.random_state_, "samples")

    def _train(
        self,
        samples: Callable[[Any, tuple[float, float]], Any],
        rows: Rows,
        start: NDArray[np.float64],
        progress: bool | str | None,
        callback: Callback | None,
        checkpoint: Any,
    ) -> Self:
        """Adam on minibatches; the fitted model.

        Parameters
        ----------
        samples : callable
            (rows, (kinetic energy, Jacobian norm)) -> FlowSamples
        rows : see `_rows`
        start : (p,) array
        progress, callback, checkpoint : see `fit`
        """
        label = progress if isinstance(progress, str) else type(self).__name__
        shown = bool(self.verbose) if progress is None else bool(progress)
        n = int(self.max_iter)
        kept, aside = rows
        objective = samples(kept, self._penalty)
        held = None if aside is None else samples(aside, (0.0, 0.0))

        def what() -> tuple[Any, ...]:
            parts = [part for o in (objective, held) if o is not None for part in (o.x, o.rows)]
            return type(self).__name__, *self._told("verbose"), *parts

        with opened(checkpoint, self.random_state, what) as saved:
            interrupt = None
            with Progress(n, label, shown) as bar:
                stopping = None if held is None else EarlyStopping(held.value, int(self.patience))
                epochs = Epochs(objective, stopping, callback, bar)
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
            with results_kept_whole():
                self._keep(result, epochs)
            if interrupt is not None:
                raise interrupt
        return self

    def _keep(self, result: FitResult, epochs: Epochs) -> None:
        objective, stopping = epochs.objective, epochs.stopping
        table = epochs.table()
        best = len(table) - 1
        self.theta_ = result.theta
        self.n_iter_ = max(1, len(table))
        self.history_ = dict(zip(HISTORY, table.T.copy(), strict=True))
        if stopping is not None and stopping.kept is not None:
            (self.theta_,) = stopping.kept
            best = int(np.argmin(self.history_["validation"]))
        early = result.status == "stopped" and not epochs.asked
        status = "early" if early else "finished" if result.status == "max_iter" else result.status
        failed = objective.failed
        self.report_ = self.common_report(
            status,
            result.message,
            [f"{failed} times a sample could not be solved and took no part in its iteration"] if failed else [],
            loss=float(self.history_["loss"][best] if len(table) else result.loss),
            nfe=float(self.history_["nfe"][best]) if len(table) else 0.0,
            seconds=epochs.seconds(),
            n_iter=len(table),
            n_samples=len(objective.x),
            n_failed=failed,
        )

    # ---- Files

    def to_content(self) -> dict[str, Any]:
        """The fitted model as plain data and arrays, for `pynode.data.files.write`.

        Returns
        -------
        dict
        """
        return {
            "params": to_plain(self),
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
    def from_content(cls, content: dict[str, Any]) -> Self:
        """The model from what a file holds.

        Parameters
        ----------
        content : dict
            What `to_content` gave; nothing in it is trusted.

        Returns
        -------
        FlowModel

        Raises
        ------
        Exception
            Of any kind, where it is not a model: `pynode.load` makes a `ModelFileError` of it.
        """
        own = stored_field(content["field"]) if content["own_field"] else None
        model: Self = from_plain(cls, content["params"], field=own)
        k = model.n_features_in_ = as_integer("n_features", content["n_features"], 1, 1 << 20)
        check_implied(model._implied(k, content), content["theta"])
        model.theta_ = stored_array(content["theta"], (model._restore(content),), "theta")
        model.shift_ = stored_array(content["shift"], (k,), "shift")
        model.scale_ = stored_array(content["scale"], (k,), "scale")
        if not (model.scale_ > 0).all():
            raise ValueError("scale must be positive")
        model.history_ = stored_history(content["history"])
        model.report_ = stored_report(content["report"], {})
        model.random_state_ = model.report_["random_state"]
        model.n_iter_ = max(1, model.report_["n_iter"])
        return model

    def _implied(self, k: int, content: dict[str, Any]) -> int:
        """How many parameters the options describe for k features, before anything is made."""
        raise NotImplementedError

    def _restore(self, content: dict[str, Any]) -> int:
        """Make the fields; how many parameters they have."""
        raise NotImplementedError
