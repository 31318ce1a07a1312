"""NeuralODEClassifier and NeuralODERegressor: features are carried by a learned flow, and read out where they arrive."""

import os
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.samples import as_labels, as_sample_weight, as_targets, as_training_table
from pynode.data.scaling import shift_and_scale
from pynode.fields.field import Field
from pynode.fields.make import mlp
from pynode.models.flows.epochs import Callback
from pynode.models.flows.losses import first_states
from pynode.models.flows.predictor_base import Predictor
from pynode.models.options import OneOf, documented, option
from pynode.models.storage import of_type, stored_array
from pynode.optim.checkpoint import Checkpoint

Array = NDArray[np.float64]


@documented
class NeuralODEClassifier(Predictor):
    """A classifier: features flow along dy/dt = f(t, y; theta) from t = 0 to 1, a linear map and softmax read them out.

    Trained by Adam on minibatches, cross-entropy, exact gradients of the steps taken.

    {options}

    Attributes
    ----------
    theta_ : (p,) array
        Parameters of field, readout and lift, side by side.
    field_, readout_ : Field
    lift_ : Field or None
        None without `lift`.
    shift_, scale_ : (n_features,) array
        Scaled features = (features - shift_) / scale_.
    classes_ : (K,) array
        The labels, sorted.
    n_features_in_ : int
    n_iter_ : int
        Epochs.
    random_state_ : int
        The seed that was used.
    history_ : dict of arrays
        An entry an epoch: loss, gradient_norm (means over its minibatches), nfe (mean evaluations of the field a sample),
        seconds since the start, validation (the loss on the samples kept aside; NaN without early stopping).
    report_ : dict
        How the fit went: status ("finished", "early", "stopped", "interrupted") and message; loss and nfe of the last
        epoch, or of the one that early stopping keeps; seconds, n_iter, n_params, n_samples, n_failed (times a sample
        could not be solved), random_state, warnings, version.

    See Also
    --------
    NeuralODERegressor

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = np.where((X**2).sum(axis=1) < 1, "in", "out")
    >>> model = pn.NeuralODEClassifier(augment=1, max_iter=30, random_state=0).fit(X, y)
    >>> model.predict([[0.0, 0.0]])[0]
    np.str_('in')
    """

    kind = "classifier"
    classes_: NDArray[Any]

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        progress: bool | str | None = None,
        callback: Callback | None = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    ) -> Self:
        """Learn from labelled samples.

        Parameters
        ----------
        X : (n, n_features) array_like
            Features of n samples.
        y : (n,) array_like
            Labels of any dtype that sorts.
        sample_weight : (n,) array_like, optional
            How often each sample counts, up to a factor; a sample of weight 0 is left out.
        progress : bool or str, optional
            Show how training goes; a string is the label of the display. Default: `verbose`.
        callback : callable, optional
            callback(`pynode.fit.Iteration`) after each epoch; return True to stop.
        checkpoint : path or pynode.fit.Checkpoint, optional
            A file that is written now and then. If it is there, the fit goes on from it, to the same bits as if
            nothing had happened; it is removed at the end. Needs random_state.

        Returns
        -------
        NeuralODEClassifier
            This model, fitted.

        Raises
        ------
        TypeError, ValueError
            Options or data that make no sense.
        pynode.fit.FitInterrupted
            Ctrl-C (it is a KeyboardInterrupt); the model keeps what it has learned and can be used.
        """
        self.check_options()
        table = as_training_table(X, type(self).__name__)
        classes, index = as_labels(y, len(table))
        weight, some = as_sample_weight(sample_weight, len(table))
        if len(np.unique(index[some])) < 2:
            raise ValueError("sample_weight leaves samples of one class only: give 2 classes or more a positive weight")
        self.classes_ = classes
        targets = np.eye(len(classes))[index]
        return self._fit(table[some], targets[some], weight, index[some], progress, callback, checkpoint)

    def _loss(self) -> str:
        return "cross-entropy"

    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : (n, n_features) array_like
            Features of n samples.

        Returns
        -------
        (n, K) array
            In the order of `classes_`.
        """
        self.check_is_fitted()
        z = self._read_out(X)
        z = z - z.max(axis=1, keepdims=True)
        logarithms: Array = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        return logarithms

    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of the classes.

        Parameters
        ----------
        X : (n, n_features) array_like
            Features of n samples.

        Returns
        -------
        (n, K) array
            In the order of `classes_`.
        """
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class of each sample.

        Parameters
        ----------
        X : (n, n_features) array_like
            Features of n samples.

        Returns
        -------
        (n,) array
            Of the dtype of the labels.
        """
        most = self.predict_log_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[most]
        return labels

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Part of the samples whose class is found.

        Parameters
        ----------
        X : (n, n_features) array_like
            Features of n samples.
        y : (n,) array_like
            Their classes.
        sample_weight : (n,) array_like, optional
            With weights it is the weight of those samples, relative to that of all.

        Returns
        -------
        float
        """
        right = self.predict(X) == np.asarray(y).reshape(-1)
        weight, some = as_sample_weight(sample_weight, len(right))
        return float(np.average(right[some], weights=weight))

    def to_content(self) -> dict[str, Any]:
        """The fitted model as plain data and arrays, for `pynode.data.files.write`.

        Returns
        -------
        dict
        """
        classes = self.classes_
        if classes.dtype.kind not in "biufU" and not all(type(c) is str for c in classes):
            raise ValueError(f"a model file holds labels that are numbers or text, not {classes.dtype}")
        return super().to_content() | {"classes": classes.tolist(), "classes_dtype": classes.dtype.str}

    def _restore_targets(self, content: dict[str, Any]) -> int:
        kind = np.dtype(content["classes_dtype"])
        labels = content["classes"]
        allowed = (str,) if kind.kind in "OU" else (bool, int, float)
        if kind.kind not in "biufUO" or len(labels) < 2 or not all(type(c) in allowed for c in labels):
            raise ValueError("the classes must be two or more numbers or texts")
        if kind.kind == "U" and kind.itemsize > 4 * max(map(len, labels)):
            raise ValueError(f"no class is as long as {kind} says")
        self.classes_ = np.array(labels, dtype=kind)
        if not (self.classes_[:-1] < self.classes_[1:]).all():
            raise ValueError("the classes must be sorted")
        return len(labels)


@documented
@dataclass(eq=False, repr=False)
class NeuralODERegressor(Predictor):
    """A regressor: features flow along dy/dt = f(t, y; theta) from t = 0 to 1, and a linear map reads the outputs.

    Trained by Adam on minibatches, exact gradients of the steps taken.

    {options}

    Attributes
    ----------
    theta_ : (p,) array
        Parameters of field, readout and lift, side by side.
    field_, readout_ : Field
    lift_ : Field or None
        None without `lift`.
    shift_, scale_ : (n_features,) array
        Scaled features = (features - shift_) / scale_.
    y_shift_, y_scale_ : (outputs,) array
        The same of the targets.
    n_features_in_, n_iter_, random_state_, history_, report_
        As in `NeuralODEClassifier`.

    See Also
    --------
    NeuralODEClassifier
    NeuralODE : learns an equation from trajectories.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> x = np.linspace(-1, 1, 50)[:, None]
    >>> model = pn.NeuralODERegressor(augment=1, max_iter=50, random_state=0).fit(x, np.sin(3 * x[:, 0]))
    >>> model.predict([[0.0]]).shape
    (1,)
    """

    kind = "regressor"

    _: KW_ONLY
    readout: Literal["linear", "first"] = option(
        "linear",
        OneOf(("linear", "first")),
        "A learned affine map of the state; or the first states themselves, so that the outputs are where the flow carries "
        "them.",
    )
    loss: Literal["squared", "huber"] = option(
        "squared",
        OneOf(("squared", "huber")),
        "Mean over outputs of r^2, or of Huber's r^2/2 (|r| < 1), |r| - 1/2; r in standard deviations of y, if `scale`.",
    )

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        progress: bool | str | None = None,
        callback: Callback | None = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    ) -> Self:
        """Learn from samples.

        Parameters
        ----------
        X : (n, n_features) array_like
            Features of n samples.
        y : (n,) or (n, outputs) array_like
            What is to be predicted.
        sample_weight : (n,) array_like, optional
            How often each sample counts, up to a factor; a sample of weight 0 is left out.
        progress : bool or str, optional
            Show how training goes; a string is the label of the display. Default: `verbose`.
        callback : callable, optional
            callback(`pynode.fit.Iteration`) after each epoch; return True to stop.
        checkpoint : path or pynode.fit.Checkpoint, optional
            A file that is written now and then. If it is there, the fit goes on from it, to the same bits as if
            nothing had happened; it is removed at the end. Needs random_state.

        Returns
        -------
        NeuralODERegressor
            This model, fitted.

        Raises
        ------
        TypeError, ValueError
            Options or data that make no sense.
        pynode.fit.FitInterrupted
            Ctrl-C (it is a KeyboardInterrupt); the model keeps what it has learned and can be used.
        """
        self.check_options()
        table = as_training_table(X, type(self).__name__)
        targets, self._vector = as_targets(y, len(table))
        weight, some = as_sample_weight(sample_weight, len(table))
        table, targets = table[some], targets[some]
        m = targets.shape[1]
        shift, scale = shift_and_scale(targets, weight) if self.scale else (np.zeros(m), np.ones(m))
        self.y_shift_: Array = shift
        self.y_scale_: Array = scale
        scaled = (targets - shift) / scale
        return self._fit(table, scaled, weight, None, progress, callback, checkpoint)

    def _loss(self) -> str:
        return self.loss

    def _readout(self, d: int, m: int) -> Field:
        if self.readout == "linear":
            return mlp(d, (), m)
        if m > d:
            raise ValueError(f"readout='first' reads {m} outputs from {d} states: give augment={m - d} or more")
        return first_states(d, m)

    def _readout_parameters(self, d: int, m: int) -> int:
        return super()._readout_parameters(d, m) if self.readout == "linear" else 0

    def predict(self, X: ArrayLike) -> Array:
        """The outputs.

        Parameters
        ----------
        X : (n, n_features) array_like
            Features of n samples.

        Returns
        -------
        (n,) or (n, outputs) array
            As y was in `fit`.
        """
        self.check_is_fitted()
        y = self._read_out(X) * self.y_scale_ + self.y_shift_
        return y[:, 0] if self._vector else y

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Coefficient of determination R^2, the mean over outputs; 1 is perfect.

        Parameters
        ----------
        X : (n, n_features) array_like
            Features of n samples.
        y : (n,) or (n, outputs) array_like
            What should be predicted.
        sample_weight : (n,) array_like, optional
            How often each sample counts.

        Returns
        -------
        float
        """
        self.check_is_fitted()
        predicted = self.predict(X)
        truth, _ = as_targets(y, len(predicted))
        weight, some = as_sample_weight(sample_weight, len(truth))
        truth, predicted = truth[some], predicted.reshape(truth.shape)[some]
        mean = np.average(truth, axis=0, weights=weight)
        miss, spread = (np.average((truth - other) ** 2, axis=0, weights=weight) for other in (predicted, mean))
        constant = np.where(miss > 0, 0.0, 1.0)  # as in scikit-learn
        return float(np.mean(np.where(spread > 0, 1 - miss / np.where(spread > 0, spread, 1.0), constant)))

    def to_content(self) -> dict[str, Any]:
        """The fitted model as plain data and arrays, for `pynode.data.files.write`.

        Returns
        -------
        dict
        """
        mine = {"y_shift": self.y_shift_, "y_scale": self.y_scale_, "vector": self._vector}
        return super().to_content() | mine

    def _restore_targets(self, content: dict[str, Any]) -> int:
        m = len(content["y_shift"])
        self.y_shift_ = stored_array(content["y_shift"], (m,), "y_shift")
        self.y_scale_ = stored_array(content["y_scale"], (m,), "y_scale")
        if m < 1 or not (self.y_scale_ > 0).all():
            raise ValueError("the scaling of the outputs makes no sense")
        self._vector = of_type(content["vector"], bool, "vector")
        return m
