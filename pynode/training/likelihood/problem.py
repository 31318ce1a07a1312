"""The likelihood of readings under an experiment, as Levenberg-Marquardt sees it.

Unknown are the coordinates x of the parameters (`pynode.training.coordinates`), the logarithms of the parameters of the
error models, and the free initial state of each trajectory. Residuals are those of `pynode.training.error_models`: with
their Jacobians a step of Gauss-Newton is one of Fisher scoring, and J^T J is Fisher's information.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.data.scaling import FAR, STILL, spread_within
from pynode.experiments.forward import Course, Experiment
from pynode.optim.normal_equations import FreeStates, Linearised, gram
from pynode.training.coordinates import Coordinates
from pynode.training.error_models import ERROR_MODELS, density, scale, tail

Array = NDArray[np.float64]
Index = NDArray[np.intp]

WEAK = 1e-8
"""The precision of the weak prior of a free initial state, over the square of its size."""

ROUNDING = 1e-7
"""The part of the typical reading, or of FAR standard deviations where these are less, that is rounding."""

HUGE = 1e100
"""Derivatives beyond this come from chaos over too long a time."""


@dataclass(frozen=True)
class Readings:
    """Numbers that were measured.

    Attributes
    ----------
    row : (n,) int array
        The row of the experiment that each belongs to; replicates share one.
    sample : (n,) int array
        The trajectory.
    column : (n,) int array
        What was measured.
    value : (n,) array
        The number.
    censored : (n,) int array
        0; 1: it is below the value; -1: it is above the value.
    weight : (n,) array
        Relative precision.
    """

    row: Index
    sample: Index
    column: Index
    value: Array
    censored: Index
    weight: Array

    def __len__(self) -> int:
        return len(self.value)

    def take(self, which: Any) -> "Readings":
        """Some of them."""
        parts = (self.row, self.sample, self.column, self.value, self.censored, self.weight)
        return Readings(*(part[which] for part in parts))


def times_and_readings(
    t: Sequence[Array],
    y: Sequence[Array],
    weight: Sequence[Array] | None = None,
    censored: Sequence[NDArray[Any]] | None = None,
) -> tuple[list[Array], Readings]:
    """(the different times of each trajectory, the readings) of trajectories whose times may repeat.

    Parameters
    ----------
    t : sequence of (T_i,) arrays
        Times, rising; those of replicates are equal.
    y : sequence of (T_i, k) arrays
        Readings; NaN: none.
    weight, censored : sequences of (T_i, k) arrays, optional
        See `Readings`.
    """
    times: list[Array] = []
    parts = []
    first = 0
    for i, (own, values) in enumerate(zip(t, y, strict=True)):
        different, where = np.unique(own, return_inverse=True)
        times.append(different)
        row, column = np.nonzero(~np.isnan(values))
        w = np.ones(len(row)) if weight is None else weight[i][row, column]
        how = np.zeros(len(row), np.intp) if censored is None else np.asarray(censored[i], dtype=np.intp)[row, column]
        kept = w > 0
        sample = np.full(len(row), i, dtype=np.intp)
        part = (first + where[row], sample, column, values[row, column], how, w)
        parts.append([x[kept] for x in part])
        first += len(different)
    return times, Readings(*(np.concatenate(x) for x in zip(*parts, strict=True)))


class LikelihoodProblem:
    """Half of its loss is -log p(readings), the parameters of the error models being unknown too.

    Parameters
    ----------
    experiment : Experiment
        With p parameters, d states and B trajectories.
    readings : Readings
        What was measured.
    models : sequence of str
        The error model of each column, out of `ERROR_MODELS`.
    noise : {"gaussian", "student", "huber"}
        The distribution.
    coordinates : Coordinates
        The coordinates of the parameters that are varied.
    start : (B, d) array
        Where free initial states start.

    Attributes
    ----------
    n_noise : int
        Parameters of error models, the last entries of x.
    nfe : int
        Evaluations of the field so far.
    typical : (k,) array
        Root mean squares of the readings of each column.
    rounding : (k,) array
        Standard deviations of rounding.
    """

    def __init__(
        self,
        experiment: Experiment,
        readings: Readings,
        models: Sequence[str],
        noise: str,
        coordinates: Coordinates,
        start: Array,
    ) -> None:
        self.experiment = experiment
        self.readings = readings
        self.coordinates = coordinates
        self.noise = noise
        self.density = density(noise)
        self.models = [ERROR_MODELS[name] for name in models]
        self.columns = [np.flatnonzero(readings.column == c) for c in range(experiment.k)]
        count = [len(model.parameters) if len(rows) else 0 for model, rows in zip(self.models, self.columns, strict=True)]
        self.place = np.concatenate([[0], np.cumsum(count)])
        self.n_noise = int(self.place[-1])
        self.n_observed = len(readings)
        self.nfe = 0
        self.mask = experiment.initial.free
        self.n_free = int(self.mask.sum())
        self.low, self.high = experiment.initial.low, experiment.initial.high
        self.start = self.states_in(start)
        size = np.maximum(np.abs(self.start), np.abs(self.start).max(initial=0.0) * 1e-3)
        self.prior = np.where(self.mask, WEAK / np.where(size > 0, size, 1.0) ** 2, 1.0)
        self.typical = np.array([self._size(rows) for rows in self.columns])
        self.rounding = ROUNDING * np.array([self._reach(c) for c in range(len(self.columns))])
        self.order = np.argsort(readings.sample, kind="stable")

    def _size(self, rows: Index) -> float:
        values = self.readings.value[rows]
        return float(np.sqrt((values**2).mean())) or 1.0 if len(rows) else 1.0

    def _reach(self, c: int) -> float:
        """The size of typical readings of a column, or less where they are far from zero beside what they vary by."""
        typical = float(self.typical[c])
        if not len(self.columns[c]) or self.models[c].logarithmic:
            return 1.0 if self.models[c].logarithmic else typical
        rows = self.columns[c]
        cut = np.cumsum(np.bincount(self.readings.sample[rows]))[:-1]
        value = self.readings.value[rows][np.argsort(self.readings.sample[rows], kind="stable"), None]
        scale = FAR * float(spread_within([x for x in np.split(value, cut) if len(x)])[0])
        return scale if STILL * typical < scale < typical else typical

    # ---- Coordinates

    def states_in(self, y0: Array) -> Array:
        """The coordinates of initial states, in which those with bounds have none."""
        z: Array = np.where(self.mask, y0, 0.0)
        for j in range(y0.shape[1]):
            if np.isfinite(self.high[j]):
                part = (y0[:, j] - self.low[j]) / (self.high[j] - self.low[j])
                z[:, j] = np.log(part / (1 - part))
            elif np.isfinite(self.low[j]):
                z[:, j] = np.log(y0[:, j] - self.low[j])
        return np.where(self.mask, z, 0.0)

    def states_out(self, z: Array) -> tuple[Array, Array]:
        """(initial states, their derivatives with respect to their coordinates), both (B, d)."""
        y0, slope = z.copy(), np.ones(z.shape)
        for j in range(z.shape[1]):
            if np.isfinite(self.high[j]):
                part = 0.5 * (1 + np.tanh(0.5 * z[:, j]))
                y0[:, j] = self.low[j] + (self.high[j] - self.low[j]) * part
                slope[:, j] = (self.high[j] - self.low[j]) * part * (1 - part)
            elif np.isfinite(self.low[j]):
                slope[:, j] = np.exp(np.minimum(z[:, j], 700.0))
                y0[:, j] = self.low[j] + slope[:, j]
        return y0, slope * self.mask

    def theta(self, x: Array) -> Array:
        """The parameters (p,) of the coordinates x (n,)."""
        return np.ascontiguousarray(self.coordinates.theta(x[: len(x) - self.n_noise]))

    def sigma(self, x: Array, c: int) -> Array:
        """The parameters of the error model of a column."""
        n = len(x) - self.n_noise
        return np.exp(np.clip(x[n + self.place[c] : n + self.place[c + 1]], -700.0, 300.0))

    def course(self, x: Array, free: Array, derivatives: bool = False) -> Course | None:
        """The course of the experiment; None where it cannot be solved along the readings."""
        try:
            course = self.experiment.run(self.theta(x), self.states_out(free)[0], derivatives)
        except ValueError:  # an infusion that lasts no time, times that no number holds
            return None
        self.nfe += course.nfe
        return None if course.failed.any() else course

    # ---- The likelihood

    def first_noise(self, x: Array, free: Array) -> Array:
        """x with the parameters of the error models that fit the residuals there."""
        course = self.course(x, free)
        x = x.copy()
        n = len(x) - self.n_noise
        if course is None:
            return x
        for c, rows in enumerate(self.columns):
            if not len(rows):
                continue
            f, y = course.value[self.readings.row[rows], c], self.readings.value[rows]
            if self.models[c].logarithmic:
                positive = (f > 0) & (y > 0)
                r = np.log(np.where(positive, y, 1.0)) - np.log(np.where(positive, f, 1.0))
            else:
                r = y - f
            names = self.models[c].parameters
            for j, name in enumerate(names):
                relative = np.maximum(np.abs(f), 1e-2 * self.typical[c]) if name == "proportional" else 1.0
                size = np.sqrt(np.mean((r / relative) ** 2) / len(names))
                relative_to = 1.0 if name == "additive" or self.models[c].logarithmic else self.typical[c]
                least = self.rounding[c] / relative_to
                x[n + self.place[c] + j] = np.log(max(size if np.isfinite(size) else 1.0, least))
        return x

    def _terms(self, course: Course, x: Array, c: int) -> tuple[Any, ...] | None:
        """(f, s, ds/df, ds/dphi, z, slope of f in the scale that is compared) of the readings of a column."""
        rows, model = self.columns[c], self.models[c]
        f = course.value[self.readings.row[rows], c]
        y = self.readings.value[rows]
        stretch = np.ones(len(f))
        typical = self.typical[c]
        if model.logarithmic:
            if not (f > 0).all():
                return None
            stretch = 1.0 / f
            f = np.log(f)
            y = np.log(y)
            typical = 1.0
        if not np.isfinite(f).all():
            return None
        s, by_f, by_phi = scale(model, f, self.sigma(x, c), self.rounding[c], typical)
        root = np.sqrt(self.readings.weight[rows])
        s = s / root
        by_f = by_f / root
        by_phi = by_phi / root[:, None]
        return f, s, by_f, by_phi, (y - f) / s, stretch

    def deviance(self, course: Course, x: Array) -> Array | None:
        """(n,) -2 log p of each reading; None where a prediction has no logarithm."""
        out = np.empty(len(self.readings))
        for c, rows in enumerate(self.columns):
            if not len(rows):
                continue
            terms = self._terms(course, x, c)
            if terms is None:
                return None
            _, s, _, _, z, _ = terms
            how = self.readings.censored[rows]
            value = self.density.deviance(z) + 2 * np.log(s)
            if self.models[c].logarithmic:
                value += 2 * np.log(self.readings.value[rows])
            beyond = how != 0
            if beyond.any():
                value[beyond] = tail(self.noise, (z * how)[beyond])[0]
            out[rows] = value
        return out

    def standardised(self, course: Course, x: Array, c: int) -> Array:
        """The standardised residuals of the readings of a column; NaN where a prediction has no logarithm."""
        terms = self._terms(course, x, c)
        return np.full(len(self.columns[c]), np.nan) if terms is None else np.asarray(terms[4])

    def _pull(self, free: Array) -> float:
        return float((self.prior * (free - self.start) ** 2).sum())

    def loss(self, x: Array, free: Array) -> float:
        """-2 log p(readings), and the weak prior of the free initial states; infinite where it cannot be solved."""
        course = self.course(x, free)
        deviance = None if course is None else self.deviance(course, x)
        if deviance is None or not np.isfinite(deviance).all():
            return np.inf
        return float(deviance.sum()) + self._pull(free)

    def linearise(self, x: Array, free: Array) -> Linearised | None:
        """The normal equations; None where the experiment cannot be solved."""
        course = self.course(x, free, True)
        deviance = None if course is None else self.deviance(course, x)
        if course is None or deviance is None or not np.isfinite(deviance).all():
            return None
        e, J, sample = self._residuals(course, x, free)
        if not np.abs(J).max(initial=0.0) < HUGE:
            return None
        n = len(x)
        b, d = free.shape
        H, g = gram(J[:, :n]), J[:, :n].T @ e
        A = np.zeros((b, d, d))
        C = np.zeros((b, d, n))
        z = np.zeros((b, d))
        ends = np.searchsorted(sample, np.arange(b + 1))
        for i in range(b):
            own = J[ends[i] : ends[i + 1]]
            A[i] = own[:, n:].T @ own[:, n:]
            C[i] = own[:, n:].T @ own[:, :n]
            z[i] = own[:, n:].T @ e[ends[i] : ends[i + 1]]
        A[:, range(d), range(d)] += self.prior
        z += self.prior * (free - self.start)
        loss = float(deviance.sum()) + self._pull(free)
        try:
            here = Linearised.of_free(loss, FreeStates(H, g, C, A, z))
        except np.linalg.LinAlgError:  # derivatives of initial states that rounding has made dependent
            return None
        return here if np.isfinite(here.H).all() else None

    def _residuals(self, course: Course, x: Array, free: Array) -> tuple[Array, Array, Index]:
        """(pseudo-residuals, their Jacobian with respect to x and the own initial state, their trajectories), by
        trajectory."""
        n, p = len(x), self.experiment.p
        m = n - self.n_noise
        rows_of = self.readings.row
        raw: Any = course.jacobian
        slope = self.states_out(free)[1]
        parts_e = []
        parts_J = []
        parts_i = []
        for c, rows in enumerate(self.columns):
            terms = None if not len(rows) else self._terms(course, x, c)
            if terms is None:
                continue
            _, s, by_f, by_phi, z, stretch = terms
            own = raw[rows_of[rows], c] * stretch[:, None]
            sample = self.readings.sample[rows]
            J_f = np.zeros((len(rows), n + self.experiment.d))
            J_f[:, :m] = self.coordinates.jacobian(x[:m], own[:, :p])
            J_f[:, n:] = own[:, p:] * slope[sample]
            J_s = by_f[:, None] * J_f
            J_s[:, m + self.place[c] : m + self.place[c + 1]] += by_phi
            seen = self.readings.censored[rows] == 0
            psi = self.density.score(z)
            root_l, root_s = np.sqrt(self.density.location), np.sqrt(self.density.scale)
            parts_e += [-psi[seen] / root_l, (1 - z * psi)[seen] / root_s]
            parts_J += [(root_l / s)[seen, None] * J_f[seen], (root_s / s)[seen, None] * J_s[seen]]
            parts_i += [sample[seen], sample[seen]]
            if not seen.all():
                sign = self.readings.censored[rows][~seen]
                at = sign * z[~seen]
                _, first, second = tail(self.noise, at)
                J_z = -(sign / s[~seen])[:, None] * J_f[~seen] - (at / s[~seen])[:, None] * J_s[~seen]
                parts_e.append(first / np.sqrt(second))
                parts_J.append(np.sqrt(second)[:, None] * J_z)
                parts_i.append(sample[~seen])
        e = np.concatenate(parts_e)
        J = np.concatenate(parts_J)
        i = np.concatenate(parts_i)
        order = np.argsort(i, kind="stable")
        return e[order], J[order], i[order]
