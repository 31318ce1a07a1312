"""What intervals know of the data: how far they went, and where.

It is saved with a calibration where the data are not, and goes with a model whose trajectories are others than those that it
was fitted to.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.support import Support
from pynode.models.storage import of_type, stored_array
from pynode.training.sizes import prior_groups

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ranges:
    """What readings were, of n columns, or their logarithms.

    Attributes
    ----------
    low, high : (n,) arrays
        The least and the largest reading; 0 of columns without any.
    variance : (n,) array
        Their variance; 0 of columns without any.
    seen : (n,) bool array
        Columns with readings.
    """

    low: Array
    high: Array
    variance: Array
    seen: NDArray[np.bool_]


@dataclass(frozen=True)
class Shown:
    """What intervals know of data that are not there.

    Attributes
    ----------
    span : float
        The duration of the longest trajectory.
    ends : (B,) array
        The last time of each.
    ranges : Ranges
    paths : Support or None
        See `paths_of`; None for a field that has no network.
    readings : Support or None
        See `readings_of`.
    """

    span: float
    ends: Array
    ranges: Ranges
    paths: Support | None
    readings: Support | None


def logarithms(y: Array, logs: NDArray[np.bool_]) -> Array:
    """Readings (..., n), in logarithms where `logs` (n,) says so."""
    with np.errstate(all="ignore"):
        return np.where(logs, np.log(np.where(logs, y, 1.0)), y)


def span_of(model: "NeuralODE") -> float:
    """The duration of the longest trajectory; 1 if that is none."""
    if model.shown_ is not None or model.data_ is None:
        return _kept(model).span
    return max(float(t[-1] - t[0]) for t in model.data_.t) or 1.0


def end_of(model: "NeuralODE", trajectory: int) -> float:
    """The last time of a trajectory."""
    if model.shown_ is not None or model.data_ is None:
        return float(_kept(model).ends[trajectory])
    return float(model.data_.t[trajectory][-1])


def ranges_of(model: "NeuralODE", logs: NDArray[np.bool_]) -> Ranges:
    """What readings were; logs (n,): in logarithms."""
    if model.shown_ is not None or model.data_ is None:
        return _kept(model).ranges
    x = logarithms(np.concatenate(model.data_.y), logs)
    x = np.where(np.isfinite(x), x, np.nan)
    seen = np.asarray(~np.isnan(x).all(axis=0))
    low, high, variance = (np.zeros(x.shape[1]) for _ in range(3))
    low[seen] = np.nanmin(x[:, seen], axis=0)
    high[seen] = np.nanmax(x[:, seen], axis=0)
    variance[seen] = np.nanvar(x[:, seen], axis=0)
    return Ranges(low, high, variance, seen)


def paths_of(model: "NeuralODE") -> Support:
    """The states, in the units of the field, that fitted trajectories went through; of an ensemble: its first member's."""
    source: Any = model.estimators_[0] if model.estimators_ else model
    if model.shown_ is not None or source.data_ is None:
        kept = _kept(model).paths
        assert kept is not None
        return kept
    paths = [np.asarray(source.predict(t, trajectory=i, unobserved=True)) for i, t in enumerate(source.data_.t)]
    return Support.of([source.scaling_.states(path) for path in paths])


def readings_of(model: "NeuralODE") -> Support | None:
    """Where readings were, in the units of the field; None where not all states are measured."""
    if model.protocol_ is not None or model.n_unobserved_ or model.field_.d != len(model.names_):
        return None
    if model.shown_ is not None or model.data_ is None:
        return _kept(model).readings
    return Support.of([model.scaling_.states(y) for y in model.data_.y])


def shown_to(model: "NeuralODE", logs: NDArray[np.bool_], ends: Array) -> Shown:
    """What a model was shown, for one whose trajectories end at other times (B,)."""
    source: Any = model.estimators_[0] if model.estimators_ else model
    network = model.protocol_ is None and bool(prior_groups(source.field_))
    paths = paths_of(model) if network else None
    return Shown(span_of(model), ends, ranges_of(model, logs), paths, readings_of(model))


def as_content(model: "NeuralODE", logs: NDArray[np.bool_], data: bool) -> dict[str, Any] | None:
    """What a model file holds in place of the data; None where it holds them, or intervals are not calibrated.

    logs : (n,) bool array
        Readings that are compared by logarithms.
    data : bool
        Whether the data are in the file.
    """
    if model.calibration_ is None or (data and model.data_ is not None) or (model.data_ is None and model.shown_ is None):
        return None
    shown = shown_to(model, logs, np.array([end_of(model, i) for i in range(len(model.initial_states_))]))
    return {
        "span": shown.span,
        "ends": shown.ends,
        "ranges": _plain(shown.ranges),
        "paths": None if shown.paths is None else _plain(shown.paths),
        "readings": None if shown.readings is None else _plain(_centre(shown.readings)),
    }


def _plain(part: Ranges | Support) -> dict[str, Any]:
    """For a file, which has no arrays of booleans."""
    return {name: x.tolist() if x.dtype == bool else x for name, x in vars(part).items()}


def _flags(stored: Any, n: int, what: str) -> NDArray[np.bool_]:
    if not isinstance(stored, list) or len(stored) != n:
        raise ValueError(f"{what} must be {n} booleans")
    return np.array([of_type(x, bool, what) for x in stored], dtype=bool)


def from_stored(stored: Any, B: int, n: int, d: int) -> Shown | None:
    """What `as_content` gave for B trajectories of n columns and d states, trusting nothing."""
    if stored is None:
        return None
    parts = stored["ranges"]
    vectors = {name: stored_array(parts[name], (n,), f"the {name} of readings") for name in ("low", "high", "variance")}
    seen = _flags(parts["seen"], n, "which columns have readings")
    span = of_type(stored["span"], float, "the longest duration")
    ends = stored_array(stored["ends"], (B,), "the last times")
    return Shown(span, ends, Ranges(**vectors, seen=seen), _support(stored["paths"], d), _support(stored["readings"], d))


def _centre(support: Support) -> Support:
    """A support that knows only in which directions data never go: no single reading is in a file without the data."""
    if not len(support.points):
        return support
    centre = np.where(support.still, support.points[0], support.points.mean(axis=0))
    return Support(centre[None], support.scale, support.still, support.flat)


def _support(stored: Any, d: int) -> Support | None:
    if stored is None:
        return None
    points = stored_array(stored["points"], (len(stored["points"]), d), "the states that were shown")
    flat = stored_array(stored["flat"], (len(stored["flat"]), d), "directions that were not")
    still = _flags(stored["still"], d, "which states never change")
    return Support(points, stored_array(stored["scale"], (d,), "the scale of states"), still, flat)


def _kept(model: "NeuralODE") -> Shown:
    """What a file held in place of the data."""
    if model.shown_ is None:
        raise ValueError(
            "intervals need to know where the data were, and the model was saved without them: ask the fitted model for an "
            "interval once before save, or save with data=True"
        )
    return model.shown_
