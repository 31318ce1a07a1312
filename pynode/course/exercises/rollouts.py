"""Exercises of notebooks 09 and 16: models whose trajectories are compared with the truth; the capstone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.calls.solve import solve
from pynode.course.answers import Exercise, Wrong, called
from pynode.datasets.oscillators import van_der_pol_field
from pynode.fields.field import Field
from pynode.fields.make import field


def _rollout_errors(
    predict: object, truth: Field, starts: Sequence[Sequence[float]], t: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean squared error of the student's rollout from each start, against the true field."""
    errors = []
    for y0 in starts:
        given = called(predict, t, np.array(y0), shape=(len(t), 2), what="states, one row a time")
        exact = solve(truth, y0, t, method="dop853", rtol=1e-10, atol=1e-10).y
        errors.append(float(np.mean((given - exact) ** 2)))
    return np.array(errors)


def _oscillator(predict: object) -> str:
    @field(state=2)
    def truth(t: Any, y: Any) -> list[Any]:
        return [y[1], -y[0] - 0.5 * y[1]]

    errors = _rollout_errors(predict, truth, ([-1.0, 0.0], [0.7, 0.7], [0.3, -0.8]), np.linspace(0, 4, 41))
    if errors.max() < 1e-4:
        return f"Held-out mean squared errors up to {errors.max():.1e}."
    if errors.min() < 1e-4:
        raise Wrong(
            f"Errors {errors.min():.1e} to {errors.max():.1e}: good from some starts only. Did you train on all three?"
        )
    raise Wrong(f"The held-out errors are {errors.min():.1e} to {errors.max():.1e}, not below 1e-4. Train longer.")


def _limit_cycle(x: NDArray[np.float64], h: float) -> tuple[float, float]:
    """Largest |x| and period of samples at distance h; upward zeros by straight lines between samples."""
    up = np.flatnonzero((x[:-1] < 0) & (x[1:] >= 0))
    if len(up) < 3:
        raise Wrong("Between 30 and 60 s your model does not oscillate: no limit cycle. Was it trained on whole runs?")
    period = np.diff(up - x[up] / (x[up + 1] - x[up])).mean() * h
    return float(np.abs(x).max()), float(period)


def _capstone(predict: object) -> str:
    truth = van_der_pol_field()
    starts = ([0.5, 0.5], [-2.0, 1.0], [1.5, -2.0], [2.5, 2.0], [-0.3, -2.4])
    median = float(np.median(_rollout_errors(predict, truth, starts, np.linspace(0, 10, 101))))
    t = np.linspace(0, 60, 12001)
    right = _limit_cycle(solve(truth, [0.5, 0.0], t, rtol=1e-10, atol=1e-10).y[6000:, 0], t[1])
    found = _limit_cycle(
        called(predict, t, np.array([0.5, 0.0]), shape=(len(t), 2), what="states, one row a time")[6000:, 0], t[1]
    )
    if median < 1e-8:
        raise Wrong("So exact can only the true equation be, after noise of 0.05. Hand in the model.")
    told = (
        f"Median held-out MSE {median:.2g}, amplitude {found[0]:.4f} (true {right[0]:.4f}), "
        f"period {found[1]:.4f} s (true {right[1]:.4f} s)."
    )
    if median >= 0.0025:
        raise Wrong(told + " The error is above the variance of the noise: train on.")
    if abs(found[0] / right[0] - 1) > 0.02 or abs(found[1] / right[1] - 1) > 0.01:
        raise Wrong(
            told + " Trajectories are good; the limit cycle is not: are the outer runs fitted as well as the inner ones?"
        )
    return told


EXERCISES = {
    "oscillator": Exercise(_oscillator, "a function predict(t, y0)", "lambda t, y0: pn.solve(f, y0, t, theta).y"),
    "capstone": Exercise(_capstone, "a function predict(t, y0)", "model.predict of a pn.NeuralODE fitted to data.train."),
}
