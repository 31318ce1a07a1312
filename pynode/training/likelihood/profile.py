"""Profile likelihood: how far a parameter may go while the others make up for it.

A parameter is held at values on either side of its estimate, all others being fitted again; the interval ends where the
deviance (-2 log L) has risen by a quantile: of chi-squared with one degree of freedom (Wilks 1938), or `rise_of`, which
counts the errors' variance as estimated and makes the interval exact for linear models. The signed root of the rise is a
straight line where Wald's interval is right, and is what is searched (Venzon and Moolgavkar 1988, Appl. Stat. 37, 87;
Raue et al. 2009, Bioinformatics 25, 1923).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, stdtrit

Array = NDArray[np.float64]

FAR_FACTOR = 1e6
"""The factor (of a positive parameter, or of the odds of a bounded one) up to which an end is sought ..."""

FAR_WIDTHS = 1e3
"""... and, of others, how many half widths of Wald's interval, or times the estimate."""

ACCURACY = 2e-3
"""To which part of the root of the rise an end is found."""

TRIES = 40
"""The most values tried on each side."""

GROWTH = 4.0
"""By which a step grows at most."""

STEEP = 2.0
"""Where the root of the rise exceeds its target by more than this factor of it, halves are taken in place of secants."""

BETTER = 1e-2
"""A deviance that is lower than that of the estimate by more than this is of a better fit."""


@dataclass(frozen=True)
class Scale:
    """The coordinate in which a parameter is moved.

    Attributes
    ----------
    kind : {"linear", "log", "logit"}
        That of the parameter itself, of its logarithm, of the logit of its place between bounds.
    low, high : float
        Bounds.
    """

    kind: str = "linear"
    low: float = -np.inf
    high: float = np.inf

    def inside(self, value: float) -> float:
        """The coordinate of a value."""
        if self.kind == "log":
            return float(np.log(value))
        if self.kind == "logit":
            return float(np.log(value - self.low) - np.log(self.high - value))
        return float(value)

    def outside(self, u: float) -> float:
        """The value at a coordinate."""
        if self.kind == "log":
            return float(np.exp(min(u, 700.0)))
        if self.kind == "logit":
            return float(self.low + (self.high - self.low) * 0.5 * (1 + np.tanh(0.5 * u)))
        return float(u)

    def slope(self, value: float) -> float:
        """The derivative of the value with respect to its coordinate."""
        if self.kind == "log":
            return float(value)
        if self.kind == "logit":
            return float((value - self.low) * (self.high - value) / (self.high - self.low))
        return 1.0

    def end(self, side: int) -> float:
        """The value at the far end of a side, -1 or 1."""
        if self.kind == "log":
            return np.inf if side > 0 else 0.0
        return self.high if side > 0 else self.low


@dataclass(frozen=True)
class Profile:
    """The profile likelihood of a parameter.

    Attributes
    ----------
    name : str
        The parameter.
    estimate : float
        Its estimate.
    low, high : float
        The ends of the interval; infinite, 0 (of a positive parameter) or a bound where there is none.
    level : float
        Of confidence.
    limit : float
        The rise of the deviance at the ends.
    values, rise : (m,) arrays
        Values of the parameter, rising, and by how much the deviance is higher there than at the estimate.
    others : list
        Where the others went at these values.
    words : tuple of str
        What is to be said: that an end was not found, or a better fit was.
    scale : Scale
        The coordinate in which the parameter was moved.
    """

    name: str
    estimate: float
    low: float
    high: float
    level: float
    limit: float
    values: Array
    rise: Array
    others: list[Any] = field(default_factory=list, repr=False)
    words: tuple[str, ...] = ()
    scale: Scale = field(default_factory=Scale, repr=False)


def rise_of(level: float, n: float = np.inf, left: float = np.inf) -> float:
    """By how much the deviance is higher at the ends of an interval of this confidence.

    Parameters
    ----------
    level : float
        Between 0 and 1.
    n : float, optional
        Readings, whose errors have a variance that is estimated too.
    left : float, optional
        n minus the number of parameters.

    Returns
    -------
    float
        n log(1 + t^2 / left), t being Student's quantile: for a linear model with Gaussian errors the interval is then
        Student's. Without n, or where nothing is left, the quantile of chi-squared.
    """
    if not (np.isfinite(n) and np.isfinite(left) and left > 0):
        return float(chdtri(1, 1.0 - level))
    return float(n * np.log1p(stdtrit(left, 0.5 + 0.5 * level) ** 2 / left))


def profile(
    deviance: Callable[[int, float, Any], tuple[float, Any]],
    index: int,
    estimate: float,
    optimum: Any,
    least: float,
    *,
    level: float = 0.95,
    rise: float | None = None,
    width: float = np.nan,
    scale: Scale | None = None,
    name: str = "",
    between: int = 3,
) -> Profile:
    """The profile likelihood of a parameter, and its interval.

    Parameters
    ----------
    deviance : callable
        deviance(index, value, start) -> (-2 log L with this parameter held at this value and the others fitted, from start;
        where the others went). Infinite where it cannot be computed.
    index : int
        Which parameter.
    estimate : float
        Its estimate.
    optimum : object
        Where the others are then: the first start.
    least : float
        The deviance there.
    level : float, default 0.95
        Of confidence.
    rise : float, optional
        Of the deviance at the ends, see `rise_of`. Default: that of chi-squared.
    width : float, optional
        The standard error, from which the search starts.
    scale : Scale, optional
        The coordinate in which the parameter is moved. Default: itself.
    name : str
        What to call it.
    between : int, default 3
        Values computed between the estimate and each end, for a picture.

    Returns
    -------
    Profile

    Examples
    --------
    The mean of four numbers of variance 1: 2 +- 1.96 / 2.

    >>> from pynode.training.likelihood.profile import profile
    >>> x = [1.0, 2.0, 2.0, 3.0]
    >>> found = profile(lambda k, m, start: (sum((v - m) ** 2 for v in x), None), 0, 2.0, None, 2.0)
    >>> round(found.low, 2), round(found.high, 2)
    (1.02, 2.98)
    """
    scale = scale or Scale()
    limit = rise_of(level) if rise is None else rise
    curve = _Curve(deviance, index, scale, estimate, optimum, least)
    half = width / scale.slope(estimate) if scale.slope(estimate) > 0 else np.nan
    ends = []
    words = []
    for side in (-1, 1):
        end, said = _end(curve, side, half * np.sqrt(limit), float(np.sqrt(limit)))
        reached = curve.furthest(side) if end is None else end
        for part in np.arange(1, between + 1) / (between + 1):
            curve(curve.origin + part * (reached - curve.origin))
        ends.append(scale.end(side) if end is None else scale.outside(end))
        if said:
            words.append(f"the {('lower', 'upper')[side > 0]} end of {name or 'the parameter'} {said}")
    order = sorted(curve.known)
    rises = np.array([curve.known[u][0] for u in order])
    if rises.min() < -BETTER:
        at = scale.outside(order[int(np.argmin(rises))])
        words.append(
            f"a better fit was found at {name or 'the parameter'} = {at:.4g}, whose deviance is lower by "
            f"{-rises.min():.3g}: start there"
        )
    return Profile(
        name,
        float(estimate),
        float(ends[0]),
        float(ends[1]),
        float(level),
        float(limit),
        np.array([scale.outside(u) for u in order]),
        rises,
        [curve.known[u][1] for u in order],
        tuple(words),
        scale,
    )


class _Curve:
    """The rise of the deviance along the coordinate of a parameter; what was computed is known, and starts what follows."""

    def __init__(
        self,
        deviance: Callable[[int, float, Any], tuple[float, Any]],
        index: int,
        scale: Scale,
        estimate: float,
        optimum: Any,
        least: float,
    ) -> None:
        self.deviance = deviance
        self.index = index
        self.scale = scale
        self.least = least
        self.origin = scale.inside(estimate)
        self.known: dict[float, tuple[float, Any]] = {self.origin: (0.0, optimum)}

    def __call__(self, u: float) -> float:
        """The signed root of the rise."""
        u = float(u)
        if u not in self.known:
            solved = [x for x, (rise, _) in self.known.items() if np.isfinite(rise)]
            self._solve(u, self.known[min(solved, key=lambda x: abs(x - u))][1])
        rise = self.known[u][0]
        return float(np.copysign(np.sqrt(abs(rise)), rise))

    def again(self, u: float, near: float) -> float:
        """The signed root of the rise, from the optimum at another coordinate if that leads to less."""
        before = self.known.pop(u)
        self._solve(u, self.known[near][1])
        self.known[u] = min(before, self.known[u], key=lambda pair: pair[0])
        return self(u)

    def _solve(self, u: float, start: Any) -> None:
        value, optimum = self.deviance(self.index, self.scale.outside(u), start)
        self.known[u] = (value - self.least if np.isfinite(value) else np.inf, optimum)

    def furthest(self, side: int) -> float:
        """The furthest coordinate on a side where the deviance is finite."""
        return max((u for u, (rise, _) in self.known.items() if np.isfinite(rise)), key=lambda u: side * u)


def _end(curve: _Curve, side: int, step: float, target: float) -> tuple[float | None, str]:
    """(the coordinate where the root of the rise reaches the target, or None; what is to be said of it)."""
    at = curve.origin
    if curve.scale.kind == "linear":
        size = abs(at) or 1.0
        far = FAR_WIDTHS * (max(size, step) if np.isfinite(step) else size)
        step = step if np.isfinite(step) and step > 0 else 0.1 * size
    else:
        far = float(np.log(FAR_FACTOR))
        step = step if np.isfinite(step) and step > 0 else 0.1
    step = min(step, far)
    reached = 0.0
    for _ in range(TRIES):
        there = at + side * min(step, far - abs(at - curve.origin))
        root = curve(there)
        if root >= target:
            found = _between(curve, at, there, target)
            if found is not None:
                return found
            root = curve(there)  # from a better start it is not as high
        if abs(there - curve.origin) >= far * (1 - 1e-9):
            much = f"a factor of {FAR_FACTOR:.0e}" if curve.scale.kind != "linear" else f"{curve.scale.outside(there):.3g}"
            risen = max(root, 0.0) ** 2
            return None, f"is open: up to {much} the deviance rises by no more than {risen:.2g} of {target**2:.3g}"
        gained = (root - reached) / step
        needed = (target - root) / gained if gained > 0 else np.inf
        step *= float(np.clip(1.05 * needed / step, 0.05, GROWTH))
        at, reached = there, root
    return None, f"was not found with {TRIES} values"


def _between(curve: _Curve, inner: float, outer: float, target: float) -> tuple[float | None, str] | None:
    """The end between inner, below the target, and outer, which is not (Illinois; bisection where that is infinite).

    None where outer turns out to be below the target too, once it is fitted from nearer by.
    """
    far = True  # a long step may have lost the others
    below, above = curve(inner) - target, curve(outer) - target
    for _ in range(TRIES):
        if abs(outer - inner) <= 1e-4 * abs(outer - curve.origin) and not np.isfinite(above):
            return inner, "is where the equation can still be solved, not where the deviance has risen enough"
        steep = not above < STEEP * target
        middle = 0.5 * (inner + outer) if steep else inner - below * (outer - inner) / (above - below)
        value = curve(middle) - target
        if abs(value) < ACCURACY * target:
            return middle, ""
        if value < 0:
            inner, below = middle, value
            if far and above > target:
                far = False
                above = curve.again(outer, inner) - target
                if above < 0:
                    return None
            above *= 0.5 if np.isfinite(above) else 1.0
        else:
            outer, above = middle, value
            far = True
            below *= 0.5
    return (inner if abs(below) < above else outer), ""
