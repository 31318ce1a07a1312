"""Training: optimisers of any objective theta -> (loss, gradient), and the steps of training on trajectories."""

from pynode.optim import schedules
from pynode.optim.adam import adam
from pynode.optim.checkpoint import Checkpoint
from pynode.optim.lbfgs import lbfgs
from pynode.optim.levenberg_marquardt import levenberg_marquardt
from pynode.optim.result import FitInterrupted, FitResult, Iteration
from pynode.training.curriculum import FitError, FitWarning
from pynode.training.regularisers import with_penalty
from pynode.training.steps import gradient_matching, multiple_shooting

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
