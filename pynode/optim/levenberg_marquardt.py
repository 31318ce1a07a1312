"""Levenberg-Marquardt with the strength of the priors and of the noise found from the data themselves (evidence).

Minimised is beta E(theta) + sum_i alpha_i theta_i^2 with E a weighted sum of squares. The damping follows Nielsen (1999,
IMM-REP-1999-05); alpha, one for each group of parameters, and beta are re-estimated by MacKay's update (1992, Neural
Computation 4, 415, eq. 4.10-4.12) with the Gauss-Newton Hessian:
    gamma_g = sum_{i in g} (1 - alpha_g C_ii),  alpha_g = gamma_g / |theta_g|^2,  beta = (n - gamma - n_free) / E,
C the posterior covariance (beta J^T J + alpha)^-1.
"""

import time
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh, lapack

from pynode.optim.checkpoint import as_checkpoint
from pynode.optim.normal_equations import Residuals, small_matrices
from pynode.optim.result import FitInterrupted, FitResult, History, as_start

ALPHA_RANGE = (1e-6, 1e4)


TRIES = 12


@dataclass
class LaplacePosterior:
    """Where Levenberg-Marquardt stands, and in the end its result.

    Attributes
    ----------
    theta : (p,) array
    free : (B, d) array or None
        Free initial states.
    alpha : (p,) array
        Precisions of the Gaussian prior.
    beta : float
        Precision of the noise (in units of the weights).
    gamma : float
        Effective number of parameters.
    loss : float
        Weighted sum of squares E.
    covariance : (p, p) array or None
        Of theta (Laplace approximation).
    free_gain, free_covariance : (B, d, p), (B, d, d) or None
        Of the free states: d free = -free_gain d theta + noise of this covariance.
    noise : (d,) array or None
        Standard deviation of the noise of each state.
    least : float
        Losses below this are rounding: what beta is estimated from is at least this.
    status : {"converged", "max_iter", "stalled", "stopped", "failed"}
    n_iter, n_evaluations : int
    """

    theta: np.ndarray
    free: np.ndarray | None
    alpha: np.ndarray
    beta: float
    gamma: float = np.nan
    loss: float = np.inf
    covariance: np.ndarray | None = None
    free_gain: np.ndarray | None = None
    free_covariance: np.ndarray | None = None
    noise: np.ndarray | None = None
    least: float = 1e-300
    status: str = "max_iter"
    n_iter: int = 0
    n_evaluations: int = 0


def covariance(H, alpha, beta):
    """(beta H + diag(alpha))^-1; directions that nothing determines are cut at rounding."""
    K = beta * H
    if not len(K):  # all parameters are frozen
        return K
    K[np.diag_indices_from(K)] += alpha
    factor, info = lapack.dpotrf(K, lower=1)
    if info == 0:
        inverse, info = lapack.dpotri(factor, lower=1)
        inverse = np.tril(inverse)
        return inverse + np.tril(inverse, -1).T
    w, V = eigh(K)
    return (V / np.maximum(w, 1e-14 * w[-1])) @ V.T


def update_evidence(state, H, groups, n_observed, n_free, fixed_noise=False):
    """MacKay's update of alpha (by groups), beta and gamma, in place."""
    state.covariance = covariance(H, state.alpha, state.beta)
    spread = np.diag(state.covariance)
    free = np.ones(len(state.theta), bool)
    gamma = 0.0
    for g in groups:
        free[g] = False
        known = float(np.clip(len(g) - (state.alpha[g] * spread[g]).sum(), 1e-3, len(g)))
        gamma += known
        state.alpha[g] = np.clip(known / max(state.theta[g] @ state.theta[g], 1e-300), *ALPHA_RANGE)
    state.gamma = gamma + free.sum()
    if not fixed_noise:
        left = max(n_observed - state.gamma - n_free, 0.05 * n_observed)
        state.beta = left / max(state.loss, state.least)


def log_evidence(n_observed, state):
    """ln p(data | prior, noise) by Laplace's approximation (MacKay 1992, eq. 4.5), up to a constant of the data."""
    known = state.alpha > 0
    sign, logdet = np.linalg.slogdet(state.covariance)
    fit = state.beta * state.loss + float((state.alpha * state.theta**2).sum())
    return 0.5 * (n_observed * np.log(state.beta) + np.log(state.alpha[known]).sum() + sign * logdet - fit)


def levenberg_marquardt(
    residuals,
    theta0,
    *,
    weight_decay=0.0,
    evidence=False,
    max_iter=100,
    tol=1e-8,
    damping=1e-3,
    callback=None,
    checkpoint=None,
):
    """Minimise a sum of squares |r(theta)|^2 + weight_decay |theta|^2.

    Parameters
    ----------
    residuals : callable
        residuals(theta) -> (r (n,), J (n, p)), the residuals and their Jacobian dr/dtheta.
    theta0 : (p,) array
    weight_decay : float
    evidence : bool
        Estimate the strength of the prior and of the noise along the way (MacKay 1992); weight_decay is not used then.
    max_iter : int
    tol : float
        Converged when two steps in a row lower the objective by less than this fraction.
    damping : float
        The first.
    callback : callable, optional
        callback(Iteration) after each step; return True to stop.
    checkpoint : path or Checkpoint, optional
        Written now and then; if the file is there, minimising goes on from it. Removed at the end.

    Returns
    -------
    FitResult
        With `covariance` (p, p), that of theta given the variance of the residuals, which is estimated.

    Raises
    ------
    FitInterrupted
        Ctrl-C; its `result` keeps the best so far.
    """
    theta0 = as_start(theta0)
    problem, history, checkpoint = Residuals(residuals, theta0), History(callback), as_checkpoint(checkpoint)
    alpha = np.full(len(theta0), 1.0 if evidence else float(weight_decay))
    state = LaplacePosterior(theta0, None, alpha, 1.0, gamma=float(len(theta0)))
    if checkpoint is not None:
        checkpoint.open("levenberg_marquardt", theta0, weight_decay, evidence, tol, damping)

    def after_step(state, objective, norm, seconds):
        return history.add(state.theta, state.loss, norm)

    def result(status):
        left = max(problem.n_observed - state.gamma, 1.0)
        spread = None if state.covariance is None else state.covariance * (1.0 if evidence else state.loss / left)
        return FitResult(
            state.theta, state.loss, status, MESSAGES[status], state.n_iter, state.n_evaluations, history.columns(), spread
        )

    groups = [np.arange(len(theta0))] if evidence else ()
    try:
        with small_matrices(len(theta0)):
            descend(
                problem,
                state,
                groups=groups,
                evidence=evidence,
                max_iter=max_iter,
                tol=tol,
                damping=damping,
                callback=after_step,
                checkpoint=checkpoint,
                extra=_Iterations(history),
            )
    except KeyboardInterrupt:
        raise FitInterrupted(result("interrupted")) from None
    if checkpoint is not None:
        checkpoint.done()
    return result(state.status)


class _Iterations:
    """The history so far, for checkpoints."""

    def __init__(self, history):
        self.history = history

    def get(self):
        return {"rows": self.history.table()}

    def set(self, saved):
        self.history.restore(saved["rows"])


MESSAGES = {
    "converged": "steps no longer lower the objective",
    "max_iter": "the most iterations allowed",
    "stalled": "no step makes the objective smaller: it is as exact as it gets",
    "stopped": "the callback asked to stop",
    "failed": "the residuals cannot be computed",
    "interrupted": "interrupted by the user",
}


def descend(
    problem,
    state,
    *,
    groups=(),
    evidence=True,
    settled=1.0,
    max_iter=50,
    tol=1e-4,
    damping=1e-3,
    callback=None,
    on_iteration=None,
    checkpoint=None,
    extra=None,
):
    """Minimise a problem of `pynode.fit.least_squares` from `state`, in place.

    Parameters
    ----------
    problem : MatchingProblem, ShootingProblem, Residuals, or alike
        With loss(x, free), linearise(x, free), n_observed, n_free.
    state : Posterior
    groups : list of int arrays
        Parameters that share a prior, each with its own precision; those in no group keep the alpha they have.
    evidence : bool
        Re-estimate alpha and beta after each step ...
    settled : float
        ... that lowered the objective by less than this part: what a poor fit leaves is not noise.
    max_iter : int
    tol : float
        Stop when two steps in a row lower the objective by less than this, relatively.
    damping : float
        The first.
    callback : callable, optional
        callback(state, objective, gradient norm, seconds) after each step; True stops.
    on_iteration : callable, optional
        on_iteration(problem, state) after each step, before linearising again (robust weights).
    checkpoint : Checkpoint, optional
    extra : object, optional
        With get() -> dict and set(dict): what belongs to the problem and changes on the way.

    Returns
    -------
    Posterior
        `state`.
    """
    start, nu, small, done = time.perf_counter(), 2.0, 0, 0
    before = _resumed(state, checkpoint, extra)
    if before is not None:
        damping, nu, small, done = (before[name] for name in ("damping", "nu", "small", "done"))
    here = problem.linearise(state.theta, state.free)
    if before is None:
        state.n_evaluations += 1
        if here is None or not np.isfinite(here.loss):
            state.status = "failed"
            return state
        state.status, state.loss = "max_iter", here.loss
        if evidence and settled >= 1:
            update_evidence(state, here.H, groups, problem.n_observed, problem.n_free)
    for k in range(done, max_iter):
        found = _step(problem, state, here, damping, nu)
        if found is None:
            state.status = "stalled"
            break
        theta, free, rho, drop, damping = found
        damping, nu = max(damping * max(1 / 3, 1 - (2 * rho - 1) ** 3), 1e-9), 2.0
        state.theta, state.free = theta, free
        state.n_iter += 1
        if on_iteration is not None:
            on_iteration(problem, state)
        new = problem.linearise(theta, free)
        if new is None:
            state.status = "stalled"
            break
        here, state.loss = new, new.loss
        if evidence and drop < settled:
            update_evidence(state, here.H, groups, problem.n_observed, problem.n_free)
        norm = float(np.linalg.norm(state.beta * here.g + state.alpha * state.theta))
        if callback is not None and callback(state, _objective(state, here.loss), norm, time.perf_counter() - start) is True:
            state.status = "stopped"
            break
        small = small + 1 if drop < tol else 0
        if small == 2:
            state.status = "converged"
            break
        if checkpoint is not None:
            now = {"damping": damping, "nu": nu, "small": small, "done": k + 1}
            checkpoint.offer("levenberg_marquardt", partial(_snapshot, now, state, extra))
    conclude(problem, state, here)
    return state


def conclude(problem, state, here=None):
    """Fill in the covariances of a Posterior."""
    here = problem.linearise(state.theta, state.free) if here is None else here
    state.loss, state.covariance = here.loss, covariance(here.H, state.alpha, state.beta)
    if here.free_gain is not None:
        state.free_gain, state.free_covariance = here.free_gain, np.linalg.inv(here.free_precision) / state.beta


def _resumed(state, checkpoint, extra):
    """What a checkpoint held of the descent, or None; state and extra are as they were then."""
    before = None if checkpoint is None else checkpoint.take("levenberg_marquardt")
    if before is not None:
        for name, value in before["state"].items():
            setattr(state, name, value)
        if extra is not None:
            extra.set(before["extra"])
    return before


def _snapshot(now, state, extra):
    """What a checkpoint holds of the descent."""
    return now | {"state": _saved(state), "extra": None if extra is None else extra.get()}


def _saved(state):
    """A Posterior as plain data, without what follows from the rest."""
    late = ("covariance", "free_gain", "free_covariance", "noise")
    values = {name: value for name, value in asdict(state).items() if name not in late}
    return {name: None if isinstance(x, float) and not np.isfinite(x) else x for name, x in values.items()}


def _objective(state, loss):
    return state.beta * loss + float((state.alpha * state.theta**2).sum())


def _step(problem, state, here, damping, nu):
    """(theta, free, gain ratio, relative drop, damping) of a step that lowers the objective, or None."""
    K = state.beta * here.H
    K[np.diag_indices_from(K)] += state.alpha
    D = np.maximum(np.diag(K), 1e-12 * np.abs(np.diag(K)).max(initial=0.0))
    gradient = state.beta * here.g + state.alpha * state.theta
    before = _objective(state, here.loss)
    for _ in range(TRIES):
        M = K.copy()
        M[np.diag_indices_from(M)] += damping * D
        try:
            step = -cho_solve(cho_factor(M, lower=True, overwrite_a=True, check_finite=False), gradient)
        except np.linalg.LinAlgError:
            damping, nu = max(damping, 1e-12) * nu, 2 * nu
            continue
        free = None if here.step_free is None else state.free + here.step_free(step)
        theta = state.theta + step
        after = problem.loss(theta, free)
        state.n_evaluations += 1
        after = state.beta * after + float((state.alpha * theta**2).sum())
        promised = -(2 * gradient @ step + step @ (K @ step)) + state.beta * here.gain_free
        if after < before:
            return theta, free, (before - after) / max(promised, 1e-300), (before - after) / abs(before), damping
        damping, nu = damping * nu, 2 * nu
    return None
