"""What stands in for normal equations that are too large to be formed: some rows of J, fewer than there are parameters.

What data tell of thousands of parameters are a few hundred numbers (gamma, the effective number of parameters), so that
some rows for each of these hold nearly all of J^T J. Inverse, determinant and variances follow from a matrix as large as
there are rows (Woodbury; Golub & Van Loan 2013, sec. 2.1.4).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, lapack
from scipy.linalg.blas import dsyrk, dtrsm

from pynode.optim.levenberg_marquardt import update_evidence
from pynode.optim.normal_equations import own_scale
from pynode.optim.posterior import LaplacePosterior
from pynode.optim.preconditioner import Aged, Preconditioner, Sweeps

Array = NDArray[np.float64]

LARGE = 3000
"""From so many coordinates on matrices are not formed."""

ROWS = 4.0
"""How many residuals are taken for each effective parameter ..."""

LEAST_ROWS = 300
"""... at least so many ..."""

FIRST_ROWS = 1000
"""... or, before their number is known, so many ..."""

MOST_NUMBERS = 24_000_000
"""... and at most so many numbers in all."""

WORTH = 10
"""Finding rows costs as much as this many iterations of conjugate gradients."""

FLOOR = 1e-12
"""The least of what is added to the diagonal, relative to the largest curvature: below it an inverse is rounding."""


@dataclass
class FewRows(Aged):
    """Some rows of J at an earlier point; see `Preconditioner` for the other attributes.

    Attributes
    ----------
    at : dict
        The point where they were found, the weights then, and `gamma`, by which their number was chosen.
    J : (rows, n) array
        The rows, the free states eliminated; each counts for those between.
    whole : (n,) array
        The diagonal of J^T J before they were.
    """

    most: ClassVar[int] = 40
    at: dict[str, Any]
    J: Array
    whole: Array
    spent: int = 0
    age: int = 0
    moving: bool = False

    def __post_init__(self) -> None:
        self.own = np.einsum("ij,ij->j", self.J, self.J)

    @classmethod
    def of(cls, problem: Sweeps, at: dict[str, Any]) -> Self | None:
        """Found at a point, see `place`; None where that cannot be."""
        rows = FIRST_ROWS if at["gamma"] is None else max(int(ROWS * at["gamma"]), LEAST_ROWS)
        found = problem.some_rows(at["x"], at["free"], min(rows, MOST_NUMBERS // len(at["x"])), at["weights"])
        return None if found is None else cls(at, *found)

    @property
    def old(self) -> bool:
        """Whether its age has cost more iterations than finding rows again does, or priors move."""
        return self.age > 0 and (self.moving or self.spent > WORTH)

    def scale(self, state: LaplacePosterior) -> Array:
        """What damping of each coordinate is measured by (n,)."""
        return own_scale(state.beta * self.own + state.alpha, state.beta * self.whole + state.alpha)

    def inverse(self, state: LaplacePosterior, diagonal: Array) -> Callable[[Array], Array]:
        """r -> (beta J^T J + diagonal)^-1 r; diagonal (n,): of priors and damping.

        Raises
        ------
        numpy.linalg.LinAlgError
            It is not positive definite.
        """
        root, W, factor = self._factored(state, diagonal)

        def solve(r: Array) -> Array:
            z = r / root
            return np.asarray((z - cho_solve((factor, True), W @ z, check_finite=False) @ W) / root, dtype=np.float64)

        return solve

    def evidence(self, problem: Sweeps, state: LaplacePosterior, groups: Sequence[NDArray[np.intp]]) -> None:
        """MacKay's update of the state."""
        before = state.alpha
        root, W, factor = self._factored(state, before)
        seen = dtrsm(1.0, factor, W.T, side=1, lower=1, trans_a=1)
        known = np.einsum("ij,ij->i", seen, seen)  # 1 - alpha_i C_ii
        state.covariance = None
        state.logdet = _logdet(root, factor)
        state.alpha = before.copy()
        update_evidence(
            state, self.own, groups, problem.n_observed, problem.n_free, spread=np.maximum(1.0 - known, 0.0) / root**2
        )
        self.notice(before, state.alpha)

    def conclude(self, state: LaplacePosterior) -> None:
        """Fill in the determinant; a covariance of so many parameters is not formed."""
        root, _, factor = self._factored(state, state.alpha)
        state.covariance = None
        state.logdet = _logdet(root, factor)

    def _factored(self, state: LaplacePosterior, diagonal: Array) -> tuple[Array, Array, Array]:
        """(D^1/2 (n,), W = beta^1/2 J D^-1/2, the lower Cholesky factor of 1 + W W^T) for D = diagonal."""
        root = np.sqrt(np.maximum(diagonal, FLOOR * state.beta * self.own.max(initial=0.0)))
        W = self.J * (np.sqrt(state.beta) / root)
        G = dsyrk(1.0, W.T, trans=1, lower=1)
        G[np.diag_indices_from(G)] += 1.0
        factor, info = lapack.dpotrf(G, lower=1, overwrite_a=1)
        if info:
            raise np.linalg.LinAlgError("rows of J are not finite")
        return root, W, factor


def _logdet(root: Array, factor: Array) -> float:
    """The logarithm of the determinant of the covariance, from D^1/2 and the factor of 1 + W W^T."""
    return -2.0 * float(np.log(root).sum() + np.log(np.diag(factor)).sum())


Near = Preconditioner | FewRows


def formed(problem: Sweeps, at: dict[str, Any]) -> Near | None:
    """What conjugate gradients are preconditioned by, found at a point: a matrix, or some rows of a large one."""
    return (Preconditioner if len(at["x"]) <= LARGE else FewRows).of(problem, at)
