"""Models: estimators that learn a differential equation from measured trajectories."""

from pynode.models.neural_ode import NeuralODE, NotFittedError, load

__all__ = ["NeuralODE", "NotFittedError", "load"]
