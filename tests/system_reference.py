"""Systems once more, in plain NumPy: classical Runge-Kutta with fixed steps, jumps and losses row by row.

Everything is analytic, so that derivatives are Im f(x + i h) / h, exact to rounding (complex steps). Times may carry an
imaginary part too: the ends of the steps at save times move with them, step ends between are frozen.
"""

from itertools import pairwise

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(theta, at, n, m, x):
    """W x + b and where the next layer begins; W (m, n), then b."""
    W, b = theta[at : at + m * n].reshape(m, n), theta[at + m * n : at + m * n + m]
    return W @ x + b, at + m * n + m


def network(theta, sizes, x):
    at = 0
    for i, (n, m) in enumerate(pairwise(sizes)):
        x, at = dense(theta, at, n, m, x)
        x = np.tanh(x) if i < len(sizes) - 2 else x
    return x


def step(f, t, t_new, y):
    h = t_new - t
    k1 = f(t, y)
    k2 = f(t + h / 2, y + h / 2 * k1)
    k3 = f(t + h / 2, y + h / 2 * k2)
    k4 = f(t_new, y + h * k3)
    return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def flow(f, a, b, y, h):
    """From time a to b in steps of h, the last one shorter."""
    way = 1 if b.real >= a.real else -1
    t, n = a, 0
    while way * (b.real - t.real) > 0:
        n += 1
        t_new = a.real + way * n * h
        t_new = b if way * (b.real - t_new) <= 1e-9 * h else t_new
        y = step(f, t, t_new, y)
        t = t_new
    return y


def rollout(f, jump, y0, t, x, h):
    """States after and before the jumps, (T, d) each. jump(t, y, x) or None; a row of x that begins with NaN: no jump."""
    y, after, before = y0 + 0j, [], []
    for j in range(len(t)):
        if j:
            y = flow(f, t[j - 1], t[j], y, h)
        before.append(y)
        if jump is not None and not (len(x[j]) and np.isnan(x[j][0])):
            y = jump(t[j], y, x[j])
        after.append(y)
    return np.array(after), np.array(before)


def total(loss, t, y, z):
    """Sum of the loss over rows; a row of z that begins with NaN is left out."""
    return sum(loss(t[j], y[j], z[j]) for j in range(len(t)) if not (len(z[j]) and np.isnan(z[j][0])))


def complex_gradient(value, x):
    """d value / d x, value analytic; NaN entries of x are left alone (0)."""
    x = np.asarray(x, dtype=np.float64)
    g = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        if np.isnan(x[i]):
            continue
        z = x.astype(complex)
        z[i] += 1e-30j
        g[i] = value(z).imag / 1e-30
    return g
