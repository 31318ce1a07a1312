"""SciPy and lmfit on the cases of `known_cases.py`: the answers, and how a user would get them."""

import time
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

USUAL = {"method": "LSODA", "rtol": 1e-6, "atol": 1e-9}
"""Tolerances in lmfit's turn; atol is relative to the case's size."""


TIGHT = {"xtol": 1e-10, "ftol": 1e-10, "gtol": 1e-12}

MOST = 60
"""Evaluations that least squares may take between changes of the weights."""


BUDGET = 15.0
"""Seconds of the processor after which a peer's fit counts as failed."""


class OutOfTime(ArithmeticError):
    """A peer's fit takes too long."""


@dataclass(frozen=True)
class Answer:
    """Parameters (p,), their covariance, initial states and -2 log-likelihood without its constant."""

    theta: np.ndarray
    covariance: np.ndarray
    y0: np.ndarray
    deviance: float


def deviance(case, data, theta, y0):
    """n log(mean square) of each column, summed: -2 log-likelihood at its best noise, but for a constant."""
    try:
        clean = case.simulate(theta, y0)
    except ValueError:
        return np.inf
    squares = np.concatenate([_miss(case, y, f) for y, f in zip(data, clean, strict=True)]) ** 2
    return float(len(squares) * np.log(squares.mean(axis=0)).sum())


def _miss(case, y, f):
    return np.log(y) - np.log(np.maximum(f, 1e-300)) if case.log else y - f


class LeastSquares:
    """Maximum likelihood with an additive error for each column: least squares, weights and estimates in turn.

    Unknown are logarithms of positive parameters, others as they are, and initial states that are not known.
    """

    def __init__(self, case, data):
        self.case, self.data = case, data
        self.p = len(case.positive)
        self.free = np.isnan(case.starts())
        self.step = np.full(self.p + int(self.free.sum()), 1e-4)
        self.step[self.p :] *= case.size
        self.weight = np.ones(data[0].shape[1])
        self.until = np.inf

    def residuals(self, x):
        theta, y0 = self.parameters(x)
        if time.process_time() > self.until:
            raise OutOfTime
        try:
            clean = self.case.simulate(theta, y0)
        except ValueError:
            return np.full(sum(y.size for y in self.data), 1e3 * self.case.size * self.weight.max())
        parts = [(_miss(self.case, y, f) * self.weight).ravel() for y, f in zip(self.data, clean, strict=True)]
        return np.nan_to_num(np.concatenate(parts), nan=1e6, posinf=1e6, neginf=-1e6)

    def jacobian(self, x):
        """Central differences."""
        columns = []
        for k, h in enumerate(self.step):
            e = np.zeros(len(x))
            e[k] = h
            columns.append((self.residuals(x + e) - self.residuals(x - e)) / (2 * h))
        return np.stack(columns, axis=1)

    def parameters(self, x):
        case = self.case
        theta = np.where(case.positive, np.exp(np.minimum(np.where(case.positive, x[: self.p], 0.0), 300.0)), x[: self.p])
        return theta, case.starts(x[self.p :] if self.free.any() else None)

    def solve(self, theta, y0=None, seconds=np.inf):
        """The answer from a start; y0 (B, states): of free initial states."""
        self.until = time.process_time() + seconds
        x = np.where(self.case.positive, np.log(np.abs(theta)), theta)
        x = np.concatenate([x, np.asarray(self.first() if y0 is None else y0, float)[self.free]])
        self.weight = 1 / np.concatenate(self.data).std(axis=0)
        if y0 is not None:  # close by already
            self.weight = self.weight / np.sqrt((self.residuals(x).reshape(-1, len(self.weight)) ** 2).mean(axis=0))
        with np.errstate(all="ignore"):
            for _ in range(10):
                found = least_squares(self.residuals, x, self.jacobian, x_scale="jac", max_nfev=MOST, **TIGHT)
                x = found.x
                change = 1 / np.sqrt((found.fun.reshape(-1, len(self.weight)) ** 2).mean(axis=0))
                self.weight = self.weight * change
                if np.abs(change / change.mean() - 1).max() < 1e-5:
                    break
        return self._answer(x)

    def first(self):
        """First readings, where a state is read; else 0."""
        y0 = np.zeros(self.free.shape)
        for i, y in enumerate(self.data):
            y0[i, list(range(self.case.states) if self.case.seen is None else self.case.seen)] = y[0]
        return y0

    def _answer(self, x):
        theta, y0 = self.parameters(x)
        r, J = self.residuals(x), self.jacobian(x)
        n = len(r) - len(x)
        covariance = np.linalg.pinv(J.T @ J) * (r @ r) / n
        slope = np.where(self.case.positive, theta, 1.0)
        covariance = covariance[: self.p, : self.p] * slope * slope[:, None]
        return Answer(theta, covariance, y0, deviance(self.case, self.data, theta, y0))


def by_lmfit(case, data, theta):
    """(parameters, initial states), as a user would: residuals over the known noise, bounds at 0."""
    import lmfit

    parameters = lmfit.Parameters()
    for name, value, positive in zip(case.names, theta, case.positive, strict=True):
        parameters.add(name, value=value, min=0.0 if positive else -np.inf)
    problem = LeastSquares(case, data)
    first = problem.first()[problem.free]
    for k, value in enumerate(first):
        parameters.add(f"y0_{k}", value=value)

    until = time.process_time() + BUDGET

    def residual(values):
        if time.process_time() > until:
            raise OutOfTime
        x = np.array(list(values.valuesdict().values()))
        y0 = case.starts(x[len(theta) :] if len(first) else None)
        clean = case.simulate(x[: len(theta)], y0, USUAL)
        return np.concatenate([(_miss(case, y, f) / case.noise).ravel() for y, f in zip(data, clean, strict=True)])

    found = lmfit.minimize(residual, parameters, max_nfev=100 * (len(parameters) + 1))
    x = np.array(list(found.params.valuesdict().values()))
    y0 = case.starts(x[len(theta) :] if len(first) else None)
    return x[: len(theta)], y0
