"""CNF: a density learned as the flow of points into a Gaussian (continuous normalising flow, FFJORD)."""

import numpy as np

from pynode.calls.solve import solve
from pynode.data.arrays import as_integer, real_array, real_dtype
from pynode.data.samples import as_table, as_training_table
from pynode.fields.field import Field
from pynode.fields.make import field, mlp
from pynode.fields.transforms import jvp
from pynode.models.flows.base import FlowModel, one_of
from pynode.models.flows.samples import FlowSamples
from pynode.models.trajectories.options import widths

LARGE = 6
"""From so many features on Hutchinson's estimate of the divergence is the default."""


TRACES = ("auto", "exact", "hutchinson")


def density_field(f: Field, exact=True, kinetic=0.0, jacobian_norm=0.0):
    """The field of [x, l, q] with dx/dt = f, dl/dt = div f, dq/dt = kinetic |f|^2 / d + jacobian_norm |df/dx|_F^2 / d.

    The divergence is sum_v v . (df/dx v) over the unit vectors v, or for one random v with E v v^T = 1, the input u of the
    field, its estimate by Hutchinson (Grathwohl et al. 2019, arXiv:1810.01367, eq. 7); |df/dx|_F^2 is sum_v |df/dx v|^2 over
    the same (Finlay et al. 2020, arXiv:2002.02798, eq. 6). df/dx v is a program made of that of f.

    Parameters
    ----------
    f : Field
        d states to d.
    exact : bool
        False: one random direction, the input of the field, in place of all.
    kinetic, jacobian_norm : float
        Both 0: there is no q.

    Returns
    -------
    Field
        d + 1 or d + 2 states, the parameters of f.
    """
    d, with_q = f.d, bool(kinetic or jacobian_norm)

    def rates(t, y, th, u=None):
        net, x = f.bind(th), y[:d]
        slope = net(t, x)
        directions = np.eye(d) if u is None else [u]
        columns = [jvp(net)(t, x, v) for v in directions]
        divergence = sum(np.sum(v * c) for v, c in zip(directions, columns, strict=True))
        parts = [slope, np.reshape(divergence, (1,))]
        if with_q:
            rate = kinetic / d * np.sum(slope**2) if kinetic else 0.0
            rate = rate + jacobian_norm / d * sum(np.sum(c**2) for c in columns) if jacobian_norm else rate
            parts.append(np.reshape(rate, (1,)))
        return np.concatenate(parts)

    make = field(state=d + 1 + with_q, theta=f.n_params, inputs=0 if exact else d, name=f"{f.name} with its divergence")
    return make((lambda t, y, th: rates(t, y, th)) if exact else rates)


def negative_log_likelihood(d, with_q):
    """The loss of [x, l, q] where points arrive, -log N(x; 0, 1) - l + q, times the input, the weight of the sample."""

    @field(state=d + 1 + with_q, inputs=1, out=1, name="negative log likelihood")
    def nll(t, y, u):
        value = 0.5 * np.sum(y[:d] ** 2) + 0.5 * d * np.log(2 * np.pi) - y[d]
        return u * (value + y[d + 1] if with_q else value)

    return nll


def rademacher(rng, n, d):
    """(n, d) random signs: directions of Hutchinson's estimate, of the least variance."""
    return rng.choice([-1.0, 1.0], size=(n, d))


class CNF(FlowModel):
    """A density: points flow along dx/dt = f(t, x; theta) from the data (t = 0) to a standard Gaussian (t = 1).

    log p(x) = log N(x(1); 0, 1) + int_0^1 div f(t, x(t)) dt     (Chen et al. 2018, arXiv:1806.07366, eq. 8)

    is maximised by Adam on minibatches, with exact gradients of the steps taken. Gaussian points, carried back, are samples.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers of the field, a network of state and time.
    activation : str
        Smooth: "tanh", "softplus", "silu", ...; see `pynode.mlp`.
    field : Field, optional
        A field of your own, of as many states as features, in place of the network.
    trace : {"auto", "exact", "hutchinson"}
        The divergence while training: exact, which costs one more evaluation a feature; or Hutchinson's estimate from one
        random direction a sample. "auto": exact for up to 6 features. `log_prob` is always exact.
    kinetic_energy, jacobian_norm : float
        Strength of the regularisers of Finlay et al. (2020, arXiv:2002.02798) along the path, each a mean over the
        features: straight, even paths take fewer evaluations.
    method : str
        Runge-Kutta method, see `pynode.solve`.
    rtol, atol : float
        Tolerances of training; all else uses at most 1e-8 and 1e-8, in float64.
    max_iter : int
        Epochs.
    batch_size : int
    early_stopping : bool
        Keep some points aside, stop when their negative log-likelihood no longer falls, and keep the best parameters for
        them. Where training takes Hutchinson's estimate, so does this, with the same directions each time.
    validation_fraction : float
        Part of the points kept aside.
    patience : int
        Epochs without improvement after which training stops.
    learning_rate, schedule, max_gradient
        Of Adam, see `pynode.fit.adam`.
    weight_decay : float
        The loss has weight_decay |theta|^2 added.
    scale : bool
        Give features mean 0 and variance 1 inside; densities and samples are in your units either way.
    dtype : {"float32", "float64"}
        Of the solves of training.
    random_state : int, optional
        The same seed gives the same model.
    verbose : int
        Show progress while fitting.

    Attributes
    ----------
    theta_ : (p,) array
    field_ : Field
        In scaled units.
    history_ : dict of arrays
        loss (negative log-likelihood in scaled units, penalties included), nfe (mean evaluations a sample), seconds,
        validation (negative log-likelihood of the points kept aside, else NaN): one entry an epoch.
    report_ : dict
        How the fit went.
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> X = np.random.default_rng(0).normal(size=(200, 2)) ** 3
    >>> model = pn.CNF(hidden=(16,), max_iter=5, random_state=0).fit(X)
    >>> model.log_prob(X).shape, model.sample(10, random_state=0).shape
    ((200,), (10, 2))
    """

    kind = "density_estimator"

    def __init__(
        self,
        hidden=(64, 64),
        activation="tanh",
        *,
        field=None,
        trace="auto",
        kinetic_energy=0.0,
        jacobian_norm=0.0,
        method="dopri5",
        rtol=1e-5,
        atol=1e-5,
        max_iter=100,
        batch_size=256,
        early_stopping=False,
        validation_fraction=0.2,
        patience=10,
        learning_rate=1e-2,
        schedule="cosine",
        max_gradient=None,
        weight_decay=0.0,
        scale=True,
        dtype="float32",
        random_state=None,
        verbose=0,
    ):
        # as in scikit-learn: kept as given, checked by fit
        self.hidden, self.activation, self.field, self.trace = hidden, activation, field, trace
        self.kinetic_energy, self.jacobian_norm = kinetic_energy, jacobian_norm
        self.method, self.rtol, self.atol = method, rtol, atol
        self.max_iter, self.batch_size, self.learning_rate = max_iter, batch_size, learning_rate
        self.early_stopping, self.validation_fraction, self.patience = early_stopping, validation_fraction, patience
        self.schedule, self.max_gradient, self.weight_decay = schedule, max_gradient, weight_decay
        self.scale, self.dtype, self.random_state, self.verbose = scale, dtype, random_state, verbose

    # ---- Fitting

    def fit(self, X, y=None, *, progress=None, callback=None, checkpoint=None):
        """Learn the density of samples.

        Parameters
        ----------
        X : (n, d) array
        y : ignored
            For pipelines.
        progress : bool or str, optional
            Show how training goes; a string is the label of the display. Default: `verbose`.
        callback : callable, optional
            callback(Epoch) after each epoch; return True to stop.
        checkpoint : path or pynode.fit.Checkpoint, optional
            A file that is written now and then. If it is there, the fit goes on from it, to the same bits as if
            nothing had happened; it is removed at the end. Needs random_state.

        Returns
        -------
        CNF
            This model, fitted.

        Raises
        ------
        pynode.fit.FitInterrupted
            Ctrl-C (it is a KeyboardInterrupt); the model keeps what it has learned and can be used.
        """
        self._check()
        X = as_training_table(X, "CNF")
        spread = X.std(axis=0)
        if not (spread > 0).all():
            i = int(np.flatnonzero(~(spread > 0))[0])
            raise ValueError(f"feature {i} is {X[0, i]:g} in every sample: it has no density; leave that column out")
        self._keep_scaling(X)
        self.field_ = self._field(X.shape[1])
        start, x = self.field_.init(self._begin()), self._scaled(X)

        def points(rows, penalty):
            return self._objective(x[rows], penalty)

        return self._train(points, self._rows(len(x)), start, progress, callback, checkpoint)

    def _check(self):
        super()._check()
        one_of("trace", self.trace, TRACES)

    def _field(self, d):
        f = mlp(d, widths(self.hidden), activation=self.activation, time=True) if self.field is None else self.field
        if f.d != d or f.n_out != d or f.inputs or f.callback is not None:
            raise ValueError(f"{d} features need a traced field of {d} states to {d}, without inputs; not {f!r}")
        return f

    def _objective(self, x, penalty):
        d = x.shape[1]
        exact = self.trace == "exact" or (self.trace == "auto" and d <= LARGE)
        return FlowSamples(
            density_field(self.field_, exact, *penalty),
            negative_log_likelihood(d, any(penalty)),
            x,
            np.ones((len(x), 1)),
            int(self.batch_size),
            self.seed_,
            noise=None if exact else lambda rng, n: rademacher(rng, n, d),
            decay=float(self.weight_decay),
            dtype=real_dtype(self.dtype),
            method=self.method,
            rtol=float(self.rtol),
            atol=float(self.atol),
        )

    # ---- Using

    def log_prob(self, X):
        """(n,) the logarithm of the density at each row of X, in your units; the divergence is exact."""
        self._fitted()
        x = self._scaled(as_table(X, "CNF", self.n_features_in_))
        d = x.shape[1]
        y = self._solve(density_field(self.field_), np.pad(x, ((0, 0), (0, 1))), (0.0, 1.0))
        gauss = -0.5 * np.sum(y[:, :d] ** 2, axis=1) - 0.5 * d * np.log(2 * np.pi)
        return gauss + y[:, d] - np.log(self.scale_).sum()

    score_samples = log_prob

    def score(self, X, y=None):
        """The mean of `log_prob`."""
        return float(np.mean(self.log_prob(X)))

    def transform(self, X):
        """(n, d) where the rows of X arrive: Gaussian, if X has the density learned."""
        self._fitted()
        return self._solve(self.field_, self._scaled(as_table(X, "CNF", self.n_features_in_)), (0.0, 1.0))

    def fit_transform(self, X, y=None):
        """`fit`, then `transform` of the same points."""
        return self.fit(X).transform(X)

    def inverse_transform(self, Z):
        """(n, d) the points that arrive at the rows of Z."""
        self._fitted()
        return self._solve(self.field_, as_table(Z, "CNF", self.n_features_in_), (1.0, 0.0)) * self.scale_ + self.shift_

    def sample(self, n=1, random_state=None):
        """(n, d) new points: Gaussian ones, carried back.

        Parameters
        ----------
        n : int
        random_state : int or numpy.random.Generator, optional
        """
        self._fitted()
        n = as_integer("n", n, 1)
        return self.inverse_transform(np.random.default_rng(random_state).normal(size=(n, self.n_features_in_)))

    def trajectories(self, X, t=(0.0, 1.0)):
        """(n, T, d) points on the way, in scaled units, at times t that rise from 0 (the data) to at most 1."""
        self._fitted()
        x = self._scaled(as_table(X, "CNF", self.n_features_in_))
        return self._solve(self.field_, x, real_array("t", t, np.float64), everything=True)

    def _solve(self, f, y0, t, everything=False):
        options = {"rtol": min(self.rtol, 1e-8), "atol": min(self.atol, 1e-8)}
        y = solve(f, y0, np.array(t), self.theta_, method=self.method, errors="raise", **options).y
        return y if everything else np.ascontiguousarray(y[:, -1])

    def plot(self, kind="overview", X=None):
        """A picture (needs matplotlib): "overview", "density", "flow" or "training", see `pynode.plots`.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from pynode.plots.registry import draw

        self._fitted()
        return draw("density", kind, self, X)

    def _restore(self, content):
        self.field_ = self._field(self.n_features_in_)
        return self.field_.n_params

    def __sklearn_tags__(self):
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="density_estimator",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(),
        )
