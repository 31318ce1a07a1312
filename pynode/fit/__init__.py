"""Training: optimisers of any objective theta -> (loss, gradient), and the steps of training on trajectories."""

from pynode.fit import schedules
from pynode.fit.adam import adam
from pynode.fit.checkpoint import Checkpoint
from pynode.fit.curriculum import FitError, FitWarning
from pynode.fit.lbfgs import lbfgs
from pynode.fit.levenberg_marquardt import levenberg_marquardt
from pynode.fit.pieces import gradient_matching, multiple_shooting
from pynode.fit.regularisers import with_penalty
from pynode.fit.result import FitInterrupted, FitResult, Iteration

__all__ = [
    "Checkpoint",
    "FitError",
    "FitInterrupted",
    "FitResult",
    "FitWarning",
    "Iteration",
    "adam",
    "gradient_matching",
    "lbfgs",
    "levenberg_marquardt",
    "multiple_shooting",
    "schedules",
    "with_penalty",
]
