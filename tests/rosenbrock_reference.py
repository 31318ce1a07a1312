"""Rosenbrock methods in NumPy, for rk_reference.py: in the form of their authors, with Jacobians by dual numbers.

The core holds the coefficients transformed so that no product with the Jacobian is left (Hairer, Wanner, Solving ODEs II,
IV.7, (7.25)). Here they are transformed back, and a stage is that of (7.4):

    k_i = h f(t + alpha_i h, y + sum_{j<i} alpha_ij k_j) + h J sum_{j<=i} gamma_ij k_j + gamma_i h^2 df/dt
"""

from dataclasses import dataclass

import numpy as np

# ---- Dual numbers, of complex numbers: one derivative beside each value


class Dual:
    """value + derivative e, e^2 = 0; arrays of one shape."""

    def __init__(self, value, rate):
        self.value = np.asarray(value)
        self.rate = np.broadcast_to(rate, self.value.shape)

    @property
    def shape(self):
        return self.value.shape

    @property
    def real(self):
        return self.value.real

    def __getitem__(self, index):
        return Dual(self.value[index], self.rate[index])

    def reshape(self, *shape):
        return Dual(self.value.reshape(*shape), self.rate.reshape(*shape))

    def __array_ufunc__(self, ufunc, way, *args, **keys):
        if way != "__call__" or keys or ufunc.__name__ not in RULES:
            return NotImplemented
        pairs = [(x.value, x.rate) if isinstance(x, Dual) else (np.asarray(x), 0.0) for x in args]
        values = [value for value, _ in pairs]
        return Dual(ufunc(*values), RULES[ufunc.__name__](values, [rate for _, rate in pairs]))

    def __array_function__(self, function, types, args, keys):
        if function not in (np.stack, np.concatenate):
            return NotImplemented
        parts = [x if isinstance(x, Dual) else Dual(x, 0.0) for x in args[0]]
        rest = args[1:]
        return Dual(function([x.value for x in parts], *rest, **keys), function([x.rate for x in parts], *rest, **keys))


def _operator(ufunc, swapped=False):
    return (lambda a, b: ufunc(b, a)) if swapped else (lambda a, b: ufunc(a, b))


for _name, _ufunc in {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.divide,
    "pow": np.power,
    "matmul": np.matmul,
}.items():
    setattr(Dual, f"__{_name}__", _operator(_ufunc))
    setattr(Dual, f"__r{_name}__", _operator(_ufunc, swapped=True))
Dual.__neg__ = lambda a: np.negative(a)

RULES = {
    "add": lambda x, d: d[0] + d[1],
    "subtract": lambda x, d: d[0] - d[1],
    "multiply": lambda x, d: d[0] * x[1] + x[0] * d[1],
    "divide": lambda x, d: d[0] / x[1] - x[0] * d[1] / x[1] ** 2,
    "power": lambda x, d: x[1] * x[0] ** (x[1] - 1) * d[0],  # of a constant exponent
    "matmul": lambda x, d: sum(a @ b for a, b in ((x[0], d[1]), (d[0], x[1])) if np.ndim(a) and np.ndim(b)),
    "negative": lambda x, d: -d[0],
    "sin": lambda x, d: np.cos(x[0]) * d[0],
    "cos": lambda x, d: -np.sin(x[0]) * d[0],
    "exp": lambda x, d: np.exp(x[0]) * d[0],
    "log": lambda x, d: d[0] / x[0],
    "sqrt": lambda x, d: d[0] / (2 * np.sqrt(x[0])),
    "tanh": lambda x, d: (1 - np.tanh(x[0]) ** 2) * d[0],
}
"""ufunc -> the derivative, from the arguments and their derivatives."""


def linearised(f, t, y):
    """J (P, d, d) and df/dt (P, d) of f(t (P,), y (P, d)) -> (P, d)."""

    def rate(at, state):
        value = f(at, state)
        return value.rate if isinstance(value, Dual) else np.zeros_like(y)

    columns = [rate(t, Dual(y, np.eye(y.shape[1])[j])) for j in range(y.shape[1])]
    return np.stack(columns, axis=-1), rate(Dual(t, 1.0), y)


# ---- Tables


@dataclass
class Table:
    """Coefficients as the authors of the methods give them."""

    alpha: np.ndarray
    """(s, s), strictly lower triangular."""
    Gamma: np.ndarray
    """(s, s), lower triangular, with one number on the diagonal."""
    b: np.ndarray
    embedded: np.ndarray
    dense: np.ndarray
    """(s, degree + 1)"""

    @property
    def beta(self):
        return self.alpha + self.Gamma


def table_of(row):
    """The coefficients of a row of `pynode.METHODS`, transformed back."""
    s = row["s"]
    Gamma = np.linalg.inv(np.eye(s) / row["gamma"] - row["coupling"][:s, :s])
    back = Gamma.T
    return Table(row["a"][:s, :s] @ Gamma, Gamma, back @ row["b"], back @ (row["b"] - row["e"][:s]), back @ row["dense"][:s])


# ---- Steps


def stages(f, row, t, t_new, y):
    """The stages of the core: those of the authors, transformed, and a zero for f_new. f(t (P,), y (P, d)) -> (P, d)."""
    table = table_of(row)
    h = t_new - t
    J, slope = linearised(f, t, y)
    W = np.eye(y.shape[1]) - (row["gamma"] * h)[:, None, None] * J
    k = []
    for i in range(row["s"]):
        at = t_new if row["c"][i] == 1 else t + row["c"][i] * h
        inner = y + sum((table.alpha[i, j] * k[j] for j in range(i)), np.zeros_like(y))
        coupled = sum((table.Gamma[i, j] * k[j] for j in range(i)), np.zeros_like(y))
        right = h[:, None] * (f(at, inner) + (J @ coupled[..., None])[..., 0])
        right = right + table.Gamma[i].sum() * (h**2)[:, None] * slope
        k.append(np.linalg.solve(W, right[..., None])[..., 0])
    transformed = [sum(table.Gamma[i, j] * k[j] for j in range(i + 1)) / h[:, None] for i in range(row["s"])]
    return [*transformed, np.zeros_like(y)]
