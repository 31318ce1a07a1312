"""Damped steps: how they are tried, how damping goes on, and when they end. Both kinds of Levenberg-Marquardt take them."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pynode.optim.posterior import LaplacePosterior, objective

Array = NDArray[np.float64]

TRIES = 12
"""The most dampings that are tried for a step."""


def relaxed(damping: float, rho: float) -> float:
    """The damping after a step with the gain ratio rho (Nielsen 1999)."""
    return max(damping * max(1 / 3, 1 - (2 * rho - 1) ** 3), 1e-9)


def ended(
    state: LaplacePosterior,
    g: Array,
    nfe: int,
    small: int,
    callback: Callable[[LaplacePosterior, float, int], Any] | None,
) -> bool:
    """Call back after a step; whether it asks to stop, or steps have become small, which the status then says."""
    norm = float(np.linalg.norm(state.beta * g + state.alpha * state.theta))
    if callback is not None and callback(state, norm, nfe) is True:
        state.status = "stopped"
        return True
    if small == 2:
        state.status = "converged"
        return True
    return False


class Losses(Protocol):
    """What a step is tried on."""

    def loss(self, x: Array, free: Any, /) -> float:
        """The weighted sum of squares; infinite where it cannot be computed."""
        ...


Found = tuple[Array, Array | None, float, float, float]
"""Of a step: theta, free states, gain ratio, relative drop of the objective, damping."""


def lower(
    problem: Losses,
    state: LaplacePosterior,
    loss: float,
    damped: Callable[[float], tuple[Array, Array | None, float]],
    damping: float,
    nu: float,
    tries: int,
    unit: float,
) -> Found | None:
    """A step that lowers the objective, from where the sum of squares is `loss`; None where so many tries find none.

    damped: damping -> (step, step of the free states or None, the decrease that they promise).
    """
    before = objective(state, loss)
    for _ in range(tries):
        try:
            step, free_step, promised = damped(damping)
        except np.linalg.LinAlgError:
            damping = max(damping, 1e-12) * nu
            nu *= 2
            continue
        free = None if free_step is None or state.free is None else state.free + free_step
        theta = state.theta + step
        loss = problem.loss(theta, free)
        state.n_evaluations += 1
        after = state.beta * loss + float((state.alpha * theta**2).sum())
        if after < before:
            rho = min((before - after) / max(promised, 1e-300), 2.0)  # a cube of more might overflow
            return theta, free, rho, (before - after) / max(abs(before), unit), damping
        damping *= nu
        nu *= 2
    return None
