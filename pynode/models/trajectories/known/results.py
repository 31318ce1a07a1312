"""What a fit with a protocol leaves on a NeuralODE, and what such a model predicts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import real_array
from pynode.data.signal import Signal
from pynode.data.trajectories import Trajectories
from pynode.experiments.forward import Course
from pynode.fields.parameters import parameter_names
from pynode.models.trajectories.known.dose_checks import doubtful_dose
from pynode.models.trajectories.known.fits import KnownFit
from pynode.models.trajectories.known.protocol import Protocol, doses_of_one
from pynode.models.trajectories.publishing.criteria import of_maximum
from pynode.models.trajectories.series import own_control
from pynode.optim.result import MESSAGES
from pynode.training.error_models import ERROR_MODELS
from pynode.training.likelihood.run import LikelihoodRun, Maximum
from pynode.training.likelihood.verdict import LEAST
from pynode.training.verdict.repeats import repeats

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]


def keep(model: "NeuralODE", fit: KnownFit, run: LikelihoodRun, status: str | None, seconds: float) -> None:
    """Set what a fit leaves: parameters, covariances, history, report.

    The covariance is the inverse of Fisher's information times n / (n - p), n readings and p numbers estimated besides
    those of the error models: for a single additive error that is the covariance of least squares.
    """
    best = run.best
    assert best is not None
    problem = best.problem
    state = best.posterior
    data = fit.data
    theta = problem.theta(state.theta)
    model.protocol_ = fit.protocol
    model.calibration_ = None
    model.driven_ = None
    model.averaged_ = None
    model.shown_ = None
    model.visited_ = None
    model.strays_ = ()
    model.aside_ = ()
    model.field_ = fit.protocol.field
    model.theta_ = np.array(theta)
    model.random_state_ = fit.seed
    model.data_ = data
    model.weight_ = None if fit.precision is None else list(fit.precision)
    model.names_ = data.names
    model.time_name_ = data.time_name
    model.clock_ = data.clock
    model.columns_ = data.columns
    model.n_unobserved_ = 0
    model.estimators_ = []
    model.scaling_ = fit.units
    inflation = problem.n_observed / max(problem.n_observed - best.degrees, 1.0)
    _keep_uncertainty(model, best, inflation)
    model.history_ = {
        name: np.array(values, dtype=np.int64 if name == "stage" else np.float64) for name, values in run.history.items()
    }
    lost = [f"{name} = {value:.3g}" for name, value in _undetermined(model, best)]
    words = []
    if status != "interrupted":
        words = fit.verdict.doubts(run, lost) + _of_doses(fit, best) + fit.verdict.outliers(best, data.when)
        words += repeats(data, fit.verdict.columns(best).rough, bool(words))
    model.report_ = _report(model, fit, run, inflation, words, status, seconds)


def _of_doses(fit: KnownFit, best: Maximum) -> list[str]:
    """What is doubtful about the doses."""
    found = doubtful_dose(fit, best, fit.verdict.columns(best))
    if found is None:
        return []
    i, dose = found
    whose = "" if len(fit.data) == 1 else f" of trajectory {fit.data.ids[i]}"
    return [
        f"the readings contradict {dose!r}{whose}: another time or amount of it would lower the residuals beyond chance. "
        "Is it entered rightly? Where it is, the equation lacks something: this is misfit"
    ]


def _keep_uncertainty(model: "NeuralODE", best: Maximum, inflation: float) -> None:
    """Initial states, and the covariances of parameters and initial states."""
    problem, state = best.problem, best.posterior
    free: Any = state.free
    y0, slope = problem.states_out(free)
    experiment = problem.experiment
    model.initial_states_ = experiment.initial.states(model.theta_, y0, experiment.first, experiment.inputs_first)
    coordinates = problem.coordinates
    x = state.theta[: len(coordinates)]
    model.covariance_ = None
    model.determined_covariance_ = None
    model.state_gain_ = None
    model.state_covariance_ = None
    known = best.determined
    if known is None:
        return
    n, index = len(x), coordinates.index
    model.determined_covariance_ = coordinates.spread(x, known.covariance * inflation)
    if problem.n_observed - best.degrees < LEAST:  # no reading is left to tell the noise from
        model.determined_covariance_[np.ix_(index, index)] = np.nan
    model.covariance_ = np.array(model.determined_covariance_)
    lost = index[known.lost]
    model.covariance_[np.ix_(lost, index)] = model.covariance_[np.ix_(index, lost)] = np.nan
    gain: Any = state.free_gain
    model.state_gain_ = coordinates.gain(x, slope[:, :, None] * gain[:, :, :n])
    spread: Any = state.free_covariance
    model.state_covariance_ = slope[:, :, None] * spread * slope[:, None, :] * inflation


def _undetermined(model: "NeuralODE", best: Maximum) -> list[tuple[str, float]]:
    known = best.determined
    if known is None:
        return []
    found = []
    if model.field is not None:
        names = parameter_names(model.field_.spec)
        found = [(names[k], float(model.theta_[k])) for k in best.problem.coordinates.index[known.lost]]
    states = model.protocol_.states if model.protocol_ is not None else ()
    for i, j in np.argwhere(best.problem.mask & (best.prior_share > 0.5)).tolist():
        called = states[j] if states else f"state {j + 1}"
        where = "" if len(best.problem.mask) == 1 else f" of trajectory {i + 1}"
        found.append((f"the initial {called}{where}", float(model.initial_states_[i, j])))
    return found


def _report(
    model: "NeuralODE",
    fit: KnownFit,
    run: LikelihoodRun,
    inflation: float,
    words: list[str],
    status: str | None,
    seconds: float,
) -> dict[str, Any]:
    best: Any = run.best
    problem, state = best.problem, best.posterior
    course: Any = problem.course(state.theta, state.free)
    deviance: Any = problem.deviance(course, state.theta)
    found = fit.verdict.columns(best)
    names = fit.data.names
    noise = {}
    models = {}
    for c, name in enumerate(names):
        sigma = problem.sigma(state.theta, c) * np.sqrt(inflation)
        parameters = ERROR_MODELS[fit.protocol.models[c]].parameters
        models[name] = {"model": fit.protocol.models[c]} | dict(zip(parameters, sigma.tolist(), strict=False))
        noise[name] = float(sigma[0]) if len(sigma) else float("nan")
    return model.common_report(
        status or ("stopped" if run.stopped else "finished"),
        MESSAGES.get(state.status, ""),
        words,
        loss=float(best.loss),
        **of_maximum(best, float(-0.5 * deviance.sum()), list(fit.likelihood().groups)),
        nfe=sum(stage.nfe for stage in run.stages),
        seconds=seconds,
        n_iter=len(run.history["loss"]),
        n_samples=len(fit.data),
        n_failed=0,
        rmse={name: float(np.sqrt(found.variance[c])) if found.count[c] else float("nan") for c, name in enumerate(names)},
        noise=noise,
        noise_of="readings",
        error_models=models,
        optimizer="levenberg-marquardt",
        effective_parameters=best.degrees,
        n_evaluations=sum(stage.evaluations for stage in run.stages),
        n_observed=problem.n_observed,
        time_scale=1.0,
        stages=[vars(stage) for stage in run.stages],
    )


# ---- New data


def initial_states(model: "NeuralODE", data: Trajectories, doses: Any) -> tuple[Array, Course]:
    """(initial states (B, d), course) of new trajectories, what is free of them being fitted to their readings."""
    fit = KnownFit(model, data, None, model.random_state_, doses, model.field_)
    problem, free = fit.states_of(model.theta_)
    course: Any = problem.course(np.zeros(problem.n_noise), free)
    experiment = problem.experiment
    y0 = problem.states_out(free)[0]
    return experiment.initial.states(model.theta_, y0, experiment.first, experiment.inputs_first), course


def score(model: "NeuralODE", data: Trajectories, doses: Any) -> float:
    """Coefficient of determination of the readings of new trajectories, see `NeuralODE.score`."""
    fit = KnownFit(model, data, None, model.random_state_, doses, model.field_)
    problem, free = fit.states_of(model.theta_)
    course: Any = problem.course(np.zeros(problem.n_noise), free)
    parts = []
    for c, rows in enumerate(problem.columns):
        rows = rows[problem.readings.censored[rows] == 0]
        if len(rows):
            y = problem.readings.value[rows]
            miss = float(((y - course.value[problem.readings.row[rows], c]) ** 2).sum())
            spread = float(((y - y.mean()) ** 2).sum())
            parts.append(1 - miss / spread if spread > 0 else float(miss == 0))
    return float(np.mean(parts))


# ---- Predictions


def course_of(model: "NeuralODE", protocol: Protocol, t: Sequence[Array], signal: Any, free: Array, slopes: bool) -> Course:
    """The course of a protocol at some times of each trajectory."""
    experiment = protocol.experiment(t, signal, **model.solve_options())
    return experiment.run(model.theta_, free, slopes)


def predict(
    model: "NeuralODE",
    t: Any,
    y0: Any = None,
    *,
    u: Any = None,
    doses: Any = None,
    trajectory: int = 0,
    return_std: bool = False,
    states: bool = False,
) -> Any:
    """What is measured along a trajectory of the model; see `NeuralODE.predict`."""
    protocol: Any = model.protocol_
    times = np.atleast_1d(real_array("t", t, np.float64))
    if times.size == 0:
        raise ValueError("t is empty: give at least one time")
    if times.ndim != 1 or (np.diff(times) < 0).any():
        raise ValueError("t must be a (T,) array of rising times for a model with a protocol")
    different, where = np.unique(times, return_inverse=True)
    if y0 is None:
        own, free, signal = _continued(model, protocol, different, u, doses, trajectory)
        gain, spread = (None, None) if model.state_gain_ is None else (model.state_gain_[trajectory], _of(model, trajectory))
    else:
        start = np.atleast_1d(real_array("y0", y0, np.float64))
        d = protocol.field.d
        if not start.size or start.ndim > 2 or start.shape[-1] != d:
            raise ValueError(f"y0 has shape {start.shape}; the model has {d} states: ({d},), or (B, {d}) for a batch")
        if not np.isfinite(start).all():
            raise ValueError(f"y0={start} must be finite: the states at the first of t")
        free = np.atleast_2d(start)
        n = len(free)
        own = protocol.of_states(free, different[:1].repeat(n), None if doses is None else [doses_of_one(doses)] * n)
        early = own.schedule().actions(model.theta_).time
        if (early < different[0]).any():
            raise ValueError(
                f"doses hold one at {early.min():g}, before {different[0]:g}, the first of t, where the states are y0: y0 "
                "holds what it did"
            )
        gain = None
        spread = None
        signal = own_control(u, protocol.field.inputs, [different] * n, model.input_kind_)
        if start.ndim == 2:  # rows of one trajectory follow those of the one before
            where = where + len(different) * np.arange(n)[:, None]
    course = course_of(model, own, [different] * len(free), signal, free, return_std)
    value = (course.states if states else course.value)[where]
    if not return_std:
        return value
    if model.covariance_ is None:
        raise ValueError("return_std needs a covariance, which this fit did not reach (it was interrupted)")
    J: Any = (course.states_jacobian if states else course.jacobian)[where]  # type: ignore[index]
    p = protocol.field.n_params
    by_theta, by_state = J[..., :p], J[..., p:]
    variance = np.zeros(value.shape)
    if gain is not None and spread is not None:
        by_theta = by_theta - by_state @ gain
        variance = np.einsum("nci,ij,ncj->nc", by_state, spread, by_state)
    variance = variance + ((by_theta @ model.determined_covariance_) * by_theta).sum(axis=-1)
    return value, np.sqrt(np.maximum(variance, 0.0))


def _of(model: "NeuralODE", trajectory: int) -> Array:
    spread: Any = model.state_covariance_
    return np.asarray(spread[trajectory])


def _continued(
    model: "NeuralODE", protocol: Protocol, t: Array, u: Any, doses: Any, trajectory: int
) -> tuple[Protocol, Array, Any]:
    """(protocol, free initial states, inputs) of a fitted trajectory."""
    if isinstance(trajectory, bool) or not isinstance(trajectory, (int, np.integer)):
        raise TypeError(f"trajectory={trajectory!r} must be an integer")
    n = len(model.initial_states_)
    if not 0 <= trajectory < n:
        raise ValueError(f"trajectory={trajectory!r} must be from 0 to {n - 1}")
    own = protocol.of_trajectory(trajectory)
    if doses is not None:
        own = replace(own, doses=(doses_of_one(doses),))
        earliest = own.schedule().first_times(1)[0]
        if earliest < own.first[0]:
            raise ValueError(
                f"doses hold one at {earliest:g}, before {own.first[0]:g}, where trajectory {trajectory} starts: give y0, "
                "the states at the first of t"
            )
    begin = own.experiment([t], None).begin(model.theta_)[0]
    if (t < begin).any():
        raise ValueError(f"t must be {begin:g} or later, where the trajectory starts; got {t[0]:g}")
    if u is None and model.data_ is not None and model.data_.signal is not None:
        signal: Signal | None = model.data_.signal.take([trajectory])
    else:
        signal = own_control(u, protocol.field.inputs, [t], model.input_kind_)
    return own, model.initial_states_[trajectory][None], signal
