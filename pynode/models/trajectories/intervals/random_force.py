"""The variance that a random force on all states causes along a prediction: misfit of the equation, carried along by it.

With dz = f(z) dt + L dW, P = cov(z) follows dP/dt = A P + P A' + Q to first order, A = df/dz along the prediction and
Q = L L' (Jazwinski 1970, Stochastic processes and filtering theory, chapter 9).
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.fields.transforms import jacobian
from pynode.models.trajectories.intervals.shown import paths_of, ranges_of, span_of
from pynode.models.trajectories.series import own_control
from pynode.training.sizes import prior_groups

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]

STEPS = 300
"""Steps of the implicit midpoint rule."""

LARGEST = 1e8
"""Variances beyond this, in units of that of the data, are not followed."""


def forced_variance(
    model: "NeuralODE", logs: NDArray[np.bool_], start: float, t: Array, y0: Array | None, given: dict[str, Any]
) -> tuple[Array, Array]:
    """(T, d) variances at times t of a force that over the longest trajectory gives the variance of the data.

    The second array is that of a force which acts where no data are (`Support.strangeness`), if the field has a network.

    Parameters
    ----------
    model : NeuralODE
    logs : (d,) bool array
        Where the variance is that of logarithms.
    start : float
        When the force sets in.
    t : (T,) array, rising
        Times.
    y0 : (d,) array or None
        Where the prediction starts (at `start`), as in `predict`.
    given : dict
        u, doses, trajectory, as in `predict`.
    """
    span = span_of(model)
    plain = (t - start) / span
    if model.protocol_ is not None or model.field_.callbacks or not t[-1] > start:
        grown = np.maximum(plain, 0.0)[:, None] * ranges_of(model, logs).variance
        return grown, np.zeros(grown.shape)
    fine = np.linspace(start, t[-1], STEPS + 1)
    middle = 0.5 * (fine[1:] + fine[:-1])
    scaling = model.scaling_
    source: Any = model.estimators_[0] if model.estimators_ else model
    times = middle if y0 is None else np.concatenate([fine[:1], middle])
    path = np.asarray(source.predict(times, y0, unobserved=True, **given))[-STEPS:]
    z = source.scaling_.states(path)
    u = _inputs(source, middle, times, given)
    A = jacobian(source.field_)(source.scaling_.times(middle), z, source.theta_, u)
    step = float(fine[1] - fine[0]) / source.scaling_.t_scale
    force = np.diag(source.scaling_.spread**2) * (float(fine[1] - fine[0]) / span)
    n = len(model.names_)
    scale = scaling.scale[:n] ** 2

    def at_times(strength: Array) -> Array:
        P = carried(np.asarray(A) * step, force, strength)
        variances = np.concatenate([np.zeros((1, n)), np.einsum("kii->ki", P)[:, :n]]) * scale
        return np.stack([np.interp(t, fine, column) for column in variances.T], axis=1)

    everywhere = at_times(np.ones(STEPS))
    if not prior_groups(source.field_):
        return everywhere, np.zeros(everywhere.shape)
    return everywhere, at_times(paths_of(model).strangeness(z))


def _inputs(model: "NeuralODE", t: Array, times: Array, given: dict[str, Any]) -> Array | None:
    """(K, m) control inputs in the units of the field, or None."""
    if not model.field_.inputs:
        return None
    data: Any = model.data_
    u = given.get("u")
    if u is None:
        signal = data.signal.take([given.get("trajectory") or 0])
    else:
        signal = own_control(u, model.field_.inputs, [times], model.input_kind_)
    assert signal is not None
    inside: Any = model.scaling_.inputs(signal)
    return np.asarray(inside(model.scaling_.times(t)))


def has_network(model: "NeuralODE") -> bool:
    """Whether the field knows only what the data show."""
    return model.field is None or bool(prior_groups(model.field_))


def carried(A: Array, force: Array, strength: Array) -> Array:
    """(K, d, d) covariances after each of K steps.

    Parameters
    ----------
    A : (K, d, d) array
        Jacobians times the step.
    force : (d, d) array
        What a step adds ...
    strength : (K,) array
        ... times this.
    """
    identity = np.eye(len(force))
    P = np.zeros(force.shape)
    found = np.zeros((len(A), *force.shape))
    for k, (a, s) in enumerate(zip(np.where(np.isfinite(A), A, 0.0), np.nan_to_num(strength), strict=True)):
        half = np.linalg.solve(identity - 0.5 * a, identity + 0.5 * a)
        P = half @ (P + 0.5 * s * force) @ half.T + 0.5 * s * force
        if np.trace(P) > LARGEST * np.trace(force):
            P *= LARGEST * np.trace(force) / np.trace(P)
        found[k] = P
    return found
