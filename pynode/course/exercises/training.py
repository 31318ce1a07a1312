"""Exercises of notebooks 04, 10 and 13: training on the data of the code lab."""

import math

import numpy as np

from pynode.calls.objective import Objective
from pynode.course.answers import FOUR_DIGITS, Exercise, Number, Unanswered, Wrong, numbers
from pynode.course.lab import code_lab
from pynode.fields.make import mlp

RATES = (0.001, 0.005, 0.01, 0.05, 0.1)
"""Learning rates that the student compares."""


def _code_lab(theta: object) -> str:
    f = mlp(1, (8,))
    lab = code_lab()
    theta = numbers(theta, (f.n_params,), "theta, 25 numbers")
    loss = Objective(f, lab.y0, lab.t, lab.noisy, method="euler", step=0.05).value(theta)
    y = np.linspace(-1, 1, 21)
    off = float(np.abs(f(0.0, y[:, None], theta)[:, 0] + 2 * y).max())
    if not loss < 1e-3:
        raise Wrong(f"The loss is {loss:.2g}, not below 0.001. Train longer, or with another optimiser.")
    if not off < 0.3:
        raise Wrong(f"The loss, {loss:.2g}, is low enough, but the field is off by {off:.2g} somewhere in [-1, 1].")
    return f"Loss {loss:.2g} (variance of the noise: {0.02**2:g}), field within {off:.2g} of -2y."


def _final_losses(epochs: int = 120) -> dict[float, float]:
    f = mlp(1, (8,))
    lab = code_lab()
    objective = Objective(f, lab.y0, lab.t, lab.noisy, method="euler", step=0.05)
    losses = {}
    for rate in RATES:
        theta = f.init(0)
        for _ in range(epochs):
            theta = theta - rate * objective(theta)[1]
        losses[rate] = float(objective.value(theta))
    return losses


def _learning_rates(answer: object) -> str:
    if not isinstance(answer, dict) or set(answer) != set(RATES):
        raise Wrong(f"The answer is a dictionary with the keys {', '.join(map(str, RATES))}.")
    if any(value is ... or value is None for value in answer.values()):
        raise Unanswered
    right = _final_losses()
    before = _final_losses(119)
    for rate in RATES:
        given = float(numbers(answer[rate]))
        if math.isclose(given, right[rate], rel_tol=FOUR_DIGITS):
            continue
        if math.isclose(given, before[rate], rel_tol=FOUR_DIGITS):
            raise Wrong(f"At {rate:g} that is the loss before the last update.")
        raise Wrong(f"At {rate:g} the loss is not {given:.4g}. Seed 0? 120 epochs? Plain gradient descent?")
    return "The loss falls all the way to 0.1: these rates are all stable, the small ones are unfinished."


def _curriculum(theta: object) -> str:
    f = mlp(1, (8,))
    lab = code_lab(end=2.0)
    theta = numbers(theta, (f.n_params,), "25 numbers")
    loss = Objective(f, lab.y0, lab.t, lab.noisy, method="rk4", step=0.05).value(theta)
    if loss < 4.5e-4:
        return f"Loss {loss:.3g} over the full interval."
    short = Objective(f, lab.y0, lab.t[:11], lab.noisy[:, :11], method="rk4", step=0.05).value(theta)
    if short < 5.5e-4:
        raise Wrong(f"Loss {loss:.2g} on the full interval, {short:.2g} on the first half second: go on with longer stages.")
    raise Wrong(f"Loss {loss:.2g}, not below 0.00045. More epochs a stage?")


EXERCISES = {
    "code-lab": Exercise(_code_lab, "the trained theta", "pn.fit.lbfgs(objective, theta0).theta"),
    "learning-rates": Exercise(
        _learning_rates, "a dictionary {rate: final loss}, to four digits", "The loss after the last update."
    ),
    "stable-rate": Exercise(
        Number(
            lambda: 0.04,
            "{value} = 2 / 50.",
            {
                "1 / 50 is the rate that jumps straight to the bottom; twice that is still stable.": lambda: 0.02,
                "That is the limit of the flattest direction; the steepest one sets it.": lambda: 10.0,
                "That is the limit of the middle direction.": lambda: 2 / 3,
            },
        ),
        "a learning rate",
        "|1 - eta lambda| < 1 for every curvature.",
    ),
    "curriculum": Exercise(_curriculum, "the final theta", "Stages of 100 epochs: 0.5, 1, 1.5, 2 s."),
}
