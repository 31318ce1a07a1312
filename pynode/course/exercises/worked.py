"""Exercises of notebook 02: the two worked examples."""

import math

from pynode.course.answers import Exercise, Number

W1 = 1.5
B1 = 0.0
W2 = -2.0
B2 = 0.0
"""The field w2 tanh(w1 y + b1) + b2."""

Y0 = 1.0
H = 0.25
TARGET = 0.37
"""Start, Euler step, and the value observed at t = 0.5."""


def _field(y: float, w2: float = W2) -> float:
    return w2 * math.tanh(W1 * y + B1) + B2


def _slope(y: float) -> float:
    return W2 * W1 * (1 - math.tanh(W1 * y + B1) ** 2)


def _euler(w2: float = W2) -> tuple[float, float]:
    """y1 and y2."""
    y1 = Y0 + H * _field(Y0, w2)
    return y1, y1 + H * _field(y1, w2)


def _exact_flow() -> float:
    return math.asinh(math.sinh(1.5) * math.exp(-1.5)) / 1.5


def _adjoint_step(slope_at: int = 0) -> float:
    """a1 = a2 (1 + h df/dy), df/dy at y1 (0) or, wrongly, at y2 (1)."""
    y = _euler()
    return (y[1] - TARGET) * (1 + H * _slope(y[slope_at]))


def _gradient_w2() -> float:
    """The exact derivative of the Euler loss: h (a1 df/dw2(y0) + a2 df/dw2(y1)), a the discrete adjoint."""
    y1, y2 = _euler()
    return H * (_adjoint_step() * math.tanh(W1 * Y0) + (y2 - TARGET) * math.tanh(W1 * y1))


def _gradient_w2_of_the_flow() -> float:
    """The exact y(0.5) solves sinh(w1 y) = sinh(w1 y0) exp(w1 w2 t); its derivative with respect to w2 is t tanh(w1 y)."""
    end = _exact_flow()
    return (end - TARGET) * 0.5 * math.tanh(W1 * end)


EXERCISES = {
    "euler-y2": Exercise(
        Number(
            lambda: _euler()[1],
            "y(0.5) by two Euler steps is {value}.",
            {
                "That is the solution of y' = -2y, another equation.": lambda: math.exp(-1),
                "That is the exact solution of this field. Asked for: two Euler steps.": _exact_flow,
                "That is after one step; one more.": lambda: _euler()[0],
                "That is one long step of 0.5. Take two of 0.25.": lambda: Y0 + 0.5 * _field(Y0),
            },
        ),
        "the state after two Euler steps of 0.25",
        "y1 = y0 + 0.25 f(y0), then once more from y1.",
    ),
    "slope-at-origin": Exercise(
        Number(
            lambda: _slope(0.0),
            "df/dy at 0 is w1 w2 = {value}: near the origin the field is -3y, not -2y.",
            {"-2 is w2 alone; the chain rule brings w1 too.": lambda: W2, "1.5 is w1 alone.": lambda: W1},
        ),
        "df/dy at y = 0",
        "f = w2 tanh(w1 y): the derivative of tanh at 0 is 1, and there is an inner derivative.",
    ),
    "slope-at-y2": Exercise(
        Number(
            lambda: _slope(_euler()[1]),
            "df/dy at y2 is {value}.",
            {
                "That is df/dy at y1 = 0.5474. Put y2 in (the original page slipped here too).": lambda: _slope(_euler()[0]),
                "That is df/dy at y0.": lambda: _slope(Y0),
                "That is the slope at the origin, without saturation.": lambda: _slope(0.0),
                "The inner derivative w1 is missing.": lambda: _slope(_euler()[1]) / W1,
                "That is right to three digits; one more, please: answers are wanted to 0.05 %.": lambda: -2.72,
            },
        ),
        "df/dy at y2",
        "w1 w2 (1 - tanh(w1 y)^2), at y = y2.",
    ),
    "adjoint-a1": Exercise(
        Number(
            _adjoint_step,
            "a1 = {value}: the exact derivative of the loss with respect to y1.",
            {
                "You took df/dy at y2. The step to y2 used the field at y1: take its derivative there.": lambda: (
                    _adjoint_step(1)
                ),
                "That is a2, the derivative with respect to the last state.": lambda: _euler()[1] - TARGET,
            },
        ),
        "dL/dy1",
        "y2 = y1 + h f(y1). Differentiate: dy2/dy1 = 1 + h df/dy(y1), and a1 = a2 dy2/dy1.",
    ),
    "gradient-w2": Exercise(
        Number(
            _gradient_w2,
            "dL/dw2 = {value}. It is negative: a larger w2 (closer to 0) lets y(0.5) = 0.2096 rise towards 0.37.",
            {
                "That is dL/dw2 with tanh taken at y2 and y1. Euler's steps used y1 and y0.": lambda: (
                    H
                    * (_adjoint_step() * math.tanh(W1 * _euler()[0]) + (_euler()[1] - TARGET) * math.tanh(W1 * _euler()[1]))
                ),
                "Only the last step counts there; w2 acts in the first one too.": lambda: (
                    H * (_euler()[1] - TARGET) * math.tanh(W1 * _euler()[0])
                ),
                "That is the gradient of the exact flow, with its own y(0.5) = 0.3059. Asked for: of the two Euler steps.": (
                    _gradient_w2_of_the_flow
                ),
            },
        ),
        "dL/dw2 of the Euler loss",
        "w2 acts in both steps: h (a1 tanh(w1 y0) + a2 tanh(w1 y1)). Test it with finite differences.",
    ),
}
