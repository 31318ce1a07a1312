"""A bound on how fast nearby rollouts part, for learned fields that must not explode.

The difference e of two rollouts grows as d|e|/dt <= mu |e| where mu is the logarithmic norm of J = df/dy between them, the
largest eigenvalue of its symmetric part (Dahlquist 1958; Lohmiller and Slotine 1998, Automatica 34, 683), in units in which
the states have a standard deviation of 1. Where it is beyond a given rate, at states on and around those of the data, the
excess is one more residual. Its derivative is that of v' J v, v being the eigenvector: two transformations of the program.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.arrays import evenly
from pynode.fields.field import Field
from pynode.fields.make import field as as_field
from pynode.fields.transforms import jacobian, jvp
from pynode.optim.normal_equations import Linearised, Problem, gram

if TYPE_CHECKING:
    from pynode.training.second_order import SecondOrderRun

Array = NDArray[np.float64]

POINTS = 100
"""As many states on the trajectories, and as many around them, are looked at."""

AROUND = 0.5
"""Those around them are up to this part of the range away in each state: from there on `far_field` says what holds."""

TOLERANCE = 0.05
"""An excess of this part of the typical rate of the data counts as much as the noise."""


class GrowthBound:
    """Logarithmic norms of a field at given states, and their excess over a rate.

    Parameters
    ----------
    field : Field
        The vector field, with d states.
    rate : float
        The bound, in the units of the field.
    t : (k,) array
        Times.
    y : (k, d) array
        States.
    u : (k, m) array or None
        Control inputs.
    scale : (d,) array
        The sizes of the states.
    """

    def __init__(self, field: Field, rate: float, t: Array, y: Array, u: Array | None, scale: Array) -> None:
        self.rate = rate
        self.t = t
        self.y = y
        self.u = u
        self.scale = scale
        self.matrix = jacobian(field)
        m, d = field.inputs, field.d

        def product(t: Any, y: Any, th: Any, u: Any) -> Any:
            """a' J b; a and b come after the control inputs."""
            given = {"u": u[:m]} if m else {}
            return np.sum(u[m : m + d] * jvp(field)(t, y, th, u[m + d :], **given))

        make = as_field(state=d, theta=field.n_params, inputs=m + 2 * d, out=1, name=f"growth of {field.name}")
        self.by_theta = jacobian(make(product), wrt="theta")

    def norms(self, theta: Array) -> tuple[Array, Array]:
        """(logarithmic norms (k,), the directions (k, d) of fastest growth); infinite where the field is not finite."""
        J = np.asarray(self.matrix(self.t, self.y, theta, self.u)) * (self.scale / self.scale[:, None])
        known = np.asarray(np.isfinite(J).all(axis=(1, 2)))
        symmetric = np.where(known[:, None, None], 0.5 * (J + J.transpose(0, 2, 1)), 0.0)
        values, vectors = np.linalg.eigh(symmetric)
        return np.where(known, values[:, -1], np.inf), vectors[:, :, -1]

    def excess(self, theta: Array) -> Array:
        """(k,) by how much the norms are beyond the rate."""
        return np.maximum(self.norms(theta)[0] - self.rate, 0.0)

    def linearised(self, theta: Array) -> tuple[Array, Array]:
        """(excess (a,), its derivatives (a, p)) of the states that have one."""
        norms, v = self.norms(theta)
        over = np.flatnonzero(norms > self.rate)
        if not len(over):
            return np.zeros(0), np.zeros((0, len(theta)))
        pair = np.concatenate([v[over] / self.scale, v[over] * self.scale], axis=1)
        u = pair if self.u is None else np.concatenate([self.u[over], pair], axis=1)
        slopes = np.asarray(self.by_theta(self.t[over], self.y[over], theta, u))
        return norms[over] - self.rate, slopes.reshape(len(over), -1)


class BoundedProblem:
    """A problem of Levenberg-Marquardt with the excess of a `GrowthBound` among its residuals.

    Parameters
    ----------
    problem : Problem
        ShootingProblem, MatchingProblem or DrivenProblem.
    bound : GrowthBound
    weight : float
        Of the squares of the excess.
    """

    def __init__(self, problem: Any, bound: GrowthBound, weight: float) -> None:
        self.problem = problem
        self.bound = bound
        self.weight = weight
        self.n_observed: int = problem.n_observed
        self.n_free: int = problem.n_free

    @property
    def nfe(self) -> int:
        """Evaluations of the field in solves."""
        return int(self.problem.nfe)

    @nfe.setter
    def nfe(self, value: int) -> None:
        self.problem.nfe = value

    def loss(self, x: Array, free: Any) -> float:
        """The weighted sum of squares."""
        r = self.bound.excess(self.problem.coordinates.theta(x))
        return float(self.problem.loss(x, free) + self.weight * (r @ r))

    def linearise(self, x: Array, free: Any) -> Linearised | None:
        """The normal equations; None where they cannot be computed."""
        here = self.problem.linearise(x, free)
        if here is None:
            return None
        r, slopes = self.bound.linearised(self.problem.coordinates.theta(x))
        if not len(r):
            return here if np.isfinite(here.loss) else None
        J = self.problem.coordinates.jacobian(x, slopes)
        if not (np.isfinite(r).all() and np.isfinite(J).all()):
            return None
        loss = here.loss + self.weight * float(r @ r)
        H, g = self.weight * gram(J), self.weight * (J.T @ r)
        free_states = None if here.free is None else here.free.with_more(H, g)
        return Linearised(loss, here.H + H, here.g + g, free_states, here.free_gain)


def growth_bound(run: "SecondOrderRun") -> GrowthBound | None:
    """The bound of a run at states on and around where its trajectories are now; None where it has none."""
    rate = run.recipe.max_growth
    states = np.concatenate(run.training.states)
    known = np.flatnonzero(np.isfinite(states).all(axis=1))
    if rate is None or not len(known):
        return None
    rows = known[evenly(len(known), POINTS)]
    rng = np.random.default_rng(run.recipe.random_state)
    near = rng.choice(known, POINTS)
    away = AROUND * np.ptp(states[known], axis=0) * rng.uniform(-1, 1, (POINTS, states.shape[1]))
    both = np.concatenate([rows, near])
    u = run.data.inputs_at_rows()
    y = np.concatenate([states[rows], states[near] + away])
    return GrowthBound(
        run.field, rate, np.concatenate(run.data.t)[both], y, None if u is None else u[both], np.sqrt(run.data.spread)
    )


def bounded(run: "SecondOrderRun", problem: Any, beta: float) -> Problem:
    """The problem of a stage, with the bound of the run among its residuals where it has one; beta: 1 / the noise."""
    bound = growth_bound(run)
    if bound is None:
        plain: Problem = problem
        return plain
    tolerance = TOLERANCE * _typical(run)
    return BoundedProblem(problem, bound, problem.n_observed / (len(bound.y) * beta * tolerance**2))


def outgrown(run: Any, time_scale: float) -> list[str]:
    """What to say of a run whose field is beyond its bound after all; time_scale: of the field's time."""
    bound = growth_bound(run) if getattr(run.recipe, "max_growth", None) is not None else None
    if bound is None:
        return []
    excess = bound.excess(run.training.theta)
    over = excess > TOLERANCE * _typical(run)
    if not over.any():
        return []
    worst = float(excess.max() + bound.rate) / time_scale
    percent = np.ceil(100 * over.mean())
    return [
        f"max_growth={bound.rate / time_scale:.3g} does not go with the data: at {percent:.0f} % of the states on "
        f"and around the trajectories nearby rollouts part faster, by up to {worst:.3g} per unit of time; raise it, or "
        "leave it out"
    ]


def _typical(run: "SecondOrderRun") -> float:
    """The rate at which the states change, over their size."""
    speed = np.concatenate(run.smoothed.slope) / np.sqrt(run.data.spread)
    rate = float(np.sqrt(np.nanmean(speed**2))) if np.isfinite(speed).any() else 0.0
    return rate if rate > 0 else 1.0
