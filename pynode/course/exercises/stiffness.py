"""Exercises of notebook 19: stiffness."""

import numpy as np

from pynode.course.answers import Choice, Exercise, Number


def _rk4_limit() -> float:
    """The x > 0 at which RK4's factor 1 - x + x^2 / 2 - x^3 / 6 + x^4 / 24 is 1 again."""
    roots = np.roots([1 / 24, -1 / 6, 1 / 2, -1.0])
    return float(roots[np.abs(roots.imag) < 1e-9].real[0])


EXERCISES = {
    "rk4-limit": Exercise(
        Number(
            lambda: _rk4_limit() / 50,
            "At h = {value} RK4's factor is 1: longer steps grow, however smooth the solution is.",
            {
                "That is the limit of Euler's method, |1 - 50 h| = 1.": lambda: 2 / 50,
                "That is the limit of 50 h, not of h.": _rk4_limit,
            },
        ),
        "a step",
        "Where does |R(-x)| reach 1? Then x = 50 h.",
    ),
    "robertson-unseen": Exercise(
        Choice(
            "c",
            {
                "a": "The standard errors of k2 and k3 are NaN, and the summary says why.",
                "b": "A combination, but another one: k2 and k3 grow together along what is not determined.",
                "c": "With k2 c times and k3 c^2 times as large, B is c times smaller, which nobody sees who sees A and C.",
                "d": "A falls and C rises, and how fast they do is seen well.",
            },
        ),
        "a letter",
        "summary() of the fit without the column of B has a sentence that begins with Only.",
    ),
}
