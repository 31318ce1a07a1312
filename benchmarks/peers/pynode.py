"""pynode itself, installed from this checkout (and matplotlib, for the pictures)."""

import numpy as np
from stiff_problems import RTOL, Ways

import pynode as pn

REQUIREMENTS = ["{checkout}[plot]"]

METHODS = ("rodas5p", "auto", "rodas4", "rosenbrock23")
"""For stiff problems."""

BATCHED = ("rodas5p", "auto")
"""Those that solve the batch, at 1e-6."""


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


def stiff(problem):
    """Methods on the equations all libraries have; where there is an algebraic form, rodas5p on that too."""
    found = {method: ways(problem, method, problem.f) for method in METHODS}
    if problem.dae:
        found["rodas5p, mass="] = ways(problem, "rodas5p", *problem.dae)
    return found


def ways(problem, method, f, mass=None, more=()):
    """See `Problem.dae` for mass and more."""
    y0 = np.array([*problem.y0, *more])
    d, k = y0.size, len(problem.p)
    field = pn.field(state=d, theta=(k,))(lambda t, y, th: f(np, t, [y[i] for i in range(d)], [th[i] for i in range(k)]))
    t, theta = np.array([0.0, problem.end]), np.array(problem.p)
    batch = problem.samples
    target, weight = np.zeros((len(batch), 2, d)), np.append(problem.weights**2, [0.0] * len(more))
    target[:, 0] = np.nan

    def options(rtol):
        atol = np.append(problem.atol_at(rtol), [rtol] * len(more))
        found = {"method": method, "rtol": rtol, "atol": atol, "max_steps": 10_000_000}
        return found if mass is None else found | {"mass": mass}

    def one(rtol):
        chosen = options(rtol)

        def solve():
            solution = pn.solve(field, y0, t, theta, **chosen)
            return solution.y[-1], int(solution.stats.accepted + solution.stats.rejected)

        return solve

    def gradient(p, target, rtol):
        return pn.loss_and_grad(field, y0, t, p, target, loss="sse", weight=weight, **options(rtol)).theta

    if method not in BATCHED:
        return Ways(one)
    return Ways(
        one,
        forward=lambda: pn.solve(field, y0, t, batch, **options(RTOL)).y[:, -1],
        gradient=lambda: gradient(batch, target, RTOL),
        slope=lambda rtol: lambda: gradient(batch[0], target[0], rtol),
    )


def fit(data, steps, report):
    model = pn.NeuralODE(random_state=0).fit(data["t"], data["noisy"])
    noise = np.mean([deviation**2 for deviation in model.report_["noise"].values()])
    report(None, lambda t, y0: model.predict(t, y0, return_std=True), noise=noise)
