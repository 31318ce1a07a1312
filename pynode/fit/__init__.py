"""Training: optimisers of any objective theta -> (loss, gradient)."""

from pynode.fit.adam import adam
from pynode.fit.curriculum import FitError, FitWarning
from pynode.fit.lbfgs import lbfgs
from pynode.fit.result import FitInterrupted, FitResult, Iteration

__all__ = ["FitError", "FitInterrupted", "FitResult", "FitWarning", "Iteration", "adam", "lbfgs"]
