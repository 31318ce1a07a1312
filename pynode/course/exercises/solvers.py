"""Exercises of notebooks 00, 01 and 08: the first fit, solvers, their order."""

import math

from pynode.course.answers import Exercise, Number, Wrong, numbers


def _small_swing_period() -> float:
    """The period of angle'' = -4 sin(angle) - 0.25 angle' near 0, where it is a damped linear oscillator."""
    return 2 * math.pi / math.sqrt(4.0 - 0.125**2)


def _order_of_heun(answer: object) -> str:
    order = float(numbers(answer))
    if abs(order - 2) <= 0.1:
        return f"{order:.2f}: Heun's method has order 2. Half the step, a quarter of the error."
    if abs(order + 2) <= 0.1:
        raise Wrong("The slope of log(error) against log(number of steps) is negative; against log(h) it is positive.")
    if abs(order - 1) <= 0.15:
        raise Wrong("Order 1 is Euler's. Is the method `heun`?")
    if abs(order - 3) <= 0.15:
        raise Wrong("3 is the slope of the error of one single step; after a fixed time many of them add up.")
    if abs(order - 2) <= 0.5:
        raise Wrong(f"{order:.2f} is near, but leave out the steps that are too long for a straight line (or too short).")
    raise Wrong(f"{order:.3g} is no slope that this method has. Take logarithms of both, error and h.")


def _rk4_error(h: float) -> float:
    factor = sum((-2 * h) ** k / math.factorial(k) for k in range(5))
    return float(abs(factor ** round(1 / h) - math.exp(-2)))


EXERCISES = {
    "quickstart-period": Exercise(
        Number(
            _small_swing_period,
            "About {value} s.",
            {
                "That is half a period: count crossings in one direction only.": lambda: _small_swing_period() / 2,
                "That is the angular frequency (rad/s), not the period.": lambda: math.sqrt(4.0 - 0.125**2),
                "That is the frequency (1/s), not the period.": lambda: 1 / _small_swing_period(),
            },
            rtol=0.03,
        ),
        "the period in seconds",
        "Predict from [0.05, 0] on a fine grid, find where the angle crosses zero downwards, take differences.",
    ),
    "order-of-heun": Exercise(
        _order_of_heun, "the slope of log(error) against log(h), to 0.1", "np.polyfit(np.log(h), np.log(errors), 1)[0]"
    ),
    "euler-stability": Exercise(
        Number(
            lambda: 1.0,
            "At h = {value} s Euler's factor 1 - 2h is -1: the solution alternates for ever, beyond it grows.",
            {"There the factor 1 - 2h is 0: the solution is 0 after one step, still stable.": lambda: 0.5},
        ),
        "a step in seconds",
        "Solve |1 - 2h| = 1.",
    ),
    "euler-steps-to-match": Exercise(
        Number(
            lambda: 2 * math.exp(-2) / _rk4_error(0.1),
            "About {value} Euler steps for ten of RK4.",
            {
                "40 is the number of evaluations of RK4. Euler with 40 steps is far less accurate.": lambda: 40,
                "That is the answer for h = 0.05; here h = 0.1.": lambda: 2 * math.exp(-2) / _rk4_error(0.05),
            },
            rtol=0.05,
        ),
        "a number of steps",
        "Euler's error is about 2 exp(-2) / N. Set it equal to RK4's.",
    ),
}
