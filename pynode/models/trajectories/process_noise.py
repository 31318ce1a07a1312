"""Models of trajectories that a random force drives: what a fit leaves, smoothed paths, predictions."""

from dataclasses import dataclass, fields
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.calls.sensitivities import sensitivities
from pynode.calls.solve import solve
from pynode.data.arrays import is_ragged
from pynode.data.signal import Signal
from pynode.fields.transforms import jacobian
from pynode.models.storage import stored_array
from pynode.models.trajectories.intervals.random_force import carried
from pynode.training.driven_run import DrivenRun

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]

ANOTHER = 1e-3
"""Inputs that differ by more than this part of their size are others."""

STEPS = 300
"""Steps in which the variance by the force is carried along a prediction."""


@dataclass(frozen=True)
class Driven:
    """What a fit with a random force found beside its parameters, in the units of the field.

    Attributes
    ----------
    force : (d,) array
        Variances of the force on each state, in a unit of time.
    states : (N, d) array
        States at all readings, all trajectories one after the other.
    spread : (N, d, d) array
        Their covariances, that of the parameters counted in.
    gain : (B, d, p) array
        How the last state of each trajectory follows theta: its derivative is -gain ...
    last : (B, d, d) array
        ... and its covariance where theta is given.
    """

    force: Array
    states: Array
    spread: Array
    gain: Array
    last: Array


def driven_of(run: Any) -> Driven | None:
    """What a run leaves; None where it had no force, or did not come so far."""
    if not isinstance(run, DrivenRun) or run.strengths is None:
        return None
    posterior = run.posterior
    gain = np.stack([run.coordinates.gain(posterior.theta, g) for g in np.asarray(posterior.free_gain)])
    covariance = np.nan_to_num(np.asarray(run.covariance))
    spread = run.spread + gain @ covariance @ gain.transpose(0, 2, 1)
    ends = np.cumsum([len(t) for t in run.data.t]) - 1
    return Driven(run.strengths.force, np.concatenate(run.training.states), spread, gain[ends], run.spread[ends])


def as_content(driven: Driven | None, data: bool) -> dict[str, Array] | None:
    """For a file; without the data the force alone."""
    if driven is None:
        return None
    return {each.name: getattr(driven, each.name) for each in fields(driven) if data or each.name == "force"}


def from_stored(stored: Any, model: "NeuralODE") -> Driven | None:
    """From a file, in which nothing is trusted; files of models before there was a force have none."""
    if stored is None:
        return None
    d, p = model.field_.d, model.field_.n_params
    force = stored_array(stored["force"], (d,), "the force")
    if not (force >= 0).all():
        raise ValueError("the variances of the force must not be negative")
    n, b = (0, 0) if model.data_ is None else (sum(model.data_.lengths), len(model.data_))
    shapes = {"states": (n, d), "spread": (n, d, d), "gain": (b, d, p), "last": (b, d, d)}
    if model.data_ is None:
        return Driven(force, **{name: np.zeros(shape) for name, shape in shapes.items()})
    return Driven(force, **{name: stored_array(stored[name], shape, name) for name, shape in shapes.items()})


def strengths(model: "NeuralODE") -> dict[str, float]:
    """State -> the standard deviation that the force gives it in a unit of time, in the units of the data."""
    driven = model.driven_
    assert driven is not None
    names = [*model.names_, *(f"unobserved {k + 1}" for k in range(model.n_unobserved_))]
    scale = model.scaling_.scale * np.sqrt(driven.force / model.scaling_.t_scale)
    return dict(zip(names, scale.tolist(), strict=True))


# ---- Predictions


def along(model: "NeuralODE", t: Array, signal: Signal | None, trajectory: int, return_std: bool) -> Any:
    """A fitted trajectory at times t (T,): smoothed between its readings, and what follows from its last state after them.

    Parameters
    ----------
    model : NeuralODE
        With data.
    t : (T,) array, rising
        Times, not before the first reading.
    signal : Signal or None
        Its control inputs.
    trajectory : int
        Which one.
    return_std : bool
        Standard deviations, too.
    """
    driven, data = model.driven_, model.data_
    assert driven is not None
    assert data is not None
    starts = np.cumsum([0, *data.lengths])
    rows = np.arange(starts[trajectory], starts[trajectory + 1])
    tau, at = model.scaling_.times(data.t[trajectory]), model.scaling_.times(t)
    inside = t <= data.t[trajectory][-1]
    z = np.empty((len(t), model.field_.d))
    variance = np.zeros(z.shape)
    if inside.any():
        _check_inputs(model, signal, trajectory, float(t[inside].max()))
        z[inside], variance[inside] = _between(model, driven, rows, tau, at[inside], signal)
    if not inside.all():
        start = driven.states[rows[-1]]
        times = np.concatenate([tau[-1:], at[~inside]])
        spread = (driven.gain[trajectory], driven.last[trajectory])
        z[~inside], variance[~inside] = (x[1:] for x in ahead(model, start, times, signal, return_std, spread))
    return _back(model, z, variance, return_std)


def _check_inputs(model: "NeuralODE", signal: Signal | None, trajectory: int, last: float) -> None:
    """Smoothed states are what readings say: they hold for the inputs under which these were taken, and for no others."""
    data = model.data_
    if signal is None or data is None or data.signal is None:
        return
    t = data.t[trajectory][data.t[trajectory] <= last]
    own, given = data.signal(t, trajectory), signal(t)
    off = np.abs(given - own).max(axis=0, initial=0.0)
    if (off > ANOTHER * np.ptp(own, axis=0) + ANOTHER * np.abs(own).max(axis=0, initial=0.0)).any():
        raise ValueError(
            f"u differs from the inputs of trajectory {trajectory} before its readings end: with process_noise=True the "
            "states there are smoothed from readings that were taken under its own inputs; give y0=, e.g. "
            f"model.initial_states_[{trajectory}], to follow the equation under others"
        )


def _between(
    model: "NeuralODE", driven: Driven, rows: NDArray[np.intp], tau: Array, at: Array, signal: Signal | None
) -> tuple[Array, Array]:
    """(states, variances) between readings: the flow from the reading before, bent to meet the state at the next one."""
    known, spread = driven.states[rows], np.einsum("kii->ki", driven.spread[rows])
    before = np.clip(np.searchsorted(tau, at, side="right") - 1, 0, max(len(tau) - 2, 0))
    if len(tau) < 2:
        return known[before], spread[before]
    after = before + 1
    times = [np.array([tau[a], x, max(tau[b], x)]) for a, b, x in zip(before, after, at, strict=True)]
    inputs = None if signal is None else model.scaling_.inputs(signal.take([0] * len(at)))
    flow = np.stack(solve(model.field_, known[before], times, model.theta_, **model.solve_options(), inputs=inputs).y)
    width = tau[after] - tau[before]
    part = np.where(width > 0, (at - tau[before]) / np.where(width > 0, width, 1.0), 1.0)[:, None]
    states = flow[:, 1] + part * (known[after] - flow[:, 2])
    bridge = driven.force * (part * (1 - part) * width[:, None])
    return states, (1 - part) * spread[before] + part * spread[after] + bridge


def ahead(
    model: "NeuralODE",
    z0: Array,
    tau: Array,
    signal: Signal | None,
    return_std: bool,
    spread: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """(states (T, d), variances (T, d)) from a state at the first time on; spread: (gain, covariance) of that state."""
    field, theta = model.field_, model.theta_
    options = model.solve_options() | {"inputs": model.scaling_.inputs(signal)}
    if not return_std:
        z = np.asarray(solve(field, z0, tau, theta, **options).y)
        return z, np.zeros(z.shape)
    rollout = sensitivities(field, z0, tau, theta, **options)
    z, J0 = rollout.solution.y, rollout.y0
    J = rollout.theta
    variance = np.zeros(z.shape)
    if spread is not None:
        J = J - J0 @ spread[0]
        variance += np.einsum("tci,ij,tcj->tc", J0, spread[1], J0)
    if model.covariance_ is not None:
        variance += ((J @ np.nan_to_num(model.covariance_)) * J).sum(axis=-1)
    return z, variance + by_force(model, z0, tau, options)


def by_force(model: "NeuralODE", z0: Array, tau: Array, options: dict[str, Any]) -> Array:
    """(T, d) variances that the force causes along a rollout that starts at the first time, rising or falling."""
    driven = model.driven_
    assert driven is not None
    span = float(tau[-1] - tau[0])
    if span == 0:
        return np.zeros((len(tau), model.field_.d))
    fine = np.linspace(tau[0], tau[-1], STEPS + 1)
    middle = 0.5 * (fine[1:] + fine[:-1])
    path = np.asarray(solve(model.field_, z0, np.concatenate([fine[:1], middle]), model.theta_, **options).y)[1:]
    signal = options["inputs"]
    u = None if signal is None else np.asarray(signal(middle)).reshape(STEPS, -1)
    step = span / STEPS
    A = np.asarray(jacobian(model.field_)(middle, path, model.theta_, u)) * step
    P = carried(A, np.diag(driven.force) * abs(step), np.ones(STEPS))
    grown = np.concatenate([np.zeros((1, len(z0))), np.einsum("kii->ki", P)])
    order = np.argsort(fine)
    return np.stack([np.interp(tau, fine[order], column[order]) for column in grown.T], axis=1)


def rollouts(model: "NeuralODE", z0: Array, t: Any, signal: Signal | None) -> tuple[Any, Any]:
    """(means, deviations) from initial states that are known, (d,) or (B, d), with what the force adds."""
    scaling = model.scaling_
    if z0.ndim == 1:
        mean, std = _back(model, *ahead(model, z0, scaling.times(t), signal, True), True)
        return mean, std
    ragged = is_ragged(t)
    found = []
    for i, start in enumerate(z0):
        own = None if signal is None else signal.take([i])
        found.append(_back(model, *ahead(model, start, scaling.times(t[i] if ragged else t), own, True), True))
    means, deviations = ([pair[k] for pair in found] for k in (0, 1))
    return (means, deviations) if ragged else (np.stack(means), np.stack(deviations))


def _back(model: "NeuralODE", z: Array, variance: Array, return_std: bool) -> Any:
    """In the units of the data."""
    y = model.scaling_.states_back(z)
    if not return_std:
        return y
    return y, np.sqrt(np.maximum(variance, 0.0)) * model.scaling_.slope_of_states_back(y)


def interval(mean: Array, std: Array, noise: Array, level: float, logs: NDArray[np.bool_]) -> tuple[Array, Array]:
    """(lower, upper) ends of intervals; noise: (d,) deviations of readings, 0 for the trajectory itself."""
    half = NormalDist().inv_cdf(0.5 + 0.5 * level)
    with np.errstate(all="ignore"):
        width = half * np.hypot(std / np.where(logs, np.abs(mean), 1.0), noise)
        lower = np.where(logs, mean * np.exp(-width), mean - width)
        return lower, np.where(logs, mean * np.exp(width), mean + width)
