"""The error model of an equation that was found, where the noise grows with the states: bands are as wide as it is."""

from typing import TYPE_CHECKING, Any

import numpy as np

from pynode.training.equations.noise_shape import grown, noise_shares

if TYPE_CHECKING:
    from pynode.models.trajectories.equations.structure import EquationFit


def growing_noise(equation: "EquationFit") -> dict[str, dict[str, Any]]:
    """Column -> error model, as fits of a known equation report them (`report_["error_models"]`); empty where none grows.

    With the user's weights it is these that say how the noise differs.
    """
    run = equation.run
    if run is None or not run.whole or equation.weight is not None:
        return {}
    y = np.concatenate(run.training.states)
    residual = np.concatenate(equation.inside.y) - y
    shares, sizes = noise_shares(residual, y, np.ones(y.shape))
    if not shares.any():
        return {}
    n = (~np.isnan(residual)).sum(axis=0)
    left = np.maximum(n - run.posterior.gamma / y.shape[1] - len(equation.data), 0.5 * n)
    variance = np.nansum(residual**2 / grown(y, shares, sizes), axis=0) / np.maximum(left, 1.0)
    additive = np.sqrt(variance * (1.0 - shares)) * equation.scaling.scale
    proportional = np.sqrt(variance * shares / sizes)
    return {
        name: {"model": "combined", "additive": float(a), "proportional": float(b)}
        if b > 0
        else {"model": "additive", "additive": float(a)}
        for name, a, b in zip(equation.data.names, additive, proportional, strict=True)
    }
