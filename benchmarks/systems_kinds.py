"""Right-hand sides of the systems: rhs(t, y, p, u) -> list. pynode traces them; SciPy calls them with many columns at once.

y, u and the entries of p are scalars of pynode or arrays, a column for each trajectory and set of parameters.
"""

import numpy as np


def van_der_pol(t, y, p, u):
    return [y[1], p.mu * (1 - y[0] ** 2) * y[1] - y[0]]


def brusselator(t, y, p, u):
    turned = y[0] ** 2 * y[1]
    return [p.a - (p.b + 1) * y[0] + turned, p.b * y[0] - turned]


def lorenz(t, y, p, u):
    return [p.s * (y[1] - y[0]), y[0] * (p.r - y[2]) - y[1], y[0] * y[1] - p.b * y[2]]


def rossler(t, y, p, u):
    return [-y[1] - y[2], y[0] + p.a * y[1], p.b + y[2] * (y[0] - p.c)]


def repressilator(t, y, p, u):
    """Elowitz and Leibler (2000): three genes, each represses the next; messengers, then proteins."""
    made = [p.alpha / (1 + y[k] ** 2) + p.leak for k in (5, 3, 4)]
    return [*(made[k] - y[k] for k in range(3)), *(p.beta * (y[k] - y[k + 3]) for k in range(3))]


def fitzhugh_nagumo(t, y, p, u):
    return [y[0] - y[0] ** 3 / 3 - y[1] + p.i, (y[0] + p.a - p.b * y[1]) / p.tau]


def selkov(t, y, p, u):
    turned = p.a * y[1] + y[0] ** 2 * y[1]
    return [turned - y[0], p.b - turned]


def goodwin(t, y, p, u):
    return [p.a / (1 + y[2] ** 10) - p.d * y[0], p.b * y[0] - p.d * y[1], p.c * y[1] - p.d * y[2]]


def pendulum(t, y, p, u):
    return [y[1], -p.g * np.sin(y[0]) - p.c * y[1] + p.k * u[0]]


def two_compartments(t, y, p, u):
    """A drug by mouth: gut, blood, tissue."""
    return [-p.ka * y[0], p.ka * y[0] - (p.ke + p.k12) * y[1] + p.k21 * y[2], p.k12 * y[1] - p.k21 * y[2]]


def sir(t, y, p, u):
    new = p.b * y[0] * y[1]
    return [-new, new - p.g * y[1], p.g * y[1]]


def seir(t, y, p, u):
    new = p.b * y[0] * y[2]
    return [-new, new - p.s * y[1], p.s * y[1] - p.g * y[2], p.g * y[2]]


def linear(t, y, p, u):
    d = len(y)
    return [sum(p.A[i][j] * y[j] for j in range(d)) for i in range(d)]


def duffing(t, y, p, u):
    return [y[1], -p.a * y[0] - p.b * y[0] ** 3 - p.c * y[1]]


def forced_duffing(t, y, p, u):
    return [y[1], -p.a * y[0] - p.b * y[0] ** 3 - p.c * y[1] + p.k * u[0]]


def kepler(t, y, p, u):
    pull = p.m / (y[0] ** 2 + y[1] ** 2) ** 1.5
    return [y[2], y[3], -pull * y[0], -pull * y[1]]


def food_chain(t, y, p, u):
    """Hastings and Powell (1991)."""
    eaten, caught = p.a1 * y[0] / (1 + p.b1 * y[0]) * y[1], p.a2 * y[1] / (1 + p.b2 * y[1]) * y[2]
    return [y[0] * (1 - y[0]) - eaten, eaten - caught - p.d1 * y[1], caught - p.d2 * y[2]]


def goldbeter(t, y, p, u):
    """Goldbeter (1995): the protein PER in Drosophila, a day's rhythm."""
    m, p0, p1, p2, n = y
    forth1, back1 = p.v1 * p0 / (2 + p0), p.v2 * p1 / (2 + p1)
    forth2, back2 = p.v3 * p1 / (2 + p1), p.v4 * p2 / (2 + p2)
    return [
        p.vs / (1 + n**4) - p.vm * m / (0.5 + m),
        p.ks * m - forth1 + back1,
        forth1 - back1 - forth2 + back2,
        forth2 - back2 - p.k1 * p2 + p.k2 * n - p.vd * p2 / (0.2 + p2),
        p.k1 * p2 - p.k2 * n,
    ]


def hodgkin_huxley(t, y, p, u):
    """Hodgkin and Huxley (1952), mV and ms."""
    v, m, h, n = y
    x, z = (v + 40) / 10, (v + 55) / 10
    alpha_m = _ratio(x)
    alpha_n = 0.1 * _ratio(z)
    current = p.gna * m**3 * h * (v - p.ena) + p.gk * n**4 * (v - p.ek) + p.gl * (v - p.el)
    return [
        p.i - current,
        alpha_m * (1 - m) - 4 * np.exp(-(v + 65) / 18) * m,
        0.07 * np.exp(-(v + 65) / 20) * (1 - h) - h / (1 + np.exp(-(v + 35) / 10)),
        alpha_n * (1 - n) - 0.125 * np.exp(-(v + 65) / 80) * n,
    ]


def _ratio(x):
    """x / (1 - exp(-x)), by its series near 0."""
    near = x * x < 1e-8
    safe = np.where(near, 1.0, x)
    return np.where(near, 1 + x / 2, safe / (1 - np.exp(-safe)))


def chemostat(t, y, p, u):
    grown = p.m * y[1] / (p.k + y[1]) * y[0]
    return [grown - p.d * y[0], p.d * (p.s - y[1]) - grown / p.y]


def glycolysis(t, y, p, u):
    """Wolf and Heinrich (2000): glycolysis of yeast, seven states."""
    s1, s2, s3, s4, n2, a3, s4ex = y
    v1 = p.k1 * s1 * a3 / (1 + (a3 / p.ki) ** 4)
    v2, v3 = p.k2 * s2 * (1 - n2), p.k3 * s3 * (4 - a3)
    v4, v6 = p.k4 * s4 * n2, p.k6 * s2 * n2
    out = p.kappa * (s4 - s4ex)
    return [
        p.j0 - v1,
        2 * v1 - v2 - v6,
        v2 - v3,
        v3 - v4 - out,
        v2 - v4 - v6,
        -2 * v1 + 2 * v3 - p.k5 * a3,
        0.1 * out - p.k * s4ex,
    ]


def lotka_volterra(t, y, p, u):
    return [y[0] * (p.a - p.b * y[1]), y[1] * (p.c * y[0] - p.d)]


def competition(t, y, p, u):
    """Lotka-Volterra with four species that compete, Vano et al. (2006)."""
    return [p.r[i] * y[i] * (1 - sum(p.A[i][j] * y[j] for j in range(4))) for i in range(4)]


def kuramoto(t, y, p, u):
    return [p.w[i] + p.k / 5 * sum(np.sin(y[j] - y[i]) for j in range(5) if j != i) for i in range(5)]


def bouncing(t, y, p, u):
    """A ball on an elastic floor at 0."""
    deep = np.maximum(-y[0], 0.0)
    return [y[1], -p.g + deep * (p.k - p.c * y[1])]


def switching(t, y, p, u):
    """Two springs, one to each side, and friction of one of them."""
    right = y[0] > 0
    return [y[1], np.where(right, -p.k1 * y[0], -p.k2 * y[0] - p.c * y[1])]


def toggle(t, y, p, u):
    """Gardner, Cantor and Collins (2000): two genes that repress each other."""
    return [p.a / (1 + y[1] ** 2) - y[0], p.b / (1 + y[0] ** 2) - y[1]]


def tanks(t, y, p, u):
    """Two tanks, one above the other, and a pump."""
    upper, lower = np.sqrt(np.maximum(y[0], 1e-3)), np.sqrt(np.maximum(y[1], 1e-3))
    return [p.k * u[0] - p.a * upper, p.a * upper - p.b * lower]


def satiation(t, y, p, u):
    """Rosenzweig and MacArthur (1963)."""
    eaten = p.a * y[0] / (1 + p.h * y[0]) * y[1]
    return [y[0] * (p.r - y[0] / p.k) - eaten, p.e * eaten - p.m * y[1]]


def logistic(t, y, p, u):
    return [p.r * y[0] * (1 - y[0] / p.k)]


def enzyme(t, y, p, u):
    """Substrate, complex, product."""
    bound = p.on * y[0] * (p.total - y[1])
    return [p.off * y[1] - bound, bound - (p.off + p.cat) * y[1], p.cat * y[1]]


def rigid_body(t, y, p, u):
    return [p.a * y[1] * y[2], p.b * y[2] * y[0], p.c * y[0] * y[1]]


def reactor(t, y, p, u):
    """A stirred tank with an exothermic reaction, cooled: conversion, temperature."""
    rate = p.da * (1 - y[0]) * np.exp(y[1] / (1 + y[1] / p.gamma))
    return [rate - y[0], p.b * rate - (1 + p.beta) * y[1]]


def morris_lecar(t, y, p, u):
    """Morris and Lecar (1981), voltages in units of 100 mV, times of 10 ms."""
    v, w = y
    opened, rest = 0.5 * (1 + np.tanh((v + 0.012) / 0.18)), 0.5 * (1 + np.tanh((v - 0.12) / 0.174))
    current = p.gca * opened * (v - 1.2) + p.gk * w * (v + 0.84) + p.gl * (v + 0.6)
    return [p.i - current, p.phi * (rest - w) * np.cosh((v - 0.12) / 0.348)]
