"""Levenberg-Marquardt without the normal equations of every step: products with the Jacobian, and conjugate gradients.

The objective, the damping and the evidence are those of `pynode.optim.levenberg_marquardt`. A step solves the same
equations, with the Jacobian where it starts, by preconditioned conjugate gradients (Nocedal & Wright 2006, ch. 7.1). The
preconditioner is a matrix of normal equations that was formed at an earlier point, from some of the residuals; it is formed
again once the iterations that its age has cost exceed what forming it costs.

Steps follow the valley that residuals bend into by half of the geodesic acceleration a (Transtrum & Sethna 2012,
arXiv:1201.5885): J^T J a = -J^T r'', with r'' the second derivative of the residuals along the step.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.optim.checkpoint import Checkpoint, Resumable
from pynode.optim.conjugate_gradients import conjugate_gradients
from pynode.optim.damped import TRIES, Found, ended, lower, relaxed
from pynode.optim.few_rows import Near, formed
from pynode.optim.levenberg_marquardt import begun, conclude, snapshot, update_evidence
from pynode.optim.normal_equations import Problem
from pynode.optim.posterior import LaplacePosterior
from pynode.optim.preconditioner import Sweeps, Tangents, place

Array = NDArray[np.float64]

ROUGH = 0.2
"""Where they end for the acceleration of a step, which need not be exact."""

BENT = 0.75
"""An acceleration of more than this part of the step says nothing: the step is beyond where residuals are a parabola."""


class _Descent:
    """A descent at work: the state, the problem linearised there, and the preconditioner."""

    def __init__(
        self,
        problem: Sweeps,
        state: LaplacePosterior,
        groups: Sequence[NDArray[np.intp]],
        settled: float,
        on_iteration: Callable[[LaplacePosterior], None] | None,
    ) -> None:
        self.problem = problem
        self.state = state
        self.groups = groups
        self.settled = settled
        self.on_iteration = on_iteration
        self.drop = 0.0 if settled >= 1 else 1.0
        self.here: Tangents | None = None
        self.near: Near

    def begin(self, before: dict[str, Any]) -> bool:
        """Linearise where the state is; `before`: what a checkpoint held. False where that cannot be done."""
        problem = self.problem
        state = self.state
        again = before["near"] is not None
        self.here = problem.tangents(state.theta, state.free)
        at = before["near"]["at"] if again else place(problem, state)
        near = None if self.here is None else formed(problem, at)
        if self.here is None or near is None or not np.isfinite(self.here.loss):
            state.n_evaluations += not again
            state.status = "failed"
            return False
        self.near = near
        state.loss = self.here.loss
        if again:
            near.spent, near.age, near.moving = (before["near"][name] for name in ("spent", "age", "moving"))
            self.drop = before["drop"]
            problem.nfe = before["nfe"]
            return True
        state.n_evaluations += 1
        state.status = "max_iter"
        if self.settled >= 1:
            near.evidence(problem, state, self.groups)
        return True

    def renew(self) -> bool:
        """Form the preconditioner again, where the state is; False where that cannot be done."""
        near = formed(self.problem, place(self.problem, self.state))
        if near is None:
            return False
        self.near = near
        if self.drop < self.settled:
            near.evidence(self.problem, self.state, self.groups)
        return True

    def step(self, damping: float) -> Found | None:
        """A step that lowers the objective, or None."""
        if self.near.old:
            self.renew()
        if self.near.age == 0:
            return self._tried(damping, TRIES)
        found = self._tried(damping, 1)  # a poor step may be the fault of the old preconditioner
        return self._tried(damping, TRIES) if found is None and self.renew() else found

    def take(self, found: Found) -> bool:
        """Go to where a step leads; False where the problem cannot be linearised there."""
        state = self.state
        state.theta, state.free, _, self.drop, _ = found
        self.near.age += 1
        state.n_iter += 1
        if self.on_iteration is not None:
            self.on_iteration(state)
        new = self.problem.tangents(state.theta, state.free)
        if new is None:
            state.status = "stalled"
            return False
        self.here = new
        state.loss = new.loss
        if self.drop < self.settled:
            if state.estimated and np.isfinite(state.gamma):
                left = self.problem.n_observed - state.gamma - self.problem.n_free
                state.beta = max(left, 0.05 * self.problem.n_observed) / max(state.loss, state.least)
            else:
                self.near.evidence(self.problem, state, self.groups)
            state.estimated = True
        return True

    def stalled(self) -> None:
        """Note that no step lowers the objective: if the noise was never estimated, what is left is noise."""
        state = self.state
        state.status = "stalled"
        state.left = 0.0
        if self.on_iteration is not None and not state.estimated:
            self.on_iteration(state)
            self.here = self.problem.tangents(state.theta, state.free) or self.here
            assert self.here is not None
            state.loss = self.here.loss
            self.near.evidence(self.problem, state, self.groups)
            state.estimated = True

    def _tried(self, damping: float, tries: int) -> Found | None:
        assert self.here is not None
        scale = self.near.scale(self.state)

        def damped(damping: float) -> tuple[Array, Array | None, float]:
            return self._damped(self.state.alpha + damping * scale, damping)

        return lower(self.problem, self.state, self.here.loss, damped, damping, 2.0, tries, 1e-300)

    def _damped(self, diagonal: Array, damping: float) -> tuple[Array, Array | None, float]:
        """(step, step of the free states, the decrease that they promise); diagonal: of priors and damping (n,)."""
        state = self.state
        assert self.here is not None
        inverse = self.near.inverse(state, diagonal)
        product, g, follow = self.here.eliminated(damping)
        gradient = state.beta * g + state.alpha * state.theta

        def damped(v: Array) -> Array:
            return state.beta * product(v) + diagonal * v

        step, n = conjugate_gradients(damped, -gradient, inverse, most=self.near.most)
        self.near.spent += n
        free = None if follow is None else follow(step)
        prior = 2 * (state.alpha * state.theta) @ step + (state.alpha * step) @ step
        promised = float(-(state.beta * self.here.change(step, free) + prior))
        bend = self.here.bend(step, free, damping)
        if bend is not None and free is not None:
            a, n = conjugate_gradients(damped, -state.beta * bend[0], inverse, ROUGH, self.near.most)
            self.near.spent += n
            scale = self.near.scale(state)
            if (a * scale) @ a < BENT**2 * ((step * scale) @ step):
                return step + 0.5 * a, free + 0.5 * bend[1](a), promised
        return step, free, promised


def descend_by_sweeps(
    problem: Sweeps,
    state: LaplacePosterior,
    *,
    groups: Sequence[NDArray[np.intp]] = (),
    settled: float = 1.0,
    max_iter: int = 50,
    tol: float = 1e-4,
    damping: float = 1e-3,
    callback: Callable[[LaplacePosterior, float, int], Any] | None = None,
    on_iteration: Callable[[LaplacePosterior], None] | None = None,
    checkpoint: Checkpoint | None = None,
    more: Resumable | None = None,
) -> LaplacePosterior:
    """Minimise a problem from `state`, in place; see `pynode.optim.levenberg_marquardt.descend` for the arguments.

    At the end `state.covariance` is that of the last preconditioner; `whole` finds that of all residuals.
    """
    first = {"damping": damping, "small": 0, "done": 0, "nfe": 0, "drop": 1.0, "near": None, "estimated": settled >= 1}
    before = begun(state, checkpoint, more, first)
    state.estimated = before["estimated"]
    damping = before["damping"]
    small = before["small"]
    descent = _Descent(problem, state, groups, settled, on_iteration)
    if not descent.begin(before):
        return state
    counted = problem.nfe
    for k in range(before["done"], max_iter):
        found = descent.step(damping)
        if found is None:
            descent.stalled()
            break
        _, _, rho, drop, damping = found
        damping = relaxed(damping, rho)
        if not descent.take(found):
            break
        assert descent.here is not None
        small = small + 1 if drop < tol else 0
        nfe = problem.nfe - counted
        counted = problem.nfe
        if ended(state, descent.here.g, nfe, small, callback):
            break
        if checkpoint is not None:
            now = {"damping": damping, "small": small, "done": k + 1, "nfe": counted, "drop": drop}
            now |= {"near": descent.near.saved(), "estimated": state.estimated}
            checkpoint.offer("levenberg_marquardt", partial(snapshot, now, state, more))
    descent.near.conclude(state)
    return state


def whole(problem: Problem, part: Problem, state: LaplacePosterior, groups: Sequence[NDArray[np.intp]]) -> None:
    """Fill in evidence and covariances of a state that was found by products; part: the problem with fewer residuals."""
    here = part.linearise(state.theta, state.free)
    if here is not None:
        update_evidence(state, here.H, groups, problem.n_observed, problem.n_free)
        conclude(part, state, replace(here, loss=state.loss))
