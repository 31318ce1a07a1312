"""Levenberg-Marquardt with the strength of the priors and of the noise found from the data themselves (evidence).

The objective is beta E(theta) + sum_i alpha_i theta_i^2 with E a weighted sum of squares. The damping follows Nielsen (1999,
IMM-REP-1999-05); alpha, one for each group of parameters, and beta are re-estimated by MacKay's update (1992, Neural
Computation 4, 415, eq. 4.10-4.12) with the Gauss-Newton Hessian:
    gamma_g = sum_{i in g} (1 - alpha_g C_ii),  alpha_g = gamma_g / |theta_g|^2,  beta = (n - gamma - n_free) / E,
where C is the posterior covariance (beta J^T J + alpha)^-1.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh, lapack

from pynode.optim.checkpoint import Checkpoint, Resumable
from pynode.optim.damped import TRIES, ended, lower, relaxed
from pynode.optim.normal_equations import Linearised, Problem, Residuals, limited_step, own_scale, small_matrices
from pynode.optim.posterior import LaplacePosterior, objective
from pynode.optim.result import MESSAGES, FitResult, History, Iteration, as_start
from pynode.optim.session import session

Array = NDArray[np.float64]

ALPHA_RANGE = (1e-6, 1e4)
"""Within which precisions of priors are estimated."""

LEAST = 1e-100
"""Precisions below this are none: nothing is told of the parameter."""


def covariance(H: Array, alpha: Array, beta: float) -> Array:
    """(beta H + diag(alpha))^-1; the variance in directions that nothing determines is limited by rounding."""
    K, factor = _factored(H, alpha, beta)
    if not len(K):  # all parameters are frozen
        return K
    if factor is not None:
        inverse, _ = lapack.dpotri(factor, lower=1)
        lower: Array = np.tril(inverse)
        return lower + np.tril(lower, -1).T
    w, V = eigh(K)
    whole: Array = (V / np.maximum(w, max(1e-14 * w[-1], LEAST))) @ V.T
    return whole


def variances(H: Array, alpha: Array, beta: float) -> Array:
    """The diagonal of `covariance`, in two thirds of its time."""
    factor = _factored(H, alpha, beta)[1]
    if factor is None:
        return np.diag(covariance(H, alpha, beta))
    root, _ = lapack.dtrtri(factor, lower=1, overwrite_c=1)
    return np.asarray(np.einsum("ij,ij->j", root, root), dtype=np.float64)


def _factored(H: Array, alpha: Array, beta: float) -> tuple[Array, Array | None]:
    """(K = beta H + diag(alpha), its lower Cholesky factor; None where it has none)."""
    K = beta * H
    if not len(K):
        return K, None
    K[np.diag_indices_from(K)] += alpha
    factor, info = lapack.dpotrf(K, lower=1)
    return K, factor if info == 0 else None


def update_evidence(
    state: LaplacePosterior,
    H: Array,
    groups: Sequence[NDArray[np.intp]],
    n_observed: int,
    n_free: int,
    noise: bool = True,
    spread: Array | None = None,
) -> None:
    """MacKay's update of alpha (by groups), gamma and, with `noise`, of beta, in place; spread (p,) in place of H."""
    spread = variances(H, state.alpha, state.beta) if spread is None else spread
    members = np.concatenate([np.empty(0, np.intp), *groups])
    sizes = np.array([len(g) for g in groups], dtype=np.intp)
    which = np.repeat(np.arange(len(sizes)), sizes)
    known = np.clip(sizes - np.bincount(which, state.alpha[members] * spread[members], len(sizes)), 1e-3, sizes)
    length = np.bincount(which, state.theta[members] ** 2, len(sizes))
    state.alpha[members] = np.clip(known / np.maximum(length, 1e-300), *ALPHA_RANGE)[which]
    state.gamma = float(known.sum()) + len(state.theta) - len(members)
    if not noise:
        return
    left = max(n_observed - state.gamma - n_free, 0.05 * n_observed)
    state.beta = left / max(state.loss, state.least)


def log_evidence(n_observed: int, state: LaplacePosterior) -> float:
    """ln p(data | prior, noise) by Laplace's approximation (MacKay 1992, eq. 4.5), up to what depends on the data alone."""
    known = state.alpha > 0
    logdet = state.logdet if state.covariance is None else np.prod(np.linalg.slogdet(state.covariance))
    fit = state.beta * state.loss + float((state.alpha * state.theta**2).sum())
    return float(0.5 * (n_observed * np.log(state.beta) + np.log(state.alpha[known]).sum() + logdet - fit))


def levenberg_marquardt(
    residuals: Callable[[Array], Any],
    theta0: ArrayLike,
    *,
    weight_decay: float = 0.0,
    evidence: bool = False,
    max_iter: int = 100,
    tol: float = 1e-8,
    damping: float = 1e-3,
    callback: Callable[[Iteration], Any] | None = None,
    checkpoint: str | PathLike[str] | Checkpoint | None = None,
) -> FitResult:
    """Minimise a sum of squares |r(theta)|^2 + weight_decay |theta|^2.

    There is no early stopping, and there are no weights: both belong to the residuals and their data. Stop from a callback.

    Parameters
    ----------
    residuals : callable
        residuals(theta) -> (r (n,), J (n, p)), the residuals and their Jacobian dr/dtheta.
    theta0 : (p,) array_like
        Where to start.
    weight_decay : float, default 0
        The strength of the Gaussian prior on theta, relative to that of the residuals.
    evidence : bool, default False
        Estimate the strength of the prior and of the noise along the way (MacKay 1992); weight_decay is not used then.
    max_iter : int, default 100
        The most steps.
    tol : float, default 1e-8
        Converged when two steps in a row lower the objective by less than this fraction.
    damping : float, default 1e-3
        The damping of the first step, relative to the curvature.
    callback : callable, optional
        callback(Iteration) after each step; return True to stop.
    checkpoint : path or Checkpoint, optional
        A file that is written now and then. If it is there at the start, minimising goes on from it, to the same bits. It
        is removed at the end.

    Returns
    -------
    FitResult
        With `covariance` (p, p), that of theta given the variance of the residuals, which is estimated.

    Raises
    ------
    ValueError
        The residuals are not finite at theta0, shapes do not fit, or the checkpoint is that of another fit.
    FitInterrupted
        Ctrl-C; its `result` keeps the best so far.

    See Also
    --------
    lbfgs : needs a gradient only.

    Examples
    --------
    The rate of a decay from measurements at six times:

    >>> import numpy as np, pynode as pn
    >>> t = np.arange(6.0)
    >>> y = np.exp(-0.5 * t)
    >>> result = pn.fit.levenberg_marquardt(
    ...     lambda k: (np.exp(-k[0] * t) - y, (-t * np.exp(-k[0] * t))[:, None]), [1.0]
    ... )
    >>> result.theta.round(6).tolist()
    [0.5]
    """
    start = as_start(theta0)
    problem = Residuals(residuals, start)
    history = History(callback)
    alpha = np.full(len(start), 1.0 if evidence else float(weight_decay))
    state = LaplacePosterior(start, None, alpha, 1.0, gamma=float(len(start)))

    def after_step(state: LaplacePosterior, gradient_norm: float, nfe: int) -> bool:
        return history.add(state.theta, state.loss, gradient_norm, nfe)

    def result(status: str, message: str) -> FitResult:
        left = max(problem.n_observed - state.gamma, 1.0)
        spread = None if state.covariance is None else state.covariance * (1.0 if evidence else state.loss / left)
        return FitResult(
            state.theta, state.loss, status, message, state.n_iter, state.n_evaluations, history.columns(), spread
        )

    settings = (start, weight_decay, evidence, tol, damping)
    with session(checkpoint, "levenberg_marquardt", settings, result) as saved, small_matrices(len(start)):
        descend(
            problem,
            state,
            groups=[np.arange(len(start))] if evidence else (),
            evidence=evidence,
            max_iter=max_iter,
            tol=tol,
            damping=damping,
            callback=after_step,
            checkpoint=saved,
            more=history,
        )
    return result(state.status, MESSAGES[state.status])


def descend(
    problem: Problem,
    state: LaplacePosterior,
    *,
    groups: Sequence[NDArray[np.intp]] = (),
    evidence: bool = True,
    settled: float = 1.0,
    noise: bool = True,
    unit: float = 0.0,
    max_iter: int = 50,
    tol: float = 1e-4,
    damping: float = 1e-3,
    longest: Array | None = None,
    callback: Callable[[LaplacePosterior, float, int], Any] | None = None,
    on_iteration: Callable[[LaplacePosterior], None] | None = None,
    checkpoint: Checkpoint | None = None,
    more: Resumable | None = None,
) -> LaplacePosterior:
    """Minimise a problem from `state`, in place; `state` is returned.

    Parameters
    ----------
    problem : Problem
        MatchingProblem, ShootingProblem, Residuals, ...
    state : LaplacePosterior
        Where to start.
    groups : list of int arrays
        Parameters that share a prior, each group with its own precision; those in no group keep the alpha they have.
    evidence : bool
        Re-estimate alpha and beta after each step ...
    settled : float
        ... that lowered the objective by less than this part: the misfit of a poor fit is not noise.
    noise : bool
        Re-estimate beta too; False: the loss is a deviance, whose noise is among the parameters.
    unit : float
        Parts of the objective are parts of at least this: a deviance may be near 0, or negative.
    max_iter : int
        The most steps.
    tol : float
        Stop when two steps in a row lower the objective by less than this, relatively.
    damping : float
        The damping of the first step.
    longest : (p,) array, optional
        The most that each coordinate may change in one step. Default: no limits.
    callback : callable, optional
        callback(state, gradient norm, evaluations of the field in this step) after each step; True stops.
    on_iteration : callable, optional
        on_iteration(state) after each step, before linearising again (robust weights).
    checkpoint : Checkpoint, optional
        Open.
    more : Resumable, optional
        More of the state, for the checkpoint: what changes along the way and is not in `state`.
    """
    first = {"damping": damping, "nu": 2.0, "small": 0, "done": 0, "nfe": None, "estimated": settled >= 1}
    before = begun(state, checkpoint, more, first)
    damping, nu, small, done = (before[name] for name in ("damping", "nu", "small", "done"))
    state.estimated = before["estimated"]
    here = _begin(problem, state, before["nfe"], groups, evidence and settled >= 1, noise)
    counted = before["nfe"] or 0
    if here is None:
        return state
    for k in range(done, max_iter):
        found = lower(problem, state, here.loss, partial(_damped, state, here, longest), damping, nu, TRIES, unit)
        if found is None:
            reweigh = None if not evidence or state.estimated else on_iteration
            here = _stalled(problem, state, here, damping, groups, reweigh, noise, unit)
            break
        state.theta, state.free, rho, drop, damping = found
        damping = relaxed(damping, rho)
        nu = 2.0
        state.n_iter += 1
        if on_iteration is not None:
            on_iteration(state)
        if (new := problem.linearise(state.theta, state.free)) is None:
            state.status = "stalled"
            break
        here = new
        state.loss = new.loss
        if evidence and drop < settled:
            update_evidence(state, here.H, groups, problem.n_observed, problem.n_free, noise)
            state.estimated = True
        small = small + 1 if drop < tol else 0
        nfe, counted = problem.nfe - counted, problem.nfe
        if ended(state, here.g, nfe, small, callback):
            break
        if checkpoint is not None:
            now = {"damping": damping, "nu": nu, "small": small, "done": k + 1, "nfe": counted, "estimated": state.estimated}
            checkpoint.offer("levenberg_marquardt", partial(snapshot, now, state, more))
    conclude(problem, state, here)
    return state


def conclude(problem: Problem, state: LaplacePosterior, here: Linearised | None = None) -> None:
    """Fill in the covariances of a LaplacePosterior; `here` are the normal equations at its theta."""
    here = problem.linearise(state.theta, state.free) if here is None else here
    assert here is not None
    state.loss = here.loss
    state.covariance = covariance(here.H, state.alpha, state.beta)
    if here.free is not None:
        state.free_gain = here.free_gain
        state.free_covariance = here.free.covariances()[0] / state.beta


def _stalled(
    problem: Problem,
    state: LaplacePosterior,
    here: Linearised,
    damping: float,
    groups: Sequence[NDArray[np.intp]],
    reweigh: Callable[[LaplacePosterior], None] | None,
    noise: bool,
    unit: float,
) -> Linearised:
    """Note that no step lowers the objective. With `reweigh`, nothing was estimated yet: what is left is noise."""
    state.status = "stalled"
    try:
        *_, promised = _damped(state, here, None, damping)
        state.left = promised / max(abs(objective(state, here.loss)), unit, 1e-300)
    except np.linalg.LinAlgError:
        state.left = np.inf
    if reweigh is not None:
        reweigh(state)
        here = problem.linearise(state.theta, state.free) or here
        state.loss = here.loss
        update_evidence(state, here.H, groups, problem.n_observed, problem.n_free, noise)
        state.estimated = True
    return here


def _begin(
    problem: Problem,
    state: LaplacePosterior,
    nfe: int | None,
    groups: Sequence[NDArray[np.intp]],
    evidence: bool,
    noise: bool,
) -> Linearised | None:
    """The normal equations where the descent begins, or goes on after `nfe` evaluations; None where there are none."""
    here = problem.linearise(state.theta, state.free)
    if here is None or not np.isfinite(here.loss):
        state.n_evaluations += nfe is None
        state.status = "failed"
        return None
    if nfe is not None:
        problem.nfe = nfe  # linearising again was counted before the checkpoint was written
        return here
    state.n_evaluations += 1
    state.status = "max_iter"
    state.loss = here.loss
    if evidence:
        update_evidence(state, here.H, groups, problem.n_observed, problem.n_free, noise)
    return here


def begun(
    state: LaplacePosterior, checkpoint: Checkpoint | None, more: Resumable | None, first: dict[str, Any]
) -> dict[str, Any]:
    """What a checkpoint held of the descent, `state` and `more` being then as they were; without one `first`."""
    before = None if checkpoint is None else checkpoint.take("levenberg_marquardt")
    if before is None:
        return first
    for name, value in before["state"].items():
        setattr(state, name, value)
    if more is not None:
        more.restore(before["more"])
    return before


def snapshot(now: dict[str, Any], state: LaplacePosterior, more: Resumable | None) -> dict[str, Any]:
    """What a checkpoint holds of the descent."""
    return now | {"state": _saved(state), "more": None if more is None else more.saved()}


def _saved(state: LaplacePosterior) -> dict[str, Any]:
    """A LaplacePosterior as plain data, without what follows from the rest."""
    late = ("covariance", "free_gain", "free_covariance", "noise", "left", "logdet")
    values = {name: value for name, value in asdict(state).items() if name not in late}
    return {name: None if isinstance(x, float) and not np.isfinite(x) else x for name, x in values.items()}


def _damped(
    state: LaplacePosterior, here: Linearised, longest: Array | None, damping: float
) -> tuple[Array, Array | None, float]:
    """(step, step of the free states or None, the decrease that they promise).

    Shared coordinates are damped by the curvature that is left once free states follow, so that descents do not end early.
    """
    if here.free is None:
        step, K, gradient = _shared_step(state, here.H, here.H, here.g, damping, longest)
        return step, None, float(-(2 * gradient @ step + step @ (K @ step)))
    left = here.free
    held = np.zeros(left.gradient.shape, bool)
    while True:
        H, g, gain, shift = left.eliminated(damping)
        step, _, _ = _shared_step(state, H, left.H, g, damping, longest)
        free = -(shift + gain @ step)
        if here.free.room is None:
            break
        within = np.clip(free, *here.free.room)
        over = ~held & (free != within)
        if not over.any():
            break
        held |= over  # they go as far as they may, the others with them
        left = here.free.holding(held, within)
    prior = 2 * (state.alpha * state.theta) @ step + (state.alpha * step) @ step
    return step, free, float(-(state.beta * here.free.change(step, free) + prior))


def _shared_step(
    state: LaplacePosterior, H: Array, whole: Array, g: Array, damping: float, longest: Array | None
) -> tuple[Array, Array, Array]:
    """(step of the shared coordinates, its undamped matrix, the gradient); whole: H before free states were eliminated."""
    K = state.beta * H
    K[np.diag_indices_from(K)] += state.alpha
    curvature = state.beta * np.diag(H) + state.alpha
    D = own_scale(curvature, state.beta * np.diag(whole) + state.alpha)
    gradient = state.beta * g + state.alpha * state.theta
    M = K.copy()
    M[np.diag_indices_from(M)] += damping * D
    return limited_step(M, gradient, longest), K, gradient
