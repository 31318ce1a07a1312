"""NeuralODEClassifier and NeuralODERegressor: features are carried by a learned flow, and read out where they arrive."""

import numpy as np

from pynode.calls.solve import solve
from pynode.data.arrays import as_integer, real_dtype
from pynode.data.samples import as_labels, as_sample_weight, as_table, as_targets, as_training_table
from pynode.fields.make import mlp
from pynode.models.flows.base import FlowModel, one_of, shift_and_scale
from pynode.models.flows.losses import end_loss, first_states
from pynode.models.flows.samples import FlowSamples
from pynode.models.storage import stored_vector
from pynode.models.trajectories.options import widths
from pynode.training.regularisers import with_penalty


class _Predictor(FlowModel):
    """What classifier and regressor share."""

    def __init__(
        self,
        hidden=(32, 32),
        activation="tanh",
        *,
        field=None,
        augment=0,
        lift=None,
        layers=None,
        method="bosh3",
        rtol=1e-2,
        atol=1e-2,
        max_iter=100,
        batch_size=64,
        early_stopping=False,
        validation_fraction=0.2,
        patience=10,
        learning_rate=1e-2,
        schedule="cosine",
        max_gradient=None,
        weight_decay=0.0,
        kinetic_energy=0.0,
        jacobian_norm=0.0,
        scale=True,
        dtype="float32",
        random_state=None,
        verbose=0,
    ):
        # as in scikit-learn: kept as given, checked by fit
        self.hidden, self.activation, self.field = hidden, activation, field
        self.augment, self.lift, self.layers = augment, lift, layers
        self.method, self.rtol, self.atol = method, rtol, atol
        self.max_iter, self.batch_size, self.learning_rate = max_iter, batch_size, learning_rate
        self.early_stopping, self.validation_fraction, self.patience = early_stopping, validation_fraction, patience
        self.schedule, self.max_gradient, self.weight_decay = schedule, max_gradient, weight_decay
        self.kinetic_energy, self.jacobian_norm = kinetic_energy, jacobian_norm
        self.scale, self.dtype, self.random_state, self.verbose = scale, dtype, random_state, verbose

    # ---- Fitting

    def _loss(self):
        raise NotImplementedError

    def _readout(self, d, m):
        return mlp(d, (), m)

    def _check(self):
        super()._check()
        if self.lift is not None and self.augment:
            raise ValueError("augment adds zeros to the features, lift replaces them by a learned map: give one of them")
        as_integer("augment", self.augment, 0)
        for name in ("lift", "layers"):
            if getattr(self, name) is not None:
                as_integer(name, getattr(self, name), 1)

    def _parts(self, k, m):
        """(field, readout, lift or None) for k features and m numbers read out."""
        d = k + self.augment if self.lift is None else int(self.lift)
        own = mlp(d, widths(self.hidden), activation=self.activation, time=True) if self.field is None else self.field
        if own.d != d or own.n_out != d or own.inputs:
            raise ValueError(
                f"the field maps {own.d} states to {own.n_out}, with {own.inputs} inputs; {k} features with "
                f"augment={self.augment}, lift={self.lift} need {d} states and no inputs"
            )
        return own, self._readout(d, m), None if self.lift is None else mlp(k, (), d)

    def _fit(self, X, targets, weight, classes, progress, callback, checkpoint):
        """Train on features and what the loss compares with; the model as it is then."""
        rng = np.random.default_rng(self._begin())
        self._keep_scaling(X, weight)
        self.field_, self.readout_, self.lift_ = parts = self._parts(X.shape[1], targets.shape[1])
        start, x = np.concatenate([part.init(rng) for part in parts if part is not None]), self._scaled(X)

        def samples(rows, penalty):
            return self._objective(x[rows], targets[rows], None if weight is None else weight[rows], penalty)

        return self._train(samples, self._rows(len(x), classes), start, progress, callback, checkpoint)

    def _objective(self, x, targets, weight, penalty):
        carried = with_penalty(self.field_, *penalty) if any(penalty) else self.field_
        if weight is not None:
            targets = np.concatenate([targets, (weight / weight.mean())[:, None]], axis=1)
        return FlowSamples(
            carried,
            end_loss(self.readout_, carried.d, self._loss(), weight is not None),
            x,
            targets,
            int(self.batch_size),
            self.seed_,
            lift=self.lift_,
            decay=float(self.weight_decay),
            dtype=real_dtype(self.dtype),
            **self._solver(self.rtol, self.atol),
        )

    # ---- Using

    def _solver(self, rtol, atol):
        if self.layers is not None:
            return {"method": "euler", "step": 1.0 / int(self.layers)}
        return {"method": self.method, "rtol": float(rtol), "atol": float(atol)}

    def trajectories(self, X, t=(0.0, 1.0)):
        """States on the way from the features (t = 0) to where they are read out (t = 1), in scaled units.

        Parameters
        ----------
        X : (n, n_features) array
        t : (T,) array
            Rising from 0.

        Returns
        -------
        (n, T, d) array
        """
        self._fitted()
        x = self._scaled(as_table(X, type(self).__name__, self.n_features_in_))
        p, q = self.field_.n_params, self.readout_.n_params
        start = x if self.lift_ is None else self.lift_(0.0, x, self.theta_[p + q :])
        y0 = np.pad(start, ((0, 0), (0, self.field_.d - start.shape[1])))
        options = self._solver(min(self.rtol, 1e-6), min(self.atol, 1e-8))
        return solve(self.field_, y0, np.asarray(t, dtype=np.float64), self.theta_[:p], errors="raise", **options).y

    def _read_out(self, X):
        """(n, m) what is read out where samples arrive."""
        p, q = self.field_.n_params, self.readout_.n_params
        end = np.ascontiguousarray(self.trajectories(X)[:, -1])
        return self.readout_(1.0, end, *([self.theta_[p : p + q]] if q else []))

    def plot(self, kind="overview", X=None, y=None):
        """A picture (needs matplotlib): "overview", "regions", "flow" or "training", see `pynode.plots`.

        Parameters
        ----------
        kind : str
        X, y : arrays, optional
            Samples to draw; all but "training" need X.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from pynode.plots.registry import draw

        self._fitted()
        return draw("samples", kind, self, X, y)

    def _restore(self, content):
        self.field_, self.readout_, self.lift_ = parts = self._parts(self.n_features_in_, self._restore_targets(content))
        return sum(part.n_params for part in parts if part is not None)

    def _restore_targets(self, content):
        """What a file says of the targets; how many numbers are read out."""
        raise NotImplementedError

    def __sklearn_tags__(self):
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        classifier = self.kind == "classifier"
        return Tags(
            estimator_type=self.kind,
            target_tags=TargetTags(required=True, multi_output=not classifier),
            classifier_tags=ClassifierTags() if classifier else None,
            regressor_tags=None if classifier else RegressorTags(),
            input_tags=InputTags(),
        )


PARAMETERS = """
    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers of the field, a network of state and time.
    activation : str
        See `pynode.mlp`.
    field : Field, optional
        A field of your own, of n_features + augment (or `lift`) states, in place of the network.
    augment : int
        Zeros that follow the features in the initial state (augmented Neural ODE; Dupont, Doucet, Teh 2019,
        arXiv:1904.01681). Without them the flow is a homeomorphism of the space of features.
    lift : int, optional
        The size of the state, whose initial value is then a learned affine map of the features.
    layers : int, optional
        Euler steps in place of an adaptive solve: a residual network of so many layers that share their parameters.
    method : str
        Runge-Kutta method, see `pynode.solve`.
    rtol, atol : float
        Tolerances of training, where gradients are exact for the steps taken, however large; predictions use at most 1e-6
        and 1e-8, in float64.
    max_iter : int
        Epochs.
    batch_size : int
    early_stopping : bool
        Keep some samples aside (of a classifier some of each class), stop when the loss on them, without penalties, no
        longer falls, and keep the best parameters for them.
    validation_fraction : float
        Part of the samples kept aside.
    patience : int
        Epochs without improvement after which training stops.
    learning_rate, schedule, max_gradient
        Of Adam, see `pynode.fit.adam`.
    weight_decay : float
        The loss has weight_decay |theta|^2 added.
    kinetic_energy, jacobian_norm : float
        Strength of regularisers along the path, see `pynode.fit.with_penalty`.
    scale : bool
        Give features (and the targets of a regressor) mean 0 and variance 1.
    dtype : {"float32", "float64"}
        Of the solves of training.
    random_state : int, optional
        The same seed gives the same model.
    verbose : int
        Show progress while fitting.

    Attributes
    ----------
    theta_ : (p,) array
        Parameters of field, readout and lift, side by side.
    field_, readout_, lift_ : Field
        lift_ is None without `lift`.
    history_ : dict of arrays
        loss, nfe (mean evaluations of the field a sample), seconds since the start, validation (the loss on the samples
        kept aside, else NaN): an entry an epoch.
    report_ : dict
        How the fit went.
    n_features_in_ : int
"""


class NeuralODEClassifier(_Predictor):
    __doc__ = (
        """A classifier: features flow along dy/dt = f(t, y; theta) from t = 0 to 1, a linear map and softmax read them out.

    Trained by Adam on minibatches, cross-entropy, exact gradients of the steps taken.
"""
        + PARAMETERS
        + """    classes_ : (K,) array
        The labels, sorted.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = np.where((X**2).sum(axis=1) < 1, "in", "out")
    >>> model = pn.NeuralODEClassifier(augment=1, max_iter=30, random_state=0).fit(X, y)
    >>> model.predict([[0.0, 0.0]])[0]
    np.str_('in')
    """
    )
    kind = "classifier"

    def fit(self, X, y, sample_weight=None, *, progress=None, callback=None, checkpoint=None):
        """Learn from labelled samples.

        Parameters
        ----------
        X : (n, n_features) array
        y : (n,) array of labels, of any dtype that sorts
        sample_weight : (n,) array, optional
            How often each sample counts, up to a factor; a sample of weight 0 is left out.
        progress : bool or str, optional
            Show how training goes; a string is the label of the display. Default: `verbose`.
        callback : callable, optional
            callback(Epoch) after each epoch; return True to stop.
        checkpoint : path or pynode.fit.Checkpoint, optional
            A file that is written now and then. If it is there, the fit goes on from it, to the same bits as if
            nothing had happened; it is removed at the end. Needs random_state.

        Returns
        -------
        NeuralODEClassifier
            This model, fitted.

        Raises
        ------
        pynode.fit.FitInterrupted
            Ctrl-C (it is a KeyboardInterrupt); the model keeps what it has learned and can be used.
        """
        self._check()
        X = as_training_table(X, type(self).__name__)
        classes, index = as_labels(y, len(X))
        weight, some = as_sample_weight(sample_weight, len(X))
        if len(np.unique(index[some])) < 2:
            raise ValueError("sample_weight leaves samples of one class only: give 2 classes or more a positive weight")
        self.classes_ = classes
        targets = np.eye(len(classes))[index]
        return self._fit(X[some], targets[some], weight, index[some], progress, callback, checkpoint)

    def _loss(self):
        return "cross-entropy"

    def predict_log_proba(self, X):
        """(n, K) logarithms of the probabilities of the classes, in the order of `classes_`."""
        self._fitted()
        z = self._read_out(X)
        z = z - z.max(axis=1, keepdims=True)
        return z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    def predict_proba(self, X):
        """(n, K) probabilities of the classes, in the order of `classes_`."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X):
        """(n,) the most probable class of each sample."""
        return self.classes_[self.predict_log_proba(X).argmax(axis=1)] if hasattr(self, "theta_") else self._fitted()

    def score(self, X, y, sample_weight=None):
        """Part of the samples whose class is found; with weights, their part of the sum of all."""
        right = self.predict(X) == np.asarray(y).reshape(-1)
        weight, some = as_sample_weight(sample_weight, len(right))
        return float(np.average(right[some], weights=weight))

    def _content(self):
        classes = self.classes_
        if classes.dtype.kind not in "biufU" and not all(type(c) is str for c in classes):
            raise ValueError(f"a model file holds labels that are numbers or text, not {classes.dtype}")
        return super()._content() | {"classes": classes.tolist(), "classes_dtype": classes.dtype.str}

    def _restore_targets(self, content):
        kind = np.dtype(content["classes_dtype"])
        labels = content["classes"]
        allowed = (str,) if kind.kind in "OU" else (bool, int, float)
        if kind.kind not in "biufUO" or len(labels) < 2 or not all(type(c) in allowed for c in labels):
            raise ValueError("the classes must be two or more numbers or texts")
        self.classes_ = np.array(labels, dtype=kind)
        if not (self.classes_[:-1] < self.classes_[1:]).all():
            raise ValueError("the classes must be sorted")
        return len(labels)


class NeuralODERegressor(_Predictor):
    __doc__ = (
        """A regressor: features flow along dy/dt = f(t, y; theta) from t = 0 to 1, and a linear map reads the outputs.

    Trained by Adam on minibatches, exact gradients of the steps taken.
"""
        + PARAMETERS.replace(
            "    max_iter : int\n",
            """    readout : {"linear", "first"}
        A learned affine map of the state; or the first states themselves (the outputs are then where the flow carries them).
    loss : {"squared", "huber"}
        Mean over outputs of r^2, or of Huber's r^2/2 (|r| < 1), |r| - 1/2; r in standard deviations of y, if `scale`.
    max_iter : int
""",
        )
        + """
    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> x = np.linspace(-1, 1, 50)[:, None]
    >>> model = pn.NeuralODERegressor(augment=1, max_iter=50, random_state=0).fit(x, np.sin(3 * x[:, 0]))
    >>> model.predict([[0.0]]).shape
    (1,)
    """
    )
    kind = "regressor"
    y_shift_: np.ndarray
    y_scale_: np.ndarray

    def __init__(
        self,
        hidden=(32, 32),
        activation="tanh",
        *,
        field=None,
        augment=0,
        lift=None,
        layers=None,
        readout="linear",
        loss="squared",
        method="bosh3",
        rtol=1e-2,
        atol=1e-2,
        max_iter=100,
        batch_size=64,
        early_stopping=False,
        validation_fraction=0.2,
        patience=10,
        learning_rate=1e-2,
        schedule="cosine",
        max_gradient=None,
        weight_decay=0.0,
        kinetic_energy=0.0,
        jacobian_norm=0.0,
        scale=True,
        dtype="float32",
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            hidden,
            activation,
            field=field,
            augment=augment,
            lift=lift,
            layers=layers,
            method=method,
            rtol=rtol,
            atol=atol,
            max_iter=max_iter,
            batch_size=batch_size,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            patience=patience,
            learning_rate=learning_rate,
            schedule=schedule,
            max_gradient=max_gradient,
            weight_decay=weight_decay,
            kinetic_energy=kinetic_energy,
            jacobian_norm=jacobian_norm,
            scale=scale,
            dtype=dtype,
            random_state=random_state,
            verbose=verbose,
        )
        self.readout, self.loss = readout, loss

    def fit(self, X, y, sample_weight=None, *, progress=None, callback=None, checkpoint=None):
        """Learn from samples.

        Parameters
        ----------
        X : (n, n_features) array
        y : (n,) or (n, outputs) array
        sample_weight, progress, callback, checkpoint : see `NeuralODEClassifier.fit`

        Returns
        -------
        NeuralODERegressor
            This model, fitted.
        """
        self._check()
        X = as_training_table(X, type(self).__name__)
        targets, self._vector = as_targets(y, len(X))
        weight, some = as_sample_weight(sample_weight, len(X))
        X, targets, m = X[some], targets[some], targets.shape[1]
        self.y_shift_, self.y_scale_ = shift_and_scale(targets, weight) if self.scale else (np.zeros(m), np.ones(m))
        scaled = (targets - self.y_shift_) / self.y_scale_
        return self._fit(X, scaled, weight, None, progress, callback, checkpoint)

    def _check(self):
        super()._check()
        one_of("readout", self.readout, ("linear", "first"))
        one_of("loss", self.loss, ("squared", "huber"))

    def _loss(self):
        return self.loss

    def _readout(self, d, m):
        if self.readout == "linear":
            return mlp(d, (), m)
        if m > d:
            raise ValueError(f"readout='first' reads {m} outputs from {d} states: give augment={m - d} or more")
        return first_states(d, m)

    def predict(self, X):
        """(n,) or (n, outputs), as y was in `fit`."""
        self._fitted()
        y = self._read_out(X) * self.y_scale_ + self.y_shift_
        return y[:, 0] if self._vector else y

    def score(self, X, y, sample_weight=None):
        """Coefficient of determination R^2, the mean over outputs; 1 is perfect. Weights: how often each sample counts."""
        self._fitted()
        predicted = self.predict(X)
        y, _ = as_targets(y, len(predicted))
        weight, some = as_sample_weight(sample_weight, len(y))
        y, predicted = y[some], predicted.reshape(y.shape)[some]
        mean = np.average(y, axis=0, weights=weight)
        miss, spread = (np.average((y - other) ** 2, axis=0, weights=weight) for other in (predicted, mean))
        constant = np.where(miss > 0, 0.0, 1.0)  # as in scikit-learn
        return float(np.mean(np.where(spread > 0, 1 - miss / np.where(spread > 0, spread, 1.0), constant)))

    def _content(self):
        mine = {"y_shift": self.y_shift_, "y_scale": self.y_scale_, "vector": self._vector}
        return super()._content() | mine

    def _restore_targets(self, content):
        m = len(content["y_shift"])
        self.y_shift_ = stored_vector(content["y_shift"], (m,), "y_shift")
        self.y_scale_ = stored_vector(content["y_scale"], (m,), "y_scale")
        if m < 1 or type(content["vector"]) is not bool or not (self.y_scale_ > 0).all():
            raise ValueError("the scaling of the outputs makes no sense")
        self._vector = content["vector"]
        return m
