"""Normal equations that were formed at an earlier point: what conjugate gradients are preconditioned by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from pynode.optim.levenberg_marquardt import covariance, update_evidence
from pynode.optim.normal_equations import own_scale
from pynode.optim.posterior import LaplacePosterior

Array = NDArray[np.float64]

ROWS = 4.0
"""How many residuals for each parameter a matrix is formed from."""

MOVED = 0.5
"""A logarithm of a prior's precision that changed by more than this has not settled."""

WORTH = 1.0
"""Forming a matrix costs as much as this many iterations of conjugate gradients, times n p / rows (measured)."""


class Tangents(Protocol):
    """A problem linearised at a point, by products.

    Attributes
    ----------
    loss : float
        The weighted sum of squares E.
    g : (n,) array
        J^T r of the shared coordinates.
    """

    loss: float
    g: Array

    def eliminated(self, damping: float) -> tuple[Callable[[Array], Array], Array, Callable[[Array], Array] | None]:
        """(v -> H v, g, step -> step of the free states), the free states eliminated."""
        ...

    def change(self, step: Array, free: Array | None) -> float:
        """The change of E that the linearised residuals promise."""
        ...

    def bend(self, step: Array, free: Array | None, damping: float, /) -> tuple[Array, Callable[[Array], Array]] | None:
        """(J^T r'', a -> a of the free states), r'' the second derivative of the residuals along a step; None: not known."""
        ...


class Sweeps(Protocol):
    """Nonlinear least squares as `pynode.optim.normal_equations.Problem`, that gives products in place of matrices."""

    nfe: int

    @property
    def n_observed(self) -> int:
        """Residuals that count."""
        ...

    @property
    def n_free(self) -> int:
        """Numbers in the free states."""
        ...

    def loss(self, x: Array, free: Any, /) -> float:
        """The weighted sum of squares; infinite where it cannot be computed."""
        ...

    def tangents(self, x: Array, free: Any, /) -> Tangents | None:
        """The problem linearised; None where that cannot be computed."""
        ...

    def weights(self) -> dict[str, Array]:
        """What the weights of the problem are at the time."""
        ...

    def dense(self, x: Array, free: Any, rows: int, weights: dict[str, Array], /) -> tuple[Array, Array] | None:
        """(J^T J, its diagonal before free states were eliminated), from about so many residuals with these weights."""
        ...

    def some_rows(self, x: Array, free: Any, rows: int, weights: dict[str, Array], /) -> tuple[Array, Array] | None:
        """(J, the same diagonal) of about so many residuals, each weighted for those between."""
        ...


class Aged:
    """What was found at an earlier point, and ages."""

    at: dict[str, Any]
    spent: int
    age: int
    moving: bool

    def notice(self, before: Array, after: Array) -> None:
        """Note whether evidence has changed priors (n,) by more than MOVED."""
        known = before > 0
        change = np.abs(np.log(after[known] / before[known]))
        self.moving = bool(change.max(initial=0.0) > MOVED)

    def saved(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"at": self.at, "spent": self.spent, "age": self.age, "moving": self.moving}


@dataclass
class Preconditioner(Aged):
    """Normal equations of an earlier point.

    Attributes
    ----------
    most : int
        The most iterations of conjugate gradients for a step: it is then shorter than it could be, and still goes down.
    at : dict
        The point where they were formed, and the weights then.
    H : (n, n) array
        J^T J, the free states eliminated.
    whole : (n,) array
        The diagonal of J^T J before they were.
    worth : float
        Iterations of conjugate gradients that cost as much as forming it.
    spent : int
        Iterations of conjugate gradients since it was formed.
    age : int
        Steps since then.
    moving : bool
        The evidence found from it has changed priors by more than MOVED: they are far from where they will settle.
    """

    most: ClassVar[int] = 40
    at: dict[str, Any]
    H: Array
    whole: Array
    worth: float
    spent: int = 0
    age: int = 0
    moving: bool = False

    @classmethod
    def of(cls, problem: Sweeps, at: dict[str, Any]) -> Self | None:
        """Formed at a point, see `place`; None where that cannot be."""
        n = len(at["x"])
        found = problem.dense(at["x"], at["free"], int(ROWS * n), at["weights"])
        return None if found is None else cls(at, *found, WORTH * n * n / problem.n_observed)

    @property
    def old(self) -> bool:
        """Whether its age has cost more iterations than forming it again does, or priors move."""
        return self.age > 0 and (self.moving or self.spent > self.worth)

    def scale(self, state: LaplacePosterior) -> Array:
        """What damping of each coordinate is measured by (n,)."""
        return own_scale(state.beta * np.diag(self.H) + state.alpha, state.beta * self.whole + state.alpha)

    def inverse(self, state: LaplacePosterior, diagonal: Array) -> Callable[[Array], Array]:
        """r -> (beta H + diagonal)^-1 r; diagonal (n,): of priors and damping.

        Raises
        ------
        numpy.linalg.LinAlgError
            It is not positive definite.
        """
        M = state.beta * self.H
        M[np.diag_indices_from(M)] += diagonal
        factor = cho_factor(M, lower=True, overwrite_a=True, check_finite=False)
        return lambda r: np.asarray(cho_solve(factor, r, check_finite=False), dtype=np.float64)

    def evidence(self, problem: Sweeps, state: LaplacePosterior, groups: Sequence[NDArray[np.intp]]) -> None:
        """MacKay's update of the state."""
        before = state.alpha
        state.alpha = before.copy()
        update_evidence(state, self.H, groups, problem.n_observed, problem.n_free)
        self.notice(before, state.alpha)

    def conclude(self, state: LaplacePosterior) -> None:
        """Fill in the covariance that follows from it."""
        state.covariance = covariance(self.H, state.alpha, state.beta)


def place(problem: Sweeps, state: LaplacePosterior) -> dict[str, Any]:
    """Where a problem and a state are, to form a preconditioner there."""
    gamma = state.gamma if np.isfinite(state.gamma) else None
    return {"x": state.theta, "free": state.free, "weights": problem.weights(), "gamma": gamma}
