"""A fitted NeuralODE as a page of HTML that solves it in the reader's browser."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.training.coordinates import Coordinates

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]

MOST_POINTS = 2000
"""Measured values that the page shows at most."""


def page_of(model: "NeuralODE", draws: int) -> dict[str, Any]:
    """The content of the page, see `pynode.export.page.page_content`, in the units of the data.

    Parameters
    ----------
    model : NeuralODE
        Fitted.
    draws : int
        How many draws of theta from its posterior.

    Returns
    -------
    dict
        Plain data.

    Raises
    ------
    ValueError
        The model has a part that the page does not know: doses, members of an ensemble, a method of the user's own.
    """
    from pynode.export.page import page_content

    _check(model)
    scaling = model.scaling_
    start = scaling.states_back(scaling.states(model.initial_states_[0]))
    names = [*model.names_, *(f"unobserved {i + 1}" for i in range(len(start) - len(model.names_)))]
    span = (0.0, 1.0) if model.data_ is None else (float(model.data_.t[0][0]), float(model.data_.t[0][-1]))
    ranges = {name: _around(x, seen) for name, x, seen in zip(names, start, _seen(model, names), strict=True)}
    content = page_content(model.field_, model.theta_, start, span, _draws(model, draws), ranges, names)
    content["scaling"] = {
        "shift": scaling.shift.tolist(),
        "scale": scaling.scale.tolist(),
        "log": scaling.log,
        "extra": scaling.extra,
        "t_shift": scaling.t_shift,
        "t_scale": scaling.t_scale,
        "u_shift": scaling.u_shift.tolist(),
        "u_scale": scaling.u_scale.tolist(),
    }
    content["time"]["name"] = model.time_name_
    for slider, seen in zip(content["states"], _seen(model, names), strict=True):
        slider["seen"] = seen.tolist()
    for i, slider in enumerate(content["inputs"]):
        width = 2 * float(scaling.u_scale[i])
        middle = float(scaling.u_shift[i])
        slider |= {"value": middle, "low": middle - width, "high": middle + width}
    content["data"] = _data(model)
    options = model.solve_options()
    content["options"] = options | {"atol": np.asarray(options["atol"], dtype=np.float64).tolist()}
    return content


def _check(model: "NeuralODE") -> None:
    if model.protocol_ is not None:
        raise ValueError("export_html: the page knows no doses, observations or initial states as functions of parameters")
    if len(getattr(model, "estimators_", ())) > 1:
        raise ValueError("export_html: this is an ensemble; write a page of one of its members, model.estimators_[0]")
    if not isinstance(model.method, str):
        raise ValueError("export_html: the method is a Tableau of your own; the page knows methods by their names")


def _seen(model: "NeuralODE", names: list[str]) -> list[Array]:
    """Lowest and highest measured value of each state; nothing where it was not measured."""
    if model.data_ is None:
        return [np.zeros(0)] * len(names)
    y = np.concatenate(model.data_.y)
    found = [x[np.isfinite(x)] for x in y.T]
    ends = [np.array([x.min(), x.max()]) if len(x) else np.zeros(0) for x in found]
    return ends + [np.zeros(0)] * (len(names) - len(ends))


def _around(value: float, seen: Array) -> tuple[float, float]:
    """The range of a slider: what was measured, and half of that on both sides, but no other sign; `value` within."""
    if not len(seen):
        return value - (2 * abs(value) or 1.0), value + (2 * abs(value) or 1.0)
    half = 0.5 * float(seen[1] - seen[0]) or 1.0
    low, high = float(seen[0]) - half, float(seen[1]) + half
    low = max(low, 1e-3 * float(seen[0])) if seen[0] > 0 else low
    return min(low, value), max(high, value)


def _draws(model: "NeuralODE", n: int) -> Array:
    """Draws of theta from the Gaussian of its coordinates without limits; none where the model has no covariance."""
    covariance = model.covariance_
    if covariance is None or n == 0:
        return np.zeros((0, len(model.theta_)))
    coordinates = Coordinates(model.field_.spec, model.theta_)
    at = coordinates.index
    x = coordinates.x(model.theta_)
    slope = coordinates.slope(x)
    inside = np.nan_to_num(np.asarray(covariance))[np.ix_(at, at)] / np.outer(slope, slope)  # NaN: not determined
    values, vectors = np.linalg.eigh(0.5 * (inside + inside.T))
    normal = np.random.default_rng(0).standard_normal((n, len(at)))
    return np.array([coordinates.theta(x + vectors @ (np.sqrt(np.maximum(values, 0.0)) * row)) for row in normal])


def _data(model: "NeuralODE") -> list[dict[str, Any]]:
    """The measured points of the first trajectory."""
    if model.data_ is None:
        return []
    t, y = model.data_.t[0], model.data_.y[0]
    every = max(1, -(-len(t) // MOST_POINTS))
    found = []
    for i, x in enumerate(y.T):
        known = np.flatnonzero(np.isfinite(x))[::every]
        found.append({"state": i, "x": t[known].tolist(), "y": x[known].tolist()})
    return found
