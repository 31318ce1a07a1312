"""Residuals and their exact Jacobians: what Levenberg-Marquardt minimises.

A problem has shared coordinates x (n,), from which the parameters theta follow (`pynode.fit.coordinates`), and, where it
solves trajectories, a free initial state (d,) for each of them. Its linearisation is condensed at once to normal
equations, in which the free states are eliminated (Schur complement), so that whatever the number of trajectories a step
solves an (n, n) system. Trajectories are taken in parts of limited memory, in a fixed order.
"""

import numpy as np

from pynode.engine.sensitivities import SensitivityProblem
from pynode.errors import OK
from pynode.optim.normal_equations import Linearised, gram
from pynode.training.coordinates import Coordinates

HUGE = 1e100
"""Sensitivities beyond this are those of chaos over too long a time: nothing can be learned from them."""


PART = 8_000_000
"""Numbers of a Jacobian that are held at once."""


class ShootingProblem:
    """Residuals y(t; theta, y0) - data of trajectories (or windows of them), their initial states free.

    Parameters
    ----------
    field : Field
    data : Data
    y0 : (B, d) array
        Where the initial states start.
    weight : (d,) array or (rows, d) array
        Of the squares.
    prior : (B, d) array, optional
        A weak pull of the free states to y0, as precisions: keeps states that nothing observes in place.
    coordinates : Coordinates, optional
    **options : see `pynode.solve`

    Attributes
    ----------
    alive : (B,) bool array
        Trajectories that could not be solved at the start are left out.
    """

    def __init__(self, field, data, y0, weight=1.0, prior=None, coordinates=None, **options):
        self.coordinates = Coordinates.all_free(field.n_params) if coordinates is None else coordinates
        self.y0, self.n_free = np.array(y0), np.size(y0)
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
        self.prior = np.full(self.y0.shape, 1e-8) if prior is None else prior
        self.alive = np.ones(len(self.y0), bool)
        self.nfe = 0

    def set_weight(self, weight):
        """New weights (rows, d) of the squares; what is not observed stays so."""
        self.root = np.where(self.root > 0, np.sqrt(weight), 0.0)

    def leave_out(self, dead):
        """Leave trajectories (B,) bool out."""
        self.alive &= ~dead
        self.root[np.repeat(~self.alive, self.length)] = 0.0
        self.n_observed = int((self.root > 0).sum())

    def solve(self, x, free):
        """(y (rows, d), 0 in trajectories left out; status (B,))."""
        theta, ys, status = np.ascontiguousarray(self.coordinates.theta(x)), [], []
        for which, problem in self.parts:
            raw = problem.setup.run(theta, y0=np.ascontiguousarray(free[which]))
            self.nfe += int(raw["nfe"].sum())
            ys.append(raw["y"])
            status.append(raw["status"])
        y = ys[0] if len(ys) == 1 else np.concatenate(ys)
        return np.where(np.repeat(self.alive, self.length)[:, None], y, 0.0), np.concatenate(status)

    def failed(self, x, free):
        """(B,) whether a trajectory cannot be solved."""
        return self.solve(x, free)[1] != OK

    def _pull(self, free):
        return float((self.prior * (free - self.y0) ** 2).sum())

    def loss(self, x, free):
        y, status = self.solve(x, free)
        if (status[self.alive] != OK).any():
            return np.inf
        return float(((self.root * (y - self.data)) ** 2).sum()) + self._pull(free)

    def residual(self, x, free):
        """Unweighted residuals (rows, d); 0 where nothing was observed."""
        y, _ = self.solve(x, free)
        return np.where(self.root > 0, y - self.data, 0.0)

    def linearise(self, x, free):
        theta, n, d = self.coordinates.theta(x), len(x), self.y0.shape[1]
        H, g, loss = np.zeros((n, n)), np.zeros(n), self._pull(free)
        shift = self.prior * (free - self.y0)
        A, z, X, s = (
            np.zeros((len(free), d, d)),
            np.zeros((len(free), d)),
            np.zeros((len(free), d, n)),
            np.zeros((len(free), d)),
        )
        for which, problem in self.parts:
            raw = problem.run(theta, np.ascontiguousarray(free[which]))
            self.nfe += int(raw["nfe"].sum())
            rows = slice(self.start[which.start], self.stop[which.stop - 1])
            J, root, alive = raw["sensitivity"], self.root[rows], self.alive[which]
            if (raw["status"][alive] != OK).any():
                return None
            if not alive.all():
                dead = np.repeat(~alive, self.length[which])
                J[dead], raw["y"][dead] = 0.0, 0.0
            if not np.abs(J).max(initial=0.0) < HUGE:  # NaN too
                return None
            if not self.coordinates.trivial:
                p = len(theta)
                J = np.concatenate([self.coordinates.jacobian(x, J[:, :, :p]), J[:, :, p:]], axis=2)
            J *= root[:, :, None]
            r = root * (raw["y"] - self.data[rows])
            loss += float((r * r).sum())
            A[which], C, z[which] = self._condense(J, r, which, n, H, g)
            A[which, range(d), range(d)] += self.prior[which]
            z[which] += shift[which]
            try:
                X[which] = np.linalg.solve(A[which], C)
                s[which] = np.linalg.solve(A[which], z[which, :, None])[:, :, 0]
            except np.linalg.LinAlgError:  # sensitivities of chaos, all along one direction
                return None
            rows_of = C.reshape(len(C) * d, n).T
            H -= rows_of @ X[which].reshape(len(C) * d, n)
            g -= rows_of @ s[which].ravel()
        if not np.isfinite(H).all():
            return None
        return Linearised(loss, H, g, lambda step: -(s + X @ step), float((s * z).sum()), X, A, z)

    def each(self, x, free):
        """Each trajectory by itself, x known: half its squares (B,), their gradients (B, d), J^T J (B, d, d).

        Infinite where it cannot be solved.
        """
        theta, n, d = self.coordinates.theta(x), len(x), self.y0.shape[1]
        shift = free - self.y0
        value = 0.5 * (self.prior * shift**2).sum(axis=1)
        gradient, matrix = self.prior * shift, self.prior[:, :, None] * np.eye(d)
        for which, problem in self.parts:
            raw = problem.run(theta, np.ascontiguousarray(free[which]))
            self.nfe += int(raw["nfe"].sum())
            rows = slice(self.start[which.start], self.stop[which.stop - 1])
            start = self.start[which] - self.start[which.start]
            J, root = raw["sensitivity"][:, :, n:], self.root[rows]
            with np.errstate(invalid="ignore", over="ignore"):
                J = J * root[:, :, None]
                r = root * (raw["y"] - self.data[rows])
                value[which] += 0.5 * np.add.reduceat((r * r).sum(axis=1), start)
                gradient[which] += np.add.reduceat(np.einsum("nci,nc->ni", J, r), start)
                matrix[which] += np.add.reduceat(np.einsum("nci,ncj->nij", J, J), start)
            lost = (raw["status"] != OK) | ~(np.maximum.reduceat(np.abs(J).max(axis=(1, 2)), start) < HUGE)
            value[which] = np.where(lost, np.inf, value[which])
        return value, gradient, matrix

    def _condense(self, J, r, which, n, H, g):
        """Add J^T J and J^T r of the shared coordinates to H and g; those of the free states, and between the two."""
        rows, d, width = J.shape
        H += gram(J.reshape(rows * d, width))[:n, :n]
        g += J[:, :, :n].reshape(rows * d, n).T @ r.ravel()
        Jy, start = J[:, :, n:], self.start[which] - self.start[which.start]
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
