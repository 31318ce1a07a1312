"""What stands in for normal equations that are too large to be formed: their diagonal, and traces by random signs.

Of the diagonal of J^T J the squares of J^T z are estimates, for random signs z (Bekas, Kokiopoulou & Saad 2007,
doi:10.1016/j.apnum.2007.01.003); of traces of the covariance, and of its determinant, solutions of equations with random
right-hand sides (Hutchinson 1990; Ubaru, Chen & Saad 2017, doi:10.1137/16M1104974).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pynode.optim.conjugate_gradients import conjugate_gradients
from pynode.optim.levenberg_marquardt import update_evidence
from pynode.optim.posterior import LaplacePosterior
from pynode.optim.preconditioner import Aged, Preconditioner, Sweeps, Tangents

Array = NDArray[np.float64]

LARGE = 3000
"""From so many coordinates on matrices are not formed."""

SIGNS = 48
"""How many random signs the diagonal is estimated from."""

PROBES = 3
"""How many right-hand sides traces are estimated from; of thousands of coordinates a few suffice ..."""

INNER = 150
"""... of so many iterations at most, as steps are."""

EXACT = 1e-3
"""Where those end, as FORCING of steps: what is cut off is missing in the determinant."""

LASTS = 8
"""Steps for which a diagonal and its traces are used."""

FLOOR = 1e-6
"""The least of the diagonal, relative to its mean: an estimate may be 0 by chance."""


@dataclass
class Diagonal(Aged):
    """The diagonal of J^T J at an earlier point; see `Preconditioner` for the other attributes.

    Attributes
    ----------
    at : dict
        The point where it was found, and the weights then.
    tangents : Tangents
        The problem linearised there.
    squares : (n,) array
        The diagonal.
    """

    most: ClassVar[int] = INNER
    at: dict[str, Any]
    tangents: Tangents
    squares: Array
    spent: int = 0
    age: int = 0
    moving: bool = False

    @classmethod
    def of(cls, problem: Sweeps, at: dict[str, Any]) -> Self | None:
        """Found at a point; None where that cannot be."""
        tangents = problem.tangents_at(at)
        if tangents is None:
            return None
        rng = np.random.default_rng(0)
        squares = np.zeros(len(at["x"]))
        for _ in range(SIGNS):
            squares += tangents.rows_of(lambda shape: rng.choice([-1.0, 1.0], shape)) ** 2 / SIGNS
        return cls(at, tangents, np.maximum(squares, FLOOR * squares.mean()))

    @property
    def old(self) -> bool:
        """Whether steps since it was found are many, or priors move."""
        return self.age >= LASTS or (self.moving and self.age > 1)

    def scale(self, state: LaplacePosterior) -> Array:
        """What damping of each coordinate is measured by (n,)."""
        return state.beta * self.squares + state.alpha

    def inverse(self, state: LaplacePosterior, diagonal: Array) -> Callable[[Array], Array]:
        """r -> r / (beta squares + diagonal)."""
        M = state.beta * self.squares + diagonal
        return lambda r: r / M

    def evidence(self, problem: Sweeps, state: LaplacePosterior, groups: Sequence[NDArray[np.intp]]) -> None:
        """MacKay's update of the state, with traces of the covariance by random signs."""
        before = state.alpha
        spread, state.logdet = self._traces(state)
        state.covariance = None
        state.alpha = before.copy()
        update_evidence(state, self.squares, groups, problem.n_observed, problem.n_free, spread=spread)
        self.notice(before, state.alpha)

    def conclude(self, state: LaplacePosterior) -> None:
        """Fill in the determinant; a covariance of so many parameters is not formed."""
        state.covariance = None
        _, state.logdet = self._traces(state)

    def _traces(self, state: LaplacePosterior) -> tuple[Array, float]:
        """(estimates of the variances of coordinates (n,), whose sums count; the logarithm of the covariance's determinant).

        With K = beta J^T J + alpha, M its diagonal and signs s: E[M^-1/2 s (K^-1 M^1/2 s)^T] = K^-1, and ln det K =
        ln det M + E[s^T log(M^-1/2 K M^-1/2) s].
        """
        product, _, _ = self.tangents.eliminated(0.0)
        M = state.beta * self.squares + state.alpha
        rng = np.random.default_rng(1)
        spread = np.zeros_like(M)
        logdet = float(np.log(M).sum())
        for _ in range(PROBES):
            s = rng.choice([-1.0, 1.0], len(M))
            x, n, logarithm = conjugate_gradients(
                lambda v: state.beta * product(v) + state.alpha * v, np.sqrt(M) * s, lambda r: r / M, EXACT, INNER
            )
            self.spent += n
            spread += s / np.sqrt(M) * x / PROBES
            logdet += logarithm / PROBES
        return spread, -logdet


Near = Preconditioner | Diagonal


def formed(problem: Sweeps, at: dict[str, Any]) -> Near | None:
    """What conjugate gradients are preconditioned by, found at a point: a matrix, or the diagonal of a large one."""
    return (Preconditioner if len(at["x"]) <= LARGE else Diagonal).of(problem, at)
