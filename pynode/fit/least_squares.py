"""Residuals and their exact Jacobians: what Levenberg-Marquardt minimises.

A problem has shared parameters theta (p,) and, where it solves trajectories, a free initial state (d,) for each of them.
Its linearisation is condensed at once to normal equations, in which the free states are eliminated (Schur complement), so
that whatever the number of trajectories a step solves a (p, p) system.
"""

from dataclasses import dataclass

import numpy as np

from pynode.errors import OK
from pynode.fields import run
from pynode.jacobians import SensitivityProblem
from pynode.transforms import jacobian

HUGE = 1e100
"""Sensitivities beyond this are those of chaos over too long a time: nothing can be learned from them."""


@dataclass(frozen=True)
class Linearised:
    """Normal equations at a point, for the weighted sum of squares E = sum (w r)^2.

    Attributes
    ----------
    loss : float
        E.
    H, g : (p, p), (p,)
        J^T J and J^T r of the shared parameters, with the free states eliminated.
    step_free : callable
        step of theta (p,) -> the best step of the free states (B, d) with it; None where there are none.
    gain_free : float
        What the free states alone gain: z^T A^-1 z, part of the decrease that a step predicts.
    free_gain, free_precision : (B, d, p), (B, d, d) or None
        How the best free states follow theta, d free = -free_gain d theta, and J^T J of the free states.
    """

    loss: float
    H: np.ndarray
    g: np.ndarray
    step_free: object = None
    gain_free: float = 0.0
    free_gain: np.ndarray | None = None
    free_precision: np.ndarray | None = None


class MatchingProblem:
    """Residuals f(t, y; theta) - slope at points, each row weighted.

    Parameters
    ----------
    field : Field
    t : (n,) array
    y, slope : (n, d) arrays
    weight : (n, d) or (d,) array
        Of the squares.
    """

    def __init__(self, field, t, y, slope, weight=1.0):
        self.field, self.slope = field, slope
        self.point = {"t": t, "y": y, "u": None}
        self.root = np.sqrt(np.broadcast_to(weight, slope.shape))
        self.n_observed, self.n_free = int((self.root > 0).sum()), 0
        self.jacobian = jacobian(field, wrt="theta").program

    def residual(self, theta):
        (value,), _ = run(self.field.program, self.point, [theta])
        return self.root * (value - self.slope)

    def loss(self, theta, free=None):
        r = self.residual(theta)
        return float((r * r).sum())

    def linearise(self, theta, free=None):
        r = self.residual(theta)
        (J,), _ = run(self.jacobian, self.point, [theta])
        J = J.reshape(r.size, -1) * self.root.reshape(-1, 1)
        return Linearised(float((r * r).sum()), J.T @ J, J.T @ r.ravel())


class ShootingProblem:
    """Residuals y(t; theta, y0) - data of trajectories (or windows of them), their initial states free.

    Parameters
    ----------
    field : Field
    t : list of (T_i,) arrays
    y : list of (T_i, d) arrays
        NaN: not observed.
    y0 : (B, d) array
        Where the initial states start.
    weight : (d,) array or list of (T_i, d) arrays
        Of the squares.
    prior : (B, d) array, optional
        A weak pull of the free states to y0, as precisions: keeps states that nothing observes in place.
    **options : see `pynode.solve`
    """

    def __init__(self, field, t, y, y0, weight=1.0, prior=None, **options):
        self.problem = SensitivityProblem(field, y0, list(t), **options)
        self.data = np.concatenate(y)
        parts = [np.broadcast_to(w, v.shape) for w, v in zip(weight, y, strict=True)] if isinstance(weight, list) else None
        weight = np.concatenate(parts) if parts else np.broadcast_to(weight, self.data.shape)
        self.root = np.where(np.isnan(self.data), 0.0, np.sqrt(weight))
        self.data = np.where(np.isnan(self.data), 0.0, self.data)
        self.n_observed = int((self.root > 0).sum())
        self.length = np.array([len(v) for v in y])
        self.start = np.concatenate([[0], np.cumsum(self.length)[:-1]])
        self.y0, self.n_free = np.array(y0), np.size(y0)
        self.prior = np.full(self.y0.shape, 1e-8) if prior is None else prior
        self.nfe = 0

    def set_weight(self, weight):
        """New weights (rows, d) of the squares; what is not observed stays so."""
        self.root = np.where(self.root > 0, np.sqrt(weight), 0.0)

    def solve(self, theta, free):
        """(y (rows, d), whether every trajectory was solved)."""
        raw = self.problem.setup.run(np.ascontiguousarray(theta), y0=np.ascontiguousarray(free))
        self.nfe += int(raw["nfe"].sum())
        return raw["y"], bool((raw["status"] == OK).all())

    def _pull(self, free):
        return float((self.prior * (free - self.y0) ** 2).sum())

    def loss(self, theta, free):
        y, ok = self.solve(theta, free)
        return float(((self.root * (y - self.data)) ** 2).sum()) + self._pull(free) if ok else np.inf

    def residual(self, theta, free):
        """Unweighted residuals (rows, d); 0 where nothing was observed."""
        y, _ = self.solve(theta, free)
        return np.where(self.root > 0, y - self.data, 0.0)

    def linearise(self, theta, free):
        raw = self.problem.run(theta, free)
        self.nfe += int(raw["nfe"].sum())
        if (
            (raw["status"] != OK).any()
            or not np.isfinite(raw["sensitivity"]).all()
            or np.abs(raw["sensitivity"]).max() > HUGE
        ):
            return None
        d = self.y0.shape[1]
        p = len(theta)
        r = self.root * (raw["y"] - self.data)
        J = raw["sensitivity"]
        J *= self.root[:, :, None]
        Jt, Jy = J[:, :, :p].reshape(-1, p), J[:, :, p:]
        H, g = Jt.T @ Jt, Jt.T @ r.ravel()
        A = np.add.reduceat(np.einsum("nci,ncj->nij", Jy, Jy), self.start, axis=0)
        A[:, range(d), range(d)] += self.prior
        z = np.add.reduceat(np.einsum("nci,nc->ni", Jy, r), self.start, axis=0) + self.prior * (free - self.y0)
        C = np.stack(
            [
                J[a : a + n, :, p:].reshape(-1, d).T @ J[a : a + n, :, :p].reshape(-1, p)
                for a, n in zip(self.start, self.length, strict=True)
            ]
        )  # (B, d, p)
        X, s = np.linalg.solve(A, C), np.linalg.solve(A, z[:, :, None])[:, :, 0]
        flat = C.reshape(-1, p)
        loss, H = float((r * r).sum()) + self._pull(free), H - flat.T @ X.reshape(-1, p)
        if not np.isfinite(H).all():
            return None
        return Linearised(loss, H, g - flat.T @ s.ravel(), lambda step: -(s + X @ step), float((s * z).sum()), X, A)
