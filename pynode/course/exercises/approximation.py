"""Exercises of notebook 07: universal approximation."""

import math

import numpy as np

from pynode.course.answers import Exercise, Number, Wrong, called


def _approximate_pendulum(field: object) -> str:
    side = np.linspace(-3, 3, 97)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    given = called(field, points, shape=points.shape, what="velocities, one row a point")
    error = float(np.linalg.norm(given - np.stack([points[:, 1], -np.sin(points[:, 0])], axis=1), axis=1).max())
    if error == 0:
        raise Wrong("That is the pendulum itself; a network was asked for.")
    if error < 0.02:
        return f"The largest error is {error:.2g}."
    at_centre = np.abs(points).max(axis=1) < 2
    inside = np.linalg.norm((given - np.stack([points[:, 1], -np.sin(points[:, 0])], axis=1))[at_centre], axis=1).max()
    if inside < 0.02:
        raise Wrong(
            f"Good in the middle, but near the edge of [-3, 3]^2 the error is {error:.2g}: train on all of the square."
        )
    raise Wrong(f"The largest error is {error:.2g}, not below 0.02. More iterations, another seed, more units.")


EXERCISES = {
    "gronwall": Exercise(
        Number(
            lambda: 0.005 * math.expm1(2.0),
            "{value}.",
            {
                "The -1 is missing: both paths start at the same point.": lambda: 0.005 * math.exp(2.0),
                "Divide by the Lipschitz constant.": lambda: 0.01 * math.expm1(2.0),
                "That is the growth of a distance at the start; here the distance starts at 0.": lambda: (
                    0.01 * math.exp(2.0)
                ),
            },
        ),
        "a distance",
        "eps / L (exp(L t) - 1)",
    ),
    "approximate-pendulum": Exercise(
        _approximate_pendulum, "a function of points (n, 2)", "fit_field with another truth and another square."
    ),
}
