"""The options of LatentODE: the table, and what is checked of several together."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.data.arrays import real_array
from pynode.fields.field import Field
from pynode.fields.make import ActivationName
from pynode.models.base import SeriesEstimator
from pynode.models.options import (
    Activation,
    AdaptiveMethod,
    Checked,
    Dtype,
    Finite,
    Fraction,
    Integer,
    OneOf,
    OwnField,
    Positive,
    Schedule,
    Seed,
    Switch,
    Widths,
    option,
)


def as_context(context: ArrayLike) -> tuple[float, float]:
    """(least, most) of what the encoder sees, as lengths of time."""
    pair = real_array("context", context, np.float64)
    good = pair.shape in ((), (2,)) and np.isfinite(pair).all() and (pair >= 0).all()
    if not good or (np.diff(np.atleast_1d(pair)) < 0).any():
        raise ValueError(f"context={context!r} must be a length of time >= 0, or a rising pair of them")
    least, most = np.broadcast_to(pair, (2,))
    return float(least), float(most)


def as_noise(noise: ArrayLike, d: int | None = None) -> NDArray[np.float64]:
    """Standard deviations: (d,), or as they are where d is not known yet."""
    deviations = real_array("noise", noise, np.float64)
    shapes = ((), deviations.shape if d is None else (d,))
    if deviations.ndim > 1 or deviations.shape not in shapes or not (np.isfinite(deviations) & (deviations > 0)).all():
        raise ValueError(f"noise={noise!r} must be positive, one number or {'one for each value' if d is None else d}")
    return deviations if d is None else np.broadcast_to(deviations, (d,)).copy()


@dataclass(eq=False, repr=False)
class LatentODEOptions(SeriesEstimator):
    """The constructor of LatentODE."""

    latent: int = option(4, Integer(1), "Size of z.")
    hidden: int | Sequence[int] = option((20, 20), Widths(), "Widths of the hidden layers of the latent equation.")
    _: KW_ONLY
    encoder: Literal["gru", "rnn", "ode-rnn"] = option(
        "gru",
        OneOf(("gru", "rnn", "ode-rnn")),
        '"gru", "rnn": a gated or a plain recurrent cell, which is told the gaps between observations. "ode-rnn": the GRU, '
        "and between observations its state follows a differential equation of its own.",
    )
    encoder_hidden: int = option(25, Integer(1), "Size of the encoder's state.")
    decoder_hidden: int | Sequence[int] = option((20,), Widths(), "Widths of the hidden layers of the decoder.")
    activation: ActivationName = option(
        "tanh", Activation(), "Activation function of the latent equation and the decoder, see `pynode.mlp`."
    )
    field: Field | None = option(
        None,
        OwnField(),
        "A latent equation of your own (d = latent) in place of the network. Its time is (t - t0_) / units_.t_scale, its "
        "inputs, if any, are (u - units_.u_shift) / units_.u_scale.",
    )
    context: float | tuple[float, float] | None = option(
        None,
        Checked("float or (float, float)", as_context, sequence=True),
        "The encoder sees only what was observed until t0 + context, and the rest is learned as a forecast; a pair: until a "
        "time between these, drawn anew for each series and epoch. Default: it sees all. A series's first observation is "
        "always seen.",
    )
    noise: ArrayLike | None = option(
        None,
        Checked("float or sequence of float", as_noise),
        "Standard deviation of the measurements, in the units of the data, one for all or one for each; default: learned.",
    )
    anneal: float = option(
        0.1,
        Fraction(zero=True, one=True),
        "Part of training over which the weight of the KL divergence rises from 0 to 1.",
    )
    n_samples: int = option(1, Integer(1), "Draws of z_0 for each series and iteration.")
    batch_size: int | None = option(50, Integer(1), "Series of a minibatch; None: all of them.", optional=True)
    max_iter: int = option(2000, Integer(1), "Iterations of Adam.")
    early_stopping: bool = option(
        False,
        Switch(),
        "Keep some series aside, stop when the bound on them no longer rises, and keep the best parameters for them.",
    )
    validation_fraction: float = option(0.2, Fraction(), "Part of the series kept aside.")
    patience: int = option(
        10, Integer(1), "Epochs (passes over the minibatches) without improvement after which training stops."
    )
    learning_rate: float = option(1e-2, Positive(), "Learning rate of Adam.")
    schedule: str | Callable[[float], float] = option(
        "cosine", Schedule(), "Schedule of the learning rate, see `pynode.fit.schedules`."
    )
    max_gradient: float | None = option(None, Positive(), "Adam shortens longer gradients to this norm.")
    method: str = option("dopri5", AdaptiveMethod(), "Runge-Kutta method of the latent equation, see `pynode.solve`.")
    rtol: float = option(1e-3, Positive(), "Relative tolerance while training; predictions use at most 1e-6.")
    atol: float = option(1e-3, Positive(), "Absolute tolerance while training; predictions use at most 1e-6.")
    dtype: Literal["float32", "float64"] = option("float32", Dtype(), "Floating-point type of the solves while training.")
    refine: int = option(
        10,
        Integer(0),
        "Once fitted, the posterior of z_0 is that of the encoder after so many Gauss-Newton steps at most, with the "
        "covariance that the equation gives (Laplace's approximation, see `pynode.models.latent.posterior`). 0: what the "
        "encoder says.",
    )
    t0: float | None = option(
        None, Finite(), "Time of z_0; no observation may be earlier. Default: the first time in the data."
    )
    t_scale: float | None = option(
        None, Positive(), "Unit of the latent equation's time. Default: a quarter of the longest series."
    )
    random_state: int | None = option(None, Seed(), "The same seed gives the same model.")
    verbose: int = option(0, Integer(0, booleans=True), "Show progress while fitting.")

    def check_options(self) -> None:
        """Check the options, as `fit` does; see `Estimator.check_options`."""
        super().check_options()
        own: Any = self.field
        if own is not None and (own.callbacks or not own.d == own.n_out == self.latent):
            raise ValueError(f"field must be a traced vector field of latent = {self.latent} states")
