"""Training: optimisers of any objective theta -> (loss, gradient)."""

from pynode.fit.adam import adam
from pynode.fit.lbfgs import lbfgs
from pynode.fit.result import FitInterrupted, FitResult, Iteration

__all__ = ["FitInterrupted", "FitResult", "Iteration", "adam", "lbfgs"]
