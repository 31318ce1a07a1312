"""The same fit as a user writes it, with pynode and with lmfit: `known.py` runs both and counts their lines.

Each gives estimates and standard errors, and is formatted by ruff.
"""

import inspect

import lmfit
import numpy as np
from scipy.integrate import solve_ivp

import pynode as pn


def sir_pynode(t, y):
    @pn.field(state=3, theta={"beta": pn.positive(1.0), "gamma": pn.positive(0.3)})
    def sir(t, y, th):
        new = th.beta * y[0] * y[1] / 763
        return [-new, new - th.gamma * y[1], th.gamma * y[1]]

    model = pn.NeuralODE(field=sir, initial=[760, 3, 0], observe=lambda t, y, th: y[1]).fit(t, y)
    return model.theta_, np.sqrt(np.diag(model.covariance_))


def sir_lmfit(t, y):
    def sir(t, y, beta, gamma):
        new = beta * y[0] * y[1] / 763
        return [-new, new - gamma * y[1], gamma * y[1]]

    def residual(p):
        way = solve_ivp(sir, (t[0], t[-1]), [760, 3, 0], t_eval=t, args=(p["beta"].value, p["gamma"].value), rtol=1e-8)
        return way.y[1] - y[:, 0]

    start = lmfit.create_params(beta={"value": 1.0, "min": 0}, gamma={"value": 0.3, "min": 0})
    found = lmfit.minimize(residual, start).params
    return [p.value for p in found.values()], [p.stderr for p in found.values()]


def oral_pynode(t, y):
    start = {"ka": pn.positive(0.5), "CL": pn.positive(1.0), "V": pn.positive(10.0), "tlag": pn.positive(0.2)}

    @pn.field(state=2, theta=start)
    def absorption(t, y, th):
        return [-th.ka * y[0], th.ka * y[0] - th.CL / th.V * y[1]]

    model = pn.NeuralODE(field=absorption, initial=[0, 0], observe=lambda t, y, th: y[1] / th.V, lag={0: "tlag"})
    model.fit(t, y, doses=[pn.Dose(0, 100.0, interval=12.0, count=2)])
    return model.theta_, np.sqrt(np.diag(model.covariance_))


def oral_lmfit(t, y):
    def absorption(t, y, ka, CL, V):
        return [-ka * y[0], ka * y[0] - CL / V * y[1]]

    def residual(p):
        ka, CL, V, lag = p.valuesdict().values()
        state = np.zeros(2)
        now = 0.0
        read = np.zeros(len(t))
        for dose in [lag, 12.0 + lag, np.inf]:
            stop = min(dose, t[-1])
            here = (t > now) & (t <= stop)
            points = np.unique(np.concatenate([[now], t[here], [stop]]))
            if len(points) > 1:
                way = solve_ivp(absorption, (now, stop), state, t_eval=points, args=(ka, CL, V), rtol=1e-8)
                read[here] = way.y[1, np.isin(points, t[here])] / V
                state = way.y[:, -1]
            state[0] += 100.0
            now = stop
        return read - y[:, 0]

    start = lmfit.Parameters()
    for name, value in {"ka": 0.5, "CL": 1.0, "V": 10.0, "tlag": 0.2}.items():
        start.add(name, value=value, min=0)
    found = lmfit.minimize(residual, start).params
    return [p.value for p in found.values()], [p.stderr for p in found.values()]


def hunt_pynode(t, y):
    @pn.field(state=2, theta={"a": pn.positive(0.5), "b": pn.positive(0.5), "c": pn.positive(0.5), "d": pn.positive(0.5)})
    def hunt(t, y, th):
        return [th.a * y[0] - th.b * y[0] * y[1], th.d * y[0] * y[1] - th.c * y[1]]

    model = pn.NeuralODE(field=hunt, initial=[3, 1]).fit(t, y)
    return model.theta_, np.sqrt(np.diag(model.covariance_))


def hunt_lmfit(t, y):
    def hunt(t, y, a, b, c, d):
        return [a * y[0] - b * y[0] * y[1], d * y[0] * y[1] - c * y[1]]

    def residual(p):
        way = solve_ivp(hunt, (t[0], t[-1]), [3, 1], t_eval=t, args=tuple(p.valuesdict().values()), rtol=1e-8)
        return ((way.y.T - y) / noise).ravel()

    noise = np.array([0.3, 0.2])  # lmfit estimates no noise of its own for each column
    start = lmfit.create_params(**{name: {"value": 0.5, "min": 0} for name in "abcd"})
    found = lmfit.minimize(residual, start).params
    return [p.value for p in found.values()], [p.stderr for p in found.values()]


PAIRS = {
    "SIR, only I": (sir_pynode, sir_lmfit),
    "PK 1, oral, lag": (oral_pynode, oral_lmfit),
    "Lotka-Volterra": (hunt_pynode, hunt_lmfit),
}
"""Case -> (with pynode, with lmfit)."""


def lines(function):
    """How many lines a program has, without its head and blank ones."""
    return sum(bool(line.strip()) for line in inspect.getsource(function).splitlines()[1:])
