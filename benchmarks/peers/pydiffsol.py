"""pydiffsol: BDF in Rust, equations compiled by LLVM; for stiff problems. Gradients by forward sensitivities."""

import numpy as np
import pydiffsol as ds
from stiff_problems import RTOL, Ways

REQUIREMENTS = ["pydiffsol", "numpy"]

SHARE = 32
"""Samples of the batch, which take turns."""


class Term:
    """An expression of DiffSL, written down."""

    def __init__(self, text):
        self.text = text

    def __pow__(self, n):
        product = self
        for _ in range(n - 1):
            product = product * self
        return product

    def __neg__(self):
        return Term(f"(-{self.text})")


def _binary(sign, swapped):
    def operation(self, other):
        other = other.text if isinstance(other, Term) else f"{float(other)!r}"
        left, right = (other, self.text) if swapped else (self.text, other)
        return Term(f"({left} {sign} {right})")

    return operation


for _name, _sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("truediv", "/")):
    setattr(Term, f"__{_name}__", _binary(_sign, False))
    setattr(Term, f"__r{_name}__", _binary(_sign, True))


class Functions:
    """Stands for the namespace of functions."""

    @staticmethod
    def sqrt(x):
        return Term(f"sqrt({x.text})")


def code(problem, scale, f):
    """The problem in DiffSL."""
    y = [Term(f"y{i}") for i in range(scale.size)]
    q = [Term(f"q{i}") for i in range(len(problem.p))]
    inputs = ", ".join(f"{term.text} = 1.0" for term in q)
    starts = ", ".join(f"{term.text} = {float(v)!r}" for term, v in zip(y, np.array(problem.y0) / scale, strict=True))
    rates = ",\n".join(rate.text for rate in f(Functions, Term("t"), y, q))
    return f"in_i {{ {inputs} }}\nu_i {{ {starts} }}\nF_i {{ {rates} }}\n"


def stiff(problem):
    scale, f = problem.scaled()
    ode = ds.Ode(code(problem, scale, f), matrix_type=ds.nalgebra_dense)
    ode.ode_solver = ds.bdf
    ends, p = np.array([0.5, 1.0]) * problem.end, np.array(problem.p)
    batch = problem.samples[:SHARE] / p

    def one(rtol):
        def solve():
            ode.rtol, ode.atol = rtol, problem.atol_at(rtol).min()
            return np.asarray(ode.solve_dense(np.ones_like(p), ends).ys)[:, -1] * scale, None

        return solve

    def forward():
        ode.rtol, ode.atol = RTOL, min(problem.atol)
        return np.array([np.asarray(ode.solve_dense(q, ends).ys)[:, -1] * scale for q in batch])

    def gradient():
        ode.rtol, ode.atol = RTOL, min(problem.atol)
        ode.sens_rtol, ode.sens_atol = RTOL, min(problem.atol)
        squares, found = (problem.weights * scale) ** 2, []
        for q in batch:
            solution = ode.solve_fwd_sens(q, ends)
            seed = 2 * squares * np.asarray(solution.ys)[:, -1]
            found.append([seed @ np.asarray(s)[:, -1] for s in solution.sens])
        return np.array(found) / p

    return {"BDF": Ways(one, forward, gradient)}
