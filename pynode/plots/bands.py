"""Where the uncertainty of the parameters leaves trajectories and slopes."""

from typing import Any

import numpy as np

from pynode.data.trajectories import Trajectories
from pynode.fields.field import Field
from pynode.fields.transforms import jacobian
from pynode.plots.protocols import Array, TrajectoryModel
from pynode.plots.style import BAND, MAX_SENSITIVITIES

FORECAST = 80
"""At so many times the interval of a forecast is found."""


def rollout(model: TrajectoryModel, data: Trajectories, t: Array, i: int, fitted: bool) -> Array:
    """The states (T, d) of trajectory i at times t, from the fitted initial state or from the first row of the data."""
    return np.asarray(model.predict(t, **_start(model, data, i, fitted)))


def rollout_with_band(
    model: TrajectoryModel, data: Trajectories, t: Array, i: int, fitted: bool, share: int = 1
) -> tuple[Array, Array | None, Array | None]:
    """(path, lower, upper end of the 90 % band of the state) of trajectory i, one of `share` to be drawn; no band without a
    covariance."""
    if model.covariance_ is None:
        return rollout(model, data, t, i, fitted), None, None
    start = _start(model, data, i, fitted)
    d = model.initial_states_.shape[1]
    few = max(100, int(MAX_SENSITIVITIES / (share * d * (model.covariance_.shape[-1] + d))))
    at = t if len(t) <= few else np.linspace(t[0], t[-1], few)
    path, std = model.predict(at, **start, return_std=True)
    half = BAND * (std / path if model.log else std)
    if len(at) < len(t):
        path = model.predict(t, **start)
        half = np.stack([np.interp(t, at, column) for column in half.T], axis=1)
    if model.log:
        return path, path * np.exp(-half), path * np.exp(half)
    return path, path - half, path + half


def forecast_interval(model: TrajectoryModel, data: Trajectories, i: int, stop: float) -> tuple[Array, Array, Array] | None:
    """(times, lower, upper end of the calibrated 90 % interval of new readings) after the end of trajectory i, or None."""
    if data is not model.data_ or not hasattr(model, "calibration_"):
        return None
    t = np.linspace(data.t[i][-1], stop, FORECAST + 1)[1:]
    _, lower, upper = model.predict(t, trajectory=i, interval=0.9, kind="prediction")
    return t, lower, upper


def slope_covariance(model: TrajectoryModel, y: Array, t: float) -> Array | None:
    """(n, d, d) covariance of dy/dt at states y (n, d) that the uncertain parameters cause, or None."""
    field = model.field_
    covariance = model.covariance_
    if covariance is None or not isinstance(field, Field) or covariance.shape != (field.n_params, field.n_params):
        return None
    scaling = model.scaling_
    J = jacobian(field, wrt="theta")(scaling.times(t), scaling.states(y), model.theta_)
    J = J * scaling.slopes_back(y, np.ones_like(y))[..., None]
    known = np.nan_to_num(covariance)  # NaN: a parameter that no data tell; the bands are given its value
    spread: Array = np.einsum("nap,nbp->nab", J @ known, J)
    return spread


def _start(model: TrajectoryModel, data: Trajectories, i: int, fitted: bool) -> dict[str, Any]:
    """Where `predict` begins."""
    if fitted and data is model.data_:
        return {"trajectory": i}
    return {"y0": model.initial_states_[i] if fitted else data.y[i][0]}
