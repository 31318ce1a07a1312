"""Trajectories that a random force drives: residuals of the data, and of the equation from each reading to the next.

dz = f(z) dt + L dW with L L' = Q = diag(q). Between two readings the force moves the state by a random w, and what is read
has noise on top. All states at the times of the readings are free:

    E = sum (y - z)^2 / s + sum w' W^-1 w,    w = z_{k+1} - flow(z_k),

W is the integral of F Q F' over the interval, F the derivative of its end with respect to the state on the way: by Simpson's
rule dt (Q + 4 A Q A' + F Q F') / 6, with F that of the whole interval and A = (1 + F) / 2 about that of half of it, both as
they were when the variances were last estimated. The minimum over the states is the smoothed path (weak-constraint 4D-Var;
Jazwinski 1970, Stochastic processes and filtering theory, chapter 5). The variances s and q follow from how much of each
residual the fit has not used up (MacKay 1992, Neural Computation 4, 415, eq. 4.10-4.12, for both kinds of residuals).

Readings with outliers have Student's or Huber's density. Below its logarithm lies that of a Gaussian whose variance is that
of the reading over a weight, highest where the weight is that of the mean square of the residual, the state's own variance
counted in. So the weights are estimated with the variances, and a bound of the likelihood rises (variational Bayes: Piche,
Sarkka and Hartikainen 2012, IEEE Workshop on Machine Learning for Signal Processing). The force stays Gaussian.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.calls.sensitivities import SensitivityProblem
from pynode.errors import OK
from pynode.fields.field import Field
from pynode.optim.chains import ChainedStates
from pynode.optim.normal_equations import Linearised, gram
from pynode.training.coordinates import Coordinates
from pynode.training.error_models import density
from pynode.training.noise import robust_weight
from pynode.training.shooting import HUGE
from pynode.training.windows import Data

Array = NDArray[np.float64]

WEAK = 1e-8
"""The weak prior of the states counts as much as this part of a reading."""

SHORTEST = 1e-3
"""The force acts for at least this part of the median interval, so that readings at the same time stay apart a little."""

DIFFERENCE = 0.1
"""Of standard errors, over which differences are taken."""

FASTEST = 4.0
"""The most by which an estimate of a variance differs from the one before ..."""

FURTHER = 1.6
"""... and the power of that ratio that is taken: estimates approach their limit from one side, slowly. Where weights are
estimated with them it is 1: they may pass it, and would go to and fro."""


@dataclass
class Strengths:
    """The variances of both kinds of residuals.

    Attributes
    ----------
    reading : (d,) array
        Of the noise of readings, s.
    force : (d,) array
        Of the random force in a unit of time, q.
    """

    reading: Array
    force: Array


@dataclass(frozen=True)
class Point:
    """A point that was solved: its residuals and their derivatives."""

    x: Array
    free: Array
    w: Array  # (M, d) flow(z_k) - z_{k+1}
    by_theta: Array  # (M, d, n)
    by_state: Array  # (M, d, d)


class DrivenProblem:
    """The states at all readings as free states of Levenberg-Marquardt, see `pynode.optim.normal_equations.Problem`.

    Parameters
    ----------
    field : Field
    data : Data
        The trajectories.
    states : (N, d) array
        Where the states at the readings start, all trajectories one after the other.
    strengths : Strengths
        The variances; `settle` re-estimates them.
    least : (d,) array
        Variances of readings below this are rounding.
    coordinates : Coordinates
        Those that are varied in place of theta.
    noise : {"gaussian", "huber", "student"}
        The distribution of the noise of readings.
    **options
        See `pynode.solve`.
    """

    def __init__(
        self,
        field: Field,
        data: Data,
        states: Array,
        strengths: Strengths,
        least: Array,
        coordinates: Coordinates,
        noise: str = "gaussian",
        **options: Any,
    ) -> None:
        self.field = field
        self.strengths = strengths
        self.least = least
        self.coordinates = coordinates
        self.noise = noise
        self.start = states.copy()
        length = np.array([len(t) for t in data.t])
        self.ends = np.cumsum(length) - 1
        inner = np.ones(len(states), bool)
        inner[self.ends] = False
        self.at = np.flatnonzero(inner)
        """Rows that have a following one."""
        t = np.concatenate(data.t)
        pairs = [np.array([t[k], t[k + 1]]) for k in self.at]
        owner = np.repeat(np.arange(len(length)), length)[self.at]
        signal = None if data.signal is None else data.signal.take(owner)
        self.flow = SensitivityProblem(field, states[self.at], pairs, inputs=signal, **options) if len(pairs) else None
        step = np.array([b - a for a, b in pairs])
        usual = np.median(step[step > 0]) if (step > 0).any() else 1.0
        self.step = np.maximum(step, SHORTEST * usual)
        d = field.d
        self.before = np.broadcast_to(np.eye(d), (len(step), d, d))
        """F when the variances were last estimated."""
        self._precise: tuple[Array, Array] | None = None
        y = np.concatenate(data.y)
        self.seen = ~np.isnan(y)
        self.y = np.where(self.seen, y, 0.0)
        given = 1.0 if data.weight is None else np.concatenate(data.weight)
        self.precision = np.where(self.seen, given, 0.0)
        """The user's weights of readings, 0 where nothing was read ..."""
        self.given = self.precision
        """... and with those that bear outliers."""
        self.n_observed = int(self.seen.sum())
        self.n_free = states.size
        self.nfe = 0
        self.weak = WEAK / np.maximum(strengths.reading, least)
        self.point: Point | None = None

    # ---- What Levenberg-Marquardt asks

    def loss(self, x: Array, free: Array) -> float:
        """The deviance; infinite where a stretch cannot be solved."""
        if self.flow is None:
            return float(self._reading_loss(free))
        raw = self.flow.setup.run(np.ascontiguousarray(self.coordinates.theta(x)), y0=np.ascontiguousarray(free[self.at]))
        self.nfe += int(raw["nfe"].sum())
        if (raw["status"] != OK).any():
            return np.inf
        w = raw["y"][1::2] - free[self.at + 1]
        return float(self._reading_loss(free) + self._push(w))

    def linearise(self, x: Array, free: Array) -> Linearised | None:
        """The normal equations; None where a stretch cannot be solved."""
        point = self._solved(x, free)
        if point is None:
            return None
        N, d = free.shape
        n = len(x)
        precise, _ = self._precision()
        C = np.zeros((N, d, n))
        A = np.zeros((N, d, d))
        following = np.zeros((N, d, d))
        z = np.zeros((N, d))
        weight = self.given / self.strengths.reading
        A[:, range(d), range(d)] = weight + self.weak
        z += weight * (free - self.y) + self.weak * (free - self.start)
        scaled = precise @ point.by_state
        pushed = np.einsum("kij,kj->ki", precise, point.w)
        A[self.at] += np.einsum("kci,kcj->kij", point.by_state, scaled)
        A[self.at + 1] += precise
        following[self.at] = -scaled.transpose(0, 2, 1)
        z[self.at] += np.einsum("kci,kc->ki", point.by_state, pushed)
        z[self.at + 1] -= pushed
        moved = precise @ point.by_theta
        C[self.at] += np.matmul(point.by_state.transpose(0, 2, 1), moved)
        C[self.at + 1] -= moved
        root = (np.linalg.cholesky(precise).transpose(0, 2, 1) @ point.by_theta).reshape(-1, n)
        H = gram(root) if len(root) else np.zeros((n, n))
        g = np.einsum("kci,kc->i", point.by_theta, pushed)
        loss = float(self._reading_loss(free) + self._push(point.w))
        chain = ChainedStates(H, g, C, A, following, z)
        try:
            H, g, gain, _ = chain.eliminated()
        except np.linalg.LinAlgError:
            return None
        return Linearised(loss, H, g, chain, gain) if np.isfinite(H).all() else None

    # ---- The variances

    def settle(self, state: Any) -> float:
        """Estimate the variances again; the largest part by which one of them changed."""
        here = self.linearise(state.theta, state.free)
        if here is None or self.point is None:
            return 0.0
        assert isinstance(here.free, ChainedStates)
        assert here.free_gain is not None
        point, at = self.point, self.at
        strengths = self.strengths
        spread, between = here.free.covariances()
        shared = np.linalg.pinv(here.H + np.diag(state.alpha), hermitian=True)
        gain = here.free_gain

        def of_theta(J: Array) -> Array:
            """(.., d) variances that the uncertainty of the shared coordinates adds."""
            return np.asarray(((J @ shared) * J).sum(axis=-1))

        squares = (self.y - state.free) ** 2
        own = np.einsum("kii->ki", spread) + of_theta(gain)
        weighed = self.weigh(state.free, own)
        left = (squares * self.given).sum(axis=0) / strengths.reading
        taken = own * self.given / strengths.reading
        used = taken.sum(axis=0)
        power = FURTHER if self.noise == "gaussian" else 1.0
        reading = strengths.reading * _ratio(left, self.seen.sum(axis=0) - used, self.seen.sum(axis=0), power)
        phi = point.by_state
        V = phi @ spread[at] @ phi.transpose(0, 2, 1) + spread[at + 1]
        cross = phi @ between[at]
        V -= cross + cross.transpose(0, 2, 1)
        moved = point.by_theta - phi @ gain[at] + gain[at + 1]
        V += moved @ shared @ moved.transpose(0, 2, 1)
        precise, _ = self._precision()
        pushed = np.einsum("kij,kj->ki", precise, point.w)
        force = strengths.force.copy()
        for c in range(len(force)):
            part = self._shape(c)
            whole = float(np.einsum("kij,kji->", precise, part))
            inside = float(np.einsum("kij,kjl,klm,kmi->", precise, part, precise, V))
            pushes = float(np.einsum("ki,kij,kj->", pushed, part, pushed))
            force[c] *= float(_ratio(np.array(pushes), np.array(whole - inside), np.array(whole), power))
        reading = np.where(self.seen.any(axis=0), np.maximum(reading, self.least), strengths.reading)
        new = Strengths(reading, force)
        changes = [abs(np.log(new.reading / strengths.reading)), abs(np.log(new.force / strengths.force))]
        # a force that all but vanishes goes on to vanish: it need not be known to a part
        small = force * np.median(self.step) < 1e-3 * new.reading
        changes[1] = np.where(small, 0.0, changes[1])
        turned = float(np.abs(phi - self.before).max(initial=0.0))
        self.strengths = new
        self.before = phi
        self._precise = None
        return max(turned, weighed, *(float(np.max(c, initial=0.0)) for c in changes))

    def weigh(self, free: Array, own: Array) -> float:
        """Estimate the weights that bear outliers again, from states with variances own (N, d); the largest change."""
        if self.noise == "gaussian":
            return 0.0
        before = self.given
        self.given = self.precision * robust_weight(self.noise, self._standardised(free, own))
        seen = self.given > 0
        return float(np.abs(self.given[seen] / before[seen] - 1).max(initial=0.0))

    def log_likelihood(self, state: Any) -> float:
        """ln p(data), the states integrated out but for the initial ones, which have the likeliest values (Laplace).

        Where outliers are borne it is the bound that the weights raise.
        """
        here = self.linearise(state.theta, state.free)
        if here is None:
            return -np.inf
        assert isinstance(here.free, ChainedStates)
        starts = np.append(0, self.ends[:-1] + 1)
        spread = here.free.covariances()[0]
        first = spread[starts]
        _, volume = self._precision()
        noise = (self.strengths.reading / np.where(self.seen, self.given, 1.0))[self.given > 0]
        free = here.free.log_determinant() + np.linalg.slogdet(first)[1].sum()
        spare = self.n_observed * np.log(2 * np.pi)
        *_, shift = here.free.eliminated()
        loss = here.loss + here.free.change(np.zeros(len(state.theta)), -shift)  # of the best states
        fit = float(-0.5 * (loss + np.log(noise).sum() + volume.sum() + free + spare))
        return fit + self._above(state.free - shift, np.einsum("kii->ki", spread))

    def likeliest(self, state: Any) -> None:
        """Move from the likeliest parameters and states together to the likeliest parameters, the states integrated out.

        ln |T| of the states' matrix depends on the parameters; its slope is found by central differences, the states
        following (one Newton step; it is a part of a standard error).
        """
        here = self.linearise(state.theta, state.free)
        if here is None:
            return
        assert here.free_gain is not None
        shared = np.linalg.pinv(here.H + np.diag(state.alpha), hermitian=True)
        slope = np.zeros(len(state.theta))
        for i, width in enumerate(DIFFERENCE * np.sqrt(np.diag(shared))):
            volumes = []
            for h in (width, -width):
                x = state.theta.copy()
                x[i] += h
                there = self.linearise(x, state.free - here.free_gain[:, :, i] * h)
                if there is None or not width > 0:
                    return
                assert isinstance(there.free, ChainedStates)
                volumes.append(there.free.log_determinant())
            slope[i] = (volumes[0] - volumes[1]) / (2 * width)
        step = -0.5 * shared @ slope
        theta = state.theta + step
        free = state.free - here.free_gain @ step
        if np.isfinite(self.loss(theta, free)):
            state.theta, state.free = theta, free

    def restore(self, strengths: Strengths, before: Array, given: Array) -> None:
        """Go on with these variances and weights."""
        self.strengths = strengths
        self.given = given
        self.before = before
        self._precise = None

    # ---- Parts

    def _standardised(self, free: Array, own: Array) -> Array:
        """Expected squares (N, d) of residuals, of states with variances own, over the noise; 0 where nothing was read."""
        return self.precision * ((self.y - free) ** 2 + own) / self.strengths.reading

    def _above(self, free: Array, spread: Array) -> float:
        """By how much the bound of the log-likelihood is above that of Gaussian readings with the weights."""
        if self.noise == "gaussian":
            return 0.0
        seen = self.precision > 0
        r2 = self._standardised(free, spread)[seen]
        weight = self.given[seen] / self.precision[seen]
        gaussian = weight * r2 - np.log(weight) + np.log(2 * np.pi)
        return float(0.5 * (gaussian - density(self.noise).deviance(np.sqrt(r2))).sum())

    def _reading_loss(self, free: Array) -> Any:
        pull = self.weak * (free - self.start) ** 2
        return (self.given * (free - self.y) ** 2 / self.strengths.reading).sum() + pull.sum()

    def _push(self, w: Array) -> float:
        return float(np.einsum("ki,kij,kj->", w, self._precision()[0], w))

    def _shape(self, c: int) -> Array:
        """(M, d, d) W where the force on state c alone has the variance 1."""
        end = self.before[:, :, c]
        start = np.zeros(end.shape)
        start[:, c] = 1.0
        total = sum(weight * np.einsum("ki,kj->kij", x, x) for weight, x in ((1, start), (4, 0.5 * (start + end)), (1, end)))
        return np.asarray(self.step[:, None, None] / 6 * total)

    def _precision(self) -> tuple[Array, Array]:
        """((M, d, d) inverses of W, (M,) logarithms of its determinants)."""
        if self._precise is None:
            shapes = [q * self._shape(c) for c, q in enumerate(self.strengths.force)]
            W = np.sum(shapes, axis=0)
            self._precise = np.linalg.inv(W), np.linalg.slogdet(W)[1]
        return self._precise

    def _solved(self, x: Array, free: Array) -> Point | None:
        """Residuals and derivatives, kept for the case that only the variances change."""
        known = self.point
        if known is not None and np.array_equal(known.x, x) and np.array_equal(known.free, free):
            return known
        theta = np.ascontiguousarray(self.coordinates.theta(x))
        p, d = len(theta), free.shape[1]
        if self.flow is None:
            self.point = Point(x.copy(), free.copy(), np.zeros((0, d)), np.zeros((0, d, len(x))), np.zeros((0, d, d)))
            return self.point
        raw = self.flow.run(theta, np.ascontiguousarray(free[self.at]))
        self.nfe += int(raw["nfe"].sum())
        J = raw["sensitivity"][1::2]
        if (raw["status"] != OK).any() or not np.abs(J).max(initial=0.0) < HUGE:
            return None
        by_theta = J[:, :, :p]
        if not self.coordinates.trivial:
            by_theta = self.coordinates.jacobian(x, by_theta)
        w = raw["y"][1::2] - free[self.at + 1]
        self.point = Point(x.copy(), free.copy(), w, np.ascontiguousarray(by_theta), np.ascontiguousarray(J[:, :, p:]))
        return self.point


def _ratio(squares: Array, left: Array, whole: Array, power: float) -> Array:
    """By what a variance changes: squares of residuals over the freedom that the fit has left of `whole`, to a power."""
    ratio = squares / np.maximum(np.maximum(left, 1e-3 * whole), 1e-300)
    return np.asarray(np.clip(ratio, 1 / FASTEST, FASTEST) ** power)
