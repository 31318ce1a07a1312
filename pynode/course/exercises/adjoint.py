"""Exercises of notebooks 03 and 11: the adjoint, in closed form and by hand."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pynode.calls.loss_and_grad import loss_and_grad
from pynode.course.answers import FOUR_DIGITS, Choice, Exercise, Wrong, called, numbers
from pynode.fields.make import field

CASES = ((2.0, 1.3, 1.5, 0.5), (1.0, 0.4, 2.0, -0.3), (-1.5, 2.0, 0.7, 0.1))
"""y0, alpha, T, y* at which functions of the student are tried."""


def _adjoint_closed_form(a: object) -> str:
    for y0, alpha, T, y_star in CASES:
        end = y0 * math.exp(-alpha * T) - y_star
        for t in (0.3 * T, 0.0, T):  # slips differ in the middle
            given = float(called(a, t, y0, alpha, T, y_star))
            right = end * math.exp(alpha * (t - T))
            if math.isclose(given, right, rel_tol=1e-6):
                continue
            if math.isclose(given, -right, rel_tol=1e-6):
                raise Wrong("The sign is wrong: a(T) = dL/dy(T) = y(T) - y*.")
            if math.isclose(given, end * math.exp(-alpha * (t - T)), rel_tol=1e-6):
                raise Wrong("You solved da/dt = -alpha a. The minus signs of -df/dy = -(-alpha) cancel: da/dt = +alpha a.")
            if math.isclose(given, end * math.exp(alpha * t), rel_tol=1e-6):
                raise Wrong("The condition holds at the end, a(T) = y(T) - y*: the exponent is alpha (t - T).")
            if math.isclose(given, end, rel_tol=1e-6):
                raise Wrong("That is a(T), and a changes with t.")
            raise Wrong(
                f"At t = {t:g}, y0 = {y0:g}, alpha = {alpha:g}, T = {T:g}, y* = {y_star:g} it gives {given:.6g}, "
                "which is not dL/dy(t)."
            )
    return "a(t) = (y0 exp(-alpha T) - y*) exp(alpha (t - T))."


def _gradient_alpha(g: object) -> str:
    for y0, alpha, T, y_star in CASES:
        end = y0 * math.exp(-alpha * T)
        given = float(called(g, y0, alpha, T, y_star))
        right = -(end - y_star) * T * end
        if math.isclose(given, right, rel_tol=1e-6):
            continue
        if math.isclose(given, -right, rel_tol=1e-6):
            raise Wrong("The sign is wrong: df/dalpha = -y, and the integral from 0 to T comes with a plus.")
        if math.isclose(given, right / T, rel_tol=1e-6):
            raise Wrong("A factor T is missing: the integrand is constant, the interval is T long.")
        if math.isclose(given, -(end - y_star) * T * y0, rel_tol=1e-6):
            raise Wrong("exp(-alpha T) is missing: a(t) y(t) = a(T) y(T) at every t.")
        raise Wrong(
            f"At y0 = {y0:g}, alpha = {alpha:g}, T = {T:g}, y* = {y_star:g} it gives {given:.6g}, not dL/dalpha. "
            "Differentiate L directly and compare."
        )
    return "dL/dalpha = -(y0 exp(-alpha T) - y*) T y0 exp(-alpha T)."


def _scalar_gradient(factor: float = 1.0) -> NDArray[np.float64]:
    """dL/dtheta of the exercise: discrete adjoint at a tolerance of 1e-12."""

    @field(state=1, theta={"w1": 0.8, "b1": -0.2, "w2": -1.0, "b2": 0.3})
    def f(t: Any, y: Any, th: Any) -> list[Any]:
        return [th.w2 * np.tanh(th.w1 * y[0] + th.b1) + th.b2]

    options: dict[str, Any] = {"loss": "sse", "method": "dop853", "rtol": 1e-12, "atol": 1e-13}
    value = loss_and_grad(f, [1.5], [0.0, 2.0], f.init(), [[np.nan], [0.5]], **options)
    return factor * np.asarray(value.theta)


def _scalar_adjoint(answer: object) -> str:
    given = numbers(answer, (4,), "four numbers (w1, b1, w2, b2)")
    right = _scalar_gradient(0.5)
    if np.allclose(given, right, rtol=FOUR_DIGITS):
        return "dL/d(w1, b1, w2, b2) = " + ", ".join(f"{x:.6f}" for x in right) + "."
    if np.allclose(given, 2 * right, rtol=2e-3):
        raise Wrong("Twice too large: the loss has a factor 1/2.")
    if np.allclose(given, -right, rtol=2e-3):
        raise Wrong("All signs are turned round: the integral for theta has a plus from 0 to T.")
    if np.allclose(np.sort(given), np.sort(right), rtol=2e-3):
        raise Wrong("The right numbers in another order: w1, b1, w2, b2.")
    off = [
        name
        for name, a, b in zip(("w1", "b1", "w2", "b2"), given, right, strict=True)
        if not math.isclose(a, b, rel_tol=2e-3)
    ]
    raise Wrong(f"Not right: {', '.join(off) or 'the fourth digit; take more steps'}.")


EXERCISES = {
    "adjoint-closed-form": Exercise(
        _adjoint_closed_form,
        "a function a(t, y0, alpha, T, y_star)",
        "da/dt = -a df/dy = alpha a, with a(T) = y(T) - y*.",
    ),
    "gradient-alpha": Exercise(
        _gradient_alpha,
        "a function of (y0, alpha, T, y_star)",
        "The integral of a(t) (-y(t)) from 0 to T; a(t) y(t) does not depend on t.",
    ),
    "adjoint-memory": Exercise(
        Choice(
            "b",
            {
                "a": "The parameters do not change from step to step: they are stored once, p, not N p.",
                "b": "States for each step, parameters once; the continuous adjoint keeps the current state only.",
                "c": "The first is right. The continuous adjoint solves y backwards again and keeps no path.",
                "d": "The other way round.",
            },
        ),
        "a letter",
        "What differs from step to step must be kept for each step.",
    ),
    "scalar-adjoint": Exercise(
        _scalar_adjoint, "four numbers, each to four digits", "adjoint_by_hand with other constants."
    ),
}
