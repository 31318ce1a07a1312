"""Trajectories that early stopping keeps aside: a fitted model has them again, by the numbers that the user gave them."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pynode.data.trajectories import Trajectories
from pynode.errors import SolveWarning
from pynode.models.trajectories.intervals.refits import visited

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE


def take_back(
    model: "NeuralODE", data: Trajectories, weight: list[NDArray[np.float64]] | None, aside: NDArray[np.intp]
) -> None:
    """Put trajectories that took no part in training back among the others, with initial states that fit them best.

    Parameters
    ----------
    model : NeuralODE
        Fitted to the others.
    data : Trajectories
        All of them.
    weight : list of (T_i, d) arrays, or None
        Their weights.
    aside : (n,) int array
        The positions of those that took no part.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SolveWarning)  # predictions say it
        guest = visited(model, data.take(aside))
    others = np.setdiff1d(np.arange(len(data)), aside)
    order = np.argsort(np.concatenate([others, aside]))
    for name in ("initial_states_", "state_gain_", "state_covariance_"):
        trained = getattr(model, name)
        if trained is not None:
            setattr(model, name, np.concatenate([trained, getattr(guest, name)])[order])
    model.data_ = data
    model.weight_ = weight
    model.aside_ = tuple(aside.tolist())
