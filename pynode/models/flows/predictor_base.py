"""What NeuralODEClassifier and NeuralODERegressor share: features are carried by a flow, and read out where they arrive."""

import os
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.calls.solve import solve
from pynode.data.arrays import real_array, real_dtype
from pynode.data.samples import as_table
from pynode.fields.field import Field
from pynode.fields.make import mlp
from pynode.models.flows.base import FlowModel
from pynode.models.flows.epochs import Callback
from pynode.models.flows.losses import end_loss
from pynode.models.flows.samples import FlowSamples
from pynode.models.options import Integer, OwnField, option, widths
from pynode.models.storage import n_of_layers
from pynode.optim.checkpoint import Checkpoint
from pynode.training.regularisers import with_penalty

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]


@dataclass(eq=False, repr=False)
class Predictor(FlowModel):
    """What classifier and regressor share."""

    _: KW_ONLY
    field: Field | None = option(
        None, OwnField(), "A field of your own, of n_features + augment (or `lift`) states, in place of the network."
    )
    augment: int = option(
        0,
        Integer(0),
        "Zeros that follow the features in the initial state (augmented Neural ODE; Dupont, Doucet, Teh 2019, "
        "arXiv:1904.01681). Without them the flow is a homeomorphism of the space of features.",
    )
    lift: int | None = option(
        None, Integer(1), "The size of the state, whose initial value is then a learned affine map of the features."
    )
    layers: int | None = option(
        None,
        Integer(1),
        "Euler steps in place of an adaptive solve: a residual network of so many layers that share their parameters.",
    )

    def check_options(self) -> None:
        """Check the options, as `fit` does; see `Estimator.check_options`."""
        super().check_options()
        if self.lift is not None and self.augment:
            raise ValueError("augment adds zeros to the features, lift replaces them by a learned map: give one of them")

    # ---- Fitting

    def _loss(self) -> str:
        raise NotImplementedError

    def _readout(self, d: int, m: int) -> Field:
        return mlp(d, (), m)

    def _readout_parameters(self, d: int, m: int) -> int:
        return n_of_layers(d, m)

    def _parts(self, k: int, m: int) -> tuple[Field, Field, Field | None]:
        """(field, readout, lift or None) for k features and m numbers read out."""
        d = k + int(self.augment) if self.lift is None else int(self.lift)
        own = mlp(d, widths(self.hidden), activation=self.activation, time=True) if self.field is None else self.field
        if own.d != d or own.n_out != d or own.inputs:
            raise ValueError(
                f"the field maps {own.d} states to {own.n_out}, with {own.inputs} inputs; {k} features with "
                f"augment={self.augment}, lift={self.lift} need {d} states and no inputs"
            )
        return own, self._readout(d, m), None if self.lift is None else mlp(k, (), d)

    def _keep_parts(self, k: int, m: int) -> list[Field]:
        """Make the parts; those that have parameters, in the order of theta_."""
        self.field_, self.readout_, self.lift_ = self._parts(k, m)
        return [part for part in (self.field_, self.readout_, self.lift_) if part is not None]

    def _fit(
        self,
        X: Array,
        targets: Array,
        weight: Array | None,
        classes: NDArray[np.int64] | None,
        progress: bool | str | None,
        callback: Callback | None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None,
    ) -> Self:
        """Train on features and what the loss compares with; the model as it is then."""
        self.random_state_ = self._seed()
        rng = np.random.default_rng(self.random_state_)
        self._keep_scaling(X, weight)
        parts = self._keep_parts(X.shape[1], targets.shape[1])
        start = np.concatenate([part.init(rng) for part in parts])
        x = self._scaled(X)

        def samples(rows: Any, penalty: tuple[float, float]) -> FlowSamples:
            return self._objective(x[rows], targets[rows], None if weight is None else weight[rows], penalty)

        return self._train(samples, self._rows(len(x), classes), start, progress, callback, checkpoint)

    def _objective(self, x: Array, targets: Array, weight: Array | None, penalty: tuple[float, float]) -> FlowSamples:
        carried = with_penalty(self.field_, *penalty) if any(penalty) else self.field_
        if weight is not None:
            targets = np.concatenate([targets, (weight / weight.mean())[:, None]], axis=1)
        return FlowSamples(
            carried,
            end_loss(self.readout_, carried.d, self._loss(), weight is not None),
            x,
            targets,
            int(self.batch_size),
            self.random_state_,
            lift=self.lift_,
            decay=float(self.weight_decay),
            dtype=real_dtype(self.dtype),
            **self._solver(self.rtol, self.atol),
        )

    # ---- Using

    def _solver(self, rtol: float, atol: float) -> dict[str, Any]:
        if self.layers is not None:
            return {"method": "euler", "step": 1.0 / int(self.layers)}
        return {"method": self.method, "rtol": float(rtol), "atol": float(atol)}

    def trajectories(self, X: ArrayLike, t: ArrayLike = (0.0, 1.0)) -> Array:
        """States on the way from the features (t = 0) to where they are read out (t = 1), in scaled units.

        Parameters
        ----------
        X : (n, n_features) array_like
            Features of n samples.
        t : (T,) array_like, default (0, 1)
            Rising from 0.

        Returns
        -------
        (n, T, d) array
        """
        self.check_is_fitted()
        x = self._scaled(as_table(X, type(self).__name__, self.n_features_in_))
        p, q = self.field_.n_params, self.readout_.n_params
        start = x if self.lift_ is None else self.lift_(0.0, x, self.theta_[p + q :])
        y0 = np.pad(start, ((0, 0), (0, self.field_.d - start.shape[1])))
        options = self._solver(min(self.rtol, 1e-6), min(self.atol, 1e-8))
        y: Array = solve(self.field_, y0, real_array("t", t, np.float64), self.theta_[:p], errors="raise", **options).y
        return y

    def _read_out(self, X: ArrayLike) -> Array:
        """(n, m) what is read out where samples arrive."""
        p, q = self.field_.n_params, self.readout_.n_params
        end = np.ascontiguousarray(self.trajectories(X)[:, -1])
        read: Array = self.readout_(1.0, end, *([self.theta_[p : p + q]] if q else []))
        return read

    def plot(self, kind: str = "overview", X: ArrayLike | None = None, y: ArrayLike | None = None) -> "Figure":
        """A figure (needs matplotlib).

        Parameters
        ----------
        kind : {"overview", "regions", "flow", "training"}
            See `pynode.plots`.
        X, y : array_like, optional
            Samples to draw; all but "training" need X.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from pynode.plots.registry import draw

        self.check_is_fitted()
        return draw("samples", kind, self, X, y)

    def _implied(self, k: int, content: dict[str, Any]) -> int:
        d = k + int(self.augment) if self.lift is None else int(self.lift)
        field = n_of_layers(d + 1, *widths(self.hidden), d) if self.field is None else self.field.n_params
        lift = 0 if self.lift is None else n_of_layers(k, d)
        return field + self._readout_parameters(d, self._restore_targets(content)) + lift

    def _restore(self, content: dict[str, Any]) -> int:
        return sum(part.n_params for part in self._keep_parts(self.n_features_in_, self._restore_targets(content)))

    def _restore_targets(self, content: dict[str, Any]) -> int:
        """What a file says of the targets; how many numbers are read out."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        classifier = self.kind == "classifier"
        return Tags(
            estimator_type=self.kind,
            target_tags=TargetTags(required=True, multi_output=not classifier),
            classifier_tags=ClassifierTags() if classifier else None,
            regressor_tags=None if classifier else RegressorTags(),
            input_tags=InputTags(),
        )
