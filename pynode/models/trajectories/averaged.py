"""Variances of predictions by an equation whose form is not known for sure (`pynode.training.averaging`)."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.calls.sensitivities import sensitivities
from pynode.data.signal import Signal
from pynode.fields.transforms import jacobian
from pynode.models.storage import of_type, stored_array, stored_field
from pynode.models.trajectories.refits import last_windows
from pynode.models.trajectories.scaling import Scaling
from pynode.models.trajectories.series import names_of, own_control
from pynode.models.trajectories.structure import in_units
from pynode.training.averaging import Averaged, about, averaged
from pynode.training.library import BROAD, Library, libraries
from pynode.training.smoothing import smooth
from pynode.training.terms import Term
from pynode.training.windows import Data

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]


def average_of(model: "NeuralODE") -> Averaged | None:
    """The average over forms about an equation that was found; None for all other models.

    Equations that follow windows of their data alone have none, nor do those with too many candidate terms. Where terms
    bend, the average is over what the equation may lack, and the terms are taken as known.
    """
    data = model.data_
    found = model.field is None and model.field_.name == "equation" and not model.estimators_
    if not found or data is None or model.covariance_ is None or last_windows(model) is not None:
        return None
    scaling = model.scaling_
    inside = Data(list(data.t), list(data.y), model.weight_, scaling.inputs(data.signal))
    units = Scaling.of(data.y, False, data.signal)
    smoothed = in_units(smooth(list(data.t), [units.states(y) for y in data.y]), units)
    states = [np.atleast_2d(model.predict(t, trajectory=i)) for i, t in enumerate(data.t)]
    noise = np.array([model.report_["noise"][name] for name in model.names_], dtype=np.float64)
    if not all(np.isfinite(x).all() for x in states) or not (noise > 0).all():
        return None
    options = model.solve_options() | {"max_steps": 20_000}
    if any(p.constraint[0] == "positive" for p in model.field_.spec):  # scales of terms that bend: no sets of candidates
        prior = 1.0 / (BROAD * np.maximum(np.abs(model.theta_), 1e-300)) ** 2
        return about(model.field_, model.theta_, prior, inside, states, noise**2, options)
    names = [name.replace(".", "_") for name in names_of(data)]
    for terms in libraries(inside, smoothed):
        library = Library.of(terms, inside, smoothed)
        place = {f"{names[i]}: {term.text(names)}": (i, k) for i in range(data.d) for k, term in enumerate(library.terms)}
        if all(p.name in place for p in model.field_.spec):
            C = np.zeros((data.d, len(library.terms)))
            for p, c in zip(model.field_.spec, model.theta_.tolist(), strict=True):
                C[place[p.name]] = c
            fitted = {place[p.name][0] for p in model.field_.spec}
            exact = _exact(model, library, inside, states, fitted)
            return averaged(library, C, inside, states, noise**2, options, exact)
    return None


def _exact(model: "NeuralODE", library: Library, inside: Data, states: list[Array], fitted: set[int]) -> dict[int, Term]:
    """The states that have no parameters, their derivative being another state."""
    u = inside.inputs_at_rows()
    slopes = np.asarray(jacobian(model.field_)(inside.t[0][:1], states[0][:1], model.theta_, None if u is None else u[:1]))[
        0
    ]
    found = {}
    for i, row in enumerate(slopes):
        if i not in fitted and np.count_nonzero(row) == 1 and row.max() == 1.0:
            j = int(np.argmax(row))
            found[i] = next(term for term in library.terms if term.linear and term.powers[j] == 1)
    return found


def variance_of(model: "NeuralODE", average: Averaged, t: Array, y0: Array | None, given: dict[str, Any]) -> Array:
    """(T, d) variances of predicted states, as `predict(t, y0, **given)` gives these."""
    if y0 is not None:
        signal = own_control(given.get("u"), model.field_.inputs, [t], model.input_kind_)
        J, _ = _derivatives(model, average, y0, t, signal)
        return np.asarray(((J @ average.covariance) * J).sum(axis=-1))
    data: Any = model.data_
    i = given.get("trajectory") or 0
    shown = np.asarray(data.t[i])
    times = np.union1d(shown, t)
    signal = given.get("u")
    if signal is None:
        signal = None if data.signal is None else data.signal.take([i])
    else:
        signal = own_control(signal, model.field_.inputs, [times], model.input_kind_)
    J, J0 = _derivatives(model, average, model.initial_states_[i], times, signal)
    at = np.searchsorted(times, shown)
    noise = np.array([model.report_["noise"][name] for name in model.names_], dtype=np.float64)
    w = ~np.isnan(data.y[i]) / noise**2
    spread = np.diag(1e-4 / model.scaling_.spread**2)
    initial = np.linalg.inv(np.einsum("tci,tc,tcj->ij", J0[at], w, J0[at]) + spread)
    gain = initial @ np.einsum("tci,tc,tcp->ip", J0[at], w, J[at])
    at = np.searchsorted(times, t)
    total = J[at] - J0[at] @ gain
    by_terms = ((total @ average.covariance) * total).sum(axis=-1)
    return np.asarray(by_terms + np.einsum("tci,ij,tcj->tc", J0[at], initial, J0[at]))


def _derivatives(model: "NeuralODE", average: Averaged, y0: Array, t: Array, signal: Signal | None) -> tuple[Array, Array]:
    """Of the states with respect to all coefficients (T, d, n), and to the initial state (T, d, d)."""
    options: dict[str, Any] = model.solve_options() | {"inputs": model.scaling_.inputs(signal)}
    found: Any = sensitivities(average.field, y0, t, average.theta, **options)
    return found.theta, found.y0


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
