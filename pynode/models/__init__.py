"""Models: estimators that learn a differential equation from measured trajectories."""

from pynode.models.base import NotFittedError, load
from pynode.models.trajectories.neural_ode import NeuralODE

__all__ = ["NeuralODE", "NotFittedError", "load"]
