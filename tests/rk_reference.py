"""A plain Runge-Kutta integrator in NumPy, in complex arithmetic: the oracle of solutions and gradients on frozen steps.

It shares with the core only the coefficients, which test_tableau.py checks. Every array leads with P: so many copies of
the problem, each with an entry of its own moved by i EPS, so that the imaginary part of the loss is EPS times the
gradient, without cancellation (the complex step).
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import rosenbrock_reference

from pynode._core import tableaus

TABLES = {t["name"]: t for t in tableaus()}
EPS = 1e-40


# ---- Activations, for complex numbers; what is not analytic chooses by the real part


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def erf(x):
    """To first order in the imaginary part."""
    real = np.vectorize(math.erf)(x.real)
    return real + 2j / math.sqrt(math.pi) * np.exp(-(x.real**2)) * x.imag


ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "relu": lambda x: np.where(x.real > 0, x, 0),
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "elu": lambda x: np.where(x.real > 0, x, np.exp(x) - 1),
    "leaky_relu": lambda x: np.where(x.real > 0, x, 0.01 * x),
    "sin": np.sin,
    "identity": lambda x: x,
}


def mlp(widths, activation="tanh", time=False):
    """F(t, y, theta, u) of a network; widths count the time and the inputs; theta is W (out, in), b for each layer."""

    def F(t, y, theta, u):
        parts = [y, *([t[:, None]] if time else []), *([] if u is None else [u])]
        x, at = np.concatenate(parts, axis=1), 0
        for n, m in itertools.pairwise(widths):
            W, at = theta[:, at : at + m * n].reshape(-1, m, n), at + m * n
            b, at = theta[:, at : at + m], at + m
            x = (W @ x[..., None])[..., 0] + b
            x = ACTIVATIONS[activation](x) if at < theta.shape[1] else x
        return x

    return F


# ---- Input signals


def parabola_slopes(knots, u):
    """Slopes at the knots of the parabolas through three neighbours; u (P, K, m)."""
    K = len(knots)
    if K == 2:
        return np.repeat((u[:, 1:] - u[:, :1]) / (knots[1] - knots[0]), 2, axis=1)
    slopes = []
    for k in range(K):
        i = min(max(k - 1, 0), K - 3)
        x, at = knots[i : i + 3], knots[k]
        weights = []
        for a in range(3):  # derivative at `at` of Lagrange's basis
            b, c = (x[j] for j in range(3) if j != a)
            weights.append((2 * at - b - c) / ((x[a] - b) * (x[a] - c)))
        slopes.append(sum(w * u[:, i + a] for a, w in enumerate(weights)))
    return np.stack(slopes, axis=1)


def signal(kind, knots, u):
    """u(t, middle) -> (P, m): the piece is that of the real time `middle`; u (P, K, m)."""
    if kind == "constant":
        return lambda t, middle: u[:, 0]
    slopes = parabola_slopes(knots, u) if kind == "cubic" else None

    def value(t, middle):
        j = int(np.clip(np.searchsorted(knots, middle) - 1, 0, len(knots) - (1 if kind == "previous" else 2)))
        if kind == "previous":
            return u[:, j]
        h = knots[j + 1] - knots[j]
        s = ((t - knots[j]) / h)[:, None]
        if kind == "linear":
            return (1 - s) * u[:, j] + s * u[:, j + 1]
        return (
            (1 + 2 * s) * (1 - s) ** 2 * u[:, j]
            + s * (1 - s) ** 2 * h * slopes[:, j]
            + s * s * (3 - 2 * s) * u[:, j + 1]
            + s * s * (s - 1) * h * slopes[:, j + 1]
        )

    return value


# ---- The integrator


def wide(table, name, d):
    """Coefficients (..., d): those of the first table, for the second half of the state those of the second, if any."""
    first, second = table[name][..., None], (table["second"] or table)[name][..., None]
    return np.where(np.arange(d) < d // 2, first, second)


def stages(f, table, t, t_new, y, n):
    """k_0 .. k_{n-1} of a step from (t, y)."""
    if table["gamma"] > 0:
        return rosenbrock_reference.stages(f, table, t, t_new, y)
    h, k, a = t_new - t, [], wide(table, "a", y.shape[1])
    for i in range(n):
        at = t_new if table["c"][i] == 1 else t + table["c"][i] * h
        k.append(f(at, y + h[:, None] * sum((a[i, j] * k[j] for j in range(i)), np.zeros_like(y))))
    return k


def increment(f, table, t, t_new, y):
    k = stages(f, table, t, t_new, y, table["s"])
    return (t_new - t)[:, None] * sum(b * ki for b, ki in zip(wide(table, "b", y.shape[1]), k, strict=True))


def integrate(f, method, grid, y0, times, on_grid, coupling=0.0):
    """Values (P, T, d) at `times` (P, T).

    Parameters
    ----------
    f : f(t (P,), y (P, d), middle) -> (P, d), middle a real time inside the step
    grid : (P, N) ends of the steps
    on_grid : (T,) bool
        Which times are ends of steps and move with them; the others come from the dense output.
    coupling : of the reversible scheme, 0: none
    """
    table, way = TABLES[method], np.sign(grid[0, -1].real - grid[0, 0].real)
    y = z = y0
    out = [y0 if t.real == grid[0, 0].real else None for t in times[0]]
    for n in range(grid.shape[1] - 1):
        t, t_new = grid[:, n], grid[:, n + 1]
        middle = 0.5 * (t[0].real + t_new[0].real)

        def field(at, state, middle=middle):
            return f(at, state, middle)

        inside = [
            k
            for k in range(len(out))
            if out[k] is None and way * (times[0, k].real - t_new[0].real) <= 1e-14 * abs(t_new[0])
        ]
        if coupling:
            y_new = coupling * y + (1 - coupling) * z + increment(field, table, t, t_new, z)
            z = z - increment(field, table, t_new, t, y_new)
        else:
            dense = [k for k in inside if not on_grid[k]]
            k = stages(field, table, t, t_new, y, len(table["c"]) if dense else table["s"])
            y_new = y + (t_new - t)[:, None] * sum(b * ki for b, ki in zip(wide(table, "b", y.shape[1]), k, strict=False))
            for j in dense:
                s = (times[:, j] - t) / (t_new - t)
                weights = [sum(c * s[:, None] ** q for q, c in enumerate(row)) for row in wide(table, "dense", y.shape[1])]
                out[j] = y + (t_new - t)[:, None] * sum(w * ki for w, ki in zip(weights, k, strict=True))
        for j in inside:
            out[j] = y_new if on_grid[j] else out[j]
        y = y_new
    return np.stack(out, axis=1)


# ---- Losses


def rho(name, r, scale=1.0, dof=4.0):
    size = np.where(r.real > 0, r, -r)
    if name in ("mse", "sse"):
        return r * r
    if name == "mae":
        return size
    if name == "huber":
        return np.where(size.real <= scale, 0.5 * r * r, scale * (size - 0.5 * scale))
    return 0.5 * (dof + 1) * np.log(1 + r * r / (dof * scale**2))


def moved(grid, old, new, on_grid):
    """Copies of the grid (P, N) in which its ends at the times `old` are where those are now, `new` (P, T)."""
    out = np.repeat(grid[None].astype(complex), len(new), axis=0)
    for k in np.flatnonzero(on_grid):
        out[:, np.isclose(grid, old[k], rtol=1e-14, atol=0)] = new[:, k : k + 1]
    return out


@dataclass
class Problem:
    """A loss of solutions on frozen steps, and its gradients.

    F(t (P,), y (P, d), theta (P, p), u (P, m) or None); grids, t, target, weight: one array a sample; inputs: None or
    (kind, knots, values), lists with one array a sample, or with a single one that all share.
    """

    F: object
    method: str
    grids: list
    y0: np.ndarray
    t: list
    theta: np.ndarray
    target: list
    weight: list = None
    loss: str = "mse"
    scale: float = 1.0
    dof: float = 4.0
    inputs: tuple = None
    coupling: float = 0.0
    land: bool = False

    def path(self, i, theta=None, y0=None, t=None, u=None):
        """(P, T, d) the values of sample i; what is given has P rows."""
        given = [x for x in (theta, y0, t, u) if x is not None]
        P = len(given[0]) if given else 1

        def rows(x, default):
            return np.asarray(x if x is not None else np.repeat(np.asarray(default)[None], P, axis=0), dtype=complex)

        times = rows(t, self.t[i])
        on_grid = np.full(len(self.t[i]), self.land or self.coupling > 0)
        on_grid |= (self.t[i] == self.t[i][0]) | (self.t[i] == self.t[i][-1])
        theta, drive = rows(theta, self.theta), None
        if self.inputs is not None:
            kind, knots, values = self.inputs
            at = i if len(values) > 1 else 0
            drive = signal(kind, None if knots is None else knots[i if len(knots) > 1 else 0], rows(u, values[at]))

        def f(s, y, middle):
            return self.F(s, y, theta, None if drive is None else drive(s, middle))

        return integrate(
            f,
            self.method,
            moved(self.grids[i], self.t[i], times, on_grid),
            rows(y0, self.y0[i]),
            times,
            on_grid,
            self.coupling,
        )

    def total(self, i, **moved):
        """(P,) sum of weight rho(y - target) of sample i."""
        r = rho(self.loss, self.path(i, **moved) - np.nan_to_num(self.target[i]), self.scale, self.dof)
        return (r * self._weights(i)).sum(axis=(1, 2))

    def _weights(self, i):
        w = np.ones(self.target[i].shape) if self.weight is None else self.weight[i]
        return np.where(np.isnan(self.target[i]), 0.0, w)

    @property
    def _divisor(self):
        return 1.0 if self.loss == "sse" else sum(self._weights(i).sum() for i in range(len(self.y0)))

    def value(self):
        return sum(self.total(i)[0].real for i in range(len(self.y0))) / self._divisor

    def theta_gradient(self):
        theta = self.theta + 1j * EPS * np.eye(len(self.theta))
        return sum(self.total(i, theta=theta).imag for i in range(len(self.y0))) / EPS / self._divisor

    def y0_gradient(self):
        steps = 1j * EPS * np.eye(self.y0.shape[1])
        return np.stack([self.total(i, y0=self.y0[i] + steps).imag for i in range(len(self.y0))]) / EPS / self._divisor

    def t_gradient(self):
        """A list of (T_i,); equal times move together, each getting the sum."""
        out = []
        for i, t in enumerate(self.t):
            steps = 1j * EPS * (t[:, None] == t[None, :])
            out.append(self.total(i, t=t + steps).imag / EPS / self._divisor)
        return out

    def input_gradient(self):
        """A list with an array like each of the signals' values."""
        _, _, values = self.inputs
        out = []
        for j, u in enumerate(values):
            steps = (1j * EPS * np.eye(u.size)).reshape(u.size, *u.shape)
            samples = range(len(self.y0)) if len(values) == 1 else [j]
            out.append(sum(self.total(i, u=u + steps).imag for i in samples).reshape(u.shape) / EPS / self._divisor)
        return out


def together(t, gradient):
    """Gradients at equal times summed, as `Problem.t_gradient` has them."""
    return (t[:, None] == t[None, :]) @ gradient
