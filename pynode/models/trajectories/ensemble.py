"""Ensembles: members that differ in their random start, fitted side by side."""

import numpy as np


def fit_members(model, data, weight, seed, progress, callback):
    """Fitted copies of a model, one for each random start.

    Parameters
    ----------
    model : NeuralODE
    data : Trajectories
    weight : see `NeuralODE.fit`
    seed : int
    progress, callback : see `NeuralODE.fit`; callback only where members are fitted one after the other

    Returns
    -------
    list of NeuralODE
    """
    params = model.get_params() | {"n_estimators": 1, "n_jobs": None}
    seeds = [seed + 1000 * i for i in range(model.n_estimators)]
    if model.n_jobs in (None, 1):
        return [
            _fit(
                type(model),
                params | {"random_state": s},
                data,
                weight,
                progress and f"member {i + 1} of {len(seeds)}",
                callback,
            )
            for i, s in enumerate(seeds)
        ]
    if callback is not None:
        raise ValueError("callback= cannot be called from members that are fitted elsewhere: leave n_jobs out")
    try:
        from joblib import Parallel, delayed
    except ImportError:
        raise ImportError("n_jobs needs joblib: pip install 'pynode-ode[parallel]'") from None
    work = (delayed(_fit)(type(model), params | {"random_state": s}, data, weight) for s in seeds)
    return list(Parallel(n_jobs=model.n_jobs, verbose=10 if progress else 0)(work))


def _fit(make, params, data, weight, progress=False, callback=None):
    return make(**params).fit(data, weight=weight, progress=progress, callback=callback)


def combined(predictions, return_std):
    """The mean of the members' predictions, or (mean, std): their own variances' mean plus the variance of their means."""
    if not return_std:
        return _over(lambda *ys: np.mean(ys, axis=0), predictions)
    means, stds = [p[0] for p in predictions], [p[1] for p in predictions]
    std = _over(
        lambda *parts: np.sqrt(
            np.mean([s**2 for s in parts[len(means) :]], axis=0) + np.var(parts[: len(means)], axis=0, ddof=1)
        ),
        [*means, *stds],
    )
    return _over(lambda *ys: np.mean(ys, axis=0), means), std


def _over(function, values):
    """Of arrays, or of lists of arrays element by element."""
    if isinstance(values[0], list):
        return [function(*parts) for parts in zip(*values, strict=True)]
    return function(*values)
