"""Intervals of a NeuralODE: what `predict(..., interval=)` gives, and how their width is calibrated."""

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import is_ragged, real_array
from pynode.data.trajectories import Trajectories
from pynode.errors import ExtrapolationWarning, SolveWarning
from pynode.models.trajectories.intervals.averaged import average_of, is_found, variance_of
from pynode.models.trajectories.intervals.calibration import Calibration, Errors, fit_growth, split_noise
from pynode.models.trajectories.intervals.random_force import forced_variance, has_network
from pynode.models.trajectories.intervals.refits import folds, refitted, shortened, visited
from pynode.models.trajectories.intervals.shown import end_of, logarithms, ranges_of, readings_of, shown_to
from pynode.models.trajectories.process_noise import interval
from pynode.models.trajectories.series import own_control
from pynode.training.smoothing import smooth

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]

Kind = Literal["mean", "prediction"]
KINDS = ("mean", "prediction")

REMAINS = 1 / 3
"""The part of the variance by a random force that is left where the initial state is fitted to the whole trajectory: that of
a Brownian motion about its mean, over that about its start."""

MANY = 3
"""Equations fitted to so many trajectories, whose residuals are white, need no refits: their form is averaged over."""


class Band(NamedTuple):
    """An interval for each number of a prediction; each of the shape of the prediction.

    Attributes
    ----------
    mean : array
        What `predict` gives without an interval.
    lower, upper : array
        The ends; -inf and inf (0 and inf for logarithms) where the model knows nothing.
    """

    mean: Any
    lower: Any
    upper: Any


@dataclass(frozen=True)
class Course:
    """A prediction and the variances of what may be wrong with it, (T, d) each, of what is measured.

    Those are variances of logarithms where readings are compared by them, else in units of a noise that is the same for all
    readings of a column: times `factor` they are in the units of the readings.
    """

    mean: Array
    parameters: Array
    process: Array
    strange: Array
    limit: Array
    factor: Array
    ahead: NDArray[np.bool_]  # (T,) after the end of the data


@dataclass(frozen=True)
class Measure:
    """How readings of a model are compared with predictions.

    Attributes
    ----------
    logs : (d,) bool array
        By their logarithms.
    models : list of dicts
        The error models of the columns; empty where all errors are additive.
    noise : (d,) array
        Standard deviations.
    """

    logs: NDArray[np.bool_]
    models: list[dict[str, Any]]
    noise: Array

    @classmethod
    def of(cls, model: "NeuralODE") -> "Measure":
        """The measure of a model."""
        rows = model.report_.get("error_models", {})
        models = [rows.get(name, {}) for name in model.names_]
        logs = np.array([bool(model.log) or row.get("model") == "lognormal" for row in models])
        noise = np.array([model.report_["noise"][name] for name in model.names_], dtype=np.float64)
        return cls(logs, models, noise)

    def transform(self, y: Array) -> Array:
        """Logarithms where readings are compared by them."""
        return logarithms(y, self.logs)

    def back(self, x: Array) -> Array:
        """The inverse of `transform`."""
        with np.errstate(over="ignore"):
            return np.where(self.logs, np.exp(np.where(self.logs, x, 0.0)), x)

    def factor(self, mean: Array) -> Array:
        """(T, d) standard deviations of readings over `noise`."""
        found = np.ones(mean.shape)
        for c, row in enumerate(self.models):
            if "proportional" in row and self.noise[c] > 0:
                found[:, c] = np.hypot(row.get("additive", 0.0), row["proportional"] * mean[:, c]) / self.noise[c]
        return np.maximum(found, 1e-12)


def check_interval(interval: Any, kind: Any) -> None:
    """Refuse what is no part of all, or no kind of interval."""
    number = isinstance(interval, (int, float, np.number)) and not isinstance(interval, bool)
    if not number or not 0 < interval < 1:
        raise ValueError(f"interval={interval!r} must be a number between 0 and 1, such as 0.9")
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not one of {', '.join(KINDS)}")


def bands(model: "NeuralODE", t: Any, y0: Any, level: float, kind: Kind, given: dict[str, Any]) -> Band:
    """The intervals of a trajectory or of several, as `predict` takes them."""
    if y0 is None or np.ndim(y0) < 2:
        start = None if y0 is None else np.atleast_1d(real_array("y0", y0, np.float64))
        times = np.atleast_1d(real_array("t", t, np.float64))
        if start is not None:  # values of an array are those at the times t, and bands need them between
            given = given | {"u": own_control(given["u"], model.field_.inputs, [times], model.input_kind_)}
        return band(model, times, start, level, kind, given)
    y0 = real_array("y0", y0, np.float64)
    ragged = is_ragged(t)
    each = [real_array("t", x, np.float64) for x in t] if ragged else [real_array("t", t, np.float64)] * len(y0)
    if len(each) != len(y0):
        raise ValueError(f"t has the times of {len(each)} trajectories, y0 the initial states of {len(y0)}")
    signal = own_control(given["u"], model.field_.inputs, each, model.input_kind_)
    found = []
    for i, (x, start) in enumerate(zip(each, y0, strict=True)):
        own = given | {"u": None if signal is None else signal.take([i])}
        found.append(band(model, x, start, level, kind, own))
    parts = [list(x) for x in zip(*found, strict=True)]
    return Band(*parts) if ragged else Band(*(np.stack(x) for x in parts))


def band(model: "NeuralODE", t: Array, y0: Array | None, level: float, kind: Kind, given: dict[str, Any]) -> Band:
    """The interval of a single trajectory; given: u, doses, trajectory, as in `predict`."""
    measure = Measure.of(model)
    if model.driven_ is not None:
        return _driven_band(model, measure, t, y0, level, kind, given)
    calibration = calibrated(model)
    course = course_of(model, measure, t, y0, given)
    start = calibration.within(course.parameters)
    beyond = calibration.beyond(course.parameters, course.process, course.strange, course.limit)
    ahead = course.ahead[:, None]
    half = calibration.half(level, np.where(ahead, beyond, start), ahead, kind == "prediction") * course.factor
    if y0 is not None and _is_unknown(model, y0):
        half = np.full(half.shape, np.inf)
    middle = measure.transform(course.mean)
    return Band(course.mean, measure.back(middle - half), measure.back(middle + half))


def _driven_band(
    model: "NeuralODE", measure: Measure, t: Array, y0: Array | None, level: float, kind: Kind, given: dict[str, Any]
) -> Band:
    """The interval where a random force was estimated: what it does is known, and needs no calibration."""
    options = given if y0 is None else {k: x for k, x in given.items() if k != "trajectory"}
    mean, std = model.predict(t, y0, return_std=True, **options)
    noise = measure.noise * (kind == "prediction")
    lower, upper = interval(mean, std, noise, level, measure.logs)
    if y0 is not None and _is_unknown(model, y0):
        lower, upper = np.where(measure.logs, 0.0, -np.inf) + 0 * mean, np.full(mean.shape, np.inf)
    return Band(mean, lower, upper)


def _is_unknown(model: "NeuralODE", y0: Array) -> bool:
    """Whether an initial state (d,) is off the data in a direction in which a network was shown nothing."""
    if model.field_.d != len(y0) or not has_network(model):
        return False
    measured = readings_of(model)
    return measured is not None and bool(measured.never(model.scaling_.states(y0[None]))[0])


def course_of(model: "NeuralODE", measure: Measure, t: Array, y0: Array | None, given: dict[str, Any]) -> Course:
    """A prediction with its variances."""
    options = given if y0 is None else {k: x for k, x in given.items() if k != "trajectory"}
    if model.covariance_ is None and not model.estimators_:
        mean = np.asarray(model.predict(t, y0, **options))
        std = np.zeros(mean.shape)
    else:
        mean, std = model.predict(t, y0, return_std=True, **options)
    if model.averaged_ is not None:
        std = np.sqrt(variance_of(model, model.averaged_, t, y0, options))
    factor = measure.factor(mean)
    scale = np.where(measure.logs, np.abs(mean), factor)
    end = t[0] if y0 is not None else end_of(model, given.get("trajectory", 0))
    ahead = t > end if y0 is None else np.ones(len(t), bool)
    factor = np.where(measure.logs, 1.0, factor)
    process = np.zeros(mean.shape)
    strange = np.zeros(mean.shape)
    if ahead.any():
        forced = forced_variance(model, measure.logs, float(end), t[ahead], y0, options)
        process[ahead], strange[ahead] = (x / factor[ahead] ** 2 for x in forced)
    limit = _limit(model, measure, mean) / factor**2
    with np.errstate(all="ignore"):
        return Course(mean, (std / scale) ** 2, process, strange, limit, factor, ahead)


def _limit(model: "NeuralODE", measure: Measure, mean: Array) -> Array:
    """(T, d) variances that an error hardly exceeds: that of the difference of two readings at random times, and the way
    that the prediction is outside of what was measured."""
    ranges = ranges_of(model, measure.logs)
    at = measure.transform(mean)
    outside = np.maximum(np.maximum(ranges.low - at, at - ranges.high), 0.0)
    return np.asarray(np.where(ranges.seen, 2 * ranges.variance + outside**2, np.inf))


def visiting(model: "NeuralODE", data: Trajectories, calibrate: bool) -> "NeuralODE":
    """The model as one of other trajectories, whose intervals are those of the model.

    Parameters
    ----------
    model : NeuralODE
    data : Trajectories
        New ones; initial states are fitted to them.
    calibrate : bool
        Whether intervals will be asked for, which the data of the model calibrate.
    """
    made = visited(model, data)
    if calibrate:
        made.calibration_ = calibrated(model)
        made.averaged_ = model.averaged_
        made.shown_ = shown_to(model, Measure.of(model).logs, np.array([t[-1] for t in data.t]))
    return made


# ---- Calibration


def calibrated(model: "NeuralODE") -> Calibration:
    """The calibration of a fitted model; found at the first call, then kept."""
    if model.calibration_ is None:
        if model.data_ is None:
            raise ValueError(
                "intervals are calibrated on the data, and the model was saved without them: ask for an interval once "
                "before save, or save with data=True"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExtrapolationWarning)  # of refits, which nobody asked for ...
            warnings.simplefilter("ignore", SolveWarning)  # ... and whose errors are as large as can be where they fail
            model.calibration_ = _calibrate(model, model.data_)
    return model.calibration_


def _calibrate(model: "NeuralODE", data: Trajectories) -> Calibration:
    measure = Measure.of(model)
    residuals = []
    for i, (t, y) in enumerate(zip(data.t, data.y, strict=True)):
        mean = np.asarray(model.predict(t, trajectory=i))
        r = measure.transform(y) - measure.transform(mean)
        r = r / np.where(measure.logs, 1.0, measure.factor(mean))
        residuals.append(np.where(np.isfinite(r), r, np.nan))
    d = model.field_.d
    degrees = float(np.nan_to_num(model.report_["effective_parameters"])) + d * len(data)
    smoothed = _smooth_variance(measure, data)
    noise, misfit, inflation = split_noise(residuals, measure.noise**2, smoothed, degrees)
    left = int((~np.isnan(np.concatenate(residuals))).sum()) - degrees
    freedom = max(left / data.d, 1.0)
    model.averaged_ = average_of(model)
    if model.averaged_ is not None and is_found(model) and len(data) >= MANY and not misfit.any():
        return Calibration(noise, misfit, inflation, degrees=freedom)
    parts = []
    forecast = 0
    for lengths in folds(data.lengths, whole=model.protocol_ is None and model.n_unobserved_ == 0):
        shown = np.array(lengths)
        kept = np.flatnonzero(shown)
        away = np.flatnonzero(shown == 0)
        refit = refitted(model, shortened(data, lengths), kept)
        if refit is not None:
            refit.averaged_ = None if model.averaged_ is None else average_of(refit)
            left_out = [y[n:] for n, y in zip(lengths, data.y, strict=True)]
            forecast = max(forecast, sum(int((~np.isnan(y)).sum()) for y in left_out)) if len(data) < 2 else data.n_observed
            for place, i in enumerate(kept.tolist()):
                if lengths[i] < data.lengths[i]:
                    parts.append(_errors(refit, measure, data, i, lengths[i], noise + misfit, place))
            if len(away):
                parts += _errors_of_visitors(refit, measure, data.take(away), noise + misfit)
    factors, scores, plain, independent = fit_growth(Errors.together(parts), forecast)
    told: dict[str, Any] = factors | {"independent": independent, "degrees": freedom}
    return Calibration(noise, misfit, inflation, scores=scores, plain=plain, **told)


def _smooth_variance(measure: Measure, data: Trajectories) -> Array:
    """(d,) variance of the noise by smoothing; NaN where it is not known."""
    plain = not any("proportional" in row for row in measure.models) and not any((np.diff(t) == 0).any() for t in data.t)
    return smooth(list(data.t), [measure.transform(y) for y in data.y]).variance if plain else np.full(data.d, np.nan)


def _errors(
    refit: "NeuralODE", measure: Measure, data: Trajectories, i: int, shown: int, noise: Array, place: int
) -> Errors:
    """Errors of trajectory i after its first so many times, which the refit was shown as its trajectory `place`."""
    course = course_of(refit, measure, data.t[i][shown:], None, {"trajectory": place})
    return _compared(course, measure, data.y[i][shown:], noise)


def _errors_of_visitors(refit: "NeuralODE", measure: Measure, data: Trajectories, noise: Array) -> list[Errors]:
    """Errors along trajectories that the refit was not shown, from initial states that fit them best."""
    guest = visited(refit, data)
    found = []
    for i, (t, y) in enumerate(zip(data.t, data.y, strict=True)):
        course = course_of(guest, measure, t, None, {"trajectory": i})
        given = {"u": None if data.signal is None else data.signal.take([i])}
        forced = forced_variance(refit, measure.logs, float(t[0]), t, guest.initial_states_[i], given)
        process, strange = (x * REMAINS / course.factor**2 for x in forced)
        found.append(_compared(replace(course, process=process, strange=strange), measure, y, noise))
    return found


def _compared(course: Course, measure: Measure, y: Array, noise: Array) -> Errors:
    """Errors of readings y (T, d)."""
    error = (measure.transform(y) - measure.transform(course.mean)) / course.factor
    seen = np.isfinite(y)
    lost = seen & ~np.isfinite(error)  # what cannot be predicted is wrong by as much as can be
    error = np.where(lost, np.sqrt(course.limit), error)

    def by_column(x: Array) -> Array:
        return np.asarray(np.broadcast_to(x, y.shape).T[seen.T])

    block = by_column(np.broadcast_to(np.arange(y.shape[1]), y.shape)).astype(np.intp)
    columns = {name: by_column(getattr(course, name)) for name in ("parameters", "process", "strange", "limit")}
    return Errors(by_column(error), by_column(noise), **columns, block=block)
