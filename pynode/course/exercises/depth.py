"""Exercises of notebooks 05 and 12: layers as Euler steps, and how many."""

import math

import numpy as np

from pynode.course.answers import Exercise, Number, Unanswered, Wrong, called, numbers


def _resnet_orders(answer: object) -> str:
    if any(x is ... or x is None for x in np.atleast_1d(np.asarray(answer, dtype=object)).ravel()):
        raise Unanswered
    local, total = numbers(answer, (2,), "a pair of numbers")
    if (local, total) == (2, 1):
        return "Local O(1/N^2), and N of them: global O(1/N)."
    if (local, total) == (1, 2):
        raise Wrong("The other way round: the error of one layer is the smaller one.")
    if local == 1:
        raise Wrong("Euler keeps the term with dt; the first it drops has dt squared.")
    if (local, total) == (2, 2):
        raise Wrong("Local is right. But there are N = 1/dt layers, and their errors add up.")
    raise Wrong("Expand the exact solution in dt: which is the first power that h + dt f(h) misses?")


def _resnet_depth() -> int:
    return next(n for n in range(3, 10_000) if abs((1 - 2 / n) ** n - math.exp(-2)) < 1e-3)


def _depth(y0: float, threshold: float, after: bool = False) -> int:
    """Euler steps of 0.05 s on y' = -2 y until |f| < threshold, tested before each step (or, wrongly, after it)."""
    y = y0
    n = 0
    while abs(2 * y) >= threshold or (after and n == 0):
        y *= 0.9
        n += 1
    return n


def _adaptive_depth(depth: object) -> str:
    for y0, threshold in ((1.0, 0.1), (-3.0, 0.01), (0.04, 0.1), (0.5, 1.0), (2.0, 1e-6)):
        given = float(called(depth, y0, threshold))
        right = _depth(y0, threshold)
        if given == right:
            continue
        at = f"depth({y0:g}, {threshold:g}) gives {given:g}, not {right}."
        if y0 < 0 and given == 0:
            raise Wrong(at + " Take the absolute value of f.")
        if given == _depth(y0, threshold, after=True):
            raise Wrong(at + " Test before the step: a start that is slow already takes none.")
        if abs(given - right) == 1:
            raise Wrong(at + " One off: count steps taken, and stop as soon as |f| < threshold.")
        if y0 == 1.0 and given == next(n for n in range(1000) if 0.9**n < threshold):
            raise Wrong(at + " The velocity is 2|y|, not |y|.")
        raise Wrong(at)
    return "It counts right, for slow and for negative starts too."


EXERCISES = {
    "resnet-orders": Exercise(_resnet_orders, "a pair (local, global)", "Taylor; then count the layers."),
    "resnet-depth": Exercise(
        Number(
            _resnet_depth,
            "{value} layers: the first number of which the error is below 0.001.",
            {
                "271 is the estimate 2 exp(-2) / 0.001 = 270.7, rounded up; its error is 0.00100001. One more.": (
                    lambda: 271
                ),
                "270 is the estimate 2 exp(-2) / 0.001; now search exactly.": lambda: 270,
            },
            rtol=1e-9,
        ),
        "a number of layers",
        "(1 - 2/N)^N against exp(-2): try N near 2 exp(-2) / 0.001.",
    ),
    "adaptive-depth": Exercise(
        _adaptive_depth, "a function depth(y0, threshold)", "while abs(f(y)) >= threshold: step, and count."
    ),
}
