"""Functions of one variable that saturate, repress, decay or switch, each with a scale K > 0 that is fitted.

Michaelis and Menten, Monod, Holling: x / (K + x); Hill: x^n / (K^n + x^n) and 1 / (1 + (x / K)^n); Ricker: exp(-x / K).
Boltzmann (gates of channels), rates of neurons: sigmoid(x / K - c), in which the threshold c K is fitted too.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pynode.programs.functions import sigmoid

Array = NDArray[np.float64]

SCALE = "K"
"""The name of a scale, which is positive."""

LONGEST = 0.7
"""The most by which a step changes its logarithm, or a threshold in units of it."""

UP = "up"
"""x^n / (K^n + x^n)."""

DOWN = "down"
"""1 / (1 + (x / K)^n)."""

DECAY = "decay"
"""exp(-x / K)."""

ON = "on"
"""sigmoid(x / K - c) = 1 / (1 + exp(c - x / K))."""

OFF = "off"
"""sigmoid(c - x / K)."""

OPPOSITE = {UP: DOWN, DOWN: UP, ON: OFF, OFF: ON}
"""The function that makes 1 with each of those that have one."""


class Bend(NamedTuple):
    """One of these functions.

    Attributes
    ----------
    kind : {"up", "down", "decay", "on", "off"}
    of : int
        Which variable x is.
    n : int
        The exponent; 1 in "decay", "on" and "off".
    scale : float
        K. Bends of the same scale, to the last bit, share it as one parameter.
    level : float, default 0.0
        c, where there is one; shared likewise.
    """

    kind: str
    of: int
    n: int
    scale: float
    level: float = 0.0

    @property
    def switches(self) -> bool:
        """Whether it has a threshold."""
        return self.kind in (ON, OFF)

    @property
    def inner(self) -> tuple[tuple[str, float], ...]:
        """The names and values of its parameters."""
        K = (SCALE, self.scale)
        return (K, ("c", self.level)) if self.switches else (K,)

    def with_inner(self, values: Sequence[float]) -> "Bend":
        """The same, its parameters others."""
        scale, *level = values
        return self._replace(scale=scale, level=level[0] if level else self.level)

    def moved(self, step: Sequence[float]) -> "Bend":
        """The same, log K larger by the first number of a step, and the threshold c K by K times the second one."""
        larger = float(np.exp(step[0]))
        return self.with_inner([self.scale * larger, *((self.level + float(s)) / larger for s in step[1:])])

    @property
    def place(self) -> Array:
        """log K and the threshold c K."""
        return np.array([np.log(self.scale), self.level * self.scale])

    def at(self, place: Array) -> "Bend":
        """The same at another place."""
        K = float(np.exp(place[0]))
        return self.with_inner([K, float(place[1]) / K])

    def value(self, x: Any, inner: Sequence[Any] | None = None) -> Any:
        """The value at x, an array or a traced number; inner: in place of its own parameters."""
        K, *level = [value for _, value in self.inner] if inner is None else inner
        if self.kind == ON:
            return sigmoid(x / K - level[0])
        if self.kind == OFF:
            return sigmoid(level[0] - x / K)
        if self.kind == DECAY:
            return np.exp(-(x / K))
        if self.kind == DOWN:
            return 1.0 / (1.0 + power(x / K, self.n))
        top = power(x, self.n)
        return top / (power(K, self.n) + top)

    def with_kind(self, kind: str) -> "Bend":
        """The same scale and exponent in another function."""
        return self._replace(kind=kind)

    def with_exponent(self, n: int) -> "Bend":
        """The same, its exponent another one."""
        return self._replace(n=n)

    def slopes(self, x: Array, h: Array | None = None) -> Array:
        """(rows, parameters) its derivatives with respect to the step of `moved`; h: its value, where that is known."""
        h = self.value(x) if h is None else h
        if self.kind == DECAY:
            return np.asarray((x / self.scale * h)[:, None], dtype=np.float64)
        steep = h * (1.0 - h) if self.kind in (DOWN, OFF) else -h * (1.0 - h)
        if self.switches:
            return np.stack([steep * (x / self.scale - self.level), steep], axis=1)
        return np.asarray((self.n * steep)[:, None], dtype=np.float64)

    def text(self, name: str, symbols: Sequence[str]) -> str:
        """In words, such as x^2/(K^2 + x^2); symbols: what its parameters are called."""
        scale = symbols[0]
        if self.switches:
            level = symbols[1]
            more = f"+ {level[1:]}" if level.startswith("-") else f"- {level}"
            return f"sigmoid({name}/{scale} {more})" if self.kind == ON else f"sigmoid({level} - {name}/{scale})"
        if self.kind == DECAY:
            return f"exp(-{name}/{scale})"
        n = f"^{self.n}" if self.n > 1 else ""
        if self.kind == DOWN:
            return f"1/(1 + ({name}/{scale}){n})" if n else f"1/(1 + {name}/{scale})"
        return f"{name}{n}/({scale}{n} + {name}{n})"


def power(x: Any, n: int) -> Any:
    """x^n by squaring."""
    found: Any = None
    while n:
        if n & 1:
            found = x if found is None else found * x
        n >>= 1
        if n:
            x = x * x
    return found
