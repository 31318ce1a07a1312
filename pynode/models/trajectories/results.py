"""What ordinary training leaves on a NeuralODE: parameters, covariances, history, report."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.trajectories import Trajectories
from pynode.models.trajectories.process_noise import driven_of
from pynode.models.trajectories.publishing.criteria import of_stages
from pynode.models.trajectories.recipe import optimizer_of
from pynode.models.trajectories.scaling import Scaling
from pynode.models.trajectories.visits import visited_of
from pynode.training.scores import score
from pynode.training.second_order import SecondOrderRun

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]


def keep_run(
    model: "NeuralODE",
    run: Any,
    scaling: Scaling,
    smoothed: Any,
    data: Trajectories,
    seed: int,
    status: str | None,
    seconds: float,
) -> None:
    """Set what ordinary training leaves; see `known_results.keep` for fits with a protocol."""
    training, posterior = run.training, getattr(run, "posterior", None)
    model.protocol_ = None
    model.calibration_ = None
    model.averaged_ = None
    model.shown_ = None
    model.driven_ = None
    model.field_ = run.field
    model.theta_ = training.theta
    model.scaling_ = scaling
    model.random_state_ = seed
    model.data_ = data
    model.weight_ = None if run.data.weight is None else [w[:, : data.d] for w in run.data.weight]
    model.names_ = data.names
    model.time_name_ = data.time_name
    model.clock_ = data.clock
    model.columns_ = data.columns
    model.n_unobserved_ = run.field.d - data.d
    model.visited_ = visited_of(run)
    model.strays_ = ()
    model.aside_ = ()
    model.estimators_ = []
    model.score_of_start_ = score(run) if isinstance(run, SecondOrderRun) else None
    model.initial_states_ = scaling.states_back(np.stack([states[0] for states in training.states]))
    _keep_posterior(model, run, posterior, smoothed)
    model.driven_ = driven_of(run)
    model.history_ = {
        name: np.array(values, dtype=np.int64 if name == "stage" else np.float64)
        for name, values in training.history.items()
    }
    noise = np.sqrt(smoothed.variance) if posterior is None or posterior.noise is None else posterior.noise
    model.report_ = _report(model, training, noise, posterior, status, seconds)
    model.report_ |= of_stages(model, run)


def _keep_posterior(model: "NeuralODE", run: Any, posterior: Any, smoothed: Any) -> None:
    """What error bands need: covariances of theta and of the initial state of each trajectory given theta."""
    model.covariance_ = None
    model.determined_covariance_ = None
    model.state_gain_ = None
    model.state_covariance_ = None
    if posterior is None or posterior.covariance is None:
        return
    p, (b, d) = run.field.n_params, (len(run.data), run.field.d)
    model.covariance_ = run.covariance
    model.state_gain_ = gain = np.zeros((b, d, p))
    spread = np.diag(np.nan_to_num(smoothed.variance, nan=1.0))
    model.state_covariance_ = covariance = np.broadcast_to(spread, (b, d, d)).copy()
    for i, w in run.initial_places():
        gain[i] = run.coordinates.gain(posterior.theta, posterior.free_gain[w])
        covariance[i] = posterior.free_covariance[w]


def _report(
    model: "NeuralODE", training: Any, noise: Array, posterior: Any, status: str | None, seconds: float
) -> dict[str, Any]:
    """How training went."""
    data: Any = model.data_
    scaling = model.scaling_
    seen = np.concatenate([scaling.states_back(z) for z in training.states])[:, : data.d]
    residual = np.concatenate(data.y) - seen
    known = ~np.isnan(residual).all(axis=0)
    rmse = np.full(data.d, np.nan)
    rmse[known] = np.sqrt(np.nanmean(residual[:, known] ** 2, axis=0))
    noise = (noise * scaling.scale)[: data.d]
    at_work = training.stages[-1:] if status == "interrupted" else []
    used = [stage for stage in training.stages if stage.kept] + at_work
    last = used[-1] if used else None
    return model.common_report(
        status or ("stopped" if last and last.status == "stopped" else "finished"),
        "",
        training.warnings,
        loss=float(last.loss) if last else float("nan"),
        nfe=sum(stage.nfe for stage in training.stages),
        seconds=seconds,
        n_iter=len(model.history_["loss"]),
        n_samples=len(data),
        n_failed=sum(stage.failed for stage in training.stages),
        rmse=dict(zip(data.names, rmse.tolist(), strict=True)),
        noise=dict(zip(data.names, noise.tolist(), strict=True)),
        noise_of="logarithms" if model.log else "states",
        optimizer=optimizer_of(model, model.field_),
        effective_parameters=float("nan") if posterior is None else float(posterior.gamma),
        n_evaluations=sum(stage.evaluations for stage in training.stages),
        n_observed=data.n_observed,
        time_scale=scaling.t_scale,
        stages=training.stage_dicts,
    )
