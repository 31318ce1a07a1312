"""What a fit leaves in its report for comparing it with others: likelihood, degrees of freedom, evidence."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.training.criteria import log_evidence, log_likelihood
from pynode.training.driven_run import DrivenRun
from pynode.training.likelihood.run import Maximum
from pynode.training.second_order import SecondOrderRun

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]


def of_stages(model: "NeuralODE", run: Any) -> dict[str, float]:
    """Entries of the report of a fit in stages.

    The likelihood is that of the measured numbers, also where their logarithms are what was fitted: so it may be compared
    with that of any other model of the same numbers.
    """
    data: Any = model.data_
    k = data.d
    states = np.concatenate(run.training.states)[:, :k]
    y = np.concatenate(data.y)
    scaling = model.scaling_
    if model.log:
        residual = np.log(y) - (states * scaling.scale[:k] + scaling.shift[:k])
        stretch = float(np.nansum(np.log(y)))
    else:
        residual = y - scaling.states_back(np.concatenate(run.training.states))[:, :k]
        stretch = 0.0
    weight = None if run.data.weight is None else np.concatenate(run.data.weight)[:, :k]
    noise = np.array([model.report_["noise"][name] for name in data.names])
    fit = log_likelihood(residual, weight, str(model.noise), noise) - stretch
    if isinstance(run, DrivenRun) and run.strengths is not None:
        numbers = (~np.isnan(y)).sum(axis=0)
        fit = run.log_likelihood - float(numbers @ np.log(scaling.scale[:k])) - stretch
    if not isinstance(run, SecondOrderRun) or run.posterior.covariance is None:
        return {"log_likelihood": fit, "degrees": np.nan, "log_evidence": np.nan}
    state = run.posterior
    own = np.setdiff1d(np.arange(len(run.coordinates)), np.concatenate([np.empty(0, dtype=np.intp), *run.groups]))
    if run.groups:
        lost = int(run.undetermined.sum())
    else:
        lost = run.coordinates.n_undetermined(state.theta, run.posterior.covariance)
    plain = len(own) - lost
    initial = run.n_initial
    errors = int((~np.isnan(residual)).any(axis=0).sum())
    degrees = float(state.gamma) - lost + initial
    if isinstance(run, DrivenRun) and run.strengths is not None:
        errors += run.field.d
        degrees += run.field.d
    evidence = log_evidence(fit, state, run.groups, plain + initial + errors, data.n_observed)
    return {"log_likelihood": fit, "degrees": degrees, "log_evidence": evidence}


def of_maximum(best: Maximum, fit: float, groups: list[NDArray[np.intp]]) -> dict[str, float]:
    """Entries of the report of a fit by likelihood, with the log-likelihood fit."""
    problem = best.problem
    known = problem.coordinates.groups(groups)
    with_prior = float(best.posterior.gamma - len(problem.coordinates) + sum(len(g) for g in known)) if known else 0.0
    others = best.degrees - with_prior + problem.n_noise
    evidence = log_evidence(fit, best.posterior, known, others, problem.n_observed)
    return {"log_likelihood": fit, "degrees": best.degrees, "log_evidence": evidence}
