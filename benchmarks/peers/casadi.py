"""CasADi with generated, compiled C, for the cases of fixed steps; its cvodes for stiff problems."""

from functools import cache

import casadi as ca
import numpy as np
from stiff_problems import RTOL, Ways

REQUIREMENTS = ["casadi", "numpy"]
COMPILED = {"jit": True, "compiler": "shell", "jit_options": {"flags": ["-O3", "-march=native", "-ffast-math"]}}

SHARE = 32
"""Samples of the batch of stiff problems, which take turns."""


def variants(case):
    if case.step is None:
        return
    weights, y0, _, target = case.arrays()
    theta = np.concatenate([a.ravel() for layer in weights for a in layer])
    y, th, h = ca.SX.sym("y", case.d), ca.SX.sym("theta", theta.size), case.step
    field = ca.Function("field", [y, th], [network(y, th, weights)])
    if case.method == "euler":
        after = y + h * field(y, th)
    else:
        k1 = field(y, th)
        k2 = field(y + h / 2 * k1, th)
        k3 = field(y + h / 2 * k2, th)
        k4 = field(y + h * k3, th)
        after = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    n = round(case.end / h)
    walk = ca.Function("step", [y, th], [after]).mapaccum(n)
    starts, parameters, loss = ca.MX.sym("y0", case.d, case.batch), ca.MX.sym("theta", theta.size), 0
    for b in range(case.batch):
        states = ca.horzcat(starts[:, b], walk(starts[:, b], ca.repmat(parameters, 1, n)))
        loss += ca.sumsqr(states[:, :: n // (case.n_times - 1)] - ca.DM(target[:, b].T))
    loss /= target.size

    def calls(options):
        @cache
        def function(name):
            outputs = [loss, ca.gradient(loss, parameters)] if name == "gradient" else [loss]
            return ca.Function(name, [starts, parameters], outputs, options)

        return (lambda: function("forward")(y0.T, theta)), (lambda: function("gradient")(y0.T, theta))

    yield "compiled", *calls(COMPILED)
    yield "interpreted", *calls({})


def network(y, theta, weights):
    used = 0
    for k, (W, b) in enumerate(weights):
        matrix = ca.reshape(theta[used : used + W.size], *W.shape[::-1]).T
        used += W.size
        y = matrix @ (ca.tanh(y) if k else y) + theta[used : used + b.size]
        used += b.size
    return y


def stiff(problem):
    """cvodes of SUNDIALS; its expressions are interpreted."""
    scale, f = problem.scaled()
    d, k = scale.size, len(problem.p)
    z, q = ca.SX.sym("z", d), ca.SX.sym("q", k)
    rates = ca.vertcat(*f(ca, 0.0, ca.vertsplit(z), ca.vertsplit(q)))
    start, batch = np.array(problem.y0) / scale, (problem.samples[:SHARE] / problem.p).T

    @cache
    def integrator(rtol):
        options = {"reltol": rtol, "abstol": problem.atol_at(rtol).min(), "max_num_steps": 1_000_000}
        return ca.integrator("solve", "cvodes", {"x": z, "p": q, "ode": rates}, 0.0, problem.end, options)

    def one(rtol):
        made = integrator(rtol)

        def solve():
            end = np.array(made(x0=start, p=1.0)["xf"]).ravel() * scale
            return end, made.stats().get("nsteps")

        return solve

    @cache
    def gradients():
        factors = ca.MX.sym("q", k)
        loss = ca.sumsqr(problem.weights * scale * integrator(RTOL)(x0=start, p=factors)["xf"])
        return ca.Function("gradients", [factors], [ca.gradient(loss, factors)]).map(SHARE)

    def forward():
        return np.array(integrator(RTOL).map(SHARE)(x0=np.tile(start[:, None], SHARE), p=batch)["xf"]).T * scale

    return {"cvodes": Ways(one, forward, lambda: np.array(gradients()(batch)).T / problem.p)}
