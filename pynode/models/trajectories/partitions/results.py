"""What a fit to data in partitions leaves on a NeuralODE, beside what the fit of the sample left."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.optim.levenberg_marquardt import covariance
from pynode.training.criteria import log_evidence
from pynode.training.initial_states import estimate_states
from pynode.training.shooting import WEAK, ShootingProblem
from pynode.training.sizes import prior_groups
from pynode.training.state import Stage
from pynode.training.windows import Data

Array = NDArray[np.float64]


def keep_sums(stage: Any, status: str) -> None:
    """Set what a stage over all partitions has reached; stage: a `PartitionStage`."""
    model, problem = stage.model, stage.problem
    state = stage.state
    x, sums = stage.reached
    coordinates, start = stage.coordinates, stage.start
    model.theta_ = coordinates.theta(x).copy()
    if start.second:
        state.covariance = covariance(sums.H.copy(), state.alpha, state.beta)
        model.covariance_ = _covariance(stage, x)
    residual = np.sqrt(sums.squares / np.maximum(sums.count, 1)) * model.scaling_.scale
    n = sums.count.sum()
    fitted = min(state.gamma + problem.n_free, 0.95 * n) if start.second else 0.0
    noise = residual * np.sqrt(n / (n - fitted))
    if model.visited_ is not None:
        low, high = np.minimum(model.visited_.low, sums.low), np.maximum(model.visited_.high, sums.high)
        model.visited_ = replace(model.visited_, low=low, high=high)
    _keep_states(stage, x)
    seconds = sum(row[3] for row in stage.history[-1:]) - float(model.report_["seconds"])
    done = Stage(
        stage.name,
        problem.n_windows,
        state.status,
        float(sums.loss / n),
        len(stage.history),
        state.n_evaluations,
        max(seconds, 0.0),
        problem.nfe,
        problem.n_failed,
        stage.start.intervals,
    )
    stages = [*model.report_["stages"], asdict(done)]
    _keep_history(model, stage.history, len(stages) - 1)
    report = model.report_
    report |= {
        "status": status,
        "loss": done.loss,
        "nfe": report["nfe"] + problem.nfe,
        "n_iter": len(model.history_["loss"]),
        "n_evaluations": report["n_evaluations"] + state.n_evaluations,
        "n_samples": len(stage.known),
        "n_observed": int(n),
        "n_failed": problem.n_failed,
        "rmse": dict(zip(model.names_, residual.tolist(), strict=True)),
        "noise": dict(zip(model.names_, noise.tolist(), strict=True)),
        "effective_parameters": float(state.gamma) if start.second else float("nan"),
        "stages": stages,
    }
    if status != "finished" or not report["message"]:
        report["message"] = ""
    report |= _criteria(stage, sums, residual)


def _covariance(stage: Any, x: Array) -> Array:
    """(p, p), NaN for parameters that no data tell, as `SecondOrderRun.covariance`."""
    coordinates, field = stage.coordinates, stage.model.field_
    found: Array = coordinates.spread(x, stage.state.covariance).copy()
    lost = coordinates.undetermined(x, stage.state.covariance)
    for weights in prior_groups(field):
        lost[weights] = False
    free = coordinates.index
    found[np.ix_(lost, np.isin(np.arange(len(found)), free))] = np.nan
    found[np.ix_(np.isin(np.arange(len(found)), free), lost)] = np.nan
    return found


def _keep_states(stage: Any, x: Array) -> None:
    """The initial states of the trajectories of the sample, for the parameters of all partitions."""
    model, scaling = stage.model, stage.model.scaling_
    data = model.data_
    z = [scaling.states(y) for y in data.y]
    inside = Data(scaling.times(list(data.t)), z, None, scaling.inputs(data.signal))
    weight = 1.0 / stage.problem.variance
    y0 = scaling.states(model.initial_states_)
    options = stage.task.options
    prior = np.broadcast_to(WEAK * weight, y0.shape)
    theta = model.theta_
    y0, _ = estimate_states(model.field_, theta, inside, y0, weight, prior, **options)
    model.initial_states_ = scaling.states_back(y0)
    if not stage.start.second:
        return
    problem = ShootingProblem(model.field_, inside, y0, weight, prior, stage.coordinates, **options)
    problem.leave_out(problem.failed(x, y0))
    here = problem.linearise(x, y0)
    if here is not None and here.free is not None:
        model.state_gain_ = stage.coordinates.gain(x, here.free_gain)
        model.state_covariance_ = here.free.covariances()[0]


def _keep_history(model: Any, rows: list[tuple[float, ...]], number: int) -> None:
    """Add the iterations to those of the sample's fit."""
    more = np.array(rows, dtype=np.float64).reshape(-1, 5)
    columns = {"stage": np.full(len(more), number)} | dict(
        zip(("loss", "gradient_norm", "nfe", "seconds", "validation"), more.T, strict=True)
    )
    model.history_ = {name: np.concatenate([old, columns[name]]).astype(old.dtype) for name, old in model.history_.items()}


def _criteria(stage: Any, sums: Any, residual: Array) -> dict[str, float]:
    """Likelihood, degrees of freedom and evidence of all partitions, as `criteria.of_stages` has them."""
    model, state = stage.model, stage.state
    d = len(model.names_)
    with np.errstate(divide="ignore"):
        fit = -0.5 * float((sums.count * (np.log(2 * np.pi * residual**2) + 1)).sum())
    if model.log:
        fit -= float((stage.known.mean[:d] * stage.known.count[:d]).sum())
    if not stage.start.second:
        return {"log_likelihood": fit, "degrees": np.nan, "log_evidence": np.nan}
    groups = stage.start.groups
    own = len(stage.coordinates) - sum(map(len, groups))
    lost = int(np.isnan(np.diag(model.covariance_)).sum())
    degrees = float(state.gamma) - lost + stage.problem.n_free
    evidence = log_evidence(fit, state, groups, own - lost + stage.problem.n_free + d, sums.count.sum())
    return {"log_likelihood": fit, "degrees": degrees, "log_evidence": evidence}
