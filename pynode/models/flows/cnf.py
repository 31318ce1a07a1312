"""CNF: a density learned as the flow of points into a Gaussian (continuous normalising flow, FFJORD)."""

import os
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.calls.solve import solve
from pynode.data.arrays import as_integer, real_array, real_dtype
from pynode.data.samples import as_sample_weight, as_table, as_training_table
from pynode.fields.field import Field
from pynode.fields.make import ActivationName, field, mlp
from pynode.fields.transforms import jvp
from pynode.models.flows.base import FlowModel
from pynode.models.flows.epochs import Callback
from pynode.models.flows.samples import FlowSamples
from pynode.models.options import (
    Activation,
    AdaptiveMethod,
    Fraction,
    Integer,
    OneOf,
    OwnField,
    Positive,
    Switch,
    Widths,
    documented,
    option,
    widths,
)
from pynode.models.storage import n_of_layers
from pynode.optim.checkpoint import Checkpoint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

LARGE = 6
"""From so many features on Hutchinson's estimate of the divergence is the default."""


def density_field(f: Field, exact: bool = True, kinetic: float = 0.0, jacobian_norm: float = 0.0) -> Field:
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

    def rates(t: Any, y: Any, th: Any, u: Any = None) -> Any:
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


def negative_log_likelihood(d: int, with_q: bool) -> Field:
    """The loss of [x, l, q] where points arrive, -log N(x; 0, 1) - l + q, times the input, the weight of the sample."""

    @field(state=d + 1 + with_q, inputs=1, out=1, name="negative log likelihood")
    def nll(t: Any, y: Any, u: Any) -> Any:
        value = 0.5 * np.sum(y[:d] ** 2) + 0.5 * d * np.log(2 * np.pi) - y[d]
        return u * (value + y[d + 1] if with_q else value)

    return nll


def rademacher(rng: np.random.Generator, n: int, d: int) -> Array:
    """(n, d) random signs: directions of Hutchinson's estimate, of the least variance."""
    return rng.choice([-1.0, 1.0], size=(n, d))


@documented
@dataclass(eq=False, repr=False)
class CNF(FlowModel):
    """A density: points flow along dx/dt = f(t, x; theta) from the data (t = 0) to a standard Gaussian (t = 1).

    log p(x) = log N(x(1); 0, 1) + int_0^1 div f(t, x(t)) dt     (Chen et al. 2018, arXiv:1806.07366, eq. 8)

    is maximised by Adam on minibatches, with exact gradients of the steps taken. Gaussian points, carried back, are samples.

    {options}

    Attributes
    ----------
    theta_ : (p,) array
    field_ : Field
        In scaled units.
    shift_, scale_ : (n_features,) array
        Scaled features = (features - shift_) / scale_.
    n_features_in_ : int
    n_iter_ : int
        Epochs.
    random_state_ : int
        The seed that was used.
    history_ : dict of arrays
        An entry an epoch: loss (negative log-likelihood in scaled units, penalties included), gradient_norm (means over
        its minibatches), nfe (mean evaluations of the field a sample), seconds since the start, validation (negative
        log-likelihood of the points kept aside; NaN without early stopping).
    report_ : dict
        How the fit went; the keys are those of `NeuralODEClassifier`.

    Examples
    --------
    >>> import numpy as np, pynode as pn
    >>> X = np.random.default_rng(0).normal(size=(200, 2)) ** 3
    >>> model = pn.CNF(hidden=(16,), max_iter=5, random_state=0).fit(X)
    >>> model.log_prob(X).shape, model.sample(10, random_state=0).shape
    ((200,), (10, 2))
    """

    kind = "density_estimator"

    hidden: int | Sequence[int] = option(
        (64, 64), Widths(), "Widths of the hidden layers of the field, a network of state and time."
    )
    activation: ActivationName = option("tanh", Activation(), 'Smooth: "tanh", "softplus", "silu", ...; see `pynode.mlp`.')
    _: KW_ONLY
    field: Field | None = option(
        None, OwnField(), "A field of your own, of as many states as features, in place of the network."
    )
    trace: Literal["auto", "exact", "hutchinson"] = option(
        "auto",
        OneOf(("auto", "exact", "hutchinson")),
        "The divergence while training: exact, which costs one more evaluation a feature; or Hutchinson's estimate from one "
        'random direction a sample. "auto": exact for up to 6 features. `log_prob` is always exact.',
    )
    kinetic_energy: float = option(
        0.0,
        Positive(zero=True),
        "Strength of a regulariser of Finlay et al. (2020, arXiv:2002.02798) along the path, a mean over the features: "
        "straight, even paths take fewer evaluations.",
    )
    jacobian_norm: float = option(0.0, Positive(zero=True), "Strength of another one of theirs.")
    method: str = option("dopri5", AdaptiveMethod(), "Runge-Kutta method, see `pynode.solve`.")
    rtol: float = option(1e-5, Positive(), "Relative tolerance of training; all else uses at most 1e-8, in float64.")
    atol: float = option(1e-5, Positive(), "Absolute tolerance of training; all else uses at most 1e-8, in float64.")
    batch_size: int = option(256, Integer(1), "Points of a minibatch.")
    early_stopping: bool = option(
        False,
        Switch(),
        "Keep some points aside, stop when their negative log-likelihood no longer falls, and keep the best parameters for "
        "them. Where training takes Hutchinson's estimate, so does this, with the same directions each time.",
    )
    validation_fraction: float = option(0.2, Fraction(), "Part of the points kept aside.")
    scale: bool = option(
        True, Switch(), "Give features mean 0 and variance 1 inside; densities and samples are in your units either way."
    )

    # ---- Fitting

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        sample_weight: ArrayLike | None = None,
        *,
        progress: bool | str | None = None,
        callback: Callback | None = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    ) -> Self:
        """Learn the density of samples.

        Parameters
        ----------
        X : (n, d) array_like
            n points, in your units.
        y : ignored
            For pipelines.
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
        CNF
            This model, fitted.

        Raises
        ------
        TypeError, ValueError
            Options or data that make no sense.
        pynode.fit.FitInterrupted
            Ctrl-C (it is a KeyboardInterrupt); the model keeps what it has learned and can be used.
        """
        self.check_options()
        table = as_training_table(X, "CNF")
        weight, some = as_sample_weight(sample_weight, len(table))
        table = table[some]
        spread = table.std(axis=0)
        if not (spread > 0).all():
            i = int(np.flatnonzero(~(spread > 0))[0])
            raise ValueError(f"feature {i} is {table[0, i]:g} in every sample: it has no density; leave that column out")
        self.random_state_ = self._seed()
        self._keep_scaling(table, weight)
        self.field_ = self._field(table.shape[1])
        start = self.field_.init(self.random_state_)
        x = self._scaled(table)
        counts = np.ones((len(x), 1)) if weight is None else (weight / weight.mean())[:, None]

        def points(rows: Any, penalty: tuple[float, float]) -> FlowSamples:
            return self._objective(x[rows], counts[rows], penalty)

        return self._train(points, self._rows(len(x)), start, progress, callback, checkpoint)

    def _field(self, d: int) -> Field:
        f = mlp(d, widths(self.hidden), activation=self.activation, time=True) if self.field is None else self.field
        if f.d != d or f.n_out != d or f.inputs or f.callback is not None:
            raise ValueError(f"{d} features need a traced field of {d} states to {d}, without inputs; not {f!r}")
        return f

    def _objective(self, x: Array, counts: Array, penalty: tuple[float, float]) -> FlowSamples:
        d = x.shape[1]
        exact = self.trace == "exact" or (self.trace == "auto" and d <= LARGE)
        return FlowSamples(
            density_field(self.field_, exact, *penalty),
            negative_log_likelihood(d, any(penalty)),
            x,
            counts,
            int(self.batch_size),
            self.random_state_,
            noise=None if exact else lambda rng, n: rademacher(rng, n, d),
            decay=float(self.weight_decay),
            dtype=real_dtype(self.dtype),
            method=self.method,
            rtol=float(self.rtol),
            atol=float(self.atol),
        )

    # ---- Using

    def log_prob(self, X: ArrayLike) -> Array:
        """The logarithm of the density, in your units; the divergence is exact.

        Parameters
        ----------
        X : (n, d) array_like
            n points, in your units.

        Returns
        -------
        (n,) array
        """
        self.check_is_fitted()
        x = self._scaled(as_table(X, "CNF", self.n_features_in_))
        d = x.shape[1]
        y = self._solve(density_field(self.field_), np.pad(x, ((0, 0), (0, 1))), (0.0, 1.0))
        gauss = -0.5 * np.sum(y[:, :d] ** 2, axis=1) - 0.5 * d * np.log(2 * np.pi)
        logarithm: Array = gauss + y[:, d] - np.log(self.scale_).sum()
        return logarithm

    score_samples = log_prob

    def score(self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None) -> float:
        """The mean of `log_prob`.

        Parameters
        ----------
        X : (n, d) array_like
            n points, in your units.
        y : ignored
            For pipelines.
        sample_weight : (n,) array_like, optional
            How often each sample counts.

        Returns
        -------
        float
        """
        values = self.log_prob(X)
        weight, some = as_sample_weight(sample_weight, len(values))
        return float(np.average(values[some], weights=weight))

    def transform(self, X: ArrayLike) -> Array:
        """Where points arrive: Gaussian, if X has the density learned.

        Parameters
        ----------
        X : (n, d) array_like
            n points, in your units.

        Returns
        -------
        (n, d) array
        """
        self.check_is_fitted()
        return self._solve(self.field_, self._scaled(as_table(X, "CNF", self.n_features_in_)), (0.0, 1.0))

    def fit_transform(self, X: ArrayLike, y: object = None) -> Array:
        """`fit`, then `transform` of the same points.

        Parameters
        ----------
        X : (n, d) array_like
            n points, in your units.
        y : ignored
            For pipelines.

        Returns
        -------
        (n, d) array
        """
        return self.fit(X).transform(X)

    def inverse_transform(self, Z: ArrayLike) -> Array:
        """The points that arrive at Z.

        Parameters
        ----------
        Z : (n, d) array_like
            Points where `transform` arrives.

        Returns
        -------
        (n, d) array
        """
        self.check_is_fitted()
        start = as_table(Z, "CNF", self.n_features_in_)
        return self._solve(self.field_, start, (1.0, 0.0)) * self.scale_ + self.shift_

    def sample(self, n: int = 1, random_state: int | np.random.Generator | None = None) -> Array:
        """New points: Gaussian ones, carried back.

        Parameters
        ----------
        n : int, default 1
            How many.
        random_state : int or numpy.random.Generator, optional
            The same number, the same points; default: other ones at every call.

        Returns
        -------
        (n, d) array
        """
        self.check_is_fitted()
        n = as_integer("n", n, 1)
        return self.inverse_transform(np.random.default_rng(random_state).normal(size=(n, self.n_features_in_)))

    def trajectories(self, X: ArrayLike, t: ArrayLike = (0.0, 1.0)) -> Array:
        """Points on the way, in scaled units.

        Parameters
        ----------
        X : (n, d) array_like
            n points, in your units.
        t : (T,) array_like, default (0, 1)
            Rising from 0 (the data) to at most 1.

        Returns
        -------
        (n, T, d) array
        """
        self.check_is_fitted()
        x = self._scaled(as_table(X, "CNF", self.n_features_in_))
        return self._solve(self.field_, x, real_array("t", t, np.float64), everything=True)

    def _solve(self, f: Field, y0: Array, t: ArrayLike, everything: bool = False) -> Array:
        rtol, atol = min(self.rtol, 1e-8), min(self.atol, 1e-8)
        times = np.array(t)
        y: Array = solve(f, y0, times, self.theta_, method=self.method, errors="raise", rtol=rtol, atol=atol).y
        return y if everything else np.ascontiguousarray(y[:, -1])

    def plot(self, kind: str = "overview", X: ArrayLike | None = None) -> "Figure":
        """A figure (needs matplotlib).

        Parameters
        ----------
        kind : {"overview", "density", "flow", "training"}
            See `pynode.plots`.
        X : (n, d) array_like, optional
            Points to draw; all but "training" need them.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from pynode.plots.registry import draw

        self.check_is_fitted()
        return draw("density", kind, self, X)

    def _implied(self, k: int, content: dict[str, Any]) -> int:
        return n_of_layers(k + 1, *widths(self.hidden), k) if self.field is None else self.field.n_params

    def _restore(self, content: dict[str, Any]) -> int:
        self.field_ = self._field(self.n_features_in_)
        return self.field_.n_params

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="density_estimator",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(),
        )
