"""Whether a network leaves clearly less of the data than the equation that is kept in its place, in words.

Where readings are few and far apart, smoothing takes signal for noise: beside it residuals of the equation look small.
The evidence may prefer few numbers all the same; the noise that both estimate, given their degrees of freedom, tells.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

LARGER = 1.5
"""A variance that is so many times the network's is misfit ..."""

CHANCE = 2e-3
"""... if both being estimates of one noise, it would be as much larger by this chance at most."""


def outdone(equation: "NeuralODE", network: "NeuralODE") -> list[str]:
    """What is to be said where a network leaves less than the equation.

    Parameters
    ----------
    equation, network : NeuralODE
        Fitted to the same data.

    Returns
    -------
    list of str
        A sentence, or nothing.
    """
    data = equation.data_
    if data is None:
        return []
    n = (~np.isnan(np.concatenate(data.y))).sum(axis=0)
    found = []
    for k, name in enumerate(equation.names_):
        ours, theirs = equation.report_["noise"][name], network.report_["noise"][name]
        if not theirs > 0:
            continue
        times = (ours / theirs) ** 2
        if times > LARGER and fdtrc(_left(equation, n, k), _left(network, n, k), times) < CHANCE:
            found.append((name, ours / theirs))
    if not found:
        return []
    return [
        f"the equation leaves {', '.join(f'{times:.2g}' for _, times in found)} times as much of "
        f"{', '.join(name for name, _ in found)} as the network that was trained beside it, more than by chance: this is "
        "misfit, and the noise is less; more readings tell which form is right, structure='network' takes the network"
    ]


def _left(model: "NeuralODE", n: NDArray[np.intp], k: int) -> float:
    """The degrees of freedom that are left of the numbers n (d,) of each state for the noise of state k; 1 at least."""
    fitted = float(np.nan_to_num(model.report_["effective_parameters"])) + float(model.initial_states_.size)
    return max(float(n[k]) * (1.0 - fitted / float(n.sum())), 1.0)
