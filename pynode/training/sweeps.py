"""Products with the Jacobian of solved trajectories, one sweep each: what matrix-free Gauss-Newton needs.

J v is a solution of the field beside its tangent (y, dy), with the steps of the field alone; J^T w is an adjoint sweep. The
free initial states are eliminated from products (Schur complement), so that an optimiser sees the shared coordinates only.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.batch import as_batch
from pynode.engine.options import Options
from pynode.engine.problem import PreparedSolve
from pynode.errors import OK
from pynode.fields.field import Field, run
from pynode.fields.states import limits
from pynode.fields.tangents import tangent_field
from pynode.fields.transforms import jvp
from pynode.optim.matrix_free import whole
from pynode.optim.normal_equations import Problem
from pynode.optim.posterior import LaplacePosterior
from pynode.optim.preconditioner import Tangents
from pynode.training.coordinates import Coordinates
from pynode.training.matching import MatchingProblem
from pynode.training.shooting import HUGE, ShootingProblem
from pynode.training.thinning import every
from pynode.training.windows import Data

Array = NDArray[np.float64]

IGNORED = 1e30
"""The absolute tolerance of tangents: they follow the steps of the states and choose none."""


PART = 0.1
"""Part of a step over which residuals are differenced."""


def beside_tangents(options: dict[str, Any], d: int) -> dict[str, Any]:
    """Options with which (y, dy) takes the steps that y takes alone: norms of errors are means over all components."""
    rtol = options.get("rtol", 1e-6)
    atol = np.broadcast_to(np.asarray(options.get("atol", 1e-8), dtype=np.float64), d)
    half = np.sqrt(0.5)
    return options | {"rtol": rtol * half, "atol": np.concatenate([atol * half, np.full(d, IGNORED)])}


LAST_ROWS = 8
"""From so many residuals for each parameter covariances are found where steps were found by products; from all of them
effective numbers of parameters differ by 0.2 % (`benchmarks/scale.py`, circuit-16)."""


def thinned(problem: ShootingProblem, free: Array, rows: int, root: Array, prior: Array) -> ShootingProblem:
    """The problem with about so many residuals, each of which counts for those between, with these weights."""
    step = max(1, problem.n_observed // max(rows, 1))
    kept, weight = every(step, problem.length)
    thin = [np.flatnonzero(piece) for piece in np.split(kept, np.cumsum(problem.length)[:-1])]
    data = Data(
        [t[k] for t, k in zip(problem.cut.t, thin, strict=True)],
        [y[k] for y, k in zip(problem.cut.y, thin, strict=True)],
        None,
        problem.cut.signal,
    )
    squares = root[kept] ** 2 * weight[kept, None]
    part = ShootingProblem(problem.field, data, free, squares, prior, problem.coordinates, **problem.options)
    part.leave_out(~problem.alive)
    return part


def covariances(problem: ShootingProblem, state: LaplacePosterior, groups: Sequence[NDArray[np.intp]]) -> None:
    """Fill in evidence and covariances of a state that was found by products, from LAST_ROWS of the residuals."""
    assert state.free is not None
    part = thinned(problem, state.free, int(LAST_ROWS * len(state.theta)), problem.root, problem.prior)
    whole(problem, part, state, groups)


class ShootingSweeps:
    """A `ShootingProblem` as `pynode.optim.matrix_free` sees it: its weights and priors are used as they are at the time.

    Parameters
    ----------
    problem : ShootingProblem
        Of B trajectories, of a field that is a program, not a callback.
    """

    def __init__(self, problem: ShootingProblem) -> None:
        field = problem.field
        data = problem.cut
        options = problem.options
        self.field = field
        self.problem = problem
        self.coordinates = problem.coordinates
        self.rows = len(problem.data)
        y0 = np.ascontiguousarray(problem.y0)
        signal = data.signal
        batch = as_batch(y0, data.t, field.d, None)
        self.forward = PreparedSolve(field, batch, Options.of("solve", options | {"inputs": signal}), gradient=True)
        both = as_batch(np.concatenate([y0, 0 * y0], axis=1), data.t, 2 * field.d, None)
        beside = beside_tangents(options, field.d) | {"inputs": signal}
        self.tangent = PreparedSolve(tangent_field(field), both, Options.of("solve", beside))
        self.of_states = PreparedSolve(tangent_field(field, of_theta=False), both, Options.of("solve", beside))
        self.inside = np.arange(problem.length.max()) < problem.length[:, None]

    @property
    def n_observed(self) -> int:
        """Residuals that count."""
        return self.problem.n_observed

    @property
    def n_free(self) -> int:
        """Numbers in the free states."""
        return self.problem.n_free

    @property
    def nfe(self) -> int:
        """Evaluations of the field so far."""
        return self.problem.nfe

    @nfe.setter
    def nfe(self, value: int) -> None:
        self.problem.nfe = value

    def loss(self, x: Array, free: Array) -> float:
        """The weighted sum of squares; infinite where a trajectory cannot be solved."""
        return self.problem.loss(x, free)

    def tangents(self, x: Array, free: Array) -> "ShootingTangents | None":
        """The problem linearised at a point; None where a trajectory cannot be solved, or is chaos."""
        here = ShootingTangents(self, x, free)
        return here if here.usable else None

    def weights(self) -> dict[str, Array]:
        """The roots of the weights, and the priors of the free states."""
        return {"root": self.problem.root, "prior": self.problem.prior}

    def dense(self, x: Array, free: Array, rows: int, weights: dict[str, Array]) -> tuple[Array, Array] | None:
        """(J^T J (n, n), the free states eliminated; its diagonal before) from about so many residuals.

        Those between count with the ones that are taken. None where they cannot be solved, or are chaos.
        """
        part = thinned(self.problem, free, rows, weights["root"], weights["prior"])
        found = part.projected(x, free)
        self.problem.nfe += part.nfe
        return found

    def some_rows(self, x: Array, free: Array, rows: int, weights: dict[str, Array]) -> tuple[Array, Array] | None:
        """(J (rows, n), the free states eliminated; the diagonal of J^T J before) of about so many residuals; as `dense`."""
        part = thinned(self.problem, free, rows, weights["root"], weights["prior"])
        found = part.rows(x, free)
        self.problem.nfe += part.nfe
        return found


class ShootingTangents(Tangents):
    """The problem at a point: loss, gradient, and products of its Jacobian with vectors."""

    def __init__(self, sweeps: ShootingSweeps, x: Array, free: Array) -> None:
        self.sweeps = sweeps
        self.x = x
        problem = sweeps.problem
        self.prior = problem.prior
        self.theta = np.ascontiguousarray(sweeps.coordinates.theta(x))
        self.free = np.ascontiguousarray(free)
        self.root = problem.root
        B, d = self.free.shape
        y, status = problem.solve(x, self.free)
        self.r = r = self.root * (y - problem.data)
        shift = self.prior * (self.free - problem.y0)
        self.loss = float((r * r).sum() + (shift * (self.free - problem.y0)).sum())
        self.usable = bool((status[problem.alive] == OK).all()) and np.isfinite(self.loss)
        if not self.usable:
            return
        self.g, z = self.back(r)
        self.z = z + shift
        psi = self._of_states()
        self.usable = bool(np.abs(psi).max(initial=0.0) < HUGE) and bool(np.isfinite(self.g).all())
        if not self.usable:
            return
        padded = np.zeros((*sweeps.inside.shape, d, d))
        padded[sweeps.inside] = self.root[:, :, None] * psi
        self.block = padded.reshape(B, -1, d)
        self.precision = np.matmul(self.block.transpose(0, 2, 1), self.block)
        self.precision[:, range(d), range(d)] += self.prior

    def _of_states(self) -> Array:
        """(rows, d, d) derivatives of the states with respect to the initial ones."""
        d = self.free.shape[1]
        psi = np.empty((self.sweeps.rows, d, d))
        for i in range(d):
            start = np.zeros_like(self.free)
            start[:, i] = 1.0
            psi[:, :, i] = self._solved(self.sweeps.of_states, self.theta, start)
        return psi

    def _solved(self, how: PreparedSolve, theta: Array, start: Array) -> Array:
        """(rows, d) tangents along the trajectories, from tangents (B, d) of the initial states."""
        d = self.free.shape[1]
        raw = how.run(theta, y0=np.concatenate([self.free, start], axis=1))
        self.sweeps.problem.nfe += int(raw["nfe"].sum())
        y = raw["y"][:, d:]
        alive = self.sweeps.problem.alive
        return y if alive.all() else np.where(np.repeat(alive, self.sweeps.problem.length)[:, None], y, 0.0)

    def along(self, v: Array) -> Array:
        """J v (rows, d): the change of the weighted residuals for a direction v (n,) of the coordinates."""
        push = self.sweeps.coordinates.push(self.x, v)
        return self.root * self._solved(self.sweeps.tangent, np.concatenate([self.theta, push]), np.zeros_like(self.free))

    def back(self, w: Array) -> tuple[Array, Array]:
        """J^T w for w (rows, d): the parts of the shared coordinates (n,) and of the free states (B, d)."""
        seed = np.ascontiguousarray(self.root * w)
        raw = self.sweeps.forward.run(self.theta, y0=self.free, g_y=seed, gradient="discrete", wrt_y0=True)
        self.sweeps.problem.nfe += int(raw["nfe"].sum())
        return self.sweeps.coordinates.pull(self.x, np.asarray(raw["g_theta"])), np.asarray(raw["g_y0"])

    def with_states(self, q: Array) -> Array:
        """(rows, d) the change of the weighted residuals for a direction q (B, d) of the free states."""
        found: Array = np.matmul(self.block, q[:, :, None]).reshape(*self.sweeps.inside.shape, -1)[self.sweeps.inside]
        return found

    def of_states(self, w: Array) -> Array:
        """(B, d) the free states' part of J^T w."""
        B, longest = self.sweeps.inside.shape
        padded = np.zeros((B, longest, w.shape[1]))
        padded[self.sweeps.inside] = w
        return np.asarray(np.matmul(padded.reshape(B, 1, -1), self.block)[:, 0])

    def eliminated(self, damping: float) -> tuple[Callable[[Array], Array], Array, Callable[[Array], Array]]:
        """(v -> H v, g, step -> step of the free states), the free states eliminated; see `FreeStates.eliminated`.

        Raises
        ------
        numpy.linalg.LinAlgError
            The precision of a free state is singular.
        """
        best = self._best(damping)

        def product(v: Array) -> Array:
            e = self.along(v)
            return self.back(e - self.with_states(best(self.of_states(e))))[0]

        def follow(step: Array) -> Array:
            return -best(self.z + self.of_states(self.along(step)))

        return product, self.g - self.back(self.with_states(best(self.z)))[0], follow

    def _best(self, damping: float) -> Callable[[Array], Array]:
        """c (B, d) -> A^-1 c, A the damped precision of the free states."""
        d = self.free.shape[1]
        precision = self.precision.copy()
        precision[:, range(d), range(d)] *= 1 + damping
        inverse = np.linalg.inv(precision)
        return lambda c: np.asarray(np.matmul(inverse, c[:, :, None])[:, :, 0])

    def bend(self, step: Array, free: Array | None, damping: float) -> tuple[Array, Callable[[Array], Array]] | None:
        """(J^T r'', a -> a of the free states), free states eliminated; r'' (rows, d): how residuals bend along a step.

        None where the field cannot be solved on the way.
        """
        assert free is not None
        problem = self.sweeps.problem
        y, status = problem.solve(self.x + PART * step, self.free + PART * free)
        if (status[problem.alive] != OK).any():
            return None
        moved = self.root * (y - problem.data) - self.r
        second = (2 / PART) * (moved / PART - self.along(step) - self.with_states(free))
        best = self._best(damping)
        z = self.of_states(second)
        return self.back(second - self.with_states(best(z)))[0], lambda a: -best(z + self.of_states(self.along(a)))

    def change(self, step: Array, free: Array | None) -> float:
        """The change of E that the linearised residuals promise for a step, and one of the free states."""
        e = self.along(step)
        slope = float(self.g @ step)
        bend = 0.0
        if free is not None:
            e = e + self.with_states(free)
            slope += float((self.z * free).sum())
            bend = float((self.prior * free**2).sum())
        return 2 * slope + float((e * e).sum()) + bend


class MatchingSweeps:
    """A `MatchingProblem` as `pynode.optim.matrix_free` sees it."""

    def __init__(self, problem: MatchingProblem) -> None:
        self.problem = problem
        self.n_observed = problem.n_observed
        self.n_free = 0
        self.nfe = 0

    def loss(self, x: Array, free: None = None) -> float:
        """The weighted sum of squares."""
        return self.problem.loss(x)

    def tangents(self, x: Array, free: None = None) -> "MatchingTangents | None":
        """The problem linearised at a point."""
        here = MatchingTangents(self.problem, x)
        return here if np.isfinite(here.loss) else None

    def weights(self) -> dict[str, Array]:
        """They never change."""
        return {}

    def dense(self, x: Array, free: None, rows: int, weights: dict[str, Array]) -> tuple[Array, Array]:
        """(J^T J (n, n), its diagonal) from about so many residuals, each counted for its neighbours too."""
        H = self._thinned(rows).linearise(x, single=True).H
        return H, np.diag(H).copy()

    def some_rows(self, x: Array, free: None, rows: int, weights: dict[str, Array]) -> tuple[Array, Array]:
        """(J (rows, n), the diagonal of J^T J) of about so many residuals, each weighted for its neighbours too."""
        J = self._thinned(rows).rows(x)
        return J, np.einsum("ij,ij->j", J, J)

    def _thinned(self, rows: int) -> MatchingProblem:
        """The problem with about so many residuals."""
        problem = self.problem
        step = max(1, problem.n_observed // max(rows, 1))
        kept = slice(step // 2, None, step)
        point = {name: None if value is None else value[kept] for name, value in problem.point.items()}
        squares = problem.root[kept] ** 2 * (len(problem.slope) / len(problem.slope[kept]))
        t, y, u = (point[name] for name in ("t", "y", "u"))
        assert t is not None and y is not None
        return MatchingProblem(problem.field, t, y, problem.slope[kept], squares, u, problem.coordinates)


class MatchingTangents(Tangents):
    """Slopes at a point: loss, gradient, and products of their Jacobian with vectors."""

    def __init__(self, problem: MatchingProblem, x: Array) -> None:
        self.problem = problem
        self.x = x
        self.theta = problem.coordinates.theta(x)
        self.still = np.zeros_like(problem.slope)
        r = problem.residual(x)
        self.loss = float((r * r).sum())
        self.g = self.back(r)

    def along(self, v: Array) -> Array:
        """J v (rows, d)."""
        point = self.problem.point
        push = self.problem.coordinates.push(self.x, v)
        moved = jvp(self.problem.field)(point["t"], point["y"], self.theta, self.still, u=point["u"], dtheta=push)
        return np.asarray(self.problem.root * moved)

    def back(self, w: Array) -> Array:
        """J^T w (n,)."""
        point = self.problem.point | {"seed": self.problem.root * w}
        _, (gradient,) = run(self.problem.field.vjp_program, point, [self.theta])
        return self.problem.coordinates.pull(self.x, gradient)

    def eliminated(self, damping: float) -> tuple[Callable[[Array], Array], Array, None]:
        """(v -> H v, g, None): there are no free states."""
        return (lambda v: self.back(self.along(v))), self.g, None

    def bend(self, step: Array, free: Array | None, damping: float) -> None:
        """Slopes are nearly linear in the parameters: it does not pay."""

    def change(self, step: Array, free: Array | None = None) -> float:
        """The change of E that the linearised residuals promise."""
        e = self.along(step)
        return float(2 * (self.g @ step) + (e * e).sum())


DEARER = 4e9
"""From so many multiplications in J^T J on, products with the Jacobian may be cheaper than matrices of it ..."""

DEARER_ROW = 1.5e6
"""... and from so many of them for each time of a trajectory: solving it some forty times then costs less (measured)."""


def pays(field: Field, coordinates: Coordinates, n_observed: int) -> bool:
    """Whether products with the Jacobian of so many residuals are cheaper than its matrices, and possible.

    Coordinates and states with limits need the matrices: a step that meets a limit is solved again with it held.
    """
    limited = coordinates.longest is not None or limits(field) is not None or field.callbacks
    n = len(coordinates)
    return not limited and n_observed * n**2 >= DEARER and field.d * n**2 >= DEARER_ROW


def sweeps_of(problem: Problem) -> ShootingSweeps | MatchingSweeps | None:
    """The problem by products with its Jacobian where that pays, else None."""
    if not isinstance(problem, ShootingProblem | MatchingProblem):
        return None
    if not pays(problem.field, problem.coordinates, problem.n_observed):
        return None
    return MatchingSweeps(problem) if isinstance(problem, MatchingProblem) else ShootingSweeps(problem)
