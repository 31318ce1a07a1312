"""Fits to which a part of the data is not shown, from the fitted parameters on: what calibrates intervals."""

import copy
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.calls.sensitivities import sensitivities
from pynode.data.trajectories import Trajectories
from pynode.models.trajectories.known.fits import KnownFit
from pynode.models.trajectories.known.results import keep
from pynode.models.trajectories.recipe import continued
from pynode.models.trajectories.results import keep_run
from pynode.models.trajectories.warmups import spread_of
from pynode.training.curriculum import FitError
from pynode.training.smoothing import smooth
from pynode.training.state import Stage
from pynode.training.windows import Data

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]

CUTS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Parts of a single trajectory that refits are shown."""

SHOWN = 0.35
"""The part of one of two trajectories that a refit is shown, the other being whole."""

FUTURE = 0.7
"""The part of all of several trajectories that a refit is shown."""

GROUPS = 4
"""Into so many groups are many trajectories parted; each is left out once."""

LEAST = 5
"""No refit is shown fewer times of a trajectory, but for none."""


def folds(lengths: tuple[int, ...], whole: bool = True) -> list[tuple[int, ...]]:
    """How many times of each trajectory each refit is shown; whole: whether trajectories may be left out altogether."""
    n = len(lengths)

    def cut(part: float, which: NDArray[np.bool_]) -> tuple[int, ...]:
        return tuple(
            min(max(LEAST, round(part * size)), size) if left else size for size, left in zip(lengths, which, strict=True)
        )

    everyone = np.ones(n, bool)
    if n == 1:
        found = [cut(part, everyone) for part in CUTS]
    else:
        groups = [np.arange(n) % min(n, GROUPS) == k for k in range(min(n, GROUPS))]
        found = [tuple(0 if left else size for size, left in zip(lengths, which, strict=True)) for which in groups]
        if n == 2 or not whole:
            found = [cut(SHOWN, which) for which in groups]
        found.append(cut(FUTURE, everyone))
    return [one for one in dict.fromkeys(found) if one != lengths]


def shortened(data: Trajectories, lengths: tuple[int, ...]) -> Trajectories:
    """The first so many times of each trajectory; those of none are left out."""
    kept = [i for i, n in enumerate(lengths) if n]
    some = data.take(kept)
    size = [lengths[i] for i in kept]
    censored = None if some.censored is None else tuple(c[:n] for c, n in zip(some.censored, size, strict=True))
    t = tuple(x[:n] for x, n in zip(some.t, size, strict=True))
    y = tuple(x[:n] for x, n in zip(some.y, size, strict=True))
    return replace(some, t=t, y=y, censored=censored)


def refitted(model: "NeuralODE", data: Trajectories, kept: NDArray[np.intp]) -> "NeuralODE | None":
    """The model fitted to a part of its data, starting from its parameters; None where that fails.

    kept: the positions of the trajectories of `data` among those of the model.
    """
    made = copy.copy(model)
    made.calibration_ = None
    made.averaged_ = None
    if model.estimators_:
        members = [refitted(member, data, kept) for member in model.estimators_]
        if any(member is None for member in members):
            return None
        made.estimators_ = [member for member in members if member is not None]
        made.data_ = data
        return made
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if model.protocol_ is not None:
                _fit_known(made, data)
            else:
                _fit(made, data, kept)
    except (FitError, ValueError, np.linalg.LinAlgError):
        return None
    return made


def _fit(model: "NeuralODE", data: Trajectories, kept: NDArray[np.intp]) -> None:
    """Whole trajectories, or the longest windows that could be followed, from the fitted parameters on."""
    scaling, extra = model.scaling_, model.n_unobserved_
    z = [scaling.states(np.pad(y, ((0, 0), (0, extra)), constant_values=np.nan)) for y in data.y]
    inside = Data(scaling.times(list(data.t)), z, None, scaling.inputs(data.signal))
    paths = [model.predict(t, trajectory=i, unobserved=True) for i, t in zip(kept.tolist(), data.t, strict=True)]
    states = [scaling.states(np.atleast_2d(path)) for path in paths]
    if not all(np.isfinite(x).all() for x in states):
        raise FitError("the fitted trajectories cannot be solved")
    smoothed = smooth(inside.t, z)
    start = (model.theta_, states)
    run = continued(model, model.field_, inside, smoothed, scaling, model.random_state_, start, last_windows(model))
    run.warn = lambda words: None
    run.train()
    keep_run(model, run, scaling, smoothed, data, model.random_state_, None, 0.0)


def visited(model: "NeuralODE", data: Trajectories) -> "NeuralODE":
    """The model with other trajectories in place of its own: their initial states are fitted, its parameters stay."""
    if not model.estimators_:
        return placed(model, data, model.initial_states(data))
    made = copy.copy(model)
    made.data_ = data
    made.estimators_ = [visited(member, data) for member in model.estimators_]
    made.initial_states_ = made.estimators_[0].initial_states_
    return made


def placed(model: "NeuralODE", data: Trajectories, y0: Array) -> "NeuralODE":
    """The same of a single model, from initial states (B, d) that fit best."""
    made = copy.copy(model)
    made.data_ = data
    made.initial_states_ = y0
    if model.covariance_ is None:
        return made
    scaling = model.scaling_
    options = model.solve_options() | {"inputs": scaling.inputs(data.signal)}
    rollout = sensitivities(model.field_, scaling.states(y0), scaling.times(list(data.t)), model.theta_, **options)
    weight = 1.0 / np.maximum(np.nan_to_num(noise_of(model), nan=1.0), 1e-6) ** 2
    d = model.field_.d
    prior = np.diag(precision_of_states(model))
    made.state_gain_ = np.zeros((len(data), d, model.field_.n_params))
    made.state_covariance_ = np.zeros((len(data), d, d))
    for i, (J, J0, y) in enumerate(zip(rollout.theta, rollout.y0, data.y, strict=True)):
        w = weight * ~np.isnan(y)
        n = y.shape[1]
        information = np.einsum("tci,tc,tcj->ij", J0[:, :n], w, J0[:, :n]) + prior
        covariance = _inverse(information)
        made.state_covariance_[i] = covariance
        made.state_gain_[i] = covariance @ np.einsum("tci,tc,tcp->ip", J0[:, :n], w, J[:, :n])
    return made


def noise_of(model: "NeuralODE") -> Array:
    """(d,) standard deviations of the noise in the units of the field."""
    names = model.names_
    return np.array([model.report_["noise"][name] for name in names], dtype=np.float64) / model.scaling_.scale[: len(names)]


def _inverse(information: Array) -> Array:
    """The inverse (d, d); NaN where rollouts run away, so that nothing is known."""
    if not np.isfinite(information).all():
        return np.full(information.shape, np.nan)
    try:
        return np.asarray(np.linalg.inv(information), dtype=np.float64)
    except np.linalg.LinAlgError:
        return np.full(information.shape, np.nan)


def precision_of_states(model: "NeuralODE") -> Array:
    """(d,) what is known of an initial state before it is read, in the units of the field.

    States that nobody measured are where the model's states were in training (`pynode.models.trajectories.warmups`).
    """
    if not model.n_unobserved_ or model.visited_ is None:
        return np.full(model.field_.d, 1e-4)
    return 1.0 / spread_of(model.visited_) ** 2


def last_windows(model: "NeuralODE") -> int | None:
    """The windows of the last stage that worked; None: whole trajectories."""
    kept = [stage for stage in (Stage(**entry) for entry in model.report_["stages"]) if stage.kept]
    return kept[-1].intervals if kept else None


def _fit_known(model: "NeuralODE", data: Trajectories) -> None:
    """The same with a protocol."""
    protocol: Any = model.protocol_
    fit = KnownFit(model, data, None, model.random_state_, list(protocol.doses) if any(protocol.doses) else None)
    fit.theta0 = model.theta_.copy()
    run, _ = fit.run()
    keep(model, fit, run, None, 0.0)
