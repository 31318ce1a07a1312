"""Ensembles: members that differ in their random start, fitted side by side."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pynode.data.trajectories import Trajectories
from pynode.models.options import LARGEST_SEED
from pynode.optim.result import Iteration

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE


def fit_members(
    model: "NeuralODE",
    data: Trajectories,
    weight: Any,
    seed: int,
    progress: bool | str,
    callback: Callable[[Iteration], Any] | None,
    doses: Any = None,
) -> "list[NeuralODE]":
    """Fitted copies of a model, one for each random start.

    Parameters
    ----------
    model : NeuralODE
    data : Trajectories
    weight : see `NeuralODE.fit`
    seed : int
    progress, callback : see `NeuralODE.fit`; callback only where members are fitted one after the other
    doses : see `NeuralODE.fit`

    Returns
    -------
    list of NeuralODE
    """
    make, n = type(model), int(model.n_estimators)
    params = model.get_params() | {"n_estimators": 1, "n_jobs": None}
    members = [params | {"random_state": (seed + 1000 * i) % (LARGEST_SEED + 1)} for i in range(n)]
    if model.n_jobs in (None, 1):
        labels = [progress and f"member {i + 1} of {n}" for i in range(n)]
        return [_fit(make, each, data, weight, doses, label, callback) for each, label in zip(members, labels, strict=True)]
    if callback is not None:
        raise ValueError("callback= cannot be called from members that are fitted elsewhere: leave n_jobs out")
    try:
        from joblib import Parallel, delayed
    except ImportError:
        raise ImportError("n_jobs needs joblib: pip install 'pynode-ode[parallel]'") from None
    work = (delayed(_fit)(make, each, data, weight, doses) for each in members)
    return list(Parallel(n_jobs=model.n_jobs, verbose=10 if progress else 0)(work))


def _fit(
    make: "type[NeuralODE]",
    params: dict[str, Any],
    data: Trajectories,
    weight: Any,
    doses: Any,
    progress: bool | str = False,
    callback: Callable[[Iteration], Any] | None = None,
) -> "NeuralODE":
    return make(**params).fit(data, weight=weight, doses=doses, progress=progress, callback=callback)


def combined(predictions: list[Any], return_std: bool) -> Any:
    """The mean of the members' predictions, or (mean, std): their own variances' mean plus the variance of their means."""
    if not return_std:
        return _over(lambda *ys: np.mean(ys, axis=0), predictions)
    means, stds = [p[0] for p in predictions], [p[1] for p in predictions]

    def deviation(*parts: Any) -> Any:
        own = np.mean([s**2 for s in parts[len(means) :]], axis=0)
        return np.sqrt(own + np.var(parts[: len(means)], axis=0, ddof=1))

    return _over(lambda *ys: np.mean(ys, axis=0), means), _over(deviation, [*means, *stds])


def _over(function: Callable[..., Any], values: list[Any]) -> Any:
    """A function of arrays, or of lists of arrays element by element."""
    if isinstance(values[0], list):
        return [function(*parts) for parts in zip(*values, strict=True)]
    return function(*values)
