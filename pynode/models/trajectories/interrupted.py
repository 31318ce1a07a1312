"""What Ctrl-C leaves of a fit."""

from typing import TYPE_CHECKING, Any

import numpy as np

from pynode.models.base import MESSAGES
from pynode.optim.result import FitInterrupted, FitResult

if TYPE_CHECKING:
    from pynode.models.trajectories.neural_ode import NeuralODE


def left_by(interrupt: KeyboardInterrupt, model: "NeuralODE", before: Any) -> KeyboardInterrupt:
    """The exception of a fit that Ctrl-C ended, wherever it came.

    Parameters
    ----------
    interrupt : KeyboardInterrupt
        What ended it.
    model : NeuralODE
    before : dict or None
        Its report before the fit: where that is still there, the fit has left nothing.

    Returns
    -------
    KeyboardInterrupt
        A `pynode.fit.FitInterrupted` where the model can be used.
    """
    report: Any = getattr(model, "report_", None)
    if report is None or report is before:
        return KeyboardInterrupt("interrupted before there was anything to keep")
    if report["status"] != "interrupted":
        model.report_ = report | {"status": "interrupted", "message": MESSAGES["interrupted"]}
    if isinstance(interrupt, FitInterrupted) and np.array_equal(interrupt.result.theta, model.theta_):
        return interrupt  # else that of a start or member which is not the best
    n = len(model.history_["loss"])
    history: Any = model.history_
    theta = np.array(model.theta_)
    return FitInterrupted(FitResult(theta, float(report["loss"]), "interrupted", "interrupted by the user", n, n, history))
