"""Multiple shooting: residuals of solved trajectories and their exact Jacobians, which Levenberg-Marquardt minimises.

The problem has shared coordinates x (n,), from which the parameters theta follow (`pynode.training.coordinates`), and a free
initial state (d,) for each trajectory. Its linearisation is condensed at once to normal equations in which the free states
are eliminated (Schur complement), so that a step solves an (n, n) system however many trajectories there are. Trajectories
are taken in parts of limited memory, in a fixed order.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pynode.calls.sensitivities import SensitivityProblem
from pynode.errors import OK
from pynode.fields.field import Field
from pynode.fields.states import limits
from pynode.optim.normal_equations import FreeStates, Linearised, column_sizes, gram, in_single, single_gram
from pynode.training.coordinates import Coordinates
from pynode.training.noise import Noise
from pynode.training.windows import Data

Array = NDArray[np.float64]

WEAK = 1e-8
"""The weak prior of a free initial state counts as much as this part of a measurement of it."""

HUGE = 1e100
"""Sensitivities beyond this come from chaos over too long a time: nothing can be learned from them."""


REACH = 0.9
"""Part of the way to its limit that a free initial state may go in a step, as parameters change by a factor of ten."""


PART = 8_000_000
"""How many numbers of a Jacobian are held at once."""


class ShootingProblem:
    """Residuals y(t; theta, y0) - data of trajectories (or windows of them), their initial states free.

    Parameters
    ----------
    field : Field
        The vector field, with d states.
    data : Data
        B trajectories.
    y0 : (B, d) array
        Where the initial states start.
    weight : (d,) array or (rows, d) array, default 1
        Weights of the squares.
    prior : (B, d) array, optional
        Precisions of a pull of the free states to y0, which keeps states that nothing observes in place. Default: weak, in
        proportion to the weights, so that it does not depend on the units of the states.
    coordinates : Coordinates, optional
        The coordinates that are varied in place of theta. Default: theta itself.
    **options
        See `pynode.solve`.

    Attributes
    ----------
    limits : ((d,), (d,)) arrays or None
        Between which the field's states stay (`pynode.fields.states`): y0 is inside, and a step of the free states goes at
        most nine tenths of the way to a limit.
    alive : (B,) bool array
        False for trajectories that could not be solved at the start: they are left out.
    nfe : int
        Evaluations of the field so far.
    """

    def __init__(
        self,
        field: Field,
        data: Data,
        y0: Array,
        weight: ArrayLike = 1.0,
        prior: Array | None = None,
        coordinates: Coordinates | None = None,
        **options: Any,
    ) -> None:
        self.coordinates = Coordinates.all_free(field.n_params) if coordinates is None else coordinates
        self.field = field
        self.cut = data
        self.options = options
        self.limits = limits(field)
        self.y0 = np.array(y0)
        self.n_free = np.size(y0)
        self.length = np.array([len(v) for v in data.y])
        self.stop = np.cumsum(self.length)
        self.start = self.stop - self.length
        per_row = field.d * (field.n_params + field.d)
        group = np.cumsum(self.length) * per_row // PART
        self.parts = []
        for which in np.split(np.arange(len(self.y0)), np.flatnonzero(np.diff(group)) + 1):
            piece = data if len(which) == len(data) else data.take(which)
            problem = SensitivityProblem(field, self.y0[which], piece.t, inputs=piece.signal, **options)
            self.parts.append((slice(which[0], which[-1] + 1), problem))
        self.data = np.concatenate(data.y)
        weight = np.broadcast_to(weight, self.data.shape)
        self.root = np.where(np.isnan(self.data), 0.0, np.sqrt(weight))
        self.data = np.where(np.isnan(self.data), 0.0, self.data)
        self.n_observed = int((self.root > 0).sum())
        self.spread = np.where(data.seen, data.spread, _size(self.y0))
        self.weak = prior is None
        self.prior = self._weak_prior() if prior is None else prior
        self.alive = np.ones(len(self.y0), bool)
        self.nfe = 0

    def set_weight(self, weight: Array) -> None:
        """Set new weights (rows, d) of the squares; entries that are not observed keep the weight 0."""
        self.root = np.where(self.root > 0, np.sqrt(weight), 0.0)
        if self.weak:
            self.prior = self._weak_prior()

    def _weak_prior(self) -> Array:
        """(B, d) precisions: part of the mean weight of a state, or of one like the others' if it is never observed."""
        observed = self.root > 0
        seen = observed.any(axis=0)
        weight = (self.root**2).sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
        typical = np.exp(np.log((weight * self.spread)[seen]).mean()) if seen.any() else 1.0
        prior = WEAK * np.where(seen, weight, typical / self.spread)
        return np.asarray(np.broadcast_to(prior, self.y0.shape), dtype=np.float64)

    def leave_out(self, dead: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Leave some trajectories out, where dead (B,) is True; returns whether a row is theirs."""
        self.alive &= ~dead
        self.root[np.repeat(~self.alive, self.length)] = 0.0
        self.n_observed = int((self.root > 0).sum())
        return np.repeat(dead, self.length)

    def saved(self) -> dict[str, Any]:
        """What it is beside its data and options, as plain data."""
        return {"y0": self.y0, "root": self.root, "prior": self.prior, "alive": self.alive.astype(np.int64)}

    def restore(self, saved: dict[str, Any]) -> None:
        """The problem that gave `saved()`; this one was made with its y0."""
        self.root = saved["root"]
        self.prior = saved["prior"]
        self.alive = saved["alive"].astype(bool)
        self.n_observed = int((self.root > 0).sum())

    def solve(self, x: Array, free: Array) -> tuple[Array, NDArray[np.int32]]:
        """(y (rows, d), status (B,)) of all trajectories; y is 0 in those left out."""
        theta = np.ascontiguousarray(self.coordinates.theta(x))
        ys = []
        status = []
        for which, problem in self.parts:
            raw = problem.setup.run(theta, y0=np.ascontiguousarray(free[which]))
            self.nfe += int(raw["nfe"].sum())
            ys.append(raw["y"])
            status.append(raw["status"])
        y = ys[0] if len(ys) == 1 else np.concatenate(ys)
        return np.where(np.repeat(self.alive, self.length)[:, None], y, 0.0), np.concatenate(status)

    def failed(self, x: Array, free: Array) -> NDArray[np.bool_]:
        """(B,) whether a trajectory cannot be solved."""
        return np.asarray(self.solve(x, free)[1] != OK)

    def room(self, free: Array) -> tuple[Array, Array] | None:
        """The lowest and the highest step (B, d) of the free states; None where nothing limits them."""
        if self.limits is None:
            return None
        low, high = self.limits
        return REACH * (low - free), REACH * (high - free)

    def _pull(self, free: Array) -> float:
        return float((self.prior * (free - self.y0) ** 2).sum())

    def loss(self, x: Array, free: Array) -> float:
        """The weighted sum of squares; infinite where a trajectory cannot be solved."""
        y, status = self.solve(x, free)
        if (status[self.alive] != OK).any():
            return np.inf
        with np.errstate(over="ignore"):  # one that runs away is refused as infinite
            return float(((self.root * (y - self.data)) ** 2).sum()) + self._pull(free)

    def residual(self, x: Array, free: Array) -> Array:
        """Unweighted residuals (rows, d); 0 where nothing was observed."""
        y, _ = self.solve(x, free)
        return np.where(self.root > 0, y - self.data, 0.0)

    def linearise(self, x: Array, free: Array) -> Linearised | None:
        """The normal equations; None where a trajectory cannot be solved, or is chaos."""
        theta = self.coordinates.theta(x)
        n = len(x)
        B, d = self.y0.shape
        H = np.zeros((n, n))
        g = np.zeros(n)
        loss = self._pull(free)
        shift = self.prior * (free - self.y0)
        A = np.zeros((B, d, d))
        C = np.zeros((B, d, n))
        z = np.zeros((B, d))
        for which, problem in self.parts:
            raw = problem.run(theta, np.ascontiguousarray(free[which]))
            self.nfe += int(raw["nfe"].sum())
            rows = slice(self.start[which.start], self.stop[which.stop - 1])
            J = raw["sensitivity"]
            root = self.root[rows]
            alive = self.alive[which]
            if (raw["status"][alive] != OK).any():
                return None
            if not alive.all():
                dead = np.repeat(~alive, self.length[which])
                J[dead] = 0.0
                raw["y"][dead] = 0.0
            if not np.abs(J).max(initial=0.0) < HUGE:  # NaN too
                return None
            if not self.coordinates.trivial:
                p = len(theta)
                J = np.concatenate([self.coordinates.jacobian(x, J[:, :, :p]), J[:, :, p:]], axis=2)
            J *= root[:, :, None]
            r = root * (raw["y"] - self.data[rows])
            loss += float((r * r).sum())
            A[which], C[which], z[which] = self._condense(J, r, which, n, H, g)
            A[which, range(d), range(d)] += self.prior[which]
            z[which] += shift[which]
        try:
            here = Linearised.of_free(loss, FreeStates(H, g, C, A, z, self.room(free)))
        except np.linalg.LinAlgError:  # sensitivities of chaos, all along one direction
            return None
        return here if np.isfinite(here.H).all() else None

    def projected(self, x: Array, free: Array) -> tuple[Array, Array] | None:
        """(J^T J of the shared coordinates (n, n), the free states eliminated; its diagonal before); None as `linearise`.

        It takes a third of the time of `linearise`, in single precision, and gives no gradient. Of single precision
        effective numbers of parameters differ by a fortieth of what they do by rows left out.
        """
        n = len(x)
        H = np.zeros((n, n))
        diagonal = np.zeros(n)
        for found in self._beside_states(x, free):
            if found is None:
                return None
            left, size = found
            H += single_gram(left, size)
            diagonal += size**2
        return H, diagonal

    def rows(self, x: Array, free: Array) -> tuple[Array, Array] | None:
        """(J of the shared coordinates (rows d, n), the free states eliminated; squares of its columns before)."""
        pieces = []
        diagonal = np.zeros(len(x))
        for found in self._beside_states(x, free):
            if found is None:
                return None
            left, size = found
            pieces.append(left.reshape(-1, len(x)) * size)
            diagonal += size**2
        return np.concatenate(pieces), diagonal

    def _beside_states(self, x: Array, free: Array) -> Iterator[tuple[NDArray[np.float32], Array] | None]:
        """For each part (J (rows, d, n) over the sizes (n,) of its columns, those sizes); None where it cannot be had.

        The Jacobian of each trajectory is projected, beside what its own free state does; their priors are counted with the
        states only, and have to be weak.
        """
        theta = self.coordinates.theta(x)
        n = len(x)
        d = free.shape[1]
        for which, problem in self.parts:
            raw = problem.run(theta, np.ascontiguousarray(free[which]))
            self.nfe += int(raw["nfe"].sum())
            rows = slice(self.start[which.start], self.stop[which.stop - 1])
            J = raw["sensitivity"]
            J[np.repeat(~self.alive[which], self.length[which])] = 0.0
            if (raw["status"][self.alive[which]] != OK).any() or not np.abs(J).max(initial=0.0) < HUGE:  # NaN too
                yield None
                return
            J *= self.root[rows, :, None]
            shared = self.coordinates.jacobian(x, J[:, :, : len(theta)])
            size = column_sizes(shared)
            left = in_single(shared, size)
            for k, (a, m) in enumerate(zip(self.start[which] - self.start[which.start], self.length[which], strict=True)):
                own = J[a : a + m, :, len(theta) :].reshape(m * d, d)
                block = left[a : a + m].reshape(m * d, n)
                precision = own.T @ own + np.diag(self.prior[which.start + k])
                try:
                    gain = np.linalg.solve(precision, own.T)
                except np.linalg.LinAlgError:
                    yield None
                    return
                block -= own.astype(np.float32) @ (gain.astype(np.float32) @ block)
            yield left, size

    def each(self, x: Array, free: Array) -> tuple[Array, Array, Array]:
        """For each trajectory by itself, with x known: half its sum of squares (B,), its gradient (B, d), J^T J (B, d, d).

        The sum is infinite where the trajectory cannot be solved.
        """
        theta = self.coordinates.theta(x)
        n = len(theta)
        d = self.y0.shape[1]
        shift = free - self.y0
        value = 0.5 * (self.prior * shift**2).sum(axis=1)
        gradient = self.prior * shift
        matrix = self.prior[:, :, None] * np.eye(d)
        for which, problem in self.parts:
            raw = problem.run(theta, np.ascontiguousarray(free[which]))
            self.nfe += int(raw["nfe"].sum())
            rows = slice(self.start[which.start], self.stop[which.stop - 1])
            start = self.start[which] - self.start[which.start]
            J = raw["sensitivity"][:, :, n:]
            root = self.root[rows]
            with np.errstate(invalid="ignore", over="ignore"):
                J = J * root[:, :, None]
                r = root * (raw["y"] - self.data[rows])
                value[which] += 0.5 * np.add.reduceat((r * r).sum(axis=1), start)
                gradient[which] += np.add.reduceat(np.einsum("nci,nc->ni", J, r), start)
                matrix[which] += np.add.reduceat(np.einsum("nci,ncj->nij", J, J), start)
            lost = (raw["status"] != OK) | ~(np.maximum.reduceat(np.abs(J).max(axis=(1, 2)), start) < HUGE)
            value[which] = np.where(lost, np.inf, value[which])
        return value, gradient, matrix

    def _condense(self, J: Array, r: Array, which: slice, n: int, H: Array, g: Array) -> tuple[Array, Array, Array]:
        """Add the shared coordinates' part of J^T J to H and of J^T r to g.

        Returns J^T J (B, d, d) of the free states, C (B, d, n) between them and the shared coordinates, and J^T r (B, d).
        """
        rows, d, width = J.shape
        H += gram(J.reshape(rows * d, width))[:n, :n]
        g += J[:, :, :n].reshape(rows * d, n).T @ r.ravel()
        Jy = J[:, :, n:]
        start = self.start[which] - self.start[which.start]
        A = np.add.reduceat(np.einsum("nci,ncj->nij", Jy, Jy), start, axis=0)
        z = np.add.reduceat(np.einsum("nci,nc->ni", Jy, r), start, axis=0)
        length = self.length[which]
        if (length == length[0]).all():
            whole = J.reshape(len(length), length[0] * d, width)
            C = np.matmul(whole[:, :, n:].transpose(0, 2, 1), whole[:, :, :n])
        else:
            pieces = [J[a : a + m].reshape(m * d, width) for a, m in zip(start, length, strict=True)]
            C = np.stack([piece[:, n:].T @ piece[:, :n] for piece in pieces])
        return A, C, z


class Weights:
    """Weights and noise of a problem, for checkpoints."""

    def __init__(self, problem: ShootingProblem, noise: Noise) -> None:
        self.problem = problem
        self.noise = noise

    def saved(self) -> dict[str, Any]:
        """The state as plain data."""
        return {"root": self.problem.root, "prior": self.problem.prior, "variance": self.noise.variance}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from `saved()`."""
        self.problem.root = saved["root"]
        self.problem.prior = saved["prior"]
        self.noise.variance = saved["variance"]


def _size(y: Array) -> Array:
    """(d,) mean squares of states (B, d); 1 where all are 0."""
    size = (y * y).mean(axis=0)
    return np.where(size > 0, size, 1.0)
