"""Variances of predictions by a right-hand side whose form is not known for sure (`pynode.training.equations.averaging`)."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pynode.calls.sensitivities import sensitivities
from pynode.data.signal import Signal
from pynode.data.trajectories import Trajectories
from pynode.models.storage import of_type, stored_array, stored_field
from pynode.models.trajectories.equations.structure import in_units
from pynode.models.trajectories.intervals.refits import last_windows, noise_of
from pynode.models.trajectories.scaling import Scaling
from pynode.models.trajectories.series import own_control
from pynode.optim.levenberg_marquardt import ALPHA_RANGE
from pynode.training.equations.averaging import Averaged, about, averaged
from pynode.training.equations.library import BROAD, Library, libraries
from pynode.training.equations.numbers import numbers_in
from pynode.training.equations.terms import FOUND
from pynode.training.sizes import groups_of
from pynode.training.smoothing import smooth
from pynode.training.windows import Data

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]


def is_found(model: "NeuralODE") -> bool:
    """Whether the model is an equation of few terms that was found."""
    return model.field is None and model.field_.name == FOUND and not model.estimators_


def average_of(model: "NeuralODE") -> Averaged | None:
    """The average over forms about an equation that was found, or about a network; None where it cannot be had.

    Models that follow windows of their data alone have none, nor do equations with too many candidate terms, or fits that
    bear outliers. About networks and equations whose terms bend the average is over what they lack alone.
    """
    plain = model.field is None and not model.estimators_ and not model.n_unobserved_ and model.noise == "gaussian"
    if not plain or model.data_ is None or model.covariance_ is None or last_windows(model) is not None:
        return None
    if not is_found(model) or any(p.constraint[0] == "positive" for p in model.field_.spec):
        return _about(model, model.data_, np.asarray(model.covariance_))
    return _over_sets(model, model.data_)


class Fitted(NamedTuple):
    """What a model follows, in the units of its field."""

    data: Data
    states: list[Array]
    variance: Array
    options: dict[str, Any]

    @classmethod
    def of(cls, model: "NeuralODE", data: Trajectories) -> "Fitted | None":
        """None where a trajectory cannot be followed, or nothing is known of the noise."""
        scaling = model.scaling_
        inside = Data(
            scaling.times(list(data.t)), [scaling.states(y) for y in data.y], model.weight_, scaling.inputs(data.signal)
        )
        states = [scaling.states(np.atleast_2d(model.predict(t, trajectory=i))) for i, t in enumerate(data.t)]
        noise = noise_of(model)
        if not all(np.isfinite(x).all() for x in states) or not (noise > 0).all():
            return None
        return cls(inside, states, noise**2, model.solve_options() | {"max_steps": 20_000})


def _about(model: "NeuralODE", data: Trajectories, covariance: Array) -> Averaged | None:
    """The average over what a network or an equation lacks; priors are those in which evidence settles."""
    fitted = Fitted.of(model, data)
    if fitted is None:
        return None
    variance = np.nan_to_num(np.diag(covariance))
    prior = 1.0 / (BROAD**2 * np.maximum(model.theta_**2, 1e-300))
    for group in groups_of(model.field_, data.n_observed):
        prior[group] = np.clip(len(group) / (model.theta_[group] ** 2 + variance[group]).sum(), *ALPHA_RANGE)
    return about(model.field_, model.theta_, prior, *fitted)


def _over_sets(model: "NeuralODE", data: Trajectories) -> Averaged | None:
    """The average over sets of terms and what they lack."""
    follows = Fitted.of(model, data)
    if follows is None:
        return None
    units = Scaling.of(data.y, False, data.signal)
    smoothed = in_units(smooth(list(data.t), [units.states(y) for y in data.y]), units)
    for terms in libraries(follows.data, smoothed):
        library = Library.of(terms, follows.data, smoothed)
        found = numbers_in(model.field_, library.terms, model.theta_)
        if found is not None:
            which, C = found
            return averaged(library, which, C, *follows)
    return None


def variance_of(model: "NeuralODE", average: Averaged, t: Array, y0: Array | None, given: dict[str, Any]) -> Array:
    """(T, d) variances of predicted states, as `predict(t, y0, **given)` gives these."""
    if y0 is not None:
        signal = own_control(given.get("u"), model.field_.inputs, [t], model.input_kind_)
        y, J, _ = _rollout(model, average, y0, t, signal)
        return np.asarray(((J @ average.covariance) * J).sum(axis=-1)) * model.scaling_.slope_of_states_back(y) ** 2
    data: Any = model.data_
    i = given.get("trajectory") or 0
    shown = np.asarray(data.t[i])
    times = np.union1d(shown, t)
    signal = given.get("u")
    if signal is None:
        signal = None if data.signal is None else data.signal.take([i])
    else:
        signal = own_control(signal, model.field_.inputs, [times], model.input_kind_)
    y, J, J0 = _rollout(model, average, model.initial_states_[i], times, signal)
    at = np.searchsorted(times, shown)
    w = ~np.isnan(data.y[i]) / noise_of(model) ** 2
    spread = np.diag(1e-4 / model.scaling_.spread**2)
    initial = np.linalg.inv(np.einsum("tci,tc,tcj->ij", J0[at], w, J0[at]) + spread)
    gain = initial @ np.einsum("tci,tc,tcp->ip", J0[at], w, J[at])
    at = np.searchsorted(times, t)
    total = J[at] - J0[at] @ gain
    by_terms = ((total @ average.covariance) * total).sum(axis=-1)
    variance = by_terms + np.einsum("tci,ij,tcj->tc", J0[at], initial, J0[at])
    return np.asarray(variance * model.scaling_.slope_of_states_back(y[at]) ** 2)


def _rollout(
    model: "NeuralODE", average: Averaged, y0: Array, t: Array, signal: Signal | None
) -> tuple[Array, Array, Array]:
    """(states (T, d), their derivatives in the units of the field by coefficients (T, d, n), and by the start (T, d, d))."""
    scaling = model.scaling_
    options: dict[str, Any] = model.solve_options() | {"inputs": scaling.inputs(signal)}
    found: Any = sensitivities(average.field, scaling.states(y0), scaling.times(t), average.theta, **options)
    return scaling.states_back(found.solution.y), found.theta, found.y0


def as_content(average: Averaged | None) -> dict[str, Any] | None:
    """For a model file."""
    if average is None:
        return None
    return vars(average) | {"field": average.field.to_dict()}


def from_stored(stored: Any, d: int, inputs: int) -> Averaged | None:
    """What `as_content` gave, trusting nothing; files of older models have none."""
    if stored is None:
        return None
    field = stored_field(stored["field"])
    if field.d != d or field.inputs != inputs or field.n_out != d:
        raise ValueError("the averaged equation has other states or inputs than the model")
    n = field.n_params
    theta = stored_array(stored["theta"], (n,), "the averaged coefficients")
    covariance = stored_array(stored["covariance"], (n, n), "their covariance")
    return Averaged(field, theta, covariance, of_type(stored["share"], float, "the share of the terms"))
