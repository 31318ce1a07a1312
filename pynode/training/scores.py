"""How good fits from different starts are, beside each other."""

import numpy as np

from pynode.optim.levenberg_marquardt import log_evidence
from pynode.training.criteria import log_evidence as with_priors
from pynode.training.driven_run import DrivenRun
from pynode.training.noise import Noise
from pynode.training.second_order import SecondOrderRun
from pynode.training.verdict.residuals import precision, residuals


def score(run: SecondOrderRun) -> tuple[float, float]:
    """(whether whole trajectories are followed, log evidence or log-likelihood): the larger, the better.

    Networks compare by evidence, fields of one's own, whose parameters have no priors, by likelihood, up to what depends on
    the data alone. Where whole trajectories are not followed it is what is left unexplained, with a minus. Where a random
    force drives the states it is the likelihood with the states integrated out.

    Parameters
    ----------
    run : SecondOrderRun
        All its stages are done.
    """
    if isinstance(run, DrivenRun) and run.strengths is not None:
        return 1.0, with_priors(run.log_likelihood, run.posterior, run.groups, 0.0, 1.0)
    if not run.whole or run.fitted is None:
        return 0.0, -float(run.unexplained)
    given = precision(run)
    if run.recipe.own:
        return 1.0, -Noise(np.ones(run.data.d), run.recipe.noise, given, run.least).misfit(residuals(run))
    # the problem's weights of squares are mean / variance of each state, which beta leaves out
    seen = run.data.seen
    precisions = -np.log(run.variance[seen])
    weights = (given > 0).sum(axis=0)[seen] * (precisions - precisions.mean())
    return 1.0, log_evidence(run.fitted[2], run.posterior) + 0.5 * float(weights.sum())
