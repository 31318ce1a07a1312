"""pynode itself, installed from this checkout (and matplotlib, for the pictures)."""

import numpy as np

import pynode as pn

REQUIREMENTS = ["{checkout}[plot]"]


def van_der_pol_field():
    """Traced; mu is an input."""
    return pn.field(state=2, inputs=1)(lambda t, y, u: [y[1], u[0] * (1 - y[0] ** 2) * y[1] - y[0]])


def mixed(mu, y0, t):
    """(states (256, 2) at the last time, a call that solves)"""
    field = van_der_pol_field()

    def solve():
        return pn.solve(field, y0, t, inputs=mu[:, None], rtol=1e-6, atol=1e-8).y

    return solve()[:, -1], solve


def variants(case):
    weights, y0, t, target = case.arrays()
    net = pn.mlp(case.d, case.hidden)
    field = pn.field(state=case.d, theta={"net": net})(lambda t, y, th: th.net(y**3)) if case.cubic else net
    theta = np.concatenate([a.ravel() for layer in weights for a in layer]).astype(float)
    options = {"method": case.method}
    options |= {"step": case.step} if case.step else {"rtol": case.rtol, "atol": case.atol}
    objective = pn.Objective(field, y0, t, target.swapaxes(0, 1), **options)
    yield "", lambda: pn.solve(field, y0, t, theta, **options).y, lambda: objective(theta)


def fit(data, steps, report):
    model = pn.NeuralODE(random_state=0).fit(data["t"], data["noisy"])
    noise = np.mean([deviation**2 for deviation in model.report_["noise"].values()])
    report(None, lambda t, y0: model.predict(t, y0, return_std=True), noise=noise)
