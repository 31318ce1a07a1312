"""Exercises of notebook 14: the agent's view."""

import math

from pynode.course.answers import Exercise, Number


def _policy_cost(k: float, T: float = 2.0) -> float:
    return (1 + k**2 / 2) * -math.expm1(-2 * k * T) / (2 * k)


def _policy_gradient(k: float = 1.0) -> float:
    """By central differences of the closed form, order 4."""
    h = 1e-3
    near = (_policy_cost(k + h) - _policy_cost(k - h)) / (2 * h)
    far = (_policy_cost(k + 2 * h) - _policy_cost(k - 2 * h)) / (4 * h)
    return (4 * near - far) / 3


EXERCISES = {
    "policy-gradient": Exercise(
        Number(
            _policy_gradient,
            "dJ/dk = {value}.",
            {
                "That is J itself, not its derivative.": lambda: _policy_cost(1.0),
                "That is the gradient at k = 0.7.": lambda: _policy_gradient(0.7),
            },
        ),
        "dJ/dk at k = 1",
        "Central differences of J(k).",
    ),
}
