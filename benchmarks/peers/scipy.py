"""SciPy's implicit methods, with the exact Jacobian; for stiff problems."""

import numpy as np
from scipy.integrate import solve_ivp
from stiff_problems import RTOL, Ways, functions

REQUIREMENTS = ["scipy", "numpy"]

SHARE = 8
"""Samples of the batch, which take turns: as many as time allows."""


def stiff(problem):
    def ways(method):
        def solved(f, jacobian, rtol):
            atol = problem.atol_at(rtol)
            found = solve_ivp(f, (0.0, problem.end), problem.y0, method, rtol=rtol, atol=atol, jac=jacobian)
            if not found.success:
                raise RuntimeError(found.message)
            return found.y[:, -1], len(found.t) - 1

        def one(rtol):
            pair = functions(problem, problem.p)
            return lambda: solved(*pair, rtol)

        def forward():
            return np.array([solved(*functions(problem, p), RTOL)[0] for p in problem.samples[:SHARE]])

        return Ways(one, forward)

    return {method: ways(method) for method in ("Radau", "BDF", "LSODA")}
