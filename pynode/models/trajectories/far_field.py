"""What a network does far from the data: a field that is bent inward there, and whether one needs it."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.errors import users_level
from pynode.fields.field import Field
from pynode.models.trajectories.stops import led_back
from pynode.models.trajectories.visits import Visited, is_network, strays
from pynode.training.curriculum import FitWarning

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE

Array = NDArray[np.float64]

MARGIN = 0.5
"""The field is bent where a state is beyond its range in training by more than this part of the range."""


def bent_inward(network: Field, theta: Array, visited: Visited) -> Field:
    """The network, but for states far from those of training, where it stays as at the edge and a pull leads back.

    With c = clip(y, low, high), low and high being the range of the states of training and half of it more on either
    side, it is f(c) + k (c - y). Inside, that is f to the last bit. Far off f(c) is bounded, so the pull
    wins, and no rollout explodes.

    Parameters
    ----------
    network : Field
        With d states.
    theta : (p,) array
        Its parameters.
    visited : Visited
        The states of training.

    Returns
    -------
    Field
        With the same parameters.
    """
    width = visited.high - visited.low
    u = visited.inputs if network.inputs else None
    speed = np.abs(np.asarray(network(np.zeros(len(visited.states)), visited.states, theta, u))).max(axis=0)
    moving = width > 0
    rate = np.where(moving, speed / np.where(moving, width, 1.0), 0.0)
    low = np.where(moving, visited.low - MARGIN * width, -np.inf)
    high = np.where(moving, visited.high + MARGIN * width, np.inf)
    return led_back(network, low, high, rate, "bent inward")


def settle_far_field(model: "NeuralODE") -> None:
    """Decide what a fitted network does far from the data, as the option far_field says; warn of rollouts that stray."""
    model.strays_ = ()
    if model.report_["status"] == "stopped" or not is_network(model) or model.visited_ is None:
        return
    model.strays_ = strays(model)
    if model.far_field == "inward" or (model.far_field == "auto" and model.strays_):
        model.field_ = bent_inward(model.field_, model.theta_, model.visited_)
    if model.strays_:
        _warn(model)


def _warn(model: "NeuralODE") -> None:
    data: Any = model.data_
    ids = [str(data.ids[i]) for i in model.strays_]
    listed = ", ".join(ids[:3]) + ", ..." * (len(ids) > 3)
    where = "the trajectory" if len(data) == 1 else f"{len(ids)} of {len(data)} trajectories ({listed})"
    bent = "; far from the data the field is bent inward, so that they do not explode" * (model.far_field != "linear")
    words = (
        f"rollouts along {where} leave the data by more than their range: the model cannot be simulated over times that long"
        f"{bent}. Another random_state, fewer hidden units, other windows or n_estimators (it leaves such members out) help"
    )
    model.report_["warnings"].append(words)
    warnings.warn(words, FitWarning, stacklevel=users_level())
